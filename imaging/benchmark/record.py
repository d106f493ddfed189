"""The typed record of a benchmark, JSON in and JSON out at full precision (docs/benchmark.schema.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from imaging.benchmark.checklist import STATED_KEYS, ReportItem
from imaging.benchmark.endpoints import Endpoint, endpoint
from imaging.benchmark.operating import SiteCalibration
from imaging.benchmark.probe import QuantityKept, SiteProbe
from imaging.benchmark.selection import HEADLINE_RULES, ArmSelection
from imaging.benchmark.spread import SiteSpread
from imaging.benchmark.verdict import ArmDifference
from imaging.errors import ConfigError, InputError, Reason
from imaging.evaluation.result import Extreme, Inputs, Subgroup, plain, typed

RESULTS_VERSION = 1


@dataclass(frozen=True)
class BenchmarkFacts:
    """What a benchmark was asked to do, as its specification and artefacts state it.

    `arms` in their order, with the `reference` of the paired comparisons; `primary` is the endpoint of the verdict;
    `margin` the smallest gain that matters, in its unit; `selection` a rule that can be used at a new site; `stated`
    what else is known of task, data and training, by the keys that the checklists cite.
    """

    name: str
    arms: tuple[str, ...]
    reference: str
    primary: str
    others: tuple[str, ...] = ()
    selection: str = "train_val"
    margin: float = 0.0
    synthetic: bool = False
    inputs: Inputs = field(default_factory=Inputs)
    stated: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reference not in self.arms:
            raise ConfigError(
                f"benchmark, reference: found '{self.reference}'; allowed are the arms {list(self.arms)}",
                Reason.CONFIG_INVALID,
            )
        if self.selection not in HEADLINE_RULES:
            raise ConfigError(
                f"benchmark, selection: found '{self.selection}'; allowed are {list(HEADLINE_RULES)}. A headline "
                "never rests on a rule that looks at the held-out site",
                Reason.CONFIG_INVALID,
            )
        unknown = sorted(set(self.stated) - set(STATED_KEYS))
        if unknown:
            raise ConfigError(
                f"benchmark, stated: found {unknown}; allowed are {sorted(STATED_KEYS)}", Reason.CONFIG_INVALID
            )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The primary endpoint first."""
        return tuple(endpoint(name) for name in dict.fromkeys((self.primary, *self.others)))


@dataclass(frozen=True, slots=True)
class LostTrial:
    """A training, or its test, that gave nothing."""

    job: str
    arm: str
    design: str
    test_site: str
    train_sites: tuple[str, ...]
    seed: int
    fold: int | None
    local_cases: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class UnansweredCase:
    """A case that got no answer; it counts as the worst outcome. `n_runs` networks failed on it."""

    arm: str
    design: str
    site: str
    case_id: str
    reason: str
    n_runs: int


@dataclass(frozen=True, slots=True)
class Losses:
    """What is missing: `n_trials` there should be, `n_outcomes` that the others hold."""

    n_trials: int
    n_outcomes: int
    trials: tuple[LostTrial, ...]
    cases: tuple[UnansweredCase, ...]


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """Who a site's test cases are. Counts of patients from 1 to 4 by scanner or protocol are None."""

    site: str
    n_cases: int
    n_patients: int
    n_with_lesion: int
    n_truth: int
    n_positive: int
    prevalence: float | None
    scanners: dict[str, int | None]
    protocols: dict[str, int | None]


@dataclass(frozen=True)
class ArmResult:
    """One arm at sites that its networks had not seen, beside the same sites as its home.

    `sites` and `in_domain` hold figures by site; `deltas` are held out less in domain over the same patients;
    `operating` is what the operating point of the sources gives at each site, whatever the endpoints are.
    """

    arm: str
    sees_target: bool
    n_lost: int
    sites: tuple[Subgroup, ...]
    macro: tuple[Extreme, ...]
    spread: tuple[SiteSpread, ...]
    in_domain: tuple[Subgroup, ...]
    deltas: tuple[ArmDifference, ...]
    calibration: tuple[SiteCalibration, ...]
    operating: tuple[Subgroup, ...]
    subgroups: dict[str, tuple[Subgroup, ...]]


@dataclass(frozen=True)
class DesignCell:
    """One arm trained on some sites and tested on one: a cell of train × test, or a point of a learning curve."""

    arm: str
    design: str
    train_sites: tuple[str, ...]
    test_site: str
    local_cases: int | None
    in_domain: bool
    sees_target: bool
    n_runs: int
    n_lost: int
    figures: Subgroup


@dataclass(frozen=True, slots=True)
class WorstOutcome:
    """A held-out case with its mean cost on the primary endpoint, 0 to 1, under the reference and under each arm."""

    case_id: str
    patient_id: str
    site: str
    label: str
    cost: float
    by_arm: dict[str, float]
    failed: str = ""


@dataclass(frozen=True)
class BenchmarkResult:
    """The whole of a benchmark. `verdicts` are of the primary endpoint and blind arms, on held-out sites: the only
    ones that may be called a gain. `secondary`, `at_home` (in domain) and `saw_target` are not counted."""

    toolkit: str
    facts: BenchmarkFacts
    resamples: int
    resampling_seed: int
    losses: Losses
    sites: tuple[SiteFacts, ...]
    verdicts: tuple[ArmDifference, ...]
    secondary: tuple[ArmDifference, ...]
    at_home: tuple[ArmDifference, ...]
    saw_target: tuple[ArmDifference, ...]
    by_site: tuple[ArmDifference, ...]
    arms: tuple[ArmResult, ...]
    selection: ArmSelection
    cells: tuple[DesignCell, ...]
    worst: tuple[WorstOutcome, ...]
    probes: tuple[SiteProbe, ...] = ()
    quantities: tuple[QuantityKept, ...] = ()
    checklist: tuple[ReportItem, ...] = ()
    schema_version: int = RESULTS_VERSION

    def to_json(self) -> str:
        return json.dumps(plain(self), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> BenchmarkResult:
        """The record of a results.json. Raises InputError for another schema or a damaged record."""
        try:
            found: BenchmarkResult = typed(BenchmarkResult, json.loads(text))
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"results.json: {type(error).__name__}: {error}; allowed is a record that `imaging benchmark` wrote",
                Reason.CONFIG_INVALID,
            ) from error
        return found
