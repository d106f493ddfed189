"""The content tree of a structured report (PS3.3 C.17.3), codes and references, as typed records.

Shared by every reader of DICOM results; tolerant of what other toolkits leave out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom import Dataset

from imaging.findings import Code

_DEEPEST: Final = 40
_DERIVATION: Final = ("121401", "DCM")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an object: its class and UID, frame numbers (from 1) and segment numbers where given."""

    sop_class_uid: str
    sop_uid: str
    frames: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadMeasure:
    """A number with its unit; `value` is None where the file gives only a reason for its absence.

    `derivation` (121401 DCM) is how it was computed from many values, None where the file does not say.
    """

    concept: Code | None
    value: float | None
    unit: Code | None
    derivation: Code | None = None


@dataclass(frozen=True)
class ContentItem:
    """One node of the content tree. `value` is text, a Code, a Measure, points (n, 2 or 3), a Reference or None.

    A by-reference relationship (PS3.3 C.17.3.2.5) has no value type: `refers_to` is the position of its target, each
    number counting the items of one level from 1, the root first. It is empty for items that stand for themselves.
    """

    value_type: str
    relationship: str
    name: Code | None
    value: Any
    template: str
    children: tuple[ContentItem, ...]
    graphic_type: str = ""
    refers_to: tuple[int, ...] = ()

    def is_named(self, key: tuple[str, str]) -> bool:
        return self.name is not None and (self.name.value, self.name.scheme) == key

    def walk(self) -> Iterator[ContentItem]:
        """This item and everything below it, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def at(self, position: tuple[int, ...]) -> ContentItem | None:
        """The item at a position of the tree whose root this is; None where there is none."""
        item = self if position[:1] == (1,) else None
        for number in position[1:]:
            item = item.children[number - 1] if item is not None and 1 <= number <= len(item.children) else None
        return item

    def child(self, key: tuple[str, str]) -> ContentItem | None:
        return next((item for item in self.children if item.is_named(key)), None)


def content_tree(dataset: Dataset, depth: int = 0) -> ContentItem:
    """The item and everything below it. Raises ValueError for a tree that no honest report needs."""
    if depth > _DEEPEST:
        raise ValueError(f"content items nest deeper than {_DEEPEST}")
    template = dataset.get("ContentTemplateSequence") or []
    return ContentItem(
        value_type=str(dataset.get("ValueType", "")),
        relationship=str(dataset.get("RelationshipType", "")),
        name=code(dataset.get("ConceptNameCodeSequence")),
        value=_value(dataset),
        template=str(template[0].get("TemplateIdentifier", "")) if template else "",
        children=tuple(content_tree(child, depth + 1) for child in dataset.get("ContentSequence") or []),
        graphic_type=str(dataset.get("GraphicType", "")) if "GraphicData" in dataset else "",
        refers_to=tuple(int(number) for number in values(dataset, "ReferencedContentItemIdentifier")),
    )


def _value(dataset: Dataset) -> Any:
    kind = str(dataset.get("ValueType", ""))
    if kind in {"TEXT", "UIDREF", "DATE", "TIME", "DATETIME", "PNAME"}:
        keyword = {"TEXT": "TextValue", "UIDREF": "UID", "PNAME": "PersonName"}.get(kind, kind.title())
        return str(dataset.get("DateTime" if kind == "DATETIME" else keyword, ""))
    if kind == "CODE":
        return code(dataset.get("ConceptCodeSequence"))
    if kind == "NUM":
        return _measure(dataset)
    if kind in {"SCOORD", "SCOORD3D"}:
        return np.asarray(values(dataset, "GraphicData"), dtype=np.float64).reshape(-1, 2 if kind == "SCOORD" else 3)
    if kind in {"IMAGE", "COMPOSITE", "WAVEFORM"}:
        items = dataset.get("ReferencedSOPSequence") or []
        return reference(items[0]) if items else None
    return None


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """The values of an attribute as a list, whatever their number; empty when absent or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "append") else [value]


def code(items: Any) -> Code | None:
    """The first item of a code sequence, with the value from whichever of the three attributes holds it."""
    if not items:
        return None
    value = next((items[0].get(k) for k in ("CodeValue", "LongCodeValue", "URNCodeValue") if k in items[0]), "")
    return Code(str(value), str(items[0].get("CodingSchemeDesignator", "")), str(items[0].get("CodeMeaning", "")))


def _measure(dataset: Dataset) -> ReadMeasure:
    concept = code(dataset.get("ConceptNameCodeSequence"))
    measured = dataset.get("MeasuredValueSequence") or []
    if not measured:
        return ReadMeasure(concept, None, None)
    below = {code(item.get("ConceptNameCodeSequence")): item for item in dataset.get("ContentSequence") or []}
    derived = next((item for name, item in below.items() if name and (name.value, name.scheme) == _DERIVATION), None)
    return ReadMeasure(
        concept,
        float(measured[0].NumericValue),
        code(measured[0].get("MeasurementUnitsCodeSequence")),
        None if derived is None else code(derived.get("ConceptCodeSequence")),
    )


def reference(item: Dataset) -> Reference:
    """An item of a Referenced SOP Sequence."""
    return Reference(
        str(item.get("ReferencedSOPClassUID", "")),
        str(item.get("ReferencedSOPInstanceUID", "")),
        tuple(int(number) for number in values(item, "ReferencedFrameNumber")),
        tuple(int(number) for number in values(item, "ReferencedSegmentNumber")),
    )
