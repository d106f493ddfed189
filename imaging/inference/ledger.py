"""The ledger of an output folder: what is answered, so that the same command again does nothing twice.

SQLite with a write-ahead log: `kill -9` at any moment leaves either the row or no row. Keys are digests; no name, no
identifier and no path of the export is in it. One run at a time holds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imaging.dicom.index import FileState
from imaging.errors import OutputError, Reason
from imaging.report.document import Issue, IssuedObject

if sys.platform != "win32":
    import fcntl

FOLDER = ".ledger"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS result (
    work TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, answered INTEGER NOT NULL, told TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS document (work TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (work, path));
CREATE TABLE IF NOT EXISTS issue (work TEXT NOT NULL, number INTEGER NOT NULL, draft TEXT NOT NULL,
    objects TEXT NOT NULL, PRIMARY KEY (work, number));
CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT);
CREATE TABLE IF NOT EXISTS seconds (part TEXT PRIMARY KEY, spent REAL NOT NULL);
"""

Json = dict[str, Any]


@dataclass(frozen=True)
class Issued:
    """An issue, and the digest of its content as it would be without predecessor."""

    draft: str
    issue: Issue


def digest(*parts: str) -> str:
    """A key from parts that must not stand in the ledger themselves."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


class Ledger:
    """The ledger of `out`, held by this run until it is closed."""

    def __init__(self, out: Path, fresh: bool = False) -> None:
        """Opens or makes it. Raises OutputError when another run holds it, or when it cannot be written."""
        folder = out / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._rows = _connect(folder, fresh)
        except BlockingIOError as error:
            self._lock.close()
            raise OutputError(
                f"{out}: another run is writing here; wait for it, or name another folder with --out",
                Reason.OUTPUT_IN_USE,
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise _unwritable(out, error) from error
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rows.close()
        self._lock.close()

    def content_time(self, wanted: datetime | None) -> datetime:
        """The time that results carry: the wanted one, else that of the first run here, else now."""
        if wanted is None:
            row = self._rows.execute("SELECT value FROM run WHERE key = 'content_time'").fetchone()
            wanted = datetime.fromisoformat(row[0]) if row else datetime.now().replace(microsecond=0)
        with self._writing():
            self._rows.execute("INSERT OR REPLACE INTO run VALUES ('content_time', ?)", (wanted.isoformat(),))
        return wanted

    def result(self, work: str, fingerprint: str, retry_failed: bool) -> Json | None:
        """What was said of this work, if it was said of the same input and its documents are still there unchanged."""
        row = self._rows.execute(
            "SELECT answered, told FROM result WHERE work = ? AND fingerprint = ?", (work, fingerprint)
        ).fetchone()
        if row is None or (retry_failed and not row[0]):
            return None
        documents = self._rows.execute("SELECT path, sha256 FROM document WHERE work = ?", (work,))
        if not all(_sha256(self._out / path) == expected for path, expected in documents):
            return None
        told: Json = json.loads(row[1])
        return told

    def superseded(self, work: str, draft: str) -> Issue | None:
        """The issue of this work that objects supersede; None for the first.

        `draft` stands for their content as it would be without predecessor. What was issued before keeps its place,
        so that the same content repeats its bytes; new content follows all of it.
        """
        issues = self._rows.execute("SELECT number, draft, objects FROM issue WHERE work = ? ORDER BY number", (work,))
        earlier: Issue | None = None
        for number, known, objects in issues:
            if known == draft:
                break
            earlier = Issue(number, tuple(IssuedObject(*place) for place in json.loads(objects)))
        return earlier

    def record(self, work: str, fingerprint: str, told: Json, files: Iterable[str], issued: Issued | None) -> None:
        """What was said, after its files (relative paths) are in place, and what it adds to the issues of the work."""
        with self._writing():
            self._rows.execute("DELETE FROM document WHERE work = ?", (work,))
            for path in files:
                self._rows.execute("INSERT INTO document VALUES (?, ?, ?)", (work, path, _sha256(self._out / path)))
            self._rows.execute(
                "INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?)",
                (work, fingerprint, int(told["completeness"] != "none"), json.dumps(told)),
            )
            if issued is not None:
                places = json.dumps([astuple(place) for place in issued.issue.objects])
                self._rows.execute(
                    "INSERT OR REPLACE INTO issue VALUES (?, ?, ?, ?)",
                    (work, issued.issue.number, issued.draft, places),
                )

    def close_run(self, files: Iterable[FileState], seconds: dict[str, float]) -> None:
        """The state of every file of the export, and where the time went."""
        with self._writing():
            self._rows.execute("DELETE FROM file")
            self._rows.executemany(
                "INSERT INTO file VALUES (?, ?, ?)",
                ((digest(file.path), file.state, file.reason and file.reason.value) for file in files),
            )
            if seconds:
                self._rows.execute("DELETE FROM seconds")
                self._rows.executemany("INSERT INTO seconds VALUES (?, ?)", sorted(seconds.items()))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._rows:
                yield
        except sqlite3.Error as error:
            raise _unwritable(self._out, error) from error


class Status:
    """What a ledger says, read without holding it: also while a run is going on."""

    def __init__(self, out: Path) -> None:
        """Raises OutputError when `out` holds no ledger."""
        path = out / FOLDER / "ledger.sqlite"
        if not path.is_file():
            raise OutputError(f"{out}: no run has written here", Reason.OUTPUT_FAILED)
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as rows:
            told = [json.loads(row[0]) for row in rows.execute("SELECT told FROM result")]
            self.files = Counter(rows.execute("SELECT state, reason FROM file").fetchall())
            self.seconds: dict[str, float] = dict(rows.execute("SELECT part, spent FROM seconds"))
            self.content_time = dict(rows.execute("SELECT key, value FROM run")).get("content_time", "")
        self.outcomes = Counter((r["finding"], r["completeness"], r["reason"]) for r in told)
        self.is_running = _is_held(out / FOLDER / "lock")


def _connect(folder: Path, fresh: bool) -> sqlite3.Connection:
    rows = sqlite3.connect(folder / "ledger.sqlite", timeout=30)
    rows.execute("PRAGMA journal_mode=WAL")
    rows.execute("PRAGMA synchronous=FULL")
    rows.executescript(_SCHEMA)
    if fresh:  # but for what was issued, which other systems hold and new objects must supersede
        with rows:
            for table in ("run", "result", "document", "file", "seconds"):
                rows.execute(f"DELETE FROM {table}")  # noqa: S608 - our own table names
    return rows


def _is_held(lock: Path) -> bool:
    with lock.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _sha256(path: Path) -> str:
    """Digest of a file; empty when it is not there."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _unwritable(out: Path, error: Exception) -> OutputError:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return OutputError(f"{out}: cannot be written ({said}); run the same command again", Reason.OUTPUT_FAILED)
