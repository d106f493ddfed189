"""Samples on the model's grid on disk, so that a picture is decoded once and not once an epoch, nor once an arm.

An entry is named by what it was made from: the bytes of image and truth, what of the recipe decides about placing
(settings but its normalisation, and code version) and this format. Anything that changes makes another name, so nothing
goes stale. An entry is written beside its place, flushed and renamed; its digest is checked on every read, a damaged
one is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from imaging.image import Array

_LOG = logging.getLogger(__name__)
FORMAT = 2
_DIGEST = 32
_RECOUNTS = 20  # times that the folder is looked at while a whole limit is written: others write there too
_ABANDONED_S = 24 * 3600  # age from which an entry that was never finished is nobody's


def default_folder() -> Path:
    """Where caches of this user live (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sitewise-imaging" / "samples"


class SampleCache:
    """Named tuples of arrays in a folder, at most `limit_bytes` in all; the longest unused go first.

    Several processes may share a folder: entries appear whole, equal names hold equal bytes, and the limit is kept
    up to a twentieth for each process that writes. A folder that cannot be written, or a full disk, costs time and
    nothing else: it is told once, and what is missing is made each time.
    """

    def __init__(self, folder: Path, limit_bytes: int = 50 << 30) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.damaged = 0
        self._is_writable = True
        self._held, self._written = 0, limit_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in folder.glob("*/*.part"):
                if (facts := _facts(part)) and time.time() - facts.st_mtime > _ABANDONED_S:
                    part.unlink(missing_ok=True)
        except OSError as error:
            self._do_without(error)

    def get(self, key: str) -> list[Array] | None:
        """The arrays of `key`; None when there is no whole entry."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:  # not there, or not for this account: it is made
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            self.damaged += 1
            return None
        with contextlib.suppress(OSError):  # another process made room meanwhile, or the folder is read-only
            os.utime(path)
        return _unpack(content[_DIGEST:])

    def put(self, key: str, arrays: Iterable[Array]) -> None:
        """Keep the arrays, where the folder can be written. An entry that alone exceeds the limit is not kept."""
        if not self._is_writable:
            return
        body = _pack(list(arrays))
        if _DIGEST + len(body) > self.limit_bytes:
            return
        try:
            self._write(self._path(key), body)
        except OSError as error:
            self._do_without(error)

    def _write(self, path: Path, body: bytes) -> None:
        size = _DIGEST + len(body)
        path.parent.mkdir(exist_ok=True)
        self._make_room(size, path)
        handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(body).digest() + body)
                stream.flush()
                os.fsync(stream.fileno())
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        self._held += size
        self._written += size

    def _do_without(self, error: OSError) -> None:
        self._is_writable = False
        _LOG.warning(
            "cache %s: %s; going on without keeping harmonised samples, so that each is made anew in every epoch",
            self.folder,
            error.strerror,
        )

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.sample"

    def _make_room(self, wanted: int, own: Path) -> None:
        """Remove the longest unused entries where `wanted` more bytes pass the limit; `own` will be written over."""
        if self._held + wanted <= self.limit_bytes and self._written * _RECOUNTS < self.limit_bytes:
            return
        found = ((entry, _facts(entry)) for entry in self.folder.glob("*/*.sample"))
        entries = [(facts.st_mtime_ns, facts.st_size, entry) for entry, facts in found if facts]
        self._held, self._written = sum(size for _, size, entry in entries if entry != own), 0
        for _, size, entry in sorted(entries):
            if self._held + wanted <= self.limit_bytes:
                return
            if entry != own:
                self._held -= size
                entry.unlink(missing_ok=True)


def _facts(path: Path) -> os.stat_result | None:
    """None when another process has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def key_of(files: Iterable[Path], facts: Iterable[str]) -> str:
    """The name of what is made from these files' bytes and these facts. Of a folder, all files in it count by name."""
    told = hashlib.sha256(f"format {FORMAT}".encode())
    for path in files:
        inside = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else []
        for one in inside:
            told.update(hashlib.sha256(one.relative_to(path).as_posix().encode()).digest())
        for one in inside or [path]:
            with one.open("rb") as stream:
                told.update(hashlib.file_digest(stream, "sha256").digest())
    for fact in facts:
        told.update(hashlib.sha256(fact.encode()).digest())
    return told.hexdigest()


def _pack(arrays: list[Array]) -> bytes:
    head = json.dumps([(a.dtype.str, a.shape) for a in arrays]).encode()
    return len(head).to_bytes(8, "little") + head + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)


def _unpack(body: bytes) -> list[Array]:
    start = 8 + int.from_bytes(body[:8], "little")
    arrays = []
    for kind, shape in json.loads(body[8:start]):
        array = np.frombuffer(body, np.dtype(kind), int(np.prod(shape)), start).reshape(shape)
        start += array.nbytes
        arrays.append(array)
    return arrays
