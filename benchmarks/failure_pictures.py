"""Where a package fails on phantoms: one picture of its worst cases, and how many there are.

    python benchmarks/failure_pictures.py --package data_samples/packages/breast_us --kind breast --out breast_us.png

Fresh phantoms (a seed that no training used) go through the package as they would through `infer.py`. A case with
something to find is scored by its Dice, of boxes by the share of its lesions that are hit (intersection over union of
0.1 or more); a case with nothing fails when anything is marked. Green is the truth, red what was marked. Everything in
the picture is synthetic.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from imaging.data.dataset import first_image
from imaging.data.instances import number_instances
from imaging.data.manifest import Case, read_manifest
from imaging.data.truth import read_values
from imaging.evaluation.matching import PICAI
from imaging.findings import Finding
from imaging.image import Image
from imaging.package import load_package
from imaging.phantoms import export
from imaging.phantoms.mammography import export as mammography_export
from imaging.predictor import Predictor, load_predictor
from imaging.thresholds import watch

SIDE, ROW = 240, 4
TRUE, MARKED = (0, 200, 0), (255, 60, 60)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judged:
    """One case with its score: 1 is right, 0 is missed, or marked where nothing is."""

    case: Case
    image: Image
    truth: Bools
    found: list[Finding]
    score: float


def judge(predictor: Predictor, case: Case) -> Judged:
    image = first_image(case, predictor.recipe)
    threshold = predictor.package.description.threshold
    found = predictor.findings(predictor.predict(image), threshold)
    truth = np.asarray(number_instances(read_values(case.known_truth, image)) > 0)
    marked = np.zeros_like(truth)
    for finding in found:
        marked |= finding.full_mask()
    if not truth.any():
        score = float(not found)
    elif any(finding.box is not None for finding in found) or not found:
        lesions = [x for x in watch(predictor, case, PICAI).lesions if x.is_true]
        score = sum(x.confidence >= threshold for x in lesions) / len(lesions) if found else 0.0
    else:
        score = float(2 * (marked & truth).sum() / (marked.sum() + truth.sum()))
    return Judged(case, image, truth, found, score)


def tile(one: Judged, predictor: Predictor) -> NDArray[np.uint8]:
    """The tissue with both outlines, as large as fits into a square."""
    shown = predictor.read(one.image).thumbnails[0]
    x0, y0, x1, y1 = shown.box.xy
    rows, columns = shown.pixels.shape
    grey = np.repeat(shown.pixels[..., None], 3, axis=-1)
    at_row = np.clip((y0 + (np.arange(rows) + 0.5) / rows * (y1 - y0)).astype(int), 0, one.truth.shape[0] - 1)
    at_column = np.clip((x0 + (np.arange(columns) + 0.5) / columns * (x1 - x0)).astype(int), 0, one.truth.shape[1] - 1)
    for colour, masks in ((TRUE, [one.truth]), (MARKED, [finding.full_mask() for finding in one.found])):
        for mask in masks:
            grey[_border(mask[np.ix_(at_row, at_column)])] = colour
    fitted = Picture.fromarray(grey)
    fitted.thumbnail((SIDE, SIDE))
    square = Picture.new("RGB", (SIDE, SIDE))
    square.paste(fitted, ((SIDE - fitted.width) // 2, (SIDE - fitted.height) // 2))
    return np.asarray(square)


def _border(mask: Bools) -> Bools:
    """Two pixels wide, so that it is still there when the picture is made smaller."""
    inner = np.pad(mask, 2)
    kept = mask.copy()
    for row, column in ((0, 2), (4, 2), (2, 0), (2, 4)):
        kept &= inner[row : row + mask.shape[0], column : column + mask.shape[1]]
    return mask & ~kept


def phantoms(kind: str, folder: Path, cases: int, seed: int) -> list[Case]:
    if kind == "mammography":
        return read_manifest(mammography_export.write_training_set(folder, cases, seed))
    return read_manifest(export.write_training_set(folder, cases, seed, kind="head" if kind == "head" else "breast"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--kind", choices=("breast", "head", "mammography"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the picture, PNG")
    parser.add_argument("--cases", type=int, default=60, help="phantoms, or exams of four views (default: 60)")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--shown", type=int, default=8)
    args = parser.parse_args()
    predictor = load_predictor(load_package(args.package, explicit=True))
    with tempfile.TemporaryDirectory() as folder:
        judged = [judge(predictor, case) for case in phantoms(args.kind, Path(folder) / "set", args.cases, args.seed)]
        worst = sorted(judged, key=lambda one: one.score)[: args.shown]
        tiles = [tile(one, predictor) for one in worst]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % ROW)
    rows = [np.concatenate(tiles[k : k + ROW], axis=1) for k in range(0, len(tiles), ROW)]
    Picture.fromarray(np.concatenate(rows)).quantize(128).save(args.out, optimize=True)
    ill, well = [one for one in judged if one.truth.any()], [one for one in judged if not one.truth.any()]
    scores = [one.score for one in ill]
    print(f"{len(judged)} phantoms; with something to find {len(ill)}: mean score {np.mean(scores):.3f}, "
          f"missed {sum(score == 0 for score in scores)}; with nothing {len(well)}: marked "
          f"{sum(one.score == 0 for one in well)}")  # fmt: skip
    for one in worst:
        print(f"{one.case.case_id} {one.case.site} {one.case.label or '-'}: {one.score:.2f}, {len(one.found)} marked")


if __name__ == "__main__":
    main()
