"""Frames of every transfer syntax: bit-equal to what was stored, one at a time, and checked before they are decoded."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import gdcm
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import UID, generate_uid

from imaging.dicom.index import build_index
from imaging.dicom.pixels import codestream
from imaging.dicom.pixels.codecs import DECODERS, DecodedFrame, FrameFormat, decode
from imaging.dicom.pixels.frames import Frames
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef
from imaging.errors import InputError, Reason

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
BASELINE = "1.2.840.10008.1.2.4.50"
EXTENDED = "1.2.840.10008.1.2.4.51"
LOSSLESS = "1.2.840.10008.1.2.4.57"
LOSSLESS_FIRST = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG2000 = "1.2.840.10008.1.2.4.90"
HTJ2K = "1.2.840.10008.1.2.4.201"

# Encoded with OpenJPH 0.26 and libjpeg-turbo 3 (12 bit, quality 95) from the arrays that `ht_grey`, `ht_colour` and
# `waves` compute.
HT_GREY = (
    "/0//UQApQAAAAAANAAAACgAAAAAAAAAAAAAADQAAAAoAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAASQAAf+TwAAmL/EFB3QAAMAAEsAAE0AAEwCwAYd0AO78Aod0ADf6Awd0AMAA"
    "FTAABPAABUACMp+Q/gEAtADOfDoDgXQAapjp+QECNADAABacAAFowAAV4Hc4cbTBN7ltxdPPACXmMYC/mACuAKVupDZNi8gHoOIIUCGVAF7x+0/8"
    "72P98ACkAP62AMAALs4AAXawAAt4STKZJJFEErTRLglJpE0SkpAk2tGOdkmgDW2SRBvaJSFJSUgCbZP8BazsgxxEwqjiIbwA/vn3/3/3z/9/9x//"
    "UX/8x3/y7z//fP8//wNLsARLsNS0psHygBQXazs/5DwH/RDAf6Sj0QH+53/9j/99/3/93/9+H/97f/9/g47GOUKjOAzj2wD/2Q=="
)
HT_COLOUR = (
    "/0//UQAvQAAAAAANAAAACgAAAAAAAAAAAAAADQAAAAoAAAAAAAAAAAADBwEBBwEBBwEB/1AACAACAAAAA/9SAAwAAgABAQUEBEAB/1wAEyBQWFhY"
    "WFhYWFhYWFhYUFBQ/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAOsAAf+TwBKAhwEHdADAEoDfAId0AMASgPoAx3QAAAAAwAlgBLAC"
    "UJgBB3QA5ACHdADiAAd0AMAJYASwAlDDAQd0AMoAh3QAkgEHdADACWAEoA0Bh3QARgGHdADACeAEYIBO+QAgVAAAIwDACaAEcAIw+f0AIVQAACMA"
    "ACMAwAmgBGD3/QCCdAAGMwCgBJACQP44EwD+AAMAwAkgBGD401MAgBMAoASAQ6dUAKAKyAJQiKrM8Pqkf95JvrgA+PVapACgCrBMnbT6HJ/3p3h4"
    "AKALQKZpmqZp/voAAH/eAAG+ugD/2Q=="
)
TWELVE_BIT = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsK"
    "DAkKCgr/wQALDAAQABgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAADAsK/8QALBAAAAMGBAMJAAAAAAAAAAAAAQIEAwUGBwgRAAkKEgsTUQwUFTFD"
    "UlNh0f/aAAgBAQAAPwDcRnIcKfgKgWTDymCkp6YoxRpDtd4OsC2sF+mJretAnk20+ymJmToWC5vBxbAAENy9u2/5ieJmRcW/mHSTO5bLlPUgoTAn"
    "WGZbAeoh5Gt7sPatflkpUxyxy+ouejihV3M2hHE3MAkYlD0x+sERu0GsSLaXHtOEsBtBT93Ou2cgbWtu6YKo6t3PKqngbMXiJ0uqLXkRmR/NSgBG"
    "5vkHH//Z"
)

Array = NDArray[np.generic]


def noise(shape: tuple[int, ...], bits: int = 16, signed: bool = False, seed: int = 3) -> Array:
    """A smooth ramp with noise over all `bits`, so that every bit plane matters."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0, (1 << bits) - 1, int(np.prod(shape))).reshape(shape)
    values = np.clip(ramp + generator.normal(0, 40, shape), 0, (1 << bits) - 1).astype(np.int64)
    if signed:
        return (values - (1 << (bits - 1))).astype("<i2" if bits > 8 else "i1")
    return values.astype("<u2" if bits > 8 else "u1")


