"""Synthetic exports on disk: the sample export with everything a PACS mixes up, and training sets of four sites.

`write_export` makes `data_samples/pacs_export`; `EXPECTED` says what an honest run over it must conclude.
`write_training_set` makes DICOM stills, full-frame truth masks and a `manifest.csv`.
"""

from __future__ import annotations

import csv
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate

from imaging.errors import ConfigError, OutputError, Reason
from imaging.phantoms import DEFAULT_SEED
from imaging.phantoms.media import directory, mr_localiser, text_report
from imaging.phantoms.ultrasound.bmode import Scan
from imaging.phantoms.ultrasound.dicom import (
    GREEK,
    JAPANESE,
    LATIN,
    SPANISH,
    SWEDISH,
    BodyPart,
    Patient,
    UltrasoundAcquisition,
    dataset,
    file_bytes,
    truth,
    uid,
)
from imaging.phantoms.ultrasound.head import LARGEST_MM, SMALLEST_MM, head_of
from imaging.phantoms.ultrasound.planting import plant_head, plant_lesion
from imaging.phantoms.ultrasound.screen import Arrangement, Layout, VendorLetter
from imaging.phantoms.ultrasound.tissue import PlantedLesion

SITES: dict[str, VendorLetter] = {"site-a": "A", "site-b": "B", "site-c": "C", "site-d": "D"}
Kind = Literal["breast", "head"]
MANIFEST_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "breast": ("case_id", "patient_id", "site", "split", "image", "truth", "label"),
    "head": ("case_id", "patient_id", "site", "split", "image", "truth", "head_circumference_mm"),
}
"""`label`: normal, benign or malignant. `head_circumference_mm`: of the ellipse, empty without a head."""
_ARRANGEMENTS: tuple[Arrangement, ...] = ("single", "split", "duplex")
_SPLITS = ("train", "train", "val", "train", "test", "train", "train")

_SHADOWING = PlantedLesion(-3.0, 17.5, 12.0, 9.5, 8.0, echo_db=-22.0, irregularity=0.11, margin_mm=0.45, seed=5)
_ROUND = PlantedLesion(
    6.0, 15.0, 9.0, 6.5, -6.0, -30.0, irregularity=0.03, margin_mm=0.2, posterior="enhancement", seed=6
)
_DEEP = PlantedLesion(5.0, 21.0, 13.0, 11.0, 0.0, -23.0, irregularity=0.10, margin_mm=0.45, seed=7)


_HEAD = head_of(176.0, 0.78, 8, (4.0, 63.0, 12.0))
_YOUNG = head_of(104.0, 0.80, 9, (-8.0, 52.0, 340.0))
_OLD = head_of(298.0, 0.77, 10, (-3.0, 88.0, 190.0))
_LATE = head_of(255.0, 0.79, 13, (2.0, 74.0, 352.0))


@dataclass(frozen=True, slots=True)
class ExpectedAnswer:
    """What a package must conclude about one study."""

    applicability: Literal["applicable", "not_applicable"]
    finding: Literal["yes", "no", "unknown"]
    completeness: Literal["all", "some", "none"]


