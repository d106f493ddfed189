"""`imaging data`: public sets → manifests, and manifests ⇄ nnU-Net's raw data."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable

    from imaging.data.manifest import Case

EXAMPLES = """\
examples:
  imaging data prepare picai --data downloads/picai --out work/picai
  imaging data check work/picai/manifest.csv --out work/check
  imaging data join work/busi/manifest.csv work/bus_uclm/manifest.csv --out work/breast.csv
  imaging data to-nnunet --manifest work/picai/manifest.csv --out nnUNet_raw/Dataset101_Lesions --key T2W
  imaging data to-nnunet --manifest work/zones/manifest.csv --out nnUNet_raw/Dataset102_Zones --label PZ=1 --label TZ=2
  imaging data to-nnunet --manifest work/own/manifest.csv --out nnUNet_raw/Dataset103_Own --role T2W --role ADC
  imaging data from-nnunet --data nnUNet_raw/Dataset101_Lesions --out work/manifest.csv

`prepare` writes DIR/manifest.csv, truths where the set has none in the right form, and dropped.csv with what was left
out and why; nothing is downloaded. What each set's adapter reads and assumes stands in imaging/data/public.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "data",
        help="make manifests of public sets, and convert from and to nnU-Net",
        description="Public sets as published in, a manifest out, several as one; and nnU-Net's raw data, both ways.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    one = actions.add_parser("prepare", help="a public set, as published, as a manifest")
    one.add_argument("name", metavar="NAME", help="which set; an unknown name lists them")
    one.add_argument("--data", type=Path, required=True, metavar="DIR", help="the public set, as published")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for manifest.csv and truths")
    one.set_defaults(run=_prepare)
    one = actions.add_parser("check", help="look at every case of a manifest before a training")
    one.add_argument("manifest", type=Path, metavar="M", help="table of the cases (CSV)")
    one.add_argument("--out", type=Path, metavar="DIR", help="folder for a page with pictures")
    one.set_defaults(run=_check)
    one = actions.add_parser("join", help="the manifests of several sites or sets as one")
    one.add_argument("manifests", type=Path, nargs="+", metavar="M", help="tables of the cases (CSV)")
    one.add_argument("--out", type=Path, required=True, metavar="CSV", help="the manifest to write")
    one.set_defaults(run=_join)
    one = actions.add_parser("to-nnunet", help="a manifest of volumes as a raw dataset of nnU-Net v2")
    one.add_argument("--manifest", type=Path, required=True, metavar="M", help="table of the cases (CSV)")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder, as Dataset101_Lesions")
    one.add_argument("--key", metavar="NAME", help="name of the first channel (image; of a study's folder its role)")
    one.add_argument(
        "--label", action="append", metavar="NAME=VALUE", default=[], help="a class of the truths (all one, lesion)"
    )
    one.add_argument(
        "--role", action="append", metavar="NAME", default=[], help="of studies' folders, a volume to write (all)"
    )
    one.set_defaults(run=_to_nnunet)
    one = actions.add_parser("from-nnunet", help="a raw dataset of nnU-Net v2 as a manifest")
    one.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset's folder")
    one.add_argument("--out", type=Path, required=True, metavar="CSV", help="the manifest to write")
    one.set_defaults(run=_from_nnunet)


def _prepare(args: argparse.Namespace) -> int:
    from imaging.data.manifest import read_manifest
    from imaging.data.public import prepare

    with progress_bar(args.name) as show:
        manifest = prepare(args.name, args.data, args.out, show)
    with (manifest.parent / "dropped.csv").open(encoding="utf-8") as stream:
        left_out = sum(1 for _ in stream) - 1
    _tell(manifest, read_manifest(manifest), f"; {left_out} left out, see dropped.csv")
    return 0


def _check(args: argparse.Namespace) -> int:
    from imaging.commands import data_check

    return data_check.run(args)


def _join(args: argparse.Namespace) -> int:
    from imaging.data.manifest import join_manifests, read_manifest, write_manifest

    args.out.resolve().parent.mkdir(parents=True, exist_ok=True)
    write_manifest(args.out.resolve(), join_manifests([path.resolve() for path in args.manifests]))
    _tell(args.out, read_manifest(args.out))
    return 0


def _to_nnunet(args: argparse.Namespace) -> int:
    from imaging.commands.scoring import read_label
    from imaging.commands.studies import volumes_by_role
    from imaging.data.manifest import read_manifest
    from imaging.data.nnunet import write_dataset

    cases = read_manifest(args.manifest)
    labels = dict(read_label(text) for text in args.label)
    with progress_bar(args.out.name) as show:
        write_dataset(args.out, cases, labels or None, volumes_by_role(args.key, args.role), show)
    _tell(args.out, cases)
    if not labels:
        print("labels   every value of the truths is the one class lesion; name classes by --label NAME=VALUE")
    return 0


def _from_nnunet(args: argparse.Namespace) -> int:
    from imaging.data.manifest import read_manifest, write_manifest
    from imaging.data.nnunet import dataset_labels, read_dataset

    write_manifest(args.out, read_dataset(args.data.resolve()))
    _tell(args.out, read_manifest(args.out))
    print(f"labels   train with --data.labels '{json.dumps(dataset_labels(args.data))}'; without it all are one label")
    return 0


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows (done, of) on a terminal."""
    with tqdm(unit="case", desc=name, disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _tell(where: Path, cases: Sequence[Case], more: str = "") -> None:
    sides = Counter(case.split for case in cases)
    told = ", ".join(f"{sides[side]} {side}" for side in ("train", "val", "test"))
    sites, patients = ({getattr(case, name) for case in cases} for name in ("site", "patient_id"))
    print(f"{where}: {len(cases)} cases ({told}) of {len(patients)} patients and {len(sites)} sites{more}")
