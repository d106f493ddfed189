"""b-values as each maker stores them, ADC maps in one unit, and the ADC computed again from the signals."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import Dataset

from imaging.dicom.headers.adc import read_adc, unit_factor
from imaging.dicom.headers.diffusion import BValue, computed_from, read_b_values
from imaging.dicom.index import build_index, read_header
from imaging.dicom.pixels.volume import Stack, find_stacks
from imaging.dicom.select import Group
from imaging.errors import ImagingError, InputError, Reason
from imaging.harmonise.diffusion import computed_signal, fit_adc, suited
from imaging.image import Grid, Image, resample
from imaging.modalities.prostate.selection import select
from tests.mr_series import ADC, group, private, slices


def of(dataset: Dataset) -> BValue | ImagingError | None:
    (found,) = read_b_values(dataset, "image")
    return found


def value(dataset: Dataset) -> tuple[float, str]:
    found = of(dataset)
    assert isinstance(found, BValue), found
    return found.value, found.source


def held(group: int, creator: str, element: int, vr: str, stored: Any, block: int = 0x10) -> Dataset:
    dataset = Dataset()
    private(dataset, group, creator, element, vr, stored, block)
    return dataset


def csa(name: str, text: str) -> bytes:
    """A CSA header, version 2, of one tag with one value."""
    item = struct.pack("<4i", 0, len(text), 77, 0) + text.encode() + b"\0" * (-len(text) % 4)
    tag = struct.pack("<64si4siii", name.encode(), 1, b"IS\0\0", 6, 1, 77) + item
    return b"SV10\4\3\2\1" + struct.pack("<II", 1, 77) + tag


# b-values, maker by maker

SIEMENS, GE, PHILIPS = "SIEMENS MR HEADER", "GEMS_PARM_01", "Philips Imaging DD 001"


@pytest.mark.parametrize(
    ("dataset", "expected", "source"),
    [
        (group(DiffusionBValue=1400.0), 1400, "DiffusionBValue (0018,9087)"),
        (group(DiffusionBValue=0.0), 0, "DiffusionBValue (0018,9087)"),
        (held(0x19, SIEMENS, 0x0C, "IS", "800"), 800, "(0019,xx0C) of SIEMENS MR HEADER"),
        (held(0x19, SIEMENS, 0x0C, "UN", b"800 "), 800, "(0019,xx0C) of SIEMENS MR HEADER"),
        (held(0x29, "SIEMENS CSA HEADER", 0x10, "OB", csa("B_value", "400")), 400, "B_value of the Siemens CSA header"),
        (held(0x43, GE, 0x39, "IS", [1000000800, 8, 0, 0]), 800, "(0043,xx39) of GEMS_PARM_01"),
        (held(0x43, GE, 0x39, "IS", [1400, 8, 0, 0]), 1400, "(0043,xx39) of GEMS_PARM_01"),
        (held(0x43, GE, 0x39, "UN", b"1000000050\\8\\0\\0"), 50, "(0043,xx39) of GEMS_PARM_01"),
        (held(0x2001, PHILIPS, 0x03, "FL", 1000.0), 1000, "(2001,xx03) of Philips Imaging DD 001"),
        (held(0x2001, PHILIPS, 0x03, "UN", struct.pack("<f", 1000)), 1000, "(2001,xx03) of Philips Imaging DD 001"),
        (group(ImageComments="b=1500(0.445,0.000,0.895)"), 1500, "ImageComments (0020,4000)"),
        (group(SequenceName="*ep_b800t"), 800, "SequenceName (0018,0024)"),
        (group(SequenceName="ep_b50#12"), 50, "SequenceName (0018,0024)"),
        (group(SeriesDescription="DWI b=1000"), 1000, "SeriesDescription (0008,103E)"),
    ],
)
def test_where_each_maker_stores_the_b_value(dataset: Dataset, expected: float, source: str) -> None:
    assert value(dataset) == (expected, source)


@pytest.mark.parametrize("block", [0x11, 0x7F])
def test_private_elements_are_found_by_their_creator_not_by_a_block(block: int) -> None:
    dataset = held(0x19, SIEMENS, 0x0C, "IS", "800", block)
    private(dataset, 0x19, "SOMEONE ELSE", 0x0C, "IS", "99", 0x10)
    assert value(dataset)[0] == 800
    assert of(held(0x19, "SOMEONE ELSE", 0x0C, "IS", "99")) is None


def test_the_standard_element_before_the_private_and_both_before_names() -> None:
    dataset = held(0x43, GE, 0x39, "IS", [1000000800, 8, 0, 0])
    dataset.SeriesDescription = "DWI b 600"
    assert value(dataset) == (800, "(0043,xx39) of GEMS_PARM_01")
    dataset.DiffusionBValue = 700.0
    assert value(dataset) == (700, "DiffusionBValue (0018,9087)")


def test_only_names_are_inferences() -> None:
    for dataset, inferred in ((group(SequenceName="*ep_b50t"), True), (group(DiffusionBValue=50.0), False)):
        found = of(dataset)
        assert isinstance(found, BValue)
        assert found.inferred is inferred


def test_a_name_that_contradicts_the_element_is_said() -> None:
    found = of(group(DiffusionBValue=0.0, SequenceName="*ep_b800t"))
    assert isinstance(found, BValue)
    assert (found.value, found.inferred) == (0, False)
    expected = "DiffusionBValue (0018,9087) says b 0 and SequenceName (0018,0024) b 800; the first is used"
    assert found.note == expected
    agreeing = of(group(DiffusionBValue=800.0, SequenceName="*ep_b800t"))
    assert isinstance(agreeing, BValue)
    assert agreeing.note == ""


@pytest.mark.parametrize(
    "text", ["ep2d_diff_b50_400_800", "DWI b50 b800", "t2_tse_tra", "lab5", "b", "DWI 3b", "ab800", "b12345", "B0 map"]
)
def test_descriptions_without_one_clear_b_value_tell_none(text: str) -> None:
    assert of(group(SeriesDescription=text)) is None


def test_a_range_in_the_name_is_no_b_value() -> None:
    dataset = group(SequenceName="*ep_b50_800")
    assert of(dataset) is None
    assert computed_from(dataset) == (50, 800)
    assert computed_from(group(SequenceName="*ep_b800t")) is None


@pytest.mark.parametrize(
    "dataset",
    [
        group(DiffusionBValue=float("nan")),
        group(DiffusionBValue=float("inf")),
        group(DiffusionBValue=-50.0),
        group(DiffusionBValue=10001.0),
        held(0x19, SIEMENS, 0x0C, "UN", b"eight"),
        held(0x43, GE, 0x39, "UN", b"1000090000\\8\\0\\0"),
        held(0x2001, PHILIPS, 0x03, "FL", -1.0),
    ],
)
def test_impossible_b_values_are_refused_although_a_name_tells_one(dataset: Dataset) -> None:
    dataset.SequenceName = "*ep_b800t"
    found = of(dataset)
    assert isinstance(found, InputError)
    assert found.reason is Reason.BAD_B_VALUE
    assert "allowed are 0 to 10000 s/mm²" in str(found)


def test_the_largest_b_value_is_allowed() -> None:
    assert value(group(DiffusionBValue=10000.0))[0] == 10000


def test_enhanced_frames_have_their_own_then_the_shared_b_value() -> None:
    weighted = [group(MRDiffusionSequence=[group(DiffusionBValue=float(b))]) for b in (50, 800)]
    none = group(MRDiffusionSequence=[group(DiffusionDirectionality="NONE")])
    bad = group(MRDiffusionSequence=[group(DiffusionBValue=-1.0)])
    dataset = group(PerFrameFunctionalGroupsSequence=[*weighted, none, Dataset(), bad])
    dataset.SharedFunctionalGroupsSequence = [group(MRDiffusionSequence=[group(DiffusionBValue=1400.0)])]
    found = read_b_values(dataset, "image")
    assert [b.value for b in found if isinstance(b, BValue)] == [50, 800, 0, 1400]
    assert "image: frame 5" in str(found[4])


def test_enhanced_frames_without_the_macro_have_the_b_value_of_the_image() -> None:
    dataset = group(PerFrameFunctionalGroupsSequence=[Dataset(), Dataset()], DiffusionBValue=600.0)
    assert [b.value for b in read_b_values(dataset, "image") if isinstance(b, BValue)] == [600, 600]


@pytest.mark.shared_data
def test_enhanced_files_of_other_scans_state_no_b_value(shared_data: Path) -> None:
    """A field map is called "B0 NS"; it is one entry per frame all the same."""
    counts = {}
    for name in ("philips_b0map/IM_0027_fMAP.dcm", "philips_molli/IM_0001.dcm", "siemens_xa10/6_1.dcm"):
        found = read_b_values(read_header(shared_data / "dicom" / "enhanced" / name), name)
        assert set(found) == {None}
        counts[name.split("/")[0]] = len(found)
    assert counts == {"philips_b0map": 64, "philips_molli": 10, "siemens_xa10": 6}


# Units of ADC maps


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("mm2/s", 1e6),
        ("um2/s", 1),
        ("10-6.mm2/s", 1),
        ("10*-6.mm2/s", 1),
        ("10^-6 mm²/s", 1),
        ("1E-3 mm2/s", 1e3),
        ("x10-6 mm^2/s", 1),
        ("US", None),
        ("normalized", None),
        ("mm/s", None),
    ],
)
def test_units_of_diffusivity(unit: str, factor: float | None) -> None:
    assert unit_factor(unit) == (None if factor is None else pytest.approx(factor))


def adc_map(folder: Path, stored: int, **tags: Any) -> Image:
    """A map of 15 slices that hold `stored`, but for the first row, which is 0."""
    pixels = np.full((15, 4, 6), stored)
    pixels[:, 0] = 0
    slices(folder, 1, {**ADC, **tags}, stored=pixels)
    return read_adc(stack(folder))


def stack(folder: Path) -> Stack:
    (found,) = find_stacks(i for s in build_index(folder).series for i in s.instances)
    assert isinstance(found, Stack), str(found)
    return found


def mapping(unit: str, slope: float, intercept: float = 0.0) -> Dataset:
    return group(
        RealWorldValueSlope=slope,
        RealWorldValueIntercept=intercept,
        MeasurementUnitsCodeSequence=[group(CodeValue=unit)],
    )


@pytest.mark.parametrize(
    ("stored", "tags", "expected", "said"),
    [
        (1200, {}, 1200, "its values are 10^-6 mm2/s by their size"),
        (1200, {"RescaleSlope": "0.001", "RescaleIntercept": "0"}, 1200, "its values are 10^-3 mm2/s by their size"),
        (1200, {"RescaleSlope": "1e-06", "RescaleIntercept": "0"}, 1200, "its values are mm2/s by their size"),
        (
            600,
            {"RescaleSlope": "0.002", "RescaleIntercept": "0", "RescaleType": "10^-3 mm2/s"},
            1200,
            "stated by RescaleType",
        ),
        (
            1200,
            {"RealWorldValueMappingSequence": [mapping("mm2/s", 5e-7)], "RescaleSlope": "7", "RescaleIntercept": "3"},
            600,
            "stated by RealWorldValueMappingSequence",
        ),
    ],
)
def test_adc_maps_come_in_one_unit(
    tmp_path: Path, stored: int, tags: dict[str, Any], expected: float, said: str
) -> None:
    found = adc_map(tmp_path, stored, **tags)
    assert found.array.dtype == np.float32
    np.testing.assert_allclose(found.array[0, :, 1:], expected, rtol=1e-4)
    assert said in found.notes[-1]


def test_philips_values_by_their_private_scale(tmp_path: Path) -> None:
    """Rescaled values say 40; divided by slope 0.5 × scale 0.05 they are 1600."""

    def scale(k: int, dataset: Dataset) -> None:
        private(dataset, 0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", 0.05)

    tags = {**ADC, "RescaleSlope": "0.5", "RescaleIntercept": "0"}
    stored = np.full((15, 4, 6), 80)
    stored[:, 0] = 0
    slices(tmp_path, 1, tags, change=scale, stored=stored)
    found = read_adc(stack(tmp_path))
    np.testing.assert_allclose(found.array[0, :, 1:], 1600, rtol=1e-4)
    assert "the maker's private scale" in found.notes[-1]


@pytest.mark.parametrize(
    ("stored", "tags", "message"),
    [
        (40, {}, "the median is 40 and no unit is stated"),
        (20000, {}, "the median is 2e+04"),
        (1200, {"RescaleSlope": "1", "RescaleIntercept": "0", "RescaleType": "mm2/s"}, "by RescaleType the median is"),
    ],
)
def test_implausible_maps_are_refused(tmp_path: Path, stored: int, tags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="no plausible ADC map") as raised:
        adc_map(tmp_path, stored, **tags)
    assert raised.value.reason is Reason.IMPLAUSIBLE_ADC
    assert message in str(raised.value)


def test_a_map_of_zeros_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one value throughout") as raised:
        adc_map(tmp_path, 0)
    assert raised.value.reason is Reason.NO_SIGNAL


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("folder", "median"),
    [("prostatex_0001/s08_adc", 1082), ("prostatex_0218/s09_adc", 919), ("ge_adc", 1058)],
)
def test_real_maps_are_in_square_micrometres_already(shared_data: Path, folder: str, median: float) -> None:
    found = read_adc(stack(shared_data / "prostate_mri" / folder))
    assert np.median(found.array[found.array > 0]) == median
    assert "10^-6 mm2/s by their size" in found.notes[-1]


# ADC from signals

B = (0.0, 50.0, 400.0, 800.0)


def signals(adc: float, s0: float = 900.0, b_values: tuple[float, ...] = B) -> list[Any]:
    return [np.full((2, 3), s0 * np.exp(-b * adc * 1e-6), np.float32) for b in b_values]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_adc_of_a_pure_decay_is_found(weighted: bool) -> None:
    fit = fit_adc(signals(1234.0), B, weighted=weighted)
    assert fit.adc.dtype == fit.s0.dtype == np.float32
    np.testing.assert_allclose(fit.adc, 1234, rtol=1e-4)
    np.testing.assert_allclose(fit.s0, 900, rtol=1e-4)
    assert fit.valid.all()


def test_least_squares_by_hand() -> None:
    """ln S = 6, 5, 4.6 at b 50, 400, 800: the slope is Σ(b−b̄)(y−ȳ)/Σ(b−b̄)², with b̄ = 416.67."""
    b = np.array([50.0, 400.0, 800.0])
    y = np.array([6.0, 5.0, 4.6])
    stack = [np.array([np.exp(v)], np.float32) for v in y]
    slope = ((b - b.mean()) * (y - y.mean())).sum() / ((b - b.mean()) ** 2).sum()
    assert fit_adc(stack, b.tolist()).adc[0] == pytest.approx(-slope * 1e6, rel=1e-5)
    fitted = np.polyfit(b, y, 1, w=np.exp(y))  # numpy weighs residuals, so S there is S² here
    assert fit_adc(stack, b.tolist(), weighted=True).adc[0] == pytest.approx(-fitted[0] * 1e6, rel=1e-5)
    assert abs(fitted[0] - slope) > 1e-4


@pytest.mark.parametrize(
    ("b_values", "used"),
    [
        ((0, 50, 400, 800), [1, 2, 3]),
        ((0, 800), [0, 1]),
        ((50, 1000, 2000), [0, 1]),
        ((0, 50, 2000), [0, 1]),
        ((50, 1400), [0, 1]),
        ((50, 50, 800), [0, 1, 2]),
        ((0, 0, 800), [0, 1, 2]),
    ],
)
def test_b_values_from_50_to_1000_are_preferred(b_values: tuple[float, ...], used: list[int]) -> None:
    assert suited(b_values) == used


def test_perfusion_at_b_0_does_not_reach_the_fit() -> None:
    stack = signals(1000.0)
    stack[0] *= 3
    np.testing.assert_allclose(fit_adc(stack, B).adc, 1000, rtol=1e-4)


@pytest.mark.parametrize("b_values", [(800.0,), (800.0, 800.0), ()])
def test_one_b_value_makes_no_adc(b_values: tuple[float, ...]) -> None:
    with pytest.raises(InputError) as raised:
        suited(b_values)
    assert raised.value.reason is Reason.NO_B_VALUE


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match="all of one shape"):
        fit_adc([np.ones((2, 3)), np.ones((2, 4))], (50.0, 800.0))


def test_voxels_that_cannot_be_fitted_are_masked() -> None:
    """In order: fine, no signal, not a number, rising, at the floor."""
    low = np.array([500.0, 500.0, np.nan, 100.0, 500.0], np.float32)
    high = np.array([250.0, 0.0, 250.0, 200.0, 10.0], np.float32)
    fit = fit_adc([low, high], (50.0, 800.0), floor=10.0)
    assert fit.valid.tolist() == [True, False, False, False, False]
    assert fit.adc[0] == pytest.approx(np.log(2) / 750 * 1e6, rel=1e-5)
    assert fit.adc[1:].tolist() == fit.s0[1:].tolist() == [0.0] * 4
    assert computed_signal(fit, 1400.0)[1:].tolist() == [0.0] * 4
    assert fit_adc([low, high], (50.0, 800.0)).valid.tolist() == [True, False, False, False, True]


def test_the_signal_at_a_higher_b_value() -> None:
    fit = fit_adc(signals(700.0), B)
    found = computed_signal(fit, 1400.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 900 * np.exp(-0.98), rtol=1e-4)


@pytest.mark.parametrize("b", [-1.0, float("nan"), float("inf")])
def test_the_signal_needs_a_possible_b_value(b: float) -> None:
    with pytest.raises(InputError) as raised:
        computed_signal(fit_adc(signals(700.0), B), b)
    assert raised.value.reason is Reason.BAD_B_VALUE


# Against the scanner


def chosen(folder: Path) -> Group:
    group = select(build_index(folder).series).group
    assert group
    return group


def volume(chosen: Group, role: str) -> Stack:
    (found,) = find_stacks(chosen.roles[role])
    assert isinstance(found, Stack), str(found)
    return found


def gland(path: Path, grid: Grid) -> Any:
    """The published gland mask on `grid`; nibabel's axes are column, row, slice."""
    mask = nibabel.load(path)
    stored = np.asarray(mask.dataobj).T > 0
    own = Grid(stored.shape, mask.affine @ np.eye(4)[[2, 1, 0, 3]], "patient_ras")
    return resample(stored.astype(np.float32), own, grid) > 0.5


@pytest.mark.shared_data
def test_a_computed_high_b_is_the_scanners(shared_data: Path) -> None:
    """The scanner calculated b 1000 from the same signals: 5.3 % median difference inside the gland, whose values are
    near 24. At b 1200 the signal would be a quarter lower."""
    folder = shared_data / "prostate_mri"
    group = chosen(folder / "prostatex_0001")
    acquired = [volume(group, role).read().array[0] for role in ("b 50", "b 400", "high b")]
    fit = fit_adc(acquired, (50.0, 400.0, 800.0))
    theirs = stack(folder / "prostatex_0001" / "s09_calc_b").read()
    inside = gland(folder / "labels" / "prostatex_0001" / "gland_ai_bosma22b.nii.gz", theirs.grid)
    lit = fit.valid & inside & (theirs.array[0] > 0)
    scanner = theirs.array[0][lit].astype(np.float64)
    assert np.median(np.abs(computed_signal(fit, 1000.0)[lit] / scanner - 1)) < 0.08
    assert np.median(computed_signal(fit, 1200.0)[lit] / scanner) < 0.8
    assert np.corrcoef(computed_signal(fit, 1000.0)[lit], scanner)[0, 1] > 0.97
