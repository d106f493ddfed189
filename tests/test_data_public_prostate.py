"""Public prostate MRI: each published layout, drawn small; splits by patient, also across sets that share patients."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself

from imaging.data.images import read_image
from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.data.public import prepare
from imaging.data.public.frames import PublicExam, split_of
from imaging.data.truth import Rules, read_truth
from imaging.data.truth_table import ShapeTable
from imaging.errors import ConfigError
from imaging.image import LPS_TO_RAS, Array, Floats
from tests.test_data_images import POSES, lps_affine, write_series

Layout = Callable[[Path], Path]
SHAPE = (4, 6, 8)  # slice, row, column
COARSE = (4, 3, 4)
SPACING = (0.5, 0.5, 3.0)  # x, y, z


def ramp(start: int = 0) -> Array:
    return np.arange(start, start + np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def marks(*places: tuple[int, int, int, int], shape: tuple[int, ...] = SHAPE) -> Array:
    """A label map: (slice, row, column, value) each."""
    drawn = np.zeros(shape, np.uint8)
    for *place, value in places:
        drawn[tuple(place)] = value
    return drawn


def lps() -> Floats:
    """The affine of (x, y, z) to LPS of every volume here, but for `coarse` ones."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-30.25, 20.5, -12.0)
    return affine


def coarse() -> Floats:
    """Voxels of twice the step in the plane that cover the same millimetres."""
    affine = lps() @ np.diag([2.0, 2.0, 1.0, 1.0])
    affine[:2, 3] += 0.25
    return affine


