"""Read-back of measurement reports: every row against the result, every reference against sources and segmentations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from imaging.dicom.results.content_tree import ContentItem, Reference
from imaging.dicom.results.records import ReadReport, ReadSegment, ReadSegmentation
from imaging.exam.result import ExamResult
from imaging.report.agreement import (
    Sources,
    check_head,
    check_measures,
    check_predecessors,
    check_projection,
    check_reference,
    check_region,
    frames_of,
    refuse,
)
from imaging.report.kind import ObjectKind, ReadBack, Subject
from imaging.report.seg.kind import SEGMENTATION
from imaging.report.seg.readback import check_segment_reference, segmentation_obstacle, segments_by_tracking
from imaging.report.seg.stills import OWN_PLANE, is_placed
from imaging.report.sr import codes
from imaging.report.sr.rows import missing_row
from imaging.report.sr.statements import (
    comments,
    exam_statement,
    images_of,
    observer_rows,
    planar_measures,
    rois,
    volume_measures,
)
from imaging.report.sr.views import LATERALITIES


def check_report(back: ReadBack, kind: ObjectKind) -> None:
    """Raises ReadbackError at the first disagreement between the report and the result, its sources and its SEGs."""
    read, result, sources = back.only(kind, ReadReport), back.subject.result, back.subject.sources
    segmentations = back.of(SEGMENTATION, ReadSegmentation)
    check_predecessors(read, back.subject.earlier, kind.name)
    _check_outcome(read, result)
    _check_remarks(read, segmentations, back.subject)
    _check_references(read, segmentations, result, sources)
    _check_groups(read, result, segments_by_tracking(segmentations, back.subject))


def _check_outcome(read: ReadReport, result: ExamResult) -> None:
    """Mandatory rows, outcome codes, flags and everything that must be said in words."""
    missing = missing_row(read.root, bool(rois(result)))
    if missing is not None:
        refuse(read.sop_uid, "ContentSequence (0040,A730)", f"no {missing}", "every mandatory row of TID 1500")
    reasons = frozenset(unread.reason for unread in result.unread)
    for field, found, wanted in (
        ("procedure reported", read.procedure, result.algorithm.procedure),
        ("outcome", read.outcome, codes.OUTCOMES[result.finding, result.completeness]),
        ("detections", read.detections, codes.detection_summary(result.completeness, reasons)),
        ("CompletionFlag", read.completion, "COMPLETE" if result.completeness == "all" else "PARTIAL"),
        ("VerificationFlag", read.verification, "UNVERIFIED"),
        ("TemplateIdentifier", read.template, "1500"),
    ):
        if found != wanted:
            refuse(read.sop_uid, field, found, wanted)
    context = {codes.LANGUAGE: codes.ENGLISH_US, codes.OBSERVER_TYPE: codes.DEVICE, **observer_rows(result.algorithm)}
    for name, value in context.items():
        if [item.value for item in read.root.children if item.name == name] != [value]:
            refuse(read.sop_uid, name.meaning, "another value", value)
    unsaid = Counter(comments(result)) - Counter(read.comments)
    if unsaid:
        refuse(read.sop_uid, "comments", f"{unsaid.total()} missing", "every statement of the result")
    _check_statement(read, result)
    _check_algorithm(read.root, read.sop_uid, result)


def _check_statement(read: ReadReport, result: ExamResult) -> None:
    """The examination's rating stands in the report as the result has it, and nowhere where it may not be stated."""
    rating = result.algorithm.rating
    concept = codes.PROBABILITY_OF_CANCER if rating is None else rating.concept
    statement = exam_statement(result)
    found = [item.value for item in read.root.walk() if item.value_type == "TEXT" and item.name == concept]
    if found != ([] if statement is None else [statement[1]]):
        refuse(read.sop_uid, concept.meaning, found, "what the result and its validation allow")


def _check_remarks(read: ReadReport, segmentations: Sequence[ReadSegmentation], subject: Subject) -> None:
    """Every segmentation is named, and its own plane; where an image with findings has none the report says why."""
    needed = [f"in segmentation object {segmentation.sop_uid}." for segmentation in segmentations]
    stills = {roi.measured.key.ref.sop_uid for roi in rois(subject.result) if roi.volume_region is None}
    for segmentation in segmentations:
        images = {image.sop_uid for s in segmentation.segments for frame in s.frames for image in frame.sources}
        if any(not is_placed(subject.sources[uid]) for uid in images & stills):
            needed.append(f"{segmentation.sop_uid}: {OWN_PLANE}")
    for roi in rois(subject.result):
        reason, ref = segmentation_obstacle(roi, subject), roi.measured.key.ref
        where = f"image {ref.sop_uid}" if roi.volume_region is None else f"series {ref.series_uid} and no volume"
        needed += [] if reason is None else [f"{where}, because {reason}"]
    for phrase in needed:
        if not any(phrase in comment for comment in read.comments):
            refuse(read.sop_uid, "comments", "nothing", f"a sentence with {phrase!r}")


