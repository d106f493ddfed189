"""A benchmark from its spec to its trials: checks first, then every job once, then what became of each trial."""

from __future__ import annotations

import fcntl
import fnmatch
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from imaging.benchmark.cohort import Cohort, SharedPicture, group_cases
from imaging.benchmark.designs import HeldOut, PlannedTrial, Training, held_out_of, left_out, plan, trainings_of
from imaging.benchmark.jobs import VALIDATION, Identities, Places, identities, write_whole
from imaging.benchmark.orders import HeldOutOrder, TrainingOrder
from imaging.benchmark.outcome_files import read_outcomes, trials_as_text
from imaging.benchmark.schedule import QueuedJob
from imaging.benchmark.spec import BenchmarkSpec, configuration
from imaging.benchmark.trials import CaseOutcome, Trial
from imaging.data.manifest import Case, read_manifest
from imaging.errors import ConfigError, OutputError, Reason
from imaging.package import Card, read_typed


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a benchmark will do.

    Args:
        spec: What was asked.
        cohort: The cases of all sites.
        trials: Every line of the results to be.
        names: The identities of its jobs.
        remarks: What was grouped, and why.
    """

    spec: BenchmarkSpec
    cohort: Cohort
    trials: list[PlannedTrial]
    names: Identities
    remarks: list[str] = field(default_factory=list)


# Outcomes → the primary endpoint, higher is better; None where there is none.
Score = Callable[[Sequence[CaseOutcome]], float | None]
# Cases → pictures that two of them share, and a line on each case that nobody could look at; by a worker.
FindShared = Callable[[Sequence[Case], Identities], tuple[Sequence[SharedPicture], Sequence[str]]]


def looked_at(
    out: Path, names: Identities, look: Callable[[], tuple[Sequence[SharedPicture], Sequence[str]]]
) -> tuple[Sequence[SharedPicture], Sequence[str]]:
    """What an earlier start found in the same pictures under the same code, or what `look` finds, which is kept."""
    path, key = out / "look.json", names.of_everything
    if path.is_file() and (kept := json.loads(path.read_text(encoding="utf-8")))["of"] == key:
        return [SharedPicture(*pair) for pair in kept["shared"]], kept["unread"]
    shared, unread = look()
    if out.is_dir():
        kept = {"of": key, "shared": [astuple(pair) for pair in shared], "unread": list(unread)}
        write_whole(path, json.dumps(kept, indent=1) + "\n")
    return shared, unread


def make_plan(spec: BenchmarkSpec, find_shared: FindShared, only: str | None = None) -> Plan:
    """Raises ConfigError for a table, a patient or a picture that forbids the benchmark, before any job."""
    out = spec.exclude
    cases = [
        case
        for case in read_manifest(Path(spec.manifest), needs_split=False)
        if case.site not in out.sites and case.case_id not in out.cases
    ]
    named = identities(spec, {case.case_id: case for case in cases})
    shared, unread = find_shared(cases, named)
    cohort, remarks = group_cases(cases, shared, spec.across_sites)
    card: Card = read_typed(Path(spec.card), Card)
    _refuse_card(spec, card)
    trials = plan(spec, cohort, frozenset(one.name for one in card.classes if one.nothing))
    missing = left_out(spec, trials)
    if only is not None:
        trials = [trial for trial in trials if fnmatch.fnmatchcase(trial.name, only)]
        if not trials:
            raise ConfigError(
                f"--only: found no trial named '{only}'; allowed is ARM/FOLD/SEED, where FOLD is a site or "
                "SITE:NUMBER, and * for any",
                Reason.CONFIG_INVALID,
            )
    return Plan(spec, cohort, trials, named, [*unread, *remarks, *missing])


def _refuse_card(spec: BenchmarkSpec, card: Card) -> None:
    """Raises ConfigError where the trainings would be packaged under a card that does not fit them."""
    for arm in spec.arms:
        data = configuration(spec, arm).get("data", {})
        named = (("classes", [one.name for one in card.classes]), ("labels", [one.name for one in card.labels]))
        for key, allowed in named:
            found = data.get(key) or []
            if found != allowed and (found or key == "classes"):
                raise ConfigError(
                    f"card {card.name}, {key}: found {allowed}; the trainings of arm '{arm.name}' have {found}, and "
                    "allowed are the same names in the same order",
                    Reason.CONFIG_INVALID,
                )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """OUT is this process's alone. Raises OutputError where another one writes to it, or nobody can."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        stream = (out / ".lock").open("w")
    except OSError as error:
        raise OutputError(f"--out {out}: {error.strerror}; allowed is a writable folder", _FAILED) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"--out {out}: {Reason.OUTPUT_IN_USE.meaning}", Reason.OUTPUT_IN_USE) from error
        yield


_FAILED = Reason.OUTPUT_FAILED


