"""A site kit: offline, as nobody, from read-only inputs; no name leaves; merged files are the pooled run exactly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture

from imaging import __version__
from imaging.benchmark.answers import read_answer, write_answer
from imaging.benchmark.kit import make_kit, read_kit
from imaging.benchmark.outcomes import outcomes_of
from imaging.benchmark.site_cases import prepare, read_cases
from imaging.benchmark.site_steps import evaluate, infer, merge, statistics
from imaging.benchmark.spec import read_spec
from imaging.commands import main
from imaging.data.dataset import first_image
from imaging.data.manifest import Case, read_manifest, write_manifest
from imaging.errors import ConfigError, InputError
from imaging.findings import Detections, Prediction
from imaging.harmonise.recipe import identity, settings
from imaging.image import Box, Grid, Image, Origin, SourceRef
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from imaging.models.build import build
from imaging.models.networks import DynUNetSettings
from imaging.package import FORMAT_VERSION, Card, Description, PinnedFile, RecipeChoice, load_package, read_typed
from imaging.packaging import write_package
from imaging.phantoms.ultrasound.dicom import LATIN, UltrasoundAcquisition, dataset, file_bytes, truth
from imaging.predictor import load_predictor
from tests.conftest import REPOSITORY

NAME = "Kranichfeld^Mechthild"
PLANTED = (b"kranichfeld", b"mechthild")
SITES = ("Aarhus", "Turku")
NETWORK = DynUNetSettings(features=(4, 4, 4), stem=2, classes=3)
NOBODY = 65534


def write_network(folder: Path, seed: int) -> Path:
    """A package of breast_us on a small grid, untrained, that marks a good part of every image."""
    torch.manual_seed(seed)
    model = build(NETWORK).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # what the package will hold
            parameter.copy_(parameter.half())
    recipe = UltrasoundRecipe(side=48)
    card: Card = read_typed(REPOSITORY / "configs" / "package" / "breast_us.yaml", Card)
    description = Description(
        format_version=FORMAT_VERSION,
        least_toolkit=__version__,
        card=card,
        network=NETWORK,
        recipe=RecipeChoice(recipe.name, settings(recipe), identity(recipe)),  # type: ignore[arg-type]
        threshold=0.5,
        support={},
        training={"sites": ["Zagreb"]},
        weights=PinnedFile("", ""),
        golden=PinnedFile("", ""),
        golden_tolerance=0.02,
        operating_point=0.35,
    )
    write_package(folder, description, model)
    return folder


def write_exams(folder: Path) -> list[Case]:
    """Six patients at each of two sites, every third without a lesion; their name in headers, paths and ids."""
    cases = []
    for number in range(12):
        site, kind = SITES[number % 2], "planted" if number % 3 else ()
        acquisition = UltrasoundAcquisition("AB"[number % 2], replace(LATIN, name=NAME), number, lesions=kind)
        own = folder / f"{NAME.replace('^', '_')}_{number}"
        own.mkdir(parents=True)
        (own / "image.dcm").write_bytes(file_bytes(dataset(acquisition)))
        Picture.fromarray(truth(acquisition) * 255).save(own / "truth.png")
        named = f"KRANICHFELD-{number}"
        label = "benign" if kind else "normal"
        cases.append(Case(named, named, site, "train", own / "image.dcm", own / "truth.png", label))
    return cases


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that another user may enter: kit and exams in it, as they reach a hospital."""
    folder = Path(tempfile.mkdtemp(prefix="sitekit"))
    folder.chmod(0o755)
    for number, arm in enumerate(("own", "other"), start=1):
        write_network(folder / "networks" / arm, number)
    stated = yaml.safe_load((REPOSITORY / "configs" / "benchmark" / "breast_ultrasound.yaml").read_text("utf-8"))
    base = REPOSITORY / "configs" / "benchmark"
    stated |= {key: str((base / stated[key]).resolve()) for key in ("recipe", "card")}
    stated |= {"task": [str((base / one).resolve()) for one in stated["task"]], "manifest": "all.csv"}
    stated["arms"] = [{"name": "own"}, {"name": "other"}]
    (folder / "spec.yaml").write_text(yaml.safe_dump(stated), encoding="utf-8")
    cases = write_exams(folder / "exams")
    write_manifest(folder / "all.csv", cases)
    for site in SITES:
        write_manifest(folder / f"{site}.csv", [case for case in cases if case.site == site])
    words = [f"--package={arm}={folder / 'networks' / arm}" for arm in ("own", "other")]
    assert main(["site-kit", "make", str(folder / "spec.yaml"), *words, "--out", str(folder / "kit")]) == 0
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


