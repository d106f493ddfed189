"""What a package read of one exam, and what follows from it: the records between a modality and the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imaging.exam.result import Composite, ExamFinding, ExamRating, Scores
from imaging.findings import Finding, Rating, Reading
from imaging.image import SourceRef, View

Point = tuple[float, float]


@dataclass(frozen=True)
class Readings:
    """Every reading of an exam, in order, with the views that headers state, by SOP Instance UID."""

    each: tuple[Reading, ...] = ()
    views: Mapping[str, View] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for reading in self.each for finding in reading.findings)

    @property
    def structures(self) -> tuple[Finding, ...]:
        """The organs in which was looked."""
        return tuple(organ for reading in self.each for organ in reading.structures)

    @property
    def analysed(self) -> tuple[SourceRef, ...]:
        """Every frame that was read."""
        return tuple(ref for reading in self.each for ref in reading.refs)

    @property
    def classes(self) -> dict[SourceRef, Mapping[str, float]]:
        """The probability of each image class by name, by image."""
        return {reading.refs[0]: reading.classes for reading in self.each}

    @property
    def anterior_px(self) -> dict[str, Point]:
        """The organ's most anterior point by SOP Instance UID, as x, y in source pixels, where a recipe knows one."""
        return {
            reading.refs[0].sop_uid: reading.anterior_px for reading in self.each if reading.anterior_px is not None
        }


@dataclass(frozen=True)
class Terms:
    """What a package's conclusions rest on besides what it read.

    `measures` names what findings are measured by, `rating` what they are rated by. `operating_point` is the exam score
    from which to recall.
    """

    measures: Sequence[str] = ()
    rating: Rating | None = None
    operating_point: float | None = None


@dataclass(frozen=True)
class Conclusion:
    """The parts of an ExamResult that follow from what was read.

    `covers` is empty where the count of the images says all.
    """

    findings: tuple[ExamFinding, ...]
    measures: Mapping[str, float | None] = field(default_factory=dict)
    rating: ExamRating | None = None
    composites: tuple[Composite, ...] = ()
    scores: Scores | None = None
    structures: tuple[ExamFinding, ...] = ()
    notes: tuple[str, ...] = ()
    covers: str = ""
    gaps: tuple[str, ...] = ()


def exam_rating(rating: Rating | None, classes: Mapping[SourceRef, Mapping[str, float]]) -> ExamRating | None:
    """The rating of the image where it is highest, the first of equals; None without a rating or an image with one."""
    if rating is None:
        return None
    rated = [(chance, ref) for ref, of_image in classes.items() if (chance := rating.of_image(of_image)) is not None]
    return ExamRating(*max(rated, key=lambda pair: pair[0])) if rated else None
