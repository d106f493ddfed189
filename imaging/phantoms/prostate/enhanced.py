"""A series as Enhanced MR: one object whose functional groups say where each frame lies and what it is.

References: PS3.3 A.36.2 (Enhanced MR Image IOD), C.7.6.16 (functional groups), C.7.6.17 (dimensions), C.8.13 (MR).
A series of several matrices or orientations, as localisers are, is one object each.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from imaging.phantoms.prostate.header import (
    code,
    decimal,
    describe_equipment,
    describe_series,
    describe_study,
    sequence,
    sequence_times_ms,
    store,
)
from imaging.phantoms.prostate.series import MrSeries, Volume
from imaging.phantoms.prostate.study import ProstateStudy
from imaging.phantoms.ultrasound.dicom import describe_patient, empty_object, uid

ENHANCED_MR: Final = "1.2.840.10008.5.1.4.1.1.4.1"
_PROSTATE = ("41216001", "Prostate")


def enhanced_object(study: ProstateStudy, series: MrSeries) -> Iterator[FileDataset]:
    """The objects of a series: one per orientation of its volumes."""
    groups: dict[tuple[float, ...], list[Volume]] = {}
    for volume in series.volumes:
        groups.setdefault((*volume.slab.across, *volume.slab.down), []).append(volume)
    for number, volumes in enumerate(groups.values(), start=1):
        yield _object(study, series, volumes, number)


def _object(study: ProstateStudy, series: MrSeries, volumes: list[Volume], number: int) -> FileDataset:
    sop = uid("prostate enhanced", study.patient.patient_id, study.study, series.number, number, study.seed)
    ds = empty_object(ENHANCED_MR, sop)
    describe_patient(ds, study.patient)
    describe_study(ds, study)
    describe_series(ds, study, series)
    describe_equipment(ds, study)
    del ds.ReceiveCoilName  # it stands in a functional group
    frames = _frames(volumes, study.maker.by_slice)
    _describe_image(ds, study, series, number)
    _describe_dimensions(ds, len(volumes) > 1, series)
    ds.SharedFunctionalGroupsSequence = sequence(_shared(study, series, volumes[0]))
    ds.PerFrameFunctionalGroupsSequence = sequence(
        *(_frame(study, series, volumes, order, slice_) for order, slice_ in frames)
    )
    ds.NumberOfFrames = len(frames)
    store(ds, np.stack([volumes[order].stored[slice_] for order, slice_ in frames]))
    return ds


def _frames(volumes: list[Volume], by_slice: bool) -> list[tuple[int, int]]:
    """(volume, slice) of each frame, in the order of the pixels."""
    found = [
        (order, slice_)
        for order, volume in enumerate(volumes)
        for slice_ in range(volume.slab.shape[0])
        if slice_ != volume.lost
    ]
    return sorted(found, key=lambda frame: frame[::-1]) if by_slice else found


def _frame_type(series: MrSeries) -> list[str]:
    """Frame Type (PS3.3 C.8.16.1): what is original, of a volume, and which contrast."""
    derived = series.image_type[0] == "DERIVED" and series.key != "dwi"
    contrast = {"adc": "ADC", "fa": "FA", "subtraction": "SUBTRACTION"}.get(series.key, "NONE")
    kind = {"t2w": "T2", "dwi": "DIFFUSION", "t1": "T1"}[series.weighting]
    return ["DERIVED" if derived else "ORIGINAL", "PRIMARY", _FLAVOUR.get(series.key, kind), contrast]


_FLAVOUR: Final = {"localiser": "LOCALIZER", "dynamic": "DYNAMIC", "subtraction": "DYNAMIC"}


def _describe_image(ds: Dataset, study: ProstateStudy, series: MrSeries, number: int) -> None:
    """Enhanced MR Image and MR Pulse Sequence modules (PS3.3 C.8.13.1, C.8.13.4)."""
    when = study.started + datetime.timedelta(seconds=30 * (series.number // 100) + number)
    ds.ContentDate, ds.ContentTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    ds.AcquisitionDateTime, ds.AcquisitionDuration = f"{when:%Y%m%d%H%M%S}", 120.0
    ds.InstanceNumber, ds.AcquisitionNumber = number, 1
    ds.ImageType = _frame_type(series)
    ds.PixelPresentation, ds.VolumetricProperties = "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.ComplexImageComponent = "MAGNITUDE"
    ds.AcquisitionContrast = {"t2w": "T2", "dwi": "DIFFUSION", "t1": "T1"}[series.weighting]
    ds.ContentQualification, ds.ResonantNucleus, ds.KSpaceFiltering = "RESEARCH", "1H", "NONE"
    ds.ApplicableSafetyStandardAgency = "IEC"
    ds.BurnedInAnnotation, ds.LossyImageCompression, ds.PresentationLUTShape = "NO", "00", "IDENTITY"
    ds.ImageComments = "Synthetic phantom, not a person"
    ds.PositionReferenceIndicator = ""
    ds.AcquisitionContextSequence = sequence()
    if series.key == "dynamic":
        agent = code("424863000", "Gadolinium-containing contrast agent")
        agent.ContrastBolusAgentNumber = 1
        agent.ContrastBolusAdministrationRouteSequence = sequence(code("47625008", "Intravenous route"))
        agent.ContrastBolusIngredientCodeSequence = sequence(code("52518006", "Gadolinium"))
        agent.ContrastBolusVolume, agent.ContrastBolusIngredientConcentration = 15.0, 0.5
        ds.ContrastBolusAgentSequence = sequence(agent)
    if ds.ImageType[0] == "ORIGINAL":
        _describe_pulses(ds, series)


def _describe_pulses(ds: Dataset, series: MrSeries) -> None:
    """MR Pulse Sequence module (PS3.3 C.8.13.4)."""
    kind = series.weighting
    ds.PulseSequenceName = {"t2w": "tse2d", "dwi": "ep2d_diff", "t1": "fl3d"}[kind]
    ds.MRAcquisitionType = "3D" if series.key == "dynamic" else "2D"
    ds.EchoPulseSequence = "GRADIENT" if kind == "t1" else "SPIN"
    if ds.EchoPulseSequence == "SPIN":
        ds.MultipleSpinEcho = "YES" if kind == "t2w" else "NO"
    ds.MultiPlanarExcitation, ds.PhaseContrast, ds.TimeOfFlightContrast = "NO", "NO", "NO"
    ds.SteadyStatePulseSequence, ds.EchoPlanarPulseSequence = "NONE", "YES" if kind == "dwi" else "NO"
    ds.SaturationRecovery, ds.SpectrallySelectedSuppression = "NO", "FAT" if kind == "dwi" else "NONE"
    ds.OversamplingPhase = "2D"
    ds.GeometryOfKSpaceTraversal, ds.SegmentedKSpaceTraversal = "RECTILINEAR", "SINGLE" if kind == "dwi" else "PARTIAL"
    ds.RectilinearPhaseEncodeReordering, ds.NumberOfKSpaceTrajectories = "LINEAR", 1
    if ds.MRAcquisitionType == "3D":
        ds.CoverageOfKSpace = "FULL"


def _describe_dimensions(ds: Dataset, several: bool, series: MrSeries) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): stack, place in it, and b-value or phase of several."""
    where = uid("prostate dimensions", ds.SOPInstanceUID)
    organisation = Dataset()
    organisation.DimensionOrganizationUID = where
    ds.DimensionOrganizationSequence = sequence(organisation)
    pointers = [("FrameContentSequence", "StackID"), ("FrameContentSequence", "InStackPositionNumber")]
    if several:
        pointers.append(_dimension(series))
    items = []
    for group, attribute in pointers:
        item = Dataset()
        item.DimensionOrganizationUID = where
        item.DimensionIndexPointer, item.FunctionalGroupPointer = Tag(attribute), Tag(group)
        items.append(item)
    ds.DimensionIndexSequence = sequence(*items)


