"""mini-MIAS (Suckling et al., 1994): 322 films of 161 patients, circles round the lesions, benign or malignant.

Read are Info.txt with lines like `mdb001 G CIRC B 535 425 197` and mdb001.pgm (1024 × 1024 pixels of 0.2 mm), in the
folder or in all-mias/; lines that do not begin with a film's name are remarks. A film has a line for each lesion:
tissue, kind, severity, x, y and radius in pixels, y counted from the bottom. Some have no place, a `*NOTE 3*` instead:
a film with such a lesion is dropped. An odd number is a right breast, the next a left one of the same patient. Places
are taken in corner convention: y above the film's lower edge is 1024 - y below its upper one.

`read_masses` leaves out the films that show calcifications: masses, distortions and asymmetries are what remains.

The curated layout is lesions.csv: film, image, pair_id, class, severity, lesion (0 for none), located, and cx, cy,
radius in pixels from the top left corner of pictures of 512 × 512 pixels of 0.4 mm.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.data.public.frames import (
    Collection,
    Dropped,
    Line,
    PublicFrame,
    no_layout,
    picture_size,
    read_choice,
    read_lines,
    read_number,
    worst,
)
from imaging.data.public.lesions import Lesions, Shape, disc
from imaging.errors import ConfigError, GeometryError, Reason

NAME: Final = "mini_mias"
TOP: Final = "all-mias"
INFO: Final = "Info.txt"
CURATED: Final = "lesions.csv"
SIDE: Final = 1024  # pixels of the published films in both directions
_SPACING_MM: Final = 0.2  # of these pixels; the films were scanned at 0.05 mm
_SEVERITY: Final = {"b": "benign", "m": "malignant", "": "normal"}
_NORMAL: Final = "NORM"
_CALCIFICATIONS: Final = "CALC"
_KINDS: Final = (_CALCIFICATIONS, "CIRC", "SPIC", "MISC", "ARCH", "ASYM")
_LINE: Final = re.compile(r"(mdb(\d{3}))\s+(\w)\s+(\w+)\s*(.*)")
_PLACE: Final = re.compile(r"([BM])\s+(\S+)\s+(\S+)\s+(\S+)")
_NO_PLACE: Final = re.compile(r"([BM])\s*(\*NOTE \d\*)?")
_COLUMNS: Final = ("film", "image", "pair_id", "class", "severity", "lesion", "located", "cx", "cy", "radius")


@dataclass(frozen=True, slots=True)
class _Mark:
    """One line of a table: picture, patient, class, circle (None where there is none or no place), kind of lesion."""

    image: Path
    patient: str
    label: str
    shape: Shape | None
    kind: str


def read_masses(folder: Path) -> Collection:
    """As `read`, without the films that show calcifications."""
    return read(folder, frozenset({_CALCIFICATIONS}))


def read(folder: Path, left_out: frozenset[str] = frozenset()) -> Collection:
    """The frames of a folder, those with a lesion of a kind `left_out` dropped.

    Raises ConfigError for another layout or line, GeometryError for another size of film.
    """
    if (folder / CURATED).is_file():
        return _collection(_curated(folder), SIDE // 2, left_out)
    top = folder / TOP if (folder / TOP).is_dir() else folder
    if not (top / INFO).is_file():
        raise no_layout(NAME, top, f"{INFO} and mdb001.pgm, or a curated {CURATED}")
    lines = (top / INFO).read_text(encoding="latin-1").splitlines()
    marks: dict[str, list[_Mark]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if match := _LINE.fullmatch(line.strip()):
            mark = _mark(top, f"set {NAME}, {INFO}, line {number}", match)
            marks[match[1]].append(mark)
    if not marks:
        raise no_layout(NAME, top, f"lines like 'mdb001 G CIRC B 535 425 197' in {INFO}")
    return _collection(marks, SIDE, left_out)


def _mark(top: Path, where: str, match: re.Match[str]) -> _Mark:
    film, number, kind, rest = match[1], int(match[2]), match[4], match[5]
    image, patient = top / f"{film}.pgm", f"p{(number + 1) // 2:03d}"
    if kind == _NORMAL and not rest:
        return _Mark(image, patient, "normal", None, kind)
    placed, bare = _PLACE.fullmatch(rest), _NO_PLACE.fullmatch(rest)
    if kind not in _KINDS or not (placed or bare):
        raise ConfigError(
            f"{where}: found '{match[0]}'; allowed are a tissue and {_NORMAL}, or a tissue, one of "
            f"{', '.join(_KINDS)}, B or M, and x, y and radius or *NOTE 3*",
            Reason.CONFIG_INVALID,
        )
    if bare:
        return _Mark(image, patient, _SEVERITY[bare[1].lower()], None, kind)
    assert placed is not None
    x, y, radius = (
        read_number(where, name, text) for name, text in zip(("x", "y", "radius"), placed.groups()[1:], strict=True)
    )
    return _Mark(image, patient, _SEVERITY[placed[1].lower()], _circle(where, SIDE - y, x, radius, SIDE), kind)


def _curated(folder: Path) -> dict[str, list[_Mark]]:
    marks: dict[str, list[_Mark]] = defaultdict(list)
    for number, line in read_lines(folder / CURATED, _COLUMNS):
        where = f"set {NAME}, {CURATED}, line {number}"
        label = read_choice(where, "severity", line["severity"], _SEVERITY)
        if (line["lesion"] == "0") != (label == "normal"):
            raise ConfigError(
                f"{where}: lesion is '{line['lesion']}' and severity '{line['severity']}'; allowed is lesion 0 without "
                "a severity, or another with B or M",
                Reason.CONFIG_INVALID,
            )
        shape = _curated_circle(where, line) if line["located"] == "1" else None
        kind = read_choice(where, "class", line["class"].lower(), {name.lower(): name for name in (*_KINDS, _NORMAL)})
        marks[line["film"]].append(_Mark(folder / line["image"], line["pair_id"], label, shape, kind))
    return marks


def _curated_circle(where: str, line: Line) -> Shape:
    x, y, radius = (read_number(where, name, line[name]) for name in ("cx", "cy", "radius"))
    return _circle(where, y, x, radius, SIDE // 2)


def _circle(where: str, row: float, column: float, radius: float, side: int) -> Shape:
    if not (0 <= row <= side and 0 <= column <= side and radius > 0):
        raise ConfigError(
            f"{where}: circle at row {row:g} (from the top), column {column:g} of radius {radius:g}; allowed are "
            f"places in a film of {side} × {side} pixels and a radius above 0",
            Reason.CONFIG_INVALID,
        )
    return disc((row, column), radius)


def _collection(marks: dict[str, list[_Mark]], side: int, left_out: frozenset[str]) -> Collection:
    return Collection.of([_frame(film, found, side, left_out) for film, found in marks.items()])


def _frame(film: str, marks: list[_Mark], side: int, left_out: frozenset[str]) -> PublicFrame | Dropped:
    image, label = marks[0].image, worst(mark.label for mark in marks)
    if unwanted := sorted({mark.kind for mark in marks} & left_out):
        return Dropped(image, label, f"shows {', '.join(unwanted)}")
    unplaced = sum(mark.shape is None and mark.label != "normal" for mark in marks)
    if unplaced:
        return Dropped(image, label, f"{unplaced} of {len(marks)} lesions without a place")
    if not image.is_file():
        return Dropped(image, label, f"{image.name}: there is no such file")
    _check_size(image, side)
    step = _SPACING_MM * SIDE / side
    lesions = Lesions((side, side), tuple(mark.shape for mark in marks if mark.shape is not None))
    group = f"mias-{marks[0].patient}"
    return PublicFrame(f"{NAME}_{film}", group, NAME, image, label=label, spacing_mm=(step, step), lesions=lesions)


def _check_size(image: Path, side: int) -> None:
    found = picture_size(image)
    if found != (side, side):
        raise GeometryError(
            f"set {NAME}, {image.name}: found {found[0]} × {found[1]} pixels; its circles are of {side} × {side}",
            Reason.GEOMETRY,
        )
