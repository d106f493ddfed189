"""`imaging evaluate`: its arguments. What it does is in `imaging.commands.scoring`, whose imports take their time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

TASKS: Final = ("classification", "detection", "segmentation")
HIT_RULES: Final = ("overlap", "centre_in_box", "centre_distance")

EXAMPLES = """\
the manifest is the table of a training (CSV) with what was predicted: case_id, patient_id, site, truth and, unless
--run gives the predictions, prediction; optional are case_truth (0 or 1), split, exam_id, image, image_uid, label,
spacing_mm. Files are below the folders given, else below the table's. A prediction is a map (NIfTI, MHA, NPZ, PNG), or
a DICOM result (SR, SEG) or a folder of them; of a volume its SEG is placed on the truth (NIfTI, MHA), segments of
anatomy left out. A truth may be a DICOM result too, of the row's image. In classification a prediction is a number, or
a DICOM result that states a probability of cancer; truth is 0 or 1, or --positive names a class. --run names a folder
that infer.py wrote: each row's image (a DICOM file, or the folder of a study) is looked up by its UIDs. --compare names
a second folder of predictions with the same names, or a second run; in classification also a CSV with case_id,
prediction, and site where a name stands twice.

examples:
  imaging evaluate segmentation --run OUT --manifest cases/manifest.csv --split test --label lesion=255 --out scores
  imaging evaluate detection --predictions maps --truth labels --manifest cases.csv --out scores
  imaging evaluate detection --predictions softmax --truth labels --manifest cases.csv --out scores --extract dynamic
  imaging evaluate segmentation --predictions results --truth masks --manifest cases.csv --out scores --tolerance 1
  imaging evaluate detection --predictions new --compare old --truth labels --manifest cases.csv --out scores
  imaging evaluate classification --predictions results --truth . --manifest cases.csv --out scores \\
      --positive label=malignant

exit status:
  0  every case was scored
  1  some case failed; the figures count it
  2  the command, the manifest, a truth or the output folder is wrong
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score predictions against truth, by site",
        description="Scores predictions against truth and writes metrics.json and a page, with failures counted.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=TASKS, help="what the predictions are")
    parser.add_argument("--predictions", type=Path, metavar="P", help="folder of the predictions (the manifest's)")
    parser.add_argument("--truth", type=Path, metavar="T", help="folder of the truth (the manifest's)")
    parser.add_argument(
        "--run", dest="results", type=Path, metavar="OUT", help="results of infer.py, instead of predictions"
    )
    parser.add_argument("--package", metavar="NAME", help="the package whose results count, where --run has several")
    parser.add_argument("--manifest", type=Path, required=True, metavar="M", help="table of the cases (CSV)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for metrics.json and index.html")
    parser.add_argument("--compare", type=Path, metavar="P2", help="predictions of a second model on the same cases")
    parser.add_argument("--split", metavar="S", help="score the rows of this split only; all for every one")
    parser.add_argument("--subgroup", action="append", default=[], metavar="COLUMN", help="a column whose values are "
                        "subgroups; no other column of the table enters the results")  # fmt: skip
    parser.add_argument("--aggregates", action="store_true", help="write no rows of cases, and no count from 1 to 4: "
                        "what may leave a hospital that gives no rows")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the model's weights, for their SHA-256")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="bootstrap resamples (2000)")
    parser.add_argument("--seed", type=int, default=20240, metavar="N", help="seed of the bootstrap")
    maps = parser.add_argument_group("detection")
    maps.add_argument("--extract", metavar="HOW", help="cut candidates: dynamic, dynamic-fast or a threshold; "
                      "default: predictions are detection maps with one confidence per candidate")  # fmt: skip
    maps.add_argument("--hit", choices=HIT_RULES, default="overlap", help="hit rule (overlap)")
    maps.add_argument(
        "--least", type=float, default=0.10, metavar="X", help="least overlap (0.1), or greatest distance in voxels"
    )
    maps.add_argument("--channel", type=int, metavar="K", help="of probabilities of several classes (nnU-Net's .npz), "
                      "the class that is looked for; 0 is the background")  # fmt: skip
    maps.add_argument("--by-exam", action="store_true", help="join the images of an exam (column exam_id)")
    masks = parser.add_argument_group("segmentation")
    masks.add_argument(
        "--label", action="append", metavar="NAME=VALUE", default=[], help="a class (whatever is not 0: lesion)"
    )
    masks.add_argument("--tolerance", type=float, default=2.0, metavar="MM", help="of surface agreement (2)")
    masks.add_argument("--cap", type=float, default=100.0, metavar="MM", help="distance of a missed structure (100)")
    classes = parser.add_argument_group("classification")
    classes.add_argument("--positive", metavar="COLUMN=CLASS", help="the column that tells the class, and the class "
                         "that is positive against all others (truth=1)")  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 or 1 (see the epilog); raises ImagingError for what is status 2."""
    from imaging.commands import scoring

    return scoring.run(args)
