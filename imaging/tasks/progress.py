"""What a person sees of a running training: one line an epoch, speed, time left, and pictures of validation cases."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import pytorch_lightning as pl
from PIL import Image as Picture
from pytorch_lightning import Callback

from imaging.data.dataset import Batch
from imaging.image import Array
from imaging.tasks.task import Task

_SHOWN = 8


class KeepRemarks(Callback):
    """remarks.txt in the run folder: what the table and the files of this run left to assume, a line each.

    Written once a run is accepted: one that is refused leaves its folder as it was.

    Args:
        run: The run folder.
        remarks: What is told, growing while files are read.
    """

    def __init__(self, run: Path, remarks: Mapping[str, None]) -> None:
        self.path = run / "remarks.txt"
        self.remarks = remarks

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        written = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        if new := [line for remark in list(self.remarks) if (line := " ".join(remark.split())) not in written]:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in new)


class TrainingProgress(Callback):
    """One line per epoch with its validation figures, images per second, the share of time spent waiting for data,
    and the time that remains. The numbers are logged too."""

    def __init__(self) -> None:
        self._images = 0
        self._waited = 0.0
        self._begin = self._mark = self._first = perf_counter()
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        self._first, self._first_step = perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del trainer, pl_module
        self._images, self._waited = 0, 0.0
        self._begin = self._mark = perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        del pl_module, batch_idx
        self._waited += perf_counter() - self._mark
        self._images += len(batch["image"]) * trainer.world_size

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        del trainer, pl_module, outputs, batch, batch_idx
        self._mark = perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        spent = max(self._mark - self._begin, 1e-9)
        pl_module.log("speed/images_per_s", self._images / spent)
        pl_module.log("speed/data_wait", self._waited / spent)
        if not trainer.is_global_zero:
            return
        done = max(1, trainer.global_step - self._first_step)
        left = (perf_counter() - self._first) / done * max(0, trainer.estimated_stepping_batches - trainer.global_step)
        figures = " ".join(
            f"{name} {float(value):.4g}"
            for name, value in sorted(trainer.callback_metrics.items())
            if name == "train/loss" or (name.startswith("val/") and name.count("/") == 1)
        )
        print(
            f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {figures}, "
            f"{self._images / spent:.1f} images/s, waiting for data {self._waited / spent:.1%}, "
            f"{timedelta(seconds=round(left))} left",
            file=sys.stderr,
            flush=True,
        )


class ValidationPictures(Callback):
    """After every validation, one picture of the first cases: what was predicted (red) and what is true (green)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tiles: list[Array] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        del outputs, batch_idx, dataloader_idx
        if trainer.sanity_checking or not trainer.is_global_zero or len(self._tiles) >= _SHOWN:
            return
        room = _SHOWN - len(self._tiles)
        assert isinstance(pl_module, Task)
        shown = Batch(**{**batch, "image": batch["image"][:room], "truth": batch["truth"][:room]})
        marked = pl_module.marks(shown)
        if marked is not None:
            grey, truth = shown["image"][:, 0].float().cpu().numpy(), shown["truth"][:, 0].cpu().numpy() > 0
            self._tiles += [_tile(*three) for three in zip(grey, marked.cpu().numpy(), truth, strict=True)]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        if self._tiles and trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            rows = [np.concatenate(self._tiles[k : k + 4], axis=1) for k in range(0, len(self._tiles), 4)]
            width = max(row.shape[1] for row in rows)
            sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
            Picture.fromarray(sheet).save(self.folder / f"epoch-{trainer.current_epoch:04d}.png")
        self._tiles.clear()


def _tile(grey: Array, marked: Array, truth: Array) -> Array:
    """A grey plane (the middle one of a volume) with both outlines, uint8 (row, column, 3)."""
    if grey.ndim == 3:
        middle = len(grey) // 2
        grey, marked, truth = grey[middle], marked[middle], truth[middle]
    picture = np.repeat(np.clip(grey * 255, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    picture[_border(truth)] = (0, 220, 0)
    picture[_border(marked)] = (255, 60, 60)
    return picture


def _border(mask: Array) -> Array:
    inside = np.pad(mask, 1)
    kept = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return np.asarray(mask & ~kept)
