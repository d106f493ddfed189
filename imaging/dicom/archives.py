"""Archives of an export (zip, tar, compressed tar) → files, within limits, in a folder of their own.

An archive is hostile until read: names that lead elsewhere, links, devices and bombs. Members are written under names
of our own making below the archive's path, so nothing in an archive says where a file goes. One is unpacked whole or
not at all: broken, beyond a limit or locked, it stays an archive, and what it may hold counts as unseen.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from imaging.dicom.places import walk
from imaging.errors import ImagingError, InputError, Reason
from imaging.workers import WorkerLimits, Workers

_LIMITS: Final = WorkerLimits(memory_bytes=1 << 30, seconds=1800.0)
_BLOCK: Final = 1 << 20
_STARTS: Final = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # zip, and what a tar is compressed by


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """No limit is near a real export; each is far below what would hurt."""

    members: int = 100_000
    """Files in one archive."""
    bytes: int = 64 << 30
    """All files of one archive together."""
    ratio: float = 200.0
    """Bytes of all files per byte of the archive, beyond `free_bytes`."""
    free_bytes: int = 64 << 20
    """Up to this size the ratio is not asked for: blank images compress without end."""


ARCHIVE_LIMITS: Final = ArchiveLimits()


@dataclass(frozen=True)
class Unpacked:
    """What was unpacked: the files of the archive `name` lie below `folder / name`; `left` says why others were not."""

    folder: Path
    names: frozenset[str]
    left: dict[str, str]


def unpack_archives(export: Path, folder: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> Unpacked:
    """Every archive below `export` that can be unpacked, unpacked below `folder`, which is made; in a worker process.

    Archives inside archives stay archives.
    """
    root = export if export.is_dir() else export.parent
    names = [name for name in (walk(export) if export.is_dir() else [export.name]) if _is_archive(root / name)]
    unpacked: set[str] = set()
    left: dict[str, str] = {}
    with Workers(1, _LIMITS, [__name__]) as workers:
        tasks = ((str(root / name), str(folder / name), limits) for name in names)
        for name, outcome in zip(names, workers.map(unpack, tasks), strict=True):
            if isinstance(outcome, ImagingError):
                shutil.rmtree(folder / name, ignore_errors=True)
                left[name] = str(outcome)
            else:
                unpacked.add(name)
    return Unpacked(folder, frozenset(unpacked), left)


def unpack(archive: str, folder: str, limits: ArchiveLimits) -> int:
    """The number of files of one archive, written below a folder. Raises InputError: INFLATES_TOO_MUCH or ARCHIVE."""
    source, into = Path(archive), Path(folder)
    stated = source.stat()
    allowed = max(limits.free_bytes, min(limits.bytes, int(stated.st_size * limits.ratio)))
    count = 0
    try:
        for member, stream in _members(source):
            count += 1
            if count > limits.members:
                raise InputError(f"found more than {limits.members} files", Reason.INFLATES_TOO_MUCH)
            target = into / f"{count:06d}{_suffix(member)}"
            target.parent.mkdir(parents=True, exist_ok=True)
            allowed -= _write(stream, target, allowed)
            # The ledger knows a file by size and time: unpacked again, it is the same file.
            os.utime(target, ns=(stated.st_mtime_ns, stated.st_mtime_ns))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        # RuntimeError: a password is asked for. OSError: a damaged stream too.
        raise InputError(f"the archive cannot be unpacked ({type(error).__name__})", Reason.ARCHIVE) from error
    return count


def _members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each regular file, as it is read; links, devices and folders are no files."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(source, "r:*") as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content


def _write(stream: IO[bytes], target: Path, allowed: int) -> int:
    """The bytes written; more than are allowed are never held nor kept."""
    written = 0
    with target.open("xb") as file:
        while block := stream.read(_BLOCK):
            written += len(block)
            if written > allowed:
                raise InputError(f"unpacks to more bytes than allowed ({allowed} left)", Reason.INFLATES_TOO_MUCH)
            file.write(block)
    return written


def _suffix(member: str) -> str:
    """.dcm for what is called so: a name of an archive is never used as it stands."""
    return ".dcm" if PurePosixPath(member.replace("\\", "/")).suffix.lower() == ".dcm" else ""


def _is_archive(path: Path) -> bool:
    """By the first bytes alone: nothing is parsed outside of a worker."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as stream:
            first = stream.read(262)
    except OSError:
        return False
    return first.startswith(_STARTS) or first[257:262] == b"ustar"
