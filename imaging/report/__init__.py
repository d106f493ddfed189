"""WRITES results: ExamResult → DICOM SR and SEG, read back by another path before anyone may have them."""

from imaging.report.document import Document
from imaging.report.write import write_documents

__all__ = ["Document", "write_documents"]
