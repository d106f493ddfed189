"""Hand-built MR studies and results of volumes: any axis order and direction, classic and Enhanced, every outcome."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from imaging.errors import Reason
from imaging.exam.result import Algorithm, ExamFinding, ExamResult, Unread
from imaging.findings import Code, Label, cross_section
from imaging.image import LPS_TO_RAS, Floats, Grid, Origin, SourceRef
from imaging.report.document import derived_uid
from imaging.volume_region import VolumeRegion
from tests.report_cases import NAMES, Case, reread, set_raw

CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
STUDY = derived_uid("volume test study")
FRAME_OF_REFERENCE = derived_uid("volume test frame of reference")
SHAPE, STEPS_MM = (9, 20, 26), (3.0, 0.8, 0.5)  # slice, row, column

ALTERED = Code("49755003", "SCT", "Morphologically Altered Structure")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
PROSTATE = Code("41216001", "SCT", "Prostate")
PERIPHERAL = Code("279706003", "SCT", "Peripheral zone of the prostate")
SECTOR = Code("716922000", "SCT", "Left posterolateral middle peripheral zone of prostate")
LESION = Label("lesion", Code("52988006", "SCT", "Lesion"), ALTERED, Code("52988006", "SCT", "Lesion"), PROSTATE)
GLAND = Label("gland", PROSTATE, ANATOMY, PROSTATE, PROSTATE)
ZONE = Label("peripheral zone", PERIPHERAL, ANATOMY, PERIPHERAL, PROSTATE)
ALGORITHM = Algorithm(
    name="prostate-demo",
    version="1.0.0",
    manufacturer="Sitewise",
    identity="ef" * 32,
    parameters=("recipe=prostate-0123", "threshold=0.5"),
    labels=(LESION, GLAND, ZONE),
    procedure=Code("363679005", "SCT", "Imaging procedure"),
)

# The centre of the first lesion in the patient (LPS, mm), the same in every study, and the voxel that lies there.
CENTRE_LPS: Final = np.array([12.5, -34.25, 61.0])
CENTRE_INDEX: Final = (3, 8, 17)


@dataclass(frozen=True)
class Lattice:
    """Directions (3, 3) of the slice, row and column axes as columns, unit vectors in LPS, and what to call them."""

    name: str
    directions: Floats

    @property
    def lps(self) -> Floats:
        """Affine (4, 4) of voxel centres (slice, row, column) to LPS; CENTRE_INDEX lies at CENTRE_LPS."""
        affine = np.eye(4)
        affine[:3, :3] = self.directions * STEPS_MM
        affine[:3, 3] = CENTRE_LPS - affine[:3, :3] @ CENTRE_INDEX
        return affine

    @property
    def grid(self) -> Grid:
        return Grid(SHAPE, LPS_TO_RAS @ self.lps, "patient_ras")

    @property
    def follows_normal(self) -> bool:
        """Whether slices are in the order that `imaging.dicom.pixels.volume` gives: along the cross product of the
        rows' and columns' directions."""
        slices, rows, columns = self.directions.T
        return bool(np.cross(columns, rows) @ slices > 0)


def _signed_permutations() -> list[Lattice]:
    """All 48: each array axis along one patient axis, either way."""
    found = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            directions = np.zeros((3, 3))
            directions[list(axes), range(3)] = signs
            names = [f"{'-+'[sign > 0]}{'LPH'[axis]}" for axis, sign in zip(axes, signs, strict=True)]
            found.append(Lattice("slice{}_row{}_column{}".format(*names), directions))
    return found


def _turned(name: str, degrees: tuple[float, float, float], mirrored: bool) -> Lattice:
    a, b, c = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    axial = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=float)  # columns to the left, rows back, slices up
    turned = (about_x @ about_y @ about_z @ axial).round(9)
    return Lattice(name, turned * ([-1, 1, 1] if mirrored else [1, 1, 1]))


AXIAL: Final = Lattice("axial", np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]))
LATTICES: Final = (
    *_signed_permutations(),
    _turned("oblique", (21.0, -13.0, 34.0), mirrored=False),
    _turned("oblique_mirrored", (-38.0, 17.0, -52.0), mirrored=True),
)


def ellipsoid(grid: Grid, index: tuple[int, int, int], radii_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Voxels within an ellipsoid along the patient's axes, x, y and z, around a voxel centre.

    A lattice is symmetric about each of its points, so the mean of these voxels is the centre, exactly.
    """
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1) - np.asarray(index)
    offsets_mm = voxels @ grid.affine[:3, :3].T
    return np.asarray((offsets_mm**2 / np.square(radii_mm)).sum(axis=-1) <= 1.0)


