"""Truth from every format on the grid of its image, drawn by hand; and what must never become an empty truth."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
from PIL import Image as Picture
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

from imaging.data.images import read_image
from imaging.data.marks import BoxMark, Mask, PointMark, RegionMark, fill_ellipse, fill_polygon
from imaging.data.truth import Rules, Truth, read_mask, read_truth
from imaging.data.truth_table import ShapeTable
from imaging.errors import GeometryError, ImagingError, InputError
from imaging.image import Box, Floats, Grid, Image
from tests.test_data_images import (
    COLUMNS,
    POSES,
    ROWS,
    SLICES,
    STUDY,
    lps_affine,
    volume_values,
    write_mha,
    write_nifti,
    write_series,
)

LPS = lps_affine(POSES["oblique"])
SERIES = "1.2.3.1"


def drawn(*rows: str) -> Mask:
    """A mask as a picture: # is inside."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def show(mask: Mask) -> list[str]:
    return ["".join("#" if inside else "." for inside in row) for row in mask]


@pytest.fixture
def volume(tmp_path: Path) -> Image:
    return read_image(write_series(tmp_path / "series", volume_values(), LPS, SERIES))


@pytest.fixture
def picture(tmp_path: Path) -> Image:
    """Six rows, eight columns, in pixels."""
    Picture.new("L", (8, 6), 7).save(tmp_path / "image.png")
    return read_image(tmp_path / "image.png")


# Shapes → pixels


def test_a_polygon_holds_the_pixels_whose_centres_it_holds() -> None:
    square = np.array([[1.0, 1.0], [1.0, 4.0], [3.0, 4.0], [3.0, 1.0]])
    assert show(fill_polygon(square, (4, 5))) == [".....", ".###.", ".###.", "....."]
    assert show(fill_polygon(square + 0.4, (4, 5))) == [".....", ".###.", ".###.", "....."]
    assert show(fill_polygon(square + 0.6, (4, 5))) == [".....", ".....", "..###", "..###"]
    # At the centre of row r the edge stands at column r + 0.8, so the centres r + 0.5 and below are inside.
    triangle = np.array([[-0.3, 0.0], [4.7, 0.0], [4.7, 5.0]])
    assert show(fill_polygon(triangle, (4, 5))) == ["#....", "##...", "###..", "####."]


def test_a_disc_and_what_is_smaller_than_a_pixel() -> None:
    disc = fill_ellipse(np.array([2.5, 2.5]), np.eye(2) * 2.0, (5, 5))
    assert show(disc) == ["..#..", ".###.", "#####", ".###.", "..#.."]
    ellipse = fill_ellipse(np.array([1.5, 2.5]), np.array([[0.0, 2.2], [0.6, 0.0]]), (3, 5))
    assert show(ellipse) == [".....", "#####", "....."]
    assert show(fill_ellipse(np.array([1.9, 2.1]), np.eye(2) * 0.1, (3, 4))) == ["....", "..#.", "...."]


# Label maps


