"""Which candidate answers which true lesion: components, hit rules and the assignment between them.

Masks are ([slice,] row, column). Components join over faces, edges and corners (26 neighbours in 3-D, 8 in 2-D).
Boxes are (n, 2d), low then high corner in array axis order, corner convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from imaging.candidates import components, window_of
from imaging.errors import ConfigError, GeometryError, Reason

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
RuleKind = Literal["overlap", "centre_in_box", "centre_distance"]

# The published implementation of the PI-CAI protocol smooths its overlap so; ties between 1/3 and 2/6 fall with it.
_SMOOTHING = 1e-8


@dataclass(frozen=True)
class HitRule:
    """When a candidate answers a lesion, as it stands in every result.

    `overlap`: intersection over union of at least `least`; `centre_in_box`: the candidate's centre lies in the true
    box, borders included; `centre_distance`: centres are at most `least` apart, in the unit of the coordinates.
    """

    kind: RuleKind = "overlap"
    least: float = 0.10

    def __post_init__(self) -> None:
        upper = 1.0 if self.kind == "overlap" else np.inf
        if self.kind != "centre_in_box" and not 0.0 < self.least <= upper:
            raise ConfigError(
                f"HitRule.least: found {self.least} for {self.kind}; allowed is above 0 and at most {upper}",
                Reason.CONFIG_INVALID,
            )

    @property
    def text(self) -> str:
        """One line for a table's foot."""
        if self.kind == "overlap":
            return f"IoU of at least {self.least:g}"
        return "centre in the true box" if self.kind == "centre_in_box" else f"centres at most {self.least:g} apart"


PICAI = HitRule("overlap", 0.10)


@dataclass(frozen=True, slots=True)
class MatchedLesion:
    """One line of a detection's account.

    A true lesion with the confidence that found it (0 when missed) and its overlap, or a false positive. `key` names
    a true lesion, so that the same lesion in two images of an exam is known as one; empty where there is no name.
    """

    is_true: bool
    confidence: float
    overlap: float = 0.0
    key: str = ""


def overlaps(truth: NDArray[np.int32], n_truth: int, candidates: NDArray[np.int32], n_candidates: int) -> Floats:
    """Intersection over union (lesion, candidate) of two label arrays of one shape, from one joint histogram."""
    claimed = np.flatnonzero(candidates)
    candidate, lesion = candidates.ravel()[claimed].astype(np.int64), truth.ravel()[claimed]
    shared = np.bincount(lesion * (n_candidates + 1) + candidate, minlength=(n_truth + 1) * (n_candidates + 1))
    inside = shared.reshape(n_truth + 1, n_candidates + 1)[1:, 1:].astype(np.float64)
    sizes = np.bincount(truth.ravel()[np.flatnonzero(truth)], minlength=n_truth + 1)[1:]
    union = sizes[:, None] + np.bincount(candidate, minlength=n_candidates + 1)[None, 1:] - inside
    return np.asarray((inside + _SMOOTHING) / (union + _SMOOTHING))


def assign(quality: Floats, confidences: Floats, keys: tuple[str, ...] = ()) -> tuple[MatchedLesion, ...]:
    """Lesions found, lesions missed and false positives of one image.

    `quality` (lesion, candidate) is 0 where the hit rule fails. As many lesions as possible are matched first (one is
    added to every hit), then the sum of qualities is the largest. A candidate that hits a lesion another one took is
    dropped: it is neither found nor false (Saha et al., PI-CAI, Lancet Oncol 2024).
    """
    hits = quality > 0
    rows, columns = linear_sum_assignment(np.where(hits, quality + 1.0, 0.0), maximize=True)
    taken = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if hits[r, c]}
    named = keys or ("",) * quality.shape[0]
    found = [
        MatchedLesion(True, float(confidences[taken[r]]), float(quality[r, taken[r]]), named[r])
        if r in taken
        else MatchedLesion(True, 0.0, 0.0, named[r])
        for r in range(quality.shape[0])
    ]
    return (*found, *(MatchedLesion(False, float(confidences[c])) for c in np.flatnonzero(~hits.any(axis=0))))


def match_maps(detection: Array, truth: Array, rule: HitRule = PICAI) -> tuple[MatchedLesion, ...]:
    """Lesions of a truth mask against a detection map of the same shape, each component one candidate.

    `detection` holds one confidence per component, 0 elsewhere; `truth` is non-zero inside lesions. Both may be empty.
    Raises GeometryError for two shapes, ConfigError for negative values or for several confidences in one component
    (a probability map: extract candidates first).
    """
    if detection.shape != truth.shape:
        raise GeometryError(
            f"detection map: found shape {detection.shape} against a truth of {truth.shape}; they must be equal",
            Reason.GEOMETRY,
        )
    windows = [w for w in (window_of(detection), window_of(truth)) if w is not None]
    if not windows:
        return ()
    joint = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*windows, strict=True))
    labels, confidences = read_candidates(detection[joint])
    lesions, count = components(truth[joint])
    if rule.kind == "overlap":
        quality = overlaps(lesions, count, labels, len(confidences))
        return assign(np.where(quality < rule.least, 0.0, quality), confidences)
    return match_boxes(_boxes(labels), confidences, _boxes(lesions), rule)


