"""Prostate MRI from export to volumes: roles of real and synthetic studies, published values, and broken input.

The expected roles of real studies follow from the README of the data and from their headers, read by eye.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from imaging.data.images import read_image
from imaging.dicom.exam import read_exam
from imaging.dicom.headers.adc import read_adc
from imaging.dicom.index import build_index
from imaging.dicom.pixels.volume import Stack, find_stacks, read_volumes
from imaging.dicom.select import UNPLACED, Group, Selection, Volumes
from imaging.errors import ImagingError, Reason
from imaging.harmonise.diffusion import fit_adc
from imaging.image import Array, Floats, Grid, resample
from imaging.modalities.prostate.reasons import ProstateReason
from imaging.modalities.prostate.selection import T2W, select
from imaging.phantoms.prostate import series as prostate_series
from imaging.phantoms.prostate.dicom import objects
from imaging.phantoms.prostate.makers import MRI_MAKERS, MriMakerName
from imaging.phantoms.prostate.signal import Slab
from imaging.phantoms.prostate.study import Form, ProstateStudy
from imaging.phantoms.ultrasound.dicom import file_bytes

Roles = dict[str, list[int]]
Left = dict[int, set[Reason]]


def chosen(folder: Path) -> Selection:
    return select(build_index(folder).series)


def the_group(folder: Path) -> Group:
    group = chosen(folder).group
    assert group
    return group


def told(selection: Selection) -> tuple[Roles, Left]:
    """Role → numbers of its series; number of a series → why images of it were left out."""
    roles = selection.group.roles if selection.group else {}
    left: Left = {}
    for instance, reason in selection.rejected:
        left.setdefault(instance.series_number, set()).add(reason)
    return {role: sorted({ref.instance.series_number for ref in refs}) for role, refs in roles.items()}, left


def stack(group: Group, role: str) -> Stack:
    (found,) = find_stacks(group.roles[role])
    assert isinstance(found, Stack), str(found)
    return found


def refusals(group: Group, role: str) -> set[Reason | None]:
    return {ref.instance.refusal for ref in group.roles[role]}


# Roles

REAL: list[tuple[str, Roles, Left]] = [
    (
        "prostatex_0001",
        {"T2W": [10], "ADC": [8], "high b": [7], "b 50": [7], "b 400": [7]},
        {4: {Reason.NOT_AXIAL}, 6: {Reason.REPEATED_SERIES}, 9: {ProstateReason.CALCULATED_B}},
    ),
    (
        "prostatex_0218",
        {"T2W": [5], "ADC": [9], "high b": [8], "b 0": [8], "b 100": [8], "b 400": [8]},
        {
            10: {ProstateReason.CALCULATED_B},
            11: {Reason.DIFFUSION_TENSOR},
            14: {Reason.DERIVED_MAP},
            27: {ProstateReason.DYNAMIC_CONTRAST},
            48: {ProstateReason.DYNAMIC_CONTRAST},
        },
    ),
    ("prostate3t_0001", {"T2W": [4]}, {}),
    ("prostate3t_0002", {"T2W": [5]}, {}),
    ("prostate3t_0003", {"T2W": [4]}, {}),
    ("ge_adc", {"ADC": [701]}, {}),
    ("missing_slice", {"high b": [9]}, {}),
    ("philips_dwi_slice", {}, {801: {Reason.NO_B_VALUE}}),
]


@pytest.mark.shared_data
@pytest.mark.parametrize(("folder", "roles", "left"), REAL, ids=[row[0] for row in REAL])
def test_roles_of_real_studies(shared_data: Path, folder: str, roles: Roles, left: Left) -> None:
    selection = chosen(shared_data / "prostate_mri" / folder)
    assert told(selection) == (roles, left)
    for role in roles:
        assert selection.group
        if folder == "missing_slice":
            assert refusals(selection.group, role) == {Reason.MISSING_SLICE}
        else:
            assert refusals(selection.group, role) == {None}
            assert stack(selection.group, role).grid.shape[0] == len(selection.group.roles[role])


# The number of a series is 100 × its place in the examination + 1, a series for each b-value or phase counts on.
LEFT: Left = {
    201: {Reason.NOT_AXIAL},
    301: {Reason.NOT_AXIAL},
    801: {ProstateReason.CALCULATED_B},
    1001: {Reason.DERIVED_MAP},
    1201: {ProstateReason.DYNAMIC_CONTRAST},
    1301: {Reason.SUBTRACTION},
}
PHASES: Left = {1202: {ProstateReason.DYNAMIC_CONTRAST}, 1203: {ProstateReason.DYNAMIC_CONTRAST}}
NAMED: Left = {101: {Reason.LOCALISER}}
# The planning scans of these say nowhere that they are such ("3-pl loc", "Locator"): gradient echoes, so no T2W.
UNNAMED: Left = {101: {Reason.OTHER_CONTRAST}}
PHANTOMS: list[tuple[MriMakerName, Form, dict[str, list[int]], Left]] = [
    ("siemens", "classic", {"high b": [601], "b 50": [601], "b 400": [601]},
     {**LEFT, **PHASES, **NAMED, 901: {Reason.UNSUPPORTED_OBJECT}}),
    ("siemens", "enhanced", {"high b": [601], "b 50": [601], "b 400": [601]},
     {**LEFT, **NAMED, 901: {Reason.LESS_SUITED}}),
    ("ge", "classic", {"high b": [601], "b 50": [601], "b 800": [601]},
     {**LEFT, **UNNAMED, 1101: {Reason.DERIVED_MAP}}),
    ("ge", "enhanced", {"high b": [601], "b 50": [601], "b 800": [601]},
     {**LEFT, **NAMED, 1101: {Reason.DERIVED_MAP}}),
    ("philips", "classic", {"high b": [601], "b 0": [601], "b 100": [601], "b 800": [601]}, {**LEFT, **NAMED}),
    ("philips", "enhanced", {"high b": [601], "b 0": [601], "b 100": [601], "b 800": [601]}, {**LEFT, **NAMED}),
    ("canon", "classic", {"high b": [603], "b 0": [601], "b 1000": [602]}, {**LEFT, **PHASES, **UNNAMED}),
    ("canon", "enhanced", {"high b": [601], "b 0": [601], "b 1000": [601]}, {**LEFT, **NAMED}),
]  # fmt: skip


def even(pelvis: object, slab: Slab, contrasts: list[object], shift_mm: float = 0.0) -> Floats:
    """A signal that is alike everywhere: a choice rests on headers alone."""
    return np.full((len(contrasts), *slab.shape), 0.5)


@pytest.mark.parametrize(("maker", "form", "diffusion", "left"), PHANTOMS, ids=[" ".join(r[:2]) for r in PHANTOMS])
def test_roles_of_phantoms(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    maker: MriMakerName,
    form: Form,
    diffusion: dict[str, list[int]],
    left: Left,
) -> None:
    monkeypatch.setattr(prostate_series, "sample", even)
    for number, (_, dataset) in enumerate(objects(ProstateStudy(maker, form=form, site=f"{maker} of even signal"))):
        (tmp_path / f"{number}.dcm").write_bytes(file_bytes(dataset))
    selection = chosen(tmp_path)
    assert told(selection) == ({"T2W": [401], "ADC": [701], **diffusion}, left)
    assert selection.group
    for role in selection.group.roles:
        assert stack(selection.group, role).grid.shape[0] == 18
    highest = max(MRI_MAKERS[maker].b_values)
    assert any(note.startswith(f"The high b-value is {highest:g} s/mm2") for note in selection.group.notes)


# Published values


@pytest.mark.shared_data
def test_the_mixed_siemens_series_by_its_private_element(shared_data: Path) -> None:
    """50, 400 and 800 in one series; nothing of it stands in a standard element."""
    folder = shared_data / "prostate_mri" / "prostatex_0001"
    assert not any(
        "DiffusionBValue" in pydicom.dcmread(path) for path in sorted((folder / "s07_dwi_mixed_b").iterdir())
    )
    group = the_group(folder)
    counted = {}
    for role in ("b 50", "b 400", "high b"):
        frames = [f for ref in group.roles[role] if (a := ref.instance.acquisition) for f in a.frames]
        assert {f.b_value.source for f in frames if f.b_value} == {"(0019,xx0C) of SIEMENS MR HEADER"}
        (value,) = {f.b_value.value for f in frames if f.b_value}
        counted[value] = len(frames)
    assert counted == {50: 19, 400: 19, 800: 19}


def gland(path: Path, grid: Grid) -> Array:
    """The published gland mask on `grid`; nibabel's axes are column, row, slice."""
    mask = nibabel.load(path)
    stored = np.asarray(mask.dataobj).T > 0
    own = Grid(stored.shape, mask.affine @ np.eye(4)[[2, 1, 0, 3]], "patient_ras")
    return resample(stored.astype(np.float32), own, grid) > 0.5


