"""Exams of several volumes: what a public set says of one, and how it becomes a case of the manifest.

A truth is checked as training will check it: on the voxels of the key volume, with no value that is not named. It is
referred to where it stands as it should be, else written anew on the key volume's grid.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import nibabel
import numpy as np

from imaging.data.images import read_image
from imaging.data.manifest import Case
from imaging.data.public.frames import Dropped, PublicExam, split_of
from imaging.data.truth import Rules, read_truth
from imaging.errors import GeometryError, ImagingError, InputError, Reason
from imaging.image import Array, Grid, Image

KEY: Final = "T2W"
ADC: Final = "ADC"
HIGH_B: Final = "high b"
# Values of zones in a written truth, as `imaging phantoms prostate` has them too.
PERIPHERAL, TRANSITION = 1, 2
POINTS: Final = Path("truth") / "points.csv"


def write_exam(out: Path, exam: PublicExam) -> Case | Dropped:
    """The case of an exam, with what it needs written below `out`; or why the exam is left out.

    An exam of which the set says that something is there, while nothing is drawn, has no truth: its places are unknown.
    """
    try:
        volumes = _written_parts(out, exam) if exam.parts else {KEY: exam.image, **exam.beside}
        truth = _truth(out, exam, volumes[KEY])
    except ImagingError as error:
        return Dropped(exam.image, exam.label, str(error))
    if truth is None and not exam.label:
        return Dropped(exam.image, exam.label, "neither a truth nor a class is published")
    beside = {role: path for role, path in volumes.items() if role != KEY}
    place = (exam.case_id, exam.patient_id, exam.site, split_of(exam))
    return Case(*place, volumes[KEY], truth, exam.label, beside=beside, organ=exam.organ)


def write_points(out: Path, exams: Sequence[PublicExam]) -> None:
    """`out`/truth/points.csv of the exams whose truths are points, a line each; `image` is the case's id."""
    lines = [{"image": exam.case_id, **point} for exam in exams for point in exam.points]
    if not lines:
        return
    with (out / POINTS).open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)


def _written_parts(out: Path, exam: PublicExam) -> dict[str, Path]:
    """A 4-D NIfTI as one file per volume, voxels and header kept. Raises InputError for another number of volumes."""
    try:
        stored = nibabel.load(exam.image)
        values = np.asarray(stored.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, EOFError) as error:
        raise InputError(f"image {exam.image.name}: cannot be read as NIfTI", Reason.DECODE_FAILED) from error
    if values.ndim != 4 or values.shape[3] != len(exam.parts):
        raise InputError(
            f"image {exam.image.name}: found {values.shape}; allowed are 4 axes, the last of {len(exam.parts)} volumes "
            f"({', '.join(exam.parts)})",
            Reason.UNSUPPORTED_PIXELS,
        )
    paths = {role: out / "images" / f"{exam.case_id}_{role.lower()}.nii.gz" for role in exam.parts}
    for number, path in enumerate(paths.values()):
        path.parent.mkdir(exist_ok=True)
        header = stored.header.copy()
        header.set_data_dtype(values.dtype)
        nibabel.save(nibabel.Nifti1Image(values[..., number], None, header), path)
    return paths


def _truth(out: Path, exam: PublicExam, path: Path) -> Path | None:
    """The truth file; None where nothing is known of places."""
    if exam.points:
        return out / POINTS
    if exam.truth is None and exam.positive is not False:
        return None
    image = read_image(path)
    found, is_plain = _drawn(exam, image)
    if exam.truth is not None and exam.positive is False and found.any():
        raise InputError(
            f"truth {exam.truth.name}: {np.count_nonzero(found)} voxels are drawn of an exam that is said to have none",
            Reason.CONFIG_INVALID,
        )
    if exam.positive and not found.any():
        return None
    if exam.truth is not None and is_plain:
        return exam.truth
    written = out / "truth" / f"{exam.case_id}.nii.gz"
    write_labels(written, found, image.grid)
    return written


def _drawn(exam: PublicExam, image: Image) -> tuple[Array, bool]:
    """The truth's values on the grid of the image, and whether those of the file are the same there."""
    if exam.truth is None:
        return np.zeros(image.grid.shape, dtype=np.uint8), False
    rules = Rules({old: str(new) for old, new in exam.values.items()}, ignore=frozenset({"0"}))
    labels = [str(new) for new in range(1, max(exam.values.values()) + 1)]
    try:
        found = read_truth(exam.truth, image, rules)
    except GeometryError:
        if not exam.is_resampled:
            raise
        return read_truth(exam.truth, image, replace(rules, is_resampled=True)).label_map(labels), False
    is_kept = all(old == new or not found.mask(str(new)).any() for old, new in exam.values.items())
    return found.label_map(labels), is_kept and not found.ignore.any()


def write_labels(path: Path, values: Array, grid: Grid) -> None:
    """Labels (slice, row, column) up to 255 as NIfTI on a grid in `patient_ras`."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T, dtype=np.uint8), grid.affine[:, [2, 1, 0, 3]])
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
