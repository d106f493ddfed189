"""DICOM results: every outcome is written, read back, and refused as soon as it disagrees with its source."""

from __future__ import annotations

import copy
import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from imaging.dicom.results.read import ReadRating, ReadReport, ReadSegmentation, read_result
from imaging.errors import ConfigError, ImagingError, InputError, ReadbackError, Reason
from imaging.exam.result import ExamFinding, Unread
from imaging.findings import Code
from imaging.inference.run import parse_time
from imaging.report.agreement import filled_outline
from imaging.report.document import ECHOED, Document, derived_uid, identity_of, seal
from imaging.report.kind import Subject
from imaging.report.readback import verify
from imaging.report.write import GENERAL, write_documents
from tests.conftest import REPOSITORY
from tests.report_cases import (
    ALGORITHM,
    CASES,
    CONTENT_TIME,
    LESION,
    NAMES,
    RATED,
    SERIES,
    STUDY,
    Case,
    case,
    ref,
    set_raw,
    source,
)

IDENTITY_TAGS = frozenset(ECHOED)


def written(subject: Case) -> list[Document]:
    return write_documents(Subject(subject.result, subject.sources, CONTENT_TIME, still_segmentations=True))


def report_of(documents: list[Document]) -> ReadReport:
    found = read_result(documents[-1].data, IDENTITY_TAGS)
    assert isinstance(found, ReadReport)
    return found


def tampered(
    document: Document, subject: Case, change: Callable[[Dataset], None], identity: dict[int, bytes] | None = None
) -> Document:
    """The document with a change, sealed again so that only the change itself can be noticed."""
    dataset = pydicom.dcmread(io.BytesIO(document.data))
    change(dataset)
    own = identity_of(next(iter(subject.sources.values()))) if identity is None else identity
    return seal(dataset, own, document.kind)


@pytest.fixture(scope="module")
def by_case() -> dict[str, tuple[Case, list[Document]]]:
    subjects = {name: case(name) for name in CASES}
    return {name: (subject, written(subject)) for name, subject in subjects.items()}


# -- What is said ------------------------------------------------------------------------------------------------------

# PS3.16 CID 6047, CID 6042; PS3.3 C.17.2 Completion Flag.
SAID = {
    "yes-all": ("111242", "111222", "COMPLETE"),
    "yes-some": ("111244", "111223", "PARTIAL"),
    "no-all": ("111241", "111222", "COMPLETE"),
    "unknown-some": ("111243", "111223", "PARTIAL"),
    "unknown-none": ("111245", "111225", "PARTIAL"),
    "uncalibrated": ("111242", "111222", "COMPLETE"),
    "cine": ("111242", "111222", "COMPLETE"),
    "cine-some": ("111244", "111223", "PARTIAL"),
    "yes-rated": ("111242", "111222", "COMPLETE"),
    "cine-rated": ("111242", "111222", "COMPLETE"),
    "no-rated": ("111241", "111222", "COMPLETE"),
}


