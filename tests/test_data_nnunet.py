"""nnU-Net's raw data, written and read: equal voxels at equal places, one grid per case, whole patients in folds."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself

from imaging.commands import main
from imaging.data.dataset import first_image
from imaging.data.images import read_image
from imaging.data.manifest import Case, Split, read_manifest, write_manifest
from imaging.data.nnunet import dataset_labels, file_volumes, folds, read_dataset, write_dataset
from imaging.data.truth import read_truth
from imaging.errors import ConfigError, ImagingError, InputError
from imaging.image import Array, Floats, resample
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.modalities.prostate.selection import ROLES
from imaging.phantoms.prostate.export import write_training_set
from tests.test_data_images import POSES, lps_affine, write_mha, write_nifti, write_series

OBLIQUE = lps_affine(POSES["oblique"])  # steps of 3, 2 and 0.5 mm (slice, row, column), turned twice
SHAPE = (4, 6, 8)


def linear(affine: Floats, shape: tuple[int, ...] = SHAPE) -> Array:
    """A volume whose value is linear in the patient: 2x - y + 3z of LPS. Interpolated linearly, it stays so."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    return np.asarray(places @ [2.0, -1.0, 3.0], dtype=np.float32)


def finer() -> Floats:
    """Half the steps along rows and columns; the first voxel is a quarter of the old one before the old centre."""
    affine = OBLIQUE @ np.diag([1.0, 0.5, 0.5, 1.0])
    affine[:3, 3] -= 0.25 * (OBLIQUE[:3, 1] + OBLIQUE[:3, 2])
    return affine


def lesion(value: int = 1) -> Array:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1:3, 2:4, 3:6] = value
    return drawn


