"""Which recipe reads a DICOM image or the folder of a study, found by what each modality selects of it.

A training is told its recipe; what looks at a table before there is one (`imaging data check`, `to-nnunet`) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imaging.data.dataset import first_image, is_picture
from imaging.data.manifest import Case
from imaging.data.nnunet import VolumesOf, file_volumes
from imaging.dicom.index import build_index
from imaging.harmonise.recipe import Recipe
from imaging.image import Image
from imaging.modalities import Modality, all_modalities


def modality_of(case: Case) -> Modality | None:
    """The one modality that reads the DICOM of a case; None for other files, and where none or several would."""
    if is_picture(case):
        return None
    series = build_index(case.image, case.site).series
    found = [one for one in all_modalities() if series and one.select(series, None).group is not None]
    return found[0] if len(found) == 1 else None


def recipe_of(case: Case) -> Recipe | None:
    """The recipe, with its usual settings, of the modality that reads a case; None where there is not one."""
    modality = modality_of(case)
    return None if modality is None else modality.recipe()()


def volumes_by_role(key: str | None = None, roles: Sequence[str] = ()) -> VolumesOf:
    """What gives the volumes of a case, the key volume, as `key`, first: of the folder of a study those of these roles,
    selected and made as in training (all that the modality reads where none is named), else the files of the case.
    """
    of_files = file_volumes(key or "image")

    def volumes(case: Case) -> Mapping[str, Image]:
        if case.beside or not case.image.is_dir() or len(build_index(case.image, case.site).series) < 2:
            return of_files(case)
        modality = modality_of(case)
        if modality is None or not modality.roles:
            return of_files(case)
        kind: Callable[..., Any] = modality.recipe()
        recipe: Recipe = replace(kind(), roles=tuple(roles) or modality.roles)
        image = first_image(case, recipe)
        return {key or modality.roles[0]: image, **recipe.tissue(image).volumes}

    return volumes
