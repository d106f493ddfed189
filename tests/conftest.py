"""Shared test set-up: where the development data is, and how a missing tool skips with its reason."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def find_tool(name: str) -> str | None:
    """Path of an external program: beside this interpreter first (PyPI tools), then on PATH (Debian tools)."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


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
