"""The Siemens CSA image header: named values in a private element that is no DICOM inside."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pydicom import Dataset

from imaging.dicom.headers.elements import private_value


def csa_values(header: Dataset, name: str) -> list[str]:
    """The values of one tag of the Siemens CSA image header (0029,xx10), version 2; empty when absent or broken."""
    stored = private_value(header, "SIEMENS CSA HEADER", 0x0029, 0x10)
    if not isinstance(stored, bytes) or stored[:4] != b"SV10":
        return []
    try:
        return next((values for tag, values in _tags(stored) if tag == name), [])
    except struct.error:
        return []


def _tags(stored: bytes) -> Iterator[tuple[str, list[str]]]:
    """Each tag and its values. After 16 bytes: name (64), multiplicity, VR, type, items, mark; then the items.

    An item has four numbers, of which the second is its length, and its text, padded to four bytes. Raises
    struct.error where the bytes end too early.
    """
    (count,), position = struct.unpack_from("<I", stored, 8), 16
    for _ in range(count):
        name, items = struct.unpack_from("<64s12xi4x", stored, position)
        position += 84
        values = []
        for _ in range(items):
            length = struct.unpack_from("<4xI8x", stored, position)[0]
            values.append(_until_zero(stored[position + 16 : position + 16 + length]))
            position += 16 + length + -length % 4
        yield _until_zero(name), [value for value in values if value]


def _until_zero(stored: bytes) -> str:
    return stored.split(b"\0")[0].decode("latin-1").strip()