@pytest.mark.shared_data
def test_the_adc_computed_again_is_the_scanners(shared_data: Path) -> None:
    """ProstateX-0001, inside the gland: 3.3 % median difference for b 50, 400 and 800. A weighting that leans on b 50
    does worse (7.2 %), and b 50 and 400 alone do worse by far."""
    folder = shared_data / "prostate_mri"
    group = the_group(folder / "prostatex_0001")
    map_ = read_adc(stack(group, "ADC"))
    inside = gland(folder / "labels" / "prostatex_0001" / "gland_ai_bosma22b.nii.gz", map_.grid)
    assert 2000 < inside.sum() < 3500
    b_values = {"b 50": 50.0, "b 400": 400.0, "high b": 800.0}
    acquired = [stack(group, role).read().array[0] for role in b_values]
    fit = fit_adc(acquired, list(b_values.values()))
    known = inside & fit.valid & (map_.array[0] > 0)
    assert known.sum() > 0.95 * inside.sum()
    apart = np.abs(fit.adc[known] - map_.array[0][known]) / map_.array[0][known]
    assert np.median(apart) < 0.05
    assert np.median(apart) == pytest.approx(0.033, abs=0.0005)
    worse = fit_adc(acquired[:2], [50.0, 400.0]).adc[known]
    assert np.median(np.abs(worse - map_.array[0][known]) / map_.array[0][known]) > 0.1


