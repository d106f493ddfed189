"""DICOM results before independent judges, and what each judge notices when a mandatory row is missing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from imaging.errors import ReadbackError
from imaging.report.document import Document, identity_of, seal
from imaging.report.readback import verify
from imaging.report.write import write_documents
from tests.conftest import require_tool
from tests.judges import pixelmed, run_tool
from tests.report_cases import CASES, CONTENT_TIME, NAMES, Case, case, source


@pytest.fixture(scope="module")
def by_case() -> dict[str, tuple[Case, list[Document]]]:
    subjects = {name: case(name) for name in CASES}
    subjects |= {f"yes-all-{script}": case("yes-all", script) for script in NAMES}
    return {name: (s, write_documents(s.result, s.sources, CONTENT_TIME)) for name, s in subjects.items()}


@pytest.fixture(scope="module")
def stored(by_case: dict[str, tuple[Case, list[Document]]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("results")
    paths = []
    for name, (_, documents) in by_case.items():
        for document in documents:
            paths.append(folder / f"{name}-{document.file_name}")
            paths[-1].write_bytes(document.data)
    return paths


def reports(stored: list[Path]) -> list[Path]:
    return [path for path in stored if "-sr-" in path.name]


@pytest.mark.conformance
def test_dciodvfy_finds_no_error(stored: list[Path]) -> None:
    tool = require_tool("dciodvfy")
    for path in stored:
        said = run_tool(tool, path)
        assert "Error" not in said, f"{path.name}:\n{said}"
        # The only warning allowed is about the source's own name, which is echoed as it is.
        ours = [line for line in said.splitlines() if "Patient's Name" not in line]
        assert ours in (["Comprehensive3DSR"], ["Segmentation"]), f"{path.name}:\n{said}"


@pytest.mark.conformance
def test_dcentvfy_finds_sources_and_results_consistent(
    by_case: dict[str, tuple[Case, list[Document]]], tmp_path: Path
) -> None:
    tool = require_tool("dcentvfy")
    paths = []
    for name in "ab":
        paths.append(tmp_path / f"source-{name}.dcm")
        source(name, pixels=True).save_as(paths[-1])
    for document in by_case["yes-all"][1]:
        paths.append(tmp_path / document.file_name)
        paths[-1].write_bytes(document.data)
    assert "Error" not in run_tool(tool, *paths)


@pytest.mark.conformance
def test_dsrdump_reads_every_report(stored: list[Path]) -> None:
    tool = require_tool("dsrdump")
    for path in reports(stored):
        said = run_tool(tool, path)
        assert "Comprehensive 3D SR Document" in said
        assert "CAD Processing and Findings Summary" in said
        assert "E: " not in said, said


@pytest.mark.conformance
def test_dcmqi_reads_the_measurements(stored: list[Path], tmp_path: Path) -> None:
    tool = require_tool("tid1500reader")
    for path in reports(stored):
        output = tmp_path / f"{path.stem}.json"
        said = run_tool(tool, "--inputDICOM", path, "--outputMetadata", output)
        assert output.exists(), f"{path.name}: {said}"
        groups = json.loads(output.read_text(encoding="utf-8")).get("Measurements", [])
        assert bool(groups) == path.name.startswith(("yes", "cine", "uncalibrated")), f"{path.name}: {said}"
        for group in groups:
            assert group["Finding"]["CodeValue"] == "52988006"
            assert group["TrackingUniqueIdentifier"].startswith("2.25.")


@pytest.mark.conformance
@pytest.mark.slow
def test_pixelmed_finds_every_report_true_to_its_template(stored: list[Path]) -> None:
    chosen = [path for path in reports(stored) if path.name.split("-sr-")[0] in CASES]
    assert len(chosen) == len(CASES)
    for path, said in pixelmed(chosen).items():
        assert "Root Template Validation Complete" in said, f"{path.name}:\n{said}"
        assert "Error" not in said, f"{path.name}:\n{said}"
        assert "Warning" not in said, f"{path.name}:\n{said}"


# -- Mutations: one row or attribute less, sealed again ----------------------------------------------------------------

# Rows that the templates leave to the writer and that carry nothing of the result.
OPTIONAL_ROWS = {"Study Date", "Pixel Data Rows", "Pixel Data Columns"}
# Type 1, 1C and 2 of the Comprehensive 3D SR IOD (PS3.3 A.35.13), and Contributing Equipment, which we demand.
ATTRIBUTES = (
    "Modality", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "ContentDate", "ContentTime", "CompletionFlag",
    "VerificationFlag", "PerformedProcedureCodeSequence", "ReferencedPerformedProcedureStepSequence",
    "CurrentRequestedProcedureEvidenceSequence", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber",
    "SoftwareVersions", "ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentTemplateSequence",
    "ContentSequence", "ContributingEquipmentSequence",
)  # fmt: skip
IDENTITY = {
    0x00080005: "Specific Character Set",
    0x00080020: "Study Date",
    0x00080030: "Study Time",
    0x00080050: "Accession Number",
    0x00080090: "Referring Physician",
    0x00081030: "Study Description",
    0x00100010: "Patient's Name",
    0x00100020: "Patient ID",
    0x00100021: "Issuer of Patient ID",
    0x00100030: "Birth Date",
    0x00100040: "Sex",
    0x0020000D: "Study Instance UID",
    0x00200010: "Study ID",
}
# Attributes within content items; each is removed from the first item that has it.
PARTS = (
    "RelationshipType", "ValueType", "ConceptNameCodeSequence", "TextValue", "UID", "ConceptCodeSequence",
    "MeasuredValueSequence", "NumericValue", "MeasurementUnitsCodeSequence", "GraphicType", "GraphicData",
    "ReferencedSOPSequence", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "ReferencedFrameNumber",
    "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "SeriesInstanceUID", "StudyInstanceUID",
)  # fmt: skip

Change = Callable[[Dataset], None]
Mutation = tuple[str, Change]
Position = tuple[int, ...]


def item_name(item: Dataset) -> str:
    named = item.get("ConceptNameCodeSequence")
    return str(named[0].CodeMeaning) if named else str(item.ValueType)


def rows(
    item: Dataset, path: tuple[int, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Position and name of every row; repeated descriptors of an algorithm or an image are named once."""
    for index, child in enumerate(item.get("ContentSequence") or []):
        here = (*names, item_name(child))
        value = str(child.get("TextValue", ""))[:40] if here[-1] in {"Comment", "Algorithm Parameters"} else ""
        yield (*path, index), " / ".join(here) + (f" ({value})" if value else "")
        yield from rows(child, (*path, index), here)


