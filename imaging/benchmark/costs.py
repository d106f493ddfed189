"""What a benchmark will cost, before its first job; how far it is; and what it did cost: costs.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from imaging.benchmark.jobs import Receipt, write_whole
from imaging.benchmark.orders import HeldOutOrder, TrainingOrder
from imaging.benchmark.schedule import Ended, QueuedJob

# Until a training here was measured: what two processors do on planes of 256 x 256, and what a run folder holds.
_IMAGES_PER_S = 20.0
_TESTS_PER_S = 5.0
_JOB_BYTES = 40 << 20
_SAMPLE_BYTES = 330 << 10


@dataclass(frozen=True)
class Estimate:
    """What is to come. `is_measured` says whether seconds come from finished trainings of this folder."""

    trainings: int
    finished: int
    tests: int
    seconds: float
    disk_bytes: int
    is_measured: bool

    def as_table(self, jobs: int) -> str:
        basis = "from finished trainings here" if self.is_measured else "a guess from steps, better after the first one"
        rows = (
            ("trainings", f"{self.trainings} to do, {self.finished} finished"),
            ("tests", f"{self.tests} to do"),
            ("hours", f"{self.seconds / 3600 / jobs:.2f} with --jobs {jobs} ({basis})"),
            ("disk", f"about {self.disk_bytes / (1 << 30):.2f} GiB"),
        )
        return "\n".join(f"{name:10} {value}" for name, value in rows)


def estimate(tasks: Sequence[QueuedJob], out: Path, n_trainings: int, n_cases: int) -> Estimate:
    """Of the tasks that are left; `n_trainings` are all that the spec asks for."""
    orders = [task.order for task in tasks if isinstance(task.order, TrainingOrder)]
    tests = [task.order for task in tasks if isinstance(task.order, HeldOutOrder)]
    rate = _measured_rate(out)
    tested = sum(len(one.cases) * len(one.networks) for one in tests)
    seconds = sum(map(images_of, orders)) / (rate or _IMAGES_PER_S) + tested / _TESTS_PER_S
    recipes = {json.dumps(one.config.get("data", {}).get("recipe"), sort_keys=True) for one in orders}
    disk = len(orders) * (_measured_bytes(out) or _JOB_BYTES) + n_cases * _SAMPLE_BYTES * len(recipes)
    return Estimate(len(orders), n_trainings - len(orders), len(tests), seconds, disk, rate is not None)


def images_of(order: TrainingOrder) -> float:
    """How many images a training shows its network."""
    trainer, data = order.config.get("trainer", {}), order.config.get("data", {})
    steps = trainer.get("max_steps") or -1
    if steps > 0:
        return float(steps * data.get("batch_size", 8))
    repeats = data.get("repeats") or {}
    return float((trainer.get("max_epochs") or 1000) * sum(repeats.get(case.label, 1) for case in order.train))


def _measured_rate(out: Path) -> float | None:
    """Images a second of the trainings that costs.json knows."""
    known = [one for one in read_costs(out).get("trainings", {}).values() if one.get("images")]
    seconds = sum(one["training"] for one in known)
    return sum(one["images"] for one in known) / seconds if seconds > 0 else None


def _measured_bytes(out: Path) -> int:
    """What a finished job of this folder holds, as a mean; 0 where there is none."""
    folders = [path.parent for path in out.glob("jobs/*/receipt.json")]
    sizes = [path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum(sizes) // max(1, len(folders))


def read_costs(out: Path) -> dict[str, Any]:
    """costs.json of earlier starts; nothing where there is none."""
    path = out / "costs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@dataclass
class CostAccount:
    """Tasks as they end: a line of progress for each, and costs.json at the end.

    Args:
        out: Folder of the benchmark.
        total: How many tasks there are.
        jobs: How many are worked on at a time.
        say: Takes a line of progress.
        begin: When it all began (time.perf_counter).
        ready: When the first task could begin.
    """

    out: Path
    total: int
    jobs: int
    say: Callable[[str], None]
    begin: float
    done: int = 0
    lost: int = 0
    busy: float = 0.0
    ready: float = field(default_factory=perf_counter)
    trainings: dict[str, dict[str, float]] = field(default_factory=dict)
    tests: dict[str, float] = field(default_factory=dict)

    def hear(self, ended: Ended, left: float) -> None:
        """`left` is the share of all images that is still to be shown, 0 to 1."""
        self.done += 1
        self.lost += bool(ended.lost)
        order, result = ended.task.order, ended.result
        if isinstance(result, Receipt) and isinstance(order, TrainingOrder):
            facts = {"images": images_of(order), "decoded": float(result.decoded), "wall": ended.seconds}
            self.trainings[order.identity[:20]] = result.seconds | facts
            self.busy += result.seconds["training"] + result.seconds["deciding"]
        elif isinstance(result, float):
            self.tests[ended.task.name[:20]] = result
            self.busy += result
        spent = perf_counter() - self.ready
        remaining = spent / (1 - left) * left if left < 1 else 0.0
        lost = f", {self.lost} lost" if self.lost else ""
        self.say(
            f"benchmark: {self.done} of {self.total} jobs{lost}; {_clock(spent)} spent, about {_clock(remaining)} left"
        )
        if ended.lost:
            self.say(f"benchmark: lost {ended.task.name[:20]}: {ended.lost}")

    def write(self) -> dict[str, Any]:
        """costs.json, with what earlier starts cost.

        `share_beside_jobs` is the part of the wall time, times jobs, that is no training, decision or test; without
        what went before the first job (imports, a look at every picture) it is `share_between_jobs`.
        """
        wall = perf_counter() - self.begin
        before = read_costs(self.out)
        before_first, between = self.ready - self.begin, perf_counter() - self.ready
        shares = {
            "share_beside_jobs": 1 - self.busy / (wall * self.jobs),
            "share_between_jobs": 1 - self.busy / (between * self.jobs),
        }
        told: dict[str, Any] = {
            "trainings": before.get("trainings", {}) | self.trainings,
            "tests": before.get("tests", {}) | self.tests,
            "starts": [
                *before.get("starts", []),
                {"wall": wall, "jobs": self.jobs, "tasks": self.done, "before_first_job": before_first} | shares,
            ],
        }
        hours = sum(one["training"] + one["deciding"] for one in told["trainings"].values())
        told["job_hours"] = (hours + sum(told["tests"].values())) / 3600
        told["decoded"] = sum(one["decoded"] for one in told["trainings"].values())
        write_whole(self.out / "costs.json", json.dumps(told, indent=1, sort_keys=True) + "\n")
        return told


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
