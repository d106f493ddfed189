"""Folds of patients, jobs that run here, and what is said of each; SLURM itself is in test_slurm.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.cluster.jobs import CommandLine, Job, JobList, read_jobs, write_jobs
from imaging.cluster.ledger import Event, JobLedger
from imaging.cluster.running import Runner, run_here, run_job
from imaging.cluster.settings import Cluster, read_cluster
from imaging.cluster.slurm import ArrayTask, as_step, script, this_task
from imaging.cluster.standing import standings
from imaging.commands import main
from imaging.commands.pooling import PooledDesign, pool, write_design
from imaging.data.folds import deal, members
from imaging.data.manifest import Case, Split
from imaging.errors import ConfigError, OutputError
from tests.conftest import REPOSITORY


def case(number: int, site: str, label: str, patient: str = "", split: Split = "train") -> Case:
    return Case(f"c{number}", patient or f"p{number}", site, split, Path("i"), Path("t"), label)


def cohort() -> list[Case]:
    """23 patients of three sites, two labels; every fifth has two images."""
    once = [case(k, "abc"[k % 3], ("benign", "malignant")[k % 2]) for k in range(23)]
    return [*once, *(case(100 + k, "abc"[k % 3], ("benign", "malignant")[k % 2], f"p{k}") for k in range(0, 23, 5))]


# --------------------------------------------------------------------------------------------------------------- folds


def test_folds_are_even_over_all_and_in_every_site_and_label() -> None:
    cases = cohort()
    fold_of = deal(cases, 5)
    assert set(fold_of) == {one.patient_id for one in cases}
    assert sorted(Counter(fold_of.values()).values()) == [4, 4, 5, 5, 5]
    for stratum in {(one.site, one.label) for one in cases}:
        patients = {one.patient_id for one in cases if (one.site, one.label) == stratum}
        counts = Counter(fold_of[patient] for patient in patients)
        assert max(counts[k] for k in range(5)) - min(counts[k] for k in range(5)) <= 1, stratum
    assert deal(cases[::-1], 5) == fold_of


@pytest.mark.parametrize("count", [0, 1, 24])
def test_folds_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=rf"folds: found {count}; allowed are 2 to 23, the number of patients"):
        deal(cohort(), count)


def test_every_case_is_tested_once_by_who_met_neither_its_fold_nor_its_site() -> None:
    cases = [*cohort(), case(500, "a", "benign", split="test")]
    found = list(members(cases, 4, ["a", "b", "c"]))
    assert len(found) == 12
    assert sorted(one.case_id for member in found for one in member.tested) == sorted(one.case_id for one in cohort())
    for member in found:
        tested = {one.patient_id for one in member.tested}
        assert {one.site for one in member.tested} == {member.site}
        assert not tested & {one.patient_id for one in member.cases}
        assert member.site not in {one.site for one in member.cases}
        assert {one.split for one in member.cases} == {"train", "val"}
    assert found[1].name == "without-a-fold-1"


def test_a_patient_of_two_sites_is_learnt_from_by_neither_member() -> None:
    cases = [*cohort(), case(200, "b", "benign", "p0")]  # p0 has been at a
    found = list(members(cases, 3, ["b"]))
    assert "p0" not in {one.patient_id for member in found for one in member.cases}
    assert [one.case_id for member in found for one in member.tested if one.patient_id == "p0"] == ["c200"]


def test_a_member_without_cases_on_a_side_is_refused() -> None:
    only = [case(k, "a", "benign") for k in range(4)]
    with pytest.raises(ConfigError, match="folds: found 2; allowed are 3 or more: one tests, one validates"):
        list(members(only, 2, []))
    with pytest.raises(ConfigError, match="without-a has no case to train or val on; allowed are fewer folds"):
        list(members(only, None, ["a"]))
    with pytest.raises(ConfigError, match=r"held-out sites: found \['z'\]; allowed are \['a'\]"):
        list(members(only, None, ["z"]))


# -------------------------------------------------------------------------------------------------------- cluster.yaml


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu: 1", "gpu"),
        ("gpus: many", "gpus"),
        ("nodes: 0", "nodes: found 0; allowed is 1 or more"),
        ("memory_gb: 0", "memory_gb: found 0.0; allowed is a number above 0"),
        ('time: "tomorrow"', "time: found tomorrow; allowed is minutes"),
        ('partition: "gpu; rm"', "partition: found gpu; rm; allowed is names"),
        ('options: ["account=x"]', "options: found account=x; allowed is options of sbatch"),
        ('setup: ["a\\nb"]', "setup or options: found"),
    ],
)
def test_a_wrong_key_of_the_cluster_is_named(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cluster\.yaml: ") as refusal:
        read_cluster(path)
    assert told in str(refusal.value)


def test_the_script_asks_for_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        'partition: gpu\ntime: "1-12"\nnodes: 2\ngpus: 4\ncpus: 8\nmemory_gb: 64\n'
        "setup: [module load cuda]\noptions: [--account=radiology]\n",
        encoding="utf-8",
    )
    text = script(tmp_path / "run", "imaging-run", read_cluster(path))
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert asked == [
        "--job-name=imaging-run", "--partition=gpu", "--time=1-12", "--nodes=2", "--ntasks-per-node=4",
        "--cpus-per-task=8", "--gpus-per-node=4", "--mem=65536M", "--signal=USR1@120", "--open-mode=append",
        f"--output={tmp_path}/run/slurm-%A_%a.log", "--requeue", "--account=radiology",
    ]  # fmt: skip
    assert text.splitlines()[-2:] == [
        "module load cuda",
        f"exec {sys.executable} -m imaging jobs {tmp_path}/run --task",
    ]


def test_only_a_training_is_run_by_all_processes() -> None:
    environment = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1"}
    task = this_task(environment | {"SLURM_CPUS_PER_TASK": "8"})
    assert task == ArrayTask("12_3", 3, 1, 8)
    assert task.by == "12_3 try 2"
    assert as_step(CommandLine(("a", "b"), is_parallel=True), task)[-3:] == ["--cpus-per-task=8", "a", "b"]
    assert as_step(CommandLine(("a", "b")), task)[-5:] == ["--nodes=1", "--ntasks=1", "--exact", "a", "b"]
    assert this_task({}) is None


# ---------------------------------------------------------------------------------------------------------------- here


def python(text: str, makes: str = "", accepts: tuple[int, ...] = (0,)) -> CommandLine:
    return CommandLine((sys.executable, "-c", text), makes, accepts=accepts)


def listed(folder: Path, *jobs: Job, last: tuple[CommandLine, ...] = ()) -> JobList:
    folder.mkdir(exist_ok=True)
    write_jobs(JobList(folder, jobs, last))
    return read_jobs(folder)


def states(jobs: JobList) -> dict[str, str]:
    return {one.name: one.state for one in standings(jobs)}


def test_lines_that_are_done_are_not_run_again_and_half_a_result_is_removed(tmp_path: Path) -> None:
    """The second line fails once and leaves half a folder; run again, the first line is left alone."""
    count, made, once = tmp_path / "count", tmp_path / "made", tmp_path / "once"
    first = python(f"open({str(count)!r}, 'a').write('x')")
    second = python(
        f"import os, sys; os.mkdir({str(made)!r}); new = not os.path.exists({str(once)!r}); "
        f"open({str(once)!r}, 'w'); sys.exit(3 if new else 1)",
        str(made),
        (0, 1),
    )
    end = python(f"open({str(tmp_path / 'end')!r}, 'a').write('x')")
    jobs = listed(tmp_path / "run", Job("one", (first, second)), Job("two", (first,)), last=(end,))
    assert run_here(jobs, [0, 1], 2) == {0: 3, 1: 0}
    assert states(jobs) == {"one": "failed", "two": "done", "last": "new"}
    assert standings(jobs)[0].why.startswith("line 2 of 2 ended with status 3")
    assert main(["jobs", str(jobs.folder), "--again", "one", "--jobs", "1"]) == 0
    assert states(jobs) == dict.fromkeys(("one", "two", "last"), "done")
    assert count.read_text() == "xx"
    assert (tmp_path / "end").read_text() == "x"


def test_a_failed_job_says_its_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = listed(tmp_path / "run", Job("one", (python("import sys; print('no such key'); sys.exit(2)"),)))
    run_here(jobs, [0], 1)
    assert main(["jobs", str(jobs.folder)]) == 1
    assert capsys.readouterr().out == "one  failed             ended with status 2: no such key\n"


def test_one_that_ended_without_a_word_is_failed_and_one_that_runs_is_not(tmp_path: Path) -> None:
    jobs = listed(tmp_path / "run", Job("one", (python("pass"),)))
    JobLedger(jobs.place("one")).tell(Event("begun", 0, "12_0 try 1"))
    assert "ended without a word: killed with its node, or by SLURM" in standings(jobs)[0].why
    with (jobs.place("one") / "ledger.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"kind": "end')  # its writer was killed
    run_here(jobs, [0], 1)
    assert states(jobs) == {"one": "done"}


@pytest.mark.parametrize(("state", "found"), [("RUNNING", "done"), ("COMPLETING", "ended"), ("NODE_FAIL", "ended")])
def test_the_good_status_of_a_lost_node_is_not_believed(
    state: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun ends with 0 when its node is lost, as it does when the line has done its work."""
    for name, text in (("srun", "exit 0"), ("squeue", f"echo '12_0|{state}|None'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    jobs = listed(tmp_path / "run", Job("one", (python("pass"),)))
    status = run_job(jobs, 0, Runner(ArrayTask("12_0", 0, 0, 1)))
    assert status == (0 if found == "done" else 137)
    assert [event.kind for event in JobLedger(jobs.place("one"))] == ["begun", found]


def test_two_processes_do_not_run_one_job(tmp_path: Path) -> None:
    jobs = listed(tmp_path / "run", Job("one", (python("import time; time.sleep(60)"),)))
    words = [sys.executable, "-m", "imaging", "jobs", str(jobs.folder), "--again", "--jobs", "1"]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as other:
        end = time.monotonic() + 60
        while states(jobs) != {"one": "running"} and time.monotonic() < end:
            time.sleep(0.1)
        assert run_here(jobs, [0], 1) == {0: 2}
        assert "another process runs this job; allowed is one at a time" in jobs.log("one").read_text()
        other.send_signal(signal.SIGTERM)  # is passed on to what it runs
        assert other.wait(30) == 1
    assert "was asked to end and kept its state" in standings(jobs)[0].why


def test_other_jobs_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    listed(tmp_path / "run", Job("one", (python("pass"),)))
    listed(tmp_path / "run", Job("one", (python("pass"),)))
    with pytest.raises(ConfigError, match="found other jobs; allowed are the same ones"):
        listed(tmp_path / "run", Job("two", (python("pass"),)))
    with pytest.raises(ConfigError, match="found no job 'x'; allowed are one"):
        read_jobs(tmp_path / "run").named(["x"])


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="allowed is a writable folder"):
        JobLedger(tmp_path / "none").tell(Event("begun", 0, "here"))


# -------------------------------------------------------------------------------------------------------------- submit


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--folds", "2", "--", "fit"], "LINE: found no --data.manifest"),
        (["--", "predict"], "LINE: found predict; allowed is fit or train-package"),
        (["--", "fit", "--run=x"], "LINE: found ['--run']; allowed is none of them"),
        (["--seeds", "1", "--", "train-package", "breast_us"], "found train-package with ['seeds']"),
        (["--score", "segmentation", "--", "fit"], "--score: found segmentation; allowed is beside --card"),
        (["--card", "none.yaml", "--", "fit"], "--card: found none.yaml; allowed is a card"),
        (["--arm", "a=none.yaml", "--", "fit"], "--arm: found 'a=none.yaml'; allowed is NAME=FILE"),
    ],
)
def test_words_that_do_not_belong_together_are_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(tmp_path / "run"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prints_the_script_and_every_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arm = tmp_path / "small.yaml"
    arm.write_text("trainer: {max_epochs: 1}\n", encoding="utf-8")
    words = ["--seeds", "1", "2", "--arm", f"small={arm}", "--arm", f"large={arm}", "--dry-run"]
    assert main(["submit", str(tmp_path / "run"), *words, "--", "fit", "-c", "my.yaml"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("#!/bin/bash\n#SBATCH --job-name=imaging-run\n")
    assert "# --array=0-3\n" in told
    (line,) = [line for line in told.splitlines() if line.startswith("# 3 large-seed-2: ")]
    assert f"fit -c my.yaml --config={arm} --run={tmp_path}/run/jobs/large-seed-2/run --resume=auto" in line
    assert line.endswith("--seed_everything=2 --data.seed=2")
    assert not (tmp_path / "run").exists()
    assert main(["submit", str(tmp_path / "run"), "--dry-run", "--", "train-package", "breast_us", "--data", "d"]) == 0
    assert f"train-package breast_us --data d --work={tmp_path}/run/jobs/breast_us" in capsys.readouterr().out


def test_where_no_scheduler_is_a_way_without_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", str(tmp_path / "run"), "--", "fit", "-c", "my.yaml"]) == 2
    assert "sbatch: not found; allowed is a computer of the cluster, or --jobs N" in capsys.readouterr().err


def test_a_case_that_two_members_test_is_refused(tmp_path: Path) -> None:
    """The tables of two members, written by hand; no checkpoint is looked at before."""
    from imaging.commands import pooling

    table = "case_id,patient_id,site,split,image,truth,prediction\n{},p,a,test,i.png,t.png,maps/1.png\n"
    (tmp_path / "all.csv").write_text("case_id,exam_id\nc1,e1\nc2,e2\n", encoding="utf-8")
    for name, of in (("fold-0", "c1"), ("fold-1", "c2"), ("fold-2", "c1")):
        place = tmp_path / "jobs" / name / "predicted"
        place.mkdir(parents=True)
        (place / "segmentation.csv").write_text(table.format(of), encoding="utf-8")
    design = PooledDesign(str(tmp_path / "all.csv"), {}, ["segmentation"])
    pooling._join(tmp_path, design, ["fold-0", "fold-1"], tmp_path / "pooled.csv")
    lines = (tmp_path / "pooled.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "case_id,exam_id,patient_id,site,split,image,truth,prediction,member"
    assert lines[1] == f"c1,e1,p,a,test,i.png,t.png,{tmp_path}/jobs/fold-0/predicted/maps/1.png,fold-0"
    with pytest.raises(ConfigError, match="case 'c1' is tested by fold-0 and by fold-2; allowed is one member"):
        pooling._join(tmp_path, design, ["fold-0", "fold-2"], tmp_path / "pooled.csv")
    with pytest.raises(ConfigError, match="allowed is a folder of imaging submit with --score"):
        pool(tmp_path)
    write_design(tmp_path, replace(design, groups={}))
    assert json.loads((tmp_path / "design.json").read_text())["score"] == ["segmentation"]
    assert Cluster().per_node == 1
