"""Breast ultrasound of several sites: how each acquires, and stills of subtle masses among cysts, vessels and shadows.

Pictures are 128 × 128 pixels of 0.3125 mm, DICOM of one maker: nothing but what a site file states differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Picture

from imaging.phantoms.sites import PhantomCase, PhantomFiles, SitedKind, bounded
from imaging.phantoms.ultrasound.bmode import Probe, Scan, Sonogram, scan_body
from imaging.phantoms.ultrasound.body import Body, SampledBreast
from imaging.phantoms.ultrasound.dicom import Patient, UltrasoundAcquisition, dataset, file_bytes
from imaging.phantoms.ultrasound.planting import plant_lesion
from imaging.phantoms.ultrasound.screen import Screen, ScreenRegion
from imaging.phantoms.ultrasound.tissue import PlantedLesion

_DEPTH_MM, _SPACING_MM = 40.0, 0.3125
_PLACE: Final = Scan(depth_mm=_DEPTH_MM)
_LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class BModeAcquisition:
    """How a site scans.

    `range_db`, `gain_db`, `tgc_db_per_cm`, `map_gamma` and `map_s_curve` change grey values alone: but for what they
    clip, and by depth, a monotone curve takes them back. `frequency_mhz` sets the length of the pulse, the width of the
    beam and absorption; `bandwidth` the length alone; `f_number` the width alone: together the size of the speckle.
    `persistence` averages frames with other speckle.
    """

    range_db: float = bounded(60.0, 30.0, 90.0, "dB")
    gain_db: float = bounded(0.0, -20.0, 20.0, "dB")
    tgc_db_per_cm: float = bounded(0.0, -5.0, 5.0, "dB/cm")
    map_gamma: float = bounded(1.0, 0.3, 3.0, "exponent of the grey map")
    map_s_curve: float = bounded(0.0, -1.0, 1.0, "share of an S curve in the grey map")
    frequency_mhz: float = bounded(7.5, 4.0, 12.0, "MHz")
    bandwidth: float = bounded(0.4, 0.15, 0.8, "of the centre frequency")
    f_number: float = bounded(2.4, 1.5, 5.0, "depth over aperture")
    persistence: float = bounded(0.0, 0.0, 1.0, "weight of the frame before")
    noise_db: float = bounded(-78.0, -100.0, -45.0, "dB below gland at the probe")

    @property
    def scan(self) -> Scan:
        probe = Probe(frequency_mhz=self.frequency_mhz, bandwidth=self.bandwidth, f_number=self.f_number)
        return Scan(
            probe,
            _DEPTH_MM,
            (_SPACING_MM, _SPACING_MM),
            gain_db=self.gain_db,
            range_db=self.range_db,
            contrast=self.map_gamma,
            noise_db=self.noise_db,
            looks=_LOOKS,
            persistence=self.persistence,
            tgc_db_per_cm=self.tgc_db_per_cm,
            s_curve=self.map_s_curve,
        )


def breast_of(subject: PhantomCase) -> SampledBreast:
    """The breast that a case shows, at every site alike: masses near the echo of fat, and cysts that are no finding."""
    rng = np.random.default_rng([subject.seed, 95])
    lesions = (_subtle(subject, rng),) if subject.has_lesion else ()
    cysts = tuple(_cyst(subject.seed * 5 + number, lesions, rng) for number in range(int(rng.integers(0, 4))))
    body = Body("breast", subject.seed, lesions, bystanders=tuple(cyst for cyst in cysts if cyst is not None))
    return SampledBreast(body, _DEPTH_MM, _PLACE.probe.face_mm)


def _subtle(subject: PhantomCase, rng: np.random.Generator) -> PlantedLesion:
    """A solid mass, 8 to 18 mm at size 1, 10 to 20 dB below gland: fat lies at 17 and cysts at 38."""
    mass = plant_lesion(_PLACE, subject.seed)
    width = float(np.exp(rng.uniform(np.log(8.0), np.log(18.0)))) * subject.lesion_size
    malignant = bool(rng.random() < 0.5)
    return replace(
        mass,
        width_mm=width,
        height_mm=width * mass.height_mm / mass.width_mm,
        echo_db=float(rng.uniform(-22, -12)),
        irregularity=float(rng.uniform(0.07, 0.14) if malignant else rng.uniform(0.01, 0.05)),
        margin_mm=float(rng.uniform(0.3, 0.8)),
        posterior="shadow" if malignant and rng.random() < 0.5 else "none",
    )


def _cyst(seed: int, lesions: tuple[PlantedLesion, ...], rng: np.random.Generator) -> PlantedLesion | None:
    """A simple cyst of 3 to 9 mm, black, with enhancement behind; None where a mass lies."""
    drawn = plant_lesion(_PLACE, seed)
    width = float(rng.uniform(3.0, 9.0))
    near = [
        np.hypot(drawn.x_mm - m.x_mm, drawn.z_mm - m.z_mm) < 0.7 * (width + max(m.width_mm, m.height_mm))
        for m in lesions
    ]
    if any(near):
        return None
    return replace(
        drawn,
        width_mm=width,
        height_mm=0.8 * width,
        echo_db=-38.0,
        irregularity=0.02,
        margin_mm=0.3,
        posterior="enhancement",
    )


def still(subject: PhantomCase, acquisition: BModeAcquisition) -> Sonogram:
    """The picture of a case as a site takes it."""
    return scan_body(acquisition.scan, breast_of(subject))[0]


def _write(folder: Path, subject: PhantomCase, acquisition: BModeAcquisition) -> PhantomFiles:
    breast = breast_of(subject)
    (picture,) = scan_body(acquisition.scan, breast)
    image, mask = f"images/{subject.site}/{subject.case_id}.dcm", f"truth/{subject.site}/{subject.case_id}.png"
    for path in (image, mask):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    about = UltrasoundAcquisition(
        "D",
        Patient(subject.patient_id, f"Phantom^{subject.patient_id}"),
        subject.seed,
        scan=acquisition.scan,
        encoding="MONOCHROME2",
        instance=subject.image + 1,
        site=subject.site,
    )
    (folder / image).write_bytes(file_bytes(dataset(about, _plain(picture))))
    Picture.fromarray(picture.truth * np.uint8(255)).save(folder / mask)
    kinds = [lesion.kind for lesion in breast.body.lesions]
    return PhantomFiles(image, mask, kinds[0] if kinds else "normal")


def _plain(picture: Sonogram) -> Screen:
    """A screen that shows the picture alone: no text, no calipers."""
    rows, columns = picture.pixels.shape
    region = ScreenRegion("tissue", 0, 0, rows, columns, picture.spacing_mm)
    return Screen(picture.pixels[None], picture.truth[None], np.zeros_like(picture.pixels), picture.fan, (region,))


BREASTS: Final = SitedKind(BModeAcquisition, _write)
