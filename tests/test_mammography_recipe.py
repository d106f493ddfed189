"""How mammograms are shown and placed: PS3.3's formulas worked by hand, exact ways home, what real films look like."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from pydicom import dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from torch import Tensor, nn

from imaging.data.images import read_image
from imaging.errors import ImagingError, Reason
from imaging.extraction import extract, place
from imaging.findings import Detections, Prediction
from imaging.golden import UNREFERENCED
from imaging.grayscale import Grayscale, LookupTable, VoiWindow
from imaging.harmonise.spatial import Crop, Flip, Respace, Transpose, grid_of, to_tensor
from imaging.image import Grid, Image, Origin, View, resample
from imaging.modalities.mammography.breast import anterior_point, breast_height, breast_mask, chest_side
from imaging.modalities.mammography.recipe import MammographyRecipe, _ranged
from imaging.models.build import Outputs
from imaging.models.detection import detect
from imaging.models.networks import RetinaNetSettings
from imaging.models.retinanet import anchors, encode
from tests.mammograms import breast, dataset, lut_item, read, written

# Stored values 0 to 15. Centre 8 and width 8, or a table of eight entries for the inputs from 4 on.
STORED = np.arange(16, dtype=np.uint16).reshape(4, 4)
WINDOW = {"WindowCenter": 8, "WindowWidth": 8}
VOI: dict[str, dict[str, Any]] = {
    "LINEAR": {**WINDOW, "VOILUTFunction": "LINEAR"},
    "LINEAR_EXACT": {**WINDOW, "VOILUTFunction": "LINEAR_EXACT"},
    "SIGMOID": {**WINDOW, "VOILUTFunction": "SIGMOID"},
    "table": {"VOILUTSequence": [lut_item(4, 8, [0, 10, 30, 60, 100, 150, 200, 255])], **WINDOW},
    "none": {},
}
# By hand. LINEAR (C.11.2.1.2.1): 0 up to 8 - 0.5 - 7/2 = 4, (x - 7.5)/7 + 0.5 = (x - 4)/7 to 11, then 1.
# LINEAR_EXACT: 0 up to 4, (x - 8)/8 + 0.5 = (x - 4)/8 to 12, then 1. SIGMOID: 1/(1 + exp(-4 (x - 8)/8)).
# The table has the first entry up to 4, the last from 11 on, of 255. Without any, lowest and highest become 0 and 1.
WHITE_IS_HIGH = {
    "LINEAR": [[0, 0, 0, 0], [0, 1 / 7, 2 / 7, 3 / 7], [4 / 7, 5 / 7, 6 / 7, 1], [1, 1, 1, 1]],
    "LINEAR_EXACT": [[0, 0, 0, 0], [0, 0.125, 0.25, 0.375], [0.5, 0.625, 0.75, 0.875], [1, 1, 1, 1]],
    "SIGMOID": [
        [0.017986, 0.029312, 0.047426, 0.075858],
        [0.119203, 0.182426, 0.268941, 0.377541],
        [0.5, 0.622459, 0.731059, 0.817574],
        [0.880797, 0.924142, 0.952574, 0.970688],
    ],
    "table": [
        [0, 0, 0, 0],
        [0, 10 / 255, 30 / 255, 60 / 255],
        [100 / 255, 150 / 255, 200 / 255, 1],
        [1, 1, 1, 1],
    ],
    "none": [
        [0, 1 / 15, 2 / 15, 3 / 15],
        [4 / 15, 5 / 15, 6 / 15, 7 / 15],
        [8 / 15, 9 / 15, 10 / 15, 11 / 15],
        [12 / 15, 13 / 15, 14 / 15, 1],
    ],
}
# MONOCHROME1 shows the lowest as white: what is above, subtracted from 1 after the VOI step.
WHITE_IS_LOW = {
    "LINEAR": [[1, 1, 1, 1], [1, 6 / 7, 5 / 7, 4 / 7], [3 / 7, 2 / 7, 1 / 7, 0], [0, 0, 0, 0]],
    "LINEAR_EXACT": [[1, 1, 1, 1], [1, 0.875, 0.75, 0.625], [0.5, 0.375, 0.25, 0.125], [0, 0, 0, 0]],
    "SIGMOID": [
        [0.982014, 0.970688, 0.952574, 0.924142],
        [0.880797, 0.817574, 0.731059, 0.622459],
        [0.5, 0.377541, 0.268941, 0.182426],
        [0.119203, 0.075858, 0.047426, 0.029312],
    ],
    "table": [
        [1, 1, 1, 1],
        [1, 245 / 255, 225 / 255, 195 / 255],
        [155 / 255, 105 / 255, 55 / 255, 0],
        [0, 0, 0, 0],
    ],
    "none": [
        [1, 14 / 15, 13 / 15, 12 / 15],
        [11 / 15, 10 / 15, 9 / 15, 8 / 15],
        [7 / 15, 6 / 15, 5 / 15, 4 / 15],
        [3 / 15, 2 / 15, 1 / 15, 0],
    ],
}


def shown(image: Image) -> np.ndarray:
    """The intensity chain with the whole picture as breast."""
    assert image.grayscale is not None
    item = image.grayscale.item()
    light = image.grayscale.display(image.array[0], item)
    return light if item else _ranged(light, np.ones(light.shape, np.bool_), 0.0, 100.0)


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE", None])
@pytest.mark.parametrize("voi", list(VOI))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_every_combination_is_shown_as_worked_by_hand(
    tmp_path: Path, photometric: str, voi: str, shape: str | None
) -> None:
    """PresentationLUTShape repeats what PhotometricInterpretation says and never inverts on top of it."""
    tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape, **VOI[voi]}
    image = written(tmp_path / "a.dcm", dataset(STORED, **tags))
    assert image.array.dtype == np.uint16
    assert image.array[0].tolist() == STORED.tolist()
    expected = (WHITE_IS_LOW if photometric == "MONOCHROME1" else WHITE_IS_HIGH)[voi]
    assert shown(image).dtype == np.float32
    np.testing.assert_allclose(shown(image), expected, atol=1e-6)
    contradicts = (photometric, shape) in {("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")}
    assert any("PresentationLUTShape" in note for note in image.notes) is contradicts


def test_the_voi_item_is_chosen_by_its_explanation_and_tables_stand_before_windows(tmp_path: Path) -> None:
    tables = [lut_item(0, 8, [0, 255], "HARDER"), lut_item(0, 8, [255, 0], "Normal")]
    ds = dataset(STORED, VOILUTSequence=tables, WindowCenter=[8, 4], WindowWidth=[8, 2])
    ds.WindowCenterWidthExplanation = ["NORMAL", "SOFTER"]
    grayscale = written(tmp_path / "a.dcm", ds).grayscale
    assert grayscale is not None
    assert grayscale.item("NORMAL") is grayscale.tables[1]
    assert grayscale.item("SOFTER") is grayscale.tables[0]
    assert grayscale.windows == (VoiWindow(8, 8, "LINEAR", "NORMAL"), VoiWindow(4, 2, "LINEAR", "SOFTER"))


def test_rescale_or_a_modality_table_goes_first(tmp_path: Path) -> None:
    """Stored 3 is 2 · 3 - 5 = 1. A Modality LUT takes its place: stored 3 is its fourth entry, 40."""
    rescaled = written(tmp_path / "a.dcm", dataset(STORED, RescaleSlope=2, RescaleIntercept=-5)).grayscale
    tabled = dataset(STORED, ModalityLUTSequence=[lut_item(0, 8, [10, 20, 30, 40])], RescaleSlope=2)
    table = written(tmp_path / "b.dcm", tabled).grayscale
    assert rescaled is not None
    assert table is not None
    assert rescaled.modality(np.array([3])).tolist() == [1]
    assert table.modality(np.array([3, 9])).tolist() == [40, 40]


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"WindowCenter": [8, 9], "WindowWidth": [8]}, "2 WindowCenter for 1 WindowWidth"),
        ({"WindowCenter": [8, 9], "WindowWidth": [8, 0]}, "Window 2 has no usable"),
        ({"WindowCenter": 8, "WindowWidth": 8, "VOILUTFunction": "CUBIC"}, "VOILUTFunction is none of"),
        ({"VOILUTSequence": [lut_item(0, 17, [1, 2])]}, "VOI LUT 1 is left out: LUTDescriptor says 17 bits"),
    ],
)
def test_a_damaged_alternative_is_left_out_and_said(tmp_path: Path, tags: dict[str, Any], note: str) -> None:
    assert any(note in said for said in written(tmp_path / "a.dcm", dataset(STORED, **tags)).notes)


def test_a_window_and_the_table_of_its_values_agree_within_a_grey_level() -> None:
    """The 12-bit window 2000/3000 and its values rounded to 16 bits: one grey level of the source is 1/2999."""
    stored = np.arange(4096, dtype=np.uint16)[None]
    window = VoiWindow(2000, 3000)
    entries = np.rint(window.apply(np.arange(4096.0)) * 65535).astype(np.uint16)
    one = Grayscale(windows=(window,)).display(stored, window)
    table = LookupTable(0, entries, 16)
    assert np.abs(one - Grayscale(tables=(table,)).display(stored, table)).max() < 1 / 2999


def test_padding_is_no_breast_and_no_percentile(tmp_path: Path) -> None:
    """The white padding of a MONOCHROME1 image (stored 0) around the breast stays black and moves no percentile."""
    pixels = 4095 - breast()
    framed = np.pad(pixels, ((0, 0), (0, 60)))
    tags = {"PhotometricInterpretation": "MONOCHROME1", "ImagerPixelSpacing": [0.5, 0.5]}
    recipe = MammographyRecipe(rows=256, columns=192, spacing_mm=0.5)
    bare = recipe.tissue(written(tmp_path / "a.dcm", dataset(pixels, **tags)))
    padded = recipe.tissue(written(tmp_path / "b.dcm", dataset(framed, **tags, PixelPaddingValue=0)))
    assert padded.pixels.shape == bare.pixels.shape
    np.testing.assert_allclose(padded.pixels.numpy(), bare.pixels.numpy(), atol=1e-4)


def by_gdcm(path: Path, syntax: str) -> None:
    """The file at `other.dcm` beside it, with its pixels encoded anew."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path.parent / "other.dcm"))
    assert writer.Write()


