"""Running jobs: one of them, here or as a task of an array, and several at once on this computer.

A line that ends with the status of SIGTERM or SIGUSR1 has kept its state. As a task it is put back in the queue, unless
SLURM is ending the task itself: then a preemption or a requeue has put it there already, and who cancels means it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

from imaging.cluster.jobs import LAST, CommandLine, JobList
from imaging.cluster.ledger import ASKED, KILLED, Event, JobLedger
from imaging.cluster.slurm import ArrayTask, as_step, is_running, put_back
from imaging.errors import ImagingError, OutputError, Reason
from imaging.resources import processors

# What asks a process to end.
ASKING: Final = (signal.SIGTERM, signal.SIGUSR1)


class Children:
    """The processes that run now. Whoever is asked to end asks all of them, and begins no other."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._mutex = threading.RLock()  # a signal may come while this thread holds it
        self.asked = 0

    @contextmanager
    def holding(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """The child is one of them meanwhile."""
        with self._mutex:
            self._running.add(child)
            if self.asked:
                child.send_signal(self.asked)
        yield
        with self._mutex:
            self._running.discard(child)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals that ask this process to end are passed on; Ctrl-C reaches all from the terminal."""
        before = {number: signal.signal(number, self._tell) for number in ASKING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        del frame
        with self._mutex:
            self.asked = number
            for child in self._running:
                child.send_signal(number)


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs lines: this computer where `task` is None, else the task's steps. `threads` for each process, here."""

    task: ArrayTask | None = None
    threads: int | None = None
    children: Children = field(default_factory=Children)

    @property
    def by(self) -> str:
        return "here" if self.task is None else self.task.by

    def is_believed(self) -> bool:
        """Whether a good status counts: srun ends with 0 when a node is lost, and SLURM is ending the task then."""
        return self.task is None or is_running(self.task)

    def words(self, line: CommandLine) -> list[str]:
        return list(line.words) if self.task is None else as_step(line, self.task)


def run_task(jobs: JobList, task: ArrayTask, tries: int) -> int:
    """The job of this task; the status with which the task ends, 0 also where it was put back in the queue."""
    for number in ASKING:  # SLURM itself tells the steps what it tells the task, which waits for them
        signal.signal(number, _leave_it)
    status = run_job(jobs, task.number, Runner(task))
    ledger = JobLedger(jobs.place(jobs.jobs[task.number].name))
    is_owed = status in ASKED or (status == KILLED and ledger.died() <= tries)
    if not is_owed or not is_running(task):
        return status
    ledger.tell(Event("back", 0, task.by))
    put_back(task)
    return 0


def run_here(jobs: JobList, numbers: Sequence[int], count: int) -> dict[int, int]:
    """These jobs on this computer, `count` at once, each with its share of the processors; status by number."""
    runner = Runner(threads=max(1, processors().value // count))

    def run(number: int) -> int:
        if runner.children.asked:
            return 128 + runner.children.asked
        try:
            return run_job(jobs, number, runner)
        except ImagingError as error:
            with jobs.log(jobs.jobs[number].name).open("a", encoding="utf-8") as log:
                log.write(f"imaging: {error} [{error.reason}]\n")
            return 2

    with runner.children.listening(), ThreadPoolExecutor(count) as pool:
        return dict(zip(numbers, pool.map(run, numbers), strict=True))


def run_job(jobs: JobList, number: int, runner: Runner) -> int:
    """The lines of a job that are not done yet, then those at the end where this was the last job; the status.

    Raises OutputError where the same job is being run by another process.
    """
    job = jobs.jobs[number]
    status = _lines(jobs.place(job.name), job.lines, runner)
    if status == 0 and jobs.last and are_done(jobs):
        status = _lines(jobs.place(LAST), jobs.last, runner, is_waited_for=True)
    return status


def are_done(jobs: JobList) -> bool:
    """Whether every line of every job did its work."""
    return all(JobLedger(jobs.place(job.name)).done() >= set(range(len(job.lines))) for job in jobs.jobs)


def _lines(folder: Path, lines: Sequence[CommandLine], runner: Runner, is_waited_for: bool = False) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    ledger = JobLedger(folder)
    with _alone(folder, is_waited_for), (folder / "log.txt").open("ab") as log:
        for number, line in enumerate(lines):
            if number in ledger.done():
                continue
            _remove(line.makes)
            ledger.tell(Event("begun", number, runner.by))
            status = _call(runner, line, log)
            if status in line.accepts and not runner.is_believed():
                status = KILLED
            is_done = status in line.accepts
            ledger.tell(Event("done" if is_done else "ended", number, runner.by, status))
            if not is_done:
                return status
    return 0


def _remove(path: str) -> None:
    """What was left by a line that was stopped."""
    if path and Path(path).is_dir():
        shutil.rmtree(path)
    elif path:
        Path(path).unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path, is_waited_for: bool) -> Iterator[None]:
    """No other process runs this job meanwhile. The lock ends with its process, however that ends."""
    import fcntl  # of Unix alone, and only where jobs run

    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if is_waited_for else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise OutputError(
                f"{folder}: another process runs this job; allowed is one at a time", Reason.OUTPUT_IN_USE
            ) from error
        yield


def _call(runner: Runner, line: CommandLine, log: BinaryIO) -> int:
    """The status of a line, as a shell tells it. What it prints is added to the log."""
    own = {} if runner.threads is None else {"OMP_NUM_THREADS": str(runner.threads)}
    log.write(f"$ {' '.join(line.words)}  # {runner.by}\n".encode())
    log.flush()
    with (
        subprocess.Popen(  # noqa: S603 - the lines of jobs.json are commands
            runner.words(line), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **own}
        ) as child,
        runner.children.holding(child),
    ):
        status = child.wait()
    return status if status >= 0 else 128 - status


def _leave_it(number: int, frame: FrameType | None) -> None:
    """A handler, where the default would end this process before its step."""
