"""One header → one Instance, from the raw values of a walk where they are plain, from pydicom where they are not.

Study, Series and SOP Instance UID are enough to belong to a study. Every other value is read for itself: one that
nobody can read costs that value, and an image that cannot be described without it stays in its study, refused.

`Facts` answers like a pydicom Dataset for the few elements that a description needs, fifteen times faster. It answers
only what pydicom would answer: a value that is anything but plain (another VR, several values, an escape sequence, a
character set that is neither ASCII, Latin-1 nor UTF-8) raises NotPlain, and pydicom decides.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from pathlib import Path
from re import compile as pattern
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar
from unicodedata import normalize

from imaging.dicom.headers.classes import MR_IMAGES
from imaging.dicom.headers.passport import Passport, read_origin, read_passport
from imaging.dicom.headers.view import Projection, is_mammogram, read_projection
from imaging.dicom.parsing.firewall import Header
from imaging.dicom.parsing.walk import Values
from imaging.errors import InputError, Reason, ReasonCode
from imaging.image import Origin

if TYPE_CHECKING:
    from pydicom import Dataset

    from imaging.dicom.headers.acquisition import MrAcquisition

# Modality by SOP class, for a header that does not state it: classes that are made by one modality alone.
_MODALITY_OF_CLASS: Final = {
    **dict.fromkeys(MR_IMAGES, "MR"),
    **{f"1.2.840.10008.5.1.4.1.1.{suffix}": "US" for suffix in ("6.1", "3.1", "6", "3")},
    **{f"1.2.840.10008.5.1.4.1.1.{suffix}": "MG" for suffix in ("1.2", "1.2.1", "13.1.3")},
}
REGIONS: Final = 0x00186011
_CENTIMETRES: Final = 3
_TISSUE: Final = 1
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
    "QualityControlImage": (0x00280300, b"CS"),
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
_ROWS, _COLUMNS = _ELEMENTS["Rows"][0], _ELEMENTS["Columns"][0]
_PATIENT_TAGS: Final = (0x00100010, 0x00100020, 0x00100021, 0x00100030)
_NOTHING: Final = (None, b"")
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
class FrameRegion:
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

    It covers PatientID with the name, its issuer, and the birth date: `is_one_patient` compares them, and one PatientID
    under two issuers is two patients.
    `patient_id_key` is a digest of PatientID alone ("" where there is none), so that this can be said.
    `refusal` says why an instance must not be read although its header could be: it still belongs to its study, so
    that the study is never answered as if the image did not exist. Its rows, columns and frames may then be unknown.
    `projection` is what a mammogram's header says of its view; None for all else, and for what the firewall refused.
    `acquisition` is what the header of an MR image says of its frames; None likewise, and for a body part that nobody
    asked for.
    `left_out` says why an image of the study is none that is read, whatever it shows: it is for quality control,
    rejected by a Key Object, or a slice that is there twice.
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
    regions: tuple[FrameRegion, ...]
    origin: Origin
    passport: Passport
    refusal: ReasonCode | None = None
    patient_id_key: str = ""
    projection: Projection | None = None
    acquisition: MrAcquisition | None = None
    left_out: ReasonCode | None = None


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

    @classmethod
    def of(cls, header: Header) -> Self:
        charset = header.values.get(_CHARACTER_SET, (None, b""))[1].strip(b" \0")
        # ISO_IR 13 puts a yen sign at the backslash; any other character set leaves ASCII as it is.
        encoding = "" if b"13" in charset else _ENCODINGS.get(charset, "ascii")
        return cls(header.values, header.items, header.is_little, encoding)

    def __contains__(self, keyword: str) -> bool:
        return _ELEMENTS[keyword][0] in self._values

    def get(self, keyword: str, default: Any = None) -> Any:
        if keyword == "SequenceOfUltrasoundRegions":
            if REGIONS in self._values:
                raise NotPlain
            items = self._items.get(REGIONS, [])
            return [type(self)(item, {}, self._is_little, self._encoding) for item in items]
        tag, vr = _ELEMENTS[keyword]
        stored = self._values.get(tag)
        if stored is None:
            return default
        if stored[0] is not None and stored[0] != vr:
            raise NotPlain
        return _plain_value(vr, stored[1], self._is_little, self._encoding)

    def patient(self) -> bytes:
        """All that a patient's keys are made of."""
        parts = [self._values.get(tag, _NOTHING)[1] for tag in _PATIENT_TAGS]
        return b"\x1f".join((self._encoding.encode(), *parts))

    def name(self) -> str:
        """PatientName decoded. Raises NotPlain when only pydicom can, and is no ground to refuse where it must not."""
        raw = self.raw("PatientName")
        try:
            if b"\x1b" not in raw:
                return raw.decode(self._encoding)
        except (UnicodeDecodeError, LookupError):
            pass
        raise NotPlain

    def series_key(self) -> tuple[Any, ...] | None:
        """All that origin and passport are read from; None where they also depend on the items of sequences."""
        if self._items:
            return None
        values = self._values
        return (self._encoding, self._is_little, *(values.get(tag) for tag in _SERIES_TAGS))

    def raw(self, keyword: str) -> bytes:
        return self._values.get(_ELEMENTS[keyword][0], (None, b""))[1]


