"""What a benchmark is asked: cases, arms, designs, seeds, endpoints and selection rule, typed, from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import yaml

from imaging.errors import ConfigError, PackageError, Reason
from imaging.models.networks import PUBLISHED
from imaging.package import typed

DesignKind = Literal[
    "leave_one_site_out",
    "train_test_matrix",
    "in_domain",
    "local_only",
    "pooled",
    "consensus",
    "learning_curve",
]
Rule = Literal["train_val", "leave_one_domain_out", "oracle"]

# What may be said of each design beside its name.
_OPTIONS: Mapping[str, frozenset[str]] = {
    "leave_one_site_out": frozenset(),
    "train_test_matrix": frozenset({"folds"}),
    "in_domain": frozenset({"folds"}),
    "local_only": frozenset({"folds"}),
    "pooled": frozenset({"folds"}),
    "consensus": frozenset(),
    "learning_curve": frozenset({"cases", "mode"}),
}


@dataclass(frozen=True)
class Design:
    """One way to divide the cases into those that are learnt from and those that are tested.

    Args:
        kind: Its name.
        folds: Folds of patients inside a site.
        cases: Of a learning curve, how many cases of the test site are learnt from.
        mode: Of a learning curve, whether weights are tuned on them, or only threshold and temperature chosen.
    """

    kind: DesignKind
    folds: int = 5
    cases: list[int] = field(default_factory=lambda: [0, 5, 10, 20, 50])
    mode: Literal["fine_tune", "recalibrate", "both"] = "both"


@dataclass(frozen=True)
class Arm:
    """One way to train: what differs from the files that all arms share, by the words of the configuration.

    Args:
        name: Letters, digits, `_`, `-` and `.`.
        config: Files of the training's configuration over those of all arms (configs/arm).
        recipe: Over `data.recipe.init_args`.
        augmentation: `data.augmentation`, in place of the recipe's.
        network: Over `model.init_args.network`.
        task: Over `model.init_args`.
        start_from: Checkpoint whose weights the trainings begin with, or `efficientnet-lite0`; null for random ones.
    """

    name: str
    config: list[str] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    start_from: str | None = None


@dataclass(frozen=True)
class Endpoints:
    """Figures that are compared: one decides, the others are told."""

    primary: str = "dice"
    others: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exclusions:
    """What of the manifest stays out, by name."""

    sites: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BenchmarkSpec:
    """A benchmark. Files are absolute, or relative to the folder of the spec.

    Args:
        name: What it is called.
        manifest: The cases of all sites; its splits, where it has any, are not used: the designs make them.
        task: Files of the training's configuration; later ones add to those before.
        recipe: File with `data.recipe`.
        card: The card of the packages that are made: what people decide about a model.
        arms: What is compared.
        designs: How cases are divided.
        trainer: Over `trainer` of the files.
        data: Over `data` of the files, but for what the designs decide.
        reference: Arm that the others are compared with; empty for the first.
        seeds: Of weights, order and variation; one training each.
        endpoints: What is measured.
        selection: Which value of a network may choose among arms and settings.
        validation: Share of the training patients of each site by which checkpoint and threshold are chosen.
        margin: Smallest gain of the primary endpoint that matters.
        across_sites: A patient or picture at two sites: `refuse`, or `group` as one patient who is learnt from only
            where all of those sites are.
        exclude: Sites and cases that stay out.
        synthetic: Whether the images are simulated, which the page then says.
        stated: What only people know, for the reporting checklists, by their keys (intended_use, annotators ...).
    """

    name: str
    manifest: str
    task: list[str]
    recipe: str
    card: str
    arms: list[Arm]
    designs: list[Design]
    trainer: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    reference: str = ""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    endpoints: Endpoints = field(default_factory=Endpoints)
    selection: Rule = "train_val"
    validation: float = 0.2
    margin: float = 0.0
    across_sites: Literal["refuse", "group"] = "refuse"
    exclude: Exclusions = field(default_factory=Exclusions)
    synthetic: bool = False
    stated: dict[str, str] = field(default_factory=dict)

    @property
    def compared_with(self) -> str:
        """The arm that the others are compared with."""
        return self.reference or self.arms[0].name

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)


def read_spec(path: Path) -> BenchmarkSpec:
    """The spec of a YAML file, its files as absolute paths.

    Raises ConfigError naming file and key for what is missing, unknown, of a wrong type or out of range, and for a file
    that is not there.
    """
    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(path, "SPEC", error.strerror, "a YAML file that can be read") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}", Reason.CONFIG_INVALID) from error
    if not isinstance(stated, Mapping):
        raise _wrong(path, "SPEC", type(stated).__name__, "keys with values: " + ", ".join(_names(BenchmarkSpec)))
    _refuse_unknown(path, "", stated, _names(BenchmarkSpec))
    told = dict(stated)
    told["designs"] = [_design(path, one) for one in _listed(path, "designs", told)]
    for number, arm in enumerate(_listed(path, "arms", told)):
        _refuse_unknown(path, f"arms[{number}].", arm, _names(Arm))
    try:
        spec: BenchmarkSpec = typed(_placed(path.parent.resolve(), told), BenchmarkSpec, str(path))
    except PackageError as error:
        raise ConfigError(str(error), Reason.CONFIG_INVALID) from error
    _refuse_values(path, spec)
    return spec


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as one: keys join, values of `above` win, and another class takes no settings of the first."""
    told = dict(below)
    for key, value in above.items():
        mine = told.get(key)
        told[key] = merged(mine, value) if _is_joined(mine, value) else value
    return told


def _is_joined(mine: Any, value: Any) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(mine, Mapping) or not isinstance(value, Mapping):
        return False
    return bool(mine.get("class_path") == value.get("class_path", mine.get("class_path")))


