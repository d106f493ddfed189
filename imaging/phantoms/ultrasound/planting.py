"""What is planted where: masses and fetal heads that suit a scan, drawn from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imaging.phantoms.ultrasound.bmode import Scan
from imaging.phantoms.ultrasound.head import LARGEST_MM, SMALLEST_MM, Head, head_of
from imaging.phantoms.ultrasound.tissue import PlantedLesion

_WALL_MM = 24.0
"""Depth of the nearest point of a head: abdominal and uterine wall, and some fluid."""


def plant_lesion(scan: Scan, seed: int) -> PlantedLesion:
    """A plausible mass for this scan: size, depth, shape and posterior sign drawn from the seed."""
    rng = np.random.default_rng([seed, 23])
    width = float(np.exp(rng.uniform(np.log(5.0), np.log(17.0))))
    height = width * float(rng.uniform(0.55, 1.1))
    reach = 0.5 * scan.probe.face_mm - 0.35 * width
    posterior = rng.choice(np.array(["shadow", "enhancement", "none"]), p=[0.5, 0.3, 0.2])
    kind = str(posterior)
    benign = kind == "enhancement"
    return PlantedLesion(
        x_mm=float(rng.uniform(-0.7, 0.7)) * reach,
        z_mm=float(rng.uniform(7.0 + height / 2, max(8.0 + height / 2, 0.62 * scan.depth_mm))),
        width_mm=width,
        height_mm=height * (0.8 if benign else 1.0),
        tilt_deg=float(rng.uniform(-20, 20)),
        echo_db=float(rng.uniform(-34, -26) if benign else rng.uniform(-25, -17)),
        irregularity=float(rng.uniform(0.01, 0.05) if benign else rng.uniform(0.07, 0.16)),
        margin_mm=float(rng.uniform(0.15, 0.3) if benign else rng.uniform(0.25, 0.7)),
        posterior="shadow" if kind == "shadow" else "enhancement" if benign else "none",
        seed=seed,
    )


def plant_head(scan: Scan, seed: int, circumference_mm: float | None = None) -> Head:
    """A fetal head for this scan: size (unless given), position and rotation drawn from the seed.

    The midline lies within 35 degrees of the horizontal in two heads of three, as it is looked for, and anywhere in the
    others. One head in eight leaves the field of view at one side; the others lie wholly inside where they fit.
    """
    rng = np.random.default_rng([seed, 37])
    room = scan.depth_mm - _WALL_MM - 4.0
    drawn = float(rng.uniform(SMALLEST_MM, LARGEST_MM))
    fitting = float(np.clip(drawn, SMALLEST_MM, max(room * 2.8, SMALLEST_MM)))
    ratio = float(np.clip(rng.normal(0.78, 0.025), 0.73, 0.83))
    tilt = rng.uniform(-35, 35) if rng.random() < 2 / 3 else rng.uniform(-90, 90)
    turn = float(tilt + 180 * rng.integers(2)) % 360
    head = head_of(circumference_mm or fitting, ratio, seed, (0.0, 0.0, turn))
    across, down = head.reach_mm
    top, bottom = _WALL_MM + down, scan.depth_mm - 4.0 - down
    z = float(rng.uniform(top, max(0.6 * top + 0.4 * bottom, top + 1.0)))
    head = replace(head, z_mm=z)
    side, leaves, part = rng.choice([-1.0, 1.0]), rng.random() < 0.125, rng.uniform(0.2, 0.9)
    free = _free_mm(scan, head)
    x = free + 3.0 + 0.8 * part * across if leaves else 0.85 * part * max(free, 0.0)
    return replace(head, x_mm=float(side * x))


def _free_mm(scan: Scan, head: Head) -> float:
    """How far the head may move sideways from the middle before it meets the edge of the field; negative: too wide."""
    probe = scan.probe
    angles = np.linspace(0, 2 * np.pi, 90)
    turn = np.deg2rad(head.rotation_deg)
    along, aside = head.length_mm / 2 * np.cos(angles), head.width_mm / 2 * np.sin(angles)
    x = along * np.cos(turn) - aside * np.sin(turn)
    z = head.z_mm + along * np.sin(turn) + aside * np.cos(turn)
    edge = (z + probe.radius_mm) * np.tan(probe.half_field) if probe.curved else probe.face_mm / 2
    return float(np.min(edge - np.abs(x)) - 3.0)
