"""Amplitude spectra of training cases, whose low frequencies other cases take over: how a site's images look.

After Yang and Soatto (FDA, CVPR 2020) and Liu et al. (FedDG, CVPR 2021). The partner of a sample comes from a few
training cases that seed and table decide, and not from its batch: what a sample becomes then depends on neither the
number of processes nor the place where a run was stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imaging.data.augment import Parameters
from imaging.data.manifest import Case
from imaging.image import Array

_CASES = 16  # of the bank, at least one of each site
_OF_BANK = 1 << 40  # beside the seeds of epochs


@dataclass(frozen=True, eq=False)
class Style:
    """The amplitudes of one case: `amplitude` (channel, row, column) as of `torch.fft.fft2`, divided by the number of
    pixels, and in a volume the mean over its slices."""

    site: str
    amplitude: Tensor


def chosen(cases: Sequence[Case], seed: int) -> list[int]:
    """Which cases the bank holds: as many of each site as fit, at least one, in an order that the seed decides."""
    each = max(1, _CASES // max(1, len({case.site for case in cases})))
    taken: Counter[str] = Counter()
    numbers = []
    for number in np.random.Generator(np.random.Philox(key=[seed, _OF_BANK])).permutation(len(cases)):
        taken[cases[number].site] += 1
        if taken[cases[number].site] <= each:
            numbers.append(int(number))
    return numbers


def style_of(image: Array, site: str) -> Style:
    """The style of one harmonised image (channel, [slice,] row, column)."""
    amplitude = torch.fft.fft2(torch.from_numpy(np.array(image)), norm="forward").abs()
    return Style(site, amplitude if image.ndim == 3 else amplitude.mean(dim=1))


def restyled(image: Tensor, sites: Sequence[str], drawn: Sequence[Parameters], styles: Sequence[Style]) -> Tensor:
    """A batch (batch, channel, [slice,] row, column), each sample with the share of another's amplitude that it drew.

    The partner is of another site where the bank has one. Only named channels change where there are such.
    """
    mixed = [
        one if not p.amplitude[0] else _restyled(one, p, _partner(site, p, styles))
        for one, site, p in zip(image, sites, drawn, strict=True)
    ]
    return torch.stack(mixed)


def _partner(site: str, p: Parameters, styles: Sequence[Style]) -> Style:
    others = [style for style in styles if style.site != site] or styles
    return others[min(int(p.amplitude[2] * len(others)), len(others) - 1)]


def _restyled(one: Tensor, p: Parameters, style: Style) -> Tensor:
    channels: Iterable[int] = range(len(one)) if p.channels is None else [channel for channel, _ in p.channels]
    made = one.clone()
    for channel in channels:
        made[channel] = with_amplitude(one[channel], style.amplitude[channel].to(one), p.amplitude[0], p.amplitude[1])
    return (made * (one > 0)).clamp(0, 1) if p.bounded else made


def with_amplitude(planes: Tensor, amplitude: Tensor, share: float, band: float) -> Tensor:
    """([slice,] row, column) whose lowest frequencies have `share` of another amplitude (row, column), phases kept.

    Frequencies up to `band` times the side count as low along each axis; the mean brightness is one of them.
    """
    sides = [min(own, other) for own, other in zip(planes.shape[-2:], amplitude.shape, strict=True)]
    rows, columns = (torch.arange(-int(band * side), int(band * side) + 1, device=planes.device) for side in sides)
    spectrum = torch.fft.fft2(planes, norm="forward")
    window = (..., rows[:, None], columns[None, :])
    low = spectrum[window]
    own = low.abs()
    mixed = (1 - share) * own + share * amplitude[window]
    phase = torch.where(own > 0, low / own.clamp_min(torch.finfo(own.dtype).tiny), torch.ones_like(low))
    spectrum[window] = mixed * phase
    mixed_planes: Tensor = torch.fft.ifft2(spectrum, norm="forward").real
    return mixed_planes