def by_pydicom(path: Path, syntax: str) -> None:
    ds = dcmread(path)
    if syntax == RLELossless:
        ds.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        for item, keyword in ((ds, "PixelData"), (ds.VOILUTSequence[0], "LUTData")):
            item[keyword].value = np.frombuffer(item[keyword].value, "<u2").astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    encoding = {"implicit_vr": syntax == ImplicitVRLittleEndian, "little_endian": syntax != ExplicitVRBigEndian}
    dcmwrite(path.parent / "other.dcm", ds, force_encoding=True, **encoding)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (ImplicitVRLittleEndian, by_pydicom),
        (ExplicitVRBigEndian, by_pydicom),
        (DeflatedExplicitVRLittleEndian, by_pydicom),
        (RLELossless, by_pydicom),
        (JPEGLossless, by_gdcm),
        (JPEGLosslessSV1, by_gdcm),
        (JPEGLSLossless, by_gdcm),
        (JPEG2000Lossless, by_gdcm),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_lossless_encodings_of_one_view_harmonise_to_equal_bits(tmp_path: Path, syntax: str, encode: Any) -> None:
    table = lut_item(0, 12, [int(v) for v in np.arange(4096) ** 0.9 * 4095**0.1])
    ds = dataset(breast(), ImagerPixelSpacing=[0.5, 0.5], BitsStored=12, HighBit=11, VOILUTSequence=[table])
    recipe = MammographyRecipe(rows=128, columns=128, spacing_mm=1.0)
    plain = recipe.harmonise(recipe.tissue(written(tmp_path / "plain.dcm", ds)))
    encode(tmp_path / "plain.dcm", syntax)
    assert dcmread(tmp_path / "other.dcm").file_meta.TransferSyntaxUID == syntax
    again = recipe.harmonise(recipe.tissue(read(tmp_path / "other.dcm")))
    assert float(plain.max()) > 0.5
    assert np.array_equal(plain.numpy(), again.numpy())


