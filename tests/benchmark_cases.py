"""Simulated trials of a benchmark: scores drawn with patients, images, networks and sites that vary, and no images.

Everything here is synthetic. Dice of an image = quality of its site + patient + image + what each network happens to
make of the site, of the patient and of the image. A null benchmark gives every arm the same quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit

from imaging.benchmark.probe import ProbeCases
from imaging.benchmark.trials import CaseOutcome, Mark, Trial

SITES = ("Aarhus", "Sainte-Odile", "Turku", "Zagreb")
ARMS = ("own recipe", "z-score", "strong augmentation", "random convolutions")
SCANNERS = {"Aarhus": ("Aurora E9", "Aurora E7"), "Sainte-Odile": ("Boreal S2",), "Turku": ("Cirrus 70", "Aurora E9"),
            "Zagreb": ("Delta X",)}  # fmt: skip


@dataclass(frozen=True)
class Simulated:
    """Standard deviations of what varies, in Dice; and what an arm adds to the quality at a site that is held out."""

    n_sites: int = 3
    n_patients: tuple[int, int] = (40, 100)
    n_images: tuple[int, int] = (1, 4)
    n_seeds: int = 3
    arms: tuple[str, ...] = ARMS
    effect: Mapping[str, float] = field(default_factory=dict)
    between_sites: float = 0.06
    between_patients: float = 0.12
    between_images: float = 0.08
    between_trainings: float = 0.02  # of one arm at one site
    patient_by_arm: float = 0.06  # what an arm makes of a patient, whatever the seed; 0 on average
    patient_by_training: float = 0.05
    image_by_training: float = 0.06
    away: float = -0.12  # what a site that was not seen costs
    share_empty: float = 0.25

    def cohorts(self, rng: np.random.Generator) -> dict[str, list[CaseOutcome]]:
        """The cases of each site, without outcomes."""
        found: dict[str, list[CaseOutcome]] = {}
        for site in SITES[: self.n_sites]:
            found[site] = []
            for patient in range(int(rng.integers(self.n_patients[0], self.n_patients[1] + 1))):
                empty = rng.random() < self.share_empty
                positive = bool(not empty and rng.random() < 0.4)
                label = "normal" if empty else "malignant" if positive else "benign"
                scanner = str(rng.choice(SCANNERS[site]))
                for image in range(int(rng.integers(self.n_images[0], self.n_images[1] + 1))):
                    name, protocol = f"{site[:2]}-{patient:03}-{image}", "high" if patient % 3 else "low"
                    found[site].append(CaseOutcome(name, f"{site[:2]}-{patient:03}", site, scanner, protocol, label,
                                                   int(not empty), positive=positive))  # fmt: skip
        return found

    def held_out(self, rng: np.random.Generator) -> list[Trial]:
        """Each site left out once, under every arm and seed."""
        cohorts = self.cohorts(rng)
        trials = []
        for site, cases in cohorts.items():
            quality = self.qualities(rng, cases, 0.72 + self.away)
            others = tuple(other for other in cohorts if other != site)
            for arm in self.arms:
                of_arm = quality + self.effect.get(arm, 0.0) + self.of_patients(rng, cases, self.patient_by_arm)
                for seed in range(self.n_seeds):
                    outcomes = self.outcomes(rng, cases, of_arm)
                    trials.append(
                        Trial(f"{arm}/{site}/{seed}", arm, "leave_one_site_out", site, others, seed, outcomes=outcomes)
                    )
        return trials

    def whole(self, rng: np.random.Generator) -> list[Trial]:
        """A benchmark of every design, with two lost trainings, failed cases and an arm that sees its target."""
        cohorts = self.cohorts(rng)
        trials: list[Trial] = []
        for site, cases in cohorts.items():
            away, home = self.qualities(rng, cases, 0.72 + self.away), self.qualities(rng, cases, 0.72)
            others = tuple(other for other in cohorts if other != site)
            for k, arm in enumerate(self.arms):
                gain = self.effect.get(arm, 0.0)
                for seed in range(self.n_seeds):
                    seen = {"train_val": 0.7 + 0.01 * k, "leave_one_domain_out": 0.6 + gain + 0.002 * k}
                    trials.append(Trial(f"{arm}/{site}/{seed}", arm, "leave_one_site_out", site, others, seed,
                                        sees_target=arm == "adapting", chosen_by=seen,
                                        outcomes=self.outcomes(rng, cases, away + gain)))  # fmt: skip
                    trials += self.folds(rng, cases, home, arm, seed)
                    if k == 0:
                        trials += self.matrix(rng, cases, away - 0.05, others, seed)
                        trials += self.learning(rng, cases, away, others, seed)
        return [self.damaged(trial) for trial in trials]

    def folds(self, rng: np.random.Generator, cases: list[CaseOutcome], home: np.ndarray, arm: str, seed: int,
              n_folds: int = 3) -> list[Trial]:  # fmt: skip
        """The in-domain reference: patients of a site in folds."""
        found, site = [], cases[0].site
        for fold in range(n_folds):
            rows = [k for k, case in enumerate(cases) if int(case.patient_id[-3:]) % n_folds == fold]
            outcomes = self.outcomes(rng, [cases[k] for k in rows], home[rows])
            found.append(Trial(f"home {arm}/{site}/{seed}/{fold}", arm, "in_domain", site, (site,), seed, fold,
                               in_domain=True, outcomes=outcomes))  # fmt: skip
        return found

    def matrix(self, rng: np.random.Generator, cases: list[CaseOutcome], away: np.ndarray, others: tuple[str, ...],
               seed: int) -> list[Trial]:  # fmt: skip
        """Each other site alone as the training set."""
        arm, site = self.arms[0], cases[0].site
        return [
            Trial(f"matrix {source}/{seed}", arm, "train_test_matrix", site, (source,), seed,
                  outcomes=self.outcomes(rng, cases, away)) for source in others
        ]  # fmt: skip

    def learning(self, rng: np.random.Generator, cases: list[CaseOutcome], away: np.ndarray, others: tuple[str, ...],
                 seed: int) -> list[Trial]:  # fmt: skip
        """Some local cases learnt from."""
        arm, site = self.arms[0], cases[0].site
        return [
            Trial(f"local {site}/{seed}/{n}", arm, "learning_curve", site, others, seed, local_cases=n,
                  sees_target=n > 0, outcomes=self.outcomes(rng, cases, away + 0.1 * n / (n + 15)))
            for n in (0, 5, 10, 20)
        ]  # fmt: skip

    def damaged(self, trial: Trial) -> Trial:
        """Two trials are lost for good, and one network gives no answer for two cases."""
        if (trial.arm, trial.seed, trial.test_site, trial.design) == (self.arms[-1], 2, SITES[0], "leave_one_site_out"):
            return replace(trial, outcomes=(), lost="out of memory at epoch 3")
        if trial.job == f"local {SITES[1]}/1/20":
            return replace(trial, outcomes=(), lost="the loss is not finite at step 812")
        if trial.job == f"{self.arms[0]}/{SITES[0]}/0":
            failed = [replace(case, failed="image_unreadable", dice=None, marks=(), score=None, recalled=None)
                      for case in trial.outcomes[:2]]  # fmt: skip
            return replace(trial, outcomes=(*failed, *trial.outcomes[2:]))
        return trial

    def qualities(self, rng: np.random.Generator, cases: list[CaseOutcome], mean: float) -> np.ndarray:
        """What each case (case,) is like for any network."""
        site = rng.normal(mean, self.between_sites)
        of_patient = self.of_patients(rng, cases, self.between_patients)
        return site + of_patient + rng.normal(0, self.between_images, len(cases))

    def of_patients(self, rng: np.random.Generator, cases: list[CaseOutcome], deviation: float) -> np.ndarray:
        """One draw for each patient, at each of his cases (case,)."""
        patient = np.unique([case.patient_id for case in cases], return_inverse=True)[1]
        return rng.normal(0, deviation, patient.max() + 1)[patient]

    def outcomes(
        self, rng: np.random.Generator, cases: list[CaseOutcome], quality: np.ndarray
    ) -> tuple[CaseOutcome, ...]:
        """What one network gives on these cases."""
        luck = rng.normal(0, self.between_trainings) + self.of_patients(rng, cases, self.patient_by_training)
        dice = np.clip(quality + luck + rng.normal(0, self.image_by_training, len(cases)), 0, 1)
        return _outcomes(rng, cases, dice)


def _outcomes(rng: np.random.Generator, cases: list[CaseOutcome], dice: np.ndarray) -> tuple[CaseOutcome, ...]:
    """Marks, score and call that go with the Dice of each case (case,)."""
    n = len(cases)
    positive, lesions = np.array([bool(c.positive) for c in cases]), np.array([c.lesions > 0 for c in cases])
    score = expit(rng.normal(2.2 * positive - 1.3 + 2 * (dice - 0.6)))
    hit = np.clip(dice + rng.normal(0, 0.1, n), 0.05, 1)
    wrong = rng.random(n) < np.where(lesions, 0.1, 0.15)
    columns = (dice.tolist(), score.tolist(), hit.tolist(), wrong.tolist(), rng.uniform(0.2, 0.7, n).tolist())
    found = []
    for case, overlap, value, mark, claims, claim in zip(cases, *columns, strict=True):
        seen = case.lesions > 0 and overlap > 0.1
        marks = ((Mark(mark, 0),) if seen else ()) + ((Mark(claim),) if claims else ())
        outlined = (overlap if seen else 0.0) if case.lesions else None
        found.append(CaseOutcome(case.case_id, case.patient_id, case.site, case.scanner, case.protocol, case.label,
                                 case.lesions, outlined, marks, value, case.positive, value >= 0.35))  # fmt: skip
    return tuple(found)


def feature_cases(
    rng: np.random.Generator,
    site_shift: float = 0.0,
    label_shift: float = 0.0,
    n_patients: int = 40,
    n_features: int = 16,
) -> ProbeCases:
    """Frozen features of three sites: `site_shift` is what a site's gain adds to a direction, in standard deviations.

    `label_shift` makes the share of malignant patients differ by site, from 0.5 − shift to 0.5 + shift; malignant
    cases lie elsewhere in feature space whatever the site. Patients have one to three images that are alike.
    """
    features, sites, labels, patients = [], [], [], []
    direction = rng.normal(size=n_features) / np.sqrt(n_features)
    for k, site in enumerate(SITES[:3]):
        for patient in range(n_patients):
            malignant = rng.random() < 0.5 + label_shift * (k - 1)
            of_patient = rng.normal(0, 0.7, n_features) + 1.5 * malignant * np.sign(direction)
            for _ in range(int(rng.integers(1, 4))):
                features.append(of_patient + rng.normal(0, 0.7, n_features) + site_shift * (k - 1) * direction * 4)
                sites.append(site)
                labels.append("malignant" if malignant else "benign")
                patients.append(f"{site[:2]}-{patient}")
    return ProbeCases(np.array(features), tuple(sites), tuple(labels), tuple(patients))
