"""`imaging package`: a finished training run, or a network given as a file, becomes a package."""

from __future__ import annotations

import argparse
from pathlib import Path

from imaging.errors import ConfigError, Reason

EXAMPLES = """\
examples:
  imaging package runs/mine --card configs/package/breast_us.yaml --out my_package
  imaging package my_package
      my_package/package.yaml is there: written by hand for a network that is given as a file (network.kind: onnx), or
      made with an older recipe. Golden phantom and recipe identity are filled in; the weights must be those it pins

The threshold is chosen on the run's validation cases of training sites; the support of the acquisition passport is
what its training images showed. Inference refuses a package whose files do not have the sha256 written in it.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "package",
        help="make a model package from a training run or from a network given as a file",
        description="Weights, threshold, passport support and a golden phantom as one verified folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="a training run (config.yaml, checkpoints/) or a package.yaml's folder",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="of a training run: YAML with what people decide")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of a training run: folder of the new package")
    parser.add_argument(
        "--locator", type=Path, metavar="DIR", help="package that finds the organ first; a copy goes into the new one"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ImagingError."""
    from imaging.package import DESCRIPTION
    from imaging.packaging import make_package, seal_package

    if (args.folder / DESCRIPTION).is_file():
        package = seal_package(args.folder)
    elif args.card and args.out:
        package = make_package(args.folder, args.card, args.out, args.locator)
    else:
        missing = " and ".join(name for name, value in (("--card", args.card), ("--out", args.out)) if not value)
        raise ConfigError(f"{missing}: missing; a training run needs both", Reason.CONFIG_INVALID)
    told = package.description
    print(f"{package.folder}: {package.name} {told.card.version}, identity {package.identity}")
    print(f"threshold {told.threshold:g}; validation: {told.training}")
    return 0
