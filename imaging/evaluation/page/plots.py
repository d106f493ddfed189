"""Plots as inline SVG: a forest over sites, curves with bands, reliability. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from imaging.evaluation.calibration import ReliabilityPoint
from imaging.evaluation.page.curves import FROC_LIMITS, Curve
from imaging.evaluation.result import Figure, Heterogeneity
from imaging.html.markup import Markup, element

WIDTH, HEIGHT = 380, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 46
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` with ticks; logarithmic where `log`."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1; values beyond an end lie on it."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


UNIT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def round_axis(values: Iterable[float], label: str = "", unit: bool = False) -> Axis:
    """An axis with four to eight round ticks around the values; inside 0-1 where they are shares (`unit`)."""
    known = list(values)
    low, high = min(known), max(known)
    step = _round_step((high - low) or max(abs(high), 0.1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    first -= first == last
    if unit:
        first, last = max(first, 0), min(last, round(1 / step))
        last += first == last  # every share is 0: what reaches below was cut away
    ticks = tuple(round(k * step, 10) for k in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks)


def _round_step(reach: float) -> float:
    power = 10.0 ** math.floor(math.log10(reach / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= reach / 5.5)


def _plain(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") or "0"


def _tick(value: float) -> str:
    return f"{value:g}"


# --- Curves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    """Two axes and the place of a point on the drawing."""

    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> Point:
        across = LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM)

    def path(self, points: Iterable[Point]) -> str:
        """A line through points in values; what falls on one place is drawn once."""
        told: list[str] = []
        for x, y in points:
            place = " ".join(map(_plain, self.at(x, y)))
            if not told or told[-1] != place:
                told.append(place)
        return "M" + "L".join(told)

    def drawn(self, *shapes: Markup | None, told: str) -> Markup:
        """The axes with shapes on them; `told` is what one hears who does not see it."""
        x0, y0 = self.at(self.x.low, self.y.low)
        x1, y1 = self.at(self.x.high, self.y.high)
        marks: list[Markup] = []
        for tick in self.y.ticks:
            _, y = self.at(self.x.low, tick)
            marks.append(element("path", d=f"M{_plain(x0)} {_plain(y)}H{_plain(x1)}", class_="grid"))
            marks.append(element("text", _tick(tick), x=x0 - 7, y=_plain(y + 4), text_anchor="end"))
        for tick in self.x.ticks:
            x, _ = self.at(tick, self.y.low)
            marks.append(element("path", d=f"M{_plain(x)} {_plain(y0)}V{_plain(y1)}", class_="grid"))
            marks.append(element("text", _tick(tick), x=_plain(x), y=y0 + 17, text_anchor="middle"))
        marks.append(element("text", self.x.label, x=(x0 + x1) / 2, y=HEIGHT - 8, text_anchor="middle", class_="name"))
        middle = (y0 + y1) / 2
        turned = f"rotate(-90 13 {_plain(middle)})"
        marks.append(
            element("text", self.y.label, x=13, y=middle, text_anchor="middle", transform=turned, class_="name")
        )
        return element(
            "svg", *marks, *shapes, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=told, class_="plot"
        )


def _steps(xs: Sequence[float], ys: Sequence[float], low: float, high: float) -> list[Point]:
    """A curve as stairs: what is reached with at most x, from the lower to the upper end of the axis."""
    start = max((y for x, y in zip(xs, ys, strict=True) if x <= low), default=0.0)
    stairs, last = [(low, start)], start
    for x, y in zip(xs, ys, strict=True):
        if low < x <= high:
            stairs += [(x, last), (x, y)]
            last = y
    return [*stairs, (high, last)]


def _curve(frame: _Frame, curve: Curve, told: str, *more: Markup) -> Markup:
    grid = curve.grid.tolist()
    edge = [*zip(grid, curve.high.tolist(), strict=True), *reversed(list(zip(grid, curve.low.tolist(), strict=True)))]
    line = _steps(curve.x.tolist(), curve.y.tolist(), frame.x.low, frame.x.high)
    return frame.drawn(
        *more,
        element("path", d=frame.path(edge) + "Z", class_="band"),
        element("path", d=frame.path(line), class_="curve"),
        told=told,
    )


def roc_plot(curve: Curve) -> Markup:
    frame = _Frame(Axis("1 − specificity", 0, 1, UNIT), Axis("Sensitivity", 0, 1, UNIT))
    chance = element("path", d=frame.path([(0, 0), (1, 1)]), class_="reference")
    return _curve(frame, curve, "ROC with band; the figures stand in the tables", chance)


def froc_plot(curve: Curve, unit: str) -> Markup:
    last = float(curve.grid[-1])
    ticks = tuple(t for t in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0) if t <= last * 1.001)
    x = Axis(f"False positives per {unit}, logarithmic", FROC_LIMITS[0], last, ticks, log=True)
    return _curve(
        _Frame(x, Axis("Lesions found", 0, 1, UNIT)), curve, "FROC with band; the figures stand in the tables"
    )


def reliability_plot(points: Sequence[ReliabilityPoint]) -> Markup:
    """Share of positives over mean probability of each bin, Wilson's interval, and how many cases."""
    frame = _Frame(Axis("Predicted probability", 0, 1, UNIT), Axis("Share of positives", 0, 1, UNIT))
    most = max(point.n for point in points)
    shapes = [element("path", d=frame.path([(0, 0), (1, 1)]), class_="reference")]
    shapes.append(element("path", d=frame.path([(p.predicted, p.observed) for p in points]), class_="curve thin"))
    for p in points:
        (x, y), (_, low), (_, high) = (
            frame.at(p.predicted, value) for value in (p.observed, p.interval.low, p.interval.high)
        )
        shapes.append(element("path", d=f"M{_plain(x)} {_plain(low)}V{_plain(high)}", class_="whisker"))
        told = element("title", f"{p.n} cases: predicted {p.predicted:.3f}, positive {p.observed:.3f}")
        size = _plain(3 + 4 * math.sqrt(p.n / most))
        shapes.append(element("circle", told, cx=_plain(x), cy=_plain(y), r=size, class_="dot"))
    said = "; ".join(f"{p.predicted:.2f} predicted, {p.observed:.2f} of {p.n} positive" for p in points)
    return frame.drawn(*shapes, told=f"Reliability: {said}")


