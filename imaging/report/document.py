"""Document: one sealed DICOM object, and what all objects of a result share.

Same UID ⇔ same bytes: the SOP Instance UID is a hash of the encoded object in which that UID is empty. The patient's
and the study's identity are the source's own bytes, never decoded and encoded again; all other text is ASCII, so it
reads the same under every Specific Character Set (PS3.5 6.1).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from imaging import __version__
from imaging.errors import ImagingError, Reason

Identity = Mapping[int, bytes]

SOP_INSTANCE_UID: Final = 0x00080018
TIMEZONE: Final = 0x00080201
# What may stand there; anything else is not echoed, because no reader could use it.
_OFFSET: Final = re.compile(rb"[+-](0\d|1[0-4])[0-5]\d *")
MANUFACTURER: Final = "Sitewise"
MODEL: Final = "sitewise-imaging"

# Patient, General Study and SOP Common identity: tag → VR and whether the attribute is written empty (Type 2) when
# the source lacks it (PS3.3 C.7.1.1, C.7.2.1, C.12.1).
ECHOED: Final[dict[int, tuple[str, bool]]] = {
    0x00080005: ("CS", False),  # Specific Character Set
    0x00080020: ("DA", True),  # Study Date
    0x00080030: ("TM", True),  # Study Time
    0x00080050: ("SH", True),  # Accession Number
    0x00080090: ("PN", True),  # Referring Physician's Name
    TIMEZONE: ("SH", False),  # Timezone Offset From UTC: of every date and time of the object (PS3.3 C.12.1)
    0x00081030: ("LO", False),  # Study Description
    0x00100010: ("PN", True),  # Patient's Name
    0x00100020: ("LO", True),  # Patient ID
    0x00100021: ("LO", False),  # Issuer of Patient ID
    0x00100030: ("DA", True),  # Patient's Birth Date
    0x00100040: ("CS", True),  # Patient's Sex
    0x0020000D: ("UI", True),  # Study Instance UID
    0x00200010: ("SH", True),  # Study ID
}
_TEXT: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"}
)


@dataclass(frozen=True)
class Document:
    """One DICOM object as the bytes of its file (PS3.10), ready to be stored under `file_name`.

    `kind` is the name of its kind (`report.kind`).
    """

    kind: str
    file_name: str
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    data: bytes


@dataclass(frozen=True, slots=True)
class IssuedObject:
    """Where a released object stands in its study; `kind` is the name of its kind."""

    kind: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Issue:
    """All objects that were released together of one study and package; `number` counts such issues from 1."""

    number: int
    objects: tuple[IssuedObject, ...]


def derived_uid(*parts: str) -> str:
    """The 2.25 UID (PS3.5 B.2) that these parts always give: a hash in the form of a UUID."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


IMPLEMENTATION_CLASS_UID: Final = derived_uid("sitewise-imaging", "implementation class")
IMPLEMENTATION_VERSION: Final = f"SITEWISE_{__version__}"[:16]


def identity_of(header: Dataset) -> dict[int, bytes]:
    """The identity of a source as its raw bytes: tag → value, absent where the source has no such attribute.

    Absent too is a time zone that is no offset.

    Raises ImagingError where a value was decoded before and is not plain ASCII, because its bytes are lost then.
    """
    identity: dict[int, bytes] = {}
    for tag in ECHOED:
        element = header.get_item(tag)
        if element is None:
            continue
        value = _raw_value(element) if isinstance(element, RawDataElement) else _plain_value(header, tag)
        if tag != TIMEZONE or _OFFSET.fullmatch(value):
            identity[tag] = value
    return identity


def _raw_value(element: RawDataElement) -> bytes:
    value = element.value or b""
    return value + (b"\0" if element.tag == 0x0020000D else b" ") * (len(value) % 2)


def _plain_value(header: Dataset, tag: int) -> bytes:
    value = header[tag].value
    parts = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    text = "\\".join("" if part is None else str(part) for part in parts)
    if not text.isascii():
        raise ImagingError(
            f"source header, {keyword_for_tag(tag)}: found a decoded value; allowed is the header as it was read, "
            "because only its raw bytes may go into a result",
            Reason.REPORT_FAILED,
        )
    encoded = text.encode("ascii")
    return encoded + (b"\0" if tag == 0x0020000D else b" ") * (len(encoded) % 2)


def seal(dataset: Dataset, identity: Identity, kind: str) -> Document:
    """The finished object: identity echoed, SOP Instance UID from the content, Part 10 file with a zero preamble."""
    _require_ascii(dataset)
    sop_class_uid = str(dataset.SOPClassUID)
    elements = _encoded_elements(dataset, identity)
    elements[SOP_INSTANCE_UID] = _packed(SOP_INSTANCE_UID, "UI", b"")
    uid = content_uid(sop_class_uid, b"".join(elements[tag] for tag in sorted(elements)))
    elements[SOP_INSTANCE_UID] = _packed(SOP_INSTANCE_UID, "UI", _even_uid(uid))
    body = b"".join(elements[tag] for tag in sorted(elements))
    name = f"{kind}-{hashlib.sha256(uid.encode()).hexdigest()[:16]}.dcm"
    data = bytes(128) + b"DICM" + _file_meta(sop_class_uid, uid) + body
    return Document(kind, name, sop_class_uid, uid, str(dataset.get("SeriesInstanceUID", "")), data)


def content_uid(sop_class_uid: str, body: bytes) -> str:
    """The SOP Instance UID of an encoded data set whose own SOP Instance UID is empty."""
    digest = hashlib.sha256(body).hexdigest()
    return derived_uid(sop_class_uid, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, digest)


def _encoded_elements(dataset: Dataset, identity: Identity) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    correct_ambiguous_vr(dataset, True)
    for element in dataset:
        if int(element.tag) in ECHOED:
            continue
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
        elements[int(element.tag)] = buffer.getvalue()
    for tag, (vr, always) in ECHOED.items():
        value = identity.get(tag)
        # An empty Specific Character Set says what an absent one says, and is not allowed (Type 1C, PS3.3 C.12.1.1.2).
        if tag == 0x00080005 and not (value or b"").strip():
            continue
        if value is not None or always:
            elements[tag] = _packed(tag, vr, value or b"")
    return elements


def _packed(tag: int, vr: str, value: bytes) -> bytes:
    """One element with a 16-bit length in Explicit VR Little Endian (PS3.5 7.1.2)."""
    group, number = tag >> 16, tag & 0xFFFF
    return b"".join(
        (
            group.to_bytes(2, "little"),
            number.to_bytes(2, "little"),
            vr.encode(),
            len(value).to_bytes(2, "little"),
            value,
        )
    )


def _even_uid(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _file_meta(sop_class_uid: str, uid: str) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return bytes(buffer.getvalue())


def _require_ascii(dataset: Dataset) -> None:
    for element in dataset.iterall():
        if element.VR not in _TEXT or int(element.tag) in ECHOED or element.value is None:
            continue
        text = str(element.value)
        if not (text.isascii() and text.isprintable()):
            raise ImagingError(
                f"result object, {element.keyword}: found {text!a}; allowed in our own text is printable ASCII",
                Reason.REPORT_FAILED,
            )
