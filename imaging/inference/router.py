"""Which package reads what: every study × package ends in a group to read, or in the reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from imaging.dicom.headers.passport import Passport
from imaging.dicom.index import Index, Series
from imaging.dicom.select import Group, Rejected, Selection
from imaging.errors import Reason, ReasonCode
from imaging.exam.result import Caution
from imaging.package import Package

_PHANTOMS_ONLY: Final = Caution(
    "PHANTOMS ONLY",
    "The algorithm learnt from phantoms alone and never saw an acquisition like this one; it was run because it was "
    "named. Its answer says nothing about a patient.",
)


@dataclass(frozen=True)
class StudyTask:
    """A group of one study that a package reads.

    `unseen` counts the places that may hold more images of the study; `beside` names the packages that answer the same
    question of it in the same run.
    """

    study_uid: str
    package: Package
    group: Group
    unseen: int = 0
    beside: frozenset[str] = frozenset()

    @property
    def caution(self) -> Caution | None:
        """What is said before the answer where the package was named though it never saw the like."""
        return _PHANTOMS_ONLY if self.package.is_foreign_to(_passports(self.group)) else None


@dataclass(frozen=True)
class NotApplicable:
    """A study that a package does not read, and why."""

    study_uid: str
    package: Package
    reason: ReasonCode


@dataclass(frozen=True)
class RunPlan:
    """Every study × package in a stable order. `rejected` names each image file that a package leaves out, and why."""

    works: tuple[StudyTask | NotApplicable, ...]
    rejected: dict[tuple[str, str], tuple[Rejected, ...]]

    def tasks(self) -> list[StudyTask]:
        return [work for work in self.works if isinstance(work, StudyTask)]

    def together(self, task: StudyTask) -> list[StudyTask]:
        """The tasks that answer the same question of the same study, the given one among them."""
        names = {task.package.name, *task.beside}
        return [other for other in self.tasks() if other.study_uid == task.study_uid and other.package.name in names]

    def left_out(self, work: StudyTask | NotApplicable) -> tuple[Rejected, ...]:
        return self.rejected[work.study_uid, work.package.name]


def plan(index: Index, packages: Sequence[Package]) -> RunPlan:
    """What each package reads of each study."""
    works: list[StudyTask | NotApplicable] = []
    rejected: dict[tuple[str, str], tuple[Rejected, ...]] = {}
    for study_uid, series in index.studies().items():
        selections = {package.name: _select(series, package) for package in packages}
        groups = {name: selection.group for name, selection in selections.items() if selection.group}
        held_back = dict(_held_back(packages, groups))
        beside = _beside(packages, groups.keys() - held_back.keys())
        unseen = len(index.unseen.get(study_uid, ()))
        for package in packages:
            name, selection = package.name, selections[package.name]
            rejected[study_uid, name] = selection.rejected
            if name not in groups:
                works.append(NotApplicable(study_uid, package, _most_telling(selection)))
            elif reason := held_back.get(name):
                works.append(NotApplicable(study_uid, package, reason))
                images = {ref.instance.sop_uid: ref.instance for ref in groups[name].images()}
                rejected[study_uid, name] += tuple((instance, reason) for instance in images.values())
            else:
                works.append(StudyTask(study_uid, package, groups[name], unseen, beside[name]))
    return RunPlan(tuple(works), rejected)


def _held_back(packages: Sequence[Package], groups: Mapping[str, Group]) -> Iterator[tuple[str, Reason]]:
    """The packages that do not run by themselves on what they could read, and why.

    Whoever is named runs. What learnt from phantoms alone needs acquisitions that it saw. Of several that answer one
    question the one runs that saw these acquisitions, else the one that stands in for another.
    """
    for question in _questions(packages):
        runners = []
        for package in question:
            if package.name not in groups:
                continue
            if package.is_foreign_to(_passports(groups[package.name])) and not package.explicit:
                yield package.name, Reason.UNSEEN_ACQUISITION
            else:
                runners.append(package)
        named = [package for package in runners if package.explicit]
        fits = sorted(runners, key=lambda package: _fitness(package, groups[package.name]), reverse=True)
        kept = named or fits[:1]
        yield from ((package.name, Reason.ANOTHER_STANDS_IN) for package in runners if package not in kept)


def _fitness(package: Package, group: Group) -> tuple[bool, bool]:
    return package.saw(_passports(group)), bool(package.description.card.instead_of)


def _beside(packages: Sequence[Package], running: Set[str]) -> dict[str, frozenset[str]]:
    """Of each package that runs on a study the others that answer the same question of it."""
    names = [{package.name for package in question} & running for question in _questions(packages)]
    return {name: frozenset(together - {name}) for together in names for name in together}


def _questions(packages: Sequence[Package]) -> list[list[Package]]:
    """The packages, parted by what they answer: who stands in for another, or for the same, answers what that does."""
    questions: list[tuple[set[str], list[Package]]] = []
    for package in packages:
        names, members = {package.name, *package.description.card.instead_of}, [package]
        for question in [question for question in questions if question[0] & names]:
            questions.remove(question)
            names, members = names | question[0], [*question[1], *members]
        questions.append((names, members))
    return [members for _, members in questions]


def _passports(group: Group) -> list[Passport]:
    return [ref.instance.passport for ref in group.images()]


def _select(series: list[Series], package: Package) -> Selection:
    """The group, of an exam of several volumes only those that the package's recipe reads."""
    selection = package.modality.select(series, package.anatomy)
    if selection.group is None or not selection.group.key:
        return selection
    group, left = selection.group.only(package.roles)
    reason = Reason.ROLE_NOT_READ if group.roles else Reason.MISSING_ROLE
    rejected = {ref.instance.sop_uid: (ref.instance, ref.instance.refusal or reason) for ref in left}
    return Selection(group if group.roles else None, (*selection.rejected, *rejected.values()))


def _most_telling(selection: Selection) -> ReasonCode:
    """Of several reasons why no image of a study fits, the one that tells the user most."""
    ranked = [(reason.rank, reason) for _, reason in selection.rejected if reason.rank is not None]
    return min(ranked, key=lambda pair: pair[0], default=(0, Reason.NO_PACKAGE))[1]