# PatientOrientation (towards higher columns, towards higher rows) → how the upright picture (A, F) is turned to it.
TURNS = {
    ("A", "F"): lambda a: a,
    ("P", "F"): lambda a: a[:, ::-1],
    ("A", "H"): lambda a: a[::-1],
    ("P", "H"): lambda a: a[::-1, ::-1],
    ("F", "A"): lambda a: a.T,
    ("H", "A"): lambda a: a.T[:, ::-1],
    ("F", "P"): lambda a: a.T[::-1],
    ("H", "P"): lambda a: a.T[::-1, ::-1],
}


@pytest.mark.parametrize("directions", list(TURNS), ids="-".join)
def test_all_eight_orientations_come_upright_and_home(tmp_path: Path, directions: tuple[str, str]) -> None:
    """The same breast, however it was stored, gives the same model image; boxes go there and back."""
    recipe = MammographyRecipe(rows=192, columns=128, spacing_mm=0.7)
    tags = {"ImagerPixelSpacing": [0.5, 0.5]}
    upright = recipe.harmonise(recipe.tissue(written(tmp_path / "a.dcm", dataset(breast(), **tags))))
    pixels = np.ascontiguousarray(TURNS[directions](breast()))
    image = written(tmp_path / "b.dcm", dataset(pixels, PatientOrientation=list(directions), **tags))
    tissue = recipe.tissue(image)
    harmonised = recipe.harmonise(tissue)
    np.testing.assert_allclose(harmonised.numpy(), upright.numpy(), atol=1e-4)
    assert not any("chest wall" in note for note in tissue.notes)
    rng = np.random.default_rng(5)
    low = rng.uniform(10, 90, (50, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 50, (50, 2))], axis=1)
    there = image.source_grid.carry_boxes(boxes, grid_of(harmonised))
    assert np.abs(grid_of(harmonised).carry_boxes(there, image.source_grid) - boxes).max() < 0.01
    # A blob in the picture is where the affine says: 60 pixels down and 30 in from the upright picture's corner.
    spot = np.zeros((240, 160))
    r, c = np.mgrid[:240, :160] + 0.5
    spot += np.exp(-((r - 100) ** 2 + (c - 40) ** 2) / 18)
    turned = np.ascontiguousarray(TURNS[directions](spot))
    grid = image.source_grid
    blob = Crop((10, 5), (grid.shape[0] - 20, grid.shape[1] - 10))(
        to_tensor(Image(turned[None], grid, grid, (), Origin()))
    )
    steps = [step for step in tissue.steps if step == Transpose()]
    for step in [*steps, Flip(1), Respace((0.7, 0.7))]:
        blob = step(blob)
    values = blob.numpy()[0].astype(np.float64)
    measured = (np.indices(values.shape).reshape(2, -1) + 0.5) @ values.ravel() / values.sum()
    source = (np.indices(turned.shape).reshape(2, -1) + 0.5) @ turned.ravel() / turned.sum()
    assert np.abs(grid_of(blob).carry_corners(measured[None], grid)[0] - source).max() < 0.5


