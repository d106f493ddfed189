"""Classification: one of several classes for a whole image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from imaging.data.dataset import UNKNOWN_CLASS, Batch
from imaging.models.build import Outputs
from imaging.models.networks import Network
from imaging.tasks.task import Figures, Task

_SMOOTHING = 0.1


class ClassificationTask(Task):
    """Classes by softmax under cross-entropy with label smoothing. Cases without a known class count nothing.

    Args:
        network: A network with image classes, or its `kind` and settings by name.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        warmup: Part of all steps until the peak.
    """

    chooses = ("val/log_loss", "min")
    needs_truth = False

    def __init__(
        self,
        network: dict[str, Any] | Network,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
    ) -> None:
        super().__init__(network, learning_rate, weight_decay, warmup)
        if "classes" not in self.network.gives:
            self._refuse("network.classes", self.network.classes, "2 or more")

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        assert outputs.classes is not None
        return {"classes": class_loss(self.everyone(outputs.classes), self.everyone(batch["class_index"]))}

    def watch(self, batch: Batch) -> list[Figures]:
        outputs: Outputs = self(batch["image"])
        assert outputs.classes is not None
        return class_figures(outputs.classes, batch["class_index"])


def class_loss(logits: Tensor, index: Tensor) -> Tensor:
    """Cross-entropy of logits (batch, classes); 0 when no case of the batch has a known class (UNKNOWN_CLASS)."""
    known = index != UNKNOWN_CLASS
    if not bool(known.any()):
        return logits.sum() * 0.0
    return functional.cross_entropy(logits[known].float(), index[known], label_smoothing=_SMOOTHING)


def class_figures(logits: Tensor, index: Tensor) -> list[Figures]:
    """Log loss and accuracy of each case; nothing of a case without a known class."""
    told: list[Figures] = []
    for chances, truth in zip(logits.float().log_softmax(dim=1), index.tolist(), strict=True):
        if truth == UNKNOWN_CLASS:
            told.append({})
        else:
            told.append({"log_loss": -float(chances[truth]), "accuracy": float(torch.argmax(chances) == truth)})
    return told
