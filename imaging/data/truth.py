"""Truth files → one Truth on the grid of its image: SEG, SR, RTSTRUCT, NIfTI, MHA, PNG, and CSV of shapes.

A truth belongs to the whole source frame or volume, `image.source_grid`. Another grid is refused with both named;
the same voxels in another axis order are put in order, and only when asked for is anything resampled (nearest). An
empty truth says that nothing is there, so nothing else may become one: a missing file, a missing table row, a lesion
without a position and a result about other images are errors.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from imaging.data.images import LPS_TO_RAS, SAME_PLACE, describe, read_image, reorient
from imaging.dicom.content_tree import Reference
from imaging.dicom.elements import numbers
from imaging.dicom.index import read_header
from imaging.dicom.results import ReadFinding, ReadReport, ReadSegment, ReadSegmentation, read_result
from imaging.errors import GeometryError, ImagingError, InputError, Reason
from imaging.image import Array, Floats, Grid, Image, resample

Mask = NDArray[np.bool_]
Convention = Literal["corner", "index"]
# More values than this are grey levels or probabilities, not labels.
_MOST_LABELS: Final = 64
_LABEL_MAPS: Final = (".nii", ".nii.gz", ".mha", ".mhd", ".png")
_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"
# How far, in slices, a contour may lie from the plane of the slice it is drawn on.
_ON_PLANE: Final = 0.1


@dataclass(frozen=True, eq=False)
class Region:
    """A labelled mask ([slice,] row, column) bool on the truth's grid; an empty one says: looked for, not there."""

    label: str
    mask: Mask


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled box: `low` and `high` corner in array axis order, corner convention (the first pixel spans 0 to 1)."""

    label: str
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled point in array axis order, corner convention: the centre of the first pixel is at 0.5."""

    label: str
    at: tuple[float, ...]


