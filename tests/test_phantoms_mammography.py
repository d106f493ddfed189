"""Synthetic mammography: its geometry, its physics, its truth, its DICOM in the manner of seven makers."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from imaging.commands import main
from imaging.data.manifest import read_manifest
from imaging.data.truth_table import ShapeTable, table_marks
from imaging.dicom.pixels.codecs import DECODERS, FrameFormat, announce
from imaging.dicom.pixels.frames import Frames
from imaging.errors import ConfigError, OutputError
from imaging.image import Grid
from imaging.phantoms import lossless_jpeg
from imaging.phantoms.mammography.body import Breast, BreastLesion, plant_breast_lesion, project
from imaging.phantoms.mammography.dicom import FOR_PRESENTATION, FOR_PROCESSING, mammogram
from imaging.phantoms.mammography.export import (
    MANIFEST_COLUMNS,
    SITES,
    MammographyExam,
    planted,
    sample_views,
    training_exams,
    write_samples,
    write_training_set,
)
from imaging.phantoms.mammography.makers import MAKERS, TRANSFER_SYNTAXES
from imaging.phantoms.mammography.tissue import power_law
from imaging.phantoms.mammography.tomosynthesis import height_mm, slice_heights_mm, slices_of, volume
from imaging.phantoms.mammography.view import (
    ViewAcquisition,
    breast_mask,
    exposed,
    nipple,
    padding_limit,
    patient_orientation,
    stored,
    truth,
)
from imaging.phantoms.ultrasound.dicom import file_bytes
from tests.conftest import require_tool
from tests.judges import run_tool

MASS = BreastLesion("L1", "L", 40.0, 15.0, 12.0, 14.0, solidity=1.0, seed=1)
"""40 mm behind the left nipple, in the upper outer quadrant: √(40² + 15² + 12²) = 44.37 mm away from it."""
COARSE = 0.8
PLAIN = ViewAcquisition("metaltronica", seed=3, lesions=(MASS,), density="a", pitch_mm=COARSE)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample exam of every maker, in coarse pixels."""
    folder = tmp_path_factory.mktemp("phantoms") / "mammography"
    assert len(write_samples(folder, pitch_mm=2.0)) == 7 * 24
    return folder


def white_high(view: ViewAcquisition) -> np.ndarray:
    """Stored values as float, dense tissue high."""
    values = stored(view).astype(float)
    return (1 << view.bits) - 1 - values if view.tones == "MONOCHROME1" else values


# Geometry


def test_a_point_keeps_its_distance_to_the_nipple_in_every_view() -> None:
    """By hand, CC: across = lateral = 15; (40, 15) has the length 42.72 and is stretched to 44.37."""
    depth, across = project(MASS.position_mm, "CC")[0]
    assert MASS.nipple_distance_mm == pytest.approx(44.37, abs=0.01)
    assert (depth, across) == pytest.approx((40 * 44.37 / 42.72, 15 * 44.37 / 42.72), abs=0.01)
    for projection in ("CC", "MLO", "ML", "LM", "XCCL"):
        assert np.linalg.norm(project(MASS.position_mm, projection)) == pytest.approx(44.37, abs=0.01)
    _, oblique = project(np.array([[40.0, 10.0, 10.0], [40.0, 10.0, -10.0]]), "MLO")
    assert oblique[1] == pytest.approx(0.0)  # a medial lower and a lateral upper half cancel at 45 degrees


def distance_mm(view: ViewAcquisition) -> list[float]:
    """From the nipple to the middle of each lesion's mask, measured on the file's pixels."""
    x, y = nipple(view)
    found = []
    for lesion in truth(view):
        rows, columns = np.nonzero(lesion.mask)
        found.append(view.spacing_mm * float(np.hypot(columns.mean() + 0.5 - x, rows.mean() + 0.5 - y)))
    return found


