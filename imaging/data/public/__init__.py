"""Public data sets in their published layout → a manifest with truth masks, one split per group.

    prepare("busi", Path("downloads/busi"), Path("work/busi"))     # work/busi/manifest.csv

Each set has a module, which says what layout it reads, curated ones included. Nothing is downloaded, and nothing is
written into the set's folder.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Picture

from imaging.data.manifest import Case, Split, read_manifest, write_manifest
from imaging.data.public import (
    brest,
    bus_bra,
    bus_uclm,
    busi,
    cbis_ddsm,
    cmmd,
    hc18,
    inbreast,
    mini_mias,
    msd_prostate,
    picai,
    promise12,
    prostate158,
    prostatex,
    rsna,
    vindr_mammo,
)
from imaging.data.public.exams import write_exam, write_points
from imaging.data.public.frames import Collection, Dropped, PublicFrame, assign_splits
from imaging.data.public.truths import is_plain, read_union
from imaging.errors import ConfigError, GeometryError, InputError, OutputError, Reason

_FRAMES = (brest, bus_bra, bus_uclm, busi, cbis_ddsm, cmmd, hc18, inbreast, mini_mias, rsna, vindr_mammo)
_EXAMS = (msd_prostate, picai, promise12, prostate158, prostatex)
ADAPTERS: Final[dict[str, Callable[[Path], Collection]]] = {one.NAME: one.read for one in (*_FRAMES, *_EXAMS)} | {
    f"{bus_uclm.NAME}_unmarked": bus_uclm.read_unmarked,
    f"{mini_mias.NAME}_mass": mini_mias.read_masses,
    f"{picai.NAME}_zones": picai.read_zones,
    f"{prostate158.NAME}_zones": prostate158.read_zones,
}
"""How the folder of each set is read, by the set's name."""


def prepare(name: str, folder: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write `out`/manifest.csv of the set in `folder` and return its path.

    Truths that are no plain mask file are written to `out`/truth as PNG of the picture's size: of 0 and 255 (unions,
    filled outlines, nothing there), or of 0 and the numbers of lesions (boxes, circles, outlines and masks of each).
    Of exams of several volumes truths are NIfTI, or `out`/truth/points.csv, and volumes that share a file are parted
    into `out`/images. A set that says of an image only its class has no truth. All other files are named by their
    absolute paths. `out`/dropped.csv lists each frame or exam that was left out, and why. The same folder gives the
    same files. `progress` is called with (done, of) after each case.

    Raises ConfigError for an unknown set, another layout than the published or the curated one, a set of which nothing
    is left, and an `out` inside `folder`; InputError for a picture that cannot be read; OutputError when `out` cannot
    be written.
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
        kept, dropped = (_write_exams if found.exams else _write_frames)(out, found, progress)
        manifest = out / "manifest.csv"
        write_manifest(manifest, kept)
        _write_dropped(out / "dropped.csv", (*found.dropped, *dropped), folder)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error
    if not kept:
        raise ConfigError(
            f"set {name}, {folder}: every frame was left out, {out / 'dropped.csv'} says why", Reason.CONFIG_INVALID
        )
    read_manifest(manifest)  # what was written must pass the check that training makes
    return manifest


def _write_frames(
    out: Path, found: Collection, progress: Callable[[int, int], None] | None
) -> tuple[list[Case], list[Dropped]]:
    truths, undrawn = _write_truths(out, found.frames, progress)
    kept = [frame for frame in found.frames if frame.case_id in truths]
    splits = assign_splits(kept)
    return [_case(frame, splits[frame.group_id], truths[frame.case_id]) for frame in kept], undrawn


def _write_exams(
    out: Path, found: Collection, progress: Callable[[int, int], None] | None
) -> tuple[list[Case], list[Dropped]]:
    write_points(out, found.exams)
    made = []
    for number, exam in enumerate(found.exams, start=1):
        made.append(write_exam(out, exam))
        if progress is not None:
            progress(number, len(found.exams))
    return [one for one in made if isinstance(one, Case)], [one for one in made if isinstance(one, Dropped)]


def _write_truths(
    out: Path, frames: Sequence[PublicFrame], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, Path | None], list[Dropped]]:
    """The truth of each frame by its case, and the frames whose lesions cannot be drawn."""
    truths: dict[str, Path | None] = {}
    undrawn = []
    for number, frame in enumerate(frames, start=1):
        try:
            truths[frame.case_id] = _truth(out, frame)
        except (InputError, GeometryError) as error:
            if frame.lesions is None:
                raise
            undrawn.append(Dropped(frame.image, frame.label, str(error)))
        if progress is not None:
            progress(number, len(frames))
    return truths, undrawn


def _truth(out: Path, frame: PublicFrame) -> Path | None:
    """The frame's truth file: the set's own mask, or one in `out`; films of one size share that of nothing."""
    if not frame.has_truth:
        return None
    if frame.lesions is None and is_plain(frame):
        return frame.masks[0]
    path = out / "truth" / f"{frame.case_id}.png"
    if frame.lesions is None:
        Picture.fromarray(read_union(frame).astype(np.uint8) * np.uint8(255)).save(path)
        return path
    if not frame.lesions.shapes:
        path = out / "truth" / "nothing_{}x{}.png".format(*frame.lesions.size)
        if path.is_file():
            return path
    beside = path.with_suffix(".part")
    Picture.fromarray(frame.lesions.draw()).save(beside, format="PNG")
    beside.replace(path)
    return path


def _case(frame: PublicFrame, split: Split, truth: Path | None) -> Case:
    place = (frame.case_id, frame.group_id, frame.site, split)
    return Case(*place, frame.image, truth, frame.label, frame.spacing_mm)


def _write_dropped(path: Path, dropped: Sequence[Dropped], folder: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "label", "reason"))
        writer.writerows((str(one.image.relative_to(folder)), one.label, one.reason) for one in dropped)
