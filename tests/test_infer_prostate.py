"""Prostate MRI goes in, results come out: a whole exam, each role that can fail, and what each failure leaves said."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport, ReadSegmentation
from imaging.phantoms.prostate.export import sample_studies
from imaging.phantoms.prostate.signal import gland_labels
from tests.conftest import REPOSITORY, require_tool
from tests.judges import pixelmed, run_tool
from tests.test_infer import InProcess, infer, leaks, tree

EXPORT = REPOSITORY / "data_samples" / "prostate_export"
PSA = REPOSITORY / "data_samples" / "prostate_psa.csv"
PACKAGES = REPOSITORY / "data_samples" / "packages"
GLAND, LESION = PACKAGES / "prostate_gland", PACKAGES / "prostate_lesion"
BOTH = ("--package", str(GLAND), "--package", str(LESION))
READ = ("t2w_axial", "dwi", "adc")
Json = dict[str, Any]
Change = Callable[[str, int, Dataset], bool]


def study(folder: Path, *series: str, change: Change | None = None) -> Path:
    """The named series of the sample export; `change` alters the file with that number and says whether it is kept."""
    for name in series:
        (folder / name).mkdir(parents=True)
        for number, path in enumerate(sorted((EXPORT / "STUDY" / name).iterdir())):
            if change is None:
                shutil.copyfile(path, folder / name / path.name)
                continue
            dataset = dcmread(path)
            if change(name, number, dataset):
                dataset.save_as(folder / name / path.name)
    return folder


def by_package(summary: Json) -> dict[str, Json]:
    """Package → its result, of the one study there is."""
    (told,) = summary["studies"]
    return {result["package"]: result for result in told["results"]}


def outcome(result: Json) -> tuple[str, str]:
    return result["finding"], result["completeness"]


def reasons(result: Json) -> set[str]:
    return {entry["reason"] for entry in result["unread"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    """The sample export in the processes that users have."""
    out = tmp_path_factory.mktemp("whole")
    return out, infer(EXPORT, out, *BOTH, "--psa", str(PSA))


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without their processes, whose start costs seconds; `whole` ran with them."""
    request.getfixturevalue("whole")
    monkeypatch.setattr("imaging.inference.run.Processes", InProcess)


def documents(out: Path, result: Json) -> tuple[ReadReport, ReadSegmentation]:
    read = [read_result((out / entry["path"]).read_bytes()) for entry in result["objects"]]
    (report,) = [one for one in read if isinstance(one, ReadReport)]
    (mask,) = [one for one in read if isinstance(one, ReadSegmentation)]
    return report, mask


# -- A whole exam ------------------------------------------------------------------------------------------------------


def test_the_gland_is_measured_and_psa_density_follows(whole: tuple[Path, Json]) -> None:
    """The phantom's own gland, counted on its T2W voxels, within 15 %; 6.8 ng/ml over what was measured."""
    _, summary = whole
    told = by_package(summary)
    phantom = sample_studies()["siemens/routine"]
    slab = phantom.t2w_slab
    truth = gland_labels(phantom.pelvis, slab).sum() * slab.step_mm * float(np.prod(slab.pitch_mm)) / 1000
    for name in ("prostate_gland", "prostate_lesion"):
        measures = told[name]["measures"]
        assert measures["gland_volume_ml"] == pytest.approx(truth, rel=0.15)
        assert measures["psa_density_ng_ml2"] == pytest.approx(6.8 / measures["gland_volume_ml"], abs=1e-3)


