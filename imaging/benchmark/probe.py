"""How well can the site be assigned from frozen features, beyond what the label tells? And what became of a quantity?

A multinomial logistic probe (ridge penalty) learns the site from features in folds of patients. Sites differ in their
patients: where more are ill, features of illness tell the site. So the probe is conditional on the label: features are
centred within each label on the training folds, accuracy is balanced over sites inside each label and averaged over
labels, and the null distribution permutes sites among the patients of one label. The p counts the data themselves as
one permutation. A site that is found by a probe is no harm by itself, and one that is lost no gain: figures at held-out
sites alone tell (`verdict`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from imaging.errors import ConfigError, Reason
from imaging.evaluation.intervals import Bootstrap, Clusters, bootstrap
from imaging.evaluation.matching import Array, Bools, Floats
from imaging.evaluation.ranking import Mean, figure
from imaging.evaluation.result import Interval

Ints = NDArray[np.intp]
N_FOLDS = 5
MOST_COMPONENTS = 24
PENALTY = 1.0  # of half the squared coefficients of standardised components, against the summed loss of cases
_STEPS = 60
_LEAST_PATIENTS = 2  # of a site in a label, for that label to count


@dataclass(frozen=True, eq=False)
class ProbeCases:
    """Features (case, feature) with the site, label and patient of each case. Patients of two sites are two."""

    features: Floats
    sites: tuple[str, ...]
    labels: tuple[str, ...]
    patients: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.features), len(self.sites), len(self.labels), len(self.patients)}
        if self.features.ndim != 2 or len(lengths) != 1 or not np.isfinite(self.features).all():
            raise ConfigError(
                f"site probe: found features of shape {self.features.shape} with {len(self.sites)} sites, "
                f"{len(self.labels)} labels and {len(self.patients)} patients; allowed are finite features "
                "(case, feature) with one of each per case",
                Reason.CONFIG_INVALID,
            )


@dataclass(frozen=True, slots=True)
class SiteProbe:
    """What a probe finds. `accuracy` is balanced over sites within each label, mean over labels; `chance` the same of
    a guess; `label_only` the balanced accuracy of the label alone, `unconditional` that of features without regard to
    labels. `null_high` is the 95th percentile of permutations, `p` their share that is at least as accurate. None
    where `absent` says why.
    """

    name: str
    n_cases: int
    n_patients: int
    sites: tuple[str, ...]
    labels: tuple[str, ...]
    accuracy: float | None = None
    chance: float | None = None
    label_only: float | None = None
    unconditional: float | None = None
    null_mean: float | None = None
    null_high: float | None = None
    p: float | None = None
    n_permutations: int = 0
    absent: str = ""


@dataclass(frozen=True, eq=False)
class _Numbered:
    """Cases as numbers: site, label and fold of each, its patient, and of each patient site and stratum of labels."""

    site: Ints
    label: Ints
    patient: Ints
    fold: Ints
    site_of: Ints
    stratum_of: Ints
    counted: Bools
    """Labels that at least two sites have, each with two patients or more."""


def probe_site(name: str, cases: ProbeCases, n_permutations: int = 199, seed: int = 20240) -> SiteProbe:
    """The probe of one set of features, such as those after an arm's harmonisation."""
    numbered, sites, labels = _numbered(cases, seed)
    bare = SiteProbe(name, len(cases.sites), numbered.site_of.size, sites, labels)
    if len(sites) < 2 or not numbered.counted.any():
        return _absent(bare, "n/a (no label that two sites have, with two patients each)")
    rng = np.random.default_rng(seed)
    columns = np.stack([numbered.site_of, *(_permuted(numbered, rng) for _ in range(n_permutations))], axis=1)
    assigned = columns[numbered.patient]  # (case, 1 + permutation)
    found = _conditional(_predicted(cases.features, numbered, assigned, True), assigned, numbered)
    plain = _predicted(cases.features, numbered, assigned[:, :1], False)
    only = _predicted(np.eye(len(labels))[numbered.label], numbered, assigned[:, :1], False)
    return SiteProbe(
        name=name,
        n_cases=bare.n_cases,
        n_patients=bare.n_patients,
        sites=sites,
        labels=labels,
        accuracy=float(found[0]),
        chance=_chance(numbered),
        label_only=_balanced(only[:, 0], numbered.site),
        unconditional=_balanced(plain[:, 0], numbered.site),
        null_mean=float(found[1:].mean()),
        null_high=float(np.quantile(found[1:], 0.95)),
        p=float(np.mean(found >= found[0] - 1e-12)),
        n_permutations=n_permutations,
    )


def _absent(bare: SiteProbe, why: str) -> SiteProbe:
    return SiteProbe(bare.name, bare.n_cases, bare.n_patients, bare.sites, bare.labels, absent=why)


