"""Results in an archive and before the readers of segmentations: what is sent comes back, and what is made is read."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadSegmentation
from imaging.image import SourceRef
from imaging.report.document import Document, Issue, IssuedObject, derived_uid
from imaging.report.kind import Subject
from imaging.report.pdf.kind import READABLE_REPORT
from imaging.report.write import GENERAL, write_documents
from tests import mammography_cases, volume_cases
from tests.conftest import require_tool
from tests.judges import run_tool
from tests.report_cases import CONTENT_TIME, Case, case

REPOSITORY = Path(__file__).resolve().parents[1]
_META_START = 132

pytestmark = pytest.mark.viewer


def objects(subject: Case, earlier: Issue | None = None) -> list[Document]:
    """Every object that can be made of a result."""
    about = Subject(subject.result, subject.sources, CONTENT_TIME, earlier=earlier, still_segmentations=True)
    return write_documents(about, (*GENERAL, *subject.outputs, READABLE_REPORT))


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "sent").mkdir()
    subjects = {
        "us": case("yes-all", "japanese"),
        "us-cine": case("cine", "greek"),
        "us-no": case("no-all", "ligature"),
        "mr": volume_cases.case("yes-all"),
        "mr-enhanced": volume_cases.case("enhanced"),
        "mg": mammography_cases.case("yes-all"),
    }
    for name, subject in subjects.items():
        for document in objects(subject):
            (folder / "sent" / f"{name}-{document.file_name}").write_bytes(document.data)
    return folder


def data_set(path: Path) -> bytes:
    """The bytes after the file meta information, whose group length counts what follows itself (PS3.10 7.1)."""
    data = path.read_bytes()
    return data[_META_START + 12 + int.from_bytes(data[_META_START + 8 : _META_START + 12], "little") :]


def test_every_kind_of_object_comes_back_from_the_archive_as_it_was_sent(sent: Path) -> None:
    for tool in ("Orthanc", "storescu", "unshare", "ip"):
        require_tool(tool)
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-m", "tests.archive", str(sent)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")
    files = sorted((sent / "sent").iterdir())
    assert {path.name.removesuffix(".dcm").split("-")[-2] for path in files} == {"sr", "seg", "cad", "pdf"}
    for way in ("store", "stow"):
        for path in files:
            assert data_set(sent / way / path.name) == data_set(path), f"{way}: {path.name}"


def segmentations(sent: Path) -> list[Path]:
    found = sorted(path for path in (sent / "sent").iterdir() if "-seg-" in path.name)
    assert {path.name.split("-seg-")[0] for path in found} == {"us", "mr", "mr-enhanced", "mg"}
    return found


def test_dcmqi_reads_every_segmentation(sent: Path, tmp_path: Path) -> None:
    tool = require_tool("segimage2itkimage")
    for path in segmentations(sent):
        out = tmp_path / path.stem
        out.mkdir()
        said = run_tool(tool, "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nii")
        count = len(pydicom.dcmread(path).SegmentSequence)
        assert len(list(out.glob("*.nii.gz"))) == count, f"{path.name}:\n{said}"
        assert (out / "meta.json").exists(), f"{path.name}:\n{said}"


def test_highdicom_reads_the_masks_of_every_segmentation(sent: Path) -> None:
    """Against the masks of this toolkit's own reader, segment by segment: the same pixels, wherever they lie."""
    for path in segmentations(sent):
        own = read_result(path.read_bytes())
        assert isinstance(own, ReadSegmentation)
        read = highdicom.seg.segread(path)
        assert read.number_of_segments == len(own.segments)
        volume = read.get_volume(combine_segments=False).array
        for place, segment in enumerate(own.segments):
            assert int(volume[..., place].sum()) == sum(int(frame.mask.sum()) for frame in segment.frames) > 0
            for frame in segment.frames:
                assert any(np.array_equal(plane, frame.mask) for plane in volume[..., place]), path.name


# -- OHIF --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What OHIF shows of each study after each of its result series was opened, by the study's name."""
    for tool in ("Orthanc", "storescu", "unshare", "ip", "node", "chromium"):
        require_tool(tool)
    modules = os.environ.get("IMAGING_OHIF", "")
    files = Path(modules, "package", "dist")
    if not (files / "index.html").is_file():
        pytest.skip("IMAGING_OHIF names no folder with OHIF and playwright-core; see .ci/run for how one is made")
    folder = tmp_path_factory.mktemp("ohif")
    (folder / "sent").mkdir()
    (folder / "studies.json").write_text(json.dumps(list(send_studies(folder / "sent"))), encoding="utf-8")
    session = [sys.executable, "-m", "tests.ohif", files, modules, folder / "studies.json", folder]
    archive = ["unshare", "--net", "--map-root-user", sys.executable, "-m", "tests.archive", folder, *session]
    command = [str(part) for part in archive]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")
    seen = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    return {study["name"]: study for study in seen}


