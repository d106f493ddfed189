"""Transfer syntax → permitted decoders, the fastest first; one compressed frame → stored values, bit for bit.

Colour is never converted: YBR stays YBR and palette indices stay indices. Only the colour transform that belongs to
JPEG 2000 itself (RCT, ICT) is undone, by its decoder. Every lossless decoder of one syntax gives the same bits, so
which one answered makes no difference to a result; `docs/codecs.md` has their speed.

`disposable=True` is the caller's word that this process is a disposable worker. Only then are the decoders used
that are fast but may crash (dicomsdl) or hang for seconds (pyjpegls) on broken input. Without it they are left out and
the next one in the row is the first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Final

import numpy as np
from pydicom.uid import UID

from imaging.dicom.pixels import codestream
from imaging.dicom.pixels.codestream import Announced, Colour
from imaging.errors import InputError, Reason
from imaging.image import Array

_LOSSY_JPEG: Final = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
# The largest single frame that is decoded, in bytes. The largest radiographs are near 80 MB.
LARGEST_FRAME_BYTES: Final = 1 << 29


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What the header says of every frame (PS3.3 C.7.6.3); `planar` is PlanarConfiguration.

    Values end `shift` bits above the lowest (HighBit + 1 - BitsStored). `overlay_bits` are a mask of the bits in which
    overlays lie, and `padding` is a stored value that may have any bits.
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: int = 0
    shift: int = 0
    overlay_bits: int = 0
    padding: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"{'i' if self.signed else 'u'}{max(1, self.bits_allocated // 8)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, samples) for colour."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)


@dataclass(frozen=True, slots=True)
class Decoder:
    """One way to decode: `run(frame bytes, format, what the codestream announced, syntax)` → array of stored values.

    `needs_worker` when broken input may bring the process down or hold it up.
    """

    name: str
    run: Callable[[bytes, FrameFormat, Announced, str], Array]
    needs_worker: bool = False


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """Stored values (rows, columns[, samples]); `colour` is what the stream says of three samples, as `Announced`."""

    array: Array
    colour: Colour = ""


def _pillow_jpeg(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> Array:
    """8-bit JPEG. Declaring RGB in and RGB out makes libjpeg hand over the components untouched."""
    if announced.precision != 8 or announced.samples not in (1, 3):
        raise ValueError(f"{announced.precision} bits, {announced.samples} samples; allowed are 8 bits, and 1 or 3")
    mode = "L" if announced.samples == 1 else "RGB"
    image = import_module("PIL.Image").frombytes(mode, (form.columns, form.rows), frame, "jpeg", mode, mode)
    if announced.samples == 1:
        return np.asarray(image)
    # Plane by plane, so that luminance is one block of memory for those who need it alone.
    planes = b"".join(image.tobytes("raw", band) for band in "RGB")
    return np.frombuffer(planes, np.uint8).reshape(3, form.rows, form.columns).transpose(1, 2, 0)


def _openjpeg(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> Array:
    array: Array = import_module("openjpeg").decode(codestream.jpeg2000_stream(frame), j2k_format=0)
    return array


def _charls(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> Array:
    array: Array = import_module("jpeg_ls").jlsread(frame)
    return array


def _gdcm(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> Array:
    """Without application segments: at a warning about one of those gdcm ends the whole process."""
    gdcm = import_module("gdcm")
    fragment = gdcm.Fragment()
    bare = syntax in _JPEG_PROCESSES and syntax not in _JPEG_LS
    fragment.SetByteStringValue(codestream.bare_jpeg(frame) if bare else frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    # Under an RGB label nothing is converted, whatever the components are.
    label = "RGB" if form.samples == 3 else "MONOCHROME2"
    kind = gdcm.PhotometricInterpretation.GetPIType(label)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if form.samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    size = 1 if announced.precision <= 8 else 2
    bits = announced.precision
    image.SetPixelFormat(gdcm.PixelFormat(form.samples, 8 * size, bits, bits - 1, int(announced.signed)))
    # The binding returns bytes as text.
    stored = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(stored, f"<{'i' if announced.signed else 'u'}{size}")


def _dicomsdl(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> Array:
    """Through a file of one frame in memory, so that its parser never sees the sender's header.

    Lossy colour is left to others: here it would come back converted to RGB.
    """
    if announced.precision > 16 or (form.samples > 1 and syntax in _LOSSY_JPEG):
        raise ValueError(f"{announced.precision} bits, {form.samples} samples; allowed are 16, and no lossy colour")
    size = 1 if announced.precision <= 8 else 2
    data = import_module("dicomsdl").open_memory(_one_frame_file(frame, form, announced, syntax))
    array = np.empty(form.shape, f"<u{size}")
    data.copyFrameData(0, array)
    return array


def _one_frame_file(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> bytes:
    """A DICOM file (PS3.10) that says no more than a decoder needs, with the frame as one fragment."""

    def element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", *tag, vr, len(value)) + value

    allocated = 8 if announced.precision <= 8 else 16
    numbers = {0x10: form.rows, 0x11: form.columns, 0x100: allocated, 0x101: announced.precision}
    numbers |= {0x102: announced.precision - 1, 0x103: 0}
    meta = element((2, 0x10), b"UI", syntax.encode())
    image = element((0x28, 2), b"US", struct.pack("<H", form.samples))
    image += element((0x28, 4), b"CS", b"MONOCHROME2" if form.samples == 1 else b"RGB")
    if form.samples > 1:
        image += element((0x28, 6), b"US", b"\0\0")
    image += b"".join(element((0x28, tag), b"US", struct.pack("<H", value)) for tag, value in numbers.items())
    padded = frame + b"\0" * (len(frame) % 2)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(padded))
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + item + padded
    preamble = b"\0" * 128 + b"DICM" + element((2, 0), b"UL", struct.pack("<I", len(meta)))
    return preamble + meta + image + pixels + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _packbits(frame: bytes, form: FrameFormat, announced: Announced, syntax: str) -> Array:
    """RLE (PS3.5 annex G). Each segment is unpacked as one row, so that runs may cross the rows of the image."""
    frombytes = import_module("PIL.Image").frombytes
    pixels, size = form.rows * form.columns, form.bits_allocated // 8
    planes = np.empty((pixels, form.samples, size), np.uint8)
    for number, segment in enumerate(codestream.rle_segments(frame, form.samples * size, pixels)):
        # The most significant byte of each sample comes first (G.2).
        sample, byte = divmod(number, size)
        planes[:, sample, size - 1 - byte] = np.asarray(frombytes("L", (pixels, 1), segment, "packbits", "L"))[0]
    return planes.view(f"<u{size}")


_GDCM = Decoder("gdcm", _gdcm)
_OPENJPEG = Decoder("pylibjpeg-openjpeg", _openjpeg)
_PILLOW = Decoder("pillow", _pillow_jpeg)
_CHARLS = Decoder("pyjpegls", _charls, needs_worker=True)
_DICOMSDL = Decoder("dicomsdl", _dicomsdl, needs_worker=True)
_PACKBITS = Decoder("pillow packbits", _packbits)

DECODERS: Final[dict[str, tuple[Decoder, ...]]] = {
    "1.2.840.10008.1.2.5": (_PACKBITS,),  # RLE Lossless
    "1.2.840.10008.1.2.4.50": (_PILLOW, _GDCM),  # JPEG Baseline
    "1.2.840.10008.1.2.4.51": (_PILLOW, _DICOMSDL, _GDCM),  # JPEG Extended; pillow takes 8 bit, the others 12 bit
    "1.2.840.10008.1.2.4.57": (_DICOMSDL, _GDCM),  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": (_DICOMSDL, _GDCM),  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": (_CHARLS, _GDCM),  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81": (_CHARLS, _GDCM),  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.90": (_OPENJPEG, _GDCM),  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91": (_OPENJPEG, _GDCM),  # JPEG 2000
    "1.2.840.10008.1.2.4.201": (_OPENJPEG,),  # HTJ2K Lossless
    "1.2.840.10008.1.2.4.202": (_OPENJPEG,),  # HTJ2K Lossless RPCL
    "1.2.840.10008.1.2.4.203": (_OPENJPEG,),  # HTJ2K
}
_JPEG_PROCESSES: Final[dict[str, frozenset[int]]] = {
    "1.2.840.10008.1.2.4.50": codestream.BASELINE,
    "1.2.840.10008.1.2.4.51": codestream.BASELINE,
    "1.2.840.10008.1.2.4.57": codestream.LOSSLESS,
    "1.2.840.10008.1.2.4.70": codestream.LOSSLESS,
    "1.2.840.10008.1.2.4.80": codestream.JPEG_LS,
    "1.2.840.10008.1.2.4.81": codestream.JPEG_LS,
}
_RLE: Final = "1.2.840.10008.1.2.5"
_JPEG_LS: Final = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")


def available() -> list[tuple[str, tuple[str, ...]]]:
    """Each readable encapsulated transfer syntax by name, with its decoders in the order in which they are tried."""
    return [(UID(syntax).name, tuple(d.name for d in decoders)) for syntax, decoders in DECODERS.items()]


def announce(frame: bytes, form: FrameFormat, syntax: str) -> Announced:
    """What the frame says of itself: size, samples and bits. How many samples a pixel has is for the stream to say.

    Raises ValueError when its size disagrees with the header, or when it makes no sense.
    """
    if form.rows * form.columns * form.samples * form.dtype.itemsize > LARGEST_FRAME_BYTES:
        raise ValueError(f"more than {LARGEST_FRAME_BYTES} bytes when decoded")
    if syntax == _RLE:
        codestream.rle_segments(frame, form.samples * form.bits_allocated // 8, form.rows * form.columns)
        return Announced(form.rows, form.columns, form.samples, form.bits_allocated)
    if syntax in _JPEG_PROCESSES:
        announced = codestream.read_jpeg(frame, _JPEG_PROCESSES[syntax])
    else:
        announced = codestream.read_jpeg2000(frame)
    found = (announced.rows, announced.columns)
    if found != (form.rows, form.columns):
        raise ValueError(f"rows, columns {found}; the header says {(form.rows, form.columns)}")
    if announced.samples != form.samples and announced.samples not in (1, 3):
        raise ValueError(f"{announced.samples} samples; allowed are 1 and 3")
    if not 2 <= announced.precision <= form.bits_allocated:
        raise ValueError(f"{announced.precision} bits; allowed are 2 to BitsAllocated {form.bits_allocated}")
    return announced


def decode(frame: bytes, form: FrameFormat, syntax: str, where: str, disposable: bool = False) -> DecodedFrame:
    """One frame of stored values. `where` names file and frame for the error.

    Raises InputError: UNSUPPORTED_TRANSFER_SYNTAX when nothing here decodes it, DECODE_FAILED otherwise.
    """
    permitted = [d for d in DECODERS.get(syntax, ()) if disposable or not d.needs_worker]
    if not permitted:
        raise InputError(f"{where}: TransferSyntaxUID {syntax} has no decoder here", Reason.UNSUPPORTED_TRANSFER_SYNTAX)
    try:
        announced = announce(frame, form, syntax)
    except (ValueError, struct.error) as error:
        raise InputError(f"{where}: the compressed frame cannot be used: {error}", Reason.DECODE_FAILED) from error
    form = replace(form, samples=announced.samples)
    failures = []
    for decoder in permitted:
        try:
            array = decoder.run(frame, form, announced, syntax).reshape(form.shape)
        except Exception as error:  # noqa: BLE001 - codecs raise nearly anything; the next one is asked
            failures.append(f"{decoder.name} ({type(error).__name__})")
            continue
        return DecodedFrame(stored_values(array, form, announced.precision, where), announced.colour)
    raise InputError(f"{where}: cannot be decoded; tried {', '.join(failures)}", Reason.DECODE_FAILED)


def stored_values(array: Array, form: FrameFormat, precision: int, where: str) -> Array:
    """The values in the header's type, without what stands beside them: bits above are cleared or, for signed values,
    filled with the sign, and values that end above BitsStored - 1 are brought down (PS3.5 8.1.1).

    JPEG and JPEG-LS know no sign, and old files keep overlays in the unused bits. `precision` is the bits per sample
    that were decoded: a stream of no more than BitsStored holds the values alone. Raises InputError
    (UNSUPPORTED_PIXELS) for bits outside the values that nothing claims: then the header is not that of these values.
    """
    wide = array.astype(form.dtype, copy=False)
    size = 8 * wide.dtype.itemsize
    if precision <= form.bits_stored:
        bits, shift = precision, 0
        if not form.signed and array.dtype.kind == "u":
            return wide
    else:
        bits, shift = form.bits_stored, form.shift
        _check_unused_bits(wide, form, where)
    above = size - bits - shift
    if above > 0 or shift > 0:
        wide = np.left_shift(wide, above)
        np.right_shift(wide, above + shift, out=wide)
    return wide


def _check_unused_bits(wide: Array, form: FrameFormat, where: str) -> None:
    """Bits outside of the values belong to an overlay, or are the sign of a signed value, or those of padding."""
    size = 8 * wide.dtype.itemsize
    everything, values = (1 << size) - 1, ((1 << form.bits_stored) - 1) << form.shift
    unsigned = wide.view(f"u{wide.dtype.itemsize}")
    stray = (unsigned & unsigned.dtype.type(everything & ~(values | form.overlay_bits))) != 0
    if not stray.any():
        return
    if form.padding is not None:
        stray &= unsigned != form.padding & everything
    if form.signed:
        above = size - form.bits_stored - form.shift
        low = unsigned & unsigned.dtype.type((1 << form.shift) - 1 & ~form.overlay_bits)
        stray &= (np.right_shift(np.left_shift(wide, above), above) != wide) | (low != 0)
    if stray.any():
        raise InputError(
            f"{where}: {np.count_nonzero(stray)} values have bits outside of BitsStored {form.bits_stored} and HighBit "
            f"{form.bits_stored - 1 + form.shift}; allowed there are overlays and the sign",
            Reason.UNSUPPORTED_PIXELS,
        )