def configuration(spec: BenchmarkSpec, arm: Arm) -> dict[str, Any]:
    """What an arm's trainings are told, but for cases, seed and folders. Raises ConfigError for a file without keys."""
    told: dict[str, Any] = {}
    for name in (*spec.task, spec.recipe):
        told = merged(told, _stated(name))
    told = merged(told, {"trainer": spec.trainer, "data": spec.data})
    for name in arm.config:
        told = merged(told, _stated(name))
    data: dict[str, Any] = {"recipe": {"init_args": arm.recipe}} if arm.recipe else {}
    if arm.augmentation:
        data["augmentation"] = arm.augmentation
    task = arm.task | ({"network": arm.network} if arm.network else {})
    return merged(told, {"data": data, "model": {"init_args": task}})


def _stated(name: str) -> Mapping[str, Any]:
    stated = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    if not isinstance(stated, Mapping):
        raise ConfigError(f"{name}: found no keys; allowed is a configuration of train.py", Reason.CONFIG_INVALID)
    return stated


def _names(kind: type[Any]) -> list[str]:
    return [one.name for one in fields(kind)]


def _listed(path: Path, key: str, told: Mapping[str, Any]) -> Sequence[Any]:
    value = told.get(key)
    if not isinstance(value, list) or not value:
        raise _wrong(path, key, value, "a list of one or more")
    return value


def _design(path: Path, stated: Any) -> dict[str, Any]:
    """A design as its name, or as its name over its options."""
    is_named = isinstance(stated, Mapping) and len(stated) == 1
    kind, options = next(iter(stated.items())) if is_named else (stated, {})
    if kind not in get_args(DesignKind):
        raise _wrong(path, "designs", stated, "one of " + ", ".join(get_args(DesignKind)))
    _refuse_unknown(path, f"designs.{kind}.", options or {}, sorted(_OPTIONS[kind]))
    return {"kind": kind, **(options or {})}


def _refuse_unknown(path: Path, where: str, stated: Any, allowed: Sequence[str]) -> None:
    if not isinstance(stated, Mapping):
        raise _wrong(path, where.rstrip("."), stated, "keys with values: " + ", ".join(allowed))
    for key in stated:
        if key not in allowed:
            raise _wrong(path, f"{where}{key}", "an unknown key", ", ".join(allowed) or "no key")


def _placed(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Every file as an absolute path."""

    def placed(value: Any) -> Any:
        return str((folder / value).resolve()) if isinstance(value, str) and value else value

    files: dict[str, Any] = {key: placed(told[key]) for key in ("manifest", "recipe", "card") if key in told}
    if isinstance(told.get("task"), list):
        files["task"] = [placed(one) for one in told["task"]]
    arms = [dict(arm) for arm in told["arms"]]
    for arm in arms:
        if arm.get("start_from") not in (None, PUBLISHED):
            arm["start_from"] = placed(arm["start_from"])
        if isinstance(arm.get("config"), list):
            arm["config"] = [placed(one) for one in arm["config"]]
    return {**told, **files, "arms": arms}


def _refuse_values(path: Path, spec: BenchmarkSpec) -> None:
    names = [arm.name for arm in spec.arms]
    for name in names:
        if not name or not name.replace("_", "").replace("-", "").replace(".", "").isalnum() or name[0] == ".":
            raise _wrong(path, "arms.name", name, "letters, digits, '_', '-' and '.'")
    for key, values in (("arms.name", names), ("seeds", spec.seeds)):
        if not values or len(set(values)) < len(values):
            raise _wrong(path, key, values, "one or more, each once")
    checks = (
        ("reference", spec.reference, spec.compared_with in names, "one of " + ", ".join(names)),
        ("validation", spec.validation, 0 < spec.validation < 1, "a share above 0 and below 1"),
        (
            "selection",
            spec.selection,
            spec.selection != "oracle",
            "train_val or leave_one_domain_out: no headline rests on oracle, whose value is told beside them anyway",
        ),
        ("margin", spec.margin, spec.margin >= 0, "0 or more"),
        *((f"designs.{one.kind}.folds", one.folds, one.folds >= 2, "2 or more") for one in spec.designs),
        *(
            (f"designs.{one.kind}.cases", one.cases, bool(one.cases) and min(one.cases) >= 0, "numbers of 0 or more")
            for one in spec.designs
        ),
    )
    for key, found, is_right, allowed in checks:
        if not is_right:
            raise _wrong(path, key, found, allowed)
    _refuse_decided(path, spec)
    files = [("manifest", spec.manifest), ("recipe", spec.recipe), ("card", spec.card)]
    files += [("task", name) for name in spec.task]
    files += [(f"arms.{arm.name}.config", name) for arm in spec.arms for name in arm.config]
    begun = [arm for arm in spec.arms if arm.start_from and arm.start_from != PUBLISHED]
    files += [(f"arms.{arm.name}.start_from", str(arm.start_from)) for arm in begun]
    for key, name in files:
        if not Path(name).is_file():
            raise _wrong(path, key, name, "a file that is there")


# What the benchmark itself decides for each training.
_DECIDED = ("manifest", "test_sites", "seed", "cache", "recipe", "augmentation", "check_duplicates")


def _refuse_decided(path: Path, spec: BenchmarkSpec) -> None:
    for key in _DECIDED:
        if key in spec.data:
            raise _wrong(path, f"data.{key}", spec.data[key], "none: recipe, arms, seeds and designs decide it")


def _wrong(path: Path, key: str, found: object, allowed: str) -> ConfigError:
    return ConfigError(f"{path}, {key}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)
