"""A fetal head in the uterus, cut in the transthalamic plane: the plane in which the head circumference is measured.

In that plane the skull is close to an ellipse of BPD/OFD 0.78 (Hadlock et al., *Cephalic index*, 1981); midline echo,
cavum septi pellucidi and thalami identify it (ISUOG Practice Guidelines, 2019). The skull reflects like a mirror:
bright where the beam meets it at a right angle, weak where the beam grazes it, and there its long way through bone
casts a shadow. What is nearer to the probe is veiled by echoes that ring between the skull and the probe.
Conventions as in `tissue`: millimetres, decibels relative to glandular tissue, dB/cm/MHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ellipe

from imaging.phantoms.ultrasound.tissue import EchoTissue, Fields, Floats, Mask, mix, soft_step

SMALLEST_MM, LARGEST_MM = 70.0, 340.0
"""Head circumference from about 12 weeks to term."""
_FLUID_DB, _CSF_DB = -50.0, -48.0


@dataclass(frozen=True, slots=True)
class Head:
    """A head whose outer skull border is an exact ellipse.

    `x_mm`, `z_mm`: centre, right of the probe's middle and below its face. `length_mm`: occipito-frontal diameter,
    `width_mm`: biparietal diameter, both outer to outer. `rotation_deg`: direction of the forehead, clockwise on the
    screen from the right. `skull_mm`: thickness of the echogenic rim. `seed` draws what lies inside.
    """

    x_mm: float
    z_mm: float
    length_mm: float
    width_mm: float
    rotation_deg: float = 0.0
    skull_mm: float = 2.5
    seed: int = 0

    @property
    def circumference_mm(self) -> float:
        """Head circumference: the perimeter of the ellipse, 2·OFD·E(m) with m = 1 − (BPD/OFD)²."""
        return float(2 * self.length_mm * ellipe(1 - (self.width_mm / self.length_mm) ** 2))

    @property
    def reach_mm(self) -> tuple[float, float]:
        """Half of the extent of the ellipse along x and along z."""
        turn = np.deg2rad(self.rotation_deg)
        a, b = self.length_mm / 2, self.width_mm / 2
        across = np.hypot(a * np.cos(turn), b * np.sin(turn))
        return float(across), float(np.hypot(a * np.sin(turn), b * np.cos(turn)))

    @property
    def maturity(self) -> float:
        """0 for the smallest head, 1 for the largest."""
        return float(np.clip((self.circumference_mm - SMALLEST_MM) / (LARGEST_MM - SMALLEST_MM), 0, 1))

    def axes_mm(self, x: Floats, z: Floats) -> tuple[Floats, Floats]:
        """Position from the centre towards the forehead, and to the side of the midline: each of the shape of `x`."""
        turn = np.deg2rad(self.rotation_deg)
        along = (x - self.x_mm) * np.cos(turn) + (z - self.z_mm) * np.sin(turn)
        aside = -(x - self.x_mm) * np.sin(turn) + (z - self.z_mm) * np.cos(turn)
        return along, aside

    def distance_mm(self, x: Floats, z: Floats) -> Floats:
        """Signed distance to the outer skull border, negative inside; exact at the border, close to it near by."""
        along, aside = self.axes_mm(x, z)
        a, b = self.length_mm / 2, self.width_mm / 2
        reach, slope = np.hypot(along / a, aside / b), np.hypot(along / a**2, aside / b**2)
        return np.asarray(np.where(reach > 1e-6, reach * (reach - 1) / np.maximum(slope, 1e-9), -b))

    def contains(self, x: Floats, z: Floats) -> Mask:
        """Truth: the points within the outer border of the skull."""
        along, aside = self.axes_mm(x, z)
        return np.asarray(np.hypot(along * 2 / self.length_mm, aside * 2 / self.width_mm) < 1)


def head_of(
    circumference_mm: float, ratio: float, seed: int, place: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Head:
    """The head of a circumference and a BPD/OFD ratio, its skull 2 to 4 mm thick. `place`: x, z and rotation."""
    length = circumference_mm / float(2 * ellipe(1 - ratio**2))
    skull = 2.0 + 1.6 * (circumference_mm - SMALLEST_MM) / (LARGEST_MM - SMALLEST_MM)
    skull += float(np.random.default_rng([seed, 29]).uniform(-0.2, 0.4))
    x_mm, z_mm, rotation_deg = place
    return Head(x_mm, z_mm, length, length * ratio, rotation_deg, max(skull, 2.0), seed)


def uterus(seed: int, x: Floats, z: Floats, below_face: Floats, head: Head | None) -> EchoTissue:
    """Skin, fat, rectus muscle, myometrium, a cavity with amniotic fluid and placenta, and what lies behind it."""
    fields = Fields(seed, x, z)
    rng = fields.rng
    fat, muscle = rng.uniform(5.0, 11.0), rng.uniform(3.0, 5.0)
    waves = fields.boundary(0.0, 0.8) - z  # the layers follow the probe and undulate a little
    skin_d, fat_d = below_face - 2.0, below_face - fat + waves
    wall_d = below_face - fat - muscle + waves
    strands = fields.strands(16.0, 3.0, 0.45, 0.08)
    echo = mix(-17.0 + 14.0 * strands, -15.0 + 15.0 * fields.strands(26.0, 1.6, 0.3), soft_step(fat_d, 0.4))
    deep = -21.0 + 2.5 * fields.smooth(6, 3.5) + 4.5 * fields.smooth(32, 20) + 9.0 * fields.strands(20, 5, 0.5, 0.1)
    echo = mix(echo, deep, soft_step(wall_d, 0.5))
    echo = mix(echo, -1.0, soft_step(-skin_d, 0.2))
    mirror = 2.0 * np.exp(-((skin_d / 0.2) ** 2)) + 1.3 * np.exp(-((fat_d / 0.3) ** 2)) + 0.8 * strands**3
    mirror = mirror * soft_step(-wall_d, 0.5) + 1.8 * np.exp(-((wall_d / 0.3) ** 2))
    contact = np.clip(fields.smooth(24, 400) - 0.7, 0, 1) * np.exp(-((below_face / 3) ** 2))
    tissue = EchoTissue(echo, mirror, 0.55 + 0.1 * soft_step(wall_d, 0.5) + 4.0 * contact)
    return _with_cavity(tissue, fields, wall_d, head)


def _with_cavity(tissue: EchoTissue, fields: Fields, wall_d: Floats, head: Head | None) -> EchoTissue:
    """Fluid and placenta in a wavy ellipse around the head (or around nothing), and now and then a limb."""
    rng, x, z = fields.rng, fields.x, fields.z
    spot = head or Head(float(rng.uniform(-15, 15)), float(rng.uniform(55, 75)), 90.0, 70.0)
    across, down = spot.reach_mm
    gap_x, gap_z = rng.uniform(4, 26, 2) + 0.12 * rng.uniform(0, 1, 2) * (LARGEST_MM - spot.circumference_mm)
    centre_x = spot.x_mm + float(rng.uniform(-0.9, 0.9)) * gap_x
    centre_z = spot.z_mm + float(rng.uniform(-0.5, 0.5)) * gap_z
    wide, high = across + gap_x, down + 0.45 * gap_z
    reach = np.hypot((x - centre_x) / wide, (z - centre_z) / high)
    from_wall = (1 - reach) * min(wide, high) + 2.5 * fields.smooth(22, 22)
    from_wall = np.minimum(from_wall, wall_d - rng.uniform(3.0, 6.0))
    cavity = soft_step(from_wall, 0.4)
    fluid = _FLUID_DB + 3.0 * fields.smooth(4, 3)
    echo = mix(tissue.echo_db, fluid, cavity)
    mirror = tissue.mirror * (1 - cavity) + 0.9 * np.exp(-((from_wall / 0.35) ** 2)) * soft_step(wall_d - 1, 0.5)
    absorption = mix(tissue.absorption, 0.28, cavity)

    angle = np.arctan2(z - centre_z, x - centre_x)
    towards, spread = rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 1.3)
    turned = np.angle(np.exp(1j * (angle - towards)))
    thickness = rng.uniform(10, 30) * np.exp(-((turned / spread) ** 4))
    placenta = cavity * soft_step(thickness - from_wall + 1.2 * fields.smooth(9, 7) - 3.0, 0.4)
    echo = mix(echo, -9.0 + 2.0 * fields.smooth(6, 4) + 2.0 * fields.smooth(18, 12), placenta)
    absorption = mix(absorption, 0.55, placenta)
    found = EchoTissue(echo, mirror, absorption)
    return _with_limb(found, fields, cavity * (1 - placenta), (centre_x, centre_z, wide, high))


def _with_limb(
    tissue: EchoTissue, fields: Fields, room: Floats, cavity: tuple[float, float, float, float]
) -> EchoTissue:
    """In every second uterus, an arm or a leg cut across: soft tissue around a bright bone that casts a shadow.

    `room`: where fluid is. `cavity`: centre (x, z) and half axes.
    """
    rng, x, z = fields.rng, fields.x, fields.z
    present, turn, size = rng.random() < 0.5, rng.uniform(-np.pi, np.pi), rng.uniform(3.5, 8.0)
    centre_x, centre_z, wide, high = cavity
    if not present:
        return tissue
    distance = np.hypot(x - centre_x - 0.88 * wide * np.cos(turn), z - centre_z - 0.88 * high * np.sin(turn))
    soft = room * soft_step(size - distance, 0.3)
    bone = soft * soft_step(0.3 * size - distance, 0.3)
    echo = mix(mix(tissue.echo_db, -12.0, soft), 6.0, bone)
    return EchoTissue(echo, tissue.mirror, tissue.absorption + 0.5 * soft + 6.0 * bone)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The head seen from every point: in its own coordinates, relative to its half axes, and relative to the beam.

    `forward` (1 at the forehead) and `aside` (1 at the far end of the BPD); `inside_mm`: depth below the outer skull
    border. `face_on`: cosine between the beam and the skull's normal. `across`: the same for the midline's normal.
    `far`: −1 on the side of the probe, 1 on the other.
    """

    head: Head
    fields: Fields
    forward: Floats
    aside: Floats
    inside_mm: Floats
    face_on: Floats
    across: Floats
    far: Floats

    @staticmethod
    def of(head: Head, x: Floats, z: Floats) -> _Cut:
        a, b = head.length_mm / 2, head.width_mm / 2
        along, aside = head.axes_mm(x, z)
        beam_x, beam_z = np.gradient(x, axis=0), np.gradient(z, axis=0)
        length = np.hypot(beam_x, beam_z)
        turn = np.deg2rad(head.rotation_deg)
        beam_along = (beam_x * np.cos(turn) + beam_z * np.sin(turn)) / length
        beam_aside = (-beam_x * np.sin(turn) + beam_z * np.cos(turn)) / length
        steep = np.maximum(np.hypot(along / a**2, aside / b**2), 1e-9)
        face_on = np.abs(beam_along * along / a**2 + beam_aside * aside / b**2) / steep
        half = np.hypot(a * beam_along, b * beam_aside)
        far = (along * beam_along + aside * beam_aside) / half
        across = np.abs(beam_aside)
        fields = Fields(head.seed + 31, x, z)
        bend = 0.7 * a  # brains are not drawn with a ruler
        forward = along / a + 0.03 * fields.smooth(bend, bend)
        aside = aside / b + 0.03 * fields.smooth(bend, bend)
        return _Cut(head, fields, forward, aside, -head.distance_mm(x, z), face_on, across, far)

    def line(self, start: float, end: float, at: float | Floats, thickness_mm: float = 0.3) -> Floats:
        """A membrane along the midline's direction from `start` to `end` (forward), at `at` (aside): 0 to 1.

        As a mirror it is bright where the beam meets it squarely.
        """
        distance = (self.aside - at) * self.head.width_mm / 2
        ends = soft_step(self.forward - start, 0.05) * soft_step(end - self.forward, 0.05)
        return np.asarray(np.exp(-((distance / thickness_mm) ** 2)) * ends * (0.1 + 0.9 * self.across**3))

    def oval(self, forward: float, aside: float, length: float, width: float, soft: float = 0.12) -> Floats:
        """1 in an oval with the given centre and half axes, all relative to those of the head; 0 outside."""
        reach = np.hypot((self.forward - forward) / length, (self.aside - aside) / width)
        return soft_step(1 - reach, soft)


