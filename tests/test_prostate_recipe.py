"""From a study's volumes to the model grid, and from probabilities there back to regions on the source voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from imaging.errors import ConfigError, GeometryError, InputError, Reason
from imaging.extraction import Cut, bounds, extract_volumes, measured
from imaging.findings import Prediction
from imaging.harmonise.diffusion import AdcFit, fit_adc
from imaging.harmonise.mri import align, correct_bias
from imaging.harmonise.spatial import grid_of
from imaging.harmonise.tissue import Tissue
from imaging.image import Box, Grid, Image, Origin, SourceRef
from imaging.modalities.prostate import recipe as prostate_recipe
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.models.build import Outputs
from imaging.package import load_package
from imaging.predictor import Predictor
from imaging.volume_region import VolumeRegion
from tests.conftest import REPOSITORY

Array = NDArray[Any]
ALL = ("T2W", "ADC", "high b")
# Slices to the head, rows to the back, columns to the left.
AXIAL = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])


def refs(count: int, name: str = "1") -> tuple[SourceRef, ...]:
    return tuple(SourceRef("1.2", f"1.2.{name}", "1.2.840.10008.5.1.4.1.1.4", f"1.2.{name}.{n}") for n in range(count))


def lattice(shape: Sequence[int], steps: Sequence[float], directions: Array = AXIAL, centre: Any = (0, 0, 0)) -> Grid:
    """A volume of that shape and spacing around `centre`."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(steps)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(tuple(shape), affine, "patient_ras")


def ball(grid: Grid, centre: Sequence[float], radius: float) -> Array:
    """Which voxel centres lie within `radius` mm of a point."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1).reshape(-1, 3)
    near = np.linalg.norm(grid.world(index + 0.5) - np.asarray(centre), axis=1) <= radius
    return near.reshape(grid.shape)


def volume(grid: Grid, array: Array, b_value: float | None = None, name: str = "1") -> Image:
    return Image(array[None], grid, grid, refs(grid.shape[0], name), Origin("s", "c", "p"), b_value=b_value)


def exam(**beside: Image) -> Image:
    """A T2W of grey with a bright ball of 12 mm at (10, 5, -4), and what is beside it."""
    grid = lattice((20, 64, 60), (3.0, 0.8, 0.8))
    values = 200.0 + 300.0 * ball(grid, (10, 5, -4), 12)
    return replace(volume(grid, values.astype(np.uint16)), beside={k.replace("_", " "): v for k, v in beside.items()})


def weighted(b: float, adc: float = 1200.0, s0: float = 900.0) -> Image:
    grid = lattice((20, 32, 30), (3.0, 1.6, 1.6))
    return volume(grid, np.full(grid.shape, s0 * np.exp(-b * adc * 1e-6), np.float32), b, f"b{b:g}")


# -- The model grid ----------------------------------------------------------------------------------------------------


def centroid(tensor: Any, threshold: float) -> Array:
    """Where the bright ball of the first channel is, in patient millimetres."""
    grid = grid_of(tensor)
    weights = np.clip(tensor.numpy()[0] - threshold, 0, None)
    return np.asarray(grid.world(np.array([ndimage.center_of_mass(weights)]) + 0.5)[0])


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_stored_orders_and_flips_make_no_difference(order: tuple[int, int, int], signs: tuple[int, ...]) -> None:
    """All 48 ways to store one volume end on one grid along the patient's axes, with the same picture."""
    image = exam()
    array, affine = image.array[0], image.grid.affine.copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    array, affine = array.transpose(order), affine[:, [*order, 3]]
    grid = Grid(array.shape, affine, "patient_ras")
    recipe = ProstateRecipe(spacing_mm=(3.0, 1.0, 1.0), shape=(16, 48, 48))
    own, other = recipe.harmonise(recipe.tissue(image)), recipe.harmonise(recipe.tissue(volume(grid, array)))
    assert np.allclose(grid_of(other).affine, grid_of(own).affine, atol=1e-9)
    assert np.allclose(own.numpy(), other.numpy(), atol=1e-4)
    assert np.abs(centroid(own, 1.0) - (10, 5, -4)).max() < 0.2


