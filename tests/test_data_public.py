"""Public sets: each published layout, drawn small, and the curated real ones. Splits never tear a group."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from imaging.data.manifest import Case, read_manifest
from imaging.data.public import prepare
from imaging.data.public.frames import PublicFrame, assign_splits
from imaging.data.public.truths import enclosed, overlap
from imaging.errors import ConfigError, InputError
from imaging.image import Array

Layout = Callable[[Path], Path]


def box(top: int, left: int, rows: int = 30, columns: int = 40, shape: tuple[int, int] = (180, 240)) -> Array:
    mask = np.zeros(shape, np.uint8)
    mask[top : top + rows, left : left + columns] = 255
    return mask


def scene(seed: int) -> Array:
    """A grainy picture of 180 × 240 with a few blobs: no two seeds look alike."""
    random = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(random.normal(size=(180, 240)), 14) * 14
    fine = ndimage.gaussian_filter(random.normal(size=(180, 240)), 3) * 3
    return np.clip(np.rint(110 + 60 * coarse + 40 * fine), 0, 255).astype(np.uint8)


def table(path: Path, lines: list[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def put(path: Path, values: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(values).save(path)


def prepared(name: str, folder: Path, out: Path) -> tuple[dict[str, Case], list[dict[str, str]]]:
    """Cases by name, and what was dropped."""
    cases = {case.case_id: case for case in read_manifest(prepare(name, folder, out))}
    with (out / "dropped.csv").open(encoding="utf-8") as stream:
        return cases, list(csv.DictReader(stream))


def truth(case: Case) -> Array:
    with Picture.open(case.truth) as picture:
        return np.asarray(picture) > 0


def busi(folder: Path) -> Path:
    """Six scenes: a copy, a frame in two classes, contradicting masks, two lesions, no lesion, no mask file."""
    top = folder / "busi" / "Dataset_BUSI_with_GT"
    first, twice, torn = scene(1), scene(2), scene(3)
    smaller = np.asarray(Picture.fromarray(first).resize((216, 162)))
    put(top / "benign" / "benign (1).png", smaller)
    put(top / "benign" / "benign (1)_mask.png", np.asarray(Picture.fromarray(box(40, 60)).resize((216, 162))))
    put(top / "benign" / "benign (2).png", np.stack([first] * 3, axis=-1))
    put(top / "benign" / "benign (2)_mask.png", box(40, 60))
    put(top / "benign" / "benign (10).png", twice)
    put(top / "benign" / "benign (10)_mask.png", box(20, 20))
    put(top / "malignant" / "malignant (1).png", twice)
    put(top / "malignant" / "malignant (1)_mask.png", box(20, 20))
    put(top / "malignant" / "malignant (2).png", torn)
    put(top / "malignant" / "malignant (2)_mask.png", box(10, 10))
    put(top / "malignant" / "malignant (3).png", torn[:176])
    put(top / "malignant" / "malignant (3)_mask.png", box(130, 180)[:176])
    put(top / "malignant" / "malignant (4).png", scene(4))
    put(top / "malignant" / "malignant (4)_mask.png", box(10, 10))
    put(top / "malignant" / "malignant (4)_mask_1.png", np.stack([box(90, 100)] * 3, axis=-1))
    put(top / "malignant" / "malignant (5).png", scene(6))
    put(top / "normal" / "normal (1).png", scene(5))
    return folder / "busi"


def bus_bra(folder: Path) -> Path:
    lines = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    rows = [("bus_0001-l", 1, "malignant"), ("bus_0001-r", 1, "malignant"), ("bus_0002-l", 2, "benign")]
    for number, (name, case, pathology) in enumerate(rows):
        lines.append(f'{name},{case},cyst,{pathology},4,GE Logiq 5 Pro,240,180,left,"[1,2,3,4]"')
        put(folder / "bra" / "Images" / f"{name}.png", scene(10 + number))
        put(folder / "bra" / "Masks" / f"mask_{name[4:]}.png", box(20, 30 + number))
    table(folder / "bra" / "bus_data.csv", lines)
    return folder / "bra"


def bus_uclm(folder: Path) -> Path:
    """A benign, a malignant and a normal frame of two patients, and one of each fault; the third has callipers."""
    top = folder / "uclm" / "BUS-UCLM"
    lines = ["Image;Resolution;Label;Doppler;Marks;Combined"]
    rows: list[tuple[str, str, str, str]] = [
        # name, class, Doppler;Marks;Combined, colours of the mask
        ("ALWI_000", "Benign", "No;No;No", "g"),
        ("ALWI_001", "Malignant", "n;No;No", "gr"),
        ("COPE_000", "Normal", "No;Yes;No", ""),
        ("COPE_001", "Benign", "Y;Yes;No", "g"),
        ("COPE_002", "Benign", "No;No;Yes", "g"),
        ("COPE_003", "Benign", "No;No;No", "r"),
        ("COPE_004", "Normal", "No;No;No", "g"),
        ("COPE_005", "Benign", "No;No;No", "g"),
        ("COPE_006", "Normal", "No;No;No", ""),
    ]
    for number, (name, label, flags, colours) in enumerate(rows):
        lines.append(f"{name}.png;240x180;{label};{flags}")
        picture = np.stack([scene(40 + number)] * 3, axis=-1)
        mask = np.zeros((180, 240, 3), np.uint8)
        for colour in colours:
            mask[..., "rgb".index(colour)] = box(20, 30) if colour == "g" else box(90, 100)
        if name == "COPE_005":
            picture = picture[:, :200]
        if name == "COPE_006":
            picture[60:80, 60:100] = (200, 30, 30)  # 800 of 43 200 pixels: 1.9 %
        put(top / "images" / f"{name}.png", picture)
        put(top / "masks" / f"{name}.png", mask)
    table(top / "INFO.csv", lines, "utf-8-sig")
    return folder / "uclm"


def brest(folder: Path) -> Path:
    """As a spreadsheet program with a decimal comma exports it."""
    lines = [
        "CaseID;Image_filename;Mask_tumor_filename;Mask_other_filename;Pixel_size;Classification",
        "1;case001.png;case001_tumor.png;case001_other1.png;0,007;benign",
        "2;case002.png;case002_tumor1.png&case002_tumor2.png;;0,00625;malignant",
        "45;case045.png;;;;normal",
    ]
    for number in (1, 2, 45):
        put(folder / "brest" / f"case{number:03d}.png", scene(20 + number))
    clear = np.zeros((180, 240, 4), np.uint8)
    clear[40:50, 40:60] = 255
    put(folder / "brest" / "case001_tumor.png", clear)
    put(folder / "brest" / "case001_other1.png", box(100, 100))
    put(folder / "brest" / "case002_tumor1.png", box(10, 10))
    put(folder / "brest" / "case002_tumor2.png", box(100, 100))
    table(folder / "brest" / "clinical.csv", lines, "utf-8-sig")
    return folder / "brest"


def ring(centre: tuple[float, float], radii: tuple[float, float], shape: tuple[int, int] = (180, 240)) -> Array:
    """The contour of an ellipse, centre and radii as (x, y); outside the picture it is cut."""
    picture = Picture.new("L", shape[::-1])
    (x, y), (across, down) = centre, radii
    ImageDraw.Draw(picture).ellipse([x - across, y - down, x + across, y + down], outline=255, width=2)
    return np.asarray(picture)


def hc18(folder: Path) -> Path:
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for number, (name, centre) in enumerate([("000_HC", (120, 90)), ("000_2HC", (110, 80)), ("001_HC", (120, 30))]):
        lines.append(f"{name}.png,0.07{number},44.30")
        put(folder / "hc18" / "training_set" / f"{name}.png", scene(70 + number))
        put(folder / "hc18" / "training_set" / f"{name}_Annotation.png", ring(centre, (80, 60)))
    table(folder / "hc18" / "training_set_pixel_size_and_HC.csv", lines)
    return folder / "hc18"


PUBLISHED: dict[str, Layout] = {"busi": busi, "bus_bra": bus_bra, "bus_uclm": bus_uclm, "brest": brest, "hc18": hc18}


def test_busi_keeps_one_copy_of_a_frame_and_no_frame_that_contradicts_itself(tmp_path: Path) -> None:
    cases, dropped = prepared("busi", busi(tmp_path), tmp_path / "out")
    assert {c.case_id: c.label for c in cases.values()} == {
        "busi_benign_0002": "benign",
        "busi_malignant_0004": "malignant",
        "busi_normal_0001": "normal",
    }
    told = {Path(line["image"]).name: line["reason"] for line in dropped}
    assert told["benign (1).png"] == "copy of benign (2).png"
    assert told["benign (10).png"] == told["malignant (1).png"] == "same frame in 2 classes: benign, malignant"
    assert told["malignant (2).png"] == told["malignant (3).png"]
    assert told["malignant (2).png"].startswith("masks of one frame contradict each other: Dice 0.0")
    assert told["malignant (5).png"] == "no mask file"
    assert len(dropped) == 6
    assert np.array_equal(truth(cases["busi_malignant_0004"]), (box(10, 10) | box(90, 100)) > 0)
    assert not truth(cases["busi_normal_0001"]).any()
    assert cases["busi_benign_0002"].truth.parent.name == "benign"  # a plain mask is referred to, not copied


def test_bus_bra_groups_by_case_and_tells_sites_by_scanner(tmp_path: Path) -> None:
    cases, dropped = prepared("bus_bra", bus_bra(tmp_path), tmp_path / "out")
    assert [(c.patient_id, c.site, c.label) for c in cases.values()] == [
        ("bus-bra-1", "bus-bra-ge-logiq-5-pro", "malignant"),
        ("bus-bra-1", "bus-bra-ge-logiq-5-pro", "malignant"),
        ("bus-bra-2", "bus-bra-ge-logiq-5-pro", "benign"),
    ]
    assert cases["bus_0001-r"].truth.name == "mask_0001-r.png"
    assert dropped == []


def test_bus_uclm_keeps_grey_pictures_of_one_scene_whose_mask_and_table_agree(tmp_path: Path) -> None:
    cases, dropped = prepared("bus_uclm", bus_uclm(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.patient_id, c.site, c.label) for c in cases.values()} == {
        "bus_uclm_ALWI_000": ("bus-uclm-ALWI", "bus_uclm", "benign"),
        "bus_uclm_ALWI_001": ("bus-uclm-ALWI", "bus_uclm", "malignant"),
        "bus_uclm_COPE_000": ("bus-uclm-COPE", "bus_uclm", "normal"),
    }
    assert np.array_equal(truth(cases["bus_uclm_ALWI_000"]), box(20, 30) > 0)
    assert np.array_equal(truth(cases["bus_uclm_ALWI_001"]), (box(20, 30) | box(90, 100)) > 0)
    assert not truth(cases["bus_uclm_COPE_000"]).any()
    assert {Path(line["image"]).stem: line["reason"] for line in dropped} == {
        "COPE_001": "shows Doppler",
        "COPE_002": "shows two pictures at once",
        "COPE_003": "the table says benign, the mask malignant",
        "COPE_004": "the table says normal, the mask benign",
        "COPE_005": "its mask has 180 × 240 pixels, the picture 180 × 200 (rows × columns)",
        "COPE_006": "Doppler is No, and 1.9% of the pixels are coloured",
    }


def test_bus_uclm_without_callipers_and_with_the_sides_that_it_publishes(tmp_path: Path) -> None:
    folder = bus_uclm(tmp_path)
    put(folder / "BUS-UCLM" / "partitions" / "test" / "images" / "ALWI_001.png", scene(1))
    cases, dropped = prepared("bus_uclm_unmarked", folder, tmp_path / "out")
    assert {c.case_id: c.split for c in cases.values()} == {"bus_uclm_ALWI_000": "test", "bus_uclm_ALWI_001": "test"}
    told = {Path(line["image"]).stem: line["reason"] for line in dropped}
    assert told["COPE_000"] == "shows callipers"
    assert told["COPE_001"] == "shows Doppler, shows callipers"


def test_brest_reads_the_export_of_its_table(tmp_path: Path) -> None:
    """Centimetres become millimetres, tumour masks a union; other findings are no truth."""
    cases, _ = prepared("brest", brest(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.label, c.spacing_mm) for c in cases.values()} == {
        "case001": ("benign", (0.07, 0.07)),
        "case002": ("malignant", (0.0625, 0.0625)),
        "case045": ("normal", None),
    }
    assert truth(cases["case001"]).sum() == 10 * 20
    assert np.array_equal(truth(cases["case002"]), (box(10, 10) | box(100, 100)) > 0)
    assert not truth(cases["case045"]).any()


def test_hc18_fills_its_contours_and_groups_by_head(tmp_path: Path) -> None:
    """An ellipse of radii 80 and 60 has 15 080 pixels; one that the upper edge cuts has what is below the edge."""
    cases, _ = prepared("hc18", hc18(tmp_path), tmp_path / "out")
    assert [(c.patient_id, c.spacing_mm) for c in cases.values()] == [
        ("s000", (0.07, 0.07)),
        ("s000", (0.071, 0.071)),
        ("s001", (0.072, 0.072)),
    ]
    assert truth(cases["hc18_000_HC"]).sum() == pytest.approx(math.pi * 80 * 60, rel=0.02)
    down, across = np.mgrid[:180, :240]
    cut = ((across - 120) / 80) ** 2 + ((down - 30) / 60) ** 2 <= 1
    found = truth(cases["hc18_001_HC"])
    assert 2 * (found & cut).sum() / (found.sum() + cut.sum()) > 0.98


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_same_folder_gives_the_same_manifest_and_stays_as_it_was(name: str, tmp_path: Path) -> None:
    folder = PUBLISHED[name](tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told: list[tuple[int, int]] = []
    first = prepare(name, folder, tmp_path / "a", lambda done, of: told.append((done, of))).read_text("utf-8")
    assert prepare(name, folder, tmp_path / "b").read_text("utf-8") == first
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert told == [(n, 3) for n in (1, 2, 3)]
    with pytest.raises(ConfigError, match=r"out is .*, inside the set's own folder; allowed is a folder elsewhere"):
        prepare(name, folder, folder / "out")


@pytest.mark.parametrize("name", PUBLISHED)
def test_another_layout_is_refused_with_what_was_looked_for_and_found(name: str, tmp_path: Path) -> None:
    put(tmp_path / "set" / "picture.png", scene(1))
    with pytest.raises(ConfigError, match=rf"set {name}, .*: looked for .*, or a curated manifest\.csv; found picture"):
        prepare(name, tmp_path / "set", tmp_path / "out")


def test_an_unknown_set_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="public set: found 'bus'; allowed are brest, bus_bra, bus_uclm, busi, cbis_ddsm, cmmd, hc18"
    ):
        prepare("bus", tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"set busi, .*: there is no such folder"):
        prepare("busi", tmp_path / "gone", tmp_path / "out")


def test_brest_says_what_to_do_with_a_spreadsheet(tmp_path: Path) -> None:
    folder = brest(tmp_path)
    (folder / "clinical.csv").rename(folder / "clinical.xlsx")
    with pytest.raises(ConfigError, match=r"found clinical\.xlsx and 0 CSV files; save its first sheet as one CSV"):
        prepare("brest", folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "was", "becomes", "message"),
    [
        ("bus_bra", ",benign,", ",odd,", "line 4: Pathology is 'odd'; allowed are benign, malignant"),
        ("bus_bra", "bus_0002-l,", "bus_0003-l,", "line 4: looked for Images.bus_0003-l.png; there is no such file"),
        ("bus_bra", "Device", "Scanner", "missing .'Device'"),
        ("bus_uclm", "Malignant;n;", "Malignant;maybe;", "line 3: Doppler is 'maybe'; allowed are yes, y, no, n"),
        (
            "bus_uclm",
            "Benign;No;No;Yes",
            "Odd;No;No;No",
            "line 6: Label is 'Odd'; allowed are normal, benign, malignant",
        ),
        ("bus_uclm", "ALWI_001.png", "ALWI_007.png", "line 3: looked for images.ALWI_007.png; there is no such file"),
        ("bus_uclm", "ALWI_001.png", "ALWI.png", "line 3: Image is 'ALWI.png'; allowed are names like ALWI_000.png"),
        ("brest", "0,007;", "0,7;", "line 2: Pixel_size is '0,7'; allowed are 0.001 to 0.05 cm"),
        ("brest", ";case001_tumor.png", ";", "line 2: Mask_tumor_filename is empty; allowed for normal only"),
        ("hc18", "0.071", "none", "line 3: pixel size.mm. is 'none'; allowed is a number above 0"),
        ("hc18", "001_HC.png", "head.png", "line 4: filename is 'head.png'; allowed are names like 000_HC.png"),
    ],
)
def test_a_wrong_line_is_named(name: str, was: str, becomes: str, message: str, tmp_path: Path) -> None:
    folder = PUBLISHED[name](tmp_path)
    path = next(iter(folder.rglob("*.csv")))
    path.write_text(path.read_text("utf-8").replace(was, becomes), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        prepare(name, folder, tmp_path / "out")


def test_the_curated_layout_and_a_pixel_size_of_another_picture(tmp_path: Path) -> None:
    head = "case_id,subject,image,mask,width,height,pixel_size_mm"
    put(tmp_path / "set" / "a.png", scene(1))
    put(tmp_path / "set" / "b.png", box(10, 10))
    table(tmp_path / "set" / "manifest.csv", [head, "a,s1,a.png,b.png,240,180,0.1"])
    cases, _ = prepared("hc18", tmp_path / "set", tmp_path / "out")
    assert [(c.patient_id, c.site, c.spacing_mm, c.label) for c in cases.values()] == [("s1", "hc18", (0.1, 0.1), "")]
    table(tmp_path / "set" / "manifest.csv", [head, "a,s1,a.png,b.png,480,360,0.1"])
    with pytest.raises(ConfigError, match=r"line 2: width x height is 480 x 360; 'a.png' has 240 x 180 pixels"):
        prepare("hc18", tmp_path / "set", tmp_path / "out")
    table(tmp_path / "set" / "manifest.csv", ["case_id,image,mask", "a,a.png,b.png"])
    with pytest.raises(ConfigError, match="allowed is group_id, subject or patient"):
        prepare("hc18", tmp_path / "set", tmp_path / "out")


def test_splits_follow_the_hash_of_the_group_within_its_class() -> None:
    """Of 10 groups of a class round(2.0) are test and round(1.2) val, in order of their SHA-256."""
    frames = [
        PublicFrame(f"{label}{n}{copy}", f"{label}-{n}", "s", Path(), (), label)
        for label in ("x", "y")
        for n in range(10)
        for copy in "ab"
    ]
    splits = assign_splits(frames)
    assert Counter(splits.values()) == {"test": 4, "val": 2, "train": 14}
    ordered = sorted((f"x-{n}" for n in range(10)), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    assert [splits[group] for group in ordered] == ["test"] * 2 + ["val"] + ["train"] * 7
    assert assign_splits(frames[::-1]) == splits


def test_overlap_of_masks_of_copies() -> None:
    """A copy that is shifted by a few pixels agrees with itself; a lesion elsewhere does not."""
    assert overlap(box(40, 60) > 0, box(46, 52) > 0) > 0.9
    assert overlap(box(40, 60) > 0, box(120, 180) > 0) == 0
    assert overlap(box(0, 0, 0) > 0, box(0, 0, 0) > 0) == 1
    assert overlap(box(0, 0, 0) > 0, box(40, 60) > 0) == 0


def test_an_outline_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="outline x: nothing is drawn"):
        enclosed("x", np.zeros((9, 9), np.bool_))


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "cases", "groups"), [("busi", 465, 437), ("hc18", 130, 130)])
def test_curated_real_sets(name: str, cases: int, groups: int, shared_data: Path, tmp_path: Path) -> None:
    found = read_manifest(prepare(name, shared_data / "ultrasound" / name, tmp_path))
    where = defaultdict(set)
    for case in found:
        where[case.patient_id].add(case.split)
    assert (len(found), len(where)) == (cases, groups)
    assert all(len(splits) == 1 for splits in where.values())
    by_label = defaultdict(dict)
    for case in found:
        by_label[case.label][case.patient_id] = case.split
    for of in by_label.values():
        ordered = sorted(of, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
        test, val = round(0.2 * len(of)), round(0.12 * len(of))
        assert [of[g] for g in ordered] == ["test"] * test + ["val"] * val + ["train"] * (len(of) - test - val)
    assert set(by_label) == ({"benign", "malignant", "normal"} if name == "busi" else {""})
    assert all((case.spacing_mm is not None) == (name == "hc18") for case in found)


@pytest.mark.shared_data
def test_the_curated_bus_uclm_without_doppler(shared_data: Path, tmp_path: Path) -> None:
    """Of 425 frames the table calls 24 Doppler, one of them with a Y, and 64 of the others show callipers."""
    found, dropped = prepared("bus_uclm", shared_data / "ultrasound" / "bus_uclm", tmp_path / "all")
    assert Counter(line["reason"] for line in dropped) == {"shows Doppler": 24}
    assert len(found) == 401
    assert len({case.patient_id for case in found.values()}) == 25
    assert {case.site for case in found.values()} == {"bus_uclm"}
    unmarked, _ = prepared("bus_uclm_unmarked", shared_data / "ultrasound" / "bus_uclm", tmp_path / "unmarked")
    assert len(unmarked) == 337


@pytest.mark.shared_data
def test_a_filled_contour_of_a_real_head_is_its_mask(shared_data: Path) -> None:
    """The contour of a real mask, filled again, is the mask: also of heads that leave the picture."""
    folder = shared_data / "ultrasound" / "hc18"
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    chosen = [r for r in rows if r["mask_method"] == "fill"][:3] + [r for r in rows if r["mask_method"] != "fill"][:6]
    for row in chosen:
        with Picture.open(folder / row["mask"]) as picture:
            mask = np.asarray(picture) > 0
        inner = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
        curve = mask & ~inner
        curve[[0, -1]] = curve[:, [0, -1]] = False  # the annotation does not run along the picture's edge
        again = enclosed(row["case_id"], curve)
        assert 2 * (again & mask).sum() / (again.sum() + mask.sum()) > 0.98, row["case_id"]
