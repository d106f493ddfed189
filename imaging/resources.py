"""What this process may use: processors and memory as scheduler, kernel and container allow them, and room on a disk.

A computer of 64 processors may lend a job one of them; who asks for all is slowed down, and who takes more memory than
the job has is killed without a word.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_MEMORY: Final = Path("/proc/meminfo")
_MIB: Final = 1 << 20
# Version 1 says "no limit" by a number near 2^63.
_UNLIMITED: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Limit:
    """A number, and who sets it."""

    value: int
    by: str


def processors(environment: Mapping[str, str] = os.environ, groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> Limit:
    """How many threads can run at once: the least of affinity, SLURM_CPUS_PER_TASK and the group's share, 1 or more."""
    limits = [Limit(len(os.sched_getaffinity(0)), "affinity")]
    if (told := environment.get("SLURM_CPUS_PER_TASK", "")).isdecimal():
        limits.append(Limit(int(told), "SLURM_CPUS_PER_TASK"))
    shares = ((folder, _share(folder)) for folder in _folders(groups, own, "cpu"))
    limits += [Limit(math.ceil(share), f"{folder}") for folder, share in shares if share is not None]
    least = min(limits, key=lambda limit: limit.value)
    return Limit(max(1, least.value), least.by)


def memory(
    environment: Mapping[str, str] = os.environ,
    groups: Path = _GROUPS,
    own: Path = _OWN_GROUPS,
    system: Path = _MEMORY,
) -> Limit:
    """Bytes that this process may hold: the least of the computer's, SLURM's for the job, and the group's."""
    limits = [Limit(total, "the computer") for total in _system_memory(system)]
    if (told := environment.get("SLURM_MEM_PER_NODE", "")).isdecimal() and int(told):
        limits.append(Limit(int(told) * _MIB, "SLURM_MEM_PER_NODE"))
    if (told := environment.get("SLURM_MEM_PER_CPU", "")).isdecimal() and int(told):
        cpus = int(environment.get("SLURM_CPUS_ON_NODE", "1"))
        limits.append(Limit(int(told) * _MIB * cpus, "SLURM_MEM_PER_CPU"))
    names = ("memory.max", "memory.limit_in_bytes")
    files = [folder / name for folder in _folders(groups, own, "memory") for name in names]
    stated = [(file, text) for file in files if (text := _text(file)).isdecimal()]
    limits += [Limit(int(text), f"{file}") for file, text in stated if int(text) < _UNLIMITED]
    return min(limits, key=lambda limit: limit.value)


def held_memory(status: Path = Path("/proc/self/status")) -> int:
    """Bytes that this process holds now."""
    kib = next(line for line in _text(status).splitlines() if line.startswith("VmRSS:")).split()[1]
    return int(kib) * 1024


def room(folder: Path) -> int:
    """Free bytes on the disk where a folder is or will be. Raises OSError where none of its parents can be read."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def in_words(size: float) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _folders(groups: Path, own: Path, kind: str) -> Iterator[Path]:
    """Folders of the groups of this process and of those around it, of either version; the outermost last."""
    for line in _text(own).splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and kind not in controllers.split(","):
            continue
        # Version 1 has a tree for each controller. In a container the name may be that outside of it.
        top = groups / kind if controllers else groups
        place = top / name.lstrip("/")
        yield from (one for one in (place, *place.parents) if one.is_relative_to(top) and one.is_dir())


def _share(folder: Path) -> float | None:
    """Processors that a group may use in all; None without a limit."""
    quota, period = (*_text(folder / "cpu.max").split(), "", "")[:2]
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _system_memory(system: Path) -> list[int]:
    lines = _text(system).splitlines()
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]


def _text(path: Path) -> str:
    """Empty where the kernel has no such file, or not for this account."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
