"""The rows that a Mammography CAD report must have, as a table: PS3.16 TID 4000 and its children, and what we add.

Tracking identifiers, certainties, outlines and algorithm parameters are optional in the templates and mandatory here.
A by-reference row counts when its target is what the row asks for.
"""

from __future__ import annotations

from typing import Final

from imaging.dicom.results.cad import snomed_ct
from imaging.dicom.results.content_tree import ContentItem
from imaging.findings import Code
from imaging.modalities.mammography.cad import codes as mammo
from imaging.report.sr import codes
from imaging.report.sr.rows import RequiredRow

_IMAGE: Final = RequiredRow("SELECTED FROM", "IMAGE", None)
_INTENT: Final = RequiredRow("HAS CONCEPT MOD", "CODE", mammo.RENDERING_INTENT)
_ALGORITHM: Final = (  # TID 4019
    RequiredRow("HAS PROPERTIES", "TEXT", codes.ALGORITHM_NAME),
    RequiredRow("HAS PROPERTIES", "TEXT", codes.ALGORITHM_VERSION),
    RequiredRow("HAS PROPERTIES", "TEXT", codes.ALGORITHM_PARAMETERS),
)
_TRACKING: Final = (  # TID 4108
    RequiredRow("HAS OBS CONTEXT", "TEXT", codes.TRACKING_IDENTIFIER),
    RequiredRow("HAS OBS CONTEXT", "UIDREF", codes.TRACKING_UID),
)
_SECTION: Final = (RequiredRow("CONTAINS", "CODE", mammo.DETECTION_PERFORMED),)

ROWS: Final[dict[Code, tuple[RequiredRow, ...]]] = {
    mammo.REPORT: (  # TID 4000
        RequiredRow("HAS CONCEPT MOD", "CODE", codes.LANGUAGE),  # TID 1204
        RequiredRow("CONTAINS", "CONTAINER", codes.IMAGE_LIBRARY),
        RequiredRow("CONTAINS", "CODE", codes.CAD_SUMMARY),  # TID 4001
        RequiredRow("CONTAINS", "CODE", codes.SUMMARY_OF_DETECTIONS),
        RequiredRow("CONTAINS", "CODE", mammo.SUMMARY_OF_ANALYSES),
    ),
    codes.IMAGE_LIBRARY: (RequiredRow("CONTAINS", "IMAGE", None),),  # TID 4020
    codes.CAD_SUMMARY: (RequiredRow("HAS PROPERTIES", "TEXT", mammo.IMPRESSION_DESCRIPTION), *_ALGORITHM),  # TID 4002
    mammo.INDIVIDUAL_IMPRESSION: (_INTENT,),  # TID 4003
    mammo.COMPOSITE_FEATURE: (  # TID 4004, 4005
        _INTENT,
        *_TRACKING,
        RequiredRow("HAS PROPERTIES", "CODE", mammo.COMPOSITE_TYPE),
        RequiredRow("HAS PROPERTIES", "CODE", mammo.SCOPE_OF_FEATURE),
        *_ALGORITHM,
        RequiredRow("HAS PROPERTIES", "NUM", mammo.CERTAINTY_OF_FEATURE),
        RequiredRow("INFERRED FROM", "CODE", mammo.SINGLE_IMAGE_FINDING),
    ),
    mammo.SINGLE_IMAGE_FINDING: (  # TID 4006, 4021
        _INTENT,
        *_TRACKING,
        *_ALGORITHM,
        RequiredRow("HAS PROPERTIES", "NUM", codes.CERTAINTY),
        RequiredRow("HAS PROPERTIES", "SCOORD", mammo.CENTER),
        RequiredRow("HAS PROPERTIES", "SCOORD", mammo.OUTLINE),
    ),
    mammo.CENTER: (_IMAGE,),
    mammo.OUTLINE: (_IMAGE,),
    mammo.LONG_AXIS: (RequiredRow("INFERRED FROM", "SCOORD", mammo.PATH),),  # TID 1400
    mammo.PATH: (_IMAGE,),
    mammo.SUCCESSFUL_DETECTIONS: _SECTION,  # TID 4015
    mammo.FAILED_DETECTIONS: _SECTION,
    mammo.DETECTION_PERFORMED: (*_ALGORITHM, RequiredRow("HAS PROPERTIES", "IMAGE", None)),  # TID 4017
}

# TID 4015 row conditions: which sections a Summary of Detections (CID 6042) must have, and may not lack.
SECTIONS: Final[dict[Code, set[Code]]] = {
    codes.SUCCEEDED: {mammo.SUCCESSFUL_DETECTIONS},
    codes.PARTIALLY_SUCCEEDED: {mammo.SUCCESSFUL_DETECTIONS, mammo.FAILED_DETECTIONS},
    codes.FAILED: {mammo.FAILED_DETECTIONS},
    codes.NOT_ATTEMPTED: set(),
}
_LESION: Final = {mammo.COMPOSITE_FEATURE, mammo.SINGLE_IMAGE_FINDING}
_WITHOUT_FINDINGS: Final = frozenset({"111241", "111243", "111245"})


def missing_cad_row(root: ContentItem) -> str | None:
    """The first mandatory row or condition that the report does not meet, in words; None when it is complete."""
    if root.name != mammo.REPORT:
        return f"root {mammo.REPORT.meaning}"
    for item in root.walk():
        name = snomed_ct(item.name)
        if name is not None and item.value is None and item.value_type != "CONTAINER":
            return f"value of {name.meaning!r}"
        for row in ROWS.get(name, ()) if name is not None else ():
            if not any(_fits(root, child, row) for child in item.children):
                named = row.name.meaning if row.name else row.value_type
                return f"{row.relationship} {row.value_type} {named!r} below {name.meaning if name else ''!r}"
        broken = _broken_condition(item, name)
        if broken is not None:
            return broken
    return None


def _fits(root: ContentItem, child: ContentItem, row: RequiredRow) -> bool:
    target = root.at(child.refers_to) if child.refers_to else child
    return (
        target is not None
        and child.relationship == row.relationship
        and target.value_type == row.value_type
        and (row.name is None or snomed_ct(target.name) == row.name)
    )


def _broken_condition(item: ContentItem, name: Code | None) -> str | None:
    """The conditions of TID 4001, 4003, 4004 and 4015."""
    below = [child.name for child in item.children]
    if name == codes.CAD_SUMMARY and isinstance(item.value, Code):
        has_findings = item.value.value not in _WITHOUT_FINDINGS
        if has_findings != (mammo.INDIVIDUAL_IMPRESSION in below):
            return f"{mammo.INDIVIDUAL_IMPRESSION.meaning!r} exactly where the summary tells of findings"
    if name == mammo.INDIVIDUAL_IMPRESSION and sum(entry in _LESION for entry in below) != 1:
        return "one Composite Feature or one Single Image Finding in an impression"
    if name == mammo.COMPOSITE_FEATURE and below.count(mammo.SINGLE_IMAGE_FINDING) < 2:
        return "two targets of a Composite Feature"
    if name == codes.SUMMARY_OF_DETECTIONS and isinstance(item.value, Code):
        sections = {entry for entry in below if entry is not None}
        if sections != SECTIONS.get(item.value):
            return f"sections of detections that {item.value.meaning!r} asks for"
    return None
