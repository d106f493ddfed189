"""`train.py`: LightningCLI with a fixed data module and an open task, in a run folder that can be resumed."""

from __future__ import annotations

import errno
import logging
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import DefaultHelpFormatter
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from imaging.commands.data import progress_bar
from imaging.commands.train_options import listed, own_loggers, refuse_options, scheduler
from imaging.commands.train_start import begun, gone_on, start_of
from imaging.data.module import ImagingDataModule
from imaging.errors import ConfigError, ImagingError, Reason
from imaging.harmonise.recipe import normalisation_of, with_reference
from imaging.resources import processors
from imaging.table import remarks_kept
from imaging.tasks.checkpoints import (
    BEST,
    FOLDER,
    KeepBest,
    KeepNewest,
    KeepRandomState,
    KeepRecord,
    WholeCheckpoints,
    load_checkpoint,
    newest_whole,
)
from imaging.tasks.curves import TrainingCurves
from imaging.tasks.fit_resources import refuse_shortage
from imaging.tasks.interruption import InterruptedTrainingError, Interruption
from imaging.tasks.progress import KeepRemarks, TrainingProgress, ValidationPictures
from imaging.tasks.record import TrainingRecord, data_settings, record_in, record_of, task_settings
from imaging.tasks.results import PREDICTIONS, KeepPredictions, as_text, figures_by_site, write_figures
from imaging.tasks.task import Task

_HELP = """\
Train and test one task on one manifest. Files given by -c add up; words on the command line come last.

examples:
  train.py fit -c configs/trainer.yaml -c configs/task/segmentation.yaml -c configs/recipe/ultrasound.yaml \\
      --data.manifest cases/manifest.csv --run runs/first
  train.py fit ... --run runs/first --resume     goes on at the newest whole checkpoint
  train.py fit ... --run runs/first --resume auto
      begins, or goes on where there is something: the line of a job that may be stopped and queued again
  train.py test -c runs/first/config.yaml        figures of every test site, by the best checkpoint: test.csv
  train.py predict -c runs/first/config.yaml     probabilities on the model's grid: predictions/

A run folder holds config.yaml, checkpoints/, csv/ and tensorboard/ logs, curves.svg, previews/ of validation cases, and
remarks.txt where the table or a file left something to assume.
checkpoints/best.ckpt is the best so far and can be packaged at any time (`imaging package`). Every checkpoint records
the cases, sites and settings that it learnt from; what does not fit them is refused.
"""


