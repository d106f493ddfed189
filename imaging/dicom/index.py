"""Folder → series of instances, from headers alone. One bad file costs only itself: each ends with a reason code."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from imaging.dicom.passport import Passport, read_origin, read_passport
from imaging.errors import InputError, Reason
from imaging.image import Origin

State = Literal["used", "skipped", "refused"]


@dataclass(frozen=True, slots=True)
class FileState:
    """Where one file of the export ended. `path` is relative to the export; `used` carries no reason."""

    path: str
    state: State
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """One item of SequenceOfUltrasoundRegions (PS3.3 C.8.5.5).

    `box` is (row, column, row, column), half-open, as declared: it may reach outside the image. `spacing_mm` is
    (row step, column step), None when the region's units are not centimetres in both directions.
    """

    number: int
    box: tuple[int, int, int, int]
    spatial_format: int
    data_type: int
    spacing_mm: tuple[float, float] | None

    @property
    def is_tissue(self) -> bool:
        """2-D (RegionSpatialFormat 1) and tissue (RegionDataType 1): not M-mode, Doppler, spectral or a trace."""
        return self.spatial_format == 1 and self.data_type == 1


@dataclass(frozen=True)
class Instance:
    """One image object as its header describes it. `patient_key` is a digest: it compares, it does not name.

    `refusal` says why an instance must not be read although its header could be: it still belongs to its study, so
    that the study is never answered as if the image did not exist.
    """

    path: Path
    name: str
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    rows: int
    columns: int
    frames: int | None
    series_number: int
    instance_number: int
    body_part: str
    patient_key: str
    spacing_mm: tuple[float, float] | None
    regions: tuple[Region, ...]
    origin: Origin
    passport: Passport
    refusal: Reason | None = None


@dataclass(frozen=True)
class Series:
    """The instances of one series in acquisition order (instance number, then SOP Instance UID)."""

    uid: str
    study_uid: str
    modality: str
    instances: tuple[Instance, ...]


@dataclass
class Index:
    """What an export holds. `files` has exactly one state per file found, so nothing is silently dropped."""

    series: list[Series] = field(default_factory=list)
    files: dict[str, FileState] = field(default_factory=dict)

    def studies(self) -> dict[str, list[Series]]:
        """Series by Study Instance UID, in order of UID."""
        by_study: dict[str, list[Series]] = defaultdict(list)
        for series in self.series:
            by_study[series.study_uid].append(series)
        return {uid: by_study[uid] for uid in sorted(by_study)}


def walk(export: Path) -> Iterator[Path]:
    """Every file below a folder in a stable order; symbolic links are named, never entered or opened."""
    for folder, folders, names in os.walk(export, followlinks=False):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(links))
        for name in sorted(names + links):
            yield Path(folder) / name


def build_index(export: Path, site: str | None = None) -> Index:
    """The series of every readable image below `export` (a folder, or a single file) and the state of every file.

    `site` overrides what the headers say (InstitutionName). Raises InputError when `export` does not exist.
    """
    if not export.exists():
        raise InputError(f"{export}: there is no such file or folder; name a folder of DICOM files", Reason.NOT_DICOM)
    index = Index()
    instances: list[Instance] = []
    for path in walk(export) if export.is_dir() else [export]:
        name = path.relative_to(export).as_posix() if export.is_dir() else path.name
        found = _scan(path, name, site)
        if isinstance(found, Instance):
            instances.append(found)
        else:
            index.files[name] = found
    kept = list(_single(instances, index.files))
    by_series: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for instance in kept:
        by_series[instance.study_uid, instance.series_uid].append(instance)
    for (study_uid, uid), members in sorted(by_series.items()):
        members.sort(key=lambda i: (i.instance_number, i.sop_uid))
        index.series.append(Series(uid, study_uid, members[0].modality, tuple(members)))
    return index


def read_header(path: Path) -> Dataset:
    """The dataset of one file without its pixel data. Raises InputError with a reason code, whatever the file holds."""
    try:
        return dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise InputError(f"{path.name}: not a DICOM file (no DICM prefix at byte 128)", Reason.NOT_DICOM) from error
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})", Reason.UNREADABLE_HEADER) from error
    except Exception as error:
        raise InputError(
            f"{path.name}: the header cannot be parsed ({type(error).__name__})", Reason.UNREADABLE_HEADER
        ) from error


def _scan(path: Path, name: str, site: str | None) -> Instance | FileState:
    if path.is_symlink():
        return FileState(name, "skipped", Reason.SYMLINK)
    try:
        header = read_header(path)
        if header.file_meta.get("MediaStorageSOPClassUID", "") == "1.2.840.10008.1.3.10":
            return FileState(name, "skipped", Reason.DICOMDIR)
        if "Rows" not in header or "Columns" not in header:
            return FileState(name, "skipped", Reason.NOT_AN_IMAGE)
        return _describe(path, name, header, site)
    except InputError as error:
        state: State = "skipped" if error.reason is Reason.NOT_DICOM else "refused"
        return FileState(name, state, error.reason)
    except Exception:  # noqa: BLE001 - element access on a mutated header raises nearly anything; the code says so
        return FileState(name, "refused", Reason.UNREADABLE_HEADER)


def _describe(path: Path, name: str, header: Dataset, site: str | None) -> Instance:
    """The facts of one image header. Raises InputError when a UID is missing."""
    uids = [str(header.get(key, "")) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    if not all(uids):
        raise InputError(f"{name}: a Study, Series or SOP Instance UID is missing or empty", Reason.MISSING_UID)
    spacing = header.get("PixelSpacing")
    frames = header.get("NumberOfFrames")
    return Instance(
        path=path,
        name=name,
        study_uid=uids[0],
        series_uid=uids[1],
        sop_uid=uids[2],
        sop_class_uid=str(header.get("SOPClassUID", "")),
        transfer_syntax_uid=str(header.file_meta.get("TransferSyntaxUID", "")),
        modality=str(header.get("Modality", "")),
        rows=int(header.Rows),
        columns=int(header.Columns),
        frames=None if frames in (None, "") else int(frames),
        series_number=int(header.get("SeriesNumber") or 0),
        instance_number=int(header.get("InstanceNumber") or 0),
        body_part=str(header.get("BodyPartExamined", "")).strip().upper(),
        patient_key=_patient_key(header),
        spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
        regions=tuple(_region(item, k) for k, item in enumerate(header.get("SequenceOfUltrasoundRegions") or [])),
        origin=read_origin(header, site),
        passport=read_passport(header),
    )


def _region(item: Dataset, number: int) -> Region:
    centimetres = item.get("PhysicalUnitsXDirection") == 3 and item.get("PhysicalUnitsYDirection") == 3
    steps = (abs(float(item.get("PhysicalDeltaY") or 0)) * 10, abs(float(item.get("PhysicalDeltaX") or 0)) * 10)
    return Region(
        number=number,
        box=(
            int(item.RegionLocationMinY0),
            int(item.RegionLocationMinX0),
            int(item.RegionLocationMaxY1) + 1,
            int(item.RegionLocationMaxX1) + 1,
        ),
        spatial_format=int(item.get("RegionSpatialFormat") or 0),
        data_type=int(item.get("RegionDataType") or 0),
        spacing_mm=steps if centimetres and min(steps) > 0 else None,
    )


def _patient_key(header: Dataset) -> str:
    """Digest of the raw bytes that say who the patient is, so that two patients under one study UID are noticed."""
    digest = hashlib.sha256()
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"):
        raw = header.get_item(keyword)
        value = getattr(raw, "value", b"") or b""
        # Trailing delimiters and padding carry nothing: "Doe^J" and "Doe^J^^ " are one name (PS3.5 6.2).
        digest.update((value if isinstance(value, bytes) else str(value).encode()).rstrip(b" ^=\0") + b"\x1f")
    return digest.hexdigest()


def _single(instances: list[Instance], files: dict[str, FileState]) -> Iterator[Instance]:
    """One instance per SOP Instance UID, with its refusal, and the state of every file.

    Of byte-equal copies the first is used. Where bytes differ, or where two patients stand under one study, none may
    be read, because nothing says which is true.
    """
    by_uid: dict[str, list[Instance]] = defaultdict(list)
    patients: dict[str, set[str]] = defaultdict(set)
    for instance in instances:
        by_uid[instance.sop_uid].append(instance)
        patients[instance.study_uid].add(instance.patient_key)
    for same in by_uid.values():
        refusal = Reason.DUPLICATE_UID if len(same) > 1 and len({_file_digest(i.path) for i in same}) > 1 else None
        if any(len(patients[i.study_uid]) > 1 for i in same):
            refusal = Reason.MIXED_PATIENTS
        for number, instance in enumerate(same):
            if refusal:
                files[instance.name] = FileState(instance.name, "refused", refusal)
            elif number:
                files[instance.name] = FileState(instance.name, "skipped", Reason.DUPLICATE)
            else:
                files[instance.name] = FileState(instance.name, "used")
        yield replace(same[0], refusal=refusal)


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
