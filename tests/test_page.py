"""The result page and the schema of summary.json: every outcome, hostile text, and the page in a real browser."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from imaging.errors import Reason
from imaging.report.page import render
from imaging.report.page.card import answers_of
from tests.conftest import REPOSITORY, require_tool

SCHEMA = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
HOSTILE = '<script>alert(1)</script>" onerror="alert(2)\x07\x1b[31m\u202egnp.exe\u2066</title>'


# --- A run by hand ----------------------------------------------------------------------------------------------------


def finding(source: str, box: tuple[float, float, float, float], **changes: Any) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = [
        [round((x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(t), 1), round((y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(t), 1)]
        for t in turns
    ]
    return {
        "label": "Lesion",
        "score": 0.91,
        "rating": None,
        "source_sop_uid": source,
        "frame": None,
        "region": 0,
        "box_px": list(box),
        "center_px": [(x0 + x1) / 2, (y0 + y1) / 2],
        "slice": None,
        "center_lps_mm": None,
        "site": None,
        "laterality": None,
        "view": None,
        "area_mm2": 143.2,
        "volume_ml": None,
        "longest_diameter_mm": 16.84,
        "measures": {},
        "outline_px": outline,
    } | changes


def unread(source: str, reason: Reason, frame: int | None = None) -> dict[str, Any]:
    return {"source_sop_uid": source, "frame": frame, "reason": reason.value, "reason_meaning": reason.meaning}


def preview(name: str, source: str, frame: int | None = None) -> dict[str, Any]:
    return {"path": name, "source_sop_uid": source, "frame": frame, "region": 0, "box_px": [80, 40, 560, 400]}


def dicom_object(name: str, sop_class: str) -> dict[str, str]:
    return {"path": name, "sop_class_uid": sop_class, "sop_instance_uid": "2.25.310483201374298347120394871203948712"}


def result(finding: str, completeness: str, **changes: Any) -> dict[str, Any]:
    return {
        "package": "breast-us-demo",
        "group": "all",
        "finding": finding,
        "completeness": completeness,
        "applicability": "applicable",
        "reason": None,
        "reason_meaning": None,
        "caution": None,
        "objects": [dicom_object("studies/1f/report.dcm", SR)],
        "findings": [],
        "structures": [],
        "measures": {},
        "rating": None,
        "views": {},
        "composites": [],
        "scores": None,
        "analysed": {"all": 3, "some": 2, "none": 0}[completeness],
        "covers": "" if completeness == "none" else "3 of 3 images",
        "unread": [],
        "unseen": 0,
        "notes": [],
        "previews": [],
        "roles": {},
        "rejected": [],
    } | changes


def study(number: int, *results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "study_uid": f"1.2.826.0.1.3680043.10.543.2026.{number}",
        "modality": "US",
        "site": "St. Brigid Hospital",
        "scanner": "Aurora E9 · SN 20931",
        "protocol": "BREAST BILATERAL",
        "results": list(results),
    } | changes


def not_applicable(reason: Reason) -> dict[str, Any]:
    why = {"reason": reason.value, "reason_meaning": reason.meaning}
    return result("unknown", "none", applicability="not_applicable", objects=[], **why)


def found_in_all() -> dict[str, Any]:
    first, second = "1.2.826.0.1.3680043.10.543.7.1", "1.2.826.0.1.3680043.10.543.7.2"
    return result(
        "yes",
        "all",
        findings=[
            finding(first, (220, 130, 330, 210)),
            finding(first, (420, 250, 470, 296), score=0.64, area_mm2=31.7, longest_diameter_mm=7.02),
            finding(second, (300, 160, 372, 240), score=0.58, area_mm2=48.5, longest_diameter_mm=9.4),
        ],
        measures={"longest_diameter_mm": 16.84, "circumference_mm": 48.31},
        previews=[preview("studies/a/1.png", first), preview("studies/a/2.png", second)],
        objects=[dicom_object("studies/a/report.dcm", SR), dicom_object("studies/a/segmentation.dcm", SEG)],
        notes=["Pixel spacing 0.08 × 0.10 mm comes from the ultrasound region."],
    )


def found_in_some() -> dict[str, Any]:
    source = "1.2.826.0.1.3680043.10.543.8.1"
    sizes: dict[str, Any] = {"area_mm2": None, "longest_diameter_mm": None}
    return result(
        "yes",
        "some",
        findings=[finding(source, (250, 120, 390, 230), frame=17, outline_px=[], **sizes)],
        measures={"longest_diameter_mm": None},
        previews=[preview("studies/b/1.png", source, 17), preview("studies/b/missing.png", source, 40)],
        unread=[
            unread("1.2.826.0.1.3680043.10.543.8.2", Reason.DECODE_FAILED, 3),
            *(unread(f"1.2.826.0.1.3680043.10.543.8.{n}", Reason.PIXEL_DATA_TOO_SHORT) for n in range(3, 14)),
        ],
        notes=["The scanner lies outside the training support of the package."],
    )


def found_in_two_views() -> dict[str, Any]:
    """A mammogram: one lesion in both views of the left breast, and a recall."""
    views = {f"1.2.826.0.1.3680043.10.543.12.{n}": name for n, name in enumerate(("L CC", "L MLO", "R CC", "R MLO"))}
    cc, mlo, *_ = views
    return result(
        "yes",
        "all",
        group="L CC, L MLO, R CC, R MLO",
        findings=[
            finding(mlo, (220, 130, 330, 210), region=None, area_mm2=None),
            finding(cc, (420, 250, 470, 296), region=None, area_mm2=None, score=0.64),
        ],
        views=views,
        objects=[dicom_object("studies/m/cad.dcm", "1.2.840.10008.5.1.4.1.1.88.50")],
        composites=[{"members": [0, 1], "laterality": "L", "score": 0.964}],
        scores={"exam": 0.964, "breasts": {"L": 0.964, "R": 0.0}, "operating_point": 0.7, "recall": True},
        analysed=4,
    )


def found_in_a_volume() -> dict[str, Any]:
    """A prostate: two lesions with their sectors, the zones, a PSA, and a series that was left out."""
    slices = [f"1.2.826.0.1.3680043.10.543.13.{n}" for n in range(3)]

    def volume(source: int, box: tuple[float, float, float, float], **changes: Any) -> dict[str, Any]:
        place: dict[str, Any] = {"region": None, "area_mm2": 60.0, "slice": source + 11}
        return finding(slices[source], box, **place, **changes)

    def sector(value: str, meaning: str) -> dict[str, str]:
        return {"value": value, "scheme": "SCT", "meaning": meaning}

    def series(number: int, instances: int) -> dict[str, Any]:
        return {"series_uid": f"1.2.826.0.1.13.{number}", "series_number": number, "instances": instances}

    why = {"reason": Reason.NOT_AXIAL.value, "reason_meaning": Reason.NOT_AXIAL.meaning}
    return result(
        "yes",
        "all",
        package="prostate-mri-demo",
        group="bpMRI",
        findings=[
            volume(0, (370, 250, 430, 300), score=0.83, volume_ml=0.61, longest_diameter_mm=13.4,
                   center_lps_mm=[14.2, 9.1, -31.5], measures={"adc_mean_um2_s": 742.6, "adc_p10_um2_s": 610.2},
                   site=sector("716922000", "Left posterolateral middle peripheral zone of prostate")),
            volume(1, (250, 120, 290, 160), score=0.41, volume_ml=0.22, longest_diameter_mm=8.1,
                   center_lps_mm=[-7.0, -12.4, -22.5], measures={"adc_mean_um2_s": None, "adc_p10_um2_s": None}),
        ],
        structures=[
            volume(0, (180, 90, 450, 330), label="peripheral zone", score=1.0, volume_ml=21.6),
            volume(2, (220, 110, 410, 260), label="transition zone", score=1.0, volume_ml=29.93),
        ],
        measures={"gland_volume_ml": 51.53, "psa_ng_ml": 6.5, "psa_density_ng_ml2": 0.1261},
        previews=[preview(f"studies/p/{n}.png", slices[n]) | {"region": None} for n in range(3)],
        roles={"T2W": [series(4, 30)], "ADC": [series(9, 20)], "high b": [series(8, 20)]},
        rejected=[series(3, 24) | why, series(5, 24) | why],
        analysed=70,
        notes=["The PSA of 6.5 ng/ml is not of the images: the table given with --psa states it for this study, by "
               "StudyInstanceUID", "Finding 2 has no sector: the greater part of it lies outside the zones that were "
               "outlined"],
    )  # fmt: skip


def a_run() -> dict[str, Any]:
    """Every outcome once, successes first, with hostile text where a DICOM header could put it."""
    lost = unread("1.2.826.0.1.3680043.10.543.9.1", Reason.UNSUPPORTED_TRANSFER_SYNTAX)
    clear = preview("studies/c/1.png", "1.2.826.0.1.3680043.10.543.6.1")
    broken = {"reason": Reason.READBACK_FAILED.value, "reason_meaning": Reason.READBACK_FAILED.meaning}
    return {
        "schema_version": 1,
        "toolkit": {"name": "sitewise-imaging", "version": "0.1.0"},
        "content_time": "2026-01-31T12:00:00",
        "packages": [
            {
                "name": "breast-us-demo",
                "version": "1.0.0",
                "identity": "9f2c41d07ab3e6581c20",
                "summary": "Outlines lesions in B-mode ultrasound of the breast.",
                "validated": False,
            }
        ],
        "studies": [
            study(1, not_applicable(Reason.OTHER_ANATOMY), site="Hôpital Sainte-Odile"),
            study(2, result("no", "all", previews=[clear])),
            study(3, found_in_all()),
            study(4, found_in_some(), site="Hôpital Sainte-Odile"),
            study(5, result("unknown", "some", unread=[lost, unread("1.2.826.9.2", Reason.NO_TISSUE_REGION)])),
            study(6, result("unknown", "none", unread=[lost]), site="unknown", scanner="unknown"),
            study(7, result("unknown", "none", notes=[HOSTILE]), site=HOSTILE, scanner=HOSTILE, protocol=HOSTILE),
            study(8, result("no", "all", objects=[], **broken)),
            study(9, not_applicable(Reason.UNKNOWN_ANATOMY), protocol="مرحبا"),
            study(10, modality="OT"),
        ],
        "remarks": [
            {"path": None, "text": "1 PatientID value(s) stand for more than one patient"},
            {"path": "DICOM/odd", "text": "the preamble begins like a <script>"},
        ],
        "unseen": [],
        "files": [
            *({"path": f"A/{n:04}.dcm", "state": "used", "reason": None, "reason_meaning": None} for n in range(31)),
            file("DICOMDIR", "skipped", Reason.DICOMDIR),
            *(file(f"A/sr/{n}.dcm", "skipped", Reason.NOT_AN_IMAGE) for n in range(4)),
            file("A/broken.dcm", "refused", Reason.PIXEL_DATA_TOO_SHORT),
            file("notes \udcff.txt", "refused", Reason.NOT_DICOM),
            file(f"{HOSTILE}.txt", "refused", Reason.NOT_DICOM),
        ],
    }


def a_mammogram() -> dict[str, Any]:
    return a_run() | {"studies": [study(1, found_in_two_views(), modality="MG")]}


def a_prostate() -> dict[str, Any]:
    none = {"gland_volume_ml": None, "psa_ng_ml": 4.0, "psa_density_ng_ml2": None}
    return a_run() | {"studies": [study(1, found_in_a_volume(), modality="MR"),
                                  study(2, result("no", "all", measures=none), modality="MR")]}  # fmt: skip


def file(path: str, state: str, reason: Reason) -> dict[str, Any]:
    return {"path": path, "state": state, "reason": reason.value, "reason_meaning": reason.meaning}


def an_empty_run() -> dict[str, Any]:
    return a_run() | {"studies": [], "files": [], "remarks": []}


def speckle(seed: int, shape: tuple[int, int] = (360, 480)) -> bytes:
    """A picture like B-mode: exponential speckle under a depth gain, with a dark ellipse, as PNG."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    cysts = [(130, 195, 40, 55), (233, 365, 23, 25)] if seed == 1 else [(160, 256, 40, 36)]
    echo = 0.55 + 0.25 * np.sin(rows / 38 + columns / 300)
    for row, column, high, wide in cysts:
        echo[((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 < 1] = 0.06
    level = np.log1p(40 * echo * rng.exponential(1, shape)) / np.log(160) * (1 - rows / 900)
    stream = io.BytesIO()
    Image.fromarray((255 * np.clip(level, 0, 1)).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for seed, name in enumerate(("a/1", "a/2", "b/1", "c/1", "p/0", "p/1", "p/2"), start=1):
        path = folder / "studies" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(speckle(seed))
    return folder


def write_page(run: dict[str, Any], folder: Path) -> Path:
    path = folder / "index.html"
    path.write_text(render(run, folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return write_page(a_run(), out).read_text(encoding="utf-8")


# --- Schema -----------------------------------------------------------------------------------------------------------


def check(summary: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(summary)


def test_schema_is_a_schema_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def fields(node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            if "if" not in node:
                yield from node.get("properties", {}).items()
            for key, value in node.items():
                if key not in {"if", "then", "else", "allOf"}:
                    yield from fields(value)

    described = list(fields(SCHEMA))
    assert len(described) > 50
    assert [name for name, field in described if not field.get("description")] == []


def objects_of_schema(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from objects_of_schema(value)


def test_schema_is_strict_and_requires_every_field() -> None:
    for node in objects_of_schema(SCHEMA):
        if "properties" in node:
            assert node["additionalProperties"] is False
            assert sorted(node["required"]) == sorted(node["properties"])


def test_valid_summaries_pass() -> None:
    check(a_run())
    check(an_empty_run())
    check(a_mammogram())
    check(a_prostate())


def changed(path: list[str | int], value: Any) -> dict[str, Any]:
    """The run with one field at `path` changed, or removed where `value` is `...`."""
    run: Any = copy.deepcopy(a_run())
    node = run
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return dict(run)


CLEAR: list[str | int] = ["studies", 1, "results", 0]
FOUND: list[str | int] = ["studies", 2, "results", 0]
ELSEWHERE: list[str | int] = ["studies", 0, "results", 0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ([*CLEAR, "completeness"], "some", "'all' was expected"),
        ([*CLEAR, "unread"], [unread("1.2", Reason.DECODE_FAILED)], "expected to be empty"),
        ([*FOUND, "completeness"], "none", "is not one of"),
        ([*FOUND, "findings"], [], "should be non-empty"),
        ([*FOUND, "finding"], "maybe", "'maybe' is not one of"),
        ([*FOUND, "colour"], "red", "'colour' was unexpected"),
        ([*FOUND, "structures"], ..., "'structures' is a required property"),
        ([*FOUND, "roles"], {"T2W": []}, "should be non-empty"),
        ([*FOUND, "roles"], {"T2W": [{"series_uid": "1.2", "instances": 1}]}, "'series_number' is a required property"),
        ([*FOUND, "findings", 0, "site"], "left", "is not of type 'object', 'null'"),
        ([*FOUND, "findings", 0, "center_lps_mm"], [1, 2], "is too short"),
        ([*FOUND, "measures"], ..., "'measures' is a required property"),
        ([*FOUND, "measures"], {"area_mm2": "12"}, "is not of type 'number', 'null'"),
        ([*FOUND, "findings", 0, "box_px"], [1, 2, 3], "is too short"),
        ([*FOUND, "findings", 0, "rating"], ..., "'rating' is a required property"),
        ([*FOUND, "findings", 0, "rating"], {"name": "malignancy", "probability": 81.0}, "greater than the maximum"),
        ([*FOUND, "rating"], {"name": "malignancy", "probability": 0.8}, "'source_sop_uid' is a required property"),
        ([*FOUND, "objects", 0, "path"], "../elsewhere.dcm", "does not match"),
        ([*FOUND, "objects", 0, "path"], "/etc/passwd", "does not match"),
        ([*FOUND, "objects", 0, "path"], "javascript:alert(1)", "does not match"),
        ([*FOUND, "reason"], "not_dicom", "is not of type 'string'"),
        ([*ELSEWHERE, "finding"], "no", "was expected"),
        ([*ELSEWHERE, "reason"], None, "is not of type"),
        ([*ELSEWHERE, "objects"], [dicom_object("a.dcm", SR)], "expected to be empty"),
        (["files", 31, "reason"], None, "is not of type"),
        (["files", 0, "state"], "lost", "'lost' is not one of"),
        (["schema_version"], 2, "1 was expected"),
        (["patient_name"], "Doe^Jane", "'patient_name' was unexpected"),
    ],
)
def test_schema_refuses(path: list[str | int], value: Any, message: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=re.escape(message)):
        check(changed(path, value))


def test_ratings_are_shown_in_percent_and_the_footer_says_what_they_are(out: Path) -> None:
    run = a_run()
    unrated = " ".join(Outline(render(run, out)).text)
    assert "not a probability of disease. Pixel positions" in unrated
    assert "Malignancy" not in unrated
    found = run["studies"][2]["results"][0]
    found["findings"][0]["rating"] = {"name": "malignancy", "probability": 0.8123}
    found["rating"] = {"name": "malignancy", "probability": 0.0406, "source_sop_uid": "1.2", "frame": None, "region": 0}
    check(run)
    told = " ".join(" ".join(Outline(render(run, out)).text).split())
    assert "Malignancy 81.2 %" in told
    assert "Malignancy 4.1 %" in told
    assert "A percentage (malignancy) is a probability for the population that the DICOM report names" in told


# --- Page -------------------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Reads a page back: its elements, that every one is closed in order, and its text outside style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "input"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.text.append(data)


def test_every_study_and_every_outcome_is_there(page: str) -> None:
    text = " ".join(Outline(page).text)
    for entry in a_run()["studies"]:
        assert entry["study_uid"] in text
    for words in ("Finding: yes", "Finding: no", "Finding: unknown", "All images analysed (3 of 3)",
                  "Some images analysed (2 of 14)", "No image analysed (0 of 1)", "This is not a negative answer.",
                  "uncalibrated: no millimetres", "Not a medical device; not for clinical use."):  # fmt: skip
        assert words in text
    for reason in (Reason.OTHER_ANATOMY, Reason.DECODE_FAILED, Reason.READBACK_FAILED, Reason.NOT_AN_IMAGE):
        assert reason.meaning[1:] in text  # A sentence may start with it.


def test_a_mammogram_says_recall_sides_views_and_which_findings_are_one_lesion(out: Path) -> None:
    text = " ".join(" ".join(Outline(render(a_mammogram(), out)).text).split())
    for words in ("Recall yes at an exam score of 0.70", "Exam score 0.96", "Left breast 0.96", "Right breast 0.00",
                  "One lesion with finding 2, score 0.96 together", "One lesion with finding 1", "Image L MLO",
                  "Mammography CAD SR"):  # fmt: skip
        assert words in text, words


def test_a_prostate_says_sectors_sizes_adc_psa_and_what_was_read(out: Path) -> None:
    outline = Outline(render(a_prostate(), out))
    text = " ".join(" ".join(outline.text).split())
    left_out = Reason.NOT_AXIAL.meaning[0].upper() + Reason.NOT_AXIAL.meaning[1:]
    for words in (
        "Volume Longest diameter ADC mean ADC 10th percentile Slice Center (LPS)",
        "Left posterolateral middle peripheral zone of prostate 1.2.826.0.1.3680043.10.543.13.0 0.83 0.61 ml 13.4 mm",
        "743 × 10⁻⁶ mm²/s 610 × 10⁻⁶ mm²/s 11 14.2, 9.10, -31.5 mm",
        "0.22 ml 8.10 mm not known not known 12 -7.00, -12.4, -22.5 mm",
        "Gland volume 51.5 ml PSA 6.50 ng/ml PSA density 0.13 ng/ml²",
        "Gland volume not known PSA 4.00 ng/ml PSA density not known",
        "Peripheral zone 21.6 ml",
        "T2W Series 4, 30 images ADC Series 9, 20 images High b Series 8, 20 images",
        f"2 series with images that were left out Series 3, 24 images {left_out}",
        "Finding 1, dashed: peripheral zone , slice 11",
        "Dashed: transition zone , slice 13",
    ):
        assert words in text, words
    polygons = [a["class"] for tag, a in outline.elements if tag == "polygon"]
    assert (polygons.count("line"), polygons.count("organ")) == (2, 2)


@pytest.mark.parametrize(
    ("recall", "words"), [(False, "Recall no at"), (None, "not reached, but not every image was analysed")]
)
def test_a_recall_that_is_not_reached_is_no_only_where_everything_was_read(
    recall: bool | None, words: str, out: Path
) -> None:
    run = a_mammogram()
    run["studies"][0]["results"][0]["scores"] |= {"recall": recall}
    assert words in " ".join(" ".join(Outline(render(run, out)).text).split())


def test_failures_stand_before_successes(page: str) -> None:
    cards = [a["data-kinds"] for tag, a in Outline(page).elements if tag == "article"]
    assert cards == [
        "failed unknown unread",  # Study 6: no image could be read.
        "failed unknown",
        "failed no",  # Study 8: analysed, and nothing released.
        "unknown unread",
        "yes unread",
        "yes",
        "no",
    ]


def test_hostile_text_is_shown_and_never_obeyed(page: str) -> None:
    outline = Outline(page)
    assert [tag for tag, _ in outline.elements].count("script") == 1
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", page)
    assert "<script>alert(1)</script>" in " ".join(outline.text)  # As text: the parser has unescaped it.
    assert "⟨U+0007⟩⟨U+001B⟩[31m⟨U+202E⟩gnp.exe⟨U+2066⟩" in page
    assert "notes ⟨U+DCFF⟩.txt" in page


def test_page_needs_nothing_from_elsewhere(page: str) -> None:
    for tag, attributes in Outline(page).elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            link = attributes.get(name) or ""
            assert not re.match(r"([a-z+.-]+:|//|\\)", link) or link.startswith("data:"), (tag, link)
    assert not re.search(r"https?:|src=//|@import|url\(", page)


def test_content_security_policy_allows_only_its_own_style_and_script(page: str) -> None:
    policy = next(a["content"] for tag, a in Outline(page).elements if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert " style=" not in page


def test_same_summary_gives_the_same_bytes(out: Path) -> None:
    assert render(a_run(), out) == render(a_run(), out)
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "studies"]


def test_objects_and_previews_outside_the_folder_are_never_followed(out: Path) -> None:
    run = a_run()
    (out.parent / "secret.png").write_bytes(speckle(9))
    (out / "studies" / "link.png").unlink(missing_ok=True)
    (out / "studies" / "link.png").symlink_to(out.parent / "secret.png")
    found = run["studies"][2]["results"][0]
    found["previews"] = [preview(path, "1.2.3") for path in ("../secret.png", "studies/link.png", "studies/\x00.png")]
    found["objects"] = [dicom_object(path, SR) for path in ("../x.dcm", "/x.dcm", "javascript:alert(1)", "a b#?.dcm")]
    run["studies"] = [run["studies"][2]]
    page = render(run, out)
    (out / "studies" / "link.png").unlink()
    assert "data:image" not in page
    links = [a["href"] for tag, a in Outline(page).elements if tag == "a" and "files-" not in (a["href"] or "")]
    assert [link for link in links if re.search("dcm|alert", link or "")] == [
        "javascript%3Aalert%281%29",
        "a%20b%23%3F.dcm",
    ]


def test_outlines_lie_in_source_pixels_over_the_part_that_the_preview_shows(page: str) -> None:
    drawings = [a for tag, a in Outline(page).elements if tag == "svg" and a.get("viewbox")]
    assert {a["viewbox"] for a in drawings} == {"80 40 480 360"}
    assert 'points="250,120 390,120 390,230 250,230"' in page  # No outline: the box stands for it.
    assert "Picture missing" in page


def test_an_empty_run_says_what_to_do(tmp_path: Path) -> None:
    text = " ".join(Outline(render(an_empty_run(), tmp_path)).text)
    assert "No study was answered." in text
    assert "--dry-run" in text
    assert "The export folder held no file at all." in text


def test_previews_beyond_the_limit_are_linked(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imaging.report.page.pictures.EMBEDDED_BYTES_LIMIT", len(speckle(3)) + 10)
    page = render(a_run(), out)
    assert page.count("data:image") == 1
    assert '<a href="studies/a/2.png">Picture not embedded</a>' in page


def test_search_text_holds_identifiers_and_reasons() -> None:
    answer = next(a for a in answers_of(a_run()) if a.study["study_uid"].endswith("2026.4"))
    assert "2026.4 us hôpital sainte-odile" in answer.search_text
    assert "decode_failed" in answer.search_text


# --- In a browser -----------------------------------------------------------------------------------------------------


class Browser:
    """Headless Chromium, spoken to over a pipe in the DevTools protocol."""

    FLAGS = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--v=0",
    )

    def __init__(self, program: str, folder: Path) -> None:
        reader, self._to = os.pipe()
        self._from, writer = os.pipe()
        pipes = f'exec "$0" "$@" 3<&{reader} 4>&{writer}'
        arguments = [*self.FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.log = folder / "chromium.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", pipes, program, *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=(reader, writer),
            )  # fmt: skip
        os.close(reader)
        os.close(writer)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []

    def close(self) -> None:
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, EOFError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise EOFError(f"Chromium ended; see {self.log}")
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._to, json.dumps(request).encode() + b"\0")
        while True:
            message = self._message()
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        """Collects whatever the console would show in red."""
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"].get("exception", {}).get("description")))
        if message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            self.errors.append(parameters["entry"]["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
            self.errors.append(str(parameters["args"]))

    def open(self, page: Path, width: int, height: int, scheme: str = "light", media: str = "screen") -> None:
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.errors.clear()
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + 30
        while self.ask("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.02)
        self.ask("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")

    def ask(self, expression: str) -> Any:
        reply = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def press(self, key: str) -> None:
        """One key; a single character is typed, any other name only pressed."""
        codes = {"Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        typed = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, whole: bool = False) -> bytes:
        return b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(require_tool("chromium"), tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def keep(name: str, content: bytes) -> None:
    """Leaves a screenshot in the folder that IMAGING_SCREENSHOTS names, to be looked at."""
    if folder := os.environ.get("IMAGING_SCREENSHOTS"):
        Path(folder, name).write_bytes(content)


# The contrast of every piece of text with the first opaque background behind it (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((v) => v / 255)
      .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("svg, script, .unseen, .skip, [hidden]")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${node.className} ${walker.currentNode.data}`);
  }
  return faint;
})()"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_browser_shows_the_page(browser: Browser, page: str, out: Path, width: int, scheme: str) -> None:
    browser.open(out / "index.html", width, 800, scheme)
    first_screen = browser.picture()
    keep(f"first-{width}-{scheme}.png", first_screen)
    keep(f"whole-{width}-{scheme}.png", browser.picture(whole=True))
    assert browser.errors == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("[...document.images].every((image) => image.naturalWidth > 0)")
    assert browser.ask(CONTRAST) == []
    pixels = np.asarray(Image.open(io.BytesIO(first_screen)).convert("L"), dtype=float)
    assert pixels.shape == (800, width)
    assert pixels.std() > 10
    assert (pixels.mean() < 100) == (scheme == "dark")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_browser_shows_a_prostate(browser: Browser, out: Path, tmp_path: Path, width: int, scheme: str) -> None:
    page = tmp_path / "index.html"
    page.write_text(render(a_prostate(), out), encoding="utf-8")
    browser.open(page, width, 800, scheme)
    keep(f"prostate-{width}-{scheme}.png", browser.picture(whole=True))
    assert browser.errors == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(CONTRAST) == []


@pytest.mark.browser
def test_browser_check_sees_a_planted_error(browser: Browser, page: str, tmp_path: Path) -> None:
    planted = tmp_path / "index.html"
    planted.write_text(re.sub("script-src [^;]*", "script-src 'unsafe-inline'", page), encoding="utf-8")
    browser.open(planted, 800, 600)
    assert browser.errors == []
    thrown = planted.read_text(encoding="utf-8").replace('"use strict";', 'throw new Error("planted");', 1)
    planted.write_text(thrown, encoding="utf-8")
    browser.open(planted, 800, 600)
    assert "planted" in " ".join(browser.errors)


@pytest.mark.browser
def test_browser_refuses_a_script_that_is_not_the_page_s_own(browser: Browser, page: str, tmp_path: Path) -> None:
    planted = tmp_path / "index.html"
    planted.write_text(page.replace("</main>", "</main><script>window.owned = 1</script>"), encoding="utf-8")
    browser.open(planted, 800, 600)
    assert browser.ask("window.owned") is None
    assert "Content Security Policy" in " ".join(browser.errors)


@pytest.mark.browser
def test_browser_overflow_check_can_fail(browser: Browser, out: Path, tmp_path: Path) -> None:
    wide = tmp_path / "index.html"
    wide.write_text("<!DOCTYPE html><title>wide</title><div style='width:500px'>wide</div>", encoding="utf-8")
    browser.open(wide, 360, 600)
    assert browser.ask("document.documentElement.scrollWidth") > 360


@pytest.mark.browser
def test_browser_filters_searches_and_toggles_by_keyboard(browser: Browser, page: str, out: Path) -> None:
    browser.open(out / "index.html", 1280, 800)
    shown = "[...document.querySelectorAll('article:not([hidden])')].map((card) => card.dataset.kinds)"
    browser.ask("document.getElementById('show-all').focus()")
    for _ in range(3):
        browser.press("ArrowLeft")
    assert browser.ask("document.activeElement.id") == "show-yes"
    assert browser.ask(shown) == ["yes unread", "yes"]
    assert browser.ask("document.getElementById('status').textContent") == "2 of 10 answers shown"
    assert browser.ask("document.querySelector('.section-rows').hidden")
    browser.press("/")
    for key in "sainte":
        browser.press(key)
    assert browser.ask(shown) == ["yes unread"]
    for key in "zz":
        browser.press(key)
    assert browser.ask("document.getElementById('no-match').hidden") is False
    browser.press("Escape")
    assert browser.ask(shown) == ["yes unread", "yes"]
    outline = "getComputedStyle(document.querySelector('.overlay')).display"
    assert browser.ask(outline) != "none"
    browser.press("o")
    assert browser.ask(outline) == "none"
    assert browser.ask("document.getElementById('outlines').getAttribute('aria-pressed')") == "false"
    assert browser.errors == []


@pytest.mark.browser
def test_browser_every_control_is_reached_by_tab_with_a_visible_focus(browser: Browser, page: str, out: Path) -> None:
    browser.open(out / "index.html", 1280, 800)
    focus = """(() => {
      const node = document.activeElement;
      const ring = node.type === "radio" ? node.nextElementSibling : node;
      return [node.id || node.className || node.tagName, getComputedStyle(ring).outlineStyle];
    })()"""
    seen = []
    for _ in range(60):
        browser.press("Tab")
        seen.append(tuple(browser.ask(focus)))
    names = [name for name, _ in seen]
    for control in ("skip", "show-all", "search", "outlines", "frame", "SUMMARY", "A"):
        assert control in names
    assert {ring for name, ring in seen if name != "BODY"} == {"solid"}


@pytest.mark.browser
def test_browser_outline_lies_on_its_finding(browser: Browser, page: str, out: Path) -> None:
    browser.open(out / "index.html", 1280, 800)
    place = browser.ask("""(() => {
      const frame = document.querySelector("article[data-kinds='yes'] .frame");
      frame.scrollIntoView();
      const [picture, line] = ["img", ".line"].map((name) => frame.querySelector(name).getBoundingClientRect());
      return [line.left - picture.left, line.right - picture.left, line.top - picture.top, line.bottom - picture.top]
        .map((v, i) => v / (i < 2 ? picture.width : picture.height));
    })()""")
    # Box 220-330 × 130-210 in the shown part 80-560 × 40-400.
    assert place == pytest.approx([140 / 480, 250 / 480, 90 / 360, 170 / 360], abs=0.01)


@pytest.mark.browser
def test_browser_stays_quick_with_thousands_of_files_and_hundreds_of_studies(browser: Browser, tmp_path: Path) -> None:
    run = a_run()
    run["files"] = [file(f"{n:06}.dcm", "refused", Reason.NOT_DICOM) for n in range(20_000)]
    run["studies"] = [study(n, result("unknown", "none")) for n in range(500)]
    started = time.monotonic()
    path = write_page(run, tmp_path)
    assert time.monotonic() - started < 5
    browser.open(path, 1280, 800)
    ready = browser.ask("performance.getEntriesByType('navigation')[0].domComplete")
    assert ready < 5000
    assert browser.errors == []


@pytest.mark.browser
def test_browser_prints_without_controls(browser: Browser, page: str, out: Path) -> None:
    browser.open(out / "index.html", 800, 1100, media="print")
    assert browser.ask("getComputedStyle(document.getElementById('outlines')).display") == "none"
    keep("print.png", browser.picture(whole=True))
    assert browser.errors == []


@pytest.mark.browser
def test_browser_shows_an_empty_run(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_page(an_empty_run(), tmp_path), 360, 800)
    keep("empty-360.png", browser.picture())
    assert browser.errors == []
    assert browser.ask("document.documentElement.scrollWidth") <= 360
