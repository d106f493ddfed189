"""Case + recipe → sample. The only place where truth meets image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from imaging.data.cache import SampleCache, key_of
from imaging.data.images import read_image
from imaging.data.instances import carry_instances, number_instances
from imaging.data.manifest import Case
from imaging.data.truth import read_mask, read_values
from imaging.dicom.index import build_index
from imaging.dicom.read import read_frames
from imaging.dicom.select import select
from imaging.errors import ConfigError, ImagingError, InputError, Reason
from imaging.harmonise.recipe import Recipe
from imaging.harmonise.recipe import identity as recipe_identity
from imaging.harmonise.spatial import grid_of
from imaging.image import Array, Image, resample

_PICTURES = (".png", ".pgm", ".mha", ".mhd", ".nii", ".nii.gz")
UNKNOWN_CLASS = -1
UNKNOWN_TRUTH = 255  # of a case whose class alone is known: no label, so that no loss can take it for background
INSTANCES = "instances 1"  # of cache keys: the number changes with what `imaging.data.instances` makes


@dataclass(frozen=True, eq=False)
class Sample:
    """One case on the model's grid.

    `image` (channel, *spatial) float32, `truth` (1, *spatial) uint8 labels (or UNKNOWN_TRUTH), or uint16 instances from
    1 on where these were asked for, `class_index` the place of the case's label among the classes or UNKNOWN_CLASS,
    `number` its place in the dataset.
    """

    image: Array
    truth: Array
    class_index: int
    number: int
    case: Case


class Batch(TypedDict):
    """Samples side by side: `image` (batch, channel, *spatial), `truth` (batch, 1, *spatial) int64, `class_index`."""

    image: Tensor
    truth: Tensor
    class_index: Tensor
    number: list[int]
    case_id: list[str]
    site: list[str]


class SampleDataset:
    """Harmonised cases, each decoded once: from the cache after that, in this run and in every later one.

    Args:
        cases: In the table's order.
        recipe: How images are harmonised.
        cache: Where harmonised samples stay; None harmonises on every access.
        classes: Names of the image classes, in the network's order. A case without a label has none of them.
        instances: Whether truth numbers the lesions of a mask, or only says where they are.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        recipe: Recipe,
        cache: SampleCache | None = None,
        classes: Sequence[str] = (),
        instances: bool = False,
    ) -> None:
        self.cases = list(cases)
        self.recipe = recipe
        self.cache = cache
        self.classes = list(classes)
        self.instances = instances
        self.decoded = 0
        self._keys: dict[int, str] = {}
        unknown = sorted({c.label for c in cases if classes and c.label and c.label not in classes})
        if unknown:
            raise ConfigError(
                f"manifest: found the labels {unknown}; data.classes allows {self.classes}", Reason.CONFIG_INVALID
            )

    def __len__(self) -> int:
        return len(self.cases)

    @cached_property
    def identity(self) -> str:
        """sha256 over the recipe and, in this order, every case's id and what is known of it; not over its files."""
        told: list[object] = [recipe_identity(self.recipe), self.classes]
        told += [(c.case_id, c.patient_id, c.site, c.label, c.spacing_mm) for c in self.cases]
        told += [INSTANCES] * self.instances
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def __getitem__(self, number: int) -> Sample:
        case = self.cases[number]
        image, truth = self._arrays(number)
        index = self.classes.index(case.label) if case.label in self.classes else UNKNOWN_CLASS
        return Sample(image, truth, index, number, case)

    def _arrays(self, number: int) -> tuple[Array, Array]:
        case = self.cases[number]
        if self.cache is None:
            return self._harmonised(case)
        if number not in self._keys:
            facts = [recipe_identity(self.recipe), str(case.spacing_mm), *([INSTANCES] * self.instances)]
            self._keys[number] = key_of([file for file in (case.image, case.truth) if file], facts)
        kept = self.cache.get(self._keys[number])
        if kept is not None:
            return kept[0], kept[1]
        made = self._harmonised(case)
        self.cache.put(self._keys[number], made)
        return made

    def _harmonised(self, case: Case) -> tuple[Array, Array]:
        self.decoded += 1
        return harmonise_case(case, self.recipe, self.instances)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one shape as a batch. Raises ConfigError naming the case whose shape differs."""
    shape = samples[0].image.shape
    for sample in samples:
        if sample.image.shape != shape:
            raise ConfigError(
                f"case {sample.case.case_id}: found {sample.image.shape} (channel, *spatial) on the model's grid; "
                f"{samples[0].case.case_id} in the same batch has {shape}. Let the recipe fit one grid",
                Reason.CONFIG_INVALID,
            )
    return Batch(
        image=torch.from_numpy(np.stack([s.image for s in samples])),
        truth=torch.from_numpy(np.stack([s.truth for s in samples])).long(),
        class_index=torch.tensor([s.class_index for s in samples]),
        number=[s.number for s in samples],
        case_id=[s.case.case_id for s in samples],
        site=[s.case.site for s in samples],
    )


def harmonise_case(case: Case, recipe: Recipe, instances: bool = False) -> tuple[Array, Array]:
    """One case through the same reading and harmonising as inference; truth by nearest neighbour onto that grid.

    Image (channel, *spatial) float32 and truth (1, *spatial): uint8, 1 inside lesions (UNKNOWN_TRUTH everywhere where
    only the class is known), or uint16 with the lesions numbered from 1. Raises ImagingError naming the case, also
    where `instances` are wanted of a case without a truth.
    """
    path = case.known_truth if instances else case.truth
    try:
        image = first_image(case, recipe)
        harmonised = recipe.harmonise(recipe.tissue(image))
        source, target = image.source_grid, grid_of(harmonised)
        if path is None:
            truth: Array = np.full(target.shape, UNKNOWN_TRUTH, dtype=np.uint8)
        elif instances:
            truth = carry_instances(number_instances(read_values(path, source)), source, target)
        else:
            truth = resample(read_mask(path, source), source, target, order=0)
    except ImagingError as error:
        raise type(error)(f"case {case.case_id}: {error}", error.reason) from error
    kind = np.uint16 if instances else np.uint8
    return harmonised.as_tensor().float().numpy(), np.ascontiguousarray(truth[None], dtype=kind)


def is_picture(case: Case) -> bool:
    """Whether the image is a picture file, which states no acquisition, and no DICOM file."""
    return case.image.name.lower().endswith(_PICTURES)


def first_image(case: Case, recipe: Recipe) -> Image:
    """The first frame of the case's DICOM file, or its picture, all of which counts as tissue.

    Raises InputError when the file holds no fitting image.
    """
    if is_picture(case):
        image = read_image(case.image, case.site, case.spacing_mm)
        rows, columns = image.source_grid.shape[-2:]
        return replace(image, region=(0, 0, rows, columns))
    index = build_index(case.image, case.site)
    selection = select(index.series, recipe.rule) if index.series else None
    if selection is None or selection.group is None:
        left_out = [why for _, why in selection.rejected] if selection else []
        reason = index.files[case.image.name].reason or next(iter(left_out), Reason.NO_PACKAGE)
        raise InputError(f"{case.image.name} cannot be used: {reason.meaning}", reason)
    _, frame = next(read_frames(next(iter(selection.group.images()))))
    if isinstance(frame, ImagingError):
        raise frame
    return frame
