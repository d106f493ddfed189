"""Probability map → lesion candidates: the three published extractions of the PI-CAI protocol, without their cost.

Facts of the protocol (Bosma et al., report-guided annotation, Radiol Artif Intell 2023): a candidate is a component
(corners count) of more than ten voxels above a threshold, with its highest probability as confidence.

* a number: that threshold for the whole map;
* `dynamic-fast`: the map's maximum divided by 2.5;
* `dynamic`: the threshold follows the highest probability that is left, each candidate is taken out before the next,
  one that touches an earlier candidate is left out, and it ends with five candidates or below 0.01. It also ends when
  the highest probability that is left stands in a component too small to count and no larger component is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.errors import ConfigError, Reason

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Window = tuple[slice, ...]
Threshold = float | Literal["dynamic", "dynamic-fast"]

_MOST_PIECES = 64  # beyond, cutting an image up costs more than labelling it whole


@dataclass(frozen=True, slots=True)
class Extraction:
    """How candidates are cut from a probability map."""

    threshold: Threshold = "dynamic-fast"
    most: int = 5
    factor: float = 2.5
    drop_voxels: int = 10
    stop_below: float = 0.01


@dataclass(frozen=True, eq=False)
class LesionCandidate:
    """One part of a map: `mask` placed at `window`, and its confidence."""

    window: Window
    mask: Bools
    confidence: float


def extract_candidates(probability: NDArray[np.floating[Any]], how: Extraction | None = None) -> list[LesionCandidate]:
    """Candidates of a probability map ([slice,] row, column) in 0-1, in the protocol's order; empty when there is none.

    Raises ConfigError for values outside 0-1 or not finite.
    """
    how = how or Extraction()
    if probability.dtype == np.float16 or not np.issubdtype(probability.dtype, np.floating):
        probability = probability.astype(np.float32)
    highest = probability.max(initial=0)
    if not (highest <= 1 and probability.min(initial=0) >= 0):
        raise ConfigError(
            f"probability map: found values from {probability.min()} to {highest}; allowed are 0 to 1",
            Reason.CONFIG_INVALID,
        )
    if how.threshold == "dynamic":
        return _dynamic(probability, how)
    if how.threshold == "dynamic-fast":
        return list(_parts(probability, highest / probability.dtype.type(how.factor), how.drop_voxels))
    return list(_parts(probability, float(how.threshold), how.drop_voxels))


def detection_map(candidates: list[LesionCandidate], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The candidates as a map of their confidences, 0 elsewhere."""
    drawn = np.zeros(shape, dtype=np.float32)
    for candidate in candidates:
        drawn[candidate.window][candidate.mask] = candidate.confidence
    return drawn


def _parts(values: Array, threshold: Any, drop_voxels: int) -> Iterator[LesionCandidate]:
    """Components at or above the threshold (and above 0) with more voxels than `drop_voxels`, in array order."""
    above = (values >= threshold) & (values > 0)
    window = window_of(above)
    if window is None:
        return
    labels, _ = components(above[window])
    sizes = np.bincount(labels.ravel())
    offset = [s.start for s in window]
    objects = ndimage.find_objects(labels)
    for number in np.flatnonzero(sizes[1:] > drop_voxels) + 1:
        inner = objects[number - 1]
        placed = tuple(slice(s.start + o, s.stop + o) for s, o in zip(inner, offset, strict=True))
        mask = labels[inner] == number
        yield LesionCandidate(placed, mask, float(values[placed][mask].max()))


def _dynamic(probability: Array, how: Extraction) -> list[LesionCandidate]:
    """The moving threshold. Only the part around the current peak is looked at, unless peaks tie or are too small."""
    left = probability.copy()
    near = np.zeros(left.shape, dtype=np.bool_)
    kept: list[LesionCandidate] = []
    while len(kept) < how.most:
        where = np.unravel_index(int(left.argmax()), left.shape)
        peak = left[where]
        if peak < how.stop_below:
            break
        threshold = peak / left.dtype.type(how.factor)
        here = _part_at(left, threshold, tuple(int(i) for i in where))
        alone = here.mask.sum() > how.drop_voxels and not _peak_elsewhere(left, peak, here)
        parts = [here] if alone else sorted(_parts(left, threshold, how.drop_voxels), key=lambda c: -c.confidence)
        lasting = False if alone else _small_peak(left, peak, parts)
        for part in parts if lasting else [p for p in parts if p.confidence == peak]:
            if len(kept) == how.most:
                break
            if not near[part.window][part.mask].any():
                kept.append(part)
                _grow(near, part)
            left[part.window][part.mask] = 0
        if lasting:
            break
    return kept


