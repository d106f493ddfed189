"""The measurement report (PS3.16 TID 1500) of every outcome, in a Comprehensive 3D SR (PS3.3 A.35.13).

One path writes all outcomes: findings only add Imaging Measurements. Qualitative Evaluations are always there and
carry the outcome in codes, so "nothing found" and "nothing read" are statements, never an absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import Dataset

from imaging.exam.result import Algorithm, ExamFinding, ExamResult
from imaging.findings import Code
from imaging.report import codes, content
from imaging.report.content import CONTAINS, HAS_ACQUISITION_CONTEXT, HAS_MODIFIER, HAS_OBSERVATION_CONTEXT
from imaging.report.document import Case, Document, Kind, derived_uid, new_object, seal
from imaging.report.mammography_codes import IMAGE_LATERALITY, LATERALITIES
from imaging.report.projections import size_rows, study_date, view_rows
from imaging.report.statements import (
    comments,
    exam_statement,
    extent,
    finding_name,
    images_of,
    measures_of,
    tracking_uid,
)

COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"


def write_report(case: Case, segmentations: Sequence[tuple[Document, Dataset]], remarks: Sequence[str]) -> Document:
    """The sealed SR of a result. `segmentations` go into the evidence; `remarks` are further comments."""
    dataset = report_object(case, "sr", COMPREHENSIVE_3D_SR, segmentations)
    dataset.update(_root(case, remarks))
    return seal(dataset, case.identity, "sr")


def report_object(
    case: Case, kind: Kind, sop_class_uid: str, segmentations: Sequence[tuple[Document, Dataset]] = ()
) -> Dataset:
    """A structured report of a result without its content (PS3.3 C.17.1, C.17.2)."""
    result = case.result
    dataset = new_object(case, kind)
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = "SR"
    dataset.InstanceNumber = 1
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    # PS3.3 C.17.2: COMPLETE or PARTIAL content of this document; an unread image leaves it partial.
    dataset.CompletionFlag = "COMPLETE" if result.completeness == "all" else "PARTIAL"
    dataset.CompletionFlagDescription = extent(result)
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(result, segmentations)]
    return dataset


def _root(case: Case, remarks: Sequence[str]) -> Dataset:
    result = case.result
    root = Dataset()
    root.ValueType = "CONTAINER"
    root.ConceptNameCodeSequence = [codes.concept(codes.MEASUREMENT_REPORT)]
    root.ContinuityOfContent = "SEPARATE"
    root.ContentTemplateSequence = [content.template_identification("1500")]
    root.ContentSequence = [
        content.code(HAS_MODIFIER, codes.LANGUAGE, codes.ENGLISH_US),  # TID 1204
        *_observer(result.algorithm),
        content.code(HAS_MODIFIER, codes.PROCEDURE_REPORTED, result.algorithm.procedure),
        _image_library(case),
    ]
    if result.findings:
        groups = [_planar_group(result, number) for number in range(1, len(result.findings) + 1)]
        root.ContentSequence.append(
            content.container(codes.IMAGING_MEASUREMENTS, [*_algorithm(CONTAINS, result.algorithm), *groups])
        )
    root.ContentSequence.append(_qualitative_evaluations(result, remarks))
    return root


def observer_rows(algorithm: Algorithm) -> dict[Code, str]:
    """TID 1004, the device that observed. Its UID changes with every change of weights or settings."""
    return {
        codes.DEVICE_OBSERVER_UID: derived_uid("device", algorithm.identity),
        codes.DEVICE_OBSERVER_NAME: algorithm.name,
        codes.DEVICE_OBSERVER_MANUFACTURER: algorithm.manufacturer,
        codes.DEVICE_OBSERVER_MODEL: f"{algorithm.name} {algorithm.version}",
        codes.DEVICE_OBSERVER_SERIAL: algorithm.identity,
    }


def _observer(algorithm: Algorithm) -> Iterable[Dataset]:
    """TID 1001, 1002 and 1004."""
    yield content.code(HAS_OBSERVATION_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE)
    for name, value in observer_rows(algorithm).items():
        build = content.uid_reference if name == codes.DEVICE_OBSERVER_UID else content.text
        yield build(HAS_OBSERVATION_CONTEXT, name, value)


def _algorithm(relationship: str, algorithm: Algorithm) -> list[Dataset]:
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


def _image_library(case: Case) -> Dataset:
    """TID 1600 with one Image Library Group (TID 1601, descriptors TID 1602 and, of a projection, TID 1603)."""
    entries = [
        content.image(CONTAINS, ref.sop_class_uid, uid, frames, *_descriptors(case, uid))
        for uid, (ref, frames) in images_of(case.result).items()
    ]
    group = content.container(codes.IMAGE_LIBRARY_GROUP, entries)
    return content.container(codes.IMAGE_LIBRARY, [group], "1600")


def _descriptors(case: Case, uid: str) -> list[Dataset]:
    context, view = HAS_ACQUISITION_CONTEXT, case.result.views.get(uid)
    sides = [] if view is None else [content.code(context, IMAGE_LATERALITY, LATERALITIES[view.laterality])]
    return [
        content.code(context, codes.MODALITY, codes.MODALITIES[case.result.modality]),
        *sides,
        *study_date(case),
        *size_rows(case.sources[uid]),
        *view_rows(view),
    ]


def _planar_group(result: ExamResult, number: int) -> Dataset:
    """TID 1410: the outline on its key frame, then what was measured (TID 1419).

    The template wants exactly one of an outline (111030) and a segmentation frame (121214, with 121233). Viewers draw
    outlines, so the SEG is in the evidence, named in a comment and tied to this group by the Tracking UID.
    """
    finding = result.findings[number - 1]
    key, label = finding.key, result.algorithm.label(finding.key.label)
    frames = () if key.ref.frame_number is None else (key.ref.frame_number,)
    source = content.image(content.SELECTED_FROM, key.ref.sop_class_uid, key.ref.sop_uid, frames)
    return content.container(
        codes.MEASUREMENT_GROUP,
        [
            content.text(HAS_OBSERVATION_CONTEXT, codes.TRACKING_IDENTIFIER, finding_name(result, number)),
            content.uid_reference(HAS_OBSERVATION_CONTEXT, codes.TRACKING_UID, tracking_uid(result, number)),
            content.code(CONTAINS, codes.FINDING, label.finding),
            content.outline(codes.IMAGE_REGION, key.outline_px, source),
            content.code(HAS_MODIFIER, codes.FINDING_SITE, label.site),
            *_measurements(finding, result.algorithm),
        ],
        "1410",
    )


def _measurements(finding: ExamFinding, algorithm: Algorithm) -> Iterable[Dataset]:
    yield content.number(
        CONTAINS, codes.CERTAINTY, finding.key.score * 100.0, codes.PERCENT, _algorithm(HAS_MODIFIER, algorithm)
    )
    for name, value in measures_of(finding).items():
        concept, unit = codes.measure_codes(name)
        yield content.number(CONTAINS, concept, value, unit, _algorithm(HAS_MODIFIER, algorithm))
    rating = algorithm.stated_rating
    if rating is not None and finding.rating is not None:
        percent = finding.rating * 100.0
        yield content.number(CONTAINS, rating.concept, percent, codes.PERCENT, _algorithm(HAS_MODIFIER, algorithm))


def _qualitative_evaluations(result: ExamResult, remarks: Sequence[str]) -> Dataset:
    """The outcome in codes (CID 6047, CID 6042) and everything a reader must know, as comments."""
    reasons = frozenset(unread.reason for unread in result.unread)
    outcome = codes.OUTCOMES[result.finding, result.completeness]
    detections = codes.detection_summary(result.completeness, reasons)
    statement = exam_statement(result)
    return content.container(
        codes.QUALITATIVE_EVALUATIONS,
        [
            *_algorithm(CONTAINS, result.algorithm),
            content.code(CONTAINS, codes.CAD_SUMMARY, outcome),
            content.code(CONTAINS, codes.SUMMARY_OF_DETECTIONS, detections),
            *([] if statement is None else [content.text(CONTAINS, *statement)]),
            *(content.text(CONTAINS, codes.COMMENT, line) for line in (*comments(result), *remarks)),
        ],
    )


def _evidence(result: ExamResult, segmentations: Sequence[tuple[Document, Dataset]]) -> Dataset:
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


def _sop_reference(sop_class_uid: str, sop_uid: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_uid
    reference.ReferencedSOPInstanceUID = sop_uid
    return reference
