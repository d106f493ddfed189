"""Read-back of readable reports: attributes, sources, and that every line of the report stands on the pages."""

from __future__ import annotations

from imaging.dicom.results.encapsulated import ReadDocument, words_of_pdf
from imaging.report.agreement import check_reference, refuse
from imaging.report.kind import ObjectKind, ReadBack
from imaging.report.pdf import letters
from imaging.report.pdf.content import BANNER, TITLE, sections
from imaging.report.pdf.write import MEDIA_TYPE, MODALITY
from imaging.report.sr import codes
from imaging.report.sr.statements import extent, images_of


def check_pdf(back: ReadBack, kind: ObjectKind) -> None:
    """Raises ReadbackError at the first disagreement between the document and the result or its sources."""
    read, subject = back.only(kind, ReadDocument), back.subject
    for field, found, wanted in (
        ("Modality (0008,0060)", read.modality, MODALITY),
        ("DocumentTitle (0042,0010)", read.title, TITLE),
        ("ConceptNameCodeSequence (0040,A043)", read.concept, codes.MEASUREMENT_REPORT),
        ("MIMETypeOfEncapsulatedDocument (0042,0012)", read.media_type, MEDIA_TYPE),
        ("BurnedInAnnotation (0028,0301)", read.burned_in, "YES"),
        ("VerificationFlag (0040,A493)", read.verification, "UNVERIFIED"),
        ("content date and time", read.content_time, subject.content_time.strftime("%Y%m%d%H%M%S")),
        ("EncapsulatedDocumentLength (0042,0015)", read.length, len(read.data)),
        ("sources", [one.sop_uid for one in read.sources], list(images_of(subject.result))),
    ):
        if found != wanted:
            refuse(read.sop_uid, field, found, wanted)
    for source in read.sources:
        check_reference(read.sop_uid, source, subject.sources)
    _check_words(read, back)


def _check_words(read: ReadDocument, back: ReadBack) -> None:
    """The outcome and every other line are on the pages; of a line that is not, no word is repeated here."""
    try:
        words = _joined(words_of_pdf(read.data))
    except ValueError as error:
        refuse(read.sop_uid, "EncapsulatedDocument (0042,0011)", error, "a complete PDF file with readable text")
    result = back.subject.result
    for what, line in (("banner", BANNER), ("outcome", f"Finding: {result.finding}. {extent(result)}")):
        if _joined(line) not in words:
            refuse(read.sop_uid, "EncapsulatedDocument (0042,0011)", f"no {what}", "every line of the report")
    for section in sections(back.subject):
        for number, line in enumerate(section.lines, start=1):
            if _joined(letters.drawn(line)) not in words:
                where = f"another line {number} of {section.heading!r}"
                refuse(read.sop_uid, "EncapsulatedDocument (0042,0011)", where, "every line of the report")


def _joined(text: str) -> str:
    """Without blanks: pages break lines where they end, and long identifiers anywhere."""
    return "".join(text.split())
