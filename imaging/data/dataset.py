"""Case + recipe → sample. The only place where truth meets image."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from imaging.data.manifest import Case
from imaging.data.truth import read_mask
from imaging.dicom.index import build_index
from imaging.dicom.read import read_frames
from imaging.dicom.select import select
from imaging.errors import ImagingError, InputError, Reason
from imaging.harmonise.recipe import Recipe
from imaging.harmonise.spatial import grid_of
from imaging.image import Image, resample


class Sample(TypedDict):
    """What a task sees: `image` (channel, *spatial) float32, `truth` (1, *spatial) int64, and where it comes from."""

    image: torch.Tensor
    truth: torch.Tensor
    case_id: str
    site: str


class SegmentationDataset(Dataset[Sample]):
    """Harmonised images with their truth on the model grid, kept in memory after the first read."""

    def __init__(self, cases: list[Case], recipe: Recipe) -> None:
        self.cases = cases
        self.recipe = recipe
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int) -> Sample:
        if number not in self._kept:
            self._kept[number] = read_sample(self.cases[number], self.recipe)
        return self._kept[number]


def read_sample(case: Case, recipe: Recipe) -> Sample:
    """One case through the same reading and harmonising as inference; truth by nearest neighbour onto that grid."""
    image = first_image(case, recipe)
    tissue = recipe.tissue(image)
    harmonised = recipe.harmonise(tissue)
    mask = read_mask(case.truth, image.source_grid)
    truth = resample(mask, image.source_grid, grid_of(harmonised), order=0)
    return Sample(
        image=harmonised.as_tensor().float(),
        truth=torch.from_numpy(np.ascontiguousarray(truth[None])).long(),
        case_id=case.case_id,
        site=case.site,
    )


def first_image(case: Case, recipe: Recipe) -> Image:
    """The first frame of the case's file. Raises InputError naming the case when the file holds no fitting image."""
    index = build_index(case.image, case.site)
    selection = select(index.series, recipe.rule) if index.series else None
    if selection is None or selection.group is None:
        state = index.files[case.image.name]
        reason = state.reason or Reason.NO_PACKAGE
        raise InputError(f"case {case.case_id}: {case.image.name} cannot be used: {reason.meaning}", reason)
    _, image = next(read_frames(next(iter(selection.group.images()))))
    if isinstance(image, ImagingError):
        raise image
    return image
