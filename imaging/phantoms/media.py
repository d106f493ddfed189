"""What lies beside ultrasound in an export: an MR localiser, a text report, a DICOMDIR.

All synthetic, deterministic and complete enough for a DICOM validator.
References: PS3.3 A.4 (MR Image), A.35.1 (Basic Text SR), F.3 and F.5 (Basic Directory).
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from imaging.phantoms.ultrasound.dicom import (
    Patient,
    describe_patient,
    describe_study,
    empty_object,
    file_bytes,
    moment,
    uid,
)

MR_IMAGE, BASIC_TEXT_SR, DIRECTORY = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.1.3.10",
)
_ACTIVE = 0xFFFF


def mr_localiser(patient: Patient, study: int, series: int, instance: int) -> FileDataset:
    """One 64 × 64 axial localiser slice: an ellipse of noise, slices 10 mm apart along the body."""
    ds = empty_object(MR_IMAGE, uid("mr", patient.patient_id, study, series, instance))
    describe_patient(ds, patient)
    describe_study(ds, patient, study, "BREAST")
    _series(ds, patient, "MR", study, series)
    ds.BodyPartExamined = "BREAST"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid("frame", patient.patient_id, study, series), ""
    ds.InstanceNumber, ds.ImageType = instance, ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.PatientOrientation = ["L", "P"]
    ds.PatientPosition, ds.Laterality = "HFP", "R"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-160, -160, 10 * instance], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [5, 5], "8"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "NONE", "", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength, ds.MagneticFieldStrength = "20", "5", 1, "1.5"
    ds.ImageComments = "Synthetic phantom, not a person"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = 64
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    row, column = np.mgrid[:64, :64]
    body = np.hypot((row - 31.5) / 18, (column - 31.5) / 26) < 1
    noise = np.random.default_rng([study, series, instance]).rayleigh(40.0, (64, 64))
    ds.PixelData = np.clip(700 * body + noise, 0, 4095).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def text_report(patient: Patient, study: int, series: int) -> FileDataset:
    """A Basic Text SR with one sentence: an object of the study without pixels."""
    ds = empty_object(BASIC_TEXT_SR, uid("sr", patient.patient_id, study, series))
    describe_patient(ds, patient)
    describe_study(ds, patient, study, "BREAST")
    _series(ds, patient, "SR", study, series)
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.InstanceNumber = 1
    when = moment("study", patient.patient_id, study) + datetime.timedelta(minutes=30)
    ds.ContentDate, ds.ContentTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    ds.CompletionFlag, ds.VerificationFlag = "PARTIAL", "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = Sequence()
    text = Dataset()
    text.RelationshipType, text.ValueType = "CONTAINS", "TEXT"
    text.ConceptNameCodeSequence = Sequence([_code("121071", "Finding")])
    text.TextValue = "Synthetic report of a synthetic examination."
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([_code("18748-4", "Diagnostic imaging report", "LN")])
    ds.ContentSequence = Sequence([text])
    return ds


def _series(ds: Dataset, patient: Patient, modality: str, study: int, series: int) -> None:
    ds.Modality, ds.SeriesNumber = modality, series
    ds.SeriesInstanceUID = uid("series", patient.patient_id, study, series)
    ds.Manufacturer, ds.ManufacturerModelName = "Synthetic Vendor M", "Magnephant"
    ds.InstitutionName, ds.SoftwareVersions = "Synthetic Hospital", "M 1.0"


def _code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


_RECORD_KEYS: dict[str, tuple[str, ...]] = {
    "PATIENT": ("PatientName", "PatientID"),
    "STUDY": ("StudyDate", "StudyTime", "StudyDescription", "StudyInstanceUID", "StudyID", "AccessionNumber"),
    "SERIES": ("Modality", "SeriesInstanceUID", "SeriesNumber"),
    "IMAGE": ("InstanceNumber",),
    "SR DOCUMENT": (
        "InstanceNumber", "CompletionFlag", "VerificationFlag", "ContentDate", "ContentTime", "ConceptNameCodeSequence",
    ),
}  # fmt: skip
"""Mandatory keys of each directory record (PS3.3 F.5)."""
_LEVELS = (("PATIENT", "PatientID"), ("STUDY", "StudyInstanceUID"), ("SERIES", "SeriesInstanceUID"))


def directory(files: Iterable[tuple[str, FileDataset]]) -> bytes:
    """A DICOMDIR over (relative path, object) pairs that come ordered by patient, study and series.

    Record offsets are byte positions in the file itself (PS3.3 F.3.2.2): it is laid out once, measured, and filled in.
    """
    records: list[Dataset] = []
    parents: list[int | None] = []
    open_levels: list[tuple[str, int]] = []
    for path, ds in files:
        for depth, (kind, key) in enumerate(_LEVELS):
            if len(open_levels) > depth and open_levels[depth][0] == str(ds[key].value):
                continue
            del open_levels[depth:]
            parents.append(open_levels[-1][1] if open_levels else None)
            open_levels.append((str(ds[key].value), len(records)))
            records.append(_record(kind, ds))
        parents.append(open_levels[-1][1])
        records.append(_leaf(path, ds))
    return _linked(records, parents)


def _record(kind: str, ds: Dataset) -> Dataset:
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.RecordInUseFlag, record.DirectoryRecordType = _ACTIVE, kind
    record.SpecificCharacterSet = ds.SpecificCharacterSet
    for key in _RECORD_KEYS[kind]:
        setattr(record, key, ds[key].value)
    return record


def _leaf(path: str, ds: FileDataset) -> Dataset:
    record = _record("SR DOCUMENT" if ds.Modality == "SR" else "IMAGE", ds)
    record.ReferencedFileID = path.split("/")
    record.ReferencedSOPClassUIDInFile = ds.SOPClassUID
    record.ReferencedSOPInstanceUIDInFile = ds.SOPInstanceUID
    record.ReferencedTransferSyntaxUIDInFile = ds.file_meta.TransferSyntaxUID
    return record


def _linked(records: list[Dataset], parents: list[int | None]) -> bytes:
    """The file with every record pointing to its next sibling and its first child."""
    root = empty_object(DIRECTORY, uid("dicomdir", *(r.get("ReferencedSOPInstanceUIDInFile", "") for r in records)))
    del root.SOPClassUID, root.SOPInstanceUID  # PS3.10 8.6: they stand in the file meta information only
    root.FileSetID = "PHANTOMS"
    root.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    root.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    root.FileSetConsistencyFlag = 0
    root.DirectoryRecordSequence = Sequence(records)
    laid_out = pydicom.dcmread(io.BytesIO(file_bytes(root)))
    offsets = [int(item.seq_item_tell) for item in laid_out.DirectoryRecordSequence]
    for parent in {*parents}:
        family = [n for n, p in enumerate(parents) if p == parent]
        for here, following in pairwise(family):
            records[here].OffsetOfTheNextDirectoryRecord = offsets[following]
        if parent is None:
            root.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = offsets[family[0]]
            root.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = offsets[family[-1]]
        else:
            records[parent].OffsetOfReferencedLowerLevelDirectoryEntity = offsets[family[0]]
    return file_bytes(root)
