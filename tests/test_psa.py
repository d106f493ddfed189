"""PSA from a table: what it may say, which study a row belongs to, and that an answer changes when its PSA does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydicom.dataset import FileDataset

from imaging.dicom.index import build_index
from imaging.errors import ConfigError
from imaging.exam.conclusion import Readings, Terms
from imaging.exam.context import Context, FactTable, Row
from imaging.exam.result import ExamResult
from imaging.findings import Reading
from imaging.image import Origin
from imaging.inference.answer import Answer
from imaging.inference.context import assign
from imaging.inference.processes import Processes
from imaging.inference.router import StudyTask, plan
from imaging.inference.run import InferenceRun, run_inference
from imaging.modalities.prostate.conclusions import conclude
from imaging.modalities.prostate.psa import read_psa
from imaging.package import Package, load_package
from tests import mr_series
from tests.conftest import REPOSITORY
from tests.prostate_glands import lesion, zones

Assigned = tuple[dict[str, float], tuple[str, ...]]


@pytest.fixture(scope="module")
def package() -> Package:
    """A package of prostate MRI, as far as planning a run needs it; another's weights stand behind it."""
    other = load_package(REPOSITORY / "data_samples" / "packages" / "breast_us")
    told = other.description
    made_for = replace(told.card.applicability, modality="MR", body_parts=["PROSTATE"])
    card = replace(told.card, name="prostate", applicability=made_for)
    recipe = replace(told.recipe, name="prostate", settings={"roles": ["T2W"]})
    return replace(other, description=replace(told, card=card, recipe=recipe))


def study(folder: Path, uid: str, patient: str, name: str = "Doe^John", number: int = 1) -> None:
    """One T2W series of a study; a second study of a folder needs another number."""

    def change(k: int, dataset: FileDataset) -> None:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
        dataset.PatientID, dataset.PatientName = patient, name

    folder.mkdir(exist_ok=True)
    mr_series.slices(folder, number, mr_series.T2, change=change)


def table(folder: Path, text: str) -> Path:
    path = folder / "psa.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def assigned(tmp_path: Path, package: Package) -> Callable[[str], Assigned]:
    """What a table gives on the studies in tmp_path/in: PSA by study, and the remarks."""

    def of(text: str) -> Assigned:
        index = build_index(tmp_path / "in", None, workers=0)
        assigned = assign([read_psa(table(tmp_path, text))], index, plan(index, [package]))
        assert {name for _, name in assigned.contexts} <= {"prostate"}
        assert {fact for facts in assigned.contexts.values() for fact in facts} <= {"psa_ng_ml"}
        return {uid: facts["psa_ng_ml"].value for (uid, _), facts in assigned.contexts.items()}, assigned.remarks

    return of


# --- The table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "StudyInstanceUID,psa_ng_ml\n1.2.3,6.5\n1.2.4,0\n",
        "\ufeffpsa_ng_ml,StudyInstanceUID\r\n6.5,1.2.3\r\n\r\n0,1.2.4\r\n",
        'StudyInstanceUID , psa_ng_ml\n"1.2.3", 6.5\n1.2.4,0.0\n',
        "StudyInstanceUID;psa_ng_ml\r\n1.2.3;6,5\r\n1.2.4;0\r\n;\r\n",
        'StudyInstanceUID,psa_ng_ml\n1.2.3,"6,5"\n1.2.4,0\n',
    ],
    ids=["plain", "byte order mark, other order, empty line", "blanks and quotes", "semicolons", "quoted comma"],
)
def test_a_table_is_read(text: str, tmp_path: Path) -> None:
    told = read_psa(table(tmp_path, text))
    assert told.key == "StudyInstanceUID"
    assert {uid: row.value for uid, row in told.rows.items()} == {"1.2.3": 6.5, "1.2.4": 0.0}


