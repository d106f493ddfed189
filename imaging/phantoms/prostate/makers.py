"""Four makers of MR scanners and how their prostate examinations differ: a table.

Each behaviour is one that conformance statements, public collections or bug reports show of real systems: where the
b-value stands (dcm2niix issues 405 and 690), 10⁹ added to it, private blocks that do not start at 10, the unit of ADC
maps, all b-values in one series or a series each. Which maker carries which is chosen so that each occurs; it is no
statement about a product. Every Manufacturer says that it is synthetic, and every description says phantom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from imaging.phantoms.prostate.signal import Receiver

MriMakerName = Literal["siemens", "ge", "philips", "canon"]
SeriesKey = Literal[
    "localiser",
    "t2w_sagittal",
    "t2w_coronal",
    "t2w_axial",
    "t2w_repeat",
    "dwi",
    "adc",
    "calculated",
    "dti",
    "fa",
    "exponential",
    "dynamic",
    "subtraction",
]
BPlace = Literal["siemens", "ge", "philips", "standard"]
"""Siemens (0019,xx0C); GE (0043,xx39), 10⁹ added; Philips (2001,xx03); DiffusionBValue (0018,9087)."""
SliceOrder = Literal["ascending", "descending", "interleaved"]
"""Instance numbers along the normal; interleaved: first every other slice, then those between."""
ImageType = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MriMaker:
    """A maker's scanner and files.

    `t2w_mm`, `t2w_size`: pixel and matrix (rows, columns), square pixels; `slice_mm`: thickness and step. `dwi_mm`:
    (row step, column step); `dwi_size`; `dwi_tilted`: slices lie as those of T2W, else straight. `by_slice`: all
    b-values of a slice follow each other, else all slices of a b-value. `adc_unit`: what stands for 1 × 10⁻⁶ mm²/s
    after rescaling. `adc_b`: b-values that the map is made of. `block`: of private elements. `names`: descriptions.
    """

    manufacturer: str
    model: str
    software: str
    tesla: float
    t2w_mm: float
    t2w_size: tuple[int, int]
    slice_mm: tuple[float, float]
    dwi_mm: tuple[float, float]
    dwi_size: tuple[int, int]
    dwi_tilted: bool
    b_values: tuple[float, ...]
    calculated_b: float
    b_place: BPlace
    b_series: Literal["one", "each"]
    by_slice: bool
    order: SliceOrder
    dynamic_series: Literal["one", "each"]
    adc_unit: float
    adc_unit_name: str
    block: int
    receiver: Receiver
    coding: Literal["explicit", "implicit"]
    names: dict[SeriesKey, str]
    types: dict[SeriesKey, ImageType]

    @property
    def adc_b(self) -> tuple[float, ...]:
        return tuple(b for b in self.b_values if b <= 1000)

    @property
    def rescales(self) -> bool:
        """Stored values are scaled to the full range, and how is written in the header."""
        return self.b_place == "philips"


_PLAIN: Final[ImageType] = ("ORIGINAL", "PRIMARY", "OTHER")
_MADE: Final[ImageType] = ("DERIVED", "PRIMARY", "OTHER")

MRI_MAKERS: Final[dict[MriMakerName, MriMaker]] = {
    "siemens": MriMaker(
        "SIEMENS (synthetic)",
        "Skyra-like (synthetic)",
        "phantom MR E11",
        3.0,
        0.8,
        (200, 200),
        (3.0, 3.0),
        (2.0, 2.0),
        (80, 64),
        True,
        (50, 400, 800),
        1400,
        "siemens",
        "one",
        False,
        "ascending",
        "each",
        1.0,
        "",
        0x10,
        Receiver("surface", 0.006),
        "explicit",
        {
            "localiser": "localizer phantom",
            "t2w_sagittal": "t2_tse_sag phantom",
            "t2w_coronal": "t2_tse_cor phantom",
            "t2w_axial": "t2_tse_tra phantom",
            "t2w_repeat": "t2_tse_tra phantom",
            "dwi": "ep2d_diff_tra phantom",
            "adc": "ep2d_diff_tra phantom_ADC",
            "calculated": "ep2d_diff_tra phantomCALC_BVAL",
            "dti": "ep2d_diff_MDDW phantom",
            "fa": "ep2d_diff_MDDW phantom_FA",
            "dynamic": "t1_vibe_dyn_tra phantom",
            "subtraction": "t1_vibe_dyn_tra phantom_SUB",
        },
        {
            "localiser": ("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"),
            "t2w_axial": ("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"),
            "dwi": ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "DIS2D"),
            "adc": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "DIS2D"),
            "calculated": ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "DIS2D"),
            "dti": ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "ND", "MOSAIC"),
            "fa": ("DERIVED", "PRIMARY", "DIFFUSION", "FA", "ND"),
            "dynamic": ("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"),
            "subtraction": ("DERIVED", "PRIMARY", "M", "SUB", "DIS2D"),
        },
    ),
    "ge": MriMaker(
        "GE MEDICAL SYSTEMS (synthetic)",
        "Signa-like (synthetic)",
        "phantom DV26",
        3.0,
        0.75,
        (208, 208),
        (3.0, 3.5),
        (1.75, 1.75),
        (96, 96),
        True,
        (50, 800, 1400),
        2000,
        "ge",
        "one",
        False,
        "descending",
        "one",
        1.0,
        "",
        0x10,
        Receiver("endorectal", 0.008),
        "explicit",
        {
            "localiser": "3-pl loc phantom",
            "t2w_sagittal": "Sag T2 FRFSE phantom",
            "t2w_coronal": "Cor T2 FRFSE phantom",
            "t2w_axial": "Ax T2 FRFSE phantom",
            "t2w_repeat": "Ax T2 FRFSE RPT phantom",
            "dwi": "Ax DWI phantom",
            "adc": "Apparent Diffusion Coefficient (mm2/s) phantom",
            "calculated": "SynB 2000 Ax DWI phantom",
            "fa": "Fractional Anisotropy phantom",
            "exponential": "Exponential Apparent Diffusion Coefficient phantom",
            "dynamic": "Ax LAVA dyn phantom",
            "subtraction": "SUB Ax LAVA dyn phantom",
        },
        {
            "adc": ("DERIVED", "SECONDARY", "COMBINED", "ADC"),
            "calculated": ("DERIVED", "SECONDARY", "COMBINED"),
            "fa": ("DERIVED", "SECONDARY", "COMBINED", "FA"),
            "exponential": ("DERIVED", "SECONDARY", "COMBINED", "EADC"),
            "subtraction": ("DERIVED", "SECONDARY", "SUBTRACT"),
        },
    ),
    "philips": MriMaker(
        "Philips Medical Systems (synthetic)",
        "Ingenia-like (synthetic)",
        "phantom 5.6",
        3.0,
        0.7,
        (224, 224),
        (3.0, 3.3),
        (1.6, 1.6),
        (96, 96),
        False,
        (0, 100, 800, 1500),
        2000,
        "philips",
        "one",
        True,
        "interleaved",
        "one",
        1e-3,
        "",
        0x11,
        Receiver("surface", 0.007, 1.5),
        "explicit",
        {
            "localiser": "Survey phantom",
            "t2w_sagittal": "T2W_TSE_sag phantom",
            "t2w_coronal": "T2W_TSE_cor phantom",
            "t2w_axial": "T2W_TSE_ax phantom",
            "t2w_repeat": "T2W_TSE_ax phantom",
            "dwi": "DWI_4b phantom",
            "adc": "dDWI_4b ADC phantom",
            "calculated": "eDWI_b2000 phantom",
            "fa": "dReg_DTI FA phantom",
            "dynamic": "dyn_eTHRIVE phantom",
            "subtraction": "sdyn_eTHRIVE phantom",
        },
        {
            "localiser": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"),
            "t2w_axial": ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
            "dwi": ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
            "adc": ("DERIVED", "PRIMARY", "ADC", "ADC", "UNSPECIFIED"),
            "calculated": ("DERIVED", "PRIMARY", "M_SE", "M", "SE"),
            "fa": ("DERIVED", "PRIMARY", "DIFFUSION", "FA", "UNSPECIFIED"),
            "dynamic": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"),
            "subtraction": ("DERIVED", "PRIMARY", "SUBTRACTION", "M", "FFE"),
        },
    ),
    "canon": MriMaker(
        "CANON_MEC (synthetic)",
        "Vantage-like (synthetic)",
        "phantom V6.0",
        1.5,
        0.85,
        (188, 188),
        (3.5, 3.5),
        (2.0, 2.4),
        (80, 64),
        True,
        (0, 1000, 1500),
        2000,
        "standard",
        "each",
        False,
        "ascending",
        "each",
        1e-6,
        "mm2/s",
        0x10,
        Receiver("surface", 0.011),
        "implicit",
        {
            "localiser": "Locator phantom",
            "t2w_sagittal": "T2 FSE Sag phantom",
            "t2w_coronal": "T2 FSE Cor phantom",
            "t2w_axial": "T2 FSE Ax phantom",
            "t2w_repeat": "T2 FSE Ax phantom",
            "dwi": "DWI Ax phantom",
            "adc": "ADC Ax phantom",
            "calculated": "cDWI 2000 Ax phantom",
            "fa": "FA Ax phantom",
            "dynamic": "Dyn 3D Ax phantom",
            "subtraction": "Dyn 3D Ax Sub phantom",
        },
        {
            "adc": ("DERIVED", "PRIMARY", "ADC"),
            "calculated": ("DERIVED", "PRIMARY", "DIFFUSION"),
            "fa": ("DERIVED", "PRIMARY", "FA"),
            "subtraction": ("DERIVED", "PRIMARY", "SUBTRACTION"),
        },
    ),
}


def image_type(maker: MriMaker, key: SeriesKey) -> ImageType:
    """ImageType of a series; the planes and repeats of T2W are as the axial one."""
    known = maker.types.get("t2w_axial" if key.startswith("t2w") else key)
    return known or (_MADE if key in {"adc", "calculated", "fa", "exponential", "subtraction"} else _PLAIN)
