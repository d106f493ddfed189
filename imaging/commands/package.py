"""`imaging package`: a finished training run, or a network given as a file, becomes a package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.errors import ConfigError, OutputError, Reason

if TYPE_CHECKING:
    from imaging.package import Description

EXAMPLES = """\
examples:
  imaging package runs/mine --new-card my_card.yaml
      a card to fill in (name, licence, codes, what is measured), begun by what the run trained
  imaging package runs/mine --card my_card.yaml --preview
      threshold and validation figures as they would be; writes nothing
  imaging package runs/mine --card configs/package/breast_us.yaml --out my_package
  imaging package my_package
      my_package/package.yaml is there: written by hand for a network that is given as a file (network.kind: onnx), or
      made with an older recipe. Golden phantom and recipe identity are filled in; the weights must be those it pins

A run can be packaged from its first validation on, also while it goes on. What a package says of sites and cases is
what its checkpoint recorded; a configuration, table or file that was changed since is refused, and so is a network that
finds nothing on its validation cases. The threshold is chosen on the run's validation cases of training sites; the
support of the acquisition passport is what its training images showed. Inference refuses a package whose files do not
have the sha256 written in it.
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
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="a training run (config.yaml, checkpoints/) or a package.yaml's folder",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="of a training run: YAML with what people decide")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of a training run: folder of the new package")
    parser.add_argument(
        "--locator", type=Path, metavar="DIR", help="package that finds the organ first; a copy goes into the new one"
    )
    parser.add_argument("--new-card", type=Path, metavar="FILE", help="write a card to fill in, and nothing else")
    parser.add_argument("--preview", action="store_true", help="of a training run: print the figures, write nothing")
    parser.add_argument("--force", action="store_true", help="package what finds nothing on its validation cases too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ImagingError."""
    if args.new_card is not None:
        return _write_card(args.new_card, args.folder)
    if args.folder is None:
        raise ConfigError("FOLDER: missing; a training run, or a folder with package.yaml", Reason.CONFIG_INVALID)
    from imaging.package import DESCRIPTION
    from imaging.packaging import drafted_package, make_package, seal_package

    if args.preview and args.card:
        print(as_table(drafted_package(args.folder, args.card, args.locator).description))
        return 0
    if (args.folder / DESCRIPTION).is_file():
        package = seal_package(args.folder)
    elif args.card and args.out:
        package = make_package(args.folder, args.card, args.out, args.locator, args.force)
    else:
        needed = (("--card", args.card), ("--out", args.out or args.preview))
        missing = " and ".join(name for name, value in needed if not value)
        raise ConfigError(f"{missing}: missing; a training run needs both", Reason.CONFIG_INVALID)
    description = package.description
    print(f"{package.folder}: {package.name} {description.card.version}, identity {package.identity}")
    print(as_table(description))
    return 0


def as_table(told: Description) -> str:
    """What was chosen and what it rests on, one fact a line."""
    rows = {"threshold": f"{told.threshold:g}"}
    if told.operating_point is not None:
        rows["operating point"] = f"{told.operating_point:g}"
    if told.card.classes:
        rows["temperature"] = f"{told.temperature:g}"
    facts = {name: value for name, value in told.training.items() if not name.endswith("_sha256")}
    rows |= {name.replace("_", " "): _worded(value) for name, value in facts.items()}
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows.items())


def _worded(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_worded(of)}" for name, of in value.items())
    if isinstance(value, list):
        return ", ".join(map(_worded, value)) or "none"
    return f"{value}"


def _write_card(path: Path, run: Path | None) -> int:
    from imaging.commands.cards import new_card

    if path.exists():
        raise ConfigError(f"--new-card {path}: found a file; allowed is a new name", Reason.OUTPUT_IN_USE)
    text = new_card(run)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error
    print(f"{path}: a card to fill in; then imaging package {run or 'RUN'} --card {path} --preview")
    return 0
