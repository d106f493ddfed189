"""b-values of MR images: which diffusion weighting each frame has, and which element says so.

Makers store it in different places. The first of these that has a value counts:

1. DiffusionBValue (0018,9087), in the MR Diffusion functional group of the frame (PS3.3 C.8.13.5.9) or of the image;
2. Siemens (0019,xx0C) of the creator SIEMENS MR HEADER, then B_value of its CSA image header;
3. GE (0043,xx39) of GEMS_PARM_01: the first of four numbers, to which newer software adds 10⁹;
4. Philips (2001,xx03) of Philips Imaging DD 001;
5. United Imaging (0065,xx09) of Image Private Header;
6. Canon's ImageComments, "b=1500(0.445,0.000,0.895)";
7. the name of the sequence ("*ep_b800t"), then a single b-value in SeriesDescription. Both are inferences and say so.

Private elements are found through their creator, never by a fixed block. A frame of a Legacy Converted Enhanced object
is asked like the classic image that it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from re import IGNORECASE
from re import compile as pattern
from struct import unpack
from typing import Any, Final

from pydicom import Dataset

from imaging.dicom.headers.csa import csa_values
from imaging.dicom.headers.elements import classic_view, functional_group, private_value, text
from imaging.errors import ImagingError, InputError, Reason

# No clinical scanner weights more strongly.
_LARGEST: Final = 10_000.0
_GE_OFFSET: Final = 1_000_000_000
# ep_b800, ep_b800t (trace), ep_b800#7 (direction 7); a computed image names the range that it was made of, ep_b50_800.
_SEQUENCE: Final = pattern(r"\*?[a-z0-9]*_b(\d{1,4})(?:t|#\d+)?")
_RANGE: Final = pattern(r"\*?[a-z0-9]*_b(\d{1,4})_(\d{1,4})t?")
_COMMENT: Final = pattern(r"\s*b=(\d+(?:\.\d+)?)\(.*")
# In descriptions "B0" is as often the field of the magnet.
_DESCRIBED: Final = pattern(r"(?<![a-z0-9])b[-_ =]?([1-9]\d{1,3})(?!\d|[_,/-]\d)", IGNORECASE)


@dataclass(frozen=True, slots=True)
class BValue:
    """The diffusion weighting of a frame in s/mm², and the element that states it.

    `inferred` is true when it was taken from a name that people choose. `note` is a sentence where the header
    contradicts itself; the stated element is used all the same.
    """

    value: float
    source: str
    inferred: bool = False
    note: str = ""


def read_b_values(header: Dataset, name: str) -> list[BValue | ImagingError | None]:
    """The b-value of each frame; None where nothing states one.

    One that is not a finite number from 0 to 10 000 s/mm² is an InputError (BAD_B_VALUE) in its place: the element
    that is there counts, and a later one does not stand in for it.
    """
    items = header.get("PerFrameFunctionalGroupsSequence")
    if not items:
        return [_judged(header, _of_image(header), name)]
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    of_image = _judged(header, _of_image(header), name)
    found = []
    for number, item in enumerate(items, 1):
        classic = classic_view(header, item, shared)
        told = [*_of_frame(item, shared), *(_of_image(classic) if classic is not header else ())]
        is_own = told or classic is not header
        found.append(_judged(classic, iter(told), f"{name}: frame {number}") if is_own else of_image)
    return found


def computed_from(header: Dataset) -> tuple[float, float] | None:
    """The range of b-values of which the maker says a map or image was computed ("ep_b50_800"); None when unsaid."""
    match = _RANGE.fullmatch(text(header.get("SequenceName")).strip())
    return (float(match[1]), float(match[2])) if match else None


def read_protocol(header: Dataset, echo_ms: float | None, repetition_ms: float | None) -> tuple[str, ...]:
    """What two diffusion series must have alike for their signals to be one decay; empty where the header leaves open
    whether they are.

    Frame of reference, echo and repetition time, flip angle and bandwidth, which distorts; then how the receiver was
    set (GE) and how values were scaled before they were stored (Philips; Chenevert et al., Transl Oncol 2014).
    """
    frame = text(header.get("FrameOfReferenceUID"))
    scale = private_value(header, "Philips MR Imaging DD 001", 0x2005, 0x0E)
    is_philips = text(header.get("Manufacturer")).upper().startswith("PHILIPS")
    if not frame or echo_ms is None or repetition_ms is None or (is_philips and scale is None):
        return ()
    gains = [text(private_value(header, "GEMS_ACQU_01", 0x0019, element)) for element in (0x95, 0x96)]
    scales = ["", ""] if scale is None else [text(header.get("RescaleSlope")), text(scale)]
    settings = [text(header.get(keyword)) for keyword in ("FlipAngle", "PixelBandwidth")]
    return (frame, f"{echo_ms:g}", f"{repetition_ms:g}", *settings, *gains, *scales)


_Told = tuple[str, Any]  # source, value as stored


def _of_frame(item: Dataset, shared: Dataset) -> Iterator[_Told]:
    """What the functional groups of one frame state. A frame without diffusion (NONE) has b 0 (C.8.13.5.9)."""
    group = functional_group(item, shared, "MRDiffusionSequence")
    if group.get("DiffusionBValue") is not None:
        yield "DiffusionBValue (0018,9087)", group.DiffusionBValue
    elif text(group.get("DiffusionDirectionality")) == "NONE":
        yield "DiffusionDirectionality (0018,9075)", 0.0


def _of_image(header: Dataset) -> Iterator[_Told]:
    """What the image states, in the order of the module's list but for the names."""
    if header.get("DiffusionBValue") is not None:
        yield "DiffusionBValue (0018,9087)", header.DiffusionBValue
    yield from _private(header)
    if match := _COMMENT.fullmatch(text(header.get("ImageComments"))):
        yield "ImageComments (0020,4000)", match[1]