def _dimension(series: MrSeries) -> tuple[str, str]:
    """What tells the volumes of a series apart."""
    if series.key == "dwi":
        return "MRDiffusionSequence", "DiffusionBValue"
    return "FrameContentSequence", "TemporalPositionIndex"


def _shared(study: ProstateStudy, series: MrSeries, volume: Volume) -> Dataset:
    """The functional groups that hold for all frames."""
    shared, slab = Dataset(), volume.slab
    measures, orientation, anatomy = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [decimal(step) for step in slab.pitch_mm]
    measures.SliceThickness, measures.SpacingBetweenSlices = decimal(slab.thickness_mm), decimal(slab.step_mm)
    orientation.ImageOrientationPatient = [decimal(v, 10) for v in (*slab.across, *slab.down)]
    anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = "U", sequence(code(*_PROSTATE))
    shared.PixelMeasuresSequence = sequence(measures)
    shared.PlaneOrientationSequence = sequence(orientation)
    shared.FrameAnatomySequence = sequence(anatomy)
    shared.MRImageFrameTypeSequence = sequence(_type_item(series))
    if series.key == "dynamic":
        usage = Dataset()
        usage.ContrastBolusAgentNumber, usage.ContrastBolusAgentAdministered = 1, "YES"
        usage.ContrastBolusAgentDetected = "YES"
        usage.ContrastBolusAgentPhase = "DYNAMIC"
        shared.ContrastBolusUsageSequence = sequence(usage)
    if _frame_type(series)[0] == "ORIGINAL":
        _share_acquisition(shared, study, series, volume)
    return shared


