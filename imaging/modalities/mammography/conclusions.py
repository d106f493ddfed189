"""Findings of one mammography study → exam findings, lesions seen in two views, and scores of breasts and exam.

A lesion keeps about its distance from the nipple when the breast is compressed the other way, so what lies on the same
arc around the nipple in CC and in MLO may be one lesion (the radial search of Paquerault et al., Medical Physics 29,
2002). Where a nipple is not known in both views, the most anterior point of the breast stands for it in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from imaging.exam.conclusion import Conclusion, Readings, Terms, exam_rating
from imaging.exam.context import Context
from imaging.exam.result import Composite, ExamFinding, Scores, Side
from imaging.findings import Finding, Rating
from imaging.image import Floats, SourceRef, View
from imaging.modalities.mammography.selection import STANDARD_VIEWS

Classes = Mapping[SourceRef, Mapping[str, float]]
Point = tuple[float, float]

# Our choice, of the order of the arcs that readers accept; a package that was fitted on pairs may bring its own.
TOLERANCE_MM: Final = 15.0
# Stands for the height of an image without calibration, so that the tolerance becomes a share of its rows.
_UNCALIBRATED_HEIGHT_MM: Final = 240.0
# Another magnification or another compression of a part: its arcs are not those of the whole breast.
_OF_A_PART: Final = frozenset({"magnification", "spot compression"})
_PAIRED_VIEWS: Final = ("CC", "MLO")


@dataclass(frozen=True)
class Projections:
    """What is known of the images of an exam, by SOP Instance UID.

    `nipples_px` and `anterior_px` hold the nipple and the breast's most anterior point as x, y in source pixels, corner
    convention, where they were found.
    """

    views: Mapping[str, View]
    nipples_px: Mapping[str, Point] = field(default_factory=dict)
    anterior_px: Mapping[str, Point] = field(default_factory=dict)


def conclude(readings: Readings, terms: Terms, context: Context) -> Conclusion:
    """What is said of one study; nothing but its images counts."""
    del context
    found = summarise(readings.findings, terms.measures, terms.rating, readings.classes)
    composites = pair(found, Projections(readings.views, anterior_px=readings.anterior_px))
    scores = score(found, composites, readings.analysed, readings.views, terms.operating_point)
    read = {ref.sop_uid for ref in readings.analysed}
    views = {f"{view.laterality} {view.view}" for uid, view in readings.views.items() if uid in read}
    covers = f"{len(views & set(STANDARD_VIEWS))} of {len(STANDARD_VIEWS)} standard views"
    return Conclusion(found, {}, exam_rating(terms.rating, readings.classes), composites, scores, covers=covers)


def summarise(
    findings: Iterable[Finding], measures: Sequence[str], rating: Rating | None = None, classes: Classes | None = None
) -> tuple[ExamFinding, ...]:
    """One exam finding per finding, best score first; none for none.

    `measures` names what each is measured by: longest_diameter, area. `rating` rates each by the `classes`
    (probabilities by name, for each image read) of its image.
    """
    told = [
        ExamFinding(
            finding,
            measures=dict(_measure(measure, finding) for measure in measures),
            rating=rating.of_finding((classes or {}).get(finding.ref, {})) if rating else None,
        )
        for finding in findings
    ]
    return tuple(sorted(told, key=lambda f: (-f.key.score, f.key.ref.sop_uid, f.key.box_px)))


def pair(
    findings: Sequence[ExamFinding], images: Projections, tolerance_mm: float = TOLERANCE_MM
) -> tuple[Composite, ...]:
    """The lesions seen in both CC and MLO of one breast, best score first; none where nothing matches.

    A finding belongs to one pair at most. Of all assignments the one with the least total cost is taken: the difference
    of the distances for a pair, `tolerance_mm` for two findings left alone. Only findings of one label are paired, on
    images of equal modifiers that show the whole breast, both calibrated, or both not and of equal size; then the
    tolerance is its share of a detector of 240 mm. A finding of an image without view or landmark stays alone.
    """
    found: list[Composite] = []
    for side in ("L", "R"):
        of_side = [
            [index for index, f in enumerate(findings) if _is_whole(images.views.get(f.key.ref.sop_uid), side, view)]
            for view in _PAIRED_VIEWS
        ]
        found += _pairs_of(side, of_side[0], of_side[1], _Geometry(findings, images, tolerance_mm))
    return tuple(sorted(found, key=lambda composite: (-composite.score, composite.members)))


def score(
    findings: Sequence[ExamFinding],
    composites: Sequence[Composite],
    analysed: Iterable[SourceRef],
    views: Mapping[str, View],
    operating_point: float | None,
) -> Scores | None:
    """The highest score of the lesions of each breast that has an analysed image, and of the exam; 0 for no finding.

    A pair counts with its combined score in place of its members'; a finding on an image without a known view counts
    for the exam alone. None where no image was analysed: there is nothing to score.
    """
    read = {ref.sop_uid for ref in analysed}
    if not read:
        return None
    paired = {member for composite in composites for member in composite.members}
    breasts: dict[Side, float] = {views[uid].laterality: 0.0 for uid in sorted(read & set(views))}
    exam = 0.0
    alone = [(f.key.score, views.get(f.key.ref.sop_uid)) for i, f in enumerate(findings) if i not in paired]
    for value, side in (
        *((composite.score, composite.laterality) for composite in composites),
        *((value, view.laterality if view else None) for value, view in alone),
    ):
        exam = max(exam, value)
        if side is not None:
            breasts[side] = max(breasts.get(side, 0.0), value)
    return Scores(exam, dict(sorted(breasts.items())), operating_point)


def combined(scores: Iterable[float]) -> float:
    """1 - Π(1 - score): that not all are false alarms, the views taken as independent. Never below its highest."""
    return float(1.0 - np.prod([1.0 - value for value in scores]))


@dataclass(frozen=True)
class _Geometry:
    """Findings with what their distances are measured by."""

    findings: Sequence[ExamFinding]
    images: Projections
    tolerance_mm: float

    def cost(self, one: int, other: int) -> float:
        """How far two findings are from lying on one arc, 0 to 1 as a share of the tolerance; inf where too far."""
        a, b = self.findings[one].key, self.findings[other].key
        landmarks = self._landmarks(a.ref.sop_uid, b.ref.sop_uid)
        if a.label != b.label or landmarks is None or not self._comparable(a, b):
            return float("inf")
        apart = abs(_distance(a, landmarks[0]) - _distance(b, landmarks[1]))
        calibrated = a.source_grid.unit == "mm"
        share = 1.0 if calibrated else a.source_grid.shape[0] / _UNCALIBRATED_HEIGHT_MM
        relative = apart / (self.tolerance_mm * share)
        return relative if relative <= 1.0 else float("inf")

    def _landmarks(self, one: str, other: str) -> tuple[Point, Point] | None:
        """The same kind of landmark in both images, the nipple if it can be."""
        for known in (self.images.nipples_px, self.images.anterior_px):
            if one in known and other in known:
                return known[one], known[other]
        return None

    def _comparable(self, a: Finding, b: Finding) -> bool:
        modifiers = [set(self.images.views[finding.ref.sop_uid].modifiers) for finding in (a, b)]
        if modifiers[0] != modifiers[1] or a.source_grid.unit != b.source_grid.unit:
            return False
        return a.source_grid.unit == "mm" or a.source_grid.shape == b.source_grid.shape


def _is_whole(view: View | None, side: str, name: str) -> bool:
    return view is not None and (view.laterality, view.view) == (side, name) and not _OF_A_PART & set(view.modifiers)


def _pairs_of(side: Literal["L", "R"], first: list[int], second: list[int], geometry: _Geometry) -> list[Composite]:
    if not first or not second:
        return []
    costs = np.array([[geometry.cost(one, other) for other in second] for one in first])
    # Two findings left alone cost 1, the tolerance: a pair is never made to please another.
    rows, columns = linear_sum_assignment(np.minimum(costs, 1.0))
    pairs = [
        (first[row], second[column])
        for row, column in zip(rows, columns, strict=True)
        if np.isfinite(costs[row, column])
    ]
    return [
        Composite((min(p), max(p)), side, combined(geometry.findings[index].key.score for index in p)) for p in pairs
    ]


def _distance(finding: Finding, landmark_px: Point) -> float:
    """From the centre of the finding to the landmark, in the unit of its grid."""
    points = np.array([finding.center_px, landmark_px])[:, ::-1]
    ends: Floats = finding.source_grid.world(points)
    return float(np.linalg.norm(ends[0] - ends[1]))


def _measure(measure: str, finding: Finding) -> tuple[str, float | None]:
    name, value_of = MEASURES[measure]
    return name, value_of(finding)


# What a card may name, the name with its unit, and how it is measured.
MEASURES: Final[dict[str, tuple[str, Callable[[Finding], float | None]]]] = {
    "longest_diameter": ("longest_diameter_mm", lambda finding: finding.longest_diameter_mm),
    "area": ("area_mm2", lambda finding: finding.area_mm2),
}
