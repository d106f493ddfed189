"""ExamResult: everything one package says of one group of one study, complete also when it found or read nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from imaging.errors import ReasonCode
from imaging.findings import Code, Finding, Label, Rating
from imaging.image import Origin, SourceRef, View

FindingState = Literal["yes", "no", "unknown"]
Completeness = Literal["all", "some", "none"]
Side = Literal["L", "R"]


@dataclass(frozen=True)
class Calibration:
    """The validation that permits a probability of disease in reports.

    Args:
        population: Whose images it was validated on, in printable ASCII.
        prevalence: Share of positive cases among them, between 0 and 1.
        operating_point: The validated threshold and what it gives, in printable ASCII.
    """

    population: str
    prevalence: float
    operating_point: str


@dataclass(frozen=True)
class Algorithm:
    """Who speaks in a result: the package, as the report must name it (PS3.16 TID 4019).

    `identity` is a hex digest that changes whenever weights, recipe, thresholds or codes change; `parameters` are
    the lines of Algorithm Parameters. `calibration` is None for demonstration packages; `rating` is what the package
    rates findings by, which a report may state only where there is a calibration (`stated_rating`).
    """

    name: str
    version: str
    manufacturer: str
    identity: str
    parameters: tuple[str, ...]
    labels: tuple[Label, ...]
    procedure: Code
    calibration: Calibration | None = None
    rating: Rating | None = None

    @property
    def validated(self) -> bool:
        return self.calibration is not None

    @property
    def stated_rating(self) -> Rating | None:
        """The rating, where the declared validation allows that results state it."""
        return self.rating if self.validated else None

    def label(self, name: str) -> Label:
        return next(label for label in self.labels if label.name == name)


@dataclass(frozen=True, slots=True)
class Unread:
    """An image that belongs to the group and was not analysed, and why. `detail` never holds patient identity."""

    ref: SourceRef
    reason: ReasonCode
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Caution:
    """Why an answer must not be taken like others.

    `mark` goes before the names of its series; `sentence` stands first wherever the answer is told. Both are ASCII.
    """

    mark: str
    sentence: str


@dataclass(frozen=True)
class ExamFinding:
    """A finding of the exam: its key frame, every frame where it was seen, and its measures by name (with unit).

    For a still `frames` is empty. A measure is None where the image is uncalibrated. `rating` is the package's rating,
    0 to 1, by the image classes of the key frame; None where the package has none. `site` is where in the organ it
    lies, more exactly than its label says; None where that is not known.
    """

    key: Finding
    frames: tuple[int, ...] = ()
    measures: dict[str, float | None] = field(default_factory=dict)
    rating: float | None = None
    site: Code | None = None


@dataclass(frozen=True, slots=True)
class ExamRating:
    """The highest p(positive) of the exam's images, 0 to 1, and the image (or frame) that has it.

    It is there also when nothing was outlined, and counts the classes of images that hold nothing.
    """

    probability: float
    ref: SourceRef


@dataclass(frozen=True, slots=True)
class Composite:
    """One lesion seen on several images of one breast.

    `members` are two or more indices into the result's findings, ascending; `score` combines theirs, 0 to 1.
    """

    members: tuple[int, ...]
    laterality: Side
    score: float


@dataclass(frozen=True)
class Scores:
    """How suspicious the exam and each breast with an analysed image are, 0 to 1; 0 where nothing was found.

    `operating_point` is the score from which the package recalls, chosen on training sites; None where it has none.
    """

    exam: float
    breasts: Mapping[Side, float] = field(default_factory=dict)
    operating_point: float | None = None


@dataclass(frozen=True)
class ExamResult:
    """One answer per study × package × group. `finding` and `completeness` follow from what was read and found.

    Of a paired organ, `views` says by SOP Instance UID which projection an image is, where that is known, `composites`
    which findings are one lesion, and `scores` what the package concludes; all are empty for other organs.

    `structures` are the organs in which was looked, outlined and measured. They are no findings: an exam with a gland
    and no lesion is a `no`. `unseen` counts the places of the export that may hold more images of the study.
    `covers` says in a few ASCII words what the answer rests on ("4 of 4 standard views"), and `gaps` in sentences what
    is missing although every image that is there was read: slices that headers state, a part of the organ without a
    channel. `caution` is what a reader must know before anything else; None for most.
    """

    study_uid: str
    modality: str
    package: str
    group: str
    origin: Origin
    algorithm: Algorithm
    findings: tuple[ExamFinding, ...]
    analysed: tuple[SourceRef, ...]
    unread: tuple[Unread, ...]
    measures: dict[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rating: ExamRating | None = None
    views: Mapping[str, View] = field(default_factory=dict)
    composites: tuple[Composite, ...] = ()
    scores: Scores | None = None
    structures: tuple[ExamFinding, ...] = ()
    unseen: int = 0
    caution: Caution | None = None
    covers: str = ""
    gaps: tuple[str, ...] = ()

    @property
    def recall(self) -> bool | None:
        """Whether the exam's score reaches the operating point; None without one, and a `no` needs every image."""
        if self.scores is None or self.scores.operating_point is None:
            return None
        if self.scores.exam >= self.scores.operating_point:
            return True
        return False if self.completeness == "all" else None

    @property
    def lesions(self) -> tuple[tuple[int, ...], ...]:
        """Every lesion once, as indices into the findings: each composite, and each finding that is in none."""
        paired = {member for composite in self.composites for member in composite.members}
        alone = [(index,) for index in range(len(self.findings)) if index not in paired]
        return tuple(sorted([*(composite.members for composite in self.composites), *alone]))

    @property
    def completeness(self) -> Completeness:
        if not self.analysed:
            return "none"
        return "some" if self.unread or self.unseen or self.gaps else "all"

    @property
    def finding(self) -> FindingState:
        """`no` needs every image read: an unread view can never hide behind "nothing found"."""
        if self.findings:
            return "yes"
        return "no" if self.completeness == "all" else "unknown"
