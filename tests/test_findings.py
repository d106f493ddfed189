"""Findings on the source grid: hand-drawn masks with their outline, size and place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from imaging.data.marks import fill_polygon
from imaging.exam.conclusion import Readings, Terms
from imaging.exam.result import ExamRating
from imaging.extraction import extract, place
from imaging.findings import Code, Detections, Finding, Prediction, Rating, Reading, trace_outline
from imaging.image import Box, Grid, SourceRef
from imaging.modalities.ultrasound.conclusions import circumference_mm, conclude, exam_measures, summarise

REF = SourceRef("1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.3.4")


def drawn(picture: str) -> np.ndarray:
    return np.array([[c == "#" for c in line.strip()] for line in picture.strip().splitlines()])


def shoelace(points: np.ndarray) -> float:
    x, y = points.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def finding(mask: np.ndarray, grid: Grid, frame: int | None = None, score: float = 0.9, at: int = 0) -> Finding:
    ref = SourceRef(REF.study_uid, REF.series_uid, REF.sop_class_uid, REF.sop_uid, frame)
    outline = trace_outline(mask) + at
    return Finding("lesion", score, ref, grid, mask, (at, at), outline)


def test_outline_of_an_l_shape() -> None:
    mask = drawn(
        """
        #..
        ##.
        ...
        """
    )
    assert trace_outline(mask).tolist() == [[1, 0], [1, 1], [2, 1], [2, 2], [0, 2], [0, 0]]


def test_an_outline_goes_to_its_hole_and_back_by_one_way() -> None:
    mask = drawn(
        """
        ###
        #.#
        ###
        """
    )
    outline = trace_outline(mask).tolist()
    assert outline == [[3, 0], [3, 3], [0, 3], [0, 1], [1, 1], [1, 2], [2, 2], [2, 1], [1, 1], [0, 1], [0, 0]]
    assert shoelace(trace_outline(mask)) == 8


def test_outlines_with_holes_are_their_masks_by_the_even_odd_rule() -> None:
    rng = np.random.default_rng(2)
    with_holes = 0
    for _ in range(300):
        picture = rng.random((12, 15)) < rng.choice([0.6, 0.75, 0.9])
        parts, _ = ndimage.label(picture)
        part = parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1
        with_holes += int(np.any(ndimage.binary_fill_holes(part) != part))
        np.testing.assert_array_equal(fill_polygon(trace_outline(picture)[:, ::-1], part.shape), part)
    assert with_holes > 200


def test_outline_area_is_the_number_of_pixels() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        picture = rng.random((12, 15)) < 0.6
        parts, _ = ndimage.label(picture)
        part = parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1
        assert shoelace(trace_outline(part)) == part.sum()


def test_outline_of_nothing_is_empty() -> None:
    assert trace_outline(np.zeros((3, 3), dtype=bool)).shape == (0, 2)


def test_sizes_of_a_bar_in_millimetres() -> None:
    """3 × 1 pixels of 0.5 × 2 mm: the furthest edge middles are two rows (1 mm) and one column (2 mm) apart."""
    grid = Grid.plane(20, 20, 0.5, 2.0, "mm")
    bar = finding(np.ones((3, 1), dtype=bool), grid, at=4)
    assert bar.box_px == (4, 4, 5, 7)
    assert bar.center_px == (4.5, 5.5)
    assert bar.area_mm2 == pytest.approx(3.0)
    assert bar.longest_diameter_mm == pytest.approx(np.hypot(2.0, 1.0))


def test_an_uncalibrated_finding_has_no_millimetres() -> None:
    bar = finding(np.ones((3, 3), dtype=bool), Grid.plane(9, 9))
    assert (bar.area_mm2, bar.longest_diameter_mm, circumference_mm(bar)) == (None, None, None)


def test_circumference_of_a_drawn_circle_and_ellipse() -> None:
    """On anisotropic pixels; the exact perimeters are 2 pi 20 = 125.66 mm and 4 a E(e) = 145.29 mm for 30 × 15."""
    grid = Grid.plane(300, 300, 0.25, 0.4, "mm")
    rows, columns = np.ogrid[:300, :300]
    y, x = (rows - 150) * 0.25, (columns - 150) * 0.4
    for a, b, expected in ((20, 20, 125.66), (30, 15, 145.29)):
        assert circumference_mm(finding((x / a) ** 2 + (y / b) ** 2 < 1, grid)) == pytest.approx(expected, rel=1e-3)


def test_extract_returns_to_the_source_grid_within_half_a_pixel() -> None:
    """A disc on a coarse model grid, whose source has finer, anisotropic pixels."""
    source = Grid.plane(200, 160, 0.2, 0.25, "mm")
    model = Grid((50, 50), np.array([[0, 0.8, 0.3], [0.8, 0, 0.3], [0, 0, 1]]), "image_plane", "mm")
    rows, columns = np.ogrid[:50, :50]
    places = 0.8 * columns + 0.3, 0.8 * rows + 0.3
    disc = 1 / (1 + np.exp((np.hypot(places[0] - 18, places[1] - 21) - 6) / 0.3))
    found = extract(Prediction(np.stack([1 - disc, disc]), model, source, REF), ("lesion",), 0.5, 4)
    assert len(found) == 1
    assert found[0].center_px == pytest.approx((18 / 0.25 + 0.5, 21 / 0.2 + 0.5), abs=0.5)
    assert found[0].longest_diameter_mm == pytest.approx(12, abs=0.4)
    assert found[0].area_mm2 == pytest.approx(np.pi * 36, rel=0.03)


def test_extract_drops_specks_and_gives_nothing_for_nothing() -> None:
    grid = Grid.plane(40, 40)
    chance = np.zeros((2, 40, 40), dtype=np.float32)
    assert extract(Prediction(chance, grid, grid, REF), ("lesion",), 0.5, 4) == []
    chance[1, 5, 5:8] = 1
    assert extract(Prediction(chance, grid, grid, REF), ("lesion",), 0.5, 4) == []
    assert len(extract(Prediction(chance, grid, grid, REF), ("lesion",), 0.5, 3)) == 1


def test_nothing_is_found_outside_the_analysed_region() -> None:
    """The model grid is a square around a wide picture: what a network says of the padding is not on the patient."""
    source, model = Grid.plane(100, 200), Grid.plane(160, 160)
    chance = np.zeros((2, 160, 160), dtype=np.float32)
    chance[1, 30:90, 40:80] = 1
    inside, beside = Box(low=(20, 10), high=(60, 150)), Box(low=(90, 0), high=(100, 200))
    (found,) = extract(Prediction(chance, model, source, REF, region=inside), ("lesion",), 0.5, 4)
    assert found.box_px == (40, 30, 80, 60)
    assert extract(Prediction(chance, model, source, REF, region=beside), ("lesion",), 0.5, 4) == []


def test_a_score_is_only_as_high_as_it_is_likely_that_the_image_holds_anything() -> None:
    grid = Grid.plane(40, 40)
    chance = np.zeros((2, 40, 40), dtype=np.float32)
    chance[1, 5:15, 5:15], chance[1, 25:30, 25:30] = 0.9, 0.6
    doubtful = Prediction(chance, grid, grid, REF, presence=0.5)
    found = extract(doubtful, ("lesion",), 0.5, 4)
    assert [f.score for f in found] == pytest.approx([0.45, 0.3])
    assert [int(f.mask.sum()) for f in found] == [100, 25]
    assert len(extract(doubtful, ("lesion",), 0.5, 4, least_score=0.4)) == 1


def detections(grid: Grid, source: Grid, *boxes: tuple[float, ...], region: Box | None = None) -> Detections:
    """Boxes as row, column, row, column, each a tenth less sure than the one before; the first has 0.9."""
    scores = 0.9 - 0.1 * np.arange(len(boxes))
    drawn = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Detections(drawn, scores, np.ones(len(boxes), np.int64), grid, source, REF, region)


def test_a_box_returns_through_a_coarser_shifted_grid_by_hand() -> None:
    """Model pixels are twice the source's and begin 10 rows and 20 columns in: row 3 of the model is 10 + 2 · 3."""
    source = Grid.plane(100, 80, 0.5, 0.25, "mm")
    model = Grid((40, 30), np.array([[0, 0.5, 20.5 * 0.25], [1.0, 0, 10.5 * 0.5], [0, 0, 1]]), "image_plane", "mm")
    (found,) = place(detections(model, source, (3, 4.25, 8.5, 6)), ("mass",))
    assert found.box_px == pytest.approx((28.5, 16, 32, 27), abs=1e-9)
    assert found.center_px == pytest.approx((30.25, 21.5))
    assert found.outline_px.tolist() == [[28.5, 16], [32, 16], [32, 27], [28.5, 27]]
    rows, columns = np.nonzero(found.full_mask())  # pixels whose centres lie inside: columns 28.5 to 31.5
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 26, 28, 31)
    assert found.area_mm2 is None


