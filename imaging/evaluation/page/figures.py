"""Figures of a record: pooled, macro and worst site, each site, forests, curves, subgroups, and all of them."""

from __future__ import annotations

import math

from imaging.evaluation.calibration import reliability
from imaging.evaluation.page.curves import Curve, froc, roc
from imaging.evaluation.page.plots import (
    Axis,
    ForestMark,
    forest_axis,
    forest_row,
    forest_ticks,
    froc_plot,
    reliability_plot,
    roc_plot,
)
from imaging.evaluation.page.words import bounds, figure_name, figure_value, headline, number, reach, scrolled
from imaging.evaluation.result import EvaluationResult, Extreme, Figure, Heterogeneity, Subgroup
from imaging.html.markup import Markup, element, joined, quoted


def _figure(group: Subgroup, name: str) -> Figure | None:
    return next((figure for figure in group.figures if figure.name == name), None)


def _of_group(group: Subgroup, name: str) -> Markup:
    if group.suppressed:
        return element("span", "suppressed (fewer than 5)", class_="absent")
    return figure_value(_figure(group, name))


# --- Headline ---------------------------------------------------------------------------------------------------------


def headline_section(result: EvaluationResult) -> Markup:
    level = result.protocol.get("interval_level", 0.95)
    lead = (
        f"Intervals are at {float(level) * 100:g} %; patients are the unit of resampling. Macro is the mean over "
        "sites, each site counting alike. A figure that too few cases allow is n/a with what there is."
    )
    return element(
        "section",
        element("h2", "Figures", id="figures"),
        element("p", lead, class_="quiet lead"),
        _figures_table(result, headline(result)),
        aria_labelledby="figures",
    )


def _figures_table(result: EvaluationResult, names: list[str]) -> Markup:
    titles = ["Figure", "Pooled over cases", "Macro over sites", "Worst site", "New site, 95 % prediction"]
    macro = {extreme.name: extreme for extreme in result.macro}
    effects = {one.name: one for one in result.heterogeneity}
    rows = [
        element(
            "tr",
            element("th", quoted(figure_name(name)), scope="row"),
            element("td", _of_group(result.pooled, name)),
            element("td", _macro(macro.get(name))),
            element("td", _worst(result, macro.get(name))),
            element("td", _new_site(effects.get(name))),
        )
        for name in names
    ]
    return scrolled("Figures", [element("th", title, scope="col") for title in titles], rows, "values")


def _macro(extreme: Extreme | None) -> Markup:
    if extreme is None or extreme.macro is None:
        return element("span", "n/a (no site has a value)", class_="absent")
    without = f", {extreme.n_absent} without a value" if extreme.n_absent else ""
    told = f"{extreme.n_sites} site{'s' * (extreme.n_sites != 1)}{without}"
    return joined([element("b", number(extreme.macro)), " ", element("span", told, class_="limits")])


def _worst(result: EvaluationResult, extreme: Extreme | None) -> Markup:
    if extreme is None or extreme.worst is None:
        return element("span", "n/a (no site has a value)", class_="absent")
    site = next(group for group in result.sites if group.name == extreme.worst_site)
    return joined([element("span", quoted(extreme.worst_site), class_="at"), figure_value(_figure(site, extreme.name))])


def _new_site(effects: Heterogeneity | None) -> Markup:
    if effects is None or effects.predicted_low is None or effects.predicted_high is None:
        return element("span", "n/a (needs a variance at 3 sites)", class_="absent")
    return reach(effects.name, effects.predicted_low, effects.predicted_high)


# --- Sites ------------------------------------------------------------------------------------------------------------


def sites_section(result: EvaluationResult) -> Markup:
    names = headline(result)
    titles = [element("th", "Site", scope="col"), element("th", "Cases", scope="col", class_="number-cell")]
    titles += [element("th", quoted(figure_name(name)), scope="col") for name in names]
    rows = [
        element(
            "tr",
            element("th", quoted(site.name), scope="row"),
            element("td", "–" if site.n_cases is None else site.n_cases, class_="number-cell"),
            *(element("td", _of_group(site, name)) for name in names),
        )
        for site in result.sites
    ]
    lead = (
        "Dots are sites, larger with more cases, with their intervals. The diamond is the mean of a random-effects "
        "analysis (REML, Hartung-Knapp); the thick bar is where a new site is expected with 95 %. Sites of unequal "
        "size are not ranked."
    )
    return element(
        "section",
        element("h2", "Sites", id="sites"),
        element("p", lead, class_="quiet lead"),
        element("div", *(_forest(result, name) for name in names), class_="forests"),
        element("h3", "Each site"),
        scrolled("Figures by site", titles, rows, "values"),
        aria_labelledby="sites",
    )


def _forest(result: EvaluationResult, name: str) -> Markup | None:
    known = [(site, figure) for site in result.sites if (figure := _figure(site, name)) is not None]
    effects = next((one for one in result.heterogeneity if one.name == name), None)
    axis = forest_axis((figure for _, figure in known), effects, bounds(name))
    if axis is None:
        return None
    most = max(site.n_cases or 1 for site in result.sites)
    rows = [_site_row(axis, site, _figure(site, name), most) for site in result.sites]
    ticks = element("li", element("span"), element("span", forest_ticks(axis), class_="drawing"), element("span"))
    spread = f"τ² {effects.tau2:.3g}, I² {effects.i2 * 100:.0f} %" if effects else None
    return element(
        "div",
        element("h3", quoted(figure_name(name))),
        element("ul", *rows, *(_effect_rows(axis, effects) if effects else []), ticks, class_="forest"),
        element("p", "Between sites: ", spread)
        if spread
        else element("p", "No random effects: they need a variance at 3 sites."),
        class_="panel",
    )


