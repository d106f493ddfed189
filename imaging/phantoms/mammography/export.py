"""Synthetic mammography on disk: exams of four views, a sample exam of every maker, and training sets of seven sites.

MammographyExam("ge", patient, seed=3, lesions=planted(3)).views    # RCC, LCC, RMLO, LMLO
write_samples(folder)                                               # every maker, with all the odd views
write_training_set(folder, exams=100, seed=7)                       # DICOM, masks, boxes.csv, manifest.csv
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image as Picture

from imaging.errors import ConfigError, Reason
from imaging.phantoms import DEFAULT_SEED
from imaging.phantoms.export import claim
from imaging.phantoms.mammography.body import Breast, BreastLesion, Density, Laterality, Projection, plant_breast_lesion
from imaging.phantoms.mammography.dicom import mammogram
from imaging.phantoms.mammography.makers import MAKERS, MakerName
from imaging.phantoms.mammography.tomosynthesis import volume
from imaging.phantoms.mammography.view import DEFAULT_PITCH_MM, LesionTruth, ViewAcquisition, truth
from imaging.phantoms.ultrasound.dicom import Patient, file_bytes

SITES: Final[dict[str, MakerName]] = {f"site-{letter}": maker for letter, maker in zip("abcdefg", MAKERS, strict=True)}
MANIFEST_COLUMNS: Final = (
    "case_id",
    "patient_id",
    "site",
    "split",
    "image",
    "truth",
    "label",
    "view",
    "laterality",
    "exam_id",
)
"""`label`: normal, benign or malignant, of this view."""
BOX_COLUMNS: Final = (
    "image",
    "label",
    "lesion",
    "x0",
    "y0",
    "x1",
    "y1",
    "malignant",
    "kind",
    "nipple_distance_mm",
    "view",
    "laterality",
    "exam_id",
)
"""A line per lesion and view; a view that shows none has one line with lesion 0. The first pixel spans 0 to 1."""
STANDARD_VIEWS: Final[tuple[tuple[Laterality, Projection], ...]] = (
    ("R", "CC"),
    ("L", "CC"),
    ("R", "MLO"),
    ("L", "MLO"),
)
_SPLITS = ("train", "train", "val", "train", "test", "train", "train")
_DENSITIES: tuple[Density, ...] = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class MammographyExam:
    """The four standard views of a woman; every one shows the same breasts and the same lesions."""

    vendor: MakerName = "hologic"
    patient: Patient = Patient()  # noqa: RUF009 - frozen
    seed: int = 0
    lesions: tuple[BreastLesion, ...] = ()
    density: Density = "b"
    pitch_mm: float = DEFAULT_PITCH_MM
    study: int = 1
    site: str = "Synthetic Hospital"

    @property
    def exam_id(self) -> str:
        return f"{self.patient.patient_id}-{self.study}"

    @property
    def views(self) -> tuple[ViewAcquisition, ...]:
        """For Presentation, in the order RCC, LCC, RMLO, LMLO; in one series, or one each, as the maker does."""
        return tuple(
            self.view(side, projection, number) for number, (side, projection) in enumerate(STANDARD_VIEWS, start=1)
        )

    @property
    def raw_views(self) -> tuple[ViewAcquisition, ...]:
        """The same exposures For Processing."""
        return tuple(replace(view, intent="processing", series=50 + view.series) for view in self.views)

    def view(self, side: Laterality, projection: Projection, number: int, **changes: Any) -> ViewAcquisition:
        """One view, number `number` of the study; `changes` are fields of ViewAcquisition."""
        view = ViewAcquisition(
            self.vendor,
            self.patient,
            self.seed,
            side,
            projection,
            self.lesions,
            self.density,
            pitch_mm=self.pitch_mm,
            study=self.study,
            instance=number,
            site=self.site,
        )
        return replace(view, series=1 if view.maker.one_series else number, **changes)


def planted(seed: int, density: Density = "b", malignant: bool | None = None) -> tuple[BreastLesion, ...]:
    """One lesion, or now and then two, in the breasts of this seed; the first is malignant as asked for."""
    rng = np.random.default_rng([seed, 71])
    sides: list[Laterality] = ["L", "R"] if rng.random() < 0.5 else ["R", "L"]
    count = 2 if rng.random() < 0.2 else 1
    verdicts = (malignant, False)
    return tuple(
        plant_breast_lesion(Breast(side, seed, density), f"{side}1", seed * 2 + number, verdicts[number])
        for number, side in enumerate(sides[:count])
    )


def label_of(found: Iterable[LesionTruth]) -> str:
    """normal, or the worst of what is there."""
    kinds = [lesion.malignant for lesion in found]
    return "malignant" if any(kinds) else "benign" if kinds else "normal"


def sample_exam(vendor: MakerName, seed: int = DEFAULT_SEED, pitch_mm: float = DEFAULT_PITCH_MM) -> MammographyExam:
    """The sample exam of a maker: density c, a malignant lesion on the left, a benign one on the right."""
    number = list(MAKERS).index(vendor)
    own = seed * 100 + number
    patient = Patient(f"MG{number + 1:02d}", f"Phantom^{vendor.title()}")
    sides: tuple[Laterality, ...] = ("L", "R")
    lesions = tuple(
        plant_breast_lesion(Breast(side, own, "c"), f"{side}1", own * 2 + k, malignant=side == "L")
        for k, side in enumerate(sides)
    )
    return MammographyExam(vendor, patient, own, lesions, "c", pitch_mm)


def sample_views(
    vendor: MakerName, seed: int = DEFAULT_SEED, pitch_mm: float = DEFAULT_PITCH_MM
) -> dict[str, ViewAcquisition]:
    """Every view of a maker's sample by its name: the standard ones, raw and presented, the odd ones, and implants."""
    exam = sample_exam(vendor, seed, pitch_mm)
    named = {f"{v.laterality}{v.projection}": v for v in exam.views}
    named |= {f"raw_{v.laterality}{v.projection}": v for v in exam.raw_views}
    odd: dict[str, dict[str, Any]] = {
        "magnification": {"special": "magnification"},
        "spot": {"special": "spot"},
        "mosaic_upper": {"special": "mosaic-upper"},
        "mosaic_lower": {"special": "mosaic-lower"},
        "repeat": {"exposure": 2},
        "mirrored": {"hanging": "hung" if exam.views[0].maker.hanging == "mirrored" else "mirrored"},
        "named": {"named": True},
        "synthetic": {"special": "synthetic"},
    }
    for number, (name, changes) in enumerate(odd.items(), start=5):
        named[name] = replace(exam.view("L", "CC", number, **changes), series=10 + number)
    for number, projection in enumerate(("ML", "LM", "XCCL"), start=20):
        named[projection] = replace(exam.view("L", projection, number), series=10 + number)  # type: ignore[arg-type]
    return named | _implants(exam)


