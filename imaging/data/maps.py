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
from imaging.errors import ConfigError, GeometryError, InputError, Reason
from imaging.image import Array, Floats, Grid
from imaging.table import tell

BY_CLASS: Final = (".npz", ".npy")  # what may hold probabilities of several classes
MAPS: Final = (*READ, *BY_CLASS)
_SAME_SPACING: Final = 0.01
# Arrays of a file that nnU-Net wrote: class probabilities (class, [slice,] row, column), the background first.
_NAMED: Final = ("softmax", "probabilities")


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


def read_map(path: Path, spacing_mm: tuple[float, ...] = (), channel: int | None = None) -> Map:
    """The map of a file. `spacing_mm`, one step or one for each axis, is for files that have none of their own.

    `channel` is the class that is meant of class probabilities as nnU-Net stores them; without it that is the one above
    background where there is one. Raises InputError for a missing or unreadable file and for values that are not
    finite, GeometryError for a spacing of another number of axes, ConfigError where the class is not known.
    """
    if not path.is_file():
        raise InputError(f"there is no file '{path.name}'", Reason.CONFIG_INVALID)
    array, own, grid, stated = _read(path, channel)
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


def _read(path: Path, channel: int | None) -> tuple[NDArray[Any], tuple[float, ...], Grid | None, Floats | None]:
    """Array, own spacing in mm (none where the file has none), grid and stated place of a file."""
    name = path.name.lower()
    if is_picture_file(path):
        return crisp(path.name, read_mask_picture(path)), (), None, None
    if name.endswith(READ):
        return _stored(path)
    try:
        return _numpy(path, channel), (), None, None
    except (OSError, ValueError, KeyError, EOFError, zlib.error, BadZipFile) as error:
        raise InputError(
            f"{path.name}: {type(error).__name__}; allowed is a readable {', '.join(MAPS)}", Reason.DECODE_FAILED
        ) from error


def _stored(path: Path) -> tuple[NDArray[Any], tuple[float, ...], Grid, Floats | None]:
    image = read_image(path)
    if len(image.array) != 1:
        raise InputError(f"{path.name}: found {len(image.array)} channels; allowed is one", Reason.UNSUPPORTED_PIXELS)
    return image.array[0], image.grid.spacing if image.grid.unit == "mm" else (), image.grid, image.stated


def _numpy(path: Path, channel: int | None) -> NDArray[Any]:
    """The only array of a file; of class probabilities as nnU-Net stores them, one class."""
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    with np.load(path, allow_pickle=False) as arrays:
        for name in _NAMED:
            if name in arrays:
                return of_class(path.name, np.asarray(arrays[name], dtype=np.float32), channel)
        if len(arrays.files) != 1:
            raise ValueError(f"{len(arrays.files)} arrays")
        return np.asarray(arrays[arrays.files[0]])


def of_class(name: str, chances: Array, channel: int | None) -> Array:
    """The probabilities of one class of (class, [slice,] row, column); of two that above background. Raises ConfigError
    where which one is not known.
    """
    count = len(chances)
    if channel is None and count > 2:
        raise ConfigError(
            f"{name}: found probabilities of {count} classes, 0 the background; name the one that is looked for with "
            f"--channel, 1 to {count - 1}",
            Reason.CONFIG_INVALID,
        )
    if channel is not None and channel >= count:
        raise ConfigError(f"{name}: --channel {channel}: allowed are 0 to {count - 1}", Reason.CONFIG_INVALID)
    return np.asarray(chances[count - 1 if channel is None else channel])
