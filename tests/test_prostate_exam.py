"""What a prostate exam comes to: sectors, gland volume and PSA density of prostates whose answers are drawn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from imaging.dicom.index import build_index
from imaging.dicom.pixels.volume import read_volumes
from imaging.exam.conclusion import Conclusion, Readings, Terms
from imaging.exam.context import Stated
from imaging.exam.result import Scores
from imaging.findings import Finding, Reading, cross_section
from imaging.image import LPS_TO_RAS, Grid, Image, SourceRef
from imaging.modalities.prostate.conclusions import conclude, summarise
from imaging.phantoms.prostate.anatomy import Pelvis
from imaging.phantoms.prostate.signal import Slab, lesion_labels, zone_labels
from imaging.phantoms.prostate.study import planted_lesions
from imaging.volume_region import Quantity
from tests import mr_series
from tests.prostate_glands import AXIAL, GLAND, GRIDS, inside, lesion, turned, volume_region, whole, zones

READ = (SourceRef("1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.0"),)
# A spot in every sector of both zones: x from the middle to the left and right, y, and z of apex, middle and base.
HEIGHTS = {"apical": 4.5, "middle": 13.5, "basal": 22.5}
SPOTS = {
    ("peripheral", "anterior"): (15, 8),
    ("peripheral", "posterolateral"): (15, -8),
    ("peripheral", "posteromedial"): (5, -10),
    ("transition", "anterior"): (5, 8),
    ("transition", "posterior"): (5, -2.5),
}
SECTORS = {
    f"{side} {part} {level} {zone} zone of prostate": (x if side == "Right" else -x, y, HEIGHTS[level])
    for ((zone, part), (x, y)), level, side in itertools.product(SPOTS.items(), HEIGHTS, ("Left", "Right"))
}


def exam(found: list[Finding], organs: list[Finding], psa: Stated | None = None) -> Conclusion:
    return summarise(found, organs, psa, READ)


def site(found: Finding, organs: list[Finding]) -> str | None:
    """The meaning of the sector of a single finding."""
    (told,) = exam([found], organs).findings
    return None if told.site is None else told.site.meaning


def official() -> dict[str, str]:
    """CID 6304, sectors of PI-RADS v2.1: meaning → code value."""
    named = (concepts["SCT"][keyword] for keyword in cid_concepts[6304]["SCT"])
    return {meaning: value for of in named for value, (meaning, cids) in of.items() if 6304 in cids}


# --- Sectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_sector_is_found_where_it_is_drawn_on_any_grid(grid: Grid) -> None:
    organs = zones(grid)
    found = [lesion(*place, grid=grid) for place in SECTORS.values()]
    for meaning, told in zip(SECTORS, (exam([one], organs).findings[0] for one in found), strict=True):
        assert told.site is not None
        assert told.site.meaning == meaning


def test_sectors_are_the_codes_of_pi_rads_2_1_and_all_of_the_two_zones() -> None:
    organs = zones()
    sites = [exam([lesion(*place)], organs).findings[0].site for place in SECTORS.values()]
    assert {s.scheme for s in sites if s} == {"SCT"}
    expected = {meaning: code for meaning, code in official().items() if "peripheral" in meaning or "transi" in meaning}
    assert {s.meaning: s.value for s in sites if s} == expected
    assert len(expected) == 30


def test_left_is_the_patient_s_left_from_the_header_on(tmp_path: Path) -> None:
    """Columns of an axial scan run to the patient's left (PS3.3 C.7.6.2.1.1), so the last ones are left."""
    stored = np.zeros((15, 16, 20))
    stored[3:12, 2:14, 2:18] = 1
    stored[4:6, 9:12, 14:17] = 2
    mr_series.slices(tmp_path, 1, {**mr_series.T2, "PixelSpacing": [3, 2]}, stored=stored)
    (series,) = build_index(tmp_path, None, workers=0).series
    (image,) = read_volumes(series.instances)
    assert isinstance(image, Image)
    gland, spot = image.array[0] > 0, image.array[0] == 2
    middle = np.zeros_like(gland)
    middle[:, 2:9, 6:14] = gland[:, 2:9, 6:14]
    organs = [
        cross_section("peripheral zone", 1.0, volume_region(image.grid, gland & ~middle)),
        cross_section("transition zone", 1.0, volume_region(image.grid, middle)),
    ]
    assert (
        site(cross_section("lesion", 0.5, volume_region(image.grid, spot)), organs)
        == "Left posterolateral apical peripheral zone of prostate"
    )


