"""A small digital breast tomosynthesis object: slices of a view, each lesion sharp in the slice at its height.

    volume(view, slices=5)      # pydicom FileDataset: Breast Tomosynthesis Image Storage, frame 1 next to the detector

The synthetic 2-D image that belongs to it is `mammogram(replace(view, special="synthetic"))`.
References: PS3.3 A.55 (Breast Tomosynthesis Image IOD), C.8.21 (X-Ray 3D), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from imaging.errors import ConfigError, Reason
from imaging.phantoms.mammography.body import GANTRY_DEG, BreastLesion
from imaging.phantoms.mammography.dicom import (
    VIEW_CODES,
    code,
    describe_mammography_study,
    describe_series,
    taken_at,
)
from imaging.phantoms.mammography.tissue import power_law
from imaging.phantoms.mammography.view import ViewAcquisition, exposed
from imaging.phantoms.ultrasound.dicom import describe_patient, empty_object, uid

TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
_BITS = 10
_TYPE = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]
_SHARP_MM = 5.0
"""Distance from its own height at which a lesion keeps a third of its contrast."""


def slice_heights_mm(view: ViewAcquisition, slices: int) -> list[float]:
    """Heights of the slices above the breast support, rising."""
    return [float(view.breast.thickness_mm * (k + 0.5) / slices) for k in range(slices)]


def height_mm(view: ViewAcquisition, lesion: BreastLesion) -> float:
    """How high a lesion lies above the support: along the beam, tissue as if pressed to half its depth."""
    angle = np.deg2rad(GANTRY_DEG[view.projection])
    along = lesion.superior_mm * np.cos(angle) - lesion.lateral_mm * np.sin(angle)
    half = view.breast.thickness_mm / 2
    return float(half + half * np.tanh(along / (2 * half)) * 0.9)


def slices_of(view: ViewAcquisition, slices: int) -> NDArray[np.uint16]:
    """Frames (slice, row, column) of 10 bits, hung with the chest wall of a left breast to the left."""
    bare = exposed(replace(view, lesions=()))
    frames = []
    for number, height in enumerate(slice_heights_mm(view, slices)):
        texture = power_law([view.seed, 40 + number], bare.processed.shape, 3.0)
        frame = bare.processed * (1 + 0.08 * texture * bare.breast)
        for lesion in view.own_lesions:
            alone = exposed(replace(view, lesions=(lesion,)))
            near = np.exp(-(((height - height_mm(view, lesion)) / _SHARP_MM) ** 2))
            frame = frame + near * (alone.processed - bare.processed)
        frames.append(frame if view.laterality == "L" else np.fliplr(frame))
    top = (1 << _BITS) - 1
    return np.clip(np.rint(np.stack(frames) * 0.72 * top), 0, top).astype(np.uint16)


def volume(view: ViewAcquisition, slices: int = 5) -> FileDataset:
    """The Breast Tomosynthesis Image of a view. Raises ConfigError for fewer than two slices."""
    if slices < 2:
        raise ConfigError(f"tomosynthesis: slices {slices}; allowed is 2 or more", Reason.CONFIG_INVALID)
    ds = empty_object(TOMOSYNTHESIS, uid("tomosynthesis", view, slices))
    describe_patient(ds, view.patient)
    describe_mammography_study(ds, view)
    describe_series(ds, view, "tomosynthesis")
    _describe_image(ds, view)
    frames = slices_of(view, slices)
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.SharedFunctionalGroupsSequence = Sequence([_shared(view, slices)])
    heights = slice_heights_mm(view, slices)
    ds.PerFrameFunctionalGroupsSequence = Sequence([_frame(view, k, h) for k, h in enumerate(heights, start=1)])
    _describe_dimensions(ds, view)
    ds.PixelData = frames.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _describe_image(ds: Dataset, view: ViewAcquisition) -> None:
    """Frame of Reference, X-Ray 3D Image, Breast View and Acquisition Context modules (PS3.3 C.8.21.1, C.8.21.6)."""
    when = taken_at(view)
    ds.FrameOfReferenceUID = uid("tomosynthesis frame", view.patient.patient_id, view.study, view.instance)
    ds.PositionReferenceIndicator = ""
    ds.InstanceNumber = view.instance
    ds.ContentDate, ds.ContentTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    ds.ImageType = _TYPE
    _describe_type(ds)
    ds.ContentQualification, ds.ImageComments = "RESEARCH", "Synthetic phantom, not a person"
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PresentationLUTShape = 1, "MONOCHROME2", "IDENTITY"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, _BITS, _BITS - 1, 0
    ds.AcquisitionContextSequence = Sequence([])
    seen = code(*VIEW_CODES[view.projection])
    seen.ViewModifierCodeSequence = Sequence([])
    ds.ViewCodeSequence = Sequence([seen])
    ds.BreastImplantPresent, ds.PartialView = "NO", "NO"


def _describe_type(ds: Dataset) -> None:
    """Common CT/MR and Photoacoustic Image Description macro (PS3.3 C.8.16.2), of the image and of each frame."""
    ds.PixelPresentation, ds.VolumetricProperties = "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"


def _shared(view: ViewAcquisition, slices: int) -> Dataset:
    """The functional groups that all frames share (PS3.3 C.7.6.16.2, C.8.21.5)."""
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    thickness = view.breast.thickness_mm / slices
    measures.PixelSpacing = [f"{view.spacing_mm:g}"] * 2
    measures.SliceThickness = measures.SpacingBetweenSlices = f"{thickness:.4f}"
    shared.PixelMeasuresSequence = Sequence([measures])
    orientation.ImageOrientationPatient = [f"{value:.6f}" for value in np.concatenate(_axes(view)[:2])]
    shared.PlaneOrientationSequence = Sequence([orientation])
    anatomy, identity, window = Dataset(), Dataset(), Dataset()
    anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = view.laterality, Sequence([code("76752008", "Breast")])
    shared.FrameAnatomySequence = Sequence([anatomy])
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = "0", "1", "US"
    shared.PixelValueTransformationSequence = Sequence([identity])
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = "383", "722", "LINEAR"
    shared.FrameVOILUTSequence = Sequence([window])
    return shared


def _axes(view: ViewAcquisition) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors in patient coordinates (LPS): along a row, down a column, and up from the support.

    Rows lead from the chest wall forwards in a left breast and back to it in a right one.
    """
    angle = np.deg2rad(GANTRY_DEG[view.projection])
    side = 1.0 if view.laterality == "L" else -1.0
    row = np.array([0.0, -side, 0.0])
    down = -np.array([side * np.cos(angle), 0.0, np.sin(angle)])
    return row, down, np.array([-side * np.sin(angle), 0.0, np.cos(angle)])


