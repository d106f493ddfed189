"""Training sets of phantoms: one entry for every kind of study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from imaging.phantoms import export
from imaging.phantoms.mammography import export as mammography_export
from imaging.phantoms.prostate import export as prostate_export

TrainingKind = Literal["breast", "head", "mammography", "prostate"]


def write_training_set(
    folder: Path, cases: int, seed: int, progress: Callable[[int, int], None] | None, kind: TrainingKind
) -> Path:
    """Write `cases` stills, exams or studies with their truth; the path of manifest.csv.

    `progress` is called with (done, of). Raises OutputError when the folder holds files already, ConfigError for fewer
    than one case.
    """
    if kind == "mammography":
        return mammography_export.write_training_set(folder, cases, seed, progress)
    if kind == "prostate":
        return prostate_export.write_training_set(folder, cases, seed, progress)
    return export.write_training_set(folder, cases, seed, progress, kind)
