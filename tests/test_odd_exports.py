"""Exports as they come: odd values, places that nobody can look into, copies in other encodings, patients in other
letters. Nothing of a study is lost without a word."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from imaging.dicom.headers.diffusion import read_b_values
from imaging.dicom.index import Index, Instance, build_index
from imaging.dicom.places import closed_reason, may_hold, walk
from imaging.errors import Reason
from tests.test_index import mr, save


def raw(ds: Dataset, tag: int, vr: str, value: bytes) -> None:
    ds._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)  # type: ignore[index]


def only(index: Index) -> Instance:
    ((instance,),) = [series.instances for series in index.series]
    return instance


@pytest.mark.parametrize("workers", [0, 1])
def test_an_odd_value_costs_that_value_only(tmp_path: Path, workers: int) -> None:
    ds = mr()
    raw(ds, 0x00200013, "IS", b"A1")
    raw(ds, 0x00200011, "IS", b"7,0 ")
    raw(ds, 0x00280030, "UT", b"0,25\\ 0,5 ")
    save(ds, tmp_path / "a.dcm")
    index = build_index(tmp_path, workers=workers)
    instance = only(index)
    assert instance.refusal is None
    assert (instance.instance_number, instance.series_number, instance.spacing_mm) == (0, 7, (0.25, 0.5))
    assert index.remarks["a.dcm"][-1] == "values that cannot be read are passed over: InstanceNumber"
    assert index.unseen == {}


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [(0x00280010, "LO", b"many"), (0x00280008, "IS", b"x "), (0x00280011, "US", b"\1\0\2\0")],
)
def test_an_image_that_cannot_be_described_stays_in_its_study(tmp_path: Path, tag: int, vr: str, value: bytes) -> None:
    ds = mr()
    raw(ds, tag, vr, value)
    save(ds, tmp_path / "a.dcm")
    assert only(build_index(tmp_path)).refusal is not None


def test_an_image_without_its_size_stays_in_its_study(tmp_path: Path) -> None:
    ds = mr()
    del ds.Rows
    save(ds, tmp_path / "a.dcm")
    assert only(build_index(tmp_path)).refusal is Reason.UNREADABLE_HEADER
    del ds.SeriesInstanceUID  # the near miss: two UIDs are not enough, and then nobody knows whose it is
    save(ds, tmp_path / "a.dcm")
    index = build_index(tmp_path)
    assert index.files["a.dcm"].reason is Reason.MISSING_UID
    assert index.unseen == {"": ("a.dcm",)}


def test_an_edge_that_a_region_leaves_out_is_that_of_the_image(tmp_path: Path) -> None:
    ds = mr()
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 5, 40, 30
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    save(ds, tmp_path / "a.dcm", BodyPartExamined="BREAST")
    (found,) = only(build_index(tmp_path)).regions
    assert (found.box, found.is_tissue) == ((5, 0, 31, 41), True)
    del region.RegionDataType
    save(ds, tmp_path / "a.dcm")
    assert only(build_index(tmp_path)).regions[0].is_tissue
    region.RegionDataType = 2  # the near miss: colour flow is no tissue
    save(ds, tmp_path / "a.dcm")
    assert not only(build_index(tmp_path)).regions[0].is_tissue


SCANNER = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}


@pytest.mark.parametrize(
    ("other", "one"),
    [
        ({"SpecificCharacterSet": "ISO_IR 192"}, True),
        ({"PatientName": "MÜLLER^JÖRG^^"}, True),
        ({"IssuerOfPatientID": "NORTH"}, True),
        ({"PatientName": "Müller^Jürg"}, False),
        ({"PatientID": "4712"}, False),
        ({"PatientBirthDate": "19600101"}, False),
    ],
)
def test_one_patient_in_other_letters_is_one(tmp_path: Path, other: dict[str, str], one: bool) -> None:
    for number, changes in enumerate((SCANNER, SCANNER | other)):
        ds = mr()
        ds.PatientBirthDate = "19500101"
        save(ds, tmp_path / f"{number}.dcm", SOPInstanceUID=f"1.2.{number}", **changes)
    refusals = {i.refusal for series in build_index(tmp_path).series for i in series.instances}
    assert refusals == ({None} if one else {Reason.MIXED_PATIENTS})


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda ds: ds.compress("1.2.840.10008.1.2.5", generate_instance_uid=False), Reason.DUPLICATE),
        (lambda ds: setattr(ds.file_meta, "ImplementationVersionName", "ARCHIVE"), Reason.DUPLICATE),
        (lambda ds: setattr(ds, "PixelData", bytes(len(ds.PixelData))), Reason.DUPLICATE_UID),
        (lambda ds: setattr(ds, "RescaleSlope", 2), Reason.DUPLICATE_UID),
    ],
)
def test_one_object_in_two_encodings_is_a_copy(
    tmp_path: Path, change: Callable[[Dataset], None], state: Reason, workers: int
) -> None:
    save(mr(), tmp_path / "a.dcm")
    ds = mr()
    change(ds)
    save(ds, tmp_path / "b.dcm")
    index = build_index(tmp_path, workers=workers)
    assert index.files["b.dcm"].reason is state
    assert index.files["a.dcm"].reason is (None if state is Reason.DUPLICATE else state)


def packed(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind in ("zip", "docx"):
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("[Content_Types].xml" if kind == "docx" else "IM1", b"x" * 100)
    elif kind == "tar":
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("IM1"))
    elif kind == "gz":
        return gzip.compress(b"x" * 500)
    elif kind == "nii.gz":
        return gzip.compress(bytes(344) + b"n+1\0" + bytes(100))
    else:
        return b"7z\xbc\xaf\x27\x1c" + bytes(100)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "7z", "docx", "nii.gz"])
def test_an_archive_is_named_and_forbids_no(tmp_path: Path, kind: str) -> None:
    save(mr(), tmp_path / "s" / "a.dcm")
    (tmp_path / "s" / "more").write_bytes(packed(kind))
    index = build_index(tmp_path)
    if kind in ("docx", "nii.gz"):
        assert (index.files["s/more"].reason, index.unseen) == (Reason.NOT_DICOM, {})
        return
    assert index.files["s/more"].reason is Reason.ARCHIVE
    assert index.unseen == {"": ("s/more",), mr().StudyInstanceUID: ("s/more",)}


def test_a_place_belongs_to_the_studies_around_it() -> None:
    studies = {"A": ["P1/A/1", "P1/A/2"], "B": ["P2/B/1"], "C": ["P2/C/x/1", "P2/C/y/1"]}
    assert may_hold(["P1/A/closed"], studies) == {"A": ("P1/A/closed",)}
    assert may_hold(["P2/closed"], studies) == {"B": ("P2/closed",), "C": ("P2/closed",)}
    assert set(may_hold(["P2/C/x/closed"], studies)) == {"C"}
    assert set(may_hold(["closed"], studies)) == set(may_hold(["P3/closed"], studies)) == {"A", "B", "C"}
    assert set(may_hold(["P1/A/closed"], studies | {"D": ["P1/A/3", "P2/D"]})) == {"A", "B", "C", "D"}


def test_folders_that_cannot_be_listed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may list everything, so the refusal of the system is planted; a path too long is real."""
    import os

    save(mr(), tmp_path / "s" / "a.dcm")
    (tmp_path / "s" / "closed").mkdir()
    listed = os.scandir

    def scandir(folder: str) -> object:
        if str(folder).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    index = build_index(tmp_path)
    assert index.files["s/closed"].reason is Reason.NOT_PERMITTED
    assert index.unseen[mr().StudyInstanceUID] == ("s/closed",)
    assert "could not be looked into" in index.remarks[""][0]
    assert closed_reason(OSError(36, "File name too long")) is Reason.PATH_TOO_LONG


