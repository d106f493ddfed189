"""Reads the content of a Mammography CAD report (PS3.16 TID 4000): single image findings, composites, detections.

References to library images are by position. SNOMED codes come back as SCT, in whichever scheme they were written.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom.sr._snomed_dict import mapping

from imaging.dicom.results.content_tree import ContentItem, ReadMeasure, Reference
from imaging.dicom.results.records import ReadComposite, ReadDetections, ReadFinding
from imaging.findings import Code

Key = tuple[str, str]

_SINGLE_IMAGE_FINDING: Final[Key] = ("111059", "DCM")
_COMPOSITE: Final[Key] = ("111015", "DCM")
_INTENT: Final[Key] = ("111056", "DCM")
_TRACKING_ID: Final[Key] = ("112039", "DCM")
_TRACKING_UID: Final[Key] = ("112040", "DCM")
_CERTAINTY_OF_FINDING: Final[Key] = ("111012", "DCM")
_CERTAINTY_OF_FEATURE: Final[Key] = ("111011", "DCM")
_CENTER: Final[Key] = ("111010", "DCM")
_OUTLINE: Final[Key] = ("111041", "DCM")
_DETECTION: Final[Key] = ("111022", "DCM")
_SUCCESSFUL: Final[Key] = ("111063", "DCM")
_FAILED: Final[Key] = ("111025", "DCM")


def cad_findings(root: ContentItem) -> tuple[ReadFinding, ...]:
    """Every Single Image Finding in document order, those of composites too; none where there is none."""
    return tuple(_finding(root, item) for item in _single_image_findings(root))


def cad_composites(root: ContentItem) -> tuple[ReadComposite, ...]:
    """Every Composite Feature, its targets as indices into `cad_findings`, by value or by reference."""
    places = {id(item): index for index, item in enumerate(_single_image_findings(root))}
    return tuple(
        ReadComposite(
            tracking_uid=str(_value(item, _TRACKING_UID) or ""),
            label=snomed_ct(item.value),
            score=_certainty(item, _CERTAINTY_OF_FEATURE),
            intent=_code(item, _INTENT),
            members=tuple(places[id(target)] for target in _targets(root, item) if id(target) in places),
        )
        for item in root.walk()
        if item.is_named(_COMPOSITE)
    )


def cad_detections(root: ContentItem) -> tuple[ReadDetections, ...]:
    """Every Detection Performed, of the successful and of the failed ones, with the images it names."""
    return tuple(
        ReadDetections(section.is_named(_SUCCESSFUL), snomed_ct(item.value), _images(root, item))
        for section in root.walk()
        if section.is_named(_SUCCESSFUL) or section.is_named(_FAILED)
        for item in section.children
        if item.is_named(_DETECTION)
    )


def snomed_ct(code: object) -> Code | None:
    """A code with a retired SNOMED-RT value (designators SRT, SNM3 and 99SDM) as SCT; others as they are."""
    if not isinstance(code, Code):
        return None
    known: dict[str, str] = mapping["SRT"]
    if code.scheme in {"SRT", "SNM3", "99SDM"} and code.value in known:
        return Code(known[code.value], "SCT", code.meaning)
    return code


def image_of(root: ContentItem, item: ContentItem) -> Reference | None:
    """The image that a graphic was selected from, by value or by reference; None where it names none."""
    return next(iter(_images(root, item)), None)


def _single_image_findings(root: ContentItem) -> list[ContentItem]:
    return [item for item in root.walk() if item.is_named(_SINGLE_IMAGE_FINDING)]


def _targets(root: ContentItem, item: ContentItem) -> list[ContentItem]:
    """The children of an item, by-reference ones followed once."""
    followed = [root.at(child.refers_to) if child.refers_to else child for child in item.children]
    return [target for target in followed if target is not None]


def _images(root: ContentItem, item: ContentItem) -> tuple[Reference, ...]:
    return tuple(target.value for target in _targets(root, item) if isinstance(target.value, Reference))


def _finding(root: ContentItem, item: ContentItem) -> ReadFinding:
    graphics = {key: next((c for c in item.children if c.is_named(key)), None) for key in (_CENTER, _OUTLINE)}
    center, outline = graphics[_CENTER], graphics[_OUTLINE]
    placed = [graphic for graphic in (outline, center) if graphic is not None]
    point = None if center is None else np.asarray(center.value).reshape(-1)
    return ReadFinding(
        tracking_id=str(_value(item, _TRACKING_ID) or ""),
        tracking_uid=str(_value(item, _TRACKING_UID) or ""),
        label=snomed_ct(item.value),
        sites=(),
        score=_certainty(item, _CERTAINTY_OF_FINDING),
        graphic_type=placed[0].graphic_type if placed else "",
        points_px=placed[0].value if placed else None,
        image=image_of(root, placed[0]) if placed else None,
        measures=tuple(
            ReadMeasure(snomed_ct(child.value.concept), child.value.value, child.value.unit)
            for child in item.children
            if isinstance(child.value, ReadMeasure) and not child.is_named(_CERTAINTY_OF_FINDING)
        ),
        references=tuple(image for below in item.walk() for image in _images(root, below)),
        center_px=None if point is None or point.size != 2 else (float(point[0]), float(point[1])),
        intent=_code(item, _INTENT),
    )


def _value(item: ContentItem, key: Key) -> object:
    child = item.child(key)
    return None if child is None else child.value


def _code(item: ContentItem, key: Key) -> Code | None:
    return snomed_ct(_value(item, key))


def _certainty(item: ContentItem, key: Key) -> float | None:
    """A certainty in percent as 0-1."""
    value = _value(item, key)
    return value.value / 100.0 if isinstance(value, ReadMeasure) and value.value is not None else None
