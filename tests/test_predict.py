"""`imaging predict` writes what `imaging evaluate` takes as it is; a case that cannot be read is a failure there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from imaging.commands import main
from imaging.phantoms.export import write_training_set
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "data_samples" / "packages" / "breast_us"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_predictions_of_a_manifest_are_evaluated_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_training_set(tmp_path / "cases", 4, 7)
    (tmp_path / "cases" / "broken.png").write_bytes(b"no picture" * 9)
    first = table(manifest)[0]
    with manifest.open("a", encoding="utf-8") as stream:
        row = {**dict.fromkeys(first, ""), "case_id": "broken", "patient_id": "P-broken", "site": first["site"],
               "split": "test", "image": "broken.png", "truth": first["truth"]}  # fmt: skip
        csv.DictWriter(stream, list(first), lineterminator="\n").writerow(row)
    out = tmp_path / "out"
    assert main(["predict", str(PACKAGE), str(manifest), "--out", str(out)]) == 1
    assert "failed broken: case broken" in (told := capsys.readouterr().err) or "failed broken: image" in told
    found = table(out / "findings.csv")
    assert found, "the phantoms hold lesions that the package finds"
    for task, more in (("detection", []), ("segmentation", ["--label", "lesion=255"])):
        words = ["evaluate", task, "--manifest", str(out / f"{task}.csv"), "--out", str(tmp_path / task)]
        assert main([*words, "--resamples", "100", "--split", "all", *more]) == 1
        assert "5 cases, 1 failed" in capsys.readouterr().out
        assert json.loads((tmp_path / task / "metrics.json").read_text(encoding="utf-8"))["task"] == task
    best = max(found, key=lambda row: float(row["score"]))
    rows = {row["case_id"]: row["prediction"] for row in table(out / "detection.csv")}
    assert np.load(out / rows[best["case_id"]]).max() == pytest.approx(float(best["score"]), abs=1e-5)
    assert rows["broken"] == ""


def test_a_folder_of_pictures_needs_no_table(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Picture.fromarray(np.random.default_rng(1).integers(0, 90, (80, 120), dtype=np.uint8)).save(
        tmp_path / "in" / "a.png"
    )
    assert main(["predict", str(PACKAGE), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    (row,) = table(tmp_path / "out" / "segmentation.csv")
    assert (row["case_id"], row["truth"]) == ("a.png", "")
    with Picture.open(tmp_path / "out" / row["prediction"]) as labels:
        assert labels.size == (120, 80)
    assert main(["predict", str(PACKAGE), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
