"""What a job depends on, as its name; where it keeps what it made; and the receipt that says that it is done.

A receipt is written last and whole, so a job with one is finished and is never run again, and a job without one goes
on from what its folder holds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from imaging.benchmark.designs import HeldOut, Training
from imaging.benchmark.spec import BenchmarkSpec, configuration
from imaging.data.cache import key_of
from imaging.data.manifest import Case
from imaging.errors import ConfigError, OutputError, Reason
from imaging.models.networks import PUBLISHED, PUBLISHED_SHA256

# Parts of this package that have no say in what a training or a test gives.
_MUTE = ("commands", "dicom/results", "evaluation/page", "html", "inference", "phantoms", "report", "workers.py")
_OF_BENCHMARK = ("benchmark/training.py", "benchmark/outcomes.py")
LIBRARIES = ("torch", "monai", "pytorch-lightning", "numpy", "scipy")


VALIDATION = "validation.json"  # of a job: outcomes of its validation cases


@dataclass(frozen=True)
class Identities:
    """The names of trainings and tests: each a hash of all that it depends on.

    Args:
        contents: Of every case by id: a hash of its files and of what the table says of it.
        arms: Of every arm: its configuration, with the content of the weights that it begins with.
        code: Of the code and the libraries.
        card: Of the card.
    """

    contents: Mapping[str, str]
    arms: Mapping[str, Any]
    code: str
    card: str

    @property
    def of_everything(self) -> str:
        """Of all cases, arms and code together."""
        return digest_of([self.contents, self.arms, self.code, self.card])

    def of_training(self, training: Training) -> str:
        start = None if training.start is None else self.of_training(training.start)
        cases = [[self.contents[name] for name in ids] for ids in (training.train, training.val)]
        return digest_of([cases, self.arms[training.arm], training.seed, start, self.code, self.card])

    def of_test(self, test: HeldOut) -> str:
        networks = [self.of_training(one) for one in test.trainings]
        return digest_of([networks, *([self.contents[name] for name in ids] for ids in (test.cases, test.chosen_on))])

    def of_networks(self, test: HeldOut) -> str:
        """What `Trial.job` says: the training, or what several trainings or a new threshold make together."""
        networks = [self.of_training(one) for one in test.trainings]
        if len(networks) == 1 and not test.chosen_on:
            return networks[0]
        return digest_of([networks, [self.contents[name] for name in test.chosen_on]])


def identities(spec: BenchmarkSpec, cases: Mapping[str, Case]) -> Identities:
    """Reads every file of every case once. Raises ConfigError for one that cannot be read."""
    arms = {arm.name: [configuration(spec, arm), _file_hash(arm.start_from)] for arm in spec.arms}
    return Identities(
        {name: content_of(case) for name, case in cases.items()}, arms, code_version(), str(_file_hash(spec.card))
    )


def content_of(case: Case) -> str:
    """A case by the bytes of its files and what the table says of it; not by where the files lie."""
    facts = [case.case_id, case.patient_id, case.site, case.label, str(case.spacing_mm)]
    facts += [f"beside {role}" for role in case.beside]
    facts += [name for name in ("organ", "truth") if getattr(case, name) is not None]
    try:
        return key_of(case.files, facts)
    except OSError as error:
        raise ConfigError(
            f"case '{case.case_id}', {error.filename}: {error.strerror}; allowed is a file that can be read",
            Reason.CONFIG_INVALID,
        ) from error


def code_version() -> str:
    """A hash of all code that can change what a training or a test gives, and the versions of what it calculates by."""
    root = Path(__file__).resolve().parents[1]
    told = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name in _OF_BENCHMARK or not name.startswith((*_MUTE, "benchmark")):
            told.append(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return digest_of(told)


@dataclass(frozen=True)
class Receipt:
    """What a finished training says of itself.

    Args:
        weights: sha256 of the checkpoint's weights.
        package: Identity of the package.
        threshold: Chosen on its validation cases.
        operating_point: Score from which a case is recalled, chosen on them; None where nothing scores.
        decoded: Pictures that were decoded and harmonised, not found in the cache.
        seconds: Of the training, of threshold and package, and of what is beside them.
    """

    weights: str
    package: str
    threshold: float
    operating_point: float | None
    decoded: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where a benchmark keeps what."""

    out: Path

    def job(self, identity: str) -> Path:
        return self.out / "jobs" / identity[:20]

    def receipt(self, identity: str) -> Path:
        return self.job(identity) / "receipt.json"

    def package(self, identity: str) -> Path:
        return self.job(identity) / "package"

    def best(self, identity: str) -> Path:
        """The weights of a finished training, where `train.py` keeps them."""
        return self.job(identity) / "run" / "checkpoints" / "best.ckpt"

    def outcomes(self, identity: str) -> Path:
        return self.out / "tests" / f"{identity[:20]}.json"

    def log(self, identity: str) -> Path:
        """What a job printed."""
        return self.out / "logs" / f"{identity[:20]}.txt"

    @property
    def cache(self) -> Path:
        return self.out / "cache"

    @property
    def trials(self) -> Path:
        return self.out / "trials"


def read_receipt(path: Path) -> Receipt | None:
    """None where the job is not finished."""
    return Receipt(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_receipt(path: Path, receipt: Receipt) -> None:
    write_whole(path, json.dumps(asdict(receipt), indent=1, sort_keys=True) + "\n")


def write_whole(path: Path, text: str) -> None:
    """A file that appears whole or not at all. Raises OutputError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def digest_of(value: Any) -> str:
    """sha256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _file_hash(name: str | None) -> str | None:
    if name == PUBLISHED:
        return PUBLISHED_SHA256
    return None if name is None else hashlib.sha256(Path(name).read_bytes()).hexdigest()
