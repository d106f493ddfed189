"""Synthetic mammograms: a breast, a view and its lesions in, the raw detector picture and the processed one out.

1. The shadow of the tissue (`mammography_tissue`).
2. An exposure that exposure control chooses, scatter that a grid leaves, quantum noise; linear, high in air.
3. For Presentation: logarithm, equalisation of the thin periphery, sharpening.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from imaging.phantoms.mammography.body import Floats, Mask
from imaging.phantoms.mammography.tissue import BreastScene, Field, Shadow, cast

_SCATTER, _SCATTER_MM = 0.12, 14.0


@dataclass(frozen=True, eq=False)
class Mammogram:
    """One exposure. `exposure`: detected photons per pixel, float (row, column), high where there is no tissue.

    `processed`: float (row, column), 0 in air to about 1 in the densest tissue. `breast`, `open`: bool masks of tissue
    and of what the collimator leaves open. `lesions`: bool (row, column) by lesion_id, of those the field shows.
    """

    exposure: Floats
    processed: Floats
    breast: Mask
    open: Mask
    lesions: dict[str, Mask]


@dataclass(frozen=True, slots=True)
class Processing:
    """A maker's way from raw to presented: `equalise` 0 to 1, `sharpen` 0 to 1, `gamma` of the scale.

    `s_curve`, -1 to 1, bends the scale besides, 1 to full contrast in the middle. `cosine_step`: to what share of the
    scale the cosine coefficients of blocks of 8 × 8 pixels are rounded, as lossy coding does; 0 leaves them.
    """

    equalise: float = 0.8
    sharpen: float = 0.5
    gamma: float = 1.0
    s_curve: float = 0.0
    cosine_step: float = 0.0


@dataclass(frozen=True, slots=True)
class DetectorResponse:
    """How X-rays are turned into numbers.

    `photons_per_mm2`: detected where only 30 % of the breast is denser, what exposure control aims at. `blur_mm`:
    standard deviation of what spreads in the detector, tissue and quantum noise alike.
    """

    photons_per_mm2: float = 9.0e4
    blur_mm: float = 0.0


def expose(scene: BreastScene, processing: Processing, detection: DetectorResponse | None = None) -> Mammogram:
    """One exposure of a scene. The same arguments give the same picture, bit for bit."""
    shadow, opened = cast(scene), _collimation(scene.field)
    photons = _detect(scene, shadow, opened, detection or DetectorResponse())
    lesions = {name: mask & opened for name, mask in shadow.lesions.items() if (mask & opened).any()}
    return Mammogram(photons, _present(scene.field, photons, opened, processing), shadow.breast, opened, lesions)


def _collimation(field: Field) -> Mask:
    """What the collimator leaves open: everything, or a disc in the middle."""
    if not field.spot_mm:
        return np.ones((field.rows, field.columns), dtype=np.bool_)
    row = np.arange(field.rows)[:, None] - (field.rows - 1) / 2
    column = np.arange(field.columns)[None, :] - (field.columns - 1) / 2
    return np.asarray(np.hypot(row, column) * field.pitch_mm < field.spot_mm / 2)


def _detect(scene: BreastScene, shadow: Shadow, opened: Mask, detection: DetectorResponse) -> Floats:
    """Detected photons per pixel: exposure control, scatter that a grid leaves, quantum noise, blur."""
    pitch, per_mm2 = scene.field.pitch_mm, detection.photons_per_mm2
    dense = float(np.percentile(shadow.attenuation[shadow.breast], 70)) if shadow.breast.any() else 0.0
    dense = min(dense, 0.07 * scene.breast.thickness_mm)  # with silicone in the way, exposure is set by hand
    primary = np.exp(dense - shadow.attenuation) * per_mm2 * pitch**2
    primary = np.minimum(primary, per_mm2 * pitch**2 * np.exp(4.5))
    scatter = _smooth(np.minimum(primary, per_mm2 * pitch**2 * 6), _SCATTER_MM, pitch)
    mean = np.where(opened, primary + _SCATTER * scatter, 0.002 * primary)
    noise = np.random.default_rng([scene.seed, *scene.tissue_seed, 9]).normal(size=mean.shape)
    counted = np.maximum(mean + np.sqrt(mean) * noise, 0.5)
    if detection.blur_mm:
        counted = ndimage.gaussian_filter(counted, detection.blur_mm / pitch, mode="nearest")
    return np.asarray(counted)


def _smooth(picture: Floats, sigma_mm: float, pitch_mm: float) -> Floats:
    """Gaussian of many pixels' width, on a coarse grid of a quarter of it."""
    step = max(round(sigma_mm / 4 / pitch_mm), 1)
    rows, columns = picture.shape
    padded = np.pad(picture, ((0, -rows % step), (0, -columns % step)), mode="edge")
    small = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3))
    small = ndimage.gaussian_filter(small, sigma_mm / (step * pitch_mm), mode="nearest")
    for axis, size in enumerate((rows, columns)):
        place = np.clip((np.arange(size) + 0.5) / step - 0.5, 0, small.shape[axis] - 1)
        low = np.minimum(place.astype(int), max(small.shape[axis] - 2, 0))
        weight = (place - low)[:, None] if axis == 0 else (place - low)[None, :]
        high = np.minimum(low + 1, small.shape[axis] - 1)
        small = np.take(small, low, axis) * (1 - weight) + np.take(small, high, axis) * weight
    return np.asarray(small)


