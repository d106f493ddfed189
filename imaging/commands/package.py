"""`imaging package`: a finished training run becomes a package."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
example:
  imaging package runs/mine --card configs/package/breast_us.yaml --out my_package

The threshold is chosen on the run's validation cases of training sites; the support of the acquisition passport is
what its training images showed. Inference refuses a package whose files do not have the sha256 written in it.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "package",
        help="make a model package from a training run",
        description="Best checkpoint, threshold, passport support and a golden phantom as one verified folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("training_run", type=Path, metavar="RUN", help="folder with config.yaml and checkpoints/")
    parser.add_argument("--card", type=Path, required=True, metavar="FILE", help="YAML with what people decide")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new package")
    parser.add_argument(
        "--locator", type=Path, metavar="DIR", help="package that finds the organ first; a copy goes into the new one"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ImagingError."""
    from imaging.packaging import make_package

    package = make_package(args.training_run, args.card, args.out, args.locator)
    told = package.description
    print(f"{package.folder}: {package.name} {told.card.version}, identity {package.identity}")
    print(f"threshold {told.threshold:g}; validation: {told.training}")
    return 0
