"""Segmentation objects (PS3.3 A.51): what all of them share, and those of stills. BINARY, one segment per finding.

One segment per finding, not per label: each can carry the Tracking UID of its measurement group, and findings that
overlap stay apart. A label's mask is the union of its segments. `seg_volume` makes those of volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import highdicom
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from imaging.errors import ImagingError, Reason
from imaging.exam.result import Algorithm, ExamResult
from imaging.findings import Finding
from imaging.report.document import ECHOED, Document, derived_uid, seal
from imaging.report.kind import ObjectKind, Subject
from imaging.report.sr import codes
from imaging.report.sr.statements import Roi

NO_SEGMENTATION_BOX: Final = "the algorithm gives boxes and no borders"
NO_SEGMENTATION_CINE: Final = "it has several frames and no Frame of Reference"
NO_SEGMENTATION_PLACE: Final = "it has no Frame of Reference"
NO_SEGMENTATION_FRAME: Final = "its Frame of Reference has no image position and orientation"
OWN_PLANE: Final = "its position is that of the pixels of its image, not of the patient."
PLACEHOLDER_UID: Final = "2.25.1"
_PLANE: Final = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
# CIE L*, a*, b* (D50): red, yellow, magenta, orange; blue, green, cyan, violet.
_WARM: Final = ((54, 80, 70), (93, -15, 90), (60, 94, -60), (72, 35, 75))
_COOL: Final = ((48, 10, -65), (75, -65, 60), (88, -50, -15), (50, 50, -55))


def obstacle(header: Dataset, key: Finding, has_own_frames: bool) -> str | None:
    """Why no segmentation is made of this finding on its source, or None.

    A source without place gets one only where `has_own_frames` says that segmentations bring a Frame of Reference:
    without any, the standard allows it and viewers fail on it.
    """
    if key.box is not None:
        return NO_SEGMENTATION_BOX
    if int(header.get("NumberOfFrames") or 1) > 1:
        return NO_SEGMENTATION_CINE
    if has_own_frames or is_placed(header):
        return None
    return NO_SEGMENTATION_FRAME if "FrameOfReferenceUID" in header else NO_SEGMENTATION_PLACE


def is_placed(header: Dataset) -> bool:
    """Whether a still has a place in the patient."""
    return all(keyword in header for keyword in ("FrameOfReferenceUID", *_PLANE))


def write_segmentation(
    subject: Subject, kind: ObjectKind, regions: Sequence[Roi], header: Dataset, number: int
) -> tuple[Document, Dataset]:
    """The sealed SEG of `regions`, all on the still `header`, and its data set."""
    shape = (int(header.Rows), int(header.Columns))
    findings = [roi.measured.key for roi in regions]
    for finding in findings:
        if finding.source_grid.shape != shape:
            raise ImagingError(
                f"image {finding.ref.sop_uid}: found a finding on a grid of {finding.source_grid.shape}; "
                f"allowed is the frame of {shape}",
                Reason.GEOMETRY,
            )
    masks = np.stack([finding.full_mask() for finding in findings], axis=-1)[None].astype(np.uint8)
    dataset = kind.new_object(subject, number)
    made = encode(subject, regions, masks, lambda: [_stand_in(header, subject.result, findings[0])], dataset)
    finish(made, dataset, str(header.SOPInstanceUID), regions)
    return seal(dataset, subject.identity, kind.name), dataset


def encode(
    subject: Subject,
    regions: Sequence[Roi],
    masks: NDArray[np.uint8],
    stand_ins: Callable[[], list[Dataset]],
    ours: Dataset,
) -> Dataset:
    """highdicom's segmentation of `masks` (source frame, row, column, region) on the stand-ins of the source frames.

    `ours` gives series and equipment. Of several frames those that are empty are left out. Raises ImagingError for what
    highdicom refuses.
    """
    is_volume = len(masks) > 1
    content = f"{len(regions)} {'segments' if is_volume else 'findings'} by {subject.result.algorithm.name}"
    try:
        return Segmentation(
            source_images=stand_ins(),
            pixel_array=masks,
            segmentation_type="BINARY",
            segment_descriptions=[_segment(subject.result.algorithm, n, roi) for n, roi in enumerate(regions, start=1)],
            series_instance_uid=ours.SeriesInstanceUID,
            series_number=ours.SeriesNumber,
            sop_instance_uid=PLACEHOLDER_UID,
            instance_number=ours.InstanceNumber,
            manufacturer=ours.Manufacturer,
            manufacturer_model_name=ours.ManufacturerModelName,
            software_versions=ours.SoftwareVersions,
            device_serial_number=ours.DeviceSerialNumber,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_label="AI_SEGMENTATION",
            content_description=content[:64],
            content_date=subject.content_time.date(),
            content_time=subject.content_time.time().replace(microsecond=0),
            omit_empty_frames=is_volume,
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # highdicom's refusals, and source values that pydicom cannot decode; neither text may hold identity.
        raise ImagingError(
            f"image {regions[0].measured.key.ref.sop_uid}: found {type(error).__name__} while its segmentation was "
            "made; allowed is a source with valid geometry",
            Reason.REPORT_FAILED,
        ) from error


def finish(made: Dataset, ours: Dataset, sop_uid: str, regions: Sequence[Roi]) -> None:
    """Turns `ours` into highdicom's object with our series, no clock and no random UID.

    `sop_uid` names the source, or the first of its images.
    """
    own = {int(element.tag) for element in ours}
    for element in made:
        known = int(element.tag) in ECHOED or int(element.tag) in own
        if not known and element.keyword not in {"InstanceCreationDate", "InstanceCreationTime"}:
            ours.add(element)
    for item, colour in zip(ours.SegmentSequence, _colours(regions), strict=True):
        item.RecommendedDisplayCIELabValue = colour
    ours.ContentCreatorName = ""  # Type 2 (PS3.3 Table 10-12); highdicom leaves it out.
    organization = derived_uid("dimensions", ours.SeriesInstanceUID, sop_uid)
    for item in (*ours.DimensionOrganizationSequence, *ours.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization


def _colours(regions: Sequence[Roi]) -> list[list[int]]:
    """A colour for each region, as Recommended Display CIELab Value (PS3.3 C.10.7.1.1): warm findings, cool organs."""
    counts = {True: 0, False: 0}
    found = []
    for roi in regions:
        palette = _WARM if roi.is_finding else _COOL
        lightness, a, b = palette[counts[roi.is_finding] % len(palette)]
        counts[roi.is_finding] += 1
        found.append([round(lightness * 655.35), round((a + 128) * 257), round((b + 128) * 257)])
    return found


def _segment(algorithm: Algorithm, segment_number: int, roi: Roi) -> SegmentDescription:
    return SegmentDescription(
        segment_number=segment_number,
        segment_label=roi.name[:64],
        segmented_property_category=codes.concept(roi.label.category),
        segmented_property_type=codes.concept(roi.label.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.concept(codes.ARTIFICIAL_INTELLIGENCE),
            version=algorithm.version,
            parameters={"identity": algorithm.identity},
        ),
        tracking_uid=roi.tracking_uid,
        tracking_id=roi.name,
        anatomic_regions=[codes.concept(roi.site)],
    )


def _stand_in(header: Dataset, result: ExamResult, finding: Finding) -> Dataset:
    """The source with its place, or on a plane of its own: that of its pixels, 1 mm apart where nothing tells more."""
    stand_in = bare_stand_in(header, result)
    for keyword in ("SOPInstanceUID", "SOPClassUID"):
        setattr(stand_in, keyword, str(header[keyword].value))
    if is_placed(header):
        for keyword in (*_PLANE, "SliceThickness"):
            if keyword in header:
                stand_in[keyword] = header[keyword]
        return stand_in
    stand_in.FrameOfReferenceUID = derived_uid("frame of reference", stand_in.SOPInstanceUID)
    stand_in.PositionReferenceIndicator = ""
    stand_in.ImagePositionPatient, stand_in.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    steps = finding.source_grid.spacing if finding.source_grid.unit == "mm" else (1.0, 1.0)
    stand_in.PixelSpacing = [DSfloat(float(step), auto_format=True) for step in steps]
    stand_in.SliceThickness = 1
    return stand_in


def bare_stand_in(header: Dataset, result: ExamResult) -> Dataset:
    """The source as highdicom needs it, without its place: no identity, so that no value of the source is judged."""
    stand_in = Dataset()
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(stand_in, keyword, "")
    stand_in.StudyDate = stand_in.StudyTime = None
    stand_in.StudyInstanceUID = result.study_uid
    stand_in.SeriesInstanceUID = str(header.SeriesInstanceUID)
    stand_in.Modality = str(header.get("Modality") or "OT")
    stand_in.Rows, stand_in.Columns = int(header.Rows), int(header.Columns)
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator"):
        if keyword in header:
            stand_in[keyword] = header[keyword]
    if header.get("LossyImageCompression") == "01":
        stand_in.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in header:
                stand_in[keyword] = header[keyword]
    return stand_in
