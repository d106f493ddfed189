"""What a truth says about one place: a region, a box or a point; and drawn shapes as pixels of a grid.

Marks are in array axis order ([slice,] row, column) on the grid of their image, corner convention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.data.images import describe
from imaging.errors import GeometryError, Reason
from imaging.image import LPS_TO_RAS, Box, Floats, Grid

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RegionMark:
    """A labelled mask ([slice,] row, column) bool on the truth's grid; an empty one says: looked for, not there."""

    label: str
    mask: Mask


@dataclass(frozen=True, slots=True)
class BoxMark:
    """A labelled box on the truth's grid."""

    label: str
    box: Box


@dataclass(frozen=True, slots=True)
class PointMark:
    """A labelled point in array axis order, corner convention: the centre of the first pixel is at 0.5."""

    label: str
    at: tuple[float, ...]


Mark = RegionMark | BoxMark | PointMark


def patient_corners(lps_mm: Floats, grid: Grid) -> Floats:
    """Points (n, 3) in DICOM patient millimetres as corner coordinates (slice, row, column) of the grid."""
    ras = np.column_stack([lps_mm, np.ones(len(lps_mm))]) @ LPS_TO_RAS.T
    return np.asarray((ras @ np.linalg.inv(grid.affine).T)[:, :3] + 0.5)


def fill_polygon(points: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels (row, column) whose centres lie inside the closed outline `points` (n, 2) of corner coordinates.

    Even-odd rule. A centre on the outline belongs to what lies below it or right of it: pixels on a top or left edge
    are inside, those on a bottom or right edge are not, so two outlines with a common edge never share a pixel. That is
    exact where vertices are pixel centres or corners. An outline so small that it holds no pixel centre marks the pixel
    it lies in: it must not vanish.
    """
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    for one, other in zip(points, np.roll(points, -1, axis=0), strict=True):
        # From the upper end to the lower one, whichever way it is drawn, so that both its sides round alike.
        (y0, x0), (y1, x1) = (one, other) if one[0] <= other[0] else (other, one)
        low, high = (int(np.clip(np.ceil(y - 0.5), 0, shape[0])) for y in (y0, y1))
        if high > low:
            rows = np.arange(low, high)
            # Multiplied first: a crossing at a pixel centre is then exactly there, which a rounded share would miss.
            crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            turns[rows, np.clip(np.ceil(crossing - 0.5), 0, shape[1]).astype(int)] += 1
    return _at_least_one(turns[:, :-1].cumsum(axis=1) % 2 == 1, points.mean(axis=0))


def fill_ellipse(centre: Floats, half_axes: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels (row, column) whose centres lie in an ellipse: `centre` (2,), two perpendicular `half_axes` (2, 2).

    All are (row, column) in corner coordinates. What lies outside the shape is cut off; as above, none vanishes.
    """
    down = np.arange(shape[0])[:, None] + 0.5 - centre[0]
    across = np.arange(shape[1])[None, :] + 0.5 - centre[1]
    lengths = np.maximum((half_axes**2).sum(axis=1), 1e-12)
    inside = sum(((down * a[0] + across * a[1]) / length) ** 2 for a, length in zip(half_axes, lengths, strict=True))
    return _at_least_one(np.asarray(inside <= 1.0), centre)


def _at_least_one(mask: Mask, centre: Floats) -> Mask:
    if not mask.any():
        row, column = np.clip(np.floor(centre), 0, np.asarray(mask.shape) - 1).astype(int)
        mask[row, column] = True
    return mask


def other_grid(where: str, own: Grid, grid: Grid) -> GeometryError:
    """The refusal of marks on the grid `own` for an image on `grid`; `where` names their file."""
    return GeometryError(
        f"{where}: found {describe(own)}; its image has {describe(grid)}; both must be the same, unless "
        "resampling is asked for",
        Reason.GEOMETRY,
    )


def other_place(where: str) -> GeometryError:
    """The refusal of a mask of a plane that its file puts elsewhere than the image's file puts the image."""
    return GeometryError(
        f"{where}: its affine puts the plane elsewhere, or turned or transposed, than the file of its image does; both "
        "must be the same",
        Reason.GEOMETRY,
    )
