"""Varied samples → patches: places drawn on the CPU, most of them near a lesion.

What is cut from a sample depends on (seed, epoch, its number) and its truth alone, as its variation does. Truth may
number lesions, each of which is then equally likely to be near, or give labels, of each of which a voxel is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imaging.data.instances import enclosing_boxes
from imaging.errors import ConfigError, Reason

# Of a patch's side: what the patch lies near is at least so far inside.
_MARGIN = 0.25
# The stream of random numbers that begins here is another one than that of the variation, under the same key.
_STREAM = (0, 0, 0, 1)


@dataclass(frozen=True)
class Patches:
    """How samples are cut.

    Args:
        shape: Sides of a patch in pixels of the model grid.
        per_image: How many patches are cut from each image.
        near_lesion: Share of the patches that lie near a lesion or a label, where the image has one; the others lie
            anywhere.
        least_part: Part of a numbered lesion's pixels that a patch must show. A lesion of which it shows less is
            neither to be found nor wrong there.
    """

    shape: tuple[int, ...]
    per_image: int = 1
    near_lesion: float = 0.7
    least_part: float = 0.3


def dice(seed: int, epoch: int, number: int) -> np.random.Generator:
    """The random numbers of sample `number` in `epoch`; the same for the same three numbers."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) + number], counter=_STREAM))


def cut(image: Tensor, truth: Tensor, patches: Patches, drawn: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor]:
    """The patches of images (batch, channel, *spatial) and instances (batch, 1, *spatial), those of an image together.

    `drawn` are each image's random numbers. In the truth of a patch, an instance of which it shows less than
    `least_part` is negative. The images must be at least as large as a patch.
    """
    images, truths = [], []
    for one, instances, rng in zip(image, truth, drawn, strict=True):
        boxes = enclosing_boxes(instances[0])[1].cpu().numpy()
        # Every lesion is equally likely, so that small ones are seen as often as large.
        centres = [(box[: len(box) // 2] + box[len(box) // 2 :])[None] / 2 for box in boxes]
        sizes = torch.bincount(instances.flatten())
        for _ in range(patches.per_image):
            window = _window(rng, centres, instances.shape[1:], patches)
            images.append(one[window])
            truths.append(_judged(instances[window], sizes, patches.least_part))
    return torch.stack(images), torch.stack(truths)


def cut_labels(
    image: Tensor, truth: Tensor, patches: Patches, drawn: Sequence[np.random.Generator]
) -> tuple[Tensor, Tensor]:
    """As `cut`, of labels (batch, 1, *spatial): each label of an image is equally likely, then each of its voxels."""
    images, truths = [], []
    for one, labels, rng in zip(image, truth, drawn, strict=True):
        known = labels[0].cpu().numpy()
        voxels = [np.argwhere(known == label) + 0.5 for label in np.unique(known[known > 0])]
        for _ in range(patches.per_image):
            window = _window(rng, voxels, labels.shape[1:], patches)
            images.append(one[window])
            truths.append(labels[window])
    return torch.stack(images), torch.stack(truths)


def _window(
    rng: np.random.Generator, near: Sequence[np.ndarray], shape: Sequence[int], patches: Patches
) -> tuple[slice, ...]:
    """Where a patch lies, after the channel. `near` has, of each thing it may lie near, its places (n, dims)."""
    sides = np.asarray(patches.shape, dtype=np.int64)
    room = np.asarray(shape, dtype=np.int64) - sides
    if room.min() < 0:
        raise ConfigError(
            f"data.patches.shape: found {list(patches.shape)}; an image has {list(shape)}", Reason.CONFIG_INVALID
        )
    low = rng.integers(0, room + 1)
    is_near, chosen, part = rng.random(), rng.random(), rng.uniform(_MARGIN, 1 - _MARGIN, len(sides))
    if near and is_near < patches.near_lesion:
        places = near[int(chosen * len(near))]
        place = places[int(chosen * len(near) % 1 * len(places))]
        low = np.clip(np.rint(place - part * sides), 0, room).astype(np.int64)
    return (slice(None), *(slice(int(a), int(a + side)) for a, side in zip(low, sides, strict=True)))


def _judged(instances: Tensor, sizes: Tensor, least_part: float) -> Tensor:
    """A patch's instances, negative where too little of them is shown; `sizes` are their pixels in the whole image."""
    shown = torch.bincount(instances.flatten(), minlength=len(sizes))
    return torch.where((shown < least_part * sizes)[instances], -instances, instances)
