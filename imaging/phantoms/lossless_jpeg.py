"""JPEG Lossless, process 14 with first-order prediction (ITU-T T.81 Annex H), the commonest coding of mammograms.

The Huffman table is fixed, so that the bytes depend on the pixels alone and on no installed encoder.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_COUNTS = (0, 1, 5, *[1] * 11, 0, 0)
"""How many codes there are of 1 to 16 bits: one category each, none of ones alone (T.81 C.2)."""
_CATEGORIES = (0, 4, 5, 3, 6, 2, 7, 1, 8, 9, 10, 11, 12, 13, 14, 15, 16)
"""Bit lengths of a difference, the most frequent in a mammogram first."""
_LINES = 256


def encode(pixels: NDArray[np.uint16], bits: int) -> bytes:
    """The code stream of `pixels`, uint16 (row, column), whose values have `bits` bits, 2 to 16."""
    rows, columns = pixels.shape
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, bits, rows, columns, 1, 1, 0x11, 0)
    table = struct.pack(">HHB", 0xFFC4, 2 + 1 + 16 + len(_CATEGORIES), 0) + bytes(_COUNTS) + bytes(_CATEGORIES)
    scan = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0)
    differences = _differences(pixels, bits)
    parts = [_bits(differences[first : first + _LINES].ravel()) for first in range(0, rows, _LINES)]
    stream = np.concatenate(parts)
    padded = np.concatenate([stream, np.ones(-len(stream) % 8, dtype=np.uint8)])  # T.81 F.1.2.3
    data = np.packbits(padded).tobytes().replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8" + frame + table + scan + data + b"\xff\xd9"


def _differences(pixels: NDArray[np.uint16], bits: int) -> NDArray[np.int64]:
    """From the left neighbour; in the first column from the one above, at the start from half scale (T.81 H.1.2.1)."""
    values = pixels.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    difference = (values - predicted) & 0xFFFF  # modulo 2^16
    return np.asarray(np.where(difference > 32768, difference - 65536, difference))


def _bits(difference: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bits (bit,) of differences (sample,): the code of its category, then the place in it (T.81 H.1.2.2)."""
    codes, lengths = _codes()
    size = np.frexp(np.abs(difference).astype(np.float64))[1]
    extra = np.where(size == 16, 0, size)  # 32768 is alone in its category
    low = np.where(difference < 0, difference - 1, difference) & ((1 << extra) - 1)
    word = (codes[size] << extra) | low
    count = lengths[size] + extra
    ends = np.cumsum(count)
    place = np.repeat(ends, count) - 1 - np.arange(int(ends[-1]))
    return np.asarray((np.repeat(word, count) >> place) & 1, dtype=np.uint8)


def _codes() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Code and its length by category (T.81 C.2)."""
    codes, lengths = np.zeros(17, dtype=np.int64), np.zeros(17, dtype=np.int64)
    code, position = 0, 0
    for length, count in enumerate(_COUNTS, start=1):
        for category in _CATEGORIES[position : position + count]:
            codes[category], lengths[category] = code, length
            code += 1
        position, code = position + count, code << 1
    return codes, lengths
