"""Whether a training has the memory and the disk that it needs, said in numbers before its first step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from imaging import resources
from imaging.data.cache import default_folder
from imaging.data.module import ImagingDataModule
from imaging.errors import ConfigError, OutputError, Reason
from imaging.models.build import build
from imaging.tasks.checkpoints import FOLDER, KEPT_STATES
from imaging.tasks.task import Task

_LOG = logging.getLogger(__name__)
_READ_AHEAD = 3  # batches at once: in use, waiting, being read


@dataclass(frozen=True)
class LeastMemory:
    """Bytes that a training cannot do without.

    Args:
        program: What this process holds before the first step.
        weights: Weights, gradients, two moments, and the moving average where there is one.
        batches: Batches in use and read ahead.
        activations: What the network keeps of a batch for its gradients; 0 where the device keeps it.
    """

    program: int
    weights: int
    batches: int
    activations: int

    @property
    def total(self) -> int:
        return self.program + self.weights + self.batches + self.activations

    def __str__(self) -> str:
        parts = ("program", "weights", "batches", "activations")
        return ", ".join(f"{name} {resources.in_words(getattr(self, name))}" for name in parts)


def refuse_shortage(trainer: pl.Trainer, task: Task, data: ImagingDataModule, run: Path) -> None:
    """Raises ConfigError for too little memory and OutputError for a disk without room for the states of a run."""
    sample = data.first_sample()
    shape, copies = tuple(sample.image.shape), 1
    if data.patches is not None:
        shape, copies = (shape[0], *data.patches.shape), data.patches.per_image
    numbers = sum(weights.numel() * weights.element_size() for weights in task.parameters())
    average = any(isinstance(one, WeightAveraging) for one in trainer.callbacks)  # type: ignore[attr-defined]
    on_cpu = trainer.strategy.root_device.type == "cpu"
    least = LeastMemory(
        program=resources.held_memory(),
        weights=numbers * (3 + average) if on_cpu else 0,  # the weights themselves are held already
        batches=_READ_AHEAD * data.batch_size * (sample.image.nbytes + sample.truth.nbytes),
        activations=activations(task, (data.batch_size * copies, *shape)) if on_cpu else 0,
    )
    limit = resources.memory()
    if least.total > limit.value:
        raise ConfigError(
            f"memory: this training needs {resources.in_words(least.total)} or more ({least}); allowed are "
            f"{resources.in_words(limit.value)}, by {limit.by}: lower data.batch_size, or ask for more memory",
            Reason.CONFIG_INVALID,
        )
    _refuse_full_disk(run, numbers * (3 + average))
    _tell_small_cache(data, sample.image.nbytes + sample.truth.nbytes)


def activations(task: Task, shape: tuple[int, ...]) -> int:
    """Bytes that the network keeps for its gradients, without calculating anything: a lower bound of the peak.

    A network that cannot run without numbers counts nothing.
    """
    kept: dict[int, int] = {}
    with torch.device("meta"):
        network: nn.Module = build(task.network).train()
    own = {id(weights) for weights in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            held = network(torch.empty(shape, device="meta"))  # a tensor that is freed would lend its place to another
            del held
    except (RuntimeError, NotImplementedError):
        return 0
    return sum(kept.values())


def _refuse_full_disk(run: Path, state: int) -> None:
    folder = run / FOLDER
    own = sum(path.stat().st_size for path in folder.glob("*.ckpt")) if folder.is_dir() else 0
    needed, free = state * KEPT_STATES, resources.room(folder)
    if free + own < needed:
        raise OutputError(
            f"run folder {run}: found {resources.in_words(free)} free on its disk; allowed are "
            f"{resources.in_words(needed - own)} or more, for {KEPT_STATES} states of {resources.in_words(state)}: "
            "make room, or name another --run",
            Reason.OUTPUT_FAILED,
        )


def _tell_small_cache(data: ImagingDataModule, sample: int) -> None:
    """The cache does without what has no room, and each epoch decodes it again."""
    folder = data.cache or default_folder()
    needed, free = sample * len(data.fitted()), resources.room(folder)
    if needed > free:
        _LOG.warning(
            "cache %s: found %s free; %d samples take %s, so some are made in every epoch: name another --data.cache",
            folder,
            resources.in_words(free),
            len(data.fitted()),
            resources.in_words(needed),
        )
