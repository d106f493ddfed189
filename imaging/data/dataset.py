"""Case + recipe → sample. The only place where truth meets image."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from imaging.data.cache import SampleCache, key_of
from imaging.data.images import READ, read_image
from imaging.data.instances import carry_instances, number_instances
from imaging.data.manifest import Case
from imaging.data.truth import read_labels, read_mask, read_values
from imaging.dicom.exam import read_exam
from imaging.dicom.index import Index, build_index
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import UNPLACED, Group, Volumes
from imaging.errors import ConfigError, ImagingError, InputError, Reason
from imaging.harmonise.recipe import Recipe, placing_identity
from imaging.harmonise.recipe import identity as recipe_identity
from imaging.harmonise.recipe import roles as roles_of
from imaging.harmonise.spatial import grid_of
from imaging.harmonise.tissue import Placed
from imaging.image import Array, Box, Image, resample

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

    The cache keeps what was placed on the model's grid, and intensities are made at each access: so runs that differ in
    their normalisation alone share it. `decoded` counts the cases that had to be read.

    Args:
        cases: In the table's order.
        recipe: How images are harmonised.
        cache: Where placed samples stay; None reads and places on every access.
        classes: Names of the image classes, in the network's order. A case without a label has none of them.
        labels: What the values of the truths mean, from 1 on; without them any value is the one label. None numbers
            the lesions of each truth instead.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        recipe: Recipe,
        cache: SampleCache | None = None,
        classes: Sequence[str] = (),
        labels: Sequence[str] | None = (),
    ) -> None:
        self.cases = list(cases)
        self.recipe = recipe
        self.cache = cache
        self.classes = list(classes)
        self.labels = labels
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
        told += self._truth_facts
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def __getitem__(self, number: int) -> Sample:
        case = self.cases[number]
        placed, truth = self._placed(number)
        index = self.classes.index(case.label) if case.label in self.classes else UNKNOWN_CLASS
        return Sample(_scaled(placed, self.recipe), truth, index, number, case)

    def placed(self) -> Iterator[Placed]:
        """Every case on the model's grid before its intensities, in order."""
        for number in range(len(self)):
            yield self._placed(number)[0]

    @property
    def _truth_facts(self) -> list[str]:
        return [INSTANCES] if self.labels is None else [f"label {name}" for name in self.labels]

    def _placed(self, number: int) -> tuple[Placed, Array]:
        case = self.cases[number]
        if self.cache is None:
            return self._made(case)
        if number not in self._keys:
            named = [*case.beside, *(name for name in ("organ", "truth") if getattr(case, name) is not None)]
            facts = [placing_identity(self.recipe), str(case.spacing_mm), *named, *self._truth_facts]
            self._keys[number] = key_of(case.files, facts)
        kept = self.cache.get(self._keys[number])
        if kept is not None:
            values, truth, packed = kept
            shape = values.shape[1:]
            foreground = np.unpackbits(packed, count=math.prod(shape)).astype(np.bool_).reshape(shape)
            return Placed.kept(values, foreground), truth
        placed, truth = made = self._made(case)
        values = placed.values.as_tensor().numpy()
        self.cache.put(self._keys[number], [values, truth, np.packbits(placed.foreground)])
        return made

    def _made(self, case: Case) -> tuple[Placed, Array]:
        self.decoded += 1
        return place_case(case, self.recipe, self.labels)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as a batch: planes of one shape, volumes with room at their ends where another one is larger.

    In that room each channel has its least value, and nothing is there. Raises ConfigError naming the plane whose shape
    differs.
    """
    shape = samples[0].image.shape
    largest = np.max([sample.truth.shape[1:] for sample in samples], axis=0)
    for sample in samples:
        if sample.image.shape != shape and len(largest) == 2:
            raise ConfigError(
                f"case {sample.case.case_id}: found {sample.image.shape} (channel, *spatial) on the model's grid; "
                f"{samples[0].case.case_id} in the same batch has {shape}. Let the recipe fit one grid",
                Reason.CONFIG_INVALID,
            )
    return Batch(
        image=torch.from_numpy(np.stack([_with_room(s.image, largest) for s in samples])),
        truth=torch.from_numpy(np.stack([_with_room(s.truth, largest, 0) for s in samples])).long(),
        class_index=torch.tensor([s.class_index for s in samples]),
        number=[s.number for s in samples],
        case_id=[s.case.case_id for s in samples],
        site=[s.case.site for s in samples],
    )


def _with_room(array: Array, shape: Array, fill: float | None = None) -> Array:
    """The array (channel, *spatial) at the first corner of `shape`; `fill` or each channel's least value beside it."""
    if array.shape[1:] == tuple(shape):
        return array
    least = array.min(axis=tuple(range(1, array.ndim)), keepdims=True) if fill is None else fill
    roomy = np.empty((len(array), *shape), dtype=array.dtype)
    roomy[...] = least
    roomy[(slice(None), *(slice(0, n) for n in array.shape[1:]))] = array
    return roomy


