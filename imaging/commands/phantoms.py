"""`imaging phantoms`: write synthetic exports, sample exams and training sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from imaging.errors import ConfigError, ImagingError, Reason
from imaging.phantoms import DEFAULT_SEED

_HELP = """\
Write synthetic ultrasound, mammography and prostate MRI: DICOM files that behave like those of several vendors, with
known truth. No person was imaged; the same seed gives the same files.

examples:
  imaging phantoms export  build/pacs_export
      five patients, breasts and fetal heads, a DICOMDIR, junk and three broken images: input for `imaging infer`
  imaging phantoms training build/phantoms --cases 400 --seed 7
      400 stills of four sites, a truth mask for each, and manifest.csv: input for training
  imaging phantoms training build/heads --kind head --cases 400
      the same for fetal heads: the mask is the head, filled to the outer border of the skull
  imaging phantoms training build/mammograms --kind mammography --cases 100
      100 mammography exams of seven sites, four views each, with masks, boxes.csv and manifest.csv
  imaging phantoms training build/sites --sites configs/phantoms/ultrasound.yaml --cases 400
      small stills of sites that differ by stated amounts: gain, dynamic range, grey map, frequency, persistence;
      planted.json says which site has which values. configs/phantoms/ has such files for all modalities
  imaging phantoms training build/twin --sites configs/phantoms/ultrasound.yaml --strength 0 --cases 400
      its twin: the same patients and lesions, and no difference between the sites
  imaging phantoms mammography build/mammography
      a sample exam of each of seven makers: raw and presented, magnification, spot, mosaic, implant, tomosynthesis
  imaging phantoms training build/prostates --kind prostate --cases 40
      40 studies of four sites: T2W, diffusion and ADC, with label maps, findings.csv and manifest.csv
  imaging phantoms prostate build/prostate
      a sample MR study of each of four makers, and odd ones: Enhanced, mosaic, repeated, a slice lost, two in one
"""


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand and its two actions."""
    parser = subparsers.add_parser(
        "phantoms",
        help="write synthetic exports and training sets",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, summary, handler in (
        ("export", "a sample PACS export", _export),
        ("training", "stills or exams of several sites with truth masks and manifest.csv", _training),
        ("mammography", "a sample mammography exam of each of seven makers", _mammography),
        ("prostate", "sample MR studies of a prostate, of four makers", _prostate),
        ("prostate-export", "the sample export of one MR study of a prostate", _prostate_export),
    ):
        action = actions.add_parser(
            name, help=summary, description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        action.add_argument("out", metavar="OUT", type=Path, help="a new or empty folder")
        action.add_argument(
            "--seed", type=int, default=DEFAULT_SEED, help="draws everything that is random (default: %(default)s)"
        )
        action.set_defaults(run=handler)
        if name == "training":
            action.add_argument(
                "--cases",
                type=int,
                required=True,
                metavar="N",
                help="how many stills, exams of four views, or MR studies; 1 or more",
            )
            action.add_argument(
                "--kind",
                metavar="KIND",
                help="what is imaged: breast or head by ultrasound, mammography, prostate, or what an installed "
                "modality draws (default: what --sites says, or breast)",
            )
            action.add_argument(
                "--sites",
                type=Path,
                metavar="FILE.yaml",
                help="by how much each site's images differ, in physical units, and optionally who comes there",
            )
            action.add_argument(
                "--strength",
                type=float,
                metavar="S",
                help="with --sites: the part of every difference that is planted, 0 (none: the twin of the same "
                "patients) to 1 (default: 1)",
            )


def _export(args: argparse.Namespace) -> int:
    from imaging.phantoms.export import write_export

    try:
        written = write_export(args.out, args.seed)
    except ImagingError as error:
        return _refuse(error)
    print(f"{len(written)} files in {args.out}")
    return 0


def _training(args: argparse.Namespace) -> int:
    from imaging.modalities import training_set

    bar, show = _progress(args.cases, "case")
    try:
        if args.sites is not None:
            manifest = _sites(args, show)
        elif args.strength is not None:
            raise ConfigError("--strength: found without --sites, which says what is planted", Reason.CONFIG_INVALID)
        else:
            manifest = training_set(args.kind or "breast")(args.out, args.cases, args.seed, show)
    except ImagingError as error:
        return _refuse(error)
    finally:
        bar.close()
    print(f"manifest: {manifest}")
    return 0


def _sites(args: argparse.Namespace, show: Callable[[int, int], None]) -> Path:
    from imaging.modalities import sited_kind
    from imaging.phantoms.sites import SiteFile, write_sites

    file = SiteFile.read(args.sites)
    if args.kind not in (None, file.kind):
        raise ConfigError(
            f"--kind: found {args.kind}; {args.sites.name} says {file.kind}, so leave it out", Reason.CONFIG_INVALID
        )
    strength = 1.0 if args.strength is None else args.strength
    return write_sites(args.out, sited_kind(file.kind), file, strength, args.cases, args.seed, show)


def _mammography(args: argparse.Namespace) -> int:
    from imaging.phantoms.mammography import export as mammography_export
    from imaging.phantoms.mammography.makers import MAKERS

    bar, show = _progress(len(MAKERS), "maker")
    try:
        written = mammography_export.write_samples(args.out, args.seed, show)
    except ImagingError as error:
        return _refuse(error)
    finally:
        bar.close()
    print(f"{len(written)} DICOM files in {args.out}")
    return 0


def _prostate(args: argparse.Namespace) -> int:
    from imaging.phantoms.prostate import export as prostate_export

    bar, show = _progress(len(prostate_export.sample_studies(args.seed)), "exam")
    try:
        written = prostate_export.write_samples(args.out, args.seed, show)
    except ImagingError as error:
        return _refuse(error)
    finally:
        bar.close()
    print(f"{len(written)} DICOM files in {args.out}")
    return 0


def _prostate_export(args: argparse.Namespace) -> int:
    from imaging.phantoms.prostate import export as prostate_export

    try:
        written = prostate_export.write_export(args.out, args.seed)
    except ImagingError as error:
        return _refuse(error)
    print(f"{len(written)} DICOM files in {args.out}")
    return 0


def _progress(total: int, unit: str) -> tuple[tqdm[Any], Callable[[int, int], None]]:
    """A bar on a terminal, a line for every tenth otherwise; and what to call with (done, of)."""
    bar = tqdm(total=total, unit=unit, disable=not sys.stderr.isatty())

    def show(done: int, total: int) -> None:
        bar.update(1)
        if bar.disable and (done == total or done % max(total // 10, 1) == 0):
            print(f"{done} of {total} {unit}s", flush=True)

    return bar, show


def _refuse(error: ImagingError) -> int:
    print(f"imaging phantoms: {error}", file=sys.stderr)
    return 2
