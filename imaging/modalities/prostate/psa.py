"""A table of PSA values. No image states PSA, so somebody must.

PatientIDs are compared by their digests, as everywhere here, and no message holds one, nor any value of a table whose
columns may be mixed up: rows are named by their line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast, get_args

from imaging.dicom.instance import patient_id_key
from imaging.errors import ConfigError, Reason
from imaging.exam.context import FactTable, Key, Row
from imaging.modalities.prostate.conclusions import PSA
from imaging.table import CsvTable, Line, read_table

_VALUE: Final = PSA.name
# Metastatic disease reaches thousands; what is higher is another unit or another column.
_HIGHEST_NG_ML: Final = 10_000.0


def read_psa(path: Path) -> FactTable:
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
    return FactTable(PSA, key, rows, tuple(remark.removeprefix(f"{table.name}: ") for remark in table.remarks))


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
