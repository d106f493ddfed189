"""Training on volumes: what a case of several volumes becomes, what its labels are, and that it is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from imaging.commands.train import main
from imaging.models.networks import Network
from tests.test_training import logged
from tests.volumes import draw_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

LABELS = ["outer zone", "inner zone"]
FLAT = Network("dyn_unet", 3, 2, 3, (8, 16, 24), flat=1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_cases(tmp_path_factory.mktemp("volumes"))


def settings(manifest: Path, **data: Any) -> dict[str, Any]:
    network = {"kind": "dyn_unet", "spatial_dims": 3, "in_channels": 2, "out_channels": 3, "features": [8, 16, 24]}
    return {
        "model": {
            "class_path": "imaging.tasks.segmentation.SegmentationTask",
            "init_args": {"network": {**network, "flat": 1}, "learning_rate": 0.01},
        },
        "data": {
            "manifest": str(manifest),
            "recipe": {"class_path": "tests.volumes.DrawnRecipe"},
            "batch_size": 2,
            "labels": LABELS,
            "cache": str(manifest.parent / "cache"),
            **data,
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 30,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "check_val_every_n_epoch": 10,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }


def words(manifest: Path, run: Path, *more: str, **data: Any) -> list[str]:
    config = run.parent / f"{run.name}.yaml"
    config.write_text(yaml.safe_dump(settings(manifest, **data)), encoding="utf-8")
    return ["fit", f"--config={config}", f"--run={run}", *more]


# ------------------------------------------------------------------------------------------------------------- learning


def test_two_labels_of_drawn_volumes_are_learned(manifest: Path, tmp_path: Path) -> None:
    main(words(manifest, tmp_path / "run"))
    figures = logged(tmp_path / "run")
    last = max(figures["val/dice"])
    told = {name: figures[name][last] for name in ("val/dice", "val/dice_1", "val/dice_2")}
    assert min(told.values()) >= 0.9, told
    assert told["val/dice"] == pytest.approx((told["val/dice_1"] + told["val/dice_2"]) / 2, abs=1e-6)


def test_two_labels_are_learned_from_patches(manifest: Path, tmp_path: Path) -> None:
    """Patches of half the rows and columns, watched in windows of their size."""
    patches = {"shape": [8, 16, 16], "per_image": 4}
    main(words(manifest, tmp_path / "run", "--model.init_args.tile=[8,16,16]", patches=patches))
    figures = logged(tmp_path / "run")
    assert figures["val/dice"][max(figures["val/dice"])] >= 0.9
