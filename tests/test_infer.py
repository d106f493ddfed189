"""The whole path: an export goes in, results come out; every outcome, byte for byte, and nothing in the wrong place."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from PIL import Image as Picture
from pydicom import dcmread
from safetensors.numpy import load as load_weights
from safetensors.numpy import save as save_weights

from imaging.commands import main
from imaging.dicom.index import build_index
from imaging.dicom.select import ImageRef
from imaging.inference.processes import Processes, TaskFrame, decode, load
from imaging.package import Package
from imaging.phantoms.export import EXPECTED, NOT_FOR_THIS
from imaging.phantoms.ultrasound.dicom import (
    LATIN,
    Patient,
    UltrasoundAcquisition,
    dataset,
    file_bytes,
    tissue_mask,
    truth,
)
from imaging.phantoms.ultrasound.screen import Layout
from imaging.phantoms.ultrasound.tissue import PlantedLesion
from imaging.report.document import ECHOED
from tests.conftest import REPOSITORY, require_tool
from tests.crashes import descendants
from tests.judges import pixelmed, run_tool

EXPORT = REPOSITORY / "data_samples" / "pacs_export"
PACKAGE = REPOSITORY / "data_samples" / "packages" / "breast_us"
SCHEMA = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
CLEAR = PlantedLesion(-3.0, 17.5, 12.0, 9.5, 8.0, echo_db=-22.0, irregularity=0.11, margin_mm=0.45, seed=5)
TIME = ["--content-time", "2026-01-31T12:00:00"]


def infer(export: Path, out: Path, *words: str, status: int = 0) -> dict[str, Any]:
    """The summary of a run, after it has been held against the schema."""
    assert main(["infer", str(export), "--out", str(out), *TIME, *words]) == status
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    Draft202012Validator(SCHEMA).validate(summary)
    return summary


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".ledger" not in path.parts  # how a run got there, not what it says
    }


class InProcess(Processes):
    """Decoding, reading and reporting in this process."""

    def frames(self, images: Sequence[ImageRef]) -> Iterator[TaskFrame]:
        for item, image in enumerate(images):
            for ref, decoded, seconds in decode(image):
                yield TaskFrame(item, ref, decoded, seconds)

    def start(self, packages: Iterable[Package]) -> None:
        for package in packages:
            load(package, "cpu", 1)

    @staticmethod
    def _twice(worker: object, function: Callable[..., Any], *args: object) -> Any:
        return function(*args)


def results(summary: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return ((study, result) for study in summary["studies"] for result in study["results"])


def one_still(folder: Path, **facts: Any) -> UltrasoundAcquisition:
    """A folder with a single still that holds one clear lesion."""
    acquisition = UltrasoundAcquisition(**{"vendor": "A", "patient": LATIN, "seed": 11, "lesions": (CLEAR,), **facts})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "still").write_bytes(file_bytes(dataset(acquisition)))
    return acquisition


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without their processes, whose start costs seconds; `sample` and `real` ran with them."""
    request.getfixturevalue("sample")
    monkeypatch.setattr("imaging.inference.run.Processes", InProcess)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("sample")
    return out, infer(EXPORT, out, status=1)


def test_every_study_of_the_sample_export_ends_as_expected(sample: tuple[Path, dict[str, Any]]) -> None:
    _, summary = sample
    told = {
        (study["study_uid"], result["package"]): (result["applicability"], result["finding"], result["completeness"])
        for study, result in results(summary)
    }
    expected = {(e.study_uid, "breast_us"): astuple(e.breast) for e in EXPECTED}
    expected |= {(e.study_uid, "fetal_head_us"): astuple(e.head) for e in EXPECTED}
    others = {package["name"] for package in summary["packages"]} - {"breast_us", "fetal_head_us"}
    assert others >= {"mammography_mass", "prostate_gland", "prostate_lesion"}
    assert told == expected | {(e.study_uid, name): astuple(NOT_FOR_THIS) for e in EXPECTED for name in others}


def test_a_package_of_pictures_says_that_it_knows_no_scanner(sample: tuple[Path, dict[str, Any]]) -> None:
    _, summary = sample
    applied = [r for _, r in results(summary) if r["package"] == "breast_us" and r["applicability"] == "applicable"]
    said = "The training images stated no scanner or protocol: whether the like of this was seen is unknown"
    assert [said in result["notes"] for result in applied] == [True] * len(applied) != []


