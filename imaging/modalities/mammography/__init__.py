"""Mammography: the standard views of both breasts, paired, scored, and told in a Mammography CAD SR as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from imaging.golden import drawn_plane, plane
from imaging.modalities import Modality
from imaging.modalities.mammography.conclusions import MEASURES, conclude
from imaging.modalities.mammography.reasons import MammographyReason
from imaging.modalities.mammography.selection import select

if TYPE_CHECKING:
    from imaging.harmonise.recipe import Recipe
    from imaging.image import Image
    from imaging.modalities import Progress
    from imaging.phantoms.sites import SitedKind
    from imaging.report.kind import ObjectKind


def _recipe() -> type[Recipe]:
    from imaging.modalities.mammography.recipe import MammographyRecipe

    return MammographyRecipe


def _golden() -> Image:
    """The drawn plane inside a half disc at its left edge, nothing beside it: as a breast stands on film."""
    pixels = drawn_plane()
    side = len(pixels)
    rows, columns = np.mgrid[0:side, 0:side] / side
    inside = (rows - 0.5) ** 2 + (0.6 * columns) ** 2 < 0.42**2
    return plane(np.where(inside, np.maximum(pixels, 40), 0).astype(np.uint8), (1.0, 1.0))


def _outputs() -> tuple[ObjectKind, ...]:
    from imaging.modalities.mammography.cad.kind import CAD_REPORT

    return (CAD_REPORT,)


def _phantoms(folder: Path, cases: int, seed: int, progress: Progress | None = None) -> Path:
    from imaging.phantoms.mammography.export import write_training_set

    return write_training_set(folder, cases, seed, progress)


def _sited() -> SitedKind:
    from imaging.phantoms.mammography.sites import MAMMOGRAMS

    return MAMMOGRAMS


MAMMOGRAPHY: Final = Modality(
    name="mammography",
    acquired_as="MG",
    select=select,
    recipe=_recipe,
    conclude=conclude,
    golden=_golden,
    measures=tuple(MEASURES),
    outputs=_outputs,
    reasons=MammographyReason,
    phantoms={"mammography": _phantoms},
    sited={"mammography": _sited},
)
