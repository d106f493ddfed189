"""How often a benchmark's verdict is wrong, and whether the site probe finds sites and not labels. Simulated scores.

The full size is `python -m tests.benchmark_power`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imaging.benchmark import page
from imaging.benchmark.endpoints import endpoint
from imaging.benchmark.probe import ProbeCases, QuantityPair, _permuted, probe_site, quantity_kept
from imaging.benchmark.results import summarise
from imaging.benchmark.verdict import ArmDifference, called, corrected
from imaging.errors import ConfigError
from imaging.evaluation.result import Interval
from tests.benchmark_cases import ARMS, SITES, Simulated, feature_cases
from tests.benchmark_power import LIMIT, as_it_is, gains, power, without_trainings
from tests.test_benchmark_statistics import DICE, HOW

SMALL = Simulated(n_patients=(40, 60), n_images=(1, 3))
N = 20


# --- Verdict ----------------------------------------------------------------------------------------------------------


def test_null_benchmarks_seldom_call_a_gain_and_a_verdict_on_patients_alone_often() -> None:
    unsteady = replace(SMALL, between_trainings=0.05)
    whole, patients_alone = gains(unsteady, N, 199, as_it_is, without_trainings)
    assert whole <= LIMIT
    assert patients_alone > 2 * LIMIT


def test_images_taken_for_patients_are_caught() -> None:
    """Where an arm does something to a patient, his images go together."""
    personal = replace(SMALL, n_patients=(15, 20), n_images=(4, 5), patient_by_arm=0.12, between_trainings=0.01)
    (rate,) = gains(personal, N, 199, without_trainings, clusters=False)
    assert rate > 2 * LIMIT


def test_a_better_arm_is_found() -> None:
    assert power(replace(SMALL, effect={ARMS[1]: 0.08}), N // 2, 199) >= 0.8


def test_holm_is_needed_for_a_gain() -> None:
    """Three arms with p 0.02, 0.03 and 0.04 and intervals above 0: alone each would be a gain, together none is."""
    found = [
        ArmDifference(f"arm {p}", "r", "dice", ("A",), 9, 9, (3, 3), (0, 0), True, 0.6, 0.5, 0.1,
                      Interval(0.01, 0.19, "t"), p=p) for p in (0.02, 0.03, 0.04)
    ]  # fmt: skip
    assert {called(replace(one, p_holm=one.p), endpoint("dice")).call for one in found} == {"gain"}
    assert {called(one, endpoint("dice")).call for one in corrected(found)} == {"no difference shown"}


# --- Site probe -------------------------------------------------------------------------------------------------------


def test_a_planted_gain_shift_is_found() -> None:
    found = probe_site("raw", feature_cases(np.random.default_rng(0), site_shift=0.3), n_permutations=99)
    assert found.p == pytest.approx(0.01)
    assert found.accuracy is not None
    assert found.null_high is not None
    assert found.accuracy > found.null_high > found.chance > 0.33  # type: ignore[operator]


def test_sites_that_differ_in_labels_alone_are_not_found() -> None:
    """The label tells the site, and so do features that hold the label; within labels nothing does."""
    sets = [feature_cases(np.random.default_rng(k), label_shift=0.35, n_patients=25, n_features=6) for k in range(10)]
    found = [probe_site("raw", one, n_permutations=39) for one in sets]
    assert sum(one.p > 0.05 for one in found) >= 9  # type: ignore[operator]
    assert np.mean([one.label_only for one in found]) > 0.45  # type: ignore[arg-type]
    assert np.mean([one.unconditional for one in found]) > 0.42  # type: ignore[arg-type]


def test_a_permutation_across_labels_would_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: permuted among all patients, sites that differ in labels alone are found."""
    cases = feature_cases(np.random.default_rng(3), label_shift=0.45, n_patients=40, n_features=6)
    blind = replace(cases, labels=("",) * len(cases.labels))
    assert probe_site("raw", blind, n_permutations=39).p == pytest.approx(1 / 40)
    assert probe_site("raw", cases, n_permutations=39).p > 0.05  # type: ignore[operator]


def test_patients_are_permuted_whole_and_within_labels() -> None:
    from imaging.benchmark.probe import _numbered

    numbered = _numbered(feature_cases(np.random.default_rng(0), label_shift=0.3), 0)[0]
    told = _permuted(numbered, np.random.default_rng(1))
    assert (told != numbered.site_of).any()
    for stratum in np.unique(numbered.stratum_of):
        members = numbered.stratum_of == stratum
        assert sorted(told[members]) == sorted(numbered.site_of[members])
    for fold in range(5):  # a patient is in one fold
        assert not set(numbered.patient[numbered.fold == fold]) & set(numbered.patient[numbered.fold != fold])


def test_a_probe_without_two_sites_in_a_label_says_so() -> None:
    alone = ProbeCases(np.ones((6, 2)), ("A", "A", "A", "B", "B", "B"), ("x",) * 3 + ("y",) * 3, tuple("abcdef"))
    found = probe_site("raw", alone)
    assert (found.p, found.absent) == (None, "n/a (no label that two sites have, with two patients each)")
    with pytest.raises(ConfigError, match=r"found features of shape \(6, 2\) with 6 sites, 6 labels and 5 patients"):
        replace(alone, patients=tuple("abcde"))


# --- Quantities -------------------------------------------------------------------------------------------------------


def test_a_quantity_by_hand() -> None:
    """Two sites that differ by 100 before and by nothing after, two labels 300 apart: nothing of biology is lost."""
    pairs = [
        QuantityPair(f"{site}{label}{k}", f"{site}{label}{k}", site, label,
                     1000 + shift + gap + 10 * k, 1050 + gap + 10 * k)
        for site, shift in (("A", 0), ("B", 100)) for label, gap in (("benign", 0), ("malignant", -300))
        for k in range(4)
    ]  # fmt: skip
    found = quantity_kept("ADC, 10⁻⁶ mm²/s", pairs, HOW)
    assert (found.mean_before, found.mean_after, found.change) == (915, 915, 0)
    # Within labels: values 0 to 30 in steps of 10 about 15 (squares 500 a cell), and 50 to either side before.
    assert found.site_share_before == pytest.approx(1 - 4 * 500 / (4 * 500 + 16 * 2500))
    assert found.site_share_after == pytest.approx(0)
    assert found.contrast_before == pytest.approx(-300 / np.sqrt(42000 / 14))
    assert found.contrast_after == pytest.approx(-300 / np.sqrt(2000 / 14))
    assert found.rank is not None
    assert 0.8 < found.rank < 1
    with pytest.raises(ConfigError, match="quantity 'x': found 0 pairs"):
        quantity_kept("x", [])


def test_probes_and_quantities_stand_on_the_page() -> None:
    trials = Simulated(n_sites=2, n_patients=(12, 12), arms=ARMS[:2]).held_out(np.random.default_rng(0))
    probe = probe_site("own recipe", feature_cases(np.random.default_rng(0), 0.3, n_patients=12), n_permutations=19)
    kept = quantity_kept("ADC", [QuantityPair("a", "a", SITES[0], "", 1.0, 2.0)], HOW)
    facts = replace(DICE, arms=ARMS[:2])
    text = page.render(summarise(facts, trials, HOW, [probe], [kept]))
    assert 'id="probe"' in text
    assert "only a difference at held-out sites is a gain" in text
    assert "What became of quantities" in text
