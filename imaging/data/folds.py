"""Patients dealt into folds, and the tables of cross-validation: everybody is tested once, by what never met him."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from imaging.data.manifest import Case
from imaging.errors import ConfigError, Reason


@dataclass(frozen=True)
class FoldMember:
    """One training of a cross-validation, by its cases, each with its split here.

    Args:
        fold: Number of the fold that it is tested on; None without folds.
        site: Site that it is tested on and never sees; None without held-out sites.
        cases: What it learns from and is validated on, in the order of the table.
        tested: What it is tested on.
    """

    fold: int | None
    site: str | None
    cases: tuple[Case, ...]
    tested: tuple[Case, ...]

    @property
    def name(self) -> str:
        """Made for a folder: `fold-2`, `without-north`, or both; `all` for neither."""
        fold = [] if self.fold is None else [f"fold-{self.fold}"]
        site = [] if self.site is None else [f"without-{re.sub(r'[^A-Za-z0-9]+', '-', self.site)}"]
        return "-".join([*site, *fold]) or "all"


def deal(cases: Sequence[Case], count: int) -> dict[str, int]:
    """The fold, from 0 on, of every patient: in each, as many as can be of each site with the same labels.

    Patients of one site and the same labels stand together, in the order of the SHA-256 of their names, and all are
    dealt out in turn: numbers of patients differ by one at most, over all and in each such group. The order of the
    table does not matter. Raises ConfigError for fewer patients than folds.
    """
    groups: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for case in cases:
        sites, labels = groups[case.patient_id]
        sites.add(case.site)
        labels.add(case.label)
    if not 2 <= count <= len(groups):
        raise ConfigError(
            f"folds: found {count}; allowed are 2 to {len(groups)}, the number of patients", Reason.CONFIG_INVALID
        )

    def place(patient: str) -> tuple[list[str], list[str], bytes]:
        sites, labels = groups[patient]
        return sorted(sites), sorted(labels), hashlib.sha256(patient.encode()).digest()

    return {patient: number % count for number, patient in enumerate(sorted(groups, key=place))}


def members(cases: Sequence[Case], folds: int | None, sites: Collection[str]) -> Iterator[FoldMember]:
    """Every combination of a fold and a held-out site; cases of the split `test` are kept for later and never dealt.

    A member is tested on the patients of its fold and site, and learns from nobody of that fold and nobody of that
    site; so all members together test every image once. With folds the next one validates; without, the table says.
    Raises ConfigError for fewer than three folds, an unknown site, and a member without cases on any side.
    """
    dealt = [case for case in cases if case.split != "test"]
    if unknown := sorted(set(sites) - {case.site for case in dealt}):
        known = sorted({case.site for case in dealt})
        raise ConfigError(f"held-out sites: found {unknown}; allowed are {known}", Reason.CONFIG_INVALID)
    if folds is not None and folds < 3:
        raise ConfigError(
            f"folds: found {folds}; allowed are 3 or more: one tests, one validates, the others are learnt from",
            Reason.CONFIG_INVALID,
        )
    fold_of = {} if folds is None else deal(dealt, folds)
    away = _patients_of_sites(dealt, sites)
    held_out: list[str | None] = [*sorted(sites)] or [None]
    numbers: list[int | None] = [*range(folds or 0)] or [None]
    for site in held_out:
        for fold in numbers:
            learnt, tested = [], []
            for case in dealt:
                is_away = site is not None and case.patient_id in away[site]
                is_out = fold is not None and fold_of[case.patient_id] == fold
                if site in (None, case.site) and (is_out or fold is None):
                    tested.append(replace(case, split="test"))
                elif not is_away and not is_out:
                    learnt.append(_fitted(case, fold_of, fold, folds))
            yield _whole(FoldMember(fold, site, tuple(learnt), tuple(tested)))


def _patients_of_sites(cases: Sequence[Case], sites: Collection[str]) -> dict[str, set[str]]:
    """Patients who have been at each site: none of their images anywhere is learnt from when it is held out."""
    return {site: {case.patient_id for case in cases if case.site == site} for site in sites}


def _fitted(case: Case, fold_of: dict[str, int], fold: int | None, folds: int | None) -> Case:
    if fold is None or folds is None:
        return case
    return replace(case, split="val" if fold_of[case.patient_id] == (fold + 1) % folds else "train")


def _whole(member: FoldMember) -> FoldMember:
    splits = {case.split for case in (*member.cases, *member.tested)}
    if missing := sorted({"train", "val", "test"} - splits):
        raise ConfigError(
            f"folds: {member.name} has no case to {' or '.join(missing)} on; allowed are fewer folds, or more "
            "patients at each site",
            Reason.CONFIG_INVALID,
        )
    return member
