"""What a receiver measures of a pelvis on a grid: tissue → signal → coil → noise, and maps computed from that.

A voxel's signal is the mean over its thickness of the mixed signals of its tissues; borders are as soft as a pixel is
wide. Signals mix, not ADCs, as in a scanner. Units: signal 0 to about 1; b in s/mm²; ADC in 10⁻⁶ mm²/s.
Magnitude noise is Rician (Gudbjartsson and Patz, Magn. Reson. Med. 34, 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imaging.phantoms.prostate.anatomy import AIR, Floats, PelvicTissue, Pelvis, Point

Labels = NDArray[np.uint8]
Contrast = Callable[[PelvicTissue], float]
"""The signal of a tissue in one picture."""
Coil = Literal["surface", "endorectal"]
T2W_ECHO_MS, DWI_ECHO_MS = 101.0, 65.0
_SUBSLICES = (-1 / 3, 0.0, 1 / 3)


@dataclass(frozen=True)
class Slab:
    """A stack of slices in patient space (LPS, mm). Its middle is `centre_mm`; slices follow across × down.

    `pitch_mm`: (row step, column step); `step_mm`: from slice to slice, thickness and gap; `shape`: (slice, row,
    column).
    """

    centre_mm: Point
    across: Point
    down: Point
    pitch_mm: tuple[float, float]
    thickness_mm: float
    step_mm: float
    shape: tuple[int, int, int]

    @property
    def normal(self) -> Floats:
        return np.cross(self.across, self.down)

    @property
    def lps(self) -> Floats:
        """(4, 4): (slice, row, column, 1) of a voxel centre → its place."""
        matrix = np.eye(4)
        matrix[:3, 0] = self.normal * self.step_mm
        matrix[:3, 1] = np.array(self.down) * self.pitch_mm[0]
        matrix[:3, 2] = np.array(self.across) * self.pitch_mm[1]
        matrix[:3, 3] = self.centre_mm - matrix[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return matrix

    def corner_mm(self, number: float) -> Floats:
        """The centre of the first voxel of a slice."""
        return np.asarray(self.lps[:3] @ [number, 0, 0, 1])

    def points_mm(self, number: float) -> Floats:
        """(3, row, column): the centres of the voxels of a slice, or of a plane between slices."""
        row, column = np.mgrid[: self.shape[1], : self.shape[2]].astype(np.float64)
        lps = self.lps
        return np.asarray(
            self.corner_mm(number)[:, None, None] + lps[:3, 1, None, None] * row + lps[:3, 2, None, None] * column
        )


@dataclass(frozen=True, slots=True)
class Receiver:
    """Coil, noise and distortion. `noise`: standard deviation of each channel, in units of signal.

    `distortion_mm`: how far echo-planar pictures shift tissue beside rectal gas backwards; 0 leaves them true.
    """

    coil: Coil = "surface"
    noise: float = 0.01
    distortion_mm: float = 0.0


def t2_weighted(tissue: PelvicTissue, echo_ms: float = T2W_ECHO_MS) -> float:
    """Spin echo with a long repetition time."""
    return tissue.density * float(np.exp(-echo_ms / tissue.t2_ms))


def diffusion_weighted(b: float) -> Contrast:
    """Fat-suppressed spin echo EPI: S = S0 · exp(−b · ADC)."""

    def signal(tissue: PelvicTissue) -> float:
        start = tissue.density * float(np.exp(-DWI_ECHO_MS / tissue.t2_ms)) * (0.06 if tissue.is_fat else 1.0)
        return start * float(np.exp(-b * tissue.adc * 1e-6))

    return signal


def t1_weighted(uptake: float) -> Contrast:
    """Gradient echo; `uptake` 0 before contrast medium, 1 at its peak."""

    def signal(tissue: PelvicTissue) -> float:
        return tissue.early + uptake * (tissue.late - tissue.early)

    return signal


def sample(pelvis: Pelvis, slab: Slab, contrasts: Sequence[Contrast], distortion_mm: float = 0.0) -> Floats:
    """(contrast, slice, row, column): signals without coil and noise."""
    volume = np.zeros((len(contrasts), *slab.shape))
    for number in range(slab.shape[0]):
        texture = pelvis.texture(slab.points_mm(number))
        for part in _SUBSLICES:
            points = slab.points_mm(number + part * slab.thickness_mm / slab.step_mm)
            if distortion_mm:
                points = _displaced(pelvis, points, distortion_mm)
            mixed = _mixture(pelvis, points, max(slab.pitch_mm))
            smooth, grain = _weights(contrasts, list(mixed))
            shares = np.stack(list(mixed.values()))
            plane = np.tensordot(smooth, shares, axes=1) + texture * np.tensordot(grain, shares, axes=1)
            volume[:, number] += np.maximum(plane, 0) / len(_SUBSLICES)
    return volume


def _weights(contrasts: Sequence[Contrast], tissues: Sequence[PelvicTissue]) -> tuple[Floats, Floats]:
    """(contrast, tissue): signals, and how much of them is texture."""
    signals = np.array([[contrast(tissue) for tissue in tissues] for contrast in contrasts])
    return signals, signals * [tissue.texture for tissue in tissues]


def _mixture(pelvis: Pelvis, points_mm: Floats, width_mm: float) -> dict[PelvicTissue, Floats]:
    """The share (row, column) of each tissue that a plane meets, front to back, until nothing is left."""
    left = np.ones(points_mm.shape[1:])
    shares: dict[PelvicTissue, Floats] = {}
    corner, across, down = points_mm[:, 0, 0], points_mm[:, 0, -1], points_mm[:, -1, 0]
    normal = np.cross(across - corner, down - corner)
    length = np.linalg.norm(normal)
    for structure in pelvis.structures:
        apart = abs(float((np.array(structure.shape.centre_mm) - corner) @ normal / length))
        if apart >= structure.shape.reach_mm + width_mm:  # the sphere around it cannot touch the plane
            continue
        distance = structure.shape.distance(points_mm) + structure.inset_mm
        share = left * np.clip(0.5 - distance / width_mm, 0, 1)
        shares[structure.tissue] = shares.get(structure.tissue, 0.0) + share
        left = left - share
    shares[AIR] = shares.get(AIR, 0.0) + left
    return shares


def _displaced(pelvis: Pelvis, points_mm: Floats, distance_mm: float) -> Floats:
    """Where an echo-planar picture takes its signal from: shifted front to back, most beside the gas."""
    away = np.maximum(pelvis.gas.distance(points_mm), 0)
    moved = points_mm.copy()
    moved[1] += distance_mm * np.exp(-((away / 18) ** 2))
    return moved


def sensitivity(pelvis: Pelvis, slab: Slab, coil: Coil) -> Floats:
    """(slice, row, column), about 1 in the prostate: brighter towards the coil, smoothly."""
    planes = []
    for number in range(slab.shape[0]):
        x, y, z = slab.points_mm(number) - np.array(pelvis.centre_mm)[:, None, None]
        if coil == "endorectal":
            away = np.sqrt(x**2 + (y - pelvis.rectum.centre_mm[1] + pelvis.centre_mm[1]) ** 2 + (z / 2) ** 2)
            planes.append(0.45 + 1.6 * np.exp(-away / 25))
        else:
            planes.append(1 + (x / 260) ** 2 + (y / 160) ** 2 + 0.0012 * y - 0.5 * (z / 220) ** 2 - 0.0006 * x)
    return np.stack(planes)


def received(signal: Floats, sensitivity_: Floats, receiver: Receiver, seed: Sequence[int]) -> Floats:
    """A noisy magnitude picture of a signal (..., slice, row, column)."""
    rng = np.random.default_rng(list(seed))
    first, second = rng.normal(scale=max(receiver.noise, 1e-12), size=(2, *signal.shape))
    return np.asarray(np.hypot(signal * sensitivity_ + first, second))


def fitted_adc(pictures: Floats, b_values: Sequence[float], floor: float) -> Floats:
    """ADC (slice, row, column) by a log-linear fit over (b, slice, row, column); 0 where the first is below `floor`."""
    b = np.asarray(b_values, dtype=np.float64)
    logarithm = np.log(np.maximum(pictures, 1e-6))
    centred = b - b.mean()
    slope = np.tensordot(centred, logarithm, axes=1) / (centred @ centred)
    return np.asarray(np.where(pictures[0] > floor, np.clip(-slope * 1e6, 0, 4000), 0.0))


def calculated(picture: Floats, b: float, adc: Floats, wanted_b: float) -> Floats:
    """The picture that `wanted_b` would give, from one at `b` and the ADC."""
    return np.asarray(picture * np.exp(-(wanted_b - b) * adc * 1e-6))


def gland_labels(pelvis: Pelvis, slab: Slab) -> Labels:
    """(slice, row, column): 1 where a voxel's centre lies in the prostate."""
    return _labelled(slab, lambda points: pelvis.gland.distance(points) < 0)


def zone_labels(pelvis: Pelvis, slab: Slab) -> Labels:
    """1 peripheral zone, 2 transition zone, which holds urethra and anterior stroma."""
    inner = _labelled(slab, lambda points: pelvis.transition_zone.distance(points) < 0)
    return gland_labels(pelvis, slab) * (1 + inner)


def lesion_labels(pelvis: Pelvis, slab: Slab) -> Labels:
    """The number of the lesion, from 1 in the order of the pelvis; all 0 without any."""
    labels = np.zeros(slab.shape, dtype=np.uint8)
    for number, lesion in enumerate(pelvis.lesions, start=1):
        labels[_labelled(slab, lambda points, shape=lesion.shape: shape.distance(points) < 0) > 0] = number  # type: ignore[misc]
    return labels


def _labelled(slab: Slab, holds: Callable[[Floats], NDArray[np.bool_]]) -> Labels:
    return np.stack([holds(slab.points_mm(number)) for number in range(slab.shape[0])]).astype(np.uint8)
