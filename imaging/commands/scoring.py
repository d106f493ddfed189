"""The work of `imaging evaluate`: predictions and truth in, metrics.json and index.html out, failures counted."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from tqdm import tqdm

from imaging.candidates import Extraction, Threshold
from imaging.commands.evaluation_inputs import (
    Sources,
    UnnamedClassError,
    UnscorableError,
    read_prediction,
    read_rating,
    read_truth,
    rows_of,
    second_sources,
    sources_of,
    subgroups_of,
)
from imaging.commands.evaluation_pictures import worst_pictures
from imaging.data.manifest import ManifestRow, with_predictions
from imaging.data.maps import Map
from imaging.data.pictures import whole
from imaging.data.predicted import EXAMINATION, NOTHING
from imaging.errors import ConfigError, ImagingError, OutputError, Reason
from imaging.evaluation.classification import ClassificationProtocol
from imaging.evaluation.detection import DetectionProtocol, by_exam, lesions_missed, score_maps
from imaging.evaluation.evaluate import (
    compare,
    evaluate_classification,
    evaluate_detection,
    evaluate_segmentation,
)
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.matching import HitRule, match_masks
from imaging.evaluation.merge import without_cases
from imaging.evaluation.page import render
from imaging.evaluation.page.pictures import Picture
from imaging.evaluation.result import (
    ClassificationCase,
    DetectionCase,
    EvaluationResult,
    Inputs,
    SegmentationCase,
)
from imaging.evaluation.segmentation import SegmentationProtocol, score_failure, score_masks
from imaging.table import NEARLY_ONE, likened, remarks_kept, tell

Scores = EvaluationResult
# Without --label whatever is not 0 is this, as in a training without data.labels.
_ONE_CLASS = ("lesion", 1)
# The subgroups by what the score of a DICOM result rests on.
_BASIS = "result"
_MANY = 2000
# From here on the work shows how far it is.
_MOMENT_S = 2.0
CaseT = TypeVar("CaseT", DetectionCase, SegmentationCase, ClassificationCase)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 or 1 (see the epilog of the command); raises ImagingError for what is status 2."""
    if args.resamples < 100:
        raise ConfigError(f"--resamples: found {args.resamples}; allowed are 100 or more", Reason.CONFIG_INVALID)
    inputs = Inputs(_sha256(args.manifest), _sha256(args.weights) if args.weights else "")
    how = Bootstrap(args.resamples, args.seed)
    with remarks_kept() as remarks:
        rows = rows_of(args)
        sources = sources_of(args, rows)
        result = _TASKS[args.task](args, rows, sources, how, inputs)
        unfound = _without_finding(result, "")
        if args.compare is not None:
            second = _second(args, rows, sources, how, inputs)
            unfound += _without_finding(second, " of --compare")
            result = compare(result, second)
    result = replace(result, remarks=(*remarks, *unfound))
    shown = without_cases(result) if args.aggregates else result
    write_metrics(args.out, shown)
    status = _told(args, rows, result, unfound)
    pictures: Sequence[Picture] = ()
    with figures_kept(args.out):
        if not args.aggregates:
            pictures = worst_pictures(result, rows, sources, _extraction(args))
        write_page(args.out, shown, pictures)
    return status


def _told(args: argparse.Namespace, rows: Sequence[ManifestRow], result: Scores, unfound: Sequence[str]) -> int:
    """Prints failures, figures and where they are written; the exit status."""
    failures = [(case_id, "", why) for case_id, why in result.failures]
    if result.comparison is not None:
        failures += [(case_id, " of --compare", why) for case_id, why in result.comparison.failures]
    for case_id, whose, why in failures:
        print(f"failed {case_id}{whose}: {why}", file=sys.stderr)
    print(f"{len(rows)} cases, {len(result.failures)} failed; {len(result.sites)} sites")
    for text in unfound:
        print(text)
    for figure in result.pooled.figures:
        print(f"{figure.name:36} {figure.text}")
    for one in result.comparison.differences if result.comparison else ():
        told = one.absent or f"{one.difference:+.3f}, p {one.p:.3g}, Holm {one.p_holm:.3g} ({one.method})"
        print(f"{one.name:36} first - second {told}")
    print(f"metrics  {(args.out / 'metrics.json').resolve()}", flush=True)
    return 1 if failures else 0


def _second(
    args: argparse.Namespace, rows: list[ManifestRow], first: Sources, how: Bootstrap, inputs: Inputs
) -> Scores:
    """The second model's record: the same rows with other predictions."""
    if args.task == "classification" and not args.compare.is_dir():
        rows, sources = with_predictions(rows, args.compare), Sources(args.compare.parent, first.truth)
    else:
        sources = second_sources(args, rows, first)
    return _TASKS[args.task](args, rows, sources, how, inputs)


def _extraction(args: argparse.Namespace) -> Extraction | None:
    return None if args.extract is None else Extraction(_threshold(args.extract))


