"""Disposable processes: what crashes, hangs or eats memory on one input costs that input and nothing else.

    with Workers(2, WorkerLimits(seconds=10), preload=["imaging.dicom.index"]) as workers:
        for outcome in workers.map(scan, ((path,) for path in paths), batch=32): ...

A function is given as an importable top-level callable, and must give the same answer when it is called again: an
item whose worker died is tried once more, alone in a fresh process, before it is called the culprit. An outcome is
what the function returned, or the ImagingError that the item cost (a WorkerError for deaths, time and memory).

Limits of this fence. It holds against crashes, hangs and memory, not against code that runs: a worker has the rights
of its user. The memory limit is address space (RLIMIT_AS): torch and CUDA need `memory_bytes=None`. The time limit is
wall time per result. A worker prints nowhere and writes no core file, because both would hold patient data.
What is preloaded must not start threads, because workers are forked from it: torch is imported by the function itself.
An object belongs to one thread. Arrays travel by pipe as raw buffers, at about 1 GB/s. Linux only: on another system
neither class can be made (ConfigError).
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Self

from imaging.errors import ConfigError, ImagingError, Reason, ReasonCode, WorkerError
from imaging.fork_server import Channel

if sys.platform != "win32":
    import fcntl

_BIRTH = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from imaging.fork_server import main; main()"
_PIPE_BYTES = 1 << 20
_START_SECONDS = 120.0
# Parts that wait for their turn, per item of a stream; then its worker waits too.
_PARTS_AHEAD = 4


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker may use."""

    memory_bytes: int | None = 2 << 30
    """Address space, with the imported libraries (about 0.4 GiB for pydicom and its decoders). None: no limit."""
    seconds: float = 60.0
    """Wall time until the next result. The worker is killed when it has passed."""
    threads: int | None = 1
    """Threads of numerical libraries (OpenMP, OpenBLAS, MKL). None: theirs to choose."""


