"""Mammography: presentation chain → breast alone → chest wall at the left → one millimetre grid.

The chain is that of PS3.3 in its order (`imaging.grayscale`), in float from stored values to the network. Two
questions are answered apart (docs/decisions.md): *which* breast it is, the header says; at which *side of the picture*
its chest wall lies, the pixels say when they are decided. FieldOfViewRotation and FieldOfViewHorizontalFlip tell how
the stored image was turned from the detector; nothing here refers to the detector, so they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, Self

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, Transform

from imaging.errors import GeometryError, InputError, Reason
from imaging.grayscale import Grayscale
from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.intensity import ToLuminance
from imaging.harmonise.normalisation import Normalisation, Normalise, learn, parse_normalisation
from imaging.harmonise.spatial import Crop, Flip, Respace, Transpose, grid_of, luminance_tensor, to_tensor
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Array, Image
from imaging.modalities.mammography.breast import Mask, Side, breast_height, breast_mask, chest_side, foremost
from imaging.modalities.mammography.selection import select

_SIDES: Final[dict[str, tuple[Side, Side]]] = {"A": ("left", "top"), "P": ("right", "bottom")}
# Of the display's range: two steps of 256, below which no reader sees a contrast.
_LEAST_SPREAD: Final = 2 / 255
_WHITE: Final = 255.0  # of `tissue`, in float; pages show it in 256 steps


# A window or table that puts this share of the breast at one end shows no picture of it; so much of the whole picture
# at one end, a breast beside a black background included, is the sign of it.
_CLIPPED_SHARE: Final = 0.9
_CLIPPED_PICTURE: Final = 0.85


@dataclass(frozen=True)
class MammographyRecipe:
    """Settings of the mammography recipe.

    Args:
        spacing_mm: Step of the model grid.
        rows: Rows of the model grid; a multiple of 64 suits every network here.
        columns: Columns of the model grid. A breast that does not fit gets a coarser step, which is said.
        voi: Whether the header's window or table is used where there is one, or percentiles always.
        voi_item: Explanation of the window or table to use among several; without such a one the first is used.
        low: Percentile inside the breast that becomes 0 where no window or table is used.
        high: Percentile inside the breast that becomes 1 where no window or table is used.
        cc_height_mm: Extent along the chest wall that an uncalibrated breast is given in cranio-caudal views.
        oblique_height_mm: The same in all other views.
        normalisation: Of intensities after window or table; None keeps what they show.
    """

    name: ClassVar[str] = "mammography"
    code_version: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 2
    select = staticmethod(select)
    augmentation: ClassVar[Augmentation] = Augmentation(
        rotation=10.0,
        scale=(0.85, 1.2),
        stretch=1.1,
        shift=0.05,
        chance=0.25,
        gamma=(0.7, 1.4),
        brightness=(0.85, 1.15),
        noise=(0.0, 0.03),
        blur=(0.4, 1.2),
        low_resolution=(0.5, 0.9),
    )

    spacing_mm: float = 0.2
    rows: int = 1280
    columns: int = 896
    voi: Literal["header", "percentiles"] = "header"
    voi_item: str = "NORMAL"
    low: float = 1.0
    high: float = 99.8
    cc_height_mm: float = 150.0
    oblique_height_mm: float = 195.0
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "normalisation", parse_normalisation(self.normalisation))

    def tissue(self, image: Image) -> Tissue:
        """Brightness (1, row, column), 0-255 in float, of the breast in source pixels; everything beside it is 0.

        Its steps bring the chest wall to the left, and head or lateral up where the header knows, on the model's step.
        """
        light, mask, shown = self._shown(image)
        _check_spread(light[mask])
        chest, turned = _chest(image, mask)
        notes = (*shown, *turned)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        low = int(rows[0]), int(columns[0])
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        cut = light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] * inside
        tensor = luminance_tensor(np.multiply(cut, np.float32(_WHITE), out=cut), image.grid.crop(low, inside.shape))
        step, said = self._step(tensor, breast_height(inside, chest), chest, image)
        steps = (*_upright(chest, _turned(image, chest)), Respace((step, step)))
        return Tissue(tensor, notes=(*notes, *said), anterior_px=foremost(mask, chest), steps=steps)

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        """(1, rows, columns) float32 in 0-1: chest wall at the left edge, head or lateral up where the header knows."""
        return self.scale(self.place(tissue))

    def place(self, tissue: Tissue) -> Placed:
        """Brightness (1, rows, columns) in 0-255; foreground is the breast, but for what window or table blackens."""
        fine = Compose(tissue.steps)(tissue.pixels)
        lines = fine.shape[1]
        return Placed.lit(Crop(((lines - self.rows) // 2, 0), (self.rows, self.columns))(fine))

    def scale(self, placed: Placed) -> MetaTensor:
        """(1, rows, columns) float32 in 0-1."""
        if self.normalisation is None:
            return (placed.values / _WHITE).clamp(0.0, 1.0)
        return Normalise(self.normalisation, (0,))(placed)

    def fit(self, cases: Iterable[Placed]) -> Self:
        """With the reference of its normalisation; itself where it has none."""
        if self.normalisation is None:
            return self
        return replace(self, normalisation=learn(self.normalisation, cases, (0,)))

    def _shown(self, image: Image) -> tuple[Array, Mask, tuple[str, ...]]:
        """Brightness (row, column) in 0-1 as float32, where the breast is, padding left out, and notes.

        A window or table that leaves nearly nothing of the breast is not used: percentiles are.
        """
        grey = image.channels == "luminance"
        stored = image.array[0] if grey else ToLuminance(image.channels)(to_tensor(image)).numpy()[0]
        grayscale = image.grayscale or Grayscale()
        item = grayscale.item(self.voi_item) if self.voi == "header" else None
        shown = _padded(grayscale.display(stored, item), grayscale, stored)
        if item is not None and (share := _clipped_share(shown, grayscale, stored)) < _CLIPPED_SHARE:
            return shown, _mask(shown, grayscale, stored), ()
        plain = shown if item is None else _padded(grayscale.display(stored, None), grayscale, stored)
        mask = _mask(plain, grayscale, stored)
        ranged = _ranged(plain, mask, self.low, self.high)
        if item is None:
            return ranged, mask, ()
        return ranged, mask, (f"The header's window or table was not used: it clips {share:.0%} of the breast",)

    def _step(self, pixels: MetaTensor, height: int, chest: Side, image: Image) -> tuple[float, list[str]]:
        """Step of the model grid in the unit of the pixels' grid, and what must be said about it."""
        grid, notes = grid_of(pixels), []
        upright = chest in ("left", "right")
        extent = np.asarray(grid.shape) * np.asarray(grid.spacing)
        along, deep = extent if upright else extent[::-1]
        step = self.spacing_mm
        if grid.unit != "mm":
            cranial = image.view is not None and image.view.view == "CC"
            nominal = self.cc_height_mm if cranial else self.oblique_height_mm
            step = height * grid.spacing[0 if upright else 1] * self.spacing_mm / nominal
            notes.append(f"Uncalibrated: read as if the breast were {nominal:g} mm high")
        least = max(float(along) / self.rows, float(deep) / self.columns)
        if least > step:
            notes.append(f"The breast is larger than the model grid and was read at {least / step:.2f} times its step")
            step = least
        return step, notes


