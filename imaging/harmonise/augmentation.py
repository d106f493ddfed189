"""How much images of one modality may be varied in training: ranges that a recipe declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from imaging.errors import ConfigError, Reason

Range = tuple[float, float]
Change = bool | float | Range


@dataclass(frozen=True)
class Augmentation:
    """Ranges that are drawn from uniformly. A range of one neutral value switches a step off.

    Spatial steps are drawn for every sample; of a volume they move its rows and columns. Each intensity step is drawn
    for a sample with `chance`; `shadow` has its own.

    Args:
        rotation: Degrees in the plane of the last two axes, either way.
        scale: Zoom factor; above 1 enlarges.
        stretch: Factor between row and column zoom, either way; 1 keeps the aspect.
        shift: Part of the field of view, either way.
        flip_columns: Whether left and right may change places.
        flip_rows: Whether top and bottom may change places.
        chance: Of each intensity step.
        gamma: Exponent.
        brightness: Factor on all values.
        gain: Change of brightness from first to last row, as time gain compensation makes it, either way.
        speckle: Standard deviation of multiplicative noise with a grain of two pixels.
        noise: Standard deviation of additive noise.
        blur: Standard deviation of a Gaussian in pixels.
        low_resolution: Part of the resolution that remains.
        shadow: Chance of a dark band that runs down from a random depth.
        shadow_depth: Part of the brightness that a shadow leaves.
        strength: Widens every intensity range: factors are taken to this power, spreads and gain grow by it.
        bias_field: Largest logarithm of a smooth field of brightness, a cubic polynomial over the image (Sudre et al.,
            MICCAI 2017), as coils, heel effect and attenuation make it.
        convolutions: Chance of a random shallow network of convolutions, mixed with the image by a random share and
            brought back to its contrast (GIN: Ouyang et al., IEEE TMI 2023).
        amplitude: Chance that low spatial frequencies take over a random share of the amplitude of another training
            case, of another site where there is one, and keep their phase (Yang and Soatto, CVPR 2020; Liu et al.,
            CVPR 2021).
        amplitude_band: Part of the frequencies along each axis that are taken for low.
        channels: Channels whose intensities vary, each by itself; None for all of them alike. One that holds a
            quantity with a unit is to be left out.
        bounded: Whether harmonised intensities are 0-1, with 0 where nothing is, and stay so. Otherwise 0 is a value
            like others, and gamma works between the least and the highest value of a channel.
    """

    rotation: float = 0.0
    scale: Range = (1.0, 1.0)
    stretch: float = 1.0
    shift: float = 0.0
    flip_columns: bool = False
    flip_rows: bool = False
    chance: float = 0.0
    gamma: Range = (1.0, 1.0)
    brightness: Range = (1.0, 1.0)
    gain: float = 0.0
    speckle: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    blur: Range = (0.0, 0.0)
    low_resolution: Range = (1.0, 1.0)
    shadow: float = 0.0
    shadow_depth: Range = (0.2, 0.8)
    strength: float = 1.0
    bias_field: float = 0.0
    convolutions: float = 0.0
    amplitude: float = 0.0
    amplitude_band: Range = (0.01, 0.1)
    channels: tuple[int, ...] | None = None
    bounded: bool = True

    def widened(self) -> Augmentation:
        """The same ranges at strength 1, wider by what `strength` was."""
        by = self.strength
        if by == 1:
            return self
        return replace(
            self,
            strength=1.0,
            gain=self.gain * by,
            gamma=_power(self.gamma, by),
            brightness=_power(self.brightness, by),
            low_resolution=_power(self.low_resolution, by),
            speckle=_spread(self.speckle, by),
            noise=_spread(self.noise, by),
            blur=_spread(self.blur, by),
        )

    def changed(self, changes: Mapping[str, Change]) -> Augmentation:
        """The same ranges but for these, by name. Raises ConfigError for a name or a kind of value that it has not."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "channels"}
        taken: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in own:
                raise ConfigError(f"data.vary: found '{name}'; allowed are {', '.join(own)}", Reason.CONFIG_INVALID)
            taken[name] = tuple(value) if isinstance(value, list | tuple) else value
            if _kind(taken[name]) != _kind(own[name]):
                raise ConfigError(
                    f"data.vary.{name}: found {value}; allowed is {_kind(own[name])}, as {own[name]} is",
                    Reason.CONFIG_INVALID,
                )
        return replace(self, **taken)


def _power(span: Range, by: float) -> Range:
    return span[0] ** by, span[1] ** by


def _spread(span: Range, by: float) -> Range:
    return span[0], span[1] * by


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a range of two numbers" if isinstance(value, tuple) and len(value) == 2 else "a number"
