"""The law in every run of the tests; `python -m tests.law --cases 2000 --seed 7` plays the rest and prints them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from imaging.dicom.index import build_index
from imaging.errors import Reason
from tests.law.cases import Tally, case, cases
from tests.law.damage import KINDS, fits
from tests.law.exports import Export, exports
from tests.law.harmless import HARMLESS, harmless_case
from tests.law.kinds import pixels
from tests.law.reader import NO, YES, answer_of, outcome

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged headers make pydicom warn, as it should
CASES, SEED = 150, 1


@pytest.fixture(scope="module")
def tally() -> Tally:
    played = Tally()
    for one in cases(SEED, CASES):
        played.add(one)
    return played


@pytest.mark.parametrize("name", list(exports()))
def test_the_reader_finds_the_lesion_and_nothing_else(name: str) -> None:
    """Both controls: yes where it is there, and a clean "no, all" where it never was."""
    assert outcome(answer_of(exports()[name])) == YES
    assert outcome(answer_of(exports(lesion=False)[name])) == NO


def test_no_damage_ends_in_a_silent_no(tally: Tally) -> None:
    assert tally.broken == []


def test_the_damage_reaches_every_outcome(tally: Tally) -> None:
    """A law over damage that hides nothing, or that costs everything, would say little."""
    told: Counter[str] = Counter()
    for (_, found), count in tally.table.items():
        told[found] += count
    assert tally.table.total() == CASES
    assert min(told["yes"], told["unknown"], told["failed, exit 1"]) > CASES // 10
    assert {kind.name for kind in KINDS} == {name for name, _ in tally.table}


def test_a_case_is_its_seed_and_number() -> None:
    for number in (0, 17, 40):
        one, again = case(SEED, number), case(SEED, number)
        assert (one.label, one.damaged().files) == (again.label, again.damaged().files)
    assert case(SEED, 0).damaged().files != case(SEED + 1, 0).damaged().files


# The last guards see what the model is given; the first ones say earlier, and of which image, what is wrong.
LAST_GUARDS = ("imaging.predictor.check_spread", "imaging.predictor._coverage")
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
    for taken_out in (guard, *LAST_GUARDS):
        monkeypatch.setattr(taken_out, lambda *_: None)
    assert NO in {outcome(answer_of(one)) for one in damaged}


@pytest.mark.parametrize("number", range(2 * len(HARMLESS)))
def test_harmless_changes_change_nothing(number: int) -> None:
    label, is_same = harmless_case(SEED, number)
    assert is_same, label


def test_the_twin_notices_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_grey_more(export: Export, rng: random.Random) -> Export:
        def change(ds: FileDataset) -> None:
            stored = pixels(ds)
            stored[:, 40:44, 40:44] += 1
            ds.PixelData = np.minimum(stored, 255).tobytes()

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
        (bytes(128) + b"DICM\x02\0\x02\0UI\x02\x001\0\x02\0\x12\0UI", "IM7", Reason.TRUNCATED_HEADER),
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


def test_a_repeat_in_an_exam_of_three_views_counts_as_unread() -> None:
    """It may be the fourth, wrongly marked. Beside all four views it is a repeat, and says nothing else."""
    healthy = exports(lesion=False)["mammograms"]

    def repeated(ds: FileDataset) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.9"
        ds.AcquisitionTime = "235900"

    again = healthy.edited(("MG/LCC",), repeated).files["MG/LCC"]
    three = answer_of(healthy.with_files(**{"MG/LMLO": again}))
    assert outcome(three) == "unknown"
    assert [u["reason"] for u in read_result(three)["unread"]] == ["doubtful_repeat"]
    assert outcome(answer_of(healthy.with_files(**{"MG/again": again}))) == NO


def read_result(summary: dict[str, Any]) -> dict[str, Any]:
    (result,) = (r for r in summary["studies"][0]["results"] if r["applicability"] == "applicable")
    return result  # type: ignore[no-any-return]


@pytest.mark.parametrize(("modality", "read"), [("OT", 2), ("", 2), ("CT", 2), ("IVUS", 1)])
def test_the_class_of_an_image_says_what_it_is_where_its_modality_contradicts(modality: str, read: int) -> None:
    export = exports()["ultrasound still"]
    changed = export.edited(("US/IM1",), lambda ds: setattr(ds, "Modality", modality))
    assert read_result(answer_of(changed))["analysed"] == read


def test_a_blank_slice_between_others_makes_a_volume_unread_and_one_at_the_end_does_not() -> None:
    """A volume is as blank as its inner slices: maps may be cut off outside of the body."""
    export = exports(lesion=False)["prostate"]

    def blank(ds: FileDataset) -> None:
        ds.PixelData = bytes(len(ds.PixelData))

    inner, outer = (answer_of(export.edited((f"MR/ADC/IM{k:02d}",), blank)) for k in (8, 15))
    assert {u["reason"] for u in read_result(inner)["unread"]} == {"no_signal"}
    assert read_result(outer)["unread"] == []
