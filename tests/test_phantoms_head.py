"""Synthetic fetal heads: the ellipse and its circumference, the look of the skull, and the training set."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from scipy import ndimage

from imaging.commands import main
from imaging.phantoms import export
from imaging.phantoms.ultrasound.bmode import CURVED_3, Scan, Sonogram, simulate
from imaging.phantoms.ultrasound.dicom import UltrasoundAcquisition, dataset, screen, truth
from imaging.phantoms.ultrasound.head import LARGEST_MM, SMALLEST_MM, Head, head_of
from imaging.phantoms.ultrasound.planting import plant_head
from imaging.phantoms.ultrasound.screen import VENDORS, Layout

SCAN = Scan(CURVED_3, 120.0, (0.25, 0.25), anatomy="uterus", noise_db=-92.0)
LEVEL = head_of(200.0, 0.78, 3, (0.0, 65.0, 0.0))


def shown(head: Head, scan: Scan = SCAN, seed: int = 4) -> Sonogram:
    return simulate(scan, seed, head=head)


# Geometry


def test_circumference_of_ellipses_known_by_heart() -> None:
    """A circle of 100 mm: 100 π. Half axes 5 and 3: 25.526998863398... (complete elliptic integral, tables)."""
    assert Head(0, 0, 100, 100).circumference_mm == pytest.approx(100 * np.pi)
    assert Head(0, 0, 10, 6).circumference_mm == pytest.approx(25.526998863398, rel=1e-12)
    assert head_of(176.0, 0.78, 1).circumference_mm == pytest.approx(176.0)


def test_outline_and_distance_agree() -> None:
    """Along the long axis of a head turned by 30 degrees: zero at the end, a millimetre in and out beside it."""
    head = Head(4.0, 60.0, 80.0, 62.0, rotation_deg=30.0)
    steps = np.array([39.0, 40.0, 41.0])
    x, z = 4.0 + steps * np.cos(np.pi / 6), 60.0 + steps * np.sin(np.pi / 6)
    assert head.distance_mm(x, z) == pytest.approx([-1.0, 0.0, 1.0], abs=0.03)
    assert head.contains(x, z).tolist()[::2] == [True, False]
    assert head.reach_mm == pytest.approx(
        (np.hypot(40 * np.cos(np.pi / 6), 15.5), np.hypot(20, 31 * np.cos(np.pi / 6)))
    )


@pytest.mark.parametrize("rotation", [0.0, 25.0, 90.0, 200.0])
def test_truth_is_the_filled_ellipse(rotation: float) -> None:
    """Area π·a·b and centre, on pixels of 0.25 × 0.3 mm; and the moments give the circumference back."""
    head = replace(LEVEL, rotation_deg=rotation)
    scan = replace(SCAN, spacing_mm=(0.25, 0.3), looks=1)
    inside = shown(head, scan).truth > 0
    x, z = (grid[inside] for grid in scan.pixel_centres())
    assert inside.sum() * 0.25 * 0.3 == pytest.approx(np.pi / 4 * head.length_mm * head.width_mm, rel=2e-3)
    assert (x.mean(), z.mean()) == pytest.approx((0.0, 65.0), abs=0.05)
    half = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(x, z)))
    assert Head(0, 0, 2 * half[1], 2 * half[0]).circumference_mm == pytest.approx(200.0, rel=2e-3)


# Look


def along_skull(sonogram: Sonogram, head: Head, angle_deg: float) -> float:
    """Brightest grey level across the skull at an angle from the long axis, smoothed by a millimetre along it."""
    levels = []
    for offset in np.linspace(-3, 3, 13):
        turn = np.deg2rad(angle_deg + offset)
        inward = np.arange(-0.5, head.skull_mm + 0.5, 0.1)
        x = head.x_mm + (head.length_mm / 2 - inward) * np.cos(turn)
        z = head.z_mm + (head.width_mm / 2 - inward) * np.sin(turn)
        top, _, left, _ = sonogram.scan.extent_mm
        where = [(z - top) / sonogram.spacing_mm[0] - 0.5, (x - left) / sonogram.spacing_mm[1] - 0.5]
        levels.append(ndimage.map_coordinates(sonogram.pixels.astype(float), where, order=1).max())
    return float(np.mean(levels))


def test_skull_is_bright_where_the_beam_meets_it_and_weak_where_it_grazes() -> None:
    drop = []
    for seed in range(3, 8):
        head = replace(LEVEL, seed=seed)
        sonogram = shown(head, seed=seed)
        near, far, left, right = (along_skull(sonogram, head, angle) for angle in (-90, 90, 180, 0))
        assert min(near, far) > 170
        drop.append(min(near, far) - (left + right) / 2)
    assert np.mean(drop) > 60


def test_skull_lies_on_the_truth_border() -> None:
    """Straight above the centre, the first bright echo rises within half a millimetre of the outline."""
    scan = replace(SCAN, spacing_mm=(0.1, 0.25), looks=4)
    for seed in (3, 4, 5):
        sonogram = shown(replace(LEVEL, seed=seed), scan, seed)
        middle = sonogram.pixels.shape[1] // 2
        profile = sonogram.pixels[:, middle - 8 : middle + 9].astype(float).mean(axis=1)
        border = int(np.flatnonzero(sonogram.truth[:, middle])[0])
        steepest = border - 20 + int(np.argmax(np.diff(profile)[border - 20 : border + 20]))
        assert abs(steepest - border) * 0.1 < 0.5


def test_the_long_way_through_bone_casts_edge_shadows() -> None:
    """Below the sides of the head it is darker than below its middle."""
    sonogram = shown(LEVEL)
    x, z = sonogram.scan.pixel_centres()
    slope = x / (z + CURVED_3.radius_mm)
    edge = LEVEL.length_mm / 2 / (LEVEL.z_mm + CURVED_3.radius_mm)
    below = (z > 106) & (z < 116)
    middle = sonogram.pixels[below & (np.abs(slope) < 0.5 * edge)].mean()
    sides = [sonogram.pixels[below & (np.abs(slope - s * edge) < 0.04 * edge)].mean() for s in (-1, 1)]
    assert max(sides) < middle - 15


def test_midline_is_brighter_than_the_brain_beside_it() -> None:
    brighter = 0
    for seed in range(4):
        head = replace(LEVEL, seed=seed)
        sonogram = shown(head, seed=seed)
        along, aside = head.axes_mm(*sonogram.scan.pixel_centres())
        behind = (along < -0.3 * head.length_mm / 2) & (along > -0.8 * head.length_mm / 2)
        level = [sonogram.pixels[behind & (np.abs(aside - at) < 1.5)].mean() for at in (0.0, 5.0)]
        brighter += level[0] > level[1] + 15
    assert brighter >= 3


# Planting


def test_planted_heads_vary_and_mostly_lie_in_the_picture() -> None:
    left_out, ratios, turns = 0, [], []
    for seed in range(120):
        scan = replace(SCAN, depth_mm=170.0, spacing_mm=(1.0, 1.0))
        head = plant_head(scan, seed)
        x, z = scan.pixel_centres()
        depth = np.hypot(x, z + CURVED_3.radius_mm) - CURVED_3.radius_mm
        fan = (depth >= 0) & (depth <= scan.depth_mm)
        fan &= np.abs(np.arctan2(x, z + CURVED_3.radius_mm)) <= CURVED_3.half_field
        shown_mm2 = (head.contains(x, z) & fan).sum()
        left_out += shown_mm2 < 0.97 * np.pi / 4 * head.length_mm * head.width_mm
        ratios.append(head.width_mm / head.length_mm)
        turns.append(head.rotation_deg)
        assert SMALLEST_MM <= head.circumference_mm <= LARGEST_MM + 1e-6
        assert 1.9 < head.skull_mm < 4.1
    assert 5 <= left_out <= 25
    assert 0.73 <= min(ratios) < 0.76 < 0.80 < max(ratios) <= 0.83
    assert np.histogram(turns, 4, (0, 360))[0].min() > 5


# DICOM and sets


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_obstetric_study_is_told_as_such(vendor: str) -> None:
    ds = dataset(UltrasoundAcquisition(vendor, seed=3, head="planted", body_part="FETALHEAD"))
    assert (ds.BodyPartExamined, ds.ImageType[2]) == ("FETALHEAD", "OBSTETRICAL")
    assert ds.ProcedureCodeSequence[0].CodeValue == "268445003"
    assert ds.TransducerType == "CURVED LINEAR"
    assert ds.TransducerData[0] == VENDORS[vendor].curved_transducer
    assert not ds.Laterality
    assert ds.SequenceOfUltrasoundRegions[0].TransducerFrequency == 3500


def test_a_uterus_without_a_head_has_no_truth_and_a_cine_moves_its_head() -> None:
    assert not truth(UltrasoundAcquisition("A", seed=3, body_part="FETALHEAD")).any()
    clip = truth(UltrasoundAcquisition("B", seed=3, head=LEVEL, body_part="FETALHEAD", layout=Layout(frames=4)))
    assert clip.shape[0] == 4
    assert clip.reshape(4, -1).any(axis=1).all()
    assert (clip[0] != clip[1]).any()


def test_second_half_of_a_split_screen_shows_no_head() -> None:
    acquisition = UltrasoundAcquisition("A", seed=3, head=LEVEL, body_part="FETALHEAD", layout=Layout("split"))
    mask, (left, right) = truth(acquisition), screen(acquisition).regions
    assert mask[:, left.column : left.column + left.columns].any()
    assert not mask[:, right.column : right.column + right.columns].any()


def test_training_set_of_heads(tmp_path: Path) -> None:
    assert main(["phantoms", "training", str(tmp_path / "set"), "--kind", "head", "--cases", "4", "--seed", "3"]) == 0
    with (tmp_path / "set" / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == export.MANIFEST_COLUMNS["head"]
    for row in rows:
        ds = pydicom.dcmread(tmp_path / "set" / row["image"])
        mask = np.asarray(Picture.open(tmp_path / "set" / row["truth"]))
        assert mask.shape == (ds.Rows, ds.Columns)
        assert ds.BodyPartExamined == "FETALHEAD"
        assert bool(row["head_circumference_mm"]) == bool(mask.any())


def test_plan_of_heads_spans_all_sizes_and_depths() -> None:
    cases = [case for *_, case in export.training_cases(240, seed=1, kind="head")]
    heads = [case.head for case in cases if case.head is not None]
    sizes = [head.circumference_mm for head in heads]
    assert 0.85 * len(cases) < len(heads) < 0.98 * len(cases)
    assert min(sizes) < 90
    assert max(sizes) > 320
    assert {90 <= case.setting.depth_mm <= 180 for case in cases} == {True}