def _detection(
    args: argparse.Namespace, rows: list[ManifestRow], sources: Sources, how: Bootstrap, inputs: Inputs
) -> Scores:
    protocol = DetectionProtocol(HitRule(args.hit, args.least), _extraction(args))
    cases = _each(rows, lambda row: _detection_case(args, row, sources, protocol))
    return evaluate_detection(by_exam(cases) if args.by_exam else cases, protocol, how, inputs)


def _each(rows: Sequence[ManifestRow], scored: Callable[[ManifestRow], CaseT]) -> list[CaseT]:
    """The case of each row, with a bar on a terminal; of many it is said that intervals follow, which take long."""
    shown = tqdm(rows, unit="case", delay=_MOMENT_S, leave=False, disable=not sys.stderr.isatty())
    cases = [scored(row) for row in shown]
    if len(cases) >= _MANY:
        sites = len({row.site for row in rows})
        print(f"imaging: {len(cases)} cases are scored; now the intervals of {sites} sites and of all", file=sys.stderr)
    return cases


def _threshold(text: str) -> Threshold:
    if text == "dynamic":
        return "dynamic"
    if text == "dynamic-fast":
        return "dynamic-fast"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ConfigError(
            f"--extract: found '{text}'; allowed are dynamic, dynamic-fast and a number above 0 up to 1",
            Reason.CONFIG_INVALID,
        )
    return value


def _detection_case(
    args: argparse.Namespace, row: ManifestRow, sources: Sources, protocol: DetectionProtocol
) -> DetectionCase:
    truth = read_truth(sources, row)
    failed, score, lesions = "", 0.0, lesions_missed(truth.array)
    try:
        prediction = read_prediction(sources, row, truth)
        if prediction.findings is not None:
            lesions = match_masks(prediction.findings, truth.array, protocol.rule)
            score = max((confidence for _, confidence in prediction.findings), default=0.0)
        else:
            _refuse_outside_unit(row, prediction.array)
            lesions, score = score_maps(prediction.array, truth.array, protocol)
    except UnnamedClassError:
        raise
    except ImagingError as error:
        failed = str(error)
    positive = bool(truth.array.any()) if row.case_truth is None else row.case_truth
    return DetectionCase(
        row.case_id, row.patient_id, row.site, positive, score, lesions, failed,
        exam_id=row.exam_id, subgroups=subgroups_of(args, row),
    )  # fmt: skip


def _refuse_outside_unit(row: ManifestRow, values: np.ndarray) -> None:
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise UnscorableError(
            f"case '{row.case_id}': the prediction has values from {values.min()} to {values.max()}; "
            "allowed are 0 to 1",
            Reason.PREDICTION_FAILED,
        )


def _segmentation(
    args: argparse.Namespace, rows: list[ManifestRow], sources: Sources, how: Bootstrap, inputs: Inputs
) -> Scores:
    labels = tuple(read_label(text) for text in args.label) or (_ONE_CLASS,)
    unit: Literal["mm", "pixel"] = "mm" if read_truth(sources, rows[0]).is_calibrated else "pixel"
    protocol = SegmentationProtocol(labels, args.tolerance, args.cap, unit=unit)
    seen: set[int] = set()
    cases = _each(rows, lambda row: _segmentation_case(args, row, sources, protocol, seen))
    if len(seen - {0}) > 1:
        values = ", ".join(map(str, sorted(seen - {0})))
        tell([f"truths: the values {values} count as one class, lesion; name classes by --label"])
    return evaluate_segmentation(cases, protocol, how, inputs)


def read_label(text: str) -> tuple[str, int]:
    """A class and its value, of NAME=VALUE. Raises ConfigError."""
    name, _, value = text.partition("=")
    if not name or not value.isdecimal() or int(value) == 0 or "," in name:
        raise ConfigError(
            f"--label: found '{text}'; allowed is NAME=VALUE with a value of 1 or more", Reason.CONFIG_INVALID
        )
    return name, int(value)


def _segmentation_case(
    args: argparse.Namespace, row: ManifestRow, sources: Sources, protocol: SegmentationProtocol, seen: set[int]
) -> SegmentationCase:
    """One case. `seen` takes the values of its truth where no class is named."""
    truth = read_truth(sources, row)
    if not args.label:
        seen |= {int(value) for value in np.unique(truth.array)}
        truth = replace(truth, array=_one_class(truth.array))
    if truth.is_calibrated != (protocol.unit == "mm"):
        raise ConfigError(
            f"{row.where}: found a truth {'with' if truth.is_calibrated else 'without'} a spacing, unlike the first "
            "one; allowed is a spacing_mm for every row that needs one, or for none",
            Reason.CONFIG_INVALID,
        )
    failed = ""
    overlaps = score_failure(truth.array, truth.spacing, protocol)
    try:
        prediction = _labels(row, read_prediction(sources, row, truth), protocol)
        overlaps = score_masks(
            prediction if args.label else _one_class(prediction), truth.array, truth.spacing, protocol
        )
    except ImagingError as error:
        failed = str(error)
    return SegmentationCase(row.case_id, row.patient_id, row.site, overlaps, failed, subgroups_of(args, row))


def _one_class(mask: np.ndarray) -> np.ndarray:
    """A label mask in which no class is named: 1 for whatever is not 0."""
    return np.asarray(mask != 0, dtype=np.uint8)


