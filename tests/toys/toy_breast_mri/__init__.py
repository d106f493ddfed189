"""Breast MRI, a toy: the first phase of a dynamic series, and T2W where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from imaging.dicom.headers.classes import MR_IMAGES
from imaging.dicom.index import Instance, Series
from imaging.dicom.instance import refused
from imaging.dicom.select import UNPLACED, Anatomy, Group, ImageRef, Rejected, Selection, select_images
from imaging.errors import Reason, ReasonCode
from imaging.exam.conclusion import Conclusion, Readings, Terms
from imaging.exam.context import Context
from imaging.exam.result import ExamFinding
from imaging.golden import volume
from imaging.modalities import Modality
from imaging.modalities.mr_volumes import Candidate, VolumeLimits, find_candidates

if TYPE_CHECKING:
    from imaging.harmonise.recipe import Recipe
    from imaging.image import Image

DCE, T2W = "DCE", "T2W"
_KINDS: Final = {"dynamic": DCE, "t2": T2W}
_LIMITS: Final = VolumeLimits(most_tilt_degrees=30.0, least_coverage_mm=40.0)


def select(series: Sequence[Series], anatomy: Anatomy | None = None) -> Selection:
    """The first whole scan of each role."""

    def refuse(instance: Instance) -> ReasonCode | None:
        if instance.modality != "MR" or instance.sop_class_uid not in MR_IMAGES:
            return Reason.NO_PACKAGE
        if instance.body_part != "BREAST":
            return Reason.OTHER_ANATOMY
        return None if anatomy is None else anatomy.refuse(instance)

    return select_images(series, refuse, lambda admitted: _grouped(series, admitted))


def _grouped(series: Sequence[Series], admitted: list[Instance]) -> tuple[Group | None, list[Rejected]]:
    readable = [replace(s, instances=tuple(i for i in s.instances if i in admitted and i.acquisition)) for s in series]
    scans = sorted((c for s in readable for c in find_candidates(s, _LIMITS)), key=lambda c: c.acquired)
    best: dict[str, Candidate] = {}
    for scan in scans:
        if scan.kind in _KINDS and scan.fault is None:
            best.setdefault(_KINDS[scan.kind], scan)
    roles = {role: tuple(ImageRef(i) for i, _ in best[role].members) for role in (DCE, T2W) if role in best}
    placed = {ref.instance.sop_uid for refs in roles.values() for ref in refs}
    left: dict[str, Rejected] = {}
    for scan in scans:
        reason = scan.fault or (Reason.LESS_SUITED if scan.kind in _KINDS else Reason.OTHER_CONTRAST)
        left |= {i.sop_uid: (i, reason) for i, _ in scan.members if i.sop_uid not in placed}
    unread = [i for i in admitted if i.acquisition is None]
    if unread:
        roles[UNPLACED] = tuple(ImageRef(refused(i, i.refusal or Reason.UNREADABLE_HEADER)) for i in unread)
    group = Group(series[0].study_uid, "breast MRI", roles, key=DCE) if roles else None
    return group, list(left.values())


def conclude(readings: Readings, terms: Terms, context: Context) -> Conclusion:
    """Each enhancing volume with its size."""
    del terms, context
    told = tuple(
        ExamFinding(f, measures={"volume_ml": f.volume_region.volume_ml}) for f in readings.findings if f.volume_region
    )
    return Conclusion(told, notes=("Enhancement in the first phase alone; no curve was analysed",))


def _recipe() -> type[Recipe]:
    from toy_breast_mri.recipe import BreastMriRecipe

    return BreastMriRecipe


def _golden() -> Image:
    pixels = np.full((8, 16, 16), 100, dtype=np.uint16)
    pixels[3:6, 5:9, 5:9] = 900
    return volume(pixels, np.diag([3.0, 1.0, 1.0, 1.0]))


BREAST_MRI: Final = Modality(
    name="toy_breast_mri",
    acquired_as="MR",
    select=select,
    recipe=_recipe,
    conclude=conclude,
    golden=_golden,
    mr_parts=frozenset({"BREAST"}),
)
