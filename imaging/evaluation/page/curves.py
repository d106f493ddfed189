"""ROC and FROC with pointwise bootstrap bands, from a record's rows and the resampling that it states.

A failed case is wrong at every threshold: a positive one is never found, so that the curve does not reach 1; a
negative one is a false positive from the strictest threshold on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imaging.evaluation.detection import Account
from imaging.evaluation.evaluate import bootstrap_of
from imaging.evaluation.intervals import Bootstrap, Clusters, at_a_time
from imaging.evaluation.matching import Array, Floats
from imaging.evaluation.result import ClassificationCase, DetectionCase, EvaluationResult
from imaging.evaluation.sites import too_few

_CHUNK = 256
FROC_LIMITS = (0.1, 1.0, 8.0)  # false positives per image: first, least last, greatest last


@dataclass(frozen=True, eq=False)
class Curve:
    """Operating points `x`, `y` (k,) from the strictest, and the band `low` to `high` on `grid` (g,)."""

    x: Floats
    y: Floats
    grid: Floats
    low: Floats
    high: Floats


class _Ranked:
    """Rates of true and false calls at every threshold, for many weightings of the cases (case, resample)."""

    def __init__(self, case: Array, is_true: Array, score: Array, called: Array) -> None:
        order = np.argsort(-score, kind="stable")
        order = order[called[order]]
        self._case, self._true = np.asarray(case)[order], np.asarray(is_true, dtype=np.float64)[order][:, None]
        ranked = score[order]
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if ranked.size else np.zeros(0, np.intp)

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """False and true calls, (threshold, resample) each."""
        drawn = weights[self._case]
        hits = np.cumsum(drawn * self._true, axis=0)[self._ends]
        return np.asarray(np.cumsum(drawn * (1 - self._true), axis=0)[self._ends]), np.asarray(hits)


def _curve(
    ranked: _Ranked, below: tuple[Floats, Floats], clusters: Clusters, how: Bootstrap, grid: Floats | None
) -> Curve:
    """`below` are what one case adds to the denominators of x and y, (case,) each."""
    false, hits = ranked(np.ones((clusters.of_case.size, 1)))
    x, y = false[:, 0] / below[0].sum(), hits[:, 0] / below[1].sum()
    if grid is None:
        first, least, most = FROC_LIMITS
        grid = np.geomspace(first, min(max(least, 2.0 ** np.ceil(np.log2(max(x.max(initial=0), 0.1)))), most), 81)
    drawn = np.full((grid.size, how.n_resamples), np.nan)
    rng = np.random.default_rng(how.seed)
    chunk = min(_CHUNK, at_a_time(clusters))
    for start in range(0, how.n_resamples, chunk):
        stop = min(start + chunk, how.n_resamples)
        weights = clusters.drawn(rng, stop - start)
        false, hits = ranked(weights)
        n_x, n_y = below[0] @ weights, below[1] @ weights
        for column in np.flatnonzero((n_x > 0) & (n_y > 0)):
            at = np.searchsorted(false[:, column], grid * n_x[column] * (1 + 1e-9) + 1e-9, side="right")
            drawn[:, start + column] = np.append(0.0, hits[:, column])[at] / n_y[column]
    tail = (1 - how.level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=1)
    return Curve(np.append(0.0, x), np.append(0.0, y), grid, low, high)


def _clusters(cases: Sequence[DetectionCase] | Sequence[ClassificationCase]) -> Clusters:
    truth = np.array([case.truth for case in cases])
    return Clusters.of([case.patient_id for case in cases], [case.site for case in cases], truth)


def roc(result: EvaluationResult) -> Curve | str:
    """Sensitivity over 1 − specificity of cases; the reason where there is none."""
    cases = result.detection or result.classification
    truth = np.array([case.truth for case in cases], dtype=np.bool_)
    if absent := too_few(truth):
        return absent
    score = np.array([(-np.inf if c.truth else np.inf) if c.failed else c.score for c in cases])
    ranked = _Ranked(np.arange(truth.size), truth, score, score > -np.inf)
    below = (~truth).astype(np.float64), truth.astype(np.float64)
    return _curve(ranked, below, _clusters(cases), bootstrap_of(result), np.linspace(0, 1, 101))


def froc(result: EvaluationResult) -> Curve | str:
    """Lesions found over false positives per image; the reason where there is none."""
    account = Account.of(result.detection)
    n_lesions = np.bincount(account.case[account.is_true], minlength=len(result.detection)).astype(np.float64)
    if n_lesions.sum() < 1:
        return "n/a (0 positives)"
    ranked = _Ranked(account.case, account.is_true, account.confidence, account.confidence > 0)
    below = account.n_images, n_lesions
    return _curve(ranked, below, _clusters(result.detection), bootstrap_of(result), None)