def _type_item(series: MrSeries) -> Dataset:
    item = Dataset()
    item.FrameType = _frame_type(series)
    item.PixelPresentation, item.VolumetricProperties = "MONOCHROME", "VOLUME"
    item.VolumeBasedCalculationTechnique, item.ComplexImageComponent = "NONE", "MAGNITUDE"
    item.AcquisitionContrast = {"t2w": "T2", "dwi": "DIFFUSION", "t1": "T1"}[series.weighting]
    return item


def _share_acquisition(shared: Dataset, study: ProstateStudy, series: MrSeries, volume: Volume) -> None:
    """Timing, geometry, echo, modifiers, coils and averages (PS3.3 C.8.13.5)."""
    repetition, echo, train = sequence_times_ms(series)
    timing, view, echoes = Dataset(), Dataset(), Dataset()
    timing.RepetitionTime, timing.FlipAngle, timing.EchoTrainLength = decimal(repetition), "90", train
    timing.RFEchoTrainLength = train if series.weighting == "t2w" else 0
    timing.GradientEchoTrainLength = train if series.weighting == "dwi" else 0
    timing.GradientOutputType, timing.GradientOutput = "DB_DT", 40.0
    timing.SpecificAbsorptionRateSequence = sequence(_limited("SpecificAbsorptionRate", "IEC_WHOLE_BODY", 1.2))
    timing.OperatingModeSequence = sequence(_mode())
    view.InPlanePhaseEncodingDirection = "COLUMN"
    view.MRAcquisitionFrequencyEncodingSteps = volume.slab.shape[2]
    view.MRAcquisitionPhaseEncodingStepsInPlane = volume.slab.shape[1]
    view.MRAcquisitionPhaseEncodingStepsOutOfPlane = 1
    view.PercentSampling, view.PercentPhaseFieldOfView = "100", "100"
    echoes.EffectiveEchoTime = float(echo)
    shared.MRTimingAndRelatedParametersSequence = sequence(timing)
    shared.MRFOVGeometrySequence = sequence(view)
    shared.MREchoSequence = sequence(echoes)
    shared.MRModifierSequence = sequence(_modifiers(series))
    shared.MRImagingModifierSequence = sequence(_imaging_modifiers(study))
    shared.MRReceiveCoilSequence = sequence(_receive_coil(study))
    shared.MRTransmitCoilSequence = sequence(_transmit_coil())
    averages = Dataset()
    averages.NumberOfAverages = "2"
    shared.MRAveragesSequence = sequence(averages)


def _limited(kind: str, definition: str, value: float) -> Dataset:
    item = Dataset()
    setattr(item, f"{kind}Definition", definition)
    setattr(item, f"{kind}Value", value)
    return item


def _mode() -> Dataset:
    item = Dataset()
    item.OperatingModeType, item.OperatingMode = "GRADIENT", "IEC_NORMAL"
    return item


def _modifiers(series: MrSeries) -> Dataset:
    item = Dataset()
    item.InversionRecovery, item.FlowCompensation, item.Spoiling = "NO", "NONE", "NONE"
    item.T2Preparation, item.SpectrallySelectedExcitation, item.SpatialPresaturation = "NO", "NONE", "NONE"
    item.PartialFourier, item.ParallelAcquisition = "NO", "NO"
    if series.weighting == "t1":
        item.Spoiling = "RF"
    return item


