"""docs/reasons.md lists every reason code, once, as the enumeration has it."""

from __future__ import annotations

from imaging.errors import Reason, reasons_page
from tests.conftest import REPOSITORY


def test_the_page_of_reasons_is_what_the_code_says() -> None:
    page = (REPOSITORY / "docs" / "reasons.md").read_text(encoding="utf-8")
    assert page == reasons_page(), "run: python -m imaging.errors > docs/reasons.md"


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    for reason in Reason:
        assert reason.meaning
        assert reason.remedy
        assert reason.meaning not in reason.remedy