def _private(header: Dataset) -> Iterator[_Told]:
    for creator, group, element, convert in _PRIVATE:
        value = private_value(header, creator, group, element)
        if value not in (None, "", b""):
            yield f"({group:04X},xx{element:02X}) of {creator}", convert(value)
    if stated := csa_values(header, "B_value"):
        yield "B_value of the Siemens CSA header", stated[0]


def _plain(value: Any) -> Any:
    return text(value) if isinstance(value, bytes) else value


def _first_of_ge(value: Any) -> Any:
    """The first of GE's four numbers without its offset; a sender that lost the VR has them as text."""
    first = text(value).split("\\")[0].strip()
    try:
        number = float(first)
    except ValueError:
        return first
    return number % _GE_OFFSET if isfinite(number) and number >= _GE_OFFSET else number


def _single(value: Any) -> Any:
    """A float of Philips, whose VR some archives lose: then its four bytes in little endian."""
    if isinstance(value, bytes) and len(value) == 4:
        return unpack("<f", value)[0]
    return _plain(value)


def _double(value: Any) -> Any:
    """A double of United Imaging; where its VR is lost, eight bytes in little endian."""
    if isinstance(value, bytes) and len(value) == 8:
        return unpack("<d", value)[0]
    return _plain(value)


_PRIVATE: Final[tuple[tuple[str, int, int, Callable[[Any], Any]], ...]] = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C, _plain),
    ("GEMS_PARM_01", 0x0043, 0x39, _first_of_ge),
    ("Philips Imaging DD 001", 0x2001, 0x03, _single),
    ("Image Private Header", 0x0065, 0x09, _double),
)


def _judged(header: Dataset, told: Iterator[_Told], where: str) -> BValue | ImagingError | None:
    """The first that is told, checked and compared with the names; else the names."""
    source, value = next(told, ("", ""))
    named = _named(header)
    if not source:
        return named
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (isfinite(number) and 0 <= number <= _LARGEST):
        return InputError(
            f"{where}: the b-value by {source} is {_shown(value)}; allowed are 0 to {_LARGEST:g} s/mm²",
            Reason.BAD_B_VALUE,
        )
    note = ""
    if named is not None and named.source.startswith("SequenceName") and named.value != number:
        note = f"{source} says b {number:g} and {named.source} b {named.value:g}; the first is used"
    return BValue(number, source, note=note)


def _named(header: Dataset) -> BValue | None:
    """The b-value by the names that people and sequences have; None where they name none, several or a range."""
    if match := _SEQUENCE.fullmatch(text(header.get("SequenceName")).strip()):
        return BValue(float(match[1]), "SequenceName (0018,0024)", inferred=True)
    described = set(_DESCRIBED.findall(text(header.get("SeriesDescription"))))
    if len(described) == 1:
        return BValue(float(described.pop()), "SeriesDescription (0008,103E)", inferred=True)
    return None


def _shown(value: Any) -> str:
    """A value for a message, shortened: broken headers hold anything."""
    return repr(value)[:40]
