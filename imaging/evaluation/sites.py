"""From cases to the record: pooled, each site, macro over sites, worst site, spread between sites, subgroups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from imaging.evaluation.heterogeneity import on_logit, random_effects
from imaging.evaluation.intervals import Bootstrap, Clusters, Drawn, bootstrap
from imaging.evaluation.matching import Array
from imaging.evaluation.ranking import Statistic, figure
from imaging.evaluation.result import (
    SUPPRESSED_BELOW,
    Counts,
    Effect,
    Extreme,
    Figure,
    Heterogeneity,
    Interval,
    Subgroup,
)

LEAST_PER_CLASS = 3
LEAST_SITES = 3


class ScoredCase(Protocol):
    """What every task's case has."""

    @property
    def case_id(self) -> str: ...
    @property
    def patient_id(self) -> str: ...
    @property
    def site(self) -> str: ...
    @property
    def subgroups(self) -> tuple[tuple[str, str], ...]: ...


CaseT = TypeVar("CaseT", bound=ScoredCase)


@dataclass(frozen=True, eq=False)
class SiteMeasure:
    """One figure to be: its statistic over the cases and the counts behind it.

    `absent` says why there is none, such as `n/a (2 positives)`. `interval` is given where a formula has one;
    otherwise patients are resampled. `classes` are the positives and negatives behind a figure on the logit scale;
    `n_clusters` are the patients behind it, by default those of the smaller class.
    """

    name: str
    statistic: Statistic
    counts: Counts
    absent: str = ""
    scale: Literal["identity", "logit"] = "identity"
    higher_is_better: bool = True
    interval: Interval | None = None
    classes: tuple[int, int] = (0, 0)
    n_clusters: int | None = None
    ideal: float | None = None


@dataclass(frozen=True, eq=False)
class SitePlan(Generic[CaseT]):
    """How a task is summarised: its measures, which cases are positive (for strata), and the bootstrap."""

    measures: Callable[[Sequence[CaseT]], list[SiteMeasure]]
    positive: Callable[[CaseT], bool]
    how: Bootstrap


@dataclass(frozen=True)
class Summary:
    """The figures of one evaluation; cases of unequal sites are never ranked, their worst is named."""

    pooled: Subgroup
    sites: tuple[Subgroup, ...]
    macro: tuple[Extreme, ...]
    heterogeneity: tuple[Heterogeneity, ...]
    subgroups: dict[str, tuple[Subgroup, ...]]


def too_few(truth: Array) -> str:
    """Why a figure of two classes is not given, or an empty text: each class needs three cases."""
    n_positive = int(np.count_nonzero(truth))
    n_negative = int(np.size(truth)) - n_positive
    if n_positive < LEAST_PER_CLASS:
        return f"n/a ({n_positive} positives)"
    return f"n/a ({n_negative} negatives)" if n_negative < LEAST_PER_CLASS else ""


def in_order(cases: Sequence[CaseT]) -> list[CaseT]:
    """Cases by site, patient and name, so that figures do not depend on the order of files."""
    return sorted(cases, key=lambda case: (case.site, case.patient_id, case.case_id))


def summarise(cases: Sequence[CaseT], plan: SitePlan[CaseT]) -> Summary:
    """Every group of figures of these cases."""
    cases = in_order(cases)
    by_site: dict[str, list[CaseT]] = defaultdict(list)
    for case in cases:
        by_site[case.site].append(case)
    sites = tuple(group_of(site, members, plan) for site, members in sorted(by_site.items()))
    return Summary(
        pooled=group_of("pooled", cases, plan),
        sites=sites,
        macro=extremes(sites),
        heterogeneity=between_sites(sites),
        subgroups=subgroups_of(cases, plan),
    )


def group_of(name: str, cases: Sequence[CaseT], plan: SitePlan[CaseT]) -> Subgroup:
    """The figures of one group of cases."""
    planned = plan.measures(cases)
    patients = [case.patient_id for case in cases]
    clusters = Clusters.of(patients, [case.site for case in cases], np.array([plan.positive(c) for c in cases]))
    asked = [m for m in planned if not m.absent and m.interval is None]
    behind = [clusters.n_smaller_class if m.n_clusters is None else m.n_clusters for m in asked]
    answers = bootstrap([m.statistic for m in asked], clusters, plan.how, behind)
    drawn = dict(zip((m.name for m in asked), answers, strict=True))
    figures = tuple(_figure(m, len(cases), drawn.get(m.name, Drawn(m.interval, None))) for m in planned)
    return Subgroup(name, len(cases), clusters.stratum.size, figures)


