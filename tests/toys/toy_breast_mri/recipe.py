"""The first dynamic phase on its own grid, signal over 1000."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from monai.data import MetaTensor

from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.spatial import to_tensor
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Image
from toy_breast_mri import DCE, select


@dataclass(frozen=True)
class BreastMriRecipe:
    """Nothing is resampled."""

    name: ClassVar[str] = "toy_breast_mri"
    code_version: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 3
    select = staticmethod(select)
    augmentation: ClassVar[Augmentation] = Augmentation(rotation=5.0)

    roles: tuple[str, ...] = (DCE,)

    def tissue(self, image: Image) -> Tissue:
        return Tissue(to_tensor(image))

    def place(self, tissue: Tissue) -> Placed:
        return Placed.lit(tissue.pixels)

    def scale(self, placed: Placed) -> MetaTensor:
        return placed.values / 1000.0

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        return self.scale(self.place(tissue))

    def fit(self, cases: Iterable[Placed]) -> Self:
        del cases
        return self
