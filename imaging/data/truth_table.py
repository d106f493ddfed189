"""The truth of one image in a CSV of shapes, a line each: boxes, discs, points, or that nothing is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from imaging.data.images import describe
from imaging.data.marks import BoxMark, Mark, PointMark, RegionMark, fill_ellipse, patient_corners
from imaging.errors import GeometryError, InputError, Reason
from imaging.image import Box, Floats, Grid
from imaging.table import Line, clean, read_table

Convention = Literal["corner", "index"]


@dataclass(frozen=True, slots=True)
class ShapeTable:
    """How a CSV of shapes is read. `key` is the column that names the image, `label` the one that names the thing.

    `convention` says what its coordinates count: `corner` (the first pixel spans 0 to 1), or `index` (pixels by
    number from 0, boxes with both ends included).
    """

    key: str = "image"
    label: str = "label"
    convention: Convention = "corner"


def table_marks(path: Path, grid: Grid, table: ShapeTable, row: str) -> list[Mark]:
    """The marks of one image. Raises InputError when no row names it, or a lesion has no position."""
    read = read_table(path, f"truth {path.name}", (table.key,), InputError)
    columns, lines = read.columns, [line for line in read.lines if line.text(table.key) == clean(row)]
    kinds = [kind for kind in _SHAPES if set(kind) <= set(columns)]
    if len(kinds) != 1:
        raise InputError(
            f"truth {path.name}, line 1: found columns {list(columns)}; needed are '{table.key}' and one of "
            f"{list(_SHAPES)}",
            Reason.CONFIG_INVALID,
        )
    if not lines:
        raise InputError(
            f"truth {path.name}: no line has {table.key} '{row}'; an image with nothing in it needs a line with "
            "lesion 0",
            Reason.CONFIG_INVALID,
        )
    found = (_table_mark(line, kinds[0], grid, table) for line in lines)
    return [mark for mark in found if mark is not None]


def _table_mark(line: Line, kind: tuple[str, ...], grid: Grid, table: ShapeTable) -> Mark | None:
    if not any(line.cells[name] for name in kind) and line.text("lesion") == "0":
        return None
    allowed = "a number, or none in all of them where lesion is 0: a lesion without a position is no truth"
    values = np.array([line.decimal(name, allowed) for name in kind])
    label = line.text(table.label) or "lesion"
    return _SHAPES[kind](line.where, label, values, grid, table.convention)


def _box(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    x0, y0, x1, y1 = values + ([0, 0, 1, 1] if convention == "index" else [0, 0, 0, 0])
    if not (x0 < x1 and y0 < y1):
        raise InputError(f"{where}: box {values.tolist()}; allowed are x0 < x1 and y0 < y1", Reason.GEOMETRY)
    _check_inside(where, [(y0, x0), (y1, x1)], grid)
    return BoxMark(label, Box.from_xy(float(x0), float(y0), float(x1), float(y1)))


def _disc(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    x, y, radius = values + ([0.5, 0.5, 0.0] if convention == "index" else [0.0, 0.0, 0.0])
    if radius <= 0:
        raise InputError(f"{where}: radius {radius:g}; allowed are positive ones", Reason.GEOMETRY)
    _check_inside(where, [(y, x)], grid)
    centre = np.array([y, x])
    return RegionMark(label, fill_ellipse(centre, np.diag([radius, radius]), grid.shape))


def _pixel_point(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    x, y = values + (0.5 if convention == "index" else 0.0)
    _check_inside(where, [(y, x)], grid)
    return PointMark(label, (float(y), float(x)))


def _patient_point(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    del convention  # a place in the patient has none
    if grid.frame != "patient_ras":
        raise InputError(f"{where}: a point in the patient for an image in {grid.frame}", Reason.GEOMETRY)
    at = patient_corners(values[None], grid)
    _check_inside(where, at, grid)
    return PointMark(label, tuple(at[0].tolist()))


def _check_inside(where: str, corners: Any, grid: Grid) -> None:
    """Corner coordinates must lie inside the image. Raises GeometryError, also for a 2-D shape on a volume."""
    places = np.asarray(corners, dtype=np.float64)
    if places.shape[1] != len(grid.shape):
        raise GeometryError(f"{where}: a shape in a plane for an image of {describe(grid)}", Reason.GEOMETRY)
    if np.any(places < 0) or np.any(places > grid.shape):
        raise GeometryError(
            f"{where}: reaches {places.tolist()} (row, column); the image has {describe(grid)}; is the convention "
            "(corner or index) the table's?",
            Reason.GEOMETRY,
        )


_Shape = Callable[[str, str, Floats, Grid, Convention], Mark]
_SHAPES: Final[dict[tuple[str, ...], _Shape]] = {
    ("x0", "y0", "x1", "y1"): _box,
    ("cx", "cy", "radius"): _disc,
    ("x", "y"): _pixel_point,
    ("x_lps", "y_lps", "z_lps"): _patient_point,
}
