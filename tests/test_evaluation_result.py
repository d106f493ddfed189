"""The record of an evaluation: no NaN on small sites, JSON that gives itself back, merging that equals pooling."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from imaging.errors import ConfigError, InputError
from imaging.evaluation.classification import ClassificationProtocol
from imaging.evaluation.detection import DetectionProtocol
from imaging.evaluation.evaluate import evaluate_classification, evaluate_detection, evaluate_segmentation
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.matching import MatchedLesion
from imaging.evaluation.merge import merge, without_cases
from imaging.evaluation.result import (
    ClassificationCase,
    Counts,
    DetectionCase,
    EvaluationResult,
    Figure,
    Inputs,
    Overlap,
    SegmentationCase,
)
from imaging.evaluation.segmentation import SegmentationProtocol
from imaging.evaluation.sites import withheld

HOW = Bootstrap(300)
INPUTS = Inputs(manifest="m" * 64, weights="w" * 64, configuration="c" * 64)


def detection_site(site: str, n_positive: int, n_negative: int = 12, seed: int = 0) -> list[DetectionCase]:
    """Positives with one lesion and negatives, some with a false positive; every third patient has two cases."""
    rng = np.random.default_rng(seed)
    cases = []
    for k in range(n_positive + n_negative):
        positive = k < n_positive
        score = float(expit(rng.normal(1.5 * positive)))
        lesions = (
            (MatchedLesion(True, score, 0.4),) if positive else (MatchedLesion(False, score),) * int(rng.random() < 0.6)
        )
        group = (("age", "over 60" if k % 2 else "up to 60"), ("scanner", "A" if k else "B"))
        cases.append(
            DetectionCase(f"{site}{k}", f"{site}p{k - (k % 3 == 1)}", site, positive, score, lesions, subgroups=group)
        )
    return cases


def record(cases: list[DetectionCase], inputs: Inputs = INPUTS) -> EvaluationResult:
    return evaluate_detection(cases, DetectionProtocol(), HOW, inputs)


@pytest.fixture(scope="module")
def three_sites() -> list[DetectionCase]:
    return [c for k, site in enumerate("abc") for c in detection_site(site, 8 + k, seed=k)]


@pytest.mark.parametrize("n_positive", [0, 1, 2])
def test_sites_with_few_positives_say_so_instead_of_nan(n_positive: int) -> None:
    result = record([*detection_site("small", n_positive), *detection_site("large", 10, seed=1)])
    small = next(site for site in result.sites if site.name == "small")
    assert small.n_cases == 12 + n_positive
    assert [figure.text for figure in small.figures] == [f"n/a ({n_positive} positives)"] * len(small.figures)
    assert "NaN" not in result.to_json()
    (auroc,) = [extreme for extreme in result.macro if extreme.name == "auroc"]
    assert (auroc.n_sites, auroc.n_absent, auroc.worst_site) == (1, 1, "large")


def test_one_positive_or_none_anywhere_gives_no_nan_in_any_task() -> None:
    cases = [ClassificationCase(str(k), str(k), "s", k == 0, 0.5) for k in range(5)]
    result = evaluate_classification(cases, ClassificationProtocol(), HOW)
    assert result.pooled.figure("auroc").text == "n/a (1 positives)"
    assert result.pooled.figure("brier").value == pytest.approx(0.25)
    nothing = Overlap("lesion", "true_negative", None, None, None, None, None, 0.0, 0.0)
    empty = [SegmentationCase(str(k), str(k), "s", (nothing,)) for k in range(5)]
    segmented = evaluate_segmentation(empty, SegmentationProtocol(), HOW)
    assert segmented.pooled.figure("lesion dice").text == "n/a (0 positives)"
    assert segmented.pooled.figure("lesion specificity_on_empty").value == 1.0
    for one in (result, segmented):
        assert EvaluationResult.from_json(one.to_json()) == one


def test_every_figure_carries_its_counts(three_sites: list[DetectionCase]) -> None:
    cases = [
        replace(three_sites[0], failed="no prediction", lesions=(MatchedLesion(True, 0.0),), score=0.0),
        *three_sites[1:],
    ]
    result = record(cases)
    n_lesions = sum(x.is_true for case in cases for x in case.lesions)
    false = sum(not case.truth and bool(case.lesions) for case in cases)
    assert result.pooled.figure("average_precision").counts == Counts(n_lesions, n_lesions - 1, 1, false, 1)
    assert result.pooled.figure("auroc").counts == Counts(63, 62, 1, false, 1)
    assert result.failures == ((cases[0].case_id, "no prediction"),)
    assert result.protocol["hit_rule"] == "IoU of at least 0.1"


def test_json_gives_the_record_back_at_full_precision(three_sites: list[DetectionCase]) -> None:
    result = record(three_sites)
    again = EvaluationResult.from_json(result.to_json())
    assert again == result
    assert again.to_json() == result.to_json()
    value = json.loads(result.to_json())["pooled"]["figures"][0]["value"]
    assert value == result.pooled.figures[0].value


def test_a_damaged_record_is_named(three_sites: list[DetectionCase]) -> None:
    text = record(three_sites[:20]).to_json()
    for broken, message in (
        (text.replace('"schema_version": 1', '"schema_version": 9'), "schema_version: found 9; allowed is 1"),
        (text[:200], "JSONDecodeError"),
        (text.replace('"task": "detection"', '"task": "guessing"'), "found 'guessing'"),
        (text.replace('"n_failed": 0', '"n_failed": "none"'), "found 'none'"),
        (text.replace('"toolkit"', '"tool"'), "has no field"),
        ("{}", "schema_version"),
    ):
        with pytest.raises(InputError, match=message):
            EvaluationResult.from_json(broken)


def test_a_figure_is_a_finite_value_or_a_reason() -> None:
    for value, absent in ((math.nan, ""), (None, ""), (0.5, "n/a (2 positives)")):
        with pytest.raises(AssertionError):
            Figure("auroc", value, Counts(1, 1), absent=absent)


def test_the_measured_coverage_is_printed_below_twenty_patients() -> None:
    few = record(detection_site("a", 6)).pooled.figure("auroc")
    assert few.interval is not None
    assert f"measured coverage {few.interval.coverage:.1%} at {few.interval.n_clusters} patients" in few.text
    many = record(detection_site("a", 40, 40)).pooled.figure("auroc")
    assert "coverage" not in many.text


def test_files_with_rows_merge_to_exactly_the_pooled_figures(three_sites: list[DetectionCase]) -> None:
    files = [record([c for c in three_sites if c.site == site]).to_json() for site in "cab"]
    assert merge([EvaluationResult.from_json(text) for text in files]) == record(three_sites)


def test_rows_of_every_task_merge_exactly() -> None:
    rng = np.random.default_rng(2)
    labelled = [
        ClassificationCase(f"{k}", f"{k}", "ab"[k % 2], bool(rng.random() < 0.5), float(rng.random()))
        for k in range(40)
    ]
    protocol = ClassificationProtocol((0.7,))
    parts = [evaluate_classification([c for c in labelled if c.site == s], protocol, HOW, INPUTS) for s in "ab"]
    assert merge(parts) == evaluate_classification(labelled, protocol, HOW, INPUTS)
    segmented = [
        SegmentationCase(
            c.case_id, c.patient_id, c.site, (Overlap("head of x", "both", c.score, c.score, 1, 2, 3, 4, 5),)
        )
        for c in labelled
    ]
    drawn = SegmentationProtocol((("head of x", 3),), 1.5, 40.0)
    halves = [evaluate_segmentation([c for c in segmented if c.site == s], drawn, HOW, INPUTS) for s in "ab"]
    assert merge(halves) == evaluate_segmentation(segmented, drawn, HOW, INPUTS)


def test_files_of_aggregates_merge_to_random_effects(three_sites: list[DetectionCase]) -> None:
    whole = record(three_sites)
    files = [without_cases(record([c for c in three_sites if c.site == site])) for site in "abc"]
    merged = merge([EvaluationResult.from_json(file.to_json()) for file in files])
    assert merged.detection == ()
    assert merged.pooled.figures == ()
    assert merged.pooled.n_cases == len(three_sites)
    assert merged.macro == whole.macro
    assert merged.heterogeneity == whole.heterogeneity
    (auroc,) = [effects for effects in merged.heterogeneity if effects.name == "auroc"]
    assert auroc.n_sites == 3
    assert auroc.low is not None
    assert auroc.predicted_low is not None
    assert 0 < auroc.predicted_low < auroc.low < auroc.mean < 1


def test_one_file_of_aggregates_makes_the_whole_an_analysis_of_aggregates(three_sites: list[DetectionCase]) -> None:
    files = [record([c for c in three_sites if c.site == site]) for site in "abc"]
    merged = merge([files[0], without_cases(files[1]), files[2]])
    assert merged.pooled.figures == ()
    assert len(merged.sites) == 3


def test_small_counts_do_not_leave_with_aggregates() -> None:
    result = without_cases(record([*detection_site("a", 3), *detection_site("b", 8, seed=1)]))
    text = result.to_json()
    assert "ap1" not in text, "no patient's name is left"
    counts = [f.counts for g in (result.pooled, *result.sites) for f in g.figures]
    numbers = [n for c in counts for n in (c.n_total, c.n_scored, c.n_missed, c.n_false_positive_on_empty, c.n_failed)]
    assert not any(n is not None and 0 < n < 5 for n in numbers)
    assert any(n is None for n in numbers)
    precision = next(site for site in result.sites if site.name == "a").figure("average_precision")
    assert precision.text == "suppressed (fewer than 5)"
    (tiny,) = without_cases(record(detection_site("a", 2, 2))).sites
    assert (tiny.suppressed, tiny.n_cases, tiny.figures) == (True, None, ())


def test_a_small_site_leaves_without_its_name_and_cannot_be_had_by_subtraction() -> None:
    """Of sites of 2, 6 and 20 patients, 2 and with it 6 have no name: 28 less 20 tells of 8."""
    cases = [*detection_site("tiny", 1, 2), *detection_site("small", 3, 6, 1), *detection_site("large", 10, 20, 2)]
    assert [site.n_patients for site in record(cases).sites] == [20, 6, 2]
    left = without_cases(record(cases))
    assert [(site.name, site.n_patients) for site in left.sites] == [
        ("large", 20),
        ("too few patients to be shown", None),
    ]
    assert left.pooled.n_patients == 28
    assert {extreme.worst_site for extreme in left.macro} <= {"large", ""}
    other = without_cases(record(detection_site("minute", 1, 3, 3)))
    assert [site.name for site in other.sites] == ["too few patients to be shown"]
    merged = merge([left, other])
    assert [site.name for site in merged.sites] == ["large", "too few patients to be shown"]


@pytest.mark.parametrize(
    ("patients", "hidden"),
    [
        ({"a": 5, "b": 6}, set()),
        ({"a": 4, "b": 6, "c": 9}, {"a", "b"}),
        ({"a": 1, "b": 2, "c": 9, "d": 30}, {"a", "b", "c"}),
        ({"a": 2, "b": 3, "c": 9}, {"a", "b"}),
        ({"a": 3}, {"a"}),
    ],
)
def test_what_is_withheld_is_five_or_more_together(patients: dict[str, int], hidden: set[str]) -> None:
    assert withheld(patients) == hidden


def test_subgroups_under_five_are_hidden_and_cannot_be_had_by_subtraction(three_sites: list[DetectionCase]) -> None:
    """Scanner B has three patients: hidden, and with it A, which alone would give it away. Age groups are large."""
    groups = record(three_sites).subgroups
    assert [(g.name, g.suppressed, g.n_cases) for g in groups["scanner"]] == [("A", True, None), ("B", True, None)]
    assert all(not g.suppressed and g.figure("auroc").value is not None for g in groups["age"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "x"}, "merge, weights: result 1 has 'w+' and result 2 has 'x'"),
        ({"manifest": "x"}, "merge, manifest: result 1 has 'm+' and result 2 has 'x'"),
        ({"configuration": "x"}, "merge, configuration"),
    ],
)
def test_results_of_different_things_do_not_merge(
    three_sites: list[DetectionCase], change: dict[str, str], message: str
) -> None:
    first = record([c for c in three_sites if c.site == "a"])
    second = record([c for c in three_sites if c.site == "b"], replace(INPUTS, **change))
    with pytest.raises(ConfigError, match=message):
        merge([first, second])


def test_each_site_may_have_an_approved_manifest_of_its_own(three_sites: list[DetectionCase]) -> None:
    files = [record([c for c in three_sites if c.site == s], replace(INPUTS, manifest=f"hash {s}")) for s in "abc"]
    merged = merge(files, manifests={"hash a", "hash b", "hash c"})
    assert merged.pooled == record(three_sites).pooled
    with pytest.raises(ConfigError, match="result 3 has 'hash c', which is not approved"):
        merge(files, manifests={"hash a", "hash b"})


def test_a_case_or_site_in_two_files_is_refused(three_sites: list[DetectionCase]) -> None:
    one = record([c for c in three_sites if c.site == "a"])
    with pytest.raises(ConfigError, match=r"found 'a0' of site 'a' 2 times, \d+ repeated in all"):
        merge([one, one])
    with pytest.raises(ConfigError, match="merge, site: found 'a' in two results of aggregates"):
        merge([without_cases(one), without_cases(one)])
    with pytest.raises(ConfigError, match=r"merge, protocol, hit_rule"):
        merge([one, replace(one, protocol={**one.protocol, "hit_rule": "other"})])
    with pytest.raises(ConfigError, match="merge: found 0 results"):
        merge([])


def test_figures_do_not_depend_on_the_order_of_cases(three_sites: list[DetectionCase]) -> None:
    assert record(three_sites[::-1]) == record(three_sites)


def test_the_worst_calibrated_site_is_the_farthest_from_the_ideal_line() -> None:
    """Slopes near 1, far below and far above: the site of the greatest distance is the worst, whichever side."""
    rng = np.random.default_rng(9)
    cases = []
    for site, slope in (("true", 1.0), ("overconfident", 0.5), ("timid", 3.0)):
        logit = rng.normal(size=400)
        truth = rng.random(400) < expit(slope * logit)
        cases += [
            ClassificationCase(str(k), str(k), site, bool(t), float(expit(x)))
            for k, (t, x) in enumerate(zip(truth, logit, strict=True))
        ]
    result = evaluate_classification(cases, ClassificationProtocol(), HOW)
    found = {g.name: g.figure("calibration_slope") for g in result.sites}
    for site, slope in (("true", 1.0), ("overconfident", 0.5), ("timid", 3.0)):
        interval = found[site].interval
        assert interval is not None
        assert interval.low < slope < interval.high
    (worst,) = [extreme.worst_site for extreme in result.macro if extreme.name == "calibration_slope"]
    assert worst == "timid"
