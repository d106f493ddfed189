"""`imaging evaluate` on files: every bad prediction is a failed case that counts, every bad truth a clear error."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.commands import evaluate, main, merge_results, scoring
from imaging.data.marks import Mask
from imaging.data.predicted import predicted_findings, read_results
from imaging.dicom.results.read import ReadReport, read_result
from imaging.errors import ConfigError, GeometryError, InputError
from imaging.evaluation.matching import HitRule, match_masks
from imaging.evaluation.result import EvaluationResult
from imaging.exam.result import ExamRating
from imaging.image import Grid, Origin, SourceRef
from imaging.image import Image as PlacedImage
from imaging.report.kind import Subject
from imaging.report.write import GENERAL, ON_REQUEST, write_documents
from tests.report_cases import CONTENT_TIME, RATED, case, source

Line = dict[str, str]


def run(folder: Path, task: str, lines: list[Line], *more: str) -> tuple[int, EvaluationResult]:
    """The exit status and the record of one evaluation of the files in `folder`."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, names)
        table.writeheader()
        table.writerows(lines)
    parser = argparse.ArgumentParser()
    evaluate.register(parser.add_subparsers())
    words = ["evaluate", task, "--predictions", str(folder), "--truth", str(folder), "--out", str(folder / "out")]
    args = parser.parse_args([*words, "--manifest", str(folder / "cases.csv"), "--resamples", "100", *more])
    status: int = args.run(args)
    return status, EvaluationResult.from_json((folder / "out" / "metrics.json").read_text(encoding="utf-8"))


def line(name: str, prediction: str, truth: str, **more: str) -> Line:
    return {"case_id": name, "patient_id": name, "site": "a", "prediction": prediction, "truth": truth, **more}


def save(path: Path, array: np.ndarray, spacing: float = 1.0) -> None:
    nib.save(nib.Nifti1Image(array, np.diag([spacing, spacing, 3.0, 1.0])), path)


def volume(*boxes: tuple[int, float]) -> np.ndarray:
    """16 × 16 × 6 with boxes of 4 × 4 × 3 that begin at a row, and their value."""
    drawn = np.zeros((16, 16, 6), np.float32)
    for row, value in boxes:
        drawn[row : row + 4, 4:8, 1:4] = value
    return drawn


def test_detection_on_volumes_with_every_kind_of_bad_prediction(tmp_path: Path) -> None:
    save(tmp_path / "truth.nii.gz", volume((2, 1)))
    save(tmp_path / "empty.nii.gz", volume())
    save(tmp_path / "hit.nii.gz", volume((3, 0.8)))
    np.savez(tmp_path / "false.npz", volume((9, 0.4)).T)
    save(tmp_path / "spacing.nii.gz", volume((2, 0.8)), spacing=2.0)
    save(tmp_path / "smaller.nii.gz", volume((2, 0.8))[:8])
    save(tmp_path / "logits.nii.gz", volume((2, 3.5)))
    (tmp_path / "broken.nii.gz").write_bytes(b"not an image")
    lines = [
        line("hit", "hit.nii.gz", "truth.nii.gz"),
        line("false", "false.npz", "empty.nii.gz"),
        line("biopsy", "empty.nii.gz", "empty.nii.gz", case_truth="1"),
        line("missing", "", "truth.nii.gz"),
        line("gone", "gone.nii.gz", "truth.nii.gz"),
        line("spacing", "spacing.nii.gz", "truth.nii.gz"),
        line("smaller", "smaller.nii.gz", "truth.nii.gz"),
        line("logits", "logits.nii.gz", "truth.nii.gz"),
        line("broken", "broken.nii.gz", "empty.nii.gz"),
    ]
    status, result = run(tmp_path, "detection", lines)
    assert status == 1
    assert [name for name, _ in result.failures] == ["broken", "gone", "logits", "missing", "smaller", "spacing"]
    why = dict(result.failures)
    assert "no prediction" in why["missing"]
    assert "the prediction's grid (6, 16, 16) with spacing (3.0, 2.0, 2.0) is not the truth's" in why["spacing"]
    assert "values from 0.0 to 3.5; allowed are 0 to 1" in why["logits"]
    rows = {case.case_id: case for case in result.detection}
    assert [x.is_true for x in rows["hit"].lesions] == [True]
    assert rows["hit"].lesions[0].overlap == pytest.approx(36 / 60)  # 3 of 4 rows shared: 36 of 60 voxels
    assert (rows["biopsy"].truth, rows["biopsy"].lesions) == (True, ())
    counts = result.pooled.figure("average_precision").counts
    assert (counts.n_total, counts.n_scored, counts.n_missed, counts.n_failed) == (6, 1, 5, 5)
    assert counts.n_false_positive_on_empty == 1


