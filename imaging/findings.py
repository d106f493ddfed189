"""What networks say of an image, and findings on its source grid: masks, boxes, outlines, sizes, in source pixels.

Nothing here knows networks or DICOM. Pixel coordinates are the source image's, x = column and y = row, in the corner
convention (the first pixel spans 0 to 1), which is also that of a DICOM SCOORD (PS3.3 C.18.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from imaging.image import Array, Box, Floats, Grid, SourceRef
from imaging.volume_region import VolumeRegion

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: code value, coding scheme designator, and the exact English code meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Label:
    """What one output class of a package means, in codes.

    `finding` is what the report says (e.g. SCT 52988006 "Lesion"); `category` and `kind` are the Segmented Property
    Category and Type of the segmentation object (PS3.3 C.8.20.2); `site` is the anatomic finding site.
    """

    name: str
    finding: Code
    category: Code
    kind: Code
    site: Code


@dataclass(frozen=True, slots=True)
class Rating:
    """What a finding is rated by: how probable one image class is against another on the image it was found on.

    `name` is what pages call it (malignancy); `positive` and `negative` are image classes; `concept` is what reports
    say (111047 DCM "Probability of cancer").
    """

    name: str
    positive: str
    negative: str
    concept: Code

    def of_finding(self, classes: Mapping[str, float]) -> float | None:
        """p(positive) / (p(positive) + p(negative)): given that there is something; None where both are 0."""
        positive, negative = classes.get(self.positive, 0.0), classes.get(self.negative, 0.0)
        return positive / (positive + negative) if positive + negative > 0 else None

    def of_image(self, classes: Mapping[str, float]) -> float | None:
        """p(positive) among all image classes, those that hold nothing too; None where it was not predicted."""
        return classes.get(self.positive)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one image: `probabilities` (class, [slice,] row, column) float32 in 0-1, on `grid`.

    `source_grid` is the whole source frame or volume; `ref` names it, `slices` each slice of a volume. `classes` holds
    the probability of each class of the whole image, in the network's order and with a sum of 1; empty for a network
    that has none. `region` is the part of the source frame that was analysed, None for all of it:
    nothing is found outside it, though the model grid may reach further. `presence` is the probability that the
    image holds anything at all. `within` is where in a volume findings may lie, bool of the source grid; None for
    everywhere.
    """

    probabilities: Array
    grid: Grid
    source_grid: Grid
    ref: SourceRef
    classes: tuple[float, ...] = ()
    region: Box | None = None
    presence: float = 1.0
    slices: tuple[SourceRef, ...] = ()
    within: Mask | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector says of one image: boxes on `grid`, the model's.

    `boxes` (n, 4) float64, each a `Box.row`; `scores` (n,) in 0-1; `labels`
    (n,) count from 1, in the package's order. The rest is as of a `Prediction`.
    """

    boxes: Floats
    scores: Floats
    labels: Array
    grid: Grid
    source_grid: Grid
    ref: SourceRef
    region: Box | None = None


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing found on one source frame.

    `mask` (row, column) bool is placed at `mask_origin` (row, column) of the source frame of `source_grid.shape`.
    `outline_px` is (n, 2) x, y in corner convention, not repeating its first point; it runs along the pixel edges of
    the mask, whose pixels are 4-connected; its area is exactly their number. Sizes in millimetres are
    None where the image is uncalibrated.

    A finding of a detector has a `box`, exact, not on pixel edges: that is all it knows. Its outline
    is the box, its mask the pixels whose centres lie inside, and it has no area; its longest diameter is the box's
    longer side.

    A finding of a volume has a `volume_region`, all of it; the rest is then its cross-section with the largest area,
    as a finding on that slice (`cross_section`).
    """

    label: str
    score: float
    ref: SourceRef
    source_grid: Grid
    mask: Mask
    mask_origin: tuple[int, int]
    outline_px: Floats
    box: Box | None = None
    volume_region: VolumeRegion | None = None

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in corner convention: a mask of the single pixel (0, 0) has the box 0, 0, 1, 1."""
        return self.extent.xy

    @property
    def extent(self) -> Box:
        """The box, or that around the mask."""
        if self.box is not None:
            return self.box
        return Box(low=self.mask_origin, high=tuple(np.add(self.mask_origin, self.mask.shape).tolist()))

    @property
    def center_px(self) -> tuple[float, float]:
        """Centroid x, y of the mask, or the middle of the box."""
        if self.box is not None:
            x0, y0, x1, y1 = self.box.xy
            return (x0 + x1) / 2, (y0 + y1) / 2
        rows, columns = np.nonzero(self.mask)
        return (
            float(columns.mean() + self.mask_origin[1] + 0.5),
            float(rows.mean() + self.mask_origin[0] + 0.5),
        )

    @property
    def area_mm2(self) -> float | None:
        if self.source_grid.unit != "mm" or self.box is not None:
            return None
        return float(self.mask.sum()) * self.source_grid.voxel_size

    @property
    def longest_diameter_mm(self) -> float | None:
        """Greatest distance between two points of the mask's border, taken at the middle of the pixel edges.

        Of a box its longer side.
        """
        return None if self.source_grid.unit != "mm" else float(np.linalg.norm(np.diff(self.longest_axis_mm, axis=0)))

    @property
    def longest_axis_px(self) -> Floats:
        """Both ends (2, 2) as x, y of the longest diameter, in source pixels."""
        return self._longest_axis()[0]

    @property
    def longest_axis_mm(self) -> Floats:
        """Both ends (2, 2) of the longest diameter in the grid's world coordinates."""
        return self._longest_axis()[1]

    def _longest_axis(self) -> tuple[Floats, Floats]:
        if self.box is not None:
            return self._longer_side(*self.box.xy)
        middles = _edge_middles(self.outline_px)
        world = self.source_grid.world(middles[:, ::-1])
        hull = ConvexHull(world).vertices if len(world) > 3 else np.arange(len(world))
        apart = np.linalg.norm(world[hull][:, None] - world[hull][None], axis=-1)
        first, second = np.unravel_index(int(apart.argmax()), apart.shape)
        ends = [int(hull[first]), int(hull[second])]
        return middles[ends], world[ends]

    def _longer_side(self, x0: float, y0: float, x1: float, y1: float) -> tuple[Floats, Floats]:
        """The longer one in the world of the box's two middle lines."""
        across, down = (x0 + x1) / 2, (y0 + y1) / 2
        lines = (np.array([[x0, down], [x1, down]]), np.array([[across, y0], [across, y1]]))
        placed = [(line, self.source_grid.world(line[:, ::-1])) for line in lines]
        return max(placed, key=lambda one: float(np.linalg.norm(one[1][1] - one[1][0])))

    def full_mask(self) -> Mask:
        """The mask on the whole source frame."""
        whole = np.zeros(self.source_grid.shape, dtype=np.bool_)
        (row, column), (rows, columns) = self.mask_origin, self.mask.shape
        whole[row : row + rows, column : column + columns] = self.mask
        return whole


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """What a result may show of an image: tissue only, uint8 (row, column), pixels square in the world.

    `box` is the part of the source frame that it shows.
    """

    ref: SourceRef
    pixels: Array
    box: Box


