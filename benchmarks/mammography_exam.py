"""What an exam of full size costs: `python benchmarks/mammography_exam.py --package DIR [--repeat N]`.

Four views of 4000 × 3000 pixels of 16 bits in JPEG 2000 (lossless) are answered into a new folder. Told are the wall
time beside the seconds of decoding and network, with and without the start of the processes, which a run pays once,
and the peak memory of every process. The views are a coarse phantom's, made fine, with grain that keeps the codec busy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
from pydicom.encaps import encapsulate
from scipy import ndimage

from imaging.inference.ledger import Status
from imaging.phantoms.mammography.dicom import jpeg_2000, mammogram
from imaging.phantoms.mammography.export import MammographyExam, planted
from imaging.phantoms.mammography.makers import TRANSFER_SYNTAXES
from imaging.phantoms.mammography.view import ViewAcquisition, stored
from imaging.phantoms.ultrasound.dicom import Patient, file_bytes

REPOSITORY = Path(__file__).resolve().parent.parent
SHAPE = (4000, 3000)
GRAIN = 12.0  # standard deviation in stored values of 12 bits, of the order of quantum noise in a processed picture
TARGET, MOST_MIB = 1.5, 2560
NAMES = {"imaging.dicom.index": "header reader", "imaging.dicom.exam": "decoder", "imaging.predictor": "model",
         "imaging.report.write": "reports"}  # fmt: skip


def write_exam(folder: Path) -> float:
    """The four views; their size in MiB."""
    exam = MammographyExam("hologic", Patient("0001", "Phantom^Exam"), 3, planted(3), pitch_mm=0.4)
    folder.mkdir()
    for number, view in enumerate(exam.views, start=1):
        (folder / f"{number}.dcm").write_bytes(full_size(view, number))
    return sum(path.stat().st_size for path in folder.iterdir()) / 2**20


def full_size(view: ViewAcquisition, seed: int) -> bytes:
    """The view's file with pixels of SHAPE."""
    coarse, ds = stored(view), mammogram(view)
    factors = [fine / side for fine, side in zip(SHAPE, coarse.shape, strict=True)]
    pixels = ndimage.zoom(coarse.astype(np.float32), factors, order=1)
    pixels += np.random.default_rng(seed).normal(0, GRAIN, SHAPE) * (pixels > pixels.min() + 8)
    ds.Rows, ds.Columns = SHAPE
    ds.ImagerPixelSpacing = [f"{view.pitch_mm / factor:.5g}" for factor in factors]
    ds.PixelData = encapsulate([jpeg_2000(np.clip(np.rint(pixels), 0, 4095).astype(np.uint16), ds.BitsStored)])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES["jpeg2000"]
    return file_bytes(ds)


@dataclass(frozen=True)
class Run:
    """Seconds of a run: in all, from the moment when all processes stood ready, and by part; peak MiB by process."""

    wall: float
    ready: float
    parts: dict[str, float]
    peaks: dict[str, float]


def answered(export: Path, out: Path, args: argparse.Namespace) -> Run:
    words = [REPOSITORY / "infer.py", export, "--out", out, "--package", args.package, "--log", "json"]
    words += ["--workers", args.workers, "--threads", args.threads]
    peaks: dict[int, tuple[str, float]] = {}
    log = out.with_suffix(".log")
    with log.open("wb") as stream:
        begin = ready = perf_counter()
        run = subprocess.Popen([sys.executable, *map(str, words)], stdout=stream, stderr=stream)
        while run.poll() is None:
            for pid, (name, peak) in measured(run.pid).items():
                peaks[pid] = (name, max(peak, peaks.get(pid, ("", 0.0))[1]))
            if ready == begin and '"begin"' in log.read_text():
                ready = perf_counter()
            sleep(0.05)
    end = perf_counter()
    if run.returncode:
        raise SystemExit(f"infer.py ended with status {run.returncode}\n{log.read_text()}")
    highest = {kind: max(peak for name, peak in peaks.values() if name == kind) for kind, _ in peaks.values()}
    return Run(end - begin, end - ready, Status(out).seconds, highest)


def measured(parent: int) -> dict[int, tuple[str, float]]:
    """The highest resident memory so far, in MiB, of a process and of all below it."""
    found: dict[int, tuple[str, float]] = {}
    waiting = [parent]
    while waiting:
        pid = waiting.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            waiting += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:  # it has ended
            continue
        name = next((name for module, name in NAMES.items() if module in words), "parent")
        for line in status.splitlines():
            if line.startswith("VmHWM"):  # one that has ended and is not yet reaped has none
                found[pid] = (name, int(line.split()[1]) / 1024)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="the model package, of mammography")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="decoder processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        size = write_exam(Path(place) / "export")
        print(f"four views of {SHAPE[0]} × {SHAPE[1]}, {size:.1f} MiB; load {os.getloadavg()[0]:.1f}")
        for number in range(args.repeat):
            tell(number + 1, answered(Path(place) / "export", Path(place) / f"out-{number}", args))


def tell(number: int, run: Run) -> None:
    """Prints a run: seconds, their ratios, memory."""
    parts = ", ".join(f"{part} {spent:.2f}" for part, spent in sorted(run.parts.items()))
    print(f"run {number}: {run.wall:.2f} s, of these {run.ready:.2f} once the processes stood ready; {parts}")
    work = run.parts["decode"] + run.parts["network"]
    harmonised = work + run.parts["harmonise"]
    for name, seconds in (("decode + network", work), ("decode + harmonise + network", harmonised)):
        print(f"  over {name}: {run.wall / seconds:.2f} in all, {run.ready / seconds:.2f} once ready (target {TARGET})")
    told = ", ".join(f"{name} {peak:.0f}" for name, peak in sorted(run.peaks.items()))
    print(f"  peak resident memory in MiB (target {MOST_MIB}): {told}")


if __name__ == "__main__":
    main()