def test_the_grid_is_cut_around_the_organ_and_grows_with_it() -> None:
    recipe = ProstateRecipe(spacing_mm=(3.0, 1.0, 1.0), shape=(8, 32, 16), margin_mm=6.0)
    image = replace(exam(), region=Box(low=(5, 20, 10), high=(15, 50, 30)))
    grid = grid_of(recipe.harmonise(recipe.tissue(image)))
    # 10 slices of 3 mm, 30 × 0.8 and 20 × 0.8 mm, with 6 mm all round: 42 × 36 × 28 mm; least sides have 8, 32, 16.
    assert grid.shape == (16, 64, 32)
    centre = grid.world(np.asarray(grid.shape)[None] / 2)[0]
    asked = image.grid.world(np.array([[10.0, 35.0, 20.0]]))[0]
    # Its first voxel lies on one of T2W, which takes up to half a voxel of 3 × 0.8 × 0.8 mm.
    assert np.all(np.abs(centre - asked) <= np.array([0.4, 0.4, 1.5]) + 1e-9)
    first = grid.index_map(image.grid)[:3, 3]
    assert np.allclose(first, np.rint(first), atol=1e-9)


@pytest.mark.parametrize("slices", [6, 7])
def test_slices_of_the_models_spacing_are_not_interpolated(slices: int) -> None:
    recipe = ProstateRecipe(spacing_mm=(3.0, 0.8, 0.8), shape=(8, 16, 16), margin_mm=0.0, intensity="zscore")
    image = replace(exam(), region=Box(low=(5, 20, 20), high=(5 + slices, 36, 36)))
    harmonised = recipe.harmonise(recipe.tissue(image))
    low = np.rint(grid_of(harmonised).index_map(image.grid)[:3, 3]).astype(int)
    own = image.array[0][tuple(slice(a, a + n) for a, n in zip(low, harmonised.shape[1:], strict=True))]
    same = (own - image.array.mean()) / image.array.std()
    assert np.allclose(harmonised.numpy()[0], same, atol=1e-4)


def test_intensities_are_judged_around_the_organ_alone() -> None:
    """A bright coil edge far from the organ changes no value of the organ."""
    recipe = ProstateRecipe(spacing_mm=(3.0, 1.0, 1.0), shape=(8, 32, 32), margin_mm=4.0)
    image = replace(exam(), region=Box(low=(5, 20, 20), high=(15, 44, 40)))
    edge = image.array.copy()
    edge[:, :, :10] = 4000
    one, other = (recipe.harmonise(recipe.tissue(i)).numpy() for i in (image, replace(image, array=edge)))
    assert np.array_equal(one[:, :, 12:20], other[:, :, 12:20])


# -- Diffusion ---------------------------------------------------------------------------------------------------------


def test_the_adc_has_a_fixed_scale() -> None:
    """0, 1500 and 3000 × 10⁻⁶ mm²/s are -1, 0 and 1, whatever else the map holds; beyond is clipped."""
    grid = lattice((20, 64, 60), (3.0, 0.8, 0.8))
    for value, expected in ((0.0, -1.0), (1500.0, 0.0), (3000.0, 1.0), (9000.0, 1.0)):
        image = exam(ADC=volume(grid, np.full(grid.shape, value, np.float32)))
        recipe = ProstateRecipe(roles=("T2W", "ADC"), spacing_mm=(3.0, 0.8, 0.8), shape=(4, 16, 16))
        channel = recipe.harmonise(recipe.tissue(image)).numpy()[1]
        assert np.allclose(channel[2:-2, 12:-12, 12:-12], expected)


