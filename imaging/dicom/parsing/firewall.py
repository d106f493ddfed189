"""bytes → may this be parsed? A file is judged by sizes, lengths and nesting before any parser builds an object.

`inspect` walks the tags and lengths of a header once, without recursion and without reading what it steps over, and
stops before the pixel data. On the way it keeps the raw values that the caller wants. Then the image is judged: what
rows, columns, frames, samples and bits claim against the bytes that are there. Standard library only.

A program in the preamble (MZ, ELF, Mach-O, #!) is refused: no device writes one. A TIFF there is legitimate (the
dual-personality files of PS3.10 7.1) and noted, as are PDF and ZIP, which no DICOM reader opens as such.

Messages name elements, never a file and never a value of text: both can be identity.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from re import DOTALL
from re import compile as pattern
from typing import Final

from imaging.dicom.parsing.consistency import CLAIMS, judge
from imaging.dicom.parsing.limits import LIMITS, Limits
from imaging.dicom.parsing.sources import Inflated, Plain, Refused
from imaging.dicom.parsing.walk import LONG, Pixels, Values, Walk
from imaging.dicom.places import closed_reason
from imaging.errors import InputError, Reason

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_SYNTAX_BY_ENCODING: Final = {
    (False, True): IMPLICIT_LITTLE,
    (True, True): EXPLICIT_LITTLE,
    (True, False): EXPLICIT_BIG,
    (False, False): "",
}
_FIRST_READ_BYTES: Final = 16 << 10
_LEAST_ELEMENT_BYTES: Final = 8
_PROGRAMS: Final = {
    b"MZ": "a Windows program",
    b"\x7fELF": "an ELF program",
    b"\xfe\xed\xfa\xce": "a Mach-O program",
    b"\xfe\xed\xfa\xcf": "a Mach-O program",
    b"\xce\xfa\xed\xfe": "a Mach-O program",
    b"\xcf\xfa\xed\xfe": "a Mach-O program",
    b"\xca\xfe\xba\xbe": "a Mach-O or Java program",
    b"#!": "a script",
}
# gzip, bzip2, xz, zstd, 7z, RAR; an empty or split ZIP has no first entry.
_ARCHIVES: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"PK\7\x08")
_NOT_PACKED: Final = (b"[Content_Types].xml", b"_rels/", b"mimetype", b"META-INF/")
# An element that holds a UID, of the meta header, the object, its study or its series, little endian.
_UID_ELEMENT: Final = pattern(
    rb"(?:\x02\0[\x02\x03\x10]|\x08\0[\x16\x18]|\x20\0[\x0d\x0e])\0(?:UI..|.\0\0\0)[0-2]\.\d", DOTALL
)
_NOTED: Final = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"%PDF": "PDF",
    b"PK\3\4": "ZIP",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What one walk over a header found. With a `refusal` it must not be parsed; what was found before still stands.
    With a `pixel_refusal` it may be parsed, and its pixel data must not be decoded.

    `transfer_syntax_uid` is as stated, or as recognised where the file states none (`is_syntax_stated`).
    `is_little` is the byte order of `values` (tag → VR or None, raw bytes) and `items` (sequence tag → its items).
    """

    transfer_syntax_uid: str
    is_syntax_stated: bool
    has_meta: bool
    media_class_uid: str
    is_little: bool
    values: Values
    items: dict[int, list[Values]]
    pixels: Pixels | None
    refusal: InputError | None
    pixel_refusal: InputError | None
    remarks: tuple[str, ...]


def inspect(
    path: Path | str, limits: Limits = LIMITS, wanted: Set[int] = frozenset(), opened: Set[int] = frozenset()
) -> Header:
    """The header of one file, judged. `wanted` values are kept, of the top level and of the items of `opened`.

    Raises InputError when the file is not opened or is not DICOM at all; anything later is a refusal of the header.
    """
    descriptor = _open(path)
    try:
        return _inspect(descriptor, limits, wanted, opened)
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", Reason.UNREADABLE_HEADER) from error
    finally:
        os.close(descriptor)


def admit(path: Path | str, limits: Limits = LIMITS) -> Header:
    """As `inspect`, and raises the `refusal`: what returns may be given to a parser."""
    header = inspect(path, limits)
    if header.refusal:
        raise header.refusal
    return header


