"""Changes that must change nothing: neither the answer, nor the findings, nor one harmonised value."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from tests.law.exports import Export, exports, rewritten, written
from tests.law.reader import answer_of, readers

Rng = random.Random
Act = Callable[[Export, Rng], Export]
HARMLESS: dict[str, Act] = {}


def harmless(name: str) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        HARMLESS[name] = act
        return act

    return add


def to_some(change: Callable[[FileDataset, Rng], None]) -> Act:
    """The act that changes the headers of all files, or of half of them."""

    def act(export: Export, rng: Rng) -> Export:
        names = [name for name in export.files if rng.random() < 0.5] or list(export.files)
        chosen = names if rng.random() < 0.5 else list(export.files)
        return export.edited(tuple(chosen), lambda ds: change(ds, rng))

    return act


def headers(name: str) -> Callable[[Callable[[FileDataset, Rng], None]], Act]:
    return lambda change: harmless(name)(to_some(change))


def raw(ds: Dataset, tag: int, vr: str, value: bytes) -> None:
    ds._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)  # type: ignore[index]


@headers("private elements")
def _(ds: FileDataset, rng: Rng) -> None:
    block = ds.private_block(rng.choice((0x0019, 0x0029, 0x7FE1)), f"LAW {rng.randrange(9)}", create=True)
    block.add_new(rng.randrange(1, 200), "LO", "anything")
    block.add_new(0xF0, "UN", rng.randbytes(rng.choice((0, 6, 3000))))


@headers("odd values of what describes no picture")
def _(ds: FileDataset, rng: Rng) -> None:
    tag, vr, value = rng.choice(
        (
            (0x00101010, "AS", b"abc "),
            (0x00101030, "DS", b"71,5"),
            (0x00080030, "TM", b"noon"),
            (0x00200010, "SH", b"\xff\xfe"),
            (0x00080080, "LO", b"x" * 200),
            (0x00181020, "LO", b""),
            (0x00081030, "LO", b"\\\\"),
        )
    )
    raw(ds, tag, vr, value)


@headers("group lengths and padding behind the pixels")
def _(ds: FileDataset, rng: Rng) -> None:
    raw(ds, 0x00080000, "UL", bytes(4))
    raw(ds, 0xFFFCFFFC, "OB", bytes(rng.choice((2, 512))))


@headers("sequences of undefined length")
def _(ds: FileDataset, rng: Rng) -> None:
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = rng.random() < 0.5


@headers("another way to write the object")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.file_meta.TransferSyntaxUID = rng.choice((ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian))


@headers("compressed without loss")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.compress(rng.choice((RLELossless, JPEGLSLossless)), generate_instance_uid=False)


@headers("a window where values are measured or shown as stored")
def _(ds: FileDataset, rng: Rng) -> None:
    if ds.Modality != "MG":
        ds.WindowCenter, ds.WindowWidth = rng.choice(((40, 80), (1, 1), (-5, 10)))


@headers("another institution, station or description")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.StationName, ds.ProtocolName = rng.choice(("A", "b", "")), rng.choice(("x", "y"))
    ds.StudyDescription = rng.choice(("", "Mammo/Prostata/Ultraschall"))


@harmless("names and letters of one patient")
def _(export: Export, rng: Rng) -> Export:
    names = rng.choice(
        (("ISO_IR 100", "Lécœur^Zoe".replace("œ", "oe")), ("ISO_IR 192", "Ωmega^Ζωή"), ("ISO_IR 144", "Иванов^И"))
    )

    def change(ds: FileDataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName = names

    return export.edited(tuple(export.files), change)


@harmless("a preamble of something else, or none")
def _(export: Export, rng: Rng) -> Export:
    start: Callable[[bytes], bytes] = rng.choice(
        (
            lambda data: b"II*\0" + bytes(124) + data[128:],
            lambda data: b"\xa5" * 128 + data[128:],
            lambda data: data[132:],
        )
    )
    return replace(export, files={name: start(data) for name, data in export.files.items()})


@harmless("other names and places of files")
def _(export: Export, rng: Rng) -> Export:
    names = list(export.files)
    rng.shuffle(names)
    made = {}
    for k, name in enumerate(names):
        folder = rng.choice(("", "a/", "A/b c/", ".hidden/", "Ü/é/"))
        end = rng.choice(("", ".dcm", ".DCM", ".ima", ".txt", ".jpg"))
        made[f"{folder}{rng.choice('xYz_')}{k}{end}"] = export.files[name]
    return replace(export, files=made)


@harmless("copies of the same objects")
def _(export: Export, rng: Rng) -> Export:
    copies = {}
    for name, data in export.files.items():
        if rng.random() < 0.4:
            copies[f"copy/{name}"] = data if rng.random() < 0.5 else rewritten(data, _implicit)
    return export.with_files(**copies)


def _implicit(ds: FileDataset) -> None:
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


@harmless("files that are no images")
def _(export: Export, rng: Rng) -> Export:
    some = next(iter(export.files.values()))
    more = {
        "README.TXT": b"of the archive",
        "index.html": b"<html>1.2.840.10008.1.2</html>",
        ".nomedia": b"",
        "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(600),
        "viewer.exe": b"MZ" + rng.randbytes(500),
        "report.pdf": b"%PDF-1.4",
        "sr": _document(some),
    }
    chosen = rng.sample(list(more), 4)
    return export.with_files(**{name: more[name] for name in chosen})


def _document(data: bytes) -> bytes:
    ds = dcmread(io.BytesIO(data))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.88"
    ds.Modality, ds.SeriesInstanceUID = "SR", f"{ds.SeriesInstanceUID}.88"
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(ds, keyword)
    return written(ds)


@dataclass(frozen=True)
class Told:
    """What must not change: answers with their findings, and every harmonised array."""

    answers: tuple[Any, ...]
    harmonised: tuple[tuple[tuple[int, ...], bytes], ...]


def told(export: Export) -> Told:
    summary = answer_of(export)
    answers = [
        (study["study_uid"], result["package"], result["finding"], result["completeness"], result["analysed"], findings)
        for study in summary["studies"]
        for result in study["results"]
        if result["applicability"] == "applicable"
        for findings in [[(f["label"], f["source_sop_uid"], f["frame"], f["box_px"]) for f in result["findings"]]]
    ]
    seen = [(v.shape, np.ascontiguousarray(v).tobytes()) for reader in readers().values() for v in reader.seen]
    return Told(tuple(answers), tuple(sorted(seen)))


def harmless_case(seed: int, number: int) -> tuple[str, bool]:
    """Its label, and whether nothing changed."""
    name = list(HARMLESS)[number % len(HARMLESS)]
    rng = random.Random(f"{seed}/{number}/harmless")
    export = rng.choice(list(exports().values()))
    changed = HARMLESS[name](export, rng)
    return f"seed {seed}, harmless {number}: {name} ({export.name})", told(changed) == told(export)
