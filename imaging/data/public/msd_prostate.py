"""MSD Task05_Prostate (Antonelli et al., Nature Communications 2022): 32 exams with zones, T2W and ADC in one file.

Read are dataset.json, imagesTr/prostate_NN.nii.gz (4-D, T2 then ADC, both on the T2W's grid) and labelsTr of the same
names: 1 peripheral, 2 transition zone; together they are the gland. dataset.json must say so. The exams of imagesTs are
dropped: their labels are not published. All come from Radboud UMC: site RUMC, as PI-CAI calls it. Which of them are in
ProstateX or PI-CAI too is not published. The ADC was resampled by the authors; its unit is not stated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from imaging.data.public.exams import ADC, KEY, PERIPHERAL, TRANSITION
from imaging.data.public.frames import Collection, Dropped, PublicExam, no_layout
from imaging.errors import ConfigError, Reason

NAME: Final = "msd_prostate"
TABLE: Final = "dataset.json"
TOP: Final = "Task05_Prostate"
SITE: Final = "RUMC"
_MODALITY: Final = {"0": "T2", "1": "ADC"}
_LABELS: Final = {"0": "background", "1": "PZ", "2": "TZ"}


def read(folder: Path) -> Collection:
    """The exams of a folder. Raises ConfigError for another layout."""
    top = folder / TOP if (folder / TOP).is_dir() else folder
    if not all((top / name).exists() for name in (TABLE, "imagesTr", "labelsTr")):
        raise no_layout(NAME, folder, f"{TABLE}, imagesTr/prostate_00.nii.gz and labelsTr/prostate_00.nii.gz")
    where = f"set {NAME}, {TABLE}"
    try:
        told = json.loads((top / TABLE).read_text(encoding="utf-8"))
        trained = [(str(one["image"]), str(one["label"])) for one in told["training"]]
        unknown = [str(one) for one in told.get("test", ())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{where}: found no training with image and label ({type(error).__name__}); allowed is the set's own file",
            Reason.CONFIG_INVALID,
        ) from error
    _refuse_other(where, told, "modality", _MODALITY)
    _refuse_other(where, told, "labels", _LABELS)
    found: list[PublicExam | Dropped] = [_exam(top / image, top / label) for image, label in trained]
    return Collection.of([*found, *(Dropped(top / one, "", "no label is published") for one in unknown)])


def _refuse_other(where: str, told: dict[str, Any], key: str, allowed: dict[str, str]) -> None:
    if told.get(key) != allowed:
        raise ConfigError(f"{where}: {key} is {told.get(key)}; allowed is {allowed}", Reason.CONFIG_INVALID)


def _exam(image: Path, label: Path) -> PublicExam | Dropped:
    if missing := [path.name for path in (image, label) if not path.is_file()]:
        return Dropped(image, "", f"{', '.join(missing)}: there is no such file")
    name = image.name.removesuffix(".nii.gz")
    return PublicExam(
        f"msd_{name}",
        f"msd-{name}",
        SITE,
        image,
        parts=(KEY, ADC),
        truth=label,
        values={1: PERIPHERAL, 2: TRANSITION},
        organ=label,
    )
