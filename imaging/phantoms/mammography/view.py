"""One stored view: an exposure as the pixels of a file, and the truth on those very pixels.

view = ViewAcquisition("ge", laterality="R", projection="MLO", seed=3, lesions=lesions)
stored(view)    # uint16 (row, column): tones, bits, padding, marker and hanging of the maker
truth(view)     # per lesion its mask and box on the same pixels
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from imaging.errors import ConfigError, Reason
from imaging.phantoms.mammography.body import (
    GANTRY_DEG,
    Breast,
    BreastLesion,
    Density,
    Laterality,
    Mask,
    Projection,
    project,
)
from imaging.phantoms.mammography.exposure import Mammogram, expose
from imaging.phantoms.mammography.makers import MAKERS, Coding, Hanging, Maker, MakerName
from imaging.phantoms.mammography.tissue import BreastScene, Field, Implant
from imaging.phantoms.ultrasound.dicom import LATIN, Patient, uid

Stored = NDArray[np.uint16]
Special = Literal["none", "magnification", "spot", "mosaic-upper", "mosaic-lower", "synthetic"]
MAGNIFICATION = 1.8
DEFAULT_PITCH_MM = 0.4
_SHARE = 0.72
"""The part of the grey scale that tissue fills; a window opens it to the full."""


@dataclass(frozen=True, slots=True)
class ViewAcquisition:
    """One image of one breast. `seed` is the woman's: views of one exam share it, and so the anatomy.

    `lesions` are those of both breasts; a view shows its own side's. `pitch_mm`: pixels at the detector, binned from
    the maker's native ones (0.4 gives about 750 × 600). `exposure` numbers repeats: noise differs, and the breast lies
    a little elsewhere. `behaviour`, `coding` and `hanging` replace what the maker's row says. `named`: the patient's
    name is burned in. `study`, `series` and `instance` number the object inside the patient.
    """

    vendor: MakerName = "hologic"
    patient: Patient = LATIN
    seed: int = 0
    laterality: Laterality = "L"
    projection: Projection = "CC"
    lesions: tuple[BreastLesion, ...] = ()
    density: Density = "b"
    intent: Literal["presentation", "processing"] = "presentation"
    special: Special = "none"
    implant: Implant = "none"
    pitch_mm: float = DEFAULT_PITCH_MM
    exposure: int = 1
    behaviour: Maker | None = None
    coding: Coding | None = None
    hanging: Hanging | None = None
    named: bool = False
    study: int = 1
    series: int = 1
    instance: int = 1
    site: str = "Synthetic Hospital"

    def __post_init__(self) -> None:
        known = {"vendor": tuple(MAKERS), "laterality": ("L", "R"), "projection": tuple(GANTRY_DEG)}
        known |= {"density": ("a", "b", "c", "d"), "intent": ("presentation", "processing")}
        for name, allowed in known.items():
            if getattr(self, name) not in allowed:
                found = f"view of '{self.patient.patient_id}': {name} '{getattr(self, name)}'"
                raise ConfigError(f"{found}; allowed are {', '.join(allowed)}", Reason.CONFIG_INVALID)
        if not self.maker.native_mm <= self.pitch_mm <= 2.0:
            raise ConfigError(
                f"view of '{self.patient.patient_id}': pitch_mm {self.pitch_mm}; allowed are {self.maker.native_mm} "
                "(the maker's own) to 2",
                Reason.CONFIG_INVALID,
            )
        if self.special == "synthetic" and self.intent == "processing":
            raise ConfigError("a synthetic 2-D image has no For Processing form", Reason.CONFIG_INVALID)

    @property
    def maker(self) -> Maker:
        row = self.behaviour or MAKERS[self.vendor]
        return replace(row, coding=self.coding or row.coding, hanging=self.hanging or row.hanging)

    @property
    def breast(self) -> Breast:
        return Breast(self.laterality, self.seed, self.density)

    @property
    def own_lesions(self) -> tuple[BreastLesion, ...]:
        """The lesions of this side."""
        return tuple(lesion for lesion in self.lesions if lesion.laterality == self.laterality)

    @property
    def magnification(self) -> float:
        """EstimatedRadiographicMagnificationFactor: detector over breast."""
        return MAGNIFICATION if self.special == "magnification" else 1.0

    @property
    def spacing_mm(self) -> float:
        """Pixel pitch in the plane of the breast."""
        return self.pitch_mm / self.magnification

    @property
    def bits(self) -> int:
        return self.maker.raw_bits if self.intent == "processing" else self.maker.bits

    @property
    def tones(self) -> str:
        return self.maker.raw_tones if self.intent == "processing" else self.maker.tones

    @property
    def field(self) -> Field:
        """What the detector sees; magnification and spot views look at the first lesion, or the mid breast."""
        maker, step = self.maker, self.spacing_mm
        rows, columns = (round(size / self.pitch_mm) for size in maker.field_mm)
        shift = 4.0 * (self.exposure - 1)
        if self.special in ("magnification", "spot"):
            depth, across = self._target
            rows = columns = round((180.0 if self.special == "magnification" else 150.0) / self.pitch_mm)
            left = max(self.breast.nipple_depth_mm - depth - columns * step / 2, 0.0)
            spot = 90.0 if self.special == "spot" else 0.0
            return Field(rows, columns, step, left, across + rows * step / 2 + shift, spot)
        above = 0.5 if GANTRY_DEG[self.projection] == 0 else 0.55
        tiles = {"mosaic-upper": 55.0, "mosaic-lower": -55.0}
        return Field(rows, columns, step, 0.0, above * rows * step + shift + tiles.get(self.special, 0.0))

    @property
    def _target(self) -> tuple[float, float]:
        own = self.own_lesions
        place = own[0].position_mm if own else np.array([0.5 * self.breast.nipple_depth_mm, 10.0, 0.0])
        depth, across = project(place, self.projection)[0]
        return float(depth), float(across)

    @property
    def chest_wall(self) -> Literal["left", "right"]:
        """The edge of the stored picture at which the chest wall lies."""
        return "left" if (self.laterality == "L") == (self.maker.hanging == "hung") else "right"

    @property
    def study_uid(self) -> str:
        return uid("mammography study", self.patient.patient_id, self.study)

    @property
    def series_uid(self) -> str:
        return uid("mammography series", self.patient.patient_id, self.study, self.series)

    @property
    def sop_uid(self) -> str:
        """Of the content: two views that differ in anything have two."""
        return uid("mammogram", self)


@dataclass(frozen=True, eq=False)
class LesionTruth:
    """A lesion in the stored pixels of a view. `lesion_id` and `nipple_distance_mm` are the same in every view.

    `mask`: bool (row, column), never empty. `box`: x0, y0, x1, y1; the first pixel spans 0 to 1, so that x1 and y1 are
    the last column and row plus one.
    """

    lesion: BreastLesion
    mask: Mask = field(repr=False)
    box: tuple[int, int, int, int]

    @property
    def lesion_id(self) -> str:
        return self.lesion.lesion_id

    @property
    def malignant(self) -> bool:
        return self.lesion.malignant

    @property
    def nipple_distance_mm(self) -> float:
        return self.lesion.nipple_distance_mm


@lru_cache(maxsize=8)
def exposed(view: ViewAcquisition) -> Mammogram:
    """The exposure behind a view, as if of a left breast; the same for both intents."""
    if view != (plain := replace(view, intent="presentation", coding="raw", hanging="hung", series=1, instance=1)):
        return exposed(plain)
    noise = view.seed * 16 + view.exposure
    scene = BreastScene(
        view.breast, view.projection, view.field, view.own_lesions, noise, view.implant, view.maker.squeeze
    )
    processing = view.maker.processing
    if view.special == "synthetic":
        processing = replace(processing, sharpen=processing.sharpen + 0.5)
    return expose(scene, processing, view.maker.detection)


def stored(view: ViewAcquisition) -> Stored:
    """The pixels of the file, uint16 (row, column), within `view.bits`."""
    shot, largest = exposed(view), (1 << view.bits) - 1
    if view.intent == "processing":
        top = float(np.percentile(shot.exposure[shot.open], 99.9))
        levels = np.clip(np.rint(50 + shot.exposure / top * 0.9 * largest), 0, largest)
        return np.ascontiguousarray(_lay(view, levels.astype(np.uint16)))
    low = padding_limit(view) + 1 if view.maker.padding else 0
    levels = np.clip(np.rint(low + shot.processed * _SHARE * largest), low, largest)
    if view.maker.padding:
        levels[~shot.breast | ~shot.open] = 0
    laid = np.ascontiguousarray(_lay(view, levels.astype(np.uint16)))
    for text, corner in _texts(view):
        _burn(laid, text, corner, largest)
    return largest - laid if view.tones == "MONOCHROME1" else laid


def padding_limit(view: ViewAcquisition) -> int:
    """The largest level, counted from black, that is padding."""
    return (1 << view.bits) // 128


def display_window(view: ViewAcquisition) -> tuple[float, float]:
    """Centre and width, in stored values, that open the tissue to the whole grey scale."""
    largest = (1 << view.bits) - 1
    centre = 0.52 * _SHARE * largest
    return (largest - centre if view.tones == "MONOCHROME1" else centre), 0.98 * _SHARE * largest


def truth(view: ViewAcquisition) -> tuple[LesionTruth, ...]:
    """The lesions that the view shows, in the order in which they were planted; none is an empty tuple."""
    masks = exposed(view).lesions
    found = []
    for lesion in view.own_lesions:
        if lesion.lesion_id in masks:
            mask = np.ascontiguousarray(_lay(view, masks[lesion.lesion_id]))
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            found.append(LesionTruth(lesion, mask, box))
    return tuple(found)


def breast_mask(view: ViewAcquisition) -> Mask:
    """Where the file shows tissue, bool (row, column)."""
    shot = exposed(view)
    return np.ascontiguousarray(_lay(view, shot.breast & shot.open))


def nipple(view: ViewAcquisition) -> tuple[float, float]:
    """x and y of the nipple in the file's pixels (the first spans 0 to 1); outside the picture if it is not shown."""
    field_, shape = view.field, (view.field.rows, view.field.columns)
    x = (view.breast.nipple_depth_mm - field_.left_mm) / field_.pitch_mm
    y = field_.top_mm / field_.pitch_mm
    return (
        x if view.chest_wall == "left" else shape[1] - x,
        shape[0] - y if view.maker.hanging == "rotated" else y,
    )