def send_studies(folder: Path) -> Iterator[dict[str, object]]:
    """Writes sources with pixels and results; the ultrasound study has two issues. Name, UID and series to open."""
    for name, subject in (
        ("us", case("yes-all")),
        ("cine", on_study(case("cine"), "cine")),
        ("no", on_study(case("no-all"), "no")),
        ("mr", volume_cases.case("yes-all")),
        ("mg", mammography_cases.case("yes-all")),
    ):
        documents = objects(subject)
        if name == "us":
            places = [IssuedObject(d.kind, d.series_uid, d.sop_class_uid, d.sop_instance_uid) for d in documents]
            documents += objects(subject, Issue(1, tuple(places)))
        for number, header in enumerate(subject.sources.values()):
            with_pixels(header).save_as(folder / f"{name}-source-{number}.dcm")
        for document in documents:
            (folder / f"{name}-{document.file_name}").write_bytes(document.data)
        read = [pydicom.dcmread(folder / f"{name}-{d.file_name}", stop_before_pixels=True) for d in documents]
        yield {"name": name, "uid": subject.result.study_uid, "series": [one.SeriesDescription for one in read]}


def on_study(subject: Case, name: str) -> Case:
    """The case as a study and series of its own: the hand-built ones share theirs."""
    study, series = derived_uid("viewer study", name), derived_uid("viewer series", name)
    sources = {}
    for header in subject.sources.values():
        header.StudyInstanceUID, header.SeriesInstanceUID = study, series
        header.SOPInstanceUID = derived_uid("viewer image", name, header.SOPInstanceUID)
        sources[str(header.SOPInstanceUID)] = header

    def moved(ref: SourceRef) -> SourceRef:
        return replace(ref, study_uid=study, series_uid=series, sop_uid=derived_uid("viewer image", name, ref.sop_uid))

    result = replace(
        subject.result,
        study_uid=study,
        analysed=tuple(map(moved, subject.result.analysed)),
        findings=tuple(replace(f, key=replace(f.key, ref=moved(f.key.ref))) for f in subject.result.findings),
    )
    return Case(result, sources, subject.outputs)


def with_pixels(header: Dataset) -> Dataset:
    """The image with a grey ramp, which shows where an outline lies."""
    image = copy.deepcopy(header)
    bits = int(image.get("BitsAllocated") or 8)
    for keyword, value in {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits,
                           "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0}.items():  # fmt: skip
        if keyword not in image:
            setattr(image, keyword, value)
    ramp = np.add.outer(2 * np.arange(image.Rows), np.arange(image.Columns)) % 200
    frames = np.repeat(ramp[None], int(image.get("NumberOfFrames") or 1), axis=0)
    image.PixelData = frames.astype(np.uint16 if bits == 16 else np.uint8).tobytes()
    image["PixelData"].VR = "OW" if bits == 16 else "OB"
    stored = io.BytesIO()
    pydicom.dcmwrite(stored, image, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(stored.getvalue()))


def test_ohif_opens_every_series_without_a_page_error(opened: dict[str, Any]) -> None:
    assert set(opened) == {"us", "cine", "no", "mr", "mg"}
    for name, study in opened.items():
        assert study["errors"] == [], name
        assert study["opened"], name
        assert all(len(shown["text"]) > 100 for shown in study["opened"].values()), name
        assert len(study["opened"]) == study["wanted"], name


def test_ohif_draws_outlines_and_measures_on_their_frames(opened: dict[str, Any]) -> None:
    """Both lesions of the first still; frame 3 of 4 of the cine; the slice of the prostate's lesion; a mammogram."""
    for name, series, outlines, words in (
        ("us", "us-demo: measurement report", 2, ("Area: 5.34 mm2", "(1/2)")),
        ("cine", "us-demo: measurement report", 1, ("Area: 5.34 mm2", "(3/4)")),
        ("mr", "prostate-demo: measurement report", 1, ("Volume: 0.11 cm3", "(6/9)")),
        ("mg", "mg-demo: measurement report", 1, ("Certainty of Finding", "Area: ")),
    ):
        shown = opened[name]["opened"][series]
        assert shown["paths"] == outlines, name
        for said in words:
            assert said in shown["text"], f"{name}: {shown['text'][-600:]}"


def test_ohif_offers_every_segmentation(opened: dict[str, Any]) -> None:
    for name in ("us", "mr", "mg"):
        found = [shown for series, shown in opened[name]["opened"].items() if ": segmentation" in series]
        assert found, name
        assert all("SEG" in shown["text"] and "LOAD" in shown["text"] for shown in found), name


def test_ohif_tells_a_later_result_from_the_earlier_one_and_opens_it(opened: dict[str, Any]) -> None:
    listed = opened["us"]["list"]
    assert "us-demo (2): measurement report" in listed
    later = opened["us"]["opened"]["us-demo (2): measurement report"]
    assert (later["paths"], "Area: 5.34 mm2" in later["text"]) == (2, True)


def test_ohif_shows_the_document_of_a_negative_study(opened: dict[str, Any]) -> None:
    """Its page is drawn by the browser's own reader of PDF in a frame of the viewer."""
    assert opened["no"]["opened"]["us-demo: readable report"]["frames"] == 1
