"""The data module of training: training-site cases for fitting, every site's cases for testing."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from imaging.data.dataset import Sample, SegmentationDataset
from imaging.data.manifest import Case, Split, read_manifest
from imaging.errors import ConfigError, Reason
from imaging.harmonise.recipe import Recipe


class ImagingDataModule(pl.LightningDataModule):
    """Cases of one manifest through one recipe.

    Args:
        manifest: CSV with case_id, patient_id, site, split, image and truth; paths relative to it.
        recipe: How images are harmonised.
        batch_size: Images per step.
        test_sites: Sites that fitting and validation never see; their cases of every split serve testing only.
        workers: Processes that read cases; 0 reads in the training process.
    """

    def __init__(
        self,
        manifest: Path,
        recipe: Recipe,
        batch_size: int = 8,
        test_sites: list[str] | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["recipe"])
        self.manifest = manifest
        self.recipe = recipe
        self.batch_size = batch_size
        self.test_sites = frozenset(test_sites or [])
        self.workers = workers
        self._cases: list[Case] = []

    def setup(self, stage: str) -> None:
        """Read the table once. Raises ConfigError for an unknown test site, or when nothing is left to train on."""
        del stage
        if self._cases:
            return
        self._cases = read_manifest(self.manifest)
        sites = {case.site for case in self._cases}
        if unknown := self.test_sites - sites:
            raise ConfigError(
                f"data.test_sites: found {sorted(unknown)}; the manifest has {sorted(sites)}", Reason.CONFIG_INVALID
            )
        if not self.split("train"):
            raise ConfigError(
                f"manifest {self.manifest.name}: no case with split 'train' outside the test sites "
                f"{sorted(self.test_sites)}",
                Reason.CONFIG_INVALID,
            )

    def split(self, split: Split) -> list[Case]:
        """Training and validation cases come from training sites only; test sites give all their cases to testing."""
        if split == "test":
            return [c for c in self._cases if c.split == "test" or c.site in self.test_sites]
        return [c for c in self._cases if c.split == split and c.site not in self.test_sites]

    def train_dataloader(self) -> DataLoader[Sample]:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", shuffle=False)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test", shuffle=False)

    def _loader(self, split: Split, shuffle: bool) -> DataLoader[Sample]:
        dataset = SegmentationDataset(self.split(split), self.recipe)
        return DataLoader(
            dataset, self.batch_size, shuffle=shuffle, num_workers=self.workers, persistent_workers=self.workers > 0
        )
