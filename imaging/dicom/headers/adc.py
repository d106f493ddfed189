"""A scanner's ADC map → values in 10⁻⁶ mm²/s, by what the header states of their unit, else by their size.

1. RealWorldValueMappingSequence (0040,9096) with a unit of mm²/s, applied to stored values (PS3.3 C.7.6.16.2.11);
2. RescaleType (0028,1054) that names such a unit, for rescaled values;
3. the size of rescaled values: the one power of 1000 that brings their median into what tissue has. Siemens and GE
   write 10⁻⁶ mm²/s without saying so, others 10⁻³ mm²/s or mm²/s;
4. the same for Philips' own values, rescaled ones divided by RescaleSlope and the scale slope (2005,xx0E) of Philips
   MR Imaging DD 001 (Chenevert et al., Transl Oncol 2014).

A map whose median is in no case plausible is refused, and so is one whose stated unit makes it implausible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from re import compile as pattern
from typing import Final

import numpy as np
from pydicom import Dataset

from imaging.dicom.headers.elements import functional_group, private_value, text
from imaging.dicom.pixels.volume import Stack
from imaging.errors import InputError, Reason
from imaging.image import Array, Image

# Medians over a pelvis. Muscle and gland have 800 to 2000, free water at body temperature 3000 × 10⁻⁶ mm²/s.
_PLAUSIBLE: Final = (300.0, 3500.0)
# Of the brightest at the lowest b-value; below it is air.
_LEAST_SIGNAL: Final = 0.1
_SCALES: Final = ((1.0, "10^-6 mm2/s"), (1e3, "10^-3 mm2/s"), (1e6, "mm2/s"))
# UCUM and what scanners write: a power of ten before mm2/s, or um2/s.
_UNIT: Final = pattern(r"(?:x?(?:1|10)?(?:\*|\^|e)?(-\d+)[.* x]*)?(mm|um)\^?2/s(?:ec)?")


def read_adc(stack: Stack) -> Image:
    """The map (1, slice, row, column) as float32 in 10⁻⁶ mm²/s, with a note on how its unit was found.

    Raises InputError: IMPLAUSIBLE_ADC when no unit fits, when it is 0 throughout, and what `Stack.read` raises.
    """
    image = stack.read()
    header = stack.planes[0].frames.header
    name = stack.planes[0].frames.name
    rescaled = image.array.astype(np.float32)
    if not np.all(np.isfinite(rescaled)) or not np.any(rescaled > 0):
        raise _refusal(name, "it holds no finite value above 0")
    values, note = _in_unit(stack, header, rescaled, name)
    return replace(image, array=values, notes=(*image.notes, note))


def check_fitted(adc: Array, signal: Array, what: str) -> None:
    """Holds a fitted ADC in 10⁻⁶ mm²/s, where the `signal` of the lowest b-value shows tissue, to the bounds of
    scanners' maps. Voxels without a decay count as 0. Raises InputError (IMPLAUSIBLE_ADC)."""
    tissue = signal > _LEAST_SIGNAL * np.percentile(signal, 99)
    middle = float(np.median(adc[tissue])) if tissue.any() else 0.0
    if not _PLAUSIBLE[0] <= middle <= _PLAUSIBLE[1]:
        raise _refusal(what, f"fitted from the b-values, the median over the tissue is {middle:.4g} × 10^-6 mm2/s")


def _in_unit(stack: Stack, header: Dataset, rescaled: Array, name: str) -> tuple[Array, str]:
    for values, factor, source in _stated(stack, header, rescaled):
        found = values * np.float32(factor)
        if not _plausible(found):
            raise _refusal(name, f"by {source} the median is {_median(found):.4g} × 10^-6 mm2/s")
        return found, f"The unit of the ADC map is stated by {source}"
    for values, what in _candidates(stack, header, rescaled):
        for factor, unit in _SCALES:
            if _plausible(values * np.float32(factor)):
                return values * np.float32(factor), f"The ADC map states no unit: {what} are {unit} by their size"
    raise _refusal(name, f"the median is {_median(rescaled):.4g} and no unit is stated")


def _stated(stack: Stack, header: Dataset, rescaled: Array) -> Iterator[tuple[Array, float, str]]:
    """(values, factor to 10⁻⁶ mm²/s, source) of each statement of the header, the most specific first."""
    for mapping in _mappings(header):
        units = mapping.get("MeasurementUnitsCodeSequence") or [Dataset()]
        factor = unit_factor(text(units[0].get("CodeValue")))
        slope, intercept = mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")
        if factor and slope is not None and intercept is not None:
            stored = _stored(stack, rescaled)
            yield stored * np.float32(slope) + np.float32(intercept), factor, "RealWorldValueMappingSequence"
    if factor := unit_factor(text(header.get("RescaleType"))):
        yield rescaled, factor, "RescaleType"


def _mappings(header: Dataset) -> list[Dataset]:
    """The mappings of an image, or those of the first frame of an Enhanced one."""
    items = header.get("PerFrameFunctionalGroupsSequence") or [Dataset()]
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    of_frame = functional_group(items[0], shared, "RealWorldValueMappingSequence")
    return [*(header.get("RealWorldValueMappingSequence") or []), of_frame]


def unit_factor(unit: str) -> float | None:
    """What a unit of diffusivity is in 10⁻⁶ mm²/s; None for any other text. "10-6.mm2/s" → 1, "mm2/s" → 10⁶."""
    plain = unit.strip().lower().replace("²", "2").replace("µ", "u").replace(" ", "").replace("×", "x")
    match = _UNIT.fullmatch(plain)
    if match is None:
        return None
    return float(10.0 ** (int(match[1] or 0) + (6 if match[2] == "mm" else 0)))


def _candidates(stack: Stack, header: Dataset, rescaled: Array) -> Iterator[tuple[Array, str]]:
    yield rescaled, "its values"
    scale = private_value(header, "Philips MR Imaging DD 001", 0x2005, 0x0E)
    slope = stack.planes[0].slope
    try:
        divisor = np.float32(float(scale) * slope)
    except (TypeError, ValueError):
        return
    if np.isfinite(divisor) and divisor > 0:
        yield rescaled / divisor, "its values by the maker's private scale"


def _stored(stack: Stack, rescaled: Array) -> Array:
    """Stored values again, slice by slice."""
    slopes = np.array([plane.slope for plane in stack.planes], np.float32)[None, :, None, None]
    intercepts = np.array([plane.intercept for plane in stack.planes], np.float32)[None, :, None, None]
    return (rescaled - intercepts) / slopes


def _median(values: Array) -> float:
    """Over what is above 0: scanners write 0 where there is no signal."""
    lit = values[values > 0]
    return float(np.median(lit)) if lit.size else 0.0


def _plausible(values: Array) -> bool:
    return _PLAUSIBLE[0] <= _median(values) <= _PLAUSIBLE[1]


def _refusal(name: str, what: str) -> InputError:
    return InputError(
        f"{name}: no plausible ADC map: {what}; allowed is a median of {_PLAUSIBLE[0]:g} to {_PLAUSIBLE[1]:g} × "
        "10^-6 mm2/s",
        Reason.IMPLAUSIBLE_ADC,
    )
