"""Training on volumes: what a case of several volumes becomes, what its labels are, and that it is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml

from imaging.commands.train import main
from imaging.data.augment import Parameters, augment, draw
from imaging.data.cache import SampleCache, key_of
from imaging.data.dataset import SampleDataset, collate, first_image, harmonise_case
from imaging.data.manifest import Case, read_manifest
from imaging.data.patches import Patches, cut_labels, dice
from imaging.errors import ConfigError, GeometryError, ImagingError
from imaging.harmonise.augmentation import Augmentation
from imaging.image import Box
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.models.build import Outputs, build
from imaging.models.networks import DynUNetSettings, parse_network
from imaging.models.windows import probabilities
from imaging.phantoms.prostate.export import write_training_set
from imaging.tasks.segmentation import SegmentationTask
from tests.test_training import logged, refused
from tests.volumes import SHAPE, DrawnRecipe, affine, draw_case, draw_cases, write

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

LABELS = ["outer zone", "inner zone"]
FLAT = DynUNetSettings(3, 2, 3, (8, 16, 24), flat=1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_cases(tmp_path_factory.mktemp("volumes"))


def settings(manifest: Path, **data: Any) -> dict[str, Any]:
    network = {"kind": "dyn_unet", "spatial_dims": 3, "in_channels": 2, "out_channels": 3, "features": [8, 16, 24]}
    return {
        "model": {
            "class_path": "imaging.tasks.segmentation.SegmentationTask",
            "init_args": {"network": {**network, "flat": 1}, "learning_rate": 0.01},
        },
        "data": {
            "manifest": str(manifest),
            "recipe": {"class_path": "tests.volumes.DrawnRecipe"},
            "batch_size": 2,
            "labels": LABELS,
            "cache": str(manifest.parent / "cache"),
            **data,
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 30,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "check_val_every_n_epoch": 10,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }


def words(manifest: Path, run: Path, *more: str, **data: Any) -> list[str]:
    config = run.parent / f"{run.name}.yaml"
    config.write_text(yaml.safe_dump(settings(manifest, **data)), encoding="utf-8")
    return ["fit", f"--config={config}", f"--run={run}", *more]


# ------------------------------------------------------------------------------------------------------------ learning


def test_two_labels_of_drawn_volumes_are_learned(manifest: Path, tmp_path: Path) -> None:
    main(words(manifest, tmp_path / "run"))
    figures = logged(tmp_path / "run")
    last = max(figures["val/dice"])
    told = {name: figures[name][last] for name in ("val/dice", "val/dice_1", "val/dice_2")}
    assert min(told.values()) >= 0.9, told
    assert told["val/dice"] == pytest.approx((told["val/dice_1"] + told["val/dice_2"]) / 2, abs=1e-6)


def test_two_labels_are_learned_from_patches(manifest: Path, tmp_path: Path) -> None:
    """Patches of half the rows and columns, watched in windows of their size."""
    patches = {"shape": [8, 16, 16], "per_image": 4}
    main(words(manifest, tmp_path / "run", "--model.init_args.tile=[8,16,16]", patches=patches))
    figures = logged(tmp_path / "run")
    assert figures["val/dice"][max(figures["val/dice"])] >= 0.9


# ------------------------------------------------------------------------------------------------- what a case becomes


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return draw_case(tmp_path, 3)


def rewritten(case: Case, change: Callable[[Any, Any], tuple[Any, Any]]) -> Case:
    """The case with its truth's voxels (i, j, k) and affine changed."""
    stored = nibabel.load(case.truth)
    values, placed = change(np.asarray(stored.dataobj), stored.affine)
    image = nibabel.Nifti1Image(values, placed)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, case.truth.with_name("changed.nii.gz"))
    return replace(case, truth=case.truth.with_name("changed.nii.gz"))


