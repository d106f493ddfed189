"""The golden phantom of a package: a drawn image, and what the network said of it when the package was made.

In golden.npz a plane is `pixels` uint8 (row, column) with `spacing_mm`; its whole frame is the tissue region. A volume
is `pixels` (slice, row, column) with `affine` (4, 4) of its grid, and of each volume beside it by role `pixels:ROLE`,
`affine:ROLE` and, where it has one, `b_value:ROLE`. `expected` are probabilities in 1/255.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from imaging.image import Array, Floats, Grid, Image, Origin, SourceRef

# Stands for an image that no DICOM object holds: a picture of a data set, a golden phantom.
UNREFERENCED = SourceRef("unreferenced", "unreferenced", "", "unreferenced")


def plane(pixels: Array, spacing_mm: tuple[float, float]) -> Image:
    """A drawn plane whose whole frame is the tissue region."""
    rows, columns = pixels.shape
    grid = Grid.plane(rows, columns, *spacing_mm, "mm")
    return Image(pixels[None], grid, grid, (UNREFERENCED,), Origin(), region=grid.whole)


def volume(pixels: Array, affine: Floats, b_value: float | None = None) -> Image:
    """A drawn volume on the grid of `affine`, in `patient_ras` millimetres."""
    grid = Grid(pixels.shape, affine, "patient_ras")
    return Image(pixels[None], grid, grid, (UNREFERENCED,) * len(pixels), Origin(), b_value=b_value)


def drawn_plane(side: int = 256) -> Array:
    """Grainy tissue with a dark ellipse in a bright rim, uint8 (side, side): something for every network to look at."""
    rows, columns = np.mgrid[0:side, 0:side] / side - 0.5
    grain = gaussian_filter(np.random.default_rng(3).normal(size=(side, side)), 1.5)
    reach = np.sqrt(((columns + 0.06) / 0.24) ** 2 + ((rows - 0.02) / 0.17) ** 2)
    level = np.where(reach < 0.9, 25.0, np.where(reach < 1.0, 210.0, 110.0))
    return np.asarray(np.clip(np.rint(level * (1 + 1.6 * grain)), 0, 255), dtype=np.uint8)


def save_golden(path: Path, image: Image, expected: Array) -> None:
    """Write golden.npz. `expected` (label, …) are probabilities."""
    told: dict[str, Array] = {"expected": np.rint(expected * 255).astype(np.uint8)}
    if not image.grid.is_volume:
        told |= {"pixels": image.array[0], "spacing_mm": np.asarray(image.grid.spacing)}
    else:
        for ending, one in {"": image, **{f":{role}": one for role, one in image.beside.items()}}.items():
            told |= {f"pixels{ending}": one.array[0], f"affine{ending}": one.grid.affine}
            told |= {} if one.b_value is None else {f"b_value{ending}": np.asarray(one.b_value)}
    np.savez_compressed(path, **told)  # type: ignore[arg-type]  # numpy's stub takes the keywords for its own


def read_golden(path: Path) -> tuple[Image, Array]:
    """The phantom and the probabilities that the network must give: (label, *spatial), or (label, anchor) of boxes.

    Raises OSError, KeyError, ValueError or ImagingError where the file holds no phantom.
    """
    with np.load(path, allow_pickle=False) as golden:
        expected = golden["expected"].astype(np.float32) / 255
        if "spacing_mm" in golden:
            row, column = golden["spacing_mm"]
            return plane(golden["pixels"], (float(row), float(column))), expected
        roles = [name.removeprefix("pixels") for name in golden if name.startswith("pixels")]
        volumes = {ending.removeprefix(":"): _volume(golden, ending) for ending in roles}
    return replace(volumes.pop(""), beside=volumes), expected


def _volume(golden: Mapping[str, Array], ending: str) -> Image:
    b_value = float(golden[f"b_value{ending}"]) if f"b_value{ending}" in golden else None
    return volume(golden[f"pixels{ending}"], golden[f"affine{ending}"], b_value)
