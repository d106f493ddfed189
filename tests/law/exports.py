"""Exports whose answer is "yes": small studies of every modality, each with one lesion that nobody could overlook.

Everything is drawn here, from fixed seeds. The lesion has a contrast that `reader` knows, and lies in few files of the
study (`holders`), so that losing these leaves a study that looks healthy.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.mammograms import breast, dataset

Pixels = NDArray[np.uint16]
Change = Callable[[FileDataset], None]

US_STILL, US_CINE = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
MR_CLASSIC, MR_ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
ROOT = "1.2.826.0.1.3680043.8.498.14"
SLICES, STEP_MM = 15, 3.0
LESION_SLICES = (10, 11, 12)


@dataclass(frozen=True)
class Export:
    """Files of one study by path. `holders` are those without which no lesion can be seen."""

    name: str
    files: dict[str, bytes]
    holders: tuple[str, ...]

    def with_files(self, **changes: bytes | None) -> Export:
        """With files in the place of others; None takes one away."""
        files = {name: changes.get(name, data) for name, data in self.files.items()}
        files |= {name: data for name, data in changes.items() if name not in files}
        return replace(self, files={name: data for name, data in files.items() if data is not None})

    def edited(self, names: tuple[str, ...], change: Change) -> Export:
        """With `change` done to the datasets of the named files."""
        return self.with_files(**{name: rewritten(self.files[name], change) for name in names})

    def series(self, name: str) -> tuple[str, ...]:
        """The files of the folder that the named file is in."""
        folder = name.rpartition("/")[0]
        return tuple(other for other in self.files if other.rpartition("/")[0] == folder)


def rewritten(data: bytes, change: Change) -> bytes:
    ds = dcmread(io.BytesIO(data))
    change(ds)
    return written(ds)


def written(ds: FileDataset) -> bytes:
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def disc(rows: int, columns: int, centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    r, c = np.mgrid[:rows, :columns]
    return np.asarray((r - centre[0]) ** 2 + (c - centre[1]) ** 2 <= radius**2)


@lru_cache
def exports(lesion: bool = True) -> dict[str, Export]:
    """Every export by its name; without `lesion` the same with healthy tissue in its place."""
    made = [make(lesion) for make in (still, cine, mammograms, prostate, enhanced_prostate)]
    return {export.name: export for export in made}


# -- Ultrasound --------------------------------------------------------------------------------------------------------


def still(lesion: bool) -> Export:
    """Two stills of a breast, of which the second shows a lesion."""
    files = {f"US/IM{k}": written(_ultrasound(k, _speckle(k, lesion and k == 2)[None])) for k in (1, 2)}
    return Export("ultrasound still", files, ("US/IM2",))


def cine(lesion: bool) -> Export:
    """A still without lesion and a cine of six frames, of which the fourth and fifth show one."""
    frames = np.stack([_speckle(10 + k, lesion and k in (3, 4)) for k in range(6)])
    files = {
        "US/IM1": written(_ultrasound(1, _speckle(1, lesion=False)[None])),
        "US/IM2": written(_ultrasound(2, frames)),
    }
    return Export("ultrasound cine", files, ("US/IM2",))


def _speckle(seed: int, lesion: bool) -> NDArray[np.uint8]:
    """Tissue (96, 128) about 120 with speckle; the lesion is nearly black."""
    rng = np.random.default_rng(seed)
    tissue = rng.normal(130, 18, (96, 128)).clip(70, 250)
    if lesion:
        tissue = np.where(disc(96, 128, (56, 70), 13), rng.normal(14, 4, tissue.shape).clip(4, 30), tissue)
    return tissue.astype(np.uint8)


def _ultrasound(number: int, frames: NDArray[np.uint8]) -> FileDataset:
    is_cine = len(frames) > 1
    ds = _object(US_CINE if is_cine else US_STILL, "US", f"{ROOT}.1", 1, number)
    ds.BodyPartExamined, ds.PatientID, ds.PatientName = "BREAST", "LAW-US", "Law^Ultrasound"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "BREAST", "0001"]
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = frames.shape[2] - 1, frames.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.03
    ds.SequenceOfUltrasoundRegions = [region]
    if is_cine:
        ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = len(frames), "40", 0x00181063
    return _pictured(ds, frames, bits=8)


# -- Mammography -------------------------------------------------------------------------------------------------------

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def mammograms(lesion: bool) -> Export:
    """Four views, of which the left MLO shows a mass."""
    files = {}
    for number, (side, view) in enumerate(VIEWS, start=1):
        pixels = breast(240, 160).copy()
        if lesion and (side, view) == ("L", "MLO"):
            pixels[disc(240, 160, (120, 50), 9)] = 4095
        files[f"MG/{side}{view}"] = written(_mammogram(number, side, view, pixels if side == "L" else pixels[:, ::-1]))
    return Export("mammograms", files, ("MG/LMLO",))


def _mammogram(number: int, side: str, view: str, pixels: Pixels) -> FileDataset:
    ds = dataset(
        np.ascontiguousarray(pixels), SOPInstanceUID=f"{ROOT}.2.1.{number}", StudyInstanceUID=f"{ROOT}.2",
        SeriesInstanceUID=f"{ROOT}.2.1", ImageLaterality=side, ViewPosition=view, BitsStored=12, HighBit=11,
        InstanceNumber=number, SeriesNumber=1, PatientID="LAW-MG", PatientName="Law^Mammography",
        BodyPartExamined="BREAST", ImagerPixelSpacing=[0.9, 0.9], ImageType=["ORIGINAL", "PRIMARY"],
        AcquisitionDate="20260102", AcquisitionTime=f"10{number:02d}00", PresentationLUTShape="IDENTITY",
        PatientOrientation=["A" if side == "L" else "P", "F" if view == "MLO" else side],
        WindowCenter=2048, WindowWidth=4096,
    )  # fmt: skip
    view_code = Dataset()
    view_code.CodeValue, view_code.CodingSchemeDesignator = ("399162004" if view == "CC" else "399368009"), "SCT"
    view_code.CodeMeaning = "cranio-caudal" if view == "CC" else "medio-lateral oblique"
    ds.ViewCodeSequence = [view_code]
    return ds


# -- Prostate ----------------------------------------------------------------------------------------------------------

# Folder → series number, side in pixels, millimetres, b-value.
SERIES: dict[str, tuple[int, int, float, float | None]] = {
    "T2": (1, 48, 1.0, None),
    "ADC": (2, 24, 2.0, None),
    "B50": (3, 24, 2.0, 50.0),
    "B1400": (4, 24, 2.0, 1400.0),
}
_TISSUE_ADC, _LESION_ADC = 1500.0, 500.0


def prostate(lesion: bool) -> Export:
    """T2W, ADC, and two b-values as classic images, a lesion in three slices of each."""
    files = {}
    for name in SERIES:
        stored = _volume(name, lesion)
        for k in range(SLICES):
            ds = _mr(name, k + 1, MR_CLASSIC)
            ds.ImagePositionPatient, ds.ImageOrientationPatient = _corner(name, k), [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing = [SERIES[name][2]] * 2
            _weight(ds, name)
            files[f"MR/{name}/IM{k + 1:02d}"] = written(_pictured(ds, stored[k][None], bits=16))
    holders = tuple(f"MR/{name}/IM{k + 1:02d}" for name in SERIES for k in LESION_SLICES)
    return Export("prostate", files, holders)


def enhanced_prostate(lesion: bool) -> Export:
    """The same as four Enhanced MR objects."""
    files = {f"MR/{name}": written(_enhanced(name, lesion)) for name in SERIES}
    return Export("prostate Enhanced", files, tuple(files))


def _volume(name: str, has_lesion: bool) -> Pixels:
    """Stored values (slice, row, column) of one series."""
    number, side, spacing, b = SERIES[name]
    rng = np.random.default_rng(number)
    lesion = disc(side, side, (26 / spacing, 22 / spacing), 5 / spacing)
    where = np.zeros((SLICES, side, side), np.bool_)
    where[list(LESION_SLICES)] = lesion & has_lesion
    adc = np.where(where, _LESION_ADC, _TISSUE_ADC)
    if name == "T2":
        values = np.where(where, 150, 600) * rng.normal(1, 0.06, where.shape)
    elif b is None:
        values = adc * rng.normal(1, 0.04, where.shape)
    else:
        values = 1000 * np.exp(-b * adc * 1e-6) * rng.normal(1, 0.04, where.shape)
    return np.asarray(np.rint(values).clip(1, 4095), dtype=np.uint16)


def _corner(name: str, k: int) -> list[float]:
    half = SERIES[name][2] / 2
    return [-24.0 + half, -24.0 + half, STEP_MM * k]


def _mr(name: str, number: int, class_uid: str) -> FileDataset:
    series, _, _, b = SERIES[name]
    ds = _object(class_uid, "MR", f"{ROOT}.3", series, number)
    ds.BodyPartExamined, ds.PatientID, ds.PatientName = "PROSTATE", "LAW-MR", "Law^Prostate"
    ds.FrameOfReferenceUID, ds.MagneticFieldStrength = f"{ROOT}.3.9", 3
    kind = {"T2": ["M"], "ADC": ["DIFFUSION", "ADC"]}.get(name, ["DIFFUSION"])
    ds.ImageType = ["DERIVED" if name == "ADC" else "ORIGINAL", "PRIMARY", *kind]
    ds.SliceThickness = ds.SpacingBetweenSlices = STEP_MM
    ds.SeriesDescription = {"T2": "t2 tse ax", "ADC": "ep2d diff ADC"}.get(name, f"ep2d diff b{b or 0:g}")
    return ds


def _weight(ds: FileDataset, name: str) -> None:
    """What says how a classic image is weighted."""
    b = SERIES[name][3]
    ds.ScanningSequence = "SE" if name == "T2" else ["EP", "SE"]
    ds.EchoTime, ds.RepetitionTime = (101, 4000) if name == "T2" else (63, 2700)
    if name == "T2":
        ds.ImagesInAcquisition = SLICES
    if b is not None:
        ds.DiffusionBValue = b


def _enhanced(name: str, lesion: bool) -> FileDataset:
    ds = _mr(name, 1, MR_ENHANCED)
    spacing, b = SERIES[name][2:]
    ds.ImageType = [*(["DERIVED"] if name == "ADC" else ["ORIGINAL"]), "PRIMARY", "PROSTATE"]
    ds.ImageType = [*ds.ImageType, {"T2": "T2", "ADC": "ADC"}.get(name, "DIFFUSION")]
    ds.AcquisitionContrast = {"T2": "T2"}.get(name, "DIFFUSION")
    ds.EchoPulseSequence = "SPIN"
    ds.EchoPlanarPulseSequence = "NO" if name == "T2" else "YES"
    shared = _item(
        PixelMeasuresSequence=[_item(PixelSpacing=[spacing] * 2, SliceThickness=STEP_MM)],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        MRTimingAndRelatedParametersSequence=[_item(RepetitionTime=4000.0 if name == "T2" else 2700.0)],
        MREchoSequence=[_item(EffectiveEchoTime=101.0 if name == "T2" else 63.0)],
        MRImageFrameTypeSequence=[_item(FrameType=list(ds.ImageType), AcquisitionContrast=ds.AcquisitionContrast)],
    )
    if b is not None:
        shared.MRDiffusionSequence = [_item(DiffusionBValue=b, DiffusionDirectionality="ISOTROPIC")]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[_item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[1, k + 1])],
            PlanePositionSequence=[_item(ImagePositionPatient=_corner(name, k))],
        )
        for k in range(SLICES)
    ]
    ds.NumberOfFrames = SLICES
    return _pictured(ds, _volume(name, lesion), bits=16)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


# -- Any object --------------------------------------------------------------------------------------------------------


def _object(class_uid: str, modality: str, study: str, series: int, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = f"{study}.{series}.{number}"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = class_uid, uid
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = class_uid, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study, f"{study}.{series}", modality
    ds.SeriesNumber, ds.InstanceNumber, ds.StudyDate = series, number, "20260102"
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", f"10{series:02d}{number:02d}"
    ds.PatientBirthDate, ds.PatientSex, ds.Manufacturer = "19600101", "", "Law"
    return ds


def _pictured(ds: FileDataset, frames: NDArray[np.unsignedinteger], bits: int) -> FileDataset:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = frames.shape[1:]
    stored = 8 if bits == 8 else 12
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, stored, stored - 1, 0
    ds.PixelData = frames.astype(np.uint8 if bits == 8 else "<u2").tobytes()
    return ds
