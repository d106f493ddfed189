"""Hand-built mammography headers and results for the CAD report tests: one for every outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydicom import Dataset

from imaging.errors import Reason
from imaging.exam.result import Algorithm, Calibration, ExamResult, Unread
from imaging.findings import Code, Finding, Label, Rating, trace_outline
from imaging.image import Grid, Origin, SourceRef, View
from imaging.modalities.mammography import MAMMOGRAPHY
from imaging.modalities.mammography.conclusions import Projections, pair, score, summarise
from imaging.report.document import derived_uid
from tests.report_cases import NAMES, Case, reread, set_raw

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
ROWS, COLUMNS, SPACING = 120, 100, 0.5
STUDY = derived_uid("mammography test study")
SERIES = derived_uid("mammography test series")
BREAST = Code("76752008", "SCT", "Breast")
MORPHOLOGY = Code("49755003", "SCT", "Morphologically Altered Structure")


def _label(name: str, finding: Code) -> Label:
    return Label(name, finding, MORPHOLOGY, finding, BREAST)


MASS = _label("mass", Code("4147007", "SCT", "Mass"))
CLUSTER = _label("cluster", Code("129769006", "SCT", "Calcification Cluster"))
ALGORITHM = Algorithm(
    name="mg-demo",
    version="1.0.0",
    manufacturer="Sitewise",
    identity="cd" * 32,
    parameters=("recipe=mammography-0123", "threshold=0.5"),
    labels=(MASS, CLUSTER),
    procedure=Code("363679005", "SCT", "Imaging procedure"),
)
VALIDATED = replace(
    ALGORITHM,
    calibration=Calibration("900 women of a screening unit", 0.0125, "0.8: sensitivity 0.9, specificity 0.9"),
    rating=Rating("malignancy", "malignant", "benign", Code("111047", "DCM", "Probability of cancer")),
)
# The four standard views, in the order of the exam.
VIEWS = {
    "RCC": View("R", "CC"),
    "LCC": View("L", "CC"),
    "RMLO": View("R", "MLO"),
    "LMLO": View("L", "MLO"),
    "LM": View("L", "CC", ("magnification", "spot compression")),
}
# Nipples as x, y; the left breast points right on the image, the right one left.
NIPPLES = {"LCC": (90.0, 60.0), "LMLO": (80.0, 70.0), "RCC": (10.0, 60.0), "RMLO": (20.0, 70.0)}


def header(name: str, script: str = "plain", **changes: object) -> Dataset:
    """A mammography header as dcmread gives it, its identity still raw."""
    data = Dataset()
    data.SOPClassUID = FOR_PRESENTATION
    data.SOPInstanceUID = derived_uid("mammography test image", name)
    data.StudyInstanceUID, data.SeriesInstanceUID = STUDY, SERIES
    data.Modality = "MG"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240102", "101112", "S1", "A1"
    data.ContentDate, data.ContentTime = "20240102", "101315.25"
    data.PatientBirthDate, data.PatientSex = "19600101", "F"
    data.ReferringPhysicianName = "Roe^Richard"
    data.Rows, data.Columns = ROWS, COLUMNS
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    view = VIEWS[name]
    data.ImageLaterality = view.laterality
    data.PatientOrientation = ["A" if view.laterality == "L" else "P", "R" if view.view == "CC" else "FR"]
    data.ImagerPixelSpacing = [SPACING, SPACING]
    data.PositionerPrimaryAngle = 0 if view.view == "CC" else 45
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    charset, person = NAMES[script]
    set_raw(data, 0x00080005, "CS", charset)
    set_raw(data, 0x00100010, "PN", person)
    set_raw(data, 0x00100020, "LO", b"P-1 ")
    return reread(data)


def uid(name: str) -> str:
    return derived_uid("mammography test image", name)


def ref(name: str) -> SourceRef:
    return SourceRef(STUDY, SERIES, FOR_PRESENTATION, uid(name))


def spot(name: str, x: int, y: int, value: float = 0.9, label: str = "mass", unit: str = "mm") -> Finding:
    """A finding of 9 × 7 pixels with a notch, centred about x, y."""
    mask = np.ones((7, 9), dtype=np.bool_)
    mask[0, 0] = mask[6, 8] = False
    step = SPACING if unit == "mm" else 1.0
    grid = Grid.plane(ROWS, COLUMNS, step, step, unit=unit)
    corner = (y - 3, x - 4)
    outline = trace_outline(mask) + np.array([corner[1], corner[0]], dtype=np.float64)
    return Finding(label, value, ref(name), grid, mask, corner, outline)


def projections(names: Sequence[str], nipples: bool = True) -> Projections:
    views = {uid(name): VIEWS[name] for name in names}
    known = {uid(name): NIPPLES[name] for name in names if name in NIPPLES}
    return Projections(views, known) if nipples else Projections(views, {}, known)


def result(
    found: Sequence[Finding], read: Sequence[str], failed: Sequence[str] = (), *, algorithm: Algorithm = ALGORITHM,
    operating_point: float | None = 0.8, reason: Reason = Reason.DECODE_FAILED,
) -> ExamResult:  # fmt: skip
    """The result of an exam with these findings, images read and images that failed."""
    known = projections([*read, *failed])
    classes = {ref(name): {"malignant": 0.3, "benign": 0.1, "normal": 0.6} for name in read}
    findings = summarise(found, ["longest_diameter", "area"], algorithm.rating, classes)
    composites = pair(findings, known)
    analysed = tuple(ref(name) for name in read)
    return ExamResult(
        study_uid=STUDY, modality="MG", package="mg-demo", group="all", origin=Origin(), algorithm=algorithm,
        findings=findings, analysed=analysed, unread=tuple(Unread(ref(name), reason) for name in failed),
        notes=("Scanner not among those of the training data.",), views=known.views, composites=composites,
        scores=score(findings, composites, analysed, known.views, operating_point),
    )  # fmt: skip


FOUR = ("RCC", "LCC", "RMLO", "LMLO")
# A mass of the left breast in both views, 20.0 and 20.6 mm from the nipple; one in the right CC alone; a faint cluster.
PAIR = (spot("LCC", 50, 60, 0.7), spot("LMLO", 40, 80, 0.6))
SINGLE = spot("RCC", 60, 30, 0.85)
FAINT = spot("RMLO", 70, 40, 0.3, "cluster")


def case(name: str, script: str = "plain") -> Case:
    """One of CASES."""
    told = _result(name)
    headers = [header(one, script) for one in VIEWS if uid(one) in told.views]
    return Case(told, {str(one.SOPInstanceUID): one for one in headers}, MAMMOGRAPHY.outputs())


def _result(name: str) -> ExamResult:
    found = (*PAIR, SINGLE, FAINT)
    if name == "yes-all":
        return result(found, FOUR)
    if name == "yes-validated":
        return result(found, FOUR, algorithm=VALIDATED)
    if name == "yes-some":
        return result([SINGLE], FOUR[:2], FOUR[2:])
    if name == "no-all":
        return result([], FOUR)
    if name == "unknown-some":
        return result([], FOUR[:3], FOUR[3:])
    if name == "unknown-failed":
        return result([], [], FOUR)
    if name == "unknown-unattempted":
        return result([], [], FOUR, reason=Reason.UNSUPPORTED_OBJECT)
    if name == "uncalibrated":
        return result([spot("LCC", 50, 60, unit="pixel"), spot("LMLO", 40, 80, unit="pixel")], FOUR)
    if name == "no-operating-point":
        return result([spot("LM", 50, 60), SINGLE], [*FOUR, "LM"], operating_point=None)
    raise KeyError(name)


CASES = (
    "yes-all", "yes-validated", "yes-some", "no-all", "unknown-some", "unknown-failed", "unknown-unattempted",
    "uncalibrated", "no-operating-point",
)  # fmt: skip
