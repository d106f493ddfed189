"""What a worker is given: one training, one test, or a look at all pictures. Plain records that travel by pipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.data.manifest import Case


@dataclass(frozen=True)
class TrainingOrder:
    """A training as a worker is given it.

    Args:
        identity: Its name.
        out: Folder of the benchmark.
        config: Of `train.py`, but for cases, seed and folders.
        train: Cases that are learnt from.
        val: Cases by which checkpoint, threshold and operating point are chosen.
        seed: Of weights, order and variation.
        card: File of the package's card.
        start: Checkpoint whose weights it begins with; None for random ones.
        held_out: Files of every case that it is tested on.
    """

    identity: str
    out: Path
    config: dict[str, Any]
    train: tuple[Case, ...]
    val: tuple[Case, ...]
    seed: int
    card: Path
    start: Path | None
    held_out: tuple[Path, ...]


@dataclass(frozen=True)
class HeldOutOrder:
    """A test as a worker is given it; see `designs.HeldOut`.

    `networks` are names of finished trainings. They run on a GPU where there is one and the trainings may have it.
    """

    identity: str
    out: Path
    networks: tuple[str, ...]
    cases: tuple[Case, ...]
    chosen_on: tuple[Case, ...]
    is_on_cpu: bool


@dataclass(frozen=True)
class PicturesOrder:
    """Cases to be drawn with their truth and what a network marks: each with the name of its training."""

    out: Path
    cases: tuple[tuple[str, Case], ...]


@dataclass(frozen=True)
class LookOrder:
    """All cases, to find pictures that two of them share, and every arm's configuration, to find what is wrong in it.

    Args:
        cases: Of the whole benchmark.
        configs: Of every arm, by its name.
        manifest: That a configuration is tried with.
    """

    cases: tuple[Case, ...]
    configs: dict[str, dict[str, Any]]
    manifest: Path
