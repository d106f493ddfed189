"""One frame at a time out of a DICOM file: where each lies, its bytes, its stored values.

Only the bytes of the frame asked for are read, so one frame of a long cine costs no more than a still.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from imaging.dicom.headers.elements import integer
from imaging.dicom.parsing.firewall import admit
from imaging.dicom.parsing.odd_values import read_dataset
from imaging.dicom.pixels.codecs import DECODERS, LARGEST_FRAME_BYTES, DecodedFrame, FrameFormat, decode, stored_values
from imaging.dicom.pixels.codestream import recognise
from imaging.dicom.pixels.fragments import Fragments
from imaging.errors import InputError, Reason
from imaging.image import Array

_UNDEFINED: Final = 0xFFFFFFFF
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_NATIVE: Final = frozenset({"1.2.840.10008.1.2", _EXPLICIT, _BIG_ENDIAN, _DEFLATED, _ENCAPSULATED_UNCOMPRESSED})
_LOOKED_AT_BYTES: Final = 64 << 10
# Transfer syntaxes that pydicom does not name yet.
_NEWER: Final = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
# Float, Double Float and integer Pixel Data (PS3.6), by element of group 7FE0.
_FLOATS: Final[dict[int, np.dtype[Any]]] = {0x0008: np.dtype("f4"), 0x0009: np.dtype("f8")}


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data of a file lie: first byte, length (None: fragments), its element number and VR."""

    start: int
    length: int | None
    element: int
    vr: bytes
    big_endian: bool


