"""How a training begins: anew, with the weights of another one, or where it was stopped; told on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor

from imaging.errors import ConfigError, Reason
from imaging.models.networks import PUBLISHED, EfficientUNetSettings
from imaging.tasks.checkpoints import FOLDER, load_checkpoint, newest_whole
from imaging.tasks.record import BATCH, TrainingRecord, published_record, record_in, weights_digest
from imaging.tasks.task import Task


def start_of(run: Path, resume: bool | str) -> str | None:
    """The checkpoint to go on from, None for a new run. Raises ConfigError where that is not what was asked for."""
    if not resume:
        if any((run / FOLDER).glob("*.ckpt")):
            raise ConfigError(
                f"{run / FOLDER}: found checkpoints of an earlier run; say --resume to go on, or name another --run",
                Reason.OUTPUT_IN_USE,
            )
        return None
    path, damaged = newest_whole(run)
    for one in damaged:
        print(f"train.py: {one} is damaged and was passed over", file=sys.stderr)
    if path is None and resume == "auto" and not damaged:
        return None
    if path is None:
        raise ConfigError(
            f"{run / FOLDER}: found no whole checkpoint to resume from; --resume auto begins where there is none",
            Reason.CONFIG_INVALID,
        )
    print(f"train.py: resumed from {path}", file=sys.stderr)
    return str(path)


def gone_on(record: TrainingRecord, checkpoint: Path, start_from: Path | None, task: Task) -> TrainingRecord:
    """The record of a training that goes on. Raises ConfigError where it would go on with anything else."""
    before = record_in(load_checkpoint(checkpoint), f"checkpoint {checkpoint}")
    _refuse_other_batch(record, before)
    before.refuse_other_settings(record.settings, "resume")
    before.refuse_other_cases(record.cases, "resume")
    if start_from is not None:
        found = weights_digest(_start(start_from, task)[0])
        if found != before.start_weights:
            raise ConfigError(
                f"resume: --start_from {start_from}: found weights {found[:16]}; allowed are "
                f"{before.start_weights[:16] or 'none'}, with which this run began, as the checkpoint records",
                Reason.CONFIG_INVALID,
            )
    for key, value in record.changeable.items():
        if value != before.changeable.get(key):
            told = ", and the learning rate falls over the new length from here on" if "max" in key else ""
            print(f"train.py: {key} is {value}; it was {before.changeable.get(key)}{told}", file=sys.stderr)
    return replace(record, start=before.start, start_weights=before.start_weights)


def _refuse_other_batch(record: TrainingRecord, before: TrainingRecord) -> None:
    """Raises ConfigError, naming what to set, where a step would not have as many images as before."""
    found, allowed, processes = record.settings[BATCH], before.settings[BATCH], record.changeable["trainer.world_size"]
    if found == allowed:
        return
    of = f" in each of {processes} processes" if processes > 1 else ""
    if allowed % processes:
        told = f"a number of processes that divides the {allowed} images of a step"
    else:
        told = f"{allowed // processes}{of}, so that a step has {allowed} images"
    raise ConfigError(
        f"resume: {BATCH}: found {found // processes}{of}; allowed is {told}, as the checkpoint records; or begin a "
        "new run",
        Reason.CONFIG_INVALID,
    )


def begun(record: TrainingRecord, start_from: Path, task: Task) -> TrainingRecord:
    """The record of a training that begins with those weights, which the task takes."""
    weights, before = _start(start_from, task)
    _take_weights(task, start_from, weights, is_part=bool(before.origin))
    for key in ("data.recipe", "data.classes", "data.labels"):
        if before.settings and (found := record.settings[key]) != (was := before.settings[key]):
            print(f"train.py: {key} is {found}; the weights it begins with were trained with {was}", file=sys.stderr)
    return replace(record, start=before, start_weights=weights_digest(weights))


def _start(start_from: Path, task: Task) -> tuple[Mapping[str, Tensor], TrainingRecord]:
    """The weights of a checkpoint, or published ones by their name, and what they learnt from."""
    if str(start_from) != PUBLISHED:
        content = load_checkpoint(start_from)
        return content["state_dict"], record_in(content, f"--start_from {start_from}")
    if not isinstance(task.network, EfficientUNetSettings):
        raise ConfigError(
            f"--start_from {PUBLISHED}: found a network of kind {task.network.kind}; allowed is "
            f"{EfficientUNetSettings.kind}",
            Reason.CONFIG_INVALID,
        )
    from imaging.models.efficientnet import ORIGIN, published_weights

    weights = published_weights(task.network)
    return {f"model.{name}": value for name, value in weights.items()}, published_record(ORIGIN)


def _take_weights(model: LightningModule, start_from: Path, weights: Mapping[str, Any], is_part: bool) -> None:
    """The weights of a finished run, or part of a network's, as the beginning. ConfigError when the networks differ."""
    try:
        unknown = model.load_state_dict(weights, strict=not is_part).unexpected_keys
    except RuntimeError as error:
        raise ConfigError(
            f"--start_from {start_from}: holds the weights of another network than model.network describes",
            Reason.CONFIG_INVALID,
        ) from error
    assert not unknown, unknown
