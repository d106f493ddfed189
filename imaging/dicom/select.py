"""Typed rules → groups: which images of a study play which role, with the reason for each one that plays none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imaging.dicom.headers.view import MAMMOGRAMS, TOMOSYNTHESIS, Projection
from imaging.dicom.index import Instance, Region, Series
from imaging.dicom.instance import MR_IMAGES, PROSTATE_PARTS, refused
from imaging.errors import Reason
from imaging.image import SourceRef
from imaging.modalities.prostate.selection import B_VALUE, DIFFUSION, ROLES, Note, choose

ULTRASOUND_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
    "1.2.840.10008.5.1.4.1.1.6",  # retired, single frame
    "1.2.840.10008.5.1.4.1.1.3",  # retired, multi-frame
)
# Classes whose references must not carry a frame number (PS3.3 C.17.3, Referenced Frame Number).
STILLS = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6", *MAMMOGRAMS[:-1])
STANDARD_VIEWS = ("L CC", "L MLO", "R CC", "R MLO")
# The role of images that belong to the group and of which no header says which view they are.
UNPLACED = "unplaced"


@dataclass(frozen=True)
class Rule:
    """Which images may play `role`: modality, SOP classes, and how many (at least one, no upper bound).

    With `views` each of them is a role of its own and has one image, or all partial images of a breast that has no
    whole one. `for_processing` admits For Processing images where a view has no other. With `volumes` each of them is
    a role of one volume, and the series that is to be read in it is chosen (`prostate`).
    """

    role: str
    modality: str
    sop_class_uids: tuple[str, ...]
    views: tuple[str, ...] = ()
    for_processing: bool = False
    volumes: tuple[str, ...] = ()


# What each recipe reads, by the recipe's name. The rules stand here so that planning a run needs no torch.
RULES: dict[str, Rule] = {
    "ultrasound": Rule("image", "US", ULTRASOUND_IMAGES),
    "mammography": Rule("views", "MG", (*MAMMOGRAMS, TOMOSYNTHESIS), STANDARD_VIEWS),
    "prostate": Rule("bpMRI", "MR", MR_IMAGES, volumes=ROLES),
}


@dataclass(frozen=True)
class Anatomy:
    """Which body parts (BodyPartExamined) are meant. An image that states none is admitted only if `unknown_too`."""

    body_parts: frozenset[str]
    unknown_too: bool

    def refuse(self, instance: Instance) -> Reason | None:
        if not instance.body_part:
            return None if self.unknown_too else Reason.UNKNOWN_ANATOMY
        return None if instance.body_part in self.body_parts else Reason.OTHER_ANATOMY


@dataclass(frozen=True)
class ImageRef:
    """One instance, or one region of it, or the `frames` of it that are meant, from 1; None means all of them."""

    instance: Instance
    region: Region | None = None
    frames: tuple[int, ...] | None = None

    def source_refs(self) -> list[SourceRef]:
        """One SourceRef per frame; an image of a single-frame class has no frame number, even if it says "1 frame"."""
        still = self.instance.frames is None or (self.instance.frames == 1 and self.instance.sop_class_uid in STILLS)
        frames = [None] if still else self.frames or range(1, (self.instance.frames or 0) + 1)
        number = None if self.region is None else self.region.number
        i = self.instance
        return [SourceRef(i.study_uid, i.series_uid, i.sop_class_uid, i.sop_uid, frame, number) for frame in frames]


@dataclass(frozen=True)
class Volumes:
    """The volumes of one exam that are read together: role → slices. Findings return to that of role `key`."""

    roles: dict[str, tuple[ImageRef, ...]]
    key: str

    def source_refs(self) -> list[SourceRef]:
        """One SourceRef per frame of every volume."""
        return [ref for images in self.roles.values() for image in images for ref in image.source_refs()]


@dataclass(frozen=True)
class Group:
    """The images of one study that are read together: role → images in acquisition order, a volume's along its normal.

    `remarks` are sentences about the choice, each with its role: that it is missing, what was inferred. `key` is the
    role of the volume that findings return to; empty where each image is read by itself.
    """

    study_uid: str
    name: str
    roles: dict[str, tuple[ImageRef, ...]]
    remarks: tuple[Note, ...] = ()
    key: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentences of the remarks, each once."""
        return tuple(dict.fromkeys(sentence for _, sentence in self.remarks))

    def parts(self) -> list[ImageRef | Volumes]:
        """What is decoded and analysed at once: an image, or all volumes of the exam."""
        if not self.key:
            return list(self.images())
        volumes = Volumes({role: refs for role, refs in self.roles.items() if role != UNPLACED}, self.key)
        return [*([volumes] if volumes.roles else []), *self.roles.get(UNPLACED, ())]

    def images(self) -> Iterable[ImageRef]:
        return (ref for refs in self.roles.values() for ref in refs)

    def only(self, roles: Iterable[str]) -> tuple[Group, tuple[ImageRef, ...]]:
        """The group with the named roles and what they are computed from, and the images that this leaves out.

        b-values stay with any diffusion role. An image that cannot be read and has no role stays: it may have been a
        slice of any.
        """
        named = set(roles)
        if named & DIFFUSION:
            named |= DIFFUSION | {role for role in self.roles if role.startswith(B_VALUE)}
        kept = {role: refs for role, refs in self.roles.items() if role in named or role == UNPLACED}
        left = [ref for role, refs in self.roles.items() if role not in kept for ref in refs]
        return replace(self, roles=kept, remarks=tuple(r for r in self.remarks if r[0] in named)), tuple(left)


