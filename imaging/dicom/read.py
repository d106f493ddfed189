"""Image references → Images: decoded stored values on the source frame's grid, frame by frame.

Colour stays as it was stored (RGB or YBR), so that luminance never takes the detour YBR → RGB → grey. The modality
LUT is applied; choosing a VOI window is the recipe's business.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from math import ceil

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, iter_pixels
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from imaging.dicom.index import Instance, Region
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, InputError, Reason
from imaging.image import Array, Channels, Grid, Image, SourceRef

_JPEG_BASELINE = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
# Millimetres per pixel outside these bounds are a mistake of the header, not an ultrasound image.
_PLAUSIBLE_MM = (0.005, 5.0)


def read_frames(ref: ImageRef) -> Iterator[tuple[SourceRef, Image | ImagingError]]:
    """Each frame of one reference as an Image of the whole frame, or the error that it cost.

    Frames are decoded one at a time: a cine needs the memory of one frame, and a broken frame costs only itself.
    """
    refs = ref.source_refs()
    try:
        header = _open(ref.instance)
        grid, notes = _frame_grid(ref.instance, ref.region)
        region, cut = _region_box(ref.instance, ref.region)
    except ImagingError as error:
        yield from ((source, error) for source in refs)
        return
    for number, source in enumerate(refs):
        try:
            array, channels = _decode(ref.instance, header, number)
            yield source, Image(array, grid, grid, (source,), ref.instance.origin, channels, region, (*notes, *cut))
        except ImagingError as error:
            yield source, error


def _open(instance: Instance) -> Dataset:
    """The header once more, with the checks that come before decoding."""
    if instance.refusal:
        raise InputError(f"{instance.name}: {instance.refusal.meaning}", instance.refusal)
    try:
        header = dcmread(instance.path, stop_before_pixels=True)
        decoder = get_decoder(UID(instance.transfer_syntax_uid)) if _is_encapsulated(instance) else None
    except NotImplementedError as error:
        name = UID(instance.transfer_syntax_uid).name
        raise InputError(
            f"{instance.name}: TransferSyntaxUID {name} has no decoder here", Reason.UNSUPPORTED_TRANSFER_SYNTAX
        ) from error
    except OSError as error:
        raise InputError(f"{instance.name}: cannot be read ({error.strerror})", Reason.UNREADABLE_HEADER) from error
    if decoder is not None and not decoder.is_available:
        name = UID(instance.transfer_syntax_uid).name
        raise InputError(f"{instance.name}: no decoder for {name} is installed", Reason.UNSUPPORTED_TRANSFER_SYNTAX)
    if instance.rows < 1 or instance.columns < 1 or (instance.frames is not None and instance.frames < 1):
        raise InputError(
            f"{instance.name}: Rows {instance.rows}, Columns {instance.columns}, NumberOfFrames {instance.frames}; "
            "allowed is 1 or more of each",
            Reason.UNSUPPORTED_PIXELS,
        )
    if decoder is None:
        _check_length(instance, header)
    return header


def _is_encapsulated(instance: Instance) -> bool:
    try:
        return bool(UID(instance.transfer_syntax_uid).is_encapsulated)
    except ValueError as error:
        raise InputError(
            f"{instance.name}: TransferSyntaxUID '{instance.transfer_syntax_uid}' is not a transfer syntax",
            Reason.UNSUPPORTED_TRANSFER_SYNTAX,
        ) from error


def _check_length(instance: Instance, header: Dataset) -> None:
    """Uncompressed pixel data must hold rows × columns × samples × frames × bits; the file's size is the proof."""
    samples = int(header.get("SamplesPerPixel") or 1)
    bits = int(header.get("BitsAllocated") or 0)
    halved = 2 if str(header.get("PhotometricInterpretation", "")) == "YBR_FULL_422" else samples
    needed = ceil(instance.rows * instance.columns * min(samples, halved) * (instance.frames or 1) * bits / 8)
    present = instance.path.stat().st_size
    if bits < 1 or present < needed:
        raise InputError(
            f"{instance.name}: pixel data needs {needed} bytes for {instance.rows} × {instance.columns} × {samples} "
            f"samples × {instance.frames or 1} frames × {bits} bits; the whole file has {present}",
            Reason.PIXEL_DATA_TOO_SHORT,
        )