def _figure(measure: SiteMeasure, n_cases: int, drawn: Drawn) -> Figure:
    if measure.absent:
        return _named(measure, None, None, None)
    value = figure(measure.statistic, n_cases)
    effect = None
    if measure.scale == "logit":
        effect = Effect(*on_logit(value, drawn.variance, *measure.classes), "logit")
    elif drawn.variance is not None:
        effect = Effect(value, drawn.variance)
    return _named(measure, value, drawn.interval, effect)


def _named(measure: SiteMeasure, value: float | None, interval: Interval | None, effect: Effect | None) -> Figure:
    return Figure(
        measure.name,
        value,
        measure.counts,
        interval,
        measure.absent,
        effect,
        measure.higher_is_better,
        measure.ideal,
    )


def _of_each(sites: Sequence[Subgroup]) -> dict[str, list[tuple[str, Figure]]]:
    named: dict[str, list[tuple[str, Figure]]] = defaultdict(list)
    for site in sites:
        for one in site.figures:
            named[one.name].append((site.name, one))
    return named


def extremes(sites: Sequence[Subgroup]) -> tuple[Extreme, ...]:
    """Macro mean and worst site of every figure; sites without a value are counted."""
    found = []
    for name, rows in _of_each(sites).items():
        values = [(one.value, site) for site, one in rows if one.value is not None]
        if not values:
            found.append(Extreme(name, None, "", None, 0, len(rows)))
            continue
        worst, site = max(values, key=lambda pair: _badness(rows[0][1], pair[0]))
        macro = float(np.mean([value for value, _ in values]))
        found.append(Extreme(name, macro, site, worst, len(values), len(rows) - len(values)))
    return tuple(found)


def _badness(kind: Figure, value: float) -> float:
    if kind.ideal is not None:
        return abs(value - kind.ideal)
    return -value if kind.higher_is_better else value


def between_sites(sites: Sequence[Subgroup]) -> tuple[Heterogeneity, ...]:
    """Random effects of every figure with a value and a variance at three sites or more."""
    found = []
    for name, rows in _of_each(sites).items():
        usable = [one.effect for _, one in rows if one.effect is not None]
        if len(usable) < LEAST_SITES:
            continue
        scale = usable[0].scale
        effects = random_effects(np.array([e.estimate for e in usable]), np.array([e.variance for e in usable]))
        values = (effects.mean, effects.low, effects.high, effects.predicted_low, effects.predicted_high)
        mean, low, high, predicted_low, predicted_high = (effects.back(x, scale) for x in values)
        assert mean is not None
        found.append(
            Heterogeneity(
                name,
                scale,
                len(usable),
                mean,
                low,
                high,
                predicted_low,
                predicted_high,
                effects.tau2,
                effects.i2,
            )
        )
    return tuple(found)


def subgroups_of(cases: Sequence[CaseT], plan: SitePlan[CaseT]) -> dict[str, tuple[Subgroup, ...]]:
    members: dict[str, dict[str, list[CaseT]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        for name, value in case.subgroups:
            members[name][value].append(case)
    return {name: _with_suppression(cells, plan) for name, cells in sorted(members.items())}


def _with_suppression(cells: dict[str, list[CaseT]], plan: SitePlan[CaseT]) -> tuple[Subgroup, ...]:
    """The groups of one characteristic; cells under five patients are hidden.

    Where one cell alone would be hidden it could be had by subtraction, so the next smallest is hidden with it.
    """
    sizes = {value: len({(c.site, c.patient_id) for c in cases}) for value, cases in cells.items()}
    hidden = {value for value, n in sizes.items() if n < SUPPRESSED_BELOW}
    if len(hidden) == 1 and len(sizes) > 1:
        hidden.add(min((v for v in sizes if v not in hidden), key=lambda v: (sizes[v], v)))
    return tuple(
        Subgroup(value, None, None, suppressed=True) if value in hidden else group_of(value, cells[value], plan)
        for value in sorted(cells)
    )
