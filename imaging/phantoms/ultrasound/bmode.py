"""Synthetic B-mode ultrasound: a seed and a scan setting in, plausible echo pictures with known truth out.

The picture is built where a scanner builds it, in beam coordinates (sample along the line, line):

1. fully developed speckle: circular complex Gaussian scatterers weighted by the tissue's echo level, plus coherent
   interfaces (Wagner et al., *Statistics of speckle in ultrasound B-scans*, 1983);
2. a pulse of constant length along the line and a beam whose width across it follows λ(z)·F, wider away from the focus;
3. absorption that grows with frequency and lowers the mean frequency of the pulse with depth, gain that compensates it
   for average tissue only: hence shadows and enhancement, and electronic noise that rises with depth;
4. envelope, compounding, logarithmic compression;
5. scan conversion to a Cartesian pixel grid, sectors included.

Truth is not carried along: the outline is evaluated exactly at every pixel centre.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.phantoms.ultrasound.body import Anatomy, Body, SampledBreast
from imaging.phantoms.ultrasound.head import Head
from imaging.phantoms.ultrasound.tissue import AVERAGE_ABSORPTION, EchoTissue, Floats, Mask, PlantedLesion

Bytes = NDArray[np.uint8]
Signal = NDArray[np.complex128]
SPEED_MM_PER_US = 1.54


@dataclass(frozen=True, slots=True)
class Probe:
    """A transducer array. `radius_mm` is 0 for a linear array; `face_mm` is the width of the face along its arc."""

    frequency_mhz: float = 10.0
    bandwidth: float = 0.35
    face_mm: float = 40.0
    radius_mm: float = 0.0
    f_number: float = 2.4
    focus_mm: float = 18.0

    @property
    def curved(self) -> bool:
        return self.radius_mm > 0

    @property
    def half_field(self) -> float:
        """Line position at the edge of the picture: radians for a curved array, millimetres for a linear one."""
        return self.face_mm / 2 / (self.radius_mm if self.curved else 1.0)

    @property
    def pulse_sigma_mm(self) -> float:
        """Standard deviation of the pulse along the line; its full width at half maximum is 4 ln 2 / (π B)."""
        width_us = 4 * np.log(2) / (np.pi * self.bandwidth * self.frequency_mhz)
        return float(width_us * SPEED_MM_PER_US / 2 / 2.355)


LINEAR_10 = Probe()
LINEAR_8 = Probe(frequency_mhz=8.0, face_mm=44.0, bandwidth=0.38, focus_mm=20.0)
CURVED_7 = Probe(frequency_mhz=7.5, face_mm=46.0, radius_mm=52.0, bandwidth=0.42, focus_mm=22.0)
CURVED_3 = Probe(frequency_mhz=3.5, face_mm=62.0, radius_mm=55.0, bandwidth=0.5, f_number=2.8, focus_mm=70.0)
SECTOR_3 = Probe(frequency_mhz=3.2, face_mm=17.0, radius_mm=11.0, bandwidth=0.5, f_number=4.2, focus_mm=80.0)


@dataclass(frozen=True, slots=True)
class Scan:
    """How a picture is taken. `spacing_mm` is (row, column) of the output grid; looks: compounded independent views.

    `persistence`: the weight of each look relative to the one after it; 1 averages them, 0 shows the last alone.
    `noise_db`: electronic noise before gain, relative to gland at the probe. `gain_db` shifts and `range_db` spans the
    grey scale; `tgc_db_per_cm` is gain beyond what absorption needs, by depth. The grey map is monotone: `contrast` is
    its exponent (1: linear in decibels), `s_curve` from -1 to 1 bends it, 1 to full contrast in the middle.
    """

    probe: Probe = LINEAR_10
    depth_mm: float = 40.0
    spacing_mm: tuple[float, float] = (0.08, 0.08)
    anatomy: Anatomy = "breast"
    gain_db: float = 0.0
    range_db: float = 62.0
    contrast: float = 1.0
    noise_db: float = -78.0
    looks: int = 2
    persistence: float = 1.0
    tgc_db_per_cm: float = 0.0
    s_curve: float = 0.0

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Edges of the picture: top and bottom (z, below the middle of the face), left and right (x)."""
        probe = self.probe
        if not probe.curved:
            return 0.0, self.depth_mm, -probe.face_mm / 2, probe.face_mm / 2
        half = (probe.radius_mm + self.depth_mm) * np.sin(probe.half_field)
        top = probe.radius_mm * (np.cos(probe.half_field) - 1)
        return float(top), self.depth_mm, float(-half), float(half)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        top, bottom, left, right = self.extent_mm
        return round((bottom - top) / self.spacing_mm[0]), round((right - left) / self.spacing_mm[1])

    def fitted(self, rows: int, columns: int, aspect: float = 1.0) -> Scan:
        """This scan with the finest spacing at which the picture fits; `aspect` is column spacing over row spacing."""
        top, bottom, left, right = self.extent_mm
        step = max((bottom - top) / rows, (right - left) / columns / aspect)
        return replace(self, spacing_mm=(step, step * aspect))

    def pixel_centres(self) -> tuple[Floats, Floats]:
        """x and z in millimetres of every pixel centre, each (row, column)."""
        rows, columns = self.shape
        z = self.extent_mm[0] + (np.arange(rows) + 0.5) * self.spacing_mm[0]
        x = (np.arange(columns) + 0.5 - columns / 2) * self.spacing_mm[1]
        grid_z, grid_x = np.meshgrid(z, x, indexing="ij")
        return grid_x, grid_z