def ht_grey() -> Array:
    row, column = np.mgrid[0:10, 0:13]
    return ((row * 601 + column * column * 37) % 4096).astype("<u2")


def ht_colour() -> Array:
    row, column = np.mgrid[0:10, 0:13]
    return np.stack([row * 20, column * 15, row * column], axis=-1).astype("u1")


def form_of(array: Array, bits: int | None = None, photometric: str = "MONOCHROME2") -> FrameFormat:
    allocated = array.dtype.itemsize * 8
    samples = array.shape[2] if array.ndim == 3 else 1
    signed = array.dtype.kind == "i"
    return FrameFormat(array.shape[0], array.shape[1], samples, allocated, bits or allocated, signed, photometric)


def packbits(row: bytes) -> bytes:
    """PackBits by hand: runs of three or more, literals otherwise, a no-op byte now and then."""
    out, position = bytearray(), 0
    while position < len(row):
        run = 1
        while run < 128 and position + run < len(row) and row[position + run] == row[position]:
            run += 1
        if run >= 3:
            out += bytes([257 - run, row[position]])
            position += run
            continue
        end = position
        while end < len(row) and end - position < 128 and len(set(row[end : end + 3])) > 1:
            end += 1
        end = max(end, position + 1)
        out += bytes([end - position - 1]) + row[position:end] + b"\x80"
        position = end
    return bytes(out)


def rle(array: Array) -> bytes:
    """One frame of RLE Lossless (PS3.5 annex G): a segment per byte of each sample, the most significant first."""
    flat = array.reshape(-1, array.shape[2] if array.ndim == 3 else 1)
    big = np.ascontiguousarray(flat).astype(flat.dtype.newbyteorder(">"))
    columns = big.view(np.uint8).reshape(len(flat), -1).T
    segments = [packbits(column.tobytes()) for column in columns]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = np.cumsum([64] + [len(segment) for segment in segments])[:-1]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def jpeg_ls(array: Array) -> bytes:
    from jpeg_ls import encode_array

    return bytes(encode_array(array.view(array.dtype.str.replace("i", "u"))))


def jpeg2000(array: Array) -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(np.ascontiguousarray(array), photometric_interpretation=1 if array.ndim == 3 else 2))


def by_gdcm(array: Array, syntax: str, folder: Path, bits: int | None = None) -> bytes:
    """The codestream that gdcm makes of an array."""
    source, target = folder / "plain.dcm", folder / "packed.dcm"
    write(source, array[None], EXPLICIT, bits=bits)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    from pydicom.encaps import get_frame

    return get_frame(dcmread(target).PixelData, 0, number_of_frames=1)


