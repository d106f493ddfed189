"""The truth of one image in a DICOM object: segmentation (SEG), report (SR) or contours (RTSTRUCT)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from imaging.data.images import READ, describe
from imaging.data.marks import Mark, Mask, PointMark, RegionMark, fill_polygon, patient_corners
from imaging.data.result_masks import ON_PLANE, damage_told, finding_marks, segment_masks
from imaging.dicom.index import read_header
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport
from imaging.errors import GeometryError, InputError, Reason
from imaging.image import Floats, Grid, Image

_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"


def dicom_marks(path: Path, image: Image, is_resampled: bool) -> list[Mark]:
    """The marks of a DICOM object. `is_resampled` allows segmentations on another grid, by nearest neighbour.

    Raises InputError when it is damaged or about other images, GeometryError when it does not lie on the image's grid.
    """
    where = f"truth {path.name}"
    try:
        header = read_header(path)
    except InputError as error:
        raise InputError(f"{where}: {error}; read are DICOM, CSV and {', '.join(READ)}", error.reason) from error
    with damage_told(where):
        if str(header.get("SOPClassUID", "")) == _RTSTRUCT:
            return _from_contours(where, header, image)
        return _from_result(where, path, image, is_resampled)


def _from_result(where: str, path: Path, image: Image, is_resampled: bool) -> list[Mark]:
    result = read_result(path.read_bytes())
    told = {item.sop_uid for item in result.evidence}
    if isinstance(result, ReadReport):
        told |= {reference.sop_uid for finding in result.findings for reference in finding.references}
        told |= {reference.sop_uid for reference in result.library}
    _refuse_other_images(where, told, {ref.sop_uid for ref in image.refs}, "SOP instances")
    if isinstance(result, ReadReport):
        return [mark for finding in result.findings for mark in finding_marks(where, finding, image)]
    placed = segment_masks(where, result, image, is_resampled)
    return [RegionMark(segment.label or str(segment.number), mask) for segment, mask in placed]


def _refuse_other_images(where: str, told: set[str], own: set[str], what: str) -> None:
    """A result that names its images must name this one; an image without UIDs (NIfTI, PNG) cannot be checked."""
    if own and not own & told:
        raise InputError(
            f"{where}: refers to {len(told)} {what}{f', first {min(told)}' if told else ''}; none is of its "
            f"image ({min(own)})",
            Reason.CONFIG_INVALID,
        )


def _from_contours(where: str, header: Any, image: Image) -> list[Mark]:
    """A region per ROI of an RTSTRUCT (PS3.3 C.8.8.6): closed contours on the slices, by the even-odd rule."""
    series = {
        str(item.get("SeriesInstanceUID", ""))
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for item in study.get("RTReferencedSeriesSequence") or []
    }
    _refuse_other_images(where, series, {ref.series_uid for ref in image.refs}, "series")
    grid = image.source_grid
    if grid.frame != "patient_ras":
        raise GeometryError(f"{where}: contours in the patient for {describe(grid)}", Reason.GEOMETRY)
    contours = {int(roi.ReferencedROINumber): roi for roi in header.get("ROIContourSequence") or []}
    marks: list[Mark] = []
    for roi in header.get("StructureSetROISequence") or []:
        number, label = int(roi.ROINumber), str(roi.get("ROIName") or roi.ROINumber)
        drawn = contours[number].get("ContourSequence") or [] if number in contours else []
        points, mask = _drawn(where, label, drawn, grid)
        if drawn and len(points) == len(drawn):
            marks += [PointMark(label, tuple(at.tolist())) for at in points]
        else:
            marks.append(RegionMark(label, mask))
    return marks


def _drawn(where: str, label: str, contours: Sequence[Any], grid: Grid) -> tuple[list[Floats], Mask]:
    """The points and the filled contours of one ROI. A contour inside another is a hole."""
    points: list[Floats] = []
    mask = np.zeros(grid.shape, dtype=np.bool_)
    for number, contour in enumerate(contours, start=1):
        kind = str(contour.get("ContourGeometricType", ""))
        which = f"{where}, ROI '{label}', contour {number}"
        at = patient_corners(np.asarray(contour.get("ContourData"), dtype=np.float64).reshape(-1, 3), grid)
        if kind == "POINT":
            points.append(at[0])
            continue
        if kind not in ("CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR") or len(at) < 3:
            raise InputError(
                f"{which}: ContourGeometricType '{kind}' with {len(at)} points; allowed are POINT and CLOSED_PLANAR",
                Reason.UNSUPPORTED_OBJECT,
            )
        place = int(np.rint(at[:, 0].mean() - 0.5))
        off = float(np.abs(at[:, 0] - 0.5 - place).max())
        if off > ON_PLANE or not 0 <= place < grid.shape[0]:
            raise GeometryError(
                f"{which}: lies {off:.2f} slices off slice {place} (from 0); allowed are planes of {describe(grid)}",
                Reason.GEOMETRY,
            )
        mask[place] ^= fill_polygon(at[:, 1:], grid.shape[1:])
    return points, mask
