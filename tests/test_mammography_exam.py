"""Two views of one breast: which findings are one lesion, and what breasts and exam score. Distances are drawn.

The left nipple lies at (90, 60) in CC and (80, 70) in MLO; pixels are 0.5 mm, so 30 pixels are the 15 mm of tolerance.
"""

from __future__ import annotations

import dataclasses

import pytest

from imaging.errors import Reason
from imaging.exam.result import Composite, Scores
from imaging.findings import Finding, Rating
from imaging.image import View
from imaging.modalities.mammography.conclusions import Projections, combined, pair, score, summarise
from tests.mammography_cases import ALGORITHM, FOUR, NIPPLES, VIEWS, projections, ref, result, spot, uid


def pairs(*found: Finding, images: Projections | None = None) -> list[tuple[float, ...]]:
    """The scores of the members of each composite: every finding of a test has a score of its own."""
    findings = summarise(found, [])
    composites = pair(findings, images or projections(FOUR))
    return sorted(tuple(sorted(findings[member].key.score for member in one.members)) for one in composites)


def cc(pixels_from_nipple: int, value: float, **more: str) -> Finding:
    """A finding straight behind the nipple of the left CC."""
    return spot("LCC", 90 - pixels_from_nipple, 60, value, **more)


def mlo(pixels_from_nipple: int, value: float, **more: str) -> Finding:
    return spot("LMLO", 80 - pixels_from_nipple, 70, value, **more)


def test_the_same_distance_in_both_views_is_one_lesion() -> None:
    (composite,) = result([cc(40, 0.5), mlo(40, 0.6)], FOUR).composites
    assert composite == Composite((0, 1), "L", pytest.approx(0.8))


@pytest.mark.parametrize(("apart", "found"), [(29, [(0.5, 0.6)]), (31, [])])
def test_the_tolerance_is_15_mm(apart: int, found: list[tuple[float, ...]]) -> None:
    assert pairs(cc(20, 0.5), mlo(20 + apart, 0.6)) == found


def test_it_is_an_arc_not_a_depth() -> None:
    """(3, 4, 5): 24 pixels behind and 32 beside the nipple is 40 from it; 8.5 mm of depth more would be another."""
    assert pairs(spot("LCC", 66, 28, 0.5), mlo(40, 0.6), mlo(75, 0.7)) == [(0.5, 0.6)]


def test_each_finding_has_one_partner_and_the_total_decides() -> None:
    """CC at 20 and 40, MLO at 38 and 60: 20-38 and 40-60 cost 38 px; 40-38 alone costs 2 and the tolerance, 32."""
    assert pairs(cc(20, 0.1), cc(40, 0.2), mlo(38, 0.3), mlo(60, 0.4)) == [(0.2, 0.3)]
    assert pairs(cc(20, 0.1), cc(40, 0.2), mlo(25, 0.3), mlo(45, 0.4)) == [(0.1, 0.3), (0.2, 0.4)]
    assert pairs(cc(30, 0.1), mlo(28, 0.3), mlo(33, 0.4)) == [(0.1, 0.3)]


def test_other_breast_other_label_and_same_view_are_no_pair() -> None:
    assert pairs(cc(40, 0.5), spot("RMLO", 60, 70, 0.6)) == []
    assert pairs(cc(40, 0.5), mlo(40, 0.6, label="cluster")) == []
    assert pairs(cc(40, 0.5), cc(42, 0.6)) == []


def test_without_a_nipple_in_both_views_the_most_anterior_points_are_taken() -> None:
    views = {uid(name): VIEWS[name] for name in FOUR}
    one = {uid("LCC"): NIPPLES["LCC"]}
    anterior = {uid("LCC"): (50.0, 60.0), uid("LMLO"): (40.0, 70.0)}
    found = (cc(40, 0.5), mlo(40, 0.6))
    assert pairs(*found, images=Projections(views, one, anterior)) == [(0.5, 0.6)]
    assert pairs(*found, images=Projections(views, one)) == []
    assert pairs(*found, images=Projections({}, {}, anterior)) == []
    # Had the nipple of the CC and the anterior point of the MLO been mixed, these would be one: 40 and 40 pixels.
    assert pairs(cc(40, 0.5), mlo(80, 0.6), images=Projections(views, one, anterior)) == []


