"""Cells by scanner and protocol, and the cases that cost most."""

from __future__ import annotations

from collections.abc import Sequence

from imaging.benchmark.record import ArmResult, BenchmarkResult, WorstOutcome
from imaging.evaluation.page.pictures import Picture, figure_of
from imaging.evaluation.page.words import figure_name, figure_value, number, scrolled
from imaging.html.markup import Markup, element, joined, quoted

SUPPRESSED = "suppressed (fewer than 5 patients)"


def cells_section(result: BenchmarkResult) -> Markup | None:
    blind = [arm for arm in result.arms if not arm.sees_target]
    names = sorted({name for arm in blind for name in arm.subgroups})
    if not names:
        return None
    tables: list[Markup] = []
    for name in names:
        tables += [element("h3", name.capitalize()), _cells(blind, name, result.facts.primary)]
    lead = (
        f"{figure_name(result.facts.primary)} at held-out sites. A cell of fewer than five patients is suppressed, and "
        "the next smallest with it where it could be had by subtraction."
    )
    return element(
        "section",
        element("h2", "By scanner and protocol", id="cells"),
        element("p", lead, class_="quiet lead"),
        *tables,
        aria_labelledby="cells",
    )


def _cells(arms: Sequence[ArmResult], name: str, primary: str) -> Markup:
    values = list(dict.fromkeys(group.name for arm in arms for group in arm.subgroups.get(name, ())))
    of_arm = {arm.arm: {group.name: group for group in arm.subgroups.get(name, ())} for arm in arms}
    titles = [element("th", name.capitalize(), scope="col"),
              element("th", "Patients", scope="col", class_="number-cell")]  # fmt: skip
    titles += [element("th", quoted(arm.arm), scope="col") for arm in arms]
    rows = []
    for value in values:
        groups = [of_arm[arm.arm].get(value) for arm in arms]
        patients = next((group.n_patients for group in groups if group is not None), None)
        cells = [
            element("span", SUPPRESSED, class_="absent")
            if group is None or group.suppressed
            else figure_value(group.figure(primary))
            for group in groups
        ]
        counted = element("td", "–" if patients is None else patients, class_="number-cell")
        rows.append(
            element("tr", element("th", quoted(value), scope="row"), counted, *(element("td", c) for c in cells))
        )
    return scrolled(name, titles, rows, "values")


def worst_section(result: BenchmarkResult, pictures: Sequence[Picture]) -> Markup | None:
    if not result.worst:
        return None
    lead = (
        f"Held-out cases by their cost on {figure_name(result.facts.primary)} under the reference, 0 right to 1 worst, "
        "mean over its networks; beside it the same under every arm."
    )
    return element(
        "section",
        element("h2", "Worst cases", id="worst"),
        element("p", lead, class_="quiet lead"),
        _gallery(result, pictures),
        _worst_table(result),
        aria_labelledby="worst",
    )


def _gallery(result: BenchmarkResult, pictures: Sequence[Picture]) -> Markup | None:
    if not pictures:
        return None
    wrong = {(case.site, case.case_id): f"cost {number(case.cost)}" for case in result.worst}
    keys = [
        element("li", element("svg", element("path", d="M4 7H31", class_=f"line {name}"), aria_hidden="true"), told)
        for name, told in (("truth", "Truth"), ("prediction", "Prediction"))
    ]
    drawn = [figure_of(shown, wrong.get((shown.site, shown.case_id), "")) for shown in pictures]
    return joined([element("ul", *keys, class_="keys"), element("div", *drawn, class_="gallery")])


def _worst_table(result: BenchmarkResult) -> Markup:
    arms = [arm.arm for arm in result.arms]
    titles = [element("th", title, scope="col") for title in ("Case", "Patient", "Site", "Label")]
    titles += [element("th", quoted(arm), scope="col", class_="number-cell") for arm in arms]
    unanswered = any(case.failed for case in result.worst)
    if unanswered:
        titles.append(element("th", "No answer", scope="col"))
    return scrolled("Worst cases", titles, [_worst_row(case, arms, unanswered) for case in result.worst])


def _worst_row(case: WorstOutcome, arms: Sequence[str], unanswered: bool) -> Markup:
    costs = [case.by_arm.get(arm) for arm in arms]
    return element(
        "tr",
        element("th", quoted(case.case_id), scope="row"),
        element("td", quoted(case.patient_id)),
        element("td", quoted(case.site)),
        element("td", quoted(case.label)),
        *(element("td", "–" if cost is None else number(cost), class_="number-cell") for cost in costs),
        element("td", quoted(case.failed), class_="bad" if case.failed else None) if unanswered else None,
    )