def with_head(tissue: EchoTissue, head: Head, x: Floats, z: Floats) -> EchoTissue:
    """The tissue with a fetal head in it: scalp, skull, brain, and what the skull does to the beam."""
    cut = _Cut.of(head, x, z)
    scalp = soft_step(cut.inside_mm + 1.2 + 2.0 * head.maturity, 0.25)
    inner = soft_step(cut.inside_mm - head.skull_mm, 0.2)
    echo, mirror = _brain(cut)
    echo, mirror = _veil(cut, echo, mirror)
    echo = mix(mix(tissue.echo_db, -17.0, scalp), echo, inner)
    shell = soft_step(cut.inside_mm, 0.15) * (1 - inner)
    bone, plates = _bone(cut)
    echo = mix(echo, bone, shell)
    absorption = mix(mix(tissue.absorption, 0.55, scalp), 0.35, inner)
    absorption = mix(absorption, 2.6 + 1.8 * head.maturity, shell)
    return EchoTissue(echo, tissue.mirror * (1 - scalp) + mirror * inner + plates, absorption)


def _bone(cut: _Cut) -> tuple[Floats, Floats]:
    """Diffuse level of the skull in dB, and the two mirrors of its tables; uneven, and open at the sutures."""
    rng, head = cut.fields.rng, cut.head
    angle = np.arctan2(cut.aside, cut.forward)
    closed = np.ones_like(angle)
    for place in (0.75, -0.75, 2.3, -2.3):
        width = rng.uniform(0.8, 3.0) / head.width_mm * 2
        turned = np.angle(np.exp(1j * (angle - place - rng.normal() * 0.15)))
        closed -= rng.uniform(0.2, 0.9) * np.exp(-((turned / width) ** 2))
    uneven = 2.6 * cut.fields.smooth(8, 8)
    level = -34.0 + 40.0 * cut.face_on**1.3 + uneven + 16.0 * (closed - 1)
    strength = cut.face_on**4 * closed * 10 ** (uneven / 20) * (6.0 + 5.0 * head.maturity)
    outer = np.exp(-(((cut.inside_mm - 0.35) / 0.3) ** 2))
    inside = np.exp(-(((cut.inside_mm - head.skull_mm + 0.3) / 0.3) ** 2))
    return level, strength * (outer + 0.7 * inside)


