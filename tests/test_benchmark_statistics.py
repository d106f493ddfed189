"""What a benchmark says of its trials: figures by hand, an honest verdict, nothing lost in silence, the same bytes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import t as student

from imaging.benchmark import page
from imaging.benchmark.checklist import TOPICS, at_path
from imaging.benchmark.endpoints import endpoint
from imaging.benchmark.operating import calibration_of
from imaging.benchmark.panels import Panel, Run, held_out, in_domain
from imaging.benchmark.record import BenchmarkFacts, BenchmarkResult
from imaging.benchmark.results import summarise
from imaging.benchmark.trials import CaseOutcome, Mark, Trial
from imaging.benchmark.verdict import ArmDifference, compare_arms, verdicts
from imaging.errors import ConfigError, InputError
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.page.pictures import PicturedCase, picture
from imaging.evaluation.ranking import figure
from imaging.evaluation.result import plain
from tests import benchmark_schema
from tests.benchmark_cases import ARMS, SITES, Simulated
from tests.conftest import require_tool
from tests.test_evaluation_page import scan, show
from tests.test_page import CONTRAST, HOSTILE, Browser

HOW = Bootstrap(199)
OTHERS = ("marked_on_empty", "auroc", "sensitivity_at_0.5_per_image")
FACTS = BenchmarkFacts("simulated", (*ARMS, "adapting"), ARMS[0], "dice", OTHERS, synthetic=True)
DICE = replace(FACTS, others=())


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    """Three sites of 20 to 30 patients; strong augmentation adds 0.1 of Dice, the adapting arm 0.2."""
    effect = {"strong augmentation": 0.1, "adapting": 0.2}
    simulated = Simulated(n_patients=(20, 30), n_images=(1, 2), arms=FACTS.arms, effect=effect)
    return simulated.whole(np.random.default_rng(1))


@pytest.fixture(scope="module")
def result(trials: list[Trial]) -> BenchmarkResult:
    return summarise(FACTS, trials, HOW)


@pytest.fixture(scope="module")
def away(trials: list[Trial]) -> list[Trial]:
    """Those that leave one site out."""
    return [one for one in trials if one.design == "leave_one_site_out"]


def case(name: str, **changes: Any) -> CaseOutcome:
    return CaseOutcome(**{"case_id": name, "patient_id": name, "site": "A"} | changes)


def value(name: str, *outcomes: CaseOutcome) -> float:
    scored = endpoint(name).score(outcomes)
    assert scored.absent == ""
    return figure(scored.statistic, len(outcomes))


# --- Endpoints --------------------------------------------------------------------------------------------------------


def test_a_failed_case_is_the_worst_outcome_of_every_endpoint() -> None:
    lesion = case("a", lesions=1, dice=0.8, marks=(Mark(0.9, 0),))
    assert value("dice", lesion, case("b", lesions=1, failed="x"), case("c")) == pytest.approx(0.4)
    assert value("marked_on_empty", case("c"), case("d", failed="x"), lesion) == 0.5
    assert value("lesion_sensitivity", lesion, case("b", lesions=3, failed="x")) == 0.25
    yes = [case(f"y{k}", positive=True, score=0.9, recalled=True) for k in range(3)]
    no = [case(f"n{k}", positive=False, score=0.1, recalled=False) for k in range(3)]
    assert value("auroc", *yes, *no) == 1
    # One of three positives ranks below all three negatives: 6 of 9 pairs are won.
    lost = replace(yes[0], failed="x", score=None, recalled=None)
    assert value("auroc", lost, *yes[1:], *no) == pytest.approx(6 / 9)
    assert value("sensitivity", lost, *yes[1:], *no) == pytest.approx(2 / 3)
    assert value("specificity", *yes, replace(no[0], failed="x", recalled=None), *no[1:]) == pytest.approx(2 / 3)
    # 0.1² for each of five, 1 for the failed one.
    assert value("brier", lost, *yes[1:], *no) == pytest.approx(1.05 / 6)


def test_sensitivity_at_a_rate_drops_second_marks_and_counts_failed_cases() -> None:
    """Two lesions in four images. At 0.25 a false mark per image one false mark is allowed."""
    outcomes = [
        case("a", lesions=1, marks=(Mark(0.9, 0), Mark(0.5, 0))),
        case("b", lesions=1, marks=(Mark(0.4, 0), Mark(0.6))),
        case("c", marks=(Mark(0.3),)),
        case("d"),
    ]
    assert value("sensitivity_at_0.25_per_image", *outcomes) == 1
    assert value("sensitivity_at_0.2_per_image", *outcomes) == 0.5
    # A failed empty case is a false mark above all others: only what is above it is found, and that is nothing.
    assert value("sensitivity_at_0.2_per_image", *outcomes[:3], case("d", failed="x")) == 0


def test_endpoints_say_why_they_have_no_figure() -> None:
    assert endpoint("dice").score([case("a")]).absent == "n/a (0 cases with a lesion)"
    assert endpoint("dice").score([case("a", lesions=1)]).absent == "n/a (nothing is outlined)"
    assert endpoint("auroc").score([case("a", positive=True, score=0.1)]).absent == "n/a (1 positives)"
    with pytest.raises(ConfigError, match=r"found 'dise'; allowed are \['dice'"):
        endpoint("dise")
    with pytest.raises(ConfigError, match="case 'b' of site 'A', dice: found none though the case did not fail"):
        endpoint("dice").score([case("a", lesions=1, dice=0.5), case("b", lesions=1)])


# --- Verdict ----------------------------------------------------------------------------------------------------------


def panel(*sites: tuple[str, list[list[float]]]) -> Panel:
    """Dice of one image for each patient: of each site a list for each seed."""
    runs = {}
    for site, seeds in sites:
        runs[site] = tuple(
            Run(k, tuple(replace(case(f"{n:02}", lesions=1, dice=v), site=site) for n, v in enumerate(values)))
            for k, values in enumerate(seeds)
        )
    return Panel(runs)


def test_a_difference_by_hand() -> None:
    """Two sites, two seeds. Site A: 0.6 against 0.5; site B: 0.9 against 0.6, so 0.2 as the mean of both.

    Every patient has the same difference, so patients do not make it vary. Seeds of the first arm differ by 0.02 at
    site A: variance 0.0002, of the mean of two 0.0001, a quarter of that for two sites. One cell of two runs varies.
    """
    spread = np.linspace(-0.05, 0.05, 8)
    first = panel(("A", [list(0.59 + spread), list(0.61 + spread)]), ("B", [list(0.9 + spread)] * 2))
    second = panel(("A", [list(0.5 + spread)] * 2), ("B", [list(0.6 + spread)] * 2))
    found = compare_arms(("x", first), ("r", second), endpoint("dice"), HOW)
    assert (found.first, found.second) == (pytest.approx(0.75), pytest.approx(0.55))
    assert found.difference == pytest.approx(0.2)
    assert found.variance_patients == pytest.approx(0, abs=1e-15)
    assert found.variance_trainings == pytest.approx(0.000025)
    assert found.df == pytest.approx(1)
    assert found.p_total == pytest.approx(2 * student.sf(0.2 / 0.005, 1))
    assert found.interval is not None
    assert found.interval.high - 0.2 == pytest.approx(0.005 * student.ppf(0.975, 1))
    # All patients swap alike in few of the permutations: p is small, and never 0.
    assert found.p_patients is not None
    assert 1 / 200 <= found.p_patients < 0.02


def test_the_interval_of_patients_is_that_of_their_mean_difference() -> None:
    """One site, equal seeds: the standard error is that of 40 patients' differences, within the bootstrap's error."""
    rng = np.random.default_rng(3)
    base, gain = rng.uniform(0.3, 0.6, 40), rng.normal(0.05, 0.1, 40)
    found = compare_arms(
        ("x", panel(("A", [list(base + gain)] * 2))), ("r", panel(("A", [list(base)] * 2))), endpoint("dice"),
        Bootstrap(4000)
    )  # fmt: skip
    assert found.variance_patients == pytest.approx(float(np.var(gain, ddof=1)) / 40, rel=0.06)
    assert found.variance_trainings == pytest.approx(0, abs=1e-15)


def test_images_of_one_patient_are_no_evidence_of_their_own() -> None:
    """Each image four times over: the interval stays what it is."""
    rng = np.random.default_rng(4)
    base, gain = rng.uniform(0.3, 0.6, 30), rng.normal(0.02, 0.1, 30)

    def often(values: np.ndarray, times: int) -> Panel:
        outcomes = tuple(case(f"{n:02}-{k}", patient_id=f"{n:02}", lesions=1, dice=float(v))
                         for n, v in enumerate(values) for k in range(times))  # fmt: skip
        return Panel({"A": (Run(0, outcomes), Run(1, outcomes))})

    once, four = (
        compare_arms(("x", often(base + gain, n)), ("r", often(base, n)), endpoint("dice"), HOW) for n in (1, 4)
    )
    assert four.variance_patients == pytest.approx(once.variance_patients)
    assert (once.n_cases, four.n_cases, four.n_patients) == (30, 120, 30)


def test_a_gain_needs_every_training_and_more_than_one_seed() -> None:
    low, high = [[0.4, 0.5, 0.6] * 10] * 2, [[0.7, 0.8, 0.9] * 10, [0.69, 0.81, 0.9] * 10]
    both = {"r": panel(("A", low)), "x": panel(("A", high))}
    assert verdicts(both, "r", endpoint("dice"), HOW)[0].call == "gain"
    assert verdicts(both, "x", endpoint("dice"), HOW)[0].call == "loss"
    lost = replace(both["x"], lost={"A": 1})
    found = verdicts({**both, "x": lost}, "r", endpoint("dice"), HOW)[0]
    assert (found.call, found.why) == ("not decided", "1 trainings are lost")
    single = Panel({"A": both["x"].runs["A"][:1]})
    found = verdicts({**both, "x": single}, "r", endpoint("dice"), HOW)[0]
    assert (found.call, found.interval) == ("not decided", None)
    assert found.why == "one seed: how trainings vary is not known"


def test_arms_that_were_not_tested_alike_decide_nothing() -> None:
    """An arm of which one site was not run, or not all cases, is compared on the rest and not called."""
    low, high = [[0.4, 0.5, 0.6] * 10] * 2, [[0.7, 0.8, 0.9] * 10, [0.69, 0.81, 0.9] * 10]
    reference = panel(("A", low), ("B", low))
    fewer = panel(("A", high), ("B", [seed[:-1] for seed in high]))
    for arm, sites in ((panel(("A", high)), ("A",)), (fewer, ("A", "B"))):
        found = verdicts({"r": reference, "x": arm}, "r", endpoint("dice"), HOW)[0]
        assert found.sites == sites
        assert found.difference == pytest.approx(0.3)
        assert (found.call, found.why) == ("not decided", "the arms were not tested on the same sites and cases")


def test_a_difference_rests_on_the_cases_that_the_endpoint_is_about() -> None:
    """Empty images are no evidence on Dice, and a site without a lesion has no part in it."""

    def with_empty(dice: float) -> Panel:
        lesions = [case(f"{n:02}", lesions=1, dice=dice + 0.01 * n) for n in range(6)]
        empty = [case(f"e{n:02}", marks=(Mark(0.5),) * (n % 2)) for n in range(20)]
        rows, none = (*lesions, *empty), tuple(replace(c, site="B") for c in empty)
        return Panel({"A": (Run(0, rows), Run(1, rows)), "B": (Run(0, none), Run(1, none))})

    found = compare_arms(("x", with_empty(0.6)), ("r", with_empty(0.5)), endpoint("dice"), HOW)
    assert (found.sites, found.n_cases, found.n_patients, found.alike) == (("A",), 6, 6, True)
    assert found.difference == pytest.approx(0.1)
    other = compare_arms(("x", with_empty(0.6)), ("r", with_empty(0.5)), endpoint("marked_on_empty"), HOW)
    assert (other.sites, other.n_cases, other.difference) == (("A", "B"), 40, 0)
    nothing = compare_arms(("x", with_empty(0.6)), ("r", with_empty(0.5)), endpoint("auroc"), HOW)
    assert (nothing.difference, nothing.why) == (None, "n/a (0 positives)")


def test_a_gain_below_the_margin_is_none() -> None:
    both = {"r": panel(("A", [[0.4, 0.5, 0.6] * 10] * 2)), "x": panel(("A", [[0.45, 0.56, 0.65] * 10] * 2))}
    assert verdicts(both, "r", endpoint("dice"), HOW, margin=0.03)[0].call == "gain"
    found = verdicts(both, "r", endpoint("dice"), HOW, margin=0.06)[0]
    assert (found.call, found.why) == ("no difference shown", "the interval reaches below the margin of 0.06")


def test_fewer_marks_on_empty_images_are_the_gain() -> None:
    def marked(share: int) -> Panel:
        rows = tuple(case(f"{n:02}", marks=(Mark(0.5),) * (n % 10 < share)) for n in range(60))
        return Panel({"A": (Run(0, rows), Run(1, rows))})

    both = {"r": marked(8), "x": marked(2)}
    found = verdicts(both, "r", endpoint("marked_on_empty"), HOW)[0]
    assert (found.call, found.difference) == ("gain", pytest.approx(-0.6))


def test_a_site_of_one_patient_decides_nothing() -> None:
    both = {"r": panel(("A", [[0.4, 0.5, 0.6] * 10] * 2), ("B", [[0.5]] * 2)),
            "x": panel(("A", [[0.7, 0.8, 0.9] * 10] * 2), ("B", [[0.9]] * 2))}  # fmt: skip
    found = verdicts(both, "r", endpoint("dice"), HOW)[0]
    assert (found.call, found.why, found.interval) == ("not decided", "n/a (a site has one patient)", None)


def test_equal_arms_do_not_differ() -> None:
    same = panel(("A", [[0.4, 0.5, 0.6] * 5] * 2))
    found = verdicts({"r": same, "x": same}, "r", endpoint("dice"), HOW)[0]
    assert (found.difference, found.p, found.call) == (0, 1, "no difference shown")


def test_the_verdict_finds_the_planted_gain_and_counts_no_other(result: BenchmarkResult) -> None:
    calls = {one.arm: one.call for one in result.verdicts}
    assert calls == {"z-score": "no difference shown", "strong augmentation": "gain",
                     "random convolutions": "no difference shown"}  # fmt: skip
    assert {one.call for one in (*result.secondary, *result.at_home, *result.by_site)} == {"not counted"}


def test_a_method_that_saw_the_target_never_ranks(result: BenchmarkResult) -> None:
    assert [one.arm for one in result.saw_target] == ["adapting"]
    assert result.saw_target[0].difference > 0.1  # type: ignore[operator]
    assert result.saw_target[0].call == "not counted"
    assert "adapting" not in {one.arm for one in (*result.verdicts, *result.secondary, *result.by_site)}
    assert "adapting" not in {choice.arm for choice in result.selection.choices}


# --- Panels and designs -----------------------------------------------------------------------------------------------


def trial(arm: str, site: str, seed: int, outcomes: tuple[CaseOutcome, ...], **changes: Any) -> Trial:
    sources = tuple(other for other in ("A", "B") if other != site)
    values = {"design": "leave_one_site_out", "test_site": site, "train_sites": sources, "seed": seed}
    return Trial(**{"job": f"{arm}{site}{seed}", "arm": arm, "outcomes": outcomes} | values | changes)


def test_folds_of_a_site_are_one_run_and_folds_elsewhere_are_networks() -> None:
    first, second = (case("1", lesions=1, dice=0.4),), (case("2", lesions=1, dice=0.6),)
    home = [trial("x", "A", 0, rows, design="in_domain", train_sites=("A",), in_domain=True, fold=k)
            for k, rows in enumerate((first, second))]  # fmt: skip
    assert [len(run.outcomes) for run in Panel.of(home).runs["A"]] == [2]
    away = [trial("x", "A", 0, (*first, *second), design="train_test_matrix", fold=k) for k in range(2)]
    assert [len(run.outcomes) for run in Panel.of(away).runs["A"]] == [2, 2]


def test_with_two_sites_train_by_test_is_leaving_one_out() -> None:
    rows = (case("1", lesions=1, dice=0.4),)
    across = [trial("x", site, 0, rows, design="train_test_matrix") for site in ("A", "B")]
    assert held_out(across) == across
    third = trial("x", "C", 0, rows, design="train_test_matrix", train_sites=("A",))
    assert held_out([*across, third]) == []
    home = trial("x", "A", 0, rows, design="train_test_matrix", train_sites=("A",), in_domain=True)
    assert in_domain([*across, home]) == [home]


def test_networks_of_a_method_are_tested_on_the_same_cases() -> None:
    rows = (case("1", lesions=1, dice=0.4), case("2", lesions=1, dice=0.5))
    with pytest.raises(ConfigError, match="found 1 cases with seed 1 and 2 with seed 0 that are not the same"):
        Panel.of([trial("x", "A", 0, rows), trial("x", "A", 1, rows[:1])])
    with pytest.raises(ConfigError, match="found case '1' 2 times"):
        Panel.of([trial("x", "A", 0, (*rows, rows[0]))])


# --- Losses -----------------------------------------------------------------------------------------------------------


def test_what_is_lost_is_counted_and_decides_nothing(
    trials: list[Trial], away: list[Trial], result: BenchmarkResult
) -> None:
    assert [(lost.arm, lost.reason) for lost in result.losses.trials] == [
        ("adapting", "out of memory at epoch 3"), ("own recipe", "the loss is not finite at step 812")
    ]  # fmt: skip
    assert {(one.reason, one.n_runs) for one in result.losses.cases} == {("image_unreadable", 1)}
    assert result.losses.n_trials == len(trials)
    gone = [
        replace(one, outcomes=(), lost="killed")
        if (one.arm, one.seed, one.test_site) == ("strong augmentation", 1, SITES[2])
        else one
        for one in away
    ]
    without = summarise(DICE, gone, HOW)
    found = {one.arm: one for one in without.verdicts}
    assert found["strong augmentation"].call == "not decided"
    assert found["strong augmentation"].n_runs == (2, 3)
    by_site = {(one.arm, one.sites[0]): one.n_lost for one in without.by_site}
    assert by_site["strong augmentation", SITES[2]] == (1, 0)
    assert by_site["strong augmentation", SITES[1]] == (0, 0)
    assert found["z-score"].call == "no difference shown"


def test_a_failed_case_counts_as_nothing_found(away: list[Trial], result: BenchmarkResult) -> None:
    """The figure of a site is the mean over seeds of its mean Dice, 0 for each lesion of a failed case."""
    runs = [one for one in away if (one.arm, one.test_site) == (ARMS[0], SITES[0])]
    failed = {c.case_id for run in runs for c in run.outcomes if c.failed and c.lesions}
    shown = result.arms[0].sites[0].figure("dice")
    means = [np.mean([c.dice if not c.failed else 0.0 for c in run.outcomes if c.lesions]) for run in runs]
    assert len(failed) > 0
    assert shown.value == pytest.approx(np.mean(means))
    assert (shown.counts.n_failed, shown.counts.n_total) == (
        len(failed),
        sum(bool(c.lesions) for c in runs[0].outcomes),
    )


# --- Sites ------------------------------------------------------------------------------------------------------------


def test_a_new_site_with_three_sites_and_with_two(result: BenchmarkResult) -> None:
    spread = result.arms[0].spread[0]
    assert (spread.n_sites, spread.df, spread.absent) == (3, 1, "")
    assert spread.mean is not None
    assert spread.low is not None
    assert spread.tau2 is not None
    assert spread.predicted_low is not None
    error = (spread.mean - spread.low) / student.ppf(0.975, 2)
    reach = student.ppf(0.975, 1) * math.sqrt(spread.tau2 + error**2)
    assert spread.mean - spread.predicted_low == pytest.approx(reach)
    values = [site.figure("dice").value for site in result.arms[0].sites]
    assert spread.sd_sites == pytest.approx(np.std(values, ddof=1))
    simulated = Simulated(n_sites=2, n_patients=(20, 20), arms=ARMS[:2])
    facts = replace(FACTS, arms=ARMS[:2], others=())
    two = summarise(facts, simulated.held_out(np.random.default_rng(0)), HOW).arms[0].spread[0]
    assert (two.predicted_low, two.absent, two.df) == (None, "n/a (2 sites; a new site needs 3)", 0)
    assert two.mean is not None


def test_the_spread_of_seeds_is_pooled_over_sites(result: BenchmarkResult, trials: list[Trial]) -> None:
    squares = []
    for site in SITES[:3]:
        runs = [one for one in trials if (one.arm, one.test_site, one.design) == (ARMS[0], site, "leave_one_site_out")]
        squares.append(np.var([value("dice", *run.outcomes) for run in runs], ddof=1))
    assert result.arms[0].spread[0].sd_seeds == pytest.approx(math.sqrt(np.mean(squares)))


def test_every_site_stands_beside_its_home(result: BenchmarkResult) -> None:
    deltas = [one for one in result.arms[0].deltas if one.endpoint == "dice"]
    assert [one.sites for one in deltas] == [(site,) for site in sorted(SITES[:3])]
    for one, away, home in zip(deltas, result.arms[0].sites, result.arms[0].in_domain, strict=True):
        assert one.difference == pytest.approx(away.figure("dice").value - home.figure("dice").value)  # type: ignore[operator]


def test_small_cells_are_suppressed(away: list[Trial]) -> None:
    """Four patients of one scanner are hidden, and the next smallest with them, for it could be had by subtraction."""
    rare = sorted({c.patient_id for one in away for c in one.outcomes if c.site == SITES[0]})[:4]
    told = [replace(one, outcomes=tuple(replace(c, scanner="Rare") if c.patient_id in rare else c
                                        for c in one.outcomes)) for one in away]  # fmt: skip
    found = summarise(DICE, told, HOW)
    hidden = [group.name for group in found.arms[0].subgroups["scanner"] if group.suppressed]
    assert "Rare" in hidden
    assert len(hidden) == 2
    aarhus = next(site for site in found.sites if site.site == SITES[0])
    assert aarhus.scanners["Rare"] is None
    assert "fewer than 5" in page.render(found)


def test_calibration_by_patients() -> None:
    """Probabilities that are true have slope 1; four copies of a case of one patient tell nothing more."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 1200)
    truth = rng.random(1200) < expit(logit)

    def told(times: int) -> Panel:
        rows = tuple(case(f"{n:04}-{k}", patient_id=f"{n:04}", positive=bool(truth[n]), score=float(expit(logit[n])))
                     for n in range(1200) for k in range(times))  # fmt: skip
        return Panel({"A": (Run(0, rows), Run(1, rows))})

    once, four = (calibration_of("x", told(n), "A") for n in (1, 4))
    assert once.slope == pytest.approx(1, abs=0.1)
    assert once.intercept == pytest.approx(0, abs=0.15)
    assert once.slope_interval is not None
    assert four.slope_interval is not None
    assert once.slope_interval.low < 1 < once.slope_interval.high
    assert four.slope_interval.low == pytest.approx(once.slope_interval.low, abs=1e-6)
    assert calibration_of("x", panel(("A", [[0.5] * 4] * 2)), "A").absent == "n/a (0 cases with a truth)"


