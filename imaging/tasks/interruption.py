"""A training that is asked to end: the signal is noted when it comes and read between two steps, where nothing is lost.

Lightning's own way saves inside the signal's handler, wherever the program just is, and talks to other processes there.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Final

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer

# What schedulers send before they end a job, or when a job of higher priority takes its place.
ASKING: Final = (signal.SIGTERM, signal.SIGUSR1)


class InterruptedTrainingError(Exception):
    """The training has ended because it was asked to, and its newest state is on disk."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruption:
    """The signal that asked this training to end, if any.

    `listen` may be called again when another library has put its own handlers there.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}
        self._group: dist.ProcessGroup | None = None

    def listen(self) -> None:
        """Note these signals from now on."""
        for number in ASKING:
            before = signal.signal(number, self._note)
            self._before.setdefault(number, before)

    def leave(self) -> None:
        """Let the signals do what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def join(self, trainer: Trainer) -> None:
        """Make the way by which several processes agree; all of them call it once, before the first step."""
        if trainer.world_size > 1:
            # Beside the device's own library, whose answers would have to be waited for.
            self._group = dist.new_group(backend="gloo")

    def asked(self, trainer: Trainer) -> int:
        """The signal that any process was sent, 0 for none; all processes call it at the same step."""
        if trainer.world_size == 1:
            return self.number
        number = torch.tensor([self.number])
        dist.all_reduce(number, dist.ReduceOp.MAX, group=self._group)
        return int(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
