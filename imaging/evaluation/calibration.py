"""Calibration: are the probabilities true, can they be made true, and what are decisions by them worth?

Probabilities are in 0-1 and truths are 0 or 1, both (n,). What is fitted (`Temperature`, `Isotonic`) is fitted on
training sites and applied elsewhere. A probability of exactly 0 or 1 has no logit; it is taken 1e-12 inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from imaging.errors import ConfigError, Reason
from imaging.evaluation.intervals import wilson
from imaging.evaluation.matching import Array, Bools, Floats
from imaging.evaluation.ranking import check_scores
from imaging.evaluation.result import Interval

_INSIDE = 1e-12
N_BINS = 10


def check_probabilities(name: str, truth: Array, probability: Array) -> tuple[Bools, Floats]:
    """Truth and probability, checked. Raises ConfigError for values outside 0-1."""
    truth, probability = check_scores(name, truth, probability)
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise ConfigError(
            f"{name}, probability: found {probability.min()} to {probability.max()}; allowed are 0 to 1",
            Reason.CONFIG_INVALID,
        )
    return truth, probability


def brier(truth: Array, probability: Array) -> float:
    """Mean squared difference of probability and truth (Brier, Mon Weather Rev 78:1, 1950)."""
    truth, probability = check_probabilities("Brier score", truth, probability)
    return float(np.mean((probability - truth) ** 2))


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """One bin: mean probability, share of positives with Wilson's interval, and how many cases."""

    predicted: float
    observed: float
    interval: Interval
    n: int


def reliability(truth: Array, probability: Array, n_bins: int = N_BINS) -> list[ReliabilityPoint]:
    """Points of the reliability curve over bins of equal width; bins without a case are left out."""
    truth, probability = check_probabilities("reliability", truth, probability)
    bins = _bins(probability, n_bins)
    points = []
    for number in np.unique(bins):
        inside = bins == number
        n, positive = int(inside.sum()), int(truth[inside].sum())
        interval = wilson(positive, n)
        assert interval is not None
        points.append(ReliabilityPoint(float(probability[inside].mean()), positive / n, interval, n))
    return points


class ExpectedError:
    """Expected calibration error as a statistic of case weights (Naeini, AAAI 2015): mean gap over bins."""

    def __init__(self, truth: Array, probability: Array, counted: Array) -> None:
        truth, probability = check_probabilities("ECE", truth, probability)
        part = np.asarray(counted, dtype=np.float64)
        member = (_bins(probability, N_BINS)[None, :] == np.arange(N_BINS)[:, None]) * part
        self._gap = member * (probability - truth)
        self._all = part

    def __call__(self, weights: Floats) -> Floats:
        n = self._all @ weights
        gaps = np.abs(self._gap @ weights).sum(axis=0)
        return np.asarray(np.divide(gaps, n, out=np.full(gaps.shape, np.nan), where=n > 0))


def expected_error(truth: Array, probability: Array, counted: Array | None = None) -> ExpectedError:
    """The statistic over the cases that are `counted` (all by default)."""
    return ExpectedError(truth, probability, np.ones(len(truth)) if counted is None else counted)