Mark = Region | Box | Point


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one image, on `grid`. `ignore` marks voxels of which nothing is known: they score neither way.

    Complete when built: raises GeometryError where a mask has another shape than the grid.
    """

    grid: Grid
    regions: tuple[Region, ...]
    boxes: tuple[Box, ...]
    points: tuple[Point, ...]
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


@dataclass(frozen=True, slots=True)
class Table:
    """How a CSV of shapes is read. `key` is the column that names the image, `label` the one that names the thing.

    `convention` says what its coordinates count: `corner` (the first pixel spans 0 to 1), or `index` (pixels by
    number from 0, boxes with both ends included).
    """

    key: str = "image"
    label: str = "label"
    convention: Convention = "corner"


@dataclass(frozen=True)
class Rules:
    """How truth files of a data set are read.

    `names` gives the label of each value but 0 of a label map; without it a value is its own label. `ignore` are the
    labels of what is not known. `is_resampled` allows masks on another grid, by nearest neighbour. `table` is for CSVs.
    """

    names: Mapping[int, str] | None = None
    ignore: frozenset[str] = frozenset()
    is_resampled: bool = False
    table: Table = field(default_factory=Table)


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
        return _assembled(path, grid, _from_table(path, grid, rules.table, row), rules)
    if name.endswith(_LABEL_MAPS):
        return _assembled(path, grid, _from_label_map(path, grid, rules), rules)
    return _assembled(path, grid, _from_dicom(path, image, rules), rules)


def read_mask(path: Path, grid: Grid) -> Array:
    """A PNG mask as uint8 (row, column), 1 where the picture is not 0. An empty mask means: nothing is there.

    Raises InputError when the file is not a grey picture, GeometryError when its size is not the image's.
    """
    try:
        with Picture.open(path) as picture:
            values = np.asarray(picture)
    except OSError as error:
        raise InputError(f"truth {path.name}: cannot be read as a picture", Reason.UNSUPPORTED_PIXELS) from error
    if values.ndim != 2:
        raise InputError(
            f"truth {path.name}: found {values.ndim} axes; allowed is one grey channel", Reason.UNSUPPORTED_PIXELS
        )
    if values.shape != grid.shape:
        raise GeometryError(
            f"truth {path.name}: found {values.shape[0]} × {values.shape[1]} pixels; its image has "
            f"{grid.shape[0]} × {grid.shape[1]} (rows × columns)",
            Reason.GEOMETRY,
        )
    return (values > 0).astype(np.uint8)


def _assembled(path: Path, grid: Grid, marks: Sequence[Mark], rules: Rules) -> Truth:
    """Marks as a Truth, with those of an ignored label taken out into the ignore mask."""
    ignore = np.zeros(grid.shape, dtype=np.bool_)
    kept: list[Mark] = []
    for mark in marks:
        if mark.label not in rules.ignore:
            kept.append(mark)
        elif isinstance(mark, Region):
            ignore |= mark.mask
        elif isinstance(mark, Box):
            # The pixels whose centres lie inside the box.
            low, high = (np.ceil(np.asarray(corner) - 0.5).astype(int) for corner in (mark.low, mark.high))
            ignore[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        else:
            raise InputError(
                f"truth {path.name}: the point '{mark.label}' is to be ignored; allowed are areas", Reason.GEOMETRY
            )
    regions = tuple(mark for mark in kept if isinstance(mark, Region))
    boxes = tuple(mark for mark in kept if isinstance(mark, Box))
    return Truth(grid, regions, boxes, tuple(mark for mark in kept if isinstance(mark, Point)), ignore)


def _other_grid(path: Path, own: Grid, grid: Grid) -> GeometryError:
    return GeometryError(
        f"truth {path.name}: found {describe(own)}; its image has {describe(grid)}; both must be the same, unless "
        "resampling is asked for",
        Reason.GEOMETRY,
    )


# Label maps


def _from_label_map(path: Path, grid: Grid, rules: Rules) -> list[Mark]:
    image = read_image(path)
    values = image.array[0]
    if len(image.array) != 1 or not (np.isfinite(values) & (values == np.rint(values))).all():
        raise InputError(
            f"truth {path.name}: found {len(image.array)} channels of {values.dtype}; allowed is one of whole numbers",
            Reason.UNSUPPORTED_PIXELS,
        )
    present = [int(value) for value in np.unique(values) if value != 0]
    if len(present) > _MOST_LABELS:
        raise InputError(
            f"truth {path.name}: found {len(present)} values, so it is a picture; allowed are up to {_MOST_LABELS}",
            Reason.UNSUPPORTED_PIXELS,
        )
    names = (
        {value: str(value) for value in present} if rules.names is None else {v: n for v, n in rules.names.items() if v}
    )
    if unknown := sorted(set(present) - set(names)):
        raise InputError(f"truth {path.name}: found values {unknown}; named are {names}", Reason.CONFIG_INVALID)
    placed = _on_grid(path, values, image.grid, grid, rules.is_resampled)
    return [Region(label, placed == value) for value, label in names.items()]


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
    raise _other_grid(path, own, grid)


# Tables


def _from_table(path: Path, grid: Grid, table: Table, row: str) -> list[Mark]:
    """The marks of one image. Raises InputError when no row names it, or a lesion has no position."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            lines = [(number, line) for number, line in enumerate(reader, start=2) if line.get(table.key) == row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"truth {path.name}: is no CSV in UTF-8", Reason.CONFIG_INVALID) from error
    kinds = [kind for kind in _SHAPES if set(kind) <= set(columns)]
    if table.key not in columns or len(kinds) != 1:
        raise InputError(
            f"truth {path.name}: found columns {columns}; needed are '{table.key}' and one of {list(_SHAPES)}",
            Reason.CONFIG_INVALID,
        )
    if not lines:
        raise InputError(
            f"truth {path.name}: no line has {table.key} '{row}'; an image with nothing in it needs a line with "
            "lesion 0",
            Reason.CONFIG_INVALID,
        )
    found = (_table_mark(f"truth {path.name}, line {n}", line, kinds[0], grid, table) for n, line in lines)
    return [mark for mark in found if mark is not None]


def _table_mark(
    where: str, line: Mapping[str, str | None], kind: tuple[str, ...], grid: Grid, table: Table
) -> Mark | None:
    told = [(line[name] or "").strip() for name in kind]
    if not any(told) and (line.get("lesion") or "").strip() == "0":
        return None
    try:
        values = np.array([float(text) for text in told])
    except ValueError:
        values = np.array([np.nan])
    if not np.all(np.isfinite(values)):
        raise InputError(
            f"{where}: {', '.join(kind)} are {told}; allowed are numbers, or none where lesion is 0: a lesion without "
            "a position is no truth for its image",
            Reason.CONFIG_INVALID,
        )
    label = (line.get(table.label) or "").strip() or "lesion"
    return _SHAPES[kind](where, label, values, grid, table.convention)