class _HelpInLines(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Examples keep their lines."""


class _SaveConfig(SaveConfigCallback):
    """config.yaml in the run folder: everything that this run was told, defaults included, once it was accepted."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: what follows may still refuse."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del trainer, pl_module, stage
        run = Path(self.config["run"])
        run.mkdir(parents=True, exist_ok=True)
        beside = run / ".config.yaml.part"
        self.parser.save(self.config, beside, skip_unset=False, overwrite=True)
        beside.replace(run / "config.yaml")


class _TrainCli(LightningCLI):
    """Everything of a run goes into one folder, so that `--resume` needs nothing but its name.

    `remarks` are what is told of the table and its files, while they are read.
    """

    def __init__(self, remarks: Mapping[str, None], **words: Any) -> None:
        self.remarks = remarks
        super().__init__(**words)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=Path, default=Path("runs/run"), help="folder of this run")
        parser.add_argument(
            "--resume",
            type=bool | Literal["auto"],
            default=False,
            nargs="?",
            const=True,
            help="go on where it stopped; auto begins where there is nothing yet, so that one line serves both",
        )
        parser.add_argument(
            "--start_from",
            type=Path | None,
            default=None,
            help="checkpoint whose weights a run begins with, or efficientnet-lite0: features learnt on photographs, "
            "for a network of kind efficient_unet (extra: pretrained)",
        )
        parser.add_argument("--save_every_steps", type=int, default=50, help="steps between two resumable states")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        assert isinstance(self.subcommand, str)
        assert isinstance(self.model, Task)
        chosen = self.config_init[self.subcommand]
        told, run, fitting = chosen["trainer"], Path(chosen["run"]), self.subcommand == "fit"
        refuse_options(told, run)
        own: list[Callback] = [] if told["fast_dev_run"] else [KeepRemarks(run, self.remarks)]
        self.keep_record, self.interruption = KeepRecord(), Interruption()
        if fitting and not told["fast_dev_run"]:
            own += [TrainingProgress(), ValidationPictures(run / "previews"), KeepRandomState(), TrainingCurves(run)]
            own += [self.keep_record, KeepBest(run, self.model)]
            own += [KeepNewest(run, chosen["save_every_steps"], self.interruption)]
        elif self.subcommand == "predict":
            own.append(KeepPredictions(run))
        return super().instantiate_trainer(
            default_root_dir=str(run),
            plugins=[*listed(told["plugins"]), *scheduler(told["plugins"]), WholeCheckpoints(fitting)],
            logger=[*listed(told["logger"]), *(own_loggers(run) if fitting else [])] or False,
            callbacks=[*listed(told["callbacks"]), *own],
            enable_checkpointing=fitting and bool(own),
            **kwargs,
        )

    def before_fit(self) -> None:
        """Nothing of a run folder changes before this is accepted."""
        chosen, data, task = self.config_init["fit"], self.datamodule, self.model
        assert isinstance(data, ImagingDataModule)
        assert isinstance(task, Task)
        chosen["ckpt_path"] = chosen["ckpt_path"] or start_of(Path(chosen["run"]), chosen["resume"])
        if self.trainer.is_global_zero:
            print(f"train.py: reading {data.manifest}", file=sys.stderr, flush=True)
        data.setup("fit")
        self._learn_intensities(data, chosen["ckpt_path"])
        record = record_of(data, task, self.trainer)
        start_from = None if chosen["start_from"] is None else Path(chosen["start_from"])
        if chosen["ckpt_path"] is not None:
            record = gone_on(record, Path(chosen["ckpt_path"]), start_from, task)
        elif start_from is not None:
            record = begun(record, start_from, task)
        if record.start is not None:
            record.start.refuse_seen_sites(data.test_sites, "fit --start_from")
            record.start.refuse_seen_cases(data.split("val"), "fit --start_from, validation", ("train",))
        record.refuse_seen_cases(data.split("test"), "fit, test cases")
        refuse_shortage(self.trainer, task, data, Path(chosen["run"]))
        self.keep_record.record = record
        if not self.trainer.is_global_zero:
            return
        print(f"train.py: {record}", file=sys.stderr, flush=True)
        if data.check_cases and chosen["ckpt_path"] is None:  # a run that goes on has the same files
            task.refuse_data(data, self.trainer.world_size)
            with progress_bar("looking at cases") as show:
                data.look_at_cases(show)

    def _learn_intensities(self, data: ImagingDataModule, checkpoint: str | None) -> None:
        """What the recipe learns of training cases; a run that goes on has the reference that its checkpoint records.

        config.yaml then holds it, so that tests and packages harmonise as the training did.
        """
        if (told := normalisation_of(data.recipe)) is None or not told.learns:
            return
        if checkpoint is None:
            data.learn_intensities()
        else:
            _take_reference(data, Path(checkpoint))
        learnt = normalisation_of(data.recipe)
        assert learnt is not None
        self.config["fit"]["data"]["recipe"]["init_args"]["normalisation"]["reference"] = learnt.reference

    def fit(self, **words: Any) -> None:
        """`Trainer.fit`; a run that is asked to end ends with the status of its signal, and says what is kept."""
        run = Path(self.config_init["fit"]["run"])
        self.interruption.listen()
        try:
            self.trainer.fit(**words)
        except InterruptedTrainingError as stop:
            # Of several processes the first one tells; a launcher would kill it for another's status.
            status = 128 + stop.number if self.trainer.is_global_zero else 0
            raise _stopped(run, self.trainer, str(stop), status) from stop
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # what Lightning makes of it
                raise _stopped(run, self.trainer, "Ctrl-C", 130) from stop
            raise
        finally:
            self.interruption.leave()

    def before_test(self) -> None:
        self._accept("test")

    def before_validate(self) -> None:
        self._accept("validate")

    def before_predict(self) -> None:
        self._accept("predict")

    def after_test(self) -> None:
        self._tell_figures("test", "test")

    def after_validate(self) -> None:
        self._tell_figures("validate", "val")

    def after_predict(self) -> None:
        print(
            f"{Path(self.config_init['predict']['run']) / PREDICTIONS}: probabilities on the model's grid, listed in "
            "cases.csv; findings on the images' own grid are given by a package: imaging package, then imaging infer"
        )

    def _accept(self, subcommand: str) -> None:
        """Take the checkpoint; refuse one that learnt otherwise, or from what it is to be judged by."""
        chosen, data, task = self.config_init[subcommand], self.datamodule, self.model
        assert isinstance(data, ImagingDataModule)
        assert isinstance(task, Task)
        best = Path(chosen["run"]) / FOLDER / BEST
        if chosen["ckpt_path"] is None and not best.is_file():
            raise ConfigError(
                f"{subcommand}: found no {best}; name a finished run by --run, or a checkpoint by --ckpt_path",
                Reason.CONFIG_INVALID,
            )
        chosen["ckpt_path"] = str(chosen["ckpt_path"] or best)
        if "verbose" in chosen:
            chosen["verbose"] = False  # its table names loaders, and ours names sites
        data.setup(subcommand)
        record = _take_reference(data, Path(chosen["ckpt_path"]))
        now = {**data_settings(data), **task_settings(type(task).__name__, dict(task.hparams))}
        record.refuse_other_settings(now, subcommand, LOOKED_AT)
        if subcommand == "validate":
            record.refuse_seen_cases(data.split("val"), subcommand, ("train",))
            return
        record.refuse_seen_sites(data.test_sites, subcommand)
        record.refuse_seen_cases(data.split("test"), subcommand)

    def _tell_figures(self, subcommand: str, stage: str) -> None:
        rows = figures_by_site(self.trainer.callback_metrics, stage)
        if self.trainer.is_global_zero:
            path = Path(self.config_init[subcommand]["run"]) / f"{subcommand}.csv"
            write_figures(rows, path)
            print(f"{as_text(rows)}\n{path}: these figures")


