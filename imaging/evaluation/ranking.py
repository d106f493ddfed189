"""Figures of ranked scores, for many weightings of the same cases at once.

A `Statistic` takes weights (case, resample), such as how often each case was drawn, and gives one value per resample.
A single column of ones gives the figure itself, so a figure and its interval are the same code. Where a weighting
leaves a figure undefined (no positive drawn) the value is NaN; only `intervals` sees it, and counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ConfigError, Reason
from imaging.evaluation.matching import Array, Bools, Floats, MatchedLesion

Ints = NDArray[np.intp]


class Statistic(Protocol):
    """One figure as a function of case weights (case, resample) → (resample,)."""

    def __call__(self, weights: Floats) -> Floats: ...


def figure(statistic: Statistic, n_cases: int) -> float:
    """The figure on the cases as they are."""
    return float(statistic(np.ones((n_cases, 1)))[0])


def check_scores(name: str, truth: Array, score: Array) -> tuple[Bools, Floats]:
    """Truth (n,) as booleans and scores (n,) as numbers. Raises ConfigError for other truths, NaN or two lengths."""
    truth, score = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if truth.shape != score.shape or truth.ndim != 1:
        raise ConfigError(
            f"{name}: found shapes {truth.shape} and {score.shape}; allowed is (n,) for both", Reason.CONFIG_INVALID
        )
    wrong = sorted(set(np.unique(truth).tolist()) - {0, 1})
    if wrong:
        raise ConfigError(f"{name}, truth: found {wrong[:3]}; allowed are 0 and 1", Reason.CONFIG_INVALID)
    if np.isnan(score).any():
        raise ConfigError(
            f"{name}, score: found {int(np.isnan(score).sum())} NaN; allowed are numbers; mark the case as failed",
            Reason.CONFIG_INVALID,
        )
    return truth.astype(np.bool_), score


class Auroc:
    """Area under the ROC: the chance that a positive case scores above a negative one, ties counting half."""

    def __init__(self, truth: Array, score: Array) -> None:
        truth, score = check_scores("AUROC", truth, score)
        negatives = np.flatnonzero(~truth)
        self._negatives: Ints = negatives[np.argsort(score[negatives], kind="stable")]
        positives = np.flatnonzero(truth)
        self._positives: Ints = positives[np.argsort(score[positives], kind="stable")]
        lower = score[self._negatives]
        self._below = np.searchsorted(lower, score[self._positives], side="left")
        self._not_above = np.searchsorted(lower, score[self._positives], side="right")

    def __call__(self, weights: Floats) -> Floats:
        running = _running(weights[self._negatives])
        positive = weights[self._positives]
        wins = running[self._below]
        if not np.array_equal(self._below, self._not_above):
            wins = (wins + running[self._not_above]) / 2
        return _ratio(np.einsum("ij,ij->j", positive, wins), positive.sum(axis=0) * running[-1])


class AveragePrecision:
    """Area under precision and recall of lesion candidates, as steps; precision is 0 at confidence 0.

    A missed lesion stands in the list with confidence 0 (it counts in recall's denominator only).
    """

    def __init__(self, case: Array, is_true: Array, confidence: Array) -> None:
        order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
        ranked = np.asarray(confidence, dtype=np.float64)[order]
        positive = ranked > 0
        self._missed: Ints = np.asarray(case, dtype=np.intp)[order][~positive & np.asarray(is_true, dtype=bool)[order]]
        self._case: Ints = np.asarray(case, dtype=np.intp)[order][positive]
        self._true = np.asarray(is_true, dtype=np.float64)[order][positive][:, None]
        ranked = ranked[positive]
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if ranked.size else np.zeros(0, np.intp)

    def __call__(self, weights: Floats) -> Floats:
        drawn = weights[self._case]
        found = drawn * self._true
        hits = np.cumsum(found, axis=0)[self._ends]
        all_ = np.cumsum(drawn, axis=0)[self._ends]
        steps = np.diff(hits, axis=0, prepend=0)
        precision = np.divide(hits, all_, out=np.zeros_like(hits), where=all_ > 0)
        return _ratio((steps * precision).sum(axis=0), found.sum(axis=0) + weights[self._missed].sum(axis=0))


class Ratio:
    """Sum of one value per case over the sum of another, such as lesions found over lesions."""

    def __init__(self, above: Array, below: Array) -> None:
        self._above, self._below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)

    def __call__(self, weights: Floats) -> Floats:
        return _ratio(self._above @ weights, self._below @ weights)


class Mean(Ratio):
    """Mean of one value per case; a case without a value (`counted` False) has no part."""

    def __init__(self, value: Array, counted: Array | None = None) -> None:
        value = np.asarray(value, dtype=np.float64)
        part = np.ones(value.shape, dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
        super().__init__(np.where(part, value, 0.0), part)


class Fixed:
    """A figure with a formula of its own, which resampling does not change."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, weights: Floats) -> Floats:
        return np.full(weights.shape[1], self._value)


class Average:
    """Mean of several statistics, such as the PI-CAI score of AP and AUROC."""

    def __init__(self, *parts: Statistic) -> None:
        self._parts = parts

    def __call__(self, weights: Floats) -> Floats:
        return np.asarray(sum(part(weights) for part in self._parts) / len(self._parts))


class Calls:
    """True and false calls at every threshold above 0, for many weightings of the cases.

    The last weighting is kept with its calls, because figures at several rates ask for the same one after another.
    """

    def __init__(self, case: Array, is_true: Array, confidence: Array) -> None:
        order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
        ranked = np.asarray(confidence, dtype=np.float64)[order]
        positive = ranked > 0
        where, true = np.asarray(case, dtype=np.intp)[order], np.asarray(is_true, dtype=bool)[order]
        self._missed: Ints = where[~positive & true]
        self._case: Ints = where[positive]
        self._true = true[positive].astype(np.float64)[:, None]
        ranked = ranked[positive]
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if ranked.size else np.zeros(0, np.intp)
        self._last: tuple[Floats, tuple[Floats, Floats, Floats]] | None = None

    def __call__(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Lesions found and false calls, (threshold, resample) each, and the lesions there are, (resample,)."""
        if self._last is None or self._last[0] is not weights:
            self._last = weights, self._counted(weights)
        return self._last[1]

    def _counted(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        drawn = weights[self._case]
        found = drawn * self._true
        lesions = found.sum(axis=0) + weights[self._missed].sum(axis=0)
        hits = np.cumsum(found, axis=0)[self._ends]
        drawn -= found
        return hits, np.cumsum(drawn, axis=0)[self._ends], lesions


class SensitivityAtRate:
    """Share of lesions found at the lowest threshold with at most `rate` false positives per image."""

    def __init__(self, calls: Calls, images: Array, rate: float) -> None:
        self._calls = calls
        self._images = np.asarray(images, dtype=np.float64)
        self._rate = rate

    def __call__(self, weights: Floats) -> Floats:
        hits, false, lesions = self._calls(weights)
        allowed = false <= self._rate * (self._images @ weights) * (1 + 1e-12)
        return _ratio(np.where(allowed, hits, 0.0).max(axis=0, initial=0.0), lesions)


@dataclass(frozen=True, eq=False)
class FrocCurve:
    """Operating points from the strictest down: threshold (k,), lesions found (k,), false positives (k,)."""

    threshold: Floats
    found: Floats
    false_positives: Floats
    n_lesions: int
    n_images: int

    @property
    def sensitivity(self) -> Floats | None:
        """Share of lesions found (k,); None without a lesion."""
        return self.found / self.n_lesions if self.n_lesions else None

    @property
    def false_positives_per_image(self) -> Floats:
        return self.false_positives / self.n_images


def froc_curve(lesions: Sequence[MatchedLesion], n_images: int) -> FrocCurve:
    """Every operating point of a list of lesions and false positives; a missed lesion (confidence 0) is none."""
    confidence = np.array([x.confidence for x in lesions], dtype=np.float64)
    true = np.array([x.is_true for x in lesions], dtype=np.bool_)
    threshold = np.unique(confidence[confidence > 0])[::-1]
    found = np.searchsorted(np.sort(-confidence[true]), -threshold, side="right").astype(np.float64)
    false = np.searchsorted(np.sort(-confidence[~true]), -threshold, side="right").astype(np.float64)
    return FrocCurve(threshold, found, false, int(true.sum()), n_images)


def roc_curve(truth: Array, score: Array) -> tuple[Floats, Floats, Floats]:
    """Thresholds (k,) falling from infinity, sensitivity (k,) and specificity (k,); `score ≥ threshold` is positive.

    A class without a case has sensitivity 0 or specificity 1 throughout.
    """
    truth, score = check_scores("ROC", truth, score)
    threshold = np.append(np.inf, np.unique(score)[::-1])
    positive, negative = np.sort(-score[truth]), np.sort(-score[~truth])
    sensitivity = np.searchsorted(positive, -threshold, side="right") / max(positive.size, 1)
    false = np.searchsorted(negative, -threshold, side="right") / max(negative.size, 1)
    return threshold, np.asarray(sensitivity), np.asarray(1 - false)


def _running(values: Floats) -> Floats:
    """Cumulative sums down the rows, with a row of zeros first."""
    out = np.zeros((values.shape[0] + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=out[1:])
    return out


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0))
