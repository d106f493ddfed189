"""Segmentations as a kind of object."""

from __future__ import annotations

from typing import Final

from imaging.report.kind import ObjectKind
from imaging.report.seg.readback import check_segmentations
from imaging.report.seg.write import write_segmentations

SEGMENTATION: Final = ObjectKind(
    name="seg",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
    series_number=101,
    series_name="segmentation",
    write=write_segmentations,
    check=check_segmentations,
)
