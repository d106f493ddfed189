"""What a hospital does with a site kit: prepared cases → answers → outcomes → one file to hand back; and their merging.

What is written holds numbers of cases, reason codes, scanners and protocols, and no name, identifier or path.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from imaging.benchmark.answers import Answer, read_answer, write_answer
from imaging.benchmark.jobs import content_of, write_whole
from imaging.benchmark.kit import KitFolder, KitNetwork, SiteKit
from imaging.benchmark.outcome_files import read_trials, trials_as_text, trials_from
from imaging.benchmark.outcomes import answered, unanswered
from imaging.benchmark.panels import LEAVE_ONE_SITE_OUT
from imaging.benchmark.record import BenchmarkResult
from imaging.benchmark.results import summarise
from imaging.benchmark.site_cases import read_json, refusal
from imaging.benchmark.trials import CaseOutcome, Trial
from imaging.data.dataset import first_image
from imaging.data.manifest import Case
from imaging.data.truth import read_values
from imaging.errors import ImagingError
from imaging.evaluation.result import SUPPRESSED_BELOW
from imaging.image import Image
from imaging.package import load_package
from imaging.predictor import Predictor, load_predictor
from imaging.table import likened

CHECK: Final = "check.json"
ANSWERS: Final = "answers"
TRIALS: Final = "outcomes.json"
HANDED_BACK: Final = "site.json"
_FORMAT: Final = 1

Say = Callable[[int, int], None]


def check(held: KitFolder, cases: Sequence[Case], out: Path, say: Say) -> dict[str, str]:
    """Reads every image and truth as each network would; the reason of every case that cannot be used, by its id.

    check.json has them with counts of cases, labels and scanners; of fewer than five patients a count is null.
    """
    faults: dict[str, str] = {}
    scanners: dict[str, str] = {}
    predictors = (_predictor(held, network) for network in held.kit.networks)
    recipes = {one.package.description.recipe.identity: one for one in predictors}
    for number, case in enumerate(cases, start=1):
        for predictor in recipes.values():
            image, reason = _image(predictor, case)
            if image is not None:
                scanners[case.case_id] = image.origin.scanner
                reason = _truth_fault(case, image)
            if reason:
                faults[case.case_id] = reason
        say(number, len(cases))
    told = {
        "cases": len(cases),
        "patients": len({case.patient_id for case in cases}),
        "with_truth": sum(case.truth is not None for case in cases),
        "labels": _patients_by(cases, lambda case: case.label),
        "scanners": _patients_by(cases, lambda case: scanners.get(case.case_id, "")),
        "faults": faults,
    }
    write_whole(out / CHECK, json.dumps(told, indent=1, sort_keys=True) + "\n")
    return faults


def infer(held: KitFolder, cases: Sequence[Case], out: Path, say: Say) -> None:
    """answers/ARM.SEED.PACKAGE/CASE.CONTENT.npz of every network and case; what is there stays."""
    done, total = 0, len(held.kit.networks) * len(cases)
    for network in held.kit.networks:
        predictor = _predictor(held, network)
        for case in cases:
            path = _answer(out, network, case)
            if not path.is_file():
                image, reason = _image(predictor, case)
                write_answer(path, reason if image is None else _said(predictor, image))
            done += 1
            say(done, total)


def evaluate(held: KitFolder, cases: Sequence[Case], answers: Path, out: Path, say: Say) -> list[Trial]:
    """outcomes.json: what each network's answers come to beside the truth."""
    trials: list[Trial] = []
    for number, network in enumerate(held.kit.networks, start=1):
        predictor = _predictor(held, network)
        outcomes: dict[str, list[CaseOutcome]] = defaultdict(list)
        for done, case in enumerate(cases, start=1):
            outcomes[case.site].append(_outcome(predictor, network, case, _answer(answers, network, case)))
            say((number - 1) * len(cases) + done, len(held.kit.networks) * len(cases))
        trials += [_trial(network, site, of_site) for site, of_site in sorted(outcomes.items())]
    write_whole(out / TRIALS, trials_as_text(trials))
    return trials


def statistics(kit: SiteKit, work: Path, out: Path) -> BenchmarkResult:
    """site.json, the one file to hand back, from outcomes.json; and its figures.

    Labels, scanners and protocols of fewer than five patients have no name in it. Raises ConfigError for outcomes of
    another kit, and for a site of fewer than five patients: nothing of it is handed back.
    """
    stated = work / TRIALS
    if not stated.is_file():
        raise refusal(str(stated), "no such file", "a folder of `imaging site-kit evaluate`")
    trials = [_without_rare(trial) for trial in read_trials(stated)]
    for site in {trial.test_site for trial in trials}:
        own = sorted((trial.arm, trial.seed, trial.job) for trial in trials if trial.test_site == site)
        if own != sorted((one.arm, one.seed, one.package) for one in kit.networks):
            raise refusal(str(stated), f"outcomes of other networks at '{site}'", "those of every network of the kit")
    for trial in trials:
        if (n := len({one.patient_id for one in trial.outcomes})) < SUPPRESSED_BELOW:
            raise refusal(f"site '{trial.test_site}'", f"{n} patients", f"{SUPPRESSED_BELOW} or more to hand back")
    handed = {"format": _FORMAT, "kit": kit.identity, "trials": json.loads(trials_as_text(trials))}
    write_whole(out / HANDED_BACK, json.dumps(handed, indent=1, sort_keys=True) + "\n")
    return summarise(kit.facts, trials)


