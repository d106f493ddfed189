"""A second model beside the first on the same cases: paired differences, and the second's own failures."""

from __future__ import annotations

from imaging.evaluation.page.words import (
    COUNTS,
    case_counts,
    counts_row,
    figure_name,
    figure_value,
    limits,
    number,
    probability,
    scrolled,
)
from imaging.evaluation.result import Comparison, Difference, EvaluationResult, Subgroup
from imaging.html.markup import Markup, count, element, joined, quoted

SHOWN_BELOW = 0.05  # p after Holm


def comparison_section(result: EvaluationResult) -> Markup | None:
    """Nothing where the record holds one model."""
    both = result.comparison
    if both is None:
        return None
    lead = (
        "The first model is the one that this page is about; the second was scored on the same cases, truth and "
        "protocol. Difference: first − second. Holm corrects p over the endpoints below."
    )
    return element(
        "section",
        element("h2", "Comparison with a second model", id="comparison"),
        element("p", lead, class_="quiet lead"),
        _failures(result, both),
        _differences(both),
        _by_site(result, both),
        aria_labelledby="comparison",
    )


def _failures(result: EvaluationResult, both: Comparison) -> Markup:
    titles = [element("th", "Of", scope="col"), element("th", "Model", scope="col")]
    titles += [element("th", title, scope="col", class_="number-cell") for title, _ in COUNTS.values()]
    rows = []
    for unit, name in case_counts(result):
        for model, group in (("first", result.pooled), ("second", both.pooled)):
            counts = next((figure.counts for figure in group.figures if figure.name == name), None)
            named = element("th", quoted(unit), scope="row")
            rows.append(element("tr", named, element("td", model), *counts_row(result.task, counts)))
    reasons = [element("li", element("b", quoted(case)), ": ", quoted(why)) for case, why in both.failures]
    told = f"{count(len(reasons), 'case')} without a prediction of the second model"
    folded = element("details", element("summary", told), element("ul", *reasons, class_="reasons"))
    return joined(
        [scrolled("Counts of both models", titles, rows), folded if reasons else None, element("h3", "Endpoints")]
    )


def _differences(both: Comparison) -> Markup:
    titles = ("Endpoint", "First", "Second", "Difference", "p", "p, Holm", "Test")
    rows = [_difference(difference) for difference in both.differences]
    return scrolled("Paired differences", [element("th", title, scope="col") for title in titles], rows)


def _difference(one: Difference) -> Markup:
    named = element("th", quoted(figure_name(one.name)), scope="row")
    if one.first is None or one.second is None or one.difference is None or one.p is None or one.p_holm is None:
        return element("tr", named, element("td", one.absent, colspan=6, class_="absent"))
    told = "not shown to differ"
    if one.p_holm < SHOWN_BELOW:
        told = "favours the first" if (one.difference > 0) == one.higher_is_better else "favours the second"
    shown = joined([element("b", _signed(one.difference)), " ", limits(one.interval)])
    return element(
        "tr",
        named,
        element("td", number(one.first)),
        element("td", number(one.second)),
        element("td", shown, element("div", told, class_="quiet")),
        element("td", probability(one.p), class_="nowrap"),
        element("td", element("b", probability(one.p_holm)), class_="nowrap"),
        element("td", one.method),
    )


def _signed(difference: float) -> str:
    return "0" if difference == 0 else "+" * (difference > 0) + number(difference)


def _by_site(result: EvaluationResult, both: Comparison) -> Markup:
    names = [difference.name for difference in both.differences]
    titles = [element("th", "Site", scope="col"), element("th", "Model", scope="col")]
    titles += [element("th", quoted(figure_name(name)), scope="col") for name in names]
    second = {group.name: group for group in both.sites}
    rows = [
        _site_row(site.name, model, group, names)
        for site in result.sites
        for model, group in (("first", site), ("second", second[site.name]))
    ]
    table = scrolled("Both models by site", titles, rows, "values")
    return element("details", element("summary", "Both models by site"), table)


def _site_row(site: str, model: str, group: Subgroup, names: list[str]) -> Markup:
    figures = {figure.name: figure for figure in group.figures}
    hidden = element("span", "suppressed (fewer than 5)", class_="absent")
    cells = [element("td", hidden if group.suppressed else figure_value(figures.get(name))) for name in names]
    return element("tr", element("th", quoted(site), scope="row"), element("td", model), *cells)
