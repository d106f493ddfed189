"""What an image's header claims against the bytes that are there. Standard library only; messages hold numbers."""

from __future__ import annotations

import struct
from math import ceil
from re import fullmatch
from typing import Final

from imaging.dicom.parsing.limits import Limits
from imaging.dicom.parsing.sources import Refused
from imaging.dicom.parsing.walk import Pixels, Values
from imaging.errors import Reason

_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS, _BITS = (
    0x00280002,
    0x00280004,
    0x00280008,
    0x00280010,
    0x00280011,
    0x00280100,
)
_DESCRIPTORS: Final = (0x00281101, 0x00281102, 0x00281103)
_PLAIN_LUTS: Final = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED_LUTS: Final = (0x00281221, 0x00281222, 0x00281223)
_PALETTE_UID: Final = 0x00281199
# Everything that `judge` reads.
CLAIMS: Final = frozenset(
    {_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS, _BITS, _PALETTE_UID}
    | {*_DESCRIPTORS, *_PLAIN_LUTS, *_SEGMENTED_LUTS}
)
_NATIVE: Final = frozenset(
    ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
)
# Decoded bytes per encoded byte that the format itself cannot exceed. RLE: two bytes repeat one 128 times. Lossless
# JPEG: at least one bit per sample of at most 16. Baseline and extended JPEG: at least two bits per block of 64
# samples, of which chroma may cover four times as many pixels. JPEG-LS and JPEG 2000 have no such bound.
_MOST_RATIO: Final = {
    "1.2.840.10008.1.2.5": 64,
    "1.2.840.10008.1.2.4.57": 16,
    "1.2.840.10008.1.2.4.70": 16,
    "1.2.840.10008.1.2.4.50": 1024,
    "1.2.840.10008.1.2.4.51": 2048,
}
_LEAST_FRAGMENT_BYTES: Final = 8
_MOST_ENTRIES: Final = 65536


def judge(values: Values, is_little: bool, syntax: str, pixels: Pixels | None, limits: Limits) -> None:
    """Nothing for what is no image, and for one whose bytes can hold what it claims. Raises Refused otherwise.

    A number that cannot be read is left to the parser, which names it.
    """
    rows, columns, samples, bits = (_short(values.get(tag), is_little) for tag in (_ROWS, _COLUMNS, _SAMPLES, _BITS))
    if rows is None or columns is None:
        return
    samples, count = samples or 1, _whole(values.get(_FRAMES))
    shape = (
        f"Rows {rows} × Columns {columns} × SamplesPerPixel {samples} × BitsAllocated {bits} × NumberOfFrames {count}"
    )
    if count < 1 or rows < 1 or columns < 1:
        raise Refused(f"{shape}; allowed is 1 or more of each", Reason.UNSUPPORTED_PIXELS)
    if count > limits.frames:
        raise Refused(f"{shape}; allowed are {limits.frames} frames", Reason.IMAGE_TOO_LARGE)
    if bits is not None and not (bits == 1 or bits in range(8, 65, 8)):
        raise Refused(f"{shape}; allowed are 1, 8, 16, 24, 32 or 64 bits", Reason.UNSUPPORTED_PIXELS)
    stored = 2 if _text(values.get(_PHOTOMETRIC)) == "YBR_FULL_422" and samples == 3 else samples
    frame_bits = rows * columns * stored * (bits or 8)
    if frame_bits > limits.frame_bytes * 8:
        raise Refused(f"{shape}; allowed are {limits.frame_bytes} bytes in a frame", Reason.IMAGE_TOO_LARGE)
    _judge_bytes(shape, ceil(frame_bits * count / 8), count, syntax, pixels)
    if _text(values.get(_PHOTOMETRIC)) == "PALETTE COLOR":
        _judge_palette(values, is_little, limits.palette_bytes)


