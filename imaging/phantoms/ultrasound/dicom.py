"""Synthetic ultrasound as DICOM: an `Acquisition` in, a complete, deterministic object and its truth out.

    still = Acquisition(vendor="A", patient=Patient("P1", "Lecœur^Zoé"), seed=3, lesions="planted")
    dataset(still)      # pydicom FileDataset: Ultrasound (Multi-frame) Image Storage
    truth(still)        # uint8 (row, column), 0/1, on the very grid of the file
    file_bytes(dataset(still))

Every UID, date and time is derived from patient, numbers and seed: the same acquisition gives the same bytes.
References: PS3.3 A.6 (US Image IOD), A.7 (US Multi-frame), C.8.5.5 (regions), C.8.5.6 (US Image), C.7.6.5 (Cine).
"""

from __future__ import annotations

import datetime
import hashlib
import io
import unicodedata
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from imaging.phantoms.ultrasound.bmode import Bytes, Scan
from imaging.phantoms.ultrasound.head import Head
from imaging.phantoms.ultrasound.planting import plant_head, plant_lesion
from imaging.phantoms.ultrasound.screen import (
    ECHO_SCAN,
    MARK_COLOURS,
    SINGLE,
    VENDORS,
    Encoding,
    Layout,
    Screen,
    ScreenRegion,
    ScreenScene,
    Vendor,
    VendorLetter,
    compose,
)
from imaging.phantoms.ultrasound.tissue import PlantedLesion

EXPLICIT_LITTLE, JPEG_BASELINE, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
BodyPart = Literal["BREAST", "HEART", "FETALHEAD"]
"""BodyPartExamined. PS3.16 Annex L has FETALARM, FETALHEART, FETALLEG and no term for the fetal head; Defined Terms may
be extended, and HEAD would be the patient's own, as in a scan of a newborn."""
US_IMAGE, US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
_FIRST_MARK = 256 - len(MARK_COLOURS) + 1
_EXAMS: dict[BodyPart | None, tuple[str, str]] = {
    "BREAST": ("Breast", "BREAST"),
    "HEART": ("Adult Echo", "TTE"),
    "FETALHEAD": ("OB 2/3 Trimester", "OBSTETRICAL"),
    None: ("General", "SMALL PARTS"),
}
"""ProtocolName and the third value of ImageType (PS3.3 C.8.5.6.1.1) by body part."""
_MODES = {"single": "0001", "split": "0001", "duplex": "0009", "colour": "0011"}
"""The fourth value of ImageType, a hexadecimal sum of 2-D imaging 0001, pulsed Doppler 0008, colour Doppler 0010."""
_REGION_TYPES = {"tissue": (1, 1), "colour": (1, 2), "spectral": (3, 3)}
"""RegionSpatialFormat and RegionDataType."""
_GREEK = dict(zip("αβγδεζηικλμνξοπρσςτυφω", "avgdeziiklmnxoprsstyfo", strict=True)) | {"θ": "th", "χ": "ch", "ψ": "ps"}


@dataclass(frozen=True, slots=True)
class Patient:
    """A synthetic person. `name` is a DICOM PN; `charset` is SpecificCharacterSet, values separated by a backslash."""

    number: str = "0001"
    name: str = "Phantom^Test"
    charset: str = "ISO_IR 192"
    sex: str = "F"
    birth_date: str = "19700101"

    @property
    def patient_id(self) -> str:
        return f"PHANTOM-{self.number}"

    @property
    def screen_name(self) -> str:
        """The name as a scanner prints it on the picture: capitals without accents; empty for an empty name."""
        text = self.name.split("=")[0].lower().replace("œ", "oe")
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore") if text.isascii() else None
        if plain is None:
            letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
            plain = "".join(_GREEK.get(c, c) for c in letters).encode("ascii", "ignore")
        return plain.decode().upper().replace("^", ", ").strip(", ")


LATIN = Patient("0001", "Lecœur^Zoé", "ISO_IR 192", "F", "19680214")
GREEK = Patient("0002", "Παπαδοπούλου^Ελένη", "ISO_IR 126", "F", "19590930")
JAPANESE = Patient("0003", "Yamada^Tarou=山田^太郎=やまだ^たろう", "\\ISO 2022 IR 87", "F", "19810707")
SPANISH = Patient("0005", "Ramírez^Inés", "ISO_IR 100", "F", "19930611")
SWEDISH = Patient("0006", "Åström^Märta", "ISO_IR 100", "F", "19961102")
NAMELESS = Patient("0004", "", "ISO_IR 100", "O", "")


