"""Segmentation figures by hand, beside MONAI's, and under failures that must cost."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from imaging.errors import ConfigError, GeometryError
from imaging.evaluation.detection import DetectionProtocol
from imaging.evaluation.detection import measures as detection_measures
from imaging.evaluation.evaluate import evaluate_segmentation
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.matching import MatchedLesion
from imaging.evaluation.ranking import figure
from imaging.evaluation.result import DetectionCase, Overlap, SegmentationCase
from imaging.evaluation.segmentation import SegmentationProtocol, measures, score_failure, score_masks
from imaging.evaluation.surface import surface_distances

PROTOCOL = SegmentationProtocol(tolerance=1.0, cap=50.0)
# MONAI 1.6.1 calls its own function with an argument that it has retired.
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")


def box(*ranges: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(a, b) for a, b in ranges)] = 1
    return mask


def test_a_square_moved_by_two_pixels_by_hand() -> None:
    """4 × 4 squares on pixels of 1 × 0.5 mm, two columns apart: 8 of 16 pixels shared, of 24 in all.

    Each surface has 12 pixels, 2 of them shared by both (the inner columns are not surface on both sides): the two
    outer columns of each square lie off the other's surface.
    """
    truth, prediction = box((2, 6), (2, 6), shape=(10, 12)), box((2, 6), (4, 8), shape=(10, 12))
    (found,) = score_masks(prediction, truth, (1.0, 0.5), PROTOCOL)
    assert found.state == "both"
    assert found.dice == pytest.approx(16 / 32)
    assert found.iou == pytest.approx(8 / 24)
    assert (found.truth_volume, found.predicted_volume) == pytest.approx((0.08, 0.08))  # 16 × 0.5 mm² = 0.08 cm²
    # Rows 2 and 5 hold four surface pixels each, rows 3 and 4 the two ends. Of the prediction's columns 4 to 7:
    # rows 2, 5: 0, 0, 0.5, 1 mm; rows 3, 4: column 4 to the truth's column 5 or to row 2 (0.5), column 7 to 5 (1).
    distances = sorted(surface_distances(prediction > 0, truth > 0, (1.0, 0.5)).to_truth.tolist())
    assert distances == pytest.approx([0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1])
    assert found.assd == pytest.approx(0.5)
    assert found.hd95 == pytest.approx(1.0)
    assert found.nsd == pytest.approx(1.0)
    (strict,) = score_masks(prediction, truth, (1.0, 0.5), SegmentationProtocol(tolerance=0.5, cap=50.0))
    assert strict.nsd == pytest.approx(8 / 12)


def test_the_empty_policy() -> None:
    nothing, something = np.zeros((8, 8), np.uint8), box((1, 3), (1, 6), shape=(8, 8))
    spacing = (1.0, 1.0)
    (both,) = score_masks(nothing, nothing, spacing, PROTOCOL)
    assert (both.state, both.dice, both.hd95) == ("true_negative", None, None)
    (false,) = score_masks(something, nothing, spacing, PROTOCOL)
    assert (false.state, false.dice, false.predicted_volume) == ("false_positive_on_empty", None, pytest.approx(0.1))
    assert false.lesions == (MatchedLesion(False, 1.0),)
    (missed,) = score_masks(nothing, something, spacing, PROTOCOL)
    assert (missed.state, missed.dice, missed.nsd, missed.hd95, missed.assd) == ("missed", 0.0, 0.0, 50.0, 50.0)
    assert missed.lesions == (MatchedLesion(True, 0.0),)
    (failed,) = score_failure(something, spacing, PROTOCOL)
    assert failed == replace(missed, state="failed")
    assert score_failure(nothing, spacing, PROTOCOL)[0].state == "failed_on_empty"


def test_bad_masks_are_named() -> None:
    with pytest.raises(GeometryError, match=r"found shape \(3, 3\) against a truth of \(4, 4\)"):
        score_masks(np.zeros((3, 3)), np.zeros((4, 4)), (1.0, 1.0), PROTOCOL)
    with pytest.raises(ConfigError, match=r"truth: found labels \[7\]; allowed are \[0, 1\]"):
        score_masks(np.zeros((4, 4)), np.full((4, 4), 7), (1.0, 1.0), PROTOCOL)


def blob(shape: tuple[int, ...], radius: float, seed: int) -> np.ndarray:
    """A ball with a rough surface."""
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = sum(((axis - n / 2) / (n / 2)) ** 2 for axis, n in zip(axes, shape, strict=True))
    rough = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    return np.asarray(distance * (1 + 0.3 * rough / rough.std()) < radius**2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.5)])
@pytest.mark.parametrize("shape", [(20, 48, 40), (9, 30, 30)])
def test_surface_figures_equal_those_of_monai(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    for seed in range(4):
        prediction, truth = blob(shape, 0.55, seed), blob(shape, 0.6, seed + 50)
        pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
        theirs = compute_hausdorff_distance(*(p.float() for p in pair), True, percentile=95, spacing=spacing).item()
        tolerant = compute_surface_dice(*pair, [1.0], include_background=True, spacing=spacing).item()
        ours = surface_distances(prediction, truth, spacing)
        assert ours.hd95() == pytest.approx(theirs, abs=1e-5)
        assert ours.nsd(1.0) == pytest.approx(tolerant, abs=1e-6)


def test_surface_distances_equal_a_naive_twin() -> None:
    """Every pair of surface voxels, written out."""
    for seed in range(5):
        masks = [np.random.default_rng(seed + k).random((5, 6, 7)) < 0.5 for k in (0, 100)]
        spacing = np.array([2.0, 0.7, 0.5])
        edges = [np.argwhere(m & ~ndimage.binary_erosion(m)) * spacing for m in masks]
        apart = np.linalg.norm(edges[0][:, None] - edges[1][None], axis=-1)
        ours = surface_distances(masks[0], masks[1], (2.0, 0.7, 0.5))
        assert ours.to_truth == pytest.approx(apart.min(axis=1), abs=1e-5)
        assert ours.to_prediction == pytest.approx(apart.min(axis=0), abs=1e-5)


def honest_cases(share_missed: float) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[SegmentationCase]]:
    """100 cases, each one square found two pixels off and a little too large; the first ones are missed."""
    pairs, cases = [], []
    for number in range(100):
        truth = box((10, 20), (10, 20), shape=(32, 32))
        prediction = box((10, 20), (12, 23), shape=(32, 32)) * (number >= round(100 * share_missed))
        pairs.append((prediction, truth))
        name = f"{number:03d}"
        cases.append(SegmentationCase(name, name, "a", score_masks(prediction, truth, (1.0, 1.0), PROTOCOL)))
    return pairs, cases


def detections(share_missed: float) -> list[DetectionCase]:
    """100 positives found at falling confidence (the first ones missed) and 100 negatives, half with a false one."""
    positive = [
        DetectionCase(f"p{k:03d}", f"p{k:03d}", "a", True, score, (MatchedLesion(True, score, 0.5 if score else 0.0),))
        for k in range(100)
        for score in [0.0 if k < round(100 * share_missed) else 0.9 - k / 200]
    ]
    return positive + [
        DetectionCase(f"n{k:03d}", f"n{k:03d}", "a", False, score, (MatchedLesion(False, score),) if score else ())
        for k in range(100)
        for score in [0.0 if k % 2 else 0.65 - k / 200]
    ]


def test_every_figure_worsens_with_structures_missed_while_peers_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    """MONAI's mean HD95 leaves out empty predictions; its Dice and the published detection score stand beside ours."""
    shares = (0.0, 0.1, 0.5, 0.9)
    table: dict[str, list[float]] = {}
    higher: dict[str, bool] = {}
    for share in shares:
        pairs, cases = honest_cases(share)
        found = detections(share)
        planned = [(m, len(cases)) for m in measures(cases, PROTOCOL)]
        planned += [(m, len(found)) for m in detection_measures(found, DetectionProtocol(rates=(0.1, 0.2, 1)))]
        for measure, n_cases in planned:
            if not measure.absent:
                table.setdefault(measure.name, []).append(figure(measure.statistic, n_cases))
                higher[measure.name] = measure.higher_is_better
        for name, value in peers(pairs, found).items():
            table.setdefault(name, []).append(value)
    lines = [f"{name:34}" + "".join(f"{value:9.3f}" for value in row) for name, row in table.items()]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"{'missed':34}" + "".join(f"{s:9.0%}" for s in shares), *lines, ""]))
    assert len(higher) == 16
    for name, better in higher.items():
        steps = np.diff(table[name])
        assert np.all(steps < 0 if better else steps > 0), (name, table[name])
    assert table["MONAI HD95"][-1] == table["MONAI HD95"][0], "the peer reports the same with 90 of 100 missed"


