"""Reads SR and SEG back, ours and others', with pydicom alone: nothing here is shared with the code that writes.

Of a report, TID 1500 measurement groups and the Single Image Findings of a Mammography CAD report become findings; any
other SR is taken as the regions and comments it holds.
Of a segmentation, every segment frame is a mask with the source image it lies on, where the file names one.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable
from typing import Final

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError

from imaging.dicom.headers.placement import frame_affine
from imaging.dicom.results.cad import cad_composites, cad_detections, cad_findings
from imaging.dicom.results.content_tree import ContentItem, Reference, code, content_tree, reference, values
from imaging.dicom.results.records import (
    PROBABILITY,
    Equipment,
    EvidenceItem,
    ReadFinding,
    ReadRating,
    ReadReport,
    ReadSegment,
    ReadSegmentation,
    SegmentFrame,
)
from imaging.errors import InputError, Reason
from imaging.findings import Code

_SEGMENTATIONS: Final = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
_MAMMOGRAPHY_CAD: Final = "1.2.840.10008.5.1.4.1.1.88.50"
# What pydicom raises, on access, for values that a damaged file holds.
DAMAGE: Final = (
    AttributeError, KeyError, IndexError, ValueError, TypeError, OverflowError, NotImplementedError, RecursionError,
    EOFError, OSError, struct.error, BytesLengthException, InvalidDicomError,
)  # fmt: skip

_FINDING, _SITE, _CERTAINTY = ("121071", "DCM"), ("363698007", "SCT"), ("111012", "DCM")
_SIDE: Final = ("272741003", "SCT")
_STATEMENT: Final = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%(?:, on image ([0-9.]+))?")
_TRACKING_ID, _TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
_CATEGORY, _SEGMENT, _SEGMENT_SOURCE = ("276214006", "SCT"), ("121191", "DCM"), ("121233", "DCM")
_GROUP, _SUMMARY, _DETECTIONS = ("125007", "DCM"), ("111017", "DCM"), ("111064", "DCM")
_LIBRARY, _COMMENT, _PROCEDURE = ("111028", "DCM"), ("121106", "DCM"), ("121058", "DCM")


def read_result(data: bytes, tags: frozenset[int] = frozenset()) -> ReadReport | ReadSegmentation:
    """The report or segmentation in the bytes of a DICOM file.

    `tags` are the top-level tags whose raw bytes `identity` shall hold.
    Raises InputError, with the reason, for bytes that are neither.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
    except DAMAGE as error:
        raise InputError(f"result file: {type(error).__name__}; allowed is a DICOM file", Reason.NOT_DICOM) from error
    try:
        return _records(dataset, {tag: raw_value(dataset, tag) for tag in sorted(tags) if tag in dataset})
    except DAMAGE as error:
        raise InputError(
            f"result file: {type(error).__name__} while reading its content; allowed is a complete SR or SEG",
            Reason.UNREADABLE_HEADER,
        ) from error


def _records(dataset: Dataset, identity: dict[int, bytes]) -> ReadReport | ReadSegmentation:
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class in _SEGMENTATIONS:
        return _segmentation(dataset, identity)
    if sop_class.startswith(_REPORTS):
        return _report(dataset, identity)
    raise InputError(
        f"result file, SOPClassUID: found {sop_class or 'none'}; allowed are structured reports and segmentations",
        Reason.UNSUPPORTED_OBJECT,
    )


