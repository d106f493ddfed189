"""What headers have in common is walked once: stretches of elements that stand in file after file of a series.

A walk looks at nothing but the heads of elements (tag, VR, length), so a stretch whose heads are the same bytes in the
same places holds the same elements. One call unpacks all its heads and one comparison judges them, several times as
fast as stepping. Whatever differs is walked step by step, so what is known never changes what is found.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Set
from functools import lru_cache
from typing import Any, Final, NamedTuple

from imaging.dicom.parsing.limits import Limits

# Heads in a stretch: enough to pay, and few enough that one text of another length does not spoil much.
_ENOUGH: Final = 16
_TOO_MANY: Final = 512
# A stretch that keeps changing is given up, so that learning cannot cost more than it saves.
_MOST_TRIES: Final = 32
_MOST_RUNS: Final = 4096


class Trace:
    """A stretch being walked from the top level: (place, size) of heads, (tag, VR, place, size) of values."""

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.heads: list[tuple[int, int]] = []
        self.kept: list[tuple[int, bytes | None, int, int]] = []


class Stretch(NamedTuple):
    """A stretch that is known. `kept` has (tag, VR, begin, end) of the wanted values, from its first byte."""

    heads_of: Callable[[bytes, int], tuple[Any, ...]]
    heads: tuple[bytes, ...]
    size: int
    kept: tuple[tuple[int, bytes | None, int, int], ...]

    def values_of(self, data: bytes, at: int) -> dict[int, tuple[bytes | None, bytes]]:
        return {tag: (vr, data[at + begin : at + end]) for tag, vr, begin, end in self.kept}


class Runs:
    """Stretches by their first eight bytes."""

    def __init__(self) -> None:
        self._runs: dict[bytes, Stretch] = {}
        self._tries: dict[bytes, int] = {}

    def match(self, data: bytes, at: int, end: int) -> Stretch | None:
        """The known stretch that stands at this place, whole before `end`."""
        run = self._runs.get(data[at : at + 8])
        if run is not None and at + run.size <= end and run.heads_of(data, at) == run.heads:
            return run
        return None

    def learn(self, trace: Trace | None, data: bytes, at: int) -> Trace:
        """The trace to go on with, at a place of the top level; one that is long enough is learned and ends here."""
        if trace is None or len(trace.heads) < _ENOUGH:
            return trace or Trace(at)
        first = data[trace.begin : trace.begin + 8]
        tries = self._tries[first] = self._tries.get(first, 0) + 1
        if tries <= _MOST_TRIES and len(trace.heads) <= _TOO_MANY:
            if len(self._runs) >= _MOST_RUNS:
                self._runs.clear()
                self._tries.clear()
            form, place = [], trace.begin
            for begin, size in trace.heads:
                form.append(f"{begin - place}x{size}s")
                place = begin + size
            heads_of = struct.Struct("".join(form)).unpack_from
            kept = tuple((t, vr, b - trace.begin, b - trace.begin + n) for t, vr, b, n in trace.kept)
            self._runs[first] = Stretch(heads_of, heads_of(data, trace.begin), at - trace.begin, kept)
        return Trace(at)


@lru_cache(maxsize=16)
def known_runs(wanted: Set[int], opened: Set[int], limits: Limits, is_little: bool) -> Runs:
    """What this process has learned under the same question, the same limits and the same byte order."""
    return Runs()
