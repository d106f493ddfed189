"""Where results go: whole files or nothing, and a study's folder whole or not at all. Names come from hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from imaging.errors import OutputError, Reason

_STAGING = ".staging"


def study_folder(study_uid: str) -> str:
    """The folder of a study inside the output, from a digest of its UID."""
    return f"studies/{hashlib.sha256(study_uid.encode()).hexdigest()[:16]}"


def write_file(path: Path, data: bytes) -> None:
    """The file with exactly these bytes, visible only once it is whole. Raises OutputError naming what is wrong."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(partial, data)
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def publish(out: Path, folder: str, files: Mapping[str, bytes]) -> None:
    """`out/folder` with exactly these files (by name), in the place of what stood there, in one step.

    Everything is written and synced beside, then renamed. Raises OutputError; then nothing of it is visible.
    """
    target = out / folder
    staged = out / _STAGING / folder.replace("/", "-")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for name, data in files.items():
            _write_synced(staged / name, data)
        _sync_folder(staged)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.replace(out / _STAGING / f"{staged.name}.old")
        staged.replace(target)
        _sync_folder(target.parent)
        shutil.rmtree(out / _STAGING, ignore_errors=True)
    except OSError as error:
        raise _unwritable(target, error) from error


def clear_staging(out: Path) -> None:
    """What an interrupted run left beside; a folder that it had moved away is put back first."""
    staging = out / _STAGING
    if not staging.is_dir():
        return
    for old in staging.glob("*.old"):
        study, _, package = old.name.removesuffix(".old").removeprefix("studies-").partition("-")
        target = out / "studies" / study / package
        if not target.exists():
            old.replace(target)
    shutil.rmtree(staging, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror}); nothing half-written is visible, and the same command goes on",
        Reason.OUTPUT_FAILED,
    )
