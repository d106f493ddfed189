"""What is done to the files that hold the lesion: a table of kinds, each random within its kind.

Every kind here can be noticed by an honest reader: something is missing, unreadable, blank, or contradicts the rest of
the study. OUT_OF_SCOPE names what nobody can notice, and why.
"""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from tests.law.exports import Export
from tests.mammograms import lut_item

Rng = random.Random
Act = Callable[[Export, Rng], Export]

OUT_OF_SCOPE = {
    "healthy pixels painted over the lesion": "a valid image of a healthy organ; no header and no pixel differs",
    "an image taken away of which nothing says that it was there": "a still of a set without count, or one of the "
    "further series of a study; a study with fewer images is as valid",
    "a valid header of another body part, another kind of image or another kind of series": "what an image is meant "
    "to be is what its header says; it is left out with that reason, which the result tells",
    "a smaller tissue region that is valid": "a sonographer may choose what part of a screen is the scan",
    "a part of a picture blank": "shadows, air and masks outside the scan are blank in valid images, too",
}


# Kinds that an honest reader notices and that may still end in "no, all": each is a defect that waits to be mended.
OPEN = {
    "the end of a counted series is not there": "ImagesInAcquisition is not held against what is there",
    "a channel somewhere else": "a volume beside the T2W is resampled wherever it lies, 0 where it does not reach",
    "a channel that does not reach the lesion": "the same: coverage is not a condition of a 'no'",
    "a channel in another frame of reference": "volumes are related by coordinates alone",
}


@dataclass(frozen=True)
class Kind:
    """A kind of damage: its name, the exports that it can be done to (by the start of their names), and the act."""

    name: str
    exports: tuple[str, ...]
    act: Act


KINDS: list[Kind] = []
US, MG, MR, CLASSIC, ENHANCED = "ultrasound", "mammograms", "prostate", "prostate", "prostate Enhanced"
ALL = (US, MG, MR)


def kind(name: str, *exports: str) -> Callable[[Act], Act]:
    """Adds a function to the table. `prostate` means both; `classic` the one of classic images."""

    def add(act: Act) -> Act:
        KINDS.append(Kind(name, exports or ALL, act))
        return act

    return add


def fits(one: Kind, export: str) -> bool:
    if export == "prostate" and "classic" in one.exports:
        return True
    return any(export.startswith(name) for name in one.exports)


def targets(export: Export, rng: Rng) -> tuple[str, ...]:
    """What to damage: all holders of one folder (of one channel of an MR study), or one of them."""
    first = rng.choice(export.holders)
    same = tuple(name for name in export.holders if name.rpartition("/")[0] == first.rpartition("/")[0])
    if export.name == "prostate Enhanced":
        return (first,)
    return same if rng.random() < 0.5 else (first,)


def on_headers(change: Callable[[FileDataset, Rng], None]) -> Act:
    """The act that changes the headers of the targets, all in the same way."""

    def act(export: Export, rng: Rng) -> Export:
        seed = rng.random()
        return export.edited(targets(export, rng), lambda ds: change(ds, Rng(seed)))

    return act


def on_bytes(change: Callable[[bytes, Rng], bytes | None]) -> Act:
    def act(export: Export, rng: Rng) -> Export:
        changes = {name: change(export.files[name], rng) for name in targets(export, rng)}
        return export.with_files(**changes)

    return act


def header(name: str, *exports: str) -> Callable[[Callable[[FileDataset, Rng], None]], Act]:
    return lambda change: kind(name, *exports)(on_headers(change))


def octets(name: str, *exports: str) -> Callable[[Callable[[bytes, Rng], bytes | None]], Act]:
    return lambda change: kind(name, *exports)(on_bytes(change))


# -- Bytes and files ---------------------------------------------------------------------------------------------------


@octets("cut off in the pixels")
def _(data: bytes, rng: Rng) -> bytes:
    return data[: int(len(data) * rng.uniform(0.6, 0.99))]