class Worker:
    """One process that keeps its state between calls; one that died is replaced, without state, at the next call."""

    def __init__(self, limits: WorkerLimits | None = None, preload: Sequence[str] = ()) -> None:
        self._limits = limits or WorkerLimits()
        self._fork_server = _ForkServer(self._limits, preload)
        self._process: _Process | None = None

    def call(self, function: Callable[..., Any], *args: Any, seconds: float | None = None) -> Any:
        """What `function(*args)` returns there. Raises its ImagingError, or a WorkerError with a reason code."""
        kind, value = self._first(function, args, seconds or self._limits.seconds)
        if kind != "last":
            self._end()
            raise WorkerError(f"{function.__name__}: gave an iterator; use stream", Reason.WORKER_FAILED)
        return value

    def stream(self, function: Callable[..., Any], *args: Any, seconds: float | None = None) -> Iterator[Any]:
        """Each result of an iterator-like function as it comes; it waits there while nobody asks. Raises as `call`."""
        allowed = seconds or self._limits.seconds
        kind, value = self._first(function, args, allowed)
        try:
            while kind == "part":
                yield value
                kind, value = self._next(allowed)
        finally:
            if kind == "part":
                self._end()  # The caller stopped listening half-way.
        if kind == "last":
            yield value

    def close(self) -> None:
        self._end()
        self._fork_server.close()

    def abort(self) -> None:
        """End the process, also under a call of another thread, which then ends with WORKER_DIED."""
        self._fork_server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _first(self, function: Callable[..., Any], args: tuple[Any, ...], seconds: float) -> tuple[str, Any]:
        if self._process is None:
            self._process = self._fork_server.fork()
        try:
            self._process.give(function, [(0, args)], time.monotonic() + seconds)
        except EOFError:
            self._end()  # It died while idle, which is no fault of this call.
            self._process = self._fork_server.fork()
            self._process.give(function, [(0, args)], time.monotonic() + seconds)
        except BaseException:
            self._end()
            raise
        return self._next(seconds)

    def _next(self, seconds: float) -> tuple[str, Any]:
        assert self._process is not None
        try:
            _, kind, value = self._process.take(time.monotonic() + seconds)
        except BaseException:
            self._end()
            raise
        if kind == "memory":
            self._end()
        if kind in ("memory", "error"):
            raise _as_error(kind, value)
        return kind, value

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class Workers:
    """`count` processes under the same limits. `map` and `stream` keep a bounded number of items in flight."""

    def __init__(self, count: int, limits: WorkerLimits | None = None, preload: Sequence[str] = ()) -> None:
        self.limits = limits or WorkerLimits()
        self._fork_server = _ForkServer(self.limits, preload)
        self._slots = [_Slot() for _ in range(max(1, count))]

    def map(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]], batch: int = 1) -> Iterator[Any]:
        """One outcome per item (the arguments of one call), in the order of the items."""
        for _, outcome in self.stream(function, items, batch):
            yield outcome

    def stream(
        self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]], batch: int = 1
    ) -> Iterator[tuple[int, Any]]:
        """(item number, result) in the order of the items; an iterator-like function gives any number of results.

        An item that fails half-way ends with its error; what it gave before stands.
        """
        job = _Job(function, enumerate(items), batch, ahead=2 * batch * len(self._slots))
        try:
            while not job.is_done():
                self._dispatch(job)
                self._collect(job)
                yield from job.ready()
        finally:
            for slot in self._slots:
                if slot.tasks:
                    slot.clear()

    def start(self) -> None:
        """Start all processes now, rather than each at the first item that is given to it."""
        for slot in self._slots:
            slot.process = slot.process or self._fork_server.fork()

    def close(self) -> None:
        for slot in self._slots:
            slot.clear()
        self._fork_server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _dispatch(self, job: _Job) -> None:
        for slot in self._slots:
            if slot.tasks:
                continue
            tasks, alone = job.draw()
            if not tasks:
                return
            if alone and slot.process is not None and slot.process.used:
                slot.clear()
            if slot.process is None:
                slot.process = self._fork_server.fork()
            slot.tasks.extend(tasks)
            slot.deadline = time.monotonic() + self.limits.seconds
            with contextlib.suppress(EOFError):  # Its death is seen, and judged, when the answer is awaited.
                slot.process.give(job.function, list(tasks), slot.deadline)

    def _collect(self, job: _Job) -> None:
        """Take what has come, waiting until something has or a time limit passes."""
        busy = [slot for slot in self._slots if slot.tasks]
        with selectors.DefaultSelector() as selector:
            for slot in busy:
                assert slot.process is not None
                if job.may_hear(slot.tasks[0][0]):
                    selector.register(slot.process.channel.reading, selectors.EVENT_READ, slot)
                else:
                    slot.deadline = time.monotonic() + self.limits.seconds
            heard = [key.data for key in selector.get_map().values()]
            if not heard:
                return
            patience = max(0.0, min(slot.deadline for slot in heard) - time.monotonic())
            ready = [key.data for key, _ in selector.select(patience)]
        for slot in ready:
            self._hear(slot, job)
        for slot in heard:
            if slot not in ready and slot.deadline <= time.monotonic():
                job.fail(slot, Reason.WORKER_TIMED_OUT)

    def _hear(self, slot: _Slot, job: _Job) -> None:
        assert slot.process is not None
        try:
            number, kind, value = slot.process.take(time.monotonic() + self.limits.seconds)
        except WorkerError as error:
            job.fail(slot, error.reason)
            return
        if kind == "memory":
            job.fail(slot, Reason.WORKER_MEMORY)
            return
        slot.deadline = time.monotonic() + self.limits.seconds
        job.hear(number, kind, value)
        if kind != "part":
            slot.tasks.popleft()
            slot.process.used = True


Task = tuple[int, tuple[Any, ...]]


@dataclass(eq=False)
class _Slot:
    """The place of one process in the pool: the process, and the tasks it was given, the current one first."""

    process: _Process | None = None
    tasks: deque[Task] = field(default_factory=deque)
    deadline: float = 0.0

    def clear(self) -> None:
        self.tasks.clear()
        if self.process is not None:
            self.process.end()
            self.process = None