STEPS = ("prepare", "check", "infer", "evaluate", "statistics")


def words(step: str, kit: Path, table: Path, work: Path) -> list[str]:
    given = [] if step == "statistics" else ["--manifest", str(table)]
    return ["site-kit", step, str(kit), "--work", str(work), *given]


def run_all(place: Path, table: str, work: Path) -> Path:
    for step in STEPS:
        assert main(words(step, place / "kit", place / table, work)) == 0
    return work


@pytest.fixture(scope="module")
def works(place: Path) -> dict[str, Path]:
    """All steps at either site, and over both in one table."""
    return {name: run_all(place, f"{name}.csv", place / f"work-{name}") for name in (*SITES, "all")}


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every path below a folder, and what every file holds, unpacked."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), b""
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as held:
                yield from ((f"{path.name}/{name}", held.read(name)) for name in held.namelist())
        elif path.is_file():
            yield path.name, path.read_bytes()


def named_in(folder: Path) -> list[str]:
    """Where the planted name, or the folder of the images, stands."""
    wanted = (*PLANTED, b"/exams")
    found = ((name, (name.encode() + b"\n" + held).lower()) for name, held in contents(folder))
    return [name for name, held in found if any(word in held for word in wanted)]


def test_merged_files_of_the_hospitals_are_the_pooled_run_byte_for_byte(
    place: Path, works: dict[str, Path], tmp_path: Path
) -> None:
    files = [str(works[site] / "site.json") for site in reversed(SITES)]
    assert main(["site-kit", "merge", str(place / "kit"), *files, "--out", str(tmp_path / "merged")]) == 0
    merged = (tmp_path / "merged" / "results.json").read_bytes()
    assert merged == (works["all"] / "results.json").read_bytes()
    told = json.loads(merged)
    assert {site["site"]: (site["n_cases"], site["n_patients"]) for site in told["sites"]} == {
        "Aarhus": (6, 6),
        "Turku": (6, 6),
    }
    assert [one["arm"] for one in told["arms"]] == ["own", "other"]
    assert (tmp_path / "merged" / "index.html").stat().st_size > 1000


def test_what_is_handed_back_is_what_inference_says(place: Path, works: dict[str, Path]) -> None:
    """Answers that went through files give the outcomes of a network asked directly."""
    handed = json.loads((works["Turku"] / "site.json").read_text("utf-8"))
    predictor = load_predictor(load_package(place / "networks" / "own"))
    cases = read_manifest(place / "Turku.csv")
    direct = outcomes_of([predictor], cases, 0.35)
    own = handed["trials"][0]
    assert (own["arm"], own["test_site"], own["train_sites"]) == ("own", "Turku", ["Zagreb"])
    assert [one["dice"] for one in own["outcomes"]] == [one.dice for one in direct]
    assert [one["score"] for one in own["outcomes"]] == [one.score for one in direct]
    assert [one["recalled"] for one in own["outcomes"]] == [one.recalled for one in direct]
    assert [len(one["marks"]) for one in own["outcomes"]] == [len(one.marks) for one in direct]
    assert any(len(one.marks) for one in direct)
    assert [one["case_id"] for one in own["outcomes"]] == [f"Turku-{n}" for n in range(1, 7)]
    assert {one["patient_id"] for one in own["outcomes"]} == {f"Turku-p{n}" for n in range(1, 7)}


def test_no_output_holds_the_planted_name(place: Path, works: dict[str, Path], tmp_path: Path) -> None:
    """Not in a path, a file or a compressed array; that the search finds it, copies of the images show."""
    for work in works.values():
        assert {"cases.json", "check.json", "outcomes.json", "site.json", "results.json", "index.html"} <= {
            path.name for path in work.iterdir()
        }
        assert named_in(work) == []
    assert main([*words("prepare", place / "kit", place / "Turku.csv", tmp_path), "--copy"]) == 0
    assert named_in(tmp_path) == ["image.dcm"] * 6