def _implants(exam: MammographyExam) -> dict[str, ViewAcquisition]:
    """Another woman, with implants: left views with the implant, and with it displaced (Eklund)."""
    other = replace(exam, patient=Patient(f"{exam.patient.number}I", f"{exam.patient.name}-Implant"), lesions=())
    projections: tuple[Projection, ...] = ("CC", "MLO")
    return {
        f"implant_{how}_L{projection}": other.view("L", projection, 2 * k + n, implant=how)
        for k, how in enumerate(("shown", "displaced"))
        for n, projection in enumerate(projections, start=1)
    }


def write_samples(
    folder: Path,
    seed: int = DEFAULT_SEED,
    progress: Callable[[int, int], None] | None = None,
    pitch_mm: float = DEFAULT_PITCH_MM,
) -> list[Path]:
    """One sample exam per maker with all the odd views and a tomosynthesis object; truth/*.png and boxes.csv beside.

    Returns the DICOM files, relative, in order. `progress` is called with (done, of) after each maker.
    Raises OutputError when the folder holds files already.
    """
    claim(folder)
    paths, boxes = [], []
    for done, vendor in enumerate(MAKERS, start=1):
        views = sample_views(vendor, seed, pitch_mm)
        for name, view in views.items():
            image = f"images/{vendor}/{name}.dcm"
            boxes += _write_view(folder, view, image, f"truth/{vendor}/{name}.png")[1]
            paths.append(Path(image))
        coarse = replace(views["LCC"], pitch_mm=min(2 * pitch_mm, 2.0), series=40, instance=40)
        paths.append(Path(f"images/{vendor}/tomosynthesis.dcm"))
        (folder / paths[-1]).write_bytes(file_bytes(volume(coarse)))
        if progress is not None:
            progress(done, len(MAKERS))
    _write_table(folder / "boxes.csv", BOX_COLUMNS, boxes)
    return paths


