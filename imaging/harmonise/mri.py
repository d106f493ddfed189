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
# A patient who moved further than this between two scans is to be seen by a reader, not moved by a registration.
_FARTHEST_MM: Final = 15.0
_FURTHEST_DEGREES: Final = 10.0
# Least gain in Mattes mutual information, relative: below it the two positions are equally good.
_LEAST_GAIN: Final = 0.02


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

    Agreement is measured by itself, by mutual information of what both show on the moving grid, and not by what the
    registration says of its own end. Deterministic: a fixed seed and one thread.
    """
    ras = _register(moving, moving_grid, fixed, fixed_grid)
    shown = resample(fixed, fixed_grid, moving_grid)
    moved = Grid(moving_grid.shape, ras @ moving_grid.affine, moving_grid.frame, moving_grid.unit)
    before = mutual_information(moving, shown)
    after = mutual_information(moving, resample(fixed, fixed_grid, moved))
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(ras[:3, :3]) - 1) / 2, -1, 1))))
    centre = moving_grid.world(np.asarray(moving_grid.shape)[None] / 2)[0]
    apart = float(np.linalg.norm(ras[:3, :3] @ centre + ras[:3, 3] - centre))
    kept = after > before * (1 + _LEAST_GAIN) and apart <= _FARTHEST_MM and degrees <= _FURTHEST_DEGREES
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
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
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
