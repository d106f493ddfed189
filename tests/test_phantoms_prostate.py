"""Synthetic prostate MRI: its geometry, its signals, its truth, its DICOM in the manner of four makers."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from scipy import ndimage

from imaging.commands import main
from imaging.dicom.index import build_index
from imaging.dicom.pixels.volume import Stack, find_stacks
from imaging.errors import ConfigError, OutputError
from imaging.image import LPS_TO_RAS
from imaging.phantoms.prostate import series as prostate_series
from imaging.phantoms.prostate.anatomy import Pelvis, ProstateLesion, with_lesions
from imaging.phantoms.prostate.dicom import objects
from imaging.phantoms.prostate.export import (
    FINDING_COLUMNS,
    MANIFEST_COLUMNS,
    SITES,
    sample_studies,
    training_studies,
    write_export,
    write_samples,
    write_training_set,
)
from imaging.phantoms.prostate.makers import MRI_MAKERS
from imaging.phantoms.prostate.planting import fits, plant_prostate_lesion, surface_points
from imaging.phantoms.prostate.series import BIPARAMETRIC, adc_map, diffusion_pictures, series_of, t2w_signal
from imaging.phantoms.prostate.signal import (
    Receiver,
    Slab,
    diffusion_weighted,
    fitted_adc,
    gland_labels,
    lesion_labels,
    received,
    sample,
    t2_weighted,
    zone_labels,
)
from imaging.phantoms.prostate.study import ProstateStudy, planted_lesions
from imaging.phantoms.ultrasound.dicom import file_bytes
from tests.conftest import REPOSITORY, require_tool
from tests.judges import run_tool

SEED = 5
SILENT = Receiver(noise=0.0)
PLAIN = ProstateStudy("siemens", seed=SEED, lesions=planted_lesions(SEED), coarseness=2.0)
OBLIQUE = ((0.96, 0.28, 0.0), (-0.28 * 0.8, 0.96 * 0.8, -0.6))
"""Two perpendicular unit vectors: 0.96² + 0.28² = 1 and 0.8² + 0.6² = 1."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample studies in coarse pixels."""
    folder = tmp_path_factory.mktemp("phantoms") / "prostate"
    assert len(write_samples(folder, coarseness=4.0)) == 1340
    return folder


def volumes(folder: Path) -> list[Stack]:
    """Every volume below a folder, as the package reads it."""
    instances = [instance for series in build_index(folder).series for instance in series.instances]
    found = find_stacks(instances)
    refused = [str(stack) for stack in found if not isinstance(stack, Stack)]
    assert not refused
    return [stack for stack in found if isinstance(stack, Stack)]


def written(study: ProstateStudy, folder: Path, *wanted: str) -> Path:
    for name, ds in objects(study, wanted or None):  # type: ignore[arg-type]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file_bytes(ds))
    return folder


def made(study: ProstateStudy, *wanted: str) -> dict[str, list[FileDataset]]:
    """The objects of a study by folder."""
    found = defaultdict(list)
    for name, ds in objects(study, wanted or None):  # type: ignore[arg-type]
        found[name.split("/")[0]].append(ds)
    return found


# Anatomy


