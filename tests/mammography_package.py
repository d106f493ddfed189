"""A detector package for tests, made in a second: an untrained network that marks a few boxes on any mammogram."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from imaging import __version__
from imaging.harmonise.recipe import identity, settings
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.models.build import build
from imaging.models.networks import RetinaNetSettings
from imaging.package import FORMAT_VERSION, Card, Description, Package, PinnedFile, RecipeChoice, read_typed
from imaging.packaging import write_package
from tests.conftest import REPOSITORY

CARD = REPOSITORY / "configs" / "package" / "mammography_mass.yaml"
NETWORK = RetinaNetSettings(features=(8, 12, 16), stem=2, pyramid=2, pyramid_width=8, anchors=(16.0,))
RECIPE = MammographyRecipe(spacing_mm=0.8, rows=320, columns=224)
# Of random scores: above the first lie one or a few boxes of each view, above the second none.
SOME, NOTHING = 0.3, 0.999


def write_detector(
    folder: Path,
    threshold: float = SOME,
    operating_point: float | None = 0.5,
    support: dict[str, list[str]] | None = None,
) -> Package:
    """The card of mammography_mass on a small grid, with the network of a seed in place of a trained one."""
    torch.manual_seed(5)
    model = build(NETWORK).eval()
    nn.init.normal_(model.labelling.cls_logits.weight, std=0.3)
    with torch.no_grad():
        for parameter in model.parameters():  # what the package will hold
            parameter.copy_(parameter.half())
    card: Card = read_typed(CARD, Card)
    description = Description(
        format_version=FORMAT_VERSION,
        least_toolkit=__version__,
        card=card,
        network=NETWORK,
        recipe=RecipeChoice(RECIPE.name, settings(RECIPE), identity(RECIPE)),  # type: ignore[arg-type]
        threshold=threshold,
        support=support or {},
        training={},
        weights=PinnedFile("", ""),
        golden=PinnedFile("", ""),
        golden_tolerance=0.02,
        tile=[160, 224],
        overlap=64,
        operating_point=operating_point,
    )
    return write_package(folder, description, model)
