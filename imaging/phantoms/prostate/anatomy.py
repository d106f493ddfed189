"""A male pelvis as closed surfaces in patient space, and the lesions of its prostate.

Coordinates are DICOM's, in millimetres: x to the left, y to the back, z to the head (LPS). A surface is a function of a
point, negative inside and close to the distance in millimetres near its border; so every grid, of any orientation,
samples the same anatomy, and a lesion's centre and radii are exact. No central zone; no vessels but two bundles.

T2 follows surveys of tissue at 3 T (de Bazelaire et al., Radiology 230, 2004) and ADC the ranges that are usual for the
prostate: peripheral zone 1200-1800, carcinoma 400-900 × 10⁻⁶ mm²/s. Decay is mono-exponential: no kurtosis, no
perfusion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ConfigError, Reason

Floats = NDArray[np.float64]
Point = tuple[float, float, float]
Zone = Literal["PZ", "TZ"]
LARGEST_RADIUS_MM = 20.0


class PelvicTissue(NamedTuple):
    """What a tissue gives: `density` 0 to 1, `t2_ms`, `adc` in 10⁻⁶ mm²/s, relative `texture`; `early` and `late`:
    level in a T1-weighted picture before and after contrast medium; `is_fat`: taken away by fat suppression."""

    density: float
    t2_ms: float
    adc: float
    texture: float = 0.05
    early: float = 0.25
    late: float = 0.35
    is_fat: bool = False


AIR = PelvicTissue(0.0, 50, 0, 0.0, 0.0, 0.0)
FAT = PelvicTissue(0.85, 115, 60, 0.06, 0.8, 0.8, True)
MARROW = PelvicTissue(0.6, 95, 120, 0.08, 0.6, 0.62, True)
CORTEX = PelvicTissue(0.05, 20, 300, 0.0, 0.03, 0.03)
MUSCLE = PelvicTissue(0.8, 36, 1350, 0.08)
BLADDER_WALL = PelvicTissue(0.8, 60, 1500)
URINE = PelvicTissue(1.0, 1200, 2900, 0.0, 0.12, 0.14)
RECTAL_WALL = PelvicTissue(0.8, 70, 1400, 0.05, 0.25, 0.5)
FAECES = PelvicTissue(0.6, 60, 1000, 0.2)
VESICLE = PelvicTissue(0.95, 220, 1900, 0.3, 0.22, 0.4)
BUNDLE = PelvicTissue(0.9, 180, 1700, 0.1, 0.25, 0.7)
CAPSULE = PelvicTissue(0.7, 45, 1100, 0.0, 0.25, 0.4)
STROMA = PelvicTissue(0.75, 50, 1000, 0.05)
URETHRA = PelvicTissue(0.9, 160, 1700, 0.05, 0.22, 0.4)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, turned about the z axis; `bow_mm` bends its sides backwards, `taper` makes its top wider."""

    centre_mm: Point
    radii_mm: Point
    turn_deg: float = 0.0
    bow_mm: float = 0.0
    taper: float = 0.0

    @property
    def reach_mm(self) -> float:
        """All of it lies within this distance of the centre."""
        return max(self.radii_mm) * (1 + abs(self.taper)) + abs(self.bow_mm)

    def distance(self, points_mm: Floats) -> Floats:
        """Signed distance (...) of points (3, ...), exact on the surface and its sign everywhere."""
        x, y, z = (points_mm[k] - self.centre_mm[k] for k in range(3))
        if self.turn_deg:
            cos, sin = np.cos(np.deg2rad(self.turn_deg)), np.sin(np.deg2rad(self.turn_deg))
            x, y = cos * x + sin * y, cos * y - sin * x
        a, b, c = self.radii_mm
        if self.bow_mm:
            y = y - self.bow_mm * np.minimum((x / a) ** 2, 1.5)
        if self.taper:
            wider = 1 + self.taper * np.clip(z / c, -1, 1)
            x, y = x / wider, y / wider
        inside = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
        return np.asarray(np.where(slope > 0, inside * (inside - 1) / np.maximum(slope, 1e-9), -min(a, b, c)))


