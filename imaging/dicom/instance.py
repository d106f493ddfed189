"""One header → one Instance, from the raw values of a walk where they are plain, from pydicom where they are not.

`Facts` answers like a pydicom Dataset for the few elements that a description needs, fifteen times faster. It answers
only what pydicom would answer: a value that is anything but plain (another VR, several values, an escape sequence, a
character set that is neither ASCII, Latin-1 nor UTF-8) raises NotPlain, and pydicom decides.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from re import compile as pattern
from typing import TYPE_CHECKING, Any, Final

from imaging.dicom.headers.classes import MR_IMAGES
from imaging.dicom.headers.passport import Passport, read_origin, read_passport
from imaging.dicom.headers.view import Projection, is_mammogram, read_projection
from imaging.dicom.parsing.firewall import Header
from imaging.dicom.parsing.walk import Values
from imaging.errors import InputError, Reason, ReasonCode
from imaging.image import Origin

if TYPE_CHECKING:
    from pydicom import Dataset

    from imaging.dicom.headers.acquisition import Acquisition

REGIONS: Final = 0x00186011
# Keyword → tag and VR (PS3.6) of every element that a description asks for.
_ELEMENTS: Final[dict[str, tuple[int, bytes]]] = {
    "SOPClassUID": (0x00080016, b"UI"),
    "SOPInstanceUID": (0x00080018, b"UI"),
    "Modality": (0x00080060, b"CS"),
    "Manufacturer": (0x00080070, b"LO"),
    "InstitutionName": (0x00080080, b"LO"),
    "ManufacturerModelName": (0x00081090, b"LO"),
    "PatientName": (0x00100010, b"PN"),
    "PatientID": (0x00100020, b"LO"),
    "IssuerOfPatientID": (0x00100021, b"LO"),
    "PatientBirthDate": (0x00100030, b"DA"),
    "BodyPartExamined": (0x00180015, b"CS"),
    "SoftwareVersions": (0x00181020, b"LO"),
    "ProtocolName": (0x00181030, b"LO"),
    "ImagerPixelSpacing": (0x00181164, b"DS"),
    "TransducerType": (0x00186031, b"CS"),
    "StudyInstanceUID": (0x0020000D, b"UI"),
    "SeriesInstanceUID": (0x0020000E, b"UI"),
    "SeriesNumber": (0x00200011, b"IS"),
    "InstanceNumber": (0x00200013, b"IS"),
    "PhotometricInterpretation": (0x00280004, b"CS"),
    "NumberOfFrames": (0x00280008, b"IS"),
    "Rows": (0x00280010, b"US"),
    "Columns": (0x00280011, b"US"),
    "PixelSpacing": (0x00280030, b"DS"),
    "LossyImageCompression": (0x00282110, b"CS"),
    # Items of SequenceOfUltrasoundRegions.
    "RegionSpatialFormat": (0x00186012, b"US"),
    "RegionDataType": (0x00186014, b"US"),
    "RegionLocationMinX0": (0x00186018, b"UL"),
    "RegionLocationMinY0": (0x0018601A, b"UL"),
    "RegionLocationMaxX1": (0x0018601C, b"UL"),
    "RegionLocationMaxY1": (0x0018601E, b"UL"),
    "PhysicalUnitsXDirection": (0x00186024, b"US"),
    "PhysicalUnitsYDirection": (0x00186026, b"US"),
    "PhysicalDeltaX": (0x0018602C, b"FD"),
    "PhysicalDeltaY": (0x0018602E, b"FD"),
}
_CHARACTER_SET: Final = 0x00080005
# What is no instance's own. Names of patients are not among them: these values are kept from file to file.
_SERIES_TAGS: Final = tuple(
    tag for keyword, (tag, vr) in _ELEMENTS.items() if vr in (b"LO", b"CS", b"DS") and "Patient" not in keyword
)
_MOST_KNOWN: Final = 4096
WANTED: Final = frozenset(tag for tag, _ in _ELEMENTS.values()) | {_CHARACTER_SET}
_ENCODINGS: Final = {
    b"": "ascii",
    b"ISO_IR 6": "ascii",
    b"ISO_IR 100": "latin-1",
    b"ISO 2022 IR 100": "latin-1",
    b"ISO_IR 192": "utf-8",
}
_BINARY: Final = {
    (b"US", True): struct.Struct("<H"),
    (b"US", False): struct.Struct(">H"),
    (b"UL", True): struct.Struct("<I"),
    (b"UL", False): struct.Struct(">I"),
    (b"FD", True): struct.Struct("<d"),
    (b"FD", False): struct.Struct(">d"),
}
_INTEGER: Final = pattern(r"[+-]?[0-9]{1,12}")
_DECIMAL: Final = pattern(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Region:
    """One item of SequenceOfUltrasoundRegions (PS3.3 C.8.5.5).

    `box` is (row, column, row, column), half-open, as declared: it may reach outside the image. `spacing_mm` is
    (row step, column step), None when the region's units are not centimetres in both directions.
    """

    number: int
    box: tuple[int, int, int, int]
    spatial_format: int
    data_type: int
    spacing_mm: tuple[float, float] | None

    @property
    def is_tissue(self) -> bool:
        """2-D (RegionSpatialFormat 1) and tissue (RegionDataType 1): not M-mode, Doppler, spectral or a trace."""
        return self.spatial_format == 1 and self.data_type == 1


@dataclass(frozen=True, slots=True)
class Instance:
    """One image object as its header describes it. `patient_key` is a digest: it compares, it does not name.

    It covers PatientID, its issuer, name and birth date: one PatientID under two issuers is two patients.
    `patient_id_key` is a digest of PatientID alone ("" where there is none), so that this can be said.
    `refusal` says why an instance must not be read although its header could be: it still belongs to its study, so
    that the study is never answered as if the image did not exist. Its rows, columns and frames may then be unknown.
    `projection` is what a mammogram's header says of its view; None for all else, and for what the firewall refused.
    `acquisition` is what the header of an MR image says of its frames; None likewise, and for a body part that nobody
    asked for.
    """

    path: Path
    name: str
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    rows: int
    columns: int
    frames: int | None
    series_number: int
    instance_number: int
    body_part: str
    patient_key: str
    spacing_mm: tuple[float, float] | None
    regions: tuple[Region, ...]
    origin: Origin
    passport: Passport
    refusal: ReasonCode | None = None
    patient_id_key: str = ""
    projection: Projection | None = None
    acquisition: Acquisition | None = None


Parts = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of headers.

    `site` overrides what they say (InstitutionName). `mr_parts` are the BodyPartExamined values of the MR images whose
    weighting is read ("" is unsaid); None means all.
    """

    site: str | None = None
    mr_parts: Parts = None


