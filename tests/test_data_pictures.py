"""Pictures and masks in every form people store them: read as they are meant, or refused with the file's name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
from PIL import Image as Picture

from imaging.data.images import read_image
from imaging.data.instances import number_instances
from imaging.data.maps import placed, read_map
from imaging.data.pictures import read_mask_picture, read_picture
from imaging.data.truth import read_mask, read_values
from imaging.errors import GeometryError, InputError
from imaging.image import Array, Image

ROWS, COLUMNS = 40, 60


def disc(radius: float = 10.0) -> Array:
    """Distance from the middle below the radius, as 0 and 255."""
    return np.where(distance() < radius, 255, 0).astype(np.uint8)


def distance() -> Array:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return np.asarray(np.hypot(y - 20, x - 30))


@pytest.fixture
def image(tmp_path: Path) -> Image:
    Picture.new("L", (COLUMNS, ROWS), 90).save(tmp_path / "image.png")
    return read_image(tmp_path / "image.png")


def soft() -> Array:
    """A ramp of three pixels to either side of radius 10: half of 255 is at the disc's edge."""
    return np.asarray(np.clip((13 - distance()) / 6 * 255, 0, 255).astype(np.uint8))


def mixed() -> Array:
    values = disc()
    values[(values > 0) & (np.indices(values.shape).sum(axis=0) % 2 == 0)] = 254
    return values


def ringing() -> Array:
    values = disc()
    y, x = np.indices(values.shape)
    values[(distance() >= 10) & (distance() < 14) & ((7 * x + 3 * y) % 5 == 0)] = 2
    return values


@pytest.mark.parametrize("values", [soft(), mixed(), ringing()], ids=["soft", "mixed", "ringing"])
def test_a_mask_with_soft_or_noisy_edges_is_cut_at_half_and_told(
    values: Array, image: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Picture.fromarray(values).save(tmp_path / "mask.png")
    found = read_mask(tmp_path / "mask.png", image)
    assert abs(int(found.sum()) - np.count_nonzero(disc())) <= np.count_nonzero(
        (distance() > 9.9) & (distance() < 10.1)
    )
    assert number_instances(read_values(tmp_path / "mask.png", image)).max() == 1
    assert "truth mask.png" in caplog.text
    assert "cut at half of the highest, 127.5" in caplog.text
    np.testing.assert_array_equal(read_map(tmp_path / "mask.png").array, np.where(found, 255, 0))


def test_a_mask_as_jpeg_is_cut_too(image: Image, tmp_path: Path) -> None:
    Picture.fromarray(disc()).save(tmp_path / "mask.jpg", quality=70)
    found = read_mask(tmp_path / "mask.jpg", image)
    assert np.count_nonzero(found != (disc() > 0)) <= 3
    assert number_instances(read_values(tmp_path / "mask.jpg", image)).max() == 1


def test_labels_stay_apart_and_shades_between_areas_are_refused(image: Image, tmp_path: Path) -> None:
    labels = np.zeros((ROWS, COLUMNS), dtype=np.uint8)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    for name, values in {"numbers": labels, "greys": labels * 100}.items():
        Picture.fromarray(values).save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_values(tmp_path / f"{name}.png", image), values)
    values = labels * 100
    values[4, 5:25] = 37
    Picture.fromarray(values).save(tmp_path / "rim.png")
    with pytest.raises(InputError, match=r"truth rim.png: found 3 shades of grey, with areas of \['100'\]"):
        read_mask(tmp_path / "rim.png", image)


