"""The segmentation object (PS3.3 A.51) of one still: BINARY, one segment per finding.

One segment per finding, not per label: each can carry the Tracking UID of its measurement group, and findings that
overlap stay apart. A label's mask is the union of its segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import highdicom
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from imaging.errors import ImagingError, Reason
from imaging.exam.result import ExamResult
from imaging.findings import Finding
from imaging.report import codes
from imaging.report.document import ECHOED, Case, Document, derived_uid, new_object, seal, series_uid
from imaging.report.statements import finding_name, tracking_uid

NO_SEGMENTATION_BOX: Final = "the algorithm gives boxes and no borders"
NO_SEGMENTATION_CINE: Final = "it has several frames and no Frame of Reference"
NO_SEGMENTATION_ORIENTATION: Final = "it has no Patient Orientation attribute"
NO_SEGMENTATION_FRAME: Final = "its Frame of Reference has no image position and orientation"
_PLACEHOLDER_UID: Final = "2.25.1"


def obstacle(header: Dataset, key: Finding) -> str | None:
    """Why no valid segmentation can be made of this finding on its source, or None."""
    if key.box is not None:
        return NO_SEGMENTATION_BOX
    if int(header.get("NumberOfFrames") or 1) > 1:
        return NO_SEGMENTATION_CINE
    if "FrameOfReferenceUID" in header:
        placed = "ImagePositionPatient" in header and "ImageOrientationPatient" in header and "PixelSpacing" in header
        return None if placed else NO_SEGMENTATION_FRAME
    # Without a Frame of Reference the orientation of the segmentation is the source's (PS3.3 C.7.6.1.1.1, Type 2C).
    return None if "PatientOrientation" in header else NO_SEGMENTATION_ORIENTATION


def write_segmentation(
    case: Case, numbers: Sequence[int], header: Dataset, instance_number: int
) -> tuple[Document, Dataset]:
    """The sealed SEG of the findings `numbers` (from 1), all on the still `header`, and its data set."""
    result = case.result
    findings = [result.findings[number - 1].key for number in numbers]
    shape = (int(header.Rows), int(header.Columns))
    for finding in findings:
        if finding.source_grid.shape != shape:
            raise ImagingError(
                f"image {finding.ref.sop_uid}: found a finding on a grid of {finding.source_grid.shape}; "
                f"allowed is the frame of {shape}",
                Reason.GEOMETRY,
            )
    masks = np.stack([finding.full_mask() for finding in findings], axis=-1)[None].astype(np.uint8)
    dataset = new_object(case, "seg")
    dataset.InstanceNumber = instance_number
    try:
        made = _segmentation(case, numbers, masks, header, dataset)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # highdicom's refusals, and source values that pydicom cannot decode; neither text may hold identity.
        raise ImagingError(
            f"image {findings[0].ref.sop_uid}: found {type(error).__name__} while its segmentation was made; "
            "allowed is a source with valid geometry",
            Reason.REPORT_FAILED,
        ) from error
    return _finish(made, dataset, case, header)


def _segmentation(
    case: Case, numbers: Sequence[int], masks: NDArray[np.uint8], header: Dataset, ours: Dataset
) -> Dataset:
    return Segmentation(
        source_images=[_stand_in(header, case.result)],
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[_segment(case.result, index, number) for index, number in enumerate(numbers, start=1)],
        series_instance_uid=ours.SeriesInstanceUID,
        series_number=ours.SeriesNumber,
        sop_instance_uid=_PLACEHOLDER_UID,
        instance_number=ours.InstanceNumber,
        manufacturer=ours.Manufacturer,
        manufacturer_model_name=ours.ManufacturerModelName,
        software_versions=ours.SoftwareVersions,
        device_serial_number=ours.DeviceSerialNumber,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label="AI_SEGMENTATION",
        content_description=f"{len(numbers)} findings by {case.result.algorithm.name}"[:64],
        content_date=case.content_time.date(),
        content_time=case.content_time.time().replace(microsecond=0),
        omit_empty_frames=False,
    )


def _finish(made: Dataset, ours: Dataset, case: Case, header: Dataset) -> tuple[Document, Dataset]:
    """highdicom's object with our series, no clock and no random UID."""
    dataset = Dataset()
    for element in made:
        if int(element.tag) not in ECHOED and element.keyword not in {"InstanceCreationDate", "InstanceCreationTime"}:
            dataset.add(element)
    dataset.update(ours)
    frame_of_reference = str(header.get("FrameOfReferenceUID") or "")
    dataset.ContentCreatorName = ""  # Type 2 (PS3.3 Table 10-12); highdicom leaves it out.
    if not frame_of_reference:
        dataset.PatientOrientation = header.PatientOrientation
    dataset.SeriesInstanceUID = series_uid(case.result, "seg", frame_of_reference)
    organization = derived_uid("dimensions", dataset.SeriesInstanceUID, str(header.SOPInstanceUID))
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return seal(dataset, case.identity, "seg"), dataset


def _segment(result: ExamResult, segment_number: int, number: int) -> SegmentDescription:
    algorithm = result.algorithm
    label = algorithm.label(result.findings[number - 1].key.label)
    return SegmentDescription(
        segment_number=segment_number,
        segment_label=finding_name(result, number)[:64],
        segmented_property_category=codes.concept(label.category),
        segmented_property_type=codes.concept(label.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.concept(codes.ARTIFICIAL_INTELLIGENCE),
            version=algorithm.version,
            parameters={"identity": algorithm.identity},
        ),
        tracking_uid=tracking_uid(result, number),
        tracking_id=finding_name(result, number),
        anatomic_regions=[codes.concept(label.site)],
    )


def _stand_in(header: Dataset, result: ExamResult) -> Dataset:
    """The source as highdicom needs it: geometry and UIDs, no identity, so that no value of the source is judged."""
    stand_in = Dataset()
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(stand_in, keyword, "")
    stand_in.StudyDate = stand_in.StudyTime = None
    stand_in.StudyInstanceUID = result.study_uid
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        setattr(stand_in, keyword, str(header[keyword].value))
    stand_in.Modality = str(header.get("Modality") or "OT")
    stand_in.Rows, stand_in.Columns = int(header.Rows), int(header.Columns)
    for keyword in (
        "PatientOrientation",
        "FrameOfReferenceUID",
        "PositionReferenceIndicator",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
    ):
        if keyword in header:
            stand_in[keyword] = header[keyword]
    if header.get("LossyImageCompression") == "01":
        stand_in.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in header:
                stand_in[keyword] = header[keyword]
    return stand_in