class NotPlain(Exception):  # noqa: N818 - a question for pydicom, not an error
    """A value that only pydicom may interpret."""


class Facts:
    """The raw values of a header (or of one item), read like a Dataset: `get(keyword)`, `keyword in facts`."""

    def __init__(self, values: Values, items: dict[int, list[Values]], is_little: bool, encoding: str) -> None:
        self._values = values
        self._items = items
        self._is_little = is_little
        self._encoding = encoding

    @staticmethod
    def of(header: Header) -> Facts:
        charset = header.values.get(_CHARACTER_SET, (None, b""))[1].strip(b" \0")
        # ISO_IR 13 puts a yen sign at the backslash; any other character set leaves ASCII as it is.
        encoding = "" if b"13" in charset else _ENCODINGS.get(charset, "ascii")
        return Facts(header.values, header.items, header.is_little, encoding)

    def __contains__(self, keyword: str) -> bool:
        return _ELEMENTS[keyword][0] in self._values

    def get(self, keyword: str, default: Any = None) -> Any:
        if keyword == "SequenceOfUltrasoundRegions":
            if REGIONS in self._values:
                raise NotPlain
            return [Facts(item, {}, self._is_little, self._encoding) for item in self._items.get(REGIONS, [])]
        tag, vr = _ELEMENTS[keyword]
        stored = self._values.get(tag)
        if stored is None:
            return default
        if stored[0] is not None and stored[0] != vr:
            raise NotPlain
        return _plain_value(vr, stored[1], self._is_little, self._encoding)

    def series_key(self) -> tuple[Any, ...] | None:
        """All that origin and passport are read from; None where they also depend on the items of sequences."""
        if self._items:
            return None
        values = self._values
        return (self._encoding, self._is_little, *(values.get(tag) for tag in _SERIES_TAGS))

    def raw(self, keyword: str) -> bytes:
        return self._values.get(_ELEMENTS[keyword][0], (None, b""))[1]


