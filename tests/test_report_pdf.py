"""Readable reports: every outcome on pages that say it, read back, and refused as soon as they say anything else."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from imaging.commands.infer import add_arguments
from imaging.dicom.results.encapsulated import ReadDocument, read_document, words_of_pdf
from imaging.errors import ReadbackError, Reason
from imaging.exam.result import Unread
from imaging.findings import Thumbnail
from imaging.image import Box, View
from imaging.inference.processes import Delivery, report
from imaging.report.document import ECHOED, Document, identity_of, seal
from imaging.report.kind import Subject
from imaging.report.pdf import letters
from imaging.report.pdf.content import BANNER, BORROWED, INEXACT, NOT_NEGATIVE
from imaging.report.pdf.person import UNDECODABLE, identity_rows
from imaging.report.readback import verify
from imaging.report.write import GENERAL, ON_REQUEST, write_documents
from tests.conftest import REPOSITORY, require_tool
from tests.judges import run_tool
from tests.report_cases import CASES, COLUMNS, CONTENT_TIME, NAMES, ROWS, STUDY, case, source

KINDS = (*GENERAL, *ON_REQUEST.values())


def subject_of(name: str, script: str = "plain") -> Subject:
    """One of the report cases, with a picture of each analysed frame."""
    told = case(name, script)
    pixels = np.tile(np.arange(COLUMNS, dtype=np.uint8), (ROWS, 1))
    pictures = tuple(Thumbnail(ref, pixels, Box(low=(0, 0), high=(ROWS, COLUMNS))) for ref in told.result.analysed)
    return Subject(told.result, told.sources, CONTENT_TIME, pictures=pictures)


def document_of(subject: Subject) -> Document:
    (document,) = [one for one in write_documents(subject, KINDS) if one.kind == "pdf"]
    return document


def read(document: Document) -> ReadDocument:
    return read_document(document.data, frozenset(ECHOED))


def words(subject: Subject) -> str:
    return " ".join(words_of_pdf(read(document_of(subject)).data).split())


# -- What is said ------------------------------------------------------------------------------------------------------

ANSWERS = {
    "yes-all": ("Finding: yes. 2 of 2 images were analyzed completely.", False),
    "yes-some": ("Finding: yes. 1 of 2 images were analyzed completely.", False),
    "no-all": ("Finding: no. 2 of 2 images were analyzed completely.", False),
    "unknown-some": ("Finding: unknown. 1 of 2 images were analyzed completely.", True),
    "unknown-none": ("Finding: unknown. 0 of 2 images were analyzed completely.", True),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_outcome_stands_on_the_pages(name: str) -> None:
    answer, is_unknown = ANSWERS[name]
    said = words(subject_of(name))
    assert answer in said
    assert (NOT_NEGATIVE in said) == is_unknown
    assert said.count(BANNER) >= 1
    assert "us-demo 1.0.0, Sitewise" in said
    assert "Read at: 2024-05-06 07:08:09" in said
    assert "Scanner not among those of the training data." in said


def test_findings_are_told_with_their_measures() -> None:
    """89 pixels of 0.06 mm² are 5.34 mm²; the score 0.91234567 is a certainty of 91.23 %."""
    said = words(subject_of("yes-all"))
    assert "Lesion 1: Breast. Certainty of Finding 91.23 %; Long axis 3.86 mm; Area 5.34 mm2." in said
    assert "Lesion 3" in said
    assert "Findings" not in words(subject_of("no-all"))


def test_what_was_not_read_is_named_with_its_reason() -> None:
    said = words(subject_of("yes-some")).replace(" ", "")
    assert f"Image{source('b').SOPInstanceUID}:thepixeldatacannotbedecoded(decode_failed)." in said


def test_views_say_what_the_answer_covers() -> None:
    subject = subject_of("unknown-some")
    first, second = subject.result.analysed[0], subject.result.unread[0].ref
    views = {first.sop_uid: View("L", "CC"), second.sop_uid: View("R", "MLO")}
    result = replace(subject.result, views=views, unread=(Unread(second, Reason.DECODE_FAILED),))
    said = words(replace_result(subject, result))
    assert "Views analyzed: L CC." in said
    assert "Views not analyzed: R MLO." in said


def replace_result(subject: Subject, result: object) -> Subject:
    return Subject(result, subject.sources, CONTENT_TIME, pictures=subject.pictures)  # type: ignore[arg-type]


def test_a_probability_is_told_only_where_a_validation_allows_it() -> None:
    assert "Probability of cancer 81.24 %" in words(subject_of("yes-rated"))
    assert "Probability of cancer" not in words(subject_of("yes-all"))


def test_an_outline_lies_where_the_finding_is() -> None:
    """120 mm for 80 columns are 4.252 points a pixel; columns 30 to 42 and, from below, rows 60 - 28 to 60 - 20."""
    scale = 120 / 25.4 * 72 / 80
    data = read(document_of(subject_of("yes-some"))).data
    points = np.array([pair for pair in re.findall(rb"([\d.]+) ([\d.]+) [ml]\b", data)], dtype=np.float64) / scale
    assert points.min(axis=0) == pytest.approx([30, 32], abs=0.01)
    assert points.max(axis=0) == pytest.approx([42, 40], abs=0.01)
    assert read(document_of(subject_of("no-all"))).data.count(b"/Subtype /Image") == 1  # two alike are kept once


# -- Identity ----------------------------------------------------------------------------------------------------------

SHOWN = {
    "plain": ("Doe^Jane", True, True),
    "ligature": ("Lecœur^Zoé", True, True),
    "japanese": ("Yamada^Tarou=山田^太郎=やまだ^たろう", False, True),
    "greek": ("Διονυσιοσ", False, False),  # of the final sigma only the other form is there
    "empty": ("empty", True, True),
}


@pytest.mark.parametrize("script", SHOWN)
def test_the_name_is_drawn_and_the_header_is_exact(script: str) -> None:
    subject = subject_of("no-all", script)
    document = document_of(subject)
    drawn, is_latin, is_exact = SHOWN[script]
    said = " ".join(words_of_pdf(read(document).data).split())
    assert f"Patient's name: {drawn}" in said.replace(" ^", "^").replace("= ", "=").replace("^ ", "^").replace(
        " =", "="
    )
    assert (BORROWED in said, INEXACT in said) == (not is_latin, not is_exact)
    assert read(document).identity[0x00100010].strip() == NAMES[script][1].strip()


def test_letters_that_no_font_has_are_said() -> None:
    assert letters.drawn("Ńowak علي") == "Nowak ???"
    assert not letters.is_exact("Ńowak")
    assert letters.drawn("a\u202eb\n") == "a?b?"
    assert letters.is_exact("Müller 山田")
    assert [run.font for run in letters.runs("A 山 B")] == ["Helvetica", "HeiseiKakuGo-W5", "Helvetica"]
    assert letters.runs("김")[0].font == "HYGothic-Medium"


def test_a_name_in_a_broken_encoding_is_not_guessed() -> None:
    broken = {0x00080005: b"ISO_IR 192", 0x00100010: b"M\xfcller"}
    assert ("Patient's name", UNDECODABLE) in identity_rows(broken)
    assert ("Patient's name", UNDECODABLE) in identity_rows({0x00080005: b"ISO_IR 999", 0x00100010: b"M\xfcller"})


def test_markup_in_a_name_is_text() -> None:
    subject = subject_of("no-all")
    identity = dict(subject.identity) | {0x00081030: b"<b>Breast</b> & more (left) \\ x "}
    object.__setattr__(subject, "identity", identity)
    (_, dataset), *_ = ON_REQUEST["pdf"].write(subject, ON_REQUEST["pdf"], None).objects  # type: ignore[arg-type]
    assert "<b>Breast</b> & more (left) \\ x" in " ".join(words_of_pdf(dataset.EncapsulatedDocument).split())


# -- The object --------------------------------------------------------------------------------------------------------


def test_attributes_of_the_object() -> None:
    subject = subject_of("no-all")
    dataset = pydicom.dcmread(io.BytesIO(document_of(subject).data))
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert (dataset.MIMETypeOfEncapsulatedDocument, dataset.BurnedInAnnotation) == ("application/pdf", "YES")
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240506", "070809")
    assert dataset.EncapsulatedDocumentLength == len(dataset.EncapsulatedDocument)
    assert [item.ReferencedSOPInstanceUID for item in dataset.SourceInstanceSequence] == [
        source(name).SOPInstanceUID for name in "ab"
    ]
    others = {pydicom.dcmread(io.BytesIO(d.data)).SeriesInstanceUID for d in write_documents(subject, GENERAL)}
    assert dataset.SeriesInstanceUID not in others
    assert b"(D:20240506070809)" in dataset.EncapsulatedDocument
    assert b"20000101" not in dataset.EncapsulatedDocument


def test_it_is_added_and_changes_no_other_object() -> None:
    subject = subject_of("yes-all")
    assert write_documents(subject, KINDS)[:-1] == write_documents(subject, GENERAL)


def test_same_subject_same_bytes_in_another_process() -> None:
    """Also where another report, in other fonts, was written before."""
    code = """
