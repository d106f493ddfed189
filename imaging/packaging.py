"""A finished training run → a package: best weights in half precision, threshold, passport support, golden phantom."""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from imaging import __version__
from imaging.data.dataset import first_image
from imaging.data.manifest import Case, read_manifest
from imaging.data.truth import read_mask
from imaging.dicom.index import build_index
from imaging.errors import ConfigError, Reason
from imaging.findings import Finding, extract
from imaging.harmonise.recipe import identity, settings
from imaging.image import Array
from imaging.models.build import build
from imaging.models.networks import Network
from imaging.package import (
    FORMAT_VERSION,
    Card,
    Description,
    File,
    Package,
    RecipeChoice,
    load_package,
    pin,
    read_typed,
    write_description,
)
from imaging.predictor import RECIPES, Predictor, golden_image
from imaging.tasks.checkpoints import BEST, FOLDER, load_checkpoint

THRESHOLDS = tuple(round(0.01 * n, 2) for n in range(1, 100))
GOLDEN_TOLERANCE = 0.02
WEIGHTS = "weights.safetensors.gz"
_UNPINNED = File("", "")


@dataclass(frozen=True)
class Judged:
    """Validation cases at one threshold: mean Dice of cases with a lesion (a miss is 0), marked cases without one."""

    threshold: float
    dice: float
    marked_empty: float
    score: float


def make_package(run: Path, card_file: Path, out: Path) -> Package:
    """A package from a LightningCLI run folder (config.yaml, checkpoints/best.ckpt) and a card.

    The threshold is the one of highest macro mean over training sites on validation cases, where a case without a
    lesion scores 1 when nothing is marked and 0 otherwise, among those that mark no larger share of these cases than
    the card allows. Raises ConfigError when the run is not complete.
    """
    card: Card = read_typed(card_file, Card)
    config = _read_config(run)
    network, recipe = _network(config), _recipe(config)
    _refuse_other_classes(card, config["data"].get("classes") or [])
    cases = read_manifest(Path(config["data"]["manifest"]))
    held_out = set(config["data"].get("test_sites") or [])
    seen = [case for case in cases if case.site not in held_out]
    validation = [case for case in seen if case.split == "val"]
    model = build(network)
    weights = {name: value.half() for name, value in _best_weights(run).items()}
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    draft = Description(
        format_version=FORMAT_VERSION,
        least_toolkit=__version__,
        card=card,
        network=network,
        recipe=recipe,
        threshold=0.5,
        support=_support([case for case in seen if case.split == "train"]),
        training={},
        weights=_UNPINNED,
        golden=_UNPINNED,
        golden_tolerance=GOLDEN_TOLERANCE,
    )
    frozen = RECIPES[recipe.name](**recipe.settings)

    def predictor() -> Predictor:
        return Predictor(Package(out, draft, "draft"), model, frozen)

    if card.classes:
        draft = replace(draft, temperature=_temperature(predictor(), validation))
    judged = _judge(predictor(), validation)
    best = _chosen(judged, card.most_marked_empty)
    out.mkdir(parents=True, exist_ok=True)
    # Without a time stamp: the same weights are the same bytes.
    (out / WEIGHTS).write_bytes(gzip.compress(save(weights), mtime=0))
    _save_golden(out / "golden.npz", predictor())
    write_description(
        out,
        replace(
            draft,
            threshold=best.threshold,
            weights=pin(out / WEIGHTS),
            golden=pin(out / "golden.npz"),
            training={
                "manifest_sha256": _digest(Path(config["data"]["manifest"])),
                "config_sha256": _digest(run / "config.yaml"),
                "sites": sorted({case.site for case in seen}),
                "held_out_sites": sorted(held_out),
                "cases": {split: sum(case.split == split for case in seen) for split in ("train", "val")},
                "validation_dice": round(best.dice, 4),
                "validation_marked_empty": round(best.marked_empty, 4),
            },
        ),
    )
    return load_package(out)


def _refuse_other_classes(card: Card, trained: Sequence[str]) -> None:
    told = [one.name for one in card.classes]
    if told != list(trained):
        raise ConfigError(
            f"card {card.name}, classes: found {told}; the run was trained on {list(trained)}, in this order",
            Reason.CONFIG_INVALID,
        )


def _temperature(predictor: Predictor, cases: Sequence[Case]) -> float:
    """What divides the class outputs so that their probabilities fit the validation cases best (Guo, ICML 2017)."""
    names = [one.name for one in predictor.package.description.card.classes]
    known = [case for case in cases if case.label in names]
    if not known:
        return 1.0
    chances = np.array([predictor.predict(first_image(case, predictor.recipe)).classes for case in known])
    truth = np.array([names.index(case.label) for case in known])
    logits = np.log(np.clip(chances, 1e-9, 1.0))

    def mean_log_loss(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(truth)), truth].mean())

    return round(float(minimize_scalar(mean_log_loss, bounds=(0.2, 5.0), method="bounded").x), 3)


