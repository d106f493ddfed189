"""Where results go: whole files or nothing, written beside, synced, then renamed. Names come from hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from imaging.errors import OutputError, Reason


def study_folder(study_uid: str) -> str:
    """The folder of a study inside the output, from a digest of its UID."""
    return f"studies/{hashlib.sha256(study_uid.encode()).hexdigest()[:16]}"


def write_file(path: Path, data: bytes) -> None:
    """The file with exactly these bytes, visible only once it is whole. Raises OutputError naming what is wrong."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror})", Reason.OUTPUT_FAILED) from error
