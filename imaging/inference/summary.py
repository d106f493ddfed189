"""What a run says of itself: summary.json (docs/summary.schema.json) as plain values, with no patient identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from imaging import __version__
from imaging.dicom.index import FileState, Instance
from imaging.errors import ReasonCode
from imaging.exam.result import ExamFinding, ExamResult
from imaging.findings import Code, Rating, Thumbnail
from imaging.image import LPS_TO_RAS, Origin
from imaging.inference.router import NotApplicable, StudyTask
from imaging.package import Package
from imaging.report.document import Document

Json = dict[str, Any]

# Measures of findings that have fields of their own.
_FIELDS: Final = ("area_mm2", "volume_ml", "longest_diameter_mm")


def summary_of(
    packages: Sequence[Package],
    studies: list[Json],
    files: list[FileState],
    remarks: Mapping[str, Sequence[str]],
    when: datetime,
) -> Json:
    """The whole run. Files and studies stand in a stable order; no time but `when` is in it.

    `remarks` are oddities by file, "" for the whole export.
    """
    return {
        "schema_version": 1,
        "toolkit": {"name": "sitewise-imaging", "version": __version__},
        "content_time": when.isoformat(timespec="seconds"),
        "packages": [
            {
                "name": package.name,
                "version": package.description.card.version,
                "identity": package.identity,
                "summary": package.description.card.summary,
                "validated": package.description.card.calibration is not None,
            }
            for package in packages
        ],
        "studies": studies,
        "remarks": [{"path": path or None, "text": text} for path in sorted(remarks) for text in remarks[path]],
        "files": [
            {"path": file.path, "state": file.state, **reason_of(file.reason)}
            for file in sorted(files, key=lambda file: file.path)
        ],
    }


def study_of(study_uid: str, modality: str, origin: Origin, results: list[Json]) -> Json:
    """One study with its results."""
    return {
        "study_uid": study_uid,
        "modality": modality or "unknown",
        "site": origin.site,
        "scanner": origin.scanner,
        "protocol": origin.protocol,
        "results": results,
    }


def released(
    result: ExamResult, documents: Sequence[tuple[str, Document]], previews: Sequence[tuple[str, Thumbnail]]
) -> Json:
    """A result whose documents were written; each document and preview with its path relative to the output."""
    return {
        **_blank(result.package, result.group, "applicable"),
        "finding": result.finding,
        "completeness": result.completeness,
        "caution": result.caution and result.caution.sentence,
        "objects": [
            {"path": path, "sop_class_uid": d.sop_class_uid, "sop_instance_uid": d.sop_instance_uid}
            for path, d in documents
        ],
        "findings": [_finding(result, finding, result.algorithm.stated_rating) for finding in result.findings],
        "structures": [_finding(result, organ, None) for organ in result.structures],
        "measures": {name: _rounded(value) for name, value in result.measures.items()},
        "rating": _exam_rating(result),
        "views": {uid: view.words for uid, view in sorted(result.views.items())},
        "composites": [
            {"members": list(composite.members), "laterality": composite.laterality, "score": _rounded(composite.score)}
            for composite in result.composites
        ],
        "scores": _scores(result),
        "analysed": len(result.analysed),
        "covers": result.covers,
        "unread": [
            {"source_sop_uid": u.ref.sop_uid, "frame": u.ref.frame_number, **reason_of(u.reason)} for u in result.unread
        ],
        "unseen": result.unseen,
        "notes": list(result.notes),
        "previews": [
            {
                "path": path,
                "source_sop_uid": shown.ref.sop_uid,
                "frame": shown.ref.frame_number,
                "region": shown.ref.region,
                "box_px": [_rounded(v) for v in shown.box.xy],
            }
            for path, shown in previews
        ],
    }


def not_released(package: str, group: str, reason: ReasonCode) -> Json:
    """An applicable study for which no document could be given: the answer is unknown, and says why."""
    return {**_blank(package, group, "applicable"), **reason_of(reason)}


def not_applicable(package: str, reason: ReasonCode) -> Json:
    """A study that the package is not made for."""
    return {**_blank(package, "", "not_applicable"), **reason_of(reason)}


def selection_of(work: StudyTask | NotApplicable, left_out: Sequence[tuple[Instance, ReasonCode]]) -> Json:
    """Which images the package read as what, and why not the others: both by series, in the order of the series.

    Series are named by UID and number: their descriptions are free text and may hold names.
    """
    roles = work.group.roles if isinstance(work, StudyTask) else {}
    return {
        "roles": {role: _series_of(ref.instance for ref in refs) for role, refs in roles.items()},
        "rejected": [
            {**series, **reason_of(reason)}
            for reason in dict.fromkeys(reason for _, reason in left_out)
            for series in _series_of(instance for instance, why in left_out if why is reason)
        ],
    }


def _series_of(instances: Iterable[Instance]) -> list[Json]:
    """How many instances of which series; one of which several frames or regions are meant counts once."""
    distinct = {instance.sop_uid: (instance.series_uid, instance.series_number) for instance in instances}
    return [
        {"series_uid": uid, "series_number": number, "instances": count}
        for (uid, number), count in Counter(distinct.values()).items()
    ]


def reason_of(reason: ReasonCode | None) -> Json:
    """A reason code with its meaning, both None for none."""
    return {"reason": reason and reason.value, "reason_meaning": reason and reason.meaning}


def _blank(package: str, group: str, applicability: str) -> Json:
    return {
        "package": package,
        "group": group,
        "finding": "unknown",
        "completeness": "none",
        "applicability": applicability,
        **reason_of(None),
        "caution": None,
        "objects": [],
        "findings": [],
        "structures": [],
        "measures": {},
        "rating": None,
        "views": {},
        "composites": [],
        "scores": None,
        "analysed": 0,
        "covers": "",
        "unread": [],
        "unseen": 0,
        "notes": [],
        "previews": [],
    }


def _exam_rating(result: ExamResult) -> Json | None:
    rating, told = result.algorithm.stated_rating, result.rating
    if rating is None or told is None:
        return None
    return {
        **_rated(rating, told.probability),
        "source_sop_uid": told.ref.sop_uid,
        "frame": told.ref.frame_number,
        "region": told.ref.region,
    }


def _scores(result: ExamResult) -> Json | None:
    scores = result.scores
    if scores is None:
        return None
    return {
        "exam": _rounded(scores.exam),
        "breasts": {side: _rounded(value) for side, value in scores.breasts.items()},
        "operating_point": _rounded(scores.operating_point),
        "recall": result.recall,
    }


def _rated(rating: Rating, probability: float) -> Json:
    return {"name": rating.name, "probability": _rounded(probability)}


def _finding(result: ExamResult, finding: ExamFinding, rating: Rating | None) -> Json:
    key, volume_region = finding.key, finding.key.volume_region
    center = None if volume_region is None else (LPS_TO_RAS[:3, :3] @ volume_region.centroid_mm).tolist()
    own = () if volume_region is None else finding.measures.items()
    view = result.views.get(key.ref.sop_uid)
    return {
        "label": key.label,
        "score": _rounded(key.score),
        "rating": _rated(rating, finding.rating) if rating is not None and finding.rating is not None else None,
        "source_sop_uid": key.ref.sop_uid,
        "frame": key.ref.frame_number,
        "region": key.ref.region,
        "box_px": [_rounded(v) for v in key.box_px],
        "center_px": [_rounded(v) for v in key.center_px],
        "slice": None if volume_region is None else volume_region.largest_slice()[0] + 1,
        "center_lps_mm": center and [_rounded(value) for value in center],
        "site": _code(finding.site),
        "laterality": None if view is None else view.laterality,
        "view": None if view is None else view.words,
        "area_mm2": _rounded(key.area_mm2),
        "volume_ml": _rounded(None if volume_region is None else volume_region.volume_ml),
        "longest_diameter_mm": _rounded(
            key.longest_diameter_mm if volume_region is None else volume_region.longest_diameter_mm
        ),
        "measures": {name: _rounded(value) for name, value in own if name not in _FIELDS},
        "outline_px": [[_rounded(x), _rounded(y)] for x, y in key.outline_px],
    }


def _code(code: Code | None) -> Json | None:
    return None if code is None else {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _rounded(value: float | None) -> float | None:
    """Four decimals: finer than any pixel, coarser than the last bits that differ between machines."""
    return None if value is None else round(float(value), 4)
