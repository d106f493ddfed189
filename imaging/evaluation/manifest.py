"""The table of an evaluation: which prediction belongs to which truth, patient and site."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imaging.errors import ConfigError, Reason

COLUMNS = ("case_id", "patient_id", "site", "prediction", "truth")
OPTIONAL = ("case_truth", "split", "exam_id", "image_uid", "spacing", "image")


@dataclass(frozen=True, slots=True)
class Row:
    """One case. `prediction` and `truth` are as the table has them: paths, or numbers in classification.

    `case_truth` is None where the truth mask alone decides; `image_uid` names the image of a study that is meant;
    `spacing` (mm, array axis order) is for files that have none of their own; `image` is the source image
    that a picture is drawn on. Every other column is a subgroup.
    """

    case_id: str
    patient_id: str
    site: str
    prediction: str
    truth: str
    case_truth: bool | None
    exam_id: str
    image_uid: str
    spacing: tuple[float, ...]
    subgroups: tuple[tuple[str, str], ...]
    image: str = ""


def read_rows(path: Path, split: str | None = None) -> list[Row]:
    """The rows of a CSV, of one split where it is named. `prediction` may be empty: a failure that counts.

    Raises ConfigError with the line's number for a missing column or value, a repeated case and a wrong value.
    """
    if not path.is_file():
        raise ConfigError(f"manifest {path}: there is no such file", Reason.CONFIG_INVALID)
    with path.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        missing = [name for name in COLUMNS if name not in (table.fieldnames or [])]
        if missing:
            raise ConfigError(
                f"manifest {path.name}: found columns {table.fieldnames}; missing {missing}", Reason.CONFIG_INVALID
            )
        lines = [
            (f"manifest {path.name}, line {n}", {key: (v or "").strip() for key, v in line.items() if key})
            for n, line in enumerate(table, start=2)
        ]
    rows = [_row(where, line) for where, line in lines if split is None or line.get("split") == split]
    if not rows:
        chosen = "" if split is None else f" of split '{split}'"
        raise ConfigError(f"manifest {path.name}: found 0 rows{chosen}; allowed are one or more", Reason.CONFIG_INVALID)
    return rows


def with_predictions(rows: Sequence[Row], path: Path) -> list[Row]:
    """The rows with the predictions of another CSV: case_id, prediction, and site where one name has several.

    A case that the other table does not have has no prediction. Raises ConfigError for no such table or columns, and
    for a case that stands twice.
    """
    if not path.is_file():
        raise ConfigError(f"predictions {path}: there is no such file", Reason.CONFIG_INVALID)
    with path.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        names = table.fieldnames or []
        if not {"case_id", "prediction"} <= set(names):
            raise ConfigError(
                f"predictions {path.name}: found columns {names}; allowed are case_id, prediction and site",
                Reason.CONFIG_INVALID,
            )
        lines = [((line.get("site") or "", line["case_id"]), line["prediction"] or "") for line in table]
    found = dict(lines)
    several = len(rows) > len({row.case_id for row in rows})
    if len(found) < len(lines) or (several and "site" not in names):
        raise ConfigError(
            f"predictions {path.name}: a case stands twice; allowed is once per site, with a column site",
            Reason.CONFIG_INVALID,
        )
    by_site = "site" in names
    return [replace(row, prediction=found.get((row.site if by_site else "", row.case_id), "").strip()) for row in rows]


def _row(where: str, line: dict[str, str]) -> Row:
    empty = [name for name in COLUMNS if not line[name] and name != "prediction"]
    if empty:
        raise ConfigError(f"{where}: no value for {empty}", Reason.CONFIG_INVALID)
    stated = line.get("case_truth", "")
    if stated not in ("", "0", "1"):
        raise ConfigError(f"{where}: case_truth is '{stated}'; allowed are 0, 1 and empty", Reason.CONFIG_INVALID)
    try:
        spacing = tuple(float(part) for part in line.get("spacing", "").split())
    except ValueError as error:
        raise ConfigError(
            f"{where}: spacing is '{line['spacing']}'; allowed are numbers in mm with a space between",
            Reason.CONFIG_INVALID,
        ) from error
    return Row(
        case_id=line["case_id"],
        patient_id=line["patient_id"],
        site=line["site"],
        prediction=line["prediction"],
        truth=line["truth"],
        case_truth=None if stated == "" else stated == "1",
        exam_id=line.get("exam_id", ""),
        image_uid=line.get("image_uid", ""),
        spacing=spacing,
        subgroups=tuple((k, v) for k, v in sorted(line.items()) if k not in (*COLUMNS, *OPTIONAL) and v),
        image=line.get("image", ""),
    )
