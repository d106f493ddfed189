"""The rows and files of `imaging evaluate`: truth, prediction, rating and source image of a case.

A wrong truth or table stops the evaluation. A wrong or missing prediction raises `UnscorableError`, which the command
counts as a failed case.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from imaging.data.images import read_image
from imaging.data.manifest import ManifestRow, of_split, read_rows
from imaging.data.maps import BY_CLASS, MAPS, Map, of_class, placed, read_map
from imaging.data.pictures import is_picture_file, read_picture, whole
from imaging.data.predicted import Rated, predicted_findings, predicted_rating, read_results
from imaging.data.run_results import RunAnswer, is_run, read_run
from imaging.data.truth import read_mask
from imaging.errors import ConfigError, ImagingError, InputError, Reason
from imaging.evaluation.evaluate import refuse_repeats
from imaging.evaluation.result import SUPPRESSED_BELOW
from imaging.image import Array, Grid, Image, Origin, SourceRef
from imaging.table import file_named


class UnscorableError(InputError):
    """A prediction that cannot be scored: the case is counted as failed."""


class UnnamedClassError(ConfigError):
    """Which class of a prediction is looked for is not known: the command is wrong, and not the case."""


@dataclass(frozen=True)
class Sources:
    """Where the files of an evaluation are: the folders of its predictions and its truth.

    `answers` are what a run answered, by the place of the row in its table; they stand for the column of predictions.
    `channel` is the class that is meant of predictions with several.
    """

    predictions: Path
    truth: Path
    answers: Mapping[str, RunAnswer] = field(default_factory=dict)
    channel: int | None = None


def rows_of(args: argparse.Namespace) -> list[ManifestRow]:
    """The rows to score. Raises ConfigError for a wrong table, and for a subgroup that would name single patients."""
    needed = ("case_id", "patient_id", "site", "truth", "image" if args.results is not None else "prediction")
    positive, _, name = (args.positive or "truth=1").partition("=")
    if not (positive and name):
        raise ConfigError(f"--positive: found '{args.positive}'; allowed is COLUMN=CLASS", Reason.CONFIG_INVALID)
    rows = of_split(read_rows(args.manifest, needed, [*args.subgroup, positive]), args.split)
    refuse_repeats(rows)
    for column in args.subgroup:
        _refuse_identifiers(column, rows)
    return rows


def _refuse_identifiers(column: str, rows: Sequence[ManifestRow]) -> None:
    """Raises ConfigError for a column most of whose values belong to one patient each, as numbers and dates do."""
    patients: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if row.value(column):
            patients[row.value(column)].add((row.site, row.patient_id))
    alone = sum(len(those) == 1 for those in patients.values())
    if alone >= SUPPRESSED_BELOW and 2 * alone > len(patients):
        raise ConfigError(
            f"--subgroup {column}: found {alone} values of one patient each among {len(patients)} for {len(rows)} "
            "rows; allowed is a column whose values several patients share",
            Reason.CONFIG_INVALID,
        )


def subgroups_of(args: argparse.Namespace, row: ManifestRow) -> tuple[tuple[str, str], ...]:
    """The subgroups of a row: only columns that were named, and not the one that is the truth."""
    positive = (args.positive or "").partition("=")[0]
    named = sorted({column for column in args.subgroup if column != positive})
    return tuple((column, row.value(column)) for column in named if row.value(column))


def sources_of(args: argparse.Namespace, rows: Sequence[ManifestRow]) -> Sources:
    """The sources that the arguments name; folders that are not named are the table's. Raises ConfigError."""
    folder = args.manifest.parent
    if args.results is not None and args.predictions is not None:
        found = f"{args.results} and {args.predictions}"
        raise ConfigError(f"--run, --predictions: found {found}; allowed is one of them", Reason.CONFIG_INVALID)
    if args.package is not None and args.results is None:
        raise ConfigError(f"--package {args.package}: found no --run; allowed is beside it", Reason.CONFIG_INVALID)
    answers = {} if args.results is None else joined(args.results, args.package, rows)
    if args.channel is not None and args.channel < 0:
        raise ConfigError(f"--channel: found {args.channel}; allowed are 0 and more", Reason.CONFIG_INVALID)
    return Sources(args.predictions or folder, args.truth or folder, answers, args.channel)


def joined(run: Path, package: str | None, rows: Sequence[ManifestRow]) -> dict[str, RunAnswer]:
    """What a run answered for each row, by its place. Raises ConfigError for a row without an image, or where none of
    the images has the UIDs by which they are joined.
    """
    held, answers = read_run(run, package), {}
    for row in rows:
        image = row.line.file("image", row.folder)
        if image is None or not image.exists():
            raise row.line.wrong("image", row.image, "a DICOM file or the folder of a study, to join with --run")
        answers[row.where] = held.answer(image)
    if not any(answer.is_joined for answer in answers.values()):
        first = answers[rows[0].where].why_none
        raise ConfigError(
            f"--run {run}: found no image with UIDs among {len(rows)}; {rows[0].where}: {first}; allowed are the DICOM "
            "files that infer.py read",
            Reason.CONFIG_INVALID,
        )
    return answers


def second_sources(args: argparse.Namespace, rows: Sequence[ManifestRow], first: Sources) -> Sources:
    """The sources of the second model: another run beside --run, else a folder of predictions."""
    if args.results is not None and is_run(args.compare):
        return replace(first, answers=joined(args.compare, args.package, rows))
    if not args.compare.is_dir():
        raise ConfigError(f"--compare {args.compare}: allowed is a folder of predictions", Reason.CONFIG_INVALID)
    return Sources(args.compare, first.truth, channel=first.channel)


