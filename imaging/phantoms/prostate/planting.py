"""Lesions that suit a prostate, drawn from a seed: where carcinoma is found, and wholly inside the gland."""

from __future__ import annotations

import numpy as np

from imaging.phantoms.prostate.anatomy import Floats, Pelvis, Point, ProstateLesion, Zone

_TRIES = 200
_MARGIN_MM = 0.8


def plant_prostate_lesion(pelvis: Pelvis, lesion_id: str, seed: int) -> ProstateLesion:
    """One lesion: seven of ten in the peripheral zone, the others in the front of the transition zone.

    ADC and size follow the grade: 400-900 × 10⁻⁶ mm²/s, lower where it is higher. Other lesions are kept clear of.
    """
    rng = np.random.default_rng([seed, 41])
    isup = int(rng.choice(5, p=[0.2, 0.3, 0.2, 0.15, 0.15])) + 1
    adc = float(np.clip(rng.normal(880 - 75 * isup, 60), 400, 900))
    zone: Zone = "PZ" if rng.random() < 0.7 else "TZ"
    size = float(rng.uniform(0.75, 1.0)) * (0.85 + 0.05 * isup)
    for attempt in range(_TRIES):
        shrink = size * (1 - 0.8 * attempt / _TRIES)
        if attempt == _TRIES // 2:
            zone = "TZ" if zone == "PZ" else "PZ"  # the other lesions have taken the room
        found = _beside_capsule(pelvis, rng, shrink) if zone == "PZ" else _in_front(pelvis, rng, shrink)
        lesion = ProstateLesion(lesion_id, zone, *found, adc=round(adc), t2_ms=float(rng.uniform(68, 82)), isup=isup)
        if fits(pelvis, lesion):
            return lesion
    raise AssertionError(f"no place for lesion '{lesion_id}' in the prostate of seed {pelvis.seed}")


def fits(pelvis: Pelvis, lesion: ProstateLesion) -> bool:
    """Whether the lesion lies inside the gland, its centre in its zone, and apart from the other lesions."""
    surface = surface_points(lesion)
    if pelvis.gland.distance(surface).max() > -_MARGIN_MM:
        return False
    centre = np.array(lesion.centre_mm)
    if (pelvis.transition_zone.distance(centre) < 0) != (lesion.zone == "TZ"):
        return False
    return all(other.shape.distance(surface).min() > 1.0 for other in pelvis.lesions)


def surface_points(lesion: ProstateLesion) -> Floats:
    """Points (3, 200) spread over the lesion's surface."""
    number = np.arange(200) + 0.5
    height, turn = 1 - 2 * number / 200, number * np.pi * (3 - np.sqrt(5))  # a golden spiral
    flat = np.sqrt(1 - height**2)
    ball = np.stack([flat * np.cos(turn), flat * np.sin(turn), height])
    x, y, z = ball * np.array(lesion.radii_mm)[:, None]
    cos, sin = np.cos(np.deg2rad(lesion.turn_deg)), np.sin(np.deg2rad(lesion.turn_deg))
    return np.asarray(np.stack([cos * x - sin * y, sin * x + cos * y, z]) + np.array(lesion.centre_mm)[:, None])


def _beside_capsule(pelvis: Pelvis, rng: np.random.Generator, size: float) -> tuple[Point, Point, float]:
    """Centre, radii and turn of a lens between transition zone and capsule, behind and to one side."""
    azimuth = float(rng.choice([-1, 1]) * rng.uniform(15, 75))
    inner = np.array(pelvis.transition_zone.centre_mm)
    outward = np.array([np.sin(np.deg2rad(azimuth)), np.cos(np.deg2rad(azimuth)), 0.0])
    start = inner + np.array([0, 0, float(rng.uniform(-0.5, 0.4)) * pelvis.gland.radii_mm[2]])
    steps = np.arange(0, 40, 0.25)
    ray = start[:, None] + outward[:, None] * steps
    near = steps[pelvis.transition_zone.distance(ray) < 0].max(initial=0.0)
    far = steps[pelvis.gland.distance(ray) < 0].max(initial=0.0)
    depth = float(np.clip(0.46 * (far - near) * size, 2.0, 7.0))
    broad = float(np.clip(depth * rng.uniform(1.1, 1.7), 2.5, 10.0))
    centre = start + outward * (far - depth * 1.15 - _MARGIN_MM)
    return _point(centre), (broad, depth, float(depth * rng.uniform(1.1, 1.6))), -azimuth


def _in_front(pelvis: Pelvis, rng: np.random.Generator, size: float) -> tuple[Point, Point, float]:
    """Centre, radii and turn of a lens in the anterior transition zone."""
    a, b, c = pelvis.transition_zone.radii_mm
    offset = np.array([rng.uniform(-0.4, 0.4) * a, rng.uniform(-0.45, -0.2) * b, rng.uniform(-0.4, 0.3) * c])
    wide, deep, tall = (max(size * float(rng.uniform(*span)), 2.0) for span in ((6, 9), (4, 5.5), (5, 8)))
    return _point(np.array(pelvis.transition_zone.centre_mm) + offset), (wide, deep, tall), float(rng.uniform(-15, 15))


def _point(values: Floats) -> Point:
    x, y, z = (round(float(v), 3) for v in values)
    return x, y, z
