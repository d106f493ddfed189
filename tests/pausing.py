"""A training that waits once at a step, so that what happens to it happens there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

LONGEST_S = 300.0


class PauseAtStep(Callback):
    """Ends a step's work, says its process number in `paused` beside the run folder, and waits there for a signal.

    A run whose `paused` is there does not wait again.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        said = Path(trainer.default_root_dir).parent / "paused"
        if trainer.global_step != self.step or not trainer.is_global_zero or said.exists():
            return
        beside = said.with_suffix(".part")
        beside.write_text(str(os.getpid()), encoding="utf-8")
        beside.replace(said)
        listener = signal.getsignal(signal.SIGUSR1).__self__  # type: ignore[union-attr]
        end = time.monotonic() + LONGEST_S
        while not listener.number and time.monotonic() < end:
            time.sleep(0.02)
