"""Training from the command line: what a run leaves, what it refuses, that a killed one ends as if it had not been."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture
from pytorch_lightning.cli import LightningCLI

from imaging.commands.train import main
from imaging.data.dataset import Sample, SampleDataset, harmonise_case
from imaging.data.manifest import read_manifest, write_manifest
from imaging.models.build import build
from imaging.models.networks import parse_network
from imaging.tasks.checkpoints import is_whole, load_checkpoint, newest_whole
from tests.conftest import REPOSITORY
from tests.test_training_data import LABELS, RECIPE, SIDE, write_cases

pytestmark = [
    # Lightning speaks of the machine: of workers that data of one reading thread need not, and of a device at rest.
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    # The words come from a list here, and sys.argv holds those of pytest.
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

NETWORK = {"kind": "dyn_unet", "features": [4, 8, 12], "stem": 2, "deep_supervision": 1, "classes": 3}
STEPS = 3  # an epoch: twelve cases in batches of four


def settings(manifest: Path, **changed: Any) -> dict[str, Any]:
    """A tiny run on the processor: three steps an epoch, moving averages, dropout, clipping, variation."""
    data = {
        "manifest": str(manifest),
        "recipe": {"class_path": "imaging.modalities.ultrasound.recipe.UltrasoundRecipe", "init_args": {"side": SIDE}},
        "batch_size": 4,
        "classes": list(LABELS),
        "cache": str(manifest.parent / "cache"),
    }
    trainer = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [
            {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.8}},
        ],
    }
    model = {
        "class_path": "imaging.tasks.segmentation.SegmentationTask",
        "init_args": {"network": NETWORK, "learning_rate": 0.003},
    }
    return {"model": model, "data": data, "trainer": trainer, **changed}


def words(manifest: Path, run: Path, *more: str, **changed: Any) -> list[str]:
    """The command line of a fit whose configuration lies beside the run folder."""
    config = run.parent / f"{run.name}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(settings(manifest, **changed)), encoding="utf-8")
    return ["fit", f"--config={config}", f"--run={run}", *more]


def refused(capsys: pytest.CaptureFixture[str], *told: str) -> str:
    """The command stops with status 2; what it said."""
    with pytest.raises(SystemExit) as stop:
        main(list(told))
    assert stop.value.code == 2
    return capsys.readouterr().err


def content(run: Path) -> dict[str, bytes]:
    """Every file of a run folder."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def logged(run: Path) -> dict[str, dict[int, float]]:
    """Figure → step → value over all parts of a run, the latest part last; one that made no step has no table."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for part in sorted((run / "csv").glob("*/metrics.csv"), key=lambda p: int(p.parent.name.split("_")[1])):
        with part.open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for name, value in row.items():
                    if value:
                        found[name][int(row["step"])] = float(value)
    return found


# ---------------------------------------------------------------------------------------------------- one finished run


@dataclass
class Finished:
    manifest: Path
    run: Path
    cli: LightningCLI
    said: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two epochs with site c held out."""
    folder = tmp_path_factory.mktemp("finished")
    manifest = write_cases(folder / "cases", 18, 9, 6, sites=("a", "b", "c"))
    cli = main(words(manifest, folder / "run", "--data.test_sites=[c]", "--save_every_steps=2"))
    return Finished(manifest, folder / "run", cli, "")


def test_a_run_leaves_its_folder(finished: Finished) -> None:
    run = finished.run
    left = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"config.yaml", "csv/version_0/metrics.csv", "checkpoints/best.ckpt"} < left
    assert {"previews/epoch-0000.png", "previews/epoch-0001.png"} < left
    assert any(name.startswith("tensorboard/events") for name in left)
    assert not any(name.endswith(".part") for name in left)
    told = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert told["data"]["test_sites"] == ["c"]
    own = {"side": SIDE, "low": 1.0, "high": 99.5, "normalisation": None}
    assert told["data"]["recipe"]["init_args"] == own
    with Picture.open(run / "previews/epoch-0001.png") as sheet:
        assert sheet.size == (4 * SIDE, 2 * SIDE)


