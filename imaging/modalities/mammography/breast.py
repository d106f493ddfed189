"""The breast in a mammogram: its mask without labels, markers and tape, its chest wall's side, its foremost point.

Found on a reduced picture of about half a millimetre, which is where a skin line lies; the answer is on source pixels.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.errors import GeometryError, Reason
from imaging.image import Array

Mask = NDArray[np.bool_]
Side = Literal["left", "right", "top", "bottom"]

_REDUCED_SIDE: Final = 512
# How far the dim skin line may lie outside the bright breast, as a part of the picture's longer side: about 15 mm.
_SKIN: Final = 0.06
_DECIDED: Final = 0.25
_OPPOSITE: Final[dict[Side, Side]] = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


def breast_mask(light: Array, padding: Mask | None = None) -> Mask:
    """Where the breast is in a mammogram (row, column) whose brightness rises with tissue; bool of the same shape.

    The largest bright part, after thin and small things (letters, film edges, tape) were opened away, grown outwards to
    where the air around it begins, with its holes filled. `padding` is no image and belongs to no breast. Raises
    GeometryError when nothing remains.
    """
    factor = max(1, round(max(light.shape) / _REDUCED_SIDE))
    small = ndimage.gaussian_filter(reduced(light, factor), 1.0)
    image = np.ones(small.shape, np.bool_) if padding is None else reduced(padding, factor) < 0.5
    level = _level(small[image])
    volume_region = None if level is None else _opened(image & (small > level))
    core = None if volume_region is None else _largest(volume_region)
    if level is None or volume_region is None or core is None:
        raise GeometryError(
            f"image of {light.shape[0]} × {light.shape[1]}: nothing in it stands out from its background as a breast",
            Reason.NO_TISSUE_REGION,
        )
    labels = ndimage.binary_dilation(volume_region & ~core, iterations=3)
    mask = _grown(core, small, image & ~labels, level)
    whole = np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1)
    # The reduced picture leaves out less than one block at the far edges, which belong to their neighbours.
    return np.pad(whole, [(0, max(0, n - m)) for n, m in zip(light.shape, whole.shape, strict=True)], mode="edge")


def reduced(values: Array, factor: int) -> NDArray[np.float32]:
    """Means of blocks of factor × factor; what is less than a block at the far edges is left out."""
    rows, columns = (n // factor for n in values.shape)
    blocks = values[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _level(values: Array) -> float | None:
    """The brightness that parts tissue from air with the least cross entropy (Li and Tam 1998); None for one grey."""
    if values.size == 0:
        return None
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        return None
    shifted = values.clip(low, high).astype(np.float64) - low + 0.01 * (high - low)
    level = float(shifted.mean())
    for _ in range(50):
        dark, bright = shifted[shifted <= level].mean(), shifted[shifted > level].mean()
        before, level = level, float((bright - dark) / (np.log(bright) - np.log(dark)))
        if abs(level - before) < 1e-4 * (high - low):
            break
    return level + low - 0.01 * (high - low)


def _grown(core: Mask, small: NDArray[np.float32], image: Mask, level: float) -> Mask:
    """The core with the dim skin around it: what is brighter than the air near by, up to some millimetres out.

    Air is measured in a ring around the breast, so that neither the unexposed border of a film nor fog far away counts.
    """
    reach = max(2, round(_SKIN * max(core.shape)))
    distance = ndimage.distance_transform_edt(~core)
    air = small[image & (distance > reach) & (distance <= 3 * reach) & (small <= level)]
    if air.size == 0:
        return core
    exposed = air[air > float(small[image].min()) + 0.002 * level]
    air = exposed if exposed.size > 0.2 * air.size else air
    middle = float(np.median(air))
    spread = 1.4826 * float(np.median(np.abs(air - middle)))
    edge = min(level, middle + max(3.0 * spread, 0.1 * (level - middle)))
    grown = _largest(_opened(core | (image & (small > edge) & (distance <= reach))))
    return core if grown is None else grown | core


def _opened(lit: Mask) -> Mask:
    """What is lit without thin things: what holds a disk of a hundredth of the picture's longer side."""
    reach = max(1, max(lit.shape) // 100)
    # Mirrored at its edges, the picture keeps a breast that is cut off there, and not a thin bright film edge.
    volume_region = np.pad(lit, 2 * reach, mode="symmetric")
    disk = np.hypot(*np.ogrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    opened = ndimage.binary_opening(volume_region, disk)
    return np.asarray(opened[2 * reach : -2 * reach, 2 * reach : -2 * reach])


def _largest(volume_region: Mask) -> Mask | None:
    """The largest part with its holes filled; None without any."""
    parts, count = ndimage.label(volume_region)
    if count == 0:
        return None
    largest = parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1
    return np.asarray(ndimage.binary_fill_holes(largest))


def chest_side(mask: Mask, expected: Side) -> Side:
    """At which side of the picture the chest wall lies: where the header expects it, unless the pixels are decided.

    The breast is cut off straight at the chest wall and tapers to the front. So of two opposite sides the chest wall is
    where the outermost twentieth of the breast is filled; the pixels are decided when that differs by a quarter. (On
    240 films it differs by 0.55 or more, but by 0.1 where a breast overfills the film and is cut off at both sides.)
    """
    opposite = _OPPOSITE[expected]
    return opposite if _share(mask, opposite) - _share(mask, expected) > _DECIDED else expected


def _share(mask: Mask, side: Side) -> float:
    """The part of the outermost twentieth of the mask's extent, seen from one side, that the mask fills."""
    upright = facing(mask, side)
    rows, columns = np.flatnonzero(upright.any(1)), np.flatnonzero(upright.any(0))
    if rows.size == 0:
        return 0.0
    deep = max(1, (columns[-1] - columns[0] + 1) // 20)
    return float(upright[rows[0] : rows[-1] + 1, columns[0] : columns[0] + deep].mean())


def facing(array: Array, side: Side) -> Array:
    """A view of the array (row, column) turned so that `side` is its left; other directions are not kept."""
    turned = array.T if side in ("top", "bottom") else array
    return turned[:, ::-1] if side in ("right", "bottom") else turned


def breast_height(mask: Mask, side: Side) -> int:
    """Extent of the breast along the chest wall in pixels: of where it is at least a quarter as deep as at its deepest.

    A fogged film edge or a fold beside the breast is shallow and does not count; a half ellipse loses 3 %.
    """
    depth = facing(mask, side).sum(axis=1)
    deep = np.flatnonzero(depth >= 0.25 * depth.max())
    return int(deep[-1] - deep[0] + 1)


def anterior_point(mask: Mask, laterality: Literal["L", "R"] | None = None) -> tuple[float, float]:
    """The foremost point (x, y) of the breast's contour in corner coordinates of the mask: where the nipple is, nearly.

    It is the middle of the outermost hundredth of the breast, seen from the chest wall, which a left breast has at the
    left of the picture and a right one at the right, unless the pixels say otherwise (`chest_side`). Raises
    GeometryError for an empty mask.
    """
    return foremost(mask, chest_side(mask, "right" if laterality == "R" else "left"))


def foremost(mask: Mask, chest: Side) -> tuple[float, float]:
    """As `anterior_point`, with the side of the chest wall known."""
    if not mask.any():
        raise GeometryError(f"mask of {mask.shape[0]} × {mask.shape[1]}: it is empty", Reason.NO_TISSUE_REGION)
    upright = facing(mask, chest)
    columns = np.flatnonzero(upright.any(0))
    band = max(1, (columns[-1] - columns[0] + 1) // 100)
    front = np.flatnonzero(upright[:, columns[-1] - band + 1 : columns[-1] + 1].any(1))
    deep, along = float(columns[-1] + 1), float(front.mean() + 0.5)
    deep = deep if chest in ("left", "top") else upright.shape[1] - deep
    return (deep, along) if chest in ("left", "right") else (along, deep)
