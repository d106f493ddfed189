"""Image references → Images: decoded stored values on the source frame's grid, frame by frame.

Colour stays as it was stored (RGB or YBR), so that luminance never takes the detour YBR → RGB → grey. The modality
LUT is applied. A projection stays as stored: how its values are to be shown goes along, and the recipe chooses.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut

from imaging.dicom.headers.palette import palette_colours
from imaging.dicom.headers.voi import read_grayscale
from imaging.dicom.index import Instance
from imaging.dicom.instance import FrameRegion
from imaging.dicom.pixels.codecs import DecodedFrame
from imaging.dicom.pixels.frames import Frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, InputError, Reason
from imaging.image import Array, Box, Channels, Grid, Image, SourceRef

_GREY: Final = ("MONOCHROME1", "MONOCHROME2")
_LABELLED: Final[dict[str, Channels]] = {
    **dict.fromkeys(("RGB", "YBR_RCT", "YBR_ICT"), "rgb"),
    **dict.fromkeys(("YBR_FULL", "YBR_FULL_422"), "ybr_full"),
}
_NAMED: Final[dict[str, Channels]] = {"ycbcr": "ybr_full", "rgb": "rgb"}
# Millimetres per pixel outside these bounds are a mistake of the header.
_PLAUSIBLE_MM = (0.005, 5.0)
_PLAUSIBLE_ASPECT = (0.1, 10.0)


def read_frames(ref: ImageRef, disposable: bool = False) -> Iterator[tuple[SourceRef, Image | ImagingError]]:
    """Each frame of one reference as an Image of the whole frame, or the error that it cost.

    Frames are read and decoded one at a time: a cine needs the memory of one frame, and a broken frame costs only
    itself. `disposable` is the caller's word that this process is a disposable worker (see `codecs`).
    """
    refs = ref.source_refs()
    try:
        frames = open_frames(ref.instance, disposable)
        grid, notes = _frame_grid(ref.instance, ref.region, _aspect(frames.header))
        region, cut = _region_box(ref.instance, ref.region)
        facts, said = _projected(ref.instance, frames)
    except ImagingError as error:
        yield from ((source, error) for source in refs)
        return
    for source in refs:
        try:
            array, channels, seen = _decode(frames, (source.frame_number or 1) - 1, as_stored=bool(facts))
            _check_signal(array, region, f"{frames.name}: frame {source.frame_number or 1}")
            told = (*notes, *cut, *said, *frames.notes, *seen)
            yield source, Image(array, grid, grid, (source,), ref.instance.origin, channels, region, told, **facts)
        except ImagingError as error:
            yield source, error


def open_frames(instance: Instance, disposable: bool = False) -> Frames:
    """The frames of an instance. Raises InputError when it must not or cannot be read."""
    if instance.refusal:
        raise InputError(f"{instance.name}: {instance.refusal.meaning}", instance.refusal)
    frames = Frames(instance.path, instance.name, disposable)
    found = (frames.format.rows, frames.format.columns, frames.count)
    indexed = (instance.rows, instance.columns, instance.frames or 1)
    if found != indexed:
        raise InputError(
            f"{instance.name}: rows, columns, frames are {found}; they were {indexed} when the export was indexed",
            Reason.UNREADABLE_HEADER,
        )
    return frames


def _projected(instance: Instance, frames: Frames) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What an Image of a grey projection has besides: presentation, view, directions; and notes. Empty for all else."""
    projection = instance.projection
    if projection is None or frames.format.samples != 1 or frames.format.photometric == "PALETTE COLOR":
        return {}, ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in _decode
        grayscale, said = read_grayscale(frames.header, instance.name)
    facts = {"grayscale": grayscale, "view": projection.view, "directions": projection.directions}
    return facts, (*projection.notes, *said)


