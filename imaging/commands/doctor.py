"""`imaging doctor`: versions, codecs, limits, devices, and where the last run spent its time."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

_LIBRARIES = (
    "torch", "monai", "pytorch-lightning", "pydicom", "highdicom", "SimpleITK", "nibabel", "numpy", "scipy",
    "pylibjpeg-openjpeg", "python-gdcm", "pyjpegls", "dicomsdl", "onnxruntime", "lavlab-taps",
)  # fmt: skip


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="versions, codecs, limits, devices, and where the last run spent its time",
        description="What this installation can do, for a bug report or before a long run.",
        epilog="example: imaging doctor results",
    )
    parser.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="also tell where the last run into OUT spent its time"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 when no decoder is there for a transfer syntax that should have one."""
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs")
    for name in ("sitewise-imaging", *_LIBRARIES):
        print(f"  {name:20s} {_version(name)}")
    missing = _tell_codecs()
    _tell_device()
    _tell_limits()
    if args.out:
        _tell_time(args.out)
    return 1 if missing else 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _tell_codecs() -> int:
    from imaging.dicom.pixels.codecs import available

    print("transfer syntaxes, decoders in the order they are tried:")
    missing = 0
    for syntax, decoders in available():
        missing += not decoders
        print(f"  {syntax:62s} {', '.join(decoders) or 'NO DECODER'}")
    return missing


def _tell_device() -> None:
    import torch

    if not torch.cuda.is_available():
        print("device: cpu only")
        return
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        print(f"device: cuda:{number} {torch.cuda.get_device_name(number)}, {memory:.0f} GiB")


def _tell_limits() -> None:
    from imaging.inference.processes import RunLimits

    print("limits of a run:")
    for name, value in vars(RunLimits()).items():
        print(f"  {name:20s} {value}")
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        print(f"  {'open files':20s} {soft}")


def _tell_time(out: Path) -> None:
    from imaging.inference.ledger import Status

    seconds = Status(out).seconds
    total = sum(seconds.values())
    print("the last run that answered something, seconds by part (decoders work beside the others):")
    for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {part:20s} {spent:8.2f}  {spent / total if total else 0:6.1%}")
