"""A training that is asked to end loses no step, whenever the signal comes: every bit is that of the whole run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Trainer

from imaging.commands.train import main
from imaging.tasks.checkpoints import KeepNewest, WholeCheckpoints, load_checkpoint
from imaging.tasks.progress import TrainingProgress
from imaging.tasks.task import Task
from tests.test_lineage import config
from tests.test_training import differences, logged, words
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]
EPOCHS, STEPS = 3, 3
LAST = f"checkpoints/step-{EPOCHS * STEPS:08d}.ckpt"
MOMENTS = ["step", "last step of an epoch", "validation", "last validation", "save", "epoch's end"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, and a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("asked")
    write_cases(folder / "cases")
    main(line(folder, "whole"))
    return folder


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a test forgot would end the test's own process."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    assert {one: signal.getsignal(one) for one in before} == before


def line(folder: Path, run: str, *more: str) -> list[str]:
    """Nine steps on pictures of 32 × 32, states after every fourth, with a moving average of the weights."""
    told = config(folder / "cases/manifest.csv", folder / "cache")
    told["data"]["batch_size"] = 4
    average = {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    told["trainer"] |= {"callbacks": [average], "max_epochs": EPOCHS, "log_every_n_steps": 1}
    return words(folder / "cases/manifest.csv", folder / run, "--resume=auto", "--save_every_steps=4", *more, **told)


def arm(moment: str, number: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The signal comes once, at that moment; the step at which the training must end."""
    left = [number]
    cls: type
    name, cls, step = {
        "step": ("on_train_batch_end", TrainingProgress, 5),
        "last step of an epoch": ("on_train_batch_end", TrainingProgress, 6),
        "validation": ("validation_step", Task, 6),
        "last validation": ("validation_step", Task, 9),
        "save": ("save_checkpoint", WholeCheckpoints, 4),
        "epoch's end": ("on_train_epoch_end", KeepNewest, 3),
    }[moment]
    whole, seen = getattr(cls, name), list[Trainer]()
    before = KeepNewest.on_train_start

    def met(self: KeepNewest, trainer: Trainer, *rest: Any) -> None:
        seen.append(trainer)
        before(self, trainer, *rest)

    def ends(self: Any, *told: Any, **more: Any) -> Any:
        if seen and seen[0].global_step == step and left:
            os.kill(os.getpid(), left[0])
            os.kill(os.getpid(), left.pop())  # some schedulers say it twice
        return whole(self, *told, **more)

    monkeypatch.setattr(KeepNewest, "on_train_start", met)
    monkeypatch.setattr(cls, name, ends)
    return step


@pytest.mark.parametrize(
    ("moment", "number"), [*((moment, signal.SIGUSR1) for moment in MOMENTS), ("step", signal.SIGTERM)]
)
def test_a_signal_costs_no_step(
    moment: str,
    number: signal.Signals,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = f"{moment}-{number.name}"
    with monkeypatch.context() as patch:
        step = arm(moment, number, patch)
        step += moment == "save"  # what is noted while step 4 is saved is read after the next
        with pytest.raises(SystemExit) as stop:
            main(line(folder, run))
    assert stop.value.code == 128 + number
    kept = folder / run / f"checkpoints/step-{step:08d}.ckpt"
    told = capsys.readouterr().err
    assert f"stopped by {number.name} at step {step}; kept: {kept}, from which --resume auto" in told
    main(line(folder, run))
    assert f"resumed from {kept}" in capsys.readouterr().err
    assert differences(load_checkpoint(folder / "whole" / LAST), load_checkpoint(folder / run / LAST)) == []
    best = [load_checkpoint(folder / name / "checkpoints/best.ckpt") for name in ("whole", run)]
    assert differences(best[0], best[1]) == []
    figures, reference = logged(folder / run), logged(folder / "whole")
    for name in (name for name in reference if name.startswith(("train/", "val/"))):
        assert figures[name] == reference[name], name


def test_a_signal_waits_for_the_whole_step_where_gradients_add_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps of two batches, the last one of an epoch of one: asked in the first batch of step 3, it ends after it."""
    more = ("--trainer.accumulate_grad_batches=2",)
    main(line(folder, "whole-two", *more))
    whole = Task.training_step
    count = iter(range(1, 100))

    def asked(self: Task, batch: Any, batch_idx: int) -> Any:
        if next(count) == 4:  # the first batch of the second epoch
            os.kill(os.getpid(), signal.SIGUSR1)
        return whole(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", asked)
        with pytest.raises(SystemExit):
            main(line(folder, "two", *more))
    assert "stopped by SIGUSR1 at step 3;" in capsys.readouterr().err
    main(line(folder, "two", *more))
    last = "checkpoints/step-00000006.ckpt"
    assert differences(load_checkpoint(folder / "whole-two" / last), load_checkpoint(folder / "two" / last)) == []
