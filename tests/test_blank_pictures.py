"""Tables, blank pictures and pixels that are not square: what a reader would see, or a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from imaging.dicom.index import build_index
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, Reason
from imaging.grayscale import entry_bits
from imaging.image import Image
from tests.test_codecs import EXPLICIT, Array, noise, write


def read(path: Path) -> Image | ImagingError:
    ((instance,),) = [series.instances for series in build_index(path).series]
    return next(read_frames(ImageRef(instance)))[1]


def palette(path: Path, entries: Array, bits: int) -> Path:
    """A ramp of palette indices under a grey palette of 256 entries."""
    write(path, np.arange(256, dtype=np.uint8).reshape(1, 16, 16), EXPLICIT, photometric="PALETTE COLOR")
    ds = dcmread(path)
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        ds[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(ds, f"{colour}PaletteColorLookupTableData", entries.astype("<u2").tobytes())
    ds.save_as(path)
    return path


@pytest.mark.parametrize(
    ("scale", "bits", "is_noted"), [(257, 16, False), (1, 16, True), (16, 16, True), (257, 8, True)]
)
def test_entries_decide_over_the_descriptor_of_a_palette(scale: int, bits: int, is_noted: bool, tmp_path: Path) -> None:
    """One ramp from black to white, whatever the descriptor says of its entries."""
    image = read(palette(tmp_path / "a.dcm", np.arange(256) * scale, bits))
    assert isinstance(image, Image)
    assert np.array_equal(image.array[0].ravel(), np.arange(256))
    assert any("bits per entry" in note for note in image.notes) is is_noted


def test_a_picture_of_one_value_is_unread(tmp_path: Path) -> None:
    black = palette(tmp_path / "a.dcm", np.zeros(256), 16)
    for path in (black, write(tmp_path / "b.dcm", np.full((1, 34, 40), 7, np.uint8), EXPLICIT)):
        error = read(path)
        assert isinstance(error, ImagingError)
        assert error.reason is Reason.NO_SIGNAL
    near = np.full((1, 34, 40), 7, np.uint8)
    near[0, 3, 4] = 8
    assert isinstance(read(write(tmp_path / "c.dcm", near, EXPLICIT)), Image)


@pytest.mark.parametrize(
    ("largest", "stated", "bits"),
    [
        *((4095, 16, 12), (255, 16, 8), (100, 16, 8), (4096, 16, 16), (65535, 16, 16), (0, 16, 16)),
        *((4095, 12, 12), (1000, 12, 12), (4095, 10, 12)),
    ],
)
def test_bits_of_a_table_by_its_entries(largest: int, stated: int, bits: int) -> None:
    assert entry_bits(np.array([0, largest]), stated, "table")[0] == bits


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, (1.0, 1.0)),
        ({"PixelAspectRatio": [2, 1]}, (2.0, 1.0)),
        ({"PixelAspectRatio": [0, 1]}, (1.0, 1.0)),
        ({"PixelAspectRatio": [2, 1], "PixelSpacing": [0.1, 0.1]}, (0.1, 0.1)),
    ],
)
def test_pixels_that_are_not_square(changes: dict[str, object], steps: tuple[float, float], tmp_path: Path) -> None:
    image = read(write(tmp_path / "a.dcm", noise((1, 34, 40), bits=8).astype("u1"), EXPLICIT, **changes))
    assert isinstance(image, Image)
    assert image.grid.spacing == pytest.approx(steps)
