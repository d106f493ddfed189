"""Other designs than leaving one site out: train site × test site, local, pooled, consensus, and learning curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from imaging.benchmark.panels import IN_DOMAIN, MATRIX
from imaging.benchmark.record import BenchmarkResult, DesignCell
from imaging.evaluation.page.plots import lines_plot, round_axis
from imaging.evaluation.page.words import bounds, figure_name, figure_value, scrolled
from imaging.html.markup import Markup, element, joined, quoted


def _value(cell: DesignCell | None, name: str) -> Markup:
    if cell is None:
        return element("span", "–", class_="absent")
    figure = next((one for one in cell.figures.figures if one.name == name), None)
    lost = element("span", f"{cell.n_lost} lost", class_="limits bad") if cell.n_lost else None
    if not cell.n_runs:
        return joined([element("span", "n/a (lost)", class_="absent"), " ", lost])
    return joined([figure_value(figure), " ", lost])


def matrix_section(result: BenchmarkResult) -> Markup | None:
    """Figures of networks by the sites that they learnt from: rows train, columns test, one table for each arm."""
    cells = [cell for cell in result.cells if cell.local_cases is None]
    if not cells:
        return None
    tables = []
    for arm in result.facts.arms:
        of_arm = [cell for cell in cells if cell.arm == arm]
        table = _matrix(of_arm, result.facts.primary) if of_arm else None
        if table is not None and arm == result.facts.reference:
            tables.append(joined([element("h3", quoted(arm)), table]))
        elif table is not None:
            tables.append(element("details", element("summary", quoted(arm)), table))
    lead = (
        f"{figure_name(result.facts.primary)}. A shaded cell was tested on other patients of a training site: it is in "
        "domain, and says nothing of a new hospital."
    )
    return element(
        "section",
        element("h2", "Train site × test site", id="matrix"),
        element("p", lead, class_="quiet lead"),
        *tables,
        aria_labelledby="matrix",
    )


def _trained_on(cell: DesignCell, sites: Sequence[str]) -> str:
    """The training sites as a row of the table says them: what was left out stands in one row for all."""
    if len(sites) > 2 and set(cell.train_sites) == set(sites) - {cell.test_site}:
        return "all other sites"
    if len(sites) > 2 and set(cell.train_sites) == set(sites):
        return "all sites"
    return ", ".join(cell.train_sites) or "nothing"


def _matrix(cells: Sequence[DesignCell], name: str) -> Markup:
    sites = sorted({cell.test_site for cell in cells} | {site for cell in cells for site in cell.train_sites})
    rows_of: dict[tuple[str, str], dict[str, DesignCell]] = defaultdict(dict)
    for cell in cells:
        design = MATRIX if cell.design == IN_DOMAIN and len(cell.train_sites) == 1 else cell.design
        rows_of[design, _trained_on(cell, sites)].setdefault(cell.test_site, cell)
    titles = [element("th", "Design", scope="col"), element("th", "Trained on", scope="col"),
              *(element("th", joined(["on ", quoted(site)]), scope="col") for site in sites)]  # fmt: skip
    rows = []
    for (design, sources), by_site in sorted(rows_of.items()):
        shown = [_cell(by_site.get(site), name) for site in sites]
        named = element("th", quoted(design.replace("_", " ")), scope="row")
        rows.append(element("tr", named, element("td", quoted(sources)), *shown))
    return scrolled("Train site by test site", titles, rows, "values")


def _cell(cell: DesignCell | None, name: str) -> Markup:
    home = cell is not None and cell.in_domain
    seen = element("span", "saw the target", class_="limits") if cell is not None and cell.sees_target else None
    note = element("span", "in domain", class_="limits") if home else None
    return element("td", _value(cell, name), " ", note, seen, class_="home" if home else None)


def learning_section(result: BenchmarkResult) -> Markup | None:
    """How figures grow with cases of the hospital itself."""
    cells = [cell for cell in result.cells if cell.local_cases is not None]
    if not cells:
        return None
    amounts = sorted({cell.local_cases for cell in cells if cell.local_cases is not None})
    groups: dict[tuple[str, str, str], dict[int, DesignCell]] = defaultdict(dict)
    for cell in cells:
        assert cell.local_cases is not None
        groups[cell.design, cell.arm, cell.test_site][cell.local_cases] = cell
    titles = [element("th", name, scope="col") for name in ("Design", "Arm", "Site")]
    titles += [element("th", f"{n} local cases", scope="col") for n in amounts]
    rows = [
        element(
            "tr",
            element("th", quoted(design.replace("_", " ")), scope="row"),
            element("td", quoted(arm)),
            element("td", quoted(site)),
            *(element("td", _value(by_amount.get(n), result.facts.primary)) for n in amounts),
        )
        for (design, arm, site), by_amount in sorted(groups.items())
    ]
    lead = (
        f"{figure_name(result.facts.primary)} at a site with so many of its own cases learnt from. A network that saw "
        "cases of the site never stands beside those that did not."
    )
    return element(
        "section",
        element("h2", "How many local cases are needed", id="learning"),
        element("p", lead, class_="quiet lead"),
        element("div", *_learning_plots(result.facts.primary, groups), class_="plots"),
        element("h3", "Table"),
        scrolled("Learning curves", titles, rows, "values"),
        aria_labelledby="learning",
    )


def _learning_plots(name: str, groups: Mapping[tuple[str, str, str], Mapping[int, DesignCell]]) -> list[Markup]:
    """One drawing for each design and arm, with a line for each site."""
    lines: dict[tuple[str, str], list[tuple[str, list[tuple[float, float]]]]] = defaultdict(list)
    for (design, arm, site), by_amount in sorted(groups.items()):
        points = [
            (float(n), value)
            for n, cell in sorted(by_amount.items())
            if (value := _plain_value(cell, name)) is not None
        ]
        if points:
            lines[design, arm].append((site, points))
    panels = []
    for (design, arm), drawn in lines.items():
        every = [point for _, points in drawn for point in points]
        x = round_axis([0.0, *(across for across, _ in every)], "Local cases")
        y = round_axis([up for _, up in every], figure_name(name), bounds(name) == (0.0, 1.0))
        title = element("h3", quoted(arm), f": {design.replace('_', ' ')}")
        panels.append(element("div", title, lines_plot(x, y, drawn), class_="panel"))
    return panels


def _plain_value(cell: DesignCell, name: str) -> float | None:
    return next((figure.value for figure in cell.figures.figures if figure.name == name), None)
