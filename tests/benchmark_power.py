"""How often does the verdict of a benchmark call an arm a gain that is none, and how often does it find one that is?

    python -m tests.benchmark_power [--simulations 200] [--resamples 999] [--effects 0.02 0.03 0.05]

Simulated scores, no images (`tests/benchmark_cases.py`): three and four sites of 40 to 100 patients with one to four
images each, three seeds, four arms. The first row is a null benchmark: no arm differs. The rows of faults are null
benchmarks under a verdict that leaves something out; they must stand above the limit of 7 %, or it could be left out.
Holm is left out with eight arms, and stands beside the whole verdict on those.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from imaging.benchmark.endpoints import endpoint
from imaging.benchmark.panels import Panel, by_arm
from imaging.benchmark.trials import Trial
from imaging.benchmark.verdict import ArmDifference, called, compare_arms, corrected
from imaging.evaluation.intervals import Bootstrap
from tests.benchmark_cases import ARMS, Simulated

LIMIT = 0.07
Verdict = Callable[[Sequence[ArmDifference]], Sequence[ArmDifference]]


def compared(trials: Sequence[Trial], how: Bootstrap) -> list[ArmDifference]:
    """Every arm less the first, not yet corrected."""
    panels = {arm: Panel.of(found) for arm, found in by_arm(trials).items()}
    first = (ARMS[0], panels.pop(ARMS[0]))
    return [compare_arms(arm, first, endpoint("dice"), how) for arm in panels.items()]


def as_it_is(found: Sequence[ArmDifference]) -> list[ArmDifference]:
    """The verdict."""
    return [called(one, endpoint("dice")) for one in corrected(found)]


def without_holm(found: Sequence[ArmDifference]) -> list[ArmDifference]:
    """Fault: each arm's p as if it were the only one."""
    return [called(replace(one, p_holm=one.p), endpoint("dice")) for one in found]


def without_trainings(found: Sequence[ArmDifference]) -> list[ArmDifference]:
    """Fault: these networks are all there can be; patients alone vary."""
    changed = []
    for one in found:
        assert one.difference is not None
        assert one.variance_patients is not None
        assert one.interval is not None
        half = 1.96 * one.variance_patients**0.5
        interval = replace(one.interval, low=one.difference - half, high=one.difference + half)
        changed.append(replace(one, p=one.p_patients, interval=interval))
    return as_it_is(changed)


def each_image_a_patient(trials: Sequence[Trial]) -> list[Trial]:
    """Fault: the trials as if every image were a patient of its own."""
    return [
        replace(trial, outcomes=tuple(replace(case, patient_id=case.case_id) for case in trial.outcomes))
        for trial in trials
    ]


FOUR, EIGHT = Simulated(), Simulated(arms=(*ARMS, "percentile", "Nyúl", "quantile matching", "Fourier"))


def simulated_trials(simulated: Simulated, simulations: int) -> Iterator[tuple[list[Trial], int]]:
    """Benchmarks of three and of four sites in turn, with their number."""
    for number in range(simulations):
        sites = simulated.n_sites + number % 2
        yield replace(simulated, n_sites=sites).held_out(np.random.default_rng(number)), number


def gains(
    simulated: Simulated, simulations: int, resamples: int, *verdicts: Verdict, clusters: bool = True
) -> list[float]:
    """Of each verdict the share of benchmarks that call any arm a gain."""
    often = [0] * len(verdicts)
    for trials, number in simulated_trials(simulated, simulations):
        found = compared(trials if clusters else each_image_a_patient(trials), Bootstrap(resamples, seed=number))
        for k, verdict in enumerate(verdicts):
            often[k] += any(one.call == "gain" for one in verdict(found))
    return [count / simulations for count in often]


def power(simulated: Simulated, simulations: int, resamples: int) -> float:
    """Share of benchmarks that call the second arm a gain."""
    found = (compared(trials, Bootstrap(resamples, seed=k)) for trials, k in simulated_trials(simulated, simulations))
    return sum(as_it_is(one)[0].call == "gain" for one in found) / simulations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--effects", type=float, nargs="+", default=[0.03, 0.05])
    args = parser.parse_args()
    size = (args.simulations, args.resamples)
    print(f"{args.simulations} null benchmarks: share that calls any arm a gain (limit {LIMIT:.0%})")
    whole, patients = gains(FOUR, *size, as_it_is, without_trainings)
    print(f"{'four arms, as it is':44s} {whole:6.1%}\n{'four arms, fault: trainings do not vary':44s} {patients:6.1%}",
          flush=True)  # fmt: skip
    for effect in args.effects:
        print(f"power: Dice +{effect:<31g} {power(replace(FOUR, effect={ARMS[1]: effect}), *size):6.1%}", flush=True)
    (images,) = gains(FOUR, *size, without_trainings, clusters=False)
    print(f"{'four arms, fault: and an image is a patient':44s} {images:6.1%}", flush=True)
    whole, alone = gains(EIGHT, *size, as_it_is, without_holm)
    print(
        f"{'eight arms, as it is':44s} {whole:6.1%}\n{'eight arms, fault: without Holm':44s} {alone:6.1%}", flush=True
    )


if __name__ == "__main__":
    main()