# Drawn on the upright picture, as rows and columns; the turns say where it must come home to.
LESION = (slice(71, 92), slice(33, 47))


def turned_lesion(directions: tuple[str, str]) -> np.ndarray:
    """The lesion's pixels on the picture as it was stored."""
    drawn = np.zeros((240, 160), dtype=np.bool_)
    drawn[LESION] = True
    return TURNS[directions](drawn)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Image]:
    """The same breast in all eight orientations, its pixels 0.5 mm high and 0.4 mm wide when upright."""
    folder, images = tmp_path_factory.mktemp("turned"), {}
    for directions, turn in TURNS.items():
        steps = [0.5, 0.4] if directions[0] in "AP" else [0.4, 0.5]
        pixels = np.ascontiguousarray(turn(breast()))
        told = dataset(pixels, PatientOrientation=list(directions), ImagerPixelSpacing=steps)
        images[directions] = written(folder / f"{'-'.join(directions)}.dcm", told)
    return images


TURNED = MammographyRecipe(rows=192, columns=128, spacing_mm=0.7)


@pytest.mark.parametrize("directions", list(TURNS), ids="-".join)
def test_a_box_of_the_model_comes_home_in_every_orientation(
    directions: tuple[str, str], stored: dict[tuple[str, str], Image]
) -> None:
    """One box on the model grid, where the upright picture has its lesion, is that lesion however it was stored."""
    upright, image = stored["A", "F"], stored[directions]
    rows, columns = LESION
    known = np.array([[rows.start, columns.start, rows.stop, columns.stop]], dtype=np.float64)
    box = upright.source_grid.carry_boxes(known, grid_of(TURNED.harmonise(TURNED.tissue(upright))))
    grid = grid_of(TURNED.harmonise(TURNED.tissue(image)))
    told = Detections(box, np.array([0.9]), np.array([1]), grid, image.source_grid, UNREFERENCED)
    (found,) = place(told, ("mass",))
    drawn = turned_lesion(directions)
    across, down = np.flatnonzero(drawn.any(0)), np.flatnonzero(drawn.any(1))
    assert np.abs(np.subtract(found.box_px, (across[0], down[0], across[-1] + 1, down[-1] + 1))).max() < 0.01
    assert np.array_equal(found.full_mask(), drawn)
    assert found.longest_diameter_mm == pytest.approx(10.5)  # 21 rows of 0.5 mm beside 14 columns of 0.4 mm