def peers(pairs: list[tuple[np.ndarray, np.ndarray]], found: list[DetectionCase]) -> dict[str, float]:
    """What MONAI and picai_eval report by default."""
    prediction, truth = (torch.from_numpy(np.stack([p[k] for p in pairs]))[:, None] for k in (0, 1))
    with pytest.warns(UserWarning, match="all 0") if any(not p.any() for p, _ in pairs) else contextlib.nullcontext():
        distance = compute_hausdorff_distance(prediction.float(), truth.float(), True, percentile=95)
    dice = compute_dice(prediction, truth, include_background=True)
    rows = {"MONAI HD95": float(distance[distance.isfinite()].mean()), "MONAI Dice": float(dice.nanmean())}
    with contextlib.redirect_stdout(io.StringIO()):
        picai = pytest.importorskip("picai_eval")
    lines = {c.case_id: [(int(x.is_true), x.confidence, x.overlap) for x in c.lesions] for c in found}
    theirs = picai.Metrics(lines)
    return rows | {"picai_eval AP": theirs.AP, "picai_eval AUROC": theirs.auroc}


def test_lesions_in_one_case_that_are_missed_cost_in_every_figure() -> None:
    """Ten squares in one picture; one, five and nine are left out."""
    truth = np.zeros((40, 100), np.uint8)
    for k in range(10):
        truth[10:16, 10 * k + 2 : 10 * k + 8] = 1
    rows = []
    for missed in (0, 1, 5, 9):
        prediction = truth.copy()
        prediction[:, : 10 * missed] = 0
        cases = [SegmentationCase("c", "c", "a", score_masks(prediction, truth, (1.0, 1.0), PROTOCOL))]
        rows.append(
            {m.name: (figure(m.statistic, 1), m.higher_is_better) for m in measures(cases, PROTOCOL) if not m.absent}
        )
    for before, after in itertools.pairwise(rows):
        for name, (value, better) in after.items():
            assert value < before[name][0] if better else value > before[name][0], name


