"""Segmentation figures under a declared empty policy, per class, then case, then site.

Empty policy: both empty is a true negative, counted and outside overlap means; an empty truth with a prediction is a
false positive, counted with its volume and outside overlap means; a structure without a prediction has Dice, IoU and
surface agreement 0 and distances at the cap that the task fixes. A distance never exceeds the cap, so a bad contour
is never worse than none. A case without a prediction is as one with an empty prediction, and is counted as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from imaging.candidates import components, window_of
from imaging.errors import ConfigError, GeometryError, Reason
from imaging.evaluation.intervals import wilson
from imaging.evaluation.matching import PICAI, Array, Bools, Floats, HitRule, MatchedLesion, assign, overlaps
from imaging.evaluation.ranking import Mean, Ratio
from imaging.evaluation.result import Counts, Overlap, SegmentationCase
from imaging.evaluation.sites import SiteMeasure
from imaging.evaluation.surface import surface_distances

_IN_UNITS = ("hd95", "assd", "volume_difference", "false_positive_volume_on_empty")
_COST = ("both", "missed", "failed")  # the truth holds the structure: overlap figures count these cases


@dataclass(frozen=True, slots=True)
class SegmentationProtocol:
    """`labels` name the classes and their values in a mask; 0 is background.

    `tolerance` of the surface agreement and `cap` of distances are in `unit`: mm, or pixels where images are not
    calibrated. Figures of length and size are then named so (`hd95_px`), and sizes are counts of pixels.
    """

    labels: tuple[tuple[str, int], ...] = (("lesion", 1),)
    tolerance: float = 2.0
    cap: float = 100.0
    lesion_rule: HitRule = PICAI
    unit: Literal["mm", "pixel"] = "mm"

    def __post_init__(self) -> None:
        if not (self.tolerance >= 0 and self.cap > 0) or self.lesion_rule.kind != "overlap":
            raise ConfigError(
                f"SegmentationProtocol: found tolerance {self.tolerance}, cap {self.cap} and the hit rule "
                f"{self.lesion_rule.kind}; allowed are a tolerance of 0 or more, a cap above 0 and an overlap rule",
                Reason.CONFIG_INVALID,
            )

    def figure(self, name: str) -> str:
        """The name of a figure, which says where its unit is not mm."""
        return f"{name}_px" if self.unit == "pixel" and name in _IN_UNITS else name

    @property
    def words(self) -> dict[str, str | float | int]:
        """The protocol as the result states it."""
        return {
            "labels": ", ".join(f"{name}={value}" for name, value in self.labels),
            "nsd_tolerance": self.tolerance,
            "distance_cap": self.cap,
            "unit": self.unit,
            "lesion_hit_rule": self.lesion_rule.text,
            "lesion_hit_rule_least": self.lesion_rule.least,
            "both_empty": "true negative, outside overlap means",
            "truth_empty": "false positive with its volume, outside overlap means",
            "prediction_empty": "Dice, IoU, NSD 0; HD95, ASSD at the cap",
            "failed_case": "as an empty prediction, counted as failed",
        }

    @staticmethod
    def from_words(words: Mapping[str, str | float | int]) -> SegmentationProtocol:
        """The protocol that a result states."""
        pairs = [label.rsplit("=", 1) for label in str(words["labels"]).split(", ")]
        return SegmentationProtocol(
            tuple((name, int(value)) for name, value in pairs),
            float(words["nsd_tolerance"]),
            float(words["distance_cap"]),
            HitRule("overlap", float(words["lesion_hit_rule_least"])),
            "pixel" if words.get("unit") == "pixel" else "mm",
        )


def score_masks(
    prediction: Array, truth: Array, spacing: tuple[float, ...], protocol: SegmentationProtocol
) -> tuple[Overlap, ...]:
    """The overlap of each class of two label masks ([slice,] row, column) of one grid with this spacing.

    Raises GeometryError for two shapes, ConfigError for a value that is no label.
    """
    if prediction.shape != truth.shape:
        raise GeometryError(
            f"prediction: found shape {prediction.shape} against a truth of {truth.shape}; they must be equal",
            Reason.GEOMETRY,
        )
    for name, mask in (("prediction", prediction), ("truth", truth)):
        _refuse_unknown(name, mask, protocol)
    return tuple(
        _overlap(name, prediction == value, truth == value, spacing, protocol) for name, value in protocol.labels
    )


def score_failure(truth: Array, spacing: tuple[float, ...], protocol: SegmentationProtocol) -> tuple[Overlap, ...]:
    """The overlap of each class of a case without a prediction."""
    _refuse_unknown("truth", truth, protocol)
    size = _voxel(spacing, protocol)
    found = []
    for name, value in protocol.labels:
        mask = truth == value
        if not mask.any():
            found.append(Overlap(name, "failed_on_empty", None, None, None, None, None, 0.0, 0.0))
            continue
        lesions = (MatchedLesion(True, 0.0),) * components(mask)[1]
        volume = float(mask.sum()) * size
        found.append(Overlap(name, "failed", 0.0, 0.0, 0.0, protocol.cap, protocol.cap, volume, 0.0, lesions))
    return tuple(found)


def _refuse_unknown(name: str, mask: Array, protocol: SegmentationProtocol) -> None:
    known = {0, *(value for _, value in protocol.labels)}
    present = set(np.unique(mask).tolist())
    if not present <= known:
        raise ConfigError(
            f"{name}: found labels {sorted(present - known)[:5]}; allowed are {sorted(known)}", Reason.CONFIG_INVALID
        )


def _voxel(spacing: tuple[float, ...], protocol: SegmentationProtocol) -> float:
    """Size of a voxel in ml, of a pixel in cm²; 1 where the unit is pixels."""
    return 1.0 if protocol.unit == "pixel" else float(np.prod(np.asarray(spacing) / 10))


def _overlap(
    name: str, prediction: Bools, truth: Bools, spacing: tuple[float, ...], protocol: SegmentationProtocol
) -> Overlap:
    where = window_of(prediction | truth)
    if where is None:
        return Overlap(name, "true_negative", None, None, None, None, None, 0.0, 0.0)
    prediction, truth = prediction[where], truth[where]
    there, claimed, shared = (int(m.sum()) for m in (truth, prediction, truth & prediction))
    size = _voxel(spacing, protocol)
    lesions = _lesions(prediction, truth, protocol.lesion_rule)
    if there == 0:
        return Overlap(name, "false_positive_on_empty", None, None, None, None, None, 0.0, claimed * size, lesions)
    if claimed == 0:
        return Overlap(name, "missed", 0.0, 0.0, 0.0, protocol.cap, protocol.cap, there * size, 0.0, lesions)
    apart = surface_distances(prediction, truth, spacing)
    return Overlap(
        label=name,
        state="both",
        dice=2 * shared / (there + claimed),
        iou=shared / (there + claimed - shared),
        nsd=apart.nsd(protocol.tolerance),
        hd95=apart.hd95(),
        assd=apart.assd(),
        truth_volume=there * size,
        predicted_volume=claimed * size,
        lesions=lesions,
    )


def _lesions(prediction: Bools, truth: Bools, rule: HitRule) -> tuple[MatchedLesion, ...]:
    """Components as lesions; a mask has no confidence, so each predicted one has 1."""
    lesions, n_lesions = components(truth)
    parts, n_parts = components(prediction)
    quality = overlaps(lesions, n_lesions, parts, n_parts)
    return assign(np.where(quality < rule.least, 0.0, quality), np.ones(n_parts))


def measures(cases: Sequence[SegmentationCase], protocol: SegmentationProtocol) -> list[SiteMeasure]:
    """The figures of segmentation on these cases, class by class."""
    return [m for name, _ in protocol.labels for m in _measures(name, cases, protocol)]


def _measures(name: str, cases: Sequence[SegmentationCase], protocol: SegmentationProtocol) -> list[SiteMeasure]:
    rows = [next(o for o in case.overlaps if o.label == name) for case in cases]
    there = np.array([row.state in _COST for row in rows], dtype=np.bool_)
    patients = len({(c.site, c.patient_id) for c, counted in zip(cases, there, strict=True) if counted})
    counts = _counts(rows)
    absent = "" if there.any() else "n/a (0 positives)"

    def mean(figure: str, value: Callable[[Overlap], float | None], higher: bool) -> SiteMeasure:
        values = np.array([value(row) or 0.0 for row in rows], dtype=np.float64)
        statistic = Mean(values, there)
        return SiteMeasure(f"{name} {figure}", statistic, counts, absent, "identity", higher, n_clusters=patients)

    return [
        mean("dice", lambda row: row.dice, True),
        mean("iou", lambda row: row.iou, True),
        mean("nsd", lambda row: row.nsd, True),
        mean(protocol.figure("hd95"), lambda row: min(row.hd95 or 0.0, protocol.cap), False),
        mean(protocol.figure("assd"), lambda row: min(row.assd or 0.0, protocol.cap), False),
        mean(protocol.figure("volume_difference"), lambda row: abs(row.predicted_volume - row.truth_volume), False),
        *_lesion_measures(name, cases, rows),
        *_empty_measures(name, cases, rows, protocol),
    ]


def _counts(rows: Sequence[Overlap]) -> Counts:
    """Of structures: all that are there or claimed, and what became of them."""
    states = [row.state for row in rows]
    return Counts(
        n_total=len(rows),
        n_scored=states.count("both"),
        n_missed=states.count("missed") + states.count("failed"),
        n_false_positive_on_empty=states.count("false_positive_on_empty"),
        n_failed=states.count("failed") + states.count("failed_on_empty"),
    )


def _lesion_measures(name: str, cases: Sequence[SegmentationCase], rows: Sequence[Overlap]) -> list[SiteMeasure]:
    true = _per_case(rows, lambda x: x.is_true)
    found = _per_case(rows, lambda x: x.is_true and x.confidence > 0)
    false = _per_case(rows, lambda x: not x.is_true)
    agreement = np.array([sum(2 * x.overlap / (1 + x.overlap) for x in row.lesions) for row in rows], dtype=np.float64)
    n_lesions, n_missed = int(true.sum()), int((true - found).sum())
    on_empty = sum(len(row.lesions) for row in rows if row.state == "false_positive_on_empty")
    failed = sum(len(row.lesions) for row in rows if row.state == "failed")
    counts = Counts(n_lesions, n_lesions - failed, n_missed, on_empty, failed)
    absent = "" if n_lesions else "n/a (0 positives)"
    patients = len({(c.site, c.patient_id) for c, n in zip(cases, true, strict=True) if n})
    return [
        SiteMeasure(f"{name} {figure}", statistic, counts, absent, n_clusters=patients)
        for figure, statistic in (
            ("lesion_sensitivity", Ratio(found, true)),
            ("lesion_f1", Ratio(2 * found, true + found + false)),
            ("lesion_dice", Ratio(agreement, true + false)),
        )
    ]


def _per_case(rows: Sequence[Overlap], which: Callable[[MatchedLesion], bool]) -> Floats:
    return np.array([sum(map(which, row.lesions)) for row in rows], dtype=np.float64)


def _empty_measures(
    name: str, cases: Sequence[SegmentationCase], rows: Sequence[Overlap], protocol: SegmentationProtocol
) -> list[SiteMeasure]:
    """Of cases without the structure: how often nothing was claimed, and the mean volume that was."""
    empty = np.array([row.state not in _COST for row in rows], dtype=np.bool_)
    clean = np.array([row.state == "true_negative" for row in rows], dtype=np.float64)
    volume = np.array([row.predicted_volume for row in rows], dtype=np.float64)
    n, kept = int(empty.sum()), int(clean.sum())
    counts = Counts(
        n,
        n - sum(row.state == "failed_on_empty" for row in rows),
        0,
        sum(row.state == "false_positive_on_empty" for row in rows),
        sum(row.state == "failed_on_empty" for row in rows),
    )
    absent = "" if n else "n/a (0 negatives)"
    patients = len({(c.site, c.patient_id) for c, counted in zip(cases, empty, strict=True) if counted})
    interval = wilson(kept, n) if patients == n else None  # Wilson's needs independent cases
    return [
        SiteMeasure(
            f"{name} specificity_on_empty", Mean(clean, empty), counts, absent, interval=interval, n_clusters=patients
        ),
        SiteMeasure(
            f"{name} {protocol.figure('false_positive_volume_on_empty')}", Mean(volume, empty), counts, absent,
            "identity", False, n_clusters=patients,
        ),
    ]  # fmt: skip
