"""A tiny benchmark, really trained: what it leaves, what it shares, what it loses, what stays inside the fold."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as Picture

from imaging.benchmark.designs import Training, trainings_of
from imaging.benchmark.guard import held_out
from imaging.benchmark.jobs import Places, identities, read_receipt
from imaging.benchmark.orders import TrainingOrder
from imaging.benchmark.outcome_files import outcomes_as_text, read_outcomes, read_trials, trials_as_text
from imaging.benchmark.outcomes import operating_point
from imaging.benchmark.record import BenchmarkResult
from imaging.benchmark.run import Plan, make_plan, tasks_of
from imaging.benchmark.spec import read_spec
from imaging.benchmark.training import run_training
from imaging.benchmark.trials import CaseOutcome, Mark, Trial
from imaging.commands import main as imaging
from imaging.commands.benchmark import fit
from imaging.data.dataset import first_image
from imaging.data.manifest import read_manifest, write_manifest
from imaging.errors import ConfigError
from imaging.package import load_package
from imaging.predictor import load_predictor
from imaging.thresholds import decide_masks
from tests.conftest import REPOSITORY
from tests.test_training_data import write_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]

SITES = ("a", "b", "c")
TASK = {
    "model": {
        "class_path": "imaging.tasks.segmentation.SegmentationTask",
        "init_args": {
            "learning_rate": 0.01,
            "network": {"kind": "dyn_unet", "features": [4, 4, 4], "stem": 2, "classes": 3},
        },
    },
    "data": {"batch_size": 4, "classes": ["normal", "benign", "malignant"]},
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
}
RECIPE = {
    "data": {
        "recipe": {"class_path": "imaging.modalities.ultrasound.recipe.UltrasoundRecipe", "init_args": {"side": 32}}
    }
}


def write_spec(folder: Path, name: str = "spec", **changed: Any) -> Path:
    """A spec with its files beside it; `folder` has `cases/manifest.csv`."""
    (folder / "task.yaml").write_text(yaml.safe_dump(TASK), encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    shutil.copy(REPOSITORY / "configs/package/breast_us.yaml", folder / "card.yaml")
    told = {
        "name": "tiny",
        "manifest": "cases/manifest.csv",
        "task": ["task.yaml"],
        "recipe": "recipe.yaml",
        "card": "card.yaml",
        "arms": [{"name": "plain"}],
        "designs": ["leave_one_site_out"],
        "seeds": [1],
        "endpoints": {"primary": "dice", "others": ["auroc"]},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**told, **changed}), encoding="utf-8")
    return path


def planned(spec: Path) -> Plan:
    """The plan, with no picture looked at."""
    return make_plan(read_spec(spec), lambda cases, names: ([], []))


def orders(spec: Path, out: Path) -> list[TrainingOrder]:
    return [task.order for task in tasks_of(planned(spec), out) if isinstance(task.order, TrainingOrder)]


@dataclass
class Finished:
    folder: Path
    status: int
    said: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def trials(self, arm: str) -> list[Trial]:
        return read_trials(self.out / "trials" / f"{arm}.json")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals, and a spec of two arms that share a recipe and one whose loss is not finite."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_cases(folder / "cases", 12, 12, 0, sites=SITES)
    arms = [
        {"name": "plain"},
        {"name": "noisy", "augmentation": {"noise": [0.0, 0.2], "chance": 1.0}},
        {"name": "broken", "task": {"learning_rate": 1e30}},
    ]
    write_spec(folder, arms=arms)
    return folder


@pytest.fixture(scope="module")
def finished(asked: Path) -> Iterator[Finished]:
    """Each hospital held out once under each arm."""
    with pytest.MonkeyPatch.context() as patched, (asked / "said.txt").open("w+") as stream:
        patched.setattr(sys, "stderr", stream)
        status = imaging(["benchmark", str(asked / "spec.yaml"), "--out", str(asked / "out")])
        stream.seek(0)
        yield Finished(asked, status, stream.read())


def test_each_case_is_tested_once_by_networks_of_the_other_sites(finished: Finished) -> None:
    cases = read_manifest(finished.folder / "cases/manifest.csv", needs_split=False)
    for arm in ("plain", "noisy"):
        trials = finished.trials(arm)
        assert [(one.test_site, one.train_sites, one.lost) for one in trials] == [
            (site, tuple(other for other in SITES if other != site), "") for site in SITES
        ]
        tested = [outcome for one in trials for outcome in one.outcomes]
        assert sorted(outcome.case_id for outcome in tested) == sorted(case.case_id for case in cases)
        assert all(outcome.lesions == (outcome.label != "normal") for outcome in tested)
        assert all(outcome.positive is (outcome.label == "malignant") for outcome in tested)
        assert all(set(one.chosen_by) == {"train_val", "oracle"} for one in trials)


def test_a_lost_arm_costs_no_other_and_is_told_first(finished: Finished) -> None:
    assert finished.status == 1
    lost = finished.trials("broken")
    assert len(lost) == 3
    assert all("FloatingPointError; logs/" in one.lost and not one.outcomes for one in lost)
    result = BenchmarkResult.from_json((finished.out / "results.json").read_text(encoding="utf-8"))
    assert len(result.losses.trials) == 3
    log = finished.out / lost[0].lost.partition("; ")[2].partition(" ")[0]
    assert "loss term 'labels' is nan" in log.read_text(encoding="utf-8")
    page = (finished.out / "index.html").read_text(encoding="utf-8")
    assert page.index("FloatingPointError") < page.index('id="verdict"')
    assert "3 lost" in finished.said


def test_results_hold_no_path_and_no_clock(finished: Finished) -> None:
    for path in (finished.out / "results.json", *(finished.out / "trials").iterdir()):
        text = path.read_text(encoding="utf-8")
        assert str(finished.folder) not in text
        assert "seconds" not in text


def test_every_picture_is_decoded_once_for_all_arms_that_share_a_recipe(finished: Finished) -> None:
    costs = json.loads((finished.out / "costs.json").read_text(encoding="utf-8"))
    assert costs["decoded"] == 24
    assert len(costs["trainings"]) == 6
    assert len(costs["tests"]) == 6
    assert all(one["training"] > 0 and one["deciding"] > 0 for one in costs["trainings"].values())


def test_outcomes_are_what_inference_says(finished: Finished) -> None:
    """Findings of the package at the package's threshold, by `Predictor.read`; the threshold by validation cases."""
    trial = finished.trials("plain")[0]
    places = Places(finished.out)
    predictor = load_predictor(load_package(places.package(trial.job)))
    cases = {case.case_id: case for case in read_manifest(places.job(trial.job) / "manifest.csv")}
    assert {case.site for case in cases.values()} == {"b", "c"}
    receipt = read_receipt(places.receipt(trial.job))
    assert receipt is not None
    chosen = decide_masks(predictor, [case for case in cases.values() if case.split == "val"])
    assert receipt.threshold == chosen.threshold == predictor.package.description.threshold
    tested = {case.case_id: case for case in read_manifest(finished.folder / "cases/manifest.csv")}
    for outcome in trial.outcomes:
        reading = predictor.read(first_image(tested[outcome.case_id], predictor.recipe))
        assert len(outcome.marks) == len(reading.findings)
        assert outcome.score == pytest.approx(reading.classes["malignant"])
        assert outcome.recalled == (outcome.score >= receipt.operating_point)


