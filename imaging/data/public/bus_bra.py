"""BUS-BRA (Gómez-Flores et al., Medical Physics 2024): bus_data.csv, Images/bus_0001-l.png, Masks/mask_0001-l.png.

One line per picture, biopsied lesions only; Case is the patient, Device the scanner.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from imaging.data.public.frames import CURATED, Collection, PublicFrame, no_layout, read_curated, read_lines
from imaging.errors import ConfigError, Reason

NAME: Final = "bus_bra"
TABLE: Final = "bus_data.csv"
CLASSES: Final = ("benign", "malignant")
_COLUMNS = ("ID", "Case", "Pathology", "Device")


def read(folder: Path) -> Collection:
    """The frames of a folder; sites are scanners, bus-bra-DEVICE. Raises ConfigError for another layout."""
    if (folder / CURATED).is_file():
        return read_curated(folder, NAME)
    if not (folder / TABLE).is_file():
        raise no_layout(
            NAME, folder, f"{TABLE}, Images/bus_0001-l.png and Masks/mask_0001-l.png, or a curated {CURATED}"
        )
    lines = read_lines(folder / TABLE, _COLUMNS)
    return Collection(tuple(_frame(folder, number, line) for number, line in lines))


def _frame(folder: Path, number: int, line: dict[str, str]) -> PublicFrame:
    where = f"set {NAME}, {TABLE}, line {number}"
    name, label = line["ID"], line["Pathology"].lower()
    if label not in CLASSES:
        raise ConfigError(
            f"{where}: Pathology is '{line['Pathology']}'; allowed are {', '.join(CLASSES)}", Reason.CONFIG_INVALID
        )
    if not name.startswith("bus_"):
        raise ConfigError(f"{where}: ID is '{name}'; allowed are names like bus_0001-l", Reason.CONFIG_INVALID)
    image, mask = folder / "Images" / f"{name}.png", folder / "Masks" / f"mask_{name.removeprefix('bus_')}.png"
    for path in (image, mask):
        if not path.is_file():
            raise ConfigError(
                f"{where}: looked for {path.relative_to(folder)}; there is no such file", Reason.CONFIG_INVALID
            )
    device = re.sub(r"[^a-z0-9]+", "-", line["Device"].lower()).strip("-") or "unknown"
    return PublicFrame(name, f"bus-bra-{line['Case']}", f"bus-bra-{device}", image, (mask,), label)
