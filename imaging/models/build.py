"""A network's description → an nn.Module. No class is imported by a name found in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from monai.networks.nets import BasicUNet, DynUNet, ResNet
from torch import Tensor, nn
from torch.nn import functional

from imaging.errors import ConfigError, Reason
from imaging.models.efficientnet import EfficientUNet
from imaging.models.networks import (
    BasicUNetSettings,
    DynUNetSettings,
    EfficientUNetSettings,
    Network,
    ResNetSettings,
    RetinaNetSettings,
)
from imaging.models.retinanet import RetinaNet

# Softens the mean over a nearly empty lesion, so that it tends to 0 and not to noise.
_LEAST_PIXELS = 0.1


class Outputs(NamedTuple):
    """What every network gives.

    `pixels` are logits (batch, out_channels, *spatial) as fine as the image, `classes` logits (batch, classes), each
    None where the network has none. `deep` are logits of coarser levels, finest first; empty outside training.
    `boxes` has, for each level that gives boxes, finest first, the label logits (batch, anchors, labels) and the codes
    (batch, anchors, 2 · dims) that say how its anchors are to be moved and sized; empty where the network has no boxes.
    """

    pixels: Tensor | None
    classes: Tensor | None
    deep: tuple[Tensor, ...] = ()
    boxes: tuple[tuple[Tensor, Tensor], ...] = ()


def build(network: Network) -> nn.Module:
    """The network as described, with fresh weights; its forward gives `Outputs`.

    Spatial sizes must be multiples of `network.multiples`. Raises ConfigError for a network that is given as a file,
    which has no weights to begin with (`imaging.models.onnx` reads it).
    """
    if network.is_file:
        trained = ", ".join(settings.kind for settings in BUILDERS)
        raise ConfigError(
            f"network of kind {network.kind}: it is given as a file and cannot be trained; allowed is {trained}",
            Reason.CONFIG_INVALID,
        )
    return BUILDERS[type(network)](network)


class _BasicUNet(BasicUNet):
    """MONAI's BasicUNet."""

    def __init__(self, network: BasicUNetSettings) -> None:
        super().__init__(
            spatial_dims=network.spatial_dims,
            in_channels=network.in_channels,
            out_channels=network.out_channels,
            features=network.features,
            norm=("instance", {"affine": True}),
            upsample="nontrainable",
        )

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(super().forward(x), None)


class _DynUNet(DynUNet):
    """MONAI's residual DynUNet (nnU-Net's), with classes of the whole image from the same trunk.

    The classes see the bottleneck, its mean and its maximum, and the mean of the finer decoder levels inside the
    predicted labels: what a lesion is, is told by its own texture and border. Labels get no gradient from classes.
    """

    def __init__(self, network: DynUNetSettings) -> None:
        kernels, strides = _plan(network)
        super().__init__(
            spatial_dims=network.spatial_dims,
            in_channels=network.in_channels,
            out_channels=network.out_channels,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=network.features,
            res_block=True,
        )
        # MONAI's own forward reaches the levels through this chain; here they are reached one by one.
        del self.skip_layers
        conv = nn.Conv2d if network.spatial_dims == 2 else nn.Conv3d
        coarser = network.features[1 : 1 + network.deep_supervision]
        self.deep_heads = nn.ModuleList(conv(width, network.out_channels, 1) for width in coarser)
        seen = network.features[-1] * 2 + sum(network.features[:3]) + 2
        self.classifier = _classifier(seen, network.classes)

    def forward(self, x: Tensor) -> Outputs:
        skips = [self.input_block(x)]
        for down in self.downsamples:
            skips.append(down(skips[-1]))
        bottleneck = self.bottleneck(skips[-1])
        levels = [bottleneck]
        for up, skip in zip(self.upsamples, reversed(skips), strict=True):
            levels.append(up(levels[-1], skip))
        finest_first = levels[::-1]
        logits = self.output_block(finest_first[0]).float()
        deep = [head(level).float() for head, level in zip(self.deep_heads, finest_first[1:], strict=False)]
        classes = _classify(self.classifier, logits, bottleneck, finest_first[:3])
        size = list(x.shape[2:])
        return Outputs(_as_fine(logits, size), classes, tuple(_as_fine(d, size) for d in deep) if self.training else ())


