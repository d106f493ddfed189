"""Side, view and view modifiers of a projection in codes (PS3.16 CID 244, CID 4014, CID 4015)."""

from __future__ import annotations

from typing import Final

from imaging.exam.result import Side
from imaging.findings import Code
from imaging.image import View


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


IMAGE_LATERALITY: Final = _dcm("111027", "Image Laterality")
IMAGE_VIEW: Final = _dcm("111031", "Image View")
IMAGE_VIEW_MODIFIER: Final = _dcm("111032", "Image View Modifier")

LATERALITIES: Final[dict[Side, Code]] = {"L": _sct("7771000", "Left"), "R": _sct("24028007", "Right")}  # CID 244


VIEWS: Final[dict[str, Code]] = {  # CID 4014, by the abbreviation that readers use (ACR MQCM)
    "ML": _sct("399260004", "medio-lateral"),
    "MLO": _sct("399368009", "medio-lateral oblique"),
    "LM": _sct("399352003", "latero-medial"),
    "LMO": _sct("399099002", "latero-medial oblique"),
    "CC": _sct("399162004", "cranio-caudal"),
    "FB": _sct("399196006", "caudo-cranial (from below)"),
    "SIO": _sct("399188001", "superolateral to inferomedial oblique"),
    "ISO": _sct("441555000", "inferomedial to superolateral oblique"),
    "XCCL": _sct("399192008", "cranio-caudal exaggerated laterally"),
    "XCCM": _sct("399101009", "cranio-caudal exaggerated medially"),
}
_MODIFIERS: Final = (  # CID 4015
    _sct("399161006", "Cleavage"),
    _sct("399011000", "Axillary Tail"),
    _sct("399197002", "Rolled Lateral"),
    _sct("399226006", "Rolled Medial"),
    _sct("414493004", "Rolled Inferior"),
    _sct("415670009", "Rolled Superior"),
    _sct("399209000", "Implant Displaced"),
    _sct("399163009", "Magnification"),
    _sct("399055006", "Spot Compression"),
    _sct("399110001", "Tangential"),
    _sct("442581004", "Nipple in profile"),
    _sct("441752004", "Anterior compression"),
    _sct("442593008", "Infra-mammary fold"),
    _sct("442580003", "Axillary tissue"),
)
MODIFIERS: Final = {code.meaning.lower(): code for code in _MODIFIERS}


def view_codes(view: View) -> tuple[Code | None, tuple[Code, ...]]:
    """CID 4014 and CID 4015 of a view, by abbreviation or meaning; what has no code there is left out."""
    by_meaning = {code.meaning.lower(): code for code in VIEWS.values()}
    named = VIEWS.get(view.view.upper(), by_meaning.get(view.view.lower()))
    return named, tuple(MODIFIERS[name.lower()] for name in view.modifiers if name.lower() in MODIFIERS)
