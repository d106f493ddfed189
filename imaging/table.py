"""A CSV as hospitals save it → its lines, with the file, the line and the column in every error.

Read are UTF-8 with or without a byte order mark, UTF-16 with one, and Windows-1252, separated by commas, semicolons or
tabs. Cells stay text, so leading zeros stay; a decimal comma is one where it cannot be a separator. What is told to the
user never quotes a cell before the header is known to be one.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Final

from imaging.errors import ConfigError, ImagingError, Reason

_LOG: Final = logging.getLogger(__name__)
_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab"}
# UTF-32 begins like UTF-16, so it comes first.
_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NEWLINE: Final = b"\n"
_SPREADSHEETS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_NUMBER: Final = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
# Characters that nobody sees: zero width spaces and joiners, marks of direction, soft hyphens, byte order marks.
_UNSEEN: Final = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_NEAR: Final = 0.8
_JOINED: Final = re.compile(r"[\s_\-\u2010-\u2015\u2212.]+")
_LEADING_ZEROS: Final = re.compile(r"(?<!\d)0+(?=\d)")
_MOST_NAMED: Final = 5
# What sets names apart that `likened` makes one.
NEARLY_ONE: Final = "differ by case, accents, dashes or leading zeros alone"
# Where remarks are kept now, and of which thread. Readers are threads of their own, so it is no context variable.
_KEPT: Final[list[tuple[int | None, dict[str, None]]]] = []


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: `cells` by column, as they are written but for blanks around them.

    `where` names the file and the line in an error; `number` counts lines of the file from 1. `ambiguous` are the
    columns in which some numbers have a decimal comma and others a point; `delimiter` separates the cells.
    """

    where: str
    number: int
    cells: Mapping[str, str]
    ambiguous: frozenset[str]
    delimiter: str
    refusal: type[ImagingError]

    def text(self, column: str) -> str:
        """A cell as an id, a name or a class: see `clean`. Empty where there is no such column."""
        return clean(self.cells.get(column, ""))

    def decimal(self, column: str, allowed: str = "a number") -> float:
        """The number of a cell; decimal point or comma. Raises the table's error for anything else."""
        return self._decimal(column, self.cells.get(column, ""), allowed)

    def decimals(self, column: str, allowed: str = "numbers, as in 0.1x0.2") -> tuple[float, ...]:
        """The numbers of a cell with `x` or blanks between them; none of an empty cell. Raises as `decimal` does."""
        text = self.cells.get(column, "")
        parts = re.split(r"\s*x\s*|\s+", text) if text else []
        return tuple(self._decimal(column, part, allowed) for part in parts)

    def file(self, column: str, folder: Path) -> Path | None:
        """The file that a cell names, below the folder unless absolute; None of an empty cell.

        A name is taken as it is written, else with its accents composed or decomposed, as other systems store them.
        """
        written = self.cells.get(column, "")
        return file_named(written, folder) if written else None

    def maybe_decimal(self, column: str) -> float | None:
        """The number of a cell; None where it holds something else. Raises for a number that may mean two."""
        return self.decimal(column) if _NUMBER.fullmatch(self.cells.get(column, "")) else None

    def wrong(self, column: str, found: str, allowed: str) -> ImagingError:
        """The refusal of a cell."""
        return self.refusal(f"{self.where}: {column} is '{found}'; allowed is {allowed}", Reason.CONFIG_INVALID)

    def _decimal(self, column: str, part: str, allowed: str) -> float:
        """The number of a part of a cell; an error quotes the whole cell."""
        text = self.cells.get(column, "")
        if not _NUMBER.fullmatch(part):
            raise self.wrong(column, text, allowed)
        if column in self.ambiguous and ("," in part or "." in part):
            raise self.wrong(column, text, f"{allowed}; the column has decimal commas and decimal points, use one")
        if self.delimiter == "," and _THOUSANDS.fullmatch(part):
            raise self.wrong(column, text, f"{allowed}; this may be a decimal comma or thousands, use a decimal point")
        return float(part.replace(",", "."))


@dataclass(frozen=True, slots=True)
class _Source:
    """What errors call a file, and what they are."""

    name: str
    refusal: type[ImagingError]

    def wrong(self, place: str, said: str) -> ImagingError:
        return self.refusal(f"{self.name}{place}: {said}", Reason.CONFIG_INVALID)


@dataclass(frozen=True)
class CsvTable:
    """The lines of a file. `name` is what errors call it; `remarks` say what had to be assumed of it."""

    name: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]
    refusal: type[ImagingError]

    def unknown(self, known: Iterable[str]) -> tuple[str, ...]:
        """The columns that are none of the known ones. Raises the table's error for one that is nearly one of them."""
        names = list(known)
        found = tuple(column for column in self.columns if column not in names)
        for column in found:
            if meant := nearest(column, [name for name in names if name not in self.columns]):
                raise self.refusal(
                    f"{self.name}, line 1: column '{column}' is unknown; the name is '{meant}'", Reason.CONFIG_INVALID
                )
        return found