def _numbered(cases: ProbeCases, seed: int) -> tuple[_Numbered, tuple[str, ...], tuple[str, ...]]:
    sites, site = np.unique(cases.sites, return_inverse=True)
    labels, label = np.unique(cases.labels, return_inverse=True)
    keys = [f"{where}\x00{who}" for where, who in zip(cases.sites, cases.patients, strict=True)]
    patient = np.unique(keys, return_inverse=True)[1]
    n = int(patient.max(initial=-1)) + 1
    site_of = np.zeros(n, dtype=np.intp)
    site_of[patient] = site
    has = np.zeros((n, labels.size), dtype=np.bool_)
    has[patient, label] = True
    stratum_of = np.unique(has, axis=0, return_inverse=True)[1].reshape(-1)
    there = np.array([[int((has[:, k] & (site_of == s)).sum()) for s in range(sites.size)] for k in range(labels.size)])
    counted = (there >= _LEAST_PATIENTS).sum(axis=1) >= 2
    folds = _folds(site_of, stratum_of, seed)
    return (
        _Numbered(site, label, patient, folds[patient], site_of, stratum_of, counted),
        tuple(sites.tolist()),
        tuple(labels.tolist()),
    )


def _folds(site_of: Ints, stratum_of: Ints, seed: int) -> Ints:
    """A fold for each patient, dealt inside each stratum of labels: a permutation of sites keeps the folds."""
    rng = np.random.default_rng(seed)
    folds = np.zeros(site_of.size, dtype=np.intp)
    start = 0
    for stratum in np.unique(stratum_of):
        members = rng.permutation(np.flatnonzero(stratum_of == stratum))
        folds[members] = (start + np.arange(members.size)) % N_FOLDS
        start += members.size
    return folds


def _permuted(numbered: _Numbered, rng: np.random.Generator) -> Ints:
    """Sites of patients, permuted among the patients that have the same labels."""
    out = numbered.site_of.copy()
    for stratum in np.unique(numbered.stratum_of):
        members = np.flatnonzero(numbered.stratum_of == stratum)
        out[members] = numbered.site_of[rng.permutation(members)]
    return out


def _predicted(features: Floats, numbered: _Numbered, assigned: Ints, conditional: bool) -> Ints:
    """The site that the probe predicts for each case in the fold that left it out (case, column of sites)."""
    out = np.zeros_like(assigned)
    n_sites = int(numbered.site.max()) + 1
    for fold in range(N_FOLDS):
        test = numbered.fold == fold
        if test.any() and not test.all():
            train, held = _components(features, numbered.label, test, conditional)
            scores = held @ _fitted(train, assigned[~test], n_sites)
            out[test] = scores.reshape(len(held), n_sites, assigned.shape[1]).argmax(axis=1)
    return out


def _components(features: Floats, label: Ints, test: Bools, conditional: bool) -> tuple[Floats, Floats]:
    """Features of training and test cases, centred (within labels), on standardised principal axes, with a one.

    Everything is learnt from the training cases; a label that they lack is centred on all of them.
    """
    train = features[~test]
    centre = np.tile(train.mean(axis=0), (int(label.max()) + 1, 1))
    for number in np.unique(label[~test]) if conditional else ():
        centre[number] = train[label[~test] == number].mean(axis=0)
    moved = features - centre[label]
    spread = moved[~test].std(axis=0)
    moved = moved / np.where(spread > 1e-12, spread, 1.0)
    left, sizes, axes = np.linalg.svd(moved[~test], full_matrices=False)
    kept = min(MOST_COMPONENTS, int((sizes > sizes[0] * 1e-8).sum()) if sizes.size and sizes[0] > 0 else 0)
    scale = np.sqrt(len(left)) / sizes[:kept]
    parts = (moved @ axes[:kept].T) * scale
    design = np.concatenate([np.ones((len(parts), 1)), parts], axis=1)
    return design[~test], design[test]


def _fitted(design: Floats, assigned: Ints, n_sites: int) -> Floats:
    """Coefficients (component, site × column) of all columns of sites at once.

    Böhning's bound on the curvature (Ann Inst Stat Math 44:197, 1992) is one matrix for all columns, so that a step is
    a product of matrices; steps are accelerated (Beck & Teboulle, SIAM J Imaging Sci 2:183, 2009).
    """
    n, width = design.shape
    columns = assigned.shape[1]
    truth = (assigned[:, None, :] == np.arange(n_sites)[None, :, None]).astype(np.float64)
    # Sites count alike whatever their size: balanced accuracy is what is asked for.
    weight = truth / np.maximum(truth.sum(axis=0), 1.0) * n / n_sites
    weight_of_case = weight.sum(axis=1, keepdims=True)
    bound = 0.5 * float(weight_of_case.max()) * design.T @ design + PENALTY * np.eye(width)
    inverse = np.linalg.inv(bound)
    beta = np.zeros((width, n_sites * columns))
    ahead = beta
    for step in range(_STEPS):
        scores = (design @ ahead).reshape(n, n_sites, columns)
        scores -= scores.max(axis=1, keepdims=True)
        chance = np.exp(scores)
        chance /= chance.sum(axis=1, keepdims=True)
        slope = design.T @ ((truth - chance) * weight_of_case).reshape(n, -1) - PENALTY * ahead
        new = ahead + inverse @ slope
        ahead = new + step / (step + 3) * (new - beta)
        beta = new
    return beta


