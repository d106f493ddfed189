"""README's way with one's own data, from an empty folder to figures: commands alone, no table and no UID by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imaging.commands import main as imaging
from imaging.commands.train import main as train
from imaging.evaluation.result import EvaluationResult
from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

PATIENCE_S = 300.0


@dataclass
class Journey:
    """A folder in which commands are typed, and how many there were."""

    folder: Path
    typed: list[str] = field(default_factory=list)

    def __call__(self, *words: str) -> None:
        """`imaging` with these words, which must end with status 0."""
        self.typed.append(words[0])
        assert imaging(list(words)) == 0, words

    def killed(self, *words: str) -> None:
        """`train.py` with these words, killed when its fifth step is on the disk."""
        self.typed.append("train.py")
        log = self.folder / "killed.log"
        with log.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen([sys.executable, str(REPOSITORY / "train.py"), *words], stderr=stream)
        begin = time.monotonic()
        try:
            while not list(self.folder.glob("run/checkpoints/step-00000005.ckpt")):
                assert process.poll() is None, log.read_text(encoding="utf-8")
                assert time.monotonic() - begin < PATIENCE_S, log.read_text(encoding="utf-8")
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def same_line(self, *words: str) -> int:
        """The same line again; the steps that the run has then."""
        self.typed.append("train.py")
        return train(list(words)).trainer.global_step

    def edit_card(self, **values: str) -> None:
        """What a person types into the card: the values of these keys."""
        text = (self.folder / "card.yaml").read_text(encoding="utf-8")
        for key, value in values.items():
            text, times = re.subn(rf"^( *{key}:) .*$", rf"\1 {value}", text, flags=re.MULTILINE)
            assert times == 1, key
        (self.folder / "card.yaml").write_text(text, encoding="utf-8")

    def score(self, task: str, *words: str) -> EvaluationResult:
        """`imaging evaluate` of all cases: every one was scored, the figures are kept, and the page is drawn."""
        out = self.folder / f"scores{len(self.typed)}"
        self("evaluate", task, *words, "--split", "all", "--out", str(out), "--resamples", "100")
        assert "</html>" in (out / "index.html").read_text(encoding="utf-8")
        result = EvaluationResult.from_json((out / "metrics.json").read_text(encoding="utf-8"))
        assert not result.failures
        return result


@pytest.fixture
def journey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journey:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return Journey(tmp_path)


def fit(*configs: str, **data: str) -> list[str]:
    """The line of a small training."""
    files = [word for name in configs for word in ("-c", str(REPOSITORY / "configs" / f"{name}.yaml"))]
    options = [f"--{name.replace('__', '.')}={value}" for name, value in data.items()]
    run = ["--data.manifest=cases/manifest.csv", "--run=run", "--resume=auto", "--save_every_steps=5"]
    return ["fit", *files, *run, "--trainer.accelerator=cpu", *options]


def both_ways(journey: Journey, package: str) -> dict[str, EvaluationResult]:
    """Results of infer.py and of `imaging predict` on the same cases, scored as findings and as masks."""
    journey("infer", "cases/images", "--out", "answers", "--package", package)
    journey("predict", package, "cases/manifest.csv", "--out", "predicted")
    summary = json.loads((journey.folder / "answers" / "summary.json").read_text(encoding="utf-8"))
    assert {result["completeness"] for study in summary["studies"] for result in study["results"]} == {"all"}
    return {
        f"{task} {way}": journey.score(task, *words)
        for task in ("detection", "segmentation")
        for way, words in (
            ("run", ("--run", "answers", "--manifest", "cases/manifest.csv")),
            ("predict", ("--manifest", f"predicted/{task}.csv")),
        )
    }


def alike(results: dict[str, EvaluationResult], cases: int) -> None:
    """Both ways score every case, and find the same lesions: a report's outlines are a pixel off a mask's at most."""
    for result in results.values():
        assert sum(len(rows) for rows in (result.detection, result.segmentation)) == cases
    hits = [
        sum(lesion.is_true and lesion.confidence > 0 for case in results[f"detection {way}"].detection
            for lesion in case.lesions)
        for way in ("run", "predict")
    ]  # fmt: skip
    assert hits[0] == hits[1] > 0
    dice = [results[f"segmentation {way}"].pooled.figure("lesion dice").value for way in ("run", "predict")]
    assert dice[0] is not None
    assert dice[0] > 0.1
    assert dice[0] == pytest.approx(dice[1], abs=0.05)


def test_own_ultrasound(journey: Journey) -> None:
    journey("phantoms", "training", "cases", "--cases", "28", "--seed", "7")
    journey("data", "check", "cases/manifest.csv", "--out", "checked")
    line = fit(
        "trainer",
        "task/segmentation",
        "recipe/ultrasound",
        data__recipe__init_args__side="64",
        data__batch_size="4",
        model__init_args__learning_rate="0.01",
        model__init_args__network__features="[8,16,32]",
        model__init_args__network__stem="1",
        model__init_args__network__deep_supervision="0",
        trainer__max_epochs="50",
    )
    journey.killed(*line)
    assert journey.same_line(*line) == 200  # 50 epochs of 4 batches
    journey("package", "--new-card", "card.yaml")
    journey.edit_card(name="own_us", least_pixels="4")
    journey("package", "run", "--card", "card.yaml", "--preview")
    journey("package", "run", "--card", "card.yaml", "--out", "package")
    alike(both_ways(journey, "package"), 28)
    assert len(journey.typed) == 13


def test_own_prostates(journey: Journey) -> None:
    journey("phantoms", "training", "cases", "--kind", "prostate", "--cases", "8", "--seed", "3")
    journey("data", "check", "cases/manifest.csv", "--out", "checked")
    line = fit(
        "trainer",
        "training/prostate_lesion",
        data__recipe__init_args__spacing_mm="[3,2,2]",
        data__recipe__init_args__shape="[24,32,32]",
        model__init_args__learning_rate="0.01",
        model__init_args__network__features="[8,16,32]",
        model__init_args__network__deep_supervision="0",
        trainer__max_epochs="40",
        trainer__precision="32-true",
    )
    journey.killed(*line)
    assert journey.same_line(*line) == 80  # 40 epochs of 2 batches
    journey("package", "run", "--new-card", "card.yaml")
    journey.edit_card(name="own_prostate", least_pixels="4")
    locator = ["--locator", str(REPOSITORY / "data_samples" / "packages" / "prostate_gland")]
    journey("package", "run", "--card", "card.yaml", *locator, "--preview")
    journey("package", "run", "--card", "card.yaml", *locator, "--out", "package")
    alike(both_ways(journey, "package"), 8)
    assert len(journey.typed) == 13
