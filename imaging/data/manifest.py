"""A table of cases ⇄ [Case]: which image belongs to which patient, site and split, and where its truth is."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from imaging.errors import ConfigError, OutputError, Reason

Split = Literal["train", "val", "test"]
COLUMNS = ("case_id", "patient_id", "site", "split", "image", "truth")
OPTIONAL = ("label", "spacing_mm", "organ")
# Before the role in the name of a column with further volumes of the exam: `image:ADC`.
BESIDE = "image:"


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


def read_manifest(path: Path) -> list[Case]:
    """The cases of a CSV with case_id, patient_id, site, split, image and truth, and if wanted label, spacing_mm, organ
    and `image:ROLE` for each further volume of an exam (`image:ADC`).

    Files are absolute, or relative to the table's folder; `image` may be a folder; `truth` may be empty where a label
    stands. `spacing_mm` is one number for square pixels, or row step and column step as in `0.1x0.2`. Raises
    ConfigError with the line's number for a missing column or value, an unknown split, a spacing that is none, a
    repeated case_id, a file that is not there, and a patient in two splits. What the table cannot say, `duplicates`
    finds in the pictures.
    """
    if not path.is_file():
        raise ConfigError(f"manifest {path}: there is no such file", Reason.CONFIG_INVALID)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            columns, rows = list(table.fieldnames or []), list(enumerate(table, start=2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"manifest {path.name}: is no CSV in UTF-8", Reason.CONFIG_INVALID) from error
    if missing := [name for name in COLUMNS if name not in columns]:
        raise ConfigError(f"manifest {path.name}: found columns {columns}; missing {missing}", Reason.CONFIG_INVALID)
    cases = [_case(path, number, row) for number, row in rows]
    _refuse_repeats(path, cases)
    return cases


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
            writer.writerows(_row(path.parent, case, roles) for case in told)
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def _row(folder: Path, case: Case, roles: Sequence[str]) -> tuple[str, ...]:
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


def _case(path: Path, number: int, row: dict[str, str]) -> Case:
    where, label = f"manifest {path.name}, line {number}", (row.get("label") or "").strip()
    empty = [name for name in COLUMNS if not (row[name] or "").strip() and not (name == "truth" and label)]
    if empty:
        unless = "; truth may be empty only where label names the image's class" * ("truth" in empty)
        raise ConfigError(f"{where}: no value for {empty}{unless}", Reason.CONFIG_INVALID)
    if row["split"] not in get_args(Split):
        raise ConfigError(
            f"{where}: split is '{row['split']}'; allowed are {', '.join(get_args(Split))}", Reason.CONFIG_INVALID
        )
    beside = [name for name in row if name and name.startswith(BESIDE)]
    files = {
        name: path.parent / row[name] for name in ("image", "truth", "organ", *beside) if (row.get(name) or "").strip()
    }
    for name, file in files.items():
        if not (file.is_file() or (name == "image" and file.is_dir())):
            allowed = "a file or folder" if name == "image" else "a file"
            raise ConfigError(f"{where}: {name} '{row[name]}' is not {allowed}", Reason.CONFIG_INVALID)
    split: Split = row["split"]  # type: ignore[assignment]  # checked just above
    return Case(
        row["case_id"],
        row["patient_id"],
        row["site"],
        split,
        files["image"],
        files.get("truth"),
        label,
        _spacing(where, (row.get("spacing_mm") or "").strip()),
        {name.removeprefix(BESIDE): files[name] for name in beside if name in files},
        files.get("organ"),
    )


def _spacing(where: str, text: str) -> tuple[float, float] | None:
    """(row step, column step) in mm, of `0.1` or `0.1x0.2`; None of nothing."""
    if not text:
        return None
    try:
        steps = [float(part) for part in text.split("x")]
    except ValueError:
        steps = []
    if len(steps) not in (1, 2) or not all(math.isfinite(step) and step > 0 for step in steps):
        raise ConfigError(
            f"{where}: spacing_mm is '{text}'; allowed are one positive number of mm, two as in 0.1x0.2 "
            "(row step x column step), and nothing",
            Reason.CONFIG_INVALID,
        )
    return steps[0], steps[-1]


def _refuse_repeats(path: Path, cases: list[Case]) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    seen: set[str] = set()
    for case in cases:
        splits[case.patient_id].add(case.split)
        if case.case_id in seen:
            raise ConfigError(f"manifest {path.name}: case_id '{case.case_id}' stands twice", Reason.CONFIG_INVALID)
        seen.add(case.case_id)
    torn = {patient: sorted(where) for patient, where in splits.items() if len(where) > 1}
    if torn:
        patient, where = next(iter(torn.items()))
        raise ConfigError(
            f"manifest {path.name}: {len(torn)} patients stand in two splits, first '{patient}' in {where}; "
            "give each patient one split",
            Reason.CONFIG_INVALID,
        )
