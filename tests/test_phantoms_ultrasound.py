"""Synthetic ultrasound: its physics, its geometry, its DICOM, and the samples that are committed."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.pixels import pixel_array
from scipy import ndimage

from imaging.errors import ConfigError, OutputError
from imaging.phantoms import export
from imaging.phantoms.ultrasound.bmode import CURVED_7, LINEAR_10, Scan, Sonogram, simulate, simulate_cine
from imaging.phantoms.ultrasound.dicom import (
    GREEK,
    JAPANESE,
    LATIN,
    NAMELESS,
    SWEDISH,
    Patient,
    UltrasoundAcquisition,
    dataset,
    file_bytes,
    screen,
    tissue_mask,
    truth,
)
from imaging.phantoms.ultrasound.planting import plant_lesion
from imaging.phantoms.ultrasound.screen import Layout
from imaging.phantoms.ultrasound.tissue import PlantedLesion
from tests.conftest import REPOSITORY, require_tool

SAMPLES = REPOSITORY / "data_samples"
PLAIN = Scan(LINEAR_10, 40.0, anatomy="homogeneous", looks=1, noise_db=-200.0)
DISC = PlantedLesion(-4.0, 17.0, 10.0, 8.0, irregularity=0.0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample export, written now."""
    folder = tmp_path_factory.mktemp("phantoms") / "pacs_export"
    export.write_export(folder)
    return folder


def relative_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def dicom_files(folder: Path) -> list[str]:
    """Every sound DICOM object of an export, the DICOMDIR apart."""
    names = [n for n in relative_files(folder) if (folder / n).read_bytes()[128:132] == b"DICM"]
    return [n for n in names if n not in export.BROKEN and n != "DICOMDIR"]


def reread(acquisition: UltrasoundAcquisition) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(file_bytes(dataset(acquisition))))


def mean_level(sonogram: Sonogram, x_mm: tuple[float, float], z_mm: tuple[float, float]) -> float:
    x, z = sonogram.scan.pixel_centres()
    box = (x > x_mm[0]) & (x < x_mm[1]) & (z > z_mm[0]) & (z < z_mm[1])
    return float(sonogram.pixels[box].mean())


# Physics


def test_speckle_is_fully_developed() -> None:
    """Rayleigh amplitude: mean / standard deviation = √(π / (4 − π)) = 1.91; independent looks raise it by √n."""
    single = simulate(PLAIN, 1).envelope[60:-60, 20:-20]
    assert single.mean() / single.std() == pytest.approx(1.913, abs=0.06)
    assert (single**2).mean() == pytest.approx(1.0, abs=0.15)
    three = simulate(replace(PLAIN, looks=3), 1).envelope[60:-60, 20:-20]
    assert three.mean() / three.std() == pytest.approx(1.913 * np.sqrt(3), abs=0.2)


def correlation_length(envelope: np.ndarray, axis: int) -> float:
    """Lag in samples at which the autocovariance of the envelope falls below one half, interpolated."""
    centred = envelope - envelope.mean()
    size = centred.shape[axis]
    lags = [
        float((np.take(centred, range(size - k), axis) * np.take(centred, range(k, size), axis)).mean())
        for k in range(40)
    ]
    below = next(k for k, value in enumerate(lags) if value < lags[0] / 2)
    return below - (lags[0] / 2 - lags[below]) / (lags[below - 1] - lags[below])


def test_speckle_is_wider_than_high_and_widens_away_from_the_focus() -> None:
    sonogram = simulate(PLAIN, 2)
    step, pitch = 40.0 / (sonogram.envelope.shape[0] - 1), 40.0 / (sonogram.envelope.shape[1] - 1)
    count = len(sonogram.envelope)
    focus, deep = (sonogram.envelope[int(a * count) : int(b * count)] for a, b in ((0.38, 0.52), (0.85, 0.99)))
    high, wide = correlation_length(focus, 0) * step, correlation_length(focus, 1) * pitch
    assert wide > 1.2 * high
    assert correlation_length(deep, 1) * pitch > 1.4 * wide
    assert correlation_length(deep, 0) * step == pytest.approx(high, rel=0.25)