def test_figures_are_logged_by_site_and_step(finished: Finished) -> None:
    figures = logged(finished.run)
    assert sorted(figures["train/loss"]) == list(range(2 * STEPS))
    for name in ("dice", "log_loss", "accuracy", "marked_empty"):
        by_site = [figures[f"val/{name}/{site}"] for site in ("a", "b")]
        assert sorted(figures[f"val/{name}"]) == [STEPS - 1, 2 * STEPS - 1]
        for step, macro in figures[f"val/{name}"].items():
            assert macro == pytest.approx(np.mean([values[step] for values in by_site]))
    assert not any(name.endswith("/c") for name in figures)
    parts = [figures[f"train/{name}"] for name in ("labels", "deep_1", "classes")]
    for step, total in figures["train/loss"].items():
        assert total == pytest.approx(sum(part[step] for part in parts), abs=1e-5)
    assert {"speed/images_per_s", "speed/data_wait"} < set(figures)


def by_hand(finished: Finished, checkpoint: Path, split: str, sites: tuple[str, ...]) -> dict[str, float]:
    """Dice and log loss by site and macro of the checkpoint's averaged weights, one case after the other."""
    model = build(parse_network(NETWORK)).eval()
    weights = load_checkpoint(checkpoint)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    dices, losses = defaultdict(list), defaultdict(list)
    for case in read_manifest(finished.manifest):
        if case.site not in sites or (case.split != split and not (split == "test" and case.site == "c")):
            continue
        image, truth = harmonise_case(case, RECIPE)
        with torch.no_grad():
            said = model(torch.from_numpy(image)[None])
        marked = said.pixels[0].argmax(0).numpy() > 0
        if truth.any():
            dices[case.site].append(2 * (marked & (truth[0] > 0)).sum() / (marked.sum() + truth.sum()))
        losses[case.site].append(-float(said.classes.log_softmax(1)[0, LABELS.index(case.label)]))
    told = {}
    for name, values in (("dice", dices), ("log_loss", losses)):
        means = {site: float(np.mean(of)) for site, of in values.items()}
        told |= {f"{split}/{name}/{site}": mean for site, mean in means.items()}
        told[f"{split}/{name}"] = float(np.mean(list(means.values())))
    return told


def test_validation_figures_are_those_computed_by_hand(finished: Finished) -> None:
    best = max(logged(finished.run)["val/dice"].items(), key=lambda item: item[1])
    expected = by_hand(finished, finished.run / "checkpoints/best.ckpt", "val", ("a", "b"))
    assert len(expected) == 6
    figures = logged(finished.run)
    for name, value in expected.items():
        assert figures[name][best[0]] == pytest.approx(value, abs=1e-5), name


def test_test_figures_are_those_computed_by_hand(finished: Finished) -> None:
    config = (finished.run / "config.yaml").read_bytes()
    cli = main(["test", f"--config={finished.run / 'config.yaml'}"])
    expected = by_hand(finished, finished.run / "checkpoints/best.ckpt", "test", ("a", "b", "c"))
    assert {name for name in cli.trainer.callback_metrics if "/dice" in name} == {n for n in expected if "/dice" in n}
    for name, value in expected.items():
        assert float(cli.trainer.callback_metrics[name]) == pytest.approx(value, abs=1e-5), name
    assert (finished.run / "config.yaml").read_bytes() == config  # it tells of the fit still


def test_predictions_are_probabilities_of_every_test_case(finished: Finished) -> None:
    cli = main(["predict", f"--config={finished.run / 'config.yaml'}"])
    told = {case: of for site in cli.trainer.predict_loop.predictions for batch in site for case, of in batch.items()}
    expected = {c.case_id for c in read_manifest(finished.manifest) if c.split == "test" or c.site == "c"}
    assert set(told) == expected
    for outputs in told.values():
        torch.testing.assert_close(outputs.pixels.sum(0), torch.ones(SIDE, SIDE))
        torch.testing.assert_close(outputs.classes.sum(), torch.tensor(1.0))


