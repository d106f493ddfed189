"""Classification figures: AUROC with DeLong's variance, sensitivity at a specificity, thresholds carried over sites.

Failure policy: a case without a prediction ranks below every other when it is positive and above every other when it
is negative, so it is wrong at every threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from imaging.errors import ConfigError, Reason
from imaging.evaluation.calibration import expected_error, recalibration
from imaging.evaluation.intervals import wilson
from imaging.evaluation.matching import Array, Floats
from imaging.evaluation.ranking import Auroc, Calls, Fixed, Mean, SensitivityAtRate, check_scores, roc_curve
from imaging.evaluation.result import ClassificationCase, Counts, Interval
from imaging.evaluation.sites import SiteMeasure, too_few


@dataclass(frozen=True, slots=True)
class ClassificationProtocol:
    """`specificities` at which sensitivity is given, each on the group's own cases."""

    specificities: tuple[float, ...] = (0.8, 0.9, 0.95)

    @property
    def words(self) -> dict[str, str | float | int]:
        """The protocol as the result states it."""
        return {
            "failed_case": "wrong at every threshold; Brier score 1",
            "calibration_bins": "ten of equal width",
            "specificities": ", ".join(f"{s:g}" for s in self.specificities),
        }

    @staticmethod
    def from_words(words: Mapping[str, str | float | int]) -> ClassificationProtocol:
        """The protocol that a result states."""
        return ClassificationProtocol(tuple(float(s) for s in str(words["specificities"]).split(", ")))


@dataclass(frozen=True, slots=True)
class Delong:
    """AUROCs (model,) with their covariance (model, model)."""

    auroc: Floats
    covariance: Floats

    def interval(self, level: float = 0.95) -> Interval | None:
        """The first model's interval on the logit scale, which stays within 0-1; None at 0 or 1."""
        value, variance = float(self.auroc[0]), float(self.covariance[0, 0])
        if not 0 < value < 1:
            return None
        reach = norm.ppf((1 + level) / 2) * math.sqrt(variance) / (value * (1 - value))
        low, high = expit(logit(value) - reach), expit(logit(value) + reach)
        return Interval(float(low), float(high), "DeLong, logit", level)


def delong(truth: Array, *scores: Array) -> Delong:
    """AUROCs of one or several models on the same independent cases (n,), with covariance.

    DeLong, DeLong & Clarke-Pearson, Biometrics 44:837 (1988), by mid-ranks. Needs two cases of each class.
    """
    won, beaten = [], []
    for score in scores:
        positive, value = check_scores("DeLong", truth, score)
        if min(positive.sum(), (~positive).sum()) < 2:
            raise ConfigError(
                f"DeLong, truth: found {int(positive.sum())} positives and {int((~positive).sum())} negatives; "
                "allowed are two or more of each",
                Reason.CONFIG_INVALID,
            )
        won.append(_share_below(np.sort(value[~positive]), value[positive]))
        beaten.append(1 - _share_below(np.sort(value[positive]), value[~positive]))
    above, below = np.array(won), np.array(beaten)
    covariance = np.atleast_2d(np.cov(above)) / above.shape[1] + np.atleast_2d(np.cov(below)) / below.shape[1]
    return Delong(above.mean(axis=1), covariance)


def _share_below(ranked: Floats, values: Floats) -> Floats:
    """Share of ranked values below each value, ties counting half."""
    both = np.searchsorted(ranked, values, side="left") + np.searchsorted(ranked, values, side="right")
    return np.asarray(both / (2 * ranked.size))


@dataclass(frozen=True, slots=True)
class Realised:
    """A threshold chosen on the other sites, and what it gives at this one; None where a class is missing."""

    site: str
    threshold: float
    sensitivity: float | None
    sensitivity_interval: Interval | None
    specificity: float | None
    specificity_interval: Interval | None
    n_positive: int
    n_negative: int
    n_failed: int


def choose_threshold(truth: Array, score: Array, specificity: float) -> float:
    """The lowest threshold (`score ≥ threshold` is positive) with at least this specificity.

    Infinite where no score allows it. Raises ConfigError without a negative case.
    """
    truth, score = check_scores("threshold", truth, score)
    if truth.all() or not 0 <= specificity <= 1:
        raise ConfigError(
            f"threshold: found {int((~truth).sum())} negatives for a specificity of {specificity}; "
            "allowed are one or more, and 0 to 1",
            Reason.CONFIG_INVALID,
        )
    thresholds, _, reached = roc_curve(truth, score)
    return float(thresholds[np.flatnonzero(reached >= specificity - 1e-12)[-1]])


