"""Segmentation: labels per pixel, with image classes from the same trunk where the network has them."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor

from imaging.data.dataset import Batch
from imaging.models.build import Outputs
from imaging.models.detection import check_tiles
from imaging.models.networks import EfficientUNetSettings, Network, kinds_giving
from imaging.models.windows import probabilities
from imaging.tasks.classification import class_figures, class_loss
from imaging.tasks.task import Figures, Task


class SegmentationTask(Task):
    """Background and labels by softmax, under Dice plus cross-entropy on every supervised level.

    The checkpoint is chosen by `dice`: of each case the mean over the labels that it has (a miss is 0), and its mean
    over cases and then over sites. Of several labels each has its own figure too, `dice_1` and so on.

    Args:
        network: A network with labels per pixel, or its `kind` and settings by name.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        warmup: Part of all steps until the peak.
        encoder_rate: Of a network with published weights, the share of the rate that these learn at.
        class_weight: Weight of the image classes' cross-entropy beside the labels' loss.
        deep_weight: Weight of the first coarser level; each further one counts half of the one before.
        tile: Sides of the windows in which images are watched, one at a time; None takes them whole. It should be as
            large as what the network was trained on: it normalises over all that it sees.
    """

    chooses = ("val/dice", "max")

    def __init__(
        self,
        network: dict[str, Any] | Network,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        class_weight: float = 0.3,
        deep_weight: float = 0.3,
        tile: tuple[int, ...] | None = None,
        encoder_rate: float = 1.0,
    ) -> None:
        super().__init__(network, learning_rate, weight_decay, warmup, encoder_rate)
        if "labels" not in self.network.gives:
            self._refuse("network.kind", self.network.kind, f"{kinds_giving('labels')}, which give labels per pixel")
        if encoder_rate != 1 and not isinstance(self.network, EfficientUNetSettings):
            self._refuse("encoder_rate", encoder_rate, f"1, but for a network of kind {EfficientUNetSettings.kind}")
        check_tiles(self.network, tile, None)
        if tile and self.network.classes:
            self._refuse("tile", tile, "none of a network with image classes, which need the whole image")
        self.class_weight = class_weight
        self.deep_weight = deep_weight
        self.tile = tile
        # Dice over the batch, not per image: most images may hold nothing, and an empty image has no Dice of its own.
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        assert outputs.pixels is not None
        truth = self.everyone(batch["truth"])
        terms = {"labels": self.loss(self.everyone(outputs.pixels), truth)}
        for depth, logits in enumerate(outputs.deep):
            terms[f"deep_{depth + 1}"] = self.deep_weight * 0.5**depth * self.loss(self.everyone(logits), truth)
        if outputs.classes is not None:
            terms["classes"] = self.class_weight * class_loss(
                self.everyone(outputs.classes), self.everyone(batch["class_index"])
            )
        return terms

    def look(self, image: Tensor) -> Outputs:
        if self.tile is None:
            return self.forward(image)
        told = torch.stack([probabilities(self.model, one[None], self.tile) for one in image])
        return Outputs(told.clamp_min(torch.finfo(told.dtype).tiny).log(), None)

    def watch(self, batch: Batch) -> list[Figures]:
        """Dice of a case with a label (a miss is 0); of one without, whether anything was marked."""
        outputs = self.look(batch["image"])
        assert outputs.pixels is not None
        marked, labels = outputs.pixels.argmax(dim=1, keepdim=True), range(1, self.network.out_channels)
        told: list[Figures] = []
        for own, truth in zip(marked, batch["truth"], strict=True):
            by_label = {f"dice_{k}": _dice(own == k, truth == k) for k in labels if (truth == k).any()}
            if by_label:
                told.append({"dice": math.fsum(by_label.values()) / len(by_label)})
                told[-1].update(by_label if len(labels) > 1 else {})
            else:
                told.append({"marked_empty": float((own > 0).any())})
        if outputs.classes is not None:
            for figures, classes in zip(told, class_figures(outputs.classes, batch["class_index"]), strict=True):
                figures.update(classes)
        return told


def _dice(own: Tensor, truth: Tensor) -> float:
    return float(2 * (own & truth).sum() / (own.sum() + truth.sum()))
