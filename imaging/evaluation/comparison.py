"""Two models on the same cases: paired tests, and the correction for several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from imaging.errors import ConfigError, Reason
from imaging.evaluation.classification import delong
from imaging.evaluation.detection import Account
from imaging.evaluation.intervals import Bootstrap, Clusters
from imaging.evaluation.matching import Array, Floats
from imaging.evaluation.ranking import AveragePrecision, SensitivityAtRate, Statistic
from imaging.evaluation.result import DetectionCase
from imaging.evaluation.sites import in_order

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
    first, second = in_order(first), in_order(second)
    if [(c.site, c.case_id) for c in first] != [(c.site, c.case_id) for c in second]:
        raise ConfigError(
            f"comparison: found {len(first)} and {len(second)} cases that are not the same; both models must be scored "
            "on one manifest",
            Reason.CONFIG_INVALID,
        )
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
    drawn = _swapped_differences(list(statistics.values()), clusters, how or Bootstrap(10_000))
    method = "paired permutation of patients"
    return [
        PairedTest(name, float(values[0]), float(np.mean(np.abs(values) >= abs(values[0]) - 1e-12)), method)
        for name, values in zip(statistics, drawn, strict=True)
    ]


def _swapped_differences(statistics: Sequence[Statistic], clusters: Clusters, how: Bootstrap) -> Floats:
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
