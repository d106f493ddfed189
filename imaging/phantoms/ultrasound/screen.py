"""What a scanner shows and stores: sonograms placed on its screen, with text, calipers, rulers, logo and Doppler.

Four synthetic vendors, each with its own probe, grey map, gain, noise, screen size and pixel encoding. A screen keeps
echoes (grey) and graphics (coloured marks) apart until it is encoded, as a scanner's own memory planes do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from imaging.phantoms.ultrasound.bmode import (
    CURVED_3,
    CURVED_7,
    LINEAR_8,
    LINEAR_10,
    SECTOR_3,
    Bytes,
    Scan,
    Sonogram,
    simulate_cine,
)
from imaging.phantoms.ultrasound.head import Head
from imaging.phantoms.ultrasound.tissue import Mask, PlantedLesion

VendorLetter = Literal["A", "B", "C", "D"]
Encoding = Literal["RGB", "YBR_FULL_422", "PALETTE COLOR", "MONOCHROME2"]
Arrangement = Literal["single", "split", "duplex", "colour"]

MARK_COLOURS = (
    *((0, 0, 0), (235, 235, 235), (250, 225, 60), (70, 215, 235), (70, 100, 245)),
    *((40, 70, 190), (40, 130, 240), (110, 210, 255), (150, 25, 20), (225, 70, 25), (255, 190, 60)),
)
"""RGB of mark 0 (none), of the text, caliper, cursor and logo marks, and of six flow velocities, away to towards."""
TEXT, CALIPER, CURSOR, LOGO, FLOW = range(1, 6)
_HEADER, _FOOTER, _LEFT, _RIGHT = 48, 26, 14, 62


@dataclass(frozen=True, slots=True)
class Vendor:
    """One synthetic vendor's behaviour. `tint`: RGB gain of the grey map; `aspect`: column over row spacing.

    `obstetric` and `curved_transducer`: the setting and the probe for a look through the abdomen.
    """

    letter: VendorLetter
    model: str
    software: str
    transducer: str
    curved_transducer: str
    scan: Scan
    obstetric: Scan
    screen: tuple[int, int]
    encoding: Encoding
    cine_encoding: Encoding
    aspect: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    burns_in_name: bool = True

    @property
    def manufacturer(self) -> str:
        return f"Synthetic Vendor {self.letter}"


VENDORS: dict[VendorLetter, Vendor] = {
    v.letter: v
    for v in (
        Vendor(
            "A", "Echophant 300", "A 3.1.0", "PL10-4", "PC5-1", Scan(LINEAR_10, 40.0),
            Scan(CURVED_3, 130.0, anatomy="uterus", gain_db=2.0, noise_db=-92.0),
            (540, 720), "RGB", "RGB",
            tint=(1.0, 0.97, 0.90),
        ),
        Vendor(
            "B", "Speckle One", "B 12.0.2", "PL8-3", "PC4-2",
            Scan(LINEAR_8, 45.0, gain_db=4.0, range_db=70.0, noise_db=-72.0, looks=1),
            Scan(CURVED_3, 140.0, anatomy="uterus", gain_db=1.0, range_db=68.0, noise_db=-88.0, looks=1),
            (480, 640), "YBR_FULL_422", "YBR_FULL_422", aspect=1.25,
        ),
        Vendor(
            "C", "Fantom C7", "C 1.4", "PC7-2", "PC6-2",
            Scan(CURVED_7, 48.0, gain_db=-3.0, range_db=56.0, contrast=1.2, noise_db=-80.0, looks=3),
            Scan(CURVED_3, 125.0, anatomy="uterus", range_db=56.0, contrast=1.2, noise_db=-94.0, looks=3),
            (576, 768), "PALETTE COLOR", "PALETTE COLOR", tint=(0.88, 0.95, 1.0),
        ),
        Vendor(
            "D", "Linea D", "D 2024.2", "PL10-2", "PC5-2",
            Scan(LINEAR_10, 35.0, gain_db=1.0, range_db=52.0, contrast=0.85, noise_db=-68.0, looks=1),
            Scan(CURVED_3, 120.0, anatomy="uterus", gain_db=2.0, range_db=54.0, contrast=0.9, noise_db=-88.0, looks=1),
            (600, 800), "MONOCHROME2", "YBR_FULL_422", aspect=0.8, burns_in_name=False,
        ),
    )
}  # fmt: skip
"""The four behaviours: encoding, screen, grey map, gain, depth and noise differ, as between sites."""

ECHO_SCAN = Scan(SECTOR_3, 160.0, anatomy="heart", noise_db=-95.0, gain_db=-2.0)


@dataclass(frozen=True, slots=True)
class Layout:
    """What is on the screen: one picture, two side by side (the second without lesion or head), B-mode over a Doppler
    spectrum (duplex), or B-mode with a colour flow box in it.

    `frames` > 1 gives a cine. `calibrated`: SequenceOfUltrasoundRegions is written; without it nothing states a size.
    """

    arrangement: Arrangement = "single"
    frames: int = 1
    calibrated: bool = True
    text: bool = True
    calipers: bool = False


SINGLE = Layout()


@dataclass(frozen=True, slots=True)
class ScreenRegion:
    """A rectangle of the screen in pixels. `spacing`, (row, column): mm, or cm/s and seconds in a spectrum."""

    kind: Literal["tissue", "colour", "spectral"]
    row: int
    column: int
    rows: int
    columns: int
    spacing: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Screen:
    """`grey` and `truth` uint8 (frame, row, column), `marks` uint8 (row, column) indices into MARK_COLOURS.

    `tissue` bool (row, column): where echoes are shown. `truth` is 0/1, empty without a lesion or a head.
    """

    grey: Bytes
    truth: Bytes
    marks: Bytes
    tissue: Mask
    regions: tuple[ScreenRegion, ...]


class _Canvas:
    """A screen while it is being drawn."""

    def __init__(self, rows: int, columns: int, frames: int) -> None:
        self.grey = np.zeros((frames, rows, columns), dtype=np.uint8)
        self.truth = np.zeros_like(self.grey)
        self.tissue = np.zeros((rows, columns), dtype=np.bool_)
        self.picture = Picture.new("L", (columns, rows), 0)
        self.draw = ImageDraw.Draw(self.picture)
        self.font = ImageFont.load_default_imagefont()  # a bitmap: the same pixels with every FreeType
        self.regions: list[ScreenRegion] = []

    def place(self, clip: list[Sonogram], row: int, column: int) -> ScreenRegion:
        """Put a sonogram's upper left corner at (row, column)."""
        rows, columns = clip[0].pixels.shape
        window = (slice(row, row + rows), slice(column, column + columns))
        for number, sonogram in enumerate(clip):
            self.grey[number][window] = sonogram.pixels
            self.truth[number][window] = sonogram.truth
        self.tissue[window] |= clip[0].fan
        region = ScreenRegion("tissue", row, column, rows, columns, clip[0].spacing_mm)
        self.regions.append(region)
        return region

    def write(self, row: int, column: int, words: str, mark: int = TEXT) -> None:
        self.draw.text((column, row), words, fill=mark, font=self.font)

    def finish(self) -> Screen:
        marks = np.array(self.picture, dtype=np.uint8)
        return Screen(self.grey, self.truth, marks, self.tissue, tuple(self.regions))