@dataclass(frozen=True)
class Tube:
    """An elliptical tube along z without ends; its middle moves backwards by `bend` × height² millimetres."""

    centre_mm: Point
    radii_mm: tuple[float, float]
    bend: float = 0.0
    lean: float = 0.0

    reach_mm = float("inf")

    def distance(self, points_mm: Floats) -> Floats:
        """As of an Ellipsoid."""
        x, y, z = (points_mm[k] - self.centre_mm[k] for k in range(3))
        y = y - self.bend * z**2 - self.lean * z
        a, b = self.radii_mm
        inside = np.hypot(x / a, y / b)
        slope = np.hypot(x / a**2, y / b**2)
        return np.asarray(np.where(slope > 0, inside * (inside - 1) / np.maximum(slope, 1e-9), -min(a, b)))


class Structure(NamedTuple):
    """A surface filled with a tissue; `inset_mm` draws its border inwards, which leaves a wall."""

    shape: Ellipsoid | Tube
    tissue: PelvicTissue
    inset_mm: float = 0.0


@dataclass(frozen=True, slots=True)
class ProstateLesion:
    """A lesion: an ellipsoid at a place in the patient (LPS, mm), turned about z, with its ADC in 10⁻⁶ mm²/s.

    `isup`: grade group 1 to 5; 2 and more is clinically significant.
    """

    lesion_id: str
    zone: Zone
    centre_mm: Point
    radii_mm: Point
    turn_deg: float = 0.0
    adc: float = 650.0
    t2_ms: float = 75.0
    isup: int = 3

    def __post_init__(self) -> None:
        where = f"lesion '{self.lesion_id}'"
        if not 1.0 <= min(self.radii_mm) <= max(self.radii_mm) <= LARGEST_RADIUS_MM:
            raise ConfigError(
                f"{where}: radii_mm {self.radii_mm}; allowed are 1 to {LARGEST_RADIUS_MM:g}", Reason.CONFIG_INVALID
            )
        if not 100 <= self.adc <= 3000:
            raise ConfigError(f"{where}: adc {self.adc}; allowed are 100 to 3000 (10^-6 mm2/s)", Reason.CONFIG_INVALID)
        if self.isup not in range(1, 6):
            raise ConfigError(f"{where}: isup {self.isup}; allowed are 1 to 5", Reason.CONFIG_INVALID)

    @property
    def shape(self) -> Ellipsoid:
        return Ellipsoid(self.centre_mm, self.radii_mm, self.turn_deg)

    @property
    def tissue(self) -> PelvicTissue:
        return PelvicTissue(0.85, self.t2_ms, self.adc, 0.04, 0.28, 0.75)


