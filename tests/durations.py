"""How long each test works, recorded in tests/durations.json: what is above SLOW_S is marked slow.

    python -m tests.durations                    # every test, one after the other
    python -m tests.durations tests/test_x.py    # those of some files anew, the rest of the record stays

A test's time is what its processes use of a processor, so a busy machine does not change it: its own, and its share of
the fixtures that it has in common with others. Files with the longest sums start first where tests run in parallel.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).with_name("durations.json")
SLOW_S = 0.8  # all that is below takes less than two minutes on two processors
LEAST_S = 0.2  # what is below is not recorded


def read_record() -> dict[str, float]:
    """Test id → seconds, of those that take at least LEAST_S."""
    found: dict[str, float] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def file_of(test: str) -> str:
    return test.partition("::")[0]


def by_file(record: Mapping[str, float]) -> dict[str, float]:
    """File → seconds of its recorded tests."""
    total: dict[str, float] = defaultdict(float)
    for test, seconds in record.items():
        total[file_of(test)] += seconds
    return total


def processor_s() -> float:
    """Seconds that this process, all below it and all that they waited for have used of a processor (Linux)."""
    used: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        number = int(entry.parent.name)
        children[int(after_name[1])].append(number)
        used[number] = sum(int(ticks) for ticks in after_name[11:15])  # utime, stime and those of waited children
    total, waiting = 0, [os.getpid()]
    while waiting:
        number = waiting.pop()
        total += used.get(number, 0)
        waiting += children[number]
    return total / os.sysconf("SC_CLK_TCK")


@dataclass
class Shared:
    """A fixture that lives longer than a test: what it took, and who uses it."""

    seconds: float = 0.0
    users: set[str] = field(default_factory=set)


class Recorder:
    """A plugin of pytest that measures every test of a serial run."""

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.shared: dict[tuple[str, str], Shared] = defaultdict(Shared)
        self._inner: list[float] = [0.0]  # of each measure under way, what those within it took

    def _measured(self) -> Generator[None, Any, tuple[Any, float]]:
        begin = processor_s()
        self._inner.append(0.0)
        try:
            result = yield
        finally:
            whole = processor_s() - begin
            own = whole - self._inner.pop()
            self._inner[-1] += whole
        return result, own

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        result, seconds = yield from self._measured()
        test = request._pyfuncitem.nodeid
        if fixturedef.scope == "function":
            self.own[test] += seconds
        else:
            shared = self.shared[fixturedef.baseid, fixturedef.argname]
            shared.seconds += seconds
            shared.users.add(test)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Generator[None, Any, Any]:
        for (base, name), shared in self.shared.items():
            if name in item.fixturenames and item.nodeid.startswith(base):
                shared.users.add(item.nodeid)
        result, seconds = yield from self._measured()
        self.own[item.nodeid] += seconds
        return result

    def seconds(self) -> dict[str, float]:
        """Test id → its own seconds and its shares."""
        total = dict(self.own)
        for shared in self.shared.values():
            for test in shared.users:
                total[test] = total.get(test, 0.0) + shared.seconds / len(shared.users)
        return total


def main(words: list[str]) -> int:
    recorder = Recorder()
    status = pytest.main(["-q", "-p", "no:xdist", *words], plugins=[recorder])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(status)
    measured = recorder.seconds()
    again = {file_of(test) for test in measured}
    kept = {test: seconds for test, seconds in read_record().items() if words and file_of(test) not in again}
    record = {test: round(seconds, 1) for test, seconds in measured.items() if seconds >= LEAST_S}
    RECORD.write_text(json.dumps(kept | record, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
