"""Whatever ends a run, the same command again gives the tree of a run that nothing disturbed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from imaging.commands import main
from imaging.inference.store import clear_staging, publish
from tests.crashes import disturb, start, tree, write_studies
from tests.test_infer import InProcess


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "export"
    write_studies(folder, 10)
    return folder


@pytest.fixture(scope="module")
def undisturbed(export: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    out = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    assert start(export, out).wait(300) == 1  # one study is broken on purpose
    return tree(out), time.monotonic() - begin


def test_killed_runs_end_with_the_same_tree(export: Path, undisturbed: tuple[dict[str, str], float]) -> None:
    """The full figure comes from `python -m tests.crashes --kills 60 --studies 40`."""
    expected, length = undisturbed
    outcome = disturb(export, kills=6, seed=3, length_s=length)
    assert sum(outcome.kills.values()) == 6
    assert outcome.trees
    assert [found.items() ^ expected.items() for found in outcome.trees if found != expected] == []
    assert set(outcome.statuses) == {1}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without their processes, whose start costs seconds, where only the ledger and the disk matter."""
    monkeypatch.setattr("imaging.inference.run.Processes", InProcess)


def infer(export: Path, out: Path, *words: str) -> int:
    return main(["infer", str(export), "--out", str(out), "--content-time", "2026-01-31T12:00:00", *words])


@pytest.mark.usefixtures("in_process")
def test_nothing_is_answered_twice_and_late_files_are_added(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(export, tmp_path / "in", ignore=lambda _, names: [n for n in names if n > "IM0002"])
    assert infer(tmp_path / "in", tmp_path / "out") == 0
    assert "3 frames to read" in capsys.readouterr().err
    assert infer(tmp_path / "in", tmp_path / "out") == 0
    assert "0 frames to read" in capsys.readouterr().err
    shutil.copy(export / "IM0003", tmp_path / "in")
    assert infer(tmp_path / "in", tmp_path / "out") == 0
    assert "1 frames to read" in capsys.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_a_changed_or_lost_document_is_made_again(export: Path, tmp_path: Path) -> None:
    shutil.copytree(export, tmp_path / "in", ignore=lambda _, names: [n for n in names if n > "IM0001"])
    assert infer(tmp_path / "in", tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    reports = sorted((tmp_path / "out").rglob("sr-*.dcm"))
    reports[0].unlink()
    reports[1].write_bytes(b"changed")
    assert infer(tmp_path / "in", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == before


@pytest.mark.usefixtures("in_process")
def test_failed_answers_are_tried_again_when_asked_and_fresh_does_all(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {"IM0000", "IM0008"}
    shutil.copytree(export, tmp_path / "in", ignore=lambda _, names: [n for n in names if n not in wanted])
    assert infer(tmp_path / "in", tmp_path / "out") == 1
    capsys.readouterr()
    for words, frames in (((), 0), (("--retry", "failed"), 1), (("--fresh",), 2)):
        assert infer(tmp_path / "in", tmp_path / "out", *words) == 1
        assert f"{frames} frames to read" in capsys.readouterr().err


def test_a_second_run_into_the_same_folder_is_refused(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / ".ledger").mkdir(parents=True)
    with (tmp_path / "out" / ".ledger" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert infer(export, tmp_path / "out") == 2
    assert "another run is writing here" in capsys.readouterr().err


def test_an_image_that_vanishes_costs_itself(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone after the index was made: its study has no answer, the other one has."""
    shutil.copytree(export, tmp_path / "in", ignore=lambda _, names: [n for n in names if n > "IM0001"])
    from imaging.inference import run as module

    honest = module.build_index

    def and_then_one_is_gone(*words: object, **named: object) -> object:
        index = honest(*words, **named)  # type: ignore[arg-type]
        (tmp_path / "in" / "IM0000").unlink()
        return index

    monkeypatch.setattr(module, "build_index", and_then_one_is_gone)
    assert infer(tmp_path / "in", tmp_path / "out") == 1
    assert len(list((tmp_path / "out").rglob("sr-*.dcm"))) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 600 kB."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield small
    subprocess.run(["umount", str(small)], check=True)


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_later(
    export: Path, undisturbed: tuple[dict[str, str], float], small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(export, small_disk / "out") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not list((small_disk / "out").rglob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert infer(export, small_disk / "out") == 1
    assert tree(small_disk / "out") == undisturbed[0]


@pytest.mark.usefixtures("in_process")
def test_a_read_only_output_is_a_clear_error(
    export: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert infer(export, small_disk / "out") == 2
    told = capsys.readouterr().err
    assert "Read-only file system" in told
    assert "output_failed" in told


@pytest.mark.usefixtures("in_process")
def test_a_clock_that_goes_back_changes_nothing(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(export, tmp_path / "in", ignore=lambda _, names: [n for n in names if n > "IM0000"])
    words = ["infer", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = tree(tmp_path / "out")

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Earlier:
            return cls(1999, 1, 1, tzinfo=tz)

    monkeypatch.setattr("imaging.inference.ledger.datetime", Earlier)
    assert main(words) == 0
    assert main([*words, "--retry", "failed"]) == 0
    assert tree(tmp_path / "out") == before


def test_a_study_folder_is_replaced_whole_and_a_half_done_exchange_is_mended(tmp_path: Path) -> None:
    publish(tmp_path, "studies/a/p", {"one": b"1", "two": b"2"})
    publish(tmp_path, "studies/a/p", {"three": b"3"})
    assert tree(tmp_path).keys() == {"studies/a/p/three"}
    (tmp_path / ".staging").mkdir()
    (tmp_path / "studies/a/p").replace(tmp_path / ".staging" / "studies-a-p.old")
    clear_staging(tmp_path)
    assert tree(tmp_path).keys() == {"studies/a/p/three"}
