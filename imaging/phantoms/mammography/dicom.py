"""Synthetic mammograms as DICOM: a `ViewAcquisition` in, a complete, deterministic object out.

    mammogram(view)     # pydicom FileDataset: Digital Mammography X-Ray Image, For Presentation or For Processing

Every UID, date and time is derived from patient, numbers and content: the same view gives the same bytes.
References: PS3.3 A.27 (Digital Mammography X-Ray Image IOD), C.8.11 (DX modules), C.8.11.7 (Mammography Image),
C.11.2 (VOI LUT), PS3.16 CID 4014 and 4015 (views and their modifiers).
"""

from __future__ import annotations

import datetime
from importlib import import_module

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from imaging.phantoms import lossless_jpeg
from imaging.phantoms.mammography.body import GANTRY_DEG, Projection
from imaging.phantoms.mammography.makers import TRANSFER_SYNTAXES, Coding
from imaging.phantoms.mammography.view import (
    Special,
    Stored,
    ViewAcquisition,
    display_window,
    padding_limit,
    patient_orientation,
    stored,
)
from imaging.phantoms.ultrasound.dicom import describe_patient, empty_object, moment

FOR_PRESENTATION, FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1"
VIEW_CODES: dict[Projection, tuple[str, str]] = {
    "CC": ("399162004", "cranio-caudal"),
    "MLO": ("399368009", "medio-lateral oblique"),
    "ML": ("399260004", "medio-lateral"),
    "LM": ("399352003", "latero-medial"),
    "XCCL": ("399192008", "cranio-caudal exaggerated laterally"),
}
"""CID 4014, SNOMED CT."""
_MODIFIERS: dict[Special, tuple[str, str]] = {
    "magnification": ("399163009", "Magnification"),
    "spot": ("399055006", "Spot Compression"),
}
_DISPLACED = ("399209000", "Implant Displaced")
_SIDES = {"L": ("7771000", "Left"), "R": ("24028007", "Right")}
_WINDOWS = (("NORMAL", 1.0), ("HARDER", 0.75), ("SOFTER", 1.3))
_BY_PYDICOM: dict[Coding, str] = {"jpeg-ls": "pyjpegls", "rle": "pydicom"}
"""The plugin of pydicom that encodes."""


def mammogram(view: ViewAcquisition) -> FileDataset:
    """The DICOM object of a view, complete with file meta information."""
    coding = view.maker.coding
    sop_class = FOR_PROCESSING if view.intent == "processing" else FOR_PRESENTATION
    plain = TRANSFER_SYNTAXES["implicit" if coding == "implicit" else "raw"]
    ds = empty_object(sop_class, view.sop_uid, plain)
    describe_patient(ds, view.patient)
    describe_mammography_study(ds, view)
    describe_series(ds, view, "For Processing" if view.intent == "processing" else "For Presentation")
    _describe_image(ds, view)
    _describe_anatomy(ds, view)
    _describe_detector(ds, view)
    _describe_exposure(ds, view)
    if view.intent == "presentation":
        _describe_display(ds, view)
    _store(ds, stored(view), coding)
    return ds


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def describe_mammography_study(ds: Dataset, view: ViewAcquisition) -> None:
    """General Study module (PS3.3 C.7.2.1)."""
    patient = view.patient
    when = moment("mammography study", patient.patient_id, view.study)
    ds.StudyInstanceUID = view.study_uid
    ds.StudyDate, ds.StudyTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    ds.StudyID, ds.AccessionNumber = str(view.study), f"MG{patient.number}{view.study:02d}"
    ds.ReferringPhysicianName, ds.StudyDescription = "", "Synthetic mammography"


def describe_series(ds: Dataset, view: ViewAcquisition, what: str) -> None:
    """General Series and General Equipment modules (PS3.3 C.7.3.1, C.7.5.1)."""
    maker = view.maker
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "MG", view.series_uid, view.series
    # Not "Synthetic": of a mammogram that says computed from tomosynthesis, and selection heeds it.
    ds.SeriesDescription = f"Phantom {what}"
    ds.Manufacturer, ds.ManufacturerModelName = maker.manufacturer, maker.model
    ds.SoftwareVersions, ds.InstitutionName = maker.software, view.site
    ds.DeviceSerialNumber, ds.StationName = f"SYN-{view.vendor.upper()[:3]}-001", "PHANTOM"
    ds.BodyPartExamined = "BREAST"


def taken_at(view: ViewAcquisition) -> datetime.datetime:
    """When the image was taken: the views of a study follow each other."""
    start = moment("mammography study", view.patient.patient_id, view.study)
    return start + datetime.timedelta(seconds=120 + 40 * view.instance + 25 * (view.exposure - 1))


