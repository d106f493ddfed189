"""Biparametric prostate MRI: T2W, ADC and high b on one grid along the patient's axes, with comparable intensities.

The model grid is cut around the organ where its region is known, and around the field of view where it is not. Its
axes are the key volume's own, put in one order (slices to the head, rows to the back, columns to the left), so that
stored orders and flips make no difference. Each volume is sampled once, straight from its own grid, linearly: a spline
overshoots where the ADC is steep.

ADC stays quantitative: a fixed scale, no statistics of the case. The high-b image is computed at one b-value for all
sites from what was acquired (Blackledge et al., Radiology 2011), because scanners acquire 600 to 2000.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, Self

import numpy as np
import torch
from monai.data import MetaTensor

from imaging.dicom.headers.adc import check_fitted
from imaging.errors import ConfigError, InputError, Reason
from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.diffusion import AdcFit, computed_signal, fit_adc
from imaging.harmonise.mri import align, correct_bias
from imaging.harmonise.normalisation import Normalisation, Normalise, learn, parse_normalisation
from imaging.harmonise.spatial import place
from imaging.harmonise.tissue import Placed, Tissue
from imaging.image import Array, Box, Floats, Grid, Image, resample, within
from imaging.modalities.prostate.selection import ADC, HIGH_B, ROLES, T2W, select

_LARGEST_ADC: Final = 3000.0  # free water at body temperature, 10^-6 mm2/s
# Where slices, rows and columns of the model grid lead, in patient_ras: to the head, to the back, to the left.
_AXES: Final = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
# Robust units beyond which a value says no more than that it is very bright or dark.
_CLIP: Final = (-4.0, 8.0)
_QUARTILES_TO_SD: Final = 1.349  # of a normal distribution

Volumes = Mapping[str, Image]


@dataclass(frozen=True)
class ProstateRecipe:
    """Settings of the prostate recipe.

    Args:
        roles: What is read, one channel each, in this order; T2W, whose grid findings return to, is always read.
        spacing_mm: Step of the model grid along slices, rows and columns.
        shape: Least size of the model grid in voxels; it grows where the organ or the field of view needs it.
        grows: False keeps `shape`, and so the middle of a larger organ or field of view.
        margin_mm: Around the organ, that much belongs to the region in which intensities are judged.
        high_b: b-value of the high-b image in s/mm².
        adc: Which ADC comes first where both are there: the scanner's map, or one fitted from the b-values.
        intensity: `robust` as described above; `zscore` is the plain z-score of every volume as it was stored, over
            its voxels that are not 0, and 0 outside the field of view. Public networks expect it.
        bias: Whether the bias field of T2W is taken out (N4, Tustison et al., IEEE TMI 2010).
        align: Whether diffusion is shifted and turned onto T2W where that improves their agreement.
        normalisation: Of the channels in place of robust units; the ADC keeps its fixed scale unless it is told to be
            normalised with quantities.
    """

    name: ClassVar[str] = "prostate"
    code_version: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 3
    select = staticmethod(select)
    roles: tuple[str, ...] = (T2W,)
    spacing_mm: tuple[float, float, float] = (3.0, 0.5, 0.5)
    shape: tuple[int, int, int] = (24, 160, 160)
    grows: bool = True
    margin_mm: float = 10.0
    high_b: float = 1400.0
    adc: Literal["scanner", "fitted"] = "scanner"
    intensity: Literal["robust", "zscore"] = "robust"
    bias: bool = False
    align: bool = False
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "normalisation", parse_normalisation(self.normalisation))
        # A package's file has lists.
        for name in ("roles", "spacing_mm", "shape"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for field, found, is_right, allowed in (
            ("roles", self.roles, set(self.roles) <= set(ROLES) and len(self.roles) > 0, ROLES),
            ("spacing_mm", self.spacing_mm, len(self.spacing_mm) == 3 and min(self.spacing_mm) > 0, "3 positive steps"),
            ("shape", self.shape, len(self.shape) == 3 and min(self.shape) >= 1, "3 sides of 1 or more"),
            ("high_b", self.high_b, self.high_b > 0, "a positive b-value in s/mm2"),
            (
                "intensity",
                self.intensity,
                self.intensity == "robust" or self.normalisation is None,
                "robust where a normalisation is set",
            ),
        ):
            if not is_right:
                raise ConfigError(
                    f"prostate recipe, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID
                )

    @property
    def augmentation(self) -> Augmentation:
        """Columns run to the patient's left, so a flip exchanges his sides. The ADC keeps its values."""
        return Augmentation(
            rotation=10.0,
            scale=(0.85, 1.2),
            shift=0.05,
            flip_columns=True,
            chance=0.25,
            gamma=(0.7, 1.4),
            brightness=(0.8, 1.2),
            noise=(0.0, 0.2),
            blur=(0.4, 1.0),
            channels=tuple(k for k, role in enumerate(self.roles) if role != ADC),
            bounded=False,
        )

    def tissue(self, image: Image) -> Tissue:
        """T2W (1, slice, row, column) float32 as it was stored, with the further channels' volumes.

        The notes say how the ADC and the high-b image came about; the ADC in 10⁻⁶ mm²/s is a quantity where it is read.
        Raises InputError (MISSING_ROLE) naming the role that is neither there nor can be computed.
        """
        volumes, notes = self.volumes(image)
        pixels = place(MetaTensor(torch.from_numpy(image.array.astype(np.float32))), image.grid)
        # What has the lowest b-value shows most anatomy, so it is what is laid onto T2W.
        anchor = next(iter(_weighted(image)), None) if self.align else None
        if anchor is not None:
            notes = (*notes, "Diffusion is registered to the T2W where that improves their agreement")
        quantities = {role: volume for role, volume in volumes.items() if role == ADC}
        return Tissue(pixels, image.region, notes, volumes=volumes, anchor=anchor, quantities=quantities)

    def harmonise(self, tissue: Tissue) -> MetaTensor:
        """(role, slice, row, column) float32 on the model grid, in the order of `roles`."""
        return self.scale(self.place(tissue))

    def place(self, tissue: Tissue) -> Placed:
        """Values (role, slice, row, column) on the model grid, as stored or as a plain z-score of that."""
        own, region, stored = tissue.grid, tissue.region, tissue.pixels.numpy()[0]
        grid = self._model_grid(own, region)
        judged = self._judged(grid, own, region)
        t2 = correct_bias(stored, own) if self.bias else stored
        anchor = tissue.anchor
        moves = np.eye(4) if anchor is None else align(anchor.array[0], anchor.grid, t2, own).matrix
        channels = []
        for role in self.roles:
            values, place_of = t2, own
            if role != T2W:
                volume = tissue.volumes[role]
                values, place_of = volume.array[0], replace(volume.grid, affine=moves @ volume.grid.affine)
            channels.append(resample(_zscore(values) if self.intensity == "zscore" else values, place_of, grid))
        return Placed(place(MetaTensor(torch.from_numpy(np.stack(channels))), grid), judged)

    def scale(self, placed: Placed) -> MetaTensor:
        """Robust units, or those of the normalisation; of the ADC fixed ones."""
        if self.intensity == "zscore":
            return placed.values
        scaled = placed.values.clone()
        varied = self._normalised
        if self.normalisation is not None:
            scaled = Normalise(self.normalisation, varied, bounded=False)(placed)
        for channel, role in enumerate(self.roles):
            if channel not in varied:
                own = self._scaled(role, placed.values[channel].numpy(), placed.foreground)
                scaled[channel] = torch.from_numpy(own)
        return scaled

    def fit(self, cases: Iterable[Placed]) -> Self:
        """With the reference of its normalisation; itself where it has none."""
        if self.normalisation is None:
            return self
        return replace(self, normalisation=learn(self.normalisation, cases, self._normalised))

    @property
    def _normalised(self) -> tuple[int, ...]:
        """The channels that the normalisation changes."""
        told = self.normalisation
        if told is None:
            return ()
        return tuple(k for k, role in enumerate(self.roles) if role != ADC or told.with_quantities)

    def volumes(self, image: Image) -> tuple[Volumes, tuple[str, ...]]:
        """The volumes of all roles but T2W, ADC and high b as they go into the network; and how they came about."""
        weighted, adc, high_b = _weighted(image), image.beside.get(ADC), image.beside.get(HIGH_B)
        is_computed = HIGH_B in self.roles and self.intensity == "robust"
        is_fitted = len(weighted) > 1 and (adc is None or self.adc == "fitted")
        notes: list[str] = []
        fit = None
        if len(weighted) > 1 and (is_computed or (is_fitted and ADC in self.roles)):
            fit = fit_adc([v.array[0] for v in weighted], [v.b_value or 0.0 for v in weighted])
            check_fitted(fit.adc, weighted[0].array[0], "exam")
        if fit is not None and is_fitted:
            adc = replace(weighted[0], array=fit.adc[None], b_value=None)
            notes.append(f"The ADC was fitted from the b-values {_listed(fit)} s/mm2")
        if fit is not None and is_computed:
            high_b = replace(weighted[0], array=computed_signal(fit, self.high_b)[None], b_value=self.high_b)
            notes.append(f"The image at b = {self.high_b:g} s/mm2 was computed from the b-values {_listed(fit)} s/mm2")
        elif high_b is not None and is_computed:
            high_b, note = self._moved(high_b, adc)
            notes.append(note)
        ready = {ADC: adc, HIGH_B: high_b}
        found: dict[str, Image] = {}
        for role in self.roles:
            if role == T2W:
                continue
            volume = ready[role]
            if volume is None:
                raise InputError(
                    f"exam: found {[T2W, *image.beside]}; this recipe reads {list(self.roles)}, and {role} can not be "
                    "computed from what is there",
                    Reason.MISSING_ROLE,
                )
            found[role] = volume
        return found, tuple(notes)

    def _moved(self, acquired: Image, adc: Image | None) -> tuple[Image, str]:
        """The one diffusion image that there is, at `high_b` by the ADC; as it is where that cannot be known."""
        if acquired.b_value is None or adc is None:
            why = "its b-value is unknown, or no ADC is there"
            return acquired, f"The high b-value image is used as it was acquired: {why}"
        on_grid = resample(adc.array[0], adc.grid, acquired.grid)
        decay = np.exp((acquired.b_value - self.high_b) * on_grid * 1e-6)
        signal = (acquired.array[0] * decay).astype(np.float32)
        said = f"that at b = {acquired.b_value:g} s/mm2 and the ADC"
        note = f"The image at b = {self.high_b:g} s/mm2 was computed from {said}"
        return replace(acquired, array=signal[None], b_value=self.high_b), note

    def _model_grid(self, own: Grid, region: Box | None) -> Grid:
        """At least `shape`, around the region or the field of view, along the patient's axes as the slices lie."""
        low, high = np.split((region or own.whole).row, 2)
        margin = 0.0 if region is None else self.margin_mm
        order, directions = _ordered(own)
        extent = ((high - low) * np.asarray(own.spacing))[order] + 2 * margin
        steps = np.asarray(self.spacing_mm)
        needed = np.ceil(extent / steps - 1e-6).astype(int)
        # Networks want sides that are multiples of a power of two; the least size has one.
        least = np.asarray(self.shape)
        unit = least & -least
        sides = np.maximum(least, -(-needed // unit) * unit) if self.grows else least
        centre = own.world(((low + high) / 2)[None])[0]
        affine = np.eye(4)
        affine[:3, :3] = directions * steps
        affine[:3, 3] = centre - affine[:3, :3] @ ((sides - 1) / 2)
        # On a voxel of the key volume, not half a slice beside it: slices of the model's spacing then stay as they are.
        first = np.linalg.solve(own.affine, affine[:, 3])[:3]
        affine[:3, 3] += own.affine[:3, :3] @ (np.rint(first) - first)
        return Grid(tuple(int(n) for n in sides), affine, own.frame, own.unit)

    def _judged(self, grid: Grid, own: Grid, region: Box | None) -> Array:
        """Where intensities are judged: bool of the model grid, inside the field of view and the region's margin."""
        low, high = np.split((region or own.whole).row, 2)
        reach = 0.0 if region is None else self.margin_mm / np.asarray(own.spacing)
        low, high = np.maximum(low - reach, 0), np.minimum(high + reach, own.shape)
        return within(grid, own, low, high - 1e-9)

    def _scaled(self, role: str, values: Array, judged: Array) -> Array:
        """The values of one channel in robust units, float32; of the ADC in fixed ones."""
        if role == ADC:
            return np.asarray(np.clip(values, 0.0, _LARGEST_ADC) * np.float32(2.0 / _LARGEST_ADC) - 1, dtype=np.float32)
        seen = values[judged]
        first, middle, third = np.percentile(seen, (25, 50, 75)) if seen.size else (0.0, 0.0, 1.0)
        scale = max(float(third - first) / _QUARTILES_TO_SD, 1e-6)
        return np.asarray(np.clip((values - middle) / scale, *_CLIP), dtype=np.float32)


def _zscore(values: Array) -> Array:
    """The z-score over voxels that are not 0, which stay 0: there no signal was stored."""
    shown = values != 0
    if not shown.any():
        return values.astype(np.float32)
    mean, sd = float(values[shown].mean(dtype=np.float64)), float(values[shown].std(dtype=np.float64))
    return np.where(shown, (values - mean) / max(sd, 1e-6), 0.0).astype(np.float32)


def _listed(fit: AdcFit) -> str:
    return ", ".join(f"{b:g}" for b in fit.b_values)


def _weighted(image: Image) -> list[Image]:
    """The diffusion-weighted volumes with a known b-value, lowest first."""
    known = [v for role, v in image.beside.items() if role != ADC and v.b_value is not None]
    same = [v for v in known if v.grid.shape == known[0].grid.shape]
    return sorted(same, key=lambda v: v.b_value or 0.0)


def _ordered(own: Grid) -> tuple[list[int], Floats]:
    """Which own axis leads along each of `_AXES` most, and its unit vector in that sense (3, axis)."""
    units = own.affine[:3, :3] / np.asarray(own.spacing)
    likeness = _AXES @ units
    order: list[int] = []
    for axis in range(3):
        free = [k for k in range(3) if k not in order]
        order.append(max(free, key=lambda k: abs(likeness[axis, k])))
    signs = np.sign([likeness[axis, k] for axis, k in enumerate(order)])
    return order, np.asarray(units[:, order] * signs)
