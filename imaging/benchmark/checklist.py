"""What CLAIM 2024, TRIPOD+AI and STARD-AI ask a report to hold, each filled from results.json or visibly blank.

Topics are in our words and merge what the three guidelines ask alike (CLAIM: Radiology: Artificial Intelligence 2024;
TRIPOD+AI: BMJ 2024; STARD-AI: Nature Medicine 2025). They carry no item numbers and are no substitute for the
guidelines' own forms. A topic is filled where one of its paths inside results.json leads to a value; paths below
`facts.stated` are filled by whoever wrote the specification. Nothing here is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLAIM, TRIPOD, STARD = "CLAIM 2024", "TRIPOD+AI", "STARD-AI"
_ALL = (CLAIM, TRIPOD, STARD)


@dataclass(frozen=True, slots=True)
class ReportItem:
    """One topic. `path` leads to what fills it inside results.json, "" where it is blank; `fill_by` would fill it."""

    section: str
    topic: str
    asked_by: tuple[str, ...]
    path: str
    fill_by: str


@dataclass(frozen=True, slots=True)
class _Topic:
    section: str
    topic: str
    asked_by: tuple[str, ...]
    paths: tuple[str, ...]


def _stated(section: str, topic: str, key: str, asked_by: tuple[str, ...] = _ALL) -> _Topic:
    return _Topic(section, topic, asked_by, (f"facts.stated.{key}",))


def _found(section: str, topic: str, *paths: str, asked_by: tuple[str, ...] = _ALL) -> _Topic:
    return _Topic(section, topic, asked_by, paths)


TOPICS: tuple[_Topic, ...] = (
    _found("Title", "What was studied, and that it is a learnt model", "facts.name"),
    _stated("Title", "Structured abstract", "abstract"),
    _stated("Introduction", "Clinical background and the gap", "background"),
    _stated("Introduction", "Intended use, users and place in care", "intended_use"),
    _stated("Introduction", "Known inequalities between groups of patients", "inequalities", (TRIPOD, STARD)),
    _stated("Introduction", "Aims, and which hypothesis is tested", "aims"),
    _stated("Design", "Prospective or retrospective", "study_design"),
    _stated("Design", "Registration and protocol", "registration"),
    _stated("Design", "Ethics approval and consent", "ethics"),
    _stated("Data", "Where the data come from", "data_sources"),
    _stated("Data", "Dates of collection", "dates"),
    _stated("Data", "Setting and place of the centres", "setting"),
    _stated("Data", "Who was eligible, and who was left out", "eligibility"),
    _stated("Data", "Consecutive, random or convenience series", "series", (STARD,)),
    _stated("Data", "Treatments that matter", "treatments", (TRIPOD,)),
    _stated("Data", "How data were made anonymous", "anonymised", (CLAIM,)),
    _stated("Data", "How missing data are handled", "missing_data"),
    _stated("Data", "Acquisition: devices and protocols as planned", "acquisition", (CLAIM, STARD)),
    _found("Data", "Scanners that were met, by site", "sites.0.scanners", asked_by=(CLAIM, STARD)),
    _stated("Data", "Preparation of images", "preparation"),
    _found("Data", "Identity of the data", "facts.inputs.manifest", asked_by=(CLAIM, TRIPOD)),
    _stated("Truth", "Reference standard and why this one", "reference_standard"),
    _stated("Truth", "Who annotated, with what training", "annotators", (CLAIM, STARD)),
    _stated("Truth", "Tools of annotation", "annotation_tools", (CLAIM,)),
    _stated("Truth", "How far annotators agree", "annotator_agreement", (CLAIM, STARD)),
    _stated("Truth", "Whether readers were blind to the other result", "blinding", (TRIPOD, STARD)),
    _found("Partitions", "How cases are divided, and at which level", "cells.0.train_sites"),
    _stated("Partitions", "Duplicates and patients across partitions", "leakage"),
    _stated("Partitions", "How the size of the study came about", "sample_size"),
    _stated("Model", "Network, inputs and outputs", "network"),
    _stated("Model", "Initial weights", "initial_weights", (CLAIM,)),
    _stated("Model", "Software and versions", "software"),
    _found("Model", "Version of this toolkit", "toolkit", asked_by=(CLAIM, TRIPOD)),
    _stated("Training", "Training procedure, augmentation, settings", "training"),
    _found("Training", "What differs between the models compared", "facts.arms"),
    _found("Training", "How a model was chosen", "facts.selection", asked_by=(CLAIM, TRIPOD)),
    _stated("Training", "How several models are joined", "ensembling", (CLAIM,)),
    _stated("Training", "Imbalance of classes", "class_imbalance", (TRIPOD,)),
    _found("Evaluation", "Measures of performance", "facts.primary"),
    _found("Evaluation", "How uncertainty is estimated", "resamples"),
    _found("Evaluation", "How a threshold was chosen, and what it gives", "arms.0.operating.0.figures"),
    _stated("Evaluation", "Explanation of single results", "explanation", (CLAIM, TRIPOD)),
    _stated("Evaluation", "Fairness: how it is dealt with", "fairness", (TRIPOD, STARD)),
    _found("Results", "Flow: what was planned, lost and failed", "losses.n_trials"),
    _found("Results", "Characteristics and prevalence of each site", "sites"),
    _stated("Results", "Age, sex and other characteristics", "demographics"),
    _found("Results", "Figures at sites that were not seen, with intervals", "arms.0.sites"),
    _found("Results", "Difference between the models, with a test", "verdicts"),
    _found("Results", "Calibration", "arms.0.calibration", asked_by=(TRIPOD, STARD)),
    _found("Results", "Differences between sites", "arms.0.spread", asked_by=(TRIPOD,)),
    _found("Results", "Performance in subgroups", "arms.0.subgroups.scanner"),
    _found("Results", "Analysis of failures", "worst"),
    _stated("Discussion", "Limitations", "limitations"),
    _stated("Discussion", "Meaning for practice", "practice"),
    _stated("Other", "Where protocol, data and code can be had", "availability"),
    _stated("Other", "Involvement of patients and public", "patient_involvement", (TRIPOD,)),
    _stated("Other", "Funding and interests", "funding"),
)
STATED_KEYS = tuple(
    path.removeprefix("facts.stated.") for topic in TOPICS for path in topic.paths if path.startswith("facts.stated.")
)


def filled_items(record: dict[str, Any]) -> tuple[ReportItem, ...]:
    """Every topic against a record as results.json holds it."""
    items = []
    for topic in TOPICS:
        path = next((path for path in topic.paths if _has_value(at_path(record, path))), "")
        items.append(ReportItem(topic.section, topic.topic, topic.asked_by, path, topic.paths[0]))
    return tuple(items)


def at_path(record: Any, path: str) -> Any:
    """The value at a dotted path, where numbers count places of a list; None where it does not lead anywhere."""
    for part in path.split("."):
        if isinstance(record, dict):
            record = record.get(part)
        elif isinstance(record, Sequence) and not isinstance(record, str) and part.isdecimal():
            record = record[int(part)] if int(part) < len(record) else None
        else:
            return None
    return record


def _has_value(value: Any) -> bool:
    return value is not None and value not in ("", [], {})
