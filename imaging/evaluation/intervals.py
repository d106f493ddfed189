"""Intervals: a patient-clustered, stratified BCa bootstrap for any statistic, and Wilson's for a proportion.

Bootstrap: Efron, J Am Stat Assoc 82:171 (1987); acceleration over strata as in Davison & Hinkley, Bootstrap Methods
(1997), section 5.3. Whole patients are drawn, inside each site × label stratum, so that every resample has the
case mix of the data. A resample is a column of weights, not a copy of the cases. With few patients the plain bootstrap
is too narrow; its limits are widened from the normal to Student's t as Hesterberg, Am Stat 69:371 (2015) does.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from imaging.evaluation.matching import Array, Bools, Floats
from imaging.evaluation.ranking import Statistic, figure
from imaging.evaluation.result import Interval

_CHUNK = 512  # resamples at a time: weights of a thousand cases then stay in a processor's cache
_WEIGHTS = 1 << 21  # weights at a time, of many cases
# So many patients, or blocks of patients, are left out one by one: acceleration is then known to 0.41 / this number.
_MOST_LEFT_OUT = 1000
ENOUGH_CLUSTERS = 20
MEASURED_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn; the same seed gives the same limits. Not `widened` it is Efron's BCa as published."""

    n_resamples: int = 2000
    seed: int = 20240
    level: float = 0.95
    widened: bool = True


@dataclass(frozen=True, eq=False)
class Clusters:
    """Patients as the unit of drawing: `of_case` (case,) numbers them, `stratum` and `positive` are per patient."""

    of_case: NDArray[np.intp]
    stratum: NDArray[np.intp]
    positive: Bools

    @staticmethod
    def of(patients: Sequence[Hashable], sites: Sequence[str], positive: Array) -> Clusters:
        """Clusters of cases (case,): one per site and patient, positive when any of its cases is."""
        keys = {key: k for k, key in enumerate(sorted(set(zip(sites, patients, strict=True)), key=str))}
        of_case = np.array([keys[key] for key in zip(sites, patients, strict=True)], dtype=np.intp)
        any_positive = np.zeros(len(keys), dtype=np.bool_)
        np.logical_or.at(any_positive, of_case, np.asarray(positive, dtype=np.bool_))
        names = [(key[0], bool(any_positive[k])) for key, k in keys.items()]
        numbers = {name: k for k, name in enumerate(sorted(set(names)))}
        return Clusters(of_case, np.array([numbers[name] for name in names], dtype=np.intp), any_positive)

    @property
    def n_smaller_class(self) -> int:
        """Patients of the rarer class; of all, where there is one class only."""
        n_positive = int(self.positive.sum())
        return min(n_positive, self.positive.size - n_positive) or self.positive.size

    def drawn(self, rng: np.random.Generator, n_resamples: int) -> Floats:
        """How often each case is drawn, (case, resample)."""
        counts = np.zeros((self.stratum.size, n_resamples))
        for stratum in range(int(self.stratum.max(initial=-1)) + 1):
            members = np.flatnonzero(self.stratum == stratum)
            draws = rng.integers(members.size, size=(members.size, n_resamples))
            draws *= n_resamples
            draws += np.arange(n_resamples)
            counts[members] = np.bincount(draws.ravel(), minlength=members.size * n_resamples).reshape(members.size, -1)
        return self.spread(counts)

    def spread(self, counts: Floats) -> Floats:
        """Weights of clusters (cluster, resample) as weights of their cases (case, resample)."""
        one_each = self.of_case.size == self.stratum.size and np.array_equal(self.of_case, np.arange(self.of_case.size))
        return counts if one_each else counts[self.of_case]


def resample(statistics: Sequence[Statistic], clusters: Clusters, how: Bootstrap) -> Floats:
    """Values of each statistic on the same resamples, (statistic, resample)."""
    rng = np.random.default_rng(how.seed)
    out = np.empty((len(statistics), how.n_resamples))
    chunk = at_a_time(clusters)
    for start in range(0, how.n_resamples, chunk):
        stop = min(start + chunk, how.n_resamples)
        weights = clusters.drawn(rng, stop - start)
        for row, statistic in enumerate(statistics):
            out[row, start:stop] = statistic(weights)
    return out


@dataclass(frozen=True, slots=True)
class Drawn:
    """What resampling says of a figure; None where the resamples define no interval or do not vary."""

    interval: Interval | None
    variance: float | None