@dataclass(frozen=True, slots=True)
class ScreenScene:
    """What is imaged and how it is shown. `header`: the two lines that carry the patient and the institution."""

    vendor: Vendor
    scan: Scan
    seed: int
    lesions: tuple[PlantedLesion, ...]
    layout: Layout
    header: tuple[str, str]
    head: Head | None = None

    @property
    def transducer(self) -> str:
        """The probe as the vendor names it."""
        return self.vendor.curved_transducer if self.scan.anatomy == "uterus" else self.vendor.transducer


def compose(scene: ScreenScene) -> Screen:
    """The screen of one acquisition."""
    rows, columns = scene.vendor.screen
    canvas = _Canvas(rows, columns, scene.layout.frames)
    height, width = rows - _HEADER - _FOOTER, columns - _LEFT - _RIGHT
    if scene.layout.arrangement == "split":
        half = (width - 12) // 2
        region = _b_mode(canvas, scene, (_HEADER, _LEFT, height, half))
        other = replace(scene, seed=scene.seed + 7919, lesions=(), head=None)
        _b_mode(canvas, other, (_HEADER, _LEFT + half + 12, height, half))
    elif scene.layout.arrangement == "duplex":
        upper = int(height * 0.62)
        region = _b_mode(canvas, scene, (_HEADER, _LEFT, upper, width))
        _cursor(canvas, region)
        _spectrum(canvas, scene.seed, (_HEADER + upper + 10, _LEFT, height - upper - 10, width))
    else:
        region = _b_mode(canvas, scene, (_HEADER, _LEFT, height, width))
    if scene.layout.arrangement == "colour":
        _colour_flow(canvas, scene.seed, region)
    if scene.layout.text:
        _annotate(canvas, scene, region)
    if scene.layout.calipers:
        _calipers(canvas, scene, region)
    return canvas.finish()


