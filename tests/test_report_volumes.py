"""DICOM results of volumes: at their place in the patient for every axis order, and refused when they are elsewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
from pydicom import Dataset

from imaging.dicom.index import build_index
from imaging.dicom.pixels.volume import Stack, find_stacks
from imaging.dicom.results.read import ReadReport, ReadSegmentation, read_result
from imaging.errors import ImagingError, ReadbackError, Reason
from imaging.findings import cross_section
from imaging.image import LPS_TO_RAS, Floats, Grid
from imaging.report.document import Document, identity_of, seal
from imaging.report.kind import Subject
from imaging.report.readback import verify
from imaging.report.write import GENERAL, write_documents
from tests.conftest import require_tool
from tests.judges import run_tool
from tests.report_cases import CONTENT_TIME, Case
from tests.volume_cases import (
    AXIAL,
    CASES,
    CENTRE_INDEX,
    CENTRE_LPS,
    GLAND,
    LATTICES,
    LESION,
    SECTOR,
    SHAPE,
    STEPS_MM,
    Lattice,
    case,
    case_on,
    classic,
    exam_of,
    ref,
)

PLACE_MM = 0.1
# Where the centres of the ellipsoids lie on every lattice, by the names of their segments.
CENTRES = {"Lesion 1": CENTRE_INDEX, "Lesion 2": (6, 13, 7), "Prostate": (4, 10, 12)}


def written(subject: Case) -> list[Document]:
    return write_documents(Subject(subject.result, subject.sources, CONTENT_TIME))


def report_of(documents: list[Document]) -> ReadReport:
    found = read_result(documents[-1].data)
    assert isinstance(found, ReadReport)
    return found


def segmentation_of(documents: list[Document]) -> ReadSegmentation:
    found = read_result(documents[0].data)
    assert isinstance(found, ReadSegmentation)
    return found


@pytest.fixture(scope="module")
def by_case() -> dict[str, tuple[Case, list[Document]]]:
    subjects = {name: case(name) for name in CASES}
    return {name: (subject, written(subject)) for name, subject in subjects.items()}


# -- The place in the patient, in every order and direction of the axes ------------------------------------------------
#
# The 48 lattices lay slice, row and column along the patient's axes in all six orders, each either way; two more are
# oblique. Rows and columns of a frame set Image Orientation (Patient): 24 of them. Slices follow each other along the
# normal or against it: that is the other factor of two. `imaging.dicom.pixels.volume` sorts along the normal, so half
# of the grids come from it and half from a reader that keeps the order of InstanceNumber. All studies hold the same
# lesion, at the same point of the patient.


@pytest.fixture(scope="module")
def by_lattice() -> dict[str, list[Document]]:
    return {lattice.name: written(case_on(lattice)) for lattice in LATTICES}


def lattices() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lattice", LATTICES, ids=lambda lattice: lattice.name)


def test_lattices_are_all_of_them() -> None:
    aligned = {tuple(lattice.directions.ravel().tolist()) for lattice in LATTICES[:48]}
    assert len(aligned) == 48
    assert all(np.array_equal(np.abs(lattice.directions).sum(axis=0), [1, 1, 1]) for lattice in LATTICES[:48])
    assert sum(lattice.follows_normal for lattice in LATTICES[:48]) == 24
    assert [lattice.follows_normal for lattice in LATTICES[48:]] == [True, False]
    assert len({*SHAPE}) == len({*STEPS_MM}) == 3


@lattices()
def test_lattice_is_what_the_files_say(lattice: Lattice, tmp_path: Path) -> None:
    """`dicom.pixels.volume` finds the lattice in the files, slices turned over where they run against the normal."""
    for place, header in enumerate(classic(lattice, pixels=True)):
        header.save_as(tmp_path / f"{place}.dcm", enforce_file_format=True)
    (stack,) = find_stacks(i for series in build_index(tmp_path).series for i in series.instances)
    assert isinstance(stack, Stack), str(stack)
    order = slice(None) if lattice.follows_normal else slice(None, None, -1)
    places = [lattice.lps @ [place, 0, 0, 1] for place in range(SHAPE[0])][order]
    np.testing.assert_allclose(stack.grid.affine[:, 3], LPS_TO_RAS @ places[0], atol=1e-5)
    np.testing.assert_allclose(stack.grid.affine[:, 1:3], lattice.grid.affine[:, 1:3], atol=1e-5)
    assert [plane.source.sop_uid for plane in stack.planes] == [str(h.SOPInstanceUID) for h in classic(lattice)[order]]


@lattices()
def test_highdicom_finds_every_centre(lattice: Lattice, by_lattice: dict[str, list[Document]]) -> None:
    seg = highdicom.seg.segread(io.BytesIO(by_lattice[lattice.name][0].data))
    for number in seg.segment_numbers:
        name = str(seg.get_segment_description(number).SegmentLabel)
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True)
        centre = volume.map_indices_to_reference(np.argwhere(volume.array > 0).mean(axis=0)[None])[0]
        if name in CENTRES:
            truth = (lattice.lps @ [*CENTRES[name], 1])[:3]
            assert np.linalg.norm(centre - truth) < PLACE_MM, name
        if name == "Lesion 1":
            assert np.linalg.norm(centre - CENTRE_LPS) < PLACE_MM


@pytest.mark.conformance
@lattices()
def test_dcmqi_finds_every_centre(lattice: Lattice, by_lattice: dict[str, list[Document]], tmp_path: Path) -> None:
    tool = require_tool("segimage2itkimage")
    stored = tmp_path / "seg.dcm"
    stored.write_bytes(by_lattice[lattice.name][0].data)
    said = run_tool(tool, "--inputDICOM", stored, "--outputDirectory", tmp_path, "-t", "nrrd")
    described = json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    labels = {item["labelID"]: item["SegmentLabel"] for group in described for item in group}
    assert {*CENTRES} < {*labels.values()}, said
    for number, name in labels.items():
        image = sitk.ReadImage(str(tmp_path / f"{number}.nrrd"))
        index = np.argwhere(sitk.GetArrayFromImage(image) > 0).mean(axis=0)[::-1]
        centre = np.array(image.TransformContinuousIndexToPhysicalPoint(index.tolist()))
        if name in CENTRES:
            truth = (lattice.lps @ [*CENTRES[name], 1])[:3]
            assert np.linalg.norm(centre - truth) < PLACE_MM, name


def polygon_centre(points: Floats) -> Floats:
    """The centre of area of a closed polygon (n, 2), its first point repeated."""
    (x0, y0), (x1, y1) = points[:-1].T, points[1:].T
    cross = x0 * y1 - x1 * y0
    return np.array([((x0 + x1) * cross).sum(), ((y0 + y1) * cross).sum()]) / (3 * cross.sum())


@lattices()
def test_outline_lies_on_the_slice_and_the_place(lattice: Lattice, by_lattice: dict[str, list[Document]]) -> None:
    """By the header of the image that the outline names, pixel centres at half-integers (PS3.3 C.18.6, C.7.6.2)."""
    headers = {str(h.SOPInstanceUID): h for h in classic(lattice)}
    lesion = report_of(by_lattice[lattice.name]).findings[0]
    assert lesion.tracking_id == "Lesion 1"
    assert lesion.image is not None
    assert lesion.points_px is not None
    header = headers[lesion.image.sop_uid]
    assert int(header.InstanceNumber) == CENTRE_INDEX[0] + 1
    column, row = polygon_centre(lesion.points_px) - 0.5
    across, down = np.reshape(np.array(header.ImageOrientationPatient, dtype=float), (2, 3))
    row_step, column_step = map(float, header.PixelSpacing)
    corner = np.array(header.ImagePositionPatient, dtype=float)
    centre = corner + across * column * column_step + down * row * row_step
    assert np.linalg.norm(centre - CENTRE_LPS) < PLACE_MM


# -- What is said ------------------------------------------------------------------------------------------------------

SAID = {  # PS3.16 CID 6047, CID 6042; PS3.3 C.17.2 Completion Flag
    "yes-all": ("111242", "111222", "COMPLETE"),
    "yes-some": ("111244", "111223", "PARTIAL"),
    "no-all": ("111241", "111222", "COMPLETE"),
    "unknown-some": ("111243", "111223", "PARTIAL"),
    "unknown-none": ("111245", "111225", "PARTIAL"),
    "failed": ("111245", "111224", "PARTIAL"),
    "enhanced": ("111242", "111222", "COMPLETE"),
    "enhanced-stacks": ("111242", "111222", "COMPLETE"),
    "no-frame-of-reference": ("111242", "111222", "COMPLETE"),
}


@pytest.mark.parametrize("name", CASES)
def test_outcome_is_coded_and_structures_are_no_findings(
    name: str, by_case: dict[str, tuple[Case, list[Document]]]
) -> None:
    subject, documents = by_case[name]
    read = report_of(documents)
    assert read.outcome is not None
    assert read.detections is not None
    assert (read.outcome.value, read.detections.value, read.completion) == SAID[name]
    whole = [f for f in read.findings if f.segment is None]
    assert [f.is_structure for f in whole] == [False] * len(subject.result.findings) + [True] * len(
        subject.result.structures
    )
    assert all((f.score is None) == f.is_structure for f in whole)
    assert all(f.score is None for f in read.findings if f.segment is not None)  # how sure stands once


def test_measures_by_hand(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    """The axial lattice: voxels of 3 × 0.8 × 0.5 mm; radii of 2.2, 3.1 and 3.9 mm along x (columns), y and z (slices).

    Slices at 0 and ±3 mm of the centre. In the middle, rows at 0, ±0.8, ±1.6, ±2.4 mm hold 2·⌊2·2.2·√(1 − (y/3.1)²)⌋
    + 1 voxels: 9, 9, 7, 5, together 9 + 2·21 = 51. At ±3 mm the radii shrink by √(1 − (3/3.9)²) = 0.639, to 1.406 and
    1.981: 5, 5, 3, none: 5 + 2·8 = 21. Volume (51 + 42) · 1.2 mm³ = 0.1116 ml; area 51 · 0.4 mm².
    """
    lesion = next(f for f in report_of(by_case["yes-all"][1]).findings if f.segment is not None)
    given = {(m.concept.meaning, m.derivation and m.derivation.meaning): m for m in lesion.measures if m.concept}
    assert {key: (m.value, m.unit and m.unit.value) for key, m in given.items() if "3D" not in key[0]} == {
        ("Volume", None): (0.112, "cm3"),
        ("Apparent Diffusion Coefficient", "Mean"): (812.35, "um2/s"),
        ("Apparent Diffusion Coefficient", "Tenth percentile"): (655.1, "um2/s"),
    }
    # From the middle of a face 1.5 slices up to the one opposite: 9 mm along z, at rows and columns that the outermost
    # slices reach: 3 columns in row ±1.6 mm, 5 in row ±0.8 mm.
    longest = given["Maximum 3D Diameter of a Mesh", None]
    reach = max(np.hypot(2 * 0.5, 3.2), np.hypot(4 * 0.5, 1.6))
    assert longest.value == pytest.approx(np.hypot(9.0, reach), abs=0.005)
    outline = report_of(by_case["yes-all"][1]).findings[0]
    area = next(m for m in outline.measures if m.concept and m.concept.meaning == "Area")
    assert area.value == 20.4
    assert outline.tracking_uid == lesion.tracking_uid
    assert (outline.sites, lesion.sites) == ((SECTOR,), (SECTOR,))


def test_psa_density_is_a_measure_of_the_prostate_and_a_comment(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    read = report_of(by_case["yes-all"][1])
    stated = [
        (f.tracking_id, m.value) for f in read.findings for m in f.measures if m.concept and m.concept.scheme == "LN"
    ]
    assert stated == [("Prostate", 0.154)]
    assert {"Examination, PSA: 6.5 ng/ml", "Examination, PSA density: 0.154 ng/ml/cm3"} <= {*read.comments}
    assert "Outlined and measured, no finding: Prostate, Peripheral zone of the prostate." in read.comments
    assert any(comment.startswith("Searched for: Lesion.") for comment in read.comments)


def test_segments_carry_codes_sector_and_the_tracking_uid_of_both_groups(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    documents = by_case["yes-all"][1]
    read, seg = report_of(documents), segmentation_of(documents)
    named = {s.label: s for s in seg.segments}
    assert [*named] == ["Lesion 1", "Lesion 2", "Prostate", "Peripheral zone of the prostate"]
    assert (named["Lesion 1"].category, named["Lesion 1"].sites) == (LESION.category, (SECTOR,))
    assert (named["Lesion 2"].sites, named["Prostate"].kind) == ((LESION.site,), GLAND.kind)
    for segment in seg.segments:
        groups = [f for f in read.findings if f.tracking_uid == segment.tracking_uid]
        assert [f.segment is None for f in groups] == [True, False]
        assert groups[1].segment is not None
        assert groups[1].segment.segments == (segment.number,)
        assert len(groups[1].segment_sources) == len(segment.frames)
    assert len({s.tracking_uid for s in seg.segments}) == 4


def test_a_missing_role_is_told_once_per_series(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-some"]
    series = subject.result.unread[0].ref.series_uid
    lost = [comment for comment in report_of(documents).comments if comment.startswith("Not analyzed")]
    assert lost == [
        f"Not analyzed: 9 images of series {series}. Reason implausible_adc: {Reason.IMPLAUSIBLE_ADC.meaning}."
    ]
    assert {item.sop_uid for item in report_of(documents).library} == {*subject.sources}


def test_enhanced_frames_are_named_by_number(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    """Slice 3 of the volume is frame 9 of one object and frame 8 of the other, which holds another stack as well."""
    for name, number in (("enhanced", 9), ("enhanced-stacks", 8)):
        documents = by_case[name][1]
        lesion, seg = report_of(documents).findings[0], segmentation_of(documents)
        assert lesion.image is not None
        assert lesion.image.frames == (number,)
        frames = {s.label: [f.sources[0].frames for f in s.frames] for s in seg.segments}
        assert (number,) in frames["Lesion 1"]
        assert len({place for found in frames.values() for place in found}) == 5  # slices 2 to 6 of the volume


def test_without_frame_of_reference_there_is_no_segment_and_the_report_says_so(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    documents = by_case["no-frame-of-reference"][1]
    assert [document.kind for document in documents] == ["sr"]
    read = report_of(documents)
    assert all(finding.segment is None for finding in read.findings)
    assert any("no segmentation object" in c and "no single Frame of Reference" in c for c in read.comments)


def test_tracking_uids_stay_when_a_border_voxel_falls_the_other_way() -> None:
    subject = case("yes-all")
    first = subject.result.findings[0]
    whole = first.key.volume_region
    assert whole is not None
    less = whole.mask.copy()
    less[tuple(np.argwhere(less)[0])] = False
    other = cross_section("lesion", first.key.score, replace(whole, mask=less))
    again = replace(subject.result, findings=(replace(first, key=other), subject.result.findings[1]))
    before, after = (report_of(written(Case(r, subject.sources))) for r in (subject.result, again))
    assert [f.tracking_uid for f in before.findings] == [f.tracking_uid for f in after.findings]
    assert before.sop_uid != after.sop_uid


def test_two_structures_of_one_name_are_told_apart() -> None:
    subject = case("no-all")
    gland = subject.result.structures[0]
    read = report_of(written(Case(replace(subject.result, structures=(gland, gland)), subject.sources)))
    assert [f.tracking_id for f in read.findings] == ["Prostate", "Prostate 2"] * 2
    assert len({f.tracking_uid for f in read.findings}) == 2


def test_slices_that_share_a_frame_are_refused() -> None:
    """A mosaic: the pixels of its slices are not those of the image that an outline would be drawn on."""
    subject = case("yes-all")
    refs = (subject.result.analysed[0],) * SHAPE[0]
    result = exam_of(AXIAL.grid, refs, analysed=subject.result.analysed)
    with pytest.raises(ImagingError, match="found 9 slices in 1 frames") as caught:
        written(Case(result, subject.sources))
    assert caught.value.reason is Reason.GEOMETRY


def test_a_measure_without_code_is_refused_by_name() -> None:
    subject = case("yes-all")
    measured = replace(subject.result.findings[0], measures={"mood": 1.0})
    with pytest.raises(ImagingError, match="found 'mood'; a report can only code volume_ml, longest_diameter_mm"):
        written(Case(replace(subject.result, findings=(measured,)), subject.sources))


# -- Planted faults ----------------------------------------------------------------------------------------------------


def refused(subject: Case, documents: list[Document], match: str) -> None:
    with pytest.raises(ReadbackError, match=match) as caught:
        verify(documents, Subject(subject.result, subject.sources, CONTENT_TIME), GENERAL)
    assert caught.value.reason is Reason.READBACK_FAILED
    assert "Doe" not in str(caught.value)


def planted(subject: Case, documents: list[Document], change: Callable[[Dataset], None]) -> list[Document]:
    """The documents with a change in the SEG, both sealed again, the SR referring to the changed SEG."""
    own = identity_of(next(iter(subject.sources.values())))
    seg, sr = (pydicom.dcmread(io.BytesIO(document.data)) for document in (documents[0], documents[-1]))
    change(seg)
    sealed = seal(seg, own, "seg")
    for element in sr.iterall():
        if isinstance(element.value, str) and documents[0].sop_instance_uid in element.value:
            element.value = element.value.replace(documents[0].sop_instance_uid, sealed.sop_instance_uid)
    return [sealed, seal(sr, own, "sr")]


def frames_of(seg: Dataset) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    count = int(seg.NumberOfFrames)
    return bits[: count * seg.Rows * seg.Columns].reshape(count, seg.Rows, seg.Columns)


def of_first_segment(seg: Dataset) -> list[int]:
    groups = seg.PerFrameFunctionalGroupsSequence
    return [i for i, g in enumerate(groups) if g.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1]


def flip(axis: int) -> Callable[[Dataset], None]:
    """The pixels of the first lesion turned over along slices, rows or columns; geometry and references stay."""

    def change(seg: Dataset) -> None:
        frames, own = frames_of(seg).copy(), of_first_segment(seg)
        if axis == 0:
            # The lesion is symmetric about its middle slice, so all of the object's frames are put in reverse.
            frames = frames[::-1]
        else:
            frames[own] = np.flip(frames[own], axis=axis)
        seg.PixelData = np.packbits(frames, bitorder="little").tobytes()

    return change


def flip_positions(seg: Dataset) -> None:
    """Frames in reverse by their positions alone."""
    groups = [seg.PerFrameFunctionalGroupsSequence[i] for i in of_first_segment(seg)]
    positions = [group.PlanePositionSequence for group in groups]
    for group, position in zip(groups, positions[::-1], strict=True):
        group.PlanePositionSequence = position


def shift(seg: Dataset) -> None:
    """Everything one pixel along the rows, by the positions."""
    for group in seg.PerFrameFunctionalGroupsSequence:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x + STEPS_MM[2], y, z]


def turn_columns(seg: Dataset) -> None:
    orientation = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def stretch(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.52]


def nudge(seg: Dataset) -> None:
    """A tenth of a pixel: still the same voxels, but not where the source says."""
    position = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = position.ImagePositionPatient
    position.ImagePositionPatient = [x + 0.05, y, z]


def swap_sources(seg: Dataset) -> None:
    first, second, *_ = (seg.PerFrameFunctionalGroupsSequence[i] for i in of_first_segment(seg))
    first.DerivationImageSequence, second.DerivationImageSequence = (
        second.DerivationImageSequence,
        first.DerivationImageSequence,
    )


def other_source(seg: Dataset) -> None:
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def other_region(seg: Dataset) -> None:
    seg.SegmentSequence[0].AnatomicRegionSequence[0].CodeValue = "41216001"


def swap_segments(seg: Dataset) -> None:
    a, b = seg.SegmentSequence[0], seg.SegmentSequence[1]
    a.TrackingUID, b.TrackingUID = b.TrackingUID, a.TrackingUID


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (flip(0), "PixelData"),
        (flip(1), "PixelData"),
        (flip(2), "PixelData"),
        (flip_positions, "SourceImageSequence"),
        (shift, "pixels elsewhere"),
        (turn_columns, "pixels elsewhere"),
        (stretch, "pixels elsewhere|other directions or steps"),
        (nudge, "ImagePositionPatient"),
        (swap_sources, "SourceImageSequence"),
        (other_source, "ReferencedSeriesSequence"),
        (other_region, "anatomic region"),
        (swap_segments, "Referenced Segment"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_segment_elsewhere_is_refused(
    change: Callable[[Dataset], None], match: str, by_case: dict[str, tuple[Case, list[Document]]]
) -> None:
    subject, documents = by_case["yes-all"]
    refused(subject, planted(subject, documents, change), match)


def test_unchanged_documents_sealed_again_are_accepted(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    """What is planted above is refused for the change, not for the sealing."""
    subject, documents = by_case["yes-all"]
    again = planted(subject, documents, lambda seg: None)
    verify(again, Subject(subject.result, subject.sources, CONTENT_TIME), GENERAL)
    assert [d.data for d in again] == [d.data for d in documents]


def test_frames_in_another_order_are_accepted(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    """The near miss: the same frames in reverse, each with its pixels, is the same segmentation."""
    subject, documents = by_case["yes-all"]

    def reorder(seg: Dataset) -> None:
        seg.PixelData = np.packbits(frames_of(seg)[::-1], bitorder="little").tobytes()
        seg.PerFrameFunctionalGroupsSequence = list(seg.PerFrameFunctionalGroupsSequence)[::-1]

    verify(planted(subject, documents, reorder), Subject(subject.result, subject.sources, CONTENT_TIME), GENERAL)


def test_a_changed_report_is_refused(by_case: dict[str, tuple[Case, list[Document]]]) -> None:
    subject, documents = by_case["yes-all"]
    own = identity_of(next(iter(subject.sources.values())))

    def replaced(old: str, new: str) -> Document:
        dataset = pydicom.dcmread(io.BytesIO(documents[-1].data))
        for element in dataset.iterall():
            if element.VR != "SQ" and str(element.value) == old:
                element.value = new
        return seal(dataset, own, "sr")

    slices = [one.sop_uid for one in subject.result.analysed]
    for old, new, match in (
        ("0.112", "0.113", "volume of Lesion 1, measurements"),
        ("812.35", "812.36", "volume of Lesion 1, measurements"),
        ("373098007", "371890005", "volume of Lesion 1, measurements"),
        ("cm3", "mm3", "measurements"),
        ("0.154", "0.145", "volume of Prostate, measurements"),
        ("20.4", "20.5", "finding 1, measurements"),
        (SECTOR.value, "716921007", "finding site"),
        ("91723000", "49755003", "category"),
        (slices[CENTRE_INDEX[0]], slices[0], "library|Library|image|Source image"),
    ):
        refused(subject, [documents[0], replaced(old, new)], match)


def test_another_volume_region_on_the_same_documents_is_refused(
    by_case: dict[str, tuple[Case, list[Document]]],
) -> None:
    subject, documents = by_case["yes-all"]
    first = subject.result.findings[0]
    assert first.key.volume_region is not None
    mask = first.key.volume_region.mask.copy()
    mask[:, :, -1] = False
    other = replace(first, key=cross_section("lesion", first.key.score, replace(first.key.volume_region, mask=mask)))
    result = replace(subject.result, findings=(other, subject.result.findings[1]))
    refused(Case(result, subject.sources), documents, "finding 1")


def test_a_grid_that_the_headers_deny_is_refused() -> None:
    """A reader that turned the volume over and not its references: nothing of it may leave."""
    subject = case_on(AXIAL)
    refs = [ref(h) for h in classic(AXIAL)]
    turned = exam_of(AXIAL.grid, refs[::-1], analysed=subject.result.analysed)
    with pytest.raises(ReadbackError, match=r"SourceImageSequence|position"):
        written(Case(turned, subject.sources))
    moved = AXIAL.grid.affine.copy()
    moved[0, 3] += 0.5
    elsewhere = exam_of(Grid(SHAPE, moved, "patient_ras"), refs, analysed=subject.result.analysed)
    with pytest.raises(ReadbackError, match="pixels elsewhere"):
        written(Case(elsewhere, subject.sources))
