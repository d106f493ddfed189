"""What an organ can look like at all: bounds that a modality states, and what contradicts them in an outline.

An outline beyond them is no unusual organ but a mistake: nothing may be concluded from it, and nothing be looked for in
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from imaging.volume_region import Mask, VolumeRegion

Range = tuple[float, float]

_EVERY_NEIGHBOUR: Final = np.ones((3, 3, 3))
_AXES: Final = ("from side to side", "from front to back", "from foot to head")


@dataclass(frozen=True)
class OrganBounds:
    """Bounds of one organ. Each is so wide that what lies beyond is none.

    Args:
        name: In words, with its article (the heart).
        labels: What packages call it or its parts, in lower case and with blanks.
        volume_ml: Least and largest volume.
        extent_mm: Least and largest extent from side to side, from front to back, from foot to head.
        largest_part: Least share of its voxels in the largest connected part (corners count).
        filling: Least share of the box around it that it fills, along the image's axes.
        off_centre: Farthest that its centroid may lie from the middle of a slice, as a share of the slice's side.
        reach_mm: How far outside its outline a finding in it may still lie: what locators are off by at most.
    """

    name: str
    labels: frozenset[str]
    volume_ml: Range
    extent_mm: tuple[Range, Range, Range]
    largest_part: float
    filling: float
    off_centre: float
    reach_mm: float

    def has(self, label: str) -> bool:
        """Whether a label of a package names this organ or a part of it."""
        return label.replace("_", " ").lower() in self.labels


def contradictions(organ: VolumeRegion, bounds: OrganBounds) -> list[str]:
    """Everything of an outline that no such organ has, in words with what was found and what is allowed; else empty."""
    return [*_size(organ, bounds), *_shape(organ, bounds), *_place(organ, bounds)]


def united(regions: Iterable[VolumeRegion]) -> VolumeRegion | None:
    """All volume regions as one, without their quantities; None of none. They are of one source volume."""
    parts = list(regions)
    if not parts:
        return None
    low = np.min([part.origin for part in parts], axis=0)
    high = np.max([np.add(part.origin, part.mask.shape) for part in parts], axis=0)
    mask = np.zeros(high - low, np.bool_)
    for part in parts:
        mask[_window(np.subtract(part.origin, low), part.mask.shape)] |= part.mask
    first, row, column = (int(v) for v in low)
    return VolumeRegion(mask, (first, row, column), parts[0].grid, parts[0].refs)


def surroundings(organ: VolumeRegion, reach_mm: float) -> Mask:
    """Where a voxel of the source volume is at most `reach_mm` from one of the organ, bool of the whole volume."""
    spacing = np.asarray(organ.grid.spacing)
    margin = np.ceil(reach_mm / spacing).astype(int)
    low = np.maximum(np.subtract(organ.origin, margin), 0)
    high = np.minimum(np.add(organ.origin, organ.mask.shape) + margin, organ.grid.shape)
    outside = np.ones(high - low, np.bool_)
    outside[_window(np.subtract(organ.origin, low), organ.mask.shape)] = ~organ.mask
    near = np.zeros(organ.grid.shape, np.bool_)
    near[_window(low, outside.shape)] = ndimage.distance_transform_edt(outside, sampling=spacing) <= reach_mm
    return near


def _window(low: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(int(first), int(first) + n) for first, n in zip(low, shape, strict=True))


def _size(organ: VolumeRegion, bounds: OrganBounds) -> Iterator[str]:
    low, high = bounds.volume_ml
    if not low <= organ.volume_ml <= high:
        yield f"it has {organ.volume_ml:.1f} ml; allowed are {low:g} to {high:g}"
    centres = organ.grid.world(np.argwhere(organ.mask) + np.asarray(organ.origin) + 0.5)
    # A voxel's own extent along each axis of the patient.
    voxel = np.abs(organ.grid.affine[:3, :3]).sum(axis=1)
    for axis, extent, (least, largest) in zip(_AXES, np.ptp(centres, axis=0) + voxel, bounds.extent_mm, strict=True):
        if not least <= extent <= largest:
            yield f"it is {extent:.0f} mm {axis}; allowed are {least:g} to {largest:g}"


def _shape(organ: VolumeRegion, bounds: OrganBounds) -> Iterator[str]:
    labels, _ = ndimage.label(organ.mask, structure=_EVERY_NEIGHBOUR)
    share = np.bincount(labels.ravel())[1:].max() / organ.mask.sum()
    if share < bounds.largest_part:
        yield f"its largest connected part holds {share:.0%} of it; allowed are {bounds.largest_part:.0%} or more"
    filled = organ.mask.sum() / np.prod([part.stop - part.start for part in ndimage.find_objects(organ.mask * 1)[0]])
    if filled < bounds.filling:
        yield f"it fills {filled:.0%} of the box around it; allowed are {bounds.filling:.0%} or more"


def _place(organ: VolumeRegion, bounds: OrganBounds) -> Iterator[str]:
    """In the slice: a volume may end above or below an organ, but no slice is planned so that it cuts the organ."""
    where = np.argwhere(organ.mask) + np.asarray(organ.origin)
    sides = np.asarray(organ.grid.shape)[1:]
    if (where[:, 1:].min(axis=0) == 0).any() or (where[:, 1:].max(axis=0) == sides - 1).any():
        yield "it reaches the border of the slices; allowed is an organ inside"
    off = float(np.abs((where[:, 1:].mean(axis=0) + 0.5) / sides - 0.5).max())
    if off > bounds.off_centre:
        yield (
            f"its centre lies {off:.0%} of a slice's side from the slice's middle; allowed are {bounds.off_centre:.0%}"
        )
