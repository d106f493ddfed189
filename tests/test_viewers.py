"""Results in an archive and before the readers of segmentations: what is sent comes back, and what is made is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadSegmentation
from imaging.report.document import Document
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


def objects(subject: Case) -> list[Document]:
    """Every object that can be made of a result."""
    about = Subject(subject.result, subject.sources, CONTENT_TIME, still_segmentations=True)
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
