"""What one compressed frame says of itself before it is decoded: its size, samples, precision and colour.

A header of a few bytes can announce an image of many gigabytes, and a decoder believes it. So the announced size is
read here, in plain Python, and must agree with Rows, Columns and SamplesPerPixel before any decoder sees the frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final, Literal

# ISO 10918-1 table B.1 and ISO 14495-1 annex C: start-of-frame markers by their second byte.
BASELINE: Final = frozenset({0xC0, 0xC1, 0xC2})
LOSSLESS: Final = frozenset({0xC3})
JPEG_LS: Final = frozenset({0xF7})
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}) | JPEG_LS
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN: Final = 0xDA
_HUFFMAN_TABLES: Final = 0xC4
_REMARKS: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
# EOI of JPEG and JPEG-LS and EOC of JPEG 2000 are the same two bytes.
_END: Final = b"\xff\xd9"
_BY_FRAME: Final = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC2: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.57",
    0xF7: "1.2.840.10008.1.2.4.80",
}
# Zeros after the end of a stream; fragments of even length need one (PS3.5 A.4), some systems write more, or FF.
_MOST_PADDING: Final = 64

_J2K_START: Final = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
# A decoder keeps some kilobytes for each tile, so many tiles of few pixels cost far more than the image.
_FREE_TILES: Final = 1024
_PIXELS_PER_TILE: Final = 1024
# Two bytes of RLE make at most 128 (PS3.5 G.3.1).
_RLE_GAIN: Final = 64


Colour = Literal["", "ycbcr", "rgb"]


@dataclass(frozen=True, slots=True)
class Announced:
    """What a codestream says: size in pixels, samples per pixel, bits per sample, and whether samples are signed.

    `colour` is what three samples are by the rules of the format, whatever the DICOM header calls them: YCbCr, or RGB
    (of JPEG 2000, once its decoder has undone the transform that it says it has); "" where the stream leaves it open.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    colour: Colour = ""


def read_jpeg(codestream: bytes, processes: frozenset[int]) -> Announced:
    """The frame header of a JPEG or JPEG-LS stream. Raises ValueError when it is not one of `processes`.

    All segments up to the start of the first scan must follow each other without a gap, with a Huffman table among
    them where one is needed, and the stream must have its end.
    """
    if codestream[:2] != b"\xff\xd8":
        raise ValueError(f"no SOI marker at its start, but {codestream[:2].hex()}")
    if not _has_end(codestream):
        raise ValueError(f"no EOI marker at its end, after {len(codestream)} bytes")
    announced, colour_marker, tables = None, None, False
    for marker, start, end in _jpeg_segments(codestream):
        body = codestream[start + 4 : end]
        if marker in _START_OF_FRAME:
            if marker not in processes:
                raise ValueError(f"process SOF{marker - 0xC0} is another one than the transfer syntax says")
            announced = _jpeg_frame(body, _jpeg_colour(body, colour_marker) if marker in BASELINE else "")
            tables = tables or marker in JPEG_LS
        elif marker == _HUFFMAN_TABLES:
            tables = True
        elif marker == 0xE0 and body[:5] == b"JFIF\0":
            colour_marker = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) > 11 and colour_marker is None:
            colour_marker = body[11] == 1
    if announced is None or not tables:
        raise ValueError("no frame header (SOF) or no Huffman table before the image data")
    return announced


def bare_jpeg(codestream: bytes) -> bytes:
    """The stream without application and comment segments, which say nothing that stored values depend on."""
    segments = list(_jpeg_segments(codestream))
    kept = [codestream[start:end] for marker, start, end in segments if marker not in _REMARKS]
    return b"".join((codestream[:2], *kept, codestream[segments[-1][2] if segments else 2 :]))


