"""The first section: trainings that are lost, and cases that got no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from imaging.benchmark.record import BenchmarkResult, LostTrial
from imaging.evaluation.page.words import scrolled
from imaging.html.markup import Markup, count, element, grouped, icon, joined, quoted

CASES_SHOWN = 12


def failures_section(result: BenchmarkResult) -> Markup:
    losses = result.losses
    n_failed = sum(case.n_runs for case in losses.cases)
    tiles = [
        _tile("failed", len(losses.trials), "Trials lost", f"of {grouped(losses.n_trials)}; no figure rests on them"),
        _tile("failed", n_failed, "Without an answer",
              f"of {grouped(losses.n_outcomes)} tested cases; each counts as the worst outcome"),
        _tile("list", losses.n_trials - len(losses.trials), "Trials there", "a network tested on the cases of a site"),
    ]  # fmt: skip
    return element(
        "section",
        element("h2", "What failed", id="failed", tabindex="-1"),
        element("div", *tiles, class_="tiles"),
        _lost(losses.trials),
        _unanswered(result),
        aria_labelledby="failed",
    )


def _tile(sign: str, value: int, title: str, detail: str) -> Markup:
    warned = " tile-warned" if sign == "failed" else ""
    return element(
        "div",
        element("span", grouped(value), class_="tile-number"),
        element("span", icon(sign), title, class_="tile-title"),
        element("span", detail, class_="tile-detail"),
        class_=f"tile{warned}{' zero' if value == 0 else ''}",
    )


def _lost(trials: Sequence[LostTrial]) -> Markup:
    if not trials:
        return element("p", "No trial is lost.", class_="quiet")
    titles = [element("th", title, scope="col", class_="number-cell" if title in ("Seed", "Fold") else None)
              for title in ("Arm", "Design", "Test site", "Seed", "Fold", "Why")]  # fmt: skip
    rows = [
        element(
            "tr",
            element("th", quoted(lost.arm), scope="row"),
            element("td", quoted(lost.design)),
            element("td", quoted(lost.test_site)),
            element("td", lost.seed, class_="number-cell"),
            element("td", "–" if lost.fold is None else lost.fold, class_="number-cell"),
            element("td", quoted(lost.reason), class_="bad"),
        )
        for lost in trials
    ]
    return joined([element("h3", f"{count(len(trials), 'trial')} lost"), scrolled("Lost trials", titles, rows, "wide")])


def _unanswered(result: BenchmarkResult) -> Markup:
    cases = result.losses.cases
    if not cases:
        return element("p", "Every tested case has an answer.", class_="quiet")
    reasons = Counter(case.reason for case in cases)
    told = ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common())
    items = [
        element("li", element("b", quoted(case.case_id)), " · site ", quoted(case.site), " · ", quoted(case.arm), ": ",
                quoted(case.reason), f", {count(case.n_runs, 'network')}")
        for case in cases
    ]  # fmt: skip
    more = items[CASES_SHOWN:]
    return element(
        "div",
        element("h3", "Cases without an answer"),
        element("p", quoted(told), class_="quiet"),
        element("ul", *items[:CASES_SHOWN], class_="reasons"),
        element("details", element("summary", f"{len(more)} more"), element("ul", *more, class_="reasons"))
        if more
        else None,
        class_="failures",
    )