class _Job:
    """The state of one map: what is still to do, what waits for its turn, and who is suspected."""

    def __init__(
        self, function: Callable[..., Any], items: Iterator[tuple[int, tuple[Any, ...]]], batch: int, ahead: int
    ) -> None:
        self.function = function
        self._items = items
        self._batch = batch
        self._ahead = ahead
        self._again: deque[tuple[list[Task], bool]] = deque()
        self._waiting: dict[int, deque[Any]] = {}
        self._finished: set[int] = set()
        self._heard: dict[int, int] = {}
        self._skip: dict[int, int] = {}
        self._suspected: set[int] = set()
        self._head = 0
        self._drawn = 0
        self._is_drawn_out = False

    def is_done(self) -> bool:
        return self._is_drawn_out and self._head == self._drawn

    def draw(self) -> tuple[list[Task], bool]:
        """The next tasks, and whether they want a fresh process; none while enough is in flight."""
        if self._again:
            return self._again.popleft()
        if self._is_drawn_out or self._drawn - self._head > self._ahead - self._batch:
            return [], False
        tasks = list(islice(self._items, self._batch))
        self._is_drawn_out = len(tasks) < self._batch
        self._drawn += len(tasks)
        self._waiting.update((number, deque()) for number, _ in tasks)
        return tasks, False

    def may_hear(self, number: int) -> bool:
        return number == self._head or len(self._waiting[number]) < _PARTS_AHEAD

    def hear(self, number: int, kind: str, value: Any) -> None:
        if kind == "part":
            if self._skip.get(number, 0):
                self._skip[number] -= 1
                return
            self._heard[number] = self._heard.get(number, 0) + 1
        if kind != "end":
            self._waiting[number].append(_as_error(kind, value) if kind == "error" else value)
        if kind != "part":
            self._finish(number)

    def fail(self, slot: _Slot, reason: ReasonCode) -> None:
        """The process of `slot` is lost over its current task: that one is tried alone, or judged; the rest go on.

        A hang is judged at once. A death or a lack of memory may be the work of an earlier item, or of whoever else
        kills processes on this machine, so it is judged only when it happens again alone in a fresh process.
        """
        assert slot.process is not None
        (number, args), *rest = slot.tasks
        is_judged = reason is Reason.WORKER_TIMED_OUT or number in self._suspected
        slot.clear()
        if rest:
            self._again.append((rest, False))
        if is_judged:
            self._waiting[number].append(WorkerError(reason.meaning, reason))
            self._finish(number)
        else:
            self._suspected.add(number)
            self._skip[number] = self._heard.get(number, 0)
            self._again.appendleft(([(number, args)], True))

    def ready(self) -> Iterator[tuple[int, Any]]:
        """What can be given out now in the order of the items."""
        while self._head in self._waiting:
            parts = self._waiting[self._head]
            while parts:
                yield self._head, parts.popleft()
            if self._head not in self._finished:
                return
            self._finished.discard(self._head)
            del self._waiting[self._head]
            self._head += 1

    def _finish(self, number: int) -> None:
        self._finished.add(number)
        self._suspected.discard(number)
        self._heard.pop(number, None)
        self._skip.pop(number, None)


def _as_error(kind: str, value: Any) -> ImagingError:
    if kind == "memory":
        return WorkerError(Reason.WORKER_MEMORY.meaning, Reason.WORKER_MEMORY)
    if isinstance(value, ImagingError):
        return value
    return WorkerError(f"{Reason.WORKER_FAILED.meaning} ({value})", Reason.WORKER_FAILED)


