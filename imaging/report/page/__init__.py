"""The run's result page: one file that a physician or engineer opens to see every answer, and what went wrong first.

The page is made from the summary alone (docs/summary.schema.json) and the preview PNGs that it names. It carries
everything inside itself and loads nothing: a Content-Security-Policy allows its own style and script by their hashes
and pictures from its own bytes. All text passes through `element`, which escapes whatever is not `Markup`; characters
that would hide or reorder text are spelled out. The same summary gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from imaging.html.markup import (
    Json,
    Markup,
    count,
    element,
    grouped,
    head,
    icon,
    joined,
    quoted,
    reason_of,
    sentence,
    terms,
)
from imaging.html.style import ICONS
from imaging.report.page.card import AnswerCard, answers_of, card
from imaging.report.page.pictures import PreviewPictures
from imaging.report.page.style import SCRIPT, STYLE

TITLE = "Results of this run · Sitewise"
SITES_SHOWN = 5

_FILE_STATES = {
    "refused": "damaged, dangerous or not DICOM",
    "skipped": "readable, not needed for any answer",
    "used": "offered to a package",
}
_FILE_ICONS = {"refused": "failed", "skipped": "na", "used": "all"}


def render(summary: Json, out: Path) -> str:
    """The whole page as text; `out` is the folder that preview and object paths are relative to."""
    answers = sorted(answers_of(summary), key=lambda answer: answer.order)
    previews = PreviewPictures(out)
    body = element(
        "body",
        Markup(ICONS),
        element("a", "Skip to the results", class_="skip", href="#results"),
        _masthead(summary),
        element(
            "main",
            _overview(summary, answers),
            _results(summary, answers, previews),
            _not_applicable(answers),
            _files(summary),
        ),
        _footer(summary),
        element("script", Markup(SCRIPT)),
    )
    return f"<!DOCTYPE html>\n{element('html', head(TITLE, STYLE, SCRIPT), body, lang='en')}\n"


# --- Head, masthead, footer -------------------------------------------------------------------------------------------


def _masthead(summary: Json) -> Markup:
    sites = [quoted(site) for site in sorted({study["site"] for study in summary["studies"]})]
    shown = sites if len(sites) <= SITES_SHOWN else [*sites[: SITES_SHOWN - 1], f"{len(sites) - SITES_SHOWN + 1} more"]
    packages = [
        joined(
            [
                quoted(f"{package['name']} {package['version']}"),
                " ",
                None if package["validated"] else element("span", "demonstration, not validated", class_="tag"),
            ]
        )
        for package in summary["packages"]
    ]
    facts = [
        ("Site" if len(sites) < 2 else "Sites", _either(_listed(shown), "none")),
        ("Package" if len(packages) == 1 else "Packages", _either(_listed(packages), "none")),
        ("Content time", summary["content_time"].replace("T", " ")),
    ]
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
        element("h1", "Results of this run"),
        terms(facts, "facts"),
        class_="masthead",
    )


def _listed(items: Iterable[str]) -> Markup | None:
    rows = [element("li", item) for item in items]
    return element("ul", *rows, class_="inline") if rows else None


def _either(value: Markup | None, otherwise: str) -> object:
    return otherwise if value is None else value


def _footer(summary: Json) -> Markup:
    packages = [
        element(
            "li",
            element("strong", quoted(f"{package['name']} {package['version']}")),
            ": ",
            quoted(package["summary"]),
            element("span", " Identity ", quoted(package["identity"], "uid"), class_="quiet"),
        )
        for package in summary["packages"]
    ]
    toolkit = summary["toolkit"]
    return element(
        "footer",
        element("ul", *packages) if packages else None,
        element(
            "p",
            _scores(summary),
            " Pixel positions count from the corner of the source image's first pixel. Pictures show tissue regions "
            "only.",
        ),
        element(
            "p",
            f"Made by {toolkit['name']} {toolkit['version']}. Patient names and numbers are not shown; the paths "
            "of files stand as the export names them.",
        ),
    )


def _scores(summary: Json) -> str:
    """What the numbers of a finding mean; percentages stand only where a package's validation allows them."""
    own = "A score is the model's own number, not a probability of disease."
    results = [result for study in summary["studies"] for result in study["results"]]
    rated = [one["rating"] for result in results for one in (result, *result["findings"]) if one["rating"] is not None]
    if not rated:
        return own
    names = ", ".join(sorted({rating["name"] for rating in rated}))
    return (
        f"{own} A percentage ({names}) is a probability for the population that the DICOM report names, and only there."
    )


