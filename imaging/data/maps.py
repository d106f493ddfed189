"""Maps to be scored, of truth or prediction: volumes, NumPy and pictures → an array with its spacing and grid.

The file's own geometry wins over what a table says of it. Maps of one volume may differ in the order of their axes;
`placed` puts one into the order of another.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from imaging.data.images import READ, read_image, reorient, same_place
from imaging.data.marks import Mask
from imaging.data.pictures import crisp, is_picture_file, read_mask_picture
from imaging.errors import GeometryError, InputError, Reason
from imaging.image import Array, Floats, Grid
from imaging.table import tell

MAPS: Final = (*READ, ".npz", ".npy")
_SAME_SPACING: Final = 0.01


@dataclass(frozen=True, eq=False)
class Map:
    """An array ([slice,] row, column), its spacing in that order, and its grid where the file has one.

    `is_calibrated` says that the spacing is in mm; else it is 1 pixel along each axis. `findings` are those that a
    result states, each with a mask of the array's shape and a confidence; the array is then their union. None for a
    map. `stated` is that of the `Image` of a plane.
    """

    array: NDArray[Any]
    spacing: tuple[float, ...]
    grid: Grid | None = None
    findings: tuple[tuple[Mask, float], ...] | None = None
    is_calibrated: bool = True
    stated: Floats | None = None


def read_map(path: Path, spacing_mm: tuple[float, ...] = (), foreground: bool = False) -> Map:
    """The map of a file. `spacing_mm`, one step or one for each axis, is for files that have none of their own.

    `foreground` takes, of class probabilities as nnU-Net stores them, the first class above background. Raises
    InputError for a missing or unreadable file and for values that are not finite, GeometryError for a spacing of
    another number of axes.
    """
    if not path.is_file():
        raise InputError(f"there is no file '{path.name}'", Reason.CONFIG_INVALID)
    array, own, grid, stated = _read(path, foreground)
    if not np.isfinite(array).all():
        raise InputError(f"{path.name}: found values that are not finite; allowed are finite ones", Reason.GEOMETRY)
    if len(spacing_mm) not in (0, 1, array.ndim):
        raise GeometryError(
            f"{path.name}: found {array.ndim} axes, and a spacing_mm of {len(spacing_mm)} steps; allowed is one step, "
            "or one for each axis",
            Reason.GEOMETRY,
        )
    given = spacing_mm * array.ndim if len(spacing_mm) == 1 else spacing_mm
    if own and given and not np.allclose(own, given, rtol=_SAME_SPACING):
        tell([f"{path.name}: its own spacing {own} mm is used, not spacing_mm {given} of the table"])
    spacing = own or given
    return Map(array, spacing or (1.0,) * array.ndim, grid, is_calibrated=bool(spacing), stated=stated)


def placed(found: Map, truth: Map) -> Array | None:
    """The array in the truth's axis order; None where it has other voxels. What has no place need only have its shape.

    A picture in pixels has no place, nor have the arrays of NumPy.
    """
    if not same_place(found.stated, truth.stated, found.array.shape):
        return None
    own, grid = found.grid, truth.grid
    if own is not None and grid is not None:
        kinds = [(one.frame, one.unit, len(one.shape)) for one in (own, grid)]
        if kinds[0] == kinds[1]:
            return reorient(found.array, own, grid)
    return found.array if found.array.shape == truth.array.shape else None


def _read(path: Path, foreground: bool) -> tuple[NDArray[Any], tuple[float, ...], Grid | None, Floats | None]:
    """Array, own spacing in mm (none where the file has none), grid and stated place of a file."""
    name = path.name.lower()
    if is_picture_file(path):
        return crisp(path.name, read_mask_picture(path)), (), None, None
    if name.endswith(READ):
        return _stored(path)
    try:
        return _numpy(path, foreground), (), None, None
    except (OSError, ValueError, KeyError, EOFError, zlib.error, BadZipFile) as error:
        raise InputError(
            f"{path.name}: {type(error).__name__}; allowed is a readable {', '.join(MAPS)}", Reason.DECODE_FAILED
        ) from error


def _stored(path: Path) -> tuple[NDArray[Any], tuple[float, ...], Grid, Floats | None]:
    image = read_image(path)
    if len(image.array) != 1:
        raise InputError(f"{path.name}: found {len(image.array)} channels; allowed is one", Reason.UNSUPPORTED_PIXELS)
    return image.array[0], image.grid.spacing if image.grid.unit == "mm" else (), image.grid, image.stated


def _numpy(path: Path, foreground: bool) -> NDArray[Any]:
    """The only array of a file; of class probabilities as nnU-Net stores them, the first class above background."""
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    with np.load(path, allow_pickle=False) as arrays:
        for name in ("softmax", "probabilities"):
            if foreground and name in arrays:
                return np.asarray(arrays[name][1], dtype=np.float32)
        if len(arrays.files) != 1:
            raise ValueError(f"{len(arrays.files)} arrays")
        return np.asarray(arrays[arrays.files[0]])
