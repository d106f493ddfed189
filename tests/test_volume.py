"""Volumes: slices in order, at their places in the patient, and refused when they make no regular lattice."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from imaging.dicom.index import build_index
from imaging.dicom.pixels.volume import Stack, find_stacks, read_volumes
from imaging.errors import GeometryError, ImagingError, Reason
from imaging.image import Image

Array = NDArray[Any]
# Rows 4, columns 6; row step 2 mm, column step 0.5 mm, slices 3 mm apart, tilted by 30° about the left-right axis.
ROWS, COLUMNS, ROW_STEP, COLUMN_STEP, STEP = 4, 6, 2.0, 0.5, 3.0
ACROSS = np.array([1.0, 0.0, 0.0])
DOWN = np.array([0.0, np.cos(np.pi / 6), -np.sin(np.pi / 6)])
NORMAL = np.cross(ACROSS, DOWN)
CORNER = np.array([-20.0, 11.0, 5.0])


def pixels(number: int) -> Array:
    """A slice that says its own number: value = 100 × number + 10 × row + column."""
    row, column = np.mgrid[0:ROWS, 0:COLUMNS]
    return (100 * number + 10 * row + column).astype("<u2")


def header(path: Path, stored: Array, series: str = "1.2.3.1") -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", series, "MR"
    dataset.PatientID = "phantom"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = stored.tobytes()
    return dataset


def classic(
    folder: Path, depths: list[float], change: Callable[[int, FileDataset], None] = lambda k, d: None
) -> list[Image | ImagingError]:
    """The volumes of a series of slices at `depths` mm along the normal; `change` alters the header of slice k."""
    for k, depth in enumerate(depths):
        dataset = header(folder / f"{k}.dcm", pixels(k))
        dataset.InstanceNumber = len(depths) - k
        dataset.ImagePositionPatient = (CORNER + depth * NORMAL).round(6).tolist()
        dataset.ImageOrientationPatient = np.concatenate([ACROSS, DOWN]).round(9).tolist()
        dataset.PixelSpacing = [ROW_STEP, COLUMN_STEP]
        dataset.SliceThickness = 77  # Never used: spacing comes from positions.
        change(k, dataset)
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return read(folder)


def read(path: Path) -> list[Image | ImagingError]:
    instances = [instance for series in build_index(path).series for instance in series.instances]
    return read_volumes(instances)


def image(outcomes: list[Image | ImagingError]) -> Image:
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Image), str(outcomes[0])
    return outcomes[0]


def refusal(outcomes: list[Image | ImagingError], reason: Reason = Reason.GEOMETRY) -> str:
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], ImagingError)
    assert outcomes[0].reason is reason
    return str(outcomes[0])


def patient(volume: Image, slice_: float, row: float, column: float) -> Array:
    """DICOM patient coordinates (LPS) of a voxel centre."""
    ras = volume.grid.affine @ [slice_, row, column, 1.0]
    return ras[:3] * [-1, -1, 1]


# Classic series


def test_slices_are_sorted_by_position_and_placed(tmp_path: Path) -> None:
    depths = [6.0, 0.0, 9.0, 3.0]
    volume = image(classic(tmp_path, depths))
    assert volume.array.shape == (1, 4, ROWS, COLUMNS)
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array[0], [pixels(k) for k in (1, 3, 0, 2)])
    np.testing.assert_allclose(volume.grid.spacing, (STEP, ROW_STEP, COLUMN_STEP), atol=1e-6)
    expected = CORNER + 2 * STEP * NORMAL + 3 * ROW_STEP * DOWN + 5 * COLUMN_STEP * ACROSS
    np.testing.assert_allclose(patient(volume, 2, 3, 5), expected, atol=1e-5)
    assert volume.grid.frame == "patient_ras"
    assert [len({ref.sop_uid}) for ref in volume.refs] == [1] * 4
    assert len({ref.sop_uid for ref in volume.refs}) == 4


def test_each_slice_keeps_its_reference(tmp_path: Path) -> None:
    def mark(k: int, dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{k}"

    volume = image(classic(tmp_path, [6.0, 0.0, 9.0, 3.0], mark))
    assert [ref.sop_uid[-1] for ref in volume.refs] == ["1", "3", "0", "2"]


def test_a_tilted_gantry_is_a_sheared_lattice(tmp_path: Path) -> None:
    def shift(k: int, dataset: FileDataset) -> None:
        dataset.ImagePositionPatient = (CORNER + k * (STEP * NORMAL + 0.4 * DOWN)).round(6).tolist()

    volume = image(classic(tmp_path, [0.0] * 4, shift))
    expected = CORNER + 3 * (STEP * NORMAL + 0.4 * DOWN) + ROW_STEP * DOWN
    np.testing.assert_allclose(patient(volume, 3, 1, 0), expected, atol=1e-5)


def test_rescale_of_each_slice(tmp_path: Path) -> None:
    def scale(k: int, dataset: FileDataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k, -10

    volume = image(classic(tmp_path, [0.0, 3.0, 6.0], scale))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0], [pixels(k) * (0.5 + k) - 10 for k in range(3)], rtol=1e-6)


def test_a_missing_slice_is_refused(tmp_path: Path) -> None:
    message = refusal(classic(tmp_path, [0.0, 3.0, 6.0, 12.0, 15.0]))
    assert "steps of 3.000 to 6.000 mm, the widest between slice 3 and 4 of 5; is a slice missing?" in message


def test_positions_as_coarse_as_headers_round_are_no_gap(tmp_path: Path) -> None:
    image(classic(tmp_path, [0.0, 3.02, 5.97, 9.0]))


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    assert "a single slice position is no volume" in refusal(classic(tmp_path, [0.0]))


def test_mixed_orientations_are_refused(tmp_path: Path) -> None:
    def turn(k: int, dataset: FileDataset) -> None:
        if k == 2:
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]

    assert "mixed orientations" in refusal(classic(tmp_path, [0.0, 3.0, 6.0], turn))


def test_mixed_matrices_are_refused(tmp_path: Path) -> None:
    def widen(k: int, dataset: FileDataset) -> None:
        dataset.PixelSpacing = [ROW_STEP, COLUMN_STEP * (1 + 0.2 * (k == 1))]

    assert "mixed matrices" in refusal(classic(tmp_path, [0.0, 3.0, 6.0], widen))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", None),
        ("ImagePositionPatient", [1, 2]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("PixelSpacing", [0, 1]),
    ],
)
def test_a_slice_without_a_place_is_refused_by_name(keyword: str, value: object, tmp_path: Path) -> None:
    outcomes = classic(tmp_path, [0.0], lambda _, dataset: setattr(dataset, keyword, value))
    assert keyword in refusal(outcomes)


def test_colour_makes_no_volume(tmp_path: Path) -> None:
    outcomes = classic(tmp_path, [0.0], lambda _, dataset: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1"))
    assert "a volume is made of MONOCHROME2" in refusal(outcomes, Reason.UNSUPPORTED_PIXELS)


def test_volumes_at_one_place_are_told_apart(tmp_path: Path) -> None:
    """Two echoes of three slices, acquired interleaved: the acquisition number differs by slice and parts nothing."""

    def mark(k: int, dataset: FileDataset) -> None:
        dataset.EchoTime = 10.0 if k < 3 else 80.0
        dataset.AcquisitionNumber = k % 3 % 2 + 1

    outcomes = classic(tmp_path, [0.0, 3.0, 6.0] * 2, mark)
    assert [outcome.array[0, :, 0, 0].tolist() for outcome in outcomes if isinstance(outcome, Image)] == [
        [300, 400, 500],
        [0, 100, 200],
    ]
    instances = build_index(tmp_path).series[0].instances
    stacks = find_stacks(instances)
    assert [stack.facts for stack in stacks if isinstance(stack, Stack)] == [{"EchoTime": "80.0"}, {"EchoTime": "10.0"}]


def test_one_bad_echo_does_not_cost_the_other(tmp_path: Path) -> None:
    def mark(k: int, dataset: FileDataset) -> None:
        dataset.EchoTime = 10.0 if k < 4 else 80.0

    good, bad = sorted(
        classic(tmp_path, [0.0, 3.0, 6.0, 9.0, 0.0, 3.0, 9.0], mark), key=lambda o: isinstance(o, ImagingError)
    )
    assert isinstance(good, Image)
    assert "is a slice missing?" in str(bad)


def test_repeated_positions_without_a_difference_are_refused(tmp_path: Path) -> None:
    assert "2 planes at one place" in refusal(classic(tmp_path, [0.0, 3.0, 6.0, 3.0]))


# Enhanced multi-frame


def enhanced(path: Path, frames: list[dict[str, Any]], shared: bool = True) -> list[Image | ImagingError]:
    """An Enhanced MR of one item per frame: depth, frame type, echo, slope, stack."""
    dataset = header(path, np.stack([pixels(k) for k in range(len(frames))]))
    dataset.NumberOfFrames = len(frames)
    orientation = Dataset()
    orientation.ImageOrientationPatient = np.concatenate([ACROSS, DOWN]).round(9).tolist()
    measures = Dataset()
    measures.PixelSpacing = [ROW_STEP, COLUMN_STEP]
    common = Dataset()
    common.PlaneOrientationSequence, common.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [common if shared else Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [enhanced_item(frame) for frame in frames]
    dataset.save_as(path, enforce_file_format=True)
    return read(path)


def enhanced_item(frame: dict[str, Any]) -> Dataset:
    item, position, rescale, kind, content = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = (CORNER + frame["depth"] * NORMAL).round(6).tolist()
    rescale.RescaleSlope, rescale.RescaleIntercept = frame.get("slope", 1), frame.get("intercept", 0)
    kind.FrameType = ["ORIGINAL", "PRIMARY", "T1", frame.get("kind", "M")]
    content.StackID = frame.get("stack", "1")
    item.PlanePositionSequence, item.PixelValueTransformationSequence = [position], [rescale]
    item.MRImageFrameTypeSequence, item.FrameContentSequence = [kind], [content]
    return item


def test_frames_are_ordered_rescaled_and_referenced_one_by_one(tmp_path: Path) -> None:
    frames = [{"depth": d, "slope": 1 + k} for k, d in enumerate((6.0, 0.0, 3.0))]
    volume = image(enhanced(tmp_path / "a.dcm", frames))
    np.testing.assert_array_equal(volume.array[0], [pixels(1) * 2, pixels(2) * 3, pixels(0)])
    assert [ref.frame_number for ref in volume.refs] == [2, 3, 1]
    np.testing.assert_allclose(patient(volume, 0, 0, 0), CORNER, atol=1e-5)


def test_several_volumes_in_one_file(tmp_path: Path) -> None:
    frames = [{"depth": 3.0 * k, "kind": kind} for k in range(3) for kind in ("M", "FIELD_MAP")]
    outcomes = enhanced(tmp_path / "a.dcm", frames)
    assert [o.array[0, :, 0, 0].tolist() for o in outcomes if isinstance(o, Image)] == [[0, 200, 400], [100, 300, 500]]


def test_stacks_are_volumes_of_their_own(tmp_path: Path) -> None:
    frames = [{"depth": d, "stack": s} for s, d in (("a", 0.0), ("a", 3.0), ("b", 50.0), ("b", 53.0))]
    assert len(enhanced(tmp_path / "a.dcm", frames)) == 2


def test_frames_without_orientation_are_refused(tmp_path: Path) -> None:
    message = refusal(enhanced(tmp_path / "a.dcm", [{"depth": 0.0}, {"depth": 3.0}], shared=False))
    assert "frame 1: ImageOrientationPatient is None" in message


# Mosaic


def mosaic(path: Path, says: str = "count normal", sense: float = 1.0) -> list[Image | ImagingError]:
    """A mosaic of 3 × 3 tiles; the first slice has its first voxel's centre at CORNER."""
    whole = np.zeros((3 * ROWS, 3 * COLUMNS), "<u2")
    for k in range(5):
        whole[k // 3 * ROWS :, k % 3 * COLUMNS :][:ROWS, :COLUMNS] = pixels(k + 1)
    dataset = header(path, whole)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    inset = DOWN * ROW_STEP * ROWS + ACROSS * COLUMN_STEP * COLUMNS  # Half of 2 tiles in each direction.
    dataset.ImagePositionPatient = (CORNER - inset).round(6).tolist()
    dataset.ImageOrientationPatient = np.concatenate([ACROSS, DOWN]).round(9).tolist()
    dataset.PixelSpacing, dataset.SpacingBetweenSlices = [ROW_STEP, COLUMN_STEP], STEP
    dataset.AcquisitionMatrix, dataset.InPlanePhaseEncodingDirection = [COLUMNS, 0, 0, ROWS], "COL"
    if "count" in says:
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 5)
    if "normal" in says:
        csa = csa_header({"EchoTime": [], "SliceNormalVector": [f"{v:.8f}" for v in sense * NORMAL]})
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa)
    if "letters" in says:
        dataset.private_block(0x0051, "SIEMENS MR HEADER", create=True).add_new(
            0x13, "LO", "+LPH" if sense > 0 else "+LPF"
        )
    dataset.save_as(path, enforce_file_format=True)
    return read(path)


