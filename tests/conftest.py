"""Shared test set-up: where the development data is, what is slow, and how a missing tool skips with its reason.

With IMAGING_STRICT=1 (continuous integration) a conformance, viewer, browser or SLURM test that skips is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.durations import SLOW_S, by_file, file_of, read_record

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes at work: one thread each, before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES_OF_TOOLS = ("dicom3tools", "dcmqi")
NEVER_SKIPPED_IN_CI = ("conformance", "viewer", "browser", "slurm")


def is_strict() -> bool:
    """Whether everything must be there: continuous integration installed it."""
    return os.environ.get("IMAGING_STRICT") == "1"


@cache
def find_tool(name: str) -> str | None:
    """Path of an external program: of a PyPI package of tools first, then on PATH (Debian tools).

    The scripts that PyPI packages put beside the interpreter start Python before the program, which costs more than it.
    """
    for package in PACKAGES_OF_TOOLS:
        spec = find_spec(package)
        if spec and spec.origin and (program := Path(spec.origin).parent / "bin" / name).exists():
            return str(program)
    return shutil.which(name)


def require_tool(name: str) -> str:
    path = find_tool(name)
    if path is None:
        pytest.skip(f"{name} is not installed; see CONTRIBUTING.md for the conformance tools")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data, or a skip that says how to name it."""
    value = os.environ.get("IMAGING_SHARED_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("IMAGING_SHARED_DATA does not name a folder; real images are not part of the repository")
    return Path(value).resolve()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by its record; in parallel the longest files start first, so that none is waited for."""
    record = read_record()
    for item in items:
        if record.get(item.nodeid, 0.0) > SLOW_S:
            item.add_marker(pytest.mark.slow)
    if "PYTEST_XDIST_WORKER" in os.environ:
        seconds = by_file(record)
        items.sort(key=lambda item: -seconds.get(file_of(item.nodeid), 0.0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if is_strict() and report.skipped and any(item.get_closest_marker(name) for name in NEVER_SKIPPED_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped under IMAGING_STRICT=1: {report.longrepr}"
    return report
