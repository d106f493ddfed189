"""INbreast (Moreira et al., Academic Radiology 2012): digital views as DICOM, outlines of lesions as XML, BI-RADS.

Read are INbreast.csv (or the spreadsheet saved so; File Name and Bi-Rads), AllDICOMs/ID_HASH_MG_R_CC_ANON.dcm and
AllXML/ID.xml, in the folder or in INbreast Release 1.0/. The hash in the file's name is the patient. An XML is a
property list whose ROIs have a Name and Point_px, texts "(x, y)"; these are taken in corner convention (x to the right
and y down, the first pixel spanning 0 to 1), which the set does not say. Every ROI but the pectoral muscle is a lesion:
a mass and its spiculated region are two, and so is each single calcification; a film with more than 255 is dropped.

The class is birads-N, the letter of 4a, 4b and 4c left out. A film of BI-RADS 1 needs no XML, its truth is empty; any
other without an outline is dropped, because what was seen on it was not drawn.
"""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

from imaging.data.public.films import read_film, size_of
from imaging.data.public.frames import Collection, Dropped, Line, PublicFrame, no_layout, read_lines
from imaging.data.public.lesions import Corner, Lesions, Shape, outline
from imaging.errors import ConfigError, InputError, Reason

NAME: Final = "inbreast"
TOP: Final = "INbreast Release 1.0"
TABLE: Final = "INbreast.csv"
PICTURES: Final = "AllDICOMs"
OUTLINES: Final = "AllXML"
_IMAGE: Final = re.compile(r"(\d+)_([0-9a-z]+)_MG_[LR]_[A-Z]+_ANON")
_BIRADS: Final = re.compile(r"([1-6])[abc]?")
_NUMBER: Final = r"\s*([-+0-9.eE]+)\s*"
_POINT: Final = re.compile(rf"\({_NUMBER},{_NUMBER}\)")
_ELSE: Final = "pectoral muscle"


def read(folder: Path) -> Collection:
    """The frames of a folder; films without their files are dropped. Raises ConfigError for another layout."""
    top = folder / TOP if (folder / TOP).is_dir() else folder
    if not (top / TABLE).is_file() or not all((top / name).is_dir() for name in (PICTURES, OUTLINES)):
        raise no_layout(NAME, top, f"{TABLE} (INbreast.xls saved as CSV in UTF-8), {PICTURES}/ and {OUTLINES}/")
    images: dict[str, list[tuple[str, Path]]] = {}
    for path in sorted((top / PICTURES).glob("*.dcm")):
        if match := _IMAGE.fullmatch(path.stem):
            images.setdefault(match[1], []).append((match[2], path))
    found = []
    for number, line in read_lines(top / TABLE, ("File Name", "Bi-Rads")):
        if line["File Name"]:  # the spreadsheet ends with remarks
            where = f"set {NAME}, {TABLE}, line {number}"
            found.append(_frame(top, where, line, images.get(line["File Name"], [])))
    return Collection.of(found)


def _frame(top: Path, where: str, line: Line, images: list[tuple[str, Path]]) -> PublicFrame | Dropped:
    name, match = line["File Name"], _BIRADS.fullmatch(line["Bi-Rads"].lower())
    if match is None:
        raise ConfigError(
            f"{where}: Bi-Rads is '{line['Bi-Rads']}'; allowed are 1 to 6, 4a, 4b and 4c", Reason.CONFIG_INVALID
        )
    label = f"birads-{match[1]}"
    if len(images) != 1:
        wanted = top / PICTURES / f"{name}_HASH_MG_R_CC_ANON.dcm"
        return Dropped(wanted, label, f"looked for one file of this name; found {len(images)}")
    [(patient, image)] = images
    try:
        shapes = _shapes(top / OUTLINES / f"{name}.xml")
        size = size_of(read_film(image))
    except InputError as error:
        return Dropped(image, label, str(error))
    if not shapes and match[1] != "1":
        return Dropped(image, label, f"BI-RADS {line['Bi-Rads']}, but no outline in {OUTLINES}/{name}.xml")
    lesions = Lesions(size, shapes)
    return PublicFrame(f"{NAME}_{name}", f"{NAME}-{patient}", NAME, image, label=label, lesions=lesions)


def _shapes(path: Path) -> tuple[Shape, ...]:
    """The lesions of an XML; none when there is no such file. Raises InputError for one that cannot be read."""
    if not path.is_file():
        return ()
    try:
        with path.open("rb") as stream:
            told = plistlib.load(stream, fmt=plistlib.FMT_XML)
        regions = [region for image in told["Images"] for region in image["ROIs"]]
        names = [str(region["Name"]).lower() for region in regions]
    except (plistlib.InvalidFileException, ExpatError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path.name}: found no Images with ROIs that have a Name ({type(error).__name__}); allowed is a property "
            "list of them",
            Reason.CONFIG_INVALID,
        ) from error
    lesions = [(n, one) for n, (one, name) in enumerate(zip(regions, names, strict=True), start=1) if name != _ELSE]
    return tuple(outline(_points(f"{path.name}, ROI {n}", one)) for n, one in lesions)


def _points(where: str, region: dict[str, Any]) -> list[Corner]:
    """The outline's (row, column) of the texts "(x, y)"."""
    told = region.get("Point_px") or []
    found = [_POINT.fullmatch(str(text)) for text in told]
    try:
        points = [(float(match[2]), float(match[1])) for match in found if match]
    except ValueError:
        points = []
    if not points or len(points) != len(told):
        shown = ", ".join(map(str, told[:3])) or "nothing"
        raise InputError(f"{where}: Point_px is {shown}; allowed are texts like (12.5, 30)", Reason.CONFIG_INVALID)
    return points
