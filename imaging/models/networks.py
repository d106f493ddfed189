"""The closed enumeration of networks, as plain data that a package can carry. Nothing here knows torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imaging.errors import ConfigError, Reason

Kind = Literal["basic_unet", "dyn_unet", "resnet"]
_LEAST_LEVELS = {"basic_unet": 6, "dyn_unet": 3, "resnet": 4}


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
        levels, least = len(self.features), _LEAST_LEVELS[self.kind]
        if levels < least or (self.kind != "dyn_unet" and levels != least):
            allowed = f"{least} or more" if self.kind == "dyn_unet" else str(least)
            self._refuse("features", f"{levels} widths", allowed)
        if self.kind != "dyn_unet" and (self.stem != 1 or self.deep_supervision):
            self._refuse("stem and deep_supervision", "values", "none, they belong to dyn_unet")
        if not 0 <= self.deep_supervision <= max(0, levels - 2):
            self._refuse("deep_supervision", str(self.deep_supervision), f"0 to {levels - 2}")
        if self.kind == "basic_unet" and self.classes:
            self._refuse("classes", str(self.classes), "0; dyn_unet can share its trunk")
        if self.kind == "resnet" and self.classes < 2:
            self._refuse("classes", str(self.classes), "2 or more")

    def _refuse(self, field: str, found: str, allowed: str) -> None:
        raise ConfigError(
            f"network of kind {self.kind}, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID
        )