def test_a_path_that_is_too_long_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(mr(), tmp_path / "a.dcm")
    monkeypatch.chdir(tmp_path)
    for _ in range(40):
        Path("x" * 120).mkdir()
        monkeypatch.chdir("x" * 120)
    closed: dict[str, Reason] = {}
    assert list(walk(tmp_path, closed)) == ["a.dcm"]
    assert list(closed.values()) == [Reason.PATH_TOO_LONG]
    assert build_index(tmp_path).unseen[mr().StudyInstanceUID] == tuple(closed)


def test_a_link_that_leads_outside_hides_something(tmp_path: Path) -> None:
    save(mr(), tmp_path / "export" / "a.dcm")
    (tmp_path / "export" / "inside").symlink_to(tmp_path / "export" / "a.dcm")
    assert build_index(tmp_path / "export").unseen == {}
    (tmp_path / "export" / "outside").symlink_to(tmp_path)
    assert build_index(tmp_path / "export").unseen[""] == ("outside",)


@pytest.mark.parametrize("lost", [False, True])
def test_b_values_of_united_imaging(lost: bool) -> None:
    ds = Dataset()
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x09, "UN" if lost else "FD", np.float64(1400).tobytes() if lost else 1400.0)
    (b,) = read_b_values(ds, "a")
    assert (b.value, b.source) == (1400.0, "(0065,xx09) of Image Private Header")  # type: ignore[union-attr]
    other = Dataset()  # the near miss: the same element of another maker
    other.private_block(0x0065, "ANOTHER MAKER", create=True).add_new(0x09, "FD", 1400.0)
    assert read_b_values(other, "a") == [None]


@pytest.mark.parametrize("shared", [False, True])
def test_b_values_of_legacy_converted_frames(shared: bool) -> None:
    """What has no functional group stands among the unassigned attributes, of each frame or of all."""
    ds = Dataset()
    ds.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    ds.PerFrameFunctionalGroupsSequence = Sequence([Dataset(), Dataset()])
    for number, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        unassigned = Dataset()
        unassigned.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 50 + 750 * number)
        if shared:
            group = ds.SharedFunctionalGroupsSequence[0]
            group.UnassignedSharedConvertedAttributesSequence = Sequence([unassigned])
        else:
            frame.UnassignedPerFrameConvertedAttributesSequence = Sequence([unassigned])
    found = [b.value for b in read_b_values(ds, "a")]  # type: ignore[union-attr]
    assert found == ([800.0, 800.0] if shared else [50.0, 800.0])
