"""Which arms are better at sites that were never seen, and what a selection rule would have taken."""

from __future__ import annotations

from collections.abc import Sequence

from imaging.benchmark.record import BenchmarkResult
from imaging.benchmark.selection import RULES, ArmChoice
from imaging.benchmark.verdict import ArmDifference
from imaging.evaluation.page.plots import ForestMark, forest_axis, forest_row, forest_ticks
from imaging.evaluation.page.words import figure_name, limits, number, probability, scrolled
from imaging.evaluation.result import Counts, Figure
from imaging.html.markup import Markup, count, element, joined, quoted

LEAD = (
    "Each arm less the reference, over the same patients, macro over the held-out sites. The interval holds what "
    "varies with patients and with trainings; whole patients swap arms in the permutation test; p is the larger of "
    "both, and Holm corrects it over the arms. A gain has p below 0.05 after Holm and an interval above the margin. "
    "Nothing else on this page is a verdict."
)
RULE_NAMES = {
    "train_val": "validation cases of the training sites",
    "leave_one_domain_out": "training sites left out in turn",
    "oracle": "the held-out site itself: nobody can choose so",
}


def verdict_section(result: BenchmarkResult) -> Markup:
    facts = result.facts
    title = element("h2", "Verdict at held-out sites", id="verdict")
    if not result.verdicts:
        why = "There is no verdict: it needs trials of the reference and of another arm on a site that they left out."
        return element("section", title, element("p", why, class_="absent"), aria_labelledby="verdict")
    return element(
        "section",
        title,
        element("p", element("strong", headline(result)), class_="lead"),
        element("p", LEAD, class_="quiet lead"),
        _forest(result.verdicts, facts.primary),
        _table("Paired differences at held-out sites", result.verdicts, called=True),
        _folded("Each held-out site", result.by_site, with_sites=True),
        _folded("Secondary endpoints", result.secondary),
        _folded("The same arms in domain: never a gain", result.at_home),
        _seen(result),
        element("h3", "What it cannot tell"),
        element("ul", *(element("li", told) for told in cannot_tell(result)), class_="reasons limits-of-it"),
        aria_labelledby="verdict",
    )


def cannot_tell(result: BenchmarkResult) -> list[str]:
    """What a reader might take from the verdict, and must not."""
    told = [
        "A verdict is about these sites. What a new one may give stands in the prediction interval further down.",
        "A site is its scanners, its patients and the style of its annotators together: a difference between sites is "
        "not one between scanners.",
        "Intervals hold what varies with test patients and seeds, and not which patients were trained on; networks of "
        "different held-out sites share training patients.",
        "An arm without a shown difference is not shown to be equal.",
    ]
    if len(result.verdicts[0].sites) < 3:
        told.append("Two sites allow no statement on a new one.")
    return told


def headline(result: BenchmarkResult) -> Markup:
    """The verdict in a sentence."""
    gains = [one.arm for one in result.verdicts if one.call == "gain"]
    losses = [one.arm for one in result.verdicts if one.call == "loss"]
    undecided = [one.arm for one in result.verdicts if one.call == "not decided"]
    sites, name = count(len(result.verdicts[0].sites), "held-out site"), figure_name(result.facts.primary)
    said: list[object] = []
    for arms, verb in ((gains, "better"), (losses, "worse")):
        if arms:
            said += [f"Shown to be {verb} than ", quoted(result.facts.reference), f" at {sites} ({name}): ",
                     quoted(", ".join(arms)), ". "]  # fmt: skip
    if not gains:
        said.append(f"No arm is shown to be better than the reference at {sites} ({name}). ")
    if undecided:
        said += ["Not decided: ", quoted(", ".join(undecided)), "."]
    return joined(said)


def as_figure(one: ArmDifference) -> Figure:
    """A difference as a figure that can be drawn."""
    counts = Counts(one.n_cases, one.n_cases)
    absent = "" if one.difference is not None else one.why or "n/a"
    return Figure(one.arm, one.difference, counts, one.interval, absent)


def _forest(found: Sequence[ArmDifference], name: str) -> Markup | None:
    axis = forest_axis([as_figure(one) for one in found], None, (-1.0, 1.0))
    if axis is None:
        return None
    rows = []
    for one in found:
        ends = (one.interval.low, one.interval.high) if one.interval else None
        drawing = forest_row(axis, ForestMark(one.difference, ends, "site", 5, 0.0))
        named = joined([quoted(one.arm), element("span", one.call, class_="quiet")])
        rows.append(
            element("li", element("span", named, class_="name"), element("span", drawing, class_="drawing"),
                    element("span", difference_value(one), class_="value"))
        )  # fmt: skip
    ticks = element("li", element("span"), element("span", forest_ticks(axis), class_="drawing"), element("span"))
    title = element("h3", f"{figure_name(name)}: arm less reference")
    return element("div", title, element("ul", *rows, ticks, class_="forest"), class_="panel")