def make_case(folder: Path, name: str, split: Split, patient: str, form: str = "mha") -> Case:
    """T2W of this form with an ADC of twice the resolution, and a truth on the T2W's grid."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(name)).integers(0, 900, SHAPE).astype(np.int16)
    if form == "dicom":
        image = write_series(folder / name, values, OBLIQUE)
    elif form == "mha":
        image = write_mha(folder / f"{name}.mha", values, OBLIQUE)
    else:
        image = write_nifti(folder / f"{name}.nii.gz", values, OBLIQUE)
    adc = write_nifti(folder / f"{name}_adc.nii.gz", linear(finer(), (4, 12, 16)), finer())
    truth = write_nifti(folder / f"{name}_truth.nii.gz", lesion(), OBLIQUE)
    return Case(name, patient, f"site-{split}", split, image, truth, "significant", beside={"ADC": adc})


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    told: list[tuple[str, Split, str, str]] = [
        ("a1", "train", "a", "mha"),
        ("a2", "train", "a", "nifti"),
        ("b1", "train", "b", "dicom"),
        ("c1", "val", "c", "mha"),
        ("d1", "test", "d", "nifti"),
    ]
    return [make_case(tmp_path / "set", name, split, patient, form) for name, split, patient, form in told]


def test_a_round_trip_gives_the_same_cases_voxels_and_places(tmp_path: Path, cases: list[Case]) -> None:
    folder = tmp_path / "Dataset007_Small"
    told: list[tuple[int, int]] = []
    write_dataset(folder, cases, {"lesion": 1}, file_volumes("T2W"), lambda done, of: told.append((done, of)))
    assert told == [(n, 5) for n in range(1, 6)]
    read = {case.case_id: case for case in read_dataset(folder)}
    assert list(read) == [case.case_id for case in cases]
    for case in cases:
        back = read[case.case_id]
        assert (back.patient_id, back.site, back.split, back.label) == (
            case.patient_id,
            case.site,
            case.split,
            case.label,
        )
        before, after = read_image(case.image), read_image(back.image)
        assert np.array_equal(after.array, before.array)
        assert after.array.dtype == before.array.dtype
        assert np.allclose(after.grid.affine, before.grid.affine, atol=2e-5)  # NIfTI keeps float32
        assert np.array_equal(read_truth(back.known_truth, after).mask(), read_truth(case.known_truth, before).mask())
        assert read_truth(back.known_truth, after).mask().sum() == 12


def test_what_nnunet_checks_of_a_dataset(tmp_path: Path, cases: list[Case]) -> None:
    """Required keys, channels of one grid for every case, labels of known values; read with SimpleITK, as it does."""
    folder = tmp_path / "Dataset007_Small"
    write_dataset(folder, cases, {"lesion": 1}, file_volumes("T2W"))
    told = json.loads((folder / "dataset.json").read_text("utf-8"))
    assert told == {
        "channel_names": {"0": "T2W", "1": "ADC"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    names = {part: sorted(path.name for path in (folder / part).iterdir()) for part in ("imagesTr", "labelsTr")}
    trained = ["a1", "a2", "b1", "c1"]
    assert names["imagesTr"] == [f"{name}_000{channel}.nii.gz" for name in trained for channel in (0, 1)]
    assert names["labelsTr"] == [f"{name}.nii.gz" for name in trained]
    assert sorted(path.name for path in (folder / "imagesTs").iterdir()) == ["d1_0000.nii.gz", "d1_0001.nii.gz"]
    for name in trained:
        files = [folder / "imagesTr" / f"{name}_000{k}.nii.gz" for k in (0, 1)]
        key, adc, label = (sitk.ReadImage(str(file)) for file in (*files, folder / "labelsTr" / f"{name}.nii.gz"))
        for other in (adc, label):
            assert other.GetSize() == key.GetSize()
            assert np.allclose(other.GetSpacing(), key.GetSpacing())
            assert np.allclose(other.GetOrigin(), key.GetOrigin())
            assert np.allclose(other.GetDirection(), key.GetDirection())


def test_a_volume_beside_is_interpolated_linearly_onto_the_key_volume(tmp_path: Path, cases: list[Case]) -> None:
    """A linear volume stays linear but for its edge slices; of the edge voxels' outer half nothing else is known."""
    folder = tmp_path / "Dataset007_Small"
    write_dataset(folder, cases[:1], {"lesion": 1})
    adc = read_image(folder / "imagesTr" / "a1_0001.nii.gz").array[0]
    wanted = linear(OBLIQUE)
    assert np.abs(adc - wanted)[:, 1:-1, 1:-1].max() < 0.02
    assert not np.allclose(wanted[0], wanted[1], atol=0.5)


def test_a_truth_on_another_grid_is_carried_by_nearest_neighbour(tmp_path: Path, cases: list[Case]) -> None:
    fine = np.zeros((4, 12, 16), np.uint8)
    fine[2, 4:8, 6:10] = 1  # rows 2 and 3, columns 3 and 4 of the T2W
    truth = write_nifti(tmp_path / "fine.nii.gz", fine, finer())
    case = Case("a1", "a", "s", "train", cases[0].image, truth)
    write_dataset(tmp_path / "Dataset008_Fine", [case], {"lesion": 1})
    found = read_image(tmp_path / "Dataset008_Fine" / "labelsTr" / "a1.nii.gz").array[0]
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[2, 2:4, 3:5] = 1
    assert np.array_equal(found, wanted)


def plain(name: str, patient: str, split: Split = "train") -> Case:
    return Case(name, patient, "s", split, Path("i"), Path("t"))


def test_folds_hold_whole_patients_and_validate_on_each_once() -> None:
    cases = [plain(f"{p}-{k}", f"p{p}", "val" if p < 3 else "train") for p in range(20) for k in range(1 + p % 3)]
    made = folds(cases)
    assert len(made) == 5
    assert made[0]["val"] == sorted(case.case_id for case in cases if case.split == "val")
    patient = {case.case_id: case.patient_id for case in cases}
    validated = [name for fold in made for name in fold["val"]]
    assert sorted(validated) == sorted(patient)
    for fold in made:
        assert sorted(fold["train"] + fold["val"]) == sorted(patient)
        assert not {patient[name] for name in fold["train"]} & {patient[name] for name in fold["val"]}
    assert len(folds([plain("a", "p"), plain("b", "q")])) == 2  # no fold without a patient


