"""Radiographs on a square grid, stored values over their highest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from monai.data import MetaTensor

from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.intensity import ToLuminance
from imaging.harmonise.spatial import FitSquare, to_tensor
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Image
from toy_chest import select


@dataclass(frozen=True)
class ChestRecipe:
    """The whole image on a square of `side` pixels."""

    name: ClassVar[str] = "toy_chest"
    code_version: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 2
    select = staticmethod(select)
    augmentation: ClassVar[Augmentation] = Augmentation(rotation=5.0)

    side: int = 128

    def tissue(self, image: Image) -> Tissue:
        return Tissue(ToLuminance(image.channels)(to_tensor(image)))

    def place(self, tissue: Tissue) -> Placed:
        return Placed.lit(FitSquare(self.side)(tissue.pixels))

    def scale(self, placed: Placed) -> MetaTensor:
        return placed.values / max(float(placed.values.max()), 1.0)

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        return self.scale(self.place(tissue))

    def fit(self, cases: Iterable[Placed]) -> Self:
        del cases
        return self
