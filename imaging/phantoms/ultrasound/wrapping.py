"""A picture that exists → an ultrasound DICOM object as one of the four synthetic vendors would have stored it.

    wrap(pixels, (0.1, 0.1), "C", "busi_0001", 1, "BREAST")     # pydicom FileDataset

Public sets give pictures without the screen around them. Here the picture stands on the vendor's screen, in the
vendor's encoding, with text, logo and ruler outside it and SequenceOfUltrasoundRegions telling where it is; so the path
of a hospital's export can be tried on real echoes. The same arguments give the same bytes.
References: PS3.3 A.6 (US Image IOD), C.8.5.5 (regions), C.8.5.6 (US Image), C.7.6.3 (pixels).
"""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from imaging.errors import InputError, Reason
from imaging.phantoms.ultrasound.dicom import EXPLICIT_LITTLE, JPEG_BASELINE, US_IMAGE, empty_object, moment, uid
from imaging.phantoms.ultrasound.screen import LOGO, MARK_COLOURS, TEXT, VENDORS, Encoding, Vendor, VendorLetter

Bytes = NDArray[np.uint8]
BodyPart = Literal["BREAST", "FETALHEAD"]
"""BodyPartExamined. PS3.16 Annex L has BREAST, and of a fetus heart, arm and leg but no head; Defined Terms may be
extended, and HEAD would be the patient's own."""
LOSSLESS: Final[tuple[Encoding, ...]] = ("RGB", "PALETTE COLOR", "MONOCHROME2")
"""Encodings that give back every pixel as it was."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Margins:
    """Pixels of a screen that a vendor keeps free of echoes, at least."""

    top: int
    left: int
    bottom: int
    right: int


MARGINS: Final[dict[VendorLetter, Margins]] = {
    "A": Margins(48, 14, 26, 62),
    "B": Margins(40, 96, 30, 48),
    "C": Margins(64, 30, 40, 70),
    "D": Margins(44, 120, 24, 44),
}
_EXAMS: Final[dict[BodyPart, tuple[str, str, str]]] = {
    "BREAST": ("Breast", "BREAST", "LINEAR"),
    "FETALHEAD": ("OB 2/3 Trimester", "OBSTETRICAL", "CURVED LINEAR"),
}
"""ProtocolName, the third value of ImageType (PS3.3 C.8.5.6.1.1) and TransducerType by body part."""


@dataclass(frozen=True, eq=False)
class _Screen:
    """`grey` uint8 (row, column); `marks` indices into MARK_COLOURS, 0 on the picture; `box` is half-open
    (row, column, row, column)."""

    grey: Bytes
    marks: Bytes
    box: tuple[int, int, int, int]


def place(shape: tuple[int, int], vendor: VendorLetter) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The screen (rows, columns) for a picture of `shape`, and its half-open box there (row, column, row, column).

    The vendor's own screen, made larger where the picture would not fit; the picture below the header, centred across.
    """
    rows, columns = shape
    free, own = MARGINS[vendor], VENDORS[vendor].screen
    height = max(own[0], rows + free.top + free.bottom)
    width = max(own[1], columns + free.left + free.right)
    width += width % 2  # PS3.3 C.7.6.3.1.2: 4:2:2 needs an even number of columns
    left = free.left + (width - free.left - free.right - columns) // 2
    return (height, width), (free.top, left, free.top + rows, left + columns)