def _imaging_modifiers(study: ProstateStudy) -> Dataset:
    item = Dataset()
    item.MagnetizationTransfer, item.BloodSignalNulling, item.Tagging = "NONE", "NO", "NONE"
    item.TransmitterFrequency, item.PixelBandwidth = 42.577 * study.maker.tesla, "1500"
    return item


def _receive_coil(study: ProstateStudy) -> Dataset:
    item = Dataset()
    item.ReceiveCoilName, item.ReceiveCoilManufacturerName = "Body array", ""
    item.ReceiveCoilType, item.QuadratureReceiveCoil = "MULTICOIL", "NO"
    element = Dataset()
    element.MultiCoilElementName, element.MultiCoilElementUsed = "1", "YES"
    item.MultiCoilDefinitionSequence = sequence(element)
    if study.reception.coil == "endorectal":
        item.ReceiveCoilName = "Endorectal"
    return item


def _transmit_coil() -> Dataset:
    item = Dataset()
    item.TransmitCoilName, item.TransmitCoilManufacturerName, item.TransmitCoilType = "Body", "", "BODY"
    return item


def _frame(study: ProstateStudy, series: MrSeries, volumes: list[Volume], order: int, slice_: int) -> Dataset:
    """The functional groups of one frame."""
    volume, frame = volumes[order], Dataset()
    content, position = Dataset(), Dataset()
    when = study.started + datetime.timedelta(seconds=30 * (series.number // 100) + 0.1 * slice_ + 10 * order)
    content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = f"{when:%Y%m%d%H%M%S.%f}"
    content.FrameAcquisitionDuration, content.FrameAcquisitionNumber = 2500.0, volume.acquisition
    content.StackID, content.InStackPositionNumber = "1", slice_ + 1
    content.DimensionIndexValues = [1, slice_ + 1, *([order + 1] if len(volumes) > 1 else [])]
    if len(volumes) > 1:
        content.TemporalPositionIndex = order + 1 if series.key != "dwi" else 1
    position.ImagePositionPatient = [decimal(v) for v in volume.slab.corner_mm(slice_)]
    frame.FrameContentSequence, frame.PlanePositionSequence = sequence(content), sequence(position)
    _describe_values(frame, series, volume, slice_)
    if series.weighting == "dwi" and volume.b is not None:
        diffusion, direction = Dataset(), Dataset()
        diffusion.DiffusionBValue = float(volume.b)
        diffusion.DiffusionDirectionality = "ISOTROPIC" if volume.b else "NONE"
        if volume.b and volume.directed:
            diffusion.DiffusionDirectionality = "DIRECTIONAL"
            direction.DiffusionGradientOrientation = list(volume.slab.normal)
            diffusion.DiffusionGradientDirectionSequence = sequence(direction)
        frame.MRDiffusionSequence = sequence(diffusion)
    return frame


def _describe_values(frame: Dataset, series: MrSeries, volume: Volume, slice_: int) -> None:
    """Rescale, window and, for ADC, a real world value with its unit (PS3.3 C.7.6.16.2.9 to 11)."""
    rescale, window = Dataset(), Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope = "0", f"{volume.slope:.8g}"
    rescale.RescaleType = "US"
    top = max(float(np.percentile(volume.stored[slice_], 99.5)) * volume.slope, 1e-6)
    window.WindowCenter, window.WindowWidth = f"{top / 2:.6g}", f"{top:.6g}"
    frame.PixelValueTransformationSequence = sequence(rescale)
    frame.FrameVOILUTSequence = sequence(window)
    if series.key == "adc":
        real = Dataset()
        real.LUTExplanation, real.LUTLabel = "ADC", "ADC"
        real.RealWorldValueFirstValueMapped, real.RealWorldValueLastValueMapped = 0, 4095
        real.RealWorldValueIntercept, real.RealWorldValueSlope = 0.0, 1.0
        real.MeasurementUnitsCodeSequence = sequence(code("um2/s", "um2/s", "UCUM"))
        frame.RealWorldValueMappingSequence = sequence(real)
