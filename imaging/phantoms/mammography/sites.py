"""Mammography of several sites: how each acquires, and views of subtle masses in dense tissue beside calcifications.

A case is one view, of 1.2 mm pixels, DICOM of one maker: nothing but what a site file states differs. A patient's first
image is CC and her second MLO of the same breast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Picture

from imaging.phantoms.mammography.body import Breast, BreastLesion, Density, Laterality, plant_breast_lesion
from imaging.phantoms.mammography.dicom import mammogram
from imaging.phantoms.mammography.exposure import DetectorResponse, Processing
from imaging.phantoms.mammography.makers import MAKERS, Maker
from imaging.phantoms.mammography.view import ViewAcquisition, truth
from imaging.phantoms.sites import PhantomCase, PhantomFiles, SitedKind, bounded
from imaging.phantoms.ultrasound.dicom import Patient, file_bytes

_PITCH_MM: Final = 1.2
_USUAL: Final = replace(MAKERS["hologic"], coding="raw", marked=False)
_BYSTANDER: Final = "bystander"
_DENSITIES: tuple[Density, ...] = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class MammographyAcquisition:
    """How a site takes and processes mammograms.

    `map_gamma` and `map_s_curve` are a monotone curve of grey values: what matches their distribution takes it back.
    `equalise` and `sharpen` depend on the surroundings of a pixel, and nothing of one pixel takes them back. `squeeze`
    is the thickness under the paddle over the usual one; outlines stay.
    """

    map_gamma: float = bounded(1.0, 0.3, 3.0, "exponent of the processing curve")
    map_s_curve: float = bounded(0.0, -1.0, 1.0, "share of an S curve in the processing curve")
    equalise: float = bounded(0.85, 0.0, 1.0, "of the fall of thickness at the periphery")
    sharpen: float = bounded(0.6, 0.0, 2.0, "of detail finer than 2.5 mm, added")
    photons_per_mm2: float = bounded(9.0e4, 50.0, 5.0e5, "detected photons per mm2")
    blur_mm: float = bounded(0.0, 0.0, 3.0, "mm, standard deviation")
    squeeze: float = bounded(1.0, 0.7, 1.3, "times the usual thickness")
    cosine_step: float = bounded(0.0, 0.0, 0.5, "of the grey scale, rounding of cosine coefficients of 8 x 8 blocks")


def view_of(subject: PhantomCase, acquisition: MammographyAcquisition) -> ViewAcquisition:
    """The view that a case is."""
    rng = np.random.default_rng([subject.patient_seed, 97])
    side: Laterality = "L" if rng.random() < 0.5 else "R"
    density = _DENSITIES[int(rng.choice(4, p=[0.45, 0.45, 0.1, 0.0]))]
    breast = Breast(side, subject.patient_seed, density)
    masses = (_subtle(subject, breast, rng),) if subject.has_lesion else ()
    grains = (_calcifications(breast, subject.patient_seed * 2 + 1),) if rng.random() < 0.5 else ()
    return ViewAcquisition(
        "hologic",
        Patient(subject.patient_id, f"Phantom^{subject.patient_id}"),
        subject.patient_seed,
        side,
        "MLO" if subject.image % 2 else "CC",
        (*masses, *grains),
        density,
        pitch_mm=_PITCH_MM,
        behaviour=_behaviour(acquisition),
        instance=subject.image + 1,
        site=subject.site,
    )


def _behaviour(acquisition: MammographyAcquisition) -> Maker:
    return replace(
        _USUAL,
        processing=Processing(
            acquisition.equalise,
            acquisition.sharpen,
            acquisition.map_gamma,
            acquisition.map_s_curve,
            acquisition.cosine_step,
        ),
        detection=DetectorResponse(acquisition.photons_per_mm2, acquisition.blur_mm),
        squeeze=acquisition.squeeze,
    )


def _subtle(subject: PhantomCase, breast: Breast, rng: np.random.Generator) -> BreastLesion:
    """A mass, 14 to 32 mm at size 1, set off from fat as a fibroadenoma or a carcinoma is: no denser than gland."""
    malignant = bool(rng.random() < 0.5)
    drawn = plant_breast_lesion(breast, "L1", subject.patient_seed * 2, malignant)
    return replace(
        drawn,
        kind="mass",
        diameter_mm=float(np.exp(rng.uniform(np.log(14.0), np.log(32.0)))) * subject.lesion_size,
        irregularity=float(rng.uniform(0.06, 0.12) if malignant else rng.uniform(0.01, 0.04)),
        margin_mm=float(rng.uniform(0.8, 2.0)),
        solidity=float(rng.uniform(0.85, 1.15)),
        spicules=int(rng.integers(6, 16)) if malignant else 0,
        calcifications=0,
    )


def _calcifications(breast: Breast, seed: int) -> BreastLesion:
    """A few coarse benign calcifications, bright, and no finding."""
    drawn = plant_breast_lesion(breast, _BYSTANDER, seed, malignant=False)
    return replace(drawn, kind="calcifications", diameter_mm=8.0, calcifications=4, grain_mm=(1.0, 1.8), spicules=0)


def _write(folder: Path, subject: PhantomCase, acquisition: MammographyAcquisition) -> PhantomFiles:
    view = view_of(subject, acquisition)
    image, mask = f"images/{subject.site}/{subject.case_id}.dcm", f"truth/{subject.site}/{subject.case_id}.png"
    for path in (image, mask):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / image).write_bytes(file_bytes(mammogram(view)))
    whole = np.zeros((view.field.rows, view.field.columns), dtype=np.uint8)
    label = "normal"
    for lesion in truth(view):
        if lesion.lesion_id != _BYSTANDER:
            whole[lesion.mask] = 255
            label = "malignant" if lesion.malignant else "benign"
    Picture.fromarray(whole).save(folder / mask)
    return PhantomFiles(image, mask, label)


MAMMOGRAMS: Final = SitedKind(MammographyAcquisition, _write)
