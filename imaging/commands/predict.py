"""`imaging predict`: images or a table of cases in; maps, labels and findings out, as `imaging evaluate` takes them."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imaging.commands.data import progress_bar
from imaging.errors import ConfigError, ImagingError, OutputError, Reason

if TYPE_CHECKING:
    from imaging.data.manifest import Case
    from imaging.findings import Finding, Reading
    from imaging.image import Array, Grid
    from imaging.package import Card
    from imaging.predictor import Predictor

EXAMPLES = """\
examples:
  imaging predict packages/mine cases/manifest.csv --out predicted
  imaging evaluate detection --manifest predicted/detection.csv --split test --out scores
  imaging evaluate classification --manifest predicted/classification.csv --split test --positive label=malignant \\
      --out scores
  imaging predict packages/mine folder_of_pictures --out predicted

IMAGES is a manifest (CSV), one image, or a folder of them: pictures, NIfTI, MHA, NRRD, and DICOM, of which each image
is a case, or for a package of volumes each study. Written are

  maps/                 one confidence for each finding, on the image's own grid
  labels/               values 1, 2, ... of the package's labels; of one label on a picture 255
  findings.csv          each finding with its corners in pixels of the source image
  detection.csv, segmentation.csv   the table, every column of it, with a column prediction
  classification.csv    the same of a package with image classes; prediction is the chance of the class that its card
                        calls positive, else of any class that is not nothing

A case that cannot be read has an empty prediction, which an evaluation counts as a failure.

exit status:
  0  every case was read
  1  some case was not
  2  the command, the package, the table or the output folder is wrong
