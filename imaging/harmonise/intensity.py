"""Intensity building blocks as MONAI transforms: one luminance channel, one range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from imaging.image import Channels

# ITU-R BT.601, the luma that YBR_FULL is defined by (PS3.3 C.7.6.3.1.2).
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ToLuminance(Transform):
    """One luminance channel (1, row, column): the stored Y of YBR, the luma of RGB, grey as it is.

    `channels` says what the channel axis holds.
    """

    channels: Channels

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        if self.channels != "rgb":
            return tensor[:1]
        weights = torch.tensor(_LUMA, dtype=tensor.dtype).reshape(3, 1, 1)
        return (tensor * weights).sum(dim=0, keepdim=True)


@dataclass(frozen=True)
class ScalePercentiles(Transform):
    """Lit pixels' `low` and `high` percentiles become 0 and 1, clipped. Black (0) is no echo and is not counted.

    An image without a lit pixel, or with only one grey level, becomes 0.
    """

    low: float = 1.0
    high: float = 99.5

    def __call__(self, tensor: MetaTensor) -> MetaTensor:
        values = tensor.numpy()
        lit = values[values > 0]
        if lit.size == 0:
            return torch.zeros_like(tensor)
        bottom, top = np.percentile(lit, (self.low, self.high))
        if top <= bottom:
            return torch.zeros_like(tensor)
        return ((tensor - float(bottom)) / float(top - bottom)).clamp(0.0, 1.0)
