"""Outcomes and trials ⇄ JSON: the same ones are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imaging.benchmark.trials import CaseOutcome, Mark, Trial


def outcomes_as_text(outcomes: Sequence[CaseOutcome]) -> str:
    """A JSON list, one case a line."""
    lines = [json.dumps(asdict(one), sort_keys=True) for one in outcomes]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def read_outcomes(path: Path) -> tuple[CaseOutcome, ...] | None:
    """None where the test has not been done."""
    if not path.is_file():
        return None
    return tuple(_outcome_of(one) for one in json.loads(path.read_text(encoding="utf-8")))


def trials_as_text(trials: Sequence[Trial]) -> str:
    """A JSON list, in their order."""
    return json.dumps([asdict(one) for one in trials], sort_keys=True, indent=1) + "\n"


def read_trials(path: Path) -> list[Trial]:
    """The trials of one file."""
    return trials_from(json.loads(path.read_text(encoding="utf-8")))


def trials_from(stated: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """The trials of what JSON holds of them."""
    return [
        Trial(
            **{
                **one,
                "train_sites": tuple(one["train_sites"]),
                "outcomes": tuple(_outcome_of(outcome) for outcome in one["outcomes"]),
            }
        )
        for one in stated
    ]


def _outcome_of(stated: Mapping[str, Any]) -> CaseOutcome:
    return CaseOutcome(**{**stated, "marks": tuple(Mark(**mark) for mark in stated["marks"])})