"""
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
    from imaging.package import load_package
    from imaging.predictor import load_predictor

    package = load_package(args.package)
    cases, rows = cases_in(args.images, package.description.network.is_volume)
    predictor = load_predictor(package, args.device)
    try:
        tables = _write(args.out, cases, rows, predictor)
    except OSError as error:
        told = f"--out {args.out}: {error.strerror}; allowed is a writable folder"
        raise OutputError(told, Reason.OUTPUT_FAILED) from error
    failed = sum(not row["prediction"] for row in tables["detection"])
    print(f"{len(cases)} cases, {failed} not read")
    for name in (*tables, "findings"):
        print(f"{name + '.csv':18} {(args.out / name).resolve()}.csv")
    if "classification" in tables:
        print(f"classification.csv: prediction is the chance of {_looked_for(predictor.package.description.card)[0]}")
    return 1 if failed else 0


def cases_in(images: Path, of_volumes: bool) -> tuple[list[Case], list[dict[str, str]]]:
    """The cases of a table with its cells, or one for each image. Raises ConfigError where there is none."""
    from imaging.data.manifest import COLUMNS, Case, cases_of, read_rows

    if images.suffix.lower() == ".csv":
        lines = read_rows(images, COLUMNS)
        return cases_of(lines), [line.placed for line in lines]
    if not images.exists():
        raise ConfigError(f"IMAGES {images}: there is no such file or folder", Reason.CONFIG_INVALID)
    files = _images_in(images, of_volumes) if images.is_dir() else [images]
    if not files:
        raise ConfigError(f"IMAGES {images}: found no image; allowed are a folder of them, or one", Reason.NOT_AN_IMAGE)
    names = [path.name if path == images else path.relative_to(images).as_posix() for path in files]
    cases = [Case(name, name, "unknown", "test", path, None) for name, path in zip(names, files, strict=True)]
    told = [(name, name, "unknown", "test", str(path.resolve()), "") for name, path in zip(names, files, strict=True)]
    return cases, [dict(zip(COLUMNS, row, strict=True)) for row in told]


def _images_in(folder: Path, of_volumes: bool) -> list[Path]:
    """Every image file below a folder; of DICOM each image, or the folder that holds a study. Other files are told.

    Raises ConfigError for a folder of volumes in which no folder has a study to itself.
    """
    from imaging.data.images import READ
    from imaging.dicom.index import build_index

    named = [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(READ)]
    index = build_index(folder)
    other = [name for name, file in index.files.items() if file.reason and not name.lower().endswith(READ)]
    if other:
        print(f"{folder}: {len(other)} files are no images that are read, first {other[0]}", file=sys.stderr)
    if not of_volumes:
        return [*named, *sorted({one.path for series in index.series for one in series.instances})]
    holds: dict[Path, set[str]] = {}
    for uid, series in index.studies().items():
        files = [one.path.parent for of in series for one in of.instances]
        holds.setdefault(Path(os.path.commonpath(files)), set()).add(uid)
    for path, studies in holds.items():
        inside = [other for other in holds if other.is_relative_to(path)]
        if len(studies) > 1 or len(inside) > 1:
            raise ConfigError(
                f"IMAGES {path}: found files of {sum(len(holds[one]) for one in inside)} studies; allowed is a folder "
                "for each study (imaging infer takes any export)",
                Reason.CONFIG_INVALID,
            )
    return [*named, *sorted(holds)]


def _write(
    out: Path, cases: Sequence[Case], rows: Sequence[dict[str, str]], predictor: Predictor
) -> dict[str, list[dict[str, str]]]:
    """Everything of all cases; the tables for `imaging evaluate`, by the name of its task."""
    for part in ("maps", "labels"):
        (out / part).mkdir(parents=True, exist_ok=True)
    classes = [one.name for one in predictor.package.description.card.classes]
    tables: dict[str, list[dict[str, str]]] = {"detection": [], "segmentation": []}
    tables |= {"classification": []} if classes else {}
    told = list[tuple[str, ...]]()
    with progress_bar(out.name) as show:
        for number, (case, row) in enumerate(zip(cases, rows, strict=True), start=1):
            predicted = dict.fromkeys(tables, "")
            chances = dict.fromkeys((f"chance:{name}" for name in classes), "")
            try:
                grid, reading = _read(case, predictor)
                predicted |= _store(out, number, grid, reading.findings, predictor)
                told += [_finding_row(case, k, one) for k, one in enumerate(reading.findings, start=1)]
                if classes:
                    chances = {f"chance:{name}": f"{reading.classes[name]:.6f}" for name in classes}
                    wanted = _looked_for(predictor.package.description.card)[1]
                    predicted["classification"] = f"{min(1.0, sum(reading.classes[name] for name in wanted)):.6f}"
            except ImagingError as error:
                print(f"failed {case.case_id}: {error}", file=sys.stderr)
            for task, table in tables.items():
                table.append({**row, **(chances if task == "classification" else {}), "prediction": predicted[task]})
            show(number, len(cases))
    for task, table in tables.items():
        _table(out / f"{task}.csv", list(table[0]), [list(line.values()) for line in table])
    _table(out / "findings.csv", _FOUND, told)
    return tables


def _looked_for(card: Card) -> tuple[str, list[str]]:
    """What a package with image classes looks for, in words, and the classes that are it."""
    if card.rating is not None:
        return card.rating.positive, [card.rating.positive]
    kinds = [one.name for one in card.classes if not one.nothing]
    return " or ".join(kinds), kinds


def _read(case: Case, predictor: Predictor) -> tuple[Grid, Reading]:
    from imaging.data.dataset import first_image

    image = first_image(case, predictor.recipe)
    return image.source_grid, predictor.read(image)


def _store(out: Path, number: int, grid: Grid, found: Sequence[Finding], predictor: Predictor) -> dict[str, str]:
    """The map and the labels of one case; the names of their files below `out`."""
    import numpy as np

    names = [label.name for label in predictor.package.description.card.labels]
    scores, labels = np.zeros(grid.shape, dtype=np.float32), np.zeros(grid.shape, dtype=np.uint8)
    for one in sorted(found, key=lambda finding: finding.score):
        mask = _whole_mask(one)
        scores[mask] = one.score
        labels[mask] = 255 if len(names) == 1 and not grid.is_volume else names.index(one.label) + 1
    maps, masks = f"maps/{number:05d}", f"labels/{number:05d}"
    return {
        "detection": maps + _save(out / maps, scores, grid),
        "segmentation": masks + _save(out / masks, labels, grid),
    }


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
