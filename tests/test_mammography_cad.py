"""The Mammography CAD report: every outcome is written, read back into the same findings, and refused when wrong."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sr._snomed_dict import mapping

from imaging.dicom.results.cad import image_of
from imaging.dicom.results.content_tree import ContentItem, Reference
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadFinding, ReadReport
from imaging.errors import ImagingError, ReadbackError, Reason
from imaging.exam.result import Composite
from imaging.findings import Code
from imaging.modalities.mammography.cad import codes as mammo
from imaging.modalities.mammography.cad.kind import CAD_REPORT
from imaging.modalities.mammography.cad.rows import missing_cad_row
from imaging.report.document import ECHOED, Document, identity_of, seal
from imaging.report.kind import Scheme, Subject
from imaging.report.readback import verify
from imaging.report.write import GENERAL, write_documents
from tests.conftest import require_tool
from tests.judges import pixelmed, run_tool
from tests.mammography_cases import (
    ALGORITHM,
    CASES,
    CLUSTER,
    COLUMNS,
    FOUR,
    ROWS,
    SINGLE,
    VALIDATED,
    case,
    header,
    ref,
    result,
    uid,
)
from tests.mutations import IDENTITY, mutations, refuses
from tests.report_cases import CONTENT_TIME, NAMES, Case
from tests.test_evaluation_command import findings_on

KINDS = (*GENERAL, CAD_REPORT)

Written = dict[str, tuple[Case, list[Document]]]
# Rows that the templates leave to the writer and that carry nothing of the result.
OPTIONAL_ROWS = {
    "Study Date", "Study Time", "Content Date", "Content Time", "Positioner Primary Angle", "Pixel Data Rows",
    "Pixel Data Columns",
}  # fmt: skip


def written(subject: Case, scheme: Scheme = "sct") -> list[Document]:
    return write_documents(Subject(subject.result, subject.sources, CONTENT_TIME, scheme), KINDS)


def cad(documents: list[Document]) -> ReadReport:
    found = read_result(documents[-1].data, frozenset(ECHOED))
    assert isinstance(found, ReadReport)
    assert found.template == "4000"
    return found


@pytest.fixture(scope="module")
def by_case() -> Written:
    return {name: (subject, written(subject)) for name, subject in ((name, case(name)) for name in CASES)}


# -- What is said ------------------------------------------------------------------------------------------------------

# PS3.16 CID 6047, CID 6042; images under Successful and Failed Detections, of two kinds of finding; impressions.
SAID = {
    "yes-all": ("111242", "111222", 4, 0, 3),
    "yes-validated": ("111242", "111222", 4, 0, 3),
    "yes-some": ("111244", "111223", 2, 2, 1),
    "no-all": ("111241", "111222", 4, 0, 0),
    "unknown-some": ("111243", "111223", 3, 1, 0),
    "unknown-failed": ("111245", "111224", 0, 4, 0),
    "unknown-unattempted": ("111245", "111225", 0, 0, 0),
    "uncalibrated": ("111242", "111222", 4, 0, 1),
    "no-operating-point": ("111242", "111222", 5, 0, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_outcome_detections_and_impressions(name: str, by_case: Written) -> None:
    read = cad(by_case[name][1])
    assert read.outcome is not None
    assert read.detections is not None
    images = {done: [len(d.images) for d in read.performed if d.succeeded == done] for done in (True, False)}
    impressions = [item for item in read.root.walk() if item.is_named(("111034", "DCM"))]
    outcome, detections, read_images, failed_images, lesions = SAID[name]
    assert (read.outcome.value, read.detections.value, len(impressions)) == (outcome, detections, lesions)
    assert images == {
        True: [read_images] * 2 if read_images else [],
        False: [failed_images] * 2 if failed_images else [],
    }
    assert {d.kind for d in read.performed} <= {mammo.DENSITY, CLUSTER.finding}
    (text,) = [item.value for item in read.root.walk() if item.is_named(("111033", "DCM"))]
    assert text.startswith("Not for clinical use")
    assert "Scanner not among those of the training data." in text


def test_own_series_and_the_same_tracking_as_the_report_for_viewers(by_case: Written) -> None:
    documents = by_case["yes-all"][1]
    general = read_result(documents[-2].data)
    assert isinstance(general, ReadReport)
    assert general.template == "1500"
    assert len({cad(documents).series_uid, general.series_uid}) == 2
    assert {f.tracking_uid for f in cad(documents).findings} == {f.tracking_uid for f in general.findings}


@pytest.mark.parametrize("scheme", ["sct", "srt"])
def test_the_findings_come_back(scheme: Scheme) -> None:
    subject = case("yes-all")
    read = cad(written(subject, scheme))
    order = [member for members in subject.result.lesions for member in members]
    assert len(read.findings) == 4
    for found, member in zip(read.findings, order, strict=True):
        key = subject.result.findings[member].key
        assert found.label == (CLUSTER.finding if key.label == "cluster" else mammo.DENSITY)
        assert found.image == Reference(key.ref.sop_class_uid, key.ref.sop_uid)
        assert found.score == pytest.approx(key.score, abs=1e-4)
        assert found.center_px == pytest.approx(key.center_px, abs=1e-3)
        assert found.points_px is not None
        np.testing.assert_allclose(found.points_px[:-1], key.outline_px)
        assert [m.value for m in found.measures] == [pytest.approx(key.longest_diameter_mm, abs=0.005)]
    assert read.composites[0].members == (1, 2)
    assert read.composites[0].label == mammo.BREAST_MASS
    assert read.composites[0].score == pytest.approx(0.88)


def test_rendering_intent_and_probability_need_a_declared_validation(by_case: Written) -> None:
    """Lesions: the single mass 0.85, the pair 0.88, the cluster 0.3; the operating point is 0.8."""
    shown, optional, hidden = mammo.REQUIRED, mammo.OPTIONAL, mammo.NOT_FOR_PRESENTATION
    validated, demonstration = cad(by_case["yes-validated"][1]), cad(by_case["yes-all"][1])
    assert [f.intent for f in validated.findings] == [shown, shown, shown, optional]
    assert [f.intent for f in demonstration.findings] == [optional, optional, optional, hidden]
    assert [f.intent for f in cad(by_case["no-operating-point"][1]).findings] == [optional, optional]
    assert [f.rating for f in validated.findings] == [0.75] * 4
    assert [f.rating for f in demonstration.findings] == [None] * 4
    assert validated.composites[0].intent == shown
    assert not any(i.is_named(("111047", "DCM")) for i in demonstration.root.walk())


def test_every_reference_leads_to_the_image_of_its_finding(by_case: Written) -> None:
    subject, documents = by_case["yes-all"]
    root = cad(documents).root
    graphics = [item for item in root.walk() if item.value_type == "SCOORD"]
    assert len(graphics) == 4 * 3
    assert {image_of(root, item).sop_uid for item in graphics} == {uid(name) for name in FOUR}  # type: ignore[union-attr]
    singles = [item for item in root.walk() if item.is_named(("111059", "DCM"))]
    order = [member for members in subject.result.lesions for member in members]
    for item, member in zip(singles, order, strict=True):
        below = {image_of(root, graphic) for graphic in item.walk() if graphic.value_type == "SCOORD"}
        assert {image.sop_uid for image in below if image} == {subject.result.findings[member].key.ref.sop_uid}


def library(read: ReadReport) -> dict[str, dict[str, object]]:
    """Image → name of each row → its value, of the entries of an Image Library."""

    def told(item: ContentItem) -> dict[str, object]:
        return {row.name.meaning: getattr(row.value, "value", row.value) for row in item.walk() if row.name}

    found = [i for i in read.root.walk() if i.value_type == "IMAGE" and i.relationship == "CONTAINS"]
    return {item.value.sop_uid: told(item) for item in found}


def test_the_libraries_say_side_view_and_geometry(by_case: Written) -> None:
    documents = by_case["no-operating-point"][1]
    entries = library(cad(documents))
    assert entries[uid("LMLO")] == {
        "Image Laterality": "80248007", "Image View": "399368009", "Patient Orientation Row": "A",
        "Patient Orientation Column": "FR", "Study Date": "20240102", "Study Time": "101112",
        "Content Date": "20240102", "Content Time": "101315.25", "Horizontal Pixel Spacing": 0.5,
        "Vertical Pixel Spacing": 0.5, "Positioner Primary Angle": 45.0, "Pixel Data Rows": 120.0,
        "Pixel Data Columns": 100.0,
    }  # fmt: skip
    assert entries[uid("RCC")]["Image Laterality"] == "73056007"
    assert entries[uid("LM")]["Image View Modifier"] == "399055006"
    general = read_result(documents[-2].data)
    assert isinstance(general, ReadReport)
    sides = {u: (e["Image Laterality"], e["Image View"]) for u, e in library(general).items()}
    assert sides[uid("LCC")] == ("7771000", "399162004")
    assert sides[uid("RMLO")] == ("24028007", "399368009")


def test_spacing_keeps_its_digits_and_malformed_values_are_left_out() -> None:
    told = result([], ["LCC"])
    for changes, wanted in (
        ({"ImagerPixelSpacing": [0.094091, 0.07]}, (0.07, 0.094091)),
        ({"ImagerPixelSpacing": [0.0, 0.07]}, (None, None)),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.1, 0.2]}, (0.2, 0.1)),
        ({"PatientOrientation": ""}, (0.5, 0.5)),
    ):
        read = cad(written(Case(told, {uid("LCC"): header("LCC", **changes)})))
        entry = library(read)[uid("LCC")]
        assert (entry.get("Horizontal Pixel Spacing"), entry.get("Vertical Pixel Spacing")) == wanted
        assert ("Patient Orientation Row" in entry) == ("PatientOrientation" not in changes)


def test_srt_replaces_every_snomed_code_by_its_retired_equivalent() -> None:
    subject = case("yes-all")

    def snomed(scheme: Scheme) -> list[tuple[str, str]]:
        dataset = pydicom.dcmread(io.BytesIO(written(subject, scheme)[-1].data))
        codes = [item for e in dataset.iterall() if e.VR == "SQ" for item in e.value if "CodeValue" in item]
        return [(c.CodingSchemeDesignator, c.CodeValue) for c in codes if c.CodingSchemeDesignator in {"SCT", "SRT"}]

    modern, retired = snomed("sct"), snomed("srt")
    assert retired == [("SRT", mapping["SCT"][value]) for _, value in modern]
    assert {("SRT", "F-01796"), ("SRT", "F-01775"), ("SRT", "R-10242"), ("SRT", "R-10226"), ("SRT", "T-04030")} <= {
        *retired
    }


@pytest.mark.parametrize("script", NAMES)
def test_identity_is_the_source_bytes(script: str) -> None:
    found = cad(written(case("no-all", script))).identity
    charset, name = NAMES[script]
    assert found[0x00100010] == name + b" " * (len(name) % 2)
    assert found.get(0x00080005, b"").strip() == (charset or b"").strip()


def test_same_input_same_bytes_and_another_weight_another_uid() -> None:
    subject = case("yes-all")
    first, again = written(subject)[-1], written(subject)[-1]
    assert first.data == again.data
    other = dataclasses.replace(subject.result, algorithm=dataclasses.replace(ALGORITHM, identity="ce" * 32))
    assert written(Case(other, subject.sources))[-1].sop_instance_uid != first.sop_instance_uid


def test_what_cannot_be_said_is_refused_by_name() -> None:
    subject = case("yes-some")
    odd = dataclasses.replace(ALGORITHM.labels[0], finding=Code("52988006", "SCT", "Lesion"))
    algorithm = dataclasses.replace(ALGORITHM, labels=(odd, CLUSTER))
    with pytest.raises(ImagingError, match=r"found 52988006 SCT 'Lesion'; allowed.*CID 6014"):
        written(Case(dataclasses.replace(subject.result, algorithm=algorithm), subject.sources))
    frame = dataclasses.replace(ref("LCC"), frame_number=2)
    told = dataclasses.replace(result([], ["LCC"]), analysed=(frame,))
    with pytest.raises(ImagingError, match="allowed in a Mammography CAD report are single-frame images"):
        written(Case(told, {uid("LCC"): header("LCC", NumberOfFrames=3)}))


# -- Evaluation --------------------------------------------------------------------------------------------------------


def test_evaluation_scores_the_report_alone_and_counts_each_finding_once(by_case: Written, tmp_path: Path) -> None:
    documents = by_case["yes-all"][1]
    for folder, chosen in (("cad", documents[-1:]), ("both", documents[-2:]), ("all", documents)):
        (tmp_path / folder).mkdir()
        for document in chosen:
            (tmp_path / folder / document.file_name).write_bytes(document.data)
        found = findings_on(tmp_path / folder, uid("RCC"), (ROWS, COLUMNS))
        assert [value for _, value in found] == [pytest.approx(0.85)]
        np.testing.assert_array_equal(found[0][0], SINGLE.full_mask())


# -- Planted faults ----------------------------------------------------------------------------------------------------

Change = Callable[[Dataset], None]


def refused(subject: Case, documents: list[Document], change: Change, match: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
    change(dataset)
    sealed = seal(dataset, identity_of(next(iter(subject.sources.values()))), "cad")
    with pytest.raises(ReadbackError, match=match) as caught:
        verify([*documents[:-1], sealed], Subject(subject.result, subject.sources, CONTENT_TIME), KINDS)
    assert caught.value.reason is Reason.READBACK_FAILED
    for secret in ("Doe", "P-1", "19600101", "Roe"):
        assert secret not in str(caught.value)


def named(item: Dataset, value: str) -> list[Dataset]:
    """Every content item, in document order, whose concept has the code value."""
    found = []
    for child in item.get("ContentSequence") or []:
        name = child.get("ConceptNameCodeSequence")
        found += [child] if name and name[0].CodeValue == value else []
        found += named(child, value)
    return found


def with_value(concept: str, index: int, value: str) -> Change:
    def change(dataset: Dataset) -> None:
        named(dataset, concept)[index].ConceptCodeSequence[0].CodeValue = value

    return change


def with_number(concept: str, value: str) -> Change:
    def change(dataset: Dataset) -> None:
        named(dataset, concept)[0].MeasuredValueSequence[0].NumericValue = value

    return change


def shifted(concept: str, by: float) -> Change:
    def change(dataset: Dataset) -> None:
        item = named(dataset, concept)[0]
        data = item.GraphicData
        item.GraphicData = [value + by for value in data]

    return change


def referring(concept: str, position: list[int]) -> Change:
    def change(dataset: Dataset) -> None:
        item = named(dataset, concept)[0]
        below = next(child for child in item.ContentSequence if "ReferencedContentItemIdentifier" in child)
        below.ReferencedContentItemIdentifier = position

    return change


def required(dataset: Dataset) -> None:
    for item in named(dataset, "111056"):
        item.ConceptCodeSequence[0].CodeValue = "111150"


def other_members(dataset: Dataset) -> None:
    """The composite's second target changes places with a finding that stands alone."""
    alone, composite = named(dataset, "111034")[0], named(dataset, "111015")[0]
    one, other = alone.ContentSequence[1], composite.ContentSequence[-1]
    one.RelationshipType, other.RelationshipType = "INFERRED FROM", "CONTAINS"
    alone.ContentSequence[1], composite.ContentSequence[-1] = other, one


