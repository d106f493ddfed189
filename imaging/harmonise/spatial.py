"""Spatial building blocks as MONAI transforms. Every step edits the affine, and the affine is the only way home.

A tensor here is a MONAI MetaTensor (channel, row, column) whose `affine` is 4 × 4 with the plane in its first two
axes; `meta` keeps `frame` and `unit` of its grid and nothing else. MONAI's own readers and `Resize` are not
used: readers transpose images silently, and resizing by corner ratios misses voxel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from scipy import ndimage

from imaging.errors import GeometryError, Reason
from imaging.image import Box, Grid, Image, resample


def to_tensor(image: Image) -> MetaTensor:
    """The image as a float32 MetaTensor (channel, row, column), with its grid in the affine."""
    tensor = MetaTensor(torch.from_numpy(np.array(image.array, dtype=np.float32)))
    return place(tensor, image.grid)


def luminance_tensor(pixels: np.ndarray, grid: Grid) -> MetaTensor:
    """Float32 luminance (row, column) as a MetaTensor (1, row, column) on its grid, without a copy."""
    tensor = MetaTensor(torch.from_numpy(np.ascontiguousarray(pixels[None], dtype=np.float32)))
    return place(tensor, grid)


def grid_of(tensor: MetaTensor) -> Grid:
    """Where the tensor's pixels are."""
    dims = tensor.ndim - 1
    affine = np.asarray(tensor.affine, dtype=np.float64)
    keep = [*range(dims), 3]
    return Grid(tuple(tensor.shape[1:]), affine[np.ix_(keep, keep)], tensor.meta["frame"], tensor.meta["unit"])


def place(tensor: MetaTensor, grid: Grid) -> MetaTensor:
    """The tensor itself, said to lie on the grid."""
    dims = len(grid.shape)
    affine = np.eye(4)
    keep = [*range(dims), 3]
    affine[np.ix_(keep, keep)] = grid.affine
    tensor.affine = torch.as_tensor(affine, dtype=torch.float64)
    tensor.meta.update(frame=grid.frame, unit=grid.unit)
    return tensor


def _moved(tensor: MetaTensor, array: np.ndarray, grid: Grid) -> MetaTensor:
    """New pixels on a new grid with what else MONAI knows of the tensor."""
    return place(MetaTensor(torch.as_tensor(np.ascontiguousarray(array)), meta=dict(tensor.meta)), grid)


@dataclass(frozen=True)
class Crop(Transform):
    """The box that starts at `low` (row, column) with `shape`; where it reaches outside, `fill` stands. Exact."""

    low: tuple[int, ...]
    shape: tuple[int, ...]
    fill: float = 0.0

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        array = tensor.numpy()
        sizes = np.asarray(array.shape[1:])
        low, high = np.asarray(self.low), np.asarray(self.low) + np.asarray(self.shape)
        inside_low, inside_high = np.clip(low, 0, sizes), np.clip(high, 0, sizes)
        out = np.full((array.shape[0], *self.shape), self.fill, dtype=array.dtype)
        source = tuple(slice(a, b) for a, b in zip(inside_low, inside_high, strict=True))
        place = tuple(slice(a, b) for a, b in zip(inside_low - low, inside_high - low, strict=True))
        out[(slice(None), *place)] = array[(slice(None), *source)]
        return _moved(tensor, out, grid_of(tensor).crop(self.low, self.shape))


@dataclass(frozen=True)
class Flip(Transform):
    """The order of one array axis (0 is the first after the channel) reversed; world positions stay. Exact."""

    axis: int

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        grid = grid_of(tensor)
        affine = grid.affine.copy()
        affine[:-1, -1] += affine[:-1, self.axis] * (grid.shape[self.axis] - 1)
        affine[:-1, self.axis] *= -1
        flipped = Grid(grid.shape, affine, grid.frame, grid.unit)
        return _moved(tensor, np.flip(tensor.numpy(), self.axis + 1), flipped)


