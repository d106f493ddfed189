"""Harmonised samples → varied samples: parameters drawn on the CPU, applied in batches on the batch's own device.

What happens to a sample depends on (seed, epoch, its number) alone, so a run that was stopped, another number of
processes or another device sees the same images. `draw` gives plain numbers that can be kept and applied again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imaging.data.appearance import bias_field, convolved
from imaging.harmonise.augmentation import Augmentation, Range

_BLUR_REACH = 3.0  # kernel half-width in standard deviations
_GRAIN = 2  # pixels of one speckle
_OF_KERNELS, _OF_FIELD = 2, 3  # seeds beside that of the noise


@dataclass(frozen=True)
class Parameters:
    """What happens to one sample. Neutral values change nothing; `noise_seed` starts the noise fields.

    `shadow` is its centre and half-width as parts of the row, its top as a part of the column, and what part of the
    brightness is lost. `bias_field` is the largest logarithm of its field, `convolved` the share of the random network,
    `amplitude` the share that another case has, the band, and which case as a part of all (imaging.data.styles). Where
    `channels` is not None, only their intensities change, each by its own parameters. `bounded` is as of the
    Augmentation.
    """

    rotation: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    flip_columns: bool = False
    flip_rows: bool = False
    gamma: float = 1.0
    brightness: float = 1.0
    gain: float = 0.0
    speckle: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    low_resolution: float = 1.0
    shadow: tuple[float, float, float, float] = (0.5, 0.1, 0.0, 0.0)
    noise_seed: int = 0
    bias_field: float = 0.0
    convolved: float = 0.0
    amplitude: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bounded: bool = True
    channels: tuple[tuple[int, Parameters], ...] | None = None


def draw(ranges: Augmentation, seed: int, epoch: int, number: int) -> Parameters:
    """The parameters of sample `number` in `epoch`; the same for the same three numbers."""
    key = [seed, (epoch << 32) + number]
    ranges = ranges.widened()
    of_all = _drawn(ranges, np.random.Generator(np.random.Philox(key=key)))
    if ranges.channels is None:
        return of_all
    # Each channel has a stream of its own under the same key.
    streams = {k: np.random.Generator(np.random.Philox(key=key, counter=(0, 0, 1, k))) for k in ranges.channels}
    return replace(of_all, channels=tuple((k, _drawn(ranges, rng)) for k, rng in streams.items()))


def _drawn(ranges: Augmentation, rng: np.random.Generator) -> Parameters:
    def within(span: Range) -> float:
        return float(rng.uniform(*span))

    def either(most: float) -> float:
        return float(rng.uniform(-most, most))

    def perhaps(value: float, neutral: float, chance: float) -> float:
        return value if rng.random() < chance else neutral

    scale, stretch = within(ranges.scale), np.exp(either(np.log(ranges.stretch)) / 2)
    centre, width, top, left_over = rng.uniform(0, 1), rng.uniform(0.02, 0.15), rng.uniform(0, 0.7), rng.random()
    least, most = ranges.shadow_depth
    shadow = perhaps(1.0, 0.0, ranges.shadow) * (1 - (least + (most - least) * left_over))
    return Parameters(
        rotation=either(ranges.rotation),
        zoom=(scale * float(stretch), scale / float(stretch)),
        shift=(either(ranges.shift), either(ranges.shift)),
        flip_columns=ranges.flip_columns and rng.random() < 0.5,
        flip_rows=ranges.flip_rows and rng.random() < 0.5,
        gamma=perhaps(within(ranges.gamma), 1.0, ranges.chance),
        brightness=perhaps(within(ranges.brightness), 1.0, ranges.chance),
        gain=perhaps(either(ranges.gain), 0.0, ranges.chance),
        speckle=perhaps(within(ranges.speckle), 0.0, ranges.chance),
        noise=perhaps(within(ranges.noise), 0.0, ranges.chance),
        blur=perhaps(within(ranges.blur), 0.0, ranges.chance),
        low_resolution=perhaps(within(ranges.low_resolution), 1.0, ranges.chance),
        shadow=(float(centre), float(width), float(top), float(shadow)),
        noise_seed=int(rng.integers(1 << 62)),
        # What came later is drawn later, so that what was drawn before stays as it was.
        bias_field=perhaps(within((0.0, ranges.bias_field)), 0.0, ranges.chance),
        convolved=perhaps(within((0.0, 1.0)), 0.0, ranges.convolutions),
        amplitude=(
            perhaps(within((0.0, 1.0)), 0.0, ranges.amplitude),
            within(ranges.amplitude_band),
            within((0.0, 1.0)),
        ),
        bounded=ranges.bounded,
    )


def augment(image: Tensor, truth: Tensor, drawn: Sequence[Parameters]) -> tuple[Tensor, Tensor]:
    """Image (batch, channel, *spatial) float and truth (batch, 1, *spatial) integer, both varied.

    The plane of the last two axes is turned, zoomed, shifted and flipped; a third axis stays. Truth is taken by
    nearest neighbour. What comes from outside the image is 0 in the truth, and in the image 0 or, where intensities
    are not bounded by it, the least value of its channel. A step that nothing drew costs nothing.
    """
    moved, told = image, truth
    if any(_moves(p) for p in drawn):
        grid = _sampling(image, drawn)
        floor = torch.stack([_floor(one, p) for one, p in zip(image, drawn, strict=True)])
        moved = _sample(image - floor, grid, "bilinear") + floor
        told = _sample(truth.to(image.dtype), grid, "nearest").round().to(truth.dtype)
    return torch.stack([_varied(one, p) for one, p in zip(moved, drawn, strict=True)]), told


def _moves(p: Parameters) -> bool:
    return bool(p.rotation or p.zoom != (1.0, 1.0) or p.shift != (0.0, 0.0) or p.flip_columns or p.flip_rows)


def _sampling(image: Tensor, drawn: Sequence[Parameters]) -> Tensor:
    """Where every output pixel comes from, in grid_sample's coordinates (x, y): (batch, row, column, 2)."""
    rows, columns = image.shape[-2:]
    aspect = rows / columns
    matrices = np.zeros((len(drawn), 2, 3))
    for matrix, p in zip(matrices, drawn, strict=True):
        angle = np.deg2rad(p.rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle) * aspect], [np.sin(angle) / aspect, np.cos(angle)]])
        flips = np.array([-1.0 if p.flip_columns else 1.0, -1.0 if p.flip_rows else 1.0])
        matrix[:, :2] = turn @ np.diag(flips / np.array([p.zoom[1], p.zoom[0]]))
        matrix[:, 2] = 2 * np.array([p.shift[1], p.shift[0]])
    # As affine_grid does, but as a sum of one row and one column: a tenth of its time.
    along_x, along_y, offset = (
        torch.as_tensor(part, dtype=image.dtype, device=image.device)[:, None, None, :]
        for part in np.moveaxis(matrices, 2, 0)
    )
    x = 2 * _centres(columns, image)[:, None] - 1
    y = 2 * _centres(rows, image)[:, None, None] - 1
    return along_x * x + (along_y * y + offset)


