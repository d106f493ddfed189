"""Files → arrays for `imaging evaluate`: NIfTI, MHA, NPZ and PNG maps, and results in DICOM (SR, SEG).

Maps of one volume may differ in the order of their axes: a prediction is put into the order of the truth. A wrong truth
or table stops the evaluation. A wrong or missing prediction raises `UnscorableError`, which the command counts as a
failed case.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from imaging.data.images import read_image, reorient
from imaging.data.truth_dicom import segment_masks
from imaging.dicom.results.content_tree import Reference
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadFinding, ReadReport, ReadSegmentation
from imaging.errors import ImagingError, InputError, Reason
from imaging.evaluation.manifest import Row
from imaging.evaluation.matching import Array, Bools
from imaging.image import Grid, Image, Origin

MAPS = (".nii", ".nii.gz", ".mha", ".mhd", ".npz", ".npy", ".png")
_ALL_READ = ("111241", "111242")  # CID 6047: all algorithms succeeded


class UnscorableError(InputError):
    """A prediction that cannot be scored: the case is counted as failed."""


@dataclass(frozen=True, eq=False)
class Map:
    """An array ([slice,] row, column), its spacing in that order, and its grid where the file has one.

    `findings` are those that a result states, each with a mask of the array's shape and a confidence; the array is
    then their union. None for a map.
    """

    array: Array
    spacing: tuple[float, ...]
    grid: Grid | None = None
    findings: tuple[tuple[Bools, float], ...] | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """What results say of a case by their probability of cancer: `score` 0-1, and what it rests on.

    `basis` is one of FINDING, EXAMINATION (nothing was found, and the report rates the examination all the same) and
    NOTHING (nothing was found and nothing is stated: the score is 0, the worst for a positive case).
    """

    score: float
    basis: str


FINDING, EXAMINATION, NOTHING = "finding", "no finding, examination rated", "no finding, scored 0"


def read_truth(folder: Path, row: Row) -> Map:
    """The truth mask of a row. Raises InputError when it cannot be read."""
    return _read_map(folder / row.truth, row)


def read_prediction(folder: Path, row: Row, truth: Map) -> Map:
    """The prediction of a row on the truth's grid: a map, or the findings of a result, on an image or in a volume.

    Raises UnscorableError when there is none, when it cannot be read, and when its grid is another.
    """
    path = folder / row.prediction
    if not row.prediction or not path.exists():
        raise UnscorableError(f"case '{row.case_id}': no prediction at '{row.prediction}'", Reason.PREDICTION_FAILED)
    try:
        if path.is_dir() or not path.name.lower().endswith(MAPS):
            if truth.array.ndim == 3:
                found = findings_in(path, truth)
            else:
                found = findings_on(path, row.image_uid, truth.array.shape)
            union = (
                np.any([mask for mask, _ in found], axis=0) if found else np.zeros(truth.array.shape, dtype=np.bool_)
            )
            return Map(union, truth.spacing, findings=tuple(found))
        predicted = _read_map(path, row, foreground=True)
    except ImagingError as error:
        raise UnscorableError(f"case '{row.case_id}': {error}", error.reason) from error
    placed = _placed(predicted, truth)
    if placed is None:
        raise UnscorableError(
            f"case '{row.case_id}': the prediction's grid {predicted.array.shape} with spacing {predicted.spacing} is "
            f"not the truth's {truth.array.shape} with spacing {truth.spacing}; both must be the same",
            Reason.GEOMETRY,
        )
    return replace(predicted, array=placed, spacing=truth.spacing, grid=truth.grid)


def read_source(folder: Path, row: Row, truth: Map) -> Array | None:
    """The source image of a row on the truth's grid, for pictures; colours (…, 3) stay. None where there is none.

    An image that cannot be read, or has another grid, costs a picture and never a figure.
    """
    path = folder / row.image
    if not row.image or not path.is_file():
        return None
    try:
        if not path.name.lower().endswith((".png", ".jpg", ".jpeg")):
            return _placed(_read_map(path, row), truth)
        found = _colours(path)
    except (ImagingError, OSError, ValueError):
        return None
    coloured = found.shape == (*truth.array.shape, 3) and found.dtype == np.uint8
    return found if coloured or found.shape == truth.array.shape else None


def _colours(path: Path) -> Array:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture if picture.mode in ("L", "I", "I;16", "F") else picture.convert("RGB"))


def _placed(found: Map, truth: Map) -> Array | None:
    """The array in the truth's axis order; None where it has other voxels. What has no place need only have its shape.

    A picture in pixels has no place, nor have the arrays of NumPy.
    """
    own, grid = found.grid, truth.grid
    if (
        own is not None
        and grid is not None
        and (own.frame, own.unit, len(own.shape))
        == (
            grid.frame,
            grid.unit,
            len(grid.shape),
        )
    ):
        return reorient(found.array, own, grid)
    return found.array if found.array.shape == truth.array.shape else None


def _read_map(path: Path, row: Row, foreground: bool = False) -> Map:
    name = path.name.lower()
    if not path.is_file():
        raise InputError(f"case '{row.case_id}': there is no file '{path.name}'", Reason.CONFIG_INVALID)
    try:
        if name.endswith((".nii", ".nii.gz", ".mha", ".mhd")):
            found = _volume(path)
        elif name.endswith((".npz", ".npy")):
            found = Map(_numpy(path, foreground), ())
        else:
            found = _picture(path)
    except ImagingError as error:
        raise type(error)(f"case '{row.case_id}', {error}", error.reason) from error
    except (OSError, ValueError, KeyError, EOFError, zlib.error, BadZipFile) as error:
        raise InputError(
            f"case '{row.case_id}', {path.name}: {type(error).__name__}; allowed is a readable {', '.join(MAPS)}",
            Reason.DECODE_FAILED,
        ) from error
    spacing = row.spacing or found.spacing or (1.0,) * found.array.ndim
    if len(spacing) != found.array.ndim or not np.isfinite(found.array).all():
        raise InputError(
            f"case '{row.case_id}', {path.name}: found {found.array.ndim} axes with spacing {spacing}; allowed are a "
            "spacing per axis, and finite values",
            Reason.GEOMETRY,
        )
    return replace(found, spacing=spacing)


def _volume(path: Path) -> Map:
    image = read_image(path)
    if len(image.array) != 1:
        raise InputError(f"{path.name}: found {len(image.array)} channels; allowed is one", Reason.UNSUPPORTED_PIXELS)
    return Map(image.array[0], image.grid.spacing, image.grid)


def _numpy(path: Path, foreground: bool) -> Array:
    """The only array of a file; of class probabilities as nnU-Net stores them, the first class above background."""
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    with np.load(path, allow_pickle=False) as arrays:
        for name in ("softmax", "probabilities"):
            if foreground and name in arrays:
                return np.asarray(arrays[name][1], dtype=np.float32)
        if len(arrays.files) != 1:
            raise ValueError(f"{len(arrays.files)} arrays")
        return np.asarray(arrays[arrays.files[0]])


def _picture(path: Path) -> Map:
    from PIL import Image

    with Image.open(path) as picture:
        array = np.asarray(picture)
    if array.ndim != 2:
        raise ValueError("a picture with colours")
    return Map(array, ())


def findings_on(path: Path, image_uid: str, shape: tuple[int, ...]) -> list[tuple[Bools, float]]:
    """Mask (row, column) and confidence of each finding on one image: masks of SEG, else outlines of SR.

    A segment has the score of the finding with the same tracking UID, 1 without one. `image_uid` may be empty where
    the results speak of one image. Raises InputError where nothing can be said: no result, several images, not a
    2-D truth, or an image without findings of which the report does not say that it was read.
    """
    reports, segmentations = _results(path)
    if len(shape) != 2:
        raise InputError(f"truth: found {len(shape)} axes; allowed are 2 beside DICOM results", Reason.GEOMETRY)
    scores = {f.tracking_uid: f.score for r in reports for f in r.findings if f.tracking_uid and f.score is not None}
    structures = {f.tracking_uid for r in reports for f in r.findings if f.is_structure}
    placed = [
        (s.tracking_uid, _one_uid(frame.sources), frame.mask, scores.get(s.tracking_uid, 1.0))
        for result in segmentations
        for s in result.segments
        if s.tracking_uid not in structures
        for frame in s.frames
    ]
    drawn = {uid for uid, *_ in placed if uid}
    placed += [
        (
            f.tracking_uid,
            f.image.sop_uid if f.image else "",
            fill_outline(f, shape),
            1.0 if f.score is None else f.score,
        )
        for f in _each_once(reports)
        if f.tracking_uid not in drawn and f.points_px is not None
    ]
    named = {uid for _, uid, *_ in placed}
    if not image_uid and len(named) > 1:
        raise InputError(
            f"results: found findings on {len(named)} images; name the image in the column image_uid",
            Reason.CONFIG_INVALID,
        )
    here = [(mask, score) for _, uid, mask, score in placed if not image_uid or uid == image_uid]
    if not here:
        _refuse_unread(reports)
    for mask, _ in here:
        if mask.shape != shape:
            raise InputError(f"results: found a mask of {mask.shape} on a truth of {shape}", Reason.GEOMETRY)
    return [(mask, score) for mask, score in here if mask.any()]


def findings_in(path: Path, truth: Map) -> list[tuple[Bools, float]]:
    """Mask (slice, row, column) and confidence of each finding in a volume: the segments of SEG, by their positions.

    Segments of anatomical structures are no findings. A segment has the score of the finding with the same tracking
    UID, 1 without one. Raises InputError where nothing can be said: no result, a truth without a place in the patient,
    a finding without a segment, or no finding where the report does not say that all was read; GeometryError where the
    segments do not lie on the truth's voxels.
    """
    if truth.grid is None or truth.grid.frame != "patient_ras":
        raise InputError(
            "truth: has no place in the patient; beside DICOM results of volumes allowed are NIfTI and MHA",
            Reason.GEOMETRY,
        )
    files = _files(path)
    reports = [result for _, result in files if isinstance(result, ReadReport)]
    image = Image(truth.array[None], truth.grid, truth.grid, (), Origin())
    drawn = [
        (segment.tracking_uid, mask)
        for file, result in files
        if isinstance(result, ReadSegmentation)
        for segment, mask in segment_masks(file, result, image)
        if not segment.is_structure
    ]
    scores = {f.tracking_uid: f.score for f in _each_once(reports) if f.score is not None}
    if undrawn := sorted(set(scores) - {uid for uid, _ in drawn}):
        raise InputError(
            f"results: {len(undrawn)} findings have no segment, first {undrawn[0] or 'one without a tracking UID'}; "
            "allowed is a segment of each",
            Reason.PREDICTION_FAILED,
        )
    if not drawn:
        _refuse_unread(reports)
    return [(mask, scores.get(uid, 1.0)) for uid, mask in drawn if mask.any()]


def _each_once(reports: list[ReadReport]) -> list[ReadFinding]:
    """The findings of all reports, but no structures; one that is told of twice, by its tracking UID, once."""
    told: dict[str, ReadFinding] = {}
    for number, finding in enumerate(f for report in reports for f in report.findings if not f.is_structure):
        told.setdefault(finding.tracking_uid or f"untracked {number}", finding)
    return list(told.values())


def read_rating(folder: Path, row: Row) -> Rated:
    """The probability of cancer (111047 DCM) that the results of a row state, of its `image_uid` where it has one.

    That is what the report says of the examination, else the highest of its findings. Raises UnscorableError where
    nothing can be said: no report, findings without a probability, an image without findings that was not read.
    """
    try:
        return _rating(_results(folder / row.prediction)[0], row.image_uid)
    except ImagingError as error:
        raise UnscorableError(f"case '{row.case_id}': {error}", error.reason) from error


def _rating(reports: list[ReadReport], image_uid: str) -> Rated:
    if not reports:
        raise InputError("results: found 0 structured reports; allowed are one or more", Reason.PREDICTION_FAILED)
    wanted = {image_uid} if image_uid else None
    told_of = [f for r in reports for f in r.findings if not f.is_structure]
    found = [f for f in told_of if wanted is None or (f.image and f.image.sop_uid in wanted)]
    told = [r.rating for r in reports if r.rating is not None and (wanted is None or r.rating.sop_uid in wanted)]
    rated = [rating.probability for rating in told] or [f.rating for f in found if f.rating is not None]
    if not found:
        _refuse_unread(reports)
        return Rated(max(rated), EXAMINATION) if rated else Rated(0.0, NOTHING)
    if not rated:
        raise InputError(
            f"results: found {len(found)} findings without a probability of cancer (111047 DCM), which only a package "
            "with a declared validation states",
            Reason.PREDICTION_FAILED,
        )
    return Rated(max(rated), FINDING)


def _results(path: Path) -> tuple[list[ReadReport], list[ReadSegmentation]]:
    read = [result for _, result in _files(path)]
    reports = [r for r in read if isinstance(r, ReadReport)]
    return reports, [r for r in read if isinstance(r, ReadSegmentation)]


def _files(path: Path) -> list[tuple[Path, ReadReport | ReadSegmentation]]:
    files = sorted(path.rglob("*.dcm")) if path.is_dir() else [path]
    if not files:
        raise InputError("results: found 0 DICOM files; allowed are one or more", Reason.PREDICTION_FAILED)
    read = [(file, _report_or_segmentation(file, path.is_dir())) for file in files]
    return [(file, result) for file, result in read if result is not None]


def _report_or_segmentation(file: Path, is_beside_others: bool) -> ReadReport | ReadSegmentation | None:
    """What a file says; None for an object of another kind beside others, such as a report as a PDF."""
    try:
        return read_result(file.read_bytes())
    except InputError as error:
        if is_beside_others and error.reason is Reason.UNSUPPORTED_OBJECT:
            return None
        raise


def _one_uid(sources: tuple[Reference, ...]) -> str:
    return sources[0].sop_uid if sources else ""


def _refuse_unread(reports: list[ReadReport]) -> None:
    """Nothing found counts as an answer only where every report says that all was read."""
    outcomes = [report.outcome for report in reports]
    unread = [o.meaning for o in outcomes if o is not None and o.value not in _ALL_READ]
    if unread:
        raise InputError(f"results: no finding on this image, and '{unread[0]}'", Reason.PREDICTION_FAILED)


def fill_outline(finding: ReadFinding, shape: tuple[int, ...]) -> Bools:
    """Pixels (row, column) whose centres lie inside a closed outline of x, y in corner convention (even-odd rule)."""
    points = np.asarray(finding.points_px, dtype=np.float64)
    inside = np.zeros(shape, dtype=np.bool_)
    if finding.graphic_type != "POLYLINE" or len(points) < 3:
        return inside
    across = np.arange(shape[1])[None, :] + 0.5
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        down = np.arange(shape[0]) + 0.5
        rows = np.flatnonzero((down >= min(y0, y1)) & (down < max(y0, y1)))
        if rows.size:
            crossing = x0 + (rows[:, None] + 0.5 - y0) / (y1 - y0) * (x1 - x0)
            inside[rows] ^= across > crossing
    return inside
