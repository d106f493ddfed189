"""Pixel bytes against the header: length, bits, transfer syntax and colour are what the bytes show, or refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom import dcmread
from pydicom.encaps import encapsulate

from imaging.dicom.pixels.codecs import decode
from imaging.dicom.pixels.frames import Frames
from imaging.errors import InputError, Reason
from tests.test_codecs import (
    BASELINE,
    EXPLICIT,
    IMPLICIT,
    JPEG2000,
    JPEG_LS,
    RLE,
    Array,
    arrays,
    form_of,
    jpeg2000,
    noise,
    over,
    rle,
    write,
)

PACKERS = {RLE: rle, JPEG2000: jpeg2000}


def packed(path: Path, frames: Array, syntax: str, table: bool = True) -> Path:
    """A file of frames in a native or compressed transfer syntax."""
    if syntax not in PACKERS:
        return write(path, frames, syntax)
    return write(path, frames, syntax, encapsulate([PACKERS[syntax](frame) for frame in frames], has_bot=table))


@pytest.mark.parametrize("signed", [False, True])
def test_bits_that_nothing_claims_are_refused(signed: bool, tmp_path: Path) -> None:
    """BitsStored 12 over values of 14 bits: what is left of them would be noise."""
    stored = np.array([[[0x2123, 0x0FFF, 0x0800, 0x07FF]]], "<i2" if signed else "<u2")
    path = write(tmp_path / "a.dcm", stored, EXPLICIT, bits=12)
    with pytest.raises(InputError, match="1 values have bits outside of BitsStored 12") as caught:
        arrays(path)
    assert caught.value.reason is Reason.UNSUPPORTED_PIXELS
    with pytest.raises(InputError, match="bits outside"):  # the near miss: the overlay is in another bit
        arrays(over(path, 15))
    assert arrays(write(tmp_path / "b.dcm", stored, EXPLICIT, bits=14))[0][0, 0] == 0x2123 - 0x4000 * signed


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG2000])
def test_values_at_the_top_of_their_word_are_brought_down(syntax: str, tmp_path: Path) -> None:
    low = noise((1, 34, 40), bits=12)
    path = packed(tmp_path / "a.dcm", low << 4, syntax)
    ds = dcmread(path)
    ds.BitsStored, ds.HighBit = 12, 15
    ds.save_as(path)
    frames = Frames(path, "a")
    assert np.array_equal(frames.read(0).array, low[0])
    assert "4 bits above the lowest" in frames.notes[0]
    ds.HighBit = 13  # the planted fault: bits 14 and 15 are of the values
    ds.save_as(path)
    with pytest.raises(InputError, match="bits outside of BitsStored 12 and HighBit 13"):
        arrays(path)
    ds.HighBit = 10
    ds.save_as(path)
    with pytest.raises(InputError, match="HighBit is 10; allowed are 11 to 15"):
        arrays(path)


@pytest.mark.parametrize("extra", [-2, 0, 1, 2, 39, 33 * 39, 2 * 33 * 39])
def test_native_pixels_are_as_long_as_the_header_asks(extra: int, tmp_path: Path) -> None:
    """One byte more is padding; a row, a frame or two more are not this header's, and two bytes too few were said."""
    path = write(tmp_path / "a.dcm", noise((1, 33, 39), bits=8).astype("u1"), EXPLICIT)
    ds = dcmread(path)
    ds.PixelData = (ds.PixelData + b"\1" * max(extra, 0))[: 1287 + extra]
    ds["PixelData"].VR = "OB"
    ds.save_as(path)
    if extra in (0, 1):
        assert len(arrays(path)) == 1
        return
    with pytest.raises(InputError, match=f"need 1287 bytes .* found {1287 + extra + (1287 + extra) % 2}") as caught:
        arrays(path)
    assert caught.value.reason is (Reason.PIXEL_DATA_TOO_SHORT if extra < 0 else Reason.PIXEL_DATA_TOO_LONG)


