"""A card to fill in is a whole card of its modality: what a run trained stands in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from imaging.commands.cards import card_of, new_card
from imaging.modalities import find_modality
from imaging.package import Card, read_typed


@pytest.mark.parametrize(
    ("name", "organ"), [("ultrasound", "Breast"), ("mammography", "Breast"), ("prostate", "Prostate")]
)
def test_a_card_has_the_labels_and_classes_of_a_run(name: str, organ: str, tmp_path: Path) -> None:
    modality = find_modality(name)
    text = card_of(modality, ("lesion", "a: b"), ("normal", "0"))
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    card: Card = read_typed(tmp_path / "card.yaml", Card)
    assert [label.name for label in card.labels] == ["lesion", "a: b"]
    assert [one.name for one in card.classes] == ["normal", "0"]
    assert card.applicability.modality == modality.acquired_as
    assert card.measures == list(modality.measures)
    assert {label.site.meaning for label in card.labels if label.site} == {organ}


def test_a_card_without_a_run_is_one_of_ultrasound() -> None:
    told = yaml.safe_load(new_card(None))
    assert told["applicability"] == {"modality": "US", "body_parts": ["BREAST"]}
    assert "classes" not in told
