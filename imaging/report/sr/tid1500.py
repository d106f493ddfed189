"""The measurement report (PS3.16 TID 1500) of every outcome, in a Comprehensive 3D SR (PS3.3 A.35.13).

One path writes all outcomes: findings only add Imaging Measurements. Qualitative Evaluations are always there and
carry the outcome in codes, so "nothing found" and "nothing read" are statements, never an absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import Dataset

from imaging.exam.result import Algorithm, ExamResult
from imaging.report.document import Document, seal
from imaging.report.kind import ObjectKind, Subject, Written
from imaging.report.seg.kind import SEGMENTATION
from imaging.report.sr import codes, content
from imaging.report.sr.content import CONTAINS, HAS_ACQUISITION_CONTEXT, HAS_MODIFIER, HAS_OBSERVATION_CONTEXT
from imaging.report.sr.groups import algorithm_rows, planar_group, segment_of, volumetric_group
from imaging.report.sr.projections import size_rows, study_date, view_rows
from imaging.report.sr.statements import comments, exam_statement, extent, images_of, observer_rows, rois
from imaging.report.sr.views import IMAGE_LATERALITY, LATERALITIES

# Type 2 of the Referenced Request Sequence, empty where the source lacks them, and the most characters of each.
_REQUEST: Final = {
    "AccessionNumber": 16,
    "PlacerOrderNumberImagingServiceRequest": 64,
    "FillerOrderNumberImagingServiceRequest": 64,
    "RequestedProcedureID": 16,
    "RequestedProcedureDescription": 64,
}
Objects = Sequence[tuple[Document, Dataset]]


def write_report(subject: Subject, kind: ObjectKind, earlier: Written) -> Written:
    """The sealed SR of a result. Segmentations go into the evidence, what is to be said of them into the comments."""
    segmentations = earlier.of(SEGMENTATION)
    dataset = report_object(subject, kind, segmentations)
    dataset.update(_root(subject, segmentations, earlier.remarks))
    return Written(((seal(dataset, subject.identity, kind.name), dataset),))


def report_object(subject: Subject, kind: ObjectKind, segmentations: Objects = ()) -> Dataset:
    """A structured report of a result without its content (PS3.3 C.17.1, C.17.2)."""
    result = subject.result
    dataset = kind.new_object(subject)
    dataset.Modality = "SR"
    if requests := list(_requests(subject)):
        dataset.ReferencedRequestSequence = requests
    if predecessors := _predecessors(subject, kind):
        dataset.PredecessorDocumentsSequence = predecessors
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    # PS3.3 C.17.2: COMPLETE or PARTIAL content of this document; an unread image leaves it partial.
    dataset.CompletionFlag = "COMPLETE" if result.completeness == "all" else "PARTIAL"
    dataset.CompletionFlagDescription = extent(result)
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(result, segmentations)]
    return dataset


def _root(subject: Subject, segmentations: Objects, remarks: Sequence[str]) -> Dataset:
    result = subject.result
    root = Dataset()
    root.ValueType = "CONTAINER"
    root.ConceptNameCodeSequence = [codes.concept(codes.MEASUREMENT_REPORT)]
    root.ContinuityOfContent = "SEPARATE"
    root.ContentTemplateSequence = [content.template_identification("1500")]
    root.ContentSequence = [
        content.code(HAS_MODIFIER, codes.LANGUAGE, codes.ENGLISH_US),  # TID 1204
        *_observer(result.algorithm),
        content.code(HAS_MODIFIER, codes.PROCEDURE_REPORTED, result.algorithm.procedure),
        _image_library(subject),
    ]
    regions = rois(result)
    if regions:
        groups = [planar_group(result, roi) for roi in regions]
        groups += [
            volumetric_group(result, roi, place)
            for roi in regions
            if (place := segment_of(roi, segmentations)) is not None
        ]
        root.ContentSequence.append(
            content.container(codes.IMAGING_MEASUREMENTS, [*algorithm_rows(CONTAINS, result.algorithm), *groups])
        )
    root.ContentSequence.append(_qualitative_evaluations(result, remarks))
    return root


def _observer(algorithm: Algorithm) -> Iterable[Dataset]:
    """TID 1001, 1002 and 1004."""
    yield content.code(HAS_OBSERVATION_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE)
    for name, value in observer_rows(algorithm).items():
        build = content.uid_reference if name == codes.DEVICE_OBSERVER_UID else content.text
        yield build(HAS_OBSERVATION_CONTEXT, name, value)


def _image_library(subject: Subject) -> Dataset:
    """TID 1600 with one Image Library Group (TID 1601, descriptors TID 1602 and, of a projection, TID 1603)."""
    entries = [
        content.image(CONTAINS, ref.sop_class_uid, uid, frames, *_descriptors(subject, uid))
        for uid, (ref, frames) in images_of(subject.result).items()
    ]
    group = content.container(codes.IMAGE_LIBRARY_GROUP, entries)
    return content.container(codes.IMAGE_LIBRARY, [group], "1600")


def _descriptors(subject: Subject, uid: str) -> list[Dataset]:
    context, view = HAS_ACQUISITION_CONTEXT, subject.result.views.get(uid)
    sides = [] if view is None else [content.code(context, IMAGE_LATERALITY, LATERALITIES[view.laterality])]
    return [
        content.code(context, codes.MODALITY, codes.modality(subject.result.modality)),
        *sides,
        *study_date(subject),
        *size_rows(subject.sources[uid]),
        *view_rows(view),
    ]


def _qualitative_evaluations(result: ExamResult, remarks: Sequence[str]) -> Dataset:
    """The outcome in codes (CID 6047, CID 6042) and everything a reader must know, as comments."""
    reasons = frozenset(unread.reason for unread in result.unread)
    outcome = codes.OUTCOMES[result.finding, result.completeness]
    detections = codes.detection_summary(result.completeness, reasons)
    statement = exam_statement(result)
    return content.container(
        codes.QUALITATIVE_EVALUATIONS,
        [
            *algorithm_rows(CONTAINS, result.algorithm),
            content.code(CONTAINS, codes.CAD_SUMMARY, outcome),
            content.code(CONTAINS, codes.SUMMARY_OF_DETECTIONS, detections),
            *([] if statement is None else [content.text(CONTAINS, *statement)]),
            *(content.text(CONTAINS, codes.COMMENT, line) for line in (*comments(result), *remarks)),
        ],
    )


def _evidence(result: ExamResult, segmentations: Objects) -> Dataset:
    """Every image of the result and every segmentation made of it (PS3.3 C.17.2, Hierarchical SOP Reference)."""
    by_series: dict[str, list[Dataset]] = {}
    for uid, (ref, _) in images_of(result).items():
        by_series.setdefault(ref.series_uid, []).append(_sop_reference(ref.sop_class_uid, uid))
    for document, dataset in segmentations:
        reference = _sop_reference(document.sop_class_uid, document.sop_instance_uid)
        by_series.setdefault(str(dataset.SeriesInstanceUID), []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = result.study_uid
    study.ReferencedSeriesSequence = []
    for series, references in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(item)
    return study


def _requests(subject: Subject) -> Iterable[Dataset]:
    """What was ordered, as the images state it (PS3.3 C.17.2): one item for each accession and requested procedure.

    A value that is not ASCII, or too long, stays empty: only the identity, which echoes bytes, can hold it.
    """
    found: dict[tuple[str, ...], Dataset] = {}
    for uid in images_of(subject.result):
        header = subject.sources[uid]
        for request in header.get("RequestAttributesSequence") or [Dataset()]:
            values = tuple(_ascii(request, keyword) or _ascii(header, keyword) for keyword in _REQUEST)
            if any(values):
                found.setdefault(values, Dataset())
    for values, item in found.items():
        item.StudyInstanceUID = subject.result.study_uid
        item.ReferencedStudySequence, item.RequestedProcedureCodeSequence = [], []
        for keyword, value in zip(_REQUEST, values, strict=True):
            setattr(item, keyword, value)
        yield item


def _ascii(dataset: Dataset, keyword: str) -> str:
    element = dataset.get_item(keyword)
    value = b"" if element is None or element.value is None else element.value
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = text.strip(" \0")
    return text if text.isascii() and text.isprintable() and len(text) <= _REQUEST[keyword] else ""


def _predecessors(subject: Subject, kind: ObjectKind) -> list[Dataset]:
    """The document of this kind that is superseded (PS3.3 C.17.2, Hierarchical SOP Reference); none of a first one."""
    studies = []
    for issued in () if subject.earlier is None else subject.earlier.objects:
        if issued.kind == kind.name:
            series, study = Dataset(), Dataset()
            series.SeriesInstanceUID = issued.series_uid
            series.ReferencedSOPSequence = [_sop_reference(issued.sop_class_uid, issued.sop_uid)]
            study.StudyInstanceUID = subject.result.study_uid
            study.ReferencedSeriesSequence = [series]
            studies.append(study)
    return studies


def _sop_reference(sop_class_uid: str, sop_uid: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_uid
    reference.ReferencedSOPInstanceUID = sop_uid
    return reference