def _classifier(seen: int, classes: int, *first: nn.Module) -> nn.Module | None:
    """What makes class logits of `seen` features, after what comes first; None without classes."""
    if not classes:
        return None
    return nn.Sequential(*first, nn.Linear(seen, 64), nn.LeakyReLU(0.01), nn.Dropout(0.3), nn.Linear(64, classes))


def _classify(
    classifier: nn.Module | None, logits: Tensor, bottleneck: Tensor, finest: Sequence[Tensor]
) -> Tensor | None:
    """Class logits (batch, classes) of the whole image and of the decoder's levels where labels are predicted."""
    if classifier is None:
        return None
    axes = tuple(range(2, logits.ndim))
    labelled = logits.softmax(dim=1)[:, 1:].sum(dim=1, keepdim=True).detach()
    seen = [bottleneck.float().mean(axes), bottleneck.float().amax(axes)]
    for level in finest:
        weight = functional.interpolate(labelled, list(level.shape[2:]), mode="area")
        seen.append((level.float() * weight).sum(axes) / (weight.sum(axes) + _LEAST_PIXELS))
    seen += [labelled.amax(axes), labelled.mean(axes)]
    # Sums over an image need single precision; the weights may have another one.
    classes: Tensor = classifier(torch.cat(seen, dim=1).to(next(classifier.parameters()).dtype)).float()
    return classes


class _EfficientUNet(EfficientUNet):
    """Labels as fine as the image, and classes of the whole image, as of a `dyn_unet`."""

    def __init__(self, network: EfficientUNetSettings) -> None:
        super().__init__(network)
        # Published features are of other sizes than those of the decoder.
        self.classifier = _classifier(self.seen, network.classes, nn.LayerNorm(self.seen))

    def forward(self, x: Tensor) -> Outputs:
        bottleneck, finest_first = self.levels(x)
        logits, *deep = [head(level).float() for head, level in zip(self.heads, finest_first, strict=False)]
        classes = _classify(self.classifier, logits, bottleneck, finest_first[:3])
        size = list(x.shape[2:])
        return Outputs(_as_fine(logits, size), classes, tuple(_as_fine(d, size) for d in deep) if self.training else ())


def _plan(network: DynUNetSettings) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Of every level the kernel, and the stride by which it is reached."""
    dims, levels = network.spatial_dims, range(len(network.features))
    steps = [2 if level else network.stem for level in levels]
    if not network.flat:
        return [(3,) * dims for _ in levels], [(step,) * dims for step in steps]
    kernels: list[tuple[int, ...]] = [(1 if level < network.flat else 3, 3, 3) for level in levels]
    return kernels, [(1 if level <= network.flat else step, step, step) for level, step in enumerate(steps)]


class _ResNet(ResNet):
    """MONAI's ResNet with one basic block a stage."""

    def __init__(self, network: ResNetSettings) -> None:
        super().__init__(
            "basic",
            layers=[1, 1, 1, 1],
            block_inplanes=list(network.features),
            spatial_dims=network.spatial_dims,
            n_input_channels=network.in_channels,
            conv1_t_stride=2,
            num_classes=network.classes,
            norm=("instance", {"affine": True}),
        )

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(None, super().forward(x))


class _RetinaNet(RetinaNet):
    """Boxes at every level of a pyramid."""

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(None, None, boxes=self.told(x))


def _as_fine(logits: Tensor, size: list[int]) -> Tensor:
    if list(logits.shape[2:]) == size:
        return logits
    return functional.interpolate(logits, size, mode="bilinear" if len(size) == 2 else "trilinear")


# Of each kind that is trained here, what makes the module of its settings.
BUILDERS: Final[dict[type[Network], Callable[[Any], nn.Module]]] = {
    BasicUNetSettings: _BasicUNet,
    DynUNetSettings: _DynUNet,
    EfficientUNetSettings: _EfficientUNet,
    ResNetSettings: _ResNet,
    RetinaNetSettings: _RetinaNet,
}
