"""Lesions as instances: a map of 0 and 1..n that says of every pixel to which lesion it belongs."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from imaging.errors import InputError, Reason
from imaging.image import Array, Grid, resample

Instances = NDArray[np.uint16]


def number_instances(values: Array) -> Instances:
    """The connected parts of equal value, by faces, numbered from 1; 0 where the values (*spatial) are.

    A mask of 0 and 255 gives its parts; one with a value per lesion keeps those apart that touch. Raises InputError
    for more parts than uint16 can number.
    """
    numbered = np.zeros(values.shape, dtype=np.uint16)
    count = 0
    for value in np.unique(values[values > 0]):
        inside = values == value
        (where,) = ndimage.find_objects(inside.astype(np.uint8))
        parts, found = ndimage.label(inside[where])
        if count + found > np.iinfo(np.uint16).max:
            most = np.iinfo(np.uint16).max
            raise InputError(
                f"truth: found {count + found} parts or more; of a mask allowed are {most}", Reason.UNSUPPORTED_PIXELS
            )
        numbered[where] += np.where(parts > 0, parts + count, 0).astype(np.uint16)
        count += found
    return numbered


def carry_instances(instances: Instances, source: Grid, target: Grid) -> Instances:
    """The instances of `source` on `target` by nearest neighbour.

    One that falls between the target's voxel centres keeps the voxel in which its middle lies, or a free one beside
    it. One that lies outside the target is not there.
    """
    carried: Instances = resample(instances, source, target, order=0)
    lost = np.setdiff1d(np.unique(instances), np.unique(carried))
    for number, where in enumerate(ndimage.find_objects(instances), start=1):
        if number in lost and where is not None:
            inside = np.argwhere(instances[where] == number) + [s.start for s in where]
            middle = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
            _keep_one(carried, number, target, source.index_map(target) @ np.append(middle, 1.0))
    return carried


def _keep_one(carried: Instances, number: int, target: Grid, place: Array) -> None:
    """Give instance `number` one voxel at `place` (centre index, 1), not the last one of another."""
    exact = place[:-1]
    if np.any(exact < -0.5) or np.any(exact > np.asarray(target.shape) - 0.5):
        return
    steps = np.array(sorted(product((0, -1, 1), repeat=len(exact)), key=lambda step: sum(map(abs, step))))
    for voxel in np.clip(np.rint(exact).astype(int) + steps, 0, np.asarray(target.shape) - 1):
        holder = carried[tuple(voxel)]
        if holder == 0 or np.count_nonzero(carried == holder) > 1:
            carried[tuple(voxel)] = number
            return


def enclosing_boxes(instances: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers (n,) in an instance map (*spatial), 0 left out, and their enclosing boxes (n, 2 · dims) float32.

    Boxes are low then high corner in corner convention: a single first pixel gives 0 and 1. Both are empty where
    nothing is there.
    """
    where = instances.nonzero()
    numbers, belongs = torch.unique(instances[tuple(where.T)], return_inverse=True)
    index = belongs[:, None].expand_as(where)
    low, high = (
        torch.zeros(len(numbers), instances.ndim, dtype=where.dtype, device=where.device).scatter_reduce_(
            0, index, where, reduce, include_self=False
        )
        for reduce in ("amin", "amax")
    )
    return numbers, torch.cat([low, high + 1], dim=1).float()
