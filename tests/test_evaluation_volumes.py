"""`imaging evaluate` on volumes: maps in any axis order, distances in mm by anisotropic steps, SEG by position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from imaging.commands.evaluation_inputs import Sources, read_prediction
from imaging.data.images import read_image
from imaging.data.manifest import read_rows
from imaging.data.maps import Map
from imaging.data.marks import Mask
from imaging.data.predicted import predicted_findings, read_results
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadFinding, ReadReport
from imaging.errors import GeometryError, InputError
from imaging.image import Array, Floats, Image
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from tests.report_cases import CONTENT_TIME, case
from tests.test_data_images import POSES, lps_affine, write_mha, write_nifti
from tests.test_data_truth import item, segmentation
from tests.test_evaluation_command import line, run

SHAPE = (8, 12, 16)
LPS = lps_affine(POSES["oblique"])  # steps of 3 (slice), 2 (row) and 0.5 mm (column)


def box(slice_: int, row: int, column: int, value: float = 1.0) -> Array:
    """3 × 4 × 4 voxels from this one on."""
    drawn = np.zeros(SHAPE, np.float32)
    drawn[slice_ : slice_ + 3, row : row + 4, column : column + 4] = value
    return drawn


def turned(values: Array) -> tuple[Array, Floats]:
    """The same voxels, stored from the last slice and the last column on."""
    back = np.array([[-1.0, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]])
    return np.ascontiguousarray(values[::-1, :, ::-1]), LPS @ back


def test_overlap_and_distances_of_volumes_in_mm(tmp_path: Path) -> None:
    """One step along an axis moves a face of 12 or 16 of at most 44 surface voxels, so HD95 is that axis' step."""
    write_nifti(tmp_path / "truth.nii.gz", box(2, 4, 5).astype(np.uint8), LPS)
    for name, values in (("slice", box(3, 4, 5)), ("row", box(2, 5, 5)), ("column", box(2, 4, 6))):
        write_mha(tmp_path / f"{name}.mha", *turned(values.astype(np.uint8)))
    lines = [line(name, f"{name}.mha", "truth.nii.gz") for name in ("slice", "row", "column")]
    status, result = run(tmp_path, "segmentation", lines)
    assert (status, result.failures) == (0, ())
    scores = {one.case_id: one.overlaps[0] for one in result.segmentation}
    assert {name: (one.dice, one.hd95) for name, one in scores.items()} == {
        "slice": (pytest.approx(2 * 32 / 96), pytest.approx(3.0)),
        "row": (pytest.approx(0.75), pytest.approx(2.0)),
        "column": (pytest.approx(0.75), pytest.approx(0.5)),
    }
    assert scores["row"].truth_volume == pytest.approx(48 * 3.0 / 1000)  # mL


def test_a_prediction_elsewhere_in_the_patient_fails(tmp_path: Path) -> None:
    """As many voxels of one size: less than a hundredth of a voxel aside is the same place, a tenth is another."""
    write_nifti(tmp_path / "truth.nii.gz", box(2, 4, 5).astype(np.uint8), LPS)
    for name, part in (("near", 0.002), ("far", 0.1)):
        aside = LPS.copy()
        aside[:3, 3] += part * LPS[:3, 1]
        write_nifti(tmp_path / f"{name}.nii.gz", box(2, 4, 5).astype(np.uint8), aside)
    lines = [line(name, f"{name}.nii.gz", "truth.nii.gz") for name in ("near", "far")]
    status, result = run(tmp_path, "segmentation", lines)
    assert (status, [name for name, _ in result.failures]) == (1, ["far"])
    assert "is not the truth's (8, 12, 16) with spacing" in result.failures[0][1]


def test_lesions_are_found_in_probability_maps_by_site(tmp_path: Path) -> None:
    """Ten men of each kind. Site a: all lesions, above false ones of 0.4. Site b: one of two. So 2 of 3 in all."""
    bump = box(2, 4, 5) * np.linspace(0.6, 1.0, SHAPE[2], dtype=np.float32)
    maps = {"a1": 0.9 * bump, "a2": 0.4 * bump, "b1": 0.7 * bump, "b2": 0.0 * bump, "b3": 0.0 * bump}
    lines = []
    for name, values in maps.items():
        truth = 0.0 * bump if name in ("a2", "b2") else box(3, 4, 5)
        write_nifti(tmp_path / f"{name}_truth.nii.gz", truth.astype(np.uint8), LPS)
        write_mha(tmp_path / f"{name}.mha", *turned(values.astype(np.float32)))
        files = (f"{name}.mha", f"{name}_truth.nii.gz")
        lines += [line(f"{name}-{man}", *files) | {"site": name[0]} for man in range(10)]
    status, result = run(tmp_path, "detection", lines, "--extract", "dynamic")
    assert (status, result.failures) == (0, ())
    cases = {one.case_id: one for one in result.detection}
    [hit] = cases["a1-0"].lesions
    assert (hit.is_true, hit.overlap) == (True, pytest.approx(32 / 64))
    assert hit.confidence == pytest.approx(float(maps["a1"].max()))
    assert [one.is_true for one in cases["a2-0"].lesions] == [False]
    assert [(one.is_true, one.confidence) for one in cases["b3-0"].lesions] == [(True, 0.0)]
    assert result.pooled.figure("average_precision").value == pytest.approx(2 / 3)
    by_site = {site.name: site.figure("average_precision") for site in result.sites}
    assert {name: figure.value for name, figure in by_site.items()} == {
        "a": pytest.approx(1.0),
        "b": pytest.approx(0.5),
    }


