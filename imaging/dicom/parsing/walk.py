"""One pass over the tags and lengths of a DICOM header: no recursion, no objects, nothing read that is stepped over.

The walk follows PS3.5 chapter 7 as leniently as pydicom does, so that both see the same elements: an element whose VR
is no pair of capitals is read as implicit VR, a sequence item inside explicit VR may be implicit, UN of undefined
length holds implicit VR little endian. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Set
from typing import Final, NamedTuple

from imaging.dicom.parsing.common_elements import Trace, known_runs
from imaging.dicom.parsing.limits import Limits
from imaging.dicom.parsing.sources import Refused, Source
from imaging.errors import Reason

# Tag → (VR or None where the file is implicit, raw bytes). The last of repeated elements stands.
Values = dict[int, tuple[bytes | None, bytes]]

_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_NONE: Final[frozenset[bytes]] = frozenset()
LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_EXPLICIT: Final = {True: struct.Struct("<HH2sH"), False: struct.Struct(">HH2sH")}
_IMPLICIT: Final = {True: struct.Struct("<HHI"), False: struct.Struct(">HHI")}
_LENGTH: Final = {True: struct.Struct("<I"), False: struct.Struct(">I")}


class Pixels(NamedTuple):
    """Where the walk stopped: the pixel data element, its length (None: undefined), the bytes that follow its head."""

    tag: int
    length: int | None
    present: int


class _Frame(NamedTuple):
    """What to return to when a sequence or an item ends; `end` is None where a delimiter ends it."""

    is_item: bool
    end: int | None
    bound: int
    is_explicit: bool
    is_little: bool
    sink: Values | None
    siblings: list[Values] | None = None


# data, where it begins, place in it, last place for a head, the short VRs, where values are kept
_Mode = tuple[bytes, int, int, int, frozenset[bytes], Values | None]


class Walk:
    """A header walked from `start` to its pixel data or its end. `values` and `items` fill on the way.

    `wanted` values are kept, of the top level and of the items of the top-level sequences in `opened`. A limit that is
    broken, or a length that reaches beyond the end, raises Refused; what was found before stands.
    """

    def __init__(self, source: Source, limits: Limits, wanted: Set[int], opened: Set[int]) -> None:
        self.values: Values = {}
        self.items: dict[int, list[Values]] = {}
        self.is_explicit = True
        self.is_little = True
        self._source = source
        self._limits = limits
        self._wanted = wanted
        self._opened = opened
        self._sink: Values | None = self.values
        self._stack: list[_Frame] = []
        self._bound = source.end
        self._data = b""
        self._base = 0
        self._depth = 0
        self._pixels: Pixels | None = None
        self._trace: Trace | None = None

    def run(self, start: int, is_explicit: bool, is_little: bool) -> Pixels | None:
        """Where the pixel data is; None when the header ends without any."""
        self.is_explicit, self.is_little = is_explicit, is_little
        runs, stack, wanted = known_runs(self._wanted, self._opened, self._limits, is_little), self._stack, self._wanted
        unpack, left = _EXPLICIT[is_little].unpack_from, self._limits.elements
        data, base, at, last, short, sink = self._resume(start)
        while left > 0:
            if at > last:
                if (position := self._advance(base + at)) is None:
                    return None
                data, base, at, last, short, sink = self._resume(position)
                continue
            if not stack:
                self._trace = runs.learn(self._trace, data, at)
                if run := runs.match(data, at, last + 8):
                    self.values.update(run.values_of(data, at))
                    left -= len(run.heads)
                    at += run.size
                    self._trace = None
                    continue
            left -= 1
            group, number, vr, length = unpack(data, at)
            if vr in short and group < 0x7FE0:
                if self._trace:
                    self._trace.heads.append((at, 8))
                at += 8
                if (tag := group << 16 | number) in wanted and sink is not None:
                    self._keep(tag, vr, base + at, length)
                at += length
            else:
                position = self._special(base + at, at)
                if self._pixels:
                    return self._pixels
                data, base, at, last, short, sink = self._resume(position)
        raise Refused(f"more than {self._limits.elements} elements", Reason.TOO_MANY_ELEMENTS)

    def _advance(self, position: int) -> int | None:
        """Where to go on when there is no head at `position`: the window, an item, a sequence or the header ends."""
        if position <= self._bound - 8:
            return position
        if position > self._source.end:
            raise _truncated()
        return self._leave(position) if self._stack else None

    def _keep(self, tag: int, vr: bytes | None, position: int, length: int) -> None:
        value = self._bytes(position, length)
        if len(value) != length:
            raise _truncated()
        assert self._sink is not None
        self._sink[tag] = (vr, value)
        if self._trace and not self._stack:
            self._trace.kept.append((tag, vr, position - self._base, length))

    def _resume(self, position: int) -> _Mode:
        """How to read on at `position`: the loop's local names, until a sequence, an item or the window ends."""
        at = position - self._base
        if not 0 <= at <= len(self._data) - 12 and position <= self._bound - 8:
            self._data, self._base = self._source.window(position)
            self._trace = None
            at = position - self._base
            if len(self._data) - at < 8:
                raise Refused("the file became shorter while it was read", Reason.TRUNCATED_HEADER)
        last = self._bound - 8 - self._base
        if self._base + len(self._data) < self._source.end:
            last = min(last, len(self._data) - 12)
        return self._data, self._base, at, last, _SHORT if self.is_explicit else _NONE, self._sink

    def _special(self, position: int, at: int) -> int:
        """Any element that is not a short explicit one: where to go on."""
        tag, vr, length, value = self._head(position, at)
        if self._trace:
            # What is not plainly explicit is judged by more than its head.
            is_plain = tag >> 16 == 0xFFFE or vr not in (None, b"UN")
            self._trace.heads.append((at, value - position))
            self._trace = self._trace if is_plain else None
        if tag >> 16 == 0xFFFE:
            return self._delimiter(tag, length, value)
        if tag in _PIXELS and not self._stack:
            present = self._source.end - value
            self._pixels = Pixels(tag, None if length == _UNDEFINED else length, present)
            return value
        if length == _UNDEFINED:
            if vr in (None, b"SQ", b"UN") or (self._starts_item(value) and vr not in (b"OB", b"OW")):
                return self._enter(tag, vr, None, value)
            return self._skip_fragments(tag, value)
        if value + length > self._source.end:
            raise _truncated()
        if length and (vr == b"SQ" or (vr in (None, b"UN") and self._starts_item(value))):
            return self._enter(tag, vr, value + length, value)
        if length > self._limits.element_bytes:
            raise Refused(
                f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) has {length} bytes; the limit "
                f"is {self._limits.element_bytes}",
                Reason.ELEMENT_TOO_LONG,
            )
        if tag in self._wanted and self._sink is not None:
            self._keep(tag, vr, value, length)
        return value + length

    def _head(self, position: int, at: int) -> tuple[int, bytes | None, int, int]:
        """(tag, VR, length, position of the value) of the element at `position`."""
        group, number, vr, length = _EXPLICIT[self.is_little].unpack_from(self._data, at)
        tag = group << 16 | number
        if not self.is_explicit or group == 0xFFFE or not b"AA" <= vr <= b"ZZ":
            return tag, None, _IMPLICIT[self.is_little].unpack_from(self._data, at)[2], position + 8
        if vr not in LONG:
            return tag, vr, length, position + 8
        if at + 12 > len(self._data):
            raise _truncated()
        return tag, vr, _LENGTH[self.is_little].unpack_from(self._data, at + 8)[0], position + 12

    def _delimiter(self, tag: int, length: int, value: int) -> int:
        if tag == _ITEM:
            if not self._stack or self._stack[-1].is_item:
                raise Refused("a sequence item (FFFE,E000) outside of a sequence", Reason.UNREADABLE_HEADER)
            end = None if length == _UNDEFINED else value + length
            if end is not None and end > self._source.end:
                raise _truncated()
            siblings = self._stack[-1].siblings
            self._push(is_item=True, end=end, siblings=None)
            if siblings is not None:
                self._sink = {}
                siblings.append(self._sink)
            # An item inside explicit VR may be implicit (seen from several writers), never the other way round.
            vr = self._bytes(value, 8)[4:6]
            self.is_explicit = self.is_explicit and (len(vr) < 2 or vr.isalpha())
            self._trace = self._trace if self.is_explicit else None
            return value
        wants_item = tag == _ITEM_END
        while self._stack and self._stack[-1].end is not None and self._stack[-1].is_item is not wants_item:
            self._pop()
        if self._stack and self._stack[-1].is_item is wants_item:
            self._pop()
        return value

    def _enter(self, tag: int, vr: bytes | None, end: int | None, value: int) -> int:
        """Into a sequence."""
        if self._depth >= self._limits.depth:
            raise Refused(
                f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) is sequence number {self._depth + 1} inside another; "
                f"allowed are {self._limits.depth}",
                Reason.NESTED_TOO_DEEPLY,
            )
        siblings: list[Values] | None = None
        if tag in self._opened and not self._stack:
            siblings = self.items[tag] = []
            self._trace = None
        self._push(is_item=False, end=end, siblings=siblings)
        if vr == b"UN":  # PS3.5 6.2.2: UN of undefined length is implicit VR little endian.
            self.is_explicit = False
        self._sink = None
        return value

    def _push(self, *, is_item: bool, end: int | None, siblings: list[Values] | None) -> None:
        frame = _Frame(is_item, end, self._bound, self.is_explicit, self.is_little, self._sink, siblings)
        self._stack.append(frame)
        self._depth += not is_item
        if end is not None:
            self._bound = min(self._bound, end)

    def _pop(self) -> _Frame:
        frame = self._stack.pop()
        self._bound, self.is_explicit, self.is_little = frame.bound, frame.is_explicit, frame.is_little
        self._sink = frame.sink
        self._depth -= not frame.is_item
        return frame

    def _leave(self, position: int) -> int:
        """Out of the innermost sequence or item of defined length; one that waits for a delimiter ends with it."""
        while self._stack:
            frame = self._pop()
            if frame.end is not None:
                return max(position, frame.end) if frame.is_item else frame.end
        raise Refused("the file ends inside a sequence", Reason.TRUNCATED_HEADER)

    def _skip_fragments(self, tag: int, value: int) -> int:
        """Past the fragments of an encapsulated value (an icon's pixel data) to its delimiter."""
        self._trace = None
        head = _IMPLICIT[self.is_little]
        while len(raw := self._bytes(value, 8)) == 8:
            group, number, length = head.unpack(raw)
            if (group, number) == (0xFFFE, 0xE0DD):
                return value + 8
            if (group, number) != (0xFFFE, 0xE000) or length == _UNDEFINED:
                raise Refused(
                    f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) of undefined length does not consist of items",
                    Reason.UNREADABLE_HEADER,
                )
            value += 8 + length
        raise _truncated()

    def _starts_item(self, value: int) -> bool:
        return self._bytes(value, 4) == (b"\xfe\xff\x00\xe0" if self.is_little else b"\xff\xfe\xe0\x00")

    def _bytes(self, position: int, count: int) -> bytes:
        at = position - self._base
        if at >= 0 and at + count <= len(self._data):
            return self._data[at : at + count]
        return self._source.read(position, count)


def _truncated() -> Refused:
    return Refused("the file ends inside an element before its pixel data", Reason.TRUNCATED_HEADER)
