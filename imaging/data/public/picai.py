"""PI-CAI (Saha et al., Lancet Oncology 2024): biparametric MRI of 1500 exams from three centres, three made public.

Read are the images, PATIENT/PATIENT_STUDY_{t2w,adc,hbv}.mha in images/ or in folders that hold the published archives
(names with public_images_fold0 to 4), and picai_labels/ as its repository lays it out: clinical_information/
marksheet.csv, csPCa_lesion_delineations/human_expert/resampled, anatomical_delineations/. Sagittal and coronal T2W play
no role.

Truth of `picai` are the delineations of human experts, of ISUP grade 2 and more as 1: lower grades are no csPCa. Those
that AI made are no truth of lesions. A csPCa that nobody drew leaves the exam without a truth, with its class alone; a
delineation on an exam without csPCa drops it. Truth of `picai_zones` are the zones of Yuan23, made by AI,
with 1 peripheral and 2 transition zone. The gland is the AI mask Bosma22b. Site is the centre: RUMC, PCNN, ZGT.

The class is significant or not-significant, by case_csPCa. What ADC maps count is not published; their values pass as
stored. 328 exams are ProstateX's too: see `prostatex`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from imaging.data.public.exams import ADC, HIGH_B, PERIPHERAL, TRANSITION
from imaging.data.public.frames import Collection, Dropped, Line, PublicExam, no_layout, read_choice, read_lines
from imaging.errors import ConfigError, Reason

NAME: Final = "picai"
LABELS: Final = "picai_labels"
TABLE: Final = "clinical_information/marksheet.csv"
LESIONS: Final = "csPCa_lesion_delineations/human_expert/resampled"
GLANDS: Final = "anatomical_delineations/whole_gland/AI/Bosma22b"
ZONES: Final = "anatomical_delineations/zonal_pz_tz/AI/Yuan23"
_COLUMNS: Final = ("patient_id", "study_id", "case_ISUP", "case_csPCa", "center")
CLASSES: Final = {"yes": "significant", "no": "not-significant"}
_ISUP: Final = {str(grade): str(grade) for grade in range(6)}


def read(folder: Path) -> Collection:
    """The exams of a folder with csPCa as truth. Raises ConfigError for another layout."""
    return _with_truths(folder, LESIONS, {1: 0, 2: 1, 3: 1, 4: 1, 5: 1})


def read_zones(folder: Path) -> Collection:
    """The exams of a folder with zones as truth. Raises ConfigError for another layout."""
    found = _with_truths(folder, ZONES, {1: PERIPHERAL, 2: TRANSITION})
    return replace(found, exams=tuple(replace(exam, positive=True, label="") for exam in found.exams))


def _with_truths(folder: Path, kind: str, values: dict[int, int]) -> Collection:
    labels, images = folder / LABELS, _images(folder)
    if not images or not (labels / TABLE).is_file() or not (labels / kind).is_dir():
        raise no_layout(
            NAME, folder, f"images/10000/10000_1000000_t2w.mha, {LABELS}/{TABLE} and {LABELS}/{kind}/*.nii.gz"
        )
    lines = read_lines(labels / TABLE, _COLUMNS)
    found = Collection.of([_exam(folder, images, f"set {NAME}, {TABLE}, line {number}", x) for number, x in lines])
    files = {path.name: path for path in (labels / kind).glob("*.nii.gz")}
    named = ((exam, exam.case_id.removeprefix(f"{NAME}_")) for exam in found.exams)
    exams = [replace(exam, truth=files.get(f"{name}.nii.gz"), values=values) for exam, name in named]
    return replace(found, exams=tuple(exams))


def _images(folder: Path) -> dict[str, Path]:
    """The volumes of all patients, by their file names."""
    tops = [folder / "images", *sorted(folder.glob("*public_images_fold[0-9]*"))]
    return {path.name: path for top in tops for path in sorted(top.glob("*/*.mha"))}


def _exam(folder: Path, images: dict[str, Path], where: str, line: Line) -> PublicExam | Dropped:
    patient, name = line["patient_id"], f"{line['patient_id']}_{line['study_id']}"
    label = _class(where, line)
    if not (patient and line["study_id"] and line["center"]):
        raise ConfigError(f"{where}: patient_id, study_id or center is empty; allowed are names", Reason.CONFIG_INVALID)
    wanted = [f"{name}_{part}.mha" for part in ("t2w", "adc", "hbv")]
    if missing := [file for file in wanted if file not in images]:
        place = images.get(wanted[0], folder / "images" / patient / wanted[0])
        return Dropped(place, label, f"{', '.join(missing)}: there is no such file")
    image, adc, high_b = (images[file] for file in wanted)
    gland = folder / LABELS / GLANDS / f"{name}.nii.gz"
    return PublicExam(
        f"{NAME}_{name}",
        f"{NAME}-{patient}",
        line["center"],
        image,
        {ADC: adc, HIGH_B: high_b},
        organ=gland if gland.is_file() else None,
        label=label,
        positive=label == "significant",
    )


def _class(where: str, line: Line) -> str:
    """The class by case_csPCa, which case_ISUP must not contradict. Raises ConfigError."""
    label = read_choice(where, "case_csPCa", line["case_csPCa"], CLASSES)
    grade = int(read_choice(where, "case_ISUP", line["case_ISUP"], _ISUP))
    if (label == "significant") != (grade >= 2):
        raise ConfigError(
            f"{where}: case_csPCa is {line['case_csPCa']} and case_ISUP {grade}; allowed is YES with 2 to 5, and NO "
            "with 0 or 1",
            Reason.CONFIG_INVALID,
        )
    return label
