"""`imaging predict`: images or a table of cases in; maps, labels and findings out, as `imaging evaluate` takes them."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.commands.data import progress_bar
from imaging.errors import ConfigError, ImagingError, OutputError, Reason

if TYPE_CHECKING:
    from imaging.data.manifest import Case
    from imaging.findings import Finding
    from imaging.image import Array, Grid
    from imaging.predictor import Predictor

EXAMPLES = """\
examples:
  imaging predict packages/mine cases/manifest.csv --out predicted
  imaging evaluate detection --manifest predicted/detection.csv --split test --out scores
  imaging predict packages/mine folder_of_pictures --out predicted

IMAGES is a manifest (CSV), one image, or a folder of them (pictures, NIfTI, MHA, NRRD, and one DICOM study for each
folder below it). Written are maps (one confidence for each finding), labels (the values 1, 2, ... of the package's
labels; of one label on a picture 255), findings.csv, and detection.csv and segmentation.csv, which are manifests with a
column prediction. A case that cannot be read has an empty prediction, which an evaluation counts as a failure.

exit status:
  0  every case was read
  1  some case was not
  2  the command, the package, the table or the output folder is wrong
"""
_HEADER = ("case_id", "patient_id", "site", "split", "image", "truth", "label", "spacing_mm", "prediction")
_FOUND = ("case_id", "number", "label", "score", "low", "high")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "predict",
        help="read pictures, volumes or DICOM folders and write maps and labels",
        description="Maps, labels and findings of a package on images that need not be DICOM. Research use only.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a model package")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a manifest (CSV), an image, or a folder of images")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 or 1 (see the epilog); raises ImagingError for what is status 2."""
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"--out {args.out}: holds files; allowed is a new or empty folder", Reason.CONFIG_INVALID)
    cases = cases_of(args.images)
    from imaging.package import load_package
    from imaging.predictor import load_predictor

    predictor = load_predictor(load_package(args.package), args.device)
    try:
        failed = _write(args.out, cases, predictor)
    except OSError as error:
        told = f"--out {args.out}: {error.strerror}; allowed is a writable folder"
        raise OutputError(told, Reason.OUTPUT_FAILED) from error
    print(f"{len(cases)} cases, {failed} not read")
    for name in ("detection.csv", "segmentation.csv", "findings.csv"):
        print(f"{name:17} {(args.out / name).resolve()}")
    return 1 if failed else 0


def cases_of(images: Path) -> list[Case]:
    """The cases of a table, or one for each image. Raises ConfigError where there is none."""
    from imaging.data.images import READ
    from imaging.data.manifest import Case, read_manifest

    if images.suffix.lower() == ".csv":
        return read_manifest(images)
    files = [images]
    if images.is_dir():
        named = [path for path in sorted(images.rglob("*")) if path.name.lower().endswith(READ)]
        folders = [path for path in sorted(images.iterdir()) if path.is_dir()]
        studies = [path for path in folders if not any(name.is_relative_to(path) for name in named)]
        files = [*named, *studies] or [images]
    if not images.exists():
        raise ConfigError(f"IMAGES {images}: there is no such file or folder", Reason.CONFIG_INVALID)
    names = [path.name if path == images else path.relative_to(images).as_posix() for path in files]
    return [Case(name, name, "unknown", "test", path, None) for name, path in zip(names, files, strict=True)]


