"""What every public set comes down to: frames or exams with a group, a class and a truth. Tables and splitting."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from PIL import Image as Picture

from imaging.data.manifest import Split
from imaging.data.public.lesions import Corner, Lesions
from imaging.errors import ConfigError, InputError, Reason
from imaging.table import read_table, tell

Line = dict[str, str]
CURATED: Final = "manifest.csv"
SEVERITY: Final = ("normal", "benign", "malignant")
_TEST, _VAL = 0.2, 0.12
_NAMED: Final = 8  # entries of a folder that an error names


@dataclass(frozen=True, slots=True)
class PublicFrame:
    """One picture of a set. `group_id` joins the pictures of one patient or lesion and decides the split.

    `masks` are files of which the truth is the union, none where nothing is there; with `is_outlined` they hold closed
    curves, and the truth is what these enclose. With `lesions` these are the truth instead, each with its number, and
    without `has_truth` only the class is known. `label` is empty where the set has no classes; `spacing_mm` is (row
    step, column step). `published` is the side that the set itself gives the frame, empty where it publishes none.
    """

    case_id: str
    group_id: str
    site: str
    image: Path
    masks: tuple[Path, ...] = ()
    label: str = ""
    spacing_mm: tuple[float, float] | None = None
    is_outlined: bool = False
    lesions: Lesions | None = None
    has_truth: bool = True
    published: Literal["", "train", "test"] = ""


@dataclass(frozen=True, slots=True)
class PublicExam:
    """One exam of a set. `image` is its axial T2W, or the folder of its DICOM study; `beside` the others by role.

    `parts` names the volumes along the last axis of a 4-D `image` instead. `truth` is a label map, None where nothing
    is known of places; `values` says what each of its values but 0 becomes in the manifest's truth (0: no part of it),
    and `is_resampled` that it may lie on another grid than the T2W. `points` is a truth as a table. `positive` is what
    the set says elsewhere, None where it says nothing: True demands that something is drawn, False that nothing is, and
    without a `truth` stands for an empty one. `published` is the side that the set itself gives the exam.
    """

    case_id: str
    patient_id: str
    site: str
    image: Path
    beside: Mapping[str, Path] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    truth: Path | None = None
    values: Mapping[int, int] = field(default_factory=lambda: {1: 1})
    is_resampled: bool = False
    points: tuple[Mapping[str, str], ...] = ()
    organ: Path | None = None
    label: str = ""
    positive: bool | None = None
    published: Literal["", Split] = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame or exam that is left out, and why."""

    image: Path
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """The frames of a set, or its exams, and those that were left out."""

    frames: tuple[PublicFrame, ...]
    dropped: tuple[Dropped, ...] = ()
    exams: tuple[PublicExam, ...] = ()

    @classmethod
    def of(cls, found: Sequence[PublicFrame | PublicExam | Dropped]) -> Collection:
        """What was found, in its order."""
        frames = tuple(one for one in found if isinstance(one, PublicFrame))
        exams = tuple(one for one in found if isinstance(one, PublicExam))
        return cls(frames, tuple(one for one in found if isinstance(one, Dropped)), exams)


def read_curated(folder: Path, site: str) -> Collection:
    """The frames of a folder with a manifest.csv: case_id, image, mask, and group_id, subject or patient.

    Columns class and pixel_size_mm are taken where they are; the pixel size must belong to the stored picture, so
    width and height beside it must be the file's. Raises ConfigError.
    """
    table = folder / CURATED
    lines = read_lines(table, ("case_id", "image", "mask"))
    columns = list(lines[0][1])
    group = next((name for name in ("group_id", "subject", "patient") if name in columns), None)
    if group is None:
        raise ConfigError(
            f"{table}: found columns {columns}; allowed is group_id, subject or patient", Reason.CONFIG_INVALID
        )
    frames = []
    for number, line in lines:
        where = f"{table}, line {number}"
        image, spacing = folder / line["image"], None
        if line.get("pixel_size_mm"):
            _refuse_resized(where, image, line)
            step = read_step(where, "pixel_size_mm", line["pixel_size_mm"])
            spacing = (step, step)
        frames.append(
            PublicFrame(
                line["case_id"], line[group], site, image, (folder / line["mask"],), line.get("class", ""), spacing
            )
        )
    return Collection(tuple(frames))


def _refuse_resized(where: str, image: Path, line: Line) -> None:
    stated = (line.get("width", ""), line.get("height", ""))
    found = picture_size(image)
    if any(stated) and stated != (str(found[1]), str(found[0])):
        raise ConfigError(
            f"{where}: width x height is {stated[0]} x {stated[1]}; '{line['image']}' has {found[1]} x {found[0]} "
            "pixels, so pixel_size_mm is not of this picture",
            Reason.CONFIG_INVALID,
        )


