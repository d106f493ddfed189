"""Hand-built ultrasound sources and results for the report tests: one for every outcome, one for every script."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from imaging.errors import Reason
from imaging.exam.result import Algorithm, Calibration, ExamFinding, ExamRating, ExamResult, Unread
from imaging.findings import Code, Finding, Label, Rating, trace_outline
from imaging.image import Grid, Origin, SourceRef
from imaging.report.document import derived_uid
from imaging.report.kind import ObjectKind

US_IMAGE, US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
ROWS, COLUMNS = 60, 80
CONTENT_TIME = datetime(2024, 5, 6, 7, 8, 9)
STUDY = derived_uid("test study")
SERIES = derived_uid("test series")

LESION = Label(
    name="lesion",
    finding=Code("52988006", "SCT", "Lesion"),
    category=Code("49755003", "SCT", "Morphologically Altered Structure"),
    kind=Code("52988006", "SCT", "Lesion"),
    site=Code("76752008", "SCT", "Breast"),
)
ALGORITHM = Algorithm(
    name="us-demo",
    version="1.0.0",
    manufacturer="Sitewise",
    identity="ab" * 32,
    parameters=("recipe=ultrasound-0123", "threshold=0.5"),
    labels=(LESION,),
    procedure=Code("363679005", "SCT", "Imaging procedure"),
)
MALIGNANCY = Rating("malignancy", "malignant", "benign", Code("111047", "DCM", "Probability of cancer"))
RATED = replace(
    ALGORITHM,
    calibration=Calibration("1200 women of a screening unit", 0.3125, "p 0.4: sensitivity 0.95, specificity 0.6"),
    rating=MALIGNANCY,
)


@dataclass(frozen=True)
class Case:
    """A result with the headers of its sources, and what its modality writes besides."""

    result: ExamResult
    sources: dict[str, Dataset]
    outputs: tuple[ObjectKind, ...] = ()


# Raw bytes as an archive holds them: Specific Character Set, Patient's Name.
NAMES = {
    "ligature": (b"ISO_IR 192", "Lecœur^Zoé".encode()),
    "greek": (b"ISO_IR 126", "Διονυσιος".encode("iso8859_7")),
    "japanese": (
        b"\\ISO 2022 IR 87 ",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "empty": (b"ISO_IR 100", b""),
    "plain": (None, b"Doe^Jane"),
}


def source(name: str, *, frames: int = 1, script: str = "plain", patient: bytes = b"P-1 ", orientation: bool = True,
           pixels: bool = False) -> Dataset:  # fmt: skip
    """An ultrasound header as dcmread gives it, its identity still raw."""
    data = Dataset()
    data.SOPClassUID = US_MULTIFRAME if frames > 1 else US_IMAGE
    data.SOPInstanceUID = derived_uid("test image", name)
    data.StudyInstanceUID, data.SeriesInstanceUID = STUDY, SERIES
    data.Modality = "US"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240102", "101112", "S1", "A1"
    data.StudyDescription, data.TimezoneOffsetFromUTC = "Breast US", "+0200"
    data.PatientBirthDate, data.PatientSex, data.IssuerOfPatientID = "19700101", "F", "SITE"
    data.ReferringPhysicianName = "Roe^Richard"
    data.Rows, data.Columns = ROWS, COLUMNS
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    if frames > 1:
        data.NumberOfFrames = frames
    if orientation:
        data.PatientOrientation = ""
    charset, person = NAMES[script]
    set_raw(data, 0x00080005, "CS", charset)
    set_raw(data, 0x00100010, "PN", person)
    set_raw(data, 0x00100020, "LO", patient)
    if pixels:
        data.PixelData = bytes(ROWS * COLUMNS * frames)
        data["PixelData"].VR = "OB"
    return reread(data)


def set_raw(data: Dataset, tag: int, vr: str, value: bytes | None) -> None:
    if value is None:
        return
    padded = value + b" " * (len(value) % 2)
    data[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(padded), padded, 0, False, True)


def reread(data: Dataset) -> Dataset:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def ref(header: Dataset, frame: int | None = None) -> SourceRef:
    return SourceRef(STUDY, SERIES, str(header.SOPClassUID), str(header.SOPInstanceUID), frame)


def blob(where: SourceRef, row: int, column: int, *, unit: str = "mm", hole: bool = True) -> Finding:
    """A lesion of 8 × 12 pixels with a notch, and a hole unless asked otherwise; 0.2 × 0.3 mm pixels."""
    mask = np.ones((8, 12), dtype=np.bool_)
    mask[:2, :3] = False
    mask[4, 6] = not hole
    step = (0.2, 0.3) if unit == "mm" else (1.0, 1.0)
    grid = Grid.plane(ROWS, COLUMNS, *step, unit=unit)
    outline = trace_outline(mask) + np.array([column, row], dtype=np.float64)
    return Finding("lesion", 0.91234567, where, grid, mask, (row, column), outline)


def _result(findings: list[ExamFinding], analysed: list[SourceRef], unread: list[Unread]) -> ExamResult:
    return ExamResult(
        study_uid=STUDY, modality="US", package="us-demo", group="all", origin=Origin(), algorithm=ALGORITHM,
        findings=tuple(findings), analysed=tuple(analysed), unread=tuple(unread),
        notes=("Scanner not among those of the training data.",),
    )  # fmt: skip


def case(name: str, script: str = "plain") -> Case:
    """One of CASES."""
    a, b = source("a", script=script), source("b", script=script)
    cine = source("c", frames=4, script=script)
    shown, other = ref(a), ref(b)
    broken = Unread(other, Reason.DECODE_FAILED)
    one = [ExamFinding(blob(shown, 20, 30))]
    both = {str(h.SOPInstanceUID): h for h in (a, b)}
    clip = {str(cine.SOPInstanceUID): cine}
    if name == "yes-all":
        two = [*one, ExamFinding(blob(shown, 24, 34, hole=False)), ExamFinding(blob(other, 5, 6))]
        return Case(_result(two, [shown, other], []), both)
    if name == "yes-some":
        return Case(_result(one, [shown], [broken]), both)
    if name == "no-all":
        return Case(_result([], [shown, other], []), both)
    if name == "unknown-some":
        return Case(_result([], [shown], [broken]), both)
    if name == "unknown-none":
        return Case(
            _result([], [], [Unread(shown, Reason.NO_TISSUE_REGION), Unread(other, Reason.NO_TISSUE_REGION)]), both
        )
    if name == "uncalibrated":
        return Case(_result([ExamFinding(blob(shown, 0, 0, unit="pixel"))], [shown], []), both)
    if name == "cine":
        found = [ExamFinding(blob(ref(cine, 3), 20, 30), frames=(2, 3, 4))]
        frames = [ref(cine, number) for number in (1, 2, 3, 4)]
        return Case(_result(found, [shown, *frames], []), both | clip)
    if name == "cine-some":
        found = [ExamFinding(blob(ref(cine, 2), 20, 30), frames=(2,))]
        lost = [Unread(ref(cine, number), Reason.PREDICTION_FAILED) for number in (3, 4)]
        return Case(_result(found, [ref(cine, 1), ref(cine, 2)], lost), clip)
    if name == "yes-rated":
        two = [ExamFinding(blob(shown, 20, 30), rating=0.81236), ExamFinding(blob(other, 5, 6), rating=0.25)]
        told = _result(two, [shown, other], [])
        return Case(replace(told, algorithm=RATED, rating=ExamRating(0.61724, shown)), both)
    if name == "cine-rated":
        found = [ExamFinding(blob(ref(cine, 3), 20, 30), frames=(2, 3, 4), rating=0.5)]
        told = _result(found, [ref(cine, number) for number in (1, 2, 3, 4)], [])
        return Case(replace(told, algorithm=RATED, rating=ExamRating(0.375, ref(cine, 2))), clip)
    if name == "no-rated":
        told = _result([], [shown, other], [])
        return Case(replace(told, algorithm=RATED, rating=ExamRating(0.0406, other)), both)
    raise KeyError(name)


CASES = (
    "yes-all", "yes-some", "no-all", "unknown-some", "unknown-none", "uncalibrated", "cine", "cine-some", "yes-rated",
    "cine-rated", "no-rated",
)  # fmt: skip
