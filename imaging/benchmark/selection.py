"""Which arm would one have chosen for a hospital, by each selection rule, and what would it have given there?

`train_val` chooses by validation cases of the training sites, `leave_one_domain_out` by training sites left out in
turn; both are values that the training saw (`Trial.chosen_by`). `oracle` chooses by the held-out site itself: nobody
can, and it stands here as the bound beside which the others are. Only arms that have not seen the target are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imaging.benchmark.endpoints import Endpoint
from imaging.benchmark.panels import by_arm
from imaging.benchmark.trials import Trial

RULES = ("train_val", "leave_one_domain_out", "oracle")
HEADLINE_RULES = RULES[:2]


@dataclass(frozen=True, slots=True)
class ArmChoice:
    """The arm that a rule chooses for a held-out site, and that arm's figure there; None and `why` where it cannot."""

    rule: str
    site: str
    arm: str | None
    figure: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ArmSelection:
    """Every rule on every held-out site. `macro` is the mean over sites of what each rule gave, where it chose at all.

    `disagreeing` are the sites for which not all rules that choose there choose the same arm.
    """

    choices: tuple[ArmChoice, ...]
    macro: dict[str, float | None]
    disagreeing: tuple[str, ...]


def selection(
    trials: Sequence[Trial], figures: Mapping[str, Mapping[str, float | None]], endpoint: Endpoint
) -> ArmSelection:
    """The choices of every rule among blind arms; `figures` gives an arm's figure at each held-out site."""
    sites = sorted({site for of_arm in figures.values() for site in of_arm})
    arms = {arm: found for arm, found in by_arm(trials).items() if arm in figures}
    choices = [_choice(rule, site, arms, figures, endpoint) for site in sites for rule in RULES]
    macro: dict[str, float | None] = {}
    for rule in RULES:
        values = [choice.figure for choice in choices if choice.rule == rule]
        known = [value for value in values if value is not None]
        macro[rule] = float(np.mean(known)) if known and len(known) == len(values) else None
    chosen_at = {site: {c.arm for c in choices if c.site == site and c.arm is not None} for site in sites}
    return ArmSelection(tuple(choices), macro, tuple(site for site in sites if len(chosen_at[site]) > 1))


def _choice(
    rule: str,
    site: str,
    arms: Mapping[str, Sequence[Trial]],
    figures: Mapping[str, Mapping[str, float | None]],
    endpoint: Endpoint,
) -> ArmChoice:
    seen: dict[str, float] = {}
    for arm, trials in arms.items():
        value = _oracle(figures[arm].get(site), endpoint) if rule == "oracle" else _seen(rule, site, trials)
        if value is None:
            return ArmChoice(rule, site, None, None, f"n/a (no value of this rule for arm '{arm}')")
        seen[arm] = value
    if not seen:
        return ArmChoice(rule, site, None, None, "n/a (no arm)")
    best = max(seen, key=lambda arm: seen[arm])  # of equals the one that stands first
    return ArmChoice(rule, site, best, figures[best].get(site))


def _oracle(value: float | None, endpoint: Endpoint) -> float | None:
    return value if value is None or endpoint.higher_is_better else -value


def _seen(rule: str, site: str, trials: Sequence[Trial]) -> float | None:
    """Mean over trainings of what the rule saw; None where one of them lacks it."""
    values = [trial.chosen_by.get(rule) for trial in trials if trial.test_site == site and not trial.lost]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