def _take_reference(data: ImagingDataModule, checkpoint: Path) -> TrainingRecord:
    """The record of a checkpoint; the data's recipe normalises by the reference in it from here on."""
    record = record_in(load_checkpoint(checkpoint), f"checkpoint {checkpoint}")
    data.take_recipe(with_reference(data.recipe, record.settings["data.recipe"]))
    return record


# What a checkpoint must have been trained with to be looked at.
LOOKED_AT = ("data.recipe", "data.classes", "data.labels", "data.instances", "model", "model.network")


def _stopped(run: Path, trainer: Trainer, by: str, status: int) -> SystemExit:
    """The end of a run that was asked to end, and one line on what is kept."""
    newest = newest_whole(run)[0]
    best = run / FOLDER / BEST
    kept = [] if newest is None else [f"{newest}, from which --resume auto goes on"]
    kept += [f"{best}, the best so far, to be tested or packaged"] if best.is_file() else []
    if not trainer.is_global_zero:
        return SystemExit(status)
    print(
        f"train.py: stopped by {by} at step {trainer.global_step}; kept: {'; '.join(kept) or 'nothing yet'}",
        file=sys.stderr,
        flush=True,
    )
    return SystemExit(status)


def main(arguments: ArgsType = None) -> LightningCLI:
    """Parse the command line and run `fit`, `validate`, `test` or `predict`; the finished CLI with trainer and model.

    A wrong key or type stops before anything is read. An error of data or configuration ends with status 2.
    """
    # Lightning advertises and repeats itself; what a run says is said by `Progress`.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        # torch takes all processors of the computer where nobody says otherwise.
        torch.set_num_threads(min(torch.get_num_threads(), processors().value))
        with warnings.catch_warnings():
            _quiet()
            return _run(arguments)
    except (ImagingError, ValueError) as error:
        told = _own(error)
        if told is None:
            raise
        print(f"train.py: {told} [{told.reason}]", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt as stop:
        print("train.py: stopped by Ctrl-C before the first step; nothing was changed", file=sys.stderr)
        raise SystemExit(130) from stop
    except OSError as error:
        if error.errno not in _DISK:
            raise
        print(f"train.py: {error.filename or 'run folder'}: {error.strerror}; checkpoints are kept", file=sys.stderr)
        raise SystemExit(2) from error


class _OnlyParsed(_TrainCli):
    """Everything is built, and nothing runs."""

    def _run_subcommand(self, subcommand: str) -> None:
        del subcommand


def check(words: ArgsType) -> None:
    """Build what a command line names, and stop. Raises ConfigError where that is refused; nothing is read."""
    try:
        with warnings.catch_warnings():
            _quiet()
            _run(words, _OnlyParsed)
    except SystemExit as stop:
        raise ConfigError(f"train.py: {_cause(stop)}", Reason.CONFIG_INVALID) from stop


def _cause(stop: SystemExit) -> str:
    """What the parser said before it ended the process."""
    cause = stop.__cause__ or stop.__context__
    return " ".join(str(cause).split()) if cause is not None else f"ended with status {stop.code}"


# A full or read-only disk, which may also be met by the logs.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _run(arguments: ArgsType, kind: type[_TrainCli] = _TrainCli) -> LightningCLI:
    with remarks_kept() as remarks:
        return kind(
            remarks,
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
    # Beside a scheduler's programs a training need not be its job.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used")
    # Figures are those of all processes, gathered case by case.
    warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")
    # Who starts it without srun on a computer that has SLURM means it.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used")
    # An epoch of few steps is no mistake.
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")


def _own(error: BaseException | None) -> ImagingError | None:
    """The error of this toolkit that another one was made from: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, ImagingError):
        error = error.__cause__ or error.__context__
    return error


if __name__ == "__main__":  # a job of a cluster has no train.py at hand
    main()