@dataclass(frozen=True, eq=False)
class Sonogram:
    """One picture: `pixels` uint8 (row, column), `truth` uint8 0/1 and `fan` bool on the same grid.

    `spacing_mm` is (row, column). `envelope` is the uncompressed echo amplitude in beam coordinates (sample, line).
    Without a lesion or a head `truth` is empty.
    """

    pixels: Bytes
    truth: Bytes
    fan: Mask
    spacing_mm: tuple[float, float]
    scan: Scan
    envelope: Floats = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Beams:
    """The lattice of acquisition: depth along the line (sample,) and position of the lines (line,), mm or radians."""

    depth: Floats
    lines: Floats

    @staticmethod
    def of(probe: Probe, depth_mm: float) -> _Beams:
        step = float(probe.pulse_sigma_mm * 0.9)
        half = probe.half_field
        reach = max(probe.radius_mm, 0.45 * (probe.radius_mm + probe.focus_mm)) if probe.curved else 1.0
        pitch = SPEED_MM_PER_US / probe.frequency_mhz * probe.f_number * 0.3 / reach
        count = int(np.ceil(2 * half / pitch)) + 1
        lines = (np.arange(count, dtype=np.float64) - (count - 1) / 2) * pitch
        return _Beams(np.arange(int(depth_mm / step) + 2, dtype=np.float64) * step, np.asarray(lines, dtype=np.float64))

    @property
    def step(self) -> float:
        return float(self.depth[1] - self.depth[0])

    @property
    def pitch(self) -> float:
        return float(self.lines[1] - self.lines[0])


def simulate(scan: Scan, seed: int, lesions: tuple[PlantedLesion, ...] = (), head: Head | None = None) -> Sonogram:
    """One still. The same arguments give the same picture, bit for bit."""
    return simulate_cine(scan, seed, lesions, frames=1, head=head)[0]


def simulate_cine(
    scan: Scan, seed: int, lesions: tuple[PlantedLesion, ...] = (), frames: int = 12, head: Head | None = None
) -> list[Sonogram]:
    """A clip: the probe glides (or rocks) to and fro by two millimetres; tissue, speckle and truth go with it."""
    return scan_body(scan, Body(scan.anatomy, seed, lesions, head), frames)


def scan_body(scan: Scan, body: Body | SampledBreast, frames: int = 1) -> list[Sonogram]:
    """A clip of a body that was made before; its seed draws speckle and noise too."""
    beams = _Beams.of(scan.probe, scan.depth_mm)
    phase = 2 * np.pi * np.arange(frames) / max(frames, 1)
    reach = 1.1 / (scan.probe.radius_mm + scan.probe.focus_mm if scan.probe.curved else 1.0) / beams.pitch
    across = np.rint(reach * np.sin(phase)).astype(int)
    down = np.rint(0.25 / beams.step * (1 - np.cos(phase))).astype(int)
    bench = _Bench.of(scan, body, beams, (int(down.max()), int(np.abs(across).max())))
    moves = zip(down.tolist(), across.tolist(), strict=True)
    return [bench.frame(moved, number) for number, moved in enumerate(moves)]


