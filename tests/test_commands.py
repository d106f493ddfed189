"""What every subcommand costs before it does anything: help loads no library of images, models or statistics."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "monai", "pytorch_lightning", "pydicom", "highdicom", "SimpleITK", "scipy", "nibabel", "reportlab")
COMMANDS = (
    "data", "doctor", "evaluate", "infer", "jobs", "merge-results", "package", "phantoms", "predict", "status",
    "submit", "train-package",
)  # fmt: skip
ACTIONS = (("data", "prepare"), ("data", "to-nnunet"), ("data", "from-nnunet"), ("phantoms", "training"))


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