@pytest.mark.shared_data
@pytest.mark.parametrize(("role", "column"), [("T2W", "t2_tse_tra"), ("ADC", "adc"), ("high b", "bval")])
def test_a_published_finding_falls_on_its_published_voxel(shared_data: Path, role: str, column: str) -> None:
    """Point (LPS, mm) and voxel (column, row, slice) of the same line. Of the patients listed, ProstateX-0001 alone has
    its images at hand, and no line states the geometry of its own."""
    folder = shared_data / "prostate_mri"
    with (folder / "labels" / "prostatex_findings.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["ProxID"] == "ProstateX-0001"]
    assert len(rows) == 1
    grid = stack(the_group(folder / "prostatex_0001"), role).grid
    x, y, z = map(float, rows[0]["pos"].split())
    found = np.linalg.inv(grid.affine) @ [-x, -y, z, 1.0]
    assert np.rint(found[:3]).astype(int).tolist() == [int(v) for v in reversed(rows[0][column].split())]


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "volume_ml"), [("gland_ai_guerbet23", 31.2), ("gland_ai_bosma22b", 32.3)])
def test_published_masks_lie_on_the_chosen_t2w(shared_data: Path, name: str, volume_ml: float) -> None:
    """All corners to 1 µm: the masks were made on the earlier of the two T2W scans. The volumes are as published to a
    tenth of a millilitre, and to the last digit what nibabel counts."""
    folder = shared_data / "prostate_mri"
    grid = stack(the_group(folder / "prostatex_0001"), "T2W").grid
    path = folder / "labels" / "prostatex_0001" / f"{name}.nii.gz"
    mask, theirs = read_image(path), nibabel.load(path)
    assert sorted(mask.grid.shape) == sorted(grid.shape)
    ends = np.array([[k, r, c, 1.0] for k in (0, 18) for r in (0, 383) for c in (0, 383)])
    places, known = ends @ mask.grid.affine.T, ends @ grid.affine.T
    astray = np.linalg.norm(places[:, None] - known[None], axis=-1).min(axis=1).max()
    found = float((mask.array > 0).sum()) * mask.grid.voxel_size / 1000
    assert astray < 1e-3
    assert found == pytest.approx(volume_ml, abs=0.1)
    counted = np.count_nonzero(np.asarray(theirs.dataobj)) * np.prod(theirs.header.get_zooms()) / 1000
    assert found == pytest.approx(float(counted), rel=1e-5)


# Broken input: one clear outcome each


def copied(source: Path, folder: Path, *series: str, change: Callable[[str, int, Dataset], bool] | None = None) -> Path:
    """The named series of a study; `change` alters a file in place and says whether it is kept."""
    for name in series:
        (folder / name).mkdir(parents=True)
        for number, path in enumerate(sorted((source / name).iterdir())):
            dataset = pydicom.dcmread(path)
            if change is None or change(name, number, dataset):
                dataset.save_as(folder / name / path.name)
    return folder


@pytest.fixture
def study(shared_data: Path) -> Path:
    return shared_data / "prostate_mri" / "prostatex_0001"


EXAM = ("s10_t2_tra_repeat", "s07_dwi_mixed_b", "s08_adc")


