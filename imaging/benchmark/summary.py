"""A finished benchmark's trials → results.json and its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from imaging import __version__
from imaging.benchmark.endpoints import endpoint
from imaging.benchmark.jobs import LIBRARIES, Places, digest_of, write_whole
from imaging.benchmark.orders import PicturesOrder
from imaging.benchmark.page import render
from imaging.benchmark.record import BenchmarkFacts, BenchmarkResult
from imaging.benchmark.results import summarise
from imaging.benchmark.run import Plan, Score
from imaging.benchmark.spec import BenchmarkSpec, configuration
from imaging.benchmark.trials import CaseOutcome, Trial
from imaging.errors import ConfigError
from imaging.evaluation.page.pictures import Picture
from imaging.evaluation.ranking import figure
from imaging.evaluation.result import Inputs

PICTURED = 12


def refuse_endpoints(spec: BenchmarkSpec) -> None:
    """Raises ConfigError for an endpoint that there is not, before anything is trained."""
    for name in (spec.endpoints.primary, *spec.endpoints.others):
        try:
            endpoint(name)
        except ConfigError as error:
            raise ConfigError(f"endpoints: {error}", error.reason) from error


def score_of(spec: BenchmarkSpec) -> Score:
    """The primary endpoint of some outcomes, turned so that higher is better."""
    primary = endpoint(spec.endpoints.primary)

    def score(outcomes: Sequence[CaseOutcome]) -> float | None:
        scored = primary.score(outcomes)
        if scored.absent or not len(outcomes):
            return None
        value = figure(scored.statistic, len(outcomes))
        return value if primary.higher_is_better else -value

    return score


def facts_of(plan: Plan) -> BenchmarkFacts:
    """What was asked, with hashes of cases and configuration, and no path."""
    spec, names = plan.spec, plan.names
    return BenchmarkFacts(
        name=spec.name,
        arms=tuple(arm.name for arm in spec.arms),
        reference=spec.compared_with,
        primary=spec.endpoints.primary,
        others=tuple(spec.endpoints.others),
        selection=spec.selection,
        margin=spec.margin,
        synthetic=spec.synthetic,
        stated=_known(plan) | spec.stated,
        inputs=Inputs(
            manifest=digest_of(names.contents), configuration=digest_of([names.arms, names.card, names.code])
        ),
    )


def _known(plan: Plan) -> dict[str, str]:
    """What the artefacts say for the checklists."""
    spec, first = plan.spec, configuration(plan.spec, plan.spec.arm(plan.spec.compared_with))
    model, recipe = first.get("model", {}), first["data"]["recipe"]
    settings = {key: value for key, value in model.get("init_args", {}).items() if key != "network"}
    told = {
        "network": model.get("init_args", {}).get("network", {}),
        "training": {"task": model.get("class_path"), **settings, "trainer": first.get("trainer", {})},
        "preparation": recipe,
    }
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    started = [f"{arm.name}: {Path(arm.start_from).name}" for arm in spec.arms if arm.start_from]
    grouped = f"{len(plan.remarks)} remarks" if plan.remarks else "none was found"
    return {key: json.dumps(value, sort_keys=True) for key, value in told.items()} | {
        "software": f"sitewise-imaging {__version__}, {libraries}, code {plan.names.code[:16]}",
        "initial_weights": f"those of {', '.join(started)}; else random" if started else "random",
        "leakage": "pictures compared by content and likeness and patients by name over all sites before the first "
        f"training: {grouped}; opening a file of a test case while its network is made stops that training",
    }


def write_results(plan: Plan, trials: Sequence[Trial], out: Path) -> BenchmarkResult:
    """results.json, which the same trials give byte for byte."""
    result = summarise(facts_of(plan), trials)
    write_whole(out / "results.json", result.to_json())
    return result


def write_page(result: BenchmarkResult, out: Path, pictures: Sequence[Picture] = ()) -> None:
    """index.html."""
    write_whole(out / "index.html", render(result, pictures))


def pictures_order(plan: Plan, result: BenchmarkResult, trials: Sequence[Trial], out: Path) -> PicturesOrder | None:
    """The worst cases under a network of the reference that was tested on them; None where there is none."""
    cases, places = plan.cohort.cases, Places(out)
    known = {
        (outcome.site, outcome.case_id): trial.job
        for trial in trials
        if trial.arm == plan.spec.compared_with and not trial.in_domain and places.receipt(trial.job).is_file()
        for outcome in trial.outcomes
        if not outcome.failed
    }
    shown = [(one.site, one.case_id) for one in result.worst if (one.site, one.case_id) in known][:PICTURED]
    drawn = tuple((known[key], cases[key[1]]) for key in shown if cases[key[1]].truth is not None)
    return PicturesOrder(out, drawn) if drawn else None
