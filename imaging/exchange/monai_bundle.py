"""A package as a MONAI bundle: run by MONAI's own command line, with this toolkit's recipe and network inside.

The bundle needs this toolkit installed (`required_packages_version` in its metadata), because the recipe is what makes
images of sites comparable. It gives probabilities on the model's grid, with the affine of that grid, and no findings:
these, and DICOM results, are given by `imaging infer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from imaging import __version__
from imaging.data.images import read_image
from imaging.errors import ConfigError, OutputError, Reason
from imaging.modalities import find_modality
from imaging.models.build import build
from imaging.models.networks import parse_network
from imaging.models.windows import probabilities
from imaging.package import Package
from imaging.predictor import load_predictor

METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
_HERE: Final = "imaging.exchange.monai_bundle"


class Harmonise:
    """A file's path → the model's image, MetaTensor (channel, *spatial) float32, by a recipe of this toolkit.

    Args:
        recipe: Its name.
        settings: Its settings, learned references included.
    """

    def __init__(self, recipe: str, settings: Mapping[str, Any]) -> None:
        self.recipe = find_modality(recipe).recipe()(**settings)

    def __call__(self, path: str) -> MetaTensor:
        """Raises InputError for a file that cannot be read."""
        image = self.recipe.harmonise(self.recipe.tissue(read_image(Path(path))))
        image.meta["filename_or_obj"] = str(path)
        return image


class LabelProbabilities(nn.Module):
    """Harmonised images → probabilities (batch, label, *spatial), the background first, as the package gives them.

    Args:
        network: The network as the package states it.
        mirror: Whether the answer is the mean over an image and its left-right mirror image.
        tile: Sides of the windows in which a volume is read; empty for all at once.
    """

    def __init__(self, network: Mapping[str, Any], mirror: bool = False, tile: Sequence[int] = ()) -> None:
        super().__init__()
        self.model = build(parse_network(network))
        self.mirror = mirror
        self.tile = tuple(tile)

    @torch.inference_mode()
    def forward(self, image: Tensor) -> Tensor:
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        seen = torch.stack([self._seen(one[None]) for one in plain])
        if self.mirror:
            turned = torch.stack([self._seen(one[None].flip(-1)) for one in plain])
            seen = (seen + turned.flip(-1)) / 2
        return MetaTensor(seen, meta=image.meta) if isinstance(image, MetaTensor) else seen

    def _seen(self, image: Tensor) -> Tensor:
        return probabilities(self.model, image, self.tile or None)


def export_bundle(package: Package, folder: Path) -> None:
    """Write the bundle's folder.

    Raises:
        ConfigError: For a package that needs another package first, gives no labels per pixel or is a file; or a folder
            that is taken.
        OutputError: Where it cannot be written.
    """
    description = package.description
    _refuse(package, folder)
    model = load_predictor(package).model
    try:
        for name, content in (
            (METADATA, json.dumps(_metadata(package), indent=2)),
            (INFERENCE, json.dumps(_inference(package), indent=2)),
            ("LICENSE", description.card.licence),
            ("docs/README.md", _readme(package)),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{content}\n", encoding="utf-8")
        (folder / WEIGHTS).parent.mkdir()
        torch.save({f"model.{name}": value for name, value in model.state_dict().items()}, folder / WEIGHTS)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error


def _refuse(package: Package, folder: Path) -> None:
    description = package.description
    checks = (
        ("locator", package.locator and package.locator.name, package.locator is None, "none"),
        ("network.kind", description.network.kind, not description.network.is_file, "a network that was trained here"),
        ("network", "no labels per pixel", "labels" in description.network.gives, "labels per pixel"),
        ("--out", str(folder), not folder.exists(), "a new folder"),
    )
    for field, found, is_right, allowed in checks:
        if not is_right:
            raise ConfigError(
                f"package {package.name}, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID
            )


def _inference(package: Package) -> dict[str, Any]:
    """The configuration that `python -m monai.bundle run` takes: pictures or volumes in, one NIfTI for each out."""
    description = package.description
    return {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": ".",
        "images": "images/*",
        "output_dir": "predictions",
        "device": "cpu",
        "preprocessing": {
            "_target_": f"{_HERE}.Harmonise",
            "recipe": description.recipe.name,
            "settings": description.recipe.settings,
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$sorted(glob.glob(@images))",
            "transform": "@preprocessing",
        },
        "network_def": {
            "_target_": f"{_HERE}.LabelProbabilities",
            "network": description.network.stated(),
            "mirror": description.card.mirror,
            "tile": description.tile,
        },
        "weights": f"$torch.load(@bundle_root + '/{WEIGHTS}', map_location=@device, weights_only=True)",
        "load": "$@network_def.load_state_dict(@weights)",
        "network": "$@network_def.to(@device).eval()",
        "saver": {
            "_target_": "SaveImage",
            "output_dir": "@output_dir",
            "output_postfix": "probabilities",
            "output_ext": ".nii.gz",
            "resample": False,
            "separate_folder": False,
            "print_log": False,
        },
        "initialize": ["$@load"],
        "run": ["$[@saver(@network(image[None].to(@device))[0]) for image in @dataset]"],
    }


def _metadata(package: Package) -> dict[str, Any]:
    """MONAI's metadata of a bundle; what nobody said stays an empty string."""
    description, card = package.description, package.description.card
    network = description.network
    labels = ["background", *(label.name for label in card.labels)]
    shape = ["*"] * network.spatial_dims
    image = {"type": "image", "format": "magnitude", "modality": card.applicability.modality, "dtype": "float32"}
    return {
        "version": card.version,
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"sitewise-imaging": __version__},
        "name": card.name,
        "task": card.summary,
        "description": f"{card.summary} Package identity {package.identity}.",
        "authors": card.manufacturer,
        "copyright": card.licence,
        "data_source": "",
        "data_type": "",
        "image_classes": f"as recipe {description.recipe.name} gives them",
        "label_classes": ", ".join(labels),
        "pred_classes": "probabilities of each label",
        "eval_metrics": {key: v for key, v in description.training.items() if key.startswith("validation_")},
        "intended_use": "Research use only: not a medical device.",
        "references": [],
        "network_data_format": {
            "inputs": {
                "image": {
                    **image,
                    "num_channels": network.in_channels,
                    "spatial_shape": shape,
                    "value_range": [],
                    "is_patch_data": bool(description.tile),
                    "channel_def": {str(k): "image" for k in range(network.in_channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": network.out_channels,
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": bool(description.tile),
                    "channel_def": {str(k): name for k, name in enumerate(labels)},
                }
            },
        },
    }


def _readme(package: Package) -> str:
    card = package.description.card
    absent = f"threshold {package.description.threshold:g}, findings, DICOM results"
    if card.classes:
        absent += f", image classes {', '.join(kind.name for kind in card.classes)}"
    return f"""\
# {card.name} {card.version}

{card.summary} Research use only: not a medical device.

    python -m monai.bundle run --bundle_root . --config_file {INFERENCE} --images "FOLDER/*" --output_dir predictions

Every picture or volume gives one NIfTI of probabilities on the model's grid. Needs sitewise-imaging {__version__}.
Not in this bundle: {absent}.
Those are given by `imaging infer` with the package of identity {package.identity}.
"""