def harmonise_case(case: Case, recipe: Recipe, labels: Sequence[str] | None = ()) -> tuple[Array, Array]:
    """One case through the same reading and harmonising as inference: image (channel, *spatial) float32, and truth as
    of `place_case`."""
    placed, truth = place_case(case, recipe, labels)
    return _scaled(placed, recipe), truth


def _scaled(placed: Placed, recipe: Recipe) -> Array:
    image: Array = recipe.scale(placed).as_tensor().float().numpy()
    return image


def place_case(case: Case, recipe: Recipe, labels: Sequence[str] | None = ()) -> tuple[Placed, Array]:
    """One case through the same reading and placing as inference; truth by nearest neighbour onto that grid.

    Truth (1, *spatial): uint8, k where `labels[k - 1]` is and without labels 1 inside lesions (UNKNOWN_TRUTH everywhere
    where only the class is known), or uint16 with the lesions numbered from 1 where `labels` is None. Raises
    ImagingError naming the case, also where lesions are to be numbered and there is no truth.
    """
    path = case.known_truth if labels is None else case.truth
    try:
        image = first_image(case, recipe)
        placed = recipe.place(recipe.tissue(image))
        source, target = image.source_grid, grid_of(placed.values)
        if path is None:
            truth: Array = np.full(target.shape, UNKNOWN_TRUTH, dtype=np.uint8)
        elif labels is None:
            truth = carry_instances(number_instances(read_values(path, image)), source, target)
        else:
            known = read_labels(path, image, labels) if labels else read_mask(path, image)
            truth = resample(known, source, target, order=0)
    except ImagingError as error:
        raise type(error)(f"case {case.case_id}: {error}", error.reason) from error
    kind = np.uint16 if labels is None else np.uint8
    return placed, np.ascontiguousarray(truth[None], dtype=kind)


def is_picture(case: Case) -> bool:
    """Whether the image is a picture file, which states no acquisition, and no DICOM file."""
    return case.image.name.lower().endswith(READ)


def first_image(case: Case, recipe: Recipe) -> Image:
    """What a case shows, as the recipe takes it: a frame, or a volume with the exam's others beside it.

    Of DICOM it is what the recipe's rule selects, of a plane its first frame. Of a picture all counts as tissue, of a
    volume the box around the case's organ. Raises InputError where nothing fits, or where a volume cannot be read.
    """
    image = _from_files(case) if is_picture(case) else _from_dicom(case, recipe)
    if image.source_grid.is_volume != (recipe.spatial_dims == 3):
        raise InputError(
            f"image {case.image.name}: found {image.source_grid.shape} ({'slice, ' * image.source_grid.is_volume}row, "
            f"column); the recipe takes {'volumes' if recipe.spatial_dims == 3 else 'planes'}",
            Reason.GEOMETRY,
        )
    if not image.source_grid.is_volume:
        return replace(image, region=image.grid.whole) if is_picture(case) else image
    return image if case.organ is None else replace(image, region=_box(case.organ, image))


def _from_files(case: Case) -> Image:
    image = read_image(case.image, case.site, case.spacing_mm)
    return replace(image, beside={role: read_image(path, case.site) for role, path in case.beside.items()})


def _from_dicom(case: Case, recipe: Recipe) -> Image:
    index = build_index(case.image, case.site)
    group = _selected(case, index, recipe)
    if group.key:
        return _exam(case, group.only(roles_of(recipe) or group.roles)[0])
    _, frame = next(read_frames(next(iter(group.images()))))
    if isinstance(frame, ImagingError):
        raise frame
    return frame


def _exam(case: Case, group: Group) -> Image:
    """All volumes of the group. In training a broken one is to be mended or taken away by hand, not passed over."""
    first, *unplaced = group.parts()
    if not isinstance(first, Volumes) or unplaced:
        raise InputError(
            f"{case.image.name}: found {len(group.roles.get(UNPLACED, ()))} images that cannot be read and may belong "
            "to any volume; mend them or take them away",
            Reason.UNREADABLE_HEADER,
        )
    exam = read_exam(first)
    if exam.image is None or exam.lost:
        raise exam.lost[0][1]
    return exam.image


def _selected(case: Case, index: Index, recipe: Recipe) -> Group:
    selection = recipe.select(index.series, None) if index.series else None
    if selection is not None and selection.group is not None:
        return selection.group
    left_out = [why for _, why in selection.rejected] if selection else []
    broken = (file.reason for file in index.files.values() if file.reason is not None)
    reason = next(broken, None) or next(iter(left_out), Reason.NO_PACKAGE)
    raise InputError(f"{case.image.name} cannot be used: {reason.meaning}", reason)


def _box(organ: Path, image: Image) -> Box:
    """The box around an organ's mask. Raises InputError for an empty mask."""
    inside = read_mask(organ, image).nonzero()
    if not len(inside[0]):
        raise InputError(f"organ {organ.name}: its mask is empty; allowed is one with the organ", Reason.CONFIG_INVALID)
    return Box(low=tuple(int(axis.min()) for axis in inside), high=tuple(int(axis.max()) + 1 for axis in inside))