def test_zeros_of_less_than_a_frame_are_padding(tmp_path: Path) -> None:
    """An archive may pad with a row of zeros. A whole frame of them was a frame that nobody counted."""
    path = write(tmp_path / "a.dcm", noise((1, 33, 39), bits=8).astype("u1"), EXPLICIT)
    (plain,) = arrays(path)
    ds = dcmread(path)
    pixels = ds.PixelData[:1287]
    ds["PixelData"].VR = "OB"
    for extra, is_read in ((3, True), (39, True), (33 * 39 - 2, True), (33 * 39, False)):
        ds.PixelData = pixels + bytes(extra)
        ds.save_as(path)
        if is_read:
            np.testing.assert_array_equal(arrays(path)[0], plain)
            assert "follow the pixel data" in Frames(path, "a").notes[-1]
        else:
            with pytest.raises(InputError, match="found 2574"):
                arrays(path)


def test_full_chrominance_under_the_label_of_halved(tmp_path: Path) -> None:
    colour = np.random.default_rng(4).integers(0, 256, (2, 34, 40, 3), np.uint8)
    path = write(tmp_path / "a.dcm", colour, EXPLICIT, photometric="YBR_FULL")
    ds = dcmread(path)
    ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.save_as(path)
    frames = Frames(path, "a")
    assert np.array_equal(frames.read(1).array, colour[1])
    assert "by its length" in frames.notes[0]
    ds.NumberOfFrames = 3  # the planted fault: three halved frames are as long as two full ones
    ds.save_as(path)
    assert Frames(path, "a").notes == ()


@pytest.mark.parametrize("stated", [1, 2])
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("syntax", [RLE, JPEG2000])
def test_more_pictures_than_frames_are_not_passed_over(syntax: str, table: bool, stated: int, tmp_path: Path) -> None:
    """Of a cine of three whose header counts fewer, the last that is counted would hold the others."""
    frames = np.stack([noise((34, 40), bits=8, seed=k).astype("u1") for k in range(3)])
    path = packed(tmp_path / "a.dcm", frames, syntax, table)
    ds = dcmread(path)
    ds.NumberOfFrames = stated
    ds.save_as(path)
    with pytest.raises(InputError) as caught:
        arrays(path)
    assert caught.value.reason in (Reason.PIXEL_DATA_TOO_LONG, Reason.DECODE_FAILED)


@pytest.mark.parametrize("label", [IMPLICIT, EXPLICIT, BASELINE, JPEG_LS, RLE])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, JPEG2000, RLE])
def test_a_transfer_syntax_that_does_not_fit_is_found_by_looking(label: str, syntax: str, tmp_path: Path) -> None:
    """Whatever the meta header says: the same values, and the true form is named where it is another."""
    array = noise((1, 34, 40), bits=8).astype("u1")
    path = packed(tmp_path / "a.dcm", array, syntax)
    relabel(path, label)
    frames = Frames(path, "a")
    assert np.array_equal(frames.read(0).array, array[0])
    native = {IMPLICIT, EXPLICIT}
    assert bool(frames.notes) == (label != syntax and not {label, syntax} <= native)


def relabel(path: Path, syntax: str) -> None:
    """Another Transfer Syntax UID over the same bytes."""
    data, ds = path.read_bytes(), dcmread(path)
    stated = str(ds.file_meta.TransferSyntaxUID).encode()
    old, new = (text + b"\0" * (len(text) % 2) for text in (stated, syntax.encode()))
    at = data.index(b"\x02\x00\x10\x00UI")
    path.write_bytes(data[: at + 6] + struct.pack("<H", len(new)) + new + data[at + 8 + len(old) :])


def test_a_stream_that_names_its_colour_is_believed(tmp_path: Path) -> None:
    """JPEG 2000 with its own transform is RGB after decoding, whatever the label; without, the label stands."""
    colour = np.random.default_rng(5).integers(0, 256, (34, 40, 3), np.uint8)
    form = form_of(colour, photometric="YBR_FULL")
    for transformed, told in ((True, "rgb"), (False, "")):
        frame = bytes(encode_array(colour, photometric_interpretation=1, use_mct=transformed))
        decoded = decode(frame, form, JPEG2000, "made")
        assert np.array_equal(decoded.array, colour)
        assert decoded.colour == told


def test_a_stream_that_has_other_samples_is_believed() -> None:
    grey = noise((34, 40), bits=8).astype("u1")
    colour = np.stack([grey, grey // 2, grey // 3], -1)
    for array, label in ((grey, colour), (colour, grey)):
        frame = bytes(encode_array(array))
        assert np.array_equal(decode(frame, form_of(label), JPEG2000, "made").array, array)