@dataclass(frozen=True)
class Pelvis:
    """The pelvis of one man, drawn from a seed; `lesions` lie where they say."""

    seed: int
    lesions: tuple[ProstateLesion, ...] = ()

    def _drawn(self, key: int, low: float, high: float) -> float:
        return float(np.random.default_rng([self.seed, key, 31]).uniform(low, high))

    @cached_property
    def centre_mm(self) -> Point:
        """Of the prostate. The middle of the magnet lies elsewhere."""
        return self._drawn(1, -6, 6), self._drawn(2, -5, 25), self._drawn(3, -60, 20)

    @cached_property
    def gland(self) -> Ellipsoid:
        """The whole prostate, within its capsule."""
        growth = self._drawn(4, 0.9, 1.2)
        radii = (24.5 * growth, 16.5 * growth * self._drawn(5, 0.95, 1.1), 19.0 * growth)
        return Ellipsoid(self.centre_mm, radii, bow_mm=2.5, taper=0.12)

    @cached_property
    def transition_zone(self) -> Ellipsoid:
        """With the urethra and the anterior stroma; it grows with the prostate."""
        share = self._drawn(6, 0.58, 0.68)
        a, b, c = self.gland.radii_mm
        return Ellipsoid(self._at(0, -0.26 * b, 0.12 * c), (share * a, share * b, 0.78 * c), taper=0.1)

    @cached_property
    def peripheral(self) -> PelvicTissue:
        return PelvicTissue(0.9, self._drawn(7, 125, 165), self._drawn(8, 1350, 1750), 0.07, 0.25, 0.42)

    @cached_property
    def transition(self) -> PelvicTissue:
        return PelvicTissue(0.85, self._drawn(9, 82, 100), self._drawn(10, 1150, 1350), 0.14, 0.26, 0.5)

    def _at(self, x: float, y: float, z: float) -> Point:
        """A point beside the centre of the prostate."""
        return self.centre_mm[0] + x, self.centre_mm[1] + y, self.centre_mm[2] + z

    @cached_property
    def rectum(self) -> Tube:
        behind = self.gland.radii_mm[1] + self._drawn(11, 15, 18)
        return Tube(self._at(0, behind, 0), (self._drawn(12, 13, 18), self._drawn(13, 11, 14)), 0.003, 0.12)

    @cached_property
    def gas(self) -> Ellipsoid:
        """It rises to the front of the rectum of a man on his back."""
        a, b = self.rectum.radii_mm
        x, y, z = self.rectum.centre_mm
        return Ellipsoid((x + self._drawn(14, -2, 2), y - 3, z + self._drawn(15, -15, 15)), (a - 6, b - 6, 16))

    @cached_property
    def structures(self) -> tuple[Structure, ...]:
        """Everything, the foremost first: a point belongs to the first structure that holds it."""
        return (
            *(Structure(lesion.shape, lesion.tissue) for lesion in self.lesions),
            *self._prostate(),
            *self._organs(),
            *self._walls(),
        )

    def _prostate(self) -> tuple[Structure, ...]:
        _, b, c = self.gland.radii_mm
        x, y, z = self.transition_zone.centre_mm
        front = Ellipsoid((x, y - 0.75 * self.transition_zone.radii_mm[1], z), (9, 4, 0.6 * c))
        return (
            Structure(Ellipsoid((x, y + 0.25 * b, z - 0.1 * c), (2.6, 2.2, 0.85 * c)), URETHRA),
            Structure(front, STROMA),
            *self._nodules(),
            Structure(self.transition_zone, self.transition, 0.8),
            Structure(self.transition_zone, CAPSULE),
            Structure(self.gland, self.peripheral, 0.7),
            Structure(self.gland, CAPSULE),
        )

    def _nodules(self) -> tuple[Structure, ...]:
        """Nodules of benign hyperplasia: glandular ones bright with a high ADC, stromal ones dark with a lower one.

        One that would leave the transition zone is left out.
        """
        rng = np.random.default_rng([self.seed, 16, 31])
        x, y, z = self.transition_zone.centre_mm
        a, b, c = self.transition_zone.radii_mm
        made = []
        for _ in range(int(rng.integers(7, 14))):
            size = float(rng.uniform(2.2, 4.5))
            side, up, round_ = rng.choice([-1, 1]), rng.uniform(-0.45, 0.45), rng.uniform(0.8, 1.2, 3)
            place = (x + side * float(rng.uniform(0.3, 0.6)) * a, y + float(rng.uniform(-0.3, 0.3)) * b, z + up * c)
            glandular = rng.random() < 0.55
            t2_ms, adc = (rng.uniform(130, 190), rng.uniform(1500, 1900)) if glandular else (
                rng.uniform(60, 75), rng.uniform(950, 1100))  # fmt: skip
            inner = PelvicTissue(0.88, float(t2_ms), float(adc), 0.1, 0.27, 0.55)
            ball = Ellipsoid(place, tuple(size * float(r) for r in round_))  # type: ignore[arg-type]
            if self.transition_zone.distance(np.array(place)) < -ball.reach_mm:
                made += [Structure(ball, inner, 0.6), Structure(ball, CAPSULE)]
        return tuple(made)

    def _organs(self) -> tuple[Structure, ...]:
        """Vesicles, bundles, bladder and rectum."""
        _, b, c = self.gland.radii_mm
        full, tall = self._drawn(17, 26, 40), self._drawn(18, 15, 24)
        bladder = Ellipsoid(self._at(0, -14, c + tall + 2), (full, 0.8 * full, tall))
        vesicles = [Ellipsoid(self._at(s * 17, b - 1, c + 4), (17, 5, 7), -s * 18.0) for s in (-1, 1)]
        bundles = [Ellipsoid(self._at(s * 19, b + 1, -2), (2.6, 2.2, 18)) for s in (-1, 1)]
        return (
            *(Structure(vesicle, VESICLE, 0.6) for vesicle in vesicles),
            *(Structure(vesicle, CAPSULE) for vesicle in vesicles),
            Structure(bladder, URINE, 3.0),
            Structure(bladder, BLADDER_WALL),
            Structure(self.gas, AIR),
            Structure(self.rectum, FAECES, 4.0),
            Structure(self.rectum, RECTAL_WALL),
            *(Structure(bundle, BUNDLE) for bundle in bundles),
        )

    def _walls(self) -> tuple[Structure, ...]:
        """What surrounds the organs, from the levator ani to the skin."""
        levator = [Ellipsoid(self._at(s * 29, 12, -14), (3.5, 20, 20), s * 12.0) for s in (-1, 1)]
        obturator = [Ellipsoid(self._at(s * 50, -2, 2), (9, 32, 36), s * 8.0) for s in (-1, 1)]
        heads = [Ellipsoid(self._at(s * 92, -6, 14), (24, 24, 24)) for s in (-1, 1)]
        pubis = [Ellipsoid(self._at(s * 20, -48, -10), (15, 11, 20), s * 25.0) for s in (-1, 1)]
        ischium = [Ellipsoid(self._at(s * 66, 28, -12), (13, 17, 34)) for s in (-1, 1)]
        bones = (*heads, *pubis, *ischium)
        return (
            *(Structure(muscle, MUSCLE) for muscle in (*levator, *obturator)),
            *(Structure(bone, MARROW, 2.0) for bone in bones),
            *(Structure(bone, CORTEX) for bone in bones),
            Structure(Ellipsoid(self._at(0, 4, 20), (58, 62, 85)), FAT),
            Structure(Tube(self._at(0, 2, 0), (158, 92)), MUSCLE),
            Structure(Tube(self._at(0, 4, 0), (184, 118)), FAT),
        )

    @cached_property
    def waves(self) -> tuple[Floats, Floats]:
        """The texture of all tissue as plane waves: vectors (wave, 3) in radians per mm, and phases (wave,)."""
        rng = np.random.default_rng([self.seed, 19, 31])
        directions = rng.normal(size=(14, 3))
        lengths = np.exp(rng.uniform(np.log(3.5), np.log(14.0), size=(14, 1)))
        vectors = 2 * np.pi * directions / np.linalg.norm(directions, axis=1, keepdims=True) / lengths
        return vectors, rng.uniform(0, 2 * np.pi, 14)

    def texture(self, points_mm: Floats) -> Floats:
        """A random field (...) of mean 0 and standard deviation 1 at points (3, ...)."""
        vectors, phases = self.waves
        total = np.zeros(points_mm.shape[1:])
        for vector, phase in zip(vectors, phases, strict=True):
            total += np.cos(np.tensordot(vector, points_mm, axes=1) + phase)
        return np.asarray(total * np.sqrt(2 / len(phases)))


def with_lesions(pelvis: Pelvis, *lesions: ProstateLesion) -> Pelvis:
    """The same man with lesions."""
    return replace(pelvis, lesions=lesions)
