"""MR series of a study → the volumes of a biparametric prostate exam: T2W, ADC, high b, and the b-values beside it.

A series is parted into volumes (kind, orientation, matrix, b-value, echo, acquisition), each is judged by itself
(axial, regular, long enough), and of several that could play a role the first that is left by ordered steps does:
each step leaves out, with its reason, what is worse than the best of those that remain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from imaging.dicom.headers.adc import read_adc
from imaging.dicom.headers.classes import MR_IMAGES
from imaging.dicom.index import Instance, Series
from imaging.dicom.instance import refused
from imaging.dicom.pixels.floating import read_floating
from imaging.dicom.select import (
    UNPLACED,
    Anatomy,
    Group,
    ImageRef,
    Note,
    Reader,
    Rejected,
    Selection,
    select_images,
)
from imaging.errors import Reason, ReasonCode
from imaging.modalities.mr_volumes import Candidate, VolumeLimits, find_candidates
from imaging.modalities.prostate.reasons import ProstateReason

T2W: Final = "T2W"
ADC: Final = "ADC"
HIGH_B: Final = "high b"
ROLES: Final = (T2W, ADC, HIGH_B)
DIFFUSION: Final = frozenset({ADC, HIGH_B})
B_VALUE: Final = "b "  # before the number, in the roles of the further b-values
# BodyPartExamined of an MR that may show the prostate ("" is unsaid).
PARTS: Final = frozenset(
    ("", "PROSTATE", "PROSTATA", "PELVIS", "ABDOMEN", "ABDOMENPELVIS", "ABDOMEN_PELVIS", "BLADDER", "RECTUM", "BODY")
)

# Axial scans of the prostate are tilted to its long axis by up to about 30°; at 45° a plane is as near to coronal. A
# gland of median size is about 45 mm high; a stack shorter than 30 shows a part of it.
_LIMITS: Final = VolumeLimits(most_tilt_degrees=40.0, least_coverage_mm=30.0)
# Beyond this height more slices are no gain: a scan of the whole pelvis must not win over one of the prostate.
_ENOUGH_COVERAGE_MM: Final = 50.0
_NEARLY: Final = 0.9
# Pixels this much larger than the finest are another scan, not another rounding.
_COARSER: Final = 1.25
# T2W scans have 0.3 to 0.8 mm in the plane (PI-RADS v2.1 asks for 0.7 or less); images made from echo-planar ones more.
_COARSEST_T2_MM: Final = 1.0
# The least b-value that still parts cancer from gland; PI-RADS v2.1 reads 800 to 1000 and wishes for 1400 or more.
_LEAST_HIGH_B: Final = 600.0

_KINDS: Final[dict[str, ReasonCode]] = {
    "map": Reason.DERIVED_MAP,
    "localiser": Reason.LOCALISER,
    "subtraction": Reason.SUBTRACTION,
    "dynamic": ProstateReason.DYNAMIC_CONTRAST,
    "other": Reason.OTHER_CONTRAST,
    "mosaic": Reason.UNSUPPORTED_OBJECT,
}


@dataclass(frozen=True)
class Part:
    """One instance in a volume: the frames of it that belong to the volume, from 1; None means all of them."""

    instance: Instance
    frames: tuple[int, ...] | None


@dataclass(frozen=True)
class Choice:
    """Role → parts, in order along the normal; why each other instance was left out; and what must be said.

    An instance of a role whose `refusal` is set counts as unread: its volume alone could play the role and cannot be
    used. A note is a sentence with the role that it is about, and so is a gap: what its headers state and is not there.
    `readers` are those of `Group`.
    """

    roles: dict[str, tuple[Part, ...]]
    rejected: tuple[Rejected, ...]
    notes: tuple[Note, ...]
    gaps: tuple[Note, ...] = ()
    readers: Mapping[str, Reader] = field(default_factory=dict)


@dataclass
class _Table:
    """What was decided so far."""

    roles: dict[str, Candidate] = field(default_factory=dict)
    rejected: list[tuple[Candidate, ReasonCode]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def play(self, role: str, candidates: list[Candidate], steps: Iterable[_Step]) -> Candidate | None:
        """The best candidate in the role, the others rejected. One that cannot be used stands in where none can."""
        sound = [v for v in candidates if v.fault is None]
        standing = sound or [v for v in candidates if v.fault in _STAND_INS]
        self.rejected += [(v, v.fault) for v in candidates if v.fault and v not in standing]
        for reason, keeps in steps:
            if len(standing) < 2:
                break
            kept = [v for v, kept in zip(standing, keeps(standing), strict=True) if kept]
            self.rejected += [(v, v.fault or reason) for v in standing if v not in kept]
            standing = kept
        if not standing:
            return None
        self.rejected += [(v, v.fault or Reason.REPEATED_SERIES) for v in standing[:-1]]
        self.roles[role] = standing[-1]
        return standing[-1] if sound else None


_Step = tuple[ReasonCode, Callable[[list[Candidate]], list[bool]]]
# Faults of a volume that would otherwise be read: it counts as unread where no other plays its role.
_STAND_INS: Final = (Reason.MISSING_SLICE, Reason.GEOMETRY, Reason.BAD_B_VALUE, Reason.FRAME_OF_REFERENCE)


def select(series: Sequence[Series], anatomy: Anatomy | None = None) -> Selection:
    """The volumes of one exam, of all body parts that may show the prostate where no `anatomy` is given."""

    def refuse(instance: Instance) -> ReasonCode | None:
        if instance.modality != "MR" or instance.sop_class_uid not in MR_IMAGES:
            return Reason.NO_PACKAGE
        if instance.body_part not in PARTS:
            return Reason.OTHER_ANATOMY
        return None if anatomy is None else anatomy.refuse(instance)

    return select_images(series, refuse, lambda admitted: _grouped(series, admitted))


def _grouped(series: Sequence[Series], admitted: list[Instance]) -> tuple[Group | None, list[Rejected]]:
    """Each role with the slices of its volume, and notes.

    An image that must not or cannot be read stays in the group, refused, where its series plays a role or holds nothing
    else: it may have been a slice of that. What is left of its series is chosen as if it were not there.
    """
    meant = {id(instance) for instance in admitted}
    kept = [replace(s, instances=tuple(i for i in s.instances if id(i) in meant)) for s in series]
    readable = [replace(s, instances=tuple(i for i in s.instances if i.acquisition and not i.refusal)) for s in kept]
    choice = choose(readable)
    roles = {role: tuple(ImageRef(p.instance, frames=p.frames) for p in parts) for role, parts in choice.roles.items()}
    used = {ref.instance.series_uid for refs in roles.values() for ref in refs}
    rejected = list(choice.rejected)
    unplaced: list[ImageRef] = []
    for whole, rest in zip(kept, readable, strict=True):
        unread = [(i, i.refusal or Reason.UNREADABLE_HEADER) for i in whole.instances if i not in rest.instances]
        if whole.uid in used or not rest.instances:
            unplaced += [ImageRef(refused(i, reason)) for i, reason in unread]
        else:
            rejected += unread
    if unplaced:
        roles[UNPLACED] = tuple(unplaced)
    # Any diffusion image may be computed from the others of its decay.
    decay = DIFFUSION | {role for role in roles if role.startswith(B_VALUE)}
    needs = dict.fromkeys(DIFFUSION, decay)
    group = Group(series[0].study_uid, "bpMRI", roles, choice.notes, choice.gaps, T2W, needs, choice.readers)
    return group if roles else None, rejected


def choose(series: Iterable[Series]) -> Choice:
    """The roles of a study that its MR series fill. Roles may be missing; that and every inference is a note."""
    table = _Table()
    volumes = [volume for one in series for volume in find_candidates(one, _LIMITS)]
    by_kind: dict[str, list[Candidate]] = defaultdict(list)
    for volume in volumes:
        by_kind[volume.kind].append(volume)
        if volume.kind in _KINDS:
            is_tensor = volume.fault is Reason.DIFFUSION_TENSOR
            table.rejected.append((volume, Reason.DIFFUSION_TENSOR if is_tensor else _KINDS[volume.kind]))
    weighted = [_weighted(v) for v in by_kind["diffusion"]]
    frames = {v.frame_of_reference for v in (*weighted, *by_kind["adc"], *by_kind["calculated"]) if v.fault is None}
    key = table.play(T2W, [_fine(v) for v in by_kind["t2"]], (*_T2_STEPS[:2], _in_frame(frames), *_T2_STEPS[2:]))
    weighted, calculated, maps = (
        [_related(v, key) for v in volumes] for volumes in (weighted, by_kind["calculated"], by_kind["adc"])
    )
    high = _choose_diffusion(table, weighted, calculated)
    table.play(ADC, maps, (*_STEPS, *_beside(high), *_LATEST))
    return _told(table)


def _choose_diffusion(table: _Table, usable: list[Candidate], calculated: list[Candidate]) -> Candidate | None:
    """High b and the other b-values of its decay; a calculated one where none was acquired."""
    high = [v for v in usable if v.fault is None or v.fault in _STAND_INS]
    high = [v for v in high if v.b is None or v.b >= _LEAST_HIGH_B]
    if not any(v.fault is None for v in high) and any(v.fault is None for v in calculated):
        high, calculated = calculated, []
        table.notes.append((HIGH_B, "No high b-value was acquired: the scanner's calculated one is used"))
    elif not high:
        high, calculated = calculated, []
    measured = _measured(usable)
    best = table.play(HIGH_B, high, (_first_of(measured, ProstateReason.CALCULATED_B), *_STEPS, _HIGHEST_B, *_LATEST))
    table.rejected += [(v, v.fault or ProstateReason.CALCULATED_B) for v in calculated]
    if best is not None and best.kind == "diffusion" and best not in measured:
        table.notes.append((HIGH_B, "Nothing says whether the high b was acquired or calculated"))
    beside = [] if best is None else _beside_high(best, usable, measured)
    table.rejected += [(v, v.fault or _why_not_beside(v, best)) for v in usable if v not in (*high, *beside)]
    for b in sorted({v.b for v in beside if v.b is not None}):
        own_series = [v for v in beside if best is not None and v.series is best.series]
        steps = (_first_of(own_series, Reason.LESS_SUITED), *_LATEST)
        table.play(f"{B_VALUE}{b:g}", [v for v in beside if v.b == b], steps)
    return best


def _measured(volumes: list[Candidate]) -> list[Candidate]:
    """Those of which the header says that they were acquired: as original images, as a trace, or with other b-values.

    A calculated b-value is a derived image, and the scanner writes it as the only one of its series.
    """
    of_series: dict[str, set[float | None]] = defaultdict(set)
    for volume in volumes:
        of_series[volume.series.uid].add(volume.b)
    return [
        v for v in volumes if v.acquisition.is_original or v.acquisition.is_trace or len(of_series[v.series.uid]) > 1
    ]


def _beside_high(best: Candidate, volumes: list[Candidate], measured: list[Candidate]) -> list[Candidate]:
    """The other b-values on its slices, of its series or of another one by the same protocol.

    A series that holds single directions is a scan of its own, and so is its b 0.
    """
    directed = {
        v.series.uid for v in volumes if v.fault in (ProstateReason.DIFFUSION_DIRECTION, Reason.DIFFUSION_TENSOR)
    }

    def joins(volume: Candidate) -> bool:
        if volume.fault or volume.kind != best.kind or volume.b == best.b or not volume.shares_slices(best):
            return False
        if (None in volume.scales) != (None in best.scales):
            return False
        if volume.series is best.series:
            return True
        is_same_kind = (volume in measured or best not in measured) and volume.series.uid not in directed
        return is_same_kind and bool(volume.protocol) and volume.protocol == best.protocol

    return [v for v in volumes if joins(v)]


def _why_not_beside(volume: Candidate, best: Candidate | None) -> ReasonCode:
    """Why a sound diffusion volume is none of those beside the chosen one."""
    if best is None:
        return ProstateReason.NO_HIGH_B
    return Reason.GEOMETRY if volume.series is best.series else Reason.LESS_SUITED


def _fine(volume: Candidate) -> Candidate:
    """A T2W volume, faulted where its pixels are larger than any T2W scan of the prostate has."""
    coarse = volume.pixel_mm > _COARSEST_T2_MM and volume.fault is None
    return replace(volume, fault=Reason.TOO_COARSE) if coarse else volume


def _weighted(volume: Candidate) -> Candidate:
    """A diffusion volume, faulted where its b-value is unknown or its gradient has one direction."""
    _, frame = volume.members[0]
    if frame.has_bad_b:
        return replace(volume, fault=Reason.BAD_B_VALUE)
    if frame.b_value is None:
        return replace(volume, fault=Reason.NO_B_VALUE)
    return replace(volume, fault=ProstateReason.DIFFUSION_DIRECTION) if frame.direction and not volume.fault else volume


def _related(volume: Candidate, key: Candidate | None) -> Candidate:
    """A volume beside the T2W, faulted where no frame of reference relates their positions."""
    own = volume.frame_of_reference
    if key is None or volume.fault is not None or (own and own == key.frame_of_reference):
        return volume
    return replace(volume, fault=Reason.FRAME_OF_REFERENCE)


# The steps of the choice


def _is_original(volumes: list[Candidate]) -> list[bool]:
    """Acquired before reformatted."""
    return _or_all([v.acquisition.is_original for v in volumes])


def _is_plane_scan(volumes: list[Candidate]) -> list[bool]:
    """2-D before 3-D, which PI-RADS v2.1 has as an adjunct."""
    return _or_all([not v.acquisition.is_3d for v in volumes])


def _is_not_suppressed(volumes: list[Candidate]) -> list[bool]:
    return _or_all([not v.acquisition.is_fat_suppressed for v in volumes])


def _covers_gland(volumes: list[Candidate]) -> list[bool]:
    needed = _NEARLY * min(_ENOUGH_COVERAGE_MM, max(v.coverage_mm for v in volumes))
    return [v.coverage_mm >= needed for v in volumes]


def _is_fine(volumes: list[Candidate]) -> list[bool]:
    finest = min(v.pixel_mm for v in volumes)
    return [v.pixel_mm <= _COARSER * finest for v in volumes]


def _is_complete(volumes: list[Candidate]) -> list[bool]:
    """Of scans alike those that are as long as the longest: a repetition may have been broken off."""
    longest = max(v.coverage_mm for v in volumes)
    return [v.coverage_mm >= _NEARLY * longest for v in volumes]


def _has_highest_b(volumes: list[Candidate]) -> list[bool]:
    highest = max(v.b or 0.0 for v in volumes)
    return [(v.b or 0.0) == highest for v in volumes]


def _is_latest(volumes: list[Candidate]) -> list[bool]:
    latest = max(v.acquired for v in volumes)
    return [v.acquired == latest for v in volumes]


def _first_of(preferred: list[Candidate], reason: ReasonCode) -> _Step:
    """The preferred ones come first, where there are any."""

    return reason, lambda volumes: _or_all([v in preferred for v in volumes])


def _in_frame(frames: set[str]) -> _Step:
    """Those that diffusion shares its frame of reference with come first."""
    return Reason.LESS_SUITED, lambda volumes: _or_all([v.frame_of_reference in frames - {""} for v in volumes])


def _or_all(told: list[bool]) -> list[bool]:
    """A step that would leave nothing leaves everything."""
    return told if any(told) else [True] * len(told)


_HIGHEST_B: Final[_Step] = (Reason.LESS_SUITED, _has_highest_b)
_LATEST: Final[tuple[_Step, ...]] = (
    (Reason.INCOMPLETE_VOLUME, _is_complete),
    (Reason.REPEATED_SERIES, _is_latest),
)
_STEPS: Final[tuple[_Step, ...]] = ((Reason.LESS_SUITED, _covers_gland), (Reason.LESS_SUITED, _is_fine))
_T2_STEPS: Final[tuple[_Step, ...]] = (
    (Reason.LESS_SUITED, _is_original),
    _STEPS[0],
    (Reason.LESS_SUITED, _is_plane_scan),
    (Reason.LESS_SUITED, _is_not_suppressed),
    _STEPS[1],
    *_LATEST,
)


def _beside(high: Candidate | None) -> tuple[_Step, ...]:
    """ADC maps with the slices of the chosen diffusion series come first."""
    if high is None:
        return ()
    return ((Reason.LESS_SUITED, lambda volumes: _or_all([v.shares_slices(high) for v in volumes])),)


# What is told


def _told(table: _Table) -> Choice:
    order = [*ROLES, *(role for role in table.roles if role not in ROLES)]
    roles = {role: _parts(table.roles[role]) for role in order if role in table.roles}
    used = {part.instance.sop_uid for parts in roles.values() for part in parts}
    reasons: dict[str, Rejected] = {}
    for volume, reason in table.rejected:
        for instance, _ in volume.members:
            if instance.sop_uid not in used:
                reasons.setdefault(instance.sop_uid, (instance, reason))
    gaps = {(role, f"{role}: {gap}"): None for role in order if role in roles for gap in _gaps(table.roles[role])}
    notes = dict.fromkeys((*_notes(table, order), *gaps))
    return Choice(roles, tuple(reasons.values()), tuple(notes), tuple(gaps), _readers(table))


def _gaps(volume: Candidate) -> Iterable[str]:
    return () if volume.fault else volume.shortfalls()


def _readers(table: _Table) -> Mapping[str, Reader]:
    """How each role is read: volumes of one decay, and slices of one volume, by floating point values where they were
    stored with several scales."""
    decay = {role for role in table.roles if role == HIGH_B or role.startswith(B_VALUE)}
    scales = frozenset[float | None]().union(*(table.roles[role].scales for role in decay))
    mixed = decay if len(scales) > 1 else set()
    if T2W in table.roles and len(table.roles[T2W].scales) > 1:
        mixed = {*mixed, T2W}
    return {ADC: read_adc, **dict.fromkeys(sorted(mixed), read_floating)}


def _parts(volume: Candidate) -> tuple[Part, ...]:
    """The instances of a volume in the order of their first slice; all refused with its fault if it has one."""
    frames: dict[str, list[int | None]] = defaultdict(list)
    instances: dict[str, Instance] = {}
    for instance, frame in volume.members:
        frames[instance.sop_uid].append(frame.number)
        instances[instance.sop_uid] = instance
    parts = []
    for uid, instance in instances.items():
        whole = len(frames[uid]) == (instance.frames or 1)
        numbers = None if whole else tuple(sorted(n for n in frames[uid] if n is not None))
        if volume.fault:
            parts.append(Part(refused(instance, volume.fault), None))
        else:
            parts.append(Part(instance, numbers))
    return tuple(parts)


def _notes(table: _Table, order: list[str]) -> Iterable[Note]:
    yield from table.notes
    for role in order:
        for sentence in _notes_of(role, table):
            yield role, sentence


def _notes_of(role: str, table: _Table) -> Iterable[str]:
    volume = table.roles.get(role)
    if volume is None:
        yield f"No series of the study is its {role}"
        return
    if volume.fault:
        yield f"The only {role} of the study cannot be used: {volume.fault.meaning}"
    if role == HIGH_B and (stated := volume.members[0][1].b_value):
        yield f"The high b-value is {stated.value:g} s/mm2, by {stated.source}"
    if role not in ROLES and volume.series is not table.roles[HIGH_B].series:
        yield f"The {role} is of another series than the high b, acquired by the same protocol on the same slices"
    for instance, frame in volume.members:
        if frame.b_value and frame.b_value.inferred:
            yield f"The b-value {frame.b_value.value:g} of {role} is inferred from {frame.b_value.source}"
        if instance.acquisition:
            yield from instance.acquisition.notes