def test_a_dataset_of_others_is_read_with_what_it_says(tmp_path: Path, cases: list[Case]) -> None:
    folder = tmp_path / "Dataset007_Small"
    write_dataset(folder, cases, {"lesion": 1}, file_volumes("T2W"))
    (folder / "cases.csv").unlink()
    read = {case.case_id: (case.patient_id, case.site, case.split, list(case.beside)) for case in read_dataset(folder)}
    assert read["a2"] == ("a2", "unknown", "train", ["ADC"])
    assert (read["c1"][2], read["d1"][2]) == ("val", "test")
    shutil.rmtree(folder / "labelsTs")
    (folder / "splits_final.json").unlink()
    again = {case.case_id: case for case in read_dataset(folder)}
    assert again["c1"].split == "train"
    assert again["d1"].truth is None


def test_the_commands(tmp_path: Path, cases: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path / "manifest.csv", cases)
    out = tmp_path / "Dataset007_Small"
    assert main(["data", "to-nnunet", "--manifest", str(tmp_path / "manifest.csv"), "--out", str(out)]) == 0
    assert main(["data", "from-nnunet", "--data", str(out), "--out", str(tmp_path / "back.csv")]) == 0
    assert "5 cases (3 train, 1 val, 1 test) of 4 patients and 3 sites" in capsys.readouterr().out
    assert [case.case_id for case in read_manifest(tmp_path / "back.csv")] == [case.case_id for case in cases]
    assert main(["data", "to-nnunet", "--manifest", str(tmp_path / "manifest.csv"), "--out", str(out)]) == 2
    assert "the folder holds files; allowed is a new one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "name", "message"),
    [
        ({"lesion": 2}, "Dataset001_A", r"labels: found \{'lesion': 2\}; allowed are values 1, 2"),
        ({"background": 1}, "Dataset001_A", "and no background"),
        ({"lesion": 1}, "Task001_A", "the folder's name is 'Task001_A'; allowed are names like Dataset001_Lesions"),
    ],
)
def test_what_is_no_dataset(tmp_path: Path, cases: list[Case], labels: dict[str, int], name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_dataset(tmp_path / name, cases, labels)
    assert not (tmp_path / name).exists()


def damaged(case: Case, kind: str, folder: Path) -> Case:
    files: dict[str, object] = {"image": case.image, "truth": case.truth, "beside": case.beside}
    name = case.case_id
    if kind == "value":
        files["truth"] = write_nifti(folder / "value.nii.gz", lesion(3), OBLIQUE)
    elif kind == "point":
        (folder / "p.csv").write_text("image,x_lps,y_lps,z_lps\na1,-20,11,5\n", encoding="utf-8")
        files["truth"] = folder / "p.csv"
    elif kind == "none":
        files["truth"] = None
    elif kind == "nan":
        files["beside"] = {"ADC": write_nifti(folder / "nan.nii.gz", np.full(SHAPE, np.nan, np.float32), OBLIQUE)}
    elif kind == "channel":
        files["beside"] = {}
    elif kind == "name":
        name = "a/1"
    return Case(name, "a", "s", "train", label="significant", **files)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("value", InputError, r"case a1: truth value.nii.gz: found values \[3\]; named are"),
        ("point", InputError, "case a1: truth p.csv: found points or boxes; allowed are masks"),
        ("none", ConfigError, "case a1: truth is empty"),
        ("nan", InputError, "case a1: image nan.nii.gz: found 192 of 192 values that are not finite"),
        ("channel", ConfigError, "case a1: has no ADC; all cases of a dataset have the same channels"),
        ("name", ConfigError, "case 'a/1': allowed are letters"),
    ],
)
def test_a_case_that_fits_no_dataset_is_named(
    tmp_path: Path, cases: list[Case], kind: str, error: type[ImagingError], message: str
) -> None:
    bad = damaged(cases[0], kind, tmp_path)
    with pytest.raises(error, match=message):
        write_dataset(tmp_path / "Dataset001_A", [bad, cases[1]], {"lesion": 1})
    assert not (tmp_path / "Dataset001_A" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("modality", "no usable 'channel_names'; allowed is a file of nnU-Net v2"),
        ("count", "numTraining is 9; imagesTr has 4 cases"),
        ("channel", "case a1: found a1_0000.nii.gz in imagesTr; allowed is one file for each of the channels T2W, ADC"),
        ("label", "case a1: .*a1.nii.gz is not a file; a training case has a label"),
        ("fold", "cases.csv or fold 0 of splits_final.json lacks case c1"),
        ("json", "dataset.json: is no readable JSON"),
    ],
)
def test_a_dataset_that_contradicts_itself(tmp_path: Path, cases: list[Case], kind: str, message: str) -> None:
    folder = tmp_path / "Dataset007_Small"
    write_dataset(folder, cases, {"lesion": 1}, file_volumes("T2W"))
    described = folder / "dataset.json"
    text = described.read_text("utf-8")
    if kind == "modality":
        described.write_text(text.replace("channel_names", "modality"), encoding="utf-8")
    elif kind == "count":
        described.write_text(text.replace('"numTraining": 4', '"numTraining": 9'), encoding="utf-8")
    elif kind == "channel":
        (folder / "imagesTr" / "a1_0001.nii.gz").unlink()
    elif kind == "label":
        (folder / "labelsTr" / "a1.nii.gz").unlink()
    elif kind == "fold":
        (folder / "cases.csv").unlink()
        (folder / "splits_final.json").write_text('[{"train": ["a1", "a2", "b1"], "val": []}]', encoding="utf-8")
    else:
        described.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_dataset(folder)