def a_circle(dataset: Dataset) -> None:
    named(dataset, "111010")[0].GraphicType = "CIRCLE"


def in_micrometres(dataset: Dataset) -> None:
    unit = named(dataset, "111026")[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    unit.CodeValue, unit.CodeMeaning = "um", "micrometer"


FAULTS: dict[str, tuple[Change, str]] = {
    "center half a pixel off": (shifted("111010", 0.5), "finding 1, center"),
    "outline half a pixel off": (shifted("111041", 0.5), "pixel corners"),
    "outline a pixel off": (shifted("111041", 1.0), "another region"),
    "center drawn as a circle": (a_circle, "GraphicType"),
    "spacing in micrometres": (in_micrometres, "Horizontal Pixel Spacing"),
    "path elsewhere": (shifted("121055", 1.0), "path"),
    "center of another image": (referring("111010", [1, 2, 2]), "images referred to"),
    "outline of another image": (referring("111041", [1, 2, 2]), "image: found"),
    "outline of no image": (referring("111041", [1, 2, 9]), "SELECTED FROM IMAGE"),
    "outline of a code": (referring("111041", [1, 1]), "SELECTED FROM IMAGE"),
    "detection on an image twice": (referring("111022", [1, 2, 2]), "detections performed"),
    "another certainty": (with_number("111012", "84"), "certainty"),
    "another certainty of the composite": (with_number("111011", "99"), "composite.*certainty"),
    "another diameter": (with_number("103339001", "4.6"), "measurements"),
    "presentation required of a demonstration": (required, "rendering intent"),
    "one finding hidden": (with_value("111056", 1, "111152"), "rendering intent"),
    "impression hidden": (with_value("111056", 0, "111152"), "Rendering Intent: found other intents"),
    "another kind of finding": (with_value("111059", 0, "129769006"), "finding: found"),
    "another kind of composite": (with_value("111015", 0, "129793001"), "composite.*feature"),
    "related in time": (with_value("111016", 0, "111153"), "Composite Type"),
    "seen on one image only": (with_value("111057", 0, "111157"), "Scope of Feature"),
    "other targets": (other_members, "image: found|tracking UID|targets"),
    "other side": (with_value("111027", 0, "80248007"), "laterality"),
    "other view": (with_value("111031", 0, "399368009"), "view"),
    "other spacing": (with_number("111026", "0.49"), "Horizontal Pixel Spacing"),
    "all succeeded, without findings": (with_value("111017", 0, "111241"), "summary tells of findings"),
    "detections failed": (with_value("111064", 0, "111224"), "sections of detections"),
    "analyses succeeded": (with_value("111065", 0, "111222"), "analyses"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_refused(name: str, by_case: Written) -> None:
    subject, documents = by_case["yes-all"]
    refused(subject, documents, *FAULTS[name])


def test_mixed_schemes_and_unallowed_probabilities_are_refused(by_case: Written) -> None:
    def mix(dataset: Dataset) -> None:
        view = named(dataset, "111031")[0].ConceptCodeSequence[0]
        view.CodeValue, view.CodingSchemeDesignator = "R-10242", "SRT"

    refused(*by_case["yes-all"], mix, "SCT or SRT, one of them")
    subject, documents = by_case["yes-validated"]
    unproven = dataclasses.replace(subject.result, algorithm=dataclasses.replace(VALIDATED, calibration=None))
    with pytest.raises(ReadbackError, match=r"comments|impression|Probability"):
        verify(documents, Subject(unproven, subject.sources, CONTENT_TIME), KINDS)


def test_a_wrong_pairing_in_the_result_itself_is_noticed(by_case: Written) -> None:
    subject, documents = by_case["yes-all"]
    other = dataclasses.replace(subject.result, composites=(Composite((0, 1), "L", 0.88),))
    with pytest.raises(ReadbackError):
        verify(documents, Subject(other, subject.sources, CONTENT_TIME), KINDS)


def test_mammography_without_its_cad_report_is_not_released(by_case: Written) -> None:
    subject, documents = by_case["no-all"]
    with pytest.raises(ReadbackError, match="objects of kind cad: found 0"):
        verify(documents[:-1], Subject(subject.result, subject.sources, CONTENT_TIME), KINDS)


def test_damaged_trees_are_read_without_other_errors(by_case: Written) -> None:
    """References beside the tree, items without values: records, never another exception."""
    dataset = pydicom.dcmread(io.BytesIO(by_case["yes-all"][1][-1].data))
    for item in (*named(dataset, "111010"), *named(dataset, "111041")):
        item.ContentSequence[0].ReferencedContentItemIdentifier = [7, 0, 3]
    for item in (*named(dataset, "111012"), *named(dataset, "111056")):
        item.pop("MeasuredValueSequence", None)
        item.pop("ConceptCodeSequence", None)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    read = read_result(buffer.getvalue())
    assert isinstance(read, ReadReport)
    blank: list[ReadFinding] = list(read.findings)
    assert [(f.image, f.score, f.intent) for f in blank] == [(None, None, None)] * 4
    assert missing_cad_row(read.root) is not None


# -- Independent judges ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(by_case: Written, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cad")
    paths = {}
    for name, (subject, documents) in by_case.items():
        for document in (*documents, written(subject, "srt")[-1]):
            key = f"{name}-{document.kind}-{document.file_name}"
            paths[key] = folder / key
            paths[key].write_bytes(document.data)
    return paths


@pytest.mark.conformance
def test_dciodvfy_finds_no_error(stored: dict[str, Path]) -> None:
    tool = require_tool("dciodvfy")
    for name, path in stored.items():
        said = run_tool(tool, path)
        assert "Error" not in said, f"{name}:\n{said}"
        # SRT is deprecated, which is what it was asked for; the other warning is about the source's own name.
        ours = {line for line in said.splitlines() if "Patient's Name" not in line and "<SRT>" not in line}
        assert ours <= {"Comprehensive3DSR", "Segmentation", "MammographyCADSR"}, f"{name}:\n{said}"


@pytest.mark.conformance
def test_dsrdump_reads_every_report(stored: dict[str, Path]) -> None:
    tool = require_tool("dsrdump")
    for name, path in stored.items():
        if "-cad-" in name:
            said = run_tool(tool, path)
            assert "Mammography CAD SR Document" in said
            assert "CAD Processing and Findings Summary" in said
            assert "E: " not in said, said


@pytest.mark.conformance
def test_pixelmed_finds_every_report_true_to_its_template(stored: dict[str, Path]) -> None:
    chosen = [path for name, path in stored.items() if "-cad-" in name]
    assert len(chosen) == 2 * len(CASES)
    chosen.append(next(path for name, path in stored.items() if name.startswith("yes-all-sr-")))
    for path, said in pixelmed(chosen).items():
        assert "Root Template Validation Complete" in said, f"{path.name}:\n{said}"
        assert "Error" not in said, f"{path.name}:\n{said}"
        # Its own table writes "Failed  Detections", with two spaces.
        ours = [line for line in said.splitlines() if "Warning" in line and '"Failed  Detections"' not in line]
        assert ours == [], f"{path.name}:\n{said}"


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["yes-validated", "unknown-some"])
def test_every_missing_row_is_noticed(name: str, by_case: Written, tmp_path: Path) -> None:
    """Row table, read-back and dciodvfy, side by side; run with -s to see which of them notices what."""
    tool = require_tool("dciodvfy")
    subject, documents = by_case[name]
    own = identity_of(next(iter(subject.sources.values())))
    changed = []
    for title, change in mutations(documents[-1].data, OPTIONAL_ROWS):
        dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
        change(dataset)
        changed.append((title, seal(dataset, own, "cad")))
    dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
    for tag, title in IDENTITY.items():
        if tag in own:
            changed.append((f"identity {title}", seal(dataset, {t: v for t, v in own.items() if t != tag}, "cad")))
    assert len([title for title, _ in changed if title.startswith("row ")]) >= 15
    with ThreadPoolExecutor(2) as pool:
        paths = [tmp_path / f"{number}.dcm" for number in range(len(changed))]
        for path, (_, document) in zip(paths, changed, strict=True):
            path.write_bytes(document.data)
        judged = list(pool.map(lambda path: "Error" in run_tool(tool, path), paths))
    read_back = [refuses([*documents[:-1], document], subject) for _, document in changed]
    table = [lacks_a_row(document) for _, document in changed]
    sys.stdout.write(f"\n{name}: {len(changed)} mutations\n")
    unseen = []
    for (title, _), *saw in zip(changed, table, read_back, judged, strict=True):
        by = [judge for judge, yes in zip(("rows", "read-back", "dciodvfy"), saw, strict=True) if yes]
        sys.stdout.write(f"  {title:110.110} {', '.join(by) or 'NOBODY'}\n")
        unseen += [] if by else [title]
    assert unseen == []


def lacks_a_row(document: Document) -> bool:
    try:
        read = read_result(document.data)
    except ImagingError:
        return False
    return isinstance(read, ReadReport) and missing_cad_row(read.root) is not None