def _frame(view: ViewAcquisition, number: int, height: float) -> Dataset:
    """The functional groups of one frame: its number and its place; the nipple lies above the origin."""
    group, content, position, kind = Dataset(), Dataset(), Dataset(), Dataset()
    _describe_type(kind)
    kind.FrameType = _TYPE
    group.XRay3DFrameTypeSequence = Sequence([kind])
    content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number, [1, number]
    group.FrameContentSequence = Sequence([content])
    row, down, up = _axes(view)
    field, half = view.field, view.field.pitch_mm / 2
    left = view.breast.nipple_depth_mm - field.left_mm
    across = left if view.laterality == "L" else field.columns * field.pitch_mm - left
    corner = -row * (across - half) - down * (field.top_mm - half) + up * height
    position.ImagePositionPatient = [f"{value:.4f}" for value in corner]
    group.PlanePositionSequence = Sequence([position])
    return group


def _describe_dimensions(ds: Dataset, view: ViewAcquisition) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): stack, and position in it."""
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid("tomosynthesis dimensions", view)
    ds.DimensionOrganizationSequence = Sequence([organisation])
    indices = []
    for keyword in ("StackID", "InStackPositionNumber"):
        index = Dataset()
        index.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        index.DimensionIndexPointer, index.FunctionalGroupPointer = Tag(keyword), Tag("FrameContentSequence")
        indices.append(index)
    ds.DimensionIndexSequence = Sequence(indices)
