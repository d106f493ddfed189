"""Where the fragments of each compressed frame lie in a file (encapsulated pixel data, PS3.5 A.4).

Offsets come from the extended or the basic offset table, and only the fragments of the frame asked for are looked at.
Where there is no table, or it points beside the fragments, all fragment headers are walked once and remembered.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

from imaging.errors import InputError, Reason

_ITEM: Final = (0xFFFE, 0xE000)
_UNDEFINED: Final = 0xFFFFFFFF
_MOST_FRAGMENTS: Final = 1 << 18
# SOI of JPEG and JPEG-LS, SOC of JPEG 2000, each with the first byte of the marker that must follow.
_FRAME_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff")

Span = tuple[int, int]


class Fragments:
    """The fragments of `count` frames in pixel data whose first item is at byte `start` of the file.

    `extended` is the Extended Offset Table (7FE0,0001) when the header has one. `name` is for errors.
    """

    def __init__(self, start: int, count: int, extended: bytes | None, name: str) -> None:
        self._start = start
        self._count = count
        self._extended = extended
        self._name = name
        self._offsets: list[int] | None = None
        self._walked: list[list[Span]] | None = None

    def read(self, stream: BinaryIO, number: int) -> bytes:
        """The bytes of frame `number` (from 0), its fragments joined. Raises InputError when any is missing."""
        spans = self._by_table(stream, number)
        if spans is None:
            if self._walked is None:
                self._walked = self._by_walking(stream)
            spans = self._walked[number] if number < len(self._walked) else []
        parts = []
        for start, length in spans:
            stream.seek(start)
            parts.append(stream.read(length))
        # A stream begins once in a frame, and a frame of RLE is one fragment (PS3.5 A.4.2).
        if any(part[:3] in _FRAME_STARTS or part[:8] == parts[0][:8] for part in parts[1:]):
            raise InputError(
                f"{self._name}: frame {number + 1} of {self._count} holds several pictures; allowed is one",
                Reason.PIXEL_DATA_TOO_LONG,
            )
        if not spans or sum(map(len, parts)) < sum(length for _, length in spans):
            raise InputError(
                f"{self._name}: frame {number + 1} of {self._count} is cut off or missing", Reason.PIXEL_DATA_TOO_SHORT
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _by_table(self, stream: BinaryIO, number: int) -> list[Span] | None:
        """The fragments of a frame by offset table; None when there is no table or it points beside them."""
        if self._offsets is None:
            self._offsets = self._read_offsets(stream)
        if len(self._offsets) != self._count:
            return None
        first = self._first(stream)
        position = first + self._offsets[number]
        end = first + self._offsets[number + 1] if number + 1 < self._count else None
        spans: list[Span] = []
        while (end is None or position < end) and len(spans) <= _MOST_FRAGMENTS:
            length = _item(stream, position)
            if length is None:
                break
            spans.append((position + 8, length))
            position += 8 + length
        return spans if spans and end in (None, position) else None

    def _read_offsets(self, stream: BinaryIO) -> list[int]:
        """The extended table, else the basic one in the first item; empty without either."""
        if self._extended and len(self._extended) == 8 * self._count:
            return list(struct.unpack(f"<{self._count}Q", self._extended))
        length = _item(stream, self._start)
        if length is None or length != 4 * self._count:
            return []
        stream.seek(self._start + 8)
        table = stream.read(length)
        return list(struct.unpack(f"<{self._count}I", table)) if len(table) == length else []

    def _first(self, stream: BinaryIO) -> int:
        """Where the first fragment's item starts: behind the item of the basic offset table, which may be empty."""
        length = _item(stream, self._start)
        if length is None:
            raise InputError(f"{self._name}: Pixel Data (7FE0,0010) does not start with an item", Reason.DECODE_FAILED)
        return self._start + 8 + length

    def _by_walking(self, stream: BinaryIO) -> list[list[Span]]:
        """Fragments per frame without a table: one each, or all for one frame, or from start marker to start marker."""
        fragments: list[Span] = []
        position = self._first(stream)
        while (length := _item(stream, position)) is not None and len(fragments) <= _MOST_FRAGMENTS:
            fragments.append((position + 8, length))
            position += 8 + length
        if len(fragments) > _MOST_FRAGMENTS:
            raise InputError(f"{self._name}: more than {_MOST_FRAGMENTS} fragments", Reason.UNSUPPORTED_PIXELS)
        if self._count == 1:
            return [fragments] if fragments else []
        if len(fragments) <= self._count:
            return [[fragment] for fragment in fragments]
        frames: list[list[Span]] = []
        for start, length in fragments:
            stream.seek(start)
            if stream.read(3) in _FRAME_STARTS or not frames:
                frames.append([])
            frames[-1].append((start, length))
        if len(frames) != self._count:
            raise InputError(
                f"{self._name}: {len(fragments)} fragments start {len(frames)} frames; NumberOfFrames is {self._count}",
                Reason.DECODE_FAILED,
            )
        return frames


def _item(stream: BinaryIO, position: int) -> int | None:
    """The length of the item at `position`; None at the sequence delimiter, at the end, or where no item stands."""
    stream.seek(position)
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, element, length = struct.unpack("<HHI", head)
    return length if (group, element) == _ITEM and length != _UNDEFINED else None