def _open(path: Path | str) -> int:
    """A descriptor of a regular file. Links are not followed, and a pipe does not make the caller wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(Reason.SYMLINK.meaning, Reason.SYMLINK) from error
        if error.errno == errno.ENXIO:
            raise InputError(Reason.NOT_A_FILE.meaning, Reason.NOT_A_FILE) from error
        raise InputError(f"the file cannot be read ({error.strerror})", closed_reason(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(Reason.NOT_A_FILE.meaning, Reason.NOT_A_FILE)
    return descriptor


def _inspect(descriptor: int, limits: Limits, wanted: Set[int], opened: Set[int]) -> Header:
    size = os.fstat(descriptor).st_size
    first = os.pread(descriptor, _FIRST_READ_BYTES, 0)
    place = _first_element(first)
    meta, start = _read_meta(first, place)
    syntax = stated = _text(meta.get(0x00020010, b""))
    walk, is_little, pixels, refusal, pixel_refusal = None, True, None, None, None
    try:
        _judge_file(first, place, size, limits)
        if size - start < _LEAST_ELEMENT_BYTES:
            raise Refused("the file ends where its dataset should begin", Reason.TRUNCATED_HEADER)
        is_deflated = stated == DEFLATED
        source = Inflated(descriptor, start, limits) if is_deflated else Plain(descriptor, size, first)
        begin = 0 if is_deflated else start
        is_explicit, is_little = _encoding(stated, source.read(begin, 8))
        syntax = stated or _SYNTAX_BY_ENCODING[is_explicit, is_little]
        walk = Walk(source, limits, _with_claims(frozenset(wanted)), opened)
        pixels = walk.run(begin, is_explicit, is_little)
    except Refused as verdict:
        refusal = InputError(str(verdict), verdict.reason)
    else:
        pixel_refusal = _pixel_refusal(walk.values, is_little, syntax, pixels, limits)
    return Header(
        transfer_syntax_uid=syntax,
        is_syntax_stated=bool(stated),
        has_meta=bool(meta),
        media_class_uid=_text(meta.get(0x00020002, b"")),
        is_little=is_little,
        values=walk.values if walk else {},
        items=walk.items if walk else {},
        pixels=pixels,
        refusal=refusal,
        pixel_refusal=pixel_refusal,
        remarks=_remarks(first, place),
    )


@lru_cache(maxsize=16)
def _with_claims(wanted: frozenset[int]) -> frozenset[int]:
    return wanted | CLAIMS


def _pixel_refusal(
    values: Values, is_little: bool, syntax: str, pixels: Pixels | None, limits: Limits
) -> InputError | None:
    try:
        judge(values, is_little, syntax, pixels, limits)
    except Refused as verdict:
        return InputError(str(verdict), verdict.reason)
    return None


def _first_element(first: bytes) -> int:
    """Where the first element stands: after the DICM prefix, or at the first byte of a file without meta header.

    Without the prefix, a file is DICOM when it plainly begins as a dataset: group 0002 or 0008, an early element of
    it, and a VR or a short length. Raises InputError otherwise.
    """
    if first[128:132] == b"DICM":
        return 132
    if len(first) >= 12 and first[:6] == b"\2\0\0\0UL":
        return 0
    for is_little in (True, False):
        group, number, vr, _ = struct.unpack("<HH2sH" if is_little else ">HH2sH", first[:8].ljust(8, b"\xff"))
        length = int.from_bytes(first[4:8], "little")
        if group == 0x0008 and number <= 0x0018 and (vr in (b"UL", b"CS", b"DA", b"TM", b"UI", b"SH") or length <= 256):
            return 0
    if _is_archive(first):
        raise InputError(Reason.ARCHIVE.meaning, Reason.ARCHIVE)
    if not first.strip(b"\0"):
        raise InputError("the file is empty, or begins with nothing but zeros", Reason.EMPTY_FILE)
    if _UID_ELEMENT.search(first):
        raise InputError("elements of a DICOM header are there, and its beginning is not", Reason.UNREADABLE_HEADER)
    raise InputError("no DICM prefix at byte 128, and the first bytes are no element of group 0008", Reason.NOT_DICOM)


def _is_archive(first: bytes) -> bool:
    """Whether a file is packed. ZIP is also how office documents and programs of viewers are written, which their
    first entry tells."""
    if first.startswith(b"PK\3\4"):
        name = first[30 : 30 + int.from_bytes(first[26:28], "little")]
        return not name.startswith(_NOT_PACKED)
    if first.startswith(b"\x1f\x8b"):
        return not _is_compressed_volume(first)
    return first.startswith(_ARCHIVES) or first[257:262] == b"ustar"


def _is_compressed_volume(first: bytes) -> bool:
    """Whether a gzip file begins as a NIfTI volume: a label map or a research image beside the export."""
    try:
        header = zlib.decompressobj(31).decompress(first, 352)
    except zlib.error:
        return False
    return header[344:347] in (b"n+1", b"ni1") or header[4:7] in (b"n+2", b"ni2")


def _read_meta(first: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """The values of group 0002, always explicit little endian (PS3.10 7.1), and where the dataset begins.

    The group ends where another begins: its stated length is often wrong.
    """
    meta: dict[int, bytes] = {}
    while position + 8 <= len(first):
        group, number, vr, length = struct.unpack_from("<HH2sH", first, position)
        if group != 2:
            break
        value = position + 8
        if vr in LONG and position + 12 <= len(first):
            length, value = int.from_bytes(first[position + 8 : position + 12], "little"), position + 12
        elif not b"AA" <= vr <= b"ZZ":
            length = int.from_bytes(first[position + 4 : position + 8], "little")
        if value + length > len(first):
            break
        meta[group << 16 | number] = first[value : value + length]
        position = value + length
    return meta, position


def _judge_file(first: bytes, place: int, size: int, limits: Limits) -> None:
    if size > limits.file_bytes:
        raise Refused(f"the file has {size} bytes; allowed are {limits.file_bytes}", Reason.FILE_TOO_LARGE)
    if place:
        for magic, name in _PROGRAMS.items():
            if first.startswith(magic):
                raise Refused(f"the preamble begins like {name}; allowed are zeros or a TIFF", Reason.EXECUTABLE)


def _remarks(first: bytes, place: int) -> tuple[str, ...]:
    if not place:
        return ("the file has no preamble and was recognised by its first element",)
    return tuple(f"the preamble begins like a {name} file" for magic, name in _NOTED.items() if first.startswith(magic))


def _encoding(syntax: str, head: bytes) -> tuple[bool, bool]:
    """(explicit, little endian), by the transfer syntax; how the first element looks overrules its VR encoding."""
    is_explicit = len(head) < 6 or (0x40 < head[4] < 0x5B and 0x40 < head[5] < 0x5B)
    if syntax:
        return is_explicit, syntax != EXPLICIT_BIG
    # Group 0008 of big endian reads as 0800 (little endian).
    return is_explicit, not (is_explicit and int.from_bytes(head[:2], "little") >= 1024)


def _text(raw: bytes) -> str:
    return raw.strip(b" \0").decode("latin-1")
