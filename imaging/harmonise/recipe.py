"""The Recipe protocol: how one modality's images become comparable across sites. The same object serves training,
evaluation and inference, and its identity is part of every result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Final, Protocol, Self

from monai.data import MetaTensor

from imaging.dicom.select import Select
from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.normalisation import Normalisation, parse_normalisation
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Image


class Recipe(Protocol):
    """A frozen dataclass of settings. It knows images, grid and intensity, and no task, label or split.

    Geometry and intensity are apart: `harmonise` is `scale` after `place`. What was placed is kept once for all recipes
    that differ in their `normalisation` alone, a field that a recipe may have (imaging.harmonise.normalisation).

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

    def place(self, tissue: Tissue) -> Placed:
        """The tissue on the model's grid, with intensities that no other image and no `normalisation` decides."""
        ...

    def scale(self, placed: Placed) -> MetaTensor:
        """The model's intensities, on the grid of what was placed, float32."""
        ...

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        """The tissue on the model's grid with the model's intensities, (channel, [slice,] row, column) float32."""
        ...

    def fit(self, cases: Iterable[Placed]) -> Self:
        """A new frozen recipe with what it learns from placed training cases; the same one when it learns nothing."""
        ...


# A setting that decides about intensities alone; where nothing is said it is left out, so that a recipe which has its
# own intensities keeps the identity that it had before there were others.
_NORMALISATION: Final = "normalisation"


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings, learned references included, as plain values."""
    stated: dict[str, Any] = asdict(recipe)  # type: ignore[call-overload]  # every recipe is a dataclass
    return {name: value for name, value in stated.items() if name != _NORMALISATION or value is not None}


def roles(recipe: Recipe) -> tuple[str, ...]:
    """The volumes of an exam that the recipe reads; none where it reads each image by itself, or whatever is there."""
    return tuple(settings(recipe).get("roles", ()))


def is_of_volumes(recipe: Recipe) -> bool:
    """Whether it reads volumes."""
    return recipe.spatial_dims == 3


def identity(recipe: Recipe) -> str:
    """sha256 over name, settings and code version."""
    return _digest(recipe, settings(recipe))


def normalisation_of(recipe: Recipe) -> Normalisation | None:
    """What stands in place of the recipe's own intensities, if anything."""
    told: Normalisation | None = getattr(recipe, _NORMALISATION, None)
    return told


def with_reference(recipe: Recipe, stated: Mapping[str, Any]) -> Recipe:
    """The recipe with what recorded settings say that its normalisation learnt, where it has learnt nothing yet.

    The recipe itself where those settings have another normalisation.
    """
    own, known = normalisation_of(recipe), parse_normalisation(stated.get(_NORMALISATION))
    if own is None or known is None or own != replace(known, reference=()):
        return recipe
    told: Recipe = replace(recipe, **{_NORMALISATION: known})  # type: ignore[type-var]  # every recipe is a dataclass
    return told


def placing_identity(recipe: Recipe) -> str:
    """The same over what decides about `place`: equal for recipes that differ in their normalisation alone."""
    return _digest(recipe, {name: value for name, value in settings(recipe).items() if name != _NORMALISATION})


def _digest(recipe: Recipe, stated: Mapping[str, Any]) -> str:
    told = json.dumps([recipe.name, stated, recipe.code_version], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
