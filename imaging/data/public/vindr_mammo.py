"""VinDr-Mammo (Nguyen et al., Scientific Data 2023; PhysioNet): four DICOM views an exam, boxes, its own test side.

Read are breast-level_annotations.csv (a line for each image), finding_annotations.csv (a line for each box, and one
without corners where an image has no finding) and images/STUDY/IMAGE.dicom. Corners are decimal numbers of pixels from
the upper left; they are taken in corner convention, the first pixel spanning 0 to 1, which the set does not say. All
published categories are lesions, those of skin, nipple and lymph nodes too.

There is no pathology, only a reader's BI-RADS: the class is birads-N, the highest N of the findings that have one, and
without such a finding that of the breast. A study is the patient: the set names none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Final, Literal

from imaging.data.public.films import read_film, size_of
from imaging.data.public.frames import (
    Collection,
    Dropped,
    Line,
    PublicFrame,
    no_layout,
    read_box,
    read_choice,
    read_lines,
)
from imaging.data.public.lesions import Lesions, Shape, box
from imaging.errors import ConfigError, InputError, Reason

NAME: Final = "vindr_mammo"
BREASTS: Final = "breast-level_annotations.csv"
FINDINGS: Final = "finding_annotations.csv"
PICTURES: Final = "images"
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")
_BREAST_COLUMNS: Final = ("study_id", "image_id", "height", "width", "breast_birads", "split")
_FINDING_COLUMNS: Final = ("image_id", "finding_categories", "finding_birads", *_CORNERS)
_NOTHING: Final = "No Finding"
_BIRADS: Final = re.compile(r"BI-RADS ([1-5])")


def read(folder: Path) -> Collection:
    """The frames of a folder; images that cannot be read are dropped. Raises ConfigError for another layout."""
    if not all((folder / name).is_file() for name in (BREASTS, FINDINGS)) or not (folder / PICTURES).is_dir():
        raise no_layout(NAME, folder, f"{BREASTS}, {FINDINGS} and {PICTURES}/STUDY/IMAGE.dicom")
    breasts = read_lines(folder / BREASTS, _BREAST_COLUMNS)
    findings = _findings(folder, {line["image_id"] for _, line in breasts})
    found = [
        _frame(folder, f"set {NAME}, {BREASTS}, line {number}", line, findings[line["image_id"]])
        for number, line in breasts
    ]
    return Collection.of(found)


def _findings(folder: Path, images: set[str]) -> dict[str, list[tuple[Shape, int]]]:
    """Image → its boxes, each with its BI-RADS, 0 where it has none."""
    findings: dict[str, list[tuple[Shape, int]]] = defaultdict(list)
    for number, line in read_lines(folder / FINDINGS, _FINDING_COLUMNS):
        where = f"set {NAME}, {FINDINGS}, line {number}"
        if line["image_id"] not in images:
            raise ConfigError(
                f"{where}: image_id is '{line['image_id']}'; allowed are those of {BREASTS}", Reason.CONFIG_INVALID
            )
        # A list as Python writes it: ['Mass', 'Skin Retraction'].
        if re.findall(r"'([^']*)'", line["finding_categories"]) == [_NOTHING]:
            continue
        birads = _birads(where, "finding_birads", line["finding_birads"]) if line["finding_birads"] else 0
        findings[line["image_id"]].append((box(*read_box(where, line, _CORNERS)), birads))
    return findings


def _frame(folder: Path, where: str, line: Line, findings: list[tuple[Shape, int]]) -> PublicFrame | Dropped:
    published: Literal["train", "test"] = "test" if _is_test(where, line) else "train"
    of_breast = _birads(where, "breast_birads", line["breast_birads"])
    label = f"birads-{max((birads for _, birads in findings), default=0) or of_breast}"
    image = folder / PICTURES / line["study_id"] / f"{line['image_id']}.dicom"
    try:
        size = size_of(read_film(image))
    except InputError as error:
        return Dropped(image, label, str(error))
    if (line["height"], line["width"]) != (str(size[0]), str(size[1])):
        stated = f"height and width are {line['height']} and {line['width']} in {BREASTS}"
        return Dropped(image, label, f"{stated}; the file has {size[0]} and {size[1]}, so boxes are of another picture")
    lesions, group = Lesions(size, tuple(shape for shape, _ in findings)), f"vindr-{line['study_id']}"
    return PublicFrame(f"vindr_{image.stem}", group, NAME, image, label=label, lesions=lesions, published=published)


def _is_test(where: str, line: Line) -> bool:
    return read_choice(where, "split", line["split"], {"training": "train", "test": "test"}) == "test"


def _birads(where: str, column: str, text: str) -> int:
    match = _BIRADS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{where}: {column} is '{text}'; allowed are BI-RADS 1 to BI-RADS 5", Reason.CONFIG_INVALID)
    return int(match[1])
