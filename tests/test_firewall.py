"""The firewall: each bomb is refused with its reason, quickly and in little memory; the near miss beside it passes."""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from imaging.dicom.index import build_index
from imaging.dicom.instance import WANTED, Instance
from imaging.dicom.parsing.common_elements import known_runs
from imaging.dicom.parsing.firewall import admit, inspect
from imaging.dicom.parsing.limits import Limits
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.select import ImageRef
from imaging.errors import ImagingError, InputError, Reason
from imaging.workers import WorkerLimits, Workers
from tests.fuzz.mutations import mutate

RLE = "1.2.840.10008.1.2.5"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LONG = ("OB", "OW", "SQ", "UN")
ANSWER_SECONDS = 20
PARENT_GROWTH_KB = 32 * 1024


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    value += b"\0" * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    size = len(value) if length is None else length
    return head + (struct.pack("<HI", 0, size) if vr in LONG else struct.pack("<H", size)) + value


def us(tag: int, *numbers: int) -> bytes:
    return element(tag, "US", struct.pack(f"<{len(numbers)}H", *numbers))


def part10(dataset: bytes, syntax: str = EXPLICIT, preamble: bytes = b"") -> bytes:
    meta = element(0x00020002, "UI", SECONDARY_CAPTURE.encode()) + element(0x00020010, "UI", syntax.encode())
    length = element(0x00020000, "UL", struct.pack("<I", len(meta)))
    return preamble.ljust(128, b"\0") + b"DICM" + length + meta + dataset


UIDS = (
    element(0x00080016, "UI", SECONDARY_CAPTURE.encode())
    + element(0x00080018, "UI", b"1.2.3.1")
    + element(0x00080060, "CS", b"OT")
    + element(0x0020000D, "UI", b"1.2.3.2")
    + element(0x0020000E, "UI", b"1.2.3.3")
)


def image(
    rows: int,
    columns: int,
    pixels: bytes,
    *,
    frames: str = "",
    photometric: bytes = b"MONOCHROME2",
    bits: int = 8,
    palette: bytes = b"",
    fragments: bool = False,
) -> bytes:
    """A dataset that claims what it is told to claim."""
    counted = element(0x00280008, "IS", frames.encode()) if frames else b""
    claims = us(0x00280002, 1) + element(0x00280004, "CS", photometric) + counted + us(0x00280010, rows)
    claims += us(0x00280011, columns) + us(0x00280100, bits) + us(0x00280101, bits) + us(0x00280102, bits - 1)
    claims += us(0x00280103, 0) + palette
    return UIDS + claims + element(0x7FE00010, "OB", pixels, 0xFFFFFFFF if fragments else None)


