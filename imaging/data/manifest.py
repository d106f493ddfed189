"""A table of cases ⇄ records: which image belongs to which patient, site and split, its truth, and what was predicted.

Training and evaluation read one table. `read_rows` gives its lines as they are written, which is what an evaluation
needs; `read_manifest` makes each a `Case`, whose files are there.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast, get_args

from imaging.errors import ConfigError, OutputError, Reason
from imaging.table import NEARLY_ONE, Line, likened, near_spellings, read_table, tell

Split = Literal["train", "val", "test"]
NAMES = ("case_id", "patient_id", "site")
COLUMNS = (*NAMES, "split", "image", "truth")
OPTIONAL = ("label", "spacing_mm", "organ")
# What is known of a case beside its image and truth, for an evaluation.
SCORED = ("prediction", "case_truth", "exam_id", "image_uid")
# Before the role in the name of a column with further volumes of the exam: `image:ADC`.
BESIDE = "image:"
_STEPS = "one positive number of mm, several as in 0.1x0.2 (row step x column step), or nothing"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of the table. Names are compared as `table.clean` gives them; files are as they are written.

    `truth` is a file, or a number or class where the case is one answer; `prediction` likewise, empty where there is
    none, and `score` is the number that it is, if it is one. `spacing_mm` has a step for each array axis, one for all,
    or none. `case_truth` is None where the truth mask alone decides; `image_uid` names the image of a study that is
    meant.
    """

    line: Line
    folder: Path
    case_id: str
    patient_id: str
    site: str
    split: str
    image: str
    truth: str
    prediction: str
    score: float | None
    label: str
    spacing_mm: tuple[float, ...]
    case_truth: bool | None
    exam_id: str
    image_uid: str

    @property
    def where(self) -> str:
        """File and line, for an error."""
        return self.line.where

    @property
    def placed(self) -> dict[str, str]:
        """Every cell by its column, with the files' absolute paths, for a table in another folder."""
        named = [name for name in self.line.cells if name in ("image", "truth", "organ") or name.startswith(BESIDE)]
        files = {name: file for name in named if (file := self.line.file(name, self.folder)) is not None}
        return {**self.line.cells, **{name: str(file.resolve()) for name, file in files.items()}}

    def value(self, column: str) -> str:
        """What the table has in any column, as text."""
        return self.line.text(column)


