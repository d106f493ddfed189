"""The golden phantom of prostate packages: a drawn exam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from imaging.golden import volume
from imaging.image import Image
from imaging.modalities.prostate.selection import ADC, HIGH_B, T2W


def drawn_exam() -> Image:
    """A T2W volume of 24 slices with ADC and high b beside it: an ellipsoid in grainy tissue, a dark focus in it.

    Signals are of no scanner; the ADC is in 10⁻⁶ mm²/s.
    """
    values = {T2W: (120.0, 300.0, 140.0), ADC: (1200.0, 1700.0, 700.0), HIGH_B: (60.0, 50.0, 140.0)}
    made = {role: _drawn_volume(levels, 80 if role == T2W else 40) for role, levels in values.items()}
    beside = {ADC: made[ADC], HIGH_B: replace(made[HIGH_B], b_value=800.0)}
    return replace(made[T2W], beside=beside)


def _drawn_volume(levels: tuple[float, float, float], side: int) -> Image:
    """uint16 (24, side, side) of 72 × 80 × 80 mm; `levels` are those of tissue, organ and focus."""
    steps = np.array([3.0, 80.0 / side, 80.0 / side])
    z, y, x = (
        (np.arange(n) - (n - 1) / 2).reshape(shape) * step
        for n, shape, step in zip((24, side, side), ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), steps, strict=True)
    )
    organ = (z / 20) ** 2 + (y / 17) ** 2 + (x / 23) ** 2 < 1
    focus = (z / 6) ** 2 + ((y - 9) / 5) ** 2 + ((x - 10) / 6) ** 2 < 1
    grain = gaussian_filter(np.random.default_rng(3).normal(size=(24, side, side)), (0, 1, 1))
    level = np.where(focus, levels[2], np.where(organ, levels[1], levels[0])) * (1 + 0.3 * grain)
    affine = np.eye(4)
    # Slices to the head, rows to the back, columns to the left, around the origin.
    affine[:3, :3] = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]) * steps
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([24, side, side]) - 1) / 2)
    return volume(np.clip(np.rint(level), 0, 4095).astype(np.uint16), affine)