def _veil(cut: _Cut, echo: Floats, mirror: Floats) -> tuple[Floats, Floats]:
    """Reverberation below the near skull: a haze that fades with depth, and a few faint copies of the skull."""
    rng, head = cut.fields.rng, cut.head
    strength, gap = rng.uniform(-6, 3), rng.uniform(3.0, 5.5)
    near = soft_step(-cut.far - 0.05, 0.25)
    haze = -26.0 + strength + 1.5 * cut.fields.smooth(10, 4) - 16.0 * (1 - np.clip(-cut.far, 0, 1)) - 30.0 * (1 - near)
    veiled = 10 * np.log10(10 ** (echo / 10) + 10 ** (haze / 10))
    copies = np.zeros_like(echo)
    for order in (1, 2, 3):
        copy = cut.inside_mm - head.skull_mm - order * gap
        copies += 0.55 * 0.5**order * np.exp(-((copy / 0.4) ** 2))
    return veiled, mirror * (1 - 0.6 * near) + copies * near * cut.face_on**4 * 10 ** (strength / 20)


def _brain(cut: _Cut) -> tuple[Floats, Floats]:
    """Echo level and mirrors inside the skull, both of the shape of the points."""
    fields, maturity = cut.fields, cut.head.maturity
    rim_mm = cut.head.skull_mm + cut.head.width_mm * 0.035 * (1 - 0.5 * maturity)
    echo = -35.0 + 2.4 * fields.smooth(2.5, 2.5) + 2.8 * fields.smooth(13, 10) + 2.0 * maturity
    echo = mix(np.full_like(echo, _CSF_DB), echo, soft_step(cut.inside_mm - rim_mm, 0.4))
    folds = fields.strands(7.0, 5.0, 0.5) * soft_step(0.3 * cut.head.width_mm - cut.inside_mm, 2.0)
    echo = echo + 14.0 * max(maturity - 0.35, 0.0) * folds
    mirror = np.zeros_like(echo)
    for side in (-1.0, 1.0):
        echo, mirror = _ventricle(cut, echo, mirror, side)
    return _middle(cut, echo, mirror)


