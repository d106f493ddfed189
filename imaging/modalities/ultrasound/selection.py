"""Ultrasound of a study → its images, each tissue region of a screen by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from imaging.dicom.headers.classes import ULTRASOUND_IMAGES
from imaging.dicom.index import Instance, Series
from imaging.dicom.select import Anatomy, Group, ImageRef, Rejected, Selection, select_images
from imaging.errors import Reason, ReasonCode

ROLE = "image"
# Modalities (retired ones of echocardiography and Doppler among them) that have the classes of ultrasound and are none.
_OTHER_KINDS: Final = frozenset(("IVUS", "EC", "CD", "DD"))


def select(series: Sequence[Series], anatomy: Anatomy | None = None) -> Selection:
    """Every ultrasound image that the anatomy admits, in order; several tissue regions are several images.

    The class says that it is one: a modality that contradicts it (OT, or none) must not take it out of its study.
    """

    def refuse(instance: Instance) -> ReasonCode | None:
        if instance.sop_class_uid not in ULTRASOUND_IMAGES or instance.modality in _OTHER_KINDS:
            return Reason.NO_PACKAGE
        return None if anatomy is None else anatomy.refuse(instance)

    return select_images(series, refuse, _grouped)


def _grouped(admitted: list[Instance]) -> tuple[Group | None, list[Rejected]]:
    """All images in one role; the group is None where there is none."""
    chosen = [ref for instance in admitted for ref in _regions(instance)]
    shown = {id(ref.instance) for ref in chosen}
    left: list[Rejected] = [(i, Reason.NO_TISSUE_REGION) for i in admitted if id(i) not in shown]
    return (Group(chosen[0].instance.study_uid, ROLE, {ROLE: tuple(chosen)}) if chosen else None), left


def _regions(instance: Instance) -> list[ImageRef]:
    """One reference per distinct tissue region; the whole frame when the header declares no regions at all."""
    if not instance.regions:
        return [ImageRef(instance)]
    distinct = {region.box: region for region in reversed(instance.regions) if region.is_tissue}
    return [ImageRef(instance, region) for region in sorted(distinct.values(), key=lambda r: r.number)]
