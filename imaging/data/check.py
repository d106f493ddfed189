"""Cases → what is wrong with them before anyone trains: files, geometry, labels, values, duplicates.

Every case is looked at, and one that cannot be read costs no other. DICOM is read as a training would read it, by the
recipe of its modality. What is not looked into (a study folder that no modality, or more than one, reads) is said, and
counts as no problem and as no proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from imaging.data.dataset import first_image
from imaging.data.duplicates import Duplicate, Fingerprint, fingerprint, of_tissue, pair_up
from imaging.data.images import describe, read_image
from imaging.data.manifest import Case
from imaging.data.truth import read_values
from imaging.errors import ImagingError, Reason
from imaging.harmonise.recipe import Recipe
from imaging.image import Array, Image

RecipeOf = Callable[[Case], Recipe | None]
_MOST_MARKED: Final = 0.5


@dataclass(frozen=True, eq=False)
class Checked:
    """One case as it was found.

    `grid` is the image's in words and `values` its range; `labels` are the values of the truth with their voxels, and
    `marked` their share of the image. `problem` is why the case cannot be used, `unread` why it was not looked into;
    empty where nothing is the matter. `is_volume` says that its likeness to others is that of one slice. `shown` is
    (row, column), the middle slice of a volume; None where nothing was read.
    """

    case: Case
    grid: str = ""
    values: tuple[float, float] | None = None
    labels: tuple[tuple[int, int], ...] = ()
    problem: str = ""
    unread: str = ""
    is_volume: bool = False
    shown: Array | None = None
    marked: float = 0.0


# Of volumes one slice is compared, and those of two patients' pelves may be alike: phantoms of one body up to 0.92.
SURE_OF_VOLUMES: Final = 0.95


@dataclass(frozen=True)
class Survey:
    """All cases, and every pair of them with one picture."""

    cases: tuple[Checked, ...]
    duplicates: tuple[Duplicate, ...]

    @property
    def problems(self) -> list[str]:
        """What forbids a training: cases that cannot be used, and pictures across patients or splits."""
        told = [f"case '{case.case.case_id}': {case.problem}" for case in self.cases if case.problem]
        return told + [str(pair) for pair in self._torn if self._is_sure(pair)]

    @property
    def doubts(self) -> list[str]:
        """What forbids nothing and is seldom meant: volumes that look alike in a slice, truths that mark most."""
        alike = [f"{pair} (likeness {pair.likeness:.2f})" for pair in self._torn if not self._is_sure(pair)]
        return alike + [
            f"case '{case.case.case_id}': its truth marks {case.marked:.0%} of the image; is it inverted?"
            for case in self.cases
            if case.marked > _MOST_MARKED
        ]

    @property
    def _torn(self) -> list[Duplicate]:
        return [pair for pair in self.duplicates if {"patients", "splits"} & set(pair.across)]

    def _is_sure(self, pair: Duplicate) -> bool:
        volumes = {case.case.case_id for case in self.cases if case.is_volume}
        return pair.likeness >= SURE_OF_VOLUMES or pair.first.case_id not in volumes


def survey(cases: Sequence[Case], recipe_of: RecipeOf, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Each case looked at, DICOM by the recipe that `recipe_of` gives. `progress` is called with (done, of)."""
    checked: list[Checked] = []
    read: list[tuple[Case, Fingerprint]] = []
    for number, case in enumerate(cases, start=1):
        found, known = _checked(case, recipe_of)
        checked.append(found)
        if known is not None:
            read.append((case, known))
        if progress is not None:
            progress(number, len(cases))
    return Survey(tuple(checked), tuple(pair_up([case for case, _ in read], [known for _, known in read])))


def _checked(case: Case, recipe_of: RecipeOf) -> tuple[Checked, Fingerprint | None]:
    recipe = None
    try:
        recipe = recipe_of(case)
        image = read_image(case.image, case.site, case.spacing_mm) if recipe is None else first_image(case, recipe)
        seen = image if recipe is None else of_tissue(image, recipe)
    except ImagingError as error:
        if recipe is None and case.image.is_dir() and error.reason is Reason.NOT_AN_IMAGE:
            return Checked(case, unread=str(error)), None
        return Checked(case, problem=str(error)), None
    grid, values = describe(image.source_grid), (float(image.array.min()), float(image.array.max()))
    shown, problem = _shown(image), ""
    labels: tuple[tuple[int, int], ...] = ()
    try:
        if values[0] == values[1]:
            problem = f"image {case.image.name}: every pixel is {values[0]:g}, so it shows nothing"
        elif case.truth is not None:
            labels = _labels(case, image)
    except ImagingError as error:
        problem = str(error)
    marked = sum(count for _, count in labels) / image.array[0].size
    is_volume = image.grid.is_volume
    return Checked(case, grid, values, labels, problem, "", is_volume, shown, marked), fingerprint(seen)


def _labels(case: Case, image: Image) -> tuple[tuple[int, int], ...]:
    """Each value of the truth but 0, with its voxels."""
    found, counts = np.unique(read_values(case.known_truth, image), return_counts=True)
    return tuple((int(value), int(n)) for value, n in zip(found, counts, strict=True) if value)


def _shown(image: Image) -> Array:
    plane: Array = image.array[0]
    return np.asarray(plane[len(plane) // 2] if plane.ndim == 3 else plane)