def match_masks(
    candidates: Sequence[tuple[Bools, float]], truth: Array, rule: HitRule = PICAI
) -> tuple[MatchedLesion, ...]:
    """Lesions of a truth mask against findings with a mask of its shape each, which may touch or overlap."""
    confidence = np.array([score for _, score in candidates], dtype=np.float64)
    lesions, count = components(truth)
    if rule.kind != "overlap":
        boxes = [_boxes(mask.astype(np.int32)) for mask, _ in candidates]
        placed = np.concatenate(boxes) if boxes else np.zeros((0, 2 * truth.ndim))
        return match_boxes(placed, confidence, _boxes(lesions), rule)
    quality = np.zeros((count, len(candidates)))
    for number, (mask, _) in enumerate(candidates):
        quality[:, number] = overlaps(lesions, count, mask.astype(np.int32), 1)[:, 0]
    return assign(np.where(quality < rule.least, 0.0, quality), confidence)


def read_candidates(detection: Array) -> tuple[NDArray[np.int32], Floats]:
    """Candidates of a detection map as labels of its shape, and their confidences (candidate,)."""
    values = detection.astype(np.float32, copy=False)
    labels, count = components(values)
    claimed = np.flatnonzero(labels)
    candidate, confidence = labels.ravel()[claimed] - 1, values.ravel()[claimed].astype(np.float64)
    if confidence.size and not confidence.min() > 0:
        raise ConfigError(
            f"detection map: found {confidence.min()}; allowed are confidences above 0, and 0 outside candidates",
            Reason.CONFIG_INVALID,
        )
    highest, lowest = np.zeros(count), np.full(count, np.inf)
    np.maximum.at(highest, candidate, confidence)
    np.minimum.at(lowest, candidate, confidence)
    if np.any(highest != lowest):
        raise ConfigError(
            f"detection map: found several confidences in {int((highest != lowest).sum())} of {count} components; "
            "allowed is one in each. Probability maps need imaging.candidates.extract_candidates first",
            Reason.CONFIG_INVALID,
        )
    return labels, highest


def match_boxes(
    boxes: Floats, confidences: Floats, truth: Floats, rule: HitRule, keys: tuple[str, ...] = ()
) -> tuple[MatchedLesion, ...]:
    """Lesions of true boxes (m, 2d) against candidate boxes (n, 2d) with confidences (n,); both may be empty.

    Under the two centre rules the most confident of several hits takes the lesion.
    """
    dims = max(boxes.shape[-1], truth.shape[-1]) // 2
    boxes, truth = boxes.reshape(-1, 2 * dims), truth.reshape(-1, 2 * dims)
    if rule.kind == "overlap":
        quality = _box_overlaps(truth, boxes)
        return assign(np.where(quality < rule.least, 0.0, quality), confidences, keys)
    centres = (boxes[:, :dims] + boxes[:, dims:]) / 2
    if rule.kind == "centre_in_box":
        hit = ((centres >= truth[:, None, :dims]) & (centres <= truth[:, None, dims:])).all(axis=-1)
    else:
        hit = np.linalg.norm((truth[:, None, :dims] + truth[:, None, dims:]) / 2 - centres, axis=-1) <= rule.least
    strength = (np.argsort(np.argsort(confidences, kind="stable"), kind="stable") + 1) / (len(confidences) + 1)
    return assign(np.where(hit, strength, 0.0), confidences, keys)


def _box_overlaps(truth: Floats, boxes: Floats) -> Floats:
    dims = truth.shape[-1] // 2
    low = np.maximum(truth[:, None, :dims], boxes[None, :, :dims])
    high = np.minimum(truth[:, None, dims:], boxes[None, :, dims:])
    inside = np.prod(np.maximum(high - low, 0.0), axis=-1)
    sizes = [np.prod(b[:, dims:] - b[:, :dims], axis=-1) for b in (truth, boxes)]
    union = sizes[0][:, None] + sizes[1][None, :] - inside
    return np.asarray(np.divide(inside, union, out=np.zeros_like(inside), where=union > 0))


def _boxes(labels: NDArray[np.int32]) -> Floats:
    found = ndimage.find_objects(labels)
    ends = [[s.start for s in where] + [s.stop for s in where] for where in found]
    return np.array(ends, dtype=np.float64).reshape(-1, 2 * labels.ndim)
