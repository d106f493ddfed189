"""Cache, loader and augmentation: what a training sees, from drawn pictures to batches."""

from __future__ import annotations

import csv
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image as Picture

from imaging.data.augment import Parameters, augment, draw
from imaging.data.cache import SampleCache
from imaging.data.dataset import UNKNOWN_CLASS, UNKNOWN_TRUTH, SampleDataset, first_image, harmonise_case
from imaging.data.loader import BatchLoader, Place, Share
from imaging.data.manifest import COLUMNS, Case, read_manifest
from imaging.errors import ConfigError, ImagingError, Reason
from imaging.harmonise.augmentation import Augmentation
from imaging.harmonise.tissue import Placed
from imaging.image import View
from imaging.modalities.mammography.reasons import MammographyReason
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from tests.mammograms import breast, dataset

SIDE = 32
RECIPE = UltrasoundRecipe(side=SIDE)
LABELS = ("normal", "benign", "malignant")
ROWS, COLUMNS_OF_PICTURE = 48, 64


def write_cases(
    folder: Path, train: int = 12, val: int = 6, test: int = 3, sites: tuple[str, ...] = ("a", "b"), seed: int = 0
) -> Path:
    """Grainy pictures with a bright ellipse (none in a normal one), and their table.

    Sites take turns within each split, so that every site has cases of every split; every case is its own patient.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for k in range(count):
            name, label = f"{split}-{k:02d}", LABELS[k % 3]
            y, x = np.mgrid[0:ROWS, 0:COLUMNS_OF_PICTURE]
            cy, cx, ry, rx = rng.uniform(18, 30), rng.uniform(24, 40), rng.uniform(8, 14), rng.uniform(8, 16)
            inside = (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1) & (label != "normal")
            grey = np.clip(70 + 90 * inside + rng.normal(0, 20, inside.shape), 1, 255).astype(np.uint8)
            Picture.fromarray(grey).save(folder / f"{name}.png")
            Picture.fromarray((inside * 255).astype(np.uint8)).save(folder / f"{name}-truth.png")
            site = sites[(k // 3 if count >= 3 * len(sites) else k) % len(sites)]
            rows.append((name, f"p-{name}", site, split, f"{name}.png", f"{name}-truth.png", label))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow((*COLUMNS, "label"))
        writer.writerows(rows)
    return manifest


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return [c for c in read_manifest(write_cases(tmp_path / "cases", 7, 0, 0)) if c.split == "train"]


# ---------------------------------------------------------------------------------------------------------------- cache


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.sample"))


def test_a_second_epoch_and_a_second_run_decode_nothing(cases: list[Case], tmp_path: Path) -> None:
    first = SampleDataset(cases, RECIPE, SampleCache(tmp_path / "cache"))
    made = [first[k] for k in range(len(cases))]
    assert first.decoded == len(cases)
    again = [first[k] for k in range(len(cases))]
    assert first.decoded == len(cases)
    second = SampleDataset(cases, RECIPE, SampleCache(tmp_path / "cache"))
    later = [second[k] for k in range(len(cases))]
    assert second.decoded == 0
    for one, *others in zip(made, again, later, strict=True):
        for other in others:
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.truth, other.truth)
            assert (other.image.dtype, other.truth.dtype) == (np.float32, np.uint8)


def test_what_is_kept_is_what_harmonising_gives(cases: list[Case], tmp_path: Path) -> None:
    SampleDataset(cases, RECIPE, SampleCache(tmp_path / "cache"))[2]
    kept = SampleDataset(cases, RECIPE, SampleCache(tmp_path / "cache"))[2]
    image, truth = harmonise_case(cases[2], RECIPE)
    np.testing.assert_array_equal(kept.image, image)
    np.testing.assert_array_equal(kept.truth, truth)
    assert kept.image.shape == (1, SIDE, SIDE)
    assert set(np.unique(kept.truth)) == {0, 1}


def test_a_case_of_which_only_the_class_is_known_has_no_label_in_its_truth(cases: list[Case], tmp_path: Path) -> None:
    """Not 0 either: that would say that nothing is there. It is another entry than with its truth."""
    cache = SampleCache(tmp_path / "cache")
    known = SampleDataset(cases[:1], RECIPE, cache, LABELS)[0]
    unknown = SampleDataset([replace(cases[0], truth=None)], RECIPE, cache, LABELS)
    for _ in range(2):
        assert np.unique(unknown[0].truth).tolist() == [UNKNOWN_TRUTH]
    assert (unknown.decoded, unknown[0].class_index) == (1, known.class_index)
    np.testing.assert_array_equal(unknown[0].image, known.image)
    with pytest.raises(ConfigError, match=f"case {cases[0].case_id}: truth is empty"):
        harmonise_case(replace(cases[0], truth=None), RECIPE, labels=None)


@pytest.mark.parametrize("change", ["recipe", "image", "truth", "spacing", "nothing"])
def test_another_recipe_picture_truth_or_spacing_is_another_entry(
    change: str, cases: list[Case], tmp_path: Path
) -> None:
    case, recipe, cache = cases[1], RECIPE, SampleCache(tmp_path / "cache")
    SampleDataset([case], recipe, cache)[0]
    if change == "recipe":
        recipe = UltrasoundRecipe(side=SIDE, high=99.0)
    elif change == "spacing":
        case = replace(case, spacing_mm=(0.2, 0.1))
    elif change in ("image", "truth"):
        path = getattr(case, change)
        pixels = np.asarray(Picture.open(path)).copy()
        pixels[3, 5] ^= 255
        Picture.fromarray(pixels).save(path)
    later = SampleDataset([case], recipe, cache)
    sample = later[0]
    assert later.decoded == (change != "nothing")
    np.testing.assert_array_equal(sample.image, harmonise_case(case, recipe)[0])


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_made_again(harm: str, cases: list[Case], tmp_path: Path) -> None:
    cache = SampleCache(tmp_path / "cache")
    whole = SampleDataset(cases[:1], RECIPE, cache)[0]
    (entry,) = entries(tmp_path / "cache")
    content = bytearray(entry.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 4
    entry.write_bytes(content[: {"flip": len(content), "cut": len(content) - 9, "empty": 0}[harm]])
    dataset = SampleDataset(cases[:1], RECIPE, cache)
    np.testing.assert_array_equal(dataset[0].image, whole.image)
    assert (dataset.decoded, cache.damaged) == (1, 1)
    np.testing.assert_array_equal(dataset[0].truth, whole.truth)
    assert dataset.decoded == 1


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, MammographyReason.FOR_PROCESSING),
        ({"ViewPosition": "ML"}, MammographyReason.OTHER_VIEW),
        ({"ViewPosition": None}, MammographyReason.UNKNOWN_VIEW),
        ({"ImageType": ["DERIVED", "PRIMARY", "", "GENERATED_2D"]}, MammographyReason.SYNTHETIC_2D),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, Reason.NO_PACKAGE),
    ],
    ids=str,
)
def test_a_file_that_selection_leaves_out_is_refused_with_its_reason(
    tags: dict[str, str], reason: Reason, tmp_path: Path
) -> None:
    case = Case("c", "p", "a", "train", tmp_path / "view.dcm", None)
    dataset(breast(), **tags).save_as(case.image, enforce_file_format=True)
    with pytest.raises(ImagingError, match=re.escape(reason.meaning)) as caught:
        first_image(case, MammographyRecipe())
    assert caught.value.reason is reason
    dataset(breast()).save_as(case.image, enforce_file_format=True)
    assert first_image(case, MammographyRecipe()).view == View("L", "MLO")


def test_the_limit_holds_and_the_longest_unused_go_first(tmp_path: Path) -> None:
    block = np.zeros(1000, np.uint8)
    probe = SampleCache(tmp_path / "probe")
    probe.put("aa", [block])
    size = entries(tmp_path / "probe")[0].stat().st_size
    cache = SampleCache(tmp_path / "cache", 3 * size)
    for age, key in enumerate(("aa", "bb", "cc")):
        cache.put(key, [block])
        os.utime(entries(tmp_path / "cache")[age], (age + 1, age + 1))
    assert cache.get("aa") is not None  # used now, so 'bb' is the longest unused
    cache.put("dd", [block])
    assert {path.stem for path in entries(tmp_path / "cache")} == {"aa", "cc", "dd"}
    for key in ("ee", "ff", "gg"):
        cache.put(key, [block])
        assert sum(path.stat().st_size for path in entries(tmp_path / "cache")) <= 3 * size
    cache.put("hh", [np.zeros(4 * size, np.uint8)])
    assert cache.get("hh") is None
    assert len(entries(tmp_path / "cache")) == 3
    cache.put("gg", [block])  # written over itself it takes no more room
    assert len(entries(tmp_path / "cache")) == 3


def test_the_limit_holds_for_what_another_process_wrote(tmp_path: Path) -> None:
    """Two caches on one folder stand for two processes; neither sees what the other one writes or removes."""
    block = np.zeros(1000, np.uint8)
    probe = SampleCache(tmp_path / "probe")
    probe.put("aa", [block])
    size = entries(tmp_path / "probe")[0].stat().st_size
    one, two = SampleCache(tmp_path / "cache", 40 * size), SampleCache(tmp_path / "cache", 40 * size)
    for k in range(60):
        one.put(f"1{k:02d}", [block])
        two.put(f"2{k:02d}", [block])
        assert len(entries(tmp_path / "cache")) <= 40 * 1.1
    for path in entries(tmp_path / "cache"):
        path.unlink()
    one.put("zz", [block])
    assert one.get("zz") is not None


def test_an_entry_that_goes_while_it_is_read_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SampleCache(tmp_path / "cache")
    cache.put("aa", [np.arange(5)])

    def vanished(*args: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(os, "utime", vanished)
    kept = cache.get("aa")
    assert kept is not None
    np.testing.assert_array_equal(kept[0], np.arange(5))


def test_two_processes_that_write_one_entry_leave_it_whole(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom imaging.data.cache import SampleCache\n"
        "cache = SampleCache(Path(sys.argv[1]))\n"
        "for _ in range(60):\n    cache.put('ab', [np.arange(20000, dtype=np.float32), np.ones((3, 4), np.uint8)])\n"
        "    assert cache.get('ab') is not None and not cache.damaged"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ab.sample"]
    kept = SampleCache(tmp_path).get("ab")
    assert kept is not None
    np.testing.assert_array_equal(kept[0], np.arange(20000, dtype=np.float32))
    np.testing.assert_array_equal(kept[1], np.ones((3, 4), np.uint8))


def test_a_kill_while_an_entry_is_written_leaves_none(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, numpy as np\nfrom pathlib import Path\nfrom imaging.data.cache import SampleCache\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "SampleCache(Path(sys.argv[1])).put('ab', [np.arange(20000)])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    assert SampleCache(tmp_path).get("ab") is None
    (left,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert left.suffix == ".part"
    os.utime(left, (1, 1))
    SampleCache(tmp_path)  # what has lain for long is nobody's
    assert not left.exists()


# --------------------------------------------------------------------------------------------------------------- loader


def fake_cases(count: int) -> list[Case]:
    return [Case(f"case-{k}", f"p{k}", "a", "train", Path(f"{k}.png"), Path(f"{k}-t.png")) for k in range(count)]


class Numbered(SampleDataset):
    """Samples without files: what is placed of case k is filled with k."""

    def _made(self, case: Case) -> tuple[Placed, np.ndarray]:
        number = float(case.case_id.split("-")[1])
        return Placed.lit(MetaTensor(torch.full((1, 4, 4), number))), np.zeros((1, 4, 4), np.uint8)


def numbers(loader: BatchLoader) -> list[list[int]]:
    return [batch["number"] for batch in loader]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 11, 12])
def test_evaluation_gives_every_case_once(processes: int, count: int) -> None:
    dataset = Numbered(fake_cases(count), RECIPE)
    shares = [BatchLoader(dataset, 4, Share(rank, processes)) for rank in range(processes)]
    seen = Counter(k for loader in shares for batch in numbers(loader) for k in batch)
    assert seen == Counter(range(count))
    assert all(len(numbers(loader)) == len(loader) for loader in shares)
    if processes == 1:
        assert [k for batch in numbers(shares[0]) for k in batch] == list(range(count))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_training_shares_part_every_global_batch(processes: int) -> None:
    """12 samples a step in all: each process count sees the same global batches in the same order."""
    dataset = Numbered(fake_cases(40), RECIPE)
    alone = numbers(BatchLoader(dataset, 12, Share(), seed=5))
    assert [len(batch) for batch in alone] == [12, 12, 12]
    shares = [numbers(BatchLoader(dataset, 12 // processes, Share(r, processes), seed=5)) for r in range(processes)]
    for step, whole in enumerate(alone):
        assert len({len(share[step]) for share in shares}) == 1
        dealt = [k for one in zip(*(share[step] for share in shares), strict=True) for k in one]
        assert dealt == whole
    assert len({k for batch in alone for k in batch}) == 36


@pytest.mark.parametrize("count", [1, 3, 5])
def test_shares_of_a_set_below_one_batch_are_equally_large(count: int) -> None:
    """A gathered batch must have one size on all processes."""
    dataset = Numbered(fake_cases(count), RECIPE)
    shares = [numbers(BatchLoader(dataset, 4, Share(rank, 2), seed=1)) for rank in range(2)]
    assert [len(share) for share in shares] == [1, 1]
    assert len(shares[0][0]) == len(shares[1][0])
    assert {k for share in shares for k in share[0]} == set(range(count))
    assert sum(len(share[0]) for share in shares) == count + count % 2


def test_the_order_is_that_of_seed_and_epoch() -> None:
    dataset = Numbered(fake_cases(30), RECIPE)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return numbers(BatchLoader(dataset, 4, Share(), seed, lambda: Place(epoch)))

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert all(len(batch) == 4 for batch in order(1, 3))


@pytest.mark.parametrize("start", [0, 1, 3, 7])
def test_a_pass_from_the_middle_is_the_tail_of_a_whole_one(start: int) -> None:
    dataset = Numbered(fake_cases(30), RECIPE)
    whole = list(BatchLoader(dataset, 4, Share(), 3, lambda: Place(2)))
    tail = list(BatchLoader(dataset, 4, Share(), 3, lambda: Place(2, start)))
    assert [b["case_id"] for b in tail] == [b["case_id"] for b in whole[start:]]
    for one, other in zip(tail, whole[start:], strict=True):
        assert torch.equal(one["image"], other["image"])


def test_an_error_in_reading_names_the_case(cases: list[Case]) -> None:
    cases[3].image.write_bytes(b"no picture")
    loader = BatchLoader(SampleDataset(cases, RECIPE), 2, Share())
    given: list[object] = []
    with pytest.raises(ImagingError, match="case train-03"):
        given.extend(loader)
    assert len(given) == 1
    assert readers() == []


def test_samples_of_two_shapes_are_refused_by_name() -> None:
    class Odd(Numbered):
        def _made(self, case: Case) -> tuple[Placed, np.ndarray]:
            side = 4 if case.case_id != "case-1" else 5
            return Placed.lit(MetaTensor(torch.zeros((1, 4, side)))), np.zeros((1, 4, side), np.uint8)

    with pytest.raises(ConfigError, match=r"case-1: found \(1, 4, 5\).*case-0"):
        next(iter(BatchLoader(Odd(fake_cases(4), RECIPE), 4, Share())))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_the_reading_thread_ends_with_the_iteration() -> None:
    dataset = Numbered(fake_cases(200), RECIPE)
    pass_ = iter(BatchLoader(dataset, 2, Share(), seed=1))
    next(pass_)
    assert len(readers()) == 1
    begin = time.perf_counter()
    pass_.close()  # type: ignore[attr-defined]  # a generator
    assert readers() == []
    assert time.perf_counter() - begin < 2
    assert dataset.decoded < 12  # it read one batch ahead, not the whole set
    list(BatchLoader(dataset, 50, Share()))
    assert readers() == []


def test_a_resumed_run_must_have_the_same_cases() -> None:
    whole = BatchLoader(Numbered(fake_cases(6), RECIPE), 2, Share(), seed=1)
    whole.load_state_dict(whole.state_dict())
    renamed = [replace(case, case_id=f"{case.case_id}0") for case in fake_cases(6)]
    others = [
        BatchLoader(Numbered(fake_cases(7), RECIPE), 2, Share(), seed=1),
        BatchLoader(Numbered(fake_cases(6), RECIPE), 3, Share(), seed=1),
        BatchLoader(Numbered(fake_cases(6), RECIPE), 2, Share(), seed=2),
        BatchLoader(Numbered(fake_cases(6), RECIPE), 2, Share(0, 2), seed=1),
        BatchLoader(Numbered(renamed, RECIPE), 2, Share(), seed=1),
        BatchLoader(Numbered(fake_cases(6), UltrasoundRecipe(side=64)), 2, Share(), seed=1),
    ]
    for other in others:
        with pytest.raises(ConfigError, match="same manifest"):
            other.load_state_dict(whole.state_dict())


def test_classes_are_places_among_the_names() -> None:
    cases = [replace(case, label=label) for case, label in zip(fake_cases(3), ("malignant", "", "normal"), strict=True)]
    assert [s.class_index for s in (Numbered(cases, RECIPE, None, LABELS)[k] for k in range(3))] == [
        2,
        UNKNOWN_CLASS,
        0,
    ]
    with pytest.raises(ConfigError, match=r"labels \['malignant'\].*\['normal', 'benign'\]"):
        Numbered(cases, RECIPE, None, LABELS[:2])


# --------------------------------------------------------------------------------------------------------- augmentation

WILD = replace(RECIPE.augmentation, flip_rows=True, chance=0.7, shadow=0.6)
SPATIAL = Augmentation(rotation=40, scale=(0.7, 1.4), stretch=1.3, shift=0.15, flip_columns=True, flip_rows=True)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values in 0.1-1, so that all of it is lit."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 1, shape).astype(np.float32))


def blob(batch: int, *spatial: int) -> torch.Tensor:
    """An off-centre ellipse, (batch, 1, *spatial) int64."""
    axes = np.ogrid[tuple(slice(0, n) for n in spatial)]
    inside = sum(((x - 0.45 * n) / (0.2 * n)) ** 2 for x, n in zip(axes, spatial, strict=True)) < 1
    return torch.from_numpy(np.repeat(np.asarray(inside)[None, None], batch, axis=0)).long()


def vary(image: torch.Tensor, **changed: object) -> torch.Tensor:
    """One kind of change on every sample of an image, the truth left aside."""
    drawn = [Parameters(**changed)] * len(image)  # type: ignore[arg-type]
    return augment(image, torch.zeros_like(image[:, :1], dtype=torch.long), drawn)[0]


def test_draws_depend_on_seed_epoch_and_number_alone() -> None:
    one = draw(WILD, 1, 2, 3)
    assert draw(WILD, 1, 2, 3) == one
    others = [draw(WILD, *told) for told in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2))]
    assert len({one.noise_seed, *(p.noise_seed for p in others)}) == 5
    assert all(other.rotation != one.rotation for other in others)


def test_draws_keep_to_their_ranges() -> None:
    drawn = [draw(RECIPE.augmentation, 1, 0, k) for k in range(400)]
    told = RECIPE.augmentation
    assert max(abs(p.rotation) for p in drawn) <= told.rotation
    for p in drawn:
        height, width = p.zoom
        assert told.scale[0] <= math.sqrt(height * width) <= told.scale[1]
        assert 1 / told.stretch <= height / width <= told.stretch
        lost = p.shadow[3]
        assert lost == 0 or 1 - told.shadow_depth[1] <= lost <= 1 - told.shadow_depth[0]
    assert {p.flip_rows for p in drawn} == {False}
    assert 0.4 < np.mean([p.flip_columns for p in drawn]) < 0.6
    for name, neutral, chance in (("gamma", 1.0, 0.25), ("blur", 0.0, 0.25), ("low_resolution", 1.0, 0.25)):
        share = np.mean([getattr(p, name) != neutral for p in drawn])
        assert abs(share - chance) < 0.08, name
    assert abs(np.mean([p.shadow[3] > 0 for p in drawn]) - told.shadow) < 0.08


def test_parameters_can_be_kept_and_applied_again() -> None:
    drawn = [draw(WILD, 4, 1, k) for k in range(6)]
    kept = [Parameters(**{f.name: getattr(p, f.name) for f in fields(p)}) for p in drawn]
    image, truth = noise(6, 1, 40, 32), blob(6, 40, 32)
    for one, other in zip(augment(image, truth, drawn), augment(image, truth, kept), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("spatial", [(24, 36), (5, 24, 36)], ids=["2d", "3d"])
def test_neutral_ranges_change_nothing(spatial: tuple[int, ...]) -> None:
    image, truth = noise(3, 2, *spatial), blob(3, *spatial)
    image[0, :, ..., :5] = 0
    varied, told = augment(image, truth, [draw(Augmentation(), 1, 0, k) for k in range(3)])
    assert torch.equal(varied, image)
    assert torch.equal(told, truth)
    assert told.dtype == truth.dtype


@pytest.mark.parametrize("spatial", [(24, 36), (5, 24, 36)], ids=["2d", "3d"])
def test_a_sample_is_varied_alike_in_any_company(spatial: tuple[int, ...]) -> None:
    """What happens to one sample does not depend on what its batch drew."""
    image, truth = noise(5, 1, *spatial), blob(5, *spatial)
    drawn = [draw(WILD, 1, 0, 0), Parameters(), draw(WILD, 1, 0, 2), Parameters(blur=1.2), Parameters(rotation=10)]
    varied, told = augment(image, truth, drawn)
    for k, p in enumerate(drawn):
        alone, label = augment(image[k : k + 1], truth[k : k + 1], [p])
        torch.testing.assert_close(varied[k : k + 1], alone, rtol=0, atol=1e-6)
        assert torch.equal(told[k : k + 1], label)
    torch.testing.assert_close(varied[1], image[1], rtol=0, atol=5e-6)


@pytest.mark.parametrize("spatial", [(64, 96), (3, 64, 96)], ids=["2d", "3d"])
def test_truth_goes_where_the_image_goes(spatial: tuple[int, ...]) -> None:
    truth = blob(24, *spatial) if len(spatial) == 2 else blob(24, *spatial[1:])[:, :, None].repeat(1, 1, 3, 1, 1)
    varied, told = augment(truth.float(), truth, [draw(SPATIAL, 1, 0, k) for k in range(24)])
    seen = (varied > 0.5).long()
    axes = tuple(range(1, seen.ndim))
    overlap = 2 * (seen * told).sum(axes) / (seen + told).sum(axes)
    assert float(overlap.min()) > 0.97
    assert float((seen == truth).float().mean()) < 0.99  # and it did move


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_exact(turns: int) -> None:
    image, truth = noise(2, 1, 32, 32), blob(2, 32, 32)
    varied, told = augment(image, truth, [Parameters(rotation=90.0 * turns)] * 2)
    # The sampling grid turns by the angle, so what is seen turns the other way: counter-clockwise on the screen.
    np.testing.assert_allclose(varied, np.rot90(image.numpy(), turns, axes=(-2, -1)), atol=2e-5)
    np.testing.assert_array_equal(told, np.rot90(truth.numpy(), turns, axes=(-2, -1)))


@pytest.mark.parametrize(("field", "axis"), [("flip_columns", -1), ("flip_rows", -2)])
def test_flips_are_exact(field: str, axis: int) -> None:
    image, truth = noise(2, 1, 4, 24, 36), blob(2, 4, 24, 36)
    varied, told = augment(image, truth, [Parameters(**{field: True})] * 2)  # type: ignore[arg-type]
    np.testing.assert_allclose(varied, image.flip(axis), atol=1e-5)
    assert torch.equal(told, truth.flip(axis))


def test_a_turn_of_a_wide_image_keeps_lengths() -> None:
    """A disc stays a disc where rows and columns differ in number."""
    y, x = np.mgrid[0:48, 0:96]
    disc = torch.from_numpy(((y - 23.5) ** 2 + (x - 47.5) ** 2 < 15**2)[None, None]).long()
    _, told = augment(disc.float(), disc, [Parameters(rotation=35)])
    assert float(2 * (told * disc).sum() / (told + disc).sum()) > 0.97
    _, told = augment(disc.float(), disc, [Parameters(zoom=(0.5, 1.0))])
    assert abs(float(told.sum() / disc.sum()) - 0.5) < 0.03


def test_shift_and_zoom_go_the_way_they_say() -> None:
    truth = blob(1, 40, 40)
    _, larger = augment(truth.float(), truth, [Parameters(zoom=(1.5, 1.5))])
    assert abs(float(larger.sum() / truth.sum()) - 2.25) < 0.2
    image = noise(1, 1, 40, 40)
    moved = vary(image, shift=(0.1, 0.0))  # the view moves down by 4 of 40 rows, the picture up
    torch.testing.assert_close(moved[..., :36, :], image[..., 4:, :], rtol=0, atol=2e-5)
    assert float(moved[..., 36:, :].abs().max()) == 0


def test_gamma_is_an_exponent_and_brightness_a_factor() -> None:
    flat = torch.full((1, 1, 16, 16), 0.5)
    torch.testing.assert_close(vary(flat, gamma=2.0), torch.full_like(flat, 0.25))
    torch.testing.assert_close(vary(flat, brightness=1.3), torch.full_like(flat, 0.65))
    torch.testing.assert_close(vary(flat, brightness=3.0), torch.ones_like(flat))


def test_gain_changes_brightness_with_depth() -> None:
    flat = torch.full((1, 1, 21, 8), 0.5)
    rows = vary(flat, gain=0.4)[0, 0].mean(dim=1)
    torch.testing.assert_close(rows, torch.linspace(0.4, 0.6, 21), rtol=0, atol=1e-6)
    assert bool((vary(flat, gain=-0.4)[0, 0].mean(dim=1).diff() < 0).all())


def test_a_shadow_darkens_its_band_below_its_depth_only() -> None:
    flat = torch.full((1, 1, 100, 100), 0.8)
    lost = 1 - vary(flat, shadow=(0.3, 0.05, 0.5, 0.6))[0, 0] / 0.8
    assert float(lost[:30].max()) < 0.001
    assert abs(float(lost[70:, 29:31].mean()) - 0.6) < 0.02
    assert float(lost[:, 60:].max()) < 0.001
    assert float(lost.min()) > -1e-6


def test_blur_and_low_resolution_keep_the_mean_and_take_the_detail() -> None:
    image = noise(1, 1, 64, 64)
    for changed in ({"blur": 1.5}, {"low_resolution": 0.5}):
        soft = vary(image, **changed)
        assert abs(float(soft.mean() - image.mean())) < 0.01, changed
        assert float(soft.std()) < 0.6 * float(image.std()), changed
    flat = torch.full((1, 1, 20, 30), 0.4)
    torch.testing.assert_close(vary(flat, blur=1.5, low_resolution=0.4), flat, rtol=0, atol=1e-6)


def test_a_neutral_sample_of_odd_width_stays() -> None:
    image = noise(1, 1, 41, 41)
    assert torch.equal(vary(image), image)


def test_blur_is_a_gaussian() -> None:
    dot = torch.full((1, 1, 41, 41), 1e-3)
    dot[0, 0, 20, 20] = 1.0
    seen = (vary(dot, blur=2.0) - 1e-3)[0, 0].numpy()
    rows = np.arange(41) - 20
    assert abs(float((seen.sum(axis=1) * rows**2).sum() / seen.sum()) - 4.0) < 0.15  # cut at three deviations
    np.testing.assert_allclose(seen, seen.T, atol=1e-6)


def test_speckle_multiplies_and_noise_adds_within_the_lit() -> None:
    image = noise(1, 1, 64, 64)
    image[..., :20] = 0
    for changed in ({"speckle": 0.3}, {"noise": 0.1}, {"blur": 1.5}):
        assert float(vary(image, noise_seed=7, **changed)[..., :20].abs().max()) == 0, changed
    flat = torch.full((1, 1, 64, 64), 0.5)
    factors = vary(flat, noise_seed=7, speckle=0.2)[0, 0] / 0.5
    assert abs(float(factors.std()) - 0.2) < 0.02
    assert torch.equal(factors[::2, ::2], factors[1::2, 1::2])  # a grain of two pixels
    assert abs(float((vary(flat, noise_seed=7, noise=0.1) - 0.5).std()) - 0.1) < 0.01
    assert torch.equal(vary(flat, noise_seed=7, noise=0.1), vary(flat, noise_seed=7, noise=0.1))
    assert not torch.equal(vary(flat, noise_seed=7, noise=0.1), vary(flat, noise_seed=8, noise=0.1))


def test_intensities_stay_in_their_range_and_every_channel_alike() -> None:
    image = noise(32, 1, 32, 32).repeat(1, 2, 1, 1)
    spatial_only = replace(WILD, noise=(0.0, 0.0))  # additive noise is each channel's own
    varied, _ = augment(image, blob(32, 32, 32), [draw(spatial_only, 1, 0, k) for k in range(32)])
    assert float(varied.min()) >= 0
    assert float(varied.max()) <= 1
    torch.testing.assert_close(varied[:, 0], varied[:, 1], rtol=0, atol=1e-6)


def both_ways(device: str, dtype: torch.dtype) -> None:
    """The same parameters here in float32 and there: images nearly, truths but for a rare pixel on an edge."""
    drawn = [draw(WILD, 1, 0, k) for k in range(16)]
    image, truth = noise(16, 1, 48, 64), blob(16, 48, 64)
    here, label = augment(image, truth, drawn)
    there, told = augment(image.to(device, dtype), truth.to(device), drawn)
    apart = (here - there.cpu().float()).abs()
    assert float((apart > 1e-3).float().mean()) < 1e-3
    assert float(apart.median()) < 1e-5
    assert float((label != told.cpu()).float().mean()) < 1e-3


def test_single_and_double_precision_agree() -> None:
    both_ways("cpu", torch.float64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cpu_and_gpu_agree() -> None:
    both_ways("cuda", torch.float32)
