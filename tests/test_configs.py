"""Every YAML parses and does its work for one batch; a typo dies at parse time with the key's name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pytorch_lightning.cli import LightningCLI

from imaging.commands.train import main
from imaging.commands.train_package import PLANS
from imaging.data.manifest import read_manifest
from imaging.errors import ConfigError, PackageError
from imaging.package import Card, read_typed
from imaging.phantoms.export import write_training_set
from tests.conftest import REPOSITORY
from tests.mammograms import breast, dataset
from tests.volumes import draw_cases

CONFIGS = REPOSITORY / "configs"
TASKS = sorted((CONFIGS / "task").glob("*.yaml"))
TRAININGS = sorted((CONFIGS / "training").glob("*.yaml"))
RECIPES = sorted((CONFIGS / "recipe").glob("*.yaml"))
CARDS = sorted((CONFIGS / "package").glob("*.yaml"))
OF_VOLUMES = {"prostate"}  # recipes
# A small grid: what is tested is that everything fits together.
SMALL = {
    "mammography": ("rows=192", "columns=128", "spacing_mm=0.8"),
    "prostate": ("shape=[8,32,32]", "spacing_mm=[3.0,1.0,1.0]"),
}


def pairs() -> list[tuple[Path, Path]]:
    """Every task with every recipe of as many dimensions, every training with its own."""
    tasks = [
        (task, recipe)
        for task in TASKS
        for recipe in RECIPES
        if ("spatial_dims: 3" in task.read_text(encoding="utf-8")) == (recipe.stem in OF_VOLUMES)
    ]
    own = [(path, CONFIGS / "recipe" / f"{PLANS[path.name.split('.')[0]].recipe}.yaml") for path in TRAININGS]
    return [*tasks, *own]


pytestmark = [
    # Lightning speaks of the machine and of the tiny run.
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    # Lightning 2.6.6 calls names that torch and jsonargparse are about to retire.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    write_training_set(folder, 7, seed=3, progress=lambda done, total: None)  # every label is there
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def films(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cases with a mammogram for every image, and a round lesion."""
    folder = tmp_path_factory.mktemp("films")
    with cases.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    r, c = np.mgrid[:240, :160]
    lesion = ((r - 110) ** 2 + (c - 50) ** 2 < 144).astype(np.uint8) * 255
    for number, row in enumerate(rows):
        row["image"], row["truth"] = f"{number}.dcm", f"{number}.png"
        tags = {"ImagerPixelSpacing": [0.5, 0.5], "SOPInstanceUID": f"1.2.3.{number + 1}"}
        dataset(breast(), **tags).save_as(folder / row["image"], enforce_file_format=True)
        Picture.fromarray(lesion).save(folder / row["truth"])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_cases(tmp_path_factory.mktemp("volumes"), 2, 1, labels=1)


def train(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> LightningCLI:
    monkeypatch.setattr("sys.argv", ["train.py", *words])
    return main()


def arguments(task: Path, recipe: Path, manifest: Path, folder: Path) -> list[str]:
    first = [task.with_name(task.name.replace(".fine", ""))] if ".fine" in task.name else []  # what it goes on from
    files = [f"-c={file}" for file in (CONFIGS / "trainer.yaml", recipe, *first, task)]
    settings = [
        "--data.batch_size=2",
        "--trainer.accelerator=cpu",
        f"--run={folder}",
        f"--data.cache={folder}/cache",
        "--data.check_duplicates=false",
    ]
    return ["fit", *files, f"--data.manifest={manifest}", *settings, "--trainer.fast_dev_run=1"]


@pytest.mark.parametrize(("task", "recipe"), pairs(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_task_and_recipe_runs_one_batch(
    task: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    fitting = {"mammography": "films", "prostate": "volumes"}.get(recipe.stem, "cases")
    words = arguments(task, recipe, request.getfixturevalue(fitting), tmp_path)
    words += [f"--data.recipe.init_args.{key}" for key in SMALL.get(recipe.stem, ())]
    cli = train(monkeypatch, words)
    assert cli.trainer.global_step == 1
    assert cli.trainer.callback_metrics["train/loss"].isfinite()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--model.init_args.learning_rat=1", "learning_rat"),
        ("--data.batch_size=many", "data.batch_size"),
        ("--trainer.max_epoch=3", "max_epoch"),
        ("--model.init_args.network.kind=vgg", "kind"),
    ],
)
def test_a_wrong_key_or_type_dies_at_parse_time(
    extra: str,
    message: str,
    cases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        train(monkeypatch, [*arguments(TASKS[0], CONFIGS / "recipe" / "ultrasound.yaml", cases, tmp_path), extra])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("card", CARDS, ids=lambda p: p.stem)
def test_every_card_parses(card: Path) -> None:
    told: Card = read_typed(card, Card)
    assert told.labels
    assert (told.calibration is None) == (told.rating is None)


def test_a_card_with_a_wrong_key_names_it(tmp_path: Path) -> None:
    wrong = tmp_path / "card.yaml"
    wrong.write_text(CARDS[0].read_text(encoding="utf-8").replace("least_pixels", "least_pixel"), encoding="utf-8")
    with pytest.raises(PackageError, match="least_pixel"):
        read_typed(wrong, Card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("site", "hospital", 1), r"missing \['site'\]"),
        (lambda text: text.replace(",train,", ",trian,", 1), "split is 'trian'; allowed is one of train, val, test"),
        (lambda text: text.replace("case-00001,", "case-00002,", 1), "case_id 'case-00002' stands twice"),
        (lambda text: text.replace("case-00001.dcm", "case-99999.dcm"), "case-99999.dcm' is not a file"),
        (lambda text: text, None),
    ],
)
def test_manifest_mistakes_are_named(change: object, message: str | None, cases: Path, tmp_path: Path) -> None:
    text = change(cases.read_text(encoding="utf-8"))  # type: ignore[operator]
    for folder in ("images", "truth"):
        (tmp_path / folder).symlink_to(cases.parent / folder)
    table = tmp_path / "manifest.csv"
    table.write_text(text, encoding="utf-8")
    if message is None:
        assert len(read_manifest(table)) == 7
        return
    with pytest.raises(ConfigError, match=message):
        read_manifest(table)


def test_a_patient_in_two_splits_is_refused(cases: Path, tmp_path: Path) -> None:
    header, *rows = cases.read_text(encoding="utf-8").splitlines()
    for folder in ("images", "truth"):
        (tmp_path / folder).symlink_to(cases.parent / folder)
    fields = [row.split(",") for row in rows]
    patient = next(f[1] for f in fields if f[3] == "val")
    fields[0][1] = patient
    table = tmp_path / "manifest.csv"
    table.write_text("\n".join([header, *(",".join(f) for f in fields)]), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"first '{patient}' in \\['train', 'val'\\]"):
        read_manifest(table)


def test_the_help_of_training_keeps_the_lines_of_its_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert "\n  train.py fit ... --run runs/first --resume     goes on at the newest whole checkpoint\n" in told
