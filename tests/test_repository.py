"""The repository as a newcomer meets it: links that lead somewhere, one meaning for a name, functions of a screen."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Set
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

import imaging
from imaging.commands import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "data_samples" / "README.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)?(#[^)\s]+)?\)")
COMMANDS = ("infer", "status", "doctor", "data prepare", "phantoms training", "train-package", "package", "evaluate",
            "merge-results")  # fmt: skip
LONGEST_FUNCTION = 60
LEAST_SHARE_WITH_A_VALUE = 0.92


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Every module of the package with its path."""
    paths = sorted((ROOT / "imaging").rglob("*.py"))
    return tuple((str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts derive them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        place = page.parent / target if target else page
        if not place.exists() or (anchor and place.suffix == ".md" and anchor[1:] not in anchors(place)):
            broken.append(target + anchor)
    assert broken == []


def test_paths_that_pages_name_exist() -> None:
    named = re.compile(r"`((?:imaging|tests|docs|configs|benchmarks|data_samples)/[\w./-]+)`")
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for path in named.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_options_that_the_readme_names_exist() -> None:
    """Those of a command in a block by that command's help; those in a sentence by the help of any."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:python infer\.py|imaging) .*$", readme, re.MULTILINE)
    assert len(lines) >= 12
    assert {line: missing for line in lines if (missing := _options(line) - _options(_help(line)))} == {}
    every = set().union(*(_options(_help(f"imaging {command}")) for command in COMMANDS))
    assert {option for quoted in re.findall(r"`([^`\n]+)`", readme) for option in _options(quoted)} <= every
    assert _options("infer.py --no-such x") - every == {"--no-such"}


def _options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


@cache
def _help(line: str) -> str:
    """What the command of a line says of itself."""
    words = line.replace("python infer.py", "imaging infer").split()
    asked = words[1:3] if words[1] in ("data", "phantoms") else words[1:2]
    with redirect_stdout(StringIO()) as said, pytest.raises(SystemExit):
        main([*asked, "--help"])
    return said.getvalue()


def test_every_decision_stands_in_the_index_once() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    index, _, _ = text.partition("\n## ")
    decisions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sorted(re.findall(r"^  - \[(.+)\]\(#", index, re.MULTILINE)) == sorted(decisions)
    assert len(set(decisions)) == len(decisions)


def test_the_version_has_one_home() -> None:
    homes = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "pyproject.toml", *(ROOT / "imaging").rglob("*.py"))
        if re.search(rf'"{re.escape(imaging.__version__)}"', path.read_text(encoding="utf-8"))
    ]
    assert homes == ["imaging/__init__.py"]


def test_each_distribution_is_pinned_once() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [pin.partition("==")[0].lower() for pin in pins if "==" in pin]
    assert sorted(names) == sorted(set(names))


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path}:{node.name}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_errors_say_what_was_found() -> None:
    """Nearly every error raised quotes a value; the rest say that something is missing, which has none."""
    told: list[tuple[bool, str]] = []
    for path, tree in trees():
        for node in ast.walk(tree):
            call = node.exc if isinstance(node, ast.Raise) else None
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
                continue
            if call.func.id.endswith("Error"):
                message = call.args[0]
                written_here = isinstance(message, ast.Constant | ast.JoinedStr | ast.BinOp)
                quotes = any(isinstance(part, ast.FormattedValue) for part in ast.walk(message))
                told.append((quotes or not written_here, f"{path}:{node.lineno}"))
    share = sum(quotes for quotes, _ in told) / len(told)
    assert share >= LEAST_SHARE_WITH_A_VALUE, [place for quotes, place in told if not quotes]


def test_modules_do_not_import_in_circles() -> None:
    modules = _modules()
    arrows = {name: _imports(tree, modules.keys()) - {name} for name, tree in modules.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(arrows[name]):
                visit(target, (*way, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


def _modules() -> dict[str, ast.Module]:
    return {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for path, tree in trees()}


def _imports(tree: ast.Module, known: Set[str]) -> set[str]:
    """Modules of this package that are imported when a module is, not those for types alone or inside functions."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & known or {node.module}
    return (found & known) - {"imaging"}  # the version stands there and nothing else
