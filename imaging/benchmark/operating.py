"""Are the probabilities true at a hospital that was never seen, and what does a threshold from elsewhere give there?

Calibration slope and intercept are found for each network and averaged; their variance is that of patients (a sandwich
over patients, Liang & Zeger, Biometrika 73:13, 1986) plus that of trainings. Sensitivity and specificity of the
threshold that was chosen on the sources are endpoints (`sensitivity`, `specificity`) with the intervals of those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from imaging.benchmark.endpoints import Outcomes
from imaging.benchmark.panels import Panel
from imaging.evaluation.calibration import recalibration
from imaging.evaluation.matching import Array, Floats
from imaging.evaluation.result import Interval

_INSIDE = 1e-12
METHOD = "Wald; sandwich over patients and spread between seeds"


@dataclass(frozen=True, slots=True)
class SiteCalibration:
    """Slope (ideal 1) and intercept (ideal 0) of one arm at one held-out site; None where `absent` says why.

    `n_runs` networks have a finite line, of `n_runs_all`. `n_failed` outcomes without a score are left out of it.
    """

    arm: str
    site: str
    slope: float | None
    slope_interval: Interval | None
    intercept: float | None
    intercept_interval: Interval | None
    n_cases: int
    n_runs: int
    n_runs_all: int
    n_failed: int
    absent: str = ""


def calibration_of(arm: str, panel: Panel, site: str) -> SiteCalibration:
    """Calibration of an arm's networks at a site."""
    runs = panel.runs[site]
    with_truth = [[case for case in run.outcomes if case.positive is not None] for run in runs]
    n_failed = sum(bool(case.failed) for run in with_truth for case in run)
    n_cases = len(with_truth[0])
    lines = [line for line in map(_line, with_truth) if line is not None]
    if not lines:
        absent = "n/a (no finite line)" if n_cases else "n/a (0 cases with a truth)"
        return SiteCalibration(arm, site, None, None, None, None, n_cases, 0, len(runs), n_failed, absent)
    values, variances = (np.array([line[k] for line in lines]) for k in (0, 1))
    total = variances.mean(axis=0) + (values.var(axis=0, ddof=1) / len(lines) if len(lines) > 1 else 0.0)
    (intercept, slope), errors = values.mean(axis=0), np.sqrt(total)
    limits = [_wald(v, e, len(lines)) for v, e in ((slope, errors[1]), (intercept, errors[0]))]
    return SiteCalibration(
        arm, site, float(slope), limits[0], float(intercept), limits[1], n_cases, len(lines), len(runs), n_failed
    )


def _wald(value: float, error: float, n_runs: int) -> Interval | None:
    if not math.isfinite(error) or n_runs == 0:
        return None
    half = float(norm.ppf(0.975)) * error
    return Interval(float(value - half), float(value + half), METHOD)


def _line(outcomes: Outcomes) -> tuple[Floats, Floats] | None:
    """Intercept and slope (2,) with their variances over patients (2,); None where there is no finite line."""
    kept = [case for case in outcomes if not case.failed and case.score is not None]
    if not kept:
        return None
    truth = np.array([bool(case.positive) for case in kept])
    score = np.array([case.score for case in kept], dtype=np.float64)
    found = recalibration(truth, score)
    if found is None:
        return None
    line = np.array([found.intercept, found.slope])
    return line, _sandwich(line, truth, score, [case.patient_id for case in kept])


def _sandwich(line: Floats, truth: Array, score: Floats, patients: Sequence[str]) -> Floats:
    x = logit(np.clip(score, _INSIDE, 1 - _INSIDE))
    design = np.stack([np.ones_like(x), x], axis=1)
    chance = expit(design @ line)
    bread = np.linalg.pinv((design * (chance * (1 - chance))[:, None]).T @ design)
    of_case = np.unique(patients, return_inverse=True)[1]
    scores = np.zeros((of_case.max() + 1, 2))
    np.add.at(scores, of_case, design * (truth - chance)[:, None])
    n = len(scores)
    return np.asarray(np.diag(bread @ (scores.T @ scores) @ bread) * n / max(n - 1, 1))
