"""What cannot be an organ is none, and what lies outside an organ is no finding in it: by hand, and planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.errors import InputError, Reason
from imaging.findings import Reading
from imaging.image import Grid, Image
from imaging.modalities.prostate.gland import GLAND
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.models.build import Outputs
from imaging.organ import contradictions, surroundings, united
from imaging.package import load_package
from imaging.predictor import Predictor
from imaging.volume_region import Mask
from tests.conftest import REPOSITORY
from tests.prostate_glands import AXIAL, GRIDS, inside, volume_region
from tests.prostate_glands import GLAND as BOX
from tests.test_prostate_recipe import ball, lattice, volume

LESION = REPOSITORY / "data_samples" / "packages" / "prostate_lesion"

# -- By hand: the gland of `prostate_glands` is 40 x 30 x 27 mm, 32.4 ml, in slices of 60 x 50 mm --------------------


@pytest.mark.parametrize("name", GRIDS)
def test_a_gland_is_one_however_it_is_stored(name: str) -> None:
    assert contradictions(volume_region(GRIDS[name], inside(GRIDS[name], BOX)), GLAND) == []


FAULTS: dict[str, tuple[Callable[[], Mask], str]] = {
    # 16 x 16 x 27 mm
    "tiny": (lambda: inside(AXIAL, (-8, 8, -8, 8, 0, 27)), "it has 6.9 ml; allowed are 8 to 300"),
    "narrow": (lambda: inside(AXIAL, (-8, 8, -15, 15, 0, 27)), "it is 16 mm from side to side; allowed are 20 to 110"),
    "flat": (lambda: inside(AXIAL, (-20, 20, -5, 5, 0, 27)), "it is 10 mm from front to back; allowed are 12 to 110"),
    "low": (lambda: inside(AXIAL, (-20, 20, -15, 15, 0, 9)), "it is 9 mm from foot to head; allowed are 15 to 110"),
    # 20 and 12 of 40 mm, 8 mm apart
    "in two parts": (
        lambda: inside(AXIAL, (-20, 0, -15, 15, 0, 27)) | inside(AXIAL, (8, 20, -15, 15, 0, 27)),
        "its largest connected part holds 62%",
    ),
    # A frame of two voxels around nothing: 4 x 70 - 16 of 40 x 30.
    "hollow": (
        lambda: inside(AXIAL, BOX) & ~inside(AXIAL, (-18, 18, -13, 13, 0, 27)),
        "it fills 22% of the box around it; allowed are 25% or more",
    ),
    "at the border": (lambda: inside(AXIAL, (-30, 10, -15, 15, 0, 27)), "it reaches the border of the slices"),
    # 16 of 60 mm aside
    "aside": (lambda: inside(AXIAL, (3, 29, -15, 15, 0, 27)), "its centre lies 27% of a slice's side"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_prostate_is(fault: str) -> None:
    draw, words = FAULTS[fault]
    found = contradictions(volume_region(AXIAL, draw()), GLAND)
    assert any(sentence.startswith(words) for sentence in found), found


def test_a_volume_that_no_prostate_has() -> None:
    """80 x 80 x 54 mm are 345.6 ml."""
    grid = lattice((24, 100, 100), (3.0, 1.0, 1.0))
    found = contradictions(volume_region(grid, inside(grid, (-40, 40, -40, 40, -27, 27))), GLAND)
    assert found == ["it has 345.6 ml; allowed are 8 to 300"]


def test_an_organ_may_end_with_the_volume() -> None:
    """The first and last slice may cut it, which is noted elsewhere; the sides of a slice may not."""
    assert contradictions(volume_region(AXIAL, inside(AXIAL, (-20, 20, -15, 15, -99, 27))), GLAND) == []


def test_surroundings_are_counted_in_millimetres() -> None:
    """From one voxel of 3 x 1 x 2 mm: 3 mm are one slice, three rows, one column; the diagonals are farther or not."""
    grid = Grid((5, 9, 9), np.diag([3.0, 1.0, 2.0, 1.0]), "patient_ras")
    mask = np.zeros(grid.shape, np.bool_)
    mask[2, 4, 4] = True
    near = surroundings(volume_region(grid, mask), 3.0)
    offsets = {(int(z), int(y), int(x)) for z, y, x in np.argwhere(near) - (2, 4, 4)}
    row = {(0, y, x) for y in range(-3, 4) for x in (-1, 0, 1) if y * y + 4 * x * x <= 9}
    assert offsets == row | {(-1, 0, 0), (1, 0, 0)}
    assert near.shape == grid.shape


def test_parts_are_united() -> None:
    one, other = (volume_region(AXIAL, inside(AXIAL, box)) for box in ((-20, 0, -15, 0, 0, 27), (-5, 20, -5, 15, 0, 9)))
    both = united([one, other])
    assert both is not None
    assert np.array_equal(both.full_mask(), one.full_mask() | other.full_mask())
    assert united([]) is None


# -- Planted: networks find what is bright: grains of 200, an organ of 300, lesions of 1500 --------------------------


class Bright(torch.nn.Module):
    """Marks as its last label what lies `above` a value of the first channel."""

    def __init__(self, above: float, labels: int) -> None:
        super().__init__()
        self.above, self.labels = above, labels

    def forward(self, x: torch.Tensor) -> Outputs:
        logits = 20 * (x[:, :1] - self.above)
        others = [torch.full_like(logits, -40.0)] * (self.labels - 1)
        return Outputs(torch.cat([-logits, *others, logits], dim=1), None)


def reading(organ: tuple[float, float], *lesions: tuple[float, float], organ_mm: float = 16.0) -> Reading:
    """Of a ball of an organ with its centre at x, y, and lesions with a radius of 4 mm."""
    return predictor().read(exam(organ, *lesions, organ_mm=organ_mm))


def exam(organ: tuple[float, float], *lesions: tuple[float, float], organ_mm: float = 16.0) -> Image:
    grid = lattice((24, 100, 100), (3.0, 1.0, 1.0))
    values = np.random.default_rng(1).normal(200, 20, grid.shape)
    values[ball(grid, (*organ, 0), organ_mm)] = 300
    for lesion in lesions:
        values[ball(grid, (*lesion, 0), 4)] = 1500
    return volume(grid, values.astype(np.uint16))


def predictor() -> Predictor:
    package = load_package(LESION)
    assert package.locator is not None
    locator = Predictor(package.locator, Bright(3.7, 2), ProstateRecipe(spacing_mm=(3.0, 1.0, 1.0)))
    recipe = ProstateRecipe(spacing_mm=(3.0, 1.0, 1.0), shape=(24, 80, 80))
    return Predictor(package, Bright(7.0, 1), recipe, locator=locator)


def centres(found: Reading) -> list[tuple[int, int]]:
    regions = [finding.volume_region for finding in found.findings if finding.volume_region is not None]
    return sorted((round(float(r.centroid_mm[0])), round(float(r.centroid_mm[1]))) for r in regions)


def test_a_mark_outside_the_organ_is_no_finding() -> None:
    """One lesion inside; one 20 mm beside the organ, marked as clearly, is left out, and that is said."""
    found = reading((0, 0), (0, 8), (36, 0))
    assert centres(found) == [(0, 8)]
    assert found.notes[-1] == ("1 mark of the network more than 10 mm outside the prostate left out: no finding there")


def test_marks_outside_take_no_place_of_those_inside() -> None:
    """Candidates are five at most: five brighter ones outside do not push the one inside out."""
    outside = [(36.0, y) for y in (-30.0, -15.0, 0.0, 15.0, 30.0)]
    found = reading((0, 0), (0, 8), *outside)
    assert centres(found) == [(0, 8)]
    assert "5 marks of the network" in found.notes[-1]


def test_a_finding_ends_where_the_reach_ends() -> None:
    """The ball of 4 mm around x 26 spans 22 to 30; the organ's 16 mm and 10 of reach end it there."""
    found = reading((0, 0), (26, 0))
    (finding,) = found.findings
    region = finding.volume_region
    assert region is not None
    x = region.grid.world(np.argwhere(region.full_mask()) + 0.5)[:, 0]
    assert 22 <= x.min() <= 23
    assert 25 <= x.max() <= 26.5


