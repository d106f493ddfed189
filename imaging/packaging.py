"""A finished training run → a package: best weights in half precision, threshold, passport support, golden phantom."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save
from torch import nn

from imaging import __version__
from imaging.data.dataset import is_picture
from imaging.data.manifest import Case, read_manifest
from imaging.dicom.index import build_index
from imaging.errors import ConfigError, Reason
from imaging.golden import read_golden, save_golden
from imaging.harmonise.recipe import Recipe, identity, settings
from imaging.image import Image
from imaging.modalities import Modality, all_modalities, find_modality
from imaging.models.build import build
from imaging.models.networks import parse_network
from imaging.package import (
    DESCRIPTION,
    FORMAT_VERSION,
    Card,
    Description,
    Package,
    PinnedFile,
    RecipeChoice,
    Weights,
    load_package,
    pin,
    pin_weights,
    read_typed,
    write_description,
)
from imaging.predictor import Predictor, load_predictor, read_model
from imaging.tasks.checkpoints import BEST, FOLDER, load_checkpoint
from imaging.thresholds import Decisions, decide_candidates, decide_masks, fitted_temperature

GOLDEN_TOLERANCE = 0.02
WEIGHTS, GOLDEN = "weights.safetensors.gz", "golden.npz"
_UNPINNED = "", ""


def make_package(run: Path, card_file: Path, out: Path, locator: Path | None = None) -> Package:
    """A package from a LightningCLI run folder (config.yaml, checkpoints/best.ckpt) and a card.

    Threshold, temperature and operating point are those that `imaging.thresholds` chooses on validation cases of
    training sites. `locator` is a package folder, of which a copy goes into this one: it finds the organ in which this
    one looks, on these cases too. Raises ConfigError when the run is not complete.
    """
    card: Card = read_typed(card_file, Card)
    config = _read_config(run)
    held_out = set(config["data"].get("test_sites") or [])
    cases = [case for case in read_manifest(Path(config["data"]["manifest"])) if case.site not in held_out]
    weights = {name: value.half() for name, value in _best_weights(run).items()}
    draft = replace(_draft(card, config, cases), locator=None if locator is None else _copied(locator, out))
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

    For networks given as a file, and for packages of an older recipe code. The weights must be those that are pinned. A
    golden phantom that is there keeps its image: a network may say nothing of the one that is drawn here.
    """
    told: Description = read_typed(folder / DESCRIPTION, Description)
    recipe = find_modality(told.recipe.name).recipe()(**told.recipe.settings)
    told = replace(told, recipe=replace(told.recipe, settings=settings(recipe), identity=identity(recipe)))
    phantom = read_golden(folder / GOLDEN)[0] if (folder / GOLDEN).is_file() else None
    return _sealed(folder, told, read_model(Package(folder, told, "draft")), phantom)


def _sealed(out: Path, draft: Description, model: nn.Module, phantom: Image | None = None) -> Package:
    golden = out / GOLDEN
    image = find_modality(draft.recipe.name).golden() if phantom is None else phantom
    save_golden(golden, image, _predictor(out, draft, model).signal(image))
    write_description(out, replace(draft, golden=pin(golden)))
    return load_package(out)


def _draft(card: Card, config: dict[str, Any], cases: Sequence[Case]) -> Description:
    """The description before anything was decided on validation cases."""
    _refuse_other_names(card.name, "classes", [c.name for c in card.classes], config["data"].get("classes") or [])
    if trained := config["data"].get("labels"):
        _refuse_other_names(card.name, "labels", [label.name for label in card.labels], trained)
    task, recipe = config["model"]["init_args"], _recipe(config)
    return Description(
        format_version=FORMAT_VERSION,
        least_toolkit=__version__,
        card=card,
        network=parse_network(config["model"]["init_args"]["network"]),
        recipe=recipe,
        threshold=0.5,
        support=_support([case for case in cases if case.split == "train"], find_modality(recipe.name)),
        training={},
        weights=Weights(*_UNPINNED),
        golden=PinnedFile(*_UNPINNED),
        golden_tolerance=GOLDEN_TOLERANCE,
        tile=list(task.get("tile") or []),
        overlap=task.get("overlap"),
    )


def _decided(
    out: Path, draft: Description, model: nn.Module, validation: Sequence[Case]
) -> tuple[Decisions, Description]:
    if draft.card.classes:
        draft = replace(draft, temperature=fitted_temperature(_predictor(out, draft, model), validation))
    by_lesion = "boxes" in draft.network.gives or draft.card.parts == "candidates"
    decide = decide_candidates if by_lesion else decide_masks
    decided = decide(_predictor(out, draft, model), validation)
    return decided, replace(draft, threshold=decided.threshold, operating_point=decided.operating_point)


def _predictor(out: Path, draft: Description, model: nn.Module) -> Predictor:
    recipe: Recipe = find_modality(draft.recipe.name).recipe()(**draft.recipe.settings)
    locator = None if draft.locator is None else load_predictor(load_package(out / draft.locator.name))
    return Predictor(Package(out, draft, "draft"), model, recipe, locator=locator)


def _refuse_other_names(card: str, field: str, told: list[str], trained: Sequence[str]) -> None:
    if told != list(trained):
        raise ConfigError(
            f"card {card}, {field}: found {told}; the run was trained on {list(trained)}, in this order",
            Reason.CONFIG_INVALID,
        )


def _copied(locator: Path, out: Path) -> PinnedFile:
    """A copy of the package that finds the organ, inside the new one; verified before and after."""
    name = load_package(locator).name
    shutil.copytree(locator, out / name, dirs_exist_ok=True)
    load_package(out / name)
    return PinnedFile(name, pin(out / name / DESCRIPTION).sha256)


def _read_config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    if not path.is_file() or not (run / FOLDER / BEST).is_file():
        raise ConfigError(
            f"{run}: not a finished run; needed are config.yaml and {FOLDER}/{BEST}, as train.py fit leaves them",
            Reason.CONFIG_INVALID,
        )
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def _recipe(config: dict[str, Any]) -> RecipeChoice:
    told = config["data"]["recipe"]
    kinds = [modality.recipe() for modality in all_modalities()]
    kind = next(kind for kind in kinds if told["class_path"].endswith(f".{kind.__name__}"))
    recipe = kind(**told.get("init_args", {}))
    return RecipeChoice(kind.name, settings(recipe), identity(recipe))


def _best_weights(run: Path) -> dict[str, torch.Tensor]:
    stored = load_checkpoint(run / FOLDER / BEST)
    return {
        name.removeprefix("model."): value for name, value in stored["state_dict"].items() if name.startswith("model.")
    }


def _support(cases: Sequence[Case], modality: Modality) -> dict[str, list[str]]:
    """Every value of every passport fact of the images that the modality selects in training cases."""
    seen: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if is_picture(case):
            continue
        group = modality.select(build_index(case.image).series, None).group
        for ref in group.images() if group else ():
            for fact, value in ref.instance.passport.items():
                seen[fact].add(value)
    return {fact: sorted(values) for fact, values in sorted(seen.items())}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
