"""Cases as patients who belong together: who may never stand on two sides, their folds, and who validates.

All draws are functions of names alone, so that another order of the table, machine or day divides the same way.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from imaging.data.manifest import Case
from imaging.errors import ConfigError, Reason
from imaging.table import likened


@dataclass(frozen=True)
class SharedPicture:
    """Two cases with one picture, by id: `identical` pixels, or `near` by likeness."""

    kind: Literal["identical", "near"]
    first: str
    second: str


@dataclass(frozen=True)
class Unit:
    """A patient, or patients who share a picture: always on one side.

    Args:
        name: Of its first case in order of name.
        cases: Its cases, in order of name.
    """

    name: str
    cases: tuple[Case, ...]

    @property
    def sites(self) -> frozenset[str]:
        return frozenset(case.site for case in self.cases)

    @property
    def stratum(self) -> str:
        """The labels that its cases have: folds hold as many of each."""
        return "|".join(sorted({case.label for case in self.cases}))

    @property
    def rank(self) -> str:
        """A place in an order that has nothing to do with the patient."""
        return hashlib.sha256(self.name.encode()).hexdigest()


@dataclass(frozen=True)
class Cohort:
    """All units of all sites, in order of name."""

    units: tuple[Unit, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted({site for unit in self.units for site in unit.sites}))

    @property
    def cases(self) -> dict[str, Case]:
        """Every case by its id."""
        return {case.case_id: case for unit in self.units for case in unit.cases}

    def at(self, site: str) -> list[Unit]:
        """Units with cases at a site."""
        return [unit for unit in self.units if site in unit.sites]

    def learnt_from(self, sites: Iterable[str]) -> list[Unit]:
        """Units of which nothing is at any other site: these may be learnt from where the others are tested."""
        allowed = frozenset(sites)
        return [unit for unit in self.units if unit.sites <= allowed]


def group_cases(
    cases: Sequence[Case], shared: Sequence[SharedPicture], across_sites: Literal["refuse", "group"]
) -> tuple[Cohort, list[str]]:
    """The cohort, and a remark on each pair of patients that became one.

    Raises ConfigError naming both files where a picture, or cases where a patient_id, stands at two sites, unless
    `across_sites` groups them.
    """
    by_id = {case.case_id: case for case in cases}
    pairs = [(by_id[one.first], by_id[one.second], f"{one.kind} pictures") for one in shared]
    pairs += _same_patients(cases)
    if across_sites == "refuse":
        _refuse_across(pairs)
    owner = {case.case_id: case.case_id for case in cases}

    def root(name: str) -> str:
        while owner[name] != name:
            name = owner[name]
        return name

    remarks = []
    for first, second, why in pairs:
        ends = sorted((root(first.case_id), root(second.case_id)))
        owner[ends[1]] = ends[0]
        if (first.site, first.patient_id) != (second.site, second.patient_id):
            remarks.append(f"{_named(first)} and {_named(second)}: {why}; they stay on one side")
    members: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.case_id):
        members[root(case.case_id)].append(case)
    return Cohort(tuple(Unit(name, tuple(of)) for name, of in sorted(members.items()))), remarks


def _same_patients(cases: Sequence[Case]) -> list[tuple[Case, Case, str]]:
    """Each patient's first case with each further one, the same patient_id at another site included."""
    first: dict[str, Case] = {}
    pairs = []
    for case in cases:
        known = first.setdefault(likened(case.patient_id), case)
        if known is not case:
            pairs.append((known, case, f"patient_id '{case.patient_id}'"))
    return pairs


def _refuse_across(pairs: Iterable[tuple[Case, Case, str]]) -> None:
    torn = [pair for pair in pairs if pair[0].site != pair[1].site]
    if torn:
        first, second, why = torn[0]
        raise ConfigError(
            f"manifest: {len(torn)} pairs of cases at two sites are one patient or picture, first {_named(first)} "
            f"({first.image}) and {_named(second)} ({second.image}): {why}; allowed is each at one site: leave one out "
            "(exclude), give two persons two patient_ids, or say across_sites: group",
            Reason.CONFIG_INVALID,
        )


def _named(case: Case) -> str:
    return f"case '{case.case_id}' of site '{case.site}'"


def folds_of(cohort: Cohort, count: int) -> dict[str, int]:
    """The fold of every unit: inside each site and each stratum as many cases as can be, the same for all arms.

    Raises ConfigError for a site with fewer units than folds.
    """
    chosen: dict[str, int] = {}
    for site in cohort.sites:
        units = cohort.at(site)
        if len(units) < count:
            raise ConfigError(
                f"designs, folds: found {count}, and {len(units)} patients at site '{site}'; allowed is at most as "
                "many folds as the smallest site has patients",
                Reason.CONFIG_INVALID,
            )
        total: Counter[int] = Counter()
        for _, members in sorted(_strata(units).items()):
            own: Counter[int] = Counter()
            for unit in sorted(members, key=lambda unit: (-len(unit.cases), unit.rank)):
                fold = chosen.setdefault(unit.name, min(range(count), key=lambda k: (own[k], total[k], k)))
                own[fold] += len(unit.cases)
                total[fold] += len(unit.cases)
    return chosen


def divided(
    units: Sequence[Unit], share: float, nothing: frozenset[str] = frozenset()
) -> tuple[list[Unit], list[Unit]]:
    """Units that are learnt from, and those that validate: of every site and stratum the share.

    `nothing` are the labels of cases without anything to find. A site of two units or more that have something gives
    one of them at least: by cases without a lesion alone no checkpoint can be chosen.
    """
    validating: set[str] = set()
    by_site: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_site[min(unit.sites)].append(unit)
    for _, members in sorted(by_site.items()):
        drawn = [unit for part in _strata(members).values() for unit in part[: round(share * len(part))]]
        telling = [unit for unit in members if not {case.label for case in unit.cases} <= nothing]
        if len(telling) > 1 and not any(unit in telling for unit in drawn):
            drawn.append(max(_strata(telling).values(), key=lambda part: (len(part), part[0].rank))[0])
        validating |= {unit.name for unit in drawn}
    return [u for u in units if u.name not in validating], [u for u in units if u.name in validating]


def in_turn(units: Sequence[Unit]) -> list[Unit]:
    """Units in an order whose every beginning holds the strata alike; the first five are among the first ten."""
    parts = _strata(units)
    places = [((k + 0.5) / len(part), name, unit) for name, part in parts.items() for k, unit in enumerate(part)]
    return [unit for _, _, unit in sorted(places, key=lambda place: (place[0], place[1], place[2].rank))]


def first_cases(units: Iterable[Unit], count: int) -> list[Unit]:
    """The shortest beginning with `count` cases or more; none where there are not so many."""
    taken: list[Unit] = []
    for unit in units:
        if sum(len(one.cases) for one in taken) >= count:
            break
        taken.append(unit)
    return taken if sum(len(one.cases) for one in taken) >= count else []


def _strata(units: Iterable[Unit]) -> Mapping[str, list[Unit]]:
    """Units by stratum, each in order of rank."""
    parts: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda unit: unit.rank):
        parts[unit.stratum].append(unit)
    return parts