def _part_at(values: Array, threshold: Any, seed: tuple[int, ...]) -> LesionCandidate:
    """The component around one voxel, in a window that grows until the component lies inside."""
    reach = 8
    while True:
        window = tuple(slice(max(i - reach, 0), min(i + reach + 1, n)) for i, n in zip(seed, values.shape, strict=True))
        labels, _ = components((values[window] >= threshold) & (values[window] > 0))
        mask = labels == labels[tuple(i - s.start for i, s in zip(seed, window, strict=True))]
        inner = window_of(mask)
        assert inner is not None, "the seed is above its own threshold"
        cut = any(
            (i.start == 0 and s.start > 0) or (i.stop == s.stop - s.start and s.stop < n)
            for i, s, n in zip(inner, window, values.shape, strict=True)
        )
        if not cut:
            placed = tuple(slice(s.start + i.start, s.start + i.stop) for i, s in zip(inner, window, strict=True))
            return LesionCandidate(placed, mask[inner], float(values[seed]))
        reach *= 2


def _peak_elsewhere(values: Array, peak: Any, part: LesionCandidate) -> bool:
    return _n_peaks(values, peak) > _n_peaks(values[part.window][part.mask], peak)


def _small_peak(values: Array, peak: Any, parts: list[LesionCandidate]) -> bool:
    """Whether a voxel of the peak's height lies in no part that is large enough: the threshold can then not fall."""
    return _n_peaks(values, peak) > sum(_n_peaks(values[p.window][p.mask], peak) for p in parts)


def _n_peaks(values: Array, peak: Any) -> int:
    return int(np.count_nonzero(values == peak))


def _grow(near: Bools, part: LesionCandidate) -> None:
    window = tuple(slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(part.window, near.shape, strict=True))
    inner = tuple(
        slice(s.start - w.start, s.start - w.start + m)
        for s, w, m in zip(part.window, window, part.mask.shape, strict=True)
    )
    mask = np.zeros(near[window].shape, dtype=np.bool_)
    mask[inner] = part.mask
    near[window] |= ndimage.binary_dilation(mask, structure=np.ones((3,) * near.ndim))


def window_of(mask: Array, margin: int = 0) -> Window | None:
    """The smallest box of slices around the non-zero voxels, widened by `margin` inside the array; None when empty."""
    slices: list[slice] = []
    rest = mask != 0 if mask.dtype != np.bool_ else mask
    for axis in range(mask.ndim):
        others = tuple(k for k in range(rest.ndim) if k != axis)
        where = np.flatnonzero(rest.any(axis=others))
        if where.size == 0:
            return None
        low, high = int(where[0]), int(where[-1]) + 1
        rest = rest[(slice(None),) * axis + (slice(low, high),)]
        slices.append(slice(max(low - margin, 0), min(high + margin, mask.shape[axis])))
    return tuple(slices)


def components(mask: Array) -> tuple[NDArray[np.int32], int]:
    """Connected parts (corners count), numbered from 1 in the order of their first voxel, and how many there are.

    Parts are few and small in most images, so the image is first cut along empty planes and only pieces are labelled.
    """
    inside = mask if mask.dtype == np.bool_ else mask != 0
    labels = np.zeros(mask.shape, dtype=np.int32)
    firsts: list[NDArray[np.intp]] = []
    count = 0
    pieces = list(islice(_pieces(inside, (0,) * mask.ndim), _MOST_PIECES + 1))
    if len(pieces) > _MOST_PIECES:
        pieces = [tuple(slice(0, n) for n in mask.shape)]
    for piece in pieces:
        found, n = ndimage.label(inside[piece], structure=np.ones((3,) * mask.ndim))
        where = np.flatnonzero(found)
        _, first = np.unique(found.ravel()[where], return_index=True)
        corner = np.unravel_index(where[first], found.shape)
        placed = tuple(axis + s.start for axis, s in zip(corner, piece, strict=True))
        firsts.append(np.ravel_multi_index(placed, mask.shape))
        labels[piece] = np.where(found > 0, found + count, 0)
        count += int(n)
    if len(firsts) > 1:
        number = np.zeros(count + 1, dtype=np.int32)
        number[np.argsort(np.concatenate(firsts)) + 1] = np.arange(1, count + 1)
        for piece in pieces:
            labels[piece] = number[labels[piece]]
    return labels, count


def _pieces(mask: Bools, low: tuple[int, ...]) -> Iterator[Window]:
    """Boxes around everything in the mask, cut wherever a whole plane of a box is empty; `low` is the mask's place."""
    cut = False
    for axis in range(mask.ndim):
        filled = mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis))
        edges = np.flatnonzero(np.diff(filled, prepend=False, append=False))
        runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        if not runs:
            return
        if runs != [(0, mask.shape[axis])]:
            cut = True
            for start, stop in runs:
                part = mask[(slice(None),) * axis + (slice(start, stop),)]
                yield from _pieces(part, (*low[:axis], low[axis] + start, *low[axis + 1 :]))
            break
    if not cut:
        yield tuple(slice(start, start + n) for start, n in zip(low, mask.shape, strict=True))
