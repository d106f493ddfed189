"""Picture files (PNG, PGM, JPEG, TIFF, BMP) → arrays: the one reader of training, evaluation and prediction.

A picture is what a viewer shows: the EXIF orientation is applied, a palette gives colours, opaque alpha goes. Refused
are transparent pixels, several pages, colours of more than 8 bits, which the decoder would cut, and numbers that are
not finite. Of a mask the entries of a palette are its labels, and `crisp` mends soft and noisy edges.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Picture
from PIL import ImageOps

from imaging.errors import InputError, Reason
from imaging.image import Array
from imaging.table import tell

PICTURES: Final = (".png", ".pgm", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_LOSSY: Final = (".jpg", ".jpeg")
_FORMATS: Final = ("PNG", "PPM", "JPEG", "TIFF", "BMP")
_GREY: Final = ("1", "L", "I", "I;16", "I;16B", "I;16L", "F")
_COLOURED: Final = ("RGB", "P", "YCbCr", "RGBA", "LA", "PA")
# A whole number may be off by so much: scaled integers and float32 arithmetic leave such values.
NEARLY_WHOLE: Final = 1e-3
# Values of a mask up to this one are labels; a mask in shades of grey has higher ones.
MOST_LABELS: Final = 64
# Of the range of a mask: values nearer to its ends are what compression leaves of 0 and of the highest value.
_NOISE: Final = 1 / 8
# Packed grey is spread over 8 bits by the decoder; a mask gets its stored labels back.
_PACKED: Final = {"L;2": 85, "L;4": 17}


def is_picture_file(path: Path) -> bool:
    """Whether the name is that of a picture that is read here."""
    return path.name.lower().endswith(PICTURES)


def read_picture(path: Path) -> Array:
    """(row, column), or (row, column, 3) uint8 with colours, as viewers show it. Raises InputError naming the file."""
    return _decoded(path, is_mask=False)[0]


def read_mask_picture(path: Path) -> Array:
    """(row, column): the labels of a mask as they are stored, of a palette its entries; True is 1.

    Raises InputError for what `read_picture` refuses, for colours, for a palette that shows 0, which is background, in
    another colour than black, and for a JPEG of labels, whose compression makes others of them.
    """
    values, packed = _decoded(path, is_mask=True)
    if path.name.lower().endswith(_LOSSY) and 0 < values.max() <= MOST_LABELS:
        raise InputError(
            f"truth {path.name}: found values up to {values.max()} in a JPEG, which keeps no labels; allowed is a PNG, "
            "or a JPEG of one mask in 0 and 255",
            Reason.UNSUPPORTED_PIXELS,
        )
    if values.ndim == 3:
        if not (np.all(values[..., 0] == values[..., 1]) and np.all(values[..., 0] == values[..., 2])):
            raise InputError(
                f"truth {path.name}: found colours; allowed is grey, or a palette whose entries are the labels",
                Reason.UNSUPPORTED_PIXELS,
            )
        values = values[..., 0]
    return whole(f"truth {path.name}", values) // packed


def crisp(what: str, values: Array) -> Array:
    """The labels of a mask without soft or noisy edges, which are cut at half of the highest value and told.

    Labels are values up to MOST_LABELS, or 1 to n, or areas of one value each. Shades of grey beside areas near the
    ends of the range are one mask with an edge. Raises InputError where shades of grey stand beside areas in between,
    of which nobody knows whether they are labels, and where no pixel is 0, which is background.
    """
    present = np.unique(values[values != 0])
    if len(present) < 2 or present[-1] <= MOST_LABELS or present[-1] == len(present):
        return values
    if values.all():
        raise InputError(
            f"{what}: found {len(present)} values from {present[0]:g} to {present[-1]:g}; allowed is a mask whose "
            "background is 0",
            Reason.UNSUPPORTED_PIXELS,
        )
    top = float(present[-1])
    broad = {float(value) for value in present if _has_inside(values == value)}
    between = sorted(value for value in broad if _NOISE * top < value < (1 - _NOISE) * top)
    thin = len(present) - len(broad)
    if not thin and between:
        return values
    if between:
        raise InputError(
            f"{what}: found {len(present)} shades of grey, with areas of {[f'{value:g}' for value in between[:5]]}; "
            f"allowed are labels without soft edges, or one mask of 0 and {top:g}",
            Reason.UNSUPPORTED_PIXELS,
        )
    tell([f"{what}: found {len(present)} shades of grey, so it was cut at half of the highest, {top / 2:g}"])
    full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 else 255
    return np.where(values >= top / 2, full, 0).astype(values.dtype)


def whole(what: str, values: Array) -> Array:
    """Labels, whole numbers from 0 on; those within NEARLY_WHOLE of one are rounded. Raises InputError for others."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.size and values.min() < -NEARLY_WHOLE:
        raise InputError(
            f"{what}: found the value {values.min():.9g}; allowed are 0, which is background, and labels above it",
            Reason.UNSUPPORTED_PIXELS,
        )
    if values.dtype.kind in "iu":
        return values
    finite(what, values)
    rounded = np.rint(values)
    off = np.abs(values - rounded)
    if off.max(initial=0.0) > NEARLY_WHOLE:
        raise InputError(
            f"{what}: found the value {values.ravel()[int(off.argmax())]:.9g}; allowed is one channel of whole numbers "
            f"(within {NEARLY_WHOLE}); cut probabilities and resampled edges before",
            Reason.UNSUPPORTED_PIXELS,
        )
    return np.asarray(rounded.astype(np.int64))