@pytest.mark.parametrize("directions", list(TURNS), ids="-".join)
def test_a_mask_of_the_model_comes_home_within_half_a_pixel(
    directions: tuple[str, str], stored: dict[tuple[str, str], Image]
) -> None:
    image, drawn = stored[directions], turned_lesion(directions)
    grid = grid_of(TURNED.harmonise(TURNED.tissue(image)))
    chance = resample(drawn.astype(np.float32), image.source_grid, grid)
    told = Prediction(np.stack([1 - chance, chance]), grid, image.source_grid, UNREFERENCED)
    (found,) = extract(told, ("mass",), 0.5, 1)
    rows, columns = np.nonzero(drawn)
    assert found.center_px == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5), abs=0.5)
    assert found.mask.sum() == pytest.approx(drawn.sum(), rel=0.1)


@pytest.mark.parametrize("directions", list(TURNS), ids="-".join)
def test_what_a_network_sees_in_a_tile_comes_home(
    directions: tuple[str, str], stored: dict[tuple[str, str], Image]
) -> None:
    """A white lesion on the breast, seen on the model's picture tile by tile, is where it was drawn."""
    image, drawn = stored[directions], turned_lesion(directions)
    marked = np.where(drawn[None], np.uint16(12000), image.array)
    harmonised = TURNED.harmonise(TURNED.tissue(replace(image, array=marked)))
    network = RetinaNetSettings(features=(8, 12), stem=2, pyramid=2, pyramid_width=8, anchors=(12.0,))
    found = detect(SeesWhite(network), harmonised.as_tensor(), network, (64, 64), 40)
    told = Detections(*(part.numpy() for part in found), grid_of(harmonised), image.source_grid, UNREFERENCED)
    (lesion,) = place(told, ("mass",))
    across, down = np.flatnonzero(drawn.any(0)), np.flatnonzero(drawn.any(1))
    edges = np.subtract(lesion.box_px, (across[0], down[0], across[-1] + 1, down[-1] + 1))
    assert np.abs(edges).max() < 1.2  # the model's pixels are 1.4 and 1.75 of the source's, and it sees whole ones


class SeesWhite(nn.Module):
    """A network that gives the box of all pixels brighter than 0.7, as the code of the anchor nearest to it."""

    def __init__(self, network: RetinaNetSettings) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Outputs:
        levels = anchors(self.network, x.shape[2:])
        every, places = torch.cat(levels), (x[0, 0] > 0.7).nonzero()
        logits, codes = torch.full((1, len(every), 1), -20.0), torch.zeros(1, len(every), 4)
        if len(places):
            box = torch.cat([places.min(0).values, places.max(0).values + 1]).float()
            nearest = int((every[:, :2] + every[:, 2:] - box[:2] - box[2:]).square().sum(1).argmin())
            logits[0, nearest], codes[0, nearest] = 3.0, encode(box[None], every[nearest : nearest + 1])[0]
        counts = [len(level) for level in levels]
        return Outputs(None, None, boxes=tuple(zip(logits.split(counts, 1), codes.split(counts, 1), strict=True)))