def _box(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    x0, y0, x1, y1 = values + ([0, 0, 1, 1] if convention == "index" else [0, 0, 0, 0])
    if not (x0 < x1 and y0 < y1):
        raise InputError(f"{where}: box {values.tolist()}; allowed are x0 < x1 and y0 < y1", Reason.GEOMETRY)
    _check_inside(where, [(y0, x0), (y1, x1)], grid)
    return Box(label, (float(y0), float(x0)), (float(y1), float(x1)))


def _disc(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    x, y, radius = values + ([0.5, 0.5, 0.0] if convention == "index" else [0.0, 0.0, 0.0])
    if radius <= 0:
        raise InputError(f"{where}: radius {radius:g}; allowed are positive ones", Reason.GEOMETRY)
    _check_inside(where, [(y, x)], grid)
    centre = np.array([y, x])
    return Region(label, fill_ellipse(centre, np.diag([radius, radius]), grid.shape))


def _pixel_point(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    x, y = values + (0.5 if convention == "index" else 0.0)
    _check_inside(where, [(y, x)], grid)
    return Point(label, (float(y), float(x)))


def _patient_point(where: str, label: str, values: Floats, grid: Grid, convention: Convention) -> Mark:
    del convention  # a place in the patient has none
    if grid.frame != "patient_ras":
        raise InputError(f"{where}: a point in the patient for an image in {grid.frame}", Reason.GEOMETRY)
    at = _patient_corners(values[None], grid)
    _check_inside(where, at, grid)
    return Point(label, tuple(at[0].tolist()))


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


# DICOM


def _from_dicom(path: Path, image: Image, rules: Rules) -> list[Mark]:
    header = read_header(path)
    try:
        if str(header.get("SOPClassUID", "")) == _RTSTRUCT:
            return _from_contours(path, header, image)
        return _from_result(path, header, image, rules)
    except ImagingError:
        raise
    except Exception as error:  # access to the elements of a damaged object raises nearly anything
        raise InputError(
            f"truth {path.name}: {type(error).__name__} while reading its content; allowed is a complete object",
            Reason.UNREADABLE_HEADER,
        ) from error


def _from_result(path: Path, header: Any, image: Image, rules: Rules) -> list[Mark]:
    result = read_result(path.read_bytes())
    told = {item.sop_uid for item in result.evidence}
    if isinstance(result, ReadReport):
        told |= {reference.sop_uid for finding in result.findings for reference in finding.references}
        told |= {reference.sop_uid for reference in result.library}
    _refuse_other_images(path, told, {ref.sop_uid for ref in image.refs}, "SOP instances")
    if isinstance(result, ReadReport):
        return [mark for finding in result.findings for mark in _finding_marks(path, finding, image)]
    if result.storage == "FRACTIONAL":
        raise InputError(
            f"truth {path.name}: SegmentationType is FRACTIONAL; allowed are BINARY and LABELMAP: cut it first, at a "
            "value that is stated",
            Reason.UNSUPPORTED_PIXELS,
        )
    return _from_segmentation(path, header, result, image, rules)


def _refuse_other_images(path: Path, told: set[str], own: set[str], what: str) -> None:
    """A result that names its images must name this one; an image without UIDs (NIfTI, PNG) cannot be checked."""
    if own and not own & told:
        raise InputError(
            f"truth {path.name}: refers to {len(told)} {what}{f', first {min(told)}' if told else ''}; none is of its "
            f"image ({min(own)})",
            Reason.CONFIG_INVALID,
        )


def _from_segmentation(path: Path, header: Any, result: ReadSegmentation, image: Image, rules: Rules) -> list[Mark]:
    """A region per segment; each frame is placed by its position, else by the source frame that it names."""
    grid = image.source_grid
    frames = _frame_affines(path, header) if grid.frame == "patient_ras" else []
    if result.storage == "LABELMAP":
        # A frame holds several segments, so theirs cannot be told by position; it must lie as its source does.
        shape = (int(header.Rows), int(header.Columns))
        for _, affine in frames:
            own = _thick(shape, affine, grid)
            along = (grid.index_map(own)[1:3, 1:3] - np.eye(2)) * shape
            if shape != grid.shape[1:] or np.abs(along).max() > SAME_PLACE or _window(own, grid) is None:
                raise _other_grid(path, own, grid)
    marks: list[Mark] = []
    for segment in result.segments:
        known = [affine for number, affine in frames if number == segment.number]
        if known and len(known) == len(segment.frames):
            mask = _placed_by_position(path, segment, known, grid, rules.is_resampled)
        else:
            mask = _placed_by_reference(path, segment, image)
        marks.append(Region(segment.label or str(segment.number), mask))
    return marks


def _frame_affines(path: Path, header: Any) -> list[tuple[int, Floats]]:
    """Per frame its segment (0 when it holds several) and its affine (3, 3) of (row, column, 1) to RAS millimetres.

    Empty where frames have no position.
    """
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    found: list[tuple[int, Floats]] = []
    for number, item in enumerate(header.get("PerFrameFunctionalGroupsSequence") or [], start=1):

        def group(name: str, item: Any = item) -> Any:
            return (item.get(f"{name}Sequence") or shared.get(f"{name}Sequence") or [None])[0]

        position, orientation, measures = map(group, ("PlanePosition", "PlaneOrientation", "PixelMeasures"))
        if position is None or orientation is None or measures is None:
            return []
        where = f"truth {path.name}, frame {number}"
        cosines = numbers(orientation, "ImageOrientationPatient", 6, where)
        rows, columns = numbers(measures, "PixelSpacing", 2, where)
        corner = numbers(position, "ImagePositionPatient", 3, where)
        lps = np.column_stack([cosines[3:] * rows, cosines[:3] * columns, corner])
        segment = group("SegmentIdentification")
        found.append((int(segment.ReferencedSegmentNumber) if segment else 0, LPS_TO_RAS[:3, :3] @ lps))
    return found


def _placed_by_position(
    path: Path, segment: ReadSegment, affines: list[Floats], grid: Grid, is_resampled: bool
) -> Mask:
    whole = np.zeros(grid.shape, dtype=np.bool_)
    for frame, affine in zip(segment.frames, affines, strict=True):
        own = _thick(frame.mask.shape, affine, grid)
        window = _window(own, grid)
        placed = None if window is None else reorient(frame.mask[None], own, grid.crop(window[0], window[1]))
        if placed is None or window is None:
            if not is_resampled:
                raise _other_grid(path, own, grid)
            stack, lattice = _lattice(path, segment, affines)
            return resample(stack, lattice, grid, order=0) > 0
        inside = tuple(slice(low, low + count) for low, count in zip(*window, strict=True))
        whole[inside] |= placed
    return whole


def _thick(shape: tuple[int, ...], affine: Floats, grid: Grid) -> Grid:
    """A frame as a grid of one slice, whose slice step is the target's step most along the frame's normal."""
    normal = np.cross(affine[:, 0], affine[:, 1])
    steps = grid.affine[:3, :3]
    step = steps[:, np.abs(normal @ steps / np.linalg.norm(steps, axis=0)).argmax()]
    whole = np.vstack([np.column_stack([step, affine]), [0.0, 0.0, 0.0, 1.0]])
    return Grid((1, *shape), whole, "patient_ras")


def _window(own: Grid, grid: Grid) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """First voxel and shape of the part of `grid` that `own` spans; None when it is not whole voxels inside it."""
    box = own.carry_boxes(np.array([[0, 0, 0, *own.shape]]), grid)[0]
    low, high = np.rint(box[:3]).astype(int), np.rint(box[3:]).astype(int)
    if np.abs(box - np.rint(box)).max() > SAME_PLACE or np.any(low < 0) or np.any(high > grid.shape):
        return None
    return tuple(low.tolist()), tuple((high - low).tolist())


def _lattice(path: Path, segment: ReadSegment, affines: list[Floats]) -> tuple[Array, Grid]:
    """The frames of a segment as one volume on their own grid; slices between them that are not stored are empty."""
    first = affines[0]
    normal = np.cross(first[:, 0], first[:, 1])
    normal /= np.linalg.norm(normal)
    depths = np.array([affine[:, 2] @ normal for affine in affines])
    gaps = np.diff(np.unique(depths.round(3)))
    step = float(gaps.min()) if gaps.size else 0.0
    places = (depths - depths.min()) / step if step else depths
    if not step or np.abs(places - np.rint(places)).max() > _ON_PLANE:
        raise GeometryError(
            f"truth {path.name}, segment {segment.number}: {len(affines)} frames at {np.unique(depths.round(3))} mm "
            "make no lattice that could be resampled",
            Reason.GEOMETRY,
        )
    rows, columns = segment.frames[0].mask.shape
    stack = np.zeros((int(np.rint(places).max()) + 1, rows, columns), dtype=np.uint8)
    for place, frame in zip(np.rint(places).astype(int), segment.frames, strict=True):
        stack[place] |= frame.mask
    lowest = affines[int(depths.argmin())]
    affine = np.vstack([np.column_stack([normal * step, lowest]), [0.0, 0.0, 0.0, 1.0]])
    return stack, Grid(stack.shape, affine, "patient_ras")


def _placed_by_reference(path: Path, segment: ReadSegment, image: Image) -> Mask:
    grid = image.source_grid
    whole = np.zeros(grid.shape, dtype=np.bool_)
    planes = whole.reshape(-1, *grid.shape[-2:])
    for frame in segment.frames:
        if not frame.sources:
            raise InputError(
                f"truth {path.name}, segment {segment.number}: a frame has neither a position nor a source image",
                Reason.GEOMETRY,
            )
        for place in _slices(frame.sources, image):
            if frame.mask.shape != planes[place].shape:
                raise GeometryError(
                    f"truth {path.name}, segment {segment.number}: found {frame.mask.shape} pixels; its image has "
                    f"{describe(grid)}",
                    Reason.GEOMETRY,
                )
            planes[place] |= frame.mask
    return whole


def _slices(sources: Sequence[Reference], image: Image) -> list[int]:
    """The slices of the image that references name; [0] or none for an image of one plane."""
    return [
        place
        for place, ref in enumerate(image.refs)
        if any(
            ref.sop_uid == source.sop_uid
            and (not source.frames or ref.frame_number is None or ref.frame_number in source.frames)
            for source in sources
        )
    ]


def _finding_marks(path: Path, finding: ReadFinding, image: Image) -> list[Mark]:
    """The region or points of one finding of a report, where it lies on this image."""
    label = finding.label.meaning if finding.label else "finding"
    if finding.points_px is None or finding.image is None:
        raise InputError(
            f"truth {path.name}, finding '{label}': has no 2-D region on an image, so nothing says where it is; give "
            "the segmentation it refers to",
            Reason.GEOMETRY,
        )
    places = _slices([finding.image], image)
    grid, points = image.source_grid, finding.points_px[:, ::-1]
    flat = grid.shape[-2:]
    if not places:
        return []
    if np.any(points < 0) or np.any(points > flat):
        raise GeometryError(
            f"truth {path.name}, finding '{label}': GraphicData reaches {points.max(axis=0).tolist()} (row, column); "
            f"its image has {describe(grid)}",
            Reason.GEOMETRY,
        )
    if finding.graphic_type in ("POINT", "MULTIPOINT"):
        lifted = [(place + 0.5,) if len(grid.shape) == 3 else () for place in places]
        return [Point(label, (*above, *map(float, point))) for above in lifted for point in points]
    outline = _outlined(path, finding, points, flat)
    whole = np.zeros(grid.shape, dtype=np.bool_)
    whole.reshape(-1, *flat)[places] = outline
    return [Region(label, whole)]


def _outlined(path: Path, finding: ReadFinding, points: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels inside a closed POLYLINE, a CIRCLE or an ELLIPSE (PS3.3 C.18.6.1.2); points are (row, column)."""
    kind, count = finding.graphic_type, len(points)
    if kind == "POLYLINE" and count > 3 and np.array_equal(points[0], points[-1]):
        return fill_polygon(points[:-1], shape)
    if kind == "CIRCLE" and count == 2:
        return fill_ellipse(points[0], np.eye(2) * np.linalg.norm(points[1] - points[0]), shape)
    if kind == "ELLIPSE" and count == 4:
        axes = np.array([points[1] - points[0], points[3] - points[2]]) / 2
        return fill_ellipse(points.mean(axis=0), axes, shape)
    raise InputError(
        f"truth {path.name}: GraphicType '{kind}' with {count} points; allowed are POINT, MULTIPOINT, CIRCLE, ELLIPSE "
        "and a closed POLYLINE",
        Reason.GEOMETRY,
    )


def _from_contours(path: Path, header: Any, image: Image) -> list[Mark]:
    """A region per ROI of an RTSTRUCT (PS3.3 C.8.8.6): closed contours on the slices, by the even-odd rule."""
    series = {
        str(item.get("SeriesInstanceUID", ""))
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for item in study.get("RTReferencedSeriesSequence") or []
    }
    _refuse_other_images(path, series, {ref.series_uid for ref in image.refs}, "series")
    grid = image.source_grid
    if grid.frame != "patient_ras":
        raise GeometryError(f"truth {path.name}: contours in the patient for {describe(grid)}", Reason.GEOMETRY)
    contours = {int(roi.ReferencedROINumber): roi for roi in header.get("ROIContourSequence") or []}
    marks: list[Mark] = []
    for roi in header.get("StructureSetROISequence") or []:
        number, label = int(roi.ROINumber), str(roi.get("ROIName") or roi.ROINumber)
        drawn = contours[number].get("ContourSequence") or [] if number in contours else []
        points, mask = _drawn(path, label, drawn, grid)
        if drawn and len(points) == len(drawn):
            marks += [Point(label, tuple(at.tolist())) for at in points]
        else:
            marks.append(Region(label, mask))
    return marks


def _drawn(path: Path, label: str, contours: Sequence[Any], grid: Grid) -> tuple[list[Floats], Mask]:
    """The points and the filled contours of one ROI. A contour inside another is a hole."""
    points: list[Floats] = []
    mask = np.zeros(grid.shape, dtype=np.bool_)
    for number, contour in enumerate(contours, start=1):
        kind = str(contour.get("ContourGeometricType", ""))
        where = f"truth {path.name}, ROI '{label}', contour {number}"
        at = _patient_corners(np.asarray(contour.get("ContourData"), dtype=np.float64).reshape(-1, 3), grid)
        if kind == "POINT":
            points.append(at[0])
            continue
        if kind not in ("CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR") or len(at) < 3:
            raise InputError(
                f"{where}: ContourGeometricType '{kind}' with {len(at)} points; allowed are POINT and CLOSED_PLANAR",
                Reason.UNSUPPORTED_OBJECT,
            )
        place = int(np.rint(at[:, 0].mean() - 0.5))
        off = float(np.abs(at[:, 0] - 0.5 - place).max())
        if off > _ON_PLANE or not 0 <= place < grid.shape[0]:
            raise GeometryError(
                f"{where}: lies {off:.2f} slices off slice {place} (from 0); allowed are planes of {describe(grid)}",
                Reason.GEOMETRY,
            )
        mask[place] ^= fill_polygon(at[:, 1:], grid.shape[1:])
    return points, mask


def _patient_corners(lps_mm: Floats, grid: Grid) -> Floats:
    """Points (n, 3) in DICOM patient millimetres as corner coordinates (slice, row, column) of the grid."""
    ras = np.column_stack([lps_mm, np.ones(len(lps_mm))]) @ LPS_TO_RAS.T
    return np.asarray((ras @ np.linalg.inv(grid.affine).T)[:, :3] + 0.5)


# Shapes → pixels


def fill_polygon(points: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels (row, column) whose centres lie inside the closed outline `points` (n, 2) of corner coordinates.

    Even-odd rule. An outline so small that it holds no pixel centre marks the pixel it lies in: it must not vanish.
    """
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    for (y0, x0), (y1, x1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = (int(np.clip(np.ceil(y - 0.5), 0, shape[0])) for y in (min(y0, y1), max(y0, y1)))
        if high > low:
            rows = np.arange(low, high)
            crossing = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
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
