"""The rows that a report must have, as a table: PS3.16 TID 1500 and its children, and what this toolkit adds.

No validator checks all of them: tracking identifiers, regions and the outcome rows are optional in the templates and
mandatory here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imaging.dicom.results.content_tree import ContentItem
from imaging.findings import Code
from imaging.report.sr import codes


@dataclass(frozen=True, slots=True)
class RequiredRow:
    """One row below a parent: relationship, value type and concept name (None: none is asked)."""

    relationship: str
    value_type: str
    name: Code | None


def _modifier(value_type: str, name: Code) -> RequiredRow:
    return RequiredRow("HAS CONCEPT MOD", value_type, name)


def _context(value_type: str, name: Code) -> RequiredRow:
    return RequiredRow("HAS OBS CONTEXT", value_type, name)


def _contains(value_type: str, name: Code | None) -> RequiredRow:
    return RequiredRow("CONTAINS", value_type, name)


_ALGORITHM: Final = (  # TID 4019
    _contains("TEXT", codes.ALGORITHM_NAME),
    _contains("TEXT", codes.ALGORITHM_VERSION),
    _contains("TEXT", codes.ALGORITHM_PARAMETERS),
)

ROOT: Final = (  # TID 1500
    _modifier("CODE", codes.LANGUAGE),  # TID 1204
    _context("CODE", codes.OBSERVER_TYPE),  # TID 1002
    _context("UIDREF", codes.DEVICE_OBSERVER_UID),  # TID 1004
    _context("TEXT", codes.DEVICE_OBSERVER_NAME),
    _context("TEXT", codes.DEVICE_OBSERVER_MANUFACTURER),
    _context("TEXT", codes.DEVICE_OBSERVER_MODEL),
    _context("TEXT", codes.DEVICE_OBSERVER_SERIAL),
    _modifier("CODE", codes.PROCEDURE_REPORTED),
    _contains("CONTAINER", codes.IMAGE_LIBRARY),
    _contains("CONTAINER", codes.QUALITATIVE_EVALUATIONS),
)

BELOW: Final[dict[Code, tuple[RequiredRow, ...]]] = {
    codes.IMAGE_LIBRARY: (_contains("CONTAINER", codes.IMAGE_LIBRARY_GROUP),),  # TID 1600
    codes.IMAGE_LIBRARY_GROUP: (_contains("IMAGE", None),),  # TID 1601
    codes.QUALITATIVE_EVALUATIONS: (
        *_ALGORITHM,
        _contains("CODE", codes.CAD_SUMMARY),
        _contains("CODE", codes.SUMMARY_OF_DETECTIONS),
        _contains("TEXT", codes.COMMENT),
    ),
    codes.IMAGING_MEASUREMENTS: (*_ALGORITHM, _contains("CONTAINER", codes.MEASUREMENT_GROUP)),
    codes.IMAGE_REGION: (RequiredRow("SELECTED FROM", "IMAGE", None),),
}

# Certainty is not here: a finding has it, a structure does not, and read-back knows which is which.
_GROUP: Final = (  # TID 1410, 1411 and 1419
    _context("TEXT", codes.TRACKING_IDENTIFIER),
    _context("UIDREF", codes.TRACKING_UID),
    _contains("CODE", codes.FINDING),
    _modifier("CODE", codes.FINDING_SITE),
)
_PLANAR_GROUP: Final = (*_GROUP, _contains("SCOORD", codes.IMAGE_REGION))  # TID 1410
_VOLUMETRIC_GROUP: Final = (  # TID 1411
    *_GROUP,
    _contains("CODE", codes.FINDING_CATEGORY),
    _contains("IMAGE", codes.REFERENCED_SEGMENT),
    _contains("IMAGE", codes.SEGMENT_SOURCE),
    _contains("NUM", codes.VOLUME_MEASURES["volume_ml"].concept),
)
_LIBRARY_ENTRY: Final = (RequiredRow("HAS ACQ CONTEXT", "CODE", codes.MODALITY),)  # TID 1602


def missing_row(root: ContentItem, with_groups: bool) -> str | None:
    """The first mandatory row that the report lacks, in words; None when it is complete."""
    wanted = (*ROOT, _contains("CONTAINER", codes.IMAGING_MEASUREMENTS)) if with_groups else ROOT
    if root.name != codes.MEASUREMENT_REPORT:
        return f"root {codes.MEASUREMENT_REPORT.meaning}"
    lacking = _lacking(root, wanted)
    for item in root.walk():
        if lacking is not None:
            return lacking
        lacking = _lacking(item, _rows_below(item))
    return lacking


def _rows_below(item: ContentItem) -> tuple[RequiredRow, ...]:
    if item.name == codes.MEASUREMENT_GROUP:
        return _VOLUMETRIC_GROUP if item.template == "1411" else _PLANAR_GROUP
    if item.name is None:
        is_entry = item.value_type == "IMAGE" and item.relationship == "CONTAINS"
        return _LIBRARY_ENTRY if is_entry else ()
    return BELOW.get(item.name, ())


def _lacking(item: ContentItem, rows: tuple[RequiredRow, ...]) -> str | None:
    for row in rows:
        if not any(
            child.relationship == row.relationship
            and child.value_type == row.value_type
            and (row.name is None or child.name == row.name)
            for child in item.children
        ):
            named = row.name.meaning if row.name else row.value_type
            below = item.name.meaning if item.name else item.value_type
            return f"{row.relationship} {row.value_type} {named!r} below {below!r}"
    return None
