"""Damage of bytes, files and identities."""

from __future__ import annotations

import gzip
import io
import zipfile

from pydicom import dcmread
from pydicom.dataset import FileDataset

from tests.law.exports import Export
from tests.law.kinds import MR, Rng, header, kind, octets, targets

# -- Bytes and files ---------------------------------------------------------------------------------------------------


@octets("cut off in the pixels")
def _(data: bytes, rng: Rng) -> bytes:
    return data[: int(len(data) * rng.uniform(0.6, 0.99))]


@octets("cut off in the header")
def _(data: bytes, rng: Rng) -> bytes:
    return data[: rng.randrange(200, min(900, len(data) // 2))]


@octets("a run of header bytes overwritten")
def _(data: bytes, rng: Rng) -> bytes:
    start, length = rng.randrange(120, 900), rng.choice((2, 8, 64, 200))
    return data[:start] + rng.randbytes(length) + data[start + length :]


@octets("the preamble lost")
def _(data: bytes, rng: Rng) -> bytes:
    return data[rng.choice((128, 132)) :]


@octets("the beginning overwritten or blank")
def _(data: bytes, rng: Rng) -> bytes:
    length = rng.choice((4, 200, 260, 300))
    start = 128 if length == 4 else 0
    return data[:start] + rng.choice((bytes(length), rng.randbytes(length))) + data[start + length :]


@octets("empty or nothing but zeros")
def _(data: bytes, rng: Rng) -> bytes:
    return bytes(rng.choice((0, len(data))))


@octets("zipped or packed")
def _(data: bytes, rng: Rng) -> bytes:
    if rng.random() < 0.5:
        return gzip.compress(data)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("IM1", data)
    return stream.getvalue()


@octets("bytes behind the header swapped or shifted")
def _(data: bytes, rng: Rng) -> bytes:
    at = data.rfind(b"\xe0\x7f\x10\x00")
    return data[: at + 12] + data[at + 12 + rng.choice((1, 2, 4000)) :]


@kind("a slice is not there", "classic")
def _(export: Export, rng: Rng) -> Export:
    return export.with_files(**dict.fromkeys(targets(export, rng)))


@kind("the end of a counted series is not there", "classic")
def _(export: Export, rng: Rng) -> Export:
    names = sorted(export.series("MR/T2/IM01"))
    return export.with_files(**dict.fromkeys(names[rng.choice((10, 11, 12)) :]))


@kind("a channel is not there", MR)
def _(export: Export, rng: Rng) -> Export:
    name = rng.choice(("ADC", "B1400", "T2"))
    return export.with_files(**{f: None for f in export.files if f.startswith(f"MR/{name}")})


# -- Identity ----------------------------------------------------------------------------------------------------------


@header("another patient")
def _(ds: FileDataset, rng: Rng) -> None:
    setattr(ds, *rng.choice((("PatientID", "OTHER"), ("PatientName", "Other^One"), ("PatientBirthDate", "19991231"))))


@header("a UID lost or broken")
def _(ds: FileDataset, rng: Rng) -> None:
    keyword = rng.choice(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    setattr(ds, keyword, rng.choice(("", "1.2.x")) if keyword != "SOPInstanceUID" else "")


@kind("the UID of a neighbour")
def _(export: Export, rng: Rng) -> Export:
    others = [name for name in export.files if name not in export.holders] or list(export.files)
    name = rng.choice(others)
    return export.edited(targets(export, rng), lambda ds: _take_uid(ds, export.files[name]))


def _take_uid(ds: FileDataset, other: bytes) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = dcmread(io.BytesIO(other)).SOPInstanceUID


@header("a series of its own", MR)
def _(ds: FileDataset, rng: Rng) -> None:
    ds.SeriesInstanceUID += ".7"
