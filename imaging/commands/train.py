"""`train.py`: LightningCLI with a fixed data module and an open task, in a run folder that can be resumed."""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from jsonargparse import DefaultHelpFormatter
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from imaging.data.module import ImagingDataModule
from imaging.errors import ConfigError, ImagingError, Reason
from imaging.tasks.checkpoints import (
    BEST,
    FOLDER,
    KeepBest,
    KeepNewest,
    KeepRandomState,
    WholeCheckpoints,
    load_checkpoint,
    newest_whole,
)
from imaging.tasks.progress import TrainingProgress, ValidationPictures
from imaging.tasks.task import Task

_HELP = """\
Train and test one task on one manifest. Files given by -c add up; words on the command line come last.

examples:
  train.py fit -c configs/trainer.yaml -c configs/task/segmentation.yaml -c configs/recipe/ultrasound.yaml \\
      --data.manifest cases/manifest.csv --run runs/first
  train.py fit ... --run runs/first --resume     goes on at the newest whole checkpoint
  train.py test -c runs/first/config.yaml        figures of every test site, by the best checkpoint

A run folder holds config.yaml, checkpoints/, csv/ and tensorboard/ logs, and previews/ of validation cases.
"""


class _HelpInLines(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Examples keep their lines."""


class _SaveConfig(SaveConfigCallback):
    """config.yaml in the run folder: everything that this run was told, defaults included."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del pl_module
        if stage != "fit":
            return
        run = Path(self.config["run"])
        run.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, run / "config.yaml", skip_unset=False, overwrite=True)


class _TrainCli(LightningCLI):
    """Everything of a run goes into one folder, so that `--resume` needs nothing but its name."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=Path, default=Path("runs/run"), help="folder of this run")
        parser.add_argument("--resume", type=bool, default=False, nargs="?", const=True, help="go on where it stopped")
        parser.add_argument(
            "--start_from", type=Path | None, default=None, help="checkpoint whose weights a run begins with"
        )
        parser.add_argument("--save_every_steps", type=int, default=50, help="steps between two resumable states")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        assert isinstance(self.subcommand, str)
        assert isinstance(self.model, Task)
        chosen = self.config_init[self.subcommand]
        run, fitting = Path(chosen["run"]), self.subcommand == "fit"
        own: list[Callback] = []
        if fitting and not chosen["trainer"]["fast_dev_run"]:
            own = [TrainingProgress(), ValidationPictures(run / "previews"), KeepRandomState()]
            own += [KeepBest(run, self.model), KeepNewest(run, chosen["save_every_steps"])]
        # Every row is written at once: a killed run has told what it did.
        loggers = [
            CSVLogger(run, name="csv", flush_logs_every_n_steps=1),
            TensorBoardLogger(run, name="tensorboard", version=""),
        ]
        return super().instantiate_trainer(
            default_root_dir=str(run),
            plugins=[WholeCheckpoints(fitting)],
            logger=loggers if fitting else False,
            callbacks=[*(chosen["trainer"]["callbacks"] or []), *own],
            enable_checkpointing=bool(own),
            **kwargs,
        )

    def before_fit(self) -> None:
        chosen = self.config_init["fit"]
        chosen["ckpt_path"] = chosen["ckpt_path"] or _start(Path(chosen["run"]), chosen["resume"])
        if chosen["start_from"] is not None and chosen["ckpt_path"] is None:
            _take_weights(self.model, Path(chosen["start_from"]))

    def before_test(self) -> None:
        self._take_best("test")

    def before_validate(self) -> None:
        self._take_best("validate")

    def before_predict(self) -> None:
        self._take_best("predict")

    def _take_best(self, subcommand: str) -> None:
        chosen = self.config_init[subcommand]
        best = Path(chosen["run"]) / FOLDER / BEST
        if chosen["ckpt_path"] is None:
            if not best.is_file():
                raise ConfigError(
                    f"{subcommand}: found no {best}; name a finished run by --run, or a checkpoint by --ckpt_path",
                    Reason.CONFIG_INVALID,
                )
            chosen["ckpt_path"] = str(best)


def _take_weights(model: LightningModule, checkpoint: Path) -> None:
    """The weights of a finished run as the beginning of this one. Raises ConfigError when the networks differ."""
    try:
        model.load_state_dict(load_checkpoint(checkpoint)["state_dict"])
    except RuntimeError as error:
        raise ConfigError(
            f"--start_from {checkpoint}: holds the weights of another network than model.network describes",
            Reason.CONFIG_INVALID,
        ) from error


def _start(run: Path, resume: bool) -> str | None:
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
    if path is None:
        raise ConfigError(f"{run / FOLDER}: found no whole checkpoint to resume from", Reason.CONFIG_INVALID)
    print(f"train.py: resumed from {path}", file=sys.stderr)
    return str(path)


def main(arguments: ArgsType = None) -> LightningCLI:
    """Parse the command line and run `fit`, `validate`, `test` or `predict`; the finished CLI with trainer and model.

    A wrong key or type stops before anything is read. An error of data or configuration ends with status 2.
    """
    # Lightning advertises and repeats itself; what a run says is said by `Progress`.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            _quiet()
            return _run(arguments)
    except (ImagingError, ValueError) as error:
        told = _own(error)
        if told is None:
            raise
        print(f"train.py: {told} [{told.reason}]", file=sys.stderr)
        raise SystemExit(2) from error


def _run(arguments: ArgsType) -> LightningCLI:
    return _TrainCli(
        model_class=Task,
        datamodule_class=ImagingDataModule,
        subclass_mode_model=True,
        seed_everything_default=1,
        save_config_callback=_SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
        # An abbreviated key is a typo that parses.
        parser_kwargs={"allow_abbrev": False, "description": _HELP, "formatter_class": _HelpInLines},
        args=arguments,
    )


def _quiet() -> None:
    """Warnings that tell a user nothing he could change."""
    # Lightning 2.6.6 calls names that torch and jsonargparse are about to retire.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="pytorch_lightning|jsonargparse")
    # A run that goes on has checkpoints in its folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # An epoch of few steps is no mistake.
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")


def _own(error: BaseException | None) -> ImagingError | None:
    """The error of this toolkit that another one was made from: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, ImagingError):
        error = error.__cause__ or error.__context__
    return error
