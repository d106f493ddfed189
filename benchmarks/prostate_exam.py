"""What a prostate exam costs: `python benchmarks/prostate_exam.py [--maker M] [--form F] [--package DIR] [--repeat N]`.

A synthetic exam of T2W, diffusion (all b-values) and ADC is chosen among all series of its study and read into one
image with the others beside it. Told are the seconds of index, choice and reading, and the peak memory of the process;
with `--package`, the wall time of whole runs beside the seconds of decoding and network, and the peak of each process.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from pathlib import Path
from time import perf_counter
from typing import get_args

from mammography_exam import answered

from imaging.dicom.exam import read_exam
from imaging.dicom.index import build_index
from imaging.dicom.select import Volumes
from imaging.modalities.prostate.selection import T2W, select
from imaging.phantoms.prostate.dicom import objects
from imaging.phantoms.prostate.makers import MriMakerName
from imaging.phantoms.prostate.study import Form, ProstateStudy, planted_lesions
from imaging.phantoms.ultrasound.dicom import file_bytes

TARGET, MOST_MIB = 1.3, 3072


def write_exam(folder: Path, maker: MriMakerName, form: Form) -> int:
    """Every series of the study; how many files."""
    files = 0
    for name, dataset in objects(ProstateStudy(maker, seed=3, lesions=planted_lesions(3), form=form)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file_bytes(dataset))
        files += 1
    return files


def tell_reading(number: int, folder: Path) -> None:
    """Prints one pass from headers to volumes in this process."""
    begin = perf_counter()
    index = build_index(folder)
    indexed = perf_counter()
    group = select(index.series).group
    chosen = perf_counter()
    if group is None:
        raise SystemExit("no series of the study plays a role")
    exam = read_exam(Volumes(group.roles, T2W))
    read = perf_counter()
    if exam.image is None or exam.lost:
        raise SystemExit(f"{len(exam.lost)} frames of the exam cannot be read")
    volumes = {T2W: exam.image, **exam.image.beside}
    shapes = ", ".join(f"{role} {' × '.join(map(str, image.array.shape[1:]))}" for role, image in volumes.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"pass {number}: index {indexed - begin:.2f}, choice {chosen - indexed:.3f}, reading {read - chosen:.2f} s")
    print(f"  {shapes}; peak resident memory {peak:.0f} MiB")


def tell_run(number: int, export: Path, out: Path, args: argparse.Namespace) -> None:
    """Prints one run of the package."""
    run = answered(export, out, args)
    work = run.parts["decode"] + run.parts["network"]
    parts = ", ".join(f"{part} {spent:.2f}" for part, spent in sorted(run.parts.items()))
    print(f"run {number}: {run.wall:.2f} s, of these {run.ready:.2f} once the processes stood ready; {parts}")
    print(f"  over decode + network: {run.wall / work:.2f} in all, {run.ready / work:.2f} once ready (target {TARGET})")
    told = ", ".join(f"{name} {peak:.0f}" for name, peak in sorted(run.peaks.items()))
    print(f"  peak resident memory in MiB (target {MOST_MIB}): {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maker", choices=get_args(MriMakerName), default="siemens")
    parser.add_argument("--form", choices=("classic", "enhanced"), default="classic")
    parser.add_argument("--package", type=Path, help="a model package of prostate MRI; whole runs are timed then too")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="decoder processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        export = Path(place) / "export"
        files = write_exam(export, args.maker, args.form)
        print(f"synthetic exam of {args.maker}, {args.form}, {files} files; load {os.getloadavg()[0]:.1f}")
        for number in range(1, args.repeat + 1):
            tell_reading(number, export)
        for number in range(1, args.repeat + 1 if args.package else 1):
            tell_run(number, export, Path(place) / f"out-{number}", args)


if __name__ == "__main__":
    main()
