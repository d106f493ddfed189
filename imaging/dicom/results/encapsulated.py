"""Reads an Encapsulated PDF object (PS3.3 A.45.1) back: its attributes, and the words on its pages.

Words are read from the page streams of PDF files that keep them uncompressed (ISO 32000-1, 7.8 and 9.4), in the fonts
that need no table of their own: WinAnsi text, and CJK text under a predefined UCS-2 map.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Final

import pydicom
from pydicom import Dataset

from imaging.dicom.results.content_tree import Reference, code, reference
from imaging.dicom.results.read import DAMAGE, equipment_of, raw_value
from imaging.dicom.results.records import Equipment
from imaging.errors import InputError, Reason
from imaging.findings import Code

_FONT: Final = re.compile(rb"/Encoding /(\S+) /Name /(F\d+) ")
_STREAM: Final = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_SHOWN: Final = re.compile(rb"/(F\d+) [\d.]+ Tf|\(((?:[^\\()]|\\.)*)\) Tj|\b(ET)\b|(T\*)", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_CONTROLS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


@dataclass(frozen=True)
class ReadDocument:
    """An encapsulated document. `identity` holds the raw bytes of the asked tags that the file has."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    identity: dict[int, bytes]
    equipment: tuple[Equipment, ...]
    title: str
    concept: Code | None
    media_type: str
    burned_in: str
    modality: str
    verification: str
    content_time: str
    sources: tuple[Reference, ...]
    length: int | None
    data: bytes


def read_document(data: bytes, tags: frozenset[int] = frozenset()) -> ReadDocument:
    """The encapsulated document in the bytes of a DICOM file. Raises InputError, with the reason, for anything else."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        return _document(dataset, {tag: raw_value(dataset, tag) for tag in sorted(tags) if tag in dataset})
    except DAMAGE as error:
        raise InputError(
            f"result file: {type(error).__name__} while reading it; allowed is a complete encapsulated document",
            Reason.UNREADABLE_HEADER,
        ) from error


def _document(dataset: Dataset, identity: dict[int, bytes]) -> ReadDocument:
    length = dataset.get("EncapsulatedDocumentLength")
    return ReadDocument(
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_uid=str(dataset.get("SOPInstanceUID", "")),
        series_uid=str(dataset.get("SeriesInstanceUID", "")),
        identity=identity,
        equipment=equipment_of(dataset),
        title=str(dataset.get("DocumentTitle", "")),
        concept=code(dataset.get("ConceptNameCodeSequence")),
        media_type=str(dataset.get("MIMETypeOfEncapsulatedDocument", "")),
        burned_in=str(dataset.get("BurnedInAnnotation", "")),
        modality=str(dataset.get("Modality", "")),
        verification=str(dataset.get("VerificationFlag", "")),
        content_time=f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}",
        sources=tuple(reference(item) for item in dataset.get("SourceInstanceSequence") or []),
        length=None if length is None else int(length),
        data=bytes(dataset.EncapsulatedDocument),
    )


def words_of_pdf(data: bytes) -> str:
    """The text of all pages in the order of drawing, each line ended. Raises ValueError for what is no PDF."""
    if not data.startswith(b"%PDF-") or not data.rstrip().endswith(b"%%EOF"):
        raise ValueError("the encapsulated document is no complete PDF")
    encodings = {font: encoding for encoding, font in _FONT.findall(data)}
    words: list[str] = []
    for stream in _STREAM.findall(data):
        font = b""
        for match in _SHOWN.finditer(stream):
            if match[1]:
                font = match[1]
            elif match[2] is None:  # the end of a text object, or the next line of it
                words.append("\n")
            elif font in encodings:
                words.append(_decoded(match[2], encodings[font]))
    return "".join(words)


def _decoded(shown: bytes, encoding: bytes) -> str:
    plain = _ESCAPE.sub(_unescaped, shown)
    return plain.decode("utf-16-be" if encoding.endswith(b"-UCS2-H") else "cp1252")


def _unescaped(match: re.Match[bytes]) -> bytes:
    """The byte of an escape in a literal string (ISO 32000-1, table 3)."""
    if match[1].isdigit():
        return bytes([int(match[1], 8)])
    return _CONTROLS.get(match[1], match[1])
