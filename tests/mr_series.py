"""Hand-written MR series: slices of one series as files, with the attributes that makers write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

Array = NDArray[Any]
CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)
STEP = 3.0

T2: dict[str, Any] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "ScanningSequence": "SE",
    "EchoTime": 101,
    "RepetitionTime": 4000,
    "PixelSpacing": [0.5, 0.5],
}
EPI: dict[str, Any] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION"],
    "ScanningSequence": ["EP", "SE"],
    "EchoTime": 63,
    "RepetitionTime": 2700,
    "PixelSpacing": [2, 2],
}
TRACE = {**EPI, "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]}
ADC = {**EPI, "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}

Change = Callable[[int, FileDataset], None]


def tilted(degrees: float) -> tuple[float, ...]:
    """An orientation turned about the left-right axis."""
    a = np.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, round(float(np.cos(a)), 9), round(float(-np.sin(a)), 9))


def slices(
    folder: Path,
    number: int,
    tags: dict[str, Any],
    depths: Array | None = None,
    orientation: tuple[float, ...] = AXIAL,
    change: Change | None = None,
    stored: Array | None = None,
) -> None:
    """Series `number` of the study, one file per depth (mm along the normal; 15 slices of 3 mm unless told)."""
    depths = np.arange(15) * STEP if depths is None else depths
    normal = np.cross(orientation[:3], orientation[3:])
    for k, depth in enumerate(depths):
        pixels = np.full((4, 6), 100 + k, "<u2") if stored is None else stored[k].astype("<u2")
        dataset = header(number, k, pixels)
        dataset.ImagePositionPatient = (np.array([-20.0, 11.0, 5.0]) + depth * normal).round(6).tolist()
        dataset.ImageOrientationPatient = list(orientation)
        dataset.update(_dataset(tags))
        if change:
            change(k, dataset)
        dataset.save_as(folder / f"{number:02d}_{k:03d}.dcm", enforce_file_format=True)


def header(number: int, k: int, pixels: Array) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CLASSIC, generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSIC, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", f"1.2.3.{number}", "MR"
    dataset.PatientID, dataset.BodyPartExamined = "phantom", "PROSTATE"
    dataset.FrameOfReferenceUID = "1.2.3.99"
    dataset.SeriesNumber, dataset.InstanceNumber = number, k + 1
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20260102", f"10{number:02d}00"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels.tobytes()
    return dataset


def private(dataset: Dataset, group: int, creator: str, element: int, vr: str, value: Any, block: int = 0x10) -> None:
    """A private element under its creator in the given block."""
    dataset.add_new((group << 16) | block, "LO", creator)
    dataset.add_new((group << 16) | (block << 8) | element, vr, value)


def siemens(b: float) -> Change:
    return lambda k, dataset: private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0C, "IS", str(int(b)))


def enhanced(folder: Path, number: int, frames: list[Dataset], shared: Dataset, **tags: Any) -> None:
    """One Enhanced MR object; each frame holds a value of its own number, from 1."""
    stored = np.repeat(np.arange(1, len(frames) + 1, dtype="<u2"), 24).reshape(-1, 4, 6)
    dataset = header(number, 0, stored)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED
    dataset.NumberOfFrames = len(frames)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.update(_dataset(tags))
    dataset.save_as(folder / f"{number:02d}.dcm", enforce_file_format=True)


def group(**tags: Any) -> Dataset:
    return _dataset(tags)


def _dataset(tags: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)
    return dataset
