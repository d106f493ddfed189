"""An image and a network that gives boxes → the boxes of the image, tile by tile where it is large.

Boxes are low then high corner in array axis order, in corner convention: the first pixel spans 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from monai.data.box_utils import batched_nms
from torch import Tensor, nn
from torch.nn import functional

from imaging.errors import ConfigError, PackageError, Reason
from imaging.models.networks import Network
from imaging.models.retinanet import anchors, decode

# Below, a box is no finding under any operating point; it would only cost time.
_LEAST_SCORE = 0.01
_MOST_BOXES = 100
# Candidates of one label, level and tile: neighbours of one lesion are dozens.
_MOST_CANDIDATES = 300
# Intersection over union beyond which two boxes of one label are one lesion. Lesions hardly ever overlap.
_SAME = 0.2
# A box counts as cut where it ends this near to a tile's border: a part of its side, and a pixel at least.
_RIM, _LEAST_RIM = 0.1, 1.0


class Boxes(NamedTuple):
    """Boxes of one image, the most confident first: `boxes` (n, 2 · dims) float64, `scores` (n,) in 0-1, `labels` (n,)
    from 1 on. There may be none."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@torch.no_grad()
def detect(
    model: nn.Module, image: Tensor, network: Network, tile: Sequence[int] | None = None, overlap: int | None = None
) -> Boxes:
    """The boxes of one harmonised image (channel, *spatial), on the CPU.

    Tiles of `tile` (*spatial) cover the image evenly, two neighbours sharing at least `overlap` pixels; without one it
    goes through the network whole. `overlap` should be a little more than the side of the largest lesion: then some
    tile sees each whole. By default it is the side of the largest anchor, or half a tile where that is less.

    A box that a border inside the image cuts gives way to the tile that sees its place whole. Of boxes of one label
    that overlap, the most confident stays (non-maximum suppression). Averaging boxes, as weighted fusion does, was not
    taken: it mixes a box that saw half a lesion into one that saw all of it.

    Raises ConfigError for a tile or an overlap that does not fit.
    """
    shape = list(image.shape[1:])
    padded = [-(-side // multiple) * multiple for side, multiple in zip(shape, network.multiples, strict=True)]
    check_tiles(network, tile, overlap)
    sides = [min(pair) for pair in zip(padded if tile is None else tile, padded, strict=True)]
    shared = [min(_overlap(network, overlap, side), side - 1) for side in sides]
    whole = functional.pad(
        image, [n for side, to in zip(shape[::-1], padded[::-1], strict=True) for n in (0, to - side)]
    )
    lows = list(product(*(_starts(*axis) for axis in zip(padded, sides, shared, strict=True))))
    found = [_candidates(model, _window(whole, low, sides), network) for low in lows]
    kept = [_placed(own, low, lows, sides, padded) for own, low in zip(found, lows, strict=True)]
    return _fused(Boxes(*(torch.cat(part) for part in zip(*kept, strict=True))), shape)


def check_tiles(network: Network, tile: Sequence[int] | None, overlap: int | None) -> None:
    """Raises ConfigError for tiles that the network cannot take, and for an overlap that leaves no way on."""
    if tile is None:
        return
    if not network.fits(tile):
        raise ConfigError(
            f"tile: found {list(tile)}; allowed are {network.spatial_dims} {network.sides}",
            Reason.CONFIG_INVALID,
        )
    if overlap is not None and not 0 <= overlap < min(tile):
        raise ConfigError(f"overlap: found {overlap}; allowed is 0 to {min(tile) - 1} pixels", Reason.CONFIG_INVALID)


def _overlap(network: Network, overlap: int | None, side: int) -> int:
    if overlap is not None:
        return overlap
    return min(round(max(network.anchors) * network.strides[-1] / network.strides[0]), side // 2)


def _starts(whole: int, side: int, shared: int) -> list[int]:
    """Where the tiles of one axis begin: evenly, the first at its begin and the last at its end."""
    count = 1 + -(-(whole - side) // (side - shared))
    return [round(k * (whole - side) / max(1, count - 1)) for k in range(count)]


def _window(image: Tensor, low: Sequence[int], sides: Sequence[int]) -> Tensor:
    return image[(slice(None), *(slice(a, a + side) for a, side in zip(low, sides, strict=True)))]


def _candidates(model: nn.Module, image: Tensor, network: Network) -> Boxes:
    """The most confident boxes of every level and label of one tile, unmerged, in the tile's coordinates."""
    outputs = model(image[None])
    if not all(bool(torch.isfinite(part).all()) for level in outputs.boxes for part in level):
        # Comparisons with NaN are false: without this, a broken network would find nothing.
        raise PackageError("the network gave a number that is not finite", Reason.PREDICTION_FAILED)
    anchored = anchors(network, image.shape[1:], image.device)
    found: list[Boxes] = []
    for (logits, codes), own in zip(outputs.boxes, anchored, strict=True):
        scores = logits[0].double().sigmoid()
        for label in range(scores.shape[1]):
            best, which = scores[:, label].topk(min(_MOST_CANDIDATES, len(own)))
            which, best = which[best >= _LEAST_SCORE], best[best >= _LEAST_SCORE]
            boxes = decode(codes[0, which].double(), own[which].double())
            found.append(Boxes(boxes.cpu(), best.cpu(), torch.full((len(best),), label + 1)))
    return Boxes(*(torch.cat(part) for part in zip(*found, strict=True)))


def _placed(
    found: Boxes, low: Sequence[int], lows: Sequence[Sequence[int]], sides: Sequence[int], whole: Sequence[int]
) -> Boxes:
    """A tile's boxes in the image's coordinates, cut at the tile, without those that another tile sees whole."""
    dims, begin, side = len(low), _corner(low), _corner(sides)
    boxes = found.boxes + torch.cat([begin, begin])
    own = torch.cat([boxes[:, :dims].clamp(begin, begin + side), boxes[:, dims:].clamp(begin, begin + side)], dim=1)
    cut = ~_inside(own, begin, side, _corner(whole))
    elsewhere = torch.zeros_like(cut)
    for other in lows:
        if other != low:
            elsewhere |= _inside(own, _corner(other), side, _corner(whole))
    keep = ~(cut & elsewhere)
    return Boxes(own[keep], found.scores[keep], found.labels[keep])


def _corner(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _inside(boxes: Tensor, begin: Tensor, side: Tensor, whole: Tensor) -> Tensor:
    """Which boxes (n, 2 · dims) a tile holds clear of its borders; a border of the image cuts nothing."""
    low, high, end = boxes[:, : len(begin)], boxes[:, len(begin) :], begin + side
    rim = ((high - low) * _RIM).clamp_min(_LEAST_RIM)
    return ((low >= begin + rim * (begin > 0)) & (high <= end - rim * (end < whole))).all(dim=1)


def _fused(found: Boxes, shape: Sequence[int]) -> Boxes:
    """The boxes of all tiles as those of one image of `shape`: clipped to it, each lesion once, the surest first."""
    dims, most = len(shape), _corner(shape)
    low, high = found.boxes[:, :dims].clamp_min(0).minimum(most), found.boxes[:, dims:].clamp_min(0).minimum(most)
    extended = (high > low).all(dim=1)
    boxes, scores, labels = torch.cat([low, high], dim=1)[extended], found.scores[extended], found.labels[extended]
    kept = batched_nms(boxes, scores, labels, _SAME, _MOST_BOXES)
    return Boxes(boxes[kept], scores[kept], labels[kept])