@dataclass(frozen=True, slots=True)
class UltrasoundAcquisition:
    """One stored image. `lesions`: given ones, none, or "planted" (one drawn from the seed). `head`: the same.

    `scan` and `encoding` default to the vendor's; `study`, `series` and `instance` number the object inside the
    patient. `body_part` None leaves the anatomy unstated. `site` becomes InstitutionName. `orientation`:
    PatientOrientation is written without a value, or left out as some scanners do against PS3.3 C.7.6.1. `rle`: pixels
    that would be stored raw are run-length coded.
    """

    vendor: VendorLetter = "A"
    patient: Patient = LATIN
    seed: int = 0
    lesions: tuple[PlantedLesion, ...] | Literal["planted"] = ()
    layout: Layout = SINGLE
    body_part: BodyPart | None = "BREAST"
    orientation: Literal["empty", "absent"] = "empty"
    scan: Scan | None = None
    encoding: Encoding | None = None
    study: int = 1
    series: int = 1
    instance: int = 1
    site: str = "Synthetic Hospital"
    head: Head | Literal["planted"] | None = None
    rle: bool = False

    @property
    def behaviour(self) -> Vendor:
        return VENDORS[self.vendor]

    @property
    def setting(self) -> Scan:
        """The scan that is simulated; the heart is seen with a sector probe, a fetus through the abdomen."""
        if self.body_part == "FETALHEAD":
            return self.scan or self.behaviour.obstetric
        return self.scan or (ECHO_SCAN if self.body_part == "HEART" else self.behaviour.scan)

    @property
    def masses(self) -> tuple[PlantedLesion, ...]:
        """The lesions that are really there."""
        return (plant_lesion(self.setting, self.seed),) if self.lesions == "planted" else self.lesions

    @property
    def fetal_head(self) -> Head | None:
        """The head that is really there."""
        return plant_head(self.setting, self.seed) if self.head == "planted" else self.head

    @property
    def stored_as(self) -> Encoding:
        return self.encoding or (self.behaviour.cine_encoding if self.layout.frames > 1 else self.behaviour.encoding)

    @property
    def study_uid(self) -> str:
        return uid("study", self.patient.patient_id, self.study)

    @property
    def series_uid(self) -> str:
        return uid("series", self.patient.patient_id, self.study, self.series)

    @property
    def sop_uid(self) -> str:
        return uid("image", self.patient.patient_id, self.study, self.series, self.instance, self.seed, self.vendor)


def uid(*names: object) -> str:
    """A UUID-derived UID (PS3.5 B.2) that is the same for the same names."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(str(n) for n in names)).int}"


def moment(*names: object) -> datetime.datetime:
    """A date and time in 2024 that is the same for the same names."""
    digest = int.from_bytes(hashlib.sha256("/".join(str(n) for n in names).encode()).digest()[:6], "big")
    return datetime.datetime(2024, 1, 1, 8) + datetime.timedelta(days=digest % 360, seconds=digest // 360 % 28800)


@lru_cache(maxsize=4)
def screen(acquisition: UltrasoundAcquisition) -> Screen:
    """What the scanner shows for this acquisition, before encoding."""
    vendor, patient = acquisition.behaviour, acquisition.patient
    name = patient.screen_name if vendor.burns_in_name else ""
    when = moment("study", patient.patient_id, acquisition.study)
    header = (f"{name}   {patient.patient_id}".strip(), f"{acquisition.site}   {when:%Y-%m-%d %H:%M}")
    return compose(_scene(acquisition, header))


def _scene(acquisition: UltrasoundAcquisition, header: tuple[str, str]) -> ScreenScene:
    return ScreenScene(
        acquisition.behaviour,
        acquisition.setting,
        acquisition.seed,
        acquisition.masses,
        acquisition.layout,
        header,
        acquisition.fetal_head,
    )


def truth(acquisition: UltrasoundAcquisition) -> Bytes:
    """Lesion or head mask 0/1 on the grid of the file: (row, column), or (frame, row, column) for a cine.

    Empty without a lesion or a head. A head is filled to the outer border of its skull, as far as the picture shows it.
    """
    mask = screen(acquisition).truth
    return mask if acquisition.layout.frames > 1 else np.asarray(mask[0])


def tissue_mask(acquisition: UltrasoundAcquisition) -> NDArray[np.bool_]:
    """Where the file shows echoes, bool (row, column)."""
    return screen(acquisition).tissue


def dataset(acquisition: UltrasoundAcquisition, shown: Screen | None = None) -> FileDataset:
    """The DICOM object, complete with file meta information; of another screen than the vendor's where one is given."""
    shown = shown or screen(acquisition)
    lossy = acquisition.stored_as == "YBR_FULL_422"
    sop_class = US_MULTIFRAME if acquisition.layout.frames > 1 else US_IMAGE
    ds = empty_object(sop_class, acquisition.sop_uid, JPEG_BASELINE if lossy else EXPLICIT_LITTLE)
    describe_patient(ds, acquisition.patient)
    describe_study(ds, acquisition.patient, acquisition.study, acquisition.body_part)
    _describe_series(ds, acquisition)
    _describe_image(ds, acquisition, shown)
    if acquisition.layout.calibrated:
        ds.SequenceOfUltrasoundRegions = Sequence([_region(r, acquisition.setting) for r in shown.regions])
    if acquisition.stored_as != "MONOCHROME2":
        ds.UltrasoundColorDataPresent = int(acquisition.layout.arrangement == "colour")
    _PIXELS[acquisition.stored_as](ds, shown, acquisition.behaviour.tint)
    if acquisition.rle and not lossy:
        ds.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
    return ds


