"""Image, Grid and the corner law: where every pixel and every box is.

Array axes are (channel, [slice,] row, column). A grid's `affine` maps voxel *centres*, as indices in array axis
order ([slice,] row, column), to world coordinates:

* frame `patient_ras`: x towards the patient's right, y to the front, z to the head, millimetres (MONAI's convention);
* frame `image_plane`: x to the right and y down, millimetres, or pixels when the image is uncalibrated. The centre
  of the source image's first pixel is the origin. No patient orientation is known or used there.

**Corner law.** Voxel centres and corner coordinates differ by half a voxel: index 0 is the centre of the first voxel,
whose corners are 0 and 1. Boxes and outlines are corner coordinates, so they go −½, affine, +½. `Grid.carry_corners`
is the only place where that happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GeometryError, Reason
from imaging.grayscale import Grayscale

Array = NDArray[Any]
Floats = NDArray[np.float64]
Frame = Literal["patient_ras", "image_plane"]
Unit = Literal["mm", "pixel"]
Channels = Literal["luminance", "rgb", "ybr_full"]

UNKNOWN = "unknown"
MIXED = "mixed"
# DICOM's patient axes point left, back and head; `patient_ras` points right, front and head.
LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from: the three fields that every record carries. `unknown` when unknown, never guessed."""

    site: str = UNKNOWN
    scanner: str = UNKNOWN
    protocol: str = UNKNOWN

    @staticmethod
    def common(origins: list[Origin]) -> Origin:
        """The origin of a study: each field where all agree, `mixed` where they do not, `unknown` when empty."""

        def one(values: set[str]) -> str:
            return values.pop() if len(values) == 1 else (MIXED if values else UNKNOWN)

        return Origin(
            one({o.site for o in origins}), one({o.scanner for o in origins}), one({o.protocol for o in origins})
        )


@dataclass(frozen=True, slots=True)
class View:
    """Which projection of a paired organ an image is: the side, the view, and what modifies it.

    `laterality` is L or R; `view` and `modifiers` are code meanings of CID 4014 and CID 4015 (PS3.16), shortened as
    readers say them (CC, MLO; magnification, spot compression, implant displaced).
    """

    laterality: Literal["L", "R"]
    view: str
    modifiers: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """L MLO, and what modifies it: R CC (magnification)."""
        more = f" ({', '.join(self.modifiers)})" if self.modifiers else ""
        return f"{self.laterality} {self.view}{more}"


