"""Trials put together: the runs of one method on each test site, every run with the same cases in the same order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

from imaging.benchmark.endpoints import Endpoint, Outcomes, Scored, is_positive
from imaging.benchmark.trials import CaseOutcome, Trial
from imaging.errors import ConfigError, Reason
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.ranking import Average, Fixed
from imaging.evaluation.result import Counts
from imaging.evaluation.sites import SiteMeasure, SitePlan

LEAVE_ONE_SITE_OUT = "leave_one_site_out"
MATRIX = "train_test_matrix"
IN_DOMAIN = "in_domain"
LOCAL_ONLY = "local_only"
UNKNOWN = "not known"


@dataclass(frozen=True, eq=False)
class Run:
    """One seed of a method on a site: the outcomes of all its cases, from one network or one for each fold."""

    seed: int
    outcomes: tuple[CaseOutcome, ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """One method on its test sites: site → complete runs, by seed, and site → how many runs are not complete."""

    runs: Mapping[str, tuple[Run, ...]]
    lost: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(trials: Iterable[Trial]) -> Panel:
        """The panel of trials of one method. Raises ConfigError where runs of a site hold different cases.

        Folds inside a site are one run, for each tests other patients; elsewhere each fold is a network of its own
        that tests them all.
        """
        parts: dict[tuple[str, int, int], list[Trial]] = defaultdict(list)
        for trial in trials:
            apart = -1 if trial.in_domain or trial.fold is None else trial.fold
            parts[trial.test_site, trial.seed, apart].append(trial)
        runs: dict[str, list[Run]] = defaultdict(list)
        lost: Counter[str] = Counter()
        for (site, seed, _), together in sorted(parts.items()):
            if any(trial.lost for trial in together):
                lost[site] += 1
                continue
            outcomes = [outcome for trial in together for outcome in trial.outcomes]
            runs[site].append(Run(seed, tuple(sorted(outcomes, key=lambda case: (case.patient_id, case.case_id)))))
        for site, found in runs.items():
            _refuse_other_cases(site, found)
        return Panel({site: tuple(found) for site, found in runs.items()}, lost)

    @property
    def n_lost(self) -> int:
        return sum(self.lost.values())

    @property
    def n_cases(self) -> int:
        return sum(len(runs[0].outcomes) for runs in self.runs.values())

    def about(self, endpoint: Endpoint) -> Panel:
        """This panel on the cases that an endpoint is about; without sites where it has no figure."""
        scored = {site: endpoint.score(runs[0].outcomes) for site, runs in self.runs.items()}
        runs = {
            site: tuple(Run(run.seed, tuple(compress(run.outcomes, one.about))) for run in self.runs[site])
            for site, one in scored.items()
            if not one.absent
        }
        return Panel(runs, self.lost)

    def at(self, site: str) -> Panel:
        """This panel on one site alone."""
        runs = {site: self.runs[site]} if site in self.runs else {}
        return Panel(runs, {site: self.lost[site]} if site in self.lost else {})

    def cases(self) -> list[RepeatedCase]:
        """Every case with its outcomes over the runs of its site."""
        return [
            RepeatedCase(rows[0].case_id, rows[0].patient_id, site, tuple(rows))
            for site, runs in sorted(self.runs.items())
            for rows in zip(*(run.outcomes for run in runs), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class RepeatedCase:
    """One test case with its outcome under each network that was tested on it."""

    case_id: str
    patient_id: str
    site: str
    outcomes: tuple[CaseOutcome, ...]

    @property
    def subgroups(self) -> tuple[tuple[str, str], ...]:
        first = self.outcomes[0]
        return (("scanner", first.scanner or UNKNOWN), ("protocol", first.protocol or UNKNOWN))


def site_plan(endpoints: Sequence[Endpoint], how: Bootstrap) -> SitePlan[RepeatedCase]:
    """How cases are summarised: every endpoint as its mean over networks, patients resampled."""
    return SitePlan(
        lambda cases: [_measure(endpoint, cases) for endpoint in endpoints],
        lambda case: is_positive(case.outcomes[0]),
        how,
    )


def _measure(endpoint: Endpoint, cases: Sequence[RepeatedCase]) -> SiteMeasure:
    n_runs = min((len(case.outcomes) for case in cases), default=0)
    scored = [endpoint.score([case.outcomes[k] for case in cases]) for k in range(n_runs)]
    if not scored:
        return SiteMeasure(endpoint.name, Fixed(0.0), Counts(0, 0), "n/a (0 cases)")
    about = [case for case, counts in zip(cases, scored[0].about, strict=True) if counts]
    n_failed = sum(any(outcome.failed for outcome in case.outcomes) for case in about)
    classes = scored[0].classes
    return SiteMeasure(
        endpoint.name,
        Average(*(one.statistic for one in scored)),
        Counts(len(about), len(about) - n_failed, n_failed=n_failed),
        absent_of(scored),
        "identity" if classes is None else "logit",
        endpoint.higher_is_better,
        classes=classes or (0, 0),
        n_clusters=None if classes else len({(case.site, case.patient_id) for case in about}),
    )


def absent_of(scored: Sequence[Scored]) -> str:
    """Why some runs of an endpoint have no figure; empty where all have one."""
    return next((one.absent for one in scored if one.absent), "")


def _refuse_other_cases(site: str, runs: Sequence[Run]) -> None:
    names = [[case.case_id for case in run.outcomes] for run in runs]
    often = Counter(names[0])
    twice = sorted(name for name, n in often.items() if n > 1)
    if twice:
        raise ConfigError(
            f"benchmark, site '{site}', seed {runs[0].seed}: found case '{twice[0]}' {often[twice[0]]} times; "
            "allowed is once",
            Reason.CONFIG_INVALID,
        )
    for run, found in zip(runs, names, strict=True):
        if found != names[0]:
            raise ConfigError(
                f"benchmark, site '{site}': found {len(found)} cases with seed {run.seed} and {len(names[0])} with "
                f"seed {runs[0].seed} that are not the same; every network of a method is tested on the same cases",
                Reason.CONFIG_INVALID,
            )


def held_out(trials: Iterable[Trial]) -> list[Trial]:
    """Trials on sites that the network has not seen, trained on all other sites.

    Those of the design that leaves one site out; without it, and with two sites, those of train × test.
    """
    away = [trial for trial in trials if not trial.in_domain and trial.local_cases is None]
    found = [trial for trial in away if trial.design == LEAVE_ONE_SITE_OUT]
    if found:
        return found
    across = [trial for trial in away if trial.design == MATRIX]
    two = len({trial.test_site for trial in across} | {s for trial in across for s in trial.train_sites}) == 2
    return across if two else []


def in_domain(trials: Iterable[Trial]) -> list[Trial]:
    """Trials on other patients of the site that alone was trained on: the reference of what distance costs."""
    at_home = [trial for trial in trials if trial.in_domain and trial.train_sites == (trial.test_site,)]
    designs = {trial.design for trial in at_home}
    first = next((design for design in (IN_DOMAIN, MATRIX, LOCAL_ONLY) if design in designs), None)
    return [trial for trial in at_home if trial.design == first]


def by_arm(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.arm].append(trial)
    return dict(found)


def in_order(trials: Iterable[Trial]) -> list[Trial]:
    """Trials in an order that depends on nothing but themselves, without those that stand twice alike.

    Raises ConfigError where two trials of one name differ.
    """
    found: dict[tuple[object, ...], Trial] = {}
    for trial in trials:
        outcomes = tuple(sorted(trial.outcomes, key=lambda case: (case.patient_id, case.case_id)))
        sorted_trial = replace(trial, outcomes=outcomes)
        if found.setdefault(_name(trial), sorted_trial) != sorted_trial:
            raise ConfigError(
                f"benchmark, trial: found two that differ of arm '{trial.arm}', design '{trial.design}', test site "
                f"'{trial.test_site}', seed {trial.seed}, fold {trial.fold}; allowed is one",
                Reason.CONFIG_INVALID,
            )
    return [found[key] for key in sorted(found, key=repr)]


def _name(trial: Trial) -> tuple[object, ...]:
    return (trial.arm, trial.design, trial.test_site, trial.train_sites, trial.seed,
            -1 if trial.fold is None else trial.fold, -1 if trial.local_cases is None else trial.local_cases,
            trial.in_domain)  # fmt: skip


def same_cases(first: Panel, second: Panel) -> tuple[Panel, Panel]:
    """Both panels on the sites and cases that they have in common."""
    sites = sorted(first.runs.keys() & second.runs.keys())
    kept: tuple[dict[str, tuple[Run, ...]], dict[str, tuple[Run, ...]]] = ({}, {})
    for site in sites:
        names = [{case.case_id for case in panel.runs[site][0].outcomes} for panel in (first, second)]
        both = names[0] & names[1]
        if both:
            for panel, out in zip((first, second), kept, strict=True):
                out[site] = tuple(Run(run.seed, _only(run.outcomes, both)) for run in panel.runs[site])
    return Panel(kept[0], first.lost), Panel(kept[1], second.lost)


def _only(outcomes: Outcomes, names: set[str]) -> tuple[CaseOutcome, ...]:
    return tuple(case for case in outcomes if case.case_id in names)
