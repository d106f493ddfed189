"""Findings of one prostate MRI → exam findings with their sectors, the volume of the gland, and PSA density.

PSA density is the serum PSA over the volume of the gland, in ng/ml per ml (PI-RADS v2.1 has the volume reported for
it; EAU guidelines on prostate cancer, risk assessment before biopsy). The volume is that of the outline, not of an
ellipsoid.

**Sectors** are those of the PI-RADS v2.1 map (CID 6304) in the peripheral and the transition zone, 30 of its 41:
anterior stroma, central zone, seminal vesicles and sphincter would need outlines of their own, and count here as the
zone that they are outlined in. The map is a drawing without measures. These are our lines, in the axes of the patient,
whatever the axes of the image are:

* base, middle and apex: thirds of the gland's height from head to foot;
* in each third by itself, because the gland leans: left and right of its centre of mass; anterior and posterior of the
  middle between its front and its back; in the posterior peripheral zone, lateral from half the way between the centre
  and the gland's side on.

A lesion has the sector in which most of its voxels lie, and none where half of them or more lie in no zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.exam.conclusion import Conclusion, Readings, Terms, exam_rating
from imaging.exam.context import Context, Fact, Stated
from imaging.exam.result import ExamFinding, Scores
from imaging.findings import Code, Coverage, Finding
from imaging.image import Floats, Grid, SourceRef
from imaging.modalities.prostate.selection import T2W
from imaging.volume_region import Mask, VolumeRegion

Organ = Literal["gland", "peripheral", "transition"]
Ints = NDArray[np.intp]

# What packages call the organs, in lower case and with blanks.
ORGANS: Final[dict[str, Organ]] = {
    "gland": "gland",
    "prostate": "gland",
    "prostate gland": "gland",
    "peripheral zone": "peripheral",
    "transition zone": "transition",
}
_ZONES: Final[tuple[Organ, ...]] = ("peripheral", "transition")
_LEVELS: Final = ("apical", "middle", "basal")
_SIDES: Final = ("Left", "Right")
# Zone → parts; (zone, part, level) → the SNOMED CT codes of left and right. The meanings follow one pattern.
_PARTS: Final[dict[Organ, tuple[str, ...]]] = {
    "peripheral": ("anterior", "posterolateral", "posteromedial"),
    "transition": ("anterior", "posterior"),
}
_CODES: Final[dict[tuple[str, str, str], tuple[str, str]]] = {
    ("peripheral", "anterior", "apical"): ("716937001", "716936005"),
    ("peripheral", "anterior", "middle"): ("716920008", "716919002"),
    ("peripheral", "anterior", "basal"): ("716905002", "716904003"),
    ("peripheral", "posterolateral", "apical"): ("716939003", "716938006"),
    ("peripheral", "posterolateral", "middle"): ("716922000", "716921007"),
    ("peripheral", "posterolateral", "basal"): ("716907005", "716906001"),
    ("peripheral", "posteromedial", "apical"): ("716941002", "716940001"),
    ("peripheral", "posteromedial", "middle"): ("716924004", "716923005"),
    ("peripheral", "posteromedial", "basal"): ("836427009", "836428004"),
    ("transition", "anterior", "apical"): ("716931000", "716930004"),
    ("transition", "anterior", "middle"): ("716914007", "716913001"),
    ("transition", "anterior", "basal"): ("716897000", "716896009"),
    ("transition", "posterior", "apical"): ("716933002", "716932007"),
    ("transition", "posterior", "middle"): ("716916009", "716915008"),
    ("transition", "posterior", "basal"): ("716899002", "716898005"),
}


# Shares below which a channel leaves something out: of the gland but for the rim of a mask, of the whole T2W but for
# its edges.
_WHOLE_GLAND: Final = 0.98
_WHOLE_FIELD: Final = 0.90

# No image states it.
PSA: Final = Fact("psa_ng_ml", "PSA", "prostate MRI", "--psa")


def conclude(readings: Readings, terms: Terms, context: Context) -> Conclusion:
    """What is said of one exam; its findings are measured whole, whatever measures a package names."""
    told = summarise(
        readings.findings, readings.structures, context.get(PSA.name), readings.analysed, terms.operating_point
    )
    covers, gaps = _covered([reading.coverage for reading in readings.each if reading.coverage is not None])
    return replace(told, rating=exam_rating(terms.rating, readings.classes), covers=covers, gaps=gaps)


def _covered(each: Sequence[Coverage]) -> tuple[str, tuple[str, ...]]:
    """What the channels cover, in words, and what of it forbids a "no": a share of the gland that one does not show.

    Where nobody found the gland, all of the T2W counts, of which the edges rarely matter.
    """
    if not each:
        return "", ()
    (coverage,) = each
    what, least = ("gland", _WHOLE_GLAND) if coverage.is_of_organ else ("field of view", _WHOLE_FIELD)
    shown = {role: f"{role or T2W} {int(share * 100 + 1e-6)} %" for role, share in coverage.shares.items()}
    gaps = [
        f"{shown[role]}: the rest of the {what} was not looked at in it"
        for role, share in coverage.shares.items()
        if share < least
    ]
    if coverage.is_cut:
        gaps.append("The gland goes on beyond the first or last slice of the T2W, and was not looked at there")
    return f"{what} covered by {', '.join(shown.values())}" + (", cut off" if coverage.is_cut else ""), tuple(gaps)


def summarise(
    findings: Iterable[Finding],
    structures: Iterable[Finding],
    psa: Stated | None = None,
    analysed: Sequence[SourceRef] = (),
    operating_point: float | None = None,
) -> Conclusion:
    """The whole exam. Findings and structures are of one volume each or of several, and have volume regions.

    A package that looks for organs alone has them as findings; they count for the volume and have no sector.
    `gland_volume_ml` is None where no organ was outlined; PSA and its density are there where a PSA is known. There are
    scores only at an operating point, and where something was analysed: the highest of the lesions, 0 for none.
    """
    found = sorted(findings, key=lambda f: (-f.score, f.ref.sop_uid, f.box_px))
    inside = list(structures)
    gland = _Gland.of([(organ, _volume_region(f)) for f in (*inside, *found) if (organ := _organ(f)) is not None])
    told = tuple(_exam_finding(finding, gland) for finding in found)
    lesions = [f.score for f in found if _organ(f) is None]
    has_scores = operating_point is not None and len(analysed) > 0
    return Conclusion(
        told,
        _measures(gland, psa),
        scores=Scores(max(lesions, default=0.0), {}, operating_point) if has_scores else None,
        structures=tuple(ExamFinding(f, measures={"volume_ml": _volume_region(f).volume_ml}) for f in inside),
        notes=tuple(_notes(gland, psa, told)) if analysed else (),
    )


def _exam_finding(finding: Finding, gland: _Gland | None) -> ExamFinding:
    volume_region = _volume_region(finding)
    measures: dict[str, float | None] = {
        "volume_ml": volume_region.volume_ml,
        "longest_diameter_mm": volume_region.longest_diameter_mm,
    }
    if _organ(finding) is not None:
        return ExamFinding(finding, measures=measures)
    adc = volume_region.quantities.get("ADC")
    measures["adc_mean_um2_s"], measures["adc_p10_um2_s"] = (adc.mean, adc.p10) if adc else (None, None)
    return ExamFinding(finding, measures=measures, site=gland.sector(volume_region) if gland else None)


def _measures(gland: _Gland | None, psa: Stated | None) -> dict[str, float | None]:
    volume = None if gland is None else gland.volume_ml
    measures: dict[str, float | None] = {"gland_volume_ml": volume}
    if psa is not None:
        measures[PSA.name] = psa.value
        measures["psa_density_ng_ml2"] = psa.value / volume if volume else None
    return measures


def _notes(gland: _Gland | None, psa: Stated | None, findings: Sequence[ExamFinding]) -> Iterator[str]:
    if psa is not None:
        yield f"The PSA of {psa.value:g} ng/ml is not of the images: {psa.source}"
    if gland is not None and gland.is_cut:
        yield "The gland reaches the end of the volume: its own volume and the thirds of its height may be too small"
    if gland is None:
        yield "No gland was outlined: its volume is not known, and no finding has a sector"
        return
    for number, finding in enumerate(findings, start=1):
        if _organ(finding.key) is not None or finding.site is not None:
            continue
        if gland.zones:
            yield f"Finding {number} has no sector: the greater part of it lies outside the zones that were outlined"
        else:
            where = gland.place(_volume_region(finding.key))
            yield f"Finding {number} has no sector, as no zone was outlined: it lies {where}"


def _organ(finding: Finding) -> Organ | None:
    return ORGANS.get(finding.label.replace("_", " ").lower())


def _volume_region(finding: Finding) -> VolumeRegion:
    assert finding.volume_region is not None, f"a finding of a volume has a volume region: {finding.label}"
    return finding.volume_region


@dataclass(frozen=True, eq=False)
class _Gland:
    """The prostate: everything outlined of it, and its zones, as masks on one cropped `grid`.

    `is_cut` says that it reaches the first or last slice of the source volume. `levels` and `lines` are the thirds of
    its height (4 bounds, z) and in each of them, apex first, the lines of the map: x of the left side, centre and right
    side, and y of the middle. Of several parts the largest draws the lines: a stray one must not move them.
    """

    whole: Mask
    zones: dict[Organ, Mask]
    grid: Grid
    is_cut: bool
    levels: Floats
    lines: Floats

    @staticmethod
    def of(organs: Sequence[tuple[Organ, VolumeRegion]]) -> _Gland | None:
        """None for no organ. All are of one source volume."""
        if not organs:
            return None
        volume_regions = [volume_region for _, volume_region in organs]
        source = volume_regions[0].grid
        assert all(s.grid.shape == source.shape and np.allclose(s.grid.affine, source.affine) for s in volume_regions)
        low = np.min([s.origin for s in volume_regions], axis=0)
        high = np.max([np.add(s.origin, s.mask.shape) for s in volume_regions], axis=0)
        masks: dict[Organ, Mask] = {}
        for organ, volume_region in organs:
            drawn = masks.setdefault(organ, np.zeros(high - low, np.bool_))
            start = np.subtract(volume_region.origin, low)
            drawn[tuple(slice(a, a + n) for a, n in zip(start, volume_region.mask.shape, strict=True))] |= (
                volume_region.mask
            )
        whole = np.logical_or.reduce(list(masks.values()))
        first, top, left = (int(v) for v in low)
        grid = source.crop((first, top, left), whole.shape)
        is_cut = bool((first == 0 and whole[0].any()) or (high[0] == source.shape[0] and whole[-1].any()))
        zones = {zone: masks[zone] for zone in _ZONES if zone in masks}
        return _Gland(whole, zones, grid, is_cut, *_lines(_largest(whole), grid))

    @property
    def volume_ml(self) -> float:
        return float(self.whole.sum()) * self.grid.voxel_size / 1000.0

    def sector(self, volume_region: VolumeRegion) -> Code | None:
        """The sector that holds most of a volume region's voxels; None where half of them or more lie in no zone."""
        points = _points(volume_region.mask, volume_region.grid.crop(volume_region.origin, volume_region.mask.shape))
        zone = np.full(len(points), -1, dtype=np.intp)
        for name, mask in self.zones.items():
            zone[self._inside(mask, points)] = _ZONES.index(name)
        if 2 * np.count_nonzero(zone >= 0) <= len(points):
            return None
        level, side, is_back, is_lateral = self._places(points[zone >= 0])
        zone = zone[zone >= 0]
        part = np.where(is_back, np.where((zone == 0) & ~is_lateral, 2, 1), 0)
        most = int(np.bincount(np.ravel_multi_index((zone, part, level, side), (2, 3, 3, 2))).argmax())
        z, p, h, s = (int(v) for v in np.unravel_index(most, (2, 3, 3, 2)))
        names = _ZONES[z], _PARTS[_ZONES[z]][p], _LEVELS[h]
        meaning = f"{_SIDES[s]} {names[1]} {names[2]} {names[0]} zone of prostate"
        return Code(_CODES[names][s], "SCT", meaning)

    def place(self, volume_region: VolumeRegion) -> str:
        """Where most of a volume region's voxels lie in the gland, in words, for a gland without zones."""
        points = _points(volume_region.mask, volume_region.grid.crop(volume_region.origin, volume_region.mask.shape))
        if 2 * np.count_nonzero(self._inside(self.whole, points)) <= len(points):
            return "for the greater part outside the gland"
        level, side, is_back, _ = self._places(points)
        most = int(np.bincount(np.ravel_multi_index((level, side, is_back.astype(np.intp)), (3, 2, 2))).argmax())
        h, s, b = (int(v) for v in np.unravel_index(most, (3, 2, 2)))
        return f"{_SIDES[s].lower()}, in the {_LEVELS[h]} third, {('anterior', 'posterior')[b]}"

    def _inside(self, mask: Mask, points: Floats) -> Mask:
        """Of each point (n, 3) in mm whether it lies in a mask on `grid`."""
        inverse = np.linalg.inv(self.grid.affine)
        at = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)
        inside = np.all((at >= 0) & (at < self.grid.shape), axis=1)
        inside[inside] = mask[tuple(at[inside].T)]
        return np.asarray(inside)

    def _places(self, points: Floats) -> tuple[Ints, Ints, Mask, Mask]:
        """Of each point (n, 3): its third (0 apical), side (0 left), and whether it is posterior, and lateral."""
        level = np.searchsorted(self.levels[1:3], points[:, 2], side="right")
        left, centre, right, middle = self.lines[level].T
        is_right = points[:, 0] > centre  # patient_ras: x grows to the patient's right
        edge = np.where(is_right, right, left)
        is_lateral = np.abs(points[:, 0] - centre) > np.abs(edge - centre) / 2
        return level, is_right.astype(np.intp), points[:, 1] < middle, is_lateral


def _largest(mask: Mask) -> Mask:
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return np.asarray(labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1)


def _points(mask: Mask, grid: Grid) -> Floats:
    """The voxel centres (n, 3) of a mask, x, y, z in patient_ras millimetres."""
    return grid.world(np.argwhere(mask) + 0.5)


def _lines(mask: Mask, grid: Grid) -> tuple[Floats, Floats]:
    """The bounds of the thirds (4,), and in each x of left side, centre, right side, and y of the middle: (3, 4).

    Sides are those of the voxels, not of their centres. A third without a voxel has the lines of the whole.
    """
    points = _points(mask, grid)
    reach = np.abs(grid.affine[:3, :3]).sum(axis=1) / 2
    levels = np.linspace(points[:, 2].min() - reach[2], points[:, 2].max() + reach[2], 4)
    number = np.searchsorted(levels[1:3], points[:, 2], side="right")
    lines = []
    for level in range(3):
        part = points[number == level] if np.any(number == level) else points
        low, high = part.min(axis=0) - reach, part.max(axis=0) + reach
        lines.append([low[0], part[:, 0].mean(), high[0], (low[1] + high[1]) / 2])
    return levels, np.array(lines)
