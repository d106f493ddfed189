"""PROMISE12 (Litjens et al., Medical Image Analysis 2014): axial T2W with the gland drawn, from four centres.

Read are, in the folder or below it, CaseNN.mhd with its CaseNN.raw, and CaseNN_segmentation.mhd. Cases without a
segmentation are dropped. Which centre a case is from is not published: all of site `unknown`. A case is a patient.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from imaging.data.public.frames import Collection, Dropped, PublicExam, no_layout
from imaging.image import UNKNOWN

NAME: Final = "promise12"
_CASE: Final = re.compile(r"Case(\d+)\.mhd")


def read(folder: Path) -> Collection:
    """The exams of a folder. Raises ConfigError for another layout."""
    images = sorted(path for path in folder.rglob("*.mhd") if _CASE.fullmatch(path.name))
    if not images:
        raise no_layout(NAME, folder, "Case00.mhd, Case00.raw and Case00_segmentation.mhd")
    return Collection.of([_exam(image) for image in images])


def _exam(image: Path) -> PublicExam | Dropped:
    truth = image.with_name(f"{image.stem}_segmentation.mhd")
    if not truth.is_file():
        return Dropped(image, "", f"{truth.name}: there is no such file, so the gland is unknown")
    number = image.stem.removeprefix("Case")
    return PublicExam(f"{NAME}_{number}", f"{NAME}-{number}", UNKNOWN, image, truth=truth, positive=True)
