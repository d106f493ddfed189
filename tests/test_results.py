"""Reading SR and SEG: other toolkits' files give records or a reason, damaged bytes never anything else."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from imaging.dicom.results.content_tree import Reference
from imaging.dicom.results.read import ReadReport, ReadSegmentation, read_result
from imaging.errors import InputError, Reason
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from tests.report_cases import CONTENT_TIME, case, source

# Source defects of the shared files, not ours: random letters as UIDs (dwv 0.34), a Study ID of 20 characters (dcmjs).
DEFECTS = (
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI"),
    pytest.mark.filterwarnings("ignore:The value length .* exceeds the maximum length of 16 allowed for VR SH"),
)


@pytest.mark.shared_data
@DEFECTS[0]
@DEFECTS[1]
def test_every_shared_file_gives_records_or_a_reason(shared_data: Path) -> None:
    folder = shared_data / "results"
    with (folder / "index.csv").open(encoding="utf-8") as handle:
        listed = list(csv.DictReader(handle))
    assert len(listed) == 32
    for row in listed:
        data = (folder / row["file"]).read_bytes()
        if row["sop_class"].endswith("SR Storage"):
            report = read_result(data)
            assert isinstance(report, ReadReport)
            assert report.template == row["template"].removeprefix("TID ")
            assert report.findings, row["file"]
            assert all(f.references for f in report.findings), row["file"]
        elif row["segments"]:
            segmentation = read_result(data)
            assert isinstance(segmentation, ReadSegmentation)
            assert len(segmentation.segments) == int(row["segments"])
            assert segmentation.storage == row["segmentation_type"]
            assert all(frame.sources for segment in segmentation.segments for frame in segment.frames), row["file"]
        else:
            with pytest.raises(InputError, match="SOPClassUID: found") as caught:
                read_result(data)
            assert caught.value.reason is Reason.UNSUPPORTED_OBJECT


@pytest.mark.shared_data
def test_others_reports_in_detail(shared_data: Path) -> None:
    """Values as dsrdump prints them."""
    nodule = read_result((shared_data / "results/highdicom/sr_document_with_multiple_groups.dcm").read_bytes())
    assert isinstance(nodule, ReadReport)
    by_name = {f.label.meaning: f for f in nodule.findings if f.label}
    assert by_name["Nodule"].graphic_type == "CIRCLE"
    assert by_name["Aorta"].graphic_type == "POLYLINE"
    volumetric = read_result((shared_data / "results/dcmqi/sr.dcm").read_bytes())
    assert isinstance(volumetric, ReadReport)
    (lesion,) = volumetric.findings
    assert lesion.points_px is None
    assert any(reference.segments == (1,) for reference in lesion.references)
    volume = next(m for m in lesion.measures if m.concept and m.concept.meaning == "Volume")
    assert volume.value == pytest.approx(33.5824)
    assert volume.unit is not None
    assert volume.unit.value == "ml"


@pytest.mark.shared_data
def test_labelmap_and_overlapping_segments(shared_data: Path) -> None:
    folder = shared_data / "results"
    labelmap = read_result((folder / "dcmqi/segmentations/sparse-labelmap-noppv.dcm").read_bytes())
    assert isinstance(labelmap, ReadSegmentation)
    background, liver = labelmap.segments
    for first, second in zip(background.frames, liver.frames, strict=True):
        assert not np.any(first.mask & second.mask)
        assert np.all(first.mask | second.mask)
    overlap = read_result((folder / "highdicom/seg_image_ct_binary_overlap.dcm").read_bytes())
    assert isinstance(overlap, ReadSegmentation)
    assert [len(segment.frames) for segment in overlap.segments] == [4, 4]


def test_what_is_neither_report_nor_segmentation_says_so() -> None:
    buffer = io.BytesIO()
    source("a", pixels=True).save_as(buffer)
    with pytest.raises(InputError, match="allowed are structured reports") as caught:
        read_result(buffer.getvalue())
    assert caught.value.reason is Reason.UNSUPPORTED_OBJECT
    with pytest.raises(InputError, match="allowed is a DICOM file") as caught:
        read_result(b"PNG")
    assert caught.value.reason is Reason.NOT_DICOM


def test_content_nested_without_end_is_refused() -> None:
    dataset = pydicom.dcmread(io.BytesIO(written()[-1]))
    innermost = dataset
    for _ in range(60):
        below = Dataset()
        below.ValueType = "CONTAINER"
        innermost.ContentSequence = [below]
        innermost = below
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(InputError, match="while reading its content"):
        read_result(buffer.getvalue())


def written() -> list[bytes]:
    subject = case("yes-all")
    about = Subject(subject.result, subject.sources, CONTENT_TIME, still_segmentations=True)
    return [d.data for d in write_documents(about)]


# Damaged values make pydicom warn about them; the reading must survive whatever it warns about.
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_records_or_an_input_error() -> None:
    rng = np.random.default_rng(7)
    states = {"read": 0, "refused": 0}
    for data in written():
        for _ in range(60):
            damaged = np.frombuffer(data, np.uint8).copy()
            places = rng.integers(132, len(data), size=8)
            damaged[places] = rng.integers(0, 256, size=8)
            cut = int(rng.integers(200, len(data))) if rng.random() < 0.3 else len(data)
            try:
                read_result(damaged[:cut].tobytes())
                states["read"] += 1
            except InputError:
                states["refused"] += 1
    assert sum(states.values()) == 180
    assert min(states.values()) > 0


def test_references_keep_frames_and_segments() -> None:
    """A report on a cine: one reference to frames 1-4 of the library, one to the key frame."""
    subject = case("cine")
    read = read_result(write_documents(Subject(subject.result, subject.sources, CONTENT_TIME))[0].data)
    assert isinstance(read, ReadReport)
    cine = str(source("c", frames=4).SOPInstanceUID)
    frames = [r.frames for item in read.root.walk() if isinstance(r := item.value, Reference) and r.sop_uid == cine]
    assert frames == [(1, 2, 3, 4), (3,)]
