"""Synthetic: lesions of phantoms on scanners never trained on, the prostate recipe against a plain z-score.

    python benchmarks/cross_vendor.py --out OUT [--cases 112] [--epochs 16] [--phantoms DIR] [--directions 1]

Four makers write the same anatomy in their own way. A network learns lesions on the studies of two of them and reads
those of the other two, once harmonised by the recipe and once with every channel z-scored as it was stored, both around
the true gland, with the same network, cases, augmentation and steps. `--directions 2` also exchanges the pairs, so that
every study is unseen once. Differences are paired over patients, with 95 % intervals. A pass that was stopped goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.evaluation.detection import DetectionProtocol
from imaging.evaluation.evaluate import compare, evaluate_detection
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.matching import PICAI
from imaging.evaluation.result import DetectionCase, Difference
from imaging.package import load_package
from imaging.packaging import make_package
from imaging.phantoms.prostate.export import write_training_set
from imaging.predictor import load_predictor
from imaging.tasks.checkpoints import BEST, FOLDER, newest_whole
from imaging.thresholds import watch

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = ("trainer.yaml", "recipe/prostate.yaml", "training/prostate_lesion.yaml")
ARMS = ("robust", "zscore")
SEED = 5
RATES = (0.25, 0.5, 1.0, 2.0)


def train(cases: list[Case], unseen: tuple[str, ...], arm: str, args: argparse.Namespace) -> Path:
    """The run folder of a network that saw no study of the unseen sites; those of validation choose its checkpoint."""
    folder = args.out / f"without-{'-'.join(unseen)}" / arm
    run = folder / "run"
    if (folder / "ended").is_file():
        return run
    folder.mkdir(parents=True, exist_ok=True)
    seen = [replace(c, split="train" if c.split == "test" else c.split) for c in cases if c.site not in unseen]
    write_manifest(folder / "manifest.csv", seen)
    words = [f"--config={REPOSITORY / 'configs' / part}" for part in CONFIGS]
    words += [f"--data.manifest={folder / 'manifest.csv'}", f"--run={run}", f"--data.cache={args.out / 'cache'}"]
    words += [f"--data.recipe.init_args.intensity={arm}", f"--trainer.max_epochs={args.epochs}"]
    words += ["--trainer.accelerator=cpu", *(["--resume"] if newest_whole(run)[0] else [])]
    with (folder / "log").open("a") as log:
        subprocess.run(
            [sys.executable, str(REPOSITORY / "train.py"), "fit", *words], check=True, cwd=REPOSITORY, stderr=log
        )
    if (run / FOLDER / BEST).is_file():
        (folder / "ended").touch()
    return run


def read(cases: list[Case], run: Path) -> list[DetectionCase]:
    """The account of each case by the run's package."""
    package = run.parent / "package"
    if not (package / "package.yaml").is_file():
        make_package(run, REPOSITORY / "configs" / "package" / "prostate_lesion.yaml", package)
    predictor = load_predictor(load_package(package, explicit=True))
    told = []
    for case in cases:
        seen = watch(predictor, case, PICAI)
        told.append(DetectionCase(case.case_id, case.patient_id, case.site, seen.is_positive, seen.score, seen.lesions))
    return told


def told(difference: Difference) -> str:
    """The difference with its interval and p."""
    if difference.difference is None or difference.interval is None:
        return difference.absent or "no interval"
    low, high = difference.interval.low, difference.interval.high
    return (
        f"{difference.difference:+.3f} ({low:+.3f} to {high:+.3f}), p {difference.p:.3g}, Holm {difference.p_holm:.3g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=112, help="studies, of four sites in turn (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("--phantoms", type=Path, help="a set that `imaging phantoms training --kind prostate` wrote")
    parser.add_argument("--directions", type=int, choices=(1, 2), default=1, help="(default: %(default)s)")
    args = parser.parse_args()
    args.out = args.out.resolve()
    torch.set_num_threads(1)
    table = (args.phantoms or args.out / "phantoms") / "manifest.csv"
    if not table.is_file():
        write_training_set(table.parent, args.cases, SEED)
    cases = read_manifest(table)[: args.cases]
    sites = sorted({case.site for case in cases})
    pairs = [tuple(sites[2:]), tuple(sites[:2])][: args.directions]
    accounts: dict[str, list[DetectionCase]] = {arm: [] for arm in ARMS}
    for unseen in pairs:
        for arm in ARMS:
            accounts[arm] += read([c for c in cases if c.site in unseen], train(cases, unseen, arm, args))
    protocol = DetectionProtocol(PICAI, rates=RATES)
    robust, zscore = (evaluate_detection(accounts[arm], protocol, Bootstrap()) for arm in ARMS)
    both = compare(robust, zscore)
    lesions = sum(line.is_true for case in accounts["robust"] for line in case.lesions)
    print(f"\nsynthetic; {len(accounts['robust'])} unseen studies with {lesions} lesions, {PICAI.text}")
    for name, record in (("recipe", robust), ("z-score", zscore)):
        for group in (record.pooled, *record.sites):
            print(f"  {name:8} {group.name:8}", "; ".join(f"{f.name} {f.text}" for f in group.figures))
    for difference in both.comparison.differences if both.comparison else ():
        print(f"  recipe minus z-score: {difference.name}: {told(difference)}")
    (args.out / "cross_vendor.json").write_text(both.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
