"""Tasks with what they wait for, over worker processes that keep their imports from one to the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from imaging.errors import ImagingError, Reason, WorkerError
from imaging.workers import Worker, WorkerLimits

_LONGEST_S = 20 * 24 * 3600.0  # poll(2) counts milliseconds in 32 bits


@dataclass(frozen=True, eq=False)
class QueuedJob:
    """One call in a worker.

    Args:
        name: Of this task, once.
        order: What the function is called with.
        needs: Names of tasks that must have succeeded before.
    """

    name: str
    order: Any
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Ended:
    """A task with what it gave, or why it gave nothing; `seconds` of wall time."""

    task: QueuedJob
    result: Any
    lost: str
    seconds: float


class Crew:
    """`count` workers, each with its share of this machine's processors."""

    def __init__(self, count: int, function: Callable[[Any], Any]) -> None:
        self.count = count
        self.threads = max(1, (len(os.sched_getaffinity(0))) // count)
        self._function = function
        self._workers: SimpleQueue[Worker] = SimpleQueue()
        self._all = [Worker(WorkerLimits(None, _LONGEST_S, self.threads)) for _ in range(count)]
        self._is_aborted = False
        for worker in self._all:
            self._workers.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._all:
            worker.close()

    def run(self, tasks: Sequence[QueuedJob]) -> Iterator[Ended]:
        """Each task as it ends. One that waits for a lost task is lost with it, and costs no other."""
        waiting = list(tasks)
        lost: dict[str, str] = {}
        unfinished = {task.name for task in tasks}
        running: set[Future[Ended]] = set()
        pool = ThreadPoolExecutor(self.count)
        try:
            while waiting or running:
                while task := next((task for task in waiting if not lost.keys().isdisjoint(task.needs)), None):
                    waiting.remove(task)
                    unfinished.discard(task.name)
                    lost[task.name] = next(lost[name] for name in task.needs if name in lost)
                    yield Ended(task, None, lost[task.name], 0.0)
                ready = [task for task in waiting if not unfinished & set(task.needs)]
                for task in ready[: self.count - len(running)]:
                    waiting.remove(task)
                    running.add(pool.submit(self._call, task))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    ended = future.result()
                    unfinished.discard(ended.task.name)
                    if ended.lost:
                        lost[ended.task.name] = ended.lost
                    yield ended
        except BaseException:
            self._is_aborted = True
            for worker in self._all:
                worker.abort()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def call(self, order: Any) -> Any:
        """One call outside of all tasks. Raises its ImagingError."""
        worker = self._workers.get()
        try:
            return worker.call(self._function, order)
        finally:
            self._workers.put(worker)

    def _call(self, task: QueuedJob) -> Ended:
        """A worker that died is tried once more: what it was at goes on where it was."""
        begin, result, lost = perf_counter(), None, ""
        for is_last in (False, True):
            try:
                result, lost = self.call(task.order), ""
                break
            except WorkerError as error:
                lost = _reason(error)
                if is_last or self._is_aborted or error.reason is not Reason.WORKER_DIED:
                    break
            except ImagingError as error:
                lost = _reason(error)
                break
        return Ended(task, result, lost, perf_counter() - begin)


def _reason(error: ImagingError) -> str:
    return f"{error} [{error.reason}]"
