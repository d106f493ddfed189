"""A later result of a study supersedes an earlier one, in series that viewers tell apart; the same one repeats it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport
from imaging.errors import ReadbackError
from imaging.inference.ledger import Issued, Ledger
from imaging.inference.summary import released
from imaging.report.document import Document, Issue, IssuedObject
from imaging.report.kind import Subject
from imaging.report.readback import verify
from imaging.report.sr.views import LATERALITIES
from imaging.report.write import GENERAL, write_documents
from tests import mammography_cases, volume_cases
from tests.report_cases import CONTENT_TIME, Case, case


def write(subject: Case, earlier: Issue | None = None) -> list[Document]:
    about = Subject(subject.result, subject.sources, CONTENT_TIME, earlier=earlier)
    return write_documents(about, (*GENERAL, *subject.outputs))


def issue(documents: list[Document], number: int = 1) -> Issue:
    places = [IssuedObject(d.kind, d.series_uid, d.sop_class_uid, d.sop_instance_uid) for d in documents]
    return Issue(number, tuple(places))


def read(document: Document) -> Dataset:
    return pydicom.dcmread(io.BytesIO(document.data))


@pytest.mark.parametrize("subject", [case("no-all"), mammography_cases.case("yes-all")], ids=["us", "mg"])
def test_every_report_names_the_one_of_its_kind_that_it_supersedes(subject: Case) -> None:
    first = write(subject)
    second = write(subject, issue(first))
    assert [d.kind for d in second] == [d.kind for d in first]
    reports = [pair for pair in zip(first, second, strict=True) if pair[0].kind != "seg"]
    assert reports
    for old, new in reports:
        assert "PredecessorDocumentsSequence" not in read(old)
        [study] = read(new).PredecessorDocumentsSequence
        [series] = study.ReferencedSeriesSequence
        [named] = series.ReferencedSOPSequence
        assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (read(old).StudyInstanceUID, old.series_uid)
        assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (
            old.sop_class_uid,
            old.sop_instance_uid,
        )
    assert not {d.series_uid for d in first} & {d.series_uid for d in second}
    assert all(" (2): " in read(d).SeriesDescription for d in second)
    assert [d.data for d in write(subject, issue(first))] == [d.data for d in second]


def test_read_back_refuses_another_predecessor() -> None:
    subject = case("no-all")
    first = write(subject)
    second = write(subject, issue(first))
    about = Subject(subject.result, subject.sources, CONTENT_TIME)
    verify(first, about, GENERAL)
    with pytest.raises(ReadbackError, match="PredecessorDocumentsSequence"):
        verify(second, about, GENERAL)
    with pytest.raises(ReadbackError, match="PredecessorDocumentsSequence"):
        verify(first, replace(about, earlier=issue(second)), GENERAL)


def test_each_segmentation_has_a_series_and_each_segment_a_colour() -> None:
    """The lesion is red: L* 54, a* 80, b* 70 are 54 x 655.35, (80 + 128) x 257 and (70 + 128) x 257."""
    documents = write(volume_cases.case("yes-all"))
    assert len({d.series_uid for d in documents}) == len(documents)
    segments = [item for d in documents if d.kind == "seg" for item in read(d).SegmentSequence]
    assert segments[0].RecommendedDisplayCIELabValue == [35389, 53456, 50886]
    colours = [tuple(item.RecommendedDisplayCIELabValue) for item in segments]
    assert len(set(colours)) == len(colours) > 1


def test_series_are_dated_and_named_by_their_package_first() -> None:
    subject = volume_cases.case("yes-all")
    other = replace(subject, result=replace(subject.result, package="prostate-other"))
    told = [read(d) for one in (subject, other) for d in write(one)]
    assert {(d.SeriesDate, d.SeriesTime) for d in told} == {("20240506", "070809")}
    assert [d.SeriesDescription for d in told] == [
        "prostate-demo: segmentation",
        "prostate-demo: measurement report",
        "prostate-other: segmentation",
        "prostate-other: measurement report",
    ]
    assert len({d.SeriesNumber for d in told}) == 4


def test_the_ledger_repeats_the_predecessor_of_known_content_and_appends_new_content(tmp_path: Path) -> None:
    first, second = (Issue(n, (IssuedObject("sr", f"1.{n}", "1.2", f"2.{n}"),)) for n in (1, 2))
    with Ledger(tmp_path) as ledger:
        assert ledger.superseded("work", "a") is None
        ledger.record("work", "f", {"completeness": "all"}, [], Issued("a", first))
        assert ledger.superseded("work", "a") is None
        assert ledger.superseded("work", "b") == first
        assert ledger.superseded("other work", "b") is None
        ledger.record("work", "g", {"completeness": "all"}, [], Issued("b", second))
    with Ledger(tmp_path, fresh=True) as ledger:  # archives still hold what was issued
        assert ledger.result("work", "g", False) is None
        assert (ledger.superseded("work", "a"), ledger.superseded("work", "b")) == (None, first)
        assert ledger.superseded("work", "c") == second


def test_findings_of_a_mammogram_carry_side_and_view() -> None:
    """By hand: a mass of the left breast in CC and MLO, one in the right CC, a cluster."""
    subject = mammography_cases.case("yes-all")
    report = next(d for d in write(subject) if d.kind == "sr")
    found = read_result(report.data)
    assert isinstance(found, ReadReport)
    views = [subject.result.views[finding.key.ref.sop_uid] for finding in subject.result.findings]
    assert {"L CC", "L MLO", "R CC"} <= {view.words for view in views}
    assert [f.laterality for f in found.findings] == [LATERALITIES[view.laterality] for view in views]
    assert [f.tracking_id.split(", ", 1)[1] for f in found.findings] == [view.words for view in views]
    told = released(subject.result, [], [])["findings"]
    assert [(f["laterality"], f["view"]) for f in told] == [(view.laterality, view.words) for view in views]
    planar = released(case("yes-some").result, [], [])["findings"]
    assert [(f["laterality"], f["view"]) for f in planar] == [(None, None)]


def test_another_side_is_refused() -> None:
    subject = mammography_cases.case("yes-all")
    views = {uid: replace(view, laterality="R" if view.laterality == "L" else "L")
             for uid, view in subject.result.views.items()}  # fmt: skip
    kinds = (*GENERAL, *subject.outputs)
    turned = Subject(replace(subject.result, views=views), subject.sources, CONTENT_TIME)
    with pytest.raises(ReadbackError):
        verify(write(subject), turned, kinds)
