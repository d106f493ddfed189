"""Palette indices → colours of 8 bits, by the range that the entries have (PS3.3 C.7.6.3.1.5 and .6)."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut

from imaging.grayscale import entry_bits
from imaging.image import Array


def palette_colours(indices: Array, header: Dataset) -> tuple[Array, tuple[str, ...]]:
    """Colours (row, column, 3) of indices (row, column), and a note where the entries are not what the descriptor says.

    Raises what pydicom raises for a palette that is none.
    """
    count, first, stated = (int(value) for value in header.RedPaletteColorLookupTableDescriptor)
    entries = apply_color_lut(np.arange(first, first + min(count or 1 << 16, 1 << 16)), header)
    bits, notes = entry_bits(entries, stated, "palette")
    colours = apply_color_lut(indices, header) >> max(0, bits - 8)
    return colours.astype(np.uint8), notes
