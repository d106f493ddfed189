"""Mammograms for tests: a header of the fewest elements that a reader needs, and a breast that is a half ellipse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from imaging.dicom.index import build_index
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef
from imaging.image import Image

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"


def dataset(pixels: np.ndarray, **tags: Any) -> FileDataset:
    """A Digital Mammography image of `pixels` uint16 (row, column); a tag of None is left out."""
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stated: dict[str, Any] = {
        "SOPClassUID": FOR_PRESENTATION,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "Modality": "MG",
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageLaterality": "L",
        "ViewPosition": "MLO",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        **tags,
    }
    for keyword, value in stated.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def lut_item(first: int, bits: int, entries: list[int], explanation: str = "") -> Dataset:
    """An item of a VOI or Modality LUT Sequence, its data as 16-bit words."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    if explanation:
        item.LUTExplanation = explanation
    return item


def code_item(value: str, *modifiers: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "not read"
    if modifiers:
        item.ViewModifierCodeSequence = [code_item(modifier) for modifier in modifiers]
    return item


def written(path: Path, ds: FileDataset) -> Image:
    """The image that is read back from the bytes of a file."""
    ds.save_as(path, enforce_file_format=True)
    return read(path)


def read(path: Path) -> Image:
    ((_, image),) = read_frames(ImageRef(build_index(path).series[0].instances[0]))
    assert isinstance(image, Image), image
    return image


def breast(rows: int = 240, columns: int = 160) -> np.ndarray:
    """12-bit values (row, column): a half ellipse at the left with a texture, its upper half thicker, on air of 20."""
    r, c = np.mgrid[:rows, :columns]
    y, x = (r + 0.5 - rows / 2) / (0.42 * rows), (c + 0.5) / (0.75 * columns)
    depth = np.clip(1 - x**2 - y**2, 0, None)
    tissue = 3000 * depth**0.3 + 300 * np.sin(r / 7) * np.cos(c / 5) * (depth > 0.1) - 400 * (y > 0) * (depth > 0.2)
    return np.where(depth > 0, 300 + tissue, 20).clip(0, 4095).astype(np.uint16)
