"""What an arm of a benchmark changes: intensities learnt on training cases and applied apart; what shares a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from PIL import Image as Picture

from imaging.data.appearance import bias_field, convolved
from imaging.data.augment import Parameters, augment, draw
from imaging.data.cache import SampleCache
from imaging.data.dataset import SampleDataset, collate
from imaging.data.manifest import read_manifest
from imaging.data.module import ImagingDataModule
from imaging.data.styles import chosen, restyled, style_of, with_amplitude
from imaging.errors import ConfigError
from imaging.harmonise.augmentation import Augmentation, Change
from imaging.harmonise.normalisation import Kind, Normalisation, Normalise, learn
from imaging.harmonise.recipe import Recipe, identity, placing_identity, settings
from imaging.harmonise.tissue import Placed
from imaging.image import Array
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from imaging.package import RecipeChoice, load_package
from imaging.packaging import make_package
from imaging.predictor import build_recipe, load_predictor
from imaging.tasks.checkpoints import load_checkpoint
from imaging.tasks.record import record_in
from tests.test_configs import CONFIGS, train
from tests.test_packaging_volumes import CARD
from tests.test_training_data import SIDE, write_cases
from tests.volumes import draw_cases

ARMS = sorted((CONFIGS / "arm").glob("*.yaml"))
SMALL = (  # a network that fits pictures of 32 pixels
    "--model.init_args.network.features=[4,8,8]",
    "--model.init_args.network.stem=1",
    "--model.init_args.network.deep_supervision=0",
)
KINDS: tuple[Kind, ...] = ("none", "zscore", "percentile", "nyul", "quantile")

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    # Lightning 2.6.6 calls names that torch and jsonargparse are about to retire.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
]


def drawn(values: Sequence[float], *more: Sequence[float]) -> Placed:
    """Channels of one row of foreground; a last column of 0 lies beside it."""
    planes = np.array([[[*of, 0.0]] for of in (values, *more)], dtype=np.float32)
    foreground = np.ones(planes.shape[1:], np.bool_)
    foreground[:, -1] = False
    return Placed(MetaTensor(torch.from_numpy(planes)), foreground)


def applied(normalisation: Normalisation, placed: Placed, *, bounded: bool = True) -> Array:
    return Normalise(normalisation, (0,), bounded)(placed).numpy()[0, 0]


RISING = [float(v) for v in range(101)]  # percentile p of it is p


# -------------------------------------------------------------------------------------------------- by hand: the curves


def test_zscore_puts_three_standard_deviations_at_the_ends() -> None:
    """Of 2, 4, 4, 4, 5, 5, 7, 9 the mean is 5 and the SD 2: 9 is 2 SD above, so 0.5 + 2/6; in units of SD it is 2."""
    placed = drawn([2, 4, 4, 4, 5, 5, 7, 9])
    np.testing.assert_allclose(applied(Normalisation("zscore"), placed)[[0, 4, 7]], [0.25, 0.5, 0.5 + 2 / 6], atol=1e-6)
    units = applied(Normalisation("zscore"), placed, bounded=False)
    np.testing.assert_allclose(units, [-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2, -2.5], atol=1e-6)


def test_percentile_clips_at_the_ends_and_leaves_what_lies_beside_at_zero() -> None:
    seen = applied(Normalisation("percentile"), drawn(RISING))
    np.testing.assert_allclose(seen[[0, 1, 50, 99, 100]], [0, 0, 0.5, 1, 1], atol=1e-6)
    assert seen[-1] == 0


def test_none_is_one_line_for_all_cases() -> None:
    """p1 and p99 are 1, 99 of the one case and 11, 109 of the other: the line leads from 6 to 104 for everybody."""
    learnt = learn(Normalisation("none"), [drawn(RISING), drawn([v + 10 for v in RISING])], (0,))
    assert learnt.reference == ((6.0, 104.0),)
    np.testing.assert_allclose(applied(learnt, drawn([55, 6, 104, 300])), [0.5, 0, 1, 1, 0], atol=1e-6)
    assert applied(learnt, drawn([55, 6]))[0] == pytest.approx(0.5)  # what else the case shows changes nothing


def test_nyul_learns_mean_landmarks_and_bends_between_them() -> None:
    """A rising case has its landmarks at (p - 1) / 98. Squared, it has p10 at (100 - 1) / (9801 - 1)."""
    squared = drawn([v * v for v in RISING])
    learnt = learn(Normalisation("nyul"), [drawn(RISING), squared], (0,))
    (reference,) = learnt.reference
    assert len(reference) == 11
    assert reference[0] == 0
    assert reference[-1] == 1
    assert reference[1] == pytest.approx((9 / 98 + 99 / 9800) / 2, rel=1e-5)
    seen = applied(learnt, drawn(RISING))
    assert seen[10] == pytest.approx(reference[1], rel=1e-5)
    assert seen[15] == pytest.approx((reference[1] + reference[2]) / 2, rel=1e-5)
    # Both cases come to the same place where they have their landmarks.
    np.testing.assert_allclose(applied(learnt, squared)[10:91:10], seen[10:91:10], atol=1e-5)


def test_beyond_its_landmarks_nyul_goes_on_as_its_outer_lines_do() -> None:
    learnt = learn(Normalisation("nyul"), [drawn(RISING)], (0,))
    units = applied(learnt, drawn(RISING), bounded=False)
    np.testing.assert_allclose(units[[0, 100]], [6 * (-1 / 98 - 0.5), 6 * (99 / 98 - 0.5)], atol=1e-5)


def test_quantile_matching_gives_every_case_the_histogram_of_the_reference() -> None:
    """A case and its square share their ranks, so after matching they are equal; the reference keeps its own shape."""
    learnt = learn(Normalisation("quantile"), [drawn(RISING)], (0,))
    own, other = (applied(learnt, drawn([v**power for v in RISING])) for power in (1, 2))
    np.testing.assert_allclose(own, other, atol=5e-3)
    np.testing.assert_allclose(own[[10, 50, 90]], [(p - 0.5) / 99 for p in (10, 50, 90)], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_without_contrast_becomes_zero_and_teaches_nothing(kind: Kind) -> None:
    learnt = learn(Normalisation(kind), [drawn(RISING), drawn([7.0] * 9)], (0,))
    assert learnt == learn(Normalisation(kind), [drawn(RISING)], (0,))
    assert not applied(learnt, drawn([7.0] * 9)).any()
    empty = replace(placed := drawn([1.0, 2.0]), foreground=np.zeros_like(placed.foreground))
    assert not applied(learnt, empty).any()


def test_few_grey_levels_share_the_mean_of_their_targets() -> None:
    """Of a case of two grey levels many landmarks coincide; its curve is still finite and rising."""
    learnt = learn(Normalisation("nyul"), [drawn(RISING)], (0,))
    seen = applied(learnt, drawn([10] * 50 + [20] * 50))
    assert np.isfinite(seen).all()
    assert 0 < seen[0] < seen[99] < 1


@pytest.mark.parametrize("kind", ["none", "nyul", "quantile"])
def test_what_has_not_learnt_yet_is_refused(kind: Kind) -> None:
    with pytest.raises(ConfigError, match=f"'{kind}': found no reference of channel 0"):
        applied(Normalisation(kind), drawn(RISING))
    with pytest.raises(ConfigError, match="no training case with contrast in channel 0"):
        learn(Normalisation(kind), [drawn([3.0, 3.0])], (0,))
    with pytest.raises(ConfigError, match="found 3 numbers"):
        Normalisation(kind, reference=((1.0, 2.0, 3.0),))


def test_zscore_and_percentile_read_no_training_case() -> None:
    def unread() -> Placed:
        raise AssertionError("a case was read")

    kinds: tuple[Kind, ...] = ("zscore", "percentile")
    for kind in kinds:
        assert learn(Normalisation(kind), (unread() for _ in range(1)), (0,)) == Normalisation(kind)


# ------------------------------------------------------------------------------------------------------------- recipes


def test_identity_is_that_of_before_where_nothing_is_normalised_and_placing_is_shared() -> None:
    own = UltrasoundRecipe(side=SIDE)
    assert "normalisation" not in settings(own)
    arms = [replace(own, normalisation=Normalisation(kind)) for kind in KINDS]
    assert len({identity(recipe) for recipe in (own, *arms)}) == len(arms) + 1
    assert {placing_identity(recipe) for recipe in (own, *arms)} == {identity(own)}
    assert placing_identity(replace(own, side=64)) != identity(own)


def test_a_package_carries_what_was_learnt(tmp_path: Path) -> None:
    recipe = UltrasoundRecipe(side=SIDE, normalisation=learn(Normalisation("nyul"), [drawn(RISING)], (0,)))
    stated = yaml.safe_load(yaml.safe_dump(_listed(settings(recipe))))
    assert build_recipe(RecipeChoice(recipe.name, stated, identity(recipe)), "drawn") == recipe


def _listed(told: object) -> object:
    """As package.yaml has it."""
    if isinstance(told, dict):
        return {name: _listed(value) for name, value in told.items()}
    return [_listed(value) for value in told] if isinstance(told, tuple | list) else told


def test_adc_keeps_its_scale_unless_it_is_told_otherwise() -> None:
    """Rows of T2W and ADC; 1500 is the middle of 0-3000, so 0 on the fixed scale, whatever the arm."""
    placed = drawn(RISING, [15.0 * v for v in RISING])
    volume = Placed(placed.values[:, None], placed.foreground[None])
    own = ProstateRecipe(roles=("T2W", "ADC"))
    for kind in KINDS:
        recipe = replace(own, normalisation=Normalisation(kind)).fit([volume])
        scaled = recipe.scale(volume).numpy()[:, 0, 0]
        np.testing.assert_array_equal(scaled[1], own.scale(volume).numpy()[1, 0, 0])
        assert scaled[1][100] == 0
        assert not np.array_equal(scaled[0], own.scale(volume).numpy()[0, 0, 0])
        too = replace(own, normalisation=Normalisation(kind, with_quantities=True)).fit([volume])
        assert not np.array_equal(too.scale(volume).numpy()[1, 0, 0], scaled[1])
    with pytest.raises(ConfigError, match="intensity: found zscore"):
        ProstateRecipe(intensity="zscore", normalisation=Normalisation("none"))


# --------------------------------------------------------------------------------------------------------------- cache


def test_four_arms_decode_each_picture_once(tmp_path: Path) -> None:
    cases = read_manifest(write_cases(tmp_path / "cases", 6, 0, 0))
    own = UltrasoundRecipe(side=SIDE)
    reference = SampleDataset(cases, own, None)
    kinds: tuple[Kind, ...] = ("zscore", "none", "nyul")
    arms: list[Recipe] = [own, *(replace(own, normalisation=Normalisation(kind)) for kind in kinds)]
    decoded, images = 0, []
    for recipe in arms:
        learning = SampleDataset(cases, recipe, SampleCache(tmp_path / "cache"))
        fitted = recipe.fit(learning.placed())
        dataset = SampleDataset(cases, fitted, SampleCache(tmp_path / "cache"))
        images.append([dataset[k].image for k in range(len(cases))])
        decoded += learning.decoded + dataset.decoded
        # What comes from the cache is what comes from the pictures.
        uncached = SampleDataset(cases, fitted, None)
        np.testing.assert_array_equal(images[-1], [uncached[k].image for k in range(len(cases))])
    assert decoded == len(cases)
    np.testing.assert_array_equal(images[0], [reference[k].image for k in range(len(cases))])
    assert len({np.asarray(of).tobytes() for of in images}) == len(arms)


# ------------------------------------------------------------------------------------------------------------ training


def words(manifest: Path, folder: Path, *arms: str) -> list[str]:
    files = [CONFIGS / "trainer.yaml", CONFIGS / "recipe" / "ultrasound.yaml", CONFIGS / "task" / "segmentation.yaml"]
    files += [CONFIGS / "arm" / f"{arm}.yaml" for arm in arms]
    small = ["--data.recipe.init_args.side=32", "--data.batch_size=2"]
    small += [f"--data.manifest={manifest}", "--trainer.accelerator=cpu", f"--run={folder}"]
    return [*(f"-c={file}" for file in files), *small, *SMALL, f"--data.cache={folder.parent}/cache"]


def reference_of(run: Path) -> tuple[tuple[float, ...], ...]:
    told = yaml.safe_load((run / "config.yaml").read_text())["data"]["recipe"]["init_args"]["normalisation"]
    return Normalisation(**told).reference


def test_a_training_learns_from_its_training_cases_alone_and_hands_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_cases(tmp_path / "cases", 6, 3, 3)
    run, other = tmp_path / "run", tmp_path / "other"
    train(
        monkeypatch,
        ["fit", *words(manifest, run, "nyul", "fourier"), "--data.test_sites=[b]", "--trainer.max_epochs=1"],
    )
    recipe = replace(UltrasoundRecipe(side=SIDE), normalisation=Normalisation("nyul"))
    own = [c for c in read_manifest(manifest) if c.split == "train" and c.site != "b"]
    expected = recipe.fit(SampleDataset(own, recipe).placed())
    assert expected.normalisation is not None
    assert reference_of(run) == expected.normalisation.reference
    best = run / "checkpoints" / "best.ckpt"
    assert record_in(load_checkpoint(best), "best").settings["data.recipe"]["identity"] == identity(expected)

    # The configuration of the run, and those files that it was begun with, both test as it was trained.
    train(monkeypatch, ["test", f"-c={run / 'config.yaml'}"])
    figures = (run / "test.csv").read_text()
    train(monkeypatch, ["test", *words(manifest, run, "nyul", "fourier"), "--data.test_sites=[b]"])
    assert (run / "test.csv").read_text() == figures

    # A package carries it to inference; its identity is checked where it is loaded.
    described = {**CARD, "applicability": {"modality": "US", "body_parts": ["BREAST"]}, "parts": "every"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(described))
    package = make_package(run, tmp_path / "card.yaml", tmp_path / "package", is_forced=True)
    assert load_predictor(load_package(package.folder)).recipe == expected

    # Going on takes the recorded reference, also where the files say none.
    more = [
        "fit",
        *words(manifest, run, "nyul", "fourier"),
        "--data.test_sites=[b]",
        "--trainer.max_epochs=2",
        "--resume",
    ]
    cli = train(monkeypatch, more)
    assert cli.trainer.current_epoch == 2
    assert reference_of(run) == expected.normalisation.reference

    # Pictures of validation and of the held-out site change nothing that is learnt.
    for case in read_manifest(manifest):
        if case.split != "train" or case.site == "b":
            pixels = np.asarray(Picture.open(case.image)) // 3
            Picture.fromarray(pixels).save(case.image)
    train(
        monkeypatch,
        ["fit", *words(manifest, other, "nyul", "fourier"), "--data.test_sites=[b]", "--trainer.max_epochs=1"],
    )
    assert reference_of(other) == reference_of(run)

    # A planted leak: a reference of all sites' cases.
    leaked = recipe.fit(SampleDataset(read_manifest(manifest), recipe).placed())
    assert leaked.normalisation is not None
    given = f"--data.recipe.init_args.normalisation.reference={_listed(leaked.normalisation.reference)}"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train(
            monkeypatch, ["fit", *words(manifest, tmp_path / "leak", "nyul", "fourier"), given, "--data.test_sites=[b]"]
        )
    assert "is not what the training cases of this run give" in capsys.readouterr().err
    assert not (tmp_path / "leak" / "config.yaml").exists()


# -------------------------------------------------------------------------------------------------------- augmentation


def tissue(rows: int = 48, columns: int = 40, depth: int = 0, seed: int = 0) -> torch.Tensor:
    """(1, [slice,] row, column) in 0-1: grainy tissue, and a border beside it that is 0."""
    rng = np.random.default_rng(seed)
    shape = (1, *([depth] if depth else []), rows, columns)
    image = np.clip(0.5 + 0.15 * rng.standard_normal(shape), 0.05, 0.95).astype(np.float32)
    image[..., :6] = 0
    return torch.from_numpy(image)


def test_a_random_network_keeps_shape_energy_range_and_what_lies_beside() -> None:
    image = tissue()
    inside = image > 0
    for seed in range(20):
        made = convolved(image, 0.7, seed, is_masked=True)
        assert made.shape == image.shape
        torch.testing.assert_close(made[inside].mean(), image[inside].mean())
        torch.testing.assert_close(made[inside].std(), image[inside].std())
        assert not made[~inside].any()
        assert not torch.equal(made, convolved(image, 0.7, seed + 100, is_masked=True))
        torch.testing.assert_close(convolved(image, 0.7, seed, is_masked=True), made, rtol=0, atol=0)
    torch.testing.assert_close(convolved(image, 0.0, 1, is_masked=True), image)
    flat = torch.full((1, 8, 8), 0.5)
    torch.testing.assert_close(convolved(flat, 0.7, 1, is_masked=True), flat)


def test_a_random_network_takes_each_slice_alike_and_each_channel_by_itself() -> None:
    """Two slices with one picture stay equal; a second channel changes nothing of the first."""
    plane = tissue()
    volume = torch.stack([plane, plane], dim=1)
    made = convolved(volume, 0.8, 4, is_masked=True)
    torch.testing.assert_close(made[:, 0], made[:, 1])
    torch.testing.assert_close(made[:, 0], convolved(plane, 0.8, 4, is_masked=True))
    both = convolved(torch.cat([plane, tissue(seed=3) * 9]), 0.8, 4, is_masked=True)
    torch.testing.assert_close(both[:1], convolved(plane, 0.8, 4, is_masked=True))


@pytest.mark.parametrize("shape", [(1, 40, 30), (2, 6, 40, 30)])
def test_a_bias_field_is_smooth_and_as_strong_as_it_says(shape: tuple[int, ...]) -> None:
    logs = bias_field(torch.zeros(shape), 0.5, seed=2).log()
    assert logs.shape == shape[1:]
    assert float(logs.abs().max()) == pytest.approx(0.5, rel=1e-5)
    steps = [float(logs.diff(dim=axis).abs().max()) for axis in range(logs.ndim) if logs.shape[axis] > 10]
    assert max(steps) < 0.2
    assert float(logs.std()) > 0.05


def test_amplitude_mixing_keeps_phase_and_high_frequencies() -> None:
    """With share 0 it is the image. With share 1 low frequencies have the other's amplitude, and all the own phase."""
    own, other = tissue(seed=1)[0], tissue(seed=2)[0] * 0.5
    amplitude = style_of(other[None].numpy(), "b").amplitude[0]
    torch.testing.assert_close(with_amplitude(own, amplitude, 0.0, 0.1), own)
    spectrum, made = (torch.fft.fft2(x, norm="forward") for x in (own, with_amplitude(own, amplitude, 1.0, 0.1)))
    low = torch.zeros(own.shape, dtype=torch.bool)  # 4 of 48 rows and 4 of 40 columns, either way
    low[torch.arange(-4, 5)[:, None], torch.arange(-4, 5)] = True
    torch.testing.assert_close(made.abs()[low], amplitude[low], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(made[~low], spectrum[~low], atol=1e-6, rtol=1e-4)
    turn = (made / spectrum)[low & (spectrum.abs() > 1e-4)].angle()
    torch.testing.assert_close(turn, torch.zeros_like(turn), atol=1e-2, rtol=0)
    # The mean brightness is the lowest frequency: half of the way, half of the difference.
    half = with_amplitude(own, amplitude, 0.5, 0.1)
    torch.testing.assert_close(half.mean(), (own.mean() + other.mean()) / 2)


def test_amplitudes_come_from_another_site_whatever_the_batch() -> None:
    bright, dark = style_of(tissue(seed=9).numpy(), "a"), style_of((tissue(seed=9) * 0.2).numpy(), "b")
    p = Parameters(amplitude=(1.0, 0.05, 0.3))
    images = torch.stack([tissue(seed=1), tissue(seed=2)])
    made = restyled(images, ["a", "b"], [p, p], [bright, dark])
    assert made[0].mean() < 0.4 * images[0].mean()
    assert made[1].mean() > 0.9 * images[1].mean()
    torch.testing.assert_close(made[:1], restyled(images[:1], ["a"], [p], [bright, dark]))
    assert not made[images == 0].any()
    assert torch.equal(restyled(images, ["a", "b"], [Parameters()] * 2, [bright]), images)
    alone = restyled(images, ["b", "b"], [p, p], [dark])  # one site alone lends its own
    assert alone.mean() < 0.5 * images.mean()


def test_the_bank_has_cases_of_every_site_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    case = read_manifest(write_cases(tmp_path / "cases", 1, 0, 0))[0]
    cases = [replace(case, case_id=f"{k}", site="rare" if k == 50 else "often") for k in range(60)]
    numbers = chosen(cases, seed=3)
    assert 50 in numbers
    assert len(numbers) == len(set(numbers)) == 9  # 8 of the one, and the only one of the other
    assert numbers == chosen(cases, seed=3) != chosen(cases, seed=4)


def test_what_was_drawn_before_there_was_more_is_drawn_still() -> None:
    """Numbers of the older steps do not move when the new ones are switched on."""
    ranges = UltrasoundRecipe.augmentation
    more = ranges.changed({"bias_field": 0.5, "convolutions": 0.5, "amplitude": 0.5})
    new = {"bias_field": 0.0, "convolved": 0.0, "amplitude": (0.0, 0.0, 0.0)}
    drawn_of = [replace(draw(told, 1, 2, 3), **new) for told in (ranges, more)]  # type: ignore[arg-type]
    assert drawn_of[0] == drawn_of[1]
    seen = [draw(more, 1, 0, number) for number in range(400)]
    assert 0.4 < np.mean([p.convolved > 0 for p in seen]) < 0.6
    assert 0.4 < np.mean([p.amplitude[0] > 0 for p in seen]) < 0.6
    assert all(0.01 <= p.amplitude[1] <= 0.1 for p in seen)


def test_strength_widens_factors_by_powers_and_spreads_by_itself() -> None:
    ranges = Augmentation(gamma=(0.5, 2.0), noise=(0.1, 0.2), gain=0.4, rotation=10.0, strength=2.0)
    wide = ranges.widened()
    assert (wide.gamma, wide.noise, wide.gain, wide.rotation) == ((0.25, 4.0), (0.1, 0.4), 0.8, 10.0)
    assert wide.widened() == wide


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gama": (1.0, 2.0)}, "data.vary: found 'gama'; allowed are .*gamma"),
        ({"gamma": 2.0}, "data.vary.gamma: found 2.0; allowed is a range"),
        ({"chance": (0.1, 0.2)}, "data.vary.chance: .*allowed is a number"),
        ({"bounded": 1.0}, "data.vary.bounded: .*true or false"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(changes: dict[str, Change], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation().changed(changes)


@pytest.mark.parametrize("is_volume", [False, True])
def test_new_steps_move_no_pixel_and_leave_truth_and_quantities_alone(is_volume: bool) -> None:
    own = ProstateRecipe(roles=("T2W", "ADC")).augmentation if is_volume else UltrasoundRecipe.augmentation
    still = replace(own, rotation=0.0, scale=(1.0, 1.0), stretch=1.0, shift=0.0, flip_columns=False)
    strong = still.changed({"strength": 1.5, "chance": 1.0, "bias_field": 0.5, "convolutions": 1.0})
    images = torch.stack([torch.cat([tissue(depth=4 * is_volume, seed=k)] * (1 + is_volume)) for k in range(3)])
    truth = (images[:, :1] > 0.5).long()
    made, told = augment(images, truth, [draw(strong, 1, 0, number) for number in range(3)])
    assert torch.equal(told, truth)
    assert made.isfinite().all()
    assert not torch.equal(made[:, 0], images[:, 0])
    if is_volume:
        assert torch.equal(made[:, 1], images[:, 1])
    else:
        assert not made[images == 0].any()
        assert float(made.min()) >= 0
        assert float(made.max()) <= 1


def test_what_a_sample_becomes_depends_on_no_batch_and_on_no_earlier_step(tmp_path: Path) -> None:
    """As after a stop, and as in another number of processes: other modules with other batches make the same images."""
    manifest = write_cases(tmp_path / "cases", 8, 2, 0)
    vary: dict[str, Change] = {"amplitude": 0.9, "convolutions": 0.9, "bias_field": 0.5, "chance": 0.9}

    def given(*batches: list[int]) -> dict[int, torch.Tensor]:
        data = ImagingDataModule(manifest, UltrasoundRecipe(side=SIDE), cache=tmp_path / "cache", vary=vary)
        data.setup("fit")
        data.trainer = SimpleNamespace(training=True, current_epoch=3)  # type: ignore[assignment]
        dataset = data.dataset(data.split("train"), "train")
        made: dict[int, torch.Tensor] = {}
        for numbers in batches:
            batch = data.on_after_batch_transfer(collate([dataset[k] for k in numbers]), 0)
            made |= dict(zip(numbers, batch["image"], strict=True))
        return made

    whole = given([0, 1, 2, 3], [4, 5, 6, 7])
    for other in (given([6, 2], [3, 0]), given([5]), given([7, 4, 1])):
        for number, image in other.items():
            assert torch.equal(image, whole[number])


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("modality", ["ultrasound", "mammography", "prostate"])
def test_every_arm_trains_two_steps(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All arms of one modality share one cache. Mammography takes the drawn pictures as films."""
    if modality == "prostate":
        manifest, network = draw_cases(tmp_path / "cases", 4, 2, labels=1), "segmentation3d"
        settings_of = ["recipe.init_args.shape=[8,32,32]", "recipe.init_args.spacing_mm=[3.0,1.0,1.0]"]
        settings_of += ["recipe.init_args.roles=[T2W,ADC]"]
        extra = ["--model.init_args.network.features=[4,8,8,8,8]", "--model.init_args.network.in_channels=2"]
    else:
        manifest, network, extra = write_cases(tmp_path / "cases", 4, 2, 0), "segmentation", list(SMALL)
        settings_of = ["recipe.init_args.side=32"]
        if modality == "mammography":
            settings_of = [f"recipe.init_args.{told}" for told in ("rows=64", "columns=64", "spacing_mm=3.0")]
    parts = ["trainer", f"recipe/{modality}", f"task/{network}"]
    for arm in ARMS:
        files = [*(CONFIGS / f"{part}.yaml" for part in parts), arm]
        line = ["fit", *(f"-c={file}" for file in files), *(f"--data.{told}" for told in settings_of), *extra]
        line += [f"--data.manifest={manifest}", f"--data.cache={tmp_path}/cache", f"--run={tmp_path / arm.stem}"]
        line += ["--data.batch_size=2", "--trainer.accelerator=cpu", "--trainer.fast_dev_run=2"]
        if arm.stem == "n4" and modality != "prostate":
            with pytest.raises(SystemExit):
                train(monkeypatch, line)
            assert "bias" in capsys.readouterr().err
            continue
        cli = train(monkeypatch, line)
        assert cli.trainer.global_step == 2
        assert cli.trainer.callback_metrics["train/loss"].isfinite()
        is_own = cli.datamodule.augmentation == cli.datamodule.recipe.augmentation
        assert is_own == (arm.stem not in ("strong", "gin", "fourier"))