import hashlib, sys
sys.path.insert(0, ".")
from tests.test_report_pdf import document_of, subject_of
if sys.argv[1] == "2": document_of(subject_of("no-all", "japanese"))
print(hashlib.sha256(document_of(subject_of("yes-all", "greek")).data).hexdigest())
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, seed],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(REPOSITORY)},
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]
    assert runs[0] == runs[1]


def test_a_run_writes_it_where_it_is_asked_to(tmp_path: Path) -> None:
    subject = subject_of("no-all")
    paths = {}
    for name in "ab":
        header = source(name, pixels=True)
        paths[str(header.SOPInstanceUID)] = tmp_path / name
        header.save_as(tmp_path / name)
    plain = report("ultrasound", subject.result, subject.pictures, paths, Delivery(CONTENT_TIME))
    also = report("ultrasound", subject.result, subject.pictures, paths, Delivery(CONTENT_TIME, also=("pdf",)))
    assert [document.kind for document in plain] == ["sr"]
    assert [document.kind for document in also] == ["sr", "pdf"]


def test_the_command_knows_every_kind_on_request() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (option,) = [action for action in parser._actions if action.dest == "also"]
    assert list(option.choices or ()) == list(ON_REQUEST)


# -- Planted faults ----------------------------------------------------------------------------------------------------