def _describe_image(ds: Dataset, view: ViewAcquisition) -> None:
    """General Image and DX Image modules (PS3.3 C.7.6.1, C.8.11.3)."""
    when, raw = taken_at(view), view.intent == "processing"
    ds.InstanceNumber = view.instance
    ds.ContentDate = ds.AcquisitionDate = f"{when:%Y%m%d}"
    ds.ContentTime = ds.AcquisitionTime = f"{when:%H%M%S}"
    ds.ImageType = ["ORIGINAL" if raw else "DERIVED", "PRIMARY", ""]
    if view.special == "synthetic":
        ds.ImageType = ["DERIVED", "PRIMARY", "", "GENERATED_2D"]
    if not raw:
        ds.DerivationDescription = "Logarithm, equalisation of the periphery, sharpening"
    ds.PresentationIntentType = "FOR PROCESSING" if raw else "FOR PRESENTATION"
    ds.ImageComments = "Synthetic phantom, not a person"
    ds.PatientOrientation = patient_orientation(view)
    ds.BurnedInAnnotation = "YES" if view.named and not raw else "NO"
    ds.LossyImageCompression = "00"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, view.tones
    ds.Rows, ds.Columns = view.field.rows, view.field.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, view.bits, view.bits - 1, 0
    ds.PixelIntensityRelationship = "LIN" if raw else "LOG"
    # Sign 1: low values are little X-ray intensity. Presented, tissue is high; MONOCHROME1 stores it low.
    ds.PixelIntensityRelationshipSign = 1 if raw or view.tones == "MONOCHROME1" else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    inverse = view.tones == "MONOCHROME1"
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    if view.maker.padding and not raw:
        largest, limit = (1 << view.bits) - 1, padding_limit(view)
        ds.PixelPaddingValue = largest if inverse else 0
        ds.PixelPaddingRangeLimit = largest - limit if inverse else limit


def _describe_anatomy(ds: Dataset, view: ViewAcquisition) -> None:
    """DX Anatomy Imaged, Mammography Image and Acquisition Context modules (PS3.3 C.8.11.2, C.8.11.7, C.7.6.14)."""
    ds.ImageLaterality, ds.OrganExposed = view.laterality, "BREAST"
    ds.AnatomicRegionSequence = Sequence([code("76752008", "Breast")])
    ds.PositionerType = "MAMMOGRAPHIC" if view.special != "synthetic" else "NONE"
    sign = -1 if view.laterality == "L" else 1
    turn = GANTRY_DEG[view.projection] * (-1 if view.projection == "LM" else 1)
    ds.PositionerPrimaryAngle = f"{sign * turn:g}"
    ds.ViewPosition = view.projection if view.projection != "XCCL" else "XCC"
    item = code(*VIEW_CODES[view.projection])
    modifiers = [_MODIFIERS[view.special]] if view.special in _MODIFIERS else []
    modifiers += [_DISPLACED] if view.implant == "displaced" else []
    item.ViewModifierCodeSequence = Sequence([code(*m) for m in modifiers])
    ds.ViewCodeSequence = Sequence([item])
    ds.BreastImplantPresent = "NO" if view.implant == "none" else "YES"
    ds.PartialView = "YES" if view.special.startswith("mosaic") else "NO"
    if ds.PartialView == "YES":
        ds.PartialViewDescription = f"Mosaic, {view.special.removeprefix('mosaic-')} part"
    ds.AcquisitionContextSequence = Sequence([])


def _describe_detector(ds: Dataset, view: ViewAcquisition) -> None:
    """DX Detector module (PS3.3 C.8.11.4), and calibration in the breast for those that write it (PS3.3 10.7)."""
    maker, field, pitch = view.maker, view.field, view.pitch_mm
    ds.DetectorType, ds.DetectorConfiguration = maker.detector, "AREA"
    ds.DetectorDescription, ds.DetectorID = "Synthetic detector", f"SYN-{view.vendor[:3].upper()}"
    ds.DetectorActiveDimensions = [f"{size:g}" for size in maker.field_mm]
    binned = pitch / maker.native_mm
    ds.DetectorElementPhysicalSize = ds.DetectorElementSpacing = [f"{maker.native_mm:g}"] * 2
    ds.DetectorBinning = [f"{binned:.4g}"] * 2
    ds.ImagerPixelSpacing = [f"{pitch:g}"] * 2
    ds.FieldOfViewShape = "RECTANGLE"
    ds.FieldOfViewDimensions = [str(round(field.rows * pitch)), str(round(field.columns * pitch))]
    ds.FieldOfViewOrigin = ["0", "0"]
    ds.FieldOfViewRotation = "180" if maker.hanging == "rotated" else "0"
    ds.FieldOfViewHorizontalFlip = "YES" if maker.hanging == "mirrored" else "NO"
    ds.EstimatedRadiographicMagnificationFactor = f"{view.magnification:g}"
    ds.DistanceSourceToDetector = "660"
    ds.DistanceSourceToPatient = f"{660 / view.magnification:.6g}"
    if maker.calibrated:
        ds.PixelSpacing = [f"{view.spacing_mm:.6g}"] * 2
        ds.PixelSpacingCalibrationType = "GEOMETRY"
        ds.PixelSpacingCalibrationDescription = "Detector pitch over magnification"


