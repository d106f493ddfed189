"""Intensities under which the same anatomy could have been seen: random shallow networks, and smooth fields.

Random numbers come from the CPU, so that every device sees the same network and the same field.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_LAYERS: Final = 4  # of the random network, as published
_WIDTH: Final = 2
_KERNELS: Final = (1, 3)
_ORDER: Final = 3  # of the polynomial


def convolved(image: Tensor, share: float, seed: int, is_masked: bool) -> Tensor:
    """(channel, [slice,] row, column) mixed with what a random network makes of each of its planes.

    The global intensity non-linear augmentation of Ouyang et al. (IEEE TMI 2023): four convolutions of two channels
    with kernels of one or three pixels, each but the last with a leaky rectifier. The mixture has mean and energy of
    the image in each channel, where the paper keeps the energy of an image whose mean is 0. Where `is_masked`, what is
    0 is no tissue: it is not counted and stays 0.
    """
    inside = image > 0 if is_masked else torch.ones_like(image, dtype=torch.bool)
    centre, spread = _moments(image, inside)
    standard = _standardised(image, inside)
    planes = standard.reshape(-1, 1, *image.shape[-2:])
    rng = np.random.Generator(np.random.Philox(seed))
    for layer in range(_LAYERS):
        planes = _layer(planes, rng, is_last=layer == _LAYERS - 1)
    made = planes.reshape(image.shape)
    mixed = share * _standardised(made, inside) + (1 - share) * standard
    return torch.where(inside, _standardised(mixed, inside) * spread + centre, image)


def _layer(planes: Tensor, rng: np.random.Generator, is_last: bool) -> Tensor:
    side = int(rng.choice(_KERNELS))
    wide = 1 if is_last else _WIDTH
    weights = rng.standard_normal((wide, planes.shape[1], side, side), dtype=np.float32)
    shift = rng.standard_normal(wide, dtype=np.float32)
    kernel, bias = (torch.as_tensor(told, dtype=planes.dtype, device=planes.device) for told in (weights, shift))
    made = functional.conv2d(planes, kernel, bias, padding=side // 2)
    return made if is_last else functional.leaky_relu(made)


def _moments(image: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel inside, (channel, 1, ...)."""
    axes = tuple(range(1, image.ndim))
    count = inside.sum(dim=axes, keepdim=True).clamp_min(1)
    centre = (image * inside).sum(dim=axes, keepdim=True) / count
    spread = (((image - centre) * inside).square().sum(dim=axes, keepdim=True) / count).sqrt()
    return centre, spread


def _standardised(image: Tensor, inside: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 inside, 0 beside it; what has one value stays 0."""
    centre, spread = _moments(image, inside)
    return (image - centre) / torch.where(spread > 0, spread, torch.ones_like(spread)) * inside


def bias_field(like: Tensor, strength: float, seed: int) -> Tensor:
    """Factors ([slice,] row, column) of exp(-strength) to exp(strength): a smooth polynomial over the image.

    Products of Legendre polynomials up to the third order in all (Sudre et al., MICCAI 2017), scaled so that the
    largest logarithm is `strength`, up or down.
    """
    sides = like.shape[1:]
    rng = np.random.Generator(np.random.Philox(seed))
    weights = rng.uniform(-1, 1, (_ORDER + 1,) * len(sides)).astype(np.float32)
    orders = np.indices(weights.shape).sum(axis=0)
    weights[(orders == 0) | (orders > _ORDER)] = 0
    field = torch.as_tensor(weights, dtype=like.dtype, device=like.device)
    for side in sides:  # the first axis of orders becomes the last axis of places
        field = torch.tensordot(field, _legendre(side, like), dims=([0], [1]))
    return torch.exp(field * (strength / field.abs().amax().clamp_min(torch.finfo(field.dtype).tiny)))


def _legendre(side: int, like: Tensor) -> Tensor:
    """(place, order) along one axis from -1 to 1."""
    places = np.linspace(-1, 1, side)
    return torch.as_tensor(np.polynomial.legendre.legvander(places, _ORDER), dtype=like.dtype, device=like.device)
