"""Volumes of Philips whose stored values were scaled by several slopes → values that can be compared.

Floating point value = (stored value × RescaleSlope + RescaleIntercept) / (RescaleSlope × scale slope), with the scale
slope (2005,xx0E) of Philips MR Imaging DD 001 (Chenevert et al., Transl Oncol 2014).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imaging.dicom.headers.elements import scale_slope
from imaging.dicom.headers.planes import Plane
from imaging.dicom.pixels.volume import Stack
from imaging.errors import InputError, Reason
from imaging.image import Image


def read_floating(stack: Stack) -> Image:
    """The volume (1, slice, row, column) in the maker's floating point values, float32.

    Raises InputError (GEOMETRY) for a slice without a scale slope, and what `Stack.read` raises.
    """
    image = stack.read()
    divisors = np.array([_divisor(plane) for plane in stack.planes], np.float32)[None, :, None, None]
    values = image.array.astype(np.float32) / divisors
    note = "Values were stored with several slopes; they are read as the maker's floating point values"
    return replace(image, array=values, notes=(*image.notes, note))


def _divisor(plane: Plane) -> float:
    header = plane.frames.header
    items = header.get("PerFrameFunctionalGroupsSequence")
    scale = (scale_slope(items[plane.number]) if items else None) or scale_slope(header)
    if scale is None:
        raise InputError(
            f"{plane.frames.name}: no scale slope (2005,xx0E), which other slices have; allowed is one in each",
            Reason.GEOMETRY,
        )
    return scale * plane.slope