def _present(field: Field, photons: Floats, opened: Mask, processing: Processing) -> Floats:
    """Raw to presented: 0 in air and under the collimator, about 1 in the densest tissue."""
    air = float(np.percentile(photons[opened], 99.5))
    level = np.log(air / photons)
    level = np.where(opened, level, np.median(level[opened]))
    thick = np.clip(ndimage.gaussian_filter(level, 0.6 / field.pitch_mm), 0, None)
    breast = (thick > 0.12) & opened
    if not breast.any():
        return np.zeros_like(level)
    weight = _smooth(breast.astype(np.float64), 5.0, field.pitch_mm)
    smooth = _smooth(np.where(breast, level, 0.0), 5.0, field.pitch_mm) / np.maximum(weight, 1e-3)
    fat = float(np.percentile(smooth[breast], 30))
    level = level + processing.equalise * np.clip(fat - smooth, 0, None) * breast
    fine = level - ndimage.gaussian_filter(level, 0.5 / field.pitch_mm, truncate=3.0)
    broad = level - _smooth(level, 2.5, field.pitch_mm)
    inner = ndimage.binary_erosion(breast, iterations=max(round(1.0 / field.pitch_mm), 1))
    level = level + processing.sharpen * (0.7 * fine + 0.5 * broad) * inner
    low = 0.72 * fat
    high = float(np.clip(np.percentile(level[breast], 99.0), 1.45 * fat, 1.9 * fat))  # silicone is beyond
    scaled = np.clip((level - low) / max(high - low, 0.1), 0, 1.25)
    thin = np.clip(level / max(low, 1e-3), 0, 1) * 0.12
    shown = _graded(scaled, processing)
    return np.asarray(np.where(opened, _coded(thin + 0.88 * shown, processing.cosine_step), 0.0))


def _graded(scaled: Floats, processing: Processing) -> Floats:
    """The maker's curve, monotone, of a scale from 0 to 1 and a little beyond."""
    graded = scaled**processing.gamma
    if processing.s_curve:
        within = np.clip(graded, 0, 1)
        graded = graded + processing.s_curve * (within * within * (3 - 2 * within) - within)
    return np.asarray(graded)


def _coded(picture: Floats, step: float) -> Floats:
    """The picture after its blocks' cosine coefficients were rounded to `step`; blocks are whole, edges repeated."""
    if not step:
        return picture
    rows, columns = picture.shape
    padded = np.pad(picture, ((0, -rows % 8), (0, -columns % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8)
    coefficients = fft.dctn(blocks, axes=(1, 3), norm="ortho")
    coded = fft.idctn(np.rint(coefficients / step) * step, axes=(1, 3), norm="ortho")
    return np.asarray(coded.reshape(padded.shape)[:rows, :columns])