class FactsAlone(Facts):
    """Facts of a header that pydicom must not or cannot read: what is not plain stays unsaid."""

    def get(self, keyword: str, default: Any = None) -> Any:
        try:
            return super().get(keyword, default)
        except NotPlain:
            return default

    def name(self) -> str:
        try:
            return super().name()
        except NotPlain:
            return self.raw("PatientName").decode("latin-1")


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


class HeaderFile(NamedTuple):
    """Where a file is, its path in the export, its transfer syntax, and what is asked of it."""

    path: Path
    name: str
    syntax: str
    asked: Asked


def describe(file: HeaderFile, header: Dataset | Facts, odd: list[str]) -> Instance:
    """The facts of one image header; `odd` is told the keyword of each value that could not be read.

    Raises InputError: MISSING_UID when a UID is missing, UNREADABLE_HEADER when its size cannot be told.

    A mammogram's view and the weighting of an MR image stand in nested sequences, private blocks and dozens of rare
    elements, so pydicom reads their headers; MR images of which it was not asked stay with our own walk, which is
    fifteen times faster.
    """
    instance = describe_common(file, header, odd)
    parts = file.asked.mr_parts
    if instance.sop_class_uid in MR_IMAGES and (parts is None or instance.body_part in parts):
        if isinstance(header, Facts):
            raise NotPlain
        from imaging.dicom.headers.acquisition import read_acquisition  # pydicom: workers start twice as fast without

        return replace(instance, acquisition=read_acquisition(header, file.name))
    if not is_mammogram(instance.modality, instance.sop_class_uid, instance.body_part):
        return instance
    if isinstance(header, Facts):
        raise NotPlain
    projection = read_projection(header)
    return replace(instance, projection=projection, spacing_mm=projection.spacing_mm)