@pytest.mark.parametrize(("maker", "seed"), [("hologic", 1), ("siemens", 2), ("giotto", 6)])
def test_cc_and_mlo_show_a_lesion_at_the_same_distance_to_the_nipple(maker: str, seed: int) -> None:
    exam = MammographyExam(maker, seed=seed, lesions=planted(seed), pitch_mm=COARSE)
    for cc, mlo in (exam.views[::2], exam.views[1::2]):
        assert [t.lesion_id for t in truth(cc)] == [t.lesion_id for t in truth(mlo)]
        assert distance_mm(cc) == pytest.approx(distance_mm(mlo), abs=2.0)
        assert distance_mm(cc) == pytest.approx([t.nipple_distance_mm for t in truth(cc)], abs=2.0)
    assert sum(len(truth(view)) for view in exam.views) == 2 * len(exam.lesions)


@pytest.mark.parametrize("hanging", ["hung", "mirrored", "rotated"])
@pytest.mark.parametrize("side", ["L", "R"])
def test_orientation_says_where_the_chest_wall_lies(hanging: str, side: str) -> None:
    """PatientOrientation's first letter is where rows lead to: A, away from a chest wall on the left."""
    for projection, toes in (("CC", "R" if side == "L" else "L"), ("MLO", "FR" if side == "L" else "FL"), ("ML", "F")):
        view = replace(PLAIN, laterality=side, projection=projection, hanging=hanging)
        tissue = breast_mask(view)
        left = tissue[:, : tissue.shape[1] // 4].sum() > tissue[:, -(tissue.shape[1] // 4) :].sum()
        opposite = {"R": "L", "L": "R", "FR": "HL", "FL": "HR", "F": "H"}
        expected = ["A" if left else "P", opposite[toes] if hanging == "rotated" else toes]
        assert patient_orientation(view) == expected
        assert left == ((side == "L") == (hanging == "hung"))
        x, _ = nipple(view)
        assert (x > tissue.shape[1] / 4) == (x < 3 * tissue.shape[1] / 4)


def test_the_pectoral_muscle_is_a_triangle_in_mlo_alone() -> None:
    breast, heights = Breast("R", 4), np.array([140.0, 80.0, -40.0])
    assert not breast.pectoral("CC", heights).any()
    top, middle, low = breast.pectoral("MLO", heights)
    assert top > middle > low == 0
    assert (breast.pectoral("MLO", heights) < breast.reach("MLO", heights)).all()


# Truth


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("projection", ["CC", "MLO"])
def test_the_lesion_is_really_in_the_files_own_pixels(maker: str, projection: str) -> None:
    """Against the same woman without it: what changed lies in the box, and is denser there."""
    view = replace(PLAIN, vendor=maker, projection=projection)
    (found,) = truth(view)
    with_it, without = (
        pydicom.dcmread(io.BytesIO(file_bytes(mammogram(v)))) for v in (view, replace(view, lesions=()))
    )
    change = with_it.pixel_array.astype(float) - without.pixel_array
    change *= -1 if with_it.PhotometricInterpretation == "MONOCHROME1" else 1
    x0, y0, x1, y1 = found.box
    rows, columns = np.nonzero(found.mask)
    assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    outside = ~found.mask & breast_mask(view)
    assert change[found.mask].mean() > 0.03 * (1 << view.bits)
    assert change[found.mask].mean() > 8 * abs(change[outside].mean())
    middle = np.unravel_index(np.argmax(change), change.shape)
    assert (y0 <= middle[0] < y1, x0 <= middle[1] < x1) == (True, True)


def test_calcifications_shine_in_their_hull_and_only_there() -> None:
    cluster = BreastLesion("L2", "L", 45.0, 5.0, 0.0, 12.0, kind="calcifications", calcifications=15, seed=3)
    view = replace(PLAIN, pitch_mm=0.4, lesions=(cluster,))
    (found,) = truth(view)
    change = white_high(view) - white_high(replace(view, lesions=()))
    bright = change > 0.08 * (1 << view.bits)
    assert 5 <= bright.sum() < found.mask.sum()
    assert not (bright & ~found.mask).any()


def test_only_the_own_side_shows_a_lesion_and_no_lesion_means_no_truth() -> None:
    assert truth(replace(PLAIN, laterality="R")) == ()
    assert truth(replace(PLAIN, lesions=())) == ()
    assert [t.lesion_id for t in truth(PLAIN)] == ["L1"]
    assert truth(replace(PLAIN, special="mosaic-upper"))[0].box != truth(PLAIN)[0].box


def test_magnification_enlarges_the_box_and_not_the_millimetres() -> None:
    (plain,), (large,) = truth(PLAIN), truth(replace(PLAIN, special="magnification"))
    ds = mammogram(replace(PLAIN, special="magnification"))
    assert float(ds.EstimatedRadiographicMagnificationFactor) == 1.8
    assert large.mask.sum() / plain.mask.sum() == pytest.approx(1.8**2, rel=0.1)
    assert ds.ImagerPixelSpacing == [0.8, 0.8]
    assert ds.PixelSpacing == pytest.approx([0.8 / 1.8] * 2, abs=1e-5)
    modifiers = ds.ViewCodeSequence[0].ViewModifierCodeSequence
    assert [m.CodeMeaning for m in modifiers] == ["Magnification"]


def test_planted_lesions_lie_in_both_views_and_vary() -> None:
    lesions = [plant_breast_lesion(Breast("L", seed), "L1", seed) for seed in range(60)]
    assert all(Breast("L", n).holds(le, view) for n, le in enumerate(lesions) for view in ("CC", "MLO"))
    assert {le.kind for le in lesions} == {"mass", "calcifications"}
    assert 15 < sum(le.malignant for le in lesions) < 45
    assert all(bool(le.spicules) == le.malignant for le in lesions if le.kind == "mass")


# Physics


def test_texture_follows_its_power_law() -> None:
    """Power over frequency falls with the exponent that was asked for: slope in log-log −3."""
    noise = power_law([1], (512, 512), 3.0)
    power = np.abs(np.fft.fft2(noise * np.outer(np.hanning(512), np.hanning(512)))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    edges = np.geomspace(0.02, 0.3, 9)
    mean = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0]
    assert slope == pytest.approx(-3.0, abs=0.3)


def test_noise_is_that_of_counted_photons() -> None:
    """Two exposures of one scene differ by √2 times the square root of the count, in air."""
    first, second = (exposed(replace(PLAIN, seed=3, exposure=1, lesions=le)).exposure for le in ((), (MASS,)))
    assert np.abs(first - second)[-40:, -40:].max() < 1e-6  # the same noise with and without a lesion
    air = first[-60:, -60:]
    flat = air - air.mean(axis=0, keepdims=True)
    assert flat.std() == pytest.approx(np.sqrt(air.mean()), rel=0.15)


def test_more_gland_is_more_attenuation() -> None:
    levels = [exposed(replace(PLAIN, density=d, lesions=())) for d in "abcd"]
    log = [np.log(np.percentile(s.exposure, 99.5) / s.exposure[s.breast]).mean() for s in levels]
    assert log == sorted(log)


def test_raw_is_linear_and_high_in_air_and_presented_is_dark_there() -> None:
    raw, shown = replace(PLAIN, intent="processing"), PLAIN
    tissue = breast_mask(PLAIN)
    assert np.median(stored(raw)[~tissue]) > 5 * np.median(stored(raw)[tissue])
    assert np.median(white_high(shown)[~tissue]) < 0.02 * 65535 < np.median(white_high(shown)[tissue])
    assert (mammogram(raw).SOPClassUID, mammogram(shown).SOPClassUID) == (FOR_PROCESSING, FOR_PRESENTATION)
    assert [t.box for t in truth(raw)] == [t.box for t in truth(shown)]


# DICOM


@pytest.mark.parametrize("intent", ["presentation", "processing"])
@pytest.mark.parametrize("maker", MAKERS)
def test_every_coding_gives_back_each_pixel(maker: str, intent: str, tmp_path: Path) -> None:
    view = replace(PLAIN, vendor=maker, intent=intent, laterality="R", projection="MLO")
    path = tmp_path / "view.dcm"
    path.write_bytes(file_bytes(mammogram(view)))
    ds = pydicom.dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[view.maker.coding]
    assert ds.BitsStored == view.bits
    assert stored(view).max() < 1 << view.bits
    assert "(synthetic)" in ds.Manufacturer
    np.testing.assert_array_equal(Frames(path, path.name, False).read(0).array, stored(view))


def test_the_makers_cover_what_readers_must_know() -> None:
    assert {m.bits for m in MAKERS.values()} == {10, 12, 13, 14, 16}
    assert {m.tones for m in MAKERS.values()} == {"MONOCHROME1", "MONOCHROME2"}
    assert {m.voi for m in MAKERS.values()} == {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
    assert {m.coding for m in MAKERS.values()} == set(TRANSFER_SYNTAXES)
    assert {m.hanging for m in MAKERS.values()} == {"hung", "mirrored", "rotated"}
    ge = mammogram(replace(PLAIN, vendor="ge"))
    assert [item.LUTExplanation for item in ge.VOILUTSequence] == list(ge.WindowCenterWidthExplanation)
    assert (ge.VOILUTFunction, len(ge.WindowWidth)) == ("SIGMOID", 3)


@pytest.mark.parametrize("maker", ["planmed", "giotto"])
def test_padding_is_air_and_never_tissue(maker: str) -> None:
    view = replace(PLAIN, vendor=maker)
    ds, tissue = mammogram(view), breast_mask(view)
    low, high = sorted((ds.PixelPaddingValue, ds.PixelPaddingRangeLimit))
    padded = (stored(view) >= low) & (stored(view) <= high)
    assert high - low == padding_limit(view)
    assert not (padded & tissue).any()
    assert padded[~tissue].mean() > 0.98  # a marker is no padding


def test_a_window_opens_the_tissue() -> None:
    """Fat is dark grey, gland light grey: the middle half of the tissue uses a good part of the scale, unclipped."""
    for maker in MAKERS:
        ds = mammogram(replace(PLAIN, vendor=maker, density="c"))
        centre, width = np.atleast_1d(ds.WindowCenter)[0], np.atleast_1d(ds.WindowWidth)[0]
        values = stored(replace(PLAIN, vendor=maker, density="c"))[
            breast_mask(replace(PLAIN, vendor=maker, density="c"))
        ]
        shown = (values - (float(centre) - float(width) / 2)) / float(width)
        dark, light = np.percentile(shown, (5, 60))
        assert -0.2 < dark < light < 1.3, maker


def test_marker_and_name_lie_beside_the_breast() -> None:
    marked = replace(PLAIN, named=True)
    bare = replace(PLAIN, behaviour=replace(MAKERS["metaltronica"], marked=False))
    changed = stored(marked) != stored(bare)
    assert changed.any()
    assert not (changed & breast_mask(PLAIN)).any()
    assert (mammogram(marked).BurnedInAnnotation, mammogram(PLAIN).BurnedInAnnotation) == ("YES", "NO")


def test_implants_are_said_and_dense() -> None:
    shown, displaced = (replace(PLAIN, implant=how, density="b", lesions=()) for how in ("shown", "displaced"))
    assert mammogram(shown).BreastImplantPresent == "YES"
    modifiers = mammogram(displaced).ViewCodeSequence[0].ViewModifierCodeSequence
    assert [m.CodeMeaning for m in modifiers] == ["Implant Displaced"]
    dense = [(white_high(v) > 0.85 * 65535).sum() for v in (shown, displaced)]
    assert dense[0] > 3 * dense[1] > 0


def test_same_view_same_bytes_and_another_seed_other_pixels() -> None:
    view = replace(PLAIN, vendor="ge")
    first = file_bytes(mammogram(view))
    exposed.cache_clear()
    assert file_bytes(mammogram(view)) == first
    other = mammogram(replace(view, seed=4))
    assert other.PixelData != mammogram(view).PixelData
    assert other.SOPInstanceUID != mammogram(view).SOPInstanceUID
    repeat = replace(view, exposure=2)
    assert mammogram(repeat).SOPInstanceUID != mammogram(view).SOPInstanceUID
    assert mammogram(repeat).AcquisitionTime > mammogram(view).AcquisitionTime


@pytest.mark.parametrize("bits", [8, 10, 12, 13, 14, 16])
def test_lossless_jpeg_is_read_by_every_decoder(bits: int) -> None:
    top, syntax = (1 << bits) - 1, TRANSFER_SYNTAXES["jpeg"]
    noise = np.random.default_rng(bits).integers(0, top + 1, (33, 47))
    half = np.array([[0, min(32768, top), 0, top]] * 3)  # a difference of 32768 has no extra bits
    for array in (noise.astype("<u2"), half.astype("<u2")):
        form = FrameFormat(*array.shape, 1, 8 if bits == 8 else 16, bits, False, "MONOCHROME2")
        stream = lossless_jpeg.encode(array, bits)
        for decoder in DECODERS[syntax]:
            found = decoder.run(stream, form, announce(stream, form, syntax), syntax)
            np.testing.assert_array_equal(found.reshape(array.shape), array, err_msg=decoder.name)


def test_tomosynthesis_shows_a_lesion_best_at_its_height() -> None:
    heights = slice_heights_mm(PLAIN, 5)
    focus = int(np.argmin(np.abs(np.array(heights) - height_mm(PLAIN, MASS))))
    (found,) = truth(PLAIN)
    change = slices_of(PLAIN, 5).astype(float) - slices_of(replace(PLAIN, lesions=()), 5)
    levels = [frame[found.mask].mean() for frame in change]
    assert int(np.argmax(levels)) == focus
    assert min(levels) < 0.2 * max(levels)
    ds = pydicom.dcmread(io.BytesIO(file_bytes(volume(PLAIN, 5))))
    assert (ds.NumberOfFrames, ds.pixel_array.shape) == (5, change.shape)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.13.1.3"


@pytest.mark.conformance
def test_dciodvfy_finds_no_error_in_any_odd_view_and_any_maker(samples: Path) -> None:
    validator = require_tool("dciodvfy")
    every = sorted((samples / "images" / "hologic").iterdir())
    some = ("LCC", "raw_LCC", "RMLO", "magnification", "implant_displaced_LMLO", "tomosynthesis")
    for path in [*every, *(samples / "images" / m / f"{name}.dcm" for m in MAKERS if m != "hologic" for name in some)]:
        errors = [line for line in run_tool(validator, "-new", path).splitlines() if "Error" in line]
        assert not errors, f"{path.relative_to(samples)}: {errors}"


@pytest.mark.conformance
def test_dcentvfy_finds_every_study_consistent(samples: Path, tmp_path: Path) -> None:
    validator = require_tool("dcentvfy")
    for maker in MAKERS:
        everything = sorted((samples / "images" / maker).glob("*.dcm"))
        for implants in (False, True):
            said = run_tool(validator, *[path for path in everything if path.name.startswith("implant") == implants])
            assert not said.strip(), f"{maker}: {said}"
    broken = pydicom.dcmread(samples / "images/hologic/LCC.dcm")
    broken.PatientBirthDate = "19000101"
    broken.save_as(tmp_path / "broken.dcm")
    assert run_tool(validator, samples / "images/hologic/RCC.dcm", tmp_path / "broken.dcm").strip()


# On disk


def test_samples_hold_every_odd_view_and_its_boxes(samples: Path) -> None:
    names = {path.stem for path in (samples / "images" / "ge").iterdir()}
    assert names == {*sample_views("ge"), "tomosynthesis"}
    with (samples / "boxes.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["image"] for row in rows}) == 7 * 23
    assert {row["lesion"] for row in rows} == {"0", "L1", "R1"}
    for maker in MAKERS:
        shown = {row["image"]: row for row in rows if row["image"].endswith(f"{maker}/LMLO.dcm")}
        assert [row["label"] for row in shown.values()] == ["malignant"]


def test_training_set_is_read_by_what_trains(tmp_path: Path) -> None:
    manifest = write_training_set(tmp_path / "set", exams=2, seed=3, pitch_mm=1.0)
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == MANIFEST_COLUMNS
    assert [(row["laterality"], row["view"]) for row in rows[:4]] == [
        ("R", "CC"),
        ("L", "CC"),
        ("R", "MLO"),
        ("L", "MLO"),
    ]
    cases = read_manifest(manifest)
    assert len(cases) == 8
    for case, row in zip(cases, rows, strict=True):
        ds, mask = pydicom.dcmread(case.image), np.asarray(Picture.open(case.truth))
        assert mask.shape == (ds.Rows, ds.Columns)
        assert (ds.PatientID, ds.InstitutionName) == (row["patient_id"], row["site"])
        marks = table_marks(manifest.parent / "boxes.csv", Grid.plane(*mask.shape), ShapeTable(), row["image"])
        assert [mark.label for mark in marks] == ([] if row["label"] == "normal" else [row["label"]] * len(marks))
        covered = np.zeros(mask.shape, dtype=bool)
        for mark in marks:
            (top, left), (bottom, right) = mark.box.low, mark.box.high
            covered[int(top) : int(bottom), int(left) : int(right)] = True
        assert not (mask.astype(bool) & ~covered).any()
        assert bool(marks) == mask.any()


def test_training_plan_keeps_patients_whole_and_balances_labels() -> None:
    planned = training_exams(280, seed=1)
    assert len({exam.patient.patient_id for *_, exam in planned}) == 280
    for site in SITES:
        assert {split for s, split, _ in planned if s == site} == {"train", "val", "test"}
    first = [exam.lesions[0].malignant for *_, exam in planned if exam.lesions]
    assert len(first) == pytest.approx(140, abs=15)
    assert sum(first) / len(first) == pytest.approx(0.5, abs=0.12)
    assert {exam.density for *_, exam in planned} == set("abcd")


def test_the_command_writes_a_training_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert main(["phantoms", "training", str(out), "--kind", "mammography", "--cases", "1"]) == 0
    assert "manifest.csv" in capsys.readouterr().out
    sizes = [path.stat().st_size for path in out.rglob("*.dcm")]
    assert len(sizes) == 4
    assert max(sizes) < 1_000_000
    assert main(["phantoms", "mammography", str(out)]) == 2


# Refusals


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vendor 'kodak'; allowed are hologic"):
        ViewAcquisition("kodak")
    with pytest.raises(ConfigError, match="projection 'AP'; allowed are CC"):
        ViewAcquisition(projection="AP")
    with pytest.raises(ConfigError, match=r"pitch_mm 0\.01; allowed are 0\.07"):
        ViewAcquisition("hologic", pitch_mm=0.01)
    assert ViewAcquisition("hologic", pitch_mm=0.07).field.rows == 4096
    with pytest.raises(ConfigError, match="no For Processing"):
        ViewAcquisition(special="synthetic", intent="processing")
    with pytest.raises(ConfigError, match="diameter_mm 0"):
        replace(MASS, diameter_mm=0.0)
    with pytest.raises(ConfigError, match="without calcifications"):
        replace(MASS, kind="calcifications")
    with pytest.raises(ConfigError, match="behind the nipple"):
        replace(MASS, depth_mm=-3.0)
    with pytest.raises(ConfigError, match="slices 1; allowed is 2"):
        volume(PLAIN, 1)
    with pytest.raises(ConfigError, match="1 or more"):
        training_exams(0, seed=1)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="empty folder"):
        write_samples(tmp_path)
