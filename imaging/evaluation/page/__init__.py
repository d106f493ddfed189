"""The page of an evaluation: one file that shows what failed first, then every figure with its interval and sites.

It is made from the record alone, and from pictures of worst cases where the caller has them. It holds no script and
loads nothing (see `imaging.html`); all text from outside is escaped and isolated. The same record gives the same bytes.
A record without rows (aggregates) has no curves, no cases and no pictures, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from imaging.evaluation.page.comparison import comparison_section
from imaging.evaluation.page.figures import every_figure, headline_section, plots_section, sites_section, subgroups
from imaging.evaluation.page.pictures import Picture, figure_of
from imaging.evaluation.page.style import STYLE
from imaging.evaluation.page.words import COUNTS, UNDEFINED, case_counts, counts_row, scrolled
from imaging.evaluation.page.worst import WorstCase, worst_cases
from imaging.evaluation.result import Counts, EvaluationResult, Subgroup
from imaging.html.markup import Markup, count, element, head, icon, joined, quoted, sentence, terms
from imaging.html.style import ICONS

TITLE = "Evaluation · Sitewise"
REASONS_SHOWN = 10
CASES_SHOWN = 25


def render(result: EvaluationResult, pictures: Sequence[Picture] = ()) -> str:
    """The whole page as text."""
    body = element(
        "body",
        Markup(ICONS),
        element("a", "Skip to what failed", class_="skip", href="#failed"),
        _masthead(result),
        element(
            "main",
            _failed(result),
            _remarks(result),
            headline_section(result),
            comparison_section(result),
            sites_section(result),
            plots_section(result),
            _cases(result, pictures),
            subgroups(result),
            every_figure(result),
            _protocol(result),
        ),
        _footer(result),
    )
    return f"<!DOCTYPE html>\n{element('html', head(TITLE, STYLE), body, lang='en')}\n"


# --- Masthead and footer ----------------------------------------------------------------------------------------------


def _masthead(result: EvaluationResult) -> Markup:
    size = "not known" if result.pooled.n_cases is None else f"{result.pooled.n_cases}, of {_patients(result.pooled)}"
    facts = [
        ("Task", sentence(result.task)),
        ("Sites", len(result.sites)),
        ("Cases", size),
        *([("Hit rule", result.protocol["hit_rule"])] if "hit_rule" in result.protocol else []),
        ("Rows of cases", "in the record" if result.cases else "none: aggregates only"),
    ]
    links = [("failed", "What failed"), ("figures", "Figures"), ("sites", "Sites"), ("plots", "Curves"),
             ("cases", "Worst cases"), ("protocol", "Protocol")]  # fmt: skip
    if result.comparison is not None:
        links.insert(2, ("comparison", "Comparison"))
    if result.remarks:
        links.insert(1, ("remarks", "Remarks"))
    menu = element("ul", *(element("li", element("a", name, href=f"#{place}")) for place, name in links))
    return element(
        "header",
        element(
            "p",
            icon("failed"),
            element("strong", "Research use only."),
            " Not a medical device; not for clinical use.",
            class_="notice",
        ),
        element("p", "Sitewise imaging", class_="eyebrow"),
        element("h1", f"Evaluation of {result.task}"),
        terms(facts, "facts"),
        element("nav", menu, aria_label="Parts of this page"),
        class_="masthead",
    )


def _patients(group: Subgroup) -> str:
    return "patients not known" if group.n_patients is None else count(group.n_patients, "patient")


def _footer(result: EvaluationResult) -> Markup:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items()))
    return element(
        "footer",
        element("p", "Figures are given at full precision in metrics.json beside this page."),
        element("p", f"Made by {result.toolkit} with {versions}."),
    )


# --- What failed ------------------------------------------------------------------------------------------------------


def _failed(result: EvaluationResult) -> Markup:
    units = case_counts(result)
    return element(
        "section",
        element("h2", "What failed", id="failed", tabindex="-1"),
        *(_tiles(result, unit, name) for unit, name in units),
        _reasons(result),
        element("h3", "By site"),
        _counts_table(result, units),
        aria_labelledby="failed",
    )


def _tiles(result: EvaluationResult, unit: str, name: str) -> Markup | None:
    counts = _counts(result.pooled, name)
    if counts is None:
        return None
    tiles = [_tile(result, key, getattr(counts, key)) for key in COUNTS]
    return element("div", element("p", quoted(sentence(unit)), class_="legend"), element("div", *tiles, class_="tiles"),
                   class_="counted")  # fmt: skip


def _tile(result: EvaluationResult, key: str, value: int | None) -> Markup:
    title, detail = COUNTS[key]
    shown = "< 5" if value is None else str(value)
    if (result.task, key) in UNDEFINED:
        shown, detail = "n/a", "needs a threshold; see sensitivity at specificity"
    warned = key not in ("n_scored", "n_total")
    return element(
        "div",
        element("span", shown, class_="tile-number"),
        element("span", icon("failed" if warned else "list"), title, class_="tile-title"),
        element("span", detail, " ", element("code", key), class_="tile-detail"),
        class_=f"tile{' tile-warned' if warned else ''}{' zero' if value == 0 else ''}",
    )


def _counts(group: Subgroup, name: str) -> Counts | None:
    return next((figure.counts for figure in group.figures if figure.name == name), None)


def _reasons(result: EvaluationResult) -> Markup | None:
    """Why each failed case has no prediction; the first few open."""
    rows = [case for case in result.cases if case.failed]
    if not result.cases:
        return element("p", "This record holds no rows of cases, and so no reasons.", class_="quiet")
    if not rows:
        return element("p", "Every case has a prediction that could be scored.", class_="quiet")
    items = [
        element("li", element("b", quoted(case.case_id)), " · site ", quoted(case.site), ": ", quoted(case.failed))
        for case in rows
    ]
    told = element("h3", f"{count(len(rows), 'case')} without a prediction, and why")
    return element("div", told, *_first_open(items), class_="failures")


def _first_open(items: Sequence[Markup]) -> list[Markup]:
    """A list of which the first few stand open."""
    lists = [element("ul", *items[:REASONS_SHOWN], class_="reasons")]
    if more := items[REASONS_SHOWN:]:
        folded = element("ul", *more, class_="reasons")
        lists.append(element("details", element("summary", f"{len(more)} more"), folded))
    return lists


def _remarks(result: EvaluationResult) -> Markup | None:
    """What the table and its files left to assume, before any figure that rests on it."""
    if not result.remarks:
        return None
    lead = element("p", "What the table and its files left to assume; every figure below rests on it.", class_="quiet")
    return element(
        "section",
        element("h2", "Remarks", id="remarks"),
        lead,
        element("div", *_first_open([element("li", quoted(remark)) for remark in result.remarks]), class_="failures"),
        aria_labelledby="remarks",
    )


def _counts_table(result: EvaluationResult, units: list[tuple[str, str]]) -> Markup:
    groups = [*result.sites, *([result.pooled] if result.pooled.figures else [])]
    titles = [element("th", title, scope="col", class_="number-cell") for title, _ in COUNTS.values()]
    rows = []
    for group in groups:
        for unit, name in units:
            whole = group is result.pooled
            cells = counts_row(result.task, _counts(group, name))
            if group.suppressed:
                cells = [element("td", "suppressed (fewer than 5)", colspan=len(COUNTS), class_="absent")]
            named = element("th", "All sites" if whole else quoted(group.name), scope="row")
            rows.append(element("tr", named, element("td", quoted(unit)), *cells, class_="total" if whole else None))
    titles = [element("th", "Site", scope="col"), element("th", "Of", scope="col"), *titles]
    return scrolled("Counts by site", titles, rows)


# --- Cases, protocol --------------------------------------------------------------------------------------------------


def _cases(result: EvaluationResult, pictures: Sequence[Picture]) -> Markup:
    worst = worst_cases(result)
    none = "No case is wrong anywhere." if result.cases else "The record holds no rows of cases."
    parts: list[Markup | None] = [element("p", none, class_="quiet")]
    if worst:
        wrong = {(case.site, case.case_id): case.wrong for case in worst}
        parts = [_gallery(pictures, wrong), _worst_table(result, worst)]
    return element("section", element("h2", "Worst cases", id="cases"), *parts, aria_labelledby="cases", class_="cases")


def _gallery(pictures: Sequence[Picture], wrong: dict[tuple[str, str], str]) -> Markup | None:
    if not pictures:
        return None
    keys = [
        element("li", element("svg", element("path", d="M4 7H31", class_=f"line {name}"), aria_hidden="true"), told)
        for name, told in (("truth", "Truth"), ("prediction", "Prediction"))
    ]
    drawn = [figure_of(shown, wrong.get((shown.site, shown.case_id), "")) for shown in pictures]
    return joined([element("ul", *keys, class_="keys"), element("div", *drawn, class_="gallery")])


def _worst_table(result: EvaluationResult, worst: list[WorstCase]) -> Markup:
    size = " (ml; cm² in 2-D)" if result.segmentation else ""
    names = ("Case", "Patient", "Site", f"Truth{size}", f"Prediction{size}", "What is wrong")
    titles = [element("th", name, scope="col") for name in names]
    rows = [
        element(
            "tr",
            element("th", quoted(case.case_id), scope="row"),
            element("td", quoted(case.patient_id)),
            element("td", quoted(case.site)),
            element("td", quoted(case.truth)),
            element("td", quoted(case.predicted)),
            element("td", quoted(case.wrong), class_="bad" if case.failed else None),
        )
        for case in worst[:CASES_SHOWN]
    ]
    shown = f"The {len(rows)} worst of {count(len(worst), 'case')} that are not exactly right."
    return joined([element("h3", "Table"), element("p", shown, class_="quiet"), scrolled("Worst cases", titles, rows)])


def _protocol(result: EvaluationResult) -> Markup:
    stated = [(name.replace("_", " "), quoted(value)) for name, value in sorted(result.protocol.items())]
    hashes = [
        (f"SHA-256 of the {name}", element("code", quoted(value or "not stated")))
        for name, value in (
            ("manifest", result.inputs.manifest),
            ("weights", result.inputs.weights),
            ("configuration", result.inputs.configuration),
        )
    ]
    return element(
        "section",
        element("h2", "Protocol", id="protocol"),
        element("div", terms([*stated, *hashes], "stated"), class_="panel protocol"),
        aria_labelledby="protocol",
    )
