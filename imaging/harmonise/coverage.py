"""What of an organ, or of the whole key volume, each channel of an exam shows; and whether a channel shows anything.

A channel that ends above the organ is filled with zeros beyond its end, and a slice of one value is no better: nothing
was looked at there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from imaging.errors import InputError, Reason
from imaging.image import Array, Grid, Image, resample

# A picture of which fewer of the values differ from the commonest one shows nothing.
_LEAST_SPREAD_SHARE = 0.001
# An end slice with this share of the organ's largest area is no pole of it: the organ goes on.
_CUT_SHARE = 0.5


def shares(key: Image, volumes: Mapping[str, Image], organ: NDArray[np.bool_] | None) -> dict[str, float]:
    """Role → share of the organ's voxels (slice, row, column; None: all of the key volume's) inside slices with signal
    of that role's volume. The key volume is the first, under ""."""
    looked = np.ones(key.grid.shape, np.bool_) if organ is None else organ
    return {
        role: float(_shown(volume.array[0], volume.grid, key.grid)[looked].mean())
        for role, volume in {"": key, **volumes}.items()
    }


def is_cut(organ: NDArray[np.bool_]) -> bool:
    """Whether an organ's mask (slice, row, column) ends with the volume in the middle of the organ."""
    areas = organ.sum(axis=(1, 2))
    return bool(max(areas[0], areas[-1]) >= _CUT_SHARE * areas.max() > 0)


def check_spread(harmonised: Array, where: str) -> None:
    """Raises InputError (NO_SIGNAL) where a channel of a model input (channel, ...) is, but for a thousandth of its
    values, one value."""
    for number, channel in enumerate(harmonised):
        apart = int(np.count_nonzero(channel != np.median(channel)))
        if apart < _LEAST_SPREAD_SHARE * channel.size:
            raise InputError(
                f"{where}: channel {number + 1} of {len(harmonised)} has one value in all but {apart} of "
                f"{channel.size} places after harmonisation; allowed is a picture with contrast",
                Reason.NO_SIGNAL,
            )


def _shown(values: Array, grid: Grid, target: Grid) -> NDArray[np.bool_]:
    """Which voxels of `target` lie in a slice of the volume that is not of one value."""
    lit = values.max(axis=(1, 2)) > values.min(axis=(1, 2))
    seen = np.broadcast_to(lit[:, None, None], grid.shape).astype(np.uint8)
    return np.asarray(resample(seen, grid, target, order=0) > 0)
