"""`imaging site-kit`: a benchmark at hospitals whose images may not leave."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.errors import ConfigError, Reason

if TYPE_CHECKING:
    from imaging.benchmark.kit import KitFolder
    from imaging.benchmark.record import BenchmarkResult
    from imaging.data.manifest import Case

EXAMPLES = """\
examples:
  who asks:
    imaging site-kit make SPEC.yaml --package recipe=work/a --package strong=work/b --out KIT
  at each hospital, offline, as an ordinary user; KIT and the images are only read:
    imaging site-kit prepare KIT --manifest TABLE.csv --work WORK      cases become numbers
    imaging site-kit check KIT --manifest TABLE.csv --work WORK        every image and truth is read
    imaging site-kit infer KIT --manifest TABLE.csv --work WORK        goes on where it stopped
    imaging site-kit evaluate KIT --manifest TABLE.csv --work WORK
    imaging site-kit statistics KIT --work WORK                        WORK/site.json is handed back
  who asked:
    imaging site-kit merge KIT a/site.json b/site.json --out DIR       exactly one run over all cases

site.json holds what each network made of each case, by the case's number in the hospital's own table, and no name,
identifier, date, path or picture; labels, scanners and protocols of fewer than five patients are left out, and nothing
is handed back of fewer than five patients. KIT/medperf has the same steps as containers of MedPerf.

exit status:
  0  done
  1  check: some cases cannot be used; they are named by number with their reason
  2  the command, the kit, the table or a folder is wrong
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "site-kit",
        help="run a benchmark where images may not leave",
        description="Networks go to a hospital as a folder; one file without patients comes back. Research use only.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    one = actions.add_parser("make", help="packages and a spec as a folder that goes to hospitals")
    one.add_argument("spec", type=Path, metavar="SPEC.yaml", help="what is compared: a spec of `imaging benchmark`")
    one.add_argument("--package", action="append", metavar="ARM=DIR", required=True, help="a network; may be repeated")
    one.add_argument("--out", type=Path, required=True, metavar="KIT", help="the folder to write")
    one.set_defaults(run=_make)
    for name, run, told in (
        ("prepare", _prepare, "number the cases of the hospital's table"),
        ("check", _check, "read every image and truth as the networks will"),
        ("infer", _infer, "every network on every case"),
        ("evaluate", _evaluate, "what the networks said beside the truth"),
        ("statistics", _statistics, "the hospital's figures, and the file to hand back"),
    ):
        one = actions.add_parser(name, help=told)
        one.add_argument("kit", type=Path, metavar="KIT", help="the kit's folder")
        one.add_argument("--work", type=Path, required=True, metavar="WORK", help="a folder of the hospital's")
        if name != "statistics":
            whose = "table of the hospital's cases (CSV)"
            one.add_argument("--manifest", type=Path, required=name == "prepare", metavar="TABLE", help=whose)
        if name == "prepare":
            one.add_argument("--copy", action="store_true", help="copy all files too, and need no TABLE afterwards")
        else:
            one.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: WORK)")
        if name == "evaluate":
            one.add_argument("--answers", type=Path, metavar="DIR", help="what `infer` wrote (default: WORK)")
        one.set_defaults(run=run)
    one = actions.add_parser("merge", help="files of several hospitals as one result")
    one.add_argument("kit", type=Path, metavar="KIT", help="the kit's folder")
    one.add_argument("files", type=Path, nargs="+", metavar="FILE", help="site.json of a hospital")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results.json and the page")
    one.set_defaults(run=_merge)


def _make(args: argparse.Namespace) -> int:
    from imaging.benchmark.kit import make_kit
    from imaging.benchmark.spec import read_spec
    from imaging.benchmark.summary import refuse_endpoints

    spec = read_spec(args.spec)
    refuse_endpoints(spec)
    kit = make_kit(spec, [_package(text) for text in args.package], args.out)
    print(f"{args.out}: {len(kit.networks)} networks of {len(kit.facts.arms)} arms, kit {kit.identity[:12]}")
    return 0


def _package(text: str) -> tuple[str, Path]:
    arm, _, folder = text.partition("=")
    if not arm or not folder:
        raise ConfigError(f"--package: found '{text}'; allowed is ARM=DIR", Reason.CONFIG_INVALID)
    return arm, Path(folder)


def _prepare(args: argparse.Namespace) -> int:
    from imaging.benchmark.kit import read_kit
    from imaging.benchmark.site_cases import prepare

    cases = prepare(read_kit(args.kit).kit, args.manifest, args.work, args.copy)
    print(f"{len(cases)} cases of {len({case.patient_id for case in cases})} patients")
    return 0


def _check(args: argparse.Namespace) -> int:
    from imaging.benchmark.site_steps import check

    held, cases = _held(args)
    with _progress("check") as show:
        faults = check(held, cases, args.out or args.work, show)
    for case_id, reason in faults.items():
        print(f"{case_id}: {reason}")
    print(f"{len(cases)} cases, {len(faults)} of them cannot be used")
    return 1 if faults else 0


def _infer(args: argparse.Namespace) -> int:
    from imaging.benchmark.site_steps import infer

    held, cases = _held(args)
    with _progress("infer") as show:
        infer(held, cases, args.out or args.work, show)
    print(f"{len(cases)} cases, {len(held.kit.networks)} networks")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from imaging.benchmark.site_steps import evaluate

    held, cases = _held(args)
    with _progress("evaluate") as show:
        trials = evaluate(held, cases, args.answers or args.work, args.out or args.work, show)
    failed = sum(bool(outcome.failed) for trial in trials for outcome in trial.outcomes)
    print(f"{sum(len(trial.outcomes) for trial in trials)} outcomes, {failed} of them without an answer")
    return 0


def _statistics(args: argparse.Namespace) -> int:
    from imaging.benchmark.kit import read_kit
    from imaging.benchmark.site_steps import HANDED_BACK, statistics

    out = args.out or args.work
    _write(statistics(read_kit(args.kit).kit, args.work, out), out)
    print(f"hand back  {out / HANDED_BACK}")
    return 0


def _merge(args: argparse.Namespace) -> int:
    from imaging.benchmark.kit import read_kit
    from imaging.benchmark.site_steps import merge

    _write(merge(read_kit(args.kit).kit, args.files), args.out)
    return 0


def _held(args: argparse.Namespace) -> tuple[KitFolder, list[Case]]:
    from imaging.benchmark.kit import read_kit
    from imaging.benchmark.site_cases import read_cases

    return read_kit(args.kit), read_cases(args.work, args.manifest)


def _write(result: BenchmarkResult, out: Path) -> None:
    from imaging.benchmark.jobs import write_whole
    from imaging.benchmark.summary import write_page

    write_whole(out / "results.json", result.to_json())
    write_page(result, out)
    print(f"results    {out / 'results.json'}\npage       {out / 'index.html'}")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    from imaging.commands.data import progress_bar

    with progress_bar(name) as show:
        yield show
