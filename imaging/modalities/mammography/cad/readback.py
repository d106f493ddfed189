"""A Mammography CAD report, from its bytes, against the result and the sources it came from.

Bytes, identity and equipment are checked as of every document (`readback`); here is what the report says.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imaging.dicom.results.content_tree import ContentItem, ReadMeasure
from imaging.dicom.results.records import ReadFinding, ReadReport
from imaging.exam.result import ExamResult
from imaging.findings import Code
from imaging.modalities.mammography.cad import codes as mammo
from imaging.modalities.mammography.cad.library import orientation, spacings
from imaging.modalities.mammography.cad.report import impression_text, intent_of, searched
from imaging.modalities.mammography.cad.rows import missing_cad_row
from imaging.report.agreement import (
    Sources,
    check_predecessors,
    check_projection,
    check_reference,
    check_region,
    codes_below,
    refuse,
)
from imaging.report.kind import ObjectKind, ReadBack
from imaging.report.sr import codes
from imaging.report.sr.statements import composite_tracking_uid, images_of, tracking_uid

_POINT_TOLERANCE_PX: Final = 1e-2
_SPACING_TOLERANCE_MM: Final = 1e-6
_GRAPHIC_TYPES: Final = {mammo.CENTER: "POINT", mammo.OUTLINE: "POLYLINE", mammo.PATH: "POLYLINE"}


def check_cad_report(back: ReadBack, kind: ObjectKind) -> None:
    """Raises ReadbackError at the first disagreement between the report and the result or its sources."""
    read, result, sources = back.only(kind, ReadReport), back.subject.result, back.subject.sources
    missing = missing_cad_row(read.root)
    if missing is not None:
        refuse(read.sop_uid, "ContentSequence (0040,A730)", f"no {missing}", "every mandatory row of TID 4000")
    check_predecessors(read, back.subject.earlier, kind.name)
    _check_statements(read, result)
    _check_algorithm(read, result)
    _check_schemes(read)
    _check_library(read, result, sources)
    _check_references(read)
    _check_graphics(read)
    _check_detections(read, result)
    _check_findings(read, result)
    _check_paths(read, result)
    _check_composites(read, result)
    _check_impressions(read, result)


def _check_statements(read: ReadReport, result: ExamResult) -> None:
    """Outcome codes, flags, and the overall impression in words."""
    analyses = _values(read.root, mammo.SUMMARY_OF_ANALYSES)
    reasons = frozenset(unread.reason for unread in result.unread)
    for field, found, wanted in (
        ("TemplateIdentifier", read.template, "4000"),
        ("language", _values(read.root, codes.LANGUAGE), [codes.ENGLISH_US]),
        ("outcome", read.outcome, codes.OUTCOMES[result.finding, result.completeness]),
        ("detections", read.detections, codes.detection_summary(result.completeness, reasons)),
        ("analyses", analyses, [codes.NOT_ATTEMPTED]),
        ("impression", _values(read.root, mammo.IMPRESSION_DESCRIPTION), [impression_text(result)]),
        ("CompletionFlag", read.completion, "COMPLETE" if result.completeness == "all" else "PARTIAL"),
        ("VerificationFlag", read.verification, "UNVERIFIED"),
    ):
        if found != wanted:
            refuse(read.sop_uid, field, found, wanted)


def _values(root: ContentItem, name: Code) -> list[object]:
    return [item.value for item in root.walk() if item.name == name]


def _check_algorithm(read: ReadReport, result: ExamResult) -> None:
    """TID 4019 wherever it stands names the algorithm of the result; summary and detections carry its parameters."""
    algorithm = result.algorithm
    identity = f"identity={algorithm.identity}"
    for item in read.root.walk():
        if item.child((codes.ALGORITHM_NAME.value, "DCM")) is None:
            continue
        complete = item.name in (codes.CAD_SUMMARY, mammo.DETECTION_PERFORMED)
        for name, wanted in (
            (codes.ALGORITHM_NAME, [algorithm.name]),
            (codes.ALGORITHM_VERSION, [algorithm.version]),
            (codes.ALGORITHM_PARAMETERS, [identity, *(algorithm.parameters if complete else ())]),
        ):
            if [child.value for child in item.children if child.name == name] != wanted:
                refuse(read.sop_uid, f"{name.meaning} of {item.name}", "other values", "the algorithm of the result")


def _check_schemes(read: ReadReport) -> None:
    """A reader that knows one of the SNOMED schemes must understand every code."""
    given = [one for item in read.root.walk() for one in (item.name, item.value) if isinstance(one, Code)]
    schemes = {code.scheme for code in given if code.scheme in {"SCT", "SRT"}}
    if len(schemes) > 1:
        refuse(read.sop_uid, "CodingSchemeDesignator (0008,0102)", sorted(schemes), "SCT or SRT, one of them")


def _check_library(read: ReadReport, result: ExamResult, sources: Sources) -> None:
    """Library and evidence name exactly the images of the result, in order, each with its side, view and spacing."""
    images = images_of(result)
    if [entry.sop_uid for entry in read.library] != list(images):
        refuse(read.sop_uid, "Image Library", f"{len(read.library)} images", f"the {len(images)} images of the result")
    evidence = sorted((e.study_uid, e.series_uid, e.sop_class_uid, e.sop_uid) for e in read.evidence)
    if evidence != sorted((result.study_uid, r.series_uid, r.sop_class_uid, uid) for uid, (r, _) in images.items()):
        refuse(read.sop_uid, "evidence (0040,A375)", f"{len(evidence)} instances", "the images of the result")
    for item, entry in zip(_library_items(read.root), read.library, strict=True):
        check_reference(read.sop_uid, entry, sources)
        where = f"{read.sop_uid}, library image {entry.sop_uid}"
        check_projection(where, item, result.views.get(entry.sop_uid), mammo.SIDES)
        _check_geometry(where, item, sources, entry.sop_uid)


def _library_items(root: ContentItem) -> tuple[ContentItem, ...]:
    library = root.child((codes.IMAGE_LIBRARY.value, codes.IMAGE_LIBRARY.scheme))
    return () if library is None else library.children


def _check_geometry(where: str, item: ContentItem, sources: Sources, uid: str) -> None:
    """Pixel spacing in millimetres and patient orientation, as the source states them."""
    header = sources[uid]
    told = {c.name: c.value for c in item.children if c.name and isinstance(c.value, ReadMeasure)}
    for name, value in spacings(header):
        found = told.get(name, ReadMeasure(name, None, None))
        if found.unit != mammo.MILLIMETRE or abs((found.value or 0.0) - value) > _SPACING_TOLERANCE_MM:
            refuse(where, name.meaning, found.value, f"{value} mm")
    told_orientation = [
        (child.name, child.value)
        for child in item.children
        if child.name in (mammo.ORIENTATION_ROW, mammo.ORIENTATION_COLUMN)
    ]
    if told_orientation != orientation(header):
        refuse(where, "patient orientation", told_orientation, "Patient Orientation (0020,0020) of the source")


def _check_references(read: ReadReport) -> None:
    """Every by-reference relationship leads to an image of the library, and no image stands anywhere else."""
    library = {id(item) for item in _library_items(read.root)}
    for item in read.root.walk():
        if item.refers_to and id(read.root.at(item.refers_to)) not in library:
            refuse(
                read.sop_uid, "ReferencedContentItemIdentifier (0040,DB73)", item.refers_to, "an image of the library"
            )
        if item.value_type in {"IMAGE", "COMPOSITE"} and id(item) not in library:
            refuse(read.sop_uid, "IMAGE item", "one outside of the Image Library", "a reference to the library")


def _check_graphics(read: ReadReport) -> None:
    """Each place has the graphic type of its concept (TID 1400, TID 4021)."""
    for item in read.root.walk():
        wanted = _GRAPHIC_TYPES.get(item.name) if item.value_type == "SCOORD" and item.name else None
        if wanted is not None and item.graphic_type != wanted:
            refuse(read.sop_uid, f"GraphicType (0070,0023) of {item.name}", item.graphic_type, wanted)


def _check_detections(read: ReadReport, result: ExamResult) -> None:
    """What succeeded on the analysed images and failed on the others, for everything that was searched."""
    failed = {unread.ref.sop_uid for unread in result.unread}
    parts = {
        True: [u for u in images_of(result) if u not in failed],
        False: [u for u in images_of(result) if u in failed],
    }
    attempted = read.detections != codes.NOT_ATTEMPTED
    wanted = [(done, kind, parts[done]) for done in (True, False) for kind in searched(result) if parts[done]]
    found = [(one.succeeded, one.kind, [image.sop_uid for image in one.images]) for one in read.performed]
    if found != (wanted if attempted else []):
        refuse(read.sop_uid, "detections performed", f"{len(found)} entries", "the images read and those that failed")


def _check_findings(read: ReadReport, result: ExamResult) -> None:
    order = [member for members in result.lesions for member in members]
    if len(read.findings) != len(order):
        refuse(read.sop_uid, "single image findings", len(read.findings), len(order))
    intents = {member: intent_of(result, members) for members in result.lesions for member in members}
    for found, member in zip(read.findings, order, strict=True):
        finding = result.findings[member]
        where, key = f"{read.sop_uid}, finding {member + 1}", finding.key
        label = mammo.single_image_finding(result.algorithm.label(key.label).finding)
        for field, value, wanted in (
            ("tracking UID", found.tracking_uid, tracking_uid(result, member + 1)),
            ("finding", found.label, label),
            ("image", found.image and found.image.sop_uid, key.ref.sop_uid),
            ("certainty", found.score, round(key.score * 100.0, 2) / 100.0),
            ("rendering intent", found.intent, intents[member]),
            ("graphic type", found.graphic_type, "POLYLINE"),
            ("images referred to", {reference.sop_uid for reference in found.references}, {key.ref.sop_uid}),
        ):
            if value != wanted:
                refuse(where, field, value, wanted)
        if found.center_px is None or np.abs(np.subtract(found.center_px, key.center_px)).max() > _POINT_TOLERANCE_PX:
            refuse(where, "center", found.center_px, key.center_px)
        check_region(where, found, key)
        _check_measures(where, found, result, member)


def _check_measures(where: str, found: ReadFinding, result: ExamResult, member: int) -> None:
    """The longest diameter where there is one; a probability of cancer only of a validated package."""
    finding, rating = result.findings[member], result.algorithm.stated_rating
    allowed: dict[Code, tuple[float, Code]] = {}
    length = finding.key.longest_diameter_mm
    if length is not None and found.label in mammo.MEASURED:
        allowed[mammo.LONG_AXIS] = (round(length, 2), mammo.MILLIMETRE)
    if rating is not None and finding.rating is not None and rating.concept == codes.PROBABILITY_OF_CANCER:
        allowed[codes.PROBABILITY_OF_CANCER] = (round(finding.rating * 100.0, 2), codes.PERCENT)
    given = {m.concept: (m.value, m.unit) for m in found.measures}
    if given != allowed or len(found.measures) != len(allowed):
        refuse(where, "measurements", sorted(str(m) for m in found.measures), "those of the finding, with their units")


def _check_paths(read: ReadReport, result: ExamResult) -> None:
    """Each longest diameter lies where it was measured."""
    found = [item for item in read.root.walk() if item.is_named((mammo.SINGLE_IMAGE_FINDING.value, "DCM"))]
    order = [member for members in result.lesions for member in members]
    for item, member in zip(found, order, strict=True):
        ends = result.findings[member].key.longest_axis_px
        for path in (below for below in item.walk() if below.name == mammo.PATH):
            if path.value.shape != ends.shape or np.abs(path.value - ends).max() > _POINT_TOLERANCE_PX:
                refuse(f"{read.sop_uid}, finding {member + 1}", "path", path.value.tolist(), ends.tolist())


def _check_composites(read: ReadReport, result: ExamResult) -> None:
    """Each composite of the result, with the findings that are its members, and no other."""
    order = [member for members in result.lesions for member in members]
    told = {composite.members: composite for composite in result.composites}
    expected = [told[members] for members in result.lesions if members in told]
    if len(read.composites) != len(expected):
        refuse(read.sop_uid, "composite features", len(read.composites), len(expected))
    for found, composite in zip(read.composites, expected, strict=True):
        label = result.algorithm.label(result.findings[composite.members[0]].key.label)
        for field, value, wanted in (
            ("targets", tuple(order[index] for index in found.members), composite.members),
            ("tracking UID", found.tracking_uid, composite_tracking_uid(result, composite)),
            ("feature", found.label, mammo.composite_feature(label.finding)),
            ("certainty", found.score, round(composite.score * 100.0, 2) / 100.0),
            ("rendering intent", found.intent, intent_of(result, composite.members)),
        ):
            if value != wanted:
                refuse(f"{read.sop_uid}, composite of findings {composite.members}", field, value, wanted)
    for name, wanted in (
        (mammo.COMPOSITE_TYPE, mammo.RELATED_SPATIALLY),
        (mammo.SCOPE_OF_FEATURE, mammo.ON_MULTIPLE_IMAGES),
    ):
        if _values(read.root, name) != [wanted] * len(expected):
            refuse(read.sop_uid, name.meaning, "another value", wanted)


def _check_impressions(read: ReadReport, result: ExamResult) -> None:
    """One impression for each lesion, with its intent; presentation is required only of a validated package."""
    found = [
        codes_below(item, mammo.RENDERING_INTENT)
        for item in read.root.walk()
        if item.name == mammo.INDIVIDUAL_IMPRESSION
    ]
    if found != [[intent_of(result, members)] for members in result.lesions]:
        refuse(read.sop_uid, mammo.RENDERING_INTENT.meaning, "other intents", "that of each lesion")
    required = mammo.REQUIRED in _values(read.root, mammo.RENDERING_INTENT)
    if required and not result.algorithm.validated:
        refuse(read.sop_uid, mammo.RENDERING_INTENT.meaning, mammo.REQUIRED, "an intent of a demonstration package")
