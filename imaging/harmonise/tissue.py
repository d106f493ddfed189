"""Tissue: what of an image a recipe lets be analysed and shown; Placed: the same on the model's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from numpy.typing import NDArray

from imaging.errors import GeometryError, Reason
from imaging.harmonise.spatial import grid_of
from imaging.image import Array, Box, Grid, Image


@dataclass(frozen=True, eq=False)
class Tissue:
    """The answer of `Recipe.tissue`. Complete when built: raises GeometryError for pixels of no plane or volume.

    `pixels` (channel, [slice,] row, column) are source voxels with their place in the affine. `region` is the organ's
    box on their grid; None where it is unknown. `notes` are sentences that a reader of the result
    must know. `anterior_px` is the organ's most anterior point as x, y in source pixels, None where the recipe knows
    none. `steps` bring the pixels upright and onto the model's spacing, where the image decides them. `volumes` are the
    further channels by role, each on its own grid; `anchor` is the one by which they are laid onto the pixels, None to
    leave them as they lie. `quantities` are maps with a unit by name, each on its own grid.
    """

    pixels: MetaTensor
    region: Box | None = None
    notes: tuple[str, ...] = ()
    anterior_px: tuple[float, float] | None = None
    steps: tuple[Transform, ...] = ()
    volumes: Mapping[str, Image] = field(default_factory=dict)
    anchor: Image | None = None
    quantities: Mapping[str, Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (3, 4):
            raise GeometryError(
                f"Tissue.pixels: found shape {tuple(self.pixels.shape)}; allowed is (channel, [slice,] row, column)",
                Reason.GEOMETRY,
            )

    @property
    def grid(self) -> Grid:
        """Where the pixels are."""
        return grid_of(self.pixels)


@dataclass(frozen=True, eq=False)
class Placed:
    """The tissue on the model's grid, before its intensities are made comparable: the answer of `Recipe.place`.

    `values` (channel, [slice,] row, column) are float32, `foreground` ([slice,] row, column) is where intensities are
    judged. Raises GeometryError where their grids differ.
    """

    values: MetaTensor
    foreground: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if tuple(self.values.shape[1:]) != self.foreground.shape:
            raise GeometryError(
                f"Placed.foreground: found shape {self.foreground.shape}; allowed is that of the values, "
                f"{tuple(self.values.shape[1:])}",
                Reason.GEOMETRY,
            )

    @classmethod
    def kept(cls, values: Array, foreground: NDArray[np.bool_]) -> Placed:
        """Of arrays that were kept without their grid; the values are copied."""
        return cls(MetaTensor(torch.from_numpy(values.copy())), foreground)

    @classmethod
    def lit(cls, values: MetaTensor) -> Placed:
        """Of tissue beside which 0 stands: its foreground is what is brighter in any channel."""
        return cls(values, (values > 0).any(dim=0).numpy())
