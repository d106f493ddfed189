"""Independent programs that judge DICOM results, as functions of their words: their exit status says nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import require_tool

PIXELMED = Path("/usr/share/java/pixelmed.jar")


def run_tool(*command: str | Path) -> str:
    """What a program says, both outputs together, because these tools mix them."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, timeout=300)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def pixelmed(paths: Iterable[Path]) -> dict[Path, str]:
    """What PixelMed's template validator says of each SR; the limits of Java's XPath are lifted or it stops early.

    One Java for all, because half the time of a file goes into the start and into code that is not compiled yet.
    """
    require_tool("javac")
    java = require_tool("java")
    if not PIXELMED.exists():
        pytest.skip(f"{PIXELMED} is not installed; see CONTRIBUTING.md for the conformance tools")
    limits = [f"-Djdk.xml.xpath{name}=0" for name in ("TotalOpLimit", "ExprOpLimit", "ExprGrpLimit")]
    chosen = list(paths)
    said = run_tool(
        java, "-XX:+UseSerialGC", *limits, "-cp", PIXELMED, Path(__file__).with_name("Validate.java"), *chosen
    )
    told = {}
    for path in reversed(chosen):
        said, _, told[path] = said.rpartition(f"\n{path}\n")
    assert len(told) == len(chosen), f"a file is named twice in {chosen}"
    assert not said.strip(), said
    return told
