"""An export → results: index, plan, then task by task read, report, publish. One bad study never costs another.

What the ledger already holds for the same input is not done again, so the same command after any interruption ends
with the same tree.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Final, Protocol

from PIL import Image as Picture

from imaging.dicom.archives import Unpacked, unpack_archives
from imaging.dicom.index import FileState, Index, build_index
from imaging.errors import ConfigError, ImagingError, OutputError, Reason, ReasonCode
from imaging.exam.context import FactTable
from imaging.image import Array, Origin
from imaging.inference.answer import Answer, answer, compared
from imaging.inference.context import assign
from imaging.inference.ledger import Issued, Ledger, digest
from imaging.inference.processes import Delivery, Processes, RunLimits, TaskFrame
from imaging.inference.router import NotApplicable, RunPlan, StudyTask, plan
from imaging.inference.store import clear_staging, publish, study_folder, write_file
from imaging.inference.summary import (
    Json,
    not_applicable,
    not_released,
    released,
    selection_of,
    study_of,
    summary_of,
)
from imaging.modalities.reasons import reason_of
from imaging.package import Package
from imaging.report.document import Document, Issue, IssuedObject
from imaging.report.kind import Scheme
from imaging.report.page import render

_STAGED: Final = ".unpacked-"  # before the process's number


class RunProgress(Protocol):
    """Who listens to a run: told how many frames are to come, each frame done, and each study's outcome."""

    def begin(self, frames: int) -> None: ...
    def frame(self) -> None: ...
    def study(self, folder: str, results: Sequence[Json]) -> None: ...


@dataclass(frozen=True)
class InferenceRun:
    """What to do: the export, where results go, which packages, and what the user said of it.

    `codes` says how CAD reports write SNOMED codes; `also` names the kinds of objects to write beside those that every
    result has (`report.write.ON_REQUEST`). `still_segmentations` segments stills without place in the patient too.
    `facts` are clinical facts that no image states. `fresh` forgets what the ledger holds; `retry_failed` does again
    what has no answer yet. `unpack` reads zip and tar archives of the export.
    """

    export: Path
    out: Path
    packages: tuple[Package, ...]
    site: str | None = None
    content_time: datetime | None = None
    device: str = "cpu"
    codes: Scheme = "sct"
    also: tuple[str, ...] = ()
    still_segmentations: bool = False
    facts: tuple[FactTable, ...] = ()
    unpack: bool = False
    fresh: bool = False
    retry_failed: bool = False
    limits: RunLimits = field(default_factory=RunLimits)


def run_inference(run: InferenceRun, progress: RunProgress) -> Json:
    """Every study × package answered and published under `run.out`; the summary is given back, and written last.

    Raises InputError when there is no export, PackageError when a package is damaged, OutputError when the output is
    in use or cannot be written: what was published by then stays, and the same command goes on from there.
    """
    with staged_archives(run.export, run.out if run.unpack else None) as unpacked:
        return _run(run, progress, unpacked)


@contextmanager
def staged_archives(export: Path, beside: Path | None) -> Iterator[Unpacked | None]:
    """The archives of an export, unpacked in a folder of `beside` that is gone afterwards; nothing without one."""
    if beside is None:
        yield None
        return
    folder = beside / f"{_STAGED}{os.getpid()}"
    for left in beside.glob(f"{_STAGED}*"):  # of a run that was killed
        if left == folder or not Path(f"/proc/{left.name.removeprefix(_STAGED)}").exists():
            shutil.rmtree(left)
    folder.mkdir(parents=True)
    try:
        yield unpack_archives(export, folder)
    finally:
        shutil.rmtree(folder)


def _run(run: InferenceRun, progress: RunProgress, unpacked: Unpacked | None) -> Json:
    begin = perf_counter()
    index = build_index(run.export, run.site, run.limits.workers, mr_parts(run.packages), unpacked)
    planned = plan(index, run.packages)
    names = [package.name for package in run.packages]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--package: {twice} named twice; give each package once", Reason.CONFIG_INVALID)
    with Ledger(run.out, run.fresh) as ledger, Processes(run.limits, run.device) as processes:
        clear_staging(run.out)
        state = _RunState(run, index, planned, ledger, progress)
        state.seconds["index"] = perf_counter() - begin
        state.answer_pending(processes)
        return state.close()


