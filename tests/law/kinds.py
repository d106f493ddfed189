"""The table of kinds of damage that is done to the files that hold the lesion, each random within its kind.

Every kind here can be noticed by an honest reader: something is missing, unreadable, blank, or contradicts the rest of
the study. OUT_OF_SCOPE names what nobody can notice, and why.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from tests.law.exports import Export

Rng = random.Random
Act = Callable[[Export, Rng], Export]

OUT_OF_SCOPE = {
    "healthy pixels painted over the lesion": "a valid image of a healthy organ; no header and no pixel differs",
    "an image taken away of which nothing says that it was there": "a still of a set without count, or one of the "
    "further series of a study; a study with fewer images is as valid",
    "a valid header of another body part, another kind of image or another kind of series": "what an image is meant "
    "to be is what its header says; it is left out with that reason, which the result tells",
    "a smaller tissue region that is valid": "a sonographer may choose what part of a screen is the scan",
    "a part of a picture blank": "shadows, air and masks outside the scan are blank in valid images, too",
}


@dataclass(frozen=True)
class Kind:
    """A kind of damage: its name, the exports that it can be done to (by the start of their names), and the act."""

    name: str
    exports: tuple[str, ...]
    act: Act


KINDS: list[Kind] = []
US, MG, MR, CLASSIC, ENHANCED = "ultrasound", "mammograms", "prostate", "prostate", "prostate Enhanced"
ALL = (US, MG, MR)


def kind(name: str, *exports: str) -> Callable[[Act], Act]:
    """Adds a function to the table. `prostate` means both; `classic` the one of classic images."""

    def add(act: Act) -> Act:
        KINDS.append(Kind(name, exports or ALL, act))
        return act

    return add


def fits(one: Kind, export: str) -> bool:
    if export == "prostate" and "classic" in one.exports:
        return True
    return any(export.startswith(name) for name in one.exports)


def targets(export: Export, rng: Rng) -> tuple[str, ...]:
    """What to damage: all holders of one folder (of one channel of an MR study), or one of them."""
    first = rng.choice(export.holders)
    same = tuple(name for name in export.holders if name.rpartition("/")[0] == first.rpartition("/")[0])
    if export.name == "prostate Enhanced":
        return (first,)
    return same if rng.random() < 0.5 else (first,)


def on_headers(change: Callable[[FileDataset, Rng], None]) -> Act:
    """The act that changes the headers of the targets, all in the same way."""

    def act(export: Export, rng: Rng) -> Export:
        seed = rng.random()
        return export.edited(targets(export, rng), lambda ds: change(ds, Rng(seed)))

    return act


def on_bytes(change: Callable[[bytes, Rng], bytes | None]) -> Act:
    def act(export: Export, rng: Rng) -> Export:
        changes = {name: change(export.files[name], rng) for name in targets(export, rng)}
        return export.with_files(**changes)

    return act


def header(name: str, *exports: str) -> Callable[[Callable[[FileDataset, Rng], None]], Act]:
    return lambda change: kind(name, *exports)(on_headers(change))


def octets(name: str, *exports: str) -> Callable[[Callable[[bytes, Rng], bytes | None]], Act]:
    return lambda change: kind(name, *exports)(on_bytes(change))


def pixels(ds: FileDataset) -> NDArray[np.unsignedinteger]:
    """Frames (frame, row, column) as they are stored."""
    kept = np.uint8 if ds.BitsAllocated == 8 else np.dtype("<u2")
    return np.frombuffer(ds.PixelData, kept).reshape(-1, ds.Rows, ds.Columns).copy()
