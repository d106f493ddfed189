"""Which series of a prostate MRI study plays which role, and why each other one does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from imaging.dicom.headers.acquisition import read_acquisition
from imaging.dicom.index import build_index, read_header
from imaging.dicom.pixels.volume import Stack, find_stacks, read_volumes
from imaging.dicom.select import UNPLACED, Anatomy, Group, Selection
from imaging.errors import Reason
from imaging.image import Image
from imaging.modalities.prostate.reasons import ProstateReason
from imaging.modalities.prostate.selection import select
from tests.mr_series import (
    ADC,
    AXIAL,
    EPI,
    SAGITTAL,
    T2,
    TRACE,
    enhanced,
    group,
    private,
    siemens,
    slices,
    tilted,
)

Roles = dict[str, list[int]]
Left = dict[int, set[Reason]]


def chosen(folder: Path, anatomy: Anatomy | None = None) -> Selection:
    return select(build_index(folder).series, anatomy)


def told(selection: Selection) -> tuple[Roles, Left]:
    """Role → numbers of its series; number of a series → why images of it were left out."""
    roles = selection.group.roles if selection.group else {}
    left: Left = {}
    for instance, reason in selection.rejected:
        left.setdefault(instance.series_number, set()).add(reason)
    return {role: sorted({ref.instance.series_number for ref in refs}) for role, refs in roles.items()}, left


def the_group(selection: Selection) -> Group:
    assert selection.group
    return selection.group


def dwi(folder: Path, number: int, b_values: tuple[float, ...], tags: dict[str, Any] = TRACE) -> None:
    """One series with several b-values, told by the private element of Siemens; each series is a scan of its own."""
    tags = {"FlipAngle": 60 + number, **tags}
    for k, b in enumerate(b_values):
        first = 100 * k

        def mark(n: int, dataset: FileDataset, b: float = b, first: int = first) -> None:
            siemens(b)(n, dataset)
            dataset.InstanceNumber = first + n + 1

        part = folder / f"{number}_{k}"
        part.mkdir()
        slices(part, number, tags, change=mark)


def test_a_biparametric_exam(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2)
    dwi(tmp_path, 2, (50, 400, 800))
    slices(tmp_path, 3, ADC)
    selection = chosen(tmp_path)
    roles, left = told(selection)
    assert roles == {"T2W": [1], "ADC": [3], "high b": [2], "b 50": [2], "b 400": [2]}
    assert left == {}
    found = the_group(selection)
    assert found.notes == ("The high b-value is 800 s/mm2, by (0019,xx0C) of SIEMENS MR HEADER",)
    stated = {role: {f.b_value.value for r in refs for f in r.instance.acquisition.frames if f.b_value}  # type: ignore[union-attr]
              for role, refs in found.roles.items()}  # fmt: skip
    assert stated == {"T2W": set(), "ADC": set(), "high b": {800}, "b 50": {50}, "b 400": {400}}
    for refs in found.roles.values():
        (volume,) = read_volumes(refs)
        assert isinstance(volume, Image)
        assert volume.array.shape == (1, 15, 4, 6)
        assert [ref.sop_uid for ref in volume.refs] == [ref.instance.sop_uid for ref in refs]


def test_t2_alone_is_a_group_and_what_is_missing_is_said(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2)
    found = the_group(chosen(tmp_path))
    assert list(found.roles) == ["T2W"]
    assert found.notes == ("No series of the study is its ADC", "No series of the study is its high b")


# T2W

T1 = {**T2, "EchoTime": 12, "RepetitionTime": 600}
NOT_T2: list[tuple[str, dict[str, Any], Reason]] = [
    ("T1 by echo", {"EchoTime": 12}, Reason.OTHER_CONTRAST),
    ("T1 by repetition", {"RepetitionTime": 600}, Reason.OTHER_CONTRAST),
    ("urography", {"EchoTime": 700}, Reason.OTHER_CONTRAST),
    ("inversion", {"ScanningSequence": ["SE", "IR"]}, Reason.OTHER_CONTRAST),
    ("gradient echo", {"ScanningSequence": "GR"}, Reason.OTHER_CONTRAST),
    ("localiser", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Reason.LOCALISER),
    ("localiser by name", {"SeriesDescription": "loc_3plane"}, Reason.LOCALISER),
    ("subtraction", {"ImageType": ["DERIVED", "PRIMARY", "SUBTRACTION"]}, Reason.SUBTRACTION),
    ("projection", {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, Reason.DERIVED_MAP),
    ("dynamic", {"NumberOfTemporalPositions": 30, "EchoTime": 1.4}, ProstateReason.DYNAMIC_CONTRAST),
    ("dynamic by agent", {"ContrastBolusAgent": "Gd", "ScanningSequence": "GR"}, ProstateReason.DYNAMIC_CONTRAST),
    ("coarse pixels", {"PixelSpacing": [1.3, 1.3]}, Reason.TOO_COARSE),
]


@pytest.mark.parametrize(("tags", "reason"), [row[1:] for row in NOT_T2], ids=[row[0] for row in NOT_T2])
def test_what_is_no_t2w_says_why(tmp_path: Path, tags: dict[str, Any], reason: Reason) -> None:
    slices(tmp_path, 1, {**T2, **tags})
    selection = chosen(tmp_path)
    assert selection.group is None
    assert told(selection)[1] == {1: {reason}}


@pytest.mark.parametrize("degrees", [0, 25, -35, 180 - 25])
def test_oblique_axial_scans_are_axial(tmp_path: Path, degrees: float) -> None:
    """A normal that points to the feet is as axial as one that points to the head."""
    slices(tmp_path, 1, T2, orientation=tilted(degrees))
    selection = chosen(tmp_path)
    assert told(selection)[0] == {"T2W": [1]}
    (stack,) = find_stacks(the_group(selection).roles["T2W"])
    assert isinstance(stack, Stack)


@pytest.mark.parametrize("orientation", [SAGITTAL, tilted(45), tilted(90)])
def test_other_planes_are_not(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    slices(tmp_path, 1, T2, orientation=orientation)
    assert told(chosen(tmp_path)) == ({}, {1: {Reason.NOT_AXIAL}})


def test_mixed_orientations_in_one_series_are_parted(tmp_path: Path) -> None:
    for k, orientation in enumerate((AXIAL, SAGITTAL)):
        (tmp_path / str(k)).mkdir()
        slices(tmp_path / str(k), 1, T2, orientation=orientation)
    selection = chosen(tmp_path)
    assert told(selection) == ({"T2W": [1]}, {1: {Reason.NOT_AXIAL}})
    assert len(the_group(selection).roles["T2W"]) == len(selection.rejected) == 15


SHORT, LONG = np.arange(7) * 3.0, np.arange(40) * 3.0
PREFERRED: list[tuple[str, dict[str, Any], dict[str, Any], Reason]] = [
    ("later of repeats", {}, {}, Reason.REPEATED_SERIES),
    ("finer", {"PixelSpacing": [0.9, 0.9]}, {}, Reason.LESS_SUITED),
    ("two-dimensional", {"MRAcquisitionType": "3D"}, {"MRAcquisitionType": "2D"}, Reason.LESS_SUITED),
    ("original", {"ImageType": ["DERIVED", "SECONDARY"]}, {}, Reason.LESS_SUITED),
    ("without fat suppression", {"ScanOptions": "FS"}, {}, Reason.LESS_SUITED),
]


@pytest.mark.parametrize(("worse", "better", "reason"), [r[1:] for r in PREFERRED], ids=[r[0] for r in PREFERRED])
@pytest.mark.parametrize("order", [1, -1])
def test_of_two_t2w_the_better_one(
    tmp_path: Path, worse: dict[str, Any], better: dict[str, Any], reason: Reason, order: int
) -> None:
    """In either order of acquisition, but for repeats."""
    if reason is Reason.REPEATED_SERIES and order < 0:
        worse, better = {"AcquisitionTime": "090000"}, {"AcquisitionTime": "235959"}
    numbers = (1, 2)[::order]
    slices(tmp_path, numbers[0], {**T2, **worse})
    slices(tmp_path, numbers[1], {**T2, **better})
    assert told(chosen(tmp_path)) == ({"T2W": [numbers[1]]}, {numbers[0]: {reason}})


def test_a_repeat_that_was_broken_off_does_not_replace_the_whole_scan(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2, np.arange(24) * 3.0)
    slices(tmp_path, 2, T2, np.arange(17) * 3.0)
    slices(tmp_path, 3, T2, SHORT)
    assert told(chosen(tmp_path)) == (
        {"T2W": [1]},
        {2: {Reason.INCOMPLETE_VOLUME}, 3: {Reason.INCOMPLETE_VOLUME}},
    )


def test_a_scan_of_the_whole_pelvis_does_not_win_by_its_length(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2, np.arange(17) * 3.0)
    slices(tmp_path, 2, {**T2, "PixelSpacing": [0.8, 0.8]}, LONG)
    assert told(chosen(tmp_path)) == ({"T2W": [1]}, {2: {Reason.LESS_SUITED}})


def drop(*missing: int) -> Any:
    return np.array([k * 3.0 for k in range(19) if k not in missing])


def test_a_missing_slice_gives_way_to_a_whole_scan(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2)
    slices(tmp_path, 2, T2, drop(6))
    assert told(chosen(tmp_path)) == ({"T2W": [1]}, {2: {Reason.MISSING_SLICE}})


@pytest.mark.parametrize(
    ("depths", "reason"),
    [(drop(6), Reason.MISSING_SLICE), (drop(6, 7), Reason.MISSING_SLICE), (drop() ** 1.05, Reason.GEOMETRY)],
)
def test_without_a_whole_scan_all_of_it_counts_as_unread(tmp_path: Path, depths: Any, reason: Reason) -> None:
    slices(tmp_path, 1, T2, depths)
    selection = chosen(tmp_path)
    refs = the_group(selection).roles["T2W"]
    assert len(refs) == len(depths)
    assert {ref.instance.refusal for ref in refs} == {reason}
    assert f"The only T2W of the study cannot be used: {reason.meaning}" in the_group(selection).notes


def test_two_acquisitions_in_one_series_are_parted_by_their_number(tmp_path: Path) -> None:
    for number, folder in ((1, tmp_path / "a"), (2, tmp_path / "b")):
        folder.mkdir()
        slices(folder, 1, {**T2, "AcquisitionNumber": number, "AcquisitionTime": f"10000{number}"})
    selection = chosen(tmp_path)
    refs = the_group(selection).roles["T2W"]
    assert {ref.instance.path.parent.name for ref in refs} == {"b"}
    assert {(i.path.parent.name, reason) for i, reason in selection.rejected} == {("a", Reason.REPEATED_SERIES)}


def test_acquisitions_that_share_the_slices_of_one_volume_stay_together(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2, change=lambda k, d: setattr(d, "AcquisitionNumber", k % 2 + 1))
    assert len(the_group(chosen(tmp_path)).roles["T2W"]) == 15


def test_two_acquisitions_that_nothing_tells_apart_are_unread(tmp_path: Path) -> None:
    for k, folder in enumerate((tmp_path / "a", tmp_path / "b")):
        folder.mkdir()
        slices(folder, 1, T2, stored=np.arange(15 * 24).reshape(15, 4, 6) + k)
    refs = the_group(chosen(tmp_path)).roles["T2W"]
    assert len(refs) == 30
    assert {ref.instance.refusal for ref in refs} == {Reason.GEOMETRY}


def test_a_measurement_of_t2_is_no_t2w(tmp_path: Path) -> None:
    for k, echo in enumerate((60, 80, 100)):
        (tmp_path / str(k)).mkdir()
        slices(tmp_path / str(k), 1, {**T2, "EchoTime": echo})
    assert told(chosen(tmp_path)) == ({}, {1: {Reason.OTHER_CONTRAST}})


def test_a_description_decides_only_where_echo_and_sequence_are_unsaid(tmp_path: Path) -> None:
    bare = {key: T2[key] for key in ("ImageType", "PixelSpacing")}
    slices(tmp_path, 1, {**bare, "SeriesDescription": "T2W_TSE_ax"})
    slices(tmp_path, 2, {**T1, "SeriesDescription": "t2_tse_tra"})
    slices(tmp_path, 3, {**bare, "SeriesDescription": "T2*_ax"})
    selection = chosen(tmp_path)
    assert told(selection) == ({"T2W": [1]}, {2: {Reason.OTHER_CONTRAST}, 3: {Reason.OTHER_CONTRAST}})
    assert "Recognised as T2-weighted without its echo time" in the_group(selection).notes


def test_philips_writes_b_0_on_images_without_diffusion(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2, change=lambda k, d: private(d, 0x2001, "Philips Imaging DD 001", 0x03, "FL", 0.0))
    assert told(chosen(tmp_path))[0] == {"T2W": [1]}


# Diffusion

MAKERS: list[tuple[str, dict[str, Any], Callable[[float], Callable[[int, FileDataset], None]]]] = [
    ("standard", TRACE, lambda b: lambda k, d: setattr(d, "DiffusionBValue", float(b))),
    ("Siemens", TRACE, siemens),
    (
        "GE",
        {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]},
        lambda b: lambda k, d: private(d, 0x43, "GEMS_PARM_01", 0x39, "IS", [int(1e9 + b), 8, 0, 0]),
    ),
    (
        "Philips",
        {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"], "ScanningSequence": "SE"},
        lambda b: lambda k, d: private(d, 0x2001, "Philips Imaging DD 001", 0x03, "FL", float(b)),
    ),
    (
        "Canon",
        {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]},
        lambda b: lambda k, d: setattr(d, "ImageComments", f"b={b}(0,0,0)"),
    ),
]


@pytest.mark.parametrize(("tags", "state"), [maker[1:] for maker in MAKERS], ids=[maker[0] for maker in MAKERS])
def test_b_values_of_every_maker_part_a_series(
    tmp_path: Path, tags: dict[str, Any], state: Callable[[float], Callable[[int, FileDataset], None]]
) -> None:
    for b in (50, 800):
        (tmp_path / str(b)).mkdir()
        slices(tmp_path / str(b), 1, tags, change=state(b))
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [1], "b 50": [1]}, {})
    folders = {
        role: {ref.instance.path.parent.name for ref in refs} for role, refs in the_group(selection).roles.items()
    }
    assert folders == {"high b": {"800"}, "b 50": {"50"}}


def test_the_highest_b_and_the_b_values_of_its_own_series_alone(tmp_path: Path) -> None:
    dwi(tmp_path, 1, (0, 800))
    dwi(tmp_path, 2, (100, 1400))
    assert told(chosen(tmp_path)) == ({"high b": [2], "b 100": [2]}, {1: {Reason.LESS_SUITED}})


def test_a_lower_b_that_could_be_high_is_beside_the_highest(tmp_path: Path) -> None:
    """An ADC is fitted from b-values up to 1000, so 800 must not be lost to 1400."""
    dwi(tmp_path, 1, (50, 800, 1400))
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [1], "b 50": [1], "b 800": [1]}, {})
    assert [len(refs) for refs in the_group(selection).roles.values()] == [15, 15, 15]


# One scan, a series for each b-value
APART = {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "FrameOfReferenceUID": "1.2.3.99", "FlipAngle": 90}


def apart(folder: Path, number: int, b: float, tags: dict[str, Any] | None = None, **other: Any) -> None:
    slices(folder, number, {**APART, "DiffusionBValue": b, **(tags or {})}, **other)


def test_b_values_in_series_of_their_own_are_joined(tmp_path: Path) -> None:
    for number, b in enumerate((0.0, 500.0, 1000.0), 1):
        apart(tmp_path, number, b)
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [3], "b 0": [1], "b 500": [2]}, {})
    said = "The b 500 is of another series than the high b, acquired by the same protocol on the same slices"
    assert said in the_group(selection).notes


OTHER_SCANS: list[tuple[str, dict[str, Any]]] = [
    ("echo time", {"EchoTime": 70}),
    ("repetition time", {"RepetitionTime": 3000}),
    ("flip angle", {"FlipAngle": 60}),
    ("bandwidth", {"PixelBandwidth": 1500}),
    ("frame of reference", {"FrameOfReferenceUID": "1.2.3.98"}),
    ("no frame of reference", {"FrameOfReferenceUID": ""}),
    ("no echo time", {"EchoTime": None}),
    ("pixels", {"PixelSpacing": [2.1, 2.1]}),
    ("a maker that scales", {"Manufacturer": "Philips"}),
]


@pytest.mark.parametrize("tags", [row[1] for row in OTHER_SCANS], ids=[row[0] for row in OTHER_SCANS])
def test_b_values_of_another_scan_are_not_joined(tmp_path: Path, tags: dict[str, Any]) -> None:
    apart(tmp_path, 1, 0.0, tags)
    apart(tmp_path, 2, 1000.0)
    assert told(chosen(tmp_path)) == ({"high b": [2]}, {1: {Reason.LESS_SUITED}})


def test_the_b_0_of_a_scan_of_directions_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "b 0").mkdir()
    apart(tmp_path / "b 0", 1, 0.0)
    apart(tmp_path, 1, 500.0)
    apart(tmp_path, 2, 1000.0)
    assert told(chosen(tmp_path))[0] == {"high b": [2], "b 0": [1], "b 500": [1]}
    apart(tmp_path, 1, 500.0, {"DiffusionGradientOrientation": [0.0, 0.0, 1.0]})
    assert told(chosen(tmp_path)) == ({"high b": [2]}, {1: {ProstateReason.DIFFUSION_DIRECTION, Reason.LESS_SUITED}})


def test_b_values_on_other_slices_are_not_joined(tmp_path: Path) -> None:
    apart(tmp_path, 1, 0.0, depths=np.arange(15) * 3.0 + 1.0)
    apart(tmp_path, 2, 500.0, depths=np.arange(14) * 3.0)
    apart(tmp_path, 3, 1000.0)
    assert told(chosen(tmp_path)) == ({"high b": [3]}, {1: {Reason.LESS_SUITED}, 2: {Reason.LESS_SUITED}})


@pytest.mark.parametrize(("gain", "roles"), [(11, {"high b": [2], "b 0": [1]}), (12, {"high b": [2]})])
def test_series_of_one_receiver_gain_are_joined(tmp_path: Path, gain: int, roles: Roles) -> None:
    """GE writes the gains of its prescan; a step of the analogue one is a factor that no fit would notice."""
    for number, b, own in ((1, 0.0, gain), (2, 1000.0, 11)):
        apart(tmp_path, number, b, change=lambda k, d, own=own: private(d, 0x19, "GEMS_ACQU_01", 0x95, "SS", own))
    assert told(chosen(tmp_path))[0] == roles


@pytest.mark.parametrize(("slope", "roles"), [("2.5", {"high b": [2], "b 0": [1]}), ("2.6", {"high b": [2]})])
def test_series_of_one_scale_are_joined(tmp_path: Path, slope: str, roles: Roles) -> None:
    for number, b, own in ((1, 0.0, slope), (2, 1000.0, "2.5")):
        tags = {"Manufacturer": "Philips", "RescaleSlope": own, "RescaleIntercept": "0"}
        scale = lambda k, d: private(d, 0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", 0.5)  # noqa: E731
        apart(tmp_path, number, b, tags, change=scale)
    assert told(chosen(tmp_path))[0] == roles


def test_of_two_alike_that_of_the_same_series_is_beside(tmp_path: Path) -> None:
    """A repetition of b 50 that is later, but not of the scan of the high b."""
    common = {**TRACE, **{key: APART[key] for key in ("FrameOfReferenceUID", "FlipAngle")}}
    dwi(tmp_path, 1, (50, 800), common)
    (tmp_path / "later").mkdir()
    slices(tmp_path / "later", 2, common, change=siemens(50))
    assert told(chosen(tmp_path)) == ({"high b": [1], "b 50": [1]}, {2: {Reason.LESS_SUITED}})


CALCULATED: list[dict[str, Any]] = [
    {"SequenceName": "*ep_b50_800"},
    {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE"]},
    {"SeriesDescription": "ep2d_diff_traCALC_BVAL"},
]


@pytest.mark.parametrize("tags", CALCULATED)
def test_a_calculated_b_is_read_only_without_an_acquired_one(tmp_path: Path, tags: dict[str, Any]) -> None:
    slices(tmp_path, 2, {**TRACE, **tags}, change=siemens(1600))
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [2]}, {})
    assert "the scanner's calculated one is used" in the_group(selection).notes[0]
    dwi(tmp_path, 1, (50, 800))
    assert told(chosen(tmp_path)) == ({"high b": [1], "b 50": [1]}, {2: {ProstateReason.CALCULATED_B}})


# As scanners name what they derive, without a word for calculated.
DERIVED: list[dict[str, Any]] = [
    {"ImageType": ["DERIVED", "SECONDARY", "COMBINED"], "SeriesDescription": "SynB 2000"},
    {"ImageType": ["DERIVED", "PRIMARY", "M_SE", "M", "SE"], "SeriesDescription": "eDWI_b2000"},
    {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "NONE"], "DiffusionDirectionality": "ISOTROPIC"},
]


@pytest.mark.parametrize("tags", DERIVED)
def test_a_derived_b_alone_in_its_series_gives_way_to_a_measured_one(tmp_path: Path, tags: dict[str, Any]) -> None:
    slices(tmp_path, 2, {**EPI, **tags, "DiffusionBValue": 2000.0})
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [2]}, {})
    assert "Nothing says whether the high b was acquired or calculated" in the_group(selection).notes
    dwi(tmp_path, 1, (50, 800), {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]})
    assert told(chosen(tmp_path)) == ({"high b": [1], "b 50": [1]}, {2: {ProstateReason.CALCULATED_B}})


def test_a_derived_b_is_read_where_no_measured_one_is_high(tmp_path: Path) -> None:
    slices(tmp_path, 2, {**EPI, **DERIVED[0], "DiffusionBValue": 2000.0})
    dwi(tmp_path, 1, (50, 550))
    roles, left = told(chosen(tmp_path))
    assert (roles, left) == ({"high b": [2]}, {1: {Reason.LESS_SUITED}})


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: dwi(folder, 2, (1400,), TRACE),
        lambda folder: dwi(folder, 2, (50, 1400), {**EPI, **DERIVED[0]}),
        lambda folder: dwi(folder, 2, (1400,), {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}),
    ],
    ids=["a trace", "with another b-value", "an original image"],
)
def test_a_higher_b_that_was_measured_does_not_give_way(tmp_path: Path, made: Callable[[Path], None]) -> None:
    """A trace is derived too, and GE combines its directions into derived series of all b-values."""
    dwi(tmp_path, 1, (50, 800))
    made(tmp_path)
    roles, left = told(chosen(tmp_path))
    assert roles["high b"] == [2]
    assert left == {1: {Reason.LESS_SUITED}}


def test_low_b_values_alone_are_no_high_b(tmp_path: Path) -> None:
    dwi(tmp_path, 1, (0, 500))
    slices(tmp_path, 2, T2)
    assert told(chosen(tmp_path)) == ({"T2W": [2]}, {1: {ProstateReason.NO_HIGH_B}})


def test_other_slices_than_those_of_the_high_b_are_not_beside_it(tmp_path: Path) -> None:
    dwi(tmp_path, 1, (50, 800))
    (tmp_path / "shifted").mkdir()
    slices(tmp_path / "shifted", 1, TRACE, np.arange(15) * 3.0 + 1.0, change=siemens(400))
    assert told(chosen(tmp_path)) == ({"high b": [1], "b 50": [1]}, {1: {Reason.GEOMETRY}})


def test_series_without_positions_are_unread_and_stop_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        slices(tmp_path, number, T2, change=lambda k, d: delattr(d, "ImagePositionPatient"))
    roles, left = told(chosen(tmp_path))
    assert (roles, left) == ({"T2W": [2]}, {1: {Reason.GEOMETRY}})


def test_a_trace_before_its_directions(tmp_path: Path) -> None:
    along = {**EPI, "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]}
    dwi(tmp_path, 1, (0, 800))
    for k in range(3):
        (tmp_path / f"d{k}").mkdir()
        slices(tmp_path / f"d{k}", 1, {**along, "SequenceName": f"*ep_b800#{k + 1}"}, change=siemens(800))
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [1], "b 0": [1]}, {1: {ProstateReason.DIFFUSION_DIRECTION}})
    assert len(selection.rejected) == 45


@pytest.mark.parametrize(("count", "reason"), [(5, ProstateReason.DIFFUSION_DIRECTION), (6, Reason.DIFFUSION_TENSOR)])
def test_six_directions_make_a_tensor(tmp_path: Path, count: int, reason: Reason) -> None:
    for k in range(count):
        (tmp_path / f"{k}").mkdir()
        vector = {"DiffusionGradientOrientation": [float(k), 1.0, 0.0], "DiffusionBValue": 800.0}
        slices(tmp_path / f"{k}", 1, {**EPI, **vector})
    selection = chosen(tmp_path)
    assert selection.group is None
    assert told(selection)[1] == {1: {reason}}


def test_a_b_value_that_is_unsaid_or_impossible(tmp_path: Path) -> None:
    slices(tmp_path, 1, EPI)
    slices(tmp_path, 3, T2)
    assert told(chosen(tmp_path)) == ({"T2W": [3]}, {1: {Reason.NO_B_VALUE}})
    slices(tmp_path, 2, {**EPI, "DiffusionBValue": -1.0})
    selection = chosen(tmp_path)
    assert told(selection) == ({"T2W": [3], "high b": [2]}, {1: {Reason.NO_B_VALUE}})
    assert {ref.instance.refusal for ref in the_group(selection).roles["high b"]} == {Reason.BAD_B_VALUE}


def test_an_inferred_b_value_is_said(tmp_path: Path) -> None:
    slices(tmp_path, 1, {**TRACE, "SequenceName": "*ep_b800t"})
    notes = the_group(chosen(tmp_path)).notes
    assert "The b-value 800 of high b is inferred from SequenceName (0018,0024)" in notes


# ADC


def test_adc_by_image_type_quantity_or_description(tmp_path: Path) -> None:
    quantity = group(QuantityDefinitionSequence=[group(ConceptCodeSequence=[group(CodeValue="113041")])])
    bare = {**EPI, "ImageType": ["DERIVED", "SECONDARY", "PROCESSED"]}
    told_by: list[dict[str, Any]] = [
        ADC,
        {**bare, "RealWorldValueMappingSequence": [quantity]},
        {**bare, "SeriesDescription": "Apparent Diffusion Coefficient (mm?/s)"},
    ]
    for number, tags in enumerate(told_by, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        slices(folder, number, tags)
        selection = chosen(folder)
        assert told(selection)[0] == {"ADC": [number]}
        said = "Recognised as an ADC map by its description alone" in the_group(selection).notes
        assert said is (number == 3)


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "EADC"]},
        {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "FA"]},
        {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Exponential Apparent Diffusion Coefficient"},
        {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "dwi_eADC"},
    ],
)
def test_other_diffusion_maps_are_no_adc(tmp_path: Path, tags: dict[str, Any]) -> None:
    slices(tmp_path, 1, {**EPI, **tags})
    assert told(chosen(tmp_path)) == ({}, {1: {Reason.DERIVED_MAP}})


def test_an_original_image_is_no_adc_map_by_its_name(tmp_path: Path) -> None:
    slices(tmp_path, 1, {**EPI, "SeriesDescription": "dwi for adc"}, change=siemens(800))
    assert told(chosen(tmp_path))[0] == {"high b": [1]}


def test_the_adc_beside_the_chosen_diffusion_series(tmp_path: Path) -> None:
    """The later map has other slices: it was made from another scan."""
    dwi(tmp_path, 1, (50, 800))
    slices(tmp_path, 2, ADC)
    slices(tmp_path, 3, ADC, np.arange(15) * 3.0 + 7.0)
    assert told(chosen(tmp_path))[1] == {3: {Reason.LESS_SUITED}}


# Enhanced objects


def enhanced_dwi(folder: Path) -> None:
    """b 50 and b 800 of twelve slices in one object, slice by slice; the shared groups hold what is alike."""
    frames = [
        group(
            PlanePositionSequence=[group(ImagePositionPatient=[0.0, 0.0, 3.0 * k])],
            MRDiffusionSequence=[group(DiffusionBValue=float(b), DiffusionDirectionality="ISOTROPIC")],
        )
        for k in range(12)
        for b in (50, 800)
    ]
    shared = group(
        PlaneOrientationSequence=[group(ImageOrientationPatient=list(AXIAL))],
        PixelMeasuresSequence=[group(PixelSpacing=[2, 2])],
        MRImageFrameTypeSequence=[group(FrameType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"])],
    )
    enhanced(folder, 1, frames, shared, ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"])


def test_b_values_of_an_enhanced_object_are_frames_of_it(tmp_path: Path) -> None:
    enhanced_dwi(tmp_path)
    selection = chosen(tmp_path)
    assert told(selection) == ({"high b": [1], "b 50": [1]}, {})
    roles = the_group(selection).roles
    assert [ref.frames for ref in roles["high b"]] == [tuple(range(2, 25, 2))]
    assert [ref.frames for ref in roles["b 50"]] == [tuple(range(1, 25, 2))]
    (volume,) = read_volumes(roles["high b"])
    assert isinstance(volume, Image)
    assert volume.array[0, :, 0, 0].tolist() == list(range(2, 25, 2))
    assert [ref.frame_number for ref in volume.refs] == [ref.frame_number for ref in roles["high b"][0].source_refs()]


def test_enhanced_t2w_by_its_functional_groups(tmp_path: Path) -> None:
    frames = [group(PlanePositionSequence=[group(ImagePositionPatient=[0.0, 0.0, 3.0 * k])]) for k in range(12)]
    shared = group(
        PlaneOrientationSequence=[group(ImageOrientationPatient=list(AXIAL))],
        PixelMeasuresSequence=[group(PixelSpacing=[0.5, 0.5])],
        MRImageFrameTypeSequence=[group(FrameType=["ORIGINAL", "PRIMARY", "T2", "NONE"])],
        MREchoSequence=[group(EffectiveEchoTime=101.0)],
        MRTimingAndRelatedParametersSequence=[group(RepetitionTime=4000.0)],
    )
    enhanced(tmp_path, 1, frames, shared, EchoPulseSequence="SPIN", ImageType=["ORIGINAL", "PRIMARY", "T2", "NONE"])
    assert told(chosen(tmp_path)) == ({"T2W": [1]}, {})
    shared.MREchoSequence[0].EffectiveEchoTime = 10.0
    enhanced(tmp_path, 1, frames, shared, EchoPulseSequence="SPIN", ImageType=["ORIGINAL", "PRIMARY", "T2", "NONE"])
    assert told(chosen(tmp_path)) == ({}, {1: {Reason.OTHER_CONTRAST}})


# What is not read, and what cannot be


def test_other_body_parts_and_other_modalities(tmp_path: Path) -> None:
    slices(tmp_path, 1, {**T2, "BodyPartExamined": "HEAD"})
    slices(tmp_path, 2, {**T2, "BodyPartExamined": "PELVIS"})
    slices(tmp_path, 3, {**T2, "BodyPartExamined": ""})
    slices(tmp_path, 4, {**T2, "Modality": "CT"})
    selection = chosen(tmp_path, Anatomy(frozenset({"PROSTATE", "PELVIS"}), unknown_too=False))
    assert told(selection) == (
        {"T2W": [2]},
        {1: {Reason.OTHER_ANATOMY}, 3: {Reason.UNKNOWN_ANATOMY}, 4: {Reason.NO_PACKAGE}},
    )


def damage(path: Path) -> None:
    """Rows and Columns that no pixel data of this size can hold: the firewall refuses the image."""
    data = path.read_bytes()
    at = data.index(b"\x28\x00\x10\x00US")
    path.write_bytes(data[: at + 8] + b"\xff\xff" + data[at + 10 :])


def test_a_damaged_slice_leaves_its_volume_unread(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2)
    damage(tmp_path / "01_007.dcm")
    roles = the_group(chosen(tmp_path)).roles
    assert len(roles["T2W"]) == 14
    assert {ref.instance.refusal for ref in roles["T2W"]} == {Reason.MISSING_SLICE}
    assert [(ref.instance.name, ref.instance.refusal) for ref in roles[UNPLACED]] == [
        ("01_007.dcm", Reason.PIXEL_DATA_TOO_SHORT)
    ]


def test_a_damaged_last_slice_costs_only_itself(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2)
    damage(tmp_path / "01_014.dcm")
    roles = the_group(chosen(tmp_path)).roles
    assert [ref.instance.refusal for ref in roles["T2W"]] == [None] * 14
    assert [ref.instance.name for ref in roles[UNPLACED]] == ["01_014.dcm"]


def test_a_damaged_slice_of_a_series_that_is_not_read_costs_nothing(tmp_path: Path) -> None:
    slices(tmp_path, 1, T1)
    slices(tmp_path, 2, T2)
    damage(tmp_path / "01_007.dcm")
    roles, left = told(chosen(tmp_path))
    assert roles == {"T2W": [2]}
    assert left == {1: {Reason.OTHER_CONTRAST, Reason.PIXEL_DATA_TOO_SHORT}}


def test_every_image_is_used_or_has_its_reason(tmp_path: Path) -> None:
    slices(tmp_path, 1, T2)
    slices(tmp_path, 2, T1)
    dwi(tmp_path, 3, (50, 800))
    slices(tmp_path, 4, ADC, SHORT)
    index = build_index(tmp_path)
    selection = select(index.series)
    used = [ref.instance.sop_uid for ref in the_group(selection).images()]
    left = [instance.sop_uid for instance, _ in selection.rejected]
    everything = sorted(i.sop_uid for s in index.series for i in s.instances)
    assert sorted(used + left) == everything
    assert len(everything) == 15 * 4 + 7


# Real images


@pytest.mark.shared_data
def test_enhanced_images_of_other_organs_play_no_role(shared_data: Path) -> None:
    studies = build_index(shared_data / "dicom" / "enhanced").studies()
    selections = [select(series) for series in studies.values()]
    assert [s.group for s in selections] == [None] * 4
    left = {number: reasons for s in selections for number, reasons in told(s)[1].items()}
    assert left == {number: {Reason.OTHER_ANATOMY} for number in (6, 301, 701, 801)}


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "kinds", "places"),
    [
        ("philips_b0map/IM_0027_fMAP.dcm", {"other": 32, "map": 32}, 32),
        ("philips_molli/IM_0001.dcm", {"other": 10}, 1),
        ("siemens_xa10/6_1.dcm", {"other": 6}, 6),
    ],
)
def test_frames_of_real_enhanced_files(shared_data: Path, name: str, kinds: dict[str, int], places: int) -> None:
    frames = read_acquisition(read_header(shared_data / "dicom" / "enhanced" / name), name).frames
    assert dict(Counter(frame.kind for frame in frames)) == kinds
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    assert len({frame.corner for frame in frames} - {None}) == places
    assert min(min(frame.spacing_mm) for frame in frames) > 0


def test_a_group_of_fewer_roles_says_nothing_of_the_others(tmp_path: Path) -> None:
    """T2W alone is read: that there is no ADC is no word for its result; for a lesion package it is."""
    slices(tmp_path, 1, T2)
    group = the_group(chosen(tmp_path))
    assert group.notes == ("No series of the study is its ADC", "No series of the study is its high b")
    assert group.only(("T2W",))[0].notes == ()
    assert group.only(("T2W", "ADC"))[0].notes == group.notes
