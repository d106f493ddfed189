"""Multi-site training sets whose sites differ by planted, stated amounts, and by nothing else.

A site file says how each site acquires, in physical units; what it leaves out is the reference, and so is every site at
strength 0. Which patient, which anatomy and which lesion a case has depends on the seed and the case's number alone, so
a set and its twin without a shift show the same people:

    kind: breast
    sites:
      north: {}
      south: {gain_db: 8.0, range_db: 45.0}
    label_shift:                # left out: every site has the same patients
      south: {prevalence: 0.8, lesion_size: 1.2}
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from imaging.errors import ConfigError, Reason
from imaging.phantoms.export import claim

Record = TypeVar("Record", bound=Any)
Progress = Callable[[int, int], None]  # called with (done, of)
_COLUMNS: Final = ("case_id", "patient_id", "site", "split", "image", "truth", "label")
_SPLITS: Final = ("train", "train", "val", "train", "test", "train", "train")
_IMAGES: Final = (2, 1, 1)  # of a site's patients in turn
_GOLDEN: Final = 0.6180339887498949  # multiples of it fill 0 to 1 evenly, however few there are
PLANTED: Final = "planted.json"


def bounded(default: float, low: float, high: float, unit: str) -> Any:
    """A field of an acquisition: its value at the reference, what is allowed, and its unit."""
    return field(default=default, metadata={"low": low, "high": high, "unit": unit})


@dataclass(frozen=True, slots=True)
class Population:
    """Who comes to a site. `prevalence`: share of patients with a lesion. `lesion_size`: factor on every diameter."""

    prevalence: float = bounded(0.6, 0.0, 1.0, "of patients")
    lesion_size: float = bounded(1.0, 0.5, 1.5, "times the diameter")


@dataclass(frozen=True, slots=True)
class PhantomCase:
    """What one case shows, before anybody takes an image: the same at every strength.

    `seed` draws this image's anatomy, `patient_seed` what all images of the patient share; `image` numbers them from 0.
    """

    case_id: str
    patient_id: str
    site: str
    split: str
    seed: int
    patient_seed: int
    image: int
    has_lesion: bool
    lesion_size: float


@dataclass(frozen=True, slots=True)
class PhantomFiles:
    """The files of a case below the set's folder, its label, and by column what else its line of the manifest says."""

    image: str
    truth: str
    label: str
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SitedKind:
    """A kind of phantom that can be acquired in stated ways.

    Args:
        acquisition: Class of the record that says how; without arguments it is the reference.
        write: Folder of the set, subject, acquisition → its files.
        images: Images of a site's patients in turn.
    """

    acquisition: type[Any]
    write: Callable[[Path, PhantomCase, Any], PhantomFiles]
    images: tuple[int, ...] = _IMAGES


@dataclass(frozen=True)
class SiteFile:
    """The sites of a set as the file states them: by name what differs from the reference, and who comes there."""

    kind: str
    sites: Mapping[str, Mapping[str, float]]
    label_shift: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> SiteFile:
        """Raises ConfigError for a file that is missing, is no YAML, or has a key that is missing, unknown or wrong."""
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            detail = " ".join(str(error).split())
            raise ConfigError(f"site file {path.name}: cannot be read ({detail})", Reason.CONFIG_INVALID) from error
        allowed = [known.name for known in fields(SiteFile)]
        if not isinstance(found, dict) or not {"kind", "sites"} <= set(found) <= set(allowed):
            keys = sorted(map(str, found)) if isinstance(found, dict) else type(found).__name__
            raise _refused(path.name, f"found {keys}; needed are kind and sites, allowed besides is label_shift")
        if not isinstance(found["kind"], str):
            raise _refused(path.name, f"kind: found {found['kind']!r}; allowed is a name")
        sites = _table(path.name, "sites", found["sites"])
        shifts = _table(path.name, "label_shift", found.get("label_shift", {}))
        if not sites:
            raise _refused(path.name, "sites: found none; allowed is one or more")
        if strangers := sorted(set(shifts) - set(sites)):
            raise _refused(path.name, f"label_shift: found {strangers}; allowed are the sites {sorted(sites)}")
        return SiteFile(found["kind"], sites, shifts)

    def acquisitions(self, kind: SitedKind, strength: float) -> dict[str, Any]:
        """Every site's acquisition, by strength between the reference and the site's values. Raises ConfigError."""
        if not 0 <= strength <= 1:
            raise ConfigError(f"strength: found {strength:g}; allowed is 0 to 1", Reason.CONFIG_INVALID)
        reference = kind.acquisition()
        made = {}
        for site, values in self.sites.items():
            checked(f"site '{site}'", reference, values)
            between = {
                name: (1 - strength) * getattr(reference, name) + strength * value for name, value in values.items()
            }
            made[site] = replace(reference, **between)
        return made

    def populations(self) -> dict[str, Population]:
        """Who comes to every site. Raises ConfigError."""
        return {
            site: checked(f"label_shift of site '{site}'", Population(), self.label_shift.get(site, {}))
            for site in self.sites
        }