# --- Selection --------------------------------------------------------------------------------------------------------


def test_rules_that_disagree_are_told(result: BenchmarkResult) -> None:
    """Validation of the sources prefers the last arm, sites left out in turn the one that truly gains."""
    arms = {(choice.rule, choice.site): choice.arm for choice in result.selection.choices}
    for site in SITES[:3]:
        assert arms["train_val", site] == "random convolutions"
        assert arms["leave_one_domain_out", site] == arms["oracle", site] == "strong augmentation"
    assert result.selection.disagreeing == tuple(sorted(SITES[:3]))
    better, chosen = result.selection.macro["leave_one_domain_out"], result.selection.macro["train_val"]
    assert better is not None
    assert chosen is not None
    assert better > chosen + 0.05
    assert "The rules choose different arms for" in page.render(result)


def test_rules_that_agree_or_cannot_choose(away: list[Trial]) -> None:
    alike = [replace(one, chosen_by={"train_val": float(one.arm == "strong augmentation")}) for one in away]
    found = summarise(DICE, alike, HOW)
    assert found.selection.disagreeing == ()
    assert found.selection.macro["leave_one_domain_out"] is None
    assert {c.why for c in found.selection.choices if c.rule == "leave_one_domain_out"} == {
        "n/a (no value of this rule for arm 'own recipe')"
    }
    assert "all choose the same arm" in page.render(found)


