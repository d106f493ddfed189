"""Image references → Images: decoded stored values on the source frame's grid, frame by frame.

Colour stays as it was stored (RGB or YBR), so that luminance never takes the detour YBR → RGB → grey. The modality
LUT is applied. A projection stays as stored: how its values are to be shown goes along, and the recipe chooses.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.pixels import apply_color_lut, apply_modality_lut

from imaging.dicom.headers.voi import read_grayscale
from imaging.dicom.index import Instance, Region
from imaging.dicom.pixels.codecs import DecodedFrame
from imaging.dicom.pixels.frames import Frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, InputError, Reason
from imaging.image import Array, Box, Channels, Grid, Image, SourceRef

# Millimetres per pixel outside these bounds are a mistake of the header.
_PLAUSIBLE_MM = (0.005, 5.0)


def read_frames(ref: ImageRef, disposable: bool = False) -> Iterator[tuple[SourceRef, Image | ImagingError]]:
    """Each frame of one reference as an Image of the whole frame, or the error that it cost.

    Frames are read and decoded one at a time: a cine needs the memory of one frame, and a broken frame costs only
    itself. `disposable` is the caller's word that this process is a disposable worker (see `codecs`).
    """
    refs = ref.source_refs()
    try:
        frames = open_frames(ref.instance, disposable)
        grid, notes = _frame_grid(ref.instance, ref.region)
        region, cut = _region_box(ref.instance, ref.region)
        facts, said = _projected(ref.instance, frames)
    except ImagingError as error:
        yield from ((source, error) for source in refs)
        return
    for source in refs:
        try:
            array, channels = _decode(frames, (source.frame_number or 1) - 1, as_stored=bool(facts))
            told = (*notes, *cut, *said)
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


def _decode(frames: Frames, number: int, as_stored: bool) -> tuple[Array, Channels]:
    """Frame `number` (from 0) as (channel, row, column) and what its channels are; a grey one possibly `as_stored`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom describes each oddity of a file; the reason code is ours to give
            decoded = frames.read(number)
            return (decoded.array[None], "luminance") if as_stored else _channels(frames, decoded)
    except ImagingError:
        raise
    except Exception as error:
        detail = f"{frames.name}: frame {number + 1} cannot be decoded ({type(error).__name__})"
        raise InputError(detail, Reason.DECODE_FAILED) from error


def _channels(frames: Frames, decoded: DecodedFrame) -> tuple[Array, Channels]:
    """A decoded frame as (channel, row, column), palettes resolved."""
    frame, header, photometric = decoded.array, frames.header, frames.format.photometric
    if photometric == "PALETTE COLOR":
        colour = apply_color_lut(frame, header)
        depth = int(header.RedPaletteColorLookupTableDescriptor[2])
        return np.moveaxis(colour >> max(0, depth - 8), -1, 0), "rgb"
    if photometric in ("MONOCHROME1", "MONOCHROME2") and frame.ndim == 2:
        white = (1 << frames.format.bits_stored) - 1
        return apply_modality_lut(white - frame if photometric == "MONOCHROME1" else frame, header)[None], "luminance"
    if frame.ndim == 3 and frame.shape[-1] == 3:
        stored = np.moveaxis(frame, -1, 0)
        # The decoder undoes the colour transform that is part of JPEG 2000 (YBR_RCT, YBR_ICT). A JPEG stream says
        # itself whether it holds YCbCr, and some senders wrap JFIF files under an RGB label.
        if photometric in ("RGB", "YBR_RCT", "YBR_ICT"):
            return stored, "ybr_full" if decoded.ycbcr else "rgb"
        if photometric in ("YBR_FULL", "YBR_FULL_422"):
            return stored, "ybr_full"
    raise InputError(
        f"{frames.name}: PhotometricInterpretation '{photometric}' with {frame.ndim} axes; allowed are MONOCHROME1, "
        "MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_RCT and YBR_ICT",
        Reason.UNSUPPORTED_PIXELS,
    )


def _frame_grid(instance: Instance, region: Region | None) -> tuple[Grid, tuple[str, ...]]:
    """The grid of a whole frame in millimetres by the region's calibration, in pixels when there is none."""
    spacing = region.spacing_mm if region else instance.spacing_mm
    if spacing is None:
        return Grid.plane(instance.rows, instance.columns), ("Uncalibrated: no millimetres can be given",)
    if not all(_PLAUSIBLE_MM[0] <= step <= _PLAUSIBLE_MM[1] for step in spacing):
        note = f"Calibration ignored: {spacing[0]:g} × {spacing[1]:g} mm per pixel is not plausible"
        return Grid.plane(instance.rows, instance.columns), (note,)
    return Grid.plane(instance.rows, instance.columns, spacing[0], spacing[1], "mm"), ()


def _region_box(instance: Instance, region: Region | None) -> tuple[Box | None, tuple[str, ...]]:
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
