"""Segmentation as a LightningModule: what is penalised, and what is watched. It knows no modality."""

from __future__ import annotations

from collections import defaultdict

import pytorch_lightning as pl
import torch
from monai.losses import DiceCELoss
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from imaging.data.dataset import Sample
from imaging.models.build import build
from imaging.models.networks import Network


class SegmentationTask(pl.LightningModule):
    """Background and labels by softmax, Dice plus cross-entropy, AdamW with a cosine schedule.

    Args:
        network: The network, by description.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
    """

    def __init__(self, network: Network, learning_rate: float = 2e-3, weight_decay: float = 1e-4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = network
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.model = build(network)
        # Dice over the batch, not per image: most images may hold nothing, and an empty image has no Dice of its own.
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        self._dice: dict[str, list[float]] = defaultdict(list)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, class, *spatial) of harmonised images (batch, channel, *spatial)."""
        logits: Tensor = self.model(image)
        return logits

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        del batch_idx
        loss: Tensor = self.loss(self(batch["image"]), batch["truth"])
        if not torch.isfinite(loss):
            raise FloatingPointError(f"DiceCE loss is {loss.item()} on cases {batch['case_id']}; stopped")
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        del batch_idx
        self._score(batch)

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        del batch_idx
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_sites("val")

    def on_test_epoch_end(self) -> None:
        self._log_sites("test")

    def _score(self, batch: Sample) -> None:
        """Dice per case with a lesion; on a case without one, whether anything was marked."""
        marked = self(batch["image"]).argmax(dim=1, keepdim=True) > 0
        for own, truth, site in zip(marked, batch["truth"] > 0, batch["site"], strict=True):
            if truth.any():
                dice = 2 * (own & truth).sum() / (own.sum() + truth.sum())
                self._dice[f"dice/{site}"].append(float(dice))
            else:
                self._dice[f"marked_empty/{site}"].append(float(own.any()))

    def _log_sites(self, stage: str) -> None:
        """Each site's figures and their macro mean over sites: the number that chooses the checkpoint."""
        means = {name: sum(values) / len(values) for name, values in self._dice.items()}
        for name, value in means.items():
            self.log(f"{stage}/{name}", value)
        dices = [value for name, value in means.items() if name.startswith("dice/")]
        empties = [value for name, value in means.items() if name.startswith("marked_empty/")]
        if dices:
            self.log(f"{stage}/dice", sum(dices) / len(dices), prog_bar=True)
        if empties:
            self.log(f"{stage}/marked_empty", sum(empties) / len(empties), prog_bar=True)
        self._dice.clear()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
