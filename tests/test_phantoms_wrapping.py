"""Pictures on a vendor's screen: read back bit by bit, where the header says, and without a validator's error."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from imaging.dicom.index import build_index
from imaging.dicom.pixels.read import read_frames
from imaging.errors import ImagingError, InputError
from imaging.image import Array, Box, Image
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from imaging.modalities.ultrasound.selection import select
from imaging.phantoms.ultrasound.dicom import file_bytes
from imaging.phantoms.ultrasound.screen import VENDORS, Encoding, VendorLetter
from imaging.phantoms.ultrasound.wrapping import LOSSLESS, MARGINS, BodyPart, place, wrap
from tests.conftest import require_tool
from tests.judges import run_tool

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
SPACING = (0.125, 0.25)


def picture(rows: int = 121, columns: int = 143) -> Array:
    """Every grey level, in an odd number of rows and columns; smooth enough for JPEG."""
    down, across = np.mgrid[:rows, :columns]
    return ((2 * down + across) % 256).astype(np.uint8)


def write(folder: Path, name: str, **changed: object) -> Path:
    given = {"pixels": picture(), "spacing_mm": SPACING, "vendor": "A", "patient_id": "p1", "number": 1}
    path = folder / f"{name}.dcm"
    path.write_bytes(file_bytes(wrap(**{**given, "body_part": "BREAST", **changed})))  # type: ignore[arg-type]
    return path


def read(path: Path) -> Image:
    selection = select(build_index(path).series)
    assert selection.group is not None
    [(_, image)] = [pair for ref in selection.group.images() for pair in read_frames(ref)]
    assert not isinstance(image, ImagingError)
    return image


def cropped(image: Image) -> Array:
    """(channel, row, column) of the region that the header tells."""
    assert image.region is not None
    return image.array[:, *image.region.pixels]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("encoding", LOSSLESS)
def test_lossless_encodings_give_back_every_pixel(encoding: Encoding, vendor: VendorLetter, tmp_path: Path) -> None:
    image = read(write(tmp_path, "a", encoding=encoding, vendor=vendor))
    found = cropped(image)
    assert all(np.array_equal(channel, picture()) for channel in found)
    assert len(found) == (1 if encoding == "MONOCHROME2" else 3)
    tissue = UltrasoundRecipe().tissue(image).pixels.numpy()[0]
    # Luma of equal channels: 0.299 + 0.587 + 0.114 is 1 but for the last bit of a float32.
    assert np.abs(tissue - picture()).max() < 1e-4
    assert np.array_equal(np.rint(tissue), picture())


def test_jpeg_stays_near(tmp_path: Path) -> None:
    """Quality 88: smooth pictures move by a few grey levels, which is what a hospital's JPEG does too."""
    down, across = np.mgrid[:120, :140]
    smooth = (60 + 50 * np.sin(down / 17) + 60 * np.cos(across / 23) + 40).clip(0, 255).astype(np.uint8)
    image = read(write(tmp_path, "a", pixels=smooth, encoding="YBR_FULL_422"))
    assert image.channels == "ybr_full"
    apart = np.abs(cropped(image)[0].astype(int) - smooth)
    assert apart.mean() < 1.5
    assert apart.max() > 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_region_is_the_picture_and_carries_its_spacing(vendor: VendorLetter, tmp_path: Path) -> None:
    image = read(write(tmp_path, "a", vendor=vendor))
    (rows, columns), box = place((121, 143), vendor)
    assert (image.source_grid.shape, image.region) == ((rows, columns), Box.from_row(np.array(box)))
    assert (rows, columns) == VENDORS[vendor].screen
    assert image.source_grid.unit == "mm"
    assert image.source_grid.spacing == pytest.approx(SPACING)
    bare = read(write(tmp_path, "b", vendor=vendor, spacing_mm=None))
    assert (bare.source_grid.unit, bare.region) == ("pixel", Box.from_row(np.array(box)))


@pytest.mark.parametrize("vendor", VENDORS)
def test_marks_stand_around_the_picture_and_none_on_it(vendor: VendorLetter, tmp_path: Path) -> None:
    """Of a picture that is black but for one pixel, all other light on the screen is outside its box."""
    black = np.zeros((600, 900), np.uint8)
    black[300, 450] = 1
    image = read(write(tmp_path, "a", vendor=vendor, pixels=black, encoding="MONOCHROME2"))
    assert np.count_nonzero(cropped(image)) == 1
    assert np.count_nonzero(image.array) > 300
    free = MARGINS[vendor]
    rows, columns = image.source_grid.shape
    # A large picture fills its screen.
    assert image.region == Box(low=(free.top, free.left), high=(rows - free.bottom, free.left + 900))
    assert columns % 2 == 0


def test_vendors_differ_and_the_same_arguments_give_the_same_bytes() -> None:
    def made(**changed: object) -> bytes:
        given = {"pixels": picture(), "spacing_mm": None, "vendor": "A", "patient_id": "p1", "number": 1}
        return file_bytes(wrap(**{**given, "body_part": "BREAST", **changed}))  # type: ignore[arg-type]

    assert made() == made()
    assert len({place((121, 143), vendor) for vendor in VENDORS}) == 4
    stored = [
        wrap(picture(), None, "A", "p1", 1, "BREAST"),
        wrap(picture(), (0.1, 0.1), "A", "p1", 1, "BREAST"),
        wrap(picture(), None, "A", "p1", 1, "BREAST", "MONOCHROME2"),
        wrap(picture(), None, "A", "p1", 2, "BREAST"),
        wrap(picture()[:-1], None, "A", "p1", 1, "BREAST"),
        wrap(picture(), None, "A", "p2", 1, "BREAST"),
    ]
    assert len({ds.SOPInstanceUID for ds in stored}) == 6
    assert len({ds.StudyInstanceUID for ds in stored}) == 2


@pytest.mark.parametrize(
    ("pixels", "spacing_mm", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), None, r"picture of 'p': found uint8 of shape .4, 4, 3.; allowed is uint8"),
        (np.zeros((4, 4), np.float32), None, "found float32"),
        (np.zeros((0, 4), np.uint8), None, "found uint8 of shape .0, 4."),
        (np.zeros((4, 4), np.uint8), (0.1, 0.0), r"spacing .0\.1, 0\.0. mm; allowed are positive steps"),
    ],
)
def test_what_is_no_picture_is_refused(pixels: Array, spacing_mm: tuple[float, float] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrap(pixels, spacing_mm, "A", "p", 1, "BREAST")


@pytest.mark.conformance
@pytest.mark.parametrize("body_part", get_args(BodyPart))
def test_dciodvfy_finds_no_error(body_part: str, tmp_path: Path) -> None:
    validator = require_tool("dciodvfy")
    for vendor in VENDORS:
        for encoding in ENCODINGS:
            for spacing in (SPACING, None):
                path = write(tmp_path, "a", vendor=vendor, encoding=encoding, spacing_mm=spacing, body_part=body_part)
                told = [line for line in run_tool(validator, path).splitlines() if "Error" in line]
                assert told == [], f"{vendor} {encoding} {spacing}"
