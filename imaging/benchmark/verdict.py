"""Is an arm better than the reference at hospitals that neither has seen? Paired differences over the same patients.

Two things vary: which patients a site happens to have, and how a training happens to end. A test of patients alone
holds for these networks and for no others, and calls equal arms different. So the variance of a difference is that of
patients (drawn within site × label, the difference averaged over networks inside each patient) plus that of trainings
(the spread between seeds of each arm and site, less what of it is due to patients). Sites count alike and are not
drawn: a verdict is about these sites. Limits are Student's with Satterthwaite's degrees of freedom (Biometrics Bull
2:110, 1946).

Beside it whole patients swap the two arms' outcomes (a permutation test for these networks). An arm's p is the larger
of both; Holm corrects it over the arms. An arm is a gain where that p is below 0.05, the interval of the difference
lies above the smallest gain that matters, every planned training is there, and each arm has more than one seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import t as student

from imaging.benchmark.endpoints import Endpoint, OfRows, Scored, is_positive
from imaging.benchmark.panels import Panel, Run, absent_of, same_cases
from imaging.evaluation.comparison import holm, swapped_differences
from imaging.evaluation.intervals import Bootstrap, Clusters, resample
from imaging.evaluation.matching import Array, Floats
from imaging.evaluation.ranking import Statistic, figure
from imaging.evaluation.result import Interval

CALLED_BELOW = 0.05  # p after Holm
Call = Literal["gain", "loss", "no difference shown", "not decided", "not counted"]


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """One arm less the reference on one endpoint, over the patients that both were tested on.

    `alike` is whether both were tested on the same sites and cases; if not, the difference is that of those which they
    have in common. `first` and `second` are the macro means over sites. `variance_patients` and `variance_trainings`
    add up to the square of the standard error, which has `df` degrees of freedom. `p_patients` is the permutation of
    patients, `p_total` that of the standard error, `p` the larger. `call` is about gain, whichever way the endpoint
    counts, and `why` gives its reason. Values are None where there are none, as `why` says.
    """

    arm: str
    reference: str
    endpoint: str
    sites: tuple[str, ...]
    n_cases: int
    n_patients: int
    n_runs: tuple[int, int]
    n_lost: tuple[int, int]
    alike: bool = True
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    variance_patients: float | None = None
    variance_trainings: float | None = None
    df: float | None = None
    p_patients: float | None = None
    p_total: float | None = None
    p: float | None = None
    p_holm: float | None = None
    call: Call = "not decided"
    why: str = ""


def verdicts(
    arms: Mapping[str, Panel], reference: str, endpoint: Endpoint, how: Bootstrap, margin: float = 0.0
) -> tuple[ArmDifference, ...]:
    """Every other arm against the reference, Holm over these arms."""
    others = [name for name in arms if name != reference]
    found = [compare_arms((name, arms[name]), (reference, arms[reference]), endpoint, how) for name in others]
    return tuple(called(each, endpoint, margin) for each in corrected(found))


def corrected(found: Sequence[ArmDifference]) -> list[ArmDifference]:
    """Differences with Holm's correction over all of them that have a p."""
    adjusted = iter(holm([each.p for each in found if each.p is not None]))
    return [each if each.p is None else replace(each, p_holm=next(adjusted)) for each in found]


def called(found: ArmDifference, endpoint: Endpoint, margin: float = 0.0) -> ArmDifference:
    """The difference with what may be said of it."""
    if found.difference is None:
        return found
    call, why = _call(found, endpoint, margin)
    return replace(found, call=call, why=why)


def _call(found: ArmDifference, endpoint: Endpoint, margin: float) -> tuple[Call, str]:
    hindered = _hindered(found)
    if hindered:
        return "not decided", hindered
    if found.p_holm is not None and found.p_holm >= CALLED_BELOW:
        return "no difference shown", f"p after Holm is not below {CALLED_BELOW}"
    assert found.interval is not None
    sign = 1.0 if endpoint.higher_is_better else -1.0
    low, high = sorted((sign * found.interval.low, sign * found.interval.high))
    if low > margin:
        return "gain", ""
    if high < 0:
        return "loss", ""
    reaches = "the interval holds 0" if low <= 0 else f"the interval reaches below the margin of {margin:g}"
    return "no difference shown", reaches


