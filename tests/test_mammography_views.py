"""Which view a mammogram is, by its header, and which images of a study stand for the four standard views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from imaging.dicom.headers.view import radiographic_spacing, read_projection
from imaging.dicom.index import build_index
from imaging.dicom.select import UNPLACED, Anatomy, Selection
from imaging.errors import Reason
from imaging.image import View
from imaging.modalities.mammography.reasons import MammographyReason as Why
from imaging.modalities.mammography.selection import refusal_of, select
from tests.mammograms import FOR_PROCESSING, code_item, dataset

BLANK = np.zeros((4, 4), np.uint16)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CC, MLO, ML = "399162004", "399368009", "399260004"
SPOT, MAGNIFICATION, IMPLANT, PROFILE, TAIL = "399055006", "399163009", "399209000", "442581004", "399011000"

NONE = {"ImageLaterality": None, "ViewPosition": None}
RECOGNISED: list[tuple[str, dict[str, Any], View | None, Why | None]] = [
    ("codes", {"ViewCodeSequence": [code_item(CC)], "ViewPosition": None}, View("L", "CC"), None),
    ("older codes", {"ViewCodeSequence": [code_item("R-10226")], "ViewPosition": None}, View("L", "MLO"), None),
    ("codes before position", {"ViewCodeSequence": [code_item(CC)]}, View("L", "CC"), None),
    ("position", {"ViewPosition": "CC"}, View("L", "CC"), None),
    ("side of the series", {"ImageLaterality": None, "Laterality": "R"}, View("R", "MLO"), None),
    ("side before the view", {**NONE, "ViewPosition": "RMLO"}, View("R", "MLO"), None),
    ("film archive", {**NONE, "Laterality": "L", "PatientOrientation": "CC"}, View("L", "CC"), None),
    ("ML is not MLO", {"ViewPosition": "ML"}, View("L", "ML"), Why.OTHER_VIEW),
    ("coded ML", {"ViewCodeSequence": [code_item(ML)]}, View("L", "ML"), Why.OTHER_VIEW),
    ("LM is no letter and a rest", {"ViewPosition": "LM"}, View("L", "LM"), Why.OTHER_VIEW),
    ("exaggerated", {"ViewPosition": "XCCL"}, View("L", "XCCL"), Why.OTHER_VIEW),
    (
        "axillary tail",
        {"ViewCodeSequence": [code_item(MLO, TAIL)]},
        View("L", "MLO", ("axillary tail",)),
        Why.OTHER_VIEW,
    ),
    ("profile", {"ViewCodeSequence": [code_item(MLO, PROFILE)]}, View("L", "MLO", ("nipple in profile",)), None),
    (
        "spot and magnification",
        {"ViewCodeSequence": [code_item(CC, SPOT, MAGNIFICATION)]},
        View("L", "CC", ("spot compression", "magnification")),
        Why.SPOT_OR_MAGNIFICATION,
    ),
    (
        "magnified by its factor",
        {"EstimatedRadiographicMagnificationFactor": 1.8},
        View("L", "MLO", ("magnification",)),
        Why.SPOT_OR_MAGNIFICATION,
    ),
    ("contact by its factor", {"EstimatedRadiographicMagnificationFactor": 1.08}, View("L", "MLO"), None),
    (
        "spot by its paddle",
        {"PaddleDescription": "SPOT COMP"},
        View("L", "MLO", ("spot compression",)),
        Why.SPOT_OR_MAGNIFICATION,
    ),
    (
        "implant",
        {"ViewCodeSequence": [code_item(MLO, IMPLANT)]},
        View("L", "MLO", ("implant displaced",)),
        Why.IMPLANT_DISPLACED,
    ),
    (
        "implant by position",
        {"ViewPosition": "MLOID"},
        View("L", "MLO", ("implant displaced",)),
        Why.IMPLANT_DISPLACED,
    ),
    ("specimen", {"ViewCodeSequence": [code_item("127457009")]}, View("L", "specimen"), Why.SPECIMEN),
    ("specimen described", {"SpecimenDescriptionSequence": [Dataset()]}, View("L", "MLO"), Why.SPECIMEN),
    (
        "synthetic",
        {"ImageType": ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"]},
        View("L", "MLO"),
        Why.SYNTHETIC_2D,
    ),
    ("synthetic by name", {"SeriesDescription": "L MLO C-View"}, View("L", "MLO"), Why.SYNTHETIC_2D),
    (
        "tomosynthesis",
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"},
        View("L", "MLO"),
        Why.TOMOSYNTHESIS,
    ),
    (
        "projections",
        {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ"]},
        View("L", "MLO"),
        Why.TOMOSYNTHESIS,
    ),
    ("slices", {"NumberOfFrames": 60}, View("L", "MLO"), Why.TOMOSYNTHESIS),
    ("one frame", {"NumberOfFrames": 1}, View("L", "MLO"), None),
    ("low energy", {"ImageType": ["ORIGINAL", "PRIMARY", "", "LOW_ENERGY"]}, View("L", "MLO"), None),
    (
        "recombined",
        {"ImageType": ["DERIVED", "PRIMARY", "", "RECOMBINED"]},
        View("L", "MLO"),
        Why.CONTRAST_MAMMOGRAM,
    ),
    ("both breasts", {"ImageLaterality": "B"}, None, Why.UNKNOWN_VIEW),
    ("no view", {"ViewPosition": None}, None, Why.UNKNOWN_VIEW),
    ("an unknown word", {"ViewPosition": "AP"}, None, Why.UNKNOWN_VIEW),
]


@pytest.mark.parametrize(("tags", "view", "refusal"), [r[1:] for r in RECOGNISED], ids=[r[0] for r in RECOGNISED])
def test_views_and_what_keeps_them_from_being_standard(
    tags: dict[str, Any], view: View | None, refusal: Why | None
) -> None:
    found = read_projection(dataset(BLANK, **tags))
    assert found.view == view
    assert refusal_of(found) == refusal


def test_contradictions_are_said_and_the_first_fact_stands() -> None:
    tags = {"ImageLaterality": "R", "Laterality": "L", "ViewCodeSequence": [code_item(CC)], "ViewPosition": "MLO"}
    found = read_projection(dataset(BLANK, **tags))
    assert found.view == View("R", "CC")
    assert found.notes == (
        "The header contradicts itself about the side: R, L; the first is used",
        "The header contradicts itself about the view: CC, MLO; the first is used",
    )


DETECTOR = {"ImagerPixelSpacing": [0.1, 0.1]}
MAGNIFIED = {"EstimatedRadiographicMagnificationFactor": 1.25}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"ImagerPixelSpacing": [0.1, 0.07]}, (0.1, 0.07)),
        ({**DETECTOR, **MAGNIFIED}, (0.08, 0.08)),
        ({**DETECTOR, "DistanceSourceToDetector": 660, "DistanceSourceToPatient": 600}, (1 / 11, 1 / 11)),
        ({**DETECTOR, "EstimatedRadiographicMagnificationFactor": 9}, (0.1, 0.1)),
        ({"PixelSpacing": [0.05, 0.05]}, (0.05, 0.05)),
        ({**DETECTOR, **MAGNIFIED, "PixelSpacing": [0.1, 0.1]}, (0.08, 0.08)),
        ({**DETECTOR, **MAGNIFIED, "PixelSpacing": [0.09, 0.09]}, (0.09, 0.09)),
        ({**DETECTOR, **MAGNIFIED, "PixelSpacing": [0.1, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.1, 0.1)),
        ({"NominalScannedPixelSpacing": [0.05, 0.05]}, (0.05, 0.05)),
    ],
)
def test_millimetres_follow_the_rules_of_projection_radiography(tags: dict[str, Any], expected: Any) -> None:
    """PS3.3 10.7.1.3: a PixelSpacing equal to that of the detector was not corrected, another one was."""
    found = radiographic_spacing(dataset(BLANK, **tags))[0]
    assert found == (None if expected is None else pytest.approx(expected))


def study(folder: Path, *images: dict[str, Any], anatomy: Anatomy | None = None) -> Selection:
    """The selection of a study of these images, numbered from 1."""
    for number, tags in enumerate(images, 1):
        ds = dataset(BLANK, **{"SOPInstanceUID": f"1.2.3.{number}", "InstanceNumber": number, **tags})
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return select(build_index(folder).series, anatomy)


def told(selection: Selection) -> tuple[dict[str, list[str]], dict[str, Reason]]:
    """Role → file names, a refused one with its reason behind it; and file name → why it was left out."""
    roles = selection.group.roles if selection.group else {}
    named = {
        role: [" ".join(filter(None, (ref.instance.name[0], ref.instance.refusal))) for ref in refs]
        for role, refs in roles.items()
    }
    return named, {instance.name[0]: reason for instance, reason in selection.rejected}


def image(side: str, view: str, **tags: Any) -> dict[str, Any]:
    return {"ImageLaterality": side, "ViewPosition": view, **tags}


def test_four_views_of_a_screening_exam(tmp_path: Path) -> None:
    roles, left = told(study(tmp_path, image("R", "MLO"), image("L", "MLO"), image("R", "CC"), image("L", "CC")))
    assert roles == {"L CC": ["4"], "L MLO": ["2"], "R CC": ["3"], "R MLO": ["1"]}
    assert left == {}


def test_presentation_before_processing_newest_of_repeats_plain_before_modified(tmp_path: Path) -> None:
    raw = {"SOPClassUID": FOR_PROCESSING, "PresentationIntentType": "FOR PROCESSING", "AcquisitionDate": "20260103"}
    roles, left = told(
        study(
            tmp_path,
            image("L", "CC", AcquisitionDate="20260102", AcquisitionTime="101500"),
            image("L", "CC", AcquisitionDate="20260102", AcquisitionTime="101000"),
            image("L", "CC", **raw),
            image("L", "CC", AcquisitionDate="20260102", ViewCodeSequence=[code_item(CC, PROFILE)]),
            image("L", "CC", EstimatedRadiographicMagnificationFactor=1.5),
            image("L", "ML"),
        )
    )
    assert roles == {"L CC": ["1"]}
    assert left == {
        "2": Why.REPEATED_VIEW,
        "3": Why.FOR_PROCESSING,
        "4": Why.MODIFIED_VIEW,
        "5": Why.SPOT_OR_MAGNIFICATION,
        "6": Why.OTHER_VIEW,
    }


def test_all_parts_of_a_large_breast_are_read_unless_a_whole_image_exists(tmp_path: Path) -> None:
    parts = [image("L", "CC", PartialView="YES"), image("L", "CC", PartialView="YES")]
    roles, left = told(study(tmp_path, *parts))
    assert (roles, left) == ({"L CC": ["1", "2"]}, {})
    roles, left = told(study(tmp_path, *parts, image("L", "CC")))
    assert (roles, left) == (
        {"L CC": ["3"]},
        {"1": Why.PARTIAL_VIEW, "2": Why.PARTIAL_VIEW},
    )


def test_a_view_that_cannot_be_used_counts_as_unread(tmp_path: Path) -> None:
    """The right CC exists for processing alone and the third image names no view: a "no" would hide both."""
    raw = {"SOPClassUID": FOR_PROCESSING, "PresentationIntentType": "FOR PROCESSING"}
    roles, left = told(study(tmp_path, image("L", "CC"), image("R", "CC", **raw), image("R", "")))
    assert roles == {"L CC": ["1"], "R CC": ["2 for_processing"], UNPLACED: ["3 unknown_view"]}
    assert left == {}


def test_a_study_of_synthetic_images_alone_has_no_group(tmp_path: Path) -> None:
    selection = study(tmp_path, image("L", "CC", ImageType=["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"]))
    assert selection.group is None
    assert told(selection)[1] == {"1": Why.SYNTHETIC_2D}


def test_borrowed_classes_must_show_a_breast(tmp_path: Path) -> None:
    plate = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR"}
    film = {"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT"}
    roles, left = told(
        study(
            tmp_path,
            image("L", "CC", **plate, BodyPartExamined="BREAST"),
            image("R", "CC", **plate, BodyPartExamined="CHEST"),
            image("R", "MLO", **film),
            image("L", "MLO", **film, BodyPartExamined="BREAST"),
            image("R", "MLO", SOPClassUID=SECONDARY_CAPTURE, Modality="US", BodyPartExamined="BREAST"),
        )
    )
    assert roles == {"L CC": ["1"], "L MLO": ["4"]}
    assert left == {"2": Reason.NO_PACKAGE, "3": Reason.NO_PACKAGE, "5": Reason.NO_PACKAGE}


def test_a_mammogram_need_not_name_the_breast_but_must_name_nothing_else(tmp_path: Path) -> None:
    anatomy = Anatomy(frozenset(("BREAST",)), unknown_too=False)
    selection = study(tmp_path, image("L", "CC"), image("R", "CC", BodyPartExamined="HAND"), anatomy=anatomy)
    assert told(selection) == ({"L CC": ["1"]}, {"2": Reason.OTHER_ANATOMY})


@pytest.mark.shared_data
def test_film_scans_are_four_views(shared_data: Path) -> None:
    """Each is a study of its own: PatientID and StudyInstanceUID differ per view."""
    index = build_index(shared_data / "mammography" / "cbis_p00173")
    groups = [select(series).group for series in index.studies().values()]
    assert sorted(role for group in groups if group for role in group.roles) == ["L CC", "L MLO", "R CC", "R MLO"]
