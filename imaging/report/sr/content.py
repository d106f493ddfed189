"""Content items of a structured report (PS3.3 C.17.3), one small builder for each value type."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from pydicom import Dataset

from imaging.errors import ImagingError, Reason
from imaging.findings import Code
from imaging.image import Floats
from imaging.report.sr import codes
from imaging.report.sr.codes import MeasureCode

HAS_MODIFIER: Final = "HAS CONCEPT MOD"
HAS_OBSERVATION_CONTEXT: Final = "HAS OBS CONTEXT"
HAS_ACQUISITION_CONTEXT: Final = "HAS ACQ CONTEXT"
CONTAINS: Final = "CONTAINS"
SELECTED_FROM: Final = "SELECTED FROM"
HAS_PROPERTIES: Final = "HAS PROPERTIES"
INFERRED_FROM: Final = "INFERRED FROM"

# GraphicData is FL with a 16-bit length in Explicit VR (PS3.5 7.1.2): 65534 bytes are 8191 points.
MOST_POINTS: Final = 8191


def _item(relationship: str, value_type: str, name: Code | None, children: Iterable[Dataset] = ()) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [codes.concept(name)]
    below = list(children)
    if below:
        item.ContentSequence = below
    return item


def container(
    name: Code, children: Iterable[Dataset], template: str | None = None, relationship: str = CONTAINS
) -> Dataset:
    """A section. `template` is the TID it was made from (PS3.3 C.18.8)."""
    item = _item(relationship, "CONTAINER", name, children)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        item.ContentTemplateSequence = [template_identification(template)]
    return item


def template_identification(template: str) -> Dataset:
    identification = Dataset()
    identification.MappingResource = "DCMR"
    identification.MappingResourceUID = "1.2.840.10008.8.1.1"
    identification.TemplateIdentifier = template
    return identification


def code(relationship: str, name: Code, value: Code, children: Iterable[Dataset] = ()) -> Dataset:
    item = _item(relationship, "CODE", name, children)
    item.ConceptCodeSequence = [codes.concept(value)]
    return item


def text(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "TEXT", name)
    item.TextValue = value
    return item


def uid_reference(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "UIDREF", name)
    item.UID = value
    return item


def date(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "DATE", name)
    item.Date = value
    return item


def time(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "TIME", name)
    item.Time = value
    return item


def measurement(coded: MeasureCode, value: float, modifiers: Iterable[Dataset]) -> Dataset:
    """A measure of a group, rounded as its code says, with what modifies it."""
    item = _number(CONTAINS, coded.concept, value, coded.decimals, coded.unit)
    derived = [] if coded.derivation is None else [code(HAS_MODIFIER, codes.DERIVATION, coded.derivation)]
    item.ContentSequence = [*derived, *modifiers]
    return item


def number(relationship: str, name: Code, value: float, unit: Code, children: Iterable[Dataset] = ()) -> Dataset:
    """A measurement, rounded to two decimals so that it fits the 16 characters of DS and repeats exactly."""
    item = _number(relationship, name, value, 2, unit)
    if below := list(children):
        item.ContentSequence = below
    return item


def spacing(relationship: str, name: Code, value: float, unit: Code) -> Dataset:
    """A pixel spacing, to six decimals: with two, a mark would be off by a pixel in a hundred."""
    return _number(relationship, name, value, 6, unit)


def _number(relationship: str, name: Code, value: float, decimals: int, unit: Code) -> Dataset:
    written = f"{round(value, decimals):.10g}"
    if not math.isfinite(value) or len(written) > 16:
        raise ImagingError(
            f"measurement {name.meaning}: found {value}; allowed is a finite number of at most 16 characters",
            Reason.REPORT_FAILED,
        )
    item = _item(relationship, "NUM", name)
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = [codes.concept(unit)]
    measured.NumericValue = written
    item.MeasuredValueSequence = [measured]
    return item


def image(relationship: str, sop_class_uid: str, sop_uid: str, frames: Iterable[int], *below: Dataset) -> Dataset:
    """A reference to an image, or to some frames of it (numbers from 1) when it has several."""
    item = _item(relationship, "IMAGE", None, below)
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_uid
    reference.ReferencedSOPInstanceUID = sop_uid
    numbers = sorted(frames)
    if numbers:
        reference.ReferencedFrameNumber = numbers
    item.ReferencedSOPSequence = [reference]
    return item


def named_image(name: Code, source: Dataset) -> Dataset:
    """An `image` with a concept name, as the templates of groups demand; elsewhere images have none."""
    source.ConceptNameCodeSequence = [codes.concept(name)]
    return source


def segment(sop_class_uid: str, sop_uid: str, number: int) -> Dataset:
    """A reference to segment `number` (from 1) of a segmentation object (PS3.3 C.18.4)."""
    item = image(CONTAINS, sop_class_uid, sop_uid, ())
    item.ReferencedSOPSequence[0].ReferencedSegmentNumber = number
    return named_image(codes.REFERENCED_SEGMENT, item)


def by_reference(relationship: str, path: Iterable[int]) -> Dataset:
    """A relationship to an item elsewhere in the tree; `path` counts from 1, the root (PS3.3 C.17.3.2.5)."""
    item = Dataset()
    item.RelationshipType = relationship
    item.ReferencedContentItemIdentifier = list(path)
    return item


def outline(name: Code, points_px: Floats, source: Dataset, relationship: str = CONTAINS) -> Dataset:
    """A closed POLYLINE: `points_px` (n, 2) as x, y in corner convention, the first point repeated (PS3.3 C.18.6)."""
    if not 3 <= len(points_px) < MOST_POINTS:
        raise ImagingError(
            f"outline: found {len(points_px)} points; allowed are 3 to {MOST_POINTS - 1} (FL, 16-bit length)",
            Reason.REPORT_FAILED,
        )
    return _graphic(relationship, name, "POLYLINE", (*points_px, points_px[0]), source)


def path(name: Code, points_px: Floats, source: Dataset) -> Dataset:
    """An open POLYLINE that a measurement was taken along, `points_px` as of an outline."""
    return _graphic(INFERRED_FROM, name, "POLYLINE", points_px, source)


def point(relationship: str, name: Code, point_px: tuple[float, float], source: Dataset) -> Dataset:
    """A POINT, x and y in corner convention: the centre of the first pixel is 0.5, 0.5."""
    return _graphic(relationship, name, "POINT", [point_px], source)


def _graphic(
    relationship: str, name: Code, graphic_type: str, points: Iterable[Iterable[float]], source: Dataset
) -> Dataset:
    item = _item(relationship, "SCOORD", name, [source])
    item.GraphicType = graphic_type
    item.GraphicData = [float(value) for point in points for value in point]
    return item
