"""What the way through DICOM costs on real pictures: `python benchmarks/real_path.py --package DIR --set busi ...`.

The pictures of a split go two ways through one package: wrapped as four vendors would store them, by `infer.py` to
results in DICOM and by `imaging evaluate` to figures; and as plain pictures straight through the predictor. Both are
scored against the same truths: Dice of each case with something to find, a miss counts 0; of the other cases the share
that was marked. What differs is told per encoding, JPEG apart from the lossless ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from imaging.data.images import read_image
from imaging.data.manifest import Case, read_manifest
from imaging.data.predicted import predicted_findings, read_results
from imaging.data.public import prepare
from imaging.data.run_results import RunFolder, read_run
from imaging.data.truth import read_mask
from imaging.errors import ImagingError
from imaging.evaluation.result import EvaluationResult
from imaging.findings import Rating
from imaging.harmonise.intensity import ToLuminance
from imaging.harmonise.spatial import to_tensor
from imaging.image import Image, SourceRef
from imaging.package import Package, load_package
from imaging.phantoms.ultrasound.dicom import file_bytes
from imaging.phantoms.ultrasound.screen import VENDORS, Encoding, VendorLetter
from imaging.phantoms.ultrasound.wrapping import LOSSLESS, BodyPart, place, wrap
from imaging.predictor import load_predictor

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS: dict[str, BodyPart] = {"busi": "BREAST", "hc18": "FETALHEAD"}
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Wrapped:
    """One case as an object of the export. `box` is the picture's on the frame, half-open."""

    case: Case
    vendor: VendorLetter
    encoding: Encoding
    box: tuple[int, int, int, int]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Score:
    """What one way said of one case: its Dice, None where nothing is to be found, and whether anything was marked."""

    dice: float | None
    is_marked: bool
    failed: str = ""


def encoding_of(vendor: VendorLetter, wanted: str) -> Encoding:
    """How a vendor's object is stored: as the vendor does, as JPEG, or without loss (B, who has JPEG, then as RGB)."""
    own = VENDORS[vendor].encoding
    if wanted == "jpeg":
        return "YBR_FULL_422"
    return own if wanted == "own" or own in LOSSLESS else "RGB"


def picture_of(case: Case) -> Image:
    """The case's picture as an image that is tissue all over."""
    image = read_image(case.image, case.site, case.spacing_mm)
    ref = SourceRef(case.patient_id, case.case_id, "", case.case_id)
    return replace(image, refs=(ref,), region=image.grid.whole)


def write_export(cases: Sequence[Case], args: argparse.Namespace) -> list[Wrapped]:
    """OUT/export/CASE.dcm and OUT/truth/CASE.png (0 and 255 on the grid of the frame), vendors in turn."""
    for name in ("export", "truth"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    made = []
    for number, case in enumerate(cases):
        vendor = args.vendors[number % len(args.vendors)]
        image = picture_of(case)
        pixels = np.rint(ToLuminance(image.channels)(to_tensor(image)).numpy()[0]).astype(np.uint8)
        stored_as = encoding_of(vendor, args.encoding)
        ds = wrap(pixels, case.spacing_mm, vendor, case.case_id, 1, PARTS[args.set], stored_as)
        (args.out / "export" / f"{case.case_id}.dcm").write_bytes(file_bytes(ds))
        shape, box = place((pixels.shape[0], pixels.shape[1]), vendor)
        frame = np.zeros(shape, dtype=np.uint8)
        frame[box[0] : box[2], box[1] : box[3]] = read_mask(case.truth, image) * 255
        Picture.fromarray(frame).save(args.out / "truth" / f"{case.case_id}.png")
        made.append(Wrapped(case, vendor, stored_as, box, shape))
    return made


def infer(args: argparse.Namespace) -> RunFolder:
    """Runs `infer.py` on the export, with results below OUT/results."""
    words = [sys.executable, REPOSITORY / "infer.py", args.out / "export", "--out", args.out / "results", "--fresh"]
    words += ["--package", args.package, "--workers", args.workers, "--threads", args.threads, "--log", "json"]
    run("infer.py", words, args.out / "infer.log")
    return read_run(args.out / "results")


def run(name: str, words: Sequence[object], log: Path) -> str:
    """What a command prints. Its exit status may be 0 or 1 (some case failed, and is counted); a copy goes to `log`."""
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False, cwd=REPOSITORY)
    log.write_bytes(done.stdout + done.stderr)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{name} ended with status {done.returncode}; see {log}\n{done.stderr.decode()[-2000:]}")
    return done.stdout.decode()


