"""A spec and its cohort → trainings and tests. One training serves every design that learns from the same cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from imaging.benchmark.cohort import Cohort, Unit, divided, first_cases, folds_of, in_turn
from imaging.benchmark.spec import BenchmarkSpec, Design
from imaging.errors import ConfigError, Reason


@dataclass(frozen=True)
class Training:
    """One network to be trained: whoever plans an equal one means the same job.

    Args:
        arm: Name of the arm.
        train: Ids of the cases that are learnt from, sorted.
        val: Ids of the cases by which checkpoint, threshold and operating point are chosen, sorted.
        seed: Of weights, order and variation.
        start: Training whose weights it begins with; None for those that the arm says.
    """

    arm: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    seed: int
    start: Training | None = None


@dataclass(frozen=True)
class HeldOut:
    """Networks, of which several answer by the mean of their probabilities, on cases that none of them learnt from.

    Args:
        trainings: The networks.
        cases: Ids of the cases, sorted.
        chosen_on: Ids of other cases of that site by which threshold and temperature are chosen anew; none leaves them.
    """

    trainings: tuple[Training, ...]
    cases: tuple[str, ...]
    chosen_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedTrial:
    """A line of the results to be; see `Trial` for what its fields say. `inner` are tests inside its training sites."""

    design: str
    held_out: HeldOut
    test_site: str
    train_sites: tuple[str, ...]
    fold: int | None = None
    local_cases: int | None = None
    in_domain: bool = False
    sees_target: bool = False
    inner: tuple[HeldOut, ...] = ()

    @property
    def arm(self) -> str:
        return self.held_out.trainings[0].arm

    @property
    def seed(self) -> int:
        return self.held_out.trainings[0].seed

    @property
    def name(self) -> str:
        """ARM/FOLD/SEED, as `--only` takes it; FOLD is the tested site, with the number of the fold if any."""
        fold = "" if self.fold is None else f":{self.fold}"
        return f"{self.arm}/{self.test_site}{fold}/{self.seed}"


@dataclass(frozen=True)
class _Of:
    """What a design divides: one arm under one seed."""

    cohort: Cohort
    arm: str
    seed: int
    validation: float
    nothing: frozenset[str]
    inner: bool

    def training(self, units: Sequence[Unit], start: Training | None = None) -> Training:
        train, val = divided(units, self.validation, self.nothing)
        return Training(self.arm, _ids(train), _ids(val), self.seed, start)

    def trained_on(self, sites: Sequence[str]) -> Training:
        return self.training(self.cohort.learnt_from(sites))

    def whole(self, site: str) -> tuple[str, ...]:
        return _ids(self.cohort.at(site), site)


def plan(spec: BenchmarkSpec, cohort: Cohort, nothing: frozenset[str] = frozenset()) -> list[PlannedTrial]:
    """Every trial of the spec, arms first, in one order for one spec; `nothing` as of `divided`.

    Raises ConfigError where a design needs more sites or patients than there are, and where a training would have
    nothing to learn from or nothing to validate on.
    """
    trials: list[PlannedTrial] = []
    for arm in spec.arms:
        for design in spec.designs:
            for seed in spec.seeds:
                inner = spec.selection == "leave_one_domain_out"
                of = _Of(cohort, arm.name, seed, spec.validation, nothing, inner)
                trials += _BY_KIND[design.kind](of, design)
    _refuse_empty(trials)
    return trials


def left_out(spec: BenchmarkSpec, trials: Sequence[PlannedTrial]) -> list[str]:
    """A remark for each site that has too few cases for points of a learning curve that the spec asks for."""
    curves = [design for design in spec.designs if design.kind == "learning_curve"]
    there: dict[str, set[int]] = {}
    for trial in trials:
        if trial.local_cases is not None:
            there.setdefault(trial.test_site, set()).add(trial.local_cases)
    asked = {count for design in curves for count in design.cases}
    return [
        f"learning_curve: half of site '{site}' holds too few patients or cases for the points "
        f"{', '.join(map(str, sorted(asked - found)))}, which are left out"
        for site, found in sorted(there.items())
        if asked - found
    ]


def trainings_of(trials: Sequence[PlannedTrial]) -> list[Training]:
    """Every training once, each after the one whose weights it begins with."""
    found: dict[Training, None] = {}
    for trial in trials:
        for test in (trial.held_out, *trial.inner):
            for training in test.trainings:
                if training.start is not None:
                    found[training.start] = None
                found[training] = None
    return list(found)


def held_out_of(trials: Sequence[PlannedTrial]) -> list[HeldOut]:
    """Every test once."""
    return list(dict.fromkeys(test for trial in trials for test in (trial.held_out, *trial.inner)))


def _ids(units: Sequence[Unit], site: str | None = None) -> tuple[str, ...]:
    return tuple(sorted(case.case_id for unit in units for case in unit.cases if site in (None, case.site)))


def _others(of: _Of, design: Design, least: int = 2) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each site with all others. Raises ConfigError where there are fewer than `least` sites."""
    sites = of.cohort.sites
    if len(sites) < least:
        raise ConfigError(
            f"designs.{design.kind}: found cases of {len(sites)} sites, {', '.join(sites)}; allowed are {least} or "
            "more",
            Reason.CONFIG_INVALID,
        )
    for site in sites:
        yield site, tuple(other for other in sites if other != site)


