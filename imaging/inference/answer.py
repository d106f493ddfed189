"""One study × package × group, from its images to its exam result. Whatever fails costs only the image it concerns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from imaging.dicom.passport import outside
from imaging.dicom.read import read_frames
from imaging.dicom.select import Group, ImageRef
from imaging.errors import ImagingError, Reason
from imaging.exam.result import ExamResult, Unread
from imaging.exam.ultrasound import exam_measures, summarise
from imaging.findings import Finding
from imaging.image import Origin, SourceRef
from imaging.inference.router import Work
from imaging.predictor import Predictor, Reading, Thumbnail

# Images of a result without findings that are shown all the same, so that a reader sees what was read.
_SHOWN_WITHOUT_FINDING = 3


@dataclass(frozen=True)
class Answer:
    """An exam result and what may be shown of its images, in order of importance."""

    result: ExamResult
    thumbnails: tuple[Thumbnail, ...]


@dataclass
class _Readings:
    """What has been gathered of a group so far."""

    findings: list[Finding] = field(default_factory=list)
    analysed: list[SourceRef] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    thumbnails: dict[SourceRef, Thumbnail] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, reading: Reading, first: bool) -> None:
        self.analysed.append(reading.ref)
        self.findings.extend(reading.findings)
        if reading.findings or first:
            self.thumbnails[reading.ref] = reading.thumbnail


def answer(work: Work, group: Group, predictor: Predictor, progress: Callable[[], None]) -> Answer:
    """Reads every image of the group; `progress` is called after each frame."""
    gathered = _Readings()
    for ref in group.images():
        _read_image(ref, predictor, gathered, progress)
    package = work.package
    card = package.description.card
    passports = [ref.instance.passport for ref in group.images()]
    gathered.notes.update(dict.fromkeys(outside(passports, package.description.support)))
    exam_findings = summarise(gathered.findings, card.measures)
    result = ExamResult(
        study_uid=work.study_uid,
        modality=card.applicability.modality,
        package=package.name,
        group=group.name,
        origin=Origin.common([ref.instance.origin for ref in group.images()]),
        algorithm=package.algorithm(),
        findings=exam_findings,
        analysed=tuple(gathered.analysed),
        unread=tuple(_whole_images(gathered.unread)),
        measures=exam_measures(exam_findings),
        notes=tuple(gathered.notes),
    )
    keys = [f.key.ref for f in exam_findings] or list(gathered.thumbnails)[:_SHOWN_WITHOUT_FINDING]
    return Answer(result, tuple(gathered.thumbnails[ref] for ref in dict.fromkeys(keys)))


def _read_image(ref: ImageRef, predictor: Predictor, gathered: _Readings, progress: Callable[[], None]) -> None:
    """Every frame of one image; a frame that fails is unread with its reason, and the next one goes on."""
    for number, (source, image) in enumerate(read_frames(ref)):
        try:
            if isinstance(image, ImagingError):
                raise image
            gathered.notes.update(dict.fromkeys(image.notes))
            gathered.add(predictor.read(image), first=number == 0)
        except ImagingError as error:
            gathered.unread.append(Unread(source, error.reason, str(error)))
        except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
            detail = f"{ref.instance.name}: {type(error).__name__} while the model read it"
            gathered.unread.append(Unread(source, Reason.PREDICTION_FAILED, detail))
        progress()


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