@pytest.mark.parametrize("name", CASES)
def test_outcome_is_coded(name: str, by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    read = report_of(by_case[name][1])
    assert read.outcome is not None
    assert read.detections is not None
    assert (read.outcome.value, read.detections.value, read.completion) == SAID[name]
    assert read.verification == "UNVERIFIED"
    assert any("Not for clinical use" in comment for comment in read.comments)
    assert any("Scanner not among those" in comment for comment in read.comments)


def test_nothing_read_after_a_try_is_failed_not_unattempted() -> None:
    subject = case("unknown-none")
    unread = (Unread(subject.result.unread[0].ref, Reason.DECODE_FAILED), subject.result.unread[1])
    read = report_of(written(dataclasses.replace(subject, result=dataclasses.replace(subject.result, unread=unread))))
    assert read.detections == Code("111224", "DCM", "Failed")


def test_unread_images_are_named_with_reason_and_frames(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    still, cine = report_of(by_case["yes-some"][1]), report_of(by_case["cine-some"][1])
    uid = str(source("b").SOPInstanceUID)
    sentence = f"Not analyzed: image {uid}. Reason decode_failed: the pixel data cannot be decoded."
    assert sentence in still.comments
    assert any("Not analyzed: frames 3-4 of image" in comment for comment in cine.comments)
    assert {reference.sop_uid for reference in still.library} == {str(source(n).SOPInstanceUID) for n in "ab"}
    assert cine.library[0].frames == (1, 2, 3, 4)


def test_whole_unread_cine_is_referenced_without_frames() -> None:
    subject = case("cine-some")
    cine = next(iter(subject.sources.values()))
    result = dataclasses.replace(
        subject.result, findings=(), analysed=(), unread=(Unread(ref(cine), Reason.DECODE_FAILED),)
    )
    assert report_of(written(Case(result, subject.sources))).library[0].frames == ()


def test_measures_by_hand(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    """8 × 12 pixels of 0.2 × 0.3 mm less a notch of 6 and a hole of 1: 89 pixels of 0.06 mm²."""
    first = report_of(by_case["yes-all"][1]).findings[0]
    given = {m.concept.meaning: (m.value, m.unit.value) for m in first.measures if m.concept and m.unit}
    assert given["Area"] == (5.34, "mm2")
    assert given["Long axis"][1] == "mm"
    assert first.score == pytest.approx(0.9123)
    assert (first.label, first.sites) == (LESION.finding, (LESION.site,))


def probabilities(read: ReadReport) -> list[object]:
    """Whatever a report says by 111047 DCM, as it stands."""
    named = [item for item in read.root.walk() if item.is_named(("111047", "DCM"))]
    return [item.value.value if item.value_type == "NUM" else item.value for item in named]


def test_a_validated_package_states_its_rating_and_what_it_means(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    read = report_of(by_case["yes-rated"][1])
    assert [finding.rating for finding in read.findings] == pytest.approx([0.8124, 0.25])
    assert read.rating == ReadRating(pytest.approx(0.6172), str(source("a").SOPInstanceUID))
    assert {m.unit.value for f in read.findings for m in f.measures if m.value in (81.24, 25.0) and m.unit} == {"%"}
    assert read.comments[:3] == (
        "Not for clinical use: research software.",
        "Validated on: 1200 women of a screening unit. Prevalence there: 31.25 %. "
        "Operating point: p 0.4: sensitivity 0.95, specificity 0.6.",
        "Probability of cancer: of a finding, malignant against benign on the image of its outline; of the "
        "examination, malignant among all classes of an image, highest of its images.",
    )
    cine = f"37.5 %, on image {source('c', frames=4).SOPInstanceUID}, frame 2"
    assert probabilities(report_of(by_case["cine-rated"][1])) == [50.0, cine]
    clean = report_of(by_case["no-rated"][1])
    assert (clean.findings, clean.rating) == ((), ReadRating(pytest.approx(0.0406), str(source("b").SOPInstanceUID)))


@pytest.mark.parametrize("name", ["yes-rated", "cine-rated", "no-rated"])
def test_without_a_declared_validation_no_probability_is_written(name: str) -> None:
    subject = case(name)
    unproven = dataclasses.replace(RATED, calibration=None)
    read = report_of(written(Case(dataclasses.replace(subject.result, algorithm=unproven), subject.sources)))
    assert probabilities(read) == []
    assert read.comments[0] == "Not for clinical use: the algorithm is not validated."
    assert not any("%" in comment or "robability" in comment for comment in read.comments)


def test_uncalibrated_gives_no_millimetres_and_says_so(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    read = report_of(by_case["uncalibrated"][1])
    assert read.findings[0].measures == ()
    assert any(c.startswith("Lesion 1: the image has no calibration") for c in read.comments)


def test_cine_names_key_frame_and_all_frames_and_why_no_segmentation(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    documents = by_case["cine"][1]
    read = report_of(documents)
    assert [d.kind for d in documents] == ["sr"]
    assert read.findings[0].image is not None
    assert read.findings[0].image.frames == (3,)
    assert any("was seen in frames 2-4 of image" in comment for comment in read.comments)
    assert any("no segmentation object" in comment and "several frames" in comment for comment in read.comments)


def test_stills_without_place_have_no_segmentation_unless_asked_and_the_report_says_so() -> None:
    """Their masks are then the outlines, holes included."""
    subject = case("yes-all")
    documents = write_documents(Subject(subject.result, subject.sources, CONTENT_TIME))
    assert [d.kind for d in documents] == ["sr"]
    read = report_of(documents)
    said = [comment for comment in read.comments if "no segmentation object" in comment]
    assert [comment.split("because ")[1] for comment in said] == ["it has no Frame of Reference."] * 2
    for found, finding in zip(read.findings, subject.result.findings, strict=True):
        assert found.points_px is not None
        mask = filled_outline("outline", found.points_px[:-1], finding.key.source_grid.shape)
        np.testing.assert_array_equal(mask, finding.key.full_mask())


def test_a_segmentation_of_a_still_has_a_plane_of_its_own_with_the_steps_of_its_image() -> None:
    """Pixels of 0.2 x 0.3 mm from the first one on; an image without calibration gets 1 mm, and the report says so."""
    for name, steps in (("yes-some", [0.2, 0.3]), ("uncalibrated", [1.0, 1.0])):
        documents = written(case(name))
        made = pydicom.dcmread(io.BytesIO(documents[0].data))
        [shared], [frame] = made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence
        assert made.FrameOfReferenceUID.startswith("2.25.")
        assert shared.PixelMeasuresSequence[0].PixelSpacing == steps
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]
        said = f"{documents[0].sop_instance_uid}: its position is that of the pixels of its image, not of the patient."
        assert said in report_of(documents).comments


def test_a_report_names_the_request_as_the_images_state_it() -> None:
    subject = case("no-all")
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP1", "Breast US"
    for header in subject.sources.values():
        header.RequestAttributesSequence = [request]
        header.PlacerOrderNumberImagingServiceRequest = "P7"
    [item] = pydicom.dcmread(io.BytesIO(written(subject)[0].data)).ReferencedRequestSequence
    assert (item.AccessionNumber, item.PlacerOrderNumberImagingServiceRequest) == ("A1", "P7")
    assert (item.RequestedProcedureID, item.RequestedProcedureDescription) == ("RP1", "Breast US")
    assert (item.StudyInstanceUID, item.FillerOrderNumberImagingServiceRequest) == (STUDY, "")


def test_segments_carry_mask_codes_and_the_tracking_uid_of_the_report(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    subject, documents = by_case["yes-all"]
    read = report_of(documents)
    segmentations = [read_result(d.data) for d in documents[:-1]]
    assert [len(s.segments) for s in segmentations if isinstance(s, ReadSegmentation)] == [2, 1]
    segments = [s for one in segmentations if isinstance(one, ReadSegmentation) for s in one.segments]
    assert [s.tracking_uid for s in segments] == [f.tracking_uid for f in read.findings]
    for segment, finding in zip(segments, subject.result.findings, strict=True):
        np.testing.assert_array_equal(segment.frames[0].mask, finding.key.full_mask())
        assert segment.frames[0].sources[0].sop_uid == finding.key.ref.sop_uid
        assert (segment.category, segment.kind) == (LESION.category, LESION.kind)
    evidence = {entry.sop_uid for entry in read.evidence}
    assert evidence == set(subject.sources) | {d.sop_instance_uid for d in documents[:-1]}


def test_own_series_for_each_kind_and_never_a_source_series(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    series = {d.kind: str(pydicom.dcmread(io.BytesIO(d.data)).SeriesInstanceUID) for d in by_case["yes-all"][1]}
    assert len({*series.values(), SERIES}) == 3


# -- Identity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", NAMES)
def test_identity_is_the_source_bytes(script: str) -> None:
    subject = case("yes-all", script)
    charset, name = NAMES[script]
    for document in written(subject):
        found = read_result(document.data, IDENTITY_TAGS).identity
        assert found[0x00100010] == name + b" " * (len(name) % 2)
        assert found.get(0x00080005, b"").strip() == (charset or b"").strip()
        assert found[0x00100020] == b"P-1 "
        assert found[0x0020000D].rstrip(b"\0") == STUDY.encode()
    decoded = pydicom.dcmread(io.BytesIO(document.data)).PatientName
    if script == "ligature":
        assert str(decoded) == "Lecœur^Zoé"
    if script == "japanese":
        assert decoded.ideographic == "山田^太郎"
        assert decoded.phonetic == "やまだ^たろう"


def test_absent_type_2_is_written_empty_and_absent_type_3_stays_absent() -> None:
    subject = case("no-all")
    for header in subject.sources.values():
        for keyword in ("PatientBirthDate", "AccessionNumber", "IssuerOfPatientID", "StudyDescription"):
            delattr(header, keyword)
    found = report_of(written(subject)).identity
    assert (found[0x00100030], found[0x00080050]) == (b"", b"")
    assert 0x00100021 not in found
    assert 0x00081030 not in found


def test_a_value_longer_than_its_vr_allows_is_echoed_all_the_same() -> None:
    subject = case("no-all")
    for header in subject.sources.values():
        header["AccessionNumber"] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(0x00080050), "SH", 40, b"A" * 39 + b" ", 0, False, True
        )
    assert report_of(written(subject)).identity[0x00080050] == b"A" * 39 + b" "


def test_decoded_header_is_refused() -> None:
    subject = case("no-all", "ligature")
    for header in subject.sources.values():
        assert header.PatientName == "Lecœur^Zoé"
    with pytest.raises(ImagingError, match="PatientName: found a decoded value"):
        written(subject)


def test_two_patients_in_one_result_are_refused() -> None:
    subject = case("no-all")
    other = source("b", patient=b"P-2 ")
    subject.sources[str(other.SOPInstanceUID)] = other
    with pytest.raises(InputError, match=r"\(0010,0020\).*one patient") as caught:
        written(subject)
    assert caught.value.reason is Reason.MIXED_PATIENTS
    assert "P-2" not in str(caught.value)


# -- Same UID ⇔ same bytes ---------------------------------------------------------------------------------------------

_DIGEST = """
import hashlib, sys
sys.path.insert(0, ".")
from tests.report_cases import CONTENT_TIME, case
from imaging.report.kind import Subject
from imaging.report.write import write_documents
c = case("yes-all")
about = Subject(c.result, c.sources, CONTENT_TIME, still_segmentations=True)
print([hashlib.sha256(d.data).hexdigest() for d in write_documents(about)])
"""


def test_two_processes_write_the_same_bytes() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def own_uids(documents: list[Document]) -> set[str]:
    given = {STUDY, SERIES, *(str(source(name).SOPInstanceUID) for name in "abc")}
    uids: set[str] = set()
    for document in documents:
        for element in pydicom.dcmread(io.BytesIO(document.data)).iterall():
            if element.VR == "UI" and str(element.value).startswith("2.25."):
                uids.add(str(element.value))
    return uids - given


def test_one_changed_weight_changes_every_uid_but_those_of_planes() -> None:
    subject = case("yes-all")
    other = dataclasses.replace(ALGORITHM, identity="ab" * 31 + "ac")
    again = Case(dataclasses.replace(subject.result, algorithm=other), subject.sources)
    before, after = own_uids(written(subject)), own_uids(written(again))
    assert len(before) == len(after) >= 10
    # Only the planes of the images are shared, so that segmentations of several packages lie on one another.
    assert before & after == {derived_uid("frame of reference", uid) for uid in subject.sources}


def test_another_content_time_is_another_series_with_the_same_lesions() -> None:
    subject = case("yes-all")
    later = write_documents(
        Subject(subject.result, subject.sources, CONTENT_TIME.replace(hour=9), still_segmentations=True)
    )
    first, second = report_of(written(subject)), report_of(later)
    assert first.sop_uid != second.sop_uid
    assert first.series_uid != second.series_uid
    assert [f.tracking_uid for f in first.findings] == [f.tracking_uid for f in second.findings]


def test_equal_findings_get_different_tracking_uids() -> None:
    subject = case("yes-all")
    twice = dataclasses.replace(subject.result, findings=subject.result.findings[:1] * 2)
    found = report_of(written(Case(twice, subject.sources))).findings
    assert found[0].tracking_uid != found[1].tracking_uid


# -- What cannot be written --------------------------------------------------------------------------------------------


def with_finding(**changes: object) -> Case:
    subject = case("yes-some")
    key = dataclasses.replace(subject.result.findings[0].key, **changes)  # type: ignore[arg-type]
    return Case(dataclasses.replace(subject.result, findings=(ExamFinding(key),)), subject.sources)


def test_values_that_cannot_be_coded_are_refused_by_name() -> None:
    with pytest.raises(ImagingError, match="Certainty of Finding: found nan"):
        written(with_finding(score=float("nan")))
    zigzag = np.stack([np.arange(9000) % 80, np.arange(9000) % 60], axis=1).astype(float)
    with pytest.raises(ImagingError, match="found 9000 points; allowed are 3 to 8190"):
        written(with_finding(outline_px=zigzag))
    subject = case("yes-some")
    measured = ExamFinding(subject.result.findings[0].key, measures={"mood": 1.0})
    with pytest.raises(ImagingError, match="found 'mood'; a report can only code longest_diameter_mm"):
        written(Case(dataclasses.replace(subject.result, findings=(measured,)), subject.sources))
    umlaut = dataclasses.replace(ALGORITHM, manufacturer="Müller")
    with pytest.raises(ImagingError, match="printable ASCII"):
        written(Case(dataclasses.replace(subject.result, algorithm=umlaut), subject.sources))
    with pytest.raises(ImagingError, match="found no source header"):
        written(Case(subject.result, {}))
    with pytest.raises(ImagingError, match="a result without any image"):
        written(Case(dataclasses.replace(subject.result, findings=(), analysed=(), unread=()), subject.sources))


def test_a_note_may_quote_any_letters() -> None:
    subject = case("no-all", "greek")
    result = dataclasses.replace(subject.result, notes=("Scanner 'Esaoté\n' was never seen",))
    assert "Scanner 'Esaot??' was never seen" in report_of(written(Case(result, subject.sources))).comments


# -- Planted faults ----------------------------------------------------------------------------------------------------


def refused(subject: Case, documents: list[Document], match: str) -> None:
    with pytest.raises(ReadbackError, match=match) as caught:
        verify(documents, Subject(subject.result, subject.sources, CONTENT_TIME, still_segmentations=True), GENERAL)
    assert caught.value.reason is Reason.READBACK_FAILED
    for secret in ("Lec", "Doe", "P-1", "19700101", "Roe"):
        assert secret not in str(caught.value)


def region(dataset: Dataset) -> Dataset:
    return next(
        item
        for element in dataset.iterall()
        if element.VR == "SQ"
        for item in element.value
        if item.get("ValueType") == "SCOORD"
    )


def test_latin_1_instead_of_the_source_character_set_is_refused() -> None:
    subject = case("no-all", "ligature")
    documents = written(subject)
    wrong = identity_of(source("a", script="ligature"))
    wrong[0x00080005] = b"ISO_IR 100"
    wrong[0x00100010] = "Lecœur^Zoé".encode("latin-1", "replace")
    assert wrong[0x00100010] == b"Lec?ur^Zo\xe9"
    refused(subject, [tampered(documents[-1], subject, lambda _: None, wrong)], r"\(0008,0005\)")
    wrong[0x00080005] = b"ISO_IR 192"
    refused(subject, [tampered(documents[-1], subject, lambda _: None, wrong)], r"\(0010,0010\)")


def test_every_object_states_the_zone_of_its_source(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    _, documents = by_case["yes-some"]
    for document in documents:
        assert pydicom.dcmread(io.BytesIO(document.data)).TimezoneOffsetFromUTC == "+0200"


@pytest.mark.parametrize(
    ("stated", "echoed"), [(b"-0330", b"-0330 "), (b"GMT+2 ", None), (b"+2500 ", None), (b"", None)]
)
def test_a_zone_that_is_no_offset_is_not_echoed(stated: bytes, echoed: bytes | None) -> None:
    header = source("a")
    set_raw(header, 0x00080201, "SH", stated)
    assert identity_of(header).get(0x00080201) == echoed


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00+05:00", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5"])
def test_a_content_time_with_a_zone_or_a_fraction_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--content-time: found .* with a (zone|fraction)"):
        parse_time(text)
    assert parse_time("20260131120000") == parse_time("2026-01-31T12:00:00") == datetime(2026, 1, 31, 12)


def test_another_patients_id_is_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]
    wrong = identity_of(source("a")) | {0x00100020: b"P-2 "}
    for index in range(2):
        swapped = list(documents)
        swapped[index] = tampered(documents[index], subject, lambda _: None, wrong)
        refused(subject, swapped, r"\(0010,0020\): found other bytes")


@pytest.mark.parametrize(("shift", "match"), [(0.5, "pixel corners"), (1.0, "another region")])
def test_shifted_outline_is_refused(shift: float, match: str, by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]

    def move(dataset: Dataset) -> None:
        item = region(dataset)
        item.GraphicData = [value + shift for value in item.GraphicData]

    refused(subject, [documents[0], tampered(documents[1], subject, move)], match)


def test_open_outline_is_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]

    def open_up(dataset: Dataset) -> None:
        item = region(dataset)
        item.GraphicData = item.GraphicData[:-2]

    refused(subject, [documents[0], tampered(documents[1], subject, open_up)], "an open outline")


@pytest.mark.parametrize(("frame", "match"), [(2, "frame: found"), (9, r"ReferencedFrameNumber.*1 to 4")])
def test_wrong_frame_is_refused(frame: int, match: str, by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["cine"]

    def other_frame(dataset: Dataset) -> None:
        region(dataset).ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = frame

    refused(subject, [tampered(documents[0], subject, other_frame)], match)


def test_wrong_image_and_wrong_class_are_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]

    def reference(**values: str) -> Callable[[Dataset], None]:
        def change(dataset: Dataset) -> None:
            region(dataset).ContentSequence[0].ReferencedSOPSequence[0].update(values)

        return change

    for values, match in (
        ({"ReferencedSOPInstanceUID": str(source("b").SOPInstanceUID)}, "image: found"),
        ({"ReferencedSOPInstanceUID": "1.2.3"}, "an image of the result"),
        ({"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "the class of the image"),
    ):
        refused(subject, [documents[0], tampered(documents[1], subject, reference(**values))], match)


def test_flipped_segmentation_is_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]

    def flip(dataset: Dataset) -> None:
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        mask = bits[: dataset.Rows * dataset.Columns].reshape(dataset.Rows, dataset.Columns)[:, ::-1]
        dataset.PixelData = np.packbits(mask, bitorder="little").tobytes()

    flipped = tampered(documents[0], subject, flip)
    refused(subject, [flipped, documents[1]], "evidence|comments")
    name_it = documents[0].sop_instance_uid.encode(), flipped.sop_instance_uid.encode()
    assert name_it[0] in documents[1].data

    def follow(dataset: Dataset) -> None:
        for element in dataset.iterall():
            if isinstance(element.value, str) and documents[0].sop_instance_uid in element.value:
                element.value = element.value.replace(documents[0].sop_instance_uid, flipped.sop_instance_uid)

    refused(subject, [flipped, tampered(documents[1], subject, follow)], r"PixelData.*another mask")


def test_one_changed_byte_is_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["no-all"]
    data = documents[0].data.replace(b"Not for clinical use", b"Now for clinical use")
    refused(subject, [dataclasses.replace(documents[0], data=data)], "not the hash")
    refused(subject, [dataclasses.replace(documents[0], data=b"MZ" + documents[0].data[2:])], "preamble")


def test_wrong_codes_and_measures_are_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]

    def replaced(old: str, new: str) -> Callable[[Dataset], None]:
        def change(dataset: Dataset) -> None:
            for element in list(dataset.iterall()):
                if element.value == old:
                    element.value = new

        return change

    for old, new, match in (
        ("111244", "111242", "outcome"),
        ("111223", "111222", "detections"),
        ("PARTIAL", "COMPLETE", "CompletionFlag"),
        ("5.34", "5.35", "measurements"),
        ("mm2", "cm2", "measurements"),
        ("91.23", "81.23", "certainty"),
        ("52988006", "4147007", "finding"),
        ("76752008", "41216001", "finding site"),
        ("identity=" + "ab" * 32, "identity=" + "cd" * 32, "Algorithm Parameters"),
    ):
        refused(subject, [documents[0], tampered(documents[1], subject, replaced(old, new))], match)


def named(dataset: Dataset, code: str) -> Dataset:
    """The first content item, in document order, whose concept has the code value."""
    found = items_named(dataset, code)
    assert found
    return found[0][1]


def items_named(dataset: Dataset, code: str) -> list[tuple[Dataset, Dataset]]:
    """(parent, item) of every content item whose concept has the code value."""
    pairs = []
    for item in dataset.get("ContentSequence") or []:
        name = item.get("ConceptNameCodeSequence")
        pairs += [(dataset, item)] if name and name[0].CodeValue == code else []
        pairs += items_named(item, code)
    return pairs


def test_removed_altered_and_unallowed_ratings_are_refused(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    subject, documents = by_case["yes-rated"]

    def drop(index: int) -> Callable[[Dataset], None]:
        def change(dataset: Dataset) -> None:
            parent, item = items_named(dataset, "111047")[index]
            parent.ContentSequence = [one for one in parent.ContentSequence if one is not item]

        return change

    def other_number(dataset: Dataset) -> None:
        named(dataset, "111047").MeasuredValueSequence[0].NumericValue = "18.24"

    def other_unit(dataset: Dataset) -> None:
        unit = named(dataset, "111047").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
        unit.CodeValue, unit.CodeMeaning = "1", "no units"

    def other_statement(dataset: Dataset) -> None:
        item = items_named(dataset, "111047")[-1][1]
        item.TextValue = item.TextValue.replace("61.72", "1.72")

    def as_score(dataset: Dataset) -> None:
        named(dataset, "111047").ConceptNameCodeSequence[0].CodeValue = "111048"

    for change, match in (
        (drop(0), "finding 1, measurements"),
        (drop(1), "finding 2, measurements"),
        (drop(2), "Probability of cancer: found"),
        (other_number, "finding 1, measurements"),
        (other_unit, "finding 1, measurements"),
        (other_statement, "Probability of cancer: found"),
        (as_score, "finding 1, measurements"),
    ):
        refused(subject, [*documents[:-1], tampered(documents[-1], subject, change)], match)
    unproven = dataclasses.replace(RATED, calibration=None)
    for told in (unproven, dataclasses.replace(unproven, rating=None)):
        result = dataclasses.replace(subject.result, algorithm=told)
        refused(Case(result, subject.sources), documents, "Probability of cancer: found|comments")


# -- The filling of outlines, drawn ------------------------------------------------------------------------------------


def test_filled_outline_by_hand() -> None:
    """A notched square: corners clockwise from the top left, y down."""
    points = np.array([[1, 0], [3, 0], [3, 3], [0, 3], [0, 1], [1, 1]], dtype=float)
    drawn = ["011.", "111.", "111.", "...."]
    expected = np.array([[letter == "1" for letter in row] for row in drawn])
    np.testing.assert_array_equal(filled_outline("test", points, (4, 4)), expected)


def test_filled_outline_refuses_slanted_edges_and_points_outside() -> None:
    for points in ([[0, 0], [2, 2], [0, 2]], [[0, 0], [5, 0], [5, 2], [0, 2]]):
        with pytest.raises(ReadbackError, match="pixel corners"):
            filled_outline("test", np.array(points, dtype=float), (4, 4))


def test_sources_are_left_as_they_were() -> None:
    subject = case("yes-all", "ligature")
    before = {uid: copy.deepcopy(header) for uid, header in subject.sources.items()}
    written(subject)
    written(subject)
    for uid, header in subject.sources.items():
        assert header == before[uid]
