"""Duplicates among cases: one picture in any encoding, and one that only looks the same, across patients and splits."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from scipy import ndimage

from imaging.data.duplicates import (
    LEAST_LIKENESS,
    MAX_DISTANCE,
    Duplicate,
    find_duplicates,
    fingerprint,
    likeness,
    refuse_leaks,
)
from imaging.data.images import read_image
from imaging.data.manifest import Case, Split, join_manifests, read_manifest, write_manifest
from imaging.errors import ConfigError, OutputError
from imaging.image import Array
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from imaging.phantoms.ultrasound.dicom import LATIN, UltrasoundAcquisition, dataset, file_bytes
from tests.test_data_images import POSES, lps_affine, volume_values, write_mha, write_nifti, write_series


def scene(seed: int, rows: int = 180, columns: int = 240) -> Array:
    """A grainy picture with a few blobs: no two seeds look alike."""
    random = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(random.normal(size=(rows, columns)), 14) * 14
    fine = ndimage.gaussian_filter(random.normal(size=(rows, columns)), 3) * 3
    return np.clip(np.rint(110 + 60 * coarse + 40 * fine), 0, 255).astype(np.uint8)


def case(path: Path, patient: str, split: Split = "train", site: str = "A") -> Case:
    return Case(path.name, patient, site, split, path, path)


def save(path: Path, values: Array) -> Path:
    Picture.fromarray(values).save(path)
    return path


def compressed(values: Array, quality: int, folder: Path) -> Array:
    Picture.fromarray(values).save(folder / "again.jpg", quality=quality)
    with Picture.open(folder / "again.jpg") as picture:
        return np.asarray(picture)


def pairs(found: list[Duplicate]) -> list[tuple[str, str, str]]:
    return [(one.kind, one.first.case_id, one.second.case_id) for one in found]


def test_one_picture_in_another_encoding_is_identical(tmp_path: Path) -> None:
    values = scene(1)
    cases = [
        case(save(tmp_path / "grey.png", values), "p1"),
        case(save(tmp_path / "other.png", scene(2)), "p2"),
        case(save(tmp_path / "colour.png", np.stack([values] * 3, axis=-1)), "p3", site="B"),
        case(save(tmp_path / "deep.png", values.astype(np.uint16)), "p1"),
    ]
    found = find_duplicates(cases)
    assert pairs(found) == [
        ("identical", "grey.png", "colour.png"),
        ("identical", "grey.png", "deep.png"),
        ("identical", "colour.png", "deep.png"),
    ]
    assert [one.across for one in found] == [("patients", "sites"), (), ("patients", "sites")]


def test_one_volume_in_three_formats_is_identical(tmp_path: Path) -> None:
    """Another order of slices and rows is another order, not another volume."""
    values, lps = volume_values(), lps_affine(POSES["oblique"])
    turned = lps @ np.array([[-1.0, 0, 0, 4], [0, -1, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1]])
    cases = [
        case(write_nifti(tmp_path / "a.nii.gz", values, lps), "p1"),
        case(write_mha(tmp_path / "b.mha", np.ascontiguousarray(values[::-1, ::-1]), turned), "p2"),
        case(write_series(tmp_path / "c", values, lps), "p3"),
        case(write_nifti(tmp_path / "mirrored.nii.gz", np.ascontiguousarray(values[:, :, ::-1]), lps), "p4"),
    ]
    identical = [one for one in find_duplicates(cases) if one.kind == "identical"]
    assert pairs(identical) == [
        ("identical", "a.nii.gz", "b.mha"),
        ("identical", "a.nii.gz", "c"),
        ("identical", "b.mha", "c"),
    ]


CHANGES: dict[str, Callable[[Array, Path], Array]] = {
    "compressed": lambda v, folder: compressed(v, 30, folder),
    "scaled to two thirds": lambda v, _: np.asarray(Picture.fromarray(v).resize((160, 120))),
    "cropped by 3 % on each side": lambda v, _: v[5:-5, 7:-7],
    "cropped by 5 % at one corner": lambda v, _: v[9:, 12:],
    "shifted": lambda v, _: np.roll(v, (5, -7), (0, 1)),
    "brighter": lambda v, _: np.rint(255 * (v / 255) ** 0.7).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_picture_that_was_changed_a_little_is_near(change: Callable[[Array, Path], Array], tmp_path: Path) -> None:
    cases = [case(save(tmp_path / f"{seed}.png", scene(seed)), f"p{seed}") for seed in range(12)]
    cases += [case(save(tmp_path / f"{s}-changed.png", change(scene(s), tmp_path)), f"q{s}") for s in range(12)]
    found = find_duplicates(cases)
    assert sorted(pairs(found)) == sorted(("near", f"{s}.png", f"{s}-changed.png") for s in range(12))
    assert all(one.distance <= MAX_DISTANCE and one.likeness >= LEAST_LIKENESS for one in found)


def test_blank_pictures_are_one_only_when_they_are_equal(tmp_path: Path) -> None:
    black, white = np.zeros((20, 30), np.uint8), np.full((20, 30), 255, np.uint8)
    names = {"black": black, "black too": black, "white": white, "wide": np.zeros((20, 40), np.uint8)}
    cases = [case(save(tmp_path / f"{name}.png", values), name) for name, values in names.items()]
    assert pairs(find_duplicates(cases)) == [("identical", "black.png", "black too.png")]


def test_likeness_of_a_picture_with_itself_and_with_its_negative() -> None:
    small = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(64, 64)), 2)
    assert likeness(small, small) == pytest.approx(1.0, abs=1e-6)
    assert likeness(small, -small) < 0.5


def test_a_duplicate_on_two_sides_stops_training_and_says_what_to_do(tmp_path: Path) -> None:
    same = save(tmp_path / "a.png", scene(1))
    again = save(tmp_path / "b.png", scene(1))
    torn = find_duplicates([case(same, "p1", "train"), case(again, "p2", "test")])
    message = (
        "identical pictures across patients, splits: cases 'a.png' and 'b.png' .train and test.; give both the same"
    )
    with pytest.raises(ConfigError, match=message):
        refuse_leaks(torn)
    beside = find_duplicates([case(same, "p1", site="A"), case(again, "p2", site="B")])
    assert refuse_leaks(beside) == ["identical pictures across patients, sites: cases 'a.png' and 'b.png'"]
    with pytest.raises(ConfigError, match="train and test"):
        refuse_leaks(beside, frozenset({"B"}))
    assert refuse_leaks(torn, frozenset({"A"})) != []


@pytest.mark.shared_data
def test_pictures_of_one_lesion_in_a_real_set(shared_data: Path) -> None:
    """Of 52 pairs that `group_id` joins (frames of one lesion, not copies) 11 look the same; of 107 828 others none."""
    folder = shared_data / "ultrasound" / "busi"
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 465
    cases = [Case(r["case_id"], r["group_id"], "A", "train", folder / r["image"], folder / r["mask"]) for r in rows]
    found = find_duplicates(cases)
    assert (sum("patients" not in one.across for one in found), len(found)) == (11, 11)
    assert {one.kind for one in found} == {"near"}


def test_the_hash_is_of_what_is_seen(tmp_path: Path) -> None:
    """The same scene at half size and in 16 bits differs in few of 64 bits; another scene in about half of them."""
    first = fingerprint(read_image(save(tmp_path / "a.png", scene(1))))
    half = np.asarray(Picture.fromarray(scene(1)).resize((120, 90))).astype(np.uint16) * 200
    second = fingerprint(read_image(save(tmp_path / "b.png", half)))
    other = fingerprint(read_image(save(tmp_path / "c.png", scene(2))))
    assert first.bits is not None
    assert second.bits is not None
    assert other.bits is not None
    assert np.bitwise_count(first.bits ^ second.bits) <= 4
    assert np.bitwise_count(first.bits ^ other.bits) > MAX_DISTANCE


def test_a_table_from_a_spreadsheet(tmp_path: Path) -> None:
    """A byte order mark, as Excel writes it, is no part of the first column's name; Latin-1 is read as Windows-1252."""
    save(tmp_path / "a.png", scene(1))
    text = "case_id,patient_id,site,split,image,truth\nc1,p1,Zürich,train,a.png,a.png\n"
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8-sig")
    assert [one.site for one in read_manifest(path)] == ["Zürich"]
    path.write_text(text, encoding="latin-1")
    assert [one.site for one in read_manifest(path)] == ["Zürich"]


