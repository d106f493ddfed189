"""DICOM files of public sets: what their headers say, and where they lie in a download of TCIA."""

from __future__ import annotations

from pathlib import Path

from imaging.dicom.index import Instance, build_index
from imaging.errors import InputError, Reason


def read_film(path: Path) -> Instance:
    """One image by its header; no pixel is read. Raises InputError for what cannot be used, with why."""
    if not path.is_file():
        raise InputError(f"{path.name}: there is no such file", Reason.NOT_A_FILE)
    index = build_index(path)
    if not index.series:
        reason = index.files[path.name].reason or Reason.NOT_AN_IMAGE
        raise InputError(f"{path.name}: {reason.meaning}", reason)
    film = index.series[0].instances[0]
    if film.refusal:
        raise InputError(f"{path.name}: {film.refusal.meaning}", film.refusal)
    return film


def size_of(film: Instance) -> tuple[int, int]:
    """(rows, columns)."""
    return film.rows, film.columns


def files_below(folder: Path) -> list[Path]:
    """The DICOM files (.dcm) below a folder, in order of their paths; none when there is no such folder."""
    return sorted(path for path in folder.rglob("*.dcm") if path.is_file())


def find_collection(folder: Path, name: str) -> Path | None:
    """The folder of a TCIA collection: `name`, or manifest-1234567890123/`name` as its downloader makes it."""
    return next(
        (found for found in (folder / name, *sorted(folder.glob(f"manifest-*/{name}"))) if found.is_dir()), None
    )
