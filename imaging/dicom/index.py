"""Folder → series of instances, from headers alone. One bad file costs only itself: each ends with a reason code.

Each file passes the firewall, which also yields the raw values that a description needs; pydicom reads the few headers
that are not plain. With workers this happens in disposable processes, and the parent holds one small record per file.
"""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imaging.dicom.archives import Unpacked
from imaging.dicom.copies import are_copies, are_one_picture
from imaging.dicom.instance import (
    REGIONS,
    WANTED,
    Asked,
    Facts,
    HeaderFile,
    Instance,
    NotPlain,
    Parts,
    describe,
    describe_refused,
    is_image,
    is_one_patient,
    refused,
)
from imaging.dicom.parsing.firewall import Header, admit, inspect
from imaging.dicom.places import leads_outside, may_hold, walk
from imaging.dicom.rejections import REJECTING, Rejection, read_rejection, without_rejected
from imaging.errors import ImagingError, InputError, Reason, ReasonCode
from imaging.workers import WorkerLimits, Workers

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["FileState", "Index", "Instance", "Series", "build_index", "read_header", "walk"]

State = Literal["used", "skipped", "refused"]

_DICOMDIR = "1.2.840.10008.1.3.10"
_SKIPPED = frozenset((Reason.NOT_DICOM, Reason.SYMLINK, Reason.NOT_A_FILE))
_SCAN_LIMITS = WorkerLimits(memory_bytes=2 << 30, seconds=15.0)
_COMPARE_LIMITS = WorkerLimits(memory_bytes=2 << 30, seconds=120.0)
# Files scanned in one call of a worker; its time limit is that of the call.
_CHUNK = 32
_CLASS = 0x00080016
# Images at one place of which slices that are there twice are looked for: more of them are a scan repeated in time.
_MOST_AT_ONE_PLACE = 3
_COMPARED_KINDS = frozenset(("t2", "diffusion", "calculated", "adc"))
_fields = attrgetter(*(f.name for f in fields(Instance) if f.name != "path"))


