"""docs/reasons.md lists every reason code, once, as the enumeration has it."""

from __future__ import annotations

import json
import pickle

import pytest

from imaging.errors import Reason, ReasonCode
from imaging.modalities.mammography.reasons import MammographyReason
from imaging.modalities.reasons import own_reasons, reason_of, reasons_page
from tests.conftest import REPOSITORY


def test_the_page_of_reasons_is_what_the_code_says() -> None:
    page = (REPOSITORY / "docs" / "reasons.md").read_text(encoding="utf-8")
    assert page == reasons_page(own_reasons()), "run: python -m imaging.modalities.reasons > docs/reasons.md"


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    for reason in own_reasons():
        assert reason.meaning
        assert reason.remedy
        assert reason.meaning not in reason.remedy


def test_every_code_is_given_once_and_found_by_its_text() -> None:
    reasons = list(own_reasons())
    assert len({reason.value for reason in reasons}) == len(reasons)
    assert MammographyReason.OTHER_VIEW in reasons
    for reason in reasons:
        assert reason_of(reason.value) is reason
    with pytest.raises(ValueError, match="reason code 'no_such': unknown"):
        reason_of("no_such")


@pytest.mark.parametrize("reason", [Reason.NOT_DICOM, MammographyReason.OTHER_VIEW])
def test_a_code_stays_itself_between_processes_and_is_plain_text_in_json(reason: ReasonCode) -> None:
    assert pickle.loads(pickle.dumps(reason)) is reason
    assert json.loads(json.dumps({"reason": reason})) == {"reason": str(reason)}
    assert f"{reason}" == reason.value


def test_of_several_reasons_no_two_have_one_rank() -> None:
    ranks = [reason.rank for reason in own_reasons() if reason.rank is not None]
    assert len(set(ranks)) == len(ranks)
    assert min(ranks) == Reason.UNKNOWN_ANATOMY.rank
    assert max(ranks) == Reason.NO_PACKAGE.rank
