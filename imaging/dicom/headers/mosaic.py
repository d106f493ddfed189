"""What a Siemens mosaic header says of its tiles: how many slices they hold and in which direction those follow."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom import Dataset

from imaging.dicom.headers.csa import csa_values
from imaging.dicom.headers.elements import private_value, text
from imaging.dicom.pixels.frames import Frames
from imaging.errors import InputError, Reason
from imaging.image import Floats

# Patient directions in LPS.
_DIRECTIONS: Final = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


def slice_count(frames: Frames) -> tuple[int, tuple[str, ...]]:
    """How many slices a mosaic holds, and a note when no element says it."""
    stated = csa_values(frames.header, "NumberOfImagesInMosaic")
    count = stated[0] if stated else text(private_value(frames.header, "SIEMENS MR HEADER", 0x0019, 0x0A))
    if count == "":
        return _count_by_signal(frames)
    if not str(count).isdecimal() or not 1 <= int(count) <= frames.format.rows:
        raise InputError(
            f"{frames.name}: NumberOfImagesInMosaic is {count!r}; allowed are 1 to {frames.format.rows}",
            Reason.GEOMETRY,
        )
    return int(count), ()


def _count_by_signal(frames: Frames) -> tuple[int, tuple[str, ...]]:
    """The tiles up to the last one with a signal: scanners fill the unused ones with zeros.

    De-identification often removes what says the number. Then AcquisitionMatrix (0018,1310) gives the size of a tile
    in the frequency direction, which is not interpolated.
    """
    form, header = frames.format, frames.header
    along = form.rows if text(header.get("InPlanePhaseEncodingDirection")) == "ROW" else form.columns
    size = next((int(v) for v in header.get("AcquisitionMatrix") or [] if v), 0)
    side = along // size if size else 0
    if side < 2 or side * size != along or form.rows % side or form.columns % side:
        raise InputError(
            f"{frames.name}: ImageType says MOSAIC, NumberOfImagesInMosaic is absent and AcquisitionMatrix (0018,1310) "
            f"does not part {form.rows} × {form.columns} pixels into square numbers of tiles",
            Reason.GEOMETRY,
        )
    tiles = frames.read(0).array.reshape(side, form.rows // side, side, form.columns // side)
    count = int(np.flatnonzero(tiles.any(axis=(1, 3))).max(initial=-1)) + 1
    if count <= (side - 1) ** 2:
        raise InputError(
            f"{frames.name}: {count} tiles of a mosaic have signal; allowed are {(side - 1) ** 2 + 1} to {side**2}",
            Reason.GEOMETRY,
        )
    return count, (f"The header does not say how many slices the mosaic holds: {count} tiles have signal",)


def slice_sense(header: Dataset, cross: Floats, name: str) -> float:
    """+1 when the slices follow the cross product of row and column directions, −1 when they go against it.

    From SliceNormalVector of the CSA header, else from the last letter of the positive directions (0051,xx13).
    """
    stated = csa_values(header, "SliceNormalVector")
    letters = text(private_value(header, "SIEMENS MR HEADER", 0x0051, 0x13)).strip()
    along = float(cross @ [float(value) for value in stated]) if len(stated) == 3 else 0.0
    if not along and letters[-1:] in _DIRECTIONS:
        along = float(cross @ np.asarray(_DIRECTIONS[letters[-1]]))
    if not abs(along) > 0.5:
        raise InputError(
            f"{name}: neither SliceNormalVector of the CSA header nor (0051,xx13) says in which direction the slices "
            "of the mosaic follow",
            Reason.GEOMETRY,
        )
    return 1.0 if along > 0 else -1.0
