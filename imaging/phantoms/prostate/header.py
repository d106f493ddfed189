"""What all MR objects of a prostate examination share: study, series, equipment, pixels.

References: PS3.3 C.7.2.1 (General Study), C.7.3.1 (General Series), C.7.4.1 (Frame of Reference), C.7.5.1 (General
Equipment), C.7.6.3 (Image Pixel).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from imaging.phantoms.prostate.series import MrSeries
from imaging.phantoms.prostate.signal import DWI_ECHO_MS, T2W_ECHO_MS
from imaging.phantoms.prostate.study import ProstateStudy
from imaging.phantoms.ultrasound.dicom import uid

TRANSFER_SYNTAXES: Final = {"explicit": "1.2.840.10008.1.2.1", "implicit": "1.2.840.10008.1.2"}


def decimal(value: Any, digits: int = 6) -> str:
    """A number as DS: at most 16 characters, never −0."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".rstrip("0").rstrip(".")


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def describe_study(ds: Dataset, study: ProstateStudy) -> None:
    ds.StudyInstanceUID = study.study_uid
    ds.StudyDate, ds.StudyTime = f"{study.started:%Y%m%d}", f"{study.started:%H%M%S}"
    ds.StudyID, ds.AccessionNumber = str(study.study), f"MR{study.patient.number[-10:]}{study.study:02d}"
    ds.ReferringPhysicianName, ds.StudyDescription = "", "Synthetic MR prostate"


def describe_series(ds: Dataset, study: ProstateStudy, series: MrSeries) -> None:
    ds.Modality, ds.SeriesNumber = "MR", series.number
    ds.SeriesInstanceUID = uid("prostate series", study.patient.patient_id, study.study, series.number, study.form)
    ds.SeriesDescription, ds.BodyPartExamined = series.description, "PROSTATE"
    ds.PatientPosition, ds.FrameOfReferenceUID = "HFS", study.frame_uid


def describe_equipment(ds: Dataset, study: ProstateStudy) -> None:
    maker = study.maker
    ds.Manufacturer, ds.ManufacturerModelName = maker.manufacturer, maker.model
    ds.SoftwareVersions, ds.InstitutionName = maker.software, study.site
    ds.DeviceSerialNumber, ds.StationName = f"SYN-{study.vendor.upper()[:3]}-MR1", "PHANTOM"
    ds.MagneticFieldStrength = decimal(maker.tesla)
    ds.ReceiveCoilName = "Endorectal" if study.reception.coil == "endorectal" else "Body array"


def sequence_times_ms(series: MrSeries) -> tuple[float, float, int]:
    """(repetition time, echo time, echo train length)."""
    return {"t2w": (5600.0, T2W_ECHO_MS, 25), "dwi": (4200.0, DWI_ECHO_MS, 48), "t1": (5.0, 2.4, 1)}[series.weighting]


def store(ds: Dataset, pixels: np.ndarray) -> None:
    """Image Pixel module; `pixels` uint16 ([frame,] row, column) of 12 bits."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    top = float(np.percentile(pixels, 99.5))
    if "PerFrameFunctionalGroupsSequence" not in ds:
        ds.WindowCenter, ds.WindowWidth = decimal(max(top / 2, 1), 1), decimal(max(top, 1), 1)
    ds.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
    ds["PixelData"].VR = "OW"


def sequence(*items: Dataset) -> Sequence:
    return Sequence(list(items))