def wrap(  # noqa: PLR0913, PLR0917 - a picture and the header facts that it lacks
    pixels: Bytes,
    spacing_mm: tuple[float, float] | None,
    vendor: VendorLetter,
    patient_id: str,
    number: int,
    body_part: BodyPart,
    encoding: Encoding | None = None,
) -> FileDataset:
    """The picture as an Ultrasound Image of a patient, complete with file meta information.

    Args:
        pixels: Luminance, uint8 (row, column).
        spacing_mm: (row step, column step); None leaves the object uncalibrated, its region without a unit.
        vendor: Whose screen, text and header.
        patient_id: PatientID; one study and series each.
        number: InstanceNumber in that series.
        body_part: BodyPartExamined.
        encoding: How pixels are stored; the vendor's own without it. All but YBR_FULL_422 (JPEG) give back each pixel.

    Raises InputError for pixels that are no uint8 plane, and for a spacing that is none.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise InputError(
            f"picture of '{patient_id}': found {pixels.dtype} of shape {pixels.shape}; allowed is uint8 (row, column)",
            Reason.UNSUPPORTED_PIXELS,
        )
    if spacing_mm is not None and not all(np.isfinite(step) and step > 0 for step in spacing_mm):
        raise InputError(
            f"picture of '{patient_id}': spacing {spacing_mm} mm; allowed are positive steps", Reason.GEOMETRY
        )
    stored_as, maker = encoding or VENDORS[vendor].encoding, VENDORS[vendor]
    facts = (str(pixels.shape), str(spacing_mm), vendor, body_part, stored_as)
    content = hashlib.sha256("/".join(facts).encode() + pixels.tobytes()).hexdigest()
    sop_uid = uid("wrapped image", patient_id, number, content)
    ds = empty_object(US_IMAGE, sop_uid, JPEG_BASELINE if stored_as == "YBR_FULL_422" else EXPLICIT_LITTLE)
    _describe(ds, maker, patient_id, number, body_part)
    shown = _draw(pixels, spacing_mm, maker, patient_id)
    ds.SequenceOfUltrasoundRegions = Sequence([_region(shown.box, spacing_mm)])
    ds.Rows, ds.Columns = shown.grey.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if stored_as != "MONOCHROME2":
        ds.UltrasoundColorDataPresent = 0
    _PIXELS[stored_as](ds, shown)
    return ds


def _describe(ds: Dataset, maker: Vendor, patient_id: str, number: int, body_part: BodyPart) -> None:
    """Patient, General Study, Series, Equipment, Image and US Image modules (PS3.3 C.7.1 to C.7.6.1, C.8.5.6)."""
    protocol, exam, transducer = _EXAMS[body_part]
    when = moment("wrapped study", patient_id)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = f"Wrapped^{patient_id}", patient_id, "SITEWISE WRAPPED"
    ds.PatientBirthDate, ds.PatientSex = "", ""
    ds.StudyInstanceUID = uid("wrapped study", patient_id)
    ds.StudyDate, ds.StudyTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDescription = f"Wrapped picture {body_part.lower()}"
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "US", uid("wrapped series", patient_id, maker.letter), 1
    ds.Manufacturer, ds.ManufacturerModelName = maker.manufacturer, maker.model
    ds.SoftwareVersions, ds.InstitutionName = maker.software, f"Wrapped as vendor {maker.letter}"
    ds.DeviceSerialNumber = f"SYN-{maker.letter}-001"
    ds.ProtocolName, ds.BodyPartExamined = protocol, body_part
    ds.Laterality = ""  # 2C: required for a paired part, and the picture does not tell
    when += datetime.timedelta(seconds=20 * number)
    ds.ContentDate = ds.AcquisitionDate = f"{when:%Y%m%d}"
    ds.ContentTime = ds.AcquisitionTime = f"{when:%H%M%S}"
    ds.InstanceNumber = number
    ds.ImageType = ["ORIGINAL", "PRIMARY", exam, "0001"]
    ds.PatientOrientation = ""
    ds.ImageComments = "A picture of a public set on a synthetic screen"
    ds.BurnedInAnnotation = "YES"
    ds.TransducerData, ds.TransducerType = [maker.transducer, "", ""], transducer
    ds.LossyImageCompression = "00"


def _region(box: tuple[int, int, int, int], spacing_mm: tuple[float, float] | None) -> Dataset:
    """The picture's item of SequenceOfUltrasoundRegions (PS3.3 C.8.5.5): 2-D tissue, in cm (3) or without unit (0)."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[1], box[0]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[3] - 1, box[2] - 1
    unit, steps = (0, (1.0, 1.0)) if spacing_mm is None else (3, (spacing_mm[0] / 10, spacing_mm[1] / 10))
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = unit
    item.PhysicalDeltaX, item.PhysicalDeltaY = steps[1], steps[0]
    return item


