"""Header → Acquisition: what kind of MR image each frame is and where it lies, so that volumes can be chosen.

Only facts of the header count, in a stated order: image type, sequence, echo and repetition time, diffusion weighting.
What people write into descriptions decides only where nothing else says it, and then a note tells so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from re import IGNORECASE
from re import compile as pattern
from typing import Any, Final, Literal

import numpy as np
from pydicom import Dataset

from imaging.dicom.headers.diffusion import BValue, computed_from, read_b_values, read_protocol
from imaging.dicom.headers.elements import classic_view, functional_group, private_value, scale_slope, text

# `calculated` is a diffusion image at a b-value that was not acquired; `map` any quantity but the ADC.
Kind = Literal["t2", "diffusion", "calculated", "adc", "map", "localiser", "subtraction", "dynamic", "mosaic", "other"]
Triple = tuple[float, float, float]

# T2 weighting of a spin echo: PI-RADS v2.1 (ACR 2019) has echo times near 100 ms; above the upper bound only water is
# left (urography). Short repetition times weigh by T1 instead.
_T2_ECHO_MS: Final = (60.0, 300.0)
_T2_LEAST_REPETITION_MS: Final = 1000.0
_EXPONENTIAL: Final = frozenset(("EADC", "EXP", "EXPONENTIAL", "EXP_ADC"))
_MAPS: Final = frozenset(
    (
        *_EXPONENTIAL,
        *("FA", "COLFA", "GFA", "TENSOR", "RD", "AD", "TTP", "KTRANS", "PERFUSION", "IVIM", "SNR_MAP", "COLOR"),
        *("P", "PHASE", "PHASE MAP", "FIELD_MAP", "B0", "T1_MAP", "T2_MAP", "T1 MAP", "T2 MAP", "R2_MAP"),
        *("MIP", "MPR", "CSA MPR", "PROJECTION IMAGE", "SCREEN SAVE"),
    )
)
_TRACES: Final = frozenset(("TRACEW", "TRACE", "ISOTROPIC"))
_CALCULATED: Final = frozenset(("CALC_BVALUE", "CALCULATED_B", "CDWI", "SYNTHETIC_B"))
_CALCULATED_TEXT: Final = pattern(r"calc.?b|synthetic|computed|(?<![a-z])c-?dwi|(?<![a-z])sdwi", IGNORECASE)
_LOCALISER_TEXT: Final = pattern(r"^loc(?![a-z])|locali[sz]er|scout|survey", IGNORECASE)
_SUBTRACTION_TEXT: Final = pattern(r"(?<![a-z])sub(?![a-z])|subtract", IGNORECASE)
_EXPONENTIAL_TEXT: Final = pattern(r"(?<![a-z])e-?adc|exponential", IGNORECASE)
_ADC_TEXT: Final = pattern(r"(?<![a-z])adc(?![a-z])|apparent diffusion", IGNORECASE)
_DIFFUSION_TEXT: Final = pattern(r"(?<![a-z])(dwi|dti|diff|diffusion)(?![a-z])", IGNORECASE)
_DYNAMIC_TEXT: Final = pattern(r"dynamic|(?<![a-z])(dce|dyn|perf|twist|tricks|disco)(?![a-z])", IGNORECASE)
_T2_TEXT: Final = pattern(r"(?<![a-z0-9])t2w?(?![a-z0-9*])", IGNORECASE)
_DIRECTION: Final = pattern(r".*_b\d+#(\d+)")
# Apparent Diffusion Coefficient as a quantity, DCM (CID 7180) and SNOMED CT.
_ADC_CODES: Final = frozenset(("113041",))


@dataclass(frozen=True, slots=True)
class MrFrame:
    """One frame: what it is and where it lies in the patient (LPS, mm), as the header says.

    `number` counts from 1, None for a single-frame object. `corner`, `across` and `down` are those of `planes.Plane`,
    None where the header does not state them. `direction` is "" for a trace, for b 0 and for what is no diffusion;
    else it names the gradient. `marks` part frames that cannot belong to one volume: echo time, temporal position.
    `scale` is Philips' RescaleSlope times its scale slope: values are comparable after division by it (Chenevert et
    al., Transl Oncol 2014); None where there is no scale slope. `number_in_stack` is InStackPositionNumber.
    """

    number: int | None
    kind: Kind
    corner: Triple | None
    across: Triple | None
    down: Triple | None
    spacing_mm: tuple[float, float]
    b_value: BValue | None = None
    has_bad_b: bool = False
    direction: str = ""
    marks: tuple[str, ...] = ()
    scale: float | None = None
    number_in_stack: int | None = None


@dataclass(frozen=True, slots=True)
class StatedWhole:
    """What a header says of the whole of which it is a part: images of the series, slices of a volume, the step
    between slices and their thickness in mm, images of its concatenation by UID. None where it says nothing."""

    images: int | None = None
    slices: int | None = None
    step_mm: float | None = None
    thickness_mm: float | None = None
    concatenation: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class MrAcquisition:
    """What the choice among MR volumes rests on. `acquired` is date and time as digits that sort, empty when unknown.

    `is_trace` is true where the image type names the mean over directions. `protocol` is that of
    `diffusion.read_protocol`. `notes` are sentences about what was inferred. Positions of images are related only where
    they share a `frame_of_reference` UID (PS3.3 C.7.4.1.1.1).
    """

    frames: tuple[MrFrame, ...]
    is_original: bool
    is_trace: bool
    is_3d: bool
    is_fat_suppressed: bool
    acquired: str
    number: str
    protocol: tuple[str, ...]
    notes: tuple[str, ...] = ()
    frame_of_reference: str = ""
    stated: StatedWhole = StatedWhole()


def read_acquisition(header: Dataset, name: str) -> MrAcquisition:
    """The acquisition of one MR header; what it does not state or states wrongly is left open, never guessed."""
    notes: list[str] = []
    items = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    b_values = read_b_values(header, name)
    single = header.get("NumberOfFrames") in (None, "")
    frames = []
    for k, told in enumerate(b_values):
        facts = _Facts(header, items[k] if items else None, shared)
        b = told if isinstance(told, BValue) else None
        frames.append(_frame(facts, None if single else k + 1, b, b is None and told is not None, notes))
    notes += [b.note for b in b_values if isinstance(b, BValue) and b.note]
    facts = _Facts(header, items[0] if items else None, shared)
    echo = facts.number("EchoTime", "MREchoSequence", "EffectiveEchoTime")
    repetition = facts.number("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime")
    return MrAcquisition(
        frames=tuple(frames),
        is_original="ORIGINAL" in facts.words,
        is_trace=bool(facts.words & _TRACES),
        is_3d="3D" in (text(header.get("MRAcquisitionType")), text(header.get("VolumetricProperties"))),
        is_fat_suppressed=bool({"FS", "SFS", "FATSAT"} & set(_words(header, "ScanOptions"))),
        acquired=_acquired(header),
        number=text(header.get("AcquisitionNumber")),
        protocol=read_protocol(header, echo, repetition),
        notes=tuple(dict.fromkeys(notes)),
        frame_of_reference=text(header.get("FrameOfReferenceUID")).strip(),
        stated=_stated(header),
    )


def _stated(header: Dataset) -> StatedWhole:
    """Counts by ImagesInAcquisition or NumberOfSeriesRelatedInstances, and NumberOfSlices or what Philips and GE write
    for it."""
    images = [_count(header.get(keyword)) for keyword in ("ImagesInAcquisition", "NumberOfSeriesRelatedInstances")]
    slices = [
        _count(header.get("NumberOfSlices")),
        _count(private_value(header, "Philips Imaging DD 001", 0x2001, 0x18)),
        _count(private_value(header, "GEMS_RELA_01", 0x0021, 0x4F)),
    ]
    steps = [_floats(header.get(keyword), 1) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    step, thickness = (found[0] if found and found[0] > 0 else None for found in steps)
    whole, parts = text(header.get("ConcatenationUID")), _count(header.get("InConcatenationTotalNumber"))
    return StatedWhole(
        images=next((count for count in images if count), None),
        slices=next((count for count in slices if count), None),
        step_mm=step,
        thickness_mm=thickness,
        concatenation=(whole, parts) if whole and parts else None,
    )


def _count(value: Any) -> int | None:
    found = _floats(value, 1)
    return int(found[0]) if found and found[0] >= 1 else None


class _Facts:
    """The attributes of one frame, in its functional groups or, for a classic image, at the top."""

    def __init__(self, header: Dataset, item: Dataset | None, shared: Dataset) -> None:
        self._whole = header
        self.header = header if item is None else classic_view(header, item, shared)
        self._item = item
        self._shared = shared
        header = self.header
        kinds = [*_words(header, "ImageType")]
        frame_type = self.group("MRImageFrameTypeSequence")
        if "FrameType" in frame_type:
            kinds = [*_words(frame_type, "FrameType"), text(frame_type.get("ComplexImageComponent"))]
        self.words = frozenset(kinds)
        self.contrast = text(frame_type.get("AcquisitionContrast") or header.get("AcquisitionContrast"))
        self.described = text(header.get("SeriesDescription"))
        self.sequence = frozenset(_words(header, "ScanningSequence"))

    def group(self, keyword: str) -> Dataset:
        """A functional group of the frame; the header itself where it has none, as a classic image."""
        return self.header if self._item is None else functional_group(self._item, self._shared, keyword)

    def scale_slope(self) -> float | None:
        found = None if self._item is None else scale_slope(self._item)
        return found or scale_slope(self.header)

    def number(self, keyword: str, group: str, grouped: str) -> float | None:
        found = () if self._item is None else _floats(self.group(group).get(grouped), 1)
        if not found and (self._item is None or self.header is not self._whole):
            found = _floats(self.header.get(keyword), 1)
        return found[0] if found else None


def _frame(facts: _Facts, number: int | None, b: BValue | None, has_bad_b: bool, notes: list[str]) -> MrFrame:
    orientation = _floats(facts.group("PlaneOrientationSequence").get("ImageOrientationPatient"), 6)
    position = _floats(facts.group("PlanePositionSequence").get("ImagePositionPatient"), 3)
    spacing = _floats(facts.group("PixelMeasuresSequence").get("PixelSpacing"), 2) or (0.0, 0.0)
    kind = _kind(facts, b, notes)
    echo = facts.number("EchoTime", "MREchoSequence", "EffectiveEchoTime")
    temporal = facts.group("FrameContentSequence")
    return MrFrame(
        number=number,
        kind=kind,
        corner=(position[0], position[1], position[2]) if position else None,
        across=(orientation[0], orientation[1], orientation[2]) if orientation else None,
        down=(orientation[3], orientation[4], orientation[5]) if orientation else None,
        spacing_mm=(spacing[0], spacing[1]),
        b_value=b,
        has_bad_b=has_bad_b,
        direction=_direction(facts, b) if kind in ("diffusion", "mosaic") else "",
        marks=(
            "" if echo is None else f"{echo:.2f}",
            text(temporal.get("TemporalPositionIndex") or temporal.get("TemporalPositionIdentifier")),
        ),
        scale=_scale(facts),
        number_in_stack=_count(temporal.get("InStackPositionNumber")),
    )


def _scale(facts: _Facts) -> float | None:
    scale = facts.scale_slope()
    slope = _floats(facts.group("PixelValueTransformationSequence").get("RescaleSlope"), 1) or (1.0,)
    return None if scale is None else scale * slope[0]


def _kind(facts: _Facts, b: BValue | None, notes: list[str]) -> Kind:
    """The kind of a frame: what was derived from images before what the images are themselves."""
    words, derived, described = facts.words, "DERIVED" in facts.words, facts.described
    if "LOCALIZER" in words or _LOCALISER_TEXT.search(described):
        return "localiser"
    if "SUBTRACTION" in words or (derived and _SUBTRACTION_TEXT.search(described)):
        return "subtraction"
    if words & _MAPS or (derived and _EXPONENTIAL_TEXT.search(described)):
        return "map"
    if _is_adc(facts, derived, notes):
        return "adc"
    return _weighting(facts, b, notes)


def _weighting(facts: _Facts, b: BValue | None, notes: list[str]) -> Kind:
    """The kind of an image that is neither a planning scan nor a map."""
    if _is_diffusion(facts, b, notes):
        if _is_calculated(facts):
            return "calculated"
        return "mosaic" if "MOSAIC" in facts.words else "diffusion"
    if not _is_repeated_in_time(facts) and _is_t2(facts, notes):
        return "t2"
    enhanced = _DYNAMIC_TEXT.search(facts.described) or text(facts.header.get("ContrastBolusAgent"))
    return "dynamic" if enhanced or _is_repeated_in_time(facts) else "other"


def _is_adc(facts: _Facts, derived: bool, notes: list[str]) -> bool:
    if "ADC" in facts.words:
        return True
    mappings = facts.group("RealWorldValueMappingSequence")
    for mapping in mappings.get("RealWorldValueMappingSequence") or [mappings]:
        for item in mapping.get("QuantityDefinitionSequence") or []:
            for code in item.get("ConceptCodeSequence") or []:
                if text(code.get("CodeValue")) in _ADC_CODES:
                    return True
    if derived and _ADC_TEXT.search(facts.described):
        notes.append("Recognised as an ADC map by its description alone")
        return True
    return False


def _is_diffusion(facts: _Facts, b: BValue | None, notes: list[str]) -> bool:
    """Diffusion by its image type, contrast or b-value. b 0 tells nothing: some makers write it on every image."""
    if "DIFFUSION" in facts.words or facts.contrast == "DIFFUSION":
        return True
    planar = "EP" in facts.sequence or text(facts.header.get("EchoPlanarPulseSequence")) == "YES"
    if b is not None and not b.inferred and (b.value > 0 or planar):
        return True
    if _DIFFUSION_TEXT.search(facts.described) or (b is not None and planar):
        notes.append("Recognised as a diffusion image by its names alone")
        return True
    return False


def _is_calculated(facts: _Facts) -> bool:
    """A b-value beyond those acquired: by image type, by the range in its sequence's name, or by its description."""
    return bool(
        facts.words & _CALCULATED
        or computed_from(facts.header) is not None
        or ("DERIVED" in facts.words and _CALCULATED_TEXT.search(facts.described))
    )


