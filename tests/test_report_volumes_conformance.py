"""Results of volumes before independent judges, and what each judge notices when a mandatory row is missing."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pydicom
import pytest

from imaging.report.document import Document, identity_of, seal
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from tests.conftest import require_tool
from tests.judges import pixelmed, run_tool
from tests.mutations import mutations, refuses
from tests.report_cases import CONTENT_TIME, NAMES, Case
from tests.volume_cases import AXIAL, CASES, case, classic

GROUPS = {  # planar and volumetric: two lesions, gland and zone
    "yes-all": 8, "yes-some": 8, "no-all": 4, "unknown-some": 4, "unknown-none": 0, "failed": 0, "enhanced": 8,
    "enhanced-stacks": 8, "no-frame-of-reference": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def by_case() -> dict[str, tuple[Case, list[Document]]]:
    subjects = {name: case(name) for name in CASES}
    subjects |= {f"yes-all-{script}": case("yes-all", script) for script in NAMES if script != "plain"}
    return {name: (s, write_documents(Subject(s.result, s.sources, CONTENT_TIME))) for name, s in subjects.items()}


@pytest.fixture(scope="module")
def stored(
    by_case: dict[str, tuple[Case, list[Document]]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Path]]:
    """Case → kind of document → file."""
    folder = tmp_path_factory.mktemp("results")
    paths: dict[str, dict[str, Path]] = {}
    for name, (_, documents) in by_case.items():
        for document in documents:
            path = folder / f"{name}-{document.file_name}"
            path.write_bytes(document.data)
            paths.setdefault(name, {})[document.kind] = path
    return paths


@pytest.mark.conformance
def test_dciodvfy_finds_no_error(stored: dict[str, dict[str, Path]]) -> None:
    tool = require_tool("dciodvfy")
    for kinds in stored.values():
        for kind, path in kinds.items():
            said = run_tool(tool, path)
            # The only warning allowed is about the source's own name, which is echoed as it is.
            ours = [line for line in said.splitlines() if "Patient's Name" not in line]
            assert ours == [{"sr": "Comprehensive3DSR", "seg": "Segmentation"}[kind]], f"{path.name}:\n{said}"


@pytest.mark.conformance
def test_dcentvfy_finds_sources_and_results_consistent(
    by_case: dict[str, tuple[Case, list[Document]]], tmp_path: Path
) -> None:
    tool = require_tool("dcentvfy")
    paths = []
    for series in ("T2W", "ADC"):
        for place, header in enumerate(classic(AXIAL, series, pixels=True)):
            paths.append(tmp_path / f"{series}-{place}.dcm")
            header.save_as(paths[-1])
    for document in by_case["yes-all"][1]:
        paths.append(tmp_path / document.file_name)
        paths[-1].write_bytes(document.data)
    assert "Error" not in run_tool(tool, *paths)


@pytest.mark.conformance
def test_dsrdump_reads_every_report(stored: dict[str, dict[str, Path]]) -> None:
    tool = require_tool("dsrdump")
    for kinds in stored.values():
        said = run_tool(tool, kinds["sr"])
        assert "Comprehensive 3D SR Document" in said
        assert "CAD Processing and Findings Summary" in said
        assert "E: " not in said, said


@pytest.mark.conformance
def test_dcmqi_reads_the_measurements(stored: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    tool = require_tool("tid1500reader")
    for name, count in GROUPS.items():
        output = tmp_path / f"{name}.json"
        said = run_tool(tool, "--inputDICOM", stored[name]["sr"], "--outputMetadata", output)
        assert output.exists(), f"{name}: {said}"
        groups = json.loads(output.read_text(encoding="utf-8")).get("Measurements", [])
        assert len(groups) == count, f"{name}: {said}"
        segments = [group["ReferencedSegment"] for group in groups if "ReferencedSegment" in group]
        assert segments == list(range(1, count // 2 + 1) if "seg" in stored[name] else [])
        for group in groups:
            assert group["TrackingUniqueIdentifier"].startswith("2.25.")


@pytest.mark.conformance
def test_dcmqi_reads_units_derivations_and_algorithms(stored: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    tool, output = require_tool("tid1500reader"), tmp_path / "read.json"
    run_tool(tool, "--inputDICOM", stored["yes-all"]["sr"], "--outputMetadata", output)
    groups = json.loads(output.read_text(encoding="utf-8"))["Measurements"]
    lesion = next(group for group in groups if group.get("ReferencedSegment") == 1)
    items = lesion["measurementItems"]
    read = {
        (i["quantity"]["CodeValue"], i.get("derivationModifier", {}).get("CodeValue")): (
            i["value"],
            i["units"]["CodeValue"],
        )
        for i in items
    }
    assert read["118565006", None] == ("0.112", "cm3")
    assert read["113041", "373098007"] == ("812.35", "um2/s")
    assert read["113041", "371890005"] == ("655.1", "um2/s")
    assert {i["measurementAlgorithmIdentification"]["AlgorithmName"] for i in items} == {"prostate-demo"}
    assert lesion["FindingSite"]["CodeValue"] == "716922000"


@pytest.mark.conformance
def test_pixelmed_finds_every_report_true_to_its_template(stored: dict[str, dict[str, Path]]) -> None:
    """Its templates are of 2022 and lack Finding category, a newer optional row of TID 1410 and 1411."""
    judged = ("yes-some", "no-all", "unknown-some", "failed", "enhanced")  # ten seconds of a processor each
    for path, said in pixelmed(stored[name]["sr"] for name in judged).items():
        assert "Root Template Validation Complete" in said, f"{path.name}:\n{said}"
        assert "Error" not in said, f"{path.name}:\n{said}"
        warned = [line for line in said.splitlines() if line.startswith("Warning")]
        newer = '(276214006,SCT,"Finding category"): Content Item not in template'
        assert all(line.endswith(newer) for line in warned), f"{path.name}:\n{said}"


# Rows that the templates leave to the writer and that carry nothing of the result.
OPTIONAL_ROWS = {"Study Date", "Pixel Data Rows", "Pixel Data Columns"}


@pytest.mark.conformance
def test_every_missing_row_is_noticed(by_case: dict[str, tuple[Case, list[Document]]], tmp_path: Path) -> None:
    """Read-back is asked first, and dciodvfy about what it does not notice. Run with -s to see who notices what."""
    tool = require_tool("dciodvfy")
    subject, documents = by_case["enhanced"]
    own = identity_of(next(iter(subject.sources.values())))
    found = mutations(documents[-1].data, OPTIONAL_ROWS)
    titles = {title for title, _ in found}
    for row in ("Referenced Segment", "Source image for segmentation", "Finding category", "Volume"):
        assert f"row Imaging Measurements / Measurement Group 1411 / {row}" in titles
    missed, path = [], tmp_path / "mutated.dcm"
    for title, change in found:
        dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
        change(dataset)
        document = seal(dataset, own, "sr")
        by = "read-back" if refuses([*documents[:-1], document], subject) else ""
        if not by:
            path.write_bytes(document.data)
            by = "dciodvfy" if "Error" in run_tool(tool, path) else ""
        sys.stdout.write(f"  {title:110.110} {by or 'NOBODY'}\n")
        missed += [] if by else [title]
    assert missed == []
