"""Mammograms go in, results come out: every outcome of an exam, on phantoms and on real films."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import FileDataset, dcmread

from imaging.dicom.results.content_tree import Reference
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport
from imaging.extraction import place
from imaging.findings import Detections
from imaging.harmonise.spatial import grid_of
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.phantoms.mammography.dicom import mammogram
from imaging.phantoms.mammography.export import MammographyExam, planted
from imaging.phantoms.mammography.makers import MakerName
from imaging.phantoms.mammography.view import ViewAcquisition
from imaging.phantoms.ultrasound.dicom import Patient, file_bytes
from imaging.report.sr import codes
from tests.conftest import require_tool
from tests.judges import pixelmed, run_tool
from tests.mammograms import read
from tests.mammography_package import NOTHING, write_detector
from tests.test_infer import InProcess, infer, leaks, tree

PITCH_MM = 0.8
Json = dict[str, Any]
Change = Callable[[FileDataset], None]


@dataclass(frozen=True)
class Ran:
    """A run: its export, its output and what it says."""

    export: Path
    out: Path
    summary: Json

    @property
    def results(self) -> list[Json]:
        return [result for study in self.summary["studies"] for result in study["results"]]

    @property
    def result(self) -> Json:
        (result,) = self.results
        return result

    @property
    def files(self) -> dict[str, tuple[str, str | None]]:
        return {file["path"]: (file["state"], file["reason"]) for file in self.summary["files"]}

    def report(self, template: str, of: Json | None = None) -> ReadReport:
        """The SR (1500) or CAD SR (4000) of a result, from its bytes."""
        documents = [read_result(path.read_bytes()) for path in self.documents(of)]
        (found,) = [d for d in documents if isinstance(d, ReadReport) and d.template == template]
        return found

    def documents(self, of: Json | None = None) -> list[Path]:
        return [self.out / entry["path"] for entry in (of or self.result)["objects"]]


def exam(vendor: MakerName = "metaltronica", number: str = "0001", seed: int = 3) -> MammographyExam:
    patient = Patient(number, f"Probe^{number}", birth_date="19610203")
    return MammographyExam(vendor, patient, seed, planted(seed), pitch_mm=PITCH_MM)


def write(folder: Path, *views: ViewAcquisition, change: Change | None = None) -> list[Path]:
    """The views as files named 1, 2, ...; `change` alters each header before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for view in views:
        ds = mammogram(view)
        if change is not None:
            change(ds)
        paths.append(folder / f"{len(list(folder.iterdir())) + 1}.dcm")
        paths[-1].write_bytes(file_bytes(ds))
    return paths


def truncate(path: Path) -> None:
    """The last rows of the pixel data are gone."""
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that marks a few places on every view."""
    return write_detector(tmp_path_factory.mktemp("some")).folder


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that marks nothing."""
    return write_detector(tmp_path_factory.mktemp("nothing"), NOTHING).folder