def patient_orientation(view: ViewAcquisition) -> list[str]:
    """PatientOrientation (PS3.3 C.7.6.1.1.1): where rows lead to, and columns; feline letters are not used."""
    down = {"CC": "R" if view.laterality == "L" else "L", "MLO": "FR" if view.laterality == "L" else "FL"}
    down |= {"XCCL": down["CC"], "ML": "F", "LM": "F"}
    letters = down[view.projection]
    if view.maker.hanging == "rotated":
        letters = letters.translate(str.maketrans("RLFH", "LRHF"))
    return ["A" if view.chest_wall == "left" else "P", letters]


def _lay(view: ViewAcquisition, picture: NDArray[Any]) -> NDArray[Any]:
    """A picture of a left breast, head up, as the file has it."""
    laid = picture if view.chest_wall == "left" else np.fliplr(picture)
    return np.flipud(laid) if view.maker.hanging == "rotated" else laid


def _texts(view: ViewAcquisition) -> list[tuple[str, Literal["top", "bottom"]]]:
    """What is burned in, and in which corner away from the chest wall: the marker at the arm, the name at the other."""
    arm: Literal["top", "bottom"] = "bottom" if view.maker.hanging == "rotated" else "top"
    texts = []
    if view.maker.marked and view.special in ("none", "synthetic"):
        texts.append((f"{view.laterality} {view.projection}", arm))
    if view.named:
        texts.append((view.patient.screen_name, "top" if arm == "bottom" else "bottom"))
    return texts


def _burn(picture: Stored, text: str, corner: str, level: int) -> None:
    """White letters, five to ten millimetres high at the usual pitch, upright whichever way the picture lies."""
    rows, columns = picture.shape
    font = ImageFont.load_default_imagefont()  # a bitmap: the same pixels with every FreeType
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    canvas = Picture.new("1", (right - left + 1, bottom - top + 1), 0)
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=1, font=font)
    size = max(min(rows // 330, int(0.4 * columns) // canvas.width), 1)
    letters = np.kron(np.array(canvas, dtype=np.uint8), np.ones((size, size), dtype=np.uint8)).astype(bool)
    edge = round(0.04 * columns)
    letters = letters[:, : columns - 2 * edge]  # in pixels of two millimetres a long name does not fit
    high, wide = letters.shape
    first_row = round(0.04 * rows) if corner == "top" else round(0.96 * rows) - high
    dark_left = picture[:, : columns // 8].mean() < picture[:, -(columns // 8) :].mean()
    first_column = edge if dark_left else columns - edge - wide
    picture[first_row : first_row + high, first_column : first_column + wide][letters] = level
