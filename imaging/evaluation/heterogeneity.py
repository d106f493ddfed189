"""Random effects over sites: mean, spread between sites and where a new site is expected to fall.

REML by Fisher scoring (Viechtbauer, J Educ Behav Stat 30:261, 2005); limits of the mean by Hartung and Knapp (Stat Med
20:3875, 2001); prediction interval with k − 2 degrees of freedom (Higgins, Thompson & Spiegelhalter, J R Stat Soc A
172:137, 2009, with the Hartung-Knapp variance of Partlett & Riley, Stat Med 36:301, 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from imaging.errors import ConfigError, Reason
from imaging.evaluation.matching import Array, Floats

_CLOSE = 1e-12
_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class RandomEffects:
    """A random-effects analysis of k estimates, on the scale of the estimates.

    `low` and `high` need two sites, `predicted_low` and `predicted_high` three; otherwise they are None. `q` is
    Cochran's statistic with k − 1 degrees of freedom; `i2` is the share of variance between sites, 0 to 1.
    """

    n_sites: int
    mean: float
    standard_error: float
    low: float | None
    high: float | None
    predicted_low: float | None
    predicted_high: float | None
    tau2: float
    i2: float
    q: float

    def back(self, value: float | None, scale: str) -> float | None:
        """A limit of this analysis on the figure's own scale (`identity` or `logit`)."""
        return value if value is None or scale == "identity" else float(expit(value))


def random_effects(estimate: Array, variance: Array, level: float = 0.95) -> RandomEffects:
    """Estimates (k,) with their variances (k,), k ≥ 1. Raises ConfigError for variances that are not above 0."""
    y, v = np.asarray(estimate, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if y.shape != v.shape or y.ndim != 1 or y.size == 0 or not np.all(np.isfinite(y)) or not np.all(v > 0):
        raise ConfigError(
            f"random effects: found {y.tolist()} with variances {v.tolist()}; allowed are k ≥ 1 finite estimates, "
            "each with a variance above 0",
            Reason.CONFIG_INVALID,
        )
    k = y.size
    tau2 = reml(y, v) if k > 1 else 0.0
    w = 1 / (v + tau2)
    mean = float((w * y).sum() / w.sum())
    fixed = 1 / v
    q = float((fixed * (y - (fixed * y).sum() / fixed.sum()) ** 2).sum())
    if k == 1:
        return RandomEffects(1, mean, math.sqrt(float(v[0])), None, None, None, None, 0.0, 0.0, q)
    error = math.sqrt(float((w * (y - mean) ** 2).sum() / ((k - 1) * w.sum())))
    half = float(student.ppf((1 + level) / 2, k - 1)) * error
    typical = (k - 1) * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum())
    reach = float(student.ppf((1 + level) / 2, k - 2)) * math.sqrt(tau2 + error**2) if k > 2 else None
    return RandomEffects(
        n_sites=k,
        mean=mean,
        standard_error=error,
        low=mean - half,
        high=mean + half,
        predicted_low=None if reach is None else mean - reach,
        predicted_high=None if reach is None else mean + reach,
        tau2=tau2,
        i2=float(tau2 / (tau2 + typical)),
        q=q,
    )


def reml(y: Floats, v: Floats) -> float:
    """Variance between sites by restricted maximum likelihood; 0 where the sites differ by less than chance.

    A step of Fisher scoring that passes the maximum is halved until the likelihood rises; without that, steps may go to
    and fro for ever.
    """
    tau2 = max(float(np.var(y, ddof=1) - v.mean()), 0.0)
    for _ in range(_STEPS):
        w = 1 / (v + tau2)
        projection = np.diag(w) - np.outer(w, w) / w.sum()
        residual = projection @ y
        step = (residual @ residual - np.trace(projection)) / np.sum(projection * projection)
        new = max(tau2 + float(step), 0.0)
        while abs(new - tau2) > _CLOSE * (1 + tau2) and _likelihood(y, v, new) < _likelihood(y, v, tau2):
            new = (new + tau2) / 2
        if abs(new - tau2) <= _CLOSE * (1 + tau2):
            return new
        tau2 = new
    raise ConfigError(
        f"random effects, REML: no convergence for estimates {y.tolist()} with variances {v.tolist()}",
        Reason.CONFIG_INVALID,
    )


def _likelihood(y: Floats, v: Floats, tau2: float) -> float:
    """The restricted log-likelihood but for a constant."""
    w = 1 / (v + tau2)
    apart = y - (w * y).sum() / w.sum()
    return float((np.log(w).sum() - np.log(w.sum()) - (w * apart**2).sum()) / 2)


def on_logit(value: float, variance: float | None, n_positive: int, n_negative: int) -> tuple[float, float]:
    """An AUROC and its variance on the logit scale (delta method).

    At 0 or 1, or without a variance, half a pair is added and the variance is that of Hanley & McNeil (Radiology
    143:29, 1982): a site with a perfect AUROC stays in the analysis with the little weight that it has.
    """
    if variance is None or variance <= 0 or not 0 < value < 1:
        pairs = n_positive * n_negative
        value = (value * pairs + 0.5) / (pairs + 1)
        both = (n_positive - 1) * (value / (2 - value) - value**2)
        both += (n_negative - 1) * (2 * value**2 / (1 + value) - value**2)
        variance = (value * (1 - value) + both) / pairs
    return float(logit(value)), variance / (value * (1 - value)) ** 2
