"""How often do 95 % intervals hold the truth? Simulated patients with several cases each, whose scores go together.

    python benchmarks/coverage.py [--simulations 2000] [--resamples 2000] [--clusters 3 5 8 10 15 20 30 50]

One row per number of patients of the smaller class; the larger class has nine times as many, at least 45. The lowest
figure of each row below 20 patients belongs into COVERAGE of imaging/evaluation/intervals.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtr

from imaging.evaluation.intervals import Bootstrap, Clusters, bootstrap
from imaging.evaluation.ranking import Auroc, AveragePrecision, Mean, figure

SHARED_VARIANCE = 0.5  # of a patient's cases
EFFECT = 1.5  # distance of positive and negative scores, in standard deviations: AUROC 0.856


@dataclass(frozen=True)
class Study:
    """One simulated study: patients, the cases of each, truths and correlated standard normal scores."""

    patient: np.ndarray
    truth: np.ndarray
    score: np.ndarray

    @staticmethod
    def draw(rng: np.random.Generator, n_positive: int, n_negative: int) -> Study:
        n = n_positive + n_negative
        patient = np.repeat(np.arange(n), rng.integers(1, 4, n))
        truth = (np.arange(n) < n_positive)[patient]
        shared = rng.normal(size=n)[patient] * np.sqrt(SHARED_VARIANCE)
        score = shared + rng.normal(size=patient.size) * np.sqrt(1 - SHARED_VARIANCE)
        return Study(patient, truth, score + EFFECT * truth)

    def clusters(self, positive: np.ndarray) -> Clusters:
        return Clusters.of(self.patient.tolist(), ["a"] * self.patient.size, positive)

    def average_precision(self) -> AveragePrecision:
        """One lesion per positive case, missed below 0; one false positive per negative case above 0.5."""
        confidence = np.where(self.truth & (self.score <= 0), 0.0, ndtr(self.score - 1))
        line = np.flatnonzero(self.truth | (self.score > 0.5))
        return AveragePrecision(line, self.truth[line], confidence[line])


def quality(study: Study) -> np.ndarray:
    """A skewed quality per case, such as Dice: beta(8, 2) with mean 0.8."""
    return np.asarray(betaincinv(8, 2, ndtr(study.score - EFFECT * study.truth)))


def true_precision(n_positive: int, n_negative: int) -> float:
    """Average precision at this prevalence in 2000 times as many patients."""
    study = Study.draw(np.random.default_rng(0), 2000 * n_positive, 2000 * n_negative)
    return figure(study.average_precision(), study.patient.size)


def coverage(n_clusters: int, simulations: int, resamples: int, seed: int = 1) -> dict[str, float]:
    """Share of intervals that hold the truth, for AUROC, average precision and a mean over the smaller class."""
    rng = np.random.default_rng(seed)
    n_negative = max(45, 9 * n_clusters)
    truths = {
        "auroc": float(ndtr(EFFECT / np.sqrt(2))),
        "average_precision": true_precision(n_clusters, n_negative),
        "mean": 0.8,
    }
    held = dict.fromkeys(truths, 0)
    for number in range(simulations):
        study = Study.draw(rng, n_clusters, n_negative)
        how = Bootstrap(resamples, seed=number)
        n = study.truth
        both = bootstrap([Auroc(n, study.score), study.average_precision()], study.clusters(n), how)
        few = Study(study.patient[n], study.truth[n], study.score[n])
        mean = bootstrap([Mean(quality(few))], few.clusters(few.truth), how)
        for (name, truth), drawn in zip(truths.items(), (*both, *mean), strict=True):
            held[name] += drawn.interval is not None and drawn.interval.low <= truth <= drawn.interval.high
    return {name: count / simulations for name, count in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--clusters", type=int, nargs="+", default=[3, 5, 8, 10, 15, 20, 30, 50])
    args = parser.parse_args()
    print("patients  auroc   AP      mean    lowest")
    for n_clusters in args.clusters:
        row = coverage(n_clusters, args.simulations, args.resamples)
        print(f"{n_clusters:8d}", *(f"{v:7.3f}" for v in (*row.values(), min(row.values()))), flush=True)


if __name__ == "__main__":
    main()