def _bins(probability: Floats, n_bins: int) -> Array:
    return np.minimum((probability * n_bins).astype(np.intp), n_bins - 1)


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Cox's line logit(truth) = intercept + slope · logit(probability), with standard errors.

    `in_the_large` is the intercept with the slope held at 1: 0 when as many are positive as was said.
    """

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float
    in_the_large: float


def recalibration(truth: Array, probability: Array) -> Recalibration | None:
    """Calibration slope and intercept (Cox, Biometrika 45:562, 1958).

    None where no finite line exists: one class only, one probability only, or classes that a threshold separates.
    """
    truth, probability = check_probabilities("calibration slope", truth, probability)
    x = _logit(probability)
    positive, negative = x[truth], x[~truth]
    if not (positive.size and negative.size) or np.ptp(x) == 0:
        return None
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return None
    fit, information = _logistic(np.stack([np.ones_like(x), x], axis=1), truth, np.zeros_like(x))
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    large, _ = _logistic(np.ones((x.size, 1)), truth, x)
    return Recalibration(float(fit[1]), float(fit[0]), float(errors[1]), float(errors[0]), float(large[0]))


def _logit(probability: Floats) -> Floats:
    return np.asarray(logit(np.clip(probability, _INSIDE, 1 - _INSIDE)))


def _logistic(design: Floats, truth: Bools, offset: Floats) -> tuple[Floats, Floats]:
    """Maximum likelihood by Newton's method with halved steps; coefficients and Fisher information."""

    def loss(beta: Floats) -> float:
        z = design @ beta + offset
        return float(np.logaddexp(0, np.where(truth, -z, z)).sum())

    beta = np.zeros(design.shape[1])
    for _ in range(100):
        chance = expit(design @ beta + offset)
        information = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.lstsq(information, design.T @ (truth - chance), rcond=None)[0]
        before = loss(beta)
        while loss(beta + step) > before + 1e-12 * abs(before) and np.abs(step).max() > 1e-12:
            step = step / 2
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    chance = expit(design @ beta + offset)
    return beta, np.asarray((design * (chance * (1 - chance))[:, None]).T @ design)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Logits divided by one number (Guo, ICML 2017). Ranks, and so AUROC, stay as they are."""

    temperature: float

    @staticmethod
    def fit(truth: Array, probability: Array) -> Temperature:
        """The temperature of least log loss. Raises ConfigError where that is not a finite number above 0."""
        truth, probability = check_probabilities("temperature", truth, probability)
        x = _logit(probability)
        inverse = float(_logistic(x[:, None], truth, np.zeros_like(x))[0][0]) if x.size else 0.0
        if not 1e-6 < inverse < 1e6:
            raise ConfigError(
                f"temperature: found a best factor of {inverse:g} on the logits of {x.size} cases; allowed is one "
                "above 0 and finite. The scores do not rise with the truth, or separate it without an error",
                Reason.CONFIG_INVALID,
            )
        return Temperature(1 / inverse)

    def apply(self, probability: Array) -> Floats:
        return np.asarray(expit(_logit(np.asarray(probability, dtype=np.float64)) / self.temperature))


@dataclass(frozen=True, slots=True)
class Isotonic:
    """The rising step curve of least squares, linear between its knots; ends are held (Zadrozny & Elkan, KDD 2002)."""

    knots: tuple[float, ...]
    values: tuple[float, ...]

    @staticmethod
    def fit(truth: Array, probability: Array) -> Isotonic:
        """Pool-adjacent-violators on the distinct probabilities. Raises ConfigError without a case."""
        truth, probability = check_probabilities("isotonic", truth, probability)
        if probability.size == 0:
            raise ConfigError("isotonic: found 0 cases; allowed are one or more", Reason.CONFIG_INVALID)
        knots, where, n = np.unique(probability, return_inverse=True, return_counts=True)
        blocks: list[tuple[float, float, int]] = []  # sum, weight, knots
        for total, weight in zip(np.bincount(where, truth), n, strict=True):
            block = (float(total), float(weight), 1)
            while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
                last = blocks.pop()
                block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
            blocks.append(block)
        values = np.repeat([b[0] / b[1] for b in blocks], [b[2] for b in blocks])
        return Isotonic(tuple(knots.tolist()), tuple(values.tolist()))

    def apply(self, probability: Array) -> Floats:
        return np.asarray(np.interp(np.asarray(probability, dtype=np.float64), self.knots, self.values))


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit per case at threshold probabilities (k,), of the model and of acting on everyone; no one: 0."""

    threshold: Floats
    model: Floats
    everyone: Floats


def decision_curve(truth: Array, probability: Array, threshold: Array) -> DecisionCurve:
    """Net benefit: true positives less false ones at the odds of the threshold (Vickers & Elkin, MDM 26:565, 2006).

    Thresholds are within 0 and 1, without 1.
    """
    truth, probability = check_probabilities("decision curve", truth, probability)
    at = np.asarray(threshold, dtype=np.float64)
    if truth.size == 0 or np.any(at < 0) or np.any(at >= 1):
        raise ConfigError(
            f"decision curve: found {truth.size} cases and thresholds {at.tolist()}; allowed are one case or more, "
            "and thresholds from 0 to below 1",
            Reason.CONFIG_INVALID,
        )
    called = probability[None, :] >= at[:, None]
    odds = at / (1 - at)
    share = truth.mean()
    model = (called & truth).mean(axis=1) - odds * (called & ~truth).mean(axis=1)
    return DecisionCurve(at, model, share - odds * (1 - share))
