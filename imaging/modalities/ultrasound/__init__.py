"""Ultrasound: stills and cines of any organ, each image read by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from imaging.golden import drawn_plane, plane
from imaging.modalities import Modality
from imaging.modalities.ultrasound.conclusions import MEASURES, conclude
from imaging.modalities.ultrasound.selection import select

if TYPE_CHECKING:
    from imaging.harmonise.recipe import Recipe
    from imaging.image import Image
    from imaging.modalities import Progress
    from imaging.phantoms.sites import SitedKind


def _recipe() -> type[Recipe]:
    from imaging.modalities.ultrasound.recipe import UltrasoundRecipe

    return UltrasoundRecipe


def _golden() -> Image:
    return plane(drawn_plane(), (1.0, 1.0))


def _phantoms(
    folder: Path, cases: int, seed: int, progress: Progress | None = None, *, kind: Literal["breast", "head"]
) -> Path:
    from imaging.phantoms.export import write_training_set

    return write_training_set(folder, cases, seed, progress, kind)


def _sited() -> SitedKind:
    from imaging.phantoms.ultrasound.sites import BREASTS

    return BREASTS


ULTRASOUND: Final = Modality(
    name="ultrasound",
    acquired_as="US",
    select=select,
    recipe=_recipe,
    conclude=conclude,
    golden=_golden,
    measures=tuple(MEASURES),
    phantoms={"breast": partial(_phantoms, kind="breast"), "head": partial(_phantoms, kind="head")},
    sited={"breast": _sited},
)