def test_cranio_caudal_views_show_lateral_up(tmp_path: Path) -> None:
    """Left breast: rows towards R show lateral at the top; rows towards L stand on their head and are turned."""
    recipe = MammographyRecipe(rows=128, columns=96, spacing_mm=1.0)
    tags = {"ViewPosition": "CC", "ImagerPixelSpacing": [0.5, 0.5]}
    right_way = dataset(breast(), PatientOrientation=["A", "R"], **tags)
    headstand = dataset(breast()[::-1], PatientOrientation=["A", "L"], **tags)
    one, other = (recipe.harmonise(recipe.tissue(written(tmp_path / "a.dcm", ds))) for ds in (right_way, headstand))
    np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4)


def test_decided_pixels_place_the_chest_wall_and_the_header_names_the_breast(tmp_path: Path) -> None:
    mirrored = written(tmp_path / "a.dcm", dataset(breast()[:, ::-1], ImagerPixelSpacing=[0.5, 0.5]))
    recipe = MammographyRecipe(rows=128, columns=96, spacing_mm=1.0)
    tissue = recipe.tissue(mirrored)
    assert mirrored.view == View("L", "MLO")
    assert tissue.steps == (Flip(1), Respace((1.0, 1.0)))
    assert tissue.notes == ("By laterality L the chest wall should lie at the left; the pixels show it at the right",)
    assert float(recipe.harmonise(tissue)[0, :, 0].max()) > 0.2
    # A breast that overfills the film is cut off at both sides: the header decides.
    full = np.ones((50, 40), np.bool_)
    assert [chest_side(full, "left"), chest_side(full, "right")] == ["left", "right"]


def test_the_model_grid_is_in_millimetres_and_a_large_breast_fits_it(tmp_path: Path) -> None:
    image = written(tmp_path / "a.dcm", dataset(breast(), ImagerPixelSpacing=[0.5, 0.5]))
    grid = grid_of((recipe := MammographyRecipe(rows=320, columns=256, spacing_mm=0.4)).harmonise(recipe.tissue(image)))
    assert grid.unit == "mm"
    assert grid.spacing == pytest.approx((0.4, 0.4))
    small = MammographyRecipe(rows=64, columns=64, spacing_mm=0.4)
    tissue = small.tissue(image)
    height = tissue.pixels.shape[1] * 0.5
    assert grid_of(small.harmonise(tissue)).spacing == pytest.approx((height / 64, height / 64))
    assert "larger than the model grid" in tissue.notes[0]


def test_an_uncalibrated_breast_is_given_a_height(tmp_path: Path) -> None:
    """Its extent along the chest wall, of where it is a quarter as deep as at most, becomes 150 mm in a CC view."""
    image = written(tmp_path / "a.dcm", dataset(breast(), ViewPosition="CC"))
    recipe = MammographyRecipe(rows=256, columns=192, spacing_mm=1.0)
    tissue = recipe.tissue(image)
    height = breast_height(breast() > 100, "left")
    assert grid_of(recipe.harmonise(tissue)).spacing[0] == pytest.approx(height / 150, rel=0.02)
    assert tissue.notes == ("Uncalibrated: read as if the breast were 150 mm high",)


def test_the_foremost_point_by_hand() -> None:
    """A triangle 30 deep whose tip is at row 40: corner coordinates (30, 40.5); mirrored, its tip is at 100 - 30."""
    r, c = np.mgrid[:80, :100]
    mask = np.abs(r - 40) * 30 < (30 - c) * 25
    assert anterior_point(mask, "L") == (30.0, 40.5)
    assert anterior_point(mask[:, ::-1], "R") == (70.0, 40.5)
    assert anterior_point(mask[:, ::-1], "L") == (70.0, 40.5)


def test_nothing_but_air_is_no_breast() -> None:
    with pytest.raises(ImagingError, match="100 × 80") as raised:
        breast_mask(np.full((100, 80), 7.0))
    assert raised.value.reason is Reason.NO_TISSUE_REGION


