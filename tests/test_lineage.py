"""Crooked histories of a training: each is refused in a line, changes nothing, and no package claims what is not so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture

from imaging.commands import main as imaging
from imaging.commands.train import main
from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.package import load_package
from imaging.tasks.checkpoints import load_checkpoint
from imaging.tasks.record import TrainingRecord, record_in
from tests.test_training import content, refused
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

SITES = ("a", "b", "c")


def config(manifest: Path, cache: Path) -> dict[str, Any]:
    """One step on pictures of 32 × 32."""
    recipe = "imaging.modalities.ultrasound.recipe.UltrasoundRecipe"
    network = {"kind": "dyn_unet", "features": [4, 4, 4], "stem": 2}
    return {
        "model": {"class_path": "imaging.tasks.segmentation.SegmentationTask", "init_args": {"network": network}},
        "data": {
            "manifest": str(manifest),
            "recipe": {"class_path": recipe, "init_args": {"side": 32}},
            "batch_size": 16,
            "cache": str(cache),
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }


@dataclass(frozen=True)
class World:
    """Three hospitals, and runs that learnt from some of them."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "cases" / "manifest.csv"

    @property
    def card(self) -> Path:
        return self.folder / "card.yaml"

    def run(self, name: str) -> Path:
        return self.folder / name

    def best(self, name: str) -> str:
        return str(self.run(name) / "checkpoints/best.ckpt")

    def words(self, run: Path, *more: str, manifest: Path | None = None) -> list[str]:
        path = run.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(config(manifest or self.manifest, self.folder / "cache")), encoding="utf-8")
        return ["fit", f"--config={path}", f"--run={run}", *more]

    def record(self, name: str) -> TrainingRecord:
        return record_in(load_checkpoint(Path(self.best(name))), name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """`ab` has hospital c held out; `abc` has none; `second` began with the weights of `abc` and never met c."""
    world = World(tmp_path_factory.mktemp("world"))
    write_cases(world.folder / "cases", 18, 9, 6, sites=SITES)
    assert imaging(["package", "--new-card", str(world.card)]) == 0
    main(world.words(world.run("ab"), "--data.test_sites=[c]"))
    main(world.words(world.run("abc")))
    without = edited(world, world.folder / "without.csv", lambda case: None if case.site == "c" else case)
    main(world.words(world.run("second"), f"--start_from={world.best('abc')}", manifest=without))
    return world


def edited(world: World, path: Path, change: Callable[[Case], Case | None]) -> Path:
    """Another table with each case as `change` gives it, None leaving it out."""
    write_manifest(path, [made for case in read_manifest(world.manifest) if (made := change(case)) is not None])
    return path


def swap(case: Case) -> Case:
    """One training case of hospital a becomes a validation case."""
    return replace(case, split="val") if case.case_id == "train-00" else case


def drop_b(case: Case) -> Case | None:
    return None if case.site == "b" else case


def drop_val(case: Case) -> Case | None:
    return None if case.case_id == "val-00" else case


def rename_c(name: str) -> Callable[[Case], Case]:
    return lambda case: replace(case, site=name, patient_id=f"new-{case.patient_id}") if case.site == "c" else case


def repaint(part: str, name: str, folder: Path) -> Callable[[Case], Case]:
    """The file of one case is another picture of the same size."""

    def change(case: Case) -> Case:
        if case.case_id != name:
            return case
        path = folder / "other.png"
        Picture.fromarray(np.full((48, 64), 255, np.uint8)).save(path)
        return replace(case, **{part: path})

    return change


def learnt_as_test(case: Case) -> Case | None:
    """Training cases of hospital a come again as another patient's test cases."""
    if case.split == "test":
        return None
    if case.split == "train" and case.site == "a":
        return replace(case, case_id=f"new-{case.case_id}", patient_id=f"new-{case.patient_id}", split="test")
    return case


@dataclass(frozen=True)
class Resumed:
    """`ab` goes on with other words, or with another table."""

    name: str
    told: str
    words: tuple[str, ...] = ()
    table: Callable[[Path], Callable[[Case], Case | None]] | None = None


RESUMED = [
    Resumed("recipe", "data.recipe: found", ("--data.recipe.init_args.side=64",)),
    Resumed("held-out site", "data.test_sites: found ['b']; allowed is ['c']", ("--data.test_sites=[b]",)),
    Resumed("nothing held out", "data.test_sites: found []; allowed is ['c']", ("--data.test_sites=[]",)),
    Resumed("learning rate", "learning_rate: found 1e-05; allowed is 0.003", ("--model.init_args.learning_rate=1e-5",)),
    Resumed("weight decay", "weight_decay: found 0.5; allowed is 0.01", ("--model.init_args.weight_decay=0.5",)),
    Resumed("network", "model.network: found", ("--model.init_args.network.features=[4,4,8]",)),
    Resumed("clipping", "gradient_clip_val: found 0.1; allowed is None", ("--trainer.gradient_clip_val=0.1",)),
    Resumed("fewer sites", "found none; the training had it", table=lambda _: drop_b),
    Resumed("split", "case 'train-00', split: found 'val'; allowed is 'train'", table=lambda _: swap),
    Resumed("truth", "case 'train-01', truth: found", table=lambda folder: repaint("truth", "train-01", folder)),
    Resumed("picture", "case 'val-00', image: found", table=lambda folder: repaint("image", "val-00", folder)),
]


@pytest.mark.parametrize("history", RESUMED, ids=lambda history: history.name)
def test_a_run_goes_on_as_it_began_or_not_at_all(
    history: Resumed, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(world.run("ab"), tmp_path / "run")
    before = content(run)
    manifest = None if history.table is None else edited(world, tmp_path / "t.csv", history.table(tmp_path))
    words = world.words(run, "--data.test_sites=[c]", "--resume", "--trainer.max_epochs=2", manifest=manifest)
    said = refused(capsys, *words, *history.words)
    assert "resume: " in said
    assert history.told in said
    assert content(run) == before


def test_a_run_does_not_go_on_from_other_weights_than_it_began_with(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(world.run("ab"), tmp_path / "run")
    words = world.words(run, "--data.test_sites=[c]", "--resume=auto", f"--start_from={world.best('abc')}")
    assert "allowed are none, with which this run began" in refused(capsys, *words)


@pytest.mark.parametrize(
    ("weights", "site", "table", "told"),
    [
        ("abc", "c", None, "data.test_sites: found ['c'], which these weights or those they began with"),
        ("second", "c", None, "data.test_sites: found ['c'], which these weights or those they began with"),
        ("abc", "C", rename_c("C"), "data.test_sites: found ['c']"),
        ("second", "d", rename_c("d"), "of site 'd': found the picture or the patient of case"),
        ("abc", "c", lambda case: None if case.site == "c" and case.split != "test" else case, "found ['c']"),
        ("ab", "c", swap, "case 'train-00' of site 'a': found the picture or the patient of case 'train-00'"),
    ],
    ids=["site", "site two trainings ago", "site in capitals", "site renamed", "site's test cases", "split"],
)
def test_weights_that_saw_what_they_are_judged_by_are_no_beginning(
    weights: str,
    site: str,
    table: Callable[[Case], Case | None] | None,
    told: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = None if table is None else edited(world, tmp_path / "t.csv", table)
    more = [f"--data.test_sites=[{site}]", f"--start_from={world.best(weights)}"]
    assert told in refused(capsys, *world.words(tmp_path / "run", *more, manifest=manifest))
    assert not (tmp_path / "run").exists()


def test_weights_of_another_recipe_may_be_a_beginning_and_that_is_told(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--data.test_sites=[c]", f"--start_from={world.best('ab')}", "--data.recipe.init_args.low=2"]
    main(world.words(tmp_path / "run", *more))
    said = capsys.readouterr().err
    assert "data.recipe is {" in said
    assert "'low': 2.0" in said
    assert "the weights it begins with were trained with {" in said


@pytest.mark.parametrize(
    ("words", "table", "told"),
    [
        (["--data.test_sites=[b]"], None, "test: data.test_sites: found ['b']"),
        ([], learnt_as_test, "had as 'train'; allowed are others"),
        (["--data.recipe.init_args.side=64"], None, "test: data.recipe: found"),
    ],
    ids=["a site it learnt from", "cases it learnt from", "recipe"],
)
@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_network_is_not_judged_by_what_it_learnt(
    command: str,
    words: list[str],
    table: Callable[[Case], Case | None] | None,
    told: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told_words = [command, f"--config={world.run('ab') / 'config.yaml'}", *words]
    if table is not None:
        told_words.append(f"--data.manifest={edited(world, tmp_path / 't.csv', table)}")
    assert told.replace("test: ", f"{command}: ") in refused(capsys, *told_words)
    assert not (world.run("ab") / "test.csv").exists()


# ----------------------------------------------------------------------------------------------------------- packaging


def package(world: World, run: Path, out: Path, *more: str) -> int:
    return imaging(["package", str(run), "--card", str(world.card), "--out", str(out), *more])


def change_config(run: Path, **data: Any) -> None:
    told = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    told["data"] |= data
    (run / "config.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")


def other_table(change: Callable[[Path], Callable[[Case], Case | None]]) -> Callable[[World, Path], None]:
    return lambda world, run: change_config(run, manifest=str(edited(world, run.parent / "t.csv", change(run.parent))))


def swap_checkpoint(world: World, run: Path) -> None:
    shutil.copy(world.best("abc"), run / "checkpoints/best.ckpt")


def strip_record(world: World, run: Path) -> None:
    del world
    path = run / "checkpoints/best.ckpt"
    torch.save({key: value for key, value in load_checkpoint(path).items() if key != "record"}, path)


def claim_c(world: World, run: Path) -> None:
    """The record itself says that a hospital was held out which the weights before had seen."""
    path = run / "checkpoints/best.ckpt"
    stored = load_checkpoint(path)
    stored["record"]["start"] = world.record("abc").stated()
    torch.save(stored, path)


@pytest.mark.parametrize(
    ("crooked", "told"),
    [
        (lambda world, run: change_config(run, test_sites=["b"]), "data.test_sites: found ['b']; allowed is ['c']"),
        (lambda world, run: change_config(run, test_sites=["b", "c"]), "data.test_sites: found ['b', 'c']"),
        (lambda world, run: change_config(run, batch_size=3), "data.batch_size: found 3; allowed is 16"),
        (other_table(lambda _: swap), "case 'train-00', split: found 'val'; allowed is 'train'"),
        (other_table(lambda _: drop_val), "case 'val-00': found none; the training had it"),
        (other_table(lambda folder: repaint("truth", "val-00", folder)), "case 'val-00', truth: found"),
        (swap_checkpoint, "data.test_sites: found ['c']; allowed is []"),
        (strip_record, "found no record of what its weights learnt from"),
        (claim_c, "data.test_sites: found ['c'], which these weights or those they began with"),
    ],
    ids=[
        "another site claimed",
        "one more site claimed",
        "setting",
        "split",
        "validation case left out",
        "validation truth repainted",
        "checkpoint of another run",
        "no record",
        "seen two trainings ago",
    ],
)
def test_no_package_claims_what_its_weights_contradict(
    crooked: Callable[[World, Path], None],
    told: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(world.run("ab"), tmp_path / "run")
    crooked(world, run)
    assert package(world, run, tmp_path / "package", "--force") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "package").exists()


def test_straight_histories_say_what_was_learnt_and_before(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.record("ab").start is None
    assert package(world, world.run("ab"), tmp_path / "ab", "--force") == 0
    first = load_package(tmp_path / "ab").description.training
    assert (first["sites"], first["held_out_sites"]) == (["a", "b"], ["c"])
    assert first["cases"] == {"train": 12, "val": 6}
    assert str(world.record("ab")) == "12 training and 6 validation cases of sites a, b; held out: c"
    assert str(world.record("second")).endswith("held out: none; the weights it began with saw a, b, c")
    assert "before" not in first
    assert package(world, world.run("second"), tmp_path / "second", "--force") == 0
    second = load_package(tmp_path / "second").description.training
    assert (second["sites"], second["held_out_sites"]) == (["a", "b", "c"], [])
    (before,) = second["before"]
    assert before["weights_sha256"] == world.record("second").start_weights
    assert before["sites"] == ["a", "b", "c"]
    assert "held out sites" in capsys.readouterr().out


def test_a_locator_that_learnt_from_a_held_out_site_is_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert package(world, world.run("abc"), tmp_path / "abc", "--force") == 0
    more = ["--force", "--locator", str(tmp_path / "abc")]
    assert package(world, world.run("ab"), tmp_path / "out", *more) == 2
    assert "found that it was trained on ['c']; allowed is none of the held-out sites ['c']" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_that_finds_nothing_is_previewed_and_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its weights are zero, so that every pixel has a probability of one half and no label is the likeliest."""
    run = shutil.copytree(world.run("ab"), tmp_path / "run")
    path = run / "checkpoints/best.ckpt"
    stored = load_checkpoint(path)
    stored["state_dict"] = {name: torch.zeros_like(value) for name, value in stored["state_dict"].items()}
    last = [name for name in stored["state_dict"] if name.endswith("bias")][-1]
    stored["state_dict"][last] = torch.tensor([20.0, -20.0])
    torch.save(stored, path)
    assert imaging(["package", str(run), "--card", str(world.card), "--preview"]) == 0
    told = capsys.readouterr().out
    assert "validation dice" in told
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("validation dice")] == ["0.0"]
    assert package(world, run, tmp_path / "package") == 2
    assert "finds nothing that is there on its validation cases" in capsys.readouterr().err
    assert not (tmp_path / "package").exists()


def test_a_card_is_not_written_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = world.card.read_text(encoding="utf-8")
    assert imaging(["package", "--new-card", str(world.card)]) == 2
    assert "found a file; allowed is a new name" in capsys.readouterr().err
    assert world.card.read_text(encoding="utf-8") == before


def test_a_test_names_sites_and_leaves_its_figures(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(world.run("ab"), tmp_path / "run")
    main(["test", f"--config={run / 'config.yaml'}", f"--run={run}"])
    told = capsys.readouterr().out
    assert "DataLoader" not in told
    rows = (run / "test.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["site", "a", "b", "c", "mean over sites"]
    assert "dice" in rows[0].split(",")
    assert str(run / "test.csv") in told
    main(["predict", f"--config={run / 'config.yaml'}", f"--run={run}"])
    listed = (run / "predictions/cases.csv").read_text(encoding="utf-8").splitlines()
    test_cases = [c.case_id for c in read_manifest(world.manifest) if c.split == "test" or c.site == "c"]
    assert sorted(row.split(",")[0] for row in listed[1:]) == sorted(test_cases)
    with np.load(run / "predictions" / listed[1].split(",")[2]) as kept:
        assert kept["pixels"].shape == (2, 32, 32)
        np.testing.assert_allclose(kept["pixels"].sum(axis=0), 1, atol=1e-5)
