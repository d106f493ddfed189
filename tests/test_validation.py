"""What a package decides by, chosen on validation cases: hand-made cases with the answers written out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imaging import thresholds as validation
from imaging.data.manifest import Case
from imaging.evaluation.matching import MatchedLesion
from imaging.thresholds import Judged, Watched, chosen, decide_candidates, false_positives


def film(name: str, patient: str, *lines: tuple[bool, float]) -> Watched:
    """A film with its true lesions (True, score that found it or 0) and its false positives (False, score)."""
    case = Case(name, patient, "a", "val", Path(name), Path(name))
    return Watched(case, tuple(MatchedLesion(*line) for line in lines), max((score for _, score in lines), default=0.0))


# Two patients with a lesion, three without; six films.
FILMS = [
    film("1L", "1", (True, 0.9), (False, 0.2)),
    film("1R", "1", (False, 0.6)),
    film("2L", "2", (True, 0.5), (True, 0.0)),
    film("3L", "3", (False, 0.7), (False, 0.3)),
    film("4L", "4", (False, 0.4)),
    film("5L", "5"),
]


def decided(monkeypatch: pytest.MonkeyPatch, **card: Any) -> validation.Decisions:
    told = SimpleNamespace(**card)
    predictor = SimpleNamespace(package=SimpleNamespace(description=SimpleNamespace(card=told)))
    by_name = {one.case.case_id: one for one in FILMS}
    monkeypatch.setattr(validation, "watch", lambda _, case: by_name[case.case_id])
    return decide_candidates(cast(Any, predictor), [one.case for one in FILMS])


def test_false_positives_are_counted_per_image() -> None:
    assert false_positives(FILMS, 0.01) == pytest.approx(5 / 6)
    assert false_positives(FILMS, 0.4) == pytest.approx(3 / 6)
    assert false_positives(FILMS, 0.71) == 0


@pytest.mark.parametrize(
    ("allowed", "threshold", "sensitivity", "rate"),
    [
        (1.0, 0.11, 2 / 3, 5 / 6),  # 0.01 to 0.20 decide the same
        (0.5, 0.36, 2 / 3, 3 / 6),  # 0.2 and 0.3 fall away: 0.4, 0.6 and 0.7 remain
        (0.2, 0.66, 1 / 3, 1 / 6),
        (0.0, 0.81, 1 / 3, 0.0),
    ],
)
def test_the_threshold_is_among_the_lowest_that_the_card_allows(
    monkeypatch: pytest.MonkeyPatch, allowed: float, threshold: float, sensitivity: float, rate: float
) -> None:
    found = decided(monkeypatch, false_positives=allowed, recalled_empty=None)
    assert (found.threshold, found.operating_point) == (threshold, None)
    assert found.figures == {
        "sensitivity": round(sensitivity, 4),
        "false_positives_per_image": round(rate, 4),
    }


@pytest.mark.parametrize(
    ("allowed", "point", "positive", "negative"),
    [
        (1.0, 0.01, 1.0, 2 / 3),  # patient 5 has no box at all
        (0.4, 0.41, 1.0, 1 / 3),
        (0.0, 0.71, 0.5, 0.0),  # patient 2's 0.5 is given up for patient 3's 0.7
    ],
)
def test_patients_are_recalled_by_their_highest_score(
    monkeypatch: pytest.MonkeyPatch, allowed: float, point: float, positive: float, negative: float
) -> None:
    found = decided(monkeypatch, false_positives=1.0, recalled_empty=allowed)
    assert found.operating_point == point
    assert found.figures["recalled_positive"] == pytest.approx(positive)
    assert found.figures["recalled_negative"] == pytest.approx(negative, abs=1e-4)


def test_masks_take_the_best_threshold_within_what_the_card_allows() -> None:
    judged = [
        Judged(0.1, dice=0.8, marked_empty=0.6, score=0.75),
        Judged(0.3, dice=0.75, marked_empty=0.1, score=0.7),
        Judged(0.5, dice=0.75, marked_empty=0.1, score=0.7),
        Judged(0.7, dice=0.75, marked_empty=0.1, score=0.7),
        Judged(0.9, dice=0.4, marked_empty=0.0, score=0.5),
    ]
    assert chosen(judged, 1.0).threshold == 0.1
    assert chosen(judged, 0.1).threshold == 0.5  # the middle of three equal ones
    assert chosen(judged, 0.05).threshold == 0.9
    assert chosen(judged[:1], 0.1).threshold == 0.1  # none is allowed: the one that marks fewest
