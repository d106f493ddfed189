"""Trainings on a real SLURM, each disturbed once at a random step; what is lost, and how long saving takes.

    python -m benchmarks.preemption [--steps 3] [--seed 7]

Starts a SLURM on the loopback (root, Debian's slurmctld, slurmd, slurm-client), sends one array with a job for each way
and step, disturbs each while it waits at its step, and compares its last state, bit by bit, and all its figures with
the same training left alone. Prints one line for each job. Needs the `tests` folder of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
from pathlib import Path

import torch
import yaml

from imaging.cluster.jobs import read_jobs
from imaging.commands import main
from imaging.commands.train import main as train
from imaging.tasks.checkpoints import load_checkpoint
from tests.scheduler import Scheduler, start
from tests.test_lineage import config
from tests.test_slurm import EVERY, HOW, SETUP, STEPS, disturb, watch
from tests.test_training import differences, logged
from tests.test_training_data import write_cases


def prepare(folder: Path, ways: list[str], steps: int, seed: int) -> dict[str, tuple[str, int]]:
    """Cases, configurations and the arms: way and step by name."""
    table = write_cases(folder / "cases", 12, 4, 0)
    told = config(table, folder / "cache")
    told["data"]["batch_size"] = 4
    average = {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    told["trainer"] |= {"max_epochs": STEPS // 3, "log_every_n_steps": 1}
    told["save_every_steps"] = EVERY
    (folder / "train.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    (folder / "cluster.yaml").write_text(SETUP, encoding="utf-8")
    dice, arms = random.Random(seed), {}
    for how in ways:
        for step in sorted(dice.sample(range(1, STEPS), steps)):
            pause = {"class_path": "tests.pausing.PauseAtStep", "init_args": {"step": step}}
            arm = folder / f"{how}-{step}.yaml"
            arm.write_text(yaml.safe_dump({"trainer": {"callbacks": [pause, average]}}), encoding="utf-8")
            arms[arm.stem] = (how, step)
    return arms


def alone(run: Path, job: str, folder: Path) -> Path:
    """The same training here, in one go."""
    place = folder / "alone" / job
    place.mkdir(parents=True)
    (place / "paused").touch()
    words = next(one for one in read_jobs(run).jobs if one.name == job).lines[0].words[3:]
    torch.set_num_threads(1)
    train([*(word for word in words if not word.startswith("--run=")), f"--run={place / 'run'}"])
    return place / "run"


def report(run: Path, job: str, step: int, reference: Path) -> bool:
    """One line; whether the job ended as the reference."""
    ran = run / "jobs" / job / "run"
    log = (run / "jobs" / job / "log.txt").read_text(encoding="utf-8")
    found = [int(text) for text in re.findall(r"resumed from .*step-(\d+)\.ckpt", log)]
    last = f"checkpoints/step-{STEPS:08d}.ckpt"
    other = differences(load_checkpoint(reference / last), load_checkpoint(ran / last))
    ours, theirs = logged(ran), logged(reference)
    figures = [name for name in theirs if name.startswith(("train/", "val/")) and ours.get(name) != theirs[name]]
    print(
        f"{job:14s} disturbed at step {step:2d}, went on at {found}, lost {step - found[0] if found else step} steps; "
        f"{len(other)} values of the last state differ, {len(figures)} figures differ",
        flush=True,
    )
    return not other and not figures


def run(scheduler: Scheduler, folder: Path, args: argparse.Namespace) -> int:
    os.environ["SLURM_CONF"] = scheduler.environment["SLURM_CONF"]
    arms, run = prepare(folder, args.ways, args.steps, args.seed), folder / "run"
    words = [word for name in arms for word in ("--arm", f"{name}={folder / name}.yaml")]
    line = ["fit", f"--config={folder / 'train.yaml'}", f"--data.manifest={folder / 'cases/manifest.csv'}"]
    begin = time.monotonic()
    main(["submit", str(run), *words, "--cluster", str(folder / "cluster.yaml"), "--", *line])
    names = list(arms)
    watch(scheduler, run, lambda k, task, pid: disturb(scheduler, arms[names[k]][0], task, pid, folder), len(arms))
    main(["jobs", str(run)])
    del os.environ["SLURM_CONF"]
    good = [report(run, name, step, alone(run, name, folder)) for name, (_, step) in arms.items()]
    told = {"jobs": len(good), "equal": sum(good), "seconds": round(time.monotonic() - begin)}
    print(json.dumps(told))
    return 0 if all(good) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="random steps for each way")
    parser.add_argument("--ways", nargs="+", default=[*HOW, "node"], choices=[*HOW, "node"], help="of disturbing")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        running = start(Path(name) / "slurm")
        try:
            status = run(running, Path(name), args)
        finally:
            running.stop()
    raise SystemExit(status)