@pytest.mark.parametrize(("posterior", "sign"), [("shadow", -1), ("enhancement", 1)])
def test_posterior_sign_is_where_physics_puts_it(posterior: str, sign: int) -> None:
    lesion = replace(DISC, posterior=posterior)
    sonogram = simulate(replace(PLAIN, noise_db=-78.0), 3, (lesion,))
    behind = mean_level(sonogram, (-6.5, -1.5), (24, 34))
    beside = mean_level(sonogram, (6.0, 11.0), (24, 34))
    above = mean_level(sonogram, (-6.5, -1.5), (4, 11)) - mean_level(sonogram, (6.0, 11.0), (4, 11))
    assert sign * (behind - beside) > 15
    assert abs(above) < 6
    assert mean_level(sonogram, (-7, -1), (15, 19)) < beside - 40


def test_noise_rises_with_depth_where_nothing_echoes() -> None:
    silent = PlantedLesion(0.0, 20.0, 300.0, 300.0, echo_db=-120.0, irregularity=0.0, posterior="none")
    sonogram = simulate(replace(PLAIN, noise_db=-78.0), 4, (silent,))
    assert mean_level(sonogram, (-15, 15), (33, 39)) > mean_level(sonogram, (-15, 15), (5, 15)) + 20


# Geometry


@pytest.mark.parametrize("probe", [LINEAR_10, CURVED_7], ids=["linear", "curved"])
def test_truth_lies_where_the_lesion_was_put(probe: object) -> None:
    """An ellipse at (−4, 17) mm, 10 × 8 mm: area π·5·4 = 62.8 mm², on pixels of 0.09 × 0.13 mm."""
    scan = replace(PLAIN, probe=probe, spacing_mm=(0.09, 0.13))
    sonogram = simulate(scan, 5, (DISC,))
    x, z = scan.pixel_centres()
    inside = sonogram.truth > 0
    assert sonogram.pixels.shape == sonogram.truth.shape == sonogram.fan.shape == scan.shape
    assert x[inside].mean() == pytest.approx(-4.0, abs=0.02)
    assert z[inside].mean() == pytest.approx(17.0, abs=0.02)
    assert inside.sum() * 0.09 * 0.13 == pytest.approx(62.8, rel=0.01)


@pytest.mark.parametrize("probe", [LINEAR_10, CURVED_7], ids=["linear", "curved"])
def test_echoes_lie_where_truth_says(probe: object) -> None:
    """The dark blob's own centroid, measured on the grey values, agrees with the outline."""
    scan = replace(PLAIN, probe=probe, spacing_mm=(0.09, 0.13), looks=8)
    lesion = replace(DISC, echo_db=-45.0, posterior="none")
    sonogram = simulate(scan, 6, (lesion,))
    x, z = scan.pixel_centres()
    near = np.hypot(x + 4, z - 17) < 8
    weight = near * np.clip(130.0 - sonogram.pixels.astype(float), 0, None)
    assert (weight * x).sum() / weight.sum() == pytest.approx(-4.0, abs=0.1)
    assert (weight * z).sum() / weight.sum() == pytest.approx(17.0, abs=0.1)


