"""BUSI (Al-Dhabyani et al., Data in Brief 2020): Dataset_BUSI_with_GT/CLASS/CLASS (N).png with CLASS (N)_mask*.png.

The set names no patients, and of its 780 pictures 182 are further copies of others, some in two classes or with masks
that contradict each other. Copies are found in the pictures and become one group, of which the largest stays.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

from imaging.data.duplicates import find_duplicates
from imaging.data.manifest import Case
from imaging.data.public.frames import CURATED, Collection, Dropped, PublicFrame, no_layout, picture_size, read_curated
from imaging.data.public.truths import overlap, read_union
from imaging.errors import GeometryError

NAME: Final = "busi"
TOP: Final = "Dataset_BUSI_with_GT"
CLASSES: Final = ("benign", "malignant", "normal")
# Masks of one frame whose Dice is lower contradict each other.
LEAST_OVERLAP: Final = 0.5
_IMAGE = re.compile(r"(\w+) \((\d+)\)\.png")


def read(folder: Path) -> Collection:
    """The frames of a folder. Raises ConfigError for another layout, InputError for a file that is no picture."""
    if (folder / CURATED).is_file():
        return read_curated(folder, NAME)
    top = folder / TOP if (folder / TOP).is_dir() else folder
    found = [frame for label in CLASSES for frame in _class(top / label, label)]
    if not found:
        raise no_layout(
            NAME, folder, f"{TOP}/{{{','.join(CLASSES)}}}/CLASS (N).png and CLASS (N)_mask.png, or a curated {CURATED}"
        )
    return _without_copies(found)


def _class(folder: Path, label: str) -> list[PublicFrame]:
    if not folder.is_dir():
        return []
    numbered = [(int(match[2]), path) for path in folder.glob("*.png") if (match := _IMAGE.fullmatch(path.name))]
    frames = []
    for number, path in sorted(numbered):
        masks = tuple(sorted(folder.glob(f"{path.stem}_mask*.png")))
        case_id = f"{NAME}_{label}_{number:04d}"
        frames.append(PublicFrame(case_id, case_id, NAME, path, masks, label))
    return frames


def _without_copies(frames: list[PublicFrame]) -> Collection:
    """One frame of each group of copies; none of a group that stands in two classes or whose masks contradict."""
    faults = {frame.case_id: _fault(frame) for frame in frames}
    dropped = [Dropped(f.image, f.label, faults[f.case_id]) for f in frames if faults[f.case_id]]
    kept: list[PublicFrame] = []
    for group in groups_of_copies([frame for frame in frames if not faults[frame.case_id]]):
        best, reason = max(group, key=_pixels), _contradiction(group)
        left = group if reason else [frame for frame in group if frame is not best]
        dropped += [Dropped(f.image, f.label, reason or f"copy of {best.image.name}") for f in left]
        kept += [] if reason else [best]
    return Collection(tuple(kept), tuple(dropped))


def _fault(frame: PublicFrame) -> str:
    if not frame.masks and frame.label != "normal":
        return "no mask file"
    try:
        read_union(frame)
    except GeometryError as error:
        return str(error)
    return ""


def groups_of_copies(frames: list[PublicFrame]) -> list[list[PublicFrame]]:
    """The frames joined by being pictures of one scene, in the order of their first frames."""
    cases = [Case(f.case_id, f.case_id, f.site, "train", f.image, f.image) for f in frames]
    parent = {frame.case_id: frame.case_id for frame in frames}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for pair in find_duplicates(cases):
        ends = sorted((root(pair.first.case_id), root(pair.second.case_id)))
        parent[ends[1]] = ends[0]
    joined: dict[str, list[PublicFrame]] = defaultdict(list)
    for frame in frames:
        joined[root(frame.case_id)].append(frame)
    return list(joined.values())


def _contradiction(group: list[PublicFrame]) -> str:
    if len(labels := sorted({frame.label for frame in group})) > 1:
        return f"same frame in {len(labels)} classes: {', '.join(labels)}"
    masks = [read_union(frame) for frame in group] if len(group) > 1 else []
    least = min((overlap(a, b) for n, a in enumerate(masks) for b in masks[n + 1 :]), default=1.0)
    return f"masks of one frame contradict each other: Dice {least:.2f}" if least < LEAST_OVERLAP else ""


def _pixels(frame: PublicFrame) -> int:
    rows, columns = picture_size(frame.image)
    return rows * columns
