"""MR series → candidates: the volumes that its frames may make, and what keeps each from being one of the organ.

Frames are parted by kind, orientation, matrix, b-value, gradient direction, echo, frame of reference and acquisition.
All by headers; LPS millimetres.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from imaging.dicom.headers.lattice import SAME_DIRECTION, lacks_slices, lattice_step, repetitions
from imaging.errors import Reason, ReasonCode
from imaging.image import Floats

if TYPE_CHECKING:
    from imaging.dicom.headers.acquisition import MrAcquisition, MrFrame
    from imaging.dicom.index import Instance, Series

# Half of what neighbouring slices are apart at least: volumes nearer than this share their slices.
_SAME_SLICES_MM: Final = 0.5
# A tensor needs at least six directions (Basser et al., Biophys J 1994).
_TENSOR_DIRECTIONS: Final = 6
_WEIGHTED: Final = ("diffusion", "mosaic")
_BY_B_VALUE: Final = (*_WEIGHTED, "calculated")
# A step this near to a whole number of stated ones is that number of steps.
_WHOLE_STEPS: Final = 0.02
# Some makers state the gap between slices where the standard has the distance of their centres; a gap is smaller than
# the slice.
_LEAST_STEP_OF_THICKNESS: Final = 0.95
# More echoes of one scan are a measurement of T2.
_MOST_ECHOES: Final = 2

Member = tuple["Instance", "MrFrame"]


@dataclass(frozen=True)
class VolumeLimits:
    """What a volume of the organ must be.

    `most_tilt_degrees` is how far the slice normal may lean from the head-foot axis, `least_coverage_mm` how high the
    stack must be.
    """

    most_tilt_degrees: float
    least_coverage_mm: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """Frames that may make one volume, in order along their normal, and why it cannot be used (`fault`)."""

    series: Series
    members: tuple[Member, ...]
    fault: ReasonCode | None = None

    @property
    def kind(self) -> str:
        return self.members[0][1].kind

    @property
    def acquisition(self) -> MrAcquisition:
        found = self.members[0][0].acquisition
        assert found is not None
        return found

    @property
    def b(self) -> float | None:
        stated = self.members[0][1].b_value
        return None if stated is None else stated.value

    @property
    def corners(self) -> Floats:
        return np.array([frame.corner for _, frame in self.members])

    @property
    def coverage_mm(self) -> float:
        """Slices times their step; 0 where a slice has no position."""
        if _unplaced(self.members):
            return 0.0
        corners = self.corners
        return float(np.linalg.norm(corners[-1] - corners[0])) * len(corners) / max(1, len(corners) - 1)

    @property
    def pixel_mm(self) -> float:
        return max(self.members[0][1].spacing_mm)

    @property
    def protocol(self) -> tuple[str, ...]:
        """The protocol of all its images; empty where they differ or leave it open."""
        stated = {i.acquisition.protocol for i, _ in self.members if i.acquisition is not None}
        return stated.pop() if len(stated) == 1 else ()

    @property
    def acquired(self) -> str:
        return max(i.acquisition.acquired for i, _ in self.members if i.acquisition is not None)

    @property
    def frame_of_reference(self) -> str:
        return self.acquisition.frame_of_reference

    @property
    def scales(self) -> frozenset[float | None]:
        """The scales of its frames (`MrFrame.scale`), as far as they differ."""
        return frozenset(None if f.scale is None else float(f"{f.scale:.5g}") for _, f in self.members)

    def shortfalls(self) -> Iterator[str]:
        """What its headers state of it and is not there, a sentence each: images, slices, steps, parts.

        Of a derived image the counts may be those of its sources, so they are not held against it.
        """
        stated, there = self.acquisition.stated, len(self.series.instances)
        is_own = self.kind == "t2" or (self.kind == "diffusion" and self.acquisition.is_original)
        if is_own and stated.images is not None and there < stated.images:
            yield f"{there} images of the series are there; its header states {stated.images}"
        in_stack = [frame.number_in_stack or 0 for _, frame in self.members]
        slices = max(stated.slices or 0 if is_own else 0, *in_stack)
        if len(self.members) < slices:
            yield f"{len(self.members)} slices are there; the header states {slices}"
        if (skipped := self._steps_skipped()) > 1:
            yield f"its slices are {skipped} times as far apart as the header states"
        known = [i.acquisition.stated.concatenation for i in self.series.instances if i.acquisition]
        own = {a.stated.concatenation for i, _ in self.members if (a := i.acquisition)}
        for whole in own:
            if whole is not None and (found := known.count(whole)) < (parts := whole[1]):
                yield f"{found} parts of its concatenation are there; the header states {parts}"

    def _steps_skipped(self) -> int:
        """How many stated steps lie between neighbouring slices; 1 where none is stated, or it may be a gap."""
        stated = self.acquisition.stated
        if stated.step_mm is None or len(self.members) < 2 or _unplaced(self.members):
            return 1
        if stated.step_mm < _LEAST_STEP_OF_THICKNESS * (stated.thickness_mm or 0.0):
            return 1
        found = self.coverage_mm / len(self.members) / stated.step_mm
        return round(found) if abs(found - round(found)) <= _WHOLE_STEPS * found else 1

    def shares_slices(self, other: Candidate) -> bool:
        """Whether another volume has the same slices and pixels."""
        (mine, own), (theirs, its) = self.members[0], other.members[0]
        alike = (mine.rows, mine.columns, len(self.members)) == (theirs.rows, theirs.columns, len(other.members))
        near = alike and bool(np.abs(self.corners - other.corners).max() < _SAME_SLICES_MM)
        return near and np.allclose(own.spacing_mm, its.spacing_mm, rtol=1e-3)


def find_candidates(series: Series, limits: VolumeLimits) -> list[Candidate]:
    """The volumes of a series, each with its fault."""
    groups: dict[tuple[object, ...], list[Member]] = defaultdict(list)
    orientations: list[Floats] = []
    for instance in series.instances:
        for frame in instance.acquisition.frames if instance.acquisition else ():
            key = (
                frame.kind,
                _orientation(frame, orientations),
                (instance.rows, instance.columns, *np.round(frame.spacing_mm, 3)),
                (frame.b_value and frame.b_value.value, frame.has_bad_b) if frame.kind in _BY_B_VALUE else (),
                frame.direction,
                frame.marks if frame.kind == "t2" else (),
                instance.acquisition.frame_of_reference if instance.acquisition else "",
                frame.scale is None,
            )
            groups[key].append((instance, frame))
    tensor = _directions(groups.values()) >= _TENSOR_DIRECTIONS
    echoes = {members[0][1].marks for members in groups.values() if members[0][1].kind == "t2"}
    judged = [_judged(series, tuple(part), limits) for group in groups.values() for part in _told_apart(group)]
    if tensor:
        return [replace(v, fault=Reason.DIFFUSION_TENSOR) if v.kind in _WEIGHTED else v for v in judged]
    if len(echoes) > _MOST_ECHOES:  # A measurement of T2, not an image weighted by it.
        return [replace(v, fault=Reason.OTHER_CONTRAST) if v.kind == "t2" else v for v in judged]
    return judged


def _orientation(frame: MrFrame, known: list[Floats]) -> int | None:
    """Which of the orientations met so far a frame has; a new one is added to them."""
    if frame.across is None or frame.down is None:
        return None
    own = np.array([frame.across, frame.down])
    for number, other in enumerate(known):
        if np.abs(own - other).max() <= SAME_DIRECTION:
            return number
    known.append(own)
    return len(known) - 1


def _directions(groups: Iterable[list[Member]]) -> int:
    """How many gradient directions a series has at least: those that differ, or the highest that a name counts to."""
    names = {member[0][1].direction for member in groups} - {""}
    counted = [int(name[1:]) for name in names if name.startswith("#") and name[1:].isdigit()]
    return max([len(names), *counted])


def _told_apart(members: list[Member]) -> list[list[Member]]:
    """Frames at one place are repetitions: parted by acquisition number where that leaves none, else left together."""
    if _repeated(members) == 1:
        return [members]
    parts: dict[str, list[Member]] = defaultdict(list)
    for instance, frame in members:
        parts[instance.acquisition.number if instance.acquisition else ""].append((instance, frame))
    single = len(parts) > 1 and all(_repeated(part) == 1 for part in parts.values())
    return list(parts.values()) if single else [members]


def _repeated(members: list[Member]) -> int:
    return 1 if _unplaced(members) else repetitions(_depths(members))


def _unplaced(members: Iterable[Member]) -> bool:
    return any(frame.corner is None or frame.across is None or frame.down is None for _, frame in members)


def _depths(members: Iterable[Member]) -> Floats:
    """Positions along the normal of the first frame, in mm."""
    placed = list(members)
    first = placed[0][1]
    normal = np.cross(np.array(first.across), np.array(first.down))
    return np.array([np.asarray(frame.corner) @ normal for _, frame in placed])


def _judged(series: Series, members: tuple[Member, ...], limits: VolumeLimits) -> Candidate:
    """The frames in order along their normal, and what keeps them from being a volume of the organ."""
    if _unplaced(members) or min(members[0][1].spacing_mm) <= 0:
        return Candidate(series, members, Reason.GEOMETRY)
    ordered = tuple(members[k] for k in np.argsort(_depths(members), kind="stable"))
    return Candidate(series, ordered, _fault(Candidate(series, ordered), limits))


def _fault(volume: Candidate, limits: VolumeLimits) -> Reason | None:
    first, depths = volume.members[0][1], _depths(volume.members)
    normal = np.cross(np.array(first.across), np.array(first.down))
    if abs(normal[2]) < np.cos(np.radians(limits.most_tilt_degrees)):
        return Reason.NOT_AXIAL
    if repetitions(depths) > 1:
        return Reason.GEOMETRY
    if len(depths) < 2 or volume.coverage_mm < limits.least_coverage_mm:
        return Reason.INCOMPLETE_VOLUME
    if lattice_step(volume.corners) is None:
        return Reason.MISSING_SLICE if lacks_slices(depths) else Reason.GEOMETRY
    return None
