"""Truth files → a mask on the source grid of its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

from imaging.errors import GeometryError, InputError, Reason
from imaging.image import Array, Grid


def read_mask(path: Path, grid: Grid) -> Array:
    """A PNG mask as uint8 (row, column), 1 where the picture is not 0. An empty mask means: nothing is there.

    Raises InputError when the file is not a grey picture, GeometryError when its size is not the image's.
    """
    try:
        with Picture.open(path) as picture:
            values = np.asarray(picture)
    except OSError as error:
        raise InputError(f"truth {path.name}: cannot be read as a picture", Reason.UNSUPPORTED_PIXELS) from error
    if values.ndim != 2:
        raise InputError(
            f"truth {path.name}: found {values.ndim} axes; allowed is one grey channel", Reason.UNSUPPORTED_PIXELS
        )
    if values.shape != grid.shape:
        raise GeometryError(
            f"truth {path.name}: found {values.shape[0]} × {values.shape[1]} pixels; its image has "
            f"{grid.shape[0]} × {grid.shape[1]} (rows × columns)",
            Reason.GEOMETRY,
        )
    return (values > 0).astype(np.uint8)
