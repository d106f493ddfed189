"""The page of an evaluation and the comparison of two models: failures first, nothing hidden, nothing obeyed."""

from __future__ import annotations

import io
import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from imaging.errors import ConfigError
from imaging.evaluation.classification import ClassificationProtocol
from imaging.evaluation.comparison import compare_auroc
from imaging.evaluation.detection import DetectionProtocol
from imaging.evaluation.evaluate import compare, evaluate_classification, evaluate_detection, evaluate_segmentation
from imaging.evaluation.intervals import Bootstrap
from imaging.evaluation.matching import MatchedLesion
from imaging.evaluation.merge import merge, without_cases
from imaging.evaluation.page import render
from imaging.evaluation.page.curves import Curve, froc, roc
from imaging.evaluation.page.pictures import Picture, PicturedCase, outline, picture
from imaging.evaluation.page.plots import round_axis
from imaging.evaluation.page.words import reach
from imaging.evaluation.page.worst import worst_cases
from imaging.evaluation.result import ClassificationCase, DetectionCase, EvaluationResult, SegmentationCase
from imaging.evaluation.segmentation import SegmentationProtocol, score_failure, score_masks
from tests.conftest import require_tool
from tests.test_evaluation_command import line, run
from tests.test_page import CONTRAST, HOSTILE, Browser, Outline, keep

HOW = Bootstrap(200)
SITES = ("Aarhus", "Sainte-Odile", "Turku", "Two positives", "Zagreb")


def detection_cases(strength: float, seed: int) -> list[DetectionCase]:
    """Five sites, one of them with two positives; one hostile name; three cases without a prediction."""
    rng = np.random.default_rng(seed)
    cases = []
    for k, site in enumerate(SITES):
        n_positive = 2 if site == "Two positives" else 12 + 6 * k
        for n in range(n_positive + 20):
            positive = n < n_positive
            score = float(expit(rng.normal((strength + 0.4 * k) * positive - 1)))
            found = rng.random() < 0.75
            lesions = (MatchedLesion(True, score if found else 0.0, 0.4 * found),) if positive else ()
            lesions += (MatchedLesion(False, score * 0.8),) * int(rng.random() < 0.4)
            age = (("age", "over 60" if n % 2 else "up to 60"),)
            cases.append(DetectionCase(f"{site[:2]}-{n:03}", f"p{n}", site, positive, score, lesions, subgroups=age))
    lost = (MatchedLesion(True, 0.0),)
    cases[0] = replace(cases[0], case_id=HOSTILE, failed="no prediction at 'x.nii.gz'", lesions=lost)
    cases[1] = replace(cases[1], failed=HOSTILE, lesions=lost)
    cases[-1] = replace(cases[-1], failed="the prediction's grid is not the truth's", lesions=())
    return cases


