"""`train.py` and `imaging train`: LightningCLI with a fixed data module and an open task."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningCLI

from imaging.data.module import ImagingDataModule


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and run `fit`, `validate`, `test` or `predict`. A wrong key or type stops before anything is read."""
    LightningCLI(
        model_class=pl.LightningModule,
        datamodule_class=ImagingDataModule,
        subclass_mode_model=True,
        seed_everything_default=1,
        save_config_kwargs={"overwrite": True},
        args=list(arguments) if arguments is not None else None,
    )
