"""A prostate examination as DICOM: a `ProstateStudy` in, complete and deterministic objects out.

    for path, ds in objects(study):       # "t2w_axial/0001.dcm", MR Image or Enhanced MR Image
        file_bytes(ds)

Every UID, date and time is derived from patient, numbers and content: the same study gives the same bytes.
References: PS3.3 A.4 (MR Image IOD), C.8.3.1 (MR Image module), C.7.6.2 (Image Plane); for private elements the makers'
conformance statements. A Siemens mosaic holds all slices of a volume as tiles of one picture.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from imaging.phantoms.prostate.enhanced import enhanced_object
from imaging.phantoms.prostate.header import (
    TRANSFER_SYNTAXES,
    decimal,
    describe_equipment,
    describe_series,
    describe_study,
    sequence_times_ms,
    store,
)
from imaging.phantoms.prostate.makers import MriMaker, SeriesKey
from imaging.phantoms.prostate.series import MrSeries, Volume, series_of
from imaging.phantoms.prostate.study import ProstateStudy
from imaging.phantoms.ultrasound.dicom import describe_patient, empty_object, uid

MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
_GE_OFFSET = 1_000_000_000
_DIRECTIONS = ("RL", "AP", "FH")


@dataclass(frozen=True, slots=True)
class _Place:
    """One slice of one volume, and its number in the series."""

    volume: Volume
    slice_: int
    instance: int
    seconds: float


def objects(study: ProstateStudy, wanted: tuple[SeriesKey, ...] | None = None) -> Iterator[tuple[str, FileDataset]]:
    """Path and object of each instance: a folder per series, files in the order of their numbers."""
    series = series_of(study, wanted)
    parts = Counter(sery.key for sery in series)
    seen: Counter[str] = Counter()
    for sery in series:
        seen[sery.key] += 1
        folder = f"{sery.key}_{seen[sery.key]}" if parts[sery.key] > 1 else sery.key
        for number, ds in enumerate(_made(study, sery), start=1):
            yield f"{folder}/{number:04d}.dcm", ds


def _made(study: ProstateStudy, series: MrSeries) -> Iterator[FileDataset]:
    if series.form == "enhanced":
        yield from enhanced_object(study, series)
    elif series.form == "mosaic":
        for number, volume in enumerate(series.volumes, start=1):
            yield _mosaic(study, series, volume, number)
    else:
        for place in _places(study.maker, series):
            yield _classic(study, series, place)


def _places(maker: MriMaker, series: MrSeries) -> list[_Place]:
    """Every slice that is there, numbered as the maker does."""
    slots = []
    for order, volume in enumerate(series.volumes):
        slices = range(volume.slab.shape[0])
        interleaved = [*slices[::2], *slices[1::2]]
        turn = {"ascending": [*slices], "descending": [*slices][::-1], "interleaved": interleaved}[maker.order]
        for rank, slice_ in enumerate(turn):
            seconds = 60.0 * order + 2.5 * interleaved.index(slice_)
            key = (rank, order) if maker.by_slice and series.key == "dwi" else (order, rank)
            slots.append((key, volume, slice_, seconds))
    slots.sort(key=lambda slot: slot[0])
    return [
        _Place(volume, slice_, number, seconds)
        for number, (_, volume, slice_, seconds) in enumerate(slots, start=1)
        if slice_ != volume.lost
    ]


def _classic(study: ProstateStudy, series: MrSeries, place: _Place) -> FileDataset:
    """One slice as MR Image."""
    volume, slab = place.volume, place.volume.slab
    pixels = volume.stored[place.slice_]
    ds = _object(study, series, place.instance, place.seconds)
    _describe_plane(ds, volume, slab.corner_mm(place.slice_))
    ds.SliceLocation = decimal(float(slab.corner_mm(place.slice_) @ slab.normal))
    _describe_contrast(ds, series, volume)
    _describe_diffusion(ds, study.maker, volume)
    _describe_values(ds, study.maker, series, volume)
    store(ds, pixels)
    return ds


def _mosaic(study: ProstateStudy, series: MrSeries, volume: Volume, number: int) -> FileDataset:
    """All slices of a volume as tiles. Its corner is that of a picture as large around the first slice's middle."""
    count, rows, columns = volume.slab.shape
    side = ceil(sqrt(count))
    whole = np.zeros((side * rows, side * columns), dtype="<u2")
    for k, plane in enumerate(volume.stored):
        top, left = k // side * rows, k % side * columns
        whole[top : top + rows, left : left + columns] = plane
    ds = _object(study, series, number, 60.0 * (number - 1))
    slab = volume.slab
    outset = np.array(slab.down) * slab.pitch_mm[0] * (side - 1) * rows / 2
    outset = outset + np.array(slab.across) * slab.pitch_mm[1] * (side - 1) * columns / 2
    _describe_plane(ds, volume, slab.corner_mm(0) - outset)
    _describe_contrast(ds, series, volume)
    ds.AcquisitionMatrix = [0, columns, rows, 0]
    _describe_diffusion(ds, study.maker, volume)
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    ds.private_block(0x0051, "SIEMENS MR HEADER", create=True).add_new(0x13, "SH", "+LPH")
    store(ds, whole)
    return ds


