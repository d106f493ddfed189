"""Prostate158 (Adams et al., Computers in Biology and Medicine 2022): biparametric MRI of 158 men, of one centre.

Read are train.csv and valid.csv (of the first archive) and test.csv (of the second), each naming by its columns ID, t2,
adc, dwi, t2_anatomy_reader1 and adc_tumor_reader1 the files of an exam, such as train/020/t2.nii.gz. Their sides are
the manifest's splits. Only the first reader is read. `dwi` is taken as the high b-value, which the files do not state.

Truth of `prostate158` is the tumour that reader 1 drew on the ADC map, brought onto the T2W's grid (nearest) where it
has another; its value is taken to be 1, and an exam with another is dropped. No name in the column, or empty.nii.gz, is
taken to say that the reader saw none. Truth of `prostate158_zones` is the anatomy on T2W. The set has 1 for the
transition zone with the central one and 2 for the peripheral zone; written is 1 peripheral, 2 transition zone. Both
together are the gland. The set names no pathology, so no exam has a class.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from imaging.data.manifest import Split
from imaging.data.public.exams import ADC, HIGH_B, PERIPHERAL, TRANSITION
from imaging.data.public.frames import Collection, Dropped, Line, PublicExam, no_layout, read_lines
from imaging.errors import ConfigError, Reason

NAME: Final = "prostate158"
SITE: Final = "Charite"
TABLES: Final[dict[str, Split]] = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}
ANATOMY: Final = "t2_anatomy_reader1"
TUMOUR: Final = "adc_tumor_reader1"
_NOTHING: Final = "empty.nii.gz"
_COLUMNS: Final = ("ID", "t2", "adc", "dwi", ANATOMY, TUMOUR)


def read(folder: Path) -> Collection:
    """The exams of a folder with tumours as truth. Raises ConfigError for another layout."""
    tables = [(folder / name, side) for name, side in TABLES.items() if (folder / name).is_file()]
    if not tables:
        raise no_layout(NAME, folder, f"{', '.join(TABLES)} and train/020/t2.nii.gz")
    return Collection.of(
        [
            _exam(table.parent, f"set {NAME}, {table.name}, line {number}", line, side)
            for table, side in tables
            for number, line in read_lines(table, _COLUMNS)
        ]
    )


def read_zones(folder: Path) -> Collection:
    """The exams of a folder with zones as truth. Raises ConfigError for another layout."""
    found = read(folder)
    values = {1: TRANSITION, 2: PERIPHERAL}
    exams = [replace(exam, truth=exam.organ, values=values, is_resampled=False, positive=True) for exam in found.exams]
    return replace(found, exams=tuple(exams))


def _exam(folder: Path, where: str, line: Line, side: Split) -> PublicExam | Dropped:
    number = line["ID"]
    if not number.isdecimal():
        raise ConfigError(f"{where}: ID is '{number}'; allowed is a number", Reason.CONFIG_INVALID)
    if unnamed := [column for column in ("t2", "adc", "dwi", ANATOMY) if not line[column]]:
        raise ConfigError(f"{where}: no value for {unnamed}; allowed is a file", Reason.CONFIG_INVALID)
    image, adc, high_b, anatomy = (folder / line[column] for column in ("t2", "adc", "dwi", ANATOMY))
    drawn = folder / line[TUMOUR] if line[TUMOUR] and Path(line[TUMOUR]).name != _NOTHING else None
    named = [path for path in (image, adc, high_b, anatomy, drawn) if path is not None]
    if missing := [path.name for path in named if not path.is_file()]:
        return Dropped(image, "", f"{', '.join(missing)}: there is no such file")
    return PublicExam(
        f"{NAME}_{int(number):03d}",
        f"{NAME}-{int(number):03d}",
        SITE,
        image,
        {ADC: adc, HIGH_B: high_b},
        truth=drawn,
        is_resampled=True,
        organ=anatomy,
        positive=None if drawn else False,
        published=side,
    )