def scan(row: int, column: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A speckled image of 120 × 160 with a dark disc, and the disc's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :160]
    mask = ((y - row) ** 2 + (x - column) ** 2 < 15**2).astype(np.uint8)
    return (rng.gamma(4, 25, mask.shape) * (1 - 0.7 * mask)).clip(0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    made = []
    for k, name in enumerate([HOSTILE, "Aa-002", "Aa-003", "Aa-004"]):
        image, truth = scan(40 + 9 * k, 60, k)
        made.append(picture(name, "Aarhus", PicturedCase(image, truth, scan(45 + 9 * k, 66 + 8 * k)[1], (1.0, 1.0))))
    return made


@pytest.fixture(scope="module")
def detection() -> EvaluationResult:
    protocol = DetectionProtocol()
    first = evaluate_detection(detection_cases(1.6, 1), protocol, HOW)
    return compare(first, evaluate_detection(detection_cases(1.2, 2), protocol, HOW))


@pytest.fixture(scope="module")
def classification() -> EvaluationResult:
    rng = np.random.default_rng(5)
    cases = []
    for k in range(150):
        logit = rng.normal()
        truth = bool(rng.random() < expit(1.7 * logit))
        cases.append(ClassificationCase(f"c{k}", f"p{k}", SITES[k % 4], truth, float(expit(logit))))
    cases[7] = replace(cases[7], failed="the prediction is 'nan'; allowed are 0 to 1", score=0.0)
    return evaluate_classification(cases, ClassificationProtocol(), HOW)


@pytest.fixture(scope="module")
def segmentation() -> EvaluationResult:
    protocol = SegmentationProtocol((("disc", 1),))
    cases = []
    for k in range(24):
        truth = scan(60, 80)[1]
        shown = scan(60, 80 + k)[1] * (k % 6 != 3)
        parts = (
            score_failure(truth, (1.0, 1.0), protocol) if k == 5 else score_masks(shown, truth, (1.0, 1.0), protocol)
        )
        cases.append(SegmentationCase(f"s{k}", f"p{k}", SITES[k % 3], parts, "no prediction" if k == 5 else ""))
    return evaluate_segmentation(cases, protocol, HOW)


@pytest.fixture(scope="module")
def page(detection: EvaluationResult, pictures: list[Picture]) -> str:
    return render(detection, pictures)


# --- What the page says -----------------------------------------------------------------------------------------------


def test_failures_stand_before_figures(page: str, detection: EvaluationResult) -> None:
    order = [page.index(f'id="{name}"') for name in ("failed", "figures", "comparison", "sites", "plots", "cases")]
    assert order == sorted(order)
    first_tile = page[page.index('class="tile') :]
    number = re.search(r'tile-number">(\d+)<.*?<code>(\w+)<', first_tile)
    assert number is not None
    assert number.groups() == ("3", "n_failed")
    for key in ("n_total", "n_scored", "n_missed", "n_false_positive_on_empty", "n_failed"):
        assert f"<code>{key}</code>" in page
    assert page.index("the prediction&#x27;s grid" if "&#x27;s grid" in page else "the prediction's grid") < order[1]
    assert len(detection.failures) == 3


def test_every_site_and_every_figure_is_there_and_none_is_nan(page: str, detection: EvaluationResult) -> None:
    text = Outline(page).text
    for site in SITES:
        assert text.count(site) >= 3
    assert "n/a (2 positives)" in text
    assert "nan" not in re.sub(r"data:image/png;base64,[^\"]*", "", page).lower()
    assert f"{detection.pooled.figure('auroc').value:.3f}" in text
    coverage = [t for t in text if t.startswith("measured coverage")]
    assert any(re.fullmatch(r"measured coverage \d\d\.\d% at 1\d patients", t) for t in coverage)
    assert "A new site" in text
    assert "Hit rule: " in text


def test_hostile_names_and_reasons_are_shown_and_never_obeyed(page: str) -> None:
    assert "<script" not in page
    outline = Outline(page)
    assert not [a for _, a in outline.elements if "onerror" in a]
    assert any("⟨U+202E⟩" in text for text in outline.text)
    assert "\u202e" not in page


def test_the_page_loads_nothing_and_allows_no_script(page: str) -> None:
    assert "default-src 'none'" in page
    assert "script-src 'none'" in page
    links = [a[name] for _, a in Outline(page).elements for name in ("href", "src") if name in a]
    assert {str(link)[:5] for link in links} <= {"data:", "data:,", *(str(k)[:5] for k in links if str(k)[0] == "#")}
    assert not re.search(r"style=\"", page)


def test_the_same_record_gives_the_same_bytes(detection: EvaluationResult, pictures: list[Picture], page: str) -> None:
    again = EvaluationResult.from_json(detection.to_json())
    assert again == detection
    assert render(again, pictures) == page


def test_tasks_without_curves_or_cases_say_so(
    segmentation: EvaluationResult, classification: EvaluationResult, detection: EvaluationResult
) -> None:
    assert "Segmentation has no threshold, and so no curves." in render(segmentation)
    labelled = render(classification)
    assert "Reliability, all sites" in labelled
    assert "149 cases in ten bins of equal width, Wilson intervals; 1 without a prediction left out." in labelled
    assert re.search(r'tile-number">n/a<(?:(?!tile-number).)*n_missed', labelled), (
        "nothing is missed without a threshold"
    )
    aggregates = render(without_cases(detection))
    assert "none: aggregates only" in aggregates
    assert "No rows of cases, no curves." in aggregates
    assert "Aa-00" not in aggregates, "no case's name is left"
    assert "suppressed (fewer than 5)" in aggregates


def test_one_case_alone_makes_a_page() -> None:
    one = evaluate_classification([ClassificationCase("a", "a", "s", True, 0.4)], ClassificationProtocol(), HOW)
    assert "n/a (1 positives)" in render(one)
    none = evaluate_detection([DetectionCase("a", "a", "s", False, 0.0, ())], DetectionProtocol(), HOW)
    assert "n/a (0 positives)" in render(none)


# --- Its parts --------------------------------------------------------------------------------------------------------


def test_curves_count_a_failed_case_as_wrong_at_every_threshold() -> None:
    """Scores 0.9 and 0.8 of three positives, the third failed; negatives 0.85, 0.1, 0.2. Two of three at best."""
    cases = [
        ClassificationCase(f"c{k}", f"p{k}", "s", truth, score, failed)
        for k, (truth, score, failed) in enumerate(
            [
                (True, 0.9, ""),
                (True, 0.8, ""),
                (True, 0.0, "lost"),
                (False, 0.85, ""),
                (False, 0.1, ""),
                (False, 0.2, ""),
            ]
        )
    ]
    curve = roc(evaluate_classification(cases, ClassificationProtocol(), HOW))
    assert isinstance(curve, Curve)
    assert curve.x == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert curve.y == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert np.all(curve.low <= curve.high)
    assert curve.high.max() <= 1


def test_the_bands_hold_the_curves(detection: EvaluationResult) -> None:
    for curve in (roc(detection), froc(detection)):
        assert isinstance(curve, Curve)
        at = np.searchsorted(curve.x, curve.grid + 1e-9, side="right") - 1
        inside = (curve.low <= curve.y[at]) & (curve.y[at] <= curve.high)
        assert inside.mean() > 0.95
    assert froc(detection).y[-1] < 1  # type: ignore[union-attr]


def test_froc_reads_the_same_sensitivity_as_the_figures(detection: EvaluationResult) -> None:
    curve = froc(detection)
    assert isinstance(curve, Curve)
    at_half = curve.y[np.searchsorted(curve.x, 0.5, side="right") - 1]
    assert at_half == pytest.approx(detection.pooled.figure("sensitivity_at_0.5_per_image").value)


def test_worst_cases_begin_with_the_failed_ones(detection: EvaluationResult, segmentation: EvaluationResult) -> None:
    assert [bool(case.failed) for case in worst_cases(detection)[:4]] == [True, True, True, False]
    names = [case.case_id for case in worst_cases(segmentation)]
    assert names[0] == "s5"
    assert set(names[1:5]) == {"s3", "s9", "s15", "s21"}, "those without a prediction of the disc"
    assert "s0" not in names, "a perfect case is not a worst one"


def test_outline_follows_pixel_edges() -> None:
    """Two pixels beside each other: a box of 2 × 1 at column 1, row 1."""
    mask = np.zeros((3, 4), int)
    mask[1, 1:3] = 1
    assert outline(mask) == "M1 1H3M1 2H3M1 1V2M3 1V2"
    assert outline(np.zeros((3, 4), int)) == ""


def test_the_slice_of_a_volume_is_the_one_that_differs_most() -> None:
    truth = np.zeros((5, 40, 60), int)
    truth[1:4, 10:20, 10:20] = 1
    prediction = truth.copy()
    prediction[2] = 0
    shown = picture(
        "a", "s", PicturedCase(np.random.default_rng(0).random(truth.shape), truth, prediction, (3.0, 1.0, 0.5))
    )
    assert shown.where == "slice 3 of 5"
    assert shown.prediction == ""
    assert shown.grid == (60, 40)
    assert shown.size == (240, 320)  # 30 mm wide, 40 mm tall
    with Image.open(io.BytesIO(shown.png)) as image:
        assert image.size == shown.size


def test_a_small_lesion_on_a_large_image_is_cut_out_and_kept() -> None:
    truth = np.zeros((3000, 2400), int)
    truth[2000:2004, 1000:1003] = 1
    shown = picture("a", "s", PicturedCase(truth * 7.0, truth, np.zeros_like(truth), (0.1, 0.1)))
    assert shown.grid == (99, 100)
    assert shown.truth


def test_limits_past_what_a_figure_can_be_are_cut_and_said_to_be() -> None:
    assert " ".join(Outline(reach("disc dice", 0.4, 1.2)).text) == "0.400 to 1.000 cut; computed 0.400 to 1.200"
    assert Outline(reach("disc hd95", -3.0, 20.0)).text[0] == "0.000 to 20.0"
    assert Outline(reach("calibration_slope", -0.5, 2.0)).text == ["−0.500 to 2.000"]


def test_axes_have_round_ticks() -> None:
    assert round_axis([0.62, 0.93], unit=True).ticks == (0.6, 0.7, 0.8, 0.9, 1.0)
    assert round_axis([12.0, 98.0]).ticks == (0, 20, 40, 60, 80, 100)
    assert round_axis([0.5, 0.5]).low < 0.5 <= round_axis([0.5, 0.5]).high
    assert round_axis([-0.3, 1.4]).low <= -0.3


# --- Comparison -------------------------------------------------------------------------------------------------------


def test_a_model_does_not_differ_from_itself(
    detection: EvaluationResult, classification: EvaluationResult, segmentation: EvaluationResult
) -> None:
    for result in (replace(detection, comparison=None), classification, segmentation):
        both = compare(result, result).comparison
        assert both is not None
        assert both.pooled == result.pooled
        assert len(both.differences) >= 4
        told = [d for d in both.differences if not d.absent]
        assert len(told) >= 4
        for one in told:
            assert (one.difference, one.p, one.p_holm) == (0.0, 1.0, 1.0), one.name


def test_differences_of_a_case_by_hand() -> None:
    """Eight patients; the second model is off by 0.2 more in each. Brier: 0.01 against 0.09. The two swaps of all

    patients out of 2⁸ give a difference as large, and the data count as one permutation more.
    """
    truth = [k % 2 == 0 for k in range(8)]
    first, second = (
        [ClassificationCase(f"c{k}", f"p{k}", "s", t, 1 - off if t else off) for k, t in enumerate(truth)]
        for off in (0.1, 0.3)
    )
    how = Bootstrap(4000)
    records = [evaluate_classification(cases, ClassificationProtocol(), how) for cases in (first, second)]
    both = compare(*records).comparison
    assert both is not None
    found = {one.name: one for one in both.differences}
    brier = found["brier"]
    assert (brier.first, brier.second, brier.difference) == pytest.approx((0.01, 0.09, -0.08))
    assert brier.p == pytest.approx(2 / 2**8, abs=0.004)
    assert brier.p_holm == pytest.approx(min(1.0, brier.p * len(found)))  # the others have p = 1
    assert found["auroc"].difference == 0
    assert found["auroc"].p == 1


def test_auroc_of_independent_patients_is_compared_as_delong_does() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(60) < 0.4
    scores = [expit(rng.normal(size=60) + strength * truth) for strength in (1.5, 0.6)]
    records = [
        evaluate_classification(
            [
                ClassificationCase(f"{k:02}", f"{k:02}", "s", bool(t), float(s))
                for k, (t, s) in enumerate(zip(truth, score, strict=True))
            ],
            ClassificationProtocol(),
            HOW,
        )
        for score in scores
    ]
    both = compare(*records).comparison
    assert both is not None
    auroc = next(one for one in both.differences if one.name == "auroc")
    expected = compare_auroc(truth, *scores)
    assert (auroc.method, auroc.p) == ("DeLong, paired", pytest.approx(expected.p))
    assert auroc.difference == pytest.approx(expected.difference)
    assert auroc.interval is not None
    assert auroc.interval.low < auroc.difference < auroc.interval.high


def test_a_failure_of_the_second_model_counts_and_is_told(detection: EvaluationResult) -> None:
    both = detection.comparison
    assert both is not None
    assert len(both.failures) == 3
    assert both.pooled.figure("auroc").counts.n_failed == 3
    assert "3 cases without a prediction of the second model" in render(detection)


def test_models_on_other_cases_or_protocols_are_refused(classification: EvaluationResult) -> None:
    fewer = evaluate_classification(classification.classification[1:], ClassificationProtocol(), HOW)
    with pytest.raises(ConfigError, match="comparison: found 150 and 149 cases that are not the same"):
        compare(classification, fewer)
    other = evaluate_classification(classification.classification, ClassificationProtocol((0.7,)), HOW)
    with pytest.raises(ConfigError, match="found two protocols"):
        compare(classification, other)


def test_aggregates_keep_the_comparison_without_rows_and_merging_drops_it(detection: EvaluationResult) -> None:
    hidden = without_cases(detection)
    assert hidden.comparison is not None
    assert hidden.comparison.failures == ()
    assert EvaluationResult.from_json(hidden.to_json()) == hidden
    assert merge([hidden]).comparison is None


# --- Through the command ----------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_with_pictures_and_the_comparison(tmp_path: Path) -> None:
    lines = []
    (tmp_path / "second").mkdir()
    for k in range(8):
        image, truth = scan(50, 70, k)
        Image.fromarray(image).save(tmp_path / f"image{k}.png")
        Image.fromarray(truth).save(tmp_path / f"truth{k}.png")
        Image.fromarray(scan(50, 70 + 2 * k)[1]).save(tmp_path / f"found{k}.png")
        if k != 3:
            Image.fromarray(truth).save(tmp_path / "second" / f"found{k}.png")
        lines.append(line(f"c{k}", f"found{k}.png", f"truth{k}.png", image=f"image{k}.png" if k else "gone.png"))
    status, result = run(tmp_path, "segmentation", lines, "--compare", str(tmp_path / "second"))
    assert status == 1, "one prediction of the second model is missing"
    assert result.failures == ()
    assert result.comparison is not None
    assert [name for name, _ in result.comparison.failures] == ["c3"]
    assert result.subgroups == {}, "image is no subgroup"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    drawn = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(drawn) == 7, "the perfect case is not among the worst"
    with Image.open(io.BytesIO(b64decode(drawn[0]))) as shown:
        assert np.asarray(shown).std() > 20
    run(tmp_path, "segmentation", lines, "--aggregates")
    assert "data:image/png" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--compare .*: allowed is a folder of predictions"):
        run(tmp_path, "segmentation", lines, "--compare", str(tmp_path / "gone"))


def test_maps_are_drawn_on_themselves_where_there_is_no_image(tmp_path: Path) -> None:
    truth = np.zeros((4, 40, 40), np.uint8)
    truth[1:3, 10:20, 10:20] = 1
    np.savez(tmp_path / "truth.npz", truth)
    np.savez(tmp_path / "chance.npz", truth.astype(np.float32) * np.linspace(0.2, 0.9, 40, dtype=np.float32))
    run(tmp_path, "detection", [line("c", "chance.npz", "truth.npz")], "--extract", "dynamic")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 1
    assert "slice 2 of 4" in page


def test_predictions_of_a_second_classifier_come_from_a_table(tmp_path: Path) -> None:
    lines = [line(f"c{k}", f"{0.3 + 0.04 * (k % 7)}", str(k % 2)) for k in range(24)]
    table = tmp_path / "second.csv"
    table.write_text("case_id,prediction\n" + "".join(f"c{k},{0.2 + 0.5 * (k % 2)}\n" for k in range(23)))
    status, result = run(tmp_path, "classification", lines, "--compare", str(table))
    assert status == 1
    assert result.comparison is not None
    assert [name for name, _ in result.comparison.failures] == ["c23"]
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {one["name"] for one in record["comparison"]["differences"]} >= {"auroc", "brier"}
    table.write_text("case_id,prediction\nc1,0.2\nc1,0.3\n")
    with pytest.raises(ConfigError, match=r"second\.csv, line 3: case_id is .c1., which stands twice"):
        run(tmp_path, "classification", lines, "--compare", str(table))
    table.write_text("name,value\n")
    with pytest.raises(ConfigError, match=r"second\.csv, line 1: found columns \['name', 'value'\]"):
        run(tmp_path, "classification", lines, "--compare", str(table))


# --- In a browser -----------------------------------------------------------------------------------------------------


def test_an_image_of_another_grid_costs_a_picture_s_ground_and_no_figure(tmp_path: Path) -> None:
    image, truth = scan(50, 70)
    Image.fromarray(truth).save(tmp_path / "truth.png")
    Image.fromarray(scan(50, 80)[1]).save(tmp_path / "found.png")
    Image.fromarray(image[:50]).save(tmp_path / "cut.png")
    Image.fromarray(np.stack([image] * 3, axis=-1)).save(tmp_path / "colours.png")
    np.savez(tmp_path / "seven.npz", np.stack([image] * 7, axis=-1))
    (tmp_path / "broken.png").write_bytes(b"no image")
    names = ["cut.png", "colours.png", "seven.npz", "broken.png", "../secret.png"]
    lines = [line(name, "found.png", "truth.png", image=name) for name in names]
    status, _ = run(tmp_path, "segmentation", lines)
    assert status == 0
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert len(set(re.findall(r"data:image/png;base64,([^\"]+)", page))) == 2, "the colours, and else the map itself"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(require_tool("chromium"), tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory,
    page: str,
    classification: EvaluationResult,
    segmentation: EvaluationResult,
    detection: EvaluationResult,
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "detection": page,
        "classification": render(classification),
        "segmentation": render(segmentation),
        "aggregates": render(without_cases(detection)),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def show(browser: Browser, name: str) -> None:
    """A screenshot of the whole page, where a folder for it is named: it costs a second."""
    if "IMAGING_SCREENSHOTS" in os.environ:
        keep(name, browser.picture(whole=True))


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_browser_shows_every_kind_of_page(browser: Browser, pages: dict[str, Path], width: int, scheme: str) -> None:
    for name, path in pages.items():
        browser.open(path, width, 800, scheme)
        show(browser, f"evaluation-{name}-{width}-{scheme}.png")
        assert browser.errors == []
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask("[...document.images].every((image) => image.naturalWidth > 0)")
        assert browser.ask(CONTRAST) == []


@pytest.mark.browser
def test_browser_shows_what_failed_on_the_first_screen_and_scrolls_tables_by_key(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["detection"], 1280, 800)
    assert browser.ask("document.querySelector('.tile-number').getBoundingClientRect().bottom < 800")
    reached = []
    for _ in range(30):
        browser.press("Tab")
        reached.append(browser.ask("document.activeElement.className || document.activeElement.tagName"))
    assert {"skip", "A", "scroll", "SUMMARY"} <= set(reached)
    browser.open(pages["detection"], 800, 1100, media="print")
    assert browser.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    show(browser, "evaluation-print.png")
    assert browser.errors == []
