"""A table of PSA values → which study each belongs to. No image states PSA, so somebody must.

PatientIDs are compared by their digests, as everywhere here, and no message holds one, nor any value of a table whose
columns may be mixed up: rows are named by their line.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

from imaging.dicom.index import Index
from imaging.dicom.instance import is_one_patient, patient_id_key
from imaging.errors import ConfigError, Reason
from imaging.inference.router import Plan, Task
from imaging.modalities.prostate.conclusions import Psa

Key = Literal["StudyInstanceUID", "PatientID"]

_VALUE: Final = "psa_ng_ml"
# Metastatic disease reaches thousands; what is higher is another unit or another column.
_HIGHEST_NG_ML: Final = 10_000.0
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """One PSA and the line of the table in which it stands."""

    ng_ml: float
    line: int


@dataclass(frozen=True)
class PsaTable:
    """PSA by what `key` names: the Study Instance UID as it is, or the digest of the PatientID."""

    key: Key
    rows: Mapping[str, Row]


def read_psa(path: Path) -> PsaTable:
    """A CSV in UTF-8 with the column psa_ng_ml and one of StudyInstanceUID and PatientID.

    Raises ConfigError, with the line's number, for another column, a row without either value or with more than two, a
    value that is no number from 0 to 10000 with a decimal point, and a second row for one study or patient.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.reader(stream, strict=True)
            lines = [(table.line_num, [cell.strip() for cell in cells]) for cells in table if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no CSV in UTF-8"
        raise ConfigError(f"--psa {path}: cannot be read ({said})", Reason.CONFIG_INVALID) from error
    columns = lines[0][1] if lines else []
    key = _key(path, columns)
    rows: dict[str, Row] = {}
    for line, cells in lines[1:]:
        name, value = _cells(path, line, dict(zip(columns, cells, strict=False)), len(cells), key)
        if name in rows:
            raise _wrong(path, line, f"names the {key} of line {rows[name].line} again; allowed is one row for each")
        rows[name] = Row(value, line)
    return PsaTable(key, rows)


def assign_psa(
    table: PsaTable | None, index: Index, planned: Plan
) -> tuple[dict[tuple[str, str], Psa], tuple[str, ...]]:
    """The PSA of each (study UID, package name) that reads prostate MRI, and a remark on each row that was not used.

    A PatientID is used where it means one patient with one such study: a PSA of one year says nothing of another's.
    """
    if table is None:
        return {}, ()
    tasks: dict[str, list[Task]] = defaultdict(list)
    for task in planned.tasks():
        if task.package.description.card.applicability.modality == "MR":
            for name in _names(task, table.key):
                tasks[name].append(task)
    shared = _shared_patient_ids(index) if table.key == "PatientID" else frozenset()
    found: dict[tuple[str, str], Psa] = {}
    remarks = []
    for name, row in table.rows.items():
        if why := _unfit(table.key, name in shared, {task.study_uid for task in tasks[name]}):
            remarks.append(f"The PSA in line {row.line} of the table was not used: {why}")
            continue
        whose = "study" if table.key == "StudyInstanceUID" else "patient"
        psa = Psa(row.ng_ml, f"the table given with --psa states it for this {whose}, by {table.key}")
        found |= {(task.study_uid, task.package.name): psa for task in tasks[name]}
    return found, tuple(remarks)


def _unfit(key: Key, is_shared: bool, studies: set[str]) -> str:
    """Why a row is not used; empty where it is."""
    if not studies:
        return f"its {key} is that of no study that a package of prostate MRI reads"
    if is_shared:
        return "its PatientID stands for more than one patient; name the study by StudyInstanceUID"
    if len(studies) > 1:
        return f"its patient has {len(studies)} studies that are read; name the one meant by StudyInstanceUID"
    return ""


def _names(task: Task, key: Key) -> Iterator[str]:
    """What a row may call the study of a task."""
    if key == "StudyInstanceUID":
        yield task.study_uid
    else:
        yield from {ref.instance.patient_id_key for ref in task.group.images()} - {""}


def _shared_patient_ids(index: Index) -> frozenset[str]:
    """The digests of PatientIDs that stand for several patients."""
    patients: dict[str, set[str]] = defaultdict(set)
    for series in index.series:
        for instance in series.instances:
            patients[instance.patient_id_key].add(instance.patient_key)
    return frozenset(name for name, keys in patients.items() if not is_one_patient(keys))


def _key(path: Path, columns: list[str]) -> Key:
    """What names the rows, of a header that has it and psa_ng_ml and nothing else."""
    keys = [name for name in columns if name in get_args(Key)]
    if len(keys) == 1 and sorted(columns) == sorted([*keys, _VALUE]):
        return cast(Key, keys[0])
    # A header is quoted only where it is one: a table without would show its first patient.
    found = [name if name in (*get_args(Key), _VALUE) else "another" for name in columns]
    semicolons = "; separate the columns by commas, not semicolons" if any(";" in name for name in columns) else ""
    raise _wrong(
        path, 1, f"has the columns {found}; allowed are {_VALUE} and one of {' and '.join(get_args(Key))}{semicolons}"
    )


def _cells(path: Path, line: int, row: dict[str, str], count: int, key: Key) -> tuple[str, float]:
    """The name and the value of one row."""
    if count != 2:
        raise _wrong(path, line, f"has {count} values; allowed are 2, and a decimal point, not a comma")
    if not row[key]:
        raise _wrong(path, line, f"has an empty {key}")
    if not _NUMBER.fullmatch(row[_VALUE]):
        raise _wrong(path, line, f"has a {_VALUE} that is no number; allowed is one such as 6.5")
    value = float(row[_VALUE])
    if not 0 <= value <= _HIGHEST_NG_ML:
        found = "negative" if value < 0 else f"above {_HIGHEST_NG_ML:g}"
        raise _wrong(path, line, f"has a {_VALUE} that is {found}; allowed is 0 to {_HIGHEST_NG_ML:g} ng/ml")
    return (row[key] if key == "StudyInstanceUID" else patient_id_key(row[key].encode())), value


def _wrong(path: Path, line: int, said: str) -> ConfigError:
    return ConfigError(f"--psa {path}: line {line} {said}", Reason.CONFIG_INVALID)
