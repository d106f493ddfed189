"""One study × package × group, from its frames to its exam result. Whatever fails costs only the image it concerns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter

from imaging.dicom.headers.passport import outside
from imaging.errors import ImagingError, Reason
from imaging.exam.conclude import Seen, conclude
from imaging.exam.result import ExamResult, Unread
from imaging.findings import Finding, Reading, Thumbnail
from imaging.image import Origin, SourceRef
from imaging.inference.processes import Frame, Processes
from imaging.inference.router import Task
from imaging.modalities.prostate.conclusions import Psa

# Images of a result without findings that are shown all the same, so that a reader sees what was read: the four views
# of a screening exam.
_SHOWN_WITHOUT_FINDING = 4


@dataclass(frozen=True)
class Answer:
    """An exam result, what may be shown of its images in order of importance, and where the time went."""

    result: ExamResult
    thumbnails: tuple[Thumbnail, ...]
    seconds: dict[str, float]


@dataclass
class _Readings:
    """What has been gathered of a group so far."""

    findings: list[Finding] = field(default_factory=list)
    structures: list[Finding] = field(default_factory=list)
    analysed: list[SourceRef] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    classes: dict[SourceRef, dict[str, float]] = field(default_factory=dict)
    anterior_px: dict[str, tuple[float, float]] = field(default_factory=dict)
    thumbnails: dict[SourceRef, Thumbnail] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    shown: set[int] = field(default_factory=set)

    def add(self, item: int, reading: Reading) -> None:
        self.analysed.extend(reading.refs)
        self.findings.extend(reading.findings)
        self.structures.extend(reading.structures)
        self.classes[reading.refs[0]] = reading.classes
        if reading.anterior_px is not None:
            self.anterior_px[reading.refs[0].sop_uid] = reading.anterior_px
        for part, spent in reading.seconds.items():
            self.seconds[part] += spent
        if reading.findings or item not in self.shown:
            self.thumbnails.update((thumbnail.ref, thumbnail) for thumbnail in reading.thumbnails)
            self.shown.add(item)


def answer(task: Task, frames: Iterable[Frame], processes: Processes, psa: Psa | None = None) -> Answer:
    """Reads every frame that belongs to the task, within the time that a study may take. `psa` is the patient's."""
    gathered = _Readings()
    end = perf_counter() + processes.limits.study_seconds
    for frame in frames:
        gathered.seconds["decode"] += frame.seconds
        try:
            if isinstance(frame.image, ImagingError):
                raise frame.image
            if perf_counter() > end:
                raise ImagingError("the study's time had passed", Reason.STUDY_TIMED_OUT)
            gathered.notes.update(dict.fromkeys(frame.image.notes))
            reading = processes.read(task.package, frame.image)
            gathered.notes.update(dict.fromkeys(reading.notes))
            gathered.add(frame.item, reading)
        except ImagingError as error:
            gathered.unread.extend(Unread(ref, error.reason, str(error)) for ref in frame.refs)
    return _sum_up(task, gathered, psa)


def _sum_up(task: Task, gathered: _Readings, psa: Psa | None) -> Answer:
    package, card = task.package, task.package.description.card
    images = list(task.group.images())
    gathered.notes.update(dict.fromkeys(task.group.notes))
    gathered.notes.update(
        dict.fromkeys(outside([ref.instance.passport for ref in images], package.description.support))
    )
    projections = {ref.instance.sop_uid: ref.instance.projection for ref in images}
    views = {uid: told.view for uid, told in projections.items() if told is not None and told.view is not None}
    seen = Seen(
        gathered.findings, gathered.analysed, gathered.classes, views, gathered.anterior_px, gathered.structures, psa
    )
    concluded = conclude(
        card.applicability.modality, seen, card.measures, card.rating, package.description.operating_point
    )
    result = ExamResult(
        study_uid=task.study_uid,
        modality=card.applicability.modality,
        package=package.name,
        group=task.group.name,
        origin=Origin.common([ref.instance.origin for ref in images]),
        algorithm=package.algorithm(),
        findings=concluded.findings,
        analysed=tuple(gathered.analysed),
        unread=tuple(_whole_images(gathered.unread)),
        measures=dict(concluded.measures),
        notes=(*gathered.notes, *concluded.notes, *_unseen_note(task)),
        rating=concluded.rating,
        views=views,
        composites=concluded.composites,
        scores=concluded.scores,
        structures=concluded.structures,
        unseen=task.unseen,
    )
    keys = [f.key.ref for f in concluded.findings] or list(gathered.thumbnails)[:_SHOWN_WITHOUT_FINDING]
    return Answer(result, tuple(gathered.thumbnails[ref] for ref in dict.fromkeys(keys)), dict(gathered.seconds))


def _unseen_note(task: Task) -> tuple[str, ...]:
    places = "A place" if task.unseen == 1 else f"{task.unseen} places"
    note = f"{places} of the export could not be looked into and may hold more images of this study"
    return (note,) if task.unseen else ()


def _whole_images(unread: list[Unread]) -> list[Unread]:
    """Unread frames, each image of several frames with one common reason told once, with its first frame."""
    counts = Counter((u.ref.sop_uid, u.ref.region, u.reason) for u in unread)
    told: list[Unread] = []
    seen: set[tuple[str, int | None, Reason]] = set()
    for entry in unread:
        key = (entry.ref.sop_uid, entry.ref.region, entry.reason)
        if key not in seen:
            seen.add(key)
            frames = f" ({counts[key]} frames)" if counts[key] > 1 else ""
            told.append(Unread(entry.ref, entry.reason, entry.detail + frames))
    return told
