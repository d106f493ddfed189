"""One fill of outlines: which pixels a polygon holds, ties included, and that a report means one mask in every role."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from imaging.data.marks import Mask, RegionMark, fill_polygon
from imaging.data.predicted import predicted_findings, read_results
from imaging.data.truth_dicom import dicom_marks
from imaging.image import Floats, Grid, Image, Origin, SourceRef
from imaging.report.kind import Subject
from imaging.report.write import write_documents
from tests.report_cases import CONTENT_TIME, case

SHAPE = (24, 30)


def by_hand(points: Floats, shape: tuple[int, int]) -> Mask:
    """The same rule in fractions, pixel by pixel: edges at or left of a centre, upper ends in, lower ends out."""
    mask = np.zeros(shape, dtype=np.bool_)
    corners = [(Fraction(float(y)), Fraction(float(x))) for y, x in points]
    for row in range(shape[0]):
        for column in range(shape[1]):
            y, x, inside = row + Fraction(1, 2), column + Fraction(1, 2), False
            for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if min(y0, y1) <= y < max(y0, y1) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                    inside = not inside
            mask[row, column] = inside
    return mask


def polygon(random: np.random.Generator, kind: int) -> Floats:
    """A star-shaped outline (row, column) as SCOORD stores it; vertices anywhere, on pixel centres, or on corners."""
    count = int(random.integers(3, 9))
    angles = np.sort(random.uniform(0, 2 * np.pi, count))
    radii = random.uniform(2, 10, count)
    points = np.column_stack([12 + radii * np.sin(angles), 15 + radii * np.cos(angles)])
    if kind == 1:
        points = np.floor(points) + 0.5
    if kind == 2:
        points = np.rint(points)
    return points.astype(np.float32).astype(np.float64)


def test_a_square_on_pixel_centres_has_its_top_and_left_edge() -> None:
    """Centres 2.5 to 6.5: rows and columns 2, 3, 4 and 5 belong, 6 does not; 16 pixels, whichever way it is drawn."""
    square = np.array([[2.5, 2.5], [2.5, 6.5], [6.5, 6.5], [6.5, 2.5]])
    expected = np.zeros((9, 9), dtype=np.bool_)
    expected[2:6, 2:6] = True
    for points in (square, square[::-1], np.roll(square, 1, axis=0)):
        np.testing.assert_array_equal(fill_polygon(points, (9, 9)), expected)


def test_an_edge_through_a_centre_is_exact() -> None:
    """At the first of 49 rows the edge stands at 1 + 49 · (1/49), which a rounded share puts left of it."""
    points = np.array([[0.5, 0.5], [49.5, 49.5], [49.5, 0.5]])
    mask = fill_polygon(points, (50, 50))
    assert [int(row.sum()) for row in mask] == [*range(49), 0]
    np.testing.assert_array_equal(mask, by_hand(points, (50, 50)))


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["anywhere", "centres", "corners"])
def test_the_fill_is_the_rule(kind: int) -> None:
    random = np.random.default_rng(kind)
    for _ in range(20):
        points = polygon(random, kind)
        exact = by_hand(points, SHAPE)
        if exact.any():
            np.testing.assert_array_equal(fill_polygon(points, SHAPE), exact)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["anywhere", "centres", "corners"])
def test_two_polygons_with_one_edge_share_no_pixel_and_leave_none(kind: int) -> None:
    """A parallelogram cut along its diagonal, each half drawn in its own direction."""
    random = np.random.default_rng(10 + kind)
    compared = 0
    for _ in range(200):
        start, one, other = random.uniform([[4, 4], [3, -3], [-3, 3]], [[9, 9], [8, 8], [8, 9]])
        whole = np.array([start, start + one, start + one + other, start + other])
        whole = [whole, np.floor(whole) + 0.5, np.rint(whole)][kind]
        halves = [fill_polygon(whole[[0, 1, 2]], SHAPE), fill_polygon(whole[[0, 3, 2]], SHAPE)]
        both = fill_polygon(whole, SHAPE)
        if min(mask.sum() for mask in (*halves, both)) > 1:  # what holds no centre marks one pixel all the same
            compared += 1
            np.testing.assert_array_equal(halves[0] ^ halves[1], both)
            if kind == 0 or _is_convex(whole):
                assert not (halves[0] & halves[1]).any()
    assert compared > 100


def _is_convex(points: Floats) -> bool:
    sides = np.roll(points, -1, axis=0) - points
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    return bool(np.all(turns > 0) or np.all(turns < 0))


def test_a_report_as_truth_is_the_report_as_prediction(tmp_path: Path) -> None:
    """1 000 outlines in a file, in turn anywhere, on pixel centres and on corners: Dice 1, and never an empty mask."""
    subject = case("yes-all")
    documents = write_documents(Subject(subject.result, subject.sources, CONTENT_TIME))
    dataset = next(one for d in documents if (one := dcmread(io.BytesIO(d.data))).Modality == "SR")
    outlines = [item for item in walk(dataset) if item.get("ValueType") == "SCOORD"]
    sources = [item for one in outlines for item in walk(one) if item.get("ValueType") == "IMAGE"]
    uid = str(sources[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    for item in sources:
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = uid
    grid = Grid.plane(*SHAPE)
    image = Image(np.zeros((1, *SHAPE), np.uint8), grid, grid, (SourceRef("", "", "", uid),), Origin())
    random, path, compared = np.random.default_rng(5), tmp_path / "report.dcm", 0
    while compared < 1000:
        drawn = [polygon(random, (compared + k) % 3) for k in range(len(outlines))]
        for item, points in zip(outlines, drawn, strict=True):
            item.GraphicData = np.vstack([points, points[:1]])[:, ::-1].ravel().tolist()
        dataset.save_as(path)
        truths = [mark.mask for mark in dicom_marks(path, image, is_resampled=False) if isinstance(mark, RegionMark)]
        predictions = [mask for mask, _ in predicted_findings(read_results([path]), image)]
        assert len(truths) == len(predictions) == len(outlines)
        for truth, prediction in zip(truths, predictions, strict=True):
            assert truth.any()
            assert 2 * np.count_nonzero(prediction & truth) / (prediction.sum() + truth.sum()) == 1.0
        compared += len(outlines)
    np.testing.assert_array_equal(truths[0], fill_polygon(drawn[0], SHAPE))


def walk(item: Dataset) -> Iterator[Dataset]:
    """The content items of a report, or below one."""
    for child in item.get("ContentSequence") or []:
        yield child
        yield from walk(child)
