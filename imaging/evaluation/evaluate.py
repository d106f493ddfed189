"""Cases → the whole record of an evaluation, one function per task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import scipy

from imaging import __version__
from imaging.errors import ConfigError, Reason
from imaging.evaluation import classification, detection, segmentation
from imaging.evaluation.classification import ClassificationProtocol
from imaging.evaluation.comparison import compare_measures
from imaging.evaluation.detection import DetectionProtocol
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.result import (
    ClassificationCase,
    Comparison,
    DetectionCase,
    EvaluationResult,
    Inputs,
    SegmentationCase,
    Task,
)
from imaging.evaluation.segmentation import SegmentationProtocol
from imaging.evaluation.sites import CaseT, SitePlan, Summary, in_order, summarise

Words = dict[str, str | float | int]


class Named(Protocol):
    """What belongs to a case of a site."""

    @property
    def case_id(self) -> str: ...
    @property
    def site(self) -> str: ...


# What a comparison of two models tests; few and fixed, because each one costs the others in Holm's correction.
ENDPOINTS = (
    "score",
    "auroc",
    "average_precision",
    *(f"sensitivity_at_{rate}_per_image" for rate in ("0.5", "1", "2")),
    "brier",
)
ENDPOINTS_PER_LABEL = ("dice", "nsd", "hd95", "lesion_sensitivity", "specificity_on_empty")


def evaluate_detection(
    cases: Sequence[DetectionCase], protocol: DetectionProtocol, how: Bootstrap, inputs: Inputs | None = None
) -> EvaluationResult:
    """Detection over all cases, their sites and subgroups. Raises ConfigError when a case stands twice."""
    plan = _detection_plan(protocol, how)
    ordered = _prepared(cases)
    record = _record("detection", {**protocol.words, **_words(how)}, inputs, summarise(ordered, plan))
    return replace(record, detection=tuple(ordered))


def evaluate_segmentation(
    cases: Sequence[SegmentationCase], protocol: SegmentationProtocol, how: Bootstrap, inputs: Inputs | None = None
) -> EvaluationResult:
    """Segmentation over all cases, their sites and subgroups. Raises ConfigError when a case stands twice."""
    plan = _segmentation_plan(protocol, how)
    ordered = _prepared(cases)
    record = _record("segmentation", {**protocol.words, **_words(how)}, inputs, summarise(ordered, plan))
    return replace(record, segmentation=tuple(ordered))


def evaluate_classification(
    cases: Sequence[ClassificationCase],
    protocol: ClassificationProtocol,
    how: Bootstrap,
    inputs: Inputs | None = None,
) -> EvaluationResult:
    """Classification over all cases, their sites and subgroups. Raises ConfigError when a case stands twice."""
    plan = _classification_plan(protocol, how)
    ordered = _prepared(cases)
    record = _record("classification", {**protocol.words, **_words(how)}, inputs, summarise(ordered, plan))
    return replace(record, classification=tuple(ordered))


def _detection_plan(protocol: DetectionProtocol, how: Bootstrap) -> SitePlan[DetectionCase]:
    return SitePlan(lambda c: detection.measures(c, protocol), lambda case: case.truth, how)


def _segmentation_plan(protocol: SegmentationProtocol, how: Bootstrap) -> SitePlan[SegmentationCase]:
    return SitePlan(
        lambda c: segmentation.measures(c, protocol),
        lambda case: any(overlap.truth_volume > 0 for overlap in case.overlaps),
        how,
    )


def _classification_plan(protocol: ClassificationProtocol, how: Bootstrap) -> SitePlan[ClassificationCase]:
    return SitePlan(lambda c: classification.measures(c, protocol), lambda case: case.truth, how)


def compare(first: EvaluationResult, second: EvaluationResult) -> EvaluationResult:
    """The first record with the second model beside it: its figures, and paired differences of the task's endpoints.

    Both hold the rows of the same cases under one protocol. Raises ConfigError otherwise.
    """
    if (first.task, first.protocol) != (second.task, second.protocol):
        raise ConfigError("comparison: found two protocols; both models must be scored by one", Reason.CONFIG_INVALID)
    words, how = first.protocol, bootstrap_of(first)
    if first.task == "detection":
        plan = _detection_plan(DetectionProtocol.from_words(words), how)
        differences = compare_measures(first.detection, second.detection, plan, ENDPOINTS)
    elif first.task == "segmentation":
        drawn = SegmentationProtocol.from_words(words)
        names = [f"{label} {drawn.figure(name)}" for label, _ in drawn.labels for name in ENDPOINTS_PER_LABEL]
        masks = _segmentation_plan(drawn, how)
        differences = compare_measures(first.segmentation, second.segmentation, masks, names)
    else:
        protocol = ClassificationProtocol.from_words(words)
        names = [*ENDPOINTS, *(f"sensitivity_at_specificity_{s:g}" for s in protocol.specificities)]
        scored = _classification_plan(protocol, how)
        differences = compare_measures(first.classification, second.classification, scored, names)
    return replace(first, comparison=Comparison(second.pooled, second.sites, differences, second.failures))


def evaluate_again(result: EvaluationResult) -> EvaluationResult:
    """The same evaluation from a record's own rows, under the protocol that it states."""
    words, how = result.protocol, bootstrap_of(result)
    if result.task == "detection":
        return evaluate_detection(result.detection, DetectionProtocol.from_words(words), how, result.inputs)
    if result.task == "segmentation":
        return evaluate_segmentation(result.segmentation, SegmentationProtocol.from_words(words), how, result.inputs)
    return evaluate_classification(result.classification, ClassificationProtocol.from_words(words), how, result.inputs)


def _prepared(cases: Sequence[CaseT]) -> list[CaseT]:
    if not cases:
        raise ConfigError("evaluation: found 0 cases; allowed are one or more", Reason.CONFIG_INVALID)
    refuse_repeats(cases)
    return in_order(cases)


def refuse_repeats(cases: Sequence[Named]) -> None:
    """Raises ConfigError when two cases of one site have one name."""
    often = Counter((case.site, case.case_id) for case in cases)
    twice = sorted(key for key, n in often.items() if n > 1)
    if twice:
        raise ConfigError(
            f"evaluation, case_id: found '{twice[0][1]}' of site '{twice[0][0]}' {often[twice[0]]} times, "
            f"{len(twice)} repeated in all; allowed is once",
            Reason.CONFIG_INVALID,
        )


def _record(task: Task, protocol: Words, inputs: Inputs | None, summary: Summary) -> EvaluationResult:
    return EvaluationResult(
        task=task,
        toolkit=f"sitewise-imaging {__version__}",
        versions={"numpy": np.__version__, "scipy": scipy.__version__},
        protocol=protocol,
        inputs=inputs or Inputs(),
        pooled=summary.pooled,
        sites=summary.sites,
        macro=summary.macro,
        heterogeneity=summary.heterogeneity,
        subgroups=summary.subgroups,
    )


def _words(how: Bootstrap) -> Words:
    return {
        "resamples": how.n_resamples,
        "resampling_seed": how.seed,
        "interval_level": how.level,
        "interval_widened": int(how.widened),
    }


def bootstrap_of(result: EvaluationResult) -> Bootstrap:
    """How the intervals of a record were drawn."""
    words = result.protocol
    return Bootstrap(
        int(words["resamples"]),
        int(words["resampling_seed"]),
        float(words["interval_level"]),
        bool(words["interval_widened"]),
    )