class Frames:
    """The frames of one image file. Opening reads the header only; `read(n)` reads and decodes frame n (from 0).

    `notes` are sentences about what the pixel data are although the header says otherwise.

    Raises InputError when the firewall refuses the file, the header cannot be read, the transfer syntax has no decoder
    here, or uncompressed pixel data are not rows × columns × samples × bits × frames long. Nothing large is allocated
    before that.
    """

    def __init__(self, path: Path, name: str, disposable: bool = False) -> None:
        self.name = name
        self._path = path
        self._disposable = disposable
        self._inflated: bytes | None = None
        admitted = admit(path)
        try:
            with path.open("rb") as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom describes each oddity of a file; the reason code is ours
                self.header: Dataset = read_dataset(stream)
                self.syntax = admitted.transfer_syntax_uid
                _check_syntax(self.syntax, name)
                self.count = integer(name, self.header, "NumberOfFrames", (1, 1 << 31), default=1)
                self.format = _frame_format(self.header, name)
                shift = self.format.shift
                self.notes = (f"Values end {shift} bits above the lowest and were brought down",) if shift else ()
                self._pixels = self._locate(stream)
                extended = self.header.get("ExtendedOffsetTable")
                self._fragments = Fragments(self._pixels.start, self.count, extended, name)
        except InvalidDicomError as error:
            raise InputError(f"{name}: not a DICOM file (no DICM prefix at byte 128)", Reason.NOT_DICOM) from error
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror})", Reason.UNREADABLE_HEADER) from error
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{name}: the header cannot be parsed ({type(error).__name__})", Reason.UNREADABLE_HEADER
            ) from error

    def read(self, number: int) -> DecodedFrame:
        """Stored values of frame `number` (from 0): (rows, columns), or (rows, columns, samples) for colour."""
        where = f"{self.name}: frame {number + 1}"
        try:
            if self._pixels.length is None:
                with self._path.open("rb") as stream:
                    stored = self._fragments.read(stream, number)
                if self.syntax in DECODERS:
                    return decode(stored, self.format, self.syntax, where, self._disposable)
                return DecodedFrame(self._native(stored, 0))
            return DecodedFrame(self._native_frame(number))
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror})", Reason.DECODE_FAILED) from error

    def _locate(self, stream: BinaryIO) -> PixelElement:
        """The pixel data element at which the header parser stopped, checked against the bytes present."""
        big = self.syntax == _BIG_ENDIAN
        if self.syntax == _DEFLATED:
            stream.seek(0)
            self._inflated = dcmread(stream, force=True).get("PixelData")
            if self._inflated is None:
                raise InputError(f"{self.name}: no Pixel Data (7FE0,0010)", Reason.NOT_AN_IMAGE)
            found = PixelElement(0, len(self._inflated), 0x0010, b"OW", big)
            present = len(self._inflated)
        else:
            found = _pixel_element(stream, big, self.name)
            present = stream.seek(0, 2) - found.start
        self._look(found, stream)
        if found.length is not None:
            self._measure(found, min(found.length, present))
        return found

    def _look(self, found: PixelElement, stream: BinaryIO) -> None:
        """The transfer syntax is the one that the pixel data have, where that can be told by looking at them."""
        stated = self.syntax
        if found.length is None:
            looked = recognise(_first_bytes(stream, found.start))
            if stated in DECODERS and (not looked or DECODERS[looked] == DECODERS[stated]):
                return
            if not looked and stated == _ENCAPSULATED_UNCOMPRESSED:
                return
        else:
            looked = "" if stated == _ENCAPSULATED_UNCOMPRESSED else _EXPLICIT
            if stated in _NATIVE and looked:
                return
        if not looked:
            raise InputError(
                f"{self.name}: Pixel Data (7FE0,0010) of {'undefined' if found.length is None else 'defined'} length "
                f"does not go with TransferSyntaxUID {UID(stated).name}",
                Reason.UNSUPPORTED_TRANSFER_SYNTAX,
            )
        self.syntax = looked
        said = f"The file says TransferSyntaxUID {UID(stated).name}; its pixel data are {UID(looked).name}"
        self.notes = (*self.notes, said)

    def _measure(self, found: PixelElement, present: int) -> None:
        """Native pixel data are as long as the header asks, but for one byte of padding (PS3.5 8.1.1).

        More zeros than that, but less than a frame, hold no picture that could be missed, so they are said and passed.

        One and a half times as long under YBR_FULL_422 is full chrominance: archives that decompress leave the label.
        """
        f = self.format
        needed = ceil(self._frame_bits(found) * self.count / 8)
        extra = present - needed
        if f.photometric == "YBR_FULL_422" and extra - needed // 2 in (0, 1) and extra > 1:
            self.format = replace(f, photometric="YBR_FULL")
            self.notes = (*self.notes, "The label is YBR_FULL_422; by its length the pixel data are YBR_FULL")
        elif 1 < extra < needed // self.count and not any(self._bytes(found.start + needed, extra)):
            self.notes = (*self.notes, f"{extra} bytes of zeros follow the pixel data, less than a frame: padding")
        elif not 0 <= extra <= 1:
            raise InputError(
                f"{self.name}: pixel data need {needed} bytes for {f.rows} × {f.columns} × {f.samples} samples × "
                f"{self.count} frames × {f.bits_allocated} bits; found {present}",
                Reason.PIXEL_DATA_TOO_SHORT if extra < 0 else Reason.PIXEL_DATA_TOO_LONG,
            )

    def _frame_bits(self, pixels: PixelElement) -> int:
        f = self.format
        bits = _FLOATS[pixels.element].itemsize * 8 if pixels.element in _FLOATS else f.bits_allocated
        # YBR_FULL_422 holds two luminances and one pair of chrominances for two pixels (PS3.3 C.7.6.3.1.2).
        samples = 2 if f.photometric == "YBR_FULL_422" else f.samples
        return f.rows * f.columns * samples * bits

    def _native_frame(self, number: int) -> Array:
        """Frame `number` of uncompressed pixel data; frames of one bit need not start on a byte."""
        bits = self._frame_bits(self._pixels)
        first, last = number * bits // 8, ceil((number + 1) * bits / 8)
        swapped = self._pixels.big_endian and self._pixels.vr == b"OW" and self.format.bits_allocated <= 8
        low, high = (first // 2 * 2, last + last % 2) if swapped else (first, last)
        stored = self._bytes(self._pixels.start + low, high - low)
        if swapped:  # Bytes in 16-bit words (PS3.5 annex A.3): odd and even change places.
            stored = np.frombuffer(stored + b"\0" * (len(stored) % 2), "<u2").byteswap().tobytes()[first - low :]
        return self._native(stored, number * bits % 8)

    def _native(self, stored: bytes, skipped_bits: int) -> Array:
        """Uncompressed bytes of one frame as stored values."""
        f = self.format
        if len(stored) * 8 < self._frame_bits(self._pixels) + skipped_bits:
            raise InputError(f"{self.name}: a frame is cut off", Reason.PIXEL_DATA_TOO_SHORT)
        order: Literal[">", "<"] = ">" if self._pixels.big_endian else "<"
        if self._pixels.element in _FLOATS:
            return np.frombuffer(stored, _FLOATS[self._pixels.element].newbyteorder(order)).reshape(f.shape)
        if f.bits_allocated == 1:
            bits = np.unpackbits(np.frombuffer(stored, np.uint8), bitorder="little")
            return bits[skipped_bits : skipped_bits + f.rows * f.columns].reshape(f.shape)
        count = self._frame_bits(self._pixels) // f.bits_allocated
        values = np.frombuffer(stored, f.dtype.newbyteorder(order), count)
        if f.photometric == "YBR_FULL_422":
            return _spread_chroma(values, f)
        if f.samples > 1 and f.planar == 1:
            values = values.reshape(f.samples, f.rows, f.columns).transpose(1, 2, 0)
        return stored_values(values.reshape(f.shape), f, f.bits_allocated, self.name)

    def _bytes(self, start: int, length: int) -> bytes:
        if self._inflated is not None:
            return self._inflated[start : start + length]
        with self._path.open("rb") as stream:
            stream.seek(start)
            return stream.read(length)


def _first_bytes(stream: BinaryIO, start: int) -> bytes:
    """The beginning of the first fragment, behind the item of the basic offset table; empty where there is none."""
    for _ in range(2):
        stream.seek(start)
        head = stream.read(8)
        start += 8 + int.from_bytes(head[4:], "little")
    return stream.read(_LOOKED_AT_BYTES) if head[:4] == b"\xfe\xff\x00\xe0" else b""


def _pixel_element(stream: BinaryIO, big: bool, name: str) -> PixelElement:
    """The element at the stream's position, which is where the header parser stopped.

    Whether its VR is written is looked at: a length that reads as one of these would be odd.
    """
    head = stream.read(12)
    order = ">" if big else "<"
    if len(head) < 12 or struct.unpack(f"{order}H", head[:2])[0] != 0x7FE0:
        raise InputError(f"{name}: no Pixel Data (7FE0,0010)", Reason.NOT_AN_IMAGE)
    element = struct.unpack(f"{order}H", head[2:4])[0]
    if head[4:6] not in (b"OB", b"OW", b"UN", b"OF", b"OD"):
        stream.seek(-4, 1)
        vr, length = b"OW", struct.unpack("<I", head[4:8])[0]
    else:
        vr, length = head[4:6], struct.unpack(f"{order}I", head[8:12])[0]
    return PixelElement(stream.tell(), None if length == _UNDEFINED else length, element, vr, big)


def _check_syntax(syntax: str, name: str) -> None:
    if syntax in _NATIVE or syntax in DECODERS:
        return
    try:
        known = _NEWER.get(syntax) or (UID(syntax).name if UID(syntax).is_transfer_syntax else f"'{syntax}'")
    except ValueError:
        known = f"'{syntax}'"
    raise InputError(f"{name}: TransferSyntaxUID {known} has no decoder here", Reason.UNSUPPORTED_TRANSFER_SYNTAX)


def _frame_format(header: Dataset, name: str) -> FrameFormat:
    """The Image Pixel module (PS3.3 C.7.6.3), each value checked."""
    samples = integer(name, header, "SamplesPerPixel", (1, 4), default=1)
    bits = integer(name, header, "BitsAllocated", (1, 64))
    form = FrameFormat(
        rows=integer(name, header, "Rows", (1, 65535)),
        columns=integer(name, header, "Columns", (1, 65535)),
        samples=samples,
        bits_allocated=bits,
        bits_stored=integer(name, header, "BitsStored", (1, bits), default=bits),
        # Absent from float pixel data and needless for single bits; never guessed elsewhere.
        signed=integer(name, header, "PixelRepresentation", (0, 1), default=None if bits in (8, 16) else 0) == 1,
        photometric=str(header.get("PhotometricInterpretation", "")),
        planar=integer(name, header, "PlanarConfiguration", (0, 1), default=0) if samples > 1 else 0,
    )
    last = form.bits_stored - 1
    high = integer(name, header, "HighBit", (last, bits - 1), default=last)
    form = replace(form, shift=high - last, overlay_bits=_overlay_bits(header, bits), padding=_padding(header))
    size = form.rows * form.columns * samples * form.dtype.itemsize
    halved = form.photometric == "YBR_FULL_422"
    if bits not in (1, 8, 16, 32, 64) or (halved and (samples != 3 or form.columns % 2)) or (bits == 1 and samples > 1):
        raise InputError(
            f"{name}: BitsAllocated {bits}, SamplesPerPixel {samples}, Columns {form.columns} under "
            f"'{form.photometric}'; allowed are 1, 8, 16, 32 or 64 bits, and even columns for YBR_FULL_422",
            Reason.UNSUPPORTED_PIXELS,
        )
    if size > LARGEST_FRAME_BYTES:
        raise InputError(
            f"{name}: one frame has {size} bytes; allowed are {LARGEST_FRAME_BYTES}", Reason.UNSUPPORTED_PIXELS
        )
    return form


def _overlay_bits(header: Dataset, bits: int) -> int:
    """The bits of stored values that hold overlays (PS3.3 C.9.2, retired in 2004), as a mask."""
    mask = 0
    for group in range(0x6000, 0x6020, 2):
        position = header.get((group, 0x0102))
        if position is not None and (group, 0x3000) not in header and str(position.value).isdigit():
            mask |= 1 << min(int(position.value), bits - 1)
    return mask


def _padding(header: Dataset) -> int | None:
    value = header.get("PixelPaddingValue")
    return value if isinstance(value, int) else None


def _spread_chroma(values: Array, form: FrameFormat) -> Array:
    """YBR_FULL_422 (Y1 Y2 Cb Cr for two pixels) as (rows, columns, 3), each chrominance for both its pixels."""
    pairs = values.reshape(form.rows, form.columns // 2, 4)
    out = np.empty((form.rows, form.columns // 2, 2, 3), values.dtype)
    out[..., 0] = pairs[..., :2]
    out[..., 1:] = pairs[..., None, 2:]
    return out.reshape(form.shape)