def _write_view(folder: Path, view: ViewAcquisition, image: str, mask: str) -> tuple[str, list[tuple[Any, ...]]]:
    """Write a view and its mask (0 and 255, all lesions together); its label and its lines of boxes.csv."""
    found = truth(view)
    whole = np.zeros((view.field.rows, view.field.columns), dtype=np.uint8)
    for lesion in found:
        whole[lesion.mask] = 255
    for path in (image, mask):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / image).write_bytes(file_bytes(mammogram(view)))
    Picture.fromarray(whole).save(folder / mask)
    known = (view.projection, view.laterality, f"{view.patient.patient_id}-{view.study}")
    lines: list[tuple[Any, ...]] = [
        (
            image,
            "malignant" if lesion.malignant else "benign",
            lesion.lesion_id,
            *lesion.box,
            int(lesion.malignant),
            lesion.lesion.kind,
            f"{lesion.nipple_distance_mm:.2f}",
            *known,
        )
        for lesion in found
    ]
    return label_of(found), lines or [(image, "normal", 0, "", "", "", "", "", "", "", *known)]


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def training_exams(exams: int, seed: int, pitch_mm: float = DEFAULT_PITCH_MM) -> list[tuple[str, str, MammographyExam]]:
    """(site, split, exam): sites in turn, a patient each. Half normal, a quarter malignant; densities as screened."""
    if exams < 1:
        raise ConfigError(f"exams: found {exams}; allowed is 1 or more", Reason.CONFIG_INVALID)
    made, sites = [], list(SITES.items())
    for number in range(exams):
        turn, place = divmod(number, len(sites))
        site, maker = sites[place]
        own = seed * 100_003 + number
        rng = np.random.default_rng([own, 73])
        density = _DENSITIES[int(rng.choice(4, p=[0.1, 0.4, 0.4, 0.1]))]
        kind = (turn + place + int(rng.integers(2)) * 2) % 4  # two of four are normal
        lesions = planted(own, density, malignant=kind == 1) if kind % 2 else ()
        patient = Patient(f"M{seed:04d}-{number:05d}", f"Phantom^{site.title()}-{number}")
        exam = MammographyExam(maker, patient, own, lesions, density, pitch_mm, site=site)
        made.append((site, _SPLITS[(turn + place) % len(_SPLITS)], exam))
    return made


def write_training_set(
    folder: Path,
    exams: int,
    seed: int = DEFAULT_SEED,
    progress: Callable[[int, int], None] | None = None,
    pitch_mm: float = DEFAULT_PITCH_MM,
) -> Path:
    """Write `exams` exams of four views with masks (PNG, 0 and 255) and boxes.csv; return the path of manifest.csv.

    A case of the manifest is one view; the four of an exam share exam_id and patient. A normal view has an empty mask.
    `progress` is called with (done, of) after each exam.
    Raises OutputError when the folder holds files already, ConfigError for fewer than one exam.
    """
    planned = training_exams(exams, seed, pitch_mm)
    claim(folder)
    rows: list[tuple[Any, ...]] = []
    boxes: list[tuple[Any, ...]] = []
    for number, (site, split, exam) in enumerate(planned, start=1):
        for view in exam.views:
            case_id = f"exam-{number:05d}-{view.laterality}{view.projection}"
            image, mask = f"images/{site}/{case_id}.dcm", f"truth/{site}/{case_id}.png"
            label, lines = _write_view(folder, view, image, mask)
            boxes += lines
            known = (view.projection, view.laterality, exam.exam_id)
            rows.append((case_id, exam.patient.patient_id, site, split, image, mask, label, *known))
        if progress is not None:
            progress(number, len(planned))
    _write_table(folder / "boxes.csv", BOX_COLUMNS, boxes)
    _write_table(folder / "manifest.csv", MANIFEST_COLUMNS, rows)
    return folder / "manifest.csv"