def write_table(folder: Path, spacing: str, columns: str = "label,spacing_mm") -> Path:
    """A table of one case with an absolute path of its image."""
    image = save(folder / "a.png", scene(1)).resolve()
    path = folder / "manifest.csv"
    row = ",".join(["c1,p1,s,train", str(image), "a.png", *(["benign", spacing] if columns else [])])
    path.write_text(
        f"case_id,patient_id,site,split,image,truth{',' * bool(columns)}{columns}\n{row}\n", encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(("text", "steps"), [("0.25", (0.25, 0.25)), ("0.1x0.2", (0.1, 0.2)), (" ", None)])
def test_a_case_may_have_a_label_and_a_spacing(text: str, steps: tuple[float, float] | None, tmp_path: Path) -> None:
    """0.1x0.2 is row step × column step; paths in the table may be absolute."""
    [found] = read_manifest(write_table(tmp_path, text))
    assert (found.label, found.spacing_mm, found.image) == ("benign", steps, (tmp_path / "a.png").resolve())


def test_a_table_without_the_optional_columns(tmp_path: Path) -> None:
    [found] = read_manifest(write_table(tmp_path, "", columns=""))
    assert (found.label, found.spacing_mm) == ("", None)


def test_an_exam_of_several_volumes(tmp_path: Path) -> None:
    """A study folder, or one file per role; a role that a case lacks stays empty."""
    first, adc, organ = (save(tmp_path / f"{name}.png", scene(1)) for name in ("t2", "adc", "gland"))
    cases = [
        Case("c1", "p1", "s", "train", first, adc, beside={"ADC": adc, "high b": first}, organ=organ),
        Case("c2", "p2", "s", "val", tmp_path, organ, beside={}),
    ]
    write_manifest(tmp_path / "manifest.csv", cases)
    assert read_manifest(tmp_path / "manifest.csv") == cases
    assert cases[0].files == (first, adc, first, organ, adc)
    header, *rows = (tmp_path / "manifest.csv").read_text("utf-8").splitlines()
    assert header.endswith("organ,image:ADC,image:high b")
    (tmp_path / "manifest.csv").write_text("\n".join([header, rows[0].replace("adc.png", "none.png")]), "utf-8")
    with pytest.raises(ConfigError, match=r"line 2: truth 'none\.png' is not a file"):
        read_manifest(tmp_path / "manifest.csv")


def test_a_written_table_is_read_as_the_same_cases(tmp_path: Path) -> None:
    """Files in the table's folder are named relative to it, others as they are; a file half written is none."""
    inside, outside = save(tmp_path / "a.png", scene(1)), save(tmp_path.parent / "written.png", scene(2))
    cases = [
        Case("c1", "p1", "Zürich", "train", inside, outside, "benign", (0.1, 0.25)),
        Case("c2", "p2", "s", "test", outside, inside),
        Case("c3", "p3", "s", "val", inside, None, "malignant"),
    ]
    write_manifest(tmp_path / "manifest.csv", cases)
    assert read_manifest(tmp_path / "manifest.csv") == cases
    assert (tmp_path / "manifest.csv").read_text("utf-8").splitlines()[1:] == [
        f"c1,p1,Zürich,train,a.png,{outside},benign,0.1x0.25,",
        f"c2,p2,s,test,{outside},a.png,,,",
        "c3,p3,s,val,a.png,,malignant,,",
    ]
    assert not list(tmp_path.glob("*.part"))
    before = (tmp_path / "manifest.csv").read_bytes()
    broken = (cases[0] if n == 0 else int("x") for n in range(2))
    with pytest.raises(ValueError, match="invalid literal"):
        write_manifest(tmp_path / "manifest.csv", broken)  # type: ignore[arg-type]
    assert (tmp_path / "manifest.csv").read_bytes() == before
    with pytest.raises(OutputError, match="allowed is a writable folder"):
        write_manifest(tmp_path / "gone" / "manifest.csv", cases)


def test_a_case_may_have_a_label_and_no_truth(tmp_path: Path) -> None:
    """Without a label nothing would be known of it; what needs a place is told which case has none."""
    save(tmp_path / "a.png", scene(1))
    path, head = tmp_path / "manifest.csv", "case_id,patient_id,site,split,image,truth,label"
    path.write_text(f"{head}\nc1,p1,s,train,a.png,a.png,\nc2,p2,s,train,a.png,,malignant\n", encoding="utf-8")
    first, second = read_manifest(path)
    assert (first.known_truth, second.truth) == (tmp_path / "a.png", None)
    with pytest.raises(ConfigError, match=r"case c2: truth is empty, .*name a mask .* or train a classification"):
        _ = second.known_truth
    path.write_text(f"{head}\nc1,p1,s,train,a.png, ,\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 2: no value for \['truth'\]; truth may be empty only where label"):
        read_manifest(path)
    path.write_text(f"{head}\nc1,p1,s,train,,a.png,benign\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 2: no value for \['image'\]$"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1x2x3", "0.1 x", "x", "0.1mm", "0.1x-0.2"])
def test_a_spacing_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"line 2: spacing_mm is '{text}'; allowed is one positive number of mm"):
        read_manifest(write_table(tmp_path, text))


def test_screens_of_one_scanner_are_no_copies_once_only_tissue_is_compared(tmp_path: Path) -> None:
    """Text, logo and frame of a scanner's screen are alike in every image; its tissue is not."""
    cases = []
    for seed in (4, 5):
        path = tmp_path / f"{seed}.dcm"
        path.write_bytes(file_bytes(dataset(UltrasoundAcquisition("C", LATIN, seed))))
        cases.append(Case(f"case-{seed}", f"patient-{seed}", "site", "train", path, path))
    assert [pair.kind for pair in find_duplicates(cases)] == ["near"]
    assert find_duplicates(cases, UltrasoundRecipe()) == []


def tables(tmp_path: Path, *cases: Case) -> list[Path]:
    """A manifest of each case, in a folder of its own, with a picture that is there."""
    paths = []
    for number, one in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        picture = save(folder / "a.png", scene(number, 20, 30))
        path = folder / "manifest.csv"
        write_manifest(path, [replace(one, image=picture, truth=picture)])
        paths.append(path)
    return paths


def test_tables_of_several_sites_become_one(tmp_path: Path) -> None:
    """Every case keeps its site and its files, wherever the joined table is written."""
    first, second = case(Path("a"), "p1"), case(Path("b"), "p2", "test", "B")
    out = tmp_path / "joined.csv"
    write_manifest(out, join_manifests(tables(tmp_path, first, second)))
    assert [(c.case_id, c.site, c.split, c.image) for c in read_manifest(out)] == [
        ("a", "A", "train", tmp_path / "0" / "a.png"),
        ("b", "B", "test", tmp_path / "1" / "a.png"),
    ]


def test_tables_that_contradict_each_other_are_not_joined(tmp_path: Path) -> None:
    same = case(Path("a"), "p1"), case(Path("a"), "p2", "train", "B")
    with pytest.raises(
        ConfigError, match=r"1.manifest.csv: case_id 'a' stands in .*0.manifest.csv too; allowed is once"
    ):
        join_manifests(tables(tmp_path, *same))
    (tmp_path / "torn").mkdir()
    torn = case(Path("a"), "p1"), case(Path("b"), "p1", "test", "B")
    with pytest.raises(ConfigError, match="'p1' stands at the sites A, B, in the splits test, train; allowed is one"):
        join_manifests(tables(tmp_path / "torn", *torn))


def test_a_patient_at_two_sites_is_told_when_tables_are_joined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    joined = join_manifests(tables(tmp_path, case(Path("a"), "p1"), case(Path("b"), "p1", "train", "B")))
    assert len(joined) == 2
    assert "patient_id 'p1' stands at the sites A, B" in caplog.text
