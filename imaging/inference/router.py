"""Which package reads what: every study × package ends in a group to read, or in the reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from imaging.dicom.index import Index, Series
from imaging.dicom.select import RULES, Group, Selection, select
from imaging.errors import Reason
from imaging.package import Package

# Of several reasons why no image of a study fits, the one that tells the user most is given.
_TELLING = (Reason.UNKNOWN_ANATOMY, Reason.OTHER_ANATOMY, Reason.NO_TISSUE_REGION, Reason.NO_PACKAGE)


@dataclass(frozen=True)
class Work:
    """One study for one package: `group` is what it reads, or None with the `reason` why it does not apply."""

    study_uid: str
    series: tuple[Series, ...]
    package: Package
    group: Group | None
    reason: Reason | None
    rejected: tuple[tuple[str, Reason], ...]


def plan(index: Index, packages: Sequence[Package]) -> list[Work]:
    """Every study × package in a stable order. `rejected` names each file that the package does not read, and why."""
    return [_work(study_uid, series, package) for study_uid, series in index.studies().items() for package in packages]


def _work(study_uid: str, series: list[Series], package: Package) -> Work:
    selection = select(series, RULES[package.description.recipe.name], package.anatomy)
    rejected = tuple((instance.name, reason) for instance, reason in selection.rejected)
    reason = None if selection.group else _most_telling(selection)
    return Work(study_uid, tuple(series), package, selection.group, reason, rejected)


def _most_telling(selection: Selection) -> Reason:
    counts = Counter(reason for _, reason in selection.rejected)
    return next((reason for reason in _TELLING if counts[reason]), Reason.NO_PACKAGE)
