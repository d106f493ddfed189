"""Detection figures: the PI-CAI protocol, FROC under a stated hit rule, and probabilistic F1.

Failure policy: a case without a prediction has missed all its lesions; its case score ranks below every other when it
is positive, above every other when it is negative, and a negative one adds one false positive at every threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast, get_args

import numpy as np

from imaging.candidates import Extraction, components, detection_map, extract_candidates
from imaging.evaluation.matching import PICAI, Array, Bools, Floats, HitRule, MatchedLesion, RuleKind, match_maps
from imaging.evaluation.ranking import Auroc, Average, AveragePrecision, Calls, SensitivityAtRate, Statistic
from imaging.evaluation.result import Counts, DetectionCase
from imaging.evaluation.sites import LEAST_PER_CLASS, SiteMeasure, too_few

RATES = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
OCTAVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class DetectionProtocol:
    """`extraction` is None where the predictions are detection maps already, with one confidence per candidate.

    `rates` are false positives per image at which sensitivity is given.
    """

    rule: HitRule = PICAI
    extraction: Extraction | None = None
    rates: tuple[float, ...] = tuple(sorted({*RATES, *OCTAVES}))

    @property
    def words(self) -> dict[str, str | float | int]:
        """The protocol as the result states it."""
        return {
            "hit_rule": self.rule.text,
            "hit_rule_kind": self.rule.kind,
            "hit_rule_least": self.rule.least,
            "false_positives_per_image": ", ".join(f"{rate:g}" for rate in self.rates),
            "candidates": "as given" if self.extraction is None else str(self.extraction.threshold),
            "connectivity": "faces, edges and corners",
            "case_score": "highest confidence",
            "second_candidate_on_a_found_lesion": "dropped",
            "failed_case": "lesions missed; case score worst of all; one false positive at every threshold if negative",
        }

    @staticmethod
    def from_words(words: Mapping[str, str | float | int]) -> DetectionProtocol:
        """The protocol that a result states, for figures from its rows; candidates are cut already."""
        kinds: tuple[RuleKind, ...] = get_args(RuleKind)
        rule = HitRule(kinds[kinds.index(cast("RuleKind", words["hit_rule_kind"]))], float(words["hit_rule_least"]))
        rates = tuple(float(rate) for rate in str(words["false_positives_per_image"]).split(", "))
        return DetectionProtocol(rule, None, rates)


def score_maps(
    detection: Array, truth: Array, protocol: DetectionProtocol | None = None
) -> tuple[tuple[MatchedLesion, ...], float]:
    """Lesions and case score (highest confidence, 0 without a candidate) of one map against one truth mask."""
    protocol = protocol or DetectionProtocol()
    if protocol.extraction is not None:
        detection = detection_map(extract_candidates(detection, protocol.extraction), detection.shape)
    return match_maps(detection, truth, protocol.rule), float(np.max(detection, initial=0.0))


def lesions_missed(truth: Array) -> tuple[MatchedLesion, ...]:
    """What a failed case has to account for: every lesion of its truth mask, missed."""
    return (MatchedLesion(True, 0.0),) * components(truth)[1]


def by_exam(cases: Sequence[DetectionCase]) -> list[DetectionCase]:
    """Images of one exam as one case: a lesion seen in several images (same key) is found when one of them found it.

    False positives of all images stay. The exam is positive when any image is, and failed when any image failed.
    """
    exams: dict[tuple[str, str], list[DetectionCase]] = defaultdict(list)
    for case in cases:
        exams[case.site, case.exam_id or case.case_id].append(case)
    return [_joined(name, images) for (_, name), images in exams.items()]


def _joined(name: str, images: list[DetectionCase]) -> DetectionCase:
    best: dict[str, MatchedLesion] = {}
    single: list[MatchedLesion] = []
    for lesion in (lesion for image in images for lesion in image.lesions):
        if not (lesion.is_true and lesion.key):
            single.append(lesion)
        elif lesion.key not in best or lesion.confidence > best[lesion.key].confidence:
            best[lesion.key] = lesion
    return replace(
        images[0],
        case_id=name,
        truth=any(image.truth for image in images),
        score=max(image.score for image in images),
        lesions=(*best.values(), *single),
        failed="; ".join(sorted({image.failed for image in images if image.failed})),
        n_images=1,
    )


@dataclass(frozen=True, eq=False)
class Account:
    """All cases flat: per lesion line its case, truth and confidence; per case its truth, score and images."""

    case: Array
    is_true: Bools
    confidence: Floats
    truth: Bools
    score: Floats
    n_images: Floats

    @staticmethod
    def of(cases: Sequence[DetectionCase]) -> Account:
        """The account of cases, with the failure policy applied."""
        lines = [(k, x.is_true, x.confidence) for k, case in enumerate(cases) for x in case.lesions]
        lines += [(k, False, np.inf) for k, case in enumerate(cases) if case.failed and not case.truth]
        score = [(-np.inf if case.truth else np.inf) if case.failed else case.score for case in cases]
        return Account(
            np.array([line[0] for line in lines], dtype=np.intp),
            np.array([line[1] for line in lines], dtype=np.bool_),
            np.array([line[2] for line in lines], dtype=np.float64),
            np.array([case.truth for case in cases], dtype=np.bool_),
            np.array(score, dtype=np.float64),
            np.array([case.n_images for case in cases], dtype=np.float64),
        )

    @property
    def classes(self) -> tuple[int, int]:
        """Positive and negative cases."""
        return int(self.truth.sum()), int((~self.truth).sum())

    def auroc(self) -> Statistic:
        return Auroc(self.truth, self.score)

    def average_precision(self) -> Statistic:
        return AveragePrecision(self.case, self.is_true, self.confidence)

    def sensitivity_at(self, rate: float) -> Statistic:
        return SensitivityAtRate(self._calls, self.n_images, rate)

    @cached_property
    def _calls(self) -> Calls:
        return Calls(self.case, self.is_true, self.confidence)


def measures(cases: Sequence[DetectionCase], protocol: DetectionProtocol) -> list[SiteMeasure]:
    """The figures of detection on these cases, in the order of a table."""
    account = Account.of(cases)
    lesion_counts, case_counts = _lesion_counts(cases, account), _case_counts(cases)
    n_lesions = int(account.is_true.sum())
    probability = _probabilities(cases)
    no_probability = "" if probability.max(initial=0) <= 1 else "n/a (scores above 1 are no probabilities)"
    no_lesions = "" if n_lesions >= LEAST_PER_CLASS else f"n/a ({n_lesions} positives)"
    no_classes = too_few(account.truth)
    return [
        SiteMeasure(
            "score", Average(account.average_precision(), account.auroc()), case_counts, no_classes or no_lesions
        ),
        SiteMeasure("auroc", account.auroc(), case_counts, no_classes, "logit", classes=account.classes),
        SiteMeasure("average_precision", account.average_precision(), lesion_counts, no_lesions),
        *(
            SiteMeasure(f"sensitivity_at_{rate:g}_per_image", account.sensitivity_at(rate), lesion_counts, no_lesions)
            for rate in protocol.rates
        ),
        SiteMeasure("pf1", ProbabilisticF1(account.truth, probability), case_counts, no_classes or no_probability),
    ]


class ProbabilisticF1:
    """Harmonic mean of probabilistic precision and recall of cases, without a threshold.

    Each case counts its score, which must be in 0-1, as its share of a prediction (Yacouby & Axman, Eval4NLP 2020).
    """

    def __init__(self, truth: Array, probability: Array) -> None:
        self._truth = np.asarray(truth, dtype=np.float64)
        self._probability = np.asarray(probability, dtype=np.float64)

    def __call__(self, weights: Floats) -> Floats:
        found = (self._probability * self._truth) @ weights
        claimed, there = self._probability @ weights, self._truth @ weights
        below = claimed + there
        return np.asarray(np.divide(2 * found, below, out=np.full(below.shape, np.nan), where=there > 0))


def _probabilities(cases: Sequence[DetectionCase]) -> Floats:
    """Case scores, the failed ones at their worst."""
    return np.array([(0.0 if c.truth else 1.0) if c.failed else c.score for c in cases], dtype=np.float64)


def _lesion_counts(cases: Sequence[DetectionCase], account: Account) -> Counts:
    missed = int((account.is_true & (account.confidence <= 0)).sum())
    total = int(account.is_true.sum())
    failed = sum(x.is_true for c in cases if c.failed for x in c.lesions)
    return Counts(total, total - failed, missed, _false_on_empty(cases), failed)


def _case_counts(cases: Sequence[DetectionCase]) -> Counts:
    failed = sum(bool(c.failed) for c in cases)
    missed = sum(c.truth and (bool(c.failed) or c.score <= 0) for c in cases)
    return Counts(len(cases), len(cases) - failed, missed, _false_on_empty(cases), failed)


def _false_on_empty(cases: Sequence[DetectionCase]) -> int:
    return sum(not c.truth and not c.failed and any(not x.is_true for x in c.lesions) for c in cases)
