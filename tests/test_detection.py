"""Detection: anchors and codes, tiles, lesions as instances, patches, what is learned of them, and that it learns."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image as Picture
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import DataLoader

from imaging.commands.train import main
from imaging.data.augment import Parameters, augment
from imaging.data.cache import SampleCache
from imaging.data.dataset import Batch, SampleDataset
from imaging.data.instances import carry_instances, enclosing_boxes, number_instances
from imaging.data.manifest import COLUMNS, read_manifest, write_manifest
from imaging.data.module import ImagingDataModule
from imaging.data.patches import Patches, cut, dice
from imaging.errors import ConfigError
from imaging.evaluation.matching import HitRule, MatchedLesion
from imaging.evaluation.result import DetectionCase
from imaging.harmonise.augmentation import Augmentation
from imaging.image import Grid
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.models.build import Outputs, build
from imaging.models.detection import Boxes, detect
from imaging.models.networks import DynUNetSettings, RetinaNetSettings
from imaging.models.retinanet import anchors, decode, encode, places
from imaging.phantoms.mammography.dicom import mammogram
from imaging.phantoms.mammography.export import training_exams
from imaging.phantoms.mammography.view import ViewAcquisition
from imaging.phantoms.mammography.view import truth as truth_of
from imaging.tasks.detection import IGNORED, NEGATIVE, DetectionTask, match_anchors
from tests.conftest import REPOSITORY
from tests.test_training import KILLED, differences, drive, load_checkpoint, logged, refused, words

pytestmark = [
    # Lightning speaks of the machine, and of a run without a logger.
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    # Lightning 2.6.6 calls a name that torch is about to retire.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
]

PLANE = RetinaNetSettings(features=(8, 12, 16), stem=2, pyramid=2, pyramid_width=8, anchors=(8.0, 11.0))
VOLUME = replace(PLANE, spatial_dims=3)
SHAPES = {2: (64, 48), 3: (16, 24, 32)}
NETWORKS = {2: PLANE, 3: VOLUME}


def drawn_boxes(rng: np.random.Generator, count: int, shape: tuple[int, ...], most: float = 20.0) -> Tensor:
    """Boxes (count, 2 · dims) inside an image of `shape`, each side at least half a pixel."""
    low = rng.uniform(0, np.array(shape) - 2, (count, len(shape)))
    high = np.minimum(low + rng.uniform(0.5, most, low.shape), shape)
    return torch.from_numpy(np.concatenate([low, high], axis=1))


# ---------------------------------------------------------------------------------------------------- anchors and codes


def test_anchors_stand_on_the_middles_of_their_cells() -> None:
    """Stride 4 with sides 8 and 11, then stride 8 with 16 and 22; the first pixel spans 0 to 1."""
    fine, coarse = anchors(PLANE, (64, 48))
    assert fine[:3].tolist() == [[-2, -2, 6, 6], [-3.5, -3.5, 7.5, 7.5], [-2, 2, 6, 10]]
    assert coarse[:2].tolist() == [[-4, -4, 12, 12], [-7, -7, 15, 15]]
    assert [len(fine), len(coarse)] == [2 * n for n in places(PLANE, (64, 48))] == [2 * 16 * 12, 2 * 8 * 6]


def test_anchors_of_single_pixels_are_not_half_a_pixel_off() -> None:
    network = replace(PLANE, stem=1, pyramid=3, anchors=(1.0,))
    assert anchors(network, (8, 8))[0][:2].tolist() == [[0, 0, 1, 1], [0, 1, 1, 2]]


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_go_into_codes_and_back(dims: int) -> None:
    rng = np.random.default_rng(dims)
    every = torch.cat(anchors(NETWORKS[dims], SHAPES[dims]))
    boxes = drawn_boxes(rng, 500, SHAPES[dims])
    own = every[torch.from_numpy(rng.integers(0, len(every), 500))].double()
    assert float((decode(encode(boxes, own), own) - boxes).abs().max()) <= 1e-4
    back = decode(encode(boxes.float(), own.float()), own.float())
    assert float((back - boxes).abs().max()) <= 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_outputs_are_in_the_order_of_the_anchors(dims: int) -> None:
    """A level's head gives anchor after anchor; the list runs over places first, as the anchors do."""
    network, shape = NETWORKS[dims], SHAPES[dims]
    model = build(network).eval()
    model.labelling.cls_logits = Numbered()
    for (logits, codes), own in zip(model(torch.zeros(1, 1, *shape)).boxes, anchors(network, shape), strict=True):
        assert logits.shape == (1, len(own), 1)
        assert codes.shape == (1, len(own), 2 * dims)
        stride = int(own[0, :dims].add(own[0, dims:])[0])  # twice the first centre
        which, place = np.divmod(logits[0, :, 0].long().numpy(), len(own) // 2)
        cells = np.stack(np.unravel_index(place, [side // stride for side in shape]), axis=1)
        np.testing.assert_array_equal((own[:, :dims] + own[:, dims:]) / 2, (cells + 0.5) * stride)
        np.testing.assert_array_equal(own[:, dims] - own[:, 0], np.where(which, 11, 8) * stride / 4)


class Numbered(nn.Module):
    """A head whose logits (1, anchors, *places) are counted through."""

    def forward(self, level: Tensor) -> Tensor:
        return torch.arange(2.0 * level[0, 0].numel()).reshape(1, 2, *level.shape[2:])


def test_a_network_as_the_configuration_has_it_is_small_and_starts_without_findings() -> None:
    model = build(RetinaNetSettings(features=(16, 32, 64, 96, 128), stem=2)).eval()
    assert sum(weight.numel() for weight in model.parameters()) < 1_900_000
    with torch.no_grad():
        for logits, _ in model(torch.rand(1, 1, 128, 96)).boxes:
            assert float(logits.sigmoid().max()) < 0.1


# ---------------------------------------------------------------------------------------------------------------- tiles

Find = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


class Answering(nn.Module):
    """A network that answers with the boxes, scores and labels that `find` sees in an image (*spatial)."""

    def __init__(self, network: RetinaNetSettings, find: Find) -> None:
        super().__init__()
        self.network = network
        self.find = find

    def forward(self, x: Tensor) -> Outputs:
        levels = anchors(self.network, x.shape[2:])
        every = torch.cat(levels)
        logits = torch.full((len(every), self.network.out_channels - 1), -20.0)
        codes = torch.zeros_like(every)
        for box, score, label in zip(*self.find(x[0, 0]), strict=True):
            dims = x.ndim - 2
            away = ((every[:, :dims] + every[:, dims:] - box[:dims] - box[dims:]) ** 2).sum(1)
            away[(logits > -20).any(1)] = torch.inf
            own = int(away.argmin())
            codes[own] = encode(box[None].float(), every[own : own + 1])[0]
            logits[own, int(label) - 1] = torch.logit(score)
        split = [len(level) for level in levels]
        return Outputs(
            None, None, boxes=tuple(zip(logits[None].split(split, 1), codes[None].split(split, 1), strict=True))
        )


def lesions_in(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes of the numbers in an image. The more of a lesion is seen, the surer."""
    numbers, boxes = enclosing_boxes(image.long())
    seen = torch.stack([(image == number).sum() for number in numbers]) if len(numbers) else torch.zeros(0)
    return boxes, 0.5 + seen / 10_000, torch.ones(len(numbers))


def drawn_lesions(seed: int, shape: tuple[int, ...], largest: int, gap: int = 3) -> Tensor:
    """Numbered blocks in an image (1, *spatial), `gap` pixels or more apart."""
    rng, image = np.random.default_rng(seed), np.zeros(shape, dtype=np.float32)
    number = 0
    for _ in range(300):
        sides = rng.integers(2, largest + 1, len(shape))
        low = rng.integers(0, np.array(shape) - sides + 1)
        around = tuple(slice(max(0, a - gap), a + n + gap) for a, n in zip(low, sides, strict=True))
        if not image[around].any():
            number += 1
            image[tuple(slice(a, a + n) for a, n in zip(low, sides, strict=True))] = number
    return torch.from_numpy(image)[None]


def ordered(boxes: Tensor) -> np.ndarray:
    return np.array(sorted(boxes.tolist())).reshape(-1, boxes.shape[1])


@pytest.mark.parametrize(
    ("shape", "tile", "largest"),
    [((160, 96), (32, 32), 12), ((96, 200), (64, 40), 16), ((61, 83), (32, 32), 12), ((24, 48, 56), (16, 24, 32), 7)],
    ids=str,
)
@pytest.mark.parametrize("seed", range(5))
def test_every_lesion_is_found_once_and_whole_whatever_the_tiles(
    shape: tuple[int, ...], tile: tuple[int, ...], largest: int, seed: int
) -> None:
    """Also at the borders, and where a tile cuts it: its neighbour sees it whole."""
    network, image = NETWORKS[len(shape)], drawn_lesions(seed, shape, largest)
    _, expected = enclosing_boxes(image[0].long())
    model = Answering(network, lesions_in)
    assert len(expected) > 5
    for told in (detect(model, image, network), detect(model, image, network, tile, largest + 2)):
        np.testing.assert_allclose(ordered(told.boxes), ordered(expected.double()), atol=1e-4)
        assert bool((told.scores.diff() <= 0).all())
        assert set(told.labels.tolist()) == {1}


def test_a_tile_puts_its_boxes_on_the_image_exactly() -> None:
    image = drawn_lesions(7, (64, 128), 12)
    model = Answering(PLANE, lesions_in)
    image[0, :, 60:68] = 0  # nothing is cut
    alone, tiled = detect(model, image[:, :, 64:], PLANE), detect(model, image, PLANE, (64, 64), 0)
    right = tiled.boxes[tiled.boxes[:, 1] >= 64]
    shift = torch.tensor([0, 64, 0, 64], dtype=torch.float64)
    np.testing.assert_array_equal(ordered(right), ordered(alone.boxes + shift))
    assert len(right) > 3


@pytest.mark.parametrize("dims", [2, 3])
def test_a_tile_of_the_image_or_more_changes_nothing(dims: int) -> None:
    torch.manual_seed(4)
    network, shape = NETWORKS[dims], SHAPES[dims]
    model, image = build(network).eval(), torch.rand(1, *shape)
    for parameter in model.labelling.cls_logits.parameters():  # many findings
        nn.init.normal_(parameter, std=0.3)
    whole = detect(model, image, network)
    assert len(whole.boxes) > 10
    assert whole.boxes.shape[1] == 2 * dims
    for tile, overlap in ((shape, None), ([side + 8 for side in shape], None), ([side * 2 for side in shape], 20)):
        for a, b in zip(whole, detect(model, image, network, tile, overlap), strict=True):
            assert torch.equal(a, b)
    low, high = whole.boxes[:, :dims], whole.boxes[:, dims:]
    assert bool((low >= 0).all() & (high <= torch.tensor(shape)).all() & (high > low).all())


def test_of_boxes_that_overlap_the_surest_stays_label_by_label() -> None:
    two = replace(PLANE, out_channels=3)
    boxes = torch.tensor([[10, 10, 20, 20], [11, 10, 21, 20], [10, 11, 20, 21], [40, 30, 50, 40], [9, 9, 19, 19.0]])
    scores, labels = torch.tensor([0.6, 0.9, 0.7, 0.8, 0.005]), torch.tensor([1, 1, 2, 1, 1])
    told = detect(Answering(two, lambda image: (boxes, scores, labels)), torch.zeros(1, 64, 48), two)
    np.testing.assert_allclose(told.boxes.numpy(), boxes[[1, 3, 2]].numpy(), atol=1e-4)
    np.testing.assert_allclose(told.scores.numpy(), [0.9, 0.8, 0.7], atol=1e-6)
    assert told.labels.tolist() == [1, 1, 2]


def test_boxes_end_at_the_image_also_where_it_was_filled_up() -> None:
    """61 × 45 pixels go through the network as 64 × 48."""
    boxes = torch.tensor([[-3, -2, 10, 9], [50, 30, 70, 60], [61.5, 10, 63, 20.0]])
    scores = torch.tensor([0.6, 0.9, 0.7])
    told = detect(Answering(PLANE, lambda image: (boxes, scores, torch.ones(3))), torch.zeros(1, 61, 45), PLANE)
    np.testing.assert_allclose(told.boxes.numpy(), [[50, 30, 61, 45], [0, 0, 10, 9]], atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_found_is_an_answer(dims: int) -> None:
    network, image = NETWORKS[dims], torch.zeros(1, *SHAPES[dims])
    for tile in (None, [16] * dims):
        told = detect(Answering(network, lesions_in), image, network, tile)
        assert (told.boxes.shape, told.scores.shape, told.labels.shape) == ((0, 2 * dims), (0,), (0,))


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        ((36, 32), None, r"tile: found \[36, 32\]; allowed are 2 sides that are multiples of 8"),
        ((32,), None, "allowed are 2 sides"),
        ((0, 32), None, "multiples of 8"),
        ((32, 32), 32, "overlap: found 32; allowed is 0 to 31 pixels"),
        ((32, 32), -1, "overlap: found -1"),
    ],
)
def test_a_tile_that_does_not_fit_is_refused(tile: tuple[int, ...], overlap: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        detect(build(PLANE), torch.zeros(1, 64, 48), PLANE, tile, overlap)
    with pytest.raises(ConfigError, match=message):
        DetectionTask(PLANE, tile=tile, overlap=overlap)


# ------------------------------------------------------------------------------------------------------------ instances


def test_parts_of_one_value_are_lesions_and_touching_values_stay_apart() -> None:
    values = np.array([[1, 1, 2, 2, 0], [1, 0, 2, 0, 9], [0, 9, 0, 9, 9]])  # corners do not touch
    assert number_instances(values).tolist() == [[1, 1, 2, 2, 0], [1, 0, 2, 0, 3], [0, 4, 0, 3, 3]]
    assert number_instances(np.where(values > 0, 255, 0)).max() == 3  # ones and twos are one part now
    assert not number_instances(np.zeros((3, 4, 5))).any()


def test_a_lesion_between_the_coarse_pixels_keeps_one() -> None:
    """Every fourth pixel is sampled: at 1, 5, 9, ... of lesions of one pixel each, three would vanish."""
    fine, coarse = (
        Grid.plane(16, 16),
        Grid((4, 4), np.array([[0.0, 4.0, 1.5], [4.0, 0.0, 1.5], [0, 0, 1.0]]), "image_plane", "pixel"),
    )
    instances = np.zeros((16, 16), dtype=np.uint16)
    for number, place in enumerate([(0, 0), (3, 3), (8, 12), (15, 15)], start=1):
        instances[place] = number
    carried = carry_instances(instances, fine, coarse)
    assert sorted(np.unique(carried).tolist()) == [0, 1, 2, 3, 4]
    assert (carried > 0).sum() == 4
    assert carried[2, 3] == 3
    assert carried[3, 3] == 4
    assert {1, 2} == {int(carried[0, 0]), int(carried[carried == 2][0])}  # both lie in the first pixel: one is beside
    left = Grid((4, 2), coarse.affine, "image_plane", "pixel")
    assert sorted(np.unique(carry_instances(instances, fine, left)).tolist()) == [0, 1, 2]  # the others are outside


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_enclose_the_pixels_of_an_instance(dims: int) -> None:
    instances = torch.zeros(*[9] * dims, dtype=torch.long)
    instances[(2,) * dims] = 7
    instances[(slice(4, 6), *([slice(3, 8)] * (dims - 1)))] = -3
    numbers, boxes = enclosing_boxes(instances)
    assert numbers.tolist() == [-3, 7]
    assert boxes.tolist() == [[4, *[3] * (dims - 1), 6, *[8] * (dims - 1)], [2] * dims + [3] * dims]
    numbers, boxes = enclosing_boxes(torch.zeros(*[9] * dims, dtype=torch.long))
    assert (len(numbers), boxes.shape) == (0, (0, 2 * dims))


def test_boxes_follow_the_variation_of_the_image() -> None:
    """A quarter turn, and a mirror image: rows become columns, and what was 3 from the left is 3 from the right."""
    instances = torch.zeros(1, 1, 32, 32, dtype=torch.long)
    instances[0, 0, 4:10, 3:7] = 2
    image = (instances > 0).float()
    for change, expected in (
        (Parameters(flip_columns=True), [4, 25, 10, 29]),
        (Parameters(flip_rows=True), [22, 3, 28, 7]),
        (Parameters(rotation=180.0), [22, 25, 28, 29]),
    ):
        moved, told = augment(image, instances, [change])
        numbers, boxes = enclosing_boxes(told[0, 0])
        assert numbers.tolist() == [2]
        assert boxes.tolist() == [expected]
        torch.testing.assert_close(moved[0, 0] > 0.5, told[0, 0] > 0)


def write_lesions(folder: Path, train: int = 8, val: int = 4, test: int = 4) -> Path:
    """Grainy pictures of 64 × 64 with up to two bright discs, and their table. Two sites take turns."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for k in range(count):
            name, r, c = f"{split}-{k:02d}", *np.mgrid[0:64, 0:64]
            inside = np.zeros((64, 64), dtype=bool)
            for place in range((k + 1) % 3 if split == "train" else 1 + k % 2):
                y, x, radius = rng.uniform(12, 52), rng.uniform(10, 22) + 30 * place, rng.uniform(4, 8)
                inside |= (r - y) ** 2 + (c - x) ** 2 < radius**2
            grey = np.clip(70 + 90 * inside + rng.normal(0, 20, inside.shape), 1, 255).astype(np.uint8)
            Picture.fromarray(grey).save(folder / f"{name}.png")
            Picture.fromarray((inside * 255).astype(np.uint8)).save(folder / f"{name}-truth.png")
            rows.append((name, f"p-{name}", "ab"[k // 2 % 2], split, f"{name}.png", f"{name}-truth.png"))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder / "manifest.csv"


def test_instances_are_another_entry_of_the_cache_and_another_identity(tmp_path: Path) -> None:
    from imaging.modalities.ultrasound.recipe import UltrasoundRecipe

    cases, cache = read_manifest(write_lesions(tmp_path / "cases")), SampleCache(tmp_path / "cache")
    masks = SampleDataset(cases, UltrasoundRecipe(side=64), cache)
    parts = SampleDataset(cases, UltrasoundRecipe(side=64), cache, labels=None)
    assert (masks[1].truth.dtype, parts[1].truth.dtype) == (np.uint8, np.uint16)
    assert (masks[1].truth.max(), parts[1].truth.max()) == (1, 2)
    np.testing.assert_array_equal(masks[1].truth > 0, parts[1].truth > 0)
    again = SampleDataset(cases, UltrasoundRecipe(side=64), cache, labels=None)
    np.testing.assert_array_equal(again[1].truth, parts[1].truth)
    assert again.decoded == 0
    assert masks.identity != parts.identity


# -------------------------------------------------------------------------------------------------------------- patches

SMALL, LARGE = (20, 20, 22, 22), (60, 50, 90, 80)


def image_with_lesions() -> tuple[Tensor, Tensor]:
    instances = torch.zeros(1, 1, 128, 96, dtype=torch.long)
    for number, (r0, c0, r1, c1) in enumerate((SMALL, LARGE), start=1):
        instances[0, 0, r0:r1, c0:c1] = number
    return torch.arange(128.0 * 96).reshape(1, 1, 128, 96), instances


def test_every_lesion_is_near_equally_many_patches() -> None:
    image, instances = image_with_lesions()
    patches = Patches((32, 32), per_image=2000, near_lesion=0.7)
    _, truths = cut(image, instances, patches, [dice(1, 0, 0)])
    held = Counter(number for truth in truths for number in truth.abs().unique().tolist() if number)
    assert held[1] / 2000 == pytest.approx(0.35, abs=0.06)  # and 3 % hold it by chance
    assert held[2] / 2000 > 0.35
    _, anywhere = cut(image, instances, replace(patches, near_lesion=0.0), [dice(1, 0, 0)])
    assert sum(bool((truth == 1).any()) for truth in anywhere) / 2000 < 0.2
    image_of_none, none = cut(image, instances * 0, patches, [dice(1, 0, 0)])
    assert not none.any()
    corners = image_of_none[:, 0, 0, 0]
    assert len(corners.unique()) > 1000  # all over the image


def test_a_lesion_chosen_lies_well_inside_and_image_and_truth_stay_together() -> None:
    image, instances = image_with_lesions()
    instances[instances == 2] = 0
    images, truths = cut(image, instances, Patches((32, 32), 200, near_lesion=1.0), [dice(1, 0, 0)])
    for one, truth in zip(images, truths, strict=True):
        assert int((truth == 1).sum()) == 4
        where = (truth[0] == 1).nonzero()
        assert int(where.min()) >= 6
        assert int(where.max()) <= 25
        r, c = divmod(int(one[0, 0, 0]), 96)
        assert torch.equal(one[0], image[0, 0, r : r + 32, c : c + 32])
        assert torch.equal(truth[0] == 1, instances[0, 0, r : r + 32, c : c + 32] == 1)


def test_a_lesion_of_which_too_little_is_shown_is_negative() -> None:
    """The large lesion has 900 pixels; a patch that shows fewer than 270 of them says so."""
    image, instances = image_with_lesions()
    _, truths = cut(image, instances, Patches((32, 32), 500, 0.0, least_part=0.3), [dice(2, 0, 0)])
    shown = [(int((truth.abs() == 2).sum()), truth.unique().tolist()) for truth in truths]
    assert all((2 in numbers) == (count >= 270) and (-2 in numbers) == (0 < count < 270) for count, numbers in shown)
    assert sum(-2 in numbers for _, numbers in shown) > 20


def test_patches_depend_on_seed_epoch_and_number_alone() -> None:
    image, instances = image_with_lesions()
    patches = Patches((32, 32), 4)
    first = cut(image, instances, patches, [dice(1, 2, 3)])
    twice = cut(image.repeat(2, 1, 1, 1), instances.repeat(2, 1, 1, 1), patches, [dice(9, 9, 9), dice(1, 2, 3)])
    assert torch.equal(first[0], twice[0][4:])
    assert torch.equal(first[1], twice[1][4:])
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(first[0], cut(image, instances, patches, [dice(*other)])[0])


def test_patches_of_a_volume() -> None:
    instances = torch.zeros(1, 1, 16, 32, 32, dtype=torch.long)
    instances[0, 0, 2:5, 20:24, 8:12] = 5
    images, truths = cut(instances.float(), instances, Patches((16, 16, 16), 20, 1.0), [dice(1, 0, 0)])
    assert images.shape == truths.shape == (20, 1, 16, 16, 16)
    assert bool((truths == 5).flatten(1).any(1).all())


# -------------------------------------------------------------------------------------------------- targets and losses


@pytest.mark.parametrize("dims", [2, 3])
def test_each_lesion_has_anchors_that_fit_it(dims: int) -> None:
    network, shape = NETWORKS[dims], SHAPES[dims]
    every = torch.cat(anchors(network, shape))
    small = torch.tensor([*[2.0] * dims, *[3.0] * dims])
    fitting = torch.tensor([*[4.0] * dims, *[12.0] * dims])  # as an anchor of side 8 around the second cell's corner
    far = torch.tensor([*[float(side - 13) for side in shape], *[float(side) for side in shape]])
    answers = match_anchors(network, shape, every, torch.stack([small, fitting, far]), torch.zeros(0, 2 * dims))
    told = Counter(answers.tolist())
    assert set(told) == {NEGATIVE, 0, 1, 2}
    assert told[NEGATIVE] > 0.8 * len(every)
    for number, lesion in ((1, fitting), (2, far)):
        own = every[answers == number]
        low, high = torch.maximum(own[:, :dims], lesion[:dims]), torch.minimum(own[:, dims:], lesion[dims:])
        shared = (high - low).clamp_min(0).prod(1)
        sizes = (own[:, dims:] - own[:, :dims]).prod(1) + (lesion[dims:] - lesion[:dims]).prod()
        assert float((shared / (sizes - shared)).min()) > 0.2
    assert bool((match_anchors(network, shape, every, *[torch.zeros(0, 2 * dims)] * 2) == NEGATIVE).all())


def test_targets_are_those_of_the_paper() -> None:
    """ATSS by hand: per level the 4 × 2 anchors nearest to the lesion, then those above mean + standard deviation."""
    every = torch.cat(anchors(PLANE, (64, 48)))
    lesion = torch.tensor([21.0, 13.0, 33.0, 22.0])
    candidates = []
    for offset, count in ((0, 2 * 16 * 12), (2 * 16 * 12, 2 * 8 * 6)):
        own = every[offset : offset + count]
        away = ((own[:, :2] + own[:, 2:]) / 2 - torch.tensor([27.0, 17.5])).norm(dim=1)
        candidates += [offset + int(k) for k in away.argsort(stable=True)[:8]]
    shared = [
        max(0.0, min(b[2], 33) - max(b[0], 21)) * max(0.0, min(b[3], 22) - max(b[1], 13))
        for b in every[candidates].tolist()
    ]
    areas = ((every[candidates][:, 2] - every[candidates][:, 0]) ** 2).tolist()
    overlap = torch.tensor([s / (a + 108 - s) for s, a in zip(shared, areas, strict=True)])
    expected = {k for k, o in zip(candidates, overlap, strict=True) if o >= overlap.mean() + overlap.std()}
    answers = match_anchors(PLANE, (64, 48), every, lesion[None], torch.zeros(0, 4))
    assert set((answers == 0).nonzero().flatten().tolist()) == expected


def test_what_is_unclear_is_neither_found_nor_wrong() -> None:
    every = torch.cat(anchors(PLANE, (64, 48)))
    unclear = torch.tensor([[0.0, 40.0, 10.0, 48.0]])
    answers = match_anchors(PLANE, (64, 48), every, torch.tensor([[30.0, 10.0, 40.0, 20.0]]), unclear)
    touching = (every[:, 0] < 10) & (every[:, 3] > 40)
    assert bool((answers[touching] == IGNORED).all())
    assert not bool((answers[~touching] == IGNORED).any())
    assert bool((answers == 0).any())


def batch_of(instances: Tensor, image: Tensor | None = None) -> Batch:
    count = len(instances)
    return Batch(
        image=torch.rand(instances.shape, generator=torch.Generator().manual_seed(1)) if image is None else image,
        truth=instances,
        class_index=torch.full((count,), -1),
        number=list(range(count)),
        case_id=[f"case-{k}" for k in range(count)],
        site=["a"] * count,
    )


def task_of(network: RetinaNetSettings | DynUNetSettings, **settings: Any) -> DetectionTask:
    task = DetectionTask(network, **settings)
    task.everyone = lambda tensor: tensor  # one process, without a trainer
    return task


@pytest.mark.parametrize("dims", [2, 3])
def test_images_without_lesions_have_a_finite_loss(dims: int) -> None:
    task = task_of(NETWORKS[dims]).train()
    batch = batch_of(torch.zeros(2, 1, *SHAPES[dims], dtype=torch.long))
    terms = task.losses(task(batch["image"]), batch)
    assert set(terms) == {"labels", "boxes"}
    assert float(terms["boxes"].detach()) == 0
    assert 0 < float(terms["labels"].detach()) < 10
    sum(terms.values()).backward()
    assert [name for name, weight in task.named_parameters() if weight.grad is None] == []


def test_answers_that_are_no_numbers_reach_the_step_that_names_the_cases() -> None:
    batch = batch_of(torch.zeros(1, 1, 64, 48, dtype=torch.long), torch.full((1, 1, 64, 48), torch.nan))
    task = task_of(PLANE)
    assert not any(torch.isfinite(term) for term in task.losses(task(batch["image"]), batch).values())


def test_the_loss_asks_for_the_lesions_and_nothing_else() -> None:
    """A network that answers exactly has almost none; one that misses, adds or displaces a box has more."""
    image = torch.zeros(1, 1, 64, 48, dtype=torch.long)
    image[0, 0, 20:31, 10:22] = 1
    every = torch.cat(anchors(PLANE, (64, 48)))
    answers = match_anchors(PLANE, (64, 48), every, enclosing_boxes(image[0, 0])[1], torch.zeros(0, 4))
    own = answers == 0
    logits = torch.where(own, 12.0, -12.0)
    codes = torch.zeros_like(every)
    codes[own] = encode(enclosing_boxes(image[0, 0])[1].expand(int(own.sum()), 4), every[own])

    def loss(logits: Tensor, codes: Tensor) -> dict[str, float]:
        outputs = Outputs(None, None, boxes=((logits[None, :, None], codes[None]),))
        return {name: float(term) for name, term in task_of(PLANE).losses(outputs, batch_of(image)).items()}

    right = loss(logits, codes)
    assert max(right.values()) < 1e-4
    assert loss(torch.where(own, -12.0, -12.0), codes)["labels"] > 1
    assert loss(torch.where(every[:, 0] > 55, 12.0, logits), codes)["labels"] > 1
    assert loss(logits, codes + 0.5)["boxes"] > 0.1


def test_a_lesion_that_is_hardly_shown_costs_nothing() -> None:
    image = torch.zeros(1, 1, 64, 48, dtype=torch.long)
    image[0, 0, 20:31, 0:2] = -1
    every = torch.cat(anchors(PLANE, (64, 48)))
    touching = (every[:, 0] < 31) & (every[:, 2] > 20) & (every[:, 1] < 2)
    outputs = Outputs(None, None, boxes=((torch.where(touching, 9.0, -12.0)[None, :, None], every[None] * 0),))
    assert float(task_of(PLANE).losses(outputs, batch_of(image))["labels"]) < 1e-3
    assert float(task_of(PLANE).losses(outputs, batch_of(image * 0))["labels"]) > 100


# -------------------------------------------------------------------------------------------------------------- figures


def test_froc_is_that_counted_by_hand() -> None:
    """Four images with three lesions: two found above every false mark, the third below two of them.

    Two of three at 1/8 and 1/4 false positives per image; two false positives in four images are 0.5 per image, so
    from there on the third counts as well.
    """
    lines = (
        (MatchedLesion(True, 0.9), MatchedLesion(False, 0.6)),
        (MatchedLesion(True, 0.8), MatchedLesion(True, 0.4)),
        (MatchedLesion(False, 0.5),),
        (),
    )
    kept = [
        DetectionCase(str(k), str(k), "a", any(x.is_true for x in of), max((x.confidence for x in of), default=0.0), of)
        for k, of in enumerate(lines)
    ]
    assert DetectionTask(PLANE).sum_up(kept) == {"froc": pytest.approx((2 * 2 / 3 + 5) / 7)}
    assert DetectionTask(PLANE).sum_up(kept[2:]) == {}


def test_a_hit_is_what_the_rule_says() -> None:
    image = torch.zeros(1, 1, 64, 48, dtype=torch.long)
    image[0, 0, 20:40, 10:30] = 1
    found = (torch.tensor([[24.0, 12.0, 30.0, 20.0]]), torch.tensor([0.7]), torch.ones(1))  # inside, an eighth of it
    for rule, hit in (
        (HitRule("overlap", 0.1), True),
        (HitRule("overlap", 0.2), False),
        (HitRule("centre_in_box"), True),
    ):
        task = task_of(PLANE, hit_rule=rule).eval()
        task.model = Answering(PLANE, lambda image: found)
        (kept,) = task.watch(batch_of(image))
        assert [lesion.is_true for lesion in kept.lesions if lesion.confidence > 0] == [hit]
        assert kept.score == pytest.approx(0.7)


# ------------------------------------------------------------------------------------------------- by the command line

INIT = {
    "kind": "retinanet", "features": [8, 12, 16], "stem": 2, "pyramid": 2, "pyramid_width": 8, "anchors": [8, 11]
}  # fmt: skip


def detection_words(manifest: Path, run: Path, *more: str, **data: Any) -> list[str]:
    """The command line of a fit with patches."""
    settings = {
        "manifest": str(manifest),
        "recipe": {"class_path": "imaging.modalities.ultrasound.recipe.UltrasoundRecipe", "init_args": {"side": 64}},
        "batch_size": 2,
        "cache": str(manifest.parent / "cache"),
        "instances": True,
        "patches": {"shape": [32, 32], "per_image": 2},
    }
    model = {
        "class_path": "imaging.tasks.detection.DetectionTask",
        "init_args": {"network": INIT, "tile": [32, 32], "hit_rule": {"kind": "overlap", "least": 0.2}},
    }
    return words(manifest, run, *more, model=model, data={**settings, **data})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lesions(tmp_path_factory.mktemp("lesions") / "cases")


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference of two epochs; beside it one that was killed in the middle of the second, and went on."""
    folder = tmp_path_factory.mktemp("runs")
    jobs: list[dict[str, Any]] = []
    for name, more, kill in (("reference", [], None), ("killed", [], ("batch", 6)), ("killed", ["--resume"], None)):
        told = detection_words(table, folder / name, "--save_every_steps=1", *more)
        jobs.append({"words": told, "log": str(folder / f"{name}.log"), **({"kill": kill} if kill else {})})
    assert drive(folder, jobs) == [0, KILLED, 0], [path.read_text() for path in folder.glob("*.log")]
    return folder


def test_a_killed_run_with_patches_ends_as_if_it_had_not_been(finished: Path) -> None:
    states = [load_checkpoint(finished / run / "checkpoints/step-00000008.ckpt") for run in ("reference", "killed")]
    assert differences(*states) == []
    reference, killed = logged(finished / "reference"), logged(finished / "killed")
    for name in reference:
        if name.startswith(("train/", "val/")):
            assert killed[name] == reference[name], name


def test_a_run_tells_froc_by_site_and_draws_boxes(finished: Path) -> None:
    figures = logged(finished / "reference")
    for step, macro in figures["val/froc"].items():
        assert macro == pytest.approx((figures["val/froc/a"][step] + figures["val/froc/b"][step]) / 2)
    assert {"train/labels", "train/boxes", "train/loss"} < set(figures)
    assert (finished / "reference/checkpoints/best.ckpt").is_file()
    with Picture.open(finished / "reference/previews/epoch-0001.png") as sheet:
        assert sheet.size == (4 * 64, 64)


def test_predictions_are_boxes_of_every_test_case(finished: Path, table: Path) -> None:
    cli = main(["predict", f"--config={finished / 'reference/config.yaml'}", f"--run={finished / 'reference'}"])
    told = {case: of for site in cli.trainer.predict_loop.predictions for batch in site for case, of in batch.items()}
    assert set(told) == {case.case_id for case in read_manifest(table) if case.split == "test"}
    for boxes in told.values():
        assert isinstance(boxes, Boxes)
        assert boxes.boxes.shape == (len(boxes.scores), 4)


def test_the_shipped_configurations_train_together(table: Path, tmp_path: Path) -> None:
    files = ("trainer.yaml", "recipe/ultrasound.yaml", "task/detection.yaml")
    told = ["fit", *(f"--config={REPOSITORY / 'configs' / name}" for name in files)]
    told += [f"--data.manifest={table}", "--data.instances=true", f"--data.cache={tmp_path}", f"--run={tmp_path}/run"]
    told += ["--data.recipe.init_args.side=64", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    cli = main([*told, "--trainer.log_every_n_steps=1"])
    assert cli.trainer.global_step == 1
    assert "val/froc" in cli.trainer.callback_metrics


def test_validation_cases_without_any_lesion_stop_the_run_by_name(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not before all were seen: the first few, which Lightning tries before the first step, need not have one."""
    empty, changed = table.parent / "empty.png", table.parent / "healthy.csv"
    Picture.new("L", (64, 64)).save(empty)
    cases = read_manifest(table)
    write_manifest(changed, [replace(case, truth=empty) if case.split == "val" else case for case in cases])
    said = refused(capsys, *detection_words(changed, tmp_path / "run"))
    assert "model, val/froc: found no validation case with a lesion; allowed is one or more: give a patient" in said


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--data.patches.shape=[36,32]"], "data.patches of 36 × 32; allowed is sides that are multiples of 8"),
        (["--data.patches.shape=[72,32]"], "data.patches.shape: found [72, 32]; allowed is at most [64, 64]"),
        (["--data.patches.shape=[32]"], "data.patches.shape: found [32]; allowed is 2 sides of 1 or more"),
        (["--data.patches.per_image=0"], "data.patches.per_image: found 0; allowed is 1 or more"),
        (["--data.patches.near_lesion=1.5"], "data.patches.near_lesion: found 1.5; allowed is 0 to 1"),
        (
            ["--data.instances=false", "--data.patches=null"],
            "data.instances: found False; allowed is True for DetectionTask",
        ),
        (["--data.recipe.init_args.side=36"], "images of 36 × 36 from the recipe; allowed is sides that are multiples"),
        (
            ["--model.init_args.network.spatial_dims=3", "--model.init_args.tile=null"],
            "network.spatial_dims: found 3; allowed is 2",
        ),
        (["--model.init_args.network.out_channels=3"], "network.out_channels: found 3; allowed is 2"),
        (["--model.init_args.network.anchors=[]"], "anchors: found []; allowed is sides of 1 pixel or more"),
        (["--model.init_args.hit_rule.least=0"], "HitRule.least: found 0.0 for overlap"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_settings_that_do_not_fit_are_refused(
    more: list[str], named: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *detection_words(table, tmp_path / "run", *more))
    assert named in said


def test_labels_of_pixels_are_not_learned_from_instances(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {"kind": "dyn_unet", "features": [4, 8, 12]}
    model = {"class_path": "imaging.tasks.segmentation.SegmentationTask", "init_args": {"network": network}}
    told = words(table, tmp_path / "run", "--data.classes=[]", "--data.instances=true", model=model)
    assert "data.instances: found True; allowed is False for SegmentationTask" in refused(capsys, *told)


def test_a_network_without_boxes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"network.kind: found dyn_unet; allowed is retinanet"):
        DetectionTask(DynUNetSettings(features=(4, 8, 12)))


# ---------------------------------------------------------------------------------------------------------- it learns


def fit(task: DetectionTask, epochs: int, *data: Any) -> None:
    """Train on the processor; `data` are a data module or batches."""
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, limit_val_batches=0, num_sanity_val_steps=0,
        gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, *data)
    task.eval()


def at_the_best_threshold(kept: list[DetectionCase]) -> tuple[int, int, int]:
    """Lesions, how many are found, and false positives, where the weakest found lesion is still told."""
    lesions = [lesion for case in kept for lesion in case.lesions]
    true = [lesion for lesion in lesions if lesion.is_true]
    threshold = min(lesion.confidence for lesion in true)
    false = sum(not lesion.is_true and lesion.confidence >= threshold for lesion in lesions)
    return len(true), sum(lesion.confidence > 0 for lesion in true), false


def films(folder: Path) -> Path:
    """Eight synthetic mammograms, six with a lesion; each stands in the table to train and to validate."""
    views: list[ViewAcquisition] = []
    for _, _, exam in training_exams(6, seed=1, pitch_mm=0.8):
        with_lesion = [view for view in exam.views if truth_of(view)] if exam.lesions else []
        views += with_lesion
        views += [view for view in exam.views if view not in with_lesion][: len(with_lesion) // 2]
    folder.mkdir()
    rows = []
    for number, view in enumerate([*(v for v in views if truth_of(v)), *(v for v in views if not truth_of(v))][:8]):
        mask = np.zeros((view.field.rows, view.field.columns), dtype=np.uint8)
        for lesion in truth_of(view):
            mask[lesion.mask] = 255
        made = mammogram(view)
        made.SeriesDescription = ""  # it says "synthetic", which stands for a picture made of tomosynthesis
        made.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        Picture.fromarray(mask).save(folder / f"{number}.png")
        rows += [(f"{s}-{number}", f"{s}-{number}", "a", s, f"{number}.dcm", f"{number}.png") for s in ("train", "val")]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder / "manifest.csv"


def test_eight_mammograms_can_be_learned_by_heart(tmp_path: Path) -> None:
    """At one threshold every lesion is hit (intersection over union of 0.3 or more) and nothing else is marked."""
    pl.seed_everything(1)
    network = RetinaNetSettings(
        features=(16, 32, 48, 64), stem=2, pyramid=2, pyramid_width=32, anchors=(12.0, 16.0, 20.0)
    )
    task = DetectionTask(network, learning_rate=2e-3, hit_rule=HitRule("overlap", 0.3))
    recipe = MammographyRecipe(spacing_mm=0.8, rows=256, columns=160)
    data = ImagingDataModule(
        films(tmp_path / "films"),
        recipe,
        batch_size=4,
        augmentation=Augmentation(),
        cache=tmp_path,
        instances=True,
        check_duplicates=False,  # it is asked for what it has learnt
    )
    fit(task, 50, data)
    kept = [case for batch in data.val_dataloader() for case in task.watch(batch)]
    assert len(kept) == 8
    assert at_the_best_threshold(kept) == (6, 6, 0)
    assert task.sum_up(kept) == {"froc": 1.0}


def spheres(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawn volume (1, 32, 48, 48) of smooth noise with none, one or two blurred spheres, and their instances."""
    rng = np.random.default_rng([number, 3])
    image = ndimage.gaussian_filter(rng.normal(size=(32, 48, 48)), 1.0) * 0.4
    instances, at = np.zeros(image.shape, dtype=np.int64), np.mgrid[:32, :48, :48]
    for sphere in range(number % 3):
        centre = rng.uniform([9, 9, 9 + 24 * sphere], [23, 39, 15 + 24 * sphere])
        inside = ((at - centre[:, None, None, None]) ** 2).sum(0) < rng.uniform(3.5, 6.5) ** 2
        image += 0.35 * ndimage.gaussian_filter(inside.astype(float), 0.8)
        instances[inside] = sphere + 1
    return np.clip(0.4 + image, 0, 1).astype(np.float32)[None], instances[None]


def test_eight_volumes_can_be_learned_by_heart() -> None:
    """Drawn spheres; the same rule as of the mammograms, whole and in tiles."""
    pl.seed_everything(1)
    network = RetinaNetSettings(3, features=(8, 16, 32), stem=2, pyramid=2, pyramid_width=16, anchors=(7.0, 9.0, 12.0))
    task = DetectionTask(network, learning_rate=5e-3, hit_rule=HitRule("overlap", 0.3))
    images, instances = (torch.from_numpy(np.stack(part)) for part in zip(*map(spheres, range(8)), strict=True))
    batches = [batch_of(instances[k::2], images[k::2]) for k in range(2)]
    fit(task, 80, DataLoader(batches, batch_size=None))
    kept = [case for batch in batches for case in task.watch(batch)]
    assert at_the_best_threshold(kept) == (7, 7, 0)
    task.tile, task.overlap = (24, 32, 32), 14
    assert at_the_best_threshold([case for batch in batches for case in task.watch(batch)]) == (7, 7, 0)
