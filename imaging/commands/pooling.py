"""The out-of-fold figures of a cross-validation: every patient by the member that never met him, in one report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imaging.errors import ConfigError, Reason

DESIGN, POOLED = "design.json", "pooled"
# Of a member: what it learns from, what it is tested on, and its prediction of that.
CASES, TESTED, PREDICTED, RUN = "cases.csv", "tested.csv", "predicted", "run"


@dataclass(frozen=True)
class PooledDesign:
    """What is pooled.

    Args:
        manifest: The table from which the members were made.
        groups: Names of the jobs that together test every patient once, by what they have in common: arm and seed.
        score: Words of `imaging evaluate`: the task and its options.
    """

    manifest: str
    groups: Mapping[str, Sequence[str]]
    score: Sequence[str]


def write_design(folder: Path, design: PooledDesign) -> None:
    (folder / DESIGN).write_text(json.dumps(asdict(design), indent=1), encoding="utf-8")


def pool(folder: Path) -> int:
    """metrics.json and page of every group below `folder`/pooled; the exit status of the worst evaluation.

    Raises ConfigError where a member was trained on a patient or a picture that it is tested on, and where a case is
    tested twice.
    """
    from imaging.commands import main

    try:
        design = PooledDesign(**json.loads((folder / DESIGN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder / DESIGN}: {error}; allowed is a folder of imaging submit with --score", Reason.CONFIG_INVALID
        ) from error
    worst = 0
    for group, names in design.groups.items():
        out = folder / POOLED / group
        out.mkdir(parents=True, exist_ok=True)
        _refuse_seen(folder, names)
        table = out / "predictions.csv"
        _join(folder, design, names, table)
        worst = max(
            worst, main(["evaluate", *design.score, "--manifest", str(table), "--split", "all", "--out", str(out)])
        )
    return worst


def _refuse_seen(folder: Path, names: Sequence[str]) -> None:
    """By what the checkpoint itself recorded, and not by the table that was made for it."""
    from imaging.data.manifest import read_manifest
    from imaging.tasks.checkpoints import BEST, FOLDER, load_checkpoint
    from imaging.tasks.record import record_in

    for name in names:
        place = folder / "jobs" / name
        checkpoint = place / RUN / FOLDER / BEST
        record = record_in(load_checkpoint(checkpoint), str(checkpoint))
        tested = read_manifest(place / TESTED)
        record.refuse_seen_cases(tested, f"pool, {name}")
        record.refuse_seen_sites(record.held_out_sites, f"pool, {name}")


def _join(folder: Path, design: PooledDesign, names: Sequence[str], path: Path) -> None:
    """One table of all tested cases with their predictions, and with what else the first table says of them."""
    kind = "detection" if design.score[0] == "detection" else "segmentation"
    own = {row["case_id"]: row for row in _rows(Path(design.manifest))}
    joined: dict[str, dict[str, Any]] = {}
    for name in names:
        place = folder / "jobs" / name / PREDICTED
        for row in _rows(place / f"{kind}.csv"):
            case = row["case_id"]
            if case in joined:
                raise ConfigError(
                    f"pool: case '{case}' is tested by {joined[case]['member']} and by {name}; allowed is one member",
                    Reason.CONFIG_INVALID,
                )
            row["prediction"] = str(place / row["prediction"]) if row["prediction"] else ""
            joined[case] = {**own[case], **row, "member": name}
    columns = list(dict.fromkeys(column for row in joined.values() for column in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(joined[case] for case in sorted(joined))


def _rows(path: Path) -> list[dict[str, str]]:
    from imaging.table import read_table

    return [dict(line.cells) for line in read_table(path, path.name, ("case_id",)).lines]
