"""What DICOM results say once they are read: reports with their findings, segmentations with their masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imaging.dicom.results.content_tree import ContentItem, ReadMeasure, Reference
from imaging.findings import Code, Mask
from imaging.image import Floats

PROBABILITY: Final = ("111047", "DCM")
_ANATOMICAL_STRUCTURE: Final = {("91723000", "SCT"), ("123037004", "SCT")}  # CID 7150, now and in older editions


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """One instance of the evidence sequences."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Equipment:
    """What made an object, or contributed to it; `purpose` is None for the maker."""

    purpose: Code | None
    manufacturer: str
    model: str
    version: str
    serial: str


@dataclass(frozen=True)
class ReadFinding:
    """One measurement group, or one region that stands alone.

    `points_px` (n, 2) is x, y in corner convention as stored, so a closed POLYLINE repeats its first point; None where
    the group has no 2-D region. `score` is the certainty in 0-1. Of a Mammography CAD report each Single Image Finding
    is one: `points_px` is its outline, `center_px` (x, y) its centre, and `intent` its Rendering Intent.

    Of a volumetric group (TID 1411) `segment` is the segment it refers to and `segment_sources` the images that this
    was made from. `category` is the Finding Category, which few writers give. `laterality` is the side of a paired
    organ that the Finding Site says.
    """

    tracking_id: str
    tracking_uid: str
    label: Code | None
    sites: tuple[Code, ...]
    score: float | None
    graphic_type: str
    points_px: Floats | None
    image: Reference | None
    measures: tuple[ReadMeasure, ...]
    references: tuple[Reference, ...]
    center_px: tuple[float, float] | None = None
    intent: Code | None = None
    category: Code | None = None
    segment: Reference | None = None
    segment_sources: tuple[Reference, ...] = ()
    laterality: Code | None = None

    @property
    def is_structure(self) -> bool:
        """Whether the group measures a part of the anatomy, which is there in everyone, and so finds nothing."""
        return self.category is not None and (self.category.value, self.category.scheme) in _ANATOMICAL_STRUCTURE

    @property
    def rating(self) -> float | None:
        """The probability of cancer (111047 DCM) in 0-1, None where the group states none in percent."""
        stated = [
            m.value
            for m in self.measures
            if m.concept and (m.concept.value, m.concept.scheme) == PROBABILITY and m.unit and m.unit.value == "%"
        ]
        return next((value / 100.0 for value in stated if value is not None and 0 <= value <= 100), None)


@dataclass(frozen=True)
class ReadComposite:
    """One Composite Feature of a Mammography CAD report; `members` are indices into the report's findings."""

    tracking_uid: str
    label: Code | None
    score: float | None
    intent: Code | None
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadDetections:
    """What was searched for on which images, and whether that succeeded (TID 4015)."""

    succeeded: bool
    kind: Code | None
    images: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class ReadRating:
    """The probability of cancer in 0-1 that a report states of its examination, and the image it comes from."""

    probability: float
    sop_uid: str


@dataclass(frozen=True)
class ReadReport:
    """A structured report. `identity` holds the raw bytes of the asked tags that the file has."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    template: str
    identity: dict[int, bytes]
    completion: str
    verification: str
    root: ContentItem
    procedure: Code | None
    outcome: Code | None
    detections: Code | None
    comments: tuple[str, ...]
    library: tuple[Reference, ...]
    findings: tuple[ReadFinding, ...]
    evidence: tuple[EvidenceItem, ...]
    equipment: tuple[Equipment, ...]
    rating: ReadRating | None = None
    composites: tuple[ReadComposite, ...] = ()
    performed: tuple[ReadDetections, ...] = ()
    predecessors: tuple[EvidenceItem, ...] = ()


@dataclass(frozen=True)
class SegmentFrame:
    """One frame of a segment: `mask` (row, column) bool, and the source frames it was made from, where named.

    `affine` (3, 3) takes pixel centres (row, column, 1) to `patient_ras` millimetres, by the segmentation's own
    position, orientation and spacing; None where it has none.
    """

    mask: Mask
    sources: tuple[Reference, ...]
    affine: Floats | None = None


@dataclass(frozen=True)
class ReadSegment:
    """One segment with its meaning and its frames in file order; none where the segment is empty."""

    number: int
    label: str
    category: Code | None
    kind: Code | None
    sites: tuple[Code, ...]
    tracking_id: str
    tracking_uid: str
    algorithm: str
    frames: tuple[SegmentFrame, ...]

    @property
    def is_structure(self) -> bool:
        """Whether the segment is a part of the anatomy, which is there in everyone, and so finds nothing."""
        return self.category is not None and (self.category.value, self.category.scheme) in _ANATOMICAL_STRUCTURE


@dataclass(frozen=True)
class ReadSegmentation:
    """A segmentation object. `storage` is BINARY, FRACTIONAL (masks are the non-zero pixels) or LABELMAP."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    storage: str
    identity: dict[int, bytes]
    segments: tuple[ReadSegment, ...]
    evidence: tuple[EvidenceItem, ...]
    equipment: tuple[Equipment, ...]
