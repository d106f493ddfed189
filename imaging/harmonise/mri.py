"""MR building blocks through SimpleITK: bias field correction, and a rigid move that must prove itself.

SimpleITK's axes are (x, y, z) and its world is LPS millimetres; arrays here are [slice, row, column] in `patient_ras`.
`_sitk` is the only place where one becomes the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import SimpleITK

from imaging.image import LPS_TO_RAS, Array, Floats, Grid, resample

_SHRINK: Final = 4  # in the plane: the field is smooth, and N4 on every voxel takes minutes
_BINS: Final = 32
_FIRST_STEP_MM, _STEPS, _MM_PER_RADIAN = 2.0, 200, 50.0  # of the registration's simplex
# A patient who moved further than this between two scans is to be seen by a reader, not moved by a registration.
_FARTHEST_MM: Final = 15.0
_FURTHEST_DEGREES: Final = 10.0
# Least gain in Mattes mutual information, relative: below it the two positions are equally good.
_LEAST_GAIN: Final = 0.05


@dataclass(frozen=True, eq=False)
class Alignment:
    """A rigid move: `matrix` (4, 4) takes world points of the moving volume to the fixed one; identity when refused.

    `before` and `after` are the agreement (mutual information, more is better) without and with the move that was
    found.
    """

    matrix: Floats
    before: float
    after: float
    is_kept: bool


def correct_bias(values: Array, grid: Grid) -> Array:
    """T2W without its bias field, float32: N4 (Tustison et al., IEEE TMI 2010).

    The field is found on a copy that is coarser in the plane, and taken out at full size. Values at or below 0 stay as
    they are. Deterministic.
    """
    image = _sitk(np.maximum(values, 0).astype(np.float32) + 1, grid)
    factors = [min(_SHRINK, n) for n in image.GetSize()[:2]] + [1]
    small = SimpleITK.Shrink(image, factors)
    inside = SimpleITK.OtsuThreshold(small, 0, 1, 128)
    filtered = SimpleITK.N4BiasFieldCorrectionImageFilter()
    filtered.SetMaximumNumberOfIterations([30, 30, 20])
    filtered.SetNumberOfThreads(1)
    filtered.Execute(small, inside)
    field = np.exp(SimpleITK.GetArrayFromImage(filtered.GetLogBiasFieldAsImage(image)))
    return np.asarray(np.where(values > 0, values / field, values), dtype=np.float32)


def align(moving: Array, moving_grid: Grid, fixed: Array, fixed_grid: Grid) -> Alignment:
    """The rigid move of `moving` onto `fixed`, kept only if it is small and makes them agree clearly better.

    Agreement is measured by itself, by mutual information where both volumes are with and without the move, and not by
    what the registration says of its own end. Deterministic: one thread, no random samples.
    """
    try:
        ras = _register(moving, moving_grid, fixed, fixed_grid)
    except RuntimeError:  # SimpleITK: the volumes do not overlap enough for any agreement
        return Alignment(np.eye(4), 0.0, 0.0, False)
    moved = Grid(moving_grid.shape, ras @ moving_grid.affine, moving_grid.frame, moving_grid.unit)
    stayed, shifted = (resample(fixed, fixed_grid, grid, fill=np.nan) for grid in (moving_grid, moved))
    both = np.isfinite(stayed) & np.isfinite(shifted)
    if not both.any():
        return Alignment(np.eye(4), 0.0, 0.0, False)
    before, after = (mutual_information(moving[both], shown[both]) for shown in (stayed, shifted))
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(ras[:3, :3]) - 1) / 2, -1, 1))))
    centre = moving_grid.world(np.asarray(moving_grid.shape)[None] / 2)[0]
    apart = float(np.linalg.norm(ras[:3, :3] @ centre + ras[:3, 3] - centre))
    # Volumes that share nothing still have this agreement, by the finite number of voxels (Miller and Madow, 1954).
    by_chance = (_BINS - 1) ** 2 / (2 * int(both.sum()))
    is_better = after - before > max(_LEAST_GAIN * before, by_chance)
    kept = is_better and apart <= _FARTHEST_MM and degrees <= _FURTHEST_DEGREES
    return Alignment(ras if kept else np.eye(4), before, after, kept)


def mutual_information(one: Array, other: Array) -> float:
    """Of two arrays of one shape, in nats, from a joint histogram between the 1st and 99th percentiles."""
    joint, _, _ = np.histogram2d(_clipped(one), _clipped(other), bins=_BINS)
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / apart[filled])).sum())


def _clipped(values: Array) -> Array:
    low, high = np.percentile(values, (1, 99))
    return np.clip(values.ravel(), low, high)


def _register(moving: Array, moving_grid: Grid, fixed: Array, fixed_grid: Grid) -> Floats:
    """The rigid move in `patient_ras` that the registration ends with, from moving to fixed."""
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(SimpleITK.sitkLinear)
    # No gradients: with thick slices they led away from a better agreement than the one they ended at.
    method.SetOptimizerAsAmoeba(_FIRST_STEP_MM, _STEPS)
    method.SetOptimizerScales([_MM_PER_RADIAN] * 3 + [1.0] * 3)
    method.SetNumberOfThreads(1)
    # The diffusion volume is the registration's fixed image: its coarser grid is where both are sampled.
    own, other = _sitk(moving, moving_grid), _sitk(fixed, fixed_grid)
    start = SimpleITK.Euler3DTransform()
    start.SetCenter(own.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in own.GetSize()]))
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(own, other)
    centre, rotation = np.array(start.GetCenter()), np.array(start.GetMatrix()).reshape(3, 3)
    lps = np.eye(4)
    lps[:3, :3] = rotation
    lps[:3, 3] = centre + np.array(start.GetTranslation()) - rotation @ centre
    return np.asarray(LPS_TO_RAS @ lps @ np.linalg.inv(LPS_TO_RAS))


def _sitk(values: Array, grid: Grid) -> SimpleITK.Image:
    """The volume as SimpleITK holds it."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32))
    lps = np.linalg.inv(LPS_TO_RAS) @ grid.affine
    image.SetOrigin([float(v) for v in lps[:3, 3]])
    image.SetSpacing([float(v) for v in grid.spacing[::-1]])
    image.SetDirection([float(v) for v in (lps[:3, :3] / np.asarray(grid.spacing))[:, ::-1].ravel()])
    return image
