"""The readable report in an Encapsulated PDF object (PS3.3 A.45.1): every outcome on pages that any viewer shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydicom import Dataset

from imaging.report.document import seal
from imaging.report.kind import ObjectKind, Subject, Written
from imaging.report.pdf.content import TITLE
from imaging.report.pdf.layout import pdf_of
from imaging.report.sr import codes
from imaging.report.sr.statements import images_of

MEDIA_TYPE: Final = "application/pdf"
# PS3.3 C.7.3.1.1.1: a document; what it was made from is a matter of its sources.
MODALITY: Final = "DOC"


def write_pdf(subject: Subject, kind: ObjectKind, _: Written) -> Written:
    """The sealed document. Identity is on its pages too, so it is declared as burned in."""
    data = pdf_of(subject)
    dataset = kind.new_object(subject)
    dataset.Modality = MODALITY
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.SourceInstanceSequence = list(_sources(subject))
    dataset.DocumentTitle = TITLE
    dataset.ConceptNameCodeSequence = [codes.concept(codes.MEASUREMENT_REPORT)]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = MEDIA_TYPE
    dataset.EncapsulatedDocument = data
    dataset.EncapsulatedDocumentLength = len(data)
    return Written(((seal(dataset, subject.identity, kind.name), dataset),))


def _sources(subject: Subject) -> Iterable[Dataset]:
    """Every image of the result (PS3.3 C.24.2, required of what is derived from DICOM objects)."""
    for uid, (ref, _) in images_of(subject.result).items():
        item = Dataset()
        item.ReferencedSOPClassUID = ref.sop_class_uid
        item.ReferencedSOPInstanceUID = uid
        yield item
