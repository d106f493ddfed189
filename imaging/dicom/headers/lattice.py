"""Positions of slices → a regular lattice, or what keeps them from being one. All in LPS millimetres."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from imaging.image import Floats

# Two planes nearer than this along the normal are at one place.
_SAME_PLACE_MM: Final = 0.01
# How far a plane may lie from its regular place: a share of the step, but never less than headers round to.
_UNEVEN_SHARE: Final = 0.05
_UNEVEN_MM: Final = 0.05
# Direction cosines are written with few digits by some scanners.
SAME_DIRECTION: Final = 1e-3


def repetitions(depths: Floats) -> int:
    """The most of the positions (n,) along the normal that are one place."""
    ordered = np.sort(depths)
    places = np.cumsum(np.diff(ordered, prepend=ordered[0]) > _SAME_PLACE_MM)
    return max(Counter(places.tolist()).values())


def lattice_step(corners: Floats) -> Floats | None:
    """The step (3,) between corners (n ≥ 2, 3) in order along the normal; None where they are uneven."""
    step = (corners[-1] - corners[0]) / (len(corners) - 1)
    astray = np.linalg.norm(corners - (corners[0] + np.arange(len(corners))[:, None] * step), axis=1).max()
    return None if astray > max(_UNEVEN_MM, _UNEVEN_SHARE * float(np.linalg.norm(step))) else step


def lacks_slices(depths: Floats) -> bool:
    """Whether uneven positions (n ≥ 3,) in order would be even with the slices that are missing among them."""
    gaps = np.diff(depths)
    steps = gaps / np.median(gaps)
    return bool(np.all(np.abs(steps - np.round(steps)) <= _UNEVEN_SHARE) and np.round(steps.max()) >= 2)
