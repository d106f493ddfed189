"""How much images of one modality may be varied in training: ranges that a recipe declares."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


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
    channels: tuple[int, ...] | None = None
    bounded: bool = True
