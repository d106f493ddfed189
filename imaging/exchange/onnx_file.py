"""A package's network as one ONNX file, compared with the package on its golden image before it is kept."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from imaging.errors import ConfigError, OutputError, PackageError, Reason
from imaging.golden import read_golden
from imaging.models.build import Outputs
from imaging.models.onnx import session_of
from imaging.package import Package
from imaging.predictor import load_predictor

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

TOLERANCE: Final = 1e-4  # of logits, on the golden image


class _Tuple(nn.Module):
    """A network whose answer is a tuple of tensors, in the order of `names`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor for _, tensor in _named(self.model(image)))


def export_onnx(package: Package, path: Path) -> float:
    """Write the file; the largest difference of a logit on the golden image between it and the package.

    Input `image` (batch, channel, *spatial) float32 as the package's recipe gives it, sizes open. Outputs, where the
    network has them: `pixels` (batch, label, *spatial) and `classes` (batch, class), logits before temperature and
    softmax; of a detector `labels_0`, `codes_0` and so on, of each level. Recipe, temperature and threshold are in the
    file's metadata as JSON, because the file alone knows no intensities and no decision.

    Raises:
        ConfigError: For a package whose network is a file already, or a path that is taken.
        PackageError: Where onnx or onnxscript is not installed, or the file says other than the package.
        OutputError: Where it cannot be written.
    """
    description = package.description
    if description.network.is_file:
        raise ConfigError(
            f"package {package.name}: found a network of kind {description.network.kind}, which is a file already: "
            f"{description.weights.name}; allowed are networks that were trained here",
            Reason.CONFIG_INVALID,
        )
    if path.exists():
        raise ConfigError(f"--out {path}: found a file; allowed is a new name", Reason.OUTPUT_IN_USE)
    predictor = load_predictor(package)
    image, _ = read_golden(package.folder / description.golden.name)
    harmonised = predictor.recipe.harmonise(predictor.recipe.tissue(image)).as_tensor().float()[None]
    with torch.inference_mode():
        expected = dict(_named(predictor.model(harmonised)))
    program = _exported(predictor.model, harmonised, list(expected))
    program.model.metadata_props.update(_facts(package))
    content = program.model_proto.SerializeToString()
    apart = _difference(content, harmonised, expected)
    if not apart <= TOLERANCE:
        raise PackageError(
            f"package {package.name}: a logit of the ONNX file differs by {apart:.3g} on the golden image; allowed is "
            f"{TOLERANCE:g}",
            Reason.PACKAGE_INVALID,
        )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error
    return apart


def _named(outputs: Outputs) -> list[tuple[str, Tensor]]:
    named = [("pixels", outputs.pixels), ("classes", outputs.classes)]
    for level, (labels, codes) in enumerate(outputs.boxes):
        named += [(f"labels_{level}", labels), (f"codes_{level}", codes)]
    return [(name, tensor) for name, tensor in named if tensor is not None]


def _exported(model: nn.Module, image: Tensor, names: list[str]) -> ONNXProgram:
    dims = {axis: torch.export.Dim.DYNAMIC for axis in (0, *range(2, image.ndim))}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names what torchvision would add
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.onnx.export(
                _Tuple(model).eval(),
                # A batch of 1 would be taken for a constant.
                (image.repeat(2, *[1] * (image.ndim - 1)),),
                dynamo=True,
                input_names=["image"],
                output_names=names,
                dynamic_shapes=(dims,),
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise PackageError(
            f"{error.name} is not installed; install the extra: pip install 'sitewise-imaging[export]'",
            Reason.NOT_INSTALLED,
        ) from error
    assert program is not None
    return program


def _facts(package: Package) -> dict[str, str]:
    """What a user of the file must know: strings, as ONNX metadata has them."""
    description = package.description
    facts: dict[str, Any] = {
        "package": package.name,
        "version": description.card.version,
        "identity": package.identity,
        "licence": description.card.licence,
        "summary": description.card.summary,
        "recipe": {"name": description.recipe.name, "settings": description.recipe.settings},
        "labels": ["background", *(label.name for label in description.card.labels)],
        "classes": [one.name for one in description.card.classes],
        "temperature": description.temperature,
        "threshold": description.threshold,
        "boundary": description.boundary,
        "mirror": description.card.mirror,
        "tile": description.tile,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def _difference(content: bytes, image: Tensor, expected: dict[str, Tensor]) -> float:
    found = session_of("the exported network", content).run(list(expected), {"image": image.numpy()})
    pairs = zip(expected.values(), found, strict=True)
    return max(float(np.abs(wanted.numpy() - given).max()) for wanted, given in pairs)