def test_a_jpeg_of_labels_and_a_mask_without_background_are_refused(image: Image, tmp_path: Path) -> None:
    """Compression makes other labels of 0 and 1; where nothing is 0, everything would be lesion."""
    Picture.fromarray(disc() // 255).save(tmp_path / "labels.jpg")
    Picture.fromarray(np.where(disc() > 0, 255, 128).astype(np.uint8)).save(tmp_path / "grey.png")
    for name, told in (
        ("labels.jpg", "found values up to 2 in a JPEG"),
        ("grey.png", "found 2 values from 128 to 255"),
    ):
        for read in (read_mask, read_values):
            with pytest.raises(InputError, match=rf"truth {name}: {told}"):
                read(tmp_path / name, image)
    Picture.fromarray(np.zeros((ROWS, COLUMNS), np.uint8)).save(tmp_path / "empty.jpg")
    assert not read_mask(tmp_path / "empty.jpg", image).any()


@pytest.mark.parametrize("name", ["mask.gif", "mask.webp", "mask.npy", "mask.hdr", "mask.mgz"])
def test_a_truth_of_an_unknown_format_is_named(name: str, image: Image, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"GIF89a" + bytes(200))
    with pytest.raises(InputError, match=rf"truth {name}: .*; read are DICOM, CSV and \.nii"):
        read_mask(tmp_path / name, image)


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("shape", [(40, 40), (40, 60)], ids=["square", "oblong"])
def test_the_orientation_of_exif_is_applied(ending: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """Stored turned left, 6 turns it back: what a viewer shows is what is read."""
    seen = np.full(shape, 40, dtype=np.uint8)
    seen[8:24, 24:36] = 220
    exif = Picture.Exif()
    exif[0x0112] = 6
    Picture.fromarray(np.ascontiguousarray(np.rot90(seen))).save(tmp_path / f"p.{ending}", exif=exif)
    found = read_image(tmp_path / f"p.{ending}").array[0].astype(int)
    assert found.shape == shape
    assert np.abs(found - seen).max() <= (20 if ending == "jpg" else 0)


def test_a_palette_is_colours_in_a_picture_and_labels_in_a_mask(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    stored = Picture.fromarray(indices, mode="P")
    stored.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    stored.save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png")[0, 1].tolist() == [128, 0, 0]
    np.testing.assert_array_equal(read_mask_picture(tmp_path / "p.png"), indices)
    stored.putpalette([255, 255, 255, 0, 0, 0, 0, 128, 0])
    stored.save(tmp_path / "p.png")
    with pytest.raises(InputError, match=r"truth p.png: its palette shows 0.*allowed is black"):
        read_mask_picture(tmp_path / "p.png")


def test_packed_labels_are_not_spread_over_eight_bits(tmp_path: Path) -> None:
    """A grey PNG of 4 bits with the labels 1 and 2, which decoders spread to 17 and 34."""
    labels = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    head = struct.pack(">IIBBBBB", 2, 2, 4, 0, 0, 0, 0)
    body = zlib.compress(b"\0\x01\0\x21")

    def chunk(name: bytes, value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))

    parts = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (tmp_path / "grey.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    np.testing.assert_array_equal(read_mask_picture(tmp_path / "grey.png"), labels)


def test_colours_of_a_mask_must_be_grey(image: Image, tmp_path: Path) -> None:
    Picture.fromarray(disc()).convert("RGB").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png", image), disc() > 0)
    Picture.fromarray(disc()).convert("RGBA").save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "opaque.png", image), disc() > 0)
    Picture.new("RGB", (COLUMNS, ROWS), (9, 8, 7)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"truth colour.png: found colours"):
        read_mask(tmp_path / "colour.png", image)
    Picture.new("LA", (COLUMNS, ROWS), (9, 8)).save(tmp_path / "glass.png")
    with pytest.raises(InputError, match=r"truth glass.png: found transparent pixels"):
        read_mask(tmp_path / "glass.png", image)


def test_sixteen_bits_pages_and_nan(image: Image, tmp_path: Path) -> None:
    deep = np.where(disc() > 0, 1000, 0).astype(np.uint16)
    Picture.fromarray(deep).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif").array[0], deep)
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.tif", image), deep > 0)
    page = Picture.fromarray(disc())
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(InputError, match=r"image pages.tif: found 2 pages; allowed: one picture"):
        read_image(tmp_path / "pages.tif")
    floats = disc().astype(np.float32) / 255
    Picture.fromarray(floats * np.float32(0.9999999)).save(tmp_path / "nearly.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "nearly.tif", image), disc() > 0)
    floats[0, :3] = np.nan
    Picture.fromarray(floats).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match=r"image nan.tif: found 3 of 2400 values that are not finite"):
        read_image(tmp_path / "nan.tif")


@pytest.mark.parametrize("value", [0.9999847, 1.0000002, 0.5, np.nan])
def test_label_maps_of_floats(value: float, tmp_path: Path) -> None:
    labels = np.zeros((6, 5, 4), dtype=np.float32)
    labels[1:3, 1:3, 1:3] = value
    nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4)), tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "mask.nii")
    volume = read_image(tmp_path / "image.nii")
    if abs(value - 1) < 0.001:
        assert read_mask(tmp_path / "mask.nii", volume).sum() == 8
    else:
        told = "8 of 120 values that are not finite" if np.isnan(value) else r"found the value 0\.5"
        with pytest.raises(InputError, match=rf"mask\.nii: .*{told}"):
            read_mask(tmp_path / "mask.nii", volume)