@dataclass(frozen=True, slots=True)
class Case:
    """One image with its truth. The split belongs to the patient.

    `truth` is None where only the class of the image is known: that is not an empty truth, which says that nothing is
    there. `label` names the image's class (benign, malignant, normal), empty where none is known. `spacing_mm`, (row
    step, column step), calibrates an image whose format states no size; None leaves it in pixels.

    The image of an exam of several volumes is a folder that holds the DICOM study, or the file of its first volume with
    `beside`, the files of the others by role. `organ` is a mask of the organ around which the recipe crops; None leaves
    that to the recipe.
    """

    case_id: str
    patient_id: str
    site: str
    split: Split
    image: Path
    truth: Path | None
    label: str = ""
    spacing_mm: tuple[float, float] | None = None
    beside: Mapping[str, Path] = field(default_factory=dict, hash=False)
    organ: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file or folder that the case is made from."""
        named = (self.image, *self.beside.values(), self.organ, self.truth)
        return tuple(path for path in named if path is not None)

    @property
    def known_truth(self) -> Path:
        """The truth file. Raises ConfigError where the place of what there is to find is unknown."""
        if self.truth is None:
            raise ConfigError(
                f"case {self.case_id}: truth is empty, so where a lesion is, if there is one, is unknown; name a mask "
                "(a black one says that nothing is there), leave the case out, or train a classification",
                Reason.CONFIG_INVALID,
            )
        return self.truth


def read_rows(path: Path, needed: Sequence[str], named: Sequence[str] = ()) -> list[ManifestRow]:
    """The lines of a table that has the `needed` columns and those `named` by the user; others are told and not used.

    What is needed must have a value, but for a prediction, which may be missing, and a truth where `label` stands.
    Raises ConfigError with file, line and column for a wrong table (see `read_table`), a missing value, a wrong
    spacing or case_truth, and a patient in two splits. Sites, patients, labels and named columns whose values differ by
    their spelling alone are told.
    """
    table = read_table(path, f"manifest {path.name}", needed)
    if absent := [name for name in named if name not in table.columns]:
        raise ConfigError(
            f"{table.name}, line 1: found columns {list(table.columns)}; missing {absent}", Reason.CONFIG_INVALID
        )
    unknown = [name for name in table.unknown((*COLUMNS, *OPTIONAL, *SCORED, *named)) if not name.startswith(BESIDE)]
    for name in unknown:
        if "spacing" in likened(name) and "spacing_mm" not in table.columns:
            raise ConfigError(
                f"{table.name}, line 1: column '{name}' is unknown; the name is 'spacing_mm'", Reason.CONFIG_INVALID
            )
    if not table.lines:
        raise ConfigError(f"{table.name}: found 0 rows; allowed are one or more", Reason.CONFIG_INVALID)
    rows = [_row(path.parent, line, needed) for line in table.lines]
    _refuse_torn_patients(table.name, rows)
    tell(table.remarks)
    tell([f"{table.name}: not used are the columns {', '.join(unknown)}"] * bool(unknown))
    for column in dict.fromkeys(("site", "patient_id", "label", *named)):
        tell(f"{table.name}: {remark}" for remark in near_spellings(column, (row.value(column) for row in rows)))
    return rows


def of_split(rows: Sequence[ManifestRow], split: str | None) -> list[ManifestRow]:
    """The rows of one split, or all where the table has one or none, or the split is called `all`; a choice is told.

    Raises ConfigError for a split that no row has or that some have in another spelling, and for a table of several
    of which none was named.
    """
    counts = Counter(row.split for row in rows)
    told = ", ".join(f"{name or 'none'} ({n})" for name, n in sorted(counts.items()))
    if split is None and len(counts) > 1:
        raise ConfigError(
            f"{_table_of(rows)}: holds the splits {told}; name one with --split, or --split all for every case",
            Reason.CONFIG_INVALID,
        )
    near = [name for name in counts if split not in (None, name) and likened(name) == likened(split)]
    if near:
        raise ConfigError(
            f"{_table_of(rows)}: holds the splits {told}; '{split}' and '{near[0]}' {NEARLY_ONE}; allowed is one",
            Reason.CONFIG_INVALID,
        )
    chosen = [row for row in rows if split in (None, "all", row.split)]
    if not chosen:
        raise ConfigError(f"{_table_of(rows)}: found 0 rows of split '{split}'; it holds {told}", Reason.CONFIG_INVALID)
    if len(counts) > 1:
        tell([f"{_table_of(rows)}: holds the splits {told}; taken is {split}, {len(chosen)} of {len(rows)} rows"])
    return chosen


def with_predictions(rows: Sequence[ManifestRow], path: Path) -> list[ManifestRow]:
    """The rows with the predictions of another CSV: case_id, prediction, and site where one name has several.

    A case that the other table does not have has no prediction; a case of it that no row has is told. Raises
    ConfigError for no such table or columns, a case that stands twice, and a table that names none of the rows.
    """
    table = read_table(path, f"predictions {path.name}", ("case_id", "prediction"))
    unknown = table.unknown((*COLUMNS, *OPTIONAL, *SCORED))
    by_site = "site" in table.columns
    found: dict[tuple[str, str], tuple[str, float | None]] = {}
    for line in table.lines:
        key = (line.text("site") if by_site else "", line.text("case_id"))
        if key in found:
            raise ConfigError(
                f"{line.where}: case_id is '{key[1]}', which stands twice; allowed is once per site, with a column "
                "site",
                Reason.CONFIG_INVALID,
            )
        found[key] = (line.cells["prediction"], line.maybe_decimal("prediction"))
    if not by_site and len(rows) > len({row.case_id for row in rows}):
        raise ConfigError(
            f"{table.name}: a case_id of the manifest stands twice; allowed is once per site, with a column site",
            Reason.CONFIG_INVALID,
        )
    keys = {(row.site if by_site else "", row.case_id) for row in rows}
    if strange := [key for key in found if key not in keys]:
        _tell_strangers(table.name, strange, sorted(keys), len(strange) == len(found))
    tell(table.remarks)
    tell([f"{table.name}: not used are the columns {', '.join(unknown)}"] * bool(unknown))
    given = [found.get((row.site if by_site else "", row.case_id), ("", None)) for row in rows]
    return [replace(row, prediction=text, score=score) for row, (text, score) in zip(rows, given, strict=True)]


def _tell_strangers(
    name: str, strange: Sequence[tuple[str, str]], known: Sequence[tuple[str, str]], is_all: bool
) -> None:
    """Says that cases are unknown to the manifest. Raises ConfigError where all are."""
    first = strange[0]
    short = [case for site, case in known if site == first[0] and case.lstrip("0") == first[1].lstrip("0")]
    hint = f"; the manifest has '{short[0]}': were leading zeros lost?" if short else ""
    of = f" of site '{first[0]}'" if first[0] else ""
    told = f"{name}: {len(strange)} cases are not in the manifest, first '{first[1]}'{of}{hint}"
    if is_all:
        raise ConfigError(f"{told}; allowed are its case_ids", Reason.CONFIG_INVALID)
    tell([told])


def read_manifest(path: Path, needs_split: bool = True) -> list[Case]:
    """The cases of a CSV with case_id, patient_id, site, split, image and truth, and if wanted label, spacing_mm, organ
    and `image:ROLE` for each further volume of an exam (`image:ADC`).

    Files are absolute, or relative to the table's folder; those of `image` and of roles may be folders; `truth` may be
    empty where a label stands. `spacing_mm` is one number for square pixels, or row step and column step as in
    `0.1x0.2`. Raises ConfigError as `read_rows` does, and for an unknown split, a repeated case_id and a file that is
    not there. What the table cannot say, `duplicates` finds in the pictures. Without `needs_split` the splits are
    somebody else's to make: whatever stands there, all cases are `train`.
    """
    rows = read_rows(path, [name for name in COLUMNS if needs_split or name != "split"])
    return cases_of(rows if needs_split else [replace(row, split="train") for row in rows])


def cases_of(rows: Sequence[ManifestRow]) -> list[Case]:
    """The rows as cases. Raises as `read_manifest` does."""
    twice = [name for name, times in Counter(row.case_id for row in rows).items() if times > 1]
    if twice:
        raise ConfigError(f"{_table_of(rows)}: case_id '{twice[0]}' stands twice", Reason.CONFIG_INVALID)
    return [_case(row) for row in rows]


def join_manifests(paths: Sequence[Path]) -> list[Case]:
    """The cases of several tables, in their order.

    A patient_id at two sites is told, as it may be two persons. Raises ConfigError as `read_manifest` does, and for a
    case_id of two tables and a patient of two splits.
    """
    owner: dict[str, Path] = {}
    cases: list[Case] = []
    for path in paths:
        for case in read_manifest(path):
            if (known := owner.setdefault(case.case_id, path)) is not path:
                raise ConfigError(
                    f"{path}: case_id '{case.case_id}' stands in {known} too; allowed is once in all tables",
                    Reason.CONFIG_INVALID,
                )
            cases.append(case)
    for patient, sites in _at_several_sites(cases).items():
        splits = sorted({case.split for case in cases if case.patient_id == patient})
        where = f"patient_id '{patient}' stands at the sites {', '.join(sites)}"
        if len(splits) > 1:
            raise ConfigError(
                f"{where}, in the splits {', '.join(splits)}; allowed is one split: give two persons two patient_ids",
                Reason.CONFIG_INVALID,
            )
        tell([where])
    return cases


def _at_several_sites(cases: Sequence[Case]) -> dict[str, list[str]]:
    sites: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        sites[case.patient_id].add(case.site)
    return {patient: sorted(names) for patient, names in sites.items() if len(names) > 1}


def write_manifest(path: Path, cases: Iterable[Case]) -> None:
    """The table that `read_manifest` reads as these cases; it appears whole or not at all.

    Files in the table's folder are named relative to it. Raises OutputError when it cannot be written.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            told = list(cases)
            roles = list(dict.fromkeys(role for case in told for role in case.beside))
            writer.writerow((*COLUMNS, *OPTIONAL, *(BESIDE + role for role in roles)))
            writer.writerows(_cells(path.parent, case, roles) for case in told)
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def _cells(folder: Path, case: Case, roles: Sequence[str]) -> tuple[str, ...]:
    def named(file: Path | None) -> str:
        return "" if file is None else str(file.relative_to(folder) if file.is_relative_to(folder) else file)

    spacing = "" if case.spacing_mm is None else "x".join(f"{step:.12g}" for step in case.spacing_mm)
    files = (named(case.image), named(case.truth))
    further = (named(case.beside.get(role)) for role in roles)
    return (
        case.case_id,
        case.patient_id,
        case.site,
        case.split,
        *files,
        case.label,
        spacing,
        named(case.organ),
        *further,
    )


