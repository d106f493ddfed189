"""Truth files → one Truth on the grid of its image: SEG, SR, RTSTRUCT, NIfTI, MHA, NRRD, pictures, and CSV of shapes.

A truth belongs to the whole source frame or volume, `image.source_grid`. Another grid is refused with both named;
the same voxels in another axis order are put in order, and only when asked for is anything resampled (nearest). An
empty truth says that nothing is there, so nothing else may become one: a missing file, a missing table row, a lesion
without a position and a result about other images are errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.data.images import READ, read_image, reorient, same_place
from imaging.data.marks import BoxMark, Mark, Mask, PointMark, RegionMark, other_grid, other_place
from imaging.data.pictures import MOST_LABELS, crisp, is_picture_file, read_mask_picture, whole
from imaging.data.truth_dicom import dicom_marks
from imaging.data.truth_table import ShapeTable, table_marks
from imaging.errors import GeometryError, InputError, Reason
from imaging.image import Array, Grid, Image, resample


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one image, on `grid`. `ignore` marks voxels of which nothing is known: they score neither way.

    Complete when built: raises GeometryError where a mask has another shape than the grid.
    """

    grid: Grid
    regions: tuple[RegionMark, ...]
    boxes: tuple[BoxMark, ...]
    points: tuple[PointMark, ...]
    ignore: Mask

    def __post_init__(self) -> None:
        for label, mask in [("ignore", self.ignore), *((r.label, r.mask) for r in self.regions)]:
            if mask.shape != self.grid.shape:
                raise GeometryError(
                    f"Truth, {label}: found a mask of {mask.shape}; its grid has {self.grid.shape}", Reason.GEOMETRY
                )

    @property
    def is_empty(self) -> bool:
        """Nothing is there, outside what is ignored."""
        return not (self.boxes or self.points or any(region.mask.any() for region in self.regions))

    def mask(self, label: str | None = None) -> Mask:
        """The union of the regions, of one label where it is named; all False when there are none."""
        union = np.zeros(self.grid.shape, dtype=np.bool_)
        for region in self.regions:
            if label in (None, region.label):
                union |= region.mask
        return union

    def label_map(self, labels: Sequence[str]) -> NDArray[np.uint8]:
        """uint8 of the grid's shape: 0 background, k where `labels[k - 1]` is.

        Raises InputError for a region with another label, and where two labels claim one voxel.
        """
        found = np.zeros(self.grid.shape, dtype=np.uint8)
        for region in self.regions:
            if region.label not in labels:
                raise InputError(
                    f"Truth: found label '{region.label}'; allowed are {list(labels)}", Reason.CONFIG_INVALID
                )
            number = labels.index(region.label) + 1
            claimed = np.count_nonzero(region.mask & (found > 0) & (found != number))
            if claimed:
                raise InputError(
                    f"Truth, '{region.label}': {claimed} voxels have another label too; allowed is one label a voxel",
                    Reason.GEOMETRY,
                )
            found[region.mask] = number
        return found


@dataclass(frozen=True)
class Rules:
    """How truth files of a data set are read.

    `names` gives the label of each value but 0 of a label map; without it a value is its own label. `ignore` are the
    labels of what is not known. `is_resampled` allows masks on another grid, by nearest neighbour. `table` is for CSVs.
    """

    names: Mapping[int, str] | None = None
    ignore: frozenset[str] = frozenset()
    is_resampled: bool = False
    table: ShapeTable = field(default_factory=ShapeTable)


def read_truth(path: Path, image: Image, rules: Rules | None = None, row: str = "") -> Truth:
    """The truth of `image` in a file. `row` is the image's name in the key column of a CSV.

    Columns of a CSV: `x0, y0, x1, y1` (a box), `cx, cy, radius` (a disc), `x, y` (a point), all in pixels, x to the
    right and y down from the top left corner, or `x_lps, y_lps, z_lps` (a point in DICOM patient millimetres). Empty
    ones are allowed where a column `lesion` says 0: nothing is there.

    Raises InputError when the file is missing, unreadable or about other images, GeometryError when its grid is not
    the image's source grid.
    """
    rules, grid = rules or Rules(), image.source_grid
    name = path.name.lower()
    if not path.is_file():
        raise InputError(
            f"truth {path.name}: there is no such file; an image with nothing in it needs an empty truth, not none",
            Reason.CONFIG_INVALID,
        )
    if name.endswith(".csv"):
        return _assembled(path, grid, table_marks(path, grid, rules.table, row), rules)
    if name.endswith(READ):
        return _assembled(path, grid, _from_label_map(path, image, rules), rules)
    return _assembled(path, grid, dicom_marks(path, image, rules.is_resampled), rules)


def read_mask(path: Path, image: Image) -> Array:
    """A mask as uint8 on the image's source grid, 1 where anything is. An empty mask means: nothing is there.

    Raises as `read_truth` does, and InputError where places are marked that have no extent.
    """
    if is_picture_file(path):
        return (_picture_values(path, image.source_grid) > 0).astype(np.uint8)
    return _outlined(path, read_truth(path, image)).mask().astype(np.uint8)


