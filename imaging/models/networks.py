"""The closed enumeration of networks, as plain data that a package can carry. Nothing here knows torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Width = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Network:
    """A network that maps (batch, in_channels, *spatial) to logits (batch, out_channels, *spatial).

    Args:
        kind: Which network of the enumeration.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label.
        features: Widths of the five levels, and of the last decoder level.
    """

    kind: Literal["basic_unet"] = "basic_unet"
    spatial_dims: Literal[2, 3] = 2
    in_channels: int = 1
    out_channels: int = 2
    features: Width = (16, 16, 32, 64, 128, 16)
