"""Header → Projection: which view of which breast a mammogram is, and what kind of image.

Facts are taken in a stated order, and a fact that contradicts an earlier one is said and not used:

* side: ImageLaterality, Laterality, then the letter before the view in ViewPosition ("RMLO");
* view and modifiers: ViewCodeSequence with its ViewModifierCodeSequence, ViewPosition, then PatientOrientation, in
  which film archives write the view;
* magnification and spot compression also by EstimatedRadiographicMagnificationFactor and PaddleDescription.
"""

from __future__ import annotations

from dataclasses import dataclass
from re import compile as pattern
from typing import TYPE_CHECKING, Any, Final, Literal

from imaging.dicom.headers.classes import (
    FOR_PROCESSING,
    MAMMOGRAMS,
    OF_THE_BREAST,
    SECONDARY_CAPTURES,
    TOMOSYNTHESIS,
)
from imaging.image import View

if TYPE_CHECKING:
    from pydicom import Dataset

# Modalities under which film and plate mammograms travel when they are not MG; they must name the breast.
_BORROWED: Final = frozenset(("CR", "DX", "RG", "OT", "SC"))
# CID 4014 View for Mammography: SCT, and the SRT and SNM3 code of older objects.
_VIEWS: Final = {
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
    **dict.fromkeys(("441555000", "R-40AAA"), "ISO"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
    **dict.fromkeys(("127457009", "G-8310"), "specimen"),
}
# CID 4015 View Modifier for Mammography.
_MODIFIERS: Final = {
    **dict.fromkeys(("399163009", "R-102D6"), "magnification"),
    **dict.fromkeys(("399055006", "R-102D7"), "spot compression"),
    **dict.fromkeys(("399209000", "R-102D5"), "implant displaced"),
    **dict.fromkeys(("399161006", "R-102D2"), "cleavage"),
    **dict.fromkeys(("399011000", "R-102D1"), "axillary tail"),
    **dict.fromkeys(("442580003", "R-40AB2"), "axillary tissue"),
    **dict.fromkeys(("399197002", "R-102D3"), "rolled lateral"),
    **dict.fromkeys(("399226006", "R-102D4"), "rolled medial"),
    **dict.fromkeys(("415670009", "R-102C9"), "rolled superior"),
    **dict.fromkeys(("414493004", "R-102CA"), "rolled inferior"),
    **dict.fromkeys(("399110001", "R-102C2"), "tangential"),
    **dict.fromkeys(("442581004", "R-40AB3"), "nipple in profile"),
    **dict.fromkeys(("442593008", "R-40ABE"), "infra-mammary fold"),
    **dict.fromkeys(("441752004", "P2-00161"), "anterior compression"),
}
_NAMES: Final = ("XCCL", "XCCM", "XCC", "MLO", "LMO", "SIO", "ISO", "CC", "ML", "LM", "FB")
_POSITION: Final = pattern(rf"([LR])?\s*([MS])?\s*({'|'.join(_NAMES)})\s*(ID)?")
_LETTERS: Final = {"M": "magnification", "S": "spot compression"}
_DIRECTION: Final = pattern("[APHFRL]{1,3}")
# Contact views have 1.0 to 1.1 by the height of the breast above the detector; magnification stands begin at 1.4.
_LEAST_MAGNIFICATION: Final = 1.3
_SYNTHETIC: Final = frozenset(("GENERATED_2D", "TOMO_2D", "C-VIEW", "S-VIEW", "V-PREVIEW", "SYNTHETIC"))
_SYNTHETIC_TEXT: Final = pattern(r"\b(c-view|s-view|v-preview|insight 2d|intelligent 2d|synthetic|synthesi[sz]ed)\b")
_CONTRAST: Final = frozenset(("SUBTRACTION", "RECOMBINED", "HIGH_ENERGY"))


# What an image under a mammogram's header shows: one exposure, or something computed, many layers, or no breast.
Exposure = Literal["exposure", "synthetic", "tomosynthesis", "contrast", "specimen"]


@dataclass(frozen=True, slots=True)
class Projection:
    """One mammogram's view and what a choice among several rests on.

    `is_capture` says that it was made of another image or digitised from film, `is_burned_in` that such a one has words
    burned into its pixels.

    `modifiers` are those of the view, known also where the view is not. `acquired` is date and time as digits that
    sort, empty when unknown. `directions` are PatientOrientation's two values, `spacing_mm` (row, column) lies in the
    plane of the breast as far as the header tells.
    """

    view: View | None
    shows: Exposure = "exposure"
    modifiers: tuple[str, ...] = ()
    for_processing: bool = False
    is_capture: bool = False
    is_burned_in: bool = False
    is_partial: bool = False
    acquired: str = ""
    directions: tuple[str, str] | None = None
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def is_mammogram(modality: str, sop_class_uid: str, body_part: str) -> bool:
    """Whether an object is to be read as a mammogram: by its modality or its class, whatever the other says, or a plate
    or film that says that it shows a breast."""
    if modality == "MG" or sop_class_uid in OF_THE_BREAST:
        return True
    return modality in _BORROWED and sop_class_uid in MAMMOGRAMS and body_part == "BREAST"


def read_projection(header: Dataset) -> Projection:
    """The projection of a mammogram's header."""
    notes: list[str] = []
    found = _coded(header), _positioned(header), _from_orientation(header)
    side = _first("side", [_side(header, "ImageLaterality"), _side(header, "Laterality"), found[1][0]], notes)
    name = _first("view", [one[1] for one in found], notes)
    modifiers = tuple(dict.fromkeys(m for one in found for m in one[2])) + _by_geometry(header, found, notes)
    laterality: Literal["L", "R"] | None = "L" if side == "L" else "R" if side == "R" else None
    view = View(laterality, name, modifiers) if laterality and name else None
    spacing, said = radiographic_spacing(header)
    for_processing = _text(header, "PresentationIntentType") == "FOR PROCESSING" or (
        _text(header, "SOPClassUID") == FOR_PROCESSING
    )
    if _text(header, "BreastImplantPresent") == "YES" and "implant displaced" not in modifiers:
        notes.append("The header says that the breast has an implant")
    is_partial = _text(header, "PartialView") == "YES"
    if is_partial:
        notes.append("A partial view: other images show the rest of the breast")
    return Projection(
        view=view,
        shows=_shown(header, name),
        modifiers=modifiers,
        for_processing=for_processing,
        is_capture=_is_capture(header),
        is_burned_in=_is_capture(header) and _text(header, "BurnedInAnnotation").upper() == "YES",
        is_partial=is_partial,
        acquired=_acquired(header),
        directions=_directions(header),
        spacing_mm=spacing,
        notes=(*notes, *said),
    )


def _is_capture(header: Dataset) -> bool:
    """Whether the image was made of another one: by its class, the SC Equipment Module or ImageType (C.7.6.1.1.2)."""
    kinds = _words(header, "ImageType")
    return (
        _text(header, "SOPClassUID") in SECONDARY_CAPTURES
        or bool(_text(header, "ConversionType"))
        or (len(kinds) > 1 and kinds[1] == "SECONDARY")
    )


def _shown(header: Dataset, name: str) -> Exposure:
    """What the image shows, by its kind before its view."""
    kinds, described = set(_words(header, "ImageType")), _text(header, "SeriesDescription").lower()
    frames, position = header.get("NumberOfFrames"), _text(header, "ViewPosition").upper()
    many = frames not in (None, "") and int(frames) > 1
    volume = _text(header, "SOPClassUID") == TOMOSYNTHESIS or any(kind.startswith("TOMO") for kind in kinds)
    tissue = "SpecimenDescriptionSequence" in header or "SPECIMEN" in kinds | {position} or "specimen" in described
    verdicts: tuple[tuple[Any, Exposure], ...] = (
        (kinds & _SYNTHETIC or _SYNTHETIC_TEXT.search(described), "synthetic"),
        (volume or many, "tomosynthesis"),
        (kinds & _CONTRAST, "contrast"),
        (tissue or name == "specimen", "specimen"),
    )
    return next((shown for holds, shown in verdicts if holds), "exposure")


_Found = tuple[str, str, tuple[str, ...]]  # side, view, modifiers; empty where unsaid


def _coded(header: Dataset) -> _Found:
    """ViewCodeSequence and the modifiers of its item (PS3.3 C.8.11.7); older writers put modifiers beside it."""
    items = list(header.get("ViewCodeSequence") or [])
    modifiers = [m for item in [*items, header] for m in item.get("ViewModifierCodeSequence") or []]
    told = (_MODIFIERS.get(_text(m, "CodeValue"), _text(m, "CodeMeaning").lower()) for m in modifiers)
    name = _VIEWS.get(_text(items[0], "CodeValue"), "") if items else ""
    return "", name, tuple(m for m in told if m)


def _positioned(header: Dataset) -> _Found:
    """ViewPosition: a name of CID 4014's ACR abbreviations, at most with a side before and ID (implant displaced)
    behind it. A whole name comes first: ML and LM are lateral views, not a letter and a rest."""
    text = _text(header, "ViewPosition").upper()
    if text in _NAMES:
        return "", text, ()
    match = _POSITION.fullmatch(text)
    if match is None:
        return "", "", ()
    modifiers = [_LETTERS[match[2]]] if match[2] else []
    return match[1] or "", match[3], (*modifiers, *(["implant displaced"] if match[4] else []))


def _from_orientation(header: Dataset) -> _Found:
    words = _words(header, "PatientOrientation")
    return "", next((word for word in words if word in _NAMES), ""), ()


def _by_geometry(header: Dataset, found: tuple[_Found, ...], notes: list[str]) -> tuple[str, ...]:
    """Magnification and spot compression that no code says but geometry or paddle do."""
    said = {m for one in found for m in one[2]}
    paddle, factor = _text(header, "PaddleDescription").upper(), _magnification(header)
    more = []
    if (factor or 1.0) >= _LEAST_MAGNIFICATION and "magnification" not in said:
        more.append("magnification")
        notes.append(f"Recognised as a magnification view by its factor of {factor:g}")
    if "SPOT" in paddle and "spot compression" not in said:
        more.append("spot compression")
        notes.append("Recognised as a spot view by its paddle")
    return tuple(more)


def _first(what: str, values: list[str], notes: list[str]) -> str:
    """The first value that is said; a note where a later one differs."""
    told = list(dict.fromkeys(value for value in values if value))
    if len(told) > 1:
        notes.append(f"The header contradicts itself about the {what}: {', '.join(told)}; the first is used")
    return told[0] if told else ""


def _side(header: Dataset, keyword: str) -> str:
    text = _text(header, keyword).upper()
    return text if text in ("L", "R") else ""


def _directions(header: Dataset) -> tuple[str, str] | None:
    words = _words(header, "PatientOrientation")
    if len(words) != 2 or not all(_DIRECTION.fullmatch(word) for word in words):
        return None
    return words[0], words[1]


def radiographic_spacing(header: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Millimetres per pixel (row, column) in the breast, and what was done to get them (PS3.3 10.7.1.3).

    PixelSpacing counts where it was calibrated: where PixelSpacingCalibrationType says so, or where it differs from
    ImagerPixelSpacing or stands alone. Otherwise spacing is that of the detector (or of the scanned film) and is
    divided by EstimatedRadiographicMagnificationFactor, or the ratio of the distances it stands for.
    """
    pixel, detector = _pair(header, "PixelSpacing"), _pair(header, "ImagerPixelSpacing")
    calibrated = _text(header, "PixelSpacingCalibrationType") in ("GEOMETRY", "FIDUCIAL")
    if pixel and (calibrated or detector is None or pixel != detector):
        return pixel, ()
    detector = detector or _pair(header, "NominalScannedPixelSpacing")
    factor = _magnification(header)
    if detector is None or factor is None or factor == 1.0:
        return detector, ()
    steps = detector[0] / factor, detector[1] / factor
    return steps, (f"Millimetres are those of the detector divided by a magnification of {factor:g}",)


def _magnification(header: Dataset) -> float | None:
    """Distance to the detector over distance to the breast; None where it is unsaid or implausible."""
    factor = _number(header, "EstimatedRadiographicMagnificationFactor")
    if factor is None:
        far, near = _number(header, "DistanceSourceToDetector"), _number(header, "DistanceSourceToPatient")
        factor = far / near if far and near else None
    return factor if factor is not None and 1.0 <= factor <= 4.0 else None


def _acquired(header: Dataset) -> str:
    """When the image was taken, as digits that sort; images of one study share one clock."""
    if whole := _text(header, "AcquisitionDateTime"):
        return whole
    for kind in ("Acquisition", "Content"):
        if date := _text(header, f"{kind}Date"):
            return date + _text(header, f"{kind}Time")
    return ""


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    value = header.get(keyword)
    try:
        row, column = (float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return (row, column) if row > 0 and column > 0 else None


def _number(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _words(header: Dataset, keyword: str) -> list[str]:
    value: Any = header.get(keyword) or []
    return [str(part).strip().upper() for part in ([value] if isinstance(value, str) else value)]


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()
