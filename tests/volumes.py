"""Drawn volumes: a bright ball of two zones with a companion on another grid, their files, and a recipe for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import nibabel
import numpy as np
from monai.data import MetaTensor

from imaging.data.manifest import Case, Split, write_manifest
from imaging.errors import InputError, Reason
from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.spatial import _moved, to_tensor
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Array, Floats, Grid, Image, resample
from imaging.modalities.prostate.selection import select

SHAPE = (8, 32, 32)  # voxels of 3 × 1 × 1 mm
TRUTH = "truth.nii.gz"


@dataclass(frozen=True)
class DrawnRecipe:
    """The key volume and its ADC on one grid of 3 × `step` × `step` mm around the organ, or around the middle."""

    name: ClassVar[str] = "drawn"
    spatial_dims: ClassVar[int] = 3
    code_version: ClassVar[int] = 1
    select = staticmethod(select)
    augmentation: ClassVar[Augmentation] = Augmentation(rotation=10, flip_columns=True, chance=0.3, gamma=(0.8, 1.2))

    shape: tuple[int, ...] = SHAPE
    step: float = 1.0

    def tissue(self, image: Image) -> Tissue:
        """Key and companion (2, slice, row, column) on the key's grid."""
        if "ADC" not in image.beside:
            raise InputError("DrawnRecipe: no ADC", Reason.MISSING_ROLE)
        adc = image.beside["ADC"]
        told = to_tensor(image)
        planes = [told.numpy()[0] / 200, resample(adc.array[0], adc.grid, image.grid) / 3000]
        both = _moved(told, np.stack(planes).astype(np.float32), image.grid)
        return Tissue(both, image.region, quantities={"ADC": adc})

    def place(self, tissue: Tissue) -> Placed:
        source = tissue.grid
        box = (tissue.region or source.whole).row.reshape(2, 3)
        directions = source.affine[:3, :3] / np.asarray(source.spacing) * (3.0, self.step, self.step)
        affine = np.eye(4)
        affine[:3, :3] = directions
        affine[:3, 3] = source.world(box.mean(axis=0)[None])[0] - directions @ (np.asarray(self.shape) - 1) / 2
        target = Grid(self.shape, affine, "patient_ras")
        planes = [resample(plane, source, target) for plane in tissue.pixels.numpy()]
        return Placed.lit(_moved(tissue.pixels, np.stack(planes), target))

    def scale(self, placed: Placed) -> MetaTensor:
        return placed.values

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        return self.scale(self.place(tissue))

    def fit(self, cases: Iterable[Placed]) -> Self:
        del cases
        return self


def affine(spacing: tuple[float, float, float], shape: tuple[int, ...], centre: tuple[float, float, float]) -> Floats:
    """Indices (slice, row, column) to RAS: slices to the head, rows to the back, columns to the left."""
    made = np.eye(4)
    made[:3, :3] = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]]) * np.asarray(spacing)
    made[:3, 3] = np.asarray(centre) - made[:3, :3] @ (np.asarray(shape) - 1) / 2
    return made


def write(path: Path, values: Array, placed: Floats) -> Path:
    """[slice, row, column] with its affine as NIfTI."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), placed[:, [2, 1, 0, 3]])
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def zones(shape: tuple[int, ...], spacing: tuple[float, ...], middle: Floats, radius: float) -> Array:
    """uint8: 1 the ball, 2 the half of it with the lower rows."""
    axes = [(np.arange(n) - (n - 1) / 2) * s - m for n, s, m in zip(shape, spacing, middle, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    inside = z**2 + y**2 + x**2 < radius**2
    return (inside * np.where(y < 0, 2, 1)).astype(np.uint8)


def draw_case(
    folder: Path, number: int, site: str = "a", split: Split = "train", labels: int = 2, radius: float | None = None
) -> Case:
    """One case: the key volume of 3 × 1 × 1 mm, its ADC of 3 × 2 × 2 mm, its truth of one label or two.

    A radius of 0 draws nothing and leaves the truth empty.
    """
    rng = np.random.default_rng([5, number])
    grain = rng if split == "train" else np.random.default_rng([7, number])  # no two cases share a picture
    folder.mkdir(parents=True, exist_ok=True)
    middle, drawn = rng.uniform(-2, 2, 3), rng.uniform(8, 10)
    radius = drawn if radius is None else radius
    placed = affine((3, 1, 1), SHAPE, (10, -20, 30))
    truth = zones(SHAPE, (3, 1, 1), middle, radius)
    key = np.array([40.0, 160.0, 90.0])[truth] + grain.normal(0, 8, SHAPE)
    coarse = (8, 18, 18)
    own, beside = zones(coarse, (3, 2, 2), middle, radius), affine((3, 2, 2), coarse, (10, -20, 30))
    adc = np.array([1800.0, 900.0, 1300.0])[own] + grain.normal(0, 60, coarse)
    high_b = np.array([30.0, 90.0, 60.0])[own] + grain.normal(0, 6, coarse)
    name = f"{split}-{number:02d}"
    files = {
        "t2w": write(folder / f"{name}-t2w.nii.gz", np.rint(key).astype(np.int16), placed),
        "ADC": write(folder / f"{name}-adc.nii.gz", adc.astype(np.float32), beside),
        "high b": write(folder / f"{name}-high-b.nii.gz", high_b.astype(np.float32), beside),
        "truth": write(folder / f"{name}-{TRUTH}", np.minimum(truth, labels), placed),
    }
    companions = {role: files[role] for role in ("ADC", "high b")}
    return Case(name, f"p-{name}", site, split, files["t2w"], files["truth"], "", None, companions)


def draw_cases(folder: Path, train: int = 4, val: int = 2, labels: int = 2) -> Path:
    """The table of drawn cases of two sites."""
    cases = [
        draw_case(folder, k, "ab"[k % 2], split, labels)
        for split, count in (("train", train), ("val", val))
        for k in range(count)
    ]  # fmt: skip
    write_manifest(folder / "manifest.csv", cases)
    return folder / "manifest.csv"
