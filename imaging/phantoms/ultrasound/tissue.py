"""Synthetic anatomy: what scatters, reflects and absorbs ultrasound at any point of a body, and where a lesion lies.

Everything is a function of position in millimetres, x to the right of the probe's middle and z down from its face, so
that a probe which moves meets the same tissue again. Soft tissue takes the shape of the probe that is pressed on it:
the layers of a breast follow the distance from the face. Levels are decibels of echo amplitude relative to glandular
tissue; absorption is dB/cm/MHz, one way (Duck, *Physical Properties of Tissue*, 1990: fat 0.5, gland 0.75, muscle 1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Posterior = Literal["shadow", "enhancement", "none"]

AVERAGE_ABSORPTION = 0.6
"""Soft tissue in general, and what time-gain compensation assumes: dB/cm/MHz, one way."""
_EXTRA_ABSORPTION: dict[Posterior, float] = {"shadow": 1.2, "enhancement": -0.5, "none": 0.0}


@dataclass(frozen=True, slots=True)
class PlantedLesion:
    """A hypoechoic mass: an ellipse whose radius varies with the angle.

    `x_mm`, `z_mm`: centre, right of the probe's middle and below its face. `width_mm`, `height_mm`: full axes.
    `irregularity`: relative size of the radius variation (0: an exact ellipse). `margin_mm`: width of the soft border.
    `seed` draws the outline and the inner texture.
    """

    x_mm: float
    z_mm: float
    width_mm: float
    height_mm: float
    tilt_deg: float = 0.0
    echo_db: float = -22.0
    irregularity: float = 0.12
    margin_mm: float = 0.35
    posterior: Posterior = "shadow"
    seed: int = 0

    @property
    def kind(self) -> Literal["benign", "malignant"]:
        """What its look speaks for: smooth and without shadow benign, irregular or shadowing malignant (BI-RADS US)."""
        return "benign" if self.irregularity < 0.06 and self.posterior != "shadow" else "malignant"

    def distance_mm(self, x: Floats, z: Floats) -> Floats:
        """Approximate signed distance of each point to the outline: negative inside, same shape as `x`."""
        tilt = np.deg2rad(self.tilt_deg)
        across = (x - self.x_mm) * np.cos(tilt) + (z - self.z_mm) * np.sin(tilt)
        down = -(x - self.x_mm) * np.sin(tilt) + (z - self.z_mm) * np.cos(tilt)
        across, down = across * 2 / self.width_mm, down * 2 / self.height_mm
        rng = np.random.default_rng([self.seed, 11])
        angle = np.arctan2(down, across)
        radius = np.ones_like(angle)
        for order in range(2, 10):
            size, phase = rng.normal() / order**0.7, rng.uniform(0, 2 * np.pi)
            radius += self.irregularity * size * np.cos(order * angle + phase)
        reach = np.hypot(across, down)
        return np.asarray((reach - np.maximum(radius, 0.3)) * min(self.width_mm, self.height_mm) / 2)

    def contains(self, x: Floats, z: Floats) -> Mask:
        """Truth: the points inside the outline."""
        return np.asarray(self.distance_mm(x, z) < 0)


@dataclass(frozen=True, slots=True)
class EchoTissue:
    """Acoustic properties on a lattice of points, all of one shape.

    `echo_db`: diffuse scattering. `mirror`: amplitude of smooth interfaces (coherent, 1 = mean gland speckle).
    `absorption`: dB/cm/MHz.
    """

    echo_db: Floats
    mirror: Floats
    absorption: Floats


class Fields:
    """Smooth random fields of unit variance over one set of points; each call draws the next field."""

    def __init__(self, seed: int, x: Floats, z: Floats) -> None:
        self.rng = np.random.default_rng([seed, 7])
        self.x, self.z = x, z

    def _lattice(self, scale_x_mm: float, scale_z_mm: float) -> tuple[Floats, Floats]:
        """The next field on a lattice of its own, and the lattice steps (z, x) in millimetres."""
        steps = np.array([scale_z_mm, scale_x_mm]) / 3.0
        size = np.ceil(np.array([200.0, 240.0]) / steps).astype(int).clip(8, 900)
        lattice = ndimage.gaussian_filter(self.rng.normal(size=tuple(size)), 3.0, mode="wrap")
        return lattice / lattice.std(), steps

    def _at_points(self, lattice: Floats, steps: Floats, tilt: float, order: int) -> Floats:
        across, down = self.x + tilt * self.z, self.z - tilt * self.x
        where = [(down + 20.0) / steps[0], (across + 120.0) / steps[1]]
        field: Floats = ndimage.map_coordinates(lattice, where, order=order, mode="grid-wrap")
        return field

    def smooth(self, scale_x_mm: float, scale_z_mm: float, tilt: float = 0.0) -> Floats:
        """A field whose correlation lengths along (tilted) x and z are those given."""
        return self._at_points(*self._lattice(scale_x_mm, scale_z_mm), tilt, order=1)

    def boundary(self, depth_mm: float, wave_mm: float) -> Floats:
        """Distance of each point below a wavy horizontal interface at `depth_mm`, in millimetres."""
        offset = np.zeros_like(self.x)
        for length in (55.0, 31.0, 17.0, 9.0):
            size, phase = self.rng.normal() * wave_mm * length / 60.0, self.rng.uniform(0, 2 * np.pi)
            offset += size * np.sin(2 * np.pi * self.x / length + phase)
        return np.asarray(self.z - depth_mm - offset)

    def strands(self, scale_x_mm: float, scale_z_mm: float, thickness_mm: float, tilt: float = 0.0) -> Floats:
        """Thin sheets (ligaments, fascia, fibres): 1 on the zero level of a smooth field, falling to 0 beside it."""
        lattice, steps = self._lattice(scale_x_mm, scale_z_mm)
        slope_z, slope_x = np.gradient(lattice, *steps.tolist())
        steepness = np.hypot(slope_x, slope_z)
        distance = self._at_points(lattice / np.maximum(steepness, 0.3 * steepness.mean()), steps, tilt, order=3)
        patchy = soft_step(self.smooth(scale_x_mm * 0.7, scale_z_mm * 2.0) + 0.2, 0.5)
        return np.asarray(np.exp(-((distance / thickness_mm) ** 2)) * patchy)


def soft_step(value: Floats, width: float) -> Floats:
    """0 well below zero, 1 well above, with a soft step of the given width."""
    return np.asarray(0.5 + 0.5 * np.tanh(value / width))


def mix(below: Floats, above: Floats | float, weight: Floats) -> Floats:
    return np.asarray(below + weight * (above - below))


def breast(seed: int, x: Floats, z: Floats) -> EchoTissue:
    """Skin, fat with ligaments, gland with fat lobules and ducts, fat, fascia, pectoral muscle, chest wall."""
    fields = Fields(seed, x, z)
    rng = fields.rng
    skin = fields.boundary(rng.uniform(1.5, 2.3), 0.12)
    gland = fields.boundary(rng.uniform(6.5, 11.0), 1.6)
    behind = fields.boundary(rng.uniform(22.0, 27.0), 1.3)
    muscle = fields.boundary(rng.uniform(27.5, 31.0), 0.6)
    wall = fields.boundary(rng.uniform(37.0, 42.0), 0.9)
    in_gland = soft_step(gland, 0.35) * soft_step(-behind, 0.35)
    in_muscle = soft_step(muscle, 0.25) * soft_step(-wall, 0.25)

    fat_strands = np.maximum(fields.strands(11.0, 3.6, 0.22, 0.25), fields.strands(8.0, 2.8, 0.16, -0.35))
    echo = -17.0 + 1.6 * fields.smooth(3.5, 1.6) + 9.0 * fat_strands
    lobules = soft_step(fields.smooth(6.5, 3.2) - 0.95, 0.12)
    ducts = fields.strands(9.0, 1.5, 0.28, 0.15)
    septa = fields.strands(7.0, 1.2, 0.14, -0.1)
    texture = -2.0 + 2.6 * fields.smooth(1.6, 0.8) + 1.6 * fields.smooth(6.0, 2.5)
    echo = mix(echo, texture - 13.0 * lobules - 7.0 * ducts + 4.0 * septa, in_gland)
    fibres = fields.strands(22.0, 0.8, 0.14)
    echo = mix(echo, -14.0 + 9.0 * fibres + 1.5 * fields.smooth(5.0, 0.8), in_muscle)
    echo = mix(echo, -34.0, soft_step(wall - 0.8, 0.3))
    echo = mix(echo, -1.0, soft_step(-skin, 0.12))

    mirror = 2.2 * np.exp(-((skin / 0.10) ** 2)) + 1.8 * np.exp(-((muscle / 0.14) ** 2))
    mirror += 3.5 * np.exp(-((wall / 0.30) ** 2)) + 0.8 * fat_strands**3 * soft_step(skin, 0.2) * soft_step(
        -muscle, 0.2
    )
    absorption = 0.52 + 0.18 * in_gland + 0.35 * in_muscle + 1.2 * soft_step(wall, 0.3)
    tissue = EchoTissue(echo, mirror, absorption)
    tissue = _ligament_shadow(tissue, rng, x, gland)
    return _vessel(tissue, rng, x, z)


def _ligament_shadow(tissue: EchoTissue, rng: np.random.Generator, x: Floats, below_fat: Floats) -> EchoTissue:
    """A few Cooper ligaments meet the beam edge-on and throw narrow, faint shadows: dark, and no lesion."""
    absorption = tissue.absorption.copy()
    for _ in range(int(rng.integers(1, 4))):
        centre, width, strength = rng.uniform(-18, 18), rng.uniform(0.5, 1.3), rng.uniform(1.5, 4.0)
        patch = np.exp(-(((x - centre) / width) ** 2) - (below_fat / 0.7) ** 2)
        absorption += strength * patch
    return EchoTissue(tissue.echo_db, tissue.mirror, absorption)


def _vessel(tissue: EchoTissue, rng: np.random.Generator, x: Floats, z: Floats) -> EchoTissue:
    """In two bodies of three, an anechoic strip with bright walls, cut along or across: dark, and no lesion."""
    present, along = rng.random() < 0.67, rng.random() < 0.6
    centre_x, centre_z = rng.uniform(-14, 14), rng.uniform(9, 24)
    tilt, radius = rng.uniform(-0.35, 0.35), rng.uniform(0.6, 1.2)
    length = rng.uniform(8, 18) if along else 0.4
    if not present:
        return tissue
    across = (x - centre_x) + tilt * (z - centre_z)
    down = (z - centre_z) - tilt * (x - centre_x) - 1.1 * np.sin(across / 3.5) * along
    beyond = np.maximum(np.abs(across) - length / 2, 0.0)
    distance = np.hypot(beyond, down) - radius * (1 - 0.35 * np.sin(across / 2.7 + centre_x) ** 2)
    inside = soft_step(-distance, 0.12)
    walls = np.exp(-((distance / 0.18) ** 2)) * np.abs(down) / np.hypot(beyond, down).clip(1e-6)
    return EchoTissue(
        mix(tissue.echo_db, -36.0, inside),
        tissue.mirror * (1 - inside) + 0.5 * walls,
        mix(tissue.absorption, 0.2, inside),
    )


def heart(seed: int, x: Floats, z: Floats) -> EchoTissue:
    """An apical view in outline: four blood-filled chambers inside myocardium, with valves and pericardium."""
    fields = Fields(seed, x, z)
    warp_x, warp_z = x + 3.5 * fields.smooth(17, 17), z + 3.5 * fields.smooth(17, 17)
    chambers = [(20, 60, 19, 36), (-21, 66, 14, 28), (19, 121, 19, 18), (-20, 119, 17, 17)]
    nearest = np.full_like(x, 10.0)
    for cx, cz, rx, rz in chambers:
        nearest = np.minimum(nearest, np.hypot((warp_x - cx) / rx, (warp_z - cz) / rz) - 1.0)
    blood = soft_step(-nearest, 0.035)
    outer = np.hypot((warp_x - 1) / 46, (warp_z - 84) / 66) - 1.0
    muscle = -5.0 + 2.5 * fields.smooth(7, 3) + 2.0 * fields.smooth(20, 12)
    echo = mix(muscle, -15.0 + 3.0 * fields.smooth(12, 5), soft_step(outer, 0.03))
    echo = mix(echo, -44.0, blood)
    valves = np.exp(-(((warp_z - 99 - 4 * np.cos(warp_x / 6)) / 0.9) ** 2)) * (np.abs(np.abs(warp_x) - 18) < 15)
    mirror = (
        1.6 * np.exp(-((outer / 0.02) ** 2)) + 1.2 * valves + 0.8 * np.exp(-((nearest / 0.04) ** 2)) * (warp_z > 40)
    )
    return EchoTissue(echo, mirror, np.full_like(x, 0.55) - 0.3 * blood)


def with_lesion(tissue: EchoTissue, lesion: PlantedLesion, x: Floats, z: Floats) -> EchoTissue:
    """The tissue with a mass in it: darker inside, a soft and slightly echogenic border, its own absorption."""
    distance = lesion.distance_mm(x, z)
    inside = soft_step(-distance, lesion.margin_mm)
    solid = lesion.posterior != "enhancement"
    texture = Fields(lesion.seed, x, z).smooth(1.8, 0.9) * (2.5 if solid else 1.0)
    halo = 4.0 * np.exp(-(((distance - 0.7) / 0.6) ** 2)) * solid
    absorption = np.maximum(tissue.absorption + inside * _EXTRA_ABSORPTION[lesion.posterior], 0.03)
    return EchoTissue(
        mix(tissue.echo_db + halo, lesion.echo_db + texture, inside), tissue.mirror * (1 - inside), absorption
    )
