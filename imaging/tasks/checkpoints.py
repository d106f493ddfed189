"""Checkpoints that are whole or not there, and the newest whole one of a run.

A checkpoint is written beside its place, flushed, and renamed. It is a zip archive with a checksum for every record
and its directory at the end, so a file that was cut short or changed is known before it is loaded.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path, PosixPath
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from imaging.data.patches import Patches
from imaging.errors import ConfigError, OutputError, Reason
from imaging.evaluation.matching import HitRule
from imaging.harmonise.augmentation import Augmentation
from imaging.models.networks import Network
from imaging.tasks.interruption import InterruptedTrainingError, Interruption
from imaging.tasks.record import KEY, TrainingRecord
from imaging.tasks.task import Task

FOLDER = "checkpoints"
BEST = "best.ckpt"
_STEP = "step"
_KEPT_STEPS = 2
_KEPT_BEST = 3
KEPT_STATES = _KEPT_STEPS + _KEPT_BEST + 1  # the newest, the best, and one that is being written


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's reading and writing of checkpoints, made atomic; only tensors and plain values are unpickled.

    Args:
        is_fitting: Whether training goes on; what only watches a network needs no state of callbacks.
    """

    def __init__(self, is_fitting: bool = True) -> None:
        super().__init__()
        self.is_fitting = is_fitting

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises OutputError where it cannot be written, naming the folder; what was there before stays."""
        place = Path(path)
        beside = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(place)
        except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError of its own archive
            reason = _disk_reason(error)
            if reason is None:
                raise
            raise OutputError(
                f"checkpoint {place}: {reason}; earlier ones are kept: make room, then go on with --resume",
                Reason.OUTPUT_FAILED,
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        content = load_checkpoint(Path(path), map_location)
        if not self.is_fitting:
            content.pop("callbacks", None)
        return content


def _disk_reason(error: OSError | RuntimeError) -> str | None:
    """What the system said of writing, also where torch's archive writer met it; None for any other error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if cause is not None:
        return cause.strerror or str(cause)
    archive = "PytorchStreamWriter" in str(error) or "unexpected pos" in str(error)
    return "the file could not be written whole" if archive else None


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint. Raises ConfigError when the file is missing or not whole."""
    if not is_whole(path):
        raise ConfigError(f"checkpoint {path}: is missing, cut short or changed", Reason.CONFIG_INVALID)
    # Older checkpoints hold their network as a record of this class; now they hold plain values.
    with torch.serialization.safe_globals([Network, Augmentation, Patches, HitRule, Path, PosixPath]):
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
    for path in _states(run / FOLDER):
        if is_whole(path):
            return path, damaged
        damaged.append(path)
    return None, damaged


def _states(folder: Path) -> list[Path]:
    """Resumable states, the newest first."""
    return sorted(folder.glob(f"{_STEP}-*.ckpt"), reverse=True)


class KeepNewest(Checkpoint):
    """Keeps the newest two states: after so many steps, before an epoch's validation, and after it. A training that is
    asked to end keeps the step that it was in, and ends before the next.

    Args:
        run: Folder of the run.
        every_steps: Steps of the optimiser between two states.
        interruption: Whether the training is asked to end.
    """

    def __init__(self, run: Path, every_steps: int, interruption: Interruption) -> None:
        self.folder = run / FOLDER
        self.every_steps = every_steps
        self.interruption = interruption
        self._saved = -1
        self._asked = 0
        self._is_unvalidated = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self.interruption.listen()  # Lightning has just put its own handlers there

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self.interruption.listen()
        self.interruption.join(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self._end_if_asked()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        del trainer, pl_module, batch, batch_idx
        self._end_if_asked()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del pl_module, outputs, batch
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # gradients of half a step are in no state
        self._asked = self.interruption.asked(trainer)
        is_due = step % self.every_steps == 0 or self._asked
        if is_due and step != self._saved and not trainer.is_last_batch:  # the last one is kept before its validation
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The state of an epoch's last step, from which a training goes on with its validation."""
        del pl_module
        if trainer.sanity_checking:
            return
        loop = trainer.fit_loop.epoch_loop.val_loop
        if loop.restarted_mid_evaluation:  # the batch that `on_save_checkpoint` made up is not there
            _count_batch(loop.batch_progress.total.__dict__, -1)
        self._is_unvalidated = True
        self._save(trainer)
        self._is_unvalidated = False
        self._end_if_asked()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Several processes may have unlike numbers of these batches, and end after the last one."""
        del pl_module, outputs, batch, batch_idx, dataloader_idx
        if not trainer.sanity_checking and trainer.world_size == 1:
            self._asked = self.interruption.asked(trainer)
            self._end_if_asked()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self._asked = self.interruption.asked(trainer)
        self._save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning validates first where a state says that a batch of the validation was begun and not ended."""
        del trainer, pl_module
        if self._is_unvalidated:
            _count_batch(checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["total"], 1)

    def _end_if_asked(self) -> None:
        if self._asked:
            raise InterruptedTrainingError(self._asked)

    def _save(self, trainer: Trainer) -> None:
        """Write the state, then remove all others but the one before: newer ones are of a run that was stopped."""
        self._saved = trainer.global_step
        path = self.folder / f"{_STEP}-{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)  # all processes wait for it
        if trainer.is_global_zero:
            found = _states(self.folder)
            kept = [one for one in found if one.name <= path.name][:_KEPT_STEPS]
            for one in [*(one for one in found if one not in kept), *self.folder.glob(".*.part")]:
                one.unlink(missing_ok=True)


def _count_batch(progress: dict[str, int], by: int) -> None:
    """Begin a batch of a loop's progress, or take that back."""
    for state in ("ready", "started"):
        progress[state] += by


class KeepBest(ModelCheckpoint):
    """Keeps the best three by the task's own figure; the first of them is always there as `best.ckpt` too."""

    def __init__(self, run: Path, task: type[Task] | Task) -> None:
        figure, mode = task.chooses
        super().__init__(
            run / FOLDER,
            filename="best-{epoch:04d}",
            auto_insert_metric_name=False,
            monitor=figure,
            mode=mode,
            save_top_k=_KEPT_BEST,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best so far where they now are: a run folder may have been moved."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._name_best(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self._name_best(trainer)

    def _name_best(self, trainer: Trainer) -> None:
        best = Path(self.best_model_path)
        if not self.best_model_path or not trainer.is_global_zero:
            return
        place, beside = best.with_name(BEST), best.with_name(f".{BEST}.part")
        if place.is_file() and place.samefile(best):
            return
        beside.unlink(missing_ok=True)
        try:
            os.link(best, beside)
        except OSError:  # exFAT, and many mounts over a network, have no hard links
            try:
                shutil.copyfile(best, beside)
            except OSError as error:
                beside.unlink(missing_ok=True)
                raise OutputError(
                    f"checkpoint {place}: {error.strerror}; {best.name} is kept: make room, then go on with --resume",
                    Reason.OUTPUT_FAILED,
                ) from error
        beside.replace(place)


class KeepRecord(Callback):
    """Puts the record of the training, which is given before it begins, into every checkpoint."""

    def __init__(self) -> None:
        self.record: TrainingRecord | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        del trainer, pl_module
        assert self.record is not None
        checkpoint[KEY] = self.record.stated()


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