def test_facts_are_refused_where_they_are_wrong() -> None:
    with pytest.raises(ConfigError, match=r"found 'oracle'; allowed are .*train_val.*A headline never rests"):
        replace(FACTS, selection="oracle")
    with pytest.raises(ConfigError, match="reference: found 'none'; allowed are the arms"):
        replace(FACTS, reference="none")
    with pytest.raises(ConfigError, match=r"stated: found \['founding'\]; allowed are .*'funding'"):
        replace(FACTS, stated={"founding": "none"})


# --- results.json -----------------------------------------------------------------------------------------------------


def test_sites_merged_are_the_pooled_run(trials: list[Trial], result: BenchmarkResult) -> None:
    """Files of three hospitals in any order, one of them twice, give the same bytes."""
    files = [[one for one in trials if one.test_site == site] for site in SITES[:3]]
    random.Random(0).shuffle(files)
    merged = [replace(one, outcomes=tuple(reversed(one.outcomes))) for part in (*files, files[0]) for one in part]
    assert summarise(FACTS, merged, HOW).to_json() == result.to_json()
    wrong = replace(trials[0], job="another")
    with pytest.raises(ConfigError, match="trial: found two that differ of arm"):
        summarise(FACTS, [*trials, wrong], HOW)
    with pytest.raises(ConfigError, match=r"arm: found trials of .'new'.; allowed are"):
        summarise(FACTS, [*trials, replace(trials[0], arm="new")], HOW)


