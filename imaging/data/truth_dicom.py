"""The truth of one image in a DICOM object: segmentation (SEG), report (SR) or contours (RTSTRUCT)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from imaging.data.images import SAME_PLACE, describe, reorient
from imaging.data.marks import Mark, Mask, Point, Region, fill_ellipse, fill_polygon, other_grid, patient_corners
from imaging.dicom.headers.placement import frame_affine
from imaging.dicom.index import read_header
from imaging.dicom.results.content_tree import Reference
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadFinding, ReadReport, ReadSegment, ReadSegmentation
from imaging.errors import GeometryError, ImagingError, InputError, Reason
from imaging.image import Array, Floats, Grid, Image, resample

_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"
# How far, in slices, a contour may lie from the plane of the slice it is drawn on.
_ON_PLANE: Final = 0.1


def dicom_marks(path: Path, image: Image, is_resampled: bool) -> list[Mark]:
    """The marks of a DICOM object. `is_resampled` allows segmentations on another grid, by nearest neighbour.

    Raises InputError when it is damaged or about other images, GeometryError when it does not lie on the image's grid.
    """
    header = read_header(path)
    with _damage_told(path):
        if str(header.get("SOPClassUID", "")) == _RTSTRUCT:
            return _from_contours(path, header, image)
        return _from_result(path, header, image, is_resampled)


def segment_masks(path: Path, result: ReadSegmentation, image: Image) -> list[tuple[ReadSegment, Mask]]:
    """The segments of a segmentation file, which was read as `result`, with their masks on the grid of the image.

    Raises InputError when it is damaged, GeometryError when it does not lie on that grid.
    """
    with _damage_told(path):
        return _placed(path, read_header(path), result, image, is_resampled=False)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except ImagingError:
        raise
    except Exception as error:  # access to the elements of a damaged object raises nearly anything
        raise InputError(
            f"truth {path.name}: {type(error).__name__} while reading its content; allowed is a complete object",
            Reason.UNREADABLE_HEADER,
        ) from error


def _from_result(path: Path, header: Any, image: Image, is_resampled: bool) -> list[Mark]:
    result = read_result(path.read_bytes())
    told = {item.sop_uid for item in result.evidence}
    if isinstance(result, ReadReport):
        told |= {reference.sop_uid for finding in result.findings for reference in finding.references}
        told |= {reference.sop_uid for reference in result.library}
    _refuse_other_images(path, told, {ref.sop_uid for ref in image.refs}, "SOP instances")
    if isinstance(result, ReadReport):
        return [mark for finding in result.findings for mark in _finding_marks(path, finding, image)]
    placed = _placed(path, header, result, image, is_resampled)
    return [Region(segment.label or str(segment.number), mask) for segment, mask in placed]


def _refuse_other_images(path: Path, told: set[str], own: set[str], what: str) -> None:
    """A result that names its images must name this one; an image without UIDs (NIfTI, PNG) cannot be checked."""
    if own and not own & told:
        raise InputError(
            f"truth {path.name}: refers to {len(told)} {what}{f', first {min(told)}' if told else ''}; none is of its "
            f"image ({min(own)})",
            Reason.CONFIG_INVALID,
        )


def _placed(
    path: Path, header: Any, result: ReadSegmentation, image: Image, is_resampled: bool
) -> list[tuple[ReadSegment, Mask]]:
    """Each frame of a segment is placed by its position, else by the source frame that it names."""
    if result.storage == "FRACTIONAL":
        raise InputError(
            f"truth {path.name}: SegmentationType is FRACTIONAL; allowed are BINARY and LABELMAP: cut it first, at a "
            "value that is stated",
            Reason.UNSUPPORTED_PIXELS,
        )
    grid = image.source_grid
    frames = _frame_affines(path, header) if grid.frame == "patient_ras" else []
    if result.storage == "LABELMAP":
        # A frame holds several segments, so theirs cannot be told by position; it must lie as its source does.
        shape = (int(header.Rows), int(header.Columns))
        for _, affine in frames:
            own = _thick(shape, affine, grid)
            along = (grid.index_map(own)[1:3, 1:3] - np.eye(2)) * shape
            if shape != grid.shape[1:] or np.abs(along).max() > SAME_PLACE or _window(own, grid) is None:
                raise other_grid(path, own, grid)
    found = []
    for segment in result.segments:
        known = [affine for number, affine in frames if number == segment.number]
        if known and len(known) == len(segment.frames):
            mask = _placed_by_position(path, segment, known, grid, is_resampled)
        else:
            mask = _placed_by_reference(path, segment, image)
        found.append((segment, mask))
    return found


def _frame_affines(path: Path, header: Any) -> list[tuple[int, Floats]]:
    """Per frame its segment (0 when it holds several) and its affine (3, 3) of (row, column, 1) to RAS millimetres.

    Empty where frames have no position.
    """
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    found: list[tuple[int, Floats]] = []
    for number, item in enumerate(header.get("PerFrameFunctionalGroupsSequence") or [], start=1):
        affine = frame_affine(header, number, f"truth {path.name}, frame {number}")
        if affine is None:
            return []
        named = item.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        found.append((int(named[0].ReferencedSegmentNumber) if named else 0, affine))
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
                raise other_grid(path, own, grid)
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
    box = own.carry_box(own.whole, grid).row
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
        if not frame.sources or not image.refs:
            without = "a source image" if image.refs else "an image with UIDs to lie on"
            raise InputError(
                f"truth {path.name}, segment {segment.number}: a frame has neither a position nor {without}",
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
        at = patient_corners(np.asarray(contour.get("ContourData"), dtype=np.float64).reshape(-1, 3), grid)
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
