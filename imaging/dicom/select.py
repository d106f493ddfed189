"""Groups: which images of a study play which role, with the reason for each one that plays none.

What is chosen is a modality's; here is what every choice is told in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from imaging.dicom.headers.classes import STILLS
from imaging.dicom.index import Instance, Series
from imaging.dicom.instance import FrameRegion
from imaging.errors import Reason, ReasonCode
from imaging.image import Image, SourceRef

if TYPE_CHECKING:
    from imaging.dicom.pixels.volume import Stack

# The role of images that belong to the group and of which no header says what they are in it.
UNPLACED = "unplaced"
Note = tuple[str, str]  # role, sentence
Rejected = tuple[Instance, ReasonCode]
# How the volume of a role is read. A function of a module: it travels to other processes.
Reader = Callable[["Stack"], Image]


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
    region: FrameRegion | None = None
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
    """The volumes of one exam that are read together: role → slices. Findings return to that of role `key`.

    `readers` has how a role is read where its values are not taken as they are stored.
    """

    roles: dict[str, tuple[ImageRef, ...]]
    key: str
    readers: Mapping[str, Reader] = field(default_factory=dict)

    def source_refs(self) -> list[SourceRef]:
        """One SourceRef per frame of every volume."""
        return [ref for images in self.roles.values() for image in images for ref in image.source_refs()]


@dataclass(frozen=True)
class Group:
    """The images of one study that are read together: role → images in acquisition order, a volume's along its normal.

    `remarks` are sentences about the choice, each with its role ("" for all): that it is missing, what was inferred.
    `gaps` are likewise what the images lack by their own word, so that no answer can be complete. `key` is the
    role of the volume that findings return to; empty where each image is read by itself. `needs` has, by role, those
    from which it can be computed, and `readers` is that of `Volumes`.
    """

    study_uid: str
    name: str
    roles: dict[str, tuple[ImageRef, ...]]
    remarks: tuple[Note, ...] = ()
    gaps: tuple[Note, ...] = ()
    key: str = ""
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    readers: Mapping[str, Reader] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentences of the remarks, each once."""
        return tuple(dict.fromkeys(sentence for _, sentence in self.remarks))

    def parts(self) -> list[ImageRef | Volumes]:
        """What is decoded and analysed at once: an image, or all volumes of the exam."""
        if not self.key:
            return list(self.images())
        roles = {role: refs for role, refs in self.roles.items() if role != UNPLACED}
        volumes = Volumes(roles, self.key, self.readers)
        return [*([volumes] if volumes.roles else []), *self.roles.get(UNPLACED, ())]

    def images(self) -> Iterable[ImageRef]:
        return (ref for refs in self.roles.values() for ref in refs)

    def only(self, roles: Iterable[str]) -> tuple[Group, tuple[ImageRef, ...]]:
        """The group with the named roles and what they are computed from, and the images that this leaves out.

        An image that cannot be read and has no role stays: it may have been a slice of any.
        """
        named = set(roles)
        named |= {source for role in named for source in self.needs.get(role, ())}
        kept = {role: refs for role, refs in self.roles.items() if role in named or role == UNPLACED}
        left = [ref for role, refs in self.roles.items() if role not in kept for ref in refs]
        remarks, gaps = (
            tuple(note for note in notes if not note[0] or note[0] in named) for notes in (self.remarks, self.gaps)
        )
        return replace(self, roles=kept, remarks=remarks, gaps=gaps), tuple(left)


@dataclass(frozen=True)
class Selection:
    """The group of a study that a modality reads (None when nothing fits), and why each other instance was left out."""

    group: Group | None
    rejected: tuple[Rejected, ...]


# A study's series, and the anatomy that is meant (None admits every one) → what is read of it.
Select = Callable[[Sequence[Series], Anatomy | None], Selection]


def select_images(
    series: Sequence[Series],
    refuse: Callable[[Instance], ReasonCode | None],
    choose: Callable[[list[Instance]], tuple[Group | None, Iterable[Rejected]]],
) -> Selection:
    """What `choose` makes of the images of one study that `refuse` has no reason against, in acquisition order.

    The rejected ones are those of both, in the same order.
    """
    ordered = sorted(
        (i for s in series for i in s.instances), key=lambda i: (i.series_number, i.instance_number, i.name)
    )
    refused = [(instance, reason) for instance in ordered if (reason := refuse(instance) or instance.left_out)]
    out = {id(instance) for instance, _ in refused}
    group, left = choose([instance for instance in ordered if id(instance) not in out])
    place = {id(instance): k for k, instance in enumerate(ordered)}
    if group is not None:
        counts = Counter(reason for instance, reason in refused if reason is instance.left_out)
        said = tuple(("", f"Left out, {count} of the images: {reason.meaning}") for reason, count in counts.items())
        group = replace(group, remarks=(*group.remarks, *said))
    return Selection(group, tuple(sorted((*refused, *left), key=lambda entry: place[id(entry[0])])))
