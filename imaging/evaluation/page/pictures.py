"""Pictures of worst cases: the image or map with the outlines of truth and prediction along pixel edges."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imaging.candidates import window_of
from imaging.evaluation.matching import Array, Bools
from imaging.html.markup import Markup, element, quoted

SIDE = 320  # pixels of a thumbnail's longer side, at most
LEAST_SIDE = 96  # of the source: a small lesion is shown with what surrounds it


@dataclass(frozen=True, eq=False)
class Picture:
    """One thumbnail: PNG bytes (width × height as shown), outlines as SVG paths over `grid` (columns, rows)."""

    case_id: str
    site: str
    png: bytes
    size: tuple[int, int]
    grid: tuple[int, int]
    truth: str
    prediction: str
    where: str


@dataclass(frozen=True, eq=False)
class PicturedCase:
    """What a thumbnail is made of: label masks `truth` and `prediction`, ([slice,] row, column), on `base`.

    `base` has their shape, or also colours (…, 3). `spacing` is per axis.
    """

    base: Array
    truth: Array
    prediction: Array
    spacing: tuple[float, ...]


def picture(case_id: str, site: str, seen: PicturedCase) -> Picture:
    """A thumbnail of one case. Of a volume the slice is taken in which truth and prediction differ most.

    Large images are cut to the surroundings of both.
    """
    base, truth, prediction = seen.base, seen.truth, seen.prediction
    where = ""
    if truth.ndim == 3:
        wrong = (truth != prediction).sum(axis=(1, 2))
        k = int(np.argmax(wrong)) if wrong.any() else int(np.argmax((truth != 0).sum(axis=(1, 2))))
        base, truth, prediction, where = base[k], truth[k], prediction[k], f"slice {k + 1} of {len(truth)}"
    part = _surroundings((truth != 0) | (prediction != 0))
    base, truth, prediction = base[part], truth[part], prediction[part]
    step = -(-max(truth.shape) // SIDE)
    truth, prediction = _reduced(truth, step), _reduced(prediction, step)
    rows, columns = truth.shape
    tall, wide = (size * mm for size, mm in zip((rows, columns), seen.spacing[-2:], strict=True))
    scale = SIDE / max(tall, wide)
    size = max(round(wide * scale), 1), max(round(tall * scale), 1)
    shown = Image.fromarray(_grey(base)).resize(size, Image.Resampling.BOX if step > 1 else Image.Resampling.NEAREST)
    stream = io.BytesIO()
    shown.save(stream, "PNG", optimize=True)
    return Picture(case_id, site, stream.getvalue(), size, (columns, rows), outline(truth), outline(prediction), where)


def _surroundings(mask: Bools) -> tuple[slice, slice]:
    """The part of a picture to show: all where it is small, else about three times the window of the mask."""
    window = window_of(mask)
    if window is None or max(mask.shape) <= SIDE:
        return slice(None), slice(None)
    parts = []
    for side, length in zip(window, mask.shape, strict=True):
        reach = max(side.stop - side.start, LEAST_SIDE // 2)
        parts.append(slice(max(side.start - reach, 0), min(side.stop + reach, length)))
    return parts[0], parts[1]


def _reduced(mask: Array, step: int) -> Array:
    """A label mask at 1/step of its size; the highest label of each block, so that nothing small is lost."""
    if step == 1:
        return mask
    for axis in (0, 1):
        mask = np.maximum.reduceat(mask, np.arange(0, mask.shape[axis], step), axis=axis)
    return mask


def _grey(values: Array) -> Array:
    """8 bit from the 0.5th to the 99.5th per cent of the values; colours of 8 bit stay."""
    if values.ndim == 3 and values.dtype == np.uint8:
        return values
    shown = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(shown, [0.005, 0.995])
    if high <= low:
        low, high = float(shown.min()), float(shown.max())
    scaled = (shown - low) / ((high - low) or 1.0)
    return np.asarray(np.clip(scaled * 255, 0, 255).astype(np.uint8))


def outline(labels: Array) -> str:
    """The edges between pixels of different labels as an SVG path in pixels; empty without a label."""
    framed = np.pad(labels, 1)
    path = []
    for y, x0, x1 in _runs(framed[1:, 1:-1] != framed[:-1, 1:-1]):
        path.append(f"M{x0} {y}H{x1}")
    for x, y0, y1 in _runs((framed[1:-1, 1:] != framed[1:-1, :-1]).T):
        path.append(f"M{x} {y0}V{y1}")
    return "".join(path)


def _runs(edges: Bools) -> list[tuple[int, int, int]]:
    """Row, start and stop of each run of True."""
    framed = np.pad(edges.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(framed, axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    return [(int(row), int(a), int(b)) for row, a, b in zip(rows, starts, stops, strict=True)]


def figure_of(shown: Picture, wrong: str) -> Markup:
    """The picture with its outlines, and what is wrong with it."""
    source = Markup(f"data:image/png;base64,{base64.b64encode(shown.png).decode()}")
    told = f"{'Image' if not shown.where else shown.where.capitalize()} with the outlines of truth and prediction"
    image = element("img", src=source, width=shown.size[0], height=shown.size[1], alt=told, decoding="async")
    lines = [
        element("path", d=path, class_=f"{layer} {name}")
        for name, path in (("truth", shown.truth), ("prediction", shown.prediction))
        for layer in ("halo", "line")
        if path
    ]
    columns, rows = shown.grid
    view = f"0 0 {columns} {rows}"
    drawing = element("svg", *lines, viewBox=view, preserveAspectRatio="none", class_="overlay", aria_hidden="true")
    beside = element("span", "site ", quoted(shown.site), f" · {shown.where}" if shown.where else None, class_="quiet")
    caption = element("figcaption", quoted(shown.case_id), beside, element("span", wrong, class_="wrong"))
    return element("figure", element("div", image, drawing, class_="frame"), caption)
