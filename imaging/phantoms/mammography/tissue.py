"""What X-rays meet in a compressed breast: skin, fat, gland, ligaments, vessels, muscle, an implant, lesions.

Line integrals of attenuation on the detector's grid at about 20 keV (fat 0.046, gland 0.080, carcinoma 0.085 per mm:
Johns and Yaffe, Phys. Med. Biol. 32, 1987; calcium phosphates near 1.2 per mm). Gland is a power law of frequency
(amplitude f^-1.5, power f^-3: Burgess et al., Med. Phys. 28, 2001) between septa that run towards the nipple.

Everything is made as if of a left breast: chest wall at the left edge, the arm or the head at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import ConvexHull

from imaging.phantoms.mammography.body import SKIN_MM, Breast, BreastLesion, Floats, Mask, Projection, project

FAT, GLAND, MUSCLE, TUMOUR, CALCIUM, SILICONE = 0.046, 0.080, 0.082, 0.085, 1.2, 0.16
"""Linear attenuation at about 20 keV, per millimetre."""
Implant = Literal["none", "shown", "displaced"]
_GLANDULAR = {"a": (0.04, 0.10), "b": (0.14, 0.20), "c": (0.36, 0.30), "d": (0.62, 0.34)}
"""Mean share of gland in the glandular cone, and its variation, by density."""


@dataclass(frozen=True, slots=True)
class Field:
    """What the detector sees: `rows`, `columns`, `pitch_mm` in the plane of the breast, and where its corner lies.

    `left_mm`: distance of the left edge from the chest wall edge; `top_mm`: height of the upper edge above the nipple.
    `spot_mm`: diameter of a spot paddle in the middle, outside of which the collimator is closed; 0 without one.
    """

    rows: int
    columns: int
    pitch_mm: float
    left_mm: float
    top_mm: float
    spot_mm: float = 0.0

    def centres(self) -> tuple[Floats, Floats]:
        """x from the chest wall edge and height above the nipple of pixel centres: (1, column) and (row, 1)."""
        x = self.left_mm + (np.arange(self.columns) + 0.5) * self.pitch_mm
        across = self.top_mm - (np.arange(self.rows) + 0.5) * self.pitch_mm
        return np.asarray(x[None, :], dtype=np.float64), np.asarray(across[:, None], dtype=np.float64)

    def indices(self, x: Floats, across: Floats) -> tuple[Floats, Floats]:
        """Row and column of points, pixel centres at integers."""
        return (self.top_mm - across) / self.pitch_mm - 0.5, (x - self.left_mm) / self.pitch_mm - 0.5


@dataclass(frozen=True, slots=True)
class BreastScene:
    """A breast under the paddle. `seed` draws the noise of this exposure; tissue comes from the breast's own seed.

    `squeeze`: thickness over that of the usual compression; outlines stay where they are.
    """

    breast: Breast
    projection: Projection
    field: Field
    lesions: tuple[BreastLesion, ...] = ()
    seed: int = 0
    implant: Implant = "none"
    squeeze: float = 1.0

    @property
    def tissue_seed(self) -> list[int]:
        return [self.breast.seed, ord(self.breast.laterality), sum(map(ord, self.projection))]


@dataclass(frozen=True, eq=False)
class Shadow:
    """What a scene puts between tube and detector, each (row, column).

    `attenuation`: line integral, no unit. `breast`: bool, where there is tissue. `lesions`: bool by lesion_id, of those
    that lie in the field.
    """

    attenuation: Floats
    breast: Mask
    lesions: dict[str, Mask]


def cast(scene: BreastScene) -> Shadow:
    """The shadow of a scene. The same scene gives the same shadow, bit for bit."""
    thickness, skin = _paddle(scene)
    breast = thickness > 0
    attenuation, masks = _attenuation(scene, thickness, skin), {}
    for lesion in scene.lesions:
        added, mask = _lesion(scene, lesion, thickness)
        attenuation += added
        if (mask & breast).any():
            masks[lesion.lesion_id] = mask & breast
    return Shadow(attenuation, breast, masks)


def power_law(seed: list[int], shape: tuple[int, int], exponent: float) -> Floats:
    """Gaussian noise of unit variance whose power falls with frequency to the -exponent, (row, column)."""
    padded = [fft.next_fast_len(n + n // 8, real=True) for n in shape]
    spectrum = fft.rfft2(np.random.default_rng(seed).normal(size=padded))
    frequency = np.hypot(fft.fftfreq(padded[0])[:, None], fft.rfftfreq(padded[1])[None, :])
    frequency[0, 0] = np.inf
    frequency = np.maximum(frequency, 2.5 / max(padded))
    noise = fft.irfft2(spectrum * frequency ** (-exponent / 2), padded)[: shape[0], : shape[1]]
    return np.asarray((noise - noise.mean()) / noise.std())


def _paddle(scene: BreastScene) -> tuple[Floats, Floats]:
    """Thickness of the compressed breast and of the skin in it. The free edge is a half circle, skin its outer ring."""
    x, across = scene.field.centres()
    depth = scene.breast.nipple_depth_mm
    inside = x < scene.breast.reach(scene.projection, across)
    nipple = np.abs((x - depth + 2) / 6.5) ** 2.6 + np.abs(across / 6.5) ** 2.6
    pixels = np.pad(inside | (nipple < 1), ((1, 1), (1, 1)), mode="edge")
    distance = ndimage.distance_transform_edt(pixels)[1:-1, 1:-1] * scene.field.pitch_mm
    radius = scene.breast.thickness_mm * scene.squeeze / 2

    def chord(radius_mm: float, below: Floats) -> Floats:
        short = np.clip(radius_mm - below, 0, radius_mm)
        return np.asarray(np.where(below > 0, 2 * np.sqrt(radius_mm**2 - short**2), 0.0))

    whole = chord(radius, distance)
    skin = whole - chord(radius - SKIN_MM, distance - SKIN_MM)
    bump = (nipple < 1) & (x > depth - 4)
    teat = 11 * np.sqrt(np.clip(1 - nipple, 0, 1))
    whole = np.where(bump & ~inside, np.minimum(whole, teat), whole)
    skin = np.where(bump, np.minimum(whole, np.maximum(skin, teat)), np.minimum(skin, whole))
    return whole, skin


def _attenuation(scene: BreastScene, thickness: Floats, skin: Floats) -> Floats:
    """Line integral of attenuation through breast, skin, gland, ligaments, vessels, muscle and implant."""
    x, across = scene.field.centres()
    inner = np.maximum(thickness - skin, 0)
    muscle = scene.breast.pectoral(scene.projection, across) - x
    edge = power_law([*scene.tissue_seed, 4], thickness.shape, 3.0)
    share = np.clip((muscle + 0.8 * edge) / 9.0, 0, 1) ** 0.7
    gland = inner * _gland_share(scene, x, across) * (1 - share)
    total = FAT * inner + GLAND * skin + (GLAND - FAT) * gland
    grain = 1 + 0.05 * edge
    total += (MUSCLE - FAT) * 0.62 * inner * share * grain
    total += 0.03 * _vessels(scene) * (inner > 4)
    if scene.implant != "none":
        total += _implant(scene, x, across, inner)
    return np.asarray(total)


def _gland_share(scene: BreastScene, x: Floats, across: Floats) -> Floats:
    """Share of the thickness that is gland or ligament, 0 to 1."""
    mean, spread = _GLANDULAR[scene.breast.density]
    shape, seed = (scene.field.rows, scene.field.columns), scene.tissue_seed
    cloud = _cloud(scene, x, across)
    cone = _cone(scene, x, across, cloud)
    coarse, fine = _network(scene, x, across, 13.0, 1), _network(scene, x, across, 6.0, 2)
    patches = np.clip(0.55 + 0.5 * power_law([*seed, 3], shape, 3.0), 0.1, 1.4)
    ligaments = (0.16 * coarse + 0.12 * fine) * patches
    texture = power_law([*seed, 5], shape, 2.8)
    lobes = mean + spread * (0.7 * cloud + 0.35 * coarse - 0.2 + 0.5 * texture) + 0.7 * ligaments
    glandular = 0.92 / (1 + np.exp(-(lobes - 0.46) / 0.21))  # soft ends: no lobe is all gland
    fatty = np.clip(0.04 + 0.02 * texture, 0, 1) + 0.38 * ligaments
    return np.asarray(np.clip(cone * glandular + (1 - cone) * fatty, 0, 1))


def _cloud(scene: BreastScene, x: Floats, across: Floats) -> Floats:
    """Broad structure of unit variance, elongated towards the nipple."""
    return _towards_nipple(scene, x, across, power_law([*scene.tissue_seed, 6], (512, 512), 2.9))


def _cone(scene: BreastScene, x: Floats, across: Floats, cloud: Floats) -> Floats:
    """The glandular cone, 0 to 1 with a soft and ragged border: apex behind the nipple, upper outer part the larger."""
    behind = scene.breast.nipple_depth_mm - x
    length = scene.breast.nipple_depth_mm * {"a": 0.62, "b": 0.68, "c": 0.76, "d": 0.84}[scene.breast.density]
    along = (behind - 0.52 * length - 5) / (0.5 * length)
    breadth = scene.breast.half_height_mm * {"a": 0.42, "b": 0.50, "c": 0.58, "d": 0.66}[scene.breast.density]
    aside = (across - 0.12 * breadth - 0.10 * behind) / (breadth * np.clip(0.75 + 0.35 * along, 0.3, 1.1))
    border = 1 - np.sqrt(along**2 + aside**2) + 0.13 * cloud
    return np.asarray(1 / (1 + np.exp(-border / 0.09)))


def _towards_nipple(scene: BreastScene, x: Floats, across: Floats, pattern: Floats) -> Floats:
    """A square pattern (half millimetre steps) wrapped about a point before the nipple, twice as long as wide."""
    behind = scene.breast.nipple_depth_mm + 25 - x
    distance, angle = np.hypot(behind, across), np.arctan2(across, behind)
    where = [distance / 2.0 / 0.5, angle * 70.0 / 0.5 + pattern.shape[1] / 2]
    return np.asarray(ndimage.map_coordinates(pattern, np.broadcast_arrays(*where), order=1, mode="grid-wrap"))


def _network(scene: BreastScene, x: Floats, across: Floats, mesh_mm: float, key: int) -> Floats:
    """Septa about fat lobules of `mesh_mm`, 0 to 1: where a band of noise changes its sign (Cooper's ligaments)."""
    spectrum = fft.rfft2(np.random.default_rng([*scene.tissue_seed, 20 + key]).normal(size=(512, 512)))
    frequency = np.hypot(fft.fftfreq(512)[:, None], fft.rfftfreq(512)[None, :])
    fall = 2 * (np.pi * frequency * mesh_mm / 0.5 / 4.5) ** 2
    band = fft.irfft2(spectrum * (np.exp(-fall) - np.exp(-4 * fall)), (512, 512))
    field = _towards_nipple(scene, x, across, band / band.std())
    return np.asarray(np.exp(-((field / 0.22) ** 2)))


def _tubes(field: Field, points: Floats, amount: Floats, sigma_mm: float) -> Floats:
    """Soft tubes through dense points (point, 2: x, across): `amount` (point,) is the thickness in the middle."""
    canvas = np.zeros((field.rows, field.columns))
    row, column = field.indices(points[:, 0], points[:, 1])
    sigma = max(sigma_mm / field.pitch_mm, 0.5)
    low_row, low_column = np.floor(row).astype(int), np.floor(column).astype(int)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - (row - low_row)) * np.abs(1 - right - (column - low_column))
        r, c = low_row + down, low_column + right
        seen = (r >= 0) & (r < field.rows) & (c >= 0) & (c < field.columns)
        np.add.at(canvas, (r[seen], c[seen]), (weight * amount)[seen])
    return np.asarray(ndimage.gaussian_filter(canvas, sigma) * sigma * np.sqrt(2 * np.pi))


