"""`imaging benchmark`: arms × held-out sites × seeds, all that is learnt or chosen inside the fold."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from imaging.errors import ConfigError, ImagingError, Reason

if TYPE_CHECKING:
    from imaging.benchmark.look import Seen
    from imaging.benchmark.orders import LookOrder
    from imaging.benchmark.run import Plan
    from imaging.benchmark.schedule import Crew, QueuedJob
    from imaging.benchmark.spec import BenchmarkSpec
    from imaging.data.manifest import Case

EXAMPLES = """\
examples:
  imaging phantoms training build/phantoms --cases 96
  imaging benchmark configs/benchmark/phantom_ultrasound.yaml --out build/benchmark --dry-run
      what would be trained and tested, how long it may take, and what forbids it; writes nothing
  imaging benchmark configs/benchmark/phantom_ultrasound.yaml --out build/benchmark --jobs 2
      does it. Stop it whenever you like, and say the same line again: finished jobs stay, others go on at the step
  imaging benchmark SPEC.yaml --out DIR --only 'strong/*/1'
      the jobs of one arm and seed alone, on one machine of several that share DIR

A spec says which cases (manifest), which arms (named changes of recipe, augmentation, network, task or start weights),
which designs (leave_one_site_out, train_test_matrix, in_domain, local_only, pooled, consensus, learning_curve), which
seeds and endpoints; configs/benchmark/ has examples with every key explained. Splits of the manifest are not used:
each design makes its own, of patients inside sites. Everything that is learnt or chosen (references of a
normalisation, checkpoint, temperature, threshold, operating point) comes from the training sites' own cases, and a
file of a test case that is opened before its test stops that job. Patients and pictures that two sites share are
looked for first.

What it leaves in DIR:
  results.json, index.html   every figure, and the page; losses come first
  trials/ARM.json            what each network gave on each test case
  costs.json                 seconds of every job, and what was spent beside the trainings
  jobs/, tests/, cache/      trainings with their packages and logs, outcomes, and harmonised samples

