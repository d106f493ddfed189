"""Endpoints of a benchmark: one figure of the outcomes of test cases, in which a failed case is the worst outcome.

Each endpoint is a row of `ENDPOINTS`: its name, which direction is better, and its statistic on the cases that it is
about. The statistic takes weights of cases, so that figure, interval and paired test are one code
(`imaging.evaluation.ranking`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imaging.benchmark.trials import CaseOutcome
from imaging.errors import ConfigError, Reason
from imaging.evaluation.matching import Array, Bools, Floats
from imaging.evaluation.ranking import Auroc, Fixed, Mean, Ratio, SensitivityAtRate, Statistic, figure
from imaging.evaluation.sites import too_few

_AT_RATE = re.compile(r"sensitivity_at_(\d+(?:\.\d+)?)_per_image")
Outcomes = Sequence[CaseOutcome]


@dataclass(frozen=True, eq=False)
class Scored:
    """An endpoint on some outcomes (case,): its statistic, which cases it is about, and why there is none, if so.

    `classes` are positives and negatives of a figure that is analysed on the logit scale.
    """

    statistic: Statistic
    about: Bools
    absent: str = ""
    classes: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One figure: `score` gives it for outcomes; `higher_is_better` says which way a gain goes."""

    name: str
    words: str
    higher_is_better: bool
    score: Callable[[Outcomes], Scored]

    def value(self, outcomes: Outcomes) -> float | None:
        """The figure on these outcomes; None where there is none."""
        scored = self.score(outcomes)
        return None if scored.absent else figure(scored.statistic, len(outcomes))

    def cost(self, outcome: CaseOutcome) -> float | None:
        """How bad one case is, 0 (right) to 1 (worst); None where the endpoint is not about it."""
        if not self.score([outcome]).about[0]:
            return None
        return _COSTS.get(self.name, _missed_share)(outcome)


def endpoint(name: str) -> Endpoint:
    """The endpoint of a name. Raises ConfigError with the names that there are."""
    at_rate = _AT_RATE.fullmatch(name)
    if at_rate:
        rate = float(at_rate[1])
        words = f"lesions found at {rate:g} false marks per image"
        return Endpoint(name, words, True, lambda outcomes: _at_rate(outcomes, rate))
    if name not in ENDPOINTS:
        allowed = [*ENDPOINTS, "sensitivity_at_<number>_per_image"]
        raise ConfigError(f"benchmark, endpoint: found '{name}'; allowed are {allowed}", Reason.CONFIG_INVALID)
    return ENDPOINTS[name]


def is_positive(outcome: CaseOutcome) -> bool:
    """Whether a case holds what is looked for: strata of resampling."""
    return outcome.lesions > 0 or bool(outcome.positive)


class OfRows:
    """A statistic of some rows, as one of the weights of all rows."""

    def __init__(self, rows: Array, statistic: Statistic) -> None:
        self._rows, self._statistic = rows, statistic

    def __call__(self, weights: Floats) -> Floats:
        return self._statistic(weights[self._rows])


def _flags(outcomes: Outcomes, holds: Callable[[CaseOutcome], bool]) -> Bools:
    return np.array([holds(outcome) for outcome in outcomes], dtype=np.bool_)


def _mean(outcomes: Outcomes, about: Bools, value: Callable[[CaseOutcome], float], noun: str) -> Scored:
    if not about.any():
        return Scored(Fixed(0.0), about, f"n/a (0 cases {noun})")
    values = [value(outcome) if counts else 0.0 for outcome, counts in zip(outcomes, about, strict=True)]
    return Scored(Mean(np.array(values), about), about)


def _known(outcome: CaseOutcome, field: str) -> float:
    """The value of a case that has an answer. Raises ConfigError where the answer lacks it."""
    value = getattr(outcome, field)
    if value is None:
        raise ConfigError(
            f"benchmark, case '{outcome.case_id}' of site '{outcome.site}', {field}: found none though the case did "
            "not fail; allowed is a value for all cases of an endpoint, or for no case",
            Reason.CONFIG_INVALID,
        )
    return float(value)


def _never(outcomes: Outcomes, about: Bools, field: str) -> bool:
    """Whether no case that an endpoint is about has the field: the task does not answer such a thing."""
    asked = [outcome for outcome, counts in zip(outcomes, about, strict=True) if counts and not outcome.failed]
    return bool(asked) and all(getattr(outcome, field) is None for outcome in asked)


def _dice(outcomes: Outcomes) -> Scored:
    about = _flags(outcomes, lambda case: case.lesions > 0)
    if _never(outcomes, about, "dice"):
        return Scored(Fixed(0.0), about, "n/a (nothing is outlined)")
    return _mean(outcomes, about, lambda case: 0.0 if case.failed else _known(case, "dice"), "with a lesion")


def _marked_on_empty(outcomes: Outcomes) -> Scored:
    about = _flags(outcomes, lambda case: case.lesions == 0)
    return _mean(outcomes, about, lambda case: float(bool(case.failed or case.marks)), "without a lesion")