def test_the_same_line_runs_nothing_again_and_gives_the_same_bytes(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished.out
    before = {path: path.read_bytes() for path in (out / "results.json", out / "trials/plain.json")}
    receipts = {path: path.stat().st_mtime_ns for path in out.glob("jobs/*/receipt.json")}
    spec = write_spec(finished.folder, "again", arms=[{"name": "plain"}])
    assert imaging(["benchmark", str(spec), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "0 to do, 3 finished" in said.out
    assert "jobs;" not in said.err
    assert {path: path.stat().st_mtime_ns for path in receipts} == receipts
    assert (out / "trials/plain.json").read_bytes() == before[out / "trials/plain.json"]
    (out / "results.json").write_bytes(before[out / "results.json"])


def test_other_designs_join_what_is_trained(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    """Consensus needs three networks of one site; the curve begins with the networks that are there."""
    kept = shutil.copytree(finished.out, finished.folder / "joined")
    designs = ["consensus", {"learning_curve": {"cases": [0, 4]}}]
    spec = write_spec(finished.folder, "designs", designs=designs)
    assert imaging(["benchmark", str(spec), "--out", str(kept)]) == 0
    said = capsys.readouterr()
    assert "4 to do, 3 finished" in said.out
    for site in ("b", "c"):
        assert f"half of site '{site}' holds too few patients or cases for the points 4, which are left out" in said.err
    trials = read_trials(kept / "trials/plain.json")
    told = [(one.design, one.local_cases, one.sees_target) for one in trials if one.test_site == "a"]
    assert told == [
        ("consensus", None, False),
        ("learning_curve:fine_tune", 0, False),
        ("learning_curve:recalibrate", 0, False),
        ("learning_curve:fine_tune", 4, True),
        ("learning_curve:recalibrate", 4, True),
    ]
    of_a = {(one.design, one.local_cases): one for one in trials if one.test_site == "a"}
    base, tuned = of_a["learning_curve:fine_tune", 0], of_a["learning_curve:fine_tune", 4]
    assert [one.case_id for one in base.outcomes] == [one.case_id for one in tuned.outcomes]
    assert base.job == finished.trials("plain")[0].job
    assert len({one.job for one in of_a.values()}) == 4
    assert "mean of two" not in consensus_by_hand(finished.folder, kept, of_a["consensus", None])


def consensus_by_hand(folder: Path, out: Path, trial: Trial) -> str:
    """The chance of malignancy is the mean of the two site packages'; says where it is not."""
    cases = {case.case_id: case for case in read_manifest(folder / "cases/manifest.csv")}
    packages = [load_predictor(load_package(path)) for path in sorted(out.glob("jobs/*/package"))]
    alone = [one for one in packages if one.package.description.training["sites"] in (["b"], ["c"])]
    assert len(alone) == 2
    for outcome in trial.outcomes:
        image = first_image(cases[outcome.case_id], alone[0].recipe)
        chances = [one.predict(image).classes[2] for one in alone]  # type: ignore[union-attr]
        if outcome.score != pytest.approx(float(np.mean(chances))):
            return f"{outcome.case_id}: {outcome.score} is not the mean of two, {chances}"
    return ""


def test_only_runs_its_trials_and_sums_nothing_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path / "cases", 12, 12, 0, sites=SITES)
    spec, out = write_spec(tmp_path), tmp_path / "out"
    assert imaging(["benchmark", str(spec), "--out", str(out), "--only", "plain/b/*"]) == 0
    assert len(list(out.glob("jobs/*/receipt.json"))) == 1
    assert not (out / "results.json").exists()
    assert "the line without --only sums all of them up" in capsys.readouterr().out
    assert imaging(["benchmark", str(spec), "--out", str(out), "--only", "plain/z/*"]) == 2
    assert "--only: found no trial named 'plain/z/*'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- refused


def test_a_dry_run_writes_nothing(asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_spec(asked, "dry")
    assert imaging(["benchmark", str(spec), "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "3 to do, 0 finished" in said
    assert "a guess from steps" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"arms": [{"name": "odd", "recipe": {"sides": 32}}]}, "arm 'odd': "),
        ({"endpoints": {"primary": "dise"}}, "endpoints: benchmark, endpoint: found 'dise'"),
        ({"designs": ["pooled"]}, "designs, folds: found 5, and "),
    ],
)
def test_a_wrong_benchmark_ends_before_its_first_job(
    asked: Path, changed: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(asked, "wrong", **changed)
    if "designs" in changed:
        cases = read_manifest(asked / "cases/manifest.csv")
        write_manifest(asked / "cases/few.csv", [*cases[:9], *(one for one in cases[9:] if one.site != "c")])
        spec = write_spec(asked, "wrong", manifest="cases/few.csv", **changed)
    assert imaging(["benchmark", str(spec), "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "jobs").exists()


def test_a_picture_at_two_sites_is_refused_whatever_its_encoding(
    asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = read_manifest(asked / "cases/manifest.csv")
    first = cases[0]
    other = next(one for one in cases if one.site != first.site)
    with Picture.open(first.image) as shown:
        brighter = np.clip(np.asarray(shown).astype(float) * 1.1, 0, 255).astype(np.uint8)
    Picture.fromarray(brighter).save(tmp_path / "copy.jpg", quality=90)
    copied = [replace(one, image=tmp_path / "copy.jpg", truth=first.truth) if one is other else one for one in cases]
    write_manifest(tmp_path / "leak.csv", copied)
    spec = write_spec(asked, "leak", manifest=str(tmp_path / "leak.csv"))
    assert imaging(["benchmark", str(spec), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert str(first.image) in said
    assert "copy.jpg" in said
    assert "near pictures" in said
    spec = write_spec(asked, "leak", manifest=str(tmp_path / "leak.csv"), across_sites="group")
    assert imaging(["benchmark", str(spec), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert "they stay on one side" in capsys.readouterr().err


def test_a_folder_in_use_is_refused(asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out/.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert imaging(["benchmark", str(write_spec(asked, "used")), "--out", str(tmp_path / "out")]) == 2
    assert "another run is writing to the output folder" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- inside the fold


def test_a_training_opens_no_file_of_its_test_cases(asked: Path, tmp_path: Path) -> None:
    """Watched from outside of the product's own guard, on a training that is really run here."""
    order = next(one for one in orders(asked / "spec.yaml", tmp_path / "out") if one.train[0].site != "a")
    opened: list[str] = []
    is_on = [True]
    sys.addaudithook(lambda event, told: opened.append(str(told[0])) if is_on[0] and event == "open" else None)
    receipt = run_training(order, fit)
    is_on[0] = False
    cases = asked / "cases"
    seen = {Path(name).name for name in opened if name.startswith(str(cases))}
    own = {path.name for case in (*order.train, *order.val) for path in case.files}
    assert own <= seen
    assert not seen & {path.name for path in order.held_out}
    assert order.held_out
    assert receipt.weights


def test_what_opens_a_held_out_file_stops_its_training(asked: Path, tmp_path: Path) -> None:
    """A normaliser that is fitted on all cases, for one."""
    order = orders(asked / "spec.yaml", tmp_path / "out")[0]

    def fit_on_all(words: Sequence[str]) -> int:
        for case in read_manifest(asked / "cases/manifest.csv"):
            case.image.read_bytes()
        return fit(words)

    with pytest.raises(ConfigError, match=r"png: opened while a network is trained or chosen that is tested on it"):
        run_training(order, fit_on_all)
    assert not Places(order.out).receipt(order.identity).exists()


def test_the_guard_meets_links_folders_and_other_spellings(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    for name in ("study/1.dcm", "own.png", "studying.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "study/1.dcm")
    with held_out([tmp_path / "study"]):
        for name in ("study/1.dcm", "link.dcm", "study/../study/1.dcm"):
            with pytest.raises(ConfigError, match="opened while a network is trained"):
                (tmp_path / name).read_bytes()
        for name in ("own.png", "studying.png"):
            assert (tmp_path / name).read_bytes() == b"x"
    assert (tmp_path / "study/1.dcm").read_bytes() == b"x"


def test_altered_test_cases_change_no_plan_threshold_or_checkpoint(asked: Path, tmp_path: Path) -> None:
    """All pixels of site a are inverted and its labels turned: the network that never saw a is the same."""
    other = shutil.copytree(asked / "cases", tmp_path / "cases")
    cases = read_manifest(other / "manifest.csv")
    turned = {"normal": "benign", "benign": "malignant", "malignant": "normal"}
    write_manifest(other / "manifest.csv", [replace(c, label=turned[c.label]) if c.site == "a" else c for c in cases])
    for case in cases:
        if case.site == "a":
            with Picture.open(case.image) as shown:
                inverted = 255 - np.asarray(shown)
            Picture.fromarray(inverted).save(case.image)
    spec = write_spec(tmp_path)
    (order,) = [one for one in orders(spec, tmp_path / "out") if {case.site for case in one.train} == {"b", "c"}]
    known = {one.identity: one for one in orders(asked / "spec.yaml", tmp_path / "was")}
    same = known[order.identity]
    before, after = (run_training(one, fit) for one in (same, order))
    told = ("weights", "threshold", "operating_point")
    assert [getattr(after, name) for name in told] == [getattr(before, name) for name in told]
    others = [one for one in orders(spec, tmp_path / "out") if one.identity != order.identity]
    assert len(others) == 2
    assert not {one.identity for one in others} & known.keys()


@pytest.mark.parametrize("change", ["pixels", "label", "patient", "seed", "arm", "code", "validation"])
def test_a_job_is_another_one_when_anything_that_it_depends_on_is(
    change: str, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = planned(asked / "spec.yaml")
    cases = plain.cohort.cases
    training = trainings_of(plain.trials)[0]
    before = identities(plain.spec, cases).of_training(training)
    assert identities(plain.spec, cases).of_training(training) == before
    spec, other, case = plain.spec, training, cases[training.train[0]]
    if change == "pixels":
        shutil.copy(cases[training.train[1]].image, tmp_path / "i.png")
        cases[case.case_id] = replace(case, image=tmp_path / "i.png")
    elif change in ("label", "patient"):
        named: dict[str, Any] = {"label": "x"} if change == "label" else {"patient_id": "x"}
        cases[case.case_id] = replace(case, **named)
    elif change == "seed":
        other = replace(training, seed=2)
    elif change == "validation":
        other = Training(training.arm, training.train[1:], (*training.val, training.train[0]), training.seed)
    elif change == "arm":
        spec = replace(spec, trainer={"max_epochs": 3})
    else:
        monkeypatch.setattr("imaging.benchmark.jobs.LIBRARIES", ("torch",))
    assert identities(spec, cases).of_training(other) != before


def test_the_operating_point_is_youdens_on_scored_cases() -> None:
    """Scores 0.2 0.4 0.6 0.8 of which the last two are positive: from above 0.4 up to 0.6 all are called rightly."""
    told = [CaseOutcome(str(k), "p", "a", score=k / 10, positive=k > 5) for k in (2, 4, 6, 8)]
    assert operating_point(told) == 0.6
    assert operating_point([*told, CaseOutcome("n", "p", "a", score=0.9)]) == 0.6
    assert operating_point(told[:2]) is None
    assert operating_point([]) is None


def test_outcomes_and_trials_come_back_as_they_were(tmp_path: Path) -> None:
    outcome = CaseOutcome("c", "p", "a", "s", "t", "benign", 1, 0.5, (Mark(0.9, 0), Mark(0.3)), 0.7, True, False, "")
    trial = Trial("j", "own", "in_domain", "a", ("a", "b"), 1, 2, 5, True, True, {"oracle": 0.5}, (outcome,), "")
    (tmp_path / "o.json").write_text(outcomes_as_text([outcome]), encoding="utf-8")
    (tmp_path / "t.json").write_text(trials_as_text([trial]), encoding="utf-8")
    assert read_outcomes(tmp_path / "o.json") == (outcome,)
    assert read_trials(tmp_path / "t.json") == [trial]
    assert read_outcomes(tmp_path / "none.json") is None


# --------------------------------------------------------------------------------------------------------------- killed

# Each is killed as soon as such a file is there.
MOMENTS = (
    "jobs/*/config.yaml",
    "jobs/*/run/checkpoints/step-*.ckpt",
    "jobs/*/package/*",
    "jobs/*/receipt.json",
    "tests/*",
)


def started(spec: Path, out: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "imaging", "benchmark", str(spec), "--out", str(out)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY)


def test_a_benchmark_that_is_killed_at_five_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    write_cases(tmp_path / "cases", 12, 12, 0, sites=SITES[:2])
    spec, out = write_spec(tmp_path, trainer={"max_epochs": 4}), tmp_path / "out"
    known: dict[Path, int] = {}
    for moment in MOMENTS:
        before = set(out.glob(moment))
        process = started(spec, out)
        while not set(out.glob(moment)) - before and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert all(path.stat().st_mtime_ns == at for path, at in known.items())
        known |= {
            path: path.stat().st_mtime_ns for path in (*out.glob("jobs/*/receipt.json"), *out.glob("tests/*.json"))
        }
    assert started(spec, out).wait() == 0
    assert all(path.stat().st_mtime_ns == at for path, at in known.items())
    assert started(spec, tmp_path / "whole").wait() == 0
    for name in ("results.json", "trials/plain.json", "index.html"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(list(out.glob("jobs/*"))) == len(list(out.glob("tests/*.json"))) == 2
