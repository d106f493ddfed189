"""VolumeRegion: the whole extent of one thing found in a volume, on the voxels of its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from imaging.errors import GeometryError, Reason
from imaging.image import Floats, Grid, SourceRef

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantitative map inside a volume region: its mean and 10th percentile, in the map's own unit."""

    mean: float
    p10: float


@dataclass(frozen=True, eq=False)
class VolumeRegion:
    """A mask in a volume.

    `mask` (slice, row, column) bool, not empty, is placed at voxel `origin` of the source volume `grid`, which is in
    `patient_ras` millimetres; `refs` names the source frame of each of its slices. `quantities` are maps inside the
    mask by name (ADC, in 10^-6 mm2/s). Complete when built: raises GeometryError otherwise.
    """

    mask: Mask
    origin: tuple[int, int, int]
    grid: Grid
    refs: tuple[SourceRef, ...]
    quantities: Mapping[str, Quantity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ends = np.add(self.origin, self.mask.shape)
        inside = self.mask.ndim == 3 and min(self.origin) >= 0 and bool(np.all(ends <= self.grid.shape))
        if not (inside and self.mask.any() and len(self.refs) == self.grid.shape[0]):
            raise GeometryError(
                f"VolumeRegion: found a mask of {self.mask.shape} with {int(self.mask.sum())} voxels at "
                f"{self.origin} and {len(self.refs)} slices; allowed is one with a voxel inside the volume of "
                f"{self.grid.shape}, and a reference per slice",
                Reason.GEOMETRY,
            )

    @property
    def volume_ml(self) -> float:
        return float(self.mask.sum()) * self.grid.voxel_size / 1000.0

    @property
    def centroid_mm(self) -> Floats:
        """Mean of the voxel centres (3,), x, y, z in `patient_ras`."""
        corners = np.argwhere(self.mask).mean(axis=0) + np.asarray(self.origin) + 0.5
        return np.asarray(self.grid.world(corners[None])[0])

    @property
    def longest_diameter_mm(self) -> float:
        """Greatest distance between two points of the surface, taken at the middle of the voxel faces."""
        middles = self._face_middles()
        # The hull of an affine image is the image of the hull, and in voxels it is never flat.
        return float(pdist(self.grid.world(middles[ConvexHull(middles).vertices])).max())

    def largest_slice(self) -> tuple[int, Mask, tuple[int, int]]:
        """The slice of the volume with most voxels, the first of equals: its number, mask and first (row, column)."""
        place = int(self.mask.sum(axis=(1, 2)).argmax())
        plane = self.mask[place]
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        cut = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        first, top, left = self.origin
        return first + place, cut, (int(top + rows[0]), int(left + columns[0]))

    def full_mask(self) -> Mask:
        """The mask on the whole source volume."""
        whole = np.zeros(self.grid.shape, dtype=np.bool_)
        whole[tuple(slice(o, o + n) for o, n in zip(self.origin, self.mask.shape, strict=True))] = self.mask
        return whole

    def _face_middles(self) -> Floats:
        """The middle of every voxel face on the surface, (faces, 3) corner coordinates of the source volume."""
        padded = np.pad(self.mask, 1)
        found = []
        for axis in range(3):
            between = np.diff(padded.astype(np.int8), axis=axis) != 0
            middle = np.argwhere(between).astype(np.float64) - 0.5
            middle[:, axis] += 0.5
            found.append(middle)
        return np.asarray(np.concatenate(found) + np.asarray(self.origin))
