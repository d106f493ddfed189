"""Batches in an order that depends on seed and epoch alone, read ahead by one thread, resumable at any batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from imaging.data.dataset import Batch, SampleDataset, collate
from imaging.errors import ConfigError, Reason


@dataclass(frozen=True)
class Share:
    """Which part of every global batch this process takes."""

    rank: int = 0
    of: int = 1


@dataclass(frozen=True)
class Place:
    """Where a pass starts: its epoch, and the first batch that is still to be given."""

    epoch: int = 0
    batch: int = 0


class BatchLoader:
    """Iterates over a dataset in batches; one pass is one epoch.

    Shuffled (training): every process takes its share of each global batch, and a last incomplete global batch is left
    out unless it is the only one. In order (evaluation): every case exactly once over all processes, none doubled.

    Args:
        dataset: What is read.
        batch_size: Samples per process and step.
        share: This process among all.
        seed: Of the order; None keeps the table's order.
        place: Asked when a pass begins.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        batch_size: int,
        share: Share,
        seed: int | None = None,
        place: Callable[[], Place] = Place,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.share = share
        self.seed = seed
        self._place = place

    def __len__(self) -> int:
        return len(self._numbers(0))

    def __iter__(self) -> Iterator[Batch]:
        start = self._place()
        yield from _ahead(self._batch(numbers) for numbers in self._numbers(start.epoch)[start.batch :])

    def state_dict(self) -> dict[str, int | str]:
        """What a resumed run must find again; the place in the epoch is the trainer's to keep.

        The number of processes may change where they take the same global batches together.
        """
        return {
            "cases": len(self.dataset),
            "identity": self.dataset.identity,
            "batch_size": self.batch_size * self.share.of,
            "seed": self.seed or 0,
        }

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Raises ConfigError when a resumed run has other data than the one that was stopped."""
        own = self.state_dict()
        if other := sorted(name for name in own if state.get(name) != own[name]):
            told = ", ".join(f"{name} {own[name]} (it was {state.get(name)})" for name in other)
            raise ConfigError(
                f"resume: this run has another {told} than the stopped one; resume with the same manifest and "
                "settings, or begin a new run",
                Reason.CONFIG_INVALID,
            )

    def _batch(self, numbers: list[int]) -> Batch:
        return collate([self.dataset[number] for number in numbers])

    def _numbers(self, epoch: int) -> list[list[int]]:
        """The case numbers of each batch of this process."""
        count, size = len(self.dataset), self.batch_size
        if self.seed is None:
            own = list(range(count))[self.share.rank :: self.share.of]
            return [own[k : k + size] for k in range(0, len(own), size)]
        order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(count)
        whole = size * self.share.of
        steps = max(1, count // whole)
        batches = [order[k * whole : (k + 1) * whole] for k in range(steps)]
        # A set smaller than one global batch repeats cases, so that all processes have equally many.
        batches = [np.resize(batch, -(-len(batch) // self.share.of) * self.share.of) for batch in batches]
        return [[int(n) for n in batch[self.share.rank :: self.share.of]] for batch in batches]


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one read while the current one is used. An error in reading is raised here."""
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def offer(item: Batch | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for batch in batches:
                if not offer(batch):
                    return
            offer(None)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that uses the batches, which raises it
            offer(error)

    reader = threading.Thread(target=read, name="batches", daemon=True)
    reader.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        reader.join()
