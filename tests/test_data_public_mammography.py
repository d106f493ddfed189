"""Public sets of mammograms: each published layout, drawn small, and the curated real ones. Pixels are counted."""

from __future__ import annotations

import csv
import plistlib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from imaging.data.dataset import first_image
from imaging.data.manifest import Case, read_manifest
from imaging.data.public import prepare
from imaging.data.public.frames import PublicFrame, assign_splits, read_lines
from imaging.data.public.lesions import Lesions, box, disc, outline
from imaging.errors import ConfigError, GeometryError, InputError
from imaging.image import Array
from imaging.modalities.mammography.recipe import MammographyRecipe
from tests.mammograms import code_item, dataset
from tests.test_data_public import prepared, table

ROWS, COLUMNS = 64, 48


def put(path: Path, pixels: Array | None = None, **tags: object) -> None:
    """A DICOM mammogram of 64 × 48 pixels, grainy where no pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(len(str(path))).integers(0, 4000, (ROWS, COLUMNS))
    dataset(pixels.astype(np.uint16), **tags).save_as(path, enforce_file_format=True)


def area(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (ROWS, COLUMNS)) -> Array:
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def numbers(case: Case) -> Array:
    """The truth map, as it is stored: 8 bits."""
    with Picture.open(case.known_truth) as picture:
        assert picture.mode == "L"
        return np.asarray(picture)


def reasons(dropped: list[dict[str, str]]) -> dict[str, str]:
    return {line["image"]: line["reason"] for line in dropped}


# -------------------------------------------------------------------------------------------------------------- layouts

CBIS_HEAD = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,assessment,pathology,"
    "image file path,cropped image file path,ROI mask file path"
)


def cbis_line(film: str, number: int, pathology: str) -> str:
    """A line as published: paths of UIDs, the last value with a line break in it."""
    _, patient, side, view = film.replace("P_", "P-").split("_")
    paths = [f"{film}/1.3.1/1.3.2/000000.dcm", f"{film}_{number}/1.3.3/1.3.4/000001.dcm"]
    last = f'"{film}_{number}/1.3.3/1.3.4/000000.dcm\n"'
    return ",".join([patient.replace("-", "_"), "2", side, view, str(number), "mass", "4", pathology, *paths, last])


def cbis(folder: Path) -> Path:
    """Of P_00001 one film with three lesions, P_00002 on both published sides, three films with something missing."""
    top = folder / "cbis" / "CBIS-DDSM"
    lines = [CBIS_HEAD]
    for film, number, pathology in (
        ("Mass-Training_P_00001_LEFT_CC", 1, "BENIGN_WITHOUT_CALLBACK"),
        ("Mass-Training_P_00001_LEFT_CC", 2, "MALIGNANT"),
        ("Mass-Training_P_00002_RIGHT_MLO", 1, "BENIGN"),
        ("Mass-Training_P_00003_LEFT_CC", 1, "BENIGN"),
        ("Mass-Training_P_00004_LEFT_CC", 1, "BENIGN"),
        ("Mass-Training_P_00005_LEFT_CC", 1, "BENIGN"),
        ("Mass-Training_P_00006_LEFT_CC", 1, "MALIGNANT"),
    ):
        lines.append(cbis_line(film, number, pathology))
        if "P_00003" not in film:
            put(top / film / "1.3.1" / "1.3.2" / "1-1.dcm")
    table(folder / "cbis" / "mass_case_description_train_set.csv", lines)
    one = top / "Mass-Training_P_00001_LEFT_CC_1" / "1.3.3" / "1.3.4"
    put(one / "1-1.dcm", area(5, 10, 25, 30) * 255)
    put(one / "1-2.dcm", np.arange(20 * 20).reshape(20, 20))
    # Swapped names, and folders of the newer downloader: the first file is the crop.
    two = top / "Mass-Training_P_00001_LEFT_CC_2" / "07-20-2016-DDSM-NA-22222"
    put(two / "1.000000-ROI mask images-1" / "1-1.dcm", np.arange(9 * 9).reshape(9, 9))
    put(two / "1.000000-cropped images-2" / "1-1.dcm", area(8, 12, 12, 16) * 255)
    # A crop of the film's size: only values tell the mask.
    put(top / "Mass-Training_P_00002_RIGHT_MLO_1" / "a" / "1-1.dcm", np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS))
    put(top / "Mass-Training_P_00002_RIGHT_MLO_1" / "a" / "1-2.dcm", area(0, 40, 10, 48))
    put(top / "Mass-Training_P_00005_LEFT_CC_1" / "a" / "1-1.dcm", area(0, 0, 3, 3, (ROWS, COLUMNS + 1)))
    put(top / "Mass-Training_P_00006_LEFT_CC_1" / "a" / "1-1.dcm", area(30, 0, 31, 1))
    # The same film in the table of calcifications, and a patient of whom another film is on the published test side.
    table(
        folder / "cbis" / "calc_case_description_train_set.csv",
        [
            CBIS_HEAD.replace("breast_density", "breast density"),
            cbis_line("Calc-Training_P_00001_LEFT_CC", 1, "BENIGN"),
        ],
    )
    put(top / "Calc-Training_P_00001_LEFT_CC_1" / "a" / "1-1.dcm", area(40, 1, 50, 5))
    table(
        folder / "cbis" / "calc_case_description_test_set.csv",
        [CBIS_HEAD, cbis_line("Calc-Test_P_00002_LEFT_CC", 1, "BENIGN")],
    )
    put(top / "Calc-Test_P_00002_LEFT_CC" / "a" / "000000.dcm")
    put(top / "Calc-Test_P_00002_LEFT_CC_1" / "a" / "000000.dcm", area(1, 1, 2, 2))
    return folder / "cbis"


def vindr(folder: Path) -> Path:
    """Three studies: one with boxes of decimal corners, one without a finding, one of which a file is missing."""
    top = folder / "vindr"
    breasts = ["study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split"]
    head = ["study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density"]
    findings = [f"{head[0]},finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"]
    boxes = [
        "['Mass'],BI-RADS 3,10.4,5.6,20.5,15.5",
        "\"['Mass', 'Skin Retraction']\",BI-RADS 5,30.1,7.2,30.3,7.4",
        "['Nipple Retraction'],,40,60,60,70",
    ]
    nothing = ["['No Finding'],,,,,"]
    for study, image, height, birads, split, found in (
        ("s1", "a", 64, 4, "training", boxes),
        ("s1", "b", 64, 4, "training", nothing),
        ("s2", "c", 64, 1, "test", nothing),
        ("s3", "d", 64, 2, "training", nothing),
        ("s4", "e", 60, 2, "training", nothing),
    ):
        line = f"{study},x,{image},L,CC,{height},48,BI-RADS {birads},DENSITY C"
        breasts.append(f"{line},{split}")
        findings += [f"{line},{one},{split}" for one in found]
        if image != "d":
            put(top / "images" / study / f"{image}.dicom")
    table(top / "breast-level_annotations.csv", breasts)
    table(top / "finding_annotations.csv", findings)
    return top


def regions(*found: tuple[str, list[str]]) -> bytes:
    """An XML of INbreast."""
    rois = [
        {"IndexInImage": n, "Name": name, "NumberOfPoints": len(points), "Point_px": points}
        for n, (name, points) in enumerate(found)
    ]
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]})


def inbreast(folder: Path) -> Path:
    """Two patients: three films with outlines, one normal, one seen but not drawn, one without its file."""
    top = folder / "inbreast" / "INbreast Release 1.0"
    lines = ["Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"]
    for name, birads in (
        ("20586908", "4a"),
        ("20586934", "2"),
        ("20586960", "1"),
        ("20587000", "3"),
        ("20587001", "5"),
    ):
        lines.append(f"removed;removed;R;CC;201001;{name};2;{birads}")
    lines.append(";;;;;;;")
    table(top / "INbreast.csv", lines)
    (top / "AllXML").mkdir()
    square = ["(10.0, 5.0)", "(20.0, 5.0)", "(20.0, 15.0)", "(10.0, 15.0)"]
    wide = ["(5, 2)", "(25, 2)", "(25, 20)", "(5, 20)"]
    (top / "AllXML" / "20586908.xml").write_bytes(
        regions(("Mass", square), ("Spiculated Region", wide), ("Pectoral Muscle", ["(0, 0)", "(48, 0)", "(0, 64)"]))
    )
    (top / "AllXML" / "20586934.xml").write_bytes(
        regions(("Calcification", ["(30.25, 40.75)"]), ("Calcification", ["(31.2, 41.0)", "(31.4, 41.0)"]))
    )
    first, second = "6c613a14b80a8591", "036aff49b8ac84f0"
    for name, patient in (("20586908", first), ("20586934", first), ("20586960", second), ("20587000", second)):
        put(top / "AllDICOMs" / f"{name}_{patient}_MG_R_CC_ANON.dcm")
    return folder / "inbreast"


MIAS_INFO = """\
The list below is of films; the columns are explained here. mdb stands for the name.
mdb001 G CIRC B 535 425 197