def _jpeg_segments(codestream: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and end of each segment before the first scan. Raises ValueError when there is no scan."""
    position = 2
    while position + 4 <= len(codestream) and codestream[position] == 0xFF:
        marker = codestream[position + 1]
        if marker == _START_OF_SCAN:
            return
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + int.from_bytes(codestream[position + 2 : position + 4])
        yield marker, position, end
        position = end
    raise ValueError("its segments do not lead to image data (SOS)")


def _jpeg_frame(body: bytes, colour: Colour) -> Announced:
    """The fields of a SOF segment. Raises ValueError when it is cut off."""
    if len(body) < 6:
        raise ValueError("its frame header (SOF) is cut off")
    precision, rows, columns, samples = struct.unpack(">BHHB", body[:6])
    return Announced(rows, columns, samples, precision, colour=colour if samples == 3 else "")


def _jpeg_colour(body: bytes, colour_marker: bool | None) -> Colour:
    """What three components of a lossy JPEG are, by their SOF segment and the markers before it.

    A JFIF marker means YCbCr and an Adobe marker says it. Without either, components named 1, 2, 3 are YCbCr, and for
    others the label of the DICOM header stands. Unequal sampling halves chrominance, so then there is some.
    """
    names, sampling = body[6::3][:3], body[7::3][:3]
    if colour_marker or (colour_marker is None and names == b"\1\2\3") or len(set(sampling)) > 1:
        return "ycbcr"
    return "rgb" if colour_marker is False or names == b"RGB" else ""


def _has_end(codestream: bytes) -> bool:
    """Whether a stream ends with its marker, but for padding.

    Decoders fill up what is missing of a stream, JPEG 2000 with any picture, and report nothing.
    """
    behind = codestream[-_MOST_PADDING:].rpartition(_END)
    return behind[1] == _END and not behind[2].strip(b"\0\xff")


def jpeg2000_stream(frame: bytes) -> bytes:
    """The codestream: the frame, or what the boxes of a JP2 file hold that somebody wrapped whole."""
    if frame[:4] == _J2K_START:
        return frame
    position = 0
    while frame[:12] == _JP2_SIGNATURE and position + 16 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, position)
        head = 16 if length == 1 else 8
        step = struct.unpack_from(">Q", frame, position + 8)[0] if length == 1 else length
        if kind == b"jp2c" and frame[position + head : position + head + 4] == _J2K_START:
            return frame[position + head : position + step if step else len(frame)]
        if step < 8:
            break
        position += step
    raise ValueError(f"no JPEG 2000 codestream (SOC and SIZ markers) in its {len(frame)} bytes")


def read_jpeg2000(frame: bytes) -> Announced:
    """The SIZ segment (ISO 15444-1 A.5.1). Raises ValueError for subsampled, mixed or absurdly tiled components, and
    for a stream without its end."""
    stream = jpeg2000_stream(frame)
    if len(stream) < 45:
        raise ValueError("its SIZ segment is cut off")
    if not _has_end(stream):
        raise ValueError(f"no EOC marker at its end, after {len(stream)} bytes")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples = struct.unpack_from(
        ">8IH", stream, 8
    )
    components = stream[42 : 42 + 3 * samples]
    if len(components) != 3 * samples or samples < 1 or right <= left or bottom <= top:
        raise ValueError("its SIZ segment is cut off or empty")
    if len({components[k : k + 3] for k in range(0, len(components), 3)}) != 1 or components[1:3] != b"\1\1":
        raise ValueError("its components differ in size, precision or sign")
    rows, columns = bottom - top, right - left
    if not tile_width or not tile_height:
        raise ValueError(f"its tiles are empty, {tile_width} × {tile_height}")
    tiles = ceil((right - tile_left) / tile_width) * ceil((bottom - tile_top) / tile_height)
    if tiles > _FREE_TILES and rows * columns < tiles * _PIXELS_PER_TILE:
        raise ValueError(f"{tiles} tiles for {rows} × {columns} pixels")
    colour: Colour = "rgb" if samples == 3 and _has_transform(stream) else ""
    return Announced(rows, columns, samples, (components[0] & 0x7F) + 1, bool(components[0] & 0x80), colour)


def _has_transform(stream: bytes) -> bool:
    """Whether the first COD segment says that a multiple component transform was used (ISO 15444-1 A.6.1)."""
    position = 2
    while position + 9 <= len(stream) and stream[position] == 0xFF and stream[position + 1] != 0x90:
        if stream[position + 1] == 0x52:
            return stream[position + 8] == 1
        position += 2 + int.from_bytes(stream[position + 2 : position + 4])
    return False


def recognise(beginning: bytes) -> str:
    """The transfer syntax that a frame has by its first bytes, as far as they tell; "" where they do not.

    Of several with one form of stream it is the one that promises least but what the stream shows.
    """
    if beginning[:4] == _J2K_START or beginning[:12] == _JP2_SIGNATURE:
        return "1.2.840.10008.1.2.4.90"
    if beginning[:3] == b"\xff\xd8\xff":
        try:
            found = (marker for marker, _, _ in _jpeg_segments(beginning) if marker in _START_OF_FRAME)
            return _BY_FRAME.get(next(found, 0), "")
        except ValueError:
            return ""
    if len(beginning) >= 64:
        count, first = struct.unpack_from("<II", beginning)
        if 1 <= count <= 15 and first == 64:
            return "1.2.840.10008.1.2.5"
    return ""


def rle_segments(frame: bytes, count: int, pixels: int) -> list[bytes]:
    """The segments of an RLE frame (PS3.5 G.5). Raises ValueError unless there are `count`, each able to hold `pixels`.

    `pixels` is rows × columns: one segment holds one byte of each.
    """
    if len(frame) < 64:
        raise ValueError(f"its RLE header is cut off after {len(frame)} of 64 bytes")
    found, *offsets = struct.unpack("<16I", frame[:64])
    if found != count:
        raise ValueError(f"{found} RLE segments; samples and bits need {count}")
    bounds = [*offsets[:count], len(frame)]
    if bounds[0] != 64 or any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(f"RLE segment offsets {bounds[:-1]} do not ascend from 64 inside {len(frame)} bytes")
    segments = [frame[low:high] for low, high in pairwise(bounds)]
    shortest = min(len(segment) for segment in segments)
    if shortest * _RLE_GAIN < pixels:
        raise ValueError(f"an RLE segment of {shortest} bytes cannot hold {pixels} pixels")
    return segments
