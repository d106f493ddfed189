"""The `imaging` command: one thin module per subcommand. This module only finds the right one and its exit status."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from imaging import __version__
from imaging.commands import (
    benchmark,
    data,
    doctor,
    evaluate,
    export,
    infer,
    jobs,
    merge_results,
    package,
    phantoms,
    predict,
    site_kit,
    status,
    submit,
    train_package,
)
from imaging.errors import ImagingError

COMMANDS = (
    infer, predict, status, evaluate, merge_results, data, train_package, submit, jobs, package, export, benchmark,
    site_kit, phantoms, doctor,
)  # fmt: skip

# EX_SOFTWARE of sysexits.h
EXIT_DEFECT = 70
# 128 + SIGPIPE, as a shell says it of a command whose output nobody reads
EXIT_UNHEARD = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; 2 with a one-line message for an error of the command, a package or the output."""
    parser = argparse.ArgumentParser(
        prog="imaging",
        description="Site-aware medical imaging AI: harmonised DICOM in, validated DICOM-SR out. "
        "Research use only: not a medical device.",
        epilog="`imaging COMMAND --help` explains a command with examples. Training: `python train.py --help`.",
    )
    parser.add_argument("--version", action="version", version=f"sitewise-imaging {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return execute(parser.parse_args(arguments))


def execute(args: argparse.Namespace) -> int:
    """The chosen command's exit status, its errors told in one line.

    A defect of ours ends with its traceback and EXIT_DEFECT, never with the 1 that says "some case has no answer".
    """
    try:
        status: int = args.run(args)
    except ImagingError as error:
        print(f"imaging: {error} [{error.reason}]", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever reads the output (head, a pager) has stopped, which is no error. The end of this process prints again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNHEARD
    except Exception:  # noqa: BLE001 - shown in full, and told apart from what a run may end with
        traceback.print_exc()
        return EXIT_DEFECT
    return status
