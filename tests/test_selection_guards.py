"""What of a study stands for what: volumes related by more than coordinates, headers against what is there, slices
that are there twice, images that are rejected, and captures. Each guard has its near miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from imaging.dicom.exam import read_exam
from imaging.dicom.index import build_index
from imaging.dicom.select import Group, Selection, Volumes
from imaging.errors import Reason
from imaging.modalities.mammography.reasons import MammographyReason as Why
from imaging.modalities.mammography.selection import select as select_views
from imaging.modalities.prostate.selection import select
from tests.mammograms import dataset as mammogram
from tests.mr_series import ADC, T2, TRACE, Change, enhanced, private, slices
from tests.mr_series import group as enhanced_group

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
PRESENTATION = "1.2.840.10008.5.1.4.1.1.11.1"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
B_VALUE = {**TRACE, "FlipAngle": 90}


def exam(folder: Path, **of_series: dict[str, Any]) -> Selection:
    """T2W (series 1), a high b (2) and an ADC map (3); `t2`, `dwi`, `adc` change what `slices` is told."""
    common: dict[str, Any] = {}
    for number, name, tags in ((1, "t2", T2), (2, "dwi", {**B_VALUE, "DiffusionBValue": 800.0}), (3, "adc", ADC)):
        options = {**common, **of_series.get(name, {})}
        slices(folder, number, {**tags, **options.pop("tags", {})}, **options)
    return select(build_index(folder).series)


def group(selection: Selection) -> Group:
    assert selection.group is not None
    return selection.group


def unread(selection: Selection) -> dict[str, set[Any]]:
    return {role: {ref.instance.refusal for ref in refs} for role, refs in group(selection).roles.items()}


# Frame of reference


@pytest.mark.parametrize("uid", ["1.2.3.98", ""], ids=["another", "none"])
def test_volumes_without_a_common_frame_of_reference_are_not_fused(tmp_path: Path, uid: str) -> None:
    other = {"tags": {"FrameOfReferenceUID": uid}}
    found = exam(tmp_path, dwi=other, adc=other)
    apart = {Reason.FRAME_OF_REFERENCE}
    assert unread(found) == {"T2W": {None}, "ADC": apart, "high b": apart}
    assert any("no Frame of Reference UID in common" in note for note in group(found).notes)


def test_the_t2w_of_the_session_of_the_diffusion_is_read(tmp_path: Path) -> None:
    """The patient was laid down again: a T2W of each session, and diffusion in the second alone."""
    slices(tmp_path, 7, {**T2, "FrameOfReferenceUID": "1.2.3.98"})
    found = exam(tmp_path)
    assert unread(found) == {"T2W": {None}, "ADC": {None}, "high b": {None}}
    assert {ref.instance.series_number for ref in group(found).roles["T2W"]} == {1}
    assert {(i.series_number, reason) for i, reason in found.rejected} == {(7, Reason.LESS_SUITED)}


# Headers against what is there


def test_a_series_with_fewer_images_than_stated_has_a_gap(tmp_path: Path) -> None:
    found = exam(tmp_path, t2={"tags": {"ImagesInAcquisition": 16}}, adc={"tags": {"ImagesInAcquisition": 30}})
    assert group(found).gaps == (("T2W", "T2W: 15 images of the series are there; its header states 16"),)
    assert "T2W: 15 images of the series are there; its header states 16" in group(found).notes


@pytest.mark.parametrize("stated", [15, 14, ""])
def test_counts_that_are_reached_or_unsaid_are_no_gap(tmp_path: Path, stated: Any) -> None:
    assert group(exam(tmp_path, t2={"tags": {"ImagesInAcquisition": stated}})).gaps == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda k, d: setattr(d, "NumberOfSlices", 20), "15 slices are there; the header states 20"),
        (lambda k, d: setattr(d, "NumberOfSeriesRelatedInstances", 18), "15 images of the series"),
        (lambda k, d: private(d, 0x2001, "Philips Imaging DD 001", 0x18, "SL", 17), "the header states 17"),
        (lambda k, d: private(d, 0x0021, "GEMS_RELA_01", 0x4F, "SL", 16), "the header states 16"),
        (lambda k, d: d.update({0x00180088: _element("SpacingBetweenSlices", 1.5)}), "2 times as far apart"),
    ],
    ids=["slices", "series", "Philips", "GE", "step"],
)
def test_what_a_header_states_of_the_volume_is_held_against_it(tmp_path: Path, change: Change, words: str) -> None:
    found = exam(tmp_path, t2={"change": change})
    assert len(group(found).gaps) == 1
    assert words in group(found).gaps[0][1]


@pytest.mark.parametrize(
    "tags",
    [
        {"SpacingBetweenSlices": 3.0, "SliceThickness": 3.0},
        {"SpacingBetweenSlices": 0.3, "SliceThickness": 2.7},  # the gap, as some makers write it
        {"SpacingBetweenSlices": 2.0, "SliceThickness": 2.0},  # no whole number of steps
    ],
)
def test_steps_that_agree_or_may_be_gaps_are_none(tmp_path: Path, tags: dict[str, Any]) -> None:
    assert group(exam(tmp_path, t2={"tags": tags})).gaps == ()


def _element(keyword: str, value: Any) -> Any:
    one = Dataset()
    setattr(one, keyword, value)
    return one[keyword]


# A slice twice


def again(folder: Path, name: str, **changes: Any) -> None:
    """One slice of the T2W once more, under another SOP Instance UID."""
    copy = dcmread(folder / "01_004.dcm")
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    copy.InstanceNumber = 99
    for keyword, value in changes.items():
        setattr(copy, keyword, value)
    copy.save_as(folder / name, enforce_file_format=True)


def test_a_slice_that_is_there_twice_is_used_once(tmp_path: Path) -> None:
    exam(tmp_path)
    again(tmp_path, "copy.dcm")
    found = select(build_index(tmp_path).series)
    assert unread(found)["T2W"] == {None}
    assert len(group(found).roles["T2W"]) == 15
    assert [(i.name, reason) for i, reason in found.rejected] == [("copy.dcm", Reason.SAME_SLICE)]
    assert any(note.startswith("Left out, 1 of the images: the same slice") for note in group(found).notes)


def test_two_slices_at_one_place_that_differ_are_not_chosen_between(tmp_path: Path) -> None:
    exam(tmp_path)
    again(tmp_path, "other.dcm", PixelData=np.full((4, 6), 7, "<u2").tobytes())
    found = select(build_index(tmp_path).series)
    assert unread(found)["T2W"] == {Reason.GEOMETRY}


def test_the_same_pixels_of_another_worth_are_not_the_same(tmp_path: Path) -> None:
    exam(tmp_path)
    again(tmp_path, "other.dcm", RescaleSlope=2, RescaleIntercept=0)
    assert unread(select(build_index(tmp_path).series))["T2W"] == {Reason.GEOMETRY}


# Scales


def scaled(b: float, scale: float | None, stored: int) -> dict[str, Any]:
    """Options of a diffusion series of one b-value, all pixels but one `stored`, with Philips' scale slope."""

    def change(k: int, dataset: FileDataset) -> None:
        dataset.DiffusionBValue, dataset.RescaleSlope, dataset.RescaleIntercept = b, 2.0, 0.0
        if scale is not None:
            private(dataset, 0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", scale)
        dataset.InstanceNumber = int(b) + k
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()

    pixels = np.full((15, 4, 6), stored)
    pixels[:, 0, 0] = 1
    return {"change": change, "stored": pixels}


def decay(folder: Path, scales: dict[float, float | None]) -> Group:
    slices(folder, 1, T2)
    for b, scale in scales.items():
        part = folder / f"b{b:g}"
        part.mkdir()
        slices(part, 2, B_VALUE, **scaled(b, scale, 100 if scale is None else int(100 * scale)))
    return group(select(build_index(folder).series))


def test_b_values_stored_with_several_scales_are_read_as_floating_point(tmp_path: Path) -> None:
    """Stored 400 at scale slope 4 and 100 at 1 are the same: (400 × 2) / (2 × 4) = (100 × 2) / (2 × 1) = 100."""
    found = decay(tmp_path, {100.0: 1.0, 800.0: 4.0})
    image = read_exam(Volumes(found.roles, found.key, found.readers)).image
    assert image is not None
    values = {role: float(volume.array[0, 0, 1, 1]) for role, volume in image.beside.items()}
    assert values == {"high b": 100.0, "b 100": 100.0}
    assert {role: volume.b_value for role, volume in image.beside.items()} == {"high b": 800.0, "b 100": 100.0}
    assert any("maker's floating point values" in note for note in image.notes)


def test_one_scale_leaves_the_stored_values(tmp_path: Path) -> None:
    found = decay(tmp_path, {100.0: 4.0, 800.0: 4.0})
    assert set(found.readers) == {"ADC"}


def test_a_b_value_without_a_scale_is_no_part_of_a_scaled_decay(tmp_path: Path) -> None:
    assert set(decay(tmp_path, {100.0: None, 800.0: 4.0}).roles) == {"T2W", "high b"}


# T2W by its times


def bare(**tags: Any) -> dict[str, Any]:
    return {**{key: value for key, value in T2.items() if key != "ScanningSequence"}, **tags}


def test_a_t2w_without_its_sequence_is_known_by_its_times(tmp_path: Path) -> None:
    slices(tmp_path, 1, bare())
    found = group(select(build_index(tmp_path).series))
    assert "T2W" in found.roles
    assert "Recognised as T2-weighted by its echo and repetition time; nothing states its sequence" in found.notes


@pytest.mark.parametrize(
    "tags", [{"EchoTime": 12}, {"RepetitionTime": 500}, {"RepetitionTime": None}, {"InversionTime": 150.0}]
)
def test_other_times_are_no_t2w(tmp_path: Path, tags: dict[str, Any]) -> None:
    slices(tmp_path, 1, bare(**tags))
    assert select(build_index(tmp_path).series).group is None


# Rejected images


def views(folder: Path, *images: dict[str, Any]) -> list[FileDataset]:
    made = []
    for number, tags in enumerate(images):
        pixels = np.arange(16, dtype=np.uint16).reshape(4, 4)
        one = mammogram(pixels, InstanceNumber=number, SOPInstanceUID=generate_uid(), **tags)
        one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        made.append(one)
    return made


FOUR = [{"ImageLaterality": side, "ViewPosition": view} for side in "LR" for view in ("CC", "MLO")]
LATE = {"AcquisitionDate": "20990101", "AcquisitionTime": "120000"}


def document(folder: Path, of: FileDataset, sop_class: str, **tags: Any) -> None:
    """A Key Object or presentation state that refers to one image."""
    one = mammogram(np.zeros((4, 4), np.uint16), SOPInstanceUID=generate_uid())
    for keyword in ("PixelData", "Rows", "Columns"):
        del one[keyword]
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = sop_class
    reference, item, series = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = of.SOPClassUID, of.SOPInstanceUID
    item.ValueType, item.ReferencedSOPSequence = "IMAGE", [reference]
    series.SeriesInstanceUID, series.ReferencedImageSequence = of.SeriesInstanceUID, [reference]
    if sop_class == KEY_OBJECT:
        one.ContentSequence = [item]
    else:
        one.ReferencedSeriesSequence = [series]
    for keyword, value in tags.items():
        setattr(one, keyword, value)
    one.save_as(folder / "document.dcm", enforce_file_format=True)


def titled(code: str) -> dict[str, Any]:
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, "DCM", "title"
    return {"ConceptNameCodeSequence": [title]}


REJECTS = [
    *((KEY_OBJECT, titled(code)) for code in ("113001", "113037", "113038", "113039")),
    (PRESENTATION, {"ContentLabel": "REJECTED"}),
]


@pytest.mark.parametrize(("sop_class", "tags"), REJECTS)
def test_a_rejected_image_never_decides_a_side(tmp_path: Path, sop_class: str, tags: dict[str, Any]) -> None:
    """The left CC was stored as a right one, rejected, and stored again; it is the newest of all."""
    made = views(tmp_path, *FOUR, {**FOUR[2], **LATE})
    document(tmp_path, made[4], sop_class, **tags)
    index = build_index(tmp_path)
    found = select_views(index.series)
    assert {role: [r.instance.name for r in refs] for role, refs in group(found).roles.items()} == {
        "L CC": ["0.dcm"], "L MLO": ["1.dcm"], "R CC": ["2.dcm"], "R MLO": ["3.dcm"]
    }  # fmt: skip
    assert [(i.name, reason) for i, reason in found.rejected] == [("4.dcm", Reason.REJECTED)]
    assert index.files["document.dcm"].reason is Reason.NOT_AN_IMAGE


KEEPS = [
    (KEY_OBJECT, titled("113000")),  # Of Interest
    (PRESENTATION, {"ContentLabel": "FOR SURGEON"}),
    (KEY_OBJECT, {**titled("113001"), "StudyInstanceUID": "1.2.3.4.5"}),  # of another study
]


@pytest.mark.parametrize(("sop_class", "tags"), KEEPS)
def test_other_documents_reject_nothing(tmp_path: Path, sop_class: str, tags: dict[str, Any]) -> None:
    made = views(tmp_path, *FOUR, {**FOUR[2], **LATE})
    document(tmp_path, made[4], sop_class, **tags)
    assert [r.instance.name for r in group(select_views(build_index(tmp_path).series)).roles["R CC"]] == ["4.dcm"]


def test_key_objects_are_read_in_the_worker_alike(tmp_path: Path) -> None:
    made = views(tmp_path, *FOUR)
    document(tmp_path, made[2], KEY_OBJECT, **titled("113037"))
    assert "R CC" not in group(select_views(build_index(tmp_path, workers=1).series)).roles


def test_an_image_for_quality_control_is_left_out(tmp_path: Path) -> None:
    views(tmp_path, *FOUR, {**FOUR[2], **LATE, "QualityControlImage": "YES"})
    found = select_views(build_index(tmp_path).series)
    assert [(i.name, reason) for i, reason in found.rejected] == [("4.dcm", Reason.QUALITY_CONTROL)]


# Captures


CAPTURES = [
    ({"SOPClassUID": CAPTURE, "BodyPartExamined": "BREAST"}, Why.CAPTURED_VIEW),
    ({"ConversionType": "WSD"}, Why.CAPTURED_VIEW),
    ({"ImageType": ["DERIVED", "SECONDARY"]}, Why.CAPTURED_VIEW),
    ({"ConversionType": "WSD", "BurnedInAnnotation": "YES"}, Why.BURNED_IN_CAPTURE),
]


@pytest.mark.parametrize(("tags", "reason"), CAPTURES)
def test_an_exposure_comes_before_a_later_capture_of_it(tmp_path: Path, tags: dict[str, Any], reason: Why) -> None:
    views(tmp_path, *FOUR, {**FOUR[0], **LATE, **tags})
    found = select_views(build_index(tmp_path).series)
    assert [r.instance.name for r in group(found).roles["L CC"]] == ["0.dcm"]
    assert [(i.name, why) for i, why in found.rejected] == [("4.dcm", reason)]


def test_of_two_captures_the_later_one_is_read(tmp_path: Path) -> None:
    """Films that were digitised are captures, all of them."""
    views(tmp_path, *({**view, "ConversionType": "DF"} for view in FOUR), {**FOUR[0], **LATE, "ConversionType": "DF"})
    found = select_views(build_index(tmp_path).series)
    assert [r.instance.name for r in group(found).roles["L CC"]] == ["4.dcm"]
    assert [why for _, why in found.rejected] == [Why.REPEATED_VIEW]


def test_a_capture_stands_in_for_no_exposure(tmp_path: Path) -> None:
    """Burned in, it counts as unread where it is alone; and so does an exposure that is not for reading."""
    views(tmp_path, *FOUR[1:], {**FOUR[0], "ConversionType": "WSD", "BurnedInAnnotation": "YES"})
    assert unread(select_views(build_index(tmp_path).series))["L CC"] == {Why.BURNED_IN_CAPTURE}
    raw = {**FOUR[0], "PresentationIntentType": "FOR PROCESSING"}
    (tmp_path / "second").mkdir()
    views(tmp_path / "second", *FOUR[1:], raw, {**FOUR[0], **LATE, "ConversionType": "WSD"})
    assert unread(select_views(build_index(tmp_path / "second").series))["L CC"] == {Why.FOR_PROCESSING}


def frames(count: int, stated: int) -> list[Dataset]:
    """T2W frames of one Enhanced object; the last one says that it is slice `stated` of its stack."""
    made = []
    for k in range(count):
        place = stated if k == count - 1 else k + 1
        made.append(
            enhanced_group(
                PlanePositionSequence=[enhanced_group(ImagePositionPatient=[-20.0, 11.0, 5.0 + 3.0 * k])],
                FrameContentSequence=[enhanced_group(StackID="1", InStackPositionNumber=place)],
            )
        )
    return made


def whole_t2w(folder: Path, stated: int, **tags: Any) -> Group:
    shared = enhanced_group(
        PlaneOrientationSequence=[enhanced_group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[enhanced_group(PixelSpacing=[0.5, 0.5])],
        MREchoSequence=[enhanced_group(EffectiveEchoTime=101.0)],
        MRTimingAndRelatedParametersSequence=[enhanced_group(RepetitionTime=4000.0)],
    )
    enhanced(folder, 1, frames(15, stated), shared, EchoPulseSequence="SPIN", **tags)
    return group(select(build_index(folder).series))


@pytest.mark.parametrize(("stated", "gaps"), [(15, 0), (21, 1)])
def test_the_places_in_a_stack_tell_of_slices_that_are_missing(tmp_path: Path, stated: int, gaps: int) -> None:
    assert len(whole_t2w(tmp_path, stated).gaps) == gaps


@pytest.mark.parametrize(("parts", "gaps"), [(1, 0), (2, 1)])
def test_a_concatenation_is_whole_or_has_a_gap(tmp_path: Path, parts: int, gaps: int) -> None:
    found = whole_t2w(tmp_path, 15, ConcatenationUID="1.2.3.77", InConcatenationTotalNumber=parts)
    assert len(found.gaps) == gaps