def test_a_real_exam_round_trips(shared_data: Path, tmp_path: Path) -> None:
    """T2W of ProstateX-0001 with its ADC of 84 × 128 and the zones that PI-CAI publishes for it."""
    given = shared_data / "prostate_mri"
    exam, zones = given / "prostatex_0001", given / "labels" / "prostatex_0001" / "zones_ai_yuan23.nii.gz"
    case = Case("px1", "p", "RUMC", "train", exam / "s06_t2_tra", zones, beside={"ADC": exam / "s08_adc"})
    folder = tmp_path / "Dataset001_Zones"
    write_dataset(folder, [case], {"PZ": 1, "TZ": 2}, file_volumes("T2W"))
    [back] = read_dataset(folder)
    before, after = read_image(case.image), read_image(back.image)
    assert np.array_equal(after.array, before.array)
    assert np.allclose(after.grid.affine, before.grid.affine, atol=2e-5)
    stored = nibabel.load(folder / "labelsTr" / "px1.nii.gz")
    assert np.array_equal(np.asarray(stored.dataobj), np.asarray(nibabel.load(zones).dataobj))
    assert np.allclose(stored.affine, nibabel.load(zones).affine, atol=1e-3)
    assert read_image(back.beside["ADC"]).array.shape == (1, 19, 384, 384)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ({"background": 0, "lesion": 1, "ignore": 2}, "found an ignore label, ignore"),
        ({"background": 0, "whole": [1, 2], "lesion": 1}, "found regions, whole"),
        ({"background": 0, "lesion": 2}, "without a gap"),
        (["lesion"], "no usable labels"),
    ],
)
def test_labels_that_a_training_would_misread_are_refused(labels: object, match: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    with pytest.raises(ConfigError, match=match):
        dataset_labels(tmp_path)


def test_several_classes_come_back_by_name_in_the_order_of_their_values(tmp_path: Path) -> None:
    told = {"background": 0, "gland": 2, "lesion": 1}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": told}), encoding="utf-8")
    assert dataset_labels(tmp_path) == ["lesion", "gland"]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prostate studies of two makers, as README has them: `image` is the folder of the study."""
    return write_training_set(tmp_path_factory.mktemp("studies") / "cases", 2, 3)


def test_studies_become_channels_as_in_training_and_come_back(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "Dataset009_Own", tmp_path / "back.csv"
    assert main(["data", "to-nnunet", "--manifest", str(studies), "--out", str(out)]) == 0
    assert "every value of the truths is the one class lesion" in capsys.readouterr().out
    described = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert described["channel_names"] == {"0": "T2W", "1": "ADC", "2": "high b"}
    before = read_manifest(studies)
    [first, *_] = before
    trained = first_image(first, ProstateRecipe(roles=ROLES))
    stored = read_image(out / "imagesTr" / f"{first.case_id}_0000.nii.gz")
    np.testing.assert_array_equal(stored.array, trained.array)
    np.testing.assert_allclose(stored.grid.affine, trained.grid.affine, atol=1e-4)
    adc = read_image(out / "imagesTr" / f"{first.case_id}_0001.nii.gz")
    on_t2w = resample(trained.beside["ADC"].array[0], trained.beside["ADC"].grid, trained.grid)
    np.testing.assert_allclose(adc.array[0], on_t2w, rtol=1e-6)
    assert main(["data", "from-nnunet", "--data", str(out), "--out", str(back)]) == 0
    assert "--data.labels '[\"lesion\"]'" in capsys.readouterr().out
    for old, new in zip(before, read_manifest(back), strict=True):
        assert (new.case_id, new.patient_id, new.site, new.label) == (
            old.case_id, old.patient_id, old.site, old.label)  # fmt: skip
        assert list(new.beside) == ["ADC", "high b"]
        assert old.organ is not None
        assert new.organ is not None
        gland = np.asarray(nibabel.load(old.organ).dataobj) > 0
        np.testing.assert_array_equal(np.asarray(nibabel.load(new.organ).dataobj), gland)
        lesions = np.asarray(nibabel.load(old.known_truth).dataobj) > 0
        np.testing.assert_array_equal(np.asarray(nibabel.load(new.known_truth).dataobj), lesions)


def test_one_role_of_studies(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "to-nnunet", "--manifest", str(studies), "--out", str(tmp_path / "Dataset009_Own")]
    assert main([*words, "--role", "PET"]) == 2
    assert "case case-00001: prostate recipe, roles: found ('PET',); allowed is ('T2W', 'ADC', 'high b')" in (
        capsys.readouterr().err
    )
    shutil.rmtree(tmp_path / "Dataset009_Own")
    assert main([*words, "--role", "T2W", "--key", "t2"]) == 0
    described = json.loads((tmp_path / "Dataset009_Own" / "dataset.json").read_text(encoding="utf-8"))
    assert described["channel_names"] == {"0": "t2"}


def test_a_series_beside_may_be_a_folder_here_and_not_in_training(studies: Path, tmp_path: Path) -> None:
    """A conversion keeps stored values; a training needs their unit and b-value, which the whole study tells."""
    with studies.open(encoding="utf-8") as stream:
        row = next(csv.DictReader(stream))
    table = studies.parent / "series.csv"
    head = "case_id,patient_id,site,split,image,truth,image:ADC"
    table.write_text(f"{head}\nc,p,s,train,{row['t2w']},{row['truth']},{row['adc']}\n", encoding="utf-8")
    out = tmp_path / "Dataset009_Own"
    assert main(["data", "to-nnunet", "--manifest", str(table), "--out", str(out)]) == 0
    assert json.loads((out / "dataset.json").read_text(encoding="utf-8"))["channel_names"]["1"] == "ADC"
    [case] = read_manifest(table)
    with pytest.raises(ConfigError, match=r"case c: found DICOM, t2w_axial, with columns image:ADC; allowed is the"):
        first_image(case, ProstateRecipe(roles=("T2W", "ADC")))


def test_a_study_without_its_key_volume_is_named(studies: Path) -> None:
    with studies.open(encoding="utf-8") as stream:
        row = next(csv.DictReader(stream))
    case = Case("c", "p", "s", "train", studies.parent / row["adc"], None, "normal")
    with pytest.raises(InputError, match="adc: found no T2W among its series; the exam needs it"):
        first_image(case, ProstateRecipe())
