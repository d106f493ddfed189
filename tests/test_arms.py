"""What an arm of a benchmark changes: intensities learnt on training cases and applied apart; what shares a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from PIL import Image as Picture

from imaging.data.cache import SampleCache
from imaging.data.dataset import SampleDataset
from imaging.data.manifest import read_manifest
from imaging.errors import ConfigError
from imaging.harmonise.normalisation import Normalisation, Normalise, learn
from imaging.harmonise.recipe import Recipe, identity, placing_identity, settings
from imaging.harmonise.tissue import Placed
from imaging.image import Array
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from imaging.package import RecipeChoice
from imaging.predictor import build_recipe
from imaging.tasks.checkpoints import load_checkpoint
from imaging.tasks.record import record_in
from tests.test_configs import CONFIGS, train
from tests.test_training_data import SIDE, write_cases

ARMS = sorted((CONFIGS / "arm").glob("*.yaml"))
KINDS = ("none", "zscore", "percentile", "nyul", "quantile")

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
def test_a_case_without_contrast_becomes_zero_and_teaches_nothing(kind: str) -> None:
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
def test_what_has_not_learnt_yet_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"'{kind}': found no reference of channel 0"):
        applied(Normalisation(kind), drawn(RISING))
    with pytest.raises(ConfigError, match="no training case with contrast in channel 0"):
        learn(Normalisation(kind), [drawn([3.0, 3.0])], (0,))
    with pytest.raises(ConfigError, match="found 3 numbers"):
        Normalisation(kind, reference=((1.0, 2.0, 3.0),))


def test_zscore_and_percentile_read_no_training_case() -> None:
    def unread() -> Placed:
        raise AssertionError("a case was read")

    for kind in ("zscore", "percentile"):
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
    arms: list[Recipe] = [own, *(replace(own, normalisation=Normalisation(k)) for k in ("zscore", "none", "nyul"))]
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
    small = ["--data.recipe.init_args.side=32", "--model.init_args.network.features=[4,8,8]", "--data.batch_size=2"]
    small += ["--model.init_args.network.stem=1", "--model.init_args.network.deep_supervision=0"]
    return [*(f"-c={file}" for file in files), *small, f"--data.manifest={manifest}", "--trainer.accelerator=cpu",
            f"--run={folder}", f"--data.cache={folder.parent}/cache"]  # fmt: skip


def reference_of(run: Path) -> tuple[tuple[float, ...], ...]:
    told = yaml.safe_load((run / "config.yaml").read_text())["data"]["recipe"]["init_args"]["normalisation"]
    return Normalisation(**told).reference


def test_a_training_learns_from_its_training_cases_alone_and_hands_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_cases(tmp_path / "cases", 6, 3, 3)
    run, other = tmp_path / "run", tmp_path / "other"
    train(monkeypatch, ["fit", *words(manifest, run, "nyul"), "--data.test_sites=[b]", "--trainer.max_epochs=1"])
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
    train(monkeypatch, ["test", *words(manifest, run, "nyul"), "--data.test_sites=[b]"])
    assert (run / "test.csv").read_text() == figures

    # Going on takes the recorded reference, also where the files say none.
    more = ["fit", *words(manifest, run, "nyul"), "--data.test_sites=[b]", "--trainer.max_epochs=2", "--resume"]
    cli = train(monkeypatch, more)
    assert cli.trainer.current_epoch == 2
    assert reference_of(run) == expected.normalisation.reference

    # Pictures of validation and of the held-out site change nothing that is learnt.
    for case in read_manifest(manifest):
        if case.split != "train" or case.site == "b":
            pixels = np.asarray(Picture.open(case.image)) // 3
            Picture.fromarray(pixels).save(case.image)
    train(monkeypatch, ["fit", *words(manifest, other, "nyul"), "--data.test_sites=[b]", "--trainer.max_epochs=1"])
    assert reference_of(other) == reference_of(run)

    # A planted leak: a reference of all sites' cases.
    leaked = recipe.fit(SampleDataset(read_manifest(manifest), recipe).placed())
    assert leaked.normalisation is not None
    given = f"--data.recipe.init_args.normalisation.reference={_listed(leaked.normalisation.reference)}"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train(monkeypatch, ["fit", *words(manifest, tmp_path / "leak", "nyul"), given, "--data.test_sites=[b]"])
    assert "is not what the training cases of this run give" in capsys.readouterr().err
    assert not (tmp_path / "leak" / "config.yaml").exists()