@pytest.fixture(scope="module")
def yes(some: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """An exam with findings, in the processes that users have."""
    folder = tmp_path_factory.mktemp("yes")
    write(folder / "in", *exam().views)
    return Ran(folder / "in", folder / "out", infer(folder / "in", folder / "out", "--package", str(some)))


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without their processes, whose start costs seconds; `yes` ran with them."""
    request.getfixturevalue("yes")
    monkeypatch.setattr("imaging.inference.run.Processes", InProcess)


def run(tmp_path: Path, package: Path, *words: str, status: int = 0) -> Ran:
    """The folder `in` answered into the folder `out`."""
    export, out = tmp_path / "in", tmp_path / "out"
    return Ran(export, out, infer(export, out, "--package", str(package), *words, status=status))


# -- Outcomes ----------------------------------------------------------------------------------------------------------


def test_an_exam_with_findings_is_answered_in_four_views(yes: Ran) -> None:
    told = yes.result
    assert (told["finding"], told["completeness"], told["analysed"], told["unread"]) == ("yes", "all", 4, [])
    assert sorted(told["views"].values()) == ["L CC", "L MLO", "R CC", "R MLO"]
    assert set(yes.files.values()) == {("used", None)}
    assert {f["label"] for f in told["findings"]} == {"mass"}
    assert {f["area_mm2"] for f in told["findings"]} == {None}
    assert len(told["previews"]) == len({f["source_sop_uid"] for f in told["findings"]}) == 4
    assert [e["path"].split("/")[-1].split("-")[0] for e in told["objects"]] == ["sr", "cad"]


def test_scores_are_those_of_the_lesions(yes: Ran) -> None:
    """1 - (1 - a)(1 - b) of a pair; of breast and exam the highest of pairs and of findings that stand alone."""
    told = yes.result
    scores, sides = (
        [f["score"] for f in told["findings"]],
        [told["views"][f["source_sop_uid"]][0] for f in told["findings"]],
    )
    paired = [member for one in told["composites"] for member in one["members"]]
    lesions = [(one["laterality"], one["score"]) for one in told["composites"]]
    lesions += [(sides[k], scores[k]) for k in range(len(scores)) if k not in paired]
    assert told["composites"]
    for one in told["composites"]:
        a, b = (scores[member] for member in one["members"])
        assert one["score"] == pytest.approx(1 - (1 - a) * (1 - b), abs=2e-4)
    for side in "LR":
        assert told["scores"]["breasts"][side] == max(score for own, score in lesions if own == side)
    assert told["scores"]["exam"] == max(score for _, score in lesions)
    assert told["scores"]["recall"] is (told["scores"]["exam"] >= told["scores"]["operating_point"]) is True


def test_a_pair_is_one_lesion_in_summary_reports_and_page(yes: Ran) -> None:
    told, cad, page = yes.result, yes.report("4000"), (yes.out / "index.html").read_text(encoding="utf-8")
    general = yes.report("1500")
    assert len(cad.composites) == len(told["composites"]) > 0
    by_tracking = {f.tracking_uid: number for number, f in enumerate(general.findings)}
    for composite, stated in zip(told["composites"], cad.composites, strict=True):
        first, second = (told["findings"][member] for member in composite["members"])
        views = [told["views"][f["source_sop_uid"]] for f in (first, second)]
        side = composite["laterality"]
        assert sorted(views) == [f"{side} CC", f"{side} MLO"]
        assert tuple(by_tracking[cad.findings[m].tracking_uid] for m in stated.members) == tuple(composite["members"])
        assert stated.score == pytest.approx(composite["score"], abs=1e-4)
        assert f"One lesion with finding {composite['members'][1] + 1}, score {composite['score']:.2f}" in page
        word = {"L": "left", "R": "right"}[side]
        assert any(f"one lesion of the {word} breast, score {composite['score']:.4f}" in c for c in general.comments)
    for words in ("Recall", "R MLO", "L CC"):
        assert words in page


def test_nothing_found_in_four_views_is_no(tmp_path: Path, nothing: Path) -> None:
    write(tmp_path / "in", *exam().views)
    ran = run(tmp_path, nothing)
    told = ran.result
    assert (told["finding"], told["completeness"], told["analysed"]) == ("no", "all", 4)
    assert (told["findings"], told["composites"]) == ([], [])
    assert told["scores"] == {"exam": 0.0, "breasts": {"L": 0.0, "R": 0.0}, "operating_point": 0.5, "recall": False}
    assert len(told["previews"]) == 4
    for template in ("1500", "4000"):
        report = ran.report(template)
        assert (report.outcome, report.detections) == (codes.OUTCOMES["no", "all"], codes.SUCCEEDED)
        assert (report.completion, report.findings) == ("COMPLETE", ())


@pytest.mark.parametrize(("operating_point", "recall"), [(0.5, True), (0.9999, None)])
def test_a_corrupt_view_leaves_the_exam_partly_read(
    operating_point: float, recall: bool | None, tmp_path: Path
) -> None:
    """A recall stands on what was read; that there is none cannot."""
    *_, left_oblique = write(tmp_path / "in", *exam().views)
    truncate(left_oblique)
    package = write_detector(tmp_path / "package", operating_point=operating_point)
    ran = run(tmp_path, package.folder)
    told = ran.result
    assert (told["finding"], told["completeness"], told["analysed"]) == ("yes", "some", 3)
    assert [entry["reason"] for entry in told["unread"]] == ["pixel_data_too_short"]
    assert ran.files["4.dcm"] == ("refused", "pixel_data_too_short")
    assert told["scores"]["recall"] is recall
    for template in ("1500", "4000"):
        report = ran.report(template)
        assert (report.outcome, report.detections) == (codes.OUTCOMES["yes", "some"], codes.PARTIALLY_SUCCEEDED)
        assert report.completion == "PARTIAL"


def test_nothing_found_beside_a_corrupt_view_is_unknown(tmp_path: Path, nothing: Path) -> None:
    *_, left_oblique = write(tmp_path / "in", *exam().views)
    truncate(left_oblique)
    told = run(tmp_path, nothing).result
    assert (told["finding"], told["completeness"], told["scores"]["recall"]) == ("unknown", "some", None)


def test_a_broken_codestream_costs_its_view_alone(tmp_path: Path, some: Path) -> None:
    """The DICOM header is whole, so the view is known, and only its pixels are not."""
    first, *_ = write(tmp_path / "in", *exam("hologic").views)
    data = first.read_bytes()
    begin = data.index(b"\xff\x4f\xff\x51")  # SOC and SIZ
    first.write_bytes(data[:begin] + bytes(40) + data[begin + 40 :])
    ran = run(tmp_path, some)
    told = ran.result
    assert (told["completeness"], told["analysed"]) == ("some", 3)
    assert ran.files["1.dcm"] == ("refused", "decode_failed")
    assert told["views"][told["unread"][0]["source_sop_uid"]] == "R CC"
    assert set(told["scores"]["breasts"]) == {"L", "R"}


def test_an_exam_of_which_nothing_can_be_read_has_failed(tmp_path: Path, some: Path) -> None:
    for path in write(tmp_path / "in", *exam().views):
        truncate(path)
    ran = run(tmp_path, some, status=1)
    told = ran.result
    assert (told["finding"], told["completeness"], told["analysed"]) == ("unknown", "none", 0)
    assert (told["scores"], told["previews"]) == (None, [])
    assert len(told["unread"]) == 4
    for template in ("1500", "4000"):
        report = ran.report(template)
        assert (report.outcome, report.detections) == (codes.OUTCOMES["unknown", "none"], codes.FAILED)


# -- Views, sides, patients --------------------------------------------------------------------------------------------


def test_ml_is_not_mlo(tmp_path: Path, nothing: Path) -> None:
    woman = exam()
    write(tmp_path / "in", *woman.views[:3], woman.view("L", "ML", 4))
    ran = run(tmp_path, nothing)
    assert sorted(ran.result["views"].values()) == ["L CC", "R CC", "R MLO"]
    assert ran.files["4.dcm"] == ("skipped", "other_view")
    assert ran.result["scores"]["breasts"] == {"L": 0.0, "R": 0.0}


def test_an_exam_of_lateral_views_alone_is_not_applicable(tmp_path: Path, some: Path) -> None:
    woman = exam()
    write(tmp_path / "in", woman.view("L", "ML", 1), woman.view("R", "ML", 2))
    ran = run(tmp_path, some)
    told = ran.result
    assert (told["applicability"], told["reason"], told["objects"]) == ("not_applicable", "other_view", [])
    assert set(ran.files.values()) == {("skipped", "other_view")}


def test_two_patients_in_one_folder_have_two_results(tmp_path: Path, some: Path) -> None:
    """Each result has the identity of its own sources, and refers to nothing else."""
    one, other = exam(number="0001", seed=3), exam("siemens", number="0002", seed=4)
    views = [view for pair in zip(one.views, other.views, strict=True) for view in pair]
    write(tmp_path / "in", *views)
    ran = run(tmp_path, some)
    assert len(ran.results) == 2
    for study, woman in zip(
        ran.summary["studies"], sorted((one, other), key=lambda w: w.views[0].study_uid), strict=True
    ):
        own = {view.sop_uid for view in woman.views}
        assert study["study_uid"] == woman.views[0].study_uid
        (result,) = study["results"]
        assert set(result["views"]) == own
        assert {f["source_sop_uid"] for f in result["findings"]} <= own
        for path in ran.documents(result):
            written = dcmread(path)
            assert (written.PatientID, str(written.PatientName)) == (woman.patient.patient_id, woman.patient.name)
            assert written.StudyInstanceUID == study["study_uid"]
        for template in ("1500", "4000"):
            assert {image.sop_uid for image in ran.report(template, result).library} == own
    told = {part for path in (tmp_path / "in").iterdir() for part in identity(path)}
    assert leaks(tmp_path / "out", told) == []


def identity(path: Path) -> list[str]:
    header = dcmread(path, stop_before_pixels=True)
    return [str(header.PatientName), str(header.PatientID), str(header.PatientBirthDate)]


def test_the_side_is_the_headers_whatever_the_file_is_called(tmp_path: Path, some: Path) -> None:
    (path,) = write(tmp_path / "in", exam().view("R", "CC", 1))
    path.rename(tmp_path / "in" / "left_cc.dcm")
    ran = run(tmp_path, some)
    assert list(ran.result["views"].values()) == ["R CC"]
    assert set(ran.result["scores"]["breasts"]) == {"R"}
    assert {one["laterality"] for one in ran.result["composites"]} == set()


def test_a_view_without_a_side_is_not_read_and_says_why(tmp_path: Path, some: Path) -> None:
    """Neither the file's name nor the letter burned into the picture stands in for the header."""

    def sideless(ds: FileDataset) -> None:
        del ds.ImageLaterality

    (path,) = write(tmp_path / "in", exam().view("L", "CC", 1), change=sideless)
    path.rename(tmp_path / "in" / "left_cc.dcm")
    ran = run(tmp_path, some, status=1)
    told = ran.result
    assert (told["finding"], told["completeness"], told["views"]) == ("unknown", "none", {})
    assert [entry["reason"] for entry in told["unread"]] == ["unknown_view"]
    assert ran.files["left_cc.dcm"] == ("refused", "unknown_view")


@pytest.mark.parametrize("vendor", ["ge", "siemens", "giotto"])
def test_however_a_maker_stores_it_the_exam_is_answered(vendor: MakerName, tmp_path: Path, some: Path) -> None:
    """MONOCHROME1 with tables in JPEG; rotated by 180 degrees; mirrored with padding in JPEG-LS."""
    write(tmp_path / "in", *exam(vendor).views)
    ran = run(tmp_path, some)
    assert (ran.result["finding"], ran.result["completeness"], ran.result["analysed"]) == ("yes", "all", 4)
    assert not any("chest wall" in note for note in ran.result["notes"])
    assert_boxes_agree(ran)


# -- Agreement and repeatability ---------------------------------------------------------------------------------------


def test_boxes_of_both_reports_are_those_of_the_summary(yes: Ran) -> None:
    assert_boxes_agree(yes)


def assert_boxes_agree(ran: Ran) -> None:
    """Corners within a thousandth of a pixel, on the same image, with the same score."""
    told = ran.result["findings"]
    tracked = [f.tracking_uid for f in ran.report("1500").findings]
    assert len(set(tracked)) == len(told) > 0
    for template in ("1500", "4000"):
        read = {f.tracking_uid: f for f in ran.report(template).findings}
        for uid, finding in zip(tracked, told, strict=True):
            points, image = read[uid].points_px, read[uid].image
            assert points is not None
            assert isinstance(image, Reference)
            assert image.sop_uid == finding["source_sop_uid"]
            corners = [*points.min(axis=0), *points.max(axis=0)]
            assert np.abs(np.subtract(corners, finding["box_px"])).max() < 1e-3
            assert read[uid].score == pytest.approx(finding["score"], abs=1e-4)


def test_the_same_command_again_changes_no_byte(yes: Ran, some: Path, tmp_path: Path) -> None:
    """Into the same folder, and into another one by other processes."""
    before = tree(yes.out)
    assert infer(yes.export, yes.out, "--package", str(some)) == yes.summary
    assert tree(yes.out) == before
    infer(yes.export, tmp_path, "--package", str(some))
    assert tree(tmp_path) == before


def test_what_reports_say_is_ascii_though_headers_are_not(tmp_path: Path) -> None:
    """Only the identity, which is echoed, and the file's character set may need more."""

    def accented(ds: FileDataset) -> None:
        ds.ManufacturerModelName = "Sénographe Évolué"
        ds.PatientName = "Müller^Änne"

    write(tmp_path / "in", *exam().views, change=accented)
    package = write_detector(tmp_path / "package", support={"model": ["another"]})
    ran = run(tmp_path, package.folder)
    assert any("Sénographe" in note for note in ran.result["notes"])
    for path, template in zip(ran.documents(), ("1500", "4000"), strict=True):
        texts = [i.value for i in ran.report(template).root.walk() if i.value_type == "TEXT"]
        assert any("S?nographe" in text for text in texts)
        assert [text for text in texts if not text.isascii()] == []
        assert dcmread(path).PatientName == "Müller^Änne"


# -- Real films --------------------------------------------------------------------------------------------------------

FILMS = {
    "right_cc.dcm": ("R", "CC"),
    "left_cc.dcm": ("L", "CC"),
    "right_mlo.dcm": ("R", "MLO"),
    "left_mlo.dcm": ("L", "MLO"),
}
FILM_STEP_MM = 0.05  # of a film scanner; the files state none


def film(pixels: np.ndarray, view: ViewAcquisition, step_mm: float | None) -> FileDataset:
    """The pixels of a film under the header of a phantom's view: one patient, one study, For Presentation."""
    ds = mammogram(view)
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction", "ImagerPixelSpacing", "PixelSpacing",
                    "PixelSpacingCalibrationType", "PixelSpacingCalibrationDescription"):  # fmt: skip
        ds.pop(keyword, None)
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelData = pixels.astype("<u2").tobytes()
    if step_mm is not None:
        ds.ImagerPixelSpacing = [step_mm, step_mm]
    return ds


