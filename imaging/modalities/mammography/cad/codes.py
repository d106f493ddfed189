"""The codes of Mammography CAD (PS3.16 TID 4000 and its context groups), in SNOMED CT or in the retired SNOMED-RT.

CAD workstations older than 2018 know SNOMED codes by their SRT values only; `retire` writes those.
"""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes as dictionary

from imaging.errors import ImagingError, Reason
from imaging.exam.result import Side
from imaging.findings import Code


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


REPORT: Final = _dcm("111036", "Mammography CAD Report")
ORIENTATION_ROW: Final = _dcm("111044", "Patient Orientation Row")
ORIENTATION_COLUMN: Final = _dcm("111043", "Patient Orientation Column")
CONTENT_DATE: Final = _dcm("111018", "Content Date")
CONTENT_TIME: Final = _dcm("111019", "Content Time")
HORIZONTAL_SPACING: Final = _dcm("111026", "Horizontal Pixel Spacing")
VERTICAL_SPACING: Final = _dcm("111066", "Vertical Pixel Spacing")
PRIMARY_ANGLE: Final = _dcm("112011", "Positioner Primary Angle")

IMPRESSION_DESCRIPTION: Final = _dcm("111033", "Impression Description")
INDIVIDUAL_IMPRESSION: Final = _dcm("111034", "Individual Impression/Recommendation")
RENDERING_INTENT: Final = _dcm("111056", "Rendering Intent")
COMPOSITE_FEATURE: Final = _dcm("111015", "Composite Feature")
COMPOSITE_TYPE: Final = _dcm("111016", "Composite Type")
SCOPE_OF_FEATURE: Final = _dcm("111057", "Scope of Feature")
CERTAINTY_OF_FEATURE: Final = _dcm("111011", "Certainty of Feature")
SINGLE_IMAGE_FINDING: Final = _dcm("111059", "Single Image Finding")
CENTER: Final = _dcm("111010", "Center")
OUTLINE: Final = _dcm("111041", "Outline")
PATH: Final = _dcm("121055", "Path")

SUMMARY_OF_ANALYSES: Final = _dcm("111065", "Summary of Analyses")
SUCCESSFUL_DETECTIONS: Final = _dcm("111063", "Successful Detections")
FAILED_DETECTIONS: Final = _dcm("111025", "Failed Detections")
DETECTION_PERFORMED: Final = _dcm("111022", "Detection Performed")

REQUIRED: Final = _dcm("111150", "Presentation Required: Rendering device is expected to present")  # CID 6034
OPTIONAL: Final = _dcm("111151", "Presentation Optional: Rendering device may present")
NOT_FOR_PRESENTATION: Final = _dcm("111152", "Not for Presentation: Rendering device expected not to present")

RELATED_SPATIALLY: Final = _dcm("111154", "Target content items are related spatially")  # CID 6035
ON_MULTIPLE_IMAGES: Final = _dcm("111158", "Feature detected on multiple images")  # CID 6036

LONG_AXIS: Final = _sct("103339001", "Long Axis")  # CID 7470
MILLIMETRE: Final = Code("mm", "UCUM", "millimeter")  # CID 7460
DEGREES: Final = Code("deg", "UCUM", "degrees")

SIDES: Final[dict[Side, Code]] = {  # CID 6022
    "L": _sct("80248007", "Left breast"),
    "R": _sct("73056007", "Right breast"),
}
# CID 6014 with CID 6015, as pydicom's dictionary of the standard has them.
SINGLE_IMAGE_FINDINGS: Final[dict[tuple[str, str], Code]] = {
    (entry.value, entry.scheme_designator): Code(entry.value, entry.scheme_designator, entry.meaning)
    for entry in (getattr(dictionary.cid6014, keyword) for keyword in dictionary.cid6014.dir())
}
DENSITY: Final = SINGLE_IMAGE_FINDINGS["129793001", "SCT"]
# Findings whose templates (TID 4009 to 4011) take a linear measurement.
MEASURED: Final = frozenset(SINGLE_IMAGE_FINDINGS[value, "SCT"] for value in ("129793001", "129769006", "129770007"))
BREAST_MASS: Final = _sct("129788004", "Mammographic breast mass")  # CID 6016
# A mass is a space-occupying lesion seen in two projections (BI-RADS): on one image it is a density.
_SEEN_AS_DENSITY: Final = frozenset({("4147007", "SCT"), ("129788004", "SCT")})


def single_image_finding(finding: Code) -> Code:
    """The CID 6014 code of a label's finding: itself, or "Mammography breast density" for a mass.

    Raises ImagingError for anything that CID 6014 does not hold.
    """
    key = finding.value, finding.scheme
    if key in _SEEN_AS_DENSITY:
        return DENSITY
    if key not in SINGLE_IMAGE_FINDINGS:
        raise ImagingError(
            f"label finding: found {finding.value} {finding.scheme} '{finding.meaning}'; allowed in a Mammography CAD "
            "report are the codes of CID 6014, and Mass",
            Reason.REPORT_FAILED,
        )
    return SINGLE_IMAGE_FINDINGS[key]


def composite_feature(finding: Code) -> Code:
    """The CID 6016 code of a lesion that was seen in two views as `finding`: densities are then one mass."""
    single = single_image_finding(finding)
    return BREAST_MASS if single == DENSITY else single


def rendering_intent(score: float, operating_point: float | None, is_validated: bool) -> Code:
    """CID 6034 for a lesion: presentation is required only of a validated package, at or above its operating point.

    A demonstration package has marks presented on request, and none below its operating point.
    """
    if operating_point is None:
        return OPTIONAL
    if score >= operating_point:
        return REQUIRED if is_validated else OPTIONAL
    return OPTIONAL if is_validated else NOT_FOR_PRESENTATION


def retire(item: Dataset) -> None:
    """Every SNOMED CT code in the data set as its SNOMED-RT code (PS3.16 Annex O), in place, with the same meaning.

    Raises ImagingError for a code that never had one.
    """
    retired: dict[str, str] = mapping["SCT"]
    for element in item:
        if element.VR != "SQ":
            continue
        for below in element.value:
            retire(below)
    if item.get("CodingSchemeDesignator") == "SCT":
        if item.CodeValue not in retired:
            raise ImagingError(
                f"code {item.CodeValue} SCT '{item.CodeMeaning}': found no SNOMED-RT equivalent; allowed with "
                "codes=srt are concepts that have one",
                Reason.REPORT_FAILED,
            )
        item.CodeValue, item.CodingSchemeDesignator = retired[item.CodeValue], "SRT"
