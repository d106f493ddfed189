"""The segmentation object of a volume: BINARY, one segment per finding and structure, on the source's own frames.

highdicom is shown one stand-in per slice, each a single-frame image with the position that the source's header gives
for it: so classic images, Enhanced multi-frame images and a part of their frames go one way, and nothing depends on the
order of frames. The references then name the true frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from pydicom import Dataset
from pydicom.valuerep import DSfloat

from imaging.dicom.headers.placement import frame_plane
from imaging.errors import ImagingError, Reason
from imaging.image import SourceRef
from imaging.report.agreement import Sources
from imaging.report.document import Document, seal
from imaging.report.kind import ObjectKind, Subject
from imaging.report.seg.stills import PLACEHOLDER_UID, bare_stand_in, encode, finish
from imaging.report.sr.statements import Roi
from imaging.volume_region import VolumeRegion

NO_SEGMENTATION_REFERENCE: Final = "its series has no single Frame of Reference"
_MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"


def by_volume(regions: Sequence[Roi]) -> list[tuple[VolumeRegion, list[Roi]]]:
    """The regions of volumes by the frames they lie on: the first volume region of each volume, and its regions."""
    volumes: dict[tuple[SourceRef, ...], list[Roi]] = {}
    volume_regions: dict[tuple[SourceRef, ...], VolumeRegion] = {}
    for roi in regions:
        if roi.volume_region is not None:
            volumes.setdefault(roi.volume_region.refs, []).append(roi)
            volume_regions.setdefault(roi.volume_region.refs, roi.volume_region)
    return [(volume_regions[refs], of_volume) for refs, of_volume in volumes.items()]


def volume_obstacle(volume_region: VolumeRegion, sources: Sources) -> str | None:
    """Why no valid segmentation can be made on this volume, or None."""
    references = {str(sources[ref.sop_uid].get("FrameOfReferenceUID") or "") for ref in volume_region.refs}
    return None if len(references) == 1 and "" not in references else NO_SEGMENTATION_REFERENCE


def write_volume_segmentation(
    subject: Subject, kind: ObjectKind, volume_region: VolumeRegion, regions: Sequence[Roi], number: int
) -> tuple[Document, Dataset]:
    """The sealed SEG of `regions`, all on the volume of `volume region`, and its data set.

    Raises ImagingError where slices share a frame (a mosaic), whose pixels are not those of the volume.
    """
    refs = volume_region.refs
    if len(set(refs)) != len(refs):
        raise ImagingError(
            f"image {refs[0].sop_uid}: found {len(refs)} slices in {len(set(refs))} frames; allowed is one frame for "
            "each slice that findings lie on",
            Reason.GEOMETRY,
        )
    masks = np.stack(
        [roi.volume_region.full_mask() for roi in regions if roi.volume_region is not None], axis=-1
    ).astype(np.uint8)
    dataset = kind.new_object(subject, number)
    made = encode(subject, regions, masks, lambda: _stand_ins(subject, volume_region), dataset)
    _name_sources(made, refs)
    finish(made, dataset, refs[0].sop_uid, regions)
    return seal(dataset, subject.identity, kind.name), dataset


def _stand_ins(subject: Subject, volume_region: VolumeRegion) -> list[Dataset]:
    """One single-frame image per slice, at the place that its source's header gives.

    Orientation and spacing are the first slice's, because a segmentation shares them: `imaging.dicom.pixels.volume`
    has found them alike. A source without Slice Thickness, which may be empty, gets the step of its slices.
    """
    found = []
    for place, ref in enumerate(volume_region.refs):
        header = subject.sources[ref.sop_uid]
        position, orientation, measures = frame_plane(header, ref.frame_number or 1)
        if place == 0:
            shared = orientation.ImageOrientationPatient, measures.PixelSpacing
            thickness = measures.get("SliceThickness") or volume_region.grid.spacing[0]
        stand_in = bare_stand_in(header, subject.result)
        stand_in.SOPClassUID, stand_in.SOPInstanceUID = _MR_IMAGE, _placeholder(place)
        stand_in.ImagePositionPatient = _decimals(position.ImagePositionPatient)
        stand_in.ImageOrientationPatient, stand_in.PixelSpacing = map(_decimals, shared)
        stand_in.SliceThickness = _decimals([thickness])[0]
        found.append(stand_in)
    return found


def _decimals(values: Sequence[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _placeholder(place: int) -> str:
    return f"{PLACEHOLDER_UID}.{place + 1}"


def _name_sources(made: Dataset, refs: Sequence[SourceRef]) -> None:
    """Puts the true frames where the stand-ins are referenced: per frame, for the object, and by series."""
    by_placeholder = {_placeholder(place): ref for place, ref in enumerate(refs)}
    groups = made.PerFrameFunctionalGroupsSequence
    named = [item for group in groups for item in group.DerivationImageSequence[0].SourceImageSequence]
    for item in {id(item): item for item in named}.values():  # highdicom shares an item among the segments of a slice
        ref = by_placeholder[str(item.ReferencedSOPInstanceUID)]
        item.update(_reference(ref))
        if ref.frame_number is not None:
            item.ReferencedFrameNumber = ref.frame_number
    instances = {ref.sop_uid: ref for ref in refs}
    made.SourceImageSequence = [_reference(ref) for ref in instances.values()]
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for ref in instances.values():
        by_series[ref.series_uid].append(_reference(ref))
    made.ReferencedSeriesSequence = []
    for series, references in by_series.items():
        item = Dataset()
        item.ReferencedInstanceSequence = references
        item.SeriesInstanceUID = series
        made.ReferencedSeriesSequence.append(item)


def _reference(ref: SourceRef) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = ref.sop_class_uid
    reference.ReferencedSOPInstanceUID = ref.sop_uid
    return reference
