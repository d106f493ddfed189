"""The closed enumeration of networks: a typed description in, an nn.Module out.

The description is plain data, so a package can carry it; nothing imports a class by a name found in a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

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


def build(network: Network) -> nn.Module:
    """MONAI's BasicUNet as described, with fresh weights. Spatial sizes must be multiples of 16."""
    from monai.networks.nets import BasicUNet  # here, so that reading a package's description needs no torch

    unet: nn.Module = BasicUNet(
        spatial_dims=network.spatial_dims,
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        features=network.features,
        norm=("instance", {"affine": True}),
        upsample="nontrainable",
    )
    return unet