def read_table(
    path: Path,
    name: str,
    needed: Sequence[str],
    refusal: type[ImagingError] = ConfigError,
    is_private: bool = False,
) -> CsvTable:
    """The lines of a CSV that has the `needed` columns; blank lines are left out.

    Raises `refusal` for a file that cannot be read, an encoding or a separator that is none of the known ones, a
    missing column, two columns of one name, and a line with more or fewer cells than columns. Where the table
    `is_private`, no error quotes a header, which in a table without one would be a patient.
    """
    source = _Source(name, refusal)
    text, remarks = _decoded(path, source)
    text, first, delimiter = _separated(text, needed)
    (head, names), *rows = _records(text, first, delimiter, source) or [(first, [])]
    columns = _columns(names, head, rows, source)
    if missing := [column for column in needed if column not in columns]:
        raise source.wrong(f", line {head}", _missing(columns, missing, is_private))
    cells = [(number, _row(number, row, columns, delimiter, source)) for number, row in rows]
    ambiguous = _ambiguous(row for _, row in cells)
    lines = tuple(Line(f"{name}, line {n}", n, row, ambiguous, delimiter, refusal) for n, row in cells)
    return CsvTable(name, tuple(column for column in columns if column), lines, tuple(remarks), refusal)


def tell(remarks: Iterable[str]) -> None:
    """Says what a table or a file left to assume, to whoever reads the program's messages, and to `remarks_kept`.

    While remarks are kept, each is said once.
    """
    for remark in remarks:
        if not _KEPT or remark not in _KEPT[0][1]:
            _LOG.warning(remark)
        for thread, kept in _KEPT:
            if thread in (None, get_ident()):
                kept[remark] = None


@contextmanager
def remarks_kept(of_thread: int | None = None) -> Iterator[dict[str, None]]:
    """Every remark that is told while this is open, once and in order: what a result rests on is left beside it.

    Files are read by other threads too, whose remarks are kept with all others; `of_thread` keeps those of one.
    """
    kept: dict[str, None] = {}
    _KEPT.append((of_thread, kept))
    try:
        yield kept
    finally:
        _KEPT[:] = [other for other in _KEPT if other[1] is not kept]


def clean(text: str) -> str:
    """A name as it is compared: composed (NFC), without unseen characters, one plain blank where several or others are.

    Two names that look alike are then one: `P1` and `P1` before a no-break space, both ways to write an accent.
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(_UNSEEN).split())


def file_named(name: str, folder: Path) -> Path:
    """The file of a name as written, else in a form that is there: accents composed or not, `/` for backslashes."""
    forms = (unicodedata.normalize(form, told) for told in (name, name.replace("\\", "/")) for form in ("NFC", "NFD"))
    return next((folder / form for form in (name, *forms) if (folder / form).exists()), folder / name)


def likened(text: str) -> str:
    """A name without what people write now so, now otherwise: accents, capitals, blanks for dashes, leading zeros."""
    parts = unicodedata.normalize("NFKD", clean(text))
    plain = "".join(part for part in parts if not unicodedata.combining(part)).casefold()
    return _LEADING_ZEROS.sub("", _JOINED.sub("-", plain))


def near_spellings(what: str, names: Iterable[str]) -> list[str]:
    """A remark for each of the first groups of names that only `likened` makes one; they count as different."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[likened(name)].append(name)
    near = [" and ".join(map(repr, spellings)) for spellings in groups.values() if len(spellings) > 1]
    more = [f"{len(near) - _MOST_NAMED} more of {what} likewise"] * (len(near) > _MOST_NAMED)
    return [f"{what} {told} {NEARLY_ONE}; they count as different" for told in near[:_MOST_NAMED]] + more


def nearest(column: str, names: Sequence[str]) -> str:
    """The one of the names that a column nearly has, or begins; empty where there is none."""
    plain = {re.sub(r"[\W_]", "", likened(name)): name for name in names}
    written = re.sub(r"[\W_]", "", likened(column))
    begun = [name for key, name in plain.items() if len(written) > 3 and key.startswith(written)]
    close = difflib.get_close_matches(written, plain, n=1, cutoff=_NEAR)
    return begun[0] if begun else plain[close[0]] if close else ""