@pytest.mark.parametrize(("x", "side"), [(-0.6, "Left"), (0.6, "Right")])
def test_a_lesion_across_the_midline_belongs_to_the_side_of_most_voxels(x: float, side: str) -> None:
    """A cube of four millimetres: at ±0.6 three of its columns lie on one side and one on the other."""
    assert site(lesion(x, -10, 13.5), zones()) == f"{side} posteromedial middle peripheral zone of prostate"


def test_a_lesion_in_two_zones_belongs_to_that_of_most_voxels() -> None:
    """The transition zone ends at y -5: rows at -7.5 to -3.5 lie 3 : 2 on both sides of it."""
    wide = volume_region(AXIAL, inside(AXIAL, (2, 6, -8, -3, 12, 15)))
    assert site(cross_section("lesion", 0.5, wide), zones()) == (
        "Right posteromedial middle peripheral zone of prostate"
    )
    high = volume_region(AXIAL, inside(AXIAL, (2, 6, -7, -2, 12, 15)))
    assert site(cross_section("lesion", 0.5, high), zones()) == "Right posterior middle transition zone of prostate"


def test_the_lines_follow_a_leaning_gland() -> None:
    """Two boxes: the apex 20 mm before the rest. What is its back there would be the front of the whole."""
    low, high = (-20, 20, 5, 35, 0, 9), (-20, 20, -15, 15, 9, 27)
    mask = inside(AXIAL, (-20, 20, 5, 24, 0, 9)) | inside(AXIAL, high)
    assert low[3] > high[3]
    organs = [cross_section("peripheral zone", 1.0, volume_region(AXIAL, mask))]
    assert site(lesion(15, 8, 4.5), organs) == "Right posterolateral apical peripheral zone of prostate"
    assert site(lesion(15, 8, 13.5), organs) == "Right anterior middle peripheral zone of prostate"


def test_a_stray_island_moves_no_line_and_counts_for_the_volume() -> None:
    """With the island the gland would reach to z 33 and the base would begin at 22."""
    island = inside(AXIAL, (20, 24, 15, 19, 30, 33))
    mask = inside(AXIAL, GLAND)
    organs = [cross_section("peripheral zone", 1.0, volume_region(AXIAL, mask | island))]
    assert site(lesion(15, 8, 20.5), organs) == "Right anterior basal peripheral zone of prostate"
    assert exam([], organs).measures["gland_volume_ml"] == pytest.approx(32.4 + 0.048)


@pytest.mark.parametrize(("x", "inside_zone"), [(20.4, False), (19.4, True)])
def test_a_lesion_mostly_outside_has_no_sector_and_says_so(x: float, inside_zone: bool) -> None:
    told = exam([lesion(x, -8, 13.5)], zones())
    assert (told.findings[0].site is not None) == inside_zone
    said = "Finding 1 has no sector: the greater part of it lies outside the zones that were outlined"
    assert told.notes == (() if inside_zone else (said,))


def test_without_zones_the_place_is_said_in_words() -> None:
    told = exam([lesion(-15, -8, 22.5, 0.9), lesion(27, -8, 13.5, 0.1)], [whole()])
    assert [f.site for f in told.findings] == [None, None]
    assert told.notes == (
        "Finding 1 has no sector, as no zone was outlined: it lies left, in the basal third, posterior",
        "Finding 2 has no sector, as no zone was outlined: it lies for the greater part outside the gland",
    )


@pytest.mark.parametrize("seed", range(4))
def test_planted_lesions_are_told_on_their_side_and_in_their_zone(seed: int) -> None:
    """Phantoms, scanned at a tilt of 20°; their places are in LPS. Their glands are ellipsoids, bent and tapered."""
    pelvis = Pelvis(seed, planted_lesions(seed, 3))
    across, down = turned(20, 0)[:, :2].T
    slab = Slab(pelvis.centre_mm, tuple(across), tuple(down), (1.0, 1.0), 3.0, 3.0, (24, 70, 80))
    grid = Grid(slab.shape, LPS_TO_RAS @ slab.lps, "patient_ras")
    zone, number = zone_labels(pelvis, slab), lesion_labels(pelvis, slab)
    organs = [
        cross_section(name, 1.0, volume_region(grid, zone == k))
        for k, name in ((1, "peripheral zone"), (2, "transition zone"))
    ]
    told = exam([cross_section("lesion", 1 / k, volume_region(grid, number == k)) for k in (1, 2, 3)], organs)
    for finding, planted in zip(told.findings, pelvis.lesions, strict=True):
        assert finding.site is not None
        side = "Left" if planted.centre_mm[0] > pelvis.centre_mm[0] else "Right"
        assert finding.site.meaning.startswith(side)
        assert ("peripheral" in finding.site.meaning) == (planted.zone == "PZ")
    volume_ml = 4 / 3 * np.pi * np.prod(pelvis.gland.radii_mm) / 1000
    assert told.measures["gland_volume_ml"] == pytest.approx(volume_ml, rel=0.01)


