"""What runs by itself: packages of phantoms on phantoms only, and one answer to one question unless both are named."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from imaging.commands import infer as infer_command
from imaging.dicom.index import build_index
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport
from imaging.errors import PackageError
from imaging.inference.router import NotApplicable, plan
from imaging.inference.run import mr_parts
from imaging.package import Package, load_package, write_description
from tests.test_infer import InProcess, infer, tree
from tests.test_infer_prostate import GLAND, LESION, PACKAGES, by_package, study

SCANNER = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra", "SoftwareVersions": "syngo MR E11"}
PHANTOMS_ONLY = "The algorithm learnt from phantoms alone and never saw an acquisition like this one"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without their processes, whose start costs seconds."""
    monkeypatch.setattr("imaging.inference.run.Processes", InProcess)


@pytest.fixture
def phantom(tmp_path: Path) -> Path:
    """The T2W of the sample export."""
    return study(tmp_path / "phantom", "t2w_axial")


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """The same images under the name of a scanner that exists."""

    def stated(_: str, __: int, dataset: Dataset) -> bool:
        dataset.update(SCANNER)
        return True

    return study(tmp_path / "patient", "t2w_axial", change=stated)


def write_sibling(folder: Path, name: str, stands_for: Sequence[str] = ("prostate_gland",)) -> Path:
    """prostate_gland under another name, said to have learnt from patients on scanners that nobody states."""
    shutil.copytree(GLAND, folder / name)
    told = load_package(GLAND).description
    card = replace(told.card, name=name, learnt_from="images", instead_of=list(stands_for))
    write_description(folder / name, replace(told, card=card, support={}))
    return folder / name


def outcomes(export: Path, *packages: Package) -> dict[str, str]:
    """Package → the reason why it does not run, or that it does."""
    planned = plan(build_index(export, None, 1, mr_parts(packages)), packages)
    return {
        work.package.name: work.reason.value if isinstance(work, NotApplicable) else "runs" for work in planned.works
    }


# -- Phantoms only -----------------------------------------------------------------------------------------------------


def test_what_learnt_from_phantoms_runs_by_itself_on_phantoms_alone(phantom: Path, patient: Path) -> None:
    gland, named = load_package(GLAND), load_package(GLAND, explicit=True)
    assert outcomes(phantom, gland) == outcomes(patient, named) == {"prostate_gland": "runs"}
    assert outcomes(patient, gland) == {"prostate_gland": "unseen_acquisition"}


@pytest.mark.parametrize("fact", SCANNER)
def test_vendor_model_and_software_count(tmp_path: Path, fact: str) -> None:
    """One image with one of them unknown is enough."""

    def changed(_: str, number: int, dataset: Dataset) -> bool:
        if number == 3:
            setattr(dataset, fact, SCANNER[fact])
        return True

    assert outcomes(study(tmp_path / "in", "t2w_axial", change=changed), load_package(GLAND)) == {
        "prostate_gland": "unseen_acquisition"
    }


@pytest.mark.parametrize("learnt_from", [None, "images", "both"])
def test_others_run_on_what_they_never_saw(patient: Path, tmp_path: Path, learnt_from: Any) -> None:
    """Their answers say in a note what they never saw. A card of before says nothing."""
    folder = shutil.copytree(GLAND, tmp_path / "package")
    told = load_package(GLAND).description
    write_description(folder, replace(told, card=replace(told.card, learnt_from=learnt_from)))
    assert outcomes(patient, load_package(folder)) == {"prostate_gland": "runs"}


def test_a_real_study_gets_no_finding_of_phantoms(shared_data: Path) -> None:
    packages = [load_package(GLAND), load_package(LESION)]
    told = outcomes(shared_data / "prostate_mri" / "prostatex_0001", *packages)
    assert told == {"prostate_gland": "unseen_acquisition", "prostate_lesion": "unseen_acquisition"}