def read_lines(path: Path, columns: Sequence[str]) -> list[tuple[int, Line]]:
    """The lines of a CSV (see `read_table`) by their numbers. A value may hold line breaks; its line is the first.

    Raises ConfigError when the file cannot be read, lacks one of the `columns`, or has no line.
    """
    table = read_table(path, str(path), columns)
    tell(table.remarks)
    if not table.lines:
        raise ConfigError(f"{path}: found 0 lines; allowed are one or more", Reason.CONFIG_INVALID)
    return [(line.number, dict(line.cells)) for line in table.lines]


def read_number(where: str, column: str, text: str) -> float:
    """A finite number. Raises ConfigError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where}: {column} is '{text}'; allowed is a number", Reason.CONFIG_INVALID)
    return number


def read_choice(where: str, column: str, text: str, allowed: Mapping[str, str]) -> str:
    """What a value stands for, whatever its case. Raises ConfigError for another than the `allowed` ones."""
    if (found := allowed.get(text.lower())) is None:
        raise ConfigError(f"{where}: {column} is '{text}'; allowed are {', '.join(allowed)}", Reason.CONFIG_INVALID)
    return found


def read_box(where: str, line: Line, columns: Sequence[str]) -> tuple[Corner, Corner]:
    """The low and the high corner (row, column) of the columns of left, top, right and bottom. Raises ConfigError."""
    left, top, right, bottom = (read_number(where, column, line[column]) for column in columns)
    if not (left < right and top < bottom):
        raise ConfigError(
            f"{where}: {', '.join(columns)} are {left:g}, {top:g}, {right:g}, {bottom:g}; allowed are boxes whose "
            "third and fourth number are above the first and second",
            Reason.CONFIG_INVALID,
        )
    return (top, left), (bottom, right)


def read_step(where: str, column: str, text: str) -> float:
    """A pixel size as the number above 0 that it is; a decimal comma is one. Raises ConfigError."""
    try:
        step = float(text.replace(",", "."))
    except ValueError:
        step = math.nan
    if not (math.isfinite(step) and step > 0):
        raise ConfigError(f"{where}: {column} is '{text}'; allowed is a number above 0", Reason.CONFIG_INVALID)
    return step


def picture_size(path: Path) -> tuple[int, int]:
    """(rows, columns) of a picture, from its header. Raises InputError when it is none."""
    try:
        with Picture.open(path) as picture:
            return picture.height, picture.width
    except OSError as error:
        raise InputError(f"image {path.name}: cannot be read as a picture", Reason.DECODE_FAILED) from error


def no_layout(name: str, folder: Path, looked_for: str) -> ConfigError:
    """The error of a folder that is not laid out as the set is published, with what stands there instead."""
    found = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    told = (
        ", ".join(found[:_NAMED]) + f" and {len(found) - _NAMED} more" * (len(found) > _NAMED) if found else "nothing"
    )
    return ConfigError(f"set {name}, {folder}: looked for {looked_for}; found {told}", Reason.CONFIG_INVALID)


def worst(labels: Iterable[str]) -> str:
    """The gravest of normal, benign and malignant."""
    return max(labels, key=SEVERITY.index)


def assign_splits(frames: Sequence[PublicFrame]) -> dict[str, Split]:
    """Group → split: of each class the groups in order of the SHA-256 of their names, first 20 % test, then 12 % val.

    A group whose frames have several classes counts with its first. Where a set publishes its sides, a group with one
    test frame is test with all of them, no other is, and val is taken from the rest. No random number and no order of
    files enters.
    """
    label_of: dict[str, str] = {}
    for frame in frames:
        label_of.setdefault(frame.group_id, frame.label)
    tested = {frame.group_id for frame in frames if frame.published == "test"}
    part = 0.0 if any(frame.published for frame in frames) else _TEST
    members: dict[str, list[str]] = defaultdict(list)
    for group, label in label_of.items():
        members[label] += [] if group in tested else [group]
    splits: dict[str, Split] = dict.fromkeys(tested, "test")
    for groups in members.values():
        groups.sort(key=lambda group: hashlib.sha256(group.encode()).hexdigest())
        test = round(part * len(groups))
        val = test + round(_VAL * len(groups))
        for place, group in enumerate(groups):
            splits[group] = "test" if place < test else "val" if place < val else "train"
    return splits


def split_of(exam: PublicExam) -> Split:
    """The published side; else by the patient's name alone: of its SHA-256 as a share of 1, below 0.2 test, 0.32 val.

    No other patient enters, so two sets that hold one patient under one name give him one split.
    """
    if exam.published:
        return exam.published
    share = int.from_bytes(hashlib.sha256(exam.patient_id.encode()).digest()[:8]) / 2**64
    return "test" if share < _TEST else "val" if share < _TEST + _VAL else "train"
