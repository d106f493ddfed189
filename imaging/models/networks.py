"""The closed enumeration of networks, as plain data that a package can carry. Nothing here knows torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from imaging.errors import ConfigError, Reason

Kind = Literal["basic_unet", "dyn_unet", "resnet", "retinanet", "onnx"]
_LEAST_LEVELS = {"basic_unet": 6, "dyn_unet": 3, "resnet": 4, "retinanet": 2, "onnx": 0}
_LEVELLED = ("dyn_unet", "retinanet")  # kinds of as many levels as they are given widths
_CLASSES = {
    "basic_unet": "0; dyn_unet can share its trunk",
    "dyn_unet": "0, or 2 or more",
    "resnet": "2 or more",
    "retinanet": "0; boxes have labels of their own",
    "onnx": "0",
}
_GROUPS = 8  # MONAI's heads normalise their channels in so many groups


@dataclass(frozen=True)
class Network:
    """A network that maps (batch, in_channels, *spatial) to logits of labels, of image classes or of both, or to boxes.

    Args:
        kind: `basic_unet` and `dyn_unet` (residual) give labels per pixel, `resnet` gives classes of the whole image,
            `retinanet` gives boxes with a label each. `onnx` is a network given as a file, which gives labels per pixel
            and is not trained here.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label; of no meaning to `resnet`.
        features: Widths. `basic_unet`: five levels and the last decoder level; `dyn_unet` and `retinanet`: one per
            level, each half as fine as the one before; `resnet`: four stages; `onnx`: none, the file knows them.
        stem: `dyn_unet` and `retinanet`: how much coarser than the image the finest level is, 1 or 2.
        flat: `dyn_unet` of volumes only: how many of the finest levels see each slice by itself. Their kernels are
            1 × 3 × 3, and the way to them and out of them halves rows and columns alone, as nnU-Net plans it for slices
            thicker than pixels are wide (Isensee et al., Nat Methods 2021).
        deep_supervision: `dyn_unet` only: how many coarser decoder levels are penalised too.
        classes: Image classes. On `dyn_unet` they share the trunk with the labels.
        pyramid: `retinanet` only: how many levels give boxes, the coarsest of them all.
        pyramid_width: `retinanet` only: channels of these levels.
        anchors: `retinanet` only: sides, in pixels of the image, of the squares or cubes that stand at every place of
            the finest level that gives boxes. On each coarser level they are twice as large.
        activation: `onnx` only: what makes probabilities of its output: `softmax` over `out_channels` channels, or
            `sigmoid` of the one channel of the one label.
        axes: `onnx` only: which spatial axis of the image, from 1, each spatial axis of the file's input is; negative
            where it runs the other way. Empty where they are the same.
        mirrored: `onnx` only: spatial axes of the image, from 1, that are reversed together in a second pass, after
            which the logits are the mean of both passes; empty for one pass.

    Raises:
        ConfigError: For a combination that no network of the enumeration has.
    """

    kind: Kind = "basic_unet"
    spatial_dims: Literal[2, 3] = 2
    in_channels: int = 1
    out_channels: int = 2
    features: tuple[int, ...] = (16, 16, 32, 64, 128, 16)
    stem: Literal[1, 2] = 1
    flat: int = 0
    deep_supervision: int = 0
    classes: int = 0
    pyramid: int = 3
    pyramid_width: int = 64
    anchors: tuple[float, ...] = (24.0, 30.0, 38.0)
    activation: Literal["softmax", "sigmoid"] = "softmax"
    axes: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            self._refuse("kind", self.kind, ", ".join(get_args(Kind)))
        levels, least, is_levelled = len(self.features), _LEAST_LEVELS[self.kind], self.kind in _LEVELLED
        deepest = max(0, levels - 2) if self.kind == "dyn_unet" else 0
        flattest = levels - 1 if self.kind == "dyn_unet" and self.spatial_dims == 3 else 0
        checks = (
            ("spatial_dims", self.spatial_dims, self.spatial_dims in (2, 3), "2 or 3"),
            ("in_channels", self.in_channels, self.in_channels >= 1, "1 or more"),
            ("out_channels", self.out_channels, self.out_channels >= 2 or self.kind == "resnet", "2 or more"),
            (
                "features",
                f"{levels} widths",
                levels == least or (is_levelled and levels > least),
                f"{least} or more" if is_levelled else str(least),
            ),
            ("features", list(self.features), min(self.features, default=1) >= 1, "widths of 1 or more"),
            ("stem", self.stem, self.stem in ((1, 2) if is_levelled else (1,)), "1 or 2" if is_levelled else "1"),
            ("flat", self.flat, 0 <= self.flat <= flattest, f"0 to {flattest}" if flattest else "0"),
            ("deep_supervision", self.deep_supervision, 0 <= self.deep_supervision <= deepest, f"0 to {deepest}"),
            ("classes", self.classes, self._has_right_classes(), _CLASSES[self.kind]),
            *(self._box_checks() if self.kind == "retinanet" else ()),
            *(self._file_checks() if self.kind == "onnx" else ()),
        )
        for field, found, is_right, allowed in checks:
            if not is_right:
                self._refuse(field, found, allowed)

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each side of an image, in array axis order, must be a multiple of."""
        if self.kind not in _LEVELLED:
            return (16 if self.kind == "basic_unet" else 1,) * self.spatial_dims
        whole = self.stem << (len(self.features) - 1)
        if not self.flat:
            return (whole,) * self.spatial_dims
        return 1 << (len(self.features) - 1 - self.flat), whole, whole

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

    @property
    def gives_boxes(self) -> bool:
        """Whether it detects, instead of saying something of every pixel or of the whole image."""
        return self.kind == "retinanet"

    @property
    def strides(self) -> tuple[int, ...]:
        """How much coarser than the image each level that gives boxes is, finest first."""
        levels = len(self.features)
        return tuple(self.stem << level for level in range(levels - self.pyramid, levels))

    def _has_right_classes(self) -> bool:
        if self.classes == 0:
            return self.kind != "resnet"
        return self.classes >= 2 and self.kind in ("dyn_unet", "resnet")

    def _box_checks(self) -> tuple[tuple[str, object, bool, str], ...]:
        """Field, what was found, whether that is right, and what is allowed: of what only boxes need."""
        levels, width = len(self.features), self.pyramid_width
        return (
            ("pyramid", self.pyramid, 1 <= self.pyramid <= levels, f"1 to {levels}"),
            ("pyramid_width", width, width >= 1 and width % _GROUPS == 0, f"multiples of {_GROUPS}"),
            ("anchors", list(self.anchors), bool(self.anchors) and min(self.anchors) >= 1, "sides of 1 pixel or more"),
        )

    def _file_checks(self) -> tuple[tuple[str, object, bool, str], ...]:
        """The same, of what only networks that are given as a file need."""
        every = list(range(1, self.spatial_dims + 1))
        is_turn = sorted(abs(axis) for axis in self.axes) == every
        return (
            (
                "activation",
                f"{self.activation} for {self.out_channels} channels",
                self.activation == "softmax" or (self.activation == "sigmoid" and self.out_channels == 2),
                "softmax, or sigmoid for 2: background and one label",
            ),
            ("axes", list(self.axes), not self.axes or is_turn, f"none, or each of {every} once, with either sign"),
            (
                "mirrored",
                list(self.mirrored),
                len(set(self.mirrored)) == len(self.mirrored) and set(self.mirrored) <= set(every),
                f"none, or some of {every}",
            ),
        )

    def _refuse(self, field: str, found: object, allowed: str) -> None:
        raise ConfigError(
            f"network of kind {self.kind}, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID
        )