def test_a_label_map_in_any_order_of_axes_lands_on_the_image(volume: Image, tmp_path: Path) -> None:
    labels = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.uint8)
    labels[1, 2, 3], labels[4, 0, :2] = 1, 2
    flipped = LPS @ np.array([[1.0, 0, 0, 0], [0, -1, 0, ROWS - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    for path in (
        write_nifti(tmp_path / "labels.nii.gz", labels, LPS),
        write_mha(tmp_path / "labels.mha", labels, LPS),
        write_mha(tmp_path / "turned.mha", np.ascontiguousarray(labels[:, ::-1]), flipped),
    ):
        truth = read_truth(path, volume, Rules(names={1: "lesion", 2: "gland", 3: "cyst"}))
        assert [region.label for region in truth.regions] == ["lesion", "gland", "cyst"]
        np.testing.assert_array_equal(truth.label_map(["lesion", "gland", "cyst"]), labels)
        assert not truth.mask("cyst").any()
        assert not truth.is_empty


def test_a_truth_on_another_grid_is_refused_with_both_named(volume: Image, tmp_path: Path) -> None:
    labels = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.uint8)
    labels[2, 1, 1] = 1
    coarse = LPS @ np.diag([1.0, 2.0, 2.0, 1.0])
    path = write_nifti(tmp_path / "labels.nii.gz", labels, coarse)
    both = r"5 × 4 × 6 voxels of 3 × 4 × 1 mm.*its image has 5 × 4 × 6 voxels of 3 × 2 × 0.5 mm"
    with pytest.raises(GeometryError, match=both):
        read_truth(path, volume)
    truth = read_truth(path, volume, Rules(is_resampled=True))
    # Coarse voxel (2, 1, 1) is centred at fine (2, 2, 2): of the fine centres, that one and those half way at most.
    found = np.argwhere(truth.mask())
    assert [2, 2, 2] in found.tolist()
    assert np.abs(found - [2, 2, 2]).max() <= 1
    shifted = LPS.copy()
    shifted[0, 3] += 0.05
    with pytest.raises(GeometryError, match="both must be the same"):
        read_truth(write_nifti(tmp_path / "shifted.nii.gz", labels, shifted), volume)


def test_values_without_a_name_and_pictures_are_no_labels(volume: Image, tmp_path: Path) -> None:
    labels = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.int16)
    labels[0, 0, 0] = 4
    path = write_mha(tmp_path / "labels.mha", labels, LPS)
    with pytest.raises(InputError, match=r"found values \[4\]; named are \{1: 'lesion'\}"):
        read_truth(path, volume, Rules(names={1: "lesion"}))
    path = write_mha(tmp_path / "grey.mha", volume_values(), LPS)
    with pytest.raises(InputError, match="119 values, so it is a picture"):
        read_truth(path, volume)
    path = write_mha(tmp_path / "chance.mha", labels * np.float32(0.2), LPS)
    with pytest.raises(InputError, match=r"found the value 0\.800000012; allowed is one channel of whole numbers"):
        read_truth(path, volume)


def test_a_png_mask_with_a_rim_to_ignore(picture: Image, tmp_path: Path) -> None:
    values = np.zeros((6, 8), dtype=np.uint8)
    values[1:4, 2:6], values[2, 3:5] = 128, 255
    Picture.fromarray(values).save(tmp_path / "mask.png")
    truth = read_truth(
        tmp_path / "mask.png", picture, Rules(names={255: "lesion", 128: "rim"}, ignore=frozenset({"rim"}))
    )
    assert show(truth.mask()) == ["........", "........", "...##...", "........", "........", "........"]
    assert show(truth.ignore)[1:4] == ["..####..", "..#..#..", "..####.."]
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", picture), values > 0)


def test_an_empty_mask_is_empty_and_a_missing_one_is_an_error(picture: Image, tmp_path: Path) -> None:
    Picture.new("L", (8, 6)).save(tmp_path / "empty.png")
    assert read_truth(tmp_path / "empty.png", picture).is_empty
    with pytest.raises(InputError, match="needs an empty truth, not none"):
        read_truth(tmp_path / "missing.png", picture)
    Picture.new("L", (6, 8)).save(tmp_path / "turned.png")
    with pytest.raises(GeometryError, match=r"found 8 × 6 voxels.*its image has 6 × 8 voxels"):
        read_truth(tmp_path / "turned.png", picture)


def test_two_labels_on_one_voxel_make_no_label_map() -> None:
    grid = Grid.plane(1, 2)
    nothing = np.zeros((1, 2), dtype=np.bool_)
    both = (RegionMark("a", drawn("##")), RegionMark("b", drawn(".#")))
    truth = Truth(grid, both, (), (), nothing)
    with pytest.raises(InputError, match="1 voxels have another label too"):
        truth.label_map(["a", "b"])
    with pytest.raises(InputError, match="found label 'b'; allowed are"):
        truth.label_map(["a"])
    with pytest.raises(GeometryError, match=r"found a mask of \(2, 2\); its grid has \(1, 2\)"):
        Truth(grid, (RegionMark("a", drawn("##", "##")),), (), (), nothing)


# Tables


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_boxes_by_corner_and_by_index(picture: Image, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,label,x0,y0,x1,y1", "a,mass,1,2,4,5", "b,mass,0,0,1,1", "a,?,5,0,7,1")
    truth = read_truth(path, picture, row="a")
    assert truth.boxes == (BoxMark("mass", Box.from_xy(1, 2, 4, 5)), BoxMark("?", Box.from_xy(5, 0, 7, 1)))
    rules = Rules(ignore=frozenset({"?"}), table=ShapeTable(convention="index"))
    truth = read_truth(path, picture, rules, row="a")
    assert truth.boxes == (BoxMark("mass", Box.from_xy(1, 2, 5, 6)),)
    assert show(truth.ignore)[:3] == [".....###", ".....###", "........"]
    assert not truth.is_empty


def test_discs_and_points(picture: Image, tmp_path: Path) -> None:
    discs = table(tmp_path / "discs.csv", "image,cx,cy,radius", "a,3,2,1.2", "b,7.5,5.5,2")
    truth = read_truth(discs, picture, row="a")
    assert show(truth.mask("lesion")) == ["........", "..##....", "..##....", "........", "........", "........"]
    at_the_edge = read_truth(discs, picture, row="b").mask()
    assert show(at_the_edge)[3:] == [".......#", "......##", ".....###"]
    points = table(tmp_path / "points.csv", "image,x,y", "a,3,2")
    assert read_truth(points, picture, row="a").points == (PointMark("lesion", (2.0, 3.0)),)
    by_index = Rules(table=ShapeTable(convention="index"))
    assert read_truth(points, picture, by_index, row="a").points == (PointMark("lesion", (2.5, 3.5)),)


def test_a_point_in_the_patient(volume: Image, tmp_path: Path) -> None:
    """The centre of voxel (3, 1, 2) is the corner coordinate (3.5, 1.5, 2.5)."""
    x, y, z = (LPS @ [3, 1, 2, 1])[:3]
    path = table(tmp_path / "p.csv", "image,x_lps,y_lps,z_lps", f"a,{x},{y},{z}", "b,900,900,900")
    np.testing.assert_allclose(read_truth(path, volume, row="a").points[0].at, (3.5, 1.5, 2.5), atol=1e-4)
    with pytest.raises(GeometryError, match="reaches"):
        read_truth(path, volume, row="b")
    flat = table(tmp_path / "flat.csv", "image,x,y", "a,1,1")
    with pytest.raises(GeometryError, match="a shape in a plane"):
        read_truth(flat, volume, row="a")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,lesion,x,y", "b,0,,"], "no line has image 'a'"),
        (["image,lesion,x,y", "a,1,,"], "line 2: x is ''; .* a lesion without a position is no truth"),
        (["image,x,y", "a,,"], "a lesion without a position"),
        (["image,x,y", "a,1,one"], "line 2: y is 'one'; allowed is a number"),
        (["image,left,top", "a,1,1"], "needed are 'image' and one of"),
        (["film,x,y", "a,1,1"], r"line 1: found columns .*; missing \['image'\]"),
        (["image,x0,y0,x1,y1", "a,3,3,3,4"], "allowed are x0 < x1 and y0 < y1"),
        (["image,cx,cy,radius", "a,3,3,0"], "radius 0; allowed are positive"),
        (["image,x,y", "a,8.1,1"], "is the convention .* the table's"),
    ],
)
def test_tables_that_say_nothing_or_too_much(
    lines: Sequence[str], message: str, picture: Image, tmp_path: Path
) -> None:
    with pytest.raises((InputError, GeometryError), match=message):
        read_truth(table(tmp_path / "t.csv", *lines), picture, row="a")


