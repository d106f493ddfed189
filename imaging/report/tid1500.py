"""The measurement report (PS3.16 TID 1500) of every outcome, in a Comprehensive 3D SR (PS3.3 A.35.13).

One path writes all outcomes: findings only add Imaging Measurements. Qualitative Evaluations are always there and
carry the outcome in codes, so "nothing found" and "nothing read" are statements, never an absence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import Dataset

from imaging.exam.result import Algorithm, ExamFinding, ExamResult, Unread
from imaging.findings import Code
from imaging.image import SourceRef
from imaging.report import codes, content
from imaging.report.content import CONTAINS, HAS_ACQUISITION_CONTEXT, HAS_MODIFIER, HAS_OBSERVATION_CONTEXT
from imaging.report.document import Case, Document, derived_uid, new_object, seal

COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
NOT_VALIDATED: Final = "Not for clinical use: the algorithm is not validated."
RESEARCH_ONLY: Final = "Not for clinical use: research software."
UNCALIBRATED: Final = "the image has no calibration, so no size in millimeters can be given."
_TRACKING_STEP_PX: Final = 4
_STUDY_DATE_TAG: Final = 0x00080020


def write_report(case: Case, segmentations: Sequence[tuple[Document, Dataset]], remarks: Sequence[str]) -> Document:
    """The sealed SR of a result. `segmentations` go into the evidence; `remarks` are further comments."""
    result = case.result
    dataset = new_object(case, "sr")
    dataset.SOPClassUID = COMPREHENSIVE_3D_SR
    dataset.Modality = "SR"
    dataset.InstanceNumber = 1
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    # PS3.3 C.17.2: COMPLETE or PARTIAL content of this document; an unread image leaves it partial.
    dataset.CompletionFlag = "COMPLETE" if result.completeness == "all" else "PARTIAL"
    dataset.CompletionFlagDescription = _extent(result)
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(result, segmentations)]
    dataset.update(_root(case, remarks))
    return seal(dataset, case.identity, "sr")


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


def images_of(result: ExamResult) -> dict[str, tuple[SourceRef, list[int]]]:
    """Every image of the result, analysed or unread, in order: SOP UID → one reference and all its frame numbers."""
    refs: dict[str, list[SourceRef]] = {}
    for ref in (*result.analysed, *(unread.ref for unread in result.unread)):
        refs.setdefault(ref.sop_uid, []).append(ref)
    images: dict[str, tuple[SourceRef, list[int]]] = {}
    for uid, of_image in refs.items():
        frames = {ref.frame_number for ref in of_image}
        # A reference without a frame means the whole image, and so does an IMAGE item without frame numbers.
        images[uid] = (of_image[0], [] if None in frames else sorted(number for number in frames if number))
    return images


def _image_library(case: Case) -> Dataset:
    """TID 1600 with one Image Library Group (TID 1601, descriptors TID 1602)."""
    study_date = case.identity.get(_STUDY_DATE_TAG, b"").decode("ascii", "replace").strip()
    entries = [
        content.image(CONTAINS, ref.sop_class_uid, uid, frames, *_descriptors(case, uid, study_date))
        for uid, (ref, frames) in images_of(case.result).items()
    ]
    group = content.container(codes.IMAGE_LIBRARY_GROUP, entries)
    return content.container(codes.IMAGE_LIBRARY, [group], "1600")


def _descriptors(case: Case, uid: str, study_date: str) -> list[Dataset]:
    context, header = HAS_ACQUISITION_CONTEXT, case.sources[uid]
    rows = [content.code(context, codes.MODALITY, codes.MODALITIES[case.result.modality])]
    if re.fullmatch(r"\d{8}", study_date):
        rows.append(content.date(context, codes.STUDY_DATE, study_date))
    for name, value in ((codes.PIXEL_DATA_ROWS, header.get("Rows")), (codes.PIXEL_DATA_COLUMNS, header.get("Columns"))):
        if isinstance(value, int):
            rows.append(content.number(context, name, value, codes.PIXELS))
    return rows


def finding_name(result: ExamResult, number: int) -> str:
    """The Tracking Identifier of finding `number` (from 1), the same in SR and SEG."""
    label = result.algorithm.label(result.findings[number - 1].key.label)
    return f"{label.finding.meaning} {number}"


def tracking_uid(result: ExamResult, number: int) -> str:
    """The Tracking Unique Identifier of finding `number` (from 1): a re-run with the same package repeats it.

    It depends on study, package identity, image, label and geometry in steps of a few pixels, so that a border pixel
    that falls the other way keeps it. Other weights give another one: whether two versions saw the same lesion is for
    matching to say, not for a coincidence of coordinates.
    """
    keys = [_tracking_key(finding) for finding in result.findings[:number]]
    again = keys[:-1].count(keys[-1])
    return derived_uid("tracking", result.study_uid, result.algorithm.identity, keys[-1], str(again))


def _tracking_key(finding: ExamFinding) -> str:
    key = finding.key
    place = [round(v / _TRACKING_STEP_PX) for v in key.box_px]
    return f"{key.label} {key.ref.sop_uid} {key.ref.frame_number} {place}"


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


def measures_of(finding: ExamFinding) -> dict[str, float]:
    """The measures that can be given, by name: the finding's own sizes and the exam's; none where uncalibrated."""
    own = {"longest_diameter_mm": finding.key.longest_diameter_mm, "area_mm2": finding.key.area_mm2}
    return {name: value for name, value in (own | finding.measures).items() if value is not None}


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


def exam_statement(result: ExamResult) -> tuple[Code, str] | None:
    """What the report says of the whole examination by the package's rating: concept and text; None where it may not.

    Qualitative Evaluations take codes and text (TID 1500 rows 13 and 14). A measurement group would need a region:
    viewers show nothing for a group without one, and an examination where nothing was outlined has none.
    """
    rating, told = result.algorithm.stated_rating, result.rating
    if rating is None or told is None:
        return None
    frame = "" if told.ref.frame_number is None else f", frame {told.ref.frame_number}"
    return rating.concept, f"{round(told.probability * 100.0, 2):g} %, on image {told.ref.sop_uid}{frame}"


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


def comments(result: ExamResult) -> list[str]:
    """What the report says in words: validity, search, extent, unread images, cine frames, calibration, notes."""
    lines = _validity(result.algorithm)
    searched = sorted({label.finding.meaning for label in result.algorithm.labels})
    lines.append(f"Searched for: {', '.join(searched)}. {_extent(result)}")
    lines += [_unread_line(group) for group in unread_groups(result)]
    for number, finding in enumerate(result.findings, start=1):
        name, ref = finding_name(result, number), finding.key.ref
        if finding.frames:
            lines.append(
                f"{name} was seen in frames {_ranges(finding.frames)} of image {ref.sop_uid}; "
                f"its outline is on frame {ref.frame_number}."
            )
        if finding.key.source_grid.unit != "mm":
            lines.append(f"{name}: {UNCALIBRATED}")
    for measure, value in result.measures.items():
        if value is not None:
            name, _, unit = measure.rpartition("_")
            lines.append(f"Examination, {name.replace('_', ' ')}: {round(value, 2)} {unit}")
    # Notes quote header values, so their letters may be any; our own text is ASCII.
    return [*lines, *("".join(c if " " <= c <= "~" else "?" for c in note) for note in result.notes)]


def _validity(algorithm: Algorithm) -> list[str]:
    """Never for clinical use; and what its probabilities mean, where it may state any."""
    calibration, rating = algorithm.calibration, algorithm.stated_rating
    if calibration is None:
        return [NOT_VALIDATED]
    lines = [
        RESEARCH_ONLY,
        f"Validated on: {calibration.population.rstrip('.')}. Prevalence there: {calibration.prevalence * 100:g} %. "
        f"Operating point: {calibration.operating_point.rstrip('.')}.",
    ]
    if rating is not None:
        lines.append(
            f"{rating.concept.meaning}: of a finding, {rating.positive} against {rating.negative} on the image of its "
            f"outline; of the examination, {rating.positive} among all classes of an image, highest of its images."
        )
    return lines


def _extent(result: ExamResult) -> str:
    unread = {item.ref.sop_uid for item in result.unread}
    total = len(images_of(result))
    return f"{total - len(unread)} of {total} images were analyzed completely."


def unread_groups(result: ExamResult) -> list[list[Unread]]:
    """Unread items with the same image and the same reason, in order."""
    groups: dict[tuple[str, str], list[Unread]] = {}
    for item in result.unread:
        groups.setdefault((item.ref.sop_uid, item.reason), []).append(item)
    return list(groups.values())


def _unread_line(group: Sequence[Unread]) -> str:
    ref, reason = group[0].ref, group[0].reason
    frames = {item.ref.frame_number for item in group if item.ref.frame_number is not None}
    where = f"frames {_ranges(frames)} of image {ref.sop_uid}" if frames else f"image {ref.sop_uid}"
    return f"Not analyzed: {where}. Reason {reason.value}: {reason.meaning}."


def _ranges(numbers: Iterable[int]) -> str:
    """1, 2, 3, 7 as `1-3, 7`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


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