def test_a_label_below_0_is_no_background_and_no_lesion(tmp_path: Path) -> None:
    labels = np.zeros((6, 5, 4), dtype=np.int16)
    labels[1:3, 1:3, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4)), tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti1Image(labels - 1, np.eye(4)), tmp_path / "mask.nii")
    with pytest.raises(InputError, match=r"truth mask\.nii: found the value -1; allowed are 0, which is background"):
        read_mask(tmp_path / "mask.nii", read_image(tmp_path / "image.nii"))


def test_affines_that_disagree_or_are_none_are_told_with_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The header's sform is 15 mm from its qform; then it has no third axis."""
    stored = nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = 15
    stored.set_sform(np.eye(4), 1)
    stored.set_qform(moved, 1)
    nibabel.save(stored, tmp_path / "two.nii")
    assert read_image(tmp_path / "two.nii").grid.affine[:3, 3].tolist() == [0, 0, 0]
    assert "image two.nii: sform and qform differ; the sform was used" in caplog.messages
    flat = bytearray((tmp_path / "two.nii").read_bytes())
    flat[312:328] = bytes(16)  # srow_z
    (tmp_path / "flat.nii").write_bytes(flat)
    with pytest.raises(GeometryError, match=r"image flat\.nii: Grid\.affine: found a singular"):
        read_image(tmp_path / "flat.nii")


def test_a_nifti_of_one_slice_is_a_picture_and_its_affine_is_heeded(tmp_path: Path) -> None:
    """(x, y), (x, y, 1) and a transposed mask of a square picture, which no shape could tell."""
    seen = np.full((40, 40), 40, dtype=np.uint8)
    seen[5:10, 30:36] = 220
    mask = (seen > 200).astype(np.uint8)
    for name, values in (("image", seen), ("mask", mask)):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"itk_{name}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(values.T[..., None], np.eye(4)), tmp_path / f"slice_{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"rows_{name}.nii.gz")
        Picture.fromarray(values).save(tmp_path / f"{name}.png")
    pairs = [
        ("itk_image.nii.gz", "itk_mask.nii.gz"),
        ("slice_image.nii.gz", "mask.png"),
        ("image.png", "itk_mask.nii.gz"),
    ]
    for first, second in [*pairs, ("rows_image.nii.gz", "rows_mask.nii.gz")]:
        image = read_image(tmp_path / first)
        assert image.array[0][read_mask(tmp_path / second, image) > 0].tolist() == [220] * 30
    with pytest.raises(GeometryError, match=r"truth rows_mask.nii.gz: its affine puts the plane elsewhere"):
        read_mask(tmp_path / "rows_mask.nii.gz", read_image(tmp_path / "itk_image.nii.gz"))
    assert placed(read_map(tmp_path / "rows_mask.nii.gz"), read_map(tmp_path / "itk_mask.nii.gz")) is None


def test_nrrd_is_read_where_it_says_where_the_patient_is(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6), dtype=np.uint8)
    values[1:3, 2:4, 1:5] = 1
    stored = sitk.GetImageFromArray(values)
    stored.SetSpacing((0.5, 0.5, 3.0))
    stored.SetOrigin((-20.0, 11.0, 5.0))
    for name in ("v.nrrd", "v.seg.nrrd", "v.mha"):
        sitk.WriteImage(stored, str(tmp_path / name))
    volume = read_image(tmp_path / "v.nrrd")
    np.testing.assert_allclose(volume.grid.affine, read_image(tmp_path / "v.mha").grid.affine)
    np.testing.assert_array_equal(read_mask(tmp_path / "v.seg.nrrd", volume), values)
    lost = (tmp_path / "v.nrrd").read_bytes()
    lost = lost.replace(b"space: left-posterior-superior\n", b"").replace(b"space origin", b"#")
    lost = b"\n".join(line for line in lost.split(b"\n") if not line.startswith(b"space directions"))
    (tmp_path / "lost.nrrd").write_bytes(lost)
    with pytest.raises(InputError, match=r"image lost.nrrd: its header has no 'space'"):
        read_image(tmp_path / "lost.nrrd")


def test_a_file_of_an_unknown_ending_is_named_with_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.webp").write_bytes(b"no image" * 40)
    with pytest.raises(InputError, match=r"image p.webp: .*read are DICOM and .*\.nrrd.*\.jpg"):
        read_image(tmp_path / "p.webp")