def _write(out: Path, cases: Sequence[Case], predictor: Predictor) -> int:
    """Everything of all cases; how many could not be read."""
    for part in ("maps", "labels"):
        (out / part).mkdir(parents=True, exist_ok=True)
    failed, told = 0, list[tuple[str, ...]]()
    tables: dict[str, list[tuple[str, ...]]] = {"maps": [], "labels": []}
    with progress_bar(out.name) as show:
        for number, case in enumerate(cases, start=1):
            names = {"maps": "", "labels": ""}
            try:
                grid, found = _findings(case, predictor)
                names = _store(out, number, grid, found, predictor)
                told += [_finding_row(case, k, one) for k, one in enumerate(found, start=1)]
            except ImagingError as error:
                failed += 1
                print(f"failed {case.case_id}: {error}", file=sys.stderr)
            for part, name in names.items():
                tables[part].append(_case_row(case, name))
            show(number, len(cases))
    _table(out / "detection.csv", _HEADER, tables["maps"])
    _table(out / "segmentation.csv", _HEADER, tables["labels"])
    _table(out / "findings.csv", _FOUND, told)
    return failed


def _findings(case: Case, predictor: Predictor) -> tuple[Grid, tuple[Finding, ...]]:
    from imaging.data.dataset import first_image

    image = first_image(case, predictor.recipe)
    return image.source_grid, predictor.read(image).findings


def _store(out: Path, number: int, grid: Grid, found: Sequence[Finding], predictor: Predictor) -> dict[str, str]:
    """The map and the labels of one case; the names of their files below `out`."""
    import numpy as np

    names = [label.name for label in predictor.package.description.card.labels]
    scores, labels = np.zeros(grid.shape, dtype=np.float32), np.zeros(grid.shape, dtype=np.uint8)
    for one in sorted(found, key=lambda finding: finding.score):
        mask = _whole_mask(one)
        scores[mask] = one.score
        labels[mask] = 255 if len(names) == 1 and not grid.is_volume else names.index(one.label) + 1
    written = {"maps": f"maps/{number:05d}", "labels": f"labels/{number:05d}"}
    for part, values in (("maps", scores), ("labels", labels)):
        written[part] += _save(out / written[part], values, grid)
    return written


def _save(path: Path, values: Array, grid: Grid) -> str:
    """Writes a NIfTI of a volume, a PNG of labels on a plane, else NumPy's form; the ending."""
    import nibabel
    import numpy as np
    from PIL import Image as Picture

    if grid.is_volume:
        stored = nibabel.Nifti1Image(np.ascontiguousarray(values.T), grid.affine[:, [2, 1, 0, 3]])
        stored.set_qform(stored.affine, code=1)
        stored.set_sform(stored.affine, code=1)
        stored.header.set_xyzt_units("mm")
        nibabel.save(stored, f"{path}.nii.gz")
        return ".nii.gz"
    if values.dtype == np.uint8:
        Picture.fromarray(values).save(f"{path}.png")
        return ".png"
    np.save(f"{path}.npy", values)
    return ".npy"


def _whole_mask(finding: Finding) -> Array:
    """The mask of a finding on its whole source grid."""
    import numpy as np

    if finding.volume_region is not None:
        return finding.volume_region.full_mask()
    whole = np.zeros(finding.source_grid.shape, dtype=np.bool_)
    (top, left), (tall, wide) = finding.mask_origin, finding.mask.shape
    whole[top : top + tall, left : left + wide] = finding.mask
    return whole


def _case_row(case: Case, prediction: str) -> tuple[str, ...]:
    truth = "" if case.truth is None else str(case.truth.resolve())
    steps = "" if case.spacing_mm is None else "x".join(map(str, case.spacing_mm))
    image = str(case.image.resolve())
    return case.case_id, case.patient_id, case.site, case.split, image, truth, case.label, steps, prediction


def _finding_row(case: Case, number: int, one: Finding) -> tuple[str, ...]:
    """Corners are ([slice,] row, column), from the first corner of the first pixel on."""
    low, high = one.extent.low, one.extent.high
    if one.volume_region is not None:
        low = one.volume_region.origin
        high = tuple(o + n for o, n in zip(low, one.volume_region.mask.shape, strict=True))
    corners = (" ".join(f"{value:g}" for value in corner) for corner in (low, high))
    return case.case_id, str(number), one.label, f"{one.score:.6f}", *corners


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
