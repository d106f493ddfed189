"""Damage that is done to real files: deterministic from a seed, aimed at what a DICOM parser trusts."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom.data import get_testdata_files

from imaging.dicom.parsing.firewall import inspect
from imaging.errors import ImagingError

# Larger files cost time and hold no other structure.
LARGEST_BYTES = 1 << 20
_STUDY = 0x0020000D
REAL_VRS = (
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
VRS = [*REAL_VRS, b"ZZ", b"\0\0"]
CHARSETS = (b"ISO_IR 13", b"ISO 2022 IR 87", b"GB18030", b"ISO_IR 999", b"\\ISO 2022 IR 149", b"ISO_IR 192", b"\x1b$B")
LENGTHS = (0, 1, 2, 3, 7, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
TAGS = (
    (0xFFFE, 0xE000),
    (0xFFFE, 0xE00D),
    (0xFFFE, 0xE0DD),
    (0x7FE0, 0x0010),
    (0x7FE0, 0x0008),
    (0x0028, 0x0010),
    (0x0028, 0x0008),
    (0x0028, 0x1101),
    (0x0018, 0x6011),
    (0x0008, 0x0005),
    (0x0002, 0x0010),
    (0x0020, 0x000D),
)
Mutation = Callable[[bytearray, random.Random, list[int]], None]


@dataclass(frozen=True)
class Source:
    """A real file. `kind` is what makes it unlike others: SOP class, transfer syntax and where it comes from."""

    path: Path
    kind: tuple[str, str, str]
    study: bytes


def corpus(shared: Path | None) -> list[Source]:
    """Every real file small enough, of pydicom's own tests and of the shared data, that the firewall takes as DICOM."""
    paths = {Path(p) for p in get_testdata_files()}
    if shared is not None:
        paths |= set(shared.rglob("*"))
    sources = []
    for path in sorted(paths):
        if path.is_file() and path.stat().st_size <= LARGEST_BYTES:
            with suppress(ImagingError):
                header = inspect(path, wanted=frozenset((_STUDY,)))
                kind = (header.media_class_uid, header.transfer_syntax_uid, path.parent.name)
                study = header.values.get(_STUDY, (None, path.name.encode()))[1]
                sources.append(Source(path, kind, study))
    return sources


def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """(what was done, the damaged file): one to four mutations, most of them in the header."""
    damaged = bytearray(data)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name = rng.choice(list(MUTATIONS))
        MUTATIONS[name](damaged, rng, _element_heads(damaged))
        names.append(name)
    return names[0], bytes(damaged)


def _element_heads(data: bytearray) -> list[int]:
    """Where explicit elements seem to begin in the first 64 kB: a pair of capitals that is a VR, four bytes on."""
    known = set(REAL_VRS)
    return [at for at in range(132, min(len(data) - 12, 65536), 2) if bytes(data[at + 4 : at + 6]) in known]


def _place(data: bytearray, rng: random.Random) -> int:
    """More often in the header, where parsers are, than in the pixel data, where decoders are."""
    return rng.randrange(min(len(data), 4096) if rng.random() < 0.6 else len(data)) if data else 0


def _head(data: bytearray, rng: random.Random, heads: list[int]) -> int:
    return rng.choice(heads) if heads else min(_place(data, rng), max(0, len(data) - 12))


def flip_bits(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    for _ in range(rng.choice((1, 4, 32))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    del data[_place(data, rng) :]


def cut_out(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 8, 100, 1000))]


def repeat_piece(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice((2, 8, 100, 1000))] * rng.choice((1, 2, 20))


def edit_length(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    at = _head(data, rng, heads)
    length = rng.choice(LENGTHS)
    if rng.random() < 0.5:
        data[at + 6 : at + 8] = struct.pack("<H", length & 0xFFFF)
    else:
        data[at + 8 : at + 12] = struct.pack("<I", length)


def swap_tag(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    at = _head(data, rng, heads)
    data[at : at + 4] = struct.pack("<HH", *rng.choice(TAGS))


def exchange_tags(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    one, other = _head(data, rng, heads), _head(data, rng, heads)
    data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]


def swap_vr(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    at = _head(data, rng, heads)
    data[at + 4 : at + 6] = rng.choice(VRS)


def nest(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    """Sequences put before an element: shallow, deep, closed or not."""
    at, depth = _head(data, rng, heads), rng.choice((1, 5, 40, 400, 3000))
    enter = struct.pack("<HH2sHIHHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    leave = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    data[at:at] = enter * depth + (leave * depth if rng.random() < 0.5 else b"")


def name_charset(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    """Another character set, or escape sequences and odd bytes in a text."""
    found = [at for at in heads if bytes(data[at : at + 4]) == b"\x08\0\x05\0"]
    text = rng.choice(CHARSETS)
    if found:
        at = found[0]
        old = int.from_bytes(data[at + 6 : at + 8], "little")
        text += b" " * (len(text) % 2)
        data[at + 6 : at + 8 + old] = struct.pack("<H", len(text)) + text
    elif data:
        at = _place(data, rng)
        data[at : at + len(text)] = text


def set_number(data: bytearray, rng: random.Random, heads: list[int]) -> None:
    """A number of the image module set to an extreme."""
    numbers = [at for at in heads if data[at : at + 2] == b"\x28\0" and data[at + 4 : at + 6] == b"US"]
    if numbers:
        at = rng.choice(numbers)
        data[at + 8 : at + 10] = struct.pack("<H", rng.choice((0, 1, 7, 12, 0x7FFF, 0xFFFF)))
    else:
        flip_bits(data, rng, heads)


MUTATIONS: dict[str, Mutation] = {
    "bit flips": flip_bits,
    "truncation": truncate,
    "bytes cut out": cut_out,
    "bytes repeated": repeat_piece,
    "length edit": edit_length,
    "tag swap": swap_tag,
    "tags exchanged": exchange_tags,
    "VR swap": swap_vr,
    "nesting": nest,
    "character set": name_charset,
    "image numbers": set_number,
}
