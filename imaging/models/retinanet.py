"""RetinaNet in two and three dimensions: a residual backbone, a feature pyramid, and two heads that share all levels.

After Lin et al. (2017) and nnDetection (Baumgartner et al., 2021), of MONAI's parts. MONAI's own backbone needs
torchvision; this one is made of nnU-Net's residual blocks. Boxes are low then high corner in array axis order, in
corner convention: the first pixel spans 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.apps.detection.networks.retinanet_network import RetinaNetClassificationHead, RetinaNetRegressionHead
from monai.apps.detection.utils.box_coder import BoxCoder
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from torch import Tensor, nn

from imaging.models.networks import Network, RetinaNetSettings


class RetinaNet(nn.Module):
    """Logits and codes of the anchors of each level that gives boxes; a subclass's forward says how they are given."""

    def __init__(self, network: RetinaNetSettings) -> None:
        super().__init__()
        dims, widths, first = network.spatial_dims, network.features, len(network.features) - network.pyramid
        self.labels = network.out_channels - 1
        self.first = first
        self.blocks = nn.ModuleList(
            UnetResBlock(dims, before, width, 3, 2 if level else network.stem, ("instance", {"affine": True}))
            for level, (before, width) in enumerate(zip((network.in_channels, *widths), widths, strict=False))
        )
        self.pyramid = FeaturePyramidNetwork(dims, list(widths[first:]), network.pyramid_width)
        # The classification head begins with one anchor in a hundred taken for a lesion (Lin et al., 4.1).
        self.labelling = RetinaNetClassificationHead(network.pyramid_width, len(network.anchors), self.labels, dims)
        self.moving = RetinaNetRegressionHead(network.pyramid_width, len(network.anchors), dims)

    def told(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Of each level, finest first: logits (batch, anchors, labels) and codes (batch, anchors, 2 · dims), float32.

        Anchors run over the level's places in array order and, at each place, over `network.anchors`.
        """
        levels: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number >= self.first:
                levels[str(number)] = x
        told = []
        for level in self.pyramid(levels).values():
            # MONAI's heads look for NaN at every level; the task does so once, and names the cases.
            logits = self.labelling.cls_logits(self.labelling.conv(level))
            codes = self.moving.bbox_reg(self.moving.conv(level))
            told.append((_listed(logits, self.labels), _listed(codes, 2 * (x.ndim - 2))))
        return tuple(told)


def _listed(level: Tensor, values: int) -> Tensor:
    """(batch, sides · values, *spatial) as (batch, anchors, values), float32."""
    return level.flatten(2).transpose(1, 2).reshape(len(level), -1, values).float()


def places(network: Network, shape: Sequence[int]) -> list[int]:
    """How many places each level that gives boxes has on an image of `shape` (*spatial), finest first."""
    counts = []
    for stride in network.strides:
        count = 1
        for side in shape:
            count *= side // stride
        counts.append(count)
    return counts


def anchors(network: Network, shape: Sequence[int], device: torch.device | None = None) -> list[Tensor]:
    """Each level's anchors (n, 2 · dims) float32 on an image of `shape` (*spatial), ordered as the network's outputs.

    MONAI's generator rounds their sides, and at a stride of 1 puts them half a pixel off.
    """
    every = []
    for level, stride in enumerate(network.strides):
        axes = [(torch.arange(side // stride, device=device) + 0.5) * stride for side in shape]
        centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 1, len(shape))
        halves = torch.tensor(network.anchors, device=device)[:, None] * 2.0**level / 2
        every.append(torch.cat([centres - halves, centres + halves], dim=-1).reshape(-1, 2 * len(shape)))
    return every


def encode(boxes: Tensor, anchored: Tensor) -> Tensor:
    """The codes (n, 2 · dims) that make these boxes (n, 2 · dims) of their anchors. No side of a box is 0."""
    codes: Tensor = _coder(boxes).encode_single(boxes, anchored)
    return codes


def decode(codes: Tensor, anchored: Tensor) -> Tensor:
    """The boxes (n, 2 · dims) that codes (n, 2 · dims) make of their anchors; sides grow at most 62.5-fold."""
    boxes: Tensor = _coder(codes).decode_single(codes, anchored)
    return boxes


def _coder(like: Tensor) -> BoxCoder:
    return BoxCoder((1.0,) * like.shape[-1])