def _conditional(predicted: Ints, assigned: Ints, numbered: _Numbered) -> Floats:
    """Accuracy balanced over sites inside each label, mean over labels, of each column (column,)."""
    right = (predicted == assigned).astype(np.float64)
    means = []
    for label in np.flatnonzero(numbered.counted):
        rows = numbered.label == label
        shares = []
        for site in range(int(numbered.site.max()) + 1):
            of_site = assigned[rows] == site
            there = of_site.sum(axis=0)
            hits = (right[rows] * of_site).sum(axis=0)
            shares.append(np.divide(hits, there, out=np.full(there.shape, np.nan), where=there > 0))
        means.append(np.nanmean(np.array(shares), axis=0))
    return np.asarray(np.mean(means, axis=0))


def _chance(numbered: _Numbered) -> float:
    """What a guess reaches: one over the sites of each label, mean over labels."""
    rows = [numbered.label == label for label in np.flatnonzero(numbered.counted)]
    return float(np.mean([1 / np.unique(numbered.site[row]).size for row in rows]))


def _balanced(predicted: Ints, truth: Ints) -> float:
    return float(np.mean([np.mean(predicted[truth == site] == site) for site in np.unique(truth)]))


# --- What became of a quantity ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QuantityPair:
    """A quantity of one case before and after harmonisation, in one unit, such as an ADC contrast."""

    case_id: str
    patient_id: str
    site: str
    label: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class QuantityKept:
    """What an arm did to a quantity. `change` is the mean of after less before, `rank` the rank correlation of both.

    `contrast_*` is the distance of the two labels' means in standard deviations within labels, where there are two;
    `site_share_*` the share of the variance within labels that lies between sites. None where there is no such figure.
    """

    name: str
    n_cases: int
    n_patients: int
    mean_before: float
    mean_after: float
    change: float
    change_interval: Interval | None
    rank: float | None
    contrast_before: float | None
    contrast_after: float | None
    site_share_before: float | None
    site_share_after: float | None


def quantity_kept(name: str, pairs: Sequence[QuantityPair], how: Bootstrap | None = None) -> QuantityKept:
    """The quantity before and after. Raises ConfigError without a pair."""
    if not pairs:
        raise ConfigError(f"quantity '{name}': found 0 pairs; allowed are one or more", Reason.CONFIG_INVALID)
    ordered = sorted(pairs, key=lambda pair: (pair.site, pair.patient_id, pair.case_id))
    before, after = (np.array([getattr(pair, side) for pair in ordered]) for side in ("before", "after"))
    sites, labels = ([getattr(pair, side) for pair in ordered] for side in ("site", "label"))
    clusters = Clusters.of([pair.patient_id for pair in ordered], sites, np.zeros(len(ordered), dtype=np.bool_))
    change = Mean(after - before)
    interval = bootstrap([change], clusters, how or Bootstrap())[0].interval
    varies = min(np.ptp(before), np.ptp(after)) > 0
    return QuantityKept(
        name=name,
        n_cases=len(ordered),
        n_patients=clusters.stratum.size,
        mean_before=float(before.mean()),
        mean_after=float(after.mean()),
        change=figure(change, len(ordered)),
        change_interval=interval,
        rank=float(spearmanr(before, after).statistic) if varies else None,
        contrast_before=_contrast(before, labels),
        contrast_after=_contrast(after, labels),
        site_share_before=_site_share(before, labels, sites),
        site_share_after=_site_share(after, labels, sites),
    )


def _within(values: Floats, groups: Array) -> Floats:
    """Values less the mean of their group."""
    number = np.unique(groups, return_inverse=True)[1]
    return np.asarray(values - (np.bincount(number, values) / np.bincount(number))[number])


def _contrast(values: Floats, labels: Sequence[str]) -> float | None:
    names, number = np.unique(labels, return_inverse=True)
    inside = _within(values, number)
    spread = float(np.sqrt((inside**2).sum() / max(values.size - names.size, 1)))
    if names.size != 2 or spread == 0:
        return None
    means = np.bincount(number, values) / np.bincount(number)
    return float((means[1] - means[0]) / spread)


def _site_share(values: Floats, labels: Sequence[str], sites: Sequence[str]) -> float | None:
    inside = _within(values, np.array(labels))
    cells = np.array([f"{label}\x00{site}" for label, site in zip(labels, sites, strict=True)])
    total = float((inside**2).sum())
    return None if total == 0 else 1 - float((_within(values, cells) ** 2).sum()) / total
