"""RSNA Screening Mammography (Kaggle 2023): train.csv and train_images/PATIENT/IMAGE.dcm; a class for each breast.

No place of any lesion is published, so the frames have no truth. `cancer` is of the breast: every view of a breast with
cancer says malignant, seen on it or not. Of the others nothing but that is known: their class is no-cancer, which may
be normal or benign. site_id is the site: rsna-1 and rsna-2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imaging.data.public.frames import Collection, Dropped, Line, PublicFrame, no_layout, read_choice, read_lines
from imaging.errors import ConfigError, Reason

NAME: Final = "rsna"
TABLE: Final = "train.csv"
PICTURES: Final = "train_images"
CANCER: Final = {"0": "no-cancer", "1": "malignant"}
_NAMES: Final = ("site_id", "patient_id", "image_id")


def read(folder: Path) -> Collection:
    """The frames of a folder; images that are not there are dropped. Raises ConfigError for another layout."""
    if not (folder / TABLE).is_file() or not (folder / PICTURES).is_dir():
        raise no_layout(NAME, folder, f"{TABLE} and {PICTURES}/PATIENT/IMAGE.dcm")
    lines = read_lines(folder / TABLE, (*_NAMES, "cancer"))
    found = [_frame(folder, f"set {NAME}, {TABLE}, line {number}", line) for number, line in lines]
    missing = [frame for frame in found if not frame.image.is_file()]
    return Collection(
        tuple(frame for frame in found if frame.image.is_file()),
        tuple(Dropped(frame.image, frame.label, f"{frame.image.name}: there is no such file") for frame in missing),
    )


def _frame(folder: Path, where: str, line: Line) -> PublicFrame:
    label = read_choice(where, "cancer", line["cancer"], CANCER)
    for column in _NAMES:
        if not line[column].isdecimal():
            raise ConfigError(f"{where}: {column} is '{line[column]}'; allowed is a number", Reason.CONFIG_INVALID)
    site, patient, image = (line[column] for column in _NAMES)
    path = folder / PICTURES / patient / f"{image}.dcm"
    return PublicFrame(
        f"{NAME}_{patient}_{image}", f"{NAME}-{patient}", f"{NAME}-{site}", path, label=label, has_truth=False
    )
