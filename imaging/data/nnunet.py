"""Manifest ⇄ nnU-Net's raw data (v2): DatasetNNN_Name/{dataset.json, splits_final.json, imagesTr, labelsTr, imagesTs}.

nnU-Net stacks the channels of a case, so they need one grid. That is the grid of the key volume (channel 0), whose
voxels are written as they are; a volume beside it that has other voxels is interpolated onto them linearly, 0 where it
does not reach. Truths are labels on that grid, by nearest neighbour where they had another.

A truth without named labels is one class, `lesion`, whatever its values are. Organ masks go to organsTr and organsTs,
which nnU-Net does not read.

The test split goes to imagesTs, its truths to labelsTs, which nnU-Net does not read. splits_final.json has up to five
folds of whole patients: fold 0 validates on the manifest's own validation cases. (Asked for a fold that is not listed,
nnU-Net makes one that knows no patients.) cases.csv keeps what the format has no place for: patient, site, split and
class.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any, Final, get_args

import nibabel
import numpy as np

from imaging.data.images import read_image, reorient
from imaging.data.manifest import Case, Split
from imaging.data.truth import Rules, read_truth
from imaging.errors import ConfigError, GeometryError, ImagingError, InputError, OutputError, Reason
from imaging.image import UNKNOWN, Array, Grid, Image, resample
from imaging.table import read_table, tell

DATASET, SPLITS, CASES = "dataset.json", "splits_final.json", "cases.csv"
ENDING: Final = ".nii.gz"
FOLDS: Final = 5
_COLUMNS: Final = ("case_id", "patient_id", "site", "split", "label")
_FOLDER: Final = re.compile(r"Dataset\d{3}_\w+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ONE_CLASS: Final = {"lesion": 1}
_STORED: Final = ("uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


VolumesOf = Callable[[Case], Mapping[str, Image]]


def file_volumes(key: str = "image") -> VolumesOf:
    """What gives the volumes of a case whose files are named one by one: the key volume, as channel `key`, first."""

    def volumes(case: Case) -> Mapping[str, Image]:
        beside = {role: read_image(path, case.site) for role, path in sorted(case.beside.items())}
        return {key: read_image(case.image, case.site), **beside}

    return volumes


def write_dataset(
    folder: Path,
    cases: Sequence[Case],
    labels: Mapping[str, int] | None = None,
    volumes_of: VolumesOf = file_volumes(),  # noqa: B008  # pure, and made once
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the cases as a raw dataset; `labels` names the values of their truths, 1, 2, …, None takes all for one.

    `volumes_of` gives the volumes of a case by the names of their channels, the key volume first.
    dataset.json is written last, so a dataset that was broken off is none. `progress` is called with (done, of).

    Raises ConfigError for another folder name than Dataset001_Name, a folder that holds something, values that are not
    consecutive from 1, cases of unlike channels, and a training case without a truth; InputError and GeometryError for
    files that cannot be read or do not fit, naming the case; OutputError when the folder cannot be written.
    """
    _check(folder, cases, labels or _ONE_CLASS)
    channels: list[str] = []
    trained = [case for case in cases if case.split != "test"]
    try:
        for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for number, case in enumerate(cases, start=1):
            try:
                volumes = volumes_of(case)
                channels = channels or list(volumes)
                _refuse_other_channels(channels, list(volumes))
                _write_case(folder, case, volumes, labels)
            except ImagingError as error:
                raise type(error)(f"case {case.case_id}: {error}", error.reason) from error
            if progress is not None:
                progress(number, len(cases))
        _write_cases(folder / CASES, cases)
        _write_json(folder / SPLITS, folds(trained))
        described = {
            "channel_names": dict(enumerate(channels)),
            "labels": {"background": 0, **(labels or _ONE_CLASS)},
            "numTraining": len(trained),
            "file_ending": ENDING,
        }
        _write_json(folder / DATASET, described)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def folds(cases: Sequence[Case]) -> list[dict[str, list[str]]]:
    """Training and validation cases of each fold; every patient is validated on once, and on one side of each fold.

    The validation cases of the manifest are fold 0. The other patients are dealt out in the order of the SHA-256 of
    their names, over all folds where the manifest has no validation cases. A fold without any is left out.
    """
    own = {case.patient_id for case in cases if case.split == "val"}
    others = sorted({case.patient_id for case in cases} - own, key=lambda name: hashlib.sha256(name.encode()).digest())
    dealt = [set(others[k :: FOLDS - 1]) for k in range(FOLDS - 1)] if own else []
    parts = [own, *dealt] if own else [set(others[k::FOLDS]) for k in range(FOLDS)]
    return [
        {
            "train": sorted(case.case_id for case in cases if case.patient_id not in part),
            "val": sorted(case.case_id for case in cases if case.patient_id in part),
        }
        for part in parts
        if part
    ]