def test_every_file_has_one_state_and_a_reason_unless_used(sample: tuple[Path, dict[str, Any]]) -> None:
    _, summary = sample
    names = sorted(p.relative_to(EXPORT).as_posix() for p in EXPORT.rglob("*") if p.is_file())
    assert [file["path"] for file in summary["files"]] == names
    assert all((file["reason"] is None) == (file["state"] == "used") for file in summary["files"])
    refused = {file["path"]: file["reason"] for file in summary["files"] if file["state"] == "refused"}
    assert refused == {
        "DICOM/PA0003/ST0001/SE0001/IM0002": "pixel_data_too_short",
        "DICOM/PA0003/ST0001/SE0001/IM0003": "empty_file",
        "DICOM/PA0003/ST0002/SE0001/IM0001": "decode_failed",
        "DICOM/PA0006/ST0002/SE0001/IM0002": "decode_failed",
    }


def test_every_package_says_of_every_image_what_it_read_it_as_or_why_not(sample: tuple[Path, dict[str, Any]]) -> None:
    _, summary = sample
    index = build_index(EXPORT, None, workers=0)
    for study, result in results(summary):
        read = [series for of_role in result["roles"].values() for series in of_role]
        assert bool(read) == (result["applicability"] == "applicable")
        told: Counter[str] = Counter()
        for series in (*read, *result["rejected"]):
            told[series["series_uid"]] += series["instances"]
        assert told == {series.uid: len(series.instances) for series in index.studies()[study["study_uid"]]}


def test_every_object_is_on_disk_under_its_uid_and_of_the_source_study(sample: tuple[Path, dict[str, Any]]) -> None:
    out, summary = sample
    for study, result in results(summary):
        assert bool(result["objects"]) == (result["applicability"] == "applicable")
        for entry in result["objects"]:
            written = dcmread(out / entry["path"])
            assert written.SOPInstanceUID == entry["sop_instance_uid"]
            assert written.SOPClassUID == entry["sop_class_uid"]
            assert written.StudyInstanceUID == study["study_uid"]


