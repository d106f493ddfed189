"""What is to be done: jobs.json of a folder, written once. A job is command lines that may each be run again.

jobs.json           the jobs, and the lines that come when all of them are done
cluster.yaml        what each asks of the cluster
job.sh              the array, as it is sent
jobs/NAME/          ledger.jsonl and log.txt of a job, over all its tries, and what its lines make
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from imaging.errors import ConfigError, OutputError, Reason

JOBS: Final = "jobs.json"
LAST: Final = "last"  # the name under which the lines that come at the end are kept


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command.

    Args:
        words: Program and arguments.
        makes: File or folder that it makes and does not go on with: what was left of it by a line that was stopped is
            removed before it is run again. "" where the same line goes on by itself.
        is_parallel: Whether all processes of the job run it together.
        accepts: Statuses with which it has done its work.
    """

    words: tuple[str, ...]
    makes: str = ""
    is_parallel: bool = False
    accepts: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Job:
    """Lines that run one after the other, under a name that is a folder's."""

    name: str
    lines: tuple[CommandLine, ...]


@dataclass(frozen=True)
class JobList:
    """All jobs of a folder; their numbers are those of the array. `last` comes once, when all others are done."""

    folder: Path
    jobs: tuple[Job, ...]
    last: tuple[CommandLine, ...] = ()

    def named(self, names: Sequence[str]) -> list[int]:
        """Numbers of these jobs. Raises ConfigError for a name that none has."""
        numbers = {job.name: number for number, job in enumerate(self.jobs)}
        if unknown := [name for name in names if name not in numbers]:
            raise ConfigError(
                f"{self.folder / JOBS}: found no job '{unknown[0]}'; allowed are {', '.join(numbers)}",
                Reason.CONFIG_INVALID,
            )
        return [numbers[name] for name in names]

    def place(self, name: str) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / name

    def log(self, name: str) -> Path:
        return self.place(name) / "log.txt"


def write_jobs(jobs: JobList) -> None:
    """jobs.json, whole or not at all. Raises ConfigError where the folder has another list."""
    path = jobs.folder / JOBS
    text = json.dumps(
        {"jobs": [asdict(job) for job in jobs.jobs], "last": [asdict(line) for line in jobs.last]}, indent=1
    )
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"{path}: found other jobs; allowed are the same ones, to be sent again with `imaging jobs`, or a new "
            "folder",
            Reason.OUTPUT_IN_USE,
        )
    try:
        for job in jobs.jobs:
            jobs.place(job.name).mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def read_jobs(folder: Path) -> JobList:
    """Raises ConfigError where `imaging submit` made no jobs there."""
    path = folder / JOBS
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(Job(job["name"], _lines(job["lines"])) for job in told["jobs"])
        return JobList(folder.resolve(), jobs, _lines(told["last"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: {error}; allowed is a folder that `imaging submit` made", Reason.CONFIG_INVALID
        ) from error


def _lines(told: Sequence[dict[str, Any]]) -> tuple[CommandLine, ...]:
    return tuple(
        CommandLine(tuple(line["words"]), line["makes"], line["is_parallel"], tuple(line["accepts"])) for line in told
    )
