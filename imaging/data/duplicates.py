"""Duplicates among cases, by decoded pixels and by likeness, across patients, splits and sites.

A table cannot say that two of its patients are one; pictures can. `identical` means equal decoded pixels in whatever
encoding (another file format or transfer syntax, grey stored as colour, a volume's axes in another order). `near` means
a picture that looks the same although it was compressed again, scaled, cropped a little, shifted or brightened.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, Literal

import numpy as np
from scipy import fft, ndimage

from imaging.data.images import read_image
from imaging.data.manifest import Case
from imaging.errors import ConfigError, ImagingError, Reason
from imaging.harmonise.recipe import Recipe
from imaging.image import Array, Floats, Image

# A pair is compared closely when at most so many of the 64 bits of its hashes differ: a crop of 5 % moves up to 18.
MAX_DISTANCE: Final = 18
# And it is `near` from this correlation of fine structure on: unlike pictures of one organ stay below 0.63.
LEAST_LIKENESS: Final = 0.65
_SIDE: Final = 64
_MARGIN: Final = 6
_ZOOMS: Final = (0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two cases with one picture. `distance` is in bits of 64; `likeness` a correlation, 1 for identical pixels."""

    kind: Literal["identical", "near"]
    first: Case
    second: Case
    distance: int
    likeness: float

    @property
    def across(self) -> tuple[str, ...]:
        """Which of patient, split and site differ; empty for two pictures of one patient at one site."""
        told = (("patients", "patient_id"), ("splits", "split"), ("sites", "site"))
        return tuple(word for word, key in told if getattr(self.first, key) != getattr(self.second, key))

    def __str__(self) -> str:
        where = f"across {', '.join(self.across)}" if self.across else "of one patient"
        return f"{self.kind} pictures {where}: cases '{self.first.case_id}' and '{self.second.case_id}'"


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """`content` is a digest of the decoded pixels, `bits` the perceptual hash, `small` (64, 64) the shrunk luminance.

    `bits` is None for a blank picture, which looks like every other blank one.
    """

    content: str
    bits: np.uint64 | None
    small: Floats


def find_duplicates(cases: Sequence[Case], recipe: Recipe | None = None) -> list[Duplicate]:
    """Every pair of cases with one picture, identical ones first, in order of the table.

    With a `recipe` the tissue that it takes from an image is compared, without it the whole image: then screens of one
    scanner, whose text and frames are alike, look like copies of each other. Of a cine the first frame is compared, of
    a volume the middle slice for likeness and all voxels for identity.
    Raises InputError when an image cannot be read.
    """
    return pair_up(cases, [fingerprint(_picture_of(case, recipe)) for case in cases])


def pair_up(cases: Sequence[Case], prints: Sequence[Fingerprint]) -> list[Duplicate]:
    """As `find_duplicates`, of cases whose fingerprints are known."""
    found: list[Duplicate] = []
    for a, b, distance in _candidates(prints):
        first, second = prints[a], prints[b]
        if first.content == second.content:
            found.append(Duplicate("identical", cases[a], cases[b], 0, 1.0))
        elif (alike := likeness(first.small, second.small)) >= LEAST_LIKENESS:
            found.append(Duplicate("near", cases[a], cases[b], distance, alike))
    return sorted(found, key=lambda duplicate: duplicate.kind)


def refuse_leaks(duplicates: Iterable[Duplicate], test_sites: frozenset[str] = frozenset()) -> list[str]:
    """One warning per duplicate, for training with these held-out sites.

    Raises ConfigError when a picture stands on two sides: in two splits, or at a test site and at another.
    """

    def side(case: Case) -> str:
        return "test" if case.site in test_sites else case.split

    pairs = list(duplicates)
    torn = [pair for pair in pairs if side(pair.first) != side(pair.second)]
    if torn:
        pair = torn[0]
        raise ConfigError(
            f"manifest: {len(torn)} pictures stand on two sides, first {pair} ({side(pair.first)} and "
            f"{side(pair.second)}); give both the same patient_id and split, or leave one out",
            Reason.CONFIG_INVALID,
        )
    return [str(pair) for pair in pairs]


def refuse_shared_files(cases: Sequence[Case], test_sites: frozenset[str] = frozenset()) -> None:
    """Raises ConfigError when the same file, by path or by its bytes, is the image of two cases on two sides.

    Quick, because only files of one size are read. A picture that was stored in another way, `find_duplicates` finds.
    """
    sizes: dict[int, list[Case]] = defaultdict(list)
    for case in cases:
        if case.image.is_file():
            sizes[case.image.stat().st_size].append(case)
    for alike in sizes.values():
        sides = {"test" if case.site in test_sites else case.split for case in alike}
        if len(sides) == 1:
            continue
        known: dict[str, Case] = {}
        pairs = []
        for case in alike:
            with case.image.open("rb") as stream:
                first = known.setdefault(hashlib.file_digest(stream, "sha256").hexdigest(), case)
            pairs += [Duplicate("identical", first, case, 0, 1.0)] if first is not case else []
        refuse_leaks(pairs, test_sites)