def _padding(grayscale: Grayscale, stored: Array) -> Mask | None:
    """Which pixels are padding; None for none. Raises GeometryError where all are."""
    padding = grayscale.is_padding(stored)
    if padding is None or not padding.any():
        return None
    if padding.all():
        raise GeometryError(f"all {padding.size} pixels have the padding value", Reason.NO_TISSUE_REGION)
    return padding


def _padded(light: Array, grayscale: Grayscale, stored: Array) -> Array:
    """The same brightness, padding as dark as the darkest of the picture."""
    padding = _padding(grayscale, stored)
    if padding is not None:
        light[padding] = light[~padding].min()
    return light


def _mask(light: Array, grayscale: Grayscale, stored: Array) -> Mask:
    """Where the breast is, padding left out."""
    padding = _padding(grayscale, stored)
    mask = breast_mask(light, padding)
    return mask if padding is None else mask & ~padding


def _clipped_share(shown: Array, grayscale: Grayscale, stored: Array) -> float:
    """Which share of the breast a window or table makes all black or all white.

    Where nearly the whole picture is at one end, the breast can be told by the unwindowed values alone.
    """
    ends = shown <= 0.0, shown >= 1.0
    if max(float(end.mean()) for end in ends) < _CLIPPED_PICTURE:
        return float(ends[1][_mask(shown, grayscale, stored)].mean())
    mask = _mask(_padded(grayscale.display(stored, None), grayscale, stored), grayscale, stored)
    return max(float(end[mask].mean()) for end in ends)


