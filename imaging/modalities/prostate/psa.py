"""A table of PSA values → which study each belongs to. No image states PSA, so somebody must.

PatientIDs are compared by their digests, as everywhere here, and no message holds one, nor any value of a table whose
columns may be mixed up: rows are named by their line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

from imaging.dicom.index import Index
from imaging.dicom.instance import patient_id_key
from imaging.errors import ConfigError, Reason
from imaging.inference.router import Plan, Task
from imaging.modalities.prostate.conclusions import Psa
from imaging.table import CsvTable, Line, read_table

Key = Literal["StudyInstanceUID", "PatientID"]

_VALUE: Final = "psa_ng_ml"
# Metastatic disease reaches thousands; what is higher is another unit or another column.
_HIGHEST_NG_ML: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Row:
    """One PSA and the line of the table in which it stands."""

    ng_ml: float
    line: int


@dataclass(frozen=True)
class PsaTable:
    """PSA by what `key` names: the Study Instance UID as it is, or the digest of the PatientID.

    `remarks` say what had to be assumed of the file.
    """

    key: Key
    rows: Mapping[str, Row]
    remarks: tuple[str, ...] = ()


def read_psa(path: Path) -> PsaTable:
    """A CSV (see `read_table`) with the column psa_ng_ml and one of StudyInstanceUID and PatientID.

    Raises ConfigError, with the line and the column, for another column, a row without either value or with more than
    two, a value that is no number from 0 to 10000, and a second row for one study or patient.
    """
    table = read_table(path, f"--psa {path}", (_VALUE,), is_private=True)
    key = _key(table)
    rows: dict[str, Row] = {}
    for line in table.lines:
        name, value = _name(line, key), _value(line)
        if name in rows:
            raise _wrong(line, f"names the {key} of line {rows[name].line} again; allowed is one row for each")
        rows[name] = Row(value, line.number)
    return PsaTable(key, rows, tuple(remark.removeprefix(f"{table.name}: ") for remark in table.remarks))


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
    remarks = [f"The table of PSA {remark}" for remark in table.remarks]
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
    return frozenset(name for name, keys in patients.items() if len(keys) > 1)


def _key(table: CsvTable) -> Key:
    """What names the rows, of a header that has it and psa_ng_ml and nothing else."""
    keys = [name for name in table.columns if name in get_args(Key)]
    if len(keys) == 1 and sorted(table.columns) == sorted([*keys, _VALUE]):
        return cast(Key, keys[0])
    # A header is quoted only where it is one: a table without would show its first patient.
    found = [name if name in (*get_args(Key), _VALUE) else "another" for name in table.columns]
    raise ConfigError(
        f"{table.name}, line 1: found columns {found}; allowed are {_VALUE} and one of {' and '.join(get_args(Key))}",
        Reason.CONFIG_INVALID,
    )


def _name(line: Line, key: Key) -> str:
    if not (name := line.cells[key]):
        raise _wrong(line, f"has an empty {key}; allowed is one")
    return name if key == "StudyInstanceUID" else patient_id_key(name.encode())


def _value(line: Line) -> float:
    """The PSA of a row; an error does not quote it, since columns may be mixed up."""
    try:
        value = line.decimal(_VALUE)
    except ConfigError:
        # Without the cause: its message quotes the cell.
        raise _wrong(
            line, f"has a {_VALUE} that is no number; allowed is one such as 6.5, one decimal mark in all"
        ) from None
    if not 0 <= value <= _HIGHEST_NG_ML:
        found = "negative" if value < 0 else f"above {_HIGHEST_NG_ML:g}"
        raise _wrong(line, f"has a {_VALUE} that is {found}; allowed is 0 to {_HIGHEST_NG_ML:g} ng/ml")
    return value


def _wrong(line: Line, said: str) -> ConfigError:
    return ConfigError(f"{line.where}: {said}", Reason.CONFIG_INVALID)