@pytest.mark.parametrize(
    "directions", [((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), OBLIQUE]
)
def test_a_lesion_lies_where_it_says_in_every_orientation(directions: tuple[tuple[float, ...], ...]) -> None:
    """The mean of its voxel centres, in millimetres of the patient, at 0.4 mm."""
    (lesion,) = PLAIN.lesions
    x, y, z = lesion.centre_mm
    slab = Slab((x + 1.3, y - 0.7, z + 0.4), *directions, (0.4, 0.4), 0.4, 0.4, (60, 60, 60))  # type: ignore[arg-type]
    found = lesion_labels(PLAIN.pelvis, slab)
    places = slab.lps[:3] @ np.vstack([np.argwhere(found).T, np.ones(found.sum())])
    assert places.mean(axis=1) == pytest.approx(lesion.centre_mm, abs=0.1)
    volume = 4 / 3 * np.pi * np.prod(lesion.radii_mm)
    assert found.sum() * 0.4**3 == pytest.approx(volume, rel=0.02)


def test_a_slab_is_placed_by_hand() -> None:
    """Two slices 4 mm apart, rows 2 mm and columns 1 mm: the first voxel lies half of it all from the middle."""
    slab = Slab((10.0, 20.0, 30.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (2.0, 1.0), 3.0, 4.0, (2, 3, 5))
    assert slab.corner_mm(0) == pytest.approx([10 - 2, 20 - 2, 30 - 2])
    assert slab.points_mm(1)[:, 2, 4] == pytest.approx([12, 22, 32])


def test_surfaces_are_exact_and_distances_close() -> None:
    pelvis = PLAIN.pelvis
    (lesion,) = pelvis.lesions
    assert np.abs(lesion.shape.distance(surface_points(lesion))).max() < 1e-9
    ball = ProstateLesion("B", "PZ", (0.0, 0.0, 0.0), (5.0, 5.0, 5.0)).shape
    assert ball.distance(np.array([[0.0, 4.0, 7.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])) == pytest.approx([-5, -1, 2])


def test_zones_fill_the_gland_and_lesions_lie_in_theirs() -> None:
    slab = PLAIN.t2w_slab
    gland, zones = gland_labels(PLAIN.pelvis, slab), zone_labels(PLAIN.pelvis, slab)
    assert ((zones > 0) == (gland > 0)).all()
    volume_ml = gland.sum() * slab.step_mm * np.prod(slab.pitch_mm) / 1000
    assert 25 < volume_ml < 80
    assert set(np.unique(zones)) == {0, 1, 2}
    found = lesion_labels(PLAIN.pelvis, slab) > 0
    assert not (found & (gland == 0)).any()
    wanted = 1 if PLAIN.lesions[0].zone == "PZ" else 2
    assert (zones[found] == wanted).mean() > 0.6


def test_planted_lesions_fit_and_vary() -> None:
    found = []
    for seed in range(40):
        pelvis = Pelvis(seed)
        first = plant_prostate_lesion(pelvis, "L1", seed)
        second = plant_prostate_lesion(with_lesions(pelvis, first), "L2", seed + 1000)
        assert fits(pelvis, first)
        assert fits(with_lesions(pelvis, first), second)
        found.append(first)
    assert all(400 <= lesion.adc <= 900 for lesion in found)
    assert {lesion.zone for lesion in found} == {"PZ", "TZ"}
    assert {lesion.isup for lesion in found} == {1, 2, 3, 4, 5}
    low, high = ([le.adc for le in found if (le.isup >= 4) == grave] for grave in (True, False))
    assert np.mean(low) < np.mean(high)


# Signals


def test_adc_of_silent_pictures_is_the_planted_one() -> None:
    """Away from borders, deep in a lesion and in the peripheral zone but for the urethra; texture cancels."""
    slab, pelvis, b = PLAIN.t2w_slab, PLAIN.pelvis, (50.0, 400.0, 800.0)
    fitted = fitted_adc(sample(pelvis, slab, [diffusion_weighted(value) for value in b]), b, 1e-3)
    (lesion,) = pelvis.lesions
    depth = np.stack([lesion.shape.distance(slab.points_mm(k)) for k in range(slab.shape[0])])
    assert (depth < -2.5).sum() > 3
    assert fitted[depth < -2.5] == pytest.approx(lesion.adc, abs=0.01)
    outer = np.stack([pelvis.gland.distance(slab.points_mm(k)) for k in range(slab.shape[0])])
    inner = np.stack([pelvis.transition_zone.distance(slab.points_mm(k)) for k in range(slab.shape[0])])
    zone = (outer < -3) & (inner > 3) & (depth > 3)
    assert zone.sum() > 20
    assert (np.abs(fitted[zone] - pelvis.peripheral.adc) < 0.01).mean() > 0.97
    assert 1200 <= pelvis.peripheral.adc <= 1800


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_every_plane_shows_the_same_man(plane: str) -> None:
    """The axial picture, looked up where the voxels of another plane lie, is that plane's picture."""
    study = replace(PLAIN, receiver=SILENT)
    other = {"sagittal": study.sagittal_slab, "coronal": study.coronal_slab}[plane]
    axial, shown = t2w_signal(study, "axial"), t2w_signal(study, plane)  # type: ignore[arg-type]
    middle = other.points_mm(8).reshape(3, -1)
    places = np.linalg.inv(study.t2w_slab.lps) @ np.vstack([middle, np.ones(middle.shape[1])])
    looked_up = ndimage.map_coordinates(axial, places[:3], order=1, cval=np.nan).reshape(shown[8].shape)
    gland = study.pelvis.gland.distance(other.points_mm(8)) < 8
    both = np.isfinite(looked_up) & gland
    assert both.sum() > 300
    assert np.corrcoef(looked_up[both], shown[8][both])[0, 1] > 0.9


def test_borders_are_softened_over_a_slice() -> None:
    """A slice that halves a lesion shows about half of its contrast."""
    lesion = ProstateLesion("L1", "PZ", PLAIN.pelvis.centre_mm, (9.0, 9.0, 9.0), adc=500, t2_ms=60)
    pelvis = with_lesions(PLAIN.pelvis, lesion)
    x, y, z = lesion.centre_mm
    shares = []
    for up in (0.0, 9.0, 14.0):
        slab = Slab((x, y, z + up), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0), 6.0, 6.0, (1, 3, 3))
        with_it, without = (sample(man, slab, [t2_weighted])[0, 0, 1, 1] for man in (pelvis, PLAIN.pelvis))
        shares.append(abs(with_it - without))
    assert shares[0] > shares[1] > shares[2] == 0


def test_noise_is_rician() -> None:
    """Without signal the mean is σ√(π/2); with much of it, the noise is σ itself."""
    size = (1, 200, 200)
    dark = received(np.zeros(size), np.ones(size), Receiver(noise=0.02), [1])
    bright = received(np.ones(size), np.ones(size), Receiver(noise=0.02), [2])
    assert dark.mean() == pytest.approx(0.02 * np.sqrt(np.pi / 2), rel=0.02)
    assert bright.std() == pytest.approx(0.02, rel=0.03)


def test_a_lesion_is_dark_on_the_scanners_adc_and_bright_on_high_b() -> None:
    for vendor, maker in MRI_MAKERS.items():
        study = replace(PLAIN, vendor=vendor, coarseness=1.0, receiver=replace(maker.receiver, distortion_mm=0.0))
        (lesion,), slab = study.lesions, study.dwi_slab
        depth = np.stack([lesion.shape.distance(slab.points_mm(k)) for k in range(slab.shape[0])])
        zones = zone_labels(study.pelvis, slab)
        normal = (zones == 1) & (depth > 3)
        assert np.median(adc_map(study)[depth < -1.5]) == pytest.approx(lesion.adc, rel=0.12)
        assert np.median(adc_map(study)[normal]) > 1.5 * lesion.adc
        high = diffusion_pictures(study)[-1]
        assert np.median(high[depth < -1.5]) > 1.15 * np.median(high[normal])


def test_distortion_moves_the_gland_beside_gas_and_not_the_truth() -> None:
    true = replace(PLAIN, receiver=SILENT)
    bent = replace(PLAIN, receiver=replace(SILENT, distortion_mm=4.0))
    change = np.abs(diffusion_pictures(bent)[0] - diffusion_pictures(true)[0])
    away = np.stack([true.pelvis.gas.distance(true.dwi_slab.points_mm(k)) for k in range(true.dwi_slab.shape[0])])
    assert change[away < 10].mean() > 20 * change[away > 45].mean()
    assert (gland_labels(bent.pelvis, bent.t2w_slab) == gland_labels(true.pelvis, true.t2w_slab)).all()


# DICOM


@pytest.mark.parametrize(
    ("vendor", "form"),
    [*((vendor, "classic") for vendor in MRI_MAKERS), ("philips", "enhanced"), ("siemens", "mosaic")],
)
def test_volumes_are_read_back_where_they_were_made(vendor: str, form: str, tmp_path: Path) -> None:
    study = replace(PLAIN, vendor=vendor, form=form, coarseness=4.0)
    for key in ("t2w_axial", "t2w_sagittal", "t2w_coronal", "dwi", "adc"):
        made_ones = [volume for series in series_of(study, (key,)) for volume in series.volumes]  # type: ignore[arg-type]
        stacks = volumes(written(study, tmp_path / key, key))
        assert len(stacks) == len(made_ones)
        read = sorted((stack.read() for stack in stacks), key=lambda image: -image.array.astype(float).sum())
        made_ones.sort(key=lambda volume: -(volume.stored * volume.slope).sum())
        for image, volume in zip(read, made_ones, strict=True):
            assert image.grid.shape == volume.slab.shape
            np.testing.assert_allclose(image.grid.affine, LPS_TO_RAS @ volume.slab.lps, atol=2e-5)
            np.testing.assert_allclose(image.array[0], volume.stored * volume.slope, rtol=1e-5)


def test_orientations_are_what_they_are_called() -> None:
    for vendor in MRI_MAKERS:
        study = replace(PLAIN, vendor=vendor)
        slabs = (study.sagittal_slab, study.coronal_slab, study.t2w_slab, study.dwi_slab)
        assert [int(np.argmax(np.abs(slab.normal))) for slab in slabs] == [0, 1, 2, 2]
    tilt = np.degrees(np.arccos(abs(PLAIN.t2w_slab.normal[2])))
    assert 5 < tilt < 20
    assert replace(PLAIN, vendor="philips").dwi_slab.normal == pytest.approx([0, 0, 1])
    rows, columns = replace(PLAIN, vendor="canon").dwi_slab.pitch_mm
    assert rows != columns


def test_b_values_stand_where_each_maker_writes_them() -> None:
    found = {vendor: made(replace(PLAIN, vendor=vendor, coarseness=4.0), "dwi") for vendor in MRI_MAKERS}
    siemens = found["siemens"]["dwi"]
    assert [int(ds[0x0019, 0x100C].value) for ds in siemens[::18]] == [50, 400, 800]
    assert siemens[0][0x0019, 0x0010].value == "SIEMENS MR HEADER"
    assert siemens[-1].SequenceName == "*ep_b800t"
    ge = found["ge"]["dwi"]
    assert [int(ds[0x0043, 0x1039].value[0]) for ds in ge[::18]] == [1000000050, 1000000800, 1000001400]
    philips = found["philips"]["dwi"]
    assert [ds[0x2001, 0x1103].value for ds in philips[:5]] == [0.0, 100.0, 800.0, 1500.0, 0.0]
    assert (0x2001, 0x1003) not in philips[0]
    assert philips[0].private_block(0x2001, "Philips Imaging DD 001")[0x03].value == 0.0
    canon = found["canon"]
    assert [canon[f"dwi_{k}"][0].DiffusionBValue for k in (1, 2, 3)] == [0.0, 1000.0, 1500.0]
    for vendor in ("siemens", "ge", "philips"):
        assert "DiffusionBValue" not in found[vendor]["dwi"][0]


def test_enhanced_says_the_b_value_and_the_unit_of_each_frame() -> None:
    study = replace(PLAIN, vendor="philips", form="enhanced", coarseness=4.0)
    (dwi,), (adc,) = (made(study, key)[key] for key in ("dwi", "adc"))
    values = [item.MRDiffusionSequence[0].DiffusionBValue for item in dwi.PerFrameFunctionalGroupsSequence]
    assert values == [0.0, 100.0, 800.0, 1500.0] * 18
    real = adc.PerFrameFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (real.MeasurementUnitsCodeSequence[0].CodeValue, real.RealWorldValueSlope) == ("um2/s", 1.0)
    assert adc.ImageType[3] == "ADC"


@pytest.mark.parametrize(("vendor", "scale"), [("siemens", 1), ("ge", 1), ("philips", 1e3), ("canon", 1e6)])
def test_adc_maps_come_in_the_makers_unit(vendor: str, scale: float, tmp_path: Path) -> None:
    study = replace(PLAIN, vendor=vendor, coarseness=4.0)
    (stack,) = volumes(written(study, tmp_path, "adc"))
    found = stack.read().array[0].astype(float) * scale
    np.testing.assert_allclose(found, np.rint(adc_map(study)), rtol=1e-5)


def test_instance_numbers_follow_the_makers_order() -> None:
    places = {}
    for vendor in MRI_MAKERS:
        study = replace(PLAIN, vendor=vendor, coarseness=4.0)
        found = made(study, "t2w_axial")["t2w_axial"]
        assert [int(ds.InstanceNumber) for ds in found] == list(range(1, 19))
        depths = [np.array(ds.ImagePositionPatient, float) @ study.t2w_slab.normal for ds in found]
        places[vendor] = np.argsort(np.argsort(depths)).tolist()
    assert places["siemens"] == list(range(18))
    assert places["ge"] == list(range(17, -1, -1))
    assert places["philips"] == [*range(0, 18, 2), *range(1, 18, 2)]


def test_a_lost_slice_is_refused_and_two_acquisitions_are_told_apart(tmp_path: Path) -> None:
    lost = written(replace(PLAIN, oddity="missing", coarseness=4.0), tmp_path / "lost", "t2w_axial")
    instances = build_index(lost).series[0].instances
    assert len(instances) == 17
    assert "is a slice missing?" in str(find_stacks(instances)[0])
    twice = volumes(written(replace(PLAIN, oddity="doubled", coarseness=4.0), tmp_path / "twice", "t2w_axial"))
    assert [stack.facts for stack in twice] == [{"AcquisitionNumber": "1"}, {"AcquisitionNumber": "2"}]
    again = made(replace(PLAIN, oddity="repeated", coarseness=4.0), "t2w_axial", "t2w_repeat")
    first, second = again["t2w_axial"][0], again["t2w_repeat"][0]
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert (first.SeriesDescription, first.ImagePositionPatient) == (
        second.SeriesDescription,
        second.ImagePositionPatient,
    )
    assert first.PixelData != second.PixelData


def test_whole_studies_hold_what_must_not_be_chosen(samples: Path) -> None:
    for vendor, maker in MRI_MAKERS.items():
        found = defaultdict(list)
        for path in sorted((samples / "images" / vendor / "routine").rglob("*.dcm")):
            found[path.parent.name].append(pydicom.dcmread(path, stop_before_pixels=True))
        keys = {folder.rstrip("_0123456789") for folder in found}
        assert {"localiser", "calculated", "fa", "dynamic", "subtraction"} <= keys
        assert ("dti" in keys) == (vendor == "siemens")
        assert ("exponential" in keys) == (vendor == "ge")
        for one in found.values():
            assert "phantom" in one[0].SeriesDescription.lower()
            assert one[0].Manufacturer == maker.manufacturer
            assert "(synthetic)" in one[0].Manufacturer
        derived = {folder for folder, one in found.items() if one[0].ImageType[0] == "DERIVED"}
        assert {"adc", "calculated", "fa", "subtraction"} <= derived
        assert len({ds.SOPInstanceUID for one in found.values() for ds in one}) == sum(map(len, found.values()))


def test_same_study_same_bytes_and_another_seed_other_pixels() -> None:
    study = replace(PLAIN, vendor="ge", coarseness=4.0)
    first = [(name, file_bytes(ds)) for name, ds in objects(study, BIPARAMETRIC)]
    prostate_series.diffusion_pictures.cache_clear()
    prostate_series.t2w_signal.cache_clear()
    assert [(name, file_bytes(ds)) for name, ds in objects(study, BIPARAMETRIC)] == first
    other = made(replace(study, seed=SEED + 1), "adc")["adc"][9]
    mine = made(study, "adc")["adc"][9]
    assert other.PixelData != mine.PixelData
    assert other.SOPInstanceUID != mine.SOPInstanceUID


@pytest.mark.conformance
def test_dciodvfy_finds_no_error_in_any_kind_of_object(samples: Path) -> None:
    validator = require_tool("dciodvfy")
    for folder in sorted({path.parent for path in samples.rglob("*.dcm")}):
        path = max(folder.iterdir())
        errors = [line for line in run_tool(validator, "-new", path).splitlines() if "Error" in line]
        assert not errors, f"{path.relative_to(samples)}: {errors}"


@pytest.mark.conformance
def test_dcentvfy_finds_every_study_consistent(samples: Path, tmp_path: Path) -> None:
    validator = require_tool("dcentvfy")
    studies = sorted((samples / "images").glob("*/*"))
    assert len(studies) == 9
    for study in studies:
        said = run_tool(validator, *sorted(study.rglob("*.dcm")))
        assert not said.strip(), f"{study.name}: {said[:300]}"
    broken = pydicom.dcmread(samples / "images/ge/routine/adc/0001.dcm")
    broken.PatientBirthDate = "19000101"
    broken.save_as(tmp_path / "broken.dcm")
    assert run_tool(validator, samples / "images/ge/routine/adc/0002.dcm", tmp_path / "broken.dcm").strip()


# On disk


def test_samples_hold_label_maps_on_the_grid_of_t2w(samples: Path) -> None:
    with (samples / "findings.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == FINDING_COLUMNS
    assert len(rows) == 4 * 2 + 5
    studies = sample_studies(coarseness=4.0)
    for name in ("siemens/routine", "philips/enhanced", "canon/routine"):
        study = studies[name]
        (stack,) = volumes(samples / "images" / name / "t2w_axial")
        maps = {
            kind: nibabel.load(samples / "truth" / name / f"{kind}.nii.gz") for kind in ("gland", "zones", "lesions")
        }
        for image in maps.values():
            assert image.shape == stack.grid.shape[::-1]
            np.testing.assert_allclose(image.affine[:, [2, 1, 0, 3]], stack.grid.affine, atol=2e-5)
        gland = np.asarray(maps["gland"].dataobj)
        places = maps["gland"].affine @ np.append(np.argwhere(gland).mean(axis=0), 1)
        assert np.linalg.norm(places[:3] * [-1, -1, 1] - study.pelvis.centre_mm) < 4
        lines = [row for row in rows if row["case_id"] == name]
        for row, lesion in zip(lines, study.lesions, strict=True):
            centre = [float(row[key]) for key in ("x_mm", "y_mm", "z_mm")]
            assert centre == pytest.approx(lesion.centre_mm)
            voxel = np.rint(np.linalg.inv(maps["lesions"].affine) @ [-centre[0], -centre[1], centre[2], 1])
            assert maps["lesions"].dataobj[tuple(voxel[:3].astype(int))] == int(row["lesion"])


def test_training_set_names_its_series_and_truth(tmp_path: Path) -> None:
    manifest = write_training_set(tmp_path / "set", cases=4, seed=3, coarseness=4.0)
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == MANIFEST_COLUMNS
    assert [row["site"] for row in rows] == list(SITES)
    for row in rows:
        for key in ("t2w", "dwi", "adc"):
            for folder in row[key].split(";"):
                assert list((manifest.parent / folder).glob("*.dcm"))
        lesions = np.asarray(nibabel.load(manifest.parent / row["truth"]).dataobj)
        assert (row["label"] == "normal") == (lesions.max() == 0)
        ds = pydicom.dcmread(next((manifest.parent / row["t2w"]).glob("*.dcm")))
        assert (ds.PatientID, ds.InstitutionName) == (row["patient_id"], row["site"])
    again = write_training_set(tmp_path / "again", cases=4, seed=3, coarseness=4.0)
    for path in sorted(p.relative_to(manifest.parent) for p in manifest.parent.rglob("*") if p.is_file()):
        assert (again.parent / path).read_bytes() == (manifest.parent / path).read_bytes(), path


def test_training_plan_keeps_patients_whole_and_mixes_labels() -> None:
    planned = training_studies(84, seed=1)
    assert len({study.patient.patient_id for *_, study in planned}) == 84
    for site in SITES:
        assert {split for s, split, _ in planned if s == site} == {"train", "val", "test"}
    counts = np.bincount([len(study.lesions) for *_, study in planned])
    assert counts.min() > 5
    assert {study.form for *_, study in planned} == {"classic", "enhanced"}


def test_the_command_writes_a_training_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert main(["phantoms", "training", str(out), "--kind", "prostate", "--cases", "1"]) == 0
    assert "manifest.csv" in capsys.readouterr().out
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) < 5_000_000
    assert main(["phantoms", "prostate", str(out)]) == 2


# Refusals


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vendor 'hitachi'; allowed are siemens"):
        ProstateStudy("hitachi")
    with pytest.raises(ConfigError, match="form 'film'"):
        ProstateStudy(form="film")
    with pytest.raises(ConfigError, match="oddity 'upside-down'"):
        ProstateStudy(oddity="upside-down")
    with pytest.raises(ConfigError, match="a mosaic of ge"):
        ProstateStudy("ge", form="mosaic")
    with pytest.raises(ConfigError, match=r"coarseness 0\.5; allowed are 1 to 4"):
        ProstateStudy(coarseness=0.5)
    with pytest.raises(ConfigError, match="radii_mm"):
        replace(PLAIN.lesions[0], radii_mm=(0.1, 3.0, 3.0))
    with pytest.raises(ConfigError, match="adc 5000"):
        replace(PLAIN.lesions[0], adc=5000)
    with pytest.raises(ConfigError, match="isup 0"):
        replace(PLAIN.lesions[0], isup=0)
    with pytest.raises(ConfigError, match="1 or more"):
        training_studies(0, seed=1)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="empty folder"):
        write_samples(tmp_path)


def test_the_committed_export_is_what_the_code_writes(tmp_path: Path) -> None:
    """Byte for byte, and the PSA beside it is that of its study."""
    written = write_export(tmp_path / "fresh")
    committed = REPOSITORY / "data_samples" / "prostate_export"
    assert sorted(p.relative_to(committed) for p in committed.rglob("*.dcm")) == sorted(written)
    for path in written:
        assert (tmp_path / "fresh" / path).read_bytes() == (committed / path).read_bytes(), path
    study = str(pydicom.dcmread(committed / written[0], stop_before_pixels=True).StudyInstanceUID)
    assert (committed.parent / "prostate_psa.csv").read_text() == f"StudyInstanceUID,psa_ng_ml\n{study},6.8\n"
