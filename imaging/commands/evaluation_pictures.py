"""Pictures of the worst cases of `imaging evaluate`: the files are read once more, those few only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imaging.candidates import Extraction, detection_map, extract_candidates
from imaging.commands.evaluation_inputs import Sources, read_prediction, read_source, read_truth
from imaging.data.manifest import ManifestRow
from imaging.data.maps import Map
from imaging.errors import ImagingError
from imaging.evaluation.page.pictures import Picture, PicturedCase, picture
from imaging.evaluation.page.worst import worst_cases
from imaging.evaluation.result import EvaluationResult

PICTURES = 12


def worst_pictures(
    result: EvaluationResult, rows: Sequence[ManifestRow], sources: Sources, extraction: Extraction | None = None
) -> list[Picture]:
    """Thumbnails of the worst cases that have a prediction.

    None for a task without maps, and none for a case whose files do not make a picture.
    """
    if result.task == "classification":
        return []
    named = {(row.site, row.case_id): row for row in rows}
    drawn: list[Picture] = []
    for case in worst_cases(result):
        row = named.get((case.site, case.case_id))  # a joined exam has no row of its own
        if row is None or case.failed:
            continue
        try:
            seen = _seen(row, sources, extraction)
        except ImagingError:
            continue
        if seen is not None:
            drawn.append(picture(row.case_id, row.site, seen))
        if len(drawn) == PICTURES:
            break
    return drawn


def _seen(row: ManifestRow, sources: Sources, extraction: Extraction | None) -> PicturedCase | None:
    truth = read_truth(sources, row)
    if truth.array.ndim not in (2, 3):
        return None
    prediction = read_prediction(sources, row, truth)
    base = read_source(row, truth)
    return PicturedCase(
        prediction.array if base is None else base, _labels(truth.array), _shown(prediction, extraction), truth.spacing
    )


def _shown(prediction: Map, extraction: Extraction | None) -> np.ndarray:
    """What is outlined of a prediction: the candidates that were cut, or whatever is above 0."""
    if extraction is None or prediction.findings is not None:
        return _labels(prediction.array)
    cut = detection_map(extract_candidates(prediction.array, extraction), prediction.array.shape)
    return _labels(cut)


def _labels(values: np.ndarray) -> np.ndarray:
    """Labels as they are; of confidences, what is above 0."""
    if np.issubdtype(values.dtype, np.floating) and np.any(values != np.round(values)):
        return (values > 0).astype(np.int64)
    return values.astype(np.int64)