def _leave_one_site_out(of: _Of, design: Design) -> Iterator[PlannedTrial]:
    """Learnt from all other sites, tested at one."""
    for site, others in _others(of, design):
        test = HeldOut((of.trained_on(others),), of.whole(site))
        yield PlannedTrial(design.kind, test, site, others, inner=_inner(of, others))


def _inner(of: _Of, sites: Sequence[str]) -> tuple[HeldOut, ...]:
    """Each training site held out from the others: what may choose a setting without the site that judges it."""
    if not of.inner or len(sites) < 2:
        return ()
    return tuple(HeldOut((of.trained_on([s for s in sites if s != site]),), of.whole(site)) for site in sites)


def _in_folds(of: _Of, design: Design, elsewhere: bool) -> Iterator[PlannedTrial]:
    """Learnt from a site without a fold, tested on that fold, and where asked at every other site."""
    fold_of = folds_of(of.cohort, design.folds)
    for site in of.cohort.sites:
        for fold in range(design.folds):
            kept = [unit for unit in of.cohort.learnt_from([site]) if fold_of[unit.name] != fold]
            training = of.training(kept)
            own = _ids([unit for unit in of.cohort.at(site) if fold_of[unit.name] == fold], site)
            yield PlannedTrial(design.kind, HeldOut((training,), own), site, (site,), fold, in_domain=True)
            for other in of.cohort.sites if elsewhere else ():
                if other != site:
                    yield PlannedTrial(design.kind, HeldOut((training,), of.whole(other)), other, (site,), fold)


def _matrix(of: _Of, design: Design) -> Iterator[PlannedTrial]:
    return _in_folds(of, design, elsewhere=True)


def _local(of: _Of, design: Design) -> Iterator[PlannedTrial]:
    return _in_folds(of, design, elsewhere=False)


def _pooled(of: _Of, design: Design) -> Iterator[PlannedTrial]:
    """Learnt from all sites without a fold of each, tested on that fold of each."""
    fold_of = folds_of(of.cohort, design.folds)
    for fold in range(design.folds):
        training = of.training([unit for unit in of.cohort.units if fold_of[unit.name] != fold])
        for site in of.cohort.sites:
            own = _ids([unit for unit in of.cohort.at(site) if fold_of[unit.name] == fold], site)
            yield PlannedTrial(design.kind, HeldOut((training,), own), site, of.cohort.sites, fold, in_domain=True)


def _consensus(of: _Of, design: Design) -> Iterator[PlannedTrial]:
    """Each other site learns alone; their packages answer together."""
    for site, others in _others(of, design, least=3):
        alone = tuple(of.trained_on([other]) for other in others)
        yield PlannedTrial(design.kind, HeldOut(alone, of.whole(site)), site, others)


def _learning_curve(of: _Of, design: Design) -> Iterator[PlannedTrial]:
    """One half of a site's patients is tested, after a number of cases of the other half were learnt from."""
    halves = folds_of(of.cohort, 2)
    for site, others in _others(of, design):
        base = of.trained_on(others)
        pool = in_turn([unit for unit in of.cohort.learnt_from([site]) if halves[unit.name] == 0])
        cases = _ids([unit for unit in of.cohort.at(site) if halves[unit.name] == 1], site)
        for count in design.cases:
            local = first_cases(pool, count)
            for mode in ("fine_tune", "recalibrate") if design.mode == "both" else (design.mode,):
                name = f"{design.kind}:{mode}"
                shared = PlannedTrial(name, HeldOut((base,), cases), site, others, local_cases=count)
                if count == 0:
                    yield shared
                elif len(local) > 1:
                    yield replace(shared, held_out=_adapted(of, shared.held_out, local, mode), sees_target=True)


def _adapted(of: _Of, shared: HeldOut, local: Sequence[Unit], mode: str) -> HeldOut:
    if mode == "recalibrate":
        return replace(shared, chosen_on=_ids(local))
    return replace(shared, trainings=(of.training(local, shared.trainings[0]),))


_BY_KIND: dict[str, Callable[[_Of, Design], Iterator[PlannedTrial]]] = {
    "leave_one_site_out": _leave_one_site_out,
    "train_test_matrix": _matrix,
    "in_domain": _local,
    "local_only": _local,
    "pooled": _pooled,
    "consensus": _consensus,
    "learning_curve": _learning_curve,
}


def _refuse_empty(trials: Sequence[PlannedTrial]) -> None:
    for trial in trials:
        for training in trial.held_out.trainings:
            for what, ids in (("learn from", training.train), ("validate on", training.val)):
                if not ids:
                    raise ConfigError(
                        f"designs.{trial.design}, {trial.name}: found no case to {what} at the sites "
                        f"{', '.join(trial.train_sites)}; allowed are sites of two patients or more",
                        Reason.CONFIG_INVALID,
                    )
