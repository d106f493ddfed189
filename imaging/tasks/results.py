"""What testing and predicting leave in the run folder: figures by site, and what the network said of each case."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning import Callback
from torch import Tensor

from imaging.data.dataset import Batch
from imaging.models.build import Outputs
from imaging.models.detection import Boxes
from imaging.tasks.task import Figures

MEAN = "mean over sites"
PREDICTIONS = "predictions"
_CASES = ("case_id", "site", "file")


def figures_by_site(metrics: Mapping[str, Tensor], stage: str) -> dict[str, Figures]:
    """Logged figures (`test/dice/SITE`, `test/dice`) as rows, one a site and the mean over sites last."""
    rows: dict[str, Figures] = {}
    means: Figures = {}
    for name, value in sorted(metrics.items()):
        of, figure, *site = name.split("/", 2)
        if of == stage:
            (rows.setdefault(site[0], {}) if site else means)[figure] = float(value)
    return {**dict(sorted(rows.items())), MEAN: means}


def write_figures(rows: Mapping[str, Figures], path: Path) -> None:
    """The rows as a CSV with a column for each figure; empty where a site has none."""
    names = list(rows[MEAN])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("site", *names), lineterminator="\n")
        writer.writeheader()
        writer.writerows({"site": site, **figures} for site, figures in rows.items())


def as_text(rows: Mapping[str, Figures]) -> str:
    """The same for a terminal, in columns."""
    names = list(rows[MEAN])
    cells = [["site", *names]]
    cells += [[site, *(f"{of[name]:.4f}" if name in of else "-" for name in names)] for site, of in rows.items()]
    widths = [max(len(row[k]) for row in cells) for k in range(len(names) + 1)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


class KeepPredictions(Callback):
    """Writes what the network said of each case, on the model's grid: `cases.csv`, and one .npz for each case.

    A file holds `pixels` (class, *spatial) and `classes` (class), or `boxes`, `scores` and `labels` of a detector.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / PREDICTIONS
        self.count = 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("[0-9]*.npz"):
                old.unlink()
        trainer.strategy.barrier()
        with self._table(trainer).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(_CASES)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        del pl_module, batch_idx, dataloader_idx
        with self._table(trainer).open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            for case, site in zip(batch["case_id"], batch["site"], strict=True):
                # Names of cases may be no names of files.
                name = f"{trainer.global_rank + self.count * trainer.world_size:05d}.npz"
                np.savez_compressed(self.folder / name, **_arrays(outputs[case]))
                writer.writerow((case, site, name))
                self.count += 1

    def _table(self, trainer: pl.Trainer) -> Path:
        return self.folder / ("cases.csv" if trainer.is_global_zero else f"cases-{trainer.global_rank}.csv")


def _arrays(said: Outputs | Boxes) -> dict[str, Any]:
    """The tensors of one case by name."""
    return {name: value.cpu().numpy() for name, value in said._asdict().items() if isinstance(value, Tensor)}
