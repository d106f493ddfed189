"""Agreement of what was read with the result and its sources: the checks that every kind of report shares.

Messages name the object, the attribute or row, what was found and what is allowed; a value of the patient's identity is
never among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

import numpy as np
from pydicom import Dataset

from imaging.dicom.results.cad import snomed_ct
from imaging.dicom.results.content_tree import ContentItem, Reference
from imaging.dicom.results.records import EvidenceItem, ReadFinding, ReadReport
from imaging.errors import ReadbackError, Reason
from imaging.exam.result import Side
from imaging.findings import Code, Finding, Mask
from imaging.image import Floats, SourceRef, View
from imaging.report.document import Issue
from imaging.report.sr.codes import CERTAINTY, MeasureCode
from imaging.report.sr.statements import Roi
from imaging.report.sr.views import IMAGE_LATERALITY, IMAGE_VIEW, IMAGE_VIEW_MODIFIER, LATERALITIES, view_codes

Sources = Mapping[str, Dataset]

_OUTLINE_TOLERANCE_PX: Final = 1e-3


def refuse(where: str, field: str, found: object, allowed: object) -> NoReturn:
    raise ReadbackError(f"{where}, {field}: found {found}; allowed is {allowed}", Reason.READBACK_FAILED)


def check_predecessors(read: ReadReport, earlier: Issue | None, kind: str) -> None:
    """A report names the one of its kind that it supersedes, and no other."""
    study = read.evidence[0].study_uid if read.evidence else ""
    issued = () if earlier is None else earlier.objects
    wanted = tuple(EvidenceItem(study, i.series_uid, i.sop_class_uid, i.sop_uid) for i in issued if i.kind == kind)
    if read.predecessors != wanted:
        refuse(read.sop_uid, "PredecessorDocumentsSequence (0040,A360)", read.predecessors, wanted)


def check_reference(where: str, reference: Reference, sources: Sources) -> None:
    header = sources.get(reference.sop_uid)
    if header is None:
        refuse(where, "ReferencedSOPInstanceUID (0008,1155)", reference.sop_uid, "an image of the result")
    if str(header.get("SOPClassUID")) != reference.sop_class_uid:
        refuse(where, "ReferencedSOPClassUID (0008,1150)", reference.sop_class_uid, "the class of the image")
    count = int(header.get("NumberOfFrames") or 1)
    if any(not 1 <= frame <= count for frame in reference.frames):
        refuse(where, "ReferencedFrameNumber (0008,1160)", reference.frames, f"1 to {count}")


def frames_of(ref: SourceRef) -> tuple[int, ...]:
    """The frame numbers that a reference to one frame has; none for a single-frame object."""
    return () if ref.frame_number is None else (ref.frame_number,)


def check_head(where: str, found: ReadFinding, roi: Roi) -> None:
    """A group is about its region: tracking, category of a volume region, finding and site."""
    for field, value, wanted in (
        ("tracking UID", found.tracking_uid, roi.tracking_uid),
        ("tracking identifier", found.tracking_id, roi.name),
        ("category", found.category, None if roi.volume_region is None else roi.label.category),
        ("finding", found.label, roi.label.finding),
        ("finding site", found.sites, (roi.site,)),
        ("laterality", found.laterality, None if roi.laterality is None else LATERALITIES[roi.laterality]),
    ):
        if value != wanted:
            refuse(where, field, value, wanted)


def check_measures(where: str, found: ReadFinding, measures: Sequence[tuple[MeasureCode, float]]) -> None:
    """A group states each of `measures` once, and nothing else. Certainty is read as the finding's score."""
    told = [(coded, value) for coded, value in measures if coded.concept != CERTAINTY]
    certainty = next((round(value, 2) / 100.0 for coded, value in measures if coded.concept == CERTAINTY), None)
    if found.score != certainty:
        refuse(where, "certainty", found.score, certainty)
    wanted = {(coded.concept, coded.derivation): (round(value, coded.decimals), coded.unit) for coded, value in told}
    given = {(m.concept, m.derivation): (m.value, m.unit) for m in found.measures}
    if given != wanted or len(found.measures) != len(wanted):
        refuse(where, "measurements", sorted(str(m) for m in found.measures), "those of the finding, with their units")


def check_region(where: str, found: ReadFinding, key: Finding) -> None:
    """The stored outline, filled, is the finding's mask, pixel for pixel; of a box its corners."""
    points = found.points_px
    if points is None or len(points) < 4 or not np.array_equal(points[0], points[-1]):
        refuse(where, "GraphicData (0070,0022)", "an open outline", "a closed one")
    if key.box is not None:
        if points[:-1].shape != (4, 2) or np.abs(points[:-1] - key.outline_px).max() > _OUTLINE_TOLERANCE_PX:
            refuse(where, "GraphicData (0070,0022)", "other corners", "the box of the finding")
        return
    region = filled_outline(where, points[:-1], key.source_grid.shape)
    if not np.array_equal(region, key.full_mask()):
        refuse(where, "GraphicData (0070,0022)", "another region", "the mask of the finding")


def filled_outline(where: str, points: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels of a frame of `shape` inside an outline (n, 2) x, y that runs along pixel edges (even-odd rule).

    Each vertical edge turns the pixels to its right over, from row to row. Raises ReadbackError for an outline that
    leaves the pixel corners or the frame: half a pixel is already another place.
    """
    corners = np.rint(points).astype(int)
    following = np.roll(corners, -1, axis=0)
    on_corners = np.abs(points - corners).max() <= _OUTLINE_TOLERANCE_PX
    inside = corners.min() >= 0 and corners[:, 0].max() <= shape[1] and corners[:, 1].max() <= shape[0]
    if not (on_corners and inside and np.all((corners == following).any(axis=1))):
        refuse(where, "GraphicData (0070,0022)", "points off the pixel corners of the frame", "pixel corners")
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.bool_)
    for (x, y), (_, below) in zip(corners, following, strict=True):
        turns[min(y, below) : max(y, below), x] ^= True
    return np.logical_xor.accumulate(turns, axis=1)[:, :-1]


def check_projection(where: str, item: ContentItem, view: View | None, sides: Mapping[Side, Code]) -> None:
    """The library entry of an image says its side, view and modifiers, and nothing where they are unknown."""
    named, modifiers = (None, ()) if view is None else view_codes(view)
    shown = [child for child in item.children if child.name == IMAGE_VIEW]
    for field, found, wanted in (
        ("laterality", codes_below(item, IMAGE_LATERALITY), [] if view is None else [sides[view.laterality]]),
        ("view", codes_below(item, IMAGE_VIEW), [] if named is None else [named]),
        ("view modifiers", [c for one in shown for c in codes_below(one, IMAGE_VIEW_MODIFIER)], [*modifiers]),
    ):
        if found != wanted:
            refuse(where, field, found, wanted)


def codes_below(item: ContentItem, name: Code) -> list[Code | None]:
    """The values of an item's children of that name."""
    return [snomed_ct(child.value) for child in item.children if child.name == name]
