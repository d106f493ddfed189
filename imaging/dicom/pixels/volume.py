"""Instances → volumes: planes sorted by position along the normal, volumes at one place told apart, each checked.

Spacing comes from positions, never from a stated thickness. A series that is no regular lattice (a missing slice,
uneven steps, mixed orientations, repeated positions that nothing tells apart, a single slice) is refused, not
repaired. `find_stacks` needs headers only, so that volumes can be chosen before any pixel is decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from imaging.dicom.headers.lattice import SAME_DIRECTION, lattice_step, repetitions
from imaging.dicom.headers.planes import Plane, read_planes
from imaging.dicom.index import Instance
from imaging.dicom.pixels.read import open_frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, InputError, Reason
from imaging.image import LPS_TO_RAS, Array, Floats, Grid, Image, Origin

# Of the values in a slice, against the median of all slices that show anything.
_LEAST_SPREAD: Final = 0.01


@dataclass(frozen=True, eq=False)
class Stack:
    """The planes of one volume in order along the normal, and their grid in `patient_ras`.

    `facts` are what told this volume from others of its series, as the header writes them; empty when it is alone.
    """

    planes: tuple[Plane, ...]
    grid: Grid
    origin: Origin
    facts: dict[str, str]

    def read(self) -> Image:
        """The volume (1, slice, row, column): stored values where no plane is rescaled, else float32.

        `refs` has one entry per slice. Raises InputError when any slice cannot be decoded.
        """
        rescaled = any((plane.slope, plane.intercept) != (1.0, 0.0) for plane in self.planes)
        kinds = [plane.frames.format.dtype for plane in self.planes]
        array: Array = np.empty((1, *self.grid.shape), np.float32 if rescaled else np.result_type(*kinds))
        decoded: tuple[Any, Array] = (None, array)
        for place, plane in enumerate(self.planes):
            key = (id(plane.frames), plane.number)
            if decoded[0] != key:
                decoded = (key, plane.frames.read(plane.number).array)
            top, left, bottom, right = plane.box
            values = decoded[1][top:bottom, left:right]
            array[0, place] = values * plane.slope + plane.intercept if rescaled else values
        _check_signal(array[0], self.planes[0].frames.name)
        refs = tuple(plane.source for plane in self.planes)
        notes = tuple(dict.fromkeys(n for plane in self.planes for n in (*plane.notes, *plane.frames.notes)))
        return Image(array, self.grid, self.grid, refs, self.origin, notes=notes)


def read_volumes(images: Iterable[Instance | ImageRef], disposable: bool = False) -> list[Image | ImagingError]:
    """Every volume of the images, or the error in its place. `disposable` as in `codecs`."""
    found: list[Image | ImagingError] = []
    for stack in find_stacks(images, disposable):
        try:
            found.append(stack.read() if isinstance(stack, Stack) else stack)
        except ImagingError as error:
            found.append(error)
    return found


def find_stacks(images: Iterable[Instance | ImageRef], disposable: bool = False) -> list[Stack | ImagingError]:
    """The volumes that the headers describe, in order of appearance, and one error for whatever makes none.

    Of a reference that names frames these alone are taken; regions of a screen mean nothing here.
    """
    found: list[Stack | ImagingError] = []
    groups: dict[tuple[str, ...], list[Plane]] = defaultdict(list)
    origins: dict[str, Origin] = {}
    for image in images:
        instance, frames = (image.instance, image.frames) if isinstance(image, ImageRef) else (image, None)
        try:
            for plane in _planes(instance, disposable):
                if frames is None or plane.number + 1 in frames:
                    groups[plane.stack].append(plane)
            origins[instance.sop_uid] = instance.origin
        except ImagingError as error:
            found.append(error)
    for planes in groups.values():
        try:
            _check_alike(planes)
            parts = _tell_apart(planes)
        except ImagingError as error:
            found.append(error)
            continue
        for part, facts in parts:
            try:
                found.append(_stack(part, facts, Origin.common([origins[p.source.sop_uid] for p in part])))
            except ImagingError as error:
                found.append(error)
    return found


def _planes(instance: Instance, disposable: bool) -> list[Plane]:
    try:
        return read_planes(instance, open_frames(instance, disposable))
    except ImagingError:
        raise
    except Exception as error:
        raise InputError(
            f"{instance.name}: the geometry in the header cannot be parsed ({type(error).__name__})",
            Reason.UNREADABLE_HEADER,
        ) from error


def _check_alike(planes: list[Plane]) -> None:
    """All planes of a stack must have one matrix, one pixel spacing and one orientation."""
    first = planes[0]
    for plane in planes:
        turned = max(np.abs(plane.across - first.across).max(), np.abs(plane.down - first.down).max())
        if turned > SAME_DIRECTION:
            raise _refusal(planes, f"mixed orientations: ImageOrientationPatient differs by {turned:.3g}")
        if plane.shape != first.shape or not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise _refusal(
                planes,
                f"mixed matrices: {first.shape} at {first.spacing_mm} mm and {plane.shape} at {plane.spacing_mm} mm",
            )


def _tell_apart(planes: list[Plane]) -> list[tuple[list[Plane], dict[str, str]]]:
    """The planes parted until no two of a part are at one place, with the facts that parted them.

    A fact parts whole volumes when the repetitions of the parts add up to those of all. One that differs from slice
    to slice (a time, an interleaved acquisition) makes them more, so it is passed over.
    """
    repeated = _repetitions(planes)
    if repeated == 1 or repeated == len(planes):
        return [(planes, {})]
    for name in dict.fromkeys(name for plane in planes for name in plane.facts):
        parts: dict[str, list[Plane]] = defaultdict(list)
        for plane in planes:
            parts[plane.facts.get(name, "")].append(plane)
        if len(parts) > 1 and sum(map(_repetitions, parts.values())) == repeated:
            return [
                (inner, {name: value, **facts}) for value, part in parts.items() for inner, facts in _tell_apart(part)
            ]
    raise _refusal(planes, f"{repeated} planes at one place, and no attribute tells them apart")


def _repetitions(planes: list[Plane]) -> int:
    """The most planes that lie at one place."""
    return repetitions(_depths(planes))


def _depths(planes: list[Plane]) -> Floats:
    """Positions along the normal of the first plane, in mm."""
    normal = np.cross(planes[0].across, planes[0].down)
    return np.array([plane.corner @ normal for plane in planes])


def _stack(planes: list[Plane], facts: dict[str, str], origin: Origin) -> Stack:
    """Planes at distinct places as a Stack. Raises InputError when they are no regular lattice."""
    if len(planes) < 2 or _repetitions(planes) > 1:
        raise _refusal(planes, "a single slice position is no volume: spacing comes from positions")
    ordered = [planes[k] for k in np.argsort(_depths(planes))]
    corners = np.array([plane.corner for plane in ordered])
    step = lattice_step(corners)
    if step is None:
        gaps = np.diff(_depths(ordered))
        widest = int(np.argmax(gaps))
        raise _refusal(
            planes,
            f"uneven slices: steps of {gaps.min():.3f} to {gaps.max():.3f} mm, the widest between slice {widest + 1} "
            f"and {widest + 2} of {len(ordered)}; is a slice missing?",
        )
    first = ordered[0]
    lps = np.eye(4)
    lps[:3, 0] = step
    lps[:3, 1] = first.down * first.spacing_mm[0]
    lps[:3, 2] = first.across * first.spacing_mm[1]
    lps[:3, 3] = corners[0]
    grid = Grid((len(ordered), *first.shape), LPS_TO_RAS @ lps, "patient_ras")
    return Stack(tuple(ordered), grid, origin, facts)


def _check_signal(volume: Array, name: str) -> None:
    """Raises InputError (NO_SIGNAL) for a volume, or a slice between others that show something, of one value.

    Slices at the ends may be blank: scanners cut maps off outside of the body. A slice whose values hardly differ, by a
    hundredth of what they usually do in the volume, shows as little as one of a single value.
    """
    spread = volume.max(axis=(1, 2)).astype(np.float64) - volume.min(axis=(1, 2))
    if volume.min() == volume.max():
        raise InputError(f"{name}: one value throughout the volume", Reason.NO_SIGNAL)
    if not spread.any():
        return
    blank = spread < _LEAST_SPREAD * np.median(spread[spread > 0])
    lit = np.flatnonzero(~blank)
    if between := [int(k) for k in np.flatnonzero(blank) if lit[0] < k < lit[-1]]:
        raise InputError(
            f"{name}: slice {between[0] + 1} of {len(volume)} has one value throughout, and slices on both sides of it "
            f"show something ({len(between)} such slices)",
            Reason.NO_SIGNAL,
        )


def _refusal(planes: list[Plane], what: str) -> InputError:
    names = sorted({plane.frames.name for plane in planes})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return InputError(f"{names[0]}{more}: {len(planes)} planes make no volume: {what}", Reason.GEOMETRY)
