"""Attributes of a dataset as checked values: integers in a range, finite numbers, text, private elements by creator,
functional groups of a frame."""

from __future__ import annotations

from struct import unpack
from typing import Any, Final

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from imaging.errors import InputError, Reason
from imaging.image import Floats

_FUNCTIONAL_GROUPS: Final = 0x5200


def integer(name: str, header: Dataset, keyword: str, allowed: tuple[int, int], default: int | None = None) -> int:
    """An attribute as an integer from `allowed[0]` to `allowed[1]`; `default` when absent or empty."""
    value = header.get(keyword)
    if value in (None, "") and default is not None:
        return default
    low, high = allowed
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = low - 1
    if not low <= number <= high:
        raise InputError(f"{name}: {keyword} is {value!r}; allowed are {low} to {high}", Reason.UNSUPPORTED_PIXELS)
    return number


def numbers(dataset: Dataset, keyword: str, count: int, where: str) -> Floats:
    """`count` finite numbers of an attribute; anything else is an InputError that names it."""
    value = dataset.get(keyword)
    try:
        found = np.asarray([] if value is None else value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (count,) or not np.all(np.isfinite(found)):
        raise InputError(f"{where}: {keyword} is {value!r}; allowed are {count} finite numbers", Reason.GEOMETRY)
    return found


def scalar(dataset: Dataset, keyword: str, default: float, where: str) -> float:
    return default if dataset.get(keyword) in (None, "") else float(numbers(dataset, keyword, 1, where)[0])


def text(value: Any) -> str:
    """A value as the file writes it: several ones parted by backslashes, empty when absent."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def private_value(header: Dataset, creator: str, group: int, element: int) -> Any:
    """The value of a private element by its creator, in whichever block it stands; None when absent."""
    try:
        return header.private_block(group, creator)[element].value
    except KeyError:
        return None


def scale_slope(header: Dataset) -> float | None:
    """The scale slope of Philips: (2005,xx0E) of Philips MR Imaging DD 001, in Enhanced images inside (2005,xx0F) of
    Philips MR Imaging DD 005 of a frame. None where there is none, or none above 0."""
    value = private_value(header, "Philips MR Imaging DD 001", 0x2005, 0x0E)
    if value is None:
        nested = private_value(header, "Philips MR Imaging DD 005", 0x2005, 0x0F)
        inner = nested[0] if isinstance(nested, Sequence) and nested else None
        value = None if inner is None else private_value(inner, "Philips MR Imaging DD 001", 0x2005, 0x0E)
    if isinstance(value, bytes) and len(value) == 4:  # the VR was lost on the way
        value = unpack("<f", value)[0]
    try:
        scale = float(text(value)) if isinstance(value, bytes) else float(value)
    except (TypeError, ValueError):
        return None
    return scale if np.isfinite(scale) and scale > 0 else None


def classic_view(header: Dataset, item: Dataset, shared: Dataset) -> Dataset:
    """A frame of a Legacy Converted Enhanced object as the classic image that it was made of; any other header as is.

    What has no functional group stands in the Unassigned Shared and Per-Frame Converted Attributes Sequences (PS3.3
    C.7.6.16.2.25). A private group of the frame takes the place of that of the object, because its blocks differ.
    """
    converted = [
        one
        for group, keyword in ((shared, "Shared"), (item, "PerFrame"))
        for one in group.get(f"Unassigned{keyword}ConvertedAttributesSequence") or []
    ]
    if not converted:
        return header
    whole = Dataset()
    whole.update({tag: header.get_item(tag) for tag in tuple(header.keys()) if tag.group < _FUNCTIONAL_GROUPS})
    for attributes in converted:
        tags = tuple(attributes.keys())
        own = {tag.group for tag in tags if tag.is_private}
        for tag in [tag for tag in tuple(whole.keys()) if tag.group in own]:
            del whole[tag]
        whole.update({tag: attributes.get_item(tag) for tag in tags})
    return whole


def functional_group(item: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """A functional group of one frame, else the shared one (PS3.3 C.7.6.16.1); empty when neither has it."""
    found = item.get(keyword) or shared.get(keyword)
    return found[0] if found else Dataset()