def _vessels(scene: BreastScene) -> Floats:
    """A few winding vessels from the chest wall forwards, millimetres of blood."""
    rng = np.random.default_rng([*scene.tissue_seed, 7])
    depth, step = scene.breast.nipple_depth_mm, 0.5 * scene.field.pitch_mm
    total = np.zeros((scene.field.rows, scene.field.columns))
    for _ in range(int(rng.integers(3, 6))):
        length = float(rng.uniform(0.4, 0.8)) * depth
        along = np.arange(0, length, step)
        start, slope = rng.uniform(-50, 60), rng.uniform(-0.35, 0.35)
        waves = sum(rng.uniform(0.5, 3.0) / k * np.sin(k * along / 14 + rng.uniform(0, 6.3)) for k in (1, 2, 3))
        points = np.stack([along, start + (slope - start / 260) * along + waves], axis=1)
        total += _tubes(scene.field, points, np.linspace(2.2, 0.8, len(along)) * 0.5, float(rng.uniform(0.4, 0.75)))
    return total


def _implant(scene: BreastScene, x: Floats, across: Floats, inner: Floats) -> Floats:
    """Added by a silicone implant before the chest wall; displaced, only its front edge stays in the picture."""
    reach = scene.breast.nipple_depth_mm * (0.62 if scene.implant == "shown" else 0.12)
    ellipse = np.clip(1 - (x / reach) ** 2 - ((across - 4) / (0.72 * scene.breast.half_height_mm)) ** 2, 0, 1)
    shell = (ellipse > 0) & (ellipse < 0.03)
    return np.asarray((SILICONE - FAT) * inner * np.minimum(ellipse * 3, 1) ** 0.5 * 0.8 + 0.1 * shell)


