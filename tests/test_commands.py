"""What every subcommand costs before it does anything: help loads no library of images, models or statistics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "monai", "pytorch_lightning", "pydicom", "highdicom", "SimpleITK", "scipy", "nibabel", "reportlab")
COMMANDS = (
    "benchmark", "data", "doctor", "evaluate", "export", "infer", "jobs", "merge-results", "package", "phantoms",
    "predict", "site-kit", "status", "submit", "train-package",
)  # fmt: skip
ACTIONS = (
    ("data", "prepare"), ("data", "to-nnunet"), ("data", "from-nnunet"), ("phantoms", "training"),
    ("site-kit", "infer"),
)  # fmt: skip


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS), *ACTIONS], ids=" ".join)
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom imaging.commands import main\n"
        f"try:\n    main([*{words!r}, '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules], len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert loaded.startswith("loaded [] "), loaded
    assert int(loaded.split()[-1]) < 500


def test_the_guard_sees_a_library() -> None:
    script = f"import sys, scipy\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['scipy']"


def test_every_command_is_listed_here() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imaging", "no-such-command"], check=False, capture_output=True, text=True
    )
    told = done.stderr.partition("choose from")[2].replace("'", "").strip(" )\n").split(", ")
    assert sorted(told) == sorted(COMMANDS)


def test_a_reader_who_stops_is_no_defect(tmp_path: Path) -> None:
    """As `imaging ... | head -1` does: what is written is kept, and no traceback is told."""
    rows = [f"c{k},p{k},A,0.{k + 10},{k % 2}" for k in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["case_id,patient_id,site,prediction,truth", *rows]), encoding="utf-8")
    words = ["evaluate", "classification", "--manifest", "t.csv", "--out", "o", "--resamples", "100"]
    with subprocess.Popen(
        [sys.executable, "-m", "imaging", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert (tmp_path / "o" / "metrics.json").is_file()


FIRST_LINE = """
import io, runpy, sys

class Heard(io.StringIO):
    def write(self, text):
        print("loaded", len(sys.modules), [name for name in ("numpy", "torch", "imaging") if name in sys.modules])
        raise SystemExit

sys.stderr = Heard()
runpy.run_path("train.py", run_name="__main__")
"""


def test_a_training_says_that_it_starts_before_it_loads_anything() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_LINE], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("loaded ")
    assert done.stdout.endswith(" []\n"), done.stdout
    assert int(done.stdout.split()[1]) < 150


def test_a_training_loads_no_library_that_it_does_not_use() -> None:
    """torch, Lightning and MONAI take what they take; of ours, readers and writers are loaded where they are used."""
    unused = ("highdicom", "reportlab", "SimpleITK", "onnx", "onnxruntime", "imaging.report", "imaging.inference",
              "imaging.predictor")  # fmt: skip
    script = f"import sys, imaging.commands.train\nprint([name for name in {unused!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
