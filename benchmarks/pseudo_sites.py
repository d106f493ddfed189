"""Parts the patients of one set by pixel size: pseudo-sites of as many patients each.

    python benchmarks/pseudo_sites.py work/hc18/manifest.csv --parts 3 --out work/fetal_head.csv

A patient stands where the mean pixel size of the own pictures does, with all of them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.errors import ConfigError, Reason


def parted(cases: Sequence[Case], parts: int) -> list[Case]:
    """The cases with sites like pixels-1-of-3, the smallest pixels first. Raises ConfigError for one without a size."""
    steps: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        if case.spacing_mm is None:
            raise ConfigError(
                f"case '{case.case_id}': spacing_mm is empty; allowed is a pixel size", Reason.CONFIG_INVALID
            )
        steps[case.patient_id].append(sum(case.spacing_mm) / 2)
    ordered = sorted(steps, key=lambda patient: (sum(steps[patient]) / len(steps[patient]), patient))
    part = {patient: number * parts // len(ordered) + 1 for number, patient in enumerate(ordered)}
    return [replace(case, site=f"pixels-{part[case.patient_id]}-of-{parts}") for case in cases]


def main() -> None:
    """Writes the manifest."""
    parser = argparse.ArgumentParser(description="Parts the patients of one set by pixel size.")
    parser.add_argument("manifest", type=Path, help="table of the cases (CSV)")
    parser.add_argument("--parts", type=int, default=3, help="how many pseudo-sites (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the manifest to write")
    args = parser.parse_args()
    out = args.out.resolve()
    write_manifest(out, parted(read_manifest(args.manifest.resolve()), args.parts))
    print(f"{out}: {len(read_manifest(out))} cases")


if __name__ == "__main__":
    main()