NOT_FOR_THIS = ExpectedAnswer("not_applicable", "unknown", "none")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run over the sample export must conclude about one study: by a package for breasts, and one for heads."""

    patient: Patient
    study: int
    body_part: BodyPart
    breast: ExpectedAnswer = NOT_FOR_THIS
    head: ExpectedAnswer = NOT_FOR_THIS

    @property
    def study_uid(self) -> str:
        return uid("study", self.patient.patient_id, self.study)

    def by(self, kind: Kind) -> ExpectedAnswer:
        """The answer of a package of this kind."""
        return self.breast if kind == "breast" else self.head


EXPECTED = (
    Expected(LATIN, 1, "BREAST", breast=ExpectedAnswer("applicable", "yes", "all")),
    Expected(LATIN, 2, "BREAST", breast=ExpectedAnswer("applicable", "yes", "all")),
    Expected(GREEK, 1, "BREAST", breast=ExpectedAnswer("applicable", "no", "all")),
    Expected(GREEK, 2, "HEART"),
    Expected(JAPANESE, 1, "BREAST", breast=ExpectedAnswer("applicable", "unknown", "some")),
    Expected(JAPANESE, 2, "BREAST", breast=ExpectedAnswer("applicable", "unknown", "none")),
    Expected(SPANISH, 1, "FETALHEAD", head=ExpectedAnswer("applicable", "yes", "all")),
    Expected(SPANISH, 2, "FETALHEAD", head=ExpectedAnswer("applicable", "yes", "all")),
    Expected(SWEDISH, 1, "FETALHEAD", head=ExpectedAnswer("applicable", "yes", "all")),
    Expected(SWEDISH, 2, "FETALHEAD", head=ExpectedAnswer("applicable", "yes", "some")),
)
"""One row per study of `write_export`, for packages that read the body parts BREAST and FETALHEAD."""

BROKEN = (
    "DICOM/PA0003/ST0001/SE0001/IM0002",
    "DICOM/PA0003/ST0002/SE0001/IM0001",
    "DICOM/PA0006/ST0002/SE0001/IM0002",
)
"""Objects with a sound header and unreadable pixels: cut short, and two JPEG code streams of noise."""
JPEG_CODED = (
    "DICOM/PA0002/ST0001/SE0002/IM0001",
    "DICOM/PA0005/ST0002/SE0001/IM0001",
    "DICOM/PA0006/ST0001/SE0001/IM0001",
    "DICOM/PA0006/ST0002/SE0001/IM0001",
)
"""Objects whose pixel bytes come from the installed JPEG encoder and may differ with its version."""


def acquisitions(seed: int = DEFAULT_SEED) -> dict[str, UltrasoundAcquisition]:
    """Every ultrasound object of the sample export by its path, the broken ones as they were before the damage."""
    return _breast_acquisitions(seed) | _head_acquisitions(seed)


def _breast_acquisitions(seed: int) -> dict[str, UltrasoundAcquisition]:
    a = UltrasoundAcquisition("A", LATIN, seed, (_SHADOWING,), Layout(calipers=True))
    plain = UltrasoundAcquisition("D", GREEK, seed + 4)
    third = UltrasoundAcquisition("C", JAPANESE, seed + 7)
    return {
        "DICOM/PA0001/ST0001/SE0001/IM0001": a,
        "DICOM/PA0001/ST0001/SE0001/IM0002": replace(
            a, seed=seed + 1, lesions=(_ROUND,), layout=Layout("split"), instance=2, rle=True
        ),
        "DICOM/PA0001/ST0001/SE0001/IM0003": replace(
            a, seed=seed + 2, lesions=(), layout=Layout("duplex"), instance=3, rle=True
        ),
        "DICOM/PA0001/ST0002/SE0001/US000001.dcm": UltrasoundAcquisition(
            "C", LATIN, seed + 3, (_DEEP,), Layout(calibrated=False), study=2
        ),
        "DICOM/PA0002/ST0001/SE0001/IM0001": plain,
        "DICOM/PA0002/ST0001/SE0002/IM0001": replace(plain, seed=seed + 5, layout=Layout(frames=12), series=2),
        "DICOM/PA0002/ST0002/SE0001/IM0001": replace(plain, seed=seed + 6, body_part="HEART", study=2),
        "DICOM/PA0003/ST0001/SE0001/IM0001": third,
        BROKEN[0]: replace(third, seed=seed + 8, instance=2),
        BROKEN[1]: UltrasoundAcquisition("B", JAPANESE, seed + 9, study=2),
    }


def _head_acquisitions(seed: int) -> dict[str, UltrasoundAcquisition]:
    """Fetal heads: a calibrated still, one without calibration, a cine, and a study with a broken second still."""
    first = UltrasoundAcquisition("C", SPANISH, seed + 10, head=_HEAD, body_part="FETALHEAD")
    bare = UltrasoundAcquisition(
        "B", SPANISH, seed + 11, head=_YOUNG, body_part="FETALHEAD", layout=Layout(calibrated=False)
    )
    clip = UltrasoundAcquisition("D", SWEDISH, seed + 12, head=_LATE, body_part="FETALHEAD", layout=Layout(frames=6))
    late = UltrasoundAcquisition("B", SWEDISH, seed + 13, head=_OLD, body_part="FETALHEAD", study=2)
    return {
        "DICOM/PA0005/ST0001/SE0001/IM0001": first,
        "DICOM/PA0005/ST0002/SE0001/IM0001": replace(bare, study=2),
        "DICOM/PA0006/ST0001/SE0001/IM0001": clip,
        "DICOM/PA0006/ST0002/SE0001/IM0001": late,
        BROKEN[2]: replace(late, seed=seed + 14, instance=2),
    }


def write_export(folder: Path, seed: int = DEFAULT_SEED) -> list[Path]:
    """Write the sample export below `folder` (made if missing) and return the files, relative, in order.

    Raises OutputError when the folder holds files already: an export is made whole or not at all.
    """
    claim(folder)
    damage: dict[str, Callable[[FileDataset], bytes]] = {BROKEN[0]: _cut_short} | dict.fromkeys(BROKEN[1:], _scrambled)
    contents: dict[str, bytes] = {}
    objects: list[tuple[str, FileDataset]] = []
    for path, made in _objects(seed):
        contents[path] = damage.get(path, file_bytes)(made)
        if "." not in path:  # PS3.10 8.2: a File ID has capitals, digits and underscores only
            objects.append((path, made))
    contents["DICOMDIR"] = directory(objects)
    contents |= _junk(seed)
    for path, content in sorted(contents.items()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return [Path(path) for path in sorted(contents)]


def claim(folder: Path) -> None:
    """Make the folder that an export is written to. Raises OutputError when it holds files already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder}: found files there already; a phantom export needs a new or an empty folder",
            Reason.OUTPUT_FAILED,
        )
    folder.mkdir(parents=True, exist_ok=True)


