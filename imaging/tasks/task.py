"""What every training task shares: network, optimiser, schedule, checks before the first step, figures by site."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from imaging.data.dataset import Batch
from imaging.data.manifest import Split
from imaging.data.module import ImagingDataModule
from imaging.errors import ConfigError, Reason
from imaging.models.build import Outputs, build
from imaging.models.detection import Boxes
from imaging.models.networks import Network, parse_network
from imaging.tasks.memory import keep_freed_memory

# One case's figures by name; a figure that does not apply to it is left out.
Figures = dict[str, float]


class Task(pl.LightningModule, ABC):
    """A network under AdamW with a linear warm-up and a cosine to zero. It knows no modality.

    A subclass says what is penalised (`losses`) and what is kept of a watched case (`watch`). Validation and test
    figures sum up the cases of a site, and `macro` means over sites; all processes see the same ones.

    Args:
        network: The network, or its `kind` and settings by name as files state them.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        warmup: Part of all steps until the peak.
        encoder_rate: Of a network with published weights, the share of the rate that these learn at.
    """

    # The validation figure that chooses the best checkpoint, and whether more of it is better.
    chooses: ClassVar[tuple[str, Literal["min", "max"]]]
    # What a validation case must have for that figure to exist.
    judged_by: ClassVar[str] = "a truth"
    # Whether something is learned of places; without it cases may have a class and no truth.
    needs_truth: ClassVar[bool] = True
    # Whether lesions are told apart in the truth, or only where they are.
    wants_instances: ClassVar[bool] = False

    def __init__(
        self,
        network: dict[str, Any] | Network,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        encoder_rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network if isinstance(network, Network) else parse_network(network)
        # Checkpoints hold plain values: that no class of a network has to be unpickled.
        self.save_hyperparameters(ignore=["network"])
        self.hparams["network"] = self.network.stated()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.encoder_rate = encoder_rate
        self.model = build(self.network)
        self._kept: dict[str, tuple[str, Any]] = {}

    @abstractmethod
    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss by name, each already weighted."""

    @abstractmethod
    def watch(self, batch: Batch) -> Sequence[Any]:
        """What is kept of each case of the batch until its site is summed up, in a form that can be pickled."""

    def sum_up(self, kept: Sequence[Any]) -> Figures:
        """The figures of one site. Here figures were kept of each case: each one's mean over the cases that have it."""
        values: dict[str, list[float]] = defaultdict(list)
        for figures in kept:
            for name, value in figures.items():
                values[name].append(value)
        return {name: math.fsum(of) / len(of) for name, of in values.items()}

    def marks(self, batch: Batch) -> Tensor | None:
        """What a picture of each case shows as found, bool (batch, *spatial); None where nothing has a place."""
        pixels = self.look(batch["image"]).pixels
        return None if pixels is None else pixels.argmax(dim=1) > 0

    def forward(self, image: Tensor) -> Outputs:
        """Outputs for harmonised images (batch, channel, *spatial)."""
        outputs: Outputs = self.model(image)
        return outputs

    def look(self, image: Tensor) -> Outputs:
        """As `forward`, of the whole images of validation, test and prediction, which may be too large for it."""
        return self.forward(image)

    def setup(self, stage: str) -> None:
        """Compare the network with the data before the first step. Raises ConfigError naming what to change."""
        if stage == "fit" and self.trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        data: ImagingDataModule | None = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.refuse_data(data, self.trainer.world_size)

    def refuse_data(self, data: ImagingDataModule, processes: int) -> None:
        """Raises ConfigError, naming what to change, where network and data do not fit. The data have been set up."""
        self._refuse_unknown_truth(data)
        if not data.split("train"):
            return
        if self.network.classes != len(data.classes):
            self._refuse("network.classes", self.network.classes, f"{len(data.classes)}, as data.classes names")
        labels = max(1, len(data.labels))
        if self.network.gives & {"labels", "boxes"} and self.network.out_channels != labels + 1:
            self._refuse("network.out_channels", self.network.out_channels, f"{labels + 1}: background and data.labels")
        if data.recipe.spatial_dims != self.network.spatial_dims:
            self._refuse(
                "network.spatial_dims", self.network.spatial_dims, f"{data.recipe.spatial_dims}, as the recipe has"
            )
        if data.instances != self.wants_instances:
            self._refuse("data.instances", data.instances, f"{self.wants_instances} for {type(self).__name__}")
        self._refuse_images(data, processes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch_idx
        terms = self.losses(self(batch["image"]), batch)
        for name, term in terms.items():
            if not torch.isfinite(term):
                raise FloatingPointError(
                    f"loss term '{name}' is {term.item()} at step {self.trainer.global_step} on cases "
                    f"{', '.join(batch['case_id'])}; look at these cases, or lower the learning rate"
                )
            self.log(f"train/{name}", term, batch_size=len(batch["image"]))
        total = torch.stack(list(terms.values())).sum()
        self.log("train/loss", total, prog_bar=True, batch_size=len(batch["image"]))
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        self._watch(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        del batch_idx, dataloader_idx
        self._watch(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Mapping[str, Outputs | Boxes]:
        """Probabilities of each case by its id; the class axis comes first."""
        del batch_idx, dataloader_idx
        outputs = self.look(batch["image"])
        pixels = None if outputs.pixels is None else outputs.pixels.softmax(dim=1).cpu()
        classes = None if outputs.classes is None else outputs.classes.softmax(dim=1).cpu()
        return {
            case: Outputs(None if pixels is None else pixels[k], None if classes is None else classes[k])
            for k, case in enumerate(batch["case_id"])
        }

    def on_validation_epoch_end(self) -> None:
        """Raises ConfigError where no case has what the checkpoint is chosen by."""
        told, chooses = self._log_sites("val"), self.chooses[0]
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and chooses not in told:
            self._refuse(
                chooses,
                f"no validation case with {self.judged_by}",
                "one or more: give a patient who has one the split 'val' in the manifest",
            )

    def on_test_epoch_end(self) -> None:
        self._log_sites("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.AdamW(self._weights(), self.learning_rate, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        rising = max(1, round(self.warmup * steps))

        def share(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _weights(self) -> list[dict[str, Any]]:
        """Groups of weights for the optimiser; those that were published learn at their share of the rate."""
        slower = list(getattr(self.model, "pretrained_parameters", lambda: ())())
        known = set(map(id, slower))
        groups: list[dict[str, Any]] = [{"params": [weight for weight in self.parameters() if id(weight) not in known]}]
        return [*groups, {"params": slower, "lr": self.encoder_rate * self.learning_rate}] if slower else groups

    def everyone(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes side by side along the batch, so that a loss over a batch is one over all."""
        if self.trainer.world_size == 1:
            return tensor
        gathered = self.all_gather(tensor, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return gathered.transpose(0, 1).flatten(0, 1)

    def _watch(self, batch: Batch) -> None:
        for case, site, kept in zip(batch["case_id"], batch["site"], self.watch(batch), strict=True):
            self._kept[case] = (site, kept)

    def _log_sites(self, stage: str) -> set[str]:
        """Every site's figures, then their macro means; the names of these, of which one chooses the checkpoint."""
        by_site: dict[str, list[Any]] = defaultdict(list)
        for _, (site, kept) in sorted(self._all_cases().items()):
            by_site[site].append(kept)
        macro: dict[str, list[float]] = defaultdict(list)
        for site, cases in sorted(by_site.items()):
            for name, value in sorted(self.sum_up(cases).items()):
                self.log(f"{stage}/{name}/{site}", value)
                macro[name].append(value)
        for name, values in sorted(macro.items()):
            self.log(f"{stage}/{name}", math.fsum(values) / len(values), prog_bar=True)
        self._kept.clear()
        return {f"{stage}/{name}" for name in macro}

    def _all_cases(self) -> dict[str, tuple[str, Any]]:
        if self.trainer.world_size == 1:
            return dict(self._kept)
        parts: list[dict[str, tuple[str, Any]]] = [{}] * self.trainer.world_size
        dist.all_gather_object(parts, self._kept)
        return {case: of for part in parts for case, of in part.items()}

    def _refuse_unknown_truth(self, data: ImagingDataModule) -> None:
        """Where places are learned, a case of which only the class is known stops the run, by its name."""
        for split in get_args(Split) if self.needs_truth else ():
            for case in data.split(split):
                _ = case.known_truth

    def _refuse_images(self, data: ImagingDataModule, processes: int) -> None:
        image = data.first_sample().image
        if image.shape[0] != self.network.in_channels:
            self._refuse("network.in_channels", self.network.in_channels, f"{image.shape[0]}, as the recipe gives")
        self._refuse_sides("images of {} from the recipe", image.shape[1:])
        varied = data.augmentation.channels or ()
        if any(not 0 <= channel < len(image) for channel in varied):
            self._refuse("data.augmentation.channels", list(varied), f"0 to {len(image) - 1}")
        if processes > 1 and self.network.is_volume and data.patches is None:
            self._refuse("data.patches", None, "patches: several processes need volumes of one size")
        if data.patches is not None:
            if self.network.classes:
                self._refuse("data.patches", data.patches, "none of a network with image classes, of the whole image")
            self._refuse_sides("data.patches of {}", data.patches.shape)
            if any(side > room for side, room in zip(data.patches.shape, image.shape[1:], strict=True)):
                self._refuse("data.patches.shape", list(data.patches.shape), f"at most {list(image.shape[1:])}")

    def _refuse_sides(self, what: str, shape: Sequence[int]) -> None:
        if not self.network.fits(shape):
            self._refuse("network", what.format(" × ".join(map(str, shape))), self.network.sides)

    def _refuse(self, field: str, found: object, allowed: str) -> None:
        raise ConfigError(f"model, {field}: found {found}; allowed is {allowed}", Reason.CONFIG_INVALID)
