"""Damage of slices, channels and their places."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset

from tests.law.exports import Export
from tests.law.kinds import ENHANCED, MR, Rng, header, kind, pixels

# -- Volumes -----------------------------------------------------------------------------------------------------------


def planes(ds: FileDataset) -> list[Dataset]:
    """The items that hold the positions of slices: the object itself, or those of its frames 11 to 13."""
    if "PerFrameFunctionalGroupsSequence" not in ds:
        return [ds]
    return [ds.PerFrameFunctionalGroupsSequence[k].PlanePositionSequence[0] for k in (10, 11, 12)]


@header("a position gone or elsewhere", MR)
def _(ds: FileDataset, rng: Rng) -> None:
    what, by = rng.choice(("gone", "text", "moved", "apart")), rng.choice((1.2, 40.0, 500.0))
    for k, item in enumerate(planes(ds)):
        if what == "gone":
            del item.ImagePositionPatient
        elif what == "text":
            item.ImagePositionPatient = []
        else:
            x, y, z = item.ImagePositionPatient
            item.ImagePositionPatient = [x + by, y, z] if what == "apart" else [x, y, z + by * (1 + k)]


@header("an orientation gone or turned", "classic")
def _(ds: FileDataset, rng: Rng) -> None:
    turned = rng.choice(([], [0, 1, 0, 0, 0, -1], [0, 1, 0, -1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]))
    ds.ImageOrientationPatient = turned


@header("an orientation of a whole object gone or turned", ENHANCED)
def _(ds: FileDataset, rng: Rng) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    if rng.random() < 0.3:
        del shared.PlaneOrientationSequence
    else:
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = rng.choice(([0, 1, 0, 0, 0, -1], [0] * 6))


@header("a pixel spacing gone or impossible", MR)
def _(ds: FileDataset, rng: Rng) -> None:
    at = ds
    if "SharedFunctionalGroupsSequence" in ds:
        at = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    at.PixelSpacing = rng.choice(([], [0, 0], [-1, -1], [900, 900]))


@kind("a channel somewhere else", MR)
def _(export: Export, rng: Rng) -> Export:
    name, by = rng.choice(("ADC", "B1400", "B50")), rng.choice((60.0, 200.0, -1000.0))
    moved = tuple(f for f in export.files if f.startswith(f"MR/{name}"))
    return export.edited(moved, lambda ds: _shift(ds, by))


def _shift(ds: FileDataset, by: float) -> None:
    items = [ds]
    if "PerFrameFunctionalGroupsSequence" in ds:
        items = [frame.PlanePositionSequence[0] for frame in ds.PerFrameFunctionalGroupsSequence]
    for item in items:
        x, y, z = item.ImagePositionPatient
        item.ImagePositionPatient = [x + by, y, z]


@kind("a channel that does not reach the lesion", "classic")
def _(export: Export, rng: Rng) -> Export:
    names = ("ADC",) if rng.random() < 0.5 else ("B50", "B1400")
    gone = [f"MR/{name}/IM{k:02d}" for name in names for k in range(11, 16)]
    return export.with_files(**dict.fromkeys(gone))


@kind("a channel in another frame of reference", MR)
def _(export: Export, rng: Rng) -> Export:
    name = rng.choice(("ADC", "B1400"))
    moved = tuple(f for f in export.files if f.startswith(f"MR/{name}"))

    def elsewhere(ds: FileDataset) -> None:
        _shift(ds, 8.0)
        ds.FrameOfReferenceUID += ".5"

    return export.edited(moved, elsewhere)


@kind("a channel blank", MR)
def _(export: Export, rng: Rng) -> Export:
    name, value = rng.choice(("ADC", "B1400", "T2")), rng.choice((0, 0, 500))

    def blank(ds: FileDataset) -> None:
        ds.PixelData = np.full_like(pixels(ds), value).tobytes()

    return export.edited(tuple(f for f in export.files if f.startswith(f"MR/{name}")), blank)


@kind("an ADC that is no ADC", MR)
def _(export: Export, rng: Rng) -> Export:
    factor, offset = rng.choice(((0.0001, 0), (20.0, 0), (0, 3), (1, 3000)))

    def scaled(ds: FileDataset) -> None:
        ds.PixelData = (pixels(ds) * factor + offset).clip(0, 4095).astype("<u2").tobytes()

    return export.edited(tuple(f for f in export.files if f.startswith("MR/ADC")), scaled)


@kind("a b-value gone or impossible", MR)
def _(export: Export, rng: Rng) -> Export:
    value = rng.choice((None, -50.0, 0.0, 20.0, 1e6))

    def relabel(ds: FileDataset) -> None:
        at = ds
        if "SharedFunctionalGroupsSequence" in ds:
            at = ds.SharedFunctionalGroupsSequence[0].MRDiffusionSequence[0]
        if value is None:
            del at.DiffusionBValue
            ds.SeriesDescription = "diffusion"
        else:
            at.DiffusionBValue = value

    return export.edited(tuple(f for f in export.files if f.startswith("MR/B1400")), relabel)


@header("frames without their description", ENHANCED)
def _(ds: FileDataset, rng: Rng) -> None:
    if rng.random() < 0.3:
        del ds.PerFrameFunctionalGroupsSequence
    else:
        del ds.PerFrameFunctionalGroupsSequence[rng.choice((10, 12)) :]


@header("a slice under another weighting", "classic")
def _(ds: FileDataset, rng: Rng) -> None:
    ds.EchoTime, ds.RepetitionTime = 9, 500
    ds.ImageType = ["ORIGINAL", "PRIMARY", rng.choice(("M", "OTHER"))]
    ds.ScanningSequence = "GR"