def _object(study: ProstateStudy, series: MrSeries, instance: int, seconds: float) -> FileDataset:
    """An MR Image with what does not depend on its volume."""
    sop = uid("prostate image", study.patient.patient_id, study.study, series.number, instance, study.seed, study.form)
    ds = empty_object(MR_IMAGE, sop, TRANSFER_SYNTAXES[study.maker.coding])
    describe_patient(ds, study.patient)
    describe_study(ds, study)
    describe_series(ds, study, series)
    describe_equipment(ds, study)
    when = study.started + datetime.timedelta(seconds=30 * (series.number // 100) + seconds)
    ds.ContentDate = ds.AcquisitionDate = f"{when:%Y%m%d}"
    ds.ContentTime = ds.AcquisitionTime = f"{when:%H%M%S.%f}"
    ds.InstanceNumber, ds.ImageType = instance, list(series.image_type)
    ds.ImageComments = "Synthetic phantom, not a person"
    ds.PositionReferenceIndicator = ""
    return ds


def _describe_plane(ds: Dataset, volume: Volume, corner_mm: Any) -> None:
    """Image Plane module (PS3.3 C.7.6.2) and gaps."""
    slab = volume.slab
    ds.ImagePositionPatient = [decimal(v) for v in corner_mm]
    ds.ImageOrientationPatient = [decimal(v, 10) for v in (*slab.across, *slab.down)]
    ds.PixelSpacing = [decimal(step) for step in slab.pitch_mm]
    ds.SliceThickness, ds.SpacingBetweenSlices = decimal(slab.thickness_mm), decimal(slab.step_mm)
    ds.AcquisitionNumber = volume.acquisition


def _describe_contrast(ds: Dataset, series: MrSeries, volume: Volume) -> None:
    """MR Image module (PS3.3 C.8.3.1) and, for the dynamic series, Contrast/Bolus (C.7.6.4)."""
    repetition, echo, train = sequence_times_ms(series)
    kind = {"t2w": ("SE", "SK"), "dwi": ("EP", "SK"), "t1": ("GR", "SP")}[series.weighting]
    ds.ScanningSequence, ds.SequenceVariant = kind
    ds.ScanOptions = "FS" if series.weighting == "dwi" else ""
    ds.MRAcquisitionType = "3D" if series.key in {"dynamic", "subtraction"} else "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = decimal(repetition), decimal(echo), train
    ds.ProtocolName = series.description
    if series.key in {"dynamic", "subtraction"}:
        ds.ContrastBolusAgent = "Synthetic agent"
    if volume.phase is not None:
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = volume.phase, 3


def _describe_diffusion(ds: Dataset, maker: MriMaker, volume: Volume) -> None:
    """The b-value where the maker writes it."""
    if volume.b is None:
        return
    b = round(volume.b)
    if maker.b_place == "siemens":
        block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", str(b))
        block.add_new(0x0D, "CS", "DIRECTIONAL" if volume.directed else "ISOTROPIC")
        ds.SequenceName = f"ep_b{b}#1" if volume.directed else f"*ep_b{b}t"
    elif maker.b_place == "ge":
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", [b + _GE_OFFSET, 8, 0, 0])
    elif maker.b_place == "philips":
        ds.add_new((0x2001, 0x0010), "LO", "SYNTHETIC PHANTOM")  # another creator has block 10
        block = ds.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block.add_new(0x03, "FL", float(b))
        block.add_new(0x04, "CS", "I" if b else "N")
    else:
        ds.DiffusionBValue = float(b)


def _describe_values(ds: Dataset, maker: MriMaker, series: MrSeries, volume: Volume) -> None:
    """What stored values stand for: nothing by some makers; Philips' scale slope gives floating-point values."""
    if maker.rescales or volume.slope != 1.0:
        ds.RescaleIntercept, ds.RescaleSlope = "0", f"{volume.slope:.8g}"
        ds.RescaleType = volume.unit or "US"
    if maker.rescales:
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0D, "FL", 0.0)
        block.add_new(0x0E, "FL", 1e6 if series.key == "adc" else 4.0)
