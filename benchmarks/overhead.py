"""What a result costs beyond decoding and the network: `python benchmarks/overhead.py [EXPORT] [--repeat N]`.

Every repeat answers the export into a new folder. Told per DICOM object: making, reading back and storing it. Decoding,
harmonising, network and the start of the processes (libraries load once per run) stand beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from imaging.inference.ledger import Status

REPOSITORY = Path(__file__).resolve().parent.parent


def answered(export: Path, out: Path) -> tuple[float, dict[str, float], int]:
    """Wall seconds of a run, its seconds by part, and how many objects it wrote."""
    begin = perf_counter()
    words = [sys.executable, str(REPOSITORY / "infer.py"), str(export), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, check=False)
    wall = perf_counter() - begin
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr.decode())
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    objects = sum(len(result["objects"]) for study in summary["studies"] for result in study["results"])
    return wall, Status(out).seconds, objects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path, nargs="?", default=REPOSITORY / "data_samples" / "pacs_export")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    per_object = []
    for number in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder:
            wall, seconds, objects = answered(args.export, Path(folder) / "out")
        written = seconds["report"] + seconds["write"]
        per_object.append(1000 * written / objects)
        parts = ", ".join(f"{part} {spent:.2f}" for part, spent in sorted(seconds.items()))
        rest = wall - sum(seconds.values())
        print(f"run {number + 1}: {wall:.2f} s, {objects} objects; {parts}, interpreter and page {rest:.2f}")
    print(f"report, read-back and write: {statistics.median(per_object):.0f} ms per object (median of {args.repeat})")


if __name__ == "__main__":
    main()