@lru_cache(maxsize=8192)
def _plain_value(vr: bytes, raw: bytes, is_little: bool, encoding: str) -> Any:
    """As pydicom converts it, for plain values. Names of patients never come here: only their digest is asked for."""
    if form := _BINARY.get((vr, is_little)):
        if not raw:
            return None
        if len(raw) != form.size:
            raise NotPlain
        return form.unpack(raw)[0]
    try:
        text = raw.decode(encoding if vr == b"LO" else "ascii")
    except (UnicodeDecodeError, LookupError) as error:
        raise NotPlain from error
    if "\x1b" in text:
        raise NotPlain
    if vr == b"LO":
        parts = [part.rstrip("\0 ") for part in text.split("\\")]
        return parts[0] if len(parts) == 1 else parts
    text = text.rstrip("\0 ")
    if vr == b"DS":
        return _numbers(text, _DECIMAL, float)
    if "\\" in text:
        raise NotPlain
    return _numbers(text, _INTEGER, int) if vr == b"IS" else text


def _numbers(text: str, form: Any, kind: Any) -> Any:
    """One number, a list of several, None for an empty value."""
    if not text:
        return None
    parts = [part.strip(" ") for part in text.split("\\")]
    if not all(form.fullmatch(part) for part in parts):
        raise NotPlain
    numbers = [kind(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else numbers


def describe(path: Path, name: str, syntax: str, header: Dataset | Facts, asked: Asked) -> Instance:
    """The facts of one image header. Raises InputError when a UID is missing.

    A mammogram's view and the weighting of an MR image stand in nested sequences, private blocks and dozens of rare
    elements, so pydicom reads their headers; MR images of which it was not asked stay with our own walk, which is
    fifteen times faster.
    """
    instance = describe_common(path, name, syntax, header, asked.site)
    if instance.sop_class_uid in MR_IMAGES and (asked.mr_parts is None or instance.body_part in asked.mr_parts):
        if isinstance(header, Facts):
            raise NotPlain
        from imaging.dicom.headers.acquisition import read_acquisition  # pydicom: workers start twice as fast without

        return replace(instance, acquisition=read_acquisition(header, name))
    if not is_mammogram(instance.modality, instance.sop_class_uid, instance.body_part):
        return instance
    if isinstance(header, Facts):
        raise NotPlain
    projection = read_projection(header)
    return replace(instance, projection=projection, spacing_mm=projection.spacing_mm)


def describe_common(path: Path, name: str, syntax: str, header: Dataset | Facts, site: str | None) -> Instance:
    """What the headers of all images say alike. Raises InputError when a UID is missing."""
    uids = [str(header.get(key, "")) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    if not all(uids):
        raise InputError("a Study, Series or SOP Instance UID is missing or empty", Reason.MISSING_UID)
    spacing = header.get("PixelSpacing")
    frames = header.get("NumberOfFrames")
    origin, passport = _provenance(header, site)
    patient = [_identity(header, key) for key in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")]
    return Instance(
        path=path,
        name=name,
        study_uid=uids[0],
        series_uid=uids[1],
        sop_uid=uids[2],
        sop_class_uid=str(header.get("SOPClassUID", "")),
        transfer_syntax_uid=syntax,
        modality=str(header.get("Modality", "")),
        rows=int(header.get("Rows")),
        columns=int(header.get("Columns")),
        frames=None if frames in (None, "") else int(frames),
        series_number=int(header.get("SeriesNumber") or 0),
        instance_number=int(header.get("InstanceNumber") or 0),
        body_part=str(header.get("BodyPartExamined", "")).strip().upper(),
        patient_key=hashlib.sha256(b"".join(part + b"\x1f" for part in patient)).hexdigest(),
        spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
        regions=tuple(_region(item, k) for k, item in enumerate(header.get("SequenceOfUltrasoundRegions") or [])),
        origin=origin,
        passport=passport,
        patient_id_key=patient_id_key(patient[0]),
    )


def patient_id_key(patient_id: bytes) -> str:
    """The digest by which PatientIDs are compared, from the raw bytes without padding; "" for none."""
    return hashlib.sha256(patient_id).hexdigest() if patient_id else ""


_Provenance = tuple[Origin, Passport]
_known: dict[Any, _Provenance] = {}


def _provenance(header: Dataset | Facts, site: str | None) -> _Provenance:
    """Origin and passport; worked out once for all headers of a series that say the same, byte for byte."""
    key = header.series_key() if isinstance(header, Facts) else None
    if key is None:
        return read_origin(header, site), read_passport(header)
    if (key, site) not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key, site] = read_origin(header, site), read_passport(header)
    return _known[key, site]


def describe_refused(path: Path, name: str, header: Header, site: str | None) -> Instance:
    """What is known of an image that the firewall refused. Raises InputError or NotPlain when it cannot be placed."""
    assert header.refusal is not None
    values = dict(header.values)
    for keyword in ("Rows", "Columns"):
        values.setdefault(_ELEMENTS[keyword][0], (None, b"\0\0"))
    facts = Facts.of(replace(header, values=values))
    return refused(describe_common(path, name, header.transfer_syntax_uid, facts, site), header.refusal.reason)


def refused(instance: Instance, reason: ReasonCode) -> Instance:
    """The instance as one that must not be read. It counts as one frame: a count of frames that cannot be believed
    would make as many entries in every list of what was not read."""
    return replace(instance, refusal=reason, frames=None)


def _region(item: Dataset | Facts, number: int) -> Region:
    centimetres = item.get("PhysicalUnitsXDirection") == 3 and item.get("PhysicalUnitsYDirection") == 3
    steps = (abs(float(item.get("PhysicalDeltaY") or 0)) * 10, abs(float(item.get("PhysicalDeltaX") or 0)) * 10)
    return Region(
        number=number,
        box=(
            int(item.get("RegionLocationMinY0")),
            int(item.get("RegionLocationMinX0")),
            int(item.get("RegionLocationMaxY1")) + 1,
            int(item.get("RegionLocationMaxX1")) + 1,
        ),
        spatial_format=int(item.get("RegionSpatialFormat") or 0),
        data_type=int(item.get("RegionDataType") or 0),
        spacing_mm=steps if centimetres and min(steps) > 0 else None,
    )


def _identity(header: Dataset | Facts, keyword: str) -> bytes:
    """The raw bytes of an identifying element. Trailing delimiters and padding carry nothing: "Doe^J" and "Doe^J^^ "
    are one name (PS3.5 6.2)."""
    if isinstance(header, Facts):
        value: Any = header.raw(keyword)
    else:
        value = getattr(header.get_item(keyword), "value", b"") or b""
    return (value if isinstance(value, bytes) else str(value).encode()).rstrip(b" ^=\0")