@pytest.fixture(scope="module")
def films(shared_data: Path, some: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The four films of one woman as the digital exam that their archive took apart."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "in").mkdir()
    for number, (name, (side, projection)) in enumerate(FILMS.items(), start=1):
        pixels = dcmread(shared_data / "mammography" / "cbis_p00173" / name).pixel_array
        ds = film(pixels, exam().view(side, projection, number), FILM_STEP_MM)  # type: ignore[arg-type]
        (folder / "in" / name).write_bytes(file_bytes(ds))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("imaging.inference.run.Processes", InProcess)
        return Ran(folder / "in", folder / "out", infer(folder / "in", folder / "out", "--package", str(some)))


@pytest.mark.shared_data
def test_films_as_their_archive_has_them_are_four_exams_of_one_view(
    shared_data: Path, tmp_path: Path, some: Path
) -> None:
    """Four patients and four studies, the view in PatientOrientation, no spacing: each is read, and says so."""
    export = shared_data / "mammography" / "cbis_p00173"
    ran = Ran(export, tmp_path, infer(export, tmp_path, "--package", str(some)))
    views = {view for result in ran.results for view in result["views"].values()}
    assert views == {"R CC", "L CC", "R MLO", "L MLO"}
    assert len(ran.results) == 4
    for result in ran.results:
        assert (result["applicability"], result["completeness"], result["analysed"]) == ("applicable", "all", 1)
        assert result["composites"] == []
        assert any(note.startswith("Uncalibrated: read as if the breast were") for note in result["notes"])
        assert {f["longest_diameter_mm"] for f in result["findings"]} <= {None}
        for template in ("1500", "4000"):
            assert len(ran.report(template, result).library) == 1
    assert {path: state for path, state in ran.files.items() if path != "boxes.csv"} == dict.fromkeys(
        FILMS, ("used", None)
    )
    assert ran.files["boxes.csv"] == ("skipped", "not_dicom")


@pytest.mark.shared_data
def test_films_of_one_woman_are_an_exam(films: Ran) -> None:
    told = films.result
    assert (told["completeness"], told["analysed"], told["unread"]) == ("all", 4, [])
    assert sorted(told["views"].values()) == ["L CC", "L MLO", "R CC", "R MLO"]
    assert set(films.files.values()) == {("used", None)}
    assert not any("chest wall" in note or "Uncalibrated" in note for note in told["notes"])
    assert all(f["longest_diameter_mm"] > 0 for f in told["findings"])
    assert_boxes_agree(films)


@pytest.mark.shared_data
def test_lesions_of_films_lie_in_the_breast_and_come_home(films: Ran, shared_data: Path) -> None:
    with (shared_data / "mammography" / "cbis_p00173" / "boxes.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 6
    recipe = MammographyRecipe()
    for name in FILMS:
        image = read(films.export / name)
        tissue = recipe.tissue(image)
        grid = grid_of(recipe.harmonise(tissue))
        boxes = np.array([[float(row[k]) for k in ("y0", "x0", "y1", "x1")] for row in rows if row["file"] == name])
        there = image.source_grid.carry_boxes(boxes, grid)
        assert (there[:, :2] >= 0).all()
        assert (there[:, 2:] <= grid.shape).all()
        scores, labels = np.linspace(0.9, 0.5, len(there)), np.ones(len(there), np.int64)
        told = place(Detections(there, scores, labels, grid, image.source_grid, image.refs[0]), ("mass",))
        for found, box in zip(told, boxes, strict=True):
            x0, y0, x1, y1 = found.box_px
            assert np.abs(np.subtract((y0, x0, y1, x1), box)).max() < 0.01
        for low_row, low_column, high_row, high_column in image.source_grid.carry_boxes(boxes, tissue.grid):
            inside = tissue.pixels.numpy()[0, int(low_row) : int(high_row), int(low_column) : int(high_column)]
            assert (inside > 0).mean() > 0.95


@pytest.mark.shared_data
@pytest.mark.conformance
def test_the_reports_of_films_are_valid(films: Ran) -> None:
    judge(films.documents())


@pytest.mark.shared_data
@pytest.mark.parametrize("step_mm", [0.4, None])
def test_a_single_film_is_an_exam_of_one_view(
    step_mm: float | None, shared_data: Path, tmp_path: Path, some: Path
) -> None:
    """mdb001 shows a right breast; what was not taken is not missing."""
    with Picture.open(shared_data / "mammography" / "mini_mias" / "images" / "mdb001.png") as opened:
        pixels = np.asarray(opened, np.uint16)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "film").write_bytes(file_bytes(film(pixels, exam().view("R", "MLO", 1), step_mm)))
    ran = run(tmp_path, some)
    told = ran.result
    assert (told["completeness"], told["analysed"]) == ("all", 1)
    assert list(told["views"].values()) == ["R MLO"]
    assert (set(told["scores"]["breasts"]), told["composites"]) == ({"R"}, [])
    uncalibrated = [note for note in told["notes"] if note.startswith("Uncalibrated")]
    said = ["Uncalibrated: no millimetres can be given", "Uncalibrated: read as if the breast were 195 mm high"]
    assert uncalibrated == ([] if step_mm else said)
    assert {f["longest_diameter_mm"] is None for f in told["findings"]} <= {step_mm is None}
    assert [len(ran.report(template).library) for template in ("1500", "4000")] == [1, 1]


# -- Judges ------------------------------------------------------------------------------------------------------------


def judge(paths: list[Path]) -> None:
    """No error and no warning of dciodvfy, dsrdump or PixelMed but the two that are known."""
    for path in paths:
        said = run_tool(require_tool("dciodvfy"), path)
        assert "Error" not in said, f"{path.name}:\n{said}"
        ours = [line for line in said.splitlines() if "Patient's Name" not in line]
        assert ours in (["Comprehensive3DSR"], ["MammographyCADSR"]), f"{path.name}:\n{said}"
        dumped = run_tool(require_tool("dsrdump"), path)
        assert "CAD Processing and Findings Summary" in dumped
        assert "E: " not in dumped, dumped
    for path, said in pixelmed(paths).items():
        assert "Root Template Validation Complete" in said, f"{path.name}:\n{said}"
        assert "Error" not in said, f"{path.name}:\n{said}"
        # Its own table writes "Failed  Detections", with two spaces.
        ours = [line for line in said.splitlines() if "Warning" in line and '"Failed  Detections"' not in line]
        assert ours == [], f"{path.name}:\n{said}"


@pytest.mark.conformance
def test_the_reports_of_findings_are_valid(yes: Ran) -> None:
    judge(yes.documents())


@pytest.mark.conformance
@pytest.mark.parametrize("corrupt", [0, 1, 4])
def test_the_reports_of_nothing_found_are_valid(corrupt: int, tmp_path: Path, nothing: Path) -> None:
    """With every view read, with one that is corrupt, and with all."""
    for path in write(tmp_path / "in", *exam().views)[:corrupt]:
        truncate(path)
    judge(run(tmp_path, nothing, status=int(corrupt == 4)).documents())
