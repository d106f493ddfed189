"""What results in DICOM (SR, SEG) predict of one image: findings with their masks and confidences, and a probability.

Nothing found counts as an answer only where every report says that all was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from imaging.data.marks import Mask, RegionMark
from imaging.data.result_masks import damage_told, finding_marks, segment_masks
from imaging.dicom.results.read import read_result
from imaging.dicom.results.records import ReadFinding, ReadReport, ReadSegment, ReadSegmentation
from imaging.errors import InputError, Reason
from imaging.image import Image, SourceRef

_ALL_READ: Final = ("111241", "111242")  # CID 6047: all algorithms succeeded
FINDING, EXAMINATION, NOTHING = "finding", "no finding, examination rated", "no finding, scored 0"


@dataclass(frozen=True, slots=True)
class Rated:
    """What results say of a case by their probability of cancer: `score` 0-1, and what it rests on.

    `basis` is one of FINDING, EXAMINATION (nothing was found, and the report rates the examination all the same) and
    NOTHING (nothing was found and nothing is stated: the score is 0, the worst for a positive case).
    """

    score: float
    basis: str


@dataclass(frozen=True)
class Results:
    """The results of one study: its reports and its segmentations, with the names of their files."""

    reports: tuple[ReadReport, ...]
    segmentations: tuple[tuple[str, ReadSegmentation], ...]

    @property
    def findings(self) -> list[ReadFinding]:
        """What the reports found, structures of the anatomy left out; what is told twice, by its tracking UID, once."""
        told: dict[str, ReadFinding] = {}
        for number, finding in enumerate(f for r in self.reports for f in r.findings if not f.is_structure):
            told.setdefault(finding.tracking_uid or f"untracked {number}", finding)
        return list(told.values())

    @property
    def structures(self) -> set[str]:
        """The tracking UIDs of what reports call structures of the anatomy."""
        return {f.tracking_uid for r in self.reports for f in r.findings if f.is_structure and f.tracking_uid}


def read_results(paths: Sequence[Path]) -> Results:
    """The results in files and folders. Raises InputError where there is none, or one cannot be read."""
    files = [file for path in paths for file in (sorted(path.rglob("*.dcm")) if path.is_dir() else [path])]
    if not files:
        where = ", ".join(path.name for path in paths)
        raise InputError(f"results {where}: found 0 DICOM files; allowed are one or more", Reason.PREDICTION_FAILED)
    read = [(file.name, _result(file, len(files) > 1)) for file in files]
    reports = tuple(result for _, result in read if isinstance(result, ReadReport))
    return Results(reports, tuple((name, result) for name, result in read if isinstance(result, ReadSegmentation)))


def _result(file: Path, is_beside_others: bool) -> ReadReport | ReadSegmentation | None:
    """What a file says; None for an object of another kind beside others, such as a report as a PDF."""
    try:
        return read_result(file.read_bytes())
    except InputError as error:
        if is_beside_others and error.reason is Reason.UNSUPPORTED_OBJECT:
            return None
        raise


def predicted_findings(results: Results, image: Image) -> list[tuple[Mask, float]]:
    """Mask on the source grid of the image, and confidence, of each finding: its segment, else its outline in the SR.

    A segment has the score of the finding with the same tracking UID, 1 without one. A picture may be without `refs`
    where the results speak of one image. Raises InputError where nothing can be said: findings on several images and
    none named, a finding without a place, no finding where a report does not say that all was read; GeometryError for
    what does not lie on the grid.
    """
    is_volume = len(image.source_grid.shape) == 3
    kept = [(name, _without_structures(results, one, is_volume)) for name, one in results.segmentations]
    drawn = {segment.tracking_uid for _, result in kept for segment in result.segments if segment.tracking_uid}
    alone = [finding for finding in results.findings if finding.tracking_uid not in drawn]
    if is_volume:
        _refuse_undrawn(alone)
    elif not image.refs:
        image = replace(image, refs=_only_image(kept, alone))
    scores = {f.tracking_uid: f.score for f in results.findings if f.tracking_uid and f.score is not None}
    found: list[tuple[Mask, float]] = []
    for name, result in kept:
        with damage_told(f"result {name}"):
            placed = segment_masks(f"result {name}", result, image)
        found += [(mask, scores.get(segment.tracking_uid, 1.0)) for segment, mask in placed]
    for finding in alone:
        found += [(mask, 1.0 if finding.score is None else finding.score) for mask in _areas(finding, image)]
    found = [(mask, score) for mask, score in found if mask.any()]
    if not found:
        _refuse_unread(results.reports)
    return found


def predicted_rating(results: Results, image_uid: str) -> Rated:
    """The probability of cancer (111047 DCM) that reports state, of one image where its UID is given.

    That is what they say of the examination, else the highest of their findings. Raises InputError where nothing can be
    said: no report, findings without a probability, an image without findings that was not read.
    """
    if not results.reports:
        raise InputError("results: found 0 structured reports; allowed are one or more", Reason.PREDICTION_FAILED)
    wanted = {image_uid} if image_uid else None
    told_of = [f for r in results.reports for f in r.findings if not f.is_structure]
    found = [f for f in told_of if wanted is None or (f.image and f.image.sop_uid in wanted)]
    told = [r.rating for r in results.reports if r.rating and (wanted is None or r.rating.sop_uid in wanted)]
    rated = [rating.probability for rating in told] or [f.rating for f in found if f.rating is not None]
    if not found:
        _refuse_unread(results.reports)
        return Rated(max(rated), EXAMINATION) if rated else Rated(0.0, NOTHING)
    if not rated:
        raise InputError(
            f"results: found {len(found)} findings without a probability of cancer (111047 DCM), which only a package "
            "with a declared validation states",
            Reason.PREDICTION_FAILED,
        )
    return Rated(max(rated), FINDING)


def _without_structures(results: Results, result: ReadSegmentation, is_volume: bool) -> ReadSegmentation:
    """The segments that are findings. On a picture a structure, such as a head, may be what was looked for."""
    structures = results.structures

    def is_finding(segment: ReadSegment) -> bool:
        return segment.tracking_uid not in structures and not (is_volume and segment.is_structure)

    return replace(result, segments=tuple(segment for segment in result.segments if is_finding(segment)))


def _refuse_undrawn(findings: Sequence[ReadFinding]) -> None:
    if findings:
        first = findings[0].tracking_uid or "one without a tracking UID"
        raise InputError(
            f"results: {len(findings)} findings have no segment, first {first}; allowed is a segment of each",
            Reason.PREDICTION_FAILED,
        )


def _only_image(
    segmentations: Sequence[tuple[str, ReadSegmentation]], findings: Sequence[ReadFinding]
) -> tuple[SourceRef, ...]:
    """The image of which results speak; none where nothing was found. Raises InputError where there are several."""
    frames = [frame for _, result in segmentations for segment in result.segments for frame in segment.frames]
    named = {source.sop_uid for frame in frames for source in frame.sources}
    named |= {finding.image.sop_uid for finding in findings if finding.image}
    if len(named) > 1:
        raise InputError(
            f"results: found findings on {len(named)} images; name the image in the column image_uid",
            Reason.CONFIG_INVALID,
        )
    return tuple(SourceRef("", "", "", uid) for uid in named)


def _areas(finding: ReadFinding, image: Image) -> list[Mask]:
    """The outline of a finding as a mask; none where it lies on another image. Raises InputError for a point."""
    marks = finding_marks("results", finding, image)
    if points := [mark for mark in marks if not isinstance(mark, RegionMark)]:
        raise InputError(
            f"results, finding '{points[0].label}': is a point, which has no extent; allowed are outlines and segments",
            Reason.GEOMETRY,
        )
    return [mark.mask for mark in marks if isinstance(mark, RegionMark)]


def _refuse_unread(reports: Sequence[ReadReport]) -> None:
    outcomes = [report.outcome for report in reports]
    unread = [o.meaning for o in outcomes if o is not None and o.value not in _ALL_READ]
    if unread:
        raise InputError(f"results: no finding on this image, and '{unread[0]}'", Reason.PREDICTION_FAILED)