def _check_spread(tissue: Array) -> None:
    """Raises InputError (NO_SIGNAL) for a breast that is shown in one grey: nothing could be seen in it."""
    low, high = (float(v) for v in np.percentile(tissue, (1.0, 99.8)))
    if high - low < _LEAST_SPREAD:
        raise InputError(
            f"the breast is shown in one grey: its values span {high - low:.2g} of the display's range by the header's "
            f"rescaling and window or table; allowed is {_LEAST_SPREAD:.2g} or more",
            Reason.NO_SIGNAL,
        )


def _ranged(light: Array, mask: Mask, low: float, high: float) -> Array:
    """Percentiles of the breast as 0 and 1, clipped; 0 everywhere for a breast of one grey."""
    bottom, top = (float(v) for v in np.percentile(light[mask], (low, high)))
    if top <= bottom:
        return np.zeros_like(light)
    np.subtract(light, np.float32(bottom), out=light)
    np.divide(light, np.float32(top - bottom), out=light)
    return np.clip(light, 0.0, 1.0, out=light)


def _chest(image: Image, mask: Mask) -> tuple[Side, list[str]]:
    """The side of the chest wall, and a note where the pixels contradict PatientOrientation or, without it, laterality.

    A left breast is shown with its chest wall at the left. The laterality itself is never changed by pixels.
    """
    right = image.view is not None and image.view.laterality == "R"
    told = _from_directions(image.directions)
    expected: Side = told or ("right" if right else "left")
    found = chest_side(mask, expected)
    if found == expected or (told is None and image.view is None):
        return found, []
    source = "PatientOrientation" if told else f"laterality {'R' if right else 'L'}"
    return found, [f"By {source} the chest wall should lie at the {expected}; the pixels show it at the {found}"]


def _from_directions(directions: tuple[str, str] | None) -> Side | None:
    """The chest wall's side by PatientOrientation (towards higher columns, towards higher rows)."""
    for axis, word in enumerate(directions or ()):
        for letter, sides in _SIDES.items():
            if word.startswith(letter):
                return sides[axis]
    return None


def _turned(image: Image, chest: Side) -> bool:
    """Whether the picture stands on its head: feet up, or in cranio-caudal views medial up, by PatientOrientation."""
    if image.directions is None:
        return False
    along = image.directions[1 if chest in ("left", "right") else 0]
    lateral = image.view.laterality if image.view and image.view.view in ("CC", "FB") else ""
    return along.startswith("H") or (bool(lateral) and along.startswith(lateral))


def _upright(chest: Side, is_turned: bool) -> list[Transform]:
    """The steps that bring the chest wall to the left and head or lateral up."""
    steps: list[Transform] = []
    if chest in ("top", "bottom"):
        steps.append(Transpose())
    if chest in ("right", "bottom"):
        steps.append(Flip(1))
    if is_turned:
        steps.append(Flip(0))
    return steps