def lines_plot(x: Axis, y: Axis, lines: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """Lines of few points each, with the name of each above its last point; names are moved apart."""
    frame = _Frame(x, y)
    shapes, lowest = [], float(HEIGHT)
    for name, points in sorted(lines, key=lambda line: line[1][-1][1]):
        shapes.append(element("path", d=frame.path(points), class_="curve thin"))
        places = [frame.at(*point) for point in points]
        shapes += [element("circle", cx=_plain(across), cy=_plain(down), r=3, class_="dot") for across, down in places]
        across, down = places[-1]
        lowest = min(down - 8, lowest - 14)
        shapes.append(element("text", name, x=_plain(across), y=_plain(lowest), text_anchor="end", class_="name"))
    told = "; ".join(f"{name}: {', '.join(f'{b:.3f} at {a:g}' for a, b in points)}" for name, points in lines)
    return frame.drawn(*shapes, told=told)


# --- Forest -----------------------------------------------------------------------------------------------------------


def forest_axis(figures: Iterable[Figure], effects: Heterogeneity | None, bounds: tuple[float, float]) -> Axis | None:
    """The axis that all rows of a forest have in common, inside the values that it can have; None without a value."""
    values: list[float] = []
    for figure in figures:
        if figure.value is not None:
            values += [figure.value, *((figure.interval.low, figure.interval.high) if figure.interval else ())]
    if effects is not None:
        limits = (effects.low, effects.high, effects.predicted_low, effects.predicted_high)
        values += [effects.mean, *(limit for limit in limits if limit is not None)]
    if not values:
        return None
    low, high = bounds
    return round_axis([min(max(v, low), high) for v in values], unit=bounds == (0.0, 1.0))


def _percent(share: float) -> str:
    return f"{2 + 96 * share:.2f}%"


@dataclass(frozen=True, slots=True)
class ForestMark:
    """What a line of a forest shows: a value, its limits, how large, and the value that would be ideal."""

    value: float | None
    limits: tuple[float, float] | None
    kind: Literal["site", "mean", "new"] = "site"
    size: float = 4
    ideal: float | None = None


def forest_row(axis: Axis, mark: ForestMark) -> Markup:
    """One line of a forest: a dot or diamond at the value, a line between its limits."""
    shapes = [_upright(axis, tick, "grid") for tick in axis.ticks]
    if mark.ideal is not None and axis.low <= mark.ideal <= axis.high:
        shapes.append(_upright(axis, mark.ideal, "ideal"))
    if mark.limits is not None:
        ends = [_percent(axis.share(limit)) for limit in mark.limits]
        shapes.append(element("line", x1=ends[0], x2=ends[1], y1="50%", y2="50%", class_=f"reach {mark.kind}"))
    if mark.value is not None:
        x, size = _percent(axis.share(mark.value)), _plain(mark.size)
        if mark.kind == "mean":
            shape = element("path", d=f"M-{size} 0L0 -{size}L{size} 0L0 {size}Z", class_="diamond")
            shapes.append(element("svg", shape, x=x, y="50%", overflow="visible", width=1, height=1))
        else:
            shapes.append(element("circle", cx=x, cy="50%", r=size, class_="dot"))
    return element("svg", *shapes, class_="forest-plot", aria_hidden="true")


def _upright(axis: Axis, value: float, class_: str) -> Markup:
    x = _percent(axis.share(value))
    return element("line", x1=x, x2=x, y1="0", y2="100%", class_=class_)


def forest_ticks(axis: Axis) -> Markup:
    texts = [
        element("text", _tick(tick), x=_percent(axis.share(tick)), y="13", text_anchor="middle")
        for tick in (axis.ticks if len(axis.ticks) < 7 else axis.ticks[::2])
    ]
    return element("svg", *texts, class_="forest-ticks", aria_hidden="true")
