"""Results in DICOM (SR, SEG) → masks and points on the grid of an image: one reader, for truths and for predictions.

What a result marks is the same whichever it is taken for. `where` is what errors call the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from imaging.data.images import SAME_PLACE, describe, reorient
from imaging.data.marks import Mark, Mask, PointMark, RegionMark, fill_ellipse, fill_polygon, other_grid
from imaging.dicom.results.content_tree import Reference
from imaging.dicom.results.records import ReadFinding, ReadSegment, ReadSegmentation
from imaging.errors import GeometryError, ImagingError, InputError, Reason
from imaging.image import Array, Floats, Grid, Image, resample

# How far, in slices, a plane may lie from that of the slice it belongs to.
ON_PLANE: Final = 0.1


@contextmanager
def damage_told(where: str) -> Iterator[None]:
    """Turns whatever a damaged object raises, on access to its elements, into an InputError."""
    try:
        yield
    except ImagingError:
        raise
    except Exception as error:  # access to the elements of a damaged object raises nearly anything
        raise InputError(
            f"{where}: {type(error).__name__} while reading its content; allowed is a complete object",
            Reason.UNREADABLE_HEADER,
        ) from error


def segment_masks(
    where: str, result: ReadSegmentation, image: Image, is_resampled: bool = False
) -> list[tuple[ReadSegment, Mask]]:
    """The segments of a segmentation with their masks on the source grid of the image.

    Each frame of a segment is placed by its position, else by the source frame that it names. `is_resampled` allows
    another grid, by nearest neighbour. Raises InputError for fractions and for a frame without a place, GeometryError
    when it does not lie on the grid.
    """
    if result.storage == "FRACTIONAL":
        raise InputError(
            f"{where}: SegmentationType is FRACTIONAL; allowed are BINARY and LABELMAP: cut it first, at a "
            "value that is stated",
            Reason.UNSUPPORTED_PIXELS,
        )
    grid = image.source_grid
    is_placed = grid.frame == "patient_ras"
    if result.storage == "LABELMAP" and is_placed:
        _refuse_other_lattice(where, result, grid)
    found = []
    for segment in result.segments:
        known = [frame.affine for frame in segment.frames if frame.affine is not None] if is_placed else []
        if known and len(known) == len(segment.frames):
            mask = _placed_by_position(where, segment, known, grid, is_resampled)
        else:
            mask = _placed_by_reference(where, segment, image)
        found.append((segment, mask))
    return found


def _refuse_other_lattice(where: str, result: ReadSegmentation, grid: Grid) -> None:
    """A frame of a label map holds several segments, so theirs cannot be told by position; it lies as its source."""
    for frame in (frame for segment in result.segments for frame in segment.frames):
        if frame.affine is None:
            continue
        shape = frame.mask.shape
        own = _thick(shape, frame.affine, grid)
        along = (grid.index_map(own)[1:3, 1:3] - np.eye(2)) * shape
        if shape != grid.shape[1:] or np.abs(along).max() > SAME_PLACE or _window(own, grid) is None:
            raise other_grid(where, own, grid)


def finding_marks(where: str, finding: ReadFinding, image: Image) -> list[Mark]:
    """The region or points of one finding of a report on the source grid of an image; none where it lies on another.

    Raises InputError for a finding without a 2-D region, or one of another kind than outlines and points, GeometryError
    for one that reaches out of the image.
    """
    label = finding.label.meaning if finding.label else "finding"
    if finding.points_px is None or finding.image is None:
        raise InputError(
            f"{where}, finding '{label}': has no 2-D region on an image, so nothing says where it is; give "
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
            f"{where}, finding '{label}': GraphicData reaches {points.max(axis=0).tolist()} (row, column); "
            f"its image has {describe(grid)}",
            Reason.GEOMETRY,
        )
    if finding.graphic_type in ("POINT", "MULTIPOINT"):
        lifted = [(place + 0.5,) if len(grid.shape) == 3 else () for place in places]
        return [PointMark(label, (*above, *map(float, point))) for above in lifted for point in points]
    outline = _outlined(where, finding, points, flat)
    whole = np.zeros(grid.shape, dtype=np.bool_)
    whole.reshape(-1, *flat)[places] = outline
    return [RegionMark(label, whole)]


def _outlined(where: str, finding: ReadFinding, points: Floats, shape: tuple[int, ...]) -> Mask:
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
        f"{where}: GraphicType '{kind}' with {count} points; allowed are POINT, MULTIPOINT, CIRCLE, ELLIPSE "
        "and a closed POLYLINE",
        Reason.GEOMETRY,
    )


def _placed_by_position(
    where: str, segment: ReadSegment, affines: list[Floats], grid: Grid, is_resampled: bool
) -> Mask:
    whole = np.zeros(grid.shape, dtype=np.bool_)
    for frame, affine in zip(segment.frames, affines, strict=True):
        own = _thick(frame.mask.shape, affine, grid)
        window = _window(own, grid)
        placed = None if window is None else reorient(frame.mask[None], own, grid.crop(window[0], window[1]))
        if placed is None or window is None:
            if not is_resampled:
                raise other_grid(where, own, grid)
            stack, lattice = _lattice(where, segment, affines)
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
    box = own.carry_box(own.whole, grid).row
    low, high = np.rint(box[:3]).astype(int), np.rint(box[3:]).astype(int)
    if np.abs(box - np.rint(box)).max() > SAME_PLACE or np.any(low < 0) or np.any(high > grid.shape):
        return None
    return tuple(low.tolist()), tuple((high - low).tolist())


def _lattice(where: str, segment: ReadSegment, affines: list[Floats]) -> tuple[Array, Grid]:
    """The frames of a segment as one volume on their own grid; slices between them that are not stored are empty."""
    first = affines[0]
    normal = np.cross(first[:, 0], first[:, 1])
    normal /= np.linalg.norm(normal)
    depths = np.array([affine[:, 2] @ normal for affine in affines])
    gaps = np.diff(np.unique(depths.round(3)))
    step = float(gaps.min()) if gaps.size else 0.0
    places = (depths - depths.min()) / step if step else depths
    if not step or np.abs(places - np.rint(places)).max() > ON_PLANE:
        raise GeometryError(
            f"{where}, segment {segment.number}: {len(affines)} frames at {np.unique(depths.round(3))} mm "
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


def _placed_by_reference(where: str, segment: ReadSegment, image: Image) -> Mask:
    grid = image.source_grid
    whole = np.zeros(grid.shape, dtype=np.bool_)
    planes = whole.reshape(-1, *grid.shape[-2:])
    for frame in segment.frames:
        if not frame.sources or not image.refs:
            without = "a source image" if image.refs else "an image with UIDs to lie on"
            raise InputError(
                f"{where}, segment {segment.number}: a frame has neither a position nor {without}",
                Reason.GEOMETRY,
            )
        for place in _slices(frame.sources, image):
            if frame.mask.shape != planes[place].shape:
                raise GeometryError(
                    f"{where}, segment {segment.number}: found {frame.mask.shape} pixels; its image has "
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