def test_views_of_a_part_and_unequal_modifiers_are_left_alone() -> None:
    for modifiers in ((("magnification",), ("magnification",)), (("implant displaced",), ())):
        views = {uid("LCC"): View("L", "CC", modifiers[0]), uid("LMLO"): View("L", "MLO", modifiers[1])}
        images = dataclasses.replace(projections(FOUR), views=views)
        assert pairs(cc(40, 0.5), mlo(40, 0.6), images=images) == []
    views = {uid(name): dataclasses.replace(VIEWS[name], modifiers=("implant displaced",)) for name in FOUR}
    images = dataclasses.replace(projections(FOUR), views=views)
    assert pairs(cc(40, 0.5), mlo(40, 0.6), images=images) == [(0.5, 0.6)]


def test_uncalibrated_images_share_a_tolerance_of_their_height() -> None:
    """120 rows stand for 240 mm, so 15 mm are 7.5 pixels; calibrated and uncalibrated are never compared."""
    assert pairs(cc(40, 0.5, unit="pixel"), mlo(47, 0.6, unit="pixel")) == [(0.5, 0.6)]
    assert pairs(cc(40, 0.5, unit="pixel"), mlo(48, 0.6, unit="pixel")) == []
    assert pairs(cc(40, 0.5, unit="pixel"), mlo(40, 0.6)) == []


def test_combined_is_at_least_its_highest() -> None:
    assert combined([0.5, 0.6]) == pytest.approx(0.8)
    assert combined([0.9, 0.0]) == pytest.approx(0.9)
    assert combined([1.0, 0.3]) == 1.0


def test_scores_of_breasts_and_exam_and_the_decision() -> None:
    told = result([cc(40, 0.5), mlo(40, 0.6), spot("RCC", 60, 30, 0.7)], FOUR, operating_point=0.75)
    assert told.scores == Scores(pytest.approx(0.8), {"L": pytest.approx(0.8), "R": 0.7}, 0.75)
    assert told.recall is True
    assert told.lesions == ((0,), (1, 2))


def test_a_no_needs_every_image() -> None:
    assert result([], FOUR, operating_point=0.5).recall is False
    assert result([], FOUR[:3], FOUR[3:], operating_point=0.5).recall is None
    assert result([cc(40, 0.5)], FOUR[:3], FOUR[3:], operating_point=0.5).recall is True
    assert result([], FOUR, operating_point=None).recall is None
    unread = result([], [], FOUR, reason=Reason.DECODE_FAILED)
    assert (unread.scores, unread.recall) == (None, None)


def test_a_finding_of_unknown_view_counts_for_the_exam_alone() -> None:
    findings = summarise([cc(40, 0.5)], [])
    views = {uid("RCC"): VIEWS["RCC"]}
    assert score(findings, (), [ref("LCC"), ref("RCC")], views, None) == Scores(0.5, {"R": 0.0})


def test_findings_are_measured_and_rated_best_first() -> None:
    rating = Rating("malignancy", "malignant", "benign", ALGORITHM.procedure)
    classes = {ref("LCC"): {"malignant": 0.3, "benign": 0.1}, ref("LMLO"): {"malignant": 0.0, "benign": 0.2}}
    found = summarise([cc(40, 0.5), mlo(40, 0.6)], ["longest_diameter", "area"], rating, classes)
    assert [f.key.score for f in found] == [0.6, 0.5]
    assert [f.rating for f in found] == [0.0, pytest.approx(0.75)]
    assert found[0].measures["area_mm2"] == pytest.approx(61 * 0.25)
