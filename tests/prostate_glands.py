"""Prostates made of boxes in patient axes, on grids that lie as they please.

The gland is 40 mm wide, 30 deep and 27 high, its centre at x 0, y 0 and its apex at z 0 (patient_ras: x to the
patient's right, y to the front, z to the head). The transition zone is the middle 20 mm of its width, from 5 mm behind
the middle to the front. So left and right part at x 0, front and back at y 0, thirds at z 9 and 18, and lateral begins
10 mm beside the middle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from imaging.findings import Finding, cross_section
from imaging.image import Floats, Grid, SourceRef
from imaging.volume_region import Mask, Quantity, VolumeRegion

Box = tuple[float, float, float, float, float, float]
GLAND: Box = (-20, 20, -15, 15, 0, 27)
TRANSITION: Box = (-10, 10, -5, 15, 0, 27)


def turned(degrees: float, axis: int) -> Floats:
    """A rotation (3, 3) about one of x, y, z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[first, first], matrix[first, second], matrix[second, first], matrix[second, second] = c, -s, s, c
    return matrix


def lattice(directions: Floats, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    """A grid around the middle of the gland; `directions` (3, 3) has the world direction of each array axis."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = np.array([0, 0, 13.5]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine, "patient_ras")


# Slices to the head, rows to the back, columns to the patient's left: an axial scan as it is stored.
_AXIAL = np.array([[0.0, 0, -1], [0, -1, 0], [1, 0, 0]])
AXIAL = lattice(_AXIAL, (3, 1, 1), (15, 50, 60))
GRIDS = {
    "axial": AXIAL,
    "head first": lattice(_AXIAL * [-1, 1, 1], (3, 1, 1), (15, 50, 60)),
    "mirrored": lattice(_AXIAL * [1, 1, -1], (3, 1, 1), (15, 50, 60)),
    "feet first, prone": lattice(_AXIAL * [-1, -1, 1], (3, 1, 1), (15, 50, 60)),
    "sagittal": lattice(_AXIAL[:, [2, 0, 1]], (1, 1, 1), (60, 45, 50)),
    "oblique": lattice(turned(25, 0) @ turned(10, 2) @ _AXIAL, (1, 1, 1), (60, 70, 70)),
}


def inside(grid: Grid, box: Box) -> Mask:
    """The voxels whose centres lie in a box of the world: x, x, y, y, z, z in mm."""
    points = grid.world(np.argwhere(np.ones(grid.shape, dtype=np.bool_)) + 0.5)
    low, high = np.array(box[::2]), np.array(box[1::2])
    return np.asarray(np.all((points > low) & (points < high), axis=1).reshape(grid.shape))


def volume_region(grid: Grid, mask: Mask, quantities: Mapping[str, Quantity] | None = None) -> VolumeRegion:
    """The mask, cut to its voxels."""
    where = np.argwhere(mask)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    first, row, column = (int(v) for v in low)
    refs = tuple(SourceRef("1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{k}") for k in range(grid.shape[0]))
    cut = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return VolumeRegion(cut, (first, row, column), grid, refs, dict(quantities or {}))


def lesion(x: float, y: float, z: float, score: float = 0.5, grid: Grid = AXIAL, half: float = 2.1) -> Finding:
    """A cube around a point of the patient."""
    cube = (x - half, x + half, y - half, y + half, z - half, z + half)
    return cross_section("lesion", score, volume_region(grid, inside(grid, cube)))


def zones(grid: Grid = AXIAL, gland: Box = GLAND, transition: Box = TRANSITION) -> list[Finding]:
    """Peripheral and transition zone."""
    inner = inside(grid, transition)
    outer = inside(grid, gland) & ~inner
    return [
        cross_section("peripheral zone", 1.0, volume_region(grid, outer)),
        cross_section("transition zone", 1.0, volume_region(grid, inner)),
    ]


def whole(grid: Grid = AXIAL, gland: Box = GLAND, label: str = "gland") -> Finding:
    return cross_section(label, 1.0, volume_region(grid, inside(grid, gland)))