def test_a_label_touching_the_skin_stays_out() -> None:
    picture = breast(480, 320).astype(np.float32)
    picture[40:90, 230:290] = 4000
    mask = breast_mask(picture)
    assert not mask[45:85, 235:285].any()
    assert mask[240, 100]


@pytest.mark.shared_data
@pytest.mark.parametrize("file", ["left_cc", "left_mlo", "right_cc", "right_mlo"])
def test_real_views_and_their_published_boxes(shared_data: Path, file: str) -> None:
    folder = shared_data / "mammography" / "cbis_p00173"
    image = read(folder / f"{file}.dcm")
    side, name = file.split("_")
    assert image.view == View("L" if side == "left" else "R", name.upper())
    recipe = MammographyRecipe()
    tissue = recipe.tissue(image)
    harmonised = recipe.harmonise(tissue)
    assert tissue.steps[:-1] == ((Flip(1),) if side == "right" else ())
    assert tuple(harmonised.shape) == (1, 1280, 896)
    with (folder / "boxes.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["file"] == f"{file}.dcm"]
    boxes = np.array([[float(row[k]) for k in ("y0", "x0", "y1", "x1")] for row in rows])
    there = image.source_grid.carry_boxes(boxes, grid_of(harmonised))
    assert np.abs(grid_of(harmonised).carry_boxes(there, image.source_grid) - boxes).max() < 0.01
    for box in there:
        top, left, bottom, right = np.rint(box).astype(int)
        assert (harmonised[0, top:bottom, max(left, 0) : right] > 0).float().mean() > 0.95
    letters = {"left_cc": (650, 2200), "left_mlo": (830, 2370), "right_cc": (600, 250), "right_mlo": (480, 350)}
    row, column = letters[file]
    beside = image.source_grid.carry_corners(np.array([[row, column]]), grid_of(harmonised))[0].astype(int)
    inside = 0 <= beside[0] < 1280 and 0 <= beside[1] < 896
    assert not inside or float(harmonised[0, beside[0], beside[1]]) == 0


# Middles (row, column) of labels and tape on films, found by looking at them.
LABELS = {
    "mdb005": (25, 149),
    "mdb006": (28, 337),
    "mdb035": (8, 170),
    "mdb131": (33, 188),
    "mdb164": (17, 358),
    "mdb140": (256, 460),
}


@pytest.mark.shared_data
def test_film_labels_and_tape_are_no_breast(shared_data: Path) -> None:
    for film, (row, column) in LABELS.items():
        image = read_image(shared_data / "mammography" / "mini_mias" / "images" / f"{film}.png")
        mask = breast_mask(image.array[0].astype(np.float32))
        assert image.array[0, row - 3 : row + 4, column - 3 : column + 4].max() > 200, film
        assert not mask[row - 3 : row + 4, column - 3 : column + 4].any(), film


@pytest.mark.shared_data
def test_lesions_of_films_lie_in_the_breast(shared_data: Path) -> None:
    """Every fourth film with a located lesion, mdb212 aside: its published point lies in the air."""
    folder = shared_data / "mammography" / "mini_mias"
    with (folder / "lesions.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["located"] == "1" and row["film"] != "mdb212"][::4]
    assert len(rows) > 20
    for row in rows:
        mask = breast_mask(np.asarray(Picture.open(folder / row["image"]), np.float32))
        assert mask[min(511, int(float(row["cy"]))), min(511, int(float(row["cx"])))], row["film"]


def test_grids_of_a_transposed_picture_by_hand() -> None:
    """2 × 3 pixels, only (0, 2) lit: transposed it is (2, 0), and its box comes home."""
    pixels = np.zeros((2, 3))
    pixels[0, 2] = 5
    source = Grid.plane(2, 3)
    turned = Transpose()(to_tensor(Image(pixels[None], source, source, (), Origin())))
    assert turned.numpy()[0].tolist() == [[0, 0], [0, 0], [5, 0]]
    assert grid_of(turned).carry_boxes(np.array([[2, 0, 3, 1]]), source).tolist() == [[0, 2, 1, 3]]