def _refused(name: str, detail: str) -> ConfigError:
    return ConfigError(f"site file {name}: {detail}", Reason.CONFIG_INVALID)


def _table(name: str, key: str, found: object) -> dict[str, dict[str, float]]:
    """Site → name → number, as the file has it; a site without a value is an empty one."""
    if not isinstance(found, dict) or any(not isinstance(v, dict | None) for v in found.values()):
        raise _refused(name, f"{key}: found {found!r:.80}; allowed is a table of values for each site's name")
    made = {str(site): dict(values or {}) for site, values in found.items()}
    for site, values in made.items():
        for parameter, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _refused(name, f"{key}, {site}, {parameter}: found {value!r}; allowed is a number")
    return made


def checked(where: str, reference: Record, values: Mapping[str, float]) -> Record:
    """The reference with other values. Raises ConfigError for an unknown name, or a value outside its bounds."""
    known = {one.name: one.metadata for one in fields(reference)}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{where}: '{name}' is unknown; allowed are {', '.join(known)}", Reason.CONFIG_INVALID)
        low, high, unit = (known[name][key] for key in ("low", "high", "unit"))
        if not low <= value <= high:
            raise ConfigError(
                f"{where}: {name} is {value:g}; allowed is {low:g} to {high:g} {unit}", Reason.CONFIG_INVALID
            )
    return replace(reference, **values)


def planned(file: SiteFile, kind: SitedKind, cases: int, seed: int) -> list[PhantomCase]:
    """The cases of a set, sites in turn. Raises ConfigError for fewer than one.

    A patient with a lesion has it on every image. Who has one follows from the patient's number and the prevalence, so
    that a higher prevalence adds lesions and takes none away.
    """
    if cases < 1:
        raise ConfigError(f"cases: found {cases}; allowed is 1 or more", Reason.CONFIG_INVALID)
    made, populations = [], file.populations()
    sites = list(file.sites)
    of_turn = [(patient, image) for patient in range(cases) for image in range(kind.images[patient % len(kind.images)])]
    for number in range(cases):
        turn, place = divmod(number, len(sites))
        patient, image = of_turn[turn]
        who = populations[sites[place]]
        patient_number = patient * len(sites) + place
        patient_seed = seed * 100_003 + patient_number
        made.append(
            PhantomCase(
                f"case-{number + 1:05d}",
                f"S{seed:04d}-{patient_number:05d}",
                sites[place],
                _SPLITS[(patient + 2 * place) % len(_SPLITS)],
                seed * 100_003 + number,
                patient_seed,
                image,
                (patient * _GOLDEN + (place + seed) * _GOLDEN**2) % 1 < who.prevalence,
                who.lesion_size,
            )
        )
    return made


def write_sites(  # noqa: PLR0913, PLR0917 - what a training set takes, and the shift
    folder: Path,
    kind: SitedKind,
    file: SiteFile,
    strength: float,
    cases: int,
    seed: int,
    progress: Progress | None = None,
) -> Path:
    """Write `cases` cases of all sites with their truth and planted.json; return the path of manifest.csv.

    `progress` is called with (done, of) after each case. Raises OutputError when the folder holds files already,
    ConfigError for a value, a strength or a number of cases that is not allowed.
    """
    acquisitions, subjects = file.acquisitions(kind, strength), planned(file, kind, cases, seed)
    claim(folder)
    rows = []
    for done, subject in enumerate(subjects, start=1):
        written = kind.write(folder, subject, acquisitions[subject.site])
        known = (subject.case_id, subject.patient_id, subject.site, subject.split)
        rows.append(dict(zip(_COLUMNS, (*known, written.image, written.truth, written.label), strict=True)))
        rows[-1] |= written.further
        if progress is not None:
            progress(done, len(subjects))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _write_planted(folder / PLANTED, kind, file, strength, seed)
    return folder / "manifest.csv"


def _write_planted(path: Path, kind: SitedKind, file: SiteFile, strength: float, seed: int) -> None:
    """Which site has which values, in which units, and who comes there."""
    populations = file.populations()
    told = {
        "kind": file.kind,
        "strength": strength,
        "seed": seed,
        "units": {one.name: one.metadata["unit"] for one in fields(kind.acquisition)},
        "reference": asdict(kind.acquisition()),
        "sites": {
            site: {"acquisition": asdict(values), "population": asdict(populations[site])}
            for site, values in file.acquisitions(kind, strength).items()
        },
    }
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
