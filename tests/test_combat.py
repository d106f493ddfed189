"""ComBat on features: against the published formulas written out for one feature, and what it must and must not do."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.benchmark.combat import Combat, Floats, fit_combat
from imaging.errors import ConfigError

SITES = ["a"] * 40 + ["b"] * 25 + ["c"] * 35


def features(seed: int = 0, count: int = 12) -> tuple[Floats, Floats]:
    """Features (case, feature) with planted site effects on a covariate (case, 1) of slope 2."""
    rng = np.random.default_rng(seed)
    age = rng.normal(size=(len(SITES), 1))
    noise = rng.normal(size=(len(SITES), count))
    moved = {"a": (0.0, 1.0), "b": (3.0, 2.0), "c": (-1.0, 0.5)}
    shift, scale = (np.array([moved[site][k] for site in SITES])[:, None] for k in (0, 1))
    return noise * scale + shift + 2 * age + np.arange(count), age


def naive(values: Floats, sites: list[str]) -> Floats:
    """The same without covariates, feature by feature and with the posterior means to their fixed point."""
    names = sorted(set(sites))
    of = {name: np.array([site == name for site in sites]) for name in names}
    means = {name: values[of[name]].mean(axis=0) for name in names}
    grand = sum(of[name].sum() * means[name] for name in names) / len(values)
    pooled = np.sqrt(sum(((values[of[name]] - means[name]) ** 2).sum(axis=0) for name in names) / len(values))
    adjusted = np.empty_like(values)
    for name in names:
        z = (values[of[name]] - grand) / pooled
        n, gamma, delta = len(z), z.mean(axis=0), z.var(axis=0, ddof=1)
        bar, tau2 = gamma.mean(), gamma.var(ddof=1)
        m, s2 = delta.mean(), delta.var(ddof=1)
        a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for feature in range(values.shape[1]):
            g, d = gamma[feature], delta[feature]
            for _ in range(2000):
                g = (tau2 * n * gamma[feature] + d * bar) / (tau2 * n + d)
                d = (0.5 * ((z[:, feature] - g) ** 2).sum() + b) / (n / 2 + a - 1)
            adjusted[of[name], feature] = pooled[feature] / np.sqrt(d) * (z[:, feature] - g) + grand[feature]
    return adjusted


def test_it_is_the_published_estimate() -> None:
    values, _ = features()
    np.testing.assert_allclose(
        fit_combat(values, SITES).apply(values, SITES), naive(values, SITES), rtol=1e-4, atol=1e-4
    )


def test_planted_effects_go_and_the_covariate_stays() -> None:
    """Before, site b lies 3 above the others and spreads twice as far; afterwards sites share both within 15 %."""
    values, age = features(count=200)
    fitted = fit_combat(values, SITES, age)
    np.testing.assert_allclose(fitted.slopes, 2.0, atol=1.0)
    assert fitted.slopes.mean() == pytest.approx(2.0, abs=0.05)
    places, spreads = [], []
    for told in (values, fitted.apply(values, SITES, age)):
        rest = told - 2 * age - np.arange(200)  # what is neither the covariate nor the feature's own level
        of = [rest[np.asarray(SITES) == site] for site in "abc"]
        places.append(np.ptp([one.mean() for one in of]))
        spreads.append([(one - one.mean(axis=0)).std() for one in of])
    assert places[0] > 3.5
    assert places[1] < 0.15 * places[0]
    assert max(spreads[0]) > 3 * min(spreads[0])
    assert max(spreads[1]) < 1.15 * min(spreads[1])


def test_an_unseen_site_stays_as_it_is_until_it_is_looked_at() -> None:
    values, _ = features()
    rng = np.random.default_rng(5)
    new = rng.normal(size=(60, 12)) * 3 + 20
    fitted = fit_combat(values, SITES)
    np.testing.assert_array_equal(fitted.apply(new, ["new"] * 60), new)
    assert fitted.looked_at == frozenset()
    seen = fitted.with_site(new, "new")
    assert seen.looked_at == {"new"}
    moved = seen.apply(new, ["new"] * 60)
    np.testing.assert_allclose(moved.mean(axis=0), fitted.mean, atol=0.6 * fitted.sd.max())
    assert np.abs(moved.mean(axis=0) - fitted.mean).max() < 0.1 * np.abs(new.mean(axis=0) - fitted.mean).max()
    # What is known of the other sites does not change.
    np.testing.assert_array_equal(seen.apply(values, SITES), fitted.apply(values, SITES))
    with pytest.raises(ConfigError, match="found site 'a'"):
        seen.with_site(new, "a")


def test_what_is_applied_depends_on_nothing_but_the_fit() -> None:
    values, _ = features()
    fitted = fit_combat(values, SITES)
    whole = fitted.apply(values, SITES)
    np.testing.assert_array_equal(fitted.apply(values[:7], SITES[:7]), whole[:7])
    before = values.copy()
    fitted.apply(values, SITES)
    np.testing.assert_array_equal(values, before)


def test_a_constant_feature_stays() -> None:
    values, _ = features()
    values[:, 3] = 7.0
    adjusted = fit_combat(values, SITES).apply(values, SITES)
    np.testing.assert_allclose(adjusted[:, 3], 7.0)
    assert np.isfinite(adjusted).all()


def test_what_cannot_be_told_apart_is_refused() -> None:
    values, age = features()
    site_number = np.array([["abc".index(site)] for site in SITES], dtype=float)
    with pytest.raises(ConfigError, match="follow from the site"):
        fit_combat(values, SITES, site_number)
    with pytest.raises(ConfigError, match="found 1 case of site 'd'"):
        fit_combat(values, ["d", *SITES[1:]])
    with pytest.raises(ConfigError, match="2 or more finite"):
        fit_combat(values[:, :1], SITES)
    with pytest.raises(ConfigError, match="2 or more finite"):
        fit_combat(np.where(values > 3, np.nan, values), SITES)
    fitted: Combat = fit_combat(values, SITES, age)
    with pytest.raises(ConfigError, match="found 12 features and 0 covariates; allowed are 12 and 1"):
        fitted.apply(values, SITES)
