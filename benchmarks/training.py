"""Training here beside a plain MONAI loop: samples per second, waiting for data, decodes, memory.

    python benchmarks/training.py [--cases 64] [--steps 30] [--rounds 3] [--device cpu|gpu]

Same pictures, network, loss, optimiser, batch size, threads, precision. Here: cached samples, batches read ahead and
varied, Lightning. There: CacheDataset and DataLoader with their dictionary transforms, without and with two workers,
the better of the two. Every measurement is a process of its own, they take turns, the ratio is the median of rounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 8
SIDE = 256
WARM = 4  # steps before the clock starts
GOAL, MOST_WAIT = 1.2, 0.1
SIDES = ("here", "monai, 0 workers", "monai, 2 workers")


def write_pictures(folder: Path, cases: int) -> Path:
    """Grainy pictures of 600 x 800 with an ellipse, as PNG, and their table."""
    from PIL import Image as Picture

    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:600, 0:800]
    rows = []
    for k in range(cases + 2):
        cy, cx, ry, rx = rng.uniform(200, 400), rng.uniform(250, 550), rng.uniform(40, 120), rng.uniform(40, 160)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        grey = np.clip((110 - 60 * inside) * rng.gamma(6, 1 / 6, inside.shape), 1, 255).astype(np.uint8)
        Picture.fromarray(grey).save(folder / f"{k}.png")
        Picture.fromarray((inside * 255).astype(np.uint8)).save(folder / f"{k}-truth.png")
        rows.append((f"case-{k}", f"p{k}", "a", "train" if k < cases else "val", f"{k}.png", f"{k}-truth.png"))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("case_id", "patient_id", "site", "split", "image", "truth"), *rows])
    return folder / "manifest.csv"


def new_task() -> Any:
    """The network and losses of configs/task/segmentation.yaml."""
    from imaging.models.networks import DynUNetSettings
    from imaging.tasks.segmentation import SegmentationTask

    torch.manual_seed(1)
    network = DynUNetSettings(features=(16, 32, 64, 96, 128), stem=2, deep_supervision=2)
    return SegmentationTask(network)


class Clock:
    """Seconds and waiting of the steps after the first few."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps = 0
        self.waited = 0.0
        self.begin = self.mark = self.end = time.perf_counter()

    def got_batch(self) -> None:
        self.waited += time.perf_counter() - self.mark

    def stepped(self) -> None:
        if self.device == "gpu":
            torch.cuda.synchronize()
        self.mark = self.end = time.perf_counter()
        self.steps += 1
        if self.steps == WARM:
            self.begin, self.waited = self.mark, 0.0

    def told(self, **more: object) -> dict[str, object]:
        spent = self.end - self.begin
        usages = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        speed = (self.steps - WARM) * BATCH / spent
        return {
            "speed": speed,
            "wait": self.waited / spent,
            "mib": usages[0] // 1024,
            "worker_mib": usages[1] // 1024,
        } | more


def measure_here(manifest: Path, steps: int, device: str) -> dict[str, object]:
    import pytorch_lightning as pl

    from imaging.data.module import ImagingDataModule
    from imaging.modalities.ultrasound.recipe import UltrasoundRecipe

    clock, decodes = Clock(device), []
    data = ImagingDataModule(manifest, UltrasoundRecipe(side=SIDE), BATCH, cache=manifest.parent / "cache")

    class Watch(pl.Callback):
        def on_train_batch_start(self, *told: object) -> None:
            clock.got_batch()

        def on_train_batch_end(self, *told: object) -> None:
            clock.stepped()

        def on_train_epoch_end(self, *told: object) -> None:
            decodes.append(data.train_dataloader().dataset.decoded)

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    trainer = pl.Trainer(
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if device == "gpu" else "32-true",
        max_steps=steps + WARM,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch()],
    )
    trainer.fit(new_task(), data)
    return clock.told(decodes=[int(n) for n in np.diff([0, *decodes])])