@dataclass(frozen=True)
class Transpose(Transform):
    """Rows and columns of a plane exchanged; world positions stay. Exact."""

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        grid = grid_of(tensor)
        exchanged = Grid(grid.shape[::-1], grid.affine[:, [1, 0, 2]], grid.frame, grid.unit)
        return _moved(tensor, tensor.numpy().swapaxes(1, 2), exchanged)


@dataclass(frozen=True)
class Respace(Transform):
    """Pixels of `spacing` (per array axis, in the grid's unit) over the same field of view, in whole pixels."""

    spacing: tuple[float, ...]
    order: int = 1

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        grid = grid_of(tensor)
        extent = np.asarray(grid.shape) * np.asarray(grid.spacing)
        shape = tuple(int(n) for n in np.maximum(1, np.ceil(extent / self.spacing - 1e-6)))
        return _sampled(tensor, _centred(grid, self.spacing, shape), self.order)


@dataclass(frozen=True)
class FitSquare(Transform):
    """A square of `side` pixels that are square in the world, with the whole field of view centred in it.

    An anisotropic image becomes isotropic; an uncalibrated one keeps its aspect. Outside the field of view stands 0.
    """

    side: int
    order: int = 1

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        grid = grid_of(tensor)
        step = float(np.max(np.asarray(grid.shape) * np.asarray(grid.spacing))) / self.side
        return _sampled(tensor, _centred(grid, (step, step), (self.side, self.side)), self.order)


def _centred(grid: Grid, spacing: tuple[float, ...], shape: tuple[int, ...]) -> Grid:
    """A grid of the same directions and centre with another spacing and shape."""
    scale = np.asarray(spacing) / np.asarray(grid.spacing)
    affine = grid.affine.copy()
    affine[:-1, :-1] = grid.affine[:-1, :-1] * scale
    centre = grid.affine[:-1, :-1] @ ((np.asarray(grid.shape) - 1) / 2) + grid.affine[:-1, -1]
    affine[:-1, -1] = centre - affine[:-1, :-1] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, affine, grid.frame, grid.unit)


def _sampled(tensor: MetaTensor, target: Grid, order: int) -> MetaTensor:
    grid = grid_of(tensor)
    planes = [resample(plane, grid, target, order) for plane in tensor.numpy()]
    return _moved(tensor, np.stack(planes), target)


@dataclass(frozen=True)
class CropToTissue(Transform):
    """The declared 2-D tissue region; without one, the largest echo area, with everything beside it set to 0.

    Text, logos and calipers beside the tissue leak labels and can be identity, so nothing outside the area remains.
    Raises GeometryError when there is no echo at all. `region` is the declared one, in whole pixels.
    """

    region: Box | None

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        if self.region is not None:
            rows, columns = self.region.pixels
            return Crop((rows.start, columns.start), (rows.stop - rows.start, columns.stop - columns.start))(tensor)
        area = echo_area(tensor.numpy()[0])
        down, across = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
        kept = _moved(tensor, tensor.numpy() * area, grid_of(tensor))
        shape = (int(down[-1] - down[0] + 1), int(across[-1] - across[0] + 1))
        return Crop((int(down[0]), int(across[0])), shape)(kept)


def echo_area(luminance: np.ndarray) -> np.ndarray:
    """The fan or rectangle of tissue in a frame (row, column) without declared regions, as a bool mask.

    Thin structures (text, rulers, frames) vanish under an opening; the largest part that remains, its gaps closed and
    its holes filled, is the tissue. Raises GeometryError when nothing remains.
    """
    lit = luminance > max(2.0, 0.02 * float(luminance.max()))
    reach = max(2, min(luminance.shape) // 60)
    volume_region = ndimage.binary_closing(np.pad(lit, 2 * reach), iterations=reach)
    volume_region = ndimage.binary_opening(volume_region, iterations=2 * reach)[
        2 * reach : -2 * reach, 2 * reach : -2 * reach
    ]
    parts, count = ndimage.label(volume_region)
    if count == 0:
        raise GeometryError(
            f"image of {luminance.shape[0]} × {luminance.shape[1]}: no declared region and no echo area found",
            Reason.NO_TISSUE_REGION,
        )
    largest = parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1
    return np.asarray(ndimage.binary_fill_holes(largest))
