"""What a package saw of one exam → what it says of it: findings, measures, pairs and scores, by modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from imaging.exam.result import Composite, ExamFinding, ExamRating, Scores
from imaging.findings import Finding, Rating
from imaging.image import SourceRef, View
from imaging.modalities.mammography import conclusions as mammography
from imaging.modalities.prostate import conclusions as prostate
from imaging.modalities.prostate.conclusions import Psa
from imaging.modalities.ultrasound import conclusions as ultrasound

Point = tuple[float, float]
MODALITIES: Final = ("MG", "MR", "US")


@dataclass(frozen=True)
class Seen:
    """Everything that was read of an exam: `classes` by image, and by SOP Instance UID the views and landmarks.

    `anterior_px` is the most anterior point of the organ as x, y in source pixels, where the recipe knows one.
    `structures` are the organs in which was looked. `psa` is the patient's PSA, None where nobody states it.
    """

    findings: Sequence[Finding]
    analysed: Sequence[SourceRef]
    classes: Mapping[SourceRef, Mapping[str, float]]
    views: Mapping[str, View] = field(default_factory=dict)
    anterior_px: Mapping[str, Point] = field(default_factory=dict)
    structures: Sequence[Finding] = ()
    psa: Psa | None = None


@dataclass(frozen=True)
class Conclusion:
    """The parts of an ExamResult that follow from what was seen."""

    findings: tuple[ExamFinding, ...]
    measures: Mapping[str, float | None]
    rating: ExamRating | None
    composites: tuple[Composite, ...] = ()
    scores: Scores | None = None
    structures: tuple[ExamFinding, ...] = ()
    notes: tuple[str, ...] = ()


def conclude(
    modality: str, seen: Seen, measures: Sequence[str], rating: Rating | None, operating_point: float | None
) -> Conclusion:
    """What is said of an exam of one of MODALITIES. `operating_point` is the exam score from which to recall."""
    rated = _exam_rating(rating, seen.classes)
    if modality == "US":
        found = ultrasound.summarise(seen.findings, measures, rating, seen.classes)
        return Conclusion(found, ultrasound.exam_measures(found), rated)
    if modality == "MR":
        exam = prostate.summarise(seen.findings, seen.structures, seen.psa, seen.analysed, operating_point)
        return Conclusion(
            exam.findings, exam.measures, rated, scores=exam.scores, structures=exam.structures, notes=exam.notes
        )
    found = mammography.summarise(seen.findings, measures, rating, seen.classes)
    images = mammography.Projections(seen.views, anterior_px=seen.anterior_px)
    composites = mammography.pair(found, images)
    scores = mammography.score(found, composites, seen.analysed, seen.views, operating_point)
    return Conclusion(found, {}, rated, composites, scores)


def _exam_rating(rating: Rating | None, classes: Mapping[SourceRef, Mapping[str, float]]) -> ExamRating | None:
    """The rating of the image where it is highest, the first of equals; None without a rating or an image with one."""
    if rating is None:
        return None
    rated = [(chance, ref) for ref, of_image in classes.items() if (chance := rating.of_image(of_image)) is not None]
    return ExamRating(*max(rated, key=lambda one: one[0])) if rated else None