def test_candidates_are_cut_from_probabilities(tmp_path: Path) -> None:
    save(tmp_path / "truth.nii.gz", volume((2, 1)))
    ramp = volume((2, 0.8)) * np.linspace(0.5, 1, 16, dtype=np.float32)[:, None, None]
    save(tmp_path / "chance.nii.gz", ramp)
    status, result = run(tmp_path, "detection", [line("c", "chance.nii.gz", "truth.nii.gz")])
    assert (status, result.failures[0][1][:40]) == (1, "detection map: found several confidences")
    status, result = run(tmp_path, "detection", [line("c", "chance.nii.gz", "truth.nii.gz")], "--extract", "dynamic")
    assert status == 0
    assert result.detection[0].lesions[0].confidence == pytest.approx(float(ramp.max()))
    with pytest.raises(ConfigError, match="--extract: found 'clever'"):
        run(tmp_path, "detection", [line("c", "chance.nii.gz", "truth.nii.gz")], "--extract", "clever")


def test_segmentation_on_pictures(tmp_path: Path) -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[4:12, 4:12] = 255
    for name, mask in (("truth", truth), ("empty", 0 * truth), ("other", truth // 255 * 7)):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    lines = [
        line("same", "truth.png", "truth.png", spacing_mm="0.5", vendor="X"),
        line("missed", "empty.png", "truth.png", spacing_mm="0.5", vendor="X"),
        line("label", "other.png", "truth.png", spacing_mm="0.5", vendor="Y"),
        line("clean", "empty.png", "empty.png", spacing_mm="0.5", vendor="Y"),
    ]
    status, result = run(
        tmp_path, "segmentation", lines, "--label", "lesion=255", "--cap", "40", "--subgroup", "vendor"
    )
    assert status == 1
    assert "found labels [7]; allowed are [0, 255]" in dict(result.failures)["label"]
    dice, distance = (result.pooled.figure(f"lesion {name}") for name in ("dice", "hd95"))
    assert (dice.value, distance.value) == pytest.approx((1 / 3, 80 / 3))
    assert (dice.counts.n_missed, dice.counts.n_failed) == (2, 1)
    assert [(g.name, g.suppressed) for g in result.subgroups["vendor"]] == [("X", True), ("Y", True)]
    assert next(c for c in result.segmentation if c.case_id == "same").overlaps[0].truth_volume == pytest.approx(0.16)


def test_classification_from_the_table(tmp_path: Path) -> None:
    lines = [line(f"c{k}", f"{0.3 + 0.1 * (k % 5)}", str(k % 2)) for k in range(10)]
    lines += [line("word", "high", "1"), line("above", "1.5", "0"), line("none", "", "1")]
    status, result = run(tmp_path, "classification", lines)
    assert status == 1
    assert [name for name, _ in result.failures] == ["above", "none", "word"]
    assert result.pooled.figure("auroc").counts.n_failed == 3
    status, aggregates = run(tmp_path, "classification", lines, "--aggregates")
    assert (status, aggregates.classification, aggregates.failures) == (1, (), ())
    assert aggregates.pooled.figure("auroc").counts.n_failed is None
    with pytest.raises(ConfigError, match=r"case 'c', truth: found '2'; allowed are 0 and 1"):
        run(tmp_path, "classification", [line("c", "0.5", "2")])


def write_rated(folder: Path, finding: float | None, exam: float | None) -> str:
    """A study whose report rates one finding (None: nothing is found) and the examination; gives the folder's name."""
    subject = case("no-all" if finding is None else "yes-rated")
    told = replace(
        subject.result,
        algorithm=RATED,
        findings=tuple(replace(one, rating=finding) for one in subject.result.findings[:1]),
        rating=None if exam is None else ExamRating(exam, subject.result.analysed[0]),
    )
    folder.mkdir()
    for k, document in enumerate(write_documents(Subject(told, subject.sources, CONTENT_TIME))):
        (folder / f"{k}.dcm").write_bytes(document.data)
    return folder.name


def test_malignancy_from_the_ratings_of_dicom_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Malignant 0.9, 0.4 and a miss (0); benign 0.6 and 0.2, normal a miss (0): 5.5 of 9 pairs are in order."""
    told: list[tuple[str, str, float | None]] = [
        ("m1", "malignant", 0.9), ("m2", "malignant", 0.4), ("m3", "malignant", None),
        ("b1", "benign", 0.6), ("b2", "benign", 0.2), ("n1", "normal", None),
    ]  # fmt: skip
    lines = [line(name, write_rated(tmp_path / name, score, None), "-", label=label) for name, label, score in told]
    status, result = run(tmp_path, "classification", lines, "--positive", "label=malignant")
    said = capsys.readouterr().out
    assert (status, result.failures) == (0, ())
    assert {c.case_id: c.score for c in result.classification} == {
        "m1": 0.9, "m2": 0.4, "m3": 0.0, "b1": 0.6, "b2": 0.2, "n1": 0.0,
    }  # fmt: skip
    assert [c.case_id for c in result.classification if c.truth] == ["m1", "m2", "m3"]
    auroc = result.pooled.figure("auroc")
    assert (auroc.value, auroc.counts.n_scored, auroc.counts.n_failed) == (pytest.approx(5.5 / 9), 6, 0)
    assert "no finding, scored 0: 2 cases, 1 of them positive; all are in the figures" in said
    assert list(result.subgroups) == ["result"]


def test_the_examination_is_rated_also_where_nothing_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line("seen", write_rated(tmp_path / "seen", 0.9, 0.7), "1"),
        line("missed", write_rated(tmp_path / "missed", None, 0.3), "1"),
        line("clear", write_rated(tmp_path / "clear", None, 0.05), "0"),
        line("table", "0.5", "0"),
    ]
    status, result = run(tmp_path, "classification", lines)
    assert status == 0
    assert {c.case_id: round(c.score, 6) for c in result.classification} == {
        "seen": 0.7, "missed": 0.3, "clear": 0.05, "table": 0.5,
    }  # fmt: skip
    assert "no finding, examination rated: 2 cases, 1 of them positive" in capsys.readouterr().out


def test_results_that_rate_nothing_fail_and_another_image_is_not_taken(tmp_path: Path) -> None:
    a, b = (str(source(name).SOPInstanceUID) for name in "ab")
    write_rated(tmp_path / "rated", 0.9, 0.7)
    write_results(tmp_path / "demo", "yes-all")
    write_results(tmp_path / "unread", "unknown-some")
    write_results(tmp_path / "masks", "yes-all", keep=("SEG",))
    (tmp_path / "none").mkdir()
    lines = [line(name, name, "1") for name in ("demo", "unread", "masks", "none", "gone")]
    lines += [line("here", "rated", "1", image_uid=a), line("there", "rated", "0", image_uid=b)]
    status, result = run(tmp_path, "classification", lines)
    why = dict(result.failures)
    assert (status, sorted(why)) == (1, ["demo", "gone", "masks", "none", "unread"])
    assert "found 3 findings without a probability of cancer" in why["demo"]
    assert "no finding on this image, and 'Not all algorithms succeeded" in why["unread"]
    assert "found 0 structured reports" in why["masks"]
    assert "found 0 DICOM files" in why["none"]
    assert "allowed is a number or a DICOM result" in why["gone"]
    assert {c.case_id: c.score for c in result.classification if not c.failed} == {"here": 0.7, "there": 0.0}


def test_two_packages_are_compared_by_their_results_and_classes_must_be_told(tmp_path: Path) -> None:
    for k, score in enumerate((0.2, 0.9, 0.3, 0.6, 0.1, 0.8)):
        write_rated(tmp_path / f"c{k}", score, None)
        (tmp_path / "other").mkdir(exist_ok=True)
        write_rated(tmp_path / "other" / f"c{k}", 1 - score, None)
    lines = [line(f"c{k}", f"c{k}", str(k % 2), label=("benign", "malignant")[k % 2]) for k in range(6)]
    _, result = run(tmp_path, "classification", lines, "--compare", str(tmp_path / "other"))
    assert result.comparison is not None
    auroc = next(one for one in result.comparison.differences if one.name == "auroc")
    assert (auroc.first, auroc.second) == (1.0, 0.0)
    with pytest.raises(ConfigError, match="found the classes benign, malignant; allowed is one of them"):
        run(tmp_path, "classification", lines, "--positive", "label=malignent")
    with pytest.raises(ConfigError, match=r"line 1: found columns .*'label'\]; missing \['birads'\]"):
        run(tmp_path, "classification", lines, "--positive", "birads=5")
    with pytest.raises(ConfigError, match="--positive: found 'malignant'; allowed is COLUMN=CLASS"):
        run(tmp_path, "classification", lines, "--positive", "malignant")


def test_tables_that_are_wrong_stop(tmp_path: Path) -> None:
    save(tmp_path / "t.nii.gz", volume())
    good = line("c", "t.nii.gz", "t.nii.gz")
    with pytest.raises(ConfigError, match="case_id: found 'c' of site 'a' 2 times"):
        run(tmp_path, "detection", [good, good])
    with pytest.raises(ConfigError, match=r"line 2: no value for \['site'\]"):
        run(tmp_path, "detection", [good | {"site": ""}])
    with pytest.raises(ConfigError, match=r"missing \['truth'\]"):
        run(tmp_path, "detection", [{k: v for k, v in good.items() if k != "truth"}])
    with pytest.raises(ConfigError, match="case_truth is 'yes'; allowed is 0, 1 or nothing"):
        run(tmp_path, "detection", [good | {"case_truth": "yes"}])
    with pytest.raises(ConfigError, match="found 0 rows of split 'test'"):
        run(tmp_path, "detection", [good | {"split": "train"}], "--split", "test")
    with pytest.raises(InputError, match=r"case 'c', there is no file 'gone\.nii'"):
        run(tmp_path, "detection", [good | {"truth": "gone.nii"}])
    with pytest.raises(ConfigError, match="--label: found 'lesion'"):
        run(tmp_path, "segmentation", [good], "--label", "lesion")


def write_results(folder: Path, name: str, keep: tuple[str, ...] = ("SR", "SEG")) -> Path:
    subject = case(name)
    folder.mkdir()
    about = Subject(subject.result, subject.sources, CONTENT_TIME, still_segmentations=True)
    for k, document in enumerate(write_documents(about)):
        kind = "SR" if isinstance(read_result(document.data), ReadReport) else "SEG"
        if kind in keep:
            (folder / f"{k}.dcm").write_bytes(document.data)
    return folder


def findings_on(folder: Path, image_uid: str, shape: tuple[int, int]) -> list[tuple[Mask, float]]:
    """What the results in a folder find on one image of this shape."""
    refs = (SourceRef("", "", "", image_uid),) if image_uid else ()
    grid = Grid.plane(*shape)
    image = PlacedImage(np.zeros((1, *shape), np.uint8), grid, grid, refs, Origin())
    return predicted_findings(read_results([folder]), image)


def test_results_in_dicom_are_scored_image_by_image(tmp_path: Path) -> None:
    """Image a holds two lesions that overlap (89 and 90 pixels), image b one."""
    folder = write_results(tmp_path / "study", "yes-all")
    a, b = (str(source(name).SOPInstanceUID) for name in "ab")
    found = findings_on(folder, a, (60, 80))
    assert [(int(mask.sum()), round(score, 4)) for mask, score in found] == [(89, 0.9123), (90, 0.9123)]
    truth = np.zeros((60, 80), np.uint8)
    truth[20:28, 30:42] = 1
    lesions = match_masks(found, truth)
    # 89 of 96 pixels; the other finding, four pixels off both ways, shares 32 − 0 of 154 and is dropped.
    assert [(x.is_true, x.overlap) for x in lesions] == [(True, pytest.approx(89 / 96))]
    assert [x.is_true for x in match_masks(found, truth, HitRule("centre_in_box"))] == [True]
    assert len(findings_on(folder, b, (60, 80))) == 1
    with pytest.raises(InputError, match="found findings on 2 images; name the image"):
        findings_on(folder, "", (60, 80))
    with pytest.raises(GeometryError, match=r"found \(60, 80\) pixels; its image has 50 × 80"):
        findings_on(folder, a, (50, 80))


def test_outlines_alone_give_the_same_masks_as_segments(tmp_path: Path) -> None:
    """An outline goes around its hole of one pixel."""
    with_segments = findings_on(write_results(tmp_path / "both", "uncalibrated"), "", (60, 80))
    outlined = findings_on(write_results(tmp_path / "sr", "uncalibrated", keep=("SR",)), "", (60, 80))
    assert outlined[0][1] == with_segments[0][1]
    np.testing.assert_array_equal(outlined[0][0], with_segments[0][0])
    assert not outlined[0][0][4, 6]


def test_a_readable_report_beside_results_is_passed_over(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "study", "uncalibrated")
    alone = findings_on(folder, "", (60, 80))
    subject = case("uncalibrated")
    kinds = (*GENERAL, *ON_REQUEST.values())
    document = write_documents(Subject(subject.result, subject.sources, CONTENT_TIME), kinds)[-1]
    assert document.kind == "pdf"
    (folder / "pdf.dcm").write_bytes(document.data)
    assert [score for _, score in findings_on(folder, "", (60, 80))] == [score for _, score in alone]
    with pytest.raises(InputError, match="allowed are structured reports and segmentations"):
        findings_on(folder / "pdf.dcm", "", (60, 80))


def test_an_unread_image_is_a_failure_and_a_clean_one_is_not(tmp_path: Path) -> None:
    assert findings_on(write_results(tmp_path / "clean", "no-all"), "", (60, 80)) == []
    with pytest.raises(InputError, match="no finding on this image, and 'Not all algorithms succeeded"):
        findings_on(write_results(tmp_path / "unread", "unknown-some"), "", (60, 80))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="found 0 DICOM files"):
        findings_on(tmp_path / "none", "", (60, 80))


def test_studies_and_masks_through_the_command(tmp_path: Path) -> None:
    write_results(tmp_path / "found", "uncalibrated")
    write_results(tmp_path / "unread", "unknown-none")
    truth = np.zeros((60, 80), np.uint8)
    truth[0:8, 0:12] = 1
    Image.fromarray(truth).save(tmp_path / "truth.png")
    lines = [line("found", "found", "truth.png"), line("unread", "unread", "truth.png")]
    status, result = run(tmp_path, "segmentation", lines)
    assert (status, [name for name, _ in result.failures]) == (1, ["unread"])
    assert result.pooled.figure("lesion dice").value == pytest.approx((2 * 89 / (89 + 96)) / 2)
    status, result = run(tmp_path, "detection", lines, "--hit", "centre_distance", "--least", "3")
    assert result.protocol["hit_rule"] == "centres at most 3 apart"
    assert [x.confidence for x in result.detection[0].lesions] == [pytest.approx(0.9123)]


def test_files_of_two_hospitals_merge_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    merge_results.register(parser.add_subparsers())
    lines = [line(f"c{k}", f"{0.3 + 0.04 * (k % 7)}", str(k % 2)) | {"site": "ab"[k % 3 > 0]} for k in range(24)]
    files = []
    for site in "ab":
        (tmp_path / site).mkdir()
        run(tmp_path / site, "classification", [one for one in lines if one["site"] == site])
        files.append(tmp_path / site / "out" / "metrics.json")
    names = [str(file) for file in files]
    words = ["merge-results", *names, "--out", str(tmp_path / "merged")]
    with pytest.raises(ConfigError, match="they must be equal, or each be approved by --manifest"):
        merge_results.run(parser.parse_args(words))
    approved = [EvaluationResult.from_json(file.read_text()).inputs.manifest for file in files]
    words += [word for sha in approved for word in ("--manifest", sha)]
    assert merge_results.run(parser.parse_args(words)) == 0
    merged = EvaluationResult.from_json((tmp_path / "merged" / "metrics.json").read_text())
    _, pooled = run(tmp_path, "classification", lines)
    assert (merged.pooled, merged.sites, merged.macro) == (pooled.pooled, pooled.sites, pooled.macro)
    assert capsys.readouterr().err == ""
    files[1].write_text(files[0].read_text().replace('"site": "a"', '"site": "b"'))
    assert merge_results.run(parser.parse_args(words)) == 0
    assert "8 of 8 rows of the sites 'a' and 'b' are equal in case, patient, truth" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("no record")
    with pytest.raises(ConfigError, match=r"notes\.txt: metrics\.json: JSONDecodeError"):
        merge_results.run(parser.parse_args(["merge-results", str(tmp_path / "notes.txt"), "--out", "x"]))


def all_missed(folder: Path) -> Path:
    """A table of two sites whose predictions find nothing."""
    truth = np.zeros((16, 16), dtype=np.uint8)
    truth[4:8, 4:8] = 1
    Image.fromarray(truth).save(folder / "truth.png")
    Image.fromarray(truth * 0).save(folder / "none.png")
    rows = [f"c{k},p{k},{'AB'[k % 2]},none.png,truth.png" for k in range(6)]
    (folder / "cases.csv").write_text("\n".join(["case_id,patient_id,site,prediction,truth", *rows]), encoding="utf-8")
    return folder / "cases.csv"


def test_a_model_that_finds_nothing_anywhere_gets_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = all_missed(tmp_path)
    told = ["evaluate", "segmentation", "--manifest", str(table), "--out", str(tmp_path / "out"), "--resamples", "100"]
    assert main(told) == 0
    assert (tmp_path / "out" / "index.html").is_file()
    assert re.search(r"dice\S* +0\.000", capsys.readouterr().out)


def test_figures_outlive_a_page_that_cannot_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(scoring, "render", broken)
    table = all_missed(tmp_path)
    told = ["evaluate", "segmentation", "--manifest", str(table), "--out", str(tmp_path / "out"), "--resamples", "100"]
    assert main(told) == 70
    streams = capsys.readouterr()
    assert "6 cases, 0 failed" in streams.out
    assert "page     not drawn; the figures are kept in" in streams.err
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_which_of_several_classes_is_asked_and_said(tmp_path: Path) -> None:
    """Maps as nnU-Net stores them: class 1 is the gland everywhere, class 2 the lesion."""
    truth, chance = volume((2, 1)).T, np.zeros((3, 6, 16, 16), np.float32)
    chance[1], chance[2] = 0.5, volume((2, 0.8)).T
    np.savez(tmp_path / "truth.npz", truth)
    np.savez(tmp_path / "named.npz", probabilities=chance)
    np.save(tmp_path / "bare.npy", chance)
    np.savez(tmp_path / "two.npz", softmax=np.stack([1 - chance[2], chance[2]]))
    save(tmp_path / "plain.nii.gz", volume((2, 0.8)))
    for name in ("named.npz", "bare.npy"):
        lines = [line("c", name, "truth.npz")]
        with pytest.raises(
            ConfigError, match=f"case 'c': {name}: found probabilities of 3 classes.* with --channel, 1"
        ):
            run(tmp_path, "detection", lines)
        status, result = run(tmp_path, "detection", lines, "--channel", "2")
        assert (status, result.detection[0].lesions[0].confidence) == (0, pytest.approx(0.8))
    assert run(tmp_path, "detection", [line("c", "two.npz", "truth.npz")])[1].detection[0].score == pytest.approx(0.8)
    for found, name in ((r"allowed are 0 to 2", "named.npz"), (r"plain.nii.gz has no classes", "plain.nii.gz")):
        with pytest.raises(ConfigError, match=found):
            run(tmp_path, "detection", [line("c", name, "truth.npz")], "--channel", "3")
    with pytest.raises(ConfigError, match="--channel: found -1"):
        run(tmp_path, "detection", [line("c", "named.npz", "truth.npz")], "--channel", "-1")


def test_without_named_classes_whatever_is_not_0_is_one_class(tmp_path: Path) -> None:
    """Masks of 0 and 255, and lesions numbered 1 and 2, as trainings take them: 32 of 48 pixels are found."""
    truth, found = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[2:6, 2:10], truth[10:14, 2:6], found[2:6, 2:10] = 1, 2, 255
    for name, mask in (("truth", truth), ("found", found)):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    status, result = run(tmp_path, "segmentation", [line("c", "found.png", "truth.png")])
    assert status == 0
    assert result.pooled.figure("lesion dice").value == pytest.approx(2 * 32 / (32 + 48))
    assert "truths: the values 1, 2 count as one class, lesion; name classes by --label" in result.remarks


def test_long_work_shows_how_far_it_is_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "truth.nii.gz", volume((2, 1)))
    lines = [line("c", "truth.nii.gz", "truth.nii.gz")]
    run(tmp_path, "detection", lines)
    assert "case" not in capsys.readouterr().err
    monkeypatch.setattr(scoring, "_MOMENT_S", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run(tmp_path, "detection", lines)
    assert "0/1" in capsys.readouterr().err