def bootstrap(
    statistics: Sequence[Statistic], clusters: Clusters, how: Bootstrap, behind: Sequence[int] | None = None
) -> list[Drawn]:
    """BCa interval and variance of each statistic, all from the same resamples.

    `behind` are the patients behind each statistic; by default those of the smaller class.
    """
    if clusters.of_case.size == 0 or not statistics:
        return [Drawn(None, None)] * len(statistics)
    resamples = resample(statistics, clusters, how)
    left_out, stratum = _leave_one_out(statistics, clusters)
    behind = [clusters.n_smaller_class] * len(statistics) if behind is None else behind
    drawn: list[Drawn] = []
    for statistic, values, without, few in zip(statistics, resamples, left_out, behind, strict=True):
        observed = figure(statistic, clusters.of_case.size)
        defined = values[np.isfinite(values)]
        if few < 2 or not math.isfinite(observed) or defined.size < 0.9 * values.size or np.ptp(defined) == 0:
            drawn.append(Drawn(None, None))
            continue
        reach = _reach(how.level, few if how.widened else None)
        low, high = _bca(observed, defined, acceleration(without, stratum), reach)
        method = f"BCa{', widened' if how.widened else ''}, patients drawn within site × label"
        if defined.size < values.size:
            method += f"; {values.size - defined.size} of {values.size} resamples undefined"
        measured = measured_coverage(few) if how.widened and how.level == MEASURED_LEVEL else None
        interval = Interval(low, high, method, how.level, few, measured)
        drawn.append(Drawn(interval, float(defined.var(ddof=1))))
    return drawn


def acceleration(without: Floats, stratum: NDArray[np.intp]) -> float:
    """BCa's acceleration from values without one cluster, or block of clusters, (block,) and the stratum of each."""
    cubes = squares = 0.0
    for number in np.unique(stratum):
        values = without[stratum == number]
        values = values[np.isfinite(values)]
        if values.size > 1:
            influence = (values.size - 1) * (values.mean() - values)
            cubes += float((influence**3).sum()) / values.size**3
            squares += float((influence**2).sum()) / values.size**2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _leave_one_out(statistics: Sequence[Statistic], clusters: Clusters) -> tuple[Floats, NDArray[np.intp]]:
    """Values of each statistic without each block of clusters, (statistic, block), and the stratum of each block.

    A block is one cluster until there are more than _MOST_LEFT_OUT; then time grows with the clusters, not with their
    square. The mean of a block of g has a g-th of the variance and a g²-th of the third moment, so that the sums of
    `acceleration` stay what they are.
    """
    block, stratum = blocks(clusters.stratum)
    out = np.empty((len(statistics), stratum.size))
    chunk = at_a_time(clusters)
    for start in range(0, stratum.size, chunk):
        stop = min(start + chunk, stratum.size)
        weights = (block[:, None] != np.arange(start, stop)).astype(np.float64)
        spread = clusters.spread(weights)
        for row, statistic in enumerate(statistics):
            out[row, start:stop] = statistic(spread)
    return out, stratum


def blocks(stratum: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The block of each cluster, each within one stratum, and the stratum of each block.

    Who is in a block is drawn, always alike; a stratum has at least ten blocks, where it has as many clusters.
    """
    if stratum.size <= _MOST_LEFT_OUT:
        return np.arange(stratum.size), stratum
    rng = np.random.default_rng(0)
    block = np.empty_like(stratum)
    of_block: list[np.intp] = []
    for number in np.unique(stratum):
        members = rng.permutation(np.flatnonzero(stratum == number))
        count = min(members.size, max(10, round(members.size * _MOST_LEFT_OUT / stratum.size)))
        block[members] = len(of_block) + np.arange(members.size) * count // members.size
        of_block += [number] * count
    return block, np.array(of_block, dtype=np.intp)


def at_a_time(clusters: Clusters) -> int:
    """How many columns of weights are made at a time."""
    return min(_CHUNK, max(16, _WEIGHTS // max(1, clusters.of_case.size)))


def _reach(level: float, n_clusters: int | None) -> float:
    """Standard errors to either side: normal, or Student's with the variance's bias of (n − 1)/n taken out."""
    tail = (1 + level) / 2
    if n_clusters is None:
        return float(norm.ppf(tail))
    return float(student.ppf(tail, n_clusters - 1)) * math.sqrt(n_clusters / (n_clusters - 1))


def _bca(observed: float, values: Floats, accelerate: float, reach: float) -> tuple[float, float]:
    below = (np.count_nonzero(values < observed) + np.count_nonzero(values <= observed)) / (2 * values.size)
    bias = norm.ppf(min(max(below, 0.5 / values.size), 1 - 0.5 / values.size))
    ends = np.array([-reach, reach])
    levels = norm.cdf(bias + (bias + ends) / (1 - accelerate * (bias + ends)))
    low, high = np.quantile(values, levels)
    return float(low), float(high)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval | None:
    """Score interval of a proportion (Wilson, J Am Stat Assoc 22:209, 1927); None for n = 0."""
    if n == 0:
        return None
    z = float(norm.ppf((1 + level) / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Interval(low, high, "Wilson", level)


def measured_coverage(n_clusters: int) -> float | None:
    """Share of widened 95 % BCa intervals that held the truth in simulations; None with enough patients.

    The nearest lower row of `COVERAGE` counts, so that the value never flatters.
    """
    if n_clusters >= ENOUGH_CLUSTERS:
        return None
    return next((share for least, share in reversed(COVERAGE) if n_clusters >= least), 0.0)


# Patients of the smaller class → lowest coverage of AUROC, average precision and a mean; from benchmarks/coverage.py.
COVERAGE: tuple[tuple[int, float], ...] = ((3, 0.754), (5, 0.902), (8, 0.925), (10, 0.933), (15, 0.932))
