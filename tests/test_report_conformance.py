"""DICOM results before independent judges, and what each judge notices when a mandatory row is missing."""

from __future__ import annotations

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from imaging.report.document import Document, identity_of, seal
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from tests.conftest import require_tool
from tests.judges import pixelmed, run_tool
from tests.mutations import IDENTITY, mutations, refuses
from tests.report_cases import CASES, CONTENT_TIME, NAMES, Case, case, source


@pytest.fixture(scope="module")
def by_case() -> dict[str, tuple[Case, list[Document]]]:
    subjects = {name: case(name) for name in CASES}
    subjects |= {f"yes-all-{script}": case("yes-all", script) for script in NAMES}
    return {name: (s, write_documents(subject_of(s))) for name, s in subjects.items()}


def subject_of(one: Case) -> Subject:
    return Subject(one.result, one.sources, CONTENT_TIME, still_segmentations=True)


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
    for title, change in mutations(documents[-1].data, OPTIONAL_ROWS):
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
        read_back = [refuses([*documents[:-1], document], subject, still_segmentations=True) for _, document in changed]
        judges = [
            [name for name, saw in zip(("read-back", "dciodvfy"), both, strict=True) if saw]
            for both in zip(read_back, judged, strict=True)
        ]
    titles = [title for title, _ in changed]
    sys.stdout.write(f"\n{name}: {len(changed)} mutations\n")
    for title, by in zip(titles, judges, strict=True):
        sys.stdout.write(f"  {title:90.90} {', '.join(by) or 'NOBODY'}\n")
    assert [title for title, by in zip(titles, judges, strict=True) if not by] == []
