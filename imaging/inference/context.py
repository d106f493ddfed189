"""Tables of clinical facts → which exam each value belongs to.

PatientIDs are compared by their digests, as everywhere here, and no remark holds one: rows are named by their line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from imaging.dicom.index import Index
from imaging.dicom.instance import is_one_patient
from imaging.exam.context import Context, FactTable, Key, Stated
from imaging.inference.router import RunPlan, StudyTask


@dataclass(frozen=True)
class Assigned:
    """What is known of each (study UID, package name), and a remark on each row of a table that was not used."""

    contexts: dict[tuple[str, str], dict[str, Stated]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def of(self, task: StudyTask) -> Context:
        """The facts of a task; empty where nobody states any."""
        return self.contexts.get((task.study_uid, task.package.name), {})


def assign(tables: Iterable[FactTable], index: Index, planned: RunPlan) -> Assigned:
    """The facts of every exam whose modality declares them.

    A PatientID is used where it means one patient with one such study: a value of one year says nothing of another's.
    """
    contexts: dict[tuple[str, str], dict[str, Stated]] = defaultdict(dict)
    remarks: list[str] = []
    for table in tables:
        remarks += _assign(table, index, planned, contexts)
    return Assigned(dict(contexts), tuple(remarks))


def _assign(
    table: FactTable, index: Index, planned: RunPlan, contexts: dict[tuple[str, str], dict[str, Stated]]
) -> Iterator[str]:
    """Enters each row that is used into `contexts`; the remarks on the others."""
    fact = table.fact
    yield from (f"The table of {fact.title} {remark}" for remark in table.remarks)
    tasks: dict[str, list[StudyTask]] = defaultdict(list)
    for task in planned.tasks():
        if fact in task.package.modality.context:
            for name in _names(task, table.key):
                tasks[name].append(task)
    shared = _shared_patient_ids(index) if table.key == "PatientID" else frozenset()
    for name, row in table.rows.items():
        if why := _unfit(table, name in shared, {task.study_uid for task in tasks[name]}):
            yield f"The {fact.title} in line {row.line} of the table was not used: {why}"
            continue
        whose = "study" if table.key == "StudyInstanceUID" else "patient"
        stated = Stated(row.value, f"the table given with {fact.option} states it for this {whose}, by {table.key}")
        for task in tasks[name]:
            contexts[task.study_uid, task.package.name][fact.name] = stated


def _unfit(table: FactTable, is_shared: bool, studies: set[str]) -> str:
    """Why a row is not used; empty where it is."""
    if not studies:
        return f"its {table.key} is that of no study that a package of {table.fact.exams} reads"
    if is_shared:
        return "its PatientID stands for more than one patient; name the study by StudyInstanceUID"
    if len(studies) > 1:
        return f"its patient has {len(studies)} studies that are read; name the one meant by StudyInstanceUID"
    return ""


def _names(task: StudyTask, key: Key) -> Iterator[str]:
    """What a row may call the study of a task."""
    if key == "StudyInstanceUID":
        yield task.study_uid
    else:
        yield from {ref.instance.patient_id_key for ref in task.group.images()} - {""}


def _shared_patient_ids(index: Index) -> frozenset[str]:
    """The digests of PatientIDs that stand for several patients."""
    patients: dict[str, set[str]] = defaultdict(set)
    for series in index.series:
        for instance in series.instances:
            patients[instance.patient_id_key].add(instance.patient_key)
    return frozenset(name for name, keys in patients.items() if not is_one_patient(keys))
