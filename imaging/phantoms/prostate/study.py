"""One MR examination of a prostate: whose, on which scanner, in which form, and where its slices lie.

study = ProstateStudy("siemens", seed=3, lesions=planted_lesions(3))
study.t2w_slab, study.dwi_slab
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from imaging.errors import ConfigError, Reason
from imaging.phantoms.prostate.anatomy import Pelvis, Point, ProstateLesion, with_lesions
from imaging.phantoms.prostate.makers import MRI_MAKERS, MriMaker, MriMakerName
from imaging.phantoms.prostate.planting import plant_prostate_lesion
from imaging.phantoms.prostate.signal import Receiver, Slab
from imaging.phantoms.ultrasound.dicom import Patient, moment, uid

Form = Literal["classic", "enhanced", "mosaic"]
"""A file per slice; Enhanced MR, a file per series; or Siemens' mosaic of a whole volume, for diffusion alone."""
Oddity = Literal["none", "repeated", "missing", "doubled"]
"""T2W repeated as another series; a slice of T2W and of the highest b lost; T2W twice in one series."""
SLICES = 18


@dataclass(frozen=True, slots=True)
class ProstateStudy:
    """An examination. `coarseness`, 1 to 4, enlarges all pixels; `receiver` stands in for the maker's."""

    vendor: MriMakerName = "siemens"
    patient: Patient = Patient("MR01", "Phantom^Prostate", sex="M", birth_date="19580412")  # noqa: RUF009 - frozen
    seed: int = 0
    lesions: tuple[ProstateLesion, ...] = ()
    form: Form = "classic"
    oddity: Oddity = "none"
    study: int = 1
    site: str = "Synthetic Hospital"
    coarseness: float = 1.0
    receiver: Receiver | None = None

    def __post_init__(self) -> None:
        for name, found, allowed in (
            ("vendor", self.vendor, get_args(MriMakerName)),
            ("form", self.form, get_args(Form)),
            ("oddity", self.oddity, get_args(Oddity)),
        ):
            if found not in allowed:
                raise ConfigError(f"{name} '{found}'; allowed are {', '.join(allowed)}", Reason.CONFIG_INVALID)
        if self.form == "mosaic" and self.vendor != "siemens":
            raise ConfigError(f"a mosaic of {self.vendor}; only siemens makes mosaics", Reason.CONFIG_INVALID)
        if not 1 <= self.coarseness <= 4:
            raise ConfigError(f"coarseness {self.coarseness}; allowed are 1 to 4", Reason.CONFIG_INVALID)

    @property
    def maker(self) -> MriMaker:
        return MRI_MAKERS[self.vendor]

    @property
    def reception(self) -> Receiver:
        return self.receiver or self.maker.receiver

    @property
    def pelvis(self) -> Pelvis:
        return with_lesions(Pelvis(self.seed), *self.lesions)

    @property
    def study_uid(self) -> str:
        return uid("prostate study", self.patient.patient_id, self.study)

    @property
    def frame_uid(self) -> str:
        return uid("prostate frame", self.patient.patient_id, self.study)

    @property
    def started(self) -> datetime.datetime:
        return moment("prostate study", self.patient.patient_id, self.study)

    def _drawn(self, key: int, low: float, high: float) -> float:
        return float(np.random.default_rng([self.seed, key, 43]).uniform(low, high))

    @property
    def _middle(self) -> Point:
        """Of the slices: never quite that of the prostate."""
        x, y, z = self.pelvis.centre_mm
        return x + self._drawn(1, -4, 4), y + self._drawn(2, -4, 4), z + self._drawn(3, 0, 5)

    @property
    def _tilt(self) -> tuple[Point, Point]:
        """Directions of rows and columns of slices square to the prostate: turned about x, a little about z."""
        turn, tilt = np.deg2rad(self._drawn(4, -3, 3)), np.deg2rad(self._drawn(5, 6, 18))
        across = (float(np.cos(turn)), float(np.sin(turn)), 0.0)
        down = (-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), -np.sin(tilt))
        return across, (float(down[0]), float(down[1]), float(down[2]))

    @property
    def t2w_slab(self) -> Slab:
        """Axial, oblique."""
        maker = self.maker
        return self._slab(self._tilt, (maker.t2w_mm, maker.t2w_mm), maker.t2w_size, SLICES)

    @property
    def sagittal_slab(self) -> Slab:
        return self._slab(((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), *self._quick, 16)

    @property
    def coronal_slab(self) -> Slab:
        """Along the prostate: its rows lie as those of the axial slices."""
        across, down = self._tilt
        x, y, z = (float(v) for v in np.cross(across, down))
        return self._slab((across, (-x, -y, -z)), *self._quick, 16)

    @property
    def dwi_slab(self) -> Slab:
        maker = self.maker
        straight: tuple[Point, Point] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
        return self._slab(self._tilt if maker.dwi_tilted else straight, maker.dwi_mm, maker.dwi_size, SLICES)

    @property
    def localiser_slabs(self) -> tuple[Slab, ...]:
        """Three planes of three slices over the whole body."""
        planes: tuple[tuple[Point, Point], ...] = (
            ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
            ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
            ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
        )
        return tuple(Slab(self.pelvis.centre_mm, *plane, (6.25, 6.25), 7.0, 20.0, (3, 64, 64)) for plane in planes)

    @property
    def _quick(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """Pixels and matrix of the other planes."""
        pitch = 1.25 * self.maker.t2w_mm
        rows, columns = self.maker.t2w_size
        return (pitch, pitch), (round(rows / 1.25), round(columns / 1.25))

    def _slab(
        self, directions: tuple[Point, Point], pitch_mm: tuple[float, float], size: tuple[int, int], slices: int
    ) -> Slab:
        thickness, step = self.maker.slice_mm
        pitch = (pitch_mm[0] * self.coarseness, pitch_mm[1] * self.coarseness)
        rows, columns = (2 * round(length / self.coarseness / 2) for length in size)
        return Slab(self._middle, *directions, pitch, thickness, step, (slices, rows, columns))


def planted_lesions(seed: int, count: int = 1) -> tuple[ProstateLesion, ...]:
    """`count` lesions, L1 onwards, in the prostate of this seed, apart from each other."""
    pelvis = Pelvis(seed)
    for number in range(1, count + 1):
        lesion = plant_prostate_lesion(pelvis, f"L{number}", seed * 7 + number)
        pelvis = with_lesions(pelvis, *pelvis.lesions, lesion)
    return pelvis.lesions
