"""Validation cases of training sites → what a package decides by: threshold, class temperature, operating point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from imaging.data.dataset import first_image
from imaging.data.instances import enclosing_boxes, number_instances
from imaging.data.manifest import Case
from imaging.data.truth import read_labels, read_mask, read_values
from imaging.evaluation.matching import PICAI, HitRule, MatchedLesion, match_boxes, match_masks
from imaging.findings import Finding, Prediction
from imaging.image import Array, Image
from imaging.predictor import Predictor

THRESHOLDS = tuple(round(0.01 * n, 2) for n in range(1, 100))


@dataclass(frozen=True)
class Decisions:
    """What was chosen, and what the validation cases show at it, by name."""

    threshold: float
    operating_point: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """Validation cases at one threshold: mean Dice of cases with a label (a miss is 0), marked cases without one."""

    threshold: float
    dice: float
    marked_empty: float
    score: float


@dataclass(frozen=True)
class Watched:
    """One validation image or exam: its lesions, found or missed, its false positives, its highest score."""

    case: Case
    lesions: tuple[MatchedLesion, ...]
    score: float

    @property
    def is_positive(self) -> bool:
        return any(lesion.is_true for lesion in self.lesions)


def fitted_temperature(predictor: Predictor, cases: Sequence[Case]) -> float:
    """What divides the class outputs so that their probabilities fit the cases best (Guo, ICML 2017); 1 for none."""
    names = [one.name for one in predictor.package.description.card.classes]
    known = [case for case in cases if case.label in names]
    if not known:
        return 1.0
    predictions = [predictor.predict(first_image(case, predictor.recipe)) for case in known]
    chances = np.array([one.classes for one in predictions if isinstance(one, Prediction)])
    truth = np.array([names.index(case.label) for case in known])
    logits = np.log(np.clip(chances, 1e-9, 1.0))

    def mean_log_loss(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(truth)), truth].mean())

    return round(float(minimize_scalar(mean_log_loss, bounds=(0.2, 5.0), method="bounded").x), 3)


def decide_masks(predictor: Predictor, cases: Sequence[Case]) -> Decisions:
    """The threshold of a network that outlines.

    It is the one of highest macro mean over sites, where a case without a lesion scores 1 when nothing is marked and 0
    otherwise, among those that mark no larger share of these cases than the card allows.
    """
    best = chosen(_judge(predictor, cases), predictor.package.description.card.most_marked_empty)
    shown = {"dice": round(best.dice, 4), "marked_empty": round(best.marked_empty, 4)}
    return Decisions(best.threshold, figures=shown)


def decide_candidates(predictor: Predictor, cases: Sequence[Case]) -> Decisions:
    """The threshold and operating point of a network that finds lesions one by one, under an IoU of 0.1 or more.

    The threshold is the lowest with no more false positives per case than the card allows, or the middle of those that
    decide the same: at the end of such a range the next case would tip it. The operating point is the lowest score that
    recalls no larger share of patients without a lesion than the card allows; a patient's score is the highest of the
    images, because a pair needs two views of one breast, which training images may lack.
    """
    card, watched = predictor.package.description.card, [watch(predictor, case) for case in cases]
    within = [t for t in THRESHOLDS if false_positives(watched, t) <= card.false_positives] or [THRESHOLDS[-1]]
    same = [t for t in within if _decided_by(watched, t) == _decided_by(watched, within[0])]
    threshold = same[len(same) // 2]
    shown = {
        "sensitivity": round(_sensitivity(watched, threshold), 4),
        "false_positives_per_image": round(false_positives(watched, threshold), 4),
    }
    if card.recalled_empty is None:
        return Decisions(threshold, figures=shown)
    point = next((t for t in THRESHOLDS if _recalled(watched, t, False) <= card.recalled_empty), THRESHOLDS[-1])
    shown |= {f"recalled_{name}": round(_recalled(watched, point, has), 4) for name, has in _WITH.items()}
    return Decisions(threshold, point, shown)


_WITH = {"positive": True, "negative": False}


def watch(predictor: Predictor, case: Case, rule: HitRule = PICAI) -> Watched:
    """All boxes or volume regions of one case, whatever their score, against its lesions."""
    image = first_image(case, predictor.recipe)
    found = predictor.findings(predictor.predict(image), 0.0)
    highest = max((one.score for one in found), default=0.0)
    return Watched(case, matched(case, image, found, not image.source_grid.is_volume, rule), highest)


def matched(
    case: Case, image: Image, found: Sequence[Finding], by_box: bool, rule: HitRule = PICAI
) -> tuple[MatchedLesion, ...]:
    """The lesions of a case, found or missed, and the false positives: by boxes, or by masks."""
    if by_box:
        boxes = np.array([one.extent.row for one in found]).reshape(-1, 2 * len(image.source_grid.shape))
        scores = np.array([one.score for one in found])
        instances = number_instances(read_values(case.known_truth, image))
        truth = enclosing_boxes(torch.from_numpy(instances.astype(np.int64)))[1].double().numpy()
        return match_boxes(boxes, scores, truth, rule)
    masks = [
        (one.full_mask() if one.volume_region is None else one.volume_region.full_mask(), one.score) for one in found
    ]
    return match_masks(masks, read_mask(case.known_truth, image), rule)


def false_positives(watched: Sequence[Watched], threshold: float) -> float:
    """False positives per image at a threshold."""
    return sum(not x.is_true and x.confidence >= threshold for one in watched for x in one.lesions) / len(watched)


def _decided_by(watched: Sequence[Watched], threshold: float) -> tuple[float, float]:
    return _sensitivity(watched, threshold), false_positives(watched, threshold)


def _sensitivity(watched: Sequence[Watched], threshold: float) -> float:
    """Share of lesions found; 0 where there are none."""
    there = [lesion.confidence for one in watched for lesion in one.lesions if lesion.is_true]
    return sum(confidence >= threshold for confidence in there) / max(1, len(there))


def _recalled(watched: Sequence[Watched], point: float, positive: bool) -> float:
    """Share of the patients with (or without) a lesion whose score reaches the point; 0 where there are none."""
    exams: dict[str, list[Watched]] = defaultdict(list)
    for one in watched:
        exams[one.case.patient_id].append(one)
    scores = [max(one.score for one in exam) for exam in exams.values() if any(o.is_positive for o in exam) is positive]
    return sum(score >= point for score in scores) / max(1, len(scores))


def _judge(predictor: Predictor, cases: Sequence[Case]) -> list[Judged]:
    """Every threshold on every case, through the same extraction as inference."""
    dices: dict[float, dict[str, list[float]]] = {t: defaultdict(list) for t in THRESHOLDS}
    marked: dict[float, dict[str, list[float]]] = {t: defaultdict(list) for t in THRESHOLDS}
    for case in cases:
        image = first_image(case, predictor.recipe)
        truth = outlined(case, image, [label.name for label in predictor.package.description.card.labels])
        everything = predictor.findings(predictor.predict(image), 0.0)
        for threshold in THRESHOLDS:
            found = [finding for finding in everything if finding.score >= threshold]
            if truth:
                dices[threshold][case.site].append(float(np.mean([overlap(found, *one) for one in truth.items()])))
            else:
                marked[threshold][case.site].append(float(bool(found)))
    return [_judged(t, dices[t], marked[t]) for t in THRESHOLDS]


def chosen(judged: Sequence[Judged], most_marked_empty: float) -> Judged:
    """The best threshold within what the card allows, or, where none is, among those that mark the fewest empty cases.

    Of several that do equally well the middle one, which is the farthest from doing worse.
    """
    fewest = min(j.marked_empty for j in judged)
    allowed = [j for j in judged if j.marked_empty <= max(most_marked_empty, fewest)]
    best = max(j.score for j in allowed)
    equal = sorted((j for j in allowed if j.score == best), key=lambda j: j.threshold)
    return equal[len(equal) // 2]


def _judged(threshold: float, dices: dict[str, list[float]], marked: dict[str, list[float]]) -> Judged:
    by_site = {site: dices.get(site, []) + [1 - m for m in marked.get(site, [])] for site in {*dices, *marked}}
    return Judged(
        threshold,
        dice=float(np.mean([np.mean(v) for v in dices.values()])),
        marked_empty=float(np.mean([np.mean(v) for v in marked.values()])) if marked else 0.0,
        score=float(np.mean([np.mean(v) for v in by_site.values()])),
    )


def outlined(case: Case, image: Image, labels: Sequence[str]) -> dict[str, Array]:
    """Where each label is, bool of the image's source grid; none for a label that is nowhere."""
    path = case.known_truth
    values = read_mask(path, image) if len(labels) == 1 else read_labels(path, image, labels)
    where = {label: values == number for number, label in enumerate(labels, start=1)}
    return {label: mask for label, mask in where.items() if mask.any()}


def overlap(found: Sequence[Finding], label: str, truth: Array) -> float:
    """Dice of all findings of a label with where it is, bool of the image's source grid."""
    own = np.zeros(truth.shape, dtype=bool)
    for finding in found:
        if finding.label == label:
            region = finding.volume_region
            own |= finding.full_mask() if region is None else region.full_mask()
    return float(2 * (own & truth).sum() / (own.sum() + truth.sum()))