def merge(kit: SiteKit, files: Sequence[Path]) -> BenchmarkResult:
    """The results of several hospitals as one: exactly those of one run over all cases.

    Raises ConfigError for a file of another kit, and for a site that stands in two.
    """
    trials: list[Trial] = []
    owner: dict[str, Path] = {}
    for path in files:
        handed = read_json(path, "statistics")
        if not isinstance(handed, dict) or handed.get("kit") != kit.identity or handed.get("format") != _FORMAT:
            raise refusal(str(path), "no file of this kit", "what `imaging site-kit statistics` handed back for it")
        own = trials_from(handed["trials"])
        for site in {trial.test_site for trial in own}:
            if owner.setdefault(likened(site), path) != path:
                raise refusal(str(path), f"site '{site}', which {owner[likened(site)]} has too", "each site once")
        trials += own
    return summarise(kit.facts, trials)


def _predictor(held: KitFolder, network: KitNetwork) -> Predictor:
    """The network, if it is the one that the kit was made with. Raises ConfigError otherwise."""
    package = load_package(held.package(network))
    if package.identity != network.package:
        raise refusal(f"package {network.name}", f"identity {package.identity}", network.package)
    return load_predictor(package)


def _answer(answers: Path, network: KitNetwork, case: Case) -> Path:
    """Where the answer lies: another network or other files of the case never find it."""
    folder = answers / ANSWERS / f"{network.name}.{network.package[:12]}"
    return folder / f"{quote(case.case_id, safe='')}.{content_of(case)[:12]}.npz"


def _image(predictor: Predictor, case: Case) -> tuple[Image | None, str]:
    """What a network reads of a case, or why it reads nothing."""
    try:
        return first_image(case, predictor.recipe), ""
    except ImagingError as error:
        return None, str(error.reason)


def _truth_fault(case: Case, image: Image) -> str:
    """Why the truth of a case cannot be used; empty where it can, or where there is none."""
    try:
        if case.truth is not None:
            read_values(case.truth, image)
    except ImagingError as error:
        return str(error.reason)
    return ""


def _said(predictor: Predictor, image: Image) -> Answer | str:
    try:
        return predictor.predict(image)
    except ImagingError as error:
        return str(error.reason)


def _outcome(predictor: Predictor, network: KitNetwork, case: Case, path: Path) -> CaseOutcome:
    if not path.is_file():
        raise refusal(f"case {case.case_id}", f"no answer of {network.name}", "an answer by `imaging site-kit infer`")
    image, _ = _image(predictor, case)
    answer = read_answer(path, image)
    if image is None or isinstance(answer, str):
        return unanswered(predictor, case, image, str(answer))
    threshold = predictor.package.description.threshold
    return answered(predictor, case, (image, answer), threshold, network.operating_point)


def _trial(network: KitNetwork, site: str, outcomes: Sequence[CaseOutcome]) -> Trial:
    return Trial(
        job=network.package,
        arm=network.arm,
        design=LEAVE_ONE_SITE_OUT,
        test_site=site,
        train_sites=network.train_sites,
        seed=network.seed,
        outcomes=tuple(outcomes),
    )


def _without_rare(trial: Trial) -> Trial:
    """The trial without the names of labels, scanners and protocols that fewer than five patients have."""
    outcomes = trial.outcomes
    for name in ("label", "scanner", "protocol"):
        nameless: dict[str, Any] = {name: ""}
        patients: dict[str, set[str]] = defaultdict(set)
        for one in outcomes:
            patients[getattr(one, name)].add(one.patient_id)
        outcomes = tuple(
            one if len(patients[getattr(one, name)]) >= SUPPRESSED_BELOW else replace(one, **nameless)
            for one in outcomes
        )
    return replace(trial, outcomes=outcomes)


def _patients_by(cases: Sequence[Case], value: Callable[[Case], str]) -> dict[str, int | None]:
    """Patients of each value; of values that fewer than five have, together, without their names."""
    patients: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        patients[value(case)].add(case.patient_id)
    shown: dict[str, int | None] = {
        name: len(of) for name, of in sorted(patients.items()) if len(of) >= SUPPRESSED_BELOW
    }
    return shown | ({f"fewer than {SUPPRESSED_BELOW} patients": None} if len(shown) < len(patients) else {})
