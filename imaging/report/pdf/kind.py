"""The readable report as a kind of object."""

from __future__ import annotations

from typing import Final

from imaging.dicom.results.encapsulated import read_document
from imaging.report.kind import ObjectKind
from imaging.report.pdf.readback import check_pdf
from imaging.report.pdf.write import write_pdf

READABLE_REPORT: Final = ObjectKind(
    name="pdf",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.104.1",
    series_number=3,
    series_name="readable report",
    write=write_pdf,
    check=check_pdf,
    read=read_document,
)
