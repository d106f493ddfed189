"""Kill a run at random moments, run the same command again, and compare the tree with an undisturbed run's.

    python -m tests.crashes --kills 60 --studies 40

Whom it hits is drawn too: the parent, or any process that the run has started (decoder, model, report, or the process
that forks them). A killed parent is started again; a run that lost a helper must heal by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from imaging.phantoms.ultrasound.dicom import LATIN, UltrasoundAcquisition, dataset, file_bytes
from tests.conftest import REPOSITORY


@dataclass
class Outcome:
    """What a round of kills ended with."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    trees: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


def write_studies(folder: Path, studies: int) -> None:
    """An export of one-image studies: six simulated pictures under many identities, every ninth of them broken."""
    sources = [UltrasoundAcquisition("ABCD"[k % 4], LATIN, k, lesions="planted" if k % 2 else ()) for k in range(6)]
    pictures = [dataset(source) for source in sources]
    folder.mkdir(parents=True)
    for number in range(studies):
        picture = pictures[number % len(pictures)]
        picture.StudyInstanceUID = f"2.25.{1000 + number}"
        picture.SeriesInstanceUID = f"2.25.{2000 + number}"
        picture.SOPInstanceUID = picture.file_meta.MediaStorageSOPInstanceUID = f"2.25.{3000 + number}"
        data = file_bytes(picture)
        (folder / f"IM{number:04d}").write_bytes(data[: len(data) // 2] if number % 9 == 8 else data)


def tree(folder: Path) -> dict[str, str]:
    """Every file of the results by digest; the ledger, which says how a run got there, apart."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".ledger" not in path.parts
    }


def start(export: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["infer.py", str(export), "--out", str(out), "--content-time", "2026-01-31T12:00:00", "--threads", "1"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, *words], cwd=REPOSITORY, stdout=quiet, stderr=quiet)


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, by /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def disturb(export: Path, kills: int, seed: int, length_s: float) -> Outcome:
    """`kills` kills at random moments of runs over `export`; a finished run is kept and a new output begun."""
    rng, outcome = random.Random(seed), Outcome()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out-0"
        while sum(outcome.kills.values()) < kills:
            run = start(export, out)
            deadline = time.monotonic() + rng.uniform(0.2, length_s)
            while time.monotonic() < deadline and run.poll() is None:
                time.sleep(0.02)
            _kill(run, rng, outcome.kills)
            if run.wait(600) >= 0:  # its own end: a killed parent has a negative status
                outcome.statuses.append(run.returncode)
                outcome.trees.append(tree(out))
                outcome.rounds += 1
                out = Path(folder) / f"out-{outcome.rounds}"
        last = start(export, out)
        outcome.statuses.append(last.wait(600))
        outcome.trees.append(tree(out))
    return outcome


def _kill(run: subprocess.Popen[bytes], rng: random.Random, kills: Counter[str]) -> None:
    helpers = descendants(run.pid)
    if run.poll() is not None:
        return
    if helpers and rng.random() < 0.5:
        os.kill(rng.choice(helpers), signal.SIGKILL)
        kills["helper"] += 1
    else:
        run.kill()
        kills["parent"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        write_studies(folder / "export", args.studies)
        begin = time.monotonic()
        undisturbed = start(folder / "export", folder / "undisturbed")
        status = undisturbed.wait()
        length = time.monotonic() - begin
        expected = tree(folder / "undisturbed")
        outcome = disturb(folder / "export", args.kills, args.seed, length)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for found, ended in zip(outcome.trees, outcome.statuses, strict=True):
        other = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
        if other or ended != status:
            print(f"a run that ended with status {ended} differs in {len(other)} files, first {other[:4]}")
    equal = sum(found == expected for found in outcome.trees)
    print(f"undisturbed: status {status}, {len(expected)} files, {length:.1f} s")
    print(f"kills: {dict(outcome.kills)}; runs that ended: {len(outcome.trees)}, with the same tree: {equal}")
    return 0 if equal == len(outcome.trees) and set(outcome.statuses) == {status} else 1


if __name__ == "__main__":
    sys.exit(main())
