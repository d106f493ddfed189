"""Seven makers of mammography systems and how their files differ: a table.

Each behaviour is one that conformance statements, public collections or bug reports show of real systems: MONOCHROME1
with a VOI LUT Sequence beside three SIGMOID windows (pydicom issue 1234), 10 to 16 bits, padding ranges, pictures
stored as the detector reads them, markers inside the picture. Which maker carries which is chosen so that each occurs;
it is no statement about a product. Every Manufacturer says that it is synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from imaging.phantoms.mammography.exposure import DetectorResponse, Processing

MakerName = Literal["hologic", "ge", "siemens", "fuji", "planmed", "giotto", "metaltronica"]
VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
Hanging = Literal["hung", "mirrored", "rotated"]
"""How pixels lie in the file: as a reader hangs them (right breast, chest wall on the right), mirrored left to right,
or rotated by 180 degrees. PatientOrientation is always true."""
Coding = Literal["raw", "implicit", "jpeg", "jpeg-ls", "jpeg2000", "rle"]
Tones = Literal["MONOCHROME1", "MONOCHROME2"]
TRANSFER_SYNTAXES: Final[dict[Coding, str]] = {
    "raw": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "jpeg": "1.2.840.10008.1.2.4.70",  # lossless, first-order prediction
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}


@dataclass(frozen=True, slots=True)
class Maker:
    """A maker's files. `field_mm`: (rows, columns) of the detector; `native_mm`: pitch of its elements.

    `bits` and `raw_bits`: BitsStored For Presentation and For Processing. `windows`: how many alternatives, with
    explanations when more than one; `luts`: items of VOI LUT Sequence beside them. `padding`: air is replaced by
    PixelPaddingValue and has a range. `calibrated`: PixelSpacing stands beside ImagerPixelSpacing. `marked`: side and
    view are burned into the picture. `one_series`: all views lie in one series. `squeeze`: thickness of the breast over
    what it has under the usual compression.
    """

    manufacturer: str
    model: str
    software: str
    field_mm: tuple[float, float]
    native_mm: float
    processing: Processing
    bits: int = 12
    raw_bits: int = 14
    tones: Tones = "MONOCHROME2"
    raw_tones: Tones = "MONOCHROME1"
    voi: VoiFunction = "LINEAR"
    windows: int = 1
    luts: int = 0
    coding: Coding = "raw"
    hanging: Hanging = "hung"
    padding: bool = False
    calibrated: bool = False
    marked: bool = True
    one_series: bool = True
    detector: Literal["DIRECT", "SCINTILLATOR", "STORAGE"] = "DIRECT"
    anode_filter: tuple[str, str] = ("TUNGSTEN", "RHODIUM")
    detection: DetectorResponse = DetectorResponse()  # noqa: RUF009 - frozen
    squeeze: float = 1.0


MAKERS: Final[dict[MakerName, Maker]] = {
    "hologic": Maker(
        "HOLOGIC, Inc. (synthetic)",
        "Selenia-like (synthetic)",
        "PHANTOM:1.9",
        (286.7, 233.0),
        0.07,
        Processing(0.85, 0.6, 1.0),
        coding="jpeg2000",
        one_series=False,
    ),
    "ge": Maker(
        "GE MEDICAL SYSTEMS (synthetic)",
        "Senographe-like (synthetic)",
        "PHANTOM:54.20",
        (306.2, 239.4),
        0.1,
        Processing(0.9, 0.4, 1.15),
        tones="MONOCHROME1",
        voi="SIGMOID",
        windows=3,
        luts=3,
        coding="jpeg",
        detector="SCINTILLATOR",
        anode_filter=("RHODIUM", "RHODIUM"),
    ),
    "siemens": Maker(
        "SIEMENS (synthetic)",
        "Mammomat-like (synthetic)",
        "PHANTOM VB30",
        (300.0, 240.0),
        0.085,
        Processing(0.6, 0.3, 0.9),
        bits=14,
        raw_bits=16,
        windows=2,
        hanging="rotated",
        one_series=False,
    ),
    "fuji": Maker(
        "FUJIFILM Corporation (synthetic)",
        "Amulet-like (synthetic)",
        "PHANTOM 5.1",
        (300.0, 240.0),
        0.05,
        Processing(0.7, 0.9, 1.0),
        bits=10,
        tones="MONOCHROME1",
        voi="LINEAR_EXACT",
        coding="implicit",
        one_series=False,
        detector="STORAGE",
    ),
    "planmed": Maker(
        "PLANMED (synthetic)",
        "Nuance-like (synthetic)",
        "PHANTOM 4.0",
        (300.0, 240.0),
        0.085,
        Processing(0.75, 0.5, 0.85),
        bits=13,
        tones="MONOCHROME1",
        coding="rle",
        padding=True,
        anode_filter=("TUNGSTEN", "SILVER"),
    ),
    "giotto": Maker(
        "IMS GIOTTO S.p.A. (synthetic)",
        "Class-like (synthetic)",
        "PHANTOM 6.3",
        (304.6, 239.4),
        0.085,
        Processing(0.8, 0.7, 1.1),
        bits=14,
        raw_tones="MONOCHROME2",
        voi="SIGMOID",
        coding="jpeg-ls",
        hanging="mirrored",
        padding=True,
        marked=False,
    ),
    "metaltronica": Maker(
        "METALTRONICA (synthetic)",
        "Helianthus-like (synthetic)",
        "PHANTOM 2.2",
        (290.0, 230.0),
        0.085,
        Processing(0.5, 0.4, 1.0),
        bits=16,
        raw_bits=16,
        voi="LINEAR_EXACT",
        calibrated=True,
        detector="SCINTILLATOR",
        anode_filter=("TUNGSTEN", "ALUMINUM"),
    ),
}
