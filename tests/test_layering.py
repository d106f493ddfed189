"""Imports point one way, so that the tree reads as the data flow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "imaging"

# What each part may import of this package. A part is a module or folder directly below imaging/.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "fork_server": set(),
    "workers": {"errors", "fork_server"},
    "cluster": {"errors", "resources"},
    "resources": set(),
    "grayscale": set(),
    "image": {"errors", "grayscale"},
    "html": set(),
    "volume_region": {"errors", "image"},
    "organ": {"volume_region"},
    "golden": {"image"},
    "table": {"errors"},
    "findings": {"errors", "image", "volume_region"},
    "candidates": {"errors"},
    "extraction": {"image", "volume_region", "findings", "candidates"},
    "dicom": {"errors", "image", "grayscale", "findings", "workers"},
    "exam": {"errors", "image", "findings", "volume_region"},
    "modalities": {
        "errors",
        "image",
        "grayscale",
        "golden",
        "table",
        "dicom",
        "findings",
        "volume_region",
        "organ",
        "exam",
        "harmonise",
        "report",
        "phantoms",
    },
    "models": {"errors"},
    "harmonise": {"errors", "image", "grayscale", "dicom"},
    "data": {"errors", "image", "table", "dicom", "harmonise"},
    "tasks": {"errors", "resources", "image", "table", "data", "models", "findings", "harmonise", "evaluation"},
    "package": {"errors", "image", "dicom", "findings", "exam", "modalities", "models"},
    "predictor": {
        "errors",
        "golden",
        "image",
        "harmonise",
        "findings",
        "volume_region",
        "extraction",
        "organ",
        "modalities",
        "models",
        "package",
    },
    "packaging": {
        "errors",
        "image",
        "table",
        "dicom",
        "harmonise",
        "data",
        "tasks",
        "findings",
        "modalities",
        "models",
        "package",
        "golden",
        "predictor",
        "thresholds",
    },
    "thresholds": {"image", "data", "evaluation", "findings", "predictor"},
    "report": {"errors", "image", "html", "findings", "volume_region", "exam", "dicom"},
    "evaluation": {"errors", "findings", "candidates", "html"},
    "inference": {
        "errors",
        "workers",
        "image",
        "dicom",
        "exam",
        "findings",
        "modalities",
        "package",
        "predictor",
        "report",
    },
    "phantoms": {"errors"},
    "exchange": {"errors", "golden", "data", "modalities", "models", "package", "predictor"},
    "benchmark": {
        "errors",
        "workers",
        "image",
        "table",
        "html",
        "data",
        "harmonise",
        "modalities",
        "models",
        "tasks",
        "findings",
        "evaluation",
        "package",
        "packaging",
        "predictor",
        "thresholds",
    },
}
ONLY_IN: dict[str, set[str]] = {
    "torch": {
        "harmonise",
        "modalities",
        "data",
        "models",
        "tasks",
        "predictor",
        "thresholds",
        "packaging",
        "commands",
        "exchange",
    },
    "monai": {"harmonise", "modalities", "models", "tasks", "predictor", "exchange"},
    "pytorch_lightning": {"data", "tasks", "commands"},
    "pydicom": {"dicom", "modalities", "report", "phantoms"},
    "highdicom": {"report"},
    "reportlab": {"report"},
}
# Modality names belong to modalities, phantoms, reports and commands; these parts must serve every modality alike, but
# for the readers of public sets, each of one modality, and those of headers and results, whose words are DICOM's.
MODALITY_FREE = (
    "data",
    "dicom",
    "evaluation",
    "exam",
    "harmonise",
    "inference",
    "models",
    "organ",
    "package",
    "packaging",
    "predictor",
    "tasks",
    "thresholds",
)
MODALITY_NAMES = ("ultrasound", "mammo", "prostate")
MAY_NAME = ("data/public/", "dicom/headers/", "dicom/results/", "dicom/instance.py")


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in ("__init__", "__main__"):
            found.append((part, path))
    return found


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def wrong_imports(part: str, names: set[str]) -> list[str]:
    wrong = []
    for name in names:
        root, _, rest = name.partition(".")
        if root == "imaging" and part != "commands":
            target = rest.split(".")[0]
            if target and target != part and target not in MAY_IMPORT[part]:
                wrong.append(name)
        elif root in ONLY_IN and part not in ONLY_IN[root]:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(("part", "path"), modules(), ids=lambda v: v.name if isinstance(v, Path) else v)
def test_imports_point_one_way(part: str, path: Path) -> None:
    assert part == "commands" or part in MAY_IMPORT, f"{part} is new: say in MAY_IMPORT what it may import"
    assert wrong_imports(part, imported(path)) == []


def test_the_check_can_fail() -> None:
    assert wrong_imports("dicom", {"imaging.harmonise.recipe"}) == ["imaging.harmonise.recipe"]
    assert wrong_imports("exam", {"torch.nn"}) == ["torch.nn"]


def test_the_page_on_architecture_says_the_same() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, parts = page.partition("## The parts")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", parts.partition("\n## ")[0], re.MULTILINE)
    assert {part: set(re.findall(r"`(\w+)`", allowed)) for part, allowed in rows} == MAY_IMPORT
    assert len(rows) == len(MAY_IMPORT)


def test_no_modality_name_where_all_modalities_are_served() -> None:
    named = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for part, path in modules()
        if part in MODALITY_FREE and not path.relative_to(PACKAGE).as_posix().startswith(MAY_NAME)
        for name in MODALITY_NAMES
        if name in path.read_text(encoding="utf-8").lower()
    ]
    assert named == []


def test_of_a_modality_only_recipes_need_torch_and_only_documents_pydicom() -> None:
    modality_files = [path for part, path in modules() if part == "modalities"]
    roots = {path: {name.partition(".")[0] for name in imported(path)} for path in modality_files}
    assert {path.name for path in roots if roots[path] & {"torch", "monai"}} == {"recipe.py"}
    assert {path.parent.name for path in roots if "pydicom" in roots[path]} == {"cad"}


def test_reading_a_package_needs_no_torch() -> None:
    """The parent of a run plans with descriptions, headers and the records of modalities alone."""
    code = (
        "import sys, imaging.inference.run\n"
        "from pathlib import Path\n"
        "from imaging.modalities import all_modalities\n"
        "from imaging.package import load_package\n"
        "load_package(Path('data_samples/packages/breast_us'))\n"
        "assert len(list(all_modalities())) >= 3\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_reading_headers_needs_no_modality() -> None:
    code = (
        "import sys, imaging.dicom.index, imaging.dicom.exam, imaging.dicom.pixels.read\n"
        "assert not [name for name in sys.modules if name.startswith('imaging.modalities')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
