"""The typed record of an evaluation: every figure with the counts behind it, JSON in and JSON out at full precision."""

from __future__ import annotations

import json
import math
import types
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from imaging.errors import InputError, Reason
from imaging.evaluation.matching import MatchedLesion

SCHEMA_VERSION = 1
SUPPRESSED_BELOW = 5
Task = Literal["detection", "segmentation", "classification"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """What stands behind a figure; the unit (case, lesion, structure) is the figure's.

    `n_total` all that belong to it; `n_scored` those with a value; `n_missed` true ones that were not found;
    `n_false_positive_on_empty` where something was found and nothing is there; `n_failed` without a prediction.
    None stands for a count from 1 to 4 that was suppressed.
    """

    n_total: int | None
    n_scored: int | None
    n_missed: int | None = 0
    n_false_positive_on_empty: int | None = 0
    n_failed: int | None = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """Limits of a figure at `level`; `n_clusters` are the patients of the smaller class.

    `coverage` is the measured share of such intervals that hold the truth, given where it is known to fall short.
    """

    low: float
    high: float
    method: str
    level: float = 0.95
    n_clusters: int | None = None
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What a random-effects analysis over sites needs of a figure: estimate and variance on one scale."""

    estimate: float
    variance: float
    scale: Literal["identity", "logit"] = "identity"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `value` is finite, or None with the reason in `absent`, such as `n/a (2 positives)`.

    `ideal` is given where neither more nor less is better, such as 1 for a calibration slope.
    """

    name: str
    value: float | None
    counts: Counts
    interval: Interval | None = None
    absent: str = ""
    effect: Effect | None = None
    higher_is_better: bool = True
    ideal: float | None = None

    def __post_init__(self) -> None:
        assert (self.value is None) == bool(self.absent), f"{self.name}: a figure has a value or the reason for none"
        assert self.value is None or math.isfinite(self.value), f"{self.name}: {self.value} is not finite"

    @property
    def text(self) -> str:
        """The figure as a table shows it: with its interval, and with the measured coverage where that falls short."""
        if self.value is None:
            return self.absent
        if self.interval is None:
            return f"{self.value:.3f}"
        limits = f"{self.value:.3f} ({self.interval.low:.3f} to {self.interval.high:.3f}"
        if self.interval.coverage is None:
            return f"{limits})"
        return f"{limits}; measured coverage {self.interval.coverage:.1%} at {self.interval.n_clusters} patients)"


@dataclass(frozen=True)
class Subgroup:
    """The figures of one site, one subgroup, or all cases; `suppressed` where there are too few cases to show."""

    name: str
    n_cases: int | None
    n_patients: int | None
    figures: tuple[Figure, ...] = ()
    suppressed: bool = False

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)


@dataclass(frozen=True, slots=True)
class Extreme:
    """The macro mean over sites of one figure, and its worst site. `n_sites` have a value; `n_absent` have none."""

    name: str
    macro: float | None
    worst_site: str
    worst: float | None
    n_sites: int
    n_absent: int


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Random effects over sites of one figure, back on its own scale; limits are None where too few sites allow them.

    `predicted_*` is the 95 % prediction interval for a new site. `tau2` is on `scale`.
    """

    name: str
    scale: Literal["identity", "logit"]
    n_sites: int
    mean: float
    low: float | None
    high: float | None
    predicted_low: float | None
    predicted_high: float | None
    tau2: float
    i2: float


@dataclass(frozen=True, slots=True)
class DetectionCase:
    """One image (or exam) as the detection figures need it.

    `truth` is the case's own truth, apart from the masks: a case known positive without a delineation is positive.
    `failed` says why there is no prediction; its lesions are then all missed.
    """

    case_id: str
    patient_id: str
    site: str
    truth: bool
    score: float
    lesions: tuple[MatchedLesion, ...]
    failed: str = ""
    n_images: int = 1
    exam_id: str = ""
    subgroups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """One class of one case. Lengths in mm (pixels where uncalibrated), volumes in ml, areas (2-D) in cm².

    `state` follows the declared empty policy. Every value that the state leaves undefined is None, and is counted.
    """

    label: str
    state: Literal["both", "true_negative", "false_positive_on_empty", "missed", "failed", "failed_on_empty"]
    dice: float | None
    iou: float | None
    nsd: float | None
    hd95: float | None
    assd: float | None
    truth_volume: float
    predicted_volume: float
    lesions: tuple[MatchedLesion, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentationCase:
    """One case with the overlap of each class."""

    case_id: str
    patient_id: str
    site: str
    overlaps: tuple[Overlap, ...]
    failed: str = ""
    subgroups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ClassificationCase:
    """One case with its truth and the probability given to it (0 where `failed` says why there is none)."""

    case_id: str
    patient_id: str
    site: str
    truth: bool
    score: float
    failed: str = ""
    subgroups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Inputs:
    """SHA-256 of what was evaluated, empty where it is not known."""

    manifest: str = ""
    weights: str = ""
    configuration: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One endpoint of two models on the same cases: first, second, first − second with its interval and p.

    `p_holm` is corrected over all endpoints that have a p. `absent` says why there is no difference.
    """

    name: str
    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    method: str = ""
    higher_is_better: bool = True
    absent: str = ""


