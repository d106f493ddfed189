"""One record for each kind of DICOM object that a result is written as, and what its writer and its check are given.

A further kind of object is a module with one such record. The kinds that every result is written as stand in `write`;
those of a modality are that modality's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeVar

from pydicom import Dataset

from imaging import __version__
from imaging.dicom.results.encapsulated import ReadDocument
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadReport, ReadSegmentation
from imaging.errors import ImagingError, InputError, Reason
from imaging.exam.result import ExamResult
from imaging.findings import Thumbnail
from imaging.report.agreement import refuse
from imaging.report.document import MANUFACTURER, MODEL, Document, Identity, Issue, derived_uid, identity_of
from imaging.report.sr import codes
from imaging.report.sr.statements import images_of

# How a Mammography CAD report writes SNOMED codes: SNOMED CT, or the retired SNOMED-RT that older workstations know.
Scheme = Literal["sct", "srt"]

ReadObject = ReadReport | ReadSegmentation | ReadDocument
Read = TypeVar("Read", ReadReport, ReadSegmentation, ReadDocument)

_PATIENT_ID: Final = 0x00100020
_STUDY_UID: Final = 0x0020000D


@dataclass(frozen=True)
class Subject:
    """What the objects of one result are written from.

    `sources` holds, by SOP Instance UID, the header of every image of the result as it was read (pixel data not
    needed). `pictures` are what may be shown of its images. `identity` is that of the first image, once every image is
    known to be of that patient and study. `earlier` is the issue that these objects supersede, if there is one.
    `still_segmentations` gives stills without place in the patient segmentations on a plane of their own.
    Raises ImagingError for a result without images or an image without header, InputError for two patients.
    """

    result: ExamResult
    sources: Mapping[str, Dataset]
    content_time: datetime
    scheme: Scheme = "sct"
    pictures: tuple[Thumbnail, ...] = ()
    earlier: Issue | None = None
    still_segmentations: bool = False
    identity: Identity = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", _one_identity(self.result, self.sources))


@dataclass(frozen=True)
class Written:
    """Sealed objects with their data sets in the order of writing, and sentences about them that a report repeats."""

    objects: tuple[tuple[Document, Dataset], ...] = ()
    remarks: tuple[str, ...] = ()

    def __add__(self, other: Written) -> Written:
        return Written(self.objects + other.objects, self.remarks + other.remarks)

    def of(self, kind: ObjectKind) -> list[tuple[Document, Dataset]]:
        """The objects of one kind."""
        return [(document, dataset) for document, dataset in self.objects if document.kind == kind.name]


@dataclass(frozen=True)
class ReadBack:
    """What was read from the bytes of all objects of a subject, by the name of their kind, in their order."""

    subject: Subject
    objects: Mapping[str, Sequence[ReadObject]]

    def of(self, kind: ObjectKind, record: type[Read]) -> list[Read]:
        """Those of one kind, whose class `readback` has compared with the kind's; none where there is none."""
        return [read for read in self.objects.get(kind.name, ()) if isinstance(read, record)]

    def only(self, kind: ObjectKind, record: type[Read]) -> Read:
        """The one object of a kind of which every result has one. Raises ReadbackError for any other number."""
        found = self.of(kind, record)
        if len(found) != 1:
            refuse(f"study {self.subject.result.study_uid}", f"objects of kind {kind.name}", len(found), "exactly 1")
        return found[0]


