"""The closed enumeration of networks, as plain data that a package can carry. Nothing here knows torch.

Each kind is one dataclass: its settings, what it can give, what each side of an image must be a multiple of, and what
it refuses. The rest of the toolkit asks it; a new kind is its dataclass and a row of `KINDS`, and its builder with a
row of `imaging.models.build.BUILDERS`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal

from jsonargparse import ArgumentError, ArgumentParser

from imaging.errors import ConfigError, Reason

Output = Literal["labels", "classes", "boxes"]
# Of one setting: its name, what was found, whether that is right, and what is allowed.
Check = tuple[str, object, bool, str]
_GROUPS = 8  # MONAI's heads normalise their channels in so many groups


@dataclass(frozen=True)
class Network(ABC):
    """What every kind maps from: images (batch, in_channels, *spatial). Here are the answers of a kind without its own.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.

    Raises:
        ConfigError: For settings that no network of the kind has.
    """

    kind: ClassVar[str]
    # `labels` of every pixel, `classes` of the whole image, `boxes` with a label each.
    can_give: ClassVar[frozenset[Output]]
    # Whether it is given as a file, which is run and not trained.
    is_file: ClassVar[bool] = False

    spatial_dims: Literal[2, 3] = 2
    in_channels: int = 1

    def __post_init__(self) -> None:
        for field, found, is_right, allowed in self._checks():
            if not is_right:
                raise _refusal(self.kind, field, found, allowed)

    def _checks(self) -> Iterator[Check]:
        yield "spatial_dims", self.spatial_dims, self.spatial_dims in (2, 3), "2 or 3"
        yield "in_channels", self.in_channels, self.in_channels >= 1, "1 or more"

    @property
    def gives(self) -> frozenset[Output]:
        """What it gives with these settings."""
        return self.can_give if self.classes else self.can_give - {"classes"}

    @property
    def is_volume(self) -> bool:
        """Whether it takes volumes."""
        return self.spatial_dims == 3

    @property
    def out_channels(self) -> int:
        """Background and one channel per label; without labels the background alone."""
        return 1

    @property
    def classes(self) -> int:
        """Image classes."""
        return 0

    @property
    def anchors(self) -> tuple[float, ...]:
        """Sides, in pixels of the image, of the squares or cubes from which boxes are made on the finest level."""
        return ()

    @property
    def strides(self) -> tuple[int, ...]:
        """How much coarser than the image each level that gives boxes is, finest first."""
        return ()

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each side of an image, in array axis order, must be a multiple of."""
        return (1,) * self.spatial_dims

    def fits(self, sides: Sequence[int]) -> bool:
        """Whether images of these sides can be taken."""
        return len(sides) == self.spatial_dims and all(
            side >= 1 and side % multiple == 0 for side, multiple in zip(sides, self.multiples, strict=True)
        )

    @property
    def sides(self) -> str:
        """Which sides fit, in words."""
        told = dict.fromkeys(self.multiples) if len(set(self.multiples)) == 1 else self.multiples
        return f"sides that are multiples of {' × '.join(map(str, told))}"

    def stated(self) -> dict[str, Any]:
        """The network as files state it, plain values with its kind first; `parse_network` is the way back."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        every = {"kind": self.kind, "spatial_dims": 2, "in_channels": 1, **_ONCE_OF_ALL, **own}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in every.items()}


@dataclass(frozen=True)
class BasicUNetSettings(Network):
    """MONAI's BasicUNet: labels per pixel.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label.
        features: Widths of five levels and of the last decoder level.
    """

    kind = "basic_unet"
    can_give = frozenset({"labels"})

    out_channels: int = 2
    features: tuple[int, ...] = (16, 16, 32, 64, 128, 16)

    def _checks(self) -> Iterator[Check]:
        yield from super()._checks()
        yield _labelled(self.out_channels)
        yield from _widths(self.features, 6, 6)

    @property
    def multiples(self) -> tuple[int, ...]:
        return (16,) * self.spatial_dims


@dataclass(frozen=True)
class DynUNetSettings(Network):
    """MONAI's residual DynUNet: labels per pixel, and classes of the whole image that share its trunk.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label.
        features: Widths, one per level, each half as fine as the one before.
        stem: How much coarser than the image the finest level is, 1 or 2.
        flat: Of volumes only: how many of the finest levels see each slice by itself. Their kernels are 1 × 3 × 3, and
            the way to them and out of them halves rows and columns alone, as nnU-Net plans it for slices thicker than
            pixels are wide (Isensee et al., Nat Methods 2021).
        deep_supervision: How many coarser decoder levels are penalised too.
        classes: Image classes.
    """

    kind = "dyn_unet"
    can_give = frozenset({"labels", "classes"})

    out_channels: int = 2
    features: tuple[int, ...] = (16, 16, 32, 64, 128, 16)
    stem: Literal[1, 2] = 1
    flat: int = 0
    deep_supervision: int = 0
    classes: int = 0

    def _checks(self) -> Iterator[Check]:
        levels = len(self.features)
        deepest, flattest = max(0, levels - 2), levels - 1 if self.is_volume else 0
        yield from super()._checks()
        yield _labelled(self.out_channels)
        yield from _widths(self.features, 3)
        yield "stem", self.stem, self.stem in (1, 2), "1 or 2"
        yield "flat", self.flat, 0 <= self.flat <= flattest, f"0 to {flattest}" if flattest else "0"
        yield "deep_supervision", self.deep_supervision, 0 <= self.deep_supervision <= deepest, f"0 to {deepest}"
        yield "classes", self.classes, self.classes == 0 or self.classes >= 2, "0, or 2 or more"

    @property
    def multiples(self) -> tuple[int, ...]:
        whole = self.stem << (len(self.features) - 1)
        if not self.flat:
            return (whole,) * self.spatial_dims
        return 1 << (len(self.features) - 1 - self.flat), whole, whole


# Channels of EfficientNet-Lite0 at strides 2, 4, 8, 16 and 32 (Tan and Le, ICML 2019).
# What its published weights are called where a run begins with them, and the digest of their file.
PUBLISHED: Final = "efficientnet-lite0"
PUBLISHED_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ENCODER_WIDTHS: Final = (16, 24, 40, 112, 320)


@dataclass(frozen=True)
class EfficientUNetSettings(Network):
    """EfficientNet-Lite0 as the encoder of a U-Net: labels per pixel, and classes of the whole image; of images only.

    Args:
        spatial_dims: 2.
        in_channels: Channels of the harmonised image, in 0-1.
        out_channels: Background and one channel per label.
        features: Widths of the decoder's four levels, coarsest first; the finest is half as fine as the image.
        norm: `folded` keeps the statistics of the published weights inside the convolutions; `group` normalises each
            image by itself and begins with random weights.
        deep_supervision: How many coarser decoder levels are penalised too.
        classes: Image classes.
    """

    kind = "efficient_unet"
    can_give = frozenset({"labels", "classes"})

    out_channels: int = 2
    features: tuple[int, ...] = (128, 64, 48, 32)
    norm: Literal["folded", "group"] = "folded"
    deep_supervision: int = 0
    classes: int = 0

    def _checks(self) -> Iterator[Check]:
        yield from super()._checks()
        yield "spatial_dims", self.spatial_dims, self.spatial_dims == 2, "2"
        yield _labelled(self.out_channels)
        yield from _widths(self.features, 4, 4)
        is_grouped = all(width % _GROUPS == 0 for width in self.features)
        yield "features", list(self.features), is_grouped, f"multiples of {_GROUPS}"
        yield "deep_supervision", self.deep_supervision, 0 <= self.deep_supervision <= 3, "0 to 3"
        yield "classes", self.classes, self.classes == 0 or self.classes >= 2, "0, or 2 or more"

    @property
    def multiples(self) -> tuple[int, ...]:
        return (32,) * self.spatial_dims


@dataclass(frozen=True)
class ResNetSettings(Network):
    """MONAI's ResNet with one basic block a stage: classes of the whole image.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        features: Widths of four stages.
        classes: Image classes.
    """

    kind = "resnet"
    can_give = frozenset({"classes"})

    features: tuple[int, ...] = ()
    classes: int = 0

    def _checks(self) -> Iterator[Check]:
        yield from super()._checks()
        yield from _widths(self.features, 4, 4)
        yield "classes", self.classes, self.classes >= 2, "2 or more"


@dataclass(frozen=True)
class RetinaNetSettings(Network):
    """Boxes with a label each, from every level of a pyramid.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label.
        features: Widths, one per level, each half as fine as the one before.
        stem: How much coarser than the image the finest level is, 1 or 2.
        pyramid: How many levels give boxes, the coarsest of them all.
        pyramid_width: Channels of these levels.
        anchors: Sides, in pixels of the image, of the squares or cubes that stand at every place of the finest level
            that gives boxes. On each coarser level they are twice as large.
    """

    kind = "retinanet"
    can_give = frozenset({"boxes"})

    out_channels: int = 2
    features: tuple[int, ...] = (16, 16, 32, 64, 128, 16)
    stem: Literal[1, 2] = 1
    pyramid: int = 3
    pyramid_width: int = 64
    anchors: tuple[float, ...] = (24.0, 30.0, 38.0)

    def _checks(self) -> Iterator[Check]:
        levels, width = len(self.features), self.pyramid_width
        yield from super()._checks()
        yield _labelled(self.out_channels)
        yield from _widths(self.features, 2)
        yield "stem", self.stem, self.stem in (1, 2), "1 or 2"
        yield "pyramid", self.pyramid, 1 <= self.pyramid <= levels, f"1 to {levels}"
        yield "pyramid_width", width, width >= 1 and width % _GROUPS == 0, f"multiples of {_GROUPS}"
        has_sides = bool(self.anchors) and min(self.anchors) >= 1
        yield "anchors", list(self.anchors), has_sides, "sides of 1 pixel or more"

    @property
    def multiples(self) -> tuple[int, ...]:
        return (self.stem << (len(self.features) - 1),) * self.spatial_dims

    @property
    def strides(self) -> tuple[int, ...]:
        levels = len(self.features)
        return tuple(self.stem << level for level in range(levels - self.pyramid, levels))


@dataclass(frozen=True)
class OnnxSettings(Network):
    """A network given as an ONNX file, which gives labels per pixel and is not trained here.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label.
        features: None: the file knows them.
        activation: What makes probabilities of its output: `softmax` over `out_channels` channels, or `sigmoid` of the
            one channel of the one label.
        axes: Which spatial axis of the image, from 1, each spatial axis of the file's input is; negative where it runs
            the other way. Empty where they are the same.
        mirrored: Spatial axes of the image, from 1, that are reversed together in a second pass, after which the logits
            are the mean of both passes; empty for one pass.
    """

    kind = "onnx"
    can_give = frozenset({"labels"})
    is_file = True

    out_channels: int = 2
    features: tuple[int, ...] = ()
    activation: Literal["softmax", "sigmoid"] = "softmax"
    axes: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()

    def _checks(self) -> Iterator[Check]:
        every = list(range(1, self.spatial_dims + 1))
        is_turn = sorted(abs(axis) for axis in self.axes) == every
        is_some = len(set(self.mirrored)) == len(self.mirrored) and set(self.mirrored) <= set(every)
        is_known = self.activation == "softmax" or (self.activation == "sigmoid" and self.out_channels == 2)
        found = f"{self.activation} for {self.out_channels} channels"
        yield from super()._checks()
        yield _labelled(self.out_channels)
        yield from _widths(self.features, 0, 0)
        yield "activation", found, is_known, "softmax, or sigmoid for 2: background and one label"
        yield "axes", list(self.axes), not self.axes or is_turn, f"none, or each of {every} once, with either sign"
        yield "mirrored", list(self.mirrored), is_some, f"none, or some of {every}"


# The enumeration. Files name a kind of this table; no class is imported by a name found in a file.
KINDS: Final[dict[str, type[Network]]] = {
    settings.kind: settings
    for settings in (
        BasicUNetSettings,
        DynUNetSettings,
        EfficientUNetSettings,
        ResNetSettings,
        RetinaNetSettings,
        OnnxSettings,
    )
}
# Format 1 of packages, and with it their identity, states these of every kind. A kind that has no such setting takes
# and states this value alone. What a later kind adds is its own and does not come here.
_ONCE_OF_ALL: Final[Mapping[str, object]] = {
    "out_channels": 2,
    "features": (16, 16, 32, 64, 128, 16),
    "stem": 1,
    "flat": 0,
    "deep_supervision": 0,
    "classes": 0,
    "pyramid": 3,
    "pyramid_width": 64,
    "anchors": (24.0, 30.0, 38.0),
    "activation": "softmax",
    "axes": (),
    "mirrored": (),
}


def parse_network(stated: Mapping[str, Any]) -> Network:
    """The network that a file or a command line states: its `kind`, and settings by name.

    Raises ConfigError naming the key that is unknown, of a wrong type, or nothing that the kind has.
    """
    kind = stated.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"network, kind: found {kind}; allowed is {', '.join(KINDS)}", Reason.CONFIG_INVALID)
    known = [field.name for field in fields(KINDS[kind])]
    own = {name: value for name, value in stated.items() if name in known}
    for name, value in stated.items():
        if name in known or name == "kind":
            continue
        if name not in _ONCE_OF_ALL:
            raise _refusal(kind, repr(name), value, f"the settings {', '.join(known)}")
        neutral = _ONCE_OF_ALL[name]
        if (tuple(value) if isinstance(value, list) else value) != neutral:
            raise _refusal(kind, name, value, str(neutral))
    return _typed(KINDS[kind], own)


def kinds_giving(output: Output) -> str:
    """The kinds that can give this and be trained, in words."""
    return ", ".join(kind for kind, network in KINDS.items() if output in network.can_give and not network.is_file)


def _typed(network: type[Network], own: dict[str, Any]) -> Network:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(network, "network")
    try:
        told = parser.parse_object({"network": own}, defaults=False)
    except (ArgumentError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"network of kind {network.kind}: {detail}", Reason.CONFIG_INVALID) from error
    return network(**(told.network.as_dict() if own else {}))


def _labelled(out_channels: int) -> Check:
    return "out_channels", out_channels, out_channels >= 2, "2 or more"


def _widths(features: tuple[int, ...], least: int, most: int | None = None) -> Iterator[Check]:
    levels = len(features)
    is_right = least <= levels and (most is None or levels <= most)
    yield "features", f"{levels} widths", is_right, f"{least} or more" if most is None else str(least)
    yield "features", list(features), min(features, default=1) >= 1, "widths of 1 or more"


def _refusal(kind: object, field: str, found: object, allowed: str) -> ConfigError:
    return ConfigError(f"network of kind {kind}, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)
