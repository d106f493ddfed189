"""From a spec and its cases to trainings and tests: what is refused, who stands on which side, and what is shared."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from imaging.benchmark.cohort import Cohort, SharedPicture, divided, first_cases, folds_of, group_cases, in_turn
from imaging.benchmark.designs import PlannedTrial, held_out_of, left_out, plan, trainings_of
from imaging.benchmark.spec import Arm, BenchmarkSpec, Design, DesignKind, configuration, merged, read_spec
from imaging.benchmark.summary import refuse_endpoints
from imaging.data.manifest import Case, read_manifest
from imaging.errors import ConfigError
from tests.conftest import REPOSITORY

SPEC: dict[str, Any] = {
    "name": "tiny",
    "manifest": "manifest.csv",
    "task": ["task.yaml"],
    "recipe": "recipe.yaml",
    "card": "card.yaml",
    "arms": [{"name": "own"}, {"name": "strong", "augmentation": {"gain": 0.5}}],
    "designs": ["leave_one_site_out"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("manifest.csv", "card.yaml"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    task = {
        "model": {"class_path": "A", "init_args": {"network": {"kind": "k", "features": [4]}, "learning_rate": 0.1}}
    }
    recipe = {"data": {"recipe": {"class_path": "R", "init_args": {"side": 32}}}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path


def stated(folder: Path, **changed: Any) -> BenchmarkSpec:
    told = {key: value for key, value in {**SPEC, **changed}.items() if value is not None}
    (folder / "spec.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return read_spec(folder / "spec.yaml")


# ---------------------------------------------------------------------------------------------------------------- spec


def test_a_spec_has_its_defaults_and_absolute_files(folder: Path) -> None:
    spec = stated(folder, designs=["leave_one_site_out", {"in_domain": {"folds": 3}}])
    assert spec.manifest == str(folder / "manifest.csv")
    assert (spec.seeds, spec.selection, spec.compared_with, spec.endpoints.primary) == (
        [1, 2, 3],
        "train_val",
        "own",
        "dice",
    )
    assert [(one.kind, one.folds) for one in spec.designs] == [("leave_one_site_out", 5), ("in_domain", 3)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"desings": []}, "desings: found an unknown key; allowed is name, manifest, task"),
        ({"card": None}, "the following arguments are required: card"),
        (
            {"arms": [{"name": "own", "augmentations": {}}]},
            r"arms\[0\].augmentations: found an unknown key; allowed is name",
        ),
        (
            {"arms": [{"name": "own"}, {"name": "own"}]},
            r"arms.name: found \['own', 'own'\]; allowed is one or more, each",
        ),
        ({"arms": [{"name": "a/b"}]}, "arms.name: found a/b; allowed is letters, digits"),
        (
            {"designs": ["leave_two_out"]},
            "designs: found leave_two_out; allowed is one of leave_one_site_out, train_test",
        ),
        (
            {"designs": [{"consensus": {"folds": 3}}]},
            "designs.consensus.folds: found an unknown key; allowed is no key",
        ),
        ({"designs": [{"in_domain": {"folds": 1}}]}, "designs.in_domain.folds: found 1; allowed is 2 or more"),
        ({"seeds": [1, 1]}, r"seeds: found \[1, 1\]; allowed is one or more, each once"),
        ({"reference": "none"}, "reference: found none; allowed is one of own, strong"),
        ({"selection": "oracle"}, "selection: found oracle; allowed is train_val or leave_one_domain_out: no headline"),
        ({"validation": 0}, "validation: found 0"),
        (
            {"data": {"test_sites": ["a"]}},
            "data.test_sites: found .*; allowed is none: recipe, arms, seeds and designs",
        ),
        ({"manifest": "other.csv"}, "manifest: found .*other.csv; allowed is a file that is there"),
        ({"seeds": "one"}, "seeds"),
    ],
)
def test_a_wrong_spec_is_refused_by_its_key(folder: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        stated(folder, **changed)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs/benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_spec_is_one(path: Path, folder: Path) -> None:
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    files = {key: str(path.parent / told[key]) for key in ("recipe", "card")}
    files |= {"manifest": str(folder / "manifest.csv"), "task": [str(path.parent / one) for one in told["task"]]}
    arms = [{**arm, "config": [str(path.parent / one) for one in arm.get("config", [])]} for arm in told["arms"]]
    (folder / "ready.yaml").write_text(yaml.safe_dump({**told, **files, "arms": arms}), encoding="utf-8")
    spec = read_spec(folder / "ready.yaml")
    refuse_endpoints(spec)
    for arm in spec.arms:
        assert configuration(spec, arm)["data"]["recipe"]["class_path"].startswith("imaging.modalities.")


def test_an_arm_changes_what_it_names_and_nothing_else(folder: Path) -> None:
    arm = {"name": "n", "recipe": {"low": 5.0}, "network": {"features": [8]}, "task": {"learning_rate": 0.2}}
    spec = stated(folder, arms=[{"name": "own"}, arm], trainer={"max_epochs": 3})
    own, changed = (configuration(spec, one) for one in spec.arms)
    assert own["data"]["recipe"]["init_args"] == {"side": 32}
    assert changed["data"]["recipe"]["init_args"] == {"side": 32, "low": 5.0}
    assert changed["model"]["init_args"] == {"network": {"kind": "k", "features": [8]}, "learning_rate": 0.2}
    assert own["trainer"] == changed["trainer"] == {"max_epochs": 3}


def test_another_class_takes_no_settings_of_the_first() -> None:
    first, other = {"class_path": "A", "init_args": {"x": 1}}, {"class_path": "B", "init_args": {"y": 2}}
    assert merged({"model": first}, {"model": other}) == {"model": other}
    assert merged({"model": first}, {"model": {"init_args": {"y": 2}}})["model"]["init_args"] == {"x": 1, "y": 2}


# -------------------------------------------------------------------------------------------------------------- cohort


def case(name: str, patient: str, site: str, label: str = "benign") -> Case:
    return Case(name, patient, site, "train", Path(f"/x/{name}.png"), Path(f"/x/{name}-truth.png"), label)


def hospital(site: str, patients: int, each: int = 2, labels: tuple[str, ...] = ("benign", "malignant")) -> list[Case]:
    return [
        case(f"{site}-{p:02d}-{k}", f"{site}-p{p:02d}", site, labels[p % len(labels)])
        for p in range(patients)
        for k in range(each)
    ]


def cohort_of(*sites: list[Case]) -> Cohort:
    return group_cases([one for site in sites for one in site], [], "refuse")[0]


def test_pictures_shared_inside_a_site_join_their_patients() -> None:
    cases = hospital("a", 4)
    cohort, remarks = group_cases(cases, [SharedPicture("near", "a-00-0", "a-03-1")], "refuse")
    assert [one.case_id for one in cohort.units[0].cases] == ["a-00-0", "a-00-1", "a-03-0", "a-03-1"]
    assert len(cohort.units) == 3
    assert remarks == ["case 'a-00-0' of site 'a' and case 'a-03-1' of site 'a': near pictures; they stay on one side"]


@pytest.mark.parametrize("kind", ["picture", "patient"])
def test_what_two_sites_share_is_refused_with_both_files_or_grouped(kind: str) -> None:
    cases = [*hospital("a", 4), *hospital("b", 4)]
    shared = [SharedPicture("identical", "a-00-0", "b-01-0")] if kind == "picture" else []
    if kind == "patient":
        cases = [replace(one, patient_id="a-p00") if one.patient_id == "b-p01" else one for one in cases]
    with pytest.raises(ConfigError, match=r"first case 'a-00-0' of site 'a' \(/x/a-00-0.png\) and case 'b-01-0'"):
        group_cases(cases, shared, "refuse")
    cohort, _ = group_cases(cases, shared, "group")
    joined = next(unit for unit in cohort.units if unit.sites == {"a", "b"})
    assert len(joined.cases) == 4
    for sites in (["a"], ["b"]):
        assert joined not in cohort.learnt_from(sites)
    assert joined in cohort.learnt_from(["a", "b"])


def test_folds_hold_whole_patients_and_as_many_of_each_label() -> None:
    cohort = cohort_of(hospital("a", 20), hospital("b", 10))
    fold_of = folds_of(cohort, 5)
    for site, each in (("a", 2), ("b", 1)):
        counts = Counter((fold_of[unit.name], unit.stratum) for unit in cohort.at(site))
        assert counts == {(fold, label): each for fold in range(5) for label in ("benign", "malignant")}
    with pytest.raises(ConfigError, match="designs, folds: found 11, and 10 patients at site 'b'"):
        folds_of(cohort, 11)


def test_draws_do_not_depend_on_the_order_of_the_table() -> None:
    cases = [*hospital("a", 9), *hospital("b", 7)]
    forth, back = cohort_of(cases), cohort_of(cases[::-1])
    assert folds_of(forth, 3) == folds_of(back, 3)
    assert divided(forth.units, 0.3) == divided(back.units, 0.3)
    assert in_turn(forth.units) == in_turn(back.units)


def test_validation_is_drawn_from_every_site_that_can_spare_a_patient() -> None:
    cohort = cohort_of(hospital("a", 10), hospital("b", 3), hospital("c", 1))
    train, val = divided(cohort.units, 0.2)
    assert Counter(min(unit.sites) for unit in val) == {"a": 2, "b": 1}
    assert not {unit.name for unit in train} & {unit.name for unit in val}
    assert len(train) + len(val) == 14


def test_cases_without_anything_to_find_never_validate_alone() -> None:
    """Of three patients a share of 0.2 draws none; the one that is taken has something where two have."""
    units = cohort_of(hospital("a", 3, labels=("normal", "normal", "benign"))).units
    assert divided(units, 0.2)[1][0].stratum == "normal"
    assert divided(units, 0.2, frozenset({"normal"}))[1] == []
    units = cohort_of(hospital("a", 4, labels=("normal", "benign"))).units
    for share in (0.2, 0.4, 0.6):
        assert any(unit.stratum == "benign" for unit in divided(units, share, frozenset({"normal"}))[1])


def test_the_first_local_cases_are_among_more_of_them_and_of_every_label() -> None:
    order = in_turn(cohort_of(hospital("a", 12)).units)
    four, eight = first_cases(order, 4), first_cases(order, 8)
    assert four == eight[:2]
    assert {unit.stratum for unit in four} == {"benign", "malignant"}
    assert first_cases(order, 0) == first_cases(order, 25) == []


# ------------------------------------------------------------------------------------------------------------- designs


def asked(*designs: Design, selection: str = "train_val") -> BenchmarkSpec:
    return BenchmarkSpec(
        "t",
        "m",
        ["t"],
        "r",
        "c",
        [Arm("own")],
        list(designs),
        seeds=[1],
        selection=selection,  # type: ignore[arg-type]
    )


def sides(trial: PlannedTrial) -> tuple[set[str], set[str]]:
    """Cases that any network of the trial met in training or validation, and those that it is tested on."""
    met = {name for one in trial.held_out.trainings for name in (*one.train, *one.val)}
    for one in trial.held_out.trainings:
        met |= {*one.start.train, *one.start.val} if one.start else set()
    return met | set(trial.held_out.chosen_on), set(trial.held_out.cases)


ALL: list[DesignKind] = [
    "leave_one_site_out", "train_test_matrix", "in_domain", "local_only", "pooled", "consensus", "learning_curve",
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shared", [False, True], ids=["apart", "a patient at two sites"])
def test_no_patient_stands_on_both_sides_of_any_trial(kind: DesignKind, shared: bool) -> None:
    pairs = [SharedPicture("near", "a-00-0", "b-01-0"), SharedPicture("near", "a-02-0", "a-03-0")] if shared else []
    cases = [*hospital("a", 9), *hospital("b", 7), *hospital("c", 6)]
    cohort, _ = group_cases(cases, pairs, "group")
    unit_of = {one.case_id: unit.name for unit in cohort.units for one in unit.cases}
    trials = plan(asked(Design(kind, folds=3, cases=[0, 4, 6])), cohort)
    assert trials
    for trial in trials:
        met, tested = sides(trial)
        assert tested
        assert not {unit_of[name] for name in met} & {unit_of[name] for name in tested}
        assert {cohort.cases[name].site for name in tested} == {trial.test_site}
        if not trial.in_domain and not trial.sees_target:
            assert {cohort.cases[name].site for name in met} == set(trial.train_sites)


def test_leave_one_site_out_tests_every_case_once_on_networks_of_all_others() -> None:
    trials = plan(asked(Design("leave_one_site_out")), cohort_of(hospital("a", 4), hospital("b", 4), hospital("c", 4)))
    assert [(one.test_site, one.train_sites) for one in trials] == [
        ("a", ("b", "c")),
        ("b", ("a", "c")),
        ("c", ("a", "b")),
    ]
    assert [len(one.held_out.cases) for one in trials] == [8, 8, 8]


def test_folds_test_every_case_of_a_site_once() -> None:
    trials = plan(asked(Design("in_domain", folds=3)), cohort_of(hospital("a", 7), hospital("b", 5)))
    tested = Counter(name for one in trials for name in one.held_out.cases)
    assert set(tested.values()) == {1}
    assert len(tested) == 24
    assert all(one.in_domain for one in trials)


def test_designs_share_the_trainings_that_are_equal() -> None:
    """Matrix and in-domain need 2 sites x 3 folds; of two sites the other one is all that leaving one out learns."""
    cohort = cohort_of(hospital("a", 6), hospital("b", 6))
    kinds = (Design("train_test_matrix", folds=3), Design("in_domain", folds=3), Design("local_only", folds=3))
    assert len(trainings_of(plan(asked(*kinds), cohort))) == 6
    assert len(held_out_of(plan(asked(*kinds), cohort))) == 12
    three = cohort_of(hospital("a", 6), hospital("b", 6), hospital("c", 6))
    inner = plan(asked(Design("leave_one_site_out"), Design("consensus"), selection="leave_one_domain_out"), three)
    assert len(trainings_of(inner)) == 3 + 3  # three of two sites, three of one, which also choose and agree
    assert [len(one.inner) for one in inner] == [2, 2, 2, 0, 0, 0]


def test_a_learning_curve_tests_one_half_whatever_it_learns_of_the_other() -> None:
    cohort = cohort_of(hospital("a", 12), hospital("b", 12))
    trials = plan(asked(Design("learning_curve", cases=[0, 4, 8, 500])), cohort)
    of_a = [one for one in trials if one.test_site == "a"]
    assert {one.held_out.cases for one in of_a} == {of_a[0].held_out.cases}
    assert len(of_a[0].held_out.cases) == 12
    told = [(one.design.partition(":")[2], one.local_cases, one.sees_target) for one in of_a]
    assert told == [
        ("fine_tune", 0, False), ("recalibrate", 0, False), ("fine_tune", 4, True), ("recalibrate", 4, True),
        ("fine_tune", 8, True), ("recalibrate", 8, True),
    ]  # fmt: skip
    told_apart = left_out(asked(Design("learning_curve", cases=[0, 500])), trials)
    for site, told_of_it in zip("ab", told_apart, strict=True):
        assert told_of_it.startswith(f"learning_curve: half of site '{site}' holds too few")
        assert "the points 500, which" in told_of_it
    base, tuned, chosen = of_a[0].held_out, of_a[2].held_out, of_a[3].held_out
    assert tuned.trainings[0].start == chosen.trainings[0] == base.trainings[0]
    assert len(tuned.trainings[0].train) + len(tuned.trainings[0].val) == len(chosen.chosen_on) == 4


def test_sites_that_are_too_few_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"designs.leave_one_site_out: found cases of 1 sites, a; allowed are 2"):
        plan(asked(Design("leave_one_site_out")), cohort_of(hospital("a", 4)))
    with pytest.raises(ConfigError, match=r"designs.consensus: found cases of 2 sites, a, b; allowed are 3"):
        plan(asked(Design("consensus")), cohort_of(hospital("a", 4), hospital("b", 4)))
    with pytest.raises(ConfigError, match=r"own/a/1: found no case to validate on at the sites b"):
        plan(asked(Design("leave_one_site_out")), cohort_of(hospital("a", 4), hospital("b", 1)))


def test_a_table_without_splits_serves(tmp_path: Path) -> None:
    (tmp_path / "i.png").write_bytes(b"")
    (tmp_path / "m.csv").write_text("case_id,patient_id,site,image,truth\n1,p,a,i.png,i.png\n", encoding="utf-8")
    assert [one.split for one in read_manifest(tmp_path / "m.csv", needs_split=False)] == ["train"]
    with pytest.raises(ConfigError, match="split"):
        read_manifest(tmp_path / "m.csv")
