"""`imaging predict` writes what `imaging evaluate` takes as it is; a case that cannot be read is a failure there."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from imaging.commands import main
from imaging.data.dataset import first_image
from imaging.data.images import read_image
from imaging.data.manifest import read_manifest
from imaging.evaluation.result import EvaluationResult
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.modalities.prostate.selection import ROLES
from imaging.phantoms.export import write_training_set
from imaging.phantoms.prostate.export import write_training_set as write_prostates
from tests.conftest import REPOSITORY
from tests.test_data_images import write_mha, write_nifti

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


def scored(task: str, table_: Path, out: Path, *more: str) -> EvaluationResult:
    """`imaging evaluate` on what `imaging predict` wrote, as it is."""
    words = ["evaluate", task, "--manifest", str(table_), "--split", "all", "--out", str(out), "--resamples", "100"]
    assert main([*words, *more]) == 0
    return EvaluationResult.from_json((out / "metrics.json").read_text(encoding="utf-8"))


def test_every_column_of_the_table_stays_and_classes_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_training_set(tmp_path / "cases", 3, 7)
    rows = [{**row, "exam_id": row["patient_id"], "vendor": "X"} for row in table(manifest)]
    with manifest.open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "out"
    assert main(["predict", str(PACKAGE), str(manifest), "--out", str(out)]) == 0
    assert "classification.csv: prediction is the chance of malignant" in capsys.readouterr().out
    written = table(out / "classification.csv")
    for row, before in zip(written, rows, strict=True):
        assert (row["exam_id"], row["vendor"], row["label"]) == (before["exam_id"], "X", before["label"])
        assert Path(row["image"]) == (manifest.parent / before["image"]).resolve()
        chances = [float(row[f"chance:{name}"]) for name in ("normal", "benign", "malignant")]
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        assert float(row["prediction"]) == chances[2]
    label = rows[0]["label"]
    result = scored("classification", out / "classification.csv", tmp_path / "c", "--positive", f"label={label}")
    assert [case.score for case in result.classification] == [float(row["prediction"]) for row in written]
    scored("detection", out / "detection.csv", tmp_path / "d", "--by-exam", "--subgroup", "vendor")


def test_dicom_images_in_a_folder_are_a_case_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three stills of two sites, a picture and a letter: no still hides behind another one."""
    manifest = write_training_set(tmp_path / "cases", 3, 7)
    images = manifest.parent / "images"
    Picture.new("L", (90, 70), 30).save(images / "flat.png")
    Picture.fromarray(np.random.default_rng(2).integers(0, 90, (80, 120), dtype=np.uint8)).save(images / "a.png")
    (images / "letter.txt").write_text("Dear colleague", encoding="utf-8")
    assert main(["predict", str(PACKAGE), str(images), "--out", str(tmp_path / "out")]) == 1
    streams = capsys.readouterr()
    assert "1 files are no images that are read, first letter.txt" in streams.err
    assert "failed flat.png: " in streams.err
    assert "5 cases, 1 not read" in streams.out
    names = [row["case_id"] for row in table(tmp_path / "out" / "detection.csv")]
    assert names == ["a.png", "flat.png", *sorted(Path(row["image"]).relative_to("images").as_posix()
                                                   for row in table(manifest))]  # fmt: skip
    single = images / "a.png"
    assert main(["predict", str(PACKAGE), str(single), "--out", str(tmp_path / "one")]) == 0
    assert [row["case_id"] for row in table(tmp_path / "one" / "detection.csv")] == ["a.png"]
    (tmp_path / "none").mkdir()
    assert main(["predict", str(PACKAGE), str(tmp_path / "none"), "--out", str(tmp_path / "two")]) == 2


