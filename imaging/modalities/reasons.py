"""All reason codes: those of every modality and each modality's own. `python -m imaging.modalities.reasons` lists them.

The page docs/reasons.md has those of this toolkit; an installed modality's are found by `reason_of` alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain

from imaging.errors import Reason, ReasonCode
from imaging.modalities import OWN, all_modalities, find_modality


def reason_of(code: str) -> ReasonCode:
    """The reason of a code that a result or ledger carries. Raises ValueError for one that nobody gives."""
    installed = chain.from_iterable(modality.reasons or () for modality in all_modalities())
    for reason in chain[ReasonCode](Reason, installed):
        if reason == code:
            return reason
    raise ValueError(f"reason code {code!r}: unknown; docs/reasons.md lists them")


def own_reasons() -> Iterator[ReasonCode]:
    """Every reason code of this toolkit, those that any modality may meet first."""
    yield from Reason
    for name in OWN:
        yield from find_modality(name).reasons or ()


def reasons_page(reasons: Iterable[ReasonCode]) -> str:
    """docs/reasons.md: every code with its meaning and what to do."""
    rows = (f"| `{reason}` | {reason.meaning} | {reason.remedy} |" for reason in reasons)
    head = "# Reason codes\n\nMade by `python -m imaging.modalities.reasons`; change the text where the codes stand.\n"
    return "\n".join((head, "| code | meaning | what to do |", "|---|---|---|", *rows)) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reasons_page(own_reasons()))