def _decode(frames: Frames, number: int, as_stored: bool) -> tuple[Array, Channels, tuple[str, ...]]:
    """Frame `number` (from 0) as (channel, row, column), what its channels are, and notes; a grey one possibly
    `as_stored`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom describes each oddity of a file; the reason code is ours to give
            decoded = frames.read(number)
            if as_stored and decoded.array.ndim == 2:
                return decoded.array[None], "luminance", ()
            return _channels(frames, decoded)
    except ImagingError:
        raise
    except Exception as error:
        detail = f"{frames.name}: frame {number + 1} cannot be decoded ({type(error).__name__})"
        raise InputError(detail, Reason.DECODE_FAILED) from error


def _channels(frames: Frames, decoded: DecodedFrame) -> tuple[Array, Channels, tuple[str, ...]]:
    """A decoded frame as (channel, row, column), palettes resolved, and notes.

    What a stream says of its colour comes before the label: decoders undo the colour transform that is part of JPEG
    2000, and some senders wrap JFIF files under an RGB label.
    """
    frame, header, photometric = decoded.array, frames.header, frames.format.photometric
    if photometric == "PALETTE COLOR":
        colours, notes = palette_colours(frame, header)
        return np.moveaxis(colours, -1, 0), "rgb", notes
    if frame.ndim == 3 and frame.shape[-1] == 3 and photometric in (*_GREY, *_LABELLED):
        channels: Channels = _NAMED[decoded.colour] if decoded.colour else _LABELLED.get(photometric, "rgb")
        notes = _contradiction(photometric, channels) if _LABELLED.get(photometric) != channels else ()
        return np.moveaxis(frame, -1, 0), channels, notes
    if frame.ndim == 2 and photometric in (*_GREY, *_LABELLED):
        white = (1 << frames.format.bits_stored) - 1
        grey = white - frame if photometric == "MONOCHROME1" else frame
        notes = () if photometric in _GREY else _contradiction(photometric, "luminance")
        return apply_modality_lut(grey, header)[None], "luminance", notes
    raise InputError(
        f"{frames.name}: PhotometricInterpretation '{photometric}' with {frame.ndim} axes; allowed are MONOCHROME1, "
        "MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_RCT and YBR_ICT",
        Reason.UNSUPPORTED_PIXELS,
    )


def _contradiction(photometric: str, channels: Channels) -> tuple[str, ...]:
    return (f"The label is {photometric}; by its own words the compressed picture is {channels}",)


def _check_signal(array: Array, region: Box | None, where: str) -> None:
    """A picture of one grey value shows nothing. Raises InputError (NO_SIGNAL)."""
    seen = array if region is None else array[:, *region.pixels]
    if all(channel.min() == channel.max() for channel in seen):
        raise InputError(
            f"{where}: one value throughout, {seen.reshape(len(seen), -1)[:, 0].tolist()}", Reason.NO_SIGNAL
        )


def _frame_grid(
    instance: Instance, region: FrameRegion | None, aspect: tuple[float, float]
) -> tuple[Grid, tuple[str, ...]]:
    """The grid of a whole frame in millimetres by the region's calibration, in pixels when there is none."""
    spacing = region.spacing_mm if region else instance.spacing_mm
    uncalibrated = Grid.plane(instance.rows, instance.columns, *aspect)
    if spacing is None:
        return uncalibrated, ("Uncalibrated: no millimetres can be given",)
    if not all(_PLAUSIBLE_MM[0] <= step <= _PLAUSIBLE_MM[1] for step in spacing):
        note = f"Calibration ignored: {spacing[0]:g} × {spacing[1]:g} mm per pixel is not plausible"
        return uncalibrated, (note,)
    return Grid.plane(instance.rows, instance.columns, spacing[0], spacing[1], "mm"), ()


def _aspect(header: Dataset) -> tuple[float, float]:
    """Row and column step of pixels by PixelAspectRatio (0028,0034), vertical against horizontal: the column is 1."""
    try:
        vertical, horizontal = (float(step) for step in header.get("PixelAspectRatio"))
        ratio = vertical / horizontal
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0, 1.0
    return (ratio, 1.0) if _PLAUSIBLE_ASPECT[0] <= ratio <= _PLAUSIBLE_ASPECT[1] else (1.0, 1.0)


def _region_box(instance: Instance, region: FrameRegion | None) -> tuple[Box | None, tuple[str, ...]]:
    """The region inside the frame; a note where the header reached outside."""
    if region is None:
        return None, ()
    top, left, bottom, right = region.box
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, instance.rows), min(right, instance.columns)
    if bottom - top < 1 or right - left < 1:
        raise InputError(
            f"{instance.name}: tissue region {region.number} spans {region.box} and misses the image of "
            f"{instance.rows} × {instance.columns}",
            Reason.NO_TISSUE_REGION,
        )
    box, is_inside = Box(low=(top, left), high=(bottom, right)), (top, left, bottom, right) == region.box
    return box, () if is_inside else ("A region reaches outside its image and was cut at the edge",)
