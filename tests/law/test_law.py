"""The law in every run of the tests; `python -m tests.law --cases 2000 --seed 7` plays the rest and prints the table."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imaging.dicom.index import build_index
from imaging.errors import Reason
from tests.law.cases import Tally, case, cases
from tests.law.damage import KINDS, OPEN, fits
from tests.law.exports import Export, exports
from tests.law.harmless import HARMLESS, harmless_case
from tests.law.reader import NO, YES, answer_of, outcome

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged headers make pydicom warn, as it should
CASES, SEED = 150, 1


@pytest.fixture(scope="module")
def tally() -> Tally:
    played = Tally()
    for one in cases(SEED, CASES):
        played.add(one)
    return played


def without_lesion(export: Export) -> Export:
    """Healthy tissue painted over the lesion, from elsewhere in the same picture: what nobody can notice."""
    from tests.law.damage import pixels

    def heal(ds: object) -> None:
        stored = pixels(ds)  # type: ignore[arg-type]
        scale = stored.shape[1] / {96: 96, 240: 240}.get(stored.shape[1], 48)
        row, column, reach, source = {96: (56, 70, 15, (20, 20)), 240: (120, 50, 11, (150, 50))}.get(
            stored.shape[1], (26, 22, 7, (8, 8))
        )
        height = int(2 * reach * scale)
        top, left = int((row - reach) * scale), int((column - reach) * scale)
        at = int(source[0] * scale), int(source[1] * scale)
        stored[:, top : top + height, left : left + height] = stored[
            :, at[0] : at[0] + height, at[1] : at[1] + height
        ]
        ds.PixelData = stored.tobytes()  # type: ignore[attr-defined]

    return export.edited(export.holders, heal)


@pytest.mark.parametrize("name", list(exports()))
def test_the_reader_finds_the_lesion_and_nothing_else(name: str) -> None:
    """Both controls: yes where it is there, and a clean "no, all" where it was painted over."""
    assert outcome(answer_of(exports()[name])) == YES
    assert outcome(answer_of(without_lesion(exports()[name]))) == NO


def test_no_damage_ends_in_a_silent_no(tally: Tally) -> None:
    assert [label for label in tally.broken if not any(f": {name} (" in label for name in OPEN)] == []


@pytest.mark.xfail(strict=False, reason="what no header of the exam relates or counts is not yet held against its answer")
def test_no_damage_of_the_open_kinds_ends_in_a_silent_no(tally: Tally) -> None:
    assert tally.broken == []


def test_the_damage_reaches_every_outcome(tally: Tally) -> None:
    """A law over damage that hides nothing, or that costs everything, would say little."""
    told: Counter[str] = Counter()
    for (_, found), count in tally.table.items():
        told[found] += count
    assert tally.table.total() == CASES
    assert min(told["yes"], told["unknown"], told["failed, exit 1"]) > CASES // 10
    assert {kind.name for kind in KINDS} == {name for name, _ in tally.table}
    assert set(OPEN) <= {kind.name for kind in KINDS}


def test_a_case_is_its_seed_and_number() -> None:
    for number in (0, 17, 40):
        one, again = case(SEED, number), case(SEED, number)
        assert (one.label, one.damaged().files) == (again.label, again.damaged().files)
    assert case(SEED, 0).damaged().files != case(SEED + 1, 0).damaged().files


GUARDS = {
    "a blank picture": ("imaging.dicom.pixels.read._check_signal", "ultrasound still"),
    "values shifted out of their bits": ("imaging.dicom.pixels.volume._check_signal", "prostate"),
    "a rescale that leaves nothing": ("imaging.modalities.mammography.recipe._check_spread", "mammograms"),
}


@pytest.mark.parametrize("name", list(GUARDS))
def test_the_law_breaks_where_a_guard_is_taken_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, export = GUARDS[name]
    kind = next(kind for kind in KINDS if kind.name == name)
    assert fits(kind, export)
    damaged = [kind.act(exports()[export], random.Random(seed)) for seed in range(6)]
    assert NO not in {outcome(answer_of(one)) for one in damaged}
    monkeypatch.setattr(guard, lambda *_: None)
    assert NO in {outcome(answer_of(one)) for one in damaged}


@pytest.mark.parametrize("number", range(2 * len(HARMLESS)))
def test_harmless_changes_change_nothing(number: int) -> None:
    label, is_same = harmless_case(SEED, number)
    assert is_same, label


def test_the_twin_notices_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_grey_more(export: Export, rng: random.Random) -> Export:
        from tests.law.damage import pixels

        def change(ds: object) -> None:
            stored = pixels(ds)  # type: ignore[arg-type]
            stored[:, 40:44, 40:44] += 1
            ds.PixelData = np.minimum(stored, 255).tobytes()  # type: ignore[attr-defined]

        return export.edited(("US/IM2",), change)

    monkeypatch.setitem(HARMLESS, next(iter(HARMLESS)), one_grey_more)
    numbers = (n for n in range(0, 50 * len(HARMLESS), len(HARMLESS)))
    labelled = (harmless_case(9, n) for n in numbers if _is_of_a_still(9, n))
    assert next(labelled)[1] is False


def _is_of_a_still(seed: int, number: int) -> bool:
    drawn = random.Random(f"{seed}/{number}/harmless").choice(list(exports().values()))
    return drawn.name == "ultrasound still"


# -- What the law found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (b"", "IM7", Reason.EMPTY_FILE),
        (bytes(5000), "IM7", Reason.EMPTY_FILE),
        (bytes(150) + b"\x08\0\x16\0UI\x1a\x001.2.840.10008.5.1.4.1.1.4", "IM7", Reason.UNREADABLE_HEADER),
        (b"DICM\x02\0\0\0UL\4\0\1\0\0\0\x02\0\x02\0UI\x1a\x001.2.840.10008", "IM7", Reason.UNREADABLE_HEADER),
        (b"", ".nomedia", None),
        (b"Patients of 1.2.840.10008.5.1.4.1.1.4\n", "log.txt", None),
    ],
)
def test_a_file_whose_beginning_is_lost_forbids_no(
    content: bytes, name: str, reason: Reason | None, tmp_path: Path
) -> None:
    for path, data in exports()["ultrasound still"].files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / name).write_bytes(content)
    index = build_index(tmp_path)
    assert index.files[name].state == ("refused" if reason else "skipped")
    assert reason is None or index.files[name].reason is reason
    assert index.unseen.get("", ()) == ((name,) if reason else ())


def test_an_object_without_preamble_is_read_with_and_without_meta_header(tmp_path: Path) -> None:
    export = exports()["ultrasound still"]
    assert outcome(answer_of(export.with_files(**{n: data[132:] for n, data in export.files.items()}))) == YES
