"""The record of how long tests work: it names tests that are there, and measures what it says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.durations import Recorder, Shared, by_file, file_of, processor_s, read_record


def test_every_recorded_test_is_there() -> None:
    """A renamed test would be quick for ever: `python -m tests.durations FILE` records it anew."""
    source: dict[str, str] = {}
    for test in read_record():
        path = file_of(test)
        source.setdefault(path, (REPOSITORY / path).read_text(encoding="utf-8"))
        function = re.split(r"::|\[", test)[1]
        assert f"def {function}(" in source[path], test


def test_slow_is_marked_by_the_record_alone() -> None:
    by_hand = "pytest.mark." + "slow"
    assert [path.name for path in (REPOSITORY / "tests").rglob("test_*.py") if by_hand in path.read_text()] == []


def test_a_fixture_is_shared_by_those_who_use_it() -> None:
    recorder = Recorder()
    recorder.own |= {"a::one": 0.5, "a::two": 3.0, "b::one": 0.25}
    recorder.shared["a", "made"] = Shared(4.0, {"a::one", "a::two"})
    assert recorder.seconds() == {"a::one": 2.5, "a::two": 5.0, "b::one": 0.25}
    assert by_file(recorder.seconds()) == {"a": 7.5, "b": 0.25}


@pytest.mark.parametrize(
    ("code", "least", "most"),
    [
        ("import time; begin = time.process_time()\nwhile time.process_time() - begin < 0.6: pass", 0.5, 1.5),
        ("import time; time.sleep(0.6)", 0.0, 0.5),
    ],
    ids=["work", "sleep"],
)
def test_what_a_child_works_is_counted_and_waiting_is_not(code: str, least: float, most: float) -> None:
    begin = processor_s()
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
    assert least <= processor_s() - begin < most
