"""`imaging evaluate` on tables of 3 000, 10 000 and 30 000 cases: seconds, peak memory, and how they grow.

    python benchmarks/many_cases.py [--sizes 3000 10000 30000]

One row is one run of the whole command in a process of its own, its start, metrics.json and the page included. The
cases are those of a national archive: 25 sites, two thirds as many patients as cases, one in ten positive.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEADER = "case_id,patient_id,site,truth,prediction"
SITES = 25
MOST = 12.0  # that the largest table may take of the smallest one's time, which has a tenth of its cases


def write_table(path: Path, size: int) -> None:
    """Scores of a middling model; the same for the same size."""
    rng = random.Random(size)
    lines = [HEADER]
    for k in range(size):
        patient, truth = k % (2 * size // 3), int(rng.random() < 0.1)
        score = min(1.0, max(0.0, rng.gauss(0.3 + 0.2 * truth, 0.2)))
        lines.append(f"c{k},p{patient},s{patient % SITES},{truth},{score:.4f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measured(table: Path, out: Path) -> tuple[float, float]:
    """Wall-clock seconds and peak memory (MB) of the command."""
    words = ["-m", "imaging", "evaluate", "classification", "--manifest", str(table), "--out", str(out)]
    begin = time.perf_counter()
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit status {process.returncode}")
    return time.perf_counter() - begin, used.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[3000, 10_000, 30_000])
    args = parser.parse_args()
    seconds: list[float] = []
    print(f"{'cases':>8} {'seconds':>9} {'peak MB':>9} {'times the first':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            table = Path(folder) / f"{size}.csv"
            write_table(table, size)
            spent, peak = measured(table, Path(folder) / "out")
            seconds.append(spent)
            print(f"{size:8d} {spent:9.1f} {peak:9.0f} {spent / seconds[0]:16.1f}", flush=True)
    grown = MOST * args.sizes[-1] / (10 * args.sizes[0])
    print(f"the largest takes {seconds[-1] / seconds[0]:.1f} times the smallest; goal {grown:.1f} or less: "
          f"{'reached' if seconds[-1] / seconds[0] <= grown else 'MISSED'}")  # fmt: skip


if __name__ == "__main__":
    main()
