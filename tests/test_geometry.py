"""Where things are: the corner law, exact resampling, and blobs that must stay where they were put."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from imaging.errors import GeometryError
from imaging.harmonise import spatial
from imaging.harmonise.spatial import Crop, FitSquare, Flip, Respace, grid_of, to_tensor
from imaging.image import Box, Grid, Image, Origin, SourceRef, resample

CHAINS = 200
BLOB_LIMIT_PX = 0.05
BOX_LIMIT_PX = 0.01


def image_on(grid: Grid, pixels: np.ndarray) -> Image:
    ref = SourceRef("1.2", "1.2.3", "", "1.2.3.4")
    return Image(pixels[None], grid, grid, (ref,), Origin())


def random_source(rng: np.random.Generator) -> tuple[Grid, np.ndarray, np.ndarray]:
    """An anisotropic frame with one Gaussian blob; its centre (row, column) in corner coordinates."""
    shape = rng.integers(90, 160, 2)
    grid = Grid.plane(int(shape[0]), int(shape[1]), *rng.uniform(0.1, 0.6, 2), "mm")
    centre = shape * rng.uniform(0.42, 0.58, 2)
    sigma = 1.2 / np.array(grid.spacing)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = ((rows + 0.5 - centre[0]) / sigma[0]) ** 2 + ((columns + 0.5 - centre[1]) / sigma[1]) ** 2
    return grid, np.exp(-distance / 2), centre


def random_chain(rng: np.random.Generator, grid: Grid) -> list[object]:
    """Crops that keep the middle, both flips at random, respacing to 0.3-0.7 mm, and a square fit, in random order."""
    rows, columns = grid.shape
    low = (int(rng.integers(-9, rows // 8)), int(rng.integers(-9, columns // 8)))
    crop = Crop(low, (rows - max(low[0], 0) - int(rng.integers(0, 9)), columns - max(low[1], 0) + 3))
    steps: list[object] = [crop, *[Flip(axis) for axis in (0, 1) if rng.random() < 0.5]]
    steps.append(
        Respace(tuple(rng.uniform(0.3, 0.7, 2))) if rng.random() < 0.6 else FitSquare(int(rng.integers(90, 200)))
    )
    order = [0, *(1 + rng.permutation(len(steps) - 1))]
    return [steps[k] for k in order]


def blob_shift_px(seed: int) -> float:
    """How far, in source pixels, the blob's centroid lies from where it was put, measured after a random chain."""
    rng = np.random.default_rng(seed)
    grid, pixels, centre = random_source(rng)
    tensor: MetaTensor = to_tensor(image_on(grid, pixels))
    for step in random_chain(rng, grid):
        tensor = step(tensor)  # type: ignore[operator]
    values = tensor.numpy()[0].astype(np.float64)
    places = np.indices(values.shape).reshape(2, -1) + 0.5
    measured = (places * values.ravel()).sum(axis=1) / values.sum()
    back = grid_of(tensor).carry_corners(measured[None], grid)[0]
    return float(np.abs(back - centre).max())


def test_blobs_come_home_through_every_chain() -> None:
    shifts = [blob_shift_px(seed) for seed in range(CHAINS)]
    assert max(shifts) < BLOB_LIMIT_PX, f"worst {max(shifts):.3f} px at seed {int(np.argmax(shifts))}"