def _hindered(found: ArmDifference) -> str:
    """What forbids a verdict, whatever the difference; empty where nothing does."""
    if sum(found.n_lost):
        return f"{sum(found.n_lost)} trainings are lost"
    if not found.alike:
        return "the arms were not tested on the same sites and cases"
    if found.p_holm is None:
        return found.why or "no p"
    return "no interval" if found.interval is None and found.p_holm < CALLED_BELOW else ""


@dataclass(frozen=True, eq=False)
class _Layout:
    """Two arms as columns: the statistic of each run over all cases, its share of the difference, and its cell."""

    statistics: list[Statistic]
    share: Floats
    cell: Array
    sites: tuple[str, ...]
    site_of_case: Array
    scored: list[Scored]


def compare_arms(
    first: tuple[str, Panel], second: tuple[str, Panel], endpoint: Endpoint, how: Bootstrap, permuted: bool = True
) -> ArmDifference:
    """First less second, as a macro mean over the sites that both have; not yet corrected and not called.

    Not `permuted`, it has no test over patients. Sites where neither arm has a figure, such as one without a positive
    case, have no part in it.
    """
    (arm, mine), (reference, theirs) = first, second
    n_lost = (mine.n_lost, theirs.n_lost)
    nowhere = _absent_everywhere(mine, endpoint) or _absent_everywhere(theirs, endpoint)
    mine, theirs = mine.about(endpoint), theirs.about(endpoint)
    asked = (mine.n_cases, theirs.n_cases)
    mine, theirs = same_cases(mine, theirs)
    cases = [case for site in sorted(mine.runs) for case in mine.runs[site][0].outcomes]
    layout = _layout(mine, theirs, endpoint)
    patients = len({(case.site, case.patient_id) for case in cases})
    n_runs = (_least_runs(mine), _least_runs(theirs))
    alike = asked == (len(cases), len(cases))
    bare = ArmDifference(arm, reference, endpoint.name, layout.sites, len(cases), patients, n_runs, n_lost, alike)
    absent = nowhere or absent_of(layout.scored) or ("" if cases else "n/a (no case in common)")
    if absent:
        return replace(bare, why=absent)
    positive = np.array([is_positive(case) for case in cases])
    clusters = Clusters.of([case.patient_id for case in cases], [case.site for case in cases], positive)
    values = np.array([figure(statistic, len(cases)) for statistic in layout.statistics])
    gains = layout.share > 0
    pair = replace(
        bare,
        first=float(layout.share[gains] @ values[gains]),
        second=float(-layout.share[~gains] @ values[~gains]),
        difference=float(layout.share @ values),
        p_patients=_permutation(mine, theirs, endpoint, clusters, how) if permuted else None,
    )
    return _with_spread(pair, values, layout, clusters, how)


def _absent_everywhere(panel: Panel, endpoint: Endpoint) -> str:
    """Why an endpoint has no figure at any site, as the first site says it; empty where it has one somewhere."""
    found = [endpoint.score(runs[0].outcomes).absent for _, runs in sorted(panel.runs.items())]
    return found[0] if found and all(found) else ""


def _least_runs(panel: Panel) -> int:
    return min((len(runs) for runs in panel.runs.values()), default=0)


def _layout(mine: Panel, theirs: Panel, endpoint: Endpoint) -> _Layout:
    statistics: list[Statistic] = []
    share, cell, scored = [], [], []
    start, sites = 0, sorted(mine.runs)
    for k, site in enumerate(sites):
        rows = np.arange(start, start + len(mine.runs[site][0].outcomes))
        start += rows.size
        for side, (panel, sign) in enumerate(((mine, 1.0), (theirs, -1.0))):
            for run in panel.runs[site]:
                scored.append(endpoint.score(run.outcomes))
                statistics.append(OfRows(rows, scored[-1].statistic))
                share.append(sign / (len(sites) * len(panel.runs[site])))
                cell.append(2 * k + side)
    site_of_case = np.repeat(np.arange(len(sites)), [len(mine.runs[site][0].outcomes) for site in sites])
    return _Layout(statistics, np.array(share), np.array(cell, dtype=np.intp), tuple(sites), site_of_case, scored)