def test_curved_picture_is_black_outside_its_sector() -> None:
    sonogram = simulate(Scan(CURVED_7, 48.0, spacing_mm=(0.15, 0.15)), 7)
    assert not sonogram.pixels[~sonogram.fan].any()
    assert not sonogram.fan[0, sonogram.fan.shape[1] // 2]  # the face bulges downwards in the middle
    assert sonogram.fan[-1].sum() < sonogram.fan[len(sonogram.fan) // 2].sum()


def test_speckle_and_truth_move_together_in_a_clip() -> None:
    """The probe glides 1.1 mm at a quarter of the clip: one shift brings frame and outline back onto the first."""
    clip = simulate_cine(replace(PLAIN, spacing_mm=(0.1, 0.1)), 8, (DISC,), frames=4)
    first, moved = clip[0], clip[1]
    columns = [np.flatnonzero(f.truth.any(axis=0)).mean() for f in (first, moved)]
    rows = [np.flatnonzero(f.truth.any(axis=1)).mean() for f in (first, moved)]
    across, down = round(columns[0] - columns[1]), round(rows[0] - rows[1])
    assert across == 11
    assert down in (2, 3)
    still = first.pixels[230:360, 230:370].astype(float)
    back = moved.pixels[230 - down : 360 - down, 230 - across : 370 - across].astype(float)
    assert np.corrcoef(still.ravel(), back.ravel())[0, 1] > 0.9
    assert np.corrcoef(still.ravel(), moved.pixels[230:360, 230:370].astype(float).ravel())[0, 1] < 0.5


def test_planted_lesions_stay_inside_the_picture_and_vary() -> None:
    scan = Scan()
    lesions = [plant_lesion(scan, seed) for seed in range(60)]
    assert all(le.height_mm / 2 < le.z_mm < scan.depth_mm - 2 for le in lesions)
    assert all(abs(le.x_mm) < scan.probe.face_mm / 2 for le in lesions)
    assert {le.posterior for le in lesions} == {"shadow", "enhancement", "none"}
    assert max(le.width_mm for le in lesions) > 2 * min(le.width_mm for le in lesions)


def test_without_a_lesion_the_truth_is_empty_though_dark_spots_are_there() -> None:
    """Vessels, fat lobules and ligament shadows: half of the bodies hold something of half the usual level."""
    dark = 0
    for seed in (1, 2, 5, 7):
        sonogram = simulate(Scan(spacing_mm=(0.2, 0.2), looks=1), seed)
        assert not sonogram.truth.any()
        level = ndimage.gaussian_filter(sonogram.pixels.astype(float), 2)[30:125]
        dark += bool(level.min() < 0.5 * np.median(level))
    assert dark >= 2


# DICOM


VENDOR_CASES = {
    "A": ("RGB", "1.2.840.10008.1.2.1"),
    "B": ("YBR_FULL_422", "1.2.840.10008.1.2.4.50"),
    "C": ("PALETTE COLOR", "1.2.840.10008.1.2.1"),
    "D": ("MONOCHROME2", "1.2.840.10008.1.2.1"),
}


@pytest.mark.parametrize("vendor", VENDOR_CASES)
def test_each_vendor_stores_in_its_own_way(vendor: str) -> None:
    acquisition = UltrasoundAcquisition(vendor, seed=3, lesions="planted")
    ds = reread(acquisition)
    assert (ds.PhotometricInterpretation, ds.file_meta.TransferSyntaxUID) == VENDOR_CASES[vendor]
    assert ds.Manufacturer == f"Synthetic Vendor {vendor}"
    assert truth(acquisition).shape == (ds.Rows, ds.Columns) == tissue_mask(acquisition).shape
    assert ds.pixel_array.shape[:2] == (ds.Rows, ds.Columns)
    assert not (truth(acquisition).astype(bool) & ~tissue_mask(acquisition)).any()
    assert file_bytes(ds)[:128] == bytes(128)
    assert ds.LossyImageCompression == ("01" if vendor == "B" else "00")


def test_region_calibration_brings_the_truth_back_to_millimetres() -> None:
    """PhysicalDelta is centimetres per pixel (code 3), anisotropic for vendor B; the reference pixel is the face."""
    lesion = replace(DISC, seed=1)
    acquisition = UltrasoundAcquisition("B", seed=4, lesions=(lesion,))
    region = reread(acquisition).SequenceOfUltrasoundRegions[0]
    assert (region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection) == (3, 3)
    assert region.PhysicalDeltaX == pytest.approx(1.25 * region.PhysicalDeltaY)
    rows, columns = np.nonzero(truth(acquisition))
    left, right = region.RegionLocationMinX0, region.RegionLocationMaxX1
    x_mm = (columns.mean() - (left + right) / 2) * region.PhysicalDeltaX * 10
    z_mm = (rows.mean() + 0.5 - region.RegionLocationMinY0 - region.ReferencePixelY0) * region.PhysicalDeltaY * 10
    assert x_mm == pytest.approx(-4.0, abs=0.05)
    assert z_mm == pytest.approx(17.0, abs=0.05)


def test_layouts_write_the_regions_they_show() -> None:
    split = reread(
        UltrasoundAcquisition(seed=5, lesions=(DISC,), layout=Layout("split"), scan=PLAIN)
    ).SequenceOfUltrasoundRegions
    assert [(r.RegionSpatialFormat, r.RegionDataType) for r in split] == [(1, 1), (1, 1)]
    assert split[0].RegionLocationMaxX1 < split[1].RegionLocationMinX0
    duplex = reread(UltrasoundAcquisition(seed=5, layout=Layout("duplex"), scan=PLAIN)).SequenceOfUltrasoundRegions
    assert [(r.RegionSpatialFormat, r.RegionDataType) for r in duplex] == [(1, 1), (3, 3)]
    assert (duplex[1].PhysicalUnitsXDirection, duplex[1].PhysicalUnitsYDirection) == (4, 7)
    flow = reread(UltrasoundAcquisition(seed=5, layout=Layout("colour"), scan=PLAIN))
    assert [(r.RegionSpatialFormat, r.RegionDataType) for r in flow.SequenceOfUltrasoundRegions] == [(1, 1), (1, 2)]
    assert flow.UltrasoundColorDataPresent == 1
    saturation = np.ptp(flow.pixel_array.astype(int), axis=-1)
    box = flow.SequenceOfUltrasoundRegions[1]
    assert (saturation[box.RegionLocationMinY0 : box.RegionLocationMaxY1] > 100).sum() > 2000
    bare = reread(UltrasoundAcquisition(seed=5, layout=Layout(calibrated=False), scan=PLAIN))
    assert "SequenceOfUltrasoundRegions" not in bare
    assert "PixelSpacing" not in bare


def test_cine_is_multiframe_with_frame_time() -> None:
    acquisition = UltrasoundAcquisition("A", seed=6, lesions="planted", layout=Layout(frames=3), scan=PLAIN)
    ds = reread(acquisition)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.3.1"
    assert ds.FrameIncrementPointer == 0x00181063
    assert ds.FrameTime == 50
    assert truth(acquisition).shape == (3, ds.Rows, ds.Columns) == ds.pixel_array.shape[:3]
    assert (truth(acquisition)[0] != truth(acquisition)[1]).any()


def test_no_text_on_tissue_and_the_name_outside_it() -> None:
    shown = UltrasoundAcquisition("A", LATIN, 7, scan=PLAIN)
    hidden = replace(shown, layout=Layout(text=False))
    changed = (dataset(shown).pixel_array != dataset(hidden).pixel_array).any(axis=-1)
    assert changed.any()
    assert not (changed & tissue_mask(shown)).any()
    assert dataset(shown).BurnedInAnnotation == "YES"
    assert dataset(hidden).BurnedInAnnotation == "NO"


@pytest.mark.parametrize("patient", [LATIN, GREEK, JAPANESE, NAMELESS], ids=["ligature", "greek", "japanese", "empty"])
def test_names_survive_the_file(patient: Patient) -> None:
    ds = reread(UltrasoundAcquisition("D", patient, 8, scan=PLAIN))
    assert str(ds.PatientName) == patient.name
    assert ds.PatientID.startswith("PHANTOM-")


def test_names_use_the_bytes_that_their_character_set_prescribes() -> None:
    """PS3.5 H.3.1: Japanese components switch to JIS X 0208 with ESC 2/4 4/2 and back with ESC 2/8 4/2."""
    assert "Lecœur".encode() in file_bytes(dataset(UltrasoundAcquisition("D", LATIN, 8, scan=PLAIN)))
    assert "Ελένη".encode("iso8859_7") in file_bytes(dataset(UltrasoundAcquisition("D", GREEK, 8, scan=PLAIN)))
    assert b"\x1b$B" + "山田".encode("iso2022_jp")[3:-3] + b"\x1b(B" in file_bytes(
        dataset(UltrasoundAcquisition("D", JAPANESE, 8, scan=PLAIN))
    )
    assert JAPANESE.screen_name == "YAMADA, TAROU"
    assert LATIN.screen_name == "LECOEUR, ZOE"
    assert NAMELESS.screen_name == ""


def test_patient_orientation_and_anatomy_can_be_missing() -> None:
    assert not reread(UltrasoundAcquisition("D", seed=8, scan=PLAIN)).PatientOrientation
    assert "PatientOrientation" not in reread(UltrasoundAcquisition("D", seed=8, scan=PLAIN, orientation="absent"))
    assert "BodyPartExamined" not in reread(UltrasoundAcquisition("D", seed=8, scan=PLAIN, body_part=None))


# Exports


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def without_jpeg(content: bytes) -> bytes:
    """The object without what the JPEG encoder decides: its bytes may change from one Pillow version to the next."""
    ds = pydicom.dcmread(io.BytesIO(content))
    del ds.PixelData, ds.LossyImageCompressionRatio
    return file_bytes(ds)


def test_committed_samples_are_what_the_code_makes(fresh: Path) -> None:
    """File by file; JPEG without its code stream, whose bytes belong to the installed encoder."""
    committed = SAMPLES / "pacs_export"
    assert relative_files(committed) == relative_files(fresh)
    for name in relative_files(fresh):
        ours, theirs = (fresh / name).read_bytes(), (committed / name).read_bytes()
        if name in export.JPEG_CODED:
            ours, theirs = without_jpeg(ours), without_jpeg(theirs)
        assert digest(ours) == digest(theirs), f"{name}: write data_samples/pacs_export again (data_samples/README.md)"


def test_export_has_modest_size(fresh: Path) -> None:
    sizes = [(fresh / name).stat().st_size for name in relative_files(fresh)]
    assert max(sizes) < 2_000_000
    assert sum(sizes) < 8_000_000


def test_same_seed_same_bytes_and_another_seed_other_pixels() -> None:
    acquisition = UltrasoundAcquisition("C", JAPANESE, 9, "planted")
    first = file_bytes(dataset(acquisition))
    screen.cache_clear()
    assert file_bytes(dataset(acquisition)) == first
    other = dataset(replace(acquisition, seed=10))
    assert other.PixelData != dataset(acquisition).PixelData
    assert other.SOPInstanceUID != dataset(acquisition).SOPInstanceUID


@pytest.mark.conformance
def test_dciodvfy_finds_no_error(fresh: Path) -> None:
    validator = require_tool("dciodvfy")
    names = [*dicom_files(fresh), "DICOMDIR"]
    assert len(names) == 17
    for name in names:
        run = subprocess.run([validator, str(fresh / name)], capture_output=True, text=True, check=False)
        errors = [line for line in (run.stdout + run.stderr).splitlines() if "Error" in line]
        assert not errors, f"{name}: {errors}"


@pytest.mark.conformance
@pytest.mark.parametrize("vendor", VENDOR_CASES)
def test_dciodvfy_accepts_every_encoding_of_a_cine_and_unstated_anatomy(vendor: str, tmp_path: Path) -> None:
    validator = require_tool("dciodvfy")
    encoding = VENDOR_CASES[vendor][0]
    clip = UltrasoundAcquisition(
        vendor, NAMELESS, 4, layout=Layout(frames=2), encoding=encoding, body_part=None, scan=PLAIN
    )
    path = tmp_path / "clip.dcm"
    path.write_bytes(file_bytes(dataset(clip)))
    run = subprocess.run([validator, str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in run.stdout + run.stderr
    path.write_bytes(file_bytes(dataset(replace(clip, layout=Layout("colour")))))
    run = subprocess.run([validator, str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in run.stdout + run.stderr


def test_dicomdir_lists_every_object_and_its_offsets_lead_to_all_of_them(fresh: Path) -> None:
    """From the root's first record, through next-sibling and first-child offsets, to every referenced file."""
    root = pydicom.dcmread(fresh / "DICOMDIR")
    records = {item.seq_item_tell: item for item in root.DirectoryRecordSequence}
    levels = ("PATIENT", "STUDY", "SERIES", None)
    found = []

    def walk(offset: int, level: int) -> None:
        while offset:
            record = records[offset]
            if levels[level] is None:
                found.append("/".join(record.ReferencedFileID))
                assert record.DirectoryRecordType in {"IMAGE", "SR DOCUMENT"}
            else:
                assert record.DirectoryRecordType == levels[level]
                walk(record.OffsetOfReferencedLowerLevelDirectoryEntity, level + 1)
            offset = record.OffsetOfTheNextDirectoryRecord

    walk(root.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity, 0)
    objects = {*dicom_files(fresh), *export.BROKEN}
    assert sorted(found) == sorted(name for name in objects if not name.endswith(".dcm"))
    for name in found:
        assert name == name.upper()
        assert max(map(len, name.split("/"))) <= 8  # PS3.10 8.2


def test_broken_objects_have_sound_headers_and_unreadable_pixels(fresh: Path) -> None:
    cut, *noise = (pydicom.dcmread(fresh / name, stop_before_pixels=True) for name in export.BROKEN)
    assert [ds.PatientID for ds in (cut, *noise)] == [p.patient_id for p in (JAPANESE, JAPANESE, SWEDISH)]
    assert (fresh / export.BROKEN[0]).stat().st_size < cut.Rows * cut.Columns
    for name in export.BROKEN[1:]:
        with pytest.raises(RuntimeError, match="Unable to decode"):
            pixel_array(fresh / name, decoding_plugin="pillow")


def test_expected_outcomes_cover_every_ultrasound_study_and_stand_in_the_readme(fresh: Path) -> None:
    studies = {str(pydicom.dcmread(fresh / n).StudyInstanceUID) for n in dicom_files(fresh)}
    studies.add(str(pydicom.dcmread(fresh / export.BROKEN[1], stop_before_pixels=True).StudyInstanceUID))
    assert {e.study_uid for e in export.EXPECTED} == studies
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for e in export.EXPECTED:
        cells = (e.patient.patient_id, e.study, e.body_part, told(e.breast), told(e.head))
        assert f"| {' | '.join(map(str, cells))} |" in readme


def told(answer: export.ExpectedAnswer) -> str:
    applicable = answer.applicability == "applicable"
    return f"{answer.finding}, {answer.completeness}" if applicable else "not applicable"


def test_two_packages_together_meet_every_state() -> None:
    answers = {e.by(kind) for e in export.EXPECTED for kind in ("breast", "head")}
    states = {(a.finding, a.completeness) for a in answers if a != export.NOT_FOR_THIS}
    assert states == {("yes", "all"), ("yes", "some"), ("no", "all"), ("unknown", "some"), ("unknown", "none")}
    assert export.NOT_FOR_THIS in answers
    assert not any(e.breast != export.NOT_FOR_THIS and e.head != export.NOT_FOR_THIS for e in export.EXPECTED)


def test_an_export_is_never_written_over_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="empty folder"):
        export.write_export(tmp_path)
    assert relative_files(tmp_path) == ["mine.txt"]


def test_training_set_has_manifest_masks_and_whole_patients(tmp_path: Path) -> None:
    manifest = export.write_training_set(tmp_path / "set", cases=4, seed=3)
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == export.MANIFEST_COLUMNS["breast"]
    assert [r["site"] for r in rows] == list(export.SITES)
    for row in rows:
        ds = pydicom.dcmread(manifest.parent / row["image"])
        mask = np.asarray(Picture.open(manifest.parent / row["truth"]))
        assert mask.shape == (ds.Rows, ds.Columns)
        assert set(np.unique(mask)) <= {0, 255}
        assert (ds.PatientID, ds.InstitutionName) == (row["patient_id"], row["site"])
        assert (row["label"] == "normal") == (not mask.any())


def test_labels_follow_the_look_of_the_lesion() -> None:
    """Smooth without a shadow: benign. Irregular, or with a shadow: malignant. An image is called by its worst."""
    smooth = replace(DISC, posterior="enhancement", irregularity=0.03)
    kinds = [m.kind for m in (smooth, replace(smooth, posterior="shadow"), replace(smooth, irregularity=0.1))]
    assert kinds == ["benign", "malignant", "malignant"]
    lesions = [case.lesions[0].kind for *_, case in export.training_cases(200, seed=2) if case.lesions]
    assert 0.2 < lesions.count("benign") / len(lesions) < 0.4


def test_run_length_coding_keeps_every_pixel() -> None:
    plain = UltrasoundAcquisition("A", seed=5, scan=PLAIN)
    coded = reread(replace(plain, rle=True))
    assert coded.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert coded.SOPInstanceUID == dataset(plain).SOPInstanceUID
    assert np.array_equal(coded.pixel_array, dataset(plain).pixel_array)


def test_training_plan_keeps_patients_whole_and_balances_lesions() -> None:
    planned = export.training_cases(280, seed=1)
    homes: dict[str, set[str]] = {}
    for _, split, acquisition in planned:
        homes.setdefault(acquisition.patient.patient_id, set()).add(split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert sum(bool(a.lesions) for *_, a in planned) == pytest.approx(140, abs=4)
    for site in export.SITES:
        assert {split for s, split, _ in planned if s == site} == {"train", "val", "test"}
    with pytest.raises(ConfigError, match="1 or more"):
        export.training_cases(0, seed=1)