def _judge_bytes(shape: str, needed: int, count: int, syntax: str, pixels: Pixels | None) -> None:
    if pixels is None:
        raise Refused(f"{shape}; there is no pixel data", Reason.PIXEL_DATA_TOO_SHORT)
    if pixels.length is not None and (syntax in _NATIVE or not syntax):
        present = min(pixels.length, pixels.present)
        if present < needed:
            raise Refused(f"{shape} needs {needed} bytes; found {present}", Reason.PIXEL_DATA_TOO_SHORT)
    elif pixels.present < count * _LEAST_FRAGMENT_BYTES or pixels.present * _MOST_RATIO.get(syntax, needed) < needed:
        raise Refused(
            f"{shape} cannot be encoded in {pixels.present} bytes of transfer syntax {syntax}",
            Reason.PIXEL_DATA_TOO_SHORT,
        )


def _judge_palette(values: Values, is_little: bool, palette_bytes: int) -> None:
    if _PALETTE_UID in values:  # One of the standard's own palettes (PS3.6 B.1): nothing in the file to expand.
        return
    for descriptor, plain, segmented in zip(_DESCRIPTORS, _PLAIN_LUTS, _SEGMENTED_LUTS, strict=True):
        told = values.get(descriptor, (None, b""))[1]
        if len(told) != 6:
            raise _bad_palette(descriptor, f"{len(told)} bytes", "three numbers, 6 bytes")
        entries, _, bits = struct.unpack("<HHH" if is_little else ">HHH", told)
        entries = entries or _MOST_ENTRIES
        if bits not in (8, 16):
            raise _bad_palette(descriptor, f"{bits} bits", "8 or 16")
        present = len(values.get(plain, (None, b""))[1])
        if segmented in values and not present:
            _judge_segments(segmented, values[segmented][1], bits, is_little, palette_bytes)
        elif not entries * bits // 8 <= present <= palette_bytes:
            raise _bad_palette(plain, f"{present} bytes", f"{entries * bits // 8} to {palette_bytes}")


def _judge_segments(tag: int, stored: bytes, bits: int, is_little: bool, palette_bytes: int) -> None:
    """The entries that a segmented palette expands to (PS3.3 C.7.9.2), counted without expanding it.

    Indirect segments are counted as the longest that they could repeat.
    """
    if len(stored) > palette_bytes:
        raise _bad_palette(tag, f"{len(stored)} bytes", f"at most {palette_bytes}")
    width = bits // 8
    words = struct.unpack(
        ("<" if is_little else ">") + "BH"[width - 1] * (len(stored) // width), stored[: len(stored) // width * width]
    )
    total, longest, at = 0, 0, 0
    while at + 1 < len(words) and total <= _MOST_ENTRIES:
        code, length = words[at], words[at + 1]
        if code == 2:
            total, at = total + length * longest, at + 2 + 4 // width
        elif code in (0, 1):
            total, longest = total + length, max(longest, length)
            at += 2 + (length if code == 0 else 1)
        else:
            raise _bad_palette(tag, f"segment type {code}", "0, 1 or 2")
    if total > _MOST_ENTRIES:
        raise _bad_palette(tag, f"segments of {total} entries or more", f"at most {_MOST_ENTRIES}")


def _bad_palette(tag: int, found: str, allowed: str) -> Refused:
    return Refused(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): found {found}; allowed are {allowed}", Reason.BAD_PALETTE)


def _short(stored: tuple[bytes | None, bytes] | None, is_little: bool) -> int | None:
    """A US value; None when it is absent or not two bytes."""
    if stored is None or len(stored[1]) != 2:
        return None
    return int.from_bytes(stored[1], "little" if is_little else "big")


def _whole(stored: tuple[bytes | None, bytes] | None) -> int:
    """An IS value; 1 when it is absent or no number."""
    text = stored[1].strip(b" \0").decode("latin-1") if stored else ""
    return int(text) if fullmatch(r"[+-]?[0-9]{1,12}", text) else 1


def _text(stored: tuple[bytes | None, bytes] | None) -> str:
    return stored[1].strip(b" \0").decode("latin-1") if stored else ""