def test_channels_and_truth_of_a_case_lie_on_one_grid(case: Case) -> None:
    """The ball is where it was drawn: on the key's own grid the truth is exact, and the ADC is low inside it."""
    image, truth = harmonise_case(case, DrawnRecipe(), LABELS)
    drawn = np.asarray(nibabel.load(case.truth).dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(truth[0], drawn)
    assert (image.shape, image.dtype, truth.dtype) == ((2, *SHAPE), np.float32, np.uint8)
    inside, outside = image[1][truth[0] == 1], image[1][truth[0] == 0]
    assert np.median(inside) == pytest.approx(0.3, abs=0.02)
    assert np.median(outside) == pytest.approx(0.6, abs=0.02)


def test_without_labels_every_value_is_the_one_label(case: Case) -> None:
    labelled, plain = harmonise_case(case, DrawnRecipe(), LABELS)[1], harmonise_case(case, DrawnRecipe())[1]
    assert np.unique(labelled).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(plain, labelled > 0)


def test_truth_in_another_axis_order_is_the_same_truth(case: Case) -> None:
    flipped = rewritten(case, lambda v, a: (v[::-1], a @ np.array(
        [[-1, 0, 0, v.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )))  # fmt: skip
    np.testing.assert_array_equal(
        harmonise_case(flipped, DrawnRecipe(), LABELS)[1], harmonise_case(case, DrawnRecipe(), LABELS)[1]
    )


def test_a_value_without_a_label_is_named_with_its_case(case: Case) -> None:
    wrong = rewritten(case, lambda v, a: (np.where(v == 2, 3, v).astype(np.uint8), a))
    with pytest.raises(ImagingError, match=r"case train-03: truth changed.nii.gz: found values \[3\]; named are"):
        harmonise_case(wrong, DrawnRecipe(), LABELS)
    assert harmonise_case(wrong, DrawnRecipe(), [*LABELS, "third"])[1].max() == 3


def test_truth_on_another_grid_is_refused(case: Case) -> None:
    aside = np.zeros((4, 4))
    aside[0, 3] = 0.5
    moved = rewritten(case, lambda v, a: (v, a + aside))
    with pytest.raises(GeometryError, match=r"case train-03: truth changed\.nii\.gz"):
        harmonise_case(moved, DrawnRecipe(), LABELS)


def test_the_organ_is_the_region_around_which_the_recipe_crops(case: Case, tmp_path: Path) -> None:
    placed = affine((3, 1, 1), SHAPE, (10, -20, 30))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2:5, 10:20, 4:9] = 1
    told = replace(case, organ=write(tmp_path / "organ.nii.gz", mask, placed))
    assert first_image(told, DrawnRecipe()).region == Box(low=(2, 10, 4), high=(5, 20, 9))
    assert first_image(case, DrawnRecipe()).region is None
    image, _ = harmonise_case(told, DrawnRecipe(shape=(3, 10, 5)), LABELS)
    whole, _ = harmonise_case(case, DrawnRecipe(), LABELS)
    np.testing.assert_allclose(image, whole[:, 2:5, 10:20, 4:9], atol=1e-6)
    with pytest.raises(ImagingError, match=r"organ empty\.nii\.gz: its mask is empty"):
        first_image(replace(case, organ=write(tmp_path / "empty.nii.gz", mask * 0, placed)), DrawnRecipe())


def test_a_companion_that_the_recipe_reads_and_nobody_named_is_an_error(case: Case) -> None:
    with pytest.raises(ImagingError, match="case train-03: DrawnRecipe: no ADC"):
        harmonise_case(replace(case, beside={}), DrawnRecipe(), LABELS)


@pytest.mark.parametrize("change", ["companion", "role", "organ", "labels", "nothing"])
def test_another_companion_role_organ_or_label_is_another_entry(change: str, case: Case, tmp_path: Path) -> None:
    cache, labels = SampleCache(tmp_path / "cache"), LABELS
    SampleDataset([case], DrawnRecipe(), cache, labels=labels)[0]
    if change == "companion":
        case = replace(case, beside={**case.beside, "high b": case.beside["ADC"]})
    elif change == "role":
        case = replace(case, beside={"ADC": case.beside["ADC"], "b 800": case.beside["high b"]})
    elif change == "organ":
        case = replace(case, organ=case.truth)
    elif change == "labels":
        labels = LABELS[::-1]
    later = SampleDataset([case], DrawnRecipe(), cache, labels=labels)
    _ = later[0]
    assert later.decoded == (change != "nothing")


def test_a_folder_is_known_by_the_names_and_bytes_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "study" / "series").mkdir(parents=True)
    one = tmp_path / "study" / "series" / "1"
    one.write_bytes(b"a")
    keys = [key_of([tmp_path / "study"], [])]
    one.write_bytes(b"b")
    keys.append(key_of([tmp_path / "study"], []))
    one.rename(one.with_name("2"))
    keys.append(key_of([tmp_path / "study"], []))
    assert len(set(keys)) == 3
    assert key_of([tmp_path / "study"], []) == keys[2]


def test_volumes_of_two_sizes_make_a_batch_with_room(case: Case, tmp_path: Path) -> None:
    """A channel's least value, and nothing there, beside the smaller one; planes of two sizes stay an error."""
    small = SampleDataset([case], DrawnRecipe(shape=(4, 32, 24)), labels=LABELS)[0]
    large = SampleDataset([draw_case(tmp_path, 4)], DrawnRecipe(), labels=LABELS)[0]
    batch = collate([small, large])
    assert batch["image"].shape == (2, 2, *SHAPE)
    np.testing.assert_array_equal(batch["image"][0, :, :4, :, :24], small.image)
    np.testing.assert_array_equal(batch["image"][1], large.image)
    room = torch.ones(SHAPE, dtype=torch.bool)
    room[:4, :, :24] = False
    for channel in (0, 1):
        assert set(batch["image"][0, channel][room].tolist()) == {float(small.image[channel].min())}
    assert not batch["truth"][0, 0][room].any()
    planes = [replace(one, image=one.image[:, 0], truth=one.truth[:, 0]) for one in (small, large)]
    with pytest.raises(ConfigError, match="Let the recipe fit one grid"):
        collate(planes)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A phantom study as DICOM, with the gland as its organ and its zones as truth."""
    table = write_training_set(tmp_path_factory.mktemp("study") / "set", 1, seed=3)
    (case,) = read_manifest(table)
    gland, zones = (case.known_truth.with_name(f"{name}.nii.gz") for name in ("gland", "zones"))
    return replace(case, organ=gland, truth=zones)


def test_a_study_folder_is_read_by_the_recipes_rule(study: Case) -> None:
    recipe = ProstateRecipe(roles=("T2W", "ADC", "high b"), shape=(24, 32, 32), spacing_mm=(3.0, 2.0, 2.0))
    image = first_image(study, recipe)
    assert {"ADC", "high b"} <= set(image.beside)
    harmonised, truth = harmonise_case(study, recipe, ["peripheral zone", "transition zone"])
    assert harmonised.shape[0] == 3
    known = nibabel.load(study.known_truth)
    volume = float(np.prod(known.header.get_zooms())) * np.array(
        [(np.asarray(known.dataobj) == k).sum() for k in (1, 2)]
    )
    found = 12.0 * np.array([(truth == k).sum() for k in (1, 2)])
    np.testing.assert_allclose(found, volume, rtol=0.02)


# ----------------------------------------------------------------------------------------------- variation and patches


def test_a_channel_with_a_unit_keeps_its_values() -> None:
    ranges = Augmentation(chance=1.0, gamma=(0.5, 0.7), noise=(0.1, 0.2), channels=(0, 2), bounded=False)
    image = torch.randn(3, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    varied, _ = augment(image, image[:, :1].long() * 0, [draw(ranges, 1, 0, k) for k in range(3)])
    assert torch.equal(varied[:, 1], image[:, 1])
    for channel in (0, 2):
        assert not torch.allclose(varied[:, channel], image[:, channel], atol=0.05)
    drawn = draw(ranges, 1, 0, 0)
    assert drawn.channels is not None
    assert len({own.gamma for _, own in drawn.channels}) == 2
    assert draw(ranges, 1, 0, 0) == drawn


def test_gamma_keeps_the_ends_of_unbounded_values() -> None:
    image = torch.linspace(-4, 8, 5 * 6 * 7).reshape(1, 1, 5, 6, 7)
    told = Parameters(gamma=2.0, bounded=False)
    varied, _ = augment(image, torch.zeros_like(image, dtype=torch.long), [told])
    assert (float(varied.min()), float(varied.max())) == (-4.0, 8.0)
    # A quarter of the way up becomes a sixteenth.
    middle = float(varied.flatten()[(image.flatten() + 1).abs().argmin()])
    assert middle == pytest.approx(-4 + 12 / 16, abs=0.05)


def test_what_comes_from_outside_an_unbounded_image_is_its_least_value() -> None:
    image = torch.full((1, 2, 3, 8, 8), 5.0)
    image[0, 0, 0, 0, 0], image[0, 1, 0, 0, 0] = -3.0, 2.0
    varied, truth = augment(image, torch.ones_like(image[:, :1]).long(), [Parameters(zoom=(0.5, 0.5), bounded=False)])
    assert varied[0, :, 1, 0, 0].tolist() == [-3.0, 2.0]
    assert varied[0, :, 1, 4, 4].tolist() == [5.0, 5.0]
    assert (int(truth[0, 0, 1, 0, 0]), int(truth[0, 0, 1, 4, 4])) == (0, 1)


def labelled() -> torch.Tensor:
    """Label 1 in a corner of 2 voxels, label 2 in 600 voxels far from it, (1, 1, 8, 40, 40)."""
    truth = torch.zeros(1, 1, 8, 40, 40, dtype=torch.long)
    truth[0, 0, 1, 2, 2:4] = 1
    truth[0, 0, 2:8, 25:35, 25:35] = 2
    return truth


def test_patches_lie_near_each_label_equally_often() -> None:
    truth = labelled()
    near, told = cut_labels(truth.float(), truth, Patches((4, 8, 8), 400, near_lesion=1.0), [dice(1, 0, 0)])
    assert near.shape == (400, 1, 4, 8, 8)
    torch.testing.assert_close(near.long(), told)
    shares = [(told == label).flatten(1).any(dim=1).float().mean() for label in (1, 2)]
    assert shares[0] == pytest.approx(0.5, abs=0.08)
    assert shares[0] + shares[1] == pytest.approx(1.0)  # each patch has the one that it was put near
    _, anywhere = cut_labels(truth.float(), truth, Patches((4, 8, 8), 400, near_lesion=0.0), [dice(1, 0, 0)])
    assert (anywhere == 1).flatten(1).any(dim=1).float().mean() < 0.1


def test_patches_of_labels_depend_on_seed_epoch_and_number_alone() -> None:
    truth = labelled()
    patches = Patches((4, 8, 8), 3)
    first = cut_labels(truth.float(), truth, patches, [dice(1, 2, 3)])[0]
    twice = cut_labels(truth.float().repeat(2, 1, 1, 1, 1), truth.repeat(2, 1, 1, 1, 1), patches,
                       [dice(9, 9, 9), dice(1, 2, 3)])[0]  # fmt: skip
    assert torch.equal(twice[3:], first)
    assert not torch.equal(twice[:3], first)


def test_a_patch_larger_than_an_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.patches.shape: found \[4, 48, 8\]; an image has \[8, 40, 40\]"):
        cut_labels(labelled().float(), labelled(), Patches((4, 48, 8)), [dice(1, 0, 0)])


# ------------------------------------------------------------------------------------------------ flat levels, windows


def test_flat_levels_see_slices_by_themselves() -> None:
    """Two flat levels of four: kernels of one slice there; the slice axis is halved once, on the way to the last."""
    network = replace(FLAT, features=(4, 6, 8, 10), flat=2, deep_supervision=2)
    assert network.multiples == (2, 8, 8)
    model = build(network).train()
    blocks = [model.input_block, *model.downsamples, model.bottleneck]
    assert [tuple(b.conv1.conv.weight.shape[2:]) for b in blocks] == [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert [tuple(b.conv1.conv.stride) for b in blocks] == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2)]
    outputs = model(torch.rand(2, 2, 6, 16, 24))
    assert [tuple(p.shape) for p in (outputs.pixels, *outputs.deep)] == [(2, 3, 6, 16, 24)] * 3


def test_a_stem_leaves_the_slices_of_a_flat_network() -> None:
    network = replace(FLAT, stem=2, classes=3)
    assert network.multiples == (2, 8, 8)
    outputs = build(network).eval()(torch.rand(2, 2, 4, 16, 8))
    assert (tuple(outputs.pixels.shape), tuple(outputs.classes.shape)) == ((2, 3, 4, 16, 8), (2, 3))
    assert replace(FLAT, flat=0, stem=2).multiples == (8, 8, 8)


@pytest.mark.parametrize(
    ("kind", "dims", "flat", "allowed"),
    [("dyn_unet", 3, 3, "0 to 2"), ("dyn_unet", 2, 1, "allowed is 0"), ("dyn_unet", 3, -1, "0 to 2")],
)
def test_flat_levels_that_there_are_not_are_refused(kind: Any, dims: Any, flat: int, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"flat: found {flat}; allowed is .*{allowed.removeprefix('allowed is ')}"):
        parse_network({"kind": kind, "spatial_dims": dims, "features": [4, 6, 8], "flat": flat})


def test_sides_are_told_per_axis() -> None:
    assert FLAT.fits((2, 4, 8))
    assert not FLAT.fits((3, 4, 8))
    assert not FLAT.fits((2, 4))
    assert (FLAT.sides, replace(FLAT, flat=0).sides) == (
        "sides that are multiples of 2 × 4 × 4",
        "sides that are multiples of 4",
    )


class _Local(torch.nn.Module):
    """Two labels of each voxel by its own value alone: windows of it must agree exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> Outputs:
        self.seen.append(tuple(x.shape[2:]))
        return Outputs(torch.cat([x, -x], dim=1), None)


def test_one_window_gives_the_whole_image() -> None:
    model, x = build(FLAT).eval(), torch.rand(1, 2, 4, 16, 16)
    whole = model(x).pixels.softmax(dim=1)[0]
    for window in (None, (4, 16, 16), (8, 32, 16)):
        torch.testing.assert_close(probabilities(model, x, window), whole)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_cover_everything_and_agree_where_the_network_does(overlap: float) -> None:
    model, x = _Local(), torch.randn(1, 1, 5, 19, 30)
    told = probabilities(model, x, (4, 8, 16), overlap)
    torch.testing.assert_close(told, torch.cat([x, -x], dim=1).softmax(dim=1)[0])
    assert set(model.seen) == {(4, 8, 16)}
    assert len(model.seen) == (2 * 3 * 2 if overlap == 0 else 2 * 4 * 3)


def test_the_middle_of_a_window_counts_most() -> None:
    """Two windows that say different things: half-way between their centres they count alike."""

    class Told(torch.nn.Module):
        said = 0.0

        def forward(self, x: torch.Tensor) -> Outputs:
            self.said += 10.0
            return Outputs(torch.stack([x[:, 0] * 0, x[:, 0] * 0 + (20 if self.said > 10 else -20)], dim=1), None)

    told = probabilities(Told(), torch.zeros(1, 1, 2, 2, 12), (2, 2, 8))[1, 0, 0]
    assert told[:4].max() < 1e-6
    assert told[8:].min() > 1 - 1e-6
    assert told[5] + told[6] == pytest.approx(1.0)
    assert told[4] < told[5] < 0.5 < told[6] < told[7]


# ----------------------------------------------------------------------------------------------------- what is watched


def watched(pixels: torch.Tensor, truth: torch.Tensor, labels: int) -> list[dict[str, float]]:
    task = SegmentationTask(replace(FLAT, out_channels=labels + 1))

    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Outputs:
            return Outputs(torch.nn.functional.one_hot(pixels, labels + 1).movedim(-1, 1).float(), None)

    task.model = Fixed()
    batch = {"image": torch.zeros(len(pixels), 2, *pixels.shape[1:]), "truth": truth[:, None]}
    return task.watch(batch)  # type: ignore[arg-type]


def test_dice_is_told_by_label_and_empty_cases_apart() -> None:
    """By hand: label 1 of four voxels, three found and one beside; label 2 missed; then only label 2; then nothing."""
    truth = torch.zeros(3, 1, 1, 8, dtype=torch.long)
    found = truth.clone()
    truth[0, 0, 0] = torch.tensor([1, 1, 1, 1, 0, 0, 2, 2])
    found[0, 0, 0] = torch.tensor([0, 1, 1, 1, 1, 0, 0, 0])
    truth[1, 0, 0] = torch.tensor([2, 2, 0, 0, 0, 0, 0, 0])
    found[1, 0, 0] = torch.tensor([2, 2, 0, 0, 0, 1, 0, 0])
    found[2, 0, 0, 3] = 1
    assert watched(found, truth, 2) == [
        {"dice": pytest.approx(0.375), "dice_1": pytest.approx(0.75), "dice_2": 0.0},
        {"dice": 1.0, "dice_2": 1.0},
        {"marked_empty": 1.0},
    ]
    assert watched(found.clamp(max=1), truth.clamp(max=1), 1)[0] == {"dice": pytest.approx(0.6)}


@pytest.mark.parametrize(
    ("more", "data", "named"),
    [
        (["--model.init_args.network.out_channels=2"], {}, "network.out_channels: found 2; allowed is 3"),
        ([], {"labels": []}, "network.out_channels: found 3; allowed is 2"),
        ([], {"labels": ["a", "a"]}, "data.labels: found ['a', 'a']; allowed are different names"),
        (["--model.init_args.tile=[8,18,16]"], {}, "tile: found [8, 18, 16]; allowed are 3 sides that are multiples"),
        ([], {"patches": {"shape": [8, 18, 16]}}, "data.patches of 8 × 18 × 16; allowed is sides that are multiples"),
        ([], {"patches": {"shape": [8, 64, 16]}}, "data.patches.shape: found [8, 64, 16]; allowed is at most"),
        ([], {"augmentation": {"channels": [2]}}, "data.augmentation.channels: found [2]; allowed is 0 to 1"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(
    more: list[str],
    data: dict[str, Any],
    named: str,
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert named in refused(capsys, *words(manifest, tmp_path / "run", *more, **data))