def mha(path: Path, values: Array, affine: Floats | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    own = lps() if affine is None else affine
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(np.diag(own)[:3].tolist())
    image.SetOrigin(own[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def nifti(path: Path, values: Array, affine: Floats | None = None) -> Path:
    """Values ([volume,] slice, row, column)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parted = values.transpose(3, 2, 1, 0) if values.ndim == 4 else values.T
    nibabel.save(nibabel.Nifti1Image(parted, LPS_TO_RAS @ (lps() if affine is None else affine)), path)
    return path


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepared(name: str, folder: Path, out: Path) -> tuple[dict[str, Case], dict[str, str]]:
    """Cases by name, and the reason of what was dropped by its file's name."""
    cases = {case.case_id: case for case in read_manifest(prepare(name, folder, out))}
    with (out / "dropped.csv").open(encoding="utf-8") as stream:
        return cases, {Path(line["image"]).name: line["reason"] for line in csv.DictReader(stream)}


def truth(case: Case) -> Array:
    """The values of a case's label map, on the voxels of its image."""
    found = read_truth(case.known_truth, read_image(case.image))
    return found.label_map([str(value) for value in range(1, 6)])


PICAI_HEAD = "patient_id,study_id,mri_date,patient_age,psa,case_ISUP,case_csPCa,center"


def picai(folder: Path) -> Path:
    """A drawn csPCa beside an indolent one, an exam without any, one nobody drew, one said to have none, one lost."""
    top, labels = folder / "picai", folder / "picai" / "picai_labels"
    rows = [
        ("10000", "1000000", "3", "YES", "PCNN", marks((1, 2, 3, 3), (1, 2, 4, 2), (2, 5, 5, 1))),
        ("10000", "1000001", "0", "NO", "PCNN", marks()),
        ("10001", "1000002", "2", "YES", "ZGT", None),
        ("10002", "1000003", "4", "YES", "RUMC", marks()),
        ("10003", "1000004", "1", "NO", "RUMC", marks((1, 1, 1, 2))),
        ("10004", "1000005", "1", "NO", "RUMC", marks((1, 1, 1, 1))),
        ("10005", "1000006", "1", "NO", "RUMC", marks()),
    ]
    lines = [PICAI_HEAD]
    for number, (patient, study, grade, significant, center, lesions) in enumerate(rows):
        name = f"{patient}_{study}"
        lines.append(f"{patient},{study},2019-07-02,73,7.7,{grade},{significant},{center}")
        place = top / ("images" if number % 2 else "picai_public_images_fold0") / patient
        for part, shape, affine in (("t2w", SHAPE, lps()), ("adc", COARSE, coarse()), ("hbv", COARSE, coarse())):
            if (patient, part) != ("10005", "adc"):
                mha(place / f"{name}_{part}.mha", np.ones(shape, np.int16), affine)
        if lesions is not None:
            nifti(labels / "csPCa_lesion_delineations/human_expert/resampled" / f"{name}.nii.gz", lesions)
        nifti(labels / "anatomical_delineations/whole_gland/AI/Bosma22b" / f"{name}.nii.gz", marks((1, 2, 3, 1)))
        zones = marks((1, 2, 3, 2), (2, 2, 3, 1)) if number else marks()
        nifti(labels / "anatomical_delineations/zonal_pz_tz/AI/Yuan23" / f"{name}.nii.gz", zones)
    table(labels / "clinical_information" / "marksheet.csv", *lines)
    return top


def prostate158(folder: Path) -> Path:
    head = "ID,t2,adc,dwi,t2_anatomy_reader1,adc_tumor_reader1"
    for side, number, tumour in (("train", 20, marks((1, 1, 2, 1), shape=COARSE)), ("train", 21, None)):
        place = folder / "p158" / side / f"{number:03d}"
        nifti(place / "t2.nii.gz", ramp())
        for name in ("adc", "dwi"):
            nifti(place / f"{name}.nii.gz", np.ones(COARSE, np.int16), coarse())
        nifti(place / "t2_anatomy_reader1.nii.gz", marks((1, 2, 4, 1), (1, 3, 4, 2)))
        if tumour is not None:
            nifti(place / "adc_tumor_reader1.nii.gz", tumour, coarse())

    def line(number: int, tumour: str) -> str:
        names = [f"train/{number:03d}/{name}.nii.gz" for name in ("t2", "adc", "dwi", "t2_anatomy_reader1")]
        return ",".join([str(number), *names, tumour])

    table(folder / "p158" / "train.csv", head, line(20, "train/020/adc_tumor_reader1.nii.gz"))
    table(folder / "p158" / "valid.csv", head, line(21, ""), line(22, "train/022/empty.nii.gz"))
    return folder / "p158"


def msd(folder: Path) -> Path:
    top = folder / "msd" / "Task05_Prostate"
    training = []
    for name in ("prostate_00", "prostate_01"):
        nifti(top / "imagesTr" / f"{name}.nii.gz", np.stack([ramp(), ramp(1000)]))
        nifti(top / "labelsTr" / f"{name}.nii.gz", marks((1, 2, 3, 1), (1, 2, 4, 2)))
        training.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    nifti(top / "imagesTr" / "prostate_01.nii.gz", ramp())
    told = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": training,
        "test": ["./imagesTs/prostate_03.nii.gz"],
    }
    (top / "dataset.json").write_text(json.dumps(told), encoding="utf-8")
    return folder / "msd"


def promise12(folder: Path) -> Path:
    top = folder / "promise" / "training_data"
    for number in range(3):
        mha(top / f"Case{number:02d}.mhd", ramp())
        if number:
            mha(top / f"Case{number:02d}_segmentation.mhd", marks((1, 2, number, 1)))
    return folder / "promise"


def series(folder: Path, shift: float = 0.0) -> Path:
    """A classic series whose first voxel is moved along x; the study's folder."""
    affine = lps_affine(POSES["axial"])
    affine[0, 3] += shift
    write_series(folder / "4.000000-t2tsetra-00702", np.arange(120, dtype=np.int16).reshape(5, 4, 6), affine)
    return folder


def prostatex(folder: Path) -> Path:
    """Points at the first voxel's centre and at (slice 1, row 2, column 3), whose steps are 3, 2 and 0.5 mm."""
    top = folder / "px" / "PROSTATEx"
    for number in range(4):
        series(top / f"ProstateX-000{number}" / "07-07-2011-NA-PROSTATA-05711", shift=7.0 * number)
    series(top / "ProstateX-0001" / "08-08-2011-NA-AGAIN-05712")
    place = POSES["axial"] @ np.array([3.0, 4.0, 1.5]) + (-20.0, 11.0, 5.0)
    second = " ".join(f"{value:g}" for value in place)
    table(
        folder / "px" / "ProstateX-TrainingLesionInformationv2" / "ProstateX-Findings-Train.csv",
        "ProxID,fid,pos,zone,ClinSig",
        "ProstateX-0000,1,-20 11 5,PZ,FALSE",
        f"ProstateX-0000,2,{second},TZ,FALSE",
        f"ProstateX-0000,3,{second},TZ,TRUE",
        "ProstateX-0001,1,-20 11 5,PZ,TRUE",
        "ProstateX-0002,1,-6 11 5,AS,FALSE",
    )
    return folder / "px"


LAYOUTS: dict[str, Layout] = {
    "picai": picai,
    "picai_zones": picai,
    "prostate158": prostate158,
    "prostate158_zones": prostate158,
    "msd_prostate": msd,
    "promise12": promise12,
    "prostatex": prostatex,
}


def test_picai_takes_expert_delineations_of_significant_cancer_alone(tmp_path: Path) -> None:
    cases, dropped = prepared("picai", picai(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.patient_id, c.site, c.label) for c in cases.values()} == {
        "picai_10000_1000000": ("picai-10000", "PCNN", "significant"),
        "picai_10000_1000001": ("picai-10000", "PCNN", "not-significant"),
        "picai_10001_1000002": ("picai-10001", "ZGT", "significant"),
        "picai_10002_1000003": ("picai-10002", "RUMC", "significant"),
        "picai_10004_1000005": ("picai-10004", "RUMC", "not-significant"),
    }
    first = cases["picai_10000_1000000"]
    assert np.array_equal(truth(first), marks((1, 2, 3, 1), (1, 2, 4, 1)))  # ISUP 3 and 2 are 1, ISUP 1 is none
    assert {role: path.name for role, path in first.beside.items()} == {
        "ADC": "10000_1000000_adc.mha",
        "high b": "10000_1000000_hbv.mha",
    }
    assert first.organ is not None
    assert np.array_equal(read_image(first.organ).array[0], marks((1, 2, 3, 1)))
    empty = cases["picai_10000_1000001"]
    assert empty.known_truth.parent.name == "resampled"  # an empty one is referred to, not copied
    assert not truth(empty).any()
    assert not truth(cases["picai_10004_1000005"]).any()
    assert [cases[name].truth for name in ("picai_10001_1000002", "picai_10002_1000003")] == [None, None]
    assert dropped == {
        "10003_1000004_t2w.mha": "truth 10003_1000004.nii.gz: 1 voxels are drawn of an exam that is said to have none",
        "10005_1000006_t2w.mha": "10005_1000006_adc.mha: there is no such file",
    }


def test_picai_zones_of_a_file_without_any_are_unknown(tmp_path: Path) -> None:
    cases, dropped = prepared("picai_zones", picai(tmp_path), tmp_path / "out")
    assert len(cases) == 5
    assert np.array_equal(truth(cases["picai_10001_1000002"]), marks((1, 2, 3, 2), (2, 2, 3, 1)))
    assert cases["picai_10001_1000002"].known_truth.parent.name == "Yuan23"
    assert dropped["10000_1000000_t2w.mha"] == "neither a truth nor a class is published"


def test_prostate158_brings_tumours_onto_the_t2w_and_keeps_its_sides(tmp_path: Path) -> None:
    """A voxel of the ADC covers 2 × 2 of the T2W: (1, 1, 2) is rows 2 and 3, columns 4 and 5."""
    cases, dropped = prepared("prostate158", prostate158(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.site, c.split) for c in cases.values()} == {
        "prostate158_020": ("Charite", "train"),
        "prostate158_021": ("Charite", "val"),
    }
    drawn = [(1, row, column, 1) for row in (2, 3) for column in (4, 5)]
    assert np.array_equal(truth(cases["prostate158_020"]), marks(*drawn))
    assert not truth(cases["prostate158_021"]).any()
    assert dropped == {"t2.nii.gz": ", ".join(f"{n}.nii.gz" for n in ("t2", "adc", "dwi", "t2_anatomy_reader1"))
                       + ": there is no such file"}  # fmt: skip
    zones, _ = prepared("prostate158_zones", tmp_path / "p158", tmp_path / "zones")
    assert np.array_equal(truth(zones["prostate158_020"]), marks((1, 2, 4, 2), (1, 3, 4, 1)))  # 1 peripheral now


def test_msd_is_parted_into_volumes(tmp_path: Path) -> None:
    cases, dropped = prepared("msd_prostate", msd(tmp_path), tmp_path / "out")
    [case] = cases.values()
    assert (case.case_id, case.site, case.image.name) == ("msd_prostate_00", "RUMC", "msd_prostate_00_t2w.nii.gz")
    t2w, adc = read_image(case.image), read_image(case.beside["ADC"])
    assert np.array_equal(t2w.array[0], ramp())
    assert np.array_equal(adc.array[0], ramp(1000))
    assert t2w.array.dtype == np.int16
    assert np.allclose(t2w.grid.affine, (LPS_TO_RAS @ lps())[:, [2, 1, 0, 3]], atol=1e-6)
    assert np.array_equal(truth(case), marks((1, 2, 3, 1), (1, 2, 4, 2)))
    assert dropped["prostate_03.nii.gz"] == "no label is published"
    assert dropped["prostate_01.nii.gz"].endswith(
        "found (8, 6, 4); allowed are 4 axes, the last of 2 volumes (T2W, ADC)"
    )


def test_msd_of_other_labels_is_refused(tmp_path: Path) -> None:
    folder = msd(tmp_path)
    path = folder / "Task05_Prostate" / "dataset.json"
    path.write_text(path.read_text("utf-8").replace('"PZ"', '"TZ"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"labels is .*; allowed is .*'1': 'PZ', '2': 'TZ'"):
        prepare("msd_prostate", folder, tmp_path / "out")


def test_promise12_is_of_no_known_site(tmp_path: Path) -> None:
    cases, dropped = prepared("promise12", promise12(tmp_path), tmp_path / "out")
    assert {(c.case_id, c.patient_id, c.site) for c in cases.values()} == {
        ("promise12_01", "promise12-01", "unknown"),
        ("promise12_02", "promise12-02", "unknown"),
    }
    assert np.array_equal(truth(cases["promise12_02"]), marks((1, 2, 2, 1)))
    assert dropped == {"Case00.mhd": "Case00_segmentation.mhd: there is no such file, so the gland is unknown"}


def test_prostatex_has_points_in_the_patient(tmp_path: Path) -> None:
    cases, dropped = prepared("prostatex", prostatex(tmp_path), tmp_path / "out")
    assert {c.case_id: (c.patient_id, c.site, c.label) for c in cases.values()} == {
        "prostatex_ProstateX-0000": ("prostatex-ProstateX-0000", "RUMC", "significant"),
        "prostatex_ProstateX-0002": ("prostatex-ProstateX-0002", "RUMC", "not-significant"),
    }
    case = cases["prostatex_ProstateX-0000"]
    image = read_image(next(case.image.glob("*t2*")))
    found = read_truth(case.known_truth, image, Rules(table=ShapeTable(key="image")), row=case.case_id)
    assert [point.label for point in found.points] == ["not-significant", "significant"]
    assert np.allclose([point.at for point in found.points], [(0.5, 0.5, 0.5), (1.5, 2.5, 3.5)], atol=1e-4)
    assert dropped == {
        "ProstateX-0001": "found 2 studies with DICOM files; the findings are of one",
        "ProstateX-0003": "no finding of this patient is published",
    }


def gland_of(image: Path, path: Path, shift: float = 0.0) -> None:
    """A mask on the grid of a DICOM series, as PI-CAI stores it, moved along x."""
    grid = read_image(image).grid
    affine = grid.affine[:, [2, 1, 0, 3]].copy()
    affine[0, 3] += shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros(grid.shape[::-1], np.uint8), affine), path)


def test_a_patient_of_prostatex_who_is_in_picai_has_its_name_and_split(tmp_path: Path) -> None:
    folder = prostatex(tmp_path)
    glands = folder / "picai_labels" / "anatomical_delineations/whole_gland/AI/Bosma22b"
    t2w = {n: next((folder / "PROSTATEx" / f"ProstateX-000{n}").rglob("*t2*")) for n in (0, 2)}
    gland_of(t2w[0], glands / "10795_1000811.nii.gz")
    gland_of(t2w[2], glands / "10796_1000812.nii.gz", shift=0.02)  # a near miss: 4 % of a column
    cases, _ = prepared("prostatex", folder, tmp_path / "out")
    patients = {c.case_id[-1]: c.patient_id for c in cases.values()}
    assert patients == {"0": "picai-10795", "2": "prostatex-ProstateX-0002"}
    linked = cases["prostatex_ProstateX-0000"]
    assert linked.split == split_of(PublicExam("any", "picai-10795", "RUMC", tmp_path))
    other = Case("picai_10795_1000811", "picai-10795", "RUMC", "val", linked.image, None, "not-significant")
    assert linked.split == "test"  # of this name
    write_manifest(tmp_path / "both.csv", [linked, other])
    with pytest.raises(ConfigError, match=r"1 patients stand in two splits, first 'picai-10795' in \['test', 'val'\]"):
        read_manifest(tmp_path / "both.csv")
    gland_of(t2w[0], glands / "10797_1000813.nii.gz")
    cases, dropped = prepared("prostatex", folder, tmp_path / "again")
    assert dropped["ProstateX-0000"].endswith("several patients of PI-CAI: picai-10795, picai-10797")


def splits(patients: Sequence[str]) -> list[str]:
    return [split_of(PublicExam("any", patient, "a", Path("any"))) for patient in patients]


def test_splits_hang_on_the_patients_name_alone() -> None:
    """Of 5000 names 20 % are test and 12 % val, within four standard errors: 1.6 % is the widest."""
    names = [f"picai-{number}" for number in range(5000)]
    found = splits(names)
    assert found.count("test") / 5000 == pytest.approx(0.20, abs=0.023)
    assert found.count("val") / 5000 == pytest.approx(0.12, abs=0.019)
    assert splits(names[::-1]) == found[::-1]
    assert split_of(PublicExam("any", names[0], "a", Path("any"), published="val")) == "val"


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_folder_gives_the_same_files_and_stays_as_it_was(name: str, tmp_path: Path) -> None:
    folder = LAYOUTS[name](tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told: list[tuple[int, int]] = []
    for out in ("a", "b"):
        prepare(name, folder, tmp_path / out, lambda done, of: told.append((done, of)))
    made = [
        {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("*") if path.is_file()}
        for out in ("a", "b")
    ]
    assert made[0] == made[1]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert told[-1][0] == told[-1][1] == len(told) / 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_layout_is_refused_with_what_was_looked_for_and_found(name: str, tmp_path: Path) -> None:
    table(tmp_path / "set" / "notes.txt", "nothing")
    with pytest.raises(ConfigError, match=r"set \w+, .*: looked for .*; found notes.txt"):
        prepare(name, tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "was", "becomes", "message"),
    [
        ("picai", ",3,YES,", ",1,YES,", "line 2: case_csPCa is YES and case_ISUP 1; allowed is YES with 2 to 5"),
        ("picai", ",YES,ZGT", ",MAYBE,ZGT", "line 4: case_csPCa is 'MAYBE'; allowed are yes, no"),
        ("picai", ",YES,ZGT", ",YES,", "line 4: patient_id, study_id or center is empty"),
        ("prostatex", "-6 11 5", "-6 11", "line 6: pos is '-6 11'; allowed are three numbers"),
        ("prostatex", "AS,FALSE", "AS,", "line 6: ClinSig is ''; allowed are true, false"),
        ("prostate158", "20,train", "x,train", "train.csv, line 2: ID is 'x'; allowed is a number"),
    ],
)
def test_a_wrong_line_is_named(name: str, was: str, becomes: str, message: str, tmp_path: Path) -> None:
    folder = LAYOUTS[name](tmp_path)
    for path in folder.rglob("*.csv"):
        path.write_text(path.read_text("utf-8").replace(was, becomes), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        prepare(name, folder, tmp_path / "out")


@pytest.fixture
def real(shared_data: Path, tmp_path: Path) -> Path:
    """The files that PI-CAI publishes for the exam of ProstateX-0001, the T2W as MHA, in PI-CAI's layout."""
    given, top = shared_data / "prostate_mri", tmp_path / "picai"
    labels, name = given / "labels" / "prostatex_0001", "10795_1000811"
    for source, kind in (
        ("cspca_expert_resampled", "csPCa_lesion_delineations/human_expert/resampled"),
        ("gland_ai_bosma22b", "anatomical_delineations/whole_gland/AI/Bosma22b"),
        ("zones_ai_yuan23", "anatomical_delineations/zonal_pz_tz/AI/Yuan23"),
    ):
        place = top / "picai_labels" / kind / f"{name}.nii.gz"
        place.parent.mkdir(parents=True)
        shutil.copy(labels / f"{source}.nii.gz", place)
    sheet = top / "picai_labels" / "clinical_information" / "marksheet.csv"
    sheet.parent.mkdir()
    shutil.copy(labels / "clinical.csv", sheet)
    place = top / "images" / "10795"
    place.mkdir(parents=True)
    for part, folder in (("t2w", "s06_t2_tra"), ("adc", "s08_adc"), ("hbv", "s09_calc_b")):
        image = read_image(given / "prostatex_0001" / folder)
        affine = LPS_TO_RAS @ image.grid.affine[:, [2, 1, 0, 3]]
        stored = sitk.GetImageFromArray(image.array[0])
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        stored.SetSpacing(steps.tolist())
        stored.SetDirection((affine[:3, :3] / steps).ravel().tolist())
        stored.SetOrigin(affine[:3, 3].tolist())
        sitk.WriteImage(stored, str(place / f"{name}_{part}.mha"), useCompression=False)
    return top


def test_real_labels_of_picai(real: Path, tmp_path: Path) -> None:
    """ISUP 1: no csPCa, so an empty truth. The gland is the 31.2 or 32.3 mL that the two masks have."""
    cases, dropped = prepared("picai", real, tmp_path / "out")
    [case] = cases.values()
    assert (case.case_id, case.site, case.label, dropped) == ("picai_10795_1000811", "RUMC", "not-significant", {})
    assert not truth(case).any()
    assert case.organ is not None
    gland = read_truth(case.organ, read_image(case.image))
    assert gland.mask().sum() * gland.grid.voxel_size / 1000 == pytest.approx(31.8, abs=0.7)
    zones, _ = prepared("picai_zones", real, tmp_path / "zones")
    [zoned] = zones.values()
    assert set(np.unique(truth(zoned))) == {0, 1, 2}


def test_the_real_exam_of_prostatex_is_known_as_that_of_picai(shared_data: Path, real: Path, tmp_path: Path) -> None:
    given, top = shared_data / "prostate_mri", tmp_path / "px"
    shutil.copytree(given / "prostatex_0001", top / "PROSTATEx" / "ProstateX-0001" / "07-07-2011")
    shutil.copytree(given / "prostatex_0218", top / "PROSTATEx" / "ProstateX-0218" / "01-01-2012")
    shutil.copy(given / "labels" / "prostatex_findings.csv", top / "ProstateX-Findings-Train.csv")
    shutil.copytree(real / "picai_labels", top / "picai_labels")
    cases, dropped = prepared("prostatex", top, tmp_path / "out")
    [case] = cases.values()
    assert (case.case_id, case.patient_id) == ("prostatex_ProstateX-0001", "picai-10795")
    image = read_image(next(case.image.glob("s06*")))
    [point] = read_truth(case.known_truth, image, row=case.case_id).points
    assert np.allclose(np.array(point.at)[[2, 1, 0]] - 0.5, (157, 186, 9), atol=0.6)  # the table's own voxel
    assert dropped["ProstateX-0218"] == "no finding of this patient is published"
    assert len(dropped) == 201