def _row(name: object, drawing: Markup | None, value: Markup, class_: str | None = None) -> Markup:
    return element(
        "li",
        element("span", name, class_="name"),
        element("span", drawing, class_="drawing"),
        element("span", value, class_="value"),
        class_=class_,
    )


def _site_row(axis: Axis, site: Subgroup, figure: Figure | None, most: int) -> Markup:
    size = "" if site.n_cases is None else f"{site.n_cases} cases"
    named = joined([quoted(site.name), element("span", size, class_="quiet")])
    if figure is None or figure.value is None:
        return _row(named, forest_row(axis, ForestMark(None, None)), _of_group(site, figure.name if figure else ""))
    interval = figure.interval
    ends = (interval.low, interval.high) if interval else None
    size_of_dot = 3 + 4 * math.sqrt((site.n_cases or 1) / most)
    return _row(
        named, forest_row(axis, ForestMark(figure.value, ends, "site", size_of_dot, figure.ideal)), figure_value(figure)
    )


def _effect_rows(axis: Axis, effects: Heterogeneity) -> list[Markup]:
    rows = []
    ends = (effects.low, effects.high) if effects.low is not None and effects.high is not None else None
    mean = joined([element("b", number(effects.mean)), " ", reach(effects.name, *ends) if ends else None])
    rows.append(_row("Mean of sites", forest_row(axis, ForestMark(effects.mean, ends, "mean", 7)), mean, "summary"))
    if effects.predicted_low is not None and effects.predicted_high is not None:
        ends = (effects.predicted_low, effects.predicted_high)
        rows.append(
            _row("A new site", forest_row(axis, ForestMark(None, ends, "new")), reach(effects.name, *ends), "summary")
        )
    return rows


# --- Curves -----------------------------------------------------------------------------------------------------------


def plots_section(result: EvaluationResult) -> Markup:
    panels: list[Markup] = []
    if result.detection or result.classification:
        panels.append(_roc_panel(result))
    if result.detection:
        panels.append(_froc_panel(result))
    if result.classification:
        panels.append(_reliability_panel(result))
    told = "Segmentation has no threshold, and so no curves." if result.segmentation else "No rows of cases, no curves."
    return element(
        "section",
        element("h2", "Curves", id="plots"),
        element("div", *panels, class_="plots") if panels else element("p", told, class_="quiet"),
        aria_labelledby="plots",
    )


def _panel(title: str, drawing: Markup | str, *words: object) -> Markup:
    shown = drawing if isinstance(drawing, Markup) else element("p", drawing, class_="absent")
    return element("div", element("h3", title), shown, element("p", *words), class_="panel")


def _band(result: EvaluationResult) -> str:
    words = result.protocol
    return (
        f"Band: pointwise {float(words['interval_level']) * 100:g} %, {words['resamples']} resamples of patients "
        "within site × label. A failed case is wrong at every threshold."
    )


def _roc_panel(result: EvaluationResult) -> Markup:
    curve = roc(result)
    drawing = roc_plot(curve) if isinstance(curve, Curve) else curve
    return _panel("ROC of cases, all sites", drawing, _band(result))


def _froc_panel(result: EvaluationResult) -> Markup:
    curve = froc(result)
    drawing = froc_plot(curve, "image") if isinstance(curve, Curve) else curve
    rule = joined(["Hit rule: ", quoted(result.protocol["hit_rule"]), ". Level after the last operating point. "])
    return _panel("FROC of lesions, all sites", drawing, rule, _band(result))


def _reliability_panel(result: EvaluationResult) -> Markup:
    scored = [case for case in result.classification if not case.failed]
    if not scored:
        return _panel("Reliability, all sites", "n/a (0 predictions)", "Only cases with a prediction have one.")
    points = reliability([case.truth for case in scored], [case.score for case in scored])  # type: ignore[arg-type]
    failed = len(result.classification) - len(scored)
    told = f"{len(scored)} cases in ten bins of equal width, Wilson intervals; {failed} without a prediction left out."
    return _panel("Reliability, all sites", reliability_plot(points), told)


# --- Subgroups and all figures ----------------------------------------------------------------------------------------


def subgroups(result: EvaluationResult) -> Markup | None:
    if not result.subgroups:
        return None
    names = headline(result)
    titles = [element("th", title, scope="col") for title in ("Group", "Cases")]
    titles += [element("th", quoted(figure_name(name)), scope="col") for name in names]
    tables = []
    for characteristic, groups in sorted(result.subgroups.items()):
        rows = [
            element(
                "tr",
                element("th", quoted(group.name), scope="row"),
                element("td", "–" if group.n_cases is None else group.n_cases, class_="number-cell"),
                *(element("td", _of_group(group, name)) for name in names),
            )
            for group in groups
        ]
        tables += [element("h3", quoted(characteristic)), scrolled(characteristic, titles, rows, "values")]
    return element("section", element("h2", "Subgroups", id="subgroups"), *tables, aria_labelledby="subgroups")


def every_figure(result: EvaluationResult) -> Markup:
    names = list(dict.fromkeys(f.name for group in (result.pooled, *result.sites) for f in group.figures))
    folded = element("details", element("summary", f"All {len(names)} figures"), _figures_table(result, names))
    return element("section", element("h2", "All figures", id="all"), folded, aria_labelledby="all")
