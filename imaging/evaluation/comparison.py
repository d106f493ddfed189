"""Two models on the same cases: paired tests, and the correction for several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from imaging.errors import ConfigError, Reason
from imaging.evaluation.classification import delong
from imaging.evaluation.detection import Account
from imaging.evaluation.intervals import Bootstrap, Clusters, bootstrap
from imaging.evaluation.matching import Array, Floats
from imaging.evaluation.ranking import AveragePrecision, Fixed, SensitivityAtRate, Statistic, figure
from imaging.evaluation.result import ClassificationCase, DetectionCase, Difference, Interval
from imaging.evaluation.sites import CaseT, SiteMeasure, SitePlan, in_order

_CHUNK = 512


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Difference first − second with its two-sided p; `statistic` is z where the test has one."""

    name: str
    difference: float
    p: float
    method: str
    statistic: float | None = None


def compare_auroc(truth: Array, first: Array, second: Array) -> PairedTest:
    """DeLong's paired test on independent cases (n,). Two equal rankings differ by 0 with p = 1."""
    both = delong(truth, first, second)
    difference = float(both.auroc[0] - both.auroc[1])
    variance = float(both.covariance[0, 0] + both.covariance[1, 1] - 2 * both.covariance[0, 1])
    if variance <= 1e-15:
        return PairedTest("auroc", difference, 1.0 if abs(difference) < 1e-12 else 0.0, "DeLong, paired")
    z = difference / math.sqrt(variance)
    return PairedTest("auroc", difference, float(2 * norm.sf(abs(z))), "DeLong, paired", z)


def compare_detection(
    first: Sequence[DetectionCase],
    second: Sequence[DetectionCase],
    rates: Sequence[float] = (0.5, 1.0, 2.0),
    how: Bootstrap | None = None,
) -> list[PairedTest]:
    """Paired permutation over patients of average precision and of sensitivity at false positives per image.

    Under the null hypothesis a patient's two accounts can be swapped. Both hold the same cases. The p counts the data
    themselves as one permutation, so it is never 0 (Phipson & Smyth, SAGMB 9:39, 2010).
    """
    first, second = _same_cases(first, second)
    a, b = Account.of(first), Account.of(second)
    n = len(first)
    lines = (
        np.concatenate([a.case, b.case + n]),
        np.concatenate([a.is_true, b.is_true]),
        np.concatenate([a.confidence, b.confidence]),
    )
    images = np.concatenate([a.n_images, b.n_images])
    statistics: dict[str, Statistic] = {"average_precision": AveragePrecision(*lines)}
    statistics |= {f"sensitivity_at_{rate:g}_per_image": SensitivityAtRate(*lines, images, rate) for rate in rates}
    clusters = Clusters.of([c.patient_id for c in first], [c.site for c in first], a.truth)
    drawn = swapped_differences(list(statistics.values()), clusters, how or Bootstrap(10_000))
    method = "paired permutation of patients"
    return [
        PairedTest(name, float(values[0]), float(np.mean(np.abs(values) >= abs(values[0]) - 1e-12)), method)
        for name, values in zip(statistics, drawn, strict=True)
    ]