def _centres(count: int, like: Tensor) -> Tensor:
    """Pixel centres as parts of the field of view."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / count


def _sample(tensor: Tensor, grid: Tensor, mode: str) -> Tensor:
    batch, channels, *depth, rows, columns = tensor.shape
    planes = tensor.reshape(batch, -1, rows, columns)
    moved = functional.grid_sample(planes, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return moved.reshape(batch, channels, *depth, rows, columns)


def _floor(one: Tensor, p: Parameters) -> Tensor:
    """What stands in each channel where nothing is, (channel, 1, …)."""
    if p.bounded:
        return one.new_zeros((len(one), *[1] * (one.ndim - 1)))
    return one.amin(dim=tuple(range(1, one.ndim)), keepdim=True)


def _varied(one: Tensor, p: Parameters) -> Tensor:
    """One sample's intensities, all channels alike or those that are named."""
    if p.channels is None:
        return _acquired(one, p)
    varied = one.clone()
    for channel, own in p.channels:
        varied[channel : channel + 1] = _acquired(one[channel : channel + 1], own)
    return varied


def _acquired(one: Tensor, p: Parameters) -> Tensor:
    """Intensities in the order in which an acquisition makes them: tissue, beam, receiver, display."""
    varied = one
    if p.convolved:
        varied = convolved(varied, p.convolved, p.noise_seed + _OF_KERNELS, is_masked=p.bounded)
        varied = varied.clamp(0, 1) if p.bounded else varied
    if p.bias_field:
        varied = _times(varied, bias_field(varied, p.bias_field, p.noise_seed + _OF_FIELD), p)
    if p.shadow[3]:
        varied = varied * (1 - _shadow(one, p))
    if p.speckle:
        varied = varied * _grain(one, p)
        varied = varied.clamp_min(0) if p.bounded else varied
    if p.blur or p.low_resolution < 1:
        varied = _blurred(varied, p)
    if p.gain:
        depth = torch.linspace(-0.5, 0.5, one.shape[-2], dtype=one.dtype, device=one.device)[:, None]
        varied = _times(varied, 1 + p.gain * depth, p)
    if p.brightness != 1:
        varied = varied * p.brightness
    if p.gamma != 1:
        varied = varied.clamp(0, 1) ** p.gamma if p.bounded else _bent(varied, p.gamma)
    if p.noise:
        varied = varied.clamp(0, 1) if p.bounded else varied
        varied = varied + p.noise * _field(p.noise_seed + 1, one.shape, one)
    return varied if varied is one or not p.bounded else (varied * (one > 0)).clamp(0, 1)