@dataclass(frozen=True)
class Selection:
    """The group of a study under a rule (None when nothing fits), and why each other instance was left out."""

    group: Group | None
    rejected: tuple[tuple[Instance, Reason], ...]


def select(series: list[Series], rule: Rule, anatomy: Anatomy | None = None) -> Selection:
    """Every image of the study that rule and anatomy admit, in order; several tissue regions are several images.

    Without `anatomy` every body part is admitted. The group is None when nothing fits.
    """
    rejected: list[tuple[Instance, Reason]] = []
    admitted: list[Instance] = []
    ordered = sorted(
        (i for s in series for i in s.instances), key=lambda i: (i.series_number, i.instance_number, i.name)
    )
    for instance in ordered:
        if reason := _not_meant(instance, rule, anatomy):
            rejected.append((instance, reason))
        else:
            admitted.append(instance)
    remarks: tuple[Note, ...] = ()
    if rule.volumes:
        roles, left, remarks = _volumes(series, admitted)
    else:
        roles, left = _views(admitted, rule) if rule.views else _all(admitted, rule)
    key = rule.volumes[0] if rule.volumes else ""
    group = Group(series[0].study_uid, rule.role, roles, remarks, key) if roles else None
    place = {id(instance): k for k, instance in enumerate(ordered)}
    return Selection(group, tuple(sorted((*rejected, *left), key=lambda one: place[id(one[0])])))


_Chosen = tuple[dict[str, tuple[ImageRef, ...]], list[tuple[Instance, Reason]]]


def _not_meant(instance: Instance, rule: Rule, anatomy: Anatomy | None) -> Reason | None:
    """Why a rule or an anatomy does not mean an instance. A mammogram need not name the breast: its modality does."""
    kind = rule.modality if rule.views and instance.projection else instance.modality
    if kind != rule.modality or instance.sop_class_uid not in rule.sop_class_uids:
        return Reason.NO_PACKAGE
    if rule.volumes and instance.body_part not in PROSTATE_PARTS:
        return Reason.OTHER_ANATOMY
    if anatomy is None or (rule.views and not instance.body_part):
        return None
    return anatomy.refuse(instance)


def _all(admitted: list[Instance], rule: Rule) -> _Chosen:
    """All images in one role."""
    chosen: list[ImageRef] = []
    rejected: list[tuple[Instance, Reason]] = []
    for instance in admitted:
        refs = _regions(instance)
        chosen.extend(refs)
        if not refs:
            rejected.append((instance, Reason.NO_TISSUE_REGION))
    return ({rule.role: tuple(chosen)} if chosen else {}), rejected


