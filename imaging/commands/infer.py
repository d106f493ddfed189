"""`imaging infer`: an export in, DICOM results out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from imaging.errors import ConfigError, PackageError, Reason
from imaging.resources import processors

if TYPE_CHECKING:
    from imaging.dicom.archives import Unpacked
    from imaging.exam.context import FactTable
    from imaging.inference.router import RunPlan, StudyTask
    from imaging.package import Package

EXAMPLES = """\
examples:
  imaging infer data_samples/pacs_export --out results
      every study of the export, with the shipped packages
  imaging infer EXPORT --dry-run
      what would run on what, and why not; reads headers only and writes nothing
  imaging infer EXPORT --out results --package my_package --site "Hospital A"
      one package, also on images that state no body part; the site is written into every result

exit status:
  0  every applicable study has its answer
  1  some applicable study has none (nothing could be read, or its report was not released), or there are places of
     the export that could not be looked into; all others are done
  2  the command, a package or the output folder is wrong
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "infer",
        help="read a PACS export and write DICOM results",
        description="Reads every DICOM file below EXPORT and writes coded results (SR, SEG), a page and a summary.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of inference, also those of infer.py."""
    parser.add_argument("export", type=Path, metavar="EXPORT", help="folder of DICOM files, in any structure")
    parser.add_argument("--out", type=Path, metavar="OUT", help="folder for the results (made if missing)")
    parser.add_argument(
        "--package",
        type=Path,
        action="append",
        metavar="DIR",
        default=[],
        help="a model package; may be given several times; default: the packages shipped with this repository. "
        "A package named here also runs on images that state no body part, and one that learnt from phantoms alone on "
        "acquisitions that it never saw: its answer then says so",
    )
    parser.add_argument(
        "--unpack",
        action="store_true",
        help="read zip and tar archives of the export too, within limits; without it an archive is named, and no study "
        "around it is answered with no",
    )
    parser.add_argument("--site", metavar="NAME", help="name of the hospital; default: InstitutionName of each image")
    parser.add_argument(
        "--content-time",
        metavar="T",
        help="time written into the results (2026-01-31T12:00:00), so that two runs give the same bytes; "
        "default: the first run's time when OUT holds results, else now",
    )
    parser.add_argument(
        "--approved-packages",
        type=Path,
        metavar="FILE",
        help="run only packages whose identity (sha256, one per line) stands in FILE",
    )
    _add_object_arguments(parser)
    parser.add_argument(
        "--psa",
        type=Path,
        metavar="FILE",
        help="PSA of prostate exams: a CSV with psa_ng_ml and either StudyInstanceUID or PatientID",
    )
    _add_machine_arguments(parser)


