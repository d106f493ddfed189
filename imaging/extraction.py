"""Prediction or detections → findings on the source grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from imaging.candidates import Extraction, LesionCandidate, Threshold, extract_candidates
from imaging.findings import Detections, Finding, Mask, Prediction, cross_section, trace_outline
from imaging.image import Box, Grid, Image, resample
from imaging.volume_region import Quantity, VolumeRegion

Parts = Literal["every", "largest", "candidates"]


@dataclass(frozen=True, slots=True)
class Cut:
    """How the labels of a volume are made into volume regions.

    `parts`: every part from `boundary` on, the largest of them alone (an organ), or the candidates of the PI-CAI
    protocol, whose threshold follows the map and not the boundary. A part with fewer than `least_voxels` voxels *of the
    model grid* is dropped, and one whose highest probability is below `least_score`.
    """

    boundary: float = 0.5
    least_voxels: int = 1
    least_score: float = 0.0
    parts: Parts = "every"


def extract(
    prediction: Prediction, labels: tuple[str, ...], boundary: float, least_pixels: int, least_score: float = 0.0
) -> list[Finding]:
    """Findings of a 2-D segmentation: connected parts (4-neighbours) of each class above `boundary`, best score first.

    Class 0 is background; class k is `labels[k - 1]`. The probabilities return to the source grid before they are
    cut, so the outline is as fine as the source. A part with fewer than `least_pixels` pixels *of the model grid* is
    dropped. The score is the part's highest probability times that of the image holding anything (`presence`); parts
    below `least_score`, the operating point, are dropped. No part: an empty list.
    """
    window = _window(prediction)
    if window is None:
        return []
    origin, target = window
    pixels_per_model_pixel = prediction.grid.voxel_size / prediction.source_grid.voxel_size
    found: list[Finding] = []
    for index, label in enumerate(labels, start=1):
        chance = resample(prediction.probabilities[index], prediction.grid, target)
        parts, _ = ndimage.label(chance >= boundary)
        for part, where in enumerate(ndimage.find_objects(parts), start=1):
            mask: Mask = parts[where] == part
            if mask.sum() < max(1.0, least_pixels * pixels_per_model_pixel):
                continue
            score = prediction.presence * float(np.clip(chance[where][mask].max(), 0.0, 1.0))
            if score < least_score:
                continue
            corner = (origin[0] + where[0].start, origin[1] + where[1].start)
            outline = trace_outline(mask) + np.array([corner[1], corner[0]], dtype=np.float64)
            found.append(Finding(label, score, prediction.ref, prediction.source_grid, mask, corner, outline))
    return sorted(found, key=lambda f: (-f.score, f.mask_origin))


def place(detections: Detections, labels: tuple[str, ...], least_score: float = 0.0) -> list[Finding]:
    """Findings of a 2-D detector: its boxes on the source grid, best score first; none for none.

    A box returns by the corner law alone, so it is as exact as the affine. What reaches beyond the analysed part of
    the frame is cut off there; boxes below `least_score`, the operating point, are dropped.
    """
    within = (detections.region or detections.source_grid.whole).row
    found: list[Finding] = []
    carried = detections.grid.carry_boxes(detections.boxes.reshape(-1, 4), detections.source_grid)
    for box, score, label in zip(carried, detections.scores, detections.labels, strict=True):
        low, high = np.clip(box[:2], within[:2], within[2:]), np.clip(box[2:], within[:2], within[2:])
        if score < least_score or np.any(high <= low):
            continue
        first = np.minimum(np.ceil(low - 0.5), np.floor(high - 1e-9)).astype(int)
        last = np.maximum(np.ceil(high - 0.5).astype(int), first + 1)
        y0, x0, y1, x1 = (float(v) for v in (*low, *high))
        found.append(
            Finding(
                labels[int(label) - 1],
                float(score),
                detections.ref,
                detections.source_grid,
                np.ones(tuple(last - first), dtype=np.bool_),
                (int(first[0]), int(first[1])),
                np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),
                Box.from_xy(x0, y0, x1, y1),
            )
        )
    return sorted(found, key=lambda f: (-f.score, f.box_px))


def extract_volumes(prediction: Prediction, labels: tuple[str, ...], cut: Cut) -> list[Finding]:
    """Findings of a 3-D segmentation, each the cross-section of its volume region, best score first.

    Class 0 is background; class k is `labels[k - 1]`. One class at a time returns to the source grid before it is cut.
    Voxels join over faces, edges and corners. What lies outside `prediction.within` is none, and takes no candidate's
    place.
    """
    window = _window(prediction)
    if window is None:
        return []
    found: list[Finding] = []
    for index, label in enumerate(labels, start=1):
        for part in _parts(prediction, index, cut, prediction.within):
            low = [int(o) + s.start for o, s in zip(window[0], part.window, strict=True)]
            volume_region = VolumeRegion(part.mask, (low[0], low[1], low[2]), prediction.source_grid, prediction.slices)
            found.append(cross_section(label, part.confidence, volume_region))
    return sorted(found, key=lambda f: (-f.score, f.volume_region.origin if f.volume_region is not None else ()))


def count_outside(prediction: Prediction, labels: tuple[str, ...], cut: Cut) -> int:
    """How many parts that would be findings lie outside `prediction.within`, where none can be."""
    if prediction.within is None:
        return 0
    return sum(len(_parts(prediction, index, cut, ~prediction.within)) for index, _ in enumerate(labels, start=1))


def measured(finding: Finding, maps: Mapping[str, Image]) -> Finding:
    """The finding with what quantitative maps say inside its volume region, on the maps resampled to the source voxels.

    Voxels that a map does not cover, or where it is 0 (no signal), do not count; a map that says nothing is left out.
    """
    volume_region = finding.volume_region
    if volume_region is None or not maps:
        return finding
    target = volume_region.grid.crop(volume_region.origin, volume_region.mask.shape)
    told: dict[str, Quantity] = {}
    for name, image in maps.items():
        values = resample(image.array[0], image.grid, target)[volume_region.mask]
        values = values[np.isfinite(values) & (values > 0)]
        if values.size:
            told[name] = Quantity(float(values.mean()), float(np.percentile(values, 10)))
    return replace(finding, volume_region=replace(volume_region, quantities=told))


def bounds(volume_regions: Iterable[VolumeRegion]) -> Box | None:
    """The box around all of them on their grid; None of none."""
    ends = [(region.origin, np.add(region.origin, region.mask.shape)) for region in volume_regions]
    if not ends:
        return None
    low, high = np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)
    return Box(low=tuple(low.tolist()), high=tuple(high.tolist()))


def _parts(prediction: Prediction, index: int, cut: Cut, allowed: Mask | None) -> list[LesionCandidate]:
    """The parts of one class where they are `allowed` (bool of the source grid), in the window of the prediction."""
    window = _window(prediction)
    if window is None:
        return []
    corner, target = window
    chance = resample(prediction.probabilities[index], prediction.grid, target).clip(0.0, 1.0)
    if allowed is not None:
        chance = chance * allowed[tuple(slice(o, o + n) for o, n in zip(corner, target.shape, strict=True))]
    least = max(1.0, cut.least_voxels * prediction.grid.voxel_size / prediction.source_grid.voxel_size)
    threshold: Threshold = "dynamic" if cut.parts == "candidates" else cut.boundary
    found = extract_candidates(chance, Extraction(threshold, drop_voxels=int(np.ceil(least)) - 1))
    kept = [max(found, key=lambda part: int(part.mask.sum()))] if found and cut.parts == "largest" else found
    return [part for part in kept if part.confidence >= cut.least_score]


def _window(prediction: Prediction) -> tuple[tuple[int, ...], Grid] | None:
    """The analysed part of the source that the model grid covers: its first voxel and its grid."""
    grid, source = prediction.grid, prediction.source_grid
    dims = len(source.shape)
    region = (prediction.region or source.whole).row
    box = grid.carry_box(grid.whole, source).row
    low = np.maximum(np.floor(box[:dims] + 1e-6), region[:dims]).astype(int)
    high = np.minimum(np.ceil(box[dims:] - 1e-6), region[dims:]).astype(int)
    if np.any(high <= low):
        return None
    origin = tuple(int(v) for v in low)
    return origin, source.crop(origin, tuple(int(v) for v in high - low))