def _row(folder: Path, line: Line, needed: Sequence[str]) -> ManifestRow:
    label = line.text("label")
    may_lack = {"prediction"} | ({"truth"} if label else set())
    empty = [name for name in (*NAMES, *needed) if not line.text(name) and name not in may_lack]
    if empty:
        unless = "; truth may be empty only where label names the image's class" * ("truth" in empty)
        raise ConfigError(f"{line.where}: no value for {list(dict.fromkeys(empty))}{unless}", Reason.CONFIG_INVALID)
    if "split" in needed and line.text("split") not in get_args(Split):
        raise line.wrong("split", line.text("split"), f"one of {', '.join(get_args(Split))}")
    stated = line.text("case_truth")
    if stated not in ("", "0", "1"):
        raise line.wrong("case_truth", stated, "0, 1 or nothing")
    return ManifestRow(
        line=line,
        folder=folder,
        **{name: line.text(name) for name in (*NAMES, "split", "exam_id", "image_uid")},
        **{name: line.cells.get(name, "") for name in ("image", "truth", "prediction")},
        score=line.maybe_decimal("prediction"),
        label=label,
        spacing_mm=_spacing(line),
        case_truth=None if stated == "" else stated == "1",
    )


def _spacing(line: Line) -> tuple[float, ...]:
    steps = line.decimals("spacing_mm", _STEPS)
    if len(steps) > 3 or not all(math.isfinite(step) and step > 0 for step in steps):
        raise line.wrong("spacing_mm", line.cells["spacing_mm"], _STEPS)
    return steps


