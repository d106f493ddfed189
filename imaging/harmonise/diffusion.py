"""Diffusion-weighted signals → apparent diffusion coefficient (ADC), and the signal at a b-value that was not acquired.

The model is S(b) = S0 · exp(−b · ADC) (Stejskal and Tanner, J Chem Phys 1965; Le Bihan et al., Radiology 1986). ADC is
in 10⁻⁶ mm²/s throughout, b in s/mm². Pure arrays: any shape, as long as all b-values have the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import InputError, Reason
from imaging.image import Array

Signal = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Below it blood in capillaries adds to the decay (Le Bihan et al., Radiology 1988); PI-RADS v2.1 fits from 50-100 on.
_LEAST_B: Final = 50.0
# Above it the decay of tissue is no single exponential any more: PI-RADS v2.1 leaves out b > 1000 for the ADC.
_LARGEST_B: Final = 1000.0
_PER_MM2: Final = 1e-6


@dataclass(frozen=True, eq=False)
class AdcFit:
    """ADC in 10⁻⁶ mm²/s and S0 in units of the signal, float32; 0 where not `valid`. `b_values` are those used."""

    adc: Signal
    s0: Signal
    valid: Mask
    b_values: tuple[float, ...]


def fit_adc(signals: Sequence[Array], b_values: Sequence[float], floor: float = 0.0, weighted: bool = False) -> AdcFit:
    """The ADC by log-linear least squares over the b-values that suit it (`suited`).

    `signals` are one array per b-value, of one shape. A voxel is valid where each signal used is finite and above
    `floor` (the level of noise), and the ADC is above 0. All b-values count alike, as in the maps that scanners make.
    `weighted` weighs ln S by S², which undoes what the logarithm does to noise (Salvador et al., Hum Brain Mapp 2005)
    but leans on the lowest b-value, where perfusion adds most; for two b-values it changes nothing. Raises InputError
    when fewer than two b-values differ or shapes do.
    """
    shapes = {np.shape(signal) for signal in signals}
    if len(signals) != len(b_values) or len(shapes) != 1:
        raise InputError(
            f"fit_adc: {len(signals)} signals of shapes {sorted(shapes)} for b-values {list(b_values)}; allowed is one "
            "per b-value, all of one shape",
            Reason.GEOMETRY,
        )
    used = suited(b_values)
    b = np.array([b_values[k] for k in used])
    stack = np.stack([np.asarray(signals[k], np.float32) for k in used])
    valid: Mask = np.all(np.isfinite(stack) & (stack > floor), axis=0)
    safe = np.where(valid, stack, np.float32(1.0)).astype(np.float64)
    slope, height = _line(b, np.log(safe), safe**2 if weighted else np.ones_like(safe))
    valid = valid & (slope < 0)
    adc = np.where(valid, -slope / _PER_MM2, 0.0)
    s0 = np.where(valid, np.exp(np.minimum(height, 80.0)), 0.0)
    return AdcFit(adc.astype(np.float32), s0.astype(np.float32), valid, tuple(b.tolist()))


def suited(b_values: Sequence[float]) -> list[int]:
    """Which of the b-values an ADC is fitted from: 50 to 1000 s/mm², then with those below, then all of them.

    Each is taken only if the one before it leaves less than two different values. Raises InputError when fewer than
    two differ at all.
    """
    bounds = ((_LEAST_B, _LARGEST_B), (0.0, _LARGEST_B), (0.0, np.inf))
    for low, high in bounds:
        kept = [k for k, b in enumerate(b_values) if low <= b <= high]
        if len({b_values[k] for k in kept}) >= 2:
            return kept
    raise InputError(
        f"fit_adc: b-values {list(b_values)}; an ADC needs two different ones of 0 s/mm² or more", Reason.NO_B_VALUE
    )


def computed_signal(fit: AdcFit, b: float) -> Signal:
    """The signal that the fit predicts at b-value `b`, float32; 0 where the fit is not valid.

    Computed high b-values have less noise than acquired ones (Blackledge et al., Radiology 2011). Raises InputError
    for a b-value that is negative or not finite.
    """
    if not (np.isfinite(b) and b >= 0):
        raise InputError(f"computed_signal: b-value {b}; allowed are finite ones of 0 or more", Reason.BAD_B_VALUE)
    signal = fit.s0.astype(np.float64) * np.exp(-b * fit.adc.astype(np.float64) * _PER_MM2)
    return np.where(fit.valid, signal, 0.0).astype(np.float32)


def _line(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Slope and height at 0 of the line through `y` (n, ...) at `x` (n,), by weighted least squares."""
    x = x.reshape(-1, *[1] * (y.ndim - 1))
    total = weights.sum(axis=0)
    mean_x, mean_y = (weights * x).sum(axis=0) / total, (weights * y).sum(axis=0) / total
    spread = (weights * (x - mean_x) ** 2).sum(axis=0)
    slope = (weights * (x - mean_x) * (y - mean_y)).sum(axis=0) / np.maximum(spread, np.finfo(np.float64).tiny)
    return slope, mean_y - slope * mean_x
