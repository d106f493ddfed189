"""What may leave a hospital: identifiers planted in every column of random tables are looked for in every output."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from imaging.commands import main

FREE = ("accession", "birth_date", "comment", "ward", "scanner_number")
TABLES = 200


def planted_table(folder: Path, seed: int) -> tuple[Path, list[str], list[str]]:
    """A table of 8 to 40 cases, what is planted in it, and the options of subgroups that its user names.

    Patients have one to seven cases. Every column but truth and vendor holds identifiers of the patient or of the case,
    some cells none: also files that are not there, sites of one or two patients, and names in two spellings.
    """
    rng = random.Random(seed)
    planted: list[str] = []

    def plant() -> str:
        planted.append(f"ID{seed}Q{len(planted)}Z")
        return planted[-1]

    rows: list[dict[str, str]] = []
    spare = ""
    while len(rows) < rng.randint(8, 40):
        patient, site = plant(), rng.choice(["Aston", "Aston", "Brill", "planted"])
        if site == "planted":
            site, spare = (spare, "") if spare else (plant(), planted[-1])
        own = {column: plant() for column in FREE}
        for _ in range(rng.randint(1, 7)):
            cells = {column: rng.choice([own[column], own[column], plant(), ""]) for column in FREE}
            score = rng.choice([f"{rng.random():.3f}", "2", "", f"{plant()}.nii.gz"])
            name = rng.choice([patient, patient.lower()])
            rows.append({"case_id": plant(), "patient_id": name, "site": site, "truth": str(rng.randint(0, 1)),
                         "image": f"{plant()}/{plant()}.dcm", "prediction": score, "vendor": rng.choice("XY"),
                         "exam_id": plant(), **cells})  # fmt: skip
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    columns = [[], ["vendor"], ["vendor", rng.choice(FREE)], ["exam_id"], ["case_id"], ["patient_id"], ["site"]]
    named = rng.choice(columns)
    return folder / "cases.csv", planted, [word for column in named for word in ("--subgroup", column)]


def leaked(folder: Path, planted: list[str]) -> list[str]:
    """The planted identifiers that stand in any file below the folder."""
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()]
    return [one for one in planted if any(one.lower() in text.lower() for text in texts)]


def test_no_identifier_leaves_with_the_aggregates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = refused = 0
    for seed in range(TABLES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        table, planted, subgroups = planted_table(folder, seed)
        told = ["evaluate", "classification", "--manifest", str(table), "--out", str(folder / "out"), "--aggregates"]
        status = main([*told, "--resamples", "100", *subgroups])
        assert status in (0, 1, 2), seed
        written += status != 2
        refused += status == 2
        assert leaked(folder / "out", planted) == [], seed
        assert leaked(folder, planted), "the search itself finds what is there"
    capsys.readouterr()
    assert written >= TABLES / 3, "most tables must reach the outputs"
    assert refused, "columns of identifiers are refused"
