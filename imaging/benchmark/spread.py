"""How far sites differ, and where a new site is expected to fall; beside it how far trainings differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from imaging.benchmark.endpoints import Endpoint
from imaging.benchmark.panels import Panel
from imaging.evaluation.heterogeneity import on_logit, random_effects
from imaging.evaluation.result import Effect, Subgroup


@dataclass(frozen=True, slots=True)
class SiteSpread:
    """Random effects of one endpoint over the held-out sites, on the endpoint's own scale; `tau2` is on `scale`.

    `predicted_*` is the 95 % prediction interval for a new site, with `df` = sites − 2 degrees of freedom; None with
    the reason in `absent`. `sd_seeds` is the standard deviation between trainings of one site, pooled over sites;
    `sd_sites` that between the sites' figures. Both are on the endpoint's own scale.
    """

    endpoint: str
    scale: Literal["identity", "logit"]
    n_sites: int
    sd_seeds: float | None
    sd_sites: float | None
    df: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    predicted_low: float | None = None
    predicted_high: float | None = None
    tau2: float | None = None
    i2: float | None = None
    absent: str = ""


def spread_over_sites(panel: Panel, sites: Sequence[Subgroup], endpoint: Endpoint) -> SiteSpread:
    """The spread of an endpoint; the variance of a site's figure is that of its patients and of its trainings."""
    seeds = {site.name: seed_figures(panel, site.name, endpoint) for site in sites}
    figures = [(site.name, site.figure(endpoint.name)) for site in sites if site.figures]
    known = [(name, shown) for name, shown in figures if shown.value is not None]
    usable = [(shown.effect, seeds[name]) for name, shown in known if shown.effect is not None]
    values = [shown.value for _, shown in known if shown.value is not None]
    sd_seeds, sd_sites = _pooled_sd(list(seeds.values())), float(np.std(values, ddof=1)) if len(values) > 1 else None
    scale = usable[0][0].scale if usable else "identity"
    n = len(usable)
    bare = SiteSpread(endpoint.name, scale, n, sd_seeds, sd_sites)
    if n < 2:
        return replace(bare, absent=f"n/a ({n} sites with a variance; a spread needs 2, a new site 3)")
    variances = [effect.variance + _of_trainings(effect, runs) for effect, runs in usable]
    found = random_effects(np.array([effect.estimate for effect, _ in usable]), np.array(variances))
    return replace(
        bare,
        df=n - 2,
        mean=found.back(found.mean, scale),
        low=found.back(found.low, scale),
        high=found.back(found.high, scale),
        predicted_low=found.back(found.predicted_low, scale),
        predicted_high=found.back(found.predicted_high, scale),
        tau2=found.tau2,
        i2=found.i2,
        absent="" if n > 2 else "n/a (2 sites; a new site needs 3)",
    )


def _of_trainings(effect: Effect, runs: Sequence[float]) -> float:
    """Variance of the mean over trainings, on the scale of the effect."""
    if len(runs) < 2:
        return 0.0
    on_scale = [on_logit(v, 1.0, 1, 1)[0] for v in runs if 0 < v < 1] if effect.scale == "logit" else list(runs)
    return float(np.var(on_scale, ddof=1)) / len(on_scale) if len(on_scale) > 1 else 0.0


def seed_figures(panel: Panel, site: str, endpoint: Endpoint) -> list[float]:
    """The endpoint of each training on a site; empty where it has no figure."""
    values = [endpoint.value(run.outcomes) for run in panel.runs.get(site, ())]
    return [value for value in values if value is not None]


def _pooled_sd(runs: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation between trainings, each site with its degrees of freedom; None without two of one site."""
    several = [values for values in runs if len(values) > 1]
    if not several:
        return None
    squares = sum(float(np.var(values, ddof=1)) * (len(values) - 1) for values in several)
    return math.sqrt(squares / sum(len(values) - 1 for values in several))
