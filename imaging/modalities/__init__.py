"""What kinds of exam there are: one record each, found by the name of the recipe that a package names.

A package's recipe decides everything: which images are read, how, and what is concluded. The DICOM modality (0008,0060)
is a header fact like others, and two modalities here may share one. Those of this toolkit stand below; a distribution
adds its own under the entry point group `imaging.modalities`, as `tests/toys` does. A record is loaded when it is asked
for, and needs no torch: what does is behind a function.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imaging.dicom.select import Select
from imaging.errors import ConfigError, PackageError, Reason, ReasonCode
from imaging.exam.conclusion import Conclusion, Readings, Terms
from imaging.exam.context import Context, Fact
from imaging.image import Image
from imaging.organ import OrganBounds

if TYPE_CHECKING:
    from imaging.harmonise.recipe import Recipe
    from imaging.phantoms.sites import SitedKind
    from imaging.report.kind import ObjectKind

GROUP: Final = "imaging.modalities"
OWN: Final = {
    "ultrasound": "imaging.modalities.ultrasound:ULTRASOUND",
    "mammography": "imaging.modalities.mammography:MAMMOGRAPHY",
    "prostate": "imaging.modalities.prostate:PROSTATE",
}

Progress = Callable[[int, int], None]  # called with (done, of)
# Folder, number of cases, seed, progress → the path of manifest.csv.
TrainingSet = Callable[[Path, int, int, Progress | None], Path]


def no_outputs() -> tuple[ObjectKind, ...]:
    """Of a modality that adds nothing to segmentations and the measurement report."""
    return ()


@dataclass(frozen=True)
class Modality:
    """One kind of exam, from its images to what is said of them.

    Args:
        name: Of its recipe, as packages name it.
        acquired_as: DICOM modality (0008,0060) that its packages state, a code of CID 29.
        select: A study's series → which image plays which role, and why each other one plays none.
        recipe: Gives the class of its recipe; imports torch.
        conclude: What was read, the package's terms and what is known of the exam besides → what is said of it.
        golden: Draws the image of a golden phantom: no person's picture goes into a package.
        measures: What its findings can be measured by, as cards name it.
        outputs: Gives the kinds of DICOM object that it adds to segmentations and the measurement report.
        reasons: Its own reason codes; None where those of all modalities do.
        context: The clinical facts that its conclusions use where somebody states them.
        mr_parts: Of MRI, the BodyPartExamined values under which its images may travel ("" is unsaid).
        phantoms: Writers of its training sets of phantoms, by name.
        sited: Of those, by name, what draws a set whose sites differ as a site file says.
        organ: What the organ of its volumes can look like at all; None where nothing is known of it.
    """

    name: str
    acquired_as: str
    select: Select
    recipe: Callable[[], type[Recipe]]
    conclude: Callable[[Readings, Terms, Context], Conclusion]
    golden: Callable[[], Image]
    measures: tuple[str, ...] = ()
    outputs: Callable[[], tuple[ObjectKind, ...]] = no_outputs
    reasons: type[ReasonCode] | None = None
    context: tuple[Fact, ...] = ()
    mr_parts: frozenset[str] = frozenset()
    phantoms: Mapping[str, TrainingSet] = field(default_factory=dict)
    sited: Mapping[str, Callable[[], SitedKind]] = field(default_factory=dict)
    organ: OrganBounds | None = None


@cache
def find_modality(name: str) -> Modality:
    """The modality of a recipe's name. Raises PackageError for one that neither is here nor was installed."""
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
    else:
        found = _installed(name)
    if not isinstance(found, Modality) or found.name != name:
        raise PackageError(
            f"entry point '{name}' of {GROUP}: found {found!r:.80}; allowed is a Modality of that name",
            Reason.PACKAGE_INVALID,
        )
    return found


def names() -> tuple[str, ...]:
    """The names of all modalities, those of this toolkit first."""
    return (*OWN, *sorted({entry.name for entry in _entries()} - set(OWN)))


def all_modalities() -> Iterator[Modality]:
    """Every modality. Raises as `find_modality` where an installed one is broken."""
    return (find_modality(name) for name in names())


def training_set(kind: str) -> TrainingSet:
    """The writer of a training set of phantoms. Raises ConfigError for one that no modality has."""
    writers = {name: write for modality in all_modalities() for name, write in modality.phantoms.items()}
    if kind not in writers:
        raise ConfigError(
            f"phantoms of kind '{kind}': there are none; allowed are {', '.join(writers)}", Reason.CONFIG_INVALID
        )
    return writers[kind]


def sited_kind(kind: str) -> SitedKind:
    """What draws phantoms of several sites. Raises ConfigError for a kind that no modality draws so."""
    kinds = {name: give for modality in all_modalities() for name, give in modality.sited.items()}
    if kind not in kinds:
        raise ConfigError(
            f"phantoms of kind '{kind}' by site: there are none; allowed are {', '.join(kinds)}", Reason.CONFIG_INVALID
        )
    return kinds[kind]()


def _entries() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _installed(name: str) -> object:
    """What an installed distribution gives under a name."""
    entries = {entry.value: entry for entry in _entries() if entry.name == name}
    if len(entries) != 1:
        found = f"{len(entries)} installed ones, {sorted(entries)}" if entries else "none"
        raise PackageError(
            f"recipe '{name}': found {found}; allowed are {', '.join(names())}. "
            f"Another is one that a distribution installs as entry point of {GROUP}",
            Reason.NOT_INSTALLED if not entries else Reason.PACKAGE_INVALID,
        )
    (entry,) = entries.values()
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise PackageError(
            f"recipe '{name}': its modality {entry.value} cannot be imported ({type(error).__name__}: {error})",
            Reason.NOT_INSTALLED,
        ) from error