@dataclass(frozen=True, slots=True)
class SourceRef:
    """One frame (or one region of one frame) of one DICOM instance.

    `frame_number` counts from 1 and is None for a single-frame object; `region` counts the items of
    SequenceOfUltrasoundRegions from 0 and is None when the whole frame is meant.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str
    frame_number: int | None = None
    region: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box along the axes of a grid: `low` and `high` corner in array axis order ([slice,] row, column).

    Corner coordinates: the first pixel spans 0 to 1, so a box of whole pixels is half-open in indices. What people and
    DICOM read is x0, y0, x1, y1 of a plane: `from_xy` and `xy` are the only ways there and back. Many boxes at once are
    an array (n, 2 · d), each row as `row`. Raises GeometryError for corners of other than 2 or 3 axes, or a high corner
    below the low one.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        is_box = len(self.low) == len(self.high) and len(self.low) in (2, 3)
        if not is_box or any(b < a for a, b in zip(self.low, self.high, strict=True)):
            raise GeometryError(
                f"Box: found low {self.low} and high {self.high}; allowed are 2 or 3 axes, and low at most high",
                Reason.GEOMETRY,
            )

    @staticmethod
    def from_row(row: Array) -> Box:
        """Of a row (2 · d,) of an array of boxes."""
        values = np.asarray(row).tolist()
        return Box(low=tuple(values[: len(values) // 2]), high=tuple(values[len(values) // 2 :]))

    @staticmethod
    def from_xy(x0: float, y0: float, x1: float, y1: float) -> Box:
        """Of a plane's corners with the column first."""
        return Box(low=(y0, x0), high=(y1, x1))

    @property
    def row(self) -> Floats:
        """(2 · d,) float64: low corner, high corner."""
        return np.array([*self.low, *self.high], dtype=np.float64)

    @property
    def xy(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of a box in a plane."""
        (y0, x0), (y1, x1) = self.low, self.high
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def pixels(self) -> tuple[slice, ...]:
        """The pixels whose centres lie inside, as an index of the grid's array."""
        low, high = (np.ceil(np.asarray(corner) - 0.5).astype(int).tolist() for corner in (self.low, self.high))
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels: `shape` ([slice,] row, column), `affine` (d+1, d+1) float64 in array axis order."""

    shape: tuple[int, ...]
    affine: Floats
    frame: Frame
    unit: Unit = "mm"

    def __post_init__(self) -> None:
        dims = len(self.shape)
        affine = np.asarray(self.affine, dtype=np.float64)
        object.__setattr__(self, "affine", affine)
        if affine.shape != (dims + 1, dims + 1):
            raise GeometryError(
                f"Grid.affine: found shape {affine.shape} for {dims} array axes {self.shape}; "
                f"allowed is ({dims + 1}, {dims + 1})",
                Reason.GEOMETRY,
            )
        if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:-1, :-1])) < 1e-12:
            raise GeometryError(
                f"Grid.affine: found a singular or non-finite matrix {affine.tolist()}; allowed is an invertible one",
                Reason.GEOMETRY,
            )

    @staticmethod
    def plane(rows: int, columns: int, row_step: float = 1.0, column_step: float = 1.0, unit: Unit = "pixel") -> Grid:
        """The grid of a whole 2-D image: steps in `unit`, origin at the centre of the first pixel."""
        affine = np.array([[0.0, column_step, 0.0], [row_step, 0.0, 0.0], [0.0, 0.0, 1.0]])
        return Grid((rows, columns), affine, "image_plane", unit)

    @property
    def is_volume(self) -> bool:
        """Whether it has slices."""
        return len(self.shape) == 3

    @property
    def whole(self) -> Box:
        """All of it."""
        return Box(low=(0,) * len(self.shape), high=self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each array axis, in `unit`."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def voxel_size(self) -> float:
        """Area (2-D) or volume (3-D) of one voxel, in `unit` squared or cubed."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    def index_map(self, target: Grid) -> Floats:
        """Affine (d+1, d+1) from this grid's centre indices to the target's. Raises GeometryError across frames."""
        if (self.frame, self.unit, len(self.shape)) != (target.frame, target.unit, len(target.shape)):
            raise GeometryError(
                f"Grid: found {self.frame} in {self.unit} with {len(self.shape)} axes against "
                f"{target.frame} in {target.unit} with {len(target.shape)}; both must be the same",
                Reason.GEOMETRY,
            )
        return np.asarray(np.linalg.solve(target.affine, self.affine))

    def carry_corners(self, points: Array, target: Grid) -> Floats:
        """Corner coordinates (n, d), in array axis order, of this grid as those of the target: the corner law."""
        matrix = self.index_map(target)
        centres = np.asarray(points, dtype=np.float64) - 0.5
        return np.asarray(centres @ matrix[:-1, :-1].T + matrix[:-1, -1] + 0.5)

    def carry_boxes(self, boxes: Array, target: Grid) -> Floats:
        """Boxes (n, 2d), each a `Box.row`; the enclosing box where axes are not parallel."""
        boxes = np.asarray(boxes, dtype=np.float64)
        dims = len(self.shape)
        low, high = boxes[:, :dims], boxes[:, dims:]
        picks = np.stack(np.meshgrid(*[[0, 1]] * dims, indexing="ij"), axis=-1).reshape(-1, dims)
        corners = np.where(picks[:, None, :] == 0, low, high)
        carried = self.carry_corners(corners.reshape(-1, dims), target).reshape(len(picks), -1, dims)
        return np.concatenate([carried.min(axis=0), carried.max(axis=0)], axis=1)

    def carry_box(self, box: Box, target: Grid) -> Box:
        """One box of this grid as that of the target."""
        return Box.from_row(self.carry_boxes(box.row[None], target)[0])

    def world(self, points: Array) -> Floats:
        """World coordinates (n, d) of corner coordinates (n, d) in array axis order."""
        centres = np.asarray(points, dtype=np.float64) - 0.5
        return np.asarray(centres @ self.affine[:-1, :-1].T + self.affine[:-1, -1])

    def crop(self, low: tuple[int, ...], shape: tuple[int, ...]) -> Grid:
        """The sub-grid that starts at voxel `low`; `low` may be negative and the shape may reach outside (padding)."""
        affine = self.affine.copy()
        affine[:-1, -1] += affine[:-1, :-1] @ np.asarray(low, dtype=np.float64)
        return replace(self, shape=shape, affine=affine)


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with their place and their origin.

    `array` is (channel, [slice,] row, column) and `grid` its place; `source_grid` is the grid of the whole source
    frame or volume, to which findings return. `channels` says what the channel axis holds. `region` is the region of
    interest on `grid`, in whole pixels: the declared one of an ultrasound frame, the organ of a volume; None when there
    is none. `refs` of a volume has one entry per slice.

    `beside` holds the other volumes of an exam that are read together with this one, by role, each on its own grid.
    `b_value` of a diffusion-weighted one is in s/mm², None where it is unknown or does not apply. `stated` is the
    affine (4, 4) of (column, row, 0) to RAS millimetres that the file of a plane states, to compare masks with it.

    A projection radiograph has a `presentation`: then `array` holds stored values, to which neither modality LUT nor
    VOI nor the inversion of MONOCHROME1 was applied. `view` is its projection, None when unknown or not of a paired
    organ; `directions` are PatientOrientation's (towards higher columns, towards higher rows), None when unsaid.
    """

    array: Array
    grid: Grid
    source_grid: Grid
    refs: tuple[SourceRef, ...]
    origin: Origin
    channels: Channels = "luminance"
    region: Box | None = None
    notes: tuple[str, ...] = field(default=())
    grayscale: Grayscale | None = None
    view: View | None = None
    directions: tuple[str, str] | None = None
    beside: Mapping[str, Image] = field(default_factory=dict)
    b_value: float | None = None
    stated: Floats | None = None

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.grid.shape:
            raise GeometryError(
                f"Image: found array shape {self.array.shape} on a grid of {self.grid.shape}; "
                "allowed is (channel, *grid shape)",
                Reason.GEOMETRY,
            )

    @property
    def all_refs(self) -> tuple[SourceRef, ...]:
        """The frames of the image and of every volume beside it."""
        return (*self.refs, *(ref for volume in self.beside.values() for ref in volume.refs))


def resample(array: Array, source: Grid, target: Grid, order: int = 1, fill: float = 0.0) -> Array:
    """The array ([slice,] row, column) of `source`, sampled at the voxel centres of `target`.

    Positions are exact (float64 affine, no rounding to edges). When the target is coarser, a Gaussian of the missing
    bandwidth goes first for `order` ≥ 1, so that thin structures are averaged, not aliased. Edge voxels extend half a
    voxel outwards, as their area does; beyond that the value is `fill`.
    """
    from scipy import ndimage  # here, because a process that only reads headers starts in half the time without

    if array.shape != source.shape:
        raise GeometryError(
            f"resample: found array shape {array.shape} on a grid of {source.shape}; they must be equal",
            Reason.GEOMETRY,
        )
    matrix = target.index_map(source)
    linear = matrix[:-1, :-1]
    values = array.astype(np.float32, copy=False) if order else array
    if order:
        stretch = np.linalg.norm(linear, axis=1)
        sigma = np.sqrt(np.maximum(stretch**2 - 1.0, 0.0)) * 0.4
        if np.any(sigma > 0.1):
            values = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0)
    out: Array = ndimage.affine_transform(
        values, linear, offset=matrix[:-1, -1], output_shape=target.shape, order=order, mode="nearest"
    )
    if _reaches_outside(matrix, source.shape, target.shape):
        out[~within(target, source, np.full(len(source.shape), -1e-9), np.asarray(source.shape) + 1e-9)] = fill
    return out


def within(target: Grid, source: Grid, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Which voxel centres of `target` lie in a box of `source`, borders included; (d,) corner coordinates."""
    matrix = target.index_map(source)
    dims = len(target.shape)
    inside = np.ones(target.shape, dtype=np.bool_)
    axes = np.ogrid[tuple(slice(0, n) for n in target.shape)]
    for axis in range(dims):
        position = matrix[axis, -1] + 0.5 + sum(matrix[axis, k] * axes[k] for k in range(dims))
        inside &= np.broadcast_to((position >= low[axis]) & (position <= high[axis]), target.shape)
    return inside


def _reaches_outside(matrix: Floats, source_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> bool:
    """Whether target voxels lie more than half a voxel beyond the source; the corners tell."""
    dims = len(source_shape)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in target_shape], indexing="ij"), -1).reshape(-1, dims)
    ends = corners @ matrix[:-1, :-1].T + matrix[:-1, -1]
    edge = np.asarray(source_shape) - 0.5
    return bool(np.any(ends < -0.5 - 1e-9) or np.any(ends > edge + 1e-9))
