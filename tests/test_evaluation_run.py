"""`imaging evaluate --run`: a folder of infer.py joined with truth by UIDs; what was not answered counts as failed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import dcmread

from imaging.commands import main
from imaging.commands.evaluation_inputs import Sources, read_prediction, read_truth
from imaging.data.manifest import read_rows
from imaging.data.run_results import read_run
from imaging.errors import ConfigError
from imaging.evaluation.result import EvaluationResult
from imaging.phantoms.ultrasound.dicom import file_bytes
from imaging.phantoms.ultrasound.wrapping import wrap
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from imaging.table import NEARLY_ONE
from tests.report_cases import CONTENT_TIME, case

HEADER = "case_id,patient_id,site,split,image,truth"


def run_folder(out: Path, packages: tuple[str, ...] = ("breast",)) -> Path:
    """A run as infer.py writes it, of one study that was answered by the first package."""
    subject = case("uncalibrated")
    folder = out / "studies" / "0a1b" / packages[0]
    folder.mkdir(parents=True)
    objects = []
    for number, document in enumerate(write_documents(Subject(subject.result, subject.sources, CONTENT_TIME))):
        (folder / f"{number}.dcm").write_bytes(document.data)
        path = (folder / f"{number}.dcm").relative_to(out).as_posix()
        objects.append({"path": path, "sop_class_uid": document.sop_class_uid, "sop_instance_uid": "1"})
    first = next(iter(subject.sources.values()))
    result = {"package": packages[0], "objects": objects, "reason_meaning": None, "completeness": "all"}
    failed = {"package": packages[0], "objects": [], "reason_meaning": "not for this anatomy", "completeness": "none"}
    studies = [
        {"study_uid": str(first.StudyInstanceUID), "results": [result]},
        {"study_uid": "1.2.3.4", "results": [failed]},
    ]
    summary = {"packages": [{"name": name} for name in packages], "studies": studies}
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: the one that was answered, one of a study that no package fits, one that the run never saw."""
    dataset = next(iter(case("uncalibrated").sources.values()))
    for name, study in (("seen", dataset.StudyInstanceUID), ("refused", "1.2.3.4"), ("unseen", "1.2.3.5")):
        dataset.StudyInstanceUID = study
        dataset.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    truth = np.zeros((60, 80), np.uint8)
    truth[0:8, 0:12] = 255
    Picture.fromarray(truth).save(tmp_path / "truth.png")
    lines = [f"{name},{name},A,test,{name}.dcm,truth.png" for name in ("seen", "refused", "unseen")]
    (tmp_path / "manifest.csv").write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return tmp_path


def words(folder: Path, run: Path, *more: str) -> list[str]:
    manifest = ["--manifest", str(folder / "manifest.csv"), "--out", str(folder / "scores"), "--resamples", "100"]
    return ["evaluate", "segmentation", "--run", str(run), *manifest, "--label", "lesion=255", *more]


def test_a_run_is_scored_without_knowing_its_folders(folder: Path) -> None:
    """89 of 96 pixels of the truth are found; the two that were not answered count as failures, with their reason."""
    assert main(words(folder, run_folder(folder / "run"))) == 1
    result = EvaluationResult.from_json((folder / "scores" / "metrics.json").read_text(encoding="utf-8"))
    assert dict(result.failures) == {
        "refused": "case 'refused': the run has no result for its study: not for this anatomy",
        "unseen": "case 'unseen': the run has no answer of package breast for its study",
    }
    assert result.pooled.figure("lesion dice").value == pytest.approx(2 * 89 / (89 + 96) / 3)
    assert result.pooled.figure("lesion dice").counts.n_failed == 2


def test_a_run_of_several_packages_asks_for_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(folder / "run", ("breast", "head"))
    assert main(words(folder, run)) == 2
    assert "holds the packages breast, head, none was named; name one with --package" in capsys.readouterr().err
    assert main(words(folder, run, "--package", "lung")) == 2
    assert "'lung' was named" in capsys.readouterr().err
    assert main(words(folder, run, "--package", "breast")) == 1
    assert main(words(folder, run, "--predictions", str(folder))) == 2


def test_pictures_without_uids_cannot_be_joined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "manifest.csv").read_text(encoding="utf-8")
    for name in ("seen", "refused", "unseen"):
        text = text.replace(f",{name}.dcm", ",truth.png")
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    assert main(words(folder, run_folder(folder / "run"))) == 2
    assert "found no image with UIDs among 3; manifest manifest.csv, line 2: its study is" in capsys.readouterr().err
    (folder / "manifest.csv").write_text(text.replace("test,truth.png", "test,gone.dcm"), encoding="utf-8")
    assert main(words(folder, folder / "run")) == 2
    assert "line 2: image is 'gone.dcm'; allowed is a DICOM file or the folder of a study" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "{", "[]", '{"packages": [{}]}'])
def test_what_is_no_run_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--run .*; allowed is a (folder|summary) that infer\.py wrote"):
        read_run(tmp_path)


