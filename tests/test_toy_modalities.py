"""Modalities that no line of the toolkit names: found by their entry points, run from an export to verified results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport
from imaging.errors import ConfigError, PackageError, Reason
from imaging.modalities import find_modality, names, training_set
from imaging.modalities.reasons import reason_of
from imaging.package import load_package
from imaging.packaging import seal_package
from tests import mr_series
from tests.conftest import REPOSITORY, require_tool
from tests.judges import run_tool
from tests.onnx_files import constant, network, node

TOYS = REPOSITORY / "tests" / "toys"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys as pip would have installed them: their modules and metadata on the path."""
    monkeypatch.syspath_prepend(TOYS)


def make_package(toy: str, folder: Path, sides: int) -> Path:
    """A sealed package whose network marks what is brighter than half: logits of 40 (x - 0.5)."""
    folder.mkdir()
    shape = ["b", 1, *[f"side {k}" for k in range(sides)]]
    steps = [node("Sub", ("x", "half"), "above"), node("Mul", ("above", "slope"), "y")]
    constants = [constant("half", np.array([0.5])), constant("slope", np.array([40.0]))]
    content = network(steps, shape, shape, constants)
    (folder / "model.onnx").write_bytes(content)
    text = (TOYS / toy / "package.yaml").read_text(encoding="utf-8")
    (folder / "package.yaml").write_text(text.replace("SHA256", hashlib.sha256(content).hexdigest()), encoding="utf-8")
    seal_package(folder)
    return folder


def infer(export: Path, out: Path, *packages: Path) -> dict[tuple[str, str], Any]:
    """`infer.py` in a process of its own: the result of each (study UID, package)."""
    command = [sys.executable, REPOSITORY / "infer.py", export, "--out", out, "--workers=1", "--threads=1"]
    command += [f"--package={package}" for package in packages]
    paths = os.pathsep.join(map(str, (REPOSITORY, TOYS)))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {
        (study["study_uid"], result["package"]): result for study in summary["studies"] for result in study["results"]
    }


def reports(out: Path, result: dict[str, Any]) -> list[Path]:
    return [out / told["path"] for told in result["objects"] if "/sr-" in told["path"]]


def read_report(path: Path) -> ReadReport:
    read = read_result(path.read_bytes())
    assert isinstance(read, ReadReport)
    return read


def test_a_chest_radiograph_runs_from_an_export_to_a_report(tmp_path: Path) -> None:
    chest = import_module("toy_chest")
    export = tmp_path / "export"
    export.mkdir()
    chest.write_study(export / "frontal.dcm", chest.drawn(), 1)
    chest.write_study(export / "small.dcm", chest.drawn(32, ()), 2)
    package = make_package("toy_chest", tmp_path / "toy_chest", 2)
    result = infer(export, tmp_path / "out", package)["1.2.826.0.1.5", "toy_chest"]
    assert (result["finding"], result["completeness"], result["unread"]) == ("yes", "all", [])
    assert [entry["reason"] for entry in result["rejected"]] == ["thumbnail"]
    (found,) = result["findings"]
    # The disc of radius 10 around pixel (40, 80), in corner coordinates x, y. Rows 4 away from its middle still reach
    # 9 columns to both sides, so that the middles of two opposite edges are 19 and 8 mm apart.
    assert found["center_px"] == pytest.approx([80.5, 40.5], abs=0.1)
    assert result["measures"]["largest_mm"] == pytest.approx(np.hypot(19, 8), abs=1e-3)
    (path,) = reports(tmp_path / "out", result)
    (told,) = read_report(path).findings
    assert (told.label.meaning, [site.meaning for site in told.sites]) == ("Nodule", ["Lung"])


@pytest.mark.conformance
def test_dciodvfy_finds_no_error_in_the_report_of_a_toy(tmp_path: Path) -> None:
    tool, chest = require_tool("dciodvfy"), import_module("toy_chest")
    (tmp_path / "export").mkdir()
    chest.write_study(tmp_path / "export" / "frontal.dcm", chest.drawn(), 1)
    package = make_package("toy_chest", tmp_path / "toy_chest", 2)
    result = infer(tmp_path / "export", tmp_path / "out", package)["1.2.826.0.1.5", "toy_chest"]
    for told in result["objects"]:
        assert "Error" not in run_tool(tool, tmp_path / "out" / told["path"])


