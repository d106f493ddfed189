"""Whether two files are one object: the same bytes, or the same header and the same picture in another encoding.

An archive that compresses without loss keeps the SOP Instance UID (PS3.3 C.7.6.1), and the file meta header is no part
of the object (PS3.10 7.1).
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Final

import numpy as np

# What an encoding changes: character set, photometric interpretation, planar configuration, lossy compression, offset
# tables, pixel data and its padding.
_OF_ENCODING: Final = frozenset((0x00080005, 0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00010, 0xFFFCFFFC))


def are_copies(paths: list[str]) -> bool:
    """Whether all files hold one object; one that cannot be read counts as another. Decodes, so it is for workers."""
    try:
        if len({_digest(Path(path)) for path in paths}) == 1:
            return True
        return all(_are_alike(Path(paths[0]), Path(path)) for path in paths[1:])
    except Exception:  # noqa: BLE001 - headers and codecs raise nearly anything; what is not proven equal is not equal
        return False


def are_one_picture(paths: list[str]) -> bool:
    """Whether two objects have the same pixels, worth the same; one that cannot be read has others. For workers."""
    from imaging.dicom.headers.elements import scale_slope  # as in _are_alike
    from imaging.dicom.pixels.frames import Frames

    try:
        one, other = (Frames(Path(path), path, disposable=True) for path in paths)
        values = ("RescaleSlope", "RescaleIntercept", "PixelRepresentation", "BitsStored")
        return (
            all(one.header.get(keyword) == other.header.get(keyword) for keyword in values)
            and scale_slope(one.header) == scale_slope(other.header)
            and np.array_equal(one.read(0).array, other.read(0).array)
        )
    except Exception:  # noqa: BLE001 - as in are_copies
        return False


def _are_alike(first: Path, second: Path) -> bool:
    from imaging.dicom.pixels.frames import Frames  # pydicom: workers that never compare start twice as fast without

    one, other = (Frames(path, path.name, disposable=True) for path in (first, second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes what it finds odd
        tags = {tag for frames in (one, other) for tag in tuple(frames.header.keys()) if not tag.is_private}
        for tag in tags - _OF_ENCODING:
            if tag.element and (tag not in one.header or tag not in other.header):
                return False
            if tag.element and one.header[tag].value != other.header[tag].value:
                return False
    return one.count == other.count and all(
        one.read(number).colour == other.read(number).colour
        and np.array_equal(one.read(number).array, other.read(number).array)
        for number in range(one.count)
    )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
