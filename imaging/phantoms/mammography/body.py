"""Breasts and what lies in them, in three dimensions, and how a compressed view shows a point.

Coordinates of a breast, in millimetres from its nipple: `depth` towards the chest wall, `lateral` towards the arm,
`superior` towards the head; so one description serves a left and a right breast. A view is taken with the gantry turned
by an angle θ (CC 0°, MLO 45°, ML 90°) and shows the plane of depth and

    across = lateral · cos θ + superior · sin θ                                                      (up in the picture)

Compression spreads tissue away from the nipple and keeps its distance to it: a point at the distance r = |(depth,
lateral, superior)| is shown at the distance r from the nipple, in the direction of (depth, across). This is the arc
rule by which radiologists find a lesion in a second view (Paquerault et al., Med. Phys. 29, 2002), here exact: the
centre of a lesion has the same distance to the nipple in every view of its breast.

Pictures are made as if of a left breast: x from the chest wall edge of the field towards the nipple, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ConfigError, Reason

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Laterality = Literal["L", "R"]
Density = Literal["a", "b", "c", "d"]
"""BI-RADS composition: a almost entirely fatty to d extremely dense."""
Projection = Literal["CC", "MLO", "ML", "LM", "XCCL"]
GANTRY_DEG: Final[dict[Projection, float]] = {"CC": 0.0, "XCCL": 0.0, "MLO": 45.0, "ML": 90.0, "LM": 90.0}
"""The turn of the plane that a view shows. LM is ML seen from the other side, hung the same way."""
SKIN_MM = 1.7


@dataclass(frozen=True, slots=True)
class BreastLesion:
    """A mass or a cluster of microcalcifications at a place in one breast (millimetres from the nipple).

    `diameter_mm`: of the mass, or of the sphere in which the calcifications lie. `solidity`: attenuation over fat, 1
    for carcinoma, about 0.7 for a fibroadenoma. `spicules` and `calcifications` are counts; a mass may have both.
    """

    lesion_id: str
    laterality: Laterality
    depth_mm: float
    lateral_mm: float
    superior_mm: float
    diameter_mm: float
    kind: Literal["mass", "calcifications"] = "mass"
    irregularity: float = 0.03
    margin_mm: float = 0.5
    solidity: float = 0.8
    spicules: int = 0
    calcifications: int = 0
    grain_mm: tuple[float, float] = (0.3, 0.6)
    malignant: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        where = f"lesion '{self.lesion_id}'"
        if not 1.0 <= self.diameter_mm <= 80.0:
            raise ConfigError(f"{where}: diameter_mm {self.diameter_mm}; allowed is 1 to 80", Reason.CONFIG_INVALID)
        if self.laterality not in ("L", "R"):
            raise ConfigError(f"{where}: laterality '{self.laterality}'; allowed are L and R", Reason.CONFIG_INVALID)
        if self.depth_mm <= 0:
            raise ConfigError(f"{where}: depth_mm {self.depth_mm}; it lies behind the nipple", Reason.CONFIG_INVALID)
        if self.kind == "calcifications" and self.calcifications < 1:
            raise ConfigError(f"{where}: a cluster without calcifications; allowed is 1 or more", Reason.CONFIG_INVALID)

    @property
    def nipple_distance_mm(self) -> float:
        return float(np.linalg.norm((self.depth_mm, self.lateral_mm, self.superior_mm)))

    @property
    def position_mm(self) -> Floats:
        """(depth, lateral, superior)."""
        return np.array([self.depth_mm, self.lateral_mm, self.superior_mm])

    def grains(self) -> tuple[Floats, Floats]:
        """Positions (grain, 3) of the calcifications, millimetres from the nipple, and their diameters (grain,)."""
        rng = np.random.default_rng([self.seed, 11])
        offsets = rng.normal(size=(self.calcifications, 3))
        offsets *= (rng.random((len(offsets), 1)) ** 0.6 / np.linalg.norm(offsets, axis=1, keepdims=True)) / 2
        sizes = rng.uniform(*self.grain_mm, size=len(offsets))
        return np.asarray(self.position_mm + self.diameter_mm * offsets), np.asarray(sizes)


def project(points_mm: Floats, projection: Projection) -> Floats:
    """Points (point, 3) as (depth, across) in the plane of a view, (point, 2); distances to the nipple are kept."""
    points = np.atleast_2d(points_mm)
    angle = np.deg2rad(GANTRY_DEG[projection])
    across = points[:, 1] * np.cos(angle) + points[:, 2] * np.sin(angle)
    plane = np.stack([points[:, 0], across], axis=1)
    stretch = np.linalg.norm(points, axis=1) / np.maximum(np.linalg.norm(plane, axis=1), 1e-6)
    return np.asarray(plane * stretch[:, None])


@dataclass(frozen=True, slots=True)
class Breast:
    """The size and make-up of one breast. Both breasts of a woman resemble each other, as seeds of one exam do."""

    laterality: Laterality
    seed: int
    density: Density = "b"

    def _drawn(self, key: int, low: float, high: float) -> float:
        """A trait of the woman, with a few per cent of difference between her breasts."""
        common = np.random.default_rng([self.seed, key]).uniform(low, high)
        own = np.random.default_rng([self.seed, key, ord(self.laterality)]).normal(0, 0.02)
        return float(common * (1 + own))

    @property
    def nipple_depth_mm(self) -> float:
        """From the edge of the detector at the chest wall to the nipple."""
        return self._drawn(1, 78, 108)

    @property
    def half_height_mm(self) -> float:
        return self._drawn(2, 82, 108)

    @property
    def thickness_mm(self) -> float:
        return self._drawn(3, 42, 68)

    def reach(self, projection: Projection, across: Floats) -> Floats:
        """How far the breast reaches from the chest wall edge (x, millimetres) at heights `across` above the nipple."""
        depth, half = self.nipple_depth_mm, self.half_height_mm
        if GANTRY_DEG[projection] == 0:
            skew = self._drawn(4, -0.12, 0.12)
            side = across / (half * (1 + skew * np.sign(across)))
            return np.asarray(depth * np.clip(1 - np.abs(side) ** 2.15, 0, None) ** 0.53 * self._waves(across))
        tail, upper, lower = self._drawn(5, 0.52, 0.66), self._drawn(6, 145, 190), 0.78 * half
        above = tail + (1 - tail) * np.cos(np.pi / 2 * np.clip(across / upper, 0, 1)) ** 1.6
        above += 0.18 * np.clip((across - 105) / 60, 0, None) ** 2  # towards the arm
        below = np.clip(1 - np.abs(across / lower) ** 2.2, 0, None) ** 0.5
        belly = 0.02 + 0.13 * np.clip(-across / lower - 0.8, 0, 2)
        joined = 0.05 * np.logaddexp(below / 0.05, belly / 0.05)  # the fold is round
        return np.asarray(depth * np.where(across >= 0, above, joined) * self._waves(across))

    def _waves(self, across: Floats) -> Floats:
        """The outline is no curve of a textbook: one or two per cent to and fro, nothing at the nipple."""
        phases = [self._drawn(key, 0, 6.3) for key in (31, 32, 33)]
        waves = sum(np.sin(across / length + phase) for length, phase in zip((31, 17, 10), phases, strict=True))
        return np.asarray(1 + 0.008 * waves * np.clip(np.abs(across) / 25, 0, 1))

    def pectoral(self, projection: Projection, across: Floats) -> Floats:
        """Breadth of the pectoral muscle at the chest wall, millimetres: a triangle in MLO, narrow in ML, 0 in CC."""
        if GANTRY_DEG[projection] == 0:
            return np.zeros_like(across)
        top = self._drawn(7, 0.40, 0.54) * self.nipple_depth_mm * (1.0 if projection == "MLO" else 0.45)
        tip, height = self._drawn(8, -18, 22), 155.0
        up = np.clip((across - tip) / (height - tip), 0, None)
        bulge = 1 + self._drawn(9, 0.0, 0.25) * np.sin(np.pi * np.clip(up, 0, 1))
        return np.asarray(np.minimum(top * up**0.95 * bulge, np.maximum(self.reach(projection, across) - 10, 0)))

    def holds(self, lesion: BreastLesion, projection: Projection) -> bool:
        """Whether the view shows the lesion wholly inside the breast, in front of the muscle."""
        depth, across = project(lesion.position_mm, projection)[0]
        x, radius = self.nipple_depth_mm - depth, lesion.diameter_mm / 2
        heights = across + radius * np.array([-1.0, 0.0, 1.0])
        outer = self.reach(projection, heights).min() - radius - 8
        inner = self.pectoral(projection, heights).max() + radius + 4
        return bool(inner < x < outer)


def plant_breast_lesion(breast: Breast, lesion_id: str, seed: int, malignant: bool | None = None) -> BreastLesion:
    """A plausible lesion that CC and MLO both show: place, kind, size and malignancy (unless given) from the seed."""
    rng = np.random.default_rng([seed, 61])
    bad = bool(rng.random() < 0.5) if malignant is None else malignant
    cluster = bool(rng.random() < 0.35)
    size = float(np.exp(rng.uniform(np.log(7.0), np.log(24.0))))
    for _ in range(400):
        depth, radius, turn = rng.uniform(22, 75), rng.uniform(0, 42), rng.uniform(-0.6, 2.2)
        place = (float(depth), float(radius * np.cos(turn)), float(radius * np.sin(turn)))  # more often upper outer
        lesion = (_cluster if cluster else _mass)(lesion_id, breast.laterality, place, size, bad, seed)
        if breast.holds(lesion, "CC") and breast.holds(lesion, "MLO"):
            return lesion
        size = max(0.98 * size, 5.0)
    raise ConfigError(f"lesion '{lesion_id}': the breast of seed {breast.seed} has no room", Reason.CONFIG_INVALID)


Place = tuple[float, float, float]


def _mass(name: str, side: Laterality, place: Place, size: float, bad: bool, seed: int) -> BreastLesion:  # noqa: PLR0913, PLR0917 - one drawn mass
    """Circumscribed and round, or irregular with spicules and now and then calcifications."""
    rng = np.random.default_rng([seed, 62])
    return BreastLesion(
        name,
        side,
        *place,
        diameter_mm=size,
        irregularity=float(rng.uniform(0.08, 0.16) if bad else rng.uniform(0.01, 0.04)),
        margin_mm=float(rng.uniform(0.8, 2.0) if bad else rng.uniform(0.2, 0.6)),
        solidity=float(rng.uniform(0.85, 1.15) if bad else rng.uniform(0.6, 0.9)),
        spicules=int(rng.integers(14, 30)) if bad else 0,
        calcifications=int(rng.integers(4, 12)) if bad and rng.random() < 0.3 else 0,
        malignant=bad,
        seed=seed,
    )


def _cluster(name: str, side: Laterality, place: Place, size: float, bad: bool, seed: int) -> BreastLesion:  # noqa: PLR0913, PLR0917 - one drawn cluster
    """Few, coarse and alike, or many, fine and of all sizes."""
    rng = np.random.default_rng([seed, 63])
    grain = (0.25, 0.65) if bad else (0.5, 0.8)
    count = int(rng.integers(10, 26) if bad else rng.integers(5, 9))
    return BreastLesion(
        name,
        side,
        *place,
        diameter_mm=min(size, 16.0),
        kind="calcifications",
        calcifications=count,
        grain_mm=grain,
        malignant=bad,
        seed=seed,
    )
