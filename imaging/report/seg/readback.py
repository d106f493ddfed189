"""Read-back of segmentation objects: codes and masks of their segments, each frame where its own geometry puts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from imaging.dicom.headers.placement import frame_affine
from imaging.dicom.results.content_tree import Reference
from imaging.dicom.results.records import ReadFinding, ReadSegment, ReadSegmentation, SegmentFrame
from imaging.exam.result import ExamResult
from imaging.image import Floats, Grid, SourceRef
from imaging.report.agreement import Sources, check_reference, frames_of, refuse
from imaging.report.kind import ObjectKind, ReadBack, Subject
from imaging.report.seg.stills import obstacle
from imaging.report.seg.volumes import volume_obstacle
from imaging.report.sr.statements import Roi, rois
from imaging.volume_region import VolumeRegion

# Positions are copied from the source; only their decimals may differ (DS has 16 characters).
_SAME_PLACE_MM: Final = 1e-3
# Orientation and spacing of a segmentation are those of one slice; `imaging.dicom.pixels.volume` allows others that
# much.
_SAME_STEP: Final = 2e-3


def check_segmentations(back: ReadBack, kind: ObjectKind) -> None:
    """Raises ReadbackError at the first disagreement between the segments and the regions of the result."""
    result, sources = back.subject.result, back.subject.sources
    check_segments(segments_by_tracking(back.of(kind, ReadSegmentation), back.subject), result, sources)


def segmentation_obstacle(roi: Roi, subject: Subject) -> str | None:
    """Why a region has no segment, or None."""
    sources = subject.sources
    if roi.volume_region is not None:
        return volume_obstacle(roi.volume_region, sources)
    return obstacle(sources[roi.measured.key.ref.sop_uid], roi.measured.key, subject.still_segmentations)


def segments_by_tracking(
    segmentations: Sequence[ReadSegmentation], subject: Subject
) -> dict[str, tuple[ReadSegmentation, ReadSegment]]:
    """Every region whose source allows one has exactly one segment, and no other is there."""
    segments: dict[str, tuple[ReadSegmentation, ReadSegment]] = {}
    for read in segmentations:
        if read.storage != "BINARY":
            refuse(read.sop_uid, "SegmentationType (0062,0001)", read.storage, "BINARY")
        for segment in read.segments:
            segments[segment.tracking_uid] = (read, segment)
    count = sum(len(read.segments) for read in segmentations)
    wanted = {roi.tracking_uid for roi in rois(subject.result) if segmentation_obstacle(roi, subject) is None}
    if wanted != set(segments) or count != len(wanted):
        refuse(f"study {subject.result.study_uid}", "segments", count, f"{len(wanted)}, one per outlined region")
    return segments


def check_segment_reference(
    where: str, found: ReadFinding, volume_region: VolumeRegion, place: tuple[ReadSegmentation, ReadSegment]
) -> None:
    """A volumetric group refers to its segment, and to the source frames that the segment has pixels on."""
    read, segment = place
    wanted = Reference(read.sop_class_uid, read.sop_uid, (), (segment.number,))
    if found.segment != wanted:
        refuse(where, "Referenced Segment", found.segment, wanted)
    occupied = [ref for ref, plane in zip(volume_region.refs, volume_region.full_mask(), strict=True) if plane.any()]
    sources = [(source.sop_uid, source.frames) for source in found.segment_sources]
    if sources != [(ref.sop_uid, frames_of(ref)) for ref in occupied]:
        refuse(where, "Source image for segmentation", len(sources), f"the {len(occupied)} frames of the segment")
    if found.points_px is not None:
        refuse(where, "region", "an outline", "the segment alone")


def check_segments(
    segments: Mapping[str, tuple[ReadSegmentation, ReadSegment]], result: ExamResult, sources: Sources
) -> None:
    """Each segment has the codes and the mask of its region."""
    for roi in rois(result):
        if roi.tracking_uid not in segments:
            continue
        read, segment = segments[roi.tracking_uid]
        where = f"{read.sop_uid}, segment {segment.number}"
        for field, found, wanted in (
            ("category", segment.category, roi.label.category),
            ("type", segment.kind, roi.label.kind),
            ("anatomic region", segment.sites, (roi.site,)),
            ("algorithm name", segment.algorithm, result.algorithm.name),
        ):
            if found != wanted:
                refuse(where, field, found, wanted)
        if roi.volume_region is None:
            _check_still(where, segment, roi, sources)
        else:
            _check_volume_region(where, read, segment, roi.volume_region, sources)


def _check_still(where: str, segment: ReadSegment, roi: Roi, sources: Sources) -> None:
    key = roi.measured.key
    if len(segment.frames) != 1:
        refuse(where, "frames", len(segment.frames), 1)
    frame = segment.frames[0]
    for reference in frame.sources:
        check_reference(where, reference, sources)
    if [reference.sop_uid for reference in frame.sources] != [key.ref.sop_uid]:
        refuse(where, "SourceImageSequence (0008,2112)", "another image", key.ref.sop_uid)
    if not np.array_equal(frame.mask, key.full_mask()):
        refuse(where, "PixelData (7FE0,0010)", "another mask", "the mask of the finding")


def _check_volume_region(
    where: str, read: ReadSegmentation, segment: ReadSegment, volume_region: VolumeRegion, sources: Sources
) -> None:
    """The frames of the segment, placed by their own positions, make the volume region on its grid, voxel for voxel."""
    images = {(ref.series_uid, ref.sop_class_uid, ref.sop_uid) for ref in volume_region.refs}
    if {(item.series_uid, item.sop_class_uid, item.sop_uid) for item in read.evidence} != images:
        refuse(where, "ReferencedSeriesSequence (0008,1115)", f"{len(read.evidence)} images", "those of the volume")
    found = np.zeros(volume_region.grid.shape, dtype=np.bool_)
    taken: set[int] = set()
    for frame in segment.frames:
        if frame.affine is None or frame.mask.shape != volume_region.grid.shape[1:]:
            refuse(
                where, "frame", f"{frame.mask.shape}, or no position", f"{volume_region.grid.shape[1:]} with a position"
            )
        place = _slice_of(where, frame.affine, volume_region.grid)
        if place in taken:
            refuse(where, "PlanePositionSequence (0020,9113)", "two frames at one place", "one")
        taken.add(place)
        _check_source(where, frame, frame.affine, volume_region.refs[place], sources)
        found[place] = frame.mask
    if not np.array_equal(found, volume_region.full_mask()):
        refuse(where, "PixelData (7FE0,0010)", "another mask", "the mask of the finding")


def _slice_of(where: str, affine: Floats, grid: Grid) -> int:
    """The slice of the grid on whose pixels those of a frame lie: three of its corners must meet the slice's."""
    _, rows, columns = grid.shape
    corners = np.array([[0, 0, 1], [rows - 1, 0, 1], [0, columns - 1, 1]], dtype=np.float64)
    index = (corners @ affine.T - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
    place = int(np.rint(index[0, 0]))
    wanted = np.column_stack([np.full(3, place), corners[:, :2]])
    if np.abs(index - wanted).max() >= 0.5 or not 0 <= place < grid.shape[0]:
        refuse(where, "position (0020,0032), (0020,0037), (0028,0030)", "pixels elsewhere", "those of a source frame")
    return place


def _check_source(where: str, frame: SegmentFrame, affine: Floats, ref: SourceRef, sources: Sources) -> None:
    """The frame names the source frame at its place, and lies where that one's header says."""
    if [(source.sop_uid, source.frames) for source in frame.sources] != [(ref.sop_uid, frames_of(ref))]:
        refuse(where, "SourceImageSequence (0008,2112)", "another frame", f"{ref.sop_uid} {frames_of(ref)}")
    for source in frame.sources:
        check_reference(where, source, sources)
    own = frame_affine(sources[ref.sop_uid], ref.frame_number or 1, f"image {ref.sop_uid}")
    if own is None or np.abs(affine[:, 2] - own[:, 2]).max() > _SAME_PLACE_MM:
        refuse(where, "ImagePositionPatient (0020,0032)", affine[:, 2].tolist(), "the source frame's")
    if np.abs(affine[:, :2] - own[:, :2]).max() > _SAME_STEP:
        refuse(where, "ImageOrientationPatient (0020,0037)", "other directions or steps", "the source frame's")