def _decode(instance: Instance, header: Dataset, number: int) -> tuple[Array, Channels]:
    """Frame `number` (from 0) as (channel, row, column) and what its channels are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom describes each oddity of a file; the reason code is ours to give
            frame = next(iter_pixels(instance.path, raw=True, indices=[number]))
            array, channels = _channels(instance, header, frame, number)
    except ImagingError:
        raise
    except Exception as error:
        detail = f"{instance.name}: frame {number + 1} cannot be decoded ({type(error).__name__})"
        raise InputError(detail, Reason.DECODE_FAILED) from error
    if array.shape[1:] != (instance.rows, instance.columns):
        raise InputError(
            f"{instance.name}: frame {number + 1} decodes to {array.shape[1:]}; "
            f"Rows and Columns say ({instance.rows}, {instance.columns})",
            Reason.DECODE_FAILED,
        )
    return array, channels


def _channels(instance: Instance, header: Dataset, frame: Array, number: int) -> tuple[Array, Channels]:
    """A raw decoded frame as (channel, row, column), palettes resolved."""
    photometric = str(header.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        colour = apply_color_lut(frame, header)
        depth = int(header.RedPaletteColorLookupTableDescriptor[2])
        return np.moveaxis(colour >> max(0, depth - 8), -1, 0), "rgb"
    if photometric in ("MONOCHROME1", "MONOCHROME2") and frame.ndim == 2:
        white = (1 << int(header.BitsStored)) - 1
        return apply_modality_lut(white - frame if photometric == "MONOCHROME1" else frame, header)[None], "luminance"
    if frame.ndim == 3 and frame.shape[-1] == 3:
        stored = np.moveaxis(frame, -1, 0)
        # The decoder undoes the colour transform that is part of JPEG 2000 (YBR_RCT, YBR_ICT).
        if photometric in ("RGB", "YBR_RCT", "YBR_ICT"):
            return stored, "ybr_full" if _holds_ycbcr(instance, number) else "rgb"
        if photometric in ("YBR_FULL", "YBR_FULL_422"):
            return stored, "ybr_full"
    raise InputError(
        f"{instance.name}: PhotometricInterpretation '{photometric}' with {frame.ndim} axes; allowed are MONOCHROME1, "
        "MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_RCT and YBR_ICT",
        Reason.UNSUPPORTED_PIXELS,
    )


def _holds_ycbcr(instance: Instance, number: int) -> bool:
    """Whether a JPEG stream under an RGB label really holds YCbCr, as JFIF files wrapped by some senders do.

    By the rules of the format: a JFIF marker means YCbCr; an Adobe marker says it; without either the component
    names R, G, B mean RGB.
    """
    if instance.transfer_syntax_uid not in _JPEG_BASELINE:
        return False
    stored = dcmread(instance.path).PixelData
    codestream = get_frame(stored, number, number_of_frames=instance.frames or 1)
    position = 2
    while position + 4 <= len(codestream) and codestream[position] == 0xFF:
        marker, length = codestream[position + 1], int.from_bytes(codestream[position + 2 : position + 4])
        body = codestream[position + 4 : position + 2 + length]
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            return True
        if marker == 0xEE and body[:5] == b"Adobe":
            return bool(body[11] == 1)
        if marker in (0xC0, 0xC1):
            return bytes(body[6::3][:3]) != b"RGB"
        position += 2 + length
    return False


def _frame_grid(instance: Instance, region: Region | None) -> tuple[Grid, tuple[str, ...]]:
    """The grid of a whole frame in millimetres by the region's calibration, in pixels when there is none."""
    spacing = region.spacing_mm if region else instance.spacing_mm
    if spacing is None:
        return Grid.plane(instance.rows, instance.columns), ("Uncalibrated: no millimetres can be given",)
    if not all(_PLAUSIBLE_MM[0] <= step <= _PLAUSIBLE_MM[1] for step in spacing):
        note = f"Calibration ignored: {spacing[0]:g} × {spacing[1]:g} mm per pixel is not plausible"
        return Grid.plane(instance.rows, instance.columns), (note,)
    return Grid.plane(instance.rows, instance.columns, spacing[0], spacing[1], "mm"), ()


def _region_box(instance: Instance, region: Region | None) -> tuple[tuple[int, int, int, int] | None, tuple[str, ...]]:
    """The region inside the frame, half-open (row, column, row, column); a note where the header reached outside."""
    if region is None:
        return None, ()
    top, left, bottom, right = region.box
    box = (max(top, 0), max(left, 0), min(bottom, instance.rows), min(right, instance.columns))
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise InputError(
            f"{instance.name}: ultrasound region {region.number} spans {region.box} and misses the image of "
            f"{instance.rows} × {instance.columns}",
            Reason.NO_TISSUE_REGION,
        )
    return box, () if box == region.box else ("A region reaches outside its image and was cut at the edge",)
