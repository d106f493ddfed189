"""Ready specs of real sets as sites parse with all their files; pseudo-sites are parted by patient."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from benchmarks.pseudo_sites import parted
from imaging.benchmark.spec import BenchmarkSpec, configuration, read_spec
from imaging.benchmark.summary import refuse_endpoints
from imaging.data.manifest import Case, join_manifests, read_manifest
from imaging.data.public import prepare
from imaging.errors import ConfigError
from tests.conftest import REPOSITORY

SPECS = sorted((REPOSITORY / "configs" / "benchmark").glob("*.yaml"))


def read_with_cases(path: Path, folder: Path) -> BenchmarkSpec:
    """A spec of the repository, with an empty table where it names one."""
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    copy = folder / "configs" / "benchmark" / path.name
    manifest = copy.parent / yaml.safe_load(copy.read_text(encoding="utf-8"))["manifest"]
    manifest.resolve().parent.mkdir(parents=True, exist_ok=True)
    manifest.resolve().touch()
    return read_spec(copy)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_ready_spec_parses_with_its_files(path: Path, tmp_path: Path) -> None:
    spec = read_with_cases(path, tmp_path)
    refuse_endpoints(spec)
    assert spec.name == path.stem
    assert len(spec.seeds) >= 3
    for arm in spec.arms:
        told = configuration(spec, arm)
        assert told["model"]["class_path"].startswith("imaging.tasks.")
        assert told["data"]["recipe"]["class_path"].startswith("imaging.modalities.")
        if "amplitude" in str(told["data"].get("vary")):  # an arm that needs more than one training site
            assert spec.designs[0].kind == "leave_one_site_out"


def test_the_breast_spec_compares_four_arms_on_a_small_grid(tmp_path: Path) -> None:
    spec = read_with_cases(REPOSITORY / "configs" / "benchmark" / "breast_ultrasound.yaml", tmp_path)
    assert [arm.name for arm in spec.arms] == ["recipe", "zscore", "strong", "gin"]
    told = configuration(spec, spec.arm("zscore"))["data"]["recipe"]["init_args"]
    assert (told["side"], told["normalisation"]) == (96, {"kind": "zscore"})
    assert configuration(spec, spec.arm("gin"))["data"]["vary"] == {"convolutions": 0.5}


def head(name: str, patient: str, step: float | None) -> Case:
    spacing = None if step is None else (step, step)
    return Case(name, patient, "hc18", "train", Path("a.png"), None, "head", spacing)


def test_pseudo_sites_hold_whole_patients_in_order_of_their_pixels() -> None:
    """Patient b has pixels of 0.1 and 0.4: 0.25 in the mean, which is the second of three patients."""
    cases = [head("1", "c", 0.3), head("2", "b", 0.1), head("3", "b", 0.4), head("4", "a", 0.2)]
    assert [(case.case_id, case.site) for case in parted(cases, 3)] == [
        ("1", "pixels-3-of-3"),
        ("2", "pixels-2-of-3"),
        ("3", "pixels-2-of-3"),
        ("4", "pixels-1-of-3"),
    ]
    with pytest.raises(ConfigError, match="case '5': spacing_mm is empty; allowed is a pixel size"):
        parted([head("5", "d", None)], 3)


@pytest.mark.shared_data
def test_real_sets_become_sites_of_one_table(shared_data: Path, tmp_path: Path) -> None:
    """Whole patients at one site each; frames of BUS-UCLM with Doppler are gone (425 - 24)."""
    ultrasound, mammography = shared_data / "ultrasound", shared_data / "mammography"
    sets = {
        "busi": ultrasound / "busi",
        "bus_uclm": ultrasound / "bus_uclm",
        "mini_mias_mass": mammography / "mini_mias",
        "cbis_ddsm": mammography / "cbis_p00173",
    }
    tables = {name: prepare(name, folder, tmp_path / name) for name, folder in sets.items()}
    breast = join_manifests([tables["busi"], tables["bus_uclm"]])
    assert Counter(case.site for case in breast) == {"busi": 465, "bus_uclm": 401}
    films = join_manifests([tables["mini_mias_mass"], tables["cbis_ddsm"]])
    assert Counter(case.site for case in films)["cbis_ddsm"] == 4
    for cases in (breast, films):
        sites: dict[str, set[str]] = defaultdict(set)
        for case in cases:
            sites[case.patient_id].add(case.site)
        assert all(len(of) == 1 for of in sites.values())
    heads = parted(read_manifest(prepare("hc18", ultrasound / "hc18", tmp_path / "hc18")), 3)
    assert Counter(case.site for case in heads) == {f"pixels-{part}-of-3": n for part, n in ((1, 44), (2, 43), (3, 43))}