def _decoded(path: Path, source: _Source) -> tuple[str, list[str]]:
    """The text of a file, and a remark where its encoding had to be guessed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise source.wrong("", "cannot be read: there is no such file") from error
    except OSError as error:
        raise source.wrong("", f"cannot be read: {error.strerror}") from error
    if data.startswith(_SPREADSHEETS):
        raise source.wrong("", "cannot be read: it is a spreadsheet; save it as 'CSV UTF-8' and give that file")
    encodings = [kind for mark, kind in _MARKS.items() if data.startswith(mark)][:1] or ["utf-8", "cp1252"]
    failure = ""
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            failure = f"{data.count(_NEWLINE, 0, error.start) + 1}: byte 0x{data[error.start]:02x} is no {encoding}"
            continue
        if "\0" in text:
            failure = f"{text.count(chr(10), 0, text.index(chr(0))) + 1}: holds a zero byte"
            continue
        guessed = "is no UTF-8 and was read as Windows-1252; look at its accents, or save it as 'CSV UTF-8'"
        return text, [f"{source.name}: {guessed}"] * (encoding == "cp1252")
    allowed = "allowed are UTF-8, UTF-16 with a byte order mark and Windows-1252"
    raise source.wrong(f", line {failure}", f"cannot be read; {allowed}")


def _separated(text: str, needed: Sequence[str]) -> tuple[str, int, str]:
    """The text from its header on, the header's line, and the separator by which most needed columns are found."""
    stated = re.match(r'"?sep=([,;\t])"?\r?\n', text)  # a line by which Excel tells itself the separator
    if stated:
        return text[stated.end() :], 2, stated[1]

    def fit(delimiter: str) -> tuple[int, int]:
        head = text.lstrip().partition("\n")[0]
        names = [clean(part.strip().strip('"')) for part in head.split(delimiter)]
        return sum(name in needed for name in names), len(names)

    return text, 1, max(_DELIMITERS, key=fit)


def _records(text: str, first: int, delimiter: str, source: _Source) -> list[tuple[int, list[str]]]:
    """The cells of each record but blank ones, and the line where it begins; a quoted cell may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    found: list[tuple[int, list[str]]] = []
    begins = first
    try:
        for cells in reader:
            bare = [cell.strip().strip("\u200b\ufeff").strip() for cell in cells]
            if any(bare):
                found.append((begins, bare))
            begins = reader.line_num + first
    except csv.Error as error:
        raise source.wrong(f", line {begins}", f"cannot be read as CSV ({error}); allowed are closed quotes") from error
    return found


def _columns(header: Sequence[str], line: int, rows: Sequence[tuple[int, list[str]]], source: _Source) -> list[str]:
    """The names of the columns; empty ones at the end, which spreadsheets leave, go where they hold nothing."""
    columns = [clean(cell) for cell in header]
    while columns and not columns[-1] and not any(any(row[len(columns) - 1 :]) for _, row in rows):
        columns.pop()
    for place, column in enumerate(columns, start=1):
        if column and column in columns[: place - 1]:
            raise source.wrong(
                f", line {line}",
                f"columns {columns.index(column) + 1} and {place} have one name; allowed is a name for each",
            )
    return columns


def _missing(columns: Sequence[str], missing: Sequence[str], is_private: bool) -> str:
    if is_private:
        return f"found columns {['another' for _ in columns]}; missing {list(missing)}"
    hints = [
        f"; is '{near}' meant to be '{column}'?"
        for column in missing
        if (near := next((found for found in columns if found and nearest(found, [column])), ""))
    ]
    return f"found columns {list(columns)}; missing {list(missing)}{hints[0] if hints else ''}"


def _row(number: int, row: list[str], columns: list[str], delimiter: str, source: _Source) -> dict[str, str]:
    """The cells of a line by their columns. Raises for another number of them; empty ones at the end go."""
    cells = row
    while len(cells) > len(columns) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(columns):
        place = min(len(cells), len(columns)) + 1
        column = f"'{columns[place - 1]}'" if place <= len(columns) else "without a name"
        is_comma = delimiter == "," and len(cells) > len(columns)
        hint = "; a decimal comma needs quotes, or semicolons between the columns" * is_comma
        raise source.wrong(
            f", line {number}, column {place} ({column})",
            f"found {len(cells)} values; allowed are {len(columns)}, separated by a {_DELIMITERS[delimiter]}{hint}",
        )
    for place, (column, cell) in enumerate(zip(columns, cells, strict=True), start=1):
        if cell and not column:
            raise source.wrong(
                f", line {number}, column {place}", "has a value and no name in the header; allowed is a named column"
            )
    return {column: cell for column, cell in zip(columns, cells, strict=True) if column}


def _ambiguous(rows: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """The columns in which some numbers have a decimal comma and others a decimal point."""
    marks: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for column, cell in row.items():
            if _NUMBER.fullmatch(cell):
                marks[column] |= {",", "."} & set(cell)
    return frozenset(column for column, found in marks.items() if len(found) > 1)
