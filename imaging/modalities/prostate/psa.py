"""A table of PSA values. No image states PSA, so somebody must.

PatientIDs are compared by their digests, as everywhere here, and no message holds one, nor any value of a table whose
columns may be mixed up: rows are named by their line.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final, cast, get_args

from imaging.dicom.instance import patient_id_key
from imaging.errors import ConfigError, Reason
from imaging.exam.context import FactTable, Key, Row
from imaging.modalities.prostate.conclusions import PSA

_VALUE: Final = PSA.name
# Metastatic disease reaches thousands; what is higher is another unit or another column.
_HIGHEST_NG_ML: Final = 10_000.0
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


def read_psa(path: Path) -> FactTable:
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
    return FactTable(PSA, key, rows)


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
