"""300 damaged files in every run of the tests; `python -m tests.fuzz --files 10000` does the rest."""

from __future__ import annotations

import os
import random
from pathlib import Path

from pydicom.data import get_testdata_file

from tests.fuzz.__main__ import broken
from tests.fuzz.mutations import MUTATIONS, mutate
from tests.fuzz.run import fuzz


def test_damaged_files_cost_only_themselves_and_say_why() -> None:
    shared = os.environ.get("IMAGING_SHARED_DATA")
    outcomes = fuzz(300, seed=1, shared=Path(shared) if shared else None)
    assert broken(outcomes) == {}
    assert outcomes.table.total() == 300
    assert len({outcome for _, outcome in outcomes.table}) > 5  # the damage reaches several layers


def test_the_same_seed_does_the_same_damage() -> None:
    data = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    assert [mutate(data, random.Random(n)) for n in range(50)] == [mutate(data, random.Random(n)) for n in range(50)]
    assert {mutate(data, random.Random(n))[0] for n in range(200)} == set(MUTATIONS)
