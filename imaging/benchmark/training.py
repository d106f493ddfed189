"""One job in a worker process: cases → training → package → threshold and operating point → receipt.

A training sees a table that holds its own cases and no others, and while it goes on its test cases cannot be opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import yaml

from imaging.benchmark.guard import held_out
from imaging.benchmark.jobs import VALIDATION, Places, Receipt, read_receipt, write_receipt, write_whole
from imaging.benchmark.orders import HeldOutOrder, PicturesOrder, TrainingOrder
from imaging.benchmark.outcome_files import outcomes_as_text
from imaging.benchmark.outcomes import operating_point, outcomes_of, pictured
from imaging.benchmark.spec import merged
from imaging.benchmark.trials import CaseOutcome
from imaging.data.manifest import Case, write_manifest
from imaging.errors import ImagingError
from imaging.evaluation.page.pictures import Picture, picture
from imaging.package import Package, load_package
from imaging.packaging import decided_on, make_package
from imaging.predictor import Predictor, load_predictor
from imaging.tasks.checkpoints import BEST, FOLDER, load_checkpoint
from imaging.tasks.record import weights_digest

# `train.py` with these words; how many pictures it decoded.
Fit = Callable[[Sequence[str]], int]


class DecidedNetwork(NamedTuple):
    """A predictor, and the score from which it recalls a case."""

    predictor: Predictor
    point: float | None


def run_training(order: TrainingOrder, fit: Fit) -> Receipt:
    """The receipt of the training, which is made, gone on with, or found finished.

    Raises ConfigError, among others where anything opens a file of a case that is held out.
    """
    places, begin = Places(order.out), perf_counter()
    if (finished := read_receipt(places.receipt(order.identity))) is not None:
        return finished
    folder = places.job(order.identity)
    with held_out(order.held_out):
        words = _prepared(order, folder)
        prepared = perf_counter()
        decoded = fit(words)
        trained = perf_counter()
        package = make_package(folder / "run", order.card, folder / "package", is_forced=True)
        point = _validated(folder, load_predictor(package), order.val)
    decided = perf_counter()
    weights = weights_digest(load_checkpoint(places.best(order.identity))["state_dict"])
    seconds = {"training": trained - prepared, "deciding": decided - trained}
    seconds["other"] = perf_counter() - begin - sum(seconds.values())
    receipt = Receipt(weights, package.identity, package.description.threshold, point, decoded, seconds)
    write_receipt(places.receipt(order.identity), receipt)
    _prune(folder / "run" / FOLDER)  # after the receipt: without one a training goes on from what it would remove
    return receipt


def run_test(order: HeldOutOrder, device: str) -> float:
    """Writes the outcomes of the cases; the seconds that it took."""
    begin = perf_counter()
    networks = [_network(order, name, device) for name in order.networks]
    if order.chosen_on:
        networks = [_chosen_anew(one.predictor, order.chosen_on) for one in networks]
    points = [one.point for one in networks if one.point is not None]
    point = sum(points) / len(points) if len(points) == len(networks) else None
    outcomes = outcomes_of([one.predictor for one in networks], order.cases, point)
    write_whole(Places(order.out).outcomes(order.identity), outcomes_as_text(outcomes))
    return perf_counter() - begin


def draw(order: PicturesOrder) -> list[Picture]:
    """Thumbnails of the cases; none of one that cannot be read."""
    places, drawn = Places(order.out), []
    predictors: dict[str, Predictor] = {}
    for name, case in order.cases:
        if name not in predictors:
            predictors[name] = load_predictor(load_package(places.package(name)))
        try:
            drawn.append(picture(case.case_id, case.site, pictured(predictors[name], case)))
        except ImagingError:
            continue  # the page names it among the cases without an answer
    return drawn


def _prepared(order: TrainingOrder, folder: Path) -> list[str]:
    """The words of the training, whose table and configuration lie in its folder.

    What a recipe learns, the training lets it learn from that table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = [replace(case, split="train") for case in order.train]
    write_manifest(folder / "manifest.csv", [*cases, *(replace(case, split="val") for case in order.val)])
    own: dict[str, Any] = {
        "manifest": str(folder / "manifest.csv"),
        "seed": order.seed,
        "cache": str(Places(order.out).cache),
    }
    config = merged(order.config, {"seed_everything": order.seed, "data": own})
    write_whole(folder / "config.yaml", yaml.safe_dump(config, sort_keys=True))
    words = ["fit", f"--config={folder / 'config.yaml'}", f"--run={folder / 'run'}", "--resume=auto"]
    return words if order.start is None else [*words, f"--start_from={order.start}"]


def _prune(folder: Path) -> None:
    """Of a finished run the best checkpoint alone stays."""
    for path in folder.glob("*.ckpt"):
        if path.name != BEST:
            path.unlink()


def _validated(folder: Path, predictor: Predictor, validation: Sequence[Case]) -> float | None:
    """Keeps the outcomes of the validation cases; the package's own operating point, or the one that they give."""
    stated = predictor.package.description.operating_point
    outcomes = _outcomes(predictor, validation)
    write_whole(folder / VALIDATION, outcomes_as_text(outcomes))
    return operating_point(outcomes) if stated is None else stated


def _outcomes(predictor: Predictor, cases: Sequence[Case]) -> list[CaseOutcome]:
    return outcomes_of([predictor], cases, None)


def _network(order: HeldOutOrder, name: str, device: str) -> DecidedNetwork:
    places = Places(order.out)
    receipt = read_receipt(places.receipt(name))
    assert receipt is not None
    return DecidedNetwork(load_predictor(load_package(places.package(name)), device), receipt.operating_point)


def _chosen_anew(predictor: Predictor, cases: Sequence[Case]) -> DecidedNetwork:
    """The same weights with temperature, threshold and operating point as other cases decide."""
    package = predictor.package
    _, draft = decided_on(package.folder, package.description, predictor.model, cases)
    chosen = Predictor(
        Package(package.folder, draft, package.identity),
        predictor.model,
        predictor.recipe,
        str(predictor.device),
        predictor.locator,
    )
    stated = draft.operating_point
    return DecidedNetwork(chosen, operating_point(_outcomes(chosen, cases)) if stated is None else stated)