def _ventricle(cut: _Cut, echo: Floats, mirror: Floats, side: float) -> tuple[Floats, Floats]:
    """Lateral ventricle with its choroid plexus, which fills it in a young head; insula and frontal horn."""
    young = (1 - cut.head.maturity) ** 3
    centre = side * (0.36 + 0.06 * young + 0.10 * np.clip(-cut.forward - 0.3, 0, 1))
    half = 0.085 + 0.20 * young
    reach = np.abs(cut.aside - centre) / half
    ends = soft_step(cut.forward + 0.7, 0.06) * soft_step(-0.1 + 0.3 * young - cut.forward, 0.08)
    echo = mix(echo, _CSF_DB, soft_step(1 - reach, 0.25) * ends)
    plexus = cut.oval(-0.42 + 0.12 * young, side * (0.38 + 0.04 * young), 0.16 + 0.26 * young, half * 0.9, 0.3)
    echo = mix(echo, -14.0 + 2.5 * cut.fields.smooth(2, 2), plexus)
    broken = soft_step(cut.fields.smooth(6, 6) + 0.1, 0.5)
    for wall, strength in ((centre - half, 0.9), (centre + half, 0.9)):
        mirror = mirror + strength * broken * cut.line(-0.66, -0.16, wall)
    mirror = mirror + 0.9 * broken * cut.line(-0.05, 0.36, side * (0.64 - 0.25 * (cut.forward - 0.15) ** 2))
    return echo, mirror + 1.2 * broken * cut.line(0.36, 0.62, side * 0.24)


