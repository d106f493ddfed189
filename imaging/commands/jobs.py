"""`imaging jobs`: how the jobs of a folder stand, and what failed sent again; also what a task of the array runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from imaging.cluster.jobs import JobList, read_jobs
from imaging.cluster.running import run_here, run_task
from imaging.cluster.settings import read_cluster
from imaging.cluster.slurm import SCRIPT, send, this_task
from imaging.cluster.standing import Sent, standings, tell_sent
from imaging.errors import ConfigError, Reason

CLUSTER = "cluster.yaml"
EXAMPLES = """\
examples:
  imaging jobs runs/folds                     what runs, waits, is done, failed and why
  imaging jobs runs/folds --again             what failed, sent again
  imaging jobs runs/folds --again fold-3      one alone
  imaging jobs runs/folds --again --jobs 2    what failed, here and not on the cluster

exit status:
  0  nothing failed
  1  some job failed
  2  the command, the folder or the scheduler is wrong
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "jobs",
        help="what the jobs of `imaging submit` do, and send failed ones again",
        description="Each job of a folder: its state, its tries, and what it waits for or why it failed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder given to imaging submit")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--again", nargs="*", metavar="JOB", help="send these again, or all that failed")
    what.add_argument("--task", action="store_true", help="run the job of this task of an array: what job.sh says")
    what.add_argument("--pool", action="store_true", help="out-of-fold figures of finished jobs; the last one does it")
    parser.add_argument("--jobs", type=int, metavar="N", help="with --again: run here, N at once")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status (see the epilog); raises ImagingError for what is status 2."""
    jobs = read_jobs(args.folder)
    if args.task:
        task = this_task()
        if task is None:
            raise ConfigError("--task: found no task of an array; it is for job.sh", Reason.CONFIG_INVALID)
        return run_task(jobs, task, read_cluster(jobs.folder / CLUSTER).tries)
    if args.pool:
        from imaging.commands.pooling import pool

        return pool(jobs.folder)
    if args.again is not None:
        return start(jobs, _failed(jobs, args.again), args.jobs)
    return tell(jobs)


def tell(jobs: JobList) -> int:
    """Prints how every job stands; 1 where one failed."""
    found = standings(jobs)
    width = max(len(one.name) for one in found)
    for one in found:
        tries = f"{one.tries} tries" if one.tries > 1 else ""
        print(f"{one.name.ljust(width)}  {one.state:8} {tries:9} {one.why}".rstrip())
    return 1 if any(one.state == "failed" for one in found) else 0


def start(jobs: JobList, numbers: Sequence[int], here: int | None) -> int:
    """Run these jobs here, or send them as one array; the exit status."""
    if here is not None and here < 1:
        raise ConfigError(f"--jobs: found {here}; allowed are 1 or more", Reason.CONFIG_INVALID)
    if not numbers:
        print("nothing to send: every job is done, runs or waits")
        return tell(jobs)
    if here is not None:
        run_here(jobs, numbers, here)
        return tell(jobs)
    at_once = read_cluster(jobs.folder / CLUSTER).at_once
    array = send(jobs.folder / SCRIPT, numbers, at_once)
    tell_sent(jobs.folder, Sent(array, tuple(numbers)))
    print(f"array {array}: {len(numbers)} jobs; imaging jobs {jobs.folder} says how they stand")
    return 0


def unstarted(jobs: JobList) -> list[int]:
    """Jobs that were never sent, or failed."""
    found = standings(jobs)[: len(jobs.jobs)]
    return [number for number, one in enumerate(found) if one.state in ("new", "failed")]


def _failed(jobs: JobList, names: Sequence[str]) -> list[int]:
    """Numbers of the named jobs. Raises ConfigError for one that is done or under way."""
    open_numbers = unstarted(jobs)
    if not names:
        return open_numbers or _for_the_end(jobs)
    found = standings(jobs)
    for number in (numbers := jobs.named(names)):
        if number not in open_numbers:
            raise ConfigError(
                f"--again {jobs.jobs[number].name}: found it {found[number].state}; allowed is a failed one",
                Reason.CONFIG_INVALID,
            )
    return numbers


def _for_the_end(jobs: JobList) -> list[int]:
    """Where only the lines at the end failed, any job that is done brings them about."""
    found = standings(jobs)
    is_failed = len(found) > len(jobs.jobs) and found[-1].state in ("failed", "new")
    if is_failed and all(one.state == "done" for one in found[:-1]):
        print("all jobs are done; what comes after them is run again", file=sys.stderr)
        return [0]
    return []
