"""Mammograms of a study → the image of each standard view, with why every other one is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from imaging.dicom.headers.classes import MAMMOGRAMS, TOMOSYNTHESIS
from imaging.dicom.headers.view import Projection
from imaging.dicom.index import Instance, Series
from imaging.dicom.instance import refused
from imaging.dicom.select import UNPLACED, Anatomy, Group, ImageRef, Rejected, Selection, select_images
from imaging.errors import Reason, ReasonCode
from imaging.modalities.mammography.reasons import MammographyReason

STANDARD_VIEWS: Final = ("L CC", "L MLO", "R CC", "R MLO")
# What leaves a view as good as a standard one.
_HARMLESS: Final = frozenset(("nipple in profile", "infra-mammary fold", "anterior compression"))
_KINDS: Final = {
    "synthetic": MammographyReason.SYNTHETIC_2D,
    "tomosynthesis": MammographyReason.TOMOSYNTHESIS,
    "contrast": MammographyReason.CONTRAST_MAMMOGRAM,
    "specimen": MammographyReason.SPECIMEN,
}
# Kinds of image that show a whole standard view, though not as one that is read here.
_STAND_INS: Final = (
    MammographyReason.FOR_PROCESSING,
    MammographyReason.SYNTHETIC_2D,
    MammographyReason.TOMOSYNTHESIS,
    MammographyReason.BURNED_IN_CAPTURE,
)


def select(series: Sequence[Series], anatomy: Anatomy | None = None) -> Selection:
    """The standard views of one study. A mammogram need not name the breast: its modality does."""

    def refuse(instance: Instance) -> ReasonCode | None:
        is_kind = instance.modality == "MG" or instance.projection is not None
        if not is_kind or instance.sop_class_uid not in (*MAMMOGRAMS, TOMOSYNTHESIS):
            return Reason.NO_PACKAGE
        return None if anatomy is None or not instance.body_part else anatomy.refuse(instance)

    return select_images(series, refuse, _grouped)


def refusal_of(projection: Projection) -> MammographyReason | None:
    """Why the image is no standard view, its kind before its view; None when it may be one."""
    view, modifiers = projection.view, set(projection.modifiers)
    if projection.shows in _KINDS:
        return _KINDS[projection.shows]
    if "implant displaced" in modifiers:
        return MammographyReason.IMPLANT_DISPLACED
    if {"magnification", "spot compression"} & modifiers:
        return MammographyReason.SPOT_OR_MAGNIFICATION
    if projection.is_burned_in:
        return MammographyReason.BURNED_IN_CAPTURE
    if view is None:
        return MammographyReason.UNKNOWN_VIEW
    return MammographyReason.OTHER_VIEW if view.view not in ("CC", "MLO") or modifiers - _HARMLESS else None


def _grouped(admitted: list[Instance]) -> tuple[Group | None, list[Rejected]]:
    """Each standard view with its image, or all partial images of a breast that has no whole one.

    An image that may be a standard view and cannot be used stays in the group, refused, so that it counts as unread:
    one that cannot be read, one of which nobody says which view it is, one that alone stands for its view but was
    computed, has words burned in or is meant for processing, and a repeat in an exam of three views: it may be the
    fourth, wrongly marked.
    """
    standing: dict[str, list[tuple[Instance, Projection]]] = defaultdict(list)
    others: dict[str, list[Rejected]] = defaultdict(list)
    unplaced: list[ImageRef] = []
    for instance in admitted:
        projection = instance.projection
        reason: ReasonCode | None = None if projection is None else refusal_of(projection)
        if instance.refusal or projection is None:
            unplaced.append(ImageRef(instance))
        elif reason is MammographyReason.UNKNOWN_VIEW:
            unplaced.append(ImageRef(refused(instance, reason)))
        elif reason or projection.for_processing:
            others[_role(projection)].append((instance, reason or MammographyReason.FOR_PROCESSING))
        else:
            standing[_role(projection)].append((instance, projection))
    roles: dict[str, tuple[ImageRef, ...]] = {}
    rejected: list[Rejected] = []
    lacks_one = _lacks_one_view({*standing, *others})
    for role in STANDARD_VIEWS:
        chosen, left = _best(standing[role], others[role])
        doubtful = [i for i, reason in left if lacks_one and reason is MammographyReason.REPEATED_VIEW]
        rejected.extend((i, reason) for i, reason in left if i not in doubtful)
        unplaced += [ImageRef(refused(i, MammographyReason.DOUBTFUL_REPEAT)) for i in doubtful]
        if chosen:
            roles[role] = chosen
    for role, left in others.items():
        alone = roles and role in STANDARD_VIEWS and role not in roles
        stand_ins = [(i, r) for i, r in left if alone and r in _STAND_INS]
        if stand_ins:
            roles[role] = tuple(ImageRef(refused(i, reason)) for i, reason in stand_ins)
        rejected.extend(entry for entry in left if entry not in stand_ins)
    if unplaced:
        roles[UNPLACED] = tuple(unplaced)
    return (Group(admitted[0].study_uid, "views", roles) if roles else None), rejected


def _lacks_one_view(found: set[str]) -> bool:
    """Whether three of the standard views are there: one breast in both, the other in one."""
    return len(found & set(STANDARD_VIEWS)) == len(STANDARD_VIEWS) - 1


def _role(projection: Projection) -> str:
    view = projection.view
    return f"{view.laterality} {view.view}" if view else ""


def _best(
    candidates: list[tuple[Instance, Projection]], others: list[Rejected]
) -> tuple[tuple[ImageRef, ...], list[Rejected]]:
    """The image of one view, and why not the others: an exposure, whole, unmodified, newest, in this order.

    Where its exposure is among the `others`, which are not read, a capture of it does not stand in.
    """
    if not candidates:
        return (), []
    is_exposed = any(reason is MammographyReason.FOR_PROCESSING for _, reason in others)
    if is_exposed and all(projection.is_capture for _, projection in candidates):
        return (), [(instance, MammographyReason.CAPTURED_VIEW) for instance, _ in candidates]
    ranked = sorted(candidates, key=lambda c: (c[1].acquired, c[0].instance_number, c[0].name), reverse=True)
    ranked.sort(key=lambda c: _faults(c[1]))
    first, best = ranked[0]
    kept: list[Instance] = [first]
    rejected: list[Rejected] = []
    for instance, projection in ranked[1:]:
        if best.is_partial and _faults(projection) == _faults(best):
            kept.append(instance)
        else:
            rejected.append((instance, _why_not(projection, best)))
    kept.sort(key=lambda i: (i.series_number, i.instance_number, i.name))
    return tuple(ImageRef(instance) for instance in kept), rejected


def _faults(projection: Projection) -> tuple[bool, bool, bool]:
    modified = bool(projection.view and projection.view.modifiers)
    return projection.is_capture, projection.is_partial, modified


def _why_not(projection: Projection, best: Projection) -> MammographyReason:
    """The first fault that the better image has not."""
    reasons = (MammographyReason.CAPTURED_VIEW, MammographyReason.PARTIAL_VIEW, MammographyReason.MODIFIED_VIEW)
    pairs = zip(reasons, _faults(projection), _faults(best), strict=True)
    return next((reason for reason, own, other in pairs if own and not other), MammographyReason.REPEATED_VIEW)