def _found(outcome: CaseOutcome) -> int:
    """How many lesions are marked."""
    return 0 if outcome.failed else len({mark.lesion for mark in outcome.marks if mark.lesion is not None})


def _lesion_sensitivity(outcomes: Outcomes) -> Scored:
    about = _flags(outcomes, lambda case: case.lesions > 0)
    found, lesions = ([f(case) for case in outcomes] for f in (_found, lambda case: case.lesions))
    absent = "" if about.any() else "n/a (0 lesions)"
    return Scored(Ratio(np.array(found), np.array(lesions)), about, absent)


def _at_rate(outcomes: Outcomes, rate: float) -> Scored:
    """Lesions by their highest mark, everything else that was marked, and one false mark for a failed empty case."""
    lines: list[tuple[int, bool, float]] = []
    for row, case in enumerate(outcomes):
        best: dict[int, float] = {}
        for mark in () if case.failed else case.marks:
            if mark.lesion is None:
                lines.append((row, False, mark.score))
            else:
                best[mark.lesion] = max(mark.score, best.get(mark.lesion, 0.0))
        lines += [(row, True, score) for score in best.values()]
        lines += [(row, True, 0.0)] * (case.lesions - len(best))
        lines += [(row, False, math.inf)] * bool(case.failed and not case.lesions)
    about = np.ones(len(outcomes), dtype=np.bool_)
    if not any(true for _, true, _ in lines):
        return Scored(Fixed(0.0), about, "n/a (0 lesions)")
    rows, true, score = (np.array(column) for column in zip(*lines, strict=True))
    return Scored(SensitivityAtRate(rows, true, score, np.ones(len(outcomes)), rate), about)


def _auroc(outcomes: Outcomes) -> Scored:
    about = _flags(outcomes, lambda case: case.positive is not None)
    if _never(outcomes, about, "score"):
        return Scored(Fixed(0.0), about, "n/a (nothing is scored)")
    rows = np.flatnonzero(about)
    kept = [case for case in outcomes if case.positive is not None]
    truth = _flags(kept, lambda case: bool(case.positive))
    absent = too_few(truth)
    if absent:
        return Scored(Fixed(0.0), about, absent)
    worst = (math.inf, -math.inf)
    score = [worst[bool(case.positive)] if case.failed else _known(case, "score") for case in kept]
    classes = (int(truth.sum()), int((~truth).sum()))
    return Scored(OfRows(rows, Auroc(truth, np.array(score))), about, "", classes)


def _brier(outcomes: Outcomes) -> Scored:
    about = _flags(outcomes, lambda case: case.positive is not None)
    if _never(outcomes, about, "score"):
        return Scored(Fixed(0.0), about, "n/a (nothing is scored)")
    return _mean(outcomes, about, lambda case: _gap(case) ** 2, "with a truth")


def _gap(outcome: CaseOutcome) -> float:
    return 1.0 if outcome.failed else abs(_known(outcome, "score") - bool(outcome.positive))


def _recalled(outcomes: Outcomes, positive: bool) -> Scored:
    """Share of one class that the operating point chosen on the sources calls rightly."""
    about = _flags(outcomes, lambda case: case.positive is positive)
    if _never(outcomes, about, "recalled"):
        return Scored(Fixed(0.0), about, "n/a (no operating point)")
    noun = "that are positive" if positive else "that are negative"
    return _mean(outcomes, about, lambda case: 1 - _wrongly_called(case), noun)


def _wrongly_called(outcome: CaseOutcome) -> float:
    return 1.0 if outcome.failed else float(bool(_known(outcome, "recalled")) is not bool(outcome.positive))


def _missed_share(outcome: CaseOutcome) -> float:
    """Cost of a case for its lesions: the share missed; without a lesion whether anything is marked."""
    if outcome.failed:
        return 1.0
    return 1 - _found(outcome) / outcome.lesions if outcome.lesions else float(bool(outcome.marks))


_COSTS: dict[str, Callable[[CaseOutcome], float]] = {
    "dice": lambda case: 1.0 if case.failed else 1 - _known(case, "dice"),
    "auroc": _gap,
    "brier": lambda case: _gap(case) ** 2,
    "sensitivity": _wrongly_called,
    "specificity": _wrongly_called,
}
ENDPOINTS: dict[str, Endpoint] = {
    row.name: row
    for row in (
        Endpoint("dice", "overlap of lesions", True, _dice),
        Endpoint("marked_on_empty", "cases without a lesion on which something is marked", False, _marked_on_empty),
        Endpoint("lesion_sensitivity", "lesions found at the threshold of the sources", True, _lesion_sensitivity),
        Endpoint("auroc", "chance that a positive case scores above a negative one", True, _auroc),
        Endpoint("brier", "squared error of the probability", False, _brier),
        Endpoint("sensitivity", "positives called by the operating point of the sources", True,
                 lambda outcomes: _recalled(outcomes, True)),
        Endpoint("specificity", "negatives left by the operating point of the sources", True,
                 lambda outcomes: _recalled(outcomes, False)),
    )
}  # fmt: skip
