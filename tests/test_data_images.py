"""DICOM, NIfTI, MHA and PNG give one Image: equal pixels at equal places of the patient, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
from PIL import Image as Picture
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from imaging.data.images import read_image, reorient
from imaging.errors import GeometryError, ImagingError, InputError
from imaging.image import Array, Floats, Grid, Image

SLICES, ROWS, COLUMNS = 5, 4, 6
STEPS = (3.0, 2.0, 0.5)  # slice, row, column in mm: anisotropic on purpose
STUDY = "1.2.3"


def turned(tilt: float, swing: float) -> Floats:
    """Axial directions of (slice, row, column) in LPS, turned about x by `tilt` and then about z by `swing` degrees."""
    a, b = np.deg2rad((tilt, swing))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ np.eye(3)[:, [2, 1, 0]])


# Directions of (slice, row, column) in LPS: axial, sagittal, tilted twice, and a left-handed one (slices run down).
POSES = {
    "axial": turned(0, 0),
    "oblique": turned(25, 40),
    "sagittal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "flipped": turned(25, 40) @ np.diag([-1.0, 1.0, 1.0]),
}


def lps_affine(pose: Floats) -> Floats:
    """(slice, row, column) to LPS millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = pose * STEPS
    affine[:3, 3] = (-20.0, 11.0, 5.0)
    return affine


def volume_values() -> Array:
    """Every voxel says where it is: 100 × slice + 10 × row + column."""
    slices, rows, columns = np.mgrid[0:SLICES, 0:ROWS, 0:COLUMNS]
    return np.asarray(100 * slices + 10 * rows + columns, dtype=np.int16)


def write_series(folder: Path, values: Array, lps: Floats, series: str = "1.2.3.1") -> Path:
    """A classic series, slice k in k.dcm, with `lps` from (slice, row, column) to LPS millimetres."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, stored in enumerate(values):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = f"{series}.{k + 1}"
        dataset = FileDataset(str(folder), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, series
        dataset.Modality, dataset.PatientID, dataset.InstanceNumber = "MR", "phantom", len(values) - k
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = stored.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        dataset.PixelSpacing = spacing[1:].round(6).tolist()
        dataset.ImageOrientationPatient = (lps[:3, [2, 1]] / spacing[[2, 1]]).T.ravel().round(9).tolist()
        dataset.ImagePositionPatient = (lps @ [k, 0, 0, 1])[:3].round(6).tolist()
        dataset.PixelData = stored.astype("<i2").tobytes()
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


def write_nifti(path: Path, values: Array, lps: Floats) -> Path:
    """By nibabel: array (i, j, k) = (column, row, slice), affine to RAS."""
    ras = np.diag([-1.0, -1, 1, 1]) @ lps[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), ras)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def write_mha(path: Path, values: Array, lps: Floats) -> Path:
    """By SimpleITK: array (z, y, x), direction and origin in LPS."""
    image = sitk.GetImageFromArray(values)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)[::-1]
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, [2, 1, 0]] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def at_patient(image: Image, lps: Floats) -> float:
    """The value at a place of the patient, by the image's own affine alone."""
    index = np.linalg.solve(image.grid.affine, np.diag([-1.0, -1, 1, 1]) @ lps)[:3]
    assert np.allclose(index, np.rint(index), atol=1e-3)
    return float(image.array[(0, *np.rint(index).astype(int))])


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_one_volume_in_three_formats_is_equal_at_every_place_of_the_patient(pose: Floats, tmp_path: Path) -> None:
    values, lps = volume_values(), lps_affine(pose)
    images = [
        read_image(write_nifti(tmp_path / "v.nii.gz", values, lps)),
        read_image(write_mha(tmp_path / "v.mha", values, lps)),
        read_image(write_series(tmp_path / "series", values, lps)),
    ]
    for image in images:
        assert image.grid.frame == "patient_ras"
        assert image.array.shape == (1, *image.grid.shape)
        for voxel in np.ndindex(*values.shape):
            assert at_patient(image, lps @ [*voxel, 1.0]) == values[voxel]
    for image in images[1:]:
        turned_back = reorient(image.array[0], image.grid, images[0].grid)
        assert turned_back is not None
        np.testing.assert_array_equal(turned_back, values)


def test_the_first_voxel_of_a_nifti_is_where_its_affine_says(tmp_path: Path) -> None:
    """Voxel (i, j, k) = (1, 2, 3) of an affine diag(2, 3, 4) with origin (10, 20, 30) lies at RAS (12, 26, 42)."""
    values = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "v.nii")
    image = read_image(tmp_path / "v.nii", site="A")
    assert image.array.shape == (1, 4, 3, 2)
    assert image.array[0, 3, 2, 1] == values[1, 2, 3]
    np.testing.assert_allclose(image.grid.affine @ [3, 2, 1, 1], [12, 26, 42, 1])
    assert (image.origin.site, image.refs, image.grid.spacing) == ("A", (), (4.0, 3.0, 2.0))


def test_a_nifti_that_does_not_say_where_the_patient_is(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), None)
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.raises(InputError, match="sform_code and qform_code are 0"):
        read_image(tmp_path / "v.nii")


def test_a_series_in_time_is_no_image(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.int16), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(InputError, match=r"shape \(2, 3, 4, 5\).*give one volume"):
        read_image(tmp_path / "v.nii")