def mr_parts(packages: Iterable[Package]) -> frozenset[str]:
    """The body parts of which packages read MR images."""
    return frozenset[str]().union(*(package.modality.mr_parts for package in packages))


def has_failure(summary: Json) -> bool:
    """Whether an applicable study got no answer: nothing of it could be read, or its report was not released; or
    whether there are places of the export that nobody could look into."""
    return bool(summary["unseen"]) or any(
        result["applicability"] == "applicable" and result["completeness"] == "none"
        for study in summary["studies"]
        for result in study["results"]
    )


class _RunState:
    """A run on its way: what is answered, from this run or an earlier one."""

    def __init__(
        self, run: InferenceRun, index: Index, planned: RunPlan, ledger: Ledger, progress: RunProgress
    ) -> None:
        self._run = run
        self._index = index
        self._plan = planned
        self._context = assign(run.facts, index, planned)
        self._ledger = ledger
        self._when = ledger.content_time(run.content_time)
        self._delivery = Delivery(self._when, run.codes, run.also, run.still_segmentations)
        self._progress = progress
        self._told: dict[tuple[str, str], Json] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    def answer_pending(self, processes: Processes) -> None:
        """Every task that the ledger does not hold yet, its frames decoded ahead of their turn."""
        pending = list(self._pending())
        begin = perf_counter()
        if pending:
            processes.start({task.package.identity: task.package for task, _ in pending}.values())
        self.seconds["start"] = perf_counter() - begin
        parts = [part for task, _ in pending for part in task.group.parts()]
        owner = [number for number, (task, _) in enumerate(pending) for _ in task.group.parts()]
        self._progress.begin(sum(len(part.source_refs()) for part in parts))
        frames = groupby(processes.frames(parts), key=lambda frame: owner[frame.item])
        to_come = Counter(_question(task) for task, _ in pending)
        waiting: dict[tuple[str, frozenset[str]], list[tuple[StudyTask, str, Answer]]] = defaultdict(list)
        for number, own in frames:
            task, fingerprint = pending[number]
            question = _question(task)
            given = answer(task, self._counted(own), processes, self._context.of(task))
            for part, spent in given.seconds.items():
                self.seconds[part] += spent
            waiting[question].append((task, fingerprint, given))
            if len(waiting[question]) == to_come[question]:
                self._publish_together(waiting.pop(question), processes)

    def _publish_together(self, answered: list[tuple[StudyTask, str, Answer]], processes: Processes) -> None:
        """The answers to one question of a study, of one package or of several that are then compared."""
        given = [answer for _, _, answer in answered]
        for (task, fingerprint, _), final in zip(answered, compared(given) if len(given) > 1 else given, strict=True):
            told, files, issued = self._release(task, final, processes)
            self._publish(task, fingerprint, told, files, issued)

    def close(self) -> Json:
        """The summary, the page and every study's part, written where they changed."""
        studies = [self._study(uid, list(works)) for uid, works in groupby(self._plan.works, lambda w: w.study_uid)]
        files = _file_states(self._index, self._plan, studies)
        remarks = {**self._index.remarks, "": (*self._index.remarks.get("", ()), *self._context.remarks)}
        summary = summary_of(self._run.packages, studies, files, remarks, self._when)
        summary["unseen"] = list(self._index.unseen.get("", ()))
        _write_changed(self._run.out / "summary.json", _encoded(summary))
        _write_changed(self._run.out / "index.html", render(summary, self._run.out).encode())
        self._ledger.close_run(files, dict(self.seconds) if "decode" in self.seconds else {})
        return summary

    def _pending(self) -> Iterator[tuple[StudyTask, str]]:
        for work in self._plan.works:
            if isinstance(work, NotApplicable):
                self._told[work.study_uid, work.package.name] = not_applicable(work.package.name, work.reason)
                continue
            fingerprint = self._fingerprint(work)
            told = self._held(work, fingerprint)
            if told is not None:
                self._told[work.study_uid, work.package.name] = told
            elif Reason.MIXED_PATIENTS in {ref.instance.refusal for ref in work.group.images()}:
                self._publish(work, fingerprint, _failed(work, Reason.MIXED_PATIENTS), {})
            else:
                yield work, fingerprint

    def _held(self, task: StudyTask, fingerprint: str) -> Json | None:
        """What the ledger holds of a task; None where it lacks one of those that answer the same question."""
        others = [(other, self._fingerprint(other)) for other in self._plan.together(task) if other is not task]
        held = [
            self._ledger.result(_key(other), its_own, self._run.retry_failed)
            for other, its_own in [(task, fingerprint), *others]
        ]
        return None if None in held else held[0]

    def _fingerprint(self, task: StudyTask) -> str:
        """Changes when anything does that the answer rests on: the files, package, site, time, codes and facts."""
        run = self._run
        files = []
        for ref in task.group.images():
            try:
                found = ref.instance.path.stat()
                files.append(f"{ref.instance.sop_uid} {ref.instance.refusal} {found.st_size} {found.st_mtime_ns}")
            except OSError:
                files.append(f"{ref.instance.sop_uid} vanished")
        gaps = [sentence for _, sentence in task.group.gaps]
        stated = [f"{name} {fact!r}" for name, fact in sorted(self._context.of(task).items())]
        told = (task.package.identity, run.site or "", self._when.isoformat(), run.device, run.codes, *run.also)
        told += ("still segmentations",) if run.still_segmentations else ()
        beside = [f"beside {name}" for name in sorted(task.beside)]
        return digest(*told, *stated, *beside, *([str(task.unseen)] if task.unseen else []), *gaps, *files)

    def _counted(self, frames: Iterable[TaskFrame]) -> Iterator[TaskFrame]:
        for frame in frames:
            yield frame
            for _ in frame.refs:
                self._progress.frame()

    def _release(
        self, task: StudyTask, given: Answer, processes: Processes
    ) -> tuple[Json, dict[str, bytes], Issued | None]:
        """What is said of the task, the files of its folder and their issue; no file when nothing was released."""
        begin = perf_counter()
        try:
            documents, issued = self._documents(task, given, processes)
        except ImagingError as error:
            return _failed(task, error.reason), {}, None
        folder = _folder(task)
        shown = [(f"preview-{n:03d}.png", thumb) for n, thumb in enumerate(given.thumbnails, start=1)]
        files = {document.file_name: document.data for document in documents}
        files |= {name: _png(thumb.pixels) for name, thumb in shown}
        told = released(
            given.result,
            [(f"{folder}/{document.file_name}", document) for document in documents],
            [(f"{folder}/{name}", thumb) for name, thumb in shown],
        )
        self.seconds["report"] += perf_counter() - begin
        return told, files, issued

    def _documents(self, task: StudyTask, given: Answer, processes: Processes) -> tuple[list[Document], Issued]:
        """The documents, written again where they supersede an earlier issue: only what they say tells whether."""
        paths = {ref.instance.sop_uid: ref.instance.path for ref in task.group.images()}
        write = partial(processes.report, task.package, given.result, given.thumbnails, paths)
        documents = write(self._delivery)
        draft = digest(*(d.sop_instance_uid for d in documents if d.kind not in self._run.also))
        earlier = self._ledger.superseded(_key(task), draft)
        if earlier is not None:
            documents = write(replace(self._delivery, earlier=earlier))
        places = [IssuedObject(d.kind, d.series_uid, d.sop_class_uid, d.sop_instance_uid) for d in documents]
        return documents, Issued(draft, Issue(1 if earlier is None else earlier.number + 1, tuple(places)))

    def _publish(
        self, task: StudyTask, fingerprint: str, told: Json, files: dict[str, bytes], issued: Issued | None = None
    ) -> None:
        begin = perf_counter()
        folder = _folder(task)
        if files or (self._run.out / folder).exists():
            publish(self._run.out, folder, files)
        self._ledger.record(_key(task), fingerprint, told, [f"{folder}/{name}" for name in files], issued)
        self._told[task.study_uid, task.package.name] = told
        self._progress.study(study_folder(task.study_uid), [told])
        self.seconds["write"] += perf_counter() - begin

    def _study(self, uid: str, works: list[StudyTask | NotApplicable]) -> Json:
        """One study's part of the summary, written as its findings.json."""
        instances = [i for series in self._index.studies()[uid] for i in series.instances]
        grouped = [ref.instance for work in works if isinstance(work, StudyTask) for ref in work.group.images()]
        about = grouped or instances
        modality = "\\".join(sorted({i.modality for i in about}))
        results = [self._told[uid, work.package.name] | selection_of(work, self._plan.left_out(work)) for work in works]
        study = study_of(uid, modality, Origin.common([i.origin for i in about]), results)
        _write_changed(self._run.out / study_folder(uid) / "findings.json", _encoded(study))
        return study


