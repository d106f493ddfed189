"""All pictures of a benchmark looked at before its first job: which two cases share one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from imaging.benchmark.cohort import SharedPicture
from imaging.data.dataset import first_image
from imaging.data.duplicates import Fingerprint, fingerprint, pair_up, tissue_of
from imaging.data.manifest import Case
from imaging.errors import ImagingError
from imaging.harmonise.recipe import Recipe


class Seen(NamedTuple):
    """Pairs with one picture, and a line on each case that could not be read, of which nobody knows."""

    shared: list[SharedPicture]
    unread: list[str]


def look_at(cases: Sequence[Case], recipe: Recipe) -> Seen:
    """Compares what the recipe takes from each image: of a volume all voxels, and its middle slice by likeness."""
    read: list[tuple[Case, Fingerprint]] = []
    unread: list[str] = []
    for case in cases:
        try:
            image = first_image(case, recipe)
            read.append((case, fingerprint(image if image.grid.is_volume else tissue_of(image, recipe))))
        except ImagingError as error:
            unread.append(f"case '{case.case_id}' of site '{case.site}' cannot be read: {error}")
    pairs = pair_up([case for case, _ in read], [known for _, known in read])
    return Seen([SharedPicture(pair.kind, pair.first.case_id, pair.second.case_id) for pair in pairs], unread)