def test_the_site_is_in_the_summary_and_can_be_named(sample: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, summary = sample
    assert {study["site"] for study in summary["studies"]} == {"Synthetic Hospital"}
    one_still(tmp_path / "in")
    named = infer(tmp_path / "in", tmp_path / "out", "--site", "Hospital B")
    assert [study["site"] for study in named["studies"]] == ["Hospital B"]


def test_two_runs_into_two_folders_are_identical(sample: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    first, _ = sample
    infer(EXPORT, tmp_path, status=1)
    assert tree(tmp_path) == tree(first)
    infer(EXPORT, tmp_path, status=1)
    assert tree(tmp_path) == tree(first)


def test_a_rerun_keeps_the_first_content_time(tmp_path: Path) -> None:
    one_still(tmp_path / "in")
    infer(tmp_path / "in", tmp_path / "out")
    before = tree(tmp_path / "out")
    assert main(["infer", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert tree(tmp_path / "out") == before


def changed_package(folder: Path) -> Path:
    """The shipped package with the last bit of one weight turned, and its description told so."""
    shutil.copytree(PACKAGE, folder)
    path = folder / "weights.safetensors.gz"
    weights = load_weights(gzip.decompress(path.read_bytes()))
    name = next(iter(weights))
    values = weights[name].copy()
    values.reshape(-1).view(np.uint16)[0] ^= 1
    path.write_bytes(gzip.compress(save_weights({**weights, name: values}), mtime=0))
    told = yaml.safe_load((folder / "package.yaml").read_text(encoding="utf-8"))
    told["weights"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "package.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return folder


def test_one_changed_weight_changes_every_uid(sample: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, summary = sample
    other = infer(EXPORT, tmp_path / "out", "--package", str(changed_package(tmp_path / "package")), status=1)
    before = {e["sop_instance_uid"] for _, r in results(summary) for e in r["objects"]}
    after = {e["sop_instance_uid"] for _, r in results(other) for e in r["objects"]}
    assert before
    assert after
    assert not before & after


def test_findings_lie_on_the_planted_lesions(sample: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """On every vendor: the best finding's centre lies in the truth mask of the file's own pixels.

    Its box is the outline's, and its area is the outline's by the calibration that the header states.
    """
    for vendor in "ABCD":
        acquisition = one_still(tmp_path / vendor, vendor=vendor)
        summary = infer(tmp_path / vendor, tmp_path / f"out-{vendor}")
        (_, result), *_ = results(summary)
        mask = truth(acquisition)
        found = result["findings"][0]
        x, y = found["center_px"]
        assert mask[int(y), int(x)] == 1, f"vendor {vendor}"
        outline = np.array(found["outline_px"])
        assert outline.min(axis=0).tolist() == found["box_px"][:2]
        assert outline.max(axis=0).tolist() == found["box_px"][2:]
        step = dataset(acquisition).SequenceOfUltrasoundRegions[0]
        across, down = outline.T
        pixels = abs(np.dot(across, np.roll(down, 1)) - np.dot(down, np.roll(across, 1))) / 2
        assert found["area_mm2"] == pytest.approx(pixels * step.PhysicalDeltaX * step.PhysicalDeltaY * 100, rel=1e-3)


def test_an_uncalibrated_image_has_no_millimetres_and_says_so(tmp_path: Path) -> None:
    one_still(tmp_path / "in", layout=Layout("single", calibrated=False))
    summary = infer(tmp_path / "in", tmp_path / "out")
    (_, result), *_ = results(summary)
    assert result["findings"][0]["area_mm2"] is None
    assert result["findings"][0]["longest_diameter_mm"] is None
    assert "Uncalibrated: no millimetres can be given" in result["notes"]


def test_unknown_anatomy_runs_only_with_an_explicit_package(tmp_path: Path) -> None:
    one_still(tmp_path / "in", body_part=None)
    (_, result), *_ = results(infer(tmp_path / "in", tmp_path / "a"))
    assert (result["applicability"], result["reason"]) == ("not_applicable", "unknown_anatomy")
    (_, result), *_ = results(infer(tmp_path / "in", tmp_path / "b", "--package", str(PACKAGE)))
    assert (result["applicability"], result["finding"]) == ("applicable", "yes")


def test_a_heart_is_never_read_as_a_breast_even_with_an_explicit_package(tmp_path: Path) -> None:
    one_still(tmp_path / "in", body_part="HEART")
    (_, result), *_ = results(infer(tmp_path / "in", tmp_path / "out", "--package", str(PACKAGE)))
    assert (result["applicability"], result["reason"]) == ("not_applicable", "other_anatomy")


def test_two_patients_under_one_study_get_no_report(tmp_path: Path) -> None:
    acquisition = one_still(tmp_path / "in")
    other = dataset(UltrasoundAcquisition("A", LATIN, 12, lesions="planted"))
    first = dataset(acquisition)
    other.StudyInstanceUID, other.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
    other.PatientID = "PHANTOM-9999"
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    (tmp_path / "in" / "other").write_bytes(file_bytes(other))
    (_, result), *_ = results(infer(tmp_path / "in", tmp_path / "out", status=1))
    assert (result["finding"], result["completeness"], result["reason"]) == (
        "unknown",
        "none",
        "mixed_patients_in_study",
    )
    assert result["objects"] == []


def test_copies_are_read_once_and_contradicting_copies_not_at_all(tmp_path: Path) -> None:
    acquisition = one_still(tmp_path / "in")
    shutil.copy(tmp_path / "in" / "still", tmp_path / "in" / "still-copy")
    summary = infer(tmp_path / "in", tmp_path / "a")
    assert [(f["state"], f["reason"]) for f in summary["files"]] == [("used", None), ("skipped", "duplicate")]
    changed = dataset(acquisition)
    changed.PixelData = bytes(len(changed.PixelData))
    (tmp_path / "in" / "still-copy").write_bytes(file_bytes(changed))
    summary = infer(tmp_path / "in", tmp_path / "b", status=1)
    (_, result), *_ = results(summary)
    assert (result["finding"], result["completeness"]) == ("unknown", "none")
    assert {f["reason"] for f in summary["files"]} == {"duplicate_uid_different_bytes"}


def test_no_patient_identity_outside_the_dicom_objects(sample: tuple[Path, dict[str, Any]]) -> None:
    """Names, IDs and birth dates of the export, in no file name and in no text or page of the results."""
    out, _ = sample
    told = identities(EXPORT)
    assert len(told) >= 6
    assert leaks(out, told) == []


def test_the_identity_scan_can_fail(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"note": "Yamada"}', encoding="utf-8")
    assert leaks(tmp_path, identities(EXPORT)) == ["summary.json: Yamada"]


def identities(export: Path) -> set[str]:
    told: set[str] = set()
    for path in export.rglob("IM*"):
        if path.is_file() and path.stat().st_size:
            header = dcmread(path, stop_before_pixels=True)
            names = str(header.PatientName).replace("=", "^").split("^")
            told |= {part for part in [*names, str(header.PatientID), str(header.PatientBirthDate)] if len(part) > 1}
    return told


def leaks(folder: Path, told: set[str]) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        text = path.read_text(encoding="utf-8") if path.suffix in (".json", ".html") else ""
        text = text if path.suffix != ".json" else json.dumps(json.loads(text), ensure_ascii=False)
        found += [f"{name}: {identity}" for identity in sorted(told) if identity in name or identity in text]
    return found


def test_log_lines_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_still(tmp_path / "in")
    infer(tmp_path / "in", tmp_path / "out", "--log", "json")
    begin, study = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert begin == {"event": "begin", "frames": 1}
    assert (study["event"], study["finding"], study["completeness"]) == ("study", "yes", "all")


def test_dry_run_says_why_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", str(EXPORT), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "would read 2 images, 13 frames" in told
    assert "not applicable: the body part is not one the package is made for" in told
    assert not (tmp_path / "out").exists()


def test_dry_run_names_the_psa_that_no_study_would_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "psa.csv"
    table.write_text("StudyInstanceUID,psa_ng_ml\n1.2.3,6.5\n", encoding="utf-8")
    assert main(["infer", str(EXPORT), "--dry-run", "--psa", str(table)]) == 0
    assert "The PSA in line 2 of the table was not used: its StudyInstanceUID" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--out", "out"], "there is no such file or folder"),
        ([str(EXPORT)], "--out: missing"),
        ([str(EXPORT), "--out", "out", "--content-time", "noon"], "--content-time: found 'noon'"),
        ([str(EXPORT), "--out", "out", "--package", "nowhere"], "there is no package.yaml"),
        ([str(EXPORT), "--out", "out", "--psa", "nowhere.csv"], "--psa nowhere.csv: cannot be read"),
    ],
)
def test_a_wrong_command_is_status_2_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["infer", *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_defect_of_ours_is_no_ordinary_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("imaging.inference.run.build_index", broken)
    (tmp_path / "in").mkdir()
    assert main(["infer", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 70
    assert "ZeroDivisionError: planted" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_still(tmp_path / "in")
    (tmp_path / "out").write_text("a file, not a folder", encoding="utf-8")
    assert main(["infer", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "output_failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "weights.safetensors.gz").write_bytes(b"x"), "weights.safetensors.gz has sha256"),
        (lambda p: edit(p, "threshold:", "threshhold:"), "threshhold"),
        (lambda p: edit(p, "least_toolkit: 0.1.0", "least_toolkit: 9.0.0"), "least_toolkit is 9.0.0"),
        (lambda p: edit(p, "format_version: 1", "format_version: 2"), "format_version is 2"),
        (lambda p: edit(p, "side: 256", "side: 128"), "has identity"),
        (lambda p: edit(p, "dyn_unet", "os.system"), "kind"),
        (lambda p: edit(p, "golden_tolerance: 0.02", "golden_tolerance: -1.0"), "the golden phantom differs"),
        (lambda p: edit(p, "name: weights.safetensors.gz", "name: ../weights.safetensors.gz"), "is not in the folder"),
    ],
)
def test_a_damaged_package_is_refused_by_name(
    damage: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package)
    damage(package)
    one_still(tmp_path / "in")
    assert main(["infer", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--package", str(package)]) == 2
    assert message in capsys.readouterr().err
    assert not tree(tmp_path / "out")


def edit(package: Path, old: str, new: str) -> None:
    path = package / "package.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_only_approved_packages_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_still(tmp_path / "in")
    approvals = tmp_path / "approved.txt"
    approvals.write_text("# nothing yet\n", encoding="utf-8")
    words = ["infer", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--package", str(PACKAGE)]
    words += ["--approved-packages", str(approvals)]
    assert main(words) == 2
    refused = capsys.readouterr().err
    identity = refused.split("identity ")[1].split()[0]
    approvals.write_text(f"{identity}  breast_us\n", encoding="utf-8")
    assert main(words) == 0


@pytest.mark.parametrize("start", [["infer.py"], ["-m", "imaging", "infer"]], ids=["infer.py", "python -m imaging"])
def test_other_ways_to_start(start: list[str], tmp_path: Path) -> None:
    one_still(tmp_path / "in")
    words = [sys.executable, *start, str(tmp_path / "in"), "--out", str(tmp_path / "out"), *TIME]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "studies 1; files 1: 1 used, 0 skipped, 0 refused" in done.stdout
    assert "finding yes, all read" in done.stderr


def test_an_empty_folder_is_an_empty_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    summary = infer(tmp_path / "in", tmp_path / "out")
    assert (summary["studies"], summary["files"]) == ([], [])


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The run over real ultrasound of many vendors, the package forced on images that state no body part."""
    export, out = shared_data / "ultrasound" / "dicom", tmp_path_factory.mktemp("real")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd headers are what this reads
        return export, out, infer(export, out, "--package", str(PACKAGE), status=1)


def test_real_ultrasound_of_many_vendors(real: tuple[Path, Path, dict[str, Any]]) -> None:
    """Every file ends with a state and reason, and every study has its verified report."""
    export, _, summary = real
    assert len(summary["files"]) == sum(p.is_file() for p in export.rglob("*"))
    states = {file["path"]: (file["state"], file["reason"]) for file in summary["files"]}
    assert states["sonoque_phantom_jpeg_rgb.dcm"] == ("refused", "missing_uid")
    assert states["index.csv"] == ("skipped", "not_dicom")
    assert states["sonosite_jpeg_ybr422_30f.dcm"] == ("used", None)
    assert all(result["objects"] for _, result in results(summary))


def objects_of(out: Path, summary: dict[str, Any], kind: str) -> list[Path]:
    return [out / e["path"] for _, r in results(summary) for e in r["objects"] if f"/{kind}-" in e["path"]]


@pytest.mark.conformance
def test_every_object_of_the_sample_run_is_valid(sample: tuple[Path, dict[str, Any]]) -> None:
    out, summary = sample
    reports, segmentations = (objects_of(out, summary, kind) for kind in ("sr", "seg"))
    assert len(reports) == 9
    assert segmentations == []  # stills have no place in the patient: their masks are the outlines of the reports
    for path in reports:
        assert "Error" not in run_tool(require_tool("dciodvfy"), path), path.name


@pytest.mark.conformance
def test_every_report_follows_its_template(
    sample: tuple[Path, dict[str, Any]], real: tuple[Path, Path, dict[str, Any]]
) -> None:
    reports = [*objects_of(*sample, "sr"), *objects_of(*real[1:], "sr")]
    for path, said in pixelmed(reports).items():
        assert "Root Template Validation Complete" in said, f"{path.name}:\n{said}"
        assert "Error" not in said, f"{path.name}:\n{said}"


# What a result must echo unchanged even where real sources wrote it wrongly: identity, and the UIDs it refers to.
ECHOED_TAGS = {f"(0x{tag >> 16:04x},0x{tag & 0xFFFF:04x})" for tag in (*ECHOED, 0x00081155, 0x0020000E)}
# dciodvfy does not count the retired Ultrasound Multi-frame class (...1.1.3) among the multi-frame ones.
RETIRED = "Referenced SOP Class that is not multi-frame - attribute <ReferencedFrameNumber>"
SUMMARY_LINE = "Error - Dicom dataset contains invalid data values for Value Representations"


@pytest.mark.conformance
def test_reports_on_real_images_have_no_fault_of_ours(real: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, summary = real
    reports = objects_of(out, summary, "sr")
    assert len(reports) >= 8
    clean = 0
    for path in reports:
        errors = [line for line in run_tool(require_tool("dciodvfy"), path).splitlines() if "Error" in line]
        if b"1.2.840.10008.5.1.4.1.1.3\0" in path.read_bytes():
            errors = [line for line in errors if RETIRED not in line]
        clean += not errors
        ours = [e for e in errors if e != SUMMARY_LINE and not any(tag in e for tag in ECHOED_TAGS)]
        assert ours == [], path.name
    assert clean >= 5


def burn_in(still: Path, at: tuple[int, int]) -> np.ndarray:
    """White blocks, standing for a name, written into an RGB still at (row, column); their mask on the frame."""
    picture = dcmread(still)
    pixels = np.frombuffer(picture.PixelData, np.uint8).reshape(picture.Rows, picture.Columns, 3).copy()
    name = np.zeros(pixels.shape[:2], dtype=bool)
    for letter in range(9):
        top, left = at[0], at[1] + 9 * letter
        name[top : top + 9, left : left + 2] = True
        name[top + 3 : top + 5, left : left + 6] = True
    pixels[name] = 255
    picture.PixelData = pixels.tobytes()
    still.write_bytes(file_bytes(picture))
    return name


def shown_of(name: np.ndarray, out: Path, summary: dict[str, Any]) -> float:
    """Share of the burned-in pixels that any preview shows as anything but black."""
    seen = np.zeros(name.shape, dtype=bool)
    for _, result in results(summary):
        for preview in result["previews"]:
            with Picture.open(out / preview["path"]) as opened:
                lit = np.asarray(opened) > 0
            x0, y0, x1, y1 = preview["box_px"]
            rows, columns = np.nonzero(name)
            down = np.floor((rows + 0.5 - y0) / (y1 - y0) * lit.shape[0]).astype(int)
            across = np.floor((columns + 0.5 - x0) / (x1 - x0) * lit.shape[1]).astype(int)
            inside = (down >= 0) & (down < lit.shape[0]) & (across >= 0) & (across < lit.shape[1])
            seen[rows[inside], columns[inside]] |= lit[down[inside], across[inside]]
    return float(seen[name].mean())


@pytest.mark.parametrize("layout", [Layout("single"), Layout("single", calibrated=False)], ids=["region", "no region"])
def test_a_name_burned_in_beside_the_tissue_is_in_no_preview(layout: Layout, tmp_path: Path) -> None:
    acquisition = one_still(tmp_path / "in", layout=layout)
    tissue = tissue_mask(acquisition)
    name = burn_in(tmp_path / "in" / "still", at=(4, 6))
    assert not (name & (tissue > 0)).any()
    assert shown_of(name, tmp_path / "out", infer(tmp_path / "in", tmp_path / "out")) == 0


def test_the_preview_scan_can_fail(tmp_path: Path) -> None:
    acquisition = one_still(tmp_path / "in")
    rows, columns = np.nonzero(tissue_mask(acquisition))
    name = burn_in(tmp_path / "in" / "still", at=(int(np.median(rows)), int(np.median(columns)) - 40))
    assert shown_of(name, tmp_path / "out", infer(tmp_path / "in", tmp_path / "out")) > 0.9


def test_identity_is_in_no_log_line_and_no_process_title(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own words, and the command lines of every process it starts, on an export with odd header values."""
    one_still(tmp_path / "in", patient=Patient("7777", "Geheim^Gertrud", "ISO_IR 192", birth_date="19010203"))
    still = tmp_path / "in" / "still"
    birth = b"19010203"
    still.write_bytes(still.read_bytes().replace(birth, b"Geheim19"))  # no date: pydicom would quote it
    assert b"Geheim19" in still.read_bytes()
    titles: set[str] = set()
    honest = Processes.read

    def watched(self: Processes, package: Package, image: Any) -> Any:
        titles.update(Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(os.getpid()))
        return honest(self, package, image)

    monkeypatch.setattr("imaging.inference.run.Processes", Processes)
    monkeypatch.setattr(Processes, "read", watched)
    infer(tmp_path / "in", tmp_path / "out")
    told = capfd.readouterr()
    assert titles
    assert "finding" in told.err
    for words in (told.out, told.err, *titles):
        assert "Geheim" not in words
        assert "7777" not in words
