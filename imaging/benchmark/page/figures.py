"""Figures at held-out sites: who was tested, each site beside its home, a new site, calibration and threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from imaging.benchmark.operating import SiteCalibration
from imaging.benchmark.page.verdicts import difference_value
from imaging.benchmark.record import ArmResult, BenchmarkResult, SiteFacts
from imaging.benchmark.spread import SiteSpread
from imaging.evaluation.page.plots import Axis, ForestMark, forest_axis, forest_row, forest_ticks
from imaging.evaluation.page.words import bounds, figure_name, figure_value, limits, number, reach, scrolled
from imaging.evaluation.result import Figure, Heterogeneity, Interval, Subgroup
from imaging.html.markup import Markup, element, joined, quoted


def sites_section(result: BenchmarkResult) -> Markup:
    primary = result.facts.primary
    lead = (
        f"{figure_name(primary)} of each arm at each site that its networks had not seen, as the mean over seeds with "
        "the interval of its patients, and below it the difference to networks that were trained on other patients of "
        "that site."
    )
    blind = [arm for arm in result.arms if not arm.sees_target]
    more = [
        element("details", element("summary", f"{figure_name(one.name)}: {one.words}"), _arms(result, blind, one.name))
        for one in result.facts.endpoints[1:]
    ]
    none = element("p", "No trial of a blind arm tested a site that it had left out.", class_="absent")
    return element(
        "section",
        element("h2", "Held-out sites", id="sites"),
        _cohorts(result),
        element("h3", figure_name(primary)),
        element("p", lead, class_="quiet lead"),
        _arms(result, blind, primary) if blind else none,
        *(more if blind else []),
        _seeing(result),
        aria_labelledby="sites",
    )


def _arms(result: BenchmarkResult, arms: Sequence[ArmResult], name: str) -> Markup:
    titles = [element("th", "Arm", scope="col"), *(element("th", quoted(s.site), scope="col") for s in result.sites),
              element("th", "Macro", scope="col"), element("th", "Worst site", scope="col")]  # fmt: skip
    return scrolled(f"{name} at held-out sites", titles, [_arm_row(result, arm, name) for arm in arms], "values")


def _seeing(result: BenchmarkResult) -> Markup | None:
    seeing = [arm for arm in result.arms if arm.sees_target]
    if not seeing:
        return None
    table = _arms(result, seeing, result.facts.primary)
    return joined([element("h3", "Methods that saw images of the site: not to be ranked with those above"), table])


def _cohorts(result: BenchmarkResult) -> Markup:
    names = ("Site", "Cases", "Patients", "With a lesion", "Positive", "Prevalence", "Scanners, patients")
    titles = [element("th", name, scope="col", class_="number-cell" if 0 < k < len(names) - 1 else None)
              for k, name in enumerate(names)]  # fmt: skip
    return scrolled("Sites", titles, [_cohort(site) for site in result.sites], "wide")


def _cohort(site: SiteFacts) -> Markup:
    prevalence = "n/a (no truth)" if site.prevalence is None else f"{site.prevalence:.1%}"
    numbers = (site.n_cases, site.n_patients, site.n_with_lesion, f"{site.n_positive} of {site.n_truth}", prevalence)
    return element(
        "tr",
        element("th", quoted(site.site), scope="row"),
        *(element("td", value, class_="number-cell") for value in numbers),
        element("td", quoted(_patients(site.scanners))),
    )


def _patients(by_value: Mapping[str, int | None]) -> str:
    return ", ".join(f"{name} ({'fewer than 5' if n is None else n})" for name, n in by_value.items())


def _arm_row(result: BenchmarkResult, arm: ArmResult, name: str) -> Markup:
    macro = next((one for one in arm.macro if one.name == name), None)
    lost = element("span", f"{arm.n_lost} runs lost", class_="limits bad") if arm.n_lost else None
    mean = "n/a" if macro is None or macro.macro is None else number(macro.macro)
    worst = "n/a" if macro is None or macro.worst is None else number(macro.worst)
    at = quoted(macro.worst_site, "at") if macro is not None and macro.worst is not None else None
    return element(
        "tr",
        element("th", quoted(arm.arm), lost, scope="row"),
        *(element("td", _at_site(arm, site.site, name)) for site in result.sites),
        element("td", element("b", mean)),
        element("td", at, element("b", worst)),
    )


def _at_site(arm: ArmResult, site: str, name: str) -> Markup:
    figure = _figure(arm.sites, site, name)
    if figure is None:
        return element("span", "not tested", class_="absent")
    delta = next((d for d in arm.deltas if d.sites == (site,) and d.endpoint == name), None)
    if delta is None:
        beside = element("div", "no in-domain figure", class_="quiet small")
    else:
        beside = element("div", "to in domain: ", difference_value(delta), class_="quiet small")
    return joined([figure_value(figure), beside])


def _figure(groups: tuple[Subgroup, ...], site: str, name: str) -> Figure | None:
    group = next((group for group in groups if group.name == site), None)
    return None if group is None else next((one for one in group.figures if one.name == name), None)


# --- A new site -------------------------------------------------------------------------------------------------------


def spread_section(result: BenchmarkResult) -> Markup | None:
    if not result.arms:
        return None
    primary = result.facts.primary
    lead = (
        "Dots are held-out sites with the intervals of their patients. The diamond is the mean of a random-effects "
        "analysis (REML, Hartung-Knapp) with the trainings' variance in each site's; the thick bar is where a new site "
        "is expected with 95 %, on sites − 2 degrees of freedom: with three sites that is wide, and true."
    )
    names = ("Arm", "Endpoint", "Mean of sites", "A new site, 95 % prediction", "Degrees of freedom", "τ²", "I²",
             "SD between seeds", "SD between sites")  # fmt: skip
    blind = [arm for arm in result.arms if not arm.sees_target]
    rows = [_spread_row(arm, one) for one in range(len(result.facts.endpoints)) for arm in blind]
    shown = len(blind)
    titles = [element("th", name, scope="col", class_="number-cell" if k > 3 else None)
              for k, name in enumerate(names)]  # fmt: skip
    more = rows[shown:]
    return element(
        "section",
        element("h2", "Between sites, and at a new site", id="spread"),
        element("p", lead, class_="quiet lead"),
        element("div", *(_forest(arm, primary) for arm in blind), class_="forests"),
        element("h3", "Spread"),
        scrolled("Spread between sites and seeds", titles, rows[:shown], "values"),
        element("details", element("summary", "Other endpoints"), scrolled("Spread, others", titles, more, "values"))
        if more
        else None,
        aria_labelledby="spread",
    )


def _spread_row(arm: ArmResult, number_of_endpoint: int) -> Markup:
    one = arm.spread[number_of_endpoint]
    return element(
        "tr",
        element("th", quoted(arm.arm), scope="row"),
        element("td", figure_name(one.endpoint)),
        element("td", _mean(one)),
        element("td", _new_site(one)),
        element("td", one.df or "–", class_="number-cell"),
        element("td", "–" if one.tau2 is None else f"{one.tau2:.3g}", class_="number-cell"),
        element("td", "–" if one.i2 is None else f"{one.i2:.0%}", class_="number-cell"),
        element("td", "n/a (one seed)" if one.sd_seeds is None else number(one.sd_seeds), class_="number-cell"),
        element("td", "n/a (one site)" if one.sd_sites is None else number(one.sd_sites), class_="number-cell"),
    )


def _mean(one: SiteSpread) -> Markup:
    if one.mean is None or one.low is None or one.high is None:
        return element("span", one.absent, class_="absent")
    return joined([element("b", number(one.mean)), " ", reach(one.endpoint, one.low, one.high)])


def _new_site(one: SiteSpread) -> Markup:
    if one.predicted_low is None or one.predicted_high is None:
        return element("span", one.absent, class_="absent")
    return reach(one.endpoint, one.predicted_low, one.predicted_high)


def _forest(arm: ArmResult, name: str) -> Markup | None:
    figures = {site.name: figure for site in arm.sites if (figure := _figure((site,), site.name, name)) is not None}
    spread = next(one for one in arm.spread if one.endpoint == name)
    effects = None
    if spread.mean is not None and spread.tau2 is not None and spread.i2 is not None:
        effects = Heterogeneity(name, spread.scale, spread.n_sites, spread.mean, spread.low, spread.high,
                                spread.predicted_low, spread.predicted_high, spread.tau2, spread.i2)  # fmt: skip
    axis = forest_axis(figures.values(), effects, bounds(name))
    if axis is None:
        return None
    most = max(site.n_cases or 1 for site in arm.sites)
    rows = []
    for site in arm.sites:
        figure = figures.get(site.name)
        size = 3 + 4 * math.sqrt((site.n_cases or 1) / most)
        named = joined([quoted(site.name), element("span", f"{site.n_cases} cases", class_="quiet")])
        rows.append(_line(named, axis, _mark(figure, size), figure_value(figure)))
    if effects is not None:
        mean = ForestMark(spread.mean, _ends(spread.low, spread.high), "mean", 7)
        rows.append(_line("Mean of sites", axis, mean, _mean(spread), "summary"))
        new = ForestMark(None, _ends(spread.predicted_low, spread.predicted_high), "new")
        rows.append(_line("A new site", axis, new, _new_site(spread), "summary"))
    ticks = element("li", element("span"), element("span", forest_ticks(axis), class_="drawing"), element("span"))
    title = element("h3", quoted(arm.arm))
    return element("div", title, element("ul", *rows, ticks, class_="forest"), class_="panel")


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _mark(figure: Figure | None, size: float) -> ForestMark:
    if figure is None or figure.value is None:
        return ForestMark(None, None)
    interval = figure.interval
    return ForestMark(figure.value, (interval.low, interval.high) if interval else None, "site", size)


def _line(name: object, axis: Axis, mark: ForestMark, value: Markup, class_: str | None = None) -> Markup:
    return element(
        "li",
        element("span", name, class_="name"),
        element("span", forest_row(axis, mark), class_="drawing"),
        element("span", value, class_="value"),
        class_=class_,
    )


# --- Calibration and threshold ----------------------------------------------------------------------------------------


def calibration_section(result: BenchmarkResult) -> Markup | None:
    rows = [_calibration_row(arm, one) for arm in result.arms for one in arm.calibration if one.n_cases]
    if not rows:
        return None
    names = ("Arm", "Site", "Slope (ideal 1)", "Intercept (ideal 0)", "Sensitivity of the sources' threshold",
             "Specificity of the sources' threshold", "Rests on")  # fmt: skip
    lead = (
        "Probabilities of each arm at a site that was left out of training: a slope below 1 is a probability that "
        "says too much. The threshold was chosen on the training sites; what it gives here is what a hospital would "
        "have met."
    )
    return element(
        "section",
        element("h2", "Calibration and threshold at held-out sites", id="calibration"),
        element("p", lead, class_="quiet lead"),
        scrolled("Calibration", [element("th", name, scope="col") for name in names], rows, "values"),
        aria_labelledby="calibration",
    )


def _calibration_row(arm: ArmResult, one: SiteCalibration) -> Markup:
    rests = f"{one.n_cases} cases, {one.n_runs} of {one.n_runs_all} networks"
    failed = element("div", f"{one.n_failed} outcomes without a score left out", class_="bad") if one.n_failed else None
    saw = element("span", "saw the site", class_="limits") if arm.sees_target else None
    return element(
        "tr",
        element("th", quoted(arm.arm), saw, scope="row"),
        element("td", quoted(one.site)),
        element("td", _with_limits(one.slope, one.slope_interval, one.absent)),
        element("td", _with_limits(one.intercept, one.intercept_interval, one.absent)),
        *(element("td", _realised(arm, one.site, name)) for name in ("sensitivity", "specificity")),
        element("td", rests, failed),
    )


def _with_limits(value: float | None, interval: Interval | None, absent: str) -> Markup:
    if value is None:
        return element("span", absent, class_="absent")
    return joined([element("b", number(value)), " ", limits(interval)])


def _realised(arm: ArmResult, site: str, name: str) -> Markup:
    figure = _figure(arm.operating, site, name)
    return figure_value(figure)