@dataclass(frozen=True)
class ObjectKind:
    """One kind of DICOM object that results are written as.

    Args:
        name: What users call it, and how the names of its files begin.
        sop_class_uid: Its SOP class; pages show the name that the standard gives to it.
        series_number: Number of its series among those of its package, below 1000; further series follow it.
        series_name: How the description of that series ends, after the name of the package.
        write: Its sealed objects (none where the result has nothing for it), given those of the kinds before it.
        check: Raises ReadbackError at the first disagreement of what was read with the subject.
        read: What the bytes of a file say, with the raw values of the asked tags. Raises InputError.
    """

    name: str
    sop_class_uid: str
    series_number: int
    series_name: str
    write: Callable[[Subject, ObjectKind, Written], Written]
    check: Callable[[ReadBack, ObjectKind], None]
    read: Callable[[bytes, frozenset[int]], ReadObject] = read_result

    def new_object(self, subject: Subject, number: int = 1) -> Dataset:
        """Class, series, equipment and SOP Common of every object of a result (PS3.3 C.7.5, C.12.1).

        Object `number` (from 1) of its kind. Each has a series of its own, never one of the source, which a later issue
        does not enter: viewers show one object of a series, and not always the newest.
        """
        result, when = subject.result, subject.content_time
        algorithm, issue = result.algorithm, 1 if subject.earlier is None else subject.earlier.number + 1
        own = (algorithm.identity, result.package, result.group, self.name, str(number), str(issue), when.isoformat())
        dataset = Dataset()
        dataset.SOPClassUID = self.sop_class_uid
        dataset.SeriesInstanceUID = derived_uid(result.study_uid, *own)
        dataset.SeriesNumber = _first_series_number(result.package) + self.series_number + number - 1
        what = (f" ({issue}): " if issue > 1 else ": ") + self.series_name + (f" {number}" if number > 1 else "")
        mark = "" if result.caution is None else f"{result.caution.mark}: "
        dataset.SeriesDescription = mark + result.package[: 64 - len(mark) - len(what)] + what
        dataset.InstanceNumber = 1
        dataset.SeriesDate = dataset.ContentDate = when.strftime("%Y%m%d")
        dataset.SeriesTime = dataset.ContentTime = when.strftime("%H%M%S")
        dataset.Manufacturer = MANUFACTURER
        dataset.ManufacturerModelName = MODEL
        dataset.SoftwareVersions = __version__
        # The toolkit has no serial number of its own; the package's identity is what distinguishes two set-ups.
        dataset.DeviceSerialNumber = algorithm.identity[:64]
        equipment = Dataset()
        equipment.PurposeOfReferenceCodeSequence = [codes.concept(codes.PROCESSING_EQUIPMENT)]
        equipment.Manufacturer = algorithm.manufacturer[:64]
        equipment.ManufacturerModelName = algorithm.name[:64]
        equipment.SoftwareVersions = algorithm.version[:64]
        equipment.DeviceSerialNumber = algorithm.identity[:64]
        equipment.ContributionDescription = "Analysis by an automated algorithm"
        dataset.ContributingEquipmentSequence = [equipment]
        return dataset


def _first_series_number(package: str) -> int:
    """Where the series of a package begin: a multiple of 1000 that its name alone gives, so a run of others keeps it.

    Two packages of a study share it in one of 900 cases; their series differ by description all the same.
    """
    return 1000 * (100 + int(hashlib.sha256(package.encode()).hexdigest(), 16) % 900)


def _one_identity(result: ExamResult, sources: Mapping[str, Dataset]) -> Identity:
    """The raw identity of the first image, once every image is known to be of that patient and study."""
    images = list(images_of(result))
    if not images:
        raise ImagingError(
            f"study {result.study_uid}, package {result.package}: found a result without any image; "
            "allowed is one with at least one analysed or unread image",
            Reason.REPORT_FAILED,
        )
    missing = [uid for uid in images if uid not in sources]
    if missing:
        raise ImagingError(
            f"image {missing[0]}: found no source header; allowed is one for every image of a result",
            Reason.REPORT_FAILED,
        )
    identities = [identity_of(sources[uid]) for uid in images]
    first = identities[0]
    for uid, identity in zip(images, identities, strict=True):
        for tag in (_PATIENT_ID, _STUDY_UID):
            if identity.get(tag, b"").strip(b" \0") != first.get(tag, b"").strip(b" \0"):
                raise InputError(
                    f"image {uid}, ({tag >> 16:04X},{tag & 0xFFFF:04X}): found another value than in image "
                    f"{images[0]}; allowed is one patient and one study in a result",
                    Reason.MIXED_PATIENTS,
                )
    return first
