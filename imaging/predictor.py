"""A package → a predictor: Images in, findings out. The one path for inference and benchmarks. Writes nothing."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from imaging.errors import GeometryError, InputError, PackageError, Reason
from imaging.extraction import Cut, bounds, count_outside, extract, extract_volumes, measured, place
from imaging.findings import Coverage, Detections, Finding, Prediction, Reading, Thumbnail
from imaging.golden import UNREFERENCED, read_golden
from imaging.harmonise.coverage import check_spread, is_cut, shares
from imaging.harmonise.recipe import Recipe, identity
from imaging.harmonise.spatial import Respace, grid_of, luminance_tensor
from imaging.harmonise.tissue import Tissue
from imaging.image import Array, Box, Grid, Image, SourceRef
from imaging.modalities import find_modality
from imaging.models.build import build
from imaging.models.detection import detect
from imaging.models.networks import OnnxSettings
from imaging.models.onnx import OnnxNetwork
from imaging.models.windows import probabilities
from imaging.organ import contradictions, surroundings, united
from imaging.package import Package, RecipeChoice
from imaging.volume_region import VolumeRegion

_THUMBNAIL_SIDE = 384
_SHOWN = (1.0, 99.5)  # percentiles of a volume that pictures of its slices show as black and white


class Predictor:
    """A package's network, recipe and threshold, ready to read images on one device."""

    def __init__(
        self,
        package: Package,
        model: nn.Module,
        recipe: Recipe,
        device: str = "cpu",
        locator: Predictor | None = None,
    ) -> None:
        """From its parts; `load_predictor` builds and checks them from a package folder."""
        self.package = package
        self.recipe = recipe
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.locator = locator

    @property
    def _is_of_volumes(self) -> bool:
        return self.package.description.network.is_volume

    def read(self, image: Image) -> Reading:
        """Findings of one image on its source grid, at the package's threshold. Raises ImagingError."""
        begin = perf_counter()
        image, structures = self._located(image)
        located = perf_counter()
        tissue = self.recipe.tissue(image)
        harmonised = self.recipe.harmonise(tissue)
        check_spread(harmonised.numpy(), _name(image))
        ready = perf_counter()
        description = self.package.description
        prediction = self._prediction(image, tissue, harmonised, structures)
        found = self.findings(prediction, description.threshold)
        if self.locator is None:
            self._refuse_implausible(image, found)
        classes: dict[str, float] = {}
        if isinstance(prediction, Prediction):
            classes = dict(zip((one.name for one in description.card.classes), prediction.classes, strict=True))
        looked = perf_counter()
        if tissue.quantities:
            found = [measured(finding, tissue.quantities) for finding in found]
        return Reading(
            image.all_refs or (UNREFERENCED,),
            tuple(found),
            _thumbnails(image, tissue, found or structures),
            {
                "locate": located - begin,
                "harmonise": ready - located,
                "network": looked - ready,
                "measure": perf_counter() - looked,
            },
            classes,
            (*tissue.notes, *self._outside(prediction)),
            tissue.anterior_px,
            structures,
            _coverage(image, tissue, structures) if self._is_of_volumes else None,
        )

    def predict(self, image: Image) -> Prediction | Detections:
        """What the network says of one image, on the model grid: probabilities of labels and classes, or boxes."""
        image, structures = self._located(image)
        tissue = self.recipe.tissue(image)
        return self._prediction(image, tissue, self.recipe.harmonise(tissue), structures)

    def findings(self, prediction: Prediction | Detections, least_score: float) -> list[Finding]:
        """What a prediction comes to on the source grid, best score first."""
        description = self.package.description
        labels = tuple(label.name for label in description.card.labels)
        if isinstance(prediction, Detections):
            return place(prediction, labels, least_score)
        if self._is_of_volumes:
            return extract_volumes(prediction, labels, self._cut(least_score))
        return extract(prediction, labels, description.boundary, description.card.least_pixels, least_score)

    def _located(self, image: Image) -> tuple[Image, tuple[Finding, ...]]:
        """The image with the organ as its region, and the organ, by the package's locator; as it is without one.

        Raises InputError where no organ is found, or what cannot be one.
        """
        if self.locator is None:
            return image, ()
        threshold = self.locator.package.description.threshold
        found = self.locator.findings(self.locator.predict(image), threshold)
        if not found:
            raise InputError(
                f"study {_study(image)}: {self.locator.package.name} finds no organ, so nothing was looked for in it",
                Reason.ORGAN_NOT_FOUND,
            )
        self.locator._refuse_implausible(image, found)
        return replace(image, region=bounds(_volume_regions(found))), tuple(found)

    def _refuse_implausible(self, image: Image, found: Sequence[Finding]) -> None:
        """Raises InputError where what was outlined as the modality's organ cannot be it."""
        known = self.package.modality.organ
        organ = None if known is None else united(_volume_regions([one for one in found if known.has(one.label)]))
        if known is None or organ is None:
            return
        if wrong := contradictions(organ, known):
            raise InputError(
                f"study {_study(image)}: what {self.package.name} outlines cannot be {known.name}: {'; '.join(wrong)}",
                Reason.IMPLAUSIBLE_ORGAN,
            )

    def _within(self, structures: Sequence[Finding]) -> Array | None:
        """Where findings may lie: in the organ that was located, or near it; None for everywhere."""
        known, organ = self.package.modality.organ, united(_volume_regions(structures))
        return None if known is None or organ is None else surroundings(organ, known.reach_mm)

    def _outside(self, prediction: Prediction | Detections) -> tuple[str, ...]:
        """A note on what the network marked where no finding can be."""
        known = self.package.modality.organ
        if known is None or not isinstance(prediction, Prediction) or prediction.within is None:
            return ()
        description = self.package.description
        labels = tuple(label.name for label in description.card.labels)
        count = count_outside(prediction, labels, self._cut(description.threshold))
        marks = "1 mark" if count == 1 else f"{count} marks"
        note = f"{marks} of the network more than {known.reach_mm:g} mm outside {known.name} left out: no finding there"
        return (note,) if count else ()

    def _cut(self, least_score: float) -> Cut:
        description = self.package.description
        return Cut(description.boundary, description.card.least_pixels, least_score, description.card.parts)

    def signal(self, image: Image) -> Array:
        """Every probability that the network gives of labels on one image, before any decision: (label, …)."""
        harmonised = self.recipe.harmonise(self.recipe.tissue(image)).as_tensor()
        if self._is_of_volumes:
            return self._windowed(harmonised)[1:]
        if "boxes" not in self.package.description.network.gives:
            return self._probabilities(harmonised)[0][1:]
        with torch.inference_mode():
            levels = self.model(harmonised.float()[None].to(self.device)).boxes
        told: Array = torch.cat([logits[0].sigmoid() for logits, _ in levels]).T.cpu().numpy()
        return told

    def _prediction(
        self, image: Image, tissue: Tissue, harmonised: MetaTensor, structures: Sequence[Finding] = ()
    ) -> Prediction | Detections:
        ref, grid = image.refs[0] if image.refs else UNREFERENCED, grid_of(harmonised)
        if self._is_of_volumes:
            slices = image.refs or (ref,) * image.grid.shape[0]
            chances, within = self._windowed(harmonised.as_tensor()), self._within(structures)
            return Prediction(chances, grid, image.source_grid, ref, slices=slices, within=within)
        extent = _extent(tissue, image)
        if "boxes" in self.package.description.network.gives:
            return self._detections(harmonised.as_tensor(), grid, image.source_grid, ref, extent)
        chances, classes = self._probabilities(harmonised.as_tensor())
        kinds = self.package.description.card.classes
        nothing = sum(p for p, kind in zip(classes, kinds, strict=True) if kind.nothing)
        return Prediction(chances, grid, image.source_grid, ref, classes, extent, 1.0 - nothing)

    def _detections(
        self, harmonised: torch.Tensor, grid: Grid, source: Grid, ref: SourceRef, extent: Box
    ) -> Detections:
        description = self.package.description
        found = detect(
            self.model,
            harmonised.float().to(self.device),
            description.network,
            description.tile or None,
            description.overlap,
        )
        return Detections(found.boxes.numpy(), found.scores.numpy(), found.labels.numpy(), grid, source, ref, extent)

    def _windowed(self, harmonised: torch.Tensor) -> Array:
        """(label, slice, row, column) with the background first, window by window."""
        image = harmonised.float()[None].to(self.device)
        with torch.inference_mode():
            told: Array = probabilities(self.model, image, self.package.description.tile or None).cpu().numpy()
        self._refuse_non_finite(told)
        return told

    def _probabilities(self, harmonised: torch.Tensor) -> tuple[Array, tuple[float, ...]]:
        """(label, *spatial) with the background first, and of each class; means over the mirrored image if so told."""
        description = self.package.description
        image = harmonised.float()[None].to(self.device)
        with torch.inference_mode():
            views = [self.model(image)] + ([self.model(image.flip(-1))] if description.card.mirror else [])
            pixels = [view.pixels.softmax(dim=1)[0] for view in views]
            turned = [one.flip(-1) if k else one for k, one in enumerate(pixels)]
            chances: Array = torch.stack(turned).mean(dim=0).cpu().numpy()
            classes: tuple[float, ...] = ()
            if views[0].classes is not None:
                shares = [(view.classes / description.temperature).softmax(dim=1)[0] for view in views]
                classes = tuple(torch.stack(shares).mean(dim=0).tolist())
        self._refuse_non_finite(chances, np.asarray(classes))
        return chances, classes

    def _refuse_non_finite(self, *told: Array) -> None:
        if not all(np.isfinite(values).all() for values in told):
            raise PackageError(
                f"package {self.package.folder.name}: the network gave a probability that is not a number",
                Reason.PREDICTION_FAILED,
            )