def evaluate(wrapped: Sequence[Wrapped], label: str, args: argparse.Namespace) -> list[Score]:
    """Runs `imaging evaluate segmentation` on the run and prints its figures; a score per case."""
    figures = evaluate_by("segmentation", wrapped, "masks", ["--label", f"{label}=255"], args.out)
    print("\n".join(line for line in figures if line.startswith(f"{label} ")))
    result = EvaluationResult.from_json((args.out / "scores-masks" / "metrics.json").read_text(encoding="utf-8"))
    found = {}
    for case in result.segmentation:
        [overlap] = case.overlaps
        is_marked = overlap.state in ("both", "false_positive_on_empty")
        found[case.case_id] = Score(overlap.dice, is_marked, case.failed)
    return [found[one.case.case_id] for one in wrapped]


def evaluate_by(task: str, wrapped: Sequence[Wrapped], name: str, words: Sequence[object], out: Path) -> list[str]:
    """The lines that `imaging evaluate` prints of the run below OUT on these cases."""
    table = out / f"cases-{name}.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(["case_id", "patient_id", "site", "image", "truth", "spacing_mm", "encoding", "label"])
        for one in wrapped:
            case, spacing = one.case, "x".join(str(step) for step in one.case.spacing_mm or ())
            files = (f"export/{case.case_id}.dcm", f"truth/{case.case_id}.png")
            lines.writerow([case.case_id, case.patient_id, case.site, *files, spacing, one.encoding, case.label])
    command = [sys.executable, "-m", "imaging", "evaluate", task, "--run", out / "results", "--manifest", table]
    command += ["--out", out / f"scores-{name}", "--resamples", "1000", *words]
    return run("imaging evaluate", command, out / f"evaluate-{name}.log").splitlines()


def rate(wrapped: Sequence[Wrapped], rating: Rating, args: argparse.Namespace) -> None:
    """Prints how well the stated probability ranks its positive class, against the negative one and against all."""
    for name, members in (("lesions", (rating.positive, rating.negative)), ("all", None)):
        rated = [one for one in wrapped if members is None or one.case.label in members]
        positive = ["--positive", f"label={rating.positive}"]
        lines = evaluate_by("classification", rated, name, positive, args.out)
        print(f"{rating.name} among {len(rated)} cases ({name}):")
        print("\n".join(f"  {line}" for line in lines if not line.startswith(("metrics", "page"))))


