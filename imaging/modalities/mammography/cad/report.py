"""The Mammography CAD report (PS3.16 TID 4000) of every outcome, in a Mammography CAD SR (PS3.3 A.35.5).

Image Library, findings summary, detections and analyses are always there, so "nothing found" and "nothing read" are
statements. Each lesion is one Individual Impression with one Rendering Intent throughout; a lesion seen in two views is
a Composite Feature inferred from its Single Image Findings. Items point to the library's images by reference, as the
templates demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import Dataset

from imaging.errors import ImagingError, Reason
from imaging.exam.result import Algorithm, Composite, ExamFinding, ExamResult
from imaging.findings import Code, Finding
from imaging.modalities.mammography.cad import codes as mammo
from imaging.modalities.mammography.cad.library import library_rows
from imaging.report.document import seal
from imaging.report.kind import ObjectKind, Subject, Written
from imaging.report.sr import codes, content
from imaging.report.sr.content import CONTAINS, HAS_MODIFIER, HAS_OBSERVATION_CONTEXT, HAS_PROPERTIES, INFERRED_FROM
from imaging.report.sr.statements import (
    comments,
    composite_tracking_uid,
    exam_statement,
    finding_name,
    images_of,
    tracking_uid,
)
from imaging.report.sr.tid1500 import report_object

# Position of the Image Library below the root, which is 1: the language comes first (TID 4000 rows 2 and 3).
_LIBRARY_PATH: Final = (1, 2)


def write_cad_report(subject: Subject, kind: ObjectKind, _: Written) -> Written:
    """The sealed Mammography CAD SR of a result on single-frame images, its SNOMED codes in the subject's scheme.

    Raises ImagingError for a finding that CID 6014 cannot say or that lies on one frame of several.
    """
    dataset = report_object(subject, kind)
    dataset.update(_root(subject))
    if subject.scheme == "srt":
        mammo.retire(dataset)
    return Written(((seal(dataset, subject.identity, kind.name), dataset),))


def _root(subject: Subject) -> Dataset:
    result = subject.result
    root = Dataset()
    root.ValueType = "CONTAINER"
    root.ConceptNameCodeSequence = [codes.concept(mammo.REPORT)]
    root.ContinuityOfContent = "SEPARATE"
    root.ContentTemplateSequence = [content.template_identification("4000")]
    root.ContentSequence = [
        content.code(HAS_MODIFIER, codes.LANGUAGE, codes.ENGLISH_US),  # TID 1204
        content.container(codes.IMAGE_LIBRARY, _library(subject)),
        _findings_summary(result),
        _detections(result),
        # No quantitative temporal or spatial analysis is made (TID 4016, CID 6043).
        content.code(CONTAINS, mammo.SUMMARY_OF_ANALYSES, codes.NOT_ATTEMPTED),
    ]
    return root


def _library(subject: Subject) -> Iterable[Dataset]:
    """TID 4020: every image of the result, in order."""
    for uid, (ref, frames) in images_of(subject.result).items():
        if frames:
            raise ImagingError(
                f"image {uid}: found frames {frames}; allowed in a Mammography CAD report are single-frame images",
                Reason.REPORT_FAILED,
            )
        yield content.image(CONTAINS, ref.sop_class_uid, uid, (), *library_rows(subject, uid))


def _library_image(result: ExamResult, relationship: str, sop_uid: str) -> Dataset:
    """A by-reference relationship to an image of the library."""
    position = list(images_of(result)).index(sop_uid) + 1
    return content.by_reference(relationship, (*_LIBRARY_PATH, position))


def _algorithm(algorithm: Algorithm, parameters: Sequence[str] = ()) -> list[Dataset]:
    """TID 4019 as properties: name, version, and the identity that changes with every weight or setting."""
    lines = (f"identity={algorithm.identity}", *parameters)
    return [
        content.text(HAS_PROPERTIES, codes.ALGORITHM_NAME, algorithm.name),
        content.text(HAS_PROPERTIES, codes.ALGORITHM_VERSION, algorithm.version),
        *(content.text(HAS_PROPERTIES, codes.ALGORITHM_PARAMETERS, line) for line in lines),
    ]


def impression_text(result: ExamResult) -> str:
    """What the overall impression says in words: validity, extent, unread images, lesions in two views, scores."""
    statement = exam_statement(result)
    rated = [] if statement is None else [f"{statement[0].meaning}: {statement[1]}."]
    return " ".join([*comments(result), *rated])


def _findings_summary(result: ExamResult) -> Dataset:
    """TID 4001: the outcome, the overall impression in words (TID 4002), and an impression for each lesion."""
    return content.code(
        CONTAINS,
        codes.CAD_SUMMARY,
        codes.OUTCOMES[result.finding, result.completeness],
        [
            content.text(HAS_PROPERTIES, mammo.IMPRESSION_DESCRIPTION, impression_text(result)),
            *_algorithm(result.algorithm, result.algorithm.parameters),
            *(_impression(result, members) for members in result.lesions),
        ],
    )


def intent_of(result: ExamResult, members: tuple[int, ...]) -> Code:
    """The Rendering Intent of a lesion, the same for every item that tells of it."""
    told = next((c.score for c in result.composites if c.members == members), result.findings[members[0]].key.score)
    operating_point = None if result.scores is None else result.scores.operating_point
    return mammo.rendering_intent(told, operating_point, result.algorithm.validated)


def _impression(result: ExamResult, members: tuple[int, ...]) -> Dataset:
    """TID 4003: one lesion."""
    intent = content.code(HAS_MODIFIER, mammo.RENDERING_INTENT, intent_of(result, members))
    composite = next((c for c in result.composites if c.members == members), None)
    if composite is None:
        (member,) = members
        lesion = _single_image_finding(result, member + 1, CONTAINS, intent)
    else:
        lesion = _composite_feature(result, composite, intent)
    return content.container(mammo.INDIVIDUAL_IMPRESSION, [intent, lesion], relationship=INFERRED_FROM)


def _composite_feature(result: ExamResult, composite: Composite, intent: Dataset) -> Dataset:
    """TID 4004 and 4005: the same lesion in two views, inferred from what each view shows."""
    label = result.algorithm.label(result.findings[composite.members[0]].key.label)
    names = " + ".join(finding_name(result, member + 1) for member in composite.members)
    return content.code(
        CONTAINS,
        mammo.COMPOSITE_FEATURE,
        mammo.composite_feature(label.finding),
        [
            intent,
            *_tracking(names, composite_tracking_uid(result, composite)),
            content.code(HAS_PROPERTIES, mammo.COMPOSITE_TYPE, mammo.RELATED_SPATIALLY),
            content.code(HAS_PROPERTIES, mammo.SCOPE_OF_FEATURE, mammo.ON_MULTIPLE_IMAGES),
            *_algorithm(result.algorithm),
            content.number(HAS_PROPERTIES, mammo.CERTAINTY_OF_FEATURE, composite.score * 100.0, codes.PERCENT),
            *(_single_image_finding(result, member + 1, INFERRED_FROM, intent) for member in composite.members),
        ],
    )


def _tracking(name: str, uid: str) -> list[Dataset]:
    """TID 4108."""
    return [
        content.text(HAS_OBSERVATION_CONTEXT, codes.TRACKING_IDENTIFIER, name),
        content.uid_reference(HAS_OBSERVATION_CONTEXT, codes.TRACKING_UID, uid),
    ]


def _single_image_finding(result: ExamResult, number: int, relationship: str, intent: Dataset) -> Dataset:
    """TID 4006: finding `number` (from 1) with its certainty, its place (TID 4021) and its size."""
    told = result.findings[number - 1]
    key, algorithm = told.key, result.algorithm
    image = _library_image(result, content.SELECTED_FROM, key.ref.sop_uid)
    value = mammo.single_image_finding(algorithm.label(key.label).finding)
    return content.code(
        relationship,
        mammo.SINGLE_IMAGE_FINDING,
        value,
        [
            intent,
            *_tracking(finding_name(result, number), tracking_uid(result, number)),
            *_algorithm(algorithm),
            content.number(HAS_PROPERTIES, codes.CERTAINTY, key.score * 100.0, codes.PERCENT),
            *_probability(told, algorithm),
            content.point(HAS_PROPERTIES, mammo.CENTER, key.center_px, image),
            content.outline(mammo.OUTLINE, key.outline_px, image, HAS_PROPERTIES),
            *(_long_axis(key, image) if value in mammo.MEASURED else []),
        ],
    )


def _probability(finding: ExamFinding, algorithm: Algorithm) -> list[Dataset]:
    """Probability of cancer, which only a package with a declared validation may state."""
    rating = algorithm.stated_rating
    if rating is None or rating.concept != codes.PROBABILITY_OF_CANCER or finding.rating is None:
        return []
    return [content.number(HAS_PROPERTIES, codes.PROBABILITY_OF_CANCER, finding.rating * 100.0, codes.PERCENT)]


def _long_axis(key: Finding, image: Dataset) -> list[Dataset]:
    """TID 1400: the longest diameter along its path; none where the image is uncalibrated."""
    length = key.longest_diameter_mm
    if length is None:
        return []
    along = content.path(mammo.PATH, key.longest_axis_px, image)
    return [content.number(HAS_PROPERTIES, mammo.LONG_AXIS, length, mammo.MILLIMETRE, [along])]


def _detections(result: ExamResult) -> Dataset:
    """TID 4015: what was searched for on which images, and where that failed."""
    status = codes.detection_summary(result.completeness, frozenset(unread.reason for unread in result.unread))
    failed = {unread.ref.sop_uid for unread in result.unread}
    read = [uid for uid in images_of(result) if uid not in failed]
    sections = []
    if status in (codes.SUCCEEDED, codes.PARTIALLY_SUCCEEDED):
        sections.append((mammo.SUCCESSFUL_DETECTIONS, read))
    if status in (codes.FAILED, codes.PARTIALLY_SUCCEEDED):
        sections.append((mammo.FAILED_DETECTIONS, [uid for uid in images_of(result) if uid in failed]))
    return content.code(
        CONTAINS,
        codes.SUMMARY_OF_DETECTIONS,
        status,
        [
            content.container(name, _detections_performed(result, images), relationship=INFERRED_FROM)
            for name, images in sections
        ],
    )


def searched(result: ExamResult) -> list[Code]:
    """What the package looks for, in codes of CID 6014, each once."""
    return list(dict.fromkeys(mammo.single_image_finding(label.finding) for label in result.algorithm.labels))


def _detections_performed(result: ExamResult, images: Sequence[str]) -> Iterable[Dataset]:
    """TID 4017: one for each kind of finding, with the images it was searched on."""
    for kind in searched(result):
        below = [_library_image(result, HAS_PROPERTIES, uid) for uid in images]
        algorithm = _algorithm(result.algorithm, result.algorithm.parameters)
        yield content.code(CONTAINS, mammo.DETECTION_PERFORMED, kind, [*algorithm, *below])