def test_copies_stand_for_the_table(place: Path, works: dict[str, Path], tmp_path: Path) -> None:
    """As MedPerf mounts them: prepared data alone, then answers and prepared data; the same file is handed back."""
    kit = str(place / "kit")
    assert main([*words("prepare", place / "kit", place / "Turku.csv", tmp_path / "data"), "--copy"]) == 0
    data, answers, out = (str(tmp_path / name) for name in ("data", "answers", "out"))
    assert main(["site-kit", "infer", kit, "--work", data, "--out", answers]) == 0
    assert main(["site-kit", "evaluate", kit, "--work", data, "--answers", answers, "--out", out]) == 0
    assert main(["site-kit", "statistics", kit, "--work", out]) == 0
    assert (tmp_path / "out" / "site.json").read_bytes() == (works["Turku"] / "site.json").read_bytes()


def test_containers_of_medperf_name_their_tasks_and_mounts(place: Path) -> None:
    tasks = {}
    folder = place / "kit" / "medperf"
    assert yaml.safe_load((folder / "parameters.yaml").read_text("utf-8")) is None
    for path in sorted(set(folder.glob("*.yaml")) - {folder / "parameters.yaml"}):
        told = yaml.safe_load(path.read_text("utf-8"))
        assert told["container_type"] == "DockerImage"
        for name, task in told["tasks"].items():
            tasks[path.stem, name] = task
            volumes = {**task["input_volumes"], **task.get("output_volumes", {})}
            assert all(one["mount_path"].startswith("/mlcommons/volumes/") for one in volumes.values())
            assert "imaging site-kit" in task["run_args"]["command"]
    assert list(tasks) == [
        ("data_preparator", "prepare"),
        ("data_preparator", "sanity_check"),
        ("data_preparator", "statistics"),
        ("metrics", "evaluate"),
        ("model", "infer"),
    ]
    assert "{" not in (place / "kit" / "README.txt").read_text("utf-8")


