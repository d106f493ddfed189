"""Measurement groups of a report (PS3.16): TID 1410 for an outline on one image, TID 1411 for a region of a volume.

A volume region has both, with one Tracking UID: viewers draw the outline of its largest slice, and its segment is the
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from imaging.exam.result import Algorithm, ExamResult
from imaging.image import SourceRef
from imaging.report.document import Document
from imaging.report.sr import codes, content
from imaging.report.sr.codes import MeasureCode
from imaging.report.sr.content import CONTAINS, HAS_MODIFIER, HAS_OBSERVATION_CONTEXT
from imaging.report.sr.statements import Roi, planar_measures, volume_measures
from imaging.report.sr.views import LATERALITIES
from imaging.volume_region import VolumeRegion


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """Segment `number` (from 1) of a segmentation object, and the volume region that it holds."""

    document: Document
    number: int
    volume_region: VolumeRegion


def segment_of(roi: Roi, segmentations: Sequence[tuple[Document, Dataset]]) -> SegmentPlace | None:
    """The segment of a volume region, by its Tracking UID; None for an outline, and where there is no segment."""
    if roi.volume_region is None:
        return None
    for document, dataset in segmentations:
        for item in dataset.SegmentSequence:
            if item.TrackingUID == roi.tracking_uid:
                return SegmentPlace(document, int(item.SegmentNumber), roi.volume_region)
    return None


def algorithm_rows(relationship: str, algorithm: Algorithm) -> list[Dataset]:
    """TID 4019 Algorithm Identification: contained in a section, a concept modifier of a measurement (TID 1419).

    Sections carry the parameters; a measurement says name and version, or a reader would meet them on every line.
    """
    rows = [
        content.text(relationship, codes.ALGORITHM_NAME, algorithm.name),
        content.text(relationship, codes.ALGORITHM_VERSION, algorithm.version),
    ]
    if relationship == CONTAINS:
        parameters = (f"identity={algorithm.identity}", *algorithm.parameters)
        rows += [content.text(relationship, codes.ALGORITHM_PARAMETERS, line) for line in parameters]
    return rows


def planar_group(result: ExamResult, roi: Roi) -> Dataset:
    """TID 1410: the outline on its key frame, then what was measured (TID 1419).

    The template wants exactly one of an outline (111030) and a segmentation frame (121214, with 121233). Viewers draw
    outlines, so the SEG is in the evidence, named in a comment and tied to this group by the Tracking UID.
    """
    key = roi.measured.key
    region = content.outline(codes.IMAGE_REGION, key.outline_px, _image(content.SELECTED_FROM, key.ref))
    return content.container(
        codes.MEASUREMENT_GROUP,
        [
            *_head(roi),
            region,
            _site(roi),
            *_measurements(result.algorithm, planar_measures(result, roi)),
        ],
        "1410",
    )


def volumetric_group(result: ExamResult, roi: Roi, place: SegmentPlace) -> Dataset:
    """TID 1411: the segment, the source images that it has pixels on, then what was measured (TID 1419)."""
    occupied = [
        ref for ref, plane in zip(place.volume_region.refs, place.volume_region.full_mask(), strict=True) if plane.any()
    ]
    return content.container(
        codes.MEASUREMENT_GROUP,
        [
            *_head(roi),
            content.segment(place.document.sop_class_uid, place.document.sop_instance_uid, place.number),
            *(content.named_image(codes.SEGMENT_SOURCE, _image(CONTAINS, ref)) for ref in occupied),
            _site(roi),
            *_measurements(result.algorithm, volume_measures(result, roi, place.volume_region)),
        ],
        "1411",
    )


def _head(roi: Roi) -> list[Dataset]:
    """What a group is about. Of a volume region it says whether it is part of the anatomy or found in it."""
    category = [] if roi.volume_region is None else [content.code(CONTAINS, codes.FINDING_CATEGORY, roi.label.category)]
    return [
        content.text(HAS_OBSERVATION_CONTEXT, codes.TRACKING_IDENTIFIER, roi.name),
        content.uid_reference(HAS_OBSERVATION_CONTEXT, codes.TRACKING_UID, roi.tracking_uid),
        *category,
        content.code(CONTAINS, codes.FINDING, roi.label.finding),
    ]


def _site(roi: Roi) -> Dataset:
    """Finding Site, with the side of a paired organ (TID 1419 rows 2 and 3)."""
    side = roi.laterality
    below = [] if side is None else [content.code(HAS_MODIFIER, codes.LATERALITY, LATERALITIES[side])]
    return content.code(HAS_MODIFIER, codes.FINDING_SITE, roi.site, below)


def _image(relationship: str, ref: SourceRef) -> Dataset:
    frames = () if ref.frame_number is None else (ref.frame_number,)
    return content.image(relationship, ref.sop_class_uid, ref.sop_uid, frames)


def _measurements(algorithm: Algorithm, measures: Iterable[tuple[MeasureCode, float]]) -> list[Dataset]:
    return [content.measurement(coded, value, algorithm_rows(HAS_MODIFIER, algorithm)) for coded, value in measures]