def difference_value(one: ArmDifference) -> Markup:
    """A difference with its sign and interval; or why there is none."""
    if one.difference is None:
        return element("span", one.why or "n/a", class_="absent")
    return joined([element("b", signed(one.difference)), " ", limits(one.interval)])


def signed(value: float) -> str:
    return "+" * (value > 0) + number(value)


def _table(told: str, found: Sequence[ArmDifference], called: bool = False, with_sites: bool = False) -> Markup:
    names = ["Arm", *(["Site"] if with_sites else []), "Verdict" if called else "Endpoint", "Difference", "Arm",
             "Reference", "p, permutation", "p, with trainings", "p, Holm", "Rests on"]  # fmt: skip
    rows = [_row(one, called, with_sites) for one in found]
    return scrolled(told, [element("th", name, scope="col") for name in names], rows, "differences")


def _row(one: ArmDifference, called: bool, with_sites: bool) -> Markup:
    rests = f"{count(one.n_patients, 'patient')}; {one.n_runs[0]} and {one.n_runs[1]} networks a site"
    lost = element("div", f"{sum(one.n_lost)} lost", class_="bad") if sum(one.n_lost) else None
    call = joined([element("b", one.call), element("span", one.why, class_="limits") if one.why else None])
    return element(
        "tr",
        element("th", quoted(one.arm), scope="row"),
        element("td", quoted(", ".join(one.sites))) if with_sites else None,
        element("td", call if called else figure_name(one.endpoint)),
        element("td", difference_value(one), class_="difference"),
        *(element("td", _number(value)) for value in (one.first, one.second)),
        *(element("td", _probability(p), class_="nowrap") for p in (one.p_patients, one.p_total)),
        element("td", element("b", _probability(one.p_holm)), class_="nowrap"),
        element("td", rests, lost),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else number(value)


def _probability(p: float | None) -> str:
    return "–" if p is None else probability(p)


def _folded(title: str, found: Sequence[ArmDifference], with_sites: bool = False) -> Markup | None:
    if not found:
        return None
    return element("details", element("summary", title), _table(title, found, with_sites=with_sites))


def _seen(result: BenchmarkResult) -> Markup | None:
    if not result.saw_target:
        return None
    why = (
        "These methods looked at images of the held-out site. They stand apart, are not ranked with the arms above and "
        "are never called a gain."
    )
    return joined([
        element("h3", "Methods that saw the target's images"),
        element("p", why, class_="quiet lead"),
        _table("Methods that saw the target's images", result.saw_target),
    ])  # fmt: skip


# --- Selection --------------------------------------------------------------------------------------------------------


def selection_section(result: BenchmarkResult) -> Markup | None:
    chosen = result.selection
    if not chosen.choices:
        return None
    sites = sorted({choice.site for choice in chosen.choices})
    titles = [element("th", "Rule", scope="col"), *(element("th", quoted(site), scope="col") for site in sites),
              element("th", "Macro", scope="col")]  # fmt: skip
    rows = [_rule_row(result, rule, sites) for rule in RULES]
    if chosen.disagreeing:
        told = joined(["The rules choose different arms for ", quoted(", ".join(chosen.disagreeing)), "."])
    else:
        told = joined(["Where more than one rule can choose, all choose the same arm."])
    lead = (
        f"Which arm each rule would have taken for a held-out site, and what that arm gave there. The rule of this "
        f"benchmark is {result.facts.selection}."
    )
    return element(
        "section",
        element("h2", "Selection rules", id="selection"),
        element("p", lead, class_="quiet lead"),
        element("p", element("strong", told), class_="lead"),
        scrolled("Selection rules", titles, rows, "values"),
        aria_labelledby="selection",
    )


def _rule_row(result: BenchmarkResult, rule: str, sites: Sequence[str]) -> Markup:
    of_site = {choice.site: choice for choice in result.selection.choices if choice.rule == rule}
    named = joined([element("code", rule), element("span", RULE_NAMES[rule], class_="limits")])
    macro = result.selection.macro[rule]
    return element(
        "tr",
        element("th", named, scope="row"),
        *(element("td", _chosen(of_site[site])) for site in sites),
        element("td", element("b", _number(macro))),
        class_="total" if rule == result.facts.selection else None,
    )


def _chosen(choice: ArmChoice) -> Markup:
    if choice.arm is None:
        return element("span", choice.why, class_="absent")
    return joined([quoted(choice.arm), " ", element("span", _number(choice.figure), class_="limits")])