def _objects(seed: int) -> list[tuple[str, FileDataset]]:
    """Path and object, ordered by patient, study and series; MR and SR join the first study of the first patient."""
    made = {path: dataset(acquisition) for path, acquisition in acquisitions(seed).items()}
    made |= {f"DICOM/PA0001/ST0001/SE0002/IM000{n}": mr_localiser(LATIN, 1, 2, n) for n in (1, 2, 3)}
    made["DICOM/PA0001/ST0001/SE0003/SR0001"] = text_report(LATIN, 1, 3)
    return sorted(made.items())


def _cut_short(ds: FileDataset) -> bytes:
    """A transfer that broke off: the header is whole, two fifths of the pixels are missing."""
    return file_bytes(ds)[: -int(0.4 * len(ds.PixelData))]


def _scrambled(ds: FileDataset) -> bytes:
    """A JPEG code stream of noise behind a correct start marker."""
    noise = np.random.default_rng([ds.Rows, 71]).integers(0, 255, 20_000, dtype=np.uint8).tobytes()
    ds.LossyImageCompressionRatio = "46.1"
    ds.PixelData = encapsulate([b"\xff\xd8" + noise])
    ds["PixelData"].VR = "OB"
    return file_bytes(ds)


def _junk(seed: int) -> dict[str, bytes]:
    """What else lies about: a text, a thumbnail cache, an empty file, a picture."""
    cache = bytes.fromhex("d0cf11e0a1b11ae1") + np.random.default_rng([seed, 81]).bytes(3064)
    return {
        "README.TXT": b"Synthetic export of a synthetic archive. No person was imaged.\r\n",
        "DICOM/PA0002/ST0001/Thumbs.db": cache,
        "DICOM/PA0003/ST0001/SE0001/IM0003": b"",
        "VIEWER/LOGO.PNG": _png(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))),
    }


def _png(grey: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey PNG (row, column) with stored data: the same bytes whatever the compression library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns = grey.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in grey)
    stored = zlib.compress(lines, level=0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stored) + chunk(b"IEND", b"")