def test_high_b_is_computed_at_one_b_value() -> None:
    """Sites that acquired 800 and 1000 give the same image at 1400; its source is said."""
    recipe = ProstateRecipe(roles=ALL)
    adc = volume(lattice((20, 32, 30), (3.0, 1.6, 1.6)), np.full((20, 32, 30), 1200.0, np.float32))
    expected = 900.0 * np.exp(-1400 * 1200e-6)
    cases = {
        "the b-values 50, 800": exam(high_b=weighted(800), b_50=weighted(50)),
        "the b-values 100, 1000": exam(high_b=weighted(1000), b_100=weighted(100)),
        "that at b = 800": exam(high_b=weighted(800), ADC=adc),
    }
    for said, image in cases.items():
        volumes, notes = recipe.volumes(image)
        assert np.allclose(volumes["high b"].array, expected, rtol=1e-4)
        assert volumes["high b"].b_value == 1400
        assert np.allclose(volumes["ADC"].array, 1200, rtol=1e-4)
        assert any(said in note for note in notes)


def test_a_scanners_adc_comes_first_unless_told() -> None:
    grid = lattice((20, 32, 30), (3.0, 1.6, 1.6))
    image = exam(ADC=volume(grid, np.full(grid.shape, 1500.0, np.float32)), high_b=weighted(800), b_50=weighted(50))
    for choice, expected in (("scanner", 1500.0), ("fitted", 1200.0)):
        recipe = ProstateRecipe(roles=("T2W", "ADC"), adc=choice)  # type: ignore[arg-type]
        assert np.allclose(recipe.volumes(image)[0]["ADC"].array, expected, rtol=1e-4)
        assert np.allclose(recipe.tissue(image).quantities["ADC"].array, expected, rtol=1e-4)


@pytest.mark.parametrize(("beside", "role"), [({}, "ADC"), ({"high_b": weighted(800)}, "ADC")])
def test_a_missing_role_is_named(beside: dict[str, Image], role: str) -> None:
    """T2W alone still gives what reads T2W alone; one b-value gives no ADC."""
    with pytest.raises(InputError, match=f"and {role} can not be computed") as caught:
        ProstateRecipe(roles=ALL).tissue(exam(**beside))
    assert caught.value.reason is Reason.MISSING_ROLE
    assert ProstateRecipe().tissue(exam(**beside)).pixels.shape == (1, 20, 64, 60)


