"""What weights learnt from: cases by content, held-out sites, settings, and what the weights they began with had seen.

Every checkpoint holds its record. Going on, testing and packaging compare with it, so that nothing else has to be
believed: neither a configuration nor a table that was edited meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from imaging.data.manifest import Case
from imaging.data.module import ImagingDataModule
from imaging.errors import ConfigError, Reason
from imaging.harmonise.recipe import Recipe, identity, settings
from imaging.table import likened
from imaging.tasks.task import Task

KEY = "record"  # of a checkpoint
BATCH = "data.batch_size"  # in a record: of all processes together, who may be more or fewer when it goes on
_NAMED = 8  # differences that one error names


@dataclass(frozen=True, slots=True)
class RecordedCase:
    """One case that weights were trained or chosen on. `image`, `truth` and `further` are sha256 of contents.

    `further` sums up what else is read: an exam's other volumes, the organ's mask and the spacing that the table says.
    """

    case_id: str
    patient_id: str
    site: str
    split: str
    label: str
    image: str
    truth: str
    further: str


@dataclass(frozen=True)
class TrainingRecord:
    """One training, and through `start` those before it.

    Args:
        cases: All training and validation cases, in the table's order.
        held_out_sites: Sites that were kept from it.
        settings: What a training that goes on must have again, by the key of the configuration, as plain values.
        changeable: What may differ when it goes on, and is told.
        start: The record of the weights that it began with; None for random ones.
        start_weights: sha256 of those weights, empty for random ones.
        origin: Of published weights, which learnt from no case of this toolkit: what they are, and their terms.
    """

    cases: tuple[RecordedCase, ...]
    held_out_sites: tuple[str, ...]
    settings: Mapping[str, Any]
    changeable: Mapping[str, Any]
    start: TrainingRecord | None = None
    start_weights: str = ""
    origin: str = ""

    @property
    def generations(self) -> Iterator[TrainingRecord]:
        """This training, then those before it."""
        yield self
        if self.start is not None:
            yield from self.start.generations

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site that these weights or those before them were trained or chosen on."""
        return tuple(sorted({case.site for one in self.generations for case in one.cases}))

    def __str__(self) -> str:
        """Cases, sites and held-out sites in a line."""
        counts = [sum(case.split == split for case in self.cases) for split in ("train", "val")]
        sites = sorted({case.site for case in self.cases})
        before = ""
        if self.start is not None:
            origin = ", ".join(start.origin for start in self.start.generations if start.origin)
            before = f"; the weights it began with saw {', '.join(self.start.sites) or 'no case'}"
            before += f" and came from {origin}" if origin else ""
        held_out = ", ".join(self.held_out_sites) or "none"
        return (
            f"{counts[0]} training and {counts[1]} validation cases of sites {', '.join(sites)}; "
            f"held out: {held_out}{before}"
        )

    def stated(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        start = None if self.start is None else self.start.stated()
        told = {name: getattr(self, name) for name in ("settings", "changeable", "start_weights", "origin")}
        told = {name: dict(value) if isinstance(value, Mapping) else value for name, value in told.items()}
        cases = [list(astuple(case)) for case in self.cases]
        return {**told, "cases": cases, "held_out_sites": list(self.held_out_sites), "start": start}

    def refuse_other_cases(self, cases: Sequence[RecordedCase], what: str) -> None:
        """Raises ConfigError where these are not the cases that were trained and validated on, naming the first."""
        known, now = ({case.case_id: case for case in of} for of in (self.cases, cases))
        told = [f"case '{name}': found none; the training had it" for name in known.keys() - now.keys()]
        told += [f"case '{name}': found one that the training did not have" for name in now.keys() - known.keys()]
        for name in known.keys() & now.keys():
            told += [
                f"case '{name}', {field.name}: found {_short(found)}; allowed is {_short(allowed)}"
                for field in fields(RecordedCase)
                if (found := getattr(now[name], field.name)) != (allowed := getattr(known[name], field.name))
            ]
        if not told and [case.case_id for case in cases] != [case.case_id for case in self.cases]:
            told = ["found its cases in another order; allowed is that of the training"]
        if told:
            raise ConfigError(f"{what}: data.manifest, {_some(sorted(told))}, as the checkpoint records", _INVALID)

    def refuse_other_settings(self, now: Mapping[str, Any], what: str, keys: Collection[str] | None = None) -> None:
        """Raises ConfigError naming each setting that is not the record's: all of them, or those of `keys`."""
        told = [
            f"{key}: found {_short(now.get(key))}; allowed is {_short(self.settings.get(key))}"
            for key in sorted({*self.settings, *now} if keys is None else keys)
            if now.get(key) != self.settings.get(key)
        ]
        if told:
            raise ConfigError(f"{what}: {_some(told)}, as the checkpoint records; or begin a new run", _INVALID)

    def refuse_seen_sites(self, sites: Iterable[str], what: str) -> None:
        """Raises ConfigError where a site that is to be held out was trained on, by this training or one before."""
        known = {likened(site): site for site in self.sites}
        if seen := sorted({known[likened(site)] for site in sites if likened(site) in known}):
            raise ConfigError(
                f"{what}: data.test_sites: found {seen}, which these weights or those they began with were trained on; "
                f"allowed are sites other than {list(self.sites)}",
                _INVALID,
            )

    def refuse_seen_cases(self, cases: Iterable[Case], what: str, splits: Collection[str] = ("train", "val")) -> None:
        """Raises ConfigError where a case has the picture or the patient of one seen in `splits`, under any name."""
        seen = [case for one in self.generations for case in one.cases if case.split in splits]
        pictures = {case.image: case for case in seen}
        patients = {(likened(case.site), case.patient_id): case for case in seen}
        for case in cases:
            met = patients.get((likened(case.site), case.patient_id)) or pictures.get(digest(case.image))
            if met is not None:
                raise ConfigError(
                    f"{what}: case '{case.case_id}' of site '{case.site}': found the picture or the patient of case "
                    f"'{met.case_id}' of site '{met.site}', which these weights or those they began with had as "
                    f"'{met.split}'; allowed are others",
                    _INVALID,
                )


_INVALID = Reason.CONFIG_INVALID


def record_of(data: ImagingDataModule, task: Task, trainer: pl.Trainer) -> TrainingRecord:
    """The record of a training that begins with random weights."""
    recorded = [recorded_case(case) for case in data.fitted()]
    free = ("max_epochs", "max_steps", "precision", "world_size")
    fixed = ("gradient_clip_val", "accumulate_grad_batches", "limit_train_batches")
    return TrainingRecord(
        cases=tuple(recorded),
        held_out_sites=tuple(sorted(data.test_sites)),
        settings={
            **data_settings(data),
            BATCH: data.batch_size * trainer.world_size,
            **task_settings(type(task).__name__, dict(task.hparams)),
            **{f"trainer.{name}": _plain(getattr(trainer, name)) for name in fixed},
        },
        changeable={f"trainer.{name}": _plain(getattr(trainer, name)) for name in free},
    )


def published_record(origin: str) -> TrainingRecord:
    """Of weights that were published, and learnt from nothing that a manifest names."""
    return TrainingRecord(cases=(), held_out_sites=(), settings={}, changeable={}, origin=origin)


def data_settings(data: ImagingDataModule) -> dict[str, Any]:
    """What of the data module decides about what is learnt, but for the cases."""
    names = ("batch_size", "classes", "repeats", "augmentation", "seed", "instances", "patches", "labels")
    told = {f"data.{name}": _plain(getattr(data, name)) for name in names}
    return {**told, "data.recipe": recipe_settings(data.recipe), "data.test_sites": sorted(data.test_sites)}


def recipe_settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe by name, settings and identity."""
    return {"name": recipe.name, **_plain(settings(recipe)), "identity": identity(recipe)}


def task_settings(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a task, as they are compared."""
    return {"model": kind, **{f"model.{name}": _plain(value) for name, value in told.items() if name[0] != "_"}}


def recorded_case(case: Case) -> RecordedCase:
    """A case with the digests of its files. Raises ConfigError for a file that cannot be read."""
    beside = [(role, digest(path)) for role, path in sorted(case.beside.items())]
    organ = None if case.organ is None else digest(case.organ)
    further = json.dumps([case.spacing_mm, beside, organ])
    return RecordedCase(
        case.case_id,
        case.patient_id,
        case.site,
        case.split,
        case.label,
        image=digest(case.image),
        truth="" if case.truth is None else digest(case.truth),
        further=hashlib.sha256(further.encode()).hexdigest(),
    )


def digest(path: Path) -> str:
    """sha256 of a file, or of all files in a folder with their names."""
    try:
        if not path.is_dir():
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        files = sorted(one for one in path.rglob("*") if one.is_file())
        told = [(file.relative_to(path).as_posix(), digest(file)) for file in files]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; allowed is a file that can be read", _INVALID) from error
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes, types and values of weights, in whatever file they are."""
    told = hashlib.sha256()
    for name, value in sorted(weights.items()):
        told.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        told.update(value.detach().cpu().contiguous().numpy().tobytes())
    return told.hexdigest()


def record_in(checkpoint: Mapping[str, Any], name: str) -> TrainingRecord:
    """The record that a checkpoint holds. Raises ConfigError where it has none."""
    stated = checkpoint.get(KEY)
    if stated is None:
        raise ConfigError(
            f"{name}: found no record of what its weights learnt from, so an older version made it; allowed are "
            "checkpoints of this version: train anew",
            _INVALID,
        )
    return _parsed(stated)


def _parsed(stated: Mapping[str, Any]) -> TrainingRecord:
    return TrainingRecord(
        cases=tuple(RecordedCase(*case) for case in stated["cases"]),
        held_out_sites=tuple(stated["held_out_sites"]),
        settings=stated["settings"],
        changeable=stated["changeable"],
        start=None if stated["start"] is None else _parsed(stated["start"]),
        start_weights=stated["start_weights"],
        origin=stated.get("origin", ""),
    )


def _plain(value: Any) -> Any:
    """The value as JSON has it: equal whether it came from a file or from an object."""
    return json.loads(json.dumps(value, default=_as_json, sort_keys=True))


def _as_json(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:397]}..."


def _some(told: Sequence[str]) -> str:
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return "; ".join(told[:_NAMED]) + more
