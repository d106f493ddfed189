"""Packages of networks for volumes: made from a run, loaded, pinned to a golden exam, and what they decide by."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml

from imaging import thresholds as validation
from imaging.commands.train import main
from imaging.data.dataset import first_image
from imaging.data.manifest import Case, read_manifest
from imaging.data.truth import read_mask
from imaging.errors import ConfigError, PackageError
from imaging.findings import Finding, Prediction, cross_section
from imaging.golden import read_golden, save_golden, volume
from imaging.image import Grid, SourceRef
from imaging.package import load_package
from imaging.packaging import make_package
from imaging.predictor import load_predictor
from imaging.thresholds import decide_candidates, decide_masks
from imaging.volume_region import VolumeRegion
from tests.volumes import affine, draw_case, draw_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

CODE = {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"}
CARD = {
    "name": "ball",
    "version": "0.1.0",
    "manufacturer": "Sitewise",
    "summary": "A drawn ball; synthetic.",
    "licence": "none",
    "procedure": CODE,
    "applicability": {"modality": "MR", "body_parts": ["PROSTATE"]},
    "labels": [{"name": "ball", "finding": CODE, "category": CODE, "kind": CODE, "site": CODE}],
    "least_pixels": 5,
    "measures": [],
    "parts": "largest",
}


def card(folder: Path, **changed: Any) -> Path:
    path = folder / f"card-{len(list(folder.glob('card-*')))}.yaml"
    path.write_text(yaml.safe_dump({**CARD, **changed}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on drawn balls, by the recipe of packages; the golden exam is read in windows."""
    folder = tmp_path_factory.mktemp("balls")
    manifest = draw_cases(folder / "cases", 4, 2, labels=1)
    network = {"kind": "dyn_unet", "spatial_dims": 3, "features": [6, 12, 16], "flat": 1}
    config = {
        "model": {
            "class_path": "imaging.tasks.segmentation.SegmentationTask",
            "init_args": {"network": network, "learning_rate": 0.01, "tile": [16, 64, 64]},
        },
        "data": {
            "manifest": str(manifest),
            "recipe": {
                "class_path": "imaging.modalities.prostate.recipe.ProstateRecipe",
                "init_args": {"shape": [8, 32, 32], "spacing_mm": [3.0, 1.0, 1.0]},
            },
            "batch_size": 2,
            "cache": str(folder / "cache"),
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 24,
            "gradient_clip_val": 1.0,
            "check_val_every_n_epoch": 24,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    main(["fit", f"--config={folder / 'config.yaml'}", f"--run={folder / 'run'}"])
    return folder / "run"


@pytest.fixture(scope="module")
def package(run: Path) -> Path:
    return make_package(run, card(run.parent), run.parent / "package").folder


def validation_case(run: Path) -> Case:
    return next(case for case in read_manifest(run.parent / "cases" / "manifest.csv") if case.split == "val")


def test_a_package_finds_what_its_network_learned(run: Path, package: Path) -> None:
    predictor = load_predictor(load_package(package))
    assert predictor.package.description.tile == [16, 64, 64]
    case = validation_case(run)
    image = first_image(case, predictor.recipe)
    (found,) = predictor.read(image).findings
    assert found.volume_region is not None
    truth = read_mask(case.known_truth, image) > 0
    own = found.volume_region.full_mask()
    assert 2 * (own & truth).sum() / (own.sum() + truth.sum()) > 0.85
    assert predictor.package.description.training["validation_dice"] > 0.85


def test_another_golden_exam_is_not_this_networks(package: Path, tmp_path: Path) -> None:
    """What the network must say is kept to 1/255; the exam is kept voxel by voxel, with what is beside it."""
    image, expected = read_golden(package / "golden.npz")
    assert set(image.beside) == {"ADC", "high b"}
    assert (image.grid.shape, image.grid.frame, image.beside["high b"].b_value) == ((24, 80, 80), "patient_ras", 800.0)
    assert expected.shape == (1, 24, 96, 96)  # sides of 32 more each, as the recipe's least size grows
    assert float(np.ptp(expected)) > 0.5  # it says something of it
    changed = shutil.copytree(package, tmp_path / "changed")
    save_golden(changed / "golden.npz", replace(image, array=image.array[:, :, ::-1].copy()), expected)
    with pytest.raises(PackageError, match=r"golden\.npz has sha256"):
        load_package(changed)
    pinned = load_package(package)
    with pytest.raises(PackageError, match="the golden phantom differs by"):
        load_predictor(replace(pinned, folder=changed))
    np.savez(changed / "golden.npz", expected=np.zeros(3, dtype=np.uint8))
    with pytest.raises(PackageError, match=r"golden\.npz is not a golden phantom"):
        load_predictor(replace(pinned, folder=changed))


def test_a_golden_exam_goes_round(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    key = volume(rng.integers(0, 900, (4, 6, 5)).astype(np.uint16), affine((3, 1, 1), (4, 6, 5), (1, 2, 3)))
    other = volume(rng.random((2, 3, 4), dtype=np.float32), affine((4, 2, 2), (2, 3, 4), (0, 0, 0)), 1400.0)
    save_golden(tmp_path / "golden.npz", replace(key, beside={"high b": other}), np.array([[0.0, 1.0, 0.5]]))
    image, expected = read_golden(tmp_path / "golden.npz")
    for one, kept in ((key, image), (other, image.beside["high b"])):
        np.testing.assert_array_equal(kept.array, one.array)
        np.testing.assert_array_equal(kept.grid.affine, one.grid.affine)
        assert kept.b_value == one.b_value
    np.testing.assert_allclose(expected, [[0.0, 1.0, 0.5]], atol=0.002)


def test_a_locator_is_copied_and_used(run: Path, package: Path, tmp_path: Path) -> None:
    """The package in the package: its organ is the region in which the outer one looks, here the ball itself."""
    outer = make_package(run, card(run.parent, name="outer"), tmp_path / "outer", locator=package)
    assert outer.locator is not None
    assert (outer.locator.name, outer.locator.folder) == ("ball", tmp_path / "outer" / "ball")
    predictor = load_predictor(outer)
    reading = predictor.read(first_image(validation_case(run), predictor.recipe))
    assert [one.label for one in reading.structures] == ["ball"]


def test_labels_of_a_card_are_those_of_the_training(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((other / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["labels"] = ["cube"]
    (other / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"card ball, labels: found \['ball'\]; the run was trained on \['cube'\]"):
        make_package(other, card(tmp_path), tmp_path / "package")


# --------------------------------------------------------------------------------------------- what is decided, by hand


GRID = Grid((4, 12, 12), np.eye(4), "patient_ras")


def volume_region(score: float, label: str, *box: int) -> Finding:
    """A box of voxels, low then high corner."""
    shape = tuple(high - low for low, high in zip(box[:3], box[3:], strict=True))
    refs = (SourceRef("1", "2", "3", "4"),) * 4
    return cross_section(label, score, VolumeRegion(np.ones(shape, dtype=bool), (box[0], box[1], box[2]), GRID, refs))


class Said:
    """A predictor of which the findings are written out, by case."""

    def __init__(self, findings: dict[str, list[Finding]], *labels: str, **told: Any) -> None:
        names = [SimpleNamespace(name=label) for label in labels]
        self.package = SimpleNamespace(description=SimpleNamespace(card=SimpleNamespace(labels=names, **told)))
        self.recipe = None
        self._findings = findings

    def predict(self, image: Any) -> Any:
        return image.case

    def findings(self, prediction: Prediction, least_score: float) -> list[Finding]:
        return [one for one in self._findings[cast(str, prediction)] if one.score >= least_score]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Truth by case; images are their case's name and a grid."""
    truths: dict[str, np.ndarray] = {}
    monkeypatch.setattr(validation, "first_image", lambda case, _: SimpleNamespace(case=case.case_id, source_grid=GRID))
    monkeypatch.setattr(validation, "read_mask", lambda path, _: (truths[path.name] > 0).astype(np.uint8))
    monkeypatch.setattr(validation, "read_labels", lambda path, *_: truths[path.name])
    return truths


def cases(*names: str) -> list[Case]:
    return [Case(name, name, "a", "val", Path(name), Path(name)) for name in names]


def test_candidates_of_volumes_are_matched_by_their_volume_regions(told: dict[str, np.ndarray]) -> None:
    """Two lesions of 8 voxels. One volume region of 16 covers the first (IoU 1/2); one of 8 shares a voxel (1/15) with
    the second, so it misses and is false; of the exam without a lesion one of two false ones is surer."""
    told["sick"], told["well"] = np.zeros((2, *GRID.shape), dtype=np.uint8)
    told["sick"][0:2, 0:2, 0:2] = told["sick"][0:2, 8:10, 8:10] = 1
    findings = {
        "sick": [volume_region(0.8, "lesion", 0, 0, 0, 2, 2, 4), volume_region(0.6, "lesion", 1, 9, 9, 3, 11, 11)],
        "well": [volume_region(0.7, "lesion", 0, 0, 0, 2, 2, 2), volume_region(0.3, "lesion", 0, 6, 6, 2, 8, 8)],
    }
    sick, well = cases("sick", "well")
    lines = validation.watch(cast(Any, Said(findings, "lesion")), sick).lesions
    assert [(one.is_true, one.confidence) for one in lines] == [(True, 0.8), (True, 0.0), (False, 0.6)]
    for allowed, threshold in ((1.5, 0.16), (1.0, 0.46), (0.5, 0.66), (0.0, 0.76)):
        said = Said(findings, "lesion", false_positives=allowed, recalled_empty=None)
        decided = decide_candidates(cast(Any, said), [sick, well])
        assert decided.threshold == threshold
        assert decided.figures["sensitivity"] == 0.5


def test_zones_are_judged_label_by_label(told: dict[str, np.ndarray]) -> None:
    """The first zone is outlined exactly, the second by half: Dice 1 and 2 / 3; found in the other's place it is 0."""
    told["sick"] = np.zeros(GRID.shape, dtype=np.uint8)
    told["sick"][:, 0:4, 0:4], told["sick"][:, 6:10, 0:4] = 1, 2
    right = [volume_region(0.9, "outer", 0, 0, 0, 4, 4, 4), volume_region(0.9, "inner", 0, 6, 0, 4, 8, 4)]
    swapped = [volume_region(0.9, "inner", 0, 0, 0, 4, 4, 4), volume_region(0.9, "outer", 0, 6, 0, 4, 8, 4)]
    for findings, dice in ((right, (1 + 2 / 3) / 2), (swapped, 0.0)):
        said = Said({"sick": findings}, "outer", "inner", most_marked_empty=1.0)
        assert decide_masks(cast(Any, said), cases("sick")).figures["dice"] == pytest.approx(dice, abs=1e-4)


def test_a_case_with_an_organ_is_cut_around_it(tmp_path: Path) -> None:
    """Validation cases keep the region of their manifest where a package has no locator."""
    case = draw_case(tmp_path, 1)
    assert first_image(replace(case, organ=case.truth), cast(Any, SimpleNamespace(spatial_dims=3))).region is not None