def measure(wrapped: Sequence[Wrapped], held: RunFolder, args: argparse.Namespace) -> None:
    """Prints how far the reported head circumference is from the published one, a missing one told apart."""
    published = published_circumferences(args.data)
    apart, missing = [], 0
    for one in wrapped:
        found = circumferences(held.answer(args.out / "export" / f"{one.case.case_id}.dcm").files)
        if len(found) == 0:
            missing += 1
            continue
        apart.append(max(found) - published[one.case.image.name])
    error = np.abs(apart)
    draws = np.random.default_rng(1).choice(error, (2000, len(error))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    print(f"head circumference, {len(apart)} heads, {missing} without one: mean absolute error {error.mean():.2f} mm "
          f"({low:.2f}-{high:.2f}), bias {np.mean(apart):+.2f} mm, largest {error.max():.2f} mm")  # fmt: skip


def circumferences(files: Sequence[Path]) -> list[float]:
    findings = read_results(files).findings if files else []
    return [m.value for f in findings for m in f.measures
            if m.value is not None and m.concept and m.concept.meaning == "Circumference"]  # fmt: skip


def published_circumferences(data: Path) -> dict[str, float]:
    """Circumference in millimetres by the picture's file name, from the curated or the published table of HC18."""
    curated = data / "manifest.csv"
    table = curated if curated.is_file() else data / "training_set_pixel_size_and_HC.csv"
    name, value = ("image", "hc_mm") if curated.is_file() else ("filename", "head circumference (mm)")
    with table.open(newline="", encoding="utf-8-sig") as stream:
        return {Path(row[name]).name: float(row[value]) for row in csv.DictReader(stream)}


def masks_through_dicom(wrapped: Sequence[Wrapped], held: RunFolder, out: Path) -> list[Bools | None]:
    """What the results mark on each frame; None where there is no result."""
    found: list[Bools | None] = []
    for one in wrapped:
        path = out / "export" / f"{one.case.case_id}.dcm"
        try:
            masks = predicted_findings(read_results(held.answer(path).files), read_image(path))
        except ImagingError:
            found.append(None)
            continue
        found.append(np.any([mask for mask, _ in masks], axis=0) if masks else np.zeros(one.shape, dtype=np.bool_))
    return found


def on_picture(one: Wrapped, marked: Bools | None) -> tuple[Bools | None, int]:
    """A frame's mask on the picture's grid, and how many pixels it marks outside the picture."""
    if marked is None:
        return None, 0
    top, left, bottom, right = one.box
    inside = marked[top:bottom, left:right]
    return inside, int(marked.sum() - inside.sum())


def predict(cases: Sequence[Case], package: Package, threads: int) -> list[tuple[Score, Bools | None]]:
    """The same package on the plain pictures: score and mask of each."""
    predictor = load_predictor(package, threads=threads)
    found: list[tuple[Score, Bools | None]] = []
    for case in cases:
        image = picture_of(case)
        truth = read_mask(case.truth, image) > 0
        try:
            reading = predictor.read(image)
        except ImagingError as error:
            found.append((Score(0.0 if truth.any() else None, False, str(error)), None))
            continue
        mask = np.zeros_like(truth)
        for finding in reading.findings:
            (row, column), (rows, columns) = finding.mask_origin, finding.mask.shape
            mask[row : row + rows, column : column + columns] |= finding.mask
        dice = 2 * float((mask & truth).sum()) / float(mask.sum() + truth.sum()) if truth.any() else None
        found.append((Score(dice, bool(mask.any())), mask))
    return found


def told(scores: Sequence[Score]) -> str:
    """Mean Dice over the cases with something to find, misses, the share of the others that was marked, failures."""
    dice = [score.dice for score in scores if score.dice is not None]
    empty = [score for score in scores if score.dice is None]
    marked = sum(score.is_marked for score in empty)
    mean = f"Dice {fmean(dice):.4f} of {len(dice)} ({sum(d == 0 for d in dice)} at 0)" if dice else "Dice - of 0"
    return f"{mean}, marked {marked} of {len(empty)} without truth, {sum(bool(s.failed) for s in scores)} failed"


def compare(
    wrapped: Sequence[Wrapped],
    by_dicom: Sequence[tuple[Score, Bools | None]],
    direct: Sequence[tuple[Score, Bools | None]],
) -> dict[str, dict[str, object]]:
    """Both ways by encoding and for all lossless ones, printed and as a record."""
    kinds: dict[str, tuple[Encoding, ...]] = {"lossless": LOSSLESS, **{name: (name,) for name in get_args(Encoding)}}
    record: dict[str, dict[str, object]] = {}
    for name, members in kinds.items():
        places = [k for k, one in enumerate(wrapped) if one.encoding in members]
        if not places:
            continue
        pairs = [(by_dicom[k][0].dice, direct[k][0].dice) for k in places]
        apart = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        bias = [a - b for a, b in pairs if a is not None and b is not None]
        marked = [on_picture(wrapped[k], by_dicom[k][1]) for k in places]
        masks = [(inside, direct[k][1]) for (inside, _), k in zip(marked, places, strict=True)]
        equal = sum(a is not None and b is not None and np.array_equal(a, b) for a, b in masks)
        outside = sum(pixels > 0 for _, pixels in marked)
        difference = f"mean {fmean(bias):+.5f}, largest {max(apart):.5f}" if apart else "nothing to compare"
        ways = {"dicom": told([by_dicom[k][0] for k in places]), "direct": told([direct[k][0] for k in places])}
        record[name] = {
            **ways,
            "cases": len(places),
            "difference": difference,
            "equal_masks": equal,
            "marked_outside": outside,
        }
        print(f"{name}: {len(places)} cases")
        print(f"  through DICOM  {ways['dicom']}")
        print(f"  directly       {ways['direct']}")
        print(f"  Dice, DICOM - direct: {difference}")
        print(
            f"  masks equal bit by bit on the picture in {equal} of {len(places)}; in {outside} also marks outside it"
        )
    return record


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="the model package")
    parser.add_argument("--set", choices=sorted(PARTS), required=True, help="the public set")
    parser.add_argument("--data", type=Path, required=True, help="its folder, as published or curated")
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--vendors", default="ABCD", help="letters of the vendors that take turns (ABCD)")
    parser.add_argument("--encoding", choices=("own", "lossless", "jpeg"), default="own",
                        help="how pixels are stored: as each vendor does, all without loss, all as JPEG")  # fmt: skip
    parser.add_argument("--cases", type=int, help="only so many cases, evenly spread over the split")
    parser.add_argument("--workers", type=int, default=1, help="decoder processes of infer.py")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model, both ways")
    args = parser.parse_args()
    if not args.vendors or set(args.vendors) - set(VENDORS):
        parser.error(f"--vendors: found '{args.vendors}'; allowed are letters of {''.join(VENDORS)}")
    if args.cases is not None and args.cases < 1:
        parser.error(f"--cases: found {args.cases}; allowed is 1 or more")
    if args.out.exists() and any(args.out.iterdir()):
        parser.error(f"--out {args.out}: found files there already; allowed is a new or an empty folder")
    args.out, args.package = args.out.resolve(), args.package.resolve()
    return args


