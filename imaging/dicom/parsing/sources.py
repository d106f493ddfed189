"""Where the bytes of a header come from: a file as it is, or the inflated rest of one. Standard library only."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from imaging.dicom.parsing.limits import Limits
from imaging.errors import Reason

_WINDOW_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 1 << 20


class Refused(Exception):  # noqa: N818 - it is a verdict, not a failure
    """The header breaks a limit. The message names the element, never a value."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class Source(Protocol):
    """Bytes by position; `end` is how many there are. A read beyond the end is short."""

    end: int

    def read(self, position: int, count: int) -> bytes: ...

    def window(self, position: int) -> tuple[bytes, int]:
        """Some bytes from `position` on, at least 12 where there are as many: a longer piece and where it begins."""
        ...


class Plain:
    """An open file; `first` is its beginning, already read."""

    def __init__(self, descriptor: int, end: int, first: bytes) -> None:
        self.end = end
        self._descriptor = descriptor
        self._first = first

    def read(self, position: int, count: int) -> bytes:
        if position + count <= len(self._first):
            return self._first[position : position + count]
        return os.pread(self._descriptor, count, position)

    def window(self, position: int) -> tuple[bytes, int]:
        if position + 12 <= len(self._first):
            return self._first, 0
        return self.read(position, _WINDOW_BYTES), position


class Inflated:
    """The inflated rest of a file (Deflated Explicit VR, PS3.5 A.5), held one piece at a time.

    It is inflated once to be measured, then again as far as it is read. Raises Refused beyond the limits.
    """

    def __init__(self, descriptor: int, start: int, limits: Limits) -> None:
        self._descriptor = descriptor
        self._start = start
        present = max(1, os.fstat(descriptor).st_size - start)
        allowed = min(limits.inflated_bytes, max(limits.inflated_free_bytes, int(present * limits.inflated_ratio)))
        self.end = 0
        for piece in self._pieces():
            self.end += len(piece)
            if self.end > allowed:
                raise Refused(
                    f"{present} deflated bytes inflate to more than {allowed}",
                    Reason.INFLATES_TOO_MUCH,
                )
        self._rewind()

    def read(self, position: int, count: int) -> bytes:
        if position < self._at:
            self._rewind()
        parts = []
        while count > 0:
            skip = position - self._at
            part = self._piece[skip : skip + count] if skip < len(self._piece) else b""
            parts.append(part)
            position, count = position + len(part), count - len(part)
            if count and not self._advance():
                break
        return b"".join(parts)

    def window(self, position: int) -> tuple[bytes, int]:
        return self.read(position, _WINDOW_BYTES), position

    def _rewind(self) -> None:
        self._at, self._piece, self._rest = 0, b"", self._pieces()

    def _advance(self) -> bool:
        self._at += len(self._piece)
        self._piece = next(self._rest, b"")
        return bool(self._piece)

    def _pieces(self) -> Iterator[bytes]:
        inflater, position = zlib.decompressobj(-zlib.MAX_WBITS), self._start
        try:
            while not inflater.eof:
                deflated = os.pread(self._descriptor, _WINDOW_BYTES, position)
                if not deflated:
                    raise Refused("the deflated data ends early", Reason.TRUNCATED_HEADER)
                position += len(deflated)
                while deflated and not inflater.eof:
                    if piece := inflater.decompress(deflated, _PIECE_BYTES):
                        yield piece
                    deflated = inflater.unconsumed_tail
        except zlib.error as error:
            raise Refused("the deflated data is damaged", Reason.UNREADABLE_HEADER) from error