def read_dataset(folder: Path) -> list[Case]:
    """The cases of a raw dataset: channel 0 is the image, the others stand beside it by their names.

    Patient, site, split and class are those of cases.csv. Without it each case counts as a patient of its own and of
    site `unknown`, and the split is fold 0 of splits_final.json, `train` without that; imagesTs is `test`.

    Raises ConfigError for a dataset.json that is none of v2, another number of cases or channels than it says, a
    training case without a label, a case of which cases.csv or fold 0 says nothing, and as `dataset_labels` does.
    """
    where = folder / DATASET
    told = _read_json(where)
    try:
        channels = [str(told["channel_names"][str(k)]) for k in range(len(told["channel_names"]))]
        count, ending = int(told["numTraining"]), str(told["file_ending"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: no usable {error}; allowed is a file of nnU-Net v2, with channel_names from 0, numTraining and "
            "file_ending",
            Reason.CONFIG_INVALID,
        ) from error
    dataset_labels(folder)
    trained, tested = (_case_names(folder / part, ending) for part in ("imagesTr", "imagesTs"))
    if len(trained) != count:
        raise ConfigError(f"{where}: numTraining is {count}; imagesTr has {len(trained)} cases", Reason.CONFIG_INVALID)
    facts = read_cases(folder / CASES) if (folder / CASES).is_file() else _assumed(folder / SPLITS, trained, tested)
    if unknown := [name for name in (*trained, *tested) if name not in facts]:
        raise ConfigError(f"{folder}: {CASES} or fold 0 of {SPLITS} lacks case {unknown[0]}", Reason.CONFIG_INVALID)
    found = [_case(folder, "Tr", facts[name], channels, ending) for name in trained]
    return [*found, *(_case(folder, "Ts", facts[name], channels, ending) for name in tested)]


def dataset_labels(folder: Path) -> list[str]:
    """The names of the values 1, 2, ... of a raw dataset's truths, in that order.

    Raises ConfigError for regions, which are several values, for an ignore label, of whose voxels nothing is known, and
    for values with gaps: a manifest has no place for them, and a training would take them for what they are not.
    """
    where = folder / DATASET
    try:
        told = {str(name): value for name, value in _read_json(where)["labels"].items()}
    except (KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{where}: no usable labels; allowed are names with their values", Reason.CONFIG_INVALID
        ) from error
    regions = sorted(name for name, value in told.items() if not isinstance(value, int))
    ignored = [name for name in told if name == "ignore"]
    for found, what, remedy in (
        (regions, "regions", "write label maps with one value for each class"),
        (ignored, "an ignore label", "leave the cases out that have such voxels, or decide what they are"),
    ):
        if found:
            raise ConfigError(
                f"{where}, labels: found {what}, {', '.join(found)}; allowed is one value for each class: {remedy}",
                Reason.CONFIG_INVALID,
            )
    names = sorted((name for name, value in told.items() if value), key=lambda name: told[name])
    if [told[name] for name in names] != list(range(1, len(names) + 1)):
        raise ConfigError(
            f"{where}, labels: found {told}; allowed are background 0 and values 1, 2, ... without a gap",
            Reason.CONFIG_INVALID,
        )
    return names


def _refuse_other_channels(wanted: Sequence[str], found: Sequence[str]) -> None:
    if list(found) != list(wanted):
        raise ConfigError(
            f"found the volumes {', '.join(found)}; allowed are those of the first case, {', '.join(wanted)}: all "
            "cases of a dataset have the same channels",
            Reason.CONFIG_INVALID,
        )


def _check(folder: Path, cases: Sequence[Case], labels: Mapping[str, int]) -> None:
    """Raises ConfigError for what makes no dataset."""
    if not _FOLDER.fullmatch(folder.name):
        raise ConfigError(
            f"dataset {folder}: the folder's name is '{folder.name}'; allowed are names like Dataset001_Lesions",
            Reason.CONFIG_INVALID,
        )
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"dataset {folder}: the folder holds files; allowed is a new one", Reason.CONFIG_INVALID)
    if sorted(labels.values()) != list(range(1, len(labels) + 1)) or "background" in labels:
        raise ConfigError(
            f"labels: found {dict(labels)}; allowed are values 1, 2, ... without a gap, and no background (it is 0)",
            Reason.CONFIG_INVALID,
        )
    roles = sorted({role for case in cases for role in case.beside})
    for case in cases:
        if missing := [role for role in roles if role not in case.beside]:
            raise ConfigError(
                f"case {case.case_id}: has no {', '.join(missing)}; all cases of a dataset have the same channels",
                Reason.CONFIG_INVALID,
            )
        if not _NAME.fullmatch(case.case_id):
            raise ConfigError(
                f"case '{case.case_id}': allowed are letters, digits, '.', '_' and '-', as it names files",
                Reason.CONFIG_INVALID,
            )


