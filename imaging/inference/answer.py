"""One study × package × group, from its frames to its exam result. Whatever fails costs only the image it concerns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from imaging.dicom.headers.passport import outside
from imaging.errors import ImagingError, Reason, ReasonCode
from imaging.exam.conclusion import Readings, Terms
from imaging.exam.context import Context
from imaging.exam.result import ExamResult, Unread
from imaging.findings import Reading, Thumbnail
from imaging.image import Origin, SourceRef
from imaging.inference.processes import Processes, TaskFrame
from imaging.inference.router import StudyTask

# Images of a result without findings that are shown all the same, so that a reader sees what was read: the four views
# of a screening exam.
_SHOWN_WITHOUT_FINDING = 4


@dataclass(frozen=True)
class Answer:
    """An exam result, what may be shown of its images in order of importance, and where the time went."""

    result: ExamResult
    thumbnails: tuple[Thumbnail, ...]
    seconds: dict[str, float]


def answer(
    task: StudyTask, frames: Iterable[TaskFrame], processes: Processes, context: Context | None = None
) -> Answer:
    """Reads every frame that belongs to the task, within the time that a study may take.

    `context` is what is known of the exam besides.
    """
    gathered = _Gathered()
    end = perf_counter() + processes.limits.study_seconds
    for frame in frames:
        gathered.seconds["decode"] += frame.seconds
        try:
            if isinstance(frame.image, ImagingError):
                raise frame.image
            if perf_counter() > end:
                raise ImagingError("the study's time had passed", Reason.STUDY_TIMED_OUT)
            gathered.notes.update(dict.fromkeys(frame.image.notes))
            gathered.add(frame.item, processes.read(task.package, frame.image))
        except ImagingError as error:
            gathered.unread.extend(Unread(ref, error.reason, str(error)) for ref in frame.refs)
    return _sum_up(task, gathered, context or {})


@dataclass
class _Gathered:
    """What has been gathered of a group so far: readings, what was not read, and what is told beside them."""

    readings: list[Reading] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    thumbnails: dict[SourceRef, Thumbnail] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    shown: set[int] = field(default_factory=set)

    def add(self, item: int, reading: Reading) -> None:
        self.readings.append(reading)
        self.notes.update(dict.fromkeys(reading.notes))
        for part, spent in reading.seconds.items():
            self.seconds[part] += spent
        if reading.findings or item not in self.shown:
            self.thumbnails.update((thumbnail.ref, thumbnail) for thumbnail in reading.thumbnails)
            self.shown.add(item)


def _sum_up(task: StudyTask, gathered: _Gathered, context: Context) -> Answer:
    package, card = task.package, task.package.description.card
    images = list(task.group.images())
    passports = [ref.instance.passport for ref in images]
    notes = dict.fromkeys((*gathered.notes, *task.group.notes, *outside(passports, package.description.support)))
    projections = {ref.instance.sop_uid: ref.instance.projection for ref in images}
    views = {uid: known.view for uid, known in projections.items() if known is not None and known.view is not None}
    readings = Readings(tuple(gathered.readings), views)
    terms = Terms(card.measures, card.rating, package.description.operating_point)
    concluded = package.modality.conclude(readings, terms, context)
    result = ExamResult(
        study_uid=task.study_uid,
        modality=package.modality.acquired_as,
        package=package.name,
        group=task.group.name,
        origin=Origin.common([ref.instance.origin for ref in images]),
        algorithm=package.algorithm(),
        findings=concluded.findings,
        analysed=readings.analysed,
        unread=tuple(_whole_images(gathered.unread)),
        measures=dict(concluded.measures),
        notes=(*notes, *concluded.notes, *concluded.gaps, *_unseen_note(task)),
        rating=concluded.rating,
        views=views,
        composites=concluded.composites,
        scores=concluded.scores,
        structures=concluded.structures,
        unseen=task.unseen,
        caution=task.caution,
        covers=concluded.covers or _images_covered(readings, gathered.unread),
        gaps=(*(sentence for _, sentence in task.group.gaps), *concluded.gaps),
    )
    keys = [f.key.ref for f in concluded.findings] or list(gathered.thumbnails)[:_SHOWN_WITHOUT_FINDING]
    return Answer(result, tuple(gathered.thumbnails[ref] for ref in dict.fromkeys(keys)), dict(gathered.seconds))


def compared(answers: Sequence[Answer]) -> list[Answer]:
    """Several answers to one question of one study, each with a note that says so, and whether they agree."""
    results = [given.result for given in answers]
    said = ", ".join(f"{result.package} says {result.finding}" for result in results)
    agree = "They agree" if len({result.finding for result in results}) == 1 else "They do not agree"
    shared = [name for name in results[0].measures if all(result.measures.get(name) is not None for result in results)]
    values = [f"{name} is {' and '.join(f'{result.measures[name]:.4g}' for result in results)}" for name in shared]
    note = f"{len(results)} packages answer one question of this study: {'; '.join([said, *values])}. {agree}"
    return [replace(given, result=replace(given.result, notes=(*given.result.notes, note))) for given in answers]


def _images_covered(readings: Readings, unread: list[Unread]) -> str:
    """3 of 3 images; one of which a frame or region is unread does not count."""
    left = {entry.ref.sop_uid for entry in unread}
    meant = {ref.sop_uid for ref in readings.analysed} | left
    return f"{len(meant - left)} of {len(meant)} images"


def _unseen_note(task: StudyTask) -> tuple[str, ...]:
    places = "A place" if task.unseen == 1 else f"{task.unseen} places"
    note = f"{places} of the export could not be looked into and may hold more images of this study"
    return (note,) if task.unseen else ()


def _whole_images(unread: list[Unread]) -> list[Unread]:
    """Unread frames, each image of several frames with one common reason told once, with its first frame."""
    counts = Counter((u.ref.sop_uid, u.ref.region, u.reason) for u in unread)
    told: list[Unread] = []
    seen: set[tuple[str, int | None, ReasonCode]] = set()
    for entry in unread:
        key = (entry.ref.sop_uid, entry.ref.region, entry.reason)
        if key not in seen:
            seen.add(key)
            frames = f" ({counts[key]} frames)" if counts[key] > 1 else ""
            told.append(Unread(entry.ref, entry.reason, entry.detail + frames))
    return told
