"""Reads SR and SEG back, ours and others', with pydicom alone: nothing here is shared with the code that writes.

Of a report, TID 1500 measurement groups become findings; any other SR is taken as the regions and comments it holds.
Of a segmentation, every segment frame is a mask with the source image it lies on, where the file names one.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

from imaging.errors import InputError, Reason
from imaging.findings import Code, Mask
from imaging.image import Floats

_SEGMENTATIONS: Final = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
_DEEPEST: Final = 40
# What pydicom raises, on access, for values that a damaged file holds.
_DAMAGE: Final = (
    AttributeError, KeyError, IndexError, ValueError, TypeError, OverflowError, NotImplementedError, RecursionError,
    EOFError, struct.error, InvalidDicomError,
)  # fmt: skip

_FINDING, _SITE, _CERTAINTY = ("121071", "DCM"), ("363698007", "SCT"), ("111012", "DCM")
_TRACKING_ID, _TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
_GROUP, _SUMMARY, _DETECTIONS = ("125007", "DCM"), ("111017", "DCM"), ("111064", "DCM")
_LIBRARY, _COMMENT, _PROCEDURE = ("111028", "DCM"), ("121106", "DCM"), ("121058", "DCM")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an object: its class and UID, frame numbers (from 1) and segment numbers where given."""

    sop_class_uid: str
    sop_uid: str
    frames: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """One instance of the evidence sequences."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True)
class ContentItem:
    """One node of the content tree. `value` is text, a Code, a Measure, points (n, 2 or 3), a Reference or None."""

    value_type: str
    relationship: str
    name: Code | None
    value: Any
    template: str
    children: tuple[ContentItem, ...]
    graphic_type: str = ""

    def is_named(self, key: tuple[str, str]) -> bool:
        return self.name is not None and (self.name.value, self.name.scheme) == key

    def walk(self) -> Iterator[ContentItem]:
        """This item and everything below it, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def child(self, key: tuple[str, str]) -> ContentItem | None:
        return next((item for item in self.children if item.is_named(key)), None)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with its unit; `value` is None where the file gives only a reason for its absence."""

    concept: Code | None
    value: float | None
    unit: Code | None


@dataclass(frozen=True)
class ReadFinding:
    """One measurement group, or one region that stands alone.

    `points_px` (n, 2) is x, y in corner convention as stored, so a closed POLYLINE repeats its first point; None where
    the group has no 2-D region. `score` is the certainty in 0-1.
    """

    tracking_id: str
    tracking_uid: str
    label: Code | None
    sites: tuple[Code, ...]
    score: float | None
    graphic_type: str
    points_px: Floats | None
    image: Reference | None
    measures: tuple[Measure, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class ReadReport:
    """A structured report. `identity` holds the raw bytes of the asked tags that the file has."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    template: str
    identity: dict[int, bytes]
    completion: str
    verification: str
    root: ContentItem
    procedure: Code | None
    outcome: Code | None
    detections: Code | None
    comments: tuple[str, ...]
    library: tuple[Reference, ...]
    findings: tuple[ReadFinding, ...]
    evidence: tuple[EvidenceItem, ...]


@dataclass(frozen=True)
class SegmentFrame:
    """One frame of a segment: `mask` (row, column) bool, and the source frames it was made from, where named."""

    mask: Mask
    sources: tuple[Reference, ...]


@dataclass(frozen=True)
class ReadSegment:
    """One segment with its meaning and its frames in file order; none where the segment is empty."""

    number: int
    label: str
    category: Code | None
    kind: Code | None
    sites: tuple[Code, ...]
    tracking_id: str
    tracking_uid: str
    algorithm: str
    frames: tuple[SegmentFrame, ...]


@dataclass(frozen=True)
class ReadSegmentation:
    """A segmentation object. `storage` is BINARY, FRACTIONAL (masks are the non-zero pixels) or LABELMAP."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    storage: str
    identity: dict[int, bytes]
    segments: tuple[ReadSegment, ...]
    evidence: tuple[EvidenceItem, ...]


def read_result(data: bytes, tags: frozenset[int] = frozenset()) -> ReadReport | ReadSegmentation:
    """The report or segmentation in the bytes of a DICOM file.

    `tags` are the top-level tags whose raw bytes `identity` shall hold.
    Raises InputError, with the reason, for bytes that are neither.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
    except _DAMAGE as error:
        raise InputError(f"result file: {type(error).__name__}; allowed is a DICOM file", Reason.NOT_DICOM) from error
    identity = {tag: _raw(dataset, tag) for tag in sorted(tags) if tag in dataset}
    try:
        sop_class = str(dataset.get("SOPClassUID", ""))
        if sop_class in _SEGMENTATIONS:
            return _segmentation(dataset, identity)
        if sop_class.startswith(_REPORTS):
            return _report(dataset, identity)
    except _DAMAGE as error:
        raise InputError(
            f"result file {dataset.get('SOPInstanceUID', '')}: {type(error).__name__} while reading its content; "
            "allowed is a complete SR or SEG",
            Reason.UNREADABLE_HEADER,
        ) from error
    raise InputError(
        f"result file {dataset.get('SOPInstanceUID', '')}, SOPClassUID: found {sop_class or 'none'}; "
        "allowed are structured reports and segmentations",
        Reason.UNSUPPORTED_OBJECT,
    )


