"""What happened to a job, told by whoever ran it: one line of JSON for each event, added and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from imaging.errors import OutputError, Reason

_FILE: Final = "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a job began or ended.

    Args:
        kind: What happened: a line began, did its work, ended without; the job was put `back` in the queue.
        line: Number of the line.
        by: Who ran it: `12_3 try 1` of SLURM, or `here`.
        status: With which a line ended.
        time: When, in UTC.
    """

    kind: Literal["begun", "done", "ended", "back"]
    line: int
    by: str
    status: int | None = None
    time: str = ""


class JobLedger:
    """The events of the job in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE

    def __iter__(self) -> Iterator[Event]:
        """A last line that was cut short by the end of its writer is nothing that happened."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        for line in text.splitlines(keepends=True):
            try:
                yield Event(**json.loads(line))
            except ValueError:
                continue

    def tell(self, event: Event) -> None:
        """Raises OutputError where it cannot be written."""
        told = {**asdict(event), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                # What was cut short ends here.
                stream.write(f"{'' if self._is_whole() else chr(10)}{json.dumps(told)}\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED
            ) from error

    def done(self) -> set[int]:
        """Lines that did their work."""
        return {event.line for event in self if event.kind == "done"}

    def died(self) -> int:
        """Tries in a row, the last ones, that ended by a kill that nobody asked for."""
        count = 0
        for event in self:
            if event.kind in ("ended", "done"):
                count = count + 1 if event.status == KILLED else 0
        return count

    def _is_whole(self) -> bool:
        content = self.path.read_bytes()
        return not content or content.endswith(b"\n")


# Statuses of a line: ended by SIGKILL (memory, a node, a person); asked to end, with its state on disk.
KILLED: Final = 137
ASKED: Final = (138, 143)
