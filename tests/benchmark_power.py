"""How often does the verdict of a benchmark call an arm a gain that is none, and how often does it find one that is?

    python -m tests.benchmark_power [--simulations 200] [--resamples 999] [--effects 0.02 0.03 0.05]

Simulated scores, no images (`tests/benchmark_cases.py`): three and four sites of 40 to 100 patients with one to four
images each, three seeds, four arms. The first row is a null benchmark: no arm differs. The rows of faults are null
benchmarks under a verdict that leaves something out; they must stand above the limit of 7 %, or it could be left out.
Holm is left out with eight arms, and stands beside the whole verdict on those.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from imaging.benchmark.endpoints import endpoint
from imaging.benchmark.panels import Panel, by_arm
from imaging.benchmark.trials import Trial
from imaging.benchmark.verdict import ArmDifference, called, compare_arms, corrected
from imaging.evaluation.intervals import Bootstrap
from tests.benchmark_cases import ARMS, Simulated

LIMIT = 0.07
Verdict = Callable[[Sequence[Trial], Bootstrap], Sequence[ArmDifference]]


def compared(trials: Sequence[Trial], how: Bootstrap) -> list[ArmDifference]:
    """Every arm less the first, not yet corrected."""
    panels = {arm: Panel.of(found) for arm, found in by_arm(trials).items()}
    first = (ARMS[0], panels.pop(ARMS[0]))
    return [compare_arms(arm, first, endpoint("dice"), how) for arm in panels.items()]


def as_it_is(trials: Sequence[Trial], how: Bootstrap) -> list[ArmDifference]:
    """The verdict."""
    return [called(one, endpoint("dice")) for one in corrected(compared(trials, how))]


def without_holm(trials: Sequence[Trial], how: Bootstrap) -> list[ArmDifference]:
    """Fault: each arm's p as if it were the only one."""
    return [called(replace(one, p_holm=one.p), endpoint("dice")) for one in compared(trials, how)]


def without_trainings(trials: Sequence[Trial], how: Bootstrap) -> list[ArmDifference]:
    """Fault: these networks are all there can be; patients alone vary."""
    found = []
    for one in compared(trials, how):
        assert one.difference is not None
        assert one.variance_patients is not None
        assert one.interval is not None
        half = 1.96 * one.variance_patients**0.5
        interval = replace(one.interval, low=one.difference - half, high=one.difference + half)
        found.append(replace(one, p=one.p_patients, interval=interval))
    return [called(one, endpoint("dice")) for one in corrected(found)]


def without_clusters(trials: Sequence[Trial], how: Bootstrap) -> list[ArmDifference]:
    """Fault: every image is a patient of its own, and patients alone vary."""
    alone = [
        replace(trial, outcomes=tuple(replace(case, patient_id=case.case_id) for case in trial.outcomes))
        for trial in trials
    ]
    return without_trainings(alone, how)


FOUR, EIGHT = Simulated(), Simulated(arms=(*ARMS, "percentile", "Nyúl", "quantile matching", "Fourier"))
ROWS: tuple[tuple[str, Simulated, Verdict], ...] = (
    ("four arms, as it is", FOUR, as_it_is),
    ("eight arms, as it is", EIGHT, as_it_is),
    ("eight arms, fault: without Holm", EIGHT, without_holm),
    ("four arms, fault: without trainings", FOUR, without_trainings),
    ("four arms, fault: and without patients", FOUR, without_clusters),
)


def gains(simulated: Simulated, simulations: int, resamples: int, verdict: Verdict = as_it_is) -> tuple[float, float]:
    """Share of benchmarks that call any arm a gain, and that call the second arm one."""
    any_arm = second = 0
    for number in range(simulations):
        trials = replace(simulated, n_sites=3 + number % 2).held_out(np.random.default_rng(number))
        calls = [one.call for one in verdict(trials, Bootstrap(resamples, seed=number))]
        any_arm += "gain" in calls
        second += calls[0] == "gain"
    return any_arm / simulations, second / simulations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--effects", type=float, nargs="+", default=[0.02, 0.03, 0.05])
    args = parser.parse_args()
    print(f"{args.simulations} null benchmarks: share that calls any arm a gain (limit {LIMIT:.0%})")
    for name, simulated, verdict in ROWS:
        start = time.perf_counter()
        share = gains(simulated, args.simulations, args.resamples, verdict)[0]
        print(f"{name:40s} {share:6.1%}   {time.perf_counter() - start:5.0f} s", flush=True)
    print("power: share that calls the one better arm a gain")
    for effect in args.effects:
        share = gains(Simulated(effect={ARMS[1]: effect}), args.simulations, args.resamples)[1]
        print(f"Dice +{effect:<35g} {share:6.1%}", flush=True)


if __name__ == "__main__":
    main()
