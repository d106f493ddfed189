"""PROSTATEx (Litjens et al., TCIA 2017): DICOM studies, and a point with its class for each lesion; nothing is drawn.

Read are ProstateX-Findings-Train.csv (ProxID, fid, pos, zone, ClinSig), in the folder or in the one of its archive,
ProstateX-TrainingLesionInformationv2, and PROSTATEx (or manifest-*/PROSTATEx) ProstateX-0001/STUDY/SERIES/*.dcm. The
image of a case is the folder of its study. Its truth are the points `pos`, DICOM patient millimetres (LPS), labelled
significant or not-significant by ClinSig; a point that stands twice counts once, as significant if either is. That is
the class of the exam too. The findings do not say which study of a patient they belong to: who has several is dropped,
and so is who has no findings, the whole test side. Site is RUMC, as PI-CAI calls it.

328 exams of PI-CAI are of these patients, and no table that says which is published. Where a folder picai_labels (of
PI-CAI, its gland masks) stands beside the table, each study is compared with them: the axial T2W of one exam has the
voxels of the other, to a hundredth of one. The patient then has PI-CAI's name, so that he has one split in both sets
(`split_of`), and a manifest of both that says otherwise is refused. Without picai_labels the sets must not be merged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import nibabel
import numpy as np

from imaging.data.images import reorient
from imaging.data.public import picai
from imaging.data.public.films import files_below, find_collection
from imaging.data.public.frames import (
    Collection,
    Dropped,
    Line,
    PublicExam,
    no_layout,
    read_choice,
    read_lines,
    read_number,
)
from imaging.dicom.index import build_index
from imaging.dicom.pixels.volume import Stack, find_stacks
from imaging.errors import ConfigError, Reason
from imaging.image import Floats, Grid

NAME: Final = "prostatex"
TOP: Final = "PROSTATEx"
TABLE: Final = "ProstateX-Findings-Train.csv"
ARCHIVE: Final = "ProstateX-TrainingLesionInformationv2"
SITE: Final = "RUMC"
_CLASSES: Final = {"true": "significant", "false": "not-significant"}
_ZONES: Final = {zone.lower(): zone for zone in ("PZ", "TZ", "AS", "SV")}
_COLUMNS: Final = ("ProxID", "fid", "pos", "zone", "ClinSig")
_NEAR_MM: Final = 0.5  # what is further apart at the middle of the grid is not compared
_Known = Sequence[tuple[str, Grid]]


def read(folder: Path) -> Collection:
    """The exams of a folder. Raises ConfigError for another layout."""
    top = find_collection(folder, TOP)
    table = next((one / TABLE for one in (folder, folder / ARCHIVE) if (one / TABLE).is_file()), None)
    if top is None or table is None:
        raise no_layout(NAME, folder, f"{TABLE} and {TOP}/ProstateX-0001/")
    findings: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for number, line in read_lines(table, _COLUMNS):
        findings[line["ProxID"]].append(_point(f"set {NAME}, {TABLE}, line {number}", line))
    known = _known_grids(folder / picai.LABELS)
    patients = sorted({path.name for path in top.iterdir() if path.is_dir()} | set(findings))
    return Collection.of([_exam(top / patient, findings.get(patient, []), known) for patient in patients])


def _point(where: str, line: Line) -> Mapping[str, str]:
    """A line of the truth's table. Raises ConfigError."""
    places = line["pos"].split()
    if len(places) != 3:
        raise ConfigError(
            f"{where}: pos is '{line['pos']}'; allowed are three numbers of mm with a space between",
            Reason.CONFIG_INVALID,
        )
    x, y, z = (f"{read_number(where, 'pos', place):.6g}" for place in places)
    zone = read_choice(where, "zone", line["zone"], _ZONES)
    return {
        "x_lps": x,
        "y_lps": y,
        "z_lps": z,
        "label": read_choice(where, "ClinSig", line["ClinSig"], _CLASSES),
        "zone": zone,
    }


def _exam(folder: Path, points: Sequence[Mapping[str, str]], known: _Known) -> PublicExam | Dropped:
    merged = _each_once(points)
    label = _worst(point["label"] for point in merged)
    if not merged:
        return Dropped(folder, "", "no finding of this patient is published")
    studies = [path for path in sorted(folder.glob("*")) if path.is_dir() and files_below(path)]
    if len(studies) != 1:
        return Dropped(folder, label, f"found {len(studies)} studies with DICOM files; the findings are of one")
    names = _same_patients(studies[0], known)
    if len(names) > 1:
        return Dropped(folder, label, f"its T2W has the voxels of several patients of PI-CAI: {', '.join(names)}")
    patient = names[0] if names else f"{NAME}-{folder.name}"
    return PublicExam(f"{NAME}_{folder.name}", patient, SITE, studies[0], points=merged, label=label)


def _each_once(points: Sequence[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    placed: dict[tuple[str, ...], Mapping[str, str]] = {}
    for point in points:
        place = (point["x_lps"], point["y_lps"], point["z_lps"])
        told = placed.setdefault(place, point)
        placed[place] = {**told, "label": _worst((told["label"], point["label"]))}
    return tuple(placed.values())


def _worst(labels: Iterable[str]) -> str:
    return "significant" if "significant" in set(labels) else "not-significant"


def _known_grids(labels: Path) -> _Known:
    """PI-CAI's patients and the grids of their axial T2W, by the headers of the gland masks; empty without them."""
    found = []
    for path in sorted((labels / picai.GLANDS).glob("*.nii.gz")):
        stored = nibabel.load(path)
        affine = np.asarray(stored.affine, dtype=np.float64)[:, [2, 1, 0, 3]]
        patient = path.name.partition("_")[0]
        found.append((f"{picai.NAME}-{patient}", Grid(stored.shape[::-1], affine, "patient_ras")))
    return found


def _same_patients(study: Path, known: _Known) -> list[str]:
    """The patients one of whose grids is that of a T2W of the study."""
    if not known:
        return []
    middles = np.array([_middle(grid) for _, grid in known])
    names: set[str] = set()
    series = [path for path in sorted(study.glob("*")) if "t2" in path.name.lower()] or [study]
    for stack in (one for folder in series for one in _stacks(folder)):
        near = np.flatnonzero(np.linalg.norm(middles - _middle(stack.grid), axis=1) < _NEAR_MM)
        for place in near:
            name, grid = known[int(place)]
            nothing = np.broadcast_to(np.uint8(0), grid.shape)
            if reorient(nothing, grid, stack.grid) is not None:
                names.add(name)
    return sorted(names)


def _middle(grid: Grid) -> Floats:
    return np.asarray(grid.world(np.array([grid.shape]) / 2)[0])


def _stacks(folder: Path) -> list[Stack]:
    instances = (one for series in build_index(folder).series for one in series.instances)
    return [one for one in find_stacks(instances) if isinstance(one, Stack)]
