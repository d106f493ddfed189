"""Packages in the forms of other toolkits give what the package gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image as Picture

from imaging.commands import main
from imaging.data.images import read_image
from imaging.exchange import onnx_file
from imaging.findings import Prediction
from imaging.package import load_package
from imaging.predictor import Predictor, load_predictor
from tests.conftest import REPOSITORY

PACKAGES = REPOSITORY / "data_samples" / "packages"


def harmonised(predictor: Predictor, path: Path) -> torch.Tensor:
    return predictor.recipe.harmonise(predictor.recipe.tissue(read_image(path))).as_tensor().float()[None]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of other sizes than the golden image."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for name, shape in (("first", (90, 120)), ("second", (150, 110))):
        Picture.fromarray(rng.integers(20, 250, shape, dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@dataclass(frozen=True)
class Exported:
    """What one export wrote, and what torch made of the network on the way."""

    path: Path
    program: Any


@pytest.fixture(scope="module")
def breast(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One export for several tests: torch takes some 20 seconds for it."""
    path, kept, export = tmp_path_factory.mktemp("onnx") / "network.onnx", [], onnx_file._exported
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "_exported", lambda *told: kept.append(export(*told)) or kept[0])
        assert main(["export", "onnx", str(PACKAGES / "breast_us"), "--out", str(path)]) == 0
    return Exported(path, kept[0])


def same_as_package(name: str, path: Path) -> None:
    """Of an image of another size and batch than it was made with: pixels and classes, or boxes of every level."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    predictor = load_predictor(load_package(PACKAGES / name))
    image = torch.rand(3, 1, 128, 192, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        outputs = predictor.model(image)
    found: dict[str, Any] = dict(
        zip([end.name for end in session.get_outputs()], session.run(None, {"image": image.numpy()}), strict=True)
    )
    expected = {"pixels": outputs.pixels, "classes": outputs.classes}
    for level, (labels, codes) in enumerate(outputs.boxes):
        expected |= {f"labels_{level}": labels, f"codes_{level}": codes}
    wanted = {end: tensor for end, tensor in expected.items() if tensor is not None}
    assert set(found) == set(wanted)
    for end, tensor in wanted.items():
        np.testing.assert_allclose(found[end], tensor.numpy(), atol=1e-4, rtol=0, err_msg=end)


def test_an_onnx_file_gives_the_logits_of_its_package(breast: Exported) -> None:
    same_as_package("breast_us", breast.path)


def test_an_onnx_file_of_a_detector_gives_every_level(tmp_path: Path) -> None:
    onnx_file.export_onnx(load_package(PACKAGES / "mammography_mass"), tmp_path / "network.onnx")
    same_as_package("mammography_mass", tmp_path / "network.onnx")


def test_an_onnx_file_says_what_it_does_not_hold(breast: Exported) -> None:
    package = load_package(PACKAGES / "breast_us")
    facts = onnxruntime.InferenceSession(str(breast.path)).get_modelmeta().custom_metadata_map
    description = yaml.safe_load((PACKAGES / "breast_us" / "package.yaml").read_text(encoding="utf-8"))
    assert facts["identity"] == package.identity
    assert json.loads(facts["recipe"])["settings"] == description["recipe"]["settings"]
    assert json.loads(facts["threshold"]) == description["threshold"]
    assert json.loads(facts["labels"]) == ["background", *(label["name"] for label in description["card"]["labels"])]


def test_a_file_that_says_other_than_the_package_is_not_written(
    breast: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A planted fault: the file meets another image than the package."""
    compare = onnx_file._difference
    monkeypatch.setattr(onnx_file, "_exported", lambda *told: breast.program)
    monkeypatch.setattr(onnx_file, "_difference", lambda content, image, wanted: compare(content, image + 0.1, wanted))
    out = tmp_path / "network.onnx"
    assert main(["export", "onnx", str(PACKAGES / "breast_us"), "--out", str(out)]) == 2
    assert "on the golden image; allowed is 0.0001" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("onnx", "prostate_gland_taps", "found a network of kind onnx, which is a file already"),
        ("monai-bundle", "prostate_gland_taps", "network.kind: found onnx; allowed is a network that was trained here"),
        ("monai-bundle", "prostate_lesion", "locator: found prostate_gland; allowed is none"),
        ("monai-bundle", "mammography_mass", "found no labels per pixel; allowed is labels per pixel"),
    ],
)
def test_what_has_no_such_form_is_refused(
    form: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", form, str(PACKAGES / name), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("onnx", "monai-bundle"):
        assert main(["export", form, str(PACKAGES / "breast_us"), "--out", str(tmp_path)]) == 2
        assert "allowed is a new" in capsys.readouterr().err


def bundle_run(bundle: Path, images: str, out: Path) -> None:
    """MONAI's own command line, as the bundle's README says."""
    told = ["--bundle_root", str(bundle), "--config_file", str(bundle / "configs/inference.json")]
    line = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *told, "--images", images]
    done = subprocess.run(
        [*line, "--output_dir", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_bundle_gives_the_probabilities_of_its_package(pictures: Path, tmp_path: Path) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    assert main(["export", "monai-bundle", str(PACKAGES / "breast_us"), "--out", str(bundle)]) == 0
    bundle_run(bundle, f"{pictures}/*", out)
    predictor = load_predictor(load_package(PACKAGES / "breast_us"))
    assert sorted(path.name for path in out.iterdir()) == [
        "first_probabilities.nii.gz",
        "second_probabilities.nii.gz",
    ]
    for name in ("first", "second"):
        prediction = predictor.predict(read_image(pictures / f"{name}.png"))
        assert isinstance(prediction, Prediction)
        said = np.squeeze(np.asanyarray(nibabel.load(out / f"{name}_probabilities.nii.gz").dataobj))
        np.testing.assert_allclose(np.moveaxis(said, -1, 0), prediction.probabilities, atol=1e-4, rtol=0)


def test_metadata_of_a_bundle_are_complete(tmp_path: Path) -> None:
    """The keys that MONAI's specification of bundles asks for."""
    bundle = tmp_path / "bundle"
    main(["export", "monai-bundle", str(PACKAGES / "fetal_head_us"), "--out", str(bundle)])
    told = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    needed = {"version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"}
    assert needed | {"copyright", "network_data_format"} <= set(told)
    assert told["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] == "head"
    assert "sitewise-imaging" in told["required_packages_version"]