def tasks_of(plan: Plan, out: Path) -> list[QueuedJob]:
    """Every training and test that is not finished, each after what it needs."""
    places, names, cases = Places(out), plan.names, plan.cohort.cases
    configs = {arm.name: configuration(plan.spec, arm) for arm in plan.spec.arms}
    tests = held_out_of(plan.trials)
    tested_on: dict[Training, set[str]] = {}
    for test in tests:
        for training in test.trainings:
            tested_on.setdefault(training, set()).update(test.cases)
            if training.start is not None:
                tested_on.setdefault(training.start, set()).update(test.cases)
    tasks = []
    for training in trainings_of(plan.trials):
        name = names.of_training(training)
        if not places.receipt(name).is_file():
            needs = () if training.start is None else (names.of_training(training.start),)
            files = {file for case in tested_on.get(training, ()) for file in cases[case].files}
            order = _training_order(plan, places, training, configs[training.arm], files)
            tasks.append(QueuedJob(name, order, needs))
    for test in tests:
        name = names.of_test(test)
        if not places.outcomes(name).is_file():
            networks = tuple(names.of_training(one) for one in test.trainings)
            tasks.append(QueuedJob(name, _held_out_order(plan, out, test, networks), networks))
    return _nearest_first(tasks)


def _training_order(
    plan: Plan, places: Places, training: Training, config: dict[str, Any], files: set[Path]
) -> TrainingOrder:
    cases, arm = plan.cohort.cases, plan.spec.arm(training.arm)
    train, val = (tuple(cases[name] for name in ids) for ids in (training.train, training.val))
    start = None if arm.start_from is None else Path(arm.start_from)
    if training.start is not None:
        start = places.best(plan.names.of_training(training.start))
    own = {file for case in (*train, *val) for file in case.files}
    return TrainingOrder(
        identity=plan.names.of_training(training),
        out=places.out,
        config=config,
        train=train,
        val=val,
        seed=training.seed,
        card=Path(plan.spec.card),
        start=start,
        held_out=tuple(sorted(files - own)),
    )


def _held_out_order(plan: Plan, out: Path, test: HeldOut, networks: tuple[str, ...]) -> HeldOutOrder:
    cases = plan.cohort.cases
    config = configuration(plan.spec, plan.spec.arm(test.trainings[0].arm))
    return HeldOutOrder(
        identity=plan.names.of_test(test),
        out=out,
        networks=networks,
        cases=tuple(cases[name] for name in test.cases),
        chosen_on=tuple(cases[name] for name in test.chosen_on),
        is_on_cpu=config.get("trainer", {}).get("accelerator") == "cpu",
    )


def _nearest_first(tasks: Sequence[QueuedJob]) -> list[QueuedJob]:
    """Each test right behind the last training that it needs: what is finished is finished whole."""
    place = {task.name: number for number, task in enumerate(tasks)}

    def key(task: QueuedJob) -> tuple[int, int]:
        own = place[task.name]
        behind = max((place[name] for name in task.needs if name in place), default=own)
        return (behind if isinstance(task.order, HeldOutOrder) else own), own

    return sorted(tasks, key=key)


def trials_of(plan: Plan, out: Path, lost: Mapping[str, str], score: Score) -> list[Trial]:
    """What became of every trial that was run: its outcomes, or why there are none."""
    places = Places(out)
    told = (_trial(plan, places, planned, lost, score) for planned in plan.trials)
    return [trial for trial in told if trial is not None]


def _trial(plan: Plan, places: Places, planned: PlannedTrial, lost: Mapping[str, str], score: Score) -> Trial | None:
    names, test = plan.names, planned.held_out
    trial = Trial(
        job=names.of_networks(test),
        arm=planned.arm,
        design=planned.design,
        test_site=planned.test_site,
        train_sites=planned.train_sites,
        seed=planned.seed,
        fold=planned.fold,
        local_cases=planned.local_cases,
        in_domain=planned.in_domain,
        sees_target=planned.sees_target,
    )
    needed = [names.of_test(test), *(names.of_training(one) for one in test.trainings)]
    if reasons := [lost[name] for name in needed if name in lost]:
        return replace(trial, lost=reasons[-1])
    outcomes = read_outcomes(places.outcomes(needed[0]))
    if outcomes is None:
        return None
    return replace(trial, outcomes=outcomes, chosen_by=_chosen_by(plan, places, planned, outcomes, score))


def _chosen_by(
    plan: Plan, places: Places, planned: PlannedTrial, outcomes: Sequence[CaseOutcome], score: Score
) -> dict[str, float]:
    """What each selection rule saw of these networks; a rule without a value is left out."""
    names = plan.names
    own: list[Sequence[CaseOutcome]] = [
        read_outcomes(places.job(names.of_training(one)) / VALIDATION) or () for one in planned.held_out.trainings
    ]
    inner: list[Sequence[CaseOutcome]] = [
        read_outcomes(places.outcomes(names.of_test(test))) or () for test in planned.inner
    ]
    seen: dict[str, list[Sequence[CaseOutcome]]] = {
        "train_val": own,
        "leave_one_domain_out": inner,
        "oracle": [outcomes],
    }
    told = {rule: [score(part) for part in parts] for rule, parts in seen.items()}
    return {
        rule: math.fsum(known) / len(known)
        for rule, values in told.items()
        if (known := [value for value in values if value is not None]) and len(known) == len(values)
    }


def write_trials(out: Path, trials: Sequence[Trial]) -> None:
    """trials/ARM.json, one file for each arm."""
    for arm in dict.fromkeys(trial.arm for trial in trials):
        of_arm = [trial for trial in trials if trial.arm == arm]
        write_whole(Places(out).trials / f"{arm}.json", trials_as_text(of_arm))