def monai_loader(manifest: Path, workers: int) -> Any:
    from monai import transforms as t
    from monai.data import CacheDataset, DataLoader

    both = ["image", "truth"]
    made = [
        t.LoadImaged(both),
        t.EnsureChannelFirstd(both),
        t.Resized(both, (SIDE, SIDE), mode=["bilinear", "nearest"]),
        t.ScaleIntensityRangePercentilesd("image", 1, 99.5, 0, 1, clip=True),
    ]
    varied = [
        t.RandFlipd(both, 0.5, 1),
        t.RandAffined(
            both,
            prob=1.0,
            rotate_range=0.35,
            scale_range=0.3,
            translate_range=0.1 * SIDE,
            mode=["bilinear", "nearest"],
            padding_mode="zeros",
        ),
        t.RandGaussianNoised("image", 0.25, std=0.08),
        t.RandGaussianSmoothd("image", (0.4, 1.6), (0.4, 1.6), prob=0.25),
        t.RandAdjustContrastd("image", 0.25, (0.6, 1.7)),
    ]
    with manifest.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
    cases = [{name: str(manifest.parent / row[name]) for name in both} for row in rows]
    dataset = CacheDataset(cases, t.Compose([*made, *varied]), cache_rate=1.0, num_workers=0, progress=False)
    return DataLoader(
        dataset, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )


def measure_monai(manifest: Path, steps: int, device: str, workers: int) -> dict[str, object]:
    task, loader, clock = new_task(), monai_loader(manifest, workers), Clock(device)
    where = torch.device("cuda" if device == "gpu" else "cpu")
    model = task.model.to(where).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    while clock.steps < steps + WARM:
        for batch in loader:
            image = batch["image"].as_tensor().to(where)
            truth = (batch["truth"].as_tensor() > 0).long().to(where)
            clock.got_batch()
            with torch.autocast(where.type, torch.bfloat16, enabled=device == "gpu"):
                outputs = model(image)
                loss = task.loss(outputs.pixels, truth)
                for depth, logits in enumerate(outputs.deep):
                    loss = loss + task.deep_weight * 0.5**depth * task.loss(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            clock.stepped()
            if clock.steps == steps + WARM:
                break
    return clock.told()


def one_side(side: str, manifest: Path, steps: int, device: str) -> dict[str, object]:
    warnings.simplefilter("ignore")
    if side == SIDES[0]:
        return measure_here(manifest, steps, device)
    return measure_monai(manifest, steps, device, workers=2 * (side == SIDES[2]))


def in_a_process(side: str, manifest: Path, args: argparse.Namespace) -> dict[str, Any]:
    told = [sys.executable, __file__, "--side", side, "--manifest", str(manifest)]
    told += ["--steps", str(args.steps), "--device", args.device]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def compare(args: argparse.Namespace, folder: Path) -> None:
    manifest = write_pictures(folder, args.cases)
    epochs = in_a_process(SIDES[0], manifest, argparse.Namespace(steps=3 * (args.cases // BATCH), device=args.device))
    print(f"decodes of an empty cache by epoch: {epochs['decodes']}; from the second on the goal is 0", flush=True)
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(args.rounds):
        rounds.append({side: in_a_process(side, manifest, args) for side in SIDES})
        said = "; ".join(f"{side} {of['speed']:.1f}/s" for side, of in rounds[-1].items())
        print(f"round {number + 1}: {said}", flush=True)
    ratios = [of[SIDES[0]]["speed"] / max(of[side]["speed"] for side in SIDES[1:]) for of in rounds]
    for side in SIDES:
        speed, wait, mib, more = (
            float(np.median([of[side][name] for of in rounds])) for name in ("speed", "wait", "mib", "worker_mib")
        )
        extra = f" and {more:.0f} MiB in the largest worker" if more > 0 and "workers" in side else ""
        print(f"{side:18} {speed:7.2f} samples/s, waiting for data {wait:6.1%}, peak {mib:.0f} MiB{extra}")
    ratio, wait = float(np.median(ratios)), float(np.median([of[SIDES[0]]["wait"] for of in rounds]))
    print(f"ratio {ratio:.2f} x, goal {GOAL:g} {'reached' if ratio >= GOAL else 'MISSED'}")
    print(f"waiting for data {wait:.1%}, goal {MOST_WAIT:.0%} {'reached' if wait <= MOST_WAIT else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(one_side(args.side, args.manifest, args.steps, args.device)))
        return
    has_gpu = torch.cuda.is_available()
    print(f"{torch.get_num_threads()} threads, batch {BATCH}, {SIDE} x {SIDE}, on the {args.device}")
    if not has_gpu:
        print("GPU: not measured, no CUDA device here")
        if args.device == "gpu":
            return
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


if __name__ == "__main__":
    main()