def test_a_folder_with_a_run_is_refused_without_resume(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(finished.run.rglob("*"))
    said = refused(capsys, *words(finished.manifest, finished.run))
    assert "say --resume to go on, or name another --run" in said
    assert sorted(finished.run.rglob("*")) == before


def test_a_second_epoch_decodes_nothing(finished: Finished) -> None:
    decoded = {name: dataset.decoded for name, dataset in finished.cli.datamodule._datasets.items()}
    assert decoded == {"first": 1, "train": 11, "val": 6}


def test_a_run_ends_with_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(write_cases(tmp_path / "cases"), tmp_path / "run", "--trainer.max_epochs=1"))
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("epoch")]
    for part in ("epoch 1 of 1:", "train/loss", "val/dice", "images/s", "waiting for data", "0:00:00 left"):
        assert part in line


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch_size": 3}, "data.batch_size: found 3; allowed is 4"),
        ({"seed": 2}, "data.seed: found 2; allowed is 1"),
        ({"test_sites": ["b"]}, "data.test_sites: found ['b']; allowed is ['c']"),
        (
            {
                "recipe": {
                    "class_path": "imaging.modalities.ultrasound.recipe.UltrasoundRecipe",
                    "init_args": {"side": 64},
                }
            },
            "data.recipe: found {'name': 'ultrasound'",
        ),
        ({"manifest": "renamed"}, "case 'other-00': found one that the training did not have"),
    ],
    ids=["batch size", "seed", "test sites", "recipe", "manifest"],
)
def test_resuming_with_other_data_is_refused(
    changed: dict[str, Any], named: str, finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.run, tmp_path / "run")
    if changed == {"manifest": "renamed"}:
        other = finished.manifest.with_name("renamed.csv")
        other.write_text(finished.manifest.read_text(encoding="utf-8").replace("train-00,", "other-00,"))
        changed = {"manifest": str(other)}
    told = words(finished.manifest, tmp_path / "run", "--resume", "--trainer.max_epochs=3")
    config = yaml.safe_load((tmp_path / "run.yaml").read_text())
    config["data"] |= {"test_sites": ["c"], **changed}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    before = content(tmp_path / "run")
    said = refused(capsys, *told)
    assert "resume: data." in said
    assert named in said
    assert content(tmp_path / "run") == before


def test_a_moved_run_goes_on_and_keeps_its_best(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.run, tmp_path / "run")
    told = ["--data.test_sites=[c]", "--save_every_steps=2", "--resume", "--trainer.max_epochs=3"]
    cli = main(words(finished.manifest, tmp_path / "run", *told))
    assert cli.trainer.global_step == 3 * STEPS
    best = max(logged(tmp_path / "run")["val/dice"].items(), key=lambda item: item[1])
    state = load_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    assert state["global_step"] == best[0] + 1
    assert {"best-0000.ckpt", "best-0001.ckpt", "best-0002.ckpt"} < {
        path.name for path in (tmp_path / "run/checkpoints").iterdir()
    }


# ------------------------------------------------------------------------------------------------ what must not happen


def test_cases_of_a_test_site_are_never_read_by_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_cases(tmp_path / "cases", 18, 9, 6, sites=("a", "b", "c"))
    held_out = [case for case in read_manifest(manifest) if case.site == "c"]
    assert {case.split for case in held_out} == {"train", "val", "test"}
    for case in held_out:
        case.image.write_bytes(b"unreadable")
        case.truth.write_bytes(b"unreadable")
    main(words(manifest, tmp_path / "run", "--data.test_sites=[c]", "--trainer.max_epochs=1"))
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    capsys.readouterr()
    said = refused(capsys, "test", f"--config={tmp_path / 'run/config.yaml'}")
    assert any(case.case_id in said for case in held_out)  # and that fit could have failed


def test_a_loss_that_is_no_number_stops_with_its_term_and_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SampleDataset.__getitem__

    def poisoned(self: SampleDataset, number: int) -> Sample:
        sample = whole(self, number)
        if sample.case.case_id != "train-05":
            return sample
        return Sample(sample.image * np.nan, sample.truth, sample.class_index, number, sample.case)

    monkeypatch.setattr(SampleDataset, "__getitem__", poisoned)
    with pytest.raises(FloatingPointError, match=r"loss term '\w+' is nan at step \d+ on cases .*train-05"):
        main(words(write_cases(tmp_path / "cases"), tmp_path / "run"))


def test_a_learning_rate_that_is_too_high_is_told(tmp_path: Path) -> None:
    told = words(write_cases(tmp_path / "cases"), tmp_path / "run", "--model.init_args.learning_rate=1e30")
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        main(told)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "cases")