def load_predictor(package: Package, device: str = "cpu", threads: int | None = None) -> Predictor:
    """The predictor of a package; `threads` sets those of the whole process.

    Raises PackageError when weights, recipe or the golden phantom's output disagree.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    description = package.description
    recipe = build_recipe(description.recipe, package.folder.name)
    if len(description.card.classes) != description.network.classes:
        raise PackageError(
            f"package {package.folder.name}: network.classes is {description.network.classes}; allowed is the number "
            f"of card.classes, {len(description.card.classes)}",
            Reason.PACKAGE_INVALID,
        )
    model = read_model(package)
    locator = None if package.locator is None else load_predictor(package.locator, device)
    predictor = Predictor(package, model, recipe, device, locator)
    _check_golden(predictor)
    return predictor


def read_model(package: Package) -> nn.Module:
    """The network with its weights. Raises PackageError."""
    description = package.description
    if isinstance(description.network, OnnxSettings):
        return OnnxNetwork(description.network, package.weights)
    model = build(description.network)
    try:
        weights = load(gzip.decompress(package.weights.read_bytes()))
        model.load_state_dict({name: value.float() for name, value in weights.items()})
    except (RuntimeError, OSError, EOFError, ValueError, zlib.error, SafetensorError) as error:
        raise PackageError(
            f"package {package.folder.name}: {description.weights.name} does not hold the weights of the network that "
            f"the description names ({type(error).__name__})",
            Reason.PACKAGE_INVALID,
        ) from error
    return model


def _check_golden(predictor: Predictor) -> None:
    """The golden phantom must give what it gave when the package was made."""
    package = predictor.package
    try:
        image, expected = read_golden(package.folder / package.description.golden.name)
    except (OSError, KeyError, ValueError, GeometryError) as error:
        raise PackageError(
            f"package {package.folder.name}: {package.description.golden.name} is not a golden phantom "
            f"({type(error).__name__})",
            Reason.PACKAGE_INVALID,
        ) from error
    said = predictor.signal(image)
    allowed = package.description.golden_tolerance
    if said.shape != expected.shape:
        raise PackageError(
            f"package {package.folder.name}: of the golden phantom the network gives {said.shape} probabilities; "
            f"expected are {expected.shape}",
            Reason.PACKAGE_INVALID,
        )
    apart = float(np.abs(said - expected).max())
    if not apart <= allowed:
        raise PackageError(
            f"package {package.folder.name}: the golden phantom differs by {apart:.3g} from its expected output; "
            f"allowed is {allowed:g}",
            Reason.PACKAGE_INVALID,
        )


def build_recipe(choice: RecipeChoice, where: str) -> Recipe:
    """The recipe that a package describes. Raises PackageError when its identity is not the stated one."""
    try:
        recipe: Recipe = find_modality(choice.name).recipe()(**choice.settings)
    except TypeError as error:
        raise PackageError(f"package {where}: recipe.settings: {error}", Reason.PACKAGE_INVALID) from error
    if identity(recipe) != choice.identity:
        raise PackageError(
            f"package {where}: recipe '{choice.name}' has identity {identity(recipe)}; the description states "
            f"{choice.identity}. The harmonisation code or its settings changed: make the package again",
            Reason.PACKAGE_INVALID,
        )
    return recipe


def _study(image: Image) -> str:
    return (image.refs[0] if image.refs else UNREFERENCED).study_uid


def _volume_regions(found: Iterable[Finding]) -> list[VolumeRegion]:
    return [finding.volume_region for finding in found if finding.volume_region is not None]


def _name(image: Image) -> str:
    ref = image.refs[0] if image.refs else UNREFERENCED
    return f"study {ref.study_uid}" if image.grid.is_volume else f"image {ref.sop_uid}"


def _coverage(image: Image, tissue: Tissue, structures: Sequence[Finding]) -> Coverage:
    """What the channels show of the organs, on the grid of the key volume; of all of it where no organ is outlined."""
    organ = np.zeros(image.grid.shape, np.bool_)
    for region in (structure.volume_region for structure in structures):
        if region is not None:
            ends = zip(region.origin, region.mask.shape, strict=True)
            organ[tuple(slice(start, start + size) for start, size in ends)] |= region.mask
    found = bool(organ.any())
    looked = shares(image, tissue.volumes, organ if found else None)
    return Coverage(looked, found, found and is_cut(organ))


def _extent(tissue: Tissue, image: Image) -> Box:
    """The part of the source frame that the tissue covers, in whole pixels."""
    return Box.from_row(np.rint(tissue.grid.carry_box(tissue.grid.whole, image.source_grid).row).astype(int))


def _thumbnails(image: Image, tissue: Tissue, found: Sequence[Finding]) -> tuple[Thumbnail, ...]:
    """Of an image itself; of a volume the slices on which something is seen best, or the middle one."""
    if not image.grid.is_volume:
        ref = image.refs[0] if image.refs else UNREFERENCED
        return (_thumbnail(tissue.pixels, image.source_grid, ref),)
    refs = image.refs or (UNREFERENCED,) * image.grid.shape[0]
    seen = [refs.index(finding.ref) for finding in found] or [image.grid.shape[0] // 2]
    values = tissue.pixels.numpy()[0]
    low, high = np.percentile(values, _SHOWN)
    _, rows, columns = image.grid.shape
    plane = Grid.plane(rows, columns, image.grid.spacing[1], image.grid.spacing[2], "mm")
    scale = 255.0 / max(float(high - low), 1e-6)
    shown = {number: np.clip((values[number] - low) * scale, 0, 255) for number in seen}
    return tuple(_thumbnail(luminance_tensor(one, plane), plane, refs[number]) for number, one in shown.items())


def _thumbnail(pixels: MetaTensor, source: Grid, ref: SourceRef) -> Thumbnail:
    grid = grid_of(pixels)
    step = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True)) / _THUMBNAIL_SIDE
    shown = Respace((max(step, min(grid.spacing)),) * 2)(pixels)
    values: Any = shown.numpy()[0]
    scale = 255 / max(float(values.max()), 1.0) if values.max() > 255 else 1.0
    shown_grid = grid_of(shown)
    grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return Thumbnail(ref, grey, shown_grid.carry_box(shown_grid.whole, source))
