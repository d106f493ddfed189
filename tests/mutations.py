"""Reports with one row or attribute less: what read-back and independent judges must notice."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pydicom
from pydicom import Dataset

from imaging.errors import ReadbackError
from imaging.report.document import Document
from imaging.report.kind import Subject
from imaging.report.readback import verify
from imaging.report.write import GENERAL
from tests.report_cases import CONTENT_TIME, Case

# Type 1, 1C and 2 of the Comprehensive 3D SR IOD (PS3.3 A.35.13), and Contributing Equipment, which we demand.
ATTRIBUTES = (
    "Modality", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "ContentDate", "ContentTime", "CompletionFlag",
    "VerificationFlag", "PerformedProcedureCodeSequence", "ReferencedPerformedProcedureStepSequence",
    "CurrentRequestedProcedureEvidenceSequence", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber",
    "SoftwareVersions", "ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentTemplateSequence",
    "ContentSequence", "ContributingEquipmentSequence",
)  # fmt: skip
IDENTITY = {
    0x00080005: "Specific Character Set",
    0x00080020: "Study Date",
    0x00080030: "Study Time",
    0x00080050: "Accession Number",
    0x00080090: "Referring Physician",
    0x00081030: "Study Description",
    0x00100010: "Patient's Name",
    0x00100020: "Patient ID",
    0x00100021: "Issuer of Patient ID",
    0x00100030: "Birth Date",
    0x00100040: "Sex",
    0x0020000D: "Study Instance UID",
    0x00200010: "Study ID",
}
# Attributes within content items; each is removed from the first item that has it.
PARTS = (
    "RelationshipType", "ValueType", "ConceptNameCodeSequence", "TextValue", "UID", "ConceptCodeSequence",
    "MeasuredValueSequence", "NumericValue", "MeasurementUnitsCodeSequence", "GraphicType", "GraphicData",
    "ReferencedSOPSequence", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "ReferencedFrameNumber",
    "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "ReferencedContentItemIdentifier", "SeriesInstanceUID",
    "StudyInstanceUID", "ReferencedSegmentNumber",
)  # fmt: skip

Change = Callable[[Dataset], None]
Mutation = tuple[str, Change]
Position = tuple[int, ...]


def item_name(item: Dataset) -> str:
    named, template = item.get("ConceptNameCodeSequence"), item.get("ContentTemplateSequence")
    if named and template and named[0].CodeMeaning == "Measurement Group":  # planar and volumetric groups differ
        return f"Measurement Group {template[0].TemplateIdentifier}"
    return str(named[0].CodeMeaning) if named else str(item.get("ValueType", "by reference"))


def rows(
    item: Dataset, path: tuple[int, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Position and name of every row; repeated descriptors of an algorithm or an image are named once."""
    for index, child in enumerate(item.get("ContentSequence") or []):
        here = (*names, item_name(child))
        value = str(child.get("TextValue", ""))[:40] if here[-1] in {"Comment", "Algorithm Parameters"} else ""
        yield (*path, index), " / ".join(here) + (f" ({value})" if value else "")
        yield from rows(child, (*path, index), here)


def without_row(position: Position) -> Change:
    def remove(dataset: Dataset) -> None:
        parent = dataset
        for index in position[:-1]:
            parent = parent.ContentSequence[index]
        del parent.ContentSequence[position[-1]]
        if not parent.ContentSequence:
            del parent.ContentSequence

    return remove


def without_attribute(keyword: str) -> Change:
    def remove(dataset: Dataset) -> None:
        delattr(dataset, keyword)

    return remove


def without_part(keyword: str) -> Change:
    def remove(dataset: Dataset) -> None:
        sequences = [element for element in dataset if element.VR == "SQ"]
        for sequence in sorted(sequences, key=lambda element: element.keyword != "ContentSequence"):
            for item in sequence.value:
                if _remove_first(item, keyword):
                    return
        raise AssertionError(f"no item has {keyword}")

    return remove


def _remove_first(item: Dataset, keyword: str) -> bool:
    if keyword in item:
        delattr(item, keyword)
        return True
    return any(_remove_first(child, keyword) for e in item if e.VR == "SQ" for child in e.value)


def without_evidence(index: int) -> Change:
    def remove(dataset: Dataset) -> None:
        series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        place = [(item.ReferencedSOPSequence, i) for item in series for i in range(len(item.ReferencedSOPSequence))]
        sequence, position = place[index]
        del sequence[position]

    return remove


def mutations(data: bytes, optional_rows: set[str]) -> list[Mutation]:
    """Every row, attribute, part and evidence item of a report with what removes it, but rows that may be absent."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    named: dict[str, Position] = {}
    for position, name in rows(dataset):
        if not optional_rows & set(name.split(" / ")):
            named.setdefault(name, position)
    found = [(f"row {name}", without_row(position)) for name, position in named.items()]
    found += [(f"attribute {keyword}", without_attribute(keyword)) for keyword in ATTRIBUTES]
    found += [(f"part {keyword}", without_part(keyword)) for keyword in PARTS if _has(dataset, keyword)]
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    count = sum(len(item.ReferencedSOPSequence) for item in series)
    return [*found, *((f"evidence item {i + 1}", without_evidence(i)) for i in range(count))]


def _has(dataset: Dataset, keyword: str) -> bool:
    return any(_deep(item, keyword) for e in dataset if e.VR == "SQ" for item in e.value)


def _deep(item: Dataset, keyword: str) -> bool:
    return keyword in item or any(_deep(child, keyword) for e in item if e.VR == "SQ" for child in e.value)


def refuses(documents: list[Document], subject: Case, still_segmentations: bool = False) -> bool:
    try:
        kinds = (*GENERAL, *subject.outputs)
        about = Subject(subject.result, subject.sources, CONTENT_TIME, still_segmentations=still_segmentations)
        verify(documents, about, kinds)
    except ReadbackError:
        return True
    return False
