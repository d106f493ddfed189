"""Detection: boxes around lesions, each with a score, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher
from monai.data.box_utils import box_iou
from monai.losses.focal_loss import sigmoid_focal_loss
from monai.losses.giou_loss import BoxGIoULoss
from torch import Tensor

from imaging.data.dataset import Batch
from imaging.data.instances import enclosing_boxes
from imaging.evaluation.detection import OCTAVES, Account
from imaging.evaluation.matching import PICAI, HitRule, match_boxes
from imaging.evaluation.result import DetectionCase
from imaging.models.build import Outputs
from imaging.models.detection import Boxes, check_tiles, detect
from imaging.models.networks import Network, kinds_giving
from imaging.models.retinanet import anchors, decode, places
from imaging.tasks.task import Figures, Task

# As Lin et al. (2017): how little easy anchors count, and the weight of the rare ones with a lesion.
_FOCUS, _BALANCE = 2.0, 0.25
# Positions per level from which the anchors of a lesion are chosen (Zhang et al., 2020; nnDetection takes 4).
_POSITIONS = 4
NEGATIVE, IGNORED = -1, -2


class DetectionTask(Task):
    """One label, under focal loss for what an anchor holds and generalised IoU for the box that is made of it.

    The checkpoint is chosen by `froc`: sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per image, its mean
    over these rates and then over sites. A site without a lesion has none.

    Args:
        network: A network with boxes of one label, or its `kind` and settings by name.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        warmup: Part of all steps until the peak.
        box_weight: Weight of the boxes' loss beside that of their labels.
        hit_rule: When a box answers a lesion in validation and test.
        tile: Sides of the tiles in which images are watched; None takes them whole. It should be as large as what the
            network was trained on: it normalises over all that it sees, and scores shrink with another view.
        overlap: Pixels that neighbouring tiles share; None takes the side of the largest anchor.
    """

    chooses = ("val/froc", "max")
    judged_by = "a lesion"
    wants_instances = True

    def __init__(
        self,
        network: dict[str, Any] | Network,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        box_weight: float = 1.0,
        hit_rule: HitRule = PICAI,
        tile: tuple[int, ...] | None = None,
        overlap: int | None = None,
    ) -> None:
        super().__init__(network, learning_rate, weight_decay, warmup)
        if "boxes" not in self.network.gives:
            self._refuse("network.kind", self.network.kind, f"{kinds_giving('boxes')}, which give boxes")
        if self.network.out_channels != 2:
            # Instances have no kind: a mask says which lesion a pixel belongs to, and not what it is.
            self._refuse("network.out_channels", self.network.out_channels, "2: background and one label")
        check_tiles(self.network, tile, overlap)
        self.box_weight = box_weight
        self.hit_rule = hit_rule
        self.tile = tile
        self.overlap = overlap
        self.overlapping = BoxGIoULoss(reduction="sum")

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Both terms per anchor that has a lesion, over the batches of all processes; at least one is counted."""
        logits = torch.cat([level[0] for level in outputs.boxes], dim=1)[..., 0]
        codes = torch.cat([level[1] for level in outputs.boxes], dim=1)
        if not bool(logits.isfinite().all() & codes.isfinite().all()):
            return {"labels": logits.sum(), "boxes": codes.sum()}  # the step stops and tells the cases
        shape = batch["image"].shape[2:]
        anchored = torch.cat(anchors(self.network, shape, logits.device))
        label, box, matched = logits.sum() * 0.0, codes.sum() * 0.0, logits.new_zeros(())
        for own, moved, truth in zip(logits, codes, batch["truth"], strict=True):
            numbers, boxes = enclosing_boxes(truth[0])
            answers = match_anchors(self.network, shape, anchored, boxes[numbers > 0], boxes[numbers < 0])
            has, counts = answers >= 0, answers != IGNORED
            label = label + sigmoid_focal_loss(own[counts], has[counts].float(), _FOCUS, _BALANCE).sum()
            if bool(has.any()):
                box = box + self.overlapping(decode(moved[has], anchored[has]), boxes[numbers > 0][answers[has]])
            matched = matched + has.sum()
        every = self.everyone(matched[None]).sum().clamp_min(1)
        return {
            "labels": self.everyone(label[None]).sum() / every,
            "boxes": self.box_weight * self.everyone(box[None]).sum() / every,
        }

    def watch(self, batch: Batch) -> list[DetectionCase]:
        """Each case's lesions, found and missed, and its false positives."""
        told = []
        for case, site, truth, found in zip(
            batch["case_id"], batch["site"], batch["truth"], self._found(batch["image"]), strict=True
        ):
            lesions = enclosing_boxes(truth[0])[1].double().cpu().numpy()
            lines = match_boxes(found.boxes.numpy(), found.scores.numpy(), lesions, self.hit_rule)
            score = float(found.scores.max()) if len(found.scores) else 0.0
            told.append(DetectionCase(case, case, site, len(lesions) > 0, score, lines))
        return told

    def sum_up(self, kept: Sequence[DetectionCase]) -> Figures:
        """`froc` of a site; nothing of one without a lesion."""
        account = Account.of(kept)
        if not account.is_true.any():
            return {}
        once = np.ones((len(kept), 1))
        return {"froc": float(np.mean([account.sensitivity_at(rate)(once) for rate in OCTAVES]))}

    def marks(self, batch: Batch) -> Tensor:
        """Boxes of a score of 0.5 or more."""
        marked = torch.zeros_like(batch["truth"][:, 0], dtype=torch.bool)
        for one, found in zip(marked, self._found(batch["image"]), strict=True):
            for box in found.boxes[found.scores >= 0.5].round().long().tolist():
                one[tuple(slice(a, b) for a, b in zip(box[: one.ndim], box[one.ndim :], strict=True))] = True
        return marked

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Mapping[str, Boxes]:
        """The boxes of each case by its id, on the model's grid."""
        del batch_idx, dataloader_idx
        return dict(zip(batch["case_id"], self._found(batch["image"]), strict=True))

    def _found(self, images: Tensor) -> list[Boxes]:
        return [detect(self.model, image, self.network, self.tile, self.overlap) for image in images]


def match_anchors(network: Network, shape: Sequence[int], anchored: Tensor, lesions: Tensor, unclear: Tensor) -> Tensor:
    """Which lesion each anchor (a, 2 · dims) of an image of `shape` has to answer: (a,) its place among `lesions`
    (n, 2 · dims), NEGATIVE, or IGNORED where it touches an `unclear` box (m, 2 · dims) and no lesion is its own.

    ATSS (Zhang et al., CVPR 2020) takes, of the anchors nearest to a lesion, those of an overlap above the mean plus
    one standard deviation. A lesion that gets none that way gets the one that overlaps it most.
    """
    answers = torch.full((len(anchored),), NEGATIVE, device=anchored.device)
    if len(unclear):
        answers[(box_iou(unclear, anchored) > 0).any(dim=0)] = IGNORED
    if not len(lesions):
        return answers
    # A small lesion lies between the centres of anchors, so these need not be inside it.
    matcher = ATSSMatcher(_POSITIONS, center_in_gt=False)
    quality, matches = matcher(lesions, anchored, places(network, shape), len(network.anchors))
    answers = torch.where(matches >= 0, matches, answers)
    for number in range(len(lesions)):
        if not bool((answers == number).any()):
            answers[quality[number].argmax()] = number
    return answers
