"""CMMD (Cui et al., TCIA 2021; Chinese Mammography Database): biopsied breasts, a class for each, no place of lesions.

Read are CMMD_clinicaldata_revision.csv, the published spreadsheet saved so (ID1, LeftRight, classification), and below
CMMD (or manifest-*/CMMD) D1-0001/.../1-1.dcm; the folders in between and the names of files are not looked at. Which
breast a file shows is in its header. A breast without a line (the other one of many patients) is dropped: nothing says
that it is normal. Scanners are not told apart: one site.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from imaging.data.public.films import files_below, find_collection, read_film
from imaging.data.public.frames import Collection, Dropped, PublicFrame, no_layout, read_choice, read_lines, worst
from imaging.errors import InputError

NAME: Final = "cmmd"
TOP: Final = "CMMD"
TABLE: Final = "CMMD_clinicaldata_revision.csv"
CLASSES: Final = {"benign": "benign", "malignant": "malignant"}
_SIDES: Final = {"l": "L", "r": "R"}
_COLUMNS: Final = ("ID1", "LeftRight", "classification")


def read(folder: Path) -> Collection:
    """The frames of a folder. Raises ConfigError for another layout."""
    top = find_collection(folder, TOP)
    if top is None or not (folder / TABLE).is_file():
        raise no_layout(NAME, folder, f"{TABLE} (the spreadsheet saved as CSV in UTF-8) and {TOP}/D1-0001/")
    classes = _classes(folder / TABLE)
    patients = sorted({path.name for path in top.iterdir() if path.is_dir()} | set(classes))
    found = [one for patient in patients for one in _patient(top / patient, classes.get(patient, {}))]
    return Collection.of(found)


def _classes(table: Path) -> dict[str, dict[str, str]]:
    """Patient → side → class, the worst where a breast has two lines."""
    classes: dict[str, dict[str, str]] = defaultdict(dict)
    for number, line in read_lines(table, _COLUMNS):
        where = f"set {NAME}, {TABLE}, line {number}"
        side = read_choice(where, "LeftRight", line["LeftRight"], _SIDES)
        label, breasts = read_choice(where, "classification", line["classification"], CLASSES), classes[line["ID1"]]
        breasts[side] = worst([label, breasts.get(side, label)])
    return classes


def _patient(folder: Path, classes: dict[str, str]) -> list[PublicFrame | Dropped]:
    files = files_below(folder)
    if not files:
        return [Dropped(folder, worst(classes.values()) if classes else "", "no DICOM file of this patient")]
    return [_frame(path, f"{folder.name}_{number:02d}", folder.name, classes) for number, path in enumerate(files, 1)]


def _frame(path: Path, name: str, patient: str, classes: dict[str, str]) -> PublicFrame | Dropped:
    try:
        projection = read_film(path).projection
    except InputError as error:
        return Dropped(path, "", str(error))
    view = projection.view if projection else None
    if view is None:
        return Dropped(path, "", "the header does not say which view of which breast this is")
    if view.laterality not in classes:
        return Dropped(path, "", f"no line of {TABLE} for breast {view.laterality} of {patient}")
    label = classes[view.laterality]
    return PublicFrame(f"{NAME}_{name}", f"{NAME}-{patient}", NAME, path, label=label, has_truth=False)