def write(
    path: Path,
    frames: Array,
    syntax: str,
    pixels: bytes | None = None,
    bits: int | None = None,
    photometric: str | None = None,
    **changes: object,
) -> Path:
    """A DICOM file of frames (frame, row, column[, sample]); `pixels` replaces the Pixel Data of the array."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    big = syntax == BIG_ENDIAN
    plain = {"is_implicit_VR": syntax == "1.2.840.10008.1.2", "is_little_endian": not big}
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128, **plain)
    colour = frames.ndim == 4
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = "OT"
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames = frames.shape[0]
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.BitsAllocated = frames.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    stored = frames.astype(frames.dtype.newbyteorder(">")) if big else frames
    dataset.PixelData = stored.tobytes() if pixels is None else pixels
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    dataset["PixelData"].VR = "OB" if pixels is not None or frames.dtype.itemsize == 1 else "OW"
    dataset["PixelData"].is_undefined_length = pixels is not None
    if not UID(syntax).is_private and UID(syntax).is_transfer_syntax:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.save_as(path, implicit_vr=False, little_endian=True)
    return path


def arrays(path: Path, disposable: bool = False) -> list[Array]:
    frames = Frames(path, path.name, disposable)
    return [frames.read(number).array for number in range(frames.count)]


# Lossless syntaxes, by every decoder in their row


LOSSLESS_CASES = {
    "8 bit": (noise((34, 47), 8), 8),
    "12 bit": (noise((34, 47), 12), 12),
    "16 bit": (noise((34, 47), 16), 16),
    "signed": (noise((34, 47), 16, signed=True), 16),
    "colour": (noise((34, 47, 3), 8), 8),
}


@pytest.mark.parametrize("case", LOSSLESS_CASES)
@pytest.mark.parametrize("syntax", [RLE, LOSSLESS, LOSSLESS_FIRST, JPEG_LS, JPEG2000])
def test_every_decoder_of_a_lossless_syntax_gives_the_same_bits(syntax: str, case: str, tmp_path: Path) -> None:
    array, bits = LOSSLESS_CASES[case]
    makers = {RLE: rle, JPEG_LS: jpeg_ls, JPEG2000: jpeg2000}
    frame = makers[syntax](array) if syntax in makers else by_gdcm(array, syntax, tmp_path, bits)
    form = form_of(array, bits, "RGB" if array.ndim == 3 else "MONOCHROME2")
    for decoder in DECODERS[syntax]:
        announced = (
            codestream.read_jpeg(frame, codestream.LOSSLESS | codestream.JPEG_LS)
            if syntax in (LOSSLESS, LOSSLESS_FIRST, JPEG_LS)
            else codestream.Announced(form.rows, form.columns, form.samples, bits, form.signed)
        )
        found = decoder.run(frame, form, announced, syntax).reshape(array.shape)
        np.testing.assert_array_equal(found.astype(array.dtype), array, err_msg=decoder.name)
    for disposable in (False, True):
        decoded = decode(frame, form, syntax, "made", disposable)
        assert decoded.array.dtype == array.dtype
        assert decoded.colour != "ycbcr"
        np.testing.assert_array_equal(decoded.array, array)


@pytest.mark.parametrize(("text", "array"), [(HT_GREY, ht_grey()), (HT_COLOUR, ht_colour())], ids=["grey", "colour"])
def test_high_throughput_jpeg_2000(text: str, array: Array) -> None:
    decoded = decode(base64.b64decode(text), form_of(array, photometric="YBR_RCT"), HTJ2K, "made")
    np.testing.assert_array_equal(decoded.array, array)


def waves() -> Array:
    row, column = np.mgrid[0:16, 0:24]
    return (2000 + 900 * np.sin(row / 9) * np.cos(column / 7)).astype("<u2")


def test_twelve_bit_extended_jpeg_is_near_its_source() -> None:
    frame = base64.b64decode(TWELVE_BIT)
    assert codestream.read_jpeg(frame, codestream.BASELINE).precision == 12
    decoded = decode(frame, form_of(waves(), 12), EXTENDED, "made").array
    assert np.abs(decoded.astype(int) - waves()).max() <= 12
    np.testing.assert_array_equal(decode(frame, form_of(waves(), 12), EXTENDED, "made", True).array, decoded)


def baseline(array: Array, **options: object) -> bytes:
    import io

    stream = io.BytesIO()
    Picture.fromarray(array).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def test_baseline_jpeg_keeps_its_components() -> None:
    """The grey picture has neutral chrominance: 128 when YCbCr is left as it is, equal to luminance when converted."""
    grey = np.repeat(noise((32, 48, 1), 8) // 2, 3, axis=2)
    decoded = decode(baseline(grey), form_of(grey, photometric="YBR_FULL_422"), BASELINE, "made")
    assert decoded.colour == "ycbcr"
    assert np.abs(decoded.array[..., 0].astype(int) - grey[..., 0]).max() < 60
    np.testing.assert_allclose(decoded.array[..., 1:], 128, atol=1)


def test_baseline_jpeg_with_rgb_components() -> None:
    colour = np.zeros((32, 48, 3), np.uint8)
    colour[..., 0], colour[..., 2] = 200, 30
    decoded = decode(baseline(colour, keep_rgb=True), form_of(colour, photometric="RGB"), BASELINE, "made")
    assert decoded.colour != "ycbcr"
    np.testing.assert_allclose(decoded.array, colour, atol=2)


@pytest.mark.parametrize("disposable", [False, True])
def test_decoders_that_may_crash_run_only_in_disposable_workers(
    disposable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = noise((16, 16))
    frame = by_gdcm(array, LOSSLESS_FIRST, tmp_path)
    from imaging.dicom.pixels import codecs

    seen: list[str] = []
    library = codecs.import_module
    monkeypatch.setattr(codecs, "import_module", lambda name: seen.append(name) or library(name))
    decode(frame, form_of(array), LOSSLESS_FIRST, "made", disposable)
    assert seen == (["dicomsdl"] if disposable else ["gdcm"])


def test_the_next_decoder_is_asked_when_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imaging.dicom.pixels import codecs

    array = noise((16, 16))
    library = codecs.import_module

    def absent(name: str) -> object:
        if name == "jpeg_ls":
            raise ImportError(name)
        return library(name)

    monkeypatch.setattr(codecs, "import_module", absent)
    np.testing.assert_array_equal(decode(jpeg_ls(array), form_of(array), JPEG_LS, "made", True).array, array)
    monkeypatch.setattr(codecs, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(InputError, match=r"made: cannot be decoded; tried pyjpegls \(ImportError\), gdcm") as caught:
        decode(jpeg_ls(array), form_of(array), JPEG_LS, "made", True)
    assert caught.value.reason is Reason.DECODE_FAILED


# Uncompressed pixel data


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", EXPLICIT, BIG_ENDIAN, DEFLATED])
@pytest.mark.parametrize(
    "frames",
    [noise((3, 5, 7), 8), noise((3, 5, 7), 16), noise((3, 5, 7), 16, signed=True), noise((3, 5, 7, 3), 8)],
    ids=["8 bit, odd length", "16 bit", "signed", "colour, odd length"],
)
def test_uncompressed(syntax: str, frames: Array, tmp_path: Path) -> None:
    found = arrays(write(tmp_path / "a.dcm", frames, syntax))
    np.testing.assert_array_equal(found, frames)
    assert found[0].dtype == frames.dtype


def test_bytes_in_big_endian_words(tmp_path: Path) -> None:
    """8-bit pixels under VR OW change places in pairs, so a frame of odd length starts inside a pair."""
    frames = noise((3, 5, 7), 8)
    words = np.frombuffer(frames.tobytes() + b"\0", "<u2").byteswap().tobytes()
    path = write(tmp_path / "a.dcm", frames, BIG_ENDIAN)
    dataset = dcmread(path)
    dataset.PixelData = words
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path)
    np.testing.assert_array_equal(arrays(path), frames)


def test_planar_configuration(tmp_path: Path) -> None:
    frames = noise((2, 5, 7, 3), 8)
    planes = np.moveaxis(frames, -1, 1)
    path = write(tmp_path / "a.dcm", frames, EXPLICIT, PlanarConfiguration=1)
    dataset = dcmread(path)
    dataset.PixelData = planes.tobytes()
    dataset.save_as(path)
    np.testing.assert_array_equal(arrays(path), frames)


def test_single_bits_that_do_not_end_on_a_byte(tmp_path: Path) -> None:
    bits = np.random.default_rng(5).integers(0, 2, (3, 5, 7), dtype=np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    path = write(tmp_path / "a.dcm", bits, EXPLICIT, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset = dcmread(path)
    dataset.PixelData = packed
    dataset.save_as(path)
    np.testing.assert_array_equal(arrays(path), bits)


def test_halved_chrominance(tmp_path: Path) -> None:
    """Y1 Y2 Cb Cr for two pixels: both get the same chrominance."""
    path = write(tmp_path / "a.dcm", noise((1, 1, 4, 3), 8), EXPLICIT, photometric="YBR_FULL_422")
    dataset = dcmread(path)
    dataset.PixelData = bytes([10, 20, 1, 2, 30, 40, 3, 4])
    dataset.save_as(path)
    assert arrays(path)[0].tolist() == [[[10, 1, 2], [20, 1, 2], [30, 3, 4], [40, 3, 4]]]


def test_unused_bits_are_those_of_an_overlay_or_take_the_sign(tmp_path: Path) -> None:
    stored = np.array([[[0x8123, 0x0FFF, 0x0800, 0x07FF]]], "<u2")
    unsigned = arrays(over(write(tmp_path / "u.dcm", stored, EXPLICIT, bits=12), 15))[0]
    assert unsigned.tolist() == [[0x123, 0xFFF, 0x800, 0x7FF]]
    signed = np.array([[[0x0123, 0xFFFF, 0x0800, 0x07FF]]], "<u2").view("<i2")
    assert arrays(write(tmp_path / "s.dcm", signed, EXPLICIT, bits=12))[0].tolist() == [[0x123, -1, -2048, 2047]]


def over(path: Path, bit: int) -> Path:
    """The file with an overlay in one bit of its pixels."""
    ds = dcmread(path)
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", bit)
    ds.save_as(path)
    return path


# Fragments and offset tables


def items(*fragments: bytes) -> bytes:
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(f)) + f for f in fragments)


def even(frame: bytes) -> bytes:
    return frame + b"\0" * (len(frame) % 2)


def cut(frame: bytes, count: int) -> list[bytes]:
    size = len(frame) // count // 2 * 2
    return [frame[k * size : (k + 1) * size if k < count - 1 else None] for k in range(count)]


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
CINE = noise((4, 34, 40), 8)
PACKED = [even(jpeg_ls(frame)) for frame in CINE]


def offsets(fragments: list[list[bytes]]) -> list[int]:
    sizes = [sum(len(part) + 8 for part in parts) for parts in fragments]
    return [int(v) for v in np.cumsum([0, *sizes[:-1]])]


def layouts() -> dict[str, bytes]:
    whole = [[frame] for frame in PACKED]
    broken = [cut(frame, 3) for frame in PACKED]
    table = {name: struct.pack("<4I", *offsets(parts)) for name, parts in (("whole", whole), ("broken", broken))}
    shifted = struct.pack("<4I", *[v + 2 for v in offsets(whole)])
    flat = [part for parts in broken for part in parts]
    return {
        "basic offset table": items(table["whole"], *PACKED) + END,
        "no offset table": items(b"", *PACKED) + END,
        "fragments with a table": items(table["broken"], *flat) + END,
        "fragments without a table": items(b"", *flat) + END,
        "a table that points beside": items(shifted, *PACKED) + END,
        "no sequence delimiter": items(b"", *PACKED),
    }


@pytest.mark.parametrize("layout", layouts())
def test_frames_are_found_in_every_layout(layout: str, tmp_path: Path) -> None:
    path = packed_file(tmp_path / "a.dcm", CINE, JPEG_LS, layouts()[layout])
    frames = Frames(path, "a.dcm")
    for number in (2, 0, 3, 1):
        np.testing.assert_array_equal(frames.read(number).array, CINE[number])


def packed_file(path: Path, frames: Array, syntax: str, pixels: bytes, **changes: object) -> Path:
    """A file whose encapsulated bytes stand exactly as given, broken ones too."""
    write(path, frames, syntax, encapsulate([b"\0\0"]), **changes)
    head, mark, _ = path.read_bytes().partition(bytes.fromhex("e07f10004f420000ffffffff"))
    assert mark
    path.write_bytes(head + mark + pixels)
    return path


def test_extended_offset_table(tmp_path: Path) -> None:
    pixels, table, lengths = encapsulate_extended(PACKED)
    path = write(
        tmp_path / "a.dcm", CINE, JPEG_LS, pixels, ExtendedOffsetTable=table, ExtendedOffsetTableLengths=lengths
    )
    np.testing.assert_array_equal(arrays(path), CINE)


def test_one_frame_in_many_fragments(tmp_path: Path) -> None:
    pixels = items(b"", *cut(PACKED[0], 9)) + END
    np.testing.assert_array_equal(arrays(packed_file(tmp_path / "a.dcm", CINE[:1], JPEG_LS, pixels)), CINE[:1])


@pytest.mark.parametrize("layout", ["basic offset table", "no offset table"])
def test_one_frame_reads_only_its_own_bytes(layout: str, tmp_path: Path) -> None:
    """Every other frame is destroyed, and the one asked for is still read."""
    path = packed_file(tmp_path / "a.dcm", CINE, JPEG_LS, layouts()[layout])
    stored = path.read_bytes()
    for number in (0, 1, 3):
        stored = stored.replace(PACKED[number], b"\xab" * len(PACKED[number]))
    path.write_bytes(stored)
    frames = Frames(path, "a.dcm")
    np.testing.assert_array_equal(frames.read(2).array, CINE[2])
    with pytest.raises(InputError, match="frame 2: the compressed frame cannot be used: no SOI marker"):
        frames.read(1)


def test_a_cine_that_ends_early_gives_the_frames_it_has(tmp_path: Path) -> None:
    path = packed_file(tmp_path / "a.dcm", CINE, JPEG_LS, items(b"", *PACKED)[:-30])
    frames = Frames(path, "a.dcm")
    np.testing.assert_array_equal(frames.read(2).array, CINE[2])
    with pytest.raises(InputError, match="frame 4 of 4 is cut off or missing") as caught:
        frames.read(3)
    assert caught.value.reason is Reason.PIXEL_DATA_TOO_SHORT


# Checked before it is decoded


BOMB = FrameFormat(34, 40, 1, 8, 8, False, "MONOCHROME2")


def refused(frame: bytes, form: FrameFormat, syntax: str) -> str:
    """The message of the refusal; the test fails when a decoder was asked at all."""
    with pytest.raises(InputError) as caught:
        decode(frame, form, syntax, "made")
    assert caught.value.reason is Reason.DECODE_FAILED
    assert "tried" not in str(caught.value)
    return str(caught.value)


def patched(frame: bytes, marker: bytes, offset: int, value: bytes) -> bytes:
    start = frame.index(marker) + offset
    return frame[:start] + value + frame[start + len(value) :]


def test_a_jpeg_that_announces_another_size_is_not_decoded() -> None:
    bomb = patched(PACKED[0], b"\xff\xf7", 5, b"\xff\xff\xff\xff")
    assert "rows, columns (65535, 65535); the header says (34, 40)" in refused(bomb, BOMB, JPEG_LS)


def test_a_jpeg_2000_that_announces_another_size_is_not_decoded() -> None:
    frame = jpeg2000(CINE[0])
    assert "the header says (34, 40)" in refused(patched(frame, b"\xff\x51", 6, b"\x00\x10\x00\x00"), BOMB, JPEG2000)
    assert "tiles" in refused(patched(frame, b"\xff\x51", 22, struct.pack(">II", 0, 0)), BOMB, JPEG2000)
    large = FrameFormat(2000, 2000, 1, 8, 8, False, "MONOCHROME2")
    tiny_tiles = patched(frame, b"\xff\x51", 6, struct.pack(">6I", 2000, 2000, 0, 0, 8, 8))
    assert "62500 tiles for 2000 × 2000 pixels" in refused(tiny_tiles, large, JPEG2000)


def test_rle_segments_must_fit_the_header() -> None:
    frame = rle(CINE[0])
    assert "1 RLE segments; samples and bits need 2" in refused(
        frame, FrameFormat(34, 40, 1, 16, 16, False, "MONOCHROME2"), RLE
    )
    assert "do not ascend" in refused(struct.pack("<2I", 1, 60) + frame[8:], BOMB, RLE)
    large = FrameFormat(20000, 20000, 1, 8, 8, False, "MONOCHROME2")
    assert "cannot hold 400000000 pixels" in refused(frame, large, RLE)
    assert "RLE header is cut off" in refused(frame[:40], BOMB, RLE)


def test_a_frame_larger_than_the_limit_is_refused() -> None:
    assert "more than 536870912 bytes" in refused(PACKED[0], FrameFormat(60000, 60000, 1, 8, 8, False, ""), JPEG_LS)


def test_the_process_must_be_the_one_of_the_transfer_syntax() -> None:
    assert "SOF55 is another one" in refused(PACKED[0], BOMB, BASELINE)


def test_a_precision_above_the_header_is_refused() -> None:
    assert "16 bits; allowed are 2 to BitsAllocated 8" in refused(jpeg_ls(noise((34, 40))), BOMB, JPEG_LS)


@pytest.mark.parametrize("syntax", sorted(DECODERS))
def test_any_truncation_is_refused_with_a_reason(syntax: str) -> None:
    """A prefix of a frame never gives an exception of another kind, nor a long wait."""
    array = CINE[0]
    frame = {RLE: rle, JPEG_LS: jpeg_ls, JPEG2000: jpeg2000}.get(syntax, jpeg_ls)(array)
    refused = 0
    for length in range(0, len(frame) - 40, 37):
        try:
            decode(frame[:length], BOMB, syntax, "made")
        except InputError:
            refused += 1
    assert refused


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG2000, LOSSLESS_FIRST])
def test_a_frame_whose_second_half_was_never_written_is_refused(syntax: str, tmp_path: Path) -> None:
    """Zeros to the stated length, as an interrupted transfer leaves them. Decoders make a picture of it."""
    array = noise((34, 40), 8)
    frame = encoded(array, syntax, tmp_path)
    half = len(frame) // 2
    assert "marker at its end" in refused(frame[:half] + bytes(len(frame) - half), form_of(array), syntax)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG2000, LOSSLESS_FIRST])
@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff", bytes(20)])
def test_padding_behind_the_end_of_a_frame_is_passed_over(syntax: str, padding: bytes, tmp_path: Path) -> None:
    array = noise((34, 40), 8)
    frame = encoded(array, syntax, tmp_path)
    np.testing.assert_array_equal(decode(frame + padding, form_of(array), syntax, "made").array, array)


def encoded(array: np.ndarray, syntax: str, folder: Path) -> bytes:
    if syntax == LOSSLESS_FIRST:
        return by_gdcm(array, syntax, folder)
    return {JPEG_LS: jpeg_ls, JPEG2000: jpeg2000}[syntax](array)


def test_a_wrapped_jpeg_2000_ends_inside_its_box() -> None:
    """A whole JP2 file as frame: boxes may follow that of the stream, and its last box may have no length."""
    stream = jpeg2000(CINE[0])
    head = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + struct.pack(">I4s4xI", 20, b"ftyp", 0) + b"jp2 "
    box = struct.pack(">I4s", 8 + len(stream), b"jp2c") + stream
    for frame in (head + box + struct.pack(">I4s", 12, b"xml ") + b"<a/>", head + b"\0\0\0\0jp2c" + stream):
        np.testing.assert_array_equal(decode(frame, BOMB, JPEG2000, "made").array, CINE[0])
    cut_off = head + box[:-2] + struct.pack(">I4s", 12, b"xml ") + b"<a/>"
    assert "no EOC marker" in refused(cut_off, BOMB, JPEG2000)


def test_an_unknown_jfif_version_does_not_reach_gdcm(tmp_path: Path) -> None:
    """gdcm ends the process at any warning about an application segment, and such a segment changes no value."""
    array = noise((34, 48))
    frame = by_gdcm(array, LOSSLESS_FIRST, tmp_path)
    jfif = b"\xff\xe0\x00\x10JFIF\0\x09\x01\0\0\x01\0\x01\0\0"
    marked = frame[:2] + jfif + frame[2:]
    assert codestream.bare_jpeg(marked) == codestream.bare_jpeg(frame)
    np.testing.assert_array_equal(decode(marked, form_of(array), LOSSLESS_FIRST, "made").array, array)


def test_a_jpeg_without_huffman_table_is_refused(tmp_path: Path) -> None:
    frame = by_gdcm(noise((34, 40), 8), LOSSLESS_FIRST, tmp_path)
    assert "do not lead to image data" in refused(patched(frame, b"\xff\xc4", 0, b"\xdf"), BOMB, LOSSLESS_FIRST)
    assert "no Huffman table" in refused(patched(frame, b"\xff\xc4", 1, b"\xfe"), BOMB, LOSSLESS_FIRST)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        ("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1"),
        ("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
        ("1.2.3", "'1.2.3'"),
    ],
)
def test_other_syntaxes_are_refused_by_name(syntax: str, name: str, tmp_path: Path) -> None:
    private = syntax.replace(".10008.", ".99998.")  # pydicom writes no syntax that it does not know
    path = packed_file(tmp_path / "a.dcm", CINE, private, items(b"", b"\0\0") + END)
    path.write_bytes(path.read_bytes().replace(private.encode(), syntax.encode()))
    with pytest.raises(InputError) as caught:
        Frames(path, "a.dcm")
    assert f"TransferSyntaxUID {name}" in str(caught.value)
    assert caught.value.reason is Reason.UNSUPPORTED_TRANSFER_SYNTAX


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 6}, Reason.PIXEL_DATA_TOO_SHORT),
        ({"NumberOfFrames": 4}, Reason.PIXEL_DATA_TOO_SHORT),
        ({"NumberOfFrames": 0}, Reason.UNSUPPORTED_PIXELS),
        ({"BitsAllocated": 12}, Reason.UNSUPPORTED_PIXELS),
        ({"BitsStored": 17}, Reason.UNSUPPORTED_PIXELS),
        ({"Columns": None}, Reason.UNSUPPORTED_PIXELS),
        ({"PixelRepresentation": None}, Reason.UNSUPPORTED_PIXELS),
        ({"Rows": 60000, "Columns": 60000}, Reason.UNSUPPORTED_PIXELS),
    ],
)
def test_headers_that_do_not_fit_their_pixels(changes: dict[str, object], reason: Reason, tmp_path: Path) -> None:
    frames = noise((3, 5, 7))
    assert len(arrays(write(tmp_path / "good.dcm", frames, EXPLICIT))) == 3
    with pytest.raises(InputError, match=r"^a\.dcm: ") as caught:
        Frames(write(tmp_path / "a.dcm", frames, EXPLICIT, **changes), "a.dcm")
    assert caught.value.reason is reason


# Real files


SAME_IMAGE = {
    "one MR image in nine encodings": [f"dicom/codecs/{number}.dcm" for number in range(1, 10)],
    "one ultrasound still": [
        "ultrasound/dicom/cx50_palette_ele.dcm",
        "ultrasound/dicom/cx50_palette_ebe.dcm",
        "ultrasound/dicom/cx50_palette_rle.dcm",
    ],
    "one palette cine": ["ultrasound/dicom/palette_10f_jpegls.dcm", "ultrasound/dicom/palette_10f_rle.dcm"],
    "planar configuration 0 and 1": [
        "ultrasound/dicom/acme_rgb_planar0.dcm",
        "ultrasound/dicom/acme_rgb_planar1.dcm",
    ],
    "one Enhanced image in five encodings": [
        f"dicom/enhanced/emri_small/emri_small{kind}.dcm"
        for kind in ("", "_RLE", "_big_endian", "_jpeg_2k_lossless", "_jpeg_ls_lossless")
    ],
}


@pytest.mark.shared_data
@pytest.mark.parametrize("disposable", [False, True])
@pytest.mark.parametrize("name", SAME_IMAGE)
def test_one_image_in_several_syntaxes(name: str, disposable: bool, shared_data: Path) -> None:
    first, *others = [arrays(shared_data / path, disposable) for path in SAME_IMAGE[name]]
    assert np.asarray(first).any()
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.shared_data
def test_both_frames_of_a_palette_cine(shared_data: Path) -> None:
    still = arrays(shared_data / "ultrasound/dicom/cx50_palette_ele.dcm")[0]
    frames = arrays(shared_data / "ultrasound/dicom/cx50_palette_rle_2f.dcm")
    np.testing.assert_array_equal(frames[0], still)
    assert len(frames) == 2


@pytest.mark.shared_data
def test_every_ultrasound_file_reads_frame_by_frame(shared_data: Path) -> None:
    paths = sorted((shared_data / "ultrasound/dicom").glob("*.dcm"))
    instances = [series.instances[0] for path in paths for series in build_index(path).series]
    assert (len(paths), len(instances)) == (18, 17)  # One file has no study UID; it is read below.
    for instance in instances:
        for _, image in read_frames(ImageRef(instance)):
            assert not isinstance(image, Exception), f"{instance.name}: {image}"


@pytest.mark.shared_data
def test_a_jfif_file_under_an_rgb_label_holds_ycbcr(shared_data: Path) -> None:
    frames = Frames(shared_data / "ultrasound/dicom/sonoque_phantom_jpeg_rgb.dcm", "sonoque")
    assert frames.format.photometric == "RGB"
    assert frames.read(0).colour == "ycbcr"
    assert Frames(shared_data / "dicom/odd/SC_jpeg_no_color_transform.dcm", "near miss").read(0).colour == ""


@pytest.mark.shared_data
def test_twelve_bit_jpeg_equals_simpleitk(shared_data: Path) -> None:
    import SimpleITK

    path = shared_data / "dicom/odd/JPEG-lossy.dcm"
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_array_equal(arrays(path), expected)
    np.testing.assert_array_equal(arrays(path, disposable=True), expected)


@pytest.mark.shared_data
def test_odd_files_read_or_are_refused_with_a_reason(shared_data: Path) -> None:
    outcome = {}
    for path in sorted((shared_data / "dicom/odd").iterdir()):
        try:
            outcome[path.name] = f"{len(arrays(path))} frames"
        except InputError as error:
            outcome[path.name] = error.reason.value
    assert outcome["image_dfl.dcm"] == "1 frames"
    assert outcome["liver_nonbyte_aligned.dcm"] == "3 frames"
    assert outcome["parametric_map_float.dcm"] == "1 frames"
    assert outcome["MR_truncated.dcm"] == "pixel_data_too_short"
    assert outcome["MR_small_padded.dcm"] == "1 frames"  # 128 bytes of zeros follow its pixels
    assert outcome["JPEG2000-embedded-sequence-delimiter.dcm"] == "decode_failed"
    assert outcome["multiframe_no_pixelrep.dcm"] == "unsupported_pixels"


@pytest.mark.shared_data
def test_a_mammogram_in_the_syntaxes_of_its_views(shared_data: Path) -> None:
    for view in ("left_cc", "left_mlo"):
        frames = Frames(shared_data / f"mammography/cbis_p00173/{view}.dcm", view)
        decoded = frames.read(0)
        assert isinstance(decoded, DecodedFrame)
        assert decoded.array.shape == (frames.format.rows, frames.format.columns)
        assert decoded.array.dtype == np.uint16


def test_an_image_changed_since_it_was_indexed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", noise((2, 5, 7)), EXPLICIT)
    [series] = build_index(tmp_path).series
    write(path, noise((1, 9, 7)), EXPLICIT)
    outcomes = [image for _, image in read_frames(ImageRef(series.instances[0]))]
    assert [getattr(image, "reason", None) for image in outcomes] == [Reason.UNREADABLE_HEADER] * 2


def test_a_header_without_pixels_is_no_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", noise((1, 5, 7)), EXPLICIT)
    dataset: Dataset = dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"no Pixel Data \(7FE0,0010\)") as caught:
        Frames(path, "a.dcm")
    assert caught.value.reason is Reason.NOT_AN_IMAGE
