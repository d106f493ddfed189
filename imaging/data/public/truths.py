"""Mask files of public sets → one 0/255 mask on the grid of the picture: unions, and what a drawn curve encloses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from imaging.data.public.frames import PublicFrame, picture_size
from imaging.errors import GeometryError, InputError, Reason

Bools = NDArray[np.bool_]
_GREY = ("1", "L")


def is_plain(frame: PublicFrame) -> bool:
    """The one mask file of the frame is its truth as it stands: grey, of the picture's size, and no outline.

    Raises InputError when a file is no picture.
    """
    if frame.is_outlined or len(frame.masks) != 1 or picture_size(frame.masks[0]) != picture_size(frame.image):
        return False
    with Picture.open(frame.masks[0]) as picture:
        return picture.mode in _GREY


def read_union(frame: PublicFrame) -> Bools:
    """The truth of a frame, (row, column) of its picture; all False without a mask file.

    Raises InputError when a mask is no picture or its curve encloses nothing, GeometryError for another size.
    """
    shape = picture_size(frame.image)
    union = np.zeros(shape, dtype=np.bool_)
    for path in frame.masks:
        drawn = _drawn(path)
        if drawn.shape != shape:
            raise GeometryError(
                f"mask {path.name}: found {drawn.shape[0]} × {drawn.shape[1]} pixels; its image {frame.image.name} has "
                f"{shape[0]} × {shape[1]} (rows × columns)",
                Reason.GEOMETRY,
            )
        union |= enclosed(path.name, drawn) if frame.is_outlined else drawn
    return union


def _drawn(path: Path) -> Bools:
    """Where a mask file is not black; transparent pixels are not drawn."""
    try:
        with Picture.open(path) as picture:
            grey = picture if picture.mode in _GREY else picture.convert("LA" if "A" in picture.getbands() else "L")
            values = np.asarray(grey)
    except OSError as error:
        raise InputError(f"mask {path.name}: cannot be read as a picture", Reason.DECODE_FAILED) from error
    return np.asarray(values.min(axis=-1) > 0 if values.ndim == 3 else values > 0)


def enclosed(name: str, curve: Bools) -> Bools:
    """The curve with what it encloses. Of a curve that the picture's edge cuts open, its ellipse inside the picture.

    Raises InputError where there is neither.
    """
    filled = np.asarray(ndimage.binary_fill_holes(curve), dtype=np.bool_)
    if filled.sum() > 3 * curve.sum():
        return filled
    if not curve.any():
        raise InputError(f"outline {name}: nothing is drawn; allowed is a closed curve", Reason.GEOMETRY)
    return _ellipse(name, curve) | curve


def _ellipse(name: str, curve: Bools) -> Bools:
    """Pixels inside the ellipse that fits the curve best (direct least squares; Halíř and Flusser 1998)."""
    rows, columns = np.nonzero(curve)
    centre, scale = np.array([columns.mean(), rows.mean()]), max(float(np.ptp(rows)), float(np.ptp(columns)), 1.0)
    x, y = (columns - centre[0]) / scale, (rows - centre[1]) / scale
    squares, lines = np.stack([x * x, x * y, y * y], axis=1), np.stack([x, y, np.ones_like(x)], axis=1)
    try:
        tail = -np.linalg.solve(lines.T @ lines, lines.T @ squares)
        reduced = squares.T @ squares + squares.T @ lines @ tail
        _, vectors = np.linalg.eig(np.linalg.solve([[0, 0, 2], [0, -1, 0], [2, 0, 0]], reduced))
    except np.linalg.LinAlgError as error:
        raise InputError(f"outline {name}: no ellipse fits what is drawn", Reason.GEOMETRY) from error
    found = [head for head in np.real(vectors).T if 4 * head[0] * head[2] - head[1] ** 2 > 0]
    if not found:
        raise InputError(f"outline {name}: no ellipse fits what is drawn", Reason.GEOMETRY)
    head = found[0] * np.sign(found[0][0])
    rest = tail @ head
    down, across = np.mgrid[: curve.shape[0], : curve.shape[1]]
    u, v = (across - centre[0]) / scale, (down - centre[1]) / scale
    inside = head[0] * u * u + head[1] * u * v + head[2] * v * v + rest[0] * u + rest[1] * v + rest[2] <= 0
    return np.asarray(inside, dtype=np.bool_)


def overlap(first: Bools, second: Bools) -> float:
    """The best Dice of two masks of copies of one picture, over shifts up to a tenth of it; 1 for two empty ones.

    Copies may be scaled, cropped and shifted a little, so both are compared on 64 × 64 points.
    """
    if not first.any() or not second.any():
        return 1.0 if first.any() == second.any() else 0.0
    a, b = (_sampled(mask, 64) for mask in (first, second))
    reach = 6
    moved = np.pad(b, reach)
    best = 0.0
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            window = moved[down : down + 64, across : across + 64]
            best = max(best, 2 * float((a & window).sum()) / max(float(a.sum() + window.sum()), 1.0))
    return best


def _sampled(mask: Bools, side: int) -> Bools:
    """(side, side): where a mask's cell has a drawn pixel."""
    rows, columns = (np.arange(n) * side // n for n in mask.shape)
    cells = np.zeros((side, side), dtype=np.bool_)
    down, across = np.nonzero(mask)
    cells[rows[down], columns[across]] = True
    return cells