def _with_spread(
    pair: ArmDifference, values: Floats, layout: _Layout, clusters: Clusters, how: Bootstrap
) -> ArmDifference:
    """The difference with its variances, interval and p."""
    assert pair.difference is not None
    n_free = pair.n_patients - int(clusters.stratum.max()) - 1
    if n_free < 1 or np.bincount(np.unique(np.stack([layout.site_of_case, clusters.of_case]), axis=1)[0]).min() < 2:
        return replace(pair, why="n/a (a site has one patient)")
    drawn = resample(layout.statistics, clusters, how)
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if drawn.shape[1] < 0.9 * how.n_resamples:
        return replace(pair, why="n/a (resamples without a figure)")
    together = np.cov(drawn) * pair.n_patients / n_free  # a bootstrap's variance is too small by (n − 1) / n
    of_patients = float(layout.share @ together @ layout.share)
    if min(pair.n_runs) < 2:
        why = "one seed: how trainings vary is not known"
        return replace(pair, variance_patients=of_patients, why=why)
    of_trainings, wobble = _between_trainings(values, together, layout)
    total = of_patients + of_trainings
    if total <= 0:
        p = 1.0 if pair.difference == 0 else None
        return replace(pair, variance_patients=0.0, variance_trainings=0.0, p=p, p_total=p, why="nothing varies")
    df = total**2 / (of_patients**2 / n_free + wobble)
    error = math.sqrt(total)
    p_total = float(2 * student.sf(abs(pair.difference) / error, df))
    half = float(student.ppf((1 + how.level) / 2, df)) * error
    method = "Student's t; patients drawn within site × label, trainings by the spread between seeds"
    return replace(
        pair,
        interval=Interval(pair.difference - half, pair.difference + half, method, how.level, pair.n_patients),
        variance_patients=of_patients,
        variance_trainings=of_trainings,
        df=df,
        p_total=p_total,
        p=max(p_total, pair.p_patients or 0.0),
    )


def _between_trainings(values: Floats, together: Floats, layout: _Layout) -> tuple[float, float]:
    """Variance of the difference due to trainings, and the denominator that it adds to the degrees of freedom.

    In each cell of arm and site the spread between runs holds also what patients and networks have together, which
    the variance of patients has counted: mean variance less mean covariance of its runs over resamples.
    """
    spread = counted = wobble = 0.0
    for number in np.unique(layout.cell):
        runs = np.flatnonzero(layout.cell == number)
        n, weight = runs.size, float((layout.share[runs] ** 2).sum())
        square = float(values[runs].var(ddof=1))
        inside = together[np.ix_(runs, runs)]
        diagonal = float(np.trace(inside))
        spread += weight * square
        counted += weight * (diagonal / n - (float(inside.sum()) - diagonal) / (n * (n - 1)))
        wobble += (weight * square) ** 2 / (n - 1)
    return max(spread - counted, 0.0), wobble


def _permutation(mine: Panel, theirs: Panel, endpoint: Endpoint, clusters: Clusters, how: Bootstrap) -> float:
    """p of the permutation: each patient's outcomes under all networks of both arms swap together."""
    statistic = _BothArms(mine, theirs, endpoint, clusters.of_case.size)
    values = swapped_differences([statistic], clusters, how)[0]
    return float(np.mean(np.abs(values) >= abs(values[0]) - 1e-12))


class _BothArms:
    """The macro mean over sites and runs of cases (2 × case): the first arm's outcomes, then the second's."""

    def __init__(self, mine: Panel, theirs: Panel, endpoint: Endpoint, n_cases: int) -> None:
        self._parts: list[tuple[float, Array, Statistic]] = []
        start, sites = 0, sorted(mine.runs)
        for site in sites:
            pairs = _pairs(mine.runs[site], theirs.runs[site])
            size = len(mine.runs[site][0].outcomes)
            rows = np.concatenate([np.arange(start, start + size), np.arange(start, start + size) + n_cases])
            for one, other in pairs:
                scored = endpoint.score([*one.outcomes, *other.outcomes])
                self._parts.append((1 / (len(sites) * len(pairs)), rows, scored.statistic))
            start += size

    def __call__(self, weights: Floats) -> Floats:
        return np.asarray(sum(share * statistic(weights[rows]) for share, rows, statistic in self._parts))


def _pairs(mine: Sequence[Run], theirs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Each run beside one of the other arm; the shorter list is gone through again."""
    n = max(len(mine), len(theirs))
    return [(mine[k % len(mine)], theirs[k % len(theirs)]) for k in range(n)]