exit status:
  0  every trial has its outcomes
  1  some were lost; all others are done, and the page names the lost ones with their reason
  2  the command, the spec, the table or the output folder is wrong
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "benchmark",
        help="compare ways to train on hospitals that were never seen",
        description="Trains every arm of a spec with sites held out, and tells what holds there. Research use only.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="what is compared, on which cases, and how")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of jobs and results")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="trainings at a time; each has its share of the processors (default: %(default)s)",
    )
    parser.add_argument(
        "--only", metavar="ARM/FOLD/SEED", help="these trials alone; FOLD is a site or SITE:NUMBER, * stands for any"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would be done, write nothing"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 or 1 (see the epilog); raises ImagingError for what is status 2."""
    from imaging.benchmark.spec import read_spec
    from imaging.benchmark.summary import refuse_endpoints

    if args.jobs < 1:
        raise ConfigError(f"--jobs: found {args.jobs}; allowed is 1 or more", Reason.CONFIG_INVALID)
    spec = read_spec(args.spec)
    refuse_endpoints(spec)
    try:
        return _with_crew(args, spec)
    except KeyboardInterrupt:
        _say("benchmark: stopped by Ctrl-C; the same line again goes on where it was")
        return 130


def _with_crew(args: argparse.Namespace, spec: BenchmarkSpec) -> int:
    from imaging.benchmark.run import locked, tasks_of
    from imaging.benchmark.schedule import Crew

    with Crew(args.jobs, work) as crew:
        if args.dry_run:
            plan = planned(args, spec, crew)
            tell_plan(plan, tasks_of(plan, args.out.resolve()), args.out, args.jobs)
            return 0
        with locked(args.out):
            return perform(args, spec, crew)


def planned(args: argparse.Namespace, spec: BenchmarkSpec, crew: Crew) -> Plan:
    """What is to be done, after every configuration and picture was looked at."""
    from imaging.benchmark.run import looked_at, make_plan

    out = args.out.resolve()
    return make_plan(
        spec,
        lambda cases, names: looked_at(out, names, lambda: crew.call(look_order(spec, cases))),
        args.only,
    )


def perform(args: argparse.Namespace, spec: BenchmarkSpec, crew: Crew) -> int:
    """All jobs, then the results."""
    from imaging.benchmark.run import tasks_of

    out, begin = args.out.resolve(), perf_counter()
    plan = planned(args, spec, crew)
    tasks = tasks_of(plan, out)
    tell_plan(plan, tasks, out, args.jobs)
    lost = work_off(tasks, crew, out, begin)
    return sum_up(plan, out, lost, crew) if args.only is None else told_apart(plan, lost)


def work_off(tasks: Sequence[QueuedJob], crew: Crew, out: Path, begin: float) -> dict[str, str]:
    """Every task once; the names of those that were lost, with why."""
    from imaging.benchmark.costs import CostAccount, images_of
    from imaging.benchmark.orders import TrainingOrder

    shown = {t.name: images_of(t.order) if isinstance(t.order, TrainingOrder) else len(t.order.cases) for t in tasks}
    account, left, lost = CostAccount(out, len(tasks), crew.count, _say, begin), sum(shown.values()), {}
    whole = max(left, 1.0)
    for ended in crew.run(tasks):
        left -= shown[ended.task.name]
        account.hear(ended, left / whole)
        if ended.lost:
            lost[ended.task.name] = ended.lost
    if tasks:
        account.write()
    return lost


def tell_plan(plan: Plan, tasks: Sequence[QueuedJob], out: Path, jobs: int) -> None:
    """What will be done, before it is."""
    from imaging.benchmark.costs import estimate
    from imaging.benchmark.designs import trainings_of

    spec, cohort = plan.spec, plan.cohort
    for remark in plan.remarks:
        print(f"benchmark: {remark}", file=sys.stderr)
    sites = (f"{site} ({len(cohort.at(site))} patients)" for site in cohort.sites)
    print(f"{spec.name}: {len(cohort.cases)} cases of {', '.join(sites)}")
    print(f"arms       {', '.join(arm.name for arm in spec.arms)}; compared with {spec.compared_with}")
    print(f"designs    {', '.join(design.kind for design in spec.designs)}; seeds {', '.join(map(str, spec.seeds))}")
    print(f"trials     {len(plan.trials)}")
    print(estimate(tasks, out, len(trainings_of(plan.trials)), len(cohort.cases)).as_table(jobs), flush=True)


def sum_up(plan: Plan, out: Path, lost: dict[str, str], crew: Crew) -> int:
    """trials/, results.json and the page; 1 where some trials were lost."""
    from imaging.benchmark import summary
    from imaging.benchmark.run import trials_of, write_trials

    trials = trials_of(plan, out, lost, summary.score_of(plan.spec))
    write_trials(out, trials)
    result = summary.write_results(plan, trials, out)
    order = summary.pictures_order(plan, result, trials, out)
    summary.write_page(result, out, crew.call(order) if order is not None else ())
    n_lost = sum(bool(trial.lost) for trial in trials)
    print(f"trials     {len(trials)}, {n_lost} of them lost")
    print(f"results    {out / 'results.json'}\npage       {out / 'index.html'}")
    return 1 if n_lost else 0


def told_apart(plan: Plan, lost: dict[str, str]) -> int:
    """Of some trials alone: how many were done, and that nothing was summed up; 1 where some were lost."""
    print(f"trials     {len(plan.trials)}, {len(lost)} jobs of them lost; the line without --only sums all of them up")
    return 1 if lost else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def look_order(spec: BenchmarkSpec, cases: Sequence[Case]) -> LookOrder:
    from imaging.benchmark.orders import LookOrder
    from imaging.benchmark.spec import configuration

    configs = {arm.name: configuration(spec, arm) for arm in spec.arms}
    return LookOrder(tuple(cases), configs, Path(spec.manifest))


def work(order: Any) -> Any:
    """What one order comes to, in a worker; what it prints stands in the log of its job."""
    from imaging.benchmark.orders import HeldOutOrder, LookOrder, PicturesOrder, TrainingOrder

    if isinstance(order, LookOrder):
        return _look(order)
    from imaging.benchmark.jobs import Places
    from imaging.benchmark.training import draw, run_test, run_training

    if isinstance(order, PicturesOrder):
        return draw(order)
    assert isinstance(order, TrainingOrder | HeldOutOrder)
    place = Places(order.out)
    log = place.log(order.identity)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream, redirect_stdout(stream), redirect_stderr(stream):
        try:
            if isinstance(order, TrainingOrder):
                return run_training(order, fit)
            return run_test(order, _device(order.is_on_cpu))
        except ImagingError:
            raise
        except Exception as error:
            import traceback

            traceback.print_exc()
            told = f"{type(error).__name__}; {log.relative_to(order.out)} has the whole of it"
            raise ConfigError(told, Reason.WORKER_FAILED) from error


def _device(is_on_cpu: bool) -> str:
    import torch

    return "cuda" if not is_on_cpu and torch.cuda.is_available() else "cpu"


def _look(order: LookOrder) -> Seen:
    """Every arm's configuration tried, then every picture looked at with the first arm's recipe."""
    from tempfile import TemporaryDirectory

    import yaml

    from imaging.benchmark.look import look_at
    from imaging.benchmark.spec import merged
    from imaging.commands.train import check
    from imaging.packaging import trained_recipe

    with TemporaryDirectory() as folder:
        for name, config in order.configs.items():
            path = Path(folder) / "config.yaml"
            path.write_text(
                yaml.safe_dump(merged(config, {"data": {"manifest": str(order.manifest)}})), encoding="utf-8"
            )
            try:
                check(["fit", f"--config={path}", f"--run={Path(folder) / 'run'}"])
            except ImagingError as error:
                raise ConfigError(f"arm '{name}': {error}", error.reason) from error
    return look_at(order.cases, trained_recipe(next(iter(order.configs.values()))))


def fit(words: Sequence[str]) -> int:
    """`train.py` with these words; how many pictures it decoded. Raises its ImagingError."""
    from imaging.commands.train import main

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            return int(main(list(words)).datamodule.decoded)
    except SystemExit as stop:
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, ImagingError):
            cause = cause.__cause__ or cause.__context__
        raise cause or ConfigError(f"train.py: ended with status {stop.code}", Reason.CONFIG_INVALID) from stop