def test_a_line_may_say_that_nothing_is_there(picture: Image, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,lesion,cx,cy,radius", "a,0,,,")
    assert read_truth(path, picture, row="a").is_empty


# DICOM


def item(**elements: Any) -> Dataset:
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, Items(value) if isinstance(value, list) and keyword.endswith("Sequence") else value)
    return found


def dicom(path: Path, sop_class: str, content: Dataset) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, "1.2.3.99"
    dataset = FileDataset(str(path), content, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3.99"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, "1.2.3.9"
    dataset.save_as(path, enforce_file_format=True)
    return path


def segmentation(
    path: Path, frames: Sequence[tuple[int, Mask]], lps: Floats, series: str = SERIES, kind: str = "BINARY"
) -> Path:
    """A SEG with one segment, `frames` of (slice number, mask), placed by `lps` and by the slices they refer to."""
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    groups = [
        item(
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
            PlanePositionSequence=[item(ImagePositionPatient=(lps @ [place, 0, 0, 1])[:3].round(6).tolist())],
            DerivationImageSequence=[item(SourceImageSequence=[instance(f"{series}.{place + 1}")])],
        )
        for place, _ in frames
    ]
    shared = item(
        PlaneOrientationSequence=[
            item(ImageOrientationPatient=(lps[:3, [2, 1]] / spacing[[2, 1]]).T.ravel().round(9).tolist())
        ],
        PixelMeasuresSequence=[item(PixelSpacing=spacing[1:].round(6).tolist(), SliceThickness=77)],
    )
    pixels = np.array([mask for _, mask in frames], dtype=np.uint8)
    depth = 1 if kind == "BINARY" else 8
    referred = [instance(f"{series}.{place + 1}") for place, _ in frames]
    content = item(
        SegmentationType=kind,
        Modality="SEG",
        Rows=pixels.shape[1],
        Columns=pixels.shape[2],
        NumberOfFrames=len(frames),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        PixelRepresentation=0,
        BitsAllocated=depth,
        BitsStored=depth,
        HighBit=depth - 1,
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="gland")],
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
        ReferencedSeriesSequence=[item(SeriesInstanceUID=series, ReferencedInstanceSequence=referred)],
    )
    data = pack_bits(pixels.ravel()) if kind == "BINARY" else pixels.tobytes()
    content.PixelData = data + b"\0" * (len(data) % 2)
    content["PixelData"].VR = "OB"
    return dicom(path, f"1.2.840.10008.5.1.4.1.1.66.{7 if kind == 'LABELMAP' else 4}", content)