def _to_beam(probe: Probe, x: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Depth along the line (mm) and line position (mm, or radians for a curved array) of points in millimetres."""
    if not probe.curved:
        return z, x
    return np.hypot(x, z + probe.radius_mm) - probe.radius_mm, np.arctan2(x, z + probe.radius_mm)


def _from_beam(probe: Probe, depth: Floats, line: Floats) -> tuple[Floats, Floats]:
    """x and z in millimetres: the inverse of `_to_beam`."""
    if not probe.curved:
        return line, depth
    reach = probe.radius_mm + depth
    return reach * np.sin(line), reach * np.cos(line) - probe.radius_mm


def _scatterers(seed: list[int], shape: tuple[int, ...]) -> Signal:
    """White circular complex Gaussian noise of unit power, (sample, line)."""
    rng = np.random.default_rng(seed)
    return np.asarray((rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2))


@dataclass(frozen=True, slots=True)
class _Bench:
    """A body under a probe. `tissue` and `views` (the scatterers of each look) lie on the beam lattice with a margin
    of (samples below, lines on either side), so that a moving probe looks at another window of the same body."""

    scan: Scan
    body: Body | SampledBreast
    beams: _Beams
    margin: tuple[int, int]
    tissue: EchoTissue
    views: list[Signal]

    @staticmethod
    def of(scan: Scan, body: Body | SampledBreast, beams: _Beams, margin: tuple[int, int]) -> _Bench:
        samples = np.arange(len(beams.depth) + margin[0]) * beams.step
        lines = np.arange(-margin[1], len(beams.lines) + margin[1]) * beams.pitch + beams.lines[0]
        depth, line = np.meshgrid(samples, lines, indexing="ij")
        tissue = body.tissue(*_from_beam(scan.probe, depth, line), depth)
        views = [_scatterers([body.seed, 100 + look], depth.shape) for look in range(len(_look_weights(scan)))]
        return _Bench(scan, body, beams, margin, tissue, views)

    def frame(self, moved: tuple[int, int], number: int) -> Sonogram:
        """One frame, the probe `moved` by (samples, lines): under lattice point p lies the tissue of p + moved."""
        scan, probe, beams = self.scan, self.scan.probe, self.beams
        first_line = self.margin[1] + moved[1]
        window = (slice(moved[0], moved[0] + len(beams.depth)), slice(first_line, first_line + len(beams.lines)))
        tissue = EchoTissue(self.tissue.echo_db[window], self.tissue.mirror[window], self.tissue.absorption[window])
        noise = _scatterers([self.body.seed, 300 + number], tissue.echo_db.shape)
        echoes = [_receive(scan, beams, tissue, view[window], noise) for view in self.views]
        looks = np.abs(np.stack(echoes))
        envelope = looks.mean(axis=0) if scan.persistence == 1 else np.tensordot(_look_weights(scan), looks, axes=1)

        offset = (moved[0] * beams.step, moved[1] * beams.pitch)
        pixel_depth, pixel_line = _to_beam(probe, *scan.pixel_centres())
        fan = (pixel_depth >= 0) & (pixel_depth <= scan.depth_mm) & (np.abs(pixel_line) <= probe.half_field)
        pixels = np.where(fan, _convert(scan, beams, envelope, pixel_depth, pixel_line), 0).astype(np.uint8)
        truth = self.body.truth(*_from_beam(probe, pixel_depth + offset[0], pixel_line + offset[1])) & fan
        return Sonogram(pixels, truth.astype(np.uint8), fan, scan.spacing_mm, scan, envelope)


def _look_weights(scan: Scan) -> Floats:
    """Weight of each look, the newest first; one that would not show in 256 greys is left out. They sum to 1."""
    weights = scan.persistence ** np.arange(scan.looks, dtype=np.float64)
    kept = weights[weights > 1e-3]
    return np.asarray(kept / kept.sum())


def _receive(scan: Scan, beams: _Beams, tissue: EchoTissue, scatterers: Signal, noise: Signal) -> Signal:
    """Complex echo signal after beam forming and gain, (sample, line); gland near the probe has mean power 1."""
    probe = scan.probe
    source = scatterers * 10 ** (tissue.echo_db / 20)
    speckle = _beamform(probe, beams, source, coherent=False) + _beamform(probe, beams, tissue.mirror, coherent=True)
    frequency = _mean_frequency(probe, beams.depth)[:, None]
    round_trip_cm = 2 * beams.step / 10
    excess = np.cumsum((tissue.absorption - AVERAGE_ABSORPTION) * frequency, axis=0) * round_trip_cm
    aperture = 0.8 / probe.f_number / (beams.pitch * (probe.radius_mm + probe.focus_mm if probe.curved else 1.0))
    excess = ndimage.gaussian_filter1d(excess, aperture, axis=1, mode="nearest")
    gain = np.cumsum(frequency * AVERAGE_ABSORPTION, axis=0) * round_trip_cm
    electronic = noise * 10 ** ((scan.noise_db + np.minimum(gain, 70.0)) / 20)
    return np.asarray(speckle * 10 ** (-excess / 20) + electronic)


def _mean_frequency(probe: Probe, depth: Floats) -> Floats:
    """Mean frequency of a Gaussian pulse after the way to `depth` and back, MHz: f₀ − 2·α·z·σ_f², α in neper."""
    sigma_mhz = probe.bandwidth * probe.frequency_mhz / 2.355
    neper_per_mm = AVERAGE_ABSORPTION / 8.686 / 10
    return np.asarray(np.maximum(probe.frequency_mhz - 2 * neper_per_mm * depth * sigma_mhz**2, 0.5))


def _beamform(probe: Probe, beams: _Beams, source: Floats | Signal, coherent: bool) -> Signal:
    """Point spread: pulse along the line, beam across it. Noise keeps its power, coherent sheets their amplitude."""
    sigma_samples = probe.pulse_sigma_mm / beams.step
    pulsed = ndimage.gaussian_filter1d(source, sigma_samples, axis=0, mode="constant" if coherent else "wrap")
    wavelength = SPEED_MM_PER_US / _mean_frequency(probe, beams.depth)
    defocus = (beams.depth - probe.focus_mm) / (3.5 * wavelength * probe.f_number**2)
    sigma_mm = wavelength * probe.f_number * np.sqrt(1 + 0.35 * defocus**2) / 2.355
    pitch_mm = beams.pitch * (probe.radius_mm + beams.depth if probe.curved else np.ones_like(beams.depth))
    padded = len(beams.lines) + 64
    turns = np.fft.fftfreq(padded)
    response = np.exp(-2 * (np.pi * turns * (sigma_mm / pitch_mm)[:, None]) ** 2)
    signal = np.fft.ifft(np.fft.fft(pulsed, padded, axis=1) * response, axis=1)[:, : len(beams.lines)]
    if coherent:
        return np.asarray(signal)
    kernel = ndimage.gaussian_filter1d(np.eye(1, 129, 64)[0], sigma_samples)
    power = (kernel**2).sum() * (response**2).mean(axis=1, keepdims=True)
    return np.asarray(signal / np.sqrt(power))


def _convert(scan: Scan, beams: _Beams, envelope: Floats, depth: Floats, line: Floats) -> Floats:
    """Log compression and scan conversion: grey value 0 to 255 at each pixel, given by its beam coordinates."""
    where = [depth / beams.step, (line - beams.lines[0]) / beams.pitch]
    amplitude = ndimage.map_coordinates(envelope, where, order=1, mode="nearest")
    headroom_db = 15.0
    level = 20 * np.log10(np.maximum(amplitude, 1e-6)) + scan.gain_db - headroom_db
    if scan.tgc_db_per_cm:
        level = level + scan.tgc_db_per_cm * depth / 10
    grey = np.clip(1 + level / scan.range_db, 0, 1) ** scan.contrast
    if scan.s_curve:
        grey = grey + scan.s_curve * (grey * grey * (3 - 2 * grey) - grey)
    return np.asarray(np.rint(255 * grey))