ISOLATED = """
import os, socket, sys
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
assert os.getuid() == int(sys.argv[1])
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    raise SystemExit("the loopback is up")
except OSError:
    pass
from imaging.commands import main
for line in sys.argv[2:]:
    status = main(line.split("\\x1f"))
    if status:
        raise SystemExit(f"{line}: {status}")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become nobody in a network namespace of its own")
@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("setpriv") is None, reason="util-linux is missing")
def test_it_runs_offline_as_nobody_from_read_only_inputs(place: Path, works: dict[str, Path]) -> None:
    work = place / "work-nobody"
    work.mkdir()
    os.chown(work, NOBODY, NOBODY)
    for top in ("kit", "exams"):
        for path in (place / top, *(place / top).rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
    lines = ["\x1f".join(words(step, place / "kit", place / "Turku.csv", work)) for step in STEPS]
    identity_of = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    done = subprocess.run(
        ["unshare", "-n", *identity_of, sys.executable, "-c", ISOLATED, str(NOBODY), *lines],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip(f"no network namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (work / "site.json").read_bytes() == (works["Turku"] / "site.json").read_bytes()
    assert named_in(work) == []
    assert all(path.stat().st_uid == NOBODY for path in work.rglob("*"))


def test_what_is_rare_has_no_name_and_few_patients_hand_nothing_back(place: Path, tmp_path: Path) -> None:
    """Of twelve patients four are normal; at Turku, of six, one scanner is of all."""
    held = read_kit(place / "kit")
    one = replace(held, kit=replace(held.kit, networks=held.kit.networks[:1]))
    cases = [replace(case, site="Turku") for case in read_manifest(place / "all.csv")]
    write_manifest(tmp_path / "rare.csv", cases)
    prepare(one.kit, tmp_path / "rare.csv", tmp_path)
    known = read_cases(tmp_path, tmp_path / "rare.csv")
    infer(one, known, tmp_path, lambda done, of: None)
    (trial,) = evaluate(one, known, tmp_path, tmp_path, lambda done, of: None)
    assert sorted(outcome.label for outcome in trial.outcomes) == ["benign"] * 8 + ["normal"] * 4
    statistics(one.kit, tmp_path, tmp_path)
    handed = json.loads((tmp_path / "site.json").read_text("utf-8"))["trials"][0]["outcomes"]
    assert sorted(outcome["label"] for outcome in handed) == [""] * 4 + ["benign"] * 8
    assert len({outcome["scanner"] for outcome in handed}) == 2  # of six patients each
    evaluate(one, known[:4], tmp_path, tmp_path / "few", lambda done, of: None)
    with pytest.raises(ConfigError, match="site 'Turku': found 4 patients; allowed is 5 or more to hand back"):
        statistics(one.kit, tmp_path / "few", tmp_path / "few")
    assert not (tmp_path / "few" / "site.json").exists()


def test_answers_and_outcomes_of_something_else_are_not_taken(place: Path, tmp_path: Path) -> None:
    """A table whose first two cases changed places is prepared anew: its first case has no answer until it is asked."""
    held = read_kit(place / "kit")
    one = replace(held, kit=replace(held.kit, networks=held.kit.networks[:1]))
    cases = read_manifest(place / "Turku.csv")
    for table in (cases, [cases[1], cases[0], *cases[2:]]):
        write_manifest(tmp_path / "t.csv", table)
        prepare(one.kit, tmp_path / "t.csv", tmp_path)
        known = read_cases(tmp_path, tmp_path / "t.csv")
        with pytest.raises(
            ConfigError, match=r"case Turku-1: found no answer of own\.1; allowed is an answer by `imaging"
        ):
            evaluate(one, known, tmp_path, tmp_path, lambda done, of: None)
        infer(one, known, tmp_path, lambda done, of: None)
        evaluate(one, known, tmp_path, tmp_path, lambda done, of: None)
    assert len(list((tmp_path / "answers").rglob("*.npz"))) == 6 + 2
    with pytest.raises(ConfigError, match="found outcomes of other networks at 'Turku'; allowed is those of every"):
        statistics(held.kit, tmp_path, tmp_path)


def test_a_case_that_cannot_be_read_is_told_by_its_number_and_counts_as_failed(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case for case in read_manifest(place / "all.csv") if case.site == "Turku"]
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(cases[1].image.read_bytes()[:300])
    cases[1] = replace(cases[1], image=broken)
    write_manifest(tmp_path / "t.csv", cases)
    assert main(words("prepare", place / "kit", tmp_path / "t.csv", tmp_path / "w")) == 0
    assert main(words("check", place / "kit", tmp_path / "t.csv", tmp_path / "w")) == 1
    faults = json.loads((tmp_path / "w" / "check.json").read_text("utf-8"))["faults"]
    assert list(faults) == ["Turku-2"]
    assert f"Turku-2: {faults['Turku-2']}" in capsys.readouterr().out
    for step in ("infer", "evaluate", "statistics"):
        assert main(words(step, place / "kit", tmp_path / "t.csv", tmp_path / "w")) == 0
    outcomes = json.loads((tmp_path / "w" / "site.json").read_text("utf-8"))["trials"][0]["outcomes"]
    assert [outcome["failed"] for outcome in outcomes] == ["", faults["Turku-2"], "", "", "", ""]
    assert outcomes[1]["dice"] == 0.0


def test_what_is_refused(place: Path, works: dict[str, Path], tmp_path: Path) -> None:
    spec, own = read_spec(place / "spec.yaml"), place / "networks" / "own"
    with pytest.raises(ConfigError, match="--package: found new; allowed is an arm of the spec: own, other"):
        make_kit(spec, [("new", own)], tmp_path / "k")
    with pytest.raises(
        ConfigError, match="--package: found none of the arm of reference; allowed is one or more of 'own'"
    ):
        make_kit(spec, [("other", own)], tmp_path / "k")
    with pytest.raises(ConfigError, match=r"--out: found .*, which is there; allowed is a new folder"):
        make_kit(spec, [("own", own)], place / "kit")
    kit = read_kit(place / "kit").kit
    cases = [replace(case, site="ZAGREB") for case in read_manifest(place / "Turku.csv")]
    write_manifest(tmp_path / "seen.csv", cases)
    with pytest.raises(ConfigError, match=r"site: found \['ZAGREB'\], where own.1 learnt; allowed is sites that no"):
        prepare(kit, tmp_path / "seen.csv", tmp_path)
    with pytest.raises(ConfigError, match="case Turku-1: found other files or facts than were prepared"):
        read_cases(works["Turku"], place / "Aarhus.csv")
    with pytest.raises(ConfigError, match=r"site 'Turku', which .* has too; allowed is each site once"):
        merge(kit, [works["Turku"] / "site.json", works["all"] / "site.json"])
    (tmp_path / "other.json").write_text('{"kit": "x", "format": 1}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"other\.json: found no file of this kit; allowed is what `imaging site-kit"):
        merge(kit, [tmp_path / "other.json"])
    shutil.copytree(place / "kit", tmp_path / "older")
    subprocess.run(["chmod", "-R", "u+w", tmp_path / "older"], check=True)
    told = (place / "kit" / "kit.json").read_text("utf-8")
    (tmp_path / "older" / "kit.json").write_text(told.replace(kit.code, "0" * 64), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"found a kit of sitewise-imaging .*, code 000000000000; allowed is one of the"
    ):
        read_kit(tmp_path / "older")


def test_an_answer_comes_back_from_its_file_as_it_was(place: Path, tmp_path: Path) -> None:
    predictor = load_predictor(load_package(place / "networks" / "own"))
    image = first_image(read_manifest(place / "Turku.csv")[0], predictor.recipe)
    said = predictor.predict(image)
    write_answer(tmp_path / "a.npz", said)
    again = read_answer(tmp_path / "a.npz", image)
    assert not isinstance(again, str)
    assert (again.probabilities == said.probabilities).all()
    assert (again.grid.affine == said.grid.affine).all()
    assert (again.region, again.ref, again.classes, again.presence) == (
        said.region,
        said.ref,
        said.classes,
        said.presence,
    )
    write_answer(tmp_path / "b.npz", "no_signal")
    assert read_answer(tmp_path / "b.npz", None) == "no_signal"


def test_answers_of_volumes_and_detectors_come_back_too(tmp_path: Path) -> None:
    """The references are those of the image that is read beside them; nothing of them is in the file."""
    refs = tuple(SourceRef("1.2.3", "1.2.4", "1.2.5", f"1.2.6.{k}") for k in range(2))
    affine = np.array([[0, 0, 0.5, 1], [0, 0.5, 0, 2], [3, 0, 0, 4], [0, 0, 0, 1]])
    grid = Grid((2, 3, 4), affine, "patient_ras")
    image = Image(np.zeros((1, 2, 3, 4)), grid, grid, refs, Origin())
    chances = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)
    volume = Prediction(chances, grid, grid, refs[0], slices=refs, within=chances[0] > 0.5)
    write_answer(tmp_path / "v.npz", volume)
    again = read_answer(tmp_path / "v.npz", image)
    assert isinstance(again, Prediction)
    assert again.within is not None
    assert (again.probabilities == chances).all()
    assert (again.within == volume.within).all()
    assert (again.slices, again.ref, again.grid.frame) == (refs, refs[0], "patient_ras")
    plane = Grid.plane(30, 40, 0.1, 0.2, "mm")
    film = Image(np.zeros((1, 30, 40)), plane, plane, refs[:1], Origin())
    boxes = Detections(
        np.array([[1.5, 2, 3, 4.25]]),
        np.array([0.75]),
        np.array([1]),
        plane,
        plane,
        refs[0],
        Box(low=(0, 0), high=(9, 8)),
    )
    write_answer(tmp_path / "d.npz", boxes)
    found = read_answer(tmp_path / "d.npz", film)
    assert isinstance(found, Detections)
    assert (found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()) == ([[1.5, 2, 3, 4.25]], [0.75], [1])
    assert (found.region, found.grid.spacing, found.grid.unit) == (boxes.region, plane.spacing, "mm")
    assert not any(b"1.2.6" in held for _, held in contents(tmp_path))
    with pytest.raises(InputError, match=r"answer d\.npz: its image cannot be read any more"):
        read_answer(tmp_path / "d.npz", None)
    with pytest.raises(InputError, match=r"answer gone\.npz: cannot be read"):
        read_answer(tmp_path / "gone.npz", film)