@dataclass(frozen=True, eq=False)
class Reading:
    """One image or volume read: what was found on it (possibly nothing), and what may be shown of it.

    `refs` are all frames that were analysed. `structures` are the organs in which was looked, which are no findings.
    `seconds` says how long harmonising and the network took; it reaches no result. `classes` holds the probability of
    each image class by name, with a sum of 1; empty for a package that has none. `notes` are sentences about how the
    image was harmonised that a reader of the result must know. `anterior_px` is the organ's most anterior point as x, y
    in source pixels, None where the recipe knows none.
    """

    refs: tuple[SourceRef, ...]
    findings: tuple[Finding, ...]
    thumbnails: tuple[Thumbnail, ...]
    seconds: dict[str, float]
    classes: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    anterior_px: tuple[float, float] | None = None
    structures: tuple[Finding, ...] = ()


def cross_section(label: str, score: float, volume_region: VolumeRegion) -> Finding:
    """The finding that a volume region is, on the slice where its area is largest (the first of equals).

    Of a slice with several parts (4-neighbours) it is the largest. The plane's grid is in millimetres, without patient
    orientation.
    """
    number, whole, corner = volume_region.largest_slice()
    parts, _ = ndimage.label(whole)
    largest = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    where = ndimage.find_objects(parts)[largest - 1]
    mask, origin = parts[where] == largest, (corner[0] + where[0].start, corner[1] + where[1].start)
    _, rows, columns = volume_region.grid.shape
    _, row_step, column_step = volume_region.grid.spacing
    plane = Grid.plane(rows, columns, row_step, column_step, "mm")
    outline = trace_outline(mask) + np.array([origin[1], origin[0]], dtype=np.float64)
    return Finding(label, score, volume_region.refs[number], plane, mask, origin, outline, volume_region=volume_region)