mdb002 G CIRC B 522 280 69
mdb003 D NORM
mdb004 D NORM
mdb005 F CIRC B 477 133 30
mdb005 F CIRC M 500 168 26
mdb006 F NORM
mdb059 F CIRC B *NOTE 3*
mdb060 F NORM
mdb216 D CALC M
"""


def mini_mias(folder: Path) -> Path:
    top = folder / "mias" / "all-mias"
    top.mkdir(parents=True)
    (top / "Info.txt").write_text(MIAS_INFO)
    for number in (1, 2, 3, 4, 5, 6, 59, 60, 216):
        Picture.new("L", (1024, 1024), number % 256).save(top / f"mdb{number:03d}.pgm")
    return folder / "mias"


def rsna(folder: Path) -> Path:
    lines = ["site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,machine_id"]
    for site, patient, image, cancer in ((2, 10006, 462822612, 0), (2, 10006, 1459541791, 1), (1, 10011, 220375232, 0)):
        lines.append(f"{site},{patient},{image},L,CC,61.0,{cancer},0,0,,0,,29")
        put(folder / "rsna" / "train_images" / str(patient) / f"{image}.dcm")
    lines.append("1,10011,541722628,L,MLO,61.0,0,0,0,,0,,29")
    table(folder / "rsna" / "train.csv", lines)
    return folder / "rsna"


def cmmd(folder: Path) -> Path:
    """One patient of whom one breast has a line, one with both, one without files, one without a line."""
    top = folder / "cmmd" / "manifest-1616439774456" / "CMMD"
    lines = ["ID1,LeftRight,Age,number,abnormality,classification,subtype"]
    lines += ["D1-0001,R,44,2,calcification,Benign,", "D2-0002,L,50,2,mass,Malignant,Luminal A"]
    lines += ["D2-0002,R,50,2,mass,Benign,", "D2-0003,R,50,2,mass,Benign,"]
    table(folder / "cmmd" / "CMMD_clinicaldata_revision.csv", lines)
    coded = {"ViewPosition": None, "ViewCodeSequence": [code_item("399162004")]}
    for patient, sides in (("D1-0001", "LR"), ("D2-0002", "LRx"), ("D2-0009", "L")):
        for number, side in enumerate(sides, start=1):
            path = top / patient / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244" / f"1-{number}.dcm"
            put(path, ImageLaterality=None if side == "x" else side, **coded)
    return folder / "cmmd"


PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "cbis_ddsm": cbis,
    "vindr_mammo": vindr,
    "inbreast": inbreast,
    "mini_mias": mini_mias,
    "rsna": rsna,
    "cmmd": cmmd,
}


# ----------------------------------------------------------------------------------------------------------------- sets


def test_cbis_finds_the_mask_by_size_and_values_and_joins_the_lesions_of_a_film(tmp_path: Path) -> None:
    cases, dropped = prepared("cbis_ddsm", cbis(tmp_path), tmp_path / "out")
    film = cases["cbis_P_00001_LEFT_CC"]
    expected = area(5, 10, 25, 30)
    expected[8:12, 12:16] = 2
    expected[40:50, 1:5] = 3
    assert np.array_equal(numbers(film), expected)
    assert (film.label, film.patient_id, film.spacing_mm) == ("malignant", "cbis-P_00001", None)
    assert film.image.parts[-4:] == ("Mass-Training_P_00001_LEFT_CC", "1.3.1", "1.3.2", "1-1.dcm")
    assert np.array_equal(numbers(cases["cbis_P_00002_RIGHT_MLO"]), area(0, 40, 10, 48))
    told = reasons(dropped)
    assert told["CBIS-DDSM/Mass-Training_P_00003_LEFT_CC"] == (
        "looked for one DICOM file of the film; found 0 in Mass-Training_P_00003_LEFT_CC"
    )
    fourth, fifth = (told[f"CBIS-DDSM/Mass-Training_P_0000{n}_LEFT_CC/1.3.1/1.3.2/1-1.dcm"] for n in (4, 5))
    assert fourth.endswith("looked for one mask of the film's 64 × 48 pixels with two values; found 0 among no files")
    assert fifth.endswith("found 0 among 1-1.dcm of 64 × 49")
    assert len(told) == 3


def test_cbis_keeps_a_patient_of_both_published_sides_on_the_test_side(tmp_path: Path) -> None:
    cases, _ = prepared("cbis_ddsm", cbis(tmp_path), tmp_path / "out")
    assert {name: case.split for name, case in cases.items()} == {
        "cbis_P_00001_LEFT_CC": "train",
        "cbis_P_00002_RIGHT_MLO": "test",
        "cbis_P_00002_LEFT_CC": "test",
        "cbis_P_00006_LEFT_CC": "train",
    }


def test_vindr_boxes_hold_the_pixels_whose_centres_they_hold(tmp_path: Path) -> None:
    """Columns 10.4 to 20.5 hold the centres 10.5 to 19.5, rows 5.6 to 15.5 those of 6.5 to 14.5."""
    cases, dropped = prepared("vindr_mammo", vindr(tmp_path), tmp_path / "out")
    expected = area(6, 10, 15, 20)
    expected[7, 30] = 2
    expected[60:64, 40:48] = 3
    assert np.array_equal(numbers(cases["vindr_a"]), expected)
    assert not numbers(cases["vindr_b"]).any()
    assert {name: (c.label, c.patient_id, c.split) for name, c in cases.items()} == {
        "vindr_a": ("birads-5", "vindr-s1", "train"),
        "vindr_b": ("birads-4", "vindr-s1", "train"),
        "vindr_c": ("birads-1", "vindr-s2", "test"),
    }
    assert reasons(dropped) == {
        "images/s3/d.dicom": "d.dicom: there is no such file",
        "images/s4/e.dicom": "height and width are 60 and 48 in breast-level_annotations.csv; the file has 64 and 48, "
        "so boxes are of another picture",
    }


def test_inbreast_draws_outlines_and_single_points(tmp_path: Path) -> None:
    cases, dropped = prepared("inbreast", inbreast(tmp_path), tmp_path / "out")
    expected = area(2, 5, 20, 25) * 2
    expected[5:15, 10:20] = 1
    assert np.array_equal(numbers(cases["inbreast_20586908"]), expected)
    points = numbers(cases["inbreast_20586934"])
    assert [tuple(place) for place in np.argwhere(points)] == [(40, 30), (41, 31)]
    assert (points[40, 30], points[41, 31]) == (1, 2)
    assert not numbers(cases["inbreast_20586960"]).any()
    assert {c.case_id: (c.label, c.patient_id) for c in cases.values()} == {
        "inbreast_20586908": ("birads-4", "inbreast-6c613a14b80a8591"),
        "inbreast_20586934": ("birads-2", "inbreast-6c613a14b80a8591"),
        "inbreast_20586960": ("birads-1", "inbreast-036aff49b8ac84f0"),
    }
    assert sorted(reasons(dropped).values()) == [
        "BI-RADS 3, but no outline in AllXML/20587000.xml",
        "looked for one file of this name; found 0",
    ]


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (b"<plist>", "20586908.xml: found no Images with ROIs that have a Name"),
        (regions(("Mass", ["(1, 2)", "(1; 2)"])), "20586908.xml, ROI 1: Point_px is (1, 2), (1; 2); allowed are texts"),
        (regions(("Mass", [])), "20586908.xml, ROI 1: Point_px is nothing; allowed are texts like (12.5, 30)"),
        (regions(("Mass", ["(70, 3)", "(80, 9)"])), "a lesion reaches from [3.0, 70.0] to [9.0, 80.0] (row, column)"),
        (regions(*[("Calcification", ["(9, 9)"])] * 256), "found 256 lesions on one film; allowed are up to 255"),
    ],
)
def test_an_inbreast_outline_that_is_none_drops_its_film(xml: bytes, reason: str, tmp_path: Path) -> None:
    folder = inbreast(tmp_path)
    (folder / "INbreast Release 1.0" / "AllXML" / "20586908.xml").write_bytes(xml)
    cases, dropped = prepared("inbreast", folder, tmp_path / "out")
    assert sorted(cases) == ["inbreast_20586934", "inbreast_20586960"]
    told = reasons(dropped)["INbreast Release 1.0/AllDICOMs/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm"]
    assert told.startswith(reason)


def test_mini_mias_counts_rows_from_the_bottom(tmp_path: Path) -> None:
    """mdb001: y 425 above the lower edge of 1024 is row 599; the circle of radius 197 has π · 197² pixels."""
    cases, dropped = prepared("mini_mias", mini_mias(tmp_path), tmp_path / "out")
    first = numbers(cases["mini_mias_mdb001"])
    assert first.sum() == pytest.approx(np.pi * 197**2, rel=0.001)
    rows, columns = (np.flatnonzero(first.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (599 - 197, 599 + 197, 535 - 197, 535 + 197)
    fifth = numbers(cases["mini_mias_mdb005"])
    assert (fifth[1024 - 133, 477], fifth[1024 - 168, 500]) == (1, 2)
    assert {c.case_id: (c.label, c.patient_id) for c in cases.values()} == {
        "mini_mias_mdb001": ("benign", "mias-p001"),
        "mini_mias_mdb002": ("benign", "mias-p001"),
        "mini_mias_mdb003": ("normal", "mias-p002"),
        "mini_mias_mdb004": ("normal", "mias-p002"),
        "mini_mias_mdb005": ("malignant", "mias-p003"),
        "mini_mias_mdb006": ("normal", "mias-p003"),
        "mini_mias_mdb060": ("normal", "mias-p030"),
    }
    assert {case.spacing_mm for case in cases.values()} == {(0.2, 0.2)}
    assert reasons(dropped) == dict.fromkeys(
        ("all-mias/mdb059.pgm", "all-mias/mdb216.pgm"), "1 of 1 lesions without a place"
    )
    assert cases["mini_mias_mdb003"].truth == cases["mini_mias_mdb060"].truth  # one file of nothing for all of a size


def test_a_published_film_of_mini_mias_is_read_as_a_picture_in_millimetres(tmp_path: Path) -> None:
    cases, _ = prepared("mini_mias", mini_mias(tmp_path), tmp_path / "out")
    image = first_image(cases["mini_mias_mdb005"], MammographyRecipe())
    assert image.array.shape == (1, 1024, 1024)
    assert image.array.max() == image.array.min() == 5
    assert (tuple(image.grid.spacing), image.grid.unit) == ((0.2, 0.2), "mm")


def test_mini_mias_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = mini_mias(tmp_path)
    Picture.new("L", (512, 512)).save(folder / "all-mias" / "mdb003.pgm")
    with pytest.raises(GeometryError, match=r"mdb003.pgm: found 512 × 512 pixels; its circles are of 1024 × 1024"):
        prepare("mini_mias", folder, tmp_path / "out")


def test_rsna_has_classes_by_site_and_no_truth(tmp_path: Path) -> None:
    cases, dropped = prepared("rsna", rsna(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.site, c.patient_id, c.label, c.truth) for c in cases.values()} == {
        "rsna_10006_462822612": ("rsna-2", "rsna-10006", "no-cancer", None),
        "rsna_10006_1459541791": ("rsna-2", "rsna-10006", "malignant", None),
        "rsna_10011_220375232": ("rsna-1", "rsna-10011", "no-cancer", None),
    }
    assert reasons(dropped) == {"train_images/10011/541722628.dcm": "541722628.dcm: there is no such file"}


def test_cmmd_takes_the_breast_from_the_header(tmp_path: Path) -> None:
    cases, dropped = prepared("cmmd", cmmd(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.patient_id, c.label, c.truth) for c in cases.values()} == {
        "cmmd_D1-0001_02": ("cmmd-D1-0001", "benign", None),
        "cmmd_D2-0002_01": ("cmmd-D2-0002", "malignant", None),
        "cmmd_D2-0002_02": ("cmmd-D2-0002", "benign", None),
    }
    assert sorted(reasons(dropped).values()) == [
        "no DICOM file of this patient",
        "no line of CMMD_clinicaldata_revision.csv for breast L of D1-0001",
        "no line of CMMD_clinicaldata_revision.csv for breast L of D2-0009",
        "the header does not say which view of which breast this is",
    ]


# ---------------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_same_folder_gives_the_same_files_and_stays_as_it_was(name: str, tmp_path: Path) -> None:
    folder = PUBLISHED[name](tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told: list[tuple[int, int]] = []
    written = []
    for out in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        prepare(name, folder, out, lambda done, of: told.append((done, of)))
        written.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert written[0] == written[1] == written[2]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert told[: told[0][1]] == [(n + 1, told[0][1]) for n in range(told[0][1])]
    splits = defaultdict(set)
    for case in read_manifest(tmp_path / "a" / "manifest.csv"):
        splits[case.patient_id].add(case.split)
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        ("cbis_ddsm", r"mass_case_description_train_set\.csv .* and CBIS-DDSM/, or a curated boxes\.csv"),
        ("vindr_mammo", r"breast-level_annotations\.csv, finding_annotations\.csv and images/STUDY/IMAGE\.dicom"),
        ("inbreast", r"INbreast\.csv \(INbreast\.xls saved as CSV in UTF-8\), AllDICOMs/ and AllXML/"),
        ("mini_mias", r"Info\.txt and mdb001\.pgm, or a curated lesions\.csv"),
        ("rsna", r"train\.csv and train_images/PATIENT/IMAGE\.dcm"),
        ("cmmd", r"CMMD_clinicaldata_revision\.csv .* and CMMD/D1-0001/"),
    ],
)
def test_another_layout_is_refused_with_what_was_looked_for_and_found(
    name: str, looked_for: str, tmp_path: Path
) -> None:
    put(tmp_path / "set" / "odd.dcm")
    with pytest.raises(ConfigError, match=rf"set {name}, .*: looked for {looked_for}.*; found odd\.dcm$"):
        prepare(name, tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "file", "was", "becomes", "message"),
    [
        ("cbis_ddsm", "mass_*", ",MALIGNANT,", ",ODD,", "mass_.*csv, line 4: pathology is 'ODD'; allowed are benign, "),
        ("cbis_ddsm", "mass_*", ",RIGHT,", ",BOTH,", "line 6: side is 'BOTH'; allowed are left, right"),
        ("cbis_ddsm", "mass_*", ",MLO,", ",ML,", "line 6: view is 'ML'; allowed are cc, mlo"),
        ("cbis_ddsm", "mass_*", "MALIGNANT,Mass", "MALIGNANT,/Mass", "line 4: image file path is '/Mass.*; allowed"),
        ("cbis_ddsm", "mass_*", ",pathology,", ",class,", "missing .'pathology'"),
        ("vindr_mammo", "finding*", "10.4", "left", "annotations.csv, line 2: xmin is 'left'; allowed is a"),
        ("vindr_mammo", "finding*", "20.5", "9", "line 2: .* are 10.4, 5.6, 9, 15.5; allowed are boxes whose third"),
        ("vindr_mammo", "finding*", ",c,", ",z,", "line 6: image_id is 'z'; allowed are those of breast-level"),
        ("vindr_mammo", "finding*", "BI-RADS 5", "BI-RADS 9", "line 3: finding_birads is 'BI-RADS 9'; allowed are"),
        ("vindr_mammo", "breast*", ",test", ",val", "line 4: split is 'val'; allowed are training, test"),
        ("inbreast", "*/INbreast.csv", ";2;3", ";2;7", "INbreast.csv, line 5: Bi-Rads is '7'; allowed are 1 to 6, 4a"),
        ("mini_mias", "*/Info.txt", "477 133 30", "477 133", "line 7: found 'mdb005 F CIRC B 477 133'; allowed"),
        ("mini_mias", "*/Info.txt", "477 133 30", "477 133 x", "Info.txt, line 7: radius is 'x'; allowed is a number"),
        ("mini_mias", "*/Info.txt", "477 133 30", "477 1330 3", "line 7: circle at row -306 .*; allowed are places"),
        ("mini_mias", "*/Info.txt", "CIRC M", "ODD M", "line 8: found 'mdb005 F ODD M 500 168 26'; allowed"),
        ("rsna", "train.csv", "61.0,1,", "61.0,yes,", "train.csv, line 3: cancer is 'yes'; allowed are 0, 1"),
        ("rsna", "train.csv", "2,10006,462", "2,../x,462", r"line 2: patient_id is '\.\./x'; allowed is a number"),
        ("cmmd", "CMMD*.csv", "Malignant", "Unknown", "line 3: classification is 'Unknown'; allowed are benign"),
        ("cmmd", "CMMD*.csv", "D1-0001,R", "D1-0001,B", "revision.csv, line 2: LeftRight is 'B'; allowed are l, r"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(name: str, file: str, was: str, becomes: str, message: str, tmp_path: Path) -> None:
    folder = PUBLISHED[name](tmp_path)
    path = next(iter(folder.glob(file)))
    text = path.read_text("utf-8")
    assert was in text
    path.write_text(text.replace(was, becomes, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        prepare(name, folder, tmp_path / "out")


def test_a_set_without_any_of_its_files_is_refused(tmp_path: Path) -> None:
    folder = rsna(tmp_path)
    for path in folder.rglob("*.dcm"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"every frame was left out, .*dropped\.csv says why"):
        prepare("rsna", folder, tmp_path / "out")


def test_a_published_test_side_is_kept_and_val_comes_from_the_rest() -> None:
    """Of 25 groups on the training side round(3.0) are val; a group on both sides is test."""
    frames = [PublicFrame(f"a{n}", f"g{n}", "s", Path(), published="train") for n in range(25)]
    frames += [PublicFrame(f"b{n}", f"t{n}", "s", Path(), published="test") for n in range(5)]
    both = PublicFrame("b", "g0", "s", Path(), published="test")
    assert Counter(assign_splits(frames).values()) == {"train": 22, "val": 3, "test": 5}
    splits = assign_splits([*frames, both])
    assert splits["g0"] == "test"
    assert Counter(splits.values()) == {"train": 21, "val": 3, "test": 6}


def test_the_number_of_a_line_is_that_in_the_file(tmp_path: Path) -> None:
    """Blank lines and line breaks in values count."""
    (tmp_path / "a.csv").write_text('x,y\n\n1,"a\nb"\n2,c\n')
    assert [(n, line["x"]) for n, line in read_lines(tmp_path / "a.csv", ("x",))][1] == (5, "2")


# --------------------------------------------------------------------------------------------------------------- shapes


def test_smaller_lesions_lie_on_larger_ones_and_equal_ones_in_their_order() -> None:
    found = Lesions((6, 6), (box((1, 1), (3, 3)), box((0, 0), (6, 6)), box((2, 2), (4, 4)))).draw()
    expected = np.full((6, 6), 2)
    expected[1:3, 1:3] = 1
    expected[2:4, 2:4] = 3
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint8


def test_a_shape_at_the_edge_is_cut_and_one_between_the_centres_keeps_a_pixel() -> None:
    assert np.argwhere(Lesions((4, 5), (box((-3, -2), (0.6, 1.5)),)).draw()).tolist() == [[0, 0]]
    assert np.argwhere(Lesions((4, 5), (box((3, 4), (3.4, 4.4)),)).draw()).tolist() == [[3, 4]]
    assert np.argwhere(Lesions((4, 5), (box((3.9, 5.0), (9, 9)),)).draw()).tolist() == [[3, 4]]
    assert np.argwhere(Lesions((4, 5), (outline([(4.0, 5.0)]),)).draw()).tolist() == [[3, 4]]
    cut = Lesions((9, 9), (disc((0, 0), 3),)).draw()
    down, across = np.mgrid[:9, :9] + 0.5
    assert np.array_equal(cut, down**2 + across**2 <= 9)
    with pytest.raises(GeometryError, match=r"reaches from \[5.0, 0.0\] to \[9.0, 2.0\] .*; its image has 4 × 5"):
        Lesions((4, 5), (box((5, 0), (9, 2)),)).draw()
    with pytest.raises(InputError, match="found 256 lesions"):
        Lesions((4, 5), (disc((1, 1), 1),) * 256).draw()


# ----------------------------------------------------------------------------------------------------------- real films


@pytest.mark.shared_data
def test_real_films_of_mini_mias(shared_data: Path, tmp_path: Path) -> None:
    """240 films of 120 patients: 143 normal, 94 with 101 circles, 3 whose lesion has no place."""
    folder = shared_data / "mammography" / "mini_mias"
    cases, dropped = prepared("mini_mias", folder, tmp_path)
    assert (len(cases), len({case.patient_id for case in cases.values()})) == (237, 120)
    assert Counter(case.label for case in cases.values()) == {"normal": 143, "benign": 55, "malignant": 39}
    assert sorted(reasons(dropped)) == [f"images/mdb{n}.png" for n in ("059", "216", "233")]
    assert {case.spacing_mm for case in cases.values()} == {(0.4, 0.4)}
    with (folder / "lesions.csv").open(encoding="utf-8") as stream:
        located = [row for row in csv.DictReader(stream) if row["located"] == "1"]
    assert len(located) == 101
    down, across = np.mgrid[:512, :512] + 0.5
    expected = defaultdict(lambda: np.zeros((512, 512), np.uint8))
    rims = defaultdict(lambda: np.zeros((512, 512), np.bool_))
    for row in sorted(located, key=lambda row: -float(row["radius"])):
        outside = (down - float(row["cy"])) ** 2 + (across - float(row["cx"])) ** 2 - float(row["radius"]) ** 2
        expected[row["film"]][outside <= 0] = int(row["lesion"])
        # A centre on the circle itself is in or out by the last bit.
        rims[row["film"]] |= outside == 0
    assert len(expected) == 94
    for film, drawn in expected.items():
        assert np.all((numbers(cases[f"mini_mias_{film}"]) == drawn) | rims[film]), film
    for row in located:
        truth = numbers(cases[f"mini_mias_{row['film']}"])
        assert truth[int(float(row["cy"])), int(float(row["cx"]))] == int(row["lesion"]), row
        # The published place, counted here: half of it, from the other edge.
        assert truth[(1024 - int(row["mias_y"])) // 2, int(row["mias_x"]) // 2] == int(row["lesion"]), row
    assert sum(int(numbers(case).max()) for case in cases.values()) == 101


@pytest.mark.shared_data
def test_real_films_of_cbis_ddsm(shared_data: Path, tmp_path: Path) -> None:
    """Four views of one patient, whose headers name four; six boxes, both ends included, none over another."""
    folder = shared_data / "mammography" / "cbis_p00173"
    cases, dropped = prepared("cbis_ddsm", folder, tmp_path)
    assert dropped == []
    assert {(c.patient_id, c.label, c.split) for c in cases.values()} == {("cbis-P_00173", "benign", "test")}
    with (folder / "boxes.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    by_film = Counter(row["file"] for row in rows)
    assert (len(cases), len(rows)) == (4, 6)
    for case in cases.values():
        truth = numbers(case)
        expected = np.zeros_like(truth)
        own = [row for row in rows if row["file"] == case.image.name]
        for row in own:
            top, left, bottom, right = (int(row[name]) for name in ("y0", "x0", "y1", "x1"))
            expected[top : bottom + 1, left : right + 1] = int(row["abnormality_id"])
        assert truth.shape == (int(own[0]["rows"]), int(own[0]["columns"]))
        assert truth.max() == by_film[case.image.name]
        assert np.array_equal(truth, expected)
    assert numbers(cases["cbis_P_00173_RIGHT_CC"])[:, -1].any()  # one box touches the right edge
