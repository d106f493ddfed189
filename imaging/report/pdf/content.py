"""What a readable report says, as plain lines below headings: the same facts as the measurement report, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imaging.exam.result import ExamResult
from imaging.image import SourceRef, View
from imaging.report.kind import Subject
from imaging.report.pdf import letters
from imaging.report.pdf.person import identity_rows
from imaging.report.sr.codes import MeasureCode
from imaging.report.sr.statements import (
    Roi,
    comments,
    exam_statement,
    extent,
    images_of,
    planar_measures,
    rois,
    unread_groups,
    volume_measures,
)

TITLE: Final = "Readable report of an automated analysis"
BANNER: Final = "Research use only. Not a medical device; not for clinical use."
NOT_NEGATIVE: Final = "This is not a negative answer."
BORROWED: Final = "Where letters above show as boxes, the viewer lacks a font; the header of this object holds them."
INEXACT: Final = "Some letters above cannot be drawn as they are; the header of this object holds them exactly."


@dataclass(frozen=True, slots=True)
class Section:
    """Lines below a heading. They hold any letters; `letters` says how they are drawn."""

    heading: str
    lines: tuple[str, ...]


def sections(subject: Subject) -> list[Section]:
    """The whole report but its pictures, in reading order; sections without lines are left out."""
    result = subject.result
    regions = rois(result)
    told = [
        Section("Answer", tuple(_answer(result))),
        Section("Patient and study", tuple(_identity(subject))),
        Section("Findings", tuple(_region(result, roi) for roi in regions if roi.is_finding)),
        Section("Organs outlined and measured", tuple(_region(result, roi) for roi in regions if not roi.is_finding)),
        Section("Images not analyzed", tuple(_unread(result))),
        Section("What this answer rests on", tuple(comments(result))),
        Section("Package", tuple(_package(subject))),
    ]
    return [section for section in told if section.lines]


def outcome_line(result: ExamResult) -> str:
    return f"Finding: {result.finding}. {extent(result)}"


def _answer(result: ExamResult) -> list[str]:
    lines = [*([] if result.caution is None else [result.caution.sentence]), outcome_line(result)]
    if result.finding == "unknown":
        lines.append(NOT_NEGATIVE)
    unread = {entry.ref.sop_uid for entry in result.unread}
    for words, uids in (
        ("Views analyzed", [uid for uid in images_of(result) if uid not in unread]),
        ("Views not analyzed", [uid for uid in images_of(result) if uid in unread]),
    ):
        views = [view_words(result.views[uid]) for uid in uids if uid in result.views]
        lines += [f"{words}: {', '.join(views)}."] if views else []
    statement = exam_statement(result)
    return lines if statement is None else [*lines, f"{statement[0].meaning}: {statement[1]}"]


def view_words(view: View) -> str:
    """L MLO, and what modifies it."""
    return f"{view.laterality} {view.view}" + (f" ({', '.join(view.modifiers)})" if view.modifiers else "")


def _identity(subject: Subject) -> list[str]:
    lines = [f"{name}: {value}" for name, value in identity_rows(subject.identity)]
    borrowed = [] if all(map(letters.is_latin, lines)) else [BORROWED]
    inexact = [] if all(map(letters.is_exact, lines)) else [INEXACT]
    return [*lines, *borrowed, *inexact]


def _region(result: ExamResult, roi: Roi) -> str:
    """One finding or organ: name, place, measures, image."""
    key = roi.measured.key
    measures = planar_measures(result, roi)
    if roi.volume_region is not None:
        # Of a volume the whole of it counts; the outline is only its largest slice.
        measures = volume_measures(result, roi, roi.volume_region)
    stated = "; ".join(_measure(coded, value) for coded, value in measures)
    view = result.views.get(key.ref.sop_uid)
    frame = "" if key.ref.frame_number is None else f", frame {key.ref.frame_number}"
    place = roi.site.meaning if view is None else f"{roi.site.meaning}, {view_words(view)}"
    return f"{roi.name}: {place}. {stated}. Image {key.ref.sop_uid}{frame}."


def _measure(coded: MeasureCode, value: float) -> str:
    derived = "" if coded.derivation is None else f" ({coded.derivation.meaning})"
    return f"{coded.concept.meaning}{derived} {round(value, coded.decimals):g} {coded.unit.value}"


def _unread(result: ExamResult) -> list[str]:
    lines = []
    for group in unread_groups(result):
        entry, view = group[0], result.views.get(group[0].ref.sop_uid)
        what = "Image" if view is None else view_words(view)
        images = len({item.ref.sop_uid for item in group})
        where = f"{images} images of series {entry.ref.series_uid}" if images > 1 else f"{what} {entry.ref.sop_uid}"
        lines.append(f"{where}: {entry.reason.meaning} ({entry.reason.value}).")
    return lines


def _package(subject: Subject) -> list[str]:
    algorithm = subject.result.algorithm
    return [
        f"{algorithm.name} {algorithm.version}, {algorithm.manufacturer}",
        f"Identity: {algorithm.identity}",
        *algorithm.parameters,
        f"Read at: {subject.content_time.strftime('%Y-%m-%d %H:%M:%S')}",
    ]


def picture_words(result: ExamResult, ref: SourceRef, shown: Sequence[Roi]) -> str:
    """What a picture shows: its view or image, and the names of what is outlined on it."""
    view = result.views.get(ref.sop_uid)
    frame = "" if ref.frame_number is None else f", frame {ref.frame_number}"
    what = "Image" if view is None else view_words(view)
    names = ", ".join(roi.name for roi in shown) or "nothing outlined"
    return f"{what} {ref.sop_uid}{frame}: {names}"
