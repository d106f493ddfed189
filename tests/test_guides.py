"""The guides in docs/ do what they say: their blocks run, in order, as a reader would run them in an empty folder.

A block whose first line is a comment with a name (`# chest/recipe.py`) is that file. A ```console block runs each line
after `$` in a shell, in the same folder; the lines below it must be in what it prints, in that order (`...` stands for
any lines). Every other ```python block is a program of its own. Blocks of other languages are for the eye.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
RUN = ("python", "console", "yaml", "toml")
LONGEST_PAGE = 220  # the guide to a modality holds the whole way to a report
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# ([\w./-]+\.(?:py|yaml|toml|csv))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line of the page where it begins."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is; None for one that is run."""
        named = _NAMED.match(self.text)
        return named[1] if named else None


def blocks(page: str) -> Iterator[Block]:
    for found in _FENCED.finditer(page):
        if found[1] in RUN:
            yield Block(found[1], found[2], page.count("\n", 0, found.start()) + 2)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines that it is to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = re.sub(r"\\\n\s*", "", part).splitlines()
        yield lines[0], [line for line in lines[1:] if line.strip() and line != "..."]


def run_page(page: str, folder: Path) -> None:
    """All blocks of a page in `folder`. Raises AssertionError naming the line of the page."""
    for block in blocks(page):
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            run([sys.executable, "-c", block.text], [], folder, block)
        elif block.language == "console":
            for command, printed in commands(block.text):
                if command.startswith("pip install --editable "):
                    install(folder / shlex.split(command)[-1])
                else:
                    run(["bash", "-euc", command], printed, folder, block)
        else:
            raise AssertionError(f"line {block.line}: a {block.language} block without the name of its file")


def run(command: list[str], printed: list[str], folder: Path, block: Block) -> None:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    imports = os.pathsep.join(map(str, (REPOSITORY, folder)))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": imports, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    said = f"the block at line {block.line}: {command[-1]}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    place = 0
    for line in printed:
        at = done.stdout.find(line, place)
        assert at >= 0, f"'{line}' is not printed, or not in this order: {said}"
        place = at + len(line)


def install(folder: Path) -> None:
    """What pip would write of a distribution's entry points, without asking an index for its build tools."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def guide(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.conformance
def test_a_modality_can_be_added_as_its_guide_says(tmp_path: Path) -> None:
    run_page(guide("add_a_modality.md"), tmp_path)


@pytest.mark.parametrize(
    "name", ["add_a_network.md", "add_a_public_set.md", "add_a_vendors_quirk.md", "run_on_a_cluster.md"]
)
def test_what_a_guide_says_works(name: str, tmp_path: Path) -> None:
    run_page(guide(name), tmp_path)


def test_every_guide_is_run_and_short() -> None:
    names = sorted(path.name for path in DOCS.glob("add_*.md"))
    assert names == ["add_a_modality.md", "add_a_network.md", "add_a_public_set.md", "add_a_vendors_quirk.md"]
    assert {name: len(guide(name).splitlines()) for name in names if len(guide(name).splitlines()) > LONGEST_PAGE} == {}
    assert all(any(block.language == "console" for block in blocks(guide(name))) for name in names)


@pytest.mark.parametrize(
    ("page", "match"),
    [
        ("Text.\n\n```python\n1 / 0\n```\n", "line 4: 1 / 0"),
        ("```console\n$ echo one; false\none\n```\n", "line 2: echo one; false"),
        ("```console\n$ echo two\none\n```\n", "'one' is not printed"),
        ("```console\n$ printf 'b\\na\\n'\na\nb\n```\n", "'b' is not printed, or not in this order"),
        ("```yaml\na: 1\n```\n", "line 2: a yaml block without the name of its file"),
    ],
)
def test_a_page_that_does_not_work_fails(page: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape(match)):
        run_page(page, tmp_path)


def test_blocks_see_the_files_before_them(tmp_path: Path) -> None:
    page = (
        "```python\n# toy/one.py\nVALUE = 3\n```\n```text\nnot run\n```\n"
        "```console\n$ python -c \\\n    'from toy.one import VALUE; print(VALUE + 1)'\n...\n4\n```\n"
    )
    run_page(page, tmp_path)
    assert (tmp_path / "toy" / "one.py").read_text() == "# toy/one.py\nVALUE = 3\n"
