"""python -m tests.fuzz --files 10000 --seed 1: a table of outcomes; exit status 1 when a promise was broken."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.run import Outcomes, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    shared = os.environ.get("IMAGING_SHARED_DATA")
    begun = time.monotonic()
    outcomes = fuzz(options.files, options.seed, Path(shared) if shared else None, options.workers)
    print_table(outcomes)
    print(f"{options.files} files, seed {options.seed}: {time.monotonic() - begun:.0f} s")
    return 1 if broken(outcomes) else 0


def broken(outcomes: Outcomes) -> dict[str, list[str]]:
    """The promises that do not hold, with the files that broke them."""
    promises = {
        "unhandled exceptions": outcomes.unhandled,
        "hangs": outcomes.hangs,
        "lost good neighbours": outcomes.lost_neighbours,
        "files without a state": outcomes.without_state,
    }
    return {name: files for name, files in promises.items() if files}


def print_table(outcomes: Outcomes) -> None:
    totals: Counter[str] = Counter()
    for (_, outcome), count in outcomes.table.items():
        totals[outcome] += count
    names = [name for name, _ in totals.most_common()]
    print(f"{'outcome':32}{'all':>7}" + "".join(f"{mutation[:10]:>12}" for mutation in MUTATIONS))
    for name in names:
        print(f"{name:32}{totals[name]:>7}" + "".join(f"{outcomes.table[m, name]:>12}" for m in MUTATIONS))
    print(f"worker deaths that cost only their own file: {len(outcomes.deaths)}")
    for line in outcomes.deaths[:20]:
        print(f"  {line}")
    print(f"good neighbours: {outcomes.neighbours}, lost: {len(outcomes.lost_neighbours)}")
    print("broken promises: " + ("none" if not broken(outcomes) else ""))
    for name, files in broken(outcomes).items():
        print(f"{name}: {len(files)}")
        for line in files[:20]:
            print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
