"""What one trained network gave on the cases of one site: the table between the trainings and the statistics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that was marked: its score, and the number of the lesion that it hits, if any."""

    score: float
    lesion: int | None = None


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """One test case under one network.

    Args:
        case_id: Of the manifest.
        patient_id: Patient, or group of images that belong together: the unit of every interval.
        site: Where the case comes from.
        scanner: Manufacturer and model, "" where unknown.
        protocol: What the passport says of the acquisition beside the scanner, "" where unknown.
        label: The manifest's label, "" where it has none.
        lesions: How many the truth has; 0 is a case on which nothing may be marked.
        dice: Overlap with the truth, 0 for a miss; None where the truth is empty, or the task outlines nothing.
        marks: Everything marked at the threshold chosen on the sources.
        score: The case's score, 0-1: the chance of the positive class, or the highest mark; None where nothing scores.
        positive: What `score` should tell; None where the truth does not say.
        recalled: Whether the score passes the operating point chosen on the sources; None where there is no point.
        failed: Reason code of a case that got no answer; it counts as the worst outcome, never as absent.
    """

    case_id: str
    patient_id: str
    site: str
    scanner: str = ""
    protocol: str = ""
    label: str = ""
    lesions: int = 0
    dice: float | None = None
    marks: tuple[Mark, ...] = ()
    score: float | None = None
    positive: bool | None = None
    recalled: bool | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One network on the cases of one site.

    Args:
        job: Identity of the training, a hash of all it depends on.
        arm: Name of the arm.
        design: Name of the design that asked for it.
        test_site: The site whose cases were tested.
        train_sites: Sites of the training cases, sorted.
        seed: Of weights, order and variation.
        fold: Number of the fold inside a site; None where a whole site is tested.
        local_cases: Of a learning curve, how many cases of the test site were learnt from; None elsewhere.
        in_domain: Whether the test site is among the training sites (other patients of it).
        sees_target: Whether the method looked at images of the test site, with or without labels.
        chosen_by: Value that each selection rule saw of this network, by the rule's name; higher is better.
        outcomes: One for each case of the test site; none is left out.
        lost: Why there is no network; then `outcomes` is empty.
    """

    job: str
    arm: str
    design: str
    test_site: str
    train_sites: tuple[str, ...]
    seed: int
    fold: int | None = None
    local_cases: int | None = None
    in_domain: bool = False
    sees_target: bool = False
    chosen_by: dict[str, float] = field(default_factory=dict)
    outcomes: tuple[CaseOutcome, ...] = ()
    lost: str = ""
