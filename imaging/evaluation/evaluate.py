"""Cases → the whole record of an evaluation, one function per task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import scipy

from imaging import __version__
from imaging.errors import ConfigError, Reason
from imaging.evaluation import classification, detection, segmentation
from imaging.evaluation.classification import ClassificationProtocol
from imaging.evaluation.detection import DetectionProtocol
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.result import (
    ClassificationCase,
    DetectionCase,
    EvaluationResult,
    Inputs,
    SegmentationCase,
    Task,
)
from imaging.evaluation.segmentation import SegmentationProtocol
from imaging.evaluation.sites import Case, CaseT, Plan, Summary, in_order, summarise

Words = dict[str, str | float | int]


def evaluate_detection(
    cases: Sequence[DetectionCase], protocol: DetectionProtocol, how: Bootstrap, inputs: Inputs | None = None
) -> EvaluationResult:
    """Detection over all cases, their sites and subgroups. Raises ConfigError when a case stands twice."""
    plan: Plan[DetectionCase] = Plan(lambda c: detection.measures(c, protocol), lambda case: case.truth, how)
    ordered = _prepared(cases)
    record = _record("detection", {**protocol.words, **_words(how)}, inputs, summarise(ordered, plan))
    return replace(record, detection=tuple(ordered))


def evaluate_segmentation(
    cases: Sequence[SegmentationCase], protocol: SegmentationProtocol, how: Bootstrap, inputs: Inputs | None = None
) -> EvaluationResult:
    """Segmentation over all cases, their sites and subgroups. Raises ConfigError when a case stands twice."""
    plan: Plan[SegmentationCase] = Plan(
        lambda c: segmentation.measures(c, protocol),
        lambda case: any(overlap.truth_volume > 0 for overlap in case.overlaps),
        how,
    )
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
    plan: Plan[ClassificationCase] = Plan(lambda c: classification.measures(c, protocol), lambda case: case.truth, how)
    ordered = _prepared(cases)
    record = _record("classification", {**protocol.words, **_words(how)}, inputs, summarise(ordered, plan))
    return replace(record, classification=tuple(ordered))


def evaluate_again(result: EvaluationResult) -> EvaluationResult:
    """The same evaluation from a record's own rows, under the protocol that it states."""
    words, how = result.protocol, _bootstrap(result.protocol)
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


def refuse_repeats(cases: Sequence[Case]) -> None:
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


def _bootstrap(words: Mapping[str, str | float | int]) -> Bootstrap:
    return Bootstrap(
        int(words["resamples"]),
        int(words["resampling_seed"]),
        float(words["interval_level"]),
        bool(words["interval_widened"]),
    )