def edit(table: Path, *changes: tuple[str, str]) -> Path:
    text = table.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    table.write_text(text, encoding="utf-8")
    return table


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--data.test_sites=[z]"], r"data.test_sites: found ['z']; the manifest has cases of ['a', 'b']"),
        (["--data.test_sites=[a,b]"], "no case with split 'train' outside the test sites ['a', 'b']"),
        (["--model.init_args.network.in_channels=3"], "network.in_channels: found 3; allowed is 1"),
        (["--model.init_args.network.spatial_dims=3"], "network.spatial_dims: found 3; allowed is 2"),
        (["--data.classes=[normal,benign]"], "network.classes: found 3; allowed is 2, as data.classes names"),
        (["--model.init_args.network.classes=0"], "network.classes: found 0; allowed is 3, as data.classes names"),
        (["--data.classes=[normal,benign,other]"], "found the labels ['malignant']; data.classes allows"),
        (["--data.repeats={norml: 2}"], "data.repeats: found ['norml']; the cases have the labels"),
        (["--data.repeats={normal: 0}"], "data.repeats: found 0 of 'normal'; allowed is 1 or more"),
        (["--data.batch_size=0"], "data.batch_size: found 0; allowed is 1 or more"),
        (
            ["--data.recipe.init_args.side=36"],
            "images of 36 × 36 from the recipe; allowed is sides that are multiples of 8",
        ),
        (["--model.init_args.network.features=[4,8]"], "features: found 2 widths; allowed is 3 or more"),
        (["--resume"], "found no whole checkpoint to resume from"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_settings_that_do_not_fit_are_refused(
    more: list[str], named: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *words(table, tmp_path / "run", *more))
    assert named in said
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_cases_that_cannot_be_used_are_named_before_the_first_step(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask of another size, an image that is cut off, labels in a JPEG; told not to look, the run ends at one."""
    folder = table.parent
    Picture.new("L", (7, 7)).save(folder / "train-02-truth.png")
    (folder / "val-01.png").write_bytes((folder / "val-01.png").read_bytes()[:300])
    (folder / "train-05-truth.png").write_bytes(b"")
    said = refused(capsys, *words(table, tmp_path / "run"))
    assert (
        "manifest manifest.csv: 3 of 18 cases cannot be used: case train-02: truth train-02-truth.png: found 7 × 7"
        in said
    )
    assert "case train-05: truth train-05-truth.png: cannot be read" in said
    assert "case val-01: image val-01.png: cannot be read" in said
    assert not (tmp_path / "run").exists()
    said = refused(capsys, *words(table, tmp_path / "other", "--data.check_cases=false"))
    assert said.count("cannot be used") == 0
    assert "case train-0" in said


def test_a_site_is_not_held_out_in_one_spelling_alone(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("p-train-01,a", "p-train-01,Á"), encoding="utf-8")
    assert "Á" in table.read_text(encoding="utf-8")
    said = refused(capsys, *words(table, tmp_path / "run", "--data.test_sites=[Á]"))
    assert "data.test_sites: 'Á' is held out and 'a' is not; they differ by case, accents" in said


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ([("p-val-00", "p-train-00")], "first 'p-train-00' in ['train', 'val']; give each patient one split"),
        ([(",train,", ",test,")], "no case with split 'train' outside the test sites []; give some patients"),
        ([(",val,", ",test,")], "no case with split 'val' outside"),
    ],
    ids=["patient on both sides", "no train", "no val"],
)
def test_tables_that_do_not_fit_are_refused(
    changes: list[tuple[str, str]], named: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in refused(capsys, *words(edit(table, *changes), tmp_path / "run"))


def test_a_mask_on_another_grid_is_refused_by_case(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_manifest(table)[7]
    Picture.fromarray(np.zeros((10, 64), np.uint8)).save(case.truth)
    said = refused(capsys, *words(table, tmp_path / "run"))
    assert f"case {case.case_id}" in said
    assert "10 × 64" in said
    assert "48 × 64" in said


def test_a_case_without_a_truth_is_refused_where_places_are_learned_and_serves_a_classification(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = read_manifest(table)
    write_manifest(table, [replace(case, truth=None) if case.split == "val" else case for case in cases])
    first = next(case.case_id for case in cases if case.split == "val")
    said = refused(capsys, *words(table, tmp_path / "run"))
    assert f"case {first}: truth is empty" in said
    assert "train a classification" in said
    write_manifest(table, [replace(case, truth=None) for case in cases])
    network = {"kind": "resnet", "features": [4, 4, 8, 8], "classes": 3}
    model = {"class_path": "imaging.tasks.classification.ClassificationTask", "init_args": {"network": network}}
    main(words(table, tmp_path / "classes", "--trainer.max_epochs=1", model=model))
    assert 0 < logged(tmp_path / "classes")["val/log_loss"][STEPS - 1] < 10


def test_testing_without_a_finished_run_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = words(table, tmp_path / "run")
    assert "name a finished run by --run" in refused(capsys, "test", *told[1:])


# ----------------------------------------------------------------------------------- killed and resumed; two processes

# One process imports everything once and forks a child for every run: a kill is a real one, and a start is cheap.
DRIVER = """\
import json, os, signal, struct, sys, warnings, zipfile
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from pathlib import Path
import imaging.tasks.checkpoints as checkpoints
from imaging.commands.train import main
from imaging.tasks.progress import TrainingProgress
from imaging.tasks.task import Task


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def before(cls, name, first):
    whole = getattr(cls, name)
    def changed(*args, **kwargs):
        first(*args, **kwargs)
        return whole(*args, **kwargs)
    setattr(cls, name, changed)


def arm(moment, step):
    def in_time(trainer):
        return trainer.global_step == step
    if moment == "batch":  # the weights are new, nothing is saved
        before(TrainingProgress, "on_train_batch_end", lambda self, trainer, *rest: in_time(trainer) and die())
    elif moment == "write":  # half of a checkpoint is on disk
        whole = os.fsync
        count = iter(range(1, 1000))
        os.fsync = lambda handle: die() if next(count) == step else whole(handle)
    elif moment == "validation":
        before(Task, "validation_step", lambda self, *rest: in_time(self.trainer) and die())
    elif moment == "epoch":  # validated, the next epoch has not begun
        before(TrainingProgress, "on_train_epoch_end", lambda self, trainer, *rest: in_time(trainer) and die())


def child(job):
    log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    if job.get("kill"):
        arm(*job["kill"])
    if job.get("still"):
        torch.nn.Dropout.forward = lambda self, x: x
    if job.get("seen"):
        def seen(self, batch):
            with open(job["seen"], "a") as stream:
                stream.write(f"{self.global_rank} {' '.join(batch['case_id'])}\\n")
        before(Task, "_watch", seen)
    main(job["words"])
    os._exit(0)


ends = []
jobs = json.loads(Path(sys.argv[1]).read_text())
# No step is made here, but what a run imports is here for all children.
main([*jobs[0]["words"], "--trainer.max_epochs=0", f"--run={sys.argv[1]}-warm"])
for job in jobs:
    for name, change in job.get("damage", []):
        path = sorted(Path(name).glob("step-*.ckpt"))[-1]
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:  # in a record: what lies between two means nothing
            record = max(archive.infolist(), key=lambda one: one.file_size)
        name_and_extra = struct.unpack_from("<HH", content, record.header_offset + 26)
        content[record.header_offset + 30 + sum(name_and_extra) + record.file_size // 2] ^= change == "flip"
        path.write_bytes(content[: -100 if change == "cut" else None])
    pid = os.fork()
    if not pid:
        try:
            child(job)
        except SystemExit as stop:
            os._exit(stop.code)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(70)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(ends))
"""
EPOCHS = 3
LAST = EPOCHS * STEPS
KILLED = -9


def drive(folder: Path, jobs: list[dict[str, Any]]) -> list[int]:
    (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, folder / "driver.py", folder / "jobs.json"],
        capture_output=True, text=True, check=True, env=environment, timeout=1200,
    )  # fmt: skip
    ends: list[int] = json.loads(done.stdout)
    return ends


@dataclass(frozen=True)
class Fate:
    """What befalls a run, start after start: moments of kills, and harm to its newest checkpoint in between."""

    name: str
    save_every: int
    kills: tuple[tuple[str, int], ...]
    damage: str = ""


def fates() -> list[Fate]:
    """Kills at drawn steps, two of them followed by harm, and kills at the moments where a state is delicate."""
    dice = random.Random(20)
    first, *second, third = (dice.randrange(3, LAST) for _ in range(4))
    return [
        Fate("cut", 1, (("batch", first),), "cut"),
        Fate("twice", 2, tuple(("batch", step) for step in sorted(second))),
        Fate("flip", 1, (("batch", third),), "flip"),
        Fate("writing, validating", 1, (("write", dice.randrange(3, 6)), ("validation", 2 * STEPS))),
        Fate("epochs", 1, (("epoch", STEPS), ("epoch", 2 * STEPS))),
    ]


FATES = fates()


@dataclass
class Fated:
    folder: Path
    ends: dict[str, list[int]]

    def last(self, name: str) -> dict[str, Any]:
        """The last state of a run; the reference's for ''."""
        return load_checkpoint(self.folder / (name or "reference") / f"checkpoints/step-{LAST:08d}.ckpt")


@pytest.fixture(scope="module")
def fated(tmp_path_factory: pytest.TempPathFactory) -> Fated:
    """An uninterrupted run, and beside it every fate, all from one table and cache."""
    folder = tmp_path_factory.mktemp("fated")
    manifest = write_cases(folder / "cases")
    more = [f"--trainer.max_epochs={EPOCHS}"]
    jobs = [{"words": words(manifest, folder / "reference", "--save_every_steps=1", *more), "log": str(folder / "log")}]
    for fate in FATES:
        run = folder / fate.name
        told = words(manifest, run, f"--save_every_steps={fate.save_every}", *more)
        for start in range(len(fate.kills) + 1):
            job: dict[str, Any] = {"words": told + ["--resume"] * bool(start), "log": f"{run}.log"}
            if start < len(fate.kills):
                job["kill"] = fate.kills[start]
            elif fate.damage:
                job["damage"] = [(str(run / "checkpoints"), fate.damage)]
            jobs.append(job)
    ends = iter(drive(folder, jobs))
    assert next(ends) == 0, (folder / "log").read_text()
    return Fated(folder, {fate.name: [next(ends) for _ in range(len(fate.kills) + 1)] for fate in FATES})


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two states differ in any bit; folders and clocks are each run's own."""
    if type(one) is not type(other):
        return [f"{where}: {one} and {other}"]
    if isinstance(one, dict):
        keys = {key for key in {*one, *other} if str(key) not in OWN}
        return [d for key in sorted(keys, key=str) for d in differences(one.get(key), other.get(key), f"{where}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)}"]
        return [d for k, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{where}/{k}")]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [f"{where}: {one} and {other}"]


# Paths of the run folder, and the counts of what a resumed run did again.
OWN = ("dirpath", "best_model_path", "best_k_models", "kth_best_model_path", "last_model_path", "hparams_name")


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.name)
def test_a_killed_run_ends_as_if_it_had_not_been(fate: Fate, fated: Fated) -> None:
    """Weights, averages, moments, schedule, places and random numbers: every bit of the last state."""
    log = (fated.folder / f"{fate.name}.log").read_text(encoding="utf-8")
    assert fated.ends[fate.name] == [KILLED] * len(fate.kills) + [0], log
    assert log.count("resumed from") == len(fate.kills)
    state, reference = fated.last(fate.name), fated.last("")
    assert {"state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "callbacks"} < set(reference)
    assert reference["current_model_state"].keys() == reference["state_dict"].keys()
    assert differences(reference, state) == []
    best = [load_checkpoint(fated.folder / run / "checkpoints/best.ckpt") for run in ("reference", fate.name)]
    assert differences(best[0], best[1]) == []


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.name)
def test_a_killed_run_recorded_every_step_and_every_validation(fate: Fate, fated: Fated) -> None:
    reference, figures = logged(fated.folder / "reference"), logged(fated.folder / fate.name)
    told = {name for name in reference if name.startswith(("train/", "val/"))}
    assert len(reference["train/loss"]) == LAST
    assert len(reference["val/dice"]) == EPOCHS
    for name in sorted(told):
        assert figures[name] == reference[name], name


@pytest.mark.parametrize("fate", [f for f in FATES if f.damage], ids=lambda fate: fate.name)
def test_a_damaged_checkpoint_is_passed_over_aloud(fate: Fate, fated: Fated) -> None:
    log = (fated.folder / f"{fate.name}.log").read_text(encoding="utf-8")
    killed_at = fate.kills[0][1]
    assert f"step-{killed_at - 1:08d}.ckpt is damaged and was passed over" in log
    assert f"resumed from {fated.folder / fate.name}/checkpoints/step-{killed_at - 2:08d}.ckpt" in log


def test_a_run_keeps_two_states_and_nothing_half_written(fated: Fated) -> None:
    for run in ("reference", *(fate.name for fate in FATES)):
        left = [path.name for path in (fated.folder / run / "checkpoints").iterdir()]
        assert not [name for name in left if name.endswith(".part")], run
        assert len([name for name in left if name.startswith("step-")]) == 2, (run, left)


def test_a_damaged_checkpoint_is_known(finished: Finished, tmp_path: Path) -> None:
    content = (finished.run / "checkpoints/best.ckpt").read_bytes()
    (tmp_path / "checkpoints").mkdir()
    dice = random.Random(3)
    for step, place in enumerate(dice.sample(range(len(content)), 12)):
        harmed = bytearray(content)
        harmed[place] ^= 1 << dice.randrange(8)
        path = tmp_path / f"checkpoints/step-{step:08d}.ckpt"
        path.write_bytes(harmed)
        if is_whole(path):  # a byte that the archive does not use: the content must be the same
            assert differences(load_checkpoint(path), load_checkpoint(finished.run / "checkpoints/best.ckpt")) == []
    (tmp_path / "checkpoints/step-99999999.ckpt").write_bytes(content[:-1])
    path, damaged = newest_whole(tmp_path)
    assert damaged[0].name == "step-99999999.ckpt"
    assert path is None or is_whole(path)


def test_the_number_of_processes_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    """Two processes, one, two: an epoch each, with the weights and the figures of one process all the way."""
    manifest = write_cases(tmp_path / "cases", 12, 7, 3)
    more = ["--data.augmentation.rotation=0", "--trainer.precision=64-true", "--resume=auto", "--save_every_steps=1"]
    alone = words(manifest, tmp_path / "alone", *more, f"--trainer.max_epochs={EPOCHS}")
    jobs = [{"words": alone, "log": f"{tmp_path}/alone.log", "still": True}]
    changing = words(manifest, tmp_path / "changing", *more, f"--trainer.max_epochs={EPOCHS}")
    two = ["--data.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp_fork"]
    moments = [("batch", 4), ("batch", 7), None]  # in the second epoch, and in the third
    for own, kill in zip((two, [], two), moments, strict=True):
        jobs.append({"words": [*changing, *own], "log": f"{tmp_path}/changing.log", "still": True, "kill": kill})
    wrong = {"words": [*changing, "--trainer.devices=2", "--trainer.strategy=ddp_fork"], "log": f"{tmp_path}/wrong.log"}
    ends = drive(tmp_path, [*jobs, wrong])
    assert ends[0] == ends[3] == 0, (tmp_path / "changing.log").read_text()
    assert ends[2] == KILLED
    assert ends[4] == 2
    told = (tmp_path / "wrong.log").read_text()
    assert (
        "data.batch_size: found 4 in each of 2 processes; allowed is 2 in each of 2 processes, so that a step" in told
    )
    log = (tmp_path / "changing.log").read_text()
    assert "trainer.world_size is 1; it was 2" in log
    assert "trainer.world_size is 2; it was 1" in log
    one, changed = (
        load_checkpoint(tmp_path / name / f"checkpoints/step-{LAST:08d}.ckpt") for name in ("alone", "changing")
    )
    for name, weights in one["state_dict"].items():
        assert torch.allclose(weights, changed["state_dict"][name], rtol=0, atol=1e-6), name
    reference, figures = logged(tmp_path / "alone"), logged(tmp_path / "changing")
    for name in (name for name in reference if name.startswith(("train/", "val/"))):
        assert figures[name] == pytest.approx(reference[name], abs=1e-6), name


def test_two_processes_train_and_judge_as_one(tmp_path: Path) -> None:
    """Without variation and dropout the same global batches give the same losses and the same figures."""
    manifest = write_cases(tmp_path / "cases", 12, 7, 3)
    more = ["--trainer.max_epochs=1", "--data.augmentation.rotation=0", "--trainer.precision=64-true"]
    one = words(manifest, tmp_path / "one", *more)
    two = words(manifest, tmp_path / "two", *more, "--data.batch_size=2", "--trainer.devices=2")
    jobs = [
        {"words": told, "log": f"{tmp_path}/{k}.log", "still": True, "seen": f"{tmp_path}/{k}.seen"}
        for k, told in (("one", one), ("two", [*two, "--trainer.strategy=ddp_fork"]))
    ]
    assert drive(tmp_path, jobs) == [0, 0], (tmp_path / "two.log").read_text()
    alone, together = logged(tmp_path / "one"), logged(tmp_path / "two")
    names = [name for name in alone if name.startswith(("train/", "val/"))]
    assert len(names) > 12
    for name in names:
        assert together[name] == pytest.approx(alone[name], abs=1e-5), name
    seen = [line.split() for line in (tmp_path / "two.seen").read_text().splitlines()]
    assert {rank for rank, *_ in seen} == {"0", "1"}
    assert Counter(case for _, *ids in seen for case in ids) == Counter(f"val-{k:02d}" for k in range(7))
