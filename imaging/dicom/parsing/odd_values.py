"""What pydicom makes of values that the standard does not allow: a number where one stands, else the text as it is.

A value that cannot be converted would raise wherever somebody asks for it, and then one odd element costs the image.
Here it stays a value: decimal commas are decimal points (PS3.5 6.2 knows no comma in a DS or IS), and numbers under a
VR of text are numbers. What is no number stays text, never empty: an empty value would mean a default.

pydicom has one pair of hooks for a process. What it converts by itself, these convert alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.hooks import hooks, raw_element_value, raw_element_vr

_TEXTS: Final = frozenset(("UT", "UC", "LO", "SH", "ST", "LT", "CS"))
# VR of the dictionary → how its numbers are read when they stand as text.
_NUMBERS: Final = {
    **dict.fromkeys(("DS", "FD", "FL"), "DS"),
    **dict.fromkeys(("IS", "US", "SS", "UL", "SL", "US or SS"), "IS"),
}


def read_dataset(source: Path | BinaryIO) -> Dataset:
    """The header of an admitted file, without its pixel data. From then on this process reads odd values as said above.

    It may have no preamble, with or without a meta header: that it is DICOM was judged before. Raises what pydicom
    raises.
    """
    hooks.register_callback("raw_element_vr", _vr)
    hooks.register_callback("raw_element_value", _value)
    return dcmread(source, stop_before_pixels=True, force=True)


def _vr(raw: RawDataElement, data: dict[str, Any], **context: Any) -> None:
    raw_element_vr(raw, data, **context)
    if data["VR"] in _TEXTS and not raw.tag.is_private:
        try:
            data["VR"] = _NUMBERS.get(dictionary_VR(raw.tag), data["VR"])
        except KeyError:
            return


def _value(raw: RawDataElement, data: dict[str, Any], **context: Any) -> None:
    if data["VR"] in ("DS", "IS") and isinstance(raw.value, bytes) and b"," in raw.value:
        raw = raw._replace(value=raw.value.replace(b",", b"."))
    try:
        raw_element_value(raw, data, **context)
    except Exception:  # noqa: BLE001 - pydicom raises nearly anything on broken values; what stands there is kept
        stored = raw.value if isinstance(raw.value, bytes) else b""
        text = data["VR"] in ("DS", "IS")
        data.update(VR="LT" if text else "UN", value=stored.decode("latin-1").strip("\0 ") if text else stored)
