"""Synthetic prostate MRI on disk: sample examinations of every maker, and training sets of four sites.

write_samples(folder)                            # every maker, with the odd forms: Enhanced, mosaic, repeated, lost
write_training_set(folder, cases=100, seed=7)    # T2W, diffusion and ADC with label maps, findings.csv, manifest.csv

Label maps are NIfTI on the grid of the axial T2W series: gland.nii.gz (0, 1), zones.nii.gz (1 peripheral, 2 transition)
and lesions.nii.gz (the number of the lesion in findings.csv, from 1).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np

from imaging.errors import ConfigError, Reason
from imaging.phantoms import DEFAULT_SEED
from imaging.phantoms.export import claim
from imaging.phantoms.prostate.anatomy import Floats, ProstateLesion
from imaging.phantoms.prostate.dicom import objects
from imaging.phantoms.prostate.makers import MRI_MAKERS, MriMakerName, SeriesKey
from imaging.phantoms.prostate.series import BIPARAMETRIC
from imaging.phantoms.prostate.signal import Labels, Slab, gland_labels, lesion_labels, zone_labels
from imaging.phantoms.prostate.study import Form, Oddity, ProstateStudy, planted_lesions
from imaging.phantoms.ultrasound.dicom import Patient, file_bytes

SITES: Final[dict[str, MriMakerName]] = {
    f"site-{letter}": maker for letter, maker in zip("abcd", MRI_MAKERS, strict=True)
}
MANIFEST_COLUMNS: Final = (
    "case_id",
    "patient_id",
    "site",
    "split",
    "image",
    "truth",
    "label",
    "t2w",
    "dwi",
    "adc",
    "organ",
    "zones",
)
"""`image`: the folder of the study; `t2w`, `dwi`, `adc`: folders of series, several parted by a semicolon. `truth`:
lesions; `organ`: the gland; `zones`: 1 peripheral, 2 transition. `label`: normal, insignificant (ISUP grade 1) or
significant, by the worst lesion."""
FINDING_COLUMNS: Final = (
    "case_id",
    "lesion",
    "zone",
    "x_mm",
    "y_mm",
    "z_mm",
    "radius_a_mm",
    "radius_b_mm",
    "radius_c_mm",
    "turn_deg",
    "volume_ml",
    "adc",
    "isup",
)
"""A line per lesion. The centre is a DICOM patient point (LPS); radii are along x and y, turned about z, and along z;
`adc` in 10⁻⁶ mm²/s. All exact, of the ellipsoid itself."""
_SPLITS = ("train", "train", "val", "train", "test", "train", "train")
_ODD: Final[tuple[tuple[MriMakerName, str, Form, Oddity], ...]] = (
    ("siemens", "mosaic", "mosaic", "none"),
    ("siemens", "repeated", "classic", "repeated"),
    ("ge", "missing", "classic", "missing"),
    ("philips", "enhanced", "enhanced", "none"),
    ("canon", "doubled", "classic", "doubled"),
)
_EXPORTED: Final = "siemens/routine"
_EXPORTED_SERIES: Final[tuple[SeriesKey, ...]] = (
    "localiser",
    "t2w_sagittal",
    "t2w_axial",
    "dwi",
    "adc",
    "calculated",
)
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def sample_studies(seed: int = DEFAULT_SEED, coarseness: float = 1.0) -> dict[str, ProstateStudy]:
    """Every sample study by its path: a whole one of each maker with two lesions, and odd ones, of other men."""
    named = {}
    whole: list[tuple[MriMakerName, str, Form, Oddity]] = [(m, "routine", "classic", "none") for m in MRI_MAKERS]
    for number, (maker, name, form, oddity) in enumerate([*whole, *_ODD], start=1):
        own = seed * 100 + number
        patient = Patient(f"MR{number:02d}", f"Phantom^{maker.title()}-{name.title()}", sex="M", birth_date="19580412")
        named[f"{maker}/{name}"] = ProstateStudy(
            maker,
            patient,
            own,
            planted_lesions(own, 2 if name == "routine" else 1),
            form,
            oddity,
            coarseness=coarseness,
        )
    return named


def write_samples(
    folder: Path,
    seed: int = DEFAULT_SEED,
    progress: Callable[[int, int], None] | None = None,
    coarseness: float = 1.0,
) -> list[Path]:
    """The sample studies below `folder`, label maps and findings.csv beside; the odd ones have T2W, DWI and ADC alone.

    Returns the DICOM files, relative, in order. `progress` is called with (done, of) after each study.
    Raises OutputError when the folder holds files already.
    """
    studies = sample_studies(seed, coarseness)
    claim(folder)
    paths: list[Path] = []
    findings: list[tuple[Any, ...]] = []
    for done, (name, study) in enumerate(studies.items(), start=1):
        paths += _write_study(folder, study, f"images/{name}", None if name.endswith("/routine") else BIPARAMETRIC)
        _write_truth(folder, study, f"truth/{name}")
        findings += _findings(name, study)
        if progress is not None:
            progress(done, len(studies))
    _write_table(folder / "findings.csv", FINDING_COLUMNS, findings)
    return paths


def write_export(folder: Path, seed: int = DEFAULT_SEED) -> list[Path]:
    """The sample export: one study, as an archive hands it over, with series that must not be chosen.

    Returns the DICOM files, relative, in order. Raises OutputError when the folder holds files already.
    """
    claim(folder)
    return _write_study(folder, sample_studies(seed)[_EXPORTED], "STUDY", _EXPORTED_SERIES)


def _write_study(folder: Path, study: ProstateStudy, inside: str, wanted: tuple[SeriesKey, ...] | None) -> list[Path]:
    paths = []
    for name, ds in objects(study, wanted):
        paths.append(Path(inside) / name)
        (folder / paths[-1]).parent.mkdir(parents=True, exist_ok=True)
        (folder / paths[-1]).write_bytes(file_bytes(ds))
    return paths


def _write_truth(folder: Path, study: ProstateStudy, inside: str) -> None:
    pelvis, slab = study.pelvis, study.t2w_slab
    (folder / inside).mkdir(parents=True, exist_ok=True)
    for name, labels in (("gland", gland_labels), ("zones", zone_labels), ("lesions", lesion_labels)):
        write_label_map(folder / inside / f"{name}.nii.gz", labels(pelvis, slab), slab)


def to_ras(slab: Slab) -> Floats:
    """(4, 4): (column, row, slice, 1) of a voxel → its place in NIfTI's RAS millimetres."""
    return np.asarray(_TO_RAS @ slab.lps[:, [2, 1, 0, 3]])


