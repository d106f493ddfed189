"""What a package may say by its image classes: package.yaml that is refused, and the way from a reading to a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
import yaml

from imaging.dicom.index import build_index, read_header
from imaging.dicom.results.read import ReadReport, read_result
from imaging.errors import PackageError, Reason
from imaging.findings import Reading, Thumbnail
from imaging.image import Box, Grid
from imaging.inference.answer import Answer, answer
from imaging.inference.processes import Processes, RunLimits, TaskFrame
from imaging.inference.router import plan
from imaging.inference.summary import released
from imaging.package import ImageClass, Package, load_package
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from tests.conftest import REPOSITORY
from tests.report_cases import MALIGNANCY, blob

SAMPLES = REPOSITORY / "data_samples"
SCHEMA = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
CONCEPT = {"value": "111047", "scheme": "DCM", "meaning": "Probability of cancer"}
RATED: dict[str, Any] = {
    "classes": [{"name": "normal", "nothing": True}, {"name": "benign"}, {"name": "malignant"}],
    "rating": {"name": "malignancy", "positive": "malignant", "negative": "benign", "concept": CONCEPT},
    "calibration": {"population": "synthetic images", "prevalence": 0.25, "operating_point": "p 0.5"},
}


def package_with(folder: Path, *, temperature: float = 1.0, **card: Any) -> Package:
    """The sample package with other values in its card."""
    shutil.copytree(SAMPLES / "packages" / "breast_us", folder)
    path = folder / "package.yaml"
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    told["card"] |= card
    told["temperature"] = temperature
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return load_package(folder)


# -- package.yaml ------------------------------------------------------------------------------------------------------


def test_a_package_tells_its_classes_rating_and_temperature(tmp_path: Path) -> None:
    rated = package_with(tmp_path / "rated", temperature=1.5, **RATED)
    card = rated.description.card
    assert card.classes == [ImageClass("normal", True), ImageClass("benign"), ImageClass("malignant")]
    assert (card.rating, rated.description.temperature) == (MALIGNANCY, 1.5)
    assert rated.algorithm().stated_rating == MALIGNANCY
    assert "temperature 1.5" in rated.algorithm().parameters
    unproven = package_with(tmp_path / "unproven", **RATED | {"calibration": None})
    assert (unproven.algorithm().rating, unproven.algorithm().stated_rating) == (MALIGNANCY, None)
    assert unproven.identity != rated.identity


def test_a_package_without_classes_needs_to_say_nothing_of_them() -> None:
    description = load_package(SAMPLES / "packages" / "fetal_head_us").description
    assert (description.card.classes, description.card.rating, description.temperature) == ([], None, 1.0)


def rated_by(**changes: str) -> dict[str, Any]:
    return {"rating": RATED["rating"] | changes}


def validated_by(**changes: Any) -> dict[str, Any]:
    return {"calibration": RATED["calibration"] | changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": []}, r"card\.rating is 'malignancy'; allowed is none without card\.classes"),
        (
            rated_by(positive="cancer"),
            r"card\.rating\.positive is 'cancer'; allowed is one of card\.classes: normal, b",
        ),
        (rated_by(negative="cyst"), r"card\.rating\.negative is 'cyst'"),
        (rated_by(negative="malignant"), r"card\.rating\.negative is 'malignant'; allowed is another class than"),
        ({"classes": [*RATED["classes"], {"name": "benign"}]}, r"card\.classes is .*; allowed is each name once"),
        ({"classes": [{"name": ""}], "rating": None}, r"card\.classes is \[''\]"),
        ({"classes": [{"nme": "benign"}]}, "nme"),
        (validated_by(prevalence=25), r"prevalence is 25.*; allowed is a number between 0 and 1"),
        (validated_by(prevalence=0.0), r"prevalence is 0\.0"),
        (validated_by(population=" "), r"population is ' '; allowed is a line of printable ASCII"),
        (validated_by(operating_point="p ≥ 0.5"), r"operating_point is 'p \\u2265 0\.5'"),
        ({"temperature": 0.0}, r"temperature is 0\.0; allowed is a positive finite number"),
        ({"temperature": float("inf")}, "temperature is inf"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=message) as caught:
        package_with(tmp_path / "package", **RATED | changes)
    assert caught.value.reason is Reason.PACKAGE_INVALID
    assert "package.yaml" in str(caught.value)


# -- From a reading to the report --------------------------------------------------------------------------------------


def answered(package: Package, says: Callable[[int], dict[str, float]], finds: bool) -> Answer:
    """The answer for the first study of the samples, whose images are read by `says` (number → classes)."""
    index = build_index(SAMPLES / "pacs_export")
    task = plan(index, [package]).tasks()[0]
    refs = [image.source_refs()[0] for image in task.group.images()]

    def frames() -> Iterator[TaskFrame]:
        for number, ref in enumerate(refs):
            yield TaskFrame(number, (ref,), cast(Any, SimpleNamespace(notes=(), number=number)), 0.0)

    def read(_: Package, image: Any) -> Reading:
        ref = refs[image.number]
        found = (
            (replace(blob(ref, 10, 10), source_grid=Grid.plane(600, 800, 0.2, 0.3, "mm")),)
            if finds and image.number == 0
            else ()
        )
        shown = Thumbnail(ref, np.zeros((4, 4), np.uint8), Box.from_xy(0.0, 0.0, 4.0, 4.0))
        return Reading((ref,), found, (shown,), {}, says(image.number))

    return answer(task, frames(), cast(Processes, SimpleNamespace(limits=RunLimits(), read=read)))


def first_then(classes: dict[str, float]) -> Callable[[int], dict[str, float]]:
    """The classes of the first image; every other one is normal."""
    return lambda number: classes if number == 0 else {"normal": 0.98, "benign": 0.01, "malignant": 0.01}


def report_of(told: Answer) -> ReadReport:
    index = build_index(SAMPLES / "pacs_export")
    paths = {i.sop_uid: i.path for one in index.series for i in one.instances}
    uids = {ref.sop_uid for ref in told.result.analysed}
    sources = {uid: read_header(paths[uid]) for uid in uids}
    documents = write_documents(Subject(told.result, sources, datetime(2026, 1, 31, 12)))
    read = read_result(documents[-1].data)
    assert isinstance(read, ReadReport)
    return read


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("finds", [True, False])
def test_classes_of_readings_reach_report_and_summary_only_by_a_declared_validation(
    proven: bool, finds: bool, tmp_path: Path
) -> None:
    """0.6 of 0.6 + 0.2 is 75 % of the finding; of the whole image it is 60 %."""
    card = RATED if proven else RATED | {"calibration": None}
    told = answered(
        package_with(tmp_path / "package", **card), first_then({"normal": 0.2, "benign": 0.2, "malignant": 0.6}), finds
    )
    read, summary = report_of(told), released(told.result, [], [])
    planned = {"roles": {}, "rejected": []}  # which the plan adds, not the result
    whole = {"$ref": "#/$defs/result", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(whole).validate({**summary, **planned})
    rated = [one["rating"] for one in summary["findings"]]
    if not proven:
        assert (read.rating, [f.rating for f in read.findings]) == (None, [None] * finds)
        assert (summary["rating"], rated) == (None, [None] * finds)
        return
    assert read.rating is not None
    assert (read.rating.probability, read.rating.sop_uid) == (pytest.approx(0.6), told.result.analysed[0].sop_uid)
    assert [f.rating for f in read.findings] == [pytest.approx(0.75)] * finds
    assert rated == [{"name": "malignancy", "probability": 0.75}] * finds
    assert summary["rating"]["probability"] == 0.6
    assert summary["rating"]["source_sop_uid"] == told.result.analysed[0].sop_uid
