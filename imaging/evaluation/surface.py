"""Distances between the surfaces of two masks, in the unit of the spacing.

A surface is the set of voxels of a mask with a face towards outside it (the array's border counts as outside), which
is what MONAI and most challenges measure. Only the box around both masks is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from imaging.candidates import window_of
from imaging.errors import GeometryError, Reason
from imaging.evaluation.matching import Array, Bools, Floats

_N_STEPS = 400


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Nearest distances (n,) float32 from the prediction's surface voxels to the truth's surface, and back (m,)."""

    to_truth: Array
    to_prediction: Array

    def hd95(self) -> float:
        """The larger of both 95th percentiles."""
        return float(max(np.quantile(d, np.float32(0.95)) for d in (self.to_truth, self.to_prediction)))

    def assd(self) -> float:
        """Mean over all surface voxels of both masks."""
        both = np.concatenate([self.to_truth, self.to_prediction])
        return float(both.mean(dtype=np.float64))

    def nsd(self, tolerance: float) -> float:
        """Normalised surface distance: share of both surfaces within the tolerance (Nikolov, JMIR 23:e26151, 2021)."""
        within = np.count_nonzero(self.to_truth <= tolerance) + np.count_nonzero(self.to_prediction <= tolerance)
        return float(within / (self.to_truth.size + self.to_prediction.size))


def surface_distances(prediction: Bools, truth: Bools, spacing: tuple[float, ...]) -> SurfaceDistances:
    """Distances between two masks ([slice,] row, column) of one shape, neither of them empty."""
    if prediction.shape != truth.shape or len(spacing) != truth.ndim:
        raise GeometryError(
            f"surface distances: found masks {prediction.shape} and {truth.shape} with spacing {spacing}; "
            "allowed are two of one shape with a spacing per axis",
            Reason.GEOMETRY,
        )
    window = window_of(prediction | truth)
    assert window is not None and prediction.any() and truth.any(), "the empty policy is applied before"  # noqa: PT018
    return _between(surface(prediction[window]), surface(truth[window]), np.asarray(spacing, dtype=np.float64))


def surface(mask: Bools) -> Bools:
    """Voxels of the mask with a face neighbour outside it; outside the array is outside the mask."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        left, whole = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        left[1:] &= whole[:-1]
        left[:-1] &= whole[1:]
        left[[0, -1]] = False
    return np.asarray(mask & ~inner)


def _between(prediction: Bools, truth: Bools, spacing: Floats) -> SurfaceDistances:
    return SurfaceDistances(_nearest(prediction, truth, spacing), _nearest(truth, prediction, spacing))


def _nearest(edge: Bools, target: Bools, spacing: Floats) -> Array:
    """Distance (n,) float32 of each voxel of `edge` to the nearest of `target`.

    Most surfaces lie close together, so the nearest places around every voxel are tried in the order of their
    distance; only voxels with nothing there are looked up in a tree.
    """
    steps, lengths = _around(spacing)
    reach = np.abs(steps).max(axis=0)
    padded = np.pad(target, [(n, n) for n in reach.tolist()])
    strides = np.array(padded.strides)  # a bool takes one byte, so these count voxels
    flat = padded.ravel()
    points = np.argwhere(edge)
    distance = np.zeros(len(points), dtype=np.float32)
    alive, place = np.arange(len(points)), (points + reach) @ strides
    for step, length in zip((steps @ strides).tolist(), lengths.tolist(), strict=True):
        hit = flat[place + step]
        distance[alive[hit]] = length
        alive, place = alive[~hit], place[~hit]
        if alive.size == 0:
            return distance
    tree = KDTree(np.argwhere(target) * spacing, leafsize=32)
    distance[alive] = tree.query(points[alive] * spacing)[0]
    return distance


def _around(spacing: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Some 400 steps (k, axis) to the nearest voxels, sorted by their lengths (k,)."""
    dims = spacing.size
    radius = (_N_STEPS * np.prod(spacing) / (np.pi if dims == 2 else 4 / 3 * np.pi)) ** (1 / dims)
    reach = np.floor(radius / spacing).astype(np.intp)
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, dims)
    lengths = np.linalg.norm(steps * spacing, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return steps[order], lengths[order]
