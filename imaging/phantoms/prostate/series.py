"""The series of a prostate examination: which ones a maker's scanner makes, and the stored values in them.

    series_of(ProstateStudy("siemens", seed=3))     # [MrSeries], each with its volumes

The pictures of a scanner are computed from each other as it does: the ADC map and calculated b-values from the noisy
diffusion series, the subtraction from the dynamic one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from imaging.phantoms.prostate.anatomy import Floats
from imaging.phantoms.prostate.makers import ImageType, SeriesKey, image_type
from imaging.phantoms.prostate.signal import (
    Contrast,
    Receiver,
    Slab,
    calculated,
    diffusion_weighted,
    fitted_adc,
    received,
    sample,
    sensitivity,
    t1_weighted,
    t2_weighted,
)
from imaging.phantoms.prostate.study import SLICES, Form, ProstateStudy

Stored = NDArray[np.uint16]
BIPARAMETRIC: tuple[SeriesKey, ...] = ("t2w_axial", "t2w_repeat", "dwi", "adc")
UPTAKE = (0.0, 0.6, 1.0)
_FULL_SCALE = {"t2w": 1500.0, "dwi": 2500.0, "t1": 1200.0}
"""Stored value of a signal of 1."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume of a series: stored values (slice, row, column), their slope and unit, and what tells it apart.

    `lost`: a slice that the export does not hold. `directed`: diffusion along one direction, not a trace.
    """

    stored: Stored
    slab: Slab
    slope: float = 1.0
    unit: str = ""
    b: float | None = None
    directed: bool = False
    phase: int | None = None
    acquisition: int = 1
    lost: int | None = None


@dataclass(frozen=True, eq=False)
class MrSeries:
    """A series: its volumes, in the order of acquisition."""

    key: SeriesKey
    number: int
    description: str
    image_type: ImageType
    form: Form
    volumes: tuple[Volume, ...]

    @property
    def weighting(self) -> Literal["t2w", "dwi", "t1"]:
        if self.key.startswith("t2w"):
            return "t2w"
        return "t1" if self.key in {"localiser", "dynamic", "subtraction"} else "dwi"


def series_of(study: ProstateStudy, wanted: tuple[SeriesKey, ...] | None = None) -> list[MrSeries]:
    """The series of a study in the order of acquisition; of `wanted` ones only, where given."""
    keys = wanted or get_args(SeriesKey)
    found = [series for key in get_args(SeriesKey) if key in keys for series in _MAKE[key](study)]
    return [series for series in found if series.volumes]


@lru_cache(maxsize=4)
def t2w_signal(study: ProstateStudy, plane: Literal["axial", "sagittal", "coronal"]) -> Floats:
    """(slice, row, column) without noise, in the coil."""
    slab = {"axial": study.t2w_slab, "sagittal": study.sagittal_slab, "coronal": study.coronal_slab}[plane]
    (signal,) = sample(study.pelvis, slab, [t2_weighted])
    return np.asarray(signal * sensitivity(study.pelvis, slab, study.reception.coil))


@lru_cache(maxsize=4)
def diffusion_pictures(study: ProstateStudy) -> Floats:
    """(b, slice, row, column): what the scanner shows of each of its b-values, in units of signal."""
    contrasts: list[Contrast] = [diffusion_weighted(b) for b in study.maker.b_values]
    signal = sample(study.pelvis, study.dwi_slab, contrasts, study.reception.distortion_mm)
    field = sensitivity(study.pelvis, study.dwi_slab, study.reception.coil)
    return received(signal, field, study.reception, [study.seed, 2, 47])


def adc_map(study: ProstateStudy) -> Floats:
    """(slice, row, column) in 10⁻⁶ mm²/s as the scanner computes it, 0 in noise."""
    used = [k for k, b in enumerate(study.maker.b_values) if b in study.maker.adc_b]
    return fitted_adc(diffusion_pictures(study)[used], study.maker.adc_b, 3 * study.reception.noise)


def _single(
    study: ProstateStudy, key: SeriesKey, volumes: tuple[Volume, ...], form: Form = "classic"
) -> list[MrSeries]:
    """One series in its place, in the form of the study unless it is a mosaic."""
    made_as = "enhanced" if study.form == "enhanced" else form
    return [_series(study, key, volumes, made_as)]


def _series(study: ProstateStudy, key: SeriesKey, volumes: tuple[Volume, ...], form: Form, part: int = 0) -> MrSeries:
    kind = image_type(study.maker, key)
    if form == "mosaic" and "MOSAIC" not in kind:
        kind = (*kind, "MOSAIC")
    number = 100 * (get_args(SeriesKey).index(key) + 1) + 1 + part
    return MrSeries(key, number, study.maker.names[key], kind, form, volumes)


def _volume(study: ProstateStudy, picture: Floats, slab: Slab, scale: float, **facts: object) -> Volume:
    """A picture as stored: rounded to 12 bits; over the whole range by makers that rescale."""
    slope = max(float(picture.max()) * scale, 1.0) / 4095 if study.maker.rescales else 1.0
    slope = float(f"{slope:.8g}")
    stored = np.clip(np.rint(picture * scale / slope), 0, 4095).astype("<u2")
    return Volume(stored, slab, slope, "normalized" if study.maker.rescales else "", **facts)  # type: ignore[arg-type]


def _localiser(study: ProstateStudy) -> list[MrSeries]:
    volumes = []
    for turn, slab in enumerate(study.localiser_slabs):
        picture = received(
            sample(study.pelvis, slab, [t1_weighted(0)]),
            np.ones(slab.shape),
            Receiver(noise=0.02),
            [study.seed, 3, turn],
        )
        volumes.append(_volume(study, picture[0], slab, _FULL_SCALE["t1"]))
    return _single(study, "localiser", tuple(volumes))


def _t2w(study: ProstateStudy, key: SeriesKey, turn: int, **facts: object) -> Volume:
    """One T2W picture of a plane; `turn` draws its noise."""
    plane: Literal["axial", "sagittal", "coronal"] = "axial"
    slab = study.t2w_slab
    if key == "t2w_sagittal":
        plane, slab = "sagittal", study.sagittal_slab
    elif key == "t2w_coronal":
        plane, slab = "coronal", study.coronal_slab
    picture = received(t2w_signal(study, plane), np.ones(slab.shape), study.reception, [study.seed, 1, 47, turn])
    return _volume(study, picture, slab, _FULL_SCALE["t2w"], **facts)


def _t2w_plane(key: SeriesKey, turn: int) -> Callable[[ProstateStudy], list[MrSeries]]:
    def make(study: ProstateStudy) -> list[MrSeries]:
        return _single(study, key, (_t2w(study, key, turn),))

    return make


def _t2w_axial(study: ProstateStudy) -> list[MrSeries]:
    lost = SLICES // 2 if study.oddity == "missing" else None
    volumes = [_t2w(study, "t2w_axial", 0, lost=lost)]
    if study.oddity == "doubled":
        volumes.append(_t2w(study, "t2w_axial", 9, acquisition=2))
    return _single(study, "t2w_axial", tuple(volumes))


def _t2w_repeat(study: ProstateStudy) -> list[MrSeries]:
    if study.oddity != "repeated":
        return []
    return _single(study, "t2w_repeat", (_t2w(study, "t2w_repeat", 9),))


def _dwi(study: ProstateStudy) -> list[MrSeries]:
    """All b-values in one series, or a series each."""
    maker, pictures = study.maker, diffusion_pictures(study)
    slope = max(float(pictures.max()) * _FULL_SCALE["dwi"], 1.0) / 4095 if maker.rescales else 1.0
    slope = float(f"{slope:.8g}")
    volumes = []
    for b, picture in zip(maker.b_values, pictures, strict=True):
        stored = np.clip(np.rint(picture * _FULL_SCALE["dwi"] / slope), 0, 4095).astype("<u2")
        lost = 5 if study.oddity == "missing" and b == maker.b_values[-1] else None
        volumes.append(Volume(stored, study.dwi_slab, slope, "normalized" if maker.rescales else "", b, lost=lost))
    if maker.b_series == "one" or study.form == "enhanced":
        return _single(study, "dwi", tuple(volumes), study.form)
    return [_series(study, "dwi", (volume,), study.form, part) for part, volume in enumerate(volumes)]


def _adc(study: ProstateStudy) -> list[MrSeries]:
    """In the maker's unit; by all but two makers stored as it is."""
    unit = study.maker.adc_unit
    volume = Volume(
        np.rint(adc_map(study)).astype("<u2"),
        study.dwi_slab,
        unit,
        study.maker.adc_unit_name,
        b=study.maker.adc_b[-1] if study.vendor == "siemens" else None,
    )
    return _single(study, "adc", (volume,))