def test_the_record_comes_back_from_its_file(result: BenchmarkResult) -> None:
    text = result.to_json()
    assert BenchmarkResult.from_json(text) == result
    assert BenchmarkResult.from_json(text).to_json() == text
    with pytest.raises(InputError, match=r"results\.json: KeyError|has no field"):
        BenchmarkResult.from_json(json.dumps({"toolkit": "x", "unknown": 1}))


def test_the_schema_is_that_of_the_record(result: BenchmarkResult) -> None:
    assert benchmark_schema.PATH.read_text(encoding="utf-8") == benchmark_schema.text(), (
        "write it anew: python -m tests.benchmark_schema"
    )
    schema = benchmark_schema.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    record = json.loads(result.to_json())
    jsonschema.validate(record, schema)
    record["verdicts"][0]["call"] = "triumph"
    with pytest.raises(jsonschema.ValidationError, match="triumph"):
        jsonschema.validate(record, schema)


def test_each_filled_item_cites_a_path_that_leads_to_a_value(away: list[Trial], result: BenchmarkResult) -> None:
    record = plain(result)
    filled = [item for item in result.checklist if item.path]
    assert len(result.checklist) == len(TOPICS)
    assert len(filled) > 12
    assert all(at_path(record, item.path) not in (None, "", [], {}) for item in filled)
    assert all(at_path(record, item.fill_by) in (None, "", [], {}) for item in result.checklist if not item.path)
    funding = next(item for item in result.checklist if item.fill_by == "facts.stated.funding")
    assert funding.path == ""
    told = summarise(replace(DICE, stated={"funding": "none"}), away, HOW).checklist
    assert next(item for item in told if item.fill_by == funding.fill_by).path == "facts.stated.funding"