def _raw(dataset: Dataset, tag: int) -> bytes:
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        return element.value or b""
    # pydicom decodes Specific Character Set while it reads; its values are ASCII (PS3.5 6.2, CS).
    value = "\\".join(_values(dataset, "SpecificCharacterSet")).encode("ascii")
    return value + b" " * (len(value) % 2)


def _report(dataset: Dataset, identity: dict[int, bytes]) -> ReadReport:
    root = _content(dataset, 0)
    if root.value_type != "CONTAINER":
        raise ValueError("the root content item is no CONTAINER")
    groups = [item for item in root.walk() if item.is_named(_GROUP)]
    inside = {id(item) for group in groups for item in group.walk()}
    alone = [item for item in root.walk() if item.graphic_type and id(item) not in inside]
    library = root.child(_LIBRARY)
    everything = list(root.walk())
    return ReadReport(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        template=root.template,
        identity=identity,
        completion=str(dataset.get("CompletionFlag", "")),
        verification=str(dataset.get("VerificationFlag", "")),
        root=root,
        procedure=_code_value(everything, _PROCEDURE),
        outcome=_code_value(everything, _SUMMARY),
        detections=_code_value(everything, _DETECTIONS),
        comments=tuple(item.value for item in everything if item.value_type == "TEXT" and item.is_named(_COMMENT)),
        library=tuple(i.value for i in library.walk() if i.value_type == "IMAGE") if library else (),
        findings=tuple([_finding(group, group.children) for group in groups] + [_finding(i, (i,)) for i in alone]),
        evidence=_evidence(dataset),
    )


def _content(dataset: Dataset, depth: int) -> ContentItem:
    if depth > _DEEPEST:
        raise ValueError(f"content items nest deeper than {_DEEPEST}")
    template = dataset.get("ContentTemplateSequence") or []
    return ContentItem(
        value_type=str(dataset.get("ValueType", "")),
        relationship=str(dataset.get("RelationshipType", "")),
        name=_code(dataset.get("ConceptNameCodeSequence")),
        value=_value(dataset),
        template=str(template[0].get("TemplateIdentifier", "")) if template else "",
        children=tuple(_content(child, depth + 1) for child in dataset.get("ContentSequence") or []),
        graphic_type=str(dataset.get("GraphicType", "")) if "GraphicData" in dataset else "",
    )


def _value(dataset: Dataset) -> Any:
    kind = str(dataset.get("ValueType", ""))
    if kind in {"TEXT", "UIDREF", "DATE", "TIME", "DATETIME", "PNAME"}:
        keyword = {"TEXT": "TextValue", "UIDREF": "UID", "PNAME": "PersonName"}.get(kind, kind.title())
        return str(dataset.get("DateTime" if kind == "DATETIME" else keyword, ""))
    if kind == "CODE":
        return _code(dataset.get("ConceptCodeSequence"))
    if kind == "NUM":
        return _measure(dataset)
    if kind in {"SCOORD", "SCOORD3D"}:
        return np.asarray(_values(dataset, "GraphicData"), dtype=np.float64).reshape(-1, 2 if kind == "SCOORD" else 3)
    if kind in {"IMAGE", "COMPOSITE", "WAVEFORM"}:
        items = dataset.get("ReferencedSOPSequence") or []
        return _reference(items[0]) if items else None
    return None


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "append") else [value]


def _code(items: Any) -> Code | None:
    """The first item of a code sequence, with the value from whichever of the three attributes holds it."""
    if not items:
        return None
    value = next((items[0].get(k) for k in ("CodeValue", "LongCodeValue", "URNCodeValue") if k in items[0]), "")
    return Code(str(value), str(items[0].get("CodingSchemeDesignator", "")), str(items[0].get("CodeMeaning", "")))


def _measure(dataset: Dataset) -> Measure:
    concept = _code(dataset.get("ConceptNameCodeSequence"))
    measured = dataset.get("MeasuredValueSequence") or []
    if not measured:
        return Measure(concept, None, None)
    return Measure(concept, float(measured[0].NumericValue), _code(measured[0].get("MeasurementUnitsCodeSequence")))


