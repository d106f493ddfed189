"""A finished training run → a package: best weights in half precision, threshold, passport support, golden phantom."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
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
from imaging.table import clean, likened
from imaging.tasks.checkpoints import BEST, FOLDER, load_checkpoint
from imaging.tasks.record import BATCH, TrainingRecord, recipe_settings, record_in, recorded_case, task_settings
from imaging.thresholds import Decisions, decide_candidates, decide_masks, fitted_temperature

GOLDEN_TOLERANCE = 0.02
WEIGHTS, GOLDEN = "weights.safetensors.gz", "golden.npz"
_UNPINNED = "", ""


def make_package(
    run: Path, card_file: Path, out: Path, locator: Path | None = None, is_forced: bool = False
) -> Package:
    """A package from a LightningCLI run folder (config.yaml, checkpoints/best.ckpt) and a card.

    What it is made of and what it says is that of `drafted_package`. Raises ConfigError as that does, and where nothing
    is found on the validation cases, unless `is_forced`.
    """
    drafted = drafted_package(run, card_file, locator)
    finds = drafted.figures.get("dice", drafted.figures.get("sensitivity", 0.0))
    if not finds > 0 and not is_forced:
        raise ConfigError(
            f"{run}: finds nothing that is there on its validation cases, found {drafted.figures}; allowed is a "
            "sensitivity or Dice above 0. Train longer, look at the cases (imaging data check), or say --force",
            Reason.CONFIG_INVALID,
        )
    if locator is not None:
        _copied(locator, out)
    return write_package(out, drafted.description, drafted.model)


@dataclass(frozen=True)
class DraftedPackage:
    """A package before it is written: its description, its network, and what validation cases show at the threshold."""

    description: Description
    model: nn.Module
    figures: Mapping[str, float]


def drafted_package(run: Path, card_file: Path, locator: Path | None = None) -> DraftedPackage:
    """What a run would become. Nothing is written.

    Threshold, temperature and operating point are those that `imaging.thresholds` chooses on validation cases of
    training sites. `locator` is a package folder, of which a copy goes into this one: it finds the organ in which this
    one looks, on these cases too. What is claimed of sites and cases is the checkpoint's own record. Raises ConfigError
    when the run is not complete, and where its configuration or table is not what the checkpoint learnt from.
    """
    card: Card = read_typed(card_file, Card)
    config = _read_config(run)
    held_out = {clean(site) for site in config["data"].get("test_sites") or []}
    cases = [case for case in read_manifest(Path(config["data"]["manifest"])) if case.site not in held_out]
    stored = load_checkpoint(run / FOLDER / BEST)
    record = record_in(stored, f"{run / FOLDER / BEST}")
    draft = _draft(card, config, cases)
    _refuse_other_training(record, config, cases)
    weights = {name: value.half() for name, value in _weights(stored).items()}
    model = build(draft.network)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    with TemporaryDirectory() as folder:
        if locator is not None:
            _refuse_locator(locator, record)
            draft = replace(draft, locator=_copied(locator, Path(folder)))
        decided, draft = decided_on(Path(folder), draft, model, [case for case in cases if case.split == "val"])
    training = {
        "manifest_sha256": _digest(Path(config["data"]["manifest"])),
        "config_sha256": _digest(run / "config.yaml"),
        "sites": list(record.sites),
        "held_out_sites": list(record.held_out_sites),
        "cases": _counts(record),
        **({} if record.start is None else {"before": _before(record)}),
        **{f"validation_{name}": value for name, value in decided.figures.items()},
    }
    return DraftedPackage(replace(draft, training=training), model, decided.figures)


@dataclass(frozen=True)
class TrainedFor:
    """What a run says a package of it is for: its modality, and the names of its labels and image classes."""

    modality: Modality
    labels: tuple[str, ...]
    classes: tuple[str, ...]


def trained_for(run: Path) -> TrainedFor:
    """What a run was told to learn. Raises ConfigError for a folder that is no run."""
    config = _read_config(run)
    data = config["data"]
    labels = tuple(data.get("labels") or ("lesion",))
    return TrainedFor(find_modality(trained_recipe(config).name), labels, tuple(data.get("classes") or ()))


def _refuse_other_training(record: TrainingRecord, config: dict[str, Any], cases: Sequence[Case]) -> None:
    """Raises ConfigError where the run folder says other than the checkpoint, or claims what its weights contradict."""
    told, task = config["data"], config["model"]
    kind = task["class_path"].rpartition(".")[2]
    network = {"network": parse_network(task["init_args"]["network"]).stated()}
    now = {
        **{f"data.{name}": told[name] for name in ("seed", "instances")},
        "data.recipe": recipe_settings(trained_recipe(config)),
        "data.test_sites": sorted(clean(site) for site in told.get("test_sites") or []),
        "data.classes": told.get("classes") or [],
        "data.labels": told.get("labels") or [],
        **task_settings(kind, {**task["init_args"], **network}),
    }
    record.refuse_other_settings(now, "package", now)
    if told["batch_size"] < 1 or record.settings[BATCH] % told["batch_size"]:
        raise ConfigError(
            f"package: {BATCH}: found {told['batch_size']}; allowed is {record.settings[BATCH]}, or what divides it "
            "among several processes, as the checkpoint records",
            Reason.CONFIG_INVALID,
        )
    record.refuse_other_cases([recorded_case(case) for case in cases if case.split != "test"], "package")
    record.refuse_seen_sites(record.held_out_sites, "package")


def _refuse_locator(locator: Path, record: TrainingRecord) -> None:
    """Raises ConfigError where the package that finds the organ learnt from a site that is said to be held out."""
    known = load_package(locator).description.training.get("sites") or []
    if seen := sorted({likened(site) for site in known} & {likened(site) for site in record.held_out_sites}):
        raise ConfigError(
            f"--locator {locator}: found that it was trained on {seen}; allowed is none of the held-out sites "
            f"{list(record.held_out_sites)}",
            Reason.CONFIG_INVALID,
        )


def _counts(record: TrainingRecord) -> dict[str, int]:
    return {split: sum(case.split == split for case in record.cases) for split in ("train", "val")}


def _before(record: TrainingRecord) -> list[dict[str, Any]]:
    """The trainings whose weights this one began with, the latest first."""
    return [
        {
            "weights_sha256": generation.start_weights,
            "sites": sorted({case.site for case in generation.start.cases}),
            "held_out_sites": list(generation.start.held_out_sites),
            "cases": _counts(generation.start),
            **({"origin": generation.start.origin} if generation.start.origin else {}),
        }
        for generation in record.generations
        if generation.start is not None
    ]


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


def decided_on(
    out: Path, draft: Description, model: nn.Module, validation: Sequence[Case]
) -> tuple[Decisions, Description]:
    """Temperature, threshold and operating point as these cases decide, and the description with them.

    `out` is where a locator lies, if the draft names one.
    """
    if draft.card.classes:
        draft = replace(draft, temperature=1.0)
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
            f"{run}: found no config.yaml with {FOLDER}/{BEST}; allowed is a run of train.py fit after its first "
            "validation",
            Reason.CONFIG_INVALID,
        )
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def trained_recipe(config: Mapping[str, Any]) -> Recipe:
    """The recipe that a training's configuration names."""
    told = config["data"]["recipe"]
    kinds = [modality.recipe() for modality in all_modalities()]
    kind = next(kind for kind in kinds if told["class_path"].endswith(f".{kind.__name__}"))
    return kind(**told.get("init_args", {}))


def _recipe(config: dict[str, Any]) -> RecipeChoice:
    recipe = trained_recipe(config)
    return RecipeChoice(recipe.name, settings(recipe), identity(recipe))


def _weights(stored: Mapping[str, Any]) -> dict[str, torch.Tensor]:
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