def test_the_diameter_of_a_box_is_its_longer_side_in_millimetres() -> None:
    """10 rows of 0.2 mm are 2 mm and 6 columns of 0.5 mm are 3 mm, so the longer side has fewer pixels."""
    grid = Grid.plane(60, 60, 0.2, 0.5, "mm")
    (found,) = place(detections(grid, grid, (10, 20, 20, 26)), ("mass",))
    assert found.longest_diameter_mm == pytest.approx(3.0)
    assert found.longest_axis_px.tolist() == [[20, 15], [26, 15]]
    uncalibrated = Grid.plane(60, 60)
    (found,) = place(detections(uncalibrated, uncalibrated, (10, 20, 20, 26)), ("mass",))
    assert found.longest_diameter_mm is None


def test_a_box_ends_with_the_analysed_part_of_the_frame() -> None:
    source, model = Grid.plane(100, 200), Grid.plane(160, 200)
    boxes = ((5, 40, 30, 80), (90, 0, 120, 20), (60, 150, 70, 160), (30, 130, 50, 170.5))
    found = place(detections(model, source, *boxes, region=Box(low=(20, 10), high=(60, 150))), ("mass",))
    assert [f.box_px for f in found] == [(40, 20, 80, 30), (130, 30, 150, 50)]
    assert [f.box_px for f in place(detections(model, source, boxes[1]), ("mass",))] == [(0, 90, 20, 100)]