@pytest.mark.parametrize("name", ["v.nii.gz", "v.mha", "v.png", "v.dcm"])
def test_a_file_that_is_not_what_its_name_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not an image at all" * 30)
    with pytest.raises(InputError, match=f"image {name}"):
        read_image(tmp_path / name)
    with pytest.raises(InputError, match="there is no such file"):
        read_image(tmp_path / f"missing-{name}")


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.mha"])
def test_damaged_volumes_end_with_a_reason(name: str, tmp_path: Path) -> None:
    write = write_mha if name.endswith("mha") else write_nifti
    whole = write(tmp_path / f"whole-{name}", volume_values(), lps_affine(POSES["oblique"])).read_bytes()
    random = np.random.default_rng(4)
    refused = 0
    for _ in range(60):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            broken[place] = random.integers(256)
        (tmp_path / name).write_bytes(bytes(broken[: random.choice([len(whole), len(whole) // 2])]))
        try:
            read_image(tmp_path / name)
        except ImagingError:
            refused += 1
    assert refused


# Pictures


def test_a_picture_is_in_pixels_until_a_spacing_is_given(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Picture.fromarray(values).save(tmp_path / "p.png")
    image = read_image(tmp_path / "p.png")
    np.testing.assert_array_equal(image.array, values[None])
    assert (image.grid.frame, image.grid.unit, image.channels) == ("image_plane", "pixel", "luminance")
    assert "Uncalibrated" in image.notes[0]
    image = read_image(tmp_path / "p.png", spacing_mm=(0.5, 0.25))
    assert (image.grid.unit, image.grid.spacing) == ("mm", (0.5, 0.25))
    # Pixel (row 2, column 3): x = 3 × 0.25 to the right, y = 2 × 0.5 down.
    np.testing.assert_allclose(image.grid.affine @ [2, 3, 1], [0.75, 1.0, 1.0])


def test_a_sixteen_bit_picture_keeps_its_values_and_colour_its_channels(tmp_path: Path) -> None:
    deep = np.array([[0, 300], [40_000, 65_535]], dtype=np.uint16)
    Picture.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png").array[0], deep)
    Picture.new("RGB", (4, 3), (10, 20, 30)).save(tmp_path / "colour.png")
    colour = read_image(tmp_path / "colour.png")
    assert (colour.channels, colour.array[:, 0, 0].tolist()) == ("rgb", [10, 20, 30])
    Picture.new("RGBA", (4, 3), (10, 20, 30, 128)).save(tmp_path / "glass.png")
    with pytest.raises(InputError, match="transparent"):
        read_image(tmp_path / "glass.png")


def test_a_flat_mha_is_a_plane_in_millimetres(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its own spacing wins over another of a table, and that is told."""
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    image.SetSpacing((0.25, 0.5))  # x, y
    sitk.WriteImage(image, str(tmp_path / "p.mha"))
    plane = read_image(tmp_path / "p.mha")
    assert (plane.array.shape, plane.grid.frame, plane.grid.spacing) == ((1, 3, 4), "image_plane", (0.5, 0.25))
    assert read_image(tmp_path / "p.mha", spacing_mm=(0.5, 0.25)).grid.spacing == (0.5, 0.25)
    assert not caplog.messages
    assert read_image(tmp_path / "p.mha", spacing_mm=(1.0, 1.0)).grid.spacing == (0.5, 0.25)
    assert "image p.mha: its own spacing (0.5, 0.25) mm is used, not spacing_mm (1.0, 1.0) of the table" in caplog.text


# The order of axes


def test_reorient_turns_but_never_makes_up_a_value() -> None:
    values = np.arange(24).reshape(2, 3, 4)
    own = Grid((2, 3, 4), np.eye(4), "patient_ras")
    flipped = np.eye(4)
    flipped[1, 1], flipped[1, 3] = -1, 2
    target = Grid((4, 3, 2), flipped[:, [2, 1, 0, 3]], "patient_ras")
    turned_round = reorient(values, own, target)
    assert turned_round is not None
    np.testing.assert_array_equal(turned_round, values[:, ::-1].transpose(2, 1, 0))
    assert reorient(values, own, own.crop((0, 0, 1), (2, 3, 3))) is None
    shifted = np.eye(4)
    shifted[2, 3] = 0.02
    assert reorient(values, own, Grid((2, 3, 4), shifted, "patient_ras")) is None
    with pytest.raises(GeometryError, match="image_plane"):
        reorient(values[0], Grid.plane(3, 4), own)


# DICOM


def test_a_folder_with_two_series_names_both(tmp_path: Path) -> None:
    lps = lps_affine(POSES["axial"])
    write_series(tmp_path / "a", volume_values(), lps, series="1.2.3.1")
    write_series(tmp_path / "b", volume_values(), lps, series="1.2.3.2")
    with pytest.raises(InputError, match="found 2 DICOM series"):
        read_image(tmp_path)


def test_one_slice_is_a_plane_and_a_wrong_frame_is_refused(tmp_path: Path) -> None:
    values = volume_values()
    folder = write_series(tmp_path, values, lps_affine(POSES["axial"]))
    image = read_image(folder / "2.dcm")
    assert (image.array.shape, image.grid.frame) == ((1, ROWS, COLUMNS), "image_plane")
    np.testing.assert_array_equal(image.array[0], values[2])
    with pytest.raises(InputError, match="frame 2; allowed are 1 to 1"):
        read_image(folder / "2.dcm", frame=2)


@pytest.mark.shared_data
def test_frames_of_a_real_cine(shared_data: Path) -> None:
    path = shared_data / "dicom" / "enhanced" / "emri_small" / "emri_small.dcm"
    third = read_image(path, frame=3)
    assert third.array.shape == (1, 64, 64)
    assert third.refs[0].frame_number == 3
    with pytest.raises(InputError, match="allowed are 1 to 10"):
        read_image(path, frame=11)
