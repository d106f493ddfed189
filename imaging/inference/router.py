"""Which package reads what: every study × package ends in a group to read, or in the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imaging.dicom.index import Index, Series
from imaging.dicom.select import Group, Rejected, Selection
from imaging.errors import Reason, ReasonCode
from imaging.package import Package


@dataclass(frozen=True)
class StudyTask:
    """A group of one study that a package reads; `unseen` counts the places that may hold more images of it."""

    study_uid: str
    package: Package
    group: Group
    unseen: int = 0


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

    def left_out(self, work: StudyTask | NotApplicable) -> tuple[Rejected, ...]:
        return self.rejected[work.study_uid, work.package.name]


def plan(index: Index, packages: Sequence[Package]) -> RunPlan:
    """What each package reads of each study."""
    works: list[StudyTask | NotApplicable] = []
    rejected: dict[tuple[str, str], tuple[Rejected, ...]] = {}
    for study_uid, series in index.studies().items():
        for package in packages:
            selection = _select(series, package)
            rejected[study_uid, package.name] = selection.rejected
            if selection.group:
                works.append(StudyTask(study_uid, package, selection.group, len(index.unseen.get(study_uid, ()))))
            else:
                works.append(NotApplicable(study_uid, package, _most_telling(selection)))
    return RunPlan(tuple(works), rejected)


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
