"""The index: every file one state, the same description as pydicom gives, and no patient mistaken for another."""

from __future__ import annotations

import os
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file, get_testdata_files

from imaging.dicom.headers.passport import read_passport
from imaging.dicom.index import FileState, build_index, read_header
from imaging.dicom.instance import REGIONS, WANTED, Facts, HeaderFile, NotPlain, describe_common
from imaging.dicom.parsing.firewall import inspect
from imaging.errors import ImagingError, InputError, Reason


def compare(path: Path) -> str:
    """`equal`, `not plain` (pydicom decides), or what differs between the walk's description and pydicom's."""
    header = inspect(path, wanted=WANTED, opened=frozenset((REGIONS,)))
    if header.refusal:
        return "refused"
    told: list[Any] = []
    for source in (Facts.of(header), read_header(path)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom describes each oddity; the index silences it too
                told.append(describe_common(HeaderFile(path, "name", header.transfer_syntax_uid, None), source, []))
        except NotPlain:
            return "not plain"
        except Exception as error:  # noqa: BLE001 - what pydicom raises, the walk must raise too
            told.append(type(error).__name__)
    ours, theirs = told
    if ours == theirs:
        return "equal"
    if isinstance(ours, str) or isinstance(theirs, str):
        return f"{path.name}: {ours} for {theirs}"
    return f"{path.name}: " + str([f.name for f in fields(ours) if getattr(ours, f.name) != getattr(theirs, f.name)])


def compare_all(paths: list[Path]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path in paths:
        try:
            outcome = compare(path)
        except ImagingError as error:
            outcome = error.reason
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts


def test_the_walk_describes_pydicoms_own_files_as_pydicom_does() -> None:
    counts = compare_all([Path(p) for p in get_testdata_files() if Path(p).is_file()])
    assert counts.pop("equal") > 100
    assert set(counts) <= {"not plain", "refused", "not_dicom", "archive", "unreadable_header"}
    assert counts["not plain"] < 12


@pytest.mark.shared_data
def test_the_walk_describes_real_files_as_pydicom_does(shared_data: Path) -> None:
    counts = compare_all(sorted(p for p in shared_data.rglob("*") if p.is_file()))
    assert counts.pop("equal") > 500
    assert set(counts) <= {"not plain", "refused", "not_dicom", "archive", "unreadable_header"}
    assert counts["not plain"] < 12


@pytest.mark.parametrize(
    ("steps", "calibrated"),
    [
        ({"PixelSpacing": [0.1, 0.1]}, "yes"),
        ({"ImagerPixelSpacing": [0.1, 0.1]}, "yes"),
        ({}, "no"),
        ({"PixelSpacing": None}, "no"),
        ({"ImagerPixelSpacing": None}, "no"),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, "no"),
    ],
)
def test_a_passport_says_whether_millimetres_are_known(tmp_path: Path, steps: dict[str, Any], calibrated: str) -> None:
    """By either reader of headers; a film's scanner states steps on paper, which are none of the patient."""
    ds = mr()
    del ds.PixelSpacing
    for keyword, value in steps.items():
        setattr(ds, keyword, value)
    ds.save_as(tmp_path / "a.dcm")
    header = inspect(tmp_path / "a.dcm", wanted=WANTED, opened=frozenset((REGIONS,)))
    for source in (Facts.of(header), read_header(tmp_path / "a.dcm")):
        assert read_passport(source)["calibrated"] == calibrated  # type: ignore[arg-type]


def mr() -> Dataset:
    ds = dcmread(get_testdata_file("MR_small.dcm"))
    ds.PatientID, ds.PatientName = "4711", "Doe^Jane"
    return ds


def save(ds: Dataset, path: Path, **changes: Any) -> None:
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """One good study, copies, oddities, and what an export must not lead astray."""
    root = tmp_path / "export"
    save(mr(), root / "a" / "1.dcm", InstanceNumber=1, SOPInstanceUID="1.2.1")
    save(mr(), root / "a" / "2.dcm", InstanceNumber=2, SOPInstanceUID="1.2.2")
    save(mr(), root / "b" / "copy.dcm", InstanceNumber=1, SOPInstanceUID="1.2.1")
    for n, rows in enumerate(("x", "y")):
        changes = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": f"1.5.{n}", "StudyDescription": rows}
        save(mr(), root / "c" / f"{n}.dcm", **changes)
    for n, name in enumerate(("Doe^Jane", "Roe^Richard")):
        save(mr(), root / "d" / f"{n}.dcm", SOPInstanceUID=f"1.2.4.{n}", StudyInstanceUID="1.6", PatientName=name)
    for n, issuer in enumerate(("NORTH", "SOUTH")):
        changes = {"StudyInstanceUID": f"1.7.{n}", "IssuerOfPatientID": issuer, "PatientID": "1"}
        save(mr(), root / "e" / f"{n}.dcm", SOPInstanceUID=f"1.2.5.{n}", **changes)
    whole = (root / "a" / "1.dcm").read_bytes()
    start = 132 + 12 + int.from_bytes(whole[140:144], "little")
    (root / "f").mkdir()
    (root / "f" / "no_meta").write_bytes(whole[start:].replace(b"1.2.1\0", b"1.2.9\0"))
    (root / "f" / "notes.txt").write_text("no image")
    (root / "f" / "empty").write_bytes(b"")
    (root / "f" / "link").symlink_to(root / "a" / "1.dcm")
    (root / "f" / "folder").symlink_to(root / "a")
    os.mkfifo(root / "f" / "pipe")
    (root / "DICOMDIR").write_bytes(Path(get_testdata_file("DICOMDIR")).read_bytes())
    return root


STATES = {
    "DICOMDIR": ("skipped", Reason.DICOMDIR),
    "a/1.dcm": ("used", None),
    "a/2.dcm": ("used", None),
    "b/copy.dcm": ("skipped", Reason.DUPLICATE),
    "c/0.dcm": ("refused", Reason.DUPLICATE_UID),
    "c/1.dcm": ("refused", Reason.DUPLICATE_UID),
    "d/0.dcm": ("refused", Reason.MIXED_PATIENTS),
    "d/1.dcm": ("refused", Reason.MIXED_PATIENTS),
    "e/0.dcm": ("used", None),
    "e/1.dcm": ("used", None),
    "f/empty": ("refused", Reason.EMPTY_FILE),
    "f/folder": ("skipped", Reason.SYMLINK),
    "f/link": ("skipped", Reason.SYMLINK),
    "f/no_meta": ("used", None),
    "f/notes.txt": ("skipped", Reason.NOT_DICOM),
    "f/pipe": ("skipped", Reason.NOT_A_FILE),
}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_file_ends_in_one_state(export: Path, workers: int) -> None:
    index = build_index(export, workers=workers)
    assert index.files == {name: FileState(name, *state) for name, state in STATES.items()}
    uids = [i.sop_uid for series in index.series for i in series.instances]
    assert [uid for uid in uids if uid in ("1.2.1", "1.2.2", "1.2.9")] == ["1.2.1", "1.2.9", "1.2.2"]


def test_workers_and_one_process_give_the_same_index(export: Path) -> None:
    assert build_index(export, "North") == build_index(export, "North", workers=2)


def test_a_refused_object_stays_in_every_study_that_claims_it(export: Path) -> None:
    studies = build_index(export).studies()
    for uid, reason in (
        ("1.5.0", Reason.DUPLICATE_UID),
        ("1.5.1", Reason.DUPLICATE_UID),
        ("1.6", Reason.MIXED_PATIENTS),
    ):
        assert {i.refusal for series in studies[uid] for i in series.instances} == {reason}


def test_one_patient_id_under_two_issuers_is_two_patients_and_said(export: Path) -> None:
    index = build_index(export)
    keys = {i.patient_key for series in index.series for i in series.instances if i.sop_uid.startswith("1.2.5")}
    assert len(keys) == 2
    assert "more than one patient" in index.remarks[""][0]
    assert not any(word in str(index.remarks) for word in ("Doe", "4711", "NORTH"))


def test_a_file_without_meta_header_is_recognised_and_readable(export: Path) -> None:
    path = export / "f" / "no_meta"
    assert "no preamble" in inspect(path).remarks[0]
    assert read_header(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    path.write_bytes(b"\x20" + path.read_bytes())  # the near miss: one byte too many in front
    with pytest.raises(InputError, match="its beginning is not") as raised:
        read_header(path)
    assert raised.value.reason is Reason.UNREADABLE_HEADER


def test_names_in_every_character_set_are_those_that_pydicom_reads(tmp_path: Path) -> None:
    for n, charset in enumerate(("ISO_IR 100", "ISO_IR 192", "ISO_IR 144", ["", "ISO 2022 IR 87"])):
        name = "山田病院" if n == 3 else "Больница" if n == 2 else "Universitätsklinikum Köln"
        save(mr(), tmp_path / f"{n}.dcm", SpecificCharacterSet=charset, InstitutionName=name)
        assert compare(tmp_path / f"{n}.dcm") == "equal"
        (series,) = build_index(tmp_path / f"{n}.dcm").series
        assert series.instances[0].origin.site == name