def file_bytes(ds: FileDataset) -> bytes:
    """The DICOM file with a zero preamble."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def empty_object(sop_class: str, sop_uid: str, transfer_syntax: str = EXPLICIT_LITTLE) -> FileDataset:
    """A data set that holds its SOP common part and file meta information."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop_uid
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = uid("implementation", "phantoms")
    meta.ImplementationVersionName = "PHANTOMS_1"
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_uid
    return ds


def describe_patient(ds: Dataset, patient: Patient) -> None:
    """Patient module (PS3.3 C.7.1.1) and the character set that its name needs."""
    ds.SpecificCharacterSet = patient.charset.split("\\") if "\\" in patient.charset else patient.charset
    ds.PatientName, ds.PatientID = patient.name, patient.patient_id
    ds.PatientBirthDate, ds.PatientSex = patient.birth_date, patient.sex
    ds.IssuerOfPatientID = "SITEWISE PHANTOMS"


def describe_study(ds: Dataset, patient: Patient, study: int, body_part: str | None) -> None:
    """General Study module (PS3.3 C.7.2.1); the time of the study follows from patient and study number."""
    when = moment("study", patient.patient_id, study)
    ds.StudyInstanceUID = uid("study", patient.patient_id, study)
    ds.StudyDate, ds.StudyTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    ds.StudyID, ds.AccessionNumber = str(study), f"PH{patient.number}{study:02d}"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = f"Synthetic ultrasound {(body_part or '').lower()}".strip()
    if body_part == "FETALHEAD":
        ds.StudyDescription = "Synthetic ultrasound obstetric"
        procedure = Dataset()
        procedure.CodeValue, procedure.CodingSchemeDesignator = "268445003", "SCT"
        procedure.CodeMeaning = "Obstetric ultrasound scan"
        ds.ProcedureCodeSequence = Sequence([procedure])


def _describe_series(ds: Dataset, acquisition: UltrasoundAcquisition) -> None:
    """General Series and Equipment modules (PS3.3 C.7.3.1, C.7.5.1)."""
    vendor = acquisition.behaviour
    ds.Modality, ds.SeriesInstanceUID = "US", acquisition.series_uid
    ds.SeriesNumber = acquisition.series
    ds.Manufacturer, ds.ManufacturerModelName = vendor.manufacturer, vendor.model
    ds.SoftwareVersions, ds.InstitutionName = vendor.software, acquisition.site
    ds.DeviceSerialNumber = f"SYN-{vendor.letter}-001"
    ds.ProtocolName = _EXAMS[acquisition.body_part][0]
    if acquisition.body_part is not None:
        ds.BodyPartExamined = acquisition.body_part
    if acquisition.body_part != "HEART":  # 2C: for a paired part, and for one that validators do not know; may be empty
        ds.Laterality = ("R" if acquisition.study % 2 else "L") if acquisition.body_part == "BREAST" else ""


def _describe_image(ds: Dataset, acquisition: UltrasoundAcquisition, shown: Screen) -> None:
    """General Image, US Image and, for clips, Multi-frame and Cine modules (PS3.3 C.7.6.1, C.8.5.6, C.7.6.5-6)."""
    vendor, layout = acquisition.behaviour, acquisition.layout
    when = moment("study", acquisition.patient.patient_id, acquisition.study)
    when += datetime.timedelta(seconds=60 * acquisition.series + 20 * acquisition.instance)
    ds.ContentDate = ds.AcquisitionDate = f"{when:%Y%m%d}"
    ds.ContentTime = ds.AcquisitionTime = f"{when:%H%M%S}"
    ds.InstanceNumber = acquisition.instance
    ds.ImageType = ["ORIGINAL", "PRIMARY", _EXAMS[acquisition.body_part][1], _MODES[layout.arrangement]]
    if acquisition.orientation == "empty":
        ds.PatientOrientation = ""
    ds.ImageComments = "Synthetic phantom, not a person"
    ds.BurnedInAnnotation = "YES" if layout.text and vendor.burns_in_name and acquisition.patient.name else "NO"
    probe = acquisition.setting.probe
    ds.TransducerData = [_scene(acquisition, ("", "")).transducer, "", ""]
    ds.TransducerType = ("SECTOR_PHASED" if probe.radius_mm < 20 else "CURVED LINEAR") if probe.curved else "LINEAR"
    ds.LossyImageCompression = "00"
    ds.Rows, ds.Columns = shown.marks.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if layout.frames > 1:
        ds.NumberOfFrames = layout.frames
        ds.FrameTime = "50"
        ds.FrameIncrementPointer = Tag("FrameTime")
        ds.CineRate, ds.RecommendedDisplayFrameRate = 20, 20