def read_truth(sources: Sources, row: ManifestRow) -> Map:
    """The truth mask of a row: a map, or a result in DICOM on the image of the row. Raises InputError."""
    path = row.line.file("truth", sources.truth)
    if path is None:
        raise InputError(f"{row.where}: truth is empty; allowed is a mask", Reason.CONFIG_INVALID)
    try:
        if path.name.lower().endswith(MAPS) or not path.is_file():
            found = read_map(path, row.spacing_mm)
            return replace(found, array=whole(f"truth {path.name}", found.array))
        image = _image(row)
        if image is None:
            raise InputError(
                f"truth {path.name}: found no image to lie on; allowed are maps, and DICOM with a column image",
                Reason.CONFIG_INVALID,
            )
        grid = image.source_grid
        return Map(read_mask(path, image), grid.spacing, grid, is_calibrated=grid.unit == "mm")
    except ImagingError as error:
        raise type(error)(f"case '{row.case_id}', {error}", error.reason) from error


def read_prediction(sources: Sources, row: ManifestRow, truth: Map) -> Map:
    """The prediction of a row on the truth's grid: a map, or the findings of a result, on an image or in a volume.

    Raises UnscorableError when there is none, when it cannot be read, and when its grid is another;
    UnnamedClassError where it has several classes and which one is meant is not known.
    """
    files, image_uid = _predicted(sources, row)
    try:
        if files[0].is_dir() or not files[0].name.lower().endswith(MAPS):
            found = predicted_findings(read_results(files), _truth_image(truth, image_uid))
            empty = np.zeros(truth.array.shape, dtype=np.bool_)
            union = np.any([mask for mask, _ in found], axis=0) if found else empty
            return replace(truth, array=union, findings=tuple(found))
        if sources.channel is not None and not files[0].name.lower().endswith(BY_CLASS):
            told = f"--channel {sources.channel}: {files[0].name} has no classes; allowed are {', '.join(BY_CLASS)}"
            raise ConfigError(told, Reason.CONFIG_INVALID)
        predicted = read_map(files[0], row.spacing_mm, sources.channel)
        if predicted.grid is None and predicted.array.shape[1:] == truth.array.shape:
            predicted = replace(predicted, array=of_class(files[0].name, predicted.array, sources.channel))
    except ConfigError as error:
        raise UnnamedClassError(f"case '{row.case_id}': {error}", error.reason) from error
    except ImagingError as error:
        raise UnscorableError(f"case '{row.case_id}': {error}", error.reason) from error
    values = placed(predicted, truth)
    if values is None:
        raise UnscorableError(
            f"case '{row.case_id}': the prediction's grid {predicted.array.shape} with spacing {predicted.spacing} is "
            f"not the truth's {truth.array.shape} with spacing {truth.spacing}; both must be the same",
            Reason.GEOMETRY,
        )
    return replace(truth, array=values)


def read_rating(sources: Sources, row: ManifestRow) -> Rated:
    """The probability of cancer that the results of a row state, of its image where one is named.

    Raises UnscorableError where nothing can be said (see `predicted_rating`).
    """
    files, image_uid = _predicted(sources, row)
    try:
        return predicted_rating(read_results(files), image_uid)
    except ImagingError as error:
        raise UnscorableError(f"case '{row.case_id}': {error}", error.reason) from error


def read_source(row: ManifestRow, truth: Map) -> Array | None:
    """The source image of a row on the truth's grid, for pictures; colours (…, 3) stay. None where there is none.

    An image that cannot be read, or has another grid, costs a picture and never a figure.
    """
    path = row.line.file("image", row.folder)
    if path is None or not path.is_file():
        return None
    try:
        if not is_picture_file(path):
            return placed(read_map(path), truth)
        found = read_picture(path)
    except (ImagingError, OSError, ValueError):
        return None
    coloured = found.shape == (*truth.array.shape, 3) and found.dtype == np.uint8
    return found if coloured or found.shape == truth.array.shape else None


def _predicted(sources: Sources, row: ManifestRow) -> tuple[list[Path], str]:
    """The files of a prediction, at least one, and the UID of the image that is meant. Raises UnscorableError."""
    answer = sources.answers.get(row.where)
    if answer is not None:
        if not answer.files:
            raise UnscorableError(f"case '{row.case_id}': {answer.why_none}", Reason.PREDICTION_FAILED)
        return list(answer.files), row.image_uid or answer.image_uid
    path = file_named(row.prediction, sources.predictions)
    if not row.prediction or not path.exists():
        raise UnscorableError(f"case '{row.case_id}': no prediction at '{row.prediction}'", Reason.PREDICTION_FAILED)
    return [path], row.image_uid


def _image(row: ManifestRow) -> Image | None:
    path = row.line.file("image", row.folder)
    return None if path is None else read_image(path, row.site)


def _truth_image(truth: Map, image_uid: str) -> Image:
    """The truth as the image on which results are placed. Raises InputError for a volume without a place."""
    shape = truth.array.shape
    refs = (SourceRef("", "", "", image_uid),) if image_uid else ()
    if len(shape) == 2:
        grid = Grid.plane(*shape)
        return Image(truth.array[None], grid, grid, refs, Origin())
    if truth.grid is None or truth.grid.frame != "patient_ras":
        raise InputError(
            "truth: has no place in the patient; beside DICOM results of volumes allowed are NIfTI and MHA",
            Reason.GEOMETRY,
        )
    return Image(truth.array[None], truth.grid, truth.grid, (), Origin())
