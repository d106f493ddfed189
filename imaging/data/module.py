"""The data module of training: training-site cases for fitting, every site's cases for testing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from imaging.data.augment import augment, draw
from imaging.data.cache import SampleCache, default_folder
from imaging.data.dataset import Batch, Sample, SampleDataset
from imaging.data.duplicates import refuse_shared_files
from imaging.data.loader import BatchLoader, Place, Share
from imaging.data.manifest import Case, Split, read_manifest
from imaging.data.patches import Patches, cut, cut_labels, dice
from imaging.data.styles import Style, chosen, restyled, style_of
from imaging.errors import ConfigError, Reason
from imaging.harmonise.augmentation import Augmentation, Change
from imaging.harmonise.recipe import Recipe, is_of_volumes, normalisation_of
from imaging.table import clean


class ImagingDataModule(pl.LightningDataModule):
    """Cases of one manifest through one recipe.

    Args:
        manifest: CSV with case_id, patient_id, site, split, image and truth; paths relative to it.
        recipe: How images are harmonised.
        batch_size: Images per step and process.
        test_sites: Sites that fitting and validation never see; their cases of every split serve testing only.
        classes: Names of image classes among the labels of the manifest, in the network's order.
        repeats: How often an epoch shows the cases of a label, where not once: a rare class is seen more often.
        augmentation: Ranges of variation; None takes the recipe's.
        vary: What of these ranges is otherwise, by name: `{chance: 0.5, strength: 1.5}`.
        seed: Of the order of cases and of their variation.
        cache: Folder of harmonised samples, shared by all runs; None is the user's cache folder.
        cache_limit_gb: What the folder may hold in all; the longest unused entries go first.
        instances: Whether truth numbers the lesions of a mask, as detection needs it: its connected parts of one value.
        patches: What is cut from each varied image for training; None trains on whole images.
        labels: What the values of the truths mean, from 1 on, in the network's order; without them any value is the one
            label.
        check_duplicates: Whether one file as the image of cases on two sides is refused before the first step;
            `imaging data check` looks further.
    """

    def __init__(
        self,
        manifest: Path,
        recipe: Recipe,
        batch_size: int = 8,
        test_sites: list[str] | None = None,
        classes: list[str] | None = None,
        repeats: dict[str, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 1,
        cache: Path | None = None,
        cache_limit_gb: float = 50.0,
        instances: bool = False,
        patches: Patches | None = None,
        labels: list[str] | None = None,
        check_duplicates: bool = True,
        vary: dict[str, Change] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["recipe"])
        self.manifest = manifest
        self.recipe = recipe
        self.batch_size = batch_size
        self.test_sites = frozenset(clean(site) for site in test_sites or [])
        self.classes = classes or []
        self.repeats = repeats or {}
        self.augmentation = (augmentation or recipe.augmentation).changed(vary or {})
        self.seed = seed
        self.cache = cache
        self.cache_limit_gb = cache_limit_gb
        self.instances = instances
        self.patches = patches
        self.labels = labels or []
        self.check_duplicates = check_duplicates
        self._made: list[SampleDataset] = []
        self._cases: list[Case] = []
        self._kept: SampleCache | None = None
        self._datasets: dict[str, SampleDataset] = {}
        self._styles: list[Style] = []

    def setup(self, stage: str) -> None:
        """Read the table once. Raises ConfigError for what cannot be trained on, naming the remedy."""
        if not self._cases:
            self._cases = read_manifest(self.manifest)
            self._refuse_unknown_sites()
            self._refuse_counts()
            self._refuse_patches()
            if self.check_duplicates:
                refuse_shared_files(self._cases, self.test_sites)
        if stage in ("fit", "validate"):
            for split in ("train", "val"):
                self._refuse_empty(split)
        elif not self.split("test"):
            raise ConfigError(
                f"manifest {self.manifest.name}: no case to test on; give some patients the split 'test', or name a "
                "site in data.test_sites",
                Reason.CONFIG_INVALID,
            )

    def split(self, split: Split) -> list[Case]:
        """Training and validation cases come from training sites only; test sites give all their cases to testing."""
        if split == "test":
            return [c for c in self._cases if c.split == "test" or c.site in self.test_sites]
        return [c for c in self._cases if c.split == split and c.site not in self.test_sites]

    def fitted(self) -> list[Case]:
        """The cases that a fit trains and validates on, in the table's order."""
        return [c for c in self._cases if c.split != "test" and c.site not in self.test_sites]

    def learn_intensities(self) -> None:
        """Let the recipe learn from the training cases of training sites, in the table's order; then it is frozen.

        Raises ConfigError where it already knows a reference that these cases do not give: one of other cases, which
        this training must not see.
        """
        known = normalisation_of(self.recipe)
        learnt = self.recipe.fit(self.dataset(self.split("train"), "reference").placed())
        if known is not None and known.reference and known != normalisation_of(learnt):
            raise ConfigError(
                f"data.recipe, normalisation.reference: found {known.reference}, which is not what the training cases "
                "of this run give; allowed is none, and it is learnt from them",
                Reason.CONFIG_INVALID,
            )
        self.take_recipe(learnt)

    def take_recipe(self, recipe: Recipe) -> None:
        """Harmonise by another recipe from here on."""
        self.recipe = recipe
        self._datasets.clear()
        self._styles.clear()

    def first_sample(self) -> Sample:
        """One harmonised case of the training split, to compare a network with."""
        return self.dataset(self.split("train")[:1], "first")[0]

    @property
    def decoded(self) -> int:
        """How many pictures were decoded and harmonised so far, because no cache had them."""
        return sum(dataset.decoded for dataset in self._made)

    def dataset(self, cases: list[Case], name: str) -> SampleDataset:
        """The dataset of these cases, made once for each name."""
        if self._kept is None:
            self._kept = SampleCache(self.cache or default_folder(), int(self.cache_limit_gb * (1 << 30)))
        if name not in self._datasets:
            self._datasets[name] = SampleDataset(
                cases, self.recipe, self._kept, self.classes, None if self.instances else self.labels
            )
            self._made.append(self._datasets[name])
        return self._datasets[name]

    def train_dataloader(self) -> BatchLoader:
        cases = [case for case in self.split("train") for _ in range(self.repeats.get(case.label, 1))]
        return self._loader(cases, "train", self.seed)

    def val_dataloader(self) -> BatchLoader:
        return self._loader(self.split("val"), "val")

    def test_dataloader(self) -> list[BatchLoader]:
        """One loader for each site, in alphabetical order."""
        cases = self.split("test")
        return [
            self._loader([c for c in cases if c.site == site], f"test/{site}")
            for site in sorted({c.site for c in cases})
        ]

    def predict_dataloader(self) -> list[BatchLoader]:
        return self.test_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must find again. Lightning asks loaders only in the middle of an epoch."""
        return self.train_dataloader().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ConfigError when a training would go on with other data; testing may have any."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.train_dataloader().load_state_dict(state_dict)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Vary a training batch, on the device where it now is, and cut its patches."""
        del dataloader_idx
        if not self.trainer or not self.trainer.training:
            return batch
        epoch, numbers = self.trainer.current_epoch, batch["number"]
        drawn = [draw(self.augmentation, self.seed, epoch, number) for number in numbers]
        image = batch["image"]
        if self.augmentation.amplitude:
            image = restyled(image, batch["site"], drawn, self._bank())
        image, truth = augment(image, batch["truth"], drawn)
        if self.patches is None:
            return Batch(**{**batch, "image": image, "truth": truth})
        pick = cut if self.instances else cut_labels
        image, truth = pick(image, truth, self.patches, [dice(self.seed, epoch, number) for number in numbers])
        times = self.patches.per_image
        return Batch(
            image=image,
            truth=truth,
            class_index=batch["class_index"].repeat_interleave(times),
            number=[number for number in numbers for _ in range(times)],
            case_id=[case for case in batch["case_id"] for _ in range(times)],
            site=[site for site in batch["site"] for _ in range(times)],
        )

    def _bank(self) -> list[Style]:
        """Styles of some training cases, the same ones in every process and after every stop."""
        if not self._styles:
            cases = self.split("train")
            dataset = self.dataset(cases, "styles")
            self._styles = [style_of(dataset[k].image, cases[k].site) for k in chosen(cases, self.seed)]
        return self._styles

    def _loader(self, cases: list[Case], name: str, seed: int | None = None) -> BatchLoader:
        share = Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()
        if seed is not None:
            return BatchLoader(self.dataset(cases, name), self.batch_size, share, seed, self._place)
        # Volumes may differ in size, and what is found in one must not depend on those beside it.
        size = 1 if is_of_volumes(self.recipe) else self.batch_size
        return BatchLoader(self.dataset(cases, name), size, share)

    def _place(self) -> Place:
        """Where the trainer is: after a resume this is in the middle of an epoch."""
        if self.trainer is None:
            return Place()
        return Place(self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def _refuse_unknown_sites(self) -> None:
        sites = {case.site for case in self._cases}
        if unknown := self.test_sites - sites:
            raise ConfigError(
                f"data.test_sites: found {sorted(unknown)}; the manifest has cases of {sorted(sites)}",
                Reason.CONFIG_INVALID,
            )

    def _refuse_counts(self) -> None:
        if self.labels and (self.instances or len(set(self.labels)) < len(self.labels) or "" in self.labels):
            raise ConfigError(
                f"data.labels: found {self.labels}; allowed are different names, and none with data.instances",
                Reason.CONFIG_INVALID,
            )
        if self.batch_size < 1:
            raise ConfigError(f"data.batch_size: found {self.batch_size}; allowed is 1 or more", Reason.CONFIG_INVALID)
        labels = {case.label for case in self._cases}
        if unknown := sorted(set(self.repeats) - labels):
            raise ConfigError(
                f"data.repeats: found {unknown}; the cases have the labels {sorted(labels)}", Reason.CONFIG_INVALID
            )
        for label, times in self.repeats.items():
            if times < 1:
                raise ConfigError(
                    f"data.repeats: found {times} of '{label}'; allowed is 1 or more", Reason.CONFIG_INVALID
                )

    def _refuse_patches(self) -> None:
        if self.patches is None:
            return
        told, dims = self.patches, self.recipe.spatial_dims
        checks = (
            ("shape", list(told.shape), len(told.shape) == dims and min(told.shape) >= 1, f"{dims} sides of 1 or more"),
            ("per_image", told.per_image, told.per_image >= 1, "1 or more"),
            ("near_lesion", told.near_lesion, 0 <= told.near_lesion <= 1, "0 to 1"),
            ("least_part", told.least_part, 0 <= told.least_part <= 1, "0 to 1"),
        )
        for field, found, is_right, allowed in checks:
            if not is_right:
                raise ConfigError(f"data.patches.{field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)

    def _refuse_empty(self, split: Split) -> None:
        if not self.split(split):
            raise ConfigError(
                f"manifest {self.manifest.name}: no case with split '{split}' outside the test sites "
                f"{sorted(self.test_sites)}; give some patients of another site that split",
                Reason.CONFIG_INVALID,
            )
