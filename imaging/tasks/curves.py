"""The course of a training as one picture: loss, validation figures and learning rate over steps (curves.svg)."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytorch_lightning as pl
from pytorch_lightning import Callback

from imaging.evaluation.page.plots import Axis, round_axis

FILE = "curves.svg"
LEARNING_RATE = "train/learning_rate"
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 190, 70, 30
_PLOT_WIDTH, _PLOT_HEIGHT = 550, 120

Course = Mapping[str, Mapping[int, float]]


class TrainingCurves(Callback):
    """Draws what the logs of all starts of a run hold, before every epoch and when fitting ends."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        self._draw(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        del pl_module, stage
        self._draw(trainer)

    def _draw(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            draw_course(read_course(self.run), self.run / FILE)


def read_course(run: Path) -> Course:
    """Every logged figure by step, over all starts of a run; the later start counts where two logged one step."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for log in sorted((run / "csv").glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:])):
        with log.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        found[name][int(row["step"])] = float(value)
    return found


def draw_course(course: Course, path: Path) -> None:
    """An SVG with a plot for the loss, each validation figure over all sites, and the learning rate."""
    names = ["train/loss", *(n for n in sorted(course) if n.startswith("val/") and n.count("/") == 1), LEARNING_RATE]
    known = [name for name in names if course.get(name)]
    if not known:  # fewer steps than are logged
        return
    steps = round_axis([step for name in known for step in course[name]], "step")
    height = str(_HEIGHT * len(known))
    sheet = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "font-family": "sans-serif",
            "font-size": "11",
        },
    )
    ElementTree.SubElement(sheet, "rect", {"width": str(_WIDTH), "height": height, "fill": "white"})
    for k, name in enumerate(known):
        points = sorted(course[name].items())
        place = ElementTree.SubElement(sheet, "g", {"transform": f"translate({_LEFT},{_TOP + k * _HEIGHT})"})
        _plot(place, name, points, steps)
    beside = path.with_name(f".{path.name}.part")
    ElementTree.ElementTree(sheet).write(beside, encoding="utf-8", xml_declaration=True)
    beside.replace(path)


def _plot(place: ElementTree.Element, name: str, points: Sequence[tuple[int, float]], steps: Axis) -> None:
    values = round_axis([value for _, value in points])
    title = ElementTree.SubElement(place, "text", {"x": "0", "y": "-10", "font-weight": "bold"})
    title.text = f"{name}: {points[-1][1]:.4g} at step {points[-1][0]}"
    for tick in values.ticks:
        y = f"{_PLOT_HEIGHT * (1 - values.share(tick)):.1f}"
        ElementTree.SubElement(place, "path", {"d": f"M0 {y}H{_PLOT_WIDTH}", "stroke": "#ddd"})
        ElementTree.SubElement(place, "text", {"x": "-6", "y": y, "text-anchor": "end"}).text = f"{tick:g}"
    for tick in steps.ticks:
        x = f"{_PLOT_WIDTH * steps.share(tick):.1f}"
        told = ElementTree.SubElement(place, "text", {"x": x, "y": str(_PLOT_HEIGHT + 16), "text-anchor": "middle"})
        told.text = f"{tick:g}"
    line = " ".join(
        f"{_PLOT_WIDTH * steps.share(step):.1f},{_PLOT_HEIGHT * (1 - values.share(value)):.1f}"
        for step, value in points
    )
    ElementTree.SubElement(place, "polyline", {"points": line, "fill": "none", "stroke": "#0b62a8"})
