"""results.json: everything that a benchmark says, from its trials alone; the same trials give the same bytes.

`summarise` is a function of the facts and the trials. It knows no clock, path or host, and no order of files: trials of
several hospitals in one list give what one run over all gives.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from imaging import __version__
from imaging.benchmark.checklist import filled_items
from imaging.benchmark.endpoints import Endpoint, endpoint, is_positive
from imaging.benchmark.operating import calibration_of
from imaging.benchmark.panels import Panel, by_arm, held_out, in_domain, in_order, site_plan
from imaging.benchmark.probe import QuantityKept, SiteProbe
from imaging.benchmark.record import (
    ArmResult,
    BenchmarkFacts,
    BenchmarkResult,
    DesignCell,
    Losses,
    LostTrial,
    SiteFacts,
    UnansweredCase,
    WorstOutcome,
)
from imaging.benchmark.selection import selection
from imaging.benchmark.spread import spread_over_sites
from imaging.benchmark.trials import CaseOutcome, Trial
from imaging.benchmark.verdict import ArmDifference, compare_arms, corrected, verdicts
from imaging.errors import ConfigError, Reason
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.result import SUPPRESSED_BELOW, Subgroup, plain
from imaging.evaluation.sites import extremes, group_of, subgroups_of

WORST_SHOWN = 16


def summarise(
    facts: BenchmarkFacts,
    trials: Iterable[Trial],
    how: Bootstrap | None = None,
    probes: Sequence[SiteProbe] = (),
    quantities: Sequence[QuantityKept] = (),
) -> BenchmarkResult:
    """Every figure of a benchmark. Raises ConfigError for trials that contradict each other or the facts."""
    how = how or Bootstrap()
    ordered = in_order(trials)
    _refuse_unknown_arms(facts, ordered)
    away, home = by_arm(held_out(ordered)), by_arm(in_domain(ordered))
    seeing = {arm for arm, found in away.items() if any(trial.sees_target for trial in found)}
    panels = {arm: Panel.of(away[arm]) for arm in facts.arms if arm in away}
    at_home = {arm: Panel.of(home[arm]) for arm in facts.arms if arm in home}
    blind = {arm: panel for arm, panel in panels.items() if arm not in seeing}
    primary = facts.endpoints[0]
    arms = tuple(
        replace(_arm_result(facts, (arm, panel), at_home.get(arm), how), sees_target=arm in seeing)
        for arm, panel in panels.items()
    )
    figures = {one.arm: {s.name: s.figure(primary.name).value for s in one.sites} for one in arms}
    chosen = selection(held_out(ordered), {arm: figures[arm] for arm in blind}, primary)
    result = BenchmarkResult(
        toolkit=f"sitewise-imaging {__version__}",
        facts=facts,
        resamples=how.n_resamples,
        resampling_seed=how.seed,
        losses=_losses(ordered),
        sites=_site_facts(ordered),
        verdicts=_primary_verdicts(facts, blind, how),
        secondary=_uncounted([(blind, one) for one in facts.endpoints[1:]], facts, how, "secondary endpoint"),
        at_home=_uncounted([(at_home, primary)], facts, how, "in domain"),
        saw_target=_uncounted([(_with_reference(facts, panels, seeing), primary)], facts, how, "saw the target"),
        by_site=_by_site(facts, blind, primary, how),
        arms=arms,
        selection=chosen,
        cells=_cells(facts, ordered, how),
        worst=_worst(facts, panels, primary),
        probes=tuple(probes),
        quantities=tuple(quantities),
    )
    return replace(result, checklist=filled_items(plain(result)))


def _refuse_unknown_arms(facts: BenchmarkFacts, trials: Sequence[Trial]) -> None:
    unknown = sorted({trial.arm for trial in trials} - set(facts.arms))
    if unknown:
        raise ConfigError(
            f"benchmark, arm: found trials of {unknown}; allowed are {list(facts.arms)}", Reason.CONFIG_INVALID
        )


# --- Verdicts ---------------------------------------------------------------------------------------------------------


def _primary_verdicts(facts: BenchmarkFacts, blind: dict[str, Panel], how: Bootstrap) -> tuple[ArmDifference, ...]:
    if facts.reference not in blind:
        return ()
    return verdicts(blind, facts.reference, facts.endpoints[0], how, facts.margin)


def _with_reference(facts: BenchmarkFacts, panels: dict[str, Panel], kept: set[str]) -> dict[str, Panel]:
    return {arm: panel for arm, panel in panels.items() if arm in kept or arm == facts.reference}


def _uncounted(
    families: Sequence[tuple[dict[str, Panel], Endpoint]], facts: BenchmarkFacts, how: Bootstrap, why: str
) -> tuple[ArmDifference, ...]:
    """Differences that never make a gain, Holm over all of them."""
    found = [
        compare_arms((arm, panel), (facts.reference, panels[facts.reference]), one, how)
        for panels, one in families
        if facts.reference in panels
        for arm, panel in panels.items()
        if arm != facts.reference
    ]
    return tuple(_not_counted(one, why) for one in corrected(found))


def _not_counted(found: ArmDifference, why: str) -> ArmDifference:
    return replace(found, call="not counted", why="; ".join(part for part in (why, found.why) if part))


def _by_site(
    facts: BenchmarkFacts, blind: dict[str, Panel], primary: Endpoint, how: Bootstrap
) -> tuple[ArmDifference, ...]:
    """The primary differences at each held-out site, to look at: one site is never a verdict."""
    if facts.reference not in blind:
        return ()
    families = [
        ({arm: panel.at(site) for arm, panel in blind.items()}, primary) for site in sorted(blind[facts.reference].runs)
    ]
    return _uncounted(families, facts, how, "one site")


# --- Arms and cells ---------------------------------------------------------------------------------------------------


def _arm_result(facts: BenchmarkFacts, named: tuple[str, Panel], home: Panel | None, how: Bootstrap) -> ArmResult:
    arm, panel = named
    plan = site_plan(facts.endpoints, how)
    sites = _groups(facts.endpoints, panel, how)
    at_home = _groups(facts.endpoints, home, how) if home else ()
    return ArmResult(
        arm=arm,
        sees_target=False,
        n_lost=panel.n_lost,
        sites=sites,
        macro=extremes(sites),
        spread=tuple(spread_over_sites(panel, sites, one) for one in facts.endpoints),
        in_domain=at_home,
        deltas=tuple(_deltas(facts, arm, panel, home, how)) if home else (),
        calibration=tuple(calibration_of(arm, panel, site) for site in sorted(panel.runs)),
        operating=_groups([endpoint("sensitivity"), endpoint("specificity")], panel, how),
        subgroups=subgroups_of(panel.cases(), plan),
    )


def _groups(endpoints: Sequence[Endpoint], panel: Panel, how: Bootstrap) -> tuple[Subgroup, ...]:
    plan = site_plan(endpoints, how)
    return tuple(group_of(site, panel.at(site).cases(), plan) for site in sorted(panel.runs))


def _deltas(facts: BenchmarkFacts, arm: str, panel: Panel, home: Panel, how: Bootstrap) -> Iterable[ArmDifference]:
    for site in sorted(panel.runs.keys() & home.runs.keys()):
        for one in facts.endpoints:
            found = compare_arms((arm, panel.at(site)), ("in domain", home.at(site)), one, how, permuted=False)
            yield _not_counted(found, "held out less in domain")


def _cells(facts: BenchmarkFacts, trials: Sequence[Trial], how: Bootstrap) -> tuple[DesignCell, ...]:
    groups: dict[tuple[str, str, tuple[str, ...], str, int, bool], list[Trial]] = defaultdict(list)
    for trial in trials:
        local = -1 if trial.local_cases is None else trial.local_cases
        groups[trial.arm, trial.design, trial.train_sites, trial.test_site, local, trial.in_domain].append(trial)
    plan, cells = site_plan(facts.endpoints, how), []
    for (arm, design, sources, site, _, at_home), found in sorted(groups.items()):
        panel = Panel.of(found)
        figures = group_of(site, panel.cases(), plan)
        sees_target = any(trial.sees_target for trial in found)
        n_runs = len(panel.runs.get(site, ()))
        cells.append(
            DesignCell(arm, design, sources, site, found[0].local_cases, at_home, sees_target, n_runs, panel.n_lost,
                       figures)
        )  # fmt: skip
    return tuple(cells)


# --- Losses, sites, worst cases ---------------------------------------------------------------------------------------


def _losses(trials: Sequence[Trial]) -> Losses:
    lost = [
        LostTrial(t.job, t.arm, t.design, t.test_site, t.train_sites, t.seed, t.fold, t.local_cases, t.lost)
        for t in trials
        if t.lost
    ]
    failed = Counter((t.arm, t.design, t.test_site, case.case_id, case.failed)
                     for t in trials for case in t.outcomes if case.failed)  # fmt: skip
    cases = tuple(UnansweredCase(*key, n) for key, n in sorted(failed.items()))
    return Losses(len(trials), sum(len(trial.outcomes) for trial in trials), tuple(lost), cases)


def _site_facts(trials: Sequence[Trial]) -> tuple[SiteFacts, ...]:
    cases: dict[str, dict[str, CaseOutcome]] = defaultdict(dict)
    for case in chain.from_iterable(trial.outcomes for trial in trials):
        cases[case.site].setdefault(case.case_id, case)
    return tuple(_facts_of(site, list(found.values())) for site, found in sorted(cases.items()))


def _facts_of(site: str, cases: Sequence[CaseOutcome]) -> SiteFacts:
    truth = [case.positive for case in cases if case.positive is not None]
    positive = sum(truth)
    return SiteFacts(
        site=site,
        n_cases=len(cases),
        n_patients=len({case.patient_id for case in cases}),
        n_with_lesion=sum(case.lesions > 0 for case in cases),
        n_truth=len(truth),
        n_positive=positive,
        prevalence=positive / len(truth) if truth else None,
        scanners=_patients_by(cases, "scanner"),
        protocols=_patients_by(cases, "protocol"),
    )


def _patients_by(cases: Sequence[CaseOutcome], name: str) -> dict[str, int | None]:
    """Patients of each value, None for one to four."""
    patients: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        patients[getattr(case, name) or "not known"].add(case.patient_id)
    return {value: len(found) if len(found) >= SUPPRESSED_BELOW else None for value, found in sorted(patients.items())}


def _worst(facts: BenchmarkFacts, panels: dict[str, Panel], primary: Endpoint) -> tuple[WorstOutcome, ...]:
    """The held-out cases that cost most under the reference, or the first arm that there is."""
    if not panels:
        return ()
    costs = {arm: _costs(panel, primary) for arm, panel in panels.items()}
    main = facts.reference if facts.reference in panels else next(iter(panels))
    rows = []
    for case in panels[main].cases():
        key = (case.site, case.case_id)
        if key in costs[main]:
            found = {arm: of_arm[key] for arm, of_arm in costs.items() if key in of_arm}
            failed = next((one.failed for one in case.outcomes if one.failed), "")
            label = case.outcomes[0].label or ("positive" if is_positive(case.outcomes[0]) else "")
            rows.append(WorstOutcome(case.case_id, case.patient_id, case.site, label, found[main], found, failed))
    rows.sort(key=lambda row: (-row.cost, row.site, row.case_id))
    return tuple(row for row in rows[:WORST_SHOWN] if row.cost > 0)


def _costs(panel: Panel, primary: Endpoint) -> dict[tuple[str, str], float]:
    found = {}
    for case in panel.cases():
        costs = [cost for cost in map(primary.cost, case.outcomes) if cost is not None]
        if costs:
            found[case.site, case.case_id] = sum(costs) / len(costs)
    return found