def _b_mode(canvas: _Canvas, scene: ScreenScene, box: tuple[int, int, int, int]) -> ScreenRegion:
    """A sonogram as large as the box (row, column, rows, columns) allows, centred across it."""
    row, column, rows, columns = box
    fitted = scene.scan.fitted(rows, columns, scene.vendor.aspect)
    clip = simulate_cine(fitted, scene.seed, scene.lesions, len(canvas.grey), scene.head)
    return canvas.place(clip, row, column + (columns - clip[0].pixels.shape[1]) // 2)


def _spectrum(canvas: _Canvas, seed: int, box: tuple[int, int, int, int]) -> None:
    """A pulsed-wave Doppler strip: an arterial velocity envelope filled with speckle, over a baseline."""
    row, column, rows, columns = box
    seconds = 4.0
    rng = np.random.default_rng([seed, 51])
    time = np.arange(columns) / columns * seconds
    beat = (time + rng.uniform()) % 1.0
    velocity = 0.20 + 0.55 * np.exp(-(((beat - 0.18) / 0.08) ** 2)) + 0.15 * np.exp(-(((beat - 0.45) / 0.12) ** 2))
    base = int(rows * 0.75)
    height = (base - np.arange(rows))[:, None] / (rows * 0.85)
    filled = np.exp(-(((height - 0.8 * velocity) / 0.10) ** 2)) + 0.25 * ((height > 0.04) & (height < 0.8 * velocity))
    speckle = rng.rayleigh(size=(rows, columns))
    strip = np.clip(150 * filled * speckle + 10 * speckle, 0, 255).astype(np.uint8)
    strip[base] = 200
    canvas.grey[:, row : row + rows, column : column + columns] = strip
    canvas.write(row + 2, column + columns + 4, "cm/s", CURSOR)
    canvas.regions.append(ScreenRegion("spectral", row, column, rows, columns, (110.0 / rows, seconds / columns)))


def _colour_flow(canvas: _Canvas, seed: int, inside: ScreenRegion) -> None:
    """A colour box over the middle of a picture: a winding vessel with flow towards and away from the probe."""
    rng = np.random.default_rng([seed, 53])
    rows, columns = int(inside.rows * 0.4), int(inside.columns * 0.45)
    row = inside.row + int(inside.rows * rng.uniform(0.15, 0.3))
    column = inside.column + int(inside.columns * rng.uniform(0.2, 0.35))
    down, across = np.mgrid[:rows, :columns] / np.array([rows, columns])[:, None, None]
    phase = rng.uniform(0, 2 * np.pi)
    centre = 0.5 + 0.25 * np.sin(5 * across + phase)
    speed = 1 - ((down - centre) / 0.09) ** 2 + rng.normal(0, 0.12, (rows, columns))
    towards = np.cos(5 * across + phase) > 0
    level = np.clip((speed * 3).astype(int), 0, 2)
    flow = np.where(towards, FLOW + 3 + level, FLOW + level).astype(np.uint8)
    drawn = np.where(speed > 0.15, flow, 0).astype(np.uint8)
    canvas.picture.paste(Picture.fromarray(drawn), (column, row))
    canvas.draw.rectangle([column - 1, row - 1, column + columns, row + rows], outline=CURSOR)
    canvas.regions.append(ScreenRegion("colour", row, column, rows, columns, inside.spacing))


def _cursor(canvas: _Canvas, region: ScreenRegion) -> None:
    """The Doppler line and its sample gate, drawn across the B-mode picture."""
    top, left = region.row + 4, region.column + int(region.columns * 0.66)
    bottom, shift = region.row + region.rows - 4, -int(region.columns * 0.10)
    for step in range(0, bottom - top, 6):
        x = left + shift * step // max(bottom - top, 1)
        canvas.draw.line([(x, top + step), (x, top + step + 2)], fill=CURSOR)
    middle = (top + bottom) // 2
    for offset in (-5, 5):
        x = left + shift // 2
        canvas.draw.line([(x - 6, middle + offset), (x + 6, middle + offset)], fill=CURSOR)


def _annotate(canvas: _Canvas, scene: ScreenScene, region: ScreenRegion) -> None:
    """Header lines, settings, depth ruler, grey wedge and a logo; nothing of it on tissue."""
    rows, columns = canvas.tissue.shape
    vendor = scene.vendor
    for line, text in enumerate(scene.header):
        canvas.write(6 + 16 * line, 60, text)
    canvas.draw.ellipse([14, 8, 42, 36], outline=LOGO, width=3)
    canvas.write(16, 25, vendor.letter, LOGO)
    canvas.write(rows - 18, 14, f"{scene.transducer}  {vendor.software}  MI 0.9  TIs 0.3  SYNTHETIC", TEXT)
    edge = columns - 30
    depth_mm = region.rows * region.spacing[0]
    for tick in range(0, int(depth_mm) + 1, 5):
        row = region.row + min(round(tick / region.spacing[0]), region.rows - 1)
        canvas.draw.line([(edge - (8 if tick % 10 == 0 else 4), row), (edge, row)], fill=TEXT)
    wedge = np.linspace(255, 0, 120).astype(np.uint8)[:, None]
    canvas.grey[:, region.row : region.row + 120, columns - 18 : columns - 8] = wedge


def _calipers(canvas: _Canvas, scene: ScreenScene, region: ScreenRegion) -> None:
    """Two crosses and a dotted line across the lesion or the head; without either, across some innocent tissue."""
    rng = np.random.default_rng([scene.seed, 61])
    x, z, width = float(rng.uniform(-8, 8)), float(rng.uniform(9, 22)), float(rng.uniform(5, 12))
    turn = 0.0
    for lesion in scene.lesions[:1]:
        x, z, width = lesion.x_mm, lesion.z_mm, lesion.width_mm
    if scene.head is not None:
        x, z, width, turn = scene.head.x_mm, scene.head.z_mm, scene.head.width_mm, scene.head.rotation_deg + 90
    step = np.array([np.sin(np.deg2rad(turn)), np.cos(np.deg2rad(turn))]) * width / 2
    middle = np.array([z - scene.scan.extent_mm[0], x]) / region.spacing + [
        region.row,
        region.column + region.columns / 2,
    ]
    ends = [np.rint(middle + side * step / region.spacing).astype(int).tolist() for side in (-1, 1)]
    for row, column in ends:
        canvas.draw.line([(column - 4, row), (column + 4, row)], fill=CALIPER)
        canvas.draw.line([(column, row - 4), (column, row + 4)], fill=CALIPER)
    length = float(np.hypot(*np.subtract(*ends)))
    for place in np.arange(8, length - 7, 6) / max(length, 1):
        row, column = np.rint(np.add(ends[0], place * np.subtract(ends[1], ends[0]))).astype(int).tolist()
        canvas.draw.point((column, row), fill=CALIPER)
    canvas.write(canvas.tissue.shape[0] - 18, 430, f"+ D1 {width:.1f} mm", CALIPER)
