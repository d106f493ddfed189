"""Key Objects and presentation states → which images of a study they reject.

A Key Object Selection Document rejects what it refers to where its title is one of CID 7011 (Rejected for Quality
Reasons, for Patient Safety Reasons, Incorrect Modality Worklist Entry, Data Retention Policy Expired): IHE Imaging
Object Change Management has such images never presented. A presentation state has no code for it; one whose Content
Label begins with REJECT is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from imaging.dicom.headers.classes import KEY_OBJECT, PRESENTATION_STATES
from imaging.errors import Reason

if TYPE_CHECKING:
    from pydicom import Dataset

    from imaging.dicom.instance import Instance

REJECTING: Final = frozenset((KEY_OBJECT, *PRESENTATION_STATES))
_TITLES: Final = frozenset(("113001", "113037", "113038", "113039"))
_LABEL: Final = "REJECT"
_MOST_DEPTH: Final = 8  # of content items; a Key Object has one level (TID 2010)


@dataclass(frozen=True, slots=True)
class Rejection:
    """What one document rejects, by SOP Instance UID, in the studies that it is about."""

    study_uids: frozenset[str]
    sop_uids: frozenset[str]

    def names(self, instance: Instance) -> bool:
        return instance.sop_uid in self.sop_uids and instance.study_uid in self.study_uids


def read_rejection(header: Dataset) -> Rejection | None:
    """The rejection of a Key Object or presentation state; None for one that rejects nothing."""
    if header.get("SOPClassUID") == KEY_OBJECT:
        titles = {str(code.get("CodeValue")) for code in header.get("ConceptNameCodeSequence") or []}
        if not titles & _TITLES:
            return None
        evidence = list(header.get("CurrentRequestedProcedureEvidenceSequence") or [])
        sop_uids = set(_referenced(header)) or set(_of_series(evidence))
        studies = {str(study.get("StudyInstanceUID")) for study in evidence}
    else:
        if not str(header.get("ContentLabel") or "").strip().upper().startswith(_LABEL):
            return None
        sop_uids, studies = set(_of_series([header])), set()
    return Rejection(frozenset((*studies, str(header.get("StudyInstanceUID")))), frozenset(sop_uids))


def without_rejected(instances: Iterable[Instance], rejections: Iterable[Rejection]) -> list[Instance]:
    """The instances, the rejected ones marked so."""
    known = list(rejections)
    return [
        replace(instance, left_out=Reason.REJECTED)
        if any(rejection.names(instance) for rejection in known)
        else instance
        for instance in instances
    ]


def _referenced(item: Dataset, depth: int = 0) -> Iterator[str]:
    """The UIDs that the items of a content tree refer to."""
    for part in (item.get("ContentSequence") or []) if depth < _MOST_DEPTH else []:
        for reference in part.get("ReferencedSOPSequence") or []:
            yield str(reference.get("ReferencedSOPInstanceUID"))
        yield from _referenced(part, depth + 1)


def _of_series(studies: Iterable[Dataset]) -> Iterator[str]:
    for study in studies:
        for series in study.get("ReferencedSeriesSequence") or []:
            for keyword in ("ReferencedSOPSequence", "ReferencedImageSequence"):
                for reference in series.get(keyword) or []:
                    yield str(reference.get("ReferencedSOPInstanceUID"))
