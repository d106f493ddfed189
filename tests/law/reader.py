"""From an export to its answer on the real path, with a reader in the network's place that sees what is there.

Index, router, decoders, recipes, extraction, conclusions, summary and exit status are those of every run. In place of
each package's network stands one rule of contrast on the harmonised image: it finds the planted lesion wherever it can
be seen, and nothing where it cannot. No report is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from imaging.dicom.index import build_index
from imaging.findings import Finding, Prediction, Reading
from imaging.harmonise.spatial import grid_of
from imaging.harmonise.tissue import Tissue
from imaging.image import Image
from imaging.inference.processes import RunLimits
from imaging.inference.run import InferenceRun, has_failure, run_inference
from imaging.modalities import find_modality
from imaging.package import Package, load_package
from imaging.predictor import Predictor
from imaging.report.document import Document
from tests.conftest import REPOSITORY
from tests.law.exports import Export
from tests.test_infer import InProcess

PACKAGES = REPOSITORY / "data_samples" / "packages"
# Settings of recipes that make their grids small.
_SMALL: dict[str, dict[str, Any]] = {
    "breast_us": {"side": 96},
    "mammography_mass": {"spacing_mm": 1.0, "rows": 256, "columns": 192},
    "prostate_lesion": {"roles": ["T2W", "ADC", "high b"], "spacing_mm": [3, 1, 1], "shape": [16, 48, 48]},
}
Values = NDArray[np.float32]


class Seeing(Predictor):
    """A predictor whose network is a rule of contrast. `seen` gathers what it was given."""

    def __init__(self, package: Package) -> None:
        recipe = find_modality(package.description.recipe.name).recipe()(**_SMALL[package.name])
        super().__init__(package, nn.Identity(), recipe)
        self.seen: list[Values] = []

    def _prediction(
        self, image: Image, tissue: Tissue, harmonised: MetaTensor, structures: Sequence[Finding] = ()
    ) -> Prediction:
        values = harmonised.numpy()
        self.seen.append(values)
        marked = _RULES[self.package.name](values).astype(np.float32)
        whole = Prediction(np.stack([1 - marked, marked]), grid_of(harmonised), image.source_grid, image.refs[0])
        classes = tuple(1.0 if not c.nothing else 0.0 for c in self.package.description.card.classes)
        total = max(sum(classes), 1.0)
        return replace(
            whole, classes=tuple(c / total for c in classes), slices=image.refs if self._is_of_volumes else ()
        )


def _dark(values: Values) -> NDArray[np.bool_]:
    """Ultrasound: black inside tissue that is not."""
    return _compact(values[0] < 0.2, least=60)


def _bright(values: Values) -> NDArray[np.bool_]:
    """Mammography: white inside the breast, clearly brighter than what surrounds it."""
    smooth = ndimage.uniform_filter(values[0], 3)
    around = ndimage.uniform_filter(values[0], 41)
    return _compact((smooth > 0.93) & (smooth - around > 0.06), least=60)


def _restricted(values: Values) -> NDArray[np.bool_]:
    """Prostate: dark in T2W and ADC, bright at high b, in the same voxels. Losing any channel hides the lesion."""
    t2w, adc, high_b = values
    return _compact((t2w < -1.5) & (adc < -0.4) & (high_b > 1.5), least=30)


_RULES = {"breast_us": _dark, "mammography_mass": _bright, "prostate_lesion": _restricted}


def _compact(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """The parts that are as large as a lesion, do not touch the edge and are no larger than a tenth of the picture."""
    parts, _ = ndimage.label(mask)
    kept = np.zeros_like(mask)
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        part = parts[where] == number
        plane = list(zip(where, mask.shape, strict=True))[-2:]
        inside = all(s.start > 0 and s.stop < side for s, side in plane)
        if least <= part.sum() <= mask.size / 10 and inside:
            kept[where] |= part
    return kept


@lru_cache
def readers() -> dict[str, Seeing]:
    """A reader per package, of packages as they are shipped but for the locator and the size of a lesion."""
    made = {}
    for name, settings in _SMALL.items():
        package = load_package(PACKAGES / name, explicit=True)
        card = replace(package.description.card, least_pixels=4, parts="every")
        description = replace(package.description, card=card, locator=None, threshold=0.5, operating_point=None)
        description = replace(description, recipe=replace(description.recipe, settings=settings))
        made[name] = Seeing(replace(package, description=description, locator=None))
    return made


class _Seen(InProcess):
    """This process, with the readers in the place of networks and no reports."""

    def start(self, packages: Iterable[Package]) -> None:
        """Nothing is loaded."""

    def read(self, package: Package, image: Image) -> Reading:
        return readers()[package.name].read(image)

    def report(self, *_: object) -> list[Document]:
        return []


def answered(folder: Path, out: Path) -> dict[str, Any]:
    """The summary of a run over a folder."""
    for reader in readers().values():
        reader.seen.clear()
    order = InferenceRun(
        export=folder,
        out=out,
        packages=tuple(reader.package for reader in readers().values()),
        content_time=datetime(2026, 1, 31, 12),
        limits=RunLimits(),
    )
    run = "imaging.inference.run"
    with patch(f"{run}.Processes", _Seen), patch(f"{run}.build_index", _in_process):
        return run_inference(order, _Silent())


def _in_process(export: Path, site: str | None = None, workers: int = 0, *rest: Any) -> Any:
    return build_index(export, site, 0, *rest)


class _Silent:
    def begin(self, frames: int) -> None:
        """No progress is shown."""

    def frame(self) -> None:
        """No progress is shown."""

    def study(self, folder: str, results: Any) -> None:
        """No progress is shown."""


YES, NO, UNKNOWN, FAILED, NOT_READ = "yes", "NO, ALL", "unknown", "failed, exit 1", "not applicable"
OUTCOMES = (YES, UNKNOWN, FAILED, NOT_READ, NO)


def outcome(summary: dict[str, Any]) -> str:
    """One word for a run. `yes` before all; a `no` in any result is told unless another says `yes`."""
    results = [r for study in summary["studies"] for r in study["results"] if r["applicability"] == "applicable"]
    found = {result["finding"] for result in results}
    if "yes" in found:
        return YES
    if "no" in found:
        return FAILED if has_failure(summary) else NO
    if has_failure(summary):
        return FAILED
    return UNKNOWN if results else NOT_READ


def answer_of(export: Export) -> dict[str, Any]:
    """Written into a fresh folder, answered, and taken away."""
    with tempfile.TemporaryDirectory(dir=_fast()) as place:
        folder = Path(place) / "export"
        write(export, folder)
        return answered(folder, Path(place) / "out")


def _fast() -> str | None:
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


def write(export: Export, folder: Path) -> None:
    folder.mkdir()
    for name, data in export.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
