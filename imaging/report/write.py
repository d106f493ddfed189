"""ExamResult → sealed, read-back DICOM documents: segmentations, the report that refers to them, and a CAD report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydicom import Dataset

from imaging.errors import ImagingError, InputError, Reason
from imaging.exam.result import ExamResult
from imaging.report.document import Case, Document, Identity, Scheme, identity_of
from imaging.report.mammography_cad import MODALITY, write_cad_report
from imaging.report.readback import verify
from imaging.report.seg import obstacle, write_segmentation
from imaging.report.statements import finding_name, images_of
from imaging.report.tid1500 import write_report

_PATIENT_ID, _STUDY_UID = 0x00100020, 0x0020000D


def write_documents(
    result: ExamResult, sources: Mapping[str, Dataset], content_time: datetime, scheme: Scheme = "sct"
) -> list[Document]:
    """SEG documents of the stills with findings, then the SR, each verified against result and sources.

    Of mammography the Mammography CAD SR comes last, its SNOMED codes in `scheme`.
    `sources` holds, by SOP Instance UID, the header of every image of the result as it was read (pixel data not
    needed). Raises ImagingError when the result cannot be written and ReadbackError when what was written disagrees.
    """
    case = Case(result, sources, _one_identity(result, sources), content_time)
    segmentations: list[tuple[Document, Dataset]] = []
    remarks: list[str] = []
    for sop_uid, numbers in _findings_by_image(result).items():
        names = ", ".join(finding_name(result, number) for number in numbers)
        # Findings of one result come from one network: either all are boxes or none is.
        reason = obstacle(sources[sop_uid], result.findings[numbers[0] - 1].key)
        if reason is not None:
            remarks.append(f"{names}: no segmentation object of image {sop_uid}, because {reason}.")
            continue
        made = write_segmentation(case, numbers, sources[sop_uid], len(segmentations) + 1)
        segmentations.append(made)
        remarks.append(f"{names}: pixel mask in segmentation object {made[0].sop_instance_uid}.")
    report = write_report(case, segmentations, remarks)
    documents = [*(document for document, _ in segmentations), report]
    if result.modality == MODALITY:
        documents.append(write_cad_report(case, scheme))
    verify(documents, result, sources)
    return documents


def _findings_by_image(result: ExamResult) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, finding in enumerate(result.findings, start=1):
        numbers.setdefault(finding.key.ref.sop_uid, []).append(number)
    return numbers


def _one_identity(result: ExamResult, sources: Mapping[str, Dataset]) -> Identity:
    """The raw identity of the first image, once every image is known to be of that patient and study."""
    images = list(images_of(result))
    if not images:
        raise ImagingError(
            f"study {result.study_uid}, package {result.package}: found a result without any image; "
            "allowed is one with at least one analysed or unread image",
            Reason.REPORT_FAILED,
        )
    missing = [uid for uid in images if uid not in sources]
    if missing:
        raise ImagingError(
            f"image {missing[0]}: found no source header; allowed is one for every image of a result",
            Reason.REPORT_FAILED,
        )
    identities = [identity_of(sources[uid]) for uid in images]
    first = identities[0]
    for uid, identity in zip(images, identities, strict=True):
        for tag in (_PATIENT_ID, _STUDY_UID):
            if identity.get(tag, b"").strip(b" \0") != first.get(tag, b"").strip(b" \0"):
                raise InputError(
                    f"image {uid}, ({tag >> 16:04X},{tag & 0xFFFF:04X}): found another value than in image "
                    f"{images[0]}; allowed is one patient and one study in a result",
                    Reason.MIXED_PATIENTS,
                )
    return first