def volume_region(mask: NDArray[np.bool_], grid: Grid, refs: Sequence[SourceRef]) -> VolumeRegion:
    where = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    cut = mask[tuple(slice(found[0], found[-1] + 1) for found in where)]
    return VolumeRegion(cut, (int(where[0][0]), int(where[1][0]), int(where[2][0])), grid, tuple(refs))


def _common(name: str, series: str, sop_class: str, script: str) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, derived_uid("volume test image", series, name)
    data.StudyInstanceUID, data.SeriesInstanceUID = STUDY, derived_uid("volume test series", series)
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = FRAME_OF_REFERENCE, ""
    data.Modality, data.BodyPartExamined = "MR", "PROSTATE"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240102", "101112", "S1", "A1"
    data.PatientBirthDate, data.PatientSex, data.ReferringPhysicianName = "19500101", "M", "Roe^Richard"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    data.Rows, data.Columns = SHAPE[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    charset, person = NAMES[script]
    set_raw(data, 0x00080005, "CS", charset)
    set_raw(data, 0x00100010, "PN", person)
    set_raw(data, 0x00100020, "LO", b"P-1 ")
    return data


def _cosines(lattice: Lattice) -> list[float]:
    return [float(v) for v in (*lattice.directions[:, 2], *lattice.directions[:, 1])]


def _corner(lattice: Lattice, place: int) -> list[float]:
    return [float(v) for v in (lattice.lps @ [place, 0, 0, 1])[:3].round(9)]


def classic(lattice: Lattice, series: str = "T2W", script: str = "plain", pixels: bool = False) -> list[Dataset]:
    """One header per slice, in the lattice's order, which is also that of InstanceNumber; read back from bytes."""
    found = []
    for place in range(SHAPE[0]):
        data = _common(str(place), series, CLASSIC, script)
        data.InstanceNumber = place + 1
        data.ImagePositionPatient, data.ImageOrientationPatient = _corner(lattice, place), _cosines(lattice)
        data.PixelSpacing, data.SliceThickness = list(STEPS_MM[1:]), 2.5
        if pixels:
            data.PixelData = np.full(SHAPE[1:], place, "<u2").tobytes()
            data["PixelData"].VR = "OW"
        found.append(reread(data))
    return found


def enhanced(lattice: Lattice, frames: Sequence[int | None], own_orientation: bool) -> Dataset:
    """One Enhanced MR header whose frame n holds slice `frames[n - 1]`; None is a frame of another, coronal stack."""
    data = _common("enhanced", "T2W", ENHANCED, "plain")
    data.NumberOfFrames = len(frames)
    shared, data.PerFrameFunctionalGroupsSequence = Dataset(), []
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(STEPS_MM[1:]), 2.5
    orientation.ImageOrientationPatient = _cosines(lattice)
    shared.PixelMeasuresSequence = [measures]
    if not own_orientation:
        shared.PlaneOrientationSequence = [orientation]
    data.SharedFunctionalGroupsSequence = [shared]
    for number, place in enumerate(frames):
        item, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0.0, float(number), 0.0] if place is None else _corner(lattice, place)
        item.PlanePositionSequence = [position]
        if own_orientation:
            coronal = Dataset()
            coronal.ImageOrientationPatient = [1.0, 0, 0, 0, 0, -1]
            item.PlaneOrientationSequence = [coronal if place is None else orientation]
        data.PerFrameFunctionalGroupsSequence.append(item)
    return reread(data)


def ref(header: Dataset, frame: int | None = None) -> SourceRef:
    uids = STUDY, str(header.SeriesInstanceUID), str(header.SOPClassUID), str(header.SOPInstanceUID)
    return SourceRef(*uids, frame)