# --- Overview: counts that are filters --------------------------------------------------------------------------------


def _overview(summary: Json, answers: list[AnswerCard]) -> Markup:
    hint = element("span", " · choose a count to see only those", class_="quiet wants-js")
    tiles = element(
        "fieldset",
        element("legend", "Answers", hint),
        element("div", *_answer_tiles(summary, answers), class_="tiles"),
    )
    return element(
        "section",
        element("h2", "At a glance", id="glance"),
        tiles if answers else element("p", "No study was answered."),
        _file_counts(summary),
        aria_labelledby="glance",
        class_="overview",
    )


def _file_counts(summary: Json) -> Markup:
    states = [file["state"] for file in summary["files"]]
    links = [
        element(
            "li",
            element(
                "a",
                icon(_FILE_ICONS[state]),
                f"{grouped(states.count(state))} {state}",
                href=f"#files-{state}",
                class_="some-refused" if state == "refused" and "refused" in states else None,
            ),
        )
        for state in _FILE_STATES
    ]
    total = element("li", count(len(states), "file"), ":", class_="quiet")
    return element("ul", total, *links, class_="file-states")


def _answer_tiles(summary: Json, answers: list[AnswerCard]) -> Iterator[Markup]:
    def of(kind: str) -> list[AnswerCard]:
        return [answer for answer in answers if kind in answer.kinds]

    def studies(some: list[AnswerCard]) -> str:
        return "in " + count(len({answer.study["study_uid"] for answer in some}), "study", "studies")

    unread = sum(len(answer.result["unread"]) for answer in of("unread"))
    found = sum(len(answer.result["findings"]) for answer in of("yes"))
    tiles = [
        ("failed", "failed", "Failed", "nothing analysed or nothing released"),
        ("unread", "some", "Unread images", f"{count(unread, 'image')} {studies(of('unread'))}"),
        ("unknown", "unknown", "Finding: unknown", "not a negative answer"),
        ("yes", "yes", "Finding: yes", f"{count(found, 'finding')} {studies(of('yes'))}"),
        ("no", "no", "Finding: no", "every image analysed"),
        ("not_applicable", "na", "Not applicable", "outside what the package is made for"),
    ]
    for kind, symbol, title, detail in tiles:
        yield _answer_tile(kind, symbol, title, len(of(kind)), detail if of(kind) else "none")
    total = count(len(summary["studies"]), "study", "studies")
    yield _answer_tile("all", "list", "All answers", len(answers), f"in {total}")


def _answer_tile(kind: str, symbol: str, title: str, number: int, detail: str) -> Markup:
    return element(
        "div",
        element("input", type="radio", name="show", id=f"show-{kind}", value=kind, checked=kind == "all"),
        element(
            "label",
            _tile_content(symbol, title, number, detail),
            for_=f"show-{kind}",
            class_=f"tile tile-{kind}{_muted(number)}",
        ),
        class_="choice",
    )


def _tile_content(symbol: str, title: str, number: int, detail: str) -> Markup:
    return joined(
        [
            element("span", grouped(number), class_="tile-number"),
            element("span", icon(symbol), title, class_="tile-title"),
            element("span", detail, class_="tile-detail"),
        ]
    )


def _muted(number: int) -> str:
    return "" if number else " zero"


# --- Results ----------------------------------------------------------------------------------------------------------


def _results(summary: Json, answers: list[AnswerCard], previews: PreviewPictures) -> Markup:
    cards = [card(answer, previews) for answer in answers if answer.applicable]
    return element(
        "section",
        element("h2", "Results", id="results", tabindex="-1"),
        _toolbar() if answers else None,
        element("p", "No answer matches the filter and the search.", id="no-match", class_="empty", hidden=True),
        *(cards or [_nothing_to_show(summary)]),
        aria_labelledby="results",
        class_="results",
    )


def _toolbar() -> Markup:
    return element(
        "div",
        element(
            "label",
            element("span", "Search", class_="unseen"),
            element(
                "input",
                type="search",
                id="search",
                placeholder="Study UID, site, reason …",
                autocomplete="off",
                spellcheck="false",
                aria_keyshortcuts="/",
            ),
            element("kbd", "/", aria_hidden="true"),
            class_="search",
        ),
        element(
            "button",
            icon("yes"),
            "Outlines ",
            element("kbd", "o", aria_hidden="true"),
            type="button",
            id="outlines",
            aria_pressed="true",
            aria_keyshortcuts="o",
        ),
        element("p", id="status", role="status"),
        class_="toolbar wants-js",
        role="search",
    )