def _case(row: ManifestRow) -> Case:
    if len(row.spacing_mm) > 2:
        raise row.line.wrong("spacing_mm", row.line.cells["spacing_mm"], _STEPS)
    beside = [name for name in row.line.cells if name.startswith(BESIDE)]
    files = {name: row.line.file(name, row.folder) for name in ("image", "truth", "organ", *beside)}
    for name, file in files.items():
        may_be_folder = name == "image" or name in beside
        if file is not None and not (file.is_file() or (may_be_folder and file.is_dir())):
            allowed = "a file or folder" if may_be_folder else "a file"
            raise ConfigError(f"{row.where}: {name} '{row.line.cells[name]}' is not {allowed}", Reason.CONFIG_INVALID)
    return Case(
        row.case_id,
        row.patient_id,
        row.site,
        cast(Split, row.split),
        cast(Path, files["image"]),
        files["truth"],
        row.label,
        (row.spacing_mm[0], row.spacing_mm[-1]) if row.spacing_mm else None,
        {name.removeprefix(BESIDE): file for name in beside if (file := files[name]) is not None},
        files["organ"],
    )


def _refuse_torn_patients(name: str, rows: Sequence[ManifestRow]) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.patient_id].add(row.split)
    torn = {patient: sorted(where) for patient, where in splits.items() if len(where) > 1}
    if torn:
        patient, where = next(iter(torn.items()))
        raise ConfigError(
            f"{name}: {len(torn)} patients stand in two splits, first '{patient}' in {where}; "
            "give each patient one split",
            Reason.CONFIG_INVALID,
        )


def _table_of(rows: Sequence[ManifestRow]) -> str:
    return rows[0].where.rpartition(", line")[0]