def write_label_map(path: Path, labels: Labels, slab: Slab) -> None:
    """Labels (slice, row, column) of a slab as NIfTI-1: axes column, row, slice, in RAS."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), to_ras(slab))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _findings(case_id: str, study: ProstateStudy) -> list[tuple[Any, ...]]:
    """The lines of findings.csv of a study; none without a lesion."""
    return [
        (
            case_id,
            number,
            lesion.zone,
            *(f"{v:.3f}" for v in (*lesion.centre_mm, *lesion.radii_mm, lesion.turn_deg)),
            f"{4 / 3 * np.pi * np.prod(lesion.radii_mm) / 1000:.4f}",
            f"{lesion.adc:g}",
            lesion.isup,
        )
        for number, lesion in enumerate(study.lesions, start=1)
    ]


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def training_studies(cases: int, seed: int, coarseness: float = 1.0) -> list[tuple[str, str, ProstateStudy]]:
    """(site, split, study): sites in turn, a patient each. A third has no lesion; noise varies from man to man.

    One study in three of the Philips-like site is Enhanced MR.
    """
    if cases < 1:
        raise ConfigError(f"cases: found {cases}; allowed is 1 or more", Reason.CONFIG_INVALID)
    made, sites = [], list(SITES.items())
    for number in range(cases):
        turn, place = divmod(number, len(sites))
        site, maker = sites[place]
        own = seed * 100_003 + number
        rng = np.random.default_rng([own, 73])
        usual = MRI_MAKERS[maker].receiver
        receiver = replace(usual, noise=round(usual.noise * float(rng.uniform(0.8, 1.5)), 5))
        count = int(rng.choice(3, p=[1 / 3, 1 / 2, 1 / 6]))
        form: Form = "enhanced" if maker == "philips" and turn % 3 == 2 else "classic"
        name = f"Phantom^{site.title()}-{number}"
        patient = Patient(f"P{seed:04d}-{number:05d}", name, sex="M", birth_date="19580412")
        study = ProstateStudy(
            maker,
            patient,
            own,
            planted_lesions(own, count),
            form,
            site=site,
            coarseness=coarseness,
            receiver=receiver,
        )
        made.append((site, _SPLITS[(turn + place) % len(_SPLITS)], study))
    return made


def label_of(lesions: Sequence[ProstateLesion]) -> str:
    """normal, or the worst of the lesions: significant from ISUP grade 2."""
    grades = [lesion.isup for lesion in lesions]
    return "significant" if max(grades, default=0) >= 2 else "insignificant" if grades else "normal"


def write_training_set(
    folder: Path,
    cases: int,
    seed: int = DEFAULT_SEED,
    progress: Callable[[int, int], None] | None = None,
    coarseness: float = 1.0,
) -> Path:
    """Write `cases` studies of T2W, diffusion and ADC with label maps and findings.csv; the path of manifest.csv.

    A man without a lesion has an empty label map. `progress` is called with (done, of) after each case.
    Raises OutputError when the folder holds files already, ConfigError for fewer than one case.
    """
    planned = training_studies(cases, seed, coarseness)
    claim(folder)
    rows: list[tuple[Any, ...]] = []
    findings: list[tuple[Any, ...]] = []
    for number, (site, split, study) in enumerate(planned, start=1):
        case_id = f"case-{number:05d}"
        image, truth = f"images/{site}/{case_id}", f"truth/{site}/{case_id}"
        paths = _write_study(folder, study, image, BIPARAMETRIC)
        _write_truth(folder, study, truth)
        findings += _findings(case_id, study)
        series = [_folders(paths, key) for key in ("t2w_axial", "dwi", "adc")]
        maps = [f"{truth}/{name}.nii.gz" for name in ("lesions", "gland", "zones")]
        known = (case_id, study.patient.patient_id, site, split)
        rows.append((*known, image, maps[0], label_of(study.lesions), *series, *maps[1:]))
        if progress is not None:
            progress(number, len(planned))
    _write_table(folder / "findings.csv", FINDING_COLUMNS, findings)
    _write_table(folder / "manifest.csv", MANIFEST_COLUMNS, rows)
    return folder / "manifest.csv"


def _folders(paths: list[Path], key: str) -> str:
    """The folders of the series of a key, parted by semicolons."""
    return ";".join(sorted({path.parent.as_posix() for path in paths if path.parent.name.startswith(key)}))