def test_a_z_score_of_the_volume_counts_what_was_stored_and_ends_with_it() -> None:
    """The middle of the field of view on a grid that does not grow: statistics of everything but the empty voxels."""
    image = exam()
    stored = image.array[0].astype(np.float64)
    stored[:, :26] = 0
    recipe = ProstateRecipe(spacing_mm=image.grid.spacing, shape=(32, 24, 24), grows=False, intensity="zscore")
    harmonised = recipe.harmonise(recipe.tissue(replace(image, array=stored[None])))
    assert harmonised.shape == (1, 32, 24, 24)
    low = np.rint(grid_of(harmonised).index_map(image.grid)[:3, 3]).astype(int)
    assert low[0] < 0
    lit = stored[stored != 0]
    same = np.where(stored != 0, (stored - lit.mean()) / lit.std(), 0)[:, low[1] : low[1] + 24, low[2] : low[2] + 24]
    inside = slice(-low[0], -low[0] + len(stored))
    assert np.allclose(harmonised.numpy()[0, inside], same, atol=1e-4)
    assert not harmonised.numpy()[0, : inside.start].any()
    assert not harmonised.numpy()[0, inside.stop :].any()
    assert (stored[:, low[1] : low[1] + 24] == 0).any()  # or nothing would show that 0 is left out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"roles": ("T1",)}, "roles: found"),
        ({"roles": ()}, "roles: found"),
        ({"spacing_mm": (3.0, 0.0, 0.5)}, "spacing_mm: found"),
        ({"shape": (16, 32)}, "shape: found"),
        ({"high_b": 0.0}, "high_b: found"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProstateRecipe(**settings)


# -- The two options through SimpleITK ---------------------------------------------------------------------------------


def anatomy(grid: Grid, shift: Sequence[float] = (0, 0, 0)) -> Array:
    """A few balls and their neighbourhood, moved by `shift` mm."""
    values = np.full(grid.shape, 40.0)
    for centre, radius, level in (
        ((0, 0, 0), 16, 150),
        ((12, 6, 6), 7, 260),
        ((-10, -8, -9), 6, 90),
        ((2, -6, 12), 5, 10),
    ):
        values[ball(grid, np.add(centre, shift), radius)] = level
    return np.asarray(ndimage.gaussian_filter(values, (0.4, 1, 1)))


def test_a_move_is_found_and_must_prove_itself() -> None:
    """Diffusion shown 4 mm and 3 mm beside its place goes back there; noise and what lies right stays."""
    own, other = lattice((20, 48, 48), (3.0, 1.2, 1.2)), lattice((20, 30, 30), (3.0, 2.0, 2.0))
    t2 = anatomy(own)
    found = align(255 - anatomy(other, (4, 3, 0)), other, t2, own)
    assert found.is_kept
    assert found.after > found.before
    moved = found.matrix[:3, :3] @ np.array([4.0, 3.0, 0.0]) + found.matrix[:3, 3]
    assert np.abs(moved).max() < 1.0
    stays = align(255 - anatomy(other), other, t2, own)
    assert np.abs(stays.matrix[:3, 3]).max() < 1.0
    noise = np.random.default_rng(0).normal(100, 10, other.shape)
    refused = align(noise, other, t2, own)
    assert not refused.is_kept
    assert np.array_equal(refused.matrix, np.eye(4))


def test_the_bias_field_is_taken_out() -> None:
    """A planted field of a factor of 3 from side to side; most of what it did to the organ is gone, each time alike."""
    grid = lattice((8, 64, 64), (3.0, 1.0, 1.0))
    rng = np.random.default_rng(1)
    clean = anatomy(grid) + rng.normal(0, 2, grid.shape)
    field = np.linspace(0.5, 1.5, 64)[None, None, :] * np.ones(grid.shape)
    tissue = np.abs(clean - 150) < 8
    corrected = correct_bias((clean * field).astype(np.float32), grid)
    assert np.array_equal(corrected, correct_bias((clean * field).astype(np.float32), grid))

    def variation(values: Array) -> float:
        return float(values[tissue].std() / values[tissue].mean())

    assert variation(clean * field) > 5 * variation(clean)
    assert variation(corrected) < 0.5 * variation(clean * field)


# -- Back to the source ------------------------------------------------------------------------------------------------


def told(source: Grid, model: Grid, *centres: tuple[Sequence[float], float, float]) -> Prediction:
    """Probabilities of one label that are balls (centre, radius in mm, height) on the model grid."""
    chance = np.zeros(model.shape, np.float32)
    for centre, radius, height in centres:
        chance = np.maximum(chance, height * ball(model, centre, radius).astype(np.float32))
    chance = ndimage.gaussian_filter(chance, (0.3, 0.6, 0.6))
    return Prediction(np.stack([1 - chance, chance]), model, source, refs(1)[0], slices=refs(source.shape[0]))


SOURCE = lattice((20, 80, 90), (3.0, 0.6, 0.7), centre=(3, -2, 5))
MODEL = lattice((20, 64, 64), (3.0, 1.0, 1.0))
A, B = ((8.0, 6.0, 3.0), 9.0, 0.9), ((-12.0, -4.0, -6.0), 7.0, 0.6)


def test_volume_regions_come_back_to_their_place() -> None:
    """Centroids within a quarter of a voxel; the best score comes first; the cross-section is planar."""
    both = extract_volumes(told(SOURCE, MODEL, B, A), ("lesion",), Cut(boundary=0.3))
    assert [round(f.score, 2) for f in both] == [0.9, 0.6]
    for centre, radius, height in (A, B):
        [finding] = extract_volumes(told(SOURCE, MODEL, (centre, radius, height)), ("lesion",), Cut(height / 2))
        volume_region = finding.volume_region
        assert volume_region is not None
        assert np.all(np.abs(volume_region.centroid_mm - centre) < 0.25 * np.array([0.7, 0.6, 3.0]))
        truth = ball(SOURCE, centre, radius).sum() * SOURCE.voxel_size / 1000
        assert volume_region.volume_ml == pytest.approx(truth, rel=0.1)
        assert volume_region.longest_diameter_mm == pytest.approx(2 * radius, abs=3.0)
        assert finding.ref == refs(20)[volume_region.largest_slice()[0]]
        assert finding.area_mm2 == pytest.approx(np.pi * radius**2, rel=0.15)
        assert np.array_equal(finding.full_mask(), volume_region.full_mask()[volume_region.largest_slice()[0]])


def test_parts_are_what_the_package_says() -> None:
    """Every part; the largest alone; the candidates, which a boundary does not lose."""
    prediction = told(SOURCE, MODEL, A, B)
    assert len(extract_volumes(prediction, ("lesion",), Cut(0.7))) == 1
    assert len(extract_volumes(prediction, ("lesion",), Cut(0.3, parts="largest"))) == 1
    assert len(extract_volumes(prediction, ("lesion",), Cut(0.95, 50, parts="candidates"))) == 2
    assert len(extract_volumes(prediction, ("lesion",), Cut(0.3, least_score=0.7))) == 1
    # Ball B has 479 voxels of 3 mm3 on the model grid, and A 1023.
    assert len(extract_volumes(prediction, ("lesion",), Cut(0.3, least_voxels=700))) == 1
    nothing = replace(prediction, probabilities=prediction.probabilities * [[[[1]]], [[[0]]]])
    assert extract_volumes(nothing, ("lesion",), Cut()) == []
    assert extract_volumes(nothing, ("lesion",), Cut(parts="candidates")) == []


class BrightInT2(torch.nn.Module):
    """Finds what is bright in the first channel."""

    def forward(self, x: torch.Tensor) -> Outputs:
        logits = 20 * (x[:, :1] - 4.0)
        return Outputs(torch.cat([-logits, logits], dim=1), None)


def test_one_reading_fits_the_adc_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's channels, the computed high b, the registration and the quantity of a finding: all from one fit."""
    fits: list[int] = []

    def counted(signals: Sequence[Array], b_values: Sequence[float]) -> AdcFit:
        fits.append(len(signals))
        return fit_adc(signals, b_values)

    monkeypatch.setattr(prostate_recipe, "fit_adc", counted)
    package = load_package(REPOSITORY / "data_samples" / "packages" / "prostate_lesion")
    recipe = ProstateRecipe(roles=ALL, adc="fitted", align=True)
    predictor = Predictor(package, BrightInT2(), recipe)
    reading = predictor.read(exam(high_b=weighted(800), b_400=weighted(400), b_50=weighted(50)))
    (found,) = reading.findings
    assert found.volume_region is not None
    assert found.volume_region.quantities["ADC"].mean == pytest.approx(1200, rel=1e-3)
    assert reading.notes[0] == "The ADC was fitted from the b-values 50, 400, 800 s/mm2"
    assert fits == [3]


def test_pixels_of_no_plane_or_volume_are_no_tissue() -> None:
    with pytest.raises(GeometryError, match=r"Tissue.pixels: found shape \(3, 4\); allowed is \(channel"):
        Tissue(MetaTensor(torch.zeros(3, 4)))


def test_quantities_are_taken_from_the_map_inside_the_volume_region() -> None:
    """A map on its own coarser grid: 800 inside, 1600 around, 0 where there was no signal."""
    [finding] = extract_volumes(told(SOURCE, MODEL, A), ("lesion",), Cut(0.5))
    grid = lattice((20, 40, 40), (3.0, 1.6, 1.6))
    values = np.where(ball(grid, A[0], 20), 800.0, 1600.0).astype(np.float32)
    volume_region = measured(finding, {"ADC": volume(grid, values)}).volume_region
    assert volume_region is not None
    assert volume_region.quantities["ADC"].mean == pytest.approx(800)
    assert volume_region.quantities["ADC"].p10 == pytest.approx(800)
    empty = measured(finding, {"ADC": volume(grid, np.zeros(grid.shape, np.float32))}).volume_region
    assert empty is not None
    assert empty.quantities == {}


def test_the_box_around_organs() -> None:
    one = VolumeRegion(np.ones((2, 3, 4), np.bool_), (1, 10, 20), SOURCE, refs(20))
    other = VolumeRegion(np.ones((1, 1, 1), np.bool_), (5, 5, 30), SOURCE, refs(20))
    assert bounds([one, other]) == Box(low=(1, 5, 20), high=(6, 13, 31))
    assert bounds([]) is None
