"""A site kit: a folder with networks that a hospital runs on its own cases, offline, and hands back one file.

    KIT/kit.json                what is compared, and which networks
    KIT/packages/ARM.SEED/      the networks
    KIT/medperf/*.yaml          the same steps as three containers of MedPerf
    KIT/README.txt              the five commands

A kit runs under the version that made it: figures of two versions are not put together.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging import __version__
from imaging.benchmark.jobs import code_version, digest_of, read_receipt, write_whole
from imaging.benchmark.record import BenchmarkFacts
from imaging.benchmark.spec import BenchmarkSpec
from imaging.errors import ConfigError, OutputError, Reason
from imaging.evaluation.result import Inputs, plain, typed
from imaging.package import load_package

KIT: Final = "kit.json"
_TEMPLATES: Final = Path(__file__).parent / "kit_files"


@dataclass(frozen=True, slots=True)
class KitNetwork:
    """One network of a kit.

    Args:
        arm: How it was trained.
        seed: Which of the arm's trainings it is, counted from 1.
        package: Identity of its package.
        operating_point: Score from which a case is recalled, chosen where it was trained; None without.
        train_sites: Where it learnt; it says nothing of how it does at a new hospital there.
    """

    arm: str
    seed: int
    package: str
    operating_point: float | None
    train_sites: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.arm}.{self.seed}"


@dataclass(frozen=True, slots=True)
class SiteKit:
    """What a kit asks of a hospital; see `BenchmarkSpec` for what is compared. `code` is that of the version."""

    name: str
    reference: str
    primary: str
    others: tuple[str, ...]
    margin: float
    toolkit: str
    code: str
    networks: tuple[KitNetwork, ...]

    @property
    def identity(self) -> str:
        return digest_of(plain(self))

    @property
    def facts(self) -> BenchmarkFacts:
        """What the results of its hospitals are about."""
        return BenchmarkFacts(
            name=self.name,
            arms=tuple(dict.fromkeys(network.arm for network in self.networks)),
            reference=self.reference,
            primary=self.primary,
            others=self.others,
            margin=self.margin,
            inputs=Inputs(configuration=self.identity),
        )


@dataclass(frozen=True)
class KitFolder:
    """A kit where it lies."""

    folder: Path
    kit: SiteKit

    def package(self, network: KitNetwork) -> Path:
        return self.folder / "packages" / network.name


def make_kit(spec: BenchmarkSpec, packages: Sequence[tuple[str, Path]], out: Path) -> SiteKit:
    """Writes a new folder. `packages` are arms of the spec with a package folder each; of several of an arm each is one
    training more.

    Raises ConfigError for an unknown arm, a folder that holds something, and where the reference arm has no package;
    PackageError for what is no whole package; OutputError.
    """
    names = [arm.name for arm in spec.arms]
    for arm, _ in packages:
        if arm not in names:
            raise _wrong("--package", arm, "an arm of the spec: " + ", ".join(names))
    if spec.compared_with not in [arm for arm, _ in packages]:
        raise _wrong("--package", "none of the arm of reference", f"one or more of '{spec.compared_with}'")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise _wrong("--out", f"{out}, which is there", "a new folder")
    seeds = [[other for other, _ in packages[:n]].count(arm) + 1 for n, (arm, _) in enumerate(packages)]
    networks = [_network(arm, seed, folder) for (arm, folder), seed in zip(packages, seeds, strict=True)]
    kit = SiteKit(
        name=spec.name,
        reference=spec.compared_with,
        primary=spec.endpoints.primary,
        others=tuple(spec.endpoints.others),
        margin=spec.margin,
        toolkit=f"sitewise-imaging {__version__}",
        code=code_version(),
        networks=tuple(networks),
    )
    _write(KitFolder(out, kit), [folder for _, folder in packages])
    return kit


def read_kit(folder: Path) -> KitFolder:
    """The kit of a folder. Raises ConfigError where it is none, and where another version made it."""
    path = folder / KIT
    try:
        kit: SiteKit = typed(SiteKit, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _wrong(str(path), str(error.strerror), "a folder that `imaging site-kit make` wrote") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(str(path), str(error), "a kit.json that `imaging site-kit make` wrote") from error
    if (kit.toolkit, kit.code) != (f"sitewise-imaging {__version__}", code_version()):
        raise _wrong(str(path), f"a kit of {kit.toolkit}, code {kit.code[:12]}", _own())
    return KitFolder(folder, kit)


def _own() -> str:
    return f"one of the version that runs, sitewise-imaging {__version__}, code {code_version()[:12]}"


def _network(arm: str, seed: int, folder: Path) -> KitNetwork:
    package = load_package(folder)
    stated, receipt = package.description.operating_point, read_receipt(folder.parent / "receipt.json")
    point = receipt.operating_point if stated is None and receipt is not None else stated
    return KitNetwork(arm, seed, package.identity, point, tuple(package.description.training.get("sites") or ()))


def _write(made: KitFolder, folders: Sequence[Path]) -> None:
    out, kit = made.folder, made.kit
    try:
        for network, folder in zip(kit.networks, folders, strict=True):
            shutil.copytree(folder, made.package(network))
        for path in sorted(_TEMPLATES.rglob("*")):
            if path.is_file():
                place = out / path.relative_to(_TEMPLATES)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(path.read_text(encoding="utf-8").replace("{name}", kit.name), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED) from error
    write_whole(out / KIT, json.dumps(plain(kit), indent=1, sort_keys=True) + "\n")


def _wrong(key: str, found: str, allowed: str) -> ConfigError:
    return ConfigError(f"{key}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)
