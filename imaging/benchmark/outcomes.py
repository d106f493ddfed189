"""Packages and cases → what each case came to, by the one path of inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imaging.benchmark.trials import CaseOutcome, Mark
from imaging.data.dataset import first_image
from imaging.data.manifest import Case
from imaging.data.truth import read_values
from imaging.errors import ConfigError, ImagingError, Reason
from imaging.evaluation.page.pictures import PicturedCase
from imaging.findings import Detections, Finding, Prediction
from imaging.image import UNKNOWN, Image
from imaging.predictor import Predictor
from imaging.thresholds import matched, outlined, overlap


def outcomes_of(networks: Sequence[Predictor], cases: Sequence[Case], point: float | None) -> list[CaseOutcome]:
    """One outcome for each case; a case that cannot be read has failed, with its reason.

    Several networks answer by the mean of their probabilities at the mean of their thresholds. `point` is the score
    from which a case is recalled. Raises ConfigError where several networks give boxes, which have no mean.
    """
    if len(networks) > 1 and "boxes" in networks[0].package.description.network.gives:
        raise ConfigError(
            "designs.consensus: found networks that give boxes; allowed are networks that outline", _WRONG
        )
    return [_outcome(networks, case, point) for case in cases]


_WRONG = Reason.CONFIG_INVALID


def operating_point(outcomes: Sequence[CaseOutcome]) -> float | None:
    """The score with the highest sum of sensitivity and specificity (Youden, Cancer 1950), of several the middle one.

    None where no scored case is positive, or none is negative.
    """
    known = [(one.score, one.positive) for one in outcomes if one.score is not None and one.positive is not None]
    scores = np.array([score for score, _ in known])
    truth = np.array([positive for _, positive in known], dtype=bool)
    if not truth.any() or truth.all():
        return None
    points = np.unique(scores)
    sums = [(scores[truth] >= t).mean() + (scores[~truth] < t).mean() for t in points]
    best = points[np.isclose(sums, max(sums))]
    return float(best[len(best) // 2])


def _outcome(networks: Sequence[Predictor], case: Case, point: float | None) -> CaseOutcome:
    first, image = networks[0], None
    try:
        image = first_image(case, first.recipe)
        prediction = _mean([network.predict(image) for network in networks])
    except ImagingError as error:
        return unanswered(first, case, image, error.reason)
    threshold = float(np.mean([network.package.description.threshold for network in networks]))
    return answered(first, case, (image, prediction), threshold, point)


def unanswered(network: Predictor, case: Case, image: Image | None, reason: str) -> CaseOutcome:
    """The outcome of a case that got no answer, for the reason; `image` is None where it could not be read."""
    return replace(_begun(network, case, image), dice=0.0, failed=str(reason))


def answered(
    network: Predictor,
    case: Case,
    read: tuple[Image, Prediction | Detections],
    threshold: float,
    point: float | None,
) -> CaseOutcome:
    """The outcome of a case by its image and what a network says of it; from the score `point` on it is recalled."""
    image, prediction = read
    told, everything = _begun(network, case, image), network.findings(prediction, 0.0)
    score = _score(network, prediction, everything)
    told = replace(told, score=score, recalled=None if point is None else score >= point)
    if case.truth is None:
        return told
    return _compared(network, case, image, [one for one in everything if one.score >= threshold], told)


def _begun(network: Predictor, case: Case, image: Image | None) -> CaseOutcome:
    """What is known of a case before it is answered."""
    told = CaseOutcome(case.case_id, case.patient_id, case.site, label=case.label)
    told = replace(told, positive=_rated_positive(network, case))
    if image is None:
        return told
    return replace(told, scanner=_known(image.origin.scanner), protocol=_known(image.origin.protocol))


def _compared(network: Predictor, case: Case, image: Image, found: Sequence[Finding], told: CaseOutcome) -> CaseOutcome:
    """The outcome with what was marked, beside the truth."""
    by_box = "boxes" in network.package.description.network.gives
    lesions = matched(case, image, found, by_box)
    there = [lesion for lesion in lesions if lesion.is_true]
    marks = [Mark(lesion.confidence, number) for number, lesion in enumerate(there) if lesion.confidence > 0]
    marks += [Mark(lesion.confidence) for lesion in lesions if not lesion.is_true]
    dice = None
    if not by_box:
        truth = outlined(case, image, [label.name for label in network.package.description.card.labels])
        dice = float(np.mean([overlap(found, *one) for one in truth.items()])) if truth else None
    is_rated = network.package.description.card.rating is not None
    return replace(
        told,
        lesions=len(there),
        marks=tuple(marks),
        dice=dice,
        positive=told.positive if is_rated else bool(there),
    )


def pictured(network: Predictor, case: Case) -> PicturedCase:
    """A case with its truth and what is marked at the threshold."""
    image = first_image(case, network.recipe)
    found = network.findings(network.predict(image), network.package.description.threshold)
    marked = np.zeros(image.source_grid.shape, dtype=np.int64)
    for one in found:
        region = one.volume_region
        marked[one.full_mask() if region is None else region.full_mask()] = 1
    truth = (read_values(case.known_truth, image) > 0).astype(np.int64)
    base = image.array[0] if len(image.array) != 3 else np.moveaxis(image.array, 0, -1)
    return PicturedCase(base, truth, marked, image.source_grid.spacing)


def _mean(said: Sequence[Prediction | Detections]) -> Prediction | Detections:
    """One prediction; of several the mean of all probabilities."""
    first = said[0]
    if len(said) == 1 or not isinstance(first, Prediction):
        return first
    others = [one for one in said if isinstance(one, Prediction)]
    return replace(
        first,
        probabilities=np.mean([one.probabilities for one in others], axis=0),
        classes=tuple(np.mean([one.classes for one in others], axis=0).tolist()),
        presence=float(np.mean([one.presence for one in others])),
    )


def _score(network: Predictor, prediction: Prediction | Detections, everything: Sequence[Finding]) -> float:
    """The chance of the class that the card's rating calls positive; without a rating the highest mark."""
    card = network.package.description.card
    if card.rating is None or not isinstance(prediction, Prediction):
        return max((one.score for one in everything), default=0.0)
    return float(prediction.classes[[one.name for one in card.classes].index(card.rating.positive)])


def _rated_positive(network: Predictor, case: Case) -> bool | None:
    """What the label says of the rating; None where nothing is rated, or the label is none of its classes."""
    card = network.package.description.card
    if card.rating is None or case.label not in [one.name for one in card.classes]:
        return None
    return case.label == card.rating.positive


def _known(value: str) -> str:
    return "" if value == UNKNOWN else value
