"""What a user may say of the trainer, beside what a run folder has of its own: loggers, plugins, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from imaging.errors import ConfigError, Reason


def own_loggers(run: Path) -> list[Logger]:
    """Every row is written at once: a killed run has told what it did."""
    return [
        CSVLogger(run, name="csv", flush_logs_every_n_steps=1),
        TensorBoardLogger(run, name="tensorboard", version=""),
    ]


def scheduler(told: Any) -> list[SLURMEnvironment]:
    """SLURM's processes without Lightning's own way of stopping, in a step of a job where no plugin is told."""
    is_told = any(isinstance(plugin, ClusterEnvironment) for plugin in listed(told))
    return [SLURMEnvironment(auto_requeue=False)] if not is_told and SLURMEnvironment.detect() else []


def listed(told: Any) -> list[Any]:
    """What a trainer option names, in any of the forms that it may have."""
    if told is None or isinstance(told, bool):
        return []
    return list(told) if isinstance(told, list | tuple) else [told]


def refuse_options(told: Mapping[str, Any], run: Path) -> None:
    """Raises ConfigError for a trainer option that a run folder has no room for."""
    plugins = listed(told["plugins"])
    root = told["default_root_dir"]
    checks = (
        ("logger", told["logger"] is False, "loggers, which join the two of the run folder"),
        ("enable_checkpointing", told["enable_checkpointing"] is False, "true: a run is resumed and packaged from it"),
        ("barebones", told["barebones"], "false: a run logs and keeps what it learnt"),
        ("default_root_dir", root is not None and Path(root) != run, "none: --run names the folder"),
        (
            "plugins",
            any(isinstance(plugin, CheckpointIO) for plugin in plugins),
            "any but a CheckpointIO, of which one is",
        ),
    )
    for name, is_refused, allowed in checks:
        if is_refused:
            raise ConfigError(f"trainer.{name}: found {told[name]}; allowed is {allowed}", Reason.CONFIG_INVALID)
    tasks = os.environ.get("SLURM_NTASKS", "1")
    is_job = os.environ.get("SLURM_JOB_NAME", "bash") not in ("bash", "interactive")
    if is_job and tasks != "1" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ConfigError(
            f"SLURM_NTASKS: found {tasks}; allowed is --ntasks-per-node in the job script, equal to trainer.devices, "
            "or one task",
            Reason.CONFIG_INVALID,
        )