TRACKED = "1.2.3.77"


def seg(path: Path, mask: Array, affine: Floats = LPS, category: str = "49755003", uid: str = TRACKED) -> Path:
    """A SEG with a frame for each slice that is not empty; a morphologically abnormal structure unless said."""
    frames = [(number, plane > 0) for number, plane in enumerate(mask) if plane.any()]
    dataset = dcmread(segmentation(path, frames, affine))
    code = item(CodeValue=category, CodingSchemeDesignator="SCT", CodeMeaning="any")
    dataset.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence = [code]
    dataset.SegmentSequence[0].TrackingUID = uid
    dataset.save_as(path)
    return path


def truth_map(path: Path, mask: Array) -> Image:
    return read_image(write_nifti(path, mask.astype(np.uint8), LPS))


def findings_in(path: Path, truth: Image) -> list[tuple[Mask, float]]:
    return predicted_findings(read_results([path]), truth)


def test_segments_of_findings_are_placed_by_position_and_structures_are_none(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    seg(tmp_path / "study" / "lesion.dcm", box(3, 4, 5))
    seg(tmp_path / "study" / "gland.dcm", box(1, 1, 1), category="123037004", uid="1.2.3.78")
    found = findings_in(tmp_path / "study", truth_map(tmp_path / "truth.nii.gz", box(2, 4, 5)))
    [(mask, confidence)] = found
    assert confidence == 1.0
    assert np.array_equal(mask, box(3, 4, 5) > 0)
    lines = [line("c", "study", "truth.nii.gz")]
    _, result = run(tmp_path, "segmentation", lines)
    assert result.segmentation[0].overlaps[0].dice == pytest.approx(2 * 32 / 96)
    _, result = run(tmp_path, "detection", lines)
    assert [(one.is_true, one.overlap) for one in result.detection[0].lesions] == [(True, pytest.approx(0.5))]


def scored(uid: str, score: float | None) -> ReadReport:
    """A report of one finding."""
    subject = case("yes-all")
    documents = [
        read_result(one.data) for one in write_documents(Subject(subject.result, subject.sources, CONTENT_TIME))
    ]
    report = next(one for one in documents if isinstance(one, ReadReport))
    finding: ReadFinding = replace(report.findings[0], tracking_uid=uid, score=score)
    return replace(report, findings=(finding,))


def test_a_segment_has_the_score_of_its_finding(tmp_path: Path) -> None:
    """The report is a record here: volumes are reported by their segments' tracking UIDs alone."""
    path = seg(tmp_path / "lesion.dcm", box(3, 4, 5))
    truth = truth_map(tmp_path / "truth.nii.gz", box(2, 4, 5))
    told = replace(read_results([path]), reports=(scored(TRACKED, 0.37),))
    assert [confidence for _, confidence in predicted_findings(told, truth)] == [0.37]
    other = replace(told, reports=(scored("1.2.3.99", 0.37),))
    with pytest.raises(
        InputError, match=r"1 findings have no segment, first 1\.2\.3\.99; allowed is a segment of each"
    ):
        predicted_findings(other, truth)


def test_results_that_do_not_lie_on_the_volume(tmp_path: Path) -> None:
    truth = truth_map(tmp_path / "truth.nii.gz", box(2, 4, 5))
    coarse = seg(tmp_path / "coarse.dcm", box(3, 4, 5), LPS @ np.diag([1.0, 1.0, 2.0, 1.0]))
    with pytest.raises(GeometryError, match=r"3 × 2 × 1 mm.*its image has .* 3 × 2 × 0.5 mm"):
        findings_in(coarse, truth)
    unplaced = dcmread(seg(tmp_path / "unplaced.dcm", box(3, 4, 5)))
    for group in unplaced.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    unplaced.save_as(tmp_path / "unplaced.dcm")
    with pytest.raises(InputError, match="neither a position nor an image with UIDs to lie on"):
        findings_in(tmp_path / "unplaced.dcm", truth)
    (tmp_path / "m.csv").write_text("case_id,patient_id,site,prediction,truth\nc,p,s,coarse.dcm,-\n", encoding="utf-8")
    [row] = read_rows(tmp_path / "m.csv", ("prediction",))
    with pytest.raises(InputError, match="has no place in the patient"):
        read_prediction(Sources(tmp_path, tmp_path), row, Map(box(2, 4, 5), (1.0, 1.0, 1.0)))


def test_real_zones_against_those_of_another_program(shared_data: Path, tmp_path: Path) -> None:
    """Two AI made zone maps of one man; the Dice of each zone as counted with nibabel alone."""
    given = shared_data / "prostate_mri" / "labels" / "prostatex_0001"
    names = ("zones_ai_heviai23", "zones_ai_yuan23")
    first, second = (np.asarray(nibabel.load(given / f"{name}.nii.gz").dataobj) for name in names)
    for name in names:
        (tmp_path / f"{name}.nii.gz").symlink_to(given / f"{name}.nii.gz")
    status, result = run(
        tmp_path, "segmentation", [line("c", f"{names[0]}.nii.gz", f"{names[1]}.nii.gz")], "--label", "PZ=1",
        "--label", "TZ=2",
    )  # fmt: skip
    assert status == 0
    for overlap, value in zip(result.segmentation[0].overlaps, (1, 2), strict=True):
        a, b = first == value, second == value
        assert overlap.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert overlap.hd95 is not None
        assert 0 < overlap.hd95 < 30
