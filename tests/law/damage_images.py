"""Damage of what describes an image, of its values, and copies that compete with it."""

from __future__ import annotations

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from tests.law.exports import Export
from tests.law.kinds import ENHANCED, MG, US, Rng, header, kind, octets, pixels, targets
from tests.mammograms import lut_item

# -- The description of pixels -----------------------------------------------------------------------------------------


@header("rows or columns that are not those of the pixels")
def _(ds: FileDataset, rng: Rng) -> None:
    keyword = rng.choice(("Rows", "Columns"))
    setattr(ds, keyword, rng.choice((0, 1, int(ds[keyword].value * 0.7), ds[keyword].value + 7, 60000)))


@header("rows or columns missing")
def _(ds: FileDataset, rng: Rng) -> None:
    delattr(ds, rng.choice(("Rows", "Columns")))


@header("bits that cannot be")
def _(ds: FileDataset, rng: Rng) -> None:
    keyword, values = rng.choice(
        (("BitsAllocated", (0, 1, 7, 24, 32)), ("BitsStored", (0, 40)), ("SamplesPerPixel", (0, 2, 3)))
    )
    setattr(ds, keyword, rng.choice(values))


@header("frames that are not those of the pixels", US, ENHANCED)
def _(ds: FileDataset, rng: Rng) -> None:
    ds.NumberOfFrames = max(1, int(ds.get("NumberOfFrames") or 1) + rng.choice((-3, -2, -1, 1, 5)))
    if ds.NumberOfFrames == 1 and ds.Modality == "US":
        ds.NumberOfFrames = 2


@octets("a transfer syntax that does not fit")
def _(data: bytes, rng: Rng) -> bytes:
    """JPEG, RLE, JPEG 2000, implicit or big endian by its label; no syntax at all; explicit little endian in truth."""
    label = rng.choice((".4.50", ".4.70", ".4.90", ".5", "", ".2", ".4.9999"))
    uid = f"1.2.840.10008.1.2{label}".encode()
    uid += b"\0" * (len(uid) % 2)
    at = data.index(b"\x02\x00\x10\x00UI")
    old = int.from_bytes(data[at + 6 : at + 8], "little")
    group = int.from_bytes(data[140:144], "little") + len(uid) - old
    head = data[:140] + group.to_bytes(4, "little") + data[144 : at + 6]
    return head + len(uid).to_bytes(2, "little") + uid + data[at + 8 + old :]


@header("no pixels")
def _(ds: FileDataset, rng: Rng) -> None:
    if rng.random() < 0.5:
        del ds.PixelData
    else:
        ds.PixelData = b""


@header("a palette that is not there or says nothing")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.PhotometricInterpretation = "PALETTE COLOR"
    if rng.random() < 0.5:
        for colour in ("Red", "Green", "Blue"):
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
            ds[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
            setattr(ds, f"{colour}PaletteColorLookupTableData", bytes([rng.choice((0, 9))]) * 256)


@header("a photometric interpretation that cannot be")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.PhotometricInterpretation = rng.choice(("RGB", "YBR_FULL", "YBR_FULL_422", "CMYK", "NONSENSE", ""))


# -- Blank pictures, tables and windows --------------------------------------------------------------------------------


@header("a blank picture")
def _(ds: FileDataset, rng: Rng) -> None:
    stored = pixels(ds)
    stored[:] = rng.choice((0, 0, 0, 7, (1 << ds.BitsStored) - 1))
    ds.PixelData = stored.tobytes()


@header("blank frames", "ultrasound cine", ENHANCED)
def _(ds: FileDataset, rng: Rng) -> None:
    stored = pixels(ds)
    first = 3 if len(stored) == 6 else 10
    stored[first : first + rng.choice((1, 2, 3))] = 0
    if len(stored) == 6:
        stored[3:5] = 0
    ds.PixelData = stored.tobytes()


@header("values shifted out of their bits")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.PixelData = (pixels(ds) >> (ds.BitsStored - rng.choice((0, 1)))).tobytes()


@header("a rescale that leaves nothing", MG, "classic")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = rng.choice(((0, 0), (0, 100), (1e-9, 0), ("", "")))


@header("a window that shows one grey", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    ds.WindowCenter, ds.WindowWidth = rng.choice(((-5000, 10), (60000, 10), (2, 1), (20000, 100), (-900, 1), (4, 0)))


@header("a VOI table of one grey or none", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    value = rng.choice((0, 17, 4095))
    ds.VOILUTSequence = [lut_item(0, 12, [value] * 4096 if rng.random() < 0.7 else [])]


@header("a modality table of one grey", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    item = lut_item(0, 12, [rng.choice((0, 9, 4000))] * 4096)
    item.ModalityLUTType = "US"
    ds.ModalityLUTSequence = [item]


@header("all of the picture padding", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = rng.choice(((0, 4095), (0, 3000), (100, 4095)))
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        ds[keyword].VR = "US"


# -- What an image is --------------------------------------------------------------------------------------------------


@header("view or side gone or unknown", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    gone = rng.choice((("ViewPosition", "ViewCodeSequence"), ("ImageLaterality",)))
    for keyword in gone:
        delattr(ds, keyword)
    if rng.random() < 0.5:
        setattr(ds, gone[0], "??" if gone[0] == "ViewPosition" else "B")


@header("the view or side of another image", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    side, view = rng.choice((("L", "CC"), ("R", "CC"), ("R", "MLO")))
    ds.ImageLaterality, ds.ViewPosition = side, view
    ds.ViewCodeSequence[0].CodeValue = "399162004" if view == "CC" else "399368009"
    ds.PatientOrientation = ["A" if side == "L" else "P", "F" if view == "MLO" else side]
    ds.AcquisitionTime = rng.choice(("095900", "120000"))


@header("meant for processing", MG)
def _(ds: FileDataset, rng: Rng) -> None:
    ds.PresentationIntentType = "FOR PROCESSING"
    if rng.random() < 0.5:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2.1"


@header("a modality that contradicts the class of the object")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.Modality = rng.choice(("OT", "", "XX", "CT"))


@header("two classes of object in one file")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.file_meta.MediaStorageSOPClassUID = UID(rng.choice(("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.2")))


@header("a tissue region that misses the image", US)
def _(ds: FileDataset, rng: Rng) -> None:
    region = ds.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = rng.choice(((4000, 5000), (90, 20), (128, 128)))


@header("a tissue region of a point", US)
def _(ds: FileDataset, rng: Rng) -> None:
    region = ds.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMinX0 = region.RegionLocationMaxX1 = rng.randrange(2, 60)
    region.RegionLocationMinY0 = region.RegionLocationMaxY1 = rng.randrange(2, 60)


# -- Copies that compete -----------------------------------------------------------------------------------------------


@kind("a blank copy under a new UID")
def _(export: Export, rng: Rng) -> Export:
    made = {}
    for name in targets(export, rng):
        made[f"{name}x"] = export.edited((name,), lambda ds: _blank_copy(ds, rng)).files[name]
    return export.with_files(**made)


def _blank_copy(ds: FileDataset, rng: Rng) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.9"
    ds.PixelData = bytes(len(ds.PixelData))
    ds.InstanceNumber += rng.choice((0, 100))
    ds.AcquisitionTime = "235900"


@kind("another content under the same UID")
def _(export: Export, rng: Rng) -> Export:
    made = {}
    for name in targets(export, rng):
        made[f"{name}x"] = export.edited((name,), _blanked).files[name]
    return export.with_files(**made)


def _blanked(ds: FileDataset) -> None:
    ds.PixelData = bytes(len(ds.PixelData))
