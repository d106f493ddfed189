"""Which cases cost most, in a table's words: failed ones first, then by what was missed or claimed."""

from __future__ import annotations

from dataclasses import dataclass

from imaging.evaluation.result import ClassificationCase, DetectionCase, EvaluationResult, Overlap, SegmentationCase

_STATES = {
    "missed": "missed",
    "failed": "no prediction",
    "failed_on_empty": "no prediction",
    "false_positive_on_empty": "claimed where nothing is there",
}


@dataclass(frozen=True, slots=True)
class WorstCase:
    """One case, what it is, what was predicted, and why it is bad; `failed` is the reason without a prediction."""

    case_id: str
    patient_id: str
    site: str
    truth: str
    predicted: str
    wrong: str
    failed: str


def worst_cases(result: EvaluationResult) -> list[WorstCase]:
    """Every case that is wrong somewhere, the worst first; the order does not depend on that of the files."""
    rows = [
        *(_detection(case) for case in result.detection),
        *(_segmentation(case) for case in result.segmentation),
        *(_classification(case) for case in result.classification),
    ]
    return [row for cost, row in sorted(rows, key=lambda r: (-r[0], r[1].site, r[1].case_id)) if cost > 0]


def _classification(case: ClassificationCase) -> tuple[float, WorstCase]:
    truth = "positive" if case.truth else "negative"
    if case.failed:
        return 2, _told(case, truth, "none", "no prediction")
    gap = abs(case.score - case.truth)
    return gap, _told(case, truth, f"{case.score:.3f}", f"off by {gap:.3f}")


def _detection(case: DetectionCase) -> tuple[float, WorstCase]:
    lesions = [x for x in case.lesions if x.is_true]
    missed = sum(x.confidence <= 0 for x in lesions)
    false = [x.confidence for x in case.lesions if not x.is_true]
    truth = "1 lesion" if len(lesions) == 1 else f"{len(lesions) or 'no'} lesions"
    if case.truth and not lesions:
        truth = "positive, none delineated"
    if case.failed:
        return 1e6, _told(case, truth, "none", "no prediction")
    wrong = [f"{missed} missed"] if missed else []
    wrong += [f"{len(false)} false positive{'s' * (len(false) > 1)}, highest {max(false):.3f}"] if false else []
    found = len(lesions) - missed
    predicted = f"case score {case.score:.3f}, {found} found"
    weakest = max((1 - min(x.confidence, 1.0) for x in lesions), default=(1 - case.score) if case.truth else 0.0)
    return missed + max(weakest, max(false, default=0.0)), _told(case, truth, predicted, "; ".join(wrong) or "found")


def _segmentation(case: SegmentationCase) -> tuple[float, WorstCase]:
    there = [f"{o.label} {o.truth_volume:.2f}" for o in case.overlaps if o.truth_volume > 0]
    claimed = [f"{o.label} {o.predicted_volume:.2f}" for o in case.overlaps if o.predicted_volume > 0]
    cost = max((_overlap_cost(o) for o in case.overlaps), default=0.0)
    wrong = [_overlap_words(o) for o in case.overlaps if o.state != "true_negative"]
    return cost + 1e6 * bool(case.failed), _told(
        case, ", ".join(there) or "nothing", ", ".join(claimed) or "nothing", "; ".join(wrong)
    )


def _overlap_cost(overlap: Overlap) -> float:
    if overlap.state == "both":
        return 1 - (overlap.dice or 0.0)
    return {"missed": 2.0, "failed": 3.0, "false_positive_on_empty": 1.5}.get(overlap.state, 0.0)


def _overlap_words(overlap: Overlap) -> str:
    if overlap.state == "both":
        return f"{overlap.label} Dice {overlap.dice:.3f}, HD95 {overlap.hd95:.1f}"
    return f"{overlap.label} {_STATES[overlap.state]}"


def _told(
    case: DetectionCase | SegmentationCase | ClassificationCase, truth: str, predicted: str, wrong: str
) -> WorstCase:
    return WorstCase(case.case_id, case.patient_id, case.site, truth, predicted, wrong, case.failed)
