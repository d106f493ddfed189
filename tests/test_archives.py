"""Archives of an export: read where that is asked for, whole or not at all, and never beyond a limit."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imaging.dicom.archives import ArchiveLimits, unpack, unpack_archives
from imaging.dicom.index import build_index
from imaging.errors import InputError, Reason
from imaging.inference.run import staged_archives
from tests.report_cases import source

SMALL = ArchiveLimits(members=3, bytes=1 << 20, ratio=50.0, free_bytes=1 << 12)


@pytest.fixture(scope="module")
def image() -> bytes:
    stream = io.BytesIO()
    source("a", pixels=True).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar.gz"])
def test_files_of_an_archive_are_files_of_the_export(
    pack: Callable[[Path, dict[str, bytes]], Path], tmp_path: Path, image: bytes
) -> None:
    export = tmp_path / "export"
    (export / "sub").mkdir(parents=True)
    pack(export / "sub" / "images.bin", {"a/b.dcm": image, "readme.txt": b"nothing"})
    plain = build_index(export)
    assert (plain.files["sub/images.bin"].state, plain.files["sub/images.bin"].reason) == ("refused", Reason.ARCHIVE)
    assert "" in plain.unseen  # the near miss: unread, it forbids a quiet "no"
    index = build_index(export, unpacked=unpack_archives(export, tmp_path / "into"))
    assert index.unseen == {}
    assert index.files["sub/images.bin"].reason is Reason.UNPACKED
    assert index.files["sub/images.bin/000001.dcm"].state == "used"
    assert index.files["sub/images.bin/000002"].reason is Reason.NOT_DICOM
    assert [i.path.read_bytes() for s in index.series for i in s.instances] == [image]


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    """Zip slip: paths that climb, absolute ones, and a link that another member would be written through."""
    climbing = zipped(tmp_path / "a.zip", {"../../evil.dcm": b"1", "/etc/evil": b"2", "..\\evil.dcm": b"3"})
    assert unpack(str(climbing), str(tmp_path / "into" / "a"), SMALL) == 3
    linked = tmp_path / "b.tar"
    with tarfile.open(linked, "w") as archive:
        link = tarfile.TarInfo("sub")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
        member = tarfile.TarInfo("sub/evil")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"4"))
    (tmp_path / "outside").mkdir()
    assert unpack(str(linked), str(tmp_path / "into" / "b"), SMALL) == 1
    written = sorted(path.relative_to(tmp_path / "into").as_posix() for path in (tmp_path / "into").rglob("*.*"))
    assert written == ["a/000001.dcm", "a/000003.dcm"]
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"bomb": bytes(1 << 19)}, Reason.INFLATES_TOO_MUCH),
        ({str(k): b"x" for k in range(4)}, Reason.INFLATES_TOO_MUCH),
        ({str(k): b"x" for k in range(3)}, None),
    ],
    ids=["ratio", "members", "at the limit"],
)
def test_a_bomb_is_left_packed(files: dict[str, bytes], reason: Reason | None, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", files)
    if reason is None:
        assert unpack(str(archive), str(tmp_path / "into"), SMALL) == 3
        return
    with pytest.raises(InputError) as caught:
        unpack(str(archive), str(tmp_path / "into"), SMALL)
    assert caught.value.reason is reason


def test_what_cannot_be_unpacked_stays_an_archive(tmp_path: Path, image: bytes) -> None:
    """A compressed file that is no tar, a cut-off archive and a bomb: nothing of them is kept, and all are unseen."""
    export = tmp_path / "export"
    export.mkdir()
    (export / "image.gz").write_bytes(gzip.compress(image))
    whole = tarred(tmp_path / "whole.tar", {"a.dcm": image, "b.dcm": image}, "w").read_bytes()
    (export / "cut.tar").write_bytes(whole[: len(whole) // 2])
    zipped(export / "bomb.zip", {"a": bytes(1 << 19)})
    unpacked = unpack_archives(export, tmp_path / "into", SMALL)
    assert unpacked.names == frozenset()
    assert sorted(unpacked.left) == ["bomb.zip", "cut.tar", "image.gz"]
    assert not any(path.is_file() for path in (tmp_path / "into").rglob("*"))
    index = build_index(export, unpacked=unpacked)
    assert {state.reason for state in index.files.values()} == {Reason.ARCHIVE}
    assert index.unseen[""] == ("bomb.zip", "cut.tar", "image.gz")
    assert index.remarks["bomb.zip"][0].startswith("not unpacked: ")


def test_unpacked_files_are_gone_afterwards_and_so_are_those_of_a_killed_run(tmp_path: Path, image: bytes) -> None:
    export, out = tmp_path / "export", tmp_path / "out"
    export.mkdir()
    archive = zipped(export / "a.zip", {"a.dcm": image})
    os.utime(archive, (1_700_000_000, 1_700_000_000))
    (out / ".unpacked-999999999").mkdir(parents=True)
    with staged_archives(export, out) as unpacked:
        assert unpacked is not None
        assert [path.name for path in out.iterdir()] == [f".unpacked-{os.getpid()}"]
        (file,) = (unpacked.folder / "a.zip").iterdir()
        assert file.stat().st_mtime == 1_700_000_000  # unpacked again, it is the same file to the ledger
    assert list(out.iterdir()) == []
    with staged_archives(export, None) as unpacked:
        assert unpacked is None
