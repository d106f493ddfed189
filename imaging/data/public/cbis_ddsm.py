"""CBIS-DDSM (Lee et al., Scientific Data 2017; TCIA): films as DICOM, each lesion with a mask; its own test side.

Read are those of mass_case_description_train_set.csv, ..._test_set.csv and the two of calc_case_description that are
there, and below CBIS-DDSM (or manifest-*/CBIS-DDSM) the folder Mass-Training_P_00001_LEFT_CC of a film and
Mass-Training_P_00001_LEFT_CC_1 of each abnormality, both by the first part of the path in the table. The folders in
between (UIDs, or dates and descriptions) and the names of files (1-1.dcm, 000000.dcm) are not looked at: a folder of an
abnormality holds its mask and a cropped picture, which many lines name the wrong way round. The mask is the one file of
the film's size with two values.

A film with masses and calcifications is published twice, once in each table; here it is one film with all its lesions.
The published sides were drawn for masses and calcifications apart, so some patients stand on both: these are test with
all their films. Every film has a lesion; none is normal. The headers state no pixel size. Scanners are unknown: one
site.

The curated layout is boxes.csv beside the files: file, patient, side (L, R), view, rows, columns, pathology, and x0,
y0, x1, y1 as pixel numbers from 0, both ends included. The side is that of PatientID (Mass-Test_P_00173_LEFT_CC).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from imaging.data.images import read_image
from imaging.data.marks import Mask
from imaging.data.public.films import files_below, find_collection, read_film, size_of
from imaging.data.public.frames import (
    Collection,
    Dropped,
    Line,
    PublicFrame,
    no_layout,
    read_box,
    read_choice,
    read_lines,
    worst,
)
from imaging.data.public.lesions import Lesions, Shape, Size, Window, box
from imaging.dicom.index import read_header
from imaging.errors import ConfigError, GeometryError, InputError, Reason

NAME: Final = "cbis_ddsm"
TOP: Final = "CBIS-DDSM"
TABLES: Final = tuple(
    f"{kind}_case_description_{side}_set.csv" for kind in ("mass", "calc") for side in ("train", "test")
)
BOXES: Final = "boxes.csv"
PATHOLOGY: Final = {"benign": "benign", "benign_without_callback": "benign", "malignant": "malignant"}
_SIDES: Final = {"left": "LEFT", "right": "RIGHT", "l": "LEFT", "r": "RIGHT"}
_VIEWS: Final = {"cc": "CC", "mlo": "MLO"}
_PATHS: Final = ("image file path", "ROI mask file path")
_COLUMNS: Final = ("patient_id", "left or right breast", "image view", "pathology", *_PATHS)
_CORNERS: Final = ("x0", "y0", "x1", "y1")
_BOX_COLUMNS: Final = ("file", "patient", "side", "view", "rows", "columns", "pathology", *_CORNERS)


@dataclass(frozen=True, slots=True)
class _Lesion:
    """One line of a table: folders of the film and of the abnormality, its class, and the published side."""

    film: str
    folder: str
    label: str
    published: Literal["train", "test"]


def read(folder: Path) -> Collection:
    """The frames of a folder; films without all their files are dropped. Raises ConfigError for another layout."""
    if (folder / BOXES).is_file():
        return _curated(folder)
    tables, top = [name for name in TABLES if (folder / name).is_file()], find_collection(folder, TOP)
    if not tables or top is None:
        raise no_layout(
            NAME, folder, f"{TABLES[0]} (or another of the four tables) and {TOP}/, or a curated {BOXES} of files"
        )
    films: dict[tuple[str, str, str], list[_Lesion]] = defaultdict(list)
    for name in tables:
        for number, line in read_lines(folder / name, _COLUMNS):
            where = f"set {NAME}, {name}, line {number}"
            films[_place(where, line["patient_id"], line["left or right breast"], line["image view"])].append(
                _lesion(where, line, "test" if "_test_" in name else "train")
            )
    found = [_frame(top, *place, lesions) for place, lesions in films.items()]
    return Collection.of(found)


def _place(where: str, patient: str, side: str, view: str) -> tuple[str, str, str]:
    """Patient, LEFT or RIGHT, CC or MLO."""
    if not patient:
        raise ConfigError(f"{where}: the patient is empty; allowed are names like P_00001", Reason.CONFIG_INVALID)
    return patient, read_choice(where, "side", side, _SIDES), read_choice(where, "view", view, _VIEWS)


def _lesion(where: str, line: Line, published: Literal["train", "test"]) -> _Lesion:
    film, folder = (line[column].split("/")[0] for column in _PATHS)
    for column, part in zip(_PATHS, (film, folder), strict=True):
        if part in ("", ".", ".."):
            raise ConfigError(
                f"{where}: {column} is '{line[column]}'; allowed are paths like Mass-Test_P_00001_LEFT_CC/.../1-1.dcm",
                Reason.CONFIG_INVALID,
            )
    return _Lesion(film, folder, read_choice(where, "pathology", line["pathology"], PATHOLOGY), published)


def _frame(top: Path, patient: str, side: str, view: str, lesions: list[_Lesion]) -> PublicFrame | Dropped:
    label = worst(lesion.label for lesion in lesions)
    copies = {lesion.film: files_below(top / lesion.film) for lesion in lesions}
    image = next((files[0] for files in copies.values() if len(files) == 1), None)
    if image is None:
        told = ", ".join(f"{len(files)} in {name}" for name, files in copies.items())
        return Dropped(top / lesions[0].film, label, f"looked for one DICOM file of the film; found {told}")
    try:
        size = size_of(read_film(image))
    except InputError as error:
        return Dropped(image, label, str(error))
    shapes = tuple(partial(_mask, top / lesion.folder) for lesion in lesions)
    published: Literal["train", "test"] = "test" if any(one.published == "test" for one in lesions) else "train"
    case_id, group = f"cbis_{patient}_{side}_{view}", f"cbis-{patient}"
    return PublicFrame(case_id, group, NAME, image, label=label, lesions=Lesions(size, shapes), published=published)


def _mask(folder: Path, size: Size) -> tuple[Window, Mask]:
    """The pixels of one abnormality. Raises InputError unless one file in its folder is a mask of the film's size."""
    found, masks = [], []
    for path in files_below(folder):
        rows, columns = size_of(read_film(path))
        found.append(f"{path.name} of {rows} × {columns}")
        if (rows, columns) == size:
            values = read_image(path).array[0]
            top = values.max()
            if top > 0 and bool(((values == 0) | (values == top)).all()):
                masks.append(values > 0)
    if len(masks) != 1:
        raise InputError(
            f"{folder.name}: looked for one mask of the film's {size[0]} × {size[1]} pixels with two values; found "
            f"{len(masks)} among {', '.join(found) or 'no files'}",
            Reason.GEOMETRY,
        )
    return (slice(None), slice(None)), masks[0]