# --- Volume, PSA, ADC -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("organs", [zones(), [whole()], [whole(), *zones()], [*zones()[:1], whole()]])
def test_the_volume_is_that_of_all_that_is_outlined_once(organs: list[Finding]) -> None:
    """40 × 30 × 27 mm."""
    told = exam([], organs, Stated(6.48, "the test says so"))
    assert told.measures == pytest.approx({"gland_volume_ml": 32.4, "psa_ng_ml": 6.48, "psa_density_ng_ml2": 0.2})
    assert told.notes == ("The PSA of 6.48 ng/ml is not of the images: the test says so",)
    assert [o.measures["volume_ml"] for o in told.structures] == [
        o.volume_region.volume_ml for o in organs if o.volume_region
    ]


def test_without_psa_there_is_no_density_and_without_gland_no_volume() -> None:
    assert exam([], [whole()]).measures == pytest.approx({"gland_volume_ml": 32.4})
    told = exam([lesion(0, 0, 10)], [], Stated(4.0, "x"))
    assert told.measures == {"gland_volume_ml": None, "psa_ng_ml": 4.0, "psa_density_ng_ml2": None}
    assert "No gland was outlined: its volume is not known, and no finding has a sector" in told.notes


@pytest.mark.parametrize(("top", "is_cut"), [(36.0, True), (33.0, False)])
def test_a_gland_at_the_end_of_the_volume_is_said_to_be_cut(top: float, is_cut: bool) -> None:
    """The last of the fifteen slices lies at z 34.5."""
    told = exam([], [whole(gland=(-20, 20, -15, 15, 6, top))])
    assert any("reaches the end of the volume" in note for note in told.notes) == is_cut


def test_a_lesion_is_measured_in_space_and_in_the_adc() -> None:
    """A cube of 4 × 4 × 3 voxels: 4 × 4 × 9 mm."""
    cube = volume_region(AXIAL, inside(AXIAL, (3, 7, -12, -8, 9, 18)), {"ADC": Quantity(812.5, 640.0)})
    (told,) = exam([cross_section("lesion", 0.7, cube)], zones()).findings
    assert told.measures == pytest.approx(
        {"volume_ml": 0.144, "longest_diameter_mm": np.linalg.norm([3, 3, 9]), "adc_mean_um2_s": 812.5,
         "adc_p10_um2_s": 640.0}
    )  # fmt: skip
    (unknown,) = exam([lesion(5, -10, 13.5)], zones()).findings
    assert (unknown.measures["adc_mean_um2_s"], unknown.measures["adc_p10_um2_s"]) == (None, None)


def test_a_package_of_organs_has_them_as_findings() -> None:
    gland = whole(label="prostate_gland")
    told = exam([gland], [])
    assert told.measures == pytest.approx({"gland_volume_ml": 32.4})
    (organ,) = told.findings
    # From the middle of a voxel's lower face to that of the opposite voxel's upper face.
    longest = np.linalg.norm([39, 29, 27])
    assert organ.measures == pytest.approx({"volume_ml": 32.4, "longest_diameter_mm": longest})
    assert organ.site is None
    assert told.notes == ()


# --- The exam ---------------------------------------------------------------------------------------------------------


def readings(*found: Finding, organs: Sequence[Finding] | None = None) -> Readings:
    return Readings((Reading(READ, found, (), {}, structures=tuple(zones() if organs is None else organs)),))


def test_findings_stand_best_score_first_and_structures_apart() -> None:
    told = conclude(readings(lesion(5, -10, 4, 0.2), lesion(-5, -10, 4, 0.8), lesion(5, 8, 4, 0.5)), Terms(), {})
    assert [f.key.score for f in told.findings] == [0.8, 0.5, 0.2]
    assert [s.key.label for s in told.structures] == ["peripheral zone", "transition zone"]
    assert told.scores is None


@pytest.mark.parametrize(("found", "score"), [([0.2, 0.8], 0.8), ([], 0.0)])
def test_scores_are_there_only_with_an_operating_point(found: list[float], score: float) -> None:
    told = conclude(readings(*(lesion(5, -10, 4, value) for value in found)), Terms(operating_point=0.6), {})
    assert told.scores == Scores(score, {}, 0.6)
    gland = readings(whole(), organs=())
    assert conclude(gland, Terms(operating_point=0.6), {}).scores == Scores(0.0, {}, 0.6)


def test_an_exam_of_which_nothing_was_read_says_nothing_of_it() -> None:
    told = conclude(Readings(), Terms(operating_point=0.6), {})
    assert (told.findings, told.scores, told.notes) == ((), None, ())
