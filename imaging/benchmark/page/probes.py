"""The site probe, what became of quantities, and the reporting checklists."""

from __future__ import annotations

from imaging.benchmark.checklist import CLAIM, STARD, TRIPOD, ReportItem
from imaging.benchmark.probe import QuantityKept, SiteProbe
from imaging.benchmark.record import BenchmarkResult
from imaging.evaluation.page.words import limits, number, probability, scrolled
from imaging.html.markup import Markup, element, joined, quoted


def probe_section(result: BenchmarkResult) -> Markup | None:
    if not (result.probes or result.quantities):
        return None
    lead = (
        "How well a linear probe tells the site from frozen features within each label, beside a guess, the label "
        "alone and sites permuted among the patients of one label. This is a report and no goal: only a difference at "
        "held-out sites is a gain."
    )
    names = ("Features", "Sites within labels", "Guess", "Permuted: mean, 95 %", "p", "Label alone",
             "Features, labels ignored", "Rests on")  # fmt: skip
    titles = [element("th", name, scope="col") for name in names]
    return element(
        "section",
        element("h2", "Site probe", id="probe"),
        element("p", lead, class_="quiet lead"),
        scrolled("Site probe", titles, [_probe(one) for one in result.probes]) if result.probes else None,
        _quantities(result),
        aria_labelledby="probe",
    )


def _probe(one: SiteProbe) -> Markup:
    named = element("th", quoted(one.name), scope="row")
    if one.accuracy is None or one.p is None:
        return element("tr", named, element("td", one.absent, colspan=7, class_="absent"))
    assert one.chance is not None
    assert one.label_only is not None
    assert one.unconditional is not None
    assert one.null_mean is not None
    assert one.null_high is not None
    return element(
        "tr",
        named,
        element("td", element("b", number(one.accuracy))),
        element("td", number(one.chance)),
        element("td", f"{number(one.null_mean)}, {number(one.null_high)}", class_="nowrap"),
        element("td", element("b", probability(one.p)), class_="nowrap"),
        element("td", number(one.label_only)),
        element("td", number(one.unconditional)),
        element("td", f"{one.n_cases} cases of {one.n_patients} patients, {one.n_permutations} permutations"),
    )


def _quantities(result: BenchmarkResult) -> Markup | None:
    if not result.quantities:
        return None
    names = ("Quantity", "Before", "After", "Change", "Rank correlation", "Contrast of labels, before and after",
             "Share between sites, before and after", "Rests on")  # fmt: skip
    titles = [element("th", name, scope="col") for name in names]
    rows = [_quantity(one) for one in result.quantities]
    return joined([element("h3", "What became of quantities"), scrolled("Quantities", titles, rows)])


def _quantity(one: QuantityKept) -> Markup:
    return element(
        "tr",
        element("th", quoted(one.name), scope="row"),
        element("td", number(one.mean_before)),
        element("td", number(one.mean_after)),
        element("td", element("b", number(one.change)), " ", limits(one.change_interval)),
        element("td", _maybe(one.rank)),
        element("td", f"{_maybe(one.contrast_before)}, {_maybe(one.contrast_after)}"),
        element("td", f"{_maybe(one.site_share_before)}, {_maybe(one.site_share_after)}"),
        element("td", f"{one.n_cases} cases of {one.n_patients} patients"),
    )


def _maybe(value: float | None) -> str:
    return "n/a" if value is None else number(value)


def checklist_section(result: BenchmarkResult) -> Markup:
    blank = sum(not item.path for item in result.checklist)
    lead = (
        f"What {CLAIM}, {TRIPOD} and {STARD} ask a report to hold, in short words, each with its place in "
        f"results.json. {blank} of {len(result.checklist)} are blank. The guidelines' own forms are not replaced by "
        "this table."
    )
    titles = [element("th", name, scope="col") for name in ("Of", "Asked for", CLAIM, TRIPOD, STARD, "In results.json")]
    table = scrolled("Reporting checklists", titles, [_item(item) for item in result.checklist], "items")
    return element(
        "section",
        element("h2", "Reporting checklists", id="checklist"),
        element("p", lead, class_="quiet lead"),
        element("details", element("summary", f"All {len(result.checklist)} topics"), table),
        aria_labelledby="checklist",
    )


def _item(item: ReportItem) -> Markup:
    place = element("code", item.path) if item.path else element("span", "blank", class_="blank")
    would = None if item.path else element("span", f"filled by {item.fill_by}", class_="limits")
    return element(
        "tr",
        element("td", item.section),
        element("th", item.topic, scope="row"),
        *(element("td", "asks" if name in item.asked_by else "") for name in (CLAIM, TRIPOD, STARD)),
        element("td", place, " ", would),
    )