def describe_common(file: HeaderFile, header: Dataset | Facts, odd: list[str]) -> Instance:
    """What the headers of all images say alike. Raises as `describe`."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    uids = [_read(header, name, _word, "", odd) for name in names]
    if not all(uids):
        missing = [name for name, uid in zip(names, uids, strict=True) if not uid]
        raise InputError(f"{', '.join(missing)}: missing or empty", Reason.MISSING_UID)
    rows, columns = (_read(header, key, int, -1, odd) for key in ("Rows", "Columns"))
    if min(rows, columns) < 0:
        raise InputError(
            f"Rows, Columns: found {rows}, {columns}, -1 for what cannot be read", Reason.UNREADABLE_HEADER
        )
    frames = _read(header, "NumberOfFrames", int, None, odd)
    if "NumberOfFrames" in odd:
        raise InputError("NumberOfFrames cannot be read; allowed is a whole number", Reason.UNREADABLE_HEADER)
    sop_class_uid = _read(header, "SOPClassUID", _word, "", odd)
    items: list[Any] = _read(header, "SequenceOfUltrasoundRegions", list, [], odd)
    origin, passport = _provenance(header, file.asked.site)
    quality_control = _read(header, "QualityControlImage", _word, "", odd).upper()
    patient_key, id_key = _patient(header)
    return Instance(
        path=file.path,
        name=file.name,
        study_uid=uids[0],
        series_uid=uids[1],
        sop_uid=uids[2],
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid=file.syntax,
        modality=_read(header, "Modality", _word, "", odd) or _MODALITY_OF_CLASS.get(sop_class_uid, ""),
        rows=rows,
        columns=columns,
        frames=frames,
        series_number=_read(header, "SeriesNumber", int, 0, odd),
        instance_number=_read(header, "InstanceNumber", int, 0, odd),
        body_part=_read(header, "BodyPartExamined", _word, "", odd).upper(),
        patient_key=patient_key,
        spacing_mm=_read(header, "PixelSpacing", _pair, None, odd),
        regions=tuple(_region(item, k, (rows, columns), odd) for k, item in enumerate(items)),
        origin=origin,
        passport=passport,
        patient_id_key=id_key,
        left_out=Reason.QUALITY_CONTROL if quality_control == "YES" else None,
    )


_Value = TypeVar("_Value")


def _read(
    header: Dataset | Facts, keyword: str, convert: Callable[[Any], _Value], default: _Value, odd: list[str]
) -> _Value:
    """One value of a header; `default` where it is absent, empty or cannot be read."""
    try:
        value = header.get(keyword)
        return default if value is None or value == "" else convert(value)
    except NotPlain:
        raise
    except Exception:  # noqa: BLE001 - values of broken headers raise nearly anything, and each costs itself alone
        odd.append(keyword)
        return default


def _word(value: Any) -> str:
    """Text; of several values the first."""
    return str(value if isinstance(value, str) else next(iter(value))).strip()


def _pair(value: Any) -> tuple[float, float]:
    """Two positive steps. Raises ValueError for anything else."""
    row, column = (float(step) for step in value)
    if not (isfinite(row) and isfinite(column)):
        raise ValueError("not finite")
    return row, column


def patient_id_key(patient_id: bytes) -> str:
    """The digest by which PatientIDs are compared, from the raw bytes without padding; "" for none."""
    return hashlib.sha256(patient_id).hexdigest() if patient_id else ""


def is_one_patient(keys: Iterable[str]) -> bool:
    """Whether `patient_key`s are those of one patient: PatientID, name and birth date are equal, and no two issuers are
    stated. A gateway adds an issuer."""
    who, issuers, births = (set(parts) for parts in zip(*(key.split(":") for key in keys), strict=True))
    return len(who) == 1 and len(issuers - {""}) <= 1 and len(births) == 1


def _patient(header: Dataset | Facts) -> tuple[str, str]:
    """The keys of the patient, and of PatientID alone; worked out once for all headers with the same bytes."""
    if not isinstance(header, Facts):
        return _patient_keys(header)
    digest = hashlib.sha256(header.patient()).digest()
    if digest not in _known_patients:
        if len(_known_patients) >= _MOST_KNOWN:
            _known_patients.clear()
        _known_patients[digest] = _patient_keys(header)
    return _known_patients[digest]


_known_patients: dict[bytes, tuple[str, str]] = {}


def _patient_keys(header: Dataset | Facts) -> tuple[str, str]:
    who, issuer, birth = (_identity(header, k) for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate"))
    parts = (who + b"\x1f" + _name(header).encode(), issuer, birth)
    key = ":".join(hashlib.sha256(part).hexdigest() if part.strip(b"\x1f") else "" for part in parts)
    return key, patient_id_key(who)


def _name(header: Dataset | Facts) -> str:
    """PatientName as names are compared: decoded, without case, padding or trailing delimiters. "Doe^J" and "DOE^J^^ "
    are one name, in whatever character set (PS3.5 6.2, PS3.4 C.2.2.2.1)."""
    if isinstance(header, Facts):
        name = header.name()
    else:
        try:
            name = str(header.get("PatientName", "") or "")
        except Exception:  # noqa: BLE001 - bytes that are in no character set raise nearly anything; they still compare
            name = _identity(header, "PatientName").decode("latin-1")
    if not name.isascii():
        name = normalize("NFKC", name)
    return " ".join(name.casefold().split()).rstrip(" ^=\0")


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


def describe_refused(file: HeaderFile, header: Header, reason: ReasonCode) -> Instance:
    """What is known of an image that must not or cannot be described. Raises InputError when a UID is missing."""
    values = dict(header.values)
    for keyword in ("Rows", "Columns"):
        if len(values.get(_ELEMENTS[keyword][0], (None, b""))[1]) != 2:
            values[_ELEMENTS[keyword][0]] = (None, b"\0\0")
    facts = FactsAlone.of(replace(header, values=values))
    instance = refused(describe_common(file, facts, []), reason)
    if is_mammogram(instance.modality, instance.sop_class_uid, instance.body_part):
        return replace(instance, projection=Projection(None))
    return instance


def refused(instance: Instance, reason: ReasonCode) -> Instance:
    """The instance as one that must not be read. It counts as one frame: a count of frames that cannot be believed
    would make as many entries in every list of what was not read."""
    return replace(instance, refusal=reason, frames=None)


def is_image(header: Header) -> bool:
    """Whether an object is to have pixels: by its size, by pixel data, or by a class that is nothing but an image."""
    if header.pixels is not None or (_ROWS in header.values and _COLUMNS in header.values):
        return True
    return header.values.get(_ELEMENTS["SOPClassUID"][0], (None, b""))[1].decode("latin-1").strip(" \0") in (
        _MODALITY_OF_CLASS
    )


def _region(item: Dataset | Facts, number: int, shape: tuple[int, int], odd: list[str]) -> FrameRegion:
    """One region. An edge that is not stated is that of the image, and a kind that is not stated may be tissue."""
    centimetres = all(_read(item, f"PhysicalUnits{axis}Direction", int, 0, odd) == _CENTIMETRES for axis in ("X", "Y"))
    steps = tuple(abs(_read(item, f"PhysicalDelta{axis}", float, 0.0, odd)) * 10 for axis in ("Y", "X"))
    edges = {}
    for keyword, edge in (("MinY0", 0), ("MinX0", 0), ("MaxY1", shape[0] - 1), ("MaxX1", shape[1] - 1)):
        stated = _read(item, f"RegionLocation{keyword}", int, None, odd)
        if stated is None:
            odd.append(f"RegionLocation{keyword}")
        edges[keyword] = edge if stated is None else stated
    kinds = []
    for keyword in ("RegionSpatialFormat", "RegionDataType"):
        kind = _read(item, keyword, int, None, odd)
        if kind is None:
            odd.append(keyword)
        kinds.append(_TISSUE if kind is None else kind)
    return FrameRegion(
        number=number,
        box=(edges["MinY0"], edges["MinX0"], edges["MaxY1"] + 1, edges["MaxX1"] + 1),
        spatial_format=kinds[0],
        data_type=kinds[1],
        spacing_mm=(steps[0], steps[1]) if centimetres and min(steps) > 0 and all(map(isfinite, steps)) else None,
    )


def _identity(header: Dataset | Facts, keyword: str) -> bytes:
    """The raw bytes of an identifying element. Trailing delimiters and padding carry nothing: "Doe^J" and "Doe^J^^ "
    are one name (PS3.5 6.2)."""
    if isinstance(header, Facts):
        value: Any = header.raw(keyword)
    else:
        value = getattr(header.get_item(keyword), "value", b"") or b""
    return (value if isinstance(value, bytes) else str(value).encode()).rstrip(b" ^=\0")