def _is_repeated_in_time(facts: _Facts) -> bool:
    count = _floats(facts.header.get("NumberOfTemporalPositions"), 1)
    return bool(count and count[0] > 1)


def _is_t2(facts: _Facts, notes: list[str]) -> bool:
    """A T2-weighted spin echo without inversion; by its description only where echo and sequence are both unsaid."""
    echo = facts.number("EchoTime", "MREchoSequence", "EffectiveEchoTime")
    kinds = _words(facts.group("MRPulseSequence"), "EchoPulseSequence") or _words(facts.header, "EchoPulseSequence")
    if echo is None and not facts.sequence and not kinds:
        if facts.contrast == "T2" or _T2_TEXT.search(facts.described):
            notes.append("Recognised as T2-weighted without its echo time")
            return True
        return False
    repetition = facts.number("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime")
    if not facts.sequence and not kinds:
        return _is_t2_by_times(facts, echo, repetition, notes)
    inverted = "IR" in facts.sequence or text(facts.header.get("InversionRecovery")) == "YES"
    spin = ("SE" in facts.sequence or "SPIN" in kinds) and not facts.sequence & {"GR", "EP"}
    long = repetition is None or repetition >= _T2_LEAST_REPETITION_MS
    return spin and not inverted and long and echo is not None and _T2_ECHO_MS[0] <= echo <= _T2_ECHO_MS[1]


