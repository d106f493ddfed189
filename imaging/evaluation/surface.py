"""Distances between the surfaces of two masks, in the unit of the spacing.

A surface is the set of voxels of a mask with a face towards outside it (the array's border counts as outside), which
is what MONAI and most challenges measure. Only the box around both masks is looked at, and only surface voxels that
the masks do not share: a shared one is at distance 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from imaging.errors import GeometryError, Reason
from imaging.evaluation.matching import Array, Bools, Floats, window_of


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
    points = [np.argwhere(edge) for edge in (prediction, truth)]
    shared = [other[edge] for edge, other in ((prediction, truth), (truth, prediction))]
    found = []
    for mine, apart, theirs in zip(points, (~shared[0], ~shared[1]), points[::-1], strict=True):
        distance = np.zeros(len(mine), dtype=np.float32)
        if apart.any():
            tree = KDTree(theirs * spacing, leafsize=32)
            distance[apart] = tree.query(mine[apart] * spacing)[0]
        found.append(distance)
    return SurfaceDistances(*found)