def test_nothing_outside_is_nothing_said() -> None:
    found = reading((0, 0), (0, 8))
    assert centres(found) == [(0, 8)]
    assert not any("left out" in note for note in found.notes)


def test_without_the_guard_it_would_be_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "_within", lambda *_: None)
    assert (0, 8) in centres(reading((0, 0), (0, 8), (36, 0)))
    assert len(reading((0, 0), (0, 8), (36, 0)).findings) == 2


@pytest.mark.parametrize(
    ("organ", "radius", "words"),
    [
        ((0, 0), 8.0, r"it has 2\.\d ml; allowed are 8 to 300"),
        ((40, 0), 16.0, "it reaches the border of the slices"),
        ((30, 0), 16.0, "its centre lies 30% of a slice's side"),
    ],
)
def test_nothing_is_looked_for_in_what_cannot_be_the_organ(
    organ: tuple[float, float], radius: float, words: str
) -> None:
    """The lesion lies in the middle of what the locator outlines, and is not reported: the answer is unknown."""
    with pytest.raises(InputError, match=rf"prostate_gland outlines cannot be the prostate: .*{words}") as raised:
        reading(organ, organ, organ_mm=radius)
    assert raised.value.reason is Reason.IMPLAUSIBLE_ORGAN


def test_an_implausible_gland_is_no_volume() -> None:
    """A package of the gland itself does not report it either; one that finds none says so as before."""
    locator = predictor().locator
    assert locator is not None
    assert len(locator.read(exam((0, 0))).findings) == 1
    with pytest.raises(InputError, match=r"it has 2\.\d ml") as raised:
        locator.read(exam((0, 0), organ_mm=8.0))
    assert raised.value.reason is Reason.IMPLAUSIBLE_ORGAN
    empty = replace(exam((0, 0)), array=np.full((1, 24, 100, 100), 200, np.uint16))
    assert locator.read(empty).findings == ()