@dataclass(frozen=True, slots=True)
class FileState:
    """Where one file of the export ended. `path` is relative to the export; `used` carries no reason."""

    path: str
    state: State
    reason: ReasonCode | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The instances of one series in acquisition order (instance number, then SOP Instance UID)."""

    uid: str
    study_uid: str
    modality: str
    instances: tuple[Instance, ...]


@dataclass
class Index:
    """What an export holds. `files` has exactly one state per file found, so nothing is silently dropped.

    `remarks` are sentences about oddities that cost nothing: file → what is odd; "" for the whole export.
    `unseen` has the studies of which images may be where nobody could look, with these places; "" has all places.
    """

    series: list[Series] = field(default_factory=list)
    files: dict[str, FileState] = field(default_factory=dict)
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unseen: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def studies(self) -> dict[str, list[Series]]:
        """Series by Study Instance UID, in order of UID."""
        by_study: dict[str, list[Series]] = defaultdict(list)
        for series in self.series:
            by_study[series.study_uid].append(series)
        return {uid: by_study[uid] for uid in sorted(by_study)}


def build_index(
    export: Path,
    site: str | None = None,
    workers: int = 0,
    mr_parts: Parts = None,
    unpacked: Unpacked | None = None,
) -> Index:
    """The series of every readable image below `export` (a folder, or a single file) and the state of every file.

    `site` overrides what the headers say (InstitutionName). Headers are read in `workers` disposable processes, or,
    when 0, in this one: for a single file or one that is trusted. `mr_parts` are the body parts of which the weighting
    of MR images is read, which takes time; None reads it of all. Files of `unpacked` archives count as files of the
    export, below the archive's name. Raises InputError when `export` does not exist.
    """
    if not export.exists():
        raise InputError(f"{export}: there is no such file or folder; name a folder of DICOM files", Reason.NOT_DICOM)
    root = export if export.is_dir() else export.parent
    closed: dict[str, Reason] = {}
    names = walk(export, closed) if export.is_dir() else iter([export.name])
    index = Index()
    instances: list[Instance] = []
    rejections: list[Rejection] = []
    asked = Asked(site, mr_parts)
    inside = iter(()) if unpacked is None else _scans(unpacked.folder, walk(unpacked.folder), asked, workers)
    for name, found, remarks in chain(_scans(root, names, asked, workers), inside):
        if isinstance(found, Instance):
            instances.append(found)
        elif isinstance(found, Rejection):
            rejections.append(found)
            index.files[name] = FileState(name, "skipped", Reason.NOT_AN_IMAGE)
        else:
            index.files[name] = found
        if remarks:
            index.remarks[name] = remarks
    index.files |= {name: FileState(name, "refused", reason) for name, reason in closed.items()}
    _tell_unpacked(index, unpacked)
    index.unseen = _unseen(root, index.files, instances)
    instances = without_rejected(instances, rejections)
    with Workers(1, _COMPARE_LIMITS, [__name__]) as careful:
        worker = careful if workers else None
        kept = list(_single(instances, index.files, lambda same: _are_equal(same, worker)))
        kept = _without_same_slices(kept, worker)
    if said := (*_shared_ids(instances), *_unseen_remark(index.unseen)):
        index.remarks[""] = said
    by_series: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for instance in kept:
        by_series[instance.study_uid, instance.series_uid].append(instance)
    for (study_uid, uid), members in sorted(by_series.items()):
        members.sort(key=lambda i: (i.instance_number, i.sop_uid))
        index.series.append(Series(uid, study_uid, members[0].modality, tuple(members)))
    return index


def _tell_unpacked(index: Index, unpacked: Unpacked | None) -> None:
    """An archive whose files were read is no unseen place; one that could not be says why."""
    if unpacked is not None:
        index.files |= {name: FileState(name, "skipped", Reason.UNPACKED) for name in unpacked.names}
        index.remarks |= {name: (f"not unpacked: {why}",) for name, why in unpacked.left.items()}


def read_header(path: Path) -> Dataset:
    """The dataset of one file without its pixel data. Raises InputError with a reason code, whatever the file holds."""
    return _parsed(path, admit(path))


def _parsed(path: Path, header: Header) -> Dataset:
    """What pydicom makes of an admitted file; a transfer syntax that the file does not state is filled in.

    pydicom is imported here: most headers never need it, and workers start twice as fast without.
    """
    from imaging.dicom.parsing.odd_values import read_dataset

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes what it finds odd, and that can be identity
            dataset = read_dataset(path)
            if not header.is_syntax_stated:
                dataset.file_meta.TransferSyntaxUID = header.transfer_syntax_uid
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", Reason.UNREADABLE_HEADER) from error
    except Exception as error:
        raise InputError(f"the header cannot be parsed ({type(error).__name__})", Reason.UNREADABLE_HEADER) from error
    return dataset


Found = Instance | FileState | Rejection
# (an Instance's fields after `path`, or what else a file is; remarks) of each file of a chunk.
Packed = list[tuple[tuple[Any, ...] | FileState | Rejection, tuple[str, ...]]]


def _scans(root: Path, names: Iterator[str], asked: Asked, workers: int) -> Iterator[tuple[str, Found, Any]]:
    """(name, what it is, remarks) of each file in order. A file that a worker died of is refused, with its reason."""
    if workers < 1:
        for name in names:
            yield name, *_scan(root, name, asked)
        return
    chunks: deque[list[str]] = deque()

    def tasks() -> Iterator[tuple[str, list[str], Asked]]:
        while chunk := list(islice(names, _CHUNK)):
            chunks.append(chunk)
            yield str(root), chunk, asked

    with Workers(workers, _SCAN_LIMITS, [__name__]) as pool, Workers(1, _SCAN_LIMITS, [__name__]) as careful:
        for outcome in pool.map(_scan_chunk, tasks()):
            chunk = chunks.popleft()
            if not isinstance(outcome, ImagingError):
                yield from _unpacked(root, chunk, outcome)
                continue
            single = ((str(root), [n], asked) for n in chunk)
            for name, alone in zip(chunk, careful.map(_scan_chunk, single), strict=True):
                if isinstance(alone, ImagingError):
                    yield name, FileState(name, "refused", alone.reason), ()
                else:
                    yield from _unpacked(root, [name], alone)


def _scan_chunk(root: str, names: list[str], asked: Asked) -> Packed:
    """In a worker: many files in one answer, which costs a third of as many answers."""
    packed: Packed = []
    for name in names:
        found, remarks = _scan(Path(root), name, asked)
        packed.append((_fields(found) if isinstance(found, Instance) else found, remarks))
    return packed


def _unpacked(root: Path, names: list[str], packed: Packed) -> Iterator[tuple[str, Found, Any]]:
    for name, (found, remarks) in zip(names, packed, strict=True):
        yield name, (Instance(root / name, *found) if isinstance(found, tuple) else found), remarks


def _scan(root: Path, name: str, asked: Asked) -> tuple[Found, tuple[str, ...]]:
    """What one file is, and what is odd about it."""
    path = root / name
    try:
        header = inspect(path, wanted=WANTED, opened=frozenset((REGIONS,)))
    except InputError as error:
        is_marker = error.reason is Reason.EMPTY_FILE and name.rpartition("/")[2].startswith(".")  # .nomedia, .keep
        skipped = error.reason in _SKIPPED or is_marker
        return FileState(name, "skipped" if skipped else "refused", error.reason), ()
    odd: list[str] = []
    found = _judged(HeaderFile(path, name, header.transfer_syntax_uid, asked), header, odd)
    passed = f"values that cannot be read are passed over: {', '.join(dict.fromkeys(odd))}"
    return found, (*header.remarks, *([passed] if odd else []))


def _judged(file: HeaderFile, header: Header, odd: list[str]) -> Found:
    """An image that may be read, one of its study that may not, or the state of a file that belongs to none."""
    if header.media_class_uid == _DICOMDIR:
        return FileState(file.name, "skipped", Reason.DICOMDIR)
    if header.values.get(_CLASS, (None, b""))[1].decode("latin-1").strip(" \0") in REJECTING:
        return _document(file, header)
    if not header.refusal and not is_image(header):
        return FileState(file.name, "skipped", Reason.NOT_AN_IMAGE)
    try:
        reason = header.refusal.reason if header.refusal else None
        if reason is None:
            instance = _described(file, header, odd)
            return refused(instance, header.pixel_refusal.reason) if header.pixel_refusal else instance
    except InputError as error:
        reason = error.reason
    except Exception:  # noqa: BLE001 - element access on a mutated header raises nearly anything; the code says so
        reason = Reason.UNREADABLE_HEADER
    try:
        return describe_refused(file, header, reason)
    except Exception:  # noqa: BLE001 - as above: nothing says to which study it belongs
        return FileState(file.name, "refused", reason if header.refusal else Reason.MISSING_UID)


def _document(file: HeaderFile, header: Header) -> Rejection | FileState:
    """A Key Object or presentation state; what cannot be read of it may reject any image of its study."""
    if header.refusal:
        return FileState(file.name, "refused", header.refusal.reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in _parsed
            rejection = read_rejection(_parsed(file.path, header))
    except Exception:  # noqa: BLE001 - as in _judged
        return FileState(file.name, "refused", Reason.UNREADABLE_HEADER)
    return rejection or FileState(file.name, "skipped", Reason.NOT_AN_IMAGE)


def _described(file: HeaderFile, header: Header, odd: list[str]) -> Instance:
    try:
        return describe(file, Facts.of(header), odd)
    except NotPlain:
        odd.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in _parsed: values convert when they are asked for
            return describe(file, _parsed(file.path, header), odd)


def _are_equal(same: list[Instance], careful: Workers | None) -> bool:
    """Whether copies of one object are equal, told by a disposable process where there is one."""
    told = {(i.study_uid, i.series_uid, i.rows, i.columns, i.frames or 1) for i in same}
    paths = [str(instance.path) for instance in same]
    if len(told) > 1:
        return False
    return are_copies(paths) if careful is None else next(careful.map(are_copies, [(paths,)])) is True


def _without_same_slices(instances: list[Instance], careful: Workers | None) -> list[Instance]:
    """The instances, each MR slice that is there a second time with the same pixels marked as left out."""
    places: dict[Any, list[Instance]] = defaultdict(list)
    for instance in instances:
        known = instance.acquisition
        if (
            known
            and not instance.refusal
            and not instance.left_out
            and instance.frames in (None, 1)
            and len(known.frames) == 1
        ):
            (frame,) = known.frames
            if frame.corner is not None and frame.kind in _COMPARED_KINDS:
                key = (
                    instance.study_uid,
                    instance.series_uid,
                    instance.rows,
                    instance.columns,
                    known.number,
                    replace(frame, number=None),
                )
                places[key].append(instance)
    again: set[int] = set()
    for same in places.values():
        if 1 < len(same) <= _MOST_AT_ONE_PLACE:
            first, *others = sorted(same, key=lambda i: (i.instance_number, i.name))
            for other in others:
                paths = [str(first.path), str(other.path)]
                equal = are_one_picture(paths) if careful is None else next(careful.map(are_one_picture, [(paths,)]))
                again |= {id(other)} if equal is True else set()
    return [
        replace(instance, left_out=Reason.SAME_SLICE) if id(instance) in again else instance for instance in instances
    ]


def _unseen(root: Path, files: dict[str, FileState], instances: list[Instance]) -> dict[str, tuple[str, ...]]:
    """As `Index.unseen`, from the states of what is no instance."""
    places = [
        name
        for name, state in files.items()
        if state.state == "refused" or (state.reason is Reason.SYMLINK and leads_outside(root, name))
    ]
    if not places:
        return {}
    studies: dict[str, list[str]] = defaultdict(list)
    for instance in instances:
        studies[instance.study_uid].append(instance.name)
    return {"": tuple(sorted(places)), **may_hold(places, studies)}


def _unseen_remark(unseen: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not unseen:
        return ()
    return (
        f"{len(unseen[''])} place(s) of the export could not be looked into, and may hold images of "
        f"{len(unseen) - 1} study or studies: these are not answered with 'no'",
    )


def _shared_ids(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Says that one PatientID stands for several patients, when it does."""
    by_id: dict[str, set[str]] = defaultdict(set)
    for instance in instances:
        if instance.patient_id_key:
            by_id[instance.patient_id_key].add(instance.patient_key)
    shared = sum(not is_one_patient(patients) for patients in by_id.values())
    if not shared:
        return ()
    return (
        f"{shared} PatientID value(s) stand for more than one patient (another issuer, name or birth date); "
        "these are kept apart",
    )