def nested(depth: int, *, delimited: bool) -> bytes:
    """A private sequence inside itself, `depth` times, of defined or undefined lengths."""
    if delimited:
        enter = element(0x00091000, "SQ", b"", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        leave = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        return enter * depth + leave * depth
    heads = []
    for level in range(depth):  # From the innermost outwards, each length known.
        inside = 20 * level
        heads.append(element(0x00091000, "SQ", b"", inside + 8) + struct.pack("<HHI", 0xFFFE, 0xE000, inside))
    return b"".join(reversed(heads))


def deflated(dataset: bytes) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(dataset) + squeezer.flush()


def deflate_bomb() -> bytes:
    """300 kB that inflate to 300 MB."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = image(1024, 1024, b"", frames="300")[:-4] + struct.pack("<I", 300 << 20)
    body = squeezer.compress(head) + b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(300))
    return part10(body + squeezer.flush(), DEFLATED)


def palette(entries: int, bits: int, colours: bytes, first: int = 0x1201) -> bytes:
    descriptors = b"".join(us(0x00281101 + n, entries, 0, bits) for n in range(3))
    return descriptors + b"".join(element(0x00280000 + first + n, "OW", colours) for n in range(3))


def segments(count: int) -> bytes:
    """Linear segments of 60 000 entries each."""
    return struct.pack("<3H", 1, 60_000, 5) * count


def palette_image(table: bytes) -> bytes:
    return part10(image(8, 8, bytes(64), photometric=b"PALETTE COLOR", palette=table))


BOMBS: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "deflate": (deflate_bomb, Reason.INFLATES_TOO_MUCH),
    "400 nested sequences": (lambda: part10(UIDS + nested(400, delimited=True)), Reason.NESTED_TOO_DEEPLY),
    "100 000 nested sequences": (lambda: part10(nested(100_000, delimited=True)), Reason.NESTED_TOO_DEEPLY),
    "nested, defined lengths": (lambda: part10(nested(400, delimited=False)), Reason.NESTED_TOO_DEEPLY),
    "frame of 4 GB": (lambda: part10(image(65535, 65535, bytes(64))), Reason.IMAGE_TOO_LARGE),
    "2 000 000 000 frames": (lambda: part10(image(64, 64, bytes(64), frames="2000000000")), Reason.IMAGE_TOO_LARGE),
    "frames that are not there": (lambda: part10(image(64, 64, bytes(64), frames="9")), Reason.PIXEL_DATA_TOO_SHORT),
    "no frames": (lambda: part10(image(64, 64, bytes(4096), frames="0")), Reason.UNSUPPORTED_PIXELS),
    "odd bits": (lambda: part10(image(64, 64, bytes(8192), bits=11)), Reason.UNSUPPORTED_PIXELS),
    "palette without entries": (lambda: palette_image(palette(0, 16, bytes(8))), Reason.BAD_PALETTE),
    "palette of odd bits": (lambda: palette_image(palette(4, 31, bytes(8))), Reason.BAD_PALETTE),
    "no palette": (lambda: palette_image(b""), Reason.BAD_PALETTE),
    "segmented palette": (lambda: palette_image(palette(0, 16, segments(9_000), 0x1221)), Reason.BAD_PALETTE),
    "RLE ratio": (
        lambda: part10(image(20_000, 20_000, encapsulate([bytes(64)]), fragments=True), RLE),
        Reason.PIXEL_DATA_TOO_SHORT,
    ),
    "length beyond the end": (lambda: part10(UIDS + element(0x00091001, "UN", b"", 1 << 31)), Reason.TRUNCATED_HEADER),
    "undelimited sequence": (
        lambda: part10(UIDS + element(0x00210010, "SQ", b"", 0xFFFFFFFF)),
        Reason.TRUNCATED_HEADER,
    ),
    "program": (lambda: part10(image(8, 8, bytes(64)), preamble=b"MZ\x90"), Reason.EXECUTABLE),
    "ELF": (lambda: part10(image(8, 8, bytes(64)), preamble=b"\x7fELF"), Reason.EXECUTABLE),
    "script": (lambda: part10(image(8, 8, bytes(64)), preamble=b"#!/bin/sh\n"), Reason.EXECUTABLE),
}
GOOD: dict[str, Callable[[], bytes]] = {
    "deflated": lambda: part10(deflated(image(256, 256, bytes(65536))), DEFLATED),
    "32 nested sequences": lambda: part10(nested(32, delimited=True) + image(8, 8, bytes(64))),
    "32 nested, defined lengths": lambda: part10(nested(32, delimited=False) + image(8, 8, bytes(64))),
    "exactly enough bytes": lambda: part10(image(64, 64, bytes(9 * 4096), frames="9")),
    "largest palette": lambda: palette_image(
        palette(0, 16, bytes(131_072))[: 3 * 14]
        + b"".join(element(0x00281201 + n, "UN", bytes(131_072)) for n in range(3))
    ),
    "8-bit palette": lambda: palette_image(palette(256, 8, bytes(256))),
    "segmented palette": lambda: palette_image(palette(60_000, 16, segments(1), 0x1221)),
    "TIFF in the preamble": lambda: part10(image(8, 8, bytes(64)), preamble=b"II*\0"),
    "one long blank RLE frame": lambda: part10(image(64, 64, encapsulate([rle(4096)]), fragments=True), RLE),
}


def rle(count: int) -> bytes:
    """`count` zeros in runs of 128."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (count // 128)


def judged(path: Path) -> Reason | None:
    header = inspect(path)
    verdict = header.refusal or header.pixel_refusal
    return verdict.reason if verdict else None


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_quickly_in_little_memory(name: str, tmp_path: Path) -> None:
    make, reason = BOMBS[name]
    (tmp_path / "bomb").write_bytes(make())
    (tmp_path / "good").write_bytes(GOOD["exactly enough bytes"]())
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert judged(tmp_path / "bomb") is reason
    index = build_index(tmp_path, workers=1)
    assert index.files["bomb"].reason is reason
    assert index.files["good"].state == "used"
    assert time.monotonic() - begun < ANSWER_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < PARENT_GROWTH_KB


@pytest.mark.parametrize("name", GOOD)
def test_the_near_miss_passes(name: str, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(GOOD[name]())
    assert judged(tmp_path / "good") is None
    assert build_index(tmp_path).files["good"].state == "used"
    admit(tmp_path / "good")


def test_a_refused_image_stays_in_its_study(tmp_path: Path) -> None:
    make, reason = BOMBS["2 000 000 000 frames"]
    (tmp_path / "bomb").write_bytes(make())
    ((instance,),) = ([i for s in build_index(tmp_path).series for i in s.instances],)
    assert (instance.study_uid, instance.refusal, instance.frames) == ("1.2.3.2", reason, None)
    ((_, outcome),) = read_frames(ImageRef(instance))
    assert isinstance(outcome, InputError)
    assert outcome.reason is reason


def test_a_truncated_header_still_says_which_study_it_belongs_to(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(part10(UIDS + element(0x00210010, "LO", b"x", 4000)))
    index = build_index(tmp_path)
    (series,) = index.series
    assert series.instances[0].refusal is Reason.TRUNCATED_HEADER
    assert index.files["cut"].state == "refused"


def test_limits_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(part10(UIDS + element(0x00091001, "UN", bytes(1000)) + image(8, 8, bytes(64))[len(UIDS) :]))
    for limits, reason in (
        (Limits(file_bytes=100), Reason.FILE_TOO_LARGE),
        (Limits(element_bytes=999), Reason.ELEMENT_TOO_LONG),
        (Limits(elements=5), Reason.TOO_MANY_ELEMENTS),
    ):
        with pytest.raises(InputError) as raised:
            admit(path, limits)
        assert raised.value.reason is reason
    admit(path)


def test_messages_name_neither_file_nor_person(tmp_path: Path) -> None:
    path = tmp_path / "Doe^Jane.dcm"
    path.write_bytes(part10(UIDS + element(0x00100010, "PN", b"Roe^Richard") + nested(40, delimited=True)))
    with pytest.raises(InputError, match=r"\(0009,1000\)") as raised:
        admit(path)
    assert not any(word in str(raised.value) for word in ("Doe", "Roe"))


def jpeg_2000_bomb() -> bytes:
    """A real code stream whose SIZ marker, and header, claim 20 000 × 20 000."""
    ds = dcmread(get_testdata_file("JPEG2000.dcm"))
    stream = bytearray(ds.PixelData[ds.PixelData.index(b"\xff\x4f\xff\x51") :])
    stream[8:16] = struct.pack(">II", 20_000, 20_000)
    return part10(image(20_000, 20_000, encapsulate([bytes(stream)]), bits=8, fragments=True), JPEG_2000)


def rle_bomb() -> bytes:
    """Segments that unpack to 64 times what 8 × 8 pixels need."""
    return part10(image(8, 8, encapsulate([rle(1 << 24)]), fragments=True), RLE)


def first_outcome(instance: Instance) -> str:
    """Decode in a worker: the shape of the first frame, or the reason code."""
    try:
        _, outcome = next(iter(read_frames(ImageRef(instance), disposable=True)))
    except ImagingError as error:
        return error.reason
    return outcome.reason if isinstance(outcome, ImagingError) else str(np.asarray(outcome.array).shape)


@pytest.mark.parametrize("make", [jpeg_2000_bomb, rle_bomb])
def test_a_codec_bomb_stays_in_its_worker(make: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(make())
    (tmp_path / "good").write_bytes(Path(get_testdata_file("MR_small.dcm")).read_bytes())
    index = build_index(tmp_path)
    instances = [i for series in index.series for i in series.instances]
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    limits = WorkerLimits(memory_bytes=2 << 30, seconds=15)
    with Workers(1, limits) as workers:
        outcomes = dict(
            zip([i.name for i in instances], workers.map(first_outcome, ((i,) for i in instances)), strict=True)
        )
    told = outcomes["bomb"].reason if isinstance(outcomes["bomb"], ImagingError) else outcomes["bomb"]
    assert told in {r.value for r in Reason} | {"(1, 8, 8)"}  # a decoder may also stop at what the image needs
    assert outcomes["good"] == "(1, 64, 64)"
    assert time.monotonic() - begun < ANSWER_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < PARENT_GROWTH_KB


def walked(path: Path) -> object:
    header = inspect(path, wanted=WANTED)
    verdicts = [v and (v.reason, str(v)) for v in (header.refusal, header.pixel_refusal)]
    return header.values, header.pixels, header.transfer_syntax_uid, verdicts


def test_what_was_learned_from_other_files_never_changes_what_is_found(tmp_path: Path) -> None:
    """The naive twin: each damaged file walked by a process that knows its siblings, and by one that knows nothing."""
    path, rng = tmp_path / "file", random.Random(5)
    files = [
        Path(get_testdata_file(name)).read_bytes() for name in ("MR_small.dcm", "CT_small.dcm", "liver_1frame.dcm")
    ]
    damaged = [mutate(rng.choice(files), rng)[1] for _ in range(400)]
    known = []
    for data in [data for one in damaged for data in (*files, one)]:
        path.write_bytes(data)
        known.append(outcome_of(path))
    for number, data in enumerate(damaged):
        known_runs.cache_clear()
        path.write_bytes(data)
        assert outcome_of(path) == known[4 * number + 3]


def outcome_of(path: Path) -> object:
    try:
        return walked(path)
    except InputError as error:
        return error.reason


def test_the_firewall_is_the_standard_library_alone() -> None:
    code = "import sys, imaging.dicom.parsing.firewall; assert not {'pydicom', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
