"""ComBat on features: site effects of location and scale are estimated on training cases and taken out.

For the site probe alone. ComBat needs cases of a site to know what to take out of it, so it is no way to predict at a
hospital that was never seen; and where site and label go together, its gain can be leaked label (Marzi et al.,
arXiv:2410.19643). The rules here:

- fitted on training features with their sites, and covariates that are to stay (age, lesion size, ...);
- a case of a fitted site is adjusted by that site's estimate;
- a case of an unseen site stays as it is: features keep the scale of the training, so it needs no move to lie on it;
- `with_site` estimates an unseen site from its own unlabelled features. That looks at the target: `looked_at` says so,
  and its figures may not stand beside those of methods that did not.

Empirical Bayes as in Johnson et al. (Biostatistics 2007), with the pooled variance of Fortin et al. (NeuroImage 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ConfigError, Reason

Floats = NDArray[np.float64]

_CONVERGED: Final = 1e-6  # relative change of an estimate between two iterations
_MOST_ITERATIONS: Final = 1000
_LEAST_CASES, _LEAST_FEATURES = 2, 2  # of which a variance exists


@dataclass(frozen=True, eq=False)
class SiteEffect:
    """`shift` and `scale` of each feature in units of the pooled standard deviation; 0 and 1 where there is none."""

    shift: Floats
    scale: Floats


@dataclass(frozen=True, eq=False)
class Combat:
    """What was learnt: mean and pooled standard deviation (feature,), slopes (covariate, feature), effects by site.

    `looked_at` names sites whose effect was estimated after the training, from their own cases.
    """

    mean: Floats
    sd: Floats
    slopes: Floats
    effects: Mapping[str, SiteEffect]
    looked_at: frozenset[str] = frozenset()

    def apply(self, features: Floats, sites: Sequence[str], covariates: Floats | None = None) -> Floats:
        """Features (case, feature) without their sites' effects; those of sites without an estimate as they are."""
        expected = self._expected(features, covariates)
        adjusted = np.array(features, dtype=np.float64)
        for site in sorted(set(sites) & set(self.effects)):
            effect, of = self.effects[site], np.asarray(sites) == site
            standard = (adjusted[of] - expected[of]) / self._divisor
            kept = (standard - effect.shift) / effect.scale * self.sd + expected[of]
            adjusted[of] = np.where(self.sd > 0, kept, adjusted[of])
        return adjusted

    def with_site(self, features: Floats, site: str, covariates: Floats | None = None) -> Combat:
        """The same with the effect of one more site by its own cases. Raises ConfigError for a site it already has.

        Covariates must be known of every case, so a label may not be one: it would be looked at too.
        """
        if site in self.effects:
            raise ConfigError(
                f"ComBat: found site '{site}' among {sorted(self.effects)}; allowed is one without an estimate",
                Reason.CONFIG_INVALID,
            )
        _refuse_few(site, len(features))
        standard = (features - self._expected(features, covariates)) / self._divisor
        effects = {**self.effects, site: _effect(standard)}
        return replace(self, effects=effects, looked_at=self.looked_at | {site})

    @property
    def _divisor(self) -> Floats:
        return np.where(self.sd > 0, self.sd, 1.0)

    def _expected(self, features: Floats, covariates: Floats | None) -> Floats:
        """What the features would be on average, whatever the site."""
        known = _covariates(covariates, len(features))
        if known.shape[1] != len(self.slopes) or features.shape[1] != len(self.mean):
            raise ConfigError(
                f"ComBat: found {features.shape[1]} features and {known.shape[1]} covariates; allowed are "
                f"{len(self.mean)} and {len(self.slopes)}, as it was fitted with",
                Reason.CONFIG_INVALID,
            )
        return np.asarray(self.mean + known @ self.slopes)


def fit_combat(features: Floats, sites: Sequence[str], covariates: Floats | None = None) -> Combat:
    """ComBat of training features (case, feature) and covariates (case, covariate).

    Raises ConfigError for numbers that are not finite, a site of one case, one feature alone, and for covariates that
    follow from the site, whose effect cannot be told from its own.
    """
    names = sorted(set(sites))
    known = _covariates(covariates, len(features))
    counts = np.array([list(sites).count(name) for name in names])
    for name, count in zip(names, counts, strict=True):
        _refuse_few(name, int(count))
    if features.shape[1] < _LEAST_FEATURES or not np.isfinite(features).all() or not np.isfinite(known).all():
        raise ConfigError(
            f"ComBat: found features of shape {features.shape}; allowed are {_LEAST_FEATURES} or more finite ones of "
            "each case, and finite covariates",
            Reason.CONFIG_INVALID,
        )
    design = np.column_stack([np.asarray(sites)[:, None] == np.array(names), known]).astype(np.float64)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ConfigError(
            f"ComBat: found covariates that follow from the site or from each other at sites {names}; allowed are "
            "covariates that vary within sites",
            Reason.CONFIG_INVALID,
        )
    weights = np.linalg.lstsq(design, features, rcond=None)[0]
    residuals = features - design @ weights
    mean = np.asarray(counts @ weights[: len(names)] / len(features), dtype=np.float64)
    slopes = np.asarray(weights[len(names) :], dtype=np.float64)
    sd = np.sqrt(np.square(residuals).mean(axis=0))
    sd = np.where(sd > 1e-9 * np.abs(features).max(axis=0, initial=0.0), sd, 0.0)  # a constant feature has rounding
    learnt = Combat(mean, sd, slopes, {})
    standard = (features - learnt._expected(features, covariates)) / learnt._divisor
    return replace(learnt, effects={name: _effect(standard[np.asarray(sites) == name]) for name in names})


def _effect(standard: Floats) -> SiteEffect:
    """Shift and scale of one site's standardised cases, shrunk towards those of all its features.

    The joint posterior means of Johnson et al., equations 3 and 4, by iteration.
    """
    varies = standard.std(axis=0) > 0
    shift, scale = np.zeros(standard.shape[1]), np.ones(standard.shape[1])
    seen = standard[:, varies]
    if seen.shape[1] < _LEAST_FEATURES:
        return SiteEffect(shift, scale)
    count, means, variances = len(seen), seen.mean(axis=0), seen.var(axis=0, ddof=1)
    prior_mean, prior_variance = means.mean(), means.var(ddof=1)
    middle, spread = variances.mean(), variances.var(ddof=1)
    own_mean, own_variance = means, variances
    for _ in range(_MOST_ITERATIONS):
        before = own_mean, own_variance
        own_mean = (count * prior_variance * means + own_variance * prior_mean) / (
            count * prior_variance + own_variance
        )
        squares = np.square(seen - own_mean).sum(axis=0)
        if spread > 0:  # inverse gamma with the moments of the variances
            shape, rate = 2 + middle**2 / spread, middle + middle**3 / spread
            own_variance = (rate + squares / 2) / (count / 2 + shape - 1)
        now = own_mean, own_variance
        if all(np.allclose(a, b, rtol=_CONVERGED, atol=_CONVERGED) for a, b in zip(before, now, strict=True)):
            break
    shift[varies], scale[varies] = own_mean, np.sqrt(own_variance)
    return SiteEffect(shift, scale)


def _covariates(covariates: Floats | None, cases: int) -> Floats:
    """(case, covariate), of which there may be none."""
    return np.zeros((cases, 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)


def _refuse_few(site: str, cases: int) -> None:
    if cases < _LEAST_CASES:
        raise ConfigError(
            f"ComBat: found {cases} case of site '{site}'; allowed are {_LEAST_CASES} or more", Reason.CONFIG_INVALID
        )