def test_the_classic_half_pixel_bug_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Respacing that keeps the centre of the first pixel instead of its corner: the mistake of many converters."""

    def keeps_first_centre(grid: Grid, spacing: tuple[float, ...], shape: tuple[int, ...]) -> Grid:
        affine = grid.affine.copy()
        affine[:-1, :-1] *= np.asarray(spacing) / np.asarray(grid.spacing)
        return Grid(shape, affine, grid.frame, grid.unit)

    honest = spatial._sampled

    def sampled_at_corners_told_as_centres(tensor: MetaTensor, target: Grid, order: int) -> MetaTensor:
        out = honest(tensor, target, order)
        return spatial.place(out, keeps_first_centre(grid_of(tensor), target.spacing, target.shape))

    monkeypatch.setattr(spatial, "_sampled", sampled_at_corners_told_as_centres)
    shifts = [blob_shift_px(seed) for seed in range(20)]
    assert max(shifts) > BLOB_LIMIT_PX


def test_boxes_there_and_back() -> None:
    rng = np.random.default_rng(3)
    for _ in range(CHAINS):
        source, _, _ = random_source(rng)
        tensor = to_tensor(image_on(source, np.zeros(source.shape)))
        for step in random_chain(rng, source):
            tensor = step(tensor)  # type: ignore[operator]
        low = rng.uniform(0, 60, (5, 2))
        boxes = np.concatenate([low, low + rng.uniform(1, 40, (5, 2))], axis=1)
        there = source.carry_boxes(boxes, grid_of(tensor))
        back = grid_of(tensor).carry_boxes(there, source)
        assert np.abs(back - boxes).max() < BOX_LIMIT_PX


def test_the_corner_law_by_hand() -> None:
    """A row of 20 pixels flipped: the box [2, 6] becomes [14, 18]. The centre affine alone would give [13, 17]."""
    row = Grid.plane(1, 20)
    flipped = grid_of(Flip(1)(to_tensor(image_on(row, np.zeros((1, 20))))))
    assert row.carry_boxes(np.array([[0, 2, 1, 6]]), flipped).tolist() == [[0, 14, 1, 18]]


def test_a_marked_pixel_stays_marked_after_flip_and_crop() -> None:
    """4 × 5 pixels, only (1, 3) lit.  Flip columns: (1, 1).  Crop from (1, 0): (0, 1)."""
    pixels = np.zeros((4, 5))
    pixels[1, 3] = 7
    source = Grid.plane(4, 5)
    tensor = Crop((1, 0), (3, 3))(Flip(1)(to_tensor(image_on(source, pixels))))
    assert tensor.numpy()[0].tolist() == [[0, 7, 0], [0, 0, 0], [0, 0, 0]]
    assert grid_of(tensor).carry_boxes(np.array([[0, 1, 1, 2]]), source).tolist() == [[1, 3, 2, 4]]


def test_resample_of_itself_is_itself() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(13, 17)).astype(np.float32)
    grid = Grid.plane(13, 17, 0.3, 0.7, "mm")
    assert np.array_equal(resample(pixels, grid, grid), pixels)


def test_resample_halves_by_area_and_fills_outside() -> None:
    """Edge pixels reach half a pixel outwards; what lies further is the fill."""
    pixels = np.arange(4, dtype=np.float32)[None].repeat(4, 0)
    grid = Grid.plane(4, 4)
    wider = grid.crop((0, -2), (4, 8))
    out = resample(pixels, grid, wider, fill=-1.0)
    assert out[0].tolist() == [-1, -1, 0, 1, 2, 3, -1, -1]


def test_grids_of_different_frames_do_not_mix() -> None:
    millimetres, pixels = Grid.plane(4, 4, 0.1, 0.1, "mm"), Grid.plane(4, 4)
    with pytest.raises(GeometryError, match=r"image_plane in mm .* image_plane in pixel"):
        millimetres.carry_corners(np.zeros((1, 2)), pixels)


def test_a_singular_affine_is_refused() -> None:
    with pytest.raises(GeometryError, match="singular"):
        Grid((4, 4), np.diag([1.0, 0.0, 1.0]), "image_plane")


def test_image_and_grid_must_agree() -> None:
    with pytest.raises(GeometryError, match=r"array shape \(1, 3, 4\) on a grid of \(4, 3\)"):
        image_on(Grid.plane(4, 3), np.zeros((3, 4)))


def test_a_box_says_its_order() -> None:
    """Rows 2 to 5 and columns 1 to 4: high corners are not inside, and people read columns first."""
    box = Box(low=(2, 1), high=(5, 4))
    assert (box.xy, box.row.tolist()) == ((1.0, 2.0, 4.0, 5.0), [2.0, 1.0, 5.0, 4.0])
    assert Box.from_xy(1, 2, 4, 5) == Box.from_row(box.row) == box
    assert box.pixels == (slice(2, 5), slice(1, 4))
    # Centres at 0.5, 1.5 and 2.5: of 0.6 to 2.5 only the second lies inside, the half-open third does not.
    assert Box(low=(0.6, 0.0), high=(2.5, 1.0)).pixels == (slice(1, 2), slice(0, 1))
    with pytest.raises(TypeError):
        Box((2, 1), (5, 4))  # type: ignore[misc]


@pytest.mark.parametrize(("low", "high"), [((2, 1), (1, 4)), ((2,), (3,)), ((0, 0), (1, 1, 1))])
def test_what_is_no_box_is_refused(low: tuple[int, ...], high: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="Box: found low"):
        Box(low=low, high=high)


def test_one_box_goes_where_many_go() -> None:
    """Two columns of 2 mm are four of 1 mm; the turned axis exchanges low and high."""
    wide, fine = Grid.plane(4, 4, 1.0, 2.0, "mm"), Grid.plane(4, 8, 1.0, 1.0, "mm")
    carried = wide.carry_box(Box(low=(1, 1), high=(2, 3)), fine)
    assert carried.row.tolist() == wide.carry_boxes(np.array([[1, 1, 2, 3]]), fine)[0].tolist()
    assert carried.high[1] - carried.low[1] == 4
    assert (wide.whole, wide.is_volume) == (Box(low=(0, 0), high=(4, 4)), False)
    assert Grid((3, 4, 4), np.eye(4), "patient_ras").is_volume