def main() -> None:
    args = parsed()
    package = load_package(args.package, explicit=True)
    manifest = prepare(args.set, args.data, args.out / "set")
    cases = [case for case in read_manifest(manifest) if case.split == args.split]
    if args.cases is not None and args.cases < len(cases):
        cases = [cases[k * len(cases) // args.cases] for k in range(args.cases)]
    wrapped = write_export(cases, args)
    held = infer(args)
    scores = evaluate(wrapped, package.description.card.labels[0].name, args)
    card = package.description.card
    if card.rating is not None and card.calibration is not None:
        rate(wrapped, card.rating, args)
    if "circumference" in card.measures and args.set == "hc18":
        measure(wrapped, held, args)
    by_dicom = list(zip(scores, masks_through_dicom(wrapped, held, args.out), strict=True))
    direct = predict(cases, package, args.threads)
    print(f"{package.description.card.name} on {args.set}, {args.split}: {len(cases)} cases")
    record = compare(wrapped, by_dicom, direct)
    for one, (score, _), (plain, _) in zip(wrapped, by_dicom, direct, strict=True):
        for way, failed in (("DICOM", score.failed), ("direct", plain.failed)):
            if failed:
                print(f"failed {one.case.case_id} ({way}): {failed}")
    (args.out / "real_path.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
