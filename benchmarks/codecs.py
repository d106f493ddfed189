"""Speed and memory of every decoder, and the ratios that matter, in one run on synthetic images.

    python benchmarks/codecs.py --write docs/codecs.md

One mammogram-size frame (4096 × 3328, 16 bit) is encoded in every syntax that an encoder is at hand for; each decoder
takes turns, the best of the rounds counts, and lossless ones must give back the same bits. `imagecodecs`, when
installed, makes the HTJ2K and 12-bit JPEG frames, for which the toolkit itself needs no encoder.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL.JpegImagePlugin import JpegImageFile
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID, generate_uid

from imaging.dicom.index import build_index
from imaging.dicom.pixels.codecs import DECODERS, Decoder, FrameFormat, announce, decode, stored_values
from imaging.dicom.pixels.frames import Frames
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError

Array = NDArray[Any]
ROWS, COLUMNS = 4096, 3328
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG2000, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201"
# Decoders of other syntaxes that are measured for comparison.
COMPARED: dict[str, tuple[str, ...]] = {
    RLE: ("dicomsdl",),
    JPEG_LS: ("dicomsdl",),
    JPEG2000: ("dicomsdl",),
    BASELINE: ("dicomsdl",),
}


@dataclass(frozen=True)
class Frame:
    """One encoded frame and what must come out; `source` is None for lossy syntaxes."""

    syntax: str
    stored: bytes
    form: FrameFormat
    source: Array | None


@dataclass(frozen=True)
class Row:
    """One line of the table: seconds are the best of the rounds; memory is the peak beyond what was held before."""

    syntax: str
    decoder: str
    permitted: str
    seconds: float
    decoded_bytes: int
    extra_mb: float
    same_bits: str


def mammogram() -> Array:
    """A bright half disc with soft texture and noise on a black background, 14 of 16 bits."""
    generator = np.random.default_rng(7)
    row, column = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
    depth = 1 - ((row - ROWS / 2) / (0.45 * ROWS)) ** 2 - (column / (0.7 * COLUMNS)) ** 2
    tissue = 9000 * np.sqrt(np.clip(depth, 0, None)) * (1 + 0.1 * np.sin(row / 61) * np.cos(column / 83))
    noisy = tissue + generator.normal(0, 60, tissue.shape).astype(np.float32) * (depth > 0)
    return np.clip(noisy, 0, 16383).astype("<u2")


def frames_of(array: Array, folder: Path) -> list[Frame]:
    """The array in every syntax that can be made here."""
    form = FrameFormat(ROWS, COLUMNS, 1, 16, 14, False, "MONOCHROME2")
    grey8, twelve = (array >> 6).astype(np.uint8), array >> 2
    made = [
        Frame(EXPLICIT, array.tobytes(), form, array),
        Frame(RLE, by_gdcm(array, RLE, folder), form, array),
        Frame(LOSSLESS, by_gdcm(array, LOSSLESS, folder), form, array),
        Frame(JPEG_LS, bytes(import_module("jpeg_ls").encode_array(array)), form, array),
        Frame(JPEG2000, bytes(import_module("openjpeg.utils").encode_array(array, bits_stored=14)), form, array),
        Frame(BASELINE, jpeg(grey8), replace(form, bits_allocated=8, bits_stored=8), None),
    ]
    if find_spec("imagecodecs"):
        imagecodecs = import_module("imagecodecs")
        made.append(Frame(HTJ2K, imagecodecs.htj2k_encode(array, reversible=True), form, array))
        stored = imagecodecs.jpeg_encode(twelve, level=95, bitspersample=12)
        made.append(Frame(EXTENDED, stored, replace(form, bits_stored=12), None))
    return made


def jpeg(array: Array, **options: Any) -> bytes:
    stream = BytesIO()
    Picture.fromarray(array).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def by_gdcm(array: Array, syntax: str, folder: Path) -> bytes:
    gdcm = import_module("gdcm")
    source, target = folder / "plain.dcm", folder / "packed.dcm"
    write(source, array[None], EXPLICIT, array.tobytes())
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.Write()
    return get_frame(dcmread(target).PixelData, 0, number_of_frames=1)


def write(path: Path, frames: Array, syntax: str, pixels: bytes, photometric: str = "MONOCHROME2") -> Path:
    """A DICOM file of frames (frame, row, column[, sample]) with `pixels` as they stand."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = UID(syntax), UID("1.2.840.10008.5.1.4.1.1.3.1")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(
        str(path), {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True
    )
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "US"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3 if frames.ndim == 4 else 1, photometric
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.BitsAllocated = dataset.BitsStored = frames.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW" if syntax == EXPLICIT else "OB"
    dataset["PixelData"].is_undefined_length = syntax != EXPLICIT
    dataset.save_as(path, enforce_file_format=True)
    return path


def best(rounds: int, *actions: Callable[[], Any]) -> list[float]:
    """The shortest time of each action; they take turns, so that a disturbance meets all alike."""
    shortest = [float("inf")] * len(actions)
    for _ in range(rounds):
        for number, action in enumerate(actions):
            start = time.perf_counter()
            action()
            shortest[number] = min(shortest[number], time.perf_counter() - start)
    return shortest