def _failed(task: StudyTask, reason: ReasonCode) -> Json:
    return not_released(task.package.name, task.group.name, reason)


def _folder(task: StudyTask) -> str:
    return f"{study_folder(task.study_uid)}/{task.package.name}"


def _question(task: StudyTask) -> tuple[str, frozenset[str]]:
    """What is the same for tasks that answer one question of one study."""
    return task.study_uid, task.beside | {task.package.name}


def _key(task: StudyTask) -> str:
    return digest(task.study_uid, task.package.name, task.group.name)


def _file_states(index: Index, planned: RunPlan, studies: Sequence[Json]) -> list[FileState]:
    """Exactly one state per file of the export: used when any package analysed it, else why not."""
    names = {i.sop_uid: i.name for series in index.series for i in series.instances}
    results = {(study["study_uid"], result["package"]): result for study in studies for result in study["results"]}
    entries = [entry for result in results.values() for entry in result["unread"]]
    unread = {names[entry["source_sop_uid"]]: reason_of(entry["reason"]) for entry in entries}
    analysed: set[str] = set()
    for task in planned.tasks():
        missed = {entry["source_sop_uid"] for entry in results[task.study_uid, task.package.name]["unread"]}
        analysed |= {ref.instance.name for ref in task.group.images() if ref.instance.sop_uid not in missed}
    rejected = {i.name: reason for left_out in planned.rejected.values() for i, reason in left_out}
    states = []
    for name, state in index.files.items():
        if state.state != "used" or name in analysed:
            states.append(state)
        elif name in unread:
            states.append(FileState(name, "refused", unread[name]))
        else:
            states.append(FileState(name, "skipped", rejected.get(name, Reason.NO_PACKAGE)))
    if len(states) != len(index.files):
        raise AssertionError(f"{len(index.files)} files have {len(states)} states")
    return states


def _png(pixels: Array) -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _encoded(value: Json) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode()


def _write_changed(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})", Reason.OUTPUT_FAILED) from error
    write_file(path, data)


def parse_time(text: str) -> datetime:
    """YYYYMMDDHHMMSS or ISO 8601, to the second and without a zone. Raises ConfigError otherwise."""
    allowed = "20260131120000 or 2026-01-31T12:00:00"
    try:
        when = datetime.strptime(text, "%Y%m%d%H%M%S") if text.isdigit() else datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--content-time: found '{text}'; allowed is {allowed}", Reason.CONFIG_INVALID) from error
    if when.tzinfo is not None or when.microsecond:
        raise ConfigError(
            f"--content-time: found '{text}' with a {'zone' if when.tzinfo else 'fraction of a second'}; allowed is "
            f"{allowed}, in the time of the hospital: a result states the zone of its source (0008,0201), if it states "
            "one",
            Reason.CONFIG_INVALID,
        )
    return when