def _nothing_to_show(summary: Json) -> Markup:
    if any(study["results"] for study in summary["studies"]):
        advice = [
            element("p", element("strong", "No package applies to any study of this run.")),
            element("p", "Each reason stands below. A package named with ", element("code", "--package"),
                    " runs also where the body part is not stated."),
        ]  # fmt: skip
    else:
        files = "The files below say, each with its reason, why they were not used."
        advice = [
            element("p", element("strong", "No DICOM study was found that could be looked at.")),
            element(
                "ul",
                element("li", "Check that the export folder is the right one and holds DICOM images."),
                element("li", files if summary["files"] else "The export folder held no file at all."),
                element("li", "Run ", element("code", "imaging infer EXPORT --out OUT --dry-run"),
                        " to see what would run on what, and why."),
            ),
        ]  # fmt: skip
    return element("div", *advice, class_="empty")


# --- Not applicable, files --------------------------------------------------------------------------------------------


def _not_applicable(answers: list[AnswerCard]) -> Markup | None:
    """One line per study that a package was not made for, with the reason."""
    rows = [_row(answer) for answer in answers if not answer.applicable]
    if not rows:
        return None
    return element(
        "section",
        element("h2", "Not applicable", id="not-applicable"),
        element("p", "The package is not made for these images and did not look at them.", class_="quiet"),
        element("ul", *rows, class_="rows"),
        aria_labelledby="not-applicable",
        class_="section-rows",
    )


def _row(answer: AnswerCard) -> Markup:
    return element(
        "li",
        element("span", icon("na"), quoted(answer.study["modality"]), class_="modality"),
        element("span", quoted(answer.study["study_uid"], "uid"), class_="study"),
        element("span", quoted(answer.result["package"]), " · ", quoted(answer.study["site"]), class_="quiet"),
        reason_of(answer.result, starts=True),
        data_kinds=" ".join(answer.kinds),
        data_find=answer.search_text,
    )


def _files(summary: Json) -> Markup:
    """Files by state, then by reason, most frequent first; the paths stay folded so that thousands cost nothing."""
    groups: dict[str, dict[tuple[str, str], list[str]]] = {state: {} for state in _FILE_STATES}
    for file in summary["files"]:
        cause = (file["reason"] or "", file["reason_meaning"] or "")
        groups[file["state"]].setdefault(cause, []).append(file["path"])
    blocks = [_file_state(state, causes) for state, causes in groups.items()]
    return element(
        "section",
        element("h2", "Files", id="files"),
        *blocks,
        _remarks(summary["remarks"]),
        aria_labelledby="files",
        class_="files",
    )


def _remarks(remarks: list[Json]) -> Markup | None:
    """Oddities that cost nothing, such as a program in a file's preamble."""
    if not remarks:
        return None
    lines = [
        element(
            "li", quoted(remark["text"]), element("span", " ", quoted(remark["path"] or "whole export"), class_="quiet")
        )
        for remark in remarks
    ]
    return element("div", element("h3", "Remarks"), element("ul", *lines, class_="paths"), class_="file-state")


def _file_state(state: str, causes: dict[tuple[str, str], list[str]]) -> Markup:
    total = sum(len(paths) for paths in causes.values())
    often = sorted(causes.items(), key=lambda cause: (-len(cause[1]), cause[0]))
    return element(
        "div",
        element("h3", icon(_FILE_ICONS[state]), f"{state.capitalize()} ", element("span", grouped(total))),
        element("p", sentence(_FILE_STATES[state]), class_="quiet"),
        *(_file_group(code, meaning, paths) for (code, meaning), paths in often),
        id=f"files-{state}",
        class_="file-state",
        tabindex="-1",
    )


def _file_group(code: str, meaning: str, paths: list[str]) -> Markup:
    entry = {"reason": code, "reason_meaning": meaning}
    words = reason_of(entry, starts=True) if code else "Show the paths"
    return element(
        "details",
        element("summary", element("b", grouped(len(paths)), class_="tally"), element("span", words)),
        element("ul", *(element("li", quoted(path)) for path in sorted(paths)), class_="paths"),
    )