# --- The page ---------------------------------------------------------------------------------------------------------


def test_the_page_tells_losses_first_and_nothing_is_obeyed(trials: list[Trial]) -> None:
    hostile = [replace(one, outcomes=tuple(replace(c, scanner=HOSTILE, failed=c.failed and HOSTILE)
                                           for c in one.outcomes)) for one in trials]  # fmt: skip
    text = page.render(summarise(replace(FACTS, name=HOSTILE), hostile, HOW))
    assert "<script" not in text
    places = [text.index(f'id="{name}"') for name in ("failed", "verdict", "sites", "spread", "matrix", "calibration",
              "cells", "learning", "selection", "worst", "checklist", "protocol")]  # fmt: skip
    assert places == sorted(places)
    assert "out of memory at epoch 3" in text
    assert "Synthetic data" in text
    assert text.index("Methods that saw the target") > text.index("Paired differences at held-out sites")


def test_the_headline_says_what_the_verdict_says(trials: list[Trial], result: BenchmarkResult) -> None:
    assert "Shown to be better than <bdi>own recipe</bdi> at 3 held-out sites (Dice): <bdi>strong augmentation" in (
        page.render(result)
    )
    alone = summarise(FACTS, [one for one in trials if one.arm == ARMS[0]], HOW)
    assert alone.verdicts == ()
    nothing = summarise(FACTS, [replace(one, outcomes=(), lost="killed") for one in trials], HOW)
    assert {len(nothing.arms[0].sites), nothing.losses.n_outcomes} == {0}
    text = page.render(nothing)
    assert "No arm is shown to be better" in text or "There is no verdict" in text


