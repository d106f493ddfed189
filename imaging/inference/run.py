"""An export → results: index, plan, then study by study read, report, release. One bad study never costs another."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from PIL import Image as Picture

from imaging.dicom.index import FileState, Index, build_index, read_header
from imaging.dicom.select import Group
from imaging.errors import ConfigError, ImagingError, OutputError, Reason
from imaging.image import Array, Origin
from imaging.inference.answer import Answer, answer
from imaging.inference.router import Work, plan
from imaging.inference.store import study_folder, write_file
from imaging.inference.summary import Json, not_applicable, not_released, released, study_of, summary_of
from imaging.package import Package
from imaging.predictor import Predictor, load_predictor
from imaging.report.page import render
from imaging.report.write import write_documents


class Progress(Protocol):
    """Who listens to a run: told how many frames are to come, each frame done, and each study's outcome."""

    def begin(self, frames: int) -> None: ...
    def frame(self) -> None: ...
    def study(self, folder: str, results: Sequence[Json]) -> None: ...


@dataclass(frozen=True)
class Run:
    """What to do: the export, where results go, which packages, and what the user said of site and time."""

    export: Path
    out: Path
    packages: tuple[Package, ...]
    site: str | None = None
    content_time: datetime | None = None
    device: str = "cpu"


def run_inference(run: Run, progress: Progress) -> Json:
    """Every study × package answered and written under `run.out`; the summary is returned and written last.

    Raises InputError when there is no export, OutputError when the output cannot be written, PackageError when a
    package is damaged: all before any study is read, except a disk that fills up on the way.
    """
    index = build_index(run.export, run.site)
    works = plan(index, run.packages)
    when = run.content_time or _first_time(run.out)
    predictors = {p.identity: load_predictor(p, run.device) for p in run.packages if _is_needed(p, works)}
    progress.begin(sum(len(ref.source_refs()) for w in works if w.group for ref in w.group.images()))
    by_study: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        by_study[work.study_uid].append(work)
    studies = []
    for uid, study_works in by_study.items():
        results = [_result(run, work, predictors, when, progress) for work in study_works]
        study = _study(uid, study_works, results)
        folder = study_folder(uid)
        write_file(run.out / folder / "findings.json", _encoded(study))
        progress.study(folder, results)
        studies.append(study)
    summary = summary_of(run.packages, studies, _file_states(index, works, studies), when)
    write_file(run.out / "summary.json", _encoded(summary))
    write_file(run.out / "index.html", render(summary, run.out).encode())
    return summary


def has_failure(summary: Json) -> bool:
    """Whether an applicable study got no answer: nothing of it could be read, or its report was not released."""
    return any(
        result["applicability"] == "applicable" and result["completeness"] == "none"
        for study in summary["studies"]
        for result in study["results"]
    )


def _is_needed(package: Package, works: Sequence[Work]) -> bool:
    return any(work.group and work.package is package for work in works)


def _first_time(out: Path) -> datetime:
    """The content time of the run that made `out`, so that running again gives the same bytes; else now."""
    try:
        told = json.loads((out / "summary.json").read_text(encoding="utf-8"))["content_time"]
        return datetime.fromisoformat(told)
    except FileNotFoundError:
        return datetime.now().replace(microsecond=0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{out / 'summary.json'}: is not a summary of this toolkit; name another folder with --out",
            Reason.OUTPUT_FAILED,
        ) from error


def _result(run: Run, work: Work, predictors: dict[str, Predictor], when: datetime, progress: Progress) -> Json:
    if work.group is None:
        return not_applicable(work.package.name, work.reason or Reason.NO_PACKAGE)
    refusals = {ref.instance.refusal for ref in work.group.images()}
    if Reason.MIXED_PATIENTS in refusals:
        for ref in work.group.images():
            for _ in ref.source_refs():
                progress.frame()
        return not_released(work.package.name, work.group.name, Reason.MIXED_PATIENTS)
    given = answer(work, work.group, predictors[work.package.identity], progress.frame)
    try:
        return _release(run.out, work.group, given, when)
    except OutputError:
        raise
    except ImagingError as error:
        return not_released(work.package.name, work.group.name, error.reason)


def _release(out: Path, group: Group, given: Answer, when: datetime) -> Json:
    """The documents and previews of one answer, written once all of them are verified."""
    result = given.result
    sources = {ref.instance.sop_uid: read_header(ref.instance.path) for ref in group.images()}
    documents = write_documents(result, sources, when)
    folder = f"{study_folder(result.study_uid)}/{result.package}"
    written = [(f"{folder}/{document.file_name}", document) for document in documents]
    shown = [(f"{folder}/preview-{n:03d}.png", thumb) for n, thumb in enumerate(given.thumbnails, start=1)]
    for path, thumb in shown:
        write_file(out / path, _png(thumb.pixels))
    for path, document in written:
        write_file(out / path, document.data)
    return released(result, written, shown)


def _study(uid: str, works: Sequence[Work], results: list[Json]) -> Json:
    instances = [i for series in works[0].series for i in series.instances]
    grouped = [ref.instance for work in works if work.group for ref in work.group.images()]
    told = grouped or instances
    modalities = sorted({i.modality for i in told})
    return study_of(uid, "\\".join(modalities), Origin.common([i.origin for i in told]), results)


def _file_states(index: Index, works: Sequence[Work], studies: Sequence[Json]) -> list[FileState]:
    """Exactly one state per file of the export: used when any package analysed it, else why not."""
    names = {i.sop_uid: i.name for series in index.series for i in series.instances}
    grouped = {ref.instance.name for work in works if work.group for ref in work.group.images()}
    unread = {
        names[entry["source_sop_uid"]]: Reason(entry["reason"])
        for study in studies
        for result in study["results"]
        for entry in result["unread"]
    }
    rejected = {name: reason for work in works for name, reason in work.rejected}
    states = []
    for name, state in index.files.items():
        if state.state != "used":
            states.append(state)
        elif name in unread:
            states.append(FileState(name, "refused", unread[name]))
        elif name in grouped:
            states.append(state)
        else:
            states.append(FileState(name, "skipped", rejected.get(name, Reason.NO_PACKAGE)))
    if len(states) != len(index.files):
        raise AssertionError(f"{len(index.files)} files have {len(states)} states")
    return states


def _png(pixels: Array) -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(pixels).save(stream, format="PNG", optimize=False)
    return stream.getvalue()


def _encoded(value: Json) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode()


def parse_time(text: str) -> datetime:
    """YYYYMMDDHHMMSS or ISO 8601, to the second and without a zone. Raises ConfigError otherwise."""
    try:
        if re.fullmatch(r"\d{14}", text):
            return datetime.strptime(text, "%Y%m%d%H%M%S")
        return datetime.fromisoformat(text).replace(microsecond=0, tzinfo=None)
    except ValueError as error:
        raise ConfigError(
            f"--content-time: found '{text}'; allowed is 20260131120000 or 2026-01-31T12:00:00", Reason.CONFIG_INVALID
        ) from error