def exam_of(
    grid: Grid, refs: Sequence[SourceRef], lesions: int = 2, more: Sequence[SourceRef] = (), **changes: Any
) -> ExamResult:
    """A result on the slices `refs`: up to two lesions, the gland and a zone; `more` are other images analysed."""
    first = volume_region(ellipsoid(grid, CENTRE_INDEX, (2.2, 3.1, 3.9)), grid, refs)
    second = volume_region(ellipsoid(grid, (6, 13, 7), (1.6, 1.6, 1.6)), grid, refs)
    found = [
        ExamFinding(
            cross_section("lesion", 0.81234567, first),
            measures={"volume_ml": first.volume_ml, "adc_mean_um2_s": 812.345, "adc_p10_um2_s": 655.1},
            site=SECTOR,
        ),
        ExamFinding(cross_section("lesion", 0.4, second), measures={"adc_mean_um2_s": None}),
    ]
    gland = volume_region(ellipsoid(grid, (4, 10, 12), (5.5, 5.0, 5.8)), grid, refs)
    back = gland.full_mask() & (np.indices(grid.shape)[1] > 11)
    zone = volume_region(back, grid, refs)
    result = ExamResult(
        study_uid=STUDY, modality="MR", package="prostate-demo", group="all", origin=Origin(), algorithm=ALGORITHM,
        findings=tuple(found[:lesions]), analysed=(*refs, *more), unread=(),
        measures={"gland_volume_ml": gland.volume_ml, "psa_ng_ml": 6.5, "psa_density_ng_ml2": 0.15449},
        notes=("Scanner not among those of the training data.",),
        structures=tuple(ExamFinding(cross_section(label.name, 1.0, s)) for label, s in ((GLAND, gland), (ZONE, zone))),
    )  # fmt: skip
    return replace(result, **changes)


def case_on(lattice: Lattice) -> Case:
    """Lesions, gland and zone on a classic T2W series of that lattice."""
    t2w = classic(lattice)
    return Case(exam_of(lattice.grid, [ref(h) for h in t2w]), {str(h.SOPInstanceUID): h for h in t2w})


def case(name: str, script: str = "plain") -> Case:
    """One of CASES: T2W and ADC images on the axial lattice."""
    headers = classic(AXIAL, script=script), classic(AXIAL, "ADC", script)
    t2w, adc = (tuple(ref(h) for h in of_role) for of_role in headers)
    result = exam_of(AXIAL.grid, t2w, more=adc)
    subject = Case(result, {str(h.SOPInstanceUID): h for of_role in headers for h in of_role})
    lost = tuple(Unread(one, Reason.IMPLAUSIBLE_ADC) for one in adc)
    if name == "yes-all":
        return subject
    if name == "yes-some":
        return Case(replace(result, analysed=t2w, unread=lost), subject.sources)
    if name == "no-all":
        return Case(replace(result, findings=()), subject.sources)
    if name == "unknown-some":
        return Case(replace(result, findings=(), analysed=t2w, unread=lost), subject.sources)
    empty = replace(result, findings=(), structures=(), measures={}, analysed=())
    if name == "unknown-none":
        unread = tuple(Unread(one, Reason.INCOMPLETE_VOLUME) for one in result.analysed)
        return Case(replace(empty, unread=unread), subject.sources)
    if name == "failed":
        unread = tuple(Unread(one, Reason.PREDICTION_FAILED) for one in result.analysed)
        return Case(replace(empty, unread=unread), subject.sources)
    if name == "enhanced":
        return _enhanced_case((5, 0, 8, 2, 7, 1, 6, 4, 3), own_orientation=False)
    if name == "enhanced-stacks":
        return _enhanced_case((None, 8, 7, None, 6, 5, 4, 3, None, 2, 1, 0), own_orientation=True)
    if name == "no-frame-of-reference":
        for header in subject.sources.values():
            del header.FrameOfReferenceUID
        return subject
    raise KeyError(name)


def _enhanced_case(frames: Sequence[int | None], own_orientation: bool) -> Case:
    header = enhanced(AXIAL, frames, own_orientation)
    refs = [ref(header, frames.index(place) + 1) for place in range(SHAPE[0])]
    return Case(exam_of(AXIAL.grid, refs), {str(header.SOPInstanceUID): header})


CASES = (
    "yes-all", "yes-some", "no-all", "unknown-some", "unknown-none", "failed", "enhanced", "enhanced-stacks",
    "no-frame-of-reference",
)  # fmt: skip
