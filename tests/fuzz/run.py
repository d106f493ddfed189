"""Damaged files beside good ones, through firewall, index and reader: what became of each."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from imaging.dicom.index import Index, Instance, build_index
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, Reason
from imaging.workers import WorkerLimits, Workers
from tests.fuzz.mutations import Source, corpus, mutate

BATCH = 60
NEIGHBOURS = 4
# Sound files that are read in full; they lie among the damaged ones.
GOOD = ("MR_small.dcm", "CT_small.dcm", "JPEG2000.dcm", "SC_rgb_rle.dcm", "chrX1.dcm", "liver_1frame.dcm")
# Frames read of one damaged file. A cine of 30 frames teaches what its first three do.
FRAMES = 3
_LIMITS = WorkerLimits(memory_bytes=2 << 30, seconds=30)
# Nothing of this kind is an answer: the code was not prepared for the file.
UNHANDLED = frozenset((Reason.WORKER_FAILED,))


@dataclass
class Outcomes:
    """What a fuzz run found. `table` counts (mutation, outcome) and `neighbours` the good files.

    `unhandled`, `hangs`, `lost_neighbours` and `without_state` must stay empty.
    """

    table: Counter[tuple[str, str]] = field(default_factory=Counter)
    neighbours: int = 0
    unhandled: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    lost_neighbours: list[str] = field(default_factory=list)
    without_state: list[str] = field(default_factory=list)


def fuzz(files: int, seed: int, shared: Path | None, workers: int = 1) -> Outcomes:
    """`files` damaged files, some sixty to a folder, good neighbours among them; every kind of file weighs the same."""
    rng = random.Random(seed)
    sources = corpus(shared)
    outcomes = Outcomes()
    done = 0
    while done < files:
        with tempfile.TemporaryDirectory() as folder:
            damaged, good = _fill(Path(folder), sources, min(BATCH, files - done), rng)
            _judge(Path(folder), damaged, good, outcomes, workers)
        done += len(damaged)
    return outcomes


def read_some(instance: Instance) -> str:
    """In a worker: `read`, or the reason code of the first frame that could not be."""
    frames = read_frames(ImageRef(instance), disposable=True)
    for number, (_, outcome) in enumerate(frames):
        if isinstance(outcome, ImagingError):
            return outcome.reason
        if number + 1 == FRAMES:
            break
    return "read"


def _fill(
    folder: Path, sources: list[Source], most: int, rng: random.Random
) -> tuple[dict[str, tuple[str, Path]], list[str]]:
    """Damaged files (name → mutation, source) and good ones among them, at most one of each study.

    Two of one study would be refused for each other's sake (another patient, another object under one UID), which
    says nothing about how each is read.
    """
    damaged: dict[str, tuple[str, Path]] = {}
    good: list[str] = []
    sound = {s.study: s for s in rng.sample([s for s in sources if s.path.name in GOOD], NEIGHBOURS)}
    chosen = [s for s in _one_of_each(sources, rng) if s.study not in sound][:most]
    for number, source in enumerate(rng.sample([*sound.values(), *chosen], len(sound) + len(chosen))):
        name = f"{number:05d}"
        if source in sound.values():
            shutil.copyfile(source.path, folder / name)
            good.append(name)
        else:
            mutation, data = mutate(source.path.read_bytes(), rng)
            (folder / name).write_bytes(data)
            damaged[name] = (mutation, source.path)
    return damaged, good


def _one_of_each(sources: list[Source], rng: random.Random) -> list[Source]:
    """One file of each kind, in random order, no study twice."""
    shuffled = rng.sample(sources, len(sources))
    by_kind = {source.kind: source for source in shuffled}
    by_study = {source.study: source for source in by_kind.values()}
    return rng.sample(list(by_study.values()), len(by_study))


def _judge(
    folder: Path, damaged: dict[str, tuple[str, Path]], good: list[str], outcomes: Outcomes, workers: int
) -> None:
    index = build_index(folder, workers=workers)
    instances = {i.name: i for series in index.series for i in series.instances}
    read = _read(list(instances.values()), workers)
    for name, (mutation, source) in damaged.items():
        where = f"{mutation} of {source.name} ({name})"
        outcome = _outcome(name, index, read)
        outcomes.table[mutation, outcome] += 1
        if outcome == "no state":
            outcomes.without_state.append(where)
        elif outcome == Reason.WORKER_TIMED_OUT:
            outcomes.hangs.append(where)
        elif outcome in (Reason.WORKER_DIED, Reason.WORKER_MEMORY):
            outcomes.deaths.append(f"{outcome}: {where}")
        elif outcome in UNHANDLED:
            outcomes.unhandled.append(where)
        _keep(folder / name, outcome)
    outcomes.neighbours += len(good)
    outcomes.lost_neighbours += [f"{n}: {_outcome(n, index, read)}" for n in good if _outcome(n, index, read) != "read"]


def _read(instances: list[Instance], workers: int) -> dict[str, str]:
    with Workers(workers, _LIMITS, preload=["imaging.dicom.pixels.read", __name__]) as pool:
        outcomes = pool.map(read_some, ((i,) for i in instances), batch=8)
        return {
            i.name: o.reason if isinstance(o, ImagingError) else o for i, o in zip(instances, outcomes, strict=True)
        }


def _outcome(name: str, index: Index, read: dict[str, str]) -> str:
    state = index.files.get(name)
    if state is None:
        return "no state"
    return str(state.reason) if state.reason else read.get(name, "no state")


def _keep(path: Path, outcome: str) -> None:
    """Copies what went wrong to the folder named by FUZZ_KEEP, to be looked at."""
    folder = os.environ.get("FUZZ_KEEP")
    if folder and outcome in (
        "no state",
        *UNHANDLED,
        Reason.WORKER_TIMED_OUT,
        Reason.WORKER_DIED,
        Reason.WORKER_MEMORY,
    ):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, Path(folder) / f"{outcome.replace(' ', '_')}-{path.name}")