def instance(sop_uid: str) -> Dataset:
    return item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4", ReferencedSOPInstanceUID=sop_uid)


L_SHAPE = drawn("......", ".#....", ".###..", "......")


def test_segment_frames_find_their_slices_by_position(volume: Image, tmp_path: Path) -> None:
    path = segmentation(tmp_path / "seg.dcm", [(3, L_SHAPE), (1, ~L_SHAPE)], LPS)
    truth = read_truth(path, volume)
    expected = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.bool_)
    expected[3], expected[1] = L_SHAPE, ~L_SHAPE
    assert [region.label for region in truth.regions] == ["gland"]
    np.testing.assert_array_equal(truth.mask()[order_of(volume)], expected)


def order_of(volume: Image) -> slice:
    """The slices in the order of `volume_values`, whichever way the reader sorted them."""
    return slice(None) if volume.array[0, 0, 0, 0] == 0 else slice(None, None, -1)


def test_a_segmentation_of_a_part_of_the_field_and_turned_round(volume: Image, tmp_path: Path) -> None:
    """Written from the last row upwards, and without the first column."""
    part = LPS @ np.array([[1.0, 0, 0, 0], [0, -1, 0, ROWS - 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    path = segmentation(tmp_path / "seg.dcm", [(2, L_SHAPE[::-1, 1:])], part)
    mask = read_truth(path, volume).mask()[order_of(volume)]
    assert show(mask[2]) == show(L_SHAPE)
    assert mask.sum() == L_SHAPE.sum()


def test_a_segmentation_on_another_grid(volume: Image, tmp_path: Path) -> None:
    coarse = LPS @ np.diag([1.0, 1.0, 2.0, 1.0])
    path = segmentation(tmp_path / "seg.dcm", [(2, L_SHAPE), (3, L_SHAPE)], coarse)
    with pytest.raises(GeometryError, match=r"3 × 2 × 1 mm.*its image has .* 3 × 2 × 0.5 mm"):
        read_truth(path, volume)
    mask = read_truth(path, volume, Rules(is_resampled=True)).mask()[order_of(volume)]
    assert [bool(plane.any()) for plane in mask] == [False, False, True, True, False]
    # Coarse column 1 is centred at fine column 2, coarse column 3 at fine column 6, outside.
    assert mask[2, 1, 2]
    assert not mask[2, :, 0].any()


def test_a_segmentation_of_other_images_or_of_fractions(volume: Image, tmp_path: Path) -> None:
    path = segmentation(tmp_path / "other.dcm", [(2, L_SHAPE)], LPS, series="9.8.7")
    with pytest.raises(InputError, match=r"refers to 1 SOP instances, first 9\.8\.7\.3; none is of its image"):
        read_truth(path, volume)
    path = segmentation(tmp_path / "fraction.dcm", [(2, L_SHAPE)], LPS, kind="FRACTIONAL")
    with pytest.raises(InputError, match="FRACTIONAL; allowed are BINARY and LABELMAP"):
        read_truth(path, volume)


def test_a_labelmap_lies_as_its_source_lies(volume: Image, tmp_path: Path) -> None:
    path = segmentation(tmp_path / "map.dcm", [(1, L_SHAPE), (3, ~L_SHAPE)], LPS, kind="LABELMAP")
    mask = read_truth(path, volume).mask("gland")[order_of(volume)]
    assert show(mask[1]) == show(L_SHAPE)
    assert show(mask[3]) == show(~L_SHAPE)
    upside_down = LPS @ np.array([[1.0, 0, 0, 0], [0, -1, 0, ROWS - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    path = segmentation(tmp_path / "turned.dcm", [(1, L_SHAPE[::-1])], upside_down, kind="LABELMAP")
    with pytest.raises(GeometryError, match="both must be the same"):
        read_truth(path, volume)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_on_a_single_image_only_its_own_frame_counts(kind: str, volume: Image, tmp_path: Path) -> None:
    del volume  # its files are what is read here
    path = segmentation(tmp_path / "seg.dcm", [(1, ~L_SHAPE), (2, L_SHAPE)], LPS, kind=kind)
    image = read_image(tmp_path / "series" / "2.dcm")
    assert show(read_truth(path, image).mask()) == show(L_SHAPE)
    with pytest.raises(InputError, match="none is of its image"):
        read_truth(path, read_image(tmp_path / "series" / "0.dcm"))


def test_damaged_objects_end_with_a_reason(volume: Image, tmp_path: Path) -> None:
    whole = segmentation(tmp_path / "seg.dcm", [(2, L_SHAPE)], LPS).read_bytes()
    drawing = structures(tmp_path / "rt.dcm", [("CLOSED_PLANAR", rectangle(2, (0, 0), (2, 2)))]).read_bytes()
    random = np.random.default_rng(5)
    path = tmp_path / "damaged.dcm"
    refused = 0
    for data in (whole, drawing):
        for _ in range(150):
            broken = bytearray(data)
            for place in random.integers(132, len(data), 4):
                broken[place] = random.integers(256)
            path.write_bytes(bytes(broken[: random.choice([len(data), len(data) - 30])]))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # pydicom describes what it finds odd
                    read_truth(path, volume)
            except ImagingError:
                refused += 1
    assert refused


def structures(path: Path, contours: Sequence[tuple[str, Floats]], series: str = SERIES) -> Path:
    """An RTSTRUCT with one ROI; contours are (type, points (n, 3) in voxel centres (slice, row, column))."""

    def data(points: Floats) -> list[float]:
        lps = np.column_stack([points, np.ones(len(points))]) @ LPS.T
        return [float(v) for v in lps[:, :3].round(6).ravel()]

    content = item(
        Modality="RTSTRUCT",
        ReferencedFrameOfReferenceSequence=[
            item(
                RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=series)])],
            )
        ],
        StructureSetROISequence=[item(ROINumber=5, ROIName="bladder"), item(ROINumber=6, ROIName="nothing")],
        ROIContourSequence=[
            item(
                ReferencedROINumber=5,
                ContourSequence=[
                    item(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=data(points))
                    for kind, points in contours
                ],
            )
        ],
    )
    return dicom(path, "1.2.840.10008.5.1.4.1.1.481.3", content)


def rectangle(place: float, low: tuple[float, float], high: tuple[float, float]) -> Floats:
    (top, left), (bottom, right) = low, high
    return np.array([[place, top, left], [place, top, right], [place, bottom, right], [place, bottom, left]])


def test_contours_fill_the_slices_they_are_drawn_on(volume: Image, tmp_path: Path) -> None:
    """Contours in centre indices: from -0.5 to 3.5 is the whole of four rows. One inside another is a hole."""
    outer, hole = rectangle(2, (-0.5, 0.5), (3.5, 4.5)), rectangle(2, (0.5, 1.5), (2.5, 3.5))
    upper = rectangle(3, (0.6, 0.6), (1.4, 2.4))
    closed = "CLOSED_PLANAR"
    path = structures(tmp_path / "rt.dcm", [(closed, outer), (closed, hole), (closed, upper)])
    truth = read_truth(path, volume)
    mask = truth.mask("bladder")[order_of(volume)]
    assert show(mask[2]) == [".####.", ".#..#.", ".#..#.", ".####."]
    assert show(mask[3]) == ["......", ".##...", "......", "......"]
    assert not mask[[0, 1, 4]].any()
    assert [region.label for region in truth.regions] == ["bladder", "nothing"]
    assert not truth.mask("nothing").any()


def test_contours_between_slices_open_or_of_another_series(volume: Image, tmp_path: Path) -> None:
    between = rectangle(2.4, (0, 0), (2, 2))
    with pytest.raises(GeometryError, match=r"ROI 'bladder', contour 1: lies 0\.40 slices off"):
        read_truth(structures(tmp_path / "a.dcm", [("CLOSED_PLANAR", between)]), volume)
    with pytest.raises(InputError, match="'OPEN_PLANAR' with 4 points"):
        read_truth(structures(tmp_path / "b.dcm", [("OPEN_PLANAR", rectangle(2, (0, 0), (2, 2)))]), volume)
    other = structures(tmp_path / "c.dcm", [("CLOSED_PLANAR", rectangle(2, (0, 0), (2, 2)))], series="9.8.7")
    with pytest.raises(InputError, match=r"refers to 1 series, first 9\.8\.7"):
        read_truth(other, volume)
    points = read_truth(structures(tmp_path / "d.dcm", [("POINT", np.array([[2.0, 1.0, 3.0]]))]), volume).points
    assert [point.label for point in points] == ["bladder"]
    np.testing.assert_allclose(points[0].at[1:], (1.5, 3.5), atol=1e-4)


def report(path: Path, regions: Sequence[tuple[str, list[float]]], sop_uid: str = f"{SERIES}.3") -> Path:
    """An SR whose only content are regions on one image; the third slice of the series unless said otherwise."""
    source = instance(sop_uid)
    children = [
        item(
            ValueType="SCOORD",
            RelationshipType="CONTAINS",
            GraphicType=kind,
            GraphicData=data,
            ContentSequence=[item(ValueType="IMAGE", RelationshipType="SELECTED FROM", ReferencedSOPSequence=[source])],
        )
        for kind, data in regions
    ]
    content = item(
        Modality="SR",
        ValueType="CONTAINER",
        ContentSequence=children,
        CurrentRequestedProcedureEvidenceSequence=[
            item(
                StudyInstanceUID=STUDY,
                ReferencedSeriesSequence=[item(SeriesInstanceUID=SERIES, ReferencedSOPSequence=[source])],
            )
        ],
    )
    return dicom(path, "1.2.840.10008.5.1.4.1.1.88.33", content)


def test_regions_of_a_report(volume: Image, tmp_path: Path) -> None:
    """SCOORD counts x, y from the corner of the first pixel: 1, 1 to 4, 3 is three pixels by two."""
    closed = [1.0, 1, 4, 1, 4, 3, 1, 3, 1, 1]
    path = report(
        tmp_path / "sr.dcm",
        [("POLYLINE", closed), ("CIRCLE", [4.5, 1.5, 5.6, 1.5]), ("POINT", [2.5, 0.5])],
    )
    truth = read_truth(path, volume)
    place = next(k for k, ref in enumerate(volume.refs) if ref.sop_uid.endswith(".3"))
    first, second = (region.mask for region in truth.regions)
    assert show(first[place]) == ["......", ".###..", ".###..", "......"]
    assert show(second[place]) == ["....#.", "...###", "....#.", "......"]
    assert first.sum() + second.sum() == 6 + 5
    assert truth.points == (PointMark("finding", (place + 0.5, 0.5, 2.5)),)


def test_reports_that_do_not_place_their_findings_here(volume: Image, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none is of its image"):
        read_truth(report(tmp_path / "a.dcm", [("POINT", [1.0, 1.0])], sop_uid="9.8.7"), volume)
    with pytest.raises(InputError, match="GraphicType 'POLYLINE' with 2 points"):
        read_truth(report(tmp_path / "b.dcm", [("POLYLINE", [1.0, 1, 3, 3])]), volume)
    with pytest.raises(GeometryError, match="GraphicData reaches"):
        read_truth(report(tmp_path / "c.dcm", [("POINT", [1.0, 40.0])]), volume)


# Real data


@pytest.mark.shared_data
def test_masks_and_finding_of_a_real_prostate(shared_data: Path) -> None:
    folder = shared_data / "prostate_mri"
    image = read_image(folder / "prostatex_0001" / "s06_t2_tra")
    labels = folder / "labels" / "prostatex_0001"
    volumes_ml = []
    for name in ("gland_ai_guerbet23.nii.gz", "gland_ai_bosma22b.nii.gz", "zones_ai_yuan23.nii.gz"):
        own = read_image(labels / name)
        ends = np.array([[k, r, c, 1.0] for k in (0, 18) for r in (0, 383) for c in (0, 383)])
        nearest = [
            np.linalg.norm((ends @ image.grid.affine.T)[:, None] - e, axis=-1).min() for e in ends @ own.grid.affine.T
        ]
        assert max(nearest) < 1e-3
        volumes_ml.append(read_truth(labels / name, image).mask().sum() * image.grid.voxel_size / 1000)
    assert volumes_ml[:2] == pytest.approx([31.2, 32.3], abs=0.1)
    assert read_truth(labels / "cspca_expert_original.nii.gz", image).is_empty


@pytest.mark.shared_data
def test_the_finding_point_falls_on_its_voxel(shared_data: Path, tmp_path: Path) -> None:
    image = read_image(shared_data / "prostate_mri" / "prostatex_0001" / "s06_t2_tra")
    with (shared_data / "prostate_mri" / "labels" / "prostatex_findings.csv").open(encoding="utf-8") as stream:
        row = next(line for line in csv.DictReader(stream) if line["ProxID"] == "ProstateX-0001")
    x, y, z = row["pos"].split()
    path = table(tmp_path / "p.csv", "image,x_lps,y_lps,z_lps", f"0001,{x},{y},{z}")
    (point,) = read_truth(path, image, row="0001").points
    assert tuple(np.floor(point.at).astype(int)) == (9, 186, 157)
    assert row["t2_tse_tra"] == "157 186 9"


@pytest.mark.shared_data
def test_real_circles_and_boxes(shared_data: Path) -> None:
    films = shared_data / "mammography" / "mini_mias"
    rules = Rules(table=ShapeTable(label="severity"))
    for film, label in (("images/mdb001.png", "B"), ("images/mdb028.png", "M")):
        image = read_image(films / film, spacing_mm=(0.4, 0.4))
        truth = read_truth(films / "lesions.csv", image, rules, row=film)
        assert {region.label for region in truth.regions} == {label}
        assert image.array[0][truth.mask()].mean() > image.array[0].mean()
    first = read_image(films / "images/mdb001.png")
    mask = read_truth(films / "lesions.csv", first, rules, row="images/mdb001.png").mask()
    assert mask.sum() == pytest.approx(np.pi * 98.5**2, rel=0.01)
    assert np.argwhere(mask).mean(axis=0) + 0.5 == pytest.approx([299.5, 267.5], abs=0.1)
    assert read_truth(films / "lesions.csv", first, rules, row="images/mdb003.png").is_empty
    study = shared_data / "mammography" / "cbis_p00173"
    image = read_image(study / "right_cc.dcm")
    by_index = Rules(table=ShapeTable(key="file", label="pathology", convention="index"))
    boxes = read_truth(study / "boxes.csv", image, by_index, row="right_cc.dcm").boxes
    assert BoxMark("BENIGN", Box.from_xy(2445, 2443, 2864, 2915)) in boxes
    assert image.source_grid.shape == (4560, 2864)


@pytest.mark.shared_data
def test_a_segmentation_by_others_on_its_own_series(shared_data: Path) -> None:
    folder = shared_data / "results" / "dcmqi" / "segmentations"
    image = read_image(folder / "source_23x38x3")
    truth = read_truth(folder / "label_23x38x3.dcm", image)
    assert [(r.label, r.mask.sum(axis=(1, 2)).tolist()) for r in truth.regions] == [("Liver", [4, 314, 4])]
    with pytest.raises(InputError, match="none is of its image"):
        read_truth(folder / "sparse-labelmap-noppv.dcm", image)


@pytest.mark.shared_data
def test_a_segmentation_by_others_equals_its_source_map(shared_data: Path, tmp_path: Path) -> None:
    """A SEG and the NRRD it was made from, by other programs: every voxel at the same place of the patient."""
    folder = shared_data / "results" / "dcmqi" / "segmentations"
    sitk.WriteImage(sitk.ReadImage(str(folder / "liver_seg.nrrd")), str(tmp_path / "liver.mha"))
    source = read_image(tmp_path / "liver.mha")
    mask = read_truth(folder / "liver.dcm", source).mask("Liver")
    assert mask.sum() == 107_098
    np.testing.assert_array_equal(mask, source.array[0] > 0)


@pytest.mark.shared_data
def test_a_gland_keeps_its_volume_on_another_series(shared_data: Path) -> None:
    """Resampled from axial to sagittal slices when asked for: 32.2 mL on both grids."""
    folder = shared_data / "prostate_mri"
    sagittal = read_image(folder / "prostatex_0001" / "s04_t2_sag")
    path = folder / "labels" / "prostatex_0001" / "gland_ai_bosma22b.nii.gz"
    with pytest.raises(GeometryError, match=r"19 × 384 × 384 .*its image has 19 × 320 × 320"):
        read_truth(path, sagittal)
    mask = read_truth(path, sagittal, Rules(is_resampled=True)).mask()
    assert mask.sum() * sagittal.grid.voxel_size / 1000 == pytest.approx(32.2, abs=0.1)
