"""Names of figures and counts as a reader says them, and numbers that are never more than they are."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from imaging.evaluation.result import Counts, EvaluationResult, Figure, Interval, Task
from imaging.html.markup import Markup, element, joined

_NAMES = {
    "score": "PI-CAI score",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "pf1": "Probabilistic F1",
    "brier": "Brier score",
    "expected_calibration_error": "Expected calibration error",
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "Surface Dice (NSD)",
    "hd95": "HD95 (mm)",
    "assd": "ASSD (mm)",
    "hd95_px": "HD95 (pixels)",
    "assd_px": "ASSD (pixels)",
    "volume_difference_px": "volume difference (pixels)",
    "false_positive_volume_on_empty_px": "false positive volume on empty (pixels)",
}
COUNTS = {
    "n_failed": ("No prediction", "read or written wrongly, or missing; each one counts against the figures"),
    "n_missed": ("Missed", "there in truth, not found"),
    "n_false_positive_on_empty": ("False alarm on empty", "something found where nothing is"),
    "n_scored": ("Scored", "with a prediction that could be compared"),
    "n_total": ("Total", "all that belong to this evaluation"),
}
# Without a threshold nothing is missed and nothing is a false alarm.
UNDEFINED = {("classification", "n_missed"), ("classification", "n_false_positive_on_empty")}


def figure_name(name: str) -> str:
    """`sensitivity_at_1_per_image` → `Sensitivity at 1 per image`; a class's name stays before its figure."""
    label, _, kind = name.rpartition(" ")
    told = _NAMES.get(kind, kind.replace("_", " "))
    if told.startswith("sensitivity at") and told.endswith("per image"):
        unit = "false positive" if " 1 " in told else "false positives"
        told = told.replace("per image", f"{unit} per image")
    return f"{label}: {told}" if label else told[:1].upper() + told[1:]


def headline(result: EvaluationResult) -> list[str]:
    """The figures of the first table and of the forests, in order."""
    groups = (result.pooled, *result.sites, *(result.comparison.sites if result.comparison else ()))
    there = list(dict.fromkeys(figure.name for group in groups for figure in group.figures))
    wanted = {
        "detection": r"score|auroc|average_precision|sensitivity_at_(0\.5|1|2)_per_image",
        "classification": r"auroc|sensitivity_at_specificity_.*|brier|calibration_slope",
        "segmentation": r".* (dice|nsd|hd95|hd95_px|lesion_sensitivity|specificity_on_empty)",
    }[result.task]
    return [name for name in there if re.fullmatch(wanted, name, re.DOTALL)]


def bounds(name: str) -> tuple[float, float]:
    """The values that a figure can have: a share 0-1, a distance or volume from 0, a calibration line any."""
    if re.search(r"calibration_(slope|intercept)$", name):
        return -math.inf, math.inf
    return (0.0, math.inf) if re.search(r"(hd95|assd|volume_difference|volume_on_empty)(_px)?$", name) else (0.0, 1.0)


def reach(name: str, low: float, high: float) -> Markup:
    """Limits of a random-effects analysis; an end past what the figure can be is cut, and said to be."""
    least, most = bounds(name)
    told = element("span", f"{number(max(low, least))} to {number(min(high, most))}", class_="limits")
    if low >= least and high <= most:
        return told
    cut = element("span", f"cut; computed {number(low)} to {number(high)}", class_="limits")
    return joined([told, " ", cut])


def number(value: float) -> str:
    """Three decimals; fewer for large values."""
    size = abs(value)
    told = f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 10_000 else f"{value:.4g}"
    return told.replace("-", "−")


def probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def tally(value: int | None) -> str:
    return "fewer than 5" if value is None else str(value)


def limits(interval: Interval | None) -> Markup | None:
    """The limits of a figure, with the measured coverage where it falls short of what the interval says."""
    if interval is None:
        return element("span", "no interval", class_="limits")
    told = f"{number(interval.low)} to {number(interval.high)}"
    known = ""
    if interval.coverage is not None and interval.n_clusters is not None:
        known = f"measured coverage {interval.coverage:.1%} at {interval.n_clusters} patients"
    warning = element("span", known, class_="coverage") if known else None
    return element("span", told, warning, class_="limits", title=interval.method)


def figure_value(figure: Figure | None) -> Markup:
    """Value with interval; or why there is none."""
    if figure is None:
        return element("span", "–", class_="absent")
    if figure.value is None:
        return element("span", figure.absent, class_="absent")
    return joined([element("b", number(figure.value)), " ", limits(figure.interval)])


def case_counts(result: EvaluationResult) -> list[tuple[str, str]]:
    """What is counted, in words, and a figure that carries those counts."""
    if result.task == "detection":
        return [("cases", "auroc"), ("lesions", "average_precision")]
    if result.task == "classification":
        return [("cases", "brier")]
    names = [figure.name for figure in (*result.pooled.figures, *(f for s in result.sites for f in s.figures))]
    labels = list(dict.fromkeys(name.rpartition(" ")[0] for name in names))
    pairs = [(f"{label}: cases", f"{label} dice") for label in labels]
    return pairs + [(f"{label}: lesions", f"{label} lesion_sensitivity") for label in labels]


def counts_row(task: Task, counts: Counts | None) -> list[Markup]:
    """One table cell per count, in the order of `COUNTS`; failures that happened stand out."""
    cells = []
    for name in COUNTS:
        value = getattr(counts, name) if counts else None
        bad = name in ("n_failed", "n_missed", "n_false_positive_on_empty") and value != 0
        shown = "–" if counts is None else tally(value)
        if (task, name) in UNDEFINED:
            shown, bad = "n/a", False
        cells.append(element("td", shown, class_="number-cell bad" if bad and counts else "number-cell"))
    return cells


def scrolled(told: str, titles: Sequence[Markup], rows: Sequence[Markup], class_: str | None = None) -> Markup:
    """A table that scrolls inside its own frame, by key too."""
    table = element("table", element("thead", element("tr", *titles)), element("tbody", *rows), class_=class_)
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=told)
