"""Public data sets in their published layout → a manifest with truth masks, one split per group.

    prepare("busi", Path("downloads/busi"), Path("work/busi"))     # work/busi/manifest.csv

Each set has a module; all of them take the curated layout too (a manifest.csv with group_id or subject). Nothing is
downloaded, and nothing is written into the set's folder.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Picture

from imaging.data.manifest import COLUMNS, OPTIONAL, read_manifest
from imaging.data.public import brest, bus_bra, busi, hc18
from imaging.data.public.frames import Collection, Dropped, Frame, assign_splits
from imaging.data.public.truths import is_plain, read_union
from imaging.errors import ConfigError, OutputError, Reason

ADAPTERS: Final[dict[str, Callable[[Path], Collection]]] = {one.NAME: one.read for one in (brest, bus_bra, busi, hc18)}
"""How the folder of each set is read, by the set's name."""


def prepare(name: str, folder: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write `out`/manifest.csv of the set in `folder` and return its path.

    Truths that are no plain mask file (unions, filled outlines, nothing there) are written to `out`/truth as PNG of 0
    and 255; all other files are named by their absolute paths. `out`/dropped.csv lists each frame that was left out,
    and why. The same folder gives the same files. `progress` is called with (done, of) after each case.

    Raises ConfigError for an unknown set, another layout than the published or the curated one, and an `out` inside
    `folder`; InputError for a picture that cannot be read; OutputError when `out` cannot be written.
    """
    if name not in ADAPTERS:
        raise ConfigError(f"public set: found '{name}'; allowed are {', '.join(ADAPTERS)}", Reason.CONFIG_INVALID)
    if not folder.is_dir():
        raise ConfigError(f"set {name}, {folder}: there is no such folder", Reason.CONFIG_INVALID)
    folder, out = folder.resolve(), out.resolve()
    if out.is_relative_to(folder):
        raise ConfigError(
            f"set {name}: out is {out}, inside the set's own folder; allowed is a folder elsewhere",
            Reason.CONFIG_INVALID,
        )
    found = ADAPTERS[name](folder)
    try:
        (out / "truth").mkdir(parents=True, exist_ok=True)
        manifest = _write_manifest(out, found.frames, progress)
        _write_dropped(out / "dropped.csv", found.dropped, folder)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error
    read_manifest(manifest)  # what was written must pass the check that training makes
    return manifest


def _write_manifest(out: Path, frames: Sequence[Frame], progress: Callable[[int, int], None] | None) -> Path:
    splits = assign_splits(frames)
    rows = []
    for number, frame in enumerate(frames, start=1):
        truth = _truth(out, frame)
        spacing = "" if frame.spacing_mm is None else "x".join(f"{step:.12g}" for step in frame.spacing_mm)
        place = (frame.case_id, frame.group_id, frame.site, splits[frame.group_id])
        rows.append((*place, str(frame.image), truth, frame.label, spacing))
        if progress is not None:
            progress(number, len(frames))
    manifest = out / "manifest.csv"
    _write_table(manifest, (*COLUMNS, *OPTIONAL), rows)
    return manifest


def _truth(out: Path, frame: Frame) -> str:
    """The frame's mask as the manifest names it."""
    if is_plain(frame):
        return str(frame.masks[0])
    name = f"truth/{frame.case_id}.png"
    Picture.fromarray(read_union(frame).astype(np.uint8) * np.uint8(255)).save(out / name)
    return name


def _write_dropped(path: Path, dropped: Sequence[Dropped], folder: Path) -> None:
    _write_table(
        path, ("image", "label", "reason"), [(str(d.image.relative_to(folder)), d.label, d.reason) for d in dropped]
    )


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
