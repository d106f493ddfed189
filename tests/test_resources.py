"""What a process may use, by files of the kernel and words of the scheduler; and what a training says of too little."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from imaging import resources
from imaging.commands.train import main
from imaging.resources import Limit, memory, processors
from imaging.tasks.fit_resources import activations
from imaging.tasks.segmentation import SegmentationTask
from tests.test_interruption import line
from tests.test_training import refused
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]
GIB = 1 << 30


def kernel(folder: Path, **files: str) -> tuple[Path, Path, Path]:
    """Groups, own groups and memory of a computer of 64 GiB; names of files with `__` for a slash."""
    groups = folder / "cgroup"
    for name, text in files.items():
        place = groups / name.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n", encoding="utf-8")
    groups.mkdir(exist_ok=True)
    (folder / "own").write_text("4:cpu,cpuacct:/job\n5:memory:/job\n0::/slurm/job_1\n", encoding="utf-8")
    (folder / "meminfo").write_text(f"MemTotal:       {64 * GIB // 1024} kB\nMemFree: 1 kB\n", encoding="utf-8")
    return groups, folder / "own", folder / "meminfo"


def test_processors_are_the_least_of_all_that_limit_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    groups, own, _ = kernel(tmp_path)
    assert processors({}, groups, own) == Limit(16, "affinity")
    assert processors({"SLURM_CPUS_PER_TASK": "4"}, groups, own) == Limit(4, "SLURM_CPUS_PER_TASK")
    groups, own, _ = kernel(tmp_path, slurm__cpu_dot_max="250000 100000")  # of the group around: two and a half
    assert processors({"SLURM_CPUS_PER_TASK": "4"}, groups, own) == Limit(3, f"{groups / 'slurm'}")
    kernel(tmp_path, slurm__job_1__cpu_dot_max="max 100000")
    assert processors({}, groups, own).value == 3


def test_processors_of_the_older_groups(tmp_path: Path) -> None:
    groups, own, _ = kernel(tmp_path, cpu__job__cpu_dot_cfs_quota_us="50000", cpu__job__cpu_dot_cfs_period_us="100000")
    assert processors({}, groups, own) == Limit(1, f"{groups / 'cpu/job'}")
    kernel(tmp_path, cpu__job__cpu_dot_cfs_quota_us="-1")
    assert processors({}, groups, own).by == "affinity"


def test_memory_is_the_least_of_all_that_limit_it(tmp_path: Path) -> None:
    three = kernel(tmp_path)
    assert memory({}, *three) == Limit(64 * GIB, "the computer")
    assert memory({"SLURM_MEM_PER_NODE": "8192"}, *three) == Limit(8 * GIB, "SLURM_MEM_PER_NODE")
    assert memory({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "2"}, *three).value == 2 * GIB
    assert memory({"SLURM_MEM_PER_NODE": "0"}, *three).value == 64 * GIB  # all of it
    three = kernel(tmp_path, slurm__job_1__memory_dot_max="max", slurm__memory_dot_max=str(3 * GIB))
    assert memory({}, *three) == Limit(3 * GIB, f"{three[0] / 'slurm/memory.max'}")
    three = kernel(tmp_path, memory__job__memory_dot_limit_in_bytes=str(2 * GIB))
    assert memory({}, *three).value == 2 * GIB
    kernel(tmp_path, memory__job__memory_dot_limit_in_bytes="9223372036854771712")
    assert memory({}, *three).value == 3 * GIB


def test_what_is_kept_for_gradients_is_that_of_a_real_step() -> None:
    """Counted without numbers, against what the graph of a real step holds."""
    task = SegmentationTask({"kind": "dyn_unet", "features": [4, 4, 4], "stem": 2})
    held: dict[int, torch.Tensor] = {}
    own = {id(weights) for weights in task.model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    image = torch.randn(3, 1, 32, 48)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = task.model.train()(image)
    expected = sum(tensor.untyped_storage().nbytes() for tensor in held.values())
    del result
    assert activations(task, tuple(image.shape)) == pytest.approx(expected, rel=0.05)
    assert activations(task, (6, 1, 32, 48)) == pytest.approx(2 * expected, rel=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scarce")
    write_cases(folder / "cases")
    return folder


def test_one_processor_and_two_gigabytes_train(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2048")
    threads = torch.get_num_threads()
    try:
        main(line(folder, "small", "--trainer.max_epochs=1"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert (folder / "small/checkpoints/best.ckpt").is_file()


def test_too_little_memory_is_told_in_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    told = refused(capsys, *line(folder, "none"))
    assert "memory: this training needs " in told
    assert "allowed are 105 MB, by SLURM_MEM_PER_NODE: lower data.batch_size, or ask for more memory" in told
    assert not (folder / "none").exists()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_told_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda place: Usage(10**9, 10**9 - 1000, 1000))
    told = refused(capsys, *line(folder, "full"))
    assert f"run folder {folder / 'full'}: found 0 MB free on its disk; allowed are " in told
    assert "for 6 states of " in told
    assert not (folder / "full").exists()