def _read_config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    if not path.is_file() or not (run / FOLDER / BEST).is_file():
        raise ConfigError(
            f"{run}: not a finished run; needed are config.yaml and {FOLDER}/{BEST}, as train.py fit leaves them",
            Reason.CONFIG_INVALID,
        )
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def _network(config: dict[str, Any]) -> Network:
    told = dict(config["model"]["init_args"]["network"])
    return Network(**{**told, "features": tuple(told["features"])})


def _recipe(config: dict[str, Any]) -> RecipeChoice:
    told = config["data"]["recipe"]
    name = next(name for name, kind in RECIPES.items() if told["class_path"].endswith(f".{kind.__name__}"))
    recipe = RECIPES[name](**told.get("init_args", {}))
    return RecipeChoice(name, settings(recipe), identity(recipe))  # type: ignore[arg-type]  # the keys of RECIPES


def _best_weights(run: Path) -> dict[str, torch.Tensor]:
    stored = load_checkpoint(run / FOLDER / BEST)
    return {
        name.removeprefix("model."): value for name, value in stored["state_dict"].items() if name.startswith("model.")
    }


def _support(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Every value of every passport fact that training saw."""
    seen: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.image.suffix.lower() == ".png":
            continue
        for series in build_index(case.image).series:
            for instance in series.instances:
                for fact, value in instance.passport.items():
                    seen[fact].add(value)
    return {fact: sorted(values) for fact, values in sorted(seen.items())}


def _judge(predictor: Predictor, cases: Sequence[Case]) -> list[Judged]:
    """Every threshold on every validation case, through the same extraction as inference."""
    description = predictor.package.description
    card = description.card
    labels = tuple(label.name for label in card.labels)
    dices: dict[float, dict[str, list[float]]] = {t: defaultdict(list) for t in THRESHOLDS}
    marked: dict[float, dict[str, list[float]]] = {t: defaultdict(list) for t in THRESHOLDS}
    for case in cases:
        image = first_image(case, predictor.recipe)
        truth = read_mask(case.known_truth, image.source_grid) > 0
        everything = extract(predictor.predict(image), labels, description.boundary, card.least_pixels)
        for threshold in THRESHOLDS:
            found = [finding for finding in everything if finding.score >= threshold]
            if truth.any():
                dices[threshold][case.site].append(_dice(found, truth))
            else:
                marked[threshold][case.site].append(float(bool(found)))
    return [_judged(t, dices[t], marked[t]) for t in THRESHOLDS]


def _chosen(judged: Sequence[Judged], most_marked_empty: float) -> Judged:
    """The best threshold within what the card allows, or, where none is, among those that mark the fewest empty cases.

    Of several that do equally well the middle one, which is the farthest from doing worse.
    """
    fewest = min(j.marked_empty for j in judged)
    allowed = [j for j in judged if j.marked_empty <= max(most_marked_empty, fewest)]
    best = max(j.score for j in allowed)
    equal = sorted((j for j in allowed if j.score == best), key=lambda j: j.threshold)
    return equal[len(equal) // 2]


def _judged(threshold: float, dices: dict[str, list[float]], marked: dict[str, list[float]]) -> Judged:
    by_site = {site: dices.get(site, []) + [1 - m for m in marked.get(site, [])] for site in {*dices, *marked}}
    return Judged(
        threshold,
        dice=float(np.mean([np.mean(v) for v in dices.values()])),
        marked_empty=float(np.mean([np.mean(v) for v in marked.values()])) if marked else 0.0,
        score=float(np.mean([np.mean(v) for v in by_site.values()])),
    )


def _dice(found: Sequence[Finding], truth: Array) -> float:
    own = np.zeros(truth.shape, dtype=bool)
    for finding in found:
        own |= finding.full_mask()
    return float(2 * (own & truth).sum() / (own.sum() + truth.sum()))


def _save_golden(path: Path, predictor: Predictor) -> None:
    """A drawn image and what the network says of it: no person's picture goes into a package."""
    pixels, spacing = _drawn_image(), (1.0, 1.0)
    said = predictor.predict(golden_image(pixels, spacing)).probabilities[1:]
    np.savez_compressed(path, pixels=pixels, expected=np.rint(said * 255).astype(np.uint8), spacing_mm=spacing)


def _drawn_image(side: int = 256) -> Array:
    """Grainy tissue with a dark ellipse in a bright rim, uint8 (side, side): something for every network to look at."""
    rows, columns = np.mgrid[0:side, 0:side] / side - 0.5
    grain = gaussian_filter(np.random.default_rng(3).normal(size=(side, side)), 1.5)
    reach = np.sqrt(((columns + 0.06) / 0.24) ** 2 + ((rows - 0.02) / 0.17) ** 2)
    level = np.where(reach < 0.9, 25.0, np.where(reach < 1.0, 210.0, 110.0))
    return np.asarray(np.clip(np.rint(level * (1 + 1.6 * grain)), 0, 255), dtype=np.uint8)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
