"""The Recipe protocol: how one modality's images become comparable across sites. The same object serves training,
evaluation and inference, and its identity is part of every result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, Self

from monai.data import MetaTensor

from imaging.dicom.select import Select
from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.tissue import Tissue
from imaging.image import Image


class Recipe(Protocol):
    """A frozen dataclass of settings. It knows images, grid and intensity, and no task, label or split.

    `code_version` is raised whenever a change of its code, or of the building blocks that it uses, changes harmonised
    pixels: cached and packaged results then differ.
    """

    name: ClassVar[str]
    code_version: ClassVar[int]
    spatial_dims: ClassVar[int]

    @property
    def select(self) -> Select:
        """Which images of a study it reads as what."""
        ...

    @property
    def augmentation(self) -> Augmentation:
        """How much its images may be varied in training."""
        ...

    def tissue(self, image: Image) -> Tissue:
        """The part of the image that may be analysed and shown: luminance, nothing beside the tissue, source pixels."""
        ...

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        """The tissue on the model's grid with the model's intensities, (channel, [slice,] row, column) float32."""
        ...

    def fit(self, images: Iterable[Image]) -> Self:
        """A new frozen recipe with what it learns from training-site images; the same one when it learns nothing."""
        ...


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings, learned references included, as plain values."""
    return asdict(recipe)  # type: ignore[call-overload,no-any-return]  # every recipe is a dataclass


def roles(recipe: Recipe) -> tuple[str, ...]:
    """The volumes of an exam that the recipe reads; none where it reads each image by itself, or whatever is there."""
    return tuple(settings(recipe).get("roles", ()))


def is_of_volumes(recipe: Recipe) -> bool:
    """Whether it reads volumes."""
    return recipe.spatial_dims == 3


def identity(recipe: Recipe) -> str:
    """sha256 over name, settings and code version."""
    told = json.dumps([recipe.name, settings(recipe), recipe.code_version], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
