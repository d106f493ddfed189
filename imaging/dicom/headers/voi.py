"""Header → Presentation: modality LUT, VOI alternatives and what else decides how grey values are shown.

A damaged alternative is left out with a note, because the others stand for themselves; a damaged modality LUT is an
error, because then no value means anything.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any, Final

import numpy as np
from pydicom import Dataset

from imaging.dicom.headers.elements import scalar
from imaging.errors import InputError, Reason
from imaging.grayscale import Function, Grayscale, LookupTable, VoiWindow, entry_bits

_FUNCTIONS: Final[dict[str, Function]] = {
    "": "LINEAR",
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}
_SHAPES: Final[dict[str, Any]] = {"IDENTITY": "IDENTITY", "INVERSE": "INVERSE"}
_AGREEING: Final = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
_MOST_ENTRIES: Final = 1 << 16


def read_grayscale(header: Dataset, name: str) -> tuple[Grayscale, tuple[str, ...]]:
    """How a grey image is to be shown, and notes on what is odd about it. Raises InputError naming `name`."""
    photometric = str(header.get("PhotometricInterpretation", ""))
    if photometric not in _AGREEING:
        raise InputError(
            f"{name}: PhotometricInterpretation is '{photometric}'; allowed are MONOCHROME1 and MONOCHROME2",
            Reason.UNSUPPORTED_PIXELS,
        )
    notes: list[str] = []
    slope, intercept, modality = _modality(header, name)
    shape = _SHAPES.get(str(header.get("PresentationLUTShape", "")))
    if shape and shape != _AGREEING[photometric]:
        notes.append(f"PresentationLUTShape {shape} contradicts {photometric}; the photometric interpretation decides")
    grayscale = Grayscale(
        photometric=photometric,  # type: ignore[arg-type]  # one of _AGREEING
        slope=slope,
        intercept=intercept,
        modality_table=modality,
        windows=tuple(_windows(header, notes)),
        tables=tuple(_tables(header, notes)),
        lut_shape=shape,
        intent=str(header.get("PresentationIntentType", "") or ""),
        padding=_padding(header, name),
    )
    return grayscale, tuple(notes)


def _modality(header: Dataset, name: str) -> tuple[float, float, LookupTable | None]:
    """Slope, intercept and, where there is one, the Modality LUT (PS3.3 C.11.1), which excludes the other two."""
    items = header.get("ModalityLUTSequence") or []
    if items:
        try:
            return 1.0, 0.0, _table(items[0], header, "ModalityLUTType")
        except ValueError as error:
            raise InputError(f"{name}: ModalityLUTSequence (0028,3000): {error}", Reason.UNSUPPORTED_PIXELS) from error
    slope = scalar(header, "RescaleSlope", 1.0, name)
    if slope == 0:
        raise InputError(f"{name}: RescaleSlope is 0; allowed is any other number", Reason.UNSUPPORTED_PIXELS)
    return slope, scalar(header, "RescaleIntercept", 0.0, name), None


def _windows(header: Dataset, notes: list[str]) -> list[VoiWindow]:
    """Window Center and Width pairs, all of one VOI LUT Function (C.11.2.1.2)."""
    centres, widths = _several(header, "WindowCenter"), _several(header, "WindowWidth")
    explanations = [str(v) for v in _several(header, "WindowCenterWidthExplanation")]
    told = str(header.get("VOILUTFunction", "") or "")
    if not centres and not widths:
        return []
    if len(centres) != len(widths):
        notes.append(f"{len(centres)} WindowCenter for {len(widths)} WindowWidth: only pairs are used")
    if told not in _FUNCTIONS:
        notes.append("VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID: its windows are not used")
        return []
    function, found = _FUNCTIONS[told], []
    least = 1.0 if function == "LINEAR" else 0.0
    for number, (centre, width) in enumerate(zip(centres, widths, strict=False)):
        try:
            c, w = float(centre), float(width)
        except (TypeError, ValueError):
            c, w = float("nan"), float("nan")
        if not (isfinite(c) and isfinite(w)) or w <= 0 or w < least:
            notes.append(f"Window {number + 1} has no usable centre and width for {function} and is left out")
            continue
        found.append(VoiWindow(c, w, function, explanations[number] if number < len(explanations) else ""))
    return found


def _tables(header: Dataset, notes: list[str]) -> list[LookupTable]:
    found = []
    for number, item in enumerate(header.get("VOILUTSequence") or []):
        try:
            table = _table(item, header, "LUTExplanation")
            bits, said = entry_bits(table.entries, table.bits, f"VOI LUT {number + 1}")
            notes += said
            found.append(replace(table, bits=bits))
        except ValueError as error:
            notes.append(f"VOI LUT {number + 1} is left out: {error}")
    return found


def _table(item: Dataset, header: Dataset, label: str) -> LookupTable:
    """One LUT item (C.11.1.1.1): LUT Descriptor is entries (0 for 65536), first input, bits. Raises ValueError."""
    descriptor = [int(v) for v in _several(item, "LUTDescriptor")]
    if len(descriptor) != 3:
        raise ValueError(f"LUTDescriptor has {len(descriptor)} values; allowed are 3")
    count, first, bits = descriptor[0] or _MOST_ENTRIES, descriptor[1], descriptor[2]
    if not 1 <= bits <= 16:
        raise ValueError(f"LUTDescriptor says {bits} bits; allowed are 1 to 16")
    signed = header.get("PixelRepresentation") == 1
    if signed and first >= 1 << 15:  # written as US although the inputs are signed
        first -= 1 << 16
    entries = _entries(item.get("LUTData"), count, bool(getattr(header, "original_encoding", (None, True))[1]))
    return LookupTable(float(first), entries, bits, str(item.get(label, "") or ""))


def _entries(data: Any, count: int, is_little: bool) -> np.ndarray[Any, np.dtype[Any]]:
    """LUT Data as unsigned numbers, whether it stands as US values or as 8- or 16-bit OW bytes."""
    if isinstance(data, bytes):
        width = 2 if len(data) >= 2 * count else 1
        values = np.frombuffer(data, {1: "u1", 2: "<u2" if is_little else ">u2"}[width])
    else:
        values = np.atleast_1d(np.asarray([] if data is None else data, dtype=np.int64)) & 0xFFFF
    if len(values) < count:
        raise ValueError(f"LUTData has {len(values)} entries; LUTDescriptor says {count}")
    return np.ascontiguousarray(values[:count], dtype=np.uint16)


def _padding(header: Dataset, name: str) -> tuple[float, float] | None:
    """PixelPaddingValue to PixelPaddingRangeLimit, in either order (PS3.3 C.7.5.1.1.2, C.7.6.3)."""
    if header.get("PixelPaddingValue") is None:
        return None
    one = scalar(header, "PixelPaddingValue", 0.0, name)
    other = scalar(header, "PixelPaddingRangeLimit", one, name)
    return min(one, other), max(one, other)


def _several(header: Dataset, keyword: str) -> list[Any]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float | int) else list(value)