def _labels(row: ManifestRow, prediction: Map, protocol: SegmentationProtocol) -> np.ndarray:
    """The label mask of a prediction; the findings of a result are the one class there is."""
    if prediction.findings is not None and len(protocol.labels) == 1:
        return np.where(prediction.array, protocol.labels[0][1], 0)
    if prediction.findings is not None:
        raise UnscorableError(
            f"case '{row.case_id}': the prediction is no label mask; results in DICOM are allowed for one class",
            Reason.PREDICTION_FAILED,
        )
    return whole(f"case '{row.case_id}': the prediction is no label mask", prediction.array).astype(np.int64)


def _classification(
    args: argparse.Namespace, rows: list[ManifestRow], sources: Sources, how: Bootstrap, inputs: Inputs
) -> Scores:
    column, _, positive = (args.positive or "truth=1").partition("=")
    told = [row.value(column) for row in rows]
    for row, name in zip(rows, told, strict=True):
        if not name or (args.positive is None and name not in ("0", "1")):
            allowed = "a class" if args.positive else "0 and 1"
            raise ConfigError(
                f"case '{row.case_id}', {column}: found '{name}'; allowed are {allowed}", Reason.CONFIG_INVALID
            )
    if near := sorted({name for name in told if name != positive and likened(name) == likened(positive)}):
        raise ConfigError(
            f"--positive {args.positive}: found '{positive}' and '{near[0]}', which {NEARLY_ONE}; allowed is one",
            Reason.CONFIG_INVALID,
        )
    if args.positive and positive not in told:
        raise ConfigError(
            f"--positive {args.positive}: found the classes {', '.join(sorted(set(told)))}; allowed is one of them",
            Reason.CONFIG_INVALID,
        )
    truth = {row.where: name == positive for row, name in zip(rows, told, strict=True)}
    cases = _each(rows, lambda row: _classification_case(args, row, sources, truth[row.where]))
    return evaluate_classification(cases, ClassificationProtocol(), how, inputs)


def _classification_case(
    args: argparse.Namespace, row: ManifestRow, sources: Sources, truth: bool
) -> ClassificationCase:
    failed, score, subgroups = "", 0.0, subgroups_of(args, row)
    try:
        score, basis = _score(row, sources)
        # The score of a DICOM result also says what it rests on.
        subgroups = (*subgroups, *(((_BASIS, basis),) if basis else ()))
    except ImagingError as error:
        failed = str(error)
    return ClassificationCase(row.case_id, row.patient_id, row.site, truth, score, failed, subgroups)


def _score(row: ManifestRow, sources: Sources) -> tuple[float, str]:
    """The score of a case, and what it rests on where it is that of a DICOM result."""
    if row.where in sources.answers or (
        row.score is None and row.prediction and (sources.predictions / row.prediction).exists()
    ):
        rated = read_rating(sources, row)
        return rated.score, rated.basis
    if row.score is None:
        raise UnscorableError(
            f"case '{row.case_id}': the prediction is '{row.prediction}'; allowed is a number or a DICOM result",
            Reason.PREDICTION_FAILED,
        )
    if not 0 <= row.score <= 1:
        raise UnscorableError(
            f"case '{row.case_id}': the prediction is {row.score}; allowed are 0 to 1", Reason.PREDICTION_FAILED
        )
    return row.score, ""


def _without_finding(result: Scores, whose: str) -> list[str]:
    """How many cases stand in the figures although their results hold no finding, in words."""
    lines = []
    for basis in (EXAMINATION, NOTHING):
        cases = [case for case in result.classification if (_BASIS, basis) in case.subgroups]
        if cases:
            positive = sum(case.truth for case in cases)
            lines.append(f"{basis}{whose}: {len(cases)} cases, {positive} of them positive; all are in the figures")
    return lines


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; allowed is a readable file", Reason.CONFIG_INVALID) from error


def write_metrics(out: Path, result: EvaluationResult) -> None:
    """DIR/metrics.json, before any page. Raises OutputError when it cannot be written."""
    _written(out, "metrics.json", result.to_json())


def write_page(out: Path, result: EvaluationResult, pictures: Sequence[Picture] = ()) -> None:
    """DIR/index.html, its place told. Raises OutputError when it cannot be written."""
    _written(out, "index.html", render(result, pictures))
    print(f"page     {(out / 'index.html').resolve()}")


@contextmanager
def figures_kept(out: Path) -> Iterator[None]:
    """Says of whatever stops a page that the figures are written; the error goes on."""
    try:
        yield
    except Exception:
        kept = f"the figures are kept in {(out / 'metrics.json').resolve()}"
        print(f"page     not drawn; {kept}", file=sys.stderr)
        raise


def _written(out: Path, name: str, text: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"--out {out}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED
        ) from error


_TASKS: dict[str, Callable[[argparse.Namespace, list[ManifestRow], Sources, Bootstrap, Inputs], Scores]] = {
    "detection": _detection,
    "segmentation": _segmentation,
    "classification": _classification,
}