@pytest.mark.parametrize(
    ("low", "high", "pixel"), [(10.1, 10.3, 10), (10.9, 11.0, 10), (11.0, 11.2, 11), (99.8, 100, 99)]
)
def test_a_box_narrower_than_a_pixel_marks_the_one_it_lies_in(low: float, high: float, pixel: int) -> None:
    grid = Grid.plane(100, 100)
    (found,) = place(detections(grid, grid, (low, 20, high, 30)), ("mass",))
    assert found.box_px == pytest.approx((20, low, 30, high), abs=1e-9)
    rows, columns = np.nonzero(found.full_mask())
    assert set(rows.tolist()) == {pixel}
    assert columns.tolist() == list(range(20, 30))


def test_boxes_below_the_operating_point_are_dropped_and_the_surest_comes_first() -> None:
    grid = Grid.plane(60, 60)
    told = detections(grid, grid, (1, 1, 5, 5), (11, 1, 15, 5), (21, 1, 25, 5))
    turned = replace(told, scores=told.scores[::-1], labels=np.array([1, 2, 1]))
    found = place(turned, ("mass", "cluster"), 0.8)
    assert [(f.label, f.score, f.box_px[1]) for f in found] == [("mass", 0.9, 21), ("cluster", 0.8, 11)]
    assert place(turned, ("mass", "cluster"), 0.91) == []
    assert place(detections(grid, grid), ("mass",)) == []


def test_a_lesion_of_a_cine_is_told_once_at_its_best_frame() -> None:
    grid = Grid.plane(60, 60, 0.5, 0.5, "mm")
    mask = np.ones((8, 8), dtype=bool)
    moving = [finding(mask, grid, frame, 0.5 + 0.1 * frame, at=10 + frame) for frame in (1, 2, 4)]
    elsewhere = finding(mask, grid, 2, 0.55, at=40)
    told = summarise([*moving, elsewhere], ["area"])
    assert [(f.key.ref.frame_number, f.frames) for f in told] == [(4, (1, 2, 4)), (2, (2,))]
    assert told[0].measures == {"area_mm2": 16.0}


MALIGNANCY = Rating("malignancy", "malignant", "benign", Code("111047", "DCM", "Probability of cancer"))


def test_a_rating_by_hand() -> None:
    """0.3 of 0.3 + 0.1 is 3/4 of a finding; of the whole image it is 0.3, because it may hold nothing."""
    classes = {"normal": 0.6, "benign": 0.1, "malignant": 0.3}
    assert MALIGNANCY.of_finding(classes) == pytest.approx(0.75)
    assert MALIGNANCY.of_image(classes) == 0.3
    assert MALIGNANCY.of_finding({"normal": 1.0, "benign": 0.0, "malignant": 0.0}) is None
    assert (MALIGNANCY.of_finding({}), MALIGNANCY.of_image({})) == (None, None)


def test_a_lesion_of_a_cine_is_rated_at_its_key_frame_and_the_exam_where_it_is_highest() -> None:
    grid = Grid.plane(60, 60)
    seen = [finding(np.ones((8, 8), dtype=bool), grid, frame, 0.5 + 0.1 * frame, at=10) for frame in (1, 2)]
    other = replace(REF, frame_number=3)
    classes = {
        seen[0].ref: {"benign": 0.1, "malignant": 0.9},
        seen[1].ref: {"benign": 0.6, "malignant": 0.2},
        other: {"benign": 0.0, "malignant": 0.95},
    }
    (told,) = summarise(seen, [], MALIGNANCY, classes)
    assert (told.key.ref.frame_number, told.rating) == (2, pytest.approx(0.25))

    def of_exam(rating: Rating | None, by_image: dict[SourceRef, dict[str, float]]) -> ExamRating | None:
        readings = tuple(Reading((ref,), (), (), {}, classes) for ref, classes in by_image.items())
        return conclude(Readings(readings), Terms(rating=rating), {}).rating

    assert of_exam(MALIGNANCY, classes) == ExamRating(0.95, other)
    assert of_exam(None, classes) is None
    assert of_exam(MALIGNANCY, {}) is None
    assert of_exam(MALIGNANCY, {REF: {}}) is None
    assert summarise(seen, [])[0].rating is None


def test_two_findings_of_one_still_stay_two() -> None:
    grid = Grid.plane(60, 60)
    mask = np.ones((8, 8), dtype=bool)
    told = summarise([finding(mask, grid), finding(mask, grid, at=2)], [])
    assert [f.frames for f in told] == [(), ()]


def test_exam_measures_are_those_of_the_largest_and_empty_for_nothing() -> None:
    grid = Grid.plane(60, 60, 1, 1, "mm")
    small, large = (finding(np.ones((n, n), dtype=bool), grid, score=1 / n) for n in (3, 9))
    assert exam_measures(summarise([small, large], ["area"])) == {"area_mm2": 81.0}
    assert exam_measures(()) == {}
