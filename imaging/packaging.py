"""A finished training run → a package: best weights in half precision, threshold, passport support, golden phantom."""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save
from scipy.ndimage import gaussian_filter
from torch import nn

from imaging import __version__
from imaging.data.dataset import is_picture
from imaging.data.manifest import Case, read_manifest
from imaging.dicom.index import build_index
from imaging.errors import ConfigError, Reason
from imaging.harmonise.recipe import Recipe, identity, settings
from imaging.image import Array
from imaging.models.build import build
from imaging.models.networks import Network
from imaging.package import (
    DESCRIPTION,
    FORMAT_VERSION,
    Card,
    Description,
    File,
    Package,
    RecipeChoice,
    Weights,
    load_package,
    pin,
    pin_weights,
    read_typed,
    write_description,
)
from imaging.predictor import RECIPES, Predictor, golden_image, read_model
from imaging.tasks.checkpoints import BEST, FOLDER, load_checkpoint
from imaging.validation import Decisions, decide_boxes, decide_masks, fitted_temperature

GOLDEN_TOLERANCE = 0.02
WEIGHTS = "weights.safetensors.gz"
_UNPINNED = "", ""


def make_package(run: Path, card_file: Path, out: Path) -> Package:
    """A package from a LightningCLI run folder (config.yaml, checkpoints/best.ckpt) and a card.

    Threshold, temperature and operating point are those that `imaging.validation` chooses on validation cases of
    training sites. Raises ConfigError when the run is not complete.
    """
    card: Card = read_typed(card_file, Card)
    config = _read_config(run)
    held_out = set(config["data"].get("test_sites") or [])
    cases = [case for case in read_manifest(Path(config["data"]["manifest"])) if case.site not in held_out]
    weights = {name: value.half() for name, value in _best_weights(run).items()}
    draft = _draft(card, config, cases)
    model = build(draft.network)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    decided, draft = _decided(out, draft, model, [case for case in cases if case.split == "val"])
    training = {
        "manifest_sha256": _digest(Path(config["data"]["manifest"])),
        "config_sha256": _digest(run / "config.yaml"),
        "sites": sorted({case.site for case in cases}),
        "held_out_sites": sorted(held_out),
        "cases": {split: sum(case.split == split for case in cases) for split in ("train", "val")},
        **{f"validation_{name}": value for name, value in decided.figures.items()},
    }
    return write_package(out, replace(draft, training=training), model)


def write_package(out: Path, draft: Description, model: nn.Module) -> Package:
    """The folder of a model whose weights half precision holds, with its golden phantom; the description pins both."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    # Without a time stamp: the same weights are the same bytes.
    (out / WEIGHTS).write_bytes(gzip.compress(save(weights), mtime=0))
    return _sealed(out, replace(draft, weights=pin_weights(out / WEIGHTS)), model)


def seal_package(folder: Path) -> Package:
    """A folder whose package.yaml was written by hand, made a package: golden phantom and recipe identity by this code.

    For networks given as a file, and for packages of an older recipe code. The weights must be those that are pinned.
    """
    told: Description = read_typed(folder / DESCRIPTION, Description)
    recipe = RECIPES[told.recipe.name](**told.recipe.settings)
    told = replace(told, recipe=replace(told.recipe, settings=settings(recipe), identity=identity(recipe)))
    return _sealed(folder, told, read_model(Package(folder, told, "draft")))


def _sealed(out: Path, draft: Description, model: nn.Module) -> Package:
    _save_golden(out / "golden.npz", _predictor(out, draft, model))
    write_description(out, replace(draft, golden=pin(out / "golden.npz")))
    return load_package(out)


def _draft(card: Card, config: dict[str, Any], cases: Sequence[Case]) -> Description:
    """The description before anything was decided on validation cases."""
    _refuse_other_classes(card, config["data"].get("classes") or [])
    task = config["model"]["init_args"]
    return Description(
        format_version=FORMAT_VERSION,
        least_toolkit=__version__,
        card=card,
        network=_network(config),
        recipe=_recipe(config),
        threshold=0.5,
        support=_support([case for case in cases if case.split == "train"]),
        training={},
        weights=Weights(*_UNPINNED),
        golden=File(*_UNPINNED),
        golden_tolerance=GOLDEN_TOLERANCE,
        tile=list(task.get("tile") or []),
        overlap=task.get("overlap"),
    )


def _decided(
    out: Path, draft: Description, model: nn.Module, validation: Sequence[Case]
) -> tuple[Decisions, Description]:
    if draft.card.classes:
        draft = replace(draft, temperature=fitted_temperature(_predictor(out, draft, model), validation))
    decide = decide_boxes if draft.network.gives_boxes else decide_masks
    decided = decide(_predictor(out, draft, model), validation)
    return decided, replace(draft, threshold=decided.threshold, operating_point=decided.operating_point)


def _predictor(out: Path, draft: Description, model: nn.Module) -> Predictor:
    recipe: Recipe = RECIPES[draft.recipe.name](**draft.recipe.settings)
    return Predictor(Package(out, draft, "draft"), model, recipe)


def _refuse_other_classes(card: Card, trained: Sequence[str]) -> None:
    told = [one.name for one in card.classes]
    if told != list(trained):
        raise ConfigError(
            f"card {card.name}, classes: found {told}; the run was trained on {list(trained)}, in this order",
            Reason.CONFIG_INVALID,
        )


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
    told: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["model"]["init_args"]["network"].items()
    }
    return Network(**told)


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
        if is_picture(case):
            continue
        for series in build_index(case.image).series:
            for instance in series.instances:
                for fact, value in instance.passport.items():
                    seen[fact].add(value)
    return {fact: sorted(values) for fact, values in sorted(seen.items())}


def _save_golden(path: Path, predictor: Predictor) -> None:
    """A drawn image and what the network says of it: no person's picture goes into a package."""
    pixels, spacing = _drawn_image(), (1.0, 1.0)
    if predictor.package.description.card.applicability.modality == "MG":
        pixels = _on_black(pixels)
    said = predictor.signal(golden_image(pixels, spacing))
    np.savez_compressed(path, pixels=pixels, expected=np.rint(said * 255).astype(np.uint8), spacing_mm=spacing)


def _drawn_image(side: int = 256) -> Array:
    """Grainy tissue with a dark ellipse in a bright rim, uint8 (side, side): something for every network to look at."""
    rows, columns = np.mgrid[0:side, 0:side] / side - 0.5
    grain = gaussian_filter(np.random.default_rng(3).normal(size=(side, side)), 1.5)
    reach = np.sqrt(((columns + 0.06) / 0.24) ** 2 + ((rows - 0.02) / 0.17) ** 2)
    level = np.where(reach < 0.9, 25.0, np.where(reach < 1.0, 210.0, 110.0))
    return np.asarray(np.clip(np.rint(level * (1 + 1.6 * grain)), 0, 255), dtype=np.uint8)


def _on_black(pixels: Array) -> Array:
    """The part of the picture inside a half disc at its left edge, nothing beside it: as a breast stands on film."""
    side = len(pixels)
    rows, columns = np.mgrid[0:side, 0:side] / side
    return np.where((rows - 0.5) ** 2 + (0.6 * columns) ** 2 < 0.42**2, np.maximum(pixels, 40), 0).astype(np.uint8)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