@pytest.fixture(scope="module")
def prostate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prostate study as DICOM, with the manifest that names its folder."""
    return write_prostates(tmp_path_factory.mktemp("prostate") / "cases", 1, 3)


def volumes(manifest: Path, folder: Path) -> dict[str, Path]:
    """T2W, ADC and high b of the one study, as MHA and NIfTI files."""
    image = first_image(read_manifest(manifest)[0], ProstateRecipe(roles=ROLES))
    high_b = max((v for role, v in image.beside.items() if role != "ADC"), key=lambda v: v.b_value or 0.0)
    folder.mkdir()
    files = {"T2W": folder / "t2w.mha", "ADC": folder / "adc.nii.gz", "high b": folder / "b.mha"}
    for (role, path), volume in zip(files.items(), (image, image.beside["ADC"], high_b), strict=True):
        write = write_mha if path.suffix == ".mha" else write_nifti
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine
        write(path, volume.array[0].astype(np.float32), lps)
        assert role
    return files


def test_volumes_of_a_study_and_of_files(prostate: Path, tmp_path: Path) -> None:
    """The study's folder, a table of it, and a table of its volumes as files with organ: each is scored as it is."""
    lesions = PACKAGE.parent / "prostate_lesion"
    files = volumes(prostate, tmp_path / "given")
    [row] = table(prostate)
    named = {
        "case_id": "c", "patient_id": "p", "site": "s", "split": "test", "image": "given/t2w.mha",
        "truth": str(prostate.parent / row["truth"]), "organ": str(prostate.parent / row["organ"]),
        "image:ADC": "given/adc.nii.gz", "image:high b": "given/b.mha",
    }  # fmt: skip
    with (tmp_path / "files.csv").open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(named), lineterminator="\n")
        writer.writeheader()
        writer.writerow(named)
    best = []
    for name, images in (("table", prostate), ("files", tmp_path / "files.csv")):
        out = tmp_path / name
        assert main(["predict", str(lesions), str(images), "--out", str(out)]) == 0
        for task in ("detection", "segmentation"):
            result = scored(task, out / f"{task}.csv", tmp_path / f"{name}-{task}")
            assert not result.failures
        best.append(max((float(found["score"]) for found in table(out / "findings.csv")), default=0.0))
    assert best[0] > 0
    kept = table(tmp_path / "files" / "detection.csv")[0]
    assert kept["image:ADC"] == str(files["ADC"].resolve())
    assert kept["organ"] == named["organ"]
    assert main(["predict", str(lesions), str(prostate.parent / "images"), "--out", str(tmp_path / "folder")]) == 0
    [found] = table(tmp_path / "folder" / "detection.csv")
    assert found["case_id"] == "site-a/case-00001"
    stored = read_image(tmp_path / "folder" / found["prediction"])
    table_map = read_image(tmp_path / "table" / table(tmp_path / "table" / "detection.csv")[0]["prediction"])
    np.testing.assert_allclose(stored.grid.affine, table_map.grid.affine)
    assert ((stored.array > 0) & (table_map.array > 0)).any(), "the table knows the organ, so scores differ a little"


def test_volumes_in_a_folder_are_a_case_each(prostate: Path, tmp_path: Path) -> None:
    """A gland of an MHA, on the grid of its own file; its findings have corners in its voxels."""
    files = volumes(prostate, tmp_path / "files")
    for role in ("ADC", "high b"):
        files[role].unlink()
    gland = PACKAGE.parent / "prostate_gland"
    assert main(["predict", str(gland), str(tmp_path / "files"), "--out", str(tmp_path / "out")]) == 0
    [row] = table(tmp_path / "out" / "segmentation.csv")
    labels, image = read_image(tmp_path / "out" / row["prediction"]), read_image(files["T2W"])
    np.testing.assert_allclose(labels.grid.affine, image.grid.affine, atol=1e-4)
    found = table(tmp_path / "out" / "findings.csv")
    low, high = (np.array([[float(v) for v in one[end].split()] for one in found]) for end in ("low", "high"))
    places = np.argwhere(labels.array[0] > 0)
    np.testing.assert_array_equal(low.min(axis=0), places.min(axis=0))
    np.testing.assert_array_equal(high.max(axis=0), places.max(axis=0) + 1)


def test_studies_that_share_a_folder_are_refused(
    prostate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(prostate.parent / "images" / "site-a" / "case-00001", tmp_path / "in")
    still = write_training_set(tmp_path / "stills", 1, 7).parent
    shutil.copy(next(still.rglob("*.dcm")), tmp_path / "in")
    words = ["predict", str(PACKAGE.parent / "prostate_gland"), str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "found files of 2 studies; allowed is a folder for each study" in capsys.readouterr().err
