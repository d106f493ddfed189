"""HC18 (van den Heuvel et al., PLoS ONE 2018): training_set/000_HC.png with 000_HC_Annotation.png and a table of sizes.

The annotation is the contour of the head; truth is what it encloses. 010_HC.png and 010_2HC.png are of one head. The
test set has no annotation and is not read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from imaging.data.public.frames import CURATED, Collection, PublicFrame, no_layout, read_curated, read_lines, read_step
from imaging.errors import ConfigError, Reason

NAME: Final = "hc18"
TABLE: Final = "training_set_pixel_size_and_HC.csv"
PICTURES: Final = "training_set"
_COLUMNS = ("filename", "pixel size(mm)")
_IMAGE = re.compile(r"(\d+)_\d*HC\.png")


def read(folder: Path) -> Collection:
    """The frames of a folder. Raises ConfigError for another layout."""
    if (folder / CURATED).is_file():
        return read_curated(folder, NAME)
    if not (folder / TABLE).is_file() or not (folder / PICTURES).is_dir():
        raise no_layout(
            NAME, folder, f"{TABLE}, {PICTURES}/000_HC.png and {PICTURES}/000_HC_Annotation.png, or a curated {CURATED}"
        )
    # Some releases unpack to training_set/training_set.
    inner = folder / PICTURES / PICTURES
    pictures = inner if inner.is_dir() else folder / PICTURES
    lines = read_lines(folder / TABLE, _COLUMNS)
    return Collection(tuple(_frame(pictures, number, line) for number, line in lines))


def _frame(pictures: Path, number: int, line: dict[str, str]) -> PublicFrame:
    where, name = f"set {NAME}, {TABLE}, line {number}", line["filename"]
    match = _IMAGE.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{where}: filename is '{name}'; allowed are names like 000_HC.png and 010_2HC.png", Reason.CONFIG_INVALID
        )
    image, contour = pictures / name, pictures / f"{name.removesuffix('.png')}_Annotation.png"
    for path in (image, contour):
        if not path.is_file():
            raise ConfigError(f"{where}: looked for {path}; there is no such file", Reason.CONFIG_INVALID)
    step = read_step(where, "pixel size(mm)", line["pixel size(mm)"])
    return PublicFrame(
        f"{NAME}_{image.stem}", f"s{match[1]}", NAME, image, (contour,), spacing_mm=(step, step), is_outlined=True
    )
