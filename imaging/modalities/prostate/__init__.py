"""Prostate MRI: T2W, ADC and high b as one exam, with gland volume, sectors and PSA density."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from imaging.modalities import Modality
from imaging.modalities.prostate.conclusions import PSA, conclude
from imaging.modalities.prostate.gland import GLAND
from imaging.modalities.prostate.golden import drawn_exam
from imaging.modalities.prostate.reasons import ProstateReason
from imaging.modalities.prostate.selection import PARTS, select

if TYPE_CHECKING:
    from imaging.harmonise.recipe import Recipe
    from imaging.modalities import Progress
    from imaging.phantoms.sites import SitedKind


def _recipe() -> type[Recipe]:
    from imaging.modalities.prostate.recipe import ProstateRecipe

    return ProstateRecipe


def _phantoms(folder: Path, cases: int, seed: int, progress: Progress | None = None) -> Path:
    from imaging.phantoms.prostate.export import write_training_set

    return write_training_set(folder, cases, seed, progress)


def _sited() -> SitedKind:
    from imaging.phantoms.prostate.sites import PROSTATES

    return PROSTATES


PROSTATE: Final = Modality(
    name="prostate",
    acquired_as="MR",
    select=select,
    recipe=_recipe,
    conclude=conclude,
    golden=drawn_exam,
    measures=("longest_diameter",),
    reasons=ProstateReason,
    context=(PSA,),
    mr_parts=PARTS,
    phantoms={"prostate": _phantoms},
    sited={"prostate": _sited},
    organ=GLAND,
)
