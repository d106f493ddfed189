"""Jobs over workers: what waits for what, what a lost job costs, a worker that dies, and an end from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imaging.benchmark.schedule import Crew, Ended, QueuedJob
from imaging.errors import ConfigError, Reason
from tests.conftest import REPOSITORY


@dataclass(frozen=True)
class Errand:
    """What a worker is to do: `wait`, `refuse`, or `die` as often as the file says."""

    kind: str
    path: Path | None = None


def do(errand: Errand) -> tuple[int, int]:
    """The process, and how often it was asked."""
    do.count = getattr(do, "count", 0) + 1  # type: ignore[attr-defined]
    if errand.kind == "refuse":
        raise ConfigError("x: found 1; allowed is 2", Reason.CONFIG_INVALID)
    if errand.kind == "die" and errand.path is not None and errand.path.read_text(encoding="utf-8"):
        errand.path.write_text(errand.path.read_text(encoding="utf-8")[1:], encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    if errand.kind == "wait":
        time.sleep(60)
    return os.getpid(), do.count  # type: ignore[attr-defined]


@pytest.fixture
def crew() -> Iterator[Crew]:
    with Crew(2, do) as crew:
        yield crew


def ended(crew: Crew, *jobs: QueuedJob) -> dict[str, Ended]:
    return {one.task.name: one for one in crew.run(jobs)}


def test_processes_are_kept_from_job_to_job(crew: Crew) -> None:
    found = ended(crew, *(QueuedJob(str(number), Errand("plain")) for number in range(6)))
    assert len({one.result[0] for one in found.values()}) <= 2
    assert sum(one.result[1] == 1 for one in found.values()) <= 2
    assert not any(one.lost for one in found.values())


def test_a_job_waits_for_what_it_needs_and_is_lost_with_it(crew: Crew) -> None:
    jobs = [
        QueuedJob("last", Errand("plain"), ("middle", "other")),
        QueuedJob("middle", Errand("plain"), ("first",)),
        QueuedJob("first", Errand("refuse")),
        QueuedJob("other", Errand("plain")),
        QueuedJob("after", Errand("plain"), ("other", "finished before")),
    ]
    order = [one.task.name for one in crew.run(jobs)]
    assert order.index("first") < order.index("middle") < order.index("last")
    assert order.index("other") < order.index("after")
    found = ended(crew, *jobs)
    reason = "x: found 1; allowed is 2 [config_invalid]"
    assert {name: one.lost for name, one in found.items()} == {
        "first": reason, "middle": reason, "last": reason, "other": "", "after": "",
    }  # fmt: skip


@pytest.mark.parametrize(("times", "is_lost"), [(1, False), (2, True)])
def test_a_worker_that_dies_is_asked_once_more(crew: Crew, times: int, is_lost: bool, tmp_path: Path) -> None:
    (tmp_path / "left").write_text("x" * times, encoding="utf-8")
    found = ended(crew, QueuedJob("dies", Errand("die", tmp_path / "left")), QueuedJob("other", Errand("plain")))
    assert ("worker_died" in found["dies"].lost) is is_lost
    assert not found["other"].lost


def test_whoever_stops_listening_ends_the_workers_at_once() -> None:
    begin = time.monotonic()
    with Crew(1, do) as crew:
        running = crew.run([QueuedJob("first", Errand("plain")), QueuedJob("second", Errand("wait"))])
        assert next(running).task.name == "first"
        running.close()
    assert time.monotonic() - begin < 30


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys, imaging.benchmark.run, imaging.benchmark.summary, imaging.commands.benchmark\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
