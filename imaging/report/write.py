"""ExamResult → sealed, read-back DICOM documents: segmentations, the report that refers to them, and further ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydicom import Dataset

from imaging.errors import ImagingError, InputError, Reason
from imaging.exam.result import ExamResult
from imaging.report.document import Case, Document, Identity, Output, Scheme, identity_of
from imaging.report.readback import verify
from imaging.report.seg.stills import obstacle, write_segmentation
from imaging.report.seg.volumes import by_volume, volume_obstacle, write_volume_segmentation
from imaging.report.sr.statements import Roi, images_of, rois
from imaging.report.sr.tid1500 import write_report

_PATIENT_ID, _STUDY_UID = 0x00100020, 0x0020000D


def write_documents(
    result: ExamResult,
    sources: Mapping[str, Dataset],
    content_time: datetime,
    scheme: Scheme = "sct",
    outputs: Sequence[Output] = (),
) -> list[Document]:
    """SEG documents of the volumes and stills with findings, then the SR, each verified against result and sources.

    The modality's further `outputs` come last, their SNOMED codes in `scheme`.
    `sources` holds, by SOP Instance UID, the header of every image of the result as it was read (pixel data not
    needed). Raises ImagingError when the result cannot be written and ReadbackError when what was written disagrees.
    """
    case = Case(result, sources, _one_identity(result, sources), content_time)
    segmentations, remarks = _segmentations(case)
    report = write_report(case, segmentations, remarks)
    further = (output.write(case, scheme) for output in outputs)
    documents = [*(document for document, _ in segmentations), report, *further]
    verify(documents, result, sources, outputs)
    return documents


def _segmentations(case: Case) -> tuple[list[tuple[Document, Dataset]], list[str]]:
    """The SEG of every volume and still with findings, and for each a sentence, or why it has none."""
    made: list[tuple[Document, Dataset]] = []
    remarks: list[str] = []
    regions, sources = rois(case.result), case.sources
    for volume_region, of_volume in by_volume(regions):
        names = ", ".join(roi.name for roi in of_volume)
        reason = volume_obstacle(volume_region, sources)
        if reason is not None:
            series = volume_region.refs[0].series_uid
            remarks.append(f"{names}: no segmentation object of series {series} and no volume, because {reason}.")
            continue
        made.append(write_volume_segmentation(case, volume_region, of_volume, len(made) + 1))
        remarks.append(f"{names}: segmented in segmentation object {made[-1][0].sop_instance_uid}.")
    for sop_uid, of_image in _by_still(regions).items():
        names = ", ".join(roi.name for roi in of_image)
        # Findings of one result come from one network: either all are boxes or none is.
        reason = obstacle(sources[sop_uid], of_image[0].measured.key)
        if reason is not None:
            remarks.append(f"{names}: no segmentation object of image {sop_uid}, because {reason}.")
            continue
        made.append(write_segmentation(case, of_image, sources[sop_uid], len(made) + 1))
        remarks.append(f"{names}: pixel mask in segmentation object {made[-1][0].sop_instance_uid}.")
    return made, remarks


def _by_still(regions: Sequence[Roi]) -> dict[str, list[Roi]]:
    stills: dict[str, list[Roi]] = {}
    for roi in regions:
        if roi.volume_region is None:
            stills.setdefault(roi.measured.key.ref.sop_uid, []).append(roi)
    return stills


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
