"""What a file may claim before it is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """No limit is near a real object; each is far below what would hurt."""

    file_bytes: int = 16 << 30
    """The whole file."""
    element_bytes: int = 256 << 20
    """One element before the pixel data, a private one or a document included."""
    elements: int = 4_000_000
    """Elements, items and delimiters before the pixel data, at all levels. An enhanced object of 10 000 frames has
    about one million."""
    depth: int = 32
    """Sequences inside sequences. Structured reports reach about 12; pydicom's parser ends near 300."""
    inflated_bytes: int = 1 << 30
    """The dataset of a deflated file."""
    inflated_ratio: float = 100.0
    """Inflated bytes per deflated byte, beyond `inflated_free_bytes`. The format reaches 1 032."""
    inflated_free_bytes: int = 16 << 20
    """Up to this size the ratio is not asked for: blank images compress without end."""
    frames: int = 200_000
    """NumberOfFrames."""
    frame_bytes: int = 512 << 20
    """One decoded frame. The largest radiographs are near 80 MB."""
    palette_bytes: int = 128 << 10
    """One colour of a palette: 65 536 entries of 16 bits."""


LIMITS: Final = Limits()