def test_a_false_positive_on_a_healthy_case_never_raises_dice() -> None:
    """MONAI's Dice counts a healthy case with a false positive as 0 or leaves it out; here it is counted apart."""
    perfect = Overlap("lesion", "both", 0.8, 0.7, 1.0, 0.0, 0.0, 1.0, 1.0, (MatchedLesion(True, 1.0, 0.7),))
    healthy = Overlap(
        "lesion", "false_positive_on_empty", None, None, None, None, None, 0.0, 3.0, (MatchedLesion(False, 1.0),)
    )
    cases = [
        SegmentationCase(str(k), str(k), "a" if k < 5 else "b", (perfect if k % 5 else healthy,)) for k in range(10)
    ]
    result = evaluate_segmentation(cases, PROTOCOL, Bootstrap(200))
    dice = result.pooled.figure("lesion dice")
    assert (dice.value, dice.counts.n_total, dice.counts.n_scored) == (pytest.approx(0.8), 10, 8)
    assert dice.counts.n_false_positive_on_empty == 2
    assert result.pooled.figure("lesion specificity_on_empty").value == 0.0
    assert result.pooled.figure("lesion false_positive_volume_on_empty").value == pytest.approx(3.0)
    assert result.pooled.figure("lesion lesion_f1").value == pytest.approx(2 * 8 / (2 * 8 + 2))


def test_sites_count_alike_whatever_their_size() -> None:
    """Site a: nine cases of Dice 0.9; site b: one of 0.1. Pooled 0.82, macro 0.5, worst b."""

    def case(k: int, dice: float, site: str) -> SegmentationCase:
        return SegmentationCase(str(k), str(k), site, (Overlap("lesion", "both", dice, dice, 1, 1, 1, 1, 1),))

    cases = [case(k, 0.9, "a") for k in range(9)] + [case(9, 0.1, "b")]
    result = evaluate_segmentation(cases, PROTOCOL, Bootstrap(100))
    assert result.pooled.figure("lesion dice").value == pytest.approx(0.82)
    (dice,) = [extreme for extreme in result.macro if extreme.name == "lesion dice"]
    assert (dice.macro, dice.worst_site, dice.worst, dice.n_sites) == (pytest.approx(0.5), "b", 0.1, 2)
