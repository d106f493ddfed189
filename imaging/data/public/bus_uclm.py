"""BUS-UCLM (Vallez et al., Scientific Data 2025): INFO.csv, images/ALWI_000.png and masks/ALWI_000.png.

The first four letters of a name are the patient. A mask is green where a lesion is benign, red where it is malignant,
and black on a frame without one; INFO.csv has semicolons and a byte order mark and says the frame's class, whether it
shows Doppler, callipers (Marks), or two pictures at once (Combined). Where partitions/test/images is there, its
patients are test. The curated layout has the columns doppler, marks and combined beside those of every curated set.

`read` keeps grey pictures of one scene, with callipers or without; `read_unmarked` leaves out those with callipers too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image as Picture

from imaging.data.public.frames import (
    CURATED,
    SEVERITY,
    Collection,
    Dropped,
    Line,
    PublicFrame,
    no_layout,
    picture_size,
    read_choice,
    read_curated,
    read_lines,
    worst,
)
from imaging.errors import ConfigError, InputError, Reason
from imaging.image import Array

NAME: Final = "bus_uclm"
TABLE: Final = "INFO.csv"
# How the archive is unpacked: its own folder, the folder inside, or the content.
_TOPS: Final = ("BUS-UCLM Breast ultrasound lesion segmentation dataset/BUS-UCLM", "BUS-UCLM", ".")
_COLUMNS: Final = ("Image", "Label", "Doppler", "Marks", "Combined")
_LABELS: Final = {label: label for label in SEVERITY}
_FLAGS: Final = {"yes": "yes", "y": "yes", "no": "no", "n": "no"}
_SHOWN: Final = {"Doppler": "shows Doppler", "Marks": "shows callipers", "Combined": "shows two pictures at once"}
# Share of clearly coloured pixels from which a picture that the table calls grey is not: a frame's icons stay below it.
_MOST_COLOURED: Final = 0.01
_COLOURED: Final = 40  # grey values between the channels of a coloured pixel


def read(folder: Path) -> Collection:
    """The frames of a folder. Raises ConfigError for another layout, InputError for a file that is no picture."""
    return _read(folder, {name: text for name, text in _SHOWN.items() if name != "Marks"})


def read_unmarked(folder: Path) -> Collection:
    """As `read`, without the frames that show callipers."""
    return _read(folder, _SHOWN)


def _read(folder: Path, left_out: Mapping[str, str]) -> Collection:
    if (folder / CURATED).is_file():
        return _curated(folder, left_out)
    top = next((folder / name for name in _TOPS if (folder / name / TABLE).is_file()), None)
    if top is None:
        raise no_layout(NAME, folder, f"{TABLE}, images/ALWI_000.png and masks/ALWI_000.png, or a curated {CURATED}")
    lines = read_lines(top / TABLE, _COLUMNS)
    return Collection.of([_frame(top, f"set {NAME}, {TABLE}, line {number}", line, left_out) for number, line in lines])


def _curated(folder: Path, left_out: Mapping[str, str]) -> Collection:
    """The curated frames, without those that the table says to show what is left out; other columns may lack."""
    found: list[PublicFrame | Dropped] = []
    for frame, (number, line) in zip(
        read_curated(folder, NAME).frames, read_lines(folder / CURATED, ("image",)), strict=True
    ):
        flags = {name: line.get(name.lower()) or "no" for name in left_out}
        shown = _shown(f"set {NAME}, {CURATED}, line {number}", flags, left_out)
        found.append(Dropped(frame.image, frame.label, shown) if shown else frame)
    return Collection.of(found)


def _frame(top: Path, where: str, line: Line, left_out: Mapping[str, str]) -> PublicFrame | Dropped:
    name, label = line["Image"], read_choice(where, "Label", line["Label"], _LABELS)
    patient, _, number = name.partition("_")
    if not (patient and number.endswith(".png")):
        raise ConfigError(f"{where}: Image is '{name}'; allowed are names like ALWI_000.png", Reason.CONFIG_INVALID)
    image, mask = top / "images" / name, top / "masks" / name
    for path in (image, mask):
        if not path.is_file():
            raise ConfigError(
                f"{where}: looked for {path.relative_to(top)}; there is no such file", Reason.CONFIG_INVALID
            )
    if reason := _shown(where, line, left_out) or _fault(image, mask, label):
        return Dropped(image, label, reason)
    return PublicFrame(
        case_id=f"{NAME}_{image.stem}",
        group_id=f"bus-uclm-{patient}",
        site=NAME,
        image=image,
        masks=(mask,),
        label=label,
        published=_side(top, patient),
    )


def _shown(where: str, line: Line, left_out: Mapping[str, str]) -> str:
    """What of the things left out a line says its frame to show. Raises ConfigError for another word than yes or no."""
    return ", ".join(text for name, text in left_out.items() if read_choice(where, name, line[name], _FLAGS) == "yes")


def _fault(image: Path, mask: Path, label: str) -> str:
    """Why a picture and its mask do not say what the table does; empty where they do."""
    found, drawn = picture_size(image), picture_size(mask)
    if found != drawn:
        return f"its mask has {drawn[0]} × {drawn[1]} pixels, the picture {found[0]} × {found[1]} (rows × columns)"
    picture = _channels(image)
    coloured = float((picture.max(axis=-1) - picture.min(axis=-1) > _COLOURED).mean())
    if coloured > _MOST_COLOURED:
        return f"Doppler is No, and {coloured:.1%} of the pixels are coloured"
    outlined = _drawn_classes(_channels(mask))
    if worst(outlined) != label or (label == "normal" and len(outlined) > 1):
        return f"the table says {label}, the mask {' and '.join(outlined)}"
    return ""


def _drawn_classes(mask: Array) -> list[str]:
    """The classes of the lesions in a mask's colours, `normal` where there is none."""
    bright = mask > np.iinfo(np.uint8).max // 2
    red, green = bright[..., 0] & ~bright[..., 1], bright[..., 1] & ~bright[..., 0]
    return [label for label, where in (("benign", green), ("malignant", red)) if where.any()] or ["normal"]


def _channels(path: Path) -> Array:
    """(row, column, 3) of red, green and blue, 0-255. Raises InputError for what is no picture."""
    try:
        with Picture.open(path) as picture:
            return np.asarray(picture.convert("RGB"), dtype=np.int16)
    except OSError as error:
        raise InputError(f"image {path.name}: cannot be read as a picture", Reason.DECODE_FAILED) from error


def _side(top: Path, patient: str) -> Literal["", "train", "test"]:
    """The side that the set gives a patient; empty where it publishes none."""
    folder = top / "partitions" / "test" / "images"
    if not folder.is_dir():
        return ""
    return "test" if any(folder.glob(f"{patient}_*.png")) else "train"
