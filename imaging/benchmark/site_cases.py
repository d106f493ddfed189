"""A hospital's table → cases that are known by numbers, with their files where the table or the copies have them.

Cases and patients are numbered in the order of the hospital's own table (SITE-17, SITE-p9): who they are stands in that
table alone. Nothing that is written here holds a name, an identifier or a path of the hospital, but for the copies that
`prepare` makes when it is asked to, which are as personal as what they are copies of.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from imaging.benchmark.jobs import content_of, write_whole
from imaging.benchmark.kit import SiteKit
from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.errors import ConfigError, OutputError, Reason
from imaging.table import likened

CASES: Final = "cases.json"
COPIES: Final = "files"


@dataclass(frozen=True, slots=True)
class KitCase:
    """A case as everything after the preparation knows it. `content` is a hash of its files and facts."""

    case_id: str
    patient_id: str
    site: str
    label: str
    content: str


def prepare(kit: SiteKit, manifest: Path, work: Path, with_copies: bool = False) -> list[KitCase]:
    """Numbers the cases of a table and writes cases.json; with copies also files/, which then stands for the table.

    Raises ConfigError as `read_manifest` does, and for a site that a network learnt from; OutputError.
    """
    cases = _neutral(read_manifest(manifest, needs_split=False))
    for network in kit.networks:
        learnt = {likened(site) for site in network.train_sites}
        if seen := sorted({case.site for case in cases if likened(case.site) in learnt}):
            raise refusal("site", f"{seen}, where {network.name} learnt", "sites that no network of the kit has seen")
    if with_copies:
        cases = [_copied(case, work.resolve() / COPIES) for case in cases]
        write_manifest(work.resolve() / COPIES / "manifest.csv", cases)
    known = [KitCase(c.case_id, c.patient_id, c.site, c.label, content_of(c)) for c in cases]
    write_whole(work / CASES, json.dumps([asdict(one) for one in known], indent=1) + "\n")
    return known


def read_cases(work: Path, manifest: Path | None) -> list[Case]:
    """The prepared cases with their files, from the hospital's table, or from the copies where none is given.

    Raises ConfigError where nothing was prepared, and where a case is not what it was.
    """
    known = [KitCase(**one) for one in read_json(work / CASES, "prepare")]
    if manifest is None:
        manifest = work / COPIES / "manifest.csv"
        if not manifest.is_file():
            raise refusal("--manifest", "none, and no copies", "the table that was prepared")
        found = read_manifest(manifest, needs_split=False)
    else:
        found = _neutral(read_manifest(manifest, needs_split=False))
    by_id = {case.case_id: case for case in found}
    for one in known:
        case = by_id.get(one.case_id)
        if case is None or content_of(case) != one.content:
            raise refusal(
                f"case {one.case_id}", "other files or facts than were prepared", "a table as it was prepared"
            )
    return [by_id[one.case_id] for one in known]


def _neutral(cases: Sequence[Case]) -> list[Case]:
    """The cases under numbers, counted inside each site in the table's order."""
    count: Counter[str] = Counter()
    patients: dict[tuple[str, str], str] = {}
    told = []
    for case in cases:
        count[case.site] += 1
        number = count[case.site]
        patient = patients.setdefault((case.site, case.patient_id), f"{case.site}-p{number}")
        told.append(replace(case, case_id=f"{case.site}-{number}", patient_id=patient))
    return told


def _copied(case: Case, folder: Path) -> Case:
    """The case with copies of its files, under names that say nothing."""
    own = folder / quote(case.case_id, safe="")

    def copy(path: Path, name: str) -> Path:
        place = own / (name + "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]))
        if path.is_dir():
            for number, inside in enumerate(sorted(one for one in path.rglob("*") if one.is_file()), start=1):
                (own / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(inside, own / name / f"{number:06d}{inside.suffix}")
            return own / name
        own.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(path, place))

    try:
        return replace(
            case,
            image=copy(case.image, "image"),
            truth=None if case.truth is None else copy(case.truth, "truth"),
            organ=None if case.organ is None else copy(case.organ, "organ"),
            beside={role: copy(path, f"beside_{n}") for n, (role, path) in enumerate(sorted(case.beside.items()))},
        )
    except OSError as error:
        raise OutputError(f"{own}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def read_json(path: Path, step: str) -> Any:
    """What a step wrote. Raises ConfigError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refusal(str(path), type(error).__name__, f"what `imaging site-kit {step}` wrote") from error


def refusal(key: str, found: str, allowed: str) -> ConfigError:
    return ConfigError(f"{key}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)
