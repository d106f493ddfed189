"""`imaging train-package`: a public data set in, a packaged model out, by one command."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.commands.data import progress_bar
from imaging.commands.package import as_table
from imaging.errors import ConfigError, Reason

if TYPE_CHECKING:
    from imaging.data.manifest import Case

EXAMPLES = """\
example:
  imaging train-package breast_us --data downloads/Dataset_BUSI_with_GT --out packages/breast_us
      a package from a public set
  imaging train-package prostate_gland
  imaging train-package prostate_lesion --locator runs/prostate_gland/package
      packages from phantoms alone, the second looking for lesions in the gland that the first finds

What it does, and where it leaves it:
  WORK/data       manifest.csv of the set, one split per group of images, and what was left out (dropped.csv)
  WORK/phantoms   simulated images with known truth: beside a real set for training only (none for mammography_mass)
  WORK/run        the training run: configuration, checkpoints, logs, previews; a second start goes on where it stopped
  WORK/run-fine   where configs/training/NAME.fine.yaml is: a second run from those weights, on real images only
  OUT             the package: weights in half precision, threshold, passport support, golden image

Its figures: `imaging evaluate` on the results of `imaging infer` (benchmarks/real_path.py does both).
"""


@dataclass(frozen=True)
class TrainingPlan:
    """Which public set a package learns from, which recipe it uses, and how many phantoms of which kind join it.

    Without a public set phantoms are all there is, for training and for validation. `truth` names the label map beside
    the cases' own that is learned; an organ itself is learned without a region around it.
    """

    public_set: str | None
    recipe: str
    phantoms: str | None = None
    phantom_cases: int = 0
    truth: str | None = None


PLANS = {
    "breast_us": TrainingPlan("busi", "ultrasound", "breast", 120),
    "fetal_head_us": TrainingPlan("hc18", "ultrasound", "head", 60),
    # Simulated digital mammograms taught nothing that held on film (data_samples/README.md).
    "mammography_mass": TrainingPlan("mini_mias_mass", "mammography"),
    "prostate_gland": TrainingPlan(None, "prostate", "prostate", 80, truth="zones.nii.gz"),
    "prostate_lesion": TrainingPlan(None, "prostate", "prostate", 80),
}
_PHANTOM_SEED = 5


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "train-package",
        help="train one of the known packages from its public data set or from phantoms",
        description="Prepare the data, train, choose the threshold on validation cases, and write the package.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(PLANS), help="which package")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the public set, as published, where one is needed")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the new package (default: WORK/package)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="data, phantoms and run (default: runs/NAME)")
    parser.add_argument(
        "--locator", type=Path, metavar="DIR", help="package that finds the organ first; a copy goes into the new one"
    )
    parser.add_argument("--configs", type=Path, default=Path("configs"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "gpu"), help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, metavar="N", help="other than the configuration's")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ImagingError."""
    plan, work = PLANS[args.name], (args.work or Path("runs") / args.name).resolve()
    parts = [
        args.configs / part for part in ("trainer.yaml", f"recipe/{plan.recipe}.yaml", f"training/{args.name}.yaml")
    ]
    card = args.configs / "package" / f"{args.name}.yaml"
    if missing := [str(path) for path in (*parts, card) if not path.is_file()]:
        raise ConfigError(f"--configs: found no {', '.join(missing)}; name the configs folder", Reason.CONFIG_INVALID)
    from imaging.tasks.checkpoints import BEST, FOLDER

    manifest = _manifest(plan, args.data, work)
    run_folder = work / "run"
    _fit(run_folder, manifest, parts, args)
    fine = args.configs / "training" / f"{args.name}.fine.yaml"
    if fine.is_file():
        first, run_folder = run_folder, work / "run-fine"
        _fit(run_folder, work / "data" / "manifest.csv", [*parts, fine], args, start_from=first / FOLDER / BEST)
    from imaging.packaging import make_package  # after the training, which loads torch with its own settings

    package = make_package(run_folder, card, args.out or work / "package", args.locator)
    print(f"{package.folder}: {package.name} {package.description.card.version}, identity {package.identity}")
    print(as_table(package.description))
    return 0


def _manifest(plan: TrainingPlan, data: Path | None, work: Path) -> Path:
    """The table of real cases and phantoms; made once, so that a second start trains on the same cases."""
    from imaging.data.manifest import write_manifest

    joined = work / "manifest.csv"
    if not joined.is_file():
        real = [] if plan.public_set is None else _real(plan.public_set, data, work / "data")
        simulated = _phantoms(plan, work / "phantoms")
        write_manifest(joined, [*real, *(replace(case, split="train") if real else case for case in simulated)])
    return joined


def _real(public_set: str, data: Path | None, folder: Path) -> list[Case]:
    """The cases of a public set."""
    from imaging.data.manifest import read_manifest
    from imaging.data.public import prepare

    if data is None:
        raise ConfigError(f"--data: found none; name the folder of the set {public_set}", Reason.CONFIG_INVALID)
    with progress_bar(public_set) as show:
        return read_manifest(prepare(public_set, data, folder, show))


def _phantoms(plan: TrainingPlan, folder: Path) -> list[Case]:
    """Simulated cases, with the label map that is learned."""
    from imaging.data.manifest import read_manifest
    from imaging.modalities import training_set

    if plan.phantoms is None:
        return []
    with progress_bar("phantoms") as show:
        table = training_set(plan.phantoms)(folder, plan.phantom_cases, _PHANTOM_SEED, show)
    cases = [replace(case, case_id=f"phantom-{case.case_id}") for case in read_manifest(table)]
    if plan.truth is None:
        return cases
    return [replace(case, truth=case.known_truth.with_name(plan.truth), organ=None) for case in cases]


def _fit(
    run_folder: Path, manifest: Path, parts: list[Path], args: argparse.Namespace, start_from: Path | None = None
) -> None:
    from imaging.commands.train import main

    words = ["fit", *(f"--config={part}" for part in parts), f"--data.manifest={manifest}", f"--run={run_folder}"]
    words += [f"--trainer.accelerator={args.device}", f"--data.cache={run_folder.parent / 'cache'}"]
    words += [f"--trainer.max_epochs={args.epochs}"] if args.epochs else []
    words += [f"--start_from={start_from}"] if start_from else []
    words += ["--resume=auto"]  # a training that has ended ends at once
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        main(words)