def _single(
    instances: list[Instance], files: dict[str, FileState], equal: Callable[[list[Instance]], bool]
) -> Iterator[Instance]:
    """One instance per SOP Instance UID and series, with its refusal, and the state of every file.

    Of equal copies the first is used. Where objects differ, or where two patients stand under one study, none may
    be read, because nothing says which is true: then every series that claims the object keeps it, refused. A copy
    that is refused for itself costs no sound one, and is kept only where its series has no sound one.
    """
    by_uid: dict[str, list[Instance]] = defaultdict(list)
    patients: dict[str, set[str]] = defaultdict(set)
    for instance in instances:
        by_uid[instance.sop_uid].append(instance)
        if not instance.left_out:
            patients[instance.study_uid].add(instance.patient_key)
    mixed = {study for study, keys in patients.items() if len(keys) > 1 and not is_one_patient(keys)}
    for same in by_uid.values():
        if len(same) == 1 and not same[0].refusal and same[0].study_uid not in mixed:
            files[same[0].name] = FileState(same[0].name, "used")
            yield same[0]
            continue
        sound = [i for i in same if not i.refusal]
        refusal = Reason.DUPLICATE_UID if len(sound) > 1 and not equal(sound) else None
        if any(i.study_uid in mixed for i in same):
            refusal = Reason.MIXED_PATIENTS
        for instance in same:
            if reason := refusal or instance.refusal:
                files[instance.name] = FileState(instance.name, "refused", reason)
            elif instance is sound[0]:
                files[instance.name] = FileState(instance.name, "used")
            else:
                files[instance.name] = FileState(instance.name, "skipped", Reason.DUPLICATE)
        kept = same if refusal else [*sound[:1], *(i for i in same if i.refusal)]
        claims = {(i.study_uid, i.series_uid): i for i in reversed(kept)}
        for instance in reversed(claims.values()):
            yield replace(instance, refusal=refusal) if refusal else instance