def test_a_table_of_several_splits_asks_for_one(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Cases of the training would lift the figures in silence."""
    table = folder / "manifest.csv"
    rows = [f"c{k},p{k},A,{'train' if k < 4 else 'test'},0.{k}1,{k % 2}" for k in range(8)]
    table.write_text("\n".join(["case_id,patient_id,site,split,prediction,truth", *rows]), encoding="utf-8")
    scored = ["evaluate", "classification", "--manifest", str(table), "--out", str(folder / "o"), "--resamples", "100"]
    assert main(scored) == 2
    assert "holds the splits test (4), train (4); name one with --split" in capsys.readouterr().err
    assert main([*scored, "--split", "test"]) == 0
    assert "4 cases, 0 failed" in capsys.readouterr().out
    assert "taken is test, 4 of 8 rows" in caplog.text
    assert main([*scored, "--split", "all"]) == 0
    assert "8 cases, 0 failed" in capsys.readouterr().out


def test_only_named_columns_leave_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accession numbers and birth dates of a hospital's table stay there; a column of one value each is no subgroup."""
    table = folder / "manifest.csv"
    head = "case_id,patient_id,site,prediction,truth,accession,birth,vendor"
    rows = [f"c{k},p{k},A,0.{k + 10},{k % 2},ACC70{k:02d},1950-01-{k + 1:02d},{'XY'[k % 2]}" for k in range(24)]
    table.write_text("\n".join([head, *rows]), encoding="utf-8")
    scored = ["evaluate", "classification", "--manifest", str(table), "--out", str(folder / "o"), "--resamples", "100"]
    assert main([*scored, "--aggregates", "--subgroup", "vendor"]) == 0
    for name in ("metrics.json", "index.html"):
        text = (folder / "o" / name).read_text(encoding="utf-8")
        assert "ACC70" not in text
        assert "1950" not in text
    result = EvaluationResult.from_json((folder / "o" / "metrics.json").read_text(encoding="utf-8"))
    assert list(result.subgroups) == ["vendor"]
    capsys.readouterr()
    assert main([*scored, "--subgroup", "accession"]) == 2
    assert "--subgroup accession: found 24 values of one patient each among 24 for 24 rows" in capsys.readouterr().err


def masks(folder: Path, spacing: str) -> list[str]:
    """Two masks of 40 × 40 pixels, ten apart, as in a table with or without a spacing."""
    for name, left in (("t", 30), ("p", 40)):
        drawn = np.zeros((120, 120), np.uint8)
        drawn[40:80, left : left + 40] = 1
        Picture.fromarray(drawn).save(folder / f"{name}.png")
    rows = [f"c{k},p{k},A,p.png,t.png,{spacing}" for k in range(3)]
    head = "case_id,patient_id,site,prediction,truth,spacing_mm"
    (folder / "manifest.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    manifest = ["--manifest", str(folder / "manifest.csv"), "--out", str(folder / "o"), "--resamples", "100"]
    return ["evaluate", "segmentation", *manifest]


def test_the_unit_follows_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten pixels of 0.1 mm are 1 mm; without a spacing they are ten pixels, and are called so."""
    assert main(masks(tmp_path, "0.1")) == 0
    result = EvaluationResult.from_json((tmp_path / "o" / "metrics.json").read_text(encoding="utf-8"))
    assert result.pooled.figure("lesion hd95").value == pytest.approx(1.0)
    assert "HD95 (mm)" in (tmp_path / "o" / "index.html").read_text(encoding="utf-8")
    assert main(masks(tmp_path, "")) == 0
    result = EvaluationResult.from_json((tmp_path / "o" / "metrics.json").read_text(encoding="utf-8"))
    assert result.pooled.figure("lesion hd95_px").value == pytest.approx(10.0)
    assert result.pooled.figure("lesion volume_difference_px").value == 0.0
    assert result.segmentation[0].overlaps[0].truth_volume == 1600.0
    page = (tmp_path / "o" / "index.html").read_text(encoding="utf-8")
    assert "HD95 (pixels)" in page
    assert "HD95 (mm)" not in page
    words_ = masks(tmp_path, "0.1")
    table = tmp_path / "manifest.csv"
    table.write_text(table.read_text(encoding="utf-8").removesuffix("0.1"), encoding="utf-8")
    capsys.readouterr()
    assert main(words_) == 2
    assert "line 4: found a truth without a spacing, unlike the first one" in capsys.readouterr().err


def test_a_report_may_be_the_truth(folder: Path) -> None:
    """The same report as truth and as prediction: Dice 1."""
    run = run_folder(folder / "run")
    [report] = [p for p in run.rglob("*.dcm") if dcmread(p, stop_before_pixels=True).Modality == "SR"]
    head = "case_id,patient_id,site,prediction,truth,image,image_uid"
    image_uid = dcmread(folder / "seen.dcm", force=True).SOPInstanceUID
    dataset = wrap(np.zeros((60, 80), np.uint8), None, "A", "p", 1, "BREAST", "RGB")
    shape = (int(dataset.Rows), int(dataset.Columns))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = image_uid
    (folder / "image.dcm").write_bytes(file_bytes(dataset))
    name = report.relative_to(folder).as_posix()
    line = f"c,p,A,{name},{name},image.dcm,{image_uid}"
    (folder / "manifest.csv").write_text(f"{head}\n{line}\n", encoding="utf-8")
    [row] = read_rows(folder / "manifest.csv", ("truth", "prediction"))
    truth = read_truth(Sources(folder, folder), row)
    assert truth.array.shape == shape
    prediction = read_prediction(Sources(folder, folder), row, truth)
    assert truth.array.any()
    np.testing.assert_array_equal(prediction.array, truth.array > 0)


def table_with_remarks(folder: Path) -> list[str]:
    """The words that score a table with an unknown column, a site in two spellings and training rows beside others."""
    rows = [f"c{k},p{k},{'Aachen' if k % 2 else 'aachen'},{'train' if k < 4 else 'test'},0.{k + 10},{k % 4 // 2},x"
            for k in range(24)]  # fmt: skip
    head = "case_id,patient_id,site,split,prediction,truth,ward"
    (folder / "remarked.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    table = str(folder / "remarked.csv")
    return ["evaluate", "classification", "--manifest", table, "--out", str(folder / "o"), "--resamples", "100"]


REMARKS = (
    "manifest remarked.csv: not used are the columns ward",
    f"manifest remarked.csv: site 'aachen' and 'Aachen' {NEARLY_ONE}; they count as different",
    "manifest remarked.csv: holds the splits test (20), train (4); taken is all, 24 of 24 rows",
)


def test_what_a_table_left_to_assume_stands_beside_its_figures(folder: Path) -> None:
    """And goes on with them where files are merged."""
    assert main([*table_with_remarks(folder), "--split", "all"]) == 0
    record = folder / "o" / "metrics.json"
    assert EvaluationResult.from_json(record.read_text(encoding="utf-8")).remarks == REMARKS
    page = (folder / "o" / "index.html").read_text(encoding="utf-8")
    section = page[page.index('id="remarks"') : page.index('id="figures"')]
    assert section.count("<li>") == 3
    assert "not used are the columns ward" in section
    assert main(["merge-results", str(record), "--out", str(folder / "m")]) == 0
    merged = EvaluationResult.from_json((folder / "m" / "metrics.json").read_text(encoding="utf-8"))
    assert merged.remarks[:3] == REMARKS
    assert merged.remarks[3].startswith("site 'Aachen' and 'aachen' differ")


def test_of_remarks_their_number_alone_leaves_with_aggregates(folder: Path) -> None:
    """A remark may name a patient, as the one on spellings does."""
    assert main([*table_with_remarks(folder), "--split", "all", "--aggregates"]) == 0
    record = EvaluationResult.from_json((folder / "o" / "metrics.json").read_text(encoding="utf-8"))
    assert record.remarks == ("3 remarks on the table and its files are kept where its rows are",)
    assert main(["merge-results", str(folder / "o" / "metrics.json"), "--out", str(folder / "m")]) == 0
    merged = EvaluationResult.from_json((folder / "m" / "metrics.json").read_text(encoding="utf-8"))
    assert merged.remarks[0] == record.remarks[0]


def test_a_cut_mask_is_named_once_in_the_record(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    soft = np.zeros((40, 40), np.uint8)
    soft[10:20, 10:20], soft[9, 10:20] = 255, 100
    Picture.fromarray(soft).save(folder / "soft.png")
    rows = [f"c{k},p{k},A,soft.png,soft.png" for k in range(3)]
    (folder / "t.csv").write_text("\n".join(["case_id,patient_id,site,prediction,truth", *rows]), encoding="utf-8")
    assert main(["evaluate", "segmentation", "--manifest", str(folder / "t.csv"), "--out", str(folder / "o"),
                 "--label", "lesion=255", "--resamples", "100"]) == 0  # fmt: skip
    remarks = EvaluationResult.from_json((folder / "o" / "metrics.json").read_text(encoding="utf-8")).remarks
    assert remarks[0] == "soft.png: found 2 shades of grey, so it was cut at half of the highest, 127.5"
    assert len(remarks) == len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("column", "words", "told"),
    [
        (["malignant", "benign", "Malignant"], ["--positive", "kind=malignant"], "found 'malignant' and 'Malignant'"),
        (["test", "train", "Test"], ["--positive", "truth=1", "--split", "test"], "'test' and 'Test'"),
        (["X", "Y", "y"], ["--subgroup", "Kind"], "missing ['Kind']"),
    ],
)
def test_what_is_named_and_spelt_otherwise_is_refused(
    column: list[str], words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would leave a third of the rows on the wrong side without a word."""
    name = "split" if "--split" in words else "kind"
    rows = [f"c{k},p{k},A,0.{k + 10},{k % 2},{column[k % 3]}" for k in range(24)]
    head = f"case_id,patient_id,site,prediction,truth,{name}"
    (folder / "t.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    scored = ["evaluate", "classification", "--manifest", str(folder / "t.csv"), "--out", str(folder / "o")]
    assert main([*scored, *words]) == 2
    assert told in capsys.readouterr().err
    assert not (folder / "o").exists()