def test_a_patient_id_is_kept_as_text_and_only_as_a_digest(tmp_path: Path) -> None:
    told = read_psa(table(tmp_path, "PatientID,psa_ng_ml\n0012,6.5\n12,7\n"))
    assert len(told.rows) == 2
    assert "0012" not in repr(told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: found columns []; missing ['psa_ng_ml']"),
        ("psa_ng_ml\n6.5\n", "line 1: found columns ['psa_ng_ml']; allowed are psa_ng_ml and one of StudyInstanceUID"),
        ("StudyInstanceUID,PatientID,psa_ng_ml\n1,2,3\n", "['StudyInstanceUID', 'PatientID', 'psa_ng_ml']"),
        ("PatientID,psa\nP1,6.5\n", "line 1: found columns ['another', 'another']; missing ['psa_ng_ml']"),
        ("P1,6.5\nP2,7\n", "line 1: found columns ['another', 'another']; missing ['psa_ng_ml']"),
        ("PatientID,psa_ng_ml,name\nP1,6.5,P1\n", "found columns ['PatientID', 'psa_ng_ml', 'another']"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,6,5\n", "line 2, column 3 (without a name): found 3 values; allowed are 2"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3\n", "line 2, column 2 ('psa_ng_ml'): found 1 values; allowed are 2"),
        ("StudyInstanceUID,psa_ng_ml\n,6.5\n", "line 2: has an empty StudyInstanceUID"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,\n", "line 2: has a psa_ng_ml that is no number"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,nan\n", "that is no number"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,<0.1\n", "that is no number"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,1_0\n", "that is no number"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,6\xb5\n", "that is no number"),
        (
            "PatientID,psa_ng_ml\n6.5,P1\n",
            "line 2: has a psa_ng_ml that is no number; allowed is one such as 6.5, one decimal mark",
        ),
        ('StudyInstanceUID,psa_ng_ml\n1.2.3,"1,250"\n', "that is no number"),
        ("StudyInstanceUID;psa_ng_ml\n1.2.3;6,5\n1.2.4;1.250\n", "line 2: has a psa_ng_ml that is no number"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,-1\n", "that is negative"),
        ("StudyInstanceUID,psa_ng_ml\n1.2.3,10000.1\n", "that is above 10000"),
        ("PatientID,psa_ng_ml\nP1,6.5\nP2,7\nP1,6.5\n", "line 4: names the PatientID of line 2 again"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        read_psa(table(tmp_path, text))
    assert "P1" not in str(caught.value)


def test_10000_is_the_last_that_is_believed(tmp_path: Path) -> None:
    (row,) = read_psa(table(tmp_path, "StudyInstanceUID,psa_ng_ml\n1.2.3,10000\n")).rows.values()
    assert row == Row(10_000.0, 2)


@pytest.mark.parametrize(
    "content", [None, b"StudyInstanceUID,psa_ng_ml\n1.2.3,6\x81\n", b'PatientID,psa_ng_ml\n"a,1\n', b"PK\x03\x04"]
)
def test_what_is_no_table_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "psa.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_psa(path)


# --- Whose it is ------------------------------------------------------------------------------------------------------


def test_a_study_is_named_by_its_uid(tmp_path: Path, assigned: Callable[[str], Assigned]) -> None:
    study(tmp_path / "in", "1.2.3", "P1")
    found, remarks = assigned("StudyInstanceUID,psa_ng_ml\n1.2.3,6.5\n1.2.99,4\n")
    assert found == {"1.2.3": 6.5}
    assert remarks == (
        "The PSA in line 3 of the table was not used: its StudyInstanceUID is that of no study that a package of "
        "prostate MRI reads",
    )


def test_a_patient_with_one_study_may_be_named_instead(tmp_path: Path, assigned: Callable[[str], Assigned]) -> None:
    study(tmp_path / "in", "1.2.3", "P1 ")
    study(tmp_path / "in", "1.2.4", "P2", number=2)
    assert assigned("PatientID,psa_ng_ml\nP1,6.5\n") == ({"1.2.3": 6.5}, ())


def test_a_patient_with_two_studies_is_asked_which(tmp_path: Path, assigned: Callable[[str], Assigned]) -> None:
    study(tmp_path / "in", "1.2.3", "P1")
    study(tmp_path / "in", "1.2.4", "P1", number=2)
    found, remarks = assigned("PatientID,psa_ng_ml\nP1,6.5\n")
    assert found == {}
    assert "its patient has 2 studies that are read" in remarks[0]


def test_a_patient_id_of_two_patients_is_nobody_s(tmp_path: Path, assigned: Callable[[str], Assigned]) -> None:
    """The second has no study that is read, and the PSA may be his."""
    study(tmp_path / "in", "1.2.3", "P1", "Doe^John")
    study(tmp_path / "in", "1.2.4", "P1", "Roe^Richard", number=2)
    for path in (tmp_path / "in").glob("02_*"):
        path.write_bytes(path.read_bytes().replace(b"PROSTATE", b"BRAIN   "))
    found, remarks = assigned("PatientID,psa_ng_ml\nP1,6.5\n")
    assert found == {}
    assert "stands for more than one patient" in remarks[0]
    assert "P1" not in remarks[0]


# --- A run ------------------------------------------------------------------------------------------------------------


class Quiet:
    """Nobody listens."""

    def begin(self, frames: int) -> None: ...
    def frame(self) -> None: ...
    def study(self, folder: str, results: Sequence[dict[str, Any]]) -> None: ...


class NoProcesses(Processes):
    """No image is decoded and no document is made."""

    def frames(self, images: Sequence[Any]) -> Iterator[Any]:
        return (SimpleNamespace(item=item, refs=()) for item in range(len(images)))

    def start(self, packages: object) -> None: ...
    def report(self, *result: object) -> Any:
        return []


@pytest.fixture
def run_psa(tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], Any]:
    """A run over tmp_path/in with a table, or without one: the summary and the studies that were read anew.

    The network is left out: each exam has the same zones and one lesion.
    """
    read: list[str] = []

    def answer(task: StudyTask, frames: Iterator[Any], processes: Processes, context: Context) -> Answer:
        list(frames)
        read.append(task.study_uid)
        refs = tuple(ref for image in task.group.images() for ref in image.source_refs())
        reading = Reading(refs, (lesion(15, -8, 4.5),), (), {}, structures=tuple(zones()))
        told = conclude(Readings((reading,)), Terms(), context)
        result = ExamResult(
            task.study_uid, "MR", package.name, task.group.name, Origin(), package.algorithm(), told.findings, refs, (),
            dict(told.measures), told.notes, structures=told.structures,
        )  # fmt: skip
        return Answer(result, (), {})

    # In this process: starting the workers that read headers costs more than all else.
    monkeypatch.setattr(
        "imaging.inference.run.build_index",
        lambda export, site, workers, mr_parts, unpacked: build_index(export, site, 0, mr_parts, unpacked),
    )
    monkeypatch.setattr("imaging.inference.run.Processes", NoProcesses)
    monkeypatch.setattr("imaging.inference.run.answer", answer)

    def run(text: str | None) -> Any:
        read.clear()
        facts: tuple[FactTable, ...] = () if text is None else (read_psa(table(tmp_path, text)),)
        when = datetime(2026, 1, 31, 12)
        summary = run_inference(
            InferenceRun(tmp_path / "in", tmp_path / "out", (package,), None, when, facts=facts), Quiet()
        )
        schema = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
        Draft202012Validator(schema).validate(summary)
        return summary, sorted(read)

    return run


def test_an_answer_is_given_anew_when_its_psa_changes_and_only_then(tmp_path: Path, run_psa: Any) -> None:
    study(tmp_path / "in", "1.2.3", "P1")
    study(tmp_path / "in", "1.2.4", "P2", number=2)
    assert run_psa(None)[1] == ["1.2.3", "1.2.4"]
    assert run_psa(None)[1] == []
    assert run_psa("PatientID,psa_ng_ml\nP1,6.48\n")[1] == ["1.2.3"]
    assert run_psa("PatientID,psa_ng_ml\nP1,6.48\n")[1] == []
    assert run_psa("PatientID,psa_ng_ml\nP1,6.48\nP2,3\n")[1] == ["1.2.4"]
    summary, read = run_psa("PatientID,psa_ng_ml\nP1,12.96\nP2,3\n")
    assert read == ["1.2.3"]
    (one, other) = (entry["results"][0] for entry in summary["studies"])
    assert one["measures"] == {"gland_volume_ml": 32.4, "psa_ng_ml": 12.96, "psa_density_ng_ml2": 0.4}
    assert other["measures"]["psa_ng_ml"] == 3.0
    assert one["notes"] == [
        "The PSA of 12.96 ng/ml is not of the images: the table given with --psa states it for this patient, "
        "by PatientID"
    ]
    assert run_psa(None)[0]["studies"][0]["results"][0]["measures"] == {"gland_volume_ml": 32.4}


def test_a_row_that_is_not_used_is_remarked_and_nothing_written_names_a_patient(tmp_path: Path, run_psa: Any) -> None:
    study(tmp_path / "in", "1.2.3", "Q-77-31")
    summary, _ = run_psa("PatientID,psa_ng_ml\nQ-77-31,6.48\nQ-88-42,5\n")
    assert summary["remarks"] == [
        {
            "path": None,
            "text": "The PSA in line 3 of the table was not used: its PatientID is that of no study that a package of "
            "prostate MRI reads",
        }
    ]
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written
    assert not [text for text in written if b"Q-77-31" in text or b"Q-88-42" in text]


def test_the_summary_tells_what_was_found_and_what_was_read_as_what(tmp_path: Path, run_psa: Any) -> None:
    study(tmp_path / "in", "1.2.3", "P1")
    same = {"PatientID": "P1", "PatientName": "Doe^John"}
    mr_series.slices(tmp_path / "in", 7, {**mr_series.T2, **same}, orientation=mr_series.SAGITTAL)
    summary, _ = run_psa(None)
    (result,) = summary["studies"][0]["results"]
    assert result["roles"] == {"T2W": [{"series_uid": "1.2.3.1", "series_number": 1, "instances": 15}]}
    assert [(one["series_uid"], one["series_number"], one["instances"]) for one in result["rejected"]] == [
        ("1.2.3.7", 7, 15)
    ]
    assert result["rejected"][0]["reason"] == "not_axial"
    (found,) = result["findings"]
    assert found["site"] == {
        "value": "716938006",
        "scheme": "SCT",
        "meaning": "Right posterolateral apical peripheral zone of prostate",
    }
    assert found["center_lps_mm"] == pytest.approx([-15, 8, 4.5])
    assert found["slice"] == 5  # The first lies at z -7.5, and they are 3 mm apart.
    assert found["volume_ml"] == pytest.approx(0.048)
    assert found["measures"] == {"adc_mean_um2_s": None, "adc_p10_um2_s": None}
    assert [(organ["label"], organ["volume_ml"]) for organ in result["structures"]] == [
        ("peripheral zone", pytest.approx(21.6)),
        ("transition zone", pytest.approx(10.8)),
    ]
    assert result["finding"] == "yes"
