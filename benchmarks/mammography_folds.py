"""Masses on mini-MIAS over folds of patients: sensitivity by false positives per image, and AUROC of exams.

    python benchmarks/mammography_folds.py --data DIR --out OUT [--folds 5] [--epochs 40] [--start-from CHECKPOINT]

Every film is read once by a network that saw no film of its patient; the next fold in turn chooses the checkpoint.
Films whose only lesions are calcifications, or that have a lesion without a place, are left out (OUT/set/dropped.csv).
An exam is a patient's pair of films, positive when one of them has a lesion. A pass that was stopped goes on where it
stopped. OUT/overlap.json and OUT/centre_in_box.json are the whole records.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.data.public import prepare
from imaging.evaluation.detection import DetectionProtocol, by_exam
from imaging.evaluation.evaluate import evaluate_detection
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.matching import PICAI, HitRule
from imaging.evaluation.result import DetectionCase
from imaging.package import load_package
from imaging.packaging import make_package
from imaging.predictor import load_predictor
from imaging.tasks.checkpoints import BEST, FOLDER, newest_whole
from imaging.thresholds import watch

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = ("trainer.yaml", "recipe/mammography.yaml", "training/mammography_mass.yaml")
CENTRE = HitRule("centre_in_box", 0.0)
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)


def fold_of(cases: list[Case], folds: int) -> dict[str, int]:
    """Patient → fold: those with a lesion and those without apart, each in the order of the SHA-256 of their names."""
    ill = {case.patient_id for case in cases if case.label != "normal"}
    order: dict[str, int] = {}
    for has in (True, False):
        names = sorted({c.patient_id for c in cases if (c.patient_id in ill) is has})
        names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        order |= {name: place % folds for place, name in enumerate(names)}
    return order


def train_fold(cases: list[Case], fold: int, args: argparse.Namespace) -> Path:
    """The run folder of a network that saw no patient of the fold."""
    folder = args.out / f"fold-{fold}"
    run = folder / "run"
    if (run / FOLDER / BEST).is_file() and (folder / "ended").is_file():
        return run
    folds = fold_of(cases, args.folds)
    splits = {(fold + k) % args.folds: name for k, name in enumerate(("test", "val"))}
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(
        folder / "manifest.csv", [replace(case, split=splits.get(folds[case.patient_id], "train")) for case in cases]
    )
    words = [f"--config={REPOSITORY / 'configs' / part}" for part in CONFIGS]
    words += [f"--data.manifest={folder / 'manifest.csv'}", f"--run={run}", f"--data.cache={args.out / 'cache'}"]
    words += [f"--trainer.max_epochs={args.epochs}", "--trainer.accelerator=cpu"]
    words += [f"--start_from={args.start_from}"] if args.start_from else []
    words += ["--resume"] if newest_whole(run)[0] else []
    with (folder / "log").open("a") as log:
        subprocess.run(
            [sys.executable, str(REPOSITORY / "train.py"), "fit", *words], check=True, cwd=REPOSITORY, stderr=log
        )
    (folder / "ended").touch()
    return run


def read_fold(cases: list[Case], fold: int, run: Path, args: argparse.Namespace, rule: HitRule) -> list[DetectionCase]:
    """The account of each film of the fold, by the fold's own package."""
    folds = fold_of(cases, args.folds)
    package = args.out / f"fold-{fold}" / "package"
    if not (package / "package.yaml").is_file():
        make_package(run, REPOSITORY / "configs" / "package" / "mammography_mass.yaml", package)
    predictor = load_predictor(load_package(package, explicit=True))
    told = []
    for case in cases:
        if folds[case.patient_id] == fold:
            seen = watch(predictor, case, rule)
            told.append(
                DetectionCase(
                    case.case_id,
                    case.patient_id,
                    case.site,
                    seen.is_positive,
                    seen.score,
                    seen.lesions,
                    exam_id=case.patient_id,
                )
            )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mini-MIAS, as published or curated")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--start-from", type=Path, help="a checkpoint trained on phantoms")
    args = parser.parse_args()
    args.out = args.out.resolve()
    torch.set_num_threads(1)
    cases = read_manifest(prepare("mini_mias_mass", args.data, args.out / "set"))
    runs = [train_fold(cases, fold, args) for fold in range(args.folds)]
    for rule in (PICAI, CENTRE):
        films = [one for fold, run in enumerate(runs) for one in read_fold(cases, fold, run, args, rule)]
        protocol, how = DetectionProtocol(rule, rates=RATES), Bootstrap()
        record = evaluate_detection(films, protocol, how)
        exams = evaluate_detection(by_exam(films), protocol, how)
        print(f"\n{rule.text}; {len(films)} films, {sum(x.is_true for f in films for x in f.lesions)} lesions, "
              f"{sum(f.truth for f in films)} films with one; {len(by_exam(films))} patients")  # fmt: skip
        for figure in record.pooled.figures:
            print(f"  film {figure.name:32} {figure.text}")
        print(f"  exam {'auroc':32} {exams.pooled.figure('auroc').text}", flush=True)
        (args.out / f"{rule.kind}.json").write_text(record.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
