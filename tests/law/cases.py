"""Numbered cases: which export, which kind of damage, and what became of the answer. A number and a seed are a case."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.law.damage import KINDS, Kind, fits
from tests.law.exports import Export, exports
from tests.law.reader import NO, answer_of, outcome


@dataclass(frozen=True)
class Case:
    """One damage done once. `seed` and `number` name it for ever: `python -m tests.law --seed S --only N`."""

    seed: int
    number: int
    kind: Kind
    export: str

    @property
    def label(self) -> str:
        return f"seed {self.seed}, case {self.number}: {self.kind.name} ({self.export})"

    def damaged(self) -> Export:
        return self.kind.act(exports()[self.export], random.Random(f"{self.seed}/{self.number}/act"))

    def summary(self) -> dict[str, Any]:
        return answer_of(self.damaged())


@dataclass
class Tally:
    """How often (kind, outcome) was met, and the cases that broke the law."""

    table: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Plays a case and counts it."""
        self.count(case, outcome(case.summary()))

    def count(self, case: Case, found: str) -> None:
        self.table[case.kind.name, found] += 1
        if found == NO:
            self.broken.append(case.label)


def case(seed: int, number: int) -> Case:
    """Kinds take turns, so that every one is met; the export and all else are drawn."""
    kind = KINDS[number % len(KINDS)]
    rng = random.Random(f"{seed}/{number}/export")
    return Case(seed, number, kind, rng.choice([name for name in exports() if fits(kind, name)]))


def played(seed: int, number: int) -> str:
    """The outcome of a case, in whatever process."""
    return outcome(case(seed, number).summary())


def cases(seed: int, count: int) -> Iterator[Case]:
    return (case(seed, number) for number in range(count))
