"""How every job stands: by its ledger, and by what SLURM's queue says of the tasks that were sent for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from imaging.cluster.jobs import LAST, CommandLine, Job, JobList
from imaging.cluster.ledger import ASKED, KILLED, Event, JobLedger
from imaging.cluster.slurm import queue
from imaging.errors import OutputError, Reason

State = Literal["new", "waiting", "running", "done", "failed"]
_SENT: Final = "sent.jsonl"
_WAITS: Final = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED")
_RUNS: Final = ("RUNNING", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING")


@dataclass(frozen=True, slots=True)
class Sent:
    """An array that was sent: its number, and the numbers of the jobs in it."""

    array: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One job: `tries` counts how often the line was begun that was begun most often; `why` says what it waits for, or
    what ended it, with the last line of its log."""

    name: str
    state: State
    tries: int
    why: str = ""


def tell_sent(folder: Path, sent: Sent) -> None:
    """Keep that it was sent. Raises OutputError."""
    try:
        with (folder / _SENT).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(sent)) + "\n")
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def standings(jobs: JobList) -> list[Standing]:
    """Every job in its order, then the lines at the end, if there are any."""
    told = _sent(jobs.folder)
    known = queue([sent.array for sent in told])
    found = [_standing(jobs, job, _task(told, number), known) for number, job in enumerate(jobs.jobs)]
    if jobs.last:
        found.append(_standing(jobs, Job(LAST, jobs.last), None, known))
    return found


def _sent(folder: Path) -> list[Sent]:
    path = folder / _SENT
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Sent(told["array"], tuple(told["numbers"])) for told in map(json.loads, lines)]


def _task(told: Sequence[Sent], number: int) -> str | None:
    """The last task that was sent for a job."""
    return next((f"{sent.array}_{number}" for sent in reversed(told) if number in sent.numbers), None)


def _standing(jobs: JobList, job: Job, task: str | None, known: Mapping[str, tuple[str, str]]) -> Standing:
    folder = jobs.place(job.name)
    events, done = list(JobLedger(folder)), JobLedger(folder).done()
    tries = max(Counter(event.line for event in events if event.kind == "begun").values(), default=0)
    queued, reason = known.get(task or "", ("", ""))
    if done >= set(range(len(job.lines))):
        return Standing(job.name, "done", tries)
    if queued in _WAITS:
        return Standing(job.name, "waiting", tries, f"{task}: {reason}")
    if queued in _RUNS or _is_held(folder):
        return Standing(job.name, "running", tries, task or "here")
    last = next((event for event in reversed(events) if event.kind != "back"), None)
    if last is None and task is None:
        return Standing(job.name, "new", tries)
    return Standing(job.name, "failed", tries, _why(last, job.lines, queued, jobs.log(job.name)))


def _is_held(folder: Path) -> bool:
    """Whether a process of this computer runs the job."""
    import fcntl  # of Unix alone, and only where jobs run

    lock = folder / "lock"
    if not lock.is_file():
        return False
    with lock.open("r+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _why(last: Event | None, lines: Sequence[CommandLine], queued: str, log: Path) -> str:
    said = f", SLURM says {queued}" if queued else ""
    if last is None:
        return f"ended before its first line{said}; see the log of SLURM"
    where = "" if len(lines) == 1 else f"line {last.line + 1} of {len(lines)} "
    if last.kind == "begun":
        told = f"{where}ended without a word: killed with its node, or by SLURM{said}"
    elif last.kind == "done":
        told = f"line {last.line + 1} of {len(lines)} was done, the next was not begun{said}"
    elif last.status in ASKED:
        told = f"{where}was asked to end and kept its state{said}"
    elif last.status == KILLED:
        told = f"{where}was killed: too little memory, or a person{said}"
    else:
        told = f"{where}ended with status {last.status}"
    return f"{told}{_last_words(log)}"


def _last_words(log: Path) -> str:
    """The last line that says something."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("srun:", "slurmstepd"))]
    return f": {lines[-1].strip()}" if lines else ""