@dataclass(frozen=True)
class Comparison:
    """A second model on the same cases and truth: its own figures and failures, and the paired differences."""

    pooled: Subgroup
    sites: tuple[Subgroup, ...]
    differences: tuple[Difference, ...]
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """A whole evaluation. `protocol` holds the hit rule, the empty and failure policies and every setting.

    The three tuples of cases hold the rows of the task; all are empty in a file of aggregates.
    """

    task: Task
    toolkit: str
    versions: dict[str, str]
    protocol: dict[str, str | float | int]
    inputs: Inputs
    pooled: Subgroup
    sites: tuple[Subgroup, ...]
    macro: tuple[Extreme, ...]
    heterogeneity: tuple[Heterogeneity, ...]
    subgroups: dict[str, tuple[Subgroup, ...]] = field(default_factory=dict)
    detection: tuple[DetectionCase, ...] = ()
    segmentation: tuple[SegmentationCase, ...] = ()
    classification: tuple[ClassificationCase, ...] = ()
    comparison: Comparison | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def cases(self) -> tuple[DetectionCase | SegmentationCase | ClassificationCase, ...]:
        """The rows of the task; empty in a file of aggregates."""
        return (*self.detection, *self.segmentation, *self.classification)

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Case and reason of every failed case."""
        return tuple((case.case_id, case.failed) for case in self.cases if case.failed)

    def to_json(self) -> str:
        return json.dumps(plain(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> EvaluationResult:
        """The record of a metrics.json. Raises InputError for another schema or a damaged record."""
        try:
            values = json.loads(text)
            version = values["schema_version"]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"metrics.json, schema_version: found {version}; allowed is {SCHEMA_VERSION}", Reason.CONFIG_INVALID
                )
            result: EvaluationResult = typed(EvaluationResult, values)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"metrics.json: {type(error).__name__}: {error}; allowed is a record that `imaging evaluate` wrote",
                Reason.CONFIG_INVALID,
            ) from error
        return result


def plain(value: Any) -> Any:
    """A record of records as what JSON can hold."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def typed(kind: Any, value: Any) -> Any:
    """A JSON value as the type that a record's field states."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{getattr(kind, '__name__', kind)} has no field {unknown}")
        return kind(**{name: typed(hints[name], v) for name, v in value.items()})  # type: ignore[operator]
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(typed(k, v) for k, v in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: typed(inner[1], v) for key, v in value.items()}
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _scalar([k for k in inner if k is not type(None)], value)
    return _scalar(inner if origin is Literal else [kind], value)


def _scalar(kinds: Any, value: Any) -> Any:
    if is_dataclass(kinds[0]):
        return typed(kinds[0], value)
    if value in kinds and not isinstance(kinds[0], type):
        return value
    for kind in kinds:
        if type(value) is kind or (kind is float and type(value) is int):
            return value
    raise ValueError(f"found {value!r}; allowed is {kinds}")
