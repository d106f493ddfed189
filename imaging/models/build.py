"""A network's description → an nn.Module. No class is imported by a name found in a file."""

from __future__ import annotations

from monai.networks.nets import BasicUNet
from torch import nn

from imaging.models.networks import Network


def build(network: Network) -> nn.Module:
    """MONAI's BasicUNet as described, with fresh weights. Spatial sizes must be multiples of 16."""
    unet: nn.Module = BasicUNet(
        spatial_dims=network.spatial_dims,
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        features=network.features,
        norm=("instance", {"affine": True}),
        upsample="nontrainable",
    )
    return unet