def extra_memory_mb(action: Callable[[], Any]) -> float:
    """Peak resident memory of the action beyond what the process held before, measured in a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).malloc_trim(0)  # Else what earlier rounds left free would be used unseen.
        Path("/proc/self/clear_refs").write_text("5")  # Resets the peak (Linux).
        before = status_kb("VmRSS")
        held = action()
        os.write(writer, struct.pack("<d", (status_kb("VmHWM") - before) / 1024))
        os._exit(0 if held is not None else 1)
    os.waitpid(child, 0)
    return float(struct.unpack("<d", os.read(reader, 8))[0])


def status_kb(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def measure(frame: Frame, rounds: int, folder: Path) -> list[Row]:
    """One row per decoder of the frame's syntax, those compared included."""
    size = frame.form.rows * frame.form.columns * frame.form.dtype.itemsize
    if frame.syntax == EXPLICIT:
        path = write(folder / "native.dcm", mammogram()[None], EXPLICIT, frame.stored)
        opened = Frames(path, path.name)
        ways: list[tuple[str, str, Callable[[], Array]]] = [("numpy", "yes", lambda: opened.read(0).array)]
    else:
        known = {decoder.name: decoder for row in DECODERS.values() for decoder in row}
        extra = [known[name] for name in COMPARED.get(frame.syntax, ()) if known[name] not in DECODERS[frame.syntax]]
        ways = [(d.name, "in a worker" if d.needs_worker else "yes", using(d, frame)) for d in DECODERS[frame.syntax]]
        ways += [(d.name, "compared", using(d, frame)) for d in extra]
    ways = [way for way in ways if works(way[2])]
    seconds = best(rounds, *[action for _, _, action in ways])
    rows = []
    for (name, permitted, action), shortest in zip(ways, seconds, strict=True):
        same = "lossy" if frame.source is None else "yes" if np.array_equal(action(), frame.source) else "NO"
        rows.append(Row(frame.syntax, name, permitted, shortest, size, extra_memory_mb(action), same))
    return rows


def works(action: Callable[[], Array]) -> bool:
    try:
        action()
    except (ImagingError, ValueError, RuntimeError, AttributeError, OSError):
        return False
    return True


def using(decoder: Decoder, frame: Frame) -> Callable[[], Array]:
    """The whole path of one frame through one decoder: its check, decoding and the header's type."""

    def action() -> Array:
        announced = announce(frame.stored, frame.form, frame.syntax)
        array = decoder.run(frame.stored, frame.form, announced, frame.syntax).reshape(frame.form.shape)
        return stored_values(array, frame.form, announced.precision)

    return action


def lossless_ratio(frames: list[Frame], rounds: int) -> str:
    frame = next(f for f in frames if f.syntax == LOSSLESS)
    gdcm = next(d for d in DECODERS[LOSSLESS] if d.name == "gdcm")
    ours, theirs = best(
        rounds, lambda: decode(frame.stored, frame.form, LOSSLESS, "benchmark", True), using(gdcm, frame)
    )
    return f"JPEG lossless, {ROWS} × {COLUMNS}, 16 bit: {theirs / ours:.2f} × as fast as gdcm, same bits (target 2.2)"


def cine_ratio(folder: Path, rounds: int) -> str:
    """120 colour frames (JPEG baseline, YBR 4:2:2, 640 × 480) to luminance, against libjpeg decoding the same bytes."""
    generator = np.random.default_rng(11)
    row, column = np.mgrid[0:480, 0:640]
    encoded = []
    for k in range(120):
        speckle = generator.rayleigh(30, (480, 640)) * (1 + 0.8 * np.sin(row / 40 + k / 9) * np.cos(column / 55))
        colour = np.stack([speckle, speckle * 0.9, speckle * 0.8 + 10], axis=-1)
        encoded.append(jpeg(np.clip(colour, 0, 255).astype(np.uint8), subsampling="4:2:2"))
    shape = np.empty((120, 480, 640, 3), np.uint8)
    path = write(folder / "cine.dcm", shape, BASELINE, encapsulate(encoded), "YBR_FULL_422")
    instance = build_index(path).series[0].instances[0]

    def ours() -> None:
        for _, image in read_frames(ImageRef(instance)):
            assert not isinstance(image, ImagingError), image
            np.ascontiguousarray(image.array[0])

    def codec() -> None:
        for stored in encoded:
            picture = JpegImageFile(BytesIO(stored))
            picture.draft("YCbCr", picture.size)
            picture.load()

    mine, theirs = best(rounds, ours, codec)
    return (
        f"120-frame colour cine, file to luminance: {mine / theirs:.2f} × the codec's own time "
        f"({mine * 1e3:.0f} ms against {theirs * 1e3:.0f} ms; target 1.3)"
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| transfer syntax | decoder | used | ms | MB/s | peak extra memory, MB | same bits |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        mb = row.decoded_bytes / 1e6
        lines.append(
            f"| {UID(row.syntax).name.split(',')[0]} | {row.decoder} | {row.permitted} | {row.seconds * 1e3:.0f} | "
            f"{mb / row.seconds:.0f} | {row.extra_mb:.0f} | {row.same_bits} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each decoder takes its turn")
    parser.add_argument("--write", type=Path, help="Markdown file whose part between the markers is replaced")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = frames_of(mammogram(), folder)
        ratios = [lossless_ratio(frames, options.rounds), cine_ratio(folder, options.rounds)]
        rows = [row for frame in frames for row in measure(frame, options.rounds, folder)]
    names = ("pydicom", "pillow", "python-gdcm", "dicomsdl", "pyjpegls", "pylibjpeg-openjpeg")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in names)
    found = f"{table(rows)}\n\n" + "\n".join(f"- {ratio}" for ratio in ratios)
    found += f"\n\n{os.cpu_count()} cores, Python {platform.python_version()}, {versions}."
    print(found)
    if options.write:
        head, _, rest = options.write.read_text(encoding="utf-8").partition("<!-- measured -->\n")
        _, _, tail = rest.partition("\n<!-- end -->")
        text = f"{head}<!-- measured -->\n{found}\n<!-- end -->{tail}"
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