def tampered(document: Document, subject: Subject, change: Callable[[Dataset], None]) -> Document:
    dataset = pydicom.dcmread(io.BytesIO(document.data))
    change(dataset)
    return seal(dataset, identity_of(next(iter(subject.sources.values()))), document.kind)


def setting(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)


def in_pages(old: bytes, new: bytes) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        assert old in dataset.EncapsulatedDocument
        dataset.EncapsulatedDocument = dataset.EncapsulatedDocument.replace(old, new)

    return change


def other_source(dataset: Dataset) -> None:
    dataset.SourceInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def other_class(dataset: Dataset) -> None:
    dataset.SourceInstanceSequence[0].ReferencedSOPClassUID = "1.2.3"


FAULTS = {
    "answer": (in_pages(b"Finding: unknown. 1", b"Finding: no.      1"), "no outcome"),
    "banner": (in_pages(b"not for clinical use", b"now for clinical use"), "no banner"),
    "reason": (in_pages(b"cannot be decoded", b"has been  decoded"), "of 'Images not analyzed'"),
    "name": (in_pages(b"Doe^Jane", b"Roe^Jane"), "another line 1 of 'Patient and study'"),
    "truncated": (lambda d: setattr(d, "EncapsulatedDocument", d.EncapsulatedDocument[:-200]), "Length"),
    "no PDF": (lambda d: setattr(d, "EncapsulatedDocument", bytes(len(d.EncapsulatedDocument))), "no complete PDF"),
    "title": (setting("DocumentTitle", "Diagnosis"), "DocumentTitle"),
    "media type": (setting("MIMETypeOfEncapsulatedDocument", "text/XML"), "MIMEType"),
    "burned in": (setting("BurnedInAnnotation", "NO"), "BurnedInAnnotation"),
    "verified": (setting("VerificationFlag", "VERIFIED"), "VerificationFlag"),
    "time": (setting("ContentTime", "070810"), "content date and time"),
    "source": (other_source, "sources"),
    "class of a source": (other_class, "ReferencedSOPClassUID"),
    "maker": (setting("Manufacturer", "Other"), "equipment"),
    "class": (setting("SOPClassUID", "1.2.840.10008.5.1.4.1.1.104.2"), "SOPClassUID"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused(fault: str) -> None:
    change, match = FAULTS[fault]
    subject = subject_of("unknown-some")
    documents = write_documents(subject, KINDS)
    broken = [*documents[:-1], tampered(documents[-1], subject, change)]
    with pytest.raises(ReadbackError, match=match) as caught:
        verify(broken, subject, KINDS)
    assert caught.value.reason is Reason.READBACK_FAILED
    for secret in ("Doe", "P-1", "19700101"):
        assert secret not in str(caught.value)


def test_a_missing_or_an_unasked_document_is_refused() -> None:
    subject = subject_of("no-all")
    documents = write_documents(subject, KINDS)
    with pytest.raises(ReadbackError, match=f"study {STUDY}, objects of kind pdf: found 0; allowed is exactly 1"):
        verify(documents[:-1], subject, KINDS)
    with pytest.raises(ReadbackError, match="objects: found one of kind pdf; allowed is seg, sr"):
        verify(documents, subject, GENERAL)


# -- Independent judges ------------------------------------------------------------------------------------------------


@pytest.mark.conformance
def test_judges_accept_every_readable_report(tmp_path: Path) -> None:
    """dciodvfy finds no error, and pdftotext the words that our own reader finds."""
    validator, reader = require_tool("dciodvfy"), require_tool("pdftotext")
    told = [(name, "plain") for name in CASES] + [("no-all", script) for script in NAMES]
    for name, script in told:
        subject = subject_of(name, script)
        document = document_of(subject)
        path = tmp_path / f"{name}-{script}.dcm"
        path.write_bytes(document.data)
        said = run_tool(validator, path)
        ours = [line for line in said.splitlines() if "Patient's Name" not in line]
        assert ours == ["EncapsulatedPDF"], f"{path.name}:\n{said}"
        pages = path.with_suffix(".pdf")
        pages.write_bytes(read(document).data)
        text = "".join(run_tool(reader, "-raw", "-enc", "UTF-8", pages, "-").split())
        assert f"Finding:{subject.result.finding}." in text
        assert f"Patient'sname:{SHOWN[script][0]}" in text
