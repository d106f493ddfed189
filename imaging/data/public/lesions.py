"""Lesions of a film as shapes → one map: 0 nothing, k the k-th lesion.

Places are (row, column) in corner convention: the first pixel spans 0 to 1, its centre is at 0.5, and a pixel belongs
to a shape when its centre lies inside. A shape between the centres marks the pixel it lies in; none vanishes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.data.marks import Mask, fill_ellipse, fill_polygon
from imaging.errors import GeometryError, InputError, Reason
from imaging.image import Floats

Size = tuple[int, int]
Corner = tuple[float, float]
Window = tuple[slice, slice]
Shape = Callable[[Size], tuple[Window, Mask]]
"""One lesion: given a film's (rows, columns), a window of it and which pixels of the window are the lesion."""
_MOST: Final = 255  # numbers of a map of 8 bits


@dataclass(frozen=True, slots=True)
class Lesions:
    """The lesions of a film of `size` (rows, columns) by their numbers, from 1; none where nothing is there."""

    size: Size
    shapes: tuple[Shape, ...] = ()

    def draw(self) -> NDArray[np.uint8]:
        """The map (row, column). Smaller lesions lie on larger ones, of equal ones the later on the earlier.

        Raises InputError for more than 255 lesions and for a mask file that is none, GeometryError for a lesion
        outside the film.
        """
        if len(self.shapes) > _MOST:
            raise InputError(
                f"found {len(self.shapes)} lesions on one film; allowed are up to {_MOST}", Reason.UNSUPPORTED_PIXELS
            )
        drawn = [shape(self.size) for shape in self.shapes]
        order = sorted(range(len(drawn)), key=lambda n: -int(drawn[n][1].sum()))
        found = np.zeros(self.size, dtype=np.uint8)
        for place in order:
            window, mask = drawn[place]
            found[window][mask] = place + 1
        return found


def box(low: Corner, high: Corner) -> Shape:
    """A box by two corners, `low` below `high`; what reaches out of the film is cut off."""
    (y0, x0), (y1, x1) = low, high
    return outline([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])


def disc(centre: Corner, radius: float) -> Shape:
    """A circle of a radius above 0; what reaches out of the film is cut off."""
    return partial(_disc, centre, radius)


def outline(points: Sequence[Corner]) -> Shape:
    """What a closed outline encloses; of one or two points the pixel of their middle."""
    return partial(_outline, np.array(points, dtype=np.float64))


def _disc(centre: Corner, radius: float, size: Size) -> tuple[Window, Mask]:
    middle = np.array(centre, dtype=np.float64)
    window, start = _window(np.stack([middle - radius, middle + radius]), size)
    return window, fill_ellipse(middle - start, np.diag([radius, radius]), _shape(window))


def _outline(points: Floats, size: Size) -> tuple[Window, Mask]:
    window, start = _window(points, size)
    return window, fill_polygon(points - start, _shape(window))


def _window(points: Floats, size: Size) -> tuple[Window, Floats]:
    """The part of a film that holds all points (n, 2) in it, at least a pixel, and its first corner.

    A film of 14 million pixels with a hundred calcifications is drawn in their small windows.
    Raises GeometryError when all of it lies outside.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    if np.any(high < 0) or np.any(low > size):
        raise GeometryError(
            f"a lesion reaches from {low.tolist()} to {high.tolist()} (row, column); its image has {size[0]} × "
            f"{size[1]}",
            Reason.GEOMETRY,
        )
    first = np.clip(np.floor(low), 0, np.array(size) - 1).astype(int)
    last = np.clip(np.ceil(high), first + 1, size).astype(int)
    return (slice(first[0], last[0]), slice(first[1], last[1])), first.astype(np.float64)


def _shape(window: Window) -> Size:
    return window[0].stop - window[0].start, window[1].stop - window[1].start
