"""Networks: every kind in two and three dimensions, what it gives, and what its description refuses."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imaging.errors import ConfigError
from imaging.models.build import BUILDERS, Outputs, build
from imaging.models.networks import (
    KINDS,
    BasicUNetSettings,
    DynUNetSettings,
    Network,
    ResNetSettings,
    RetinaNetSettings,
    kinds_giving,
    parse_network,
)
from imaging.package import load_package, write_description
from imaging.tasks.segmentation import SegmentationTask
from tests.conftest import REPOSITORY

BASIC = BasicUNetSettings(features=(4, 4, 8, 8, 8, 4))
DYN = DynUNetSettings(features=(4, 8, 12), stem=2, deep_supervision=1, classes=3)
RESNET = ResNetSettings(features=(4, 8, 8, 8), classes=3)
RETINANET: dict[str, Any] = {"kind": "retinanet", "features": (4, 8, 8)}
OF_PIXELS_OR_IMAGES: dict[str, Any] = {"basic_unet": BASIC, "dyn_unet": DYN, "resnet": RESNET}


def image(network: Network, batch: int = 2) -> torch.Tensor:
    spatial = (32, 48) if network.spatial_dims == 2 else (16, 32, 48)
    return torch.rand(batch, network.in_channels, *spatial, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", OF_PIXELS_OR_IMAGES)
def test_every_kind_gives_what_it_says(kind: str, channels: int, dims: Any) -> None:
    labels = {} if kind == "resnet" else {"out_channels": 4}
    network = replace(OF_PIXELS_OR_IMAGES[kind], spatial_dims=dims, in_channels=channels, **labels)
    x = image(network)
    outputs = build(network).eval()(x)
    if kind == "resnet":
        assert outputs.pixels is None
    else:
        assert outputs.pixels.shape == (len(x), 4, *x.shape[2:])
    if kind == "basic_unet":
        assert outputs.classes is None
    else:
        assert outputs.classes.shape == (len(x), 3)
    assert outputs.deep == ()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("stem", [1, 2])
def test_boxes_come_from_every_level_of_the_pyramid(stem: Any, dims: Any) -> None:
    """Two anchors at each place; images of 32 × 48 have 16 × 24 and 8 × 12 places, a stem of 2 halves their sides."""
    network = RetinaNetSettings(dims, 1, 4, (4, 8, 8), stem=stem, pyramid=2, anchors=(4.0, 6.0))
    assert (network.multiples, network.strides) == ((4 * stem,) * dims, (2 * stem, 4 * stem))
    x = image(network)
    outputs = build(network).eval()(x)
    assert (outputs.pixels, outputs.classes, outputs.deep) == (None, None, ())
    for stride, (logits, codes) in zip(network.strides, outputs.boxes, strict=True):
        count = 2 * int(np.prod([side // stride for side in x.shape[2:]]))
        assert (logits.shape, codes.shape) == ((2, count, 3), (2, count, 2 * dims))


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_coarser_levels_speak_in_training_only_and_as_fine_as_the_image(stem: Any, levels: int) -> None:
    network = replace(DYN, features=(4, 6, 8, 10), stem=stem, deep_supervision=levels)
    model, x = build(network), image(network)
    assert [d.shape for d in model.train()(x).deep] == [(2, 2, 32, 48)] * levels
    assert model.eval()(x).deep == ()


def test_every_weight_of_the_training_gets_a_gradient() -> None:
    """An unused weight would stop training on several processes."""
    model = build(DYN).train()
    outputs = model(image(DYN))
    (outputs.pixels.square().mean() + outputs.classes.square().mean() + outputs.deep[0].square().mean()).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_labels_get_no_gradient_from_classes() -> None:
    """The classes look through the predicted labels but cannot move them: the trunk learns from both."""
    model = build(DYN).eval()  # without dropout
    model(image(DYN)).classes.square().sum().backward()
    told = {name: weight.grad for name, weight in model.named_parameters()}
    assert all(told[name] is None for name in told if name.startswith(("output_block", "deep_heads")))
    for part in ("classifier", "bottleneck", "input_block", "upsamples"):
        assert any(g is not None and float(g.abs().max()) > 0 for name, g in told.items() if name.startswith(part)), (
            part
        )


def test_classes_look_where_the_labels_are() -> None:
    """Another label map gives another class, so pooling does follow the labels."""
    model, x = build(DYN).eval(), image(DYN)
    before = model(x)
    with torch.no_grad():
        model.output_block.conv.conv.bias.copy_(torch.tensor([-9.0, 9.0]))
    after = model(x)
    assert bool((after.pixels.argmax(1) == 1).all())
    assert not torch.allclose(before.classes, after.classes, atol=1e-4)


@pytest.mark.parametrize("kind", OF_PIXELS_OR_IMAGES)
def test_weights_go_round(kind: str) -> None:
    network = OF_PIXELS_OR_IMAGES[kind]
    one, other, x = build(network).eval(), build(network).eval(), image(network)
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for a, b in zip(one(x)[:2], other(x)[:2], strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("network", [DYN, RESNET], ids=["dyn_unet", "resnet"])
def test_a_sample_does_not_see_its_batch(network: Network) -> None:
    model, x = build(network).eval(), image(network, 3)
    together, alone = model(x), model(x[1:2])
    torch.testing.assert_close(together.classes[1:2], alone.classes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "basic_unet", "features": (4, 8)}, "basic_unet, features: found 2 widths; allowed is 6"),
        ({"kind": "dyn_unet", "features": (4, 8)}, "dyn_unet, features: found 2 widths; allowed is 3 or more"),
        ({"kind": "resnet", "features": (4,) * 5, "classes": 2}, "resnet, features: found 5 widths; allowed is 4"),
        ({"kind": "basic_unet", "stem": 2}, "stem: found 2; allowed is 1"),
        ({"kind": "basic_unet", "deep_supervision": 1}, "deep_supervision: found 1; allowed is 0$"),
        ({"kind": "resnet", "features": (4,) * 4, "classes": 2, "stem": 2}, "stem: found 2; allowed is 1"),
        ({"kind": "dyn_unet", "features": (4, 8, 8), "deep_supervision": 2}, "found 2; allowed is 0 to 1"),
        ({"kind": "dyn_unet", "features": (4, 8, 8), "deep_supervision": -1}, "found -1; allowed is 0 to 1"),
        ({"kind": "dyn_unet", "features": (4, 8, 8), "stem": 4}, r"network.stem.*\[1, 2\].*value: 4"),
        ({"kind": "dyn_unet", "features": (4, 8, 8), "classes": 1}, "classes: found 1; allowed is 0, or 2 or more"),
        ({"kind": "basic_unet", "classes": 2}, "classes: found 2; allowed is 0"),
        ({"kind": "resnet", "features": (4,) * 4, "classes": 1}, "classes: found 1; allowed is 2 or more"),
        ({"kind": "basic_unet", "out_channels": 1}, "out_channels: found 1; allowed is 2 or more"),
        ({"kind": "dyn_unet", "features": (4, 0, 8)}, r"features: found \[4, 0, 8\]; allowed is widths of 1 or more"),
        ({"kind": "retinanet", "features": (4,)}, "retinanet, features: found 1 widths; allowed is 2 or more"),
        ({**RETINANET, "stem": 4}, r"network.stem.*\[1, 2\].*value: 4"),
        ({**RETINANET, "deep_supervision": 1}, "deep_supervision: found 1; allowed is 0$"),
        ({**RETINANET, "classes": 3}, "classes: found 3; allowed is 0"),
        ({**RETINANET, "out_channels": 1}, "out_channels: found 1; allowed is 2 or more"),
        ({**RETINANET, "pyramid": 4}, "pyramid: found 4; allowed is 1 to 3"),
        ({**RETINANET, "pyramid": 0}, "pyramid: found 0; allowed is 1 to 3"),
        ({**RETINANET, "pyramid_width": 12}, "pyramid_width: found 12; allowed is multiples of 8"),
        ({**RETINANET, "anchors": ()}, r"anchors: found \[\]; allowed is sides of 1 pixel or more"),
        ({**RETINANET, "anchors": (8.0, 0.5)}, r"anchors: found \[8.0, 0.5\]; allowed is sides of 1 pixel"),
        ({"kind": "basic_unet", "spatial_dims": 4}, "basic_unet: .*spatial_dims.*4"),
        ({"kind": "vgg"}, "kind: found vgg; allowed is basic_unet, dyn_unet, efficient_unet, resnet, retinanet"),
        ({"features": (4, 8, 8)}, "kind: found None; allowed is basic_unet, dyn_unet"),
        ({"kind": ["dyn_unet"]}, r"kind: found \['dyn_unet'\]; allowed is basic_unet"),
        ({"kind": "dyn_unet", "width": 4}, "dyn_unet, 'width': found 4; allowed is the settings spatial_dims"),
        ({"kind": "dyn_unet", "features": ["wide"]}, "dyn_unet: .*features.*wide"),
        ({"kind": "dyn_unet", "pyramid": 2}, "dyn_unet, pyramid: found 2; allowed is 3"),
        ({**RETINANET, "axes": (1, 2)}, r"retinanet, axes: found \(1, 2\); allowed is \(\)"),
    ],
    ids=str,
)
def test_what_no_network_is_like_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_network(change)


def test_settings_of_no_kind_are_refused_when_built() -> None:
    with pytest.raises(ConfigError, match="basic_unet, spatial_dims: found 4; allowed is 2 or 3"):
        BasicUNetSettings(4)  # type: ignore[arg-type]


def test_what_a_network_gives_depends_on_its_settings() -> None:
    assert (DYN.gives, replace(DYN, classes=0).gives) == ({"labels", "classes"}, {"labels"})
    assert (BASIC.gives, RESNET.gives, parse_network(RETINANET).gives) == ({"labels"}, {"classes"}, {"boxes"})
    assert (kinds_giving("labels"), kinds_giving("boxes")) == ("basic_unet, dyn_unet, efficient_unet", "retinanet")


@pytest.mark.parametrize("network", [*OF_PIXELS_OR_IMAGES.values(), parse_network(RETINANET)], ids=lambda n: n.kind)
def test_what_is_stated_is_read_again(network: Network) -> None:
    """With the settings of other kinds, which format 1 of packages states of every network."""
    stated = network.stated()
    assert list(stated)[:4] == ["kind", "spatial_dims", "in_channels", "out_channels"]
    assert len(stated) == 15
    assert parse_network(stated) == network


IDENTITIES = {
    "breast_us": "fcd332da2900091b26ea7dd9ab089eeafaa6e3ac2fafcb751e936183a262a1fe",
    "fetal_head_us": "8ea46f691e65228fddcf8f4cd455643f2c2074f4665830ea5e327c86056c70db",
    "mammography_mass": "065077de75d25317667a64149ad0ff8bfb004e0d7f84fe3a7a0367c162cf6ad3",
    "prostate_gland": "2a84fea146f83ac9dffbf56c7d62864e8e54a042098361a6bca0b33d446ec092",
    "prostate_lesion": "0bdf69fcca36eeb6c164771bd74a788a9938c10bb6c20e8bd295990e3215af76",
}
# The same packages as they were before cards said what they learnt from.
UNSAID = {
    "breast_us": "7486f0992bcd2689f91859858b6eb941794be4ebe4d9c544c267420b157e87be",
    "fetal_head_us": "c1831ec91a6f98fbf438ce92f219595120acbbabcc26f201e5c264b99b6fce04",
    "mammography_mass": "b15d8c7ca36f9f356220c2a93966805124583172532c72c7c6b2ebc69b28ba9f",
    "prostate_gland": "e89b4e8b085fb8b6adec413cd293c32621a98ebab667d9c25ecdbba3fa2672d5",
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_packages_keep_their_identity(name: str, tmp_path: Path) -> None:
    """Results name it; those that were written before a kind had its own record must be found under the same one."""
    shipped = REPOSITORY / "data_samples" / "packages" / name
    package = load_package(shipped)
    assert package.identity == IDENTITIES[name]
    shutil.copytree(shipped, tmp_path / name)
    write_description(tmp_path / name, package.description)
    assert load_package(tmp_path / name).identity == IDENTITIES[name]


@pytest.mark.parametrize("name", UNSAID)
def test_a_card_that_says_nothing_new_keeps_its_identity(name: str, tmp_path: Path) -> None:
    """Packages of others, whose cards do not say what they learnt from, load as before under the same identity."""
    shipped = REPOSITORY / "data_samples" / "packages" / name
    shutil.copytree(shipped, tmp_path / name)
    description = load_package(shipped).description
    unsaid = replace(description.card, learnt_from=None, instead_of=[])
    write_description(tmp_path / name, replace(description, card=unsaid))
    assert "learnt_from" not in (tmp_path / name / "package.yaml").read_text()
    assert load_package(tmp_path / name).identity == UNSAID[name]


@dataclass(frozen=True)
class ThresholdSettings(Network):
    """A toy: what is brighter than a level that is learned."""

    kind = "threshold"
    can_give = frozenset({"labels"})

    out_channels: int = 2
    level: float = 0.5


class Threshold(torch.nn.Module):
    def __init__(self, network: ThresholdSettings) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(network.level))

    def forward(self, x: torch.Tensor) -> Outputs:
        above = 20 * (x[:, :1] - self.level)
        return Outputs(torch.cat([-above, above], dim=1), None)


def test_a_new_network_is_its_dataclass_and_its_builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row in each of both tables; then files state it, a task trains it and a package carries it."""
    stated = {"kind": "threshold", "level": 0.25}
    with pytest.raises(ConfigError, match="kind: found threshold"):
        parse_network(stated)
    monkeypatch.setitem(KINDS, "threshold", ThresholdSettings)
    monkeypatch.setitem(BUILDERS, ThresholdSettings, Threshold)
    task = SegmentationTask(stated)
    assert (task.network, kinds_giving("labels")) == (
        ThresholdSettings(level=0.25),
        "basic_unet, dyn_unet, efficient_unet, threshold",
    )
    marked = task.marks({"image": torch.tensor([[[[0.1, 0.3], [0.2, 0.4]]]])})  # type: ignore[typeddict-item]
    assert marked is not None
    assert marked.tolist() == [[[False, True], [False, True]]]
    shutil.copytree(REPOSITORY / "data_samples" / "packages" / "fetal_head_us", tmp_path / "toy")
    description = load_package(tmp_path / "toy").description
    write_description(tmp_path / "toy", replace(description, network=task.network))
    package = load_package(tmp_path / "toy")
    assert package.description.network == task.network
    assert package.identity != IDENTITIES["fetal_head_us"]