class _Process:
    """The owner's end of one worker. `used` once it has answered: then a death may be an earlier item's doing."""

    def __init__(self, fork_server: _ForkServer, pid: int, channel: Channel) -> None:
        self._fork_server = fork_server
        self._pid = pid
        self.channel = channel
        self.used = False

    def give(self, function: Callable[..., Any], tasks: list[Task], deadline: float) -> None:
        try:
            self.channel.send((function, tasks), deadline)
        except TimeoutError as error:
            raise EOFError("it does not read") from error

    def take(self, deadline: float) -> tuple[int, str, Any]:
        """The next (task number, kind, value). Raises WorkerError when the process died or the deadline passed."""
        try:
            number, kind, value = self.channel.receive(deadline)
        except TimeoutError as error:
            raise WorkerError(Reason.WORKER_TIMED_OUT.meaning, Reason.WORKER_TIMED_OUT) from error
        except (EOFError, OSError, pickle.UnpicklingError, ValueError, TypeError) as error:
            raise WorkerError(Reason.WORKER_DIED.meaning, Reason.WORKER_DIED) from error
        return number, kind, value

    def end(self) -> None:
        self.channel.close()
        self._fork_server.end(self._pid)


class _ForkServer:
    """The owner's end of the process that forks workers; started at the first need, and again should it be lost."""

    def __init__(self, limits: WorkerLimits, preload: Sequence[str]) -> None:
        """Raises ConfigError on a system whose kernel cannot hold workers as this module promises."""
        if sys.platform != "linux":
            raise ConfigError(
                f"operating system: found {sys.platform}; allowed is linux, where files are read in processes that the "
                "kernel limits and ends. On another system run it in a Linux container or virtual machine",
                Reason.CONFIG_INVALID,
            )
        self._limits = limits
        self._preload = tuple(preload)
        self._socket: socket.socket | None = None
        self._started: subprocess.Popen[bytes] | None = None

    def fork(self) -> _Process:
        """A new worker. A fork server that is lost, even while it starts, is started once more.

        Raises WorkerError when that does not help.
        """
        try:
            return self._fork()
        except OSError:
            self.close()
        try:
            return self._fork()
        except OSError as error:
            self.close()
            raise WorkerError(f"helper processes cannot be started ({error})", Reason.WORKER_FAILED) from error

    def end(self, pid: int) -> None:
        """Kill a worker. When the fork server is gone, so are its workers."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self._ask({"end": pid}, [])

    def close(self) -> None:
        """Idle or busy, every worker ends with its fork server."""
        if self._socket is not None and self._started is not None:
            self._socket.close()
            self._started.wait()
        self._socket = self._started = None

    def _fork(self) -> _Process:
        if self._socket is None:
            self._start()
        inward, outward = os.pipe(), os.pipe()
        try:
            pid = self._ask({"memory_bytes": self._limits.memory_bytes}, [inward[0], outward[1]])
        except BaseException:
            os.close(inward[1])
            os.close(outward[0])
            raise
        finally:
            os.close(inward[0])
            os.close(outward[1])
        os.set_blocking(inward[1], False)
        with contextlib.suppress(OSError):  # More than the user's share of pipe memory: the usual size serves too.
            fcntl.fcntl(outward[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return _Process(self, pid, Channel(outward[0], inward[1]))

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        # Threads that wait asleep: on a machine with other work, spinning ones triple the time of a network.
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ)
        if self._limits.threads is not None:
            names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
            environment |= dict.fromkeys(names, str(self._limits.threads))
        path = json.dumps([os.path.abspath(folder) for folder in sys.path])  # noqa: PTH100 - import paths are strings
        with theirs:
            self._started = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _BIRTH, path, str(theirs.fileno()), *self._preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self._socket.settimeout(_START_SECONDS)
        if self._answer() != "ready":
            raise ConnectionError(f"importing {self._preload} failed")

    def _ask(self, order: dict[str, int | None], descriptors: list[int]) -> int:
        assert self._socket is not None
        socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
        return int(self._answer())

    def _answer(self) -> str:
        assert self._socket is not None
        said = self._socket.recv(64).decode().strip()
        if not said:
            raise ConnectionError(f"the process that starts them, with {self._preload} imported, is gone")
        return said