def csa_header(tags: dict[str, list[str]]) -> bytes:
    """A CSA2 header as Siemens writes it: tags of text items, lengths padded to four."""
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, values in tags.items():
        out += struct.pack("<64si4s3i", name.encode(), len(values), b"FD\0\0", 4, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
    return out + b"\0" * (-len(out) % 2)


@pytest.mark.parametrize("sense", [1.0, -1.0])
@pytest.mark.parametrize("says", ["count normal", "count letters", "normal"])
def test_a_mosaic_is_unpacked_around_its_centre(says: str, sense: float, tmp_path: Path) -> None:
    volume = image(mosaic(tmp_path / "a.dcm", says, sense))
    order = range(1, 6) if sense > 0 else range(5, 0, -1)
    np.testing.assert_array_equal(volume.array[0], [pixels(k) for k in order])
    first = 0 if sense > 0 else 4
    np.testing.assert_allclose(patient(volume, first, 0, 0), CORNER, atol=1e-5)
    np.testing.assert_allclose(patient(volume, 4 - first, 0, 0), CORNER + sense * 4 * STEP * NORMAL, atol=1e-5)
    assert bool(volume.notes) is ("count" not in says)


def test_a_mosaic_without_a_direction_is_refused(tmp_path: Path) -> None:
    assert "in which direction the slices" in refusal(mosaic(tmp_path / "a.dcm", "count"))


# Real files


def against_reference(volume: Image, reference: Path, time: int | None = None) -> tuple[Array, Array]:
    """The volume's values and those of the NIfTI at the same places; voxel centres must agree to 1e-3 voxel."""
    nifti = nibabel.load(reference)
    matrix = np.linalg.inv(nifti.affine) @ volume.grid.affine
    places = np.indices(volume.grid.shape).reshape(3, -1)
    found = matrix[:3, :3] @ places + matrix[:3, 3:]
    nearest = np.rint(found).astype(int)
    np.testing.assert_allclose(found, nearest, atol=1e-3)
    values = np.asanyarray(nifti.dataobj)
    values = values if time is None else values[..., time]
    assert sorted(values.shape) == sorted(volume.grid.shape)
    return volume.array[0].reshape(-1), values[tuple(nearest)]


@pytest.mark.shared_data
@pytest.mark.parametrize("number", range(1, 10))
def test_a_mosaic_in_nine_encodings_equals_its_reference(number: int, shared_data: Path) -> None:
    folder = shared_data / "dicom/codecs"
    volume = image(read(folder / f"{number}.dcm"))
    assert volume.array.shape == (1, 35, 64, 64)
    np.testing.assert_array_equal(*against_reference(volume, folder / "reference.nii"))


@pytest.mark.shared_data
def test_siemens_enhanced_equals_its_reference(shared_data: Path) -> None:
    folder = shared_data / "dicom/enhanced/siemens_xa10"
    volumes = [image(read(folder / f"6_{number}.dcm")) for number in range(1, 5)]
    for time, volume in enumerate(volumes):
        np.testing.assert_array_equal(*against_reference(volume, folder / "reference.nii", time))


@pytest.mark.shared_data
def test_philips_magnitude_and_field_map_are_two_volumes(shared_data: Path) -> None:
    folder = shared_data / "dicom/enhanced/philips_b0map"
    magnitude, field_map = read(folder / "IM_0027_fMAP.dcm")
    assert isinstance(magnitude, Image)
    assert isinstance(field_map, Image)
    # The reference holds another scale of the same stored values: Philips' floating point value.
    found, expected = against_reference(magnitude, folder / "reference_e1.nii")
    bright = found > 100
    np.testing.assert_allclose(expected[bright] / found[bright], np.median(expected[bright] / found[bright]), rtol=1e-5)
    found, expected = against_reference(field_map, folder / "reference_e2_fieldmaphz.nii")
    np.testing.assert_allclose(found, expected, atol=0.01)  # Hz; the reference's slope is rounded
    assert [ref.frame_number for ref in field_map.refs] == list(range(33, 65))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dicom/enhanced/philips_molli/IM_0001.dcm", "10 planes make no volume: a single slice position"),
        ("dicom/enhanced/emri_small/emri_small.dcm", "10 frames without PerFrameFunctionalGroupsSequence"),
        ("prostate_mri/philips_dwi_slice", "a single slice position is no volume"),
        ("prostate_mri/missing_slice", "steps of 3.000 to 6.000 mm"),
    ],
)
def test_real_images_that_are_no_volume(path: str, message: str, shared_data: Path) -> None:
    assert message in refusal(read(shared_data / path))


