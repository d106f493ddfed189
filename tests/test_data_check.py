"""`imaging data check` names every planted fault, and a training refuses one picture on two sides."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import dcmread

from imaging.commands import main
from imaging.data.duplicates import refuse_shared_files, refuse_shared_pixels
from imaging.data.manifest import read_manifest, write_manifest
from imaging.errors import ConfigError
from imaging.phantoms.export import write_training_set as write_stills
from imaging.phantoms.prostate.export import write_training_set as write_prostates

HEADER = "case_id,patient_id,site,split,image,truth"


def write_cases(folder: Path, lines: list[str]) -> Path:
    """Four different pictures p0 to p3 with a mask each, and a table of the lines."""
    rng = np.random.default_rng(3)
    for k in range(4):
        small = rng.integers(0, 255, (8, 8), dtype=np.uint8)
        Picture.fromarray(small).resize((64, 64), Picture.Resampling.BICUBIC).save(folder / f"p{k}.png")
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[10:20, 10 : 20 + k] = 255
        Picture.fromarray(mask).save(folder / f"t{k}.png")
    (folder / "m.csv").write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return folder / "m.csv"


GOOD = ["c0,P0,A,train,p0.png,t0.png", "c1,P1,A,val,p1.png,t1.png", "c2,P2,B,test,p2.png,t2.png"]


def test_a_sound_table_has_no_problem_and_a_page_with_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_cases(tmp_path, GOOD)
    assert main(["data", "check", str(table), "--out", str(tmp_path / "out")]) == 0
    streams = capsys.readouterr()
    assert "3 cases, 0 problems, 0 pairs with one picture" in streams.out
    assert "A  1 train, 1 val, 0 test  2: 64 × 64 voxels of 1 × 1 pixel" in streams.out
    assert "label 255 in 2" in streams.out
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert text.count("data:image/png") == 2, "a picture of each site"


def test_every_planted_fault_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_cases(tmp_path, [
        *GOOD,
        "copy,P7,B,test,copy.bmp,t0.png",
        "small,P8,A,train,p3.png,small.png",
        "blank,P9,A,train,blank.png,t3.png",
        "cut,P6,A,train,cut.png,t3.png",
    ])  # fmt: skip
    Picture.open(tmp_path / "p0.png").save(tmp_path / "copy.bmp")
    Picture.new("L", (5, 5)).save(tmp_path / "small.png")
    Picture.new("L", (64, 64), 9).save(tmp_path / "blank.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "p3.png").read_bytes()[:200])
    assert main(["data", "check", str(table), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "identical pictures across patients, splits, sites: cases 'c0' and 'copy'" in told
    assert "case 'small': truth small.png: found 5 × 5" in told
    assert "case 'blank': image blank.png: every pixel is 9" in told
    assert "case 'cut': image cut.png: cannot be read" in told
    assert told.count("problem  ") == 4


def test_an_inverted_mask_is_doubted_and_forbids_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_cases(tmp_path, [*GOOD, "inverted,P5,B,test,p3.png,inverted.png"])
    mask = np.full((64, 64), 255, dtype=np.uint8)
    mask[10:20, 10:20] = 0
    Picture.fromarray(mask).save(tmp_path / "inverted.png")
    assert main(["data", "check", str(table), "--out", str(tmp_path / "out")]) == 0
    doubt = "case 'inverted': its truth marks 98% of the image; is it inverted?"
    assert [line for line in capsys.readouterr().err.splitlines() if "look at" in line] == [f"look at  {doubt}"]
    assert "its truth marks 98% of the image" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("image", ["p0.png", "./p0.png", "bytes.png"])
def test_one_file_under_two_patients_is_refused_before_a_training(image: str, tmp_path: Path) -> None:
    table = write_cases(tmp_path, [*GOOD, f"again,P9,B,test,{image},t0.png"])
    (tmp_path / "bytes.png").write_bytes((tmp_path / "p0.png").read_bytes())
    cases = read_manifest(table)
    with pytest.raises(ConfigError, match="1 pictures stand on two sides, first identical pictures across patients"):
        refuse_shared_files(cases)
    refuse_shared_files(cases[:3])
    with pytest.raises(ConfigError, match="train and test"):
        refuse_shared_files(cases, frozenset({"B"}))


@pytest.mark.parametrize("name", ["again.bmp", "again.tif", "again.png"])
def test_one_picture_in_another_encoding_is_refused_before_a_training(name: str, tmp_path: Path) -> None:
    """Grey as colour, too. Blank pictures are alike and no copies, and what cannot be read is told by others."""
    table = write_cases(tmp_path, [*GOOD, f"again,P9,B,test,{name},t0.png", "cut,P8,B,test,cut.png,t0.png",
                                   "dark,P7,B,test,dark.png,t0.png", "black,P6,A,train,dark.png,t0.png"])  # fmt: skip
    Picture.open(tmp_path / "p0.png").convert("RGB").save(tmp_path / name)
    Picture.new("L", (64, 64)).save(tmp_path / "dark.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "p3.png").read_bytes()[:200])
    seen: list[int] = []
    with pytest.raises(ConfigError, match=r"1 pictures stand on two sides, first identical .* 'c0' and 'again'"):
        refuse_shared_pixels(read_manifest(table), frozenset(), lambda done, of: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    refuse_shared_pixels([c for c in read_manifest(table) if c.case_id != "again"], frozenset(), lambda done, of: None)


def test_stills_of_one_scanner_are_compared_by_their_tissue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their screens are alike; a still of another patient that was stored again is found all the same."""
    manifest = write_stills(tmp_path / "cases", 8, 7)
    assert main(["data", "check", str(manifest)]) == 0
    assert "8 cases, 0 problems, 0 pairs with one picture" in capsys.readouterr().out
    cases = read_manifest(manifest)
    (again,) = [replace(cases[0], case_id="again", patient_id="P", split="test", truth=None, label="normal")]
    copy = dcmread(cases[0].image)
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    copy.save_as(tmp_path / "again.dcm")
    write_manifest(manifest, [*cases, replace(again, image=tmp_path / "again.dcm")])
    assert main(["data", "check", str(manifest)]) == 1
    assert f"identical pictures across patients, splits: cases '{cases[0].case_id}' and 'again'" in (
        capsys.readouterr().err
    )


def test_studies_are_looked_into_as_a_training_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes, values and labels are those of T2W; alike slices are told, the same volume and a lost one are problems."""
    manifest = write_prostates(tmp_path / "cases", 3, 3)
    assert main(["data", "check", str(manifest), "--out", str(tmp_path / "out")]) == 0
    streams = capsys.readouterr()
    assert "1: 18 × 200 × 200 voxels of 3 × 0.8 × 0.8 mm" in streams.out
    assert "label 1 in 1" in streams.out
    assert "not looked into" not in streams.err
    assert "look at  near pictures across patients" in streams.err
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8").count("data:image/png") >= 3
    first, second, third = read_manifest(manifest)
    shutil.rmtree(next(second.image.glob("t2w*")))
    copy = replace(first, case_id="copy", patient_id="P", split="test")
    write_manifest(manifest, [first, second, third, copy])
    assert main(["data", "check", str(manifest)]) == 1
    told = capsys.readouterr().err
    assert f"problem  identical pictures across patients, splits: cases '{first.case_id}' and 'copy'" in told
    assert f"case '{second.case_id}': " in told