def _calculated(study: ProstateStudy) -> list[MrSeries]:
    wanted, first = study.maker.calculated_b, study.maker.b_values[0]
    picture = calculated(diffusion_pictures(study)[0], first, adc_map(study), wanted)
    return _single(study, "calculated", (_volume(study, picture, study.dwi_slab, 4 * _FULL_SCALE["dwi"], b=wanted),))


def _dti(study: ProstateStudy) -> list[MrSeries]:
    """Single directions, noisier, a mosaic each."""
    if study.vendor != "siemens":
        return []
    pictures = diffusion_pictures(study)
    again = received(pictures[[0, -1]], np.ones(study.dwi_slab.shape), Receiver(noise=0.03), [study.seed, 4, 47])
    volumes = tuple(
        _volume(study, picture, study.dwi_slab, _FULL_SCALE["dwi"], b=b, directed=True)
        for b, picture in zip((0.0, 800.0), again, strict=True)
    )
    return _single(study, "dti", volumes, "mosaic")


def _fa(study: ProstateStudy) -> list[MrSeries]:
    """Fractional anisotropy × 1000: mostly noise, of a size that an ADC map could have."""
    noise = np.random.default_rng([study.seed, 5, 47]).rayleigh(180, study.dwi_slab.shape)
    picture = np.where(adc_map(study) > 0, np.minimum(noise, 1000), 0)
    return _single(study, "fa", (_volume(study, picture, study.dwi_slab, 1.0),))