def fingerprint(image: Image) -> Fingerprint:
    """What identifies the picture of an image."""
    array = _plain(image)
    number = "<i8" if array.dtype.kind in "uib" else "<f8"
    content = hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(array, dtype=number).tobytes())
    small = _shrunk(_luminance(array, image), _SIDE)
    return Fingerprint(content.hexdigest(), _hash(small), small)


def _hash(small: Floats) -> np.uint64 | None:
    """64 bits: which of the 8 × 8 lowest cosine frequencies (without the mean) exceed their median; None when blank."""
    if np.ptp(small) < 1e-6 * (1.0 + np.abs(small).max()):
        return None
    waves = fft.dctn(small.reshape(32, 2, 32, 2).mean(axis=(1, 3)), norm="ortho")[:8, :8].ravel()
    bits = waves > np.median(waves[1:])
    bits[0] = False  # the mean brightness says nothing of the content
    return np.packbits(bits).view(np.uint64)[0]  # type: ignore[no-any-return]


def likeness(first: Floats, second: Floats) -> float:
    """The highest correlation (-1 to 1) of the fine structure of two pictures over small shifts and zooms."""
    fine = [small - ndimage.uniform_filter(small, 21) for small in (first, second)]
    best = max(_best_match(a, b, zoom) for zoom in _ZOOMS for a, b in (fine, fine[::-1]))
    return min(1.0, best)


def _best_match(field: Floats, other: Floats, zoom: float) -> float:
    """Normalised cross-correlation of the inner part of `other`, shrunk by `zoom`, at each place inside `field`."""
    inner = other[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    template = inner if zoom == 1.0 else ndimage.zoom(inner, zoom, order=1)
    template = template - template.mean()
    places = tuple(slice(0, n - t + 1) for n, t in zip(field.shape, template.shape, strict=True))

    def windowed(values: Floats, weights: Floats) -> Floats:
        product = fft.rfft2(values) * np.conj(fft.rfft2(weights, field.shape))
        return np.asarray(fft.irfft2(product, field.shape)[places])

    ones = np.ones_like(template)
    energy = windowed(field**2, ones) - windowed(field, ones) ** 2 / template.size
    scale = np.sqrt(np.maximum(energy, 0.0) * (template**2).sum())
    return float((windowed(field, template) / np.maximum(scale, 1e-9 * (1.0 + scale.max()))).max())


def _candidates(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int, int]]:
    """Pairs worth a close look with their distance: equal content, or hashes that differ in few bits."""
    hashed = np.array([k for k, one in enumerate(prints) if one.bits is not None], dtype=np.int64)
    bits = np.array([prints[k].bits for k in hashed], dtype=np.uint64)
    for place in range(len(hashed)):
        apart = np.bitwise_count(bits[place + 1 :] ^ bits[place])
        for other in np.flatnonzero(apart <= MAX_DISTANCE):
            yield int(hashed[place]), int(hashed[place + 1 + other]), int(apart[other])
    blank = [k for k, one in enumerate(prints) if one.bits is None]
    yield from ((a, b, 0) for a, b in combinations(blank, 2) if prints[a].content == prints[b].content)


def _picture_of(case: Case, recipe: Recipe | None) -> Image:
    try:
        image = read_image(case.image, case.site)
    except ImagingError as error:
        if error.reason is not Reason.GEOMETRY:
            raise
        image = read_image(case.image, case.site, frame=1)
    return image if recipe is None else tissue_of(image, recipe)


def tissue_of(image: Image, recipe: Recipe) -> Image:
    """What a recipe takes from an image, as an image: two screens of one scanner are alike beside it."""
    tissue = recipe.tissue(image)
    return replace(image, array=tissue.pixels.numpy(), grid=tissue.grid, channels="luminance", region=None)


def _plain(image: Image) -> Array:
    """The pixels without what an encoding may choose: equal colour channels as one, patient axes in one order."""
    array = image.array
    if len(array) == 3 and image.channels == "rgb" and np.all(array[1:] == array[:1]):
        array = array[:1]
    if not image.grid.is_volume:
        return array
    linear = image.grid.affine[:-1, :-1]
    order = np.abs(linear / np.linalg.norm(linear, axis=0)).argmax(axis=1)[::-1]
    if len(set(order.tolist())) != len(order):
        return array
    signs = [int(np.sign(linear[2 - place, axis])) for place, axis in enumerate(order)]
    return array.transpose(0, *(order + 1))[(slice(None), *(slice(None, None, sign) for sign in signs))]


def _luminance(array: Array, image: Image) -> Floats:
    """(row, column) float64: of colour its luminance (ITU-R BT.601), of a volume the middle slice."""
    plane = array[:, array.shape[1] // 2] if array.ndim == 4 else array
    if len(plane) == 3 and image.channels == "rgb":
        return np.asarray(np.tensordot([0.299, 0.587, 0.114], plane, axes=1), dtype=np.float64)
    return np.asarray(np.nan_to_num(plane[0].astype(np.float64)))


def _shrunk(plane: Floats, side: int) -> Floats:
    """(side, side) by averaging areas, each pixel weighted by its share of the target cell."""

    def weights(count: int) -> Floats:
        edges = np.linspace(0.0, count, side + 1)
        pixels = np.arange(count)
        share = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        return np.asarray(np.maximum(share, 0.0) * side / count)

    return np.asarray(weights(plane.shape[0]) @ plane @ weights(plane.shape[1]).T)