def _write_case(folder: Path, case: Case, volumes: Mapping[str, Image], labels: Mapping[str, int] | None) -> None:
    part = "Ts" if case.split == "test" else "Tr"
    image, *others = volumes.values()
    if not image.grid.is_volume or len(image.array) != 1:
        raise GeometryError(
            f"image {case.image.name}: found {image.array.shape} in {image.grid.frame}; allowed is one volume",
            Reason.GEOMETRY,
        )
    channels = [image.array[0], *(_on_grid(volume, image.grid) for volume in others)]
    for number, values in enumerate(channels):
        _save(folder / f"images{part}" / f"{case.case_id}_{number:04d}{ENDING}", values, image.grid)
    if part == "Tr" or case.truth is not None:
        _save(folder / f"labels{part}" / f"{case.case_id}{ENDING}", _labels(case, image, labels), image.grid)
    if case.organ is not None:
        (folder / f"organs{part}").mkdir(exist_ok=True)
        organ = read_truth(case.organ, image, Rules(is_resampled=True)).mask().astype(np.uint8)
        _save(folder / f"organs{part}" / f"{case.case_id}{ENDING}", organ, image.grid)


def _on_grid(image: Image, grid: Grid) -> Array:
    """A volume on another grid: the same voxels as they are, else interpolated linearly, 0 outside."""
    same = reorient(image.array[0], image.grid, grid)
    return resample(image.array[0], image.grid, grid) if same is None else same


def _labels(case: Case, image: Image, labels: Mapping[str, int] | None) -> Array:
    named = labels or {}
    names = sorted(named, key=lambda name: named[name])
    rules = Rules({value: name for name, value in named.items()} or None, is_resampled=True)
    truth = read_truth(case.known_truth, image, rules, row=case.case_id)
    if truth.points or truth.boxes:
        raise InputError(
            f"truth {case.known_truth.name}: found points or boxes; allowed are masks", Reason.UNSUPPORTED_PIXELS
        )
    return truth.label_map(names) if names else truth.mask().astype(np.uint8)


def _save(path: Path, values: Array, grid: Grid) -> None:
    if not np.isfinite(values).all():
        raise InputError(
            f"{path.name}: found values that are no numbers; nnU-Net takes none", Reason.UNSUPPORTED_PIXELS
        )
    kept = values if values.dtype.name in _STORED else values.astype(np.float64)
    image = nibabel.Nifti1Image(np.ascontiguousarray(kept.T), grid.affine[:, [2, 1, 0, 3]])
    image.set_qform(image.affine, code=1)  # ITK, which nnU-Net reads with, takes either form
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_cases(path: Path, cases: Sequence[Case]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows((case.case_id, case.patient_id, case.site, case.split, case.label) for case in cases)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is no readable JSON", Reason.CONFIG_INVALID) from error


def _case_names(folder: Path, ending: str) -> list[str]:
    """The cases of a folder, by files like NAME_0000.nii.gz."""
    return sorted({path.name[: -len(ending) - 5] for path in folder.glob(f"*_[0-9][0-9][0-9][0-9]{ending}")})


def read_cases(path: Path) -> dict[str, dict[str, str]]:
    """Case → its line of cases.csv."""
    table = read_table(path, str(path), _COLUMNS)
    tell(table.remarks)
    return {line.text("case_id"): {name: line.text(name) for name in table.columns} for line in table.lines}


def _assumed(splits: Path, trained: Sequence[str], tested: Sequence[str]) -> dict[str, dict[str, str]]:
    """What a dataset without cases.csv leaves to assume of its cases, by their names."""
    sides = dict.fromkeys(trained, "train")
    if splits.is_file():
        try:
            first = _read_json(splits)[0]
            sides = {str(name): side for side in ("train", "val") for name in first[side]}
        except (KeyError, IndexError, TypeError) as error:
            raise ConfigError(f"{splits}: no fold 0 with train and val", Reason.CONFIG_INVALID) from error
    sides |= dict.fromkeys(tested, "test")
    return {
        name: {"case_id": name, "patient_id": name, "site": UNKNOWN, "split": side, "label": ""}
        for name, side in sides.items()
    }


def _case(folder: Path, part: str, facts: Mapping[str, str], channels: Sequence[str], ending: str) -> Case:
    name, stored = facts["case_id"], folder / f"images{part}"
    files = [stored / f"{name}_{number:04d}{ending}" for number in range(len(channels))]
    truth = folder / f"labels{part}" / f"{name}{ending}"
    found = sorted(path.name for path in stored.glob(f"{escape(name)}_[0-9][0-9][0-9][0-9]{ending}"))
    if found != [path.name for path in files]:
        raise ConfigError(
            f"case {name}: found {', '.join(found)} in {stored.name}; allowed is one file for each of the channels "
            f"{', '.join(channels)}",
            Reason.CONFIG_INVALID,
        )
    if part == "Tr" and not truth.is_file():
        raise ConfigError(f"case {name}: {truth} is not a file; a training case has a label", Reason.CONFIG_INVALID)
    if facts["split"] not in get_args(Split):
        raise ConfigError(
            f"case {name}: split is '{facts['split']}'; allowed are {', '.join(get_args(Split))}", Reason.CONFIG_INVALID
        )
    split: Split = facts["split"]  # type: ignore[assignment]  # checked just above
    known = truth if truth.is_file() else None
    place = (name, facts["patient_id"], facts["site"], split)
    beside = dict(zip(channels[1:], files[1:], strict=True))
    organ = folder / f"organs{part}" / f"{name}{ending}"
    return Case(*place, files[0], known, facts["label"], beside=beside, organ=organ if organ.is_file() else None)