def test_lesions_are_found_where_they_were_planted(whole: tuple[Path, Json]) -> None:
    """One of the two planted lesions at least, within its own radius; its lowest ADC is nearer to it than to gland."""
    _, summary = whole
    result = by_package(summary)["prostate_lesion"]
    assert outcome(result) == ("yes", "all")
    hits = [
        (lesion, finding)
        for lesion in sample_studies()["siemens/routine"].lesions
        for finding in result["findings"]
        if np.linalg.norm(np.subtract(finding["center_lps_mm"], lesion.centre_mm)) <= max(lesion.radii_mm)
    ]
    assert hits
    for lesion, finding in hits:
        assert finding["site"]["meaning"].startswith("Left" if lesion.centre_mm[0] > 2 else ("Right", "Left"))
        assert finding["measures"]["adc_p10_um2_s"] < 0.5 * (lesion.adc + 1500)
        assert finding["volume_ml"] > 0
    assert {one["label"] for one in result["structures"]} == {"peripheral zone", "transition zone"}


def test_roles_and_reasons_stand_in_the_summary(whole: tuple[Path, Json]) -> None:
    _, summary = whole
    told = by_package(summary)
    assert set(told["prostate_gland"]["roles"]) == {"T2W"}
    assert {"T2W", "ADC", "high b"} <= set(told["prostate_lesion"]["roles"])
    left = {entry["reason"] for entry in told["prostate_lesion"]["rejected"]}
    assert {"localiser", "not_axial", "calculated_b"} <= left
    assert "role_not_read" in {entry["reason"] for entry in told["prostate_gland"]["rejected"]}
    assert len(summary["files"]) == len([p for p in EXPORT.rglob("*") if p.is_file()])


def test_the_report_has_both_groups_of_each_lesion(whole: tuple[Path, Json]) -> None:
    """A planar outline for viewers, a volume for measures, and a segment, all under one tracking UID."""
    out, summary = whole
    result = by_package(summary)["prostate_lesion"]
    report, mask = documents(out, result)
    planar = {finding.tracking_uid for finding in report.findings}
    tracked = {segment.tracking_uid for segment in mask.segments}
    assert len(planar) >= len(result["findings"])
    assert tracked >= {finding.tracking_uid for finding in report.findings[: len(result["findings"])]}
    assert len(mask.segments) == len(result["findings"]) + len(result["structures"])


def test_no_identity_leaves_the_reports(whole: tuple[Path, Json]) -> None:
    out, _ = whole
    header = dcmread(next((EXPORT / "STUDY" / "t2w_axial").iterdir()), stop_before_pixels=True)
    told = {str(header.PatientID), *str(header.PatientName).split("^")} - {""}
    assert leaks(out, told) == []


@pytest.mark.conformance
def test_validators_find_no_error(whole: tuple[Path, Json]) -> None:
    out, summary = whole
    paths = [out / entry["path"] for result in by_package(summary).values() for entry in result["objects"]]
    assert len(paths) == 4
    for path in paths:
        said = run_tool(require_tool("dciodvfy"), path)
        assert "Error" not in said, f"{path.name}\n{said}"
    reports = [path for path in paths if path.name.startswith("sr")]
    for path, said in pixelmed(reports).items():
        assert "Error" not in said, f"{path.name}\n{said}"


def test_a_second_run_ends_with_the_same_tree(whole: tuple[Path, Json], tmp_path: Path) -> None:
    out, _ = whole
    infer(EXPORT, tmp_path / "out", *BOTH, "--psa", str(PSA))
    assert tree(tmp_path / "out") == tree(out)


# -- What fails, and what it leaves said -------------------------------------------------------------------------------


def test_t2w_alone_still_gives_the_gland(tmp_path: Path) -> None:
    """The gland package needs nothing else; for lesions the ADC is missing, and that is no "no"."""
    told = by_package(infer(study(tmp_path / "in", "t2w_axial"), tmp_path / "out", *BOTH, status=1))
    assert outcome(told["prostate_gland"]) == ("yes", "all")
    assert outcome(told["prostate_lesion"]) == ("unknown", "none")
    assert reasons(told["prostate_lesion"]) == {"missing_role"}
    assert any("No series of the study is its ADC" in note for note in told["prostate_lesion"]["notes"])