def test_the_run_says_why_and_fails_nobody(patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default: no document, exit status 0, and of every file the reason."""
    (tmp_path / "shipped").mkdir()
    for package in (GLAND, LESION):
        shutil.copytree(package, tmp_path / "shipped" / package.name)
    monkeypatch.setattr(infer_command, "shipped_packages", lambda: tmp_path / "shipped")
    summary = infer(patient, tmp_path / "out")
    gland = by_package(summary)["prostate_gland"]
    assert (gland["applicability"], gland["finding"], gland["reason"]) == (
        "not_applicable",
        "unknown",
        "unseen_acquisition",
    )
    assert {entry["reason"] for entry in gland["rejected"]} == {"unseen_acquisition"}
    assert by_package(summary)["prostate_lesion"]["findings"] == []
    assert list(tmp_path.glob("out/**/*.dcm")) == []
    assert {(file["state"], file["reason"]) for file in summary["files"]} <= {
        ("skipped", "unseen_acquisition"),
        ("skipped", "missing_role"),
    }


def test_named_it_says_so_first(patient: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = by_package(infer(patient, out, "--package", str(GLAND), "--also", "pdf"))["prostate_gland"]
    assert result["finding"] == "yes"
    assert result["caution"].startswith(PHANTOMS_ONLY)
    paths = [out / entry["path"] for entry in result["objects"]]
    assert len(paths) == 3
    for path in paths:
        assert str(dcmread(path).SeriesDescription).startswith("PHANTOMS ONLY")
    (report,) = [read for path in paths if isinstance(read := _read(path), ReadReport)]
    assert report.comments[0] == result["caution"]
    assert PHANTOMS_ONLY in (out / "index.html").read_text(encoding="utf-8")


def test_named_on_phantoms_it_says_nothing_of_that(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = by_package(infer(phantom, out, "--package", str(GLAND)))["prostate_gland"]
    assert result["caution"] is None
    assert not any("PHANTOMS" in str(dcmread(out / entry["path"]).SeriesDescription) for entry in result["objects"])
    assert PHANTOMS_ONLY not in (out / "index.html").read_text(encoding="utf-8")


def _read(path: Path) -> object:
    data = path.read_bytes()
    return read_result(data) if path.name.startswith(("sr", "seg")) else None


# -- One question ------------------------------------------------------------------------------------------------------


def test_of_two_that_answer_one_question_the_fit_one_runs(phantom: Path, patient: Path, tmp_path: Path) -> None:
    other = load_package(write_sibling(tmp_path, "other_gland"))
    gland = load_package(GLAND)
    assert outcomes(phantom, gland, other) == {"prostate_gland": "runs", "other_gland": "another_stands_in"}
    assert outcomes(patient, gland, other) == {"prostate_gland": "unseen_acquisition", "other_gland": "runs"}
    assert outcomes(patient, other, gland) == outcomes(patient, gland, other)
    assert outcomes(patient, other) == outcomes(phantom, other) == {"other_gland": "runs"}


def test_of_equals_the_one_that_stands_in_runs(patient: Path, tmp_path: Path) -> None:
    """Neither saw the scanner, and both may run. Two that stand in for one answer one question too; the first runs."""
    told = load_package(GLAND)
    before = replace(told, description=replace(told.description, card=replace(told.description.card, learnt_from=None)))
    first, second = (load_package(write_sibling(tmp_path, name)) for name in ("first", "second"))
    assert outcomes(patient, before, first) == {"prostate_gland": "another_stands_in", "first": "runs"}
    assert outcomes(patient, first, second) == {"first": "runs", "second": "another_stands_in"}


def test_whoever_is_named_runs(phantom: Path, tmp_path: Path) -> None:
    folder = write_sibling(tmp_path, "other_gland")
    named, gland = load_package(folder, explicit=True), load_package(GLAND)
    assert outcomes(phantom, gland, named) == {"prostate_gland": "another_stands_in", "other_gland": "runs"}
    both = [load_package(GLAND, explicit=True), named]
    assert outcomes(phantom, *both) == {"prostate_gland": "runs", "other_gland": "runs"}


def test_packages_of_other_questions_are_left_alone(phantom: Path, tmp_path: Path) -> None:
    other = load_package(write_sibling(tmp_path, "other_gland", ()))
    assert outcomes(phantom, load_package(GLAND), other) == {"prostate_gland": "runs", "other_gland": "runs"}


def test_nobody_stands_in_for_himself(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"card\.instead_of is \['other'\]; allowed is names of other packages"):
        load_package(write_sibling(tmp_path, "other", ("other",)))


def test_two_answers_to_one_question_say_so(phantom: Path, tmp_path: Path) -> None:
    """Both named: each report has the same note. The same command again does nothing; a lost report redoes both."""
    words = ["--package", str(GLAND), "--package", str(write_sibling(tmp_path, "other_gland"))]
    out = tmp_path / "out"
    told = by_package(infer(phantom, out, *words))
    notes = {name: [n for n in result["notes"] if "one question" in n] for name, result in told.items()}
    volume = told["prostate_gland"]["measures"]["gland_volume_ml"]
    both = f"{volume:.4g} and {volume:.4g}"
    note = (
        "2 packages answer one question of this study: prostate_gland says yes, other_gland says yes; "
        f"gland_volume_ml is {both}. They agree"
    )
    assert notes == {"prostate_gland": [note], "other_gland": [note]}
    for result in told.values():
        reports = [_read(out / entry["path"]) for entry in result["objects"]]
        assert any(isinstance(report, ReadReport) and note in report.comments for report in reports)
    before = tree(out)
    next(out.glob("studies/*/other_gland/sr-*.dcm")).unlink()
    infer(phantom, out, *words)
    assert tree(out) == before
    alone = by_package(infer(phantom, out, *words[:2]))["prostate_gland"]
    assert not any("one question" in note for note in alone["notes"])


def test_answers_that_differ_say_so(phantom: Path, tmp_path: Path) -> None:
    """The other one sees no gland that is good enough."""
    folder = write_sibling(tmp_path, "other_gland")
    told = load_package(folder).description
    write_description(folder, replace(told, threshold=1.01))
    results = by_package(infer(phantom, tmp_path / "out", "--package", str(GLAND), "--package", str(folder)))
    assert {name: result["finding"] for name, result in results.items()} == {
        "prostate_gland": "yes",
        "other_gland": "no",
    }
    for result in results.values():
        assert result["notes"][-1].endswith("prostate_gland says yes, other_gland says no. They do not agree")


def test_the_shipped_packages_say_what_they_learnt_from() -> None:
    """Those whose support lists phantoms only because pictures state nothing are not taken for packages of phantoms."""
    told = {}
    for folder in sorted(PACKAGES.iterdir()):
        if folder.name != "prostate_gland_taps":  # its network may not be installed
            told[folder.name] = load_package(folder).description.card.learnt_from
    assert told == {
        "breast_us": "both",
        "fetal_head_us": "both",
        "mammography_mass": "images",
        "prostate_gland": "phantoms",
        "prostate_lesion": "phantoms",
    }