def _draw(pixels: Bytes, spacing_mm: tuple[float, float] | None, maker: Vendor, patient_id: str) -> _Screen:
    """The picture on the vendor's screen; text, logo, depth ruler and grey wedge outside it."""
    (rows, columns), box = place((pixels.shape[0], pixels.shape[1]), maker.letter)
    canvas = Picture.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default_imagefont()  # a bitmap: the same pixels with every FreeType
    when = moment("wrapped study", patient_id)
    for line, text in enumerate((patient_id, f"{maker.model}   {when:%Y-%m-%d %H:%M}")):
        draw.text((60, 6 + 16 * line), text.encode("ascii", "replace").decode(), fill=TEXT, font=font)
    draw.text((14, rows - 18), f"{maker.transducer}  {maker.software}  MI 0.9  TIs 0.3", fill=TEXT, font=font)
    draw.ellipse([14, 6, 42, 34], outline=LOGO, width=3)
    draw.text((26, 14), maker.letter, fill=LOGO, font=font)
    if spacing_mm is not None:
        for tick in range(0, int(pixels.shape[0] * spacing_mm[0]) + 1, 10):
            row = box[0] + min(round(tick / spacing_mm[0]), pixels.shape[0] - 1)
            draw.line([(columns - 36, row), (columns - 30, row)], fill=TEXT)
    marks = np.array(canvas, dtype=np.uint8)
    grey = np.zeros((rows, columns), dtype=np.uint8)
    grey[box[0] : box[0] + 120, columns - 18 : columns - 8] = np.linspace(255, 0, 120).astype(np.uint8)[:, None]
    window = (slice(box[0], box[2]), slice(box[1], box[3]))
    grey[window], marks[window] = pixels, 0
    return _Screen(grey, marks, box)


def _luminance(shown: _Screen) -> Bytes:
    marks = np.rint(np.asarray(MARK_COLOURS) @ _LUMA).astype(np.uint8)
    return np.where(shown.marks > 0, marks[shown.marks], shown.grey).astype(np.uint8)


def _colours(shown: _Screen) -> Bytes:
    """(row, column, 3): grey echoes, coloured marks."""
    colours = np.asarray(MARK_COLOURS, dtype=np.uint8)[shown.marks]
    return np.where(shown.marks[..., None] > 0, colours, shown.grey[..., None]).astype(np.uint8)


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _as_grey(ds: Dataset, shown: _Screen) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = _even(_luminance(shown).tobytes())
    ds["PixelData"].VR = "OB"


def _as_palette(ds: Dataset, shown: _Screen) -> None:
    """A linear ramp of 256 greys in 16 bits, 257 apart (PS3.3 C.7.6.3.1.5), so that an index is its luminance."""
    _as_grey(ds, shown)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    ramp = (np.arange(256) * 257).astype("<u2").tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", ramp)


def _as_rgb(ds: Dataset, shown: _Screen) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = _even(_colours(shown).tobytes())
    ds["PixelData"].VR = "OB"


def _as_jpeg(ds: Dataset, shown: _Screen) -> None:
    """JPEG baseline with 4:2:2 chrominance in one fragment (PS3.5 A.4.1, PS3.3 C.7.6.1.1.5)."""
    buffer = io.BytesIO()
    Picture.fromarray(_colours(shown)).save(buffer, format="JPEG", quality=88, subsampling="4:2:2")
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
    ds.LossyImageCompressionRatio = f"{3 * shown.grey.size / buffer.tell():.1f}"
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds["PixelData"].VR = "OB"


_PIXELS: Final[dict[Encoding, Callable[[Dataset, _Screen], None]]] = {
    "RGB": _as_rgb,
    "YBR_FULL_422": _as_jpeg,
    "PALETTE COLOR": _as_palette,
    "MONOCHROME2": _as_grey,
}
