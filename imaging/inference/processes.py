"""The processes of a run: decoders, one model process per device, and one that writes reports.

The parent plans, keeps the ledger and publishes; it imports no torch and parses no file. Whatever dies or hangs costs
one image or one report: an item is tried once more in a fresh process before the failure is called its own.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from imaging.dicom import hush
from imaging.dicom.exam import read_exam
from imaging.dicom.index import read_header
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef, Volumes
from imaging.errors import ImagingError, Reason, WorkerError
from imaging.exam.result import ExamResult
from imaging.findings import Reading, Thumbnail
from imaging.image import Image, SourceRef
from imaging.modalities import find_modality
from imaging.package import Package
from imaging.report.document import Document, Issue
from imaging.report.kind import Scheme, Subject
from imaging.workers import Worker, WorkerLimits, Workers

if TYPE_CHECKING:
    from imaging.predictor import Predictor

# The network is not what hostile bytes reach, and torch needs more address space than a limit would leave it.
_AGAIN = (Reason.WORKER_DIED, Reason.WORKER_MEMORY)
# Images or exams that all decoders together have in hand, so that they go on while the model reads: a screening exam.
_IN_HAND = 4


Answered = TypeVar("Answered")


@dataclass(frozen=True)
class RunLimits:
    """How much a run may use, and how long one part of it may take.

    Args:
        workers: Decoder processes.
        threads: Threads of the model process; results are promised to be equal for an equal number.
        worker_memory_bytes: Address space of a decoder or report process.
        decode_seconds: Longest time for one frame.
        model_seconds: Longest time for one image in the network; the first also loads the package.
        report_seconds: Longest time for one report.
        study_seconds: Longest time for one study and package; images beyond it stay unread, with that reason.
    """

    workers: int = 1
    threads: int = 1
    worker_memory_bytes: int = 2 << 30
    decode_seconds: float = 60.0
    model_seconds: float = 180.0
    report_seconds: float = 120.0
    study_seconds: float = 1800.0


@dataclass(frozen=True)
class Delivery:
    """How the results of a run are written.

    Args:
        when: Their content time.
        scheme: How CAD reports write SNOMED codes.
        also: Names of the kinds of objects beside those that every result has (`report.write.ON_REQUEST`).
        still_segmentations: Segment stills without place in the patient too, on a plane of their own.
        earlier: The issue that the objects supersede.
    """

    when: datetime
    scheme: Scheme = "sct"
    also: tuple[str, ...] = ()
    still_segmentations: bool = False
    earlier: Issue | None = None


@dataclass(frozen=True, eq=False)
class TaskFrame:
    """One decoded frame, or all frames of an exam's volumes, or the error that they cost.

    `item` counts the parts asked for; `seconds` is the decoding.
    """

    item: int
    refs: tuple[SourceRef, ...]
    image: Image | ImagingError
    seconds: float


class Processes:
    """The processes of one run, started when first needed and ended with the run."""

    def __init__(self, limits: RunLimits, device: str) -> None:
        self.limits = limits
        self._device = device
        light = WorkerLimits(limits.worker_memory_bytes, limits.decode_seconds, threads=1)
        self._decoders = Workers(limits.workers, light, preload=["imaging.dicom.exam", __name__])
        writing = WorkerLimits(limits.worker_memory_bytes, limits.report_seconds, threads=1)
        self._reporter = Worker(writing, preload=["imaging.report.write"])
        model = WorkerLimits(None, limits.model_seconds, threads=limits.threads)
        self._model = Worker(model, preload=["imaging.predictor"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._decoders.close()
        self._reporter.close()
        self._model.close()

    def frames(self, parts: Sequence[ImageRef | Volumes]) -> Iterator[TaskFrame]:
        """Every frame of every part, in order. A part whose decoder was lost ends with its other frames unread."""
        given: dict[int, set[SourceRef]] = defaultdict(set)
        batch = max(1, _IN_HAND // self.limits.workers)
        for item, part in self._decoders.stream(decode, ((one,) for one in parts), batch):
            if isinstance(part, ImagingError):
                for ref in parts[item].source_refs():
                    if ref not in given[item]:
                        yield TaskFrame(item, (ref,), part, 0.0)
            else:
                refs, image, seconds = part
                given[item].update(refs)
                yield TaskFrame(item, refs, image, seconds)

    def start(self, packages: Iterable[Package]) -> None:
        """Load the packages in the model process while decoders and report process start; each takes seconds.

        Raises PackageError when a package is not what it says.
        """
        with ThreadPoolExecutor(2) as beside:
            ready = [beside.submit(self._decoders.start), beside.submit(self._twice, self._reporter, prepare_reports)]
            for package in packages:
                self._twice(self._model, load, package, self._device, self.limits.threads)
            for one in ready:
                one.result()

    def read(self, package: Package, image: Image) -> Reading:
        """One image through a package. Raises ImagingError."""
        return self._twice(self._model, read, package, self._device, self.limits.threads, image)

    def report(
        self,
        package: Package,
        result: ExamResult,
        pictures: tuple[Thumbnail, ...],
        paths: dict[str, Path],
        delivery: Delivery,
    ) -> list[Document]:
        """The sealed, read-back documents of a result; `paths` holds the source file of each SOP Instance UID."""
        modality = package.description.recipe.name
        return self._twice(self._reporter, report, modality, result, pictures, paths, delivery)

    @staticmethod
    def _twice(worker: Worker, function: Callable[..., Answered], *args: object) -> Answered:
        """The answer of a process; once more when it died, because something else may have ended it."""
        try:
            first: Answered = worker.call(function, *args)
            return first
        except WorkerError as error:
            if error.reason not in _AGAIN:
                raise
            second: Answered = worker.call(function, *args)
            return second


def decode(part: ImageRef | Volumes) -> Iterator[tuple[tuple[SourceRef, ...], Image | ImagingError, float]]:
    """In a decoder: each frame, or the volumes at once, with the seconds that it took."""
    hush()
    frames = _volumes(part) if isinstance(part, Volumes) else _frames(part)
    while True:
        begin = perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        yield (*frame, perf_counter() - begin)


def _frames(image: ImageRef) -> Iterator[tuple[tuple[SourceRef, ...], Image | ImagingError]]:
    return (((ref,), frame) for ref, frame in read_frames(image, disposable=True))


def _volumes(exam: Volumes) -> Iterator[tuple[tuple[SourceRef, ...], Image | ImagingError]]:
    read = read_exam(exam, disposable=True)
    if read.image is not None:
        yield read.image.all_refs, read.image
    yield from (((ref,), error) for ref, error in read.lost)


_LOADED: dict[str, Predictor] = {}


def load(package: Package, device: str, threads: int) -> None:
    """In the model process: keep the package's predictor."""
    if package.identity not in _LOADED:
        from imaging.predictor import load_predictor

        _LOADED[package.identity] = load_predictor(package, device, threads)


def read(package: Package, device: str, threads: int, image: Image) -> Reading:
    """In the model process: one image."""
    load(package, device, threads)
    return _LOADED[package.identity].read(image)


def prepare_reports() -> None:
    """In the report process: load what reports are made with."""
    importlib.import_module("imaging.report.write")


def report(
    modality: str, result: ExamResult, pictures: tuple[Thumbnail, ...], paths: dict[str, Path], delivery: Delivery
) -> list[Document]:
    """In the report process: source headers in, documents out."""
    from imaging.report.write import GENERAL, ON_REQUEST, write_documents

    hush()
    sources = {uid: read_header(path) for uid, path in paths.items()}
    kinds = (*GENERAL, *find_modality(modality).outputs(), *(ON_REQUEST[name] for name in delivery.also))
    subject = Subject(
        result, sources, delivery.when, delivery.scheme, pictures, delivery.earlier, delivery.still_segmentations
    )
    return write_documents(subject, kinds)
