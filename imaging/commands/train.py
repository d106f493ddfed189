"""`train.py`: LightningCLI with a fixed data module and an open task."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningCLI

from imaging.data.module import ImagingDataModule


def main() -> LightningCLI:
    """Parse the command line and run `fit`, `validate`, `test` or `predict`; the finished CLI with trainer and model.

    A wrong key or type stops before anything is read.
    """
    return LightningCLI(
        model_class=pl.LightningModule,
        datamodule_class=ImagingDataModule,
        subclass_mode_model=True,
        seed_everything_default=1,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"allow_abbrev": False},  # an abbreviated key is a typo that happens to parse
    )