def compare_measures(
    first: Sequence[CaseT], second: Sequence[CaseT], plan: SitePlan[CaseT], endpoints: Sequence[str]
) -> tuple[Difference, ...]:
    """Paired differences of the endpoints, with Holm's correction over those that have a p.

    Intervals are those of the patient-clustered bootstrap. The p of an AUROC is DeLong's where each case is another
    patient; every other one swaps the two models' answers of whole patients, as often as the plan resamples.
    """
    first, second = _same_cases(first, second)
    positive = np.array([plan.positive(case) for case in first])
    clusters = Clusters.of([c.patient_id for c in first], [c.site for c in first], positive)
    kept = [_Pair(*three) for three in zip(*(plan.measures(c) for c in (first, second, [*first, *second])), strict=True)
            if three[0].name in endpoints]  # fmt: skip
    tested = [pair for pair in kept if not pair.absent]
    drawn = bootstrap([pair for pair in tested], clusters, plan.how, [pair.behind(clusters) for pair in tested])
    swapped = swapped_differences([pair.both.statistic for pair in tested], clusters, plan.how)
    delong_p = _delong_p(first, second) if clusters.stratum.size == len(first) else None
    found = {
        pair.name: pair.told(len(first), with_interval.interval, values, delong_p)
        for pair, with_interval, values in zip(tested, drawn, swapped, strict=True)
    }
    corrected = dict(zip(found, holm([d.p for d in found.values() if d.p is not None]), strict=True))
    return tuple(
        replace(found[pair.name], p_holm=corrected[pair.name])
        if pair.name in found
        else Difference(pair.name, None, None, None, absent=pair.absent)
        for pair in kept
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """One measure of the first model, of the second, and of both models' cases in one list."""

    first: SiteMeasure
    second: SiteMeasure
    both: SiteMeasure

    def __call__(self, weights: Floats) -> Floats:
        return np.asarray(self.first.statistic(weights) - self.second.statistic(weights))

    @property
    def name(self) -> str:
        return self.first.name

    @property
    def absent(self) -> str:
        if isinstance(self.first.statistic, Fixed) or isinstance(self.second.statistic, Fixed):
            return "n/a (no paired test)"
        return self.first.absent or self.second.absent

    def behind(self, clusters: Clusters) -> int:
        """Patients behind the difference, by default those of the smaller class."""
        return clusters.n_smaller_class if self.first.n_clusters is None else self.first.n_clusters

    def told(self, n_cases: int, interval: Interval | None, swapped: Floats, delong_p: float | None) -> Difference:
        values = figure(self.first.statistic, n_cases), figure(self.second.statistic, n_cases)
        difference = values[0] - values[1]
        p, method = float(np.mean(np.abs(swapped) >= abs(swapped[0]) - 1e-12)), "paired permutation of patients"
        if self.name == "auroc" and delong_p is not None:
            p, method = delong_p, "DeLong, paired"
        return Difference(self.name, *values, difference, interval, p, None, method, self.first.higher_is_better)


def _delong_p(first: Sequence[object], second: Sequence[object]) -> float | None:
    """DeLong's p of two lists of cases; None where its variance is 0 though the areas differ, or for other cases."""
    scores = []
    for cases in (first, second):
        if not all(isinstance(case, ClassificationCase | DetectionCase) for case in cases):
            return None
        scores.append([(-math.inf if c.truth else math.inf) if c.failed else c.score for c in cases])  # type: ignore[attr-defined]
    truth = np.array([c.truth for c in first])  # type: ignore[attr-defined]
    if min(truth.sum(), (~truth).sum()) < 2:
        return None
    test = compare_auroc(truth, np.array(scores[0]), np.array(scores[1]))
    return None if test.statistic is None and test.p < 1 else test.p


def _same_cases(first: Sequence[CaseT], second: Sequence[CaseT]) -> tuple[list[CaseT], list[CaseT]]:
    """Both lists in one order. Raises ConfigError when they do not hold the same cases."""
    a, b = in_order(first), in_order(second)
    if [(c.site, c.case_id) for c in a] != [(c.site, c.case_id) for c in b]:
        raise ConfigError(
            f"comparison: found {len(a)} and {len(b)} cases that are not the same; both models must be scored "
            "on one manifest",
            Reason.CONFIG_INVALID,
        )
    return a, b


def swapped_differences(statistics: Sequence[Statistic], clusters: Clusters, how: Bootstrap) -> Floats:
    """Differences (statistic, 1 + permutation) of the two halves of the cases; the first is as the data are."""
    rng = np.random.default_rng(how.seed)
    total = how.n_resamples + 1
    out = np.empty((len(statistics), total))
    for start in range(0, total, _CHUNK):
        stop = min(start + _CHUNK, total)
        swapped = rng.integers(2, size=(clusters.stratum.size, stop - start)).astype(np.float64)
        if start == 0:
            swapped[:, 0] = 0
        weights = clusters.spread(swapped)
        for row, statistic in enumerate(statistics):
            as_first, as_second = (np.concatenate([1 - weights, weights]), np.concatenate([weights, 1 - weights]))
            out[row, start:stop] = statistic(as_first) - statistic(as_second)
    return out


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of several endpoints, in their order (Holm, Scand J Stat 6:65, 1979)."""
    values = np.asarray(p, dtype=np.float64)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ConfigError(f"Holm: found p values {values.tolist()}; allowed are 0 to 1", Reason.CONFIG_INVALID)
    order = np.argsort(values, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1)), 1.0)
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return [float(v) for v in out]
