"""Intensity normalisations that may stand in place of a recipe's own: learnt on training cases alone, applied to any.

Every one of them maps the foreground of one channel to the recipe's range, so that network and augmentation meet the
same range whatever the arm. In short, with percentiles p of the case's foreground and v a value of it:

    none        (v - low) / (high - low), one line for all cases: means of the training cases' p1 and p99
    zscore      0.5 + (v - mean) / (6 SD) of the case (Reinhold et al., SPIE Medical Imaging 2019)
    percentile  (v - p1) / (p99 - p1) of the case
    nyul        piecewise linear from p1, p10, ... p90, p99 of the case to their means over the training cases, each on
                its own scale from p1 to p99; beyond the ends the outer lines go on (Nyúl and Udupa, MRM 1999)
    quantile    from 100 quantiles of the case to their means over the training cases (the barycentre of their
                histograms: Agueh and Carlier, SIAM J. Math. Anal. 2011), whose ends are 0 and 1

What is learnt is plain numbers in the settings, so it is in the recipe's identity, in checkpoints and in packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from imaging.errors import ConfigError, Reason
from imaging.harmonise.tissue import Placed
from imaging.image import Array, Floats

Kind = Literal["none", "zscore", "percentile", "nyul", "quantile"]

_LINE: Final = (1.0, 99.0)
_LANDMARKS: Final = (1.0, *(float(p) for p in range(10, 100, 10)), 99.0)
_QUANTILES: Final = tuple(0.5 + 99.0 * k / 99 for k in range(100))
# The percentiles of which means over the training cases are learnt; a kind that is not here learns nothing.
_LEARNT: Final[Mapping[str, tuple[float, ...]]] = {"none": _LINE, "nyul": _LANDMARKS, "quantile": _QUANTILES}
_SPAN_SD: Final = 6.0  # standard deviations between 0 and 1
_CLIP_SD: Final = (-4.0, 8.0)  # beyond, a value says no more than that it is very bright or dark
_DIGITS: Final = 6  # of a learnt number: the same on every processor


@dataclass(frozen=True)
class Normalisation:
    """How intensities are normalised in place of the recipe's own way.

    Args:
        kind: `none`, `zscore`, `percentile`, `nyul` or `quantile`.
        with_quantities: Whether channels that hold a quantity with a unit (the ADC) are normalised too; otherwise they
            keep their fixed scale.
        reference: What was learnt on training cases, for each channel; empty before, and of a channel that is left
            alone. `train.py fit` fills it in.
    """

    kind: Kind
    with_quantities: bool = False
    reference: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        # A package's file has lists.
        object.__setattr__(self, "reference", tuple(tuple(of) for of in self.reference))
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"recipe, normalisation.kind: found '{self.kind}'; allowed are {', '.join(get_args(Kind))}",
                Reason.CONFIG_INVALID,
            )
        count = len(_LEARNT.get(self.kind, ()))
        if wrong := [len(of) for of in self.reference if len(of) not in (0, count)]:
            raise ConfigError(
                f"recipe, normalisation.reference: found {wrong[0]} numbers of a channel; allowed are {count} for "
                f"{self.kind}, or none",
                Reason.CONFIG_INVALID,
            )

    @property
    def learns(self) -> bool:
        """Whether it needs a reference of training cases."""
        return self.kind in _LEARNT


def parse_normalisation(stated: Normalisation | Mapping[str, object] | None) -> Normalisation | None:
    """The settings as files state them. Raises TypeError for an unknown key, ConfigError for a wrong value."""
    return Normalisation(**stated) if isinstance(stated, Mapping) else stated  # type: ignore[arg-type]


def learn(normalisation: Normalisation, cases: Iterable[Placed], channels: Sequence[int]) -> Normalisation:
    """The normalisation with its reference of these channels, from training cases in this order.

    A case without contrast in a channel says nothing of it. The same settings where nothing is to be learnt, without
    reading a case. Raises ConfigError where no case shows a channel.
    """
    if not normalisation.learns:
        return normalisation
    rows: dict[int, list[Floats]] = {channel: [] for channel in channels}
    for placed in cases:
        for channel in channels:
            row = _landmarks(placed, channel, _LEARNT[normalisation.kind])
            if row[-1] > row[0]:
                rows[channel].append(_on_scale(row) if normalisation.kind == "nyul" else row)
    if empty := [channel for channel, of in rows.items() if not of]:
        raise ConfigError(
            f"recipe, normalisation '{normalisation.kind}': found no training case with contrast in channel "
            f"{empty[0]}; allowed is one or more",
            Reason.CONFIG_INVALID,
        )
    means = {channel: np.mean(of, axis=0) for channel, of in rows.items()}
    if normalisation.kind == "quantile":
        means = {channel: _on_scale(of) for channel, of in means.items()}
    of_all = (means.get(channel, ()) for channel in range(max(channels, default=-1) + 1))
    return replace(
        normalisation, reference=tuple(tuple(float(f"{value:.{_DIGITS}g}") for value in of) for of in of_all)
    )


@dataclass(frozen=True)
class Normalise(Transform):
    """Applies a normalisation to some channels; the others stay as they are placed.

    Where intensities are `bounded`, the foreground becomes 0-1 and what is beside it 0. Otherwise all voxels are mapped
    by the foreground's curve, with 0 and 1 at -3 and 3 and the ends clipped at -4 and 8, as robust units are. A channel
    without contrast becomes 0. Raises ConfigError for a normalisation that has not learnt its reference yet.
    """

    normalisation: Normalisation
    channels: tuple[int, ...]
    bounded: bool = True

    def __call__(self, placed: Placed) -> MetaTensor:
        normalised = placed.values.clone()
        for channel in self.channels:
            normalised[channel] = torch.from_numpy(self._of(placed, channel))
        return normalised

    def _of(self, placed: Placed, channel: int) -> Array:
        values = placed.values[channel].numpy()
        seen = values[placed.foreground]
        if seen.size == 0 or seen.min() == seen.max():
            return np.zeros_like(values)
        unit = self._unit(values.astype(np.float64), seen, channel)
        if self.bounded:
            return np.where(placed.foreground, np.clip(unit, 0.0, 1.0), 0.0).astype(np.float32)
        return np.clip(_SPAN_SD * (unit - 0.5), *_CLIP_SD).astype(np.float32)

    def _unit(self, values: Floats, seen: Array, channel: int) -> Floats:
        """Values where 0 and 1 are the ends of the range, by the curve of what is seen."""
        kind = self.normalisation.kind
        if kind == "zscore":
            mean, sd = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
            return 0.5 + (values - mean) / (_SPAN_SD * sd)
        if kind == "percentile":
            return _bent(values, np.percentile(seen, _LINE), np.array([0.0, 1.0]))
        reference = np.asarray(self._reference(channel))
        if kind == "none":
            return _bent(values, reference, np.array([0.0, 1.0]))
        return _bent(values, np.percentile(seen, _LEARNT[kind]), reference, goes_on=kind == "nyul")

    def _reference(self, channel: int) -> tuple[float, ...]:
        of_all = self.normalisation.reference
        if channel >= len(of_all) or not of_all[channel]:
            raise ConfigError(
                f"recipe, normalisation '{self.normalisation.kind}': found no reference of channel {channel}; allowed "
                "is one that was learnt on training cases, as train.py fit does",
                Reason.CONFIG_INVALID,
            )
        return of_all[channel]


def _landmarks(placed: Placed, channel: int, percentiles: Sequence[float]) -> Floats:
    """Percentiles of the foreground; zeros where there is none."""
    seen = placed.values[channel].numpy()[placed.foreground]
    return np.percentile(seen, percentiles) if seen.size else np.zeros(len(percentiles))


def _on_scale(row: Floats) -> Floats:
    """The same landmarks with 0 and 1 as first and last."""
    return np.asarray((row - row[0]) / (row[-1] - row[0]))


def _bent(values: Floats, own: Floats, target: Floats, goes_on: bool = True) -> Floats:
    """Piecewise linear from `own` to `target`; beyond the ends the outer lines go on, or the ends stand.

    Landmarks that coincide, as in few grey levels, share the mean of their targets.
    """
    places, which = np.unique(own, return_inverse=True)
    heights = np.bincount(which, target) / np.bincount(which)
    bent = np.interp(values, places, heights)
    if not goes_on or len(places) < 2:
        return np.asarray(bent)
    for outside, k in ((values < places[0], 0), (values > places[-1], -1)):
        first, second = (0, 1) if k == 0 else (-2, -1)
        slope = (heights[second] - heights[first]) / (places[second] - places[first])
        bent[outside] = heights[k] + slope * (values[outside] - places[k])
    return np.asarray(bent)
