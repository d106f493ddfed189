"""Checkpoints that are whole or not there, and the newest whole one of a run.

A checkpoint is written beside its place, flushed, and renamed. It is a zip archive with a checksum for every record
and its directory at the end, so a file that was cut short or changed is known before it is loaded.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path, PosixPath
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from imaging.errors import ConfigError, Reason
from imaging.harmonise.augmentation import Augmentation
from imaging.models.networks import Network
from imaging.tasks.task import Task

FOLDER = "checkpoints"
BEST = "best.ckpt"
_STEP = "step"
_KEPT_STEPS = 2
_KEPT_BEST = 3


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's reading and writing of checkpoints, made atomic; only tensors and plain values are unpickled."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            with beside.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path), map_location)


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint. Raises ConfigError when the file is missing or not whole."""
    if not is_whole(path):
        raise ConfigError(f"checkpoint {path}: is missing, cut short or changed", Reason.CONFIG_INVALID)
    with torch.serialization.safe_globals([Network, Augmentation, Path, PosixPath]):
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    return content


def is_whole(path: Path) -> bool:
    """Whether every record of the checkpoint has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError):
        return False


def newest_whole(run: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint of a run folder that is whole, and the newer ones that are not."""
    damaged: list[Path] = []
    for path in sorted((run / FOLDER).glob(f"{_STEP}-*.ckpt"), reverse=True):
        if is_whole(path):
            return path, damaged
        damaged.append(path)
    return None, damaged


def savers(run: Path, task: type[Task] | Task, every_steps: int) -> list[ModelCheckpoint]:
    """Callbacks that keep the newest two states, every so many steps, and the best three by the task's own figure."""
    figure, mode = task.chooses
    folder = run / FOLDER
    newest = ModelCheckpoint(
        folder,
        filename=_STEP + "-{step:08d}",
        auto_insert_metric_name=False,
        monitor="step",
        mode="max",
        save_top_k=_KEPT_STEPS,
        every_n_train_steps=every_steps,
        enable_version_counter=False,
    )
    best = ModelCheckpoint(
        folder,
        filename="best-{epoch:04d}",
        auto_insert_metric_name=False,
        monitor=figure,
        mode=mode,
        save_top_k=_KEPT_BEST,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    return [newest, best]


class KeepBest(Callback):
    """When fitting ends, names the best checkpoint `best.ckpt`."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        for saver in trainer.checkpoint_callbacks:
            assert isinstance(saver, ModelCheckpoint)
            if saver.monitor != _STEP and saver.best_model_path and trainer.is_global_zero:
                best = Path(saver.best_model_path)
                beside = best.with_name(f".{BEST}.part")
                beside.unlink(missing_ok=True)
                os.link(best, beside)
                beside.replace(best.with_name(BEST))


class KeepRandomState(Callback):
    """Puts the random numbers of a resumed run where they were: dropout draws from them."""

    def __init__(self) -> None:
        self._state: torch.Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict["cpu"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        if self._state is not None:
            torch.set_rng_state(self._state.cpu())
            self._state = None
