"""The segmentation objects of a result: one for each volume and for each still that has findings and allows one."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from imaging.report.document import Document
from imaging.report.kind import ObjectKind, Subject, Written
from imaging.report.seg.stills import OWN_PLANE, is_placed, obstacle, write_segmentation
from imaging.report.seg.volumes import by_volume, volume_obstacle, write_volume_segmentation
from imaging.report.sr.statements import Roi, rois


def write_segmentations(subject: Subject, kind: ObjectKind, _: Written) -> Written:
    """The SEG of every volume and still with findings, and for each a sentence, or why it has none."""
    made: list[tuple[Document, Dataset]] = []
    remarks: list[str] = []
    regions, sources = rois(subject.result), subject.sources
    for volume_region, of_volume in by_volume(regions):
        names = ", ".join(roi.name for roi in of_volume)
        reason = volume_obstacle(volume_region, sources)
        if reason is not None:
            series = volume_region.refs[0].series_uid
            remarks.append(f"{names}: no segmentation object of series {series} and no volume, because {reason}.")
            continue
        made.append(write_volume_segmentation(subject, kind, volume_region, of_volume, len(made) + 1))
        remarks.append(f"{names}: segmented in segmentation object {made[-1][0].sop_instance_uid}.")
    for sop_uid, of_image in _by_still(regions).items():
        names = ", ".join(roi.name for roi in of_image)
        # Findings of one result come from one network: either all are boxes or none is.
        reason = obstacle(sources[sop_uid], of_image[0].measured.key, subject.still_segmentations)
        if reason is not None:
            remarks.append(f"{names}: no segmentation object of image {sop_uid}, because {reason}.")
            continue
        made.append(write_segmentation(subject, kind, of_image, sources[sop_uid], len(made) + 1))
        remarks.append(f"{names}: pixel mask in segmentation object {made[-1][0].sop_instance_uid}.")
        if not is_placed(sources[sop_uid]):
            remarks.append(f"{made[-1][0].sop_instance_uid}: {OWN_PLANE}")
    return Written(tuple(made), tuple(remarks))


def _by_still(regions: Sequence[Roi]) -> dict[str, list[Roi]]:
    stills: dict[str, list[Roi]] = {}
    for roi in regions:
        if roi.volume_region is None:
            stills.setdefault(roi.measured.key.ref.sop_uid, []).append(roi)
    return stills
