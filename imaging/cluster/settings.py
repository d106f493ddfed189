"""`cluster.yaml`: what a job asks of the cluster, as a typed record."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from imaging.errors import ConfigError, Reason

_TIME = re.compile(r"(\d+-)?\d{1,2}(:\d{2}){0,2}|\d+(:\d{2}){0,2}")


@dataclass(frozen=True)
class Cluster:
    """What every job of an array is given.

    Args:
        partition: Where it runs; None is the cluster's default.
        time: Longest time of one try, as SLURM writes it: minutes, hours:minutes:seconds, days-hours.
        nodes: Computers for each job.
        gpus: On each of them.
        processes: On each node; None is one for each GPU, and one without.
        cpus: Processors for each process.
        memory_gb: Of each node, in GiB; None leaves it to the cluster.
        notice_s: Seconds before the end of the time at which a training is told to keep its state.
        at_once: Jobs that may run at the same time; None leaves it to the cluster.
        tries: How often in a row a job that died and did not say why is put back in the queue.
        setup: Lines of the shell before the job: modules, the environment, variables.
        options: Further options of sbatch, as `--account=radiology`.
    """

    partition: str | None = None
    time: str = "24:00:00"
    nodes: int = 1
    gpus: int = 0
    processes: int | None = None
    cpus: int = 1
    memory_gb: float | None = None
    notice_s: int = 120
    at_once: int | None = None
    tries: int = 3
    setup: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        least = {"nodes": 1, "gpus": 0, "processes": 1, "cpus": 1, "notice_s": 1, "at_once": 1, "tries": 0}
        for name, bound in least.items():
            if (found := getattr(self, name)) is not None and found < bound:
                raise _wrong(name, found, f"{bound} or more")
        if self.memory_gb is not None and not (math.isfinite(self.memory_gb) and self.memory_gb > 0):
            raise _wrong("memory_gb", self.memory_gb, "a number above 0")
        if not _TIME.fullmatch(self.time):
            raise _wrong("time", self.time, "minutes, hours:minutes:seconds or days-hours, in quotes")
        if self.partition is not None and not re.fullmatch(r"[\w.,-]+", self.partition):
            raise _wrong("partition", self.partition, "names of partitions, separated by commas")
        for line in (*self.setup, *self.options):
            if "\n" in line:
                raise _wrong("setup or options", line, "one line each")
        if bad := [option for option in self.options if not option.startswith("-")]:
            raise _wrong("options", bad[0], "options of sbatch, as --account=NAME")

    @property
    def per_node(self) -> int:
        """Processes on each node."""
        return self.processes or max(1, self.gpus)

    @property
    def memory_mb(self) -> int | None:
        return None if self.memory_gb is None else round(self.memory_gb * 1024)


def read_cluster(path: Path) -> Cluster:
    """The file as a record. Raises ConfigError naming a missing, unknown or wrong key."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Cluster, "top")
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        cluster: Cluster = parser.instantiate(parser.parse_object({"top": told}))["top"]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; allowed is a readable file", Reason.CONFIG_INVALID) from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", error.reason) from error
    except (ArgumentError, yaml.YAMLError, TypeError, ValueError) as error:
        detail = " ".join(str(error).replace("top.", "").split())
        raise ConfigError(f"{path}: {detail}", Reason.CONFIG_INVALID) from error
    return cluster


def _wrong(name: str, found: object, allowed: str) -> ConfigError:
    return ConfigError(f"{name}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)