def trace_outline(mask: Mask) -> Floats:
    """The border of the mask's largest 4-connected part, as corners (n, 2) x, y along pixel edges, clockwise.

    A hole is part of the one outline, which goes there and back by the same way (a keyhole), so its even-odd area and
    its shoelace area are exactly the pixels of the part. Straight runs are merged into one edge. An empty mask gives an
    empty (0, 2) array.
    """
    parts, count = ndimage.label(mask)
    if count == 0:
        return np.zeros((0, 2))
    part = parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1
    outline = _border(ndimage.binary_fill_holes(part))
    holes, _ = ndimage.label(ndimage.binary_fill_holes(part) & ~part)
    # From the left, so that a hole's way, straight to the left, ends on what is in the outline by then.
    places = sorted(enumerate(ndimage.find_objects(holes), start=1), key=lambda one: one[1][1].start)
    for number, where in places:
        corner = np.array([where[1].start, where[0].start], dtype=np.float64)
        outline = _with_hole(outline, _border(holes[where] == number) + corner)
    return np.asarray(outline[(outline != np.roll(outline, 1, axis=0)).any(axis=1)])


def _with_hole(outline: Floats, hole: Floats) -> Floats:
    """The outline with a way from it to the leftmost corner of a hole, around the hole the other way, and back."""
    first = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
    x, y = hole[first]
    following = np.roll(outline, -1, axis=0)
    low, high = np.minimum(outline, following), np.maximum(outline, following)
    # The upright edges that the way meets, the nearest of them last.
    met = np.flatnonzero(
        (outline[:, 0] == following[:, 0]) & (outline[:, 0] <= x) & (low[:, 1] <= y) & (y <= high[:, 1])
    )
    edge = int(met[outline[met, 0].argmax()])
    door = np.array([[outline[edge, 0], y]])
    around = np.roll(hole, -first, axis=0)[::-1]
    way = np.concatenate([door, hole[first : first + 1], around, door])
    return np.concatenate([outline[: edge + 1], way, outline[edge + 1 :]])


def _border(region: Mask) -> Floats:
    """The border of a region of one 4-connected part without holes, as corners (n, 2) x, y, clockwise."""
    filled = np.pad(region, 1)
    row, column = (int(v) for v in np.argwhere(filled)[0])
    corners: list[tuple[int, int]] = []
    start = (column, row)
    here, heading = start, (1, 0)
    while True:
        here = (here[0] + heading[0], here[1] + heading[1])
        turned = _turn(filled, here, heading)
        if turned != heading:
            corners.append(here)
        heading = turned
        if here == start and heading == (1, 0):
            break
    return np.array(corners, dtype=np.float64) - 1.0


def _edge_middles(outline: Floats) -> Floats:
    """The middle of every pixel edge along an outline of merged runs, (edges, 2) x, y."""
    runs = np.roll(outline, -1, axis=0) - outline
    lengths = np.abs(runs).sum(axis=1).astype(int)
    steps = np.concatenate([np.arange(n) + 0.5 for n in lengths])
    return np.asarray(np.repeat(outline, lengths, axis=0) + steps[:, None] * np.repeat(np.sign(runs), lengths, axis=0))


def _turn(filled: Mask, corner: tuple[int, int], heading: tuple[int, int]) -> tuple[int, int]:
    """Next heading at a pixel corner, keeping the filled to the right (y grows downwards, so clockwise)."""
    x, y = corner
    dx, dy = heading
    ahead_right = filled[y + (dy + dx - 1) // 2, x + (dx - dy - 1) // 2]
    ahead_left = filled[y + (dy - dx - 1) // 2, x + (dx + dy - 1) // 2]
    if not ahead_right:
        return (-dy, dx)
    # 4-connected: a diagonal neighbour does not count, so the border turns left only into a filled edge neighbour.
    return (dy, -dx) if ahead_left else heading