def training_cases(cases: int, seed: int, kind: Kind = "breast") -> list[tuple[str, str, UltrasoundAcquisition]]:
    """(site, split, acquisition) of every case: sites in turn, one or two cases a patient.

    Half of the breasts have a lesion; one uterus in twelve shows no head.
    """
    if cases < 1:
        raise ConfigError(f"cases: found {cases}; allowed is 1 or more", Reason.CONFIG_INVALID)
    made = []
    sites = list(SITES.items())
    for number in range(cases):
        turn, place = divmod(number, len(sites))
        site, vendor = sites[place]
        patient_turn = turn // 3 * 2 + (1 if turn % 3 == 2 else 0)  # two cases, one case, two cases, ...
        patient_number = patient_turn * len(sites) + place
        patient = Patient(f"{seed:04d}-{patient_number:05d}", f"Phantom^{site.title()}-{patient_number}")
        usual = UltrasoundAcquisition(vendor, patient, seed * 100_003 + number, site=site, instance=number + 1)
        if kind == "head":
            case = _vary_head(replace(usual, patient=replace(patient, birth_date="19930415"), body_part="FETALHEAD"))
        else:
            has_lesion = (turn + int(np.random.default_rng([seed, turn // 2, place]).integers(2))) % 2 == 0
            case = _vary(usual, has_lesion)
        made.append((site, _SPLITS[patient_number % len(_SPLITS)], case))
    return made


def _vary(usual: UltrasoundAcquisition, has_lesion: bool) -> UltrasoundAcquisition:
    """A site's usual breast scan with day-to-day variation; with a lesion or not."""
    rng = np.random.default_rng([usual.seed, 91])
    scan = _vary_scan(rng, usual.setting, usual.setting.depth_mm * float(rng.uniform(0.85, 1.15)))
    lesions = (plant_lesion(scan, usual.seed),) if has_lesion else ()
    return replace(usual, scan=scan, layout=_vary_layout(rng), lesions=lesions, orientation=_orientation(usual))


def _vary_head(usual: UltrasoundAcquisition) -> UltrasoundAcquisition:
    """A site's usual obstetric scan with day-to-day variation; the depth, 90 to 180 mm, suits the head."""
    rng = np.random.default_rng([usual.seed, 93])
    around_mm = float(rng.uniform(SMALLEST_MM, LARGEST_MM))
    scan = _vary_scan(rng, usual.setting, float(np.clip((40 + 0.36 * around_mm) * rng.uniform(1.0, 1.25), 90, 180)))
    head = plant_head(scan, usual.seed, around_mm) if rng.random() < 11 / 12 else None
    return replace(usual, scan=scan, layout=_vary_layout(rng), head=head, orientation=_orientation(usual))


def _vary_scan(rng: np.random.Generator, scan: Scan, depth_mm: float) -> Scan:
    """Gain and noise vary from day to day."""
    return replace(
        scan,
        depth_mm=depth_mm,
        gain_db=scan.gain_db + float(rng.normal(0, 2.0)),
        noise_db=scan.noise_db + float(rng.normal(0, 2.5)),
    )


def _vary_layout(rng: np.random.Generator) -> Layout:
    return Layout(
        _ARRANGEMENTS[int(rng.choice(3, p=[0.8, 0.1, 0.1]))],
        calibrated=bool(rng.random() < 0.9),
        text=bool(rng.random() < 0.9),
        calipers=bool(rng.random() < 0.25),  # with and without a target: a caliper must not give it away
    )


def _orientation(usual: UltrasoundAcquisition) -> Literal["empty", "absent"]:
    return "absent" if usual.vendor == "D" else "empty"


def write_training_set(
    folder: Path,
    cases: int,
    seed: int = DEFAULT_SEED,
    progress: Callable[[int, int], None] | None = None,
    kind: Kind = "breast",
) -> Path:
    """Write `cases` stills with their full-frame masks (PNG, 0 and 255) and return the path of `manifest.csv`.

    About half of the breasts have no lesion, and a few uteri no head: their mask is empty. The last column of the
    manifest is the label of a breast (normal, benign, malignant), or the exact circumference of a head in millimetres.
    `progress` is called with (done, of) after each case.
    Raises OutputError when the folder holds files already, ConfigError for fewer than one case.
    """
    planned = training_cases(cases, seed, kind)
    claim(folder)
    rows = []
    for number, (site, split, acquisition) in enumerate(planned, start=1):
        case_id = f"case-{number:05d}"
        image, mask = f"images/{site}/{case_id}.dcm", f"truth/{site}/{case_id}.png"
        for path in (image, mask):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).write_bytes(file_bytes(dataset(acquisition)))
        Picture.fromarray(truth(acquisition) * np.uint8(255)).save(folder / mask)
        known = _label(acquisition) if kind == "breast" else _circumference(acquisition)
        rows.append((case_id, acquisition.patient.patient_id, site, split, image, mask, known))
        if progress is not None:
            progress(number, len(planned))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS[kind])
        writer.writerows(rows)
    return manifest


def _label(acquisition: UltrasoundAcquisition) -> str:
    """normal, or the worst kind of its masses."""
    kinds = {lesion.kind for lesion in acquisition.masses}
    return "malignant" if "malignant" in kinds else "benign" if kinds else "normal"


def _circumference(acquisition: UltrasoundAcquisition) -> str:
    head = acquisition.fetal_head
    return "" if head is None else f"{head.circumference_mm:.2f}"