def _describe_exposure(ds: Dataset, view: ViewAcquisition) -> None:
    """X-Ray Acquisition Dose, Generation, Filtration and Grid modules (PS3.3 C.8.7.8-9, C.8.11.5, C.8.7.10)."""
    thickness = view.breast.thickness_mm * (0.75 if view.special == "spot" else 1.0)
    anode, filtered = view.maker.anode_filter
    ds.KVP, ds.AnodeTargetMaterial, ds.FilterMaterial = f"{25 + thickness / 15:.0f}", anode, filtered
    ds.ExposureInuAs, ds.Exposure = round(1300 * thickness), round(1.3 * thickness)
    ds.ExposureTime, ds.XRayTubeCurrent = round(13 * thickness), 100
    ds.FocalSpots = "0.1" if view.special == "magnification" else "0.3"
    ds.Grid = "NONE" if view.special == "magnification" else ["RECIPROCATING", "FOCUSED"]
    ds.BodyPartThickness, ds.CompressionForce = f"{thickness:.0f}", f"{90 + view.seed % 40}"
    ds.EntranceDoseInmGy, ds.OrganDose = f"{0.12 * thickness:.3f}", f"{0.0003 * thickness:.5f}"
    ds.ExposureControlMode = "AUTOMATIC"


def _describe_display(ds: Dataset, view: ViewAcquisition) -> None:
    """VOI LUT module (PS3.3 C.11.2): windows, their function and explanations, and lookup tables."""
    centre, width = display_window(view)
    chosen = _WINDOWS[: view.maker.windows]
    widths = [f"{width * scale * (0.65 if view.maker.voi == 'SIGMOID' else 1.0):.0f}" for _, scale in chosen]
    ds.WindowCenter, ds.WindowWidth = [f"{centre:.0f}"] * len(chosen), widths
    if len(chosen) > 1:
        ds.WindowCenterWidthExplanation = [name for name, _ in chosen]
    ds.VOILUTFunction = view.maker.voi
    if view.maker.luts:
        tables = [
            lookup_table(view.bits, centre, 0.65 * width * scale, name) for name, scale in _WINDOWS[: view.maker.luts]
        ]
        ds.VOILUTSequence = Sequence(tables)


def lookup_table(bits: int, centre: float, width: float, name: str) -> Dataset:
    """One item of VOI LUT Sequence: a smooth rise over all stored values, 12 bits out (PS3.3 C.11.2.1.1)."""
    item, values = Dataset(), np.arange(1 << bits)
    rise = 4095 / (1 + np.exp(-4 * (values - centre) / width))
    item.add_new(0x00283002, "US", [len(values) % 65536, 0, 12])
    item.LUTExplanation = name
    item.add_new(0x00283006, "OW", np.rint(rise).astype("<u2").tobytes())
    return item


def _store(ds: FileDataset, pixels: Stored, coding: Coding) -> None:
    """Pixel Data, encoded without loss."""
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    if coding in _BY_PYDICOM:
        ds.compress(TRANSFER_SYNTAXES[coding], encoding_plugin=_BY_PYDICOM[coding], generate_instance_uid=False)
    elif coding in ("jpeg", "jpeg2000"):
        encode = lossless_jpeg.encode if coding == "jpeg" else jpeg_2000
        ds.PixelData = encapsulate([encode(pixels, ds.BitsStored)])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES[coding]


def jpeg_2000(pixels: Stored, bits: int) -> bytes:
    """The pixels as reversible JPEG 2000 (PS3.5 A.4.4), by OpenJPEG."""
    encode = import_module("openjpeg.utils").encode_array
    return bytes(encode(np.ascontiguousarray(pixels), bits_stored=bits, photometric_interpretation=2, use_mct=False))
