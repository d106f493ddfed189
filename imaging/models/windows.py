"""A network on an image that is too large for it: window by window, overlapping, the middle of each counting most.

As nnU-Net does (Isensee et al., Nat Methods 2021): what a window says is weighted by a Gaussian around its centre,
because at its border a network sees only half of what surrounds a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

# Of a window's side: standard deviation of the weights. The least weight keeps the corners of an image from 0 / 0.
_WIDTH, _LEAST_WEIGHT = 1 / 8, 1e-3


@torch.no_grad()
def probabilities(model: nn.Module, image: Tensor, window: Sequence[int] | None = None, overlap: float = 0.5) -> Tensor:
    """Probabilities (label, *spatial) float32 of one image (1, channel, *spatial), the background first.

    `model` gives `Outputs`. Windows of `window` (*spatial) cover the image evenly, two neighbours sharing at least the
    part `overlap` of a side; one that is larger than the image ends with it, and with None the image goes through
    whole. One window goes through at a time, and only the sums are kept, so memory is that of one window and one map.
    """
    shape = image.shape[2:]
    sides = tuple(min(pair) for pair in zip(shape if window is None else window, shape, strict=True))
    if sides == tuple(shape):
        return _said(model, image)
    weights = gaussian(sides).to(image.device)
    total: Tensor | None = None
    share = torch.zeros(tuple(shape), device=image.device)
    for low in product(*(starts(*axis, overlap) for axis in zip(shape, sides, strict=True))):
        place = tuple(slice(a, a + side) for a, side in zip(low, sides, strict=True))
        said = _said(model, image[:, :, *place])
        total = image.new_zeros((len(said), *shape), dtype=torch.float32) if total is None else total
        total[:, *place] += said * weights
        share[place] += weights
    assert total is not None
    return total / share


def starts(whole: int, side: int, overlap: float) -> list[int]:
    """Where the windows of one axis begin: evenly, the first at its begin and the last at its end."""
    step = max(1, int(side * (1 - overlap)))
    count = 1 + -(-(whole - side) // step)
    return [round(k * (whole - side) / max(1, count - 1)) for k in range(count)]


def gaussian(sides: Sequence[int]) -> Tensor:
    """The weights of a window (*sides), float32: 1 in the middle."""
    weights = torch.ones(())
    for side in sides:
        apart = (torch.arange(side) - (side - 1) / 2) / (side * _WIDTH)
        weights = weights[..., None] * torch.exp(-0.5 * apart**2)
    return weights.div(weights.max()).clamp_min(_LEAST_WEIGHT)


def _said(model: nn.Module, image: Tensor) -> Tensor:
    told: Tensor = model(image).pixels.softmax(dim=1)[0].float()
    return told
