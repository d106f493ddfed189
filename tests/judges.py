"""Independent programs that judge DICOM results, as functions of their words: their exit status says nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import require_tool

PIXELMED = Path("/usr/share/java/pixelmed.jar")


def run_tool(*command: str | Path) -> str:
    """What a program says, both outputs together, because these tools mix them."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, timeout=300)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def pixelmed(paths: Iterable[Path]) -> dict[Path, str]:
    """What PixelMed's template validator says of each SR; the limits of Java's XPath are lifted or it stops early."""
    java = require_tool("java")
    if not PIXELMED.exists():
        pytest.skip(f"{PIXELMED} is not installed; see CONTRIBUTING.md for the conformance tools")
    limits = [f"-Djdk.xml.xpath{name}=0" for name in ("TotalOpLimit", "ExprOpLimit", "ExprGrpLimit")]

    def validate(path: Path) -> str:
        quick = "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"  # a short run of one thread
        return run_tool(java, *quick, *limits, "-cp", PIXELMED, "com.pixelmed.validate.DicomSRValidator", path)

    chosen = list(paths)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(chosen, pool.map(validate, chosen), strict=True))