def _middle(cut: _Cut, echo: Floats, mirror: Floats) -> tuple[Floats, Floats]:
    """Thalami in a brighter surrounding, third ventricle, cavum septi pellucidi, and the falx before and behind."""
    grain = 2.5 * cut.fields.smooth(2, 1.5)
    echo = np.maximum(echo, mix(np.full_like(echo, -45.0), -17.0 + grain, cut.oval(-0.05, 0.0, 0.34, 0.4, 0.25)))
    for side in (-1.0, 1.0):
        echo = mix(echo, -26.0 + grain, cut.oval(-0.02, side * 0.155, 0.19, 0.13, 0.2))
    cavum = cut.oval(0.44, 0.0, 0.11, 0.065, 0.15)
    echo = mix(echo, _CSF_DB, cavum)
    broken = soft_step(cut.fields.smooth(4, 4) + 0.3, 0.6)
    bent = 0.012 * np.sin(4 * cut.forward + cut.fields.rng.uniform(0, 6))
    falx = cut.line(-0.94, -0.24, bent, 0.4) + cut.line(0.56, 0.93, bent, 0.4)
    third = cut.line(-0.2, 0.24, bent + 0.018) + cut.line(-0.2, 0.24, bent - 0.018)
    walls = cut.line(0.36, 0.53, 0.075, 0.45) + cut.line(0.36, 0.53, -0.075, 0.45)
    echo = np.maximum(echo, -60.0 + 40.0 * np.clip(falx, 0, 1) ** 0.5)
    return echo, mirror + broken * (2.0 * falx + 0.5 * third) + 1.5 * walls