def test_a_difference_without_values_says_why() -> None:
    absent = ArmDifference("x", "r", "dice", ("A",), 0, 0, (0, 0), (0, 0), why="n/a (0 cases with a lesion)")
    assert "0 cases with a lesion" in page.verdicts.difference_value(absent)


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(require_tool("chromium"), tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_browser_shows_the_page_in_its_width(
    browser: Browser, result: BenchmarkResult, tmp_path: Path, width: int, scheme: str
) -> None:
    """With every fold open and a picture of the worst case; nothing reaches beyond the window or is too pale."""
    worst = result.worst[0]
    image, truth = scan(50, 70)
    shown = picture(worst.case_id, worst.site, PicturedCase(image, truth, scan(58, 80)[1], (1.0, 1.0)))
    page.write(result, tmp_path / "benchmark.html", [shown])
    browser.open(tmp_path / "benchmark.html", width, 800, scheme)
    browser.ask("document.querySelectorAll('details').forEach((fold) => { fold.open = true }) || 1")
    show(browser, f"benchmark-{width}-{scheme}.png")
    assert browser.errors == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("[...document.images].every((image) => image.naturalWidth > 0)")
    assert browser.ask(CONTRAST) == []
    if width == 1280:
        assert browser.ask("document.querySelector('.tile-number').getBoundingClientRect().bottom < 800")