def read_values(path: Path, image: Image) -> Array:
    """A mask on the image's source grid that tells apart what the file tells apart; 0 where nothing is.

    The values of a picture, as stored but for soft edges, else a number for each label. Raises as `read_mask` does, and
    InputError where two labels claim one voxel.
    """
    if is_picture_file(path):
        return _picture_values(path, image.source_grid)
    truth = _outlined(path, read_truth(path, image))
    return truth.label_map([region.label for region in truth.regions])


def read_labels(path: Path, image: Image, labels: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 on the image's source grid: k where `labels[k - 1]` is, which is the value k of a label map.

    Raises as `read_values` does, and InputError for any other value or label.
    """
    return _outlined(path, read_truth(path, image, Rules(names=dict(enumerate(labels, start=1))))).label_map(labels)


def _outlined(path: Path, truth: Truth) -> Truth:
    if truth.boxes or truth.points:
        raise InputError(
            f"truth {path.name}: found {len(truth.boxes)} boxes and {len(truth.points)} points; allowed are masks",
            Reason.CONFIG_INVALID,
        )
    return truth


def _picture_values(path: Path, grid: Grid, names: Mapping[int, str] | None = None) -> Array:
    """The labels of a picture, its soft edges cut unless all its values are named."""
    if not path.is_file():
        raise InputError(
            f"truth {path.name}: there is no such file; an image with nothing in it needs an empty truth, not none",
            Reason.CONFIG_INVALID,
        )
    values = read_mask_picture(path)
    if values.shape != grid.shape:
        raise other_grid(f"truth {path.name}", Grid.plane(*values.shape), grid)
    if names is not None and set(np.unique(values).tolist()) <= {0, *names}:
        return values
    return crisp(f"truth {path.name}", values)


def _assembled(path: Path, grid: Grid, marks: Sequence[Mark], rules: Rules) -> Truth:
    """Marks as a Truth, with those of an ignored label taken out into the ignore mask."""
    ignore = np.zeros(grid.shape, dtype=np.bool_)
    kept: list[Mark] = []
    for mark in marks:
        if mark.label not in rules.ignore:
            kept.append(mark)
        elif isinstance(mark, RegionMark):
            ignore |= mark.mask
        elif isinstance(mark, BoxMark):
            ignore[mark.box.pixels] = True
        else:
            raise InputError(
                f"truth {path.name}: the point '{mark.label}' is to be ignored; allowed are areas", Reason.GEOMETRY
            )
    regions = tuple(mark for mark in kept if isinstance(mark, RegionMark))
    boxes = tuple(mark for mark in kept if isinstance(mark, BoxMark))
    return Truth(grid, regions, boxes, tuple(mark for mark in kept if isinstance(mark, PointMark)), ignore)


def _from_label_map(path: Path, image: Image, rules: Rules) -> list[Mark]:
    grid = image.source_grid
    if is_picture_file(path):
        placed = _picture_values(path, grid, rules.names)
    else:
        placed = _stored_labels(path, image, rules.is_resampled)
    present = [int(value) for value in np.unique(placed) if value != 0]
    if len(present) > MOST_LABELS:
        raise InputError(
            f"truth {path.name}: found {len(present)} values, so it is a picture; allowed are up to {MOST_LABELS}",
            Reason.UNSUPPORTED_PIXELS,
        )
    names = (
        {value: str(value) for value in present} if rules.names is None else {v: n for v, n in rules.names.items() if v}
    )
    if unknown := sorted(set(present) - set(names)):
        raise InputError(f"truth {path.name}: found values {unknown}; named are {names}", Reason.CONFIG_INVALID)
    return [RegionMark(label, placed == value) for value, label in names.items()]


def _stored_labels(path: Path, image: Image, is_resampled: bool) -> Array:
    """The whole numbers of a file of one channel on the image's source grid."""
    found = read_image(path)
    if len(found.array) != 1:
        raise InputError(
            f"truth {path.name}: found {len(found.array)} channels; allowed is one of whole numbers",
            Reason.UNSUPPORTED_PIXELS,
        )
    if not same_place(found.stated, image.stated, found.source_grid.shape):
        raise other_place(f"truth {path.name}")
    return _on_grid(path, whole(f"truth {path.name}", found.array[0]), found.grid, image.source_grid, is_resampled)


def _on_grid(path: Path, values: Array, own: Grid, grid: Grid, is_resampled: bool) -> Array:
    """Labels of `own` on `grid`. A picture in pixels, or beside an image in pixels, is placed pixel by pixel."""
    alike = (own.frame, len(own.shape)) == (grid.frame, len(grid.shape))
    if alike and grid.frame == "image_plane" and own.shape == grid.shape and "pixel" in (own.unit, grid.unit):
        return values
    if alike and own.unit == grid.unit:
        placed = reorient(values, own, grid)
        if placed is not None:
            return placed
        if is_resampled:
            return resample(np.ascontiguousarray(values), own, grid, order=0)
    raise other_grid(f"truth {path.name}", own, grid)
