"""The closed enumeration of networks, as plain data that a package can carry. Nothing here knows torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from imaging.errors import ConfigError, Reason

Kind = Literal["basic_unet", "dyn_unet", "resnet"]
_LEAST_LEVELS = {"basic_unet": 6, "dyn_unet": 3, "resnet": 4}
_CLASSES = {"basic_unet": "0; dyn_unet can share its trunk", "dyn_unet": "0, or 2 or more", "resnet": "2 or more"}


@dataclass(frozen=True)
class Network:
    """A network that maps (batch, in_channels, *spatial) to logits of labels, of image classes, or of both.

    Args:
        kind: `basic_unet` and `dyn_unet` (residual) give labels per pixel, `resnet` gives classes of the whole image.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the harmonised image.
        out_channels: Background and one channel per label; of no meaning to `resnet`.
        features: Widths. `basic_unet`: five levels and the last decoder level; `dyn_unet`: one per level, each half as
            fine as the one before; `resnet`: four stages.
        stem: `dyn_unet` only: how much coarser than the image its finest level is, 1 or 2.
        deep_supervision: `dyn_unet` only: how many coarser decoder levels are penalised too.
        classes: Image classes. On `dyn_unet` they share the trunk with the labels.

    Raises:
        ConfigError: For a combination that no network of the enumeration has.
    """

    kind: Kind = "basic_unet"
    spatial_dims: Literal[2, 3] = 2
    in_channels: int = 1
    out_channels: int = 2
    features: tuple[int, ...] = (16, 16, 32, 64, 128, 16)
    stem: Literal[1, 2] = 1
    deep_supervision: int = 0
    classes: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            self._refuse("kind", self.kind, ", ".join(get_args(Kind)))
        levels, least, is_dyn = len(self.features), _LEAST_LEVELS[self.kind], self.kind == "dyn_unet"
        deepest = max(0, levels - 2) if is_dyn else 0
        checks = (
            ("spatial_dims", self.spatial_dims, self.spatial_dims in (2, 3), "2 or 3"),
            ("in_channels", self.in_channels, self.in_channels >= 1, "1 or more"),
            ("out_channels", self.out_channels, self.out_channels >= 2 or self.kind == "resnet", "2 or more"),
            (
                "features",
                f"{levels} widths",
                levels == least or (is_dyn and levels > least),
                f"{least} or more" if is_dyn else str(least),
            ),
            ("features", list(self.features), min(self.features, default=1) >= 1, "widths of 1 or more"),
            ("stem", self.stem, self.stem in ((1, 2) if is_dyn else (1,)), "1 or 2" if is_dyn else "1"),
            ("deep_supervision", self.deep_supervision, 0 <= self.deep_supervision <= deepest, f"0 to {deepest}"),
            ("classes", self.classes, self._has_right_classes(), _CLASSES[self.kind]),
        )
        for field, found, is_right, allowed in checks:
            if not is_right:
                self._refuse(field, found, allowed)

    @property
    def multiple(self) -> int:
        """What every side of an image must be a multiple of."""
        return {"basic_unet": 16, "dyn_unet": self.stem << (len(self.features) - 1), "resnet": 1}[self.kind]

    def _has_right_classes(self) -> bool:
        if self.classes == 0:
            return self.kind != "resnet"
        return self.classes >= 2 and self.kind != "basic_unet"

    def _refuse(self, field: str, found: object, allowed: str) -> None:
        raise ConfigError(
            f"network of kind {self.kind}, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID
        )
