"""Jobs on a real SLURM: five folds, each disturbed in its own way, end as if nobody had touched them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from imaging.cluster.jobs import read_jobs
from imaging.cluster.standing import standings
from imaging.commands import main
from imaging.commands.train import main as train
from imaging.data.manifest import read_manifest, write_manifest
from imaging.tasks.checkpoints import load_checkpoint
from tests.conftest import REPOSITORY
from tests.scheduler import Scheduler, start
from tests.test_lineage import config
from tests.test_training import differences, logged
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]
STEPS, PAUSED, EVERY = 15, 8, 3  # of a training; where it is disturbed; steps between two states
LONGEST_S = 900.0
SETUP = f"""\
time: "10"
setup:
  - export PYTHONPATH={REPOSITORY} OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo
"""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    running = start(tmp_path_factory.mktemp("slurm"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def here(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process talk to the scheduler of the tests."""
    monkeypatch.setenv("SLURM_CONF", scheduler.environment["SLURM_CONF"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty patients of two sites, a configuration that pauses once, and a card."""
    folder = tmp_path_factory.mktemp("jobs")
    write_cases(folder / "cases", 20, 0, 2)
    told = config(folder / "cases/manifest.csv", folder / "cache")
    told["data"] = {name: value for name, value in told["data"].items() if name != "manifest"} | {"batch_size": 4}
    told["model"]["init_args"]["learning_rate"] = 0.03
    average = {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    pause = {"class_path": "tests.pausing.PauseAtStep", "init_args": {"step": PAUSED}}
    told["trainer"] |= {"callbacks": [pause, average], "max_epochs": 5, "log_every_n_steps": 1}
    told["save_every_steps"] = EVERY
    (folder / "train.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    (folder / "cluster.yaml").write_text(SETUP, encoding="utf-8")
    main(["package", "--new-card", str(folder / "card.yaml")])
    return folder


def disturb(scheduler: Scheduler, how: str, task: str, pid: int, folder: Path) -> None:
    """What happens to the job that waits at a step."""
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    elif how == "node":
        scheduler.lose_node(pid)
    elif how == "requeue":
        scheduler.ask("scontrol", "requeue", task)
    elif how == "preempted":
        (folder / "urgent.sh").write_text("#!/bin/bash\nsleep 1\n", encoding="utf-8")
        scheduler.ask("sbatch", "-p", "high", "--exclusive", "-o", "/dev/null", str(folder / "urgent.sh"))
    else:
        scheduler.signal(how, task)


HOW = ("USR1", "requeue", "killed", "TERM", "preempted")


@dataclass(frozen=True)
class Disturbed:
    """The folder of five folds, each disturbed once, and the number of the array."""

    run: Path
    array: str

    def log(self, number: int) -> str:
        return (self.run / f"jobs/fold-{number}/log.txt").read_text(encoding="utf-8")


def watch(scheduler: Scheduler, run: Path, act: Callable[[int, str, int], None], count: int) -> str:
    """Acts once on each job that pauses, until nothing waits or runs; the array."""
    array: str = json.loads((run / "sent.jsonl").read_text(encoding="utf-8").splitlines()[0])["array"]
    names = [job.name for job in read_jobs(run).jobs]
    seen: set[int] = set()
    end = time.monotonic() + LONGEST_S
    while len(seen) < count:
        assert time.monotonic() < end, f"{scheduler.states(array)}\n{scheduler.log()}"
        for number, name in enumerate(names):
            said = run / "jobs" / name / "paused"
            if number not in seen and said.exists():
                seen.add(number)
                act(number, f"{array}_{number}", int(said.read_text()))
        scheduler.release(array)
        time.sleep(0.2)
    scheduler.finish(array, LONGEST_S)
    return array


@pytest.fixture(scope="module")
def disturbed(scheduler: Scheduler, folder: Path) -> Disturbed:
    run = folder / "folds"
    os.environ["SLURM_CONF"] = scheduler.environment["SLURM_CONF"]
    words = ["--folds", "5", "--cluster", str(folder / "cluster.yaml"), "--card", str(folder / "card.yaml")]
    words += ["--score", "segmentation --label lesion=255 --resamples 200"]
    line = ["fit", f"--config={folder / 'train.yaml'}", f"--data.manifest={folder / 'cases/manifest.csv'}"]
    try:
        assert main(["submit", str(run), *words, "--", *line]) == 0
        array = watch(scheduler, run, lambda k, task, pid: disturb(scheduler, HOW[k], task, pid, folder), 5)
    finally:
        del os.environ["SLURM_CONF"]
    return Disturbed(run, array)


def undisturbed(job: Any, place: Path) -> Path:
    """The same training here, in one go."""
    place.mkdir(parents=True)
    (place / "paused").touch()
    words = [word for word in job.lines[0].words[3:] if not word.startswith("--run=")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train([*words, f"--run={place / 'run'}"])
    finally:
        torch.set_num_threads(threads)
    return place / "run"


@pytest.mark.parametrize(("number", "how"), list(enumerate(HOW)))
def test_a_disturbed_job_ends_as_one_that_was_left_alone(
    number: int, how: str, disturbed: Disturbed, tmp_path: Path
) -> None:
    """Weights, moments, schedule, moving average and every figure; the log holds all tries."""
    job = read_jobs(disturbed.run).jobs[number]
    log = disturbed.log(number)
    kept = PAUSED // EVERY * EVERY if how == "killed" else PAUSED
    assert f"run/checkpoints/step-{kept:08d}.ckpt\n" in log.partition("train.py: resumed from ")[2], log
    assert PAUSED - kept <= EVERY
    alone, ran = undisturbed(job, tmp_path / "alone"), disturbed.run / "jobs" / job.name / "run"
    last = f"checkpoints/step-{STEPS:08d}.ckpt"
    assert differences(load_checkpoint(alone / last), load_checkpoint(ran / last)) == []
    figures, reference = logged(ran), logged(alone)
    for name in (name for name in reference if name.startswith(("train/", "val/"))):
        assert figures[name] == reference[name], name


def test_folds_end_in_one_report_over_all_patients(disturbed: Disturbed, folder: Path) -> None:
    found = {one.name: one for one in standings(read_jobs(disturbed.run))}
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(
        (*(f"fold-{k}" for k in range(5)), "last"), "done"
    )
    assert all(found[f"fold-{k}"].tries >= 2 for k in range(5))
    report = json.loads((disturbed.run / "pooled/all/metrics.json").read_text(encoding="utf-8"))
    cases = {case.case_id for case in read_manifest(folder / "cases/manifest.csv") if case.split == "train"}
    assert {case["case_id"] for case in report["segmentation"]} == cases
    assert len(cases) == 20


def test_the_same_line_sends_nothing_twice(
    disturbed: Disturbed, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", str(disturbed.run), "--again"]) == 0
    assert "nothing to send: every job is done, runs or waits" in capsys.readouterr().out


def test_a_failed_job_says_why_and_is_sent_again_alone(
    scheduler: Scheduler, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two arms names a configuration that is gone when it runs; made again, that one alone runs."""
    arms = {name: tmp_path / f"{name}.yaml" for name in ("sound", "lost")}
    for arm in arms.values():
        arm.write_text("trainer: {max_steps: 1, callbacks: null}\n", encoding="utf-8")
    line = ["fit", f"--config={folder / 'train.yaml'}", "--trainer.limit_val_batches=0"]
    table = tmp_path / "cases.csv"
    text = (folder / "cases/manifest.csv").read_text(encoding="utf-8")
    table.write_text(text.replace(",test,", ",val,").replace(",train-", f",{folder}/cases/train-").replace(
        ",test-", f",{folder}/cases/test-"), encoding="utf-8")  # fmt: skip
    run = tmp_path / "run"
    words = [word for name, arm in arms.items() for word in ("--arm", f"{name}={arm}")]
    line += [f"--data.manifest={table}"]
    arms["lost"].rename(tmp_path / "kept")
    arms["lost"].touch()
    arms["lost"].write_text("trainer: {no_such_key: 1}\n", encoding="utf-8")
    cluster = ["--cluster", str(folder / "cluster.yaml")]
    assert main(["submit", str(run), *words, *cluster, "--", *line]) == 0
    first = json.loads((run / "sent.jsonl").read_text(encoding="utf-8"))["array"]
    scheduler.finish(first, LONGEST_S)
    capsys.readouterr()
    assert main(["jobs", str(run)]) == 1
    told = dict(text.split(maxsplit=1) for text in capsys.readouterr().out.splitlines())
    assert told["sound"].startswith("done")
    assert told["lost"].startswith("failed")
    assert "no_such_key" in told["lost"]
    (tmp_path / "kept").replace(arms["lost"])
    assert main(["jobs", str(run), "--again", "lost"]) == 0
    second = json.loads((run / "sent.jsonl").read_text(encoding="utf-8").splitlines()[1])
    assert second["numbers"] == [1]
    scheduler.finish(second["array"], LONGEST_S)
    assert main(["jobs", str(run)]) == 0


def test_processes_of_a_job_agree_on_the_step_at_which_they_end(
    scheduler: Scheduler, folder: Path, tmp_path: Path
) -> None:
    """Two processes by srun, of which one alone is asked: both end after the same step, and go on there."""
    (tmp_path / "two.yaml").write_text(f"processes: 2\n{SETUP}", encoding="utf-8")
    table = tmp_path / "cases.csv"
    write_manifest(table, [replace(case, split="val" if k % 4 else "train") if k < 8 else case for k, case in enumerate(
        one for one in read_manifest(folder / "cases/manifest.csv") if one.split == "train")])  # fmt: skip
    line = ["fit", f"--config={folder / 'train.yaml'}", f"--data.manifest={table}", "--data.batch_size=2"]
    run = tmp_path / "run"
    assert main(["submit", str(run), "--cluster", str(tmp_path / "two.yaml"), "--", *line]) == 0
    watch(scheduler, run, lambda number, task, pid: os.kill(pid, signal.SIGUSR1), 1)
    log = (run / "jobs/all/log.txt").read_text(encoding="utf-8")
    assert [one.state for one in standings(read_jobs(run))] == ["done"], log
    assert log.count(f"stopped by SIGUSR1 at step {PAUSED};") == 1
    assert log.count(f"resumed from {run}/jobs/all/run/checkpoints/step-{PAUSED:08d}.ckpt") == 2
    assert "trainer.world_size" not in log
