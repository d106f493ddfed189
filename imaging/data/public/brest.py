"""BrEaST-Lesions-USG (Pawłowska et al., Scientific Data 2024): clinical table, case001.png, case001_tumor.png.

One picture per patient. Truth is the union of the tumour masks; masks of other findings (case001_other1.png) are none.
The table is published as a spreadsheet and read here as its CSV export.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imaging.data.public.frames import CURATED, Collection, PublicFrame, no_layout, read_curated, read_lines, read_step
from imaging.errors import ConfigError, Reason

NAME: Final = "brest"
PICTURES: Final = "BrEaST-Lesions_USG-images_and_masks"
CLASSES: Final = ("benign", "malignant", "normal")
_COLUMNS = ("CaseID", "Image_filename", "Mask_tumor_filename", "Classification")
# Centimetres per pixel, as the scanners state it. Other steps than these would be another unit.
_PLAUSIBLE_CM = (0.001, 0.05)


def read(folder: Path) -> Collection:
    """The frames of a folder. Raises ConfigError for another layout, and when only the spreadsheet is there."""
    if (folder / CURATED).is_file():
        return read_curated(folder, NAME)
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        if sheets := sorted(folder.glob("*.xlsx")):
            raise ConfigError(
                f"set {NAME}, {folder}: found {sheets[0].name} and {len(tables)} CSV files; save its first sheet as "
                "one CSV in UTF-8 in a folder of its own beside the pictures",
                Reason.CONFIG_INVALID,
            )
        raise no_layout(
            NAME, folder, f"the clinical table as one CSV, case001.png and case001_tumor.png, or a curated {CURATED}"
        )
    pictures = folder / PICTURES if (folder / PICTURES).is_dir() else folder
    lines = read_lines(tables[0], _COLUMNS)
    return Collection(tuple(_frame(pictures, f"{tables[0].name}, line {n}", x) for n, x in lines))


def _frame(pictures: Path, where: str, line: dict[str, str]) -> PublicFrame:
    where, label = f"set {NAME}, {where}", line["Classification"].lower()
    if label not in CLASSES:
        raise ConfigError(
            f"{where}: Classification is '{line['Classification']}'; allowed are {', '.join(CLASSES)}",
            Reason.CONFIG_INVALID,
        )
    image = pictures / line["Image_filename"]
    masks = tuple(pictures / name.strip() for name in line["Mask_tumor_filename"].split("&") if name.strip())
    if not masks and label != "normal":
        raise ConfigError(f"{where}: Mask_tumor_filename is empty; allowed for normal only", Reason.CONFIG_INVALID)
    for path in (image, *masks):
        if not path.is_file():
            raise ConfigError(f"{where}: looked for {path}; there is no such file", Reason.CONFIG_INVALID)
    return PublicFrame(image.stem, f"brest-{image.stem}", NAME, image, masks, label, _spacing(where, line))


def _spacing(where: str, line: dict[str, str]) -> tuple[float, float] | None:
    """Pixel_size, in cm for square pixels, as (row step, column step) in mm."""
    if not (text := line.get("Pixel_size", "")):
        return None
    step = read_step(where, "Pixel_size", text)
    if not _PLAUSIBLE_CM[0] <= step <= _PLAUSIBLE_CM[1]:
        raise ConfigError(
            f"{where}: Pixel_size is '{text}'; allowed are {_PLAUSIBLE_CM[0]} to {_PLAUSIBLE_CM[1]} cm",
            Reason.CONFIG_INVALID,
        )
    return (10 * step, 10 * step)