def without_row(position: Position) -> Change:
    def remove(dataset: Dataset) -> None:
        parent = dataset
        for index in position[:-1]:
            parent = parent.ContentSequence[index]
        del parent.ContentSequence[position[-1]]
        if not parent.ContentSequence:
            del parent.ContentSequence

    return remove


def without_attribute(keyword: str) -> Change:
    def remove(dataset: Dataset) -> None:
        delattr(dataset, keyword)

    return remove


def without_part(keyword: str) -> Change:
    def remove(dataset: Dataset) -> None:
        sequences = [element for element in dataset if element.VR == "SQ"]
        for sequence in sorted(sequences, key=lambda element: element.keyword != "ContentSequence"):
            for item in sequence.value:
                if _remove_first(item, keyword):
                    return
        raise AssertionError(f"no item has {keyword}")

    return remove


def _remove_first(item: Dataset, keyword: str) -> bool:
    if keyword in item:
        delattr(item, keyword)
        return True
    return any(_remove_first(child, keyword) for e in item if e.VR == "SQ" for child in e.value)


def without_evidence(index: int) -> Change:
    def remove(dataset: Dataset) -> None:
        series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        place = [(item.ReferencedSOPSequence, i) for item in series for i in range(len(item.ReferencedSOPSequence))]
        sequence, position = place[index]
        del sequence[position]

    return remove


def mutations(data: bytes) -> list[Mutation]:
    dataset = pydicom.dcmread(io.BytesIO(data))
    named: dict[str, Position] = {}
    for position, name in rows(dataset):
        if not OPTIONAL_ROWS & set(name.split(" / ")):
            named.setdefault(name, position)
    found = [(f"row {name}", without_row(position)) for name, position in named.items()]
    found += [(f"attribute {keyword}", without_attribute(keyword)) for keyword in ATTRIBUTES]
    found += [(f"part {keyword}", without_part(keyword)) for keyword in PARTS if _has(dataset, keyword)]
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    count = sum(len(item.ReferencedSOPSequence) for item in series)
    return [*found, *((f"evidence item {i + 1}", without_evidence(i)) for i in range(count))]


def _has(dataset: Dataset, keyword: str) -> bool:
    return any(_deep(item, keyword) for e in dataset if e.VR == "SQ" for item in e.value)


def _deep(item: Dataset, keyword: str) -> bool:
    return keyword in item or any(_deep(child, keyword) for e in item if e.VR == "SQ" for child in e.value)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["yes-all", "cine-some", "unknown-some", "yes-rated"])
def test_every_missing_row_is_noticed(
    name: str, by_case: dict[str, tuple[Case, list[Document]]], tmp_path: Path
) -> None:
    """Read-back and dciodvfy, side by side; run with -s to see which of them notices what."""
    tool = require_tool("dciodvfy")
    subject, documents = by_case[f"{name}-ligature"] if name == "yes-all" else by_case[name]
    own = identity_of(next(iter(subject.sources.values())))
    changed = []
    for title, change in mutations(documents[-1].data):
        dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
        change(dataset)
        changed.append((title, seal(dataset, own, "sr")))
    dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
    for tag, title in IDENTITY.items():
        if tag in own:
            changed.append((f"identity {title}", seal(dataset, {t: v for t, v in own.items() if t != tag}, "sr")))

    with ThreadPoolExecutor(2) as pool:
        paths = [tmp_path / f"{number}.dcm" for number in range(len(changed))]
        for path, (_, document) in zip(paths, changed, strict=True):
            path.write_bytes(document.data)
        judged = pool.map(lambda path: "Error" in run_tool(tool, path), paths)
        read_back = [refuses([*documents[:-1], document], subject) for _, document in changed]
        judges = [
            [name for name, saw in zip(("read-back", "dciodvfy"), both, strict=True) if saw]
            for both in zip(read_back, judged, strict=True)
        ]
    titles = [title for title, _ in changed]
    sys.stdout.write(f"\n{name}: {len(changed)} mutations\n")
    for title, by in zip(titles, judges, strict=True):
        sys.stdout.write(f"  {title:90.90} {', '.join(by) or 'NOBODY'}\n")
    assert [title for title, by in zip(titles, judges, strict=True) if not by] == []


def refuses(documents: list[Document], subject: Case) -> bool:
    try:
        verify(documents, subject.result, subject.sources)
    except ReadbackError:
        return True
    return False
