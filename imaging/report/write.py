"""ExamResult → sealed, read-back DICOM objects of the kinds that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from imaging.report.document import Document
from imaging.report.kind import ObjectKind, Subject, Written
from imaging.report.pdf.kind import READABLE_REPORT
from imaging.report.readback import verify
from imaging.report.seg.kind import SEGMENTATION
from imaging.report.sr.kind import MEASUREMENT_REPORT

# What every result is written as, whatever its modality; the report refers to the segmentations, so they come first.
GENERAL: Final = (SEGMENTATION, MEASUREMENT_REPORT)
# What a run adds where it is asked to, by name.
ON_REQUEST: Final = {kind.name: kind for kind in (READABLE_REPORT,)}


def write_documents(subject: Subject, kinds: Sequence[ObjectKind] = GENERAL) -> list[Document]:
    """The objects of each kind in its turn, all verified against result and sources.

    Raises ImagingError when the result cannot be written and ReadbackError when what was written disagrees.
    """
    written = Written()
    for kind in kinds:
        written += kind.write(subject, kind, written)
    documents = [document for document, _ in written.objects]
    verify(documents, subject, kinds)
    return documents
