"""The page of a benchmark: one file that shows what failed first, then what held at sites that were never seen.

It is made from the record alone, and from pictures of worst cases where the caller has them. It holds no script and
loads nothing (see `imaging.html`); all text from outside is escaped and isolated. The same record gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imaging.benchmark.page.cases import cells_section, worst_section
from imaging.benchmark.page.designs import learning_section, matrix_section
from imaging.benchmark.page.failures import failures_section
from imaging.benchmark.page.figures import calibration_section, sites_section, spread_section
from imaging.benchmark.page.probes import checklist_section, probe_section
from imaging.benchmark.page.style import STYLE
from imaging.benchmark.page.verdicts import selection_section, verdict_section
from imaging.benchmark.record import BenchmarkResult
from imaging.evaluation.page.pictures import Picture
from imaging.evaluation.page.words import figure_name
from imaging.html.markup import Markup, count, element, head, icon, quoted, terms
from imaging.html.style import ICONS

TITLE = "Benchmark · Sitewise"
PARTS = (
    ("failed", "What failed"),
    ("verdict", "Verdict"),
    ("sites", "Held-out sites"),
    ("spread", "A new site"),
    ("matrix", "Train × test"),
    ("calibration", "Calibration"),
    ("cells", "Scanners"),
    ("learning", "Local cases"),
    ("selection", "Selection"),
    ("probe", "Site probe"),
    ("worst", "Worst cases"),
    ("checklist", "Checklists"),
    ("protocol", "Protocol"),
)


def write(result: BenchmarkResult, path: Path, pictures: Sequence[Picture] = ()) -> None:
    """The page as a file."""
    path.write_text(render(result, pictures), encoding="utf-8")


def render(result: BenchmarkResult, pictures: Sequence[Picture] = ()) -> str:
    """The whole page as text."""
    sections = {
        "failed": failures_section(result),
        "verdict": verdict_section(result),
        "sites": sites_section(result),
        "spread": spread_section(result),
        "matrix": matrix_section(result),
        "calibration": calibration_section(result),
        "cells": cells_section(result),
        "learning": learning_section(result),
        "selection": selection_section(result),
        "probe": probe_section(result),
        "worst": worst_section(result, pictures),
        "checklist": checklist_section(result),
        "protocol": _protocol(result),
    }
    there = [(place, name) for place, name in PARTS if sections[place] is not None]
    body = element(
        "body",
        Markup(ICONS),
        element("a", "Skip to what failed", class_="skip", href="#failed"),
        _masthead(result, there),
        element("main", *sections.values()),
        _footer(result),
    )
    return f"<!DOCTYPE html>\n{element('html', head(TITLE, STYLE), body, lang='en')}\n"


def _masthead(result: BenchmarkResult, there: Sequence[tuple[str, str]]) -> Markup:
    facts = result.facts
    stated = [
        ("Sites", len(result.sites)),
        ("Patients", sum(site.n_patients for site in result.sites)),
        ("Cases", sum(site.n_cases for site in result.sites)),
        ("Arms", len(facts.arms)),
        ("Reference", quoted(facts.reference)),
        ("Primary endpoint", figure_name(facts.primary)),
        ("Trials", result.losses.n_trials),
    ]
    menu = element("ul", *(element("li", element("a", name, href=f"#{place}")) for place, name in there))
    synthetic = "Synthetic data: these images or scores were computed. The figures say nothing of patients."
    return element(
        "header",
        element("p", icon("failed"), element("strong", "Research use only."), " Not a medical device; not for clinical "
                "use.", class_="notice"),
        element("p", icon("failed"), element("strong", synthetic), class_="notice") if facts.synthetic else None,
        element("p", "Sitewise imaging", class_="eyebrow"),
        element("h1", "Benchmark ", quoted(facts.name)),
        terms(stated, "facts"),
        element("nav", menu, aria_label="Parts of this page"),
        class_="masthead",
    )  # fmt: skip


def _protocol(result: BenchmarkResult) -> Markup:
    facts = result.facts
    stated: list[tuple[str, object]] = [
        ("arms", quoted(", ".join(facts.arms))),
        ("endpoints", ", ".join(one.name for one in facts.endpoints)),
        ("selection rule", facts.selection),
        ("smallest gain that matters", f"{facts.margin:g}"),
        ("resamples of patients", f"{result.resamples}, seed {result.resampling_seed}"),
        ("failed case", "the worst outcome of every endpoint"),
        ("lost training", "no verdict on the arms that it belongs to"),
        *((name.replace("_", " "), quoted(value)) for name, value in sorted(facts.stated.items())),
    ]
    stated += [
        (f"SHA-256 of the {name}", element("code", quoted(getattr(facts.inputs, name) or "not stated")))
        for name in ("manifest", "weights", "configuration")
    ]
    return element(
        "section",
        element("h2", "Protocol", id="protocol"),
        element("div", terms(stated, "stated"), class_="panel protocol"),
        aria_labelledby="protocol",
    )


def _footer(result: BenchmarkResult) -> Markup:
    trials = count(result.losses.n_trials, "trial")
    return element(
        "footer",
        element("p", f"Figures of {trials} are given at full precision in results.json beside this page."),
        element("p", f"Made by {result.toolkit}."),
    )