def _times(varied: Tensor, factor: Tensor, p: Parameters) -> Tensor:
    """Brightness times a field; where 0 is a value like others, counted from the least value of each channel."""
    if p.bounded:
        return varied * factor
    floor = _floor(varied, p)
    return (varied - floor) * factor + floor


def _bent(varied: Tensor, gamma: float) -> Tensor:
    """Gamma between the least and the highest value of each channel, which stay."""
    axes = tuple(range(1, varied.ndim))
    low, high = varied.amin(dim=axes, keepdim=True), varied.amax(dim=axes, keepdim=True)
    span = (high - low).clamp_min(torch.finfo(varied.dtype).tiny)
    return low + span * ((varied - low) / span) ** gamma


def _shadow(one: Tensor, p: Parameters) -> Tensor:
    """What part of the brightness is lost, (row, column): a soft band below a depth."""
    centre, width, top, lost = p.shadow
    band = torch.exp(-(((_centres(one.shape[-1], one) - centre) / width) ** 2))
    return lost * torch.sigmoid((_centres(one.shape[-2], one)[:, None] - top) * 40) * band


def _grain(one: Tensor, p: Parameters) -> Tensor:
    """The factors of one sample's speckle, (1, …, row, column)."""
    rows, columns = one.shape[-2:]
    coarse = _field(p.noise_seed, (1, *one.shape[1:-2], -(-rows // _GRAIN), -(-columns // _GRAIN)), one)
    grain = coarse.repeat_interleave(_GRAIN, -1).repeat_interleave(_GRAIN, -2)
    return 1 + p.speckle * grain[..., :rows, :columns]


def _field(seed: int, shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers, drawn on the CPU so that every device adds the same ones."""
    values = np.random.Generator(np.random.Philox(seed)).standard_normal(tuple(shape), dtype=np.float32)
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def _blurred(image: Tensor, p: Parameters) -> Tensor:
    """One sample (channel, …, row, column) with a wider beam, or sampled coarsely and filled in again."""
    planes = image.reshape(1, -1, *image.shape[-2:])
    if p.blur:
        planes = _gaussian(_gaussian(planes, p.blur, 2), p.blur, 3)
    if p.low_resolution < 1:
        size = [max(1, round(n * p.low_resolution)) for n in planes.shape[-2:]]
        small = functional.interpolate(planes, size, mode="area")
        planes = functional.interpolate(small, planes.shape[-2:], mode="bilinear", align_corners=False)
    return planes.reshape(image.shape)


def _gaussian(planes: Tensor, sigma: float, axis: int) -> Tensor:
    reach = max(1, int(np.ceil(_BLUR_REACH * sigma)))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=planes.dtype, device=planes.device) / sigma) ** 2)
    kernel = (taps / taps.sum()).reshape([-1 if d == axis else 1 for d in range(4)])
    pad = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
    flat = functional.pad(planes, pad, mode="replicate").transpose(0, 1)
    return functional.conv2d(flat, kernel).transpose(0, 1)