def _volumes(series: list[Series], admitted: list[Instance]) -> tuple[*_Chosen, tuple[Note, ...]]:
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
    return roles, rejected, choice.notes


def _views(admitted: list[Instance], rule: Rule) -> _Chosen:
    """Each standard view with its image.

    An image that may be a standard view and cannot be used stays in the group, refused, so that it counts as unread:
    one that cannot be read, one of which nobody says which view it is, and one that alone stands for its view but was
    computed or is meant for processing.
    """
    standing: dict[str, list[tuple[Instance, Projection]]] = defaultdict(list)
    others: dict[str, list[tuple[Instance, Reason]]] = defaultdict(list)
    unplaced: list[ImageRef] = []
    for instance in admitted:
        projection = instance.projection
        if instance.refusal or projection is None:
            unplaced.append(ImageRef(instance))
        elif projection.refusal is Reason.UNKNOWN_VIEW:
            unplaced.append(ImageRef(refused(instance, Reason.UNKNOWN_VIEW)))
        elif projection.refusal or (projection.for_processing and not rule.for_processing):
            others[_role(projection)].append((instance, projection.refusal or Reason.FOR_PROCESSING))
        else:
            standing[_role(projection)].append((instance, projection))
    roles: dict[str, tuple[ImageRef, ...]] = {}
    rejected: list[tuple[Instance, Reason]] = []
    for role in rule.views:
        chosen, left = _best(standing[role])
        rejected.extend(left)
        if chosen:
            roles[role] = chosen
    for role, left in others.items():
        alone = roles and role in rule.views and role not in roles
        stand_ins = [(i, r) for i, r in left if alone and r in _STAND_INS]
        if stand_ins:
            roles[role] = tuple(ImageRef(refused(i, reason)) for i, reason in stand_ins)
        rejected.extend(one for one in left if one not in stand_ins)
    if unplaced:
        roles[UNPLACED] = tuple(unplaced)
    return roles, rejected


# Kinds of image that show a whole standard view, though not as one that is read here.
_STAND_INS = (Reason.FOR_PROCESSING, Reason.SYNTHETIC_2D, Reason.TOMOSYNTHESIS)


def _role(projection: Projection) -> str:
    view = projection.view
    return f"{view.laterality} {view.view}" if view else ""


def _best(candidates: list[tuple[Instance, Projection]]) -> tuple[tuple[ImageRef, ...], list[tuple[Instance, Reason]]]:
    """The image of one view, and why not the others: For Presentation, whole, unmodified, newest, in this order."""
    if not candidates:
        return (), []
    ranked = sorted(candidates, key=lambda c: (c[1].acquired, c[0].instance_number, c[0].name), reverse=True)
    ranked.sort(key=lambda c: _faults(c[1]))
    best, told = ranked[0]
    kept, rejected = [best], []
    for instance, projection in ranked[1:]:
        if told.is_partial and _faults(projection) == _faults(told):
            kept.append(instance)
        else:
            rejected.append((instance, _why_not(projection, told)))
    kept.sort(key=lambda i: (i.series_number, i.instance_number, i.name))
    return tuple(ImageRef(instance) for instance in kept), rejected


def _faults(projection: Projection) -> tuple[bool, bool, bool]:
    modified = bool(projection.view and projection.view.modifiers)
    return projection.for_processing, projection.is_partial, modified


def _why_not(projection: Projection, best: Projection) -> Reason:
    """The first fault that the better image has not."""
    reasons = (Reason.FOR_PROCESSING, Reason.PARTIAL_VIEW, Reason.MODIFIED_VIEW)
    pairs = zip(reasons, _faults(projection), _faults(best), strict=True)
    return next((reason for reason, own, other in pairs if own and not other), Reason.REPEATED_VIEW)


def _regions(instance: Instance) -> list[ImageRef]:
    """One reference per distinct tissue region; the whole frame when the header declares no regions at all."""
    if not instance.regions:
        return [ImageRef(instance)]
    distinct = {region.box: region for region in reversed(instance.regions) if region.is_tissue}
    return [ImageRef(instance, region) for region in sorted(distinct.values(), key=lambda r: r.number)]
