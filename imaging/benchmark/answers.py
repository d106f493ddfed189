"""What a network said of an image ⇄ a file (.npz) without a name, a date or an identifier in it.

The frames that an answer is about are not stored: they are those of the image, which is read again beside it.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from imaging.errors import InputError, OutputError, Reason
from imaging.findings import Detections, Prediction
from imaging.image import Array, Box, Grid, Image, SourceRef

Answer = Prediction | Detections
_NO_REF = SourceRef("unreferenced", "unreferenced", "", "unreferenced")


def write_answer(path: Path, answer: Answer | str) -> None:
    """An answer, or the reason code why there is none; the file appears whole. Raises OutputError."""
    told: dict[str, Array] = {}
    facts: dict[str, Any] = {"kind": "failed", "reason": answer} if isinstance(answer, str) else _facts(answer)
    if isinstance(answer, Prediction):
        told["probabilities"] = answer.probabilities
        if answer.within is not None:
            told["within"] = answer.within
    elif isinstance(answer, Detections):
        told |= {"boxes": answer.boxes, "scores": answer.scores, "labels": answer.labels}
    held = io.BytesIO()
    np.savez_compressed(held, allow_pickle=False, facts=np.array(json.dumps(facts, sort_keys=True)), **told)
    beside = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(held.getvalue())
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def read_answer(path: Path, image: Image | None) -> Answer | str:
    """What `write_answer` wrote, about the image again; a reason code where there is no answer.

    Raises InputError for a file that is not there or is none of these, and for an answer without its image.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        facts: dict[str, Any] = json.loads(str(arrays.pop("facts")))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"answer {path.name}: cannot be read", Reason.DECODE_FAILED) from error
    if facts["kind"] == "failed":
        return str(facts["reason"])
    if image is None:
        raise InputError(f"answer {path.name}: its image cannot be read any more", Reason.DECODE_FAILED)
    place: dict[str, Any] = {name: _grid(facts[name]) for name in ("grid", "source_grid")}
    ref = image.refs[0] if image.refs else _NO_REF
    place |= {"ref": ref, "region": None if facts["region"] is None else Box.from_row(np.array(facts["region"]))}
    if facts["kind"] == "detections":
        return Detections(**arrays, **place)
    return Prediction(
        arrays["probabilities"],
        **place,
        classes=tuple(facts["classes"]),
        presence=facts["presence"],
        slices=(image.refs or (ref,) * facts["slices"]) if facts["slices"] else (),
        within=arrays.get("within"),
    )


def _facts(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": "detections",
        "grid": _plain(answer.grid),
        "source_grid": _plain(answer.source_grid),
        "region": None if answer.region is None else answer.region.row.tolist(),
    }
    if isinstance(answer, Prediction):
        told |= {"kind": "prediction", "classes": answer.classes, "presence": answer.presence}
        told["slices"] = len(answer.slices)
    return told


def _plain(grid: Grid) -> dict[str, Any]:
    return {"shape": grid.shape, "affine": grid.affine.tolist(), "frame": grid.frame, "unit": grid.unit}


def _grid(stated: dict[str, Any]) -> Grid:
    return Grid(tuple(stated["shape"]), np.array(stated["affine"]), stated["frame"], stated["unit"])