def _check_algorithm(root: ContentItem, where: str, result: ExamResult) -> None:
    """TID 4019 at every measurement and section names the algorithm of the result; sections carry its parameters."""
    algorithm = result.algorithm
    wanted = {
        codes.ALGORITHM_NAME: [algorithm.name],
        codes.ALGORITHM_VERSION: [algorithm.version],
        codes.ALGORITHM_PARAMETERS: [f"identity={algorithm.identity}", *algorithm.parameters],
    }
    library = root.child((codes.IMAGE_LIBRARY.value, codes.IMAGE_LIBRARY.scheme))
    skipped = {id(item) for item in library.walk()} if library else set()
    for item in root.walk():
        section = item.is_named(("126010", "DCM")) or item.is_named(("C0034375", "UMLS"))
        if id(item) in skipped or not (section or item.value_type == "NUM"):
            continue
        for name, told in wanted.items():
            values = told if section or name != codes.ALGORITHM_PARAMETERS else []
            if [child.value for child in item.children if child.name == name] != values:
                refuse(where, f"{name.meaning} of {item.name}", "other values", "the algorithm of the result")


def _check_references(
    read: ReadReport, segmentations: Sequence[ReadSegmentation], result: ExamResult, sources: Sources
) -> None:
    """Every reference resolves, and library and evidence name exactly the images of the result."""
    images = images_of(result)
    for item in read.root.walk():
        if isinstance(item.value, Reference) and item.name != codes.REFERENCED_SEGMENT:
            check_reference(read.sop_uid, item.value, sources)
    listed = {entry.sop_uid: entry.frames for entry in read.library}
    wanted = {uid: tuple(sorted(frames)) for uid, (_, frames) in images.items()}
    if listed != wanted or len(read.library) != len(wanted):
        refuse(read.sop_uid, "Image Library", f"{len(listed)} images", f"the {len(wanted)} images of the result")
    for item in read.root.walk():
        if item.value_type == "IMAGE" and item.relationship == "CONTAINS" and item.name is None:
            where = f"{read.sop_uid}, library image {item.value.sop_uid}"
            check_projection(where, item, result.views.get(item.value.sop_uid), LATERALITIES)
    evidence = {(e.study_uid, e.series_uid, e.sop_class_uid, e.sop_uid) for e in read.evidence}
    of_images = {(result.study_uid, ref.series_uid, ref.sop_class_uid, uid) for uid, (ref, _) in images.items()}
    of_masks = {(result.study_uid, s.series_uid, s.sop_class_uid, s.sop_uid) for s in segmentations}
    if evidence != of_images | of_masks:
        refuse(read.sop_uid, "evidence (0040,A375)", f"{len(evidence)} instances", "the images and segmentations")


def _check_groups(
    read: ReadReport, result: ExamResult, segments: Mapping[str, tuple[ReadSegmentation, ReadSegment]]
) -> None:
    """A planar group per region, in order, then a volumetric one per volume region that has a segment."""
    regions = rois(result)
    planar = [found for found in read.findings if found.segment is None]
    volumetric = [found for found in read.findings if found.segment is not None]
    volume_regions = [
        (roi, roi.volume_region) for roi in regions if roi.volume_region is not None and roi.tracking_uid in segments
    ]
    for what, count, wanted in (
        ("planar measurement groups", len(planar), len(regions)),
        ("volumetric measurement groups", len(volumetric), len(volume_regions)),
    ):
        if count != wanted:
            refuse(read.sop_uid, what, count, wanted)
    for number, (found, roi) in enumerate(zip(planar, regions, strict=True), start=1):
        where, key = f"{read.sop_uid}, finding {number}", roi.measured.key
        check_head(where, found, roi)
        for field, value, allowed in (
            ("image", found.image and found.image.sop_uid, key.ref.sop_uid),
            ("frame", found.image and found.image.frames, frames_of(key.ref)),
            ("graphic type", found.graphic_type, "POLYLINE"),
        ):
            if value != allowed:
                refuse(where, field, value, allowed)
        check_region(where, found, key)
        check_measures(where, found, planar_measures(result, roi))
    for found, (roi, volume_region) in zip(volumetric, volume_regions, strict=True):
        where = f"{read.sop_uid}, volume of {roi.name}"
        check_head(where, found, roi)
        check_segment_reference(where, found, volume_region, segments[roi.tracking_uid])
        check_measures(where, found, volume_measures(result, roi, volume_region))
