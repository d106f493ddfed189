"""Header → planes: where each slice of a classic, Enhanced multi-frame or Siemens mosaic image lies in the patient.

Coordinates here are DICOM's (LPS, millimetres); `volume` turns them into `patient_ras`. A plane also carries the facts
by which planes at one place can be told apart (echo, b-value, phase, frame type), as opaque text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Final

import numpy as np
from pydicom import Dataset

from imaging.dicom.headers.elements import classic_view, functional_group, numbers, private_value, scalar, text
from imaging.dicom.headers.mosaic import slice_count, slice_sense
from imaging.dicom.index import Instance
from imaging.dicom.pixels.frames import Frames
from imaging.errors import InputError, Reason
from imaging.image import Floats, SourceRef

# What may tell planes at one place apart, the most telling first: attributes of classic images, and private b-values
# by creator, group and element. What a b-value means is not decoded here.
_TELLING: Final[tuple[str | tuple[str, int, int], ...]] = (
    "ImageType",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("GEMS_PARM_01", 0x0043, 0x39),
    ("Philips Imaging DD 001", 0x2001, 0x03),
    ("Image Private Header", 0x0065, 0x09),
    "TemporalPositionIdentifier",
    "TriggerTime",
    "InversionTime",
    "SequenceName",
    "AcquisitionNumber",
)
# In Enhanced images they stand in functional groups (PS3.3 C.7.6.16.2 and the macros of each modality).
_GROUPED: Final = (
    ("MRImageFrameTypeSequence", "FrameType"),
    ("CTImageFrameTypeSequence", "FrameType"),
    ("PETFrameTypeSequence", "FrameType"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("MRDiffusionSequence", "DiffusionDirectionality"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("FrameContentSequence", "DimensionIndexValues"),
)
# Dimensions that say where a plane is, not what it is: StackID, InStackPositionNumber, ImagePositionPatient.
_PLACES: Final = frozenset({0x00209056, 0x00209057, 0x00200032})


@dataclass(frozen=True, eq=False, slots=True)
class Plane:
    """One slice: which pixels, where they lie, what they are worth.

    `box` is (row, column, row, column), half-open, inside frame `number` (from 0) of `frames`. `corner` is the centre
    of its first pixel, `across` and `down` the directions of rising column and row (LPS); `spacing_mm` is (row step,
    column step). Values are stored × `slope` + `intercept`. Planes of one `stack` may make a volume.
    """

    source: SourceRef
    frames: Frames
    number: int
    box: tuple[int, int, int, int]
    corner: Floats
    across: Floats
    down: Floats
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float
    stack: tuple[str, ...]
    facts: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return self.box[2] - self.box[0], self.box[3] - self.box[1]


def read_planes(instance: Instance, frames: Frames) -> list[Plane]:
    """The planes of one image object. Raises InputError (GEOMETRY) when the header does not say where they lie."""
    form, header = frames.format, frames.header
    if form.photometric != "MONOCHROME2" or form.samples != 1 or "ModalityLUTSequence" in header:
        raise InputError(
            f"{instance.name}: PhotometricInterpretation '{form.photometric}' with {form.samples} samples"
            f"{' and a Modality LUT' if 'ModalityLUTSequence' in header else ''}; a volume is made of MONOCHROME2 "
            "with RescaleSlope and RescaleIntercept",
            Reason.UNSUPPORTED_PIXELS,
        )
    if "PerFrameFunctionalGroupsSequence" in header:
        return _enhanced(instance, frames)
    if frames.count > 1:
        raise InputError(
            f"{instance.name}: {frames.count} frames without PerFrameFunctionalGroupsSequence (5200,9230): "
            "nothing says where each lies",
            Reason.GEOMETRY,
        )
    return _mosaic(instance, frames) if "MOSAIC" in text(header.get("ImageType")) else [_classic(instance, frames)]


def _classic(instance: Instance, frames: Frames) -> Plane:
    header = frames.header
    return _plane(instance, frames, 0, (header, header, header, header), ((instance.series_uid,), _facts(header)))


def _facts(header: Dataset) -> dict[str, str]:
    facts = {}
    for key in _TELLING:
        if isinstance(key, str):
            facts[key] = text(header.get(key))
        else:
            facts[f"{key[0]} ({key[1]:04X},xx{key[2]:02X})"] = text(private_value(header, *key))
    return facts


def _enhanced(instance: Instance, frames: Frames) -> list[Plane]:
    header = frames.header
    items = header.PerFrameFunctionalGroupsSequence
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    if len(items) != frames.count:
        raise InputError(
            f"{instance.name}: {len(items)} items of PerFrameFunctionalGroupsSequence for {frames.count} frames",
            Reason.GEOMETRY,
        )
    dimensions = [item.get("DimensionIndexPointer", 0) for item in header.get("DimensionIndexSequence") or []]
    kept = [k for k, pointer in enumerate(dimensions) if pointer not in _PLACES]
    whole = str(header.get("ConcatenationUID") or instance.sop_uid)
    planes = []
    for number, item in enumerate(items):
        classic = classic_view(header, item, shared)
        facts = {f"{group}.{key}": text(functional_group(item, shared, group).get(key)) for group, key in _GROUPED}
        content = functional_group(item, shared, "FrameContentSequence")
        values = np.atleast_1d(content.get("DimensionIndexValues") or [])
        facts["FrameContentSequence.DimensionIndexValues"] = str([int(values[k]) for k in kept if k < len(values)])
        if classic is not header:
            facts |= _facts(classic)
        parts = (
            functional_group(item, shared, "PlanePositionSequence"),
            functional_group(item, shared, "PlaneOrientationSequence"),
            functional_group(item, shared, "PixelMeasuresSequence"),
            functional_group(item, shared, "PixelValueTransformationSequence"),
        )
        stack = (instance.series_uid, whole, text(content.get("StackID")))
        planes.append(_plane(instance, frames, number, parts, (stack, facts)))
    return planes


def _plane(
    instance: Instance,
    frames: Frames,
    number: int,
    parts: tuple[Dataset, Dataset, Dataset, Dataset],
    marks: tuple[tuple[str, ...], dict[str, str]],
) -> Plane:
    """A whole frame as a plane. `parts`: position, orientation, pixel measures, rescale; `marks`: stack, facts."""
    position, orientation, measures, rescale = parts
    where = instance.name if instance.frames is None else f"{instance.name}: frame {number + 1}"
    cosines = numbers(orientation, "ImageOrientationPatient", 6, where)
    across, down = cosines[:3], cosines[3:]
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3):
        raise InputError(
            f"{where}: ImageOrientationPatient (0020,0037) is {cosines.tolist()}; allowed are two perpendicular unit "
            "vectors",
            Reason.GEOMETRY,
        )
    spacing = numbers(measures, "PixelSpacing", 2, where)
    slope, intercept = scalar(rescale, "RescaleSlope", 1.0, where), scalar(rescale, "RescaleIntercept", 0.0, where)
    if min(spacing) <= 0 or slope == 0:
        raise InputError(
            f"{where}: PixelSpacing {spacing.tolist()}, RescaleSlope {slope}; allowed are positive steps and a slope "
            "other than 0",
            Reason.GEOMETRY,
        )
    i = instance
    frame_number = None if i.frames is None else number + 1
    return Plane(
        source=SourceRef(i.study_uid, i.series_uid, i.sop_class_uid, i.sop_uid, frame_number),
        frames=frames,
        number=number,
        box=(0, 0, frames.format.rows, frames.format.columns),
        corner=numbers(position, "ImagePositionPatient", 3, where),
        across=across,
        down=down,
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        slope=slope,
        intercept=intercept,
        stack=marks[0],
        facts=marks[1],
    )


def _mosaic(instance: Instance, frames: Frames) -> list[Plane]:
    """The tiles of a Siemens mosaic as planes.

    ImagePositionPatient is the corner that the whole mosaic would have around the centre of the first slice, so the
    first tile's corner lies half the difference of their sizes further in. The following slices stand at
    SpacingBetweenSlices along the slice normal: tiles have no positions of their own.
    """
    whole, header, name = _classic(instance, frames), frames.header, instance.name
    normal = np.cross(whole.across, whole.down) * slice_sense(header, np.cross(whole.across, whole.down), name)
    count, notes = slice_count(frames)
    side = ceil(sqrt(count))
    rows, columns = frames.format.rows // side, frames.format.columns // side
    step = scalar(header, "SpacingBetweenSlices", 0.0, name)
    if step <= 0 or (rows * side, columns * side) != (frames.format.rows, frames.format.columns):
        raise InputError(
            f"{name}: a mosaic of {count} slices, {frames.format.rows} × {frames.format.columns} pixels, "
            f"SpacingBetweenSlices {step}; allowed are whole tiles in {side} × {side} and a positive step",
            Reason.GEOMETRY,
        )
    inset = whole.down * whole.spacing_mm[0] * (frames.format.rows - rows) / 2
    inset = inset + whole.across * whole.spacing_mm[1] * (frames.format.columns - columns) / 2
    corners = [(k // side * rows, k % side * columns) for k in range(count)]
    return [
        replace(
            whole,
            box=(top, left, top + rows, left + columns),
            corner=whole.corner + inset + k * step * normal,
            stack=(instance.series_uid, instance.sop_uid),
            notes=notes,
        )
        for k, (top, left) in enumerate(corners)
    ]