def breast_study(folder: Path) -> None:
    """Two dynamic phases, of which the first enhances in 3 × 4 × 4 voxels of 3 × 1 × 1 mm, and T2W."""
    enhanced = np.full((15, 16, 16), 100)
    enhanced[6:9, 5:9, 5:9] = 900
    dynamic = {"ImageType": ["ORIGINAL", "PRIMARY", "M"], "ScanningSequence": "GR", "EchoTime": 2, "RepetitionTime": 5,
               "PixelSpacing": [1, 1], "SeriesDescription": "dyn", "ContrastBolusAgent": "Gd"}  # fmt: skip
    same = {"BodyPartExamined": "BREAST", "StudyInstanceUID": "1.2.4", "PatientID": "breast", "PatientName": "Toy"}
    for number, tags in ((21, dynamic), (22, dynamic), (23, {**mr_series.T2, "PixelSpacing": [1, 1]})):
        told = {**tags, **same, "SeriesInstanceUID": f"1.2.4.{number}"}
        mr_series.slices(folder, number, told, stored=enhanced)


def test_a_second_mr_anatomy_is_read_beside_prostate_in_one_export(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    breast_study(export)
    shutil.copytree(REPOSITORY / "data_samples" / "prostate_export", export / "prostate")
    package = make_package("toy_breast_mri", tmp_path / "toy_breast_mri", 3)
    results = infer(export, tmp_path / "out", package, REPOSITORY / "data_samples" / "packages" / "prostate_gland")
    breast = results["1.2.4", "toy_breast_mri"]
    (prostate,) = (one for (uid, name), one in results.items() if name == "prostate_gland" and uid != "1.2.4")
    assert {role: [series["series_number"] for series in told] for role, told in breast["roles"].items()} == {
        "DCE": [21]
    }
    assert {(r["series_number"], r["reason"]) for r in breast["rejected"]} >= {
        (22, "less_suited_series"), (23, "role_not_read")
    }  # fmt: skip
    (found,) = breast["findings"]
    assert found["volume_ml"] == pytest.approx(0.144)
    assert breast["notes"][-1] == "Enhancement in the first phase alone; no curve was analysed"
    assert (prostate["applicability"], prostate["completeness"]) == ("applicable", "all")
    for result in (breast, prostate):
        (path,) = reports(tmp_path / "out", result)
        assert read_report(path).template == "1500"
    others = {name: result["reason"] for (_, name), result in results.items() if not result["objects"]}
    assert others == {"prostate_gland": "other_anatomy", "toy_breast_mri": "other_anatomy"}


def test_installed_modalities_stand_behind_those_of_the_toolkit() -> None:
    assert names() == ("ultrasound", "mammography", "prostate", "toy_breast_mri", "toy_chest")
    assert find_modality("toy_chest").acquired_as == "DX"
    assert reason_of("thumbnail").meaning == "a reduced copy of a radiograph, not the radiograph"


def test_what_is_not_there_or_broken_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(
        PackageError, match="recipe 'toy_knee': found none; allowed are ultrasound, mammography"
    ) as none:
        find_modality("toy_knee")
    assert none.value.reason is Reason.NOT_INSTALLED
    metadata = tmp_path / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    lines = "toy_lost = no_such_module:X", "toy_other = toy_chest:CHEST", "toy_twice = a:X\ntoy_twice = b:X"
    (metadata / "entry_points.txt").write_text("\n".join(("[imaging.modalities]", *lines)))
    monkeypatch.syspath_prepend(tmp_path)
    for name, match in (
        ("toy_lost", "its modality no_such_module:X cannot be imported"),
        ("toy_other", "allowed is a Modality of that name"),
        ("toy_twice", "found 2 installed ones"),
    ):
        with pytest.raises(PackageError, match=match):
            find_modality(name)


def test_phantoms_and_measures_are_those_that_modalities_have(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="kind 'knee': there are none; allowed are breast, head, mammography, prostate"
    ):
        training_set("knee")
    package = make_package("toy_chest", tmp_path / "toy_chest", 2)
    description = package / "package.yaml"
    description.write_text(description.read_text().replace("- longest_diameter", "- area"))
    with pytest.raises(PackageError, match=r"card.measures is \['area'\]; allowed is some of longest_diameter"):
        load_package(package)
