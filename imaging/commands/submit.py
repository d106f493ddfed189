"""`imaging submit`: one training, many times: folds, held-out sites, seeds and arms, as one array or here."""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.cluster.jobs import CommandLine, Job, JobList, write_jobs
from imaging.cluster.settings import Cluster, read_cluster
from imaging.cluster.slurm import SCRIPT, script
from imaging.commands.jobs import CLUSTER, start, unstarted
from imaging.commands.pooling import CASES, PREDICTED, RUN, TESTED, PooledDesign, write_design
from imaging.errors import ConfigError, OutputError, Reason

if TYPE_CHECKING:
    from imaging.data.folds import FoldMember
    from imaging.data.manifest import Case

EXAMPLES = """\
What follows -- is the line of one training, without --run and --resume: that of train.py, or of imaging train-package.

examples:
  imaging submit runs/folds --folds 5 --cluster cluster.yaml --card card.yaml \\
      --score "segmentation --label lesion=255" -- fit -c configs/trainer.yaml -c configs/task/segmentation.yaml \\
      -c configs/recipe/ultrasound.yaml --data.manifest cases/manifest.csv
      five trainings; the last one to end pools the patients of all folds: runs/folds/pooled/all/metrics.json
  imaging submit runs/sites --hold-out all --seeds 1 2 3 --jobs 2 -- fit -c my.yaml --data.manifest cases/manifest.csv
      each site held out three times, here, two at once
  imaging submit runs/breast --cluster cluster.yaml -- train-package breast_us --data downloads/BUSI

A folder RUN holds jobs.json, job.sh (--dry-run prints it), and for each job jobs/NAME with its log over all tries.
The same line twice sends nothing twice. `imaging jobs RUN` says how the jobs stand. Cases of the split test are kept
out of all folds.
"""
_GIVEN = ("--run", "--resume", "--seed_everything", "--data.seed", "--data.test_sites", "--work", "--out")