def _curated(folder: Path) -> Collection:
    lines: dict[str, list[tuple[str, Line]]] = defaultdict(list)
    for number, line in read_lines(folder / BOXES, _BOX_COLUMNS):
        lines[line["file"]].append((f"set {NAME}, {BOXES}, line {number}", line))
    return Collection(tuple(_boxed(folder / name, found) for name, found in lines.items()))


def _boxed(image: Path, lines: list[tuple[str, Line]]) -> PublicFrame:
    where, first = lines[0]
    patient, side, view = _place(where, first["patient"], first["side"], first["view"])
    size = size_of(read_film(image))
    for where, line in lines:
        if (line["rows"], line["columns"]) != (str(size[0]), str(size[1])):
            raise GeometryError(
                f"{where}: rows and columns are {line['rows']} and {line['columns']}; {image.name} has {size[0]} and "
                f"{size[1]}",
                Reason.GEOMETRY,
            )
    is_test = "-Test_" in str(read_header(image).get("PatientID") or "")
    label = worst(read_choice(where, "pathology", line["pathology"], PATHOLOGY) for where, line in lines)
    return PublicFrame(
        f"cbis_{patient}_{side}_{view}",
        f"cbis-{patient}",
        NAME,
        image,
        label=label,
        lesions=Lesions(size, tuple(_box(where, line) for where, line in lines)),
        published="test" if is_test else "train",
    )


def _box(where: str, line: Line) -> Shape:
    """Pixel numbers, both ends included, in corner convention."""
    low, (bottom, right) = read_box(where, line, _CORNERS)
    return box(low, (bottom + 1, right + 1))
