"""`imaging merge-results`: metrics.json of several hospitals in, one out."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.errors import ConfigError, InputError, Reason

if TYPE_CHECKING:
    from imaging.evaluation.result import EvaluationResult

EXAMPLES = """\
examples:
  imaging merge-results site_a/metrics.json site_b/metrics.json --out merged
      files with rows give exactly the figures of all cases together; one file of aggregates makes it a
      random-effects analysis of the sites
  imaging merge-results a.json b.json --out merged --manifest 3f2a... --manifest 9c41...
      every hospital has a manifest of its own, and these SHA-256 are the approved ones

exit status:
  0  merged
  2  the files differ in weights, manifest, configuration or protocol, or one cannot be read
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "merge-results",
        help="merge the metrics of several hospitals",
        description="Merges metrics.json files of one model and one protocol into one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="metrics.json of a hospital")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the merged metrics.json")
    parser.add_argument("--manifest", action="append", metavar="SHA256", help="approved manifest; may be repeated")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ImagingError for what is status 2."""
    from imaging.commands.scoring import figures_kept, write_metrics, write_page
    from imaging.evaluation.merge import merge, told_twice
    from imaging.table import near_spellings

    results = [_read(path) for path in args.results]
    merged = merge(results, args.manifest)
    told = [*told_twice(results), *near_spellings("site", [group.name for group in merged.sites])]
    for remark in told:
        print(f"imaging: {remark}", file=sys.stderr)
    merged = replace(merged, remarks=(*merged.remarks, *told))
    write_metrics(args.out, merged)
    print(f"{len(args.results)} files, {len(merged.sites)} sites")
    for figure in merged.pooled.figures:
        print(f"{figure.name:36} {figure.text}")
    for effects in merged.heterogeneity:
        print(f"{effects.name:36} mean of sites {effects.mean:.3f}, tau2 {effects.tau2:.4f}, I2 {effects.i2:.0%}")
    print(f"metrics  {(args.out / 'metrics.json').resolve()}", flush=True)
    with figures_kept(args.out):
        write_page(args.out, merged)
    return 0


def _read(path: Path) -> EvaluationResult:
    from imaging.evaluation.result import EvaluationResult

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: {type(error).__name__}; allowed is a metrics.json", Reason.CONFIG_INVALID
        ) from error
    try:
        return EvaluationResult.from_json(text)
    except InputError as error:
        raise ConfigError(f"{path}: {error}", error.reason) from error
