"""Every code the reports use, with its exact English meaning (PS3.16 Annex D and the context groups named below).

Viewers match meanings as well as values, so they stay English whatever language a site speaks; Language of Content
Item and Descendants says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes as dictionary

from imaging.errors import ImagingError, Reason, ReasonCode
from imaging.exam.result import Completeness, FindingState
from imaging.findings import Code


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


MEASUREMENT_REPORT: Final = _dcm("126000", "Imaging Measurement Report")  # CID 7021
LANGUAGE: Final = _dcm("121049", "Language of Content Item and Descendants")
ENGLISH_US: Final = Code("en-US", "RFC5646", "English (United States)")  # CID 5000
PROCEDURE_REPORTED: Final = _dcm("121058", "Procedure reported")

OBSERVER_TYPE: Final = _dcm("121005", "Observer Type")
DEVICE: Final = _dcm("121007", "Device")  # CID 270
DEVICE_OBSERVER_UID: Final = _dcm("121012", "Device Observer UID")
DEVICE_OBSERVER_NAME: Final = _dcm("121013", "Device Observer Name")
DEVICE_OBSERVER_MANUFACTURER: Final = _dcm("121014", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL: Final = _dcm("121015", "Device Observer Model Name")
DEVICE_OBSERVER_SERIAL: Final = _dcm("121016", "Device Observer Serial Number")

IMAGE_LIBRARY: Final = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP: Final = _dcm("126200", "Image Library Group")
MODALITY: Final = _dcm("121139", "Modality")
STUDY_DATE: Final = _dcm("111060", "Study Date")
STUDY_TIME: Final = _dcm("111061", "Study Time")
PIXEL_DATA_ROWS: Final = _dcm("110910", "Pixel Data Rows")
PIXEL_DATA_COLUMNS: Final = _dcm("110911", "Pixel Data Columns")

IMAGING_MEASUREMENTS: Final = _dcm("126010", "Imaging Measurements")
MEASUREMENT_GROUP: Final = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER: Final = _dcm("112039", "Tracking Identifier")
TRACKING_UID: Final = _dcm("112040", "Tracking Unique Identifier")
FINDING: Final = _dcm("121071", "Finding")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
LATERALITY: Final = Code("272741003", "SCT", "Laterality")
IMAGE_REGION: Final = _dcm("111030", "Image Region")
FINDING_CATEGORY: Final = Code("276214006", "SCT", "Finding category")
REFERENCED_SEGMENT: Final = _dcm("121191", "Referenced Segment")
SEGMENT_SOURCE: Final = _dcm("121233", "Source image for segmentation")
CERTAINTY: Final = _dcm("111012", "Certainty of Finding")
DERIVATION: Final = _dcm("121401", "Derivation")

ALGORITHM_NAME: Final = _dcm("111001", "Algorithm Name")
ALGORITHM_VERSION: Final = _dcm("111003", "Algorithm Version")
ALGORITHM_PARAMETERS: Final = _dcm("111002", "Algorithm Parameters")
ARTIFICIAL_INTELLIGENCE: Final = _dcm("123110", "Artificial Intelligence")  # CID 7162
PROCESSING_EQUIPMENT: Final = _dcm("109102", "Processing Equipment")  # CID 7005

QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
CAD_SUMMARY: Final = _dcm("111017", "CAD Processing and Findings Summary")
SUMMARY_OF_DETECTIONS: Final = _dcm("111064", "Summary of Detections")
PROBABILITY_OF_CANCER: Final = _dcm("111047", "Probability of cancer")
COMMENT: Final = _dcm("121106", "Comment")

PROSTATE: Final = Code("41216001", "SCT", "Prostate")  # CID 6300

MILLIMETRE: Final = Code("mm", "UCUM", "mm")
SQUARE_MILLIMETRE: Final = Code("mm2", "UCUM", "square millimeter")
CUBIC_CENTIMETRE: Final = Code("cm3", "UCUM", "cubic centimeter")  # CID 7462 holds no milliliter
SQUARE_MICROMETRE_PER_SECOND: Final = Code("um2/s", "UCUM", "um2/s")  # CID 7181; 1e-6 mm2/s
PSA_DENSITY_UNIT: Final = Code("ng/ml/cm3", "UCUM", "nanogram per milliliter per cubic centimeter")
PERCENT: Final = Code("%", "UCUM", "Percent")
PIXELS: Final = Code("{pixels}", "UCUM", "pixels")

OUTCOMES: Final[dict[tuple[FindingState, Completeness], Code]] = {  # CID 6047
    ("no", "all"): _dcm("111241", "All algorithms succeeded; without findings"),
    ("yes", "all"): _dcm("111242", "All algorithms succeeded; with findings"),
    ("unknown", "some"): _dcm("111243", "Not all algorithms succeeded; without findings"),
    ("yes", "some"): _dcm("111244", "Not all algorithms succeeded; with findings"),
    ("unknown", "none"): _dcm("111245", "No algorithms succeeded; without findings"),
}

SUCCEEDED: Final = _dcm("111222", "Succeeded")  # CID 6042
PARTIALLY_SUCCEEDED: Final = _dcm("111223", "Partially Succeeded")
FAILED: Final = _dcm("111224", "Failed")
NOT_ATTEMPTED: Final = _dcm("111225", "Not Attempted")


_ACQUISITION_MODALITIES: Final[dict[str, Code]] = {  # CID 29, as pydicom's dictionary of the standard has it
    entry.value: Code(entry.value, entry.scheme_designator, entry.meaning)
    for entry in (getattr(dictionary.cid29, keyword) for keyword in dictionary.cid29.dir())
}


@dataclass(frozen=True, slots=True)
class MeasureCode:
    """How a measure is written: concept, unit, how it was derived from many values, and its decimals."""

    concept: Code
    unit: Code
    derivation: Code | None = None
    decimals: int = 2


_LONG_AXIS: Final = Code("103339001", "SCT", "Long axis")  # CID 7470
_AREA: Final = Code("42798000", "SCT", "Area")  # CID 7471
_CIRCUMFERENCE: Final = Code("74551000", "SCT", "Circumference")  # CID 7470
_VOLUME: Final = Code("118565006", "SCT", "Volume")  # CID 7472
_DIAMETER_3D: Final = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")  # CID 7470
_ADC: Final = _dcm("113041", "Apparent Diffusion Coefficient")  # CID 7469
_MEAN: Final = Code("373098007", "SCT", "Mean")  # CID 7464
_TENTH_PERCENTILE: Final = Code("371890005", "SCT", "Tenth percentile")
_PSA_DENSITY: Final = Code("15325-4", "LN", "Prostate specific Antigen Density")  # CID 6352

# Of an outline on one image.
MEASURES: Final[Mapping[str, MeasureCode]] = {
    "longest_diameter_mm": MeasureCode(_LONG_AXIS, MILLIMETRE),
    "longest_diameter_px": MeasureCode(_LONG_AXIS, PIXELS),
    "area_mm2": MeasureCode(_AREA, SQUARE_MILLIMETRE),
    "area_px": MeasureCode(_AREA, PIXELS),
    "circumference_mm": MeasureCode(_CIRCUMFERENCE, MILLIMETRE),
    "circumference_px": MeasureCode(_CIRCUMFERENCE, PIXELS),
}
# Of a region of a volume.
VOLUME_MEASURES: Final[Mapping[str, MeasureCode]] = {
    "volume_ml": MeasureCode(_VOLUME, CUBIC_CENTIMETRE, decimals=3),
    "longest_diameter_mm": MeasureCode(_DIAMETER_3D, MILLIMETRE),
    "adc_mean_um2_s": MeasureCode(_ADC, SQUARE_MICROMETRE_PER_SECOND, _MEAN),
    "adc_p10_um2_s": MeasureCode(_ADC, SQUARE_MICROMETRE_PER_SECOND, _TENTH_PERCENTILE),
    "psa_density_ng_ml2": MeasureCode(_PSA_DENSITY, PSA_DENSITY_UNIT, decimals=3),
}


def measure_code(name: str, known: Mapping[str, MeasureCode]) -> MeasureCode:
    """How a measure of an outline (MEASURES) or a volume region (VOLUME_MEASURES) is written.

    Raises ImagingError for one that has no code there.
    """
    if name not in known:
        raise ImagingError(
            f"ExamFinding.measures: found {name!r}; a report can only code {', '.join(known)}", Reason.REPORT_FAILED
        )
    return known[name]


def detection_summary(completeness: Completeness, reasons: frozenset[ReasonCode]) -> Code:
    """CID 6042 for the whole search. Nothing read is Failed when something was tried, Not Attempted otherwise."""
    if completeness == "all":
        return SUCCEEDED
    if completeness == "some":
        return PARTIALLY_SUCCEEDED
    tried = reasons & {Reason.PREDICTION_FAILED, Reason.DECODE_FAILED, Reason.PIXEL_DATA_TOO_SHORT}
    return FAILED if tried else NOT_ATTEMPTED


def modality(value: str) -> Code:
    """The code of an acquisition modality (CID 29). Raises ImagingError for a value that is none."""
    if value not in _ACQUISITION_MODALITIES:
        raise ImagingError(
            f"ExamResult.modality: found {value!r}; allowed are the codes of CID 29: "
            f"{', '.join(sorted(_ACQUISITION_MODALITIES))}",
            Reason.REPORT_FAILED,
        )
    return _ACQUISITION_MODALITIES[value]


def concept(code: Code) -> CodedConcept:
    """The code as highdicom wants it."""
    return CodedConcept(code.value, code.scheme, code.meaning)
