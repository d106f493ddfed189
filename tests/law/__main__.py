"""python -m tests.law --cases 2000 --seed 7: kinds of damage × outcomes; exit status 1 when the law was broken."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tests.law.cases import Tally, case, played
from tests.law.damage import KINDS
from tests.law.reader import OUTCOMES, outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.law", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", type=int, metavar="N", help="play one case again and print what its run says")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.only is not None:
        return _again(options.seed, options.only)
    begun, tally = time.monotonic(), Tally()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        numbers = range(options.cases)
        found = pool.map(partial(played, options.seed), numbers, chunksize=25)
        for number, outcome_found in zip(numbers, found, strict=True):
            tally.count(case(options.seed, number), outcome_found)
    print_table(tally)
    print(f"{options.cases} cases, seed {options.seed}: {time.monotonic() - begun:.0f} s")
    return 1 if tally.broken else 0


def print_table(tally: Tally) -> None:
    width = max(len(kind.name) for kind in KINDS) + 2
    print(f"{'kind':{width}}" + "".join(f"{name:>16}" for name in OUTCOMES))
    for kind in KINDS:
        print(f"{kind.name:{width}}" + "".join(f"{tally.table[kind.name, name]:>16}" for name in OUTCOMES))
    total = max(tally.table.total(), 1)
    sums = [sum(count for (_, name), count in tally.table.items() if name == out) for out in OUTCOMES]
    print(f"{'all':{width}}" + "".join(f"{count:>16}" for count in sums))
    print(f"{'share':{width}}" + "".join(f"{count / total:>16.1%}" for count in sums))
    for label in tally.broken:
        print(f"broken: {label}")


def _again(seed: int, number: int) -> int:
    one = case(seed, number)
    summary = one.summary()
    print(one.label, "→", outcome(summary))
    for study in summary["studies"]:
        for result in study["results"]:
            if result["applicability"] == "applicable":
                told = ("package", "finding", "completeness", "reason", "analysed", "unread", "notes", "rejected")
                print({name: result[name] for name in told})
            else:
                print(result["package"], result["reason"])
    for file in summary["files"]:
        if file["state"] != "used":
            print(file["path"], file["state"], file["reason"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