def _is_t2_by_times(facts: _Facts, echo: float | None, repetition: float | None, notes: list[str]) -> bool:
    """Whether an image that nothing says the sequence of is T2-weighted by its echo and repetition time.

    A long repetition time leaves little weighting by T1; without one the description must say T2.
    """
    named = facts.contrast == "T2" or bool(_T2_TEXT.search(facts.described))
    long = named if repetition is None else repetition >= _T2_LEAST_REPETITION_MS
    header = facts.header
    inverted = text(header.get("InversionRecovery")) == "YES" or any(_floats(header.get("InversionTime"), 1))
    planar = text(header.get("EchoPlanarPulseSequence")) == "YES"
    if echo is None or not _T2_ECHO_MS[0] <= echo <= _T2_ECHO_MS[1] or not long or inverted or planar:
        return False
    notes.append("Recognised as T2-weighted by its echo and repetition time; nothing states its sequence")
    return True


def _direction(facts: _Facts, b: BValue | None) -> str:
    """What names the direction of a diffusion gradient; "" for a trace or mean of directions and for b 0."""
    if (b is not None and b.value == 0) or facts.words & _TRACES:
        return ""
    return next(_directions(facts), "")


def _directions(facts: _Facts) -> Iterator[str]:
    header, group = facts.header, facts.group("MRDiffusionSequence")
    kind = text(group.get("DiffusionDirectionality")) or text(private_value(header, "SIEMENS MR HEADER", 0x0019, 0x0D))
    nested = (group.get("DiffusionGradientDirectionSequence") or [group])[0]
    vector = text(nested.get("DiffusionGradientOrientation"))
    if kind.strip() in ("ISOTROPIC", "NONE"):
        yield ""
    if match := _DIRECTION.fullmatch(text(header.get("SequenceName")).strip()):
        yield f"#{match[1]}"
    if kind.strip() == "DIRECTIONAL" or any(_floats(nested.get("DiffusionGradientOrientation"), 3)):
        yield vector or "directional"
    if any(_floats(private_value(header, "Image Private Header", 0x0065, 0x37), 3)):
        yield text(private_value(header, "Image Private Header", 0x0065, 0x37))
    axis = text(private_value(header, "Philips Imaging DD 001", 0x2001, 0x04)).strip()
    if axis:
        yield "" if axis in ("I", "N") else axis
    along = [text(private_value(header, "GEMS_ACQU_01", 0x0019, element)) for element in (0xBB, 0xBC, 0xBD)]
    if any(value.strip(" 0.-") for value in along):
        yield "\\".join(along)
    if "DIFFUSION" in facts.words and "NONE" in facts.words:  # Siemens: as acquired, not combined.
        yield "directional"


def _acquired(header: Dataset) -> str:
    """When the image was taken, as digits that sort; images of one study share one clock."""
    if whole := text(header.get("AcquisitionDateTime")):
        return whole
    for kind in ("Acquisition", "Content", "Series"):
        if time := text(header.get(f"{kind}Time")):
            return text(header.get(f"{kind}Date") or header.get("StudyDate")) + time
    return ""


def _words(dataset: Dataset, keyword: str) -> list[str]:
    return [word.strip().upper() for word in text(dataset.get(keyword)).split("\\") if word.strip()]


def _floats(value: Any, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or none at all."""
    try:
        found = np.asarray([] if value is None else value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return ()
    return tuple(found.tolist()) if found.shape == (count,) and bool(np.all(np.isfinite(found))) else ()