@pytest.mark.shared_data
@pytest.mark.parametrize(("lossy", "role"), [("s10_t2_tra_repeat", "T2W"), ("s08_adc", "ADC")])
def test_a_missing_slice_is_never_interpolated(tmp_path: Path, study: Path, lossy: str, role: str) -> None:
    group = the_group(copied(study, tmp_path, *EXAM, change=lambda name, k, _: (name, k) != (lossy, 8)))
    assert {name: refusals(group, name) for name in ("T2W", "ADC", "high b")} == {
        name: {Reason.MISSING_SLICE if name == role else None} for name in ("T2W", "ADC", "high b")
    }
    assert len(group.roles[role]) == 18
    exam = read_exam(Volumes(group.roles, T2W))
    lost = {error.reason for ref, error in exam.lost if ref.series_uid == group.roles[role][0].instance.series_uid}
    assert lost == {Reason.MISSING_SLICE}
    assert (exam.image is None) is (role == "T2W")
    assert exam.image is None or set(exam.image.beside) == {"high b", "b 50", "b 400"}


@pytest.mark.shared_data
def test_another_whole_scan_stands_in_for_one_with_a_missing_slice(tmp_path: Path, study: Path) -> None:
    folder = copied(study, tmp_path, "s06_t2_tra", *EXAM, change=lambda name, k, _: (name, k) != (EXAM[0], 8))
    selection = chosen(folder)
    assert told(selection)[0]["T2W"] == [6]
    assert told(selection)[1] == {10: {Reason.MISSING_SLICE}}


@pytest.mark.shared_data
def test_mixed_orientations_in_one_series(tmp_path: Path, study: Path) -> None:
    """The axial slices are a volume of their own; all together are none."""
    axial = pydicom.dcmread(next((study / EXAM[0]).iterdir())).SeriesInstanceUID

    def join(_: str, __: int, dataset: Dataset) -> bool:
        dataset.SeriesInstanceUID = axial
        return True

    folder = copied(study, tmp_path, "s04_t2_sag", EXAM[0], change=join)
    selection = chosen(folder)
    assert told(selection) == ({"T2W": [10]}, {4: {Reason.NOT_AXIAL}})
    (error,) = read_volumes(i for s in build_index(folder).series for i in s.instances)
    assert isinstance(error, ImagingError)
    assert error.reason is Reason.GEOMETRY
    assert "mixed orientations" in str(error)


@pytest.mark.shared_data
def test_a_lone_diffusion_series_has_its_roles_and_no_exam(tmp_path: Path, study: Path) -> None:
    group = the_group(copied(study, tmp_path, "s07_dwi_mixed_b"))
    assert {role: len(refs) for role, refs in group.roles.items()} == {"high b": 19, "b 50": 19, "b 400": 19}
    assert "No series of the study is its T2W" in group.notes
    exam = read_exam(Volumes(group.roles, T2W))
    assert exam.image is None
    assert len(exam.lost) == 57
    assert {error.reason for _, error in exam.lost} == {Reason.MISSING_ROLE}


@pytest.mark.shared_data
def test_an_adc_map_of_zeros(tmp_path: Path, study: Path) -> None:
    def clear(name: str, _: int, dataset: Dataset) -> bool:
        if name == "s08_adc":
            dataset.PixelData = bytes(len(dataset.PixelData))
        return True

    group = the_group(copied(study, tmp_path, *EXAM, change=clear))
    assert refusals(group, "ADC") == {None}
    exam = read_exam(Volumes(group.roles, T2W))
    assert exam.image
    assert set(exam.image.beside) == {"high b", "b 50", "b 400"}
    assert {error.reason for _, error in exam.lost} == {Reason.NO_SIGNAL}
    assert {ref.sop_uid for ref, _ in exam.lost} == {ref.instance.sop_uid for ref in group.roles["ADC"]}


@pytest.mark.shared_data
@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "PatientBirthDate"])
def test_two_patients_in_one_series(tmp_path: Path, study: Path, keyword: str) -> None:
    """One slice of another patient, and no image of the study is read: nothing says whose the others are."""

    def rename(name: str, k: int, dataset: Dataset) -> bool:
        if (name, k) == (EXAM[0], 8):
            setattr(dataset, keyword, {"PatientBirthDate": "19500101"}.get(keyword, "Another"))
        return True

    group = the_group(copied(study, tmp_path, *EXAM, change=rename))
    assert list(group.roles) == [UNPLACED]
    assert len(group.roles[UNPLACED]) == 19 + 57 + 19
    assert refusals(group, UNPLACED) == {Reason.MIXED_PATIENTS}