def _reference(item: Dataset) -> Reference:
    return Reference(
        str(item.get("ReferencedSOPClassUID", "")),
        str(item.get("ReferencedSOPInstanceUID", "")),
        tuple(int(number) for number in _values(item, "ReferencedFrameNumber")),
        tuple(int(number) for number in _values(item, "ReferencedSegmentNumber")),
    )


def _code_value(items: list[ContentItem], key: tuple[str, str]) -> Code | None:
    return next((i.value for i in items if i.value_type == "CODE" and i.is_named(key)), None)


def _finding(item: ContentItem, parts: tuple[ContentItem, ...]) -> ReadFinding:
    """A finding from a group and its rows, or from a region (SCOORD) that stands alone."""
    named = {(p.name.value, p.name.scheme): p.value for p in reversed(parts) if p.name is not None}
    region = next((p for p in parts if p.value_type == "SCOORD"), None)
    numbers = [i.value for i in item.walk() if i.value_type == "NUM"]
    certainty = next(
        (n.value for n in numbers if n.concept and (n.concept.value, n.concept.scheme) == _CERTAINTY), None
    )
    if region is None:  # Others put the region below the measurement it was inferred from (TID 300).
        region = next((i for i in item.walk() if i.value_type == "SCOORD"), None)
    image = next((i.value for i in region.walk() if i.value_type == "IMAGE"), None) if region else None
    label = named.get(_FINDING)
    return ReadFinding(
        tracking_id=str(named.get(_TRACKING_ID, "")),
        tracking_uid=str(named.get(_TRACKING_UID, "")),
        label=label if isinstance(label, Code) else None,
        sites=tuple(p.value for p in parts if p.is_named(_SITE) and isinstance(p.value, Code)),
        score=None if certainty is None else certainty / 100.0,
        graphic_type=region.graphic_type if region else "",
        points_px=region.value if region else None,
        image=image,
        measures=tuple(n for n in numbers if not (n.concept and n.concept.value == _CERTAINTY[0])),
        references=tuple(i.value for i in item.walk() if isinstance(i.value, Reference)),
    )


def _evidence(dataset: Dataset) -> tuple[EvidenceItem, ...]:
    """The instances that a report lists as evidence, or that a segmentation was made from."""
    found: list[EvidenceItem] = []
    studies: list[Dataset] = []
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        studies += dataset.get(keyword) or []
    if "ReferencedSeriesSequence" in dataset:
        studies.append(dataset)
    for study in studies:
        for series in study.get("ReferencedSeriesSequence") or []:
            for item in series.get("ReferencedSOPSequence") or series.get("ReferencedInstanceSequence") or []:
                reference = _reference(item)
                uids = str(study.get("StudyInstanceUID", "")), str(series.get("SeriesInstanceUID", ""))
                found.append(EvidenceItem(*uids, reference.sop_class_uid, reference.sop_uid))
    return tuple(found)


def _segmentation(dataset: Dataset, identity: dict[int, bytes]) -> ReadSegmentation:
    storage = str(dataset.SegmentationType)
    pixels = np.asarray(dataset.pixel_array).reshape(-1, int(dataset.Rows), int(dataset.Columns))
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(groups) != len(pixels):
        raise ValueError(f"{len(groups)} per-frame groups for {len(pixels)} frames")
    frames: dict[int, list[SegmentFrame]] = {}
    numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence]
    for group, plane in zip(groups, pixels, strict=True):
        sources = _frame_sources(group) or _frame_sources(shared)
        if storage == "LABELMAP":
            present = [(number, plane == number) for number in np.unique(plane).tolist() if number in numbers]
        else:
            identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            present = [(int(identification[0].ReferencedSegmentNumber), plane > 0)]
        for number, mask in present:
            frames.setdefault(number, []).append(SegmentFrame(mask, sources))
    return ReadSegmentation(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        storage=storage,
        identity=identity,
        segments=tuple(_segment(i, tuple(frames.get(int(i.SegmentNumber), ()))) for i in dataset.SegmentSequence),
        evidence=_evidence(dataset),
    )


def _frame_sources(group: Dataset) -> tuple[Reference, ...]:
    derivations = group.get("DerivationImageSequence") or []
    return tuple(_reference(item) for d in derivations for item in d.get("SourceImageSequence") or [])


def _segment(item: Dataset, frames: tuple[SegmentFrame, ...]) -> ReadSegment:
    sites = [_code([region]) for region in item.get("AnatomicRegionSequence") or []]
    return ReadSegment(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=_code(item.get("SegmentedPropertyCategoryCodeSequence")),
        kind=_code(item.get("SegmentedPropertyTypeCodeSequence")),
        sites=tuple(site for site in sites if site),
        tracking_id=str(item.get("TrackingID", "")),
        tracking_uid=str(item.get("TrackingUID", "")),
        algorithm=str(item.get("SegmentAlgorithmName", "")),
        frames=frames,
    )
