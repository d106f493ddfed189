"""Intervals, tests, calibration and random effects against published worked examples and naive twins."""

from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from imaging.errors import ConfigError
from imaging.evaluation.calibration import (
    Isotonic,
    Temperature,
    brier,
    decision_curve,
    expected_error,
    recalibration,
    reliability,
)
from imaging.evaluation.classification import (
    ClassificationProtocol,
    carry_threshold,
    choose_threshold,
    delong,
    measures,
    sensitivities,
)
from imaging.evaluation.comparison import compare_auroc, compare_detection, holm
from imaging.evaluation.heterogeneity import on_logit, random_effects
from imaging.evaluation.intervals import Bootstrap, Clusters, bootstrap, measured_coverage, wilson
from imaging.evaluation.matching import MatchedLesion
from imaging.evaluation.ranking import Auroc, AveragePrecision, Mean, figure
from imaging.evaluation.result import ClassificationCase, DetectionCase
from tests.conftest import REPOSITORY

# Trials of the BCG vaccine (Colditz, JAMA 271:698, 1994): ill and well with the vaccine, ill and well without.
BCG = np.array(
    [
        (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
        (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232),
        (17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
    ],
    dtype=float,
)  # fmt: skip


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_in_the_table_of_newcombe(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe, Stat Med 17:857 (1998), table I, method 3."""
    interval = wilson(successes, n)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_is_none() -> None:
    assert wilson(0, 0) is None


def hanley_readings() -> tuple[np.ndarray, np.ndarray]:
    """109 CT readings from 1 (normal) to 5: Hanley & McNeil, Radiology 143:29 (1982), table I."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    score = np.concatenate([np.repeat(np.arange(1, 6), normal), np.repeat(np.arange(1, 6), abnormal)])
    return np.repeat([0, 1], [sum(normal), sum(abnormal)]), score.astype(float)


def test_delong_as_in_the_worked_example_of_hanley_and_mcneil() -> None:
    """Stata's manual, [R] roctab: area 0.8932, standard error 0.0307 by DeLong's method, 0.83295 to 0.95339."""
    found = delong(*hanley_readings())
    error = math.sqrt(found.covariance[0, 0])
    assert found.auroc[0] == pytest.approx(0.8932, abs=5e-5)
    assert error == pytest.approx(0.0307, abs=5e-5)
    assert (found.auroc[0] - 1.959964 * error, found.auroc[0] + 1.959964 * error) == pytest.approx(
        (0.83295, 0.95339), abs=5e-6
    )


def test_delong_equals_its_definition_written_out() -> None:
    """Structural components from every pair, for two models whose scores tie often."""
    rng = np.random.default_rng(1)
    truth = rng.random(60) < 0.4
    scores = [np.round(rng.normal(size=60) + truth, 1) for _ in range(2)]
    won = np.array(
        [np.mean((s[truth][:, None] > s[~truth]) + 0.5 * (s[truth][:, None] == s[~truth]), 1) for s in scores]
    )
    lost = np.array(
        [np.mean((s[truth][:, None] > s[~truth]) + 0.5 * (s[truth][:, None] == s[~truth]), 0) for s in scores]
    )
    found = delong(truth, *scores)
    assert found.auroc == pytest.approx(won.mean(axis=1))
    assert found.covariance == pytest.approx(np.cov(won) / truth.sum() + np.cov(lost) / (~truth).sum())
    test = compare_auroc(truth, *scores)
    contrast = np.array([1, -1])
    z = contrast @ found.auroc / math.sqrt(contrast @ found.covariance @ contrast)
    assert (test.statistic, test.p) == pytest.approx((z, 2 * stats.norm.sf(abs(z))))
    assert compare_auroc(truth, scores[0], 2 * scores[0] + 1).p == 1.0


def test_random_effects_as_metafor_on_the_bcg_trials() -> None:
    """Log risk ratios by REML: Viechtbauer, J Stat Softw 36(3) (2010), section 3.1, and metafor's `predict`.

    tau² 0.3132, I² 92.22 %, Q 152.2330, mean −0.7145; prediction interval of the risk ratio 0.1546 to 1.5490 with
    the normal limits and Wald error (0.1798) that metafor uses there.
    """
    a, b, c, d = BCG.T
    effects = random_effects(np.log(a * (c + d) / (c * (a + b))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
    assert effects.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert effects.i2 == pytest.approx(0.9222, abs=5e-5)
    assert effects.q == pytest.approx(152.2330, abs=5e-5)
    assert effects.mean == pytest.approx(-0.7145, abs=5e-5)
    reach = 1.959964 * math.sqrt(effects.tau2 + 0.1798**2)
    assert np.exp([effects.mean - reach, effects.mean + reach]) == pytest.approx([0.1546, 1.5490], abs=5e-4)
    # Hartung-Knapp (metafor, test="knha"): error 0.1808, t −3.9522 on 12 degrees of freedom, −1.1084 to −0.3206.
    assert effects.standard_error == pytest.approx(0.1808, abs=5e-5)
    assert (effects.low, effects.high) == pytest.approx((-1.1084, -0.3206), abs=1e-4)
    half = 2.200985 * math.sqrt(effects.tau2 + effects.standard_error**2)  # Student's t, 11 degrees of freedom
    assert (effects.predicted_low, effects.predicted_high) == pytest.approx(
        (effects.mean - half, effects.mean + half), abs=1e-6
    )


def test_random_effects_of_the_log_odds_ratios() -> None:
    """van Houwelingen, Arends & Stijnen, Stat Med 21:589 (2002): REML 0.3378, mean −0.7452."""
    a, b, c, d = BCG.T
    effects = random_effects(np.log(a * d / (b * c)), 1 / a + 1 / b + 1 / c + 1 / d)
    assert effects.tau2 == pytest.approx(0.3378, abs=5e-5)
    assert effects.mean == pytest.approx(-0.7452, abs=5e-5)


def test_a_step_over_the_maximum_ends_no_evaluation() -> None:
    """Plain Fisher scoring goes to and fro here for ever. Expected is what a search of the likelihood finds."""
    y, v = np.array([0.48, 0.9, 0.91, 0.77]), np.array([0.025, 0.019, 0.016, 0.002])

    def less_likely(tau2: float) -> float:
        w = 1 / (v + tau2)
        apart = y - (w * y).sum() / w.sum()
        return float(-np.log(w).sum() + np.log(w.sum()) + (w * apart**2).sum()) / 2

    grid = np.linspace(0.002, 0.003, 10_001)
    best = grid[int(np.argmin([less_likely(float(tau2)) for tau2 in grid]))]
    assert best == pytest.approx(0.0025387, abs=1e-6)
    assert random_effects(y, v).tau2 == pytest.approx(best, abs=2e-7)


def test_random_effects_at_the_edges() -> None:
    one = random_effects(np.array([0.3]), np.array([0.04]))
    assert (one.mean, one.tau2, one.low, one.predicted_low) == (0.3, 0.0, None, None)
    two = random_effects(np.array([0.3, 0.5]), np.array([0.04, 0.04]))
    assert two.low is not None
    assert two.predicted_low is None
    same = random_effects(np.array([0.3, 0.31, 0.29]), np.full(3, 0.04))
    assert (same.tau2, same.i2) == (0.0, 0.0)
    with pytest.raises(ConfigError, match="each with a variance above 0"):
        random_effects(np.array([0.3]), np.array([0.0]))


def test_a_perfect_site_stays_in_the_analysis_with_little_weight() -> None:
    estimate, variance = on_logit(1.0, None, 4, 6)
    assert estimate == pytest.approx(math.log(24.5 / 0.5))
    assert 0 < variance < 10
    # 0.8 with variance 0.01: 0.01 / (0.8 · 0.2)².
    assert on_logit(0.8, 0.01, 4, 6) == pytest.approx((math.log(4), 0.390625))


def test_bca_agrees_with_scipy_on_independent_data() -> None:
    """AUROC of 40 positives and 60 negatives (two strata), and the mean of 30 skewed values, 20 000 resamples each."""
    rng = np.random.default_rng(3)
    positive, negative = rng.normal(1.5, 1, 40), rng.normal(0, 1, 60)

    def auroc(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray((a[..., :, None] > b[..., None, :]).mean(axis=(-2, -1)))

    how = {"method": "BCa", "n_resamples": 20_000, "batch": 500, "rng": np.random.default_rng(0)}
    theirs = stats.bootstrap((positive, negative), auroc, vectorized=True, **how).confidence_interval
    truth = np.repeat([True, False], [40, 60])
    statistic = Auroc(truth, np.concatenate([positive, negative]))
    plain = Bootstrap(20_000, widened=False)
    (drawn,) = bootstrap([statistic], Clusters.of(list(range(100)), ["a"] * 100, truth), plain)
    assert drawn.interval is not None
    assert (drawn.interval.low, drawn.interval.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)

    values = rng.lognormal(size=30)
    theirs = stats.bootstrap((values,), np.mean, **how).confidence_interval
    (drawn,) = bootstrap([Mean(values)], Clusters.of(list(range(30)), ["a"] * 30, np.ones(30)), plain)
    assert drawn.interval is not None
    assert (drawn.interval.low, drawn.interval.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_statistics_of_weights_equal_those_of_repeated_cases() -> None:
    """The fast version against a naive twin: cases written out as often as they were drawn, with many ties."""
    rng = np.random.default_rng(6)
    truth, score = rng.random(50) < 0.4, np.round(rng.random(50), 1)
    case = rng.integers(0, 50, 120)
    true, confidence = rng.random(120) < 0.4, np.round(rng.random(120), 1)
    weights = rng.integers(0, 4, (50, 20)).astype(float)
    fast = [Auroc(truth, score)(weights), AveragePrecision(case, true, confidence)(weights)]
    for column in range(20):
        drawn = np.repeat(np.arange(50), weights[:, column].astype(int))
        won = score[drawn][truth[drawn]][:, None] - score[drawn][~truth[drawn]][None]
        assert fast[0][column] == pytest.approx(np.mean((won > 0) + 0.5 * (won == 0)))
        lines = np.repeat(np.arange(120), weights[case, column].astype(int))
        precision = 0.0
        for threshold in np.unique(confidence[lines][confidence[lines] > 0]):
            at, above = confidence[lines] == threshold, confidence[lines] >= threshold
            precision += true[lines][at].sum() / true[lines].sum() * true[lines][above].mean()
        assert fast[1][column] == pytest.approx(precision)


def test_resamples_keep_patients_together_and_strata_full() -> None:
    patients = ["p", "p", "q", "r", "r", "s"]
    sites = ["a", "a", "a", "a", "a", "b"]
    clusters = Clusters.of(patients, sites, np.array([1, 0, 1, 0, 0, 0]))
    weights = clusters.drawn(np.random.default_rng(0), 1000)
    assert np.array_equal(weights[0], weights[1])  # both cases of p
    assert np.all(weights[0] + weights[2] == 2)  # p and q: the positive patients of site a
    assert np.all(weights[3] == 1)  # r: the only negative one
    assert np.all(weights[5] == 1)
    assert clusters.n_smaller_class == 2


def test_few_patients_carry_the_measured_coverage() -> None:
    assert measured_coverage(20) is None
    assert measured_coverage(2) == 0.0
    shares = [measured_coverage(n) for n in (3, 5, 8, 10, 15, 19)]
    assert all(share is not None and 0.7 < share < 0.97 for share in shares)
    truth = np.repeat([True, False], [5, 45])
    score = np.random.default_rng(0).normal(size=50) + truth
    (drawn,) = bootstrap([Auroc(truth, score)], Clusters.of(list(range(50)), ["a"] * 50, truth), Bootstrap(500))
    assert drawn.interval is not None
    assert (drawn.interval.n_clusters, drawn.interval.coverage) == (5, measured_coverage(5))


def load_benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """300 simulated studies of 25 positive patients with up to three cases each; benchmarks/coverage.py does more.

    So few studies leave the coverage itself uncertain: its 95 % interval must reach 93 to 97 %.
    """
    found = load_benchmark("coverage").coverage(25, simulations=300, resamples=600)
    for name, share in found.items():
        interval = wilson(round(share * 300), 300)
        assert interval is not None
        assert interval.low <= 0.97, name
        assert interval.high >= 0.93, name


# Space shuttle launches before the Challenger: temperature in °F and whether an O-ring was damaged.
TEMPERATURE = np.array([66, 70, 69, 68, 67, 72, 73, 70, 57, 63, 70, 78, 67, 53, 67, 75, 70, 81, 76, 79, 75, 76, 58])
DAMAGED = np.array([0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1])


def test_calibration_slope_as_in_a_published_logistic_regression() -> None:
    """Dalal, Fowlkes & Hoadley, J Am Stat Assoc 84:945 (1989): logit(damage) = 15.043 (7.379) − 0.2322 (0.108) · T.

    With probabilities of logit (65 − T)/10 the calibration slope is ten times that coefficient, with its sign turned.
    """
    found = recalibration(DAMAGED, expit((65 - TEMPERATURE) / 10))
    assert found is not None
    assert found.slope == pytest.approx(2.3216, abs=5e-4)
    assert found.slope_error == pytest.approx(1.0824, abs=5e-4)
    assert found.intercept == pytest.approx(15.0429 - 0.232163 * 65, abs=5e-3)


def test_calibration_of_probabilities_that_are_true_half_and_double() -> None:
    logits = np.repeat([-2.0, -1.0, 0.0, 1.0, 2.0], 1000)
    probability = expit(logits)
    truth = np.concatenate([np.arange(1000) < round(1000 * p) for p in probability[::1000]])
    exact = recalibration(truth, probability)
    sharp = recalibration(truth, expit(2 * logits))
    assert exact is not None
    assert sharp is not None
    assert (exact.slope, exact.intercept, exact.in_the_large) == pytest.approx((1, 0, 0), abs=2e-3)
    assert sharp.slope == pytest.approx(0.5, abs=1e-3)
    warm = Temperature.fit(truth, expit(2 * logits))
    assert warm.temperature == pytest.approx(2.0, abs=5e-3)
    assert warm.apply(expit(2 * logits)) == pytest.approx(probability, abs=2e-3)


def test_no_line_through_one_class_or_separated_classes() -> None:
    assert recalibration(np.array([1, 1]), np.array([0.2, 0.4])) is None
    assert recalibration(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) is None
    assert recalibration(np.array([0, 1]), np.array([0.5, 0.5])) is None
    with pytest.raises(ConfigError, match="temperature: found a best factor"):
        Temperature.fit(np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.8, 0.9]))


def test_brier_and_expected_error_by_hand() -> None:
    """0.1 and 0.3 for two negatives, 0.8 and 0.4 for two positives: (0.01 + 0.09 + 0.04 + 0.36) / 4.

    Each stands alone in its bin: gaps 0.1, 0.3, 0.2 and 0.6, a quarter each.
    """
    truth, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.8, 0.4])
    assert brier(truth, probability) == pytest.approx(0.125)
    assert figure(expected_error(truth, probability), 4) == pytest.approx(0.3)
    points = reliability(truth, probability)
    assert [(p.predicted, p.observed, p.n) for p in points] == [(0.1, 0, 1), (0.3, 0, 1), (0.4, 1, 1), (0.8, 1, 1)]
    with pytest.raises(ConfigError, match=r"Brier score, probability: found 0\.5 to 1\.2; allowed are 0 to 1"):
        brier(np.array([0, 1]), np.array([0.5, 1.2]))
    with pytest.raises(ConfigError, match=r"Brier score, truth: found \[2\]; allowed are 0 and 1"):
        brier(np.array([0, 2]), np.array([0.5, 0.5]))


def test_isotonic_pools_what_falls() -> None:
    """0.1: 0; 0.2: 1; 0.3: 0; 0.4: 1. The middle two fall and are pooled to a half."""
    fitted = Isotonic.fit(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert fitted.values == (0.0, 0.5, 0.5, 1.0)
    assert fitted.apply(np.array([0.0, 0.15, 0.25, 0.9])) == pytest.approx([0.0, 0.25, 0.5, 1.0])


def test_net_benefit_by_hand() -> None:
    """Two of four positive. At 0.25 (odds 1/3) both are called, and one negative: 2/4 − 1/3 · 1/4."""
    curve = decision_curve(np.array([1, 1, 0, 0]), np.array([0.9, 0.3, 0.6, 0.1]), np.array([0.25, 0.5]))
    assert curve.model == pytest.approx([0.5 - 1 / 12, 0.25 - 0.25])
    assert curve.everyone == pytest.approx([0.5 - 0.5 / 3, 0.0])


def test_thresholds_are_chosen_on_the_other_sites() -> None:
    """Site b scores 0.2 higher: the threshold of a and c keeps 90 % of their negatives, but none of b's lower ones."""
    cases = []
    for site, shift in (("a", 0.0), ("b", 0.2), ("c", 0.0)):
        for k in range(20):
            score = k / 40 + (0.3 if k % 2 else 0.0) + shift
            cases.append(ClassificationCase(f"{k}", f"{k}", site, bool(k % 2), score))
    found = {r.site: r for r in carry_threshold(cases, 0.9)}
    here = np.array([c.score for c in cases if c.site == "a"]), np.array([c.truth for c in cases if c.site == "a"])
    chosen = choose_threshold(np.tile(here[1], 2), np.tile(here[0], 2), 0.9)
    assert found["b"].threshold == chosen
    assert found["b"].specificity is not None
    assert found["b"].specificity < 0.9 <= (found["a"].specificity or 0)
    assert (found["b"].n_positive, found["b"].n_negative) == (10, 10)
    assert math.isinf(choose_threshold(np.array([0, 1]), np.array([0.9, 0.1]), 1.0))


def test_sensitivity_at_specificity_by_hand() -> None:
    """Down the list: + .9, − .8, + .7, + .6, − .5, − .4, − .3. One of four negatives may be called at 0.75."""
    truth, score = np.array([1, 0, 1, 1, 0, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    shares = [figure(one, 7) for one in sensitivities(truth, score, (1.0, 0.75, 0.5))]
    assert shares == pytest.approx([1 / 3, 1.0, 1.0])


def test_a_failed_case_is_wrong_in_every_figure_of_classification() -> None:
    rng = np.random.default_rng(8)
    scores = np.clip(rng.normal(0.3 + 0.4 * (np.arange(60) < 20), 0.1), 0, 1).tolist()
    cases = [ClassificationCase(str(k), str(k), "a", k < 20, score) for k, score in enumerate(scores)]
    good = {m.name: figure(m.statistic, 60) for m in measures(cases, ClassificationProtocol())}
    for failed in (0, 59):
        rest = [ClassificationCase(c.case_id, c.patient_id, c.site, c.truth, 0.0, "no prediction")
                if k == failed else c for k, c in enumerate(cases)]  # fmt: skip
        worse = {m.name: figure(m.statistic, 60) for m in measures(rest, ClassificationProtocol())}
        assert worse["auroc"] < good["auroc"]
        assert worse["brier"] > good["brier"]


def test_permutation_finds_a_better_model_and_not_a_copy() -> None:
    def model(shift: float, seed: int) -> list[DetectionCase]:
        rng = np.random.default_rng(seed)
        cases = []
        for k in range(60):
            score = float(expit(rng.normal() + (shift if k < 30 else -1)))
            cases.append(DetectionCase(str(k), str(k // 2), "a", k < 30, score, (MatchedLesion(k < 30, score),)))
        return cases

    good, poor = model(2.5, 0), model(0.0, 1)
    tests = compare_detection(good, poor, how=Bootstrap(2000))
    precision = tests[0]
    assert (precision.name, precision.difference > 0, precision.p < 0.01) == ("average_precision", True, True)
    assert [test.p for test in compare_detection(good, good[::-1], how=Bootstrap(200))] == [1.0] * 4
    with pytest.raises(ConfigError, match="found 60 and 59 cases that are not the same"):
        compare_detection(good, poor[1:])


def test_holm_by_hand() -> None:
    """0.01 · 4, then 0.02 · 3 = 0.06, then 0.04 · 2 = 0.08, then 0.03's place: sorted 0.01, 0.02, 0.03, 0.04."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
