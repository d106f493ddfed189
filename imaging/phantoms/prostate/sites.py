"""Prostate MRI of several sites: how each acquires, and small volumes of subtle lesions among benign nodules.

A case is an exam of T2W, ADC and high b as NIfTI on one grid of 12 × 48 × 48 voxels, 4 × 1.5 × 1.5 mm: nothing but what
a site file states differs. A patient's second image is a later exam of the same prostate, with other noise and place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import nibabel
import numpy as np

from imaging.phantoms.prostate.anatomy import Floats, Pelvis, ProstateLesion, with_lesions
from imaging.phantoms.prostate.export import label_of, to_ras, write_label_map
from imaging.phantoms.prostate.planting import fits, plant_prostate_lesion
from imaging.phantoms.prostate.signal import (
    Contrast,
    Receiver,
    Slab,
    diffusion_weighted,
    fitted_adc,
    lesion_labels,
    received,
    sample,
    t2_weighted,
)
from imaging.phantoms.sites import PhantomCase, PhantomFiles, SitedKind, bounded

_PIXEL_MM, _STEP_MM, _SHAPE = 1.5, 4.0, (12, 48, 48)
_FULL_SCALE: Final = 1000.0
_USUAL_SIZE: Final = 1.35  # of what is planted in fine pictures
_LOW_B: Final = 50.0
_BIAS_MM: Final = 36.0  # from the middle of the prostate to where the field is at its ends


@dataclass(frozen=True, slots=True)
class ProstateAcquisition:
    """How a site scans.

    `scale` is a factor on T2W and diffusion signals. `bias` is by how much T2W is brighter behind and to the left of
    the prostate than before and to the right of it, 36 mm off its middle, smoothly: a receive coil near the rectum.
    `high_b` is acquired; the ADC is fitted from b = 50 and it. `gradient_percent`: how much stronger gradients are than
    the scanner believes, so that b-values and ADC are off by its square. `noise`: standard deviation in each channel,
    of a signal that is about 0.4 in the peripheral zone. `acquired_mm`: pixel in the plane; the matrix that is shown
    stays, filled with zeros in k-space.
    """

    scale: float = bounded(1.0, 0.1, 10.0, "times the signal")
    bias: float = bounded(1.0, 1.0, 10.0, "times the signal, from one end to the other")
    echo_ms: float = bounded(101.0, 60.0, 160.0, "ms")
    high_b: float = bounded(1000.0, 400.0, 2000.0, "s/mm2")
    gradient_percent: float = bounded(0.0, -20.0, 20.0, "% of the gradients")
    noise: float = bounded(0.012, 0.0, 0.2, "of full signal")
    acquired_mm: float = bounded(_PIXEL_MM, _PIXEL_MM, 6.0, "mm")


def pelvis_of(subject: PhantomCase) -> Pelvis:
    """The man whom a case shows, at every site alike; with one lesion, a little darker than its zone, or none."""
    pelvis = Pelvis(subject.patient_seed)
    if not subject.has_lesion:
        return pelvis
    rng = np.random.default_rng([subject.patient_seed, 99])
    drawn = plant_prostate_lesion(pelvis, "L1", subject.patient_seed * 7 + 1)
    subtle = replace(drawn, t2_ms=float(rng.uniform(72, 90)), adc=float(round(rng.uniform(750, 1050))))
    return with_lesions(pelvis, _sized(pelvis, subtle, _USUAL_SIZE * subject.lesion_size))


def _sized(pelvis: Pelvis, lesion: ProstateLesion, factor: float) -> ProstateLesion:
    """The lesion as large as asked for, or as its place in the gland allows."""
    for part in (1.0, 0.75, 0.5, 0.25):
        a, b, c = (max(radius * (1 + part * (factor - 1)), 1.0) for radius in lesion.radii_mm)
        other = replace(lesion, radii_mm=(a, b, c))
        if fits(pelvis, other):
            return other
    return lesion


def slab_of(subject: PhantomCase) -> Slab:
    """The slices of an exam: axial, never quite in the middle of the prostate."""
    rng = np.random.default_rng([subject.seed, 101])
    x, y, z = Pelvis(subject.patient_seed).centre_mm
    dx, dy, dz = rng.uniform(-3, 3, 3)
    centre = (x + float(dx), y + float(dy), z + float(dz))
    return Slab(centre, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (_PIXEL_MM, _PIXEL_MM), _STEP_MM, _STEP_MM, _SHAPE)


def volumes_of(subject: PhantomCase, acquisition: ProstateAcquisition) -> dict[str, Floats]:
    """T2W, ADC (10⁻⁶ mm²/s) and high b of a case as a site takes them, each (slice, row, column)."""
    pelvis, slab = pelvis_of(subject), slab_of(subject)
    receiver = Receiver(noise=acquisition.noise)
    true_b = [b * (1 + acquisition.gradient_percent / 100) ** 2 for b in (_LOW_B, acquisition.high_b)]
    contrasts: list[Contrast] = [partial(t2_weighted, echo_ms=acquisition.echo_ms), *map(diffusion_weighted, true_b)]
    weighted, *diffusion = _resolved(sample(pelvis, slab, contrasts), acquisition.acquired_mm)
    t2w = received(weighted, _bias_field(pelvis, slab, acquisition.bias), receiver, [subject.seed, 1, 103])
    pictures = received(np.stack(diffusion), np.ones(slab.shape), receiver, [subject.seed, 2, 103])
    adc = fitted_adc(pictures, (_LOW_B, acquisition.high_b), 3 * acquisition.noise)
    scale = acquisition.scale * _FULL_SCALE
    return {"t2w": t2w * scale, "adc": adc, "high_b": pictures[-1] * scale}


def _resolved(signals: Floats, acquired_mm: float) -> Floats:
    """Signals (..., row, column) without the frequencies that pixels of `acquired_mm` do not hold."""
    if acquired_mm <= _PIXEL_MM:
        return signals
    spectrum = np.fft.fft2(signals)
    held = [np.abs(np.fft.fftfreq(count, _PIXEL_MM)) <= 0.5 / acquired_mm for count in signals.shape[-2:]]
    return np.asarray(np.abs(np.fft.ifft2(spectrum * np.outer(*held))))


def _bias_field(pelvis: Pelvis, slab: Slab, bias: float) -> Floats:
    """(slice, row, column), 1 in the middle of the prostate; `bias` from one end of the diagonal to the other."""
    middle = np.array(pelvis.centre_mm)[:, None, None]
    planes = [slab.points_mm(number) - middle for number in range(slab.shape[0])]
    x, y, z = np.moveaxis(np.stack(planes), 1, 0) / _BIAS_MM
    along = np.tanh(0.4 * x + 1.0 * y + 0.25 * z)
    return np.asarray(np.exp(0.5 * np.log(bias) * along))


def _write(folder: Path, subject: PhantomCase, acquisition: ProstateAcquisition) -> PhantomFiles:
    slab, pelvis = slab_of(subject), pelvis_of(subject)
    inside, truth = f"images/{subject.site}/{subject.case_id}", f"truth/{subject.site}/{subject.case_id}.nii.gz"
    (folder / inside).mkdir(parents=True)
    (folder / truth).parent.mkdir(parents=True, exist_ok=True)
    for name, volume in volumes_of(subject, acquisition).items():
        _save(folder / inside / f"{name}.nii.gz", volume, slab)
    write_label_map(folder / truth, lesion_labels(pelvis, slab), slab)
    further = {"image:ADC": f"{inside}/adc.nii.gz", "image:high b": f"{inside}/high_b.nii.gz"}
    return PhantomFiles(f"{inside}/t2w.nii.gz", truth, label_of(pelvis.lesions), further)


def _save(path: Path, volume: Floats, slab: Slab) -> None:
    stored = np.ascontiguousarray(np.rint(volume).clip(0, 32767).astype(np.int16).transpose(2, 1, 0))
    image = nibabel.Nifti1Image(stored, to_ras(slab))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


PROSTATES: Final = SitedKind(ProstateAcquisition, _write)
