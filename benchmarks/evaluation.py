"""Evaluation beside its peers in one run: same inputs, same answers, and how many times faster.

    python benchmarks/evaluation.py [--repeats 3] [--full]

Needs picai_eval and MONAI. Times are the best of the repeats. Without --full the published bootstrap draws 1 000 times
and its time is multiplied by ten; it is a plain loop, so that is fair.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from imaging.candidates import Extraction, detection_map, extract_candidates
from imaging.evaluation.detection import Account, score_maps
from imaging.evaluation.intervals import Bootstrap, Clusters, bootstrap
from imaging.evaluation.matching import MatchedLesion
from imaging.evaluation.ranking import Average
from imaging.evaluation.result import DetectionCase
from imaging.evaluation.surface import surface_distances

SHAPE = (24, 640, 640)


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the best repeat, and the answer."""
    best, answer = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = work()
        best = min(best, time.perf_counter() - start)
    return best, answer


def tell(what: str, theirs: float, ours: float, goal: float, same: str) -> None:
    ratio = theirs / ours
    verdict = "reached" if ratio >= goal else "MISSED"
    print(f"{what:52} {theirs:9.3f} s {ours:9.4f} s {ratio:8.1f} x  goal {goal:g} {verdict}; {same}", flush=True)


def ball(centre: tuple[int, int, int], radius: tuple[float, float, float]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return np.asarray(sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radius, strict=True)) < 1)


def case_evaluation(repeats: int) -> None:
    """Five candidates against three lesions."""
    from picai_eval.eval import evaluate_case

    centres = [(6, 150, 200), (12, 320, 330), (16, 420, 250), (9, 240, 420), (18, 500, 500)]
    truth = np.zeros(SHAPE, np.int32)
    detection = np.zeros(SHAPE, np.float32)
    for k, centre in enumerate(centres):
        detection[ball(centre, (3, 15 + k, 14))] = 0.2 + 0.15 * k
        if k < 3:
            truth[ball((centre[0], centre[1] + 4, centre[2]), (3, 14, 15))] = 1
    theirs, (lines, score, *_) = timed(lambda: evaluate_case(detection, truth), repeats)
    ours, (lesions, case_score) = timed(lambda: score_maps(detection, truth), repeats)
    mine = sorted((int(x.is_true), x.confidence, x.overlap) for x in lesions)
    same = np.allclose(mine, sorted(lines), atol=1e-6) and case_score == score
    tell("case of 24 x 640 x 640 (picai_eval.evaluate_case)", theirs, ours, 8, f"same lines: {same}")


def noisy_map() -> np.ndarray:
    """Two lesions in smooth noise whose peaks are near half of theirs."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), (2, 20, 20))
    chance = 0.06 * np.clip(noise / noise.std() + 1, 0, None)
    for centre, height in (((8, 200, 250), 0.8), ((15, 400, 380), 0.6)):
        axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
        apart = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, (3, 14, 14), strict=True))
        chance = np.maximum(chance, height * np.exp(-apart))
    return np.clip(chance, 0, 1).astype(np.float32)


def extraction(repeats: int) -> None:
    from report_guided_annotation import extract_lesion_candidates

    chance = noisy_map()
    theirs, (blobs, *_) = timed(lambda: extract_lesion_candidates(chance, threshold="dynamic"), 1)
    ours, found = timed(lambda: extract_candidates(chance, Extraction("dynamic")), repeats)
    same = np.array_equal(detection_map(found, SHAPE), blobs.astype(np.float32))
    tell("noisy `dynamic` extraction (report_guided_annotation)", theirs, ours, 30, f"same map: {same}")


def bootstraps(repeats: int, full: bool) -> None:
    """AUROC, AP and their mean of 1 000 cases; ours draws patients within strata and gives BCa limits."""
    from picai_eval import Metrics

    rng = np.random.default_rng(1)
    cases = []
    for k in range(1000):
        truth = k < 300
        confidences = np.clip(rng.beta(2 + 2 * truth, 3, rng.integers(1, 4)), 0.01, 1)
        lesions = tuple(
            MatchedLesion(truth and i == 0, float(c) if rng.random() < 0.8 else 0.0) for i, c in enumerate(confidences)
        )
        lesions = tuple(x for x in lesions if x.is_true or x.confidence > 0)
        cases.append(
            DetectionCase(str(k), str(k), "a", truth, max((x.confidence for x in lesions), default=0.0), lesions)
        )
    lines = {c.case_id: [(int(x.is_true), x.confidence, x.overlap) for x in c.lesions] for c in cases}
    metrics = Metrics(lines, case_target={c.case_id: int(c.truth) for c in cases})
    n_theirs = 10_000 if full else 1000
    theirs, limits = timed(lambda: metrics.bootstrap_score_ci(n_bootstraps=n_theirs, seed=0), 1)
    account = Account.of(cases)
    statistics = [account.auroc(), account.average_precision(), Average(account.auroc(), account.average_precision())]
    clusters = Clusters.of([c.patient_id for c in cases], ["a"] * 1000, account.truth)
    ours, drawn = timed(lambda: bootstrap(statistics, clusters, Bootstrap(10_000)), repeats)
    both = [f"{d.interval.low:.3f}-{d.interval.high:.3f}" for d in drawn if d.interval]
    same = (
        f"AUROC {both[0]} against {limits['auroc_95_ci'].round(3)}, AP {both[1]} against {limits['ap_95_ci'].round(3)}"
    )
    tell("10 000 bootstraps of 1 000 cases (picai_eval.Metrics)", theirs * 10_000 / n_theirs, ours, 15, same)


def surfaces(repeats: int) -> None:
    """A structure of 55 x 45 pixels and eight slices found with Dice near 0.95, and a larger one near 0.92."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    spacing = (3.0, 0.5, 0.5)
    for radius, rough in (((8.0, 55.0, 45.0), 0.06), ((9.0, 110.0, 90.0), 0.1)):
        prediction, truth = (_rough(radius, rough, seed) for seed in (1, 2))
        pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]

        def monai(pair: list[torch.Tensor] = pair) -> tuple[float, float]:
            distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
            agreement = compute_surface_dice(*pair, [2.0], include_background=True, spacing=spacing)
            return distance.item(), agreement.item()

        def own(prediction: np.ndarray = prediction, truth: np.ndarray = truth) -> tuple[float, float]:
            apart = surface_distances(prediction, truth, spacing)
            return apart.hd95(), apart.nsd(2.0)

        theirs, a = timed(monai, repeats)
        ours, b = timed(own, repeats)
        dice = 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum())
        same = f"same values: {np.allclose(a, b, atol=1e-5)} ({b[0]:.4f}, {b[1]:.4f})"
        tell(f"HD95 + NSD on 24 x 640 x 640, Dice {dice:.2f} (MONAI)", theirs, ours, 8, same)


def _rough(radius: tuple[float, float, float], rough: float, seed: int) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    apart = sum(((x - n / 2) / r) ** 2 for x, n, r in zip(axes, SHAPE, radius, strict=True))
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32), (1, 6, 6))
    return np.asarray(apart * (1 + rough * noise / noise.std()) < 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="draw the published bootstrap 10 000 times")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*")
    with contextlib.redirect_stdout(io.StringIO()):
        import picai_eval  # noqa: F401  # greets its user
    print(f"{'':52} {'peer':>11} {'ours':>11} {'ratio':>10}")
    case_evaluation(args.repeats)
    surfaces(args.repeats)
    bootstraps(args.repeats, args.full)
    extraction(args.repeats)


if __name__ == "__main__":
    main()