def _region(region: ScreenRegion, scan: Scan) -> Dataset:
    """One item of SequenceOfUltrasoundRegions (PS3.3 C.8.5.5): tissue in cm (3), a spectrum in s (4) and cm/s (7)."""
    plane = region.kind != "spectral"
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = _REGION_TYPES[region.kind]
    item.RegionFlags = 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = region.column, region.row
    item.RegionLocationMaxX1 = region.column + region.columns - 1
    item.RegionLocationMaxY1 = region.row + region.rows - 1
    item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = (3, 3) if plane else (4, 7)
    factor = 0.1 if plane else 1.0
    item.PhysicalDeltaX, item.PhysicalDeltaY = region.spacing[1] * factor, region.spacing[0] * factor
    if region.kind == "tissue":
        item.ReferencePixelX0 = region.columns // 2
        item.ReferencePixelY0 = round(-scan.extent_mm[0] / region.spacing[0])
        item.ReferencePixelPhysicalValueX = item.ReferencePixelPhysicalValueY = 0.0
    item.TransducerFrequency = round(scan.probe.frequency_mhz * 1000)
    return item


def _coloured(shown: Screen, tint: tuple[float, float, float]) -> Bytes:
    """RGB picture (frame, row, column, 3): tinted echoes with the marks on top."""
    echoes = np.rint(shown.grey[..., None] * np.asarray(tint)).astype(np.uint8)
    colours = np.asarray(MARK_COLOURS, dtype=np.uint8)[shown.marks]
    return np.where(shown.marks[..., None] > 0, colours, echoes)


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _as_rgb(ds: Dataset, shown: Screen, tint: tuple[float, float, float]) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = _even(_coloured(shown, tint).tobytes())


def _as_jpeg(ds: Dataset, shown: Screen, tint: tuple[float, float, float]) -> None:
    """JPEG baseline with 4:2:2 chrominance; one fragment per frame (PS3.5 A.4.1, PS3.3 C.7.6.1.1.5)."""
    picture = _coloured(shown, tint)
    fragments = []
    for frame in picture:
        buffer = io.BytesIO()
        Picture.fromarray(frame).save(buffer, format="JPEG", quality=88, subsampling="4:2:2")
        fragments.append(buffer.getvalue())
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
    ds.LossyImageCompressionRatio = f"{picture.nbytes / sum(map(len, fragments)):.1f}"
    ds.PixelData = encapsulate(fragments)
    ds["PixelData"].VR = "OB"


def _as_palette(ds: Dataset, shown: Screen, tint: tuple[float, float, float]) -> None:
    """Indices into a 16-bit palette (PS3.3 C.7.6.3.1.5): a tinted ramp, then the colours of the marks."""
    indices = np.rint(shown.grey * ((_FIRST_MARK - 1) / 255)).astype(np.uint8)
    indices = np.where(shown.marks > 0, shown.marks + np.uint8(_FIRST_MARK - 1), indices).astype(np.uint8)
    ramp = np.minimum(np.arange(256) / (_FIRST_MARK - 1), 1.0)[:, None] * np.asarray(tint)
    ramp[_FIRST_MARK:] = np.asarray(MARK_COLOURS[1:]) / 255
    table = np.rint(ramp * 65535).astype("<u2")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "PALETTE COLOR"
    for number, colour in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", table[:, number].tobytes())
    ds.PixelData = _even(indices.tobytes())
    ds["PixelData"].VR = "OB"


def _as_grey(ds: Dataset, shown: Screen, _tint: tuple[float, float, float]) -> None:
    luminance = np.rint(np.asarray(MARK_COLOURS) @ [0.299, 0.587, 0.114]).astype(np.uint8)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = _even(np.where(shown.marks > 0, luminance[shown.marks], shown.grey).tobytes())
    ds["PixelData"].VR = "OB"


_PIXELS: dict[Encoding, Any] = {
    "RGB": _as_rgb,
    "YBR_FULL_422": _as_jpeg,
    "PALETTE COLOR": _as_palette,
    "MONOCHROME2": _as_grey,
}
