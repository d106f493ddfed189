"""Acquisition passport: how an image was made, in facts of its header, and what of it a package has never seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from imaging.image import UNKNOWN, Origin

if TYPE_CHECKING:
    from pydicom import Dataset

Passport = dict[str, str]

_FIELDS: dict[str, str] = {
    "vendor": "Manufacturer",
    "model": "ManufacturerModelName",
    "software": "SoftwareVersions",
    "probe": "TransducerType",
    "photometric": "PhotometricInterpretation",
    "lossy_compression": "LossyImageCompression",
}

_DEVICE = ("vendor", "model", "software")


def read_passport(header: Dataset) -> Passport:
    """Facts by name (`vendor`, `model`, `software`, `probe`, `photometric`, `lossy_compression`, `calibrated`).

    A fact that the header does not state is `unknown`. A projection is calibrated at its detector
    (ImagerPixelSpacing), as mammograms are.
    """
    passport = {name: _text(header, keyword) for name, keyword in _FIELDS.items()}
    regions = header.get("SequenceOfUltrasoundRegions") or []
    stated = (header.get(keyword) not in (None, "") for keyword in ("PixelSpacing", "ImagerPixelSpacing"))
    calibrated = any(stated) or any(r.get("PhysicalUnitsXDirection") == 3 for r in regions)
    return passport | {"calibrated": "yes" if calibrated else "no"}


def read_origin(header: Dataset, site: str | None) -> Origin:
    """Site (named by the caller, else InstitutionName), scanner (vendor, model) and protocol, `unknown` if unsaid."""
    vendor, model = _text(header, "Manufacturer"), _text(header, "ManufacturerModelName")
    scanner = " ".join(part for part in (vendor, model) if part != UNKNOWN) or UNKNOWN
    return Origin(site or _text(header, "InstitutionName"), scanner, _text(header, "ProtocolName"))


def is_supported(passport: Passport, support: Mapping[str, list[str]]) -> bool:
    """Whether vendor, model and software are values that `support` lists; never, where it lists none of one of them."""
    return all(passport.get(name, UNKNOWN) in support.get(name, ()) for name in _DEVICE)


def outside(passports: Iterable[Passport], support: Mapping[str, list[str]]) -> list[str]:
    """One sentence per fact whose value the training data of a package never showed; empty when all were seen.

    `support` lists the values seen per fact; a fact that it does not list is not judged. Pictures state no facts at
    all: then that is what is said.
    """
    if not support:
        return ["The training images stated no scanner or protocol: whether the like of this was seen is unknown"]
    sentences: dict[str, None] = {}
    for passport in passports:
        for name, seen in support.items():
            value = passport.get(name, UNKNOWN)
            if value not in seen:
                sentences[f"Acquisition outside the training support: {name} '{value}' was never seen"] = None
    return list(sentences)


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    if value is None or isinstance(value, str):
        text = value or ""
    else:
        text = " ".join(str(part) for part in value) if isinstance(value, Iterable) else str(value)
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split()) or UNKNOWN