def _add_object_arguments(parser: argparse.ArgumentParser) -> None:
    """Which objects are written, and in which codes."""
    parser.add_argument(
        "--codes",
        choices=["sct", "srt"],
        default="sct",
        help="SNOMED codes of Mammography CAD reports: sct (SNOMED CT, default), or srt, the retired codes that older "
        "mammography workstations know",
    )
    parser.add_argument(
        "--also",
        choices=["pdf"],
        action="append",
        default=[],
        help="write this kind of object too; pdf: every answer, negative and failed ones included, as a readable "
        "report with pictures (Encapsulated PDF). Its pages hold the patient's name and number",
    )
    parser.add_argument(
        "--still-segmentations",
        action="store_true",
        help="segment stills without place in the patient (ultrasound, most mammograms) too, each on a plane of its "
        "own; without it their masks are the outlines of the reports",
    )


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how it runs; of these only `--device` and `--threads` reach the last bits of a result."""
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="decoder processes; default: the number of CPUs, at most 4"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the model process; default: the number of CPUs. Byte-identical results are promised for an "
        "equal number",
    )
    parser.add_argument(
        "--log",
        choices=["text", "json"],
        help="one line per study on standard error, as text or JSON; default: a progress bar on a terminal, else text. "
        "No line holds patient identity",
    )
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs into OUT and answer everything again")
    parser.add_argument(
        "--retry", choices=["failed"], help="also answer again what an earlier run into OUT could not answer"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would run on what and why; write nothing")


def run(args: argparse.Namespace) -> int:
    """Exit status 0 or 1 (see the epilog); raises ImagingError for what is status 2."""
    from imaging.dicom import hush
    from imaging.dicom.archives import unpack_archives
    from imaging.inference.processes import RunLimits
    from imaging.inference.run import InferenceRun, has_failure, parse_time, run_inference
    from imaging.modalities.prostate.psa import read_psa

    hush()
    packages, left_out = _packages(args)
    facts = (read_psa(args.psa),) if args.psa else ()
    if args.dry_run:
        with TemporaryDirectory() as folder:
            staged = unpack_archives(args.export, Path(folder)) if args.unpack else None
            status = _explain(args.export, packages, args.site, facts, staged)
        _tell_left_out(left_out)
        return status
    if args.out is None:
        raise ConfigError("--out: missing; name the folder for the results, or add --dry-run", Reason.CONFIG_INVALID)
    when = parse_time(args.content_time) if args.content_time else None
    cpus = processors().value
    order = InferenceRun(
        export=args.export,
        out=args.out,
        packages=tuple(packages),
        site=args.site,
        content_time=when,
        device=args.device,
        codes=args.codes,
        unpack=args.unpack,
        also=tuple(sorted(set(args.also))),
        still_segmentations=args.still_segmentations,
        facts=facts,
        fresh=args.fresh,
        retry_failed=args.retry == "failed",
        limits=RunLimits(workers=args.workers or min(cpus, 4), threads=args.threads or cpus),
    )
    summary = run_inference(order, _progress(args.log))
    _tell(summary, args.out)
    _tell_left_out(left_out)
    return 1 if has_failure(summary) else 0


def _packages(args: argparse.Namespace) -> tuple[list[Package], list[PackageError]]:
    """The packages to run, and why shipped ones are left out: they need what is not installed. A named one must run."""
    from imaging.package import DESCRIPTION, load_package

    folders = args.package or sorted(shipped_packages().glob(f"*/{DESCRIPTION}"))
    if not folders:
        raise ConfigError(
            "--package: none given and none shipped beside this installation; name a package folder",
            Reason.CONFIG_INVALID,
        )
    packages: list[Package] = []
    left_out: list[PackageError] = []
    for folder in folders:
        try:
            packages.append(load_package(folder.parent if folder.name == DESCRIPTION else folder, bool(args.package)))
        except PackageError as error:
            if args.package or error.reason is not Reason.NOT_INSTALLED:
                raise
            left_out.append(error)
    if args.approved_packages:
        _refuse_unapproved(packages, args.approved_packages)
    return packages, left_out


def _refuse_unapproved(packages: Sequence[Package], approvals: Path) -> None:
    if not approvals.is_file():
        raise ConfigError(f"--approved-packages: {approvals} is not a file", Reason.CONFIG_INVALID)
    lines = approvals.read_text(encoding="utf-8").splitlines()
    approved = {line.split()[0].lower() for line in lines if line.strip() and not line.startswith("#")}
    for package in packages:
        if package.identity not in approved:
            raise ConfigError(
                f"package {package.name}: identity {package.identity} does not stand in {approvals}",
                Reason.CONFIG_INVALID,
            )


def shipped_packages() -> Path:
    """Where a checkout keeps its packages."""
    return Path(__file__).resolve().parents[2] / "data_samples" / "packages"


def _explain(
    export: Path,
    packages: Sequence[Package],
    site: str | None,
    facts: Sequence[FactTable],
    unpacked: Unpacked | None,
) -> int:
    from imaging.dicom.index import build_index
    from imaging.inference.context import assign
    from imaging.inference.router import NotApplicable, plan
    from imaging.inference.run import mr_parts
    from imaging.inference.store import study_folder

    index = build_index(export, site, 1, mr_parts(packages), unpacked)
    planned = plan(index, packages)
    for work in planned.works:
        place = f"{study_folder(work.study_uid)}  {work.package.name}"
        if isinstance(work, NotApplicable):
            print(f"{place}: not applicable: {work.reason.meaning}")
            continue
        images = list(work.group.images())
        print(f"{place}: would read {len(images)} images, {sum(len(ref.source_refs()) for ref in images)} frames")
        if work.group.key:
            _explain_volumes(work, planned)
            continue
        for instance, reason in planned.left_out(work):
            print(f"    leaves out {instance.name}: {reason.meaning}")
    for remark in (*index.remarks.get("", ()), *assign(facts, index, planned).remarks):
        print(remark)
    for file in index.files.values():
        if file.reason:
            print(f"{file.state} {file.path}: {file.reason.meaning}")
    print(f"{len(index.files)} files, {len(index.studies())} studies; nothing was written")
    return 0


def _explain_volumes(work: StudyTask, planned: RunPlan) -> None:
    """Of an exam of volumes: each role with its series, the series left out, and what is said of the choice."""
    from imaging.inference.summary import selection_of

    chosen = selection_of(work, planned.left_out(work))
    for role, series in chosen["roles"].items():
        refusals = {str(ref.instance.refusal.meaning) for ref in work.group.roles[role] if ref.instance.refusal}
        unread = f"; not readable: {'; '.join(sorted(refusals))}" if refusals else ""
        print(f"    {role}: {'; '.join(map(_series_words, series))}{unread}")
    for series in chosen["rejected"]:
        print(f"    leaves out {_series_words(series)}: {series['reason_meaning']}")
    for note in work.group.notes:
        print(f"    {note}")


def _series_words(series: Mapping[str, object]) -> str:
    return f"series {series['series_number']}, {series['instances']} images, UID {series['series_uid']}"


def _outcome(result: dict[str, object]) -> str:
    if result["applicability"] == "not_applicable":
        return f"{result['package']}: not applicable ({result['reason']})"
    reason = f" ({result['reason']})" if result["reason"] else ""
    return f"{result['package']}: finding {result['finding']}, {result['completeness']} read{reason}"


class _Bar:
    """A progress bar on a terminal."""

    def begin(self, frames: int) -> None:
        self._bar = tqdm(total=frames, unit="frame", dynamic_ncols=True)

    def frame(self) -> None:
        self._bar.update()

    def study(self, folder: str, results: Sequence[dict[str, object]]) -> None:
        for result in results:
            self._bar.write(f"{folder}  {_outcome(result)}", file=sys.stderr)


class _Lines:
    """Plain lines for logs: one per study and package."""

    def begin(self, frames: int) -> None:
        print(f"{frames} frames to read", file=sys.stderr)

    def frame(self) -> None:
        """A line per frame would drown the log."""

    def study(self, folder: str, results: Sequence[dict[str, object]]) -> None:
        for result in results:
            print(f"{folder}  {_outcome(result)}", file=sys.stderr, flush=True)


class _JsonLines(_Lines):
    """The same lines as JSON objects, for log collectors."""

    def begin(self, frames: int) -> None:
        print(json.dumps({"event": "begin", "frames": frames}), file=sys.stderr)

    def study(self, folder: str, results: Sequence[dict[str, object]]) -> None:
        for result in results:
            facts = {name: result[name] for name in ("package", "finding", "completeness", "reason", "analysed")}
            print(json.dumps({"event": "study", "folder": folder, **facts}), file=sys.stderr, flush=True)


def _progress(log: str | None) -> _Bar | _Lines:
    if log is None and sys.stderr.isatty():
        return _Bar()
    return _JsonLines() if log == "json" else _Lines()


def _tell(summary: dict[str, list[dict[str, object]]], out: Path) -> None:
    states = [file["state"] for file in summary["files"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("used", "skipped", "refused"))
    print(f"studies {len(summary['studies'])}; files {len(states)}: {counts}")
    print(f"page     {(out / 'index.html').resolve()}")
    print(f"summary  {(out / 'summary.json').resolve()}")


def _tell_left_out(left_out: Sequence[PackageError]) -> None:
    for error in left_out:
        print(f"left out {error}")