def carry_threshold(cases: Sequence[ClassificationCase], specificity: float) -> list[Realised]:
    """Each site under a threshold chosen on all other sites, so that no site sees its own threshold chosen."""
    truth, score = _arrays(cases)
    sites = np.array([case.site for case in cases])
    found = []
    for site in sorted(set(sites.tolist())):
        here = sites == site
        if truth[~here].all():
            continue
        found.append(_realised(site, choose_threshold(truth[~here], score[~here], specificity), [
            case for case in cases if case.site == site
        ]))  # fmt: skip
    return found


def _realised(site: str, threshold: float, cases: Sequence[ClassificationCase]) -> Realised:
    truth, score = _arrays(cases)
    called = score >= threshold
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    hits, kept = int((called & truth).sum()), int((~called & ~truth).sum())
    return Realised(
        site,
        threshold,
        hits / n_positive if n_positive else None,
        wilson(hits, n_positive),
        kept / n_negative if n_negative else None,
        wilson(kept, n_negative),
        n_positive,
        n_negative,
        sum(bool(case.failed) for case in cases),
    )


def _line(truth: Array, probability: Floats, counts: Counts, independent: bool) -> list[SiteMeasure]:
    """Calibration slope and intercept of the cases with a prediction; Wald limits where each is another patient."""
    found = recalibration(truth, probability)
    if found is None:
        absent = too_few(truth) or "n/a (no finite line)"
        return [
            SiteMeasure(name, Fixed(0.0), counts, absent, ideal=ideal)
            for name, ideal in (("calibration_slope", 1.0), ("calibration_intercept", 0.0))
        ]
    return [
        SiteMeasure(
            name,
            Fixed(value),
            counts,
            interval=Interval(value - 1.959964 * error, value + 1.959964 * error, "Wald") if independent else None,
            ideal=ideal,
        )
        for name, value, error, ideal in (
            ("calibration_slope", found.slope, found.slope_error, 1.0),
            ("calibration_intercept", found.intercept, found.intercept_error, 0.0),
        )
    ]


def _arrays(cases: Sequence[ClassificationCase]) -> tuple[Array, Floats]:
    """Truth and scores, the failed cases at their worst."""
    score = [(-math.inf if c.truth else math.inf) if c.failed else c.score for c in cases]
    return np.array([c.truth for c in cases], dtype=np.bool_), np.array(score, dtype=np.float64)


def sensitivities(truth: Array, score: Array, specificities: Sequence[float]) -> list[SensitivityAtRate]:
    """The highest sensitivity with at least each specificity, on the cases themselves."""
    truth, score = check_scores("sensitivity", truth, score)
    ranks = np.unique(score, return_inverse=True)[1] + 1.0
    calls = Calls(np.arange(truth.size), truth, ranks)
    return [SensitivityAtRate(calls, ~truth, 1 - specificity) for specificity in specificities]


def measures(cases: Sequence[ClassificationCase], protocol: ClassificationProtocol) -> list[SiteMeasure]:
    """The figures of classification on these cases. Calibration counts cases with a prediction, Brier all."""
    truth, score = _arrays(cases)
    probability = np.array([(0.0 if c.truth else 1.0) if c.failed else c.score for c in cases], dtype=np.float64)
    scored = np.array([not c.failed for c in cases], dtype=np.bool_)
    failed = int((~scored).sum())
    counts = Counts(len(cases), len(cases) - failed, n_failed=failed)
    absent, empty = too_few(truth), "" if len(cases) else "n/a (0 cases)"
    classes = (int(truth.sum()), int((~truth).sum()))
    patients = len({(c.site, c.patient_id) for c in cases})
    return [
        SiteMeasure("auroc", Auroc(truth, score), counts, absent, "logit", classes=classes),
        *(
            SiteMeasure(f"sensitivity_at_specificity_{s:g}", sensitivity, counts, absent)
            for s, sensitivity in zip(
                protocol.specificities, sensitivities(truth, score, protocol.specificities), strict=True
            )
        ),
        SiteMeasure("brier", Mean((probability - truth) ** 2, np.ones(len(cases))), counts, empty, "identity", False,
                n_clusters=patients),
        *_line(truth[scored], probability[scored], counts, patients == len(cases)),
        SiteMeasure("expected_calibration_error", expected_error(truth, probability, scored), counts,
                empty if scored.any() else "n/a (0 predictions)", "identity", False, n_clusters=patients),
    ]  # fmt: skip
