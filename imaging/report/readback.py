"""Read back before release: every document, from its bytes, against the result and the sources it came from.

The reading is `imaging.dicom.results.read`, which shares no code with the writing. Messages name the object, the
attribute or row, what was found and what is allowed; a value of the patient's identity is never among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from imaging import __version__
from imaging.dicom.results.records import Equipment
from imaging.errors import InputError, ReadbackError, Reason
from imaging.exam.result import ExamResult
from imaging.report.agreement import refuse
from imaging.report.document import ECHOED, MANUFACTURER, MODEL, SOP_INSTANCE_UID, Document, content_uid, identity_of
from imaging.report.kind import ObjectKind, ReadBack, ReadObject, Subject
from imaging.report.sr import codes
from imaging.report.sr.statements import images_of

_FILE_META_START: Final = 132


def verify(documents: Sequence[Document], subject: Subject, kinds: Sequence[ObjectKind]) -> None:
    """Raises ReadbackError at the first disagreement between the documents and the result or its sources.

    Every document has bytes, class, identity and equipment as every object of a result has them, and is of one of
    `kinds`; then each kind compares what its objects say.
    """
    result, by_name = subject.result, {kind.name: kind for kind in kinds}
    for document in documents:
        if document.kind not in by_name:
            refuse(f"study {result.study_uid}", "objects", f"one of kind {document.kind}", ", ".join(by_name))
        _check_bytes(document)
    read = [(document.kind, _read(document, by_name[document.kind])) for document in documents]
    # From the headers again, not from the subject, which the writers took it from.
    expected = identity_of(subject.sources[next(iter(images_of(result)))])
    for name, found in read:
        if found.sop_class_uid != by_name[name].sop_class_uid:
            refuse(found.sop_uid, "SOPClassUID (0008,0016)", found.sop_class_uid, by_name[name].sop_class_uid)
        _check_identity(found.sop_uid, found.identity, expected)
        _check_equipment(found.sop_uid, found.equipment, result)
    back = ReadBack(subject, {name: [found for of, found in read if of == name] for name in by_name})
    for kind in reversed(kinds):  # what refers to another object before that object
        kind.check(back, kind)


def _read(document: Document, kind: ObjectKind) -> ReadObject:
    try:
        return kind.read(document.data, frozenset(ECHOED))
    except InputError as error:
        raise ReadbackError(f"{document.kind} {document.sop_instance_uid}: {error}", Reason.READBACK_FAILED) from error


def _check_bytes(document: Document) -> None:
    """Zero preamble, and the SOP Instance UID is the one that the rest of the bytes give."""
    where, data = f"{document.kind} {document.sop_instance_uid}", document.data
    if data[:_FILE_META_START] != bytes(128) + b"DICM":
        refuse(where, "preamble", "other bytes", "128 zero bytes and DICM")
    # Group length (0002,0000) UL comes first and counts the bytes after itself (PS3.10 7.1).
    start = _FILE_META_START + 12 + int.from_bytes(data[_FILE_META_START + 8 : _FILE_META_START + 12], "little")
    body, uid = data[start:], document.sop_instance_uid.encode()
    head = (SOP_INSTANCE_UID >> 16).to_bytes(2, "little") + (SOP_INSTANCE_UID & 0xFFFF).to_bytes(2, "little") + b"UI"
    padded = uid + b"\0" * (len(uid) % 2)
    blank = body.replace(head + len(padded).to_bytes(2, "little") + padded, head + b"\0\0", 1)
    if content_uid(document.sop_class_uid, blank) != document.sop_instance_uid:
        refuse(where, "SOPInstanceUID (0008,0018)", "a UID that is not the hash of the object", "its content's UID")


def _check_identity(where: str, found: Mapping[int, bytes], expected: Mapping[int, bytes]) -> None:
    for tag, (_, always) in ECHOED.items():
        wanted = expected.get(tag, b"" if always else None)
        if tag == 0x00080005 and not (wanted or b"").strip():
            wanted = None
        if found.get(tag) != wanted:
            what = "other bytes" if tag in found else "nothing"
            refuse(where, f"({tag >> 16:04X},{tag & 0xFFFF:04X})", what, "the source's bytes")


def _check_equipment(where: str, found: Sequence[Equipment], result: ExamResult) -> None:
    by = result.algorithm
    maker = Equipment(None, MANUFACTURER, MODEL, __version__, by.identity[:64])
    algorithm = Equipment(
        codes.PROCESSING_EQUIPMENT, by.manufacturer[:64], by.name[:64], by.version[:64], by.identity[:64]
    )
    if list(found) != [maker, algorithm]:
        refuse(where, "equipment (0008,0070), (0018,A001)", "other equipment", "this toolkit and the algorithm")
