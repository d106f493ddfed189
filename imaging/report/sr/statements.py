"""What every report of a result says in the same words and names: its images, its findings, and its sentences.

Our own text is ASCII, so that it reads the same under every Specific Character Set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imaging.exam.result import Algorithm, Composite, ExamFinding, ExamResult, Side, Unread
from imaging.findings import Code, Label
from imaging.image import SourceRef
from imaging.report.document import derived_uid
from imaging.report.sr import codes
from imaging.report.sr.codes import MeasureCode
from imaging.volume_region import VolumeRegion

NOT_VALIDATED: Final = "Not for clinical use: the algorithm is not validated."
RESEARCH_ONLY: Final = "Not for clinical use: research software."
UNCALIBRATED: Final = "the image has no calibration, so no size in millimeters can be given."
_VOLUMES: Final = frozenset({"MR"})  # modalities of which a series, not an image, is what a reader misses
_TRACKING_STEP_PX: Final = 4
_TRACKING_STEP_MM: Final = 4.0
_PSA_DENSITY: Final = "psa_density_ng_ml2"
# Measures of the examination whose names do not end in a one-word unit: words, unit, decimals.
_EXAM_MEASURES: Final = {"psa_ng_ml": ("PSA", "ng/ml", 2), _PSA_DENSITY: ("PSA density", "ng/ml/cm3", 3)}
_SIDES: Final[dict[Side, str]] = {"L": "left", "R": "right"}
_RECALL: Final = {True: "reached", False: "not reached", None: "not reached by the images that were analyzed"}


def images_of(result: ExamResult) -> dict[str, tuple[SourceRef, list[int]]]:
    """Every image of the result, analysed or unread, in order: SOP UID → one reference and all its frame numbers."""
    refs: dict[str, list[SourceRef]] = {}
    for ref in (*result.analysed, *(unread.ref for unread in result.unread)):
        refs.setdefault(ref.sop_uid, []).append(ref)
    images: dict[str, tuple[SourceRef, list[int]]] = {}
    for uid, of_image in refs.items():
        frames = {ref.frame_number for ref in of_image}
        # A reference without a frame means the whole image, and so does an IMAGE item without frame numbers.
        images[uid] = (of_image[0], [] if None in frames else sorted(number for number in frames if number))
    return images


def observer_rows(algorithm: Algorithm) -> dict[Code, str]:
    """TID 1004, the device that observed. Its UID changes with every change of weights or settings."""
    return {
        codes.DEVICE_OBSERVER_UID: derived_uid("device", algorithm.identity),
        codes.DEVICE_OBSERVER_NAME: algorithm.name,
        codes.DEVICE_OBSERVER_MANUFACTURER: algorithm.manufacturer,
        codes.DEVICE_OBSERVER_MODEL: f"{algorithm.name} {algorithm.version}",
        codes.DEVICE_OBSERVER_SERIAL: algorithm.identity,
    }


@dataclass(frozen=True)
class Roi:
    """One region of interest of a report: a finding, or a structure in which was looked.

    `name` is its Tracking Identifier and `tracking_uid` its Tracking Unique Identifier, the same in SR and SEG.
    `laterality` is the side of a paired organ that its image shows, where that is known.
    """

    name: str
    tracking_uid: str
    label: Label
    measured: ExamFinding
    is_finding: bool
    laterality: Side | None = None

    @property
    def volume_region(self) -> VolumeRegion | None:
        return self.measured.key.volume_region

    @property
    def site(self) -> Code:
        """The sector where it lies, where that is known, else the organ of its label."""
        return self.measured.site or self.label.site


def rois(result: ExamResult) -> tuple[Roi, ...]:
    """Everything of the result that is outlined: its findings in their order, then its structures in theirs."""
    algorithm = result.algorithm
    found = [
        Roi(
            finding_name(result, n),
            tracking_uid(result, n),
            algorithm.label(finding.key.label),
            finding,
            True,
            view.laterality if (view := result.views.get(finding.key.ref.sop_uid)) else None,
        )
        for n, finding in enumerate(result.findings, start=1)
    ]
    labels = [algorithm.label(structure.key.label) for structure in result.structures]
    for place, (label, structure) in enumerate(zip(labels, result.structures, strict=True)):
        again = sum(other.finding == label.finding for other in labels[:place])
        name = label.finding.meaning + (f" {again + 1}" if again else "")
        key = _tracking_key(structure)
        uid = derived_uid("structure", result.study_uid, algorithm.identity, key, str(again))
        found.append(Roi(name, uid, label, structure, False))
    return tuple(found)


def finding_name(result: ExamResult, number: int) -> str:
    """The Tracking Identifier of finding `number` (from 1), the same in SR and SEG; of a projection with its view."""
    key = result.findings[number - 1].key
    view = result.views.get(key.ref.sop_uid)
    place = "" if view is None else f", {view.words}"
    return f"{result.algorithm.label(key.label).finding.meaning} {number}{place}"


def tracking_uid(result: ExamResult, number: int) -> str:
    """The Tracking Unique Identifier of finding `number` (from 1): a re-run with the same package repeats it.

    It depends on study, package identity, image, label and geometry in steps of a few pixels (of a volume region:
    series and centroid in steps of a few millimetres), so that a border pixel that falls the other way keeps it. Other
    weights give another one: whether two versions saw the same lesion is for matching to say, not for a coincidence of
    coordinates.
    """
    keys = [_tracking_key(finding) for finding in result.findings[:number]]
    again = keys[:-1].count(keys[-1])
    return derived_uid("tracking", result.study_uid, result.algorithm.identity, keys[-1], str(again))


def composite_tracking_uid(result: ExamResult, composite: Composite) -> str:
    """The Tracking Unique Identifier of a lesion seen in several views: that of its findings together."""
    return derived_uid("composite", *(tracking_uid(result, member + 1) for member in composite.members))


def _tracking_key(finding: ExamFinding) -> str:
    key = finding.key
    if key.volume_region is not None:
        centre = [round(float(v) / _TRACKING_STEP_MM) for v in key.volume_region.centroid_mm]
        return f"{key.label} {key.ref.series_uid} {centre}"
    place = [round(v / _TRACKING_STEP_PX) for v in key.box_px]
    return f"{key.label} {key.ref.sop_uid} {key.ref.frame_number} {place}"


def planar_measures(result: ExamResult, roi: Roi) -> list[tuple[MeasureCode, float]]:
    """What the group of an outline states: its own sizes and the exam's measures; no size where it is uncalibrated.

    The exam measures a volume region whole (`volume_measures`), so an outline that is its cross-section has only its
    own sizes.
    """
    key = roi.measured.key
    own = {"longest_diameter_mm": key.longest_diameter_mm, "area_mm2": key.area_mm2}
    return _stated(result, roi, own if key.volume_region is not None else own | roi.measured.measures)


def volume_measures(result: ExamResult, roi: Roi, volume_region: VolumeRegion) -> list[tuple[MeasureCode, float]]:
    """What the group of a volume region states; the prostate's has the PSA density of the examination.

    How sure the algorithm is, and its rating, stand once, in the group of the outline, which every finding has.
    """
    own = {"volume_ml": volume_region.volume_ml, "longest_diameter_mm": volume_region.longest_diameter_mm}
    measures = own | roi.measured.measures
    if not roi.is_finding and roi.label.finding == codes.PROSTATE:
        measures |= {_PSA_DENSITY: result.measures.get(_PSA_DENSITY)}
    return _known(measures, codes.VOLUME_MEASURES)


def _known(measures: Mapping[str, float | None], coded: Mapping[str, MeasureCode]) -> list[tuple[MeasureCode, float]]:
    return [(codes.measure_code(name, coded), value) for name, value in measures.items() if value is not None]


def _stated(result: ExamResult, roi: Roi, measures: Mapping[str, float | None]) -> list[tuple[MeasureCode, float]]:
    """Certainty of a finding (a structure is no question), the measures that are known, and a rating if allowed."""
    told = _known(measures, codes.MEASURES)
    if not roi.is_finding:
        return told
    rating = result.algorithm.stated_rating
    rated = [] if rating is None or roi.measured.rating is None else [(rating.concept, roi.measured.rating * 100.0)]
    certainty = (MeasureCode(codes.CERTAINTY, codes.PERCENT), roi.measured.key.score * 100.0)
    return [certainty, *told, *((MeasureCode(concept, codes.PERCENT), percent) for concept, percent in rated)]


def exam_statement(result: ExamResult) -> tuple[Code, str] | None:
    """What the report says of the whole examination by the package's rating: concept and text; None where it may not.

    Qualitative Evaluations take codes and text (TID 1500 rows 13 and 14). A measurement group would need a region:
    viewers show nothing for a group without one, and an examination where nothing was outlined has none.
    """
    rating, told = result.algorithm.stated_rating, result.rating
    if rating is None or told is None:
        return None
    frame = "" if told.ref.frame_number is None else f", frame {told.ref.frame_number}"
    return rating.concept, f"{round(told.probability * 100.0, 2):g} %, on image {told.ref.sop_uid}{frame}"


def comments(result: ExamResult) -> list[str]:
    """What the report says in words: a caution before all, validity, search, extent, unread images, cine frames,
    calibration, notes."""
    lines = [*([] if result.caution is None else [result.caution.sentence]), *_validity(result.algorithm)]
    structures = {structure.key.label for structure in result.structures}
    searched = sorted({label.finding.meaning for label in result.algorithm.labels if label.name not in structures})
    lines.append(f"Searched for: {', '.join(searched)}. {extent(result)}")
    lines += [_unread_line(group) for group in unread_groups(result)]
    outlined = [roi.name for roi in rois(result) if not roi.is_finding]
    if outlined:
        lines.append(f"Outlined and measured, no finding: {', '.join(outlined)}.")
    for number, finding in enumerate(result.findings, start=1):
        name, ref = finding_name(result, number), finding.key.ref
        if finding.frames:
            lines.append(
                f"{name} was seen in frames {_ranges(finding.frames)} of image {ref.sop_uid}; "
                f"its outline is on frame {ref.frame_number}."
            )
        if finding.key.source_grid.unit != "mm":
            lines.append(f"{name}: {UNCALIBRATED}")
    lines += _conclusions(result)
    for measure, value in result.measures.items():
        if value is not None:
            name, _, unit = measure.rpartition("_")
            words, unit, decimals = _EXAM_MEASURES.get(measure, (name.replace("_", " "), unit, 2))
            lines.append(f"Examination, {words}: {round(value, decimals)} {unit}")
    # Notes quote header values, so their letters may be any; our own text is ASCII.
    return [*lines, *("".join(c if " " <= c <= "~" else "?" for c in note) for note in result.notes)]


def _conclusions(result: ExamResult) -> list[str]:
    """Which findings are one lesion, and the scores of breasts and examination, where the package gives any."""
    lines = []
    for composite in result.composites:
        names = " and ".join(finding_name(result, member + 1) for member in composite.members)
        side = _SIDES[composite.laterality]
        lines.append(f"{names} are taken as one lesion of the {side} breast, score {composite.score:.4f}.")
    if result.scores is not None:
        scored = [(f"{_SIDES[side]} breast", value) for side, value in sorted(result.scores.breasts.items())]
        told = ", ".join(f"{what} {value:.4f}" for what, value in [("examination", result.scores.exam), *scored])
        lines.append(f"Scores of the analyzed images, between 0 and 1: {told}.")
        if result.scores.operating_point is not None:
            reached = _RECALL[result.recall]
            lines.append(f"Operating point of recall {result.scores.operating_point:g}: {reached}.")
    return lines


def _validity(algorithm: Algorithm) -> list[str]:
    """Never for clinical use; and what its probabilities mean, where it may state any."""
    calibration, rating = algorithm.calibration, algorithm.stated_rating
    if calibration is None:
        return [NOT_VALIDATED]
    lines = [
        RESEARCH_ONLY,
        f"Validated on: {calibration.population.rstrip('.')}. Prevalence there: {calibration.prevalence * 100:g} %. "
        f"Operating point: {calibration.operating_point.rstrip('.')}.",
    ]
    if rating is not None:
        lines.append(
            f"{rating.concept.meaning}: of a finding, {rating.positive} against {rating.negative} on the image of its "
            f"outline; of the examination, {rating.positive} among all classes of an image, highest of its images."
        )
    return lines


def extent(result: ExamResult) -> str:
    unread = {item.ref.sop_uid for item in result.unread}
    total = len(images_of(result))
    return f"{total - len(unread)} of {total} images were analyzed completely."


def unread_groups(result: ExamResult) -> list[list[Unread]]:
    """Unread items with the same image and the same reason, in order; of a study of volumes, with the same series."""
    groups: dict[tuple[str, str], list[Unread]] = {}
    for item in result.unread:
        whole = item.ref.series_uid if result.modality in _VOLUMES else item.ref.sop_uid
        groups.setdefault((whole, item.reason), []).append(item)
    return list(groups.values())


def _unread_line(group: Sequence[Unread]) -> str:
    ref, reason = group[0].ref, group[0].reason
    frames = {item.ref.frame_number for item in group if item.ref.frame_number is not None}
    images = {item.ref.sop_uid for item in group}
    if len(images) > 1:
        where = f"{len(images)} images of series {ref.series_uid}"
    else:
        where = f"frames {_ranges(frames)} of image {ref.sop_uid}" if frames else f"image {ref.sop_uid}"
    return f"Not analyzed: {where}. Reason {reason.value}: {reason.meaning}."


def _ranges(numbers: Iterable[int]) -> str:
    """1, 2, 3, 7 as `1-3, 7`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
