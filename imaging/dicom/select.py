"""Typed rules → groups: which images of a study play which role, with the reason for each one that plays none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imaging.dicom.index import Instance, Region, Series
from imaging.errors import Reason
from imaging.image import SourceRef

ULTRASOUND_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
    "1.2.840.10008.5.1.4.1.1.6",  # retired, single frame
    "1.2.840.10008.5.1.4.1.1.3",  # retired, multi-frame
)
# Classes whose references must not carry a frame number (PS3.3 C.17.3, Referenced Frame Number).
STILLS = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6")


@dataclass(frozen=True)
class Rule:
    """Which images may play `role`: modality, SOP classes, and how many (at least one, no upper bound)."""

    role: str
    modality: str
    sop_class_uids: tuple[str, ...]


# What each recipe reads, by the recipe's name. The rules stand here so that planning a run needs no torch.
RULES: dict[str, Rule] = {"ultrasound": Rule("image", "US", ULTRASOUND_IMAGES)}


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
    """One instance, or one region of it. All its frames are meant."""

    instance: Instance
    region: Region | None = None

    def source_refs(self) -> list[SourceRef]:
        """One SourceRef per frame; an image of a single-frame class has no frame number, even if it says "1 frame"."""
        still = self.instance.frames is None or (self.instance.frames == 1 and self.instance.sop_class_uid in STILLS)
        frames = [None] if still else range(1, (self.instance.frames or 0) + 1)
        number = None if self.region is None else self.region.number
        i = self.instance
        return [SourceRef(i.study_uid, i.series_uid, i.sop_class_uid, i.sop_uid, frame, number) for frame in frames]


@dataclass(frozen=True)
class Group:
    """The images of one study that are read together: role → images in acquisition order."""

    study_uid: str
    name: str
    roles: dict[str, tuple[ImageRef, ...]]

    def images(self) -> Iterable[ImageRef]:
        return (ref for refs in self.roles.values() for ref in refs)


@dataclass(frozen=True)
class Selection:
    """The group of a study under a rule (None when nothing fits), and why each other instance was left out."""

    group: Group | None
    rejected: tuple[tuple[Instance, Reason], ...]


def select(series: list[Series], rule: Rule, anatomy: Anatomy | None = None) -> Selection:
    """Every image of the study that rule and anatomy admit, in order; several tissue regions are several images.

    Without `anatomy` every body part is admitted. The group is None when nothing fits.
    """
    chosen: list[ImageRef] = []
    rejected: list[tuple[Instance, Reason]] = []
    ordered = sorted(
        (i for s in series for i in s.instances), key=lambda i: (i.series_number, i.instance_number, i.name)
    )
    for instance in ordered:
        if instance.modality != rule.modality or instance.sop_class_uid not in rule.sop_class_uids:
            rejected.append((instance, Reason.NO_PACKAGE))
            continue
        if anatomy and (reason := anatomy.refuse(instance)):
            rejected.append((instance, reason))
            continue
        refs = _regions(instance)
        chosen.extend(refs)
        if not refs:
            rejected.append((instance, Reason.NO_TISSUE_REGION))
    group = Group(series[0].study_uid, rule.role, {rule.role: tuple(chosen)}) if chosen else None
    return Selection(group, tuple(rejected))


def _regions(instance: Instance) -> list[ImageRef]:
    """One reference per distinct tissue region; the whole frame when the header declares no regions at all."""
    if not instance.regions:
        return [ImageRef(instance)]
    distinct = {region.box: region for region in reversed(instance.regions) if region.is_tissue}
    return [ImageRef(instance, region) for region in sorted(distinct.values(), key=lambda r: r.number)]