@dataclass(frozen=True)
class ArmFile:
    """A variant of the training: a name and a configuration that is read last."""

    name: str
    config: Path | None = None


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "submit",
        help="train folds, held-out sites, seeds and arms as one SLURM array, or here",
        description="Every combination is a job that goes on where it was stopped. Research use only.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder for all jobs")
    parser.add_argument("line", nargs="+", metavar="LINE", help="after --: fit ..., or train-package ...")
    parser.add_argument("--folds", type=int, metavar="N", help="patients dealt by site and label; each tested once")
    parser.add_argument("--hold-out", nargs="+", default=[], metavar="SITE", help="sites held out in turn, or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="S", help="of weights, order and variation")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME=FILE", help="a configuration read last")
    parser.add_argument("--card", type=Path, metavar="FILE", help="package each network with it, and predict its cases")
    parser.add_argument("--score", metavar="WORDS", help="pool the predictions: words of imaging evaluate")
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="cluster.yaml: partition, time, GPUs, set-up lines"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="run here, N at once")
    parser.add_argument("--dry-run", action="store_true", help="print script and jobs, and do nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 where a job that ran here failed; raises ImagingError."""
    cluster = Cluster() if args.cluster is None else read_cluster(args.cluster)
    folder = args.folder.resolve()
    _refuse(args, cluster)
    plan = _Plan(args, folder, cluster)
    jobs = plan.package_jobs() if args.line[0] == "train-package" else plan.fit_jobs()
    text = script(folder, f"imaging-{folder.name}", cluster)
    if args.dry_run:
        print(text)
        print(f"# --array=0-{len(jobs.jobs) - 1}")
        for number, job in enumerate(jobs.jobs):
            print("\n".join(f"# {number} {job.name}: {shlex.join(line.words)}" for line in job.lines))
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_jobs(jobs)
        plan.write_tables()
        (folder / SCRIPT).write_text(text, encoding="utf-8")
        settings = "{}\n" if args.cluster is None else args.cluster.read_text(encoding="utf-8")
        (folder / CLUSTER).write_text(settings, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error
    return start(jobs, unstarted(jobs), args.jobs)


def _refuse(args: argparse.Namespace, cluster: Cluster) -> None:
    """Raises ConfigError for words that do not belong together."""
    kind, *words = args.line
    named = {word.partition("=")[0] for word in words}
    many = [name for name in ("folds", "hold_out", "seeds", "arm", "card", "score") if getattr(args, name)]
    checks = (
        ("LINE", kind, kind not in ("fit", "train-package"), "fit or train-package, after --"),
        ("LINE", sorted(named & set(_GIVEN)), bool(named & set(_GIVEN)), "none of them: this command gives them"),
        ("LINE", f"train-package with {many}", kind == "train-package" and bool(many), "fit, for these options"),
        (
            "LINE",
            f"train-package with {cluster.nodes} nodes of {cluster.per_node} processes",
            kind == "train-package" and cluster.nodes * cluster.per_node > 1,
            "one process: nodes: 1 and processes: 1",
        ),
        ("--score", args.score, bool(args.score) and args.card is None, "beside --card, which makes predictions"),
        (
            "--score",
            args.score,
            bool(args.score) and args.score.split()[0] not in ("segmentation", "detection"),
            "segmentation or detection with options of imaging evaluate",
        ),
        ("--score", args.score, bool(args.score) and not (args.folds or args.hold_out), "beside --folds or --hold-out"),
        ("--card", args.card, bool(args.card) and not args.card.is_file(), "a card: imaging package --new-card"),
    )
    for name, found, is_wrong, allowed in checks:
        if is_wrong:
            raise ConfigError(f"{name}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)


class _Plan:
    """The jobs of a command, and the tables of their cases."""

    def __init__(self, args: argparse.Namespace, folder: Path, cluster: Cluster) -> None:
        self.args = args
        self.folder = folder
        self.cluster = cluster
        self.words: list[str] = args.line[1:]
        self.members: dict[str, FoldMember] = {}
        self.groups: dict[str, list[str]] = {}

    def package_jobs(self) -> JobList:
        """One job; the command prepares, trains and packages."""
        name = self.words[0] if self.words else "package"
        place = self.folder / "jobs" / name
        line = CommandLine((*_imaging("train-package"), *self.words, f"--work={place}"), str(place / "package"))
        return JobList(self.folder, (Job(name, (line,)),))

    def fit_jobs(self) -> JobList:
        """One job for each arm, seed, held-out site and fold."""
        arms = [_arm(text) for text in self.args.arm] or [ArmFile("")]
        members = list(self._members())
        jobs = []
        for arm, seed, member in itertools.product(arms, self.args.seeds or [None], members):
            of = "-".join([*([arm.name] if arm.name else []), *([] if seed is None else [f"seed-{seed}"])])
            name = "-".join(part for part in (of, "" if member is None else member.name) if part) or "all"
            self.groups.setdefault(of or "all", []).append(name)
            if member is not None:
                self.members[name] = member
            jobs.append(Job(name, tuple(self._lines(name, arm, seed, member))))
        names = [job.name for job in jobs]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"--seeds, --hold-out, --arm: found jobs of one name among {names}; allowed are different ones",
                Reason.CONFIG_INVALID,
            )
        last = (CommandLine((*_imaging("jobs"), str(self.folder), "--pool")),) if self.args.score else ()
        return JobList(self.folder, tuple(jobs), last)

    def write_tables(self) -> None:
        """The cases of every member, and what is pooled in the end."""
        from imaging.data.manifest import write_manifest

        for name, member in self.members.items():
            place = self.folder / "jobs" / name
            write_manifest(place / CASES, (*member.cases, *member.tested))
            write_manifest(place / TESTED, member.tested)
        if self.args.score:
            design = PooledDesign(str(self._manifest().resolve()), self.groups, shlex.split(self.args.score))
            write_design(self.folder, design)

    def _members(self) -> Iterator[FoldMember | None]:
        if not self.args.folds and not self.args.hold_out:
            yield None
            return
        from imaging.data.folds import members
        from imaging.data.manifest import read_manifest

        cases = [_absolute(case) for case in read_manifest(self._manifest())]
        sites = {case.site for case in cases} if self.args.hold_out == ["all"] else set(self.args.hold_out)
        kept = sum(case.split == "test" for case in cases)
        if kept:
            print(f"imaging submit: {kept} cases of the split test are in no fold", file=sys.stderr)
        yield from members(cases, self.args.folds, sites)

    def _manifest(self) -> Path:
        """The table that the line names. Raises ConfigError."""
        for number, word in enumerate(self.words):
            name, sign, value = word.partition("=")
            if name == "--data.manifest":
                return Path(value if sign else self.words[number + 1])
        raise ConfigError(
            "LINE: found no --data.manifest; allowed is one, from which folds and held-out sites are made",
            Reason.CONFIG_INVALID,
        )

    def _lines(self, name: str, arm: ArmFile, seed: int | None, member: FoldMember | None) -> Iterator[CommandLine]:
        place = self.folder / "jobs" / name
        words = [sys.executable, "-m", "imaging.commands.train", "fit", *self.words]
        words += [] if arm.config is None else [f"--config={arm.config.resolve()}"]
        words += [f"--run={place / RUN}", "--resume=auto"]
        words += [] if seed is None else [f"--seed_everything={seed}", f"--data.seed={seed}"]
        if member is not None:
            words.append(f"--data.manifest={place / CASES}")
        if member is not None and member.site is not None:
            words.append(f"--data.test_sites=[{member.site!r}]")
        if self.cluster.per_node * self.cluster.nodes > 1:
            words += [f"--trainer.devices={self.cluster.per_node}", f"--trainer.num_nodes={self.cluster.nodes}"]
        yield CommandLine(tuple(words), is_parallel=True)
        if self.args.card is None:
            return
        package = str(place / "package")
        card = str(self.args.card.resolve())
        yield CommandLine((*_imaging("package"), str(place / RUN), "--card", card, "--out", package), package)
        if member is not None:
            made = str(place / PREDICTED)  # a case that cannot be read counts as a failure in the figures
            yield CommandLine((*_imaging("predict"), package, str(place / TESTED), "--out", made), made, accepts=(0, 1))


def _imaging(command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "imaging", command)


def _arm(text: str) -> ArmFile:
    """NAME=FILE. Raises ConfigError."""
    name, _, file = text.partition("=")
    if not name.replace("-", "").replace("_", "").isalnum() or not Path(file).is_file():
        raise ConfigError(
            f"--arm: found '{text}'; allowed is NAME=FILE, letters and digits, and a configuration that is there",
            Reason.CONFIG_INVALID,
        )
    return ArmFile(name, Path(file))


def _absolute(case: Case) -> Case:
    """Files by their whole names: the tables of members lie elsewhere."""
    return replace(
        case,
        image=case.image.resolve(),
        truth=None if case.truth is None else case.truth.resolve(),
        organ=None if case.organ is None else case.organ.resolve(),
        beside=_resolved(case.beside),
    )


def _resolved(files: Mapping[str, Path]) -> dict[str, Path]:
    return {role: path.resolve() for role, path in files.items()}
