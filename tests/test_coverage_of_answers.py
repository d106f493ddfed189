"""What an answer covers, and what forbids a "no": channels that end above the organ, blank inputs, clipped pictures."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from imaging.commands import main
from imaging.errors import InputError, Reason
from imaging.exam.conclusion import Readings, Terms
from imaging.findings import Coverage, Reading
from imaging.grayscale import Grayscale, VoiWindow
from imaging.harmonise.coverage import check_spread, is_cut, shares
from imaging.image import Grid, Image, Origin, SourceRef, View
from imaging.modalities.mammography.conclusions import conclude as conclude_mammography
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.modalities.prostate.conclusions import conclude
from imaging.modalities.prostate.recipe import ProstateRecipe
from tests.conftest import REPOSITORY
from tests.test_prostate_recipe import lattice, volume

T2W = lattice((10, 8, 8), (3.0, 1.0, 1.0))
RNG = np.random.default_rng(7)


def picture(grid: Grid) -> Image:
    return volume(grid, RNG.normal(100, 10, grid.shape))


def organ(first: int, last: int) -> np.ndarray:
    """Slices `first` to `last` of the T2W, 4 × 4 voxels each."""
    mask = np.zeros(T2W.shape, np.bool_)
    mask[first : last + 1, 2:6, 2:6] = True
    return mask


def test_a_channel_that_ends_inside_the_organ_covers_a_share_of_it() -> None:
    """Organ in slices 2 to 7; the channel has slices 4 to 9, so 4 of 6."""
    short = picture(T2W.crop((4, 0, 0), (6, 8, 8)))
    found = shares(picture(T2W), {"ADC": short}, organ(2, 7))
    assert found == {"": 1.0, "ADC": pytest.approx(4 / 6)}
    assert shares(picture(T2W), {"ADC": short}, organ(4, 9))["ADC"] == 1.0
    assert shares(picture(T2W), {"ADC": short}, None)["ADC"] == pytest.approx(0.6)


def test_slices_of_zeros_cover_nothing() -> None:
    """As long as the T2W, but filled up: outside its field of view there is no signal."""
    filled = picture(T2W)
    filled.array[0, :4] = 0
    assert shares(picture(T2W), {"ADC": filled}, organ(2, 7))["ADC"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(("first", "last", "cut"), [(0, 5, True), (4, 9, True), (1, 8, False)])
def test_an_organ_that_ends_with_the_volume_is_cut(first: int, last: int, cut: bool) -> None:
    assert is_cut(organ(first, last)) is cut


def test_the_pole_of_an_organ_may_lie_in_the_last_slice() -> None:
    mask = organ(1, 8)
    mask[9, 3, 3:6] = True
    assert not is_cut(mask)


def covered(coverage: Coverage) -> tuple[str, tuple[str, ...]]:
    ref = SourceRef("1", "2", "1.2.840.10008.5.1.4.1.1.4", "3")
    told = conclude(Readings((Reading((ref,), (), (), {}, coverage=coverage),)), Terms(), {})
    return told.covers, told.gaps


def test_an_uncovered_gland_is_a_gap_and_stands_as_a_share() -> None:
    covers, gaps = covered(Coverage({"": 1.0, "ADC": 0.839, "high b": 0.97}, is_of_organ=True))
    assert covers == "gland covered by T2W 100 %, ADC 83 %, high b 97 %"
    assert gaps == (
        "ADC 83 %: the rest of the gland was not looked at in it",
        "high b 97 %: the rest of the gland was not looked at in it",
    )
    assert covered(Coverage({"": 1.0, "ADC": 0.985}, is_of_organ=True)) == ("gland covered by T2W 100 %, ADC 98 %", ())
    assert covered(Coverage({"": 1.0, "ADC": 0.92}, is_of_organ=False))[1] == ()
    assert covered(Coverage({"": 1.0, "ADC": 0.6}, is_of_organ=False))[1]
    assert covered(Coverage({"": 1.0}, is_of_organ=True, is_cut=True))[1]


def test_the_views_that_were_read_are_counted() -> None:
    refs = [SourceRef("1", "2", "1.2.840.10008.5.1.4.1.1.1.2", str(n)) for n in range(3)]
    views = {"0": View("L", "CC"), "1": View("L", "MLO"), "2": View("R", "CC")}
    told = conclude_mammography(Readings(tuple(Reading((ref,), (), (), {}) for ref in refs[:2]), views), Terms(), {})
    assert told.covers == "2 of 4 standard views"


def test_a_model_input_that_is_constant_is_refused() -> None:
    blank = np.full((2, 50, 50), -1.0, np.float32)
    blank[0] = RNG.normal(size=(50, 50))
    blank[1, 0, :2] = 1.0  # 2 of 2500 values
    with pytest.raises(InputError, match=r"channel 2 of 2 has one value in all but 2 of 2500 places") as raised:
        check_spread(blank, "study 1")
    assert raised.value.reason is Reason.NO_SIGNAL
    blank[1, 0, :3] = 1.0
    check_spread(blank, "study 1")


def test_a_fitted_adc_that_no_tissue_has_is_refused() -> None:
    """Stored with four times the scale from b 800 on, 1000 × 10⁻⁶ mm²/s would be a rising signal."""
    grid = lattice((4, 16, 16), (3.0, 1.0, 1.0))
    signal = RNG.uniform(80, 120, grid.shape)
    ref = volume(grid, signal)

    def exam(factor: float) -> Image:
        low, high = signal * np.exp(-0.1), factor * signal * np.exp(-0.8)
        return replace(ref, beside={"b 100": volume(grid, low, 100.0), "high b": volume(grid, high, 800.0)})

    recipe = ProstateRecipe(roles=("T2W", "ADC"))
    found, _ = recipe.volumes(exam(1.0))
    assert np.median(found["ADC"].array) == pytest.approx(1000, rel=1e-3)
    with pytest.raises(InputError, match=r"no plausible ADC map: fitted from the b-values") as raised:
        recipe.volumes(exam(4.0))
    assert raised.value.reason is Reason.IMPLAUSIBLE_ADC


def breast(window: VoiWindow | None) -> Image:
    """A half disc of tissue, 1000 to 3000, at the left edge of a picture whose background is 0."""
    rows, columns = np.mgrid[0:128, 0:128]
    inside = (rows - 64) ** 2 + columns**2 < 50**2
    stored = np.where(inside, 1000 + 20 * columns + (rows % 7) * 100, 0).astype(np.uint16)
    grid = Grid.plane(128, 128, 1.0, 1.0, "mm")
    windows = (window,) if window else ()
    return Image(stored[None], grid, grid, (), Origin("s", "c", "p"), grayscale=Grayscale(windows=windows))


@pytest.mark.parametrize("window", [VoiWindow(60000, 2000), VoiWindow(200, 100)], ids=["all black", "all white"])
def test_a_window_that_clips_nearly_all_of_the_breast_is_not_used(window: VoiWindow) -> None:
    tissue, plain = (MammographyRecipe().tissue(breast(one)) for one in (window, None))
    assert np.array_equal(tissue.pixels.numpy(), plain.pixels.numpy())
    assert re.match(r"The header's window or table was not used: it clips (9\d|100)% of the breast", tissue.notes[0])


def test_a_window_that_shows_the_breast_is_used() -> None:
    """2000 / 1200 clips a part at both ends, and is what the radiographer chose."""
    tissue = MammographyRecipe().tissue(breast(VoiWindow(2000, 1200)))
    assert not any("window" in note for note in tissue.notes)
    plain = MammographyRecipe().tissue(breast(None))
    assert not np.array_equal(tissue.pixels.numpy(), plain.pixels.numpy())


def test_a_dry_run_of_mri_tells_roles_series_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    samples = REPOSITORY / "data_samples"
    package = samples / "packages" / "prostate_lesion"
    assert main(["infer", str(samples / "prostate_export"), "--dry-run", "--package", str(package)]) == 0
    told = capsys.readouterr().out
    for role in ("T2W", "ADC", "high b"):
        assert f"    {role}: series " in told
    assert "images, UID " in told
    assert "    The high b-value is 800 s/mm2" in told
    assert "    leaves out series " in told