def test_a_lone_diffusion_series(tmp_path: Path) -> None:
    told = by_package(infer(study(tmp_path / "in", "dwi"), tmp_path / "out", *BOTH, status=1))
    assert told["prostate_gland"]["applicability"] == "not_applicable"
    assert told["prostate_gland"]["reason"] == "missing_role"
    assert outcome(told["prostate_lesion"]) == ("unknown", "none")
    assert reasons(told["prostate_lesion"]) == {"missing_role"}


@pytest.mark.parametrize("name", ["t2w_axial", "adc"])
def test_a_missing_slice_is_said_and_never_interpolated(name: str, tmp_path: Path) -> None:
    """Of T2W nothing can be read; without the scanner's ADC one is fitted from the b-values, and that is partial."""
    folder = study(tmp_path / "in", *READ, change=lambda series, k, _: (series, k) != (name, 8))
    told = by_package(infer(folder, tmp_path / "out", *BOTH, status=int(name == "t2w_axial")))
    lesion = told["prostate_lesion"]
    assert "missing_slice" in reasons(lesion)
    if name == "t2w_axial":
        assert outcome(told["prostate_gland"]) == outcome(lesion) == ("unknown", "none")
    else:
        assert outcome(told["prostate_gland"]) == ("yes", "all")
        assert lesion["completeness"] == "some"
        assert lesion["finding"] in ("yes", "unknown")
        assert any("ADC was fitted" in note for note in lesion["notes"])


def test_an_adc_map_of_zeros(tmp_path: Path) -> None:
    def clear(name: str, _: int, dataset: Dataset) -> bool:
        if name == "adc":
            dataset.PixelData = bytes(len(dataset.PixelData))
        return True

    lesion = by_package(infer(study(tmp_path / "in", *READ, change=clear), tmp_path / "out", *BOTH))["prostate_lesion"]
    assert lesion["completeness"] == "some"
    assert reasons(lesion) == {"no_signal"}
    assert any("ADC was fitted" in note for note in lesion["notes"])


def test_mixed_orientations_in_one_series(tmp_path: Path) -> None:
    """The axial slices are a volume of their own and are read; the others are left out by their orientation."""
    uid = dcmread(next((EXPORT / "STUDY" / "t2w_axial").iterdir()), stop_before_pixels=True).SeriesInstanceUID

    def join(name: str, _: int, dataset: Dataset) -> bool:
        dataset.SeriesInstanceUID = uid if name == "t2w_sagittal" else dataset.SeriesInstanceUID
        return True

    folder = study(tmp_path / "in", "t2w_sagittal", *READ, change=join)
    told = by_package(infer(folder, tmp_path / "out", *BOTH))
    assert outcome(told["prostate_gland"]) == ("yes", "all")
    assert "not_axial" in {entry["reason"] for entry in told["prostate_gland"]["rejected"]}


def test_two_patients_under_one_study(tmp_path: Path) -> None:
    """Nothing of the study is released."""

    def rename(name: str, k: int, dataset: Dataset) -> bool:
        if (name, k) == ("adc", 3):
            dataset.PatientID = "ANOTHER"
        return True

    summary = infer(study(tmp_path / "in", *READ, change=rename), tmp_path / "out", *BOTH, status=1)
    for result in by_package(summary).values():
        assert (result["completeness"], result["reason"], result["objects"]) == ("none", "mixed_patients_in_study", [])


def test_psa_of_another_study_is_said(tmp_path: Path) -> None:
    table = tmp_path / "psa.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["StudyInstanceUID", "psa_ng_ml"], ["1.2.3", "4.0"]])
    summary = infer(study(tmp_path / "in", "t2w_axial"), tmp_path / "out", "--package", str(GLAND), "--psa", str(table))
    assert "psa_density_ng_ml2" not in by_package(summary)["prostate_gland"]["measures"]
    assert any("psa.csv" in remark["text"] or "PSA" in remark["text"] for remark in summary["remarks"])
