"""SLURM: the script of an array, what the queue says of it, and the task that this process is.

Plain sbatch: a script that an administrator can read, with nothing pickled in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.cluster.jobs import CommandLine
from imaging.cluster.settings import Cluster
from imaging.errors import ConfigError, OutputError, Reason

SCRIPT: Final = "job.sh"
_ASKED_S: Final = 60.0  # for an answer of the scheduler


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """The task of an array that this process is.

    Args:
        name: As SLURM writes it, `12_3`.
        number: Of the job in its list.
        again: How often it was put back in the queue.
        cpus: Of each process.
    """

    name: str
    number: int
    again: int
    cpus: int

    @property
    def by(self) -> str:
        """Who runs the job, for the ledger."""
        return f"{self.name} try {self.again + 1}"


def this_task(environment: Mapping[str, str] = os.environ) -> ArrayTask | None:
    """None outside of an array."""
    array, number = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    if array is None or number is None:
        return None
    again = int(environment.get("SLURM_RESTART_COUNT", "0"))
    return ArrayTask(f"{array}_{number}", int(number), again, int(environment.get("SLURM_CPUS_PER_TASK", "1")))


def as_step(line: CommandLine, task: ArrayTask) -> list[str]:
    """A line of a job as a step of the task: what it prints stays in one place, and a lost process ends the others."""
    count = [] if line.is_parallel else ["--nodes=1", "--ntasks=1", "--exact"]
    # Since 22.05 srun does not take the processors of a process from sbatch.
    return ["srun", "--kill-on-bad-exit=1", "--unbuffered", f"--cpus-per-task={task.cpus}", *count, *line.words]


def script(folder: Path, name: str, cluster: Cluster) -> str:
    """The script of an array over all jobs of the folder; which of them, sbatch is told when it is sent."""
    told = {
        "job-name": name,
        "partition": cluster.partition,
        "time": cluster.time,
        "nodes": cluster.nodes,
        "ntasks-per-node": cluster.per_node,
        "cpus-per-task": cluster.cpus,
        "gpus-per-node": cluster.gpus or None,
        "mem": None if cluster.memory_mb is None else f"{cluster.memory_mb}M",
        "signal": f"USR1@{cluster.notice_s}",
        "open-mode": "append",
        "output": folder / "slurm-%A_%a.log",
    }
    options = [f"--{key}={value}" for key, value in told.items() if value is not None]
    lines = [f"#SBATCH {option}" for option in (*options, "--requeue", *cluster.options)]
    again = [sys.executable, "-m", "imaging", "jobs", str(folder), "--task"]
    # Not -u: what sites load here reads variables that are not set.
    head = ("#!/bin/bash", *lines, "set -e", f"cd {shlex.quote(str(Path.cwd()))}")
    return "\n".join((*head, *cluster.setup, f"exec {shlex.join(again)}", ""))


def send(path: Path, numbers: Sequence[int], at_once: int | None) -> str:
    """Send the script as an array of these numbers; the array's number. Raises ConfigError where SLURM refuses."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "sbatch: not found; allowed is a computer of the cluster, or --jobs N to run here", Reason.CONFIG_INVALID
        )
    most = "" if at_once is None else f"%{at_once}"
    return _ask("sbatch", "--parsable", f"--array={','.join(map(str, numbers))}{most}", str(path)).partition(";")[0]


def queue(arrays: Sequence[str]) -> dict[str, tuple[str, str]]:
    """State and reason of every task of the arrays that SLURM still knows, by its name `12_3`.

    Raises OutputError where the scheduler does not answer: what is not known is not told as nothing.
    """
    if not arrays:
        return {}
    form = ("--noheader", "--array", "--states=all", "--format=%i|%T|%r")
    # An array that SLURM has forgotten is an error where it is asked for alone.
    lines = _ask("squeue", *form, f"--jobs={','.join(arrays)}", forgives="Invalid job id").splitlines()
    told = (line.strip().split("|") for line in lines)
    return {name: (state, reason) for name, state, reason in told}


def is_running(task: ArrayTask) -> bool:
    """Whether SLURM counts the task as running, and not as one that it is ending itself."""
    return queue([task.name]).get(task.name, ("", ""))[0] == "RUNNING"


def put_back(task: ArrayTask) -> None:
    """Put the task, whose state is on disk, back in the queue. Raises OutputError where SLURM refuses."""
    _ask("scontrol", "requeue", task.name)


def _ask(*words: str, forgives: str | None = None) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_ASKED_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutputError(f"{words[0]}: {error}; allowed is a scheduler that answers", Reason.OUTPUT_FAILED) from error
    if done.returncode and not (forgives and forgives in done.stderr):
        told = " ".join(done.stderr.split())
        raise OutputError(f"{' '.join(words[:2])}: SLURM says: {told}", Reason.OUTPUT_FAILED)
    return done.stdout.strip()
