"""How stored values of a grey image become what a reader sees: typed alternatives, and the arithmetic of PS3.3.

stored value → modality LUT (C.11.1) → one VOI item (C.11.2: a table before a window) → inverted for MONOCHROME1
(C.7.6.3.1.2). `dicom` reads the alternatives, a recipe chooses one. All steps are float; stored integers of up to 16
bits go through one table of their values, so that a 27 MB mammogram costs one look-up per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_MOST_TABLED: Final = 1 << 16
_BLOCK: Final = 64
_STORED_IN_16: Final = 12


@dataclass(frozen=True, slots=True)
class VoiWindow:
    """One pair of Window Center and Window Width with the VOI LUT Function that goes with it (PS3.3 C.11.2.1.2)."""

    centre: float
    width: float
    function: Function = "LINEAR"
    explanation: str = ""

    def apply(self, values: Floats) -> Floats:
        """Modality values as 0 (black of MONOCHROME2) to 1."""
        if self.function == "SIGMOID":  # C.11.2.1.3.1
            with np.errstate(over="ignore"):  # exp overflows to infinity far below the centre: the value is 0
                return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - self.centre) / self.width)))
        if self.function == "LINEAR_EXACT":  # C.11.2.1.3.2
            return np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1.0:  # C.11.2.1.2.1: a step, without a division by width - 1
            return np.asarray(values > self.centre - 0.5, dtype=np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1.0) + 0.5, 0.0, 1.0)


@dataclass(frozen=True, eq=False, slots=True)
class LookupTable:
    """One item of a Modality or VOI LUT Sequence (PS3.3 C.11.1.1, C.11.2.1.1): `entries` for inputs from `first` on.

    `bits` is the range of the entries, 0 to 2 ** bits - 1. Inputs beyond the ends take the end entries; between two
    inputs, where a rescale made fractions, the entries are joined by a line.
    """

    first: float
    entries: Array
    bits: int
    explanation: str = ""

    def apply(self, values: Floats) -> Floats:
        """Entries as they stand."""
        return np.interp(values, self.first + np.arange(len(self.entries)), self.entries.astype(np.float64))


@dataclass(frozen=True, eq=False, slots=True)
class Grayscale:
    """What a header says about showing its grey values.

    `slope`, `intercept` or `modality_table` make modality values of stored ones; `windows` and `tables` are the VOI
    alternatives in the header's order. `lut_shape` is PresentationLUTShape, None when absent; `intent` is
    PresentationIntentType, empty when absent. `padding` is the inclusive range of stored values that are no image
    (PixelPaddingValue to PixelPaddingRangeLimit, C.7.5.1.1.2).
    """

    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    slope: float = 1.0
    intercept: float = 0.0
    modality_table: LookupTable | None = None
    windows: tuple[VoiWindow, ...] = ()
    tables: tuple[LookupTable, ...] = ()
    lut_shape: Literal["IDENTITY", "INVERSE"] | None = None
    intent: str = ""
    padding: tuple[float, float] | None = None

    @property
    def inverts(self) -> bool:
        """Whether black and white change places after the VOI step, once.

        PhotometricInterpretation alone decides. PresentationLUTShape says the same a second time (INVERSE goes with
        MONOCHROME1, IDENTITY with MONOCHROME2, PS3.3 C.8.11.3) and never inverts on top of it.
        """
        return self.photometric == "MONOCHROME1"

    def item(self, explanation: str = "") -> LookupTable | VoiWindow | None:
        """The VOI item to use: one of the tables where there are any, else of the windows (C.11.2 makes them
        alternatives, of which one applies); the one with this explanation, else the first. None without any."""
        items: tuple[LookupTable | VoiWindow, ...] = self.tables or self.windows
        wanted = explanation.strip().upper()
        told = (item for item in items if wanted and item.explanation.strip().upper() == wanted)
        return next(told, items[0] if items else None)

    def modality(self, stored: Array) -> Floats:
        """Modality values of stored values (C.11.1); a Modality LUT replaces slope and intercept."""
        values = stored.astype(np.float64)
        return self.modality_table.apply(values) if self.modality_table else values * self.slope + self.intercept

    def display(self, stored: Array, item: LookupTable | VoiWindow | None) -> NDArray[np.float32]:
        """Stored values as float32 brightness of the same shape: 0 is black and 1 white under a VOI item.

        Without an item it is the modality value, negative where MONOCHROME1 turns it round: more is brighter still,
        and what is black and what white is the caller's to choose.
        """

        def shown(values: Array) -> NDArray[np.float32]:
            light = self.modality(values)
            if item is not None:
                light = item.apply(light)
                light = light / (2.0**item.bits - 1.0) if isinstance(item, LookupTable) else light
                return np.asarray(1.0 - light if self.inverts else light, dtype=np.float32)
            return np.asarray(-light if self.inverts else light, dtype=np.float32)

        return tabled(stored, shown)

    def is_padding(self, stored: Array) -> NDArray[np.bool_] | None:
        """Which stored values are padding; None when the header names none."""
        if self.padding is None:
            return None
        low, high = self.padding
        return np.asarray((stored >= low) & (stored <= high))


def entry_bits(entries: Array, stated: int, what: str) -> tuple[int, tuple[str, ...]]:
    """The bits in which the entries of a table range, 0 to 2 ** bits - 1, and a note where its descriptor differs.

    Entries beyond the stated range have more. A descriptor of 16 bits is often the size of their storage: when even
    the largest entry is below a sixteenth of that range, which would show nothing but black, entries have what they
    use, 8 at least.
    """
    bits = max(stated, used := int(entries.max()).bit_length())
    if stated == 16 and 0 < used <= _STORED_IN_16:
        bits = max(8, used)
    note = f"The {what} says {stated} bits per entry; its entries have {bits}, and they decide"
    return bits, () if bits == stated else (note,)


def tabled(stored: Array, function: Any) -> Array:
    """`function` of every value. Integers of a narrow range are worked out once per value, then looked up."""
    if stored.size == 0 or stored.dtype.kind not in "iu":
        return np.asarray(function(stored))
    low, high = int(stored.min()), int(stored.max())
    if high - low >= _MOST_TABLED:
        return np.asarray(function(stored))
    table = np.asarray(function(np.arange(low, high + 1)))
    found = np.empty(stored.shape, table.dtype)
    for start in range(0, len(stored), _BLOCK):  # in parts, because numpy makes 8-byte indices of what it looks up
        part = stored[start : start + _BLOCK]
        found[start : start + _BLOCK] = table[part if low == 0 else part.astype(np.int64) - low]
    return found