def raw_value(dataset: Dataset, tag: int) -> bytes:
    """A top-level value as the bytes of the file."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        return element.value or b""
    # pydicom decodes Specific Character Set while it reads; its values are ASCII (PS3.5 6.2, CS).
    value = "\\".join(values(dataset, "SpecificCharacterSet")).encode("ascii")
    return value + b" " * (len(value) % 2)


def _report(dataset: Dataset, identity: dict[int, bytes]) -> ReadReport:
    root = content_tree(dataset)
    if root.value_type != "CONTAINER":
        raise ValueError("the root content item is no CONTAINER")
    is_cad = str(dataset.get("SOPClassUID", "")) == _MAMMOGRAPHY_CAD
    library = root.child(_LIBRARY)
    everything = list(root.walk())
    return ReadReport(
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_uid=str(dataset.get("SOPInstanceUID", "")),
        series_uid=str(dataset.get("SeriesInstanceUID", "")),
        template=root.template,
        identity=identity,
        completion=str(dataset.get("CompletionFlag", "")),
        verification=str(dataset.get("VerificationFlag", "")),
        root=root,
        procedure=_code_value(everything, _PROCEDURE),
        outcome=_code_value(everything, _SUMMARY),
        detections=_code_value(everything, _DETECTIONS),
        comments=tuple(item.value for item in everything if item.value_type == "TEXT" and item.is_named(_COMMENT)),
        library=tuple(i.value for i in library.walk() if isinstance(i.value, Reference)) if library else (),
        findings=cad_findings(root) if is_cad else _findings(root),
        evidence=_evidence(dataset),
        equipment=equipment_of(dataset),
        rating=_exam_rating(everything),
        composites=cad_composites(root) if is_cad else (),
        performed=cad_detections(root) if is_cad else (),
        predecessors=_references(dataset.get("PredecessorDocumentsSequence") or []),
    )


def _findings(root: ContentItem) -> tuple[ReadFinding, ...]:
    """Measurement groups, then the regions outside of any."""
    groups = [item for item in root.walk() if item.is_named(_GROUP)]
    inside = {id(item) for group in groups for item in group.walk()}
    alone = [item for item in root.walk() if item.graphic_type and id(item) not in inside]
    return tuple([_finding(group, group.children) for group in groups] + [_finding(item, (item,)) for item in alone])


def _exam_rating(items: list[ContentItem]) -> ReadRating | None:
    """What a text of the report says of the examination, such as `12.5 %, on image 1.2.3`."""
    texts = [item.value for item in items if item.value_type == "TEXT" and item.is_named(PROBABILITY)]
    said = next((match for text in texts if (match := _STATEMENT.match(text))), None)
    if said is None or float(said[1]) > 100:
        return None
    return ReadRating(float(said[1]) / 100.0, said[2] or "")


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
    label, category, segment = named.get(_FINDING), named.get(_CATEGORY), named.get(_SEGMENT)
    return ReadFinding(
        tracking_id=str(named.get(_TRACKING_ID, "")),
        tracking_uid=str(named.get(_TRACKING_UID, "")),
        label=label if isinstance(label, Code) else None,
        sites=tuple(p.value for p in parts if p.is_named(_SITE) and isinstance(p.value, Code)),
        laterality=next((one for p in parts if p.is_named(_SITE) and (one := _code_value([*p.walk()], _SIDE))), None),
        score=None if certainty is None else certainty / 100.0,
        graphic_type=region.graphic_type if region else "",
        points_px=region.value if region else None,
        image=image,
        measures=tuple(n for n in numbers if not (n.concept and n.concept.value == _CERTAINTY[0])),
        references=tuple(i.value for i in item.walk() if isinstance(i.value, Reference)),
        category=category if isinstance(category, Code) else None,
        segment=segment if isinstance(segment, Reference) else None,
        segment_sources=tuple(p.value for p in parts if p.is_named(_SEGMENT_SOURCE) and isinstance(p.value, Reference)),
    )


def _evidence(dataset: Dataset) -> tuple[EvidenceItem, ...]:
    """The instances that a report lists as evidence, or that a segmentation was made from."""
    studies: list[Dataset] = []
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        studies += dataset.get(keyword) or []
    if "ReferencedSeriesSequence" in dataset:
        studies.append(dataset)
    return _references(studies)


def _references(studies: Iterable[Dataset]) -> tuple[EvidenceItem, ...]:
    """The instances of hierarchical references (PS3.3 C.17.2.1)."""
    found: list[EvidenceItem] = []
    for study in studies:
        for series in study.get("ReferencedSeriesSequence") or []:
            for item in series.get("ReferencedSOPSequence") or series.get("ReferencedInstanceSequence") or []:
                one = reference(item)
                uids = str(study.get("StudyInstanceUID", "")), str(series.get("SeriesInstanceUID", ""))
                found.append(EvidenceItem(*uids, one.sop_class_uid, one.sop_uid))
    return tuple(found)


def equipment_of(dataset: Dataset) -> tuple[Equipment, ...]:
    """The maker (General Equipment) first, then the items of the Contributing Equipment Sequence."""
    return tuple(
        Equipment(
            code(item.get("PurposeOfReferenceCodeSequence")),
            str(item.get("Manufacturer", "")),
            str(item.get("ManufacturerModelName", "")),
            str(item.get("SoftwareVersions", "")),
            str(item.get("DeviceSerialNumber", "")),
        )
        for item in (dataset, *(dataset.get("ContributingEquipmentSequence") or []))
    )


def _segmentation(dataset: Dataset, identity: dict[int, bytes]) -> ReadSegmentation:
    storage = str(dataset.SegmentationType)
    pixels = np.asarray(dataset.pixel_array).reshape(-1, int(dataset.Rows), int(dataset.Columns))
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(groups) != len(pixels):
        raise ValueError(f"{len(groups)} per-frame groups for {len(pixels)} frames")
    frames: dict[int, list[SegmentFrame]] = {}
    numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence]
    for place, (group, plane) in enumerate(zip(groups, pixels, strict=True), start=1):
        affine = frame_affine(dataset, place, f"result file, frame {place}")
        sources = _frame_sources(group) or _frame_sources(shared)
        if storage == "LABELMAP":
            present = [(number, plane == number) for number in np.unique(plane).tolist() if number in numbers]
        else:
            identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            present = [(int(identification[0].ReferencedSegmentNumber), plane > 0)]
        for number, mask in present:
            frames.setdefault(number, []).append(SegmentFrame(mask, sources, affine))
    return ReadSegmentation(
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_uid=str(dataset.get("SOPInstanceUID", "")),
        series_uid=str(dataset.get("SeriesInstanceUID", "")),
        storage=storage,
        identity=identity,
        segments=tuple(_segment(i, tuple(frames.get(int(i.SegmentNumber), ()))) for i in dataset.SegmentSequence),
        evidence=_evidence(dataset),
        equipment=equipment_of(dataset),
    )


def _frame_sources(group: Dataset) -> tuple[Reference, ...]:
    derivations = group.get("DerivationImageSequence") or []
    return tuple(reference(item) for d in derivations for item in d.get("SourceImageSequence") or [])


def _segment(item: Dataset, frames: tuple[SegmentFrame, ...]) -> ReadSegment:
    sites = [code([region]) for region in item.get("AnatomicRegionSequence") or []]
    return ReadSegment(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=code(item.get("SegmentedPropertyCategoryCodeSequence")),
        kind=code(item.get("SegmentedPropertyTypeCodeSequence")),
        sites=tuple(site for site in sites if site),
        tracking_id=str(item.get("TrackingID", "")),
        tracking_uid=str(item.get("TrackingUID", "")),
        algorithm=str(item.get("SegmentAlgorithmName", "")),
        frames=frames,
    )