def _lesion(scene: BreastScene, lesion: BreastLesion, thickness: Floats) -> tuple[Floats, Mask]:
    """What a lesion adds to the attenuation, and its outline in this view."""
    if lesion.kind == "mass":
        added, mask = _mass(scene, lesion, thickness)
    else:
        added, mask = np.zeros_like(thickness), _hull(scene, lesion)
    if lesion.calcifications:
        added = added + CALCIUM * _grains(scene, lesion)
    return added, mask


def _mass(scene: BreastScene, lesion: BreastLesion, thickness: Floats) -> tuple[Floats, Mask]:
    """A body of irregular outline, thick in the middle, and its spicules; the mask is the body alone."""
    x, across = scene.field.centres()
    depth, up = project(lesion.position_mm, scene.projection)[0]
    centre = (float(scene.breast.nipple_depth_mm - depth), float(up))
    rng = np.random.default_rng([lesion.seed, sum(map(ord, scene.projection))])
    dx, dy = x - centre[0], across - centre[1]
    near = np.ix_(
        np.flatnonzero(np.abs(dy[:, 0]) < lesion.diameter_mm), np.flatnonzero(np.abs(dx[0]) < lesion.diameter_mm)
    )
    radius, angle = np.hypot(dx, dy)[near], np.arctan2(dy, dx)[near]
    outline = np.full_like(radius, lesion.diameter_mm / 2)
    for k in range(2, 9):
        outline *= 1 + lesion.irregularity * rng.normal() / k**0.4 * np.cos(k * angle + rng.uniform(0, 6.3))
    inside, body = np.zeros(thickness.shape, dtype=np.bool_), np.zeros_like(thickness)
    inside[near] = radius < outline
    chord = 1.4 * np.sqrt(np.clip(outline**2 - radius**2, 0, None))  # compression flattens a sphere
    body[near] = np.minimum(chord, thickness[near])
    body = ndimage.gaussian_filter(body, lesion.margin_mm / scene.field.pitch_mm)
    if lesion.spicules:
        body = body + _spicules(scene, lesion, rng, centre)
    return np.asarray((TUMOUR - FAT) * lesion.solidity * body), inside