@octets("cut off in the header")
def _(data: bytes, rng: Rng) -> bytes:
    return data[: rng.randrange(200, min(900, len(data) // 2))]


@octets("a run of header bytes overwritten")
def _(data: bytes, rng: Rng) -> bytes:
    start, length = rng.randrange(120, 900), rng.choice((2, 8, 64, 200))
    return data[:start] + rng.randbytes(length) + data[start + length :]


@octets("the preamble lost")
def _(data: bytes, rng: Rng) -> bytes:
    return data[rng.choice((128, 132)) :]


@octets("the beginning overwritten or blank")
def _(data: bytes, rng: Rng) -> bytes:
    length = rng.choice((4, 200, 260, 300))
    start = 128 if length == 4 else 0
    return data[:start] + rng.choice((bytes(length), rng.randbytes(length))) + data[start + length :]


@octets("empty or nothing but zeros")
def _(data: bytes, rng: Rng) -> bytes:
    return bytes(rng.choice((0, len(data))))


@octets("zipped or packed")
def _(data: bytes, rng: Rng) -> bytes:
    if rng.random() < 0.5:
        return gzip.compress(data)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("IM1", data)
    return stream.getvalue()


@octets("bytes behind the header swapped or shifted")
def _(data: bytes, rng: Rng) -> bytes:
    at = data.rfind(b"\xe0\x7f\x10\x00")
    return data[: at + 12] + data[at + 12 + rng.choice((1, 2, 4000)) :]


@kind("a slice is not there", "classic")
def _(export: Export, rng: Rng) -> Export:
    return export.with_files(**dict.fromkeys(targets(export, rng)))


@kind("the end of a counted series is not there", "classic")
def _(export: Export, rng: Rng) -> Export:
    names = sorted(export.series("MR/T2/IM01"))
    return export.with_files(**dict.fromkeys(names[rng.choice((10, 11, 12)) :]))


@kind("a channel is not there", MR)
def _(export: Export, rng: Rng) -> Export:
    name = rng.choice(("ADC", "B1400", "T2"))
    return export.with_files(**{f: None for f in export.files if f.startswith(f"MR/{name}")})


# -- Identity ----------------------------------------------------------------------------------------------------------


@header("another patient")
def _(ds: FileDataset, rng: Rng) -> None:
    setattr(ds, *rng.choice((("PatientID", "OTHER"), ("PatientName", "Other^One"), ("PatientBirthDate", "19991231"))))


@header("a UID lost or broken")
def _(ds: FileDataset, rng: Rng) -> None:
    keyword = rng.choice(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    setattr(ds, keyword, rng.choice(("", "1.2.x")) if keyword != "SOPInstanceUID" else "")


@kind("the UID of a neighbour")
def _(export: Export, rng: Rng) -> Export:
    others = [name for name in export.files if name not in export.holders] or list(export.files)
    name = rng.choice(others)
    return export.edited(targets(export, rng), lambda ds: _take_uid(ds, export.files[name]))


def _take_uid(ds: FileDataset, other: bytes) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = dcmread(io.BytesIO(other)).SOPInstanceUID


@header("a series of its own", MR)
def _(ds: FileDataset, rng: Rng) -> None:
    ds.SeriesInstanceUID += ".7"


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


def pixels(ds: FileDataset) -> NDArray[np.unsignedinteger]:
    """Frames (frame, row, column) as they are stored."""
    kept = np.uint8 if ds.BitsAllocated == 8 else np.dtype("<u2")
    return np.frombuffer(ds.PixelData, kept).reshape(-1, ds.Rows, ds.Columns).copy()


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


# -- Volumes -----------------------------------------------------------------------------------------------------------


def planes(ds: FileDataset) -> list[Dataset]:
    """The items that hold the positions of slices: the object itself, or those of its frames 11 to 13."""
    if "PerFrameFunctionalGroupsSequence" not in ds:
        return [ds]
    return [ds.PerFrameFunctionalGroupsSequence[k].PlanePositionSequence[0] for k in (10, 11, 12)]


@header("a position gone or elsewhere", MR)
def _(ds: FileDataset, rng: Rng) -> None:
    what, by = rng.choice(("gone", "text", "moved", "apart")), rng.choice((1.2, 40.0, 500.0))
    for k, item in enumerate(planes(ds)):
        if what == "gone":
            del item.ImagePositionPatient
        elif what == "text":
            item.ImagePositionPatient = []
        else:
            x, y, z = item.ImagePositionPatient
            item.ImagePositionPatient = [x + by, y, z] if what == "apart" else [x, y, z + by * (1 + k)]


@header("an orientation gone or turned", "classic")
def _(ds: FileDataset, rng: Rng) -> None:
    turned = rng.choice(([], [0, 1, 0, 0, 0, -1], [0, 1, 0, -1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]))
    ds.ImageOrientationPatient = turned


@header("an orientation of a whole object gone or turned", ENHANCED)
def _(ds: FileDataset, rng: Rng) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    if rng.random() < 0.3:
        del shared.PlaneOrientationSequence
    else:
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = rng.choice(([0, 1, 0, 0, 0, -1], [0] * 6))


@header("a pixel spacing gone or impossible", MR)
def _(ds: FileDataset, rng: Rng) -> None:
    at = ds
    if "SharedFunctionalGroupsSequence" in ds:
        at = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    at.PixelSpacing = rng.choice(([], [0, 0], [-1, -1], [900, 900]))


@kind("a channel somewhere else", MR)
def _(export: Export, rng: Rng) -> Export:
    name, by = rng.choice(("ADC", "B1400", "B50")), rng.choice((60.0, 200.0, -1000.0))
    moved = tuple(f for f in export.files if f.startswith(f"MR/{name}"))
    return export.edited(moved, lambda ds: _shift(ds, by))


def _shift(ds: FileDataset, by: float) -> None:
    items = [ds]
    if "PerFrameFunctionalGroupsSequence" in ds:
        items = [frame.PlanePositionSequence[0] for frame in ds.PerFrameFunctionalGroupsSequence]
    for item in items:
        x, y, z = item.ImagePositionPatient
        item.ImagePositionPatient = [x + by, y, z]


@kind("a channel that does not reach the lesion", "classic")
def _(export: Export, rng: Rng) -> Export:
    names = ("ADC",) if rng.random() < 0.5 else ("B50", "B1400")
    gone = [f"MR/{name}/IM{k:02d}" for name in names for k in range(11, 16)]
    return export.with_files(**dict.fromkeys(gone))


@kind("a channel in another frame of reference", MR)
def _(export: Export, rng: Rng) -> Export:
    name = rng.choice(("ADC", "B1400"))
    moved = tuple(f for f in export.files if f.startswith(f"MR/{name}"))

    def elsewhere(ds: FileDataset) -> None:
        _shift(ds, 8.0)
        ds.FrameOfReferenceUID += ".5"

    return export.edited(moved, elsewhere)


@kind("a channel blank", MR)
def _(export: Export, rng: Rng) -> Export:
    name, value = rng.choice(("ADC", "B1400", "T2")), rng.choice((0, 0, 500))

    def blank(ds: FileDataset) -> None:
        ds.PixelData = np.full_like(pixels(ds), value).tobytes()

    return export.edited(tuple(f for f in export.files if f.startswith(f"MR/{name}")), blank)


@kind("an ADC that is no ADC", MR)
def _(export: Export, rng: Rng) -> Export:
    factor, offset = rng.choice(((0.0001, 0), (20.0, 0), (0, 3), (1, 3000)))

    def scaled(ds: FileDataset) -> None:
        ds.PixelData = (pixels(ds) * factor + offset).clip(0, 4095).astype("<u2").tobytes()

    return export.edited(tuple(f for f in export.files if f.startswith("MR/ADC")), scaled)


@kind("a b-value gone or impossible", MR)
def _(export: Export, rng: Rng) -> Export:
    value = rng.choice((None, -50.0, 0.0, 20.0, 1e6))

    def relabel(ds: FileDataset) -> None:
        at = ds
        if "SharedFunctionalGroupsSequence" in ds:
            at = ds.SharedFunctionalGroupsSequence[0].MRDiffusionSequence[0]
        if value is None:
            del at.DiffusionBValue
            ds.SeriesDescription = "diffusion"
        else:
            at.DiffusionBValue = value

    return export.edited(tuple(f for f in export.files if f.startswith("MR/B1400")), relabel)


@header("frames without their description", ENHANCED)
def _(ds: FileDataset, rng: Rng) -> None:
    if rng.random() < 0.3:
        del ds.PerFrameFunctionalGroupsSequence
    else:
        del ds.PerFrameFunctionalGroupsSequence[rng.choice((10, 12)) :]


@header("a slice under another weighting", "classic")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.EchoTime, ds.RepetitionTime = 9, 500
    ds.ImageType = ["ORIGINAL", "PRIMARY", rng.choice(("M", "OTHER"))]
    ds.ScanningSequence = "GR"
