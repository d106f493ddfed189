"""Header → where a frame lies in the patient, for images and segmentations alike."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from imaging.dicom.headers.elements import functional_group, numbers
from imaging.image import LPS_TO_RAS, Floats


def frame_plane(header: Dataset, number: int) -> tuple[Dataset, Dataset, Dataset]:
    """Where Image Position, Image Orientation and Pixel Spacing of frame `number` (from 1) stand.

    The functional groups of the frame, else the shared ones (PS3.3 C.7.6.16.2.3, .4 and .1); of an image without
    functional groups the header itself (Image Plane Module, C.7.6.2).
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return header, header, header
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    position, orientation, measures = (
        functional_group(per_frame[number - 1], shared, f"{name}Sequence")
        for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures")
    )
    return position, orientation, measures


def frame_affine(header: Dataset, number: int, where: str) -> Floats | None:
    """Affine (3, 3) of pixel centres (row, column, 1) to `patient_ras` millimetres; None where the header has none.

    Raises InputError for values that are no position; `where` names the frame in it.
    """
    position, orientation, measures = frame_plane(header, number)
    known = "ImagePositionPatient" in position and "ImageOrientationPatient" in orientation
    if not (known and "PixelSpacing" in measures):
        return None
    cosines = numbers(orientation, "ImageOrientationPatient", 6, where)
    row_step, column_step = numbers(measures, "PixelSpacing", 2, where)
    corner = numbers(position, "ImagePositionPatient", 3, where)
    lps = np.column_stack([cosines[3:] * row_step, cosines[:3] * column_step, corner])
    return np.asarray(LPS_TO_RAS[:3, :3] @ lps)