def _spicules(
    scene: BreastScene, lesion: BreastLesion, rng: np.random.Generator, centre: tuple[float, float]
) -> Floats:
    """Straight strands that leave the body and taper, 1.3 to 2.4 radii long."""
    radius, step = lesion.diameter_mm / 2, 0.5 * scene.field.pitch_mm
    points, amounts = [], []
    for number in range(lesion.spicules):
        angle = 2 * np.pi * (number + rng.uniform(-0.4, 0.4)) / lesion.spicules
        along = np.arange(0.6 * radius, radius * rng.uniform(1.3, 2.4), step)
        bent = angle + rng.normal(0, 0.12) * (along / radius - 1)
        points.append(np.stack([centre[0] + along * np.cos(bent), centre[1] + along * np.sin(bent)], axis=1))
        amounts.append(np.linspace(1.0, 0.25, len(along)) * rng.uniform(1.0, 2.4))
    return _tubes(scene.field, np.concatenate(points), np.concatenate(amounts) * 0.5, 0.35)


def _grains(scene: BreastScene, lesion: BreastLesion) -> Floats:
    """Millimetres of calcium: every grain with its own volume, as wide as a pixel or as it is."""
    places, sizes = lesion.grains()
    x, across = scene.field.centres()
    total = np.zeros((scene.field.rows, scene.field.columns))
    for (depth, up), size in zip(project(places, scene.projection), sizes, strict=True):
        sigma = max(float(size) / 2.8, 0.45 * scene.field.pitch_mm)
        across_profile = np.exp(-(((across - up) / sigma) ** 2) / 2)
        along_profile = np.exp(-(((x - scene.breast.nipple_depth_mm + depth) / sigma) ** 2) / 2)
        total += (np.pi * size**3 / 6 / (2 * np.pi * sigma**2)) * across_profile * along_profile
    return total


def _hull(scene: BreastScene, lesion: BreastLesion) -> Mask:
    """The convex hull of the grains and a millimetre around it."""
    places = project(lesion.grains()[0], scene.projection)
    x, across = scene.field.centres()
    behind = scene.breast.nipple_depth_mm - x
    if len(places) < 3:
        near = [np.hypot(behind - depth, across - up) < 1.0 for depth, up in places]
        return np.asarray(np.any(near, axis=0))
    planes = ConvexHull(places).equations
    return np.asarray(np.all([a * behind + b * across + c <= 1.0 for a, b, c in planes], axis=0))