def finite(what: str, values: Array) -> None:
    """Raises InputError for values that are not finite, with their number."""
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        count = np.count_nonzero(~np.isfinite(values))
        raise InputError(
            f"{what}: found {count} of {values.size} values that are not finite (NaN or infinite); allowed are "
            "finite ones",
            Reason.UNSUPPORTED_PIXELS,
        )


def _decoded(path: Path, is_mask: bool) -> tuple[Array, int]:
    """The pixels of a file, and by what the decoder spread a mask's packed labels."""
    what = f"{'truth' if is_mask else 'image'} {path.name}"
    try:
        # A stream, not a path: mapped from its file, an uncompressed TIFF turned by 90 degrees comes out garbled.
        with path.open("rb") as stream, Picture.open(stream, formats=_FORMATS) as picture:
            raw = _raw_mode(picture)
            _refuse_unread(what, picture, raw)
            seen = ImageOps.exif_transpose(picture)
            values = np.asarray(_without_alpha(what, seen, is_mask))
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise InputError(
            f"{what}: cannot be read ({type(error).__name__}); read are {', '.join(PICTURES)}", Reason.DECODE_FAILED
        ) from error
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    finite(what, values)
    return values, _PACKED.get(raw, 1) if is_mask else 1


def _raw_mode(picture: Picture.Image) -> str:
    """How the file stores pixels, in the decoder's words; empty where it does not say."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _refuse_unread(what: str, picture: Picture.Image, raw: str) -> None:
    pages = getattr(picture, "n_frames", 1)
    checks = (
        (pages > 1, f"{pages} pages", "one picture"),
        (picture.mode not in (*_GREY, *_COLOURED), f"pixels of mode {picture.mode}", "grey and RGB"),
        (picture.mode in _COLOURED and ";16" in raw, "16 bits of colour or alpha", "8 bits, or 16 of grey"),
    )
    for is_wrong, found, allowed in checks:
        if is_wrong:
            raise InputError(f"{what}: found {found}; allowed: {allowed}", Reason.UNSUPPORTED_PIXELS)


def _without_alpha(what: str, picture: Picture.Image, is_mask: bool) -> Picture.Image:
    """The picture in grey or RGB; a mask in a palette as its entries. Raises InputError for transparent pixels."""
    if "A" in picture.getbands() or "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise InputError(f"{what}: found transparent pixels; allowed are opaque ones", Reason.UNSUPPORTED_PIXELS)
    if picture.mode in _GREY:
        return picture
    if is_mask and picture.mode == "P":
        if tuple((picture.getpalette("RGB") or [0, 0, 0])[:3]) != (0, 0, 0):
            raise InputError(
                f"{what}: its palette shows 0, which is background, in colour; allowed is black", Reason.BAD_PALETTE
            )
        return picture
    return picture.convert("L" if picture.mode == "LA" else "RGB")


def _has_inside(mask: Array) -> bool:
    """Whether any pixel has its four neighbours inside; what lies beyond the border counts as outside."""
    middle = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return bool(middle.any())
