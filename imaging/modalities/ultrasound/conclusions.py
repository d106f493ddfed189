"""Findings of one ultrasound study → exam findings: one per lesion of a cine, with its measures in millimetres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from imaging.exam.conclusion import Conclusion, Readings, Terms, exam_rating
from imaging.exam.context import Context
from imaging.exam.result import ExamFinding
from imaging.findings import Finding, Rating
from imaging.image import SourceRef

Classes = Mapping[SourceRef, Mapping[str, float]]

# Two marks on neighbouring frames are one lesion when their boxes share this part of their union.
_SAME_LESION_IOU = 0.1
# A lesion may leave the plane for this many frames and still be the same one.
_FRAMES_APART = 3


def conclude(readings: Readings, terms: Terms, context: Context) -> Conclusion:
    """What is said of one study; nothing but its images counts."""
    del context
    found = summarise(readings.findings, terms.measures, terms.rating, readings.classes)
    return Conclusion(found, exam_measures(found), exam_rating(terms.rating, readings.classes))


def summarise(
    findings: Iterable[Finding], measures: Sequence[str], rating: Rating | None = None, classes: Classes | None = None
) -> tuple[ExamFinding, ...]:
    """One exam finding per lesion, best score first; none for none.

    On a still every finding is a lesion. On a cine, findings that overlap from frame to frame are one lesion, told at
    its frame of highest score. `measures` names what each is measured by: longest_diameter, area, circumference.
    `rating` rates each by the `classes` (probabilities by name, for each image read) of the frame it is told at.
    """
    by_image: dict[tuple[str, int | None], list[Finding]] = defaultdict(list)
    for finding in findings:
        by_image[finding.ref.sop_uid, finding.ref.region].append(finding)
    lesions = [lesion for found in by_image.values() for lesion in _link(found)]
    told = [
        ExamFinding(
            lesion.key,
            lesion.frames,
            dict(_measure(measure, lesion.key) for measure in measures),
            rating.of_finding((classes or {}).get(lesion.key.ref, {})) if rating else None,
        )
        for lesion in lesions
    ]
    return tuple(sorted(told, key=lambda f: (-f.key.score, f.key.ref.sop_uid, f.key.box_px)))


def exam_measures(findings: Sequence[ExamFinding]) -> dict[str, float | None]:
    """The measures of the largest finding, which stand for the exam; empty when nothing was found."""
    if not findings:
        return {}
    return dict(max(findings, key=lambda f: (f.key.area_mm2 or 0.0, int(f.key.mask.sum()))).measures)


def circumference_mm(finding: Finding) -> float | None:
    """Circumference of the ellipse with the mask's second moments (Ramanujan's second approximation).

    This is how a head circumference is taken: along the fitted ellipse, not along the pixels. None if uncalibrated.
    """
    if finding.source_grid.unit != "mm":
        return None
    places = np.argwhere(finding.mask) @ finding.source_grid.affine[:-1, :-1].T
    steps = finding.source_grid.affine[:-1, :-1]
    # A pixel is a small square, not a point: its own variance is its side squared / 12.
    spread = np.cov(places, rowvar=False, bias=True) + steps @ steps.T / 12
    minor, major = 2 * np.sqrt(np.linalg.eigvalsh(spread))
    flat = ((major - minor) / (major + minor)) ** 2
    return float(np.pi * (major + minor) * (1 + 3 * flat / (10 + np.sqrt(4 - 3 * flat))))


@dataclass
class _Lesion:
    """Findings of one lesion over the frames of a cine, in frame order."""

    members: list[Finding] = field(default_factory=list)

    @property
    def key(self) -> Finding:
        return max(self.members, key=lambda f: f.score)

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(sorted({f.ref.frame_number for f in self.members if f.ref.frame_number is not None}))


def _link(findings: list[Finding]) -> list[_Lesion]:
    """Findings of one image, joined over its frames; findings of one frame never join each other."""
    lesions: list[_Lesion] = []
    for finding in sorted(findings, key=lambda f: (f.ref.frame_number or 0, -f.score)):
        number = finding.ref.frame_number
        open_lesions = [
            lesion
            for lesion in lesions
            if number is not None
            and lesion.members[-1].label == finding.label
            and 0 < number - (lesion.members[-1].ref.frame_number or 0) <= _FRAMES_APART
            and _overlap(lesion.members[-1], finding) >= _SAME_LESION_IOU
        ]
        if open_lesions:
            max(open_lesions, key=lambda lesion: _overlap(lesion.members[-1], finding)).members.append(finding)
        else:
            lesions.append(_Lesion([finding]))
    return lesions


def _overlap(one: Finding, other: Finding) -> float:
    """Intersection over union of two boxes."""
    a, b = np.array(one.box_px), np.array(other.box_px)
    shared = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)


def _measure(measure: str, finding: Finding) -> tuple[str, float | None]:
    name, value_of = MEASURES[measure]
    return name, value_of(finding)


# What a card may name, the name with its unit, and how it is measured.
MEASURES: Final[dict[str, tuple[str, Callable[[Finding], float | None]]]] = {
    "longest_diameter": ("longest_diameter_mm", lambda finding: finding.longest_diameter_mm),
    "area": ("area_mm2", lambda finding: finding.area_mm2),
    "circumference": ("circumference_mm", circumference_mm),
}
