"""Ultrasound: declared (or found) 2-D tissue region → luminance → isotropic square → robust range.

The square grid is fitted to the field of view instead of a fixed millimetre spacing, because a third of real
ultrasound is uncalibrated; calibration still makes anisotropic pixels square (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from monai.data import MetaTensor
from monai.transforms import Compose

from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.intensity import ScalePercentiles, ToLuminance
from imaging.harmonise.normalisation import Normalisation, Normalise, learn, parse_normalisation
from imaging.harmonise.spatial import CropToTissue, FitSquare, to_tensor
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Image
from imaging.modalities.ultrasound.selection import select


@dataclass(frozen=True)
class UltrasoundRecipe:
    """Settings of the ultrasound recipe.

    Args:
        side: Side of the square model grid in pixels; a multiple of 16 suits every network here.
        low: Percentile of lit tissue that becomes 0.
        high: Percentile of lit tissue that becomes 1.
        normalisation: Of intensities in place of those percentiles; None keeps them.
    """

    name: ClassVar[str] = "ultrasound"
    code_version: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 2
    select = staticmethod(select)
    augmentation: ClassVar[Augmentation] = Augmentation(
        rotation=20.0,
        scale=(0.75, 1.35),
        stretch=1.3,
        shift=0.1,
        flip_columns=True,
        chance=0.25,
        gamma=(0.6, 1.7),
        brightness=(0.7, 1.3),
        gain=0.6,
        speckle=(0.05, 0.3),
        noise=(0.0, 0.08),
        blur=(0.4, 1.6),
        low_resolution=(0.4, 0.9),
        shadow=0.2,
    )

    side: int = 256
    low: float = 1.0
    high: float = 99.5
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "normalisation", parse_normalisation(self.normalisation))

    def tissue(self, image: Image) -> Tissue:
        """Luminance (1, row, column) of the tissue region in source pixels."""
        return Tissue(Compose([ToLuminance(image.channels), CropToTissue(image.region)])(to_tensor(image)))

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        """(1, side, side) float32 in 0-1."""
        return self.scale(self.place(tissue))

    def place(self, tissue: Tissue) -> Placed:
        """Luminance (1, side, side); foreground is what is lit."""
        return Placed.lit(FitSquare(self.side)(tissue.pixels))

    def scale(self, placed: Placed) -> MetaTensor:
        """(1, side, side) float32 in 0-1."""
        if self.normalisation is None:
            return ScalePercentiles(self.low, self.high)(placed.values)
        return Normalise(self.normalisation, (0,))(placed)

    def fit(self, cases: Iterable[Placed]) -> Self:
        """With the reference of its normalisation; itself where it has none."""
        if self.normalisation is None:
            return self
        return replace(self, normalisation=learn(self.normalisation, cases, (0,)))