@pytest.mark.shared_data
def test_every_prostate_series_gives_its_volumes(shared_data: Path) -> None:
    folder = shared_data / "prostate_mri"
    counted = {}
    for row in csv.DictReader((folder / "series.csv").read_text(encoding="utf-8").splitlines()):
        outcomes = read(folder / row["folder"])
        counted[row["folder"]] = [o.array.shape[1] for o in outcomes if isinstance(o, Image)]
    alone = {name: slices for name, slices in counted.items() if len(slices) == 1}
    assert counted["prostatex_0001/s07_dwi_mixed_b"] == [19] * 3
    assert counted["prostatex_0218/s08_dwi_mixed_b"] == [20] * 4
    assert counted["prostatex_0218/s11_dti_mosaic"] == [20] * 2
    assert counted["missing_slice"] == counted["philips_dwi_slice"] == []
    assert len(alone) == 15
    assert set(map(tuple, alone.values())) <= {(19,), (20,), (21,)}


@pytest.mark.shared_data
def test_a_mosaic_lies_where_its_derived_series_lies(shared_data: Path) -> None:
    """The fractional anisotropy of the same scan is a classic series with a position for every slice."""
    folder = shared_data / "prostate_mri/prostatex_0218"
    first, second = read(folder / "s11_dti_mosaic")
    derived = image(read(folder / "s14_dti_fa"))
    for volume in (first, second):
        assert isinstance(volume, Image)
        np.testing.assert_allclose(volume.grid.affine, derived.grid.affine, atol=1e-3)
        assert volume.grid.shape == derived.grid.shape
        assert volume.notes == ("The header does not say how many slices the mosaic holds: 20 tiles have signal",)


@pytest.mark.shared_data
def test_masks_of_others_lie_on_the_volume(shared_data: Path) -> None:
    volume = image(read(shared_data / "prostate_mri/prostatex_0001/s06_t2_tra"))
    against_reference(volume, shared_data / "prostate_mri/labels/prostatex_0001/gland_ai_bosma22b.nii.gz")


def test_an_image_never_stands_on_another_grid(tmp_path: Path) -> None:
    volume = image(classic(tmp_path, [0.0, 3.0]))
    with pytest.raises(GeometryError, match="allowed is"):
        Image(volume.array[:, :1], volume.grid, volume.grid, volume.refs, volume.origin)
