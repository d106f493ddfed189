"""Disposable workers: a death, a hang or a lack of memory costs one item, in order, and leaves no process behind."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.errors import ConfigError, InputError, Reason, WorkerError
from imaging.workers import Worker, WorkerLimits, Workers

# Long enough for an answer on a busy machine; what hangs takes all of it.
QUICK = WorkerLimits(memory_bytes=1 << 30, seconds=5.0)


def act(what: str) -> str:
    """A task that does to its process what hostile input does to a parser."""
    if what == "segfault":
        ctypes.string_at(0)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        time.sleep(3600)
    if what == "memory":
        return str(len(bytearray(4 << 30)))
    if what == "refused":
        raise InputError("element (0028,0010): found 0", Reason.UNSUPPORTED_PIXELS)
    if what == "raise":
        raise ValueError("Doe^Jane")
    return what


def count_up(most: int) -> Iterator[np.ndarray]:
    for number in range(most):
        yield np.full((64, 64), number)


def half_way(most: int) -> Iterator[int]:
    yield from range(most)
    os._exit(1)


def pid() -> int:
    return os.getpid()


_kept: list[int] = []


def remember(number: int) -> int:
    _kept.append(number)
    return len(_kept)


def big(megabytes: int) -> np.ndarray:
    return np.ones((megabytes, 1 << 20), np.uint8)


def told(outcome: Any) -> Any:
    return outcome.reason if hasattr(outcome, "reason") else outcome


BAD = {
    "segfault": Reason.WORKER_DIED,
    "killed": Reason.WORKER_DIED,
    "exit": Reason.WORKER_DIED,
    "hang": Reason.WORKER_TIMED_OUT,
    "memory": Reason.WORKER_MEMORY,
    "refused": Reason.UNSUPPORTED_PIXELS,
    "raise": Reason.WORKER_FAILED,
}


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_each_bad_item_costs_itself_and_the_order_stays(batch: int) -> None:
    items = [f"good {n}" for n in range(20)]
    for place, what in enumerate(BAD):
        items.insert(3 * place + 1, what)
    with Workers(2, QUICK) as workers:
        outcomes = [told(o) for o in workers.map(act, ((item,) for item in items), batch)]
    assert outcomes == [BAD.get(item, item) for item in items]


def test_neighbouring_and_last_items_may_all_be_bad() -> None:
    items = ["segfault", "exit", "good", "killed", "segfault"]
    with Workers(1, QUICK) as workers:
        outcomes = [told(o) for o in workers.map(act, ((item,) for item in items), 5)]
    assert outcomes == [BAD.get(item, item) for item in items]


def test_the_message_of_a_foreign_error_stays_in_the_worker() -> None:
    with Worker(QUICK) as worker, pytest.raises(WorkerError, match="ValueError") as raised:
        worker.call(act, "raise")
    assert "Doe" not in str(raised.value)


def test_parts_of_a_stream_come_in_order_and_a_death_keeps_what_came() -> None:
    with Workers(2, QUICK) as workers:
        got = [(n, int(part[0, 0])) for n, part in workers.stream(count_up, [(30,), (0,), (20,)])]
        assert got == [(0, n) for n in range(30)] + [(2, n) for n in range(20)]
        died = [(n, told(part)) for n, part in workers.stream(half_way, [(2,), (0,)])]
        assert died == [(0, 0), (0, 1), (0, Reason.WORKER_DIED), (1, Reason.WORKER_DIED)]


def test_a_worker_keeps_its_state_until_it_dies() -> None:
    with Worker(QUICK) as worker:
        assert [worker.call(remember, n) for n in range(3)] == [1, 2, 3]
        with pytest.raises(WorkerError):
            worker.call(act, "segfault")
        assert worker.call(remember, 0) == 1
        assert [int(a[0, 0]) for a in worker.stream(count_up, 3)] == [0, 1, 2]
        assert worker.call(act, "fine") == "fine"


def test_an_abandoned_stream_does_not_speak_into_the_next_call() -> None:
    with Worker(QUICK) as worker:
        parts = worker.stream(count_up, 10)
        next(parts)
        parts.close()
        assert worker.call(act, "fine") == "fine"


def test_large_arrays_travel_whole() -> None:
    with Worker(WorkerLimits(seconds=20)) as worker:
        array = worker.call(big, 100)
        assert array.shape == (100, 1 << 20)
        assert array.min() == array.max() == 1
        assert worker.call(np.sum, array) == 100 << 20


def test_many_items_need_flat_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Workers(2, QUICK) as workers:
        total = sum(len(text) for text in workers.map(act, (("x" * 1000,) for _ in range(20_000)), 50))
    assert total == 20_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(numbers: list[int], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while any(alive(n) for n in numbers) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(alive(n) for n in numbers)


def test_an_exception_in_the_loop_leaves_no_process() -> None:
    pids = []
    with pytest.raises(KeyboardInterrupt), Workers(2, QUICK) as workers:  # noqa: PT012 - the loop is what is interrupted
        for number in workers.map(pid, [()] * 100):
            pids.append(number)
            if len(pids) == 10:
                raise KeyboardInterrupt
    assert gone(pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_even_when_they_hang(number: int) -> None:
    code = """
        import os, sys, threading, time
        from imaging.workers import Worker, WorkerLimits
        worker = Worker(WorkerLimits(seconds=600))
        print(worker.call(os.getpid), worker.call(os.getppid), flush=True)
        worker.call(time.sleep, 600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    assert gone(pids)


def test_a_fork_server_that_cannot_import_says_so() -> None:
    with (
        Worker(QUICK, preload=["imaging.no_such_module"]) as worker,
        pytest.raises(WorkerError, match="no_such_module"),
    ):
        worker.call(act, "x")


@pytest.mark.parametrize("kind", [Worker, lambda: Workers(2)], ids=["one", "several"])
@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_is_named_before_a_worker_starts(
    kind: Callable[[], object], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(ConfigError, match=f"operating system: found {system}; allowed is linux") as refused:
        kind()
    assert refused.value.reason is Reason.CONFIG_INVALID


def test_commands_can_be_asked_where_the_system_lacks_these_modules() -> None:
    """Without fcntl and resource, as on Windows, the commands load, and a run ends with the sentence above."""
    code = """
        import sys, tempfile
        import highdicom, jsonargparse, scipy.ndimage, sqlite3, tqdm, yaml  # these look at the system themselves
        sys.modules["fcntl"] = sys.modules["resource"] = None
        sys.platform = "win32"
        from imaging.commands import main
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(main(["infer", "data_samples/pacs_export", "--out", folder]))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert "imaging: operating system: found win32; allowed is linux" in ran.stderr