def _exponential(study: ProstateStudy) -> list[MrSeries]:
    """exp(−b · ADC), bright in lesions like a high b-value."""
    if study.vendor != "ge":
        return []
    picture = np.where(adc_map(study) > 0, np.exp(-study.maker.adc_b[-1] * adc_map(study) * 1e-6), 0)
    return _single(study, "exponential", (_volume(study, picture, study.dwi_slab, 1000.0),))


@lru_cache(maxsize=2)
def _dynamic_pictures(study: ProstateStudy) -> Floats:
    signal = sample(study.pelvis, study.dwi_slab, [t1_weighted(uptake) for uptake in UPTAKE])
    field = sensitivity(study.pelvis, study.dwi_slab, study.reception.coil)
    return received(signal, field, Receiver(noise=0.015), [study.seed, 6, 47])


def _dynamic(study: ProstateStudy) -> list[MrSeries]:
    volumes = tuple(
        _volume(study, picture, study.dwi_slab, _FULL_SCALE["t1"], phase=phase)
        for phase, picture in enumerate(_dynamic_pictures(study), start=1)
    )
    if study.maker.dynamic_series == "one" or study.form == "enhanced":
        return _single(study, "dynamic", volumes)
    return [_series(study, "dynamic", (volume,), "classic", part) for part, volume in enumerate(volumes)]


def _subtraction(study: ProstateStudy) -> list[MrSeries]:
    pictures = _dynamic_pictures(study)
    picture = np.maximum(pictures[-1] - pictures[0], 0)
    return _single(study, "subtraction", (_volume(study, picture, study.dwi_slab, _FULL_SCALE["t1"]),))


_MAKE: Final[dict[SeriesKey, Callable[[ProstateStudy], list[MrSeries]]]] = {
    "localiser": _localiser,
    "t2w_sagittal": _t2w_plane("t2w_sagittal", 1),
    "t2w_coronal": _t2w_plane("t2w_coronal", 2),
    "t2w_axial": _t2w_axial,
    "t2w_repeat": _t2w_repeat,
    "dwi": _dwi,
    "adc": _adc,
    "calculated": _calculated,
    "dti": _dti,
    "fa": _fa,
    "exponential": _exponential,
    "dynamic": _dynamic,
    "subtraction": _subtraction,
}
