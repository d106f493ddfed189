"""A training among the troubles of a day: asked to end, queued again, no hard links, no room, odd options."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from pytorch_lightning import Trainer

from imaging.commands.train import main
from imaging.data import cache
from imaging.tasks import checkpoints
from imaging.tasks.checkpoints import load_checkpoint
from imaging.tasks.curves import draw_course, read_course
from imaging.tasks.progress import TrainingProgress
from tests.conftest import REPOSITORY
from tests.test_lineage import config
from tests.test_training import content, differences, refused, words
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("life") / "cases")


@pytest.fixture
def signals() -> Iterator[None]:
    """What a signal does, put back: an ended run leaves Ctrl-C without effect."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # an earlier test may have ended a run in this process
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


def tiny(manifest: Path, run: Path, *more: str) -> list[str]:
    """Three steps an epoch of pictures of 32 × 32."""
    told = config(manifest, manifest.parent / "cache")
    told["data"]["batch_size"] = 4
    return words(manifest, run, *more, **told)


def send(number: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gets the signal once, at the end of a step."""
    whole, left = TrainingProgress.on_train_batch_end, [number]

    def ends(self: TrainingProgress, trainer: Trainer, *rest: Any) -> None:
        whole(self, trainer, *rest)
        if trainer.global_step == step and left:
            os.kill(os.getpid(), left.pop())

    monkeypatch.setattr(TrainingProgress, "on_train_batch_end", ends)


@pytest.mark.parametrize(("number", "by", "status"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)])
def test_a_run_that_is_asked_to_end_says_what_is_kept_and_goes_on_by_the_same_line(
    number: int,
    by: str,
    status: int,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signals: None,
) -> None:
    line = tiny(manifest, tmp_path / "run", "--resume=auto", "--trainer.max_epochs=3")
    main(tiny(manifest, tmp_path / "whole", "--resume=auto", "--trainer.max_epochs=3"))
    send(number, 5, monkeypatch)
    with pytest.raises(SystemExit) as stop:
        main(line)
    assert stop.value.code == status
    (said,) = [one for one in capsys.readouterr().err.splitlines() if "stopped by" in one]
    step = 5 if number == signal.SIGTERM else 3  # one is kept where it stopped, the other where its epoch ended
    kept = tmp_path / f"run/checkpoints/step-{step:08d}.ckpt"
    assert f"stopped by {by} at step 5; kept: {kept}, from which --resume auto goes on" in said
    assert "best.ckpt, the best so far" in said
    load_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    main(line)
    ends = [load_checkpoint(tmp_path / name / "checkpoints/step-00000009.ckpt") for name in ("whole", "run")]
    assert differences(ends[0], ends[1]) == []


def test_a_finished_run_that_is_queued_again_ends_at_once(manifest: Path, tmp_path: Path) -> None:
    line = tiny(manifest, tmp_path / "run", "--resume=auto", "--trainer.max_epochs=1")
    main(line)
    before = content(tmp_path / "run/checkpoints")
    assert main(line).trainer.global_step == 3
    assert content(tmp_path / "run/checkpoints") == before


def test_a_run_of_another_length_is_told(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = tiny(manifest, tmp_path / "run", "--resume=auto")
    main([*line, "--trainer.max_epochs=1"])
    capsys.readouterr()
    main([*line, "--trainer.max_epochs=2"])
    said = capsys.readouterr().err
    assert "trainer.max_epochs is 2; it was 1, and the learning rate falls over the new length from here on" in said


def test_where_no_hard_links_are_the_best_is_copied(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(checkpoints.os, "link", refuse)
    main(tiny(manifest, tmp_path / "run", "--trainer.max_epochs=1"))
    folder = tmp_path / "run/checkpoints"
    assert (folder / "best.ckpt").read_bytes() == (folder / "best-0000.ckpt").read_bytes()
    assert not (folder / "best.ckpt").samefile(folder / "best-0000.ckpt")


def test_a_full_disk_under_checkpoints_is_told_and_earlier_ones_stay(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save, left = torch.save, [1, 2, 3, 4, 5, 6]  # a best between two of a step each epoch: the third epoch has no room

    def full(*told: Any, **more: Any) -> None:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        save(*told, **more)

    monkeypatch.setattr(checkpoints.torch, "save", full)
    said = refused(capsys, *tiny(manifest, tmp_path / "run", "--trainer.max_epochs=4"))
    assert f"checkpoint {tmp_path / 'run/checkpoints'}" in said
    assert "No space left on device; earlier ones are kept: make room, then go on with --resume" in said
    kept = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert kept >= {"best.ckpt", "step-00000006.ckpt"}
    assert not [name for name in kept if name.endswith(".part")]


@pytest.mark.parametrize("trouble", ["full", "no folder"])
def test_a_cache_that_cannot_be_written_costs_time_and_not_the_run(
    trouble: str,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "cache"
    if trouble == "full":

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(cache.os, "fsync", full)
        kept = cache.SampleCache(folder)
        for _ in range(2):
            kept.put("aa", [])
    else:
        folder.write_text("a file, where no folder can be made")
        kept = cache.SampleCache(folder / "inside")
        kept.put("aa", [])
        more = (f"--data.cache={folder / 'inside'}", "--trainer.max_epochs=1")
        main(tiny(manifest, tmp_path / "run", *more))
        assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    assert kept.get("aa") is None
    told = [one.getMessage() for one in caplog.records if "going on without keeping harmonised samples" in one.message]
    assert len(told) == (1 if trouble == "full" else 2)  # once for each cache
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--trainer.logger=false", "trainer.logger: found False; allowed is loggers"),
        ("--trainer.enable_checkpointing=false", "trainer.enable_checkpointing: found False; allowed is true"),
        ("--trainer.barebones=true", "trainer.barebones: found True; allowed is false"),
        ("--trainer.default_root_dir=elsewhere", "trainer.default_root_dir: found elsewhere; allowed is none"),
        (
            "--trainer.plugins=lightning_fabric.plugins.io.torch_io.TorchCheckpointIO",
            "allowed is any but a CheckpointIO",
        ),
    ],
)
def test_options_of_the_trainer_that_have_no_room_are_refused(
    option: str, told: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, *tiny(manifest, tmp_path / "run", option))
    assert not (tmp_path / "run").exists()


def test_a_logger_joins_those_of_the_run(manifest: Path, tmp_path: Path) -> None:
    more = ["--trainer.logger=pytorch_lightning.loggers.CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'own'}"]
    main(tiny(manifest, tmp_path / "run", *more, "--trainer.max_epochs=1"))
    assert len(list((tmp_path / "own").rglob("metrics.csv"))) == 1
    assert (tmp_path / "run/csv/version_0/metrics.csv").is_file()


def test_several_tasks_of_a_queue_are_told_what_to_say(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    assert "SLURM_NTASKS: found 4; allowed is --ntasks-per-node" in refused(capsys, *tiny(manifest, tmp_path / "run"))


def test_curves_are_drawn_of_all_starts(tmp_path: Path) -> None:
    """Two starts logged step 1: the later one counts. A half of the plot's height is a half of its axis."""
    rows = {
        0: "step,train/loss,train/learning_rate\n0,4,0.1\n1,9,0.2\n",
        1: "step,train/loss,train/learning_rate,val/dice,val/dice/a\n1,2,0.2,,\n2,0,0.1,0.5,0.5\n",
    }
    for version, text in rows.items():
        (tmp_path / f"csv/version_{version}").mkdir(parents=True)
        (tmp_path / f"csv/version_{version}/metrics.csv").write_text(text)
    course = read_course(tmp_path)
    assert course["train/loss"] == {0: 4.0, 1: 2.0, 2: 0.0}
    draw_course(course, tmp_path / "curves.svg")
    sheet = ElementTree.parse(tmp_path / "curves.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    titles = [one.text for one in sheet.iter(f"{space}text") if one.get("font-weight")]
    assert titles == [
        "train/loss: 0 at step 2",
        "val/dice: 0.5 at step 2",
        "train/learning_rate: 0.1 at step 2",
    ]
    assert next(sheet.iter(f"{space}polyline")).get("points") == "0.0,0.0 275.0,60.0 550.0,120.0"


def test_nothing_logged_draws_nothing(tmp_path: Path) -> None:
    (tmp_path / "csv/version_0").mkdir(parents=True)
    (tmp_path / "csv/version_0/metrics.csv").write_text("step,speed/images_per_s\n0,4\n")
    draw_course(read_course(tmp_path), tmp_path / "curves.svg")
    assert not (tmp_path / "curves.svg").exists()


def test_a_run_leaves_its_curves(manifest: Path, tmp_path: Path) -> None:
    main(tiny(manifest, tmp_path / "run", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"))
    drawn = (tmp_path / "run/curves.svg").read_text(encoding="utf-8")
    assert "train/learning_rate: " in drawn
    assert "val/dice: " in drawn


def test_what_was_assumed_is_left_in_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the sample comes from the cache; a refused run leaves nothing."""
    manifest = write_cases(tmp_path / "cases")
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    manifest.write_text("\n".join([f"{header},ward", *(f"{row},x" for row in rows)]), encoding="utf-8")
    soft = np.asarray(Picture.open(manifest.parent / "train-01-truth.png")).copy()
    soft[1, 1:9] = 100
    Picture.fromarray(soft).save(manifest.parent / "train-01-truth.png")
    column = "manifest manifest.csv: not used are the columns ward"
    cut = "truth train-01-truth.png: found 2 shades of grey, so it was cut at half of the highest, 127.5"
    main(tiny(manifest, tmp_path / "run", "--trainer.max_epochs=1"))
    assert (tmp_path / "run/remarks.txt").read_text(encoding="utf-8").splitlines() == [column, cut]
    renamed = manifest.parent / "other.png"
    (manifest.parent / "train-01-truth.png").rename(renamed)
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("train-01-truth.png", renamed.name), encoding="utf-8")
    main(tiny(manifest, tmp_path / "second", "--trainer.max_epochs=1"))
    cut = cut.replace("train-01-truth.png", "other.png")
    assert (tmp_path / "second/remarks.txt").read_text(encoding="utf-8").splitlines() == [column, cut]
    refused(capsys, *tiny(manifest, tmp_path / "no", "--data.test_sites=[nowhere]"))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_before_the_first_step_is_told(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """While libraries are still loaded, in which a scheduler may take the place back."""
    line = [sys.executable, str(REPOSITORY / "train.py"), "fit", f"--run={tmp_path / 'run'}"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "train.py: starting\n"
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait(60) == status
    assert told == f"train.py: stopped by {number.name} before the first step; nothing was changed\n"
    assert not (tmp_path / "run").exists()
